// The command line as a whole: `waymark` and its commands, and what their exit codes mean. One file beside this one
// per command; its help text lives there.

import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { OperatorError } from "../control/operator-error.ts";
import { checkCommand } from "./check.ts";
import type { Context } from "./context.ts";
import { explainCommand } from "./explain.ts";
import { keysCommand } from "./keys.ts";
import { replayCommand } from "./replay.ts";
import { runCommand } from "./run.ts";
import { showCommand } from "./show.ts";

const FAILED = 1;
const USAGE = 2;

const HELP = `
Exit codes: 0 fine, 1 failed, 2 used wrongly.

Examples:
  waymark check -c west.yaml
  waymark run -c west.yaml
  waymark show sessions --watch
  waymark explain -c west.yaml --rx lan0 --packet 'tcp 10.1.0.2:40000 > 10.2.0.2:443'`;

/** Run the command that `words` ask for. Returns the exit code; everything printed goes through `context`. */
export async function runProgram(words: readonly string[], context: Context): Promise<number> {
  const program = new Command("waymark")
    .description("A session router: it routes sessions between networks and needs no tunnel.")
    .version(readVersion())
    .addHelpText("after", HELP);
  for (const make of [runCommand, checkCommand, replayCommand, showCommand, explainCommand, keysCommand]) {
    program.addCommand(make(context));
  }
  for (const command of [program, ...program.commands, ...program.commands.flatMap(({ commands }) => commands)]) {
    command
      .exitOverride()
      .configureOutput({ writeOut: context.out, writeErr: context.err })
      .showHelpAfterError("(--help says more)");
  }
  try {
    await program.parseAsync(words, { from: "user" });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE;
    context.err(`waymark: ${explainError(error)}\n`);
    return FAILED;
  }
}

/** What the operator can mend has a message of its own; anything else is a mistake of ours and shows where. */
function explainError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // The system's and the addon's errors carry a code; Node's own for a wrong call begin with ERR_.
  const { code } = error as NodeJS.ErrnoException;
  const fromSystem = typeof code === "string" && !code.startsWith("ERR_");
  return error instanceof OperatorError || fromSystem ? error.message : (error.stack ?? error.message);
}

function readVersion(): string {
  const text = readFileSync(new URL("../../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}
