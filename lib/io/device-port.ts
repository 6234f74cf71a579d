// What the two ports on Linux network devices have in common: the native handle, the facts, the totals and the end. How
// one is opened, receives and sends is in live-port.ts (libpcap) and afpacket-port.ts (packet sockets).
//
// Both see frames for the device's own MAC address and broadcasts, IPv4 and ARP only (a kernel filter keeps the rest
// away), never their own transmissions, and are not promiscuous.

import { type InterfaceInfo, native, type PortHandle } from "./native.ts";
import { type DevicePort, emptyStats, FrameBatch, type PortInfo, type PortStats } from "./port.ts";
import { KeptFrames, TakenFrames } from "./shared-frames.ts";
import { FRAME_LENGTH_MAX } from "./wire-frames.ts";

export interface DevicePortOptions {
  /** The configuration's interface name. */
  readonly name: string;
  /** The Linux network device. */
  readonly device: string;
  /** Lowers the device's MTU for what this port sends. */
  readonly mtu?: number | undefined;
  /** Instead of "arp or ip, for our MAC address or broadcast". */
  readonly filter?: string;
  /** Instead of "arp or ip" in that. */
  readonly frames?: string;
  /** IPv6 instead, with what is sent to `groups`, or to any where these are not given. */
  readonly ipv6?: boolean;
  readonly promiscuous?: boolean;
  /** MAC addresses of groups whose frames the card is to take, 6 bytes each. */
  readonly groups?: Uint8Array | undefined;
  /** Instead of a device: this end of a wire. */
  readonly end?: WireEnd;
}

/** An end of a wire inside this process: a port on it is a live port in everything but the device. */
export interface WireEnd {
  readonly handle: PortHandle;
  readonly mac: Uint8Array;
}

/** The MTU of a wire inside the process. */
const WIRE_MTU = 1500;

/** A wire; what the port on one end sends, the port on the other receives. Throws an Error with `.code`: ENATIVE, EMFILE. */
export function openWire(): WireEnd[] {
  return native()
    .pairOpen()
    .map((handle, end) => ({ handle, mac: Uint8Array.of(2, 0x57, 0x4d, 0, 1, end + 1) }));
}

/** The device's own facts, as they are before the port is opened. */
interface DeviceFacts {
  readonly mac: Uint8Array;
  readonly deviceMtu: number;
  readonly mtu: number;
  readonly filter: string;
}

/** Frames kept in one go, and batches of them. */
const KEEP_FRAMES = 128;
const KEEP_BATCHES = 64;

const openPorts = new Set<NativePort>();
process.on("exit", () => {
  for (const port of openPorts) port.close();
});

export abstract class NativePort implements DevicePort {
  protected readonly native = native();
  protected readonly device: string;
  protected readonly handle: PortHandle;
  protected readonly memory: Uint8Array;
  /** What is counted in TypeScript; the addon counts the rest. */
  protected readonly counted = emptyStats();
  protected closed = false;
  readonly #name: string;
  readonly #facts: DeviceFacts;
  readonly #totals = new Float64Array(9);
  #bound: FrameBatch | undefined;
  #taken: TakenFrames | null = null;
  #kept: KeptFrames | null = null;
  declare readonly framesMax?: number;
  /** Offloads that were switched off when the port was opened. */
  protected readonly switchedOff: string[] = [];
  fault: Error | undefined;

