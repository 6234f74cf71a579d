// The guard: an nftables table that keeps the kernel's own stack from seeing what this router handles (libpcap is a
// tap: without a guard the kernel forwards the same packet a second time, or answers it with a reset). Family netdev,
// hook ingress: it runs behind the capture tap, so the router still receives every frame. One chain per device; every
// change is one nft transaction, so there is no moment with half a guard. A crash leaves the guard in place (fail
// closed) and the next start replaces it. To look at it: nft list table netdev waymark.

import { execFileSync } from "node:child_process";
import { isName } from "../table/address-book.ts";
import { formatAddress, formatPrefix, type Prefix, prefixHolds } from "./address-text.ts";
import type { Config, InterfaceConfig, KernelAllow } from "./config.ts";
import { OperatorError } from "./operator-error.ts";

const TABLE = "netdev waymark";
/** Before any chain of the operator's own. Never change it: a leftover chain of another priority could not be replaced. */
const PRIORITY = -500;
/** Of the firewall detector (protocol sheet 2.5): the kernel would answer with resets, by which a firewall ends what it follows. */
const TEST_PORTS = "1280, 1283";
/** The waypoint port range (protocol sheet 2.3). */
const WAYPOINT_PORTS = "16384-65534";
/** Of path monitoring (lib/monitor). */
const MONITOR_PORTS = "1280, 3784, 4784";
/** What IPv6 links live by, addressed to groups and link-local addresses for the most part: RFC 4861, RFC 3810. */
const NEIGHBOR_TYPES = "nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert, mld-listener-query";
const LINK_TYPES = `${NEIGHBOR_TYPES}, nd-router-solicit, nd-redirect, mld-listener-report, mld-listener-done, mld2-listener-report`;
/** Echoes and errors. */
const ICMPV6_TYPES =
  "destination-unreachable, packet-too-big, time-exceeded, parameter-problem, echo-request, echo-reply";
const NFT_TIMEOUT_MS = 10_000;

/** The guard could not be put in place or removed; the message says why and what to do. */
export class GuardError extends OperatorError {
  override name = "GuardError";
}

/** The nft script that puts the guard of `config` in place, replacing what an earlier run left on the same devices. */
export function buildGuard(config: Pick<Config, "interfaces" | "services" | "serviceRoutes" | "peers">): string {
  const lines = [`add table ${TABLE}`];
  for (const device of new Set(config.interfaces.map((item) => item.device))) {
    const chain = `${TABLE} ${chainOf(device)}`;
    lines.push(
      `add chain ${chain} { type filter hook ingress device "${device}" priority ${PRIORITY}; policy accept; }`,
      `flush chain ${chain}`,
    );
    // Its IPv4 and its IPv6 are two interfaces.
    const rules = deviceRules(
      config.interfaces.filter((item) => item.device === device),
      config,
    );
    for (const rule of rules) lines.push(`add rule ${chain} ${rule}`);
  }
  return `${lines.join("\n")}\n`;
}

/**
 * Put a script of buildGuard in place, all of it or nothing, and see that it is there. Throws GuardError: nothing has changed then,
 * or what was put in place is taken away again.
 */
export function installGuard(script: string): void {
  // An nft that cannot say what is there could not remove it either.
  listChains();
  const chains = [...script.matchAll(/^add chain netdev waymark (\S+)/gm)].map(([, chain]) => chain);
  let isIn = false;
  try {
    runNft(["-f", "-"], script);
    isIn = true;
    const there = listChains();
    const missing = chains.find((chain) => !there.has(chain));
    if (missing !== undefined)
      throw new GuardError(`nft took the guard, but chain ${missing} is not there: is it nftables' own nft?`);
  } catch (error) {
    // One that took too long may have been through.
    if (isIn || isTimeout(error)) for (const chain of chains) takeAway(chain);
    throw error;
  }
}

