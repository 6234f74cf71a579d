// How a libpcap port and the pacer wait for frames, each way beside the others in turns: immediate mode woken for each
// (the ring of TPACKET_V2, no patience), blocks up to 1 ms old (TPACKET_V3, no patience), and what Waymark does:
// immediate, and busy as long as frames keep coming (lib/engine/pace.ts). Latency is the whole way from the generator's
// device to the sink's. Root only.

import type { ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { PATIENCE_US_MAX } from "../../lib/engine/pace.ts";
import { print } from "../harness.ts";
import { Namespaces, stop } from "../namespaces.ts";
import { DESTINATION, OneRouter, putBack, putFirst, SOURCE, scheduled } from "../one-router.ts";

const ROUTER = fileURLToPath(new URL("../pacing-router.js", import.meta.url));
const ROUNDS = 3;
const SESSIONS = 64;
const LOADS = { "one packet each 10 ms": 100, "10 kframe/s": 10_000, "100 kframe/s": 100_000, "300 kframe/s": 300_000 };
const WINDOW_MS = 1000;
const IDLE_MS = 2000;
const PROBE_CPU = 0;
const ROUTER_CPU = 1;
const WAYS: Record<string, [string, number]> = {
  immediate: ["immediate", 0],
  timeout: ["timeout", 0],
  adaptive: ["immediate", PATIENCE_US_MAX],
};

interface Probed {
  readonly p50: number;
  readonly p99: number;
  readonly sent: number;
  readonly received: number;
}

async function main(): Promise<void> {
  if (process.getuid?.() !== 0) {
    console.error("pacing: skipped, needs root");
    return;
  }
  const namespaces = new Namespaces();
  const samples: Record<string, number[]> = {};
  try {
    const topology = new OneRouter(namespaces, "any");
    const probe = topology.compile("probe");
    topology.kernelDrops();
    const { generatorMac, routerMac } = topology;
    const ends = [namespaces.name("generator"), "g0", namespaces.name("sink"), "s0", generatorMac, routerMac];
    const send = async (rate: number): Promise<Probed> => {
      const args = [...ends, SOURCE, DESTINATION, SESSIONS, rate, WINDOW_MS];
      return JSON.parse(await topology.generate(PROBE_CPU, probe, args));
    };
    const note = (figure: string, value: number) => (samples[figure] ??= []).push(value);
    for (let round = 0; round < ROUNDS; round++) {
      for (const [name, [mode, patience]] of Object.entries(WAYS)) {
        const args = [ROUTER, topology.config, mode, String(patience)];
        const child = await topology.start(ROUTER_CPU, process.execPath, args);
        await send(20_000);
        note(`${name} idle-cpu`, await busyPercent(child, () => sleep(IDLE_MS)));
        putFirst(child);
        for (const [load, rate] of Object.entries(LOADS)) {
          const ranBefore = scheduled(child).ranUs;
          const probed = await send(rate);
          const ran = scheduled(child).ranUs - ranBefore;
          note(`${name} p50 ${load}`, probed.p50);
          note(`${name} p99 ${load}`, probed.p99);
          note(`${name} cpu ${load}`, ran / probed.received);
          note(`${name} loss ${load}`, 100 * (1 - probed.received / probed.sent));
        }
        putBack(child);
        await stop(child);
      }
    }
  } finally {
    await namespaces.close();
  }
  const mode = "60-byte UDP, 64 sessions, one router, unsigned, unencrypted, libpcap";
  for (const name of Object.keys(WAYS)) {
    print(`pacing.${name}.idle-cpu`, "% of a core", `${mode}, no traffic`, samples[`${name} idle-cpu`]);
    for (const load of Object.keys(LOADS)) {
      print(`pacing.${name}.p50`, "us", `${mode}, ${load}`, samples[`${name} p50 ${load}`]);
      print(`pacing.${name}.p99`, "us", `${mode}, ${load}`, samples[`${name} p99 ${load}`]);
      print(`pacing.${name}.cpu`, "us/frame", `${mode}, ${load}`, samples[`${name} cpu ${load}`]);
      print(`pacing.${name}.loss`, "%", `${mode}, ${load}`, samples[`${name} loss ${load}`]);
    }
  }
}

async function busyPercent(child: ChildProcess, during: () => Promise<unknown>): Promise<number> {
  const before = scheduled(child).ranUs;
  const start = performance.now();
  await during();
  return (scheduled(child).ranUs - before) / (performance.now() - start) / 10;
}

await main();
