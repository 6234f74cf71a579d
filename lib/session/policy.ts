// Policy, compiled: who a source is (tenant), what a destination is (service), who may use it, and how it is reached.
// Immutable once built by control/compile.ts, but for the counts in `loads`; the same object answers for live traffic,
// replay and explain.

import type { Security } from "../crypto/key-ring.ts";
import { sharesPrefix } from "../table/address-book.ts";
import type { PrefixTrie } from "../table/prefix-trie.ts";
import type { ServiceLoads } from "./service-loads.ts";
import type { LocalRoute, PeerRoute, ServicePolicy } from "./service-route.ts";
import type { NatPool } from "./source-nat.ts";

/** One transport of a service; an empty list of transports was compiled to one that matches everything. */
export interface ServiceTransport {
  /** IP protocol, -1 = every protocol. */
  readonly protocol: number;
  /** Destination ports, inclusive; ignored where the protocol has none. */
  readonly from: number;
  readonly to: number;
  /** 2 = ports given, 1 = protocol only, 0 = everything: the more specific wins at the same prefix. */
  readonly rank: number;
}

export interface Service {
  readonly row: number;
  readonly name: string;
  readonly nameBytes: Uint8Array;
  readonly prefixes: readonly { readonly address: number; readonly length: number }[];
  readonly transports: readonly ServiceTransport[];
  /** allowed[tenant row]. */
  readonly allowed: readonly boolean[];
  readonly policy: ServicePolicy;
  /** Local destinations, taken before any peer; and the way toward peers, null = none. */
  readonly localRoutes: readonly LocalRoute[];
  readonly peerRoute: PeerRoute | null;
  /** How payloads of its sessions are encrypted between the first and the last router; null = not at all. */
  readonly security: Security | null;
}

export interface Tenant {
  readonly row: number;
  readonly name: string;
  readonly nameBytes: Uint8Array;
  /** How many sessions it may have, and how many half-open ones among them; Infinity = as many as there is room for. */
  readonly maxSessions: number;
  readonly maxHalfOpen: number;
  /** Its hosts are told of what is refused (RFC 1812, 5.2.7.1); else it is dropped without a word. */
  readonly rejects: boolean;
}

export class Policy {
  readonly tenants: readonly Tenant[];
  readonly services: readonly Service[];
  readonly servicePolicies: readonly ServicePolicy[];
  readonly natPools: readonly NatPool[];
  /** By interface: of sessions that begin there and go to a peer; null = none. */
  readonly ingressPools: readonly (NatPool | null)[];
  /** How many sessions each service path has. */
  readonly loads: ServiceLoads;
  readonly #tenantByName: ReadonlyMap<string, number>;
  readonly #serviceByName: ReadonlyMap<string, number>;
  /** Per interface: source prefix → tenant row; and the tenant of every other source, -1 = none. */
  readonly #members: readonly (PrefixTrie | null)[];
  readonly #interfaceTenant: readonly number[];
  /** Destination prefix → row in #groups: the services that have this prefix, most specific transport first. */
  readonly #destinations: PrefixTrie;
  readonly #groups: readonly (readonly { service: number; transport: ServiceTransport }[])[];
  readonly #matches = new Int32Array(129);

  constructor(parts: {
    tenants: readonly Tenant[];
    services: readonly Service[];
    servicePolicies: readonly ServicePolicy[];
    natPools: readonly NatPool[];
    ingressPools: readonly (NatPool | null)[];
    loads: ServiceLoads;
    members: readonly (PrefixTrie | null)[];
    interfaceTenant: readonly number[];
    destinations: PrefixTrie;
    groups: readonly (readonly { service: number; transport: ServiceTransport }[])[];
  }) {
    this.tenants = parts.tenants;
    this.services = parts.services;
    this.servicePolicies = parts.servicePolicies;
    this.natPools = parts.natPools;
    this.ingressPools = parts.ingressPools;
    this.loads = parts.loads;
    this.#tenantByName = new Map(parts.tenants.map((tenant) => [tenant.name, tenant.row]));
    this.#serviceByName = new Map(parts.services.map((service) => [service.name, service.row]));
    this.#members = parts.members;
    this.#interfaceTenant = parts.interfaceTenant;
    this.#destinations = parts.destinations;
    this.#groups = parts.groups;
  }

  /** The tenant of a source on an interface: longest member prefix, else the interface's own; -1 = none. */
  tenantOf(interfaceId: number, source: number): number {
    const member = this.#members[interfaceId]?.find(source) ?? -1;
    return member >= 0 ? member : this.#interfaceTenant[interfaceId];
  }

  /**
   * The service of a destination: from the longest matching prefix to shorter ones, the first that has the transport;
   * at one prefix the more specific transport. -1 = none.
   */
  serviceOf(destination: number, protocol: number, destinationPort: number): number {
    const count = this.#destinations.matches(destination, this.#matches);
    for (let i = 0; i < count; i++) {
      for (const entry of this.#groups[this.#matches[i]]) {
        if (carries(entry.transport, protocol, destinationPort)) return entry.service;
      }
    }
    return -1;
  }

  /** Whether a service has this very address, and leads it to a target: then it is forwarded even where it is our own. */
  forwards(destination: number, protocol: number, destinationPort: number): boolean {
    const row = this.serviceOf(destination, protocol, destinationPort);
    if (row < 0) return false;
    const { prefixes, localRoutes } = this.services[row];
    const isMeant = prefixes.some(({ address, length }) => length === 32 && address === destination);
    return isMeant && localRoutes.some(({ target }) => target !== null && target.address !== destination);
  }

  /** Row of the tenant or service with this name; -1 = none. */
  tenantNamed(name: string): number {
    return this.#tenantByName.get(name) ?? -1;
  }

  serviceNamed(name: string): number {
    return this.#serviceByName.get(name) ?? -1;
  }

  /** Whether a destination that a peer's metadata gives lies inside the service it names. */
  contains(service: number, destination: number, protocol: number, destinationPort: number): boolean {
    const { prefixes, transports } = this.services[service];
    return (
      prefixes.some(({ address, length }) => sharesPrefix(address, destination, length)) &&
      transports.some((transport) => carries(transport, protocol, destinationPort))
    );
  }
}

function carries(transport: ServiceTransport, protocol: number, port: number): boolean {
  if (transport.protocol === -1) return true;
  return transport.protocol === protocol && (transport.rank < 2 || (port >= transport.from && port <= transport.to));
}
