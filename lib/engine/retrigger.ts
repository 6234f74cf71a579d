// Telling a peer again of every session that goes over a path (protocol sheet 4.6): it has lost them, or a NAT between us
// has given us another address. A sweep over the session table, some rows a tick: each session's metadata goes alone in
// a packet, and then on every packet until the peer has answered. A packet may be lost, or come to a peer that has just
// started and takes no more at once, and hosts that wait for a lost answer say nothing for seconds: so sessions that the
// peer has not answered for are told again, in a few more sweeps.

import type { StateReader, StateWriter } from "../base/state.ts";
import type { Sessions } from "../session/open.ts";
import { SIDE_SENDING } from "../table/session-table.ts";
import type { Signals } from "./signals.ts";

/** Rows looked at in a tick, and packets made at most. */
const ROWS_PER_TICK = 4096;
const PACKETS_PER_TICK = 128;
/** Sweeps in all, the second so long after the first, and each later one after twice as long: the last after 15.75 s. */
const SWEEPS = 7;
const AGAIN_MS = 250;

// What is to be done about a path.
const NOTHING = 0;
/** All of its sessions are to be told. */
const TELL_ALL = 1;
/** Those are to be told again that were told and are not answered for. */
const TELL_AGAIN = 2;

export class Retrigger {
  readonly #sessions: Sessions;
  readonly #signals: Signals;
  /** By path. */
  readonly #paths: Uint8Array;
  /** A bit a session: it has been told since `begin`. */
  readonly #told: Uint8Array;
  /** The next row; the table's capacity when there is nothing to do. */
  #row: number;
  /** Sweeps that have ended, and when the next one begins. */
  #sweeps = 0;
  #nextMs = 0;
  /** Packets made in this sweep. */
  #packets = 0;
  /** Packets that told of a session, since start. */
  toldTotal = 0;

  constructor(sessions: Sessions, signals: Signals) {
    this.#sessions = sessions;
    this.#signals = signals;
    this.#paths = new Uint8Array(sessions.paths.length);
    this.#told = new Uint8Array((sessions.table.capacity + 7) >> 3);
    this.#row = sessions.table.capacity;
  }

  /** Begin with the sessions over this path. */
  begin(path: number): void {
    this.#paths[path] = TELL_ALL;
    this.#row = 0;
    this.#sweeps = 0;
    this.#nextMs = 0;
    this.#packets = 0;
  }

  /** Go on. Returns whether there is more to do at once. */
  tick(nowMs: number): boolean {
    const { table } = this.#sessions;
    const { capacity } = table;
    if (this.#row >= capacity || nowMs < this.#nextMs) return false;
    let packets = 0;
    const end = Math.min(capacity, this.#row + ROWS_PER_TICK);
    for (; this.#row < end && packets < PACKETS_PER_TICK; this.#row++) {
      if (table.isLive(this.#row)) packets += this.#tell(this.#row, nowMs);
    }
    this.#packets += packets;
    if (this.#row < capacity) return true;
    this.#sweeps++;
    if (this.#packets === 0 || this.#sweeps === SWEEPS) {
      this.#paths.fill(NOTHING);
      this.#told.fill(0);
      return false;
    }
    for (let path = 0; path < this.#paths.length; path++) {
      if (this.#paths[path] === TELL_ALL) this.#paths[path] = TELL_AGAIN;
    }
    this.#nextMs = nowMs + AGAIN_MS * 2 ** (this.#sweeps - 1);
    this.#row = 0;
    this.#packets = 0;
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
      const toDo = side.path[session] < 0 ? NOTHING : this.#paths[side.path[session]];
      if (toDo === NOTHING || (toDo === TELL_AGAIN && !this.#isOwed(session, side.state[session]))) continue;
      side.state[session] = SIDE_SENDING;
      // With the first word alone: what comes after it is of the new count.
      if (toDo === TELL_ALL) this.#sessions.forgetNumbers(session, way);
      this.#signals.tellAgain(session, way, nowMs);
      packets++;
    }
    packets += this.#tellSecond(session, nowMs);
    if (packets === 0) return 0;
    this.#told[session >> 3] |= 1 << (session & 7);
    this.#sessions.settle(session);
    this.toldTotal += packets;
    return packets;
  }

  #tellSecond(session: number, nowMs: number): number {
    const { table, duplicates } = this.#sessions;
    let packets = 0;
    for (let way = 0; way < 2; way++) {
      const path = this.#sessions.secondPath(session, way);
      if (path < 0 || this.#paths[path] === NOTHING) continue;
      const row = table.duplicate[session * 2 + way];
      if (this.#paths[path] === TELL_AGAIN && !this.#isOwed(session, duplicates.second.state[row])) continue;
      duplicates.second.state[row] = SIDE_SENDING;
      if (this.#paths[path] === TELL_ALL) this.#sessions.forgetNumbers(session, way);
      this.#signals.tellSecondAgain(session, way, nowMs);
      packets++;
    }
    return packets;
  }

  /** Sessions that were opened since then have a handshake of their own. */
  #isOwed(session: number, state: number): boolean {
    return state === SIDE_SENDING && (this.#told[session >> 3] & (1 << (session & 7))) !== 0;
  }
}
