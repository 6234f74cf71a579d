// Config → what the planes below run on: interfaces, policy, peer paths. Names become row numbers, prefixes become
// tries. The configuration was checked, so nothing here can fail for an operator's mistake.

import { getI32, getU16 } from "../base/bytes.ts";
import { scatter } from "../base/hash.ts";
import { invariant } from "../base/invariant.ts";
import type { Security } from "../crypto/key-ring.ts";
import type { PortInfo } from "../io/port.ts";
import type { NeighborTable } from "../peer/neighbor.ts";
import { PeerPath } from "../peer/peer-path.ts";
import { nextHopAddress, type RouterInterface, sourceAddressFor } from "../peer/router-interface.ts";
import { Policy, type Service, type ServiceTransport } from "../session/policy.ts";
import { ServiceLoads } from "../session/service-loads.ts";
import {
  inOrder,
  type LocalRoute,
  type PeerServicePath,
  type ServicePath,
  type ServicePolicy,
  VECTOR_NEVER,
  VECTOR_UNLISTED,
} from "../session/service-route.ts";
import type { NatPool } from "../session/source-nat.ts";
import { isName } from "../table/address-book.ts";
import { PrefixTrie } from "../table/prefix-trie.ts";
import { formatAddress, type Prefix, prefixHolds } from "./address-text.ts";
import type {
  Config,
  InterfaceConfig,
  ServiceClassConfig,
  ServiceConfig,
  ServicePolicyConfig,
  ServiceRouteConfig,
} from "./config.ts";

const text = new TextEncoder();
const EVERY_PROTOCOL: ServiceTransport = { protocol: -1, from: 0, to: 65535, rank: 0 };

/** The router's interfaces, in the configuration's order. `ports[i]` is what interface i's port says of itself. */
export function compileInterfaces(
  config: Config,
  ports: readonly PortInfo[],
  acceptAnyMac: boolean,
): RouterInterface[] {
  return config.interfaces.map((item, id) => ({
    id,
    name: item.name,
    device: item.device,
    addresses: item.addresses,
    natAddresses: natAddressesOn(config, item),
    gateway: item.gateway,
    tenant: config.tenants.findIndex((tenant) => tenant.name === item.tenant),
    isIpv6: isName(item.addresses[0].address),
    isMirror: false,
    answersEcho: item.kernel === "exclusive",
    acceptAnyMac,
    macHigh: getU16(ports[id].mac, 0),
    macLow: getI32(ports[id].mac, 2),
    mtu: ports[id].mtu,
  }));
}

/**
 * The interface that has no device, behind the others: what source NAT sends back inside, to hosts behind peers
 * (session/inward.ts). Null where there are none.
 */
export function compileMirror(config: Config, interfaces: readonly RouterInterface[]): RouterInterface | null {
  const translating = config.serviceRoutes.filter(({ sourceNat }) => sourceNat !== null);
  if (translating.length === 0 || config.peers.length === 0) return null;
  const outs = translating.map((route) => interfaceNamed(interfaces, route.interface ?? ""));
  const [out] = outs;
  const { address } = out.addresses[0];
  return {
    ...out,
    id: interfaces.length,
    name: MIRROR_NAME,
    device: "",
    addresses: [{ address, length: isName(address) ? 128 : 32 }],
    natAddresses: [],
    gateway: null,
    tenant: -1,
    isMirror: true,
    // Packets of both families pass it in the one form inside.
    isIpv6: outs.some(({ isIpv6 }) => isIpv6),
    answersEcho: false,
    acceptAnyMac: true,
    macHigh: 0,
    macLow: 0,
    mtu: Math.max(...interfaces.map(({ mtu }) => mtu)),
  };
}

/** No configured interface can have this name. */
const MIRROR_NAME = "(mirror)";

