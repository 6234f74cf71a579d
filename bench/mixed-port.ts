// A port with a bounded queue that holds two kinds of frames, as a device's receive ring does when a flood comes in with
// everybody's traffic: whoever arrives when it is full is lost. Frames are prebuilt (traffic.ts); lending one costs its
// first 44 bytes.

import { emptyStats, type FrameBatch, HEADROOM, type Port, type PortInfo, type PortStats } from "../lib/io/port.ts";
import { ROW_LEAD, ROW_WORDS, type Traffic } from "./traffic.ts";

const SLOTS = 128;
const SLOT_WORDS = (HEADROOM + 128) / 4;

export const ESTABLISHED = 0;
export const FLOOD = 1;

export class MixedPort implements Port {
  readonly #info: PortInfo;
  readonly #words = new Int32Array(SLOTS * SLOT_WORDS);
  readonly #bytes = new Uint8Array(this.#words.buffer);
  readonly #kinds: readonly [Traffic, Traffic];
  readonly #next = [0, 0];
  readonly #queue: Uint8Array;
  #first = 0;
  waiting = 0;
  /** By kind: frames lost because the queue was full. */
  readonly lost = [0, 0];

  constructor(name: string, mac: Uint8Array, established: Traffic, flood: Traffic, queueFrames = 4096) {
    this.#info = { name, mac, mtu: 1500, linkUp: true };
    this.#kinds = [established, flood];
    this.#queue = new Uint8Array(queueFrames);
  }

  /** A frame of this kind comes in. */
  arrive(kind: number): void {
    const queue = this.#queue;
    if (this.waiting === queue.length) {
      this.lost[kind]++;
      return;
    }
    queue[(this.#first + this.waiting++) % queue.length] = kind;
  }

  info(): PortInfo {
    return this.#info;
  }

  rx(batch: FrameBatch): number {
    const count = Math.min(this.waiting, batch.capacity, SLOTS);
    batch.bytes = this.#bytes;
    batch.count = count;
    const words = this.#words;
    for (let i = 0; i < count; i++) {
      const kind = this.#queue[this.#first];
      this.#first = (this.#first + 1) % this.#queue.length;
      const { heads, length, sessions } = this.#kinds[kind];
      const session = this.#next[kind];
      this.#next[kind] = session + 1 === sessions ? 0 : session + 1;
      const to = i * SLOT_WORDS + HEADROOM / 4;
      for (let w = 0; w < ROW_WORDS; w++) words[to + w] = heads[session * ROW_WORDS + w];
      batch.offset[i] = to * 4 + ROW_LEAD;
      batch.length[i] = length[session];
      batch.flags[i] = 0;
      batch.segmentSize[i] = 0;
    }
    this.waiting -= count;
    return count;
  }

  tx(_batch: FrameBatch, from: number, to: number): number {
    return to - from;
  }

  stats(): PortStats {
    return emptyStats();
  }

  close(): void {}
}
