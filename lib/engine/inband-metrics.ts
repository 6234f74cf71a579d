// Path metrics in the sessions' own packets (attribute 26, protocol sheet 6.4): which packets are marked, and the packet that
// tells a peer of its marks for want of one that goes there. The machine is peer/inline-metrics.ts.
//
// Marks must not cost the fast path anything: while a path wants marks the flow table's generation is bumped now and then, so
// that the next packet of each flow takes the slow path once, and is marked there.

import type { Sessions } from "../session/open.ts";
import type { Signals } from "./signals.ts";

/** At most so often a generation, and so many in an interval. */
const BUMP_MS_MIN = 100;
const BUMPS_PER_INTERVAL = 20;

export class InbandMetrics {
  readonly #sessions: Sessions;
  readonly #signals: Signals;
  readonly #bumpMs: number;
  #bumpedMs = Number.NEGATIVE_INFINITY;

  constructor(sessions: Sessions, signals: Signals, intervalMs: number) {
    this.#sessions = sessions;
    this.#signals = signals;
    this.#bumpMs = Math.max(BUMP_MS_MIN, intervalMs / BUMPS_PER_INTERVAL);
  }

  /** Call some ten times a second. */
  tick(nowMs: number): void {
    let wants = false;
    for (const path of this.#sessions.paths) {
      if (path.metrics === null) continue;
      if (path.sessions > 0 && path.metrics.wantsMarks(nowMs)) wants = true;
      if (path.metrics.reportDueMs <= nowMs) this.#signals.reportMetrics(path, nowMs);
    }
    if (!wants || nowMs - this.#bumpedMs < this.#bumpMs) return;
    this.#bumpedMs = nowMs;
    this.#sessions.flows.nextGeneration();
  }
}
