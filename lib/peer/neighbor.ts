// Neighbors: address on an interface → MAC address (RFC 826, aging in the manner of RFC 4861 section 7.3). A
// machine without I/O: `want` and `learn` change states, `due` says which requests to send, the engine sends them.
//
//   INCOMPLETE ──learn──► REACHABLE ──30 s──► PROBING ──3 unanswered──► INCOMPLETE ──3 unanswered──► FAILED
//                             ▲───────learn──────┘ (still forwards)                    └──want, 1 s later──► INCOMPLETE
//
// ARP has no keys: anybody may say that an address is his. While the MAC address that is known is in use, a claim of
// another does not change it but has it asked, by unicast and at most once a second: it stays as long as it answers.
// When it is silent for 750 ms the address is resolved anew, which is what a neighbor needs that really moved.
//
// Rows are referenced by flows (acquire/release); only a row nobody references is given to another address. Full: want
// returns -1 and the packet is dropped (drop.neighbor-table-full).

import { elapsedMs } from "../base/clock.ts";
import { StateError, type StateReader, type StateWriter } from "../base/state.ts";
import { addressBook } from "../table/address-book.ts";

export const NEIGHBOR_INCOMPLETE = 1;
export const NEIGHBOR_REACHABLE = 2;
export const NEIGHBOR_PROBING = 3;
export const NEIGHBOR_FAILED = 4;

const STATE_NAMES = ["free", "incomplete", "reachable", "probing", "failed"];

/** Of learn: the neighbor in use has another MAC address, and is asked whether it is still there. */
export const NEIGHBOR_DISPUTED = -2;

/** Requests this far apart (RFC 4861 RETRANS_TIMER), and so many before giving up (MAX_MULTICAST_SOLICIT). */
const RETRY_MS = 1000;
const TRIES_MAX = 3;
/** The same in a dispute, and how long after one began the next may. */
const DISPUTE_RETRY_MS = 250;
const DISPUTE_MS = 1000;
/** An answer is trusted this long (RFC 4861 REACHABLE_TIME). */
const REACHABLE_MS = 30_000;
/** Nobody forwarded through the neighbor for this long: it is not refreshed until somebody does. */
const IDLE_MS = 60_000;

/** Words per row of `macs`. */
export const MAC_WORDS = 4;
export const MAC_SHIFT = 2;

export class NeighborTable {
  readonly capacity: number;
  /**
   * Per row the 12 bytes an Ethernet header begins with, as three words (neighbor's MAC, then our MAC), and in word 3
   * when a packet last used it (ms). The fast path reads and writes here.
   */
  readonly macs: Int32Array;
  /** 1 while frames may be sent to the row's MAC. */
  readonly usable: Uint8Array;
  readonly interfaceId: Uint8Array;
  readonly address: Int32Array;
  readonly state: Uint8Array;
  readonly #believesLast: boolean;
  readonly #references: Int32Array;
  readonly #tries: Uint8Array;
  readonly #nextMs: Float64Array;
  readonly #confirmedMs: Float64Array;
  /** When the last dispute about the row began, and whether it goes on. */
  readonly #disputedMs: Float64Array;
  readonly #isDisputed: Uint8Array;
  /** A neighbor began to resolve since the last `due`: a packet waits, so do not let it wait for the next round. */
  urgent = false;
  readonly #rows = new Map<number, number>();
  #used = 0;

  /** `believesLast`: whatever ARP says last is taken at once, for replay, where nobody is there to be asked. */
  constructor(capacity: number, believesLast = false) {
    this.capacity = capacity;
    this.#believesLast = believesLast;
    this.macs = new Int32Array(capacity * MAC_WORDS);
    this.usable = new Uint8Array(capacity);
    this.interfaceId = new Uint8Array(capacity);
    this.address = new Int32Array(capacity);
    this.state = new Uint8Array(capacity);
    this.#references = new Int32Array(capacity);
    this.#tries = new Uint8Array(capacity);
    this.#nextMs = new Float64Array(capacity);
    this.#confirmedMs = new Float64Array(capacity);
    this.#disputedMs = new Float64Array(capacity).fill(Number.NEGATIVE_INFINITY);
    this.#isDisputed = new Uint8Array(capacity);
  }

  get count(): number {
    return this.#rows.size;
  }

