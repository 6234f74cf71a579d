import { SlowSlab } from "./slab.ts";

/** Slow twin of table/session-table.ts: a Map from rows to records of the caller's, giving the same row numbers. */
export class SlowSessionTable<Columns> {
  readonly #slab: SlowSlab;
  readonly #sessions = new Map<number, Columns>();

  constructor(capacity: number) {
    this.#slab = new SlowSlab(capacity);
  }

  get count(): number {
    return this.#sessions.size;
  }

  /** Rows in use, oldest session first. */
  get rows(): number[] {
    return [...this.#sessions.keys()];
  }

  /** A row that holds `columns`, or -1 when full. */
  allocate(columns: Columns): number {
    const row = this.#slab.allocate();
    if (row >= 0) this.#sessions.set(row, columns);
    return row;
  }

  free(row: number): void {
    if (this.#sessions.delete(row)) this.#slab.free(row);
  }

  isLive(row: number): boolean {
    return this.#sessions.has(row);
  }

  /** The row's record, to compare and to change; undefined for a free row. */
  columns(row: number): Columns | undefined {
    return this.#sessions.get(row);
  }
}
