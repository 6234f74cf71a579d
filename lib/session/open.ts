// Opening and closing sessions: allocate the waypoint ports, build both flows and compile their rewrite plans. A
// session is opened whole or not at all; both flows stand before the lead packet leaves (protocol sheet 2.4 steps 6 to 8).
//
//            upstream side                     this router                    downstream side
//   initiator (plain) or previous waypoint  ◄── forward flow ──►  server (plain) or next waypoint
//
// The same code opens a session at its ingress (plain → peer), at its egress (peer → plain), at a middle router (peer →
// peer: new port pair, same identifier and context) and between two plain networks of one router.

import type { RandomSource } from "../base/random.ts";
import { encryptsMetadata } from "../crypto/key-ring.ts";
import type { NeighborTable } from "../peer/neighbor.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import type { RouterInterface } from "../peer/router-interface.ts";
import { addressBook, isName } from "../table/address-book.ts";
import type { DuplicateTable } from "../table/duplicate-table.ts";
import {
  DSCP_SHIFT,
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
  MARK_MASK,
  OP_DSCP,
  OP_FROM_PEER,
  OP_INSERT_UDP,
  OP_LABEL,
  OP_MARK,
  OP_REMOVE_UDP,
  OP_REVERSE,
  OP_SECURE,
  OP_SLOW,
  OP_TO_PEER,
  OPS_MASK,
  planEgress,
} from "../table/flow-table.ts";
import { HashIndex } from "../table/hash-index.ts";
import {
  DSCP_AWAITED,
  DSCP_FREE,
  DSCP_KNOWN,
  FORWARD,
  type HandshakeColumns,
  PAYLOAD_CLEAR,
  REVERSE,
  type SessionTable,
  SIDE_SENDING,
} from "../table/session-table.ts";
import type { TimerWheel } from "../table/timer-wheel.ts";
import { addDelta, deltaI32 } from "../wire/checksum.ts";
import { PROTOCOL_TCP, PROTOCOL_UDP } from "../wire/flow-key.ts";
import { shardOf } from "../wire/shard.ts";
import {
  DROP_FLOW_CONFLICT,
  DROP_HALF_OPEN_LIMIT,
  DROP_NAT_PORTS,
  DROP_ROUTE_LOOP,
  DROP_SESSION_TABLE_FULL,
  DROP_TENANT_HALF_OPEN_LIMIT,
  DROP_TENANT_SESSION_LIMIT,
  DROP_WAYPOINT_PORTS,
  OK,
} from "../wire/verdict.ts";
import { carrierOver, wireProtocol } from "./carrier.ts";
import { armTimer } from "./expire.ts";
import { WayFinder } from "./find-way.ts";
import { HalfOpenList } from "./half-open-list.ts";
import { answerChanged } from "./metadata-handshake.ts";
import type { OpenRequest } from "./open-request.ts";
import type { PathChoice } from "./path-choice.ts";
import { encryptFrom, isPayloadEnd, takeUp } from "./payload.ts";
import type { Service, Tenant } from "./policy.ts";
import type { ServiceLoads } from "./service-loads.ts";
import { hasNatPorts, type SourceNat } from "./source-nat.ts";
import { isTcpHalfOpen, isTcpOver, isTcpSteady, TCP_ESTABLISHED } from "./tcp-state.ts";
import type { Way } from "./way.ts";

/** TTL minus one, as the change of the 16-bit word TTL<<8 | protocol (RFC 1624: ~m + m' is the same for every m). */
const TTL_DELTA = 0xfeff;

/** The ops that `settle` decides anew. */
const CHANGING_OPS = OP_SLOW | OP_SECURE | MARK_MASK;

/** In the place of a row of a pool of pairs. */
const NO_PAIR = -2;

/** Port pairs that are looked at for one session: a pair may be a session's that came back from before a restart. */
const PAIRS_TRIED = 16;

