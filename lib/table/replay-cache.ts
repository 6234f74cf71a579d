// What was seen once and must not be taken a second time: digests of metadata that opened a session (protocol sheet
// 5.3). Bounded in number and in time: the oldest makes room.

import { StateError, type StateReader, type StateWriter } from "../base/state.ts";
import { HashIndex } from "./hash-index.ts";

const WORDS = 4;

export class ReplayCache {
  readonly #capacity: number;
  readonly #keepMs: number;
  readonly #words: Int32Array;
  readonly #atMs: Float64Array;
  readonly #index: HashIndex;
  /** Rows are used round and round: the oldest is #head - #count. */
  #head = 0;
  #count = 0;

  constructor(capacity: number, keepMs: number, seed: number) {
    this.#capacity = capacity;
    this.#keepMs = keepMs;
    this.#words = new Int32Array(capacity * WORDS);
    this.#atMs = new Float64Array(capacity);
    this.#index = new HashIndex(capacity, seed, WORDS, this.#words, WORDS);
  }

  get count(): number {
    return this.#count;
  }

  /** Whether these four words were added within the time that is kept. */
  has(words: Int32Array, nowMs: number): boolean {
    this.#forget(nowMs);
    return this.#index.find4(words[0], words[1], words[2], words[3]) >= 0;
  }

  /** Add four words that are not there. */
  add(words: Int32Array, nowMs: number): void {
    this.#forget(nowMs);
    if (this.#count === this.#capacity) this.#drop();
    const row = this.#head;
    this.#words.set(words.subarray(0, WORDS), row * WORDS);
    this.#atMs[row] = nowMs;
    if (!this.#index.insert(row)) return;
    this.#head = (row + 1) % this.#capacity;
    this.#count++;
  }

  /** All of it, oldest first. */
  save(out: StateWriter): void {
    out.i32(this.#count);
    for (let left = this.#count; left > 0; left--) {
      const row = (this.#head - left + this.#capacity) % this.#capacity;
      out.words(this.#words, row * WORDS, (row + 1) * WORDS);
      out.f64(this.#atMs[row]);
    }
  }

  /** Into an empty cache. */
  restore(from: StateReader): void {
    const count = from.count(this.#capacity, "digests");
    for (let row = 0; row < count; row++) {
      from.words(this.#words, row * WORDS, (row + 1) * WORDS);
      this.#atMs[row] = from.f64();
      if (!this.#index.insert(row)) throw new StateError("a digest is there twice");
    }
    this.#count = count;
    this.#head = count % this.#capacity;
  }

  #forget(nowMs: number): void {
    while (this.#count > 0 && nowMs - this.#atMs[this.#oldest()] >= this.#keepMs) this.#drop();
  }

  #drop(): void {
    this.#index.remove(this.#oldest());
    this.#count--;
  }

  #oldest(): number {
    return (this.#head - this.#count + this.#capacity) % this.#capacity;
  }
}
