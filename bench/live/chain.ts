// Two hosts with one or two routers between them, in network namespaces. Everything runs on the machine's two
// processors: hosts, wires and routers.
//
//   client eth0 ── lan0 a lan1 ── eth0 server                     one router
//   client eth0 ── lan0 a wan0 ══ wan0 b lan0 ── eth0 server      two routers
//                         wan1 ══ wan1                            and a spare wire
//
// Where there is a spare wire, each of the two is a bridge in a namespace of its own, so that it can be cut without
// anybody's device noticing: links stay up, frames are lost in both directions.
//
// Routers have their addresses in the kernel too, hosts and routers know each other's MAC addresses. Which router it is
// that forwards, the kernel or a program, is a contender's business (contenders.ts).

import { type ChildProcess, execFileSync } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { type Namespaces, output } from "../namespaces.ts";
import { machineUs } from "./meters.ts";

export const CLIENT = "10.1.0.2";
export const SERVER = "10.2.0.2";
const CLIENT_NET = "10.1.0.0/24";
const SERVER_NET = "10.2.0.0/24";
/** The wires between the routers: their networks' first three bytes. */
const FABRIC = ["198.18.0", "198.18.1"];

/** Processors: the generator has the first, in blasts what forwards has the second. */
export const GENERATOR_CPU = 0;
export const ROUTER_CPU = 1;

/** At full blast the generator makes this many frames of a session at a time, or it would not be fast enough. */
const BURST = 8;

const SETTLE_MS = 80;
const SETTLE_TRIES = 20;

/** Frame lengths of the "simple IMIX", in turn, one a session: seven small, four middling, one large. */
export const IMIX = [64, 64, 64, 64, 64, 64, 64, 570, 570, 570, 570, 1500];

export interface RouterPort {
  readonly device: string;
  readonly address: string;
  readonly mac: string;
  /** Who is at the other end. */
  readonly next: { readonly address: string; readonly mac: string };
}

export interface ChainRouter {
  readonly node: string;
  /** Toward the client, toward the server. */
  readonly ports: readonly [RouterPort, RouterPort];
  /** Toward the other router, over the spare wire. */
  readonly spare: RouterPort | null;
  /** Networks behind the other router and the address of that one; none in a chain of one. */
  readonly beyond: { readonly prefix: string; readonly via: string } | null;
}

export interface Blast {
  readonly sessions: number;
  /** Frame lengths without FCS, one a session, in turn. */
  readonly lengths: readonly number[];
  /** Frames a second; 0 is as fast as the generator can. */
  readonly rate: number;
  readonly milliseconds: number;
}

export interface Blasted {
  readonly sent: number;
  /** All that arrived, also what came after the generator's end. */
  readonly delivered: number;
  /** Frames a second that arrived; at full blast in the middle of it, otherwise over all of it. */
  readonly rate: number;
  /** Processor time of the whole machine from the generator's start to its end. */
  readonly machineUs: number;
}

