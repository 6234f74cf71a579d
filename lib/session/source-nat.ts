// Source NAT where a session leaves to a plain network, or where it begins, for its last router to present (attribute 25): which outside address a host has, and the mapping of each of its ports
// (table/nat-table.ts). Like waypoint ports it is compiled into the session's rewrite plan when the session is opened, so the
// forwarding of packets knows nothing of it.
//
//   host 10.1.0.2:40000 ──► any destination          192.0.2.7:16384 ──► the same destination
//        └ of a tenant, behind a router (the origin)       └ of a pool: the same for all of them, for as long as a session has it
//
// Two hosts with one address are told apart by tenant and origin, so networks may overlap (RFC 4787 calls them realms). A host has
// one address of a pool (address pooling "paired", REQ-2): a hash chooses it, so that it has the same after a restart. When that
// one's ports are in use the session is refused (drop.nat-ports), and no other address is taken.

import { scatter } from "../base/hash.ts";
import { type NatInside, type NatTable, ORIGIN_INTERFACE, ORIGIN_PATH } from "../table/nat-table.ts";
import { PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } from "../wire/flow-key.ts";

/** Outside addresses of service-routes: those that name the same ones share their mappings. */
export interface NatPool {
  readonly row: number;
  /** At least one. */
  readonly addresses: readonly number[];
}

/** What is asked of a session that is about to open (open.ts). */
export interface NatRequest {
  /** Source, destination, ports, protocol. */
  readonly context: Int32Array;
  readonly tenant: number;
  readonly upstreamPath: number;
  readonly interfaceId: number;
  readonly sourceRouter: number;
}

export class SourceNat {
  readonly table: NatTable;
  readonly pools: readonly NatPool[];
  /** By interface: of sessions that begin there and go to a peer; null = none. */
  readonly #ingress: readonly (NatPool | null)[];
  readonly #inside: { -readonly [K in keyof NatInside]: NatInside[K] } = {
    address: 0,
    port: 0,
    protocol: 0,
    tenant: 0,
    pool: 0,
    origin: 0,
  };

  constructor(table: NatTable, pools: readonly NatPool[], ingress: readonly (NatPool | null)[]) {
    this.#ingress = ingress;
    this.table = table;
    this.pools = pools;
  }

  /** The mapping of the host and port that ask, -1 = there is none yet, or the protocol has no ports. */
  find(request: NatRequest, pool: NatPool): number {
    return hasNatPorts(request.context[3]) ? this.table.find(this.#insideOf(request, pool)) : -1;
  }

  /** A new mapping of what has none, referenced once; -1 = the host's address has no port left. */
  add(request: NatRequest, pool: NatPool, nowMs: number): number {
    return this.table.add(this.#insideOf(request, pool), this.addressOf(request, pool), nowMs);
  }

  /** The outside address of the host that asks. */
  addressOf(request: NatRequest, { addresses }: NatPool): number {
    const host = scatter(scatter(originOf(request), request.tenant), request.context[0]);
    return addresses[(host >>> 0) % addresses.length];
  }

  /** The pool of a session toward a peer: it is this router's to choose where the session begins. */
  ingressPool({ upstreamPath, interfaceId }: NatRequest): NatPool | null {
    return upstreamPath < 0 ? this.#ingress[interfaceId] : null;
  }

  /** The pool that has this outside address; null = none. */
  poolWith(address: number): NatPool | null {
    return this.pools.find(({ addresses }) => addresses.includes(address)) ?? null;
  }

  /**
   * Hairpinning (RFC 4787, REQ-9): the mapping of a host on this router's own networks that a session to this outside address and
   * port is for; -1 = there is none, or it is not the tenant's own: then the host is out of reach, as from outside.
   */
  behind(address: number, port: number, protocol: number, tenant: number): number {
    const mapping = this.table.withOutside(address, port, protocol);
    if (mapping < 0 || this.table.insideInterface(mapping) < 0) return -1;
    return this.table.tenant(mapping) === tenant ? mapping : -1;
  }

  #insideOf(request: NatRequest, pool: NatPool): NatInside {
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

/** Of other protocols only the address is translated: a conversation of each with a destination at a time. */
export function hasNatPorts(protocol: number): boolean {
  return protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP || protocol === PROTOCOL_ICMP;
}

function originOf({ upstreamPath, interfaceId, sourceRouter }: NatRequest): number {
  if (upstreamPath < 0) return ORIGIN_INTERFACE - interfaceId;
  return sourceRouter > 0 ? sourceRouter : ORIGIN_PATH - upstreamPath;
}
