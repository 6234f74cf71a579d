import test from "ava";
import { hash4, hashKeyOf } from "../../lib/base/hash.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import { HashIndex } from "../../lib/table/hash-index.ts";
import { SlowKeyedRows } from "../model/keyed-rows.ts";
import { seededRandom } from "../model/seed.ts";

const ROW_WORDS = 5;

/** An index of 4-word keys over rows of 5 words, with the row beyond the last as a scratch key. */
function createIndex(capacity: number, seed = 1) {
  const rows = new Int32Array((capacity + 1) * ROW_WORDS);
  return { rows, index: new HashIndex(capacity, seed, 4, rows, ROW_WORDS) };
}

for (const words of [1, 3, 4]) {
  test(`an index of ${words}-word keys agrees with a Map over a long random life`, (t) => {
    const random = seededRandom(t);
    const capacity = 64;
    const rows = new Int32Array(capacity * ROW_WORDS);
    const index = new HashIndex(capacity, random.nextI32(), words, rows, ROW_WORDS);
    const slow = new SlowKeyedRows(capacity);
    const free = Array.from({ length: capacity }, (_, row) => row);
    for (let step = 0; step < 60_000; step++) {
      // Few different keys, so that they meet: duplicates, removals and re-insertions all happen often.
      const key = Int32Array.from({ length: words }, (_, i) => (i === 0 ? random.below(120) : -1));
      if (random.below(100) < (step % 2000 < 1000 ? 55 : 45) && free.length > 0) {
        const row = free[free.length - 1];
        rows.set(key, row * ROW_WORDS);
        const inserted = slow.insert(row, key, undefined);
        t.is(index.insert(row), inserted);
        if (inserted) free.pop();
      } else {
        const row = slow.find(key);
        if (row >= 0) {
          slow.remove(row);
          t.true(index.remove(row));
          t.false(index.remove(row));
          free.push(row);
        }
      }
      t.is(index.count, slow.count);
      const probe = Int32Array.from({ length: words }, (_, i) => (i === 0 ? random.below(120) : -1));
      t.is(index.find(probe, 0), slow.find(probe));
      if (words === 4) t.is(index.find4(probe[0], probe[1], probe[2], probe[3]), slow.find(probe));
    }
    for (const row of slow.rows) t.is(index.find(rows, row * ROW_WORDS), row);
  });
}

test("each of the four words and its sign bit tell keys apart", (t) => {
  const { rows, index } = createIndex(16);
  const keys = [0, 1, 2, 3].flatMap((word) => [1, -1, 1 << 31].map((value) => [0, 0, 0, 0].with(word, value)));
  keys.forEach((key, row) => {
    rows.set(key, row * ROW_WORDS);
    t.true(index.insert(row));
  });
  keys.forEach((key, row) => {
    t.is(index.find4(key[0], key[1], key[2], key[3]), row);
  });
  t.is(index.find4(0, 0, 0, 0), -1);
});

test("two keys whose whole 32-bit hashes are equal stay apart", (t) => {
  const random = new SeededRandom(1);
  const seed = 99;
  const hashKey = hashKeyOf(seed, 4);
  const keyOfHash = new Map<number, number[]>();
  let twins: number[][] | undefined;
  while (twins === undefined) {
    const key = [0, random.nextI32(), random.nextI32(), 6];
    const hash = hash4(hashKey, key[0], key[1], key[2], key[3]);
    const other = keyOfHash.get(hash);
    if (other !== undefined) twins = [other, key];
    keyOfHash.set(hash, key);
  }
  const { rows, index } = createIndex(4, seed);
  rows.set(twins[0], 0);
  rows.set(twins[1], ROW_WORDS);
  t.true(index.insert(0));
  t.is(index.find(rows, ROW_WORDS), -1);
  t.is(index.find4(twins[1][0], twins[1][1], twins[1][2], twins[1][3]), -1);
  t.true(index.insert(1));
  twins.forEach((key, row) => {
    t.is(index.find4(key[0], key[1], key[2], key[3]), row);
    t.is(index.find(Int32Array.from(key), 0), row);
  });
});

