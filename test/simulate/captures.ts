// The captures of ../shared/corpus as frames of an Ethernet link, each with the end of a session that it comes from.

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { CaptureReader } from "../../lib/io/pcap-file.ts";
import { FrameBatch } from "../../lib/io/port.ts";

const folder = fileURLToPath(new URL("../../../../shared/corpus/tcpdump/", import.meta.url));

/** Why the corpus cannot be used; undefined when it can. */
export const corpusMissing = existsSync(folder) ? undefined : `needs ${folder}`;

/** Bytes in front of the IP packet on links that are not Ethernet; frames of all others are taken as they are. */
const IP_BEHIND: Readonly<Record<string, number>> = {
  RAW: 0,
  IPV4: 0,
  IPV6: 0,
  NULL: 4,
  LOOP: 4,
  LINUX_SLL: 16,
  IPNET: 24,
};
const ETHERNET = 14;
const BATCH_BYTES = 4 * 1024 * 1024;

export interface Captured {
  frame: Uint8Array;
  /** Of FRAME_*: it was captured in part. */
  flags: number;
}

export interface Capture {
  name: string;
  frames: Captured[];
}

/** Every capture, in order of name; of a damaged file what can be read. */
export function* captures(): Generator<Capture> {
  const batch = new FrameBatch(new Uint8Array(BATCH_BYTES), 64);
  for (const name of readdirSync(folder).sort()) {
    if (!/\.pcap(ng)?$/.test(name)) continue;
    yield { name, frames: [...framesOf(join(folder, name), batch)] };
  }
}

function* framesOf(file: string, batch: FrameBatch): Generator<Captured> {
  let reader: CaptureReader;
  try {
    reader = new CaptureReader(file, batch.capacity);
  } catch {
    return;
  }
  const behind = IP_BEHIND[reader.linkTypeName];
  try {
    while (reader.read(batch) > 0) {
      for (let i = 0; i < batch.count; i++) {
        const frame = batch.bytes.slice(batch.offset[i], batch.offset[i] + batch.length[i]);
        yield { frame: behind === undefined ? frame : asEthernet(frame.subarray(behind)), flags: batch.flags[i] };
      }
    }
  } catch {
    // Damaged from here on.
  } finally {
    reader.close();
  }
}

/** The packet as a frame; its first four bits say which EtherType. */
function asEthernet(packet: Uint8Array): Uint8Array {
  const frame = new Uint8Array(ETHERNET + packet.length);
  frame.set(packet[0] >>> 4 === 6 ? [0x86, 0xdd] : [0x08, 0x00], 12);
  frame.set(packet, ETHERNET);
  return frame;
}

/**
 * Which end of its session each IPv4 packet comes from: whoever was first to send is the initiator. An ICMP error comes from the
 * other end than the packet it quotes; a fragment without ports from where its first one came.
 */
export class Sides {
  readonly #initiators = new Map<string, boolean>();

  /** Whether it comes from the initiator. */
  isForward(frame: Uint8Array): boolean {
    const packet = Buffer.from(
      frame.buffer,
      frame.byteOffset + Math.min(ETHERNET, frame.length),
      Math.max(0, frame.length - ETHERNET),
    );
    if (frame.length < ETHERNET + 20 || frame[12] !== 8 || frame[13] !== 0) return true;
    const behind = packet.subarray((packet[0] & 15) * 4);
    const isError = packet[9] === 1 && [3, 4, 5, 11, 12].includes(behind[0]);
    if (isError && behind.length >= 36) return !this.#look(behind.subarray(8), false);
    return this.#look(packet, true);
  }

  #look(packet: Buffer, mayBegin: boolean): boolean {
    const behind = packet.subarray((packet[0] & 15) * 4);
    const protocol = packet[9];
    const ends = [packet.subarray(12, 16).toString("hex"), packet.subarray(16, 20).toString("hex")];
    const piece = packet.readUInt16BE(6) & 0x3fff;
    const id = `${ends.join()} ${protocol} ${packet.readUInt16BE(4)}`;
    if ((piece & 0x1fff) !== 0) return this.#initiators.get(id) ?? true;
    if ((protocol === 6 || protocol === 17) && behind.length >= 4) {
      ends[0] += behind.readUInt16BE(0);
      ends[1] += behind.readUInt16BE(2);
    } else if (protocol === 1 && behind.length >= 6) {
      for (const at of [0, 1]) ends[at] += behind.readUInt16BE(4);
    }
    const way = `${protocol} ${ends.join()}`;
    const back = `${protocol} ${ends.reverse().join()}`;
    const forward = this.#initiators.get(way) ?? !(this.#initiators.get(back) ?? false);
    if (mayBegin) this.#initiators.set(way, forward);
    if (piece !== 0) this.#initiators.set(id, forward);
    return forward;
  }
}
