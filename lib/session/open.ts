// Opening and closing sessions: allocate the waypoint ports, build both flows and compile their rewrite plans. A
// session is opened whole or not at all; both flows stand before the lead packet leaves (protocol sheet 2.4 steps 6 to 8).
//
//            upstream side                     this router                    downstream side
//   initiator (plain) or previous waypoint  ◄── forward flow ──►  server (plain) or next waypoint
//
// The same code opens a session at its ingress (plain → peer), at its egress (peer → plain), at a middle router (peer →
// peer: new port pair, same identifier and context) and between two plain networks of one router.

import type { RandomSource } from "../base/random.ts";
import type { NeighborTable } from "../peer/neighbor.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import { isOnLink, nextHopAddress, type RouterInterface } from "../peer/router-interface.ts";
import {
  EGRESS_SHIFT,
  FLOW_DELTAS,
  FLOW_LAST_SEEN,
  FLOW_NEW_DESTINATION,
  FLOW_NEW_PORTS,
  FLOW_NEW_SOURCE,
  FLOW_NEXT_HOP,
  FLOW_PLAN,
  FLOW_SESSION,
  FLOW_SHIFT,
  type FlowTable,
  GENERATION_MASK,
  OP_FROM_PEER,
  OP_INSERT_UDP,
  OP_REMOVE_UDP,
  OP_SECURE,
  OP_SLOW,
  OP_TO_PEER,
} from "../table/flow-table.ts";
import { FORWARD, PAYLOAD_CLEAR, type SessionTable, SIDE_SENDING } from "../table/session-table.ts";
import type { TimerWheel } from "../table/timer-wheel.ts";
import { addDelta, deltaI32 } from "../wire/checksum.ts";
import { PROTOCOL_TCP, PROTOCOL_UDP } from "../wire/flow-key.ts";
import { shardOf } from "../wire/shard.ts";
import {
  DROP_FLOW_CONFLICT,
  DROP_HALF_OPEN_LIMIT,
  DROP_NEIGHBOR_TABLE_FULL,
  DROP_NO_RETURN_ROUTE,
  DROP_NO_ROUTE,
  DROP_PATH_DOWN,
  DROP_ROUTE_SESSION_LIMIT,
  DROP_SESSION_TABLE_FULL,
  DROP_TENANT_HALF_OPEN_LIMIT,
  DROP_TENANT_SESSION_LIMIT,
  DROP_WAYPOINT_PORTS,
  OK,
} from "../wire/verdict.ts";
import { armTimer } from "./expire.ts";
import { HalfOpenList } from "./half-open-list.ts";
import type { PathChoice } from "./path-choice.ts";
import { encryptFrom, isPayloadEnd } from "./payload.ts";
import type { Tenant } from "./policy.ts";
import type { ServiceLoads } from "./service-loads.ts";
import type { ServiceRoute } from "./service-route.ts";
import { isTcpHalfOpen, isTcpOver, isTcpSteady } from "./tcp-state.ts";

/** TTL minus one, as the change of the 16-bit word TTL<<8 | protocol (RFC 1624: ~m + m' is the same for every m). */
const TTL_DELTA = 0xfeff;

/** The ops that `settle` decides anew. */
const CHANGING_OPS = OP_SLOW | OP_SECURE;

/** What a session is opened from; the owner reuses one. */
export class OpenRequest {
  /** The forward flow's key as it arrives here. */
  readonly key = new Int32Array(4);
  /** The original 5-tuple: source, destination, ports, protocol. */
  readonly context = new Int32Array(4);
  readonly uuid = new Int32Array(4);
  interfaceId = 0;
  /** Row of the peer path it arrived by, -1 from a plain network. */
  upstreamPath = -1;
  /** The session that has this waypoint tuple now and goes when this one can be opened, -1 = none. */
  replaces = -1;
  tenant = -1;
  service = -1;
  route: ServiceRoute | null = null;
  /** Row in the name table of the router where the session entered the fabric. */
  sourceRouter = 0;
  // How its payload travels: the columns of the same names.
  payload = PAYLOAD_CLEAR;
  payloadPolicy = 0;
  payloadKeyVersion = 0;
  hasEncryptedFrom = false;
  encryptedFrom = 0;
}

/** Where a session's packets go next, both ways, and what they look like there. */
class Way {
  upstream: PeerPath | null = null;
  downstream: PeerPath | null = null;
  /** Row of the service path. */
  servicePath = -1;
  egress = 0;
  forwardHop = -1;
  reverseHop = -1;
  // The 5-tuple on the downstream side, in the forward direction. Toward a peer the ports are only known once allocated.
  source = 0;
  destination = 0;
  ports = 0;
  protocol = 0;
}

