// HOT
// Rows that lie where the hash of their key says: finds the row of a four-word key with one cache miss, and allocates
// rows. A row keeps its place, and so its number, until it is removed.
//
//   tags   | t0 t1 t2 t3 t4 t5 t6 passed | t0 ... t6 passed | ...     8 bytes a bucket, 8 buckets a cache line
//   rows   | r0 r1 r2 r3 r4 r5 r6        | r0 ... r6        | ...     the caller's, 16 words each, the key first
//
// The hash says which bucket of seven rows, and a tag: seven of its bits and 0x80; the tag of a free row is 0. A bucket
// is two words, and all its tags are compared at once, so that nearly always the one row is looked at that has the key,
// or none. The tags of two million flows are 2.8 MB, which the processor's cache keeps.
//
// A key whose bucket is full goes to the next with a free row, first round the buckets of the same cache line, then from
// another line on that its hash says too. `passed` counts the keys that went on from a bucket: a search ends where it is 0.
// Removal takes them back, so nothing is left of a key that is gone, and lookups do not slow down with age.
//
// The hash is seeded per boot (base/hash.ts), so chosen keys do not meet. All memory is taken at construction. Full
// (`count` = capacity): insert returns -1 and nothing changes.

import { hash4, hash4Batch, hashKeyOf } from "../base/hash.ts";
import { invariant } from "../base/invariant.ts";
import { plainMemory } from "../base/memory.ts";

/** Row r begins at r << SHIFT. */
const SHIFT = 4;
const BUCKET_ROWS = 7;
/** Buckets of a cache line. */
const LINE = 8;
/** So many rows of a line's 56 are in use, on average, when the table is full: of eleven keys one is not in its first bucket. */
const LINE_KEYS = 45;
/** In a guess: whoever wants to know has to search. */
const ELSEWHERE = -2;
/** `passed` stays there when it gets there, and costs searches that it need not. */
const PASSED_MAX = 0x7f;
const PASSED_ONE = 1 << 24;
const TAG_BITS = 7;
const EACH = 0x01010101;
const EACH_HIGH = 0x80808080 | 0;
const LAST_HIGH = 0x00808080;
const hash = hash4;
const hashAll = hash4Batch;

/** How many rows a table must have to hold `capacity` keys. */
export function placedRows(capacity: number): number {
  return Math.ceil(capacity / LINE_KEYS) * LINE * BUCKET_ROWS;
}

export class PlacedRows {
  readonly capacity: number;
  readonly #hashKey: Int32Array;
  readonly #rows: Int32Array;
  readonly #tags: Int32Array;
  readonly #buckets: number;
  /** Takes a hash to a bucket. */
  readonly #scale: number;
  /** Of a batch's keys: see placeOf. */
  readonly #places: Int32Array;
  /** Nobody's business: keeps the loads that are for the cache from being left out. */
  touched = 0;
  #count = 0;

  /** `rows` is memory for placedRows(capacity) rows of 16 words; findBatch takes up to `batch` keys. */
  constructor(capacity: number, seed: number, rows: Int32Array, batch = 0, memory = plainMemory) {
    invariant(Number.isInteger(capacity) && capacity > 0 && capacity <= 1 << 25, "placed rows: capacity 1 to 2^25");
    invariant(rows.length === placedRows(capacity) << SHIFT, "placed rows: the memory must be that of all rows");
    this.capacity = capacity;
    this.#hashKey = hashKeyOf(seed, 4);
    this.#rows = rows;
    this.#buckets = placedRows(capacity) / BUCKET_ROWS;
    this.#scale = this.#buckets / 2 ** 32;
    this.#tags = new Int32Array(memory(this.#buckets * 8));
    this.#places = new Int32Array(batch);
  }

  get count(): number {
    return this.#count;
  }

  /** The row whose key is these four words, or -1. */
  find(w0: number, w1: number, w2: number, w3: number): number {
    return this.#search(hash(this.#hashKey, w0, w1, w2, w3), w0, w1, w2, w3);
  }

