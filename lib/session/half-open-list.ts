// TCP sessions whose handshake is not complete, oldest first: when the session table is full, the oldest of them makes
// room (a flood of SYNs then evicts itself, never an established session). A doubly linked list through two columns.

export class HalfOpenList {
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  /** The list's ends live in row `capacity`; a row that points to itself is in no list. */
  readonly #end: number;

  constructor(capacity: number) {
    this.#end = capacity;
    this.#next = new Int32Array(capacity + 1).map((_, row) => row);
    this.#previous = this.#next.slice();
  }

  /** Append `row`; nothing happens when it is in the list. */
  add(row: number): void {
    if (this.#next[row] !== row) return;
    const last = this.#previous[this.#end];
    this.#next[last] = row;
    this.#previous[row] = last;
    this.#next[row] = this.#end;
    this.#previous[this.#end] = row;
  }

  /** Take `row` out; nothing happens when it is in no list. */
  remove(row: number): void {
    const next = this.#next[row];
    const previous = this.#previous[row];
    this.#next[previous] = next;
    this.#previous[next] = previous;
    this.#next[row] = row;
    this.#previous[row] = row;
  }

  /** The row added first, or -1. */
  oldest(): number {
    const first = this.#next[this.#end];
    return first === this.#end ? -1 : first;
  }
}
