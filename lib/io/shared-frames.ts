// Two processes at one device while one takes over from the other: the kernel gives every frame to both. Whoever leaves
// writes down which frames it has taken (TakenFrames), whoever comes keeps what arrives (KeptFrames) and then leaves out
// what was taken: so each frame is handled once, and none is lost. A frame is known by a hash of all its bytes, for the
// kernel's time stamps of one frame differ from socket to socket. Equal frames are counted, not told apart.
//
//   who leaves   ── takes ─────────────────────────────── stops, says what it took
//   who comes           opens ── keeps ──────────────────────────────────────────── leaves out ── goes on
//
// Who leaves must have begun to write down before the other opens.

import type { FrameBatch } from "./port.ts";
import { HEADROOM, TAILROOM } from "./port.ts";

/** Frames remembered; older ones are forgotten, and would be handled twice. */
const TAKEN_MAX = 1 << 18;
/** Memory for frames kept; it becomes real as it is used. What does not fit stays in the kernel's ring. */
const KEPT_BYTES = 64 << 20;

/** A number for a frame's bytes, of 53 bits. */
export function frameHash(seed: number, view: DataView, offset: number, length: number): number {
  let one = seed ^ length;
  let other = Math.imul(seed, 0x85ebca6b) ^ length;
  const words = offset + (length & ~3);
  let at = offset;
  for (; at < words; at += 4) {
    const word = view.getInt32(at, true);
    one = Math.imul(one ^ word, 0x9e3779b1);
    one ^= one >>> 15;
    other = Math.imul(((other << 13) | (other >>> 19)) + word, 0xcc9e2d51);
  }
  for (; at < offset + length; at++) {
    one = Math.imul(one ^ view.getUint8(at), 0x9e3779b1);
    other = Math.imul(((other << 13) | (other >>> 19)) + view.getUint8(at), 0xcc9e2d51);
  }
  other ^= other >>> 16;
  return (other & 0x1f_ffff) * 0x1_0000_0000 + (one >>> 0);
}

export class TakenFrames {
  readonly #seed: number;
  readonly #hashes = new Float64Array(TAKEN_MAX);
  #count = 0;

  constructor(seed: number) {
    this.#seed = seed;
  }

  /** Call with the frames as they were received. */
  add(batch: FrameBatch): void {
    const { view } = batch;
    for (let i = 0; i < batch.count; i++)
      this.#hashes[this.#count++ % TAKEN_MAX] = frameHash(this.#seed, view, batch.offset[i], batch.length[i]);
  }

  /** In no order. */
  hashes(): Float64Array {
    return this.#hashes.subarray(0, Math.min(this.#count, TAKEN_MAX));
  }
}

export class KeptFrames {
  readonly #bytes = new Uint8Array(KEPT_BYTES);
  readonly #view = new DataView(this.#bytes.buffer);
  /** Four numbers a frame: offset, length, flags, segment size. */
  readonly #rows: number[] = [];
  #end = 0;
  #next = 0;

  /** Whether `frames` more of up to `bytes` bytes fit. */
  hasRoom(frames: number, bytes: number): boolean {
    return this.#end + frames * slotOf(bytes) + TAILROOM <= KEPT_BYTES;
  }

  /** Frames that wait. */
  get count(): number {
    return (this.#rows.length - this.#next) / 4;
  }

  /** Keep a copy of the batch's frames. Only where there is room. */
  add(batch: FrameBatch): void {
    for (let i = 0; i < batch.count; i++) {
      const [offset, length] = [batch.offset[i], batch.length[i]];
      this.#bytes.set(batch.bytes.subarray(offset, offset + length), this.#end + HEADROOM);
      this.#rows.push(this.#end + HEADROOM, length, batch.flags[i], batch.segmentSize[i]);
      this.#end += slotOf(length);
    }
  }

  /** Leave out what another process has taken. Returns how many frames and bytes. */
  leaveOut(seed: number, taken: Float64Array): { frames: number; bytes: number } {
    const counts = new Map<number, number>();
    for (const hash of taken) counts.set(hash, (counts.get(hash) ?? 0) + 1);
    const left = { frames: 0, bytes: 0 };
    let end = 0;
    for (let at = 0; at < this.#rows.length; at += 4) {
      const hash = frameHash(seed, this.#view, this.#rows[at], this.#rows[at + 1]);
      const count = counts.get(hash) ?? 0;
      if (count > 0) {
        counts.set(hash, count - 1);
        left.frames++;
        left.bytes += this.#rows[at + 1];
        continue;
      }
      for (let k = 0; k < 4; k++) this.#rows[end++] = this.#rows[at + k];
    }
    this.#rows.length = end;
    return left;
  }

  /** As a port's rx: lend the next frames to `batch`, for good. */
  take(batch: FrameBatch, most = batch.capacity): number {
    batch.bytes = this.#bytes;
    batch.count = 0;
    while (batch.count < most && this.#next < this.#rows.length) {
      const i = batch.count++;
      batch.offset[i] = this.#rows[this.#next++];
      batch.length[i] = this.#rows[this.#next++];
      batch.flags[i] = this.#rows[this.#next++];
      batch.segmentSize[i] = this.#rows[this.#next++];
    }
    return batch.count;
  }
}

function slotOf(length: number): number {
  return (HEADROOM + length + 63) & ~63;
}
