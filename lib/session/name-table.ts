// Names that peers tell us (source routers), kept once each so that a session holds a number. Bounded: when it is full,
// or a name is longer than a name may be, row 0, our own name, stands in.

import { StateError, type StateReader, type StateWriter } from "../base/state.ts";

const NAME_BYTES_MAX = 63;

export class NameTable {
  readonly #capacity: number;
  readonly #bytes: Uint8Array[] = [];
  readonly #rows = new Map<string, number>();

  constructor(capacity: number, own: string) {
    this.#capacity = capacity;
    this.#add(own, new TextEncoder().encode(own));
  }

  /** The row of `name`, added when it is new. */
  row(name: string): number {
    const known = this.#rows.get(name);
    if (known !== undefined) return known;
    const bytes = new TextEncoder().encode(name);
    if (name === "" || bytes.length > NAME_BYTES_MAX || this.#bytes.length === this.#capacity) return 0;
    return this.#add(name, bytes);
  }

  bytes(row: number): Uint8Array {
    return this.#bytes[row];
  }

  save(out: StateWriter): void {
    out.i32(this.#bytes.length);
    for (const bytes of this.#bytes) out.raw(bytes);
  }

  /** Into a table of the same own name. Returns the row here of each row there. */
  restore(from: StateReader): number[] {
    const rows: number[] = [];
    for (let left = from.count(this.#capacity, "names"); left > 0; left--) {
      const name = from.text();
      const row = this.row(name);
      if ((row === 0) !== (rows.length === 0)) throw new StateError(`a name that cannot be: ${name}`);
      rows.push(row);
    }
    return rows;
  }

  #add(name: string, bytes: Uint8Array): number {
    this.#rows.set(name, this.#bytes.length);
    return this.#bytes.push(bytes) - 1;
  }
}