/** Of the pools of routes that leave by `item`, those that are on-link there: neighbors ask for them. */
export function natAddressesOn(config: Config, item: InterfaceConfig): number[] {
  const pools = config.serviceRoutes.flatMap(({ interface: out, sourceNat }) =>
    out !== item.name || sourceNat === null || sourceNat === "interface" ? [] : addressesOf(sourceNat),
  );
  return [...new Set(pools)].filter((address) => item.addresses.some((own) => prefixHolds(own, address)));
}

function addressesOf(prefixes: readonly Prefix[]): number[] {
  return prefixes.flatMap(({ address, length }) =>
    isName(address) ? [address] : Array.from({ length: 2 ** (32 - length) }, (_, n) => address + n),
  );
}

/**
 * One path per configured peer path, in order, with the port pairs of worker `worker` of `workers`. Each next hop is
 * wanted from the neighbors for good, as soon as the peer's address is known.
 */
export function compilePaths(
  config: Config,
  interfaces: readonly RouterInterface[],
  neighbors: NeighborTable,
  worker = 0,
  workers = 1,
  securities: Securities = new Map(),
): PeerPath[] {
  const paths: PeerPath[] = [];
  for (const [peerRow, peer] of config.peers.entries()) {
    for (const path of peer.paths) {
      const at = interfaceNamed(interfaces, path.interface);
      const isDynamic = path.address === null;
      const local = sourceAddressFor(at, path.address ?? at.gateway ?? at.addresses[0].address);
      const nextHop = path.address === null ? -1 : wantNextHop(at, path.address, peer.name, neighbors);
      paths.push(
        new PeerPath({
          row: paths.length,
          peer: peerRow,
          peerName: peer.name,
          interfaceId: at.id,
          local,
          remote: path.address ?? 0,
          vector: path.vector ?? "",
          cost: path.cost,
          mode: path.mode,
          bfd: path.bfd,
          ttlPadding: path.ttlPadding,
          udpTransform: path.udpTransform,
          mtuDiscovery: path.mtuDiscovery,
          mtu: at.mtu,
          pathId: text.encode(formatAddress(local)),
          nextHop,
          nat: {
            isDynamic,
            isOutboundOnly: path.connectivity === "outbound-only",
            keepAliveMs: path.natKeepAliveMs,
          },
          security: securityNamed(securities, peer.security),
          portPairs: config.limits.waypointPairsPerPath,
          worker,
          workers,
        }),
      );
    }
  }
  return paths;
}

function wantNextHop(at: RouterInterface, address: number, peer: string, neighbors: NeighborTable): number {
  const hop = nextHopAddress(at, address);
  invariant(hop !== null, `peer ${peer}: no next hop for ${formatAddress(address)}`);
  const row = neighbors.want(at.id, hop, 0);
  invariant(row >= 0, "limits.neighbors is smaller than the number of peer paths");
  neighbors.acquire(row);
  return row;
}

