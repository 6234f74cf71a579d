/**
 * Slow twin of whatever finds rows by the words of a key: table/hash-index.ts, and the flow and session tables above
 * it. `Columns` is what a row holds besides its key.
 */
export class SlowKeyedRows<Columns = undefined> {
  readonly #rowOfKey = new Map<string, number>();
  readonly #rows = new Map<number, { key: string; columns: Columns }>();
  readonly capacity: number;

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  get count(): number {
    return this.#rows.size;
  }

  /** Row numbers in use, in order of insertion. */
  get rows(): number[] {
    return [...this.#rows.keys()];
  }

  /** The row of the key, or -1. */
  find(key: ArrayLike<number>): number {
    return this.#rowOfKey.get(text(key)) ?? -1;
  }

  /** False when full, when the key is present, or when the row is taken. */
  insert(row: number, key: ArrayLike<number>, columns: Columns): boolean {
    if (this.#rows.size === this.capacity || this.#rows.has(row) || this.#rowOfKey.has(text(key))) return false;
    this.#rowOfKey.set(text(key), row);
    this.#rows.set(row, { key: text(key), columns });
    return true;
  }

  /** The key's words, or undefined for a row not in use. */
  key(row: number): number[] | undefined {
    return this.#rows.get(row)?.key.split(",").map(Number);
  }

  /** What the row holds, to read and to change; undefined for a row not in use. */
  columns(row: number): Columns | undefined {
    return this.#rows.get(row)?.columns;
  }

  /** False when the row is not in use. */
  remove(row: number): boolean {
    const key = this.#rows.get(row)?.key;
    if (key === undefined) return false;
    this.#rowOfKey.delete(key);
    return this.#rows.delete(row);
  }
}

function text(key: ArrayLike<number>): string {
  return Array.from(key, (word) => word | 0).join(",");
}
