// What the keys of a configuration mean together: references, overlaps, ties, and what this version does not do. Each
// function checks one section and reports every mistake it finds. Where a value had the wrong shape, that is reported
// already: the draft has "", 0, an empty list or a null item there, and nothing is concluded from those.

import { availableParallelism } from "node:os";
import { isName } from "../table/address-book.ts";
import { IPV6_MTU_MIN } from "../wire/ipv6.ts";
import {
  formatAddress,
  formatPrefix,
  type InterfaceAddress,
  isOnLinkOf,
  type Prefix,
  prefixBase,
  prefixesOverlap,
} from "./address-text.ts";
import type { Config, InterfaceConfig, ServiceConfig, ServiceRouteConfig, Transport } from "./config.ts";
import { checkSourceNat } from "./config-nat.ts";
import { checkNat, checkServicePolicies, checkWatch } from "./config-paths.ts";
import type { Draft, DraftList } from "./config-schema.ts";
import { checkSecurityPolicies } from "./config-security.ts";
import type { ConfigSource, Path } from "./config-source.ts";
import { nearest } from "./nearest.ts";

/** Report to `source` what is wrong with `draft` as a whole. Returns the configuration; trust it only without errors. */
export function checkMeaning(draft: Draft, source: ConfigSource): Config {
  for (const list of [
    draft.interfaces,
    draft.tenants,
    draft.services,
    draft.peers,
    draft.servicePolicies,
    draft.serviceClasses,
    draft.securityPolicies,
  ]) {
    checkNames(list, source);
  }
  checkLimits(draft, source);
  checkSessionLimits(draft, source);
  checkWorkers(draft, source);
  checkInterfaces(draft, source);
  checkTenants(draft, source);
  checkServices(draft, source);
  const serviceRoutes = checkRoutes(draft, source);
  checkSourceNat(draft, serviceRoutes, source);
  checkPeers(draft, source);
  checkSecurityReferences(draft, source);
  checkServiceClasses(draft, source);
  const securityPolicies = checkSecurityPolicies(draft, source);
  const peers = checkWatch(draft, source);
  checkNat(draft, peers, securityPolicies, source);
  const servicePolicies = checkServicePolicies(draft, source);
  const { bfd: _, mtuDiscovery: __, ...top } = draft.top;
  return {
    ...top,
    interfaces: present(draft.interfaces),
    tenants: present(draft.tenants),
    services: present(draft.services),
    serviceRoutes,
    peers,
    servicePolicies,
    serviceClasses: present(draft.serviceClasses),
    securityPolicies,
  };
}

function checkNames(list: DraftList<{ readonly name: string }>, source: ConfigSource): void {
  const seen = new Set<string>();
  for (const [index, item] of list.items.entries()) {
    if (item === null) continue;
    if (seen.has(item.name))
      source.error([list.key, index, "name"], `a second ${item.name} in ${list.key}`, "give each its own name");
    seen.add(item.name);
  }
}

function checkLimits(draft: Draft, source: ConfigSource): void {
  const { holdFrames, holdFramesPerNeighbor, neighbors } = draft.top.limits;
  if (holdFramesPerNeighbor > holdFrames) {
    const message = `hold-frames-per-neighbor (${holdFramesPerNeighbor}) is above hold-frames (${holdFrames})`;
    source.error(["limits", "hold-frames-per-neighbor"], message, "lower it, or raise hold-frames");
  }
  // Every path keeps a neighbor for its next hop as long as the router runs.
  const paths = present(draft.peers).reduce((count, peer) => count + peer.paths.length, 0);
  if (paths > neighbors) {
    source.error(
      ["limits", "neighbors"],
      `${paths} peer paths need more neighbors than ${neighbors}`,
      `write at least ${paths}`,
    );
  }
}

/** A limit above another that binds first is no mistake, but it does nothing. */
function checkSessionLimits(draft: Draft, source: ConfigSource): void {
  const { sessions, limits } = draft.top;
  const binds = (value: number | null, path: Path, other: number | null, otherName: string) => {
    if (value === null || other === null || value <= other) return;
    const key = String(path.at(-1));
    source.warning(
      path,
      `${key} (${value}) is above ${otherName} (${other}) and changes nothing`,
      `lower or remove it`,
    );
  };
  binds(limits.halfOpen, ["limits", "half-open"], sessions.max, "sessions.max");
  for (const [index, tenant] of draft.tenants.items.entries()) {
    if (tenant === null) continue;
    const path: Path = ["tenants", index];
    binds(tenant.maxSessions, [...path, "max-sessions"], sessions.max, "sessions.max");
    const [least, name] =
      tenant.maxSessions !== null && tenant.maxSessions < (limits.halfOpen ?? sessions.max)
        ? [tenant.maxSessions, "max-sessions"]
        : [limits.halfOpen ?? sessions.max, limits.halfOpen === null ? "sessions.max" : "limits.half-open"];
    binds(tenant.maxHalfOpen, [...path, "max-half-open"], least, name);
  }
}