export function compilePolicy(
  config: Config,
  interfaces: readonly RouterInterface[],
  paths: readonly PeerPath[],
  securities: Securities = new Map(),
  workers = 1,
): Policy {
  const tenants = config.tenants.map(({ name, maxSessions, maxHalfOpen, refused }, row) => ({
    row,
    name,
    nameBytes: text.encode(name),
    maxSessions: maxSessions ?? Number.POSITIVE_INFINITY,
    maxHalfOpen: maxHalfOpen ?? Number.POSITIVE_INFINITY,
    rejects: refused === "reject",
  }));
  const policies = [
    DEFAULT_POLICY,
    ...config.servicePolicies.map((policy, index) => compileServicePolicy(policy, index, config.serviceClasses)),
  ];
  const servicePaths: ServicePath[] = [];
  const natPools: NatPool[] = [];
  const services = config.services.map((service, row) =>
    compileService(config, service, row, interfaces, paths, securities, policies, servicePaths, natPools),
  );
  // Services that share a prefix share its group: the more specific transport of a group wins.
  const groupOf = new Map<string, { service: number; transport: ServiceTransport }[]>();
  const destinations = new PrefixTrie(services.reduce((count, service) => count + service.prefixes.length, 0));
  for (const service of services) {
    for (const { address, length } of service.prefixes) {
      const prefix = `${address}/${length}`;
      const group = groupOf.get(prefix) ?? [];
      if (group.length === 0) destinations.insert(address, length, groupOf.size);
      groupOf.set(prefix, group);
      for (const transport of service.transports) group.push({ service: service.row, transport });
    }
  }
  const groups = [...groupOf.values()];
  for (const group of groups) group.sort((a, b) => b.transport.rank - a.transport.rank);
  return new Policy({
    tenants,
    services,
    servicePolicies: policies,
    natPools,
    ingressPools: config.interfaces.map(({ sourceNatPool }) =>
      sourceNatPool.length === 0 ? null : poolOf(addressesOf(sourceNatPool), natPools),
    ),
    loads: new ServiceLoads({
      servicePaths,
      services: services.length,
      serviceRoutes: config.serviceRoutes.length,
      peers: config.peers.length,
      workers,
    }),
    members: interfaces.map((at) => compileMembers(config, at.name)),
    interfaceTenant: interfaces.map((at) => at.tenant),
    destinations,
    groups,
  });
}

function compileMembers(config: Config, interfaceName: string): PrefixTrie | null {
  const prefixes = config.tenants.flatMap((tenant, row) =>
    tenant.members
      .filter((member) => member.interface === interfaceName)
      .flatMap((member) => member.prefixes.map((prefix) => ({ ...prefix, row }))),
  );
  if (prefixes.length === 0) return null;
  const trie = new PrefixTrie(prefixes.length);
  for (const { address, length, row } of prefixes) trie.insert(address, length, row);
  return trie;
}

/** Of services that name none: who has several paths expects failover. */
const DEFAULT_POLICY: ServicePolicy = compileServicePolicy(
  {
    name: "",
    strategy: "hunt",
    resiliency: "failover",
    transportState: "reset",
    serviceClass: null,
    rewriteDscp: false,
    preserveDscp: false,
    maxLossPercent: null,
    maxLatencyMs: null,
    maxJitterMs: null,
    minMos: null,
    bestEffort: true,
  },
  -1,
  [],
);

function compileServicePolicy(
  policy: Omit<ServicePolicyConfig, "vectors">,
  index: number,
  classes: readonly ServiceClassConfig[],
): ServicePolicy {
  const { name, strategy, resiliency, transportState, bestEffort } = policy;
  return {
    row: index + 1,
    name,
    strategy,
    resiliency,
    transportState,
    rewriteDscp: policy.rewriteDscp ? (classes.find(({ name }) => name === policy.serviceClass)?.dscp ?? -1) : -1,
    preservesDscp: policy.preserveDscp,
    maxLossPercent: policy.maxLossPercent ?? Number.POSITIVE_INFINITY,
    maxLatencyMs: policy.maxLatencyMs ?? Number.POSITIVE_INFINITY,
    maxJitterMs: policy.maxJitterMs ?? Number.POSITIVE_INFINITY,
    minMos: policy.minMos ?? 0,
    bestEffort,
  };
}

