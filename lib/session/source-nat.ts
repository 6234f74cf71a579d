// Source NAT where a session leaves to a plain network, or where it begins, for its last router to present (attribute 25): which outside address a host has, and the mapping of each of its ports
// (table/nat-table.ts). Like waypoint ports it is compiled into the session's rewrite plan when the session is opened, so the
// forwarding of packets knows nothing of it: find-way.ts asks for the addresses, open.ts holds the mappings.
//
//   host 10.1.0.2:40000 ──► any destination          192.0.2.7:16384 ──► the same destination
//        └ of a tenant, behind a router (the origin)       └ of a pool: the same for all of them, for as long as a session has it
//
// Two hosts with one address are told apart by tenant and origin, so networks may overlap (RFC 4787 calls them realms). A host has
// one address of a pool (address pooling "paired", REQ-2): a hash chooses it, so that it has the same after a restart. When that
// one's ports are in use the session is refused (drop.nat-ports), and no other address is taken.
//
// A destination that is an outside address leads back inside, to the host whose mapping it is (hairpinning, RFC 4787, REQ-9). What
// is for a host behind a peer leaves by the mirror, an interface whose frames come in again, as it would leave to the outside:
// there it is the lead of another session, or an answer of one (inward.ts).

import { scatter } from "../base/hash.ts";
import { MappingSessions } from "../table/mapping-sessions.ts";
import { type NatInside, type NatTable, ORIGIN_INTERFACE, ORIGIN_PATH } from "../table/nat-table.ts";
import type { SessionTable } from "../table/session-table.ts";
import { PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } from "../wire/flow-key.ts";
import { DROP_NAT_UNMAPPED, OK } from "../wire/verdict.ts";
import type { OpenRequest } from "./open-request.ts";
import type { Way } from "./way.ts";

/** Outside addresses of service-routes: those that name the same ones share their mappings. */
export interface NatPool {
  readonly row: number;
  /** At least one. */
  readonly addresses: readonly number[];
}

