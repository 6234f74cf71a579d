import test from "ava";
import { HoldQueue } from "../../lib/table/hold-queue.ts";
import { SlowHoldQueue } from "../model/hold-queue.ts";
import { seededRandom } from "../model/seed.ts";

const frame = (length: number, fill = 7): Uint8Array => new Uint8Array(length).fill(fill);

test("frames come out as a list of everything that waits would give them, over a long random life", (t) => {
  const random = seededRandom(t);
  const queue = new HoldQueue({ slots: 16, slotBytes: 40, perKey: 4, headroom: 8 });
  const slow = new SlowHoldQueue(16, 40, 4);
  let nowMs = 0;
  for (let step = 0; step < 10_000; step++) {
    nowMs += random.below(10);
    const key = random.below(8);
    const out: unknown[] = [];
    const action = random.below(80);
    if (action < 70) {
      const bytes = Uint8Array.from({ length: 60 }, () => random.below(256));
      const offset = random.below(10);
      const length = random.below(43);
      const expected = slow.hold(key, [...bytes.subarray(offset, offset + length)], step, nowMs);
      t.is(queue.hold(key, bytes, offset, length, step, nowMs), expected);
    } else if (action < 73) {
      const expected = slow.expire(nowMs, 60).map((held) => [held.key, held.tag]);
      t.is(
        queue.expire(nowMs, 60, (key, tag) => out.push([key, tag])),
        expected.length,
      );
      t.deepEqual(out, expected);
    } else if (action < 75) {
      t.is(queue.drop(key), slow.release(key).length);
    } else {
      const expected = slow.release(key).map((held) => [held.frame, held.tag]);
      const take = (bytes: Uint8Array, offset: number, length: number, tag: number): void => {
        out.push([[...bytes.subarray(offset, offset + length)], tag]);
      };
      t.is(queue.release(key, take), expected.length);
      t.deepEqual(out, expected);
    }
    t.is(queue.count, slow.count);
  }
});

test("a full queue, a key with its share and a frame too long are refused, and nobody else's frame is lost", (t) => {
  const queue = new HoldQueue({ slots: 3, slotBytes: 100, perKey: 2 });
  t.false(queue.hold(1, frame(101), 0, 101, 0, 0));
  t.true(queue.hold(1, frame(100), 0, 100, 0, 0));
  t.true(queue.hold(1, frame(1), 0, 1, 1, 0));
  t.false(queue.hold(1, frame(1), 0, 1, 2, 0));
  t.true(queue.hold(2, frame(1), 0, 1, 3, 0));
  t.false(queue.hold(3, frame(1), 0, 1, 4, 0));
  t.is(queue.count, 3);
  t.is(queue.drop(1), 2);
  t.true(queue.hold(3, frame(1), 0, 1, 5, 0));
});

test("each frame has its headroom in front and tailroom behind, and writing there harms no other frame", (t) => {
  const queue = new HoldQueue({ slots: 4, slotBytes: 64 });
  for (let tag = 0; tag < 4; tag++) queue.hold(tag, frame(64, tag), 0, 64, tag, 0);
  for (let key = 3; key >= 0; key--) {
    const take = (bytes: Uint8Array, offset: number, length: number): void => {
      t.true(offset >= 512);
      t.deepEqual(bytes.slice(offset, offset + length), frame(64, key));
      t.true(offset + length + 64 <= bytes.length);
      bytes.fill(255, offset - 512 + 64, offset + length + 64);
    };
    t.is(queue.release(key, take), 1);
  }
});

test("a frame that take holds again waits for the next release and does not overwrite the one being taken", (t) => {
  const queue = new HoldQueue({ slots: 2, slotBytes: 8 });
  queue.hold(1, frame(8, 1), 0, 8, 1, 0);
  queue.hold(1, frame(8, 2), 0, 8, 2, 0);
  const again: number[] = [];
  const take = (bytes: Uint8Array, offset: number, length: number, tag: number): void => {
    // While the first is being taken its slot is not free, so the queue of two is full.
    again.push(Number(queue.hold(1, frame(8, 9), 0, 8, tag + 10, 0)));
    t.deepEqual(bytes.slice(offset, offset + length), frame(8, tag));
  };
  t.is(queue.release(1, take), 2);
  t.deepEqual(again, [0, 1]);
  t.is(queue.count, 1);
  t.is(
    queue.release(1, (_bytes, _offset, _length, tag) => {
      t.is(tag, 12);
    }),
    1,
  );
});

test("the two halves of a release inside a release hand over each frame once", (t) => {
  const queue = new HoldQueue({ slots: 8 });
  for (let tag = 0; tag < 4; tag++) queue.hold(1, frame(1), 0, 1, tag, 0);
  const tags: number[] = [];
  queue.release(1, (_bytes, _offset, _length, tag) => {
    tags.push(tag);
    if (tag === 0) queue.release(1, (_b, _o, _l, inner) => tags.push(inner));
  });
  t.deepEqual(tags, [0, 1, 2, 3]);
  t.is(queue.count, 0);
});
