// What the house tests look at: the files of the repository, and the imports of one.

import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

/** The repository's root, wherever dist/ lies in it. */
export const ROOT = fileURLToPath(new URL("../../../", import.meta.url));

const NOT_OURS = new Set(["node_modules", "dist", "build", ".git", ".tools", "out"]);

/** Paths below `folder`, relative to the root, with forward slashes, sorted. */
export function filesUnder(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true })
    .filter((entry) => !NOT_OURS.has(entry.name))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      return entry.isDirectory() ? filesUnder(path) : [path];
    })
    .sort();
}

export function textOf(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

export const libFiles = filesUnder("lib").filter((path) => path.endsWith(".ts"));

/** What a file imports: paths relative to the root for its own house, names for packages. */
export function importsOf(path: string, withTypes = true): string[] {
  const text = withTypes ? textOf(path) : textOf(path).replace(/^(import|export) type [^;]*;/gm, "");
  const specifiers = text.matchAll(/(?:\bfrom\s+|\bimport\s*\(\s*|^import\s+)"([^"]+)"/gm);
  return [...specifiers].map(([, specifier]) =>
    specifier.startsWith(".") ? relative(ROOT, join(ROOT, dirname(path), specifier)) : specifier,
  );
}

/** The folder of lib/ a file is in; the file's own name when it is in none. */
export function roomOf(path: string): string {
  return path.split("/")[1];
}