export class Sessions {
  readonly table: SessionTable;
  readonly flows: FlowTable;
  readonly wheel: TimerWheel;
  readonly neighbors: NeighborTable;
  readonly interfaces: readonly RouterInterface[];
  readonly paths: readonly PeerPath[];
  readonly choice: PathChoice;
  readonly #loads: ServiceLoads;
  readonly #halfOpen: HalfOpenList;
  readonly #halfOpenMax: number;
  readonly #tenants: readonly Tenant[];
  /** Sessions of each tenant, and the half-open ones among them. */
  readonly #tenantSessions: Int32Array;
  readonly #tenantHalfOpen: Int32Array;
  readonly #random: RandomSource;
  readonly #way = new Way();
  /** The session opened last, valid after open returned OK. */
  opened = -1;
  /** Totals since start. */
  openedTotal = 0;
  closedTotal = 0;
  evictedTotal = 0;

  constructor(parts: {
    table: SessionTable;
    flows: FlowTable;
    wheel: TimerWheel;
    neighbors: NeighborTable;
    interfaces: readonly RouterInterface[];
    paths: readonly PeerPath[];
    choice: PathChoice;
    loads: ServiceLoads;
    random: RandomSource;
    tenants: readonly Tenant[];
    /** Half-open sessions of all tenants; Infinity = as many as there is room for. */
    halfOpenMax: number;
  }) {
    this.table = parts.table;
    this.flows = parts.flows;
    this.wheel = parts.wheel;
    this.neighbors = parts.neighbors;
    this.interfaces = parts.interfaces;
    this.paths = parts.paths;
    this.choice = parts.choice;
    this.#loads = parts.loads;
    this.#halfOpen = new HalfOpenList(parts.table.capacity);
    this.#random = parts.random;
    this.#tenants = parts.tenants;
    this.#halfOpenMax = parts.halfOpenMax;
    this.#tenantSessions = new Int32Array(parts.tenants.length);
    this.#tenantHalfOpen = new Int32Array(parts.tenants.length);
  }

  /** Half-open sessions: see half-open-list.ts. */
  get halfOpenCount(): number {
    return this.#halfOpen.count;
  }

  tenantSessions(tenant: number): number {
    return this.#tenantSessions[tenant];
  }

  tenantHalfOpen(tenant: number): number {
    return this.#tenantHalfOpen[tenant];
  }

  /** Fill `uuid` with a fresh RFC 4122 version 4 identifier (122 random bits). */
  newUuid(uuid: Int32Array): void {
    for (let i = 0; i < 4; i++) uuid[i] = this.#random.nextI32();
    uuid[1] = (uuid[1] & 0xffff0fff) | 0x4000;
    uuid[2] = (uuid[2] & 0x3fffffff) | 0x80000000;
  }

