// The least topology for live benches, and who can stand in the middle of it. Root only.
//
//   generator g0 ── lan0 router lan1 ── s0 sink
//
// Sessions go from 192.0.2.2 to 192.0.2.6, UDP port 9. The sink needs no program: an nftables counter counts and drops.

import { type ChildProcess, execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { getPriority, setPriority } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Namespaces, output, until } from "./namespaces.ts";

const MAIN = fileURLToPath(new URL("../lib/cli/main.js", import.meta.url));
const SOURCES = fileURLToPath(new URL("../../bench/reference/", import.meta.url));

export const SOURCE = "192.0.2.2";
export const DESTINATION = "192.0.2.6";

/** What the sink counts: only frames whose TTL was decremented by one, or also those of the C forwarder, which leaves it. */
export type Counted = "ttl-decremented" | "any";

export class OneRouter {
  readonly #namespaces: Namespaces;
  readonly #directory: string;
  readonly config: string;
  readonly #socket: string;
  /** DEVICE_A MAC_A NEXT_A DEVICE_B MAC_B NEXT_B, as reference/forward.c and the rivals take them. */
  readonly ends: readonly string[];
  readonly generatorMac: string;
  readonly routerMac: string;
  readonly sinkMac: string;

  constructor(namespaces: Namespaces, counted: Counted) {
    this.#namespaces = namespaces;
    this.#directory = namespaces.directory;
    this.config = join(this.#directory, "one.yaml");
    this.#socket = join(this.#directory, "one.sock");
    for (const node of ["generator", "router", "sink"]) namespaces.add(node);
    namespaces.link("generator", "g0", "router", "lan0");
    namespaces.link("router", "lan1", "sink", "s0");
    namespaces.shell("generator", `ip address add ${SOURCE}/30 dev g0`);
    namespaces.shell("sink", `ip address add ${DESTINATION}/30 dev s0`);
    const ttl = counted === "any" ? "" : "ip ttl 63";
    this.#nft(
      "sink",
      `add table netdev sink; add chain netdev sink in { type filter hook ingress device s0 priority 0; }; add counter netdev sink delivered; add rule netdev sink in udp dport 9 ${ttl} counter name delivered drop`,
    );
    this.generatorMac = namespaces.mac("generator", "g0");
    this.routerMac = namespaces.mac("router", "lan0");
    this.sinkMac = namespaces.mac("sink", "s0");
    this.ends = ["lan0", this.routerMac, this.generatorMac, "lan1", namespaces.mac("router", "lan1"), this.sinkMac];
    writeFileSync(
      this.config,
      `authority: bench
router: one
control: { socket: ${this.#socket} }
log: { level: warn }
interfaces:
  - { name: lan0, device: lan0, addresses: [192.0.2.1/30], tenant: corp }
  - { name: lan1, device: lan1, addresses: [192.0.2.5/30] }
tenants: [{ name: corp }]
services: [{ name: app, addresses: [${DESTINATION}/32], access: [corp] }]
service-routes: [{ service: app, interface: lan1 }]
`,
    );
  }

