// A port on a Linux network device, through libpcap. Works wherever libpcap does.
//
// GRO and LRO are switched off while it is open and put back on close() and on process exit. Super-frames still come
// where the sender's own offloads made them (veth, virtio): the snaplen takes them whole and tx segments them.

import { type DevicePortOptions, NativePort } from "./device-port.ts";
import { type FrameBatch, HEADROOM, TAILROOM } from "./port.ts";
import { FRAME_LENGTH_MAX, markSuperFrames, WireFrames } from "./wire-frames.ts";

export interface LivePortOptions extends DevicePortOptions {
  /** Frames at once (the default), or in blocks up to timeoutMs old, which costs far less work a frame. */
  readonly immediate?: boolean;
  readonly timeoutMs?: number;
  /**
   * The kernel's ring. In immediate mode its slots are of equal size. On a device with segmentation offloads a slot
   * holds the longest frame: 32 MiB are 512 frames (and cost the kernel twice that, in whole blocks); on a device
   * without, 21,000. Not immediate, frames lie close: 32 MiB hold whatever is 32 MiB long.
   */
  readonly bufferBytes?: number;
  readonly snaplen?: number;
}

const RING_BYTES = 32 << 20;
/** Memory for one batch: 1,000 frames of 1,514 bytes, or 31 of the longest. */
const MEMORY_BYTES = 2 << 20;

const OFFLOADS = ["gro", "lro"] as const;

export class LivePort extends NativePort {
  readonly #wire: WireFrames;

  /** Why GRO or LRO could not be switched off; undefined when they are off. Frames are handled right all the same. */
  readonly offloadError: Error | undefined;

  /** Throws an Error with `.code`: ENODEV, EPERM, ENETDOWN, ELINKTYPE, EFILTER. */
  constructor(options: LivePortOptions) {
    const snaplen = options.snaplen ?? FRAME_LENGTH_MAX;
    super(options, Math.max(MEMORY_BYTES, HEADROOM + snaplen + 64 + TAILROOM), (addon, { filter }) =>
      addon.portOpen(
        options.device,
        filter,
        snaplen,
        options.bufferBytes ?? RING_BYTES,
        options.timeoutMs ?? 1,
        options.immediate ?? true,
        options.promiscuous ?? false,
      ),
    );
    this.#wire = new WireFrames(this.facts.mtu, this.counted, (bytes, offset, length, from, to) =>
      this.native.portTx(this.handle, bytes, offset, length, from, to),
    );
    // After opening: libpcap sizes the ring's slots by the offloads that are on when it opens the device.
    this.offloadError = options.end === undefined ? this.#switchOffloadsOff() : undefined;
  }

  override rx(batch: FrameBatch): number {
    if (super.rx(batch) > 0) markSuperFrames(batch, this.facts.deviceMtu, this.counted);
    return batch.count;
  }

  tx(batch: FrameBatch, from: number, to: number): number {
    return this.closed ? 0 : this.#wire.tx(batch, from, to);
  }

  override close(): void {
    if (this.closed) return;
    super.close();
    for (const offload of OFFLOADS) {
      try {
        if (this.switchedOff.includes(offload)) this.native.offload(this.device, offload, 1);
      } catch {
        // The device is gone, and its settings with it.
      }
    }
  }

  #switchOffloadsOff(): Error | undefined {
    try {
      for (const offload of OFFLOADS) {
        if (this.native.offload(this.device, offload, 0) === 1) this.switchedOff.push(offload);
      }
      return undefined;
    } catch (error) {
      return error as Error;
    }
  }
}
