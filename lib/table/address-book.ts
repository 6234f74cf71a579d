// HOT
// Names of IPv6 addresses. Everything behind the ports of this router knows addresses of 32 bits, so an IPv6 address has
// a name there, a number out of 127.0.0.0/8, which no packet on a wire may have (RFC 1122, 3.2.1.3): keys, plans, tables
// and checksums are the same for both families. What a name stands for is asked where packets come in and go out
// (ipv6/), where metadata is written and read, and where people read.
//
//   name    0x7f000000 | row                 row 0 is nobody's
//   row     four words, the address; the delta that takes the name's place in a checksum to the address's (RFC 1624)
//
// There is one book a thread, as an address is the same for whoever runs in it. A name means nothing in another thread: what
// crosses has addresses in words or in text, and frames change their names (ipv6/other-names.ts). Names of the configuration are
// for good, and the same in every thread that gets it, for its book begins with them (saveKept, restoreKept).
// Others are pinned by sessions and neighbors; a name that nobody has pinned is given to another address once no packet
// had it for KEEP_MS, and only when the book is full: until then packets with it may wait somewhere. Full: no name (0),
// and the packet is dropped (drop.addresses-full).

import { elapsedMs } from "../base/clock.ts";
import { SystemRandom } from "../base/random.ts";
import { StateError, type StateReader, type StateWriter } from "../base/state.ts";
import { HashIndex } from "./hash-index.ts";

/** The first byte of every name. */
const NAME_BYTE = 0x7f;
const NAME_BASE = NAME_BYTE << 24;
const ROW_MASK = 0x00ff_ffff;
const ROWS_FIRST = 1024;
const ROWS_MAX = 1 << 20;
const KEEP_MS = 10_000;
/** Rows looked at for one that can be given away. */
const LOOKED_AT = 256;
const FOR_GOOD = 1 << 30;

/** Whether `address` is the name of an IPv6 address. */
export const isName = (address: number): boolean => address >>> 24 === NAME_BYTE;

/** Whether it is of fe80::/10 (RFC 4291, 2.5.6). */
export const isLinkLocal = (address: number): boolean =>
  isName(address) && addressBook.word(address, 0) >>> 22 === 0x3fa;

// cold: as often as the book doubles
const grown = (rows: Int32Array, length: number) => {
  const more = new Int32Array(length);
  more.set(rows);
  return more;
};

export class AddressBook {
  #words = new Int32Array(ROWS_FIRST * 4);
  #deltas = new Int32Array(ROWS_FIRST);
  #pins = new Int32Array(ROWS_FIRST);
  #seenMs = new Int32Array(ROWS_FIRST);
  #index: HashIndex;
  /** Rows that may be in use; lowered, those beyond go on until nobody has them. */
  limit: number;
  readonly #seed: number;
  /** Rows 1..used-1 have had an address. */
  #used = 1;
  #hand = 1;

  constructor(seed: number, rowsMax = ROWS_MAX) {
    this.#seed = seed;
    this.limit = rowsMax;
    this.#index = new HashIndex(ROWS_FIRST, seed, 4, this.#words, 4);
  }

  /** Addresses that have a name. */
  get count(): number {
    return this.#index.count;
  }

  /** The name of the address with these four words; 0 = it has none. */
  find(w0: number, w1: number, w2: number, w3: number): number {
    const row = this.#index.find4(w0, w1, w2, w3);
    return row < 0 ? 0 : NAME_BASE | row;
  }

  /** The same, and one is made where there is none; 0 = the book is full. */
  enter(w0: number, w1: number, w2: number, w3: number, nowMs: number): number {
    const found = this.#index.find4(w0, w1, w2, w3);
    const row = found < 0 ? this.#make(w0, w1, w2, w3, nowMs) : found;
    if (row < 0) return 0;
    this.#seenMs[row] = nowMs;
    return NAME_BASE | row;
  }

  /** A name that stays, for the configuration. Throws when the book is full. */
  // cold: once for each address that an operator writes
  keep(w0: number, w1: number, w2: number, w3: number): number {
    const name = this.enter(w0, w1, w2, w3, 0);
    if (name === 0) throw new Error("the address book is full");
    this.#pins[name & ROW_MASK] |= FOR_GOOD;
    return name;
  }

  /** Word `n` (0..3) of the address that a name stands for. */
  word(name: number, n: number): number {
    return this.#words[((name & ROW_MASK) << 2) | n];
  }

  /** What stands for an address where 32 bits are hashed alike in every thread and every router: the XOR of its words, IPv4's itself. */
  hashWord(address: number): number {
    if (!isName(address)) return address;
    const at = (address & ROW_MASK) << 2;
    const words = this.#words;
    return words[at] ^ words[at | 1] ^ words[at | 2] ^ words[at | 3];
  }

  /** What a ones' complement sum changes by when the address takes the name's place. */
  delta(name: number): number {
    return this.#deltas[name & ROW_MASK];
  }

  /** Whoever has stored `address` says so, and `unpin` when it is gone; of IPv4 addresses there is nothing to say. */
  pin(address: number): void {
    if (isName(address)) this.#pins[address & ROW_MASK]++;
  }

