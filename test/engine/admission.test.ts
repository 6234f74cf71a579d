import test from "ava";
import { SeededRandom } from "../../lib/base/random.ts";
import { Admission, TIMERS_PER_TICK } from "../../lib/engine/admission.ts";

const FULL = 128;
const PER_TURN = 64;
/** Frames that pay for one packet of no flow. */
const LEAD_FRAMES = 512;

/** `batches` full batches of one port with established packets among them; takes all it may. Returns what it took, by batch. */
function overload(admission: Admission, batches: number, nowMs = 1000, port = 0): number[] {
  return Array.from({ length: batches }, () => {
    const room = admission.begin(port, FULL, nowMs);
    admission.end(1, room, nowMs);
    return room;
  });
}

test("a port that a batch emptied admits as many as configured, batch after batch", (t) => {
  const admission = new Admission(2, FULL, PER_TURN);
  for (let n = 0; n < 100; n++) {
    t.is(admission.begin(0, FULL - 1, 1000), PER_TURN);
    admission.end(50, PER_TURN, 1000);
  }
});

test("a burst is taken at once, and what goes on behind it gets one for every 512 frames", (t) => {
  const admission = new Admission(1, FULL, PER_TURN);
  admission.begin(0, 1, 999);
  admission.end(1, 0, 999);
  const taken = overload(admission, 1 + 400);
  t.is(taken[0], PER_TURN);
  t.is(
    taken.slice(1).reduce((sum, count) => sum + count),
    (400 * FULL) / LEAD_FRAMES,
  );
  t.true(Math.max(...taken.slice(1)) <= 1);
});

test("credit that is not used adds up to one turn's worth and no further", (t) => {
  const admission = new Admission(1, FULL, PER_TURN);
  admission.begin(0, 1, 999);
  admission.end(1, 0, 999);
  overload(admission, 1);
  for (let n = 0; n < 10_000; n++) {
    admission.begin(0, FULL, 1000);
    admission.end(1, 0, 1000);
  }
  t.deepEqual(overload(admission, 5), [PER_TURN, 0, 0, 0, 1]);
});

test("one port that is behind holds back the others too, until it has caught up or fallen silent", (t) => {
  const admission = new Admission(2, FULL, PER_TURN);
  admission.begin(1, 1, 999);
  admission.end(1, 0, 999);
  overload(admission, 1, 1000, 1);
  const room = (nowMs: number) => {
    const count = admission.begin(0, 3, nowMs);
    admission.end(1, count, nowMs);
    return count;
  };
  t.is(room(1000), 0);
  t.true(admission.isBehind(1019));
  t.is(room(1020), PER_TURN, "silent for 20 ms");
  overload(admission, 5, 1020, 1);
  t.true(room(1020) <= 1);
  admission.begin(1, FULL - 1, 1020);
  t.is(room(1020), PER_TURN, "caught up");
});

test("where nothing is established there is nobody to protect: full batches admit all they may", (t) => {
  const admission = new Admission(1, FULL, PER_TURN);
  for (let n = 0; n < 100; n++) {
    t.is(admission.begin(0, FULL, 1000), PER_TURN);
    admission.end(0, PER_TURN, 1000);
  }
  admission.end(1, 0, 1000);
  t.is(admission.begin(0, FULL, 1019), 0);
  admission.end(0, 0, 1019);
  t.is(admission.begin(0, FULL, 1020), PER_TURN, "20 ms without an established packet");
});

test("while a port is behind a tick serves fewer timers, and always some", (t) => {
  const admission = new Admission(1, FULL, PER_TURN);
  t.is(admission.timers(1000), TIMERS_PER_TICK);
  admission.begin(0, FULL, 1000);
  t.true(admission.timers(1000) < TIMERS_PER_TICK && admission.timers(1000) > 0);
  t.is(admission.timers(1020), TIMERS_PER_TICK);
});

test("over a long random life of full batches the slow path never gets more than its share and a burst", (t) => {
  const random = new SeededRandom(4);
  const admission = new Admission(3, FULL, PER_TURN);
  admission.end(1, 0, 0);
  let taken = 0;
  let frames = 0;
  for (let step = 0; step < 20_000; step++) {
    const nowMs = Math.floor(step / 50);
    const room = admission.begin(random.below(3), FULL, nowMs);
    const used = random.below(room + 1);
    admission.end(1, used, nowMs);
    taken += used;
    frames += FULL;
    if (taken > PER_TURN + frames / LEAD_FRAMES) t.fail(`step ${step}: ${taken} of ${frames} frames`);
  }
  t.true(taken > (frames / LEAD_FRAMES) * 0.9, "and it gets that");
});
