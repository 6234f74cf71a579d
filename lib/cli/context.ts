// What every command shares: where text goes, how it fails, how it reads a configuration. Heavy parts (zod, the
// engine, the addon) are imported inside a command's action, so that --help and `show` start quickly.

import { readFileSync } from "node:fs";
import type { Log } from "../base/log.ts";
import type { Config, Problem } from "../control/config.ts";
import type { Explanation } from "../control/explain.ts";
import { OperatorError } from "../control/operator-error.ts";
import type { PacketDescription } from "../control/packet-text.ts";

export interface Context {
  /** Standard output: data. */
  readonly out: (text: string) => void;
  /** Standard error: what went wrong, warnings. */
  readonly err: (text: string) => void;
  /** Whether standard output is a terminal that can be redrawn. */
  readonly isTerminal: boolean;
  readonly loadRouter: () => Promise<RouterModule>;
}

export interface RunningRouter {
  /** Resolves when the router cannot go on; close it then. */
  readonly failed: Promise<Error>;
  /** Resolves when another process has taken over from it; close it then. */
  readonly handedOver: Promise<void>;
  /** Take up newer versions of the keys from the configuration, read again. */
  reloadKeys(config: Config): Promise<void>;
  close(): Promise<void>;
}

/** The parts of live-router.ts and offline-router.ts that commands use. */
export interface RouterModule {
  startRouter(config: Config, options: { guard: boolean; log: Log; takeOver: boolean }): Promise<RunningRouter>;
  dropPrivileges(log: Log): void;
  replayCaptures(
    config: Config,
    options: { rx: { interface: string; file: string }[]; txDir: string; seed: number },
  ): Promise<Record<string, number>>;
  explainPacket(
    config: Config,
    options: { interface: string; packet: PacketDescription },
  ): Explanation | Promise<Explanation>;
}

/** A command cannot do what it was asked; the message is for the operator. Exit code 1. */
export class CommandError extends OperatorError {
  override name = "CommandError";
}

/** Read and check FILE. Warnings go to standard error; with any error in it the command fails, every problem printed. */
export async function loadConfig(context: Context, file: string): Promise<Config> {
  const { parseConfig, formatProblem } = await import("../control/config.ts");
  const { config, problems } = parseConfig(readText(file), file);
  for (const problem of problems) context.err(`${formatProblem(problem)}\n`);
  if (config === null) throw new CommandError(`${file} cannot be used: ${countProblems(problems)}`);
  return config;
}

/** `2 errors, 1 warning`. */
export function countProblems(problems: readonly Problem[]): string {
  const errors = problems.filter((problem) => problem.severity === "error").length;
  const warnings = problems.length - errors;
  return `${errors} ${errors === 1 ? "error" : "errors"}, ${warnings} ${warnings === 1 ? "warning" : "warnings"}`;
}

/** The text of FILE; a CommandError that says why where it cannot be read. */
export function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new CommandError(`cannot read ${file}: ${explainFileError(error)}`);
  }
}

export function explainFileError(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  const known: Record<string, string> = {
    ENOENT: "there is no such file or directory",
    EACCES: "no permission",
    EROFS: "the file system is read-only",
    EISDIR: "it is a directory",
    ENOTDIR: "part of the path is not a directory",
    EEXIST: "it is there and is not a directory",
  };
  return known[code ?? ""] ?? message;
}

/** `--rx` and `explain --rx` name an interface of the configuration. */
export function requireInterface(config: Config, name: string): void {
  if (config.interfaces.some((item) => item.name === name)) return;
  const known = config.interfaces.map((item) => item.name).join(", ");
  throw new CommandError(`the configuration has no interface ${name}: it has ${known}`);
}