  unpin(address: number): void {
    if (isName(address)) this.#pins[address & ROW_MASK]--;
  }

  /** Every name there is, but not who has pinned it. */
  // cold: at a take-over
  save(out: StateWriter): void {
    this.#save(out, () => true);
  }

  /** The names that are for good. */
  // cold: at the start of a thread
  saveKept(out: StateWriter): void {
    this.#save(out, (row) => (this.#pins[row] & FOR_GOOD) !== 0);
  }

  /** Those of another thread, for good here too. Into a book that has at most some of the same names. */
  // cold: at the start of a thread
  restoreKept(from: StateReader): void {
    this.#restore(from, 0, FOR_GOOD);
  }

  /** Into a book that has at most some of the same names. */
  // cold: at a take-over
  restore(from: StateReader, nowMs: number): void {
    this.#restore(from, nowMs, 0);
  }

  // cold
  #save(out: StateWriter, isWanted: (row: number) => boolean): void {
    const all = Array.from({ length: this.#used - 1 }, (_, n) => n + 1);
    const rows = all.filter((row) => this.#holds(row) && isWanted(row));
    out.i32(rows.length);
    for (const row of rows) {
      out.i32(row);
      out.words(this.#words, row << 2, (row + 1) << 2);
    }
  }

  // cold
  #restore(from: StateReader, nowMs: number, pin: number): void {
    const words = new Int32Array(4);
    for (let left = from.count(ROW_MASK, "addresses"); left > 0; left--) {
      const row = from.i32();
      from.words(words, 0, 4);
      if (row < 1 || row > ROW_MASK) throw new StateError("a name out of range");
      const found = this.#index.find4(words[0], words[1], words[2], words[3]);
      if (found !== row) {
        if (found >= 0 || this.#holds(row)) throw new StateError("a name that is another address's");
        while (row >= this.#deltas.length) this.#grow();
        this.#used = Math.max(this.#used, row + 1);
        this.#fill(row, words[0], words[1], words[2], words[3], nowMs);
      }
      this.#pins[row] |= pin;
    }
  }

  #holds(row: number): boolean {
    const at = row << 2;
    return this.#index.find4(this.#words[at], this.#words[at + 1], this.#words[at + 2], this.#words[at + 3]) === row;
  }

  #make(w0: number, w1: number, w2: number, w3: number, nowMs: number): number {
    let row = -1;
    if (this.#used < this.limit) {
      if (this.#used === this.#deltas.length) this.#grow();
      row = this.#used++;
    } else {
      row = this.#giveAway(nowMs);
      if (row < 0) return -1;
    }
    this.#fill(row, w0, w1, w2, w3, nowMs);
    return row;
  }

  #fill(row: number, w0: number, w1: number, w2: number, w3: number, nowMs: number): void {
    const words = this.#words;
    const at = row << 2;
    words[at] = w0;
    words[at | 1] = w1;
    words[at | 2] = w2;
    words[at | 3] = w3;
    const name = NAME_BASE | row;
    let sum = (~name >>> 16) + (~name & 0xffff);
    for (let n = 0; n < 4; n++) sum += (words[at | n] >>> 16) + (words[at | n] & 0xffff);
    sum = (sum >>> 16) + (sum & 0xffff);
    this.#deltas[row] = (sum >>> 16) + (sum & 0xffff);
    this.#pins[row] = 0;
    this.#seenMs[row] = nowMs;
    this.#index.insert(row);
  }

  /** A row that no one has pinned and no packet had for some time, its address gone; -1 = none of those looked at. */
  #giveAway(nowMs: number): number {
    for (let n = 0; n < LOOKED_AT; n++) {
      const row = this.#hand;
      this.#hand = row + 1 === this.#used ? 1 : row + 1;
      if (this.#pins[row] !== 0 || elapsedMs(nowMs, this.#seenMs[row]) < KEEP_MS) continue;
      this.#index.remove(row);
      return row;
    }
    return -1;
  }

  // cold: as often as the book doubles
  #grow(): void {
    const rows = this.#deltas.length * 2;
    this.#words = grown(this.#words, rows * 4);
    this.#deltas = grown(this.#deltas, rows);
    this.#pins = grown(this.#pins, rows);
    this.#seenMs = grown(this.#seenMs, rows);
    this.#index = new HashIndex(rows, this.#seed, 4, this.#words, 4);
    for (let row = 1; row < this.#used; row++) this.#index.insert(row);
  }
}

/** This thread's. */
export const addressBook = new AddressBook(new SystemRandom().nextI32());

/** Whether the first `length` bits of two addresses are the same; never where they are of two families. */
export function sharesPrefix(a: number, b: number, length: number): boolean {
  if (isName(a) !== isName(b)) return false;
  if (!isName(a)) return length === 0 || (a ^ b) >>> (32 - length) === 0;
  for (let n = 0, left = length; left > 0; n++, left -= 32) {
    const differing = addressBook.word(a, n) ^ addressBook.word(b, n);
    if (left >= 32 ? differing !== 0 : differing >>> (32 - left) !== 0) return false;
  }
  return true;
}
