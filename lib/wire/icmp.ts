// HOT
// ICMP for IPv4 (RFC 792, RFC 1191 for the next-hop MTU).
//
//   | type | code | checksum 2 | rest of header 4: identifier and sequence of an echo; unused 2 and MTU 2; gateway | data |
//   ^ l4 is the first byte

import { getU16, setU16, setU32 } from "../base/bytes.ts";
import { applyDelta, deltaU16, fold, sumWords } from "./checksum.ts";

export const ICMP_TYPE = 0;
export const ICMP_CODE = 1;
export const ICMP_CHECKSUM = 2;
export const ICMP_REST = 4;
export const ICMP_HEADER = 8;

export const ICMP_ECHO_REPLY = 0;
export const ICMP_UNREACHABLE = 3;
export const ICMP_ECHO = 8;
export const ICMP_TIME_EXCEEDED = 11;
export const ICMP_PARAMETER_PROBLEM = 12;
// Codes of "unreachable" (RFC 1812, 5.2.7.1).
export const ICMP_HOST_UNREACHABLE = 1;
export const ICMP_PROHIBITED = 13;
/** The packet is too big and may not be fragmented. */
export const ICMP_FRAGMENTATION_NEEDED = 4;

// Checked by decodeFrame, except the checksum: l4IsRight.

export function getIcmpType(bytes: Uint8Array, l4: number): number {
  return bytes[l4 + ICMP_TYPE];
}

export function getIcmpCode(bytes: Uint8Array, l4: number): number {
  return bytes[l4 + ICMP_CODE];
}

/** The next hop's MTU in "fragmentation needed" (RFC 1191, 4); 0 = it does not say. */
export function getIcmpMtu(bytes: Uint8Array, l4: number): number {
  return getU16(bytes, l4 + ICMP_REST + 2);
}

/** Whether the checksum of the message that is bytes[l4..end) is right. */
export function icmpIsRight(bytes: Uint8Array, l4: number, end: number): boolean {
  return fold(sumWords(bytes, l4, end, 0)) === 0xffff;
}

/** The identifier of an echo. */
export function getIcmpIdentifier(bytes: Uint8Array, l4: number): number {
  return getU16(bytes, l4 + ICMP_REST);
}

/** Give the echo at `l4` another identifier. A wrong checksum stays wrong; 0xFFFF is written for 0, as below. */
export function setIcmpIdentifier(bytes: Uint8Array, l4: number, identifier: number): void {
  const delta = deltaU16(getIcmpIdentifier(bytes, l4), identifier);
  setU16(bytes, l4 + ICMP_REST, identifier);
  setU16(bytes, l4 + ICMP_CHECKSUM, applyDelta(getU16(bytes, l4 + ICMP_CHECKSUM), delta) || 0xffff);
}

/** Write a header at `l4` in front of data that is already there and ends at `end`, checksum included. */
export function writeIcmp(bytes: Uint8Array, l4: number, type: number, code: number, rest: number, end: number): void {
  bytes[l4 + ICMP_TYPE] = type;
  bytes[l4 + ICMP_CODE] = code;
  setU16(bytes, l4 + ICMP_CHECKSUM, 0);
  setU32(bytes, l4 + ICMP_REST, rest);
  setU16(bytes, l4 + ICMP_CHECKSUM, ~fold(sumWords(bytes, l4, end, 0)) & 0xffff);
}

/**
 * Turn the echo at `l4` into its reply. A wrong checksum stays wrong. A reply may be all zero, the one message for
 * which 0 is wrong and 0xFFFF right; for all others both are the same, so a computed 0 becomes 0xFFFF.
 */
export function writeIcmpEchoReply(bytes: Uint8Array, l4: number): void {
  const delta = deltaU16(bytes[l4 + ICMP_TYPE] << 8, ICMP_ECHO_REPLY);
  bytes[l4 + ICMP_TYPE] = ICMP_ECHO_REPLY;
  setU16(bytes, l4 + ICMP_CHECKSUM, applyDelta(getU16(bytes, l4 + ICMP_CHECKSUM), delta) || 0xffff);
}
