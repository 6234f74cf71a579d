// The one place that loads the native addon and says what is in it. native/README.md has the contract. Loaded on first
// use, so that commands without live ports or capture files work without it.

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { invariant } from "../base/invariant.ts";
import { FRAME_TRUNCATED, HEADROOM } from "./port.ts";

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

/** Every function throws an Error with `.code` (an errno name, EFILTER, ELINKTYPE or ECAPTURE) and a sentence. */
export interface NativeAddon {
  readonly headroom: number;
  readonly frameTruncated: number;

  portOpen(
    device: string,
    filter: string,
    snaplen: number,
    bufferBytes: number,
    timeoutMs: number,
    immediate: boolean,
    promiscuous: boolean,
  ): PortHandle;
  /** Where portRx puts frames from now on; the handle keeps the arrays alive. Never transfer them meanwhile. */
  portBind(port: PortHandle, memory: Uint8Array, offset: Int32Array, length: Int32Array, flags: Int32Array): void;
  portRx(port: PortHandle): number;
  portTx(port: PortHandle, bytes: Uint8Array, offset: Int32Array, length: Int32Array, from: number, to: number): number;
  /** Fills rxFrames, rxBytes, txFrames, txBytes, kernelDrops, txFull, txErrors. */
  portStats(port: PortHandle, totals: Float64Array): void;
  /**
   * Share the device's frames with the other members of `group`, -1 = a new group, which `program` (steering-program.ts)
   * hands out. Returns the group. Members are numbered in the order in which they joined.
   */
  portFanout(port: PortHandle, group: number, program: Uint8Array): number;
  portWatch(port: PortHandle, wake: () => void): void;
  portClose(port: PortHandle): void;

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
}

let loaded: NativeAddon | undefined;

/** The addon: build/Release/waymark.node of this package, or the file that WAYMARK_ADDON names. */
export function native(): NativeAddon {
  loaded ??= load(process.env.WAYMARK_ADDON ?? join(packageRoot(), "build", "Release", "waymark.node"));
  return loaded;
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
    addon.headroom === HEADROOM && addon.frameTruncated === FRAME_TRUNCATED,
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
