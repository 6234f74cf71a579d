// A lab of real parts: network namespaces, veth pairs with every offload left as the kernel makes it, real hosts, real
// routers (one `waymark run` process in each router's namespace) and independent captures by tcpdump.
//
//   client ── west ══ wire1 ══ east ── server                          "two-routers"
//   client ── west ══ wire1 ══ middle ══ wire2 ══ east ── server       "three-routers"
//   client ── west ══ wire1 ══ middle ══ wire2 ══ inner ══ wire3 ══ east ── server
//                                                                      "four-routers"
//   client ── west ══ wire1, wire2 ══ east ── server                   "two-paths"
//   client ── west ══ wire1, wire2 ══ middle ══ wire3, wire4 ══ east ── server
//                                                                      "two-paths-twice"
//
// Each wire is a namespace of its own with a bridge, so that a capture of the wire sits on no router's port. Router
// devices carry no kernel address and their namespaces do not forward; the hosts' default routes are addresses that
// only the router answers for.
//
// Everything a lab makes is found by the name of its namespaces. A janitor process waits on a pipe for the end of the
// process that opened the lab, whatever ends it (close, a failed test, Ctrl-C, SIGKILL), and then ends every process in
// those namespaces and removes them with the lab's directory (which stays, captures and all, while WAYMARK_LAB_KEEP is
// set). A lab whose janitor was killed too is swept by the next one.

