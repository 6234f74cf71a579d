// HOT
// Words to row: finds the row of the caller's table whose key equals the given words. Open addressing with linear
// probing at a load of at most one half; removal shifts later entries back, so there are no tombstones and lookups
// do not slow down with age. The hash has a key drawn per boot (base/hash.ts), so chosen keys do not collide.
//
//   slots   | tag, row + 1 | tag, row + 1 | ...         one word a slot; 0 is an empty slot
//   rows    | key words ... other words ... | ...       the caller's; row r begins at r * rowWords with its key
//
// A slot is one word: the low bits, as many as the capacity needs, hold row + 1, the others the same bits of the key's
// hash, so that a key that is not there is nearly always seen without a look at a row.
//
// The index only reads `rows`. A row's key must be in place before insert and unchanged until after remove. All
// memory is taken at construction (4 bytes a slot, 2 to 4 slots a row). Full (`count` = capacity): insert returns
// false and nothing changes.

import { hash4, hashKeyOf, hashWords } from "../base/hash.ts";
import { invariant } from "../base/invariant.ts";

export class HashIndex {
  readonly capacity: number;
  readonly #hashKey: Int32Array;
  readonly #keyWords: number;
  readonly #rows: Int32Array;
  readonly #rowWords: number;
  readonly #slots: Int32Array;
  readonly #mask: number;
  /** The bits of a slot that hold row + 1; the others are the tag. */
  readonly #rowMask: number;
  #count = 0;

  /** `rows` holds rows of `rowWords` words, each beginning with a key of `keyWords` words. */
  constructor(capacity: number, seed: number, keyWords: number, rows: Int32Array, rowWords: number) {
    invariant(Number.isInteger(capacity) && capacity > 0 && capacity <= 1 << 28, "hash index: capacity 1 to 2^28");
    invariant(keyWords > 0 && keyWords <= rowWords, "hash index: the key must fit in a row");
    this.capacity = capacity;
    this.#hashKey = hashKeyOf(seed, keyWords);
    this.#keyWords = keyWords;
    this.#rows = rows;
    this.#rowWords = rowWords;
    let slotCount = 2;
    while (slotCount < capacity * 2) slotCount *= 2;
    this.#slots = new Int32Array(slotCount);
    this.#mask = slotCount - 1;
    this.#rowMask = slotCount - 1;
  }

  get count(): number {
    return this.#count;
  }

  /** The row whose key is these four int32 words, or -1. Only for an index of 4-word keys. */
  find4(w0: number, w1: number, w2: number, w3: number): number {
    const slots = this.#slots;
    const rows = this.#rows;
    const mask = this.#mask;
    const rowMask = this.#rowMask;
    const hash = hash4(this.#hashKey, w0, w1, w2, w3);
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const entry = slots[slot];
      if (entry === 0) return -1;
      if (((entry ^ hash) & ~rowMask) !== 0) continue;
      const row = (entry & rowMask) - 1;
      const at = Math.imul(row, this.#rowWords);
      if (rows[at] === w0 && rows[at + 1] === w1 && rows[at + 2] === w2 && rows[at + 3] === w3) return row;
    }
  }

  /** The row whose key is the words of `key` from `at`, or -1. */
  find(key: Int32Array, at: number): number {
    const hash = hashWords(this.#hashKey, key, at, this.#keyWords);
    return (this.#slots[this.#probe(hash, key, at)] & this.#rowMask) - 1;
  }

  /** Enter `row` under the key it holds. Returns false, changing nothing, when full or when the key has a row already. */
  insert(row: number): boolean {
    if (this.#count >= this.capacity) return false;
    const at = Math.imul(row, this.#rowWords);
    const hash = hashWords(this.#hashKey, this.#rows, at, this.#keyWords);
    const slot = this.#probe(hash, this.#rows, at);
    if (this.#slots[slot] !== 0) return false;
    this.#slots[slot] = (hash & ~this.#rowMask) | (row + 1);
    this.#count++;
    return true;
  }

  /** Take `row` out. Returns false when it is not in (another row with the same key stays). */
  remove(row: number): boolean {
    const slots = this.#slots;
    const mask = this.#mask;
    const rowMask = this.#rowMask;
    const at = Math.imul(row, this.#rowWords);
    let hole = this.#probe(hashWords(this.#hashKey, this.#rows, at, this.#keyWords), this.#rows, at);
    if ((slots[hole] & rowMask) !== row + 1) return false;
    // An entry behind the hole may fill it unless its home lies between the two (seen along the probe direction).
    for (let slot = (hole + 1) & mask; slots[slot] !== 0; slot = (slot + 1) & mask) {
      const home = this.#homeOf((slots[slot] & rowMask) - 1);
      if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
      slots[hole] = slots[slot];
      hole = slot;
    }
    slots[hole] = 0;
    this.#count--;
    return true;
  }

  #homeOf(row: number): number {
    return hashWords(this.#hashKey, this.#rows, Math.imul(row, this.#rowWords), this.#keyWords) & this.#mask;
  }

  /** The slot that holds the key at `key[at]`, or the empty slot where its search ends. */
  #probe(hash: number, key: Int32Array, at: number): number {
    const slots = this.#slots;
    const mask = this.#mask;
    const rowMask = this.#rowMask;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const entry = slots[slot];
      if (entry === 0) return slot;
      if (((entry ^ hash) & ~rowMask) === 0 && this.#hasKey((entry & rowMask) - 1, key, at)) return slot;
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
