import { randomBytes } from "node:crypto";

// Sources of random words. The live router draws from the operating system (UUIDs and hash seeds must not be
// guessable); replay, tests and benches draw from a seed, so that the same input gives the same bytes.

export interface RandomSource {
  /** The next 32 random bits as an int32. */
  nextI32(): number;
}

/**
 * Cryptographically strong words, drawn from node:crypto in blocks so that a session costs no system call. What was
 * drawn is forgotten here: it may be a key.
 */
export class SystemRandom implements RandomSource {
  #block = new Int32Array(0);
  #next = 0;
  nextI32(): number {
    if (this.#next >= this.#block.length) {
      const bytes = randomBytes(4096);
      this.#block = new Int32Array(bytes.buffer, bytes.byteOffset, 1024);
      this.#next = 0;
    }
    const word = this.#block[this.#next];
    this.#block[this.#next++] = 0;
    return word;
  }
}

/** xorshift128 (Marsaglia 2003), state spread from one integer seed by splitmix steps. Repeatable, not secret. */
export class SeededRandom implements RandomSource {
  readonly #state = new Int32Array(4);
  constructor(seed: number) {
    let s = seed | 0;
    for (let i = 0; i < 4; i++) {
      s = (s + 0x9e3779b9) | 0;
      let z = Math.imul(s ^ (s >>> 16), 0x85ebca6b);
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
      this.#state[i] = (z ^ (z >>> 16)) | (i === 0 ? 1 : 0);
    }
  }
  nextI32(): number {
    const s = this.#state;
    const t = s[0] ^ (s[0] << 11);
    s[0] = s[1];
    s[1] = s[2];
    s[2] = s[3];
    s[3] = s[3] ^ (s[3] >>> 19) ^ (t ^ (t >>> 8));
    return s[3];
  }
  /** A whole number from 0 (inclusive) to `limit` (exclusive). */
  below(limit: number): number {
    return (this.nextI32() >>> 0) % limit;
  }
  /** A number from 0 (inclusive) to 1 (exclusive). */
  fraction(): number {
    return (this.nextI32() >>> 0) / 0x1_0000_0000;
  }
}