test("a full index refuses, still finds everything, and takes a row again after a removal", (t) => {
  const { rows, index } = createIndex(100);
  for (let row = 0; row <= 100; row++) rows[row * ROW_WORDS] = row;
  for (let row = 0; row < 100; row++) t.true(index.insert(row));
  t.false(index.insert(100));
  for (let row = 0; row < 100; row++) t.is(index.find4(row, 0, 0, 0), row);
  t.is(index.find4(100, 0, 0, 0), -1);
  t.true(index.remove(7));
  t.true(index.insert(100));
  t.is(index.find4(100, 0, 0, 0), 100);
  t.is(index.find4(7, 0, 0, 0), -1);
});

test("removing a row that lost its key to another row leaves the other row in place", (t) => {
  const { rows, index } = createIndex(4);
  rows[0] = rows[ROW_WORDS] = 9;
  t.true(index.insert(0));
  t.false(index.insert(1));
  t.false(index.remove(1));
  t.is(index.find4(9, 0, 0, 0), 0);
});

test("keys that all hash to the last slots wrap around the end and survive removal in any order", (t) => {
  const random = seededRandom(t);
  const seed = 77;
  const capacity = 32;
  const slotMask = 63;
  const hashKey = hashKeyOf(seed, 4);
  const chosen: number[] = [];
  for (let word = 0; chosen.length < capacity; word++) {
    if ((hash4(hashKey, word, 0, 0, 0) & slotMask) >= slotMask - 1) chosen.push(word);
  }
  const { rows, index } = createIndex(capacity, seed);
  chosen.forEach((word, row) => {
    rows[row * ROW_WORDS] = word;
    t.true(index.insert(row));
  });
  const present = new Set(chosen.keys());
  while (present.size > 0) {
    const row = [...present][random.below(present.size)];
    t.true(index.remove(row));
    present.delete(row);
    chosen.forEach((word, other) => {
      t.is(index.find4(word, 0, 0, 0), present.has(other) ? other : -1);
    });
  }
});

test("keys with equal low bits, as an attacker or a scan would choose them, do not slow the index down", (t) => {
  // Counted, not timed: the slots of the seeded hash must be as spread out as those of random keys.
  const count = 50_000;
  const slotMask = (1 << 17) - 1;
  const hashKey = hashKeyOf(12345, 4);
  const longestRun = (keyOf: (i: number) => [number, number, number, number]): number => {
    const slots = new Uint8Array(slotMask + 1);
    let longest = 0;
    for (let i = 0; i < count; i++) {
      const [w0, w1, w2, w3] = keyOf(i);
      let probes = 0;
      let slot = hash4(hashKey, w0, w1, w2, w3) & slotMask;
      for (; slots[slot] !== 0; slot = (slot + 1) & slotMask) probes++;
      slots[slot] = 1;
      longest = Math.max(longest, probes);
    }
    return longest;
  };
  const random = new SeededRandom(5);
  t.true(longestRun(() => [random.nextI32(), random.nextI32(), random.nextI32(), random.nextI32()]) < 100);
  t.true(longestRun((i) => [i << 16, 0, 0, 6]) < 100);
  t.true(longestRun((i) => [0x0a000000, 0x0a020000, (i << 16) | 443, 6]) < 100);
  t.true(longestRun((i) => [i << 12, i << 12, i << 12, i << 12]) < 100);
});

test("an index holds two million rows", (t) => {
  const capacity = 2_000_000;
  const { rows, index } = createIndex(capacity, 3);
  for (let row = 0; row < capacity; row++) {
    rows[row * ROW_WORDS] = row << 12;
    rows[row * ROW_WORDS + 1] = row;
    if (!index.insert(row)) t.fail(`insert ${row}`);
  }
  t.is(index.count, capacity);
  for (let row = 0; row < capacity; row += 2) if (!index.remove(row)) t.fail(`remove ${row}`);
  for (let row = 0; row < capacity; row++) {
    if (index.find4(row << 12, row, 0, 0) !== (row % 2 === 0 ? -1 : row)) t.fail(`find ${row}`);
  }
  t.is(index.count, capacity / 2);
});
