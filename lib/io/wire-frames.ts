// What every port does to a batch: super-frames are recognized on rx, and on tx become frames that fit the wire. Ports
// differ only in the FrameSender behind. Called by the ports of this folder, never by the engine.

import { PROTOCOL_UDP } from "../wire/flow-key.ts";
import { completeChecksum, protocolOf, segmentFrame, segmentSizeMax, superFrameError } from "../wire/offload.ts";
import { FRAME_CHECKSUM_PARTIAL, type FrameBatch, type PortStats } from "./port.ts";

export const ETHERNET_HEADER = 14;
/** segmentSize of a super-frame whose sender's segment size is not known. */
export const SEGMENT_SIZE_UNKNOWN = 0xffff;
/** The longest frame a device can hand over: a 65,535-byte IP packet behind an Ethernet header. */
export const FRAME_LENGTH_MAX = 65_535 + ETHERNET_HEADER;

const SCRATCH_ROWS = 64;

/** Send rows from..to-1, in order, and count the ones that could not be sent. Returns how many were. */
export type FrameSender = (
  bytes: Uint8Array,
  offset: Int32Array,
  length: Int32Array,
  from: number,
  to: number,
) => number;

/** Set segmentSize for the frames just received: longer than the wire allows is a super-frame, counted in `stats`. */
export function markSuperFrames(batch: FrameBatch, mtu: number, stats: PortStats): void {
  const { length, segmentSize, count } = batch;
  const frameMax = mtu + ETHERNET_HEADER;
  for (let i = 0; i < count; i++) {
    segmentSize[i] = 0;
    if (length[i] > frameMax) {
      segmentSize[i] = SEGMENT_SIZE_UNKNOWN;
      stats.superFrames++;
    }
  }
}

/**
 * Turns rows of a batch into rows the wire takes and passes them on in runs. Only what must be cut is copied, into
 * scratch memory of its own; a partial checksum is completed in place. Frames that the wire cannot take (a runt, or
 * too long and not a super-frame) are counted as txErrors here.
 */
export class WireFrames {
  readonly #mtu: number;
  readonly #stats: PortStats;
  readonly #send: FrameSender;
  readonly #scratch: Uint8Array;
  readonly #scratchOffset = new Int32Array(SCRATCH_ROWS);
  readonly #scratchLength = new Int32Array(SCRATCH_ROWS);

  constructor(mtu: number, stats: PortStats, send: FrameSender) {
    const slot = mtu + ETHERNET_HEADER;
    this.#mtu = mtu;
    this.#stats = stats;
    this.#send = send;
    this.#scratch = new Uint8Array(SCRATCH_ROWS * slot);
    for (let row = 0; row < SCRATCH_ROWS; row++) this.#scratchOffset[row] = row * slot;
  }

  /** Port.tx: returns how many rows of the batch were sent, a super-frame when all its segments were. */
  tx(batch: FrameBatch, from: number, to: number): number {
    const { bytes, offset, length, flags, segmentSize } = batch;
    const frameMax = this.#mtu + ETHERNET_HEADER;
    let sent = 0;
    let run = from;
    for (let i = from; i < to; i++) {
      const isSuper = segmentSize[i] > 0 && length[i] > Math.min(segmentSize[i], frameMax);
      if (isSuper || length[i] > frameMax || length[i] < ETHERNET_HEADER) {
        if (i > run) sent += this.#send(bytes, offset, length, run, i);
        run = i + 1;
        if (isSuper && length[i] >= ETHERNET_HEADER) sent += this.#cut(batch, i);
        else this.#stats.txErrors++;
      } else if ((flags[i] & FRAME_CHECKSUM_PARTIAL) !== 0) {
        completeChecksum(bytes, offset[i]);
        flags[i] &= ~FRAME_CHECKSUM_PARTIAL;
        this.#stats.partialChecksums++;
      }
    }
    if (to > run) sent += this.#send(bytes, offset, length, run, to);
    return sent;
  }

  /** Send the segments of the super-frame in row `row`. Returns 1 when all of them were sent, else 0. */
  #cut(batch: FrameBatch, row: number): number {
    const { bytes } = batch;
    const at = batch.offset[row];
    const partial = (batch.flags[row] & FRAME_CHECKSUM_PARTIAL) !== 0;
    const largest = segmentSizeMax(bytes, at, this.#mtu);
    if (batch.segmentSize[row] > largest && protocolOf(bytes, at + ETHERNET_HEADER) === PROTOCOL_UDP) {
      // A datagram cannot be cut.
      this.#stats.txErrors++;
      return 0;
    }
    const size = Math.min(batch.segmentSize[row], largest);
    const error = superFrameError(bytes, at, partial);
    if (partial) this.#stats.partialChecksums++;
    let made = 0;
    let waiting = 0;
    let sent = 0;
    for (;;) {
      const length = segmentFrame(bytes, at, size, made, error, this.#scratch, this.#scratchOffset[waiting]);
      if (length > 0) {
        this.#scratchLength[waiting++] = length;
        made++;
      }
      if (waiting === SCRATCH_ROWS || length === 0) {
        if (waiting > 0) sent += this.#send(this.#scratch, this.#scratchOffset, this.#scratchLength, 0, waiting);
        waiting = 0;
      }
      if (length === 0) break;
    }
    this.#stats.segments += made;
    if (made === 0) this.#stats.txErrors++;
    return made > 0 && sent === made ? 1 : 0;
  }
}
