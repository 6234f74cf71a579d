// Writes the figures of a run (JSON lines on standard input) as a table into bench/README.md, between its markers.

import { readFileSync, writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { fileURLToPath } from "node:url";
import type { Figure } from "./harness.ts";

const README = fileURLToPath(new URL("../../bench/README.md", import.meta.url));
const BEGIN = "<!-- results: begin -->";
const END = "<!-- results: end -->";

const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });

/** The README's text with the table of `figures` in place of the old one. */
export function withResults(readme: string, figures: readonly Figure[], machine: string): string {
  const rows = figures.map(({ name, mode, median, min, max, unit, runs }) => {
    const spread = runs === 1 ? "" : `${number.format(min)} to ${number.format(max)}`;
    return `| ${name} | ${mode} | ${number.format(median)} | ${unit} | ${spread} | ${runs} |`;
  });
  const table = ["| figure | mode | median | unit | min to max | runs |", "|---|---|---:|---|---|---:|", ...rows];
  const [before, rest] = readme.split(BEGIN);
  return `${before}${BEGIN}\n${machine}\n\n${table.join("\n")}\n${END}${rest.split(END)[1]}`;
}

const figures = readFileSync(0, "utf8")
  .split("\n")
  .filter((line) => line.startsWith("{"))
  .map((line) => JSON.parse(line) as Figure);
const machine = `${cpus().length} x ${cpus()[0].model.trim()}, Linux ${release().split(".", 2).join(".")}, Node ${process.version}, ${new Date().toISOString().slice(0, 10)}.`;
writeFileSync(README, withResults(readFileSync(README, "utf8"), figures, machine));
