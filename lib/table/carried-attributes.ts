// What peers said of sessions that this router does not know and passes on: attributes of metadata as they came, of each section
// (protocol sheet 4.7). Few sessions have any, so they are in rows of their own, and a session without costs nothing.
//
// All memory is taken at construction: CARRIED_BYTES a row and direction. Full: `keep` is false and nothing is kept.

import { Slab } from "./slab.ts";

/** Of one session and direction, both sections together. */
export const CARRIED_BYTES = 128;

export class CarriedAttributes {
  readonly #slab: Slab;
  readonly #bytes: Uint8Array;
  readonly #headerLength: Uint8Array;
  readonly #length: Uint8Array;
  /** Session and direction → row. */
  readonly #rows = new Map<number, number>();

  constructor(rows: number) {
    this.#slab = new Slab(rows);
    this.#bytes = new Uint8Array(rows * CARRIED_BYTES);
    this.#headerLength = new Uint8Array(rows);
    this.#length = new Uint8Array(rows);
  }

  /** How many sessions' directions have some. */
  get count(): number {
    return this.#rows.size;
  }

  /** Keep copies, in place of what was kept before. False, and nothing is changed, where they are too long or there is no row. */
  keep(session: number, direction: number, header: Uint8Array, payload: Uint8Array): boolean {
    const length = header.length + payload.length;
    if (length > CARRIED_BYTES) return false;
    const place = session * 2 + direction;
    const row = this.#rows.get(place) ?? this.#slab.allocate();
    if (row < 0) return false;
    this.#rows.set(place, row);
    this.#bytes.set(header, row * CARRIED_BYTES);
    this.#bytes.set(payload, row * CARRIED_BYTES + header.length);
    this.#headerLength[row] = header.length;
    this.#length[row] = length;
    return true;
  }

  /** Those of the header section; empty where there are none. A view, until the next keep or forget. */
  header(session: number, direction: number): Uint8Array {
    return this.#view(session, direction, true);
  }

  /** Those of the payload section, likewise. */
  payload(session: number, direction: number): Uint8Array {
    return this.#view(session, direction, false);
  }

  /** The session is over. */
  forget(session: number): void {
    if (this.#rows.size === 0) return;
    for (const place of [session * 2, session * 2 + 1]) {
      const row = this.#rows.get(place);
      if (row === undefined) continue;
      this.#rows.delete(place);
      this.#slab.free(row);
    }
  }

  #view(session: number, direction: number, isHeader: boolean): Uint8Array {
    const row = this.#rows.size === 0 ? undefined : this.#rows.get(session * 2 + direction);
    if (row === undefined) return NONE;
    const from = row * CARRIED_BYTES;
    const middle = from + this.#headerLength[row];
    return isHeader ? this.#bytes.subarray(from, middle) : this.#bytes.subarray(middle, from + this.#length[row]);
  }
}

const NONE = new Uint8Array(0);
