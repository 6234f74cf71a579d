// Two routers with two wires between them and BFD at 50 ms × 3: a path is cut, in every way that a path can be, while
// hosts talk, and nothing that they say is lost for long.

import { setTimeout as sleep } from "node:timers/promises";
import type { EventsAnswer, PathsAnswer, SessionsAnswer } from "../../lib/control/show.ts";
import { type Lab, type LabOptions, openLab, SERVER } from "./lab.ts";
import { labTest } from "./lab-test.ts";

export const FAST = "bfd: { desired-tx-interval: 50ms, required-min-rx-interval: 50ms, hold-down: 2s }";

async function withPaths(options: LabOptions, use: (lab: Lab) => Promise<void>): Promise<void> {
  const lab = await openLab("two-paths", { extra: FAST, ...options });
  try {
    await lab.startRouters();
    await pathsUp(lab);
    await use(lab);
  } finally {
    await lab.close();
  }
}

async function shown<T>(lab: Lab, router: string, what: string): Promise<T> {
  const { socketPath } = lab.routers.find(({ name }) => name === router)!;
  const { stdout } = await lab.waymark(router, "show", what, "--socket", socketPath, "--json");
  return JSON.parse(stdout) as T;
}

async function pathsUp(lab: Lab): Promise<void> {
  for (const deadline = Date.now() + 20_000; ; await sleep(100)) {
    const answers = await Promise.all(lab.routers.map(({ name }) => shown<PathsAnswer>(lab, name, "paths")));
    if (answers.every(({ paths }) => paths.every(({ state }) => state === "up"))) return;
    if (Date.now() > deadline) throw new Error(JSON.stringify(answers));
  }
}

labTest("a ping goes on over the other wire when one is cut, and the router says what it did and why", async (t) => {
  await withPaths({}, async (lab) => {
    const ping = lab.run("client", "ping", "-i", "0.02", "-c", "200", "-W", "1", SERVER);
    await sleep(1500);
    await lab.run("wire1", "ip", "link", "set", "left", "down");
    const { stdout } = await ping;
    const [, lost] = /(\d+) packets transmitted, \d+ received/.exec(stdout) === null ? [] : [0, stdout];
    t.truthy(lost);
    const received = Number(/, (\d+) received/.exec(stdout)?.[1]);
    t.true(received >= 185, stdout);
    const { events } = await shown<EventsAnswer>(lab, "west", "events");
    t.true(events.some(({ kind }) => kind === "path-down"));
    t.true(events.some(({ kind, uuid }) => kind === "session-moved" && uuid !== undefined));
    const { sessions } = await shown<SessionsAnswer>(lab, "west", "sessions");
    t.true(
      sessions.every(({ path }) => path === "wan1 198.18.1.2"),
      JSON.stringify(sessions),
    );
  });
});
