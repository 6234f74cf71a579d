import { once } from "node:events";
import { Worker } from "node:worker_threads";
import test from "ava";
import { SeededRandom } from "../../lib/base/random.ts";
import { FrameRing } from "../../lib/table/frame-ring.ts";

const CAPACITY = 4096;
const filled = (length: number, value: number) => new Uint8Array(length).fill(value);

test("frames come out as they went in, in order, for many rounds and lengths", (t) => {
  const random = new SeededRandom(3);
  const memory = FrameRing.allocate(CAPACITY);
  const [putter, taker] = [new FrameRing(memory), new FrameRing(memory)];
  const waiting: { frame: Uint8Array; flags: number; segmentSize: number; tag: number }[] = [];
  const room = new Uint8Array(5000);
  let refused = 0;
  for (let n = 0; n < 20_000; n++) {
    if (random.below(2) === 0) {
      const frame = Uint8Array.from({ length: random.below(1600) }, () => random.below(256));
      const wish = { frame, flags: random.below(4), segmentSize: random.below(65536), tag: random.nextI32() };
      if (putter.put(frame, 0, frame.length, wish.flags, wish.segmentSize, wish.tag)) waiting.push(wish);
      else refused++;
    } else {
      const expected = waiting.shift();
      t.is(taker.peek(), expected?.frame.length ?? -1);
      if (expected === undefined) continue;
      taker.take(room, 7);
      const { flags, segmentSize, tag } = taker;
      t.deepEqual([flags, segmentSize, tag], [expected.flags, expected.segmentSize, expected.tag]);
      t.deepEqual(room.subarray(7, 7 + expected.frame.length), expected.frame);
    }
  }
  t.true(refused > 100, "it was full now and then");
});

test("a full ring takes nothing and loses nothing", (t) => {
  const ring = new FrameRing(FrameRing.allocate(CAPACITY));
  let count = 0;
  while (ring.put(filled(100, count), 0, 100, 0, 0, count)) count++;
  t.is(count, Math.floor(CAPACITY / (16 + 112)));
  const room = new Uint8Array(100);
  for (let n = 0; n < count; n++) {
    t.is(ring.peek(), 100);
    ring.take(room, 0);
    t.is(ring.tag, n);
    t.deepEqual(room, filled(100, n));
  }
  t.is(ring.peek(), -1);
  t.false(ring.put(filled(CAPACITY, 0), 0, CAPACITY, 0, 0, 0), "a frame that can never fit");
});

test("who sleeps is woken once, and does not sleep over a frame", (t) => {
  const ring = new FrameRing(FrameRing.allocate(CAPACITY));
  t.false(ring.mustWake(), "nobody sleeps");
  t.true(ring.sleep());
  ring.put(filled(1, 1), 0, 1, 0, 0, 0);
  t.true(ring.mustWake());
  t.false(ring.mustWake());
  t.false(ring.sleep(), "a frame waits");
  t.false(ring.mustWake());
});

test("two threads: nothing is lost, repeated or mixed up", async (t) => {
  t.timeout(300_000);
  const memory = FrameRing.allocate(1 << 16);
  const total = 200_000;
  const putter = new Worker(
    `const { workerData } = require("node:worker_threads");
     import(workerData.module).then(({ FrameRing }) => {
       const ring = new FrameRing(workerData.memory);
       const frame = new Uint8Array(2000);
       for (let n = 0; n < workerData.total; ) {
         const length = 4 + ((n * 7919) % 1500);
         frame[0] = n; frame[length - 1] = n >>> 8;
         if (ring.put(frame, 0, length, 0, 0, n)) n++;
       }
     });`,
    {
      eval: true,
      workerData: { memory, total, module: new URL("../../lib/table/frame-ring.js", import.meta.url).href },
    },
  );
  t.teardown(() => putter.terminate());
  const ended = once(putter, "exit");
  const ring = new FrameRing(memory);
  const room = new Uint8Array(2000);
  let wrong = 0;
  let n = 0;
  // For so long nothing may come; how long all of it takes is for the machine's other work to say.
  const PATIENCE_MS = 60_000;
  let deadline = Date.now() + PATIENCE_MS;
  while (n < total && Date.now() < deadline) {
    const length = ring.peek();
    if (length < 0) {
      await new Promise((resolve) => setImmediate(resolve));
      continue;
    }
    ring.take(room, 0);
    if (ring.tag !== n || length !== 4 + ((n * 7919) % 1500)) wrong++;
    else if (room[0] !== (n & 255) || room[length - 1] !== ((n >>> 8) & 255)) wrong++;
    n++;
    deadline = Date.now() + PATIENCE_MS;
  }
  t.is(n, total);
  t.is(wrong, 0);
  await ended;
});
