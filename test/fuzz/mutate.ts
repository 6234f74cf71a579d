// Changes to an input that know nothing of its form, as AFL makes them; a target adds its own.

import type { SeededRandom } from "../../lib/base/random.ts";
import type { Target } from "./fuzzer.ts";

/** Numbers at which something often begins or ends. */
const EDGES = [
  0, 1, 2, 3, 4, 7, 8, 11, 12, 13, 15, 16, 17, 19, 20, 31, 32, 59, 60, 63, 64, 0x7f, 0x80, 0xff, 0x100, 0x5dc, 0x7ff,
  0xfff, 0x1fff, 0x2000, 0x7fff, 0x8000, 0xfff8, 0xffff, 0x1_0000, 0x7fff_ffff, -0x8000_0000, -2, -1,
];

/** One to sixteen changes to `input`; `other` is another to take pieces of. Never longer than the target's longest. */
export function mutate(random: SeededRandom, input: Uint8Array, other: Uint8Array, target: Target): Uint8Array {
  let bytes: Uint8Array = input;
  for (let changes = 1 << random.below(5); changes > 0; changes--) {
    if (target.change !== undefined && random.below(2) === 0) bytes = target.change(random, bytes);
    else bytes = changeBytes(random, bytes, other, target.tokens);
  }
  return bytes.length > target.lengthMax ? bytes.slice(0, target.lengthMax) : bytes;
}

/** One change. */
export function changeBytes(
  random: SeededRandom,
  original: Uint8Array,
  other: Uint8Array,
  tokens: readonly Uint8Array[],
): Uint8Array {
  if (original.length === 0) return other.length > 0 ? other.slice() : Uint8Array.of(random.below(256));
  const bytes = original.slice();
  const at = random.below(bytes.length);
  // Mostly short.
  const size = 1 + random.below(1 + random.below(Math.min(64, bytes.length - at)));
  switch (random.below(13)) {
    case 0:
      bytes[at] ^= 1 << random.below(8);
      return bytes;
    case 1:
      bytes[at] = random.below(256);
      return bytes;
    case 2:
    case 3:
      putNumber(random, bytes, at, () => EDGES[random.below(EDGES.length)]);
      return bytes;
    case 4:
      putNumber(random, bytes, at, (old) => old + random.below(71) - 35);
      return bytes;
    case 5:
      return joined(bytes.subarray(0, at), bytes.subarray(at + size));
    case 6:
      return bytes.slice(0, at);
    case 7:
      return joined(bytes.subarray(0, at + size), bytes.subarray(at, at + size), bytes.subarray(at + size));
    case 8:
      bytes.copyWithin(at, random.below(bytes.length), bytes.length);
      return bytes;
    case 9:
      bytes.fill(random.below(3) === 0 ? random.below(256) : 0, at, at + size);
      return bytes;
    case 10: {
      const from = random.below(other.length + 1);
      return joined(bytes.subarray(0, at), other.subarray(from));
    }
    case 11: {
      const from = random.below(other.length + 1);
      return joined(bytes.subarray(0, at), other.subarray(from, from + size), bytes.subarray(at));
    }
    default: {
      if (tokens.length === 0) return bytes;
      const token = tokens[random.below(tokens.length)];
      const gone = random.below(2) === 0 ? token.length : 0;
      return joined(bytes.subarray(0, at), token, bytes.subarray(at + gone));
    }
  }
}

/** Change the number of 1, 2 or 4 bytes at `at`, either end first. */
function putNumber(random: SeededRandom, bytes: Uint8Array, at: number, change: (old: number) => number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const isLittle = random.below(2) === 0;
  const width = Math.min(1 << random.below(3), bytes.length - at);
  if (width === 1) bytes[at] = change(bytes[at]);
  else if (width < 4) view.setUint16(at, change(view.getUint16(at, isLittle)), isLittle);
  else view.setInt32(at, change(view.getInt32(at, isLittle)), isLittle);
}

export function joined(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
