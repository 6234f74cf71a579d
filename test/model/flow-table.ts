import { SlowKeyedRows } from "./keyed-rows.ts";

export interface SlowFlow {
  /** Every word of the row but the counters: the key, then whatever was written since. */
  words: number[];
  packets: number;
  bytes: number;
  lastSeenMs: number;
}

/** Slow twin of table/flow-table.ts: a Map from keys to records. Row numbers are the table's to give, and stay. */
export class SlowFlowTable {
  readonly #keyed: SlowKeyedRows<SlowFlow>;

  constructor(capacity: number) {
    this.#keyed = new SlowKeyedRows(capacity);
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

  /** Whether a key can have a row: not when full, nor when it has one. */
  takes(...key: number[]): boolean {
    return this.#keyed.count < this.#keyed.capacity && this.find(...key) < 0;
  }

  /** The key has this row from now on. False when that is somebody's. */
  insert(row: number, ...key: number[]): boolean {
    return this.#keyed.insert(row, key, { words: [...key], packets: 0, bytes: 0, lastSeenMs: 0 });
  }

  remove(row: number): void {
    this.#keyed.remove(row);
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
