// Capture files, through libpcap's own savefile functions in the addon: pcap and pcapng in, nanosecond pcap out.
// Both throw an Error with `.code` (an errno name, or ECAPTURE for a file that is none or is damaged).

import { native } from "./native.ts";
import type { FrameBatch } from "./port.ts";

/** DLT_EN10MB, the link type of Ethernet. */
export const LINK_TYPE_ETHERNET = 1;

const SNAPLEN_MAX = 262_144;
/** January 2038: libpcap reads the unsigned seconds of the format back as signed. */
const SECONDS_MAX = 0x7fff_ffff;
const NANOSECONDS_MAX = 999_999_999;

/** Reads a capture file from start to end, many frames a call. */
export class CaptureReader {
  readonly linkType: number;
  /** As libpcap calls it: EN10MB, RAW, IEEE802_11, ... */
  readonly linkTypeName: string;
  readonly snaplen: number;
  /** Time stamps of the frames of the last read, since the epoch. */
  readonly seconds: Float64Array;
  readonly nanoseconds: Int32Array;
  readonly #native = native();
  readonly #handle;
  #bound: FrameBatch | undefined;

  /** `capacity`: the most frames a read may return. */
  constructor(path: string, capacity = 256) {
    this.seconds = new Float64Array(capacity);
    this.nanoseconds = new Int32Array(capacity);
    this.#handle = this.#native.readerOpen(path);
    ({
      linkType: this.linkType,
      linkTypeName: this.linkTypeName,
      snaplen: this.snaplen,
    } = this.#native.readerInfo(this.#handle));
  }

  /**
   * Fill `batch` (into batch.bytes, with HEADROOM in front of each frame and TAILROOM behind) with the next frames. Returns their count, 0
   * at the end. Throws where the file is damaged, after the frames before the damage were returned.
   */
  read(batch: FrameBatch): number {
    if (batch !== this.#bound) {
      const { bytes, offset, length, flags } = batch;
      this.#native.readerBind(this.#handle, bytes, offset, length, flags, this.seconds, this.nanoseconds);
      this.#bound = batch;
    }
    batch.count = 0;
    batch.count = this.#native.readerRead(this.#handle);
    return batch.count;
  }

  close(): void {
    this.#native.readerClose(this.#handle);
  }
}

/** Writes a capture file; an existing one is replaced. */
export class CaptureWriter {
  readonly #native = native();
  readonly #handle;

  constructor(path: string, linkType = LINK_TYPE_ETHERNET) {
    this.#handle = this.#native.writerOpen(path, linkType, SNAPLEN_MAX);
  }

  /** Append frames with the time stamp originSeconds (a whole number) since the epoch plus `ms`. */
  write(
    bytes: Uint8Array,
    offset: Int32Array,
    length: Int32Array,
    from: number,
    to: number,
    originSeconds: number,
    ms: number,
  ): void {
    const wholeSeconds = Math.floor(ms / 1000);
    const seconds = Math.min(Math.max(originSeconds + wholeSeconds, 0), SECONDS_MAX);
    const nanoseconds = Math.min(Math.round((ms - wholeSeconds * 1000) * 1e6), NANOSECONDS_MAX);
    this.#native.writerWrite(this.#handle, bytes, offset, length, from, to, seconds, nanoseconds);
  }

  flush(): void {
    this.#native.writerFlush(this.#handle);
  }

  /** Flush and close. Throws when the last frames could not be written. */
  close(): void {
    this.#native.writerClose(this.#handle);
  }
}
