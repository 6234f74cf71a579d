// What watching peer paths costs: the monitors of two routers in one process, joined by a wire of memory a path, as time
// is made to pass. A monitor is driven as its own thread would (lib/monitor/watchman.ts): it takes what has come, and
// does what is due. Link tests go on as by default. Both routers do the same, so one router's share is half of the time.
// What waking a thread and the kernel's part cost is not in it: bench/macro/path-failover.ts measures those.

import type { ManualClock } from "../../lib/base/clock.ts";
import { FrameBatch } from "../../lib/io/port.ts";
import type { Router } from "../../lib/router.ts";
import { ANY_MAC, decodeFrame, KEY_ROW_WORDS } from "../../lib/wire/flow-key.ts";
import { CONSUMED, OK, PUNT_ARP } from "../../lib/wire/verdict.ts";
import { print, processorNs } from "../harness.ts";
import { KEYS_MODE, type Keys, TwoRouters } from "../two-routers.ts";

const PACKETS = Number(process.argv[2] ?? 6_000);
const RUNS = 5;
const WARM_UPS = 2;
const UP_MS_MAX = 60_000;
const BATCH_FRAMES = 64;

const INTERVALS = {
  "1 s x 3": "{}",
  "50 ms x 3": "{ desired-tx-interval: 50ms, required-min-rx-interval: 50ms }",
};

const key = new Int32Array(KEY_ROW_WORDS);
const batch = new FrameBatch(new Uint8Array(0), BATCH_FRAMES);

/** Have the monitor take what has come, and do what is due. Returns when it has something to do again. */
function serve({ ports, monitor }: Router, nowMs: number): number {
  // The LAN comes first, and has nothing to do with paths.
  for (let port = 1; port < ports.length; port++) {
    while (ports[port].rx(batch) > 0) {
      for (let i = 0; i < batch.count; i++) {
        const decoded = decodeFrame(batch.view, batch.offset[i], batch.length[i], port, ANY_MAC, 0, key, 0);
        if (decoded === PUNT_ARP) continue;
        const verdict = decoded === OK ? monitor!.receive(batch, i, key, nowMs) : decoded;
        if (verdict !== CONSUMED) throw new Error(`a monitor dropped a packet: ${verdict}`);
      }
    }
  }
  return monitor!.tick(nowMs);
}

/** Let time pass until both routers have sent `packets` more. Returns how much did, milliseconds. */
function watch(pair: TwoRouters, packets: number): number {
  const [{ router: west, clock }, { router: east }] = pair.routers;
  const begin = clock.nowMs();
  for (const until = sent(pair) + packets; sent(pair) < until; ) {
    const dueMs = Math.min(serve(west, clock.nowMs()), serve(east, clock.nowMs()));
    pair.advance(Math.max(1, Math.ceil(dueMs) - clock.nowMs()));
  }
  return clock.nowMs() - begin;
}

function sent({ wires }: TwoRouters): number {
  let frames = 0;
  for (const ends of wires) for (const wire of ends) frames += wire.stats().txFrames;
  return frames;
}

/** Two routers all of whose paths are up. */
function pairUp(wires: number, keys: Keys, bfd: string): TwoRouters {
  const pair = new TwoRouters({ sessions: 16, wires, keys, bfd });
  const isDown = ({ router }: { router: Router; clock: ManualClock }) => router.sessions.paths.some(({ up }) => !up);
  for (let ms = 0; pair.routers.some(isDown); ms += 5) {
    if (ms > UP_MS_MAX) throw new Error("paths do not come up");
    pair.settle();
    pair.advance(5);
  }
  return pair;
}

function load(paths: number, interval: keyof typeof INTERVALS, keys: Keys): void {
  const pair = pairUp(paths, keys, INTERVALS[interval]);
  const samples = { cpu: [] as number[], packets: [] as number[], packet: [] as number[] };
  for (let run = -WARM_UPS; run < RUNS; run++) {
    const [frames, start] = [sent(pair), processorNs()];
    const seconds = watch(pair, PACKETS) / 1000;
    const ns = (processorNs() - start) / 2;
    const packets = (sent(pair) - frames) / 2;
    if (run < 0) continue;
    samples.cpu.push(ns / 1000 / seconds / paths);
    samples.packets.push(packets / seconds / paths);
    samples.packet.push(ns / 1000 / packets);
  }
  if (pair.routers.some(({ router }) => router.sessions.paths.some(({ up }) => !up))) throw new Error("a path is down");
  const mode = `BFD ${interval}, ${paths} paths, link tests as by default, one process, ${KEYS_MODE[keys]}`;
  print("bfd-load.cpu", "us/s a path", mode, samples.cpu);
  print("bfd-load.packets", "packet/s a path", `${mode}, sent, and as many received`, samples.packets);
  print("bfd-load.packet", "us", `${mode}, one sent and one received`, samples.packet);
}

for (const interval of ["1 s x 3", "50 ms x 3"] as const) {
  for (const paths of [1, 10, 50]) load(paths, interval, "none");
  load(50, interval, "metadata");
}
