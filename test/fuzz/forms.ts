// Changes that know the form of frames and of metadata: what they leave has lengths and checksums right, so that it is
// believed as far as it goes. Nothing of lib/ is used to find the way: what is damaged is left as it is.

import type { SeededRandom } from "../../lib/base/random.ts";
import { changeBytes, joined } from "./mutate.ts";

const u16 = (bytes: Uint8Array, at: number) => (bytes[at] << 8) | bytes[at + 1];
function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

function onesSum(bytes: Uint8Array, from: number, to: number): number {
  let sum = 0;
  for (let i = from; i < to; i++) sum += i % 2 === from % 2 ? bytes[i] << 8 : bytes[i];
  return sum;
}

function fold(sum: number): number {
  while (sum > 0xffff) sum = Math.floor(sum / 0x10000) + (sum % 0x10000);
  return sum;
}

/** Where the L4 payload of an IPv4 frame begins, by its own headers; 0 where it has none. */
export function payloadOf(frame: Uint8Array): number {
  if (frame.length < 34 || u16(frame, 12) !== 0x0800) return 0;
  const l4 = 14 + (frame[14] & 15) * 4;
  const protocol = frame[23];
  const at = protocol === 6 ? l4 + (frame[l4 + 12] >>> 4) * 4 : protocol === 17 || protocol === 1 ? l4 + 8 : l4;
  return at <= frame.length ? at : 0;
}

/** The lengths and checksums of an IPv4 frame made right for all the bytes it has, in place. */
export function repair(frame: Uint8Array): Uint8Array {
  const payload = payloadOf(frame);
  const l4 = 14 + (frame[14] & 15) * 4;
  if (payload === 0 || l4 < 34 || frame.length > 0xffff) return frame;
  const protocol = frame[23];
  putU16(frame, 16, frame.length - 14);
  if (protocol === 17) putU16(frame, l4 + 4, frame.length - l4);
  putU16(frame, 24, 0);
  putU16(frame, 24, ~fold(onesSum(frame, 14, l4)));
  const field = protocol === 6 ? l4 + 16 : protocol === 17 ? l4 + 6 : protocol === 1 ? l4 + 2 : 0;
  if (field === 0 || field + 2 > frame.length) return frame;
  putU16(frame, field, 0);
  const pseudo = protocol === 1 ? 0 : onesSum(frame, 26, 34) + protocol + frame.length - l4;
  const sum = ~fold(pseudo + onesSum(frame, l4, frame.length)) & 0xffff;
  putU16(frame, field, protocol === 17 && sum === 0 ? 0xffff : sum);
  return frame;
}

/** Whether all checksums of a whole IPv4 frame are right; a UDP checksum of 0 is none. */
export function checksumsAreRight(frame: Uint8Array): boolean {
  const l4 = 14 + (frame[14] & 15) * 4;
  const end = 14 + u16(frame, 16);
  if (fold(onesSum(frame, 14, l4)) !== 0xffff) return false;
  const protocol = frame[23];
  if (protocol === 1) return fold(onesSum(frame, l4, end)) === 0xffff;
  const length = protocol === 17 ? u16(frame, l4 + 4) : end - l4;
  if ((protocol !== 6 && protocol !== 17) || (protocol === 17 && u16(frame, l4 + 6) === 0)) return true;
  return fold(onesSum(frame, 26, 34) + protocol + length + onesSum(frame, l4, l4 + length)) === 0xffff;
}

interface Attribute {
  type: number;
  value: Uint8Array;
}

/** Both sections of metadata at bytes[at..], as far as they can be read, and where they end. */
function readMetadata(bytes: Uint8Array, at: number): { sections: [Attribute[], Attribute[]]; end: number } {
  const headerEnd = Math.min(bytes.length, at + (u16(bytes, at + 8) & 0xfff));
  const end = Math.min(bytes.length, headerEnd + u16(bytes, at + 10));
  const read = (from: number, to: number): Attribute[] => {
    const found: Attribute[] = [];
    for (let next = from; from + 4 <= to; from = next) {
      next = Math.min(to, from + 4 + u16(bytes, from + 2));
      found.push({ type: u16(bytes, from), value: bytes.slice(from + 4, next) });
    }
    return found;
  };
  return { sections: [read(at + 12, headerEnd), read(headerEnd, end)], end };
}