import { type ChildProcess, execFileSync, type SpawnOptions, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

export type Shape = "two-routers" | "three-routers" | "four-routers" | "two-paths" | "two-paths-twice";

export type Family = 4 | 6;

/** A wire between two routers and the only addresses that may be seen on it. */
export interface Wire {
  readonly name: string;
  readonly family: Family;
  readonly addresses: readonly [string, string];
  /** The place in the chain of the router at its left end; the next one is at its right. */
  readonly hop: number;
}

/** `backend` of a router's interfaces; libpcap where nothing is said. */
export interface Backends {
  readonly lan: "libpcap" | "af-packet";
  readonly wan: "libpcap" | "af-packet";
}

export interface LabOptions {
  /** By the router's name. */
  readonly backends?: Readonly<Record<string, Backends>>;
  /** The family of the hosts' addresses; 4 where nothing is said. */
  readonly hosts?: Family;
  /** The family of each wire, from left to right; 4 where nothing is said. */
  readonly wires?: readonly Family[];
  /** Routers' devices finish checksums and super-frames before a frame leaves, so that a capture of the wire shows what real hardware would send. */
  readonly plainWires?: boolean;
  /** A router's name → how many workers it has; 1 where nothing is said. */
  readonly workers?: Readonly<Record<string, number>>;
  /** Peers and services have keys, from the file `keys` of the lab's directory, which the test makes. */
  readonly protection?: {
    readonly sign: "metadata" | "every-packet";
    readonly adaptive: boolean;
    readonly sessionKeys?: boolean;
  };
  /** More lines of every router's configuration, behind its peers: of all alike, or by the router's name. */
  readonly extra?: string | ((router: string) => string);
  /** What every router's services take; tcp, udp and icmp where nothing is said. */
  readonly transports?: string;
  /** More keys of every router's interface with hosts. */
  readonly lan?: string;
  /** More keys of every peer path. */
  readonly path?: string;
  /** More keys of every router's services. */
  readonly service?: string;
  /** The words in front of a router's command; it runs as that program then. */
  readonly wrapper?: (router: Router) => readonly string[];
}

export interface Router {
  readonly name: string;
  readonly configPath: string;
  readonly socketPath: string;
}

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export const CLIENT = "10.1.0.2";
export const SERVER = "10.2.0.2";
/** Addresses of the networks at both ends: the router's, the host's, and the network. */
const NETWORKS = {
  4: [
    { router: "10.1.0.1", host: CLIENT, network: "10.1.0.0/24" },
    { router: "10.2.0.1", host: SERVER, network: "10.2.0.0/24" },
  ],
  6: [
    { router: "2001:db8:1::1", host: "2001:db8:1::2", network: "2001:db8:1::/64" },
    { router: "2001:db8:2::1", host: "2001:db8:2::2", network: "2001:db8:2::/64" },
  ],
} as const;
const PREFIX = { 4: 24, 6: 64 } as const;
const wireAddress = (n: number, end: number, family: Family) =>
  family === 4 ? `198.18.${n}.${end}` : `2001:db8:ff${n}::${end}`;
export const MAIN = fileURLToPath(new URL("../../lib/cli/main.js", import.meta.url));
const HOST_SERVER = fileURLToPath(new URL("./host-server.js", import.meta.url));

const TWO = ["west", "east"];
const THREE = ["west", "middle", "east"];
const FOUR = ["west", "middle", "inner", "east"];
/** The routers of a shape from client to server, and of each wire the hop that it is. */
const SHAPES: Readonly<Record<Shape, { readonly routers: readonly string[]; readonly hops: readonly number[] }>> = {
  "two-routers": { routers: TWO, hops: [0] },
  "three-routers": { routers: THREE, hops: [0, 1] },
  "four-routers": { routers: FOUR, hops: [0, 1, 2] },
  "two-paths": { routers: TWO, hops: [0, 0] },
  "two-paths-twice": { routers: THREE, hops: [0, 0, 1, 1] },
};
// npx and npm put node_modules/.bin first, and a development dependency has a program there that is called nft too.
process.env.PATH = (process.env.PATH ?? "")
  .split(":")
  .filter((directory) => !directory.endsWith("node_modules/.bin"))
  .join(":");

const TOOLS = ["ip", "nft", "tcpdump", "tshark", "curl", "ping", "ethtool", "setpriv"];
const DIRECTORY = "/tmp";
const READY_MS_MAX = 180_000;
const STOP_MS_MAX = 10_000;
/** tcpdump hands over what it has at least once a second; a capture is complete this long after the last frame. */
const CAPTURE_SETTLE_MS = 1_200;
const CAPTURE_MS_MAX = 10_000;

/**
 * $1: prefix of the lab's names. $2: its directory. Waits for the end of standard input, then for a command that the
 * lab may have just started, then removes both. Commands of the lab may outlive it and make more: over and over, until
 * there is nothing twice.
 */
const JANITOR = `trap "" INT TERM HUP
cat >/dev/null
sleep 0.1
rounds=0
nothing=0
while [ $nothing -lt 2 ] && [ $rounds -lt 50 ]; do
  [ $rounds -eq 0 ] || sleep 0.2
  rounds=$((rounds + 1))
  nothing=$((nothing + 1))
  for name in $(ip netns list | cut -d " " -f 1 | grep "^$1-"); do
    nothing=0
    ip netns pids "$name" | xargs -r kill -KILL 2>/dev/null
    ip netns del "$name"
  done
done
[ -n "$WAYMARK_LAB_KEEP" ] || rm -rf "$2"`;

/** A namespace that forwards nothing and says nothing of its own accord. */
const QUIET_KERNEL = `echo 0 > /proc/sys/net/ipv4/ip_forward
for file in /proc/sys/net/ipv6/conf/*/disable_ipv6; do
  if [ -e "$file" ]; then echo 1 > "$file"; fi
done
ip link set lo up`;
/** A host with IPv6: it tries its address before it uses it, and listens to no router's advertisements. */
const HOST_WITH_IPV6 = `for file in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 0 > "$file"; done
for file in /proc/sys/net/ipv6/conf/*/accept_dad; do echo 1 > "$file"; done
for file in /proc/sys/net/ipv6/conf/*/accept_ra; do echo 0 > "$file"; done`;

/** Why no lab can be opened here, or undefined when one can. */
export function labUnavailable(): string | undefined {
  if (process.getuid?.() !== 0) return "needs root";
  for (const tool of TOOLS) {
    if (spawnSync("sh", ["-c", `command -v ${tool}`]).status !== 0) return `needs ${tool}`;
  }
  return undefined;
}

/** Names of network namespaces that begin with `prefix`. */
export function namespaces(prefix: string): string[] {
  const list = execFileSync("ip", ["netns", "list"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  return list
    .split("\n")
    .map((line) => line.split(" ")[0])
    .filter((name) => name.startsWith(prefix));
}

export class Lab {
  /** Every namespace is named `prefix`-NODE. */
  readonly prefix = `waymark-${process.pid}-${randomBytes(2).toString("hex")}`;
  readonly directory = join(DIRECTORY, this.prefix);
  readonly wires: readonly Wire[];
  readonly routers: readonly Router[];
  /** Of the hosts' addresses. */
  readonly family: Family;
  readonly client: string;
  readonly server: string;
  readonly #janitor: ChildProcess;
  readonly #children = new Set<ChildProcess>();
  readonly #running = new Map<string, { child: ChildProcess; stderr: string[] }>();
  readonly #options: LabOptions;
  readonly #captures: { child: ChildProcess; stderr: string[] }[] = [];

  /** Use openLab. */
  constructor(shape: Shape, options: LabOptions = {}) {
    sweep();
    this.#options = options;
    mkdirSync(this.directory);
    this.#janitor = spawn("sh", ["-c", JANITOR, "sh", this.prefix, this.directory], {
      stdio: ["pipe", "ignore", "ignore"],
      detached: true,
    });
    this.family = options.hosts ?? 4;
    [this.client, this.server] = NETWORKS[this.family].map(({ host }) => host);
    const { routers: names, hops } = SHAPES[shape];
    this.wires = hops.map((hop, n) => {
      const family = options.wires?.[n] ?? 4;
      const addresses = [wireAddress(n, 1, family), wireAddress(n, 2, family)] as const;
      return { name: `wire${n + 1}`, family, addresses, hop };
    });
    this.routers = names.map((name) => ({
      name,
      configPath: join(this.directory, `${name}.yaml`),
      socketPath: join(this.directory, name, "waymark.sock"),
    }));
    for (const name of names) mkdirSync(join(this.directory, name));
  }

  /** Build namespaces, links, host addresses and configuration files, and start the hosts' servers. */
  async build(): Promise<void> {
    const names = this.routers.map((router) => router.name);
    for (const node of ["client", "server", ...names, ...this.wires.map((wire) => wire.name)]) {
      execFileSync("ip", ["netns", "add", this.namespace(node)]);
      this.#shell(node, QUIET_KERNEL);
    }
    this.#link("client", "eth0", names[0], "lan0");
    this.#link("server", "eth0", names[names.length - 1], "lan0");
    for (const wire of this.wires) {
      this.#shell(wire.name, "ip link add bridge type bridge mcast_snooping 0; ip link set bridge up");
      for (const [end, device] of ["left", "right"].entries()) {
        const at = wire.hop + end;
        this.#link(wire.name, device, names[at], this.#ends(at).find((one) => one.wire === wire)!.device);
        this.#shell(wire.name, `ip link set ${device} master bridge`);
      }
    }
    if (this.#options.plainWires === true) {
      for (const name of names)
        this.#shell(
          name,
          "for device in lan0 wan0 wan1 wan2 wan3; do [ ! -e /sys/class/net/$device ] || ethtool -K $device tx off tso off >/dev/null; done",
        );
    }
    for (const [end, node] of ["client", "server"].entries()) {
      const { router, host } = NETWORKS[this.family][end];
      const ip = this.family === 4 ? "ip" : "ip -6";
      const address = `${ip} address add ${host}/${PREFIX[this.family]} dev eth0; ${ip} route add default via ${router}`;
      this.#shell(node, this.family === 4 ? address : `${HOST_WITH_IPV6}\n${address}`);
    }
    this.routers.forEach((router, at) => {
      writeFileSync(router.configPath, this.#configuration(at));
    });
    await this.#startHost("client");
    await this.#startHost("server");
    for (const node of this.family === 6 ? ["client", "server"] : [])
      this.#shell(node, "while ip -6 address show tentative | grep -q inet6; do sleep 0.1; done");
  }

  /** Put another machine on a wire, a namespace with an address of its own there. */
  addStation(name: string, wire: Wire, address: string): void {
    execFileSync("ip", ["netns", "add", this.namespace(name)]);
    this.#shell(name, QUIET_KERNEL);
    this.#link(wire.name, name, name, "eth0");
    this.#shell(wire.name, `ip link set ${name} master bridge`);
    this.#shell(
      name,
      wire.family === 4
        ? `ip address add ${address}/24 dev eth0`
        : `${HOST_WITH_IPV6}\nip -6 address add ${address}/64 dev eth0 nodad`,
    );
  }

  /** What of a wire router `at` of the chain has: device, our end, and the peer at the other. */
  #ends(at: number): { device: string; wire: Wire; end: 0 | 1; peer: string }[] {
    const wires = this.wires.filter(({ hop }) => at === hop || at === hop + 1);
    return wires.map((wire, n) => {
      const end = at === wire.hop ? 0 : 1;
      return { device: `wan${n}`, wire, end, peer: this.routers[wire.hop + 1 - end].name };
    });
  }

  namespace(node: string): string {
    return `${this.prefix}-${node}`;
  }

  /** Start `command` in a node's namespace. It is ended with the lab at the latest. */
  spawn(node: string, command: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const inNamespace = ["netns", "exec", this.namespace(node), command, ...args];
    const child = spawn("ip", inNamespace, { cwd: this.directory, stdio: ["ignore", "pipe", "pipe"], ...options });
    this.#children.add(child);
    child.once("exit", () => this.#children.delete(child));
    return child;
  }

  /** Run `command` in a node's namespace to its end. */
  async run(node: string, command: string, ...args: string[]): Promise<Outcome> {
    return await outcome(this.spawn(node, command, args));
  }

  /** Run a waymark command in a node's namespace. */
  async waymark(node: string, ...args: string[]): Promise<Outcome> {
    return await this.run(node, process.execPath, MAIN, ...args);
  }

  /** Start routers, all if none are named, and wait until each answers on its control socket. Throws with what a router wrote otherwise. */
  async startRouters(routers: readonly Router[] = this.routers): Promise<void> {
    for (const router of routers) {
      const run = [process.execPath, MAIN, "run", "-c", router.configPath];
      const [command, ...args] = [...(this.#options.wrapper?.(router) ?? []), ...run];
      const child = this.spawn(router.name, command, args, { stdio: ["ignore", "ignore", "pipe"] });
      this.#running.set(router.name, { child, stderr: collect(child) });
    }
    for (const router of routers) await this.#untilReady(router);
  }

  /** End a router as a power cut would (SIGKILL). */
  async killRouter({ name }: Router): Promise<void> {
    const { child } = this.#running.get(name)!;
    this.#running.delete(name);
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  }

  router(name: string): Router {
    return this.routers.find((router) => router.name === name)!;
  }

  /** Start a second process that takes over from a router's. Returns when that has ended, with its exit code. Throws with what both wrote where it does not. */
  async takeOver(name: string): Promise<number | null> {
    const before = this.#running.get(name)!;
    const router = this.routers.find((each) => each.name === name)!;
    const ended = once(before.child, "exit");
    const args = [MAIN, "run", "-c", router.configPath, "--take-over"];
    const child = this.spawn(name, process.execPath, args, { stdio: ["ignore", "ignore", "pipe"] });
    const stderr = collect(child);
    await until(`${name} is taken over`, () => stderr.join("").includes('"forwarding"'), child, stderr);
    this.#running.set(name, { child, stderr });
    const timer = setTimeout(() => before.child.kill("SIGKILL"), STOP_MS_MAX);
    const [code] = await ended;
    clearTimeout(timer);
    if (code !== 0) throw new Error(`${before.stderr.join("")}${stderr.join("")}`);
    return code;
  }

  /** The process of a running router. */
  routerProcess(name: string): ChildProcess {
    return this.#running.get(name)!.child;
  }

  /** What a running router has written to standard error. */
  routerLog(name: string): string {
    return this.#running.get(name)!.stderr.join("");
  }

  /** Stop every router as an operator would (SIGTERM). Throws unless each exits with 0. */
  async stopRouters(): Promise<void> {
    const stopped = [...this.#running].map(async ([name, { child, stderr }]) => {
      const code = await stop(child, "SIGTERM");
      if (code !== 0) throw new Error(`router ${name} ended with ${code} after SIGTERM:\n${stderr.join("")}`);
    });
    this.#running.clear();
    await Promise.all(stopped);
  }

  /** Path of the capture of a node: "client", "server" or a wire's name. */
  capturePath(node: string): string {
    return join(this.directory, `${node}.pcap`);
  }

  /** Capture on the hosts' own devices and on the left end of each wire. Returns when all of them capture. */
  async startCaptures(): Promise<void> {
    const points = [["client", "eth0"], ["server", "eth0"], ...this.wires.map((wire) => [wire.name, "left"])];
    for (const [node, device] of points) {
      const args = ["-i", device, "-n", "-s", "0", "-B", "65536", "-Z", "root", "-w", this.capturePath(node)];
      const child = this.spawn(node, "tcpdump", args, { stdio: ["ignore", "ignore", "pipe"] });
      const stderr = collect(child);
      this.#captures.push({ child, stderr });
      await until(`tcpdump on ${node} captures`, () => stderr.join("").includes("listening on"), child, stderr);
    }
  }

  /** End the captures. Throws if one of them lost a frame: a capture with holes proves nothing. */
  async stopCaptures(): Promise<void> {
    await sleep(CAPTURE_SETTLE_MS);
    for (const { child, stderr } of this.#captures.splice(0)) {
      await hasAll(child, stderr);
      await stop(child, "SIGINT");
      if (!stderr.join("").includes("\n0 packets dropped by kernel"))
        throw new Error(`capture lost frames:\n${stderr.join("")}`);
    }
  }

  /** Stop what runs in good order, then remove everything. Throws if a router did not stop well, after removing all. */
  async close(): Promise<void> {
    try {
      await this.stopRouters();
    } finally {
      const ends = [this.#janitor, ...this.#children].map((child) => once(child, "exit"));
      this.#janitor.stdin?.end();
      await Promise.all(ends);
    }
  }

  #shell(node: string, script: string): void {
    execFileSync("ip", ["netns", "exec", this.namespace(node), "sh", "-e", "-c", script], {
      stdio: ["ignore", "ignore", "inherit"],
    });
  }

  #link(left: string, leftDevice: string, right: string, rightDevice: string): void {
    const end = ["peer", "name", rightDevice, "netns", this.namespace(right)];
    execFileSync("ip", ["-n", this.namespace(left), "link", "add", leftDevice, "type", "veth", ...end]);
    this.#shell(left, `ip link set ${leftDevice} up`);
    this.#shell(right, `ip link set ${rightDevice} up`);
  }

  async #startHost(node: string): Promise<void> {
    const child = this.spawn(node, process.execPath, [HOST_SERVER], { stdio: ["ignore", "ignore", "pipe"] });
    const stderr = collect(child);
    await until(`the servers on ${node} listen`, () => stderr.join("").includes("ready"), child, stderr);
  }

  async #untilReady(router: Router): Promise<void> {
    const { child, stderr } = this.#running.get(router.name)!;
    await until(
      `router ${router.name} answers on ${router.socketPath}`,
      () => answers(router.socketPath),
      child,
      stderr,
    );
  }

  /** The configuration of router `at` of the chain: the server's network lies right of it, the client's left. */
  #configuration(at: number): string {
    const first = at === 0;
    const last = at === this.routers.length - 1;
    const wires = this.#ends(at);
    const lines = [
      "authority: lab",
      `router: ${this.routers[at].name}`,
      `control: { socket: ${this.routers[at].socketPath} }`,
      `workers: ${this.#options.workers?.[this.routers[at].name] ?? 1}`,
      "interfaces:",
    ];
    const { lan, wan } = this.#options.backends?.[this.routers[at].name] ?? { lan: "libpcap", wan: "libpcap" };
    const { protection } = this.#options;
    const [fabric, payload] = protection === undefined ? ["none", "none"] : ["fabric", "payload"];
    const [left, right] = NETWORKS[this.family];
    const onLan = (address: string) =>
      `  - { name: lan0, device: lan0, addresses: ["${address}/${PREFIX[this.family]}"], tenant: corp, backend: ${lan}${this.#options.lan ?? ""} }`;
    const onWire = (device: string, address: string, family: Family) =>
      `  - { name: ${device}, device: ${device}, addresses: ["${address}/${PREFIX[family]}"], backend: ${wan} }`;
    if (first) lines.push(onLan(left.router));
    if (last) lines.push(onLan(right.router));
    for (const { device, wire, end } of wires) lines.push(onWire(device, wire.addresses[end], wire.family));
    const { service = "", path = "", transports = "tcp, udp, icmp" } = this.#options;
    lines.push(
      "tenants: [{ name: corp }]",
      "services:",
      `  - { name: app, addresses: ["${right.network}"], transports: [${transports}], access: [corp], security: ${payload}${service} }`,
      `  - { name: branch, addresses: ["${left.network}"], transports: [${transports}], access: [corp], security: ${payload}${service} }`,
      "service-routes:",
      `  - { service: app, ${last ? "interface: lan0" : `peer: ${this.routers[at + 1].name}`} }`,
      `  - { service: branch, ${first ? "interface: lan0" : `peer: ${this.routers[at - 1].name}`} }`,
      "peers:",
    );
    for (const name of new Set(wires.map(({ peer }) => peer))) {
      const paths = wires
        .filter(({ peer }) => peer === name)
        .map(({ device, wire, end }) => `{ interface: ${device}, address: "${wire.addresses[1 - end]}"${path} }`);
      lines.push(`  - { name: ${name}, paths: [${paths.join(", ")}], security: ${fabric} }`);
    }
    if (protection !== undefined) {
      const keys = "keys: { file: keys }, encryption: aes-cbc-256";
      lines.push(
        "security-policies:",
        `  - { name: fabric, ${keys}, hmac: sha256-128, sign: ${protection.sign} }`,
        `  - { name: payload, ${keys}, adaptive: ${protection.adaptive}, session-keys: ${protection.sessionKeys === true} }`,
      );
    }
    const { extra } = this.#options;
    if (extra !== undefined) lines.push(typeof extra === "string" ? extra : extra(this.routers[at].name));
    return `${lines.join("\n")}\n`;
  }
}

