// HOT
// Words to row: finds the row of the caller's table whose key equals the given words. Open addressing with linear
// probing at a load of at most one half; removal shifts later entries back, so there are no tombstones and lookups
// do not slow down with age. The hash is seeded per boot (base/hash.ts), so chosen keys do not collide.
//
//   slots   | hash | row + 1 | hash | row + 1 | ...     one Int32Array; row + 1 = 0 is an empty slot
//   rows    | key words ... other words ... | ...       the caller's; row r begins at r * rowWords with its key
//
// The index only reads `rows`. A row's key must be in place before insert and unchanged until after remove. All
// memory is taken at construction (8 bytes a slot, 2 to 4 slots a row). Full (`count` = capacity): insert returns
// false and nothing changes.

import { hash4, hashWords } from "../base/hash.ts";
import { invariant } from "../base/invariant.ts";

export class HashIndex {
  readonly capacity: number;
  readonly #seed: number;
  readonly #keyWords: number;
  readonly #rows: Int32Array;
  readonly #rowWords: number;
  readonly #slots: Int32Array;
  /** Of a slot's position in #slots, which is even. */
  readonly #mask: number;
  #count = 0;

  /** `rows` holds rows of `rowWords` words, each beginning with a key of `keyWords` words. */
  constructor(capacity: number, seed: number, keyWords: number, rows: Int32Array, rowWords: number) {
    invariant(Number.isInteger(capacity) && capacity > 0 && capacity <= 1 << 28, "hash index: capacity 1 to 2^28");
    invariant(keyWords > 0 && keyWords <= rowWords, "hash index: the key must fit in a row");
    this.capacity = capacity;
    this.#seed = seed | 0;
    this.#keyWords = keyWords;
    this.#rows = rows;
    this.#rowWords = rowWords;
    let slotCount = 2;
    while (slotCount < capacity * 2) slotCount *= 2;
    this.#slots = new Int32Array(slotCount * 2);
    this.#mask = slotCount * 2 - 2;
  }

  get count(): number {
    return this.#count;
  }

  /** The row whose key is these four int32 words, or -1. Only for an index of 4-word keys. */
  find4(w0: number, w1: number, w2: number, w3: number): number {
    const slots = this.#slots;
    const rows = this.#rows;
    const mask = this.#mask;
    const hash = hash4(this.#seed, w0, w1, w2, w3);
    for (let slot = (hash << 1) & mask; ; slot = (slot + 2) & mask) {
      const row = slots[slot + 1] - 1;
      if (row < 0) return -1;
      if (slots[slot] !== hash) continue;
      const at = Math.imul(row, this.#rowWords);
      if (rows[at] === w0 && rows[at + 1] === w1 && rows[at + 2] === w2 && rows[at + 3] === w3) return row;
    }
  }

  /** The row whose key is the words of `key` from `at`, or -1. */
  find(key: Int32Array, at: number): number {
    const hash = hashWords(this.#seed, key, at, this.#keyWords);
    return this.#slots[this.#probe(hash, key, at) + 1] - 1;
  }

  /** Enter `row` under the key it holds. Returns false, changing nothing, when full or when the key has a row already. */
  insert(row: number): boolean {
    if (this.#count >= this.capacity) return false;
    const at = Math.imul(row, this.#rowWords);
    const hash = hashWords(this.#seed, this.#rows, at, this.#keyWords);
    const slot = this.#probe(hash, this.#rows, at);
    if (this.#slots[slot + 1] !== 0) return false;
    this.#slots[slot] = hash;
    this.#slots[slot + 1] = row + 1;
    this.#count++;
    return true;
  }

  /** Take `row` out. Returns false when it is not in (another row with the same key stays). */
  remove(row: number): boolean {
    const slots = this.#slots;
    const mask = this.#mask;
    const at = Math.imul(row, this.#rowWords);
    let hole = this.#probe(hashWords(this.#seed, this.#rows, at, this.#keyWords), this.#rows, at);
    if (slots[hole + 1] !== row + 1) return false;
    // An entry behind the hole may fill it unless its home lies between the two (seen along the probe direction).
    for (let slot = (hole + 2) & mask; slots[slot + 1] !== 0; slot = (slot + 2) & mask) {
      const home = (slots[slot] << 1) & mask;
      if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
      slots[hole] = slots[slot];
      slots[hole + 1] = slots[slot + 1];
      hole = slot;
    }
    slots[hole + 1] = 0;
    this.#count--;
    return true;
  }

  /** The slot that holds the key at `key[at]`, or the empty slot where its search ends. */
  #probe(hash: number, key: Int32Array, at: number): number {
    const slots = this.#slots;
    const mask = this.#mask;
    for (let slot = (hash << 1) & mask; ; slot = (slot + 2) & mask) {
      const row = slots[slot + 1] - 1;
      if (row < 0) return slot;
      if (slots[slot] === hash && this.#hasKey(row, key, at)) return slot;
    }
  }

  #hasKey(row: number, key: Int32Array, at: number): boolean {
    const rows = this.#rows;
    const own = Math.imul(row, this.#rowWords);
    for (let i = 0; i < this.#keyWords; i++) {
      if (rows[own + i] !== key[at + i]) return false;
    }
    return true;
  }
}
