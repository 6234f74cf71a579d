import test, { type ExecutionContext } from "ava";
import { type PathQualityView, UNKNOWN_QUALITY } from "../../lib/peer/path-settings.ts";
import { PathChoice, type Standing } from "../../lib/session/path-choice.ts";
import { ServiceLoads } from "../../lib/session/service-loads.ts";
import {
  inOrder,
  type PeerRoute,
  type PeerServicePath,
  type ServicePolicy,
  VECTOR_NEVER,
  VECTOR_UNLISTED,
} from "../../lib/session/service-route.ts";
import { verdictName } from "../../lib/wire/verdict.ts";

const PLAIN: ServicePolicy = {
  row: 0,
  name: "",
  strategy: "hunt",
  resiliency: "failover",
  transportState: "reset",
  rewriteDscp: -1,
  preservesDscp: false,
  maxLossPercent: Number.POSITIVE_INFINITY,
  maxLatencyMs: Number.POSITIVE_INFINITY,
  maxJitterMs: Number.POSITIVE_INFINITY,
  minMos: 0,
  bestEffort: true,
};
const NOW = 1000;

interface Candidate {
  peer?: number;
  cost?: number;
  priority?: number;
  maxSessions?: number;
}

/** One service over paths 0, 1, 2 ...; a peer's paths share a service-route. */
function net(policy: Partial<ServicePolicy>, candidates: Candidate[], workers = 1) {
  const peers = candidates.map(({ peer = 0 }) => peer);
  const paths = peers.map((peer, row) => ({ row, peer, up: true, quality: UNKNOWN_QUALITY as PathQualityView }));
  const servicePaths = candidates.map(
    (
      { peer = 0, cost = 1, priority = VECTOR_UNLISTED, maxSessions = Number.POSITIVE_INFINITY },
      row,
    ): PeerServicePath => ({
      row,
      service: 0,
      serviceRoute: peer,
      cost,
      maxSessions,
      path: row,
      peer,
      priority,
    }),
  );
  const count = Math.max(...peers) + 1;
  const loads = new ServiceLoads({ servicePaths, services: 1, serviceRoutes: count, peers: count, workers });
  const route: PeerRoute = { kind: "peer", policy: { ...PLAIN, ...policy }, paths: inOrder(servicePaths) };
  const choice = new PathChoice({ paths, loads, policies: [route.policy] });
  return {
    paths,
    loads,
    route,
    choice,
    /** A new session's path, or the reason that it has none. */
    open(from = -1): number | string {
      const chosen = choice.choose(route, from, NOW);
      if (chosen === null) return verdictName(choice.refusal);
      loads.opened(chosen.row);
      return chosen.path;
    },
    again: (current: number, from = -1) => choice.rechoose(route, current, from, NOW)!.path,
    /** Another link test: true = somebody's standing turned. */
    measure(row: number, quality: Partial<PathQualityView>): boolean {
      paths[row].quality = { ...UNKNOWN_QUALITY, ...quality };
      return choice.evaluate(row);
    },
    standings: (from = -1): Standing[] =>
      [...choice.scores(route, from, NOW)]
        .sort((a, b) => a.servicePath.path - b.servicePath.path)
        .map(({ standing }) => standing),
    counts: () => servicePaths.map(({ row }) => loads.ofPath(row)),
  };
}

/** Each threshold with a value that meets it by a margin, just holds it, just breaks it, and breaks it by a margin. */
const THRESHOLDS: [Standing, Partial<ServicePolicy>, keyof PathQualityView, number, number, number, number][] = [
  ["loss", { maxLossPercent: 1 }, "lossPercent", 0.5, 1, 1.1, 1.3],
  ["latency", { maxLatencyMs: 150 }, "latencyMs", 20, 150, 151, 200],
  ["jitter", { maxJitterMs: 40 }, "jitterMs", 5, 40, 41, 60],
  ["mos", { minMos: 3.6 }, "mos", 4.3, 3.6, 3.5, 3],
];

