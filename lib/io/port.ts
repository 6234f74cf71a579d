// The seam between the engine and whatever carries frames: libpcap, memory, a capture file. Five calls and one
// layout; test/contract/port-contract.ts is the definition in executable form, and every port passes it.

import { viewOf } from "../base/bytes.ts";

/** Bytes kept free in front of every received frame: metadata slides the headers left into it, the payload never moves. */
export const HEADROOM = 512;
/**
 * Bytes free behind every received frame, for padding, IV and digest. They may be the first of the next frame's headroom:
 * what is put in front of a frame may be HEADROOM - TAILROOM long.
 */
export const TAILROOM = 64;

/** A flag column bit: the L4 checksum field holds only the pseudo-header sum (a local sender left the rest to hardware). */
export const FRAME_CHECKSUM_PARTIAL = 1;
/** A flag column bit: the frame was captured only in part. */
export const FRAME_TRUNCATED = 2;
/** A flag column bit: FRAME_CHECKSUM_PARTIAL is what the kernel says. Without it, nobody has looked yet. */
export const FRAME_CHECKSUM_KNOWN = 4;

/** A flag column bit: the port refuses the frame, which is nobody's then. Why (a verdict) stands from FRAME_REFUSED_SHIFT on. */
export const FRAME_REFUSED = 1 << 29;
export const FRAME_REFUSED_SHIFT = 8;
const REASON_MASK = 0xf_ffff;

/** A flag column bit: the frame came over IPv6, and from FRAME_LABEL_SHIFT on is its flow label, 20 bits (RFC 6437). */
export const FRAME_LABELLED = 1 << 28;
export const FRAME_LABEL_SHIFT = 8;
/** A flag column bit: the frame is of an IPv6 session, so that its identification is what an IPv4 path left of its flow label. */
export const FRAME_OF_IPV6 = 1 << 31;
/** What a frame keeps of the flag column on its way through the router: its flow label, and whether it has one. */
export const FRAME_LABEL = FRAME_LABELLED | (0xf_ffff << FRAME_LABEL_SHIFT) | FRAME_OF_IPV6;
/** A flag column bit: the label is not the frame's, an ICMP error, but that of the packet which it quotes. */
export const FRAME_LABEL_QUOTED = 1 << 30;

/** The flag column of a frame that a port refuses for `verdict`. */
export const refusedFor = (verdict: number): number => FRAME_REFUSED | (verdict << FRAME_REFUSED_SHIFT);

/** Why the port refuses a frame with these flags; 0 = it does not. */
export const refusalOf = (flags: number): number =>
  (flags & FRAME_REFUSED) === 0 ? 0 : (flags >>> FRAME_REFUSED_SHIFT) & REASON_MASK;

/** In the segmentSize column: a super-frame whose sender's segment size is not known. */
export const SEGMENT_SIZE_UNKNOWN = 0xffff;

/**
 * Columns that describe frames in one memory. `offset[i]`..`offset[i]+length[i]` is frame i, an Ethernet frame without
 * FCS. `segmentSize[i]` is 0, or the payload bytes per segment of a super-frame (a frame that stands for several TCP
 * segments or UDP datagrams on the wire; 0xFFFF = a super-frame whose sender's segment size is unknown, or which is
 * neither). Shared with native/batch.h.
 */
export class FrameBatch {
  #bytes: Uint8Array;
  #view: DataView | null = null;
  readonly offset: Int32Array;
  readonly length: Int32Array;
  readonly flags: Int32Array;
  readonly segmentSize: Int32Array;
  /** Frames in the batch. */
  count = 0;
  readonly capacity: number;

  constructor(bytes: Uint8Array, capacity: number) {
    this.#bytes = bytes;
    this.capacity = capacity;
    this.offset = new Int32Array(capacity);
    this.length = new Int32Array(capacity);
    this.flags = new Int32Array(capacity);
    this.segmentSize = new Int32Array(capacity);
  }

  /** The memory in which the frames lie. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  set bytes(bytes: Uint8Array) {
    if (bytes === this.#bytes) return;
    this.#bytes = bytes;
    this.#view = null;
  }

  /** The same memory, for whole words; made anew only when the memory is another. */
  get view(): DataView {
    this.#view ??= viewOf(this.#bytes);
    return this.#view;
  }
}

