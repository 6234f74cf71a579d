import test from "ava";
import type { Figure } from "../../bench/harness.ts";
import { requiredTable, withResults } from "../../bench/report.ts";

const figure = (name: string, median: number, mode = "unsigned"): Figure => ({
  name,
  unit: "ratio",
  mode,
  median,
  min: median,
  max: median,
  runs: 3,
});
const atLeast = (target: number) => [{ figure: "one.a-to-b", relation: ">=" as const, target, sentence: "a beside b" }];
const atMost = (target: number) => [{ figure: "one.a-to-b", relation: "<=" as const, target, sentence: "a beside b" }];
const lastRow = (table: string) => table.split("\n").at(-1);

test("a figure that reaches its target exactly meets it", (t) => {
  t.is(
    lastRow(requiredTable([figure("one.a-to-b", 2)], atLeast(2))),
    "| a beside b | at least 2 | 2 | yes | `one.a-to-b`: unsigned |",
  );
  t.regex(lastRow(requiredTable([figure("one.a-to-b", 2)], atMost(2)))!, /\| yes \|/);
});

test("a figure on the wrong side of its target does not meet it", (t) => {
  t.regex(lastRow(requiredTable([figure("one.a-to-b", 1.9)], atLeast(2)))!, /\| \*\*no\*\* \|/);
  t.regex(lastRow(requiredTable([figure("one.a-to-b", 2.1)], atMost(2)))!, /\| \*\*no\*\* \|/);
});

test("of a figure in several modes the worst counts", (t) => {
  const both = [figure("one.a-to-b", 3, "one connection"), figure("one.a-to-b", 1, "eight connections")];
  t.regex(lastRow(requiredTable(both, atLeast(2)))!, /\| 1 \| \*\*no\*\* \| .*eight connections/);
  t.regex(lastRow(requiredTable(both, atMost(2)))!, /\| 3 \| \*\*no\*\* \| .*one connection/);
});

test("what was not measured is said to be so, and is not met", (t) => {
  t.is(lastRow(requiredTable([], atLeast(2))), "| a beside b | at least 2 | not measured | | `one.a-to-b` |");
});

test("results take the place of the old ones between the markers, a table for each first word", (t) => {
  const readme = "before\n<!-- results: begin -->\nold\n<!-- results: end -->\nafter\n";
  const text = withResults(readme, [figure("one.a", 1), figure("two.a", 2), figure("one.b", 3)], "a machine");
  t.true(text.startsWith("before\n<!-- results: begin -->\n\na machine\n\n### Required\n"));
  t.true(text.endsWith("\n<!-- results: end -->\nafter\n"));
  t.false(text.includes("\nold\n"));
  t.regex(text, /### one\n\n.*\n.*\n\| one\.a .*\n\| one\.b .*\n\n### two\n\n.*\n.*\n\| two\.a /);
});
