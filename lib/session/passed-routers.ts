// Which routers between two peers a session has passed: what ends loops that no router can see by itself. Each router in between
// adds itself to what it was told, in forward metadata (attribute 0x800b), and refuses a session that has been here before
// (drop.route-loop); the router where the session began is told by its name, attribute 14, and adds nothing. So between two routers
// nothing is added, and at the n-th hop of a chain 4 bytes for each router between the first and this one, and a head of 4.
//
//   west ──► middle ──► third ──► east           attribute 0x800b:   -,  middle,  middle third
//
// A router is four bytes, a hash of its name. Only the latest WORDS_MAX are told, so a chain may be of any length, and a loop of
// up to WORDS_MAX routers and the first one is found. Lists are kept once each, so that a session holds a number; when there
// is room for no more, row 0, the empty list, stands in: a router still knows itself.

import { getI32, setU32 } from "../base/bytes.ts";
import { StateError, type StateReader, type StateWriter } from "../base/state.ts";

const WORD = 4;
const WORDS_MAX = 16;
const LISTS_MAX = 1024;

export class PassedRouters {
  /** This router. */
  readonly own: number;
  /** As each was heard, and as the next router is told it. */
  readonly #heard: Uint8Array[] = [];
  readonly #told: Uint8Array[] = [];
  readonly #rows = new Map<string, number>();

  constructor(ownName: string) {
    this.own = routerWord(ownName);
    this.#add("", new Uint8Array(0));
  }

  /** The row of the list that is bytes[at..at + length), added when it is new. */
  row(bytes: Uint8Array, at: number, length: number): number {
    const from = at + Math.max(0, length - WORDS_MAX * WORD);
    const list = bytes.slice(from, at + length);
    const name = Buffer.from(list).toString("latin1");
    const known = this.#rows.get(name);
    if (known !== undefined) return known;
    return this.#heard.length === LISTS_MAX ? 0 : this.#add(name, list);
  }

  /** Whether this router is in the list. */
  hasOwn(bytes: Uint8Array, at: number, length: number): boolean {
    for (let end = at + length; at + WORD <= end; at += WORD) if (getI32(bytes, at) === this.own) return true;
    return false;
  }

  /** What the next router is told: the list in this row, and this router. */
  told(row: number): Uint8Array {
    return this.#told[row];
  }

  /** The list in this row, the first router first. */
  words(row: number): number[] {
    const list = this.#heard[row];
    return Array.from({ length: list.length / WORD }, (_, n) => getI32(list, n * WORD));
  }

  save(out: StateWriter): void {
    out.i32(this.#heard.length);
    for (const list of this.#heard) out.raw(list);
  }

  /** Returns the row here of each row there. */
  restore(from: StateReader): number[] {
    const rows: number[] = [];
    for (let left = from.count(LISTS_MAX, "lists of routers"); left > 0; left--) {
      const list = from.raw();
      if (list.length % WORD !== 0 || list.length > WORDS_MAX * WORD) throw new StateError("no list of routers");
      rows.push(this.row(list, 0, list.length));
    }
    return rows;
  }

  #add(name: string, list: Uint8Array): number {
    const kept = list.subarray(Math.max(0, list.length - (WORDS_MAX - 1) * WORD));
    const told = new Uint8Array(kept.length + WORD);
    told.set(kept);
    setU32(told, kept.length, this.own);
    this.#rows.set(name, this.#heard.length);
    this.#told.push(told);
    return this.#heard.push(list) - 1;
  }
}

/** A router as four bytes: FNV-1a of its name in UTF-8, the same on every router. */
export function routerWord(name: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash | 0;
}
