// When the engine turns, live: a port's readiness wakes it for one bounded turn, and a timer moves time along. The
// readiness is level-triggered, so a port with more frames wakes it again on the event loop's next round, with timers
// and the control socket served in between: nothing starves, and an idle router sleeps.

import type { Clock } from "../base/clock.ts";
import type { WakingPort } from "../io/port.ts";
import type { Engine } from "./engine.ts";

/** Session timers have 64 ms ticks; a third of that keeps them on time. */
const TICK_MS = 20;

/** Start turning. Returns the function that stops time; ports stop waking when they are closed. */
export function pace(
  engine: Pick<Engine, "portTurn" | "tick">,
  ports: readonly WakingPort[],
  clock: Clock,
): () => void {
  ports.forEach((port, row) => {
    port.onReadable(() => engine.portTurn(row, clock.nowMs()));
  });
  const timer = setInterval(() => engine.tick(clock.nowMs()), TICK_MS);
  return () => clearInterval(timer);
}
