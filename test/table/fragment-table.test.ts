import test from "ava";
import fc from "fast-check";
import type { SeededRandom } from "../../lib/base/random.ts";
import {
  FRAGMENT_COMPLETE,
  FRAGMENT_HEADER_MAX,
  FRAGMENT_HEADROOM,
  FRAGMENT_HELD,
  FRAGMENT_REFUSED,
  FRAGMENT_TAILROOM,
  FragmentTable,
} from "../../lib/table/fragment-table.ts";
import { SlowFragments } from "../model/fragments.ts";
import { seededRandom } from "../model/seed.ts";

const payload = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8)) & 255);

/** Add `bytes[from..to)` of a packet at its own place, under a key of which only extId varies. */
function add(table: FragmentTable, extId: number, bytes: Uint8Array, from: number, to: number, nowMs = 0): number {
  return table.add(1, -2, 3, 17, extId, bytes, from, to, from, to < bytes.length, nowMs);
}

const packet = (table: FragmentTable): Uint8Array => table.bytes.slice(table.offset, table.offset + table.length);

test("any cutting, any order, any duplicates: the packet comes out whole, once, with the piece that was missing", (t) => {
  const lengths = fc.integer({ min: 1, max: 3000 });
  fc.assert(
    fc.property(
      lengths,
      fc.array(fc.integer({ min: 1, max: 370 })),
      fc.infiniteStream(fc.nat()),
      (length, cuts, picks) => {
        const whole = payload(length);
        const edges = [...new Set([0, ...cuts.map((cut) => cut * 8).filter((cut) => cut < length), length])].sort(
          (a, b) => a - b,
        );
        const missing = new Set(edges.slice(0, -1).keys());
        const table = new FragmentTable({ chains: 2, bytesMax: 4096 });
        const count = missing.size;
        while (missing.size > 0) {
          const piece = picks.next().value % count;
          missing.delete(piece);
          const expected = missing.size > 0 ? FRAGMENT_HELD : FRAGMENT_COMPLETE;
          t.is(add(table, 5, whole, edges[piece], edges[piece + 1]), expected);
        }
        t.deepEqual(packet(table), whole);
        t.is(table.count, 0);
      },
    ),
    { numRuns: 100 },
  );
});

/** A piece of one of few packets: mostly right, sometimes wrong in a byte, in its end or in its shape. */
function randomPiece(random: SeededRandom) {
  const extId = random.below(6);
  const whole = payload(40 + extId * 11);
  const units = Math.ceil(whole.length / 8);
  const from = random.below(units) * 8;
  const to = Math.min(from + (1 + random.below(units)) * 8, whole.length);
  const bytes = whole.slice(from, to);
  const wrong = random.below(60);
  if (wrong === 0) bytes[random.below(bytes.length)] ^= 1;
  return {
    extId,
    bytes: wrong === 1 ? bytes.subarray(1) : bytes,
    offset: wrong === 2 ? from + 4 : wrong === 3 ? from + 64 : from,
    more: to < whole.length !== (wrong === 4),
  };
}

test("random pieces, right and wrong, meet the same fate as in a map of bytes", (t) => {
  const random = seededRandom(t);
  const table = new FragmentTable({ chains: 4, bytesMax: 128, timeoutMs: 40 });
  const slow = new SlowFragments(4, 128, 40);
  const fates = { complete: 0, held: 0, refused: 0, displaced: 0 };
  const names = new Map([
    [FRAGMENT_HELD, "held"],
    [FRAGMENT_REFUSED, "refused"],
  ]);
  for (let step = 0; step < 20_000; step++) {
    const { extId, bytes, offset, more } = randomPiece(random);
    const expected = slow.add(String(extId), [...bytes], offset, more, step);
    const result = table.add(1, 2, 3, 6, extId, bytes, 0, bytes.length, offset, more, step);
    t.deepEqual(result === FRAGMENT_COMPLETE ? [...packet(table)] : names.get(result), expected);
    t.is(table.displaced, slow.displaced);
    fates[result === FRAGMENT_COMPLETE ? "complete" : (names.get(result) as "held" | "refused")]++;
    if (table.displaced > 0) fates.displaced++;
    if (random.below(10) === 0) t.is(table.expire(step), slow.expire(step));
    t.is(table.count, slow.count);
  }
  for (const [fate, times] of Object.entries(fates)) t.true(times > 50, `${fate} ${times} times`);
});

test("every word of the key tells chains apart", (t) => {
  const table = new FragmentTable({ chains: 8, bytesMax: 64 });
  const bytes = payload(16);
  const base: [number, number, number, number, number] = [1, 2, 3, 4, 5];
  t.is(table.add(...base, bytes, 0, 8, 0, true, 0), FRAGMENT_HELD);
  for (let word = 0; word < 5; word++) {
    const other: typeof base = [...base];
    other[word] = -9;
    t.is(table.add(...other, bytes, 8, 16, 8, false, 0), FRAGMENT_HELD);
  }
  t.is(table.count, 6);
  t.is(table.add(...base, bytes, 8, 16, 8, false, 0), FRAGMENT_COMPLETE);
});

