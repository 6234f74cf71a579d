// HOT
// The forwarding plane's loop. One turn of a port: receive a batch, take every frame through decode → fast path → slow
// path, then send what was queued. Work per turn is bounded by the batch and by the slow path's limit, and the clock is
// read by the caller, once.
//
// A packet of a known flow is finished where it stands in the batch, so the order within a flow is kept. Packets of no
// flow wait until the batch is through: established sessions go first, and admission.ts says how many of the others
// there is time for.

import { FrameBatch, type Port } from "../io/port.ts";
import type { CounterSet } from "../table/counter-set.ts";
import type { FragmentTable } from "../table/fragment-table.ts";
import type { TimerWheel } from "../table/timer-wheel.ts";
import { KEY_ROW_WORDS, KEY_SHIFT } from "../wire/flow-key.ts";
import { isLong } from "../wire/long-packet.ts";
import {
  CONSUMED,
  DROP_FRAGMENT_TIMEOUT,
  DROP_IP_FRAGMENT_TIMEOUT,
  DROP_SLOW_PATH_FULL,
  PUNT_ARP,
  PUNT_FRAGMENT,
  PUNT_ICMP_ERROR,
  PUNT_MISS,
  PUNT_SESSION,
} from "../wire/verdict.ts";
import { Admission, TIMERS_PER_TICK } from "./admission.ts";
import { dropCounter, FRAMES_FORWARDED, FRAMES_RECEIVED, SLOW_PATH_PACKETS } from "./counters.ts";
import type { Egress } from "./egress.ts";
import type { FastPath } from "./fast-path.ts";
import type { InbandMetrics } from "./inband-metrics.ts";
import type { Outcomes } from "./outcomes.ts";
import type { Resolver } from "./resolver.ts";
import type { Retrigger } from "./retrigger.ts";
import type { SecurePath } from "./secure-path.ts";
import type { SlowPath } from "./slow-path.ts";
import type { Strays } from "./strays.ts";

/** How often neighbors, held frames and fragment chains are looked at. */
const HOUSEKEEPING_MS = 100;
/** So many frames of a batch go through the passes at a time: what they need lies in the first level of cache. */
const STRIDE = 64;

export class Engine {
  readonly #ports: readonly Port[];
  readonly #fast: FastPath;
  readonly #secure: SecurePath;
  readonly #slow: SlowPath;
  readonly #egress: Egress;
  readonly #resolver: Resolver;
  readonly #fragments: readonly FragmentTable[];
  readonly #ipFragments: FragmentTable;
  readonly #wheel: TimerWheel;
  readonly #counters: CounterSet;
  readonly #strays: Strays | null;
  readonly #outcomes: Outcomes;
  readonly #retrigger: Retrigger;
  readonly #inband: InbandMetrics | null;
  /** The port whose frames come in again; -1 = there is none. */
  readonly #mirror: number;
  /** Nothing is received and no time passes: another process is about to go on. */
  isHalted = false;
  /** Who watches paths in this thread, if anybody does. */
  pathMonitor: { tick(nowMs: number): number } | null = null;
  /** One a port: a port's memory stays with it. */
  readonly #batches: readonly FrameBatch[];
  readonly #key: Int32Array;
  /** Rows of the batch whose flow is unknown. */
  readonly #missed: Int32Array;
  #missedCount = 0;
  readonly #admission: Admission;
  readonly #fired = new Int32Array(TIMERS_PER_TICK);
  #housekeepingMs = 0;

