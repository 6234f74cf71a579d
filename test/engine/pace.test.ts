import test from "ava";
import type { Clock } from "../../lib/base/clock.ts";
import { Patience, pace } from "../../lib/engine/pace.ts";
import type { WakingPort } from "../../lib/io/port.ts";

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
  t.deepEqual(learned.slice(4), [50, 25, 12, 6, 3, 0]);
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

test("while one port has frames, one that has none is looked at in every fourth turn, and every turn once it has some", (t) => {
  let us = 0;
  const clock: Clock = { nowMs: () => Math.floor(us / 1000), nowUs: () => us++, relax() {} };
  const wakes: (() => void)[] = [];
  const port = { onReadable: (wake: () => void) => wakes.push(wake), waitFor() {} } as unknown as WakingPort;
  const looks: number[] = [];
  let arrivesFrom = 1000;
  const engine = {
    portTurn: (at: number): number => {
      looks.push(at);
      return looks.length < 1000 && (at === 0 || looks.length > arrivesFrom) ? 1 : 0;
    },
    tick: () => false,
  };
  const stop = pace(engine, [port, port], clock);
  wakes[0]();
  wakes[0]();
  const share = looks.filter((at) => at === 1).length / looks.filter((at) => at === 0).length;
  t.true(share > 0.2 && share < 0.3, `${share}`);
  looks.length = 0;
  arrivesFrom = 100;
  wakes[0]();
  const busy = looks.slice(120, 900);
  t.is(busy.filter((at) => at === 1).length, busy.length / 2);
  stop();
});
