// What the READMEs point at is there, and every folder of lib/ has one.

import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import test from "ava";
import { filesUnder, libFiles, ROOT, textOf } from "./source.ts";

const all = filesUnder(".");
const readmes = all.filter((path) => path.endsWith(".md"));
const fileNames = new Set(all.map((path) => basename(path)));

/** Relative links, without their fragment. */
function linksIn(text: string): string[] {
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, target]) => target.replace(/#.*$/, ""))
    .filter((target) => target !== "" && !/^[a-z]+:/.test(target));
}

/** Paths in backticks that begin at the root; one with a star, an ellipsis or a placeholder stands for many. */
function pathsIn(text: string): string[] {
  return [...text.matchAll(/`((?:lib|test|native|bench)\/[^`\s]*)`/g)]
    .map(([, path]) => path)
    .filter((path) => !/[*<>{}…]|\.\.\.|CASE|NAME/.test(path));
}

/** File names in backticks, of the kinds we write: they are somewhere in the house. */
function namesIn(text: string): string[] {
  return [...text.matchAll(/`([\w-]+(?:\.\w+)*\.(?:ts|cc|h|py|sh))`/g)].map(([, name]) => name);
}

for (const path of readmes) {
  test(`${path} points only at what is there`, (t) => {
    const text = textOf(path);
    const missing = [
      ...linksIn(text).filter((target) => !existsSync(join(ROOT, dirname(path), target))),
      ...pathsIn(text).filter((target) => !existsSync(join(ROOT, target))),
      ...namesIn(text).filter((name) => !fileNames.has(name)),
    ];
    t.deepEqual(missing, []);
  });
}

test("every folder of lib has a README, and so have lib, test and native", (t) => {
  const folders = new Set(["lib", "lib/crypto", "test", "native", ...libFiles.map((path) => dirname(path))]);
  t.deepEqual(
    [...folders].filter((folder) => !existsSync(join(ROOT, folder, "README.md"))),
    [],
  );
});

test("every golden case has a README that says what must happen", (t) => {
  const cases = new Set(
    all.filter((path) => /^test\/golden\/[^/]+\/config\.yaml$/.test(path)).map((path) => dirname(path)),
  );
  t.true(cases.size > 15);
  for (const path of cases) t.regex(textOf(`${path}/README.md`), new RegExp(`^# ${basename(path)}\n\n[A-Z][^]*\\.\n$`));
});
