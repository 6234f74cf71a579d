// Ports without a device: two that are each other's far end (the simulator), one that is its own (the mirror of a router that
// sends packets back to its peers), or one alone whose far end is the test itself, through inject() and sent(). Queues are bounded and copy, so that nothing is shared across the wire.

import {
  emptyStats,
  FRAME_LABEL,
  FrameBatch,
  HEADROOM,
  type Port,
  type PortInfo,
  type PortStats,
  TAILROOM,
} from "./port.ts";
import { ETHERNET_HEADER, SEGMENT_SIZE_UNKNOWN, WireFrames } from "./wire-frames.ts";

export interface MemoryPortOptions {
  readonly name: string;
  readonly mac: Uint8Array;
  readonly mtu?: number;
  /** Frames that may wait to be received. */
  readonly queueFrames?: number;
  /** The longest frame that can be received; more than mtu + 14 lets super-frames in. */
  readonly frameMax?: number;
}

const SENT_ROWS = 64;

/** A ring of slots. Frames taken stay where they are, HEADROOM free in front and TAILROOM behind, until the next take. */
class FrameQueue {
  readonly bytes: Uint8Array;
  readonly #slotBytes: number;
  readonly #frameMax: number;
  readonly #capacity: number;
  readonly #length: Int32Array;
  readonly #flags: Int32Array;
  readonly #segmentSize: Int32Array;
  #head = 0;
  #waiting = 0;
  #borrowed = 0;

  constructor(capacity: number, frameMax: number) {
    this.#capacity = capacity;
    this.#frameMax = frameMax;
    this.#slotBytes = (HEADROOM + frameMax + 63) & ~63;
    this.bytes = new Uint8Array(capacity * this.#slotBytes + TAILROOM);
    this.#length = new Int32Array(capacity);
    this.#flags = new Int32Array(capacity);
    this.#segmentSize = new Int32Array(capacity);
  }

  /** Copy a frame in; false when it is too long or the queue, borrowed frames included, is full. */
  put(bytes: Uint8Array, offset: number, length: number, flags: number, segmentSize: number): boolean {
    if (length > this.#frameMax || this.#borrowed + this.#waiting === this.#capacity) return false;
    const slot = (this.#head + this.#borrowed + this.#waiting++) % this.#capacity;
    this.bytes.set(bytes.subarray(offset, offset + length), slot * this.#slotBytes + HEADROOM);
    this.#length[slot] = length;
    this.#flags[slot] = flags;
    this.#segmentSize[slot] = segmentSize;
    return true;
  }

  /** Give back what was taken before, and lend the next frames to `batch`. */
  take(batch: FrameBatch): number {
    this.#head = (this.#head + this.#borrowed) % this.#capacity;
    this.#borrowed = Math.min(this.#waiting, batch.capacity);
    this.#waiting -= this.#borrowed;
    batch.bytes = this.bytes;
    batch.count = this.#borrowed;
    for (let i = 0; i < batch.count; i++) {
      const slot = (this.#head + i) % this.#capacity;
      batch.offset[i] = slot * this.#slotBytes + HEADROOM;
      batch.length[i] = this.#length[slot];
      batch.flags[i] = this.#flags[slot];
      batch.segmentSize[i] = this.#segmentSize[slot];
    }
    return batch.count;
  }
}

export class MemoryPort implements Port {
  readonly #info: PortInfo;
  readonly #inbound: FrameQueue;
  readonly #stats = emptyStats();
  readonly #wire: WireFrames;
  #outbound: FrameQueue;
  #closed = false;
  #isMirror = false;
  /** What the frame in hand keeps of its flags. */
  #kept = 0;

  /** A port alone: what it sends waits for sent(). */
  constructor(options: MemoryPortOptions) {
    const { name, mac, mtu = 1500, queueFrames = 1024, frameMax = mtu + ETHERNET_HEADER } = options;
    this.#info = { name, mac, mtu, linkUp: true };
    this.#inbound = new FrameQueue(queueFrames, frameMax);
    this.#outbound = new FrameQueue(queueFrames, mtu + ETHERNET_HEADER);
    this.#wire = new WireFrames(mtu, this.#stats, (bytes, offset, length, from, to) =>
      this.#send(bytes, offset, length, from, to),
    );
  }

  /** Two ports joined by a wire. */
  static pair(one: MemoryPortOptions, other: MemoryPortOptions): [MemoryPort, MemoryPort] {
    const ports: [MemoryPort, MemoryPort] = [new MemoryPort(one), new MemoryPort(other)];
    ports[0].#outbound = ports[1].#inbound;
    ports[1].#outbound = ports[0].#inbound;
    return ports;
  }

  /** A port that receives what it sends. */
  static mirror(options: MemoryPortOptions): MemoryPort {
    const port = new MemoryPort(options);
    port.#outbound = port.#inbound;
    port.#isMirror = true;
    return port;
  }

  /** Let a copy of `frame` arrive. False, and counted as a kernel drop, when it is too long or the queue is full. */
  inject(frame: Uint8Array, flags = 0, segmentSize = 0): boolean {
    const isLong = frame.length > this.#info.mtu + ETHERNET_HEADER;
    const size = isLong && segmentSize === 0 ? SEGMENT_SIZE_UNKNOWN : segmentSize;
    const taken = this.#inbound.put(frame, 0, frame.length, flags, size);
    if (!taken) this.#stats.rxKernelDrops++;
    return taken;
  }

  /** Copies of the frames sent since the last call, oldest first. Only for a port alone. */
  sent(): Uint8Array[] {
    const frames: Uint8Array[] = [];
    const batch = new FrameBatch(this.#outbound.bytes, SENT_ROWS);
    while (this.#outbound.take(batch) > 0) {
      for (let i = 0; i < batch.count; i++) {
        frames.push(batch.bytes.slice(batch.offset[i], batch.offset[i] + batch.length[i]));
      }
    }
    return frames;
  }

  info(): PortInfo {
    return this.#info;
  }

  rx(batch: FrameBatch): number {
    if (this.#closed) return (batch.count = 0);
    this.#inbound.take(batch);
    for (let i = 0; i < batch.count; i++) {
      this.#stats.rxFrames++;
      this.#stats.rxBytes += batch.length[i];
      if (batch.segmentSize[i] > 0) this.#stats.superFrames++;
    }
    return batch.count;
  }

  tx(batch: FrameBatch, from: number, to: number): number {
    if (this.#closed) return 0;
    if (!this.#isMirror) return this.#wire.tx(batch, from, to);
    // There is no wire: a flow label stays beside its frame.
    let sent = 0;
    for (let i = from; i < to; i++) {
      this.#kept = batch.flags[i] & FRAME_LABEL;
      sent += this.#wire.tx(batch, i, i + 1);
    }
    return sent;
  }

  stats(): PortStats {
    return { ...this.#stats };
  }

  close(): void {
    this.#closed = true;
  }

  #send(bytes: Uint8Array, offset: Int32Array, length: Int32Array, from: number, to: number): number {
    let sent = 0;
    for (let i = from; i < to; i++) {
      if (this.#outbound.put(bytes, offset[i], length[i], this.#kept, 0)) {
        sent++;
        this.#stats.txFrames++;
        this.#stats.txBytes += length[i];
      } else {
        this.#stats.txFull++;
      }
    }
    return sent;
  }
}
