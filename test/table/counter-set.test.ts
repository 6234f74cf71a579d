import test from "ava";
import fc from "fast-check";
import { InvariantError } from "../../lib/base/invariant.ts";
import { CounterSet } from "../../lib/table/counter-set.ts";

const names = ["drop.runt", "drop.ttl", "rx.frames"].map((name) => ({ name, sentence: `About ${name}.` }));

test("counters count like numbers in a Map", (t) => {
  const step = fc.tuple(fc.integer({ min: 0, max: 2 }), fc.integer({ min: 0, max: 2 ** 40 }));
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      const counters = new CounterSet(names);
      const slow = new Map(names.map(({ name }) => [name, 0]));
      for (const [index, n] of steps) {
        if (n === 0) counters.increment(index);
        else counters.add(index, n);
        slow.set(names[index].name, slow.get(names[index].name)! + (n === 0 ? 1 : n));
      }
      t.deepEqual(counters.publish(true), Object.fromEntries(slow));
    }),
  );
  t.pass();
});

test("publish leaves zeros out unless asked, keeps the order of the names, and is a copy", (t) => {
  const counters = new CounterSet(names);
  t.deepEqual(counters.publish(), {});
  counters.increment(2);
  counters.add(0, 5);
  const published = counters.publish();
  t.is(JSON.stringify(published), '{"drop.runt":5,"rx.frames":1}');
  t.deepEqual(counters.publish(true), { "drop.runt": 5, "drop.ttl": 0, "rx.frames": 1 });
  counters.increment(0);
  t.is(published["drop.runt"], 5);
  t.is(counters.get(0), 6);
});

test("a counter is found by its name, and a name may be there once", (t) => {
  const counters = new CounterSet(names);
  t.is(counters.indexOf("drop.ttl"), 1);
  t.is(counters.indexOf("drop.unheard-of"), -1);
  t.is(counters.names[1].sentence, "About drop.ttl.");
  t.throws(() => new CounterSet([...names, names[0]]), { instanceOf: InvariantError });
});
