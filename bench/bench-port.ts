// A port for benches: it lends prebuilt frames and forgets what is sent. Frames lie in a few slots that the engine
// rewrites, as a device's ring does; lending one restores its first 44 bytes, eleven 32-bit stores. What that costs is
// measured on its own (`drain`) and taken off, so that a figure is the engine's.

import { emptyStats, type FrameBatch, HEADROOM, type Port, type PortInfo, type PortStats } from "../lib/io/port.ts";
import { ROW_LEAD, ROW_WORDS, type Traffic } from "./traffic.ts";

const SLOTS = 256;
const SLOT_WORDS = (HEADROOM + 1536 + 64) / 4;

export class BenchPort implements Port {
  readonly #info: PortInfo;
  readonly #words = new Int32Array(SLOTS * SLOT_WORDS);
  readonly #bytes = new Uint8Array(this.#words.buffer);
  #traffic: Traffic | null = null;
  #next = 0;
  #left = 0;
  /** Frames and bytes sent. */
  sentFrames = 0;
  sentBytes = 0;

  constructor(name: string, mac: Uint8Array) {
    this.#info = { name, mac, mtu: 1500, linkUp: true };
  }

  /** Have `packets` frames of `traffic` wait, in its order from where the last offer of the same traffic ended. */
  offer(traffic: Traffic, packets: number): void {
    if (traffic !== this.#traffic) this.#next = 0;
    this.#traffic = traffic;
    this.#left = packets;
  }

  info(): PortInfo {
    return this.#info;
  }

  rx(batch: FrameBatch): number {
    const traffic = this.#traffic;
    const count = Math.min(this.#left, batch.capacity, SLOTS);
    batch.bytes = this.#bytes;
    batch.count = count;
    if (traffic === null || count === 0) return 0;
    const { heads, length, order } = traffic;
    const words = this.#words;
    let next = this.#next;
    for (let i = 0; i < count; i++) {
      const session = order[next++];
      if (next === order.length) next = 0;
      const to = i * SLOT_WORDS + HEADROOM / 4;
      const from = session * ROW_WORDS;
      for (let w = 0; w < ROW_WORDS; w++) words[to + w] = heads[from + w];
      batch.offset[i] = to * 4 + ROW_LEAD;
      batch.length[i] = length[session];
      batch.flags[i] = 0;
      batch.segmentSize[i] = 0;
    }
    this.#next = next;
    this.#left -= count;
    return count;
  }

  tx(batch: FrameBatch, from: number, to: number): number {
    for (let i = from; i < to; i++) this.sentBytes += batch.length[i];
    this.sentFrames += to - from;
    return to - from;
  }

  stats(): PortStats {
    return { ...emptyStats(), txFrames: this.sentFrames, txBytes: this.sentBytes };
  }

  close(): void {}
}

/** Receive and send everything that waits, and do nothing else: the port's own cost. Returns the number of frames. */
export function drain(from: Port, to: Port, batch: FrameBatch): number {
  let frames = 0;
  for (;;) {
    const count = from.rx(batch);
    if (count === 0) return frames;
    to.tx(batch, 0, count);
    frames += count;
  }
}