/** What a port is, fixed while it is open (linkUp may change). */
export interface PortInfo {
  /** The configuration's interface name. */
  readonly name: string;
  /** The device's MAC address, 6 bytes. */
  readonly mac: Uint8Array;
  /** Largest IP packet in bytes. */
  readonly mtu: number;
  readonly linkUp: boolean;
}

/** Totals since open. Received and sent are frames; the drops are named by who lost them. */
export interface PortStats {
  rxFrames: number;
  rxBytes: number;
  txFrames: number;
  txBytes: number;
  /** Lost by the kernel because this process did not fetch them in time. */
  rxKernelDrops: number;
  /** Refused by the device's transmit queue. */
  txFull: number;
  /** Refused for another reason (link down, message too long). */
  txErrors: number;
  /** Super-frames received, and frames that this process made of super-frames on transmit. */
  superFrames: number;
  segments: number;
  /** Frames sent whose checksum was partial: completed here, or left to the kernel. */
  partialChecksums: number;
  /** Packets received, or pieces of some, that went on without their IPv6 extension headers. Only where the wire is IPv6. */
  extensionsRemoved?: number;
  /** Of those that were refused for their extension headers, those whose sender was told. Only where the wire is IPv6. */
  parameterProblems?: number;
}

export interface Port {
  /** It sends super-frames as they are, so it is worth while to make some; absent: it cuts them. */
  readonly takesSuperFrames?: boolean;

  /** The most frames that one call of rx gives; absent: as many as the batch holds. */
  readonly framesMax?: number;

  info(): PortInfo;

  /**
   * Fill `batch` from its start with up to `batch.capacity` waiting frames and set `batch.count`; never blocks. The port
   * sets batch.bytes to its own memory. Frames are borrowed until the next rx of the same port; the caller may change
   * them in place, use HEADROOM - TAILROOM bytes in front of each and TAILROOM behind it. Returns the count.
   */
  rx(batch: FrameBatch): number;

  /**
   * Send frames from..to-1 of `batch`, in order; the port is done with the bytes when it returns. A super-frame is
   * segmented and a partial checksum completed unless the kernel does it. `segmentSize` 0xFFFF means: by the port's MTU.
   * Returns how many of them were sent; the rest are counted in stats (txFull, txErrors), never silently lost.
   */
  tx(batch: FrameBatch, from: number, to: number): number;

  stats(): PortStats;

  /** Release everything, put device settings back. Safe to call twice. */
  close(): void;
}

/** A port whose owner wants to be woken instead of polling. */
export interface WakingPort extends Port {
  /** Call `wake` (on the event loop, level-triggered) while frames wait to be received. */
  onReadable(wake: () => void): void;

  /**
   * Call `wake` no more, until `waits` is true again. Who polls the port anyway should say so: a kernel tells whoever
   * waits on a socket of every frame that comes and every frame that leaves.
   */
  waitFor(waits: boolean): void;
}

/** A port on a network device. */
export interface DevicePort extends WakingPort {
  /** Why frames can no longer be received (the device is gone); undefined while all is well. */
  readonly fault: Error | undefined;

  /**
   * Share the device with the ports of other workers: join `group` of it, -1 = a new one, whose frames `program` (an array
   * of struct sock_filter) hands out. Returns the group, for the others to join.
   */
  fanout(group: number, program: Uint8Array): number;

  // Of two processes where one takes over from the other (shared-frames.ts): who leaves calls the first four, who comes
  // the last two.

  /** Write down from now on which frames rx gives; null = no longer. */
  writeDown(seed: number | null): void;

  /** Frames written down, as hashes. */
  taken(): Float64Array;

  /** Device settings that were changed when the port was opened, and are put back when it is closed. */
  readonly changed: readonly string[];

  /** Close, and leave the device's settings as they are. */
  leave(): void;

  /** Keep what arrives until `goOn`. Call it again and again: it takes what the kernel has. */
  keep(): void;

  /** Give what was kept, without what another process has taken, then what comes; that process's settings and totals are ours. */
  goOn(seed: number, taken: Float64Array, changed: readonly string[], stats: PortStats): void;
}

export function emptyStats(): PortStats {
  return {
    rxFrames: 0,
    rxBytes: 0,
    txFrames: 0,
    txBytes: 0,
    rxKernelDrops: 0,
    txFull: 0,
    txErrors: 0,
    superFrames: 0,
    segments: 0,
    partialChecksums: 0,
  };
}
