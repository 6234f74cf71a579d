// Row numbers for a fixed number of rows: who may use which row of the columns that the caller owns. All memory (4
// bytes a row) is taken at construction. Full: allocate returns -1 and nothing changes; the caller decides what that
// means.
//
// Free rows form a stack (last freed, first reused): that row's columns are the likeliest to be in the cache still,
// and a table that is never full touches only as much memory as its peak.

import { invariant } from "../base/invariant.ts";

const LIVE = -1;

export class Slab {
  readonly capacity: number;
  /** Per row LIVE, or the freed row below it on the stack plus one; 0 for the last, and for rows that were never used. */
  readonly #state: Int32Array;
  /** The row on top of the stack of freed rows, plus one; 0 = there is none. */
  #top = 0;
  #fresh = 0;
  #live = 0;

  constructor(capacity: number) {
    invariant(Number.isInteger(capacity) && capacity > 0, "a slab needs a positive whole capacity");
    this.capacity = capacity;
    this.#state = new Int32Array(capacity);
  }

  /** Rows in use. */
  get live(): number {
    return this.#live;
  }

  /** Returns a row that was not live, or -1 when all are. A fresh slab gives 0, 1, 2, … */
  allocate(): number {
    let row = this.#top - 1;
    if (row >= 0) this.#top = this.#state[row];
    else if (this.#fresh < this.capacity) row = this.#fresh++;
    else return -1;
    this.#state[row] = LIVE;
    this.#live++;
    return row;
  }

  /** Give `row` back. Freeing a row that is not live is an InvariantError. */
  free(row: number): void {
    invariant(this.isLive(row), "slab: freed a row that is not live");
    this.#state[row] = this.#top;
    this.#top = row + 1;
    this.#live--;
  }

  /** False for rows outside the slab too. */
  isLive(row: number): boolean {
    return this.#state[row] === LIVE;
  }
}
