// How peer paths are watched, and what services want of them: settings of BFD and of path MTU discovery put together from
// what a path, the router and this version say, and service policies. Mistakes are told where they stand.

import { type BfdSettings, MTU_DISCOVERY_DEFAULTS, type PathMode, type TtlPadding } from "../peer/path-settings.ts";
import type { PeerConfig, PeerPathConfig, SecurityPolicyConfig, ServicePolicyConfig } from "./config.ts";
import { BFD_DEFAULTS, type Draft } from "./config-schema.ts";
import type { ConfigSource, Path } from "./config-source.ts";

/** The peers, each path with its whole settings of how it is watched. */
export function checkWatch(draft: Draft, source: ConfigSource): PeerConfig[] {
  // Whoever writes `bfd`, be it empty, wants it.
  const isWritten = (path: Path) => source.at(path) !== undefined;
  const base = { ...BFD_DEFAULTS, enabled: isWritten(["bfd"]) };
  const own = settle(base, draft.top.bfd);
  checkHoldDown(own, ["bfd"], source);
  const ownDiscovery = settle(MTU_DISCOVERY_DEFAULTS, draft.top.mtuDiscovery);
  return draft.peers.items.flatMap((peer, index) => {
    if (peer === null) return [];
    const paths = peer.paths.map((item, at) => {
      const path: Path = ["peers", index, "paths", at, "bfd"];
      const bfd = settle({ ...own, enabled: own.enabled || isWritten(path) }, item.bfd);
      checkHoldDown(bfd, path, source);
      if (item.mode === "bfd") warnOfLinkTest(path, source);
      checkPadding(item.ttlPadding, item.mode, bfd, ["peers", index, "paths", at, "ttl-padding"], source);
      checkTransform(item, bfd, ["peers", index, "paths", at], source);
      warnOfDiscovery(["peers", index, "paths", at, "path-mtu-discovery"], item.mode, bfd, source);
      return { ...item, bfd, mtuDiscovery: settle(ownDiscovery, item.mtuDiscovery) };
    });
    if (paths.length > 1 && !paths.some(({ bfd }) => bfd.enabled)) {
      const message = "several paths, and none is watched: sessions stay on a dead one";
      source.warning(["peers", index, "paths"], message, "write bfd: {} at the top");
    }
    return [{ ...peer, paths }];
  });
}

function settle<T extends object>(base: T, written: { readonly [K in keyof T]?: T[K] | undefined }): T {
  const entries = Object.entries(written).filter(([, value]) => value !== undefined);
  return { ...base, ...Object.fromEntries(entries) };
}

/** What a map at `path` makes of hold-downs; told only where it writes one of their keys itself. */
function checkHoldDown(bfd: BfdSettings, path: Path, source: ConfigSource): void {
  const { dampening, holdDownMs, maximumHoldDownMs } = bfd;
  const maximum: Path = [...path, "maximum-hold-down"];
  if (!dampening && source.at(maximum) !== undefined) {
    source.warning(maximum, "maximum-hold-down changes nothing without dampening", "add dampening: true", "key");
  }
  const written = ["maximum-hold-down", "hold-down", "dampening"].find(
    (key) => source.at([...path, key]) !== undefined,
  );
  if (dampening && written !== undefined && maximumHoldDownMs <= holdDownMs) {
    const message = `maximum-hold-down (${maximumHoldDownMs}ms) is not above hold-down (${holdDownMs}ms)`;
    source.error([...path, written], message, "raise maximum-hold-down, or lower hold-down");
  }
}

/** How far the peer is tells its BFD, where that may come from afar. */
function checkPadding(padding: TtlPadding, mode: PathMode, bfd: BfdSettings, path: Path, source: ConfigSource): void {
  if (padding !== "automatic") return;
  if (!bfd.enabled)
    source.error(
      path,
      "automatic asks how far BFD has come, and this path has none",
      "add bfd: {} to the path, or write a number",
    );
  else if (mode === "bfd")
    source.warning(
      path,
      "automatic changes nothing under mode: bfd, whose peers are neighbors",
      "remove it, or write a number",
    );
}

/** A router that is not Waymark reflects no echo packets of ours. */
function warnOfLinkTest(path: Path, source: ConfigSource): void {
  const written = ["link-test-interval", "link-test-length", "required-min-echo-interval"].find(
    (key) => source.at([...path, key]) !== undefined,
  );
  if (written === undefined) return;
  source.warning([...path, written], `${written} changes nothing under mode: bfd`, "remove it", "key");
}

/** Tests go beside BFD with metadata, and nowhere else. */
function checkTransform(
  { udpTransform, mode, address }: Pick<PeerPathConfig, "udpTransform" | "mode" | "address">,
  bfd: BfdSettings,
  path: Path,
  source: ConfigSource,
): void {
  const where: Path = [...path, "udp-transform"];
  const interval: Path = [...path, "udp-transform-interval"];
  if (udpTransform.mode !== "auto-detect") {
    if (source.at(interval) !== undefined)
      source.warning(interval, "udp-transform-interval changes nothing without auto-detect", "remove it", "key");
    return;
  }
  if (!bfd.enabled || mode === "bfd") {
    const message = `auto-detect tests the path beside BFD with metadata, and this path has ${bfd.enabled ? "mode: bfd" : "none"}`;
    source.error(where, message, "add bfd: {} to the path, with mode: svr, or write always");
  } else if (address === null)
    source.warning(
      where,
      "auto-detect changes nothing here: TCP to a peer behind a NAT goes as UDP anyway",
      "write off",
    );
}

