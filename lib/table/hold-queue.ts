// Bounded copies of frames that wait for something with a number: a neighbor's MAC address today, a key later. Frames
// are borrowed from the port only until its next rx, so what must wait is copied here, with free headroom in front
// and tailroom behind like a received frame's, because a frame that waited may still get metadata and a digest.
//
//   | headroom | frame, up to slotBytes | headroom | frame | ... | tailroom    one slot per frame
//
// All memory is taken at construction, slots * (headroom + slotBytes) + tailroom bytes. Full, or a key that has its share: hold
// returns false, nothing changes, and the caller drops the new frame; those that wait are never pushed out before
// their time. Every call looks through at most all slots, which are few.

import type { StateReader, StateWriter } from "../base/state.ts";
import { Slab } from "./slab.ts";

/** The frame is `bytes` from `offset`, `length` bytes long; it is valid, and may be changed, until the call returns. */
export type TakeFrame = (bytes: Uint8Array, offset: number, length: number, tag: number) => void;

export class HoldQueue {
  readonly #slab: Slab;
  readonly #slotBytes: number;
  readonly #headroom: number;
  readonly #perKey: number;
  readonly #bytes: Uint8Array;
  readonly #key: Float64Array;
  readonly #tag: Float64Array;
  readonly #heldMs: Float64Array;
  readonly #length: Int32Array;
  /** Slots that hold a frame, oldest first. */
  readonly #order: Int32Array;
  #count = 0;

  constructor({ slots = 256, slotBytes = 2048, perKey = 8, headroom = 512, tailroom = 64 } = {}) {
    this.#slab = new Slab(slots);
    this.#slotBytes = slotBytes;
    this.#headroom = headroom;
    this.#perKey = perKey;
    this.#bytes = new Uint8Array(slots * (headroom + slotBytes) + tailroom);
    this.#key = new Float64Array(slots);
    this.#tag = new Float64Array(slots);
    this.#heldMs = new Float64Array(slots);
    this.#length = new Int32Array(slots);
    this.#order = new Int32Array(slots);
  }

  /** Frames held. */
  get count(): number {
    return this.#count;
  }

  /** Copy a frame to wait under `key`; `tag` is the caller's. Returns false when full, when the key has its share, or when the frame is too long. */
  hold(key: number, bytes: Uint8Array, offset: number, length: number, tag: number, nowMs: number): boolean {
    if (length > this.#slotBytes || this.countOf(key) >= this.#perKey) return false;
    const slot = this.#slab.allocate();
    if (slot < 0) return false;
    this.#bytes.set(bytes.subarray(offset, offset + length), this.#offset(slot));
    this.#key[slot] = key;
    this.#tag[slot] = tag;
    this.#heldMs[slot] = nowMs;
    this.#length[slot] = length;
    this.#order[this.#count++] = slot;
    return true;
  }

  /** Hand over every frame that waits under `key`, oldest first, and free its slot. `take` may hold frames again. Returns how many. */
  release(key: number, take: TakeFrame): number {
    let released = 0;
    // Counted before the first take: a frame that take holds again under the same key waits for the next release.
    for (let left = this.countOf(key); left > 0; left--) {
      const position = this.#firstOf(key);
      if (position < 0) break;
      const slot = this.#unlink(position);
      take(this.#bytes, this.#offset(slot), this.#length[slot], this.#tag[slot]);
      this.#slab.free(slot);
      released++;
    }
    return released;
  }

  /** Forget every frame that waits under `key`. Returns how many. */
  drop(key: number): number {
    return this.release(key, () => {});
  }

  /** Forget the frames that have waited `ageMs` or longer, telling `dropped` of each. Returns how many. */
  expire(nowMs: number, ageMs: number, dropped: (key: number, tag: number) => void): number {
    let expired = 0;
    while (this.#count > 0 && nowMs - this.#heldMs[this.#order[0]] >= ageMs) {
      const slot = this.#unlink(0);
      this.#slab.free(slot);
      dropped(this.#key[slot], this.#tag[slot]);
      expired++;
    }
    return expired;
  }

  /** Every frame that waits, oldest first. */
  save(out: StateWriter): void {
    out.i32(this.#count);
    for (let i = 0; i < this.#count; i++) {
      const slot = this.#order[i];
      out.f64(this.#key[slot]);
      out.f64(this.#tag[slot]);
      out.f64(this.#heldMs[slot]);
      out.raw(this.#bytes.subarray(this.#offset(slot), this.#offset(slot) + this.#length[slot]));
    }
  }

  /** Hold them here, `keyOf` each one's key. Returns how many there was no room for. */
  restore(from: StateReader, keyOf: (key: number) => number): number {
    let refused = 0;
    for (let left = from.count(Number.MAX_SAFE_INTEGER, "held frames"); left > 0; left--) {
      const key = keyOf(from.f64());
      const tag = from.f64();
      const heldMs = from.f64();
      const frame = from.raw();
      if (!this.hold(key, frame, 0, frame.length, tag, heldMs)) refused++;
    }
    return refused;
  }

  #offset(slot: number): number {
    return slot * (this.#headroom + this.#slotBytes) + this.#headroom;
  }

  countOf(key: number): number {
    let count = 0;
    for (let i = 0; i < this.#count; i++) if (this.#key[this.#order[i]] === key) count++;
    return count;
  }

  #firstOf(key: number): number {
    for (let i = 0; i < this.#count; i++) if (this.#key[this.#order[i]] === key) return i;
    return -1;
  }

  /** Take a position out of the order; its slot stays allocated. */
  #unlink(position: number): number {
    const slot = this.#order[position];
    this.#order.copyWithin(position, position + 1, this.#count--);
    return slot;
  }
}
