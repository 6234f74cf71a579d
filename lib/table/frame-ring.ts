// Frames on their way from one thread to another: a ring of records in shared memory, with one thread that puts and
// one that takes. A record is a header of four words and the frame's bytes, maybe with others in front, padded to 16; it is never
// split, so the end of the memory may stay unused for one round.
//
//   word 0: taken up to here    word 16: put up to here    word 32: 1 = the taker sleeps       (a cache line each)
//   record: length (-1 = skip to the start) | flags | segment size | tag      (bytes in front) frame bytes …
//
// Positions count bytes and wrap at 2^32. Full: put returns false and nothing changes.

import { invariant } from "../base/invariant.ts";

const TAKEN = 0;
const PUT = 16;
const ASLEEP = 32;
const CONTROL_BYTES = 256;
const HEADER_BYTES = 16;
const SKIP = -1;
const NOTHING = new Uint8Array(0);

export class FrameRing {
  readonly memory: SharedArrayBuffer;
  readonly #control: Int32Array;
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #capacity: number;
  /** Of the record taken last. */
  flags = 0;
  segmentSize = 0;
  tag = 0;

  /** The ring in `memory`, which allocate made: one FrameRing in each of the two threads. */
  constructor(memory: SharedArrayBuffer) {
    this.memory = memory;
    this.#capacity = memory.byteLength - CONTROL_BYTES;
    invariant((this.#capacity & (this.#capacity - 1)) === 0, "frame ring: the capacity is a power of two");
    this.#control = new Int32Array(memory, 0, CONTROL_BYTES / 4);
    this.#words = new Int32Array(memory, CONTROL_BYTES);
    this.#bytes = new Uint8Array(memory, CONTROL_BYTES);
  }

  /** Memory for a ring of `capacity` bytes, a power of two. */
  static allocate(capacity: number): SharedArrayBuffer {
    return new SharedArrayBuffer(CONTROL_BYTES + capacity);
  }

  /**
   * Copy a frame in, `front` before its bytes: whoever takes it knows by the tag what is there. Only the putting thread calls
   * this. False when there is no room.
   */
  put(
    bytes: Uint8Array,
    offset: number,
    length: number,
    flags: number,
    segmentSize: number,
    tag: number,
    front: Uint8Array = NOTHING,
  ): boolean {
    let position = this.#control[PUT];
    const used = (position - Atomics.load(this.#control, TAKEN)) | 0;
    const total = front.length + length;
    const size = HEADER_BYTES + ((total + 15) & ~15);
    let at = position & (this.#capacity - 1);
    const left = this.#capacity - at;
    if (used + size + (left < size ? left : 0) > this.#capacity) return false;
    if (left < size) {
      this.#words[at >> 2] = SKIP;
      position += left;
      at = 0;
    }
    const word = at >> 2;
    this.#words[word] = total;
    this.#words[word + 1] = flags;
    this.#words[word + 2] = segmentSize;
    this.#words[word + 3] = tag;
    if (front.length > 0) this.#bytes.set(front, at + HEADER_BYTES);
    this.#bytes.set(bytes.subarray(offset, offset + length), at + HEADER_BYTES + front.length);
    Atomics.store(this.#control, PUT, position + size);
    return true;
  }

  /** Length of the oldest frame, with what is in front of it, -1 when there is none. Only the taking thread calls this, and take. */
  peek(): number {
    const position = this.#control[TAKEN];
    if (Atomics.load(this.#control, PUT) === position) return -1;
    const at = position & (this.#capacity - 1);
    const length = this.#words[at >> 2];
    if (length !== SKIP) return length;
    // What was skipped for is put together with the skip.
    Atomics.store(this.#control, TAKEN, position + this.#capacity - at);
    return this.#words[0];
  }

  /** Copy the oldest frame to `bytes` at `offset`; its flags, segment size and tag are in this ring's fields. Call after peek said there is one. */
  take(bytes: Uint8Array, offset: number): void {
    const position = this.#control[TAKEN];
    const at = position & (this.#capacity - 1);
    const word = at >> 2;
    const length = this.#words[word];
    this.flags = this.#words[word + 1];
    this.segmentSize = this.#words[word + 2];
    this.tag = this.#words[word + 3];
    bytes.set(this.#bytes.subarray(at + HEADER_BYTES, at + HEADER_BYTES + length), offset);
    Atomics.store(this.#control, TAKEN, position + HEADER_BYTES + ((length + 15) & ~15));
  }

  /** The taker is about to sleep. False when a frame has come meanwhile: do not. */
  sleep(): boolean {
    Atomics.store(this.#control, ASLEEP, 1);
    if (Atomics.load(this.#control, PUT) === this.#control[TAKEN]) return true;
    Atomics.store(this.#control, ASLEEP, 0);
    return false;
  }

  /** After put: true when the taker sleeps and must be woken, once. */
  mustWake(): boolean {
    return Atomics.load(this.#control, ASLEEP) === 1 && Atomics.exchange(this.#control, ASLEEP, 0) === 1;
  }
}
