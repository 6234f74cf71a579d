// What the path monitor's thread has dropped, as it says itself, for `show counters`, `show drops` and `explain`.

import type { StateReader, StateWriter } from "../base/state.ts";
import type { LossReport } from "../monitor/losses.ts";
import type { DropSamples } from "../table/drop-samples.ts";
import { DROP_REASONS } from "../wire/verdict.ts";

/** Totals since start, of this process and those that it took over from; nothing where the monitor has no thread. */
export class MonitorLosses {
  /** By number of the reason. */
  readonly drops = new Float64Array(DROP_REASONS.length);
  /** Frames that its capture rings had no room for. */
  unheard = 0;
  readonly #samples: DropSamples;

  /** `samples`: those of the router, where the last frame of a reason is, whoever dropped it. */
  constructor(samples: DropSamples) {
    this.#samples = samples;
  }

  /** Add what the thread has lost since it last said so. */
  take(report: LossReport, nowMs: number): void {
    for (const { reason, count, last } of report.drops) {
      this.drops[reason] += count;
      if (last !== null) this.#samples.put(reason, last, nowMs);
    }
    this.unheard += report.unheard;
  }

  save(out: StateWriter): void {
    out.f64(this.unheard);
    const met = DROP_REASONS.flatMap(({ name }, reason) => (this.drops[reason] === 0 ? [] : [{ name, reason }]));
    out.i32(met.length);
    for (const { name, reason } of met) {
      out.text(name);
      out.f64(this.drops[reason]);
    }
  }

  /** Reasons of another version are skipped. */
  restore(from: StateReader): void {
    this.unheard = from.f64();
    for (let left = from.count(4096, "drop reasons"); left > 0; left--) {
      const name = from.text();
      const count = from.f64();
      const reason = DROP_REASONS.findIndex((known) => known.name === name);
      if (reason >= 0) this.drops[reason] = count;
    }
  }
}