  /** Throws an Error with `.code`: ENODEV, EPERM, ENETDOWN, ELINKTYPE, EFILTER, and what `open` throws. */
  protected constructor(
    options: DevicePortOptions,
    memoryBytes: number,
    open: (addon: ReturnType<typeof native>, facts: DeviceFacts) => PortHandle,
  ) {
    this.#name = options.name;
    this.device = options.device;
    const { end } = options;
    this.#facts =
      end === undefined ? readFacts(options) : { mac: end.mac, deviceMtu: WIRE_MTU, mtu: WIRE_MTU, filter: "" };
    this.handle = end === undefined ? open(this.native, this.#facts) : end.handle;
    this.memory = new Uint8Array(memoryBytes);
    openPorts.add(this);
    if (options.groups !== undefined) this.#join(options.groups);
  }

  #join(groups: Uint8Array): void {
    try {
      this.native.portJoin(this.handle, this.device, groups);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  protected get facts(): DeviceFacts {
    return this.#facts;
  }

  /** Asks the device for its link state; not for every packet. */
  info(): PortInfo {
    return {
      name: this.#name,
      mac: this.#facts.mac,
      mtu: this.#facts.mtu,
      linkUp: this.fault === undefined && (this.#interfaceInfo()?.running ?? false),
    };
  }

  rx(batch: FrameBatch): number {
    if (this.#kept !== null) return this.#takeKept(batch, this.#kept);
    this.#receive(batch);
    if (this.#taken !== null) this.#taken.add(batch);
    return batch.count;
  }

  #receive(batch: FrameBatch): number {
    batch.bytes = this.memory;
    batch.count = 0;
    if (this.closed) return 0;
    try {
      if (batch !== this.#bound) {
        const { offset, length, flags, segmentSize } = batch;
        this.native.portBind(this.handle, this.memory, offset, length, flags, segmentSize);
        this.#bound = batch;
      }
      batch.count = this.native.portRx(this.handle);
    } catch (error) {
      this.fault = error as Error;
    }
    return batch.count;
  }

  abstract tx(batch: FrameBatch, from: number, to: number): number;

  #takeKept(batch: FrameBatch, kept: KeptFrames): number {
    kept.take(batch, Math.min(batch.capacity, this.framesMax ?? batch.capacity));
    if (kept.count === 0) this.#kept = null;
    return batch.count;
  }

  writeDown(seed: number | null): void {
    this.#taken = seed === null ? null : new TakenFrames(seed);
  }

  taken(): Float64Array {
    return this.#taken?.hashes() ?? new Float64Array(0);
  }

  get changed(): readonly string[] {
    return this.switchedOff;
  }

  leave(): void {
    this.switchedOff.length = 0;
    this.close();
  }

  keep(): void {
    this.#kept ??= new KeptFrames();
    this.#keeping ??= new FrameBatch(this.memory, Math.min(this.framesMax ?? KEEP_FRAMES, KEEP_FRAMES));
    for (let n = 0; n < KEEP_BATCHES && this.#kept.hasRoom(KEEP_FRAMES, FRAME_LENGTH_MAX); n++) {
      if (this.#receive(this.#keeping) === 0) break;
      this.#kept.add(this.#keeping);
    }
  }

  #keeping: FrameBatch | undefined;

  goOn(seed: number, taken: Float64Array, changed: readonly string[], stats: PortStats): void {
    this.keep();
    const { frames, bytes } = this.#kept!.leaveOut(seed, taken);
    if (this.#kept!.count === 0) this.#kept = null;
    this.#keeping = undefined;
    for (const name of changed) if (!this.switchedOff.includes(name)) this.switchedOff.push(name);
    for (const name of Object.keys(stats) as (keyof PortStats)[])
      this.counted[name] = (this.counted[name] ?? 0) + (stats[name] ?? 0);
    this.counted.rxFrames -= frames;
    this.counted.rxBytes -= bytes;
  }

  stats(): PortStats {
    this.native.portStats(this.handle, this.#totals);
    const [rxFrames, rxBytes, txFrames, txBytes, rxKernelDrops, txFull, txErrors, superFrames, partialChecksums] =
      this.#totals;
    const { counted } = this;
    return {
      rxFrames: rxFrames + counted.rxFrames,
      rxBytes: rxBytes + counted.rxBytes,
      txFrames: txFrames + counted.txFrames,
      txBytes: txBytes + counted.txBytes,
      rxKernelDrops: rxKernelDrops + counted.rxKernelDrops,
      txFull: txFull + counted.txFull,
      txErrors: txErrors + counted.txErrors,
      superFrames: superFrames + counted.superFrames,
      segments: counted.segments,
      partialChecksums: partialChecksums + counted.partialChecksums,
    };
  }

  fanout(group: number, program: Uint8Array): number {
    return this.native.portFanout(this.handle, group, program);
  }

  onReadable(wake: () => void): void {
    this.native.portWatch(this.handle, wake);
  }

  waitFor(waits: boolean): void {
    this.native.portWait(this.handle, waits);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    openPorts.delete(this);
    this.native.portClose(this.handle);
  }

  #interfaceInfo(): InterfaceInfo | undefined {
    try {
      return this.native.interfaceInfo(this.device, new Uint8Array(6));
    } catch {
      return undefined;
    }
  }
}

function readFacts(options: DevicePortOptions): DeviceFacts {
  const mac = new Uint8Array(6);
  const deviceMtu = native().interfaceInfo(options.device, mac).mtu;
  const frames = options.frames ?? (options.ipv6 ? "ip6" : "arp or ip");
  return {
    mac,
    deviceMtu,
    mtu: Math.min(options.mtu ?? deviceMtu, deviceMtu),
    filter: options.filter ?? `(${frames}) and (ether dst ${macText(mac)} or ${groupsFilter(options)})`,
  };
}

/** Broadcasts, or of IPv6 what is sent to groups: to the given ones, or to any (33:33, RFC 2464, 7). */
function groupsFilter({ ipv6, groups }: DevicePortOptions): string {
  if (!ipv6) return "ether broadcast";
  if (groups === undefined) return "ether[0:2] = 0x3333";
  const macs = Array.from({ length: groups.length / 6 }, (_, n) => macText(groups.subarray(6 * n, 6 * n + 6)));
  return macs.map((mac) => `ether dst ${mac}`).join(" or ");
}

function macText(mac: Uint8Array): string {
  return Buffer.from(mac)
    .toString("hex")
    .replace(/..(?!$)/g, "$&:");
}
