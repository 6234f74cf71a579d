// HOT
// The forwarding plane's loop. One turn of a port: receive a batch, take every frame through decode → fast path → slow
// path, then send what was queued. Work per turn is bounded by the batch and by the slow path's limit, and the clock is
// read by the caller, once.
//
// A packet of a known flow is finished where it stands in the batch, so the order within a flow is kept. Packets of no
// flow wait until the batch is through: established sessions go first, and admission.ts says how many of the others
// there is time for.

import { FRAME_TRUNCATED, FrameBatch, type Port } from "../io/port.ts";
import type { RouterInterface } from "../peer/router-interface.ts";
import type { CounterSet } from "../table/counter-set.ts";
import type { FragmentTable } from "../table/fragment-table.ts";
import type { TimerWheel } from "../table/timer-wheel.ts";
import { ANY_MAC, decodeFrame } from "../wire/flow-key.ts";
import {
  CONSUMED,
  DROP,
  DROP_FRAGMENT_TIMEOUT,
  DROP_ICMP_ERROR,
  DROP_SLOW_PATH_FULL,
  DROP_TRUNCATED,
  OK,
  PUNT_ARP,
  PUNT_ICMP_ERROR,
  PUNT_MISS,
  PUNT_SESSION,
} from "../wire/verdict.ts";
import { Admission, TIMERS_PER_TICK } from "./admission.ts";
import { dropCounter, FRAMES_CONSUMED, FRAMES_FORWARDED, FRAMES_RECEIVED, SLOW_PATH_PACKETS } from "./counters.ts";
import type { Egress } from "./egress.ts";
import type { FastPath } from "./fast-path.ts";
import type { Resolver } from "./resolver.ts";
import type { SlowPath } from "./slow-path.ts";

/** How often neighbors, held frames and fragment chains are looked at. */
const HOUSEKEEPING_MS = 100;

export class Engine {
  readonly #ports: readonly Port[];
  readonly #interfaces: readonly RouterInterface[];
  readonly #fast: FastPath;
  readonly #slow: SlowPath;
  readonly #egress: Egress;
  readonly #resolver: Resolver;
  readonly #fragments: readonly FragmentTable[];
  readonly #wheel: TimerWheel;
  readonly #counters: CounterSet;
  readonly #batch: FrameBatch;
  readonly #key: Int32Array;
  /** Rows of the batch whose flow is unknown. */
  readonly #missed: Int32Array;
  #missedCount = 0;
  /** How many of them this turn takes. */
  #missedMax = 0;
  readonly #admission: Admission;
  readonly #fired = new Int32Array(TIMERS_PER_TICK);
  #housekeepingMs = 0;

  constructor(parts: {
    ports: readonly Port[];
    interfaces: readonly RouterInterface[];
    fast: FastPath;
    slow: SlowPath;
    egress: Egress;
    resolver: Resolver;
    fragments: readonly FragmentTable[];
    wheel: TimerWheel;
    counters: CounterSet;
    keyRowWords: number;
    batchFrames: number;
    slowPathPerTurn: number;
  }) {
    this.#ports = parts.ports;
    this.#interfaces = parts.interfaces;
    this.#fast = parts.fast;
    this.#slow = parts.slow;
    this.#egress = parts.egress;
    this.#resolver = parts.resolver;
    this.#fragments = parts.fragments;
    this.#wheel = parts.wheel;
    this.#counters = parts.counters;
    this.#batch = new FrameBatch(new Uint8Array(0), parts.batchFrames);
    this.#key = new Int32Array(parts.keyRowWords);
    this.#missed = new Int32Array(parts.slowPathPerTurn);
    this.#admission = new Admission(parts.ports.length, parts.batchFrames, parts.slowPathPerTurn);
  }

