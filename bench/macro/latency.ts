// How much later a packet arrives for having gone through a router: Waymark, the C forwarder (reference/forward.c) and,
// to be taken off, the kernel's own forwarding, in turns. The probe (reference/probe.c) sends and receives on one
// processor, the forwarder has the other. First each one's capacity is searched; then it is measured at shares of it and
// all of them at half of Waymark's. A window in which other programs kept the forwarder from its processor is measured
// again, within reason. Root only.

import type { ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { print } from "../harness.ts";
import { Namespaces, stop } from "../namespaces.ts";
import { DESTINATION, OneRouter, putBack, putFirst, SOURCE, scheduled } from "../one-router.ts";

const ROUNDS = 3;
const SESSIONS = 64;
const PROBE_CPU = 0;
const ROUTER_CPU = 1;
/** Long enough for 200,000 packets at the rates where percentiles are asked for. */
const WINDOW_MS = 700;
const IDLE = { rate: 100, milliseconds: 1200 };
const WARM_UP = { rate: 50_000, milliseconds: 500 };
const LOADS = [10, 50, 90];
const HALF = "half of waymark's capacity";
const IDLE_LOAD = "a packet each 10 ms";

/** The capacity is searched between these, by halving. Frames lost once may be bad luck; a second time they are not. */
const RATE_MIN = 100_000;
const RATE_MAX = 1_000_000;
const SEARCH_STEPS = 6;
const SEARCH_MS = 300;
const LOSSLESS = 0.001;

/** A window is disturbed when the forwarder waited for its processor longer than this share of it. */
const DISTURBED = 0.002;
const TRIES = 3;
/** Windows measured again in the whole bench: on a machine that is never quiet it must end, too. */
const REPEATS_MAX = 16;

const MODE = "60-byte UDP, 64 sessions, one router, unsigned, unencrypted, libpcap immediate";
const PERCENTILES = ["p50", "p99", "p999"] as const;
type Percentile = (typeof PERCENTILES)[number];

/** What the probe prints: counts, and microseconds. */
interface Probed extends Record<Percentile, number> {
  sent: number;
  received: number;
  seconds: number;
  wrong: number;
  failed: number;
  missedByProbe: number;
}

interface Window extends Record<Percentile, number> {
  loss: number;
  /** Share of the window in which the forwarder was kept from its processor, percent. */
  waited: number;
  gcRate: number;
  gcLongestMs: number;
}

/** The pauses a Node with --trace-gc has told of, in milliseconds. */
class GcTrace {
  pausesMs: number[] = [];

  read(child: ChildProcess): void {
    let rest = "";
    child.stdout?.setEncoding("utf8").on("data", (piece: string) => {
      const lines = (rest + piece).split("\n");
      rest = lines.pop()!;
      for (const line of lines) {
        const pause = /(?:Scavenge|Mark-Compact|Minor).* MB, .*?([\d.]+) \/ [\d.]+ ms/.exec(line);
        if (pause !== null) this.pausesMs.push(Number(pause[1]));
      }
    });
  }
}

class Latency {
  readonly #namespaces: Namespaces;
  readonly #topology: OneRouter;
  readonly #forward: string;
  readonly #probe: string;
  readonly #gc = new GcTrace();
  #repeats = REPEATS_MAX;
  /** windows[contender][load]: one a round. */
  readonly windows: Record<string, Record<string, Window[]>> = {};

  constructor(namespaces: Namespaces) {
    this.#namespaces = namespaces;
    this.#topology = new OneRouter(namespaces, "any");
    this.#forward = this.#topology.compile("forward", "-lpcap");
    this.#probe = this.#topology.compile("probe");
  }

  /** Run `body` with the contender in the router's place, warm; `undefined` for the kernel. */
  async with(name: string, body: (child: ChildProcess | undefined) => Promise<void>): Promise<void> {
    const child = await this.#start(name);
    await this.#send(WARM_UP.rate, WARM_UP.milliseconds);
    if (child !== undefined) putFirst(child);
    await body(child);
    if (child !== undefined) {
      putBack(child);
      await stop(child);
    }
    this.#topology.kernelReset();
  }

  /** The highest rate it carries and loses less than one in a thousand, frames a second. */
  async capacity(child: ChildProcess | undefined): Promise<number> {
    let [low, high] = [RATE_MIN, RATE_MAX];
    for (let step = 0; step < SEARCH_STEPS; step++) {
      const rate = Math.round((low + high) / 2);
      const offer = () =>
        this.#undisturbed(child, SEARCH_MS, async () => {
          const { sent, received, seconds } = await this.#send(rate, SEARCH_MS);
          return { loss: 1 - received / sent, rate: sent / seconds };
        });
      let best = await offer();
      if (best.loss >= LOSSLESS) best = await offer();
      // The probe has no more to offer.
      if (best.loss >= LOSSLESS) high = rate;
      else if (best.rate < 0.97 * rate) return best.rate;
      else low = rate;
    }
    return low;
  }

  async measure(name: string, load: string, child: ChildProcess | undefined, rate: number, milliseconds = WINDOW_MS) {
    const window = await this.#undisturbed(child, milliseconds, async () => {
      const pauses = this.#gc.pausesMs.length;
      const probed = await this.#send(rate, milliseconds);
      await sleep(50);
      const gc = this.#gc.pausesMs.slice(pauses);
      return {
        ...probed,
        loss: 100 * (1 - probed.received / probed.sent),
        gcRate: (1000 * gc.length) / milliseconds,
        gcLongestMs: Math.max(0, ...gc),
      };
    });
    const loads = (this.windows[name] ??= {});
    (loads[load] ??= []).push(window);
  }

  async #start(name: string): Promise<ChildProcess | undefined> {
    if (name === "kernel") {
      this.#topology.kernelForwards();
      return undefined;
    }
    this.#topology.kernelDrops();
    if (name !== "waymark")
      return this.#topology.start(ROUTER_CPU, this.#forward, [
        ...(name === "c-sendmmsg" ? ["-m"] : []),
        ...this.#topology.ends,
      ]);
    const child = await this.#topology.startWaymark(ROUTER_CPU, ["--trace-gc"]);
    this.#gc.read(child);
    return child;
  }

  async #send(rate: number, milliseconds: number): Promise<Probed> {
    const namespaces = this.#namespaces;
    const { generatorMac, routerMac } = this.#topology;
    const ends = [namespaces.name("generator"), "g0", namespaces.name("sink"), "s0", generatorMac, routerMac];
    const args = [...ends, SOURCE, DESTINATION, SESSIONS, Math.round(rate), milliseconds];
    const probed = JSON.parse(await this.#topology.generate(PROBE_CPU, this.#probe, args)) as Probed;
    if (probed.wrong + probed.failed + probed.missedByProbe > 0)
      throw new Error(`the probe is not to be trusted: ${JSON.stringify(probed)}`);
    return probed;
  }

  /** Do it, and again while the child was disturbed; the least disturbed result. */
  async #undisturbed<Result>(child: ChildProcess | undefined, milliseconds: number, once: () => Promise<Result>) {
    let least: (Result & { waited: number }) | undefined;
    for (let tries = 1; ; tries++) {
      const before = child === undefined ? 0 : scheduled(child).waitedUs;
      const result = await once();
      const waited = child === undefined ? 0 : (scheduled(child).waitedUs - before) / 1000 / milliseconds;
      if (least === undefined || 100 * waited < least.waited) least = { ...result, waited: 100 * waited };
      if (waited <= DISTURBED || tries === TRIES || this.#repeats-- <= 0) return least;
    }
  }
}

