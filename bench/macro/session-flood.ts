// A hostile LAN host opens sessions as fast as it can: what is left to established ones? An ingress router toward a
// peer, with a queue on its LAN that holds the frames of both. Time is the process's own processor time.
//
// Saturated: the queue never empties, with one frame, or ten, of the flood for each frame of established sessions.
// Whatever one does, a frame of the flood is received, decoded and not found; so the reference is a router that refuses
// all of them there ("refusing"), and what counts is what the slow path takes on top of that.
//
// Arriving: frames arrive by the clock into a queue of 4,096, whoever comes when it is full is lost, and the clock is
// moved by the time that the engine's turns really take. 800,000 frames a second is what a libpcap port delivers on two
// cores (live.*.delivered); two million stand for a faster port. The loss is that of established sessions' frames. The
// router that admits every lead ("admitting") is there to show that the flood would hurt.
//
// Exit code 1 when the slow path takes more than a tenth of the saturated throughput, or when more than a tenth of the
// established frames are lost.

import { Admission } from "../../lib/engine/admission.ts";
import { MAC_HIGH, macLow } from "../bench-router.ts";
import { print, processorNs } from "../harness.ts";
import { ingressOver } from "../ingress-router.ts";
import { ESTABLISHED, FLOOD, MixedPort } from "../mixed-port.ts";
import { makeTraffic, SMALL } from "../traffic.ts";

const SESSIONS = 1_000;
const LEADS = 1_000_000;
const TABLE = 100_000;
const PAIRS = 1_000_000;
const RUNS = 5;
const WARM_UPS = 2;
const PER_TURN = 128;
const SATURATED_FRAMES = 300_000;
const ARRIVING_MS = 200;
/** Between two measurements: the flood's port pairs come out of quarantine. */
const PAUSE_MS = 11_000;
const SHARE_MIN = 0.9;
const LOSS_MAX = 10;

// One router plays all contenders: only what its admission answers differs.
const contenders = ["guarded", "refusing", "admitting"] as const;
type Contender = (typeof contenders)[number];
let contender: Contender = "guarded";
const { begin } = Admission.prototype;
Admission.prototype.begin = function (port, count, nowMs) {
  const room = begin.call(this, port, count, nowMs);
  return contender === "guarded" ? room : contender === "refusing" ? 0 : PER_TURN;
};

const common = { lengths: SMALL, macHigh: MAC_HIGH, macLow: macLow(0) };
const established = makeTraffic({ ...common, sessions: SESSIONS });
const flood = makeTraffic({ ...common, sessions: LEADS, first: SESSIONS });

let lan: MixedPort | undefined;
const { router, clock, peer } = ingressOver(TABLE, PAIRS, (name, mac) => {
  lan = new MixedPort(name, mac, established, flood);
  return lan;
});
const port = lan!;
const { engine, sessions } = router;

function establish(): void {
  // The first two find the neighbors; a hundred at a time, so that the port is never behind.
  for (let n = 0; n < SESSIONS + 2; n++) {
    port.arrive(ESTABLISHED);
    if (n > 1 && n % 100 !== 0) continue;
    while (engine.turn(clock.nowMs()) > 0);
    clock.advance(1);
  }
  while (engine.turn(clock.nowMs()) > 0);
  if (sessions.halfOpenCount > 0 || sessions.table.count !== SESSIONS)
    throw new Error(`${sessions.table.count} sessions, ${sessions.halfOpenCount} of them half-open`);
  peer.answers = false;
}

/** Let the queue empty and the pairs rest. */
function settle(): void {
  while (engine.turn(clock.nowMs()) > 0);
  clock.advance(PAUSE_MS);
  while (engine.tick(clock.nowMs()));
  clock.advance(1);
}

/** Established frames forwarded a second while the queue never empties. */
function saturate(floodPerFrame: number): { rate: number; admitted: number } {
  settle();
  const before = peer.sentFrames;
  const opened = sessions.openedTotal;
  let forwarded = 0;
  let elapsed = 0;
  for (let frames = 0, kind = 0; frames < SATURATED_FRAMES; clock.advance(1)) {
    while (port.waiting < 2048) {
      port.arrive(kind === 0 ? ESTABLISHED : FLOOD);
      if (kind === 0) forwarded++;
      kind = kind === floodPerFrame ? 0 : kind + 1;
      frames++;
    }
    const start = processorNs();
    for (let turn = 0; turn < 8; turn++) engine.turn(clock.nowMs());
    elapsed += processorNs() - start;
  }
  if (peer.sentFrames - before < forwarded * 0.9) throw new Error("established packets were not forwarded");
  return { rate: (forwarded * 1e9) / elapsed, admitted: ((sessions.openedTotal - opened) * 1e9) / elapsed };
}

