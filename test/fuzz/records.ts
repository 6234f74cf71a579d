// An input for a whole router: frames that arrive one after the other.
//
//   | where and how 1 | length 2 | frame |  ...       bit 0: interface (0 the LAN, 1 the WAN)   bits 1, 2: flags of the frame
//                                                     bits 3 to 5: how long before it           bit 6: for the target

import type { SeededRandom } from "../../lib/base/random.ts";
import { FRAME_CHECKSUM_KNOWN, FRAME_CHECKSUM_PARTIAL, FRAME_TRUNCATED } from "../../lib/io/port.ts";
import { changeFrame } from "./forms.ts";
import { changeBytes, joined } from "./mutate.ts";

export interface FrameRecord {
  how: number;
  frame: Uint8Array;
}

const FLAGS = [0, FRAME_CHECKSUM_KNOWN | FRAME_CHECKSUM_PARTIAL, FRAME_CHECKSUM_KNOWN, FRAME_TRUNCATED];
const PAUSES_MS = [0, 1, 20, 300, 2000, 6000, 31_000, 200_000];
export const WAN_BIT = 1;
export const TARGET_BIT = 64;

export const interfaceOf = ({ how }: FrameRecord): number => how & WAN_BIT;
export const flagsOf = ({ how }: FrameRecord): number => FLAGS[(how >>> 1) & 3];
export const pauseOf = ({ how }: FrameRecord): number => PAUSES_MS[(how >>> 3) & 7];

/** At most so many: an input has its time. */
const RECORDS_MAX = 24;

export function readRecords(input: Uint8Array): FrameRecord[] {
  const records: FrameRecord[] = [];
  for (let at = 0; at + 3 <= input.length && records.length < RECORDS_MAX; ) {
    const end = Math.min(input.length, at + 3 + ((input[at + 1] << 8) | input[at + 2]));
    records.push({ how: input[at], frame: input.slice(at + 3, end) });
    at = end;
  }
  return records;
}

export function writeRecords(records: readonly FrameRecord[]): Uint8Array {
  return joined(...records.flatMap(({ how, frame }) => [Uint8Array.of(how, frame.length >>> 8, frame.length), frame]));
}

/** A frame changed, left out, sent twice, elsewhere, later; most changes leave it whole. */
export function changeRecords(
  random: SeededRandom,
  input: Uint8Array,
  frames: readonly FrameRecord[],
  tokens: readonly Uint8Array[],
): Uint8Array {
  const records = readRecords(input);
  const i = random.below(records.length + 1);
  const record: FrameRecord | undefined = records[i];
  const added = frames[random.below(frames.length)];
  switch (record === undefined ? 0 : random.below(10)) {
    case 0:
      records.splice(i, 0, { ...added });
      break;
    case 1:
      records.splice(i, 1);
      break;
    case 2:
      records.splice(random.below(records.length + 1), 0, { ...record });
      break;
    case 3:
      record.how = random.below(3) === 0 ? random.below(256) : record.how ^ (1 << random.below(7));
      break;
    case 4:
      record.frame = changeBytes(random, record.frame, added.frame, tokens);
      break;
    default:
      record.frame = changeFrame(random, record.frame);
  }
  return writeRecords(records);
}
