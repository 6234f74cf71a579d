import test from "ava";
import fc from "fast-check";
import { PERMUTATION_KEYS, Permutation } from "../../lib/base/permutation.ts";

const keys = fc.array(fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }), {
  minLength: PERMUTATION_KEYS,
  maxLength: PERMUTATION_KEYS,
});

test("every number below the limit has one place, and each place one number", (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 3000 }), keys, fc.integer(), (limit, words, salt) => {
      const order = new Permutation(limit, Int32Array.from(words), salt);
      const seen = new Uint8Array(limit);
      for (let index = 0; index < limit; index++) {
        const value = order.at(index);
        if (value < 0 || value >= limit || order.indexOf(value) !== index) return false;
        seen[value]++;
      }
      return seen.every((times) => times === 1);
    }),
    { numRuns: 60 },
  );
  t.pass();
});

test("at the limits of ports and of the network, too", (t) => {
  for (const limit of [1, 2, 24_575, 24_576, 65_536]) {
    const order = new Permutation(limit, Int32Array.of(1, 2, 3, 4), 5);
    const values = new Set(Array.from({ length: limit }, (_, index) => order.at(index)));
    t.is(values.size, limit);
    t.true([...values].every((value) => value >= 0 && value < limit && order.at(order.indexOf(value)) === value));
  }
});

test("other keys, and another salt, are another order; the same are the same", (t) => {
  const orderOf = (key: number, salt: number) => {
    const order = new Permutation(1000, Int32Array.of(key, 2, 3, 4), salt);
    return Array.from({ length: 1000 }, (_, index) => order.at(index)).join();
  };
  t.is(orderOf(1, 1), orderOf(1, 1));
  t.is(new Set([orderOf(1, 1), orderOf(2, 1), orderOf(1, 2)]).size, 3);
});
