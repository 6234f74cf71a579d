import type { ExecutionContext } from "ava";
import { SeededRandom } from "../../lib/base/random.ts";

/** A generator for one comparison with a slow twin. Prints its seed; set WAYMARK_SEED to run that sequence again. */
export function seededRandom(t: ExecutionContext): SeededRandom {
  const seed = Number(process.env.WAYMARK_SEED ?? Date.now() % 1_000_000_000);
  t.log(`WAYMARK_SEED=${seed}`);
  return new SeededRandom(seed);
}