/** Build a lab, routers not started yet. The caller closes it. */
export async function openLab(shape: Shape, options: LabOptions = {}): Promise<Lab> {
  const lab = new Lab(shape, options);
  try {
    await lab.build();
  } catch (error) {
    await lab.close();
    throw error;
  }
  return lab;
}

/** Wait for a process to end and hand over what it wrote. */
export async function outcome(child: ChildProcess): Promise<Outcome> {
  let stdout = "";
  let stderr = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const [code] = await once(child, "close");
  return { code, stdout, stderr };
}

/** Remove labs whose process is gone: their janitor was killed with it. */
function sweep(): void {
  const names = new Set([...namespaces("waymark-"), ...readdirSync(DIRECTORY)]);
  const dead = new Set<string>();
  for (const name of names) {
    const match = /^(waymark-(\d+)-[0-9a-f]{4})(-|$)/.exec(name);
    if (match && !existsSync(`/proc/${match[2]}`)) dead.add(match[1]);
  }
  for (const prefix of dead) {
    spawnSync("sh", ["-c", JANITOR, "sh", prefix, join(DIRECTORY, prefix)], { stdio: "ignore" });
  }
}

function collect(child: ChildProcess): string[] {
  const pieces: string[] = [];
  child.stderr?.setEncoding("utf8").on("data", (text: string) => pieces.push(text));
  return pieces;
}