for (const [standing, policy, metric, good, holds, breaks, bad] of THRESHOLDS) {
  test(`a path is left out while its ${standing} breaks the policy's threshold`, (t) => {
    for (const value of [good, holds, breaks, bad]) {
      const { measure, standings, open } = net(policy, [{}, {}]);
      measure(0, { [metric]: value });
      const broken = value === breaks || value === bad;
      t.deepEqual(standings(), [broken ? standing : "usable", "usable"], String(value));
      t.is(open(), broken ? 1 : 0);
    }
  });

  test(`${standing} turns a path after two tests in a row, or at once where it is far beyond its threshold`, (t) => {
    const { measure, standings } = net(policy, [{}]);
    const after = (...values: number[]) => values.map((value) => measure(0, { [metric]: value }));
    t.deepEqual(after(holds, breaks, holds, breaks, holds), [false, false, false, false, false]);
    t.deepEqual(standings(), ["usable"], "it wavers about the threshold, and never twice beyond it");
    t.deepEqual(after(breaks, breaks), [false, true]);
    t.deepEqual(standings(), [standing]);
    t.deepEqual(after(holds, breaks, holds, breaks), [false, false, false, false]);
    t.deepEqual(standings(), [standing], "and the same on the way back");
    t.deepEqual(after(holds, holds), [false, true]);
    t.deepEqual(after(bad), [true], "by a quarter of the threshold");
    t.deepEqual(after(good), [true]);
    t.deepEqual(standings(), ["usable"]);
  });
}

test("several thresholds are all kept, and what is furthest beyond its own is named", (t) => {
  const { measure, standings } = net({ maxLossPercent: 1, maxLatencyMs: 100 }, [{}, {}, {}]);
  measure(0, { lossPercent: 0.1, latencyMs: 20 });
  measure(1, { lossPercent: 1.2, latencyMs: 500 });
  measure(2, { lossPercent: 50, latencyMs: 120 });
  t.deepEqual(standings(), ["usable", "latency", "loss"]);
});

test("a threshold of no loss at all is kept by a path without loss", (t) => {
  const { measure, standings } = net({ maxLossPercent: 0 }, [{}, {}]);
  measure(0, { lossPercent: 0 });
  measure(1, { lossPercent: 0.01 });
  t.deepEqual(standings(), ["usable", "loss"]);
});

test("quality that is not known breaks nothing, and is no first judgement", (t) => {
  const { measure, standings } = net({ maxLossPercent: 1 }, [{}]);
  t.deepEqual(standings(), ["usable"]);
  t.false(measure(0, {}));
  t.true(measure(0, { lossPercent: 1.1 }), "the first that is known counts at once");
  t.deepEqual([measure(0, {}), measure(0, {})], [false, true], "what is known no longer breaks nothing either");
});

test("each policy judges a path by its own thresholds", (t) => {
  const strict = { ...PLAIN, row: 0, name: "strict", maxLossPercent: 0.1 };
  const easy = { ...PLAIN, row: 1, name: "easy", maxLossPercent: 10 };
  const { paths, loads, route } = net({}, [{}, {}]);
  const choice = new PathChoice({ paths, loads, policies: [strict, easy] });
  paths[0].quality = { ...UNKNOWN_QUALITY, lossPercent: 1 };
  t.true(choice.evaluate(0));
  t.is(choice.choose({ ...route, policy: strict }, -1, NOW)?.path, 1);
  t.is(choice.choose({ ...route, policy: easy }, -1, NOW)?.path, 0);
});

// What stands for itself: the candidates, what became of their paths, where a new session goes.
type Case = [
  title: string,
  policy: Partial<ServicePolicy>,
  Candidate[],
  (n: ReturnType<typeof net>) => void,
  number | string,
];
const CASES: Case[] = [
  ["the first configured, where nothing sets them apart", {}, [{}, {}], () => {}, 0],
  ["the cheapest", {}, [{ cost: 5 }, { cost: 2 }, { cost: 3 }], () => {}, 1],
  [
    "the best vector before the cheapest",
    {},
    [
      { cost: 1, priority: 10 },
      { cost: 9, priority: 5 },
    ],
    () => {},
    1,
  ],
  ["a listed vector before any other", {}, [{}, { cost: 9, priority: 999_999 }], () => {}, 1],
  ["the other, when the best is down", {}, [{}, {}], ({ paths }) => (paths[0].up = false), 1],
  [
    "path-down, when all are",
    {},
    [{}, {}],
    ({ paths }) => {
      for (const path of paths) path.up = false;
    },
    "path-down",
  ],
  ["no vector that is never used", {}, [{ priority: VECTOR_NEVER }, {}], () => {}, 1],
  [
    "path-quality, when only such are left",
    {},
    [{ priority: VECTOR_NEVER }, {}],
    ({ paths }) => (paths[1].up = false),
    "path-quality",
  ],
  [
    "the least bad, when all break a threshold",
    { maxLatencyMs: 100, maxLossPercent: 1 },
    [{}, {}, {}],
    ({ measure }) => [measure(0, { latencyMs: 300 }), measure(1, { latencyMs: 150 }), measure(2, { lossPercent: 2 })],
    1,
  ],
  [
    "not the least bad when it is down",
    { maxLatencyMs: 100 },
    [{}, {}],
    ({ measure, paths }) => [measure(0, { latencyMs: 300 }), measure(1, { latencyMs: 150 }), (paths[1].up = false)],
    0,
  ],
  [
    "path-quality, when all break a threshold and best-effort is off",
    { maxLatencyMs: 100, bestEffort: false },
    [{}, {}],
    ({ measure, paths }) => [measure(0, { latencyMs: 300 }), (paths[1].up = false)],
    "path-quality",
  ],
];
for (const [title, policy, candidates, prepare, expected] of CASES) {
  test(`a new session takes ${title}`, (t) => {
    const made = net(policy, candidates);
    prepare(made);
    t.is(made.open(), expected);
  });
}

