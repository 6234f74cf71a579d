import { execFileSync } from "node:child_process";
import test from "ava";

test("the threads of the compiler stand behind, and near enough to let go of their locks; the thread that forwards does not", (t) => {
  const compiler = new URL("../../lib/base/compiler.js", import.meta.url);
  const script = `
    import { putCompilerBehind } from ${JSON.stringify(String(compiler))};
    import { readdirSync } from "node:fs";
    import { getPriority } from "node:os";
    const before = getPriority();
    putCompilerBehind();
    const others = readdirSync("/proc/self/task").map(Number).filter((thread) => thread !== process.pid);
    console.log(JSON.stringify({ own: getPriority() - before, others: others.map((thread) => getPriority(thread)) }));`;
  const printed = execFileSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
  const { own, others } = JSON.parse(printed) as { own: number; others: number[] };
  t.is(own, 0);
  t.true(others.length >= 4 && others.every((priority) => priority === 5), printed);
});
