// Half-open sessions, oldest first: those that only one end has been heard of. A TCP session is half-open until its
// handshake is complete, any other until its first reverse packet. When the session table is full the oldest of them
// makes room, so a flood of packets that nobody answers evicts itself and never an established session. A doubly
// linked list through two columns, 8 bytes a session.

export class HalfOpenList {
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  /** The list's ends live in row `capacity`; a row that points to itself is in no list. */
  readonly #end: number;
  #count = 0;

  constructor(capacity: number) {
    this.#end = capacity;
    this.#next = new Int32Array(capacity + 1);
    this.#previous = new Int32Array(capacity + 1);
    for (let row = 0; row <= capacity; row++) {
      this.#next[row] = row;
      this.#previous[row] = row;
    }
  }

  /** Rows in the list. */
  get count(): number {
    return this.#count;
  }

  has(row: number): boolean {
    return this.#next[row] !== row;
  }

  /** Append `row`. Returns false, changing nothing, when it is in the list. */
  add(row: number): boolean {
    if (this.has(row)) return false;
    const last = this.#previous[this.#end];
    this.#next[last] = row;
    this.#previous[row] = last;
    this.#next[row] = this.#end;
    this.#previous[this.#end] = row;
    this.#count++;
    return true;
  }

  /** Take `row` out. Returns false, changing nothing, when it is in no list. */
  remove(row: number): boolean {
    if (!this.has(row)) return false;
    const next = this.#next[row];
    const previous = this.#previous[row];
    this.#next[previous] = next;
    this.#previous[next] = previous;
    this.#next[row] = row;
    this.#previous[row] = row;
    this.#count--;
    return true;
  }

  /** All rows, the one added first first. */
  *rows(): Generator<number> {
    for (let row = this.#next[this.#end]; row !== this.#end; row = this.#next[row]) yield row;
  }

  /** The row added first, or -1. */
  oldest(): number {
    const first = this.#next[this.#end];
    return first === this.#end ? -1 : first;
  }
}
