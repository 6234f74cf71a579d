// IPv6 frames with right checksums, for the tests of what happens to them at the door and behind it.

import { getU16, setU16 } from "../../lib/base/bytes.ts";
import { fold, sumWords } from "../../lib/wire/checksum.ts";

export const CHECKSUM_AT: Record<number, number> = { 6: 16, 17: 6, 58: 2 };

/** An IPv6 frame: `l4` behind `extensions`, the first of which is of type `next`. */
export function bareFrame(
  next: number,
  source: Uint8Array,
  destination: Uint8Array,
  l4: Uint8Array,
  extensions = new Uint8Array(0),
): Uint8Array {
  const frame = new Uint8Array(54 + extensions.length + l4.length);
  frame.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x6b, 0x80, 0x12, 0x34], 0);
  setU16(frame, 18, extensions.length + l4.length);
  frame.set([next, 63], 20);
  frame.set(source, 22);
  frame.set(destination, 38);
  frame.set(extensions, 54);
  frame.set(l4, 54 + extensions.length);
  return frame;
}

/** The same with the L4 checksum right; extensions begin with destination options. */
export function frameOf(
  protocol: number,
  source: Uint8Array,
  destination: Uint8Array,
  l4: Uint8Array,
  extensions = new Uint8Array(0),
): Uint8Array {
  const frame = bareFrame(extensions.length > 0 ? 60 : protocol, source, destination, l4, extensions);
  complete(frame, 54 + extensions.length, protocol);
  return frame;
}

export function complete(frame: Uint8Array, l4: number, protocol: number): void {
  const field = CHECKSUM_AT[protocol];
  if (field === undefined) return;
  setU16(frame, l4 + field, 0);
  const pseudo = sumWords(frame, 22, 54, frame.length - l4 + protocol);
  const checksum = ~fold(sumWords(frame, l4, frame.length, pseudo)) & 0xffff;
  setU16(frame, l4 + field, checksum === 0 && protocol === 17 ? 0xffff : checksum);
}

/**
 * Whether the checksum of a frame without extension headers, IPv6 or in the router's own form, is the bare sum of its pseudo header:
 * one right one in 65,536 is, and looks as if it were left to hardware.
 */
export function looksLeftUndone(frame: Uint8Array): boolean {
  const isIpv6 = frame[12] === 0x86;
  const [addresses, l4, protocol] = isIpv6 ? [22, 54, frame[20]] : [26, 34, frame[23]];
  if (protocol !== 6 && protocol !== 17) return false;
  const bare = fold(sumWords(frame, addresses, addresses + (isIpv6 ? 32 : 8), frame.length - l4 + protocol));
  return getU16(frame, l4 + CHECKSUM_AT[protocol]) % 0xffff === bare % 0xffff;
}

export function l4Of(protocol: number, payload: Uint8Array): Uint8Array {
  if (protocol === 6)
    return Uint8Array.of(1, 2, 3, 4, 0, 0, 0, 9, 0, 0, 0, 8, 0x50, 0x10, 1, 0, 0, 0, 0, 0, ...payload);
  const length = 8 + payload.length;
  if (protocol === 17) return Uint8Array.of(1, 2, 3, 4, length >> 8, length & 255, 0, 0, ...payload);
  if (protocol === 58) return Uint8Array.of(128, 0, 0, 0, 0, 77, 0, 1, ...payload);
  return payload;
}
