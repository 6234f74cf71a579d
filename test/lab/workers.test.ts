// Routers with several workers between two real hosts: the suite of the others, and what only workers can get wrong.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { askRouter } from "../../lib/control/admin-socket.ts";
import type { CountersAnswer, InterfacesAnswer, NeighborsAnswer, SessionsAnswer } from "../../lib/control/show.ts";
import { hostSuite } from "./host-suite.ts";
import { type Lab, MAIN, openLab, outcome } from "./lab.ts";
import { labTest } from "./lab-test.ts";
import { assertBothCarry, talk } from "./worker-checks.ts";

/** Loaded by every thread of a router in place of a fault of ours. */
/** Worker 1 fails once all of them forward, however long that takes. */
const BREAK_WORKER_1 = `const { workerData, parentPort } = require("node:worker_threads");
if (workerData?.worker === 1) parentPort.on("message", ({ question }) => {
  if (question?.ask === "start") setTimeout(() => { throw new Error("out of luck"); }, 10_000);
});`;

const suite = hostSuite("two-routers", { workers: { west: 2, east: 2 } });

labTest("Many UDP streams and TCP connections at once are whole and in order", async (t) => {
  await talk(t, suite.lab());
});

labTest("Both workers of both routers have carried sessions, and no frame changed hands", async (t) => {
  await assertBothCarry(t, suite.lab());
});

labTest("show has one router: every session with its worker, each neighbor and interface once", async (t) => {
  for (const router of suite.lab().routers) {
    const { sessions, active } = await stillSessions(router.socketPath);
    t.true(new Set(sessions.map(({ worker }) => worker)).size === 2);
    t.is(new Set(sessions.map(({ uuid }) => uuid)).size, sessions.length);
    t.is(active, sessions.length);
    const { interfaces } = (await askRouter(router.socketPath, "interfaces")) as InterfacesAnswer;
    t.deepEqual(
      interfaces.map(({ name }) => name),
      ["lan0", "wan0"],
    );
    const { neighbors } = (await askRouter(router.socketPath, "neighbors")) as NeighborsAnswer;
    t.is(new Set(neighbors.map(({ address }) => address)).size, neighbors.length);
    t.true(neighbors.every(({ mac, held }) => mac !== null && held === 0));
  }
});

/** The sessions, listed at a moment when none ended. */
async function stillSessions(socket: string) {
  for (;;) {
    const counted = async () => ((await askRouter(socket, "counters")) as CountersAnswer)["sessions.active"];
    const before = await counted();
    const { sessions } = (await askRouter(socket, "sessions")) as SessionsAnswer;
    const active = await counted();
    if (before === active) return { sessions, active };
    await sleep(300);
  }
}

labTest("A device that goes down and comes back is steered as before", async (t) => {
  const lab = suite.lab();
  for (const router of lab.routers)
    for (const device of ["lan0", "wan0"]) {
      await lab.run(router.name, "ip", "link", "set", device, "down");
      await lab.run(router.name, "ip", "link", "set", device, "up");
    }
  await talk(t, lab);
  for (const router of lab.routers) {
    const counters = (await askRouter(router.socketPath, "counters")) as CountersAnswer;
    t.is(counters["strays.sent"], 0);
  }
});

for (const workers of [
  { west: 1, east: 2 },
  { west: 3, east: 1 },
]) {
  labTest(`${workers.west} workers and ${workers.east}: every flow is whole, and no frame changes hands`, async (t) => {
    await inLab(workers, async (lab) => {
      await lab.startRouters();
      await talk(t, lab);
      for (const router of lab.routers) {
        const counters = (await askRouter(router.socketPath, "counters")) as CountersAnswer;
        t.is(counters["strays.sent"], 0, router.name);
      }
      await lab.stopRouters();
    });
  });
}

labTest("GRO is off while the workers run, and what it was before when they have stopped", async (t) => {
  await inLab({ west: 3 }, async (lab) => {
    const gro = async () =>
      /generic-receive-offload: (\w+)/.exec((await lab.run("west", "ethtool", "-k", "wan0")).stdout)?.[1];
    await lab.run("west", "ethtool", "-K", "wan0", "gro", "on");
    await lab.startRouters();
    t.is(await gro(), "off");
    await lab.stopRouters();
    t.is(await gro(), "on");
    t.is((await lab.run("west", "nft", "list", "tables")).stdout, "");
  });
});

labTest("A worker that ends takes the router down: exit 1, what happened, and the guard in place", async (t) => {
  await inLab({ west: 2 }, async (lab) => {
    const [west] = lab.routers;
    const preload = join(lab.directory, "break.cjs");
    writeFileSync(preload, BREAK_WORKER_1);
    const env = { ...process.env, NODE_OPTIONS: `--require ${preload}` };
    const child = lab.spawn("west", process.execPath, [MAIN, "run", "-c", west.configPath], { env });
    const { code, stderr } = await outcome(child);
    t.is(code, 1, stderr);
    t.regex(stderr, /"msg":"forwarding"/);
    t.regex(stderr, /^waymark: worker 1 failed, so the router stops: Error: out of luck$/m);
    t.regex((await lab.run("west", "nft", "list", "tables")).stdout, /netdev waymark/);
  });
});

labTest("A device that is missing is told in one line, whichever worker found out", async (t) => {
  await inLab({ west: 2 }, async (lab) => {
    await lab.run("west", "ip", "link", "set", "wan0", "down");
    const [west] = lab.routers;
    const { code, stderr } = await lab.waymark("west", "run", "-c", west.configPath);
    t.is(code, 1);
    t.regex(stderr, /^waymark: interface wan0, device wan0: .*is down/m);
    t.notRegex(stderr, /^\s+at /m);
    t.is((await lab.run("west", "nft", "list", "tables")).stdout, "");
  });
});

async function inLab(workers: Readonly<Record<string, number>>, body: (lab: Lab) => Promise<void>): Promise<void> {
  const lab = await openLab("two-routers", { workers });
  try {
    await body(lab);
  } finally {
    await lab.close();
  }
}
