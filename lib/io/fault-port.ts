// A port around a port that treats what it sends as a bad wire would: frames are lost, doubled, overtaken or damaged,
// by chance from a seed or by their exact numbers. Wrap both ends of a wire for faults both ways. A frame that the
// wire loses counts as sent: its sender cannot know.

import type { SeededRandom } from "../base/random.ts";
import { FrameBatch, type Port, type PortInfo, type PortStats } from "./port.ts";
import { ETHERNET_HEADER, FRAME_LENGTH_MAX } from "./wire-frames.ts";

/** A probability from 0 to 1, or the numbers of the frames to hit, counted from 1 in the order of tx. */
export type Hits = number | readonly number[];

export interface Faults {
  readonly drop?: Hits;
  readonly duplicate?: Hits;
  /** The frame goes behind the one after it; when none comes, it goes after REORDER_RX_CALLS calls of rx. */
  readonly reorder?: Hits;
  /** One random bit behind the Ethernet header is flipped. */
  readonly corrupt?: Hits;
}

const REORDER_RX_CALLS = 8;

export class FaultPort implements Port {
  readonly #port: Port;
  readonly #faults: Faults;
  readonly #random: SeededRandom;
  readonly #damaged = new FrameBatch(new Uint8Array(FRAME_LENGTH_MAX), 1);
  readonly #held = new FrameBatch(new Uint8Array(FRAME_LENGTH_MAX), 1);
  #heldRxCalls = 0;

  /** Frames sent through this port so far, and what happened to them. */
  readonly counts = { frames: 0, drop: 0, duplicate: 0, reorder: 0, corrupt: 0 };

  constructor(port: Port, faults: Faults, random: SeededRandom) {
    this.#port = port;
    this.#faults = faults;
    this.#random = random;
  }

  info(): PortInfo {
    return this.#port.info();
  }

  rx(batch: FrameBatch): number {
    if (this.#held.count > 0 && ++this.#heldRxCalls >= REORDER_RX_CALLS) this.#releaseHeld();
    return this.#port.rx(batch);
  }

  tx(batch: FrameBatch, from: number, to: number): number {
    let sent = 0;
    for (let i = from; i < to; i++) sent += this.#txOne(batch, i);
    return sent;
  }

  stats(): PortStats {
    return this.#port.stats();
  }

  close(): void {
    this.#held.count = 0;
    this.#port.close();
  }

  #txOne(batch: FrameBatch, row: number): number {
    this.counts.frames++;
    if (this.#hits("drop")) return 1;
    if (this.#held.count === 0 && this.#hits("reorder")) {
      copyFrame(batch, row, this.#held);
      this.#heldRxCalls = 0;
      return 1;
    }
    let source = batch;
    if (this.#hits("corrupt")) {
      copyFrame(batch, row, this.#damaged);
      const bit = this.#random.below(Math.max(this.#damaged.length[0] - ETHERNET_HEADER, 1) * 8);
      this.#damaged.bytes[ETHERNET_HEADER + (bit >>> 3)] ^= 1 << (bit & 7);
      source = this.#damaged;
      row = 0;
    }
    if (this.#hits("duplicate")) this.#port.tx(source, row, row + 1);
    const sent = this.#port.tx(source, row, row + 1);
    if (this.#held.count > 0) this.#releaseHeld();
    return sent;
  }

  #releaseHeld(): void {
    this.#held.count = 0;
    this.#port.tx(this.#held, 0, 1);
  }

  #hits(fault: keyof Faults): boolean {
    const hits = this.#faults[fault] ?? 0;
    const hit =
      typeof hits === "number" ? hits > 0 && this.#random.fraction() < hits : hits.includes(this.counts.frames);
    if (hit) this.counts[fault]++;
    return hit;
  }
}

function copyFrame(from: FrameBatch, row: number, to: FrameBatch): void {
  const at = from.offset[row];
  const length = Math.min(from.length[row], FRAME_LENGTH_MAX);
  to.bytes.set(from.bytes.subarray(at, at + length));
  to.length[0] = length;
  to.flags[0] = from.flags[row];
  to.segmentSize[0] = from.segmentSize[row];
  to.count = 1;
}
