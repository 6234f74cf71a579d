import test from "ava";
import { HalfOpenList } from "../../lib/session/half-open-list.ts";
import { seededRandom } from "../model/seed.ts";

test("the oldest is the row added first that is still there, over a long random life", (t) => {
  const random = seededRandom(t);
  const list = new HalfOpenList(20);
  let slow: number[] = [];
  for (let step = 0; step < 20_000; step++) {
    const row = random.below(20);
    // The odds swing, so that the list is full at times and empty at others.
    if (random.below(100) < (step % 1000 < 500 ? 60 : 40)) {
      list.add(row);
      if (!slow.includes(row)) slow.push(row);
    } else {
      list.remove(row);
      slow = slow.filter((each) => each !== row);
    }
    t.is(list.oldest(), slow[0] ?? -1);
  }
});

test("adding a row again does not make it younger, and removing one that is not there does nothing", (t) => {
  const list = new HalfOpenList(3);
  t.is(list.oldest(), -1);
  list.remove(1);
  for (const row of [2, 0, 2]) list.add(row);
  t.is(list.oldest(), 2);
  list.remove(2);
  list.remove(2);
  t.is(list.oldest(), 0);
});
