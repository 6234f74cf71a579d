import test from "ava";
import { InvariantError } from "../../lib/base/invariant.ts";
import { Slab } from "../../lib/table/slab.ts";
import { seededRandom } from "../model/seed.ts";
import { SlowSlab } from "../model/slab.ts";

test("a slab gives the same rows as its slow twin over a long random life", (t) => {
  const random = seededRandom(t);
  const slab = new Slab(50);
  const slow = new SlowSlab(50);
  for (let step = 0; step < 20_000; step++) {
    // The odds swing, so that the slab is full at times and empty at others.
    if (random.below(100) < (step % 1000 < 500 ? 60 : 40)) {
      t.is(slab.allocate(), slow.allocate());
    } else if (slow.live.size > 0) {
      const row = [...slow.live][random.below(slow.live.size)];
      slab.free(row);
      slow.free(row);
    }
    t.is(slab.live, slow.live.size);
    const row = random.below(50);
    t.is(slab.isLive(row), slow.live.has(row));
  }
});

test("a full slab gives -1 and goes on when a row is freed", (t) => {
  const slab = new Slab(3);
  t.deepEqual([slab.allocate(), slab.allocate(), slab.allocate(), slab.allocate()], [0, 1, 2, -1]);
  t.is(slab.live, 3);
  slab.free(1);
  t.is(slab.allocate(), 1);
  t.is(slab.allocate(), -1);
});

test("freeing a row twice, a row never allocated or a row outside the slab is an InvariantError", (t) => {
  const slab = new Slab(4);
  const row = slab.allocate();
  slab.free(row);
  for (const wrong of [row, 3, 4, -1, 0.5]) t.throws(() => slab.free(wrong), { instanceOf: InvariantError });
  t.is(slab.live, 0);
  t.is(slab.allocate(), row);
});

test("a slab holds a million rows", (t) => {
  const slab = new Slab(1_000_000);
  for (let i = 0; i < 1_000_000; i++) if (slab.allocate() !== i) t.fail(`row ${i}`);
  t.is(slab.allocate(), -1);
  for (let row = 0; row < 1_000_000; row++) slab.free(row);
  t.is(slab.live, 0);
});