test("a session never goes back to the peer that it came from, by whichever path", (t) => {
  const one = net({}, [{ peer: 0 }, { peer: 0 }, { peer: 1 }]);
  t.is(one.open(0), 2);
  t.deepEqual(one.standings(1), ["loop", "loop", "usable"]);
  one.paths[2].up = false;
  t.is(one.open(0), "path-down", "what could be mended is told");
  t.is(net({}, [{}, {}]).open(1), "route-loop");
});

test("hunt fills the best until its service-route is full, then the next", (t) => {
  const made = net({}, [
    { peer: 0, maxSessions: 3 },
    { peer: 1, maxSessions: 2 },
  ]);
  t.deepEqual(
    Array.from({ length: 6 }, () => made.open()),
    [0, 0, 0, 1, 1, "route-session-limit"],
  );
  made.loads.closed(0);
  t.is(made.open(), 0);
});

test("the limit of a service-route is of all its paths together", (t) => {
  const made = net({ strategy: "proportional" }, [{ maxSessions: 4 }, { maxSessions: 4 }]);
  t.deepEqual(
    Array.from({ length: 5 }, () => made.open()),
    [0, 1, 0, 1, "route-session-limit"],
  );
});

function sharesWithin(t: ExecutionContext, counts: number[], weights: number[]): void {
  const [all, whole] = [counts, weights].map((list) => list.reduce((sum, each) => sum + each, 0));
  for (const [at, count] of counts.entries()) {
    const wanted = (all * weights[at]) / whole;
    t.true(Math.abs(count - wanted) <= 0.02 * wanted, `${counts} for ${weights}`);
  }
}

test("10,000 sessions are shared over three paths as their costs say, within 2 %", (t) => {
  for (const costs of [
    [1, 1, 1],
    [1, 2, 4],
    [3, 7, 20],
  ]) {
    const made = net(
      { strategy: "proportional" },
      costs.map((cost) => ({ cost })),
    );
    for (let n = 0; n < 10_000; n++) made.open();
    sharesWithin(
      t,
      made.counts(),
      costs.map((cost) => 1 / cost),
    );
  }
});

test("the shares come back after sessions have ended on one path, and after one was down", (t) => {
  const made = net({ strategy: "proportional" }, [{ cost: 1 }, { cost: 2 }, { cost: 2 }]);
  for (let n = 0; n < 2000; n++) made.open();
  for (let n = 0; n < 900; n++) made.loads.closed(0);
  made.paths[1].up = false;
  for (let n = 0; n < 1000; n++) t.not(made.open(), 1);
  made.paths[1].up = true;
  for (let n = 0; n < 7900; n++) made.open();
  sharesWithin(t, made.counts(), [2, 1, 1]);
});

test("proportional shares among the best vector's paths, and the others are reserves", (t) => {
  const made = net({ strategy: "proportional" }, [{ priority: 5 }, { priority: 10 }, { priority: 5 }]);
  for (let n = 0; n < 100; n++) made.open();
  t.deepEqual(made.counts(), [50, 0, 50]);
  made.paths[0].up = false;
  made.paths[2].up = false;
  t.is(made.open(), 1);
});

test("what a peer has from other routers counts, as long as it was said lately", (t) => {
  const made = net({ strategy: "proportional" }, [{ peer: 0 }, { peer: 0 }, { peer: 1 }]);
  for (let n = 0; n < 30; n++) made.open();
  t.deepEqual(made.counts(), [10, 10, 10]);
  // Of its 260 sessions 20 are ours: 240 more, 120 a path.
  made.loads.heard(0, 0, 260, NOW);
  for (let n = 0; n < 120; n++) t.is(made.open(), 2);
  for (let n = 0; n < 30; n++) made.open();
  t.deepEqual(made.counts(), [20, 20, 140]);
  made.loads.heard(0, 0, 0, NOW);
  t.is(made.open(), 0, "it has no more than ours");
  made.loads.heard(0, 0, 1e9, NOW);
  t.is(made.open(), 2);
  t.is(made.choice.choose(made.route, -1, NOW + 61_000)?.path, 1, "a minute later that is forgotten");
});

