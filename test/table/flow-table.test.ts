import test from "ava";
import {
  FLOW_LAST_SEEN,
  FLOW_NEW_SOURCE,
  FLOW_PLAN,
  FLOW_SHIFT,
  FlowTable,
  GENERATION_MASK,
  planEgress,
} from "../../lib/table/flow-table.ts";
import { SlowFlowTable } from "../model/flow-table.ts";
import { seededRandom } from "../model/seed.ts";

test("a flow table agrees with a Map over a long random life", (t) => {
  const random = seededRandom(t);
  const table = new FlowTable(40, random.nextI32());
  const slow = new SlowFlowTable(40);
  for (let step = 0; step < 20_000; step++) {
    // Few keys, so that they come again; the odds swing, so that the table is full at times and empty at others.
    const key = [random.below(5) - 2, random.below(4), random.below(4), 6] as const;
    t.is(table.find(...key), slow.find(...key));
    const row = slow.rows[random.below(Math.max(slow.rows.length, 1))];
    const action = random.below(100);
    if (action < (step % 1000 < 500 ? 50 : 20)) {
      const takes = slow.takes(...key);
      const given = table.insert(...key);
      t.is(given >= 0, takes);
      if (takes) t.true(slow.insert(given, ...key), `row ${given} is another flow's`);
    } else if (row === undefined) {
      continue;
    } else if (action < 70) {
      table.remove(row);
      slow.remove(row);
    } else {
      table.touch(row, step, step * 3);
      slow.touch(row, step, step * 3);
      const word = FLOW_NEW_SOURCE + random.below(4);
      table.words[(row << FLOW_SHIFT) + word] = step;
      slow.flow(row)!.words[word] = step;
    }
    t.is(table.count, slow.count);
    for (const each of slow.rows.slice(0, 3)) {
      const flow = slow.flow(each)!;
      const base = each << FLOW_SHIFT;
      t.deepEqual(
        [table.packets(each), table.bytes(each), table.words[base + FLOW_LAST_SEEN]],
        [flow.packets, flow.bytes, flow.lastSeenMs],
      );
      for (let word = 0; word < FLOW_LAST_SEEN; word++)
        t.is(table.words[base + word], flow.words[word] ?? 0, `row ${each} word ${word}`);
    }
  }
});

test("a full table, or a taken key, gives -1 and changes nothing", (t) => {
  const table = new FlowTable(2, 1);
  const first = table.insert(1, 2, 3, 4);
  t.true(first >= 0);
  t.is(table.insert(1, 2, 3, 4), -1);
  t.true(table.insert(1, 2, 3, 5) >= 0);
  t.is(table.insert(1, 2, 3, 6), -1);
  t.is(table.count, 2);
  table.remove(first);
  t.is(table.find(1, 2, 3, 4), -1);
  t.true(table.insert(1, 2, 3, 6) >= 0);
});

test("counts are exact past 32 bits and begin anew with the row", (t) => {
  const table = new FlowTable(1, 1);
  const row = table.insert(1, 2, 3, 4);
  for (let n = 0; n < 3; n++) table.touch(row, 2 ** 32 + 1, n);
  t.is(table.bytes(row), 3 * (2 ** 32 + 1));
  t.is(table.packets(row), 3);
  table.remove(row);
  table.insert(1, 2, 3, 4);
  t.deepEqual([table.packets(row), table.bytes(row)], [0, 0]);
});

test("a new generation makes every flow's plan stale, and new flows have it", (t) => {
  const table = new FlowTable(4, 1);
  const seen = new Set<number>();
  for (let n = 0; n < 256; n++) {
    const row = table.insert(n, 0, 0, 0);
    t.is(table.words[(row << FLOW_SHIFT) + FLOW_PLAN] & GENERATION_MASK, table.generation);
    seen.add(table.generation);
    table.nextGeneration();
    t.not(table.words[(row << FLOW_SHIFT) + FLOW_PLAN] & GENERATION_MASK, table.generation);
    table.remove(row);
  }
  t.is(seen.size, 256);
  t.is(table.generation, 0, "it comes round");
  t.is(planEgress((7 << 16) | 0xff1f), 7);
});

test("a flow that is made stale is in every generation to come", (t) => {
  const table = new FlowTable(4, 1);
  for (let began = 0; began < 3; began++) {
    const row = table.insert(began, 0, 0, 0);
    table.makeStale(row);
    for (let n = 0; n < 600; n++) {
      t.not(table.words[(row << FLOW_SHIFT) + FLOW_PLAN] & GENERATION_MASK, table.generation, `after ${n}`);
      table.nextGeneration();
    }
  }
});

test("a flow that is idle for many generations is stale in every one, and keeps its plan", (t) => {
  const table = new FlowTable(1000, 1);
  const rows = Array.from({ length: 1000 }, (_, n) => table.insert(n, 0, 0, 0));
  const plans = rows.map((row) => (row << FLOW_SHIFT) + FLOW_PLAN);
  for (const at of plans) table.words[at] |= 0x7fff_00ff;
  for (let n = 0; n < 1000; n++) {
    table.nextGeneration();
    const current = plans.filter((at) => (table.words[at] & GENERATION_MASK) === table.generation);
    t.is(current.length, 0, `after ${n + 1}`);
  }
  t.true(plans.every((at) => (table.words[at] & ~GENERATION_MASK) === 0x7fff_00ff));
});
