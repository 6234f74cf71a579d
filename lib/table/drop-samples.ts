// The last frame that was dropped for each reason, cut to its headers, for `waymark show drops`: a counter says that packets
// are lost, a sample whose. In a flood a reason takes no more than one in 100 ms, so that nothing is paid for the others.

import type { StateReader, StateWriter } from "../base/state.ts";

/** Enough for Ethernet, IPv4 and TCP headers with all their options. */
export const SAMPLE_BYTES = 134;
const EVERY_MS = 100;

export interface DropSample {
  readonly atMs: number;
  readonly interfaceId: number;
  /** Of the frame; `bytes` has its first SAMPLE_BYTES, or all. */
  readonly length: number;
  readonly bytes: Uint8Array;
}

export class DropSamples {
  readonly #bytes: Uint8Array;
  readonly #length: Int32Array;
  readonly #interface: Int32Array;
  readonly #atMs: Float64Array;

  constructor(reasons: number) {
    this.#bytes = new Uint8Array(reasons * SAMPLE_BYTES);
    this.#length = new Int32Array(reasons);
    this.#interface = new Int32Array(reasons);
    this.#atMs = new Float64Array(reasons).fill(Number.NEGATIVE_INFINITY);
  }

  /** The frame bytes[offset..offset + length), come in by `interfaceId`, was dropped for reason number `reason`. */
  take(reason: number, bytes: Uint8Array, offset: number, length: number, interfaceId: number, nowMs: number): void {
    if (nowMs - this.#atMs[reason] < EVERY_MS) return;
    this.#atMs[reason] = nowMs;
    this.#length[reason] = length;
    this.#interface[reason] = interfaceId;
    const to = reason * SAMPLE_BYTES;
    const count = Math.min(length, SAMPLE_BYTES, bytes.length - offset);
    for (let i = 0; i < count; i++) this.#bytes[to + i] = bytes[offset + i];
  }

  /** The last one; null = none was taken. */
  of(reason: number): DropSample | null {
    const atMs = this.#atMs[reason];
    if (atMs === Number.NEGATIVE_INFINITY) return null;
    const length = this.#length[reason];
    const from = reason * SAMPLE_BYTES;
    const bytes = this.#bytes.slice(from, from + Math.min(length, SAMPLE_BYTES));
    return { atMs, interfaceId: this.#interface[reason], length, bytes };
  }

  save(out: StateWriter): void {
    out.raw(this.#bytes);
    out.words(this.#length, 0, this.#length.length);
    out.words(this.#interface, 0, this.#interface.length);
    out.doubles(this.#atMs);
  }

  /** Of the same reasons; those of another version are skipped. */
  restore(from: StateReader): void {
    const bytes = from.raw();
    const reasons = bytes.length / SAMPLE_BYTES;
    const words = [new Int32Array(reasons), new Int32Array(reasons)];
    for (const column of words) from.words(column, 0, reasons);
    const atMs = new Float64Array(reasons);
    from.doubles(atMs, "samples of drops");
    if (reasons !== this.#length.length) return;
    this.#bytes.set(bytes);
    this.#length.set(words[0]);
    this.#interface.set(words[1]);
    this.#atMs.set(atMs);
  }
}
