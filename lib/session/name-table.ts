// Names that peers tell us (source routers), kept once each so that a session holds a number. Bounded: when it is full,
// or a name is longer than a name may be, row 0, our own name, stands in.

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

  #add(name: string, bytes: Uint8Array): number {
    this.#rows.set(name, this.#bytes.length);
    return this.#bytes.push(bytes) - 1;
  }
}
