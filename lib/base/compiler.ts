// What the forwarding loops ask of V8. Its compiler puts small functions into the loops that call them until 920 bytes
// of bytecode are spent (max-inlined-bytecode-size-cumulative); the loops over a batch (engine/fast-path.ts) need more,
// or rewrite becomes a call with six arguments for each packet. Worth 10 ns a packet. These are limits of heuristics:
// a V8 that knows them no more says so on standard error and goes on.

import { setFlagsFromString } from "node:v8";

/** Call before anything is hot, once a thread. */
export function tuneCompiler(): void {
  setFlagsFromString("--max-inlined-bytecode-size=1200");
  setFlagsFromString("--max-inlined-bytecode-size-cumulative=3000");
}