export class Chain {
  readonly routers: readonly ChainRouter[];
  readonly namespaces: Namespaces;
  /** Nodes that are wires. */
  readonly #wires: readonly string[];
  readonly #blast: string;
  readonly #counter: Counter;
  #offloads: "on" | "off" | null = null;
  readonly #hosts = [
    ["client", CLIENT],
    ["server", SERVER],
  ] as const;

  /** `blast`: the path of the generator. `wires`: between two routers. */
  constructor(namespaces: Namespaces, routers: 1 | 2, blast: string, wires: 1 | 2 = 1) {
    this.namespaces = namespaces;
    this.#blast = blast;
    this.#wires = wires === 1 ? [] : ["wire0", "wire1"];
    const links: [string, string, string, string][] =
      routers === 1
        ? [
            ["client", "eth0", "a", "lan0"],
            ["a", "lan1", "server", "eth0"],
          ]
        : [
            ["client", "eth0", "a", "lan0"],
            ...(wires === 1 ? [["a", "wan0", "b", "wan0"] as [string, string, string, string]] : []),
            ["b", "lan0", "server", "eth0"],
          ];
    for (const node of ["client", "a", "b", "server"].filter((name) => routers === 2 || name !== "b")) {
      namespaces.add(node);
    }
    for (const link of links) namespaces.link(...link);
    for (const [i, wire] of this.#wires.entries()) this.#bridge(wire, `wan${i}`);
    const mac = (node: string, device: string) => namespaces.mac(node, device);
    const port = (
      node: string,
      device: string,
      address: string,
      nextNode: string,
      nextDevice: string,
      next: string,
    ) => ({
      device,
      address,
      mac: mac(node, device),
      next: { address: next, mac: mac(nextNode, nextDevice) },
    });
    const first = port("a", "lan0", "10.1.0.1", "client", "eth0", CLIENT);
    if (routers === 1) {
      const last = port("a", "lan1", "10.2.0.1", "server", "eth0", SERVER);
      this.routers = [{ node: "a", ports: [first, last], spare: null, beyond: null }];
    } else {
      const ends = FABRIC.slice(0, wires).map((net, i) => [
        port("a", `wan${i}`, `${net}.1`, "b", `wan${i}`, `${net}.2`),
        port("b", `wan${i}`, `${net}.2`, "a", `wan${i}`, `${net}.1`),
      ]);
      const [[a, b], [spareA, spareB] = [null, null]] = ends;
      const last = port("b", "lan0", "10.2.0.1", "server", "eth0", SERVER);
      this.routers = [
        { node: "a", ports: [first, a], spare: spareA, beyond: { prefix: SERVER_NET, via: b.address } },
        { node: "b", ports: [b, last], spare: spareB, beyond: { prefix: CLIENT_NET, via: a.address } },
      ];
    }
    for (const router of this.routers) {
      const { node } = router;
      for (const { device, address, next } of portsOf(router)) {
        namespaces.shell(
          node,
          `ip address add ${address}/24 dev ${device}; ip neighbor add ${next.address} lladdr ${next.mac} dev ${device}`,
        );
      }
    }
    for (const [node, address] of this.#hosts) {
      const gateway = address.replace(/2$/, "1");
      const gatewayMac = node === "client" ? first.mac : this.routers[routers - 1].ports[1].mac;
      namespaces.shell(
        node,
        `ip address add ${address}/24 dev eth0; ip neighbor add ${gateway} lladdr ${gatewayMac} dev eth0`,
      );
    }
    this.#nft(
      "server",
      "add table netdev sink; add chain netdev sink in { type filter hook ingress device eth0 priority 0; }; add counter netdev sink delivered; add rule netdev sink in udp dport 9 counter name delivered drop",
    );
    this.#counter = new Counter(namespaces);
  }

  /** Nothing forwards any more; hosts forget path MTUs and what they know of each other's TCP. */
  reset(): void {
    this.mend();
    for (const { node, beyond } of this.routers) {
      const route = beyond === null ? "" : `ip route del ${beyond.prefix} 2>/dev/null || :;`;
      this.namespaces.shell(node, `nft flush ruleset; ${route} echo 0 > /proc/sys/net/ipv4/ip_forward`);
    }
    for (const [node, address] of this.#hosts) {
      const route = `default via ${address.replace(/2$/, "1")}`;
      this.namespaces.shell(
        node,
        `ip route del default 2>/dev/null || :; ip route add ${route}; ip tcp_metrics flush 2>/dev/null || :`,
      );
    }
  }

  /** The routers' kernels do nothing with what arrives: for contenders that forward every frame by themselves. */
  kernelDrops(): void {
    for (const router of this.routers) {
      const { node } = router;
      const chains = portsOf(router).map(
        ({ device }) =>
          `add chain netdev bench ${device} { type filter hook ingress device ${device} priority -500; policy drop; };`,
      );
      this.#nft(node, `add table netdev bench; ${chains.join(" ")}`);
    }
  }

  /** The routers' kernels forward. `devices`: into these instead of to the other router, one a router. */
  kernelForwards(devices?: readonly string[]): void {
    for (const [i, { node, beyond }] of this.routers.entries()) {
      const to = devices === undefined ? `via ${beyond?.via}` : `dev ${devices[i]}`;
      const route = beyond === null ? "" : `ip route replace ${beyond.prefix} ${to};`;
      this.namespaces.shell(node, `${route} echo 1 > /proc/sys/net/ipv4/ip_forward`);
    }
  }

  /** The first router hides the client behind its own address, with connection tracking. After `kernelForwards`. */
  kernelMasquerades(): void {
    const { node, ports } = this.routers[0];
    this.#nft(
      node,
      `add table ip bench; add chain ip bench out { type nat hook postrouting priority 100; }; add rule ip bench out oifname ${ports[1].device} masquerade`,
    );
  }

  /** Which processor handles what the client's frames make the first router's kernel do; null: the sender's. */
  steer(cpu: number | null): void {
    const { node, ports } = this.routers[0];
    const mask = cpu === null ? 0 : 1 << cpu;
    this.namespaces.shell(node, `echo ${mask.toString(16)} > /sys/class/net/${ports[0].device}/queues/rx-0/rps_cpus`);
  }

  /** Whether hosts leave segmentation and checksums to their devices. */
  hostOffloads(state: "on" | "off"): void {
    if (state === this.#offloads) return;
    this.#offloads = state;
    for (const [node] of this.#hosts) {
      this.namespaces.shell(
        node,
        `ethtool -K eth0 tx ${state} tso ${state} gso ${state} tx-udp-segmentation ${state} >/dev/null 2>&1`,
      );
    }
  }

  /** Bytes that the first router has sent toward the second, Ethernet headers counted. */
  wireBytes(): number {
    const { node, ports } = this.routers[0];
    return Number(this.namespaces.shell(node, `cat /sys/class/net/${ports[1].device}/statistics/tx_bytes`));
  }

  /** Frames that the first router has sent over each of two wires. */
  wireFrames(): number[] {
    return this.#wires.map((wire) => {
      const file = "/sys/class/net/left/statistics/rx_packets";
      return Number(this.namespaces.shell(wire, `cat ${file}`));
    });
  }

  /** From now on the wire loses everything, in both directions. */
  cut(wire: number): void {
    const chain = (end: string) =>
      `add chain netdev cut ${end} { type filter hook ingress device ${end} priority 0; policy drop; };`;
    this.#nft(this.#wires[wire], `add table netdev cut; ${chain("left")} ${chain("right")}`);
  }

  /** No wire is cut any more. */
  mend(): void {
    for (const wire of this.#wires) this.#nft(wire, "flush ruleset");
  }

  /** UDP frames from the client to the server, which counts and drops them. */
  async blast({ sessions, lengths, rate, milliseconds }: Blast): Promise<Blasted> {
    const { mac, next } = this.routers[0].ports[0];
    const what = [sessions, rate, milliseconds, lengths.join(","), rate === 0 ? BURST : 1];
    const args = ["eth0", next.mac, mac, CLIENT, SERVER, ...what].map(String);
    this.hostOffloads("off");
    const before = await this.#counter.read();
    const machine = machineUs();
    const generator = output(this.namespaces.spawn("client", GENERATOR_CPU, this.#blast, args));
    // Reading takes processor time, which must not be taken for that of the frames where it is reckoned: when paced.
    const middle = rate === 0 ? await this.#middle(milliseconds) : null;
    const [sent, seconds] = (await generator).split(" ").map(Number);
    const used = machineUs() - machine;
    const delivered = (await this.#settled()).frames - before.frames;
    return { sent, delivered, rate: middle ?? delivered / seconds, machineUs: used };
  }

  close(): void {
    this.#counter.close();
  }

  /** Frames a second that arrive between the first fifth and the last tenth of a blast that has just begun. */
  async #middle(milliseconds: number): Promise<number> {
    await sleep(milliseconds * 0.2);
    const from = await this.#counter.read();
    await sleep(milliseconds * 0.7);
    const to = await this.#counter.read();
    return (to.frames - from.frames) / (to.seconds - from.seconds);
  }

  /** The counter when nothing arrives any more: what a forwarder still holds must not be counted as the next blast's. */
  async #settled(): Promise<{ frames: number }> {
    for (let last = await this.#counter.read(), tries = 0; ; tries++) {
      await sleep(SETTLE_MS);
      const now = await this.#counter.read();
      if (now.frames === last.frames || tries === SETTLE_TRIES) return now;
      last = now;
    }
  }

  /** Join the routers' devices of this name by a bridge. */
  #bridge(wire: string, device: string): void {
    this.namespaces.add(wire);
    this.namespaces.shell(wire, "ip link add bridge type bridge mcast_snooping 0; ip link set bridge up");
    for (const [router, end] of [
      ["a", "left"],
      ["b", "right"],
    ]) {
      this.namespaces.link(router, device, wire, end);
      this.namespaces.shell(wire, `ip link set ${end} master bridge`);
    }
  }

  #nft(node: string, commands: string): void {
    execFileSync("ip", ["netns", "exec", this.namespaces.name(node), "nft", commands], {
      stdio: ["ignore", "ignore", "pipe"],
    });
  }
}

export function portsOf({ ports, spare }: ChainRouter): RouterPort[] {
  return spare === null ? [...ports] : [...ports, spare];
}

/** The server's counter, read by a shell that is there already and goes before everything else (SCHED_RR). */
class Counter {
  readonly #shell: ChildProcess;

  constructor(namespaces: Namespaces) {
    const script = "while read -r line; do nft list counter netdev sink delivered; done";
    this.#shell = namespaces.spawn("server", null, "chrt", ["-r", "1", "sh", "-c", script], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.#shell.stdout!.setEncoding("utf8");
  }

  async read(): Promise<{ frames: number; seconds: number }> {
    const start = performance.now();
    this.#shell.stdin!.write("\n");
    let found: RegExpExecArray | null = null;
    for (let text = ""; found === null; found = /packets (\d+) bytes \d+\n/.exec(text)) {
      text += (await once(this.#shell.stdout!, "data"))[0];
    }
    return { frames: Number(found[1]), seconds: (start + performance.now()) / 2000 };
  }

  close(): void {
    this.#shell.stdin!.end();
  }
}
