// What the forwarding loops ask of V8. Its compiler puts small functions into the loops that call them until 920 bytes
// of bytecode are spent (max-inlined-bytecode-size-cumulative); the loops over a batch (engine/fast-path.ts) need more,
// or rewrite becomes a call with six arguments for each packet. Worth 10 ns a packet. These are limits of heuristics:
// a V8 that knows them no more says so on standard error and goes on.

import { readdirSync } from "node:fs";
import { setPriority } from "node:os";
import { setFlagsFromString } from "node:v8";

/** Call before anything is hot, once a thread. */
export function tuneCompiler(): void {
  setFlagsFromString("--max-inlined-bytecode-size=1200");
  setFlagsFromString("--max-inlined-bytecode-size-cumulative=4000");
}

/**
 * Niceness of V8's own threads: a third of an ordinary thread's share of a processor. No less, for each of them holds
 * locks that every thread of the process needs to have code compiled: at 19 one that had lost its processor to other
 * programs kept them all from it for half a second, the path monitor too, which no priority of its own can help.
 */
const BEHIND = 5;

/**
 * Have V8's own threads, which compile and collect, stand behind the others. Where they share a processor with a thread
 * that forwards, each of them would keep it from there for milliseconds. Call from the main thread before it makes
 * others: every thread that exists then but this one is V8's or Node's.
 */
export function putCompilerBehind(): void {
  // Or a thread that collects its few young objects waits for one of those to get its turn.
  setFlagsFromString("--no-parallel-scavenge");
  for (const thread of readdirSync("/proc/self/task")) {
    if (Number(thread) === process.pid) continue;
    try {
      setPriority(Number(thread), BEHIND);
    } catch {
      // It stands farther behind already, and only who may do so brings it forward.
    }
  }
}
