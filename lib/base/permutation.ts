// The numbers below a limit in an order that only who has the keys can tell: a Feistel network of four rounds over 16 bits, gone
// through again while what comes out is not below the limit (cycle walking: Black, Rogaway, Ciphers with Arbitrary Finite
// Domains, 2002). Its rounds are a hash and no cipher: enough that nobody guesses a port, and no memory for an order written down.

import { scatter } from "./hash.ts";

const ROUNDS = 4;
export const PERMUTATION_KEYS = ROUNDS;
const LIMIT_MAX = 0x1_0000;

export class Permutation {
  readonly #limit: number;
  readonly #keys: Int32Array;

  /** `limit`: 1 to 65536. `salt` tells apart orders with the same PERMUTATION_KEYS keys. */
  constructor(limit: number, keys: Int32Array, salt: number) {
    this.#limit = Math.min(limit, LIMIT_MAX);
    this.#keys = keys.slice(0, ROUNDS).map((key) => scatter(key, salt));
  }

  /** The number in place `index`. */
  at(index: number): number {
    let value = index;
    do value = this.#forth(value);
    while (value >= this.#limit);
    return value;
  }

  /** The place that number `value` is in. */
  indexOf(value: number): number {
    let index = value;
    do index = this.#back(index);
    while (index >= this.#limit);
    return index;
  }

  #forth(value: number): number {
    let left = value >>> 8;
    let right = value & 0xff;
    for (let round = 0; round < ROUNDS; round++) {
      const next = left ^ this.#round(round, right);
      left = right;
      right = next;
    }
    return (left << 8) | right;
  }

  #back(value: number): number {
    let left = value >>> 8;
    let right = value & 0xff;
    for (let round = ROUNDS - 1; round >= 0; round--) {
      const before = right ^ this.#round(round, left);
      right = left;
      left = before;
    }
    return (left << 8) | right;
  }

  #round(round: number, half: number): number {
    return scatter(this.#keys[round], half) >>> 24;
  }
}