export class SourceNat {
  readonly table: NatTable;
  readonly pools: readonly NatPool[];
  /** The sessions whose source a mapping is. */
  readonly sessions: MappingSessions;
  /** By interface: of sessions that begin there and go to a peer; null = none. */
  readonly #ingress: readonly (NatPool | null)[];
  /** The interface whose frames come in again; -1 = there is none, and no peer that hosts could be behind. */
  readonly #mirror: number;
  readonly #inside: { -readonly [K in keyof NatInside]: NatInside[K] } = {
    address: 0,
    port: 0,
    protocol: 0,
    tenant: 0,
    pool: 0,
    origin: 0,
  };

  constructor(parts: {
    table: NatTable;
    sessionsMax: number;
    pools: readonly NatPool[];
    ingress: readonly (NatPool | null)[];
    mirror: number;
  }) {
    this.table = parts.table;
    this.pools = parts.pools;
    this.sessions = new MappingSessions(parts.table.capacity, parts.sessionsMax);
    this.#ingress = parts.ingress;
    this.#mirror = parts.mirror;
  }

  /** Whether it is an address that hosts have outside. */
  isOutside(address: number): boolean {
    return this.table.has(address);
  }

  /** The pool of a session toward a peer: it is this router's to choose where the session begins. */
  ingressPool({ upstreamPath, interfaceId }: OpenRequest): NatPool | null {
    return upstreamPath < 0 ? (this.#ingress[interfaceId] ?? null) : null;
  }

  /** Toward a peer the source stays as it is: what is known of its mapping, for the session's last router. */
  leaveToPeer(request: OpenRequest, way: Way, pool: NatPool): void {
    way.pool = pool;
    way.mapping = this.#find(request, pool);
  }

  /**
   * The session leaves by an interface; `pool`: of the route, null = sources stay as they are. Source, port and, where
   * it leads back inside, destination are as they will be, but for a port that is not chosen yet. OK, or DROP_NAT_UNMAPPED.
   */
  leave(request: OpenRequest, way: Way, pool: NatPool | null): number {
    way.pool = pool;
    const within = this.#lookWithin(request, way);
    if (within !== OK || way.pool === null) return within;
    way.source = this.#addressOf(request, way.pool);
    way.mapping = this.#find(request, way.pool);
    if (way.mapping >= 0) this.#mapped(way);
    return OK;
  }

  /**
   * A destination that is an outside address leads back inside: to the host whose mapping it is, or by a target, which may be
   * where the source is. Then the source is translated too, or replies would go past this router.
   */
  #lookWithin({ context, upstreamPath, interfaceId, tenant }: OpenRequest, way: Way): number {
    const outside = context[1];
    if (!this.isOutside(outside)) return this.isOutside(way.destination) ? DROP_NAT_UNMAPPED : OK;
    if (way.destination !== outside) {
      const isBack = upstreamPath < 0 && interfaceId === way.egress;
      if (isBack) way.pool ??= this.#poolWith(outside);
      return OK;
    }
    const mapping = this.table.withOutside(outside, context[2] & 0xffff, way.protocol);
    // Another tenant's host is out of reach, as from outside.
    if (mapping < 0 || this.table.tenant(mapping) !== tenant) return DROP_NAT_UNMAPPED;
    way.hairpin = mapping;
    way.pool ??= this.#poolWith(outside);
    return this.table.insideInterface(mapping) < 0 ? this.#toMirror(way) : this.#toInside(way);
  }

  /** The host is on a network of this router. */
  #toInside(way: Way): number {
    const { table } = this;
    const port = table.insidePort(way.hairpin);
    way.egress = table.insideInterface(way.hairpin);
    way.destination = table.inside(way.hairpin);
    way.ports = way.protocol === PROTOCOL_ICMP ? (port << 16) | port : (way.ports & 0xffff0000) | port;
    return OK;
  }

  /** The host is behind a peer. An echo's identifier cannot be the sender's and the receiver's at once. */
  #toMirror(way: Way): number {
    if (this.#mirror < 0 || way.protocol === PROTOCOL_ICMP) return DROP_NAT_UNMAPPED;
    way.egress = this.#mirror;
    return OK;
  }

  /** The source's port is the mapping's; of an echo it is the identifier, which is in both places. */
  #mapped(way: Way): void {
    const port = this.table.outsidePort(way.mapping);
    way.source = this.table.outside(way.mapping);
    way.ports = (port << 16) | (way.protocol === PROTOCOL_ICMP ? port : way.ports & 0xffff);
  }

  /** References to the mappings of the session that is about to open: its source's is made where there is none. False = no port is left for it. */
  hold(request: OpenRequest, way: Way, nowMs: number): boolean {
    if (way.pool !== null && hasNatPorts(request.context[3])) {
      if (way.mapping >= 0) this.table.hold(way.mapping);
      else {
        way.mapping = this.table.add(this.#insideOf(request, way.pool), this.#addressOf(request, way.pool), nowMs);
        if (way.mapping < 0) return false;
        if (way.downstream === null) this.#mapped(way);
      }
    }
    if (way.hairpin >= 0) this.table.hold(way.hairpin);
    return true;
  }

  /** The session does not open after all. */
  giveUp(way: Way, nowMs: number): void {
    for (const held of [way.mapping, way.hairpin]) if (held >= 0) this.table.release(held, nowMs);
  }

  /** The session has opened, and has the references. */
  opened(session: number, sessions: SessionTable, way: Way): void {
    sessions.setMapping(session, way.mapping);
    sessions.setHairpin(session, way.hairpin);
    this.goesOn(session, sessions);
  }

  /** Call it once of a session whose mappings are in its columns. */
  goesOn(session: number, sessions: SessionTable): void {
    const mapping = sessions.mappingOf(session);
    if (mapping >= 0) this.sessions.add(mapping, session);
  }

  closed(session: number, sessions: SessionTable, nowMs: number): void {
    const mapping = sessions.mappingOf(session);
    if (mapping >= 0) this.sessions.remove(mapping, session);
    for (const held of [mapping, sessions.hairpinOf(session)]) if (held >= 0) this.table.release(held, nowMs);
  }

  /** What the last router of a session that has `way` is to present; port 0: the source's own. */
  presented(request: OpenRequest, { pool, mapping }: Way): { address: number; port: number } {
    const { table } = this;
    if (mapping < 0) return { address: this.#addressOf(request, pool!), port: 0 };
    return { address: table.outside(mapping), port: table.outsidePort(mapping) };
  }

  /** The mapping of the host and port that ask, -1 = there is none yet, or the protocol has no ports. */
  #find(request: OpenRequest, pool: NatPool): number {
    return hasNatPorts(request.context[3]) ? this.table.find(this.#insideOf(request, pool)) : -1;
  }

  /** The outside address of the host that asks. */
  #addressOf(request: OpenRequest, { addresses }: NatPool): number {
    const host = scatter(scatter(originOf(request), request.tenant), request.context[0]);
    return addresses[(host >>> 0) % addresses.length];
  }

  /** The pool that has this outside address; null = none. */
  #poolWith(address: number): NatPool | null {
    return this.pools.find(({ addresses }) => addresses.includes(address)) ?? null;
  }

  #insideOf(request: OpenRequest, pool: NatPool): NatInside {
    const inside = this.#inside;
    inside.address = request.context[0];
    inside.port = request.context[2] >>> 16;
    inside.protocol = request.context[3];
    inside.tenant = request.tenant;
    inside.pool = pool.row;
    inside.origin = originOf(request);
    return inside;
  }
}

/** The source as the session's first router has it (attribute 25), where it says so. */
export function presentSource({ natAddress, natPort }: OpenRequest, way: Way): void {
  if (natAddress === 0) return;
  way.source = natAddress;
  if (natPort === 0 || !hasNatPorts(way.protocol)) return;
  way.ports = (natPort << 16) | (way.protocol === PROTOCOL_ICMP ? natPort : way.ports & 0xffff);
}

/** Of other protocols only the address is translated: a conversation of each with a destination at a time. */
export function hasNatPorts(protocol: number): boolean {
  return protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP || protocol === PROTOCOL_ICMP;
}

function originOf({ upstreamPath, interfaceId, sourceRouter }: OpenRequest): number {
  if (upstreamPath < 0) return ORIGIN_INTERFACE - interfaceId;
  return sourceRouter > 0 ? sourceRouter : ORIGIN_PATH - upstreamPath;
}