test("one worker of several counts on its part of what others have", (t) => {
  const { loads } = net({}, [{ peer: 0 }, { peer: 1 }], 4);
  for (let n = 0; n < 5; n++) loads.opened(0);
  t.is(loads.told(0), 20);
  loads.heard(0, 0, 100, NOW);
  t.is(loads.elsewhere(0, 0, NOW), 20);
});

test("resiliency none: a live session stays, also on a path that is down", (t) => {
  const made = net({ resiliency: "none", maxLossPercent: 1 }, [{}, {}]);
  made.paths[0].up = false;
  made.measure(0, { lossPercent: 50 });
  t.is(made.again(0), 0);
});

test("failover: a live session leaves a path that is down or breaks a threshold, and stays where it went", (t) => {
  const made = net({ resiliency: "failover", maxLossPercent: 1 }, [{}, {}]);
  t.is(made.again(0), 0);
  made.measure(0, { lossPercent: 50 });
  t.is(made.again(0), 1);
  made.measure(0, { lossPercent: 0 });
  t.is(made.again(1), 1);
  made.paths[1].up = false;
  t.is(made.again(1), 0);
});

test("revertible-failover: a live session comes back when the better path has recovered, not before", (t) => {
  const made = net({ resiliency: "revertible-failover", maxLossPercent: 1 }, [{}, {}]);
  made.paths[0].up = false;
  t.is(made.again(0), 1);
  t.is(made.again(1), 1);
  made.paths[0].up = true;
  made.measure(0, { lossPercent: 1.1 });
  t.is(made.again(1), 1, "up, but lossy");
  made.measure(0, { lossPercent: 0.9 });
  t.is(made.again(1), 1, "held once");
  made.measure(0, { lossPercent: 0.9 });
  t.is(made.again(1), 0);
});

test("under proportional a session comes back for a better vector, not for a smaller load", (t) => {
  const made = net({ strategy: "proportional", resiliency: "revertible-failover" }, [
    { priority: 5 },
    { priority: 5 },
    { priority: 9 },
  ]);
  for (let n = 0; n < 10; n++) made.loads.opened(1);
  t.is(made.again(1), 1);
  t.is(made.again(2), 0);
});

test("a live session does not wander among paths that break thresholds, but leaves one that is down for such", (t) => {
  const made = net({ maxLatencyMs: 100 }, [{}, {}]);
  made.measure(0, { latencyMs: 500 });
  made.measure(1, { latencyMs: 200 });
  t.is(made.again(0), 0);
  made.paths[0].up = false;
  t.is(made.again(0), 1);
  const strict = net({ maxLatencyMs: 100, bestEffort: false }, [{}, {}]);
  strict.measure(1, { latencyMs: 200 });
  strict.paths[0].up = false;
  t.is(strict.again(0), 0, "no other way: it waits for its own");
});

test("a service-route that is full takes its own sessions onto another of its paths, and no one else's", (t) => {
  const made = net({}, [{ peer: 0, maxSessions: 2 }, { peer: 0, maxSessions: 2 }, { peer: 1 }]);
  t.deepEqual([made.open(), made.open(), made.open()], [0, 0, 2]);
  made.paths[0].up = false;
  t.is(made.again(0), 1);
  made.paths[0].up = true;
  made.paths[2].up = false;
  t.is(made.again(2), 2);
});

test("a live session that came from a peer is not sent back to it", (t) => {
  const made = net({}, [{ peer: 0 }, { peer: 0 }, { peer: 1 }]);
  made.paths[2].up = false;
  t.is(made.again(2, 0), 2);
});

test("scores say of every candidate its numbers, and which would be next", (t) => {
  const made = net({ strategy: "proportional", maxLossPercent: 1 }, [{ cost: 2 }, { cost: 1 }, { cost: 1 }]);
  made.measure(2, { lossPercent: 5 });
  made.open();
  const scores = made.choice.scores(made.route, -1, NOW);
  t.deepEqual(
    scores.map(({ servicePath, standing, sessions, load, chosen }) => [
      servicePath.path,
      standing,
      sessions,
      load,
      chosen,
    ]),
    [
      [1, "usable", 1, 2, true],
      [2, "loss", 0, 1, false],
      [0, "usable", 0, 2, false],
    ],
  );
});

test("a moved session is counted where it went", (t) => {
  const { loads } = net({}, [{ peer: 0 }, { peer: 1 }]);
  loads.opened(0);
  loads.moved(0, 1);
  t.deepEqual(
    [loads.ofPath(0), loads.ofPath(1), loads.ofRoute(0), loads.ofRoute(1), loads.ofService(0)],
    [0, 1, 0, 1, 1],
  );
});
