// usage: node dist/test/fuzz/run.js TARGET [--seed N] [--runs N | --seconds N] [--keep FOLDER] [--input FILE]
//
// Fuzzes one target in a process of its own and says what became of it, as JSON; exits with 1 when the target's promise
// was broken, and leaves the input in test/out/fuzz/. --keep writes a small input of each outcome to a folder; --input
// runs one file and says its outcome.
//
// The parent watches: a child that dies (a sanitizer's report), or that one input keeps busy for HANG_MS, is ended, and
// the input it had begun is read from the file it keeps it in.

import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { corpusOf, fileNameOf } from "./corpus.ts";
import { Broken, Fuzzer } from "./fuzzer.ts";
import { counters, traceImports } from "./instrument.ts";
import { TARGETS } from "./targets/index.ts";

const BUILD = fileURLToPath(new URL("../../../build/fuzz/", import.meta.url));
const FOUND = fileURLToPath(new URL("../../../test/out/fuzz/", import.meta.url));
/** No input takes a hundredth of it, even where everything else is slow. */
const HANG_MS = 30_000;
/** The child has said what is wrong. Sanitizers end a process with 1, a signal kills it. */
const EXIT_BROKEN = 3;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: "string", default: "1" },
    runs: { type: "string", default: "0" },
    seconds: { type: "string", default: "0" },
    keep: { type: "string", default: "" },
    input: { type: "string", default: "" },
    child: { type: "boolean", default: false },
  },
});
const name = positionals[0] ?? "";
const { keep, input } = values;
const [seed, seconds] = [values.seed, values.seconds].map(Number);
/** The input that the child has begun, behind its number and its length. */
const currentFile = join(FOUND, `${name}.${values.child ? process.ppid : process.pid}.current`);

async function fuzz(): Promise<number> {
  traceImports();
  const { SeededRandom } = await import("../../lib/base/random.ts");
  const { isNative = false, isNamedForOutcome = false, load } = TARGETS[name];
  const target = await load();
  if (input !== "") {
    console.log(await target.run(Uint8Array.from(readFileSync(input))));
    return 0;
  }
  const maps = [counters()];
  if (isNative) {
    const { native } = await import("../../lib/io/native.ts");
    maps.push(new Uint8Array((native() as unknown as { coverage(): ArrayBuffer }).coverage()));
  }

  const file = openSync(currentFile, "r+");
  let number = 0;
  const fuzzer = new Fuzzer(target, {
    random: new SeededRandom(seed),
    maps,
    about(bytes) {
      const head = Buffer.alloc(8);
      head.writeUInt32LE(++number, 0);
      head.writeUInt32LE(bytes.length, 4);
      writeSync(file, Buffer.concat([head, bytes]), 0, 8 + bytes.length, 0);
    },
  });
  const runs = Number(values.runs) || target.runs;
  const until = performance.now() + seconds * 1000;
  const enough = seconds > 0 ? () => performance.now() > until : (done: number) => done >= runs;
  const corpus = corpusOf(name);
  try {
    for (const kept of corpus) {
      const outcome = fileNameOf(await fuzzer.try(kept.input));
      if (isNamedForOutcome && !kept.name.startsWith("found/") && outcome !== kept.name) {
        console.error(`${name}: the corpus has ${kept.name}, and its outcome is ${outcome}`);
        return EXIT_BROKEN;
      }
    }
    for (const bytes of target.seeds) await fuzzer.try(bytes);
    await fuzzer.run(enough);
    if (keep !== "") {
      mkdirSync(keep, { recursive: true });
      for (const [outcome, bytes] of await fuzzer.smallest())
        writeFileSync(join(keep, `${fileNameOf(outcome)}.bin`), bytes);
    }
  } catch (error) {
    if (!(error instanceof Broken)) throw error;
    console.error(`${name}, seed ${seed}: ${save(error.input)}\n${(error.cause as Error).stack}`);
    return EXIT_BROKEN;
  }
  console.log(JSON.stringify({ target: name, seed, corpus: corpus.length, ...fuzzer.reached() }));
  return 0;
}

/** Returns where, and the bytes. */
function save(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes.subarray(0, 200)).toString("hex");
  for (let n = 1; ; n++) {
    const path = join(FOUND, `${name}-${n}.bin`);
    try {
      writeFileSync(path, bytes, { flag: "wx" });
      return `${path}: ${hex}${bytes.length > 200 ? "…" : ""}`;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
  }
}

function readCurrent(): { number: number; bytes: Uint8Array } {
  const file = readFileSync(currentFile);
  if (file.length < 8) return { number: 0, bytes: new Uint8Array(0) };
  return { number: file.readUInt32LE(0), bytes: file.subarray(8, 8 + file.readUInt32LE(4)) };
}

/** Run this file again as a child, with the same words. Returns the exit code. */
async function supervise(): Promise<number> {
  mkdirSync(FOUND, { recursive: true });
  writeFileSync(currentFile, "");
  const sanitized = {
    WAYMARK_ADDON: join(BUILD, "waymark.node"),
    ASAN_OPTIONS: "detect_leaks=0:allocator_may_return_null=1",
    UBSAN_OPTIONS: "print_stacktrace=1",
  };
  const libasan = () => execFileSync("g++", ["-print-file-name=libasan.so"], { encoding: "utf8" }).trim();
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), ...process.argv.slice(2), "--child"], {
    stdio: "inherit",
    env: TARGETS[name].isNative ? { ...process.env, ...sanitized, LD_PRELOAD: libasan() } : process.env,
  });
  let before = 0;
  let isStopped = false;
  const watch = setInterval(() => {
    const { number, bytes } = readCurrent();
    if (number > 0 && number === before) {
      isStopped = true;
      console.error(`${name}, seed ${seed}: an input keeps it busy for ${HANG_MS / 1000} s: ${save(bytes)}`);
      child.kill("SIGKILL");
    }
    before = number;
  }, HANG_MS);
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      isStopped = true;
      child.kill(signal);
    });
  }
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) =>
    child.once("close", (...end) => resolve(end)),
  );
  clearInterval(watch);
  const { number, bytes } = readCurrent();
  rmSync(currentFile);
  if (code === 0) return 0;
  if (!isStopped && code !== EXIT_BROKEN && number > 0)
    console.error(`${name}, seed ${seed}: the process ended with ${signal ?? code} at ${save(bytes)}`);
  return 1;
}

if (!Object.hasOwn(TARGETS, name)) {
  console.error(
    `usage: node dist/test/fuzz/run.js ${Object.keys(TARGETS).join("|")} [--seed N] [--runs N | --seconds N]`,
  );
  process.exit(2);
}
process.exit(values.child ? await fuzz() : await supervise());
