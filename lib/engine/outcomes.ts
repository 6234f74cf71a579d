// HOT
// What became of frames that nobody has counted as forwarded: the one place where a drop is counted and a sample of it taken.

import type { Sessions } from "../session/open.ts";
import type { CounterSet } from "../table/counter-set.ts";
import { DropNote } from "../table/drop-note.ts";
import type { DropSamples } from "../table/drop-samples.ts";
import { FLOW_PLAN, FLOW_SESSION, FLOW_SHIFT, planDirection } from "../table/flow-table.ts";
import { DROP } from "../wire/verdict.ts";
import { countVerdict } from "./counters.ts";

export class Outcomes {
  /** Whoever decides about a packet may write here what it knows of it. */
  readonly note = new DropNote();
  readonly #counters: CounterSet;
  readonly #samples: DropSamples;
  readonly #sessions: Sessions;

  constructor(parts: { counters: CounterSet; samples: DropSamples; sessions: Sessions }) {
    this.#counters = parts.counters;
    this.#samples = parts.samples;
    this.#sessions = parts.sessions;
  }

  /**
   * Count the verdict about the frame bytes[offset..offset + length), come in by `interfaceId`, and keep a sample of what is
   * dropped. `flow`: the row that was found for it, -1 = none.
   */
  count(
    verdict: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
    interfaceId: number,
    flow: number,
    nowMs: number,
  ): void {
    countVerdict(this.#counters, verdict);
    const { note } = this;
    if (verdict >= DROP) {
      if (note.isClean && flow >= 0) this.#noteFlow(flow);
      this.#samples.take(verdict - DROP, bytes, offset, length, interfaceId, nowMs, note);
    }
    note.clear();
  }

  #noteFlow(flow: number): void {
    const { flows, table } = this.#sessions;
    const base = flow << FLOW_SHIFT;
    const session = flows.words[base + FLOW_SESSION];
    if (!table.isLive(session)) return;
    const direction = planDirection(flows.words[base + FLOW_PLAN]);
    const { note } = this;
    note.session(table.uuid, table.context, session, direction);
    note.path = table.sides[direction].path[session];
    note.tenant = table.tenant[session];
    note.service = table.service[session];
  }
}
