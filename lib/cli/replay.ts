import { accessSync, constants, existsSync, mkdirSync, realpathSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import type { Config } from "../control/config.ts";
import { CommandError, type Context, explainFileError, loadConfig, requireInterface } from "./context.ts";

const EXAMPLES = `
Frames enter the named interfaces in timestamp order on a virtual clock; what leaves interface IF
is written to DIR/IF.pcap. Prints the counters that are not zero. Needs no root.
The same input and seed give the same bytes.

Examples:
  waymark replay -c west.yaml --rx lan0=client.pcap --tx-dir out
  waymark replay -c west.yaml --rx lan0=client.pcap --rx wan0=replies.pcap --tx-dir out --seed 7 --json`;

const DEFAULT_SEED = 1;
const SEED_MAX = 0xffff_ffff;

interface Capture {
  interface: string;
  file: string;
}

export function replayCommand(context: Context): Command {
  return new Command("replay")
    .description("run the engine on capture files, offline")
    .requiredOption("-c, --config <file>", "configuration file")
    .requiredOption("--rx <IF=file>", "capture whose frames enter interface IF (repeatable)", addCapture)
    .requiredOption("--tx-dir <dir>", "directory for what leaves each interface; made if it is not there")
    .option("--seed <n>", "fixes UUIDs, IVs and hash seeds", parseSeed, DEFAULT_SEED)
    .option("--json", "print all counters as one JSON object")
    .addHelpText("after", EXAMPLES)
    .action(async (options: { config: string; rx: Capture[]; txDir: string; seed: number; json?: true }) => {
      const config = await loadConfig(context, options.config);
      for (const capture of options.rx) requireInterface(config, capture.interface);
      for (const capture of options.rx) requireFile(capture.file);
      refuseOverwriting(config, options.rx, options.txDir);
      requireDirectory(options.txDir);
      const { replayCaptures } = await context.loadRouter();
      const counters = await replayCaptures(config, { rx: options.rx, txDir: options.txDir, seed: options.seed });
      if (options.json) {
        context.out(`${JSON.stringify(counters, null, 2)}\n`);
      } else {
        const { printCounters } = await import("../control/show.ts");
        context.out(printCounters(Object.fromEntries(Object.entries(counters).filter(([, value]) => value !== 0))));
      }
    });
}

function addCapture(text: string, earlier: Capture[] = []): Capture[] {
  const equals = text.indexOf("=");
  if (equals < 1 || equals === text.length - 1)
    throw new InvalidArgumentError("Write IF=FILE, such as lan0=client.pcap.");
  const capture = { interface: text.slice(0, equals), file: text.slice(equals + 1) };
  if (earlier.some((other) => other.interface === capture.interface)) {
    throw new InvalidArgumentError(
      `Interface ${capture.interface} has a capture already; merge the two files first (mergecap).`,
    );
  }
  return [...earlier, capture];
}

function parseSeed(text: string): number {
  const seed = /^\d{1,10}$/.test(text) ? Number(text) : -1;
  if (seed < 0 || seed > SEED_MAX) throw new InvalidArgumentError(`Write a whole number from 0 to ${SEED_MAX}.`);
  return seed;
}

function requireFile(file: string): void {
  try {
    if (statSync(file).isDirectory()) throw new CommandError(`cannot read ${file}: it is a directory`);
    accessSync(file, constants.R_OK);
  } catch (error) {
    if (error instanceof CommandError) throw error;
    throw new CommandError(`cannot read ${file}: ${explainFileError(error)}`);
  }
}

function refuseOverwriting(config: Config, captures: readonly Capture[], directory: string): void {
  const real = (path: string) => (existsSync(path) ? realpathSync(path) : resolve(path));
  const written = config.interfaces.map((item) => real(join(directory, `${item.name}.pcap`)));
  const victim = captures.find((capture) => written.includes(real(capture.file)));
  if (victim !== undefined) throw new CommandError(`${victim.file} would be overwritten: name another --tx-dir`);
}

function requireDirectory(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true });
    accessSync(directory, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new CommandError(`cannot write to ${directory}: ${explainFileError(error)}`);
  }
}