  /** Run a program of bench/reference in the generator's place, undisturbed. What it prints. */
  generate(cpu: number, command: string, args: readonly (string | number)[]): Promise<string> {
    const [first, ...rest] = [...FIRST, command, ...args.map(String)];
    return output(this.#namespaces.spawn("generator", cpu, first, rest));
  }

  /** Compile a program of bench/reference. Its path. */
  compile(program: string, ...libraries: string[]): string {
    const path = join(this.#directory, program);
    execFileSync("cc", ["-O2", "-o", path, join(SOURCES, `${program}.c`), ...libraries]);
    return path;
  }

  /** Run it in the router's place; it is ready when it says something. */
  async start(cpu: number, command: string, args: readonly string[]): Promise<ChildProcess> {
    const child = this.#namespaces.spawn("router", cpu, command, args);
    let ready = false;
    child.stdout?.on("data", () => (ready = true));
    await until(() => ready || child.exitCode !== null);
    if (!ready) throw new Error(`${command} ended with ${child.exitCode}`);
    return child;
  }

  /** `waymark run` in the router's place, with some options for Node. Its standard output is the caller's to read. */
  async startWaymark(cpu: number, options: readonly string[] = []): Promise<ChildProcess> {
    const child = this.#namespaces.spawn("router", cpu, process.execPath, [...options, MAIN, "run", "-c", this.config]);
    child.stdout?.resume();
    await until(() => existsSync(this.#socket) || child.exitCode !== null);
    if (child.exitCode !== null) throw new Error(`waymark ended with ${child.exitCode}`);
    return child;
  }

  /** From now on the router's kernel does nothing with the frames: for contenders that forward them all by themselves. */
  kernelDrops(): void {
    const chains = ["lan0", "lan1"].map(
      (device) =>
        `add chain netdev bench ${device} { type filter hook ingress device ${device} priority -500; policy drop; };`,
    );
    this.#nft("router", `add table netdev bench; ${chains.join(" ")}`);
  }

  /** From now on the router's kernel gives everything from the generator to local sockets and routes what they send. */
  kernelDelivers(): void {
    this.#addresses();
    this.#namespaces.shell(
      "router",
      "ip rule add iif lan0 lookup 100; ip route add local default dev lo table 100; echo 0 > /proc/sys/net/ipv4/conf/lan0/rp_filter",
    );
    // Nobody listens on the port. Not a filter of what arrives: that would stand before the sockets.
    this.#nft(
      "router",
      "add table ip bench; add chain ip bench out { type filter hook output priority 0; }; add rule ip bench out icmp type destination-unreachable drop",
    );
  }

  /** From now on the router's kernel forwards. */
  kernelForwards(): void {
    this.#addresses();
    this.#namespaces.shell("router", "echo 1 > /proc/sys/net/ipv4/ip_forward");
  }

  /** Take back what one of the three above has set. */
  kernelReset(): void {
    this.#namespaces.shell(
      "router",
      "nft flush ruleset; echo 0 > /proc/sys/net/ipv4/ip_forward; ip address flush dev lan0; ip address flush dev lan1; ip neighbor flush all; while ip rule del iif lan0 lookup 100 2>/dev/null; do :; done; ip route flush table 100 2>/dev/null || :",
    );
  }

  delivered(): number {
    return Number(/packets (\d+)/.exec(this.#namespaces.shell("sink", "nft list counter netdev sink delivered"))![1]);
  }

  #addresses(): void {
    this.#namespaces.shell(
      "router",
      `ip address add 192.0.2.1/30 dev lan0; ip address add 192.0.2.5/30 dev lan1; ip neighbor replace ${DESTINATION} lladdr ${this.sinkMac} dev lan1`,
    );
  }

  #nft(node: string, commands: string): void {
    execFileSync("ip", ["netns", "exec", this.#namespaces.name(node), "nft", commands], {
      stdio: ["ignore", "ignore", "pipe"],
    });
  }
}

/** How long all threads of a process have run, and how long its main thread has waited for a processor that others had. */
export function scheduled(child: ChildProcess): { ranUs: number; waitedUs: number } {
  const read = (path: string) => readFileSync(`/proc/${child.pid}/${path}schedstat`, "utf8").split(" ").map(Number);
  let ran = 0;
  for (const thread of readdirSync(`/proc/${child.pid}/task`)) ran += read(`task/${thread}/`)[0];
  return { ranUs: ran / 1000, waitedUs: read("")[1] / 1000 };
}

/**
 * Words before a command that give it its processor before every ordinary program: what else runs on the machine is not
 * what is measured. Not a real-time priority: the kernel takes the processor from those for a twentieth of each second
 * when they never sleep, and a forwarder that polls does not.
 */
export const FIRST: readonly string[] = ["nice", "-n", "-20"];

/** The same for a program that runs, after its start-up and until `putBack`. */
export function putFirst(child: ChildProcess): void {
  renice(child, -20);
}

export function putBack(child: ChildProcess): void {
  renice(child, 0);
}

/** All threads, for a thread has a priority of its own; but not those that the program itself has put behind others. */
function renice(child: ChildProcess, niceness: number): void {
  for (const thread of readdirSync(`/proc/${child.pid}/task`).map(Number))
    if (getPriority(thread) <= 0) setPriority(thread, niceness);
}