/** Adds the service's paths to `servicePaths`, where their index is their row, and to `natPools` what there is not yet. */
function compileService(
  config: Config,
  service: ServiceConfig,
  row: number,
  interfaces: readonly RouterInterface[],
  paths: readonly PeerPath[],
  securities: Securities,
  policies: readonly ServicePolicy[],
  servicePaths: ServicePath[],
  natPools: NatPool[],
): Service {
  const localRoutes: LocalRoute[] = [];
  const peerPaths: PeerServicePath[] = [];
  const vectors = config.servicePolicies.find(({ name }) => name === service.policy)?.vectors ?? [];
  for (const [serviceRoute, route] of config.serviceRoutes.entries()) {
    if (route.service !== service.name) continue;
    const maxSessions = route.maxSessions ?? Number.POSITIVE_INFINITY;
    const common = { service: row, serviceRoute, maxSessions };
    if (route.peer === null) {
      const local: LocalRoute = {
        ...common,
        row: servicePaths.length,
        ...compileLocalRoute(route, interfaces, natPools),
      };
      servicePaths.push(local);
      localRoutes.push(local);
      continue;
    }
    for (const path of paths.filter(({ peerName }) => peerName === route.peer)) {
      const item = vectors.find(({ name }) => name === path.vector)?.priority ?? VECTOR_UNLISTED;
      const peerPath: PeerServicePath = {
        ...common,
        row: servicePaths.length,
        path: path.row,
        peer: path.peer,
        cost: route.cost * path.cost,
        priority: item === "never" ? VECTOR_NEVER : item,
      };
      servicePaths.push(peerPath);
      peerPaths.push(peerPath);
    }
  }
  const policy = policies.find(({ name }) => name === (service.policy ?? ""));
  invariant(policy !== undefined, `no service policy ${service.policy}`);
  return {
    row,
    name: service.name,
    nameBytes: text.encode(service.name),
    prefixes: service.addresses,
    transports: service.transports.length === 0 ? [EVERY_PROTOCOL] : service.transports,
    // A grant to a tenant covers its children (child.parent).
    allowed: config.tenants.map(({ name }) =>
      service.access.some((granted) => name === granted || name.endsWith(`.${granted}`)),
    ),
    policy,
    localRoutes,
    peerRoute: peerPaths.length === 0 ? null : { kind: "peer", policy, paths: inOrder(peerPaths) },
    security: securityNamed(securities, service.security),
  };
}

function compileLocalRoute(
  route: ServiceRouteConfig,
  interfaces: readonly RouterInterface[],
  natPools: NatPool[],
): Omit<LocalRoute, keyof ServicePath> & { cost: number } {
  invariant(route.interface !== null, `service-route of ${route.service} has neither peer nor interface`);
  const { service, interface: out, gateway, target, cost } = route;
  const at = interfaceNamed(interfaces, out);
  const place = text.encode(JSON.stringify([service, out, gateway, target]));
  return {
    kind: "interface",
    interfaceId: at.id,
    gateway,
    target,
    sourceNat: compileNatPool(route, at, natPools),
    cost,
    identity: place.reduce(scatter, 0),
  };
}

/** The pool of the route's addresses, which others may have too. */
function compileNatPool(
  { sourceNat, gateway, target }: ServiceRouteConfig,
  at: RouterInterface,
  pools: NatPool[],
): NatPool | null {
  if (sourceNat === null) return null;
  const toward = gateway ?? target?.address ?? at.gateway ?? at.addresses[0].address;
  const addresses = sourceNat === "interface" ? [sourceAddressFor(at, toward)] : addressesOf(sourceNat);
  return poolOf(addresses, pools);
}

function poolOf(addresses: readonly number[], pools: NatPool[]): NatPool {
  const known = pools.find((pool) => pool.addresses.join() === addresses.join());
  if (known !== undefined) return known;
  const pool = { row: pools.length, addresses };
  pools.push(pool);
  return pool;
}

/** Security policies by name. */
export type Securities = ReadonlyMap<string, Security>;

function securityNamed(securities: Securities, name: string | null): Security | null {
  if (name === null) return null;
  const security = securities.get(name);
  // Fail closed: what is to be encrypted or signed must never leave in clear for want of its keys.
  invariant(security !== undefined, `no security policy ${name}`);
  return security;
}

function interfaceNamed(interfaces: readonly RouterInterface[], name: string): RouterInterface {
  const found = interfaces.find((at) => at.name === name);
  invariant(found !== undefined, `no interface ${name}`);
  return found;
}
