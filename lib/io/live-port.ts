// A port on a Linux network device, through libpcap. It sees frames for the device's own MAC address and broadcasts,
// IPv4 and ARP only (a kernel filter keeps the rest away), never its own transmissions, and is not promiscuous.
//
// GRO and LRO are switched off while it is open and put back on close() and on process exit. Super-frames still come
// where the sender's own offloads made them (veth, virtio): the snaplen takes them whole and tx segments them.

import { type InterfaceInfo, native, type PortHandle } from "./native.ts";
import { emptyStats, type FrameBatch, HEADROOM, type PortInfo, type PortStats, type WakingPort } from "./port.ts";
import { FRAME_LENGTH_MAX, markSuperFrames, WireFrames } from "./wire-frames.ts";

export interface LivePortOptions {
  /** The configuration's interface name. */
  readonly name: string;
  /** The Linux network device. */
  readonly device: string;
  /** Lowers the device's MTU for what this port sends. */
  readonly mtu?: number | undefined;
  /** Instead of "arp or ip, for our MAC address or broadcast". */
  readonly filter?: string;
  readonly promiscuous?: boolean;
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

const openPorts = new Set<LivePort>();
process.on("exit", () => {
  for (const port of openPorts) port.close();
});

export class LivePort implements WakingPort {
  readonly #native = native();
  readonly #name: string;
  readonly #device: string;
  readonly #mac = new Uint8Array(6);
  readonly #deviceMtu: number;
  readonly #mtu: number;
  readonly #handle: PortHandle;
  readonly #memory: Uint8Array;
  readonly #wire: WireFrames;
  readonly #stats = emptyStats();
  readonly #totals = new Float64Array(7);
  readonly #switchedOff: (typeof OFFLOADS)[number][] = [];
  #bound: FrameBatch | undefined;
  #closed = false;

  /** Why GRO or LRO could not be switched off; undefined when they are off. Frames are handled right all the same. */
  readonly offloadError: Error | undefined;
  /** Why frames can no longer be received (the device is gone); undefined while all is well. */
  fault: Error | undefined;

  /** Throws an Error with `.code`: ENODEV, EPERM, ENETDOWN, ELINKTYPE, EFILTER. */
  constructor(options: LivePortOptions) {
    const { device } = options;
    const snaplen = options.snaplen ?? FRAME_LENGTH_MAX;
    this.#name = options.name;
    this.#device = device;
    this.#deviceMtu = this.#native.interfaceInfo(device, this.#mac).mtu;
    this.#mtu = Math.min(options.mtu ?? this.#deviceMtu, this.#deviceMtu);
    const mac = Buffer.from(this.#mac)
      .toString("hex")
      .replace(/..(?!$)/g, "$&:");
    this.#handle = this.#native.portOpen(
      device,
      options.filter ?? `(arp or ip) and (ether dst ${mac} or ether broadcast)`,
      snaplen,
      options.bufferBytes ?? RING_BYTES,
      options.timeoutMs ?? 1,
      options.immediate ?? true,
      options.promiscuous ?? false,
    );
    this.#memory = new Uint8Array(Math.max(MEMORY_BYTES, HEADROOM + snaplen + 64));
    this.#wire = new WireFrames(this.#mtu, this.#stats, (bytes, offset, length, from, to) =>
      this.#native.portTx(this.#handle, bytes, offset, length, from, to),
    );
    // After opening: libpcap sizes the ring's slots by the offloads that are on when it opens the device.
    this.offloadError = this.#switchOffloadsOff();
    openPorts.add(this);
  }

  /** Asks the device for its link state; not for every packet. */
  info(): PortInfo {
    return {
      name: this.#name,
      mac: this.#mac,
      mtu: this.#mtu,
      linkUp: this.fault === undefined && (this.#interfaceInfo()?.running ?? false),
    };
  }

  rx(batch: FrameBatch): number {
    batch.bytes = this.#memory;
    batch.count = 0;
    if (this.#closed) return 0;
    try {
      if (batch !== this.#bound) {
        this.#native.portBind(this.#handle, this.#memory, batch.offset, batch.length, batch.flags);
        this.#bound = batch;
      }
      batch.count = this.#native.portRx(this.#handle);
    } catch (error) {
      this.fault = error as Error;
    }
    if (batch.count > 0) markSuperFrames(batch, this.#deviceMtu, this.#stats);
    return batch.count;
  }

  tx(batch: FrameBatch, from: number, to: number): number {
    return this.#closed ? 0 : this.#wire.tx(batch, from, to);
  }

  stats(): PortStats {
    this.#native.portStats(this.#handle, this.#totals);
    const [rxFrames, rxBytes, txFrames, txBytes, rxKernelDrops, txFull, txErrors] = this.#totals;
    const { superFrames, segments, partialChecksums } = this.#stats;
    return {
      rxFrames,
      rxBytes,
      txFrames,
      txBytes,
      rxKernelDrops,
      txFull,
      txErrors: txErrors + this.#stats.txErrors,
      superFrames,
      segments,
      partialChecksums,
    };
  }

  /** Share the device with the ports of other workers; see portFanout. Returns the group to join. */
  fanout(group: number, program: Uint8Array): number {
    return this.#native.portFanout(this.#handle, group, program);
  }

  onReadable(wake: () => void): void {
    this.#native.portWatch(this.#handle, wake);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    openPorts.delete(this);
    this.#native.portClose(this.#handle);
    for (const offload of this.#switchedOff) {
      try {
        this.#native.offload(this.#device, offload, 1);
      } catch {
        // The device is gone, and its settings with it.
      }
    }
  }

  #switchOffloadsOff(): Error | undefined {
    try {
      for (const offload of OFFLOADS) {
        if (this.#native.offload(this.#device, offload, 0) === 1) this.#switchedOff.push(offload);
      }
      return undefined;
    } catch (error) {
      return error as Error;
    }
  }

  #interfaceInfo(): InterfaceInfo | undefined {
    try {
      return this.#native.interfaceInfo(this.#device, new Uint8Array(6));
    } catch {
      return undefined;
    }
  }
}
