import test from "ava";
import { TimerWheel } from "../../lib/table/timer-wheel.ts";
import { seededRandom } from "../model/seed.ts";
import { SlowTimers } from "../model/timers.ts";

/** Advance until nothing more comes; returns the rows that fired. */
function drain(wheel: TimerWheel, nowMs: number, limit = 64): number[] {
  const fired = new Int32Array(limit);
  const all: number[] = [];
  for (let idle = 0; idle < 200; ) {
    const count = wheel.advance(nowMs, limit, fired);
    idle = count === 0 ? idle + 1 : 0;
    all.push(...fired.subarray(0, count));
  }
  return all;
}

for (const [name, slots, tickMs, startMs] of [
  ["a small wheel", 8, 10, 0],
  ["the wheel's default ticks", 64, 64, 0],
  ["a wheel past 2^31 milliseconds", 16, 64, 2 ** 31 - 5_000],
  ["a wheel past 2^31 ticks", 16, 1, 2 ** 31 - 500],
] as const) {
  test(`${name} fires the same rows as a list of timers: never early, at most one tick late`, (t) => {
    const random = seededRandom(t);
    const rows = 40;
    const wheel = new TimerWheel(rows, slots, tickMs, startMs);
    const slow = new SlowTimers();
    let nowMs = startMs;
    let checks = 0;
    for (let step = 0; step < 4_000; step++) {
      const row = random.below(rows);
      if (random.below(4) > 0) {
        // Mostly soon, some several rotations away, some in the past.
        const deadlineMs = nowMs + random.below(random.below(8) === 0 ? slots * tickMs * 4 : tickMs * 6) - tickMs;
        wheel.schedule(row, deadlineMs);
        slow.schedule(row, Math.max(deadlineMs, nowMs));
      } else {
        wheel.cancel(row);
        slow.cancel(row);
      }
      t.is(wheel.isScheduled(row), slow.isScheduled(row));
      if (random.below(3) === 0) {
        nowMs += random.below(50) === 0 ? random.below(slots * tickMs * 5) : random.below(tickMs * 2);
        for (const fired of drain(wheel, nowMs, 1 + random.below(5))) {
          t.true(slow.deadlineMs(fired)! <= nowMs, `row ${fired} fired early`);
          slow.cancel(fired);
          checks++;
        }
        t.deepEqual(slow.due(nowMs - tickMs), [], "late by more than a tick");
        t.is(wheel.count, slow.count);
      }
    }
    t.true(checks > 500);
  });
}

test("the wheel is behind while an advance that ended at its limit left rows that are due, and not a moment longer", (t) => {
  const wheel = new TimerWheel(100, 16, 10);
  t.false(wheel.isBehind(0));
  for (let row = 0; row < 100; row++) wheel.schedule(row, 35 + (row & 1) * 1_000);
  const fired = new Int32Array(100);
  t.false(wheel.isBehind(9));
  let count = 0;
  for (let calls = 0; wheel.isBehind(40); calls++) {
    if (calls > 50) t.fail("it never catches up");
    count += wheel.advance(40, 7, fired);
  }
  t.is(count, 50);
  t.is(wheel.advance(40, 7, fired), 0);
  t.false(wheel.isBehind(49));
  t.true(wheel.isBehind(50), "another tick has come");
});

test("a call returns at most its limit and at most what fits, and the next goes on", (t) => {
  const wheel = new TimerWheel(100, 16, 10);
  for (let row = 0; row < 100; row++) wheel.schedule(row, 35);
  const fired = new Int32Array(30);
  t.is(wheel.advance(39, 100, fired), 0);
  t.is(wheel.advance(40, 7, fired), 7);
  t.is(wheel.advance(40, 100, fired), 30);
  t.is(wheel.count, 63);
  t.is(wheel.advance(40, 0, fired), 0);
  t.is(drain(wheel, 40).length, 63);
  t.is(wheel.count, 0);
});

