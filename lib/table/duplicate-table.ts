// Packet duplication: what a side of a session needs whose packets travel over two peer paths at once. A row is one side of
// one session; who has it: SessionTable.duplicate. The way by the first path stays the side's own, the second one's is
// here. Each packet has a number that both copies carry, so that the one that comes later is known (US 10,833,980,
// protocol sheet 7.1).
//
//   newest - 2047 ...................... newest      what is below by less than LATE_MAX came too late, or again;
//   `- a bit each: it has come ---------------'      whatever else is below is the begin of another count
//
// Full: allocate returns -1, and the session goes on without copies, or the peer's are refused (drop.duplicates-full).

import type { StateReader, StateWriter } from "../base/state.ts";
import { HandshakeColumns } from "./session-table.ts";
import { Slab } from "./slab.ts";

/** Numbers below the newest that are told apart: a second's difference between two paths at 2000 packets a second. */
const WINDOW = 2048;
const WINDOW_WORDS = WINDOW / 32;
/** A router that begins anew begins to count anywhere: so far below the newest nothing is merely late. */
const LATE_MAX = 65_536;

export class DuplicateTable {
  readonly #slab: Slab;
  /** The handshake over the second path, and the pair there; its path is -1 while there is none. */
  readonly second: HandshakeColumns;
  /** The flow that the peer's packets come by over the second path, -1 = none. */
  readonly flow: Int32Array;
  readonly #sent: Int32Array;
  readonly #hasHeard: Uint8Array;
  readonly #newest: Int32Array;
  readonly #seen: Int32Array;

  constructor(capacity: number) {
    this.#slab = new Slab(capacity);
    this.second = new HandshakeColumns(capacity);
    this.flow = new Int32Array(capacity);
    this.#sent = new Int32Array(capacity);
    this.#hasHeard = new Uint8Array(capacity);
    this.#newest = new Int32Array(capacity);
    this.#seen = new Int32Array(capacity * WINDOW_WORDS);
  }

  get count(): number {
    return this.#slab.live;
  }

  /** A row without a second path, whose count of packets sent begins behind `begin`; -1 when full. */
  allocate(begin: number): number {
    const row = this.#slab.allocate();
    if (row < 0) return -1;
    this.second.start(row, -1, -1);
    this.second.lingering[row] = -1;
    this.flow[row] = -1;
    this.#sent[row] = begin;
    this.#hasHeard[row] = 0;
    return row;
  }

  free(row: number): void {
    this.#slab.free(row);
  }

  /** Whoever numbers what comes begins anew, anywhere. */
  forget(row: number): void {
    this.#hasHeard[row] = 0;
  }

  /** The number of the next packet, 32 bits without a sign. */
  next(row: number): number {
    this.#sent[row]++;
    return this.#sent[row] >>> 0;
  }

  /** Whether the packet with this number has not come before. It has now. */
  isNew(row: number, number: number): boolean {
    const ahead = this.#hasHeard[row] === 0 ? WINDOW : (number - this.#newest[row]) | 0;
    if (ahead <= 0 && ahead > -LATE_MAX) {
      if (ahead <= -WINDOW || this.#has(row, number)) return false;
      this.#mark(row, number);
      return true;
    }
    if (ahead <= 0 || ahead >= WINDOW) this.#seen.fill(0, row * WINDOW_WORDS, (row + 1) * WINDOW_WORDS);
    else for (let skipped = 1; skipped <= ahead; skipped++) this.#clear(row, this.#newest[row] + skipped);
    this.#hasHeard[row] = 1;
    this.#newest[row] = number;
    this.#mark(row, number);
    return true;
  }

  /** The counts of a row; its second path is the session's to save. */
  save(row: number, out: StateWriter): void {
    out.i32(this.#sent[row]);
    out.flag(this.#hasHeard[row] !== 0);
    out.i32(this.#newest[row]);
    out.words(this.#seen, row * WINDOW_WORDS, (row + 1) * WINDOW_WORDS);
  }

  restore(row: number, from: StateReader): void {
    this.#sent[row] = from.i32();
    this.#hasHeard[row] = from.flag() ? 1 : 0;
    this.#newest[row] = from.i32();
    from.words(this.#seen, row * WINDOW_WORDS, (row + 1) * WINDOW_WORDS);
  }

  #has(row: number, number: number): boolean {
    return (this.#seen[row * WINDOW_WORDS + ((number & (WINDOW - 1)) >> 5)] & (1 << (number & 31))) !== 0;
  }

  #mark(row: number, number: number): void {
    this.#seen[row * WINDOW_WORDS + ((number & (WINDOW - 1)) >> 5)] |= 1 << (number & 31);
  }

  #clear(row: number, number: number): void {
    this.#seen[row * WINDOW_WORDS + ((number & (WINDOW - 1)) >> 5)] &= ~(1 << (number & 31));
  }
}