  /** The row of an address, or -1. */
  find(interfaceId: number, address: number): number {
    return this.#rows.get(keyOf(interfaceId, address)) ?? -1;
  }

  /**
   * The row of an address that a packet must reach; a new or failed one begins to resolve. Returns -1 when the table is
   * full of referenced rows. Forward only while usable[row] is 1.
   */
  want(interfaceId: number, address: number, nowMs: number): number {
    let row = this.find(interfaceId, address);
    if (row < 0) {
      row = this.#take(nowMs);
      if (row < 0) return -1;
      this.#rows.set(keyOf(interfaceId, address), row);
      this.interfaceId[row] = interfaceId;
      this.address[row] = address;
      addressBook.pin(address);
      this.#enter(row, NEIGHBOR_INCOMPLETE, nowMs);
    }
    this.retry(row, nowMs);
    return row;
  }

  /** `address` is no station's: frames may be sent there from now on, and nobody is ever asked for it. */
  fix(interfaceId: number, address: number): void {
    const row = this.want(interfaceId, address, 0);
    this.#enter(row, NEIGHBOR_REACHABLE, Number.POSITIVE_INFINITY);
    this.acquire(row);
  }

  /** Call when a packet needs row: a failed neighbor is asked again, at most once per second. */
  retry(row: number, nowMs: number): void {
    this.macs[(row << MAC_SHIFT) + 3] = nowMs;
    if (this.state[row] === NEIGHBOR_FAILED && nowMs >= this.#nextMs[row]) this.#enter(row, NEIGHBOR_INCOMPLETE, nowMs);
  }

  acquire(row: number): void {
    this.#references[row]++;
  }

  release(row: number): void {
    this.#references[row]--;
  }

  /**
   * An ARP message says that `address` is at the MAC (first 2 bytes, last 4). Only addresses somebody wants are
   * learned, and none in use is changed. Returns the row when it has just become usable (held frames can go),
   * NEIGHBOR_DISPUTED when the address is in use with another MAC, else -1.
   */
  learn(
    interfaceId: number,
    address: number,
    macHigh: number,
    macLow: number,
    ownHigh: number,
    ownLow: number,
    nowMs: number,
  ): number {
    const row = this.find(interfaceId, address);
    if (row < 0) return -1;
    const at = row << MAC_SHIFT;
    const first = (macHigh << 16) | (macLow >>> 16);
    const second = (macLow << 16) | ownHigh;
    const isOther = this.macs[at] !== first || this.macs[at + 1] !== second;
    if (isOther && this.usable[row] === 1 && !this.#believesLast) {
      this.#dispute(row, nowMs);
      return NEIGHBOR_DISPUTED;
    }
    this.macs[at] = first;
    this.macs[at + 1] = second;
    this.macs[at + 2] = ownLow;
    this.#confirmedMs[row] = nowMs;
    const wasUsable = this.usable[row] === 1;
    this.#enter(row, NEIGHBOR_REACHABLE, nowMs + REACHABLE_MS);
    return wasUsable ? -1 : row;
  }

  /**
   * Move every row whose time has come. `ask(row, unicast)` for each request to send, `failed(row)` when a neighbor was
   * given up. Bounded by the table's capacity; call some ten times a second, and at once while `urgent`.
   */
  due(nowMs: number, ask: (row: number, unicast: boolean) => void, failed: (row: number) => void): void {
    this.urgent = false;
    for (const row of this.#rows.values()) {
      if (nowMs < this.#nextMs[row]) continue;
      const state = this.state[row];
      if (state === NEIGHBOR_REACHABLE) {
        if (this.#idleMs(row, nowMs) > IDLE_MS) continue;
        this.#enter(row, NEIGHBOR_PROBING, nowMs);
      }
      if (this.state[row] === NEIGHBOR_PROBING && this.#tries[row] === TRIES_MAX)
        this.#enter(row, NEIGHBOR_INCOMPLETE, nowMs);
      if (this.state[row] === NEIGHBOR_INCOMPLETE && this.#tries[row] === TRIES_MAX) {
        this.#enter(row, NEIGHBOR_FAILED, nowMs + RETRY_MS);
        failed(row);
      }
      if (this.state[row] === NEIGHBOR_FAILED) continue;
      this.#tries[row]++;
      this.#nextMs[row] = nowMs + (this.#isDisputed[row] === 1 ? DISPUTE_RETRY_MS : RETRY_MS);
      ask(row, this.state[row] === NEIGHBOR_PROBING);
    }
  }

  /** Rows in use, for show. */
  rows(): Iterable<number> {
    return this.#rows.values();
  }

  stateName(row: number): string {
    return STATE_NAMES[this.state[row]];
  }

  /** Milliseconds since the last answer; -1 when there was none. */
  ageMs(row: number, nowMs: number): number {
    return this.#confirmedMs[row] === 0 ? -1 : nowMs - this.#confirmedMs[row];
  }

  /** Every row in use, but not who references it. */
  save(out: StateWriter): void {
    out.i32(this.#rows.size);
    for (const row of this.#rows.values()) {
      out.i32(row);
      out.u8(this.interfaceId[row]);
      out.i32(this.address[row]);
      out.u8(this.state[row]);
      out.u8(this.#tries[row]);
      out.f64(this.#nextMs[row]);
      out.f64(this.#confirmedMs[row]);
      out.words(this.macs, row << MAC_SHIFT, (row + 1) << MAC_SHIFT);
    }
  }

  /** Into a table that has at most some of the same addresses. Returns the row here of each row there. */
  restore(from: StateReader, interfaces: number): Map<number, number> {
    const rows = new Map<number, number>();
    for (let left = from.count(this.capacity, "neighbors"); left > 0; left--) {
      const there = from.i32();
      const interfaceId = from.code(interfaces - 1);
      const address = from.i32();
      const row = this.want(interfaceId, address, 0);
      if (row < 0) throw new StateError("more neighbors than there is room for");
      const state = from.code(NEIGHBOR_FAILED);
      if (state < NEIGHBOR_INCOMPLETE) throw new StateError("a neighbor in no state");
      this.#enter(row, state, 0);
      this.#tries[row] = from.u8();
      this.#nextMs[row] = from.f64();
      this.#confirmedMs[row] = from.f64();
      from.words(this.macs, row << MAC_SHIFT, (row + 1) << MAC_SHIFT);
      rows.set(there, row);
    }
    return rows;
  }

  #idleMs(row: number, nowMs: number): number {
    return elapsedMs(nowMs, this.macs[(row << MAC_SHIFT) + 3]);
  }

  /** Whether the address is in use at this MAC. */
  isAt(interfaceId: number, address: number, macHigh: number, macLow: number): boolean {
    const row = this.find(interfaceId, address);
    if (row < 0 || this.usable[row] === 0) return false;
    const at = row << MAC_SHIFT;
    return this.macs[at] === ((macHigh << 16) | (macLow >>> 16)) && this.macs[at + 1] >>> 16 === (macLow & 0xffff);
  }

  #dispute(row: number, nowMs: number): void {
    if (nowMs - this.#disputedMs[row] < DISPUTE_MS) return;
    this.#enter(row, NEIGHBOR_PROBING, nowMs);
    this.#disputedMs[row] = nowMs;
    this.#isDisputed[row] = 1;
    this.urgent = true;
  }

  #enter(row: number, state: number, nextMs: number): void {
    this.state[row] = state;
    this.#isDisputed[row] = 0;
    this.#tries[row] = 0;
    this.#nextMs[row] = nextMs;
    if (state === NEIGHBOR_INCOMPLETE) this.urgent = true;
    this.usable[row] = state === NEIGHBOR_REACHABLE || state === NEIGHBOR_PROBING ? 1 : 0;
  }

  /** A row never used, or the unreferenced one that was idle longest. */
  #take(nowMs: number): number {
    if (this.#used < this.capacity) return this.#used++;
    let oldest = -1;
    for (const row of this.#rows.values()) {
      // An incomplete one may have frames waiting for it.
      if (this.#references[row] > 0 || this.state[row] === NEIGHBOR_INCOMPLETE) continue;
      if (oldest < 0 || this.#idleMs(row, nowMs) > this.#idleMs(oldest, nowMs)) oldest = row;
    }
    if (oldest >= 0) {
      addressBook.unpin(this.address[oldest]);
      this.#rows.delete(keyOf(this.interfaceId[oldest], this.address[oldest]));
      this.#confirmedMs[oldest] = 0;
      this.#disputedMs[oldest] = Number.NEGATIVE_INFINITY;
    }
    return oldest;
  }
}

function keyOf(interfaceId: number, address: number): number {
  return interfaceId * 0x1_0000_0000 + (address >>> 0);
}
