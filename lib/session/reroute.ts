// Moving a live session to another path, or to another waypoint tuple of the same path (protocol sheet 7.2). Its
// identifier, its plain side, what is known of TCP and its counts stay; on the side that moves it gets another flow for what
// arrives and another rewrite for what leaves, and the metadata handshake of that side begins anew. Either router of a hop
// may move it: whoever does picks the port pair, the other adopts the tuple that it sees metadata on. When both do
// at once the initiator's choice wins (isOurMove).
//
//                    arrives by                          leaves with
//   upstream side    forward flow (key: their tuple)     the reverse flow's rewrite
//   downstream side  reverse flow (key: their tuple)     the forward flow's rewrite
//
// What is still on its way by the old tuple is taken for LINGER_MS more, by the flow that was there before.

import { elapsedMs } from "../base/clock.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import {
  FLOW_LAST_SEEN,
  FLOW_NEXT_HOP,
  FLOW_PLAN,
  FLOW_SHIFT,
  GENERATION_MASK,
  OP_SLOW,
  OPS_MASK,
} from "../table/flow-table.ts";
import { FORWARD, type HandshakeColumns, REVERSE, SIDE_SENDING } from "../table/session-table.ts";
import { PROTOCOL_TCP } from "../wire/flow-key.ts";
import { DROP_FLOW_CONFLICT, DROP_KEY_IN_CLEAR, DROP_PATH_DOWN, DROP_WAYPOINT_PORTS, OK } from "../wire/verdict.ts";
import { carrierOver } from "./carrier.ts";
import type { Duplication } from "./duplication.ts";
import { armTimer, LINGER_MS } from "./expire.ts";
import { mayTellKey, type Sessions, swapPorts } from "./open.ts";
import type { Policy } from "./policy.ts";

/** Why a session was moved. */
export type MoveReason = "path-down" | "better-path" | "peer" | "nat" | "firewall";

/** Told of each move: who shows events, and nobody on a packet's way. */
export type MoveObserver = (session: number, from: PeerPath, to: PeerPath, reason: MoveReason) => void;

export class Reroute {
  readonly #sessions: Sessions;
  readonly #policy: Policy;
  readonly #duplication: Duplication;
  /** Since start. */
  movedTotal = 0;
  observer: MoveObserver | null = null;

  constructor(sessions: Sessions, policy: Policy, duplication: Duplication) {
    this.#sessions = sessions;
    this.#policy = policy;
    this.#duplication = duplication;
  }

  /**
   * A flow of the session carries an old generation: something about paths has changed. Each side whose path can be used
   * no longer, or is no longer the best, is moved. Returns OK when a packet in `direction` may go on, or DROP_PATH_DOWN:
   * the session stays, and is looked at again with its next packet.
   */
  recheck(session: number, direction: number, nowMs: number): number {
    const { table, flows, paths } = this.#sessions;
    // An inward session has a peer to go to, whatever its service says.
    if (table.inward.has(session)) this.#stayWithPeer(session, REVERSE, nowMs);
    else if (table.downstream.path[session] >= 0) this.#lookDownstream(session, nowMs);
    // Toward the initiator the peer decides.
    if (table.upstream.path[session] >= 0) this.#stayWithPeer(session, FORWARD, nowMs);
    this.#duplication.look(session, nowMs);
    const leaving = table.sides[1 - direction].path[session];
    if (leaving >= 0 && !paths[leaving].up && !this.#goesBySecond(session, 1 - direction)) return DROP_PATH_DOWN;
    const old = table.sides[direction].lingering[session];
    for (const flow of old < 0 ? [table.flow(session, direction)] : [table.flow(session, direction), old]) {
      const at = (flow << FLOW_SHIFT) + FLOW_PLAN;
      flows.words[at] = (flows.words[at] & ~GENERATION_MASK) | flows.generation;
    }
    return OK;
  }

  /** Toward the server the policy of the service says which path is best, and whether a session moves to it (7.1). */
  #lookDownstream(session: number, nowMs: number): void {
    const { table, paths, choice } = this.#sessions;
    const route = this.#policy.services[table.service[session]].peerRoute;
    if (route === null) return;
    const current = table.downstream.path[session];
    const from = table.upstream.path[session];
    const next = choice.rechoose(route, current, from, nowMs)?.path ?? current;
    const second = this.#sessions.secondPath(session, REVERSE);
    // What it has already by its second path it need not move to.
    const free = second >= 0 && paths[second].up ? choice.second(route, second, current, from) : next;
    const to = next === current || free < 0 ? current : free;
    if (
      (to !== current || this.#isBlocked(session, REVERSE, paths[current])) &&
      this.#choose(session, REVERSE, paths[to], nowMs) === OK
    )
      this.#countAt(session, paths[to]);
  }

  /** Whether it goes as TCP over a path on which a firewall takes none. */
  #isBlocked(session: number, way: number, path: PeerPath): boolean {
    const side = this.#sessions.table.sides[way];
    return path.up && path.blocksTcp && side.wire[session] === PROTOCOL_TCP;
  }

