import test from "ava";
import fc from "fast-check";
import { PrefixTrie } from "../../lib/table/prefix-trie.ts";
import { SlowPrefixes } from "../model/prefixes.ts";
import { seededRandom } from "../model/seed.ts";

const address = (text: string): number => text.split(".").reduce((sum, byte) => (sum << 8) | Number(byte), 0);

// Addresses that share prefixes of every length with each other, and both signs of int32.
const addresses = fc
  .oneof(
    fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
    fc.integer({ min: 0, max: 31 }).map((bit) => address("10.2.0.0") ^ (1 << bit)),
    fc.constantFrom(0, -1, address("10.2.0.0"), address("128.0.0.0")),
  )
  .filter((one) => one >>> 24 !== 127); // IPv6 addresses' names

test("any prefixes in any order: the trie finds what a search through the whole list finds, longest first", (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(addresses, fc.integer({ min: 0, max: 32 })), { maxLength: 60 }),
      fc.array(addresses, { minLength: 1, maxLength: 30 }),
      (prefixes, probes) => {
        const trie = new PrefixTrie(60);
        const slow = new SlowPrefixes();
        prefixes.forEach(([at, length], value) => {
          t.is(trie.insert(at, length, value), slow.insert(at, length, value));
        });
        const out = new Int32Array(33);
        for (const probe of [...probes, ...prefixes.map(([at]) => at)]) {
          const expected = slow.matches(probe);
          t.is(trie.find(probe), expected[0] ?? -1);
          t.deepEqual([...out.subarray(0, trie.matches(probe, out))], expected);
        }
      },
    ),
    { numRuns: 300 },
  );
  t.pass();
});

test("every length from 0 to 32 of one address nests, and matches walks from the longest to the shortest", (t) => {
  const trie = new PrefixTrie(33);
  for (let length = 0; length <= 32; length++) t.true(trie.insert(address("170.85.170.85"), length, length));
  const out = new Int32Array(33);
  t.is(trie.matches(address("170.85.170.85"), out), 33);
  t.deepEqual(
    [...out],
    Array.from({ length: 33 }, (_, i) => 32 - i),
  );
  t.is(trie.find(address("170.85.170.84")), 31);
  t.is(trie.find(address("42.85.170.85")), 0);
  const short = new Int32Array(2);
  t.is(trie.matches(address("170.85.170.85"), short), 2);
  t.deepEqual([...short], [32, 31]);
});

test("bits behind the prefix are ignored, and the same prefix twice is refused", (t) => {
  const trie = new PrefixTrie(4);
  t.true(trie.insert(address("10.2.3.4"), 16, 7));
  t.false(trie.insert(address("10.2.0.0"), 16, 8));
  t.is(trie.find(address("10.2.200.1")), 7);
  t.is(trie.find(address("10.3.0.0")), -1);
  t.is(trie.count, 1);
});

test("a full trie refuses another prefix and keeps what it has", (t) => {
  const random = seededRandom(t);
  const trie = new PrefixTrie(1000);
  const hosts = new Set<number>();
  while (hosts.size < 1001) {
    const host = random.nextI32();
    if (host >>> 24 !== 127) hosts.add(host);
  }
  const [last, ...first] = hosts;
  // Random hosts part everywhere, so this needs every one of the 2n + 1 nodes that the trie has.
  for (const host of first) t.true(trie.insert(host, 32, 1));
  t.false(trie.insert(last, 32, 1));
  t.is(trie.find(last), -1);
  for (const host of first) t.is(trie.find(host), 1);
});

test("a trie holds a million prefixes", (t) => {
  const trie = new PrefixTrie(1_000_000);
  for (let i = 0; i < 1_000_000; i++) if (!trie.insert(i << 8, 24, i)) t.fail(`prefix ${i}`);
  for (let i = 0; i < 1_000_000; i += 7) if (trie.find((i << 8) | 200) !== i) t.fail(`find ${i}`);
  t.is(trie.find(1_000_000 << 8), -1);
});
