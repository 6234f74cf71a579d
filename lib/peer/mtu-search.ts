// How large a packet a path takes, found by probes (RFC 4821, RFC 8899 in spirit; protocol sheet 6.5): a machine without
// I/O and without a clock. Probes are large and their answers small, so each size tells of one direction.
//
//   begin ─► the largest size of the round ──answered──────────────────────────────► that is it, after one probe
//              │ silent, or an ICMP error about it
//              ▼
//            a size between what was answered and what was not, over and over ─► two neighbors ─► once more the upper one
//
// Each probe has a small companion right behind it. Silence says something of the size only while companions come back,
// and as much as their losses let it: of a clean path three silent probes are enough, of a lossy one it takes more. The
// search steps on slight evidence and believes the end of it, the size one above the result, on strong: whatever step was
// wrong on the way down, that size would pass, and the search goes on from there.
//
// Between two rounds a single probe of the size that is known to pass, every GUARD_MS, tells when the path has become
// narrower and says nothing of it.

import { StateError, type StateReader, type StateWriter } from "../base/state.ts";

/** No path is believed to be narrower (protocol sheet 6.5); the size of companions. */
export const PATH_MTU_MIN = 576;
/** Of a known size: a path that swallows it is found within this, a wait and a search. */
export const GUARD_MS = 2000;
/** After a change is suspected from outside a round begins: later than whatever told of it has had its effect everywhere, */
const SOON_MS = 1000;
/** and so far from the round before: whoever forges ICMP errors causes no more. */
const ROUNDS_APART_MS = 10_000;
/** Between two probes of one size. */
const GAP_MS = 20;
/** How long an answer is waited for: four round trips and some, within these. */
const WAIT_MIN_MS = 100;
const WAIT_MAX_MS = 1000;
/** Silent probes of a size on a path that loses nothing (protocol sheet 6.5). */
const PROBES_MIN = 3;
const PROBES_MAX = 40;
/** A peer that answers none of so many companions answers no probes at all. */
const COMPANIONS_UNANSWERED = 10;
/** How likely a size may pass that a step holds for too large, */
const STEP_DOUBT = 1e-2;
/** and the one above the result. */
const RESULT_DOUBT = 1e-6;
/** What paths usually take: Ethernet's jumbo frames, FDDI, Ethernet, PPPoE, tunnels over them, IPv6's least. */
const LANDMARKS = [9000, 8192, 4352, 2002, 1500, 1492, 1480, 1476, 1460, 1450, 1420, 1400, 1380, 1300, 1280, 1006];

export class MtuSearch {
  readonly #mtuMax: number;
  readonly #intervalMs: number;
  /** The largest size that the path takes, to the byte; 0 = not known. */
  size = 0;
  /** When the round began that told so. */
  beganMs = Number.NEGATIVE_INFINITY;
  /** Of the next probe. */
  #number: number;
  /** When the next round begins of its own accord; Infinity = the path is down. */
  #nextMs = Number.POSITIVE_INFINITY;
  /** After a round without any answer, until the one after it. */
  #retryMs = ROUNDS_APART_MS;
  #waitMs = WAIT_MAX_MS;

  // The guard.
  #guardMs = Number.POSITIVE_INFINITY;
  #guardNumber = 0;
  #guardSentMs = -1;

  // The round; nothing of it is kept but its result.
  #isRunning = false;
  /** The path has just come up: what was known of it may be of another way. */
  #isFresh = false;
  #roundMs = Number.NEGATIVE_INFINITY;
  #roundFirst = 0;
  #roundTripMs = 0;
  /** No size above it is tried. */
  #top = 0;
  /** The largest size answered; 0 = none. */
  #low = 0;
  /** The least size held for too large, or one above the top; and how likely it passes all the same. */
  #high = 0;
  #doubt = 0;
  /** What an ICMP error told; 0 = nothing. */
  #hint = 0;
  #companions = 0;
  #companionsBack = 0;