/** Wait until a tcpdump has taken all that its filter had received when it was first asked: SIGUSR1 makes it tell both. */
async function hasAll(child: ChildProcess, stderr: string[]): Promise<void> {
  let wanted: number | undefined;
  for (const deadline = Date.now() + CAPTURE_MS_MAX; Date.now() < deadline; await sleep(100)) {
    const from = stderr.length;
    child.kill("SIGUSR1");
    const told = () => /(\d+) packets? captured, (\d+) packets? received/.exec(stderr.slice(from).join(""));
    await until("tcpdump tells its counts", () => told() !== null, child, stderr);
    const [captured, received] = told()!.slice(1).map(Number);
    wanted ??= received;
    if (captured >= wanted) return;
  }
}

/** Signal a process and wait for its exit code; null when it had to be killed. */
async function stop(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const ended = once(child, "exit");
  child.kill(signal);
  const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS_MAX);
  const [code] = await ended;
  clearTimeout(timer);
  return code;
}

async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  child: ChildProcess,
  stderr: string[],
): Promise<void> {
  for (const deadline = Date.now() + READY_MS_MAX; !(await holds()); await sleep(20)) {
    const ended = child.exitCode !== null || child.signalCode !== null;
    if (ended || Date.now() > deadline) throw new Error(`waited in vain until ${what}:\n${stderr.join("")}`);
  }
}

function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    socket.once("connect", () => resolve(true));
    socket.once("error", () => resolve(false));
    socket.once("close", () => socket.destroy());
    socket.once("connect", () => socket.destroy());
  });
}
