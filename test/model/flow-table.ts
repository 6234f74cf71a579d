import { SlowKeyedRows } from "./keyed-rows.ts";
import { SlowSlab } from "./slab.ts";

export interface SlowFlow {
  /** Every word of the row but the counters: the key, then whatever was written since. */
  words: number[];
  packets: number;
  bytes: number;
  lastSeenMs: number;
}

/** Slow twin of table/flow-table.ts: a Map from keys to records, giving the same row numbers. */
export class SlowFlowTable {
  readonly #keyed: SlowKeyedRows<SlowFlow>;
  readonly #slab: SlowSlab;

  constructor(capacity: number) {
    this.#keyed = new SlowKeyedRows(capacity);
    this.#slab = new SlowSlab(capacity);
  }

  get count(): number {
    return this.#keyed.count;
  }

  /** Rows in use. */
  get rows(): number[] {
    return this.#keyed.rows;
  }

  find(...key: number[]): number {
    return this.#keyed.find(key);
  }

  /** The row, or -1 when full or the key is taken. */
  insert(...key: number[]): number {
    if (this.#keyed.count === this.#keyed.capacity || this.find(...key) >= 0) return -1;
    const row = this.#slab.allocate();
    this.#keyed.insert(row, key, { words: [...key], packets: 0, bytes: 0, lastSeenMs: 0 });
    return row;
  }

  remove(row: number): void {
    if (this.#keyed.remove(row)) this.#slab.free(row);
  }

  /** The row's record, to compare and to change. */
  flow(row: number): SlowFlow | undefined {
    return this.#keyed.columns(row);
  }

  touch(row: number, length: number, nowMs: number): void {
    const flow = this.flow(row)!;
    flow.packets++;
    flow.bytes += length;
    flow.lastSeenMs = nowMs;
  }
}