  /**
   * Open the session `request` describes. Returns OK (its row is in `opened`) or a drop reason; a session that has to
   * make room goes only once nothing but room is missing.
   */
  open(request: OpenRequest, nowMs: number): number {
    const found = this.#findWay(request, nowMs);
    if (found !== OK) return found;
    const predecessor = this.#inTheWay();
    if (predecessor >= 0 && !this.#mayReplace(predecessor, request)) return DROP_FLOW_CONFLICT;
    const refused = this.#refusal(request, predecessor);
    if (refused !== OK) return refused;
    const { downstream, protocol } = this.#way;
    const { context } = request;
    const shard = shardOf(context[0], context[1], context[2], context[3]);
    const portRow = downstream === null ? -1 : downstream.ports(protocol).allocate(shard, nowMs);
    if (downstream !== null && portRow < 0) return DROP_WAYPOINT_PORTS;
    if (predecessor >= 0) this.close(predecessor, nowMs);
    if (request.replaces >= 0 && request.replaces !== predecessor) this.close(request.replaces, nowMs);
    const session = this.#allocate(nowMs);
    const placed = session < 0 ? DROP_SESSION_TABLE_FULL : this.#place(session, request, portRow, nowMs);
    if (placed !== OK) {
      if (session >= 0) this.table.free(session);
      if (downstream !== null) downstream.ports(protocol).release(portRow, nowMs);
      return placed;
    }
    this.#tenantSessions[request.tenant]++;
    this.settle(session);
    armTimer(this, session, nowMs);
    this.openedTotal++;
    this.opened = session;
    return OK;
  }

  /** Where packets go next, both ways, into #way. Asks neighbors, changes nothing else. */
  #findWay(request: OpenRequest, nowMs: number): number {
    const way = this.#way;
    const { context, route } = request;
    way.upstream = request.upstreamPath < 0 ? null : this.paths[request.upstreamPath];
    way.downstream = null;
    way.source = context[0];
    way.destination = context[1];
    way.ports = context[2];
    way.protocol = context[3];
    if (route === null) return DROP_NO_ROUTE;
    if (route.kind === "peer") {
      const chosen = this.choice.choose(route, request.upstreamPath, nowMs);
      if (chosen === null) return this.choice.refusal;
      const path = this.paths[chosen.path];
      way.servicePath = chosen.row;
      way.downstream = path;
      way.egress = path.interfaceId;
      way.forwardHop = path.nextHop;
      way.source = path.local;
      way.destination = path.remote;
      way.protocol = wireProtocol(context[3]);
    } else {
      if (this.#loads.ofRoute(route.serviceRoute) >= route.maxSessions) return DROP_ROUTE_SESSION_LIMIT;
      way.servicePath = route.row;
      way.egress = route.interfaceId;
      if (route.target !== null) {
        way.destination = route.target.address;
        if (route.target.port !== 0) way.ports = (context[2] & 0xffff0000) | route.target.port;
      }
      const address = route.gateway ?? nextHopAddress(this.interfaces[way.egress], way.destination);
      if (address === null) return DROP_NO_ROUTE;
      way.forwardHop = this.neighbors.want(way.egress, address, nowMs);
      if (way.forwardHop < 0) return DROP_NEIGHBOR_TABLE_FULL;
    }
    if (way.upstream !== null) {
      way.reverseHop = way.upstream.nextHop;
      return OK;
    }
    // Step 6: replies must go back where the packet came from, so a source of another interface's subnet is refused.
    const elsewhere = this.interfaces.some((at) => at.id !== request.interfaceId && isOnLink(at, context[0]));
    const address = nextHopAddress(this.interfaces[request.interfaceId], context[0]);
    if (address === null || elsewhere) return DROP_NO_RETURN_ROUTE;
    way.reverseHop = this.neighbors.want(request.interfaceId, address, nowMs);
    return way.reverseHop < 0 ? DROP_NEIGHBOR_TABLE_FULL : OK;
  }

  /** The session whose flow has the key on which a plain server's replies will come; hosts chose that key. -1 = none. */
  #inTheWay(): number {
    const way = this.#way;
    if (way.downstream !== null) return -1;
    const flow = this.flows.find(way.destination, way.source, swapPorts(way.ports), (way.egress << 8) | way.protocol);
    return flow < 0 ? -1 : this.flows.words[(flow << FLOW_SHIFT) + FLOW_SESSION];
  }

