import test from "ava";
import { hash4, hashKeyOf } from "../../lib/base/hash.ts";
import { InvariantError } from "../../lib/base/invariant.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import { PlacedRows, placedRows } from "../../lib/table/placed-rows.ts";
import { SlowKeyedRows } from "../model/keyed-rows.ts";
import { seededRandom } from "../model/seed.ts";

type Key = readonly [number, number, number, number];

const SHIFT = 4;
const BATCH = 128;

function createPlaced(capacity: number, seed = 1) {
  const rows = new Int32Array(placedRows(capacity) << SHIFT);
  return { rows, placed: new PlacedRows(capacity, seed, rows, BATCH) };
}

/** The rows of these keys, asked for together; beyond them, and before, nothing may be written. */
function findTogether(placed: PlacedRows, keys: readonly Key[], from = 0): number[] {
  const asked = new Int32Array((from + keys.length) << 3);
  const found = new Int32Array(from + keys.length + 1).fill(77);
  keys.forEach((key, i) => {
    asked.set(key, (from + i) << 3);
  });
  placed.findBatch(asked, 3, from, from + keys.length, found);
  if (found[from + keys.length] !== 77 || (from > 0 && found[from - 1] !== 77)) throw new Error("wrote beyond");
  return Array.from(found.subarray(from, from + keys.length));
}

/** Keys whose hashes all have the same high bits and, with `tag`, the same low ones: one bucket, one tag. */
function meetingKeys(seed: number, count: number, highBits: number, tag: boolean): Key[] {
  const keys: Key[] = [];
  const hashKey = hashKeyOf(seed, 4);
  for (let word = 0; keys.length < count; word++) {
    const h = hash4(hashKey, word, 0, 0, 6);
    if (h >>> (32 - highBits) === 1 && (!tag || (h & 0x7f) === 5)) keys.push([word, 0, 0, 6]);
  }
  return keys;
}

for (const [capacity, keys] of [
  [7, 12],
  [40, 60],
  [200, 300],
]) {
  test(`${capacity} rows agree with a Map over a long random life, and none moves`, (t) => {
    const random = seededRandom(t);
    const { rows, placed } = createPlaced(capacity, random.nextI32());
    const slow = new SlowKeyedRows(capacity);
    const draw = (): Key => [random.below(keys), -1, 7, 17];
    for (let step = 0; step < 6_000; step++) {
      // The odds swing, so that it is full at times and empty at others.
      const key = draw();
      const row = slow.find(key);
      if (random.below(100) < (step % 600 < 300 ? 60 : 40)) {
        const given = placed.insert(...key);
        t.is(given >= 0, row < 0 && slow.count < capacity);
        if (given >= 0) t.true(slow.insert(given, key, undefined), "a row that was free");
      } else if (row >= 0) {
        placed.remove(row);
        slow.remove(row);
      }
      t.is(placed.count, slow.count);
      const asked = Array.from({ length: 1 + random.below(9) }, draw);
      t.deepEqual(
        findTogether(placed, asked, random.below(3)),
        asked.map((each) => slow.find(each)),
      );
      t.deepEqual(
        asked.map((each) => placed.find(...each)),
        asked.map((each) => slow.find(each)),
      );
    }
    for (const row of slow.rows)
      t.deepEqual(Array.from(rows.subarray(row << SHIFT, (row << SHIFT) + 4)), slow.key(row));
  });
}

test("each of the four words and its sign bit tell keys apart", (t) => {
  const { placed } = createPlaced(16);
  const keys = [0, 1, 2, 3].flatMap((word) =>
    [1, -1, 1 << 31].map((value) => [0, 0, 0, 0].with(word, value) as unknown as Key),
  );
  const given = keys.map((key) => placed.insert(...key));
  t.is(new Set(given).size, keys.length);
  t.deepEqual(findTogether(placed, keys), given);
  t.is(placed.find(0, 0, 0, 0), -1);
});

test("two keys whose whole 32-bit hashes are equal stay apart, alone and in a batch", (t) => {
  const random = new SeededRandom(1);
  const seed = 99;
  const hashKey = hashKeyOf(seed, 4);
  const keyOfHash = new Map<number, Key>();
  let twins: [Key, Key] | undefined;
  while (twins === undefined) {
    const key: Key = [0, random.nextI32(), random.nextI32(), 6];
    const other = keyOfHash.get(hash4(hashKey, ...key));
    if (other !== undefined && other.join() !== key.join()) twins = [other, key];
    keyOfHash.set(hash4(hashKey, ...key), key);
  }
  const { placed } = createPlaced(4, seed);
  const first = placed.insert(...twins[0]);
  t.is(placed.find(...twins[1]), -1);
  t.deepEqual(findTogether(placed, twins), [first, -1]);
  const second = placed.insert(...twins[1]);
  t.deepEqual(findTogether(placed, twins), [first, second]);
  placed.remove(first);
  t.deepEqual(findTogether(placed, twins), [-1, second]);
});

