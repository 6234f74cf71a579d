// What `make bench` runs: every bench in a process of its own, one after the other; their JSON lines go to standard
// output, their tables to standard error. Exit code 1 when one of them fails, the allocation gate among them.
// `node dist/bench/run.js micro` runs only those whose path contains "micro".

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const BENCHES = [
  "micro/decode",
  "micro/checksum",
  "micro/flow-table",
  "micro/rewrite",
  "micro/timer-wheel",
  "micro/metadata",
  "macro/replay",
  "macro/session-setup",
  "allocation",
  "macro/live-one-router",
  "macro/live-two-routers",
];

const wanted = process.argv[2] ?? "";
for (const bench of BENCHES.filter((name) => name.includes(wanted))) {
  console.error(`\n${bench}`);
  const { status } = spawnSync(process.execPath, [fileURLToPath(new URL(`./${bench}.js`, import.meta.url))], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  if (status !== 0) {
    console.error(`${bench} failed`);
    process.exitCode = 1;
  }
}