  /** One turn of one port. Returns how many frames it received; fewer than a full batch means the port is empty. */
  portTurn(port: number, nowMs: number): number {
    const batch = this.#batch;
    const count = this.#ports[port].rx(batch);
    if (count === 0) return 0;
    this.#counters.add(FRAMES_RECEIVED, count);
    this.#missedCount = 0;
    this.#missedMax = this.#admission.begin(port, count, nowMs);
    let forwarded = 0;
    for (let i = 0; i < count; i++) {
      const verdict = this.#frame(batch, i, port, nowMs);
      if (verdict === OK) forwarded++;
      else if (verdict !== PUNT_MISS) this.#finish(verdict);
    }
    this.#counters.add(FRAMES_FORWARDED, forwarded);
    this.#admission.end(forwarded, this.#missedCount, nowMs);
    if (this.#missedCount > 0) this.#openMissed(batch, port, nowMs);
    if (this.#resolver.isUrgent) this.#resolver.tick(nowMs);
    this.#egress.flush();
    return count;
  }

  /** One turn of every port, and of time. Returns the number of frames received. */
  turn(nowMs: number): number {
    let count = 0;
    for (let port = 0; port < this.#ports.length; port++) count += this.portTurn(port, nowMs);
    this.tick(nowMs);
    return count;
  }

  /**
   * Serve the timers that are due: some sessions' per call, and ten times a second everything small. Returns whether
   * more sessions' timers may be due; call again, once the ports have had their turn.
   */
  tick(nowMs: number): boolean {
    const fired = this.#wheel.advance(nowMs, this.#admission.timers(nowMs), this.#fired);
    for (let i = 0; i < fired; i++) this.#slow.timer(this.#fired[i], nowMs);
    if (nowMs >= this.#housekeepingMs) {
      this.#housekeepingMs = nowMs + HOUSEKEEPING_MS;
      this.#resolver.tick(nowMs);
      this.#egress.expireHeld(nowMs);
      for (let path = 0; path < this.#fragments.length; path++) {
        this.#counters.add(dropCounter(DROP_FRAGMENT_TIMEOUT), this.#fragments[path].expire(nowMs));
      }
    }
    this.#egress.flush();
    return this.#wheel.isBehind(nowMs);
  }

  /** Take one frame as far as it goes now. OK only from the fast path, which leaves the counting to its caller. */
  #frame(batch: FrameBatch, i: number, port: number, nowMs: number): number {
    if ((batch.flags[i] & FRAME_TRUNCATED) !== 0) return DROP_TRUNCATED;
    const decoded = this.#decode(batch, i, port);
    if (decoded !== OK) {
      if (decoded === PUNT_ARP) return this.#resolver.receive(batch, i, port, nowMs);
      return decoded === PUNT_ICMP_ERROR ? DROP_ICMP_ERROR : decoded;
    }
    const verdict = this.#fast.forward(batch, i, this.#key, nowMs);
    if (verdict === OK) return OK;
    this.#counters.increment(SLOW_PATH_PACKETS);
    if (verdict === PUNT_SESSION) {
      const outcome = this.#slow.session(batch, i, this.#key, this.#fast.flow, nowMs);
      return outcome === OK ? PUNT_SESSION : outcome;
    }
    if (this.#missedCount >= this.#missedMax) return DROP_SLOW_PATH_FULL;
    this.#missed[this.#missedCount++] = i;
    return PUNT_MISS;
  }

  #decode(batch: FrameBatch, i: number, port: number): number {
    const own = this.#interfaces[port];
    const macHigh = own.acceptAnyMac ? ANY_MAC : own.macHigh;
    return decodeFrame(batch.bytes, batch.offset[i], batch.length[i], port, macHigh, own.macLow, this.#key);
  }

  /** The packets of no flow, in order: the first of a flow opens its session, the others behind it find that. */
  #openMissed(batch: FrameBatch, port: number, nowMs: number): void {
    for (let n = 0; n < this.#missedCount; n++) {
      const i = this.#missed[n];
      this.#decode(batch, i, port);
      let verdict = this.#fast.forward(batch, i, this.#key, nowMs);
      if (verdict === OK) this.#counters.increment(FRAMES_FORWARDED);
      else if (verdict === PUNT_SESSION) verdict = this.#slow.session(batch, i, this.#key, this.#fast.flow, nowMs);
      else verdict = this.#slow.miss(batch, i, this.#key, nowMs);
      this.#finish(verdict);
    }
  }

  /** Count what became of a frame that the fast path did not forward. The slow path counts what it sends. */
  #finish(verdict: number): void {
    if (verdict >= DROP) this.#counters.increment(dropCounter(verdict));
    else if (verdict === CONSUMED) this.#counters.increment(FRAMES_CONSUMED);
  }
}
