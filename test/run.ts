// What `make test` runs: ava over everything, first all that can share the machine, then the lab and the other tests
// that own devices, one after the other. Prints ava's TAP as it comes; then the tests that failed once more, with what
// ava said of each, because they stand among thousands of lines; and, as the last line, the true counts of both.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** Tests that make network namespaces, open devices or need the machine to themselves. */
const ALONE = [
  "dist/test/lab/**/*.test.js",
  "dist/test/io/live-port.test.js",
  "dist/test/io/addon.test.js",
  "dist/test/control/kernel-guard.test.js",
  "dist/test/engine/allocation.test.js",
];

const counts = { passed: 0, failed: 0, skipped: 0 };
/** The lines of the tests that failed. */
const failures: string[] = [];
let running: ReturnType<typeof spawn> | undefined;

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    running?.kill(signal);
    process.exitCode = 1;
  });
}

/** Run ava on the files; returns its exit code. */
async function ava(args: string[]): Promise<number> {
  running = spawn(process.execPath, ["node_modules/ava/entrypoints/cli.mjs", "--tap", ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let failed = false;
  for await (const line of createInterface({ input: running.stdout! })) {
    console.log(line);
    // What belongs to a test is indented or a comment.
    if (/^[^ #]/.test(line)) failed = line.startsWith("not ok ");
    if (failed && line !== "") failures.push(line);
    if (/^ok \d/.test(line)) counts[/# (SKIP|TODO)/i.test(line) ? "skipped" : "passed"]++;
    else if (/^not ok \d/.test(line)) counts.failed++;
  }
  const child = running;
  return child.exitCode ?? new Promise((resolve) => child.once("close", (code) => resolve(code ?? 1)));
}

const together = await ava(["--concurrency", "2", "dist/test/**/*.test.js", ...ALONE.map((glob) => `!${glob}`)]);
const alone = process.exitCode === 1 ? 1 : await ava(["--serial", "--concurrency", "1", "--timeout", "6m", ...ALONE]);
if (together !== 0 || alone !== 0) {
  process.exitCode = 1;
  // ava can fail without a failed test (a file that could not be loaded).
  if (counts.failed === 0) counts.failed = 1;
}
for (const line of failures) console.log(`| ${line}`);
console.log(`ava: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