function checkWorkers(draft: Draft, source: ConfigSource): void {
  const { workers, limits } = draft.top;
  const pairs = limits.waypointPairsPerPath;
  if (workers > pairs) {
    const message = `${workers} workers cannot share ${pairs} waypoint pairs a path`;
    source.error(["limits", "waypoint-pairs-per-path"], message, `write at least ${workers}, or lower workers`);
  }
  const processors = availableParallelism();
  if (workers > 1 && workers > processors) {
    const message = `${workers} workers, and this process may use ${processors} processors: they will wait for each other`;
    source.warning(["workers"], message, `write workers: ${processors}, or run it where there are more`);
  }
}

function checkInterfaces(draft: Draft, source: ConfigSource): void {
  const devices = new Map<string, InterfaceConfig>();
  const earlier: { name: string; address: InterfaceAddress }[] = [];
  for (const [index, item] of draft.interfaces.items.entries()) {
    if (item === null) continue;
    const path: Path = ["interfaces", index];
    const family = isIpv6(item) ? "IPv6" : "IPv4";
    const key = `${family} ${item.device}`;
    const user = devices.get(key);
    if (user !== undefined)
      source.error(
        [...path, "device"],
        `device ${item.device} is already interface ${user.name}`,
        "give each interface a device of its own; IPv4 and IPv6 of one device are two interfaces",
      );
    if (item.device !== "") devices.set(key, item);
    if (family === "IPv6") checkIpv6(item, path, source);
    else if (item.routerAdvertisements && item.addresses.length > 0)
      source.error(
        [...path, "router-advertisements"],
        `${item.name} is IPv4, which knows none`,
        "write it at the interface that has the device's IPv6",
        "key",
      );

    const own: typeof earlier = [];
    for (const [at, address] of item.addresses.entries()) {
      if (own.some((other) => other.address.address === address.address)) {
        source.error([...path, "addresses", at], `${formatAddress(address.address)} stands here twice`, "remove one");
      }
      const clash = earlier.find((other) => prefixesOverlap(other.address, address));
      if (clash !== undefined) {
        source.error(
          [...path, "addresses", at],
          `${formatPrefix(address)} overlaps ${formatPrefix(clash.address)} of interface ${clash.name}`,
          "give each interface a network of its own",
        );
      }
      if (isName(address.address) !== isIpv6(item)) {
        const message = `${formatPrefix(address)} is not of the family of the interface's first address`;
        source.error([...path, "addresses", at], message, "write a second interface for it, of the same device");
      }
      own.push({ name: item.name, address });
    }
    earlier.push(...own);

    if (item.tenant !== null) checkReference(draft.tenants, item.tenant, "tenant", [...path, "tenant"], source);
    checkNextHop(draft, item, item.gateway, [...path, "gateway"], source);
    if (item.kernel === "shared" && item.kernelAllow.length > 0) {
      source.warning(
        [...path, "kernel-allow"],
        "kernel-allow changes nothing under kernel: shared",
        "remove it, or write kernel: exclusive",
        "key",
      );
    }
    // How neighbors are found is of one family.
    const [foreign, wanted] = family === "IPv6" ? (["arp", "ndp"] as const) : (["ndp", "arp"] as const);
    for (const [at, { kind }] of item.kernelAllow.entries()) {
      if (kind !== foreign || item.addresses.length === 0) continue;
      source.error([...path, "kernel-allow", at], `${item.name} is ${family} and has no ${foreign}`, `write ${wanted}`);
    }
  }
}

/** What no IPv6 link may lack. */
function checkIpv6(item: InterfaceConfig, path: Path, source: ConfigSource): void {
  if (item.mtu !== null && item.mtu < IPV6_MTU_MIN)
    source.error(
      [...path, "mtu"],
      `an IPv6 link takes ${IPV6_MTU_MIN} bytes at least`,
      `write ${IPV6_MTU_MIN} or more`,
    );
}