for (const tag of [false, true]) {
  test(`keys of one bucket${tag ? " and one tag" : ""}, many more than its line holds, are all found while they come and go in any order`, (t) => {
    // As one would who knew the seed. They fill their bucket, then its line of 56 rows, then go round the others.
    const random = seededRandom(t);
    const seed = 77;
    const capacity = 400;
    const chosen = meetingKeys(seed, 300, 5, tag);
    const others = meetingKeys(seed, 20, 5, !tag).filter((key) => chosen.every((each) => each[0] !== key[0]));
    const { placed } = createPlaced(capacity, seed);
    const rowOf = new Map<Key, number>();
    const agree = () => {
      const asked = [...chosen, ...others];
      const wanted = asked.map((key) => rowOf.get(key) ?? -1);
      for (let i = 0; i < asked.length; i += BATCH)
        t.deepEqual(findTogether(placed, asked.slice(i, i + BATCH)), wanted.slice(i, i + BATCH));
      t.deepEqual(
        asked.map((key) => placed.find(...key)),
        wanted,
      );
    };
    for (let round = 0; round < 6; round++) {
      for (const key of chosen) if (!rowOf.has(key)) rowOf.set(key, placed.insert(...key));
      t.is(new Set(rowOf.values()).size, chosen.length);
      agree();
      const least = round === 5 ? 0 : 40;
      while (rowOf.size > least) {
        const key = [...rowOf.keys()][random.below(rowOf.size)];
        placed.remove(rowOf.get(key)!);
        rowOf.delete(key);
      }
      agree();
    }
    t.is(placed.count, 0);
    const again = placed.insert(...chosen[0]);
    t.is(placed.find(...chosen[1]), -1);
    t.is(placed.find(...chosen[0]), again);
  });
}

test("a full table refuses, still finds everything, and takes a key again after a removal", (t) => {
  for (const capacity of [1, 2, 45, 46, 300]) {
    const { placed } = createPlaced(capacity);
    const given = Array.from({ length: capacity }, (_, n) => placed.insert(n, 0, 0, 0));
    t.is(new Set(given).size, capacity);
    t.true(given.every((row) => row >= 0 && row < placedRows(capacity)));
    t.is(placed.insert(capacity, 0, 0, 0), -1);
    t.is(placed.insert(0, 0, 0, 0), -1);
    t.deepEqual(
      given.map((_, n) => placed.find(n, 0, 0, 0)),
      given,
    );
    placed.remove(given[0]);
    t.is(placed.find(0, 0, 0, 0), -1);
    t.true(placed.insert(capacity, 0, 0, 0) >= 0);
  }
});

test("removing a free row is an InvariantError", (t) => {
  const { placed } = createPlaced(10);
  const row = placed.insert(1, 2, 3, 4);
  placed.remove(row);
  t.throws(() => placed.remove(row), { instanceOf: InvariantError });
});

test("keys with equal bits, as an attacker or a scan would choose them, fill rows as evenly as random ones", (t) => {
  // Counted, not timed: of 56 rows that the hash says, more than 45 on average are asked for only by chance.
  const lines = 1000;
  const count = lines * 45;
  const hashKey = hashKeyOf(12345, 4);
  const beyond = (keyOf: (i: number) => Key): number => {
    const asked = new Int32Array(lines);
    for (let i = 0; i < count; i++) asked[Math.floor(((hash4(hashKey, ...keyOf(i)) >>> 0) / 2 ** 32) * lines)]++;
    return asked.reduce((sum, each) => sum + Math.max(0, each - 56), 0) / count;
  };
  const random = new SeededRandom(5);
  const limit = 0.01;
  t.true(beyond(() => [random.nextI32(), random.nextI32(), random.nextI32(), random.nextI32()]) < limit);
  t.true(beyond((i) => [i << 16, i >>> 16, 0, 6]) < limit);
  t.true(beyond((i) => [0x0a000000, 0x0a020000, (i << 16) | 443, i >>> 16]) < limit);
  t.true(beyond((i) => [i << 12, i << 12, i << 12, i << 12]) < limit);
});

test("two million keys have rows, and half of them gone leave the others where they were", (t) => {
  const capacity = 2_000_000;
  const { placed } = createPlaced(capacity, 3);
  const given = new Int32Array(capacity);
  for (let n = 0; n < capacity; n++) {
    given[n] = placed.insert(n << 12, n, 0, 0);
    if (given[n] < 0) t.fail(`insert ${n}`);
  }
  t.is(placed.count, capacity);
  for (let n = 0; n < capacity; n += 2) placed.remove(given[n]);
  for (let n = 0; n < capacity; n++) {
    if (placed.find(n << 12, n, 0, 0) !== (n % 2 === 0 ? -1 : given[n])) t.fail(`find ${n}`);
  }
  t.is(placed.count, capacity / 2);
});
