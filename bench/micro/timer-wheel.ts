// The timer wheel with a million rows: moving one row's deadline, and serving rows that are due.

import { TimerWheel } from "../../lib/table/timer-wheel.ts";
import { measure, seededRandom } from "../harness.ts";

const ROWS = 1_000_000;
const SPAN_MS = 180_000;
const random = seededRandom();
const wheel = new TimerWheel(ROWS);
for (let row = 0; row < ROWS; row++) wheel.schedule(row, 1 + random.below(SPAN_MS));
const rows = new Int32Array(100_000).map(() => random.below(ROWS));
let nowMs = 0;

measure({
  name: "micro.timer-wheel.schedule",
  mode: `${ROWS} rows`,
  operations: rows.length,
  run: () => {
    for (let i = 0; i < rows.length; i++) wheel.schedule(rows[i], nowMs + 1 + (i % SPAN_MS));
    return wheel.count;
  },
});

const FIRED = 100_000;
const fired = new Int32Array(256);
measure({
  name: "micro.timer-wheel.fire-and-reschedule",
  mode: `${ROWS} rows`,
  operations: FIRED,
  run: () => {
    let left = FIRED;
    while (left > 0) {
      nowMs += 10;
      const count = wheel.advance(nowMs, Math.min(left, fired.length), fired);
      for (let i = 0; i < count; i++) wheel.schedule(fired[i], nowMs + SPAN_MS);
      left -= count;
    }
    return wheel.count;
  },
});
