// What source NAT of service-routes means beside the rest of a configuration. Each function checks one thing and reports every
// mistake it finds, as in config-check.ts.

import { isName } from "../table/address-book.ts";
import { formatAddress, formatPrefix, type Prefix, prefixesOverlap, prefixHolds, prefixMask } from "./address-text.ts";
import type { InterfaceConfig, ServiceRouteConfig } from "./config.ts";
import type { Draft } from "./config-schema.ts";
import type { ConfigSource, Path } from "./config-source.ts";

/** Addresses of all pools together: each has its ports in memory from the start (table/nat-table.ts). */
export const NAT_ADDRESSES_MAX = 256;

/** Report what is wrong with the source NAT of the draft's service-routes. */
export function checkSourceNat(draft: Draft, routes: readonly ServiceRouteConfig[], source: ConfigSource): void {
  const translating = draft.serviceRoutes.items.flatMap((item, index) => {
    if (item === null || item.sourceNat === null) return [];
    // A route that had a target alone has its interface now.
    const out = routes.find((route) => route.sourceNat === item.sourceNat)?.interface ?? item.interface;
    return [{ route: { ...item, interface: out }, path: ["service-routes", index] as Path }];
  });
  for (const { route, path } of translating) {
    const key = route.sourceNat === "interface" ? "source-nat" : "source-nat-pool";
    if (source.at([...path, "source-nat"]) !== undefined && source.at([...path, "source-nat-pool"]) !== undefined)
      source.error(
        [...path, "source-nat-pool"],
        "source-nat and source-nat-pool exclude each other",
        "remove one",
        "key",
      );
    if (route.peer !== null) {
      const mend = "write it at the router where the sessions leave, on the route out of an interface";
      source.error([...path, key], `a service-route toward a peer has no ${key}`, mend, "key");
      continue;
    }
    if (draft.top.workers > 1) {
      const message = `${key} and ${draft.top.workers} workers: a host's ports would not be the same at each`;
      source.error([...path, key], message, "write workers: 1", "key");
    }
    const out = draft.interfaces.items.find((item) => item?.name === route.interface) ?? null;
    if (out !== null && checkFamily(route.sourceNat, out, [...path, key], source))
      checkPool(draft, route, out, [...path, key], source);
  }
  checkIngress(draft, source);
  const ofInterfaces = draft.interfaces.items.reduce((sum, item) => sum + sizeOf(item?.sourceNatPool ?? []), 0);
  const addresses = translating.reduce((sum, { route }) => sum + sizeOf(route.sourceNat), ofInterfaces);
  if (addresses > NAT_ADDRESSES_MAX) {
    const path: Path = translating.at(-1)?.path ?? ["interfaces", draft.interfaces.items.length - 1];
    const message = `${addresses} addresses of source NAT, and there is room for ${NAT_ADDRESSES_MAX}`;
    source.error([...path, "source-nat-pool"], message, "write fewer: each has 49,151 ports");
  }
}

/** Pools of interfaces: their addresses are at home where sessions end, of which nothing is known here. */
function checkIngress(draft: Draft, source: ConfigSource): void {
  for (const [index, item] of draft.interfaces.items.entries()) {
    if (item === null || item.sourceNatPool.length === 0) continue;
    const path: Path = ["interfaces", index, "source-nat-pool"];
    if (draft.top.workers > 1) {
      const message = `source-nat-pool and ${draft.top.workers} workers: a host's ports would not be the same at each`;
      source.error(path, message, "write workers: 1", "key");
    }
    if (item.addresses.some(({ address }) => isName(address))) {
      const message = "source NAT where sessions begin is for IPv4: attribute 25 has no room for more";
      source.error(path, message, `remove it: ${item.name} has IPv6`, "key");
      continue;
    }
    if (!checkFamily(item.sourceNatPool, item, path, source)) continue;
    for (const [at, prefix] of item.sourceNatPool.entries()) {
      if (item.sourceNatPool.some((other, n) => n < at && prefixesOverlap(other, prefix)))
        source.error([...path, at], `${formatPrefix(prefix)} stands here twice`, "remove one");
      const holder = draft.interfaces.items.find((near) => near?.addresses.some((own) => prefixesOverlap(own, prefix)));
      if (holder !== undefined)
        source.error(
          [...path, at],
          `${formatPrefix(prefix)} is on-link on ${holder?.name} here`,
          "write addresses of the far side",
        );
    }
  }
}