  constructor(parts: {
    ports: readonly Port[];
    fast: FastPath;
    secure: SecurePath;
    slow: SlowPath;
    egress: Egress;
    resolver: Resolver;
    fragments: readonly FragmentTable[];
    ipFragments: FragmentTable;
    wheel: TimerWheel;
    counters: CounterSet;
    /** The way to the other workers; null where there are none. */
    strays: Strays | null;
    outcomes: Outcomes;
    retrigger: Retrigger;
    /** null = sessions' packets carry no path metrics. */
    inband: InbandMetrics | null;
    mirror: number;
    batchFrames: number;
    slowPathPerTurn: number;
  }) {
    this.#ports = parts.ports;
    this.#fast = parts.fast;
    this.#secure = parts.secure;
    this.#slow = parts.slow;
    this.#egress = parts.egress;
    this.#resolver = parts.resolver;
    this.#fragments = parts.fragments;
    this.#ipFragments = parts.ipFragments;
    this.#wheel = parts.wheel;
    this.#counters = parts.counters;
    this.#strays = parts.strays;
    this.#outcomes = parts.outcomes;
    this.#retrigger = parts.retrigger;
    this.#inband = parts.inband;
    this.#mirror = parts.mirror;
    this.#batches = parts.ports.map(
      ({ framesMax = parts.batchFrames }) => new FrameBatch(new Uint8Array(0), Math.min(framesMax, parts.batchFrames)),
    );
    this.#key = new Int32Array(KEY_ROW_WORDS);
    this.#missed = new Int32Array(parts.batchFrames);
    this.#admission = new Admission(parts.ports.length, parts.batchFrames, parts.slowPathPerTurn);
  }

  /** One turn of one port. Returns how many frames it received; fewer than a full batch means the port is empty. */
  portTurn(port: number, nowMs: number): number {
    if (this.isHalted) return 0;
    const count = this.#receive(port, nowMs);
    if (count > 0) this.#reflect(nowMs);
    return count;
  }

  /** What has left by the mirror comes in at once. Nothing passes it twice: from there it goes on to a peer, or to whoever sent it. */
  #reflect(nowMs: number): void {
    if (this.#mirror < 0) return;
    while (this.#receive(this.#mirror, nowMs) > 0);
  }

  #receive(port: number, nowMs: number): number {
    const batch = this.#batches[port];
    const count = this.#ports[port].rx(batch);
    if (count === 0) return 0;
    this.#counters.add(FRAMES_RECEIVED, count);
    this.#missedCount = 0;
    const leadsMax = this.#admission.begin(port, count, nowMs, count === batch.capacity);
    let others = 0;
    for (let from = 0; from < count; from += STRIDE) others += this.#take(batch, from, port, nowMs);
    this.#counters.add(FRAMES_FORWARDED, count - others);
    const leads = this.#missedCount > 0 ? this.#openMissed(batch, leadsMax, port, nowMs) : 0;
    this.#admission.end(count - others, leads, nowMs);
    if (this.#resolver.isUrgent) this.#resolver.tick(nowMs);
    this.#egress.flush();
    return count;
  }

  /** Take STRIDE frames of the batch as far as they go, from frame `from`. Returns how many the fast path did not forward. */
  #take(batch: FrameBatch, from: number, port: number, nowMs: number): number {
    const to = Math.min(from + STRIDE, batch.count);
    let others = 0;
    this.#fast.find(batch, port, from, to);
    for (let i = from; ; i++) {
      i = this.#fast.forward(batch, i, to, nowMs);
      if (!this.#secure.isEmpty && (i < to || to === batch.count)) {
        others += this.#flushSecure(batch, nowMs);
        if (i < to) this.#fast.lookAgain(i);
      }
      if (i === to) return others;
      others++;
      this.#other(batch, i, port, nowMs);
    }
  }

  /** One turn of every port, and of time. Returns the number of frames received. */
  turn(nowMs: number): number {
    let count = 0;
    for (let port = 0; port < this.#ports.length; port++)
      if (port !== this.#mirror) count += this.portTurn(port, nowMs);
    this.tick(nowMs);
    return count;
  }

  /**
   * Serve the timers that are due: some sessions' per call, and ten times a second everything small. Returns whether
   * more sessions' timers may be due; call again, once the ports have had their turn.
   */
  tick(nowMs: number): boolean {
    if (this.isHalted) return false;
    const fired = this.#wheel.advance(nowMs, this.#admission.timers(nowMs), this.#fired);
    for (let i = 0; i < fired; i++) this.#slow.timer(this.#fired[i], nowMs);
    this.pathMonitor?.tick(nowMs);
    const telling = this.#retrigger.tick(nowMs);
    if (nowMs >= this.#housekeepingMs) {
      this.#housekeepingMs = nowMs + HOUSEKEEPING_MS;
      this.#resolver.tick(nowMs);
      this.#egress.expireHeld(nowMs);
      this.#inband?.tick(nowMs);
      this.#counters.add(dropCounter(DROP_IP_FRAGMENT_TIMEOUT), this.#ipFragments.expire(nowMs));
      for (let path = 0; path < this.#fragments.length; path++) {
        this.#counters.add(dropCounter(DROP_FRAGMENT_TIMEOUT), this.#fragments[path].expire(nowMs));
      }
    }
    this.#egress.flush();
    this.#reflect(nowMs);
    return this.#wheel.isBehind(nowMs) || telling;
  }

  /** What waits goes on its way before any other packet that may be of the same flow. Returns how many. */
  #flushSecure(batch: FrameBatch, nowMs: number): number {
    return this.#secure.flush(batch, this.#fast.keys, this.#fast.found, nowMs);
  }

  /** Do with frame `i` what the fast path leaves to others. */
  #other(batch: FrameBatch, i: number, port: number, nowMs: number): void {
    const { verdict } = this.#fast;
    if (verdict === PUNT_SESSION) this.#session(batch, i, port, nowMs);
    else if (verdict === PUNT_MISS) this.#miss(i);
    else if (verdict === PUNT_ARP) this.#finish(this.#takeArp(batch, i, port, nowMs), batch, i, port, nowMs);
    else if (verdict === PUNT_ICMP_ERROR) this.#icmpError(batch, i, port, nowMs);
    else if (verdict === PUNT_FRAGMENT) this.#ipFragment(batch, i, port, nowMs);
    else this.#finish(verdict, batch, i, port, nowMs);
  }

  #session(batch: FrameBatch, i: number, port: number, nowMs: number): void {
    this.#counters.increment(SLOW_PATH_PACKETS);
    const verdict = this.#slow.session(batch, i, this.#keyOf(i), this.#fast.found[i], nowMs);
    this.#finish(verdict, batch, i, port, nowMs);
  }

  #icmpError(batch: FrameBatch, i: number, port: number, nowMs: number): void {
    this.#counters.increment(SLOW_PATH_PACKETS);
    this.#finish(this.#slow.icmpError(batch, i, this.#keyOf(i), nowMs), batch, i, port, nowMs);
  }

  #ipFragment(batch: FrameBatch, i: number, port: number, nowMs: number): void {
    this.#counters.increment(SLOW_PATH_PACKETS);
    this.#finish(this.#slow.ipFragment(batch, i, this.#keyOf(i), nowMs), batch, i, port, nowMs);
  }

  /** A packet of no flow waits for the rest of the batch. */
  #miss(i: number): void {
    this.#counters.increment(SLOW_PATH_PACKETS);
    this.#missed[this.#missedCount++] = i;
  }

  /**
   * The packets of no flow, in order: the first of a flow is a lead packet and opens its session, the others behind it
   * find that and are none. Leads beyond `leadsMax` are dropped. Returns how many were taken.
   */
  #openMissed(batch: FrameBatch, leadsMax: number, port: number, nowMs: number): number {
    const fast = this.#fast;
    let leads = 0;
    for (let n = 0; n < this.#missedCount; n++) {
      const i = this.#missed[n];
      if (fast.hasNewFlows) fast.findAgain(i);
      if (fast.found[i] < 0 && leads++ >= leadsMax) this.#finish(DROP_SLOW_PATH_FULL, batch, i, port, nowMs);
      else this.#openOrForward(batch, i, port, nowMs);
    }
    return Math.min(leads, leadsMax);
  }

  /** Frame `i`, found: by its flow, or as the first of one. */
  #openOrForward(batch: FrameBatch, i: number, port: number, nowMs: number): void {
    if (this.#fast.forward(batch, i, i + 1, nowMs) > i) {
      if (this.#secure.isEmpty) this.#counters.increment(FRAMES_FORWARDED);
      else this.#flushSecure(batch, nowMs);
    } else if (this.#fast.verdict === PUNT_SESSION) {
      const verdict = this.#slow.session(batch, i, this.#keyOf(i), this.#fast.found[i], nowMs);
      this.#finish(verdict, batch, i, port, nowMs);
    } else if (this.#fast.verdict === PUNT_MISS)
      this.#finish(this.#slow.miss(batch, i, this.#keyOf(i), nowMs), batch, i, port, nowMs);
    else if (this.#fast.verdict === PUNT_ICMP_ERROR) this.#icmpError(batch, i, port, nowMs);
    else if (this.#fast.verdict === PUNT_FRAGMENT) this.#ipFragment(batch, i, port, nowMs);
    else this.#finish(this.#fast.verdict, batch, i, port, nowMs);
  }

  #takeArp(batch: FrameBatch, i: number, port: number, nowMs: number): number {
    const verdict = this.#resolver.receive(batch, i, port, nowMs);
    if (verdict === CONSUMED && this.#strays !== null) this.#strays.copyArp(batch, i, port);
    return verdict;
  }

  /** Take the one frame of `batch`, which another worker handed over, as if it had come in on `port` here. */
  takeStray(batch: FrameBatch, port: number, nowMs: number): void {
    // One that was put together may be longer than its header can say.
    if (isLong(batch.length[0])) this.#slow.takeLong(batch, port, nowMs);
    else {
      this.#fast.find(batch, port, 0, 1);
      this.#openOrForward(batch, 0, port, nowMs);
    }
  }

  /** Count the one frame of `batch`, which another worker handed over, as dropped. */
  refuseStray(verdict: number, batch: FrameBatch, port: number, nowMs: number): void {
    this.#outcomes.count(verdict, batch.bytes, batch.offset[0], batch.length[0], port, -1, nowMs);
  }

  /** Learn from the ARP message in row 0, which another worker received and answered. */
  learnStray(batch: FrameBatch, port: number, nowMs: number): void {
    this.#resolver.learn(batch, 0, port, nowMs);
  }

  /** Send everything that is queued. Call after takeStray and learnStray, while the frames are where they were. */
  flush(nowMs: number): void {
    if (this.#resolver.isUrgent) this.#resolver.tick(nowMs);
    this.#egress.flush();
  }

  /** The key row of frame `i`, copied: the slow path changes it as it changes the frame. */
  #keyOf(i: number): Int32Array {
    const { keys } = this.#fast;
    const at = i << KEY_SHIFT;
    for (let word = 0; word < KEY_ROW_WORDS; word++) this.#key[word] = keys[at + word];
    return this.#key;
  }

  /** What became of a frame that the fast path did not forward. The slow path counts what it sends. */
  #finish(verdict: number, batch: FrameBatch, i: number, port: number, nowMs: number): void {
    const flow = this.#fast.flowOf(i);
    this.#outcomes.count(verdict, batch.bytes, batch.offset[i], batch.length[i], port, flow, nowMs);
  }
}