/** Probes go beside BFD with metadata, and nowhere else. */
function warnOfDiscovery(path: Path, mode: PathMode, bfd: BfdSettings, source: ConfigSource): void {
  if (source.at(path) === undefined || source.at([...path, "enabled"]) === false) return;
  if (mode === "svr" && bfd.enabled) return;
  const why = mode === "bfd" ? "under mode: bfd" : "without bfd";
  source.warning(path, `path-mtu-discovery changes nothing ${why}`, "remove it", "key");
}

/**
 * Peers behind NAT, and ourselves behind one. A peer that may be anywhere is known by nothing but its signature, so
 * without one it is refused: whoever sends first would be it.
 */
export function checkNat(
  draft: Draft,
  peers: readonly PeerConfig[],
  policies: readonly SecurityPolicyConfig[],
  source: ConfigSource,
): void {
  // `peers` has no row for an item that could not be read.
  const rows = draft.peers.items.flatMap((peer, row) => (peer === null ? [] : [row]));
  for (const [at, peer] of peers.entries()) {
    const dynamic = new Set<string>();
    for (const [index, item] of peer.paths.entries()) {
      const path: Path = ["peers", rows[at], "paths", index];
      if (item.address === null) {
        checkDynamic(draft, peer, item, path, policies, source);
        if (dynamic.has(item.interface)) {
          const message = `a second dynamic path of ${peer.name} from ${item.interface}: they cannot be told apart`;
          source.error([...path, "address"], message, "remove one");
        }
        dynamic.add(item.interface);
      }
      if (item.connectivity === "outbound-only") checkOutbound(item, path, source);
      if (source.at([...path, "nat-keep-alive"]) !== undefined && item.address === null) {
        const message = "nat-keep-alive is of the router behind the NAT, and here that is the peer";
        source.error(
          [...path, "nat-keep-alive"],
          message,
          "remove it, and write it in the peer's configuration",
          "key",
        );
      }
    }
  }
}

function checkDynamic(
  draft: Draft,
  peer: PeerConfig,
  item: PeerPathConfig,
  path: Path,
  policies: readonly SecurityPolicyConfig[],
  source: ConfigSource,
): void {
  const where: Path = [...path, "address"];
  const policy = policies.find(({ name }) => name === peer.security);
  if (policy !== undefined ? policy.sign === "none" : peer.security === null) {
    const message = `the address of ${peer.name} is dynamic and nothing it sends is signed: anybody could be it`;
    source.error(where, message, "give the peer a security policy with an hmac, or write its address");
  } else if (policy !== undefined && !policy.timeBased) {
    const message = `${policy.name} has hmac-mode: regular: who recorded a packet of ${peer.name} can be it later, for a while`;
    source.warning(where, message, "write hmac-mode: time-based");
  }
  if (!item.bfd.enabled) {
    const message = "only BFD tells where a peer with a dynamic address is, and this path has none";
    source.error(where, message, "add bfd: {} to the path");
  }
  if (item.mode === "bfd") {
    const message = "mode: bfd does not say who sends, so the address cannot be dynamic";
    source.error(where, message, "write mode: svr, or the address");
  }
  if (item.connectivity === "outbound-only") {
    const message = "both ends behind a NAT: neither could reach the other first";
    source.error([...path, "connectivity"], message, "write bidirectional, or the peer's address");
  }
  if (draft.interfaces.items.find((at) => at?.name === item.interface)?.kernel === "shared") {
    const message = `${item.interface} is shared with the kernel, which cannot be kept off packets from an unknown address`;
    source.error(where, message, "write kernel: exclusive, with kernel-allow for what the kernel needs");
  }
}

function checkOutbound(item: PeerPathConfig, path: Path, source: ConfigSource): void {
  if (item.bfd.enabled && item.mode === "svr") return;
  const why = item.mode === "bfd" ? "mode: bfd" : "no BFD";
  const message = `the peer learns where we are from our BFD with metadata, and this path has ${why}`;
  source.error([...path, "connectivity"], message, "add bfd: {} to the path, with mode: svr");
}

export function checkServicePolicies(draft: Draft, source: ConfigSource): ServicePolicyConfig[] {
  const vectors = new Set(
    draft.peers.items.flatMap((peer) => peer?.paths ?? []).flatMap(({ vector }) => (vector === null ? [] : [vector])),
  );
  return draft.servicePolicies.items.flatMap((policy, index) => {
    if (policy === null) return [];
    const path: Path = ["service-policies", index];
    for (const [at, { name }] of policy.vectors.entries()) {
      if (name === "") continue;
      const where: Path = [...path, "vectors", at, "name"];
      if (policy.vectors.findIndex((other) => other.name === name) < at) {
        source.error(where, `a second priority for vector ${name}`, "keep one of the two");
      } else if (!vectors.has(name)) {
        const known =
          vectors.size === 0 ? "add vector: NAME to paths of peers" : `paths have ${[...vectors].join(", ")}`;
        source.warning(where, `no path has vector ${name}`, known);
      }
    }
    if (policy.resiliency === "packet-duplication" && policy.name !== "") checkDuplication(draft, source, policy, path);
    return [policy];
  });
}

/** A policy that wants two paths to a peer, where some service's peer has only one that copies can be sent over. */
function checkDuplication(draft: Draft, source: ConfigSource, { name }: ServicePolicyConfig, path: Path): void {
  const services = draft.services.items.filter((service) => service?.policy === name);
  const routed = draft.serviceRoutes.items.filter((route) => services.some((one) => one?.name === route?.service));
  const peers = draft.peers.items.filter((peer) => peer !== null && routed.some((route) => route?.peer === peer.name));
  for (const peer of peers) {
    if (peer === null || peer.paths.filter(({ address }) => address !== null).length > 1) continue;
    const message = `packets to peer ${peer.name} are not duplicated: it has no two paths with an address`;
    source.warning([...path, "resiliency"], message, "add a path to the peer, or write failover");
  }
}