  /**
   * The same for many: `found[i]` is the row whose key is at keys[i << keyShift], or -1, for i in from..to-1; `found` and
   * the capacity given for batches bound `to`. One short loop after the other, so that the cache misses of a batch are
   * waited for together: hashes, every bucket's cache line, the rows that the tags say, every row's cache line, the keys.
   */
  findBatch(keys: Int32Array, keyShift: number, from: number, to: number, found: Int32Array): void {
    this.#hash(keys, keyShift, from, to);
    this.#touchTags(from, to);
    this.#guess(from, to, found);
    this.#touchRows(from, to, found);
    for (let i = this.#firstWrong(keys, keyShift, from, to, found); i < to; ) {
      // Another key's row with the same tag, or another line: rare enough to begin again.
      const at = i << keyShift;
      found[i] = this.find(keys[at], keys[at | 1], keys[at | 2], keys[at | 3]);
      i = this.#firstWrong(keys, keyShift, i + 1, to, found);
    }
  }

  /** The first key from..to-1 whose guess is ELSEWHERE or another key's row; `to` when there is none. */
  #firstWrong(keys: Int32Array, keyShift: number, from: number, to: number, found: Int32Array): number {
    const rows = this.#rows;
    for (let i = from; i < to; i++) {
      const row = found[i];
      if (row === -1) continue;
      if (row === ELSEWHERE) return i;
      const at = i << keyShift;
      const own = row << SHIFT;
      const differs =
        (rows[own] ^ keys[at]) |
        (rows[own | 1] ^ keys[at | 1]) |
        (rows[own | 2] ^ keys[at | 2]) |
        (rows[own | 3] ^ keys[at | 3]);
      if (differs !== 0) return i;
    }
    return to;
  }

  #hash(keys: Int32Array, keyShift: number, from: number, to: number): void {
    const scale = this.#scale;
    const places = this.#places;
    hashAll(this.#hashKey, keys, keyShift, from, to, places);
    for (let i = from; i < to; i++) places[i] = placeOf(places[i], scale);
  }

  /** Load each key's bucket, for the cache. */
  #touchTags(from: number, to: number): void {
    const tags = this.#tags;
    const places = this.#places;
    let touched = 0;
    for (let i = from; i < to; i++) touched ^= tags[(places[i] >> (TAG_BITS - 1)) & ~1];
    this.touched = touched & 1;
  }

  /** The first row of each key's line that has its tag; -1 = there can be none, or ELSEWHERE. */
  #guess(from: number, to: number, found: Int32Array): void {
    const tags = this.#tags;
    const places = this.#places;
    for (let i = from; i < to; i++) {
      const place = places[i];
      const each = Math.imul(tagOf(place), EACH);
      const home = place >> TAG_BITS;
      let bucket = home;
      let high = tags[(bucket << 1) | 1];
      let hits = hitsOf(tags[bucket << 1], high, each);
      while (hits === 0 && high >= PASSED_ONE) {
        bucket = (bucket & -LINE) | ((bucket + 1) & (LINE - 1));
        if (bucket === home) break;
        high = tags[(bucket << 1) | 1];
        hits = hitsOf(tags[bucket << 1], high, each);
      }
      found[i] = hits !== 0 ? rowOf(bucket, hits) : high >= PASSED_ONE ? ELSEWHERE : -1;
    }
  }

  /** Load the key of each row, for the cache. */
  #touchRows(from: number, to: number, found: Int32Array): void {
    const rows = this.#rows;
    let touched = 0;
    for (let i = from; i < to; i++) {
      const row = found[i];
      touched ^= rows[(row & ~(row >> 31)) << SHIFT];
    }
    this.touched = touched & 1;
  }

  /** Give this key a row, in which it is written. Returns the row; -1, changing nothing, when full or when it has one. */
  insert(w0: number, w1: number, w2: number, w3: number): number {
    if (this.#count >= this.capacity) return -1;
    const h = hash(this.#hashKey, w0, w1, w2, w3);
    if (this.#search(h, w0, w1, w2, w3) >= 0) return -1;
    const tags = this.#tags;
    const place = placeOf(h, this.#scale);
    let bucket = place >> TAG_BITS;
    let free = freeOf(tags[bucket << 1], tags[(bucket << 1) | 1]);
    for (let step = 1; free === 0; step++) {
      const passed = (bucket << 1) | 1;
      if (tags[passed] >> 24 < PASSED_MAX) tags[passed] += PASSED_ONE;
      bucket = this.#next(bucket, h, step);
      free = freeOf(tags[bucket << 1], tags[(bucket << 1) | 1]);
    }
    const row = rowOf(bucket, free);
    const slot = row - bucket * BUCKET_ROWS;
    tags[(bucket << 1) | (slot >> 2)] |= tagOf(place) << ((slot & 3) << 3);
    const at = row << SHIFT;
    this.#rows[at] = w0;
    this.#rows[at | 1] = w1;
    this.#rows[at | 2] = w2;
    this.#rows[at | 3] = w3;
    this.#count++;
    return row;
  }

  /** Whether the row has a key. */
  isUsed(row: number): boolean {
    const bucket = Math.floor(row / BUCKET_ROWS);
    const slot = row - bucket * BUCKET_ROWS;
    return (this.#tags[(bucket << 1) | (slot >> 2)] & (0xff << ((slot & 3) << 3))) !== 0;
  }

  /** Take `row` out. Its key must be in it still. */
  remove(row: number): void {
    const tags = this.#tags;
    const home = Math.floor(row / BUCKET_ROWS);
    const slot = row - home * BUCKET_ROWS;
    const word = (home << 1) | (slot >> 2);
    const lane = 0xff << ((slot & 3) << 3);
    invariant((tags[word] & lane) !== 0, "placed rows: removed a row that is free");
    const rows = this.#rows;
    const at = row << SHIFT;
    const h = hash(this.#hashKey, rows[at], rows[at | 1], rows[at | 2], rows[at | 3]);
    let bucket = placeOf(h, this.#scale) >> TAG_BITS;
    for (let step = 1; bucket !== home; step++) {
      const passed = (bucket << 1) | 1;
      if (tags[passed] >> 24 < PASSED_MAX) tags[passed] -= PASSED_ONE;
      bucket = this.#next(bucket, h, step);
    }
    tags[word] &= ~lane;
    this.#count--;
  }

  #search(h: number, w0: number, w1: number, w2: number, w3: number): number {
    const rows = this.#rows;
    const tags = this.#tags;
    const place = placeOf(h, this.#scale);
    const each = Math.imul(tagOf(place), EACH);
    let bucket = place >> TAG_BITS;
    for (let step = 1; step <= this.#buckets + LINE; step++) {
      const high = tags[(bucket << 1) | 1];
      for (let hits = hitsOf(tags[bucket << 1], high, each); hits !== 0; hits &= hits - 1) {
        const row = rowOf(bucket, hits);
        const at = row << SHIFT;
        if (rows[at] === w0 && rows[at | 1] === w1 && rows[at | 2] === w2 && rows[at | 3] === w3) return row;
      }
      if (high < PASSED_ONE) return -1;
      bucket = this.#next(bucket, h, step);
    }
    return -1;
  }

  /** Where a key goes from its bucket number `step`: round its line, to another line, then round through all buckets. */
  #next(bucket: number, h: number, step: number): number {
    if (step < LINE) return (bucket & -LINE) | ((bucket + 1) & (LINE - 1));
    if (step === LINE) return placeOf(Math.imul(h, 0x9e3779b1), this.#scale) >> TAG_BITS;
    return bucket + 1 === this.#buckets ? 0 : bucket + 1;
  }
}

/** A key's bucket << 7 and the seven bits of its tag. A hash is a fraction of all buckets, of which its low bits tell little. */
const placeOf = (h: number, scale: number): number => ((((h >>> 0) * scale) | 0) << TAG_BITS) | (h & 0x7f);

const tagOf = (place: number): number => (place & 0x7f) | 0x80;

/**
 * Which of a bucket's rows have this tag (four times, in `each`): row r of 0..3 is bit 8r, row 4+r bit 8r+1. Finds the
 * zeros in (tags ^ each) by what a subtraction borrows; a row in use whose tag is nearly the same may come with one, a
 * free row never does.
 */
const hitsOf = (low: number, high: number, each: number): number => {
  const a = low ^ each;
  const b = high ^ each;
  return (((a - EACH) & ~a & EACH_HIGH) >>> 7) | (((b - EACH) & ~b & LAST_HIGH) >>> 6);
};

/** Which of a bucket's rows are free. */
const freeOf = (low: number, high: number): number => ((~low & EACH_HIGH) >>> 7) | ((~high & LAST_HIGH) >>> 6);

/** The first row of a set of hits. */
const rowOf = (bucket: number, hits: number): number => {
  const bit = 31 - Math.clz32(hits & (~hits + 1));
  return Math.imul(bucket, BUCKET_ROWS) + (((bit & 1) << 2) | (bit >> 3));
};
