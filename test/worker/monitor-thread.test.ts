// The path monitor's thread as the main thread sees it, however it ends. What runs in it is this test's own.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import test from "ava";
import { OperatorError } from "../../lib/control/operator-error.ts";
import { MonitorThread } from "../../lib/worker/monitor-thread.ts";

/** Longer than a thread that only says something needs to its end. */
const BUSY_MS = 1000;

const directory = mkdtempSync(join(tmpdir(), "waymark-monitor-"));
test.after.always(() => rmSync(directory, { recursive: true }));

/** Start a thread that runs `program`. */
function start(name: string, program: string): Promise<MonitorThread> {
  const path = join(directory, `${name}.mjs`);
  writeFileSync(path, `import { parentPort } from "node:worker_threads";\n${program}`);
  const started = {} as Parameters<typeof MonitorThread.start>[0];
  return MonitorThread.start(started, pathToFileURL(path), { reports: () => {}, losses: () => {} });
}

/** What keeps a thread from its events. */
function beBusy(): void {
  for (const end = performance.now() + BUSY_MS; performance.now() < end; );
}

test.serial("A thread that is told to end does, and that is no failure", async (t) => {
  const thread = await start("well", 'parentPort.postMessage({ ready: true });\nparentPort.once("message", () => {});');
  await thread.close();
  t.is(await Promise.race([thread.failed, "ended"]), "ended");
});

test.serial("A thread that does not end when it is told to is ended", async (t) => {
  const thread = await start("deaf", 'parentPort.postMessage({ ready: true });\nparentPort.on("message", () => {});');
  await t.notThrowsAsync(thread.close());
});

for (const [how, program, says] of [
  ["exits", "process.exit(3);", /the path monitor failed, so the router stops: it ended with 3$/],
  ["throws", 'throw new Error("out of luck");', /the path monitor failed, so the router stops: out of luck$/],
] as const) {
  test.serial(`A thread that ${how} of its own accord is told as failed, and closes`, async (t) => {
    const thread = await start(how, `parentPort.postMessage({ ready: true });\nsetTimeout(() => { ${program} }, 20);`);
    t.regex((await thread.failed).message, says);
    await t.notThrowsAsync(thread.close());
  });
}

test.serial("A thread that ends before it is ready fails the start", async (t) => {
  await t.throwsAsync(start("early", "process.exit(3);"), { message: "it ended with 3" });
});

test.serial("A refusal is heard also where the thread is gone before the main thread listens", async (t) => {
  const refused = start("refuses", 'parentPort.postMessage({ refused: "no such port", isOperators: true });');
  // Word and end are both there when it comes back to its events, whichever it has started to hear.
  setTimeout(beBusy, 5);
  beBusy();
  await t.throwsAsync(refused, { instanceOf: OperatorError, message: "no such port" });
});
