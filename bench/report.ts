// Writes the figures of a run (JSON lines on standard input) into bench/README.md, between its markers: what is required
// and what was reached (targets.ts), then every figure, in a table for each first word of their names.

import { readFileSync, writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { Figure } from "./harness.ts";
import { TARGETS, type Target } from "./targets.ts";

const README = fileURLToPath(new URL("../../bench/README.md", import.meta.url));
const BEGIN = "<!-- results: begin -->";
const END = "<!-- results: end -->";

const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });

/** The README's text with the tables of `figures` in place of the old ones. */
export function withResults(readme: string, figures: readonly Figure[], machine: string): string {
  const [before, rest] = readme.split(BEGIN);
  const parts = [BEGIN, machine, "### Required", requiredTable(figures, TARGETS)];
  const sectionOf = ({ name }: Figure) => name.split(".")[0];
  for (const section of new Set(figures.map(sectionOf))) {
    parts.push(`### ${section}`, figureTable(figures.filter((figure) => sectionOf(figure) === section)));
  }
  return `${before}${parts.join("\n\n")}\n${END}${rest.split(END)[1]}`;
}

/** What is required, what was reached, and whether that will do. */
export function requiredTable(figures: readonly Figure[], targets: readonly Target[]): string {
  const rows = targets.map(({ figure, relation, target, sentence }) => {
    const better = (a: Figure, b: Figure) => (relation === ">=" ? a.median - b.median : b.median - a.median);
    const worst = figures.filter(({ name }) => name === figure).sort(better)[0];
    const words = `${relation === ">=" ? "at least" : "at most"} ${number.format(target)}`;
    if (worst === undefined) return `| ${sentence} | ${words} | not measured | | \`${figure}\` |`;
    const met = relation === ">=" ? worst.median >= target : worst.median <= target;
    return `| ${sentence} | ${words} | ${number.format(worst.median)} | ${met ? "yes" : "**no**"} | \`${figure}\`: ${worst.mode} |`;
  });
  return table("| required | target | reached | met | figure: mode |", "|---|---|---:|---|---|", rows);
}

function figureTable(figures: readonly Figure[]): string {
  const rows = figures.map(({ name, mode, median, min, max, unit, runs }) => {
    const spread = runs === 1 ? "" : `${number.format(min)} to ${number.format(max)}`;
    return `| ${name} | ${mode} | ${number.format(median)} | ${unit} | ${spread} | ${runs} |`;
  });
  return table("| figure | mode | median | unit | min to max | runs |", "|---|---|---:|---|---|---:|", rows);
}

function table(heading: string, rule: string, rows: readonly string[]): string {
  return [heading, rule, ...rows].join("\n");
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const figures = readFileSync(0, "utf8")
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as Figure);
  const machine = `${cpus().length} x ${cpus()[0].model.trim()}, Linux ${release().split(".", 2).join(".")}, Node ${process.version}, ${new Date().toISOString().slice(0, 10)}.`;
  writeFileSync(README, withResults(readFileSync(README, "utf8"), figures, machine));
}
