import test from "ava";
import { warmUp } from "../../lib/control/warm-up.ts";
import { buildRouter, type Router } from "../../lib/router.ts";

test("the warm-up forwards UDP and TCP of established sessions both ways, on the fast path, and drops nothing", (t) => {
  let router: Router | undefined;
  const forwarded = warmUp((...given) => (router = buildRouter(...given)), 50);
  const counters = router!.counters.publish(true);
  t.true(forwarded > 1000, `${forwarded} packets`);
  t.true(counters["slow-path.packets"] < forwarded / 4, JSON.stringify(counters));
  for (const [name, count] of Object.entries(counters)) if (name.startsWith("drop.")) t.is(count, 0, name);
  t.true(router!.sessions.table.count === 32);
});
