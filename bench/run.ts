// What `make bench` runs: every file of micro/ and macro/ and the gates for allocation and deoptimization, each in a
// process of its own, one after the other; their JSON lines go to standard output, their tables to standard error. Exit
// code 1 when one of them fails. `node dist/bench/run.js live` runs only those whose path contains "live".

import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

function benches(folder: string): string[] {
  const files = readdirSync(fileURLToPath(new URL(`./${folder}/`, import.meta.url))).sort();
  return files.filter((file) => file.endsWith(".js")).map((file) => `${folder}/${file.slice(0, -".js".length)}`);
}

const wanted = process.argv[2] ?? "";
const all = [...benches("micro"), "allocation", "deopt", ...benches("macro")];
for (const bench of all.filter((name) => name.includes(wanted))) {
  console.error(`\n${bench}`);
  const start = performance.now();
  const { status } = spawnSync(process.execPath, [fileURLToPath(new URL(`./${bench}.js`, import.meta.url))], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  console.error(`${bench} took ${((performance.now() - start) / 1000).toFixed(0)} s`);
  if (status !== 0) {
    console.error(`${bench} failed`);
    process.exitCode = 1;
  }
}