function isIpv6(item: InterfaceConfig): boolean {
  return item.addresses.length > 0 && isName(item.addresses[0].address);
}

function checkTenants(draft: Draft, source: ConfigSource): void {
  const claims = new Map<string, string>();
  for (const [index, tenant] of draft.tenants.items.entries()) {
    for (const [at, member] of (tenant?.members ?? []).entries()) {
      const path: Path = ["tenants", index, "members", at];
      checkReference(draft.interfaces, member.interface, "interface", [...path, "interface"], source);
      for (const [which, prefix] of member.prefixes.entries()) {
        const claim = `${member.interface} ${formatPrefix(prefix)}`;
        const owner = claims.get(claim);
        if (owner !== undefined) {
          const message = `${formatPrefix(prefix)} on ${member.interface} is already a member of tenant ${owner}`;
          source.error(
            [...path, "prefixes", which],
            message,
            "give each tenant prefixes of its own; a longer prefix wins over a shorter one",
          );
        }
        claims.set(claim, tenant!.name);
      }
    }
  }
}

function checkServices(draft: Draft, source: ConfigSource): void {
  const routed = new Set(
    draft.serviceRoutes.items.map((route, index) => route?.service ?? source.at(["service-routes", index, "service"])),
  );
  const earlier = new Map<string, ServiceConfig[]>();
  for (const [index, service] of draft.services.items.entries()) {
    if (service === null) continue;
    const path: Path = ["services", index];
    for (const [at, tenant] of service.access.entries()) {
      checkReference(draft.tenants, tenant, "tenant", [...path, "access", at], source);
    }
    for (const [at, prefix] of service.addresses.entries()) {
      const key = formatPrefix(prefix);
      if (isName(prefix.address) !== isName(service.addresses[0].address)) {
        const message = `${key} is not of the family of the service's first prefix`;
        source.error([...path, "addresses", at], message, "write a second service for it");
      }
      const rivals = earlier.get(key) ?? [];
      if (rivals.includes(service)) source.error([...path, "addresses", at], `${key} stands here twice`, "remove one");
      const rival = rivals.find((other) => other.name !== service.name && servicesTie(other, service));
      if (rival !== undefined) {
        const message = `${key} ties with service ${rival.name}: same prefix, and transports that overlap`;
        source.error(
          [...path, "addresses", at],
          message,
          "give one of them a longer prefix, or transports that do not overlap",
        );
      }
      earlier.set(key, [...rivals, service]);
    }
    if (service.name !== "" && !routed.has(service.name)) {
      const message = `service ${service.name} has no service-route, so its sessions are dropped here`;
      source.warning([...path, "name"], message, `add { service: ${service.name}, peer: NAME } to service-routes`);
    }
    if (service.policy !== null) {
      checkReference(draft.servicePolicies, service.policy, "service policy", [...path, "policy"], source);
    }
  }
}

/** Whether some packet to a prefix of both would have no nearer service. */
function servicesTie(a: ServiceConfig, b: ServiceConfig): boolean {
  if (a.transports.length === 0 || b.transports.length === 0) return a.transports.length === b.transports.length;
  return a.transports.some((one) => b.transports.some((other) => transportsTie(one, other)));
}

function transportsTie(a: Transport, b: Transport): boolean {
  return a.protocol === b.protocol && a.rank === b.rank && a.from <= b.to && b.from <= a.to;
}