async function main(): Promise<void> {
  if (process.getuid?.() !== 0) {
    console.error("latency: skipped, needs root");
    return;
  }
  const namespaces = new Namespaces();
  try {
    await run(new Latency(namespaces));
  } finally {
    await namespaces.close();
  }
}

const C = ["c-pcap-inject", "c-sendmmsg"];

async function run(latency: Latency): Promise<void> {
  const capacity: Record<string, number> = {};
  for (const name of [...C, "waymark"]) {
    await latency.with(name, async (child) => {
      capacity[name] = await latency.capacity(child);
    });
    print(`latency.${name}.capacity`, "kframe/s", `${MODE}, less than 0.1 % lost`, [capacity[name] / 1000]);
  }
  const half = capacity.waymark / 2;
  for (let round = 0; round < ROUNDS; round++) {
    for (const name of ["kernel", ...C, "waymark"]) {
      await latency.with(name, async (child) => {
        await latency.measure(name, IDLE_LOAD, child, IDLE.rate, IDLE.milliseconds);
        await latency.measure(name, HALF, child, half);
        if (name === "kernel") return;
        for (const load of LOADS.filter((load) => name !== "waymark" || load !== 50))
          await latency.measure(name, `${load} % of its capacity`, child, (capacity[name] * load) / 100);
      });
    }
  }
  report(latency.windows);
}

function report(windows: Latency["windows"]): void {
  const of = (name: string, load: string, what: keyof Window) => windows[name][load].map((window) => window[what]);
  for (const [name, loads] of Object.entries(windows)) {
    const mode = (load: string) =>
      `${name === "kernel" ? "60-byte UDP, 64 sessions, no router: kernel" : MODE}, ${load}`;
    for (const load of Object.keys(loads)) {
      for (const what of PERCENTILES) print(`latency.${name}.${what}`, "us", mode(load), of(name, load, what));
      print(`latency.${name}.loss`, "%", mode(load), of(name, load, "loss"));
      print(`latency.${name}.kept-from-processor`, "%", mode(load), of(name, load, "waited"));
      if (name !== "waymark") continue;
      print("latency.waymark.gc-pauses", "1/s", mode(load), of(name, load, "gcRate"));
      print("latency.waymark.gc-longest", "ms", mode(load), of(name, load, "gcLongestMs"));
    }
  }
  for (const load of [HALF, IDLE_LOAD]) {
    const where = load === HALF ? "half-load" : "idle";
    for (const what of PERCENTILES) {
      const kernel = of("kernel", load, what);
      const ours = of("waymark", load, what);
      // The better of the two ways to send, in each round.
      const theirs = ours.map((_, round) => Math.min(...C.map((name) => of(name, load, what)[round])));
      const added = (values: number[]) => values.map((value, round) => value - kernel[round]);
      const mode = `${MODE}, ${load}`;
      print(`latency.waymark.added-${what}-${where}`, "us", mode, added(ours));
      print(`latency.c.added-${what}-${where}`, "us", mode, added(theirs));
      const ratio = ours.map((value, round) => value / theirs[round]);
      print(`latency.waymark-to-c.${what}-${where}`, "ratio", mode, ratio);
    }
  }
}

await main();
