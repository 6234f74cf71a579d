// HOT
// The forwarding plane's loop. One turn of a port: receive a batch, take every frame through decode → fast path → slow
// path, then send what was queued. Work per turn is bounded by the batch and by the slow path's limit, and the clock is
// read by the caller, once.
//
// A packet of a known flow is finished where it stands in the batch, so the order within a flow is kept. Packets of no
// flow wait until the batch is through: established sessions go first, and a flood of new ones costs at most
// `slowPathPerTurn` each turn.

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
import { dropCounter, FRAMES_CONSUMED, FRAMES_FORWARDED, FRAMES_RECEIVED, SLOW_PATH_PACKETS } from "./counters.ts";
import type { Egress } from "./egress.ts";
import type { FastPath } from "./fast-path.ts";
import type { Resolver } from "./resolver.ts";
import type { SlowPath } from "./slow-path.ts";
import type { Strays } from "./strays.ts";

/** How often neighbors, held frames and fragment chains are looked at. */
const HOUSEKEEPING_MS = 100;
/** Session timers served per turn at most. */
const TIMERS_PER_TURN = 1024;

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
  readonly #strays: Strays | null;
  readonly #batch: FrameBatch;
  readonly #key: Int32Array;
  /** Rows of the batch whose flow is unknown. */
  readonly #missed: Int32Array;
  #missedCount = 0;
  readonly #fired = new Int32Array(TIMERS_PER_TURN);
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
    /** The way to the other workers; null where there are none. */
    strays: Strays | null;
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
    this.#strays = parts.strays;
    this.#batch = new FrameBatch(new Uint8Array(0), parts.batchFrames);
    this.#key = new Int32Array(parts.keyRowWords);
    this.#missed = new Int32Array(parts.slowPathPerTurn);
  }

  /** One turn of one port. Returns how many frames it received; fewer than a full batch means the port is empty. */
  portTurn(port: number, nowMs: number): number {
    const batch = this.#batch;
    const count = this.#ports[port].rx(batch);
    if (count === 0) return 0;
    this.#counters.add(FRAMES_RECEIVED, count);
    this.#missedCount = 0;
    let forwarded = 0;
    for (let i = 0; i < count; i++) {
      const verdict = this.#frame(batch, i, port, nowMs);
      if (verdict === OK) forwarded++;
      else if (verdict !== PUNT_MISS) this.#finish(verdict);
    }
    this.#counters.add(FRAMES_FORWARDED, forwarded);
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

  /** Serve the timers that are due: some sessions' per call, and ten times a second everything small. */
  tick(nowMs: number): void {
    const fired = this.#wheel.advance(nowMs, TIMERS_PER_TURN, this.#fired);
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
  }

  /** Take one frame as far as it goes now. OK only from the fast path, which leaves the counting to its caller. */
  #frame(batch: FrameBatch, i: number, port: number, nowMs: number): number {
    if ((batch.flags[i] & FRAME_TRUNCATED) !== 0) return DROP_TRUNCATED;
    const decoded = this.#decode(batch, i, port);
    if (decoded !== OK) {
      if (decoded === PUNT_ARP) return this.#takeArp(batch, i, port, nowMs);
      return decoded === PUNT_ICMP_ERROR ? DROP_ICMP_ERROR : decoded;
    }
    const verdict = this.#fast.forward(batch, i, this.#key, nowMs);
    if (verdict === OK) return OK;
    this.#counters.increment(SLOW_PATH_PACKETS);
    if (verdict === PUNT_SESSION) {
      const outcome = this.#slow.session(batch, i, this.#key, this.#fast.flow, nowMs);
      return outcome === OK ? PUNT_SESSION : outcome;
    }
    if (this.#missedCount === this.#missed.length) return DROP_SLOW_PATH_FULL;
    this.#missed[this.#missedCount++] = i;
    return PUNT_MISS;
  }

  #takeArp(batch: FrameBatch, i: number, port: number, nowMs: number): number {
    const verdict = this.#resolver.receive(batch, i, port, nowMs);
    if (verdict === CONSUMED && this.#strays !== null) this.#strays.copyArp(batch, i, port);
    return verdict;
  }

  /** Take the frame in row 0 that another worker handed over, as if it had come in on `port` here. */
  takeStray(batch: FrameBatch, port: number, nowMs: number): void {
    const decoded = this.#decode(batch, 0, port);
    this.#finish(decoded === OK ? this.#openOrForward(batch, 0, nowMs) : decoded);
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
      this.#finish(this.#openOrForward(batch, i, nowMs));
    }
  }

  /** Frame `i`, decoded: by its flow, or as the first of one. Counts it when it is forwarded. */
  #openOrForward(batch: FrameBatch, i: number, nowMs: number): number {
    const verdict = this.#fast.forward(batch, i, this.#key, nowMs);
    if (verdict === OK) this.#counters.increment(FRAMES_FORWARDED);
    else if (verdict === PUNT_SESSION) return this.#slow.session(batch, i, this.#key, this.#fast.flow, nowMs);
    else return this.#slow.miss(batch, i, this.#key, nowMs);
    return OK;
  }

  /** Count what became of a frame that the fast path did not forward. The slow path counts what it sends. */
  #finish(verdict: number): void {
    if (verdict >= DROP) this.#counters.increment(dropCounter(verdict));
    else if (verdict === CONSUMED) this.#counters.increment(FRAMES_CONSUMED);
  }
}