export class Sessions {
  readonly table: SessionTable;
  readonly flows: FlowTable;
  readonly duplicates: DuplicateTable;
  readonly wheel: TimerWheel;
  readonly neighbors: NeighborTable;
  readonly interfaces: readonly RouterInterface[];
  readonly paths: readonly PeerPath[];
  readonly choice: PathChoice;
  /** Null = no service-route translates sources. */
  readonly nat: SourceNat | null;
  readonly #loads: ServiceLoads;
  readonly #halfOpen: HalfOpenList;
  readonly #halfOpenMax: number;
  readonly #tenants: readonly Tenant[];
  readonly #services: readonly Service[];
  /** Sessions of each tenant, and the half-open ones among them. */
  readonly #tenantSessions: Int32Array;
  readonly #tenantHalfOpen: Int32Array;
  readonly #random: RandomSource;
  readonly #byUuid: HashIndex;
  readonly #ways: WayFinder;
  /** What #ways has found. */
  readonly #way: Way;
  /** After so much silence of a peer that we send to it is asked whether it still knows the session. */
  readonly inactivityMs: number;
  /** The session opened last, valid after open returned OK. */
  opened = -1;
  /** Totals since start. */
  openedTotal = 0;
  closedTotal = 0;
  evictedTotal = 0;

