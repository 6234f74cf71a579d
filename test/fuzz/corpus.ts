// The corpus of the guided targets: test/fuzz/corpus/TARGET/ has a small input for each outcome, named for it, and in
// its folder found/ those that once broke the promise, named for what they are.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const CORPUS = fileURLToPath(new URL("../../../test/fuzz/corpus/", import.meta.url));

export interface Kept {
  /** Without the ending; "found/..." for one that once did harm. */
  readonly name: string;
  readonly input: Uint8Array;
}

/** In order of their names. */
export function corpusOf(target: string): Kept[] {
  return ["", "found"].flatMap((folder) => {
    const path = join(CORPUS, target, folder);
    if (!existsSync(path)) return [];
    return readdirSync(path)
      .filter((file) => file.includes("."))
      .sort()
      .map((file) => ({
        name: join(folder, file.slice(0, file.lastIndexOf("."))),
        input: Uint8Array.from(readFileSync(join(path, file))),
      }));
  });
}

/** An outcome as a file's name. */
export function fileNameOf(outcome: string): string {
  return outcome
    .replaceAll(/[^\w]+/g, "-")
    .replaceAll(/^-|-$/g, "")
    .slice(0, 80);
}
