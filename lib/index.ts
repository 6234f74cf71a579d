// The public API: build a router over ports of your own, or run the ones the commands run.

export { type Clock, ManualClock, SystemClock } from "./base/clock.ts";
export { type RandomSource, SeededRandom, SystemRandom } from "./base/random.ts";
export { type Config, formatProblem, type Problem, parseConfig } from "./control/config.ts";
export { counterReference, readCounters } from "./control/metrics.ts";
export { snapshot } from "./control/snapshot.ts";
export { MemoryPort } from "./io/memory-port.ts";
export {
  FrameBatch,
  HEADROOM,
  type Port,
  type PortInfo,
  type PortStats,
  TAILROOM,
  type WakingPort,
} from "./io/port.ts";
export { startRouter } from "./live-router.ts";
export { explainPacket, replayCaptures } from "./offline-router.ts";
export { buildRouter, type Router } from "./router.ts";
