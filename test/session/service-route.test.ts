import test from "ava";
import { ServiceLoads } from "../../lib/session/service-loads.ts";
import { type LocalRoute, localRouteOf } from "../../lib/session/service-route.ts";

const SOURCES = 9000;

/** Servers by number: `identity` is of the place, so that it does not change with the list. */
function servers(numbers: number[], costs: Record<number, number> = {}, maxSessions = Number.POSITIVE_INFINITY) {
  const routes = numbers.map(
    (number, row): LocalRoute => ({
      kind: "interface",
      row,
      service: 0,
      serviceRoute: row,
      cost: costs[number] ?? 1,
      maxSessions,
      interfaceId: 0,
      gateway: null,
      target: { address: number, port: 0 },
      sourceNat: null,
      identity: Math.imul(number, 0x9e3779b1),
    }),
  );
  const loads = new ServiceLoads({
    servicePaths: routes,
    services: 1,
    serviceRoutes: routes.length,
    peers: 0,
    workers: 1,
  });
  const of = (source: number) => localRouteOf(routes, loads, source)?.target?.address ?? null;
  return { routes, loads, of, all: () => Array.from({ length: SOURCES }, (_, n) => of(0x0a010000 + n)) };
}

const count = (all: (number | null)[], number: number) => all.filter((each) => each === number).length;

test("sources are spread over destinations as their costs say, and each keeps its own", (t) => {
  const { of, all, loads } = servers([1, 2, 3], { 3: 2 });
  const first = all();
  for (const [number, share] of [
    [1, 0.4],
    [2, 0.4],
    [3, 0.2],
  ]) {
    // Five standard deviations of a fair draw.
    const wanted = SOURCES * share;
    t.true(Math.abs(count(first, number) - wanted) < 5 * Math.sqrt(wanted * (1 - share)), `${number}`);
  }
  for (let n = 0; n < 500; n++) loads.opened(0);
  t.deepEqual(all(), first, "how many sessions there are does not matter");
  t.is(of(0x0a010000), first[0]);
});

test("a destination more or fewer moves the sources that it gets or had, and no others", (t) => {
  const three = servers([1, 2, 3]).all();
  const four = servers([4, 3, 2, 1]).all();
  const moved = three.filter((before, at) => four[at] !== before);
  t.is(moved.length, count(four, 4));
  t.true(moved.length > SOURCES / 5 && moved.length < SOURCES / 3);
  const two = servers([1, 3]).all();
  for (const [at, before] of three.entries()) if (before !== 2) t.is(two[at], before);
});

test("a full destination's sources go elsewhere until it has room, and when all are full there is none", (t) => {
  const { of, all, loads, routes } = servers([1, 2], {}, 2);
  const first = all();
  for (let n = 0; n < 2; n++) loads.opened(0);
  t.is(count(all(), 2), SOURCES);
  loads.closed(0);
  t.deepEqual(all(), first);
  for (const { row } of [routes[0], routes[1], routes[1]]) loads.opened(row);
  t.is(of(0x0a010000), null);
});
