import { execFileSync } from "node:child_process";
import test from "ava";

test("the threads of the compiler come last, the thread that forwards does not", (t) => {
  const compiler = new URL("../../lib/base/compiler.js", import.meta.url);
  const script = `
    import { putCompilerLast } from ${JSON.stringify(String(compiler))};
    import { readdirSync } from "node:fs";
    import { getPriority } from "node:os";
    const before = getPriority();
    putCompilerLast();
    const others = readdirSync("/proc/self/task").map(Number).filter((thread) => thread !== process.pid);
    console.log(JSON.stringify({ own: getPriority() - before, others: others.map((thread) => getPriority(thread)) }));`;
  const printed = execFileSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
  const { own, others } = JSON.parse(printed) as { own: number; others: number[] };
  t.is(own, 0);
  t.true(others.length >= 4 && others.every((priority) => priority === 19), printed);
});
