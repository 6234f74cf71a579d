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
  loadRouter: () => import("../router.ts"),
});
// Writes to pipes and terminals are synchronous on Linux: nothing is cut short here.
process.exit(exitCode);
