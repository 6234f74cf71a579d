// Why a test cannot run here; undefined when it can.

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";

export function noRoot(): string | undefined {
  return process.getuid?.() === 0 ? undefined : "needs root";
}

export function noNamespace(): string | undefined {
  if (noRoot() !== undefined) return noRoot();
  return spawnSync("unshare", ["-n", "ip", "link"]).status === 0 ? undefined : "needs network namespaces and ip";
}

/** The environment for programs that are not ours: without the sanitizer's preload, under which some of them hang. */
export const foreignEnvironment = { ...process.env, LD_PRELOAD: "" };

/** `question`: what the program answers with success. */
export function noProgram(name: string, question = "--version"): string | undefined {
  return spawnSync(name, [question], { env: foreignEnvironment }).status === 0 ? undefined : `needs ${name}`;
}

export function noFolder(path: string): string | undefined {
  return existsSync(path) ? undefined : `needs ${path}`;
}
