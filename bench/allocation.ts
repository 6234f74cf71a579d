// The allocation gate: exit code 1 when the fast path leaves more than one byte of garbage a packet. Start it as
//
//   node --expose-gc --min-semi-space-size=64 --max-semi-space-size=64 dist/bench/allocation.js
//
// (run without these it starts itself so). The young generation is larger than what a passing run may allocate, so no
// collection hides anything: the growth of the heap is all that was allocated, and a collection in between is a
// failure too. Before that the gate shows that it sees both: little garbage a packet, and much.

import { spawnSync } from "node:child_process";
import { PerformanceObserver } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { BenchRouter, MAC_HIGH, macLow } from "./bench-router.ts";
import { print } from "./harness.ts";
import { IMIX, makeTraffic } from "./traffic.ts";

const FLAGS = ["--expose-gc", "--min-semi-space-size=64", "--max-semi-space-size=64"];
const PACKETS = 2_000_000;
const RUNS = 3;
/** Runs before those that count. */
const WARM_UPS = 4;
const SESSIONS = 1000;
const BYTES_A_PACKET_MAX = 1;

async function main(): Promise<number> {
  const bench = new BenchRouter(SESSIONS);
  const traffic = makeTraffic({ sessions: SESSIONS, lengths: IMIX, macHigh: MAC_HIGH, macLow: macLow(0) });
  bench.establish(traffic);
  const forward = () => bench.forward(traffic, PACKETS);
  // Another thread compiles, late on a busy machine; what it has finished is put in on a later call.
  for (let run = 0; run < WARM_UPS; run++) {
    forward();
    await settle();
  }
  for (const [objects, least] of [
    [PACKETS / 4, 4],
    [PACKETS * 4, Number.POSITIVE_INFINITY],
  ]) {
    const seen = await allocated(() => leave(objects));
    if (seen >= least) continue;
    console.error(`the gate is blind: it saw ${seen} bytes a packet where ${objects} objects were left`);
    return 1;
  }
  const samples: number[] = [];
  for (let run = 0; run < RUNS; run++) samples.push(await allocated(forward));
  const mode = `IMIX UDP, ${SESSIONS} sessions, unsigned, unencrypted`;
  const { median } = print("allocation.fast-path", "bytes/packet", mode, samples);
  if (median <= BYTES_A_PACKET_MAX) return 0;
  console.error(`the fast path allocates ${median} bytes a packet; at most ${BYTES_A_PACKET_MAX} is allowed`);
  return 1;
}

function leave(objects: number): void {
  const kept: unknown[] = [];
  for (let i = 0; i < objects; i++) kept[i & 15] = { i };
}

/** Bytes that `run` allocates a packet; Infinity when a collection came in between, which takes tens of megabytes. */
async function allocated(run: () => void): Promise<number> {
  let collections = 0;
  const observer = new PerformanceObserver((list) => {
    collections += list.getEntries().length;
  });
  globalThis.gc!();
  await settle();
  observer.observe({ entryTypes: ["gc"] });
  const before = used();
  run();
  const after = used();
  // Collections are reported from the event loop.
  await settle();
  observer.disconnect();
  return collections > 0 ? Number.POSITIVE_INFINITY : (after - before) / PACKETS;
}

function settle(): Promise<void> {
  return sleep(20);
}

function used(): number {
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

if (globalThis.gc === undefined) {
  const again = spawnSync(process.execPath, [...FLAGS, fileURLToPath(import.meta.url)], { stdio: "inherit" });
  process.exitCode = again.status ?? 1;
} else {
  process.exitCode = await main();
}
