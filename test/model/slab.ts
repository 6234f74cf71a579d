/** Slow twin of table/slab.ts: a set of live rows and a stack of freed ones. */
export class SlowSlab {
  readonly live = new Set<number>();
  readonly #freed: number[] = [];
  readonly #capacity: number;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  allocate(): number {
    if (this.live.size === this.#capacity) return -1;
    const row = this.#freed.pop() ?? this.live.size;
    this.live.add(row);
    return row;
  }

  free(row: number): void {
    this.live.delete(row);
    this.#freed.push(row);
  }
}