/** Whether a pool has addresses of the interface's family alone, of IPv6 one by one. */
function checkFamily(
  pool: ServiceRouteConfig["sourceNat"],
  { name, addresses }: InterfaceConfig,
  path: Path,
  source: ConfigSource,
): boolean {
  if (pool === null || pool === "interface") return true;
  const isIpv6 = addresses.some(({ address }) => isName(address));
  const other = pool.findIndex(({ address }) => isName(address) !== isIpv6);
  const wide = pool.findIndex(({ address, length }) => isName(address) && length < 128);
  if (other >= 0)
    source.error(
      [...path, other],
      `${formatPrefix(pool[other])} is not of the family of ${name}`,
      `write ${isIpv6 ? "IPv6" : "IPv4"} addresses`,
    );
  else if (wide >= 0)
    source.error([...path, wide], `${formatPrefix(pool[wide])} is too many`, "write IPv6 addresses one by one");
  return other < 0 && wide < 0;
}

/** Addresses of a pool. */
function sizeOf(pool: ServiceRouteConfig["sourceNat"]): number {
  if (pool === null || pool === "interface") return 1;
  return pool.reduce((sum, { address, length }) => sum + (isName(address) ? 1 : 2 ** (32 - length)), 0);
}

function checkPool(
  draft: Draft,
  route: ServiceRouteConfig,
  out: InterfaceConfig,
  path: Path,
  source: ConfigSource,
): void {
  if (out.kernel === "shared") {
    const message = `the kernel has ${out.name} too, and would answer what comes back to translated sources`;
    source.error(path, message, `write kernel: exclusive at interface ${out.name}`, "key");
  }
  if (route.sourceNat === null || route.sourceNat === "interface") return;
  for (const [at, prefix] of route.sourceNat.entries()) {
    const mine = [...path, at];
    const twice = route.sourceNat.some((other, index) => index < at && prefixesOverlap(other, prefix));
    if (twice) source.error(mine, `${formatPrefix(prefix)} stands here twice`, "remove one");
    for (const item of draft.interfaces.items) {
      if (item === null) continue;
      for (const own of item.addresses) checkAgainst(item, own, prefix, item === out, mine, source);
      if (item.gateway !== null && prefixHolds(prefix, item.gateway))
        source.error(mine, `${formatPrefix(prefix)} has the gateway of ${item.name} in it`, "leave it out");
    }
    for (const { address } of draft.peers.items.flatMap((peer) => peer?.paths ?? [])) {
      if (address !== null && address !== 0 && prefixHolds(prefix, address))
        source.error(
          mine,
          `${formatPrefix(prefix)} has a peer's address ${formatAddress(address)} in it`,
          "leave it out",
        );
    }
  }
}

/** A prefix of a pool beside one address, with its network, of an interface. */
function checkAgainst(
  item: InterfaceConfig,
  own: Prefix,
  prefix: Prefix,
  isOut: boolean,
  path: Path,
  source: ConfigSource,
): void {
  const text = formatPrefix(prefix);
  if (prefixHolds(prefix, own.address)) {
    const mend = isOut ? "leave it out, or write source-nat: interface" : "leave it out";
    source.error(path, `${text} has this router's own address on ${item.name} in it`, mend);
    return;
  }
  if (!prefixesOverlap(prefix, own)) return;
  if (isName(prefix.address)) {
    if (!isOut) source.error(path, `${text} is on-link on ${item.name}, where the route does not lead`, "write others");
    return;
  }
  const network = own.address & prefixMask(own.length);
  const broadcast = network | ~prefixMask(own.length);
  if (!isOut) source.error(path, `${text} is on-link on ${item.name}, where the route does not lead`, "write others");
  else if (own.length < 31 && (prefixHolds(prefix, network) || prefixHolds(prefix, broadcast)))
    source.error(path, `${text} has the network or broadcast address of ${item.name} in it`, "leave it out");
}
