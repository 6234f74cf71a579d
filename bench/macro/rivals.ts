// Waymark beside the npm packages one would pick instead, each forwarding as well as its interface allows
// (bench/rivals/): same topology, same generator, in turns. A contender may do worse when more is offered than it can
// take, so each is judged by the best it delivers on a ladder of offered rates. A step in which other programs kept the
// contender from its processor is done again, within reason. Root only.

import type { ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { print } from "../harness.ts";
import { Namespaces, stop } from "../namespaces.ts";
import { DESTINATION, OneRouter, putBack, putFirst, SOURCE, scheduled } from "../one-router.ts";

const ROUNDS = 3;
const SESSIONS = 64;
const GENERATOR_CPU = 0;
const ROUTER_CPU = 1;
const WARM_UP = { rate: 50_000, milliseconds: 500 };
const MODERATE = { rate: 100_000, milliseconds: 600 };
/** Frames a second offered, besides the moderate rate and as many as the generator can. */
const LADDER = [200_000, 300_000, 400_000, 500_000, 600_000, 700_000];
const STEP_MS = 400;
const FULL_MS = 700;
/** A step is disturbed when the contender waited for its processor longer than this share of it. */
const DISTURBED = 0.01;
const TRIES = 3;
/** Steps done again in the whole bench: on a machine that is never quiet it must end, too. */
const REPEATS_MAX = 24;
/** What a contender may lose at a rate and still be said to carry it. */
const LOSSLESS = 0.001;

const RIVALS = ["cap", "pcap", "raw-socket"];

interface Samples {
  full: number[];
  best: number[];
  carried: number[];
  cost: number[];
  fullCost: number[];
  loss: number[];
}

async function main(): Promise<void> {
  if (process.getuid?.() !== 0) {
    console.error("rivals: skipped, needs root");
    return;
  }
  const namespaces = new Namespaces();
  try {
    await race(new OneRouter(namespaces, "ttl-decremented"));
  } finally {
    await namespaces.close();
  }
}

async function race(topology: OneRouter): Promise<void> {
  const generator = topology.compile("blast");
  const blast = async (rate: number, milliseconds: number) => {
    const { generatorMac, routerMac } = topology;
    const args = ["g0", generatorMac, routerMac, SOURCE, DESTINATION, SESSIONS, rate, milliseconds];
    const before = topology.delivered();
    const text = await topology.generate(GENERATOR_CPU, generator, args);
    await sleep(100);
    const [sent, seconds] = text.split(" ").map(Number);
    const delivered = topology.delivered() - before;
    return { delivered, loss: 1 - delivered / sent, rate: delivered / seconds / 1000 };
  };
  const start = async (name: string) => {
    if (name === "raw-socket") topology.kernelDelivers();
    else topology.kernelDrops();
    if (name === "waymark") return topology.startWaymark(ROUTER_CPU);
    const program = fileURLToPath(new URL(`../rivals/${name}.js`, import.meta.url));
    return topology.start(ROUTER_CPU, process.execPath, [program, ...topology.ends]);
  };
  let repeats = REPEATS_MAX;
  const step = async (child: ChildProcess, rate: number, milliseconds: number) => {
    for (let tries = 1; ; tries++) {
      const before = scheduled(child);
      const result = await blast(rate, milliseconds);
      const after = scheduled(child);
      const disturbed = after.waitedUs - before.waitedUs > DISTURBED * milliseconds * 1000;
      if (!disturbed || tries === TRIES || repeats-- <= 0)
        return { ...result, cost: (after.ranUs - before.ranUs) / result.delivered };
    }
  };
  const measure = async (child: ChildProcess, samples: Samples) => {
    await blast(WARM_UP.rate, WARM_UP.milliseconds);
    putFirst(child);
    const moderate = await step(child, MODERATE.rate, MODERATE.milliseconds);
    samples.cost.push(moderate.cost);
    samples.loss.push(100 * moderate.loss);
    const full = await step(child, 0, FULL_MS);
    samples.full.push(full.rate);
    samples.fullCost.push(full.cost);
    let best = Math.max(moderate.rate, full.rate);
    let carried = moderate.loss < LOSSLESS ? moderate.rate : 0;
    for (const rate of LADDER) {
      const result = await step(child, rate, STEP_MS);
      best = Math.max(best, result.rate);
      if (result.loss < LOSSLESS) carried = Math.max(carried, result.rate);
    }
    samples.best.push(best);
    samples.carried.push(carried);
  };

  const contenders = [...RIVALS, "waymark"];
  const all: Record<string, Samples> = {};
  for (const name of contenders) all[name] = { full: [], best: [], carried: [], cost: [], fullCost: [], loss: [] };
  for (let round = 0; round < ROUNDS; round++) {
    for (const name of contenders) {
      const child = await start(name);
      await measure(child, all[name]);
      putBack(child);
      await stop(child);
      topology.kernelReset();
    }
  }
  report(contenders, all);
}

function report(contenders: readonly string[], all: Readonly<Record<string, Samples>>): void {
  const mode = "60-byte UDP, 64 sessions, one router, unsigned, unencrypted, libpcap immediate";
  for (const name of contenders) {
    const samples = all[name];
    const how = name === "raw-socket" ? mode.replace("libpcap immediate", "raw IP socket, kernel routes") : mode;
    print(`rivals.${name}.delivered`, "kframe/s", `${how}, full blast`, samples.full);
    print(`rivals.${name}.delivered`, "kframe/s", `${how}, best of a ladder of offered rates`, samples.best);
    print(`rivals.${name}.delivered`, "kframe/s", `${how}, ladder, less than 0.1 % lost`, samples.carried);
    print(`rivals.${name}.cpu`, "us/frame", `${how}, full blast`, samples.fullCost);
    print(`rivals.${name}.cpu`, "us/frame", `${how}, ${MODERATE.rate / 1000} kframe/s offered`, samples.cost);
    print(`rivals.${name}.loss`, "%", `${how}, ${MODERATE.rate / 1000} kframe/s offered`, samples.loss);
  }
  const ratio = (what: "best" | "fullCost", name: string) =>
    all.waymark[what].map((ours, round) => ours / all[name][what][round]);
  for (const name of RIVALS)
    print(`rivals.waymark-to-${name}.delivered`, "ratio", `${mode}, each at its best`, ratio("best", name));
  const rounds = all.waymark.best.map((_, round) => round);
  const best = rounds.map(
    (round) => all.waymark.best[round] / Math.max(...RIVALS.map((name) => all[name].best[round])),
  );
  print("rivals.waymark-to-best.delivered", "ratio", `${mode}, each at its best`, best);
  const least = rounds.map(
    (round) => all.waymark.fullCost[round] / Math.min(...RIVALS.map((name) => all[name].fullCost[round])),
  );
  print("rivals.waymark-to-best.cpu", "ratio", `${mode}, full blast`, least);
}

await main();
