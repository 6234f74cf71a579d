// Row numbers for a fixed number of rows: who may use which row of the columns that the caller owns. All memory is
// taken at construction. Full: allocate returns -1 and nothing changes; the caller decides what that means.
//
// Free rows form a stack (last freed, first reused): that row's columns are the likeliest to be in the cache still,
// and a table that is never full touches only as much memory as its peak. What FIFO would give, time before a row
// comes back, is the generation's work here: a holder of an old (row, generation) sees that the row moved on.

import { invariant } from "../base/invariant.ts";

export class Slab {
  readonly capacity: number;
  /** Freed rows, top last. Rows from #fresh on were never used and are not on it. */
  readonly #freed: Int32Array;
  #freedCount = 0;
  #fresh = 0;
  /** Odd while the row is live: both allocate and free count it up. */
  readonly #generation: Int32Array;

  constructor(capacity: number) {
    invariant(Number.isInteger(capacity) && capacity > 0, "a slab needs a positive whole capacity");
    this.capacity = capacity;
    this.#freed = new Int32Array(capacity);
    this.#generation = new Int32Array(capacity);
  }

  /** Rows in use. */
  get live(): number {
    return this.#fresh - this.#freedCount;
  }

  /** Returns a row that was not live, or -1 when all are. A fresh slab gives 0, 1, 2, … */
  allocate(): number {
    let row: number;
    if (this.#freedCount > 0) row = this.#freed[--this.#freedCount];
    else if (this.#fresh < this.capacity) row = this.#fresh++;
    else return -1;
    this.#generation[row]++;
    return row;
  }

  /** Give `row` back. Freeing a row that is not live is an InvariantError. */
  free(row: number): void {
    invariant(this.isLive(row), "slab: freed a row that is not live");
    this.#generation[row]++;
    this.#freed[this.#freedCount++] = row;
  }

  /** False for rows outside the slab too. */
  isLive(row: number): boolean {
    return (this.#generation[row] & 1) === 1;
  }

  /** A number that differs between two lives of a row (int32, wraps after 2^31 lives). */
  generation(row: number): number {
    return this.#generation[row];
  }
}
