// What must hold of routers with several workers, whatever the family of hosts and paths.

import type { ExecutionContext } from "ava";
import type { CountersAnswer, WorkersAnswer } from "../../lib/control/show.ts";
import type { Lab } from "./lab.ts";
import { shown, until } from "./watched.ts";
import { converse } from "./workload.ts";

/**
 * Connections from both sides, then streams from both sides. The connections' first packets find every worker's
 * neighbors: only so many frames wait for one, and TCP sends again.
 */
export async function talk(t: ExecutionContext, lab: Lab): Promise<void> {
  for (const [conversation, port, count, size] of [
    ["parallel", 7000, 60, 4096],
    ["streams", 7002, 48, 40],
  ] as const) {
    const outcomes = await Promise.all([
      converse(lab, "client", conversation, lab.server, port, count, size),
      converse(lab, "server", conversation, lab.client, port, count, size),
    ]);
    for (const { code, stderr } of outcomes) t.is(code, 0, stderr);
  }
}

/** Both workers of each router have forwarded, and no frame went from one to the other. */
export async function assertBothCarry(t: ExecutionContext, lab: Lab): Promise<void> {
  for (const router of lab.routers) {
    const count = () => shown<CountersAnswer>(lab, router.name, "counters");
    let counters = await count();
    let workers: WorkersAnswer["workers"] = [];
    // Frames may come between two answers: until the same was counted before and after.
    await until("no frame comes", async () => {
      const before = counters["frames.received"];
      ({ workers } = await shown<WorkersAnswer>(lab, router.name, "workers"));
      counters = await count();
      return counters["frames.received"] === before ? undefined : `${counters["frames.received"]} after ${before}`;
    });
    t.is(workers.length, 2);
    for (const { frames } of workers) t.true(frames.forwarded > 100, JSON.stringify(workers));
    t.is(counters["strays.sent"], 0);
    t.is(counters["drop.stray-ring-full"], 0);
    t.is(
      workers.reduce((sum, { frames }) => sum + frames.received, 0),
      counters["frames.received"],
    );
  }
}
