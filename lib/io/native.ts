// The one place that loads the native addon and says what is in it. native/README.md has the contract. Loaded on first
// use, so that commands without live ports or capture files work without it.

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { CryptoAddon } from "../base/crypto-addon.ts";
import { invariant } from "../base/invariant.ts";
import { FRAME_CHECKSUM_KNOWN, FRAME_CHECKSUM_PARTIAL, FRAME_TRUNCATED, HEADROOM, TAILROOM } from "./port.ts";

declare const kind: unique symbol;
export interface PortHandle {
  readonly [kind]: "port";
}
export interface ReaderHandle {
  readonly [kind]: "reader";
}
export interface WriterHandle {
  readonly [kind]: "writer";
}

/** Facts about a network device that may change while it exists. */
export interface InterfaceInfo {
  readonly mtu: number;
  /** Administratively up. */
  readonly up: boolean;
  /** Up, and the link works. */
  readonly running: boolean;
  readonly ethernet: boolean;
}

/** Every function throws an Error with `.code` (an errno name, EFILTER, ELINKTYPE, EOFFLOAD or ECAPTURE) and a sentence. */
export interface NativeAddon extends CryptoAddon {
  readonly headroom: number;
  readonly tailroom: number;
  /** The three bits of the flags column, a byte each. */
  readonly frameFlags: number;
  /** Memory that a port of packetOpen needs for each frame of a batch. */
  readonly packetSlotBytes: number;

  portOpen(
    device: string,
    filter: string,
    snaplen: number,
    bufferBytes: number,
    timeoutMs: number,
    immediate: boolean,
    promiscuous: boolean,
  ): PortHandle;
  /** A port that carries super-frames and partial checksums. EOFFLOAD where the kernel cannot. */
  packetOpen(
    device: string,
    filter: string,
    deviceMtu: number,
    mtu: number,
    bufferBytes: number,
    promiscuous: boolean,
  ): PortHandle;
  /** Two ports without a device, each the far end of the other: frames of up to 2,048 bytes. */
  pairOpen(): [PortHandle, PortHandle];
  /** Where portRx puts frames from now on; the handle keeps the arrays alive. Never transfer them meanwhile. */
  portBind(
    port: PortHandle,
    memory: Uint8Array,
    offset: Int32Array,
    length: Int32Array,
    flags: Int32Array,
    segmentSize: Int32Array,
  ): void;
  /** Fills memory, offset, length and flags; segmentSize only for a port of packetOpen. */
  portRx(port: PortHandle): number;
  portTx(port: PortHandle, bytes: Uint8Array, offset: Int32Array, length: Int32Array, from: number, to: number): number;
  /**
   * For a port of packetOpen: send frames with what their flags and segmentSize say left to the kernel. stopped[0] is
   * `to`, or the row that must be finished in software first; stopped[1] is 1 when the kernel had refused it.
   */
  portTxOffload(
    port: PortHandle,
    bytes: Uint8Array,
    offset: Int32Array,
    length: Int32Array,
    flags: Int32Array,
    segmentSize: Int32Array,
    from: number,
    to: number,
    stopped: Int32Array,
  ): number;
  /** Fills rxFrames, rxBytes, txFrames, txBytes, kernelDrops, txFull, txErrors, superFrames, partialChecksums. */
  portStats(port: PortHandle, totals: Float64Array): void;
  /**
   * Share the device's frames with the other members of `group`, -1 = a new group, which `program` (steering-program.ts)
   * hands out. Returns the group. Members are numbered in the order in which they joined.
   */
  portFanout(port: PortHandle, group: number, program: Uint8Array): number;
  /** The device's card takes frames for these groups too, MAC addresses of 6 bytes each, until the port is closed. Once a port. */
  portJoin(port: PortHandle, device: string, groups: Uint8Array): void;
  portWatch(port: PortHandle, wake: () => void): void;
  /** Whether a watched port calls back; it does from portWatch on. */
  portWait(port: PortHandle, waits: boolean): void;
  portClose(port: PortHandle): void;

