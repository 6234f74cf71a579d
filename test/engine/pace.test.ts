import test from "ava";
import { Patience } from "../../lib/engine/pace.ts";

/** Sleep for each duration in turn; the patience after each wake-up. */
function learn(sleepsUs: readonly number[], usMax = 50): number[] {
  const patience = new Patience(usMax);
  let nowUs = 0;
  return sleepsUs.map((us) => {
    patience.sleeps(nowUs);
    nowUs += us;
    patience.woken(nowUs);
    return patience.us;
  });
}

test("frames that come sooner than a sleep is worth are looked for longer and longer, up to the greatest patience", (t) => {
  t.deepEqual(learn([20, 20, 20, 20, 20, 20]), [5, 10, 20, 40, 50, 50]);
});

test("after long sleeps nobody looks twice", (t) => {
  const learned = learn([20, 20, 20, 20, 20, 10_000, 10_000, 10_000, 10_000, 10_000]);
  t.deepEqual(learned.slice(4), [50, 25, 12.5, 6.25, 3.125, 0]);
  t.deepEqual(learn([10_000, 10_000]), [0, 0]);
});

test("the first wake-up follows no sleep and teaches nothing", (t) => {
  const patience = new Patience(50);
  patience.woken(10);
  t.is(patience.us, 0);
});

test("without patience a port is turned once a wake-up", (t) => {
  t.deepEqual(learn([1, 1, 1], 0), [0, 0, 0]);
});
