// What the monitor's thread has dropped, for the thread that answers operators: how often for each reason, and the last frame
// of each. The engine's threads count the same frames as consumed: they have a port of their own on the device.

import { countVerdict } from "../engine/counters.ts";
import type { FrameBatch, Port } from "../io/port.ts";
import type { CounterSet } from "../table/counter-set.ts";
import { DropNote } from "../table/drop-note.ts";
import { DropSamples, type MovedSample } from "../table/drop-samples.ts";
import { DROP, DROP_REASONS, DROP_TX_ERROR, DROP_TX_FULL } from "../wire/verdict.ts";

/** Plain data, because it crosses threads. Counts are of what came since the last time. */
export interface LossReport {
  readonly drops: readonly {
    /** Number of the reason. */
    readonly reason: number;
    readonly count: number;
    /** Null = the frame was not at hand. */
    readonly last: MovedSample | null;
  }[];
  /** Frames that the capture rings had no room for. */
  readonly unheard: number;
}

export class Losses {
  readonly #counters: CounterSet;
  readonly #rows: readonly number[];
  readonly #samples = new DropSamples(DROP_REASONS.length);
  readonly #note = new DropNote();
  readonly #told = new Float64Array(DROP_REASONS.length);
  #unheardTold = 0;

  /** `counters`: the thread's, in which others count drops too. rows[i] is the router's interface that is interface i here. */
  constructor(counters: CounterSet, rows: readonly number[]) {
    this.#counters = counters;
    this.#rows = rows;
  }

  /** Count the verdict about frame i of the batch, come in by `interfaceId`. */
  count(verdict: number, batch: FrameBatch, i: number, interfaceId: number, nowMs: number): void {
    countVerdict(this.#counters, verdict);
    if (verdict < DROP) return;
    const { bytes, offset, length } = batch;
    this.#samples.take(verdict - DROP, bytes, offset[i], length[i], this.#rows[interfaceId], nowMs, this.#note);
  }

  /** What was lost since the last call, on `ports` too; null = nothing. */
  report(ports: readonly Port[], nowMs: number): LossReport | null {
    const stats = ports.map((port) => port.stats());
    const total = (of: (one: (typeof stats)[number]) => number) => stats.reduce((sum, one) => sum + of(one), 0);
    const onPorts = new Map([
      [DROP_TX_FULL - DROP, total(({ txFull }) => txFull)],
      [DROP_TX_ERROR - DROP, total(({ txErrors }) => txErrors)],
    ]);
    const drops = DROP_REASONS.flatMap((_, reason) => {
      const now = this.#counters.get(reason) + (onPorts.get(reason) ?? 0);
      const count = now - this.#told[reason];
      this.#told[reason] = now;
      return count === 0 ? [] : [{ reason, count, last: this.#samples.move(reason, nowMs) }];
    });
    const lost = total(({ rxKernelDrops }) => rxKernelDrops);
    const unheard = lost - this.#unheardTold;
    this.#unheardTold = lost;
    return drops.length === 0 && unheard === 0 ? null : { drops, unheard };
  }
}
