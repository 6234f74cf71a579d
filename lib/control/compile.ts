// Config → what the planes below run on: interfaces, policy, peer paths. Names become row numbers, prefixes become
// tries. The configuration was checked, so nothing here can fail for an operator's mistake.

import { getI32, getU16 } from "../base/bytes.ts";
import { invariant } from "../base/invariant.ts";
import type { Security } from "../crypto/key-ring.ts";
import type { PortInfo } from "../io/port.ts";
import type { NeighborTable } from "../peer/neighbor.ts";
import { PeerPath } from "../peer/peer-path.ts";
import { nextHopAddress, type RouterInterface, sourceAddressFor } from "../peer/router-interface.ts";
import { Policy, type Service, type ServiceRoute, type ServiceTransport } from "../session/policy.ts";
import { PrefixTrie } from "../table/prefix-trie.ts";
import { formatAddress } from "./address-text.ts";
import type { Config, ServiceConfig, ServiceRouteConfig } from "./config.ts";

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
    gateway: item.gateway,
    tenant: config.tenants.findIndex((tenant) => tenant.name === item.tenant),
    answersEcho: item.kernel === "exclusive",
    acceptAnyMac,
    macHigh: getU16(ports[id].mac, 0),
    macLow: getI32(ports[id].mac, 2),
    mtu: ports[id].mtu,
  }));
}

/**
 * One path per configured peer path, in order, with the port pairs of worker `worker` of `workers`. Each next hop is
 * wanted from the neighbors for good.
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
  for (const peer of config.peers) {
    for (const path of peer.paths) {
      const at = interfaceNamed(interfaces, path.interface);
      const local = sourceAddressFor(at, path.address);
      const hop = nextHopAddress(at, path.address);
      invariant(hop !== null, `peer ${peer.name}: no next hop for ${formatAddress(path.address)}`);
      const nextHop = neighbors.want(at.id, hop, 0);
      invariant(nextHop >= 0, "limits.neighbors is smaller than the number of peer paths");
      neighbors.acquire(nextHop);
      paths.push(
        new PeerPath({
          row: paths.length,
          peerName: peer.name,
          interfaceId: at.id,
          local,
          remote: path.address,
          vector: path.vector ?? "",
          pathId: text.encode(formatAddress(local)),
          nextHop,
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

export function compilePolicy(
  config: Config,
  interfaces: readonly RouterInterface[],
  paths: readonly PeerPath[],
  securities: Securities = new Map(),
): Policy {
  const tenants = config.tenants.map(({ name, maxSessions, maxHalfOpen }, row) => ({
    row,
    name,
    nameBytes: text.encode(name),
    maxSessions: maxSessions ?? Number.POSITIVE_INFINITY,
    maxHalfOpen: maxHalfOpen ?? Number.POSITIVE_INFINITY,
  }));
  const services = config.services.map((service, row) =>
    compileService(config, service, row, interfaces, paths, securities),
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

function compileService(
  config: Config,
  service: ServiceConfig,
  row: number,
  interfaces: readonly RouterInterface[],
  paths: readonly PeerPath[],
  securities: Securities,
): Service {
  const route = config.serviceRoutes.find((candidate) => candidate.service === service.name);
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
    route: route === undefined ? null : compileRoute(route, interfaces, paths),
    security: securityNamed(securities, service.security),
  };
}

function compileRoute(
  route: ServiceRouteConfig,
  interfaces: readonly RouterInterface[],
  paths: readonly PeerPath[],
): ServiceRoute {
  if (route.peer !== null) {
    return {
      kind: "peer",
      peer: route.peer,
      paths: paths.filter((path) => path.peerName === route.peer).map((path) => path.row),
    };
  }
  invariant(route.interface !== null, `service-route of ${route.service} has neither peer nor interface`);
  return {
    kind: "interface",
    interfaceId: interfaceNamed(interfaces, route.interface).id,
    gateway: route.gateway,
    target: route.target,
  };
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
