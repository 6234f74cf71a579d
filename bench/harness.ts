// What every bench shares: repetitions after a warm-up, minimum, median and spread, a sink against dead-code removal,
// and one JSON line a figure on standard output (a table for people on standard error). A bench is a program of its
// own, so that no bench runs on another one's type feedback or heap. bench/README.md has the method.

import { SeededRandom } from "../lib/base/random.ts";

export interface Figure {
  readonly name: string;
  readonly unit: string;
  /** What the figure is true for: size, number of sessions, order, "unsigned, unencrypted", … Never a figure without it. */
  readonly mode: string;
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly runs: number;
}

export interface Bench {
  readonly name: string;
  readonly mode: string;
  /** Operations in one run. */
  readonly operations: number;
  /** Do them; the result keeps the work alive. */
  readonly run: () => number;
  /** Call before each run, not measured. */
  readonly prepare?: () => void;
  readonly runs?: number;
  readonly warmUps?: number;
}

const SEED = 20260101;
const RUNS = 9;
const WARM_UPS = 3;

/** The random words of every bench: the same at each start. */
export function seededRandom(): SeededRandom {
  return new SeededRandom(SEED);
}

let sink = 0;

/** Nanoseconds each operation takes, one number a run. */
export function nanoseconds(bench: Bench): number[] {
  const { operations, run, prepare, runs = RUNS, warmUps = WARM_UPS } = bench;
  const samples: number[] = [];
  for (let i = -warmUps; i < runs; i++) {
    prepare?.();
    const start = process.hrtime.bigint();
    sink = (sink + run()) | 0;
    const elapsed = Number(process.hrtime.bigint() - start);
    if (i >= 0) samples.push(elapsed / operations);
  }
  return samples;
}

/** Processor time of this process: what others do on the machine meanwhile does not count. */
export function processorNs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000;
}

/** Measure and print. */
export function measure(bench: Bench): Figure {
  return print(bench.name, "ns", bench.mode, nanoseconds(bench));
}

/** Print a figure of these samples, one a run. */
export function print(name: string, unit: string, mode: string, samples: readonly number[]): Figure {
  const sorted = [...samples].sort((a, b) => a - b);
  const figure: Figure = {
    name,
    unit,
    mode,
    median: rounded((sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2),
    min: rounded(sorted[0]),
    max: rounded(sorted[sorted.length - 1]),
    runs: sorted.length,
  };
  console.log(JSON.stringify(figure));
  const spread = figure.runs === 1 ? "" : `(${figure.min} to ${figure.max}, ${figure.runs} runs)`;
  console.error(`${name.padEnd(44)} ${String(figure.median).padStart(10)} ${unit.padEnd(12)} ${mode}  ${spread}`);
  return figure;
}

/** Three significant digits, and every digit of a large number's whole part. */
function rounded(value: number): number {
  return Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3));
}

process.on("exit", () => {
  if (sink === 0.5) console.error("never: the sink holds whole numbers");
});