  constructor(parts: {
    table: SessionTable;
    flows: FlowTable;
    duplicates: DuplicateTable;
    wheel: TimerWheel;
    neighbors: NeighborTable;
    interfaces: readonly RouterInterface[];
    paths: readonly PeerPath[];
    choice: PathChoice;
    nat: SourceNat | null;
    loads: ServiceLoads;
    random: RandomSource;
    /** Of hashes. */
    seed: number;
    tenants: readonly Tenant[];
    services: readonly Service[];
    inactivityMs: number;
    /** Half-open sessions of all tenants; Infinity = as many as there is room for. */
    halfOpenMax: number;
  }) {
    this.table = parts.table;
    this.flows = parts.flows;
    this.duplicates = parts.duplicates;
    this.wheel = parts.wheel;
    this.neighbors = parts.neighbors;
    this.interfaces = parts.interfaces;
    this.paths = parts.paths;
    this.choice = parts.choice;
    this.nat = parts.nat;
    this.#ways = new WayFinder(parts);
    this.#way = this.#ways.way;
    this.#loads = parts.loads;
    this.#halfOpen = new HalfOpenList(parts.table.capacity);
    this.#random = parts.random;
    this.inactivityMs = parts.inactivityMs;
    this.#byUuid = new HashIndex(parts.table.capacity, parts.seed, 4, parts.table.uuid, 4);
    this.#tenants = parts.tenants;
    this.#services = parts.services;
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

  /** Every session: the half-open ones first, in their order. */
  *rows(): Generator<number> {
    yield* this.#halfOpen.rows();
    for (let row = 0; row < this.table.capacity; row++)
      if (this.table.isLive(row) && !this.#halfOpen.has(row)) yield row;
  }

  /** Go on with a session whose columns and flows stand. Returns false when it cannot be: its identifier is another's. */
  goOn(session: number, nowMs: number): boolean {
    const { table } = this;
    if (!this.#byUuid.insert(session)) return false;
    this.#pin(session);
    this.nat?.goesOn(session, table);
    this.#tenantSessions[table.tenant[session]]++;
    this.#loads.opened(table.servicePath[session]);
    for (const { path } of table.sides) if (path[session] >= 0) this.paths[path[session]].sessions++;
    for (const way of [FORWARD, REVERSE]) {
      const second = this.secondPath(session, way);
      if (second >= 0) this.paths[second].sessions++;
    }
    this.settle(session);
    armTimer(this, session, nowMs);
    return true;
  }

  /** The session with this identifier, -1 = none. */
  withUuid(uuid: Int32Array): number {
    return this.#byUuid.find4(uuid[0], uuid[1], uuid[2], uuid[3]);
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
    const found = this.#ways.find(request, nowMs);
    if (found !== OK) return found;
    const predecessor = this.#inTheWay();
    if (predecessor >= 0 && !this.#mayReplace(predecessor, request)) return DROP_FLOW_CONFLICT;
    const refused = this.#refusal(request, predecessor);
    if (refused !== OK) return refused;
    // Before anything is closed that may be the mapping's last session.
    if (this.nat?.hold(request, this.#way, nowMs) === false) return DROP_NAT_PORTS;
    const portRow = this.#reservePair(request, nowMs);
    if (portRow === NO_PAIR) {
      this.nat?.giveUp(this.#way, nowMs);
      return DROP_WAYPOINT_PORTS;
    }
    if (predecessor >= 0) this.close(predecessor, nowMs);
    if (request.replaces >= 0 && request.replaces !== predecessor) this.close(request.replaces, nowMs);
    const session = this.#allocate(nowMs);
    const placed = session < 0 ? DROP_SESSION_TABLE_FULL : this.#place(session, request, portRow, nowMs);
    if (placed !== OK) {
      const { downstream, protocol } = this.#way;
      if (session >= 0) this.table.free(session);
      if (downstream !== null && portRow >= 0) downstream.ports(protocol).release(portRow, nowMs);
      this.nat?.giveUp(this.#way, nowMs);
      return placed;
    }
    this.nat?.opened(session, this.table, this.#way);
    this.#tell(session, request);
    this.#tenantSessions[request.tenant]++;
    this.settle(session);
    armTimer(this, session, nowMs);
    this.openedTotal++;
    this.opened = session;
    return OK;
  }

  /** The row of the waypoint pair toward the next router; -1 = there is none, or its peer has picked it; NO_PAIR = none is free. */
  #reservePair(request: OpenRequest, nowMs: number): number {
    const { downstream, protocol } = this.#way;
    if (downstream === null) return -1;
    if (request.downstreamPath >= 0) return downstream.ports(protocol).reserve(request.downstreamPorts);
    const row = this.allocatePair(downstream, request.context, nowMs);
    return row < 0 ? NO_PAIR : row;
  }

  /** What the routers behind this one must know of the session beside its context. */
  #tell(session: number, request: OpenRequest): void {
    const { presented, inward } = this.table;
    const { pool, downstream } = this.#way;
    if (pool !== null && downstream !== null) presented.set(session, this.nat!.presented(request, this.#way));
    else if (pool === null && request.natAddress !== 0)
      presented.set(session, { address: request.natAddress, port: request.natPort });
    if (request.along !== null) inward.set(session, request.along);
  }

  /** A free pair of the path for a session with this context, whose tuple no flow has; its row, or -1. */
  allocatePair(path: PeerPath, context: Int32Array, nowMs: number): number {
    const protocol = carrierOver(path, context[3]);
    const pool = path.ports(protocol);
    const [source, destination] = [addressBook.hashWord(context[0]), addressBook.hashWord(context[1])];
    const shard = shardOf(source, destination, context[2], context[3]);
    for (let tries = 0; tries < PAIRS_TRIED; tries++) {
      const row = pool.allocate(shard, nowMs);
      if (row < 0) return -1;
      const key = (path.interfaceId << 8) | protocol;
      if (this.flows.find(path.remote, path.local, swapPorts(pool.ports(row)), key) < 0) return row;
      pool.release(row, nowMs);
    }
    return -1;
  }

  /** The session whose flow has the key on which a plain server's replies will come; hosts chose that key. -1 = none. */
  #inTheWay(): number {
    const way = this.#way;
    // What is not mapped yet gets a port that nothing uses.
    if (way.downstream !== null || (way.pool !== null && way.mapping < 0 && hasNatPorts(way.protocol))) return -1;
    const flow = this.flows.find(way.destination, way.source, swapPorts(way.ports), (way.egress << 8) | way.protocol);
    return flow < 0 ? -1 : this.flows.words[(flow << FLOW_SHIFT) + FLOW_SESSION];
  }

  /** The same peer began the same conversation anew, or the old one is over. A session of someone else is not taken away. */
  #mayReplace(other: number, request: OpenRequest): boolean {
    const { table } = this;
    if (isTcpOver(table.tcpState[other])) return true;
    // The same port of the same host, whatever path it came by: where sources are mapped sessions outlive their first router's.
    if (this.#way.mapping >= 0 && table.mappingOf(other) === this.#way.mapping) return true;
    // A host begins what another one has just begun with it through the mirror: from now on each has its own (inward.ts).
    if (this.interfaces[this.#way.egress].isMirror && table.inward.has(other)) return true;
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
    if (downstream !== null)
      way.ports = portRow < 0 ? request.downstreamPorts : downstream.ports(way.protocol).ports(portRow);
    const forward = this.flows.insert(key[0], key[1], key[2], key[3]);
    const reverseProtocol = (way.egress << 8) | way.protocol;
    const reverse = this.flows.insert(way.destination, way.source, swapPorts(way.ports), reverseProtocol);
    if (forward < 0 || reverse < 0) {
      // The flow table has room for two flows of every session, so a key is taken: packets that go in a circle.
      if (forward >= 0) this.flows.remove(forward);
      if (reverse >= 0) this.flows.remove(reverse);
      return DROP_FLOW_CONFLICT;
    }
    this.table.uuid.set(request.uuid, session * 4);
    if (!this.#byUuid.insert(session)) {
      // An identifier is one session's: this packet has come by here before.
      this.flows.remove(forward);
      this.flows.remove(reverse);
      return DROP_ROUTE_LOOP;
    }
    const carried = context[3] !== wireProtocol(context[3]);
    const label = isName(context[0]) ? OP_LABEL : 0;
    const forwardOps = flowOps(upstream !== null, downstream !== null, carried) | label;
    const reverseOps = flowOps(downstream !== null, upstream !== null, carried) | label;
    this.plan(forward, way.source, way.destination, way.ports, way.egress, way.forwardHop, forwardOps);
    const { interfaceId } = request;
    this.plan(reverse, key[1], key[0], swapPorts(key[2]), interfaceId, way.reverseHop, reverseOps | OP_REVERSE);
    for (const flow of [forward, reverse]) {
      const base = flow << FLOW_SHIFT;
      this.flows.words[base + FLOW_SESSION] = session;
      this.flows.words[base + FLOW_LAST_SEEN] = nowMs;
    }

    const { table } = this;
    table.tenant[session] = request.tenant;
    table.service[session] = request.service;
    table.forwardFlow[session] = forward;
    table.reverseFlow[session] = reverse;
    table.context.set(context, session * 4);
    this.#pin(session);
    table.sourceRouter[session] = request.sourceRouter;
    table.passed[session] = request.passed;
    table.dscp[session * 2 + FORWARD] = request.dscp;
    table.dscp[session * 2 + REVERSE] = request.dscp === DSCP_FREE ? DSCP_FREE : DSCP_AWAITED;
    table.payload[session] = request.payload;
    table.payloadPolicy[session] = request.payloadPolicy;
    table.payloadKeyVersion[session] = request.payloadKeyVersion;
    if (request.payloadKeyLength > 0) table.setKey(session, request.payloadKey, request.payloadKeyLength);
    if (request.hasEncryptedFrom) encryptFrom(table, session, FORWARD, request.encryptedFrom);
    if (request.hasEncryptedFrom && downstream === null) takeUp(table, session);
    table.upstream.start(session, request.upstreamPath, -1, upstream === null ? 0 : key[3] & 0xff);
    if (downstream === null) table.downstream.start(session, -1, portRow);
    else table.downstream.start(session, downstream.row, portRow, way.protocol);
    table.servicePath[session] = way.servicePath;
    this.#loads.opened(way.servicePath);
    if (upstream !== null) upstream.sessions++;
    if (downstream !== null) downstream.sessions++;
    return OK;
  }

  /** End a session: its flows go, its port pairs go to quarantine, its neighbors are released. */
  close(session: number, nowMs: number): void {
    const { table } = this;
    for (const side of table.sides) {
      this.endLinger(side, session);
      if (side.path[session] >= 0) this.leavePath(side, session, nowMs);
    }
    for (const way of [FORWARD, REVERSE]) this.#endDuplication(session, way, nowMs);
    this.removeFlow(table.forwardFlow[session]);
    this.removeFlow(table.reverseFlow[session]);
    this.#loads.closed(table.servicePath[session]);
    this.wheel.cancel(session);
    const tenant = table.tenant[session];
    this.#tenantSessions[tenant]--;
    if (this.#halfOpen.remove(session)) this.#tenantHalfOpen[tenant]--;
    this.#byUuid.remove(session);
    addressBook.unpin(table.context[session * 4]);
    addressBook.unpin(table.context[session * 4 + 1]);
    this.nat?.closed(session, table, nowMs);
    table.free(session);
    this.closedTotal++;
  }

  /** Its hosts' addresses are in use; all others in its flows are the configuration's. */
  #pin(session: number): void {
    addressBook.pin(this.table.context[session * 4]);
    addressBook.pin(this.table.context[session * 4 + 1]);
  }

  removeFlow(flow: number): void {
    this.neighbors.release(this.flows.words[(flow << FLOW_SHIFT) + FLOW_NEXT_HOP]);
    this.flows.remove(flow);
  }

  /** The session goes no longer over the path in row `row` of these columns; the pair that was picked for it goes to quarantine. */
  leavePath(columns: HandshakeColumns, row: number, nowMs: number): void {
    const path = this.paths[columns.path[row]];
    const portRow = columns.portRow[row];
    if (portRow >= 0) path.ports(columns.wire[row]).release(portRow, nowMs);
    path.sessions--;
  }

  /** Row of the path whose remote end is `source` and whose local end is `destination`, -1 = none. */
  pathBetween(interfaceId: number, source: number, destination: number): number {
    for (const path of this.paths) {
      if (path.interfaceId === interfaceId && path.remote === source && path.local === destination) return path.row;
    }
    return -1;
  }

  /** Row of the second path that the packets of the session's side `way` go over (duplication.ts); -1 = none. */
  secondPath(session: number, way: number): number {
    const row = this.table.duplicate[session * 2 + way];
    return row < 0 ? -1 : this.duplicates.second.path[row];
  }

  /** The session's side goes no longer over its second path, if it has one. Its packets stay numbered. */
  endSecond(session: number, way: number, nowMs: number): void {
    if (this.secondPath(session, way) < 0) return;
    const { duplicates } = this;
    const row = this.table.duplicate[session * 2 + way];
    this.leavePath(duplicates.second, row, nowMs);
    this.removeFlow(duplicates.flow[row]);
    duplicates.flow[row] = -1;
    duplicates.second.start(row, -1, -1);
  }

  #endDuplication(session: number, way: number, nowMs: number): void {
    const row = this.table.duplicate[session * 2 + way];
    if (row < 0) return;
    this.endSecond(session, way, nowMs);
    this.duplicates.free(row);
    this.table.duplicate[session * 2 + way] = -1;
  }

  /** The peer on that side must hear the session's metadata again, over whatever paths lead there. */
  mustTell(session: number, way: number): void {
    const { table, duplicates } = this;
    if (table.sides[way].path[session] >= 0) table.sides[way].state[session] = SIDE_SENDING;
    if (this.secondPath(session, way) >= 0) duplicates.second.state[table.duplicate[session * 2 + way]] = SIDE_SENDING;
  }

  /** The peer on the session's side `way` is told anew of it: if it has begun anew, its packets are numbered from anywhere. */
  forgetNumbers(session: number, way: number): void {
    const row = this.table.duplicate[session * 2 + way];
    if (row >= 0) this.duplicates.forget(row);
  }

  randomWord(): number {
    return this.#random.nextI32();
  }

  /** What came by the flow from before the session moved counts as the session's; nothing comes by it any more. */
  endLinger(side: HandshakeColumns, session: number): void {
    const { flows, table } = this;
    const old = side.lingering[session];
    if (old < 0) return;
    side.lingering[session] = -1;
    flows.addCounts(old, side === table.upstream ? table.forwardFlow[session] : table.reverseFlow[session]);
    this.removeFlow(old);
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
      this.isTransformed(session, FORWARD) ||
      this.isTransformed(session, REVERSE) ||
      table.upstream.state[session] === SIDE_SENDING ||
      table.downstream.state[session] === SIDE_SENDING ||
      this.isTunnelled(session, FORWARD) ||
      this.isTunnelled(session, REVERSE) ||
      table.duplicate[session * 2] >= 0 ||
      table.duplicate[session * 2 + 1] >= 0 ||
      table.healthCheck[session] !== 0;
    const ops = (slow ? OP_SLOW : 0) | (this.#isSecure(session) ? OP_SECURE : 0);
    const forwardOps = ops | this.#markOps(session, FORWARD) | (this.awaitsDscp(session, FORWARD) ? OP_SLOW : 0);
    const reverseOps = ops | this.#markOps(session, REVERSE) | (this.awaitsDscp(session, REVERSE) ? OP_SLOW : 0);
    const reverseFlow = table.reverseFlow[session];
    const halfOpen = tcp ? isTcpHalfOpen(state) : this.flows.packets(reverseFlow) === 0;
    const words = this.flows.words;
    const forward = (table.forwardFlow[session] << FLOW_SHIFT) + FLOW_PLAN;
    const reverse = (reverseFlow << FLOW_SHIFT) + FLOW_PLAN;
    words[forward] = (words[forward] & ~CHANGING_OPS) | forwardOps;
    // The first reverse packet of a half-open session must be noticed.
    words[reverse] = (words[reverse] & ~CHANGING_OPS) | reverseOps | (halfOpen ? OP_SLOW : 0);
    const tenant = table.tenant[session];
    if (halfOpen) {
      if (this.#halfOpen.add(session)) this.#tenantHalfOpen[tenant]++;
    } else if (this.#halfOpen.remove(session)) this.#tenantHalfOpen[tenant]--;
  }

  /** What is written into the headers of packets in `direction`: toward a peer their class's DSCP and more TTL, from the last router on the DSCP that is restored. */
  #markOps(session: number, direction: number): number {
    const { table } = this;
    const leaving = table.sides[1 - direction].path[session];
    const isFromPeer = table.sides[direction].path[session] >= 0;
    const told = table.dscp[session * 2 + direction];
    let dscp = -1;
    if (leaving >= 0) dscp = this.#services[table.service[session]].policy.rewriteDscp;
    else if (isFromPeer && (told & DSCP_KNOWN) !== 0) dscp = told & ~DSCP_KNOWN;
    const ops = dscp < 0 ? 0 : OP_DSCP | (dscp << DSCP_SHIFT);
    const isPadded = leaving >= 0 && this.paths[leaving].pads;
    return ops === 0 && !isPadded ? 0 : ops | OP_MARK | OP_SECURE;
  }

  /** Whether the DSCP of the next packet in `direction` is to be told to the far edge: it comes from a host here. */
  awaitsDscp(session: number, direction: number): boolean {
    const { table } = this;
    return table.dscp[session * 2 + direction] === DSCP_AWAITED && table.sides[direction].path[session] < 0;
  }

  /** Packets of the session in `direction` have this DSCP where they enter the fabric, and get it where they leave it. The next router is told. */
  setDscp(session: number, direction: number, dscp: number): void {
    const { table } = this;
    const at = session * 2;
    if (table.dscp[at + direction] === (DSCP_KNOWN | dscp)) return;
    table.dscp[at + direction] = DSCP_KNOWN | dscp;
    if (table.dscp[at + 1 - direction] === DSCP_FREE) table.dscp[at + 1 - direction] = DSCP_AWAITED;
    this.mustTell(session, 1 - direction);
    this.settle(session);
  }

  /** A router toward the server has said that it translates the session's source. The one toward the initiator is told. */
  setTranslated(session: number, nowMs: number): void {
    const { table } = this;
    if (table.translatedBeyond[session] === 1) return;
    table.translatedBeyond[session] = 1;
    answerChanged(table.upstream, session, nowMs);
    this.settle(session);
  }

  /**
   * Whether what goes in `direction` reaches its peer only inside a datagram of BFD's tuple (engine/tunnel.ts): one of us is
   * behind a NAT, and the other one has picked the pair, so that nothing has gone out by it through the NAT yet.
   */
  isTunnelled(session: number, direction: number): boolean {
    const { table } = this;
    const side = table.sides[1 - direction];
    const path = side.path[session];
    if (path < 0) return false;
    const { isDynamic, isOutboundOnly } = this.paths[path].nat;
    const isOurPair = side.portRow[session] >= 0;
    if (side.wire[session] === PROTOCOL_TCP) return isOurPair ? isDynamic : isOutboundOnly;
    return isDynamic && isOurPair && side.state[session] === SIDE_SENDING;
  }

  /** Whether the session is TCP and goes as UDP between us and the peer on its side `way` (engine/tcp-in-udp.ts). */
  isTransformed(session: number, way: number): boolean {
    const { table } = this;
    return table.sides[way].wire[session] === PROTOCOL_UDP && table.context[session * 4 + 3] === PROTOCOL_TCP;
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

  /** A TCP session that came back in its midst: its hosts are past their handshake. */
  resumeTcp(session: number): void {
    this.table.tcpState[session] = TCP_ESTABLISHED;
    this.settle(session);
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

  /** Flow `flow`, whose key stands, is of the same session as flow `from` and its packets leave as that one's; `ops` are added to its own. */
  planAs(flow: number, from: number, ops = 0): void {
    const { words } = this.flows;
    const base = from << FLOW_SHIFT;
    const plan = words[base + FLOW_PLAN];
    this.plan(
      flow,
      words[base + FLOW_NEW_SOURCE],
      words[base + FLOW_NEW_DESTINATION],
      words[base + FLOW_NEW_PORTS],
      planEgress(plan),
      words[base + FLOW_NEXT_HOP],
      (plan & OPS_MASK) | ops,
    );
    words[(flow << FLOW_SHIFT) + FLOW_SESSION] = words[base + FLOW_SESSION];
  }

  /** The rewrite of one flow, whose key stands: its packets leave with these addresses and ports, by this interface and next hop. */
  plan(
    flow: number,
    source: number,
    destination: number,
    ports: number,
    egress: number,
    hop: number,
    ops: number,
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

/** Whether the session may go over `path`: a key of its own must not go where metadata is in clear. */
export function mayTellKey(table: SessionTable, session: number, path: PeerPath): boolean {
  return table.keyLength(session) === 0 || encryptsMetadata(path.security);
}

export function swapPorts(ports: number): number {
  return (ports << 16) | (ports >>> 16);
}
