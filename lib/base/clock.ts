// Where time comes from. Protocol machines never read a clock: they are given `now`. Only the owner of a loop (the
// live pacer, replay, the simulator) holds a Clock and reads it once per turn.

/** Milliseconds since an arbitrary start, monotonic, never negative. Fits an int32 for 24 days; consumers compare with subtraction. */
export interface Clock {
  nowMs(): number;
  /** The same in microseconds, with a fraction. */
  nowUs(): number;
  /** Let a moment pass for a loop that found nothing to do: others on this processor go first. */
  relax(): void;
}

/**
 * Milliseconds from `thenMs`, kept in an int32 column, to `nowMs`. Columns wrap after 49.7 days: what is older than
 * half of that counts as half of that.
 */
export function elapsedMs(nowMs: number, thenMs: number): number {
  const elapsed = (nowMs - thenMs) | 0;
  return elapsed < 0 ? 0x7fffffff : elapsed;
}

/** The machine's monotonic clock. */
export class SystemClock implements Clock {
  readonly #start = performance.now();
  nowMs(): number {
    return Math.floor(performance.now() - this.#start);
  }
  nowUs(): number {
    return (performance.now() - this.#start) * 1000;
  }
  relax(): void {}
}

/** Time that moves only when told to: replay, tests, the simulator. */
export class ManualClock implements Clock {
  #nowMs: number;
  constructor(startMs = 0) {
    this.#nowMs = startMs;
  }
  nowMs(): number {
    return this.#nowMs;
  }
  nowUs(): number {
    return this.#nowMs * 1000;
  }
  relax(): void {}
  /** Move forward by `ms`; time never goes back. */
  advance(ms: number): void {
    if (ms > 0) this.#nowMs += ms;
  }
  /** Move forward to `ms`; an earlier value is ignored. */
  moveTo(ms: number): void {
    if (ms > this.#nowMs) this.#nowMs = ms;
  }
}
