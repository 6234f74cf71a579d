// Routers end without a word (SIGKILL) while hosts talk through them, and begin anew with no session: their peers give
// back what they had, and every connection goes on. When it does is for TCP to say: by then its timer has doubled to about
// as long as the router was away.

import { setTimeout as sleep } from "node:timers/promises";
import type { ExecutionContext } from "ava";
import { type Lab, openLab } from "./lab.ts";
import { labTest } from "./lab-test.ts";
import { Talk } from "./talk.ts";
import { bfdText, eventsOf, pathsUp, shown, type Timing, uuidsOf } from "./watched.ts";

const CONNECTIONS = 200;
const TIMING: Timing = { intervalMs: 100, multiplier: 3 };

/** Kill a router and start it again; how long until each connection has got something again. */
async function cutPower(t: ExecutionContext, lab: Lab, talk: Talk, name: string): Promise<void> {
  const router = lab.router(name);
  const at = Date.now();
  await lab.killRouter(router);
  t.regex((await lab.run(name, "nft", "list", "tables")).stdout, /netdev waymark/, "the guard stays");
  await lab.startRouters([router]);
  const startedMs = Date.now() - at;
  // What was on its way when the router ended arrives until here.
  const recoveredMs = 100 + (await talk.goesOnAfter(at + 100));
  const { udp } = talk.gaps(at, Date.now());
  t.log(
    `${name}: ready after ${startedMs} ms; UDP ${udp} ms without an answer; the last of the connections goes on after ${recoveredMs} ms`,
  );
  const counters = await shown<Record<string, number>>(lab, name, "counters");
  t.true(counters["sessions.recovered"] >= CONNECTIONS, `${name}: ${counters["sessions.recovered"]} recovered`);
  t.is(counters["tcp.resets-sent"], 0);
}

for (const [kind, protection] of [
  ["in clear", undefined],
  ["encrypted", { sign: "every-packet", adaptive: false }],
] as const) {
  labTest(
    `200 TCP connections ${kind} outlive kill -9 of the ingress router, of the egress router, and of one right after the other`,
    async (t) => {
      t.timeout(600_000);
      const lab = await openLab("two-routers", {
        extra: bfdText(TIMING),
        ...(protection === undefined ? {} : { protection }),
      });
      try {
        if (protection !== undefined) await lab.waymark("west", "keys", "generate", "--file", "keys");
        await lab.startRouters();
        await pathsUp(lab);
        const talk = await Talk.start(lab, CONNECTIONS);
        const before = await uuidsOf(lab, "west", "tcp");
        for (const name of ["west", "east", "west", "east"]) {
          await cutPower(t, lab, talk, name);
          await sleep(300);
        }
        for (const { name } of lab.routers) t.deepEqual(await uuidsOf(lab, name, "tcp"), before, name);
        const { completed, bytes } = await talk.end();
        t.is(completed, CONNECTIONS);
        t.log(`${completed} connections, ${bytes} bytes echoed right`);
        t.true((await eventsOf(lab, "west")).some(({ kind }) => kind === "peer-restarted"));
        await lab.stopRouters();
        for (const { name } of lab.routers) t.is((await lab.run(name, "nft", "list", "tables")).stdout, "");
      } finally {
        await lab.close();
      }
    },
  );
}