  /** The microseconds of CLOCK_MONOTONIC become the first element. */
  clock(us: Float64Array): void;

  /** Let whoever else is ready on this processor run first. */
  yield(): void;

  /** Zeroed memory for a table, in huge pages where the kernel has them. */
  memory(bytes: number): ArrayBuffer;

  interfaceInfo(device: string, mac: Uint8Array): InterfaceInfo;
  /** `change`: -1 leave, 0 off, 1 on. Returns what it was: 1 on, 0 off, -1 not supported. */
  offload(device: string, name: "gro" | "lro", change: -1 | 0 | 1): -1 | 0 | 1;

  readerOpen(path: string): ReaderHandle;
  readerInfo(reader: ReaderHandle): { linkType: number; linkTypeName: string; snaplen: number };
  readerBind(
    reader: ReaderHandle,
    memory: Uint8Array,
    offset: Int32Array,
    length: Int32Array,
    flags: Int32Array,
    seconds: Float64Array,
    nanoseconds: Int32Array,
  ): void;
  readerRead(reader: ReaderHandle): number;
  readerClose(reader: ReaderHandle): void;

  writerOpen(path: string, linkType: number, snaplen: number): WriterHandle;
  writerWrite(
    writer: WriterHandle,
    bytes: Uint8Array,
    offset: Int32Array,
    length: Int32Array,
    from: number,
    to: number,
    seconds: number,
    nanoseconds: number,
  ): void;
  writerFlush(writer: WriterHandle): void;
  writerClose(writer: WriterHandle): void;

  /** In every thread, give up all capabilities whose bits are not in `mask`. Returns how many threads did not. */
  keepCapabilities(mask: number): number;
  /** The calling thread runs before every ordinary one, with a real-time priority of 1 to 99. False where that is not permitted. */
  runFirst(priority: number): boolean;

  /** As much of bytes[from..) as the socket `fd` takes at once. Returns how many bytes; EAGAIN where it takes none. */
  sendNow(fd: number, bytes: Uint8Array, from: number): number;
}

let loaded: NativeAddon | undefined;

/** The addon: build/Release/waymark.node of this package, or the file that WAYMARK_ADDON names. */
export function native(): NativeAddon {
  loaded ??= load(addonPath());
  return loaded;
}

/** A huge page; smaller tables gain nothing from one. */
const HUGE_PAGE = 2 << 20;

/** Memory for a table: in huge pages where the addon is built and the kernel has them, else like any other. */
export function tableMemory(bytes: number): ArrayBuffer {
  if (bytes < HUGE_PAGE || !existsSync(addonPath())) return new ArrayBuffer(bytes);
  return native().memory(bytes);
}

function addonPath(): string {
  return process.env.WAYMARK_ADDON ?? join(packageRoot(), "build", "Release", "waymark.node");
}

function load(path: string): NativeAddon {
  if (!existsSync(path)) {
    throw addonError(`The native addon is not built (${path} is missing): run \`make build\` in the package folder.`);
  }
  let addon: NativeAddon;
  try {
    addon = createRequire(import.meta.url)(path);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw addonError(
      `The native addon ${path} cannot be loaded (${reason}): is libpcap installed? Then \`make build\`.`,
    );
  }
  invariant(
    addon.headroom === HEADROOM &&
      addon.tailroom === TAILROOM &&
      addon.frameFlags === (FRAME_CHECKSUM_PARTIAL | (FRAME_TRUNCATED << 8) | (FRAME_CHECKSUM_KNOWN << 16)),
    `${path} was built from another version of native/batch.h than lib/io/port.ts: run \`make build\``,
  );
  return addon;
}

function addonError(message: string): Error {
  return Object.assign(new Error(message), { code: "ENATIVE" });
}

/** The folder with binding.gyp, above lib/io and above dist/lib/io alike. */
function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "binding.gyp")) && folder !== dirname(folder)) folder = dirname(folder);
  return folder;
}
