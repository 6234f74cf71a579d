#!/usr/bin/env node
import { setTimeout as sleep } from "node:timers/promises";
import { runProgram } from "./program.ts";

/** Whoever starts a process again waits for its end, and may be the one who does not read. */
const MESSAGES_MS_MAX = 1000;

process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  // A reader that closes early (`waymark show sessions | head`) is no failure.
  if (error.code === "EPIPE") process.exit(0);
  process.stderr.write(`waymark: standard output: ${error.message}\n`);
  process.exit(1);
});
// Where messages cannot go there is nobody to tell, and nothing that should end for it.
process.stderr.on("error", () => {});

const exitCode = await runProgram(process.argv.slice(2), {
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
  isTerminal: process.stdout.isTTY === true,
  loadRouter: async () => ({ ...(await import("../live-router.ts")), ...(await import("../offline-router.ts")) }),
});
// What a slow reader of a pipe has not taken yet must not be cut off: of data never, of messages for a while.
await taken(process.stdout);
await Promise.race([taken(process.stderr), sleep(MESSAGES_MS_MAX)]);
process.exit(exitCode);

/** Resolves when the reader has taken all that was written. */
async function taken(stream: NodeJS.WriteStream): Promise<void> {
  if (stream.writableLength > 0) await new Promise((done) => stream.write("", done));
}