  /** The same peer began the same conversation anew, or the old one is over. A session of someone else is not taken away. */
  #mayReplace(other: number, request: OpenRequest): boolean {
    const { table } = this;
    if (isTcpOver(table.tcpState[other])) return true;
    if (request.upstreamPath < 0 || table.upstream.path[other] !== request.upstreamPath) return false;
    return request.context.every((word, k) => word === table.context[other * 4 + k]);
  }

  /** OK, or which limit another session of the request's tenant would break. What makes way for it is counted as gone. */
  #refusal(request: OpenRequest, predecessor: number): number {
    const { tenant, replaces } = request;
    const { maxSessions, maxHalfOpen } = this.#tenants[tenant];
    let sessions = this.#tenantSessions[tenant];
    let ownHalfOpen = this.#tenantHalfOpen[tenant];
    let halfOpen = this.#halfOpen.count;
    for (const leaving of [predecessor, replaces === predecessor ? -1 : replaces]) {
      if (leaving < 0) continue;
      const own = this.table.tenant[leaving] === tenant ? 1 : 0;
      sessions -= own;
      if (!this.#halfOpen.has(leaving)) continue;
      ownHalfOpen -= own;
      halfOpen--;
    }
    if (sessions >= maxSessions) return DROP_TENANT_SESSION_LIMIT;
    if (ownHalfOpen >= maxHalfOpen) return DROP_TENANT_HALF_OPEN_LIMIT;
    return halfOpen >= this.#halfOpenMax ? DROP_HALF_OPEN_LIMIT : OK;
  }

  /** Insert both flows and fill the session's columns. Returns OK, or DROP_FLOW_CONFLICT with no flow left behind. */
  #place(session: number, request: OpenRequest, portRow: number, nowMs: number): number {
    const way = this.#way;
    const { key, context } = request;
    const { upstream, downstream } = way;
    if (downstream !== null) way.ports = downstream.ports(way.protocol).ports(portRow);
    const forward = this.flows.insert(key[0], key[1], key[2], key[3]);
    const reverseProtocol = (way.egress << 8) | way.protocol;
    const reverse = this.flows.insert(way.destination, way.source, swapPorts(way.ports), reverseProtocol);
    if (forward < 0 || reverse < 0) {
      // The flow table has room for two flows of every session, so a key is taken: packets that go in a circle.
      if (forward >= 0) this.flows.remove(forward);
      if (reverse >= 0) this.flows.remove(reverse);
      return DROP_FLOW_CONFLICT;
    }
    const carried = context[3] !== wireProtocol(context[3]);
    const forwardOps = flowOps(upstream !== null, downstream !== null, carried);
    const reverseOps = flowOps(downstream !== null, upstream !== null, carried);
    this.#plan(forward, session, way.source, way.destination, way.ports, way.egress, way.forwardHop, forwardOps, nowMs);
    this.#plan(
      reverse,
      session,
      key[1],
      key[0],
      swapPorts(key[2]),
      request.interfaceId,
      way.reverseHop,
      reverseOps,
      nowMs,
    );

    const { table } = this;
    table.tenant[session] = request.tenant;
    table.service[session] = request.service;
    table.forwardFlow[session] = forward;
    table.reverseFlow[session] = reverse;
    table.portRow[session] = portRow;
    table.uuid.set(request.uuid, session * 4);
    table.context.set(context, session * 4);
    table.sourceRouter[session] = request.sourceRouter;
    table.payload[session] = request.payload;
    table.payloadPolicy[session] = request.payloadPolicy;
    table.payloadKeyVersion[session] = request.payloadKeyVersion;
    if (request.hasEncryptedFrom) encryptFrom(table, session, FORWARD, request.encryptedFrom);
    table.upstream.start(session, request.upstreamPath);
    table.downstream.start(session, downstream === null ? -1 : downstream.row);
    table.servicePath[session] = way.servicePath;
    this.#loads.opened(way.servicePath);
    if (upstream !== null) upstream.sessions++;
    if (downstream !== null) downstream.sessions++;
    return OK;
  }

  /** End a session: both flows go, its port pair goes to quarantine, its neighbors are released. */
  close(session: number, nowMs: number): void {
    const { table, flows } = this;
    for (const flow of [table.forwardFlow[session], table.reverseFlow[session]]) {
      this.neighbors.release(flows.words[(flow << FLOW_SHIFT) + FLOW_NEXT_HOP]);
      flows.remove(flow);
    }
    const downstream = table.downstream.path[session];
    if (downstream >= 0) {
      const path = this.paths[downstream];
      path.ports(wireProtocol(table.context[session * 4 + 3])).release(table.portRow[session], nowMs);
      path.sessions--;
    }
    const upstream = table.upstream.path[session];
    if (upstream >= 0) this.paths[upstream].sessions--;
    this.#loads.closed(table.servicePath[session]);
    this.wheel.cancel(session);
    const tenant = table.tenant[session];
    this.#tenantSessions[tenant]--;
    if (this.#halfOpen.remove(session)) this.#tenantHalfOpen[tenant]--;
    table.free(session);
    this.closedTotal++;
  }

  /**
   * Call after anything about the session changed: decides whether its packets need the slow path, and whether it is
   * half-open.
   */
  settle(session: number): void {
    const { table } = this;
    const protocol = table.context[session * 4 + 3];
    const tcp = protocol === PROTOCOL_TCP;
    const state = table.tcpState[session];
    const slow =
      (tcp && !isTcpSteady(state)) ||
      (!tcp && protocol !== PROTOCOL_UDP) ||
      table.upstream.state[session] === SIDE_SENDING ||
      table.downstream.state[session] === SIDE_SENDING ||
      table.healthCheck[session] === 1;
    const ops = (slow ? OP_SLOW : 0) | (this.#isSecure(session) ? OP_SECURE : 0);
    const reverseFlow = table.reverseFlow[session];
    const halfOpen = tcp ? isTcpHalfOpen(state) : this.flows.packets(reverseFlow) === 0;
    const words = this.flows.words;
    const forward = (table.forwardFlow[session] << FLOW_SHIFT) + FLOW_PLAN;
    const reverse = (reverseFlow << FLOW_SHIFT) + FLOW_PLAN;
    words[forward] = (words[forward] & ~CHANGING_OPS) | ops;
    // The first reverse packet of a half-open session must be noticed.
    words[reverse] = (words[reverse] & ~CHANGING_OPS) | ops | (halfOpen ? OP_SLOW : 0);
    const tenant = table.tenant[session];
    if (halfOpen) {
      if (this.#halfOpen.add(session)) this.#tenantHalfOpen[tenant]++;
    } else if (this.#halfOpen.remove(session)) this.#tenantHalfOpen[tenant]--;
  }

  /** Whether each of its packets needs a key: for a digest, or because its payload is encrypted or may yet be. */
  #isSecure(session: number): boolean {
    const { table } = this;
    if (table.payload[session] !== PAYLOAD_CLEAR && isPayloadEnd(table, session)) return true;
    return this.#signsAll(table.upstream.path[session]) || this.#signsAll(table.downstream.path[session]);
  }

  #signsAll(path: number): boolean {
    return path >= 0 && this.paths[path].security?.sign === "every-packet";
  }

  /**
   * A flow of the session carries an old generation: something about paths changed. Returns OK with both flows
   * current, or DROP_PATH_DOWN while its path is down (the session stays, protocol sheet 7.1 "none").
   */
  recheck(session: number): number {
    const { table, flows } = this;
    const downstream = table.downstream.path[session];
    const upstream = table.upstream.path[session];
    if ((downstream >= 0 && !this.paths[downstream].up) || (upstream >= 0 && !this.paths[upstream].up))
      return DROP_PATH_DOWN;
    for (const flow of [table.forwardFlow[session], table.reverseFlow[session]]) {
      const at = (flow << FLOW_SHIFT) + FLOW_PLAN;
      flows.words[at] = (flows.words[at] & ~GENERATION_MASK) | flows.generation;
    }
    return OK;
  }

  /** A free row; when there is none, the oldest half-open session makes room. */
  #allocate(nowMs: number): number {
    const row = this.table.allocate(nowMs);
    if (row >= 0) return row;
    const oldest = this.#halfOpen.oldest();
    if (oldest < 0) return -1;
    this.close(oldest, nowMs);
    this.evictedTotal++;
    return this.table.allocate(nowMs);
  }

  /** The rewrite of one flow: its packets leave with these addresses and ports, by this interface and next hop. */
  #plan(
    flow: number,
    session: number,
    source: number,
    destination: number,
    ports: number,
    egress: number,
    hop: number,
    ops: number,
    nowMs: number,
  ): void {
    const words = this.flows.words;
    const base = flow << FLOW_SHIFT;
    const addresses = addDelta(deltaI32(words[base], source), deltaI32(words[base + 1], destination));
    const l3 = addDelta(addresses, TTL_DELTA);
    const l4 = addDelta(addresses, deltaI32(words[base + 2], ports));
    words[base + FLOW_NEW_SOURCE] = source;
    words[base + FLOW_NEW_DESTINATION] = destination;
    words[base + FLOW_NEW_PORTS] = ports;
    words[base + FLOW_DELTAS] = (l3 << 16) | l4;
    words[base + FLOW_PLAN] = ops | this.flows.generation | (egress << EGRESS_SHIFT);
    words[base + FLOW_NEXT_HOP] = hop;
    words[base + FLOW_SESSION] = session;
    words[base + FLOW_LAST_SEEN] = nowMs;
    this.neighbors.acquire(hop);
  }
}

/** A protocol without ports is put in UDP where it enters the fabric, and taken out where it leaves it. */
function flowOps(fromPeer: boolean, toPeer: boolean, carried: boolean): number {
  let ops = (fromPeer ? OP_FROM_PEER : 0) | (toPeer ? OP_TO_PEER : 0);
  if (carried && toPeer && !fromPeer) ops |= OP_INSERT_UDP;
  if (carried && fromPeer && !toPeer) ops |= OP_REMOVE_UDP;
  return ops;
}

/** What carries a session of this protocol between routers: TCP as TCP, everything else as UDP (protocol sheet 2.2). */
export function wireProtocol(protocol: number): number {
  return protocol === PROTOCOL_TCP ? PROTOCOL_TCP : PROTOCOL_UDP;
}

export function swapPorts(ports: number): number {
  return (ports << 16) | (ports >>> 16);
}