  // The size in hand: pairs of a probe and its companion.
  #size = 0;
  #mayDoubt = STEP_DOUBT;
  #first = 0;
  #sent = 0;
  #planned = 0;
  /** Pairs whose time is over. */
  #judged = 0;
  readonly #sentMs = new Float64Array(PROBES_MAX);
  readonly #isBack = new Uint8Array(PROBES_MAX);

  /**
   * `mtuMax`: of the interface, at least PATH_MTU_MIN. A round every `intervalMs` while the path is up. `number`: of the first probe, best one that
   * nobody can guess.
   */
  constructor(options: { mtuMax: number; intervalMs: number; number: number }) {
    this.#mtuMax = options.mtuMax;
    this.#intervalMs = options.intervalMs;
    this.#number = options.number >>> 0;
  }

  /** A round is on: what the path takes will be known better soon. */
  get isSearching(): boolean {
    return this.#isRunning;
  }

  /** The path is up, perhaps by another way than before: look at once. */
  start(nowMs: number): void {
    this.#isRunning = false;
    this.#isFresh = true;
    this.#retryMs = ROUNDS_APART_MS;
    this.#waitMs = WAIT_MAX_MS;
    this.#nextMs = nowMs;
  }

  /** The path is down. What was found stays. */
  stop(): void {
    this.#isRunning = false;
    this.#nextMs = Number.POSITIVE_INFINITY;
    this.#guardMs = Number.POSITIVE_INFINITY;
    this.#guardSentMs = -1;
  }