/** Returns the routes, each with its interface where only a target was written. */
function checkRoutes(draft: Draft, source: ConfigSource): ServiceRouteConfig[] {
  const seen = new Set<string>();
  const routes: ServiceRouteConfig[] = [];
  const checkTwice = (route: ServiceRouteConfig, path: Path, to: string, where: readonly unknown[]) => {
    const way = JSON.stringify([route.service, ...where]);
    if (seen.has(way) && route.service !== "")
      source.error(
        [...path, "service"],
        `service ${route.service} has a service-route ${to} above`,
        "remove one of the two",
      );
    seen.add(way);
  };
  for (const [index, item] of draft.serviceRoutes.items.entries()) {
    if (item === null) continue;
    const path: Path = ["service-routes", index];
    checkReference(draft.services, item.service, "service", [...path, "service"], source);
    if (item.peer !== null) {
      checkReference(draft.peers, item.peer, "peer", [...path, "peer"], source);
      checkTwice(item, path, `toward peer ${item.peer}`, [item.peer]);
      const local = (["interface", "gateway", "target"] as const).find((key) => item[key] !== null);
      if (local !== undefined) {
        const message = `a service-route toward a peer has no ${local}`;
        source.error([...path, local], message, `remove peer or ${local}`, "key");
      }
      routes.push(item);
      continue;
    }
    const route = { ...item, interface: item.interface ?? interfaceOfTarget(draft, item, path, source) };
    if (route.interface === null) continue;
    routes.push(route);
    checkReference(draft.interfaces, route.interface, "interface", [...path, "interface"], source);
    const out = find(draft.interfaces, route.interface);
    if (out !== null) checkLocalRoute(draft, route, out, path, source);
    checkTwice(route, path, "to the same place", [route.interface, route.gateway, route.target]);
  }
  return routes;
}

/** The interface that a route with nothing but a target (and a gateway) leaves by; null with an error reported. */
function interfaceOfTarget(draft: Draft, route: ServiceRouteConfig, path: Path, source: ConfigSource): string | null {
  if (route.target === null) {
    if (["peer", "interface", "target"].every((key) => source.at([...path, key]) === undefined)) {
      const mend = "add peer: NAME, or interface: NAME, or target: ADDRESS:PORT";
      source.error(path, "a service-route needs a peer, an interface or a target", mend);
    }
    return null;
  }
  const nextHop = route.gateway ?? route.target.address;
  const holder = present(draft.interfaces).find((item) => isOnLink(item, nextHop));
  if (holder !== undefined) return holder.name;
  source.error(
    [...path, "target"],
    `${formatAddress(nextHop)} is on-link on no interface`,
    "add interface: NAME, and gateway: ADDRESS if it needs one",
  );
  return null;
}

function checkLocalRoute(
  draft: Draft,
  route: ServiceRouteConfig,
  out: InterfaceConfig,
  path: Path,
  source: ConfigSource,
): void {
  const service = find(draft.services, route.service);
  const first = service?.addresses[0];
  if (first !== undefined && route.target !== null && isName(route.target.address) !== isName(first.address)) {
    const message = `${formatAddress(route.target.address)} is not of the family of service ${route.service}`;
    source.error([...path, "target"], message, "a packet keeps its family: write a target of that one");
  } else if (first !== undefined && out.addresses.length > 0 && isName(first.address) !== isIpv6(out)) {
    const message = `${out.name} is not of the family of service ${route.service}`;
    source.error([...path, "interface"], message, "name the interface that has its family");
  } else if (route.gateway !== null) {
    checkNextHop(draft, out, route.gateway, [...path, "gateway"], source);
  } else if (route.target !== null && !isOnLink(out, route.target.address) && out.gateway === null) {
    const message = `${formatAddress(route.target.address)} is not on-link on ${out.name}, which has no gateway`;
    source.error([...path, "target"], message, `add gateway: ADDRESS here or to interface ${out.name}`);
  } else if (route.target === null && out.gateway === null) {
    const onLink = (prefix: Prefix) => out.addresses.some((own) => prefixesOverlap(prefix, own));
    if (service !== null && service.addresses.length > 0 && !service.addresses.some(onLink)) {
      const message = `no address of service ${service.name} is on-link on ${out.name}, which has no gateway`;
      source.warning([...path, "interface"], message, "add gateway: ADDRESS or target: ADDRESS");
    }
  }
  if (route.target !== null) checkNotOwn(draft, route.target.address, [...path, "target"], source);
}

