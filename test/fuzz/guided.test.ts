// The guided targets (targets/index.ts), each in a process of its own: a short run from a fixed seed, or for as long as
// `make fuzz` says, from a new one. WAYMARK_SEED=n runs a seed again.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import test from "ava";
import { instrument } from "./instrument.ts";
import { TARGETS } from "./targets/index.ts";

const minutes = Number(process.env.WAYMARK_FUZZ_MINUTES ?? 0);
const seed = process.env.WAYMARK_SEED ?? String(minutes > 0 ? Date.now() % 1_000_000_000 : 20_261_126);
const names = Object.keys(TARGETS);
const runner = fileURLToPath(new URL("run.js", import.meta.url));
const addon = fileURLToPath(new URL("../../../build/fuzz/waymark.node", import.meta.url));

for (const name of names) {
  const { promise, isNative = false } = TARGETS[name];
  const isMissing = isNative && !existsSync(addon);
  const guided = isMissing ? test.skip : test.serial;
  guided(`${promise}${isMissing ? " (needs build/fuzz/waymark.node: make fuzz)" : ""}`, async (t) => {
    t.timeout(600_000 + minutes * 60_000);
    const time = minutes > 0 ? ["--seconds", String((minutes * 60) / names.length)] : [];
    const child = spawn(process.execPath, [runner, name, "--seed", seed, ...time], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    const [said, failed, code] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      new Promise((resolve) => child.once("close", resolve)),
    ]);
    t.is(code, 0, failed);
    t.log(said.trim());
    const { kept, outcomes, branches } = JSON.parse(said) as Record<string, number>;
    t.true(branches > 30 && kept > 10 && outcomes > 3, "code is traced, and inputs come to different ends");
  });
}

test("tracing changes nothing but the counters", (t) => {
  const counted: Uint8Array[] = [];
  const global = globalThis as unknown as Record<string, unknown>;
  global.waymarkTraced = (counters: number) => {
    counted.push(new Uint8Array(counters));
    return counted.at(-1);
  };
  const code = `function f(a, b) {
    let said = "";
    if (a) said += "a"; else if (b) said += "b";
    for (const one of [1, 2]) said += one;
    while (said.length < 5) said += ".";
    switch (b) { case 1: case 2: { said += "c"; break; } default: said += "d" }
    const g = (x) => x ? { x } : null, h = (x) => ({ x });
    said += g(a)?.x ?? (b && "e") ?? "f";
    do said += h(b).x; while (said.length < 9)
    try { if (a > 1) throw new Error("g"); } catch (error) { said += error.message }
    return said + [a, b].map((x) => x || -1).join();
  }`;
  const [plain, traced] = [code, instrument(code)].map(
    (text) => new Function(`${text}\nreturn f;`)() as typeof Math.max,
  );
  t.is(instrument(code).split("\n").length, code.split("\n").length);
  const seen = new Set<string>();
  for (const a of [0, 1, 2]) {
    for (const b of [0, 1, 2, 3]) {
      counted[0].fill(0);
      t.is(traced(a, b), plain(a, b), `${a}, ${b}`);
      seen.add(counted[0].join());
    }
  }
  t.true(seen.size >= 8, "and the counters tell one way through it from another");
});
