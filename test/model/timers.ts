/** Slow twin of table/timer-wheel.ts: a map of deadlines, searched whole. */
export class SlowTimers {
  readonly #deadlineMs = new Map<number, number>();

  get count(): number {
    return this.#deadlineMs.size;
  }

  schedule(row: number, deadlineMs: number): void {
    this.#deadlineMs.set(row, deadlineMs);
  }

  cancel(row: number): void {
    this.#deadlineMs.delete(row);
  }

  isScheduled(row: number): boolean {
    return this.#deadlineMs.has(row);
  }

  deadlineMs(row: number): number | undefined {
    return this.#deadlineMs.get(row);
  }

  /** Rows with a deadline at or before `nowMs`, by deadline; they stay until cancelled. */
  due(nowMs: number): number[] {
    return [...this.#deadlineMs]
      .filter(([, deadline]) => deadline <= nowMs)
      .sort((a, b) => a[1] - b[1])
      .map(([row]) => row);
  }
}
