import test from "ava";
import { SeededRandom } from "../../lib/base/random.ts";
import { StateReader, StateWriter } from "../../lib/base/state.ts";
import { DuplicateTable } from "../../lib/table/duplicate-table.ts";

const WINDOW = 2048;

function heard(...numbers: number[]): DuplicateTable {
  const table = new DuplicateTable(2);
  const row = table.allocate(0);
  for (const number of numbers) table.isNew(row, number);
  return table;
}

test("each number is new once, in whatever order the numbers come", (t) => {
  const table = heard();
  const order = [5, 3, 4, 9, 7, 3, 5, 9, 6, 8, 4];
  t.deepEqual(
    order.filter((number) => table.isNew(0, number)),
    [5, 3, 4, 9, 7, 6, 8],
  );
});

test("numbers come round after 2^32", (t) => {
  const table = heard(0xfffffffe);
  t.true(table.isNew(0, 1));
  t.true(table.isNew(0, 0xffffffff));
  t.true(table.isNew(0, 0));
  for (const number of [0xfffffffe, 0xffffffff, 0, 1]) t.false(table.isNew(0, number));
});

test("what is older than the window is too late; far below it another count has begun", (t) => {
  const table = heard(100_000);
  t.true(table.isNew(0, 100_000 - WINDOW + 1));
  t.false(table.isNew(0, 100_000 - WINDOW));
  t.false(table.isNew(0, 100_000 - 65_535));
  t.true(table.isNew(0, 100_000 - 65_536));
  t.false(table.isNew(0, 100_000 - 65_536));
  t.true(table.isNew(0, 100_000 - 65_535));
});

test("a jump ahead forgets exactly what falls out of the window", (t) => {
  const table = heard(10, 11, 12);
  t.true(table.isNew(0, 12 + WINDOW - 1));
  t.false(table.isNew(0, 12));
  t.false(table.isNew(0, 11), "too late, heard or not");
  t.true(table.isNew(0, 13));
  const far = heard(10, 11, 12);
  t.true(far.isNew(0, 12 + WINDOW + 5));
  t.true(far.isNew(0, 13 + 5), "a number whose place another one had");
});

test("of a row that forgets what it heard a count may begin anywhere, and what it sends counts on", (t) => {
  const table = heard(100_000);
  table.next(0);
  table.forget(0);
  t.true(table.isNew(0, 99_000));
  t.false(table.isNew(0, 99_000));
  t.true(table.isNew(0, 99_001));
  t.true(table.isNew(0, 98_999));
  t.is(table.next(0), 2);
});

test("two copies on two ways with loss and reordering, against a set", (t) => {
  const random = new SeededRandom(7);
  const table = heard();
  const seen = new Set<number>();
  let newest = -1;
  for (let n = 0; n < 60_000; n++) {
    const number = Math.max(0, Math.floor(n / 2) - ((random.nextI32() >>> 0) % 1500));
    newest = Math.max(newest, number);
    const expected = !seen.has(number) && newest - number < WINDOW;
    seen.add(number);
    if (table.isNew(0, number) !== expected) t.fail(`number ${number} as packet ${n}`);
  }
  t.true(seen.size > 20_000);
});

test("rows are apart, count on from where they begin, and end", (t) => {
  const table = new DuplicateTable(2);
  const [a, b] = [table.allocate(-2), table.allocate(41)];
  t.is(table.allocate(0), -1);
  t.deepEqual([table.next(a), table.next(a), table.next(b)], [0xffffffff, 0, 42]);
  t.true(table.isNew(a, 7));
  t.true(table.isNew(b, 7));
  table.free(a);
  t.is(table.count, 1);
  const again = table.allocate(0);
  t.is(again, a);
  t.true(table.isNew(again, 7), "nothing is left of who had the row");
});

test("a row goes on in another table", (t) => {
  const table = heard(50, 51, 55);
  table.next(0);
  const out = new StateWriter();
  table.save(0, out);
  const other = new DuplicateTable(1);
  other.restore(other.allocate(9), new StateReader(out.finish()));
  t.is(other.next(0), 2);
  t.deepEqual(
    [50, 51, 52, 55, 56].map((number) => other.isNew(0, number)),
    [false, false, true, false, true],
  );
});
