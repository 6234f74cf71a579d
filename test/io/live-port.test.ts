import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import test from "ava";
import { type Backend, titlesOf } from "./live-port.child.ts";
import { noNamespace } from "./skip.ts";

// The cases of a backend run in one child, because a process cannot change its network namespace once it has threads.
// Namespace and veth pair end with the child, however it ends.

const missing = noNamespace();
const child = fileURLToPath(new URL("./live-port.child.js", import.meta.url));

async function runChild(backend: Backend): Promise<Map<string, string | undefined>> {
  const command = ["-n", process.execPath, child, "--run", backend];
  const { stdout } = await promisify(execFile)("unshare", command, { timeout: 500_000 }).catch((error) => error);
  // Behind the last line's end there is nothing, or what a child that was ended began to say.
  const lines = String(stdout).split("\n").slice(0, -1);
  return new Map(lines.map((line) => JSON.parse(line)).map(({ title, error }) => [title, error]));
}

let before: Promise<unknown> = Promise.resolve();

for (const backend of ["libpcap", "af-packet"] as const) {
  // One after the other: two at once would take each other's time.
  const outcome = missing === undefined ? before.then(() => runChild(backend)) : undefined;
  before = outcome ?? before;
  for (const title of titlesOf(backend)) {
    if (outcome === undefined) {
      test.skip(`${backend} port: ${title} (${missing})`, () => {});
      continue;
    }
    test(`${backend} port: ${title}`, async (t) => {
      t.timeout(600_000);
      const results = await outcome;
      t.true(results.has(title), "the child ended before this case");
      t.is(results.get(title), undefined);
    });
  }
}
