// Packet duplication (protocol sheet 7.1, `resiliency: packet-duplication`): a session's packets go to the same peer over
// two paths, so that a path may lose packets, or die, and nothing is missed. Who chooses paths, the router nearer to the
// initiator, opens the second one as it moves a session: the same identifier on a tuple of its own, and the packets are
// numbered (table/duplicate-table.ts). The peer learns of it by metadata on that tuple, and answers over both.
//
//   side toward a peer     SessionTable: path, pair, handshake, arrival flow    the first path; every session has it
//                          DuplicateTable: the same                             the second, and the numbers
//
// Both paths are taken as they are: while one is down the packets go by the other one alone, numbered as before. Where
// another one to the same peer can be used it takes the place of one that cannot.

import type { PeerPath } from "../peer/peer-path.ts";
import { FLOW_LAST_SEEN, FLOW_SHIFT, OP_SLOW } from "../table/flow-table.ts";
import { REVERSE } from "../table/session-table.ts";
import { DROP_DUPLICATES_FULL, DROP_FLOW_CONFLICT, OK } from "../wire/verdict.ts";
import { carrierOver } from "./carrier.ts";
import { armTimer } from "./expire.ts";
import { mayTellKey, type Sessions, swapPorts } from "./open.ts";
import type { Policy } from "./policy.ts";

export class Duplication {
  readonly #sessions: Sessions;
  readonly #policy: Policy;

  constructor(sessions: Sessions, policy: Policy) {
    this.#sessions = sessions;
    this.#policy = policy;
  }

  /**
   * The session was opened, or something about paths has changed: give it a second path toward its server where its policy
   * wants one, or another one than it has.
   */
  look(session: number, nowMs: number): void {
    const { table, choice, paths } = this.#sessions;
    const route = this.#policy.services[table.service[session]].peerRoute;
    const first = table.downstream.path[session];
    if (route === null || route.policy.resiliency !== "packet-duplication" || first < 0) return;
    // Which peer an inward session goes to is not the service's choice.
    if (table.inward.has(session)) return;
    const current = this.#sessions.secondPath(session, REVERSE);
    const next = choice.second(route, first, current, table.upstream.path[session]);
    if (next === current) return;
    if (current >= 0) this.#sessions.endSecond(session, REVERSE, nowMs);
    // Nothing goes out to a peer behind a NAT by a pair of ours before it has come in by it.
    if (next < 0 || paths[next].nat.isDynamic || !mayTellKey(table, session, paths[next])) return;
    this.#begin(session, paths[next], nowMs);
  }

  /** Row of what numbers the packets of the session's side `way` (FORWARD: toward its initiator), made where there is none; -1 = no room. */
  rowOf(session: number, way: number): number {
    const { table, duplicates } = this.#sessions;
    const at = session * 2 + way;
    if (table.duplicate[at] < 0) table.duplicate[at] = duplicates.allocate(this.#sessions.randomWord());
    return table.duplicate[at];
  }

  /** Whether numbered metadata that came by `path`, on a tuple that is not the session's, tells of a second path; else the session has moved. */
  isSecond(session: number, way: number, path: PeerPath): boolean {
    const { table, paths } = this.#sessions;
    const first = table.sides[way].path[session];
    if (first === path.row) return false;
    const second = this.#sessions.secondPath(session, way);
    return second < 0 || second === path.row || paths[first].up;
  }

  /** The peer's packets of the session come by `path` too, with this flow key. OK, or why they are not taken. */
  adopt(session: number, way: number, path: PeerPath, key: Int32Array, nowMs: number): number {
    const { duplicates } = this.#sessions;
    const row = this.rowOf(session, way);
    if (row < 0) return DROP_DUPLICATES_FULL;
    // Behind a NAT the second path keeps the pair that was picked for it.
    const portRow = duplicates.second.path[row] === path.row ? duplicates.second.portRow[row] : -1;
    if (portRow >= 0) duplicates.second.portRow[row] = -1;
    this.#sessions.endSecond(session, way, nowMs);
    return this.#place(session, way, row, path, key[3] & 0xff, key[0], key[1], key[2], portRow, nowMs);
  }

  #begin(session: number, path: PeerPath, nowMs: number): void {
    const { table } = this.#sessions;
    const row = this.rowOf(session, REVERSE);
    if (row < 0) return;
    const at = session * 4;
    const portRow = this.#sessions.allocatePair(path, table.context.subarray(at, at + 4), nowMs);
    if (portRow < 0) return;
    const wire = carrierOver(path, table.context[at + 3]);
    const pairs = path.ports(wire);
    const ports = swapPorts(pairs.ports(portRow));
    const placed = this.#place(session, REVERSE, row, path, wire, path.remote, path.local, ports, portRow, nowMs);
    if (placed !== OK) pairs.release(portRow, nowMs);
  }

  #place(
    session: number,
    way: number,
    row: number,
    path: PeerPath,
    wire: number,
    source: number,
    destination: number,
    ports: number,
    portRow: number,
    nowMs: number,
  ): number {
    const { table, flows, duplicates } = this.#sessions;
    const protocol = (path.interfaceId << 8) | wire;
    const flow = flows.insert(source, destination, ports, protocol);
    if (flow < 0) return DROP_FLOW_CONFLICT;
    // Whose it is and that it is slow is all that is asked of it: what comes by it goes on as if it had come by the first path's.
    this.#sessions.planAs(flow, table.flow(session, way), OP_SLOW);
    flows.words[(flow << FLOW_SHIFT) + FLOW_LAST_SEEN] = nowMs;
    duplicates.flow[row] = flow;
    duplicates.second.start(row, path.row, portRow, wire);
    path.sessions++;
    this.#sessions.settle(session);
    armTimer(this.#sessions, session, nowMs);
    return OK;
  }
}
