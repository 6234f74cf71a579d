// The hook that instrument.ts registers: files of lib/ are rewritten as they are loaded. What came of a text is kept in
// build/, for a dozen processes do the same work in a test run.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import type { LoadHook } from "node:module";
import { fileURLToPath } from "node:url";
import { instrument } from "./instrument.ts";

const LIB = new URL("../../lib/", import.meta.url).href;
const KEPT = fileURLToPath(new URL("../../../build/fuzz/traced/", import.meta.url));
/** A change to it makes other text of the same. */
const INSTRUMENT = readFileSync(fileURLToPath(new URL("instrument.js", import.meta.url)));

export const load: LoadHook = async (url, context, next) => {
  const loaded = await next(url, context);
  if (loaded.format !== "module" || !url.startsWith(LIB) || loaded.source === undefined) return loaded;
  return { ...loaded, source: traced(String(loaded.source)) };
};

function traced(code: string): string {
  const path = KEPT + createHash("sha256").update(INSTRUMENT).update(code).digest("hex");
  if (existsSync(path)) return readFileSync(path, "utf8");
  const text = instrument(code);
  mkdirSync(KEPT, { recursive: true });
  // Whole or not there, whoever else looks.
  writeFileSync(`${path}.${process.pid}`, text);
  renameSync(`${path}.${process.pid}`, path);
  return text;
}