test("a row cancelled, moved or added while its slot is half done behaves as anywhere else", (t) => {
  const wheel = new TimerWheel(10, 4, 10);
  for (let row = 0; row < 6; row++) wheel.schedule(row, 10);
  const fired = new Int32Array(2);
  t.is(wheel.advance(10, 2, fired), 2);
  const left = [0, 1, 2, 3, 4, 5].filter((row) => !fired.includes(row));
  // The last scheduled come first, so this is the one the wheel would look at next.
  wheel.cancel(left[3]);
  wheel.schedule(left[2], 1000);
  wheel.schedule(7, 5);
  t.deepEqual(drain(wheel, 10).sort(), left.slice(0, 2).sort());
  t.deepEqual(drain(wheel, 20), [7]);
  t.deepEqual(drain(wheel, 990), []);
  t.deepEqual(drain(wheel, 1000), [left[2]]);
});

test("a deadline many rotations away waits for its round", (t) => {
  const wheel = new TimerWheel(1, 4, 10);
  wheel.schedule(0, 1_000);
  for (let nowMs = 0; nowMs < 1_000; nowMs += 7) t.deepEqual(drain(wheel, nowMs), []);
  t.deepEqual(drain(wheel, 1_001), [0]);
});

test("rows looked at count against a call's bound too, not only rows that fire", (t) => {
  const wheel = new TimerWheel(1_001, 4, 10);
  wheel.schedule(1_000, 10);
  for (let row = 0; row < 1_000; row++) wheel.schedule(row, 10 + 40 * 1_000);
  const fired = new Int32Array(1);
  let calls = 1;
  while (wheel.advance(10, 1, fired) === 0 && calls < 1_000) calls++;
  t.is(fired[0], 1_000);
  // 1,001 rows and a slot or two, at 16 looks a call.
  t.true(calls >= 62 && calls <= 64, `${calls} calls`);
});

test("a pause of a thousand years is made up for in a few calls, after which a call has nothing to do", (t) => {
  const wheel = new TimerWheel(1);
  const nowMs = 1_000 * 365 * 86_400_000;
  wheel.schedule(0, nowMs - 1_000);
  const fired = new Int32Array(4096);
  let [count, calls] = [0, 0];
  // Walking through every tick missed would take millions of calls.
  for (; calls < 10 && wheel.isBehind(nowMs); calls++) count += wheel.advance(nowMs, 4096, fired);
  t.true(calls < 10, `${calls} calls`);
  t.false(wheel.isBehind(nowMs));
  t.is(count, 1);
  for (let call = 0; call < 10_000; call++) count += wheel.advance(nowMs, 4096, fired);
  t.is(count, 1, "nothing more");
});

test("a deadline of infinity never fires and can be cancelled", (t) => {
  const wheel = new TimerWheel(1, 4, 10);
  wheel.schedule(0, Number.POSITIVE_INFINITY);
  t.deepEqual(drain(wheel, 10_000), []);
  wheel.cancel(0);
  t.false(wheel.isScheduled(0));
  t.is(wheel.count, 0);
});

test("the work of one call stays bounded after a year's pause with a million rows waiting", (t) => {
  const capacity = 1_000_000;
  const wheel = new TimerWheel(capacity);
  const year = 365 * 86_400_000;
  for (let row = 0; row < capacity; row++) wheel.schedule(row, row % 2 === 0 ? row : year * 2);
  const fired = new Int32Array(1024);
  let total = 0;
  let calls = 0;
  let longestMs = 0;
  while (total < capacity / 2 && calls < 10_000) {
    const start = performance.now();
    total += wheel.advance(year, 1024, fired);
    longestMs = Math.max(longestMs, performance.now() - start);
    calls++;
  }
  t.is(total, capacity / 2);
  t.is(wheel.count, capacity / 2);
  // 16 looks for each of the 1,024: with 1.0 million rows and up to two rotations, between 488 and some 700 calls.
  t.true(calls >= 488 && calls < 700, `${calls} calls`);
  t.log(`${calls} calls, the longest took ${longestMs.toFixed(2)} ms`);
});

test("an expedited row fires at the earlier of both deadlines", (t) => {
  const wheel = new TimerWheel(3, 8, 10, 0);
  wheel.expedite(0, 50);
  for (const row of [1, 2]) wheel.schedule(row, 100);
  wheel.expedite(1, 200);
  wheel.expedite(2, 30);
  t.deepEqual(drain(wheel, 40), [2]);
  t.deepEqual(drain(wheel, 60), [0]);
  t.deepEqual(drain(wheel, 110), [1]);
});
