import test from "ava";
import { readCounters } from "../../lib/control/metrics.ts";
import {
  type InterfacesAnswer,
  type NeighborsAnswer,
  type PathsAnswer,
  printAnswer,
  type ServicesAnswer,
  SHOW_RESOURCES,
  type WorkersAnswer,
} from "../../lib/control/show.ts";
import { snapshot } from "../../lib/control/snapshot.ts";
import { mergeAnswers } from "../../lib/worker/merge.ts";
import { shareOf } from "../../lib/worker/share.ts";
import { udpServer } from "../simulate/endpoints.ts";
import { udpFrame } from "../simulate/packets.ts";
import { CLIENT, SERVER, twoRouters } from "../simulate/topologies.ts";

const WORKERS = 3;
const SESSIONS = 30;

/** West with workers, which have carried sessions. */
function west() {
  const net = twoRouters({ seed: 5 });
  const split = net.world.split("west", WORKERS);
  net.server.onPacket = udpServer(net.world, net.server);
  for (let n = 0; n < SESSIONS; n++) {
    net.world.send(
      net.client,
      udpFrame({ source: CLIENT, destination: SERVER, sourcePort: 20_000 + n, destinationPort: 7 }, "x"),
    );
    net.world.run(2);
  }
  return split.workers;
}

const workers = west();
const merged = <T>(resource: string): T =>
  mergeAnswers(
    resource,
    workers.map((worker) => snapshot(worker, resource)!),
  ) as T;

test("what counts is added up", (t) => {
  const [path] = merged<PathsAnswer>("paths").paths;
  t.is(path.sessions, SESSIONS);
  t.is(path.waypointPairs.inUse, SESSIONS);
  t.is(path.waypointPairs.capacity, 2 * workers[0].config.limits.waypointPairsPerPath, "dealt out, not multiplied");
  const [service] = merged<ServicesAnswer>("services").services;
  t.is(service.sessions, SESSIONS);
  t.deepEqual(
    service.candidates.map(({ sessions, maxSessions }) => [sessions, maxSessions]),
    [[SESSIONS, null]],
  );
  const counters = merged<Record<string, number>>("counters");
  t.is(counters["sessions.active"], SESSIONS);
  t.deepEqual(Object.keys(counters), Object.keys(readCounters(workers[0])));
  const { interfaces } = merged<InterfacesAnswer>("interfaces");
  t.is(interfaces[1].stats.rxFrames, counters["interface.wan0.rx-frames"]);
  t.is(
    interfaces.reduce((sum, { stats }) => sum + stats.rxFrames, 0),
    counters["frames.received"],
  );
});

test("facts are told once", (t) => {
  const one = snapshot(workers[0], "interfaces") as InterfacesAnswer;
  const all = merged<InterfacesAnswer>("interfaces");
  t.deepEqual(
    all.interfaces.map(({ stats: _, ...facts }) => facts),
    one.interfaces.map(({ stats: _, ...facts }) => facts),
  );
  t.deepEqual(merged("peers"), snapshot(workers[0], "peers"));
});

test("a peer's clock is known when one worker has measured it", (t) => {
  const path = { interface: "wan0", address: "198.18.0.2", state: "up", keyVersion: 1 };
  const of = (clockOffsetMs: number | null) => ({
    peers: [{ name: "east", security: "fabric", paths: [{ ...path, clockOffsetMs }] }],
  });
  t.deepEqual(mergeAnswers("peers", [of(null), of(4000), of(null)]), of(4000));
  t.deepEqual(mergeAnswers("peers", [of(null), of(null)]), of(null));
});

test("a neighbor of several workers is one row, of the worker that knows most, with the frames of all", (t) => {
  const row = { interface: "lan0", address: "10.1.0.2", mac: null, state: "incomplete", ageMs: -1, held: 2 };
  const known = { ...row, mac: "02:00:00:00:00:01", state: "reachable", ageMs: 900, held: 0 };
  const answers: NeighborsAnswer[] = [
    { neighbors: [row] },
    { neighbors: [known] },
    {
      neighbors: [
        { ...known, ageMs: 20, held: 1 },
        { ...row, address: "10.1.0.3" },
      ],
    },
  ];
  t.deepEqual(mergeAnswers("neighbors", answers), {
    neighbors: [
      { ...known, ageMs: 20, held: 3 },
      { ...row, address: "10.1.0.3" },
    ],
  });
  t.is(merged<NeighborsAnswer>("neighbors").neighbors.length, 2);
});

test("every worker has a row in show workers, and every resource prints", (t) => {
  const { workers: rows } = merged<WorkersAnswer>("workers");
  t.deepEqual(
    rows.map(({ worker }) => worker),
    [0, 1, 2],
  );
  t.is(
    rows.reduce((sum, { sessions }) => sum + sessions, 0),
    SESSIONS,
  );
  for (const resource of SHOW_RESOURCES.filter((name) => name !== "sessions"))
    t.true(printAnswer(resource, merged<object>(resource)).includes("\n"), resource);
});

test("a worker's share is an Nth, rounded up; one worker has everything", (t) => {
  const { config } = twoRouters({
    limits: { sessions: 100, others: ", hold-frames: 10, hold-frames-per-neighbor: 8" },
  }).west;
  t.is(shareOf(config, 1), config);
  const share = shareOf(config, 3);
  t.is(share.sessions.max, 34);
  t.like(share.limits, {
    holdFrames: 4,
    holdFramesPerNeighbor: 4,
    fabricChains: 6,
    neighbors: config.limits.neighbors,
  });
  t.is(share.limits.waypointPairsPerPath, config.limits.waypointPairsPerPath);
});
