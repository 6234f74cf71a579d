// The allocation gate: exit code 1 when the fast path leaves more than one byte of garbage a packet. Start it as
//
//   node --expose-gc --min-semi-space-size=64 --max-semi-space-size=64 dist/bench/allocation.js
//
// (run without these it starts itself so). The young generation is larger than what a passing run may allocate, so no
// collection hides anything: the growth of the heap is all that was allocated, and a collection in between is a
// failure too. A run of the same loop that does allocate shows first that the gate can see it.

import { spawnSync } from "node:child_process";
import { PerformanceObserver } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { BenchRouter, MAC_HIGH, macLow } from "./bench-router.ts";
import { print } from "./harness.ts";
import { IMIX, makeTraffic } from "./traffic.ts";

const FLAGS = ["--expose-gc", "--min-semi-space-size=64", "--max-semi-space-size=64"];
const PACKETS = 2_000_000;
const RUNS = 3;
const SESSIONS = 1000;
const BYTES_A_PACKET_MAX = 1;

function main(): number {
  const bench = new BenchRouter(SESSIONS);
  const traffic = makeTraffic({ sessions: SESSIONS, lengths: IMIX, macHigh: MAC_HIGH, macLow: macLow(0) });
  bench.establish(traffic);
  const forward = () => bench.forward(traffic, PACKETS);
  forward();
  const garbage: unknown[] = [];
  const control = allocated(() => {
    forward();
    for (let i = 0; i < PACKETS; i++) garbage[i & 15] = { i };
  });
  if (control < 8) {
    console.error(`the gate is blind: it saw ${control} bytes where each packet left an object`);
    return 1;
  }
  const samples = Array.from({ length: RUNS }, () => allocated(forward));
  const { median } = print("allocation.fast-path", "bytes/packet", `IMIX UDP, ${SESSIONS} sessions, unsigned, unencrypted`, samples);
  if (median <= BYTES_A_PACKET_MAX) return 0;
  console.error(`the fast path allocates ${median} bytes a packet; at most ${BYTES_A_PACKET_MAX} is allowed`);
  return 1;
}

/** Bytes that `run` allocates a packet; Infinity when a collection came in between, which takes tens of megabytes. */
function allocated(run: () => void): number {
  const collections = new PerformanceObserver(() => {});
  globalThis.gc!();
  collections.observe({ entryTypes: ["gc"] });
  const before = used();
  run();
  const after = used();
  const collected = collections.takeRecords().length > 0;
  collections.disconnect();
  return collected ? Number.POSITIVE_INFINITY : (after - before) / PACKETS;
}

function used(): number {
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

if (globalThis.gc === undefined) {
  const again = spawnSync(process.execPath, [...FLAGS, fileURLToPath(import.meta.url)], { stdio: "inherit" });
  process.exitCode = again.status ?? 1;
} else {
  process.exitCode = main();
}
