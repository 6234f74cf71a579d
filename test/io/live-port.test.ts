import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import test from "ava";
import { titles } from "./live-port.child.ts";
import { noNamespace } from "./skip.ts";

// The cases run in one child, because a process cannot change its network namespace once it has threads. Namespace and
// veth pair end with the child, however it ends.

const missing = noNamespace();
const child = fileURLToPath(new URL("./live-port.child.js", import.meta.url));
const outcome = missing === undefined ? runChild() : Promise.resolve(new Map<string, string | undefined>());

async function runChild(): Promise<Map<string, string | undefined>> {
  const run = promisify(execFile)("unshare", ["-n", process.execPath, child, "--run"], { timeout: 100_000 });
  const { stdout } = await run.catch((error) => error);
  const lines = String(stdout).trim().split("\n");
  return new Map(lines.map((line) => JSON.parse(line)).map(({ title, error }) => [title, error]));
}

for (const title of titles) {
  if (missing !== undefined) {
    test.skip(`live port: ${title} (${missing})`, () => {});
    continue;
  }
  test(`live port: ${title}`, async (t) => {
    const results = await outcome;
    t.true(results.has(title), "the child ended before this case");
    t.is(results.get(title), undefined);
  });
}
