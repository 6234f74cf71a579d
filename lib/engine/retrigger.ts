// Telling a peer again of every session that goes over a path (protocol sheet 4.6): it has lost them, or a NAT between us
// has given us another address. A sweep over the session table, some rows a tick: each session's metadata goes alone in
// a packet, and then on every packet until the peer has answered.

import type { StateReader, StateWriter } from "../base/state.ts";
import type { Sessions } from "../session/open.ts";
import { SIDE_SENDING } from "../table/session-table.ts";
import type { Signals } from "./signals.ts";

/** Rows looked at in a tick, and packets made at most. */
const ROWS_PER_TICK = 4096;
const PACKETS_PER_TICK = 128;

export class Retrigger {
  readonly #sessions: Sessions;
  readonly #signals: Signals;
  /** By path: 1 = its sessions are to be told again. */
  readonly #paths: Uint8Array;
  /** The next row; the table's capacity when there is nothing to do. */
  #row: number;
  /** Sessions told again, since start. */
  toldTotal = 0;

  constructor(sessions: Sessions, signals: Signals) {
    this.#sessions = sessions;
    this.#signals = signals;
    this.#paths = new Uint8Array(sessions.paths.length);
    this.#row = sessions.table.capacity;
  }

  /** Begin with the sessions over this path. */
  begin(path: number): void {
    this.#paths[path] = 1;
    this.#row = 0;
  }

  /** Go on. Returns whether there is more to do. */
  tick(nowMs: number): boolean {
    const { table } = this.#sessions;
    const { capacity } = table;
    if (this.#row >= capacity) return false;
    let packets = 0;
    const end = Math.min(capacity, this.#row + ROWS_PER_TICK);
    for (; this.#row < end && packets < PACKETS_PER_TICK; this.#row++) {
      if (table.isLive(this.#row)) packets += this.#tell(this.#row, nowMs);
    }
    if (this.#row < capacity) return true;
    this.#paths.fill(0);
    return false;
  }

  /** The paths whose sessions are being told. */
  save(out: StateWriter): void {
    const isAtWork = this.#row < this.#sessions.table.capacity;
    const paths = [...this.#paths.keys()].filter((path) => isAtWork && this.#paths[path] !== 0);
    out.f64(this.toldTotal);
    out.i32(paths.length);
    for (const path of paths) out.i32(path);
  }

  /** Some sessions may be told once more. */
  restore(from: StateReader): void {
    this.toldTotal = from.f64();
    for (let left = from.count(this.#paths.length, "paths"); left > 0; left--)
      this.begin(from.row(this.#paths.length, "path"));
  }

  #tell(session: number, nowMs: number): number {
    const { table } = this.#sessions;
    let packets = 0;
    for (let way = 0; way < 2; way++) {
      const side = table.sides[way];
      if (side.path[session] < 0 || this.#paths[side.path[session]] === 0) continue;
      side.state[session] = SIDE_SENDING;
      this.#signals.tellAgain(session, 1 - way, nowMs);
      packets++;
    }
    if (packets === 0) return 0;
    this.#sessions.settle(session);
    this.toldTotal++;
    return packets;
  }
}