/** Where nothing can be said of what is there any more: a chain that is not there is none to take away. */
function takeAway(chain: string): void {
  try {
    runNft(["-f", "-"], `flush chain ${TABLE} ${chain}\ndelete chain ${TABLE} ${chain}\n`);
  } catch {}
}

function isTimeout(error: unknown): boolean {
  return ((error as Error).cause as NodeJS.ErrnoException | undefined)?.code === "ETIMEDOUT";
}

/** Remove the chains of these devices, and the table when no other router's chain is left in it. Throws GuardError. */
export function removeGuard(devices: readonly string[]): void {
  const left = listChains();
  const ours = devices.map(chainOf).filter((chain) => left.delete(chain));
  const lines = ours.flatMap((chain) => [`flush chain ${TABLE} ${chain}`, `delete chain ${TABLE} ${chain}`]);
  if (ours.length > 0 && left.size === 0) lines.push(`delete table ${TABLE}`);
  if (lines.length > 0) runNft(["-f", "-"], `${lines.join("\n")}\n`);
}

function chainOf(device: string): string {
  return `guard-${device}`;
}

/** An exclusive device is the router's, except what the operator leaves to the kernel; a shared one is so for one family or for both. */
function deviceRules(
  interfaces: readonly InterfaceConfig[],
  config: Pick<Config, "services" | "serviceRoutes" | "peers">,
) {
  const isExclusive = interfaces.every(({ kernel }) => kernel === "exclusive");
  const rules = interfaces.flatMap((item) => {
    if (item.kernel === "shared") return sharedRules(item, config);
    const allowed = item.kernelAllow.map((allow) => allowRule(allow, isIpv6(item)));
    return isExclusive ? allowed : [...allowed, `meta protocol ${isIpv6(item) ? "ip6" : "{ ip, arp }"} counter drop`];
  });
  return isExclusive ? [...rules, "counter drop"] : rules;
}

function isIpv6({ addresses }: InterfaceConfig): boolean {
  return isName(addresses[0].address);
}

// Only what is addressed to this host: an allowed packet that the kernel would forward is the router's to forward.
function allowRule(allow: KernelAllow, ipv6: boolean): string {
  const toThisHost = `fib daddr type ${ipv6 ? "local" : "{ local, broadcast }"} accept`;
  if (allow.kind === "arp") return "meta protocol arp accept";
  if (allow.kind === "ndp") return `meta protocol ip6 icmpv6 type { ${NEIGHBOR_TYPES} } accept`;
  if (allow.kind === "icmp")
    return ipv6 ? `meta protocol ip6 icmpv6 type { ${ICMPV6_TYPES} } ${toThisHost}` : `ip protocol icmp ${toThisHost}`;
  const ports = allow.from === allow.to ? `${allow.from}` : `${allow.from}-${allow.to}`;
  const protocol = ipv6 ? `meta protocol ip6 meta l4proto ${allow.kind}` : `ip protocol ${allow.kind}`;
  return `${protocol} ${allow.kind} dport ${ports} ${toThisHost}`;
}

/**
 * Only sessions are the router's: what its peers send to it, packets to and from what services reach, and whatever is sent
 * to an address of the router that the kernel has not: it would forward that, or say that there is nobody.
 */