function writeMetadata(sections: [Attribute[], Attribute[]]): Uint8Array {
  const [header, payload] = sections.map((attributes) =>
    joined(
      ...attributes.flatMap(({ type, value }) => [
        Uint8Array.of(type >>> 8, type, value.length >>> 8, value.length),
        value,
      ]),
    ),
  );
  const base = Uint8Array.of(0x4c, 0x48, 0xdb, 0xc6, 0xdd, 0xf6, 0x67, 0x0c, 0, 0, 0, 0);
  putU16(base, 8, 0x1000 | ((12 + header.length) & 0xfff));
  putU16(base, 10, payload.length);
  return joined(base, header, payload);
}

/** Types and lengths of attributes that mean something (protocol sheet 3.3), and a few that do not. */
const KNOWN: readonly [type: number, length: number][] = [
  [1, 10],
  [2, 13],
  [3, 37],
  [4, 13],
  [5, 37],
  [6, 16],
  [7, 4],
  [8, 4],
  [10, 3],
  [11, 0],
  [12, 0],
  [13, 8],
  [14, 4],
  [15, 4],
  [16, 4],
  [17, 4],
  [18, 0],
  [19, 12],
  [20, 4],
  [21, 16],
  [24, 1],
  [25, 4],
  [26, 10],
  [28, 2],
  [35, 5],
  [42, 4],
  [46, 1],
  [46, 32],
  [50, 11],
  [51, 7],
  [0x8001, 1],
  [0x8002, 12],
  [0x8003, 4],
  [0x8004, 4],
  [0x8005, 4],
  [0x8006, 4],
  [0x800b, 12],
  [0, 3],
  [63, 2],
  [64, 0],
  [0x800f, 1],
  [0xffff, 9],
];

/** An attribute more, less, twice, elsewhere or with another value in the metadata at `at`; its lengths right again. */
export function changeMetadata(random: SeededRandom, bytes: Uint8Array, at: number): Uint8Array {
  if (at + 12 > bytes.length) return bytes;
  const { sections, end } = readMetadata(bytes, at);
  const section = sections[random.below(2)];
  const other = sections[random.below(2)];
  const i = random.below(section.length + 1);
  const attribute: Attribute | undefined = section[i];
  switch (random.below(6)) {
    case 0: {
      const [type, length] = KNOWN[random.below(KNOWN.length)];
      const value = Uint8Array.from({ length: random.below(8) === 0 ? random.below(40) : length }, () =>
        random.below(256),
      );
      section.splice(i, 0, { type, value });
      break;
    }
    case 1:
      section.splice(i, 1);
      break;
    case 2:
      if (attribute !== undefined) other.splice(random.below(other.length + 1), 0, { ...attribute });
      break;
    case 3:
      if (attribute !== undefined) attribute.type = KNOWN[random.below(KNOWN.length)][0];
      break;
    case 4:
      if (attribute !== undefined) section.splice(i, 1) && other.push(attribute);
      break;
    default:
      if (attribute !== undefined && attribute.value.length > 0)
        attribute.value = changeBytes(random, attribute.value, attribute.value, []);
  }
  return joined(bytes.subarray(0, at), writeMetadata(sections), bytes.subarray(end));
}

/** A change to a frame after which it is whole again: in its headers, its metadata or its payload. */
export function changeFrame(random: SeededRandom, original: Uint8Array): Uint8Array {
  const payload = payloadOf(original);
  if (payload === 0) return original;
  const frame = original.slice();
  switch (random.below(7)) {
    case 0:
      return repair(frame);
    case 1:
      // Headers, but not what says how long they are.
      frame[[15, 18, 19, 22, 23, 26 + random.below(8), 34 + random.below(20)][random.below(7)] % frame.length] ^=
        1 << random.below(8);
      return repair(frame);
    case 2: {
      // The answer's direction.
      frame.set(original.subarray(30, 34), 26);
      frame.set(original.subarray(26, 30), 30);
      if (frame.length >= 38) {
        frame.set(original.subarray(36, 38), 34);
        frame.set(original.subarray(34, 36), 36);
      }
      return repair(frame);
    }
    case 3:
      if (frame[23] === 6) frame[47] = random.below(64);
      return repair(frame);
    case 4:
      return repair(joined(frame.subarray(0, payload), changeBytes(random, frame.subarray(payload), frame, [])));
    default:
      return repair(changeMetadata(random, frame, payload));
  }
}
