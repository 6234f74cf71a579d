// HOT
// The Internet checksum: full sums (RFC 1071) and incremental update (RFC 1624).
//
// Facts the arithmetic rests on. A folded ones' complement sum is a number modulo 65535 with two zeros, 0 and 0xFFFF.
//  1. 2^16 = 1 modulo 65535, so words may be added without folding and in any order; fold() comes last.
//  2. A sum folds to 0 only when every word is 0. Headers are not all zero, so a checksum made by a full sum is never
//     0xFFFF, and eqn. 3 of RFC 1624, HC' = ~(~HC + ~m + m'), gives the very same 16 bits as a full sum. (A sender may
//     still write 0xFFFF where we write 0: receivers take both, and the first update here turns it into 0.)
//  3. ~m + m' depends on the change only, so the changes of a whole rewrite add up to one delta, made at session open.
//  4. Adding a delta is one-to-one modulo 65535: the distance between a stored checksum and the right one never
//     changes. A wrong checksum stays wrong, and a right one stays right.
// UDP (RFC 768) gives 0 the meaning "no checksum": it stays 0, and a computed 0 is sent as 0xFFFF.
//
// Offsets are as decodeFrame gives them: l3 and l4 where the IPv4 and the L4 header start, end where the packet ends.

import { getU16 } from "../base/bytes.ts";
import { PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } from "./flow-key.ts";

/**
 * `sum` plus the 16-bit big-endian words of bytes[from..to); an odd last byte is the high byte of a word. Not folded:
 * exact for 64 KiB and a few words more (fold takes less than 2^32).
 */
export function sumWords(bytes: Uint8Array, from: number, to: number, sum: number): number {
  // High and low bytes in two columns: half the additions wait for each other, and 64 KiB cannot overflow an int32.
  let high = 0;
  let low = 0;
  let i = from;
  for (const blocksEnd = to - 15; i < blocksEnd; i += 16) {
    high += bytes[i] + bytes[i + 2] + bytes[i + 4] + bytes[i + 6];
    low += bytes[i + 1] + bytes[i + 3] + bytes[i + 5] + bytes[i + 7];
    high += bytes[i + 8] + bytes[i + 10] + bytes[i + 12] + bytes[i + 14];
    low += bytes[i + 9] + bytes[i + 11] + bytes[i + 13] + bytes[i + 15];
  }
  for (; i < to - 1; i += 2) {
    high += bytes[i];
    low += bytes[i + 1];
  }
  if (i < to) high += bytes[i];
  return sum + high * 256 + low;
}

/** The 16-bit ones' complement sum of an unfolded `sum` below 2^32. */
export function fold(sum: number): number {
  sum = (sum >>> 16) + (sum & 0xffff);
  return (sum >>> 16) + (sum & 0xffff);
}

/** fold for this file: what is exported is looked up anew at each use (engine/README.md). */
const folded = fold;

/** The delta of a 16-bit word that changes from `before` to `after`. */
export function deltaU16(before: number, after: number): number {
  return fold((~before & 0xffff) + (after & 0xffff));
}

/** The delta of a 32-bit word, such as an IPv4 address, that changes from `before` to `after`. */
export function deltaI32(before: number, after: number): number {
  return fold((~before >>> 16) + (~before & 0xffff) + (after >>> 16) + (after & 0xffff));
}

/** Both deltas as one. */
export function addDelta(a: number, b: number): number {
  return fold(a + b);
}

/** The checksum after a change of `delta` (RFC 1624, eqn. 3). */
export function applyDelta(checksum: number, delta: number): number {
  return ~folded((~checksum & 0xffff) + delta) & 0xffff;
}

/** applyDelta for UDP: no checksum stays no checksum, a computed 0 becomes 0xFFFF. */
export function applyDeltaUdp(checksum: number, delta: number): number {
  return checksum === 0 ? 0 : ~folded((~checksum & 0xffff) + delta) & 0xffff || 0xffff;
}

/** Unfolded sum of the IPv4 pseudo header in front of `l4Length` bytes. Never folds to 0. */
export function pseudoHeaderSum(bytes: Uint8Array, l3: number, l4Length: number): number {
  const addresses = getU16(bytes, l3 + 12) + getU16(bytes, l3 + 14) + getU16(bytes, l3 + 16) + getU16(bytes, l3 + 18);
  return addresses + bytes[l3 + 9] + l4Length;
}

/** The folded sum of the same pseudo header, from addresses that were read already. */
export function pseudoSum(source: number, destination: number, protocol: number, l4Length: number): number {
  const addresses = (source >>> 16) + (source & 0xffff) + (destination >>> 16) + (destination & 0xffff);
  return folded(addresses + protocol + l4Length);
}

/** The value to store as the header checksum of the IPv4 header at `l3`. */
export function ipv4HeaderChecksum(bytes: Uint8Array, l3: number): number {
  const sum = sumWords(bytes, l3, l3 + ((bytes[l3] & 15) << 2), 0);
  return ~fold(sum - getU16(bytes, l3 + 10)) & 0xffff;
}

export function ipv4HeaderIsRight(bytes: Uint8Array, l3: number): boolean {
  return fold(sumWords(bytes, l3, l3 + ((bytes[l3] & 15) << 2), 0)) === 0xffff;
}

/** Where in the L4 header the checksum field is; -1 for a protocol whose checksum is not ours to know. */
export function l4ChecksumOffset(protocol: number): number {
  if (protocol === PROTOCOL_TCP) return 16;
  if (protocol === PROTOCOL_UDP) return 6;
  if (protocol === PROTOCOL_ICMP) return 2;
  return -1;
}

/** The value to store as the TCP, UDP or ICMP checksum. Only reads the frame; what the field holds now is not used. */
export function l4Checksum(bytes: Uint8Array, l3: number, l4: number, end: number): number {
  const protocol = bytes[l3 + 9];
  const field = l4 + l4ChecksumOffset(protocol);
  const checksum = ~fold(l4Sum(bytes, l3, l4, end) - getU16(bytes, field)) & 0xffff;
  return checksum === 0 && protocol === PROTOCOL_UDP ? 0xffff : checksum;
}

/** Whether the TCP, UDP or ICMP checksum is right; UDP without one counts as right, and so does every other protocol. */
export function l4IsRight(bytes: Uint8Array, l3: number, l4: number, end: number): boolean {
  const protocol = bytes[l3 + 9];
  if (l4ChecksumOffset(protocol) < 0) return true;
  if (protocol === PROTOCOL_UDP && getU16(bytes, l4 + 6) === 0) return true;
  return fold(l4Sum(bytes, l3, l4, end)) === 0xffff;
}

/**
 * Unfolded sum of everything a TCP, UDP or ICMP checksum covers, the field itself included; folds to 0xFFFF when the
 * checksum is right. UDP covers what its own length says; IP may carry more behind it (RFC 9868). A length of 0 reaches to the
 * end (long-packet.ts).
 */
export function l4Sum(bytes: Uint8Array, l3: number, l4: number, end: number): number {
  const protocol = bytes[l3 + 9];
  if (protocol === PROTOCOL_ICMP) return sumWords(bytes, l4, end, 0);
  const told = protocol === PROTOCOL_UDP ? getU16(bytes, l4 + 4) : 0;
  const length = told === 0 ? end - l4 : told;
  return sumWords(bytes, l4, l4 + length, pseudoHeaderSum(bytes, l3, length));
}