function sharedRules(
  item: InterfaceConfig,
  { services, serviceRoutes, peers }: Pick<Config, "services" | "serviceRoutes" | "peers">,
): string[] {
  const ipv6 = isIpv6(item);
  const ip = ipv6 ? "ip6" : "ip";
  const rules: string[] = [];
  // Neighbors that are in a service's prefix are the kernel's neighbors too.
  if (ipv6) rules.push(`meta protocol ip6 icmpv6 type { ${LINK_TYPES} } accept`);
  const to = set(item.addresses.map((own) => formatAddress(own.address)));
  const remote = peers.flatMap((peer) => peer.paths.filter((path) => path.interface === item.name));
  if (remote.length > 0) {
    // A dynamic address is refused on a shared device (config-paths.ts).
    const from = set(remote.flatMap(({ address }) => (address === null ? [] : [formatAddress(address)])));
    const fromPeer = `${ip} saddr ${from} ${ip} daddr ${to}`;
    rules.push(
      `${fromPeer} meta l4proto { tcp, udp } th dport ${WAYPOINT_PORTS} counter drop`,
      `${fromPeer} udp dport { ${MONITOR_PORTS} } counter drop`,
      `${fromPeer} tcp dport { ${TEST_PORTS} } counter drop`,
      `${fromPeer} tcp sport { ${TEST_PORTS} } counter drop`,
    );
  }
  const reached = services.flatMap((service) => service.addresses);
  const prefixes = widest(reached.filter(({ address }) => isName(address) === ipv6)).map(formatPrefix);
  if (prefixes.length > 0) {
    rules.push(`${ip} saddr ${set(prefixes)} counter drop`, `${ip} daddr ${set(prefixes)} counter drop`);
  }
  // Behind destination NAT a server answers from its own address, which no service prefix need hold.
  for (const { target, interface: out } of serviceRoutes) {
    if (target === null || out !== item.name) continue;
    const ports = target.port === 0 ? "" : ` meta l4proto { tcp, udp } th sport ${target.port}`;
    rules.push(`${ip} saddr ${formatAddress(target.address)}${ports} counter drop`);
  }
  rules.push(`${ip} daddr ${to} fib daddr type != local counter drop`);
  return rules;
}

function set(elements: string[]): string {
  return `{ ${[...new Set(elements)].join(", ")} }`;
}

/** `prefixes` without those that another one holds: nft sets must not overlap. */
function widest(prefixes: readonly Prefix[]): Prefix[] {
  return prefixes.filter(
    (prefix) => !prefixes.some((other) => other.length < prefix.length && prefixHolds(other, prefix.address)),
  );
}

/** The names of the chains in our table; none where there is no table. */
function listChains(): Set<string> {
  // All tables of the family, because asking for one that is not there fails like a real error. No chains: no text.
  const text = runNft(["-j", "list", "chains", "netdev"]) || '{"nftables":[]}';
  const { nftables } = JSON.parse(text) as { nftables: { chain?: { table: string; name: string } }[] };
  const ours = nftables.filter(({ chain }) => chain?.table === "waymark");
  return new Set(ours.map(({ chain }) => chain!.name));
}

function runNft(args: string[], input = ""): string {
  try {
    return execFileSync("nft", args, {
      input,
      encoding: "utf8",
      timeout: NFT_TIMEOUT_MS,
      env: { ...process.env, PATH: systemPath(), LC_ALL: "C" },
      stdio: ["pipe", "pipe", "pipe"],
    });
  } catch (error) {
    throw new GuardError(explainFailure(error as NodeJS.ErrnoException & { stderr?: string }), { cause: error });
  }
}

/** PATH without npm's directories: a package there may bring another program by the name of nft. */
function systemPath(): string {
  const directories = (process.env.PATH ?? "").split(":");
  return directories.filter((directory) => !directory.endsWith("node_modules/.bin")).join(":");
}

function explainFailure(error: NodeJS.ErrnoException & { stderr?: string }): string {
  if (error.code === "ENOENT")
    return "nft is not in PATH: apt-get install nftables, add /usr/sbin to PATH, or start with --no-guard";
  const said = (error.stderr ?? "").trim();
  if (/not permitted|permission denied/i.test(said)) {
    return "no permission to change nftables: run as root (CAP_NET_ADMIN), or start with --no-guard";
  }
  if (/not supported/i.test(said)) {
    return `this kernel lacks what the guard needs (nftables netdev ingress and fib): load its modules, or start with --no-guard; nft said: ${said}`;
  }
  return `nft refused the guard: ${said === "" ? error.message : said}`;
}