test("an extId above 2^31 given as an unsigned number is the same as its int32", (t) => {
  const table = new FragmentTable({ chains: 1, bytesMax: 64 });
  t.is(add(table, 0xa1b2c3d4, payload(16), 0, 8), FRAGMENT_HELD);
  t.is(add(table, 0xa1b2c3d4 | 0, payload(16), 8, 16), FRAGMENT_COMPLETE);
});

test("in a full table the oldest chain makes room, and its pieces are told", (t) => {
  const table = new FragmentTable({ chains: 2, bytesMax: 64 });
  const bytes = payload(24);
  t.is(add(table, 1, bytes, 0, 8), FRAGMENT_HELD);
  t.is(add(table, 2, bytes, 0, 8), FRAGMENT_HELD);
  t.is(add(table, 1, bytes, 8, 16), FRAGMENT_HELD);
  t.is(table.displaced, 0);
  t.is(add(table, 3, bytes, 0, 8), FRAGMENT_HELD);
  t.is(table.displaced, 2);
  t.is(add(table, 2, bytes, 8, 24), FRAGMENT_COMPLETE);
  t.deepEqual([table.displaced, table.count], [0, 1]);
  t.is(add(table, 1, bytes, 16, 24), FRAGMENT_HELD, "nothing is left of the one that made room");
});

test("a chain ends with its timeout, counted from its first piece", (t) => {
  const table = new FragmentTable({ chains: 2, bytesMax: 64 });
  const bytes = payload(24);
  add(table, 1, bytes, 0, 8, 1_000);
  add(table, 1, bytes, 8, 16, 5_900);
  add(table, 2, bytes, 0, 8, 2_000);
  t.is(table.expire(5_999), 0);
  t.is(table.expire(6_000), 2);
  t.is(add(table, 1, bytes, 16, 24, 6_000), FRAGMENT_HELD);
  t.is(table.expire(7_000), 1);
  t.is(table.count, 1);
});

test("the largest packet fits, and one byte more is refused", (t) => {
  const table = new FragmentTable({ chains: 2 });
  const whole = payload(65_535);
  t.is(add(table, 1, whole, 32_768, 65_535), FRAGMENT_HELD);
  t.is(add(table, 1, whole, 0, 32_768), FRAGMENT_COMPLETE);
  t.deepEqual(packet(table), whole);
  t.is(add(table, 2, payload(65_536), 65_528, 65_536), FRAGMENT_REFUSED);
  t.is(table.count, 0);
});

test("the longest packet of the last chain has tailroom behind it", (t) => {
  const table = new FragmentTable({ chains: 2, bytesMax: 64 });
  const bytes = payload(64);
  let end = 0;
  for (const extId of [1, 2]) add(table, extId, bytes, 0, 8);
  for (const extId of [1, 2]) {
    t.is(add(table, extId, bytes, 8, 64), FRAGMENT_COMPLETE);
    end = Math.max(end, table.offset + table.length);
  }
  t.is(table.bytes.length, end + FRAGMENT_TAILROOM);
});

test("headers and accumulator belong to their chain and stay with the complete packet, behind free headroom", (t) => {
  const table = new FragmentTable({ chains: 2, bytesMax: 64 });
  const bytes = payload(16);
  const header = new Uint8Array(200).fill(9);
  for (const extId of [1, 2]) {
    add(table, extId, bytes, 8, 16);
    t.is(table.accumulators[table.chain], 0);
    table.accumulators[table.chain] = extId * 100;
    table.keepHeader(header.fill(extId), 0, extId === 1 ? 28 : FRAGMENT_HEADER_MAX);
  }
  for (const extId of [1, 2]) {
    t.is(add(table, extId, bytes, 0, 8), FRAGMENT_COMPLETE);
    t.is(table.accumulators[table.chain], extId * 100);
    t.is(table.headerLength, extId === 1 ? 28 : FRAGMENT_HEADER_MAX);
    t.true(table.bytes.slice(table.offset - table.headerLength, table.offset).every((byte) => byte === extId));
    t.true(table.offset - table.headerLength >= FRAGMENT_HEADROOM);
    t.deepEqual(packet(table), bytes);
    // The caller may write behind the packet and into the headroom without harm to the other chain.
    const end = table.offset + table.length;
    t.true(end + FRAGMENT_TAILROOM <= table.bytes.length);
    table.bytes.fill(255, table.offset - table.headerLength - FRAGMENT_HEADROOM, table.offset);
    table.bytes.fill(255, end, end + FRAGMENT_TAILROOM);
  }
  add(table, 3, bytes, 0, 8);
  t.is(table.accumulators[table.chain], 0);
  add(table, 3, bytes, 8, 16);
  t.is(table.headerLength, 0);
});
