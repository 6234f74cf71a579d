/** Slow twin of table/port-pool.ts: a list of free rows, each with the time from which it may be used. */
export class SlowPortPool {
  readonly used = new Set<number>();
  readonly #free: { row: number; fromMs: number }[] = [];
  readonly #quarantineMs: number;

  constructor(capacity: number, quarantineMs: number, firstRow = 0, stride = 1) {
    this.#quarantineMs = quarantineMs;
    for (let row = firstRow; row < capacity; row += stride) this.#free.push({ row, fromMs: Number.NEGATIVE_INFINITY });
  }

  allocate(nowMs: number): number {
    if (this.#free.length === 0 || this.#free[0].fromMs > nowMs) return -1;
    const { row } = this.#free.shift()!;
    this.used.add(row);
    return row;
  }

  /** Only a pair that was never given out. */
  reserve(row: number): number {
    const at = this.#free.findIndex((free) => free.row === row && free.fromMs === Number.NEGATIVE_INFINITY);
    if (at < 0) return -1;
    this.#free.splice(at, 1);
    this.used.add(row);
    return row;
  }

  release(row: number, nowMs: number): void {
    this.used.delete(row);
    this.#free.push({ row, fromMs: nowMs + this.#quarantineMs });
  }
}
