// The guard: an nftables table that keeps the kernel's own stack from seeing what this router handles (libpcap is a
// tap: without a guard the kernel forwards the same packet a second time, or answers it with a reset). Family netdev,
// hook ingress: it runs behind the capture tap, so the router still receives every frame. One chain per device; every
// change is one nft transaction, so there is no moment with half a guard. A crash leaves the guard in place (fail
// closed) and the next start replaces it. To look at it: nft list table netdev waymark.

import { execFileSync } from "node:child_process";
import { formatAddress, formatPrefix, type Prefix, prefixHolds } from "./address-text.ts";
import type { Config, InterfaceConfig, KernelAllow } from "./config.ts";
import { OperatorError } from "./operator-error.ts";

const TABLE = "netdev waymark";
/** Before any chain of the operator's own. Never change it: a leftover chain of another priority could not be replaced. */
const PRIORITY = -500;
/** The waypoint port range (protocol sheet 2.3). */
const WAYPOINT_PORTS = "16384-65534";
const NFT_TIMEOUT_MS = 10_000;

/** The guard could not be put in place or removed; the message says why and what to do. */
export class GuardError extends OperatorError {
  override name = "GuardError";
}

/** The nft script that puts the guard of `config` in place, replacing what an earlier run left on the same devices. */
export function buildGuard(config: Pick<Config, "interfaces" | "services" | "serviceRoutes" | "peers">): string {
  const lines = [`add table ${TABLE}`];
  for (const item of byDevice(config.interfaces)) {
    const chain = `${TABLE} ${chainOf(item.device)}`;
    lines.push(
      `add chain ${chain} { type filter hook ingress device "${item.device}" priority ${PRIORITY}; policy accept; }`,
      `flush chain ${chain}`,
    );
    const rules = item.kernel === "exclusive" ? exclusiveRules(item) : sharedRules(item, config);
    for (const rule of rules) lines.push(`add rule ${chain} ${rule}`);
  }
  return `${lines.join("\n")}\n`;
}

/** One of each device: IPv4 and IPv6 of the same one are two interfaces, both exclusive (config-check.ts). */
function byDevice(interfaces: readonly InterfaceConfig[]): InterfaceConfig[] {
  const devices = [...new Set(interfaces.map(({ device }) => device))];
  return devices.map((device) => {
    const own = interfaces.filter((item) => item.device === device);
    return { ...own[0], kernelAllow: own.flatMap(({ kernelAllow }) => kernelAllow) };
  });
}

/** Put a script of buildGuard in place, all of it or nothing, and see that it is there. Throws GuardError. */
export function installGuard(script: string): void {
  runNft(["-f", "-"], script);
  const there = listChains();
  for (const [, chain] of script.matchAll(/^add chain netdev waymark (\S+)/gm)) {
    if (!there.has(chain))
      throw new GuardError(`nft took the guard, but chain ${chain} is not there: is it nftables' own nft?`);
  }
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

/** Everything is the router's, except what the operator leaves to the kernel. */
function exclusiveRules(item: InterfaceConfig): string[] {
  return [...item.kernelAllow.map(allowRule), "counter drop"];
}

// Only what is addressed to this host: an allowed packet that the kernel would forward is the router's to forward.
function allowRule(allow: KernelAllow): string {
  const toThisHost = "fib daddr type { local, broadcast } accept";
  if (allow.kind === "arp") return "meta protocol arp accept";
  if (allow.kind === "icmp") return `ip protocol icmp ${toThisHost}`;
  const ports = allow.from === allow.to ? `${allow.from}` : `${allow.from}-${allow.to}`;
  return `ip protocol ${allow.kind} ${allow.kind} dport ${ports} ${toThisHost}`;
}

/** Only sessions are the router's: waypoint packets of its peers, and packets to and from what services reach. */
function sharedRules(
  item: InterfaceConfig,
  { services, serviceRoutes, peers }: Pick<Config, "services" | "serviceRoutes" | "peers">,
): string[] {
  const rules: string[] = [];
  const remote = peers.flatMap((peer) => peer.paths.filter((path) => path.interface === item.name));
  if (remote.length > 0) {
    // A dynamic address is refused on a shared device (config-paths.ts).
    const from = set(remote.flatMap(({ address }) => (address === null ? [] : [formatAddress(address)])));
    const to = set(item.addresses.map((own) => formatAddress(own.address)));
    rules.push(`ip saddr ${from} ip daddr ${to} meta l4proto { tcp, udp } th dport ${WAYPOINT_PORTS} counter drop`);
  }
  const prefixes = widest(services.flatMap((service) => service.addresses)).map(formatPrefix);
  if (prefixes.length > 0) {
    rules.push(`ip saddr ${set(prefixes)} counter drop`, `ip daddr ${set(prefixes)} counter drop`);
  }
  // Behind destination NAT a server answers from its own address, which no service prefix need hold.
  for (const { target, interface: out } of serviceRoutes) {
    if (target === null || out !== item.name) continue;
    const ports = target.port === 0 ? "" : ` meta l4proto { tcp, udp } th sport ${target.port}`;
    rules.push(`ip saddr ${formatAddress(target.address)}${ports} counter drop`);
  }
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