/** Frames arrive by the clock for ARRIVING_MS. Returns the share of established frames lost, in percent, and sessions opened a second. */
function arriving(framesASecond: number, floodPerFrame: number): { loss: number; admitted: number } {
  settle();
  const lost = port.lost[ESTABLISHED];
  const opened = sessions.openedTotal;
  const gapNs = 1e9 / framesASecond;
  const end = ARRIVING_MS * 1e6;
  let offered = 0;
  let kind = 0;
  let nextNs = 0;
  const startMs = clock.nowMs();
  for (let nowNs = 0; nowNs < end; ) {
    for (; nextNs <= nowNs; nextNs += gapNs) {
      port.arrive(kind === 0 ? ESTABLISHED : FLOOD);
      if (kind === 0) offered++;
      kind = kind === floodPerFrame ? 0 : kind + 1;
    }
    clock.moveTo(startMs + Math.floor(nowNs / 1e6));
    const start = processorNs();
    engine.turn(clock.nowMs());
    nowNs += processorNs() - start;
    if (port.waiting === 0) nowNs = Math.max(nowNs, nextNs);
  }
  return {
    loss: ((port.lost[ESTABLISHED] - lost) * 100) / offered,
    admitted: (sessions.openedTotal - opened) / (ARRIVING_MS / 1000),
  };
}

establish();
const what = "60-byte UDP, 1,000 established sessions toward a peer, unsigned, unencrypted";

/** One figure a contender and measure; print them in the order they came. */
class Figures {
  readonly #samples = new Map<string, { unit: string; mode: string; values: number[] }>();

  add(name: string, unit: string, mode: string, value: number): void {
    const key = `${name} ${mode}`;
    const known = this.#samples.get(key) ?? { unit, mode, values: [] };
    known.values.push(value);
    this.#samples.set(key, known);
  }

  /** Print all; `judge` is asked about each median. */
  print(judge: (name: string, median: number) => boolean): boolean {
    let right = true;
    for (const [key, { unit, mode, values }] of this.#samples) {
      const name = key.slice(0, key.indexOf(" "));
      const { median } = print(name, unit, mode, values);
      if (judge(name, median)) continue;
      console.error(`${name}: ${median} ${unit} is out of bounds`);
      right = false;
    }
    return right;
  }
}

const figures = new Figures();
for (let run = -WARM_UPS; run < RUNS; run++) {
  const add = run < 0 ? () => {} : figures.add.bind(figures);
  contender = "guarded";
  add("session-flood.alone", "packet/s", `${what}, saturated`, saturate(0).rate);
  for (const ratio of [1, 10]) {
    const mode = `${what}, saturated, ${ratio} lead packets a packet`;
    const rates = new Map<Contender, number>();
    for (contender of contenders) {
      const { rate, admitted } = saturate(ratio);
      rates.set(contender, rate);
      add(`session-flood.${contender}`, "packet/s", mode, rate);
      if (contender === "guarded") add("session-flood.admitted", "session/s", mode, admitted);
    }
    add("session-flood.guarded-to-refusing", "ratio", mode, rates.get("guarded")! / rates.get("refusing")!);
  }
  for (const rate of [800_000, 2_000_000]) {
    for (const ratio of [1, 10]) {
      const mode = `${what}, ${rate / 1000} kframe/s arriving, ${ratio} lead packets a packet`;
      for (contender of ["guarded", "admitting"] as const) {
        const { loss, admitted } = arriving(rate, ratio);
        add(`session-flood.${contender}.loss`, "%", mode, loss);
        if (contender === "guarded") add("session-flood.admitted", "session/s", mode, admitted);
      }
    }
  }
}
const right = figures.print((name, median) => {
  if (name === "session-flood.guarded-to-refusing") return median >= SHARE_MIN;
  return name !== "session-flood.guarded.loss" || median <= LOSS_MAX;
});
if (!right) process.exitCode = 1;
