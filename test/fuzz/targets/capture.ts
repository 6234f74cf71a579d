// Capture files: the addon's reader, under the sanitizers.

import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CaptureReader } from "../../../lib/io/pcap-file.ts";
import { FRAME_TRUNCATED, FrameBatch, HEADROOM, TAILROOM } from "../../../lib/io/port.ts";
import { bytesOf } from "../../wire/vectors.ts";
import type { Target } from "../fuzzer.ts";
import { joined } from "../mutate.ts";

const path = join(mkdtempSync(join(tmpdir(), "waymark-fuzz-")), "input.pcap");
const FRAMES_MAX = 4096;

interface Read {
  frames: Uint8Array[];
  times: number[];
  error: string;
}

function readAll(capacity: number, memory: number): Read {
  const read: Read = { frames: [], times: [], error: "" };
  const batch = new FrameBatch(new Uint8Array(memory), capacity);
  let reader: CaptureReader | undefined;
  try {
    reader = new CaptureReader(path, capacity);
    while (reader.read(batch) > 0 && read.frames.length < FRAMES_MAX) {
      if (batch.count > capacity) throw new RangeError("more frames than rows");
      let before = 0;
      for (let i = 0; i < batch.count; i++) {
        const [at, length] = [batch.offset[i], batch.length[i]];
        if (at < before + HEADROOM || length < 0 || (length > 0 && at + length + TAILROOM > memory))
          throw new RangeError(`row ${i} at ${at}, ${length} long, in ${memory}`);
        before = at + length;
        if ((batch.flags[i] & ~FRAME_TRUNCATED) !== 0) throw new RangeError("a flag that no capture has");
        // Cut for want of memory, or in the file: then all there is of it.
        read.frames.push(batch.bytes.slice(at, at + length));
        read.times.push(reader.seconds[i], reader.nanoseconds[i]);
      }
    }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== "ECAPTURE") throw error;
    read.error = message;
  } finally {
    reader?.close();
  }
  return read;
}

function run(bytes: Uint8Array): string {
  writeFileSync(path, bytes);
  const read = readAll(64, 1 << 20);
  // Most frames are cut here.
  const others = readAll(1, 700);
  if (read.frames.length !== others.frames.length || read.error !== others.error)
    throw new Error(
      `${read.frames.length} frames and "${read.error}", or ${others.frames.length} and "${others.error}"`,
    );
  for (const [i, frame] of others.frames.entries()) {
    if (frame.length > read.frames[i].length || frame.some((byte, at) => byte !== read.frames[i][at]))
      throw new Error(`frame ${i} depends on the memory it is read to`);
  }
  if (read.times.some((time, i) => time !== others.times[i])) throw new Error("times depend on the memory");
  if (read.error === "") return `${Math.min(read.frames.length, 3)} frames`;
  const why = read.error
    .replace(path, "")
    .replaceAll(/\d+/g, "n")
    .replaceAll(/["\x80-\uffff]/g, "");
  return `${read.frames.length > 0 ? "frames then " : ""}${why.replace(/^ is not a pcap or pcapng file that libpcap can read|^The capture file {2}is damaged from here on/, "damaged")}`;
}

/** Little-endian numbers of two and four bytes. */
const u16 = (value: number) => Uint8Array.of(value, value >>> 8);
const u32 = (value: number) => Uint8Array.of(value, value >>> 8, value >>> 16, value >>> 24);
const frame = bytesOf("020000000001 020000000002 0800 4500001400000000 4011 0000 0a000001 0a000002");
const pcapHead = (magic: number) => joined(u32(magic), u16(2), u16(4), u32(0), u32(0), u32(262_144), u32(1));
const pcapFrame = (whole = frame.length) => joined(u32(1), u32(2), u32(frame.length), u32(whole), frame);
const block = (type: number, body: Uint8Array) => {
  const padded = joined(body, new Uint8Array((4 - (body.length % 4)) % 4));
  return joined(u32(type), u32(12 + padded.length), padded, u32(12 + padded.length));
};
const section = block(0x0a0d0d0a, joined(u32(0x1a2b3c4d), u16(1), u16(0), u32(-1), u32(-1)));
/** if_tsresol 9 and if_tsoffset 1. */
const anInterface = block(
  1,
  joined(u16(1), u16(0), u32(262_144), u16(9), u16(1), u32(9), u16(14), u16(8), u32(1), u32(0), u32(0)),
);
const enhanced = block(6, joined(u32(0), u32(0), u32(5), u32(frame.length), u32(frame.length), frame));
const simple = block(3, joined(u32(frame.length), frame));
const obsolete = block(2, joined(u16(0), u16(0), u32(0), u32(5), u32(frame.length), u32(frame.length), frame));

/** Put a block's length right at both its ends, wherever it is found to begin. */
function change(random: Parameters<NonNullable<Target["change"]>>[0], input: Uint8Array): Uint8Array {
  const blocks = [section, anInterface, enhanced, simple, obsolete, pcapFrame()];
  const added = blocks[random.below(blocks.length)];
  // Where something may begin, or anywhere.
  const at =
    random.below(4) === 0 ? random.below(input.length + 1) : Math.min(input.length, [24, 28, 56, 104][random.below(4)]);
  return joined(input.subarray(0, at), added, input.subarray(at));
}

export const target: Target = {
  runs: 800,
  lengthMax: 3000,
  seeds: [
    ...[0xa1b2c3d4, 0xa1b23c4d, 0xd4c3b2a1, 0x4d3cb2a1].map((magic) =>
      joined(pcapHead(magic), pcapFrame(), pcapFrame(900)),
    ),
    joined(section, anInterface, enhanced, simple, obsolete, enhanced),
    joined(section, anInterface, anInterface, enhanced, section, anInterface, simple),
  ],
  tokens: [
    u32(0x1a2b3c4d),
    u32(0x0a0d0d0a),
    u32(0xa1b2c3d4),
    u32(262_144),
    u32(0x7fffffff),
    u32(-1),
    u32(4096),
    u32(3000),
  ],
  change,
  run,
};