  /** Something may have changed: a round begins soon. `told`: what an ICMP error says that the path takes; 0 = nothing. */
  suspect(told: number, nowMs: number): void {
    if (this.#nextMs === Number.POSITIVE_INFINITY) return;
    this.#hint = told;
    this.#nextMs = Math.min(this.#nextMs, Math.max(nowMs + SOON_MS, this.#roundMs + ROUNDS_APART_MS));
  }

  /** When poll has something to do. */
  get dueMs(): number {
    if (!this.#isRunning) {
      const guardMs = this.#guardSentMs < 0 ? this.#guardMs : this.#guardSentMs + this.#waitMs;
      return Math.min(this.#nextMs, guardMs);
    }
    const judgeMs =
      this.#judged < this.#sent >> 1 ? this.#sentMs[this.#judged] + this.#waitMs : Number.POSITIVE_INFINITY;
    return Math.min(this.#sendMs(), judgeMs);
  }

  /** Let time pass. Returns the size of the IPv4 packet that goes now, with `sent`'s number; 0 = none. Call until it is 0. */
  poll(nowMs: number): number {
    if (this.#isRunning) this.#judge(nowMs);
    if (!this.#isRunning && nowMs >= this.#nextMs) {
      this.#nextMs = nowMs + this.#intervalMs;
      this.#begin(this.#mtuMax, nowMs);
    }
    if (!this.#isRunning) return this.#pollGuard(nowMs);
    if (nowMs < this.#sendMs()) return 0;
    return (this.#sent & 1) === 0 ? this.#size : PATH_MTU_MIN;
  }

  /** What poll asked for goes at nowMs. Returns its number. */
  sent(nowMs: number): number {
    const number = this.#number;
    this.#number = (number + 1) >>> 0;
    if (!this.#isRunning) {
      this.#guardNumber = number;
      this.#guardSentMs = nowMs;
      return number;
    }
    if ((this.#sent & 1) === 0) {
      this.#sentMs[this.#sent >> 1] = nowMs;
      this.#isBack[this.#sent >> 1] = 0;
    }
    this.#sent++;
    return number;
  }

  /** The peer says that probe `number` came, and how long it was. Whatever was never sent counts for nothing. */
  answered(number: number, size: number, nowMs: number): void {
    if (this.#guardSentMs >= 0 && number === this.#guardNumber) {
      if (size >= this.size) this.#guardHeard();
      return;
    }
    if (!this.#isRunning || (number - this.#roundFirst) >>> 0 >= (this.#number - this.#roundFirst) >>> 0) return;
    if (size > this.#top) return;
    const index = (number - this.#first) >>> 0;
    if (index < this.#sent) this.#back(index, nowMs);
    if (size > this.#low) this.#low = size;
    // It was late, and what was concluded from that is wrong.
    if (this.#low >= this.#high) this.#openUpward();
    if (this.#low >= this.#size) this.#next(nowMs);
  }

  /** An ICMP error quotes a probe of ours of this size: it is too large; `told` is what would not be, 0 = not said. */
  tooBig(size: number, told: number, nowMs: number): void {
    if (!this.#isRunning) {
      if (this.#guardSentMs >= 0 && size === this.size) this.#suspectSize(told, nowMs);
      return;
    }
    if (told >= PATH_MTU_MIN && told < size) this.#hint = told;
    if (size !== this.#size || size <= this.#low) return;
    this.#high = size;
    this.#doubt = 0;
    this.#next(nowMs);
  }

  /** Not of a round: one that runs begins anew elsewhere. */
  save(out: StateWriter): void {
    const nextMs = this.#isRunning ? Number.NEGATIVE_INFINITY : this.#nextMs;
    for (const value of [this.size, this.beganMs, this.#number, nextMs, this.#retryMs, this.#waitMs]) out.f64(value);
    for (const value of [this.#guardMs, this.#roundMs]) out.f64(value);
    out.flag(this.#isFresh);
  }

  restore(from: StateReader): void {
    [this.size, this.beganMs, this.#number, this.#nextMs, this.#retryMs, this.#waitMs] = Array.from({ length: 6 }, () =>
      from.f64(),
    );
    [this.#guardMs, this.#roundMs] = Array.from({ length: 2 }, () => from.f64());
    this.#isFresh = from.flag();
    const isSize = this.size === 0 || (this.size >= PATH_MTU_MIN && this.size <= this.#mtuMax);
    if (!isSize) throw new StateError("a path takes packets of no size that it could");
  }

  #pollGuard(nowMs: number): number {
    if (this.#guardSentMs < 0) return nowMs >= this.#guardMs ? this.size : 0;
    if (nowMs < this.#guardSentMs + this.#waitMs) return 0;
    this.#suspectSize(0, nowMs);
    return this.#size;
  }

  #guardHeard(): void {
    this.#guardMs = this.#guardSentMs + GUARD_MS;
    this.#guardSentMs = -1;
  }

  /** The size that was known to pass did not: look at it, and below. */
  #suspectSize(told: number, nowMs: number): void {
    this.#hint = told;
    this.#begin(this.size, nowMs);
  }

  #begin(top: number, nowMs: number): void {
    this.#isRunning = true;
    this.#guardSentMs = -1;
    this.#roundMs = nowMs;
    this.#roundFirst = this.#number;
    this.#roundTripMs = 0;
    this.#top = top;
    this.#low = 0;
    this.#companions = 0;
    this.#companionsBack = 0;
    this.#openUpward();
    this.#try(top, STEP_DOUBT);
  }

  #openUpward(): void {
    this.#high = this.#top + 1;
    this.#doubt = 0;
  }

  #try(size: number, mayDoubt: number): void {
    this.#size = size;
    this.#mayDoubt = mayDoubt;
    this.#first = this.#number;
    this.#sent = 0;
    this.#judged = 0;
    this.#planned = mayDoubt === STEP_DOUBT ? PROBES_MIN : Math.min(PROBES_MAX, this.#needed());
  }

  #sendMs(): number {
    if ((this.#sent & 1) === 1) return Number.NEGATIVE_INFINITY;
    const pair = this.#sent >> 1;
    if (pair >= this.#planned) return Number.POSITIVE_INFINITY;
    return pair === 0 ? Number.NEGATIVE_INFINITY : this.#sentMs[pair - 1] + GAP_MS;
  }

  /** A packet of the size in hand is back, or a companion of one. */
  #back(index: number, nowMs: number): void {
    const pair = index >> 1;
    this.#roundTripMs = Math.max(this.#roundTripMs, nowMs - this.#sentMs[pair]);
    this.#waitMs = Math.min(WAIT_MAX_MS, Math.max(WAIT_MIN_MS, 4 * this.#roundTripMs + WAIT_MIN_MS / 2));
    if ((index & 1) === 0 || this.#isBack[pair] === 1) return;
    this.#isBack[pair] = 1;
    // After its time it was counted as lost.
    if (pair < this.#judged) this.#companionsBack++;
  }

  /** How likely a probe or its answer is lost, by what became of the companions. */
  #loss(): number {
    return (this.#companions - this.#companionsBack + 1) / (this.#companions + 2);
  }

  /** So many silent probes leave no more doubt than they may. */
  #needed(): number {
    return Math.max(PROBES_MIN, Math.ceil(Math.log(this.#mayDoubt) / Math.log(this.#loss())));
  }

  /** Count what is over; when all that was planned is, conclude from it, plan more, or give up. */
  #judge(nowMs: number): void {
    while (this.#judged < this.#sent >> 1 && nowMs >= this.#sentMs[this.#judged] + this.#waitMs) {
      this.#companions++;
      this.#companionsBack += this.#isBack[this.#judged++];
    }
    if (this.#judged < this.#planned) return;
    const needed = this.#needed();
    const isHeard = this.#isBack.subarray(0, this.#judged).includes(1);
    if (isHeard && this.#judged >= needed) {
      this.#high = this.#size;
      this.#doubt = this.#loss() ** this.#judged;
      this.#next(nowMs);
      return;
    }
    const most = this.#low === 0 ? COMPANIONS_UNANSWERED : PROBES_MAX;
    if (this.#judged >= most) this.#giveUp(nowMs);
    else this.#planned = Math.min(most, Math.max(this.#judged + 1, needed));
  }

  /** Behind each size: another one, or the end. */
  #next(nowMs: number): void {
    if (this.#high <= PATH_MTU_MIN) this.#giveUp(nowMs);
    else if (this.#high > Math.max(this.#low, PATH_MTU_MIN) + 1 || this.#low === 0)
      this.#try(this.#between(), STEP_DOUBT);
    else if (this.#doubt > RESULT_DOUBT) this.#try(this.#high, RESULT_DOUBT);
    else this.#found(nowMs);
  }

  /** A size above what was answered and below what was not. */
  #between(): number {
    const low = this.#low;
    const high = this.#high;
    if (low === 0 && high === PATH_MTU_MIN + 1) return PATH_MTU_MIN;
    const isInside = (size: number) => size > low && size < high && size >= PATH_MTU_MIN;
    for (const guess of [this.#hint, this.size]) {
      if (isInside(guess)) return guess;
      // What is a likely answer is likely all there is.
      if (low === guess && isInside(low + 1)) return low + 1;
    }
    if (LANDMARKS.includes(low) && isInside(low + 1)) return low + 1;
    const marks = LANDMARKS.filter(isInside);
    if (marks.length > 0) return marks[marks.length >> 1];
    return (Math.max(low, PATH_MTU_MIN) + high) >> 1;
  }

  #found(nowMs: number): void {
    this.size = this.#low;
    this.beganMs = this.#roundMs;
    this.#retryMs = ROUNDS_APART_MS;
    this.#end(nowMs);
  }

  /** Nobody answers, or too little comes through to tell: what was known holds, if it is of this path. */
  #giveUp(nowMs: number): void {
    if (this.#isFresh) this.size = 0;
    this.#nextMs = Math.min(this.#nextMs, nowMs + this.#retryMs);
    this.#retryMs = Math.min(2 * this.#retryMs, this.#intervalMs);
    this.#end(nowMs);
  }

  #end(nowMs: number): void {
    this.#isRunning = false;
    this.#isFresh = false;
    this.#hint = 0;
    this.#guardMs = this.size === 0 ? Number.POSITIVE_INFINITY : nowMs + GUARD_MS;
  }
}
