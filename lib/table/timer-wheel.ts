// HOT
// Deadlines of rows: a hashed wheel (Varghese and Lauck, 1987, scheme 6). Time is cut into ticks; the rows of tick t
// hang in slot t modulo the number of slots, in a doubly linked list. A deadline beyond a rotation waits in its slot
// until its round. The engine schedules lazily: a packet only writes last_seen, and a row that fires too soon for it
// is scheduled again.
//
// A row never fires early, and at most one tick plus the caller's own pause late. Times are whole milliseconds as
// doubles; a row keeps the low 32 bits of its deadline's tick, so one further ahead than 2^30 ticks (2,000 years of the
// default ones) fires then. Each row is in the wheel at most once, so the wheel cannot be full: all memory (12 bytes a row, 4
// a slot) is taken at construction.

import { invariant } from "../base/invariant.ts";

const END = -1;
const NOT_SCHEDULED = -2;

/** A deadline further ahead fires after so many ticks. */
const TICKS_AHEAD_MAX = 2 ** 30;

/** An advance looks at no more than this many rows and empty slots for each row that it may fire. */
const LOOKS_PER_FIRED = 16;

export class TimerWheel {
  readonly #tickMs: number;
  readonly #slots: number;
  readonly #first: Int32Array;
  readonly #next: Int32Array;
  /** The row before this one in its slot, or ~slot for the first. */
  readonly #before: Int32Array;
  /** The low 32 bits of the tick in which a row fires. */
  readonly #due: Int32Array;
  /** The tick whose slot is being looked through, or was last. */
  #hand: number;
  /** The next row to look at in the hand's slot; END when the slot is done. */
  #cursor = END;
  #count = 0;

  /** Rows are 0..capacity-1; `slots` is a power of two. */
  constructor(capacity: number, slots = 4096, tickMs = 64, startMs = 0) {
    invariant(slots > 0 && (slots & (slots - 1)) === 0, "timer wheel: slots must be a power of two");
    invariant(tickMs > 0, "timer wheel: a tick must take time");
    this.#tickMs = tickMs;
    this.#slots = slots;
    this.#first = new Int32Array(slots).fill(END);
    this.#next = new Int32Array(capacity).fill(NOT_SCHEDULED);
    this.#before = new Int32Array(capacity);
    this.#due = new Int32Array(capacity);
    this.#hand = Math.floor(startMs / tickMs);
  }

  /** Rows scheduled. */
  get count(): number {
    return this.#count;
  }

  isScheduled(row: number): boolean {
    return this.#next[row] !== NOT_SCHEDULED;
  }

  /** Let `row` fire once `deadlineMs` has passed, in place of any earlier schedule. A deadline in the past is due at the next tick. */
  schedule(row: number, deadlineMs: number): void {
    this.#enter(row, this.#tickOf(deadlineMs));
  }

  /** Let `row` fire by `deadlineMs` at the latest: an earlier schedule stays. */
  expedite(row: number, deadlineMs: number): void {
    const tick = this.#tickOf(deadlineMs);
    if (this.#next[row] === NOT_SCHEDULED || ((tick - this.#due[row]) | 0) < 0) this.#enter(row, tick);
  }

  #tickOf(deadlineMs: number): number {
    const tick = Math.max(Math.ceil(deadlineMs / this.#tickMs), this.#hand + 1);
    return Math.min(tick, this.#hand + TICKS_AHEAD_MAX);
  }

  #enter(row: number, tick: number): void {
    this.cancel(row);
    const slot = tick & (this.#slots - 1);
    const follower = this.#first[slot];
    this.#first[slot] = row;
    this.#before[row] = ~slot;
    this.#next[row] = follower;
    if (follower !== END) this.#before[follower] = row;
    this.#due[row] = tick;
    this.#count++;
  }

  /** Take `row` out; nothing happens when it is not scheduled. */
  cancel(row: number): void {
    const follower = this.#next[row];
    if (follower === NOT_SCHEDULED) return;
    const before = this.#before[row];
    if (before < 0) this.#first[~before] = follower;
    else this.#next[before] = follower;
    if (follower !== END) this.#before[follower] = before;
    if (this.#cursor === row) this.#cursor = follower;
    this.#next[row] = NOT_SCHEDULED;
    this.#count--;
  }

  /**
   * Move rows whose deadline has passed out of the wheel into `fired`, at most `limit` and as many as fit, and return
   * how many. In no order within a tick. The work of a call is bounded by `limit`, also after a long pause: what is
   * left, the next call goes on with, and isBehind tells that there is something.
   */
  advance(nowMs: number, limit: number, fired: Int32Array): number {
    const most = Math.min(limit, fired.length);
    const target = Math.floor(nowMs / this.#tickMs);
    const whole = Math.floor((target - this.#hand) / this.#slots);
    // After a long pause one rotation finds every due row; the further ones are skipped, keeping the hand's slot.
    if (whole > 1) this.#hand += (whole - 1) * this.#slots;

    let looks = most * LOOKS_PER_FIRED;
    let count = 0;
    while (count < most && looks-- > 0) {
      const row = this.#cursor;
      if (row === END) {
        if (this.#hand >= target) break;
        this.#hand++;
        this.#cursor = this.#first[this.#hand & (this.#slots - 1)];
      } else if (((this.#due[row] - target) | 0) <= 0) {
        this.cancel(row);
        fired[count++] = row;
      } else {
        this.#cursor = this.#next[row];
      }
    }
    return count;
  }

  /** True while rows that are due at `nowMs` may be left, because an advance ended at its limit. */
  isBehind(nowMs: number): boolean {
    return this.#cursor !== END || this.#hand < Math.floor(nowMs / this.#tickMs);
  }
}