function checkPeers(draft: Draft, source: ConfigSource): void {
  const owners = new Map<number, string>();
  const used = new Map<string, string>();
  for (const [index, peer] of draft.peers.items.entries()) {
    if (peer === null) continue;
    for (const [at, peerPath] of peer.paths.entries()) {
      if (peerPath.address === 0) continue;
      const path: Path = ["peers", index, "paths", at];
      checkReference(draft.interfaces, peerPath.interface, "interface", [...path, "interface"], source);
      if (peerPath.address === null) continue; // config-paths.ts
      const address = formatAddress(peerPath.address);
      const out = find(draft.interfaces, peerPath.interface);
      if (out !== null && out.addresses.length > 0 && isName(peerPath.address) !== isIpv6(out)) {
        const message = `${address} is not of the family of interface ${out.name}`;
        source.error([...path, "address"], message, "name the interface that has its family, or mend the address");
      } else if (out !== null && !isOnLink(out, peerPath.address) && out.gateway === null) {
        const message = `${address} is not on-link on ${out.name}, which has no gateway`;
        source.error(
          [...path, "address"],
          message,
          `add gateway: ADDRESS to interface ${out.name}, or mend the address`,
        );
      }
      checkNotOwn(draft, peerPath.address, [...path, "address"], source);
      const owner = owners.get(peerPath.address);
      const key = `${peerPath.interface} ${address}`;
      if (owner !== undefined && owner !== peer.name) {
        source.error(
          [...path, "address"],
          `${address} is already peer ${owner}`,
          "give each peer addresses of its own",
        );
      } else if (used.has(key)) {
        source.error([...path, "address"], `a second path from ${peerPath.interface} to ${address}`, "remove one");
      }
      owners.set(peerPath.address, peer.name);
      used.set(key, peer.name);
    }
  }
}

function checkSecurityReferences(draft: Draft, source: ConfigSource): void {
  for (const list of [draft.services, draft.peers]) {
    for (const [index, item] of list.items.entries()) {
      if (item === null || item.security === null) continue;
      checkReference(draft.securityPolicies, item.security, "security policy", [list.key, index, "security"], source);
    }
  }
}

function checkServiceClasses(draft: Draft, source: ConfigSource): void {
  for (const [index, policy] of draft.servicePolicies.items.entries()) {
    if (policy === null) continue;
    const path: Path = ["service-policies", index];
    const { serviceClass, rewriteDscp } = policy;
    if (serviceClass !== null) {
      checkReference(draft.serviceClasses, serviceClass, "service class", [...path, "service-class"], source);
      if (!rewriteDscp) {
        const message = "service-class changes nothing without rewrite-dscp";
        source.warning([...path, "service-class"], message, "add rewrite-dscp: true", "key");
      }
    } else if (rewriteDscp && source.at([...path, "service-class"]) === undefined) {
      const message = "rewrite-dscp needs the class whose DSCP is written";
      source.error([...path, "rewrite-dscp"], message, "add service-class: NAME, of service-classes", "key");
    }
  }
}

function checkReference(list: DraftList<unknown>, name: string, what: string, path: Path, source: ConfigSource): void {
  if (name === "" || list.names.has(name)) return;
  const known = [...list.names];
  const near = nearest(name, known);
  const shown = known.length > 10 ? `${known.slice(0, 10).join(", ")} and ${known.length - 10} more` : known.join(", ");
  const mend =
    known.length === 0
      ? `add it to ${list.key}`
      : `${near === null ? "" : `did you mean ${near}? `}known ${list.key}: ${shown}`;
  source.error(path, `there is no ${what} ${name}`, mend);
}

/** A gateway must be a neighbor, and not ourselves. */
function checkNextHop(
  draft: Draft,
  out: InterfaceConfig,
  gateway: number | null,
  path: Path,
  source: ConfigSource,
): void {
  if (gateway === null) return;
  if (!isOnLink(out, gateway)) {
    const message = `gateway ${formatAddress(gateway)} is not on-link on ${out.name}`;
    source.error(
      path,
      message,
      `write an address inside ${out.addresses.map((own) => formatPrefix(networkOf(own))).join(" or ")}`,
    );
  } else checkNotOwn(draft, gateway, path, source);
}

function checkNotOwn(draft: Draft, address: number, path: Path, source: ConfigSource): void {
  const owner = present(draft.interfaces).find((item) => item.addresses.some((own) => own.address === address));
  if (owner !== undefined) {
    source.error(
      path,
      `${formatAddress(address)} is this router's own address on ${owner.name}`,
      "write the other station's address",
    );
  }
}

/** Also true where nothing is known of the interface's addresses. */
function isOnLink(item: InterfaceConfig, address: number): boolean {
  return item.addresses.length === 0 || isOnLinkOf(item.addresses, address);
}

function networkOf(own: InterfaceAddress): Prefix {
  return { address: prefixBase(own.address, own.length), length: own.length };
}

function find<T extends { readonly name: string }>(list: DraftList<T>, name: string): T | null {
  return list.items.find((item) => item?.name === name && name !== "") ?? null;
}

function present<T>(list: DraftList<T>): T[] {
  return list.items.filter((item) => item !== null);
}
