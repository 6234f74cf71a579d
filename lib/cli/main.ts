#!/usr/bin/env node
import { runProgram } from "./program.ts";

// A reader that closes early (`waymark show sessions | head`) is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(0);
});

const exitCode = await runProgram(process.argv.slice(2), {
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
  isTerminal: process.stdout.isTTY === true,
  loadRouter: async () => ({ ...(await import("../live-router.ts")), ...(await import("../offline-router.ts")) }),
});
// What a slow reader of a pipe has not taken yet must not be cut off.
for (const stream of [process.stdout, process.stderr]) await new Promise((done) => stream.write("", done));
process.exit(exitCode);