  #goesBySecond(session: number, way: number): boolean {
    const second = this.#sessions.secondPath(session, way);
    return second >= 0 && this.#sessions.paths[second].up;
  }

  /** The session counts as a load of this path of its service's route. */
  #countAt(session: number, path: PeerPath): void {
    const { table } = this.#sessions;
    const route = this.#policy.services[table.service[session]].peerRoute;
    const at = route?.paths.find((candidate) => candidate.path === path.row);
    if (at === undefined) return;
    this.#policy.loads.moved(table.servicePath[session], at.row);
    table.servicePath[session] = at.row;
  }

  /** Only when the path on that side can be used no longer another one of the same peer is taken, and UDP where a firewall takes no TCP. */
  #stayWithPeer(session: number, way: number, nowMs: number): void {
    const { table, paths } = this.#sessions;
    const current = paths[table.sides[way].path[session]];
    if (current === undefined) return;
    // Whoever begins may have nothing to send, and wait for what cannot come.
    if (this.#isBlocked(session, way, current)) this.#choose(session, way, current, nowMs);
    if (current.up || this.#goesBySecond(session, way)) return;
    const next = paths.find(({ peer, up }) => peer === current.peer && up);
    if (next !== undefined) this.#choose(session, way, next, nowMs);
  }

  /**
   * The peer has moved the session, or something between us has: its metadata came from `path` with this flow key, in
   * `direction`. Returns OK, or DROP_FLOW_CONFLICT when the tuple is another session's.
   */
  adopt(session: number, direction: number, path: PeerPath, key: Int32Array, nowMs: number): number {
    const from = this.#sessions.paths[this.#sessions.table.sides[direction].path[session]];
    // Behind a NAT the session keeps the pair that was picked for it: its peer has it still.
    const wire = key[3] & 0xff;
    const side = this.#sessions.table.sides[direction];
    const isSame = from === path && side.wire[session] === wire;
    const portRow = isSame ? side.portRow[session] : -1;
    const placed = this.#place(session, direction, path, wire, key[0], key[1], key[2], portRow, nowMs);
    if (placed !== OK) return placed;
    if (direction === REVERSE) this.#countAt(session, path);
    this.#moved(session, from, path, isSame ? "nat" : "peer");
    return OK;
  }

  /**
   * Whether this router has moved the session on that side and its peer has not answered yet: then our choice stands. What
   * comes by `path`, on another tuple than we chose there, is the answer where a NAT is in front of the peer.
   */
  isOurMove(session: number, direction: number, path: PeerPath): boolean {
    const { table } = this.#sessions;
    const side = table.sides[direction];
    if (path.nat.isDynamic && path.row === side.path[session]) return false;
    return direction === REVERSE && side.state[session] === SIDE_SENDING && side.lingering[session] >= 0;
  }

  /** Move the side that packets in `direction` come from to `path`, with a pair of ours. */
  #choose(session: number, direction: number, path: PeerPath, nowMs: number): number {
    const { table } = this.#sessions;
    const at = session * 4;
    if (!mayTellKey(table, session, path)) return DROP_KEY_IN_CLEAR;
    const row = this.#sessions.allocatePair(path, table.context.subarray(at, at + 4), nowMs);
    if (row < 0) return DROP_WAYPOINT_PORTS;
    const wire = carrierOver(path, table.context[at + 3]);
    const ports = path.ports(wire).ports(row);
    const from = this.#sessions.paths[table.sides[direction].path[session]];
    const placed = this.#place(session, direction, path, wire, path.remote, path.local, swapPorts(ports), row, nowMs);
    const reason = from === path ? "firewall" : from.up ? "better-path" : "path-down";
    if (placed === OK) this.#moved(session, from, path, reason);
    else path.ports(wire).release(row, nowMs);
    return placed;
  }

  /** The side goes over `path` from now on, as IP protocol `wire`; what arrives has this source, destination and ports. */
  #place(
    session: number,
    direction: number,
    path: PeerPath,
    wire: number,
    source: number,
    destination: number,
    ports: number,
    portRow: number,
    nowMs: number,
  ): number {
    const { table, flows } = this.#sessions;
    const side = table.sides[direction];
    const protocol = (path.interfaceId << 8) | wire;
    const old = table.flow(session, direction);
    const known = flows.find(source, destination, ports, protocol);
    if (known >= 0 && known !== side.lingering[session]) return known === old ? OK : DROP_FLOW_CONFLICT;
    this.#sessions.endLinger(side, session);
    const flow = flows.insert(source, destination, ports, protocol);
    if (flow < 0) return DROP_FLOW_CONFLICT;
    this.#continue(old, flow);
    if (direction === FORWARD) table.forwardFlow[session] = flow;
    else table.reverseFlow[session] = flow;
    // The pair that it goes on with is not given up.
    const isSame = path.row === side.path[session] && wire === side.wire[session];
    if (isSame && portRow === side.portRow[session]) side.portRow[session] = -1;
    this.#sessions.leavePath(side, session, nowMs);
    path.sessions++;
    side.start(session, path.row, portRow, wire);
    this.#linger(side, session, old, nowMs);
    for (const leaving of [table.flow(session, 1 - direction), table.sides[1 - direction].lingering[session]]) {
      if (leaving < 0) continue;
      this.#replan(leaving, destination, source, swapPorts(ports), path.interfaceId, path.nextHop);
    }
    this.#sessions.settle(session);
    armTimer(this.#sessions, session, nowMs);
    return OK;
  }

  /** The new flow rewrites as the old one did, and goes on counting. */
  #continue(old: number, flow: number): void {
    const { flows } = this.#sessions;
    this.#sessions.planAs(flow, old);
    flows.words[(flow << FLOW_SHIFT) + FLOW_LAST_SEEN] = flows.words[(old << FLOW_SHIFT) + FLOW_LAST_SEEN];
    flows.addCounts(old, flow);
  }

  /** A flow that leaves by the side that has moved. */
  #replan(flow: number, source: number, destination: number, ports: number, egress: number, hop: number): void {
    const { flows, neighbors } = this.#sessions;
    const at = flow << FLOW_SHIFT;
    const before = flows.words[at + FLOW_NEXT_HOP];
    this.#sessions.plan(flow, source, destination, ports, egress, hop, flows.words[at + FLOW_PLAN] & OPS_MASK);
    neighbors.release(before);
  }

  #linger(side: HandshakeColumns, session: number, old: number, nowMs: number): void {
    const { words } = this.#sessions.flows;
    const at = (old << FLOW_SHIFT) + FLOW_PLAN;
    // What it takes to make them a host's packets (a key, UDP taken off, TCP again) is the slow path's, one packet at a time.
    words[at] |= OP_SLOW;
    side.lingering[session] = old;
    side.movedMs[session] = nowMs;
  }

  #moved(session: number, from: PeerPath, to: PeerPath, reason: MoveReason): void {
    const { moves } = this.#sessions.table;
    if (moves[session] < 255) moves[session]++;
    this.movedTotal++;
    this.observer?.(session, from, to, reason);
  }

  /** Give up the flow from before the session moved, once its time is over. Call it when the session's timer fires. */
  endLingerIfDue(session: number, nowMs: number): void {
    for (const side of this.#sessions.table.sides) {
      if (side.lingering[session] >= 0 && elapsedMs(nowMs, side.movedMs[session]) >= LINGER_MS)
        this.#sessions.endLinger(side, session);
    }
  }
}
