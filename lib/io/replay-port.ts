// Captures instead of a device: frames enter from one file as the clock reaches their time stamps, and what leaves is
// written to another, stamped with the clock. The clock's 0 is a whole second since the epoch, the port's origin.
// Several ports are merged by their owner: startTogether(ports) once, then again and again move the clock to the
// smallest nextMs() and let the engine turn.

import type { Clock } from "../base/clock.ts";
import { CaptureReader, CaptureWriter, LINK_TYPE_ETHERNET } from "./pcap-file.ts";
import { emptyStats, FrameBatch, HEADROOM, type Port, type PortInfo, type PortStats, TAILROOM } from "./port.ts";
import { FRAME_LENGTH_MAX, markSuperFrames, WireFrames } from "./wire-frames.ts";

export interface ReplayPortOptions {
  readonly name: string;
  readonly mac: Uint8Array;
  readonly mtu?: number;
  readonly clock: Clock;
  /** The capture to receive from; left out, nothing is received. */
  readonly rxPath?: string;
  /** The capture to write; left out, what is sent is counted only. */
  readonly txPath?: string;
  /** Take the bytes of a capture of another link type as if they were Ethernet frames: robustness tests. */
  readonly anyLinkType?: boolean;
}

/** Frames read ahead from the file. */
const STAGED_FRAMES = 64;
const STAGED_BYTES = 4 * (HEADROOM + FRAME_LENGTH_MAX + 64) + TAILROOM;

export class ReplayPort implements Port {
  readonly #info: PortInfo;
  readonly #clock: Clock;
  readonly #stats = emptyStats();
  readonly #wire: WireFrames;
  readonly #reader: CaptureReader | undefined;
  readonly #writer: CaptureWriter | undefined;
  // Frames are borrowed from one batch while the next are read into the other.
  #staged = new FrameBatch(new Uint8Array(STAGED_BYTES), STAGED_FRAMES);
  #lent = new FrameBatch(new Uint8Array(STAGED_BYTES), STAGED_FRAMES);
  #next = 0;
  #closed = false;

  /** Since the epoch, of the clock's 0. At first the second of the first frame. */
  originSeconds = 0;
  /** Why rx ended early: the file is damaged behind the frames received so far. */
  fault: Error | undefined;

  /** Throws as CaptureReader and CaptureWriter do, and ELINKTYPE when the capture is not of Ethernet frames. */
  constructor(options: ReplayPortOptions) {
    const { name, mac, mtu = 1500, clock, rxPath, txPath } = options;
    this.#info = { name, mac, mtu, linkUp: true };
    this.#clock = clock;
    this.#wire = new WireFrames(mtu, this.#stats, (bytes, offset, length, from, to) =>
      this.#send(bytes, offset, length, from, to),
    );
    if (rxPath !== undefined) {
      this.#reader = new CaptureReader(rxPath, STAGED_FRAMES);
      const { linkType, linkTypeName } = this.#reader;
      if (linkType !== LINK_TYPE_ETHERNET && options.anyLinkType !== true) {
        this.#reader.close();
        throw Object.assign(
          new Error(`${rxPath} holds ${linkTypeName} frames, not Ethernet: capture on an Ethernet device.`),
          { code: "ELINKTYPE" },
        );
      }
      this.#readAhead();
      if (this.#staged.count > 0) this.originSeconds = this.#reader.seconds[0];
    }
    if (txPath !== undefined) this.#writer = new CaptureWriter(txPath);
  }

  /** Clock time of the next frame, with a fraction; Infinity when there is none. May be earlier than one before. */
  nextMs(): number {
    if (this.#reader === undefined || this.#next === this.#staged.count) return Number.POSITIVE_INFINITY;
    const seconds = this.#reader.seconds[this.#next] - this.originSeconds;
    return seconds * 1000 + this.#reader.nanoseconds[this.#next] / 1e6;
  }

  info(): PortInfo {
    return this.#info;
  }

  /** Frames stamped up to the clock's now. */
  rx(batch: FrameBatch): number {
    const now = this.#clock.nowMs();
    const from = this.#staged;
    batch.bytes = from.bytes;
    batch.count = 0;
    while (!this.#closed && batch.count < batch.capacity && this.nextMs() <= now) {
      const i = batch.count++;
      batch.offset[i] = from.offset[this.#next];
      batch.length[i] = from.length[this.#next];
      batch.flags[i] = from.flags[this.#next++];
      this.#stats.rxFrames++;
      this.#stats.rxBytes += batch.length[i];
    }
    if (this.#next === from.count && batch.count > 0) this.#readAhead();
    markSuperFrames(batch, this.#info.mtu, this.#stats);
    return batch.count;
  }

  tx(batch: FrameBatch, from: number, to: number): number {
    return this.#closed ? 0 : this.#wire.tx(batch, from, to);
  }

  stats(): PortStats {
    return { ...this.#stats };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#reader?.close();
    this.#writer?.close();
  }

  /** Read the next frames into the batch that is not lent; the lent one is free again after the next rx. */
  #readAhead(): void {
    const free = this.#lent;
    this.#lent = this.#staged;
    this.#staged = free;
    this.#next = 0;
    try {
      this.#reader?.read(free);
    } catch (error) {
      this.fault = error as Error;
    }
  }

  #send(bytes: Uint8Array, offset: Int32Array, length: Int32Array, from: number, to: number): number {
    this.#writer?.write(bytes, offset, length, from, to, this.originSeconds, this.#clock.nowMs());
    for (let i = from; i < to; i++) this.#stats.txBytes += length[i];
    this.#stats.txFrames += to - from;
    return to - from;
  }
}

/** Give all ports the earliest origin among those that have frames, so that one clock serves them. */
export function startTogether(ports: readonly ReplayPort[]): void {
  const origins = ports.filter((port) => port.nextMs() !== Number.POSITIVE_INFINITY).map((port) => port.originSeconds);
  const origin = origins.length > 0 ? Math.min(...origins) : 0;
  for (const port of ports) port.originSeconds = origin;
}
