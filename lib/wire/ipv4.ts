// HOT
// IPv4 (RFC 791). Addresses are int32.
//
//   | 4, header length | ToS | total length 2 | identification 2 | flags and offset 2 | TTL | protocol | checksum 2 |
//   | source 4 | destination 4 | options 0..40 |
//   ^ l3 is the first byte

import { getI32, setU16, setU32 } from "../base/bytes.ts";
import { ipv4HeaderChecksum } from "./checksum.ts";

export const IPV4_TOS = 1;
export const IPV4_TOTAL_LENGTH = 2;
export const IPV4_IDENTIFICATION = 4;
export const IPV4_FLAGS = 6;
export const IPV4_TTL = 8;
export const IPV4_PROTOCOL = 9;
export const IPV4_CHECKSUM = 10;
export const IPV4_SOURCE = 12;
export const IPV4_DESTINATION = 16;
/** Length of a header without options. */
export const IPV4_HEADER = 20;

// Of the flags and offset word.
export const DONT_FRAGMENT = 0x4000;
export const MORE_FRAGMENTS = 0x2000;
/** In units of 8 bytes. */
export const FRAGMENT_OFFSET = 0x1fff;

/** Congestion experienced, in the two bits of the type of service below the DSCP (RFC 3168). */
const ECN_CE = 3;

// Checked by decodeFrame, except the checksum: ipv4HeaderIsRight.

export function getTtl(bytes: Uint8Array, l3: number): number {
  return bytes[l3 + IPV4_TTL];
}

export function getProtocol(bytes: Uint8Array, l3: number): number {
  return bytes[l3 + IPV4_PROTOCOL];
}

export function getSource(bytes: Uint8Array, l3: number): number {
  return getI32(bytes, l3 + IPV4_SOURCE);
}

export function getDestination(bytes: Uint8Array, l3: number): number {
  return getI32(bytes, l3 + IPV4_DESTINATION);
}

/** Differentiated services code point (RFC 2474). */
export function getDscp(bytes: Uint8Array, l3: number): number {
  return bytes[l3 + IPV4_TOS] >>> 2;
}

/** Whether a router on the way has marked the packet: congestion experienced (RFC 3168). */
export function isCongested(bytes: Uint8Array, l3: number): boolean {
  return (bytes[l3 + IPV4_TOS] & ECN_CE) === ECN_CE;
}

/** Mark the packet so. Its header checksum is yet to be made. */
export function setCongested(bytes: Uint8Array, l3: number): void {
  bytes[l3 + IPV4_TOS] |= ECN_CE;
}

/** Write a header without options at `l3`, checksum included. Returns the offset behind it. */
export function writeIpv4(
  bytes: Uint8Array,
  l3: number,
  tos: number,
  totalLength: number,
  identification: number,
  flagsAndOffset: number,
  ttl: number,
  protocol: number,
  source: number,
  destination: number,
): number {
  bytes[l3] = 0x45;
  bytes[l3 + IPV4_TOS] = tos;
  setU16(bytes, l3 + IPV4_TOTAL_LENGTH, totalLength);
  setU16(bytes, l3 + IPV4_IDENTIFICATION, identification);
  setU16(bytes, l3 + IPV4_FLAGS, flagsAndOffset);
  bytes[l3 + IPV4_TTL] = ttl;
  bytes[l3 + IPV4_PROTOCOL] = protocol;
  setU32(bytes, l3 + IPV4_SOURCE, source);
  setU32(bytes, l3 + IPV4_DESTINATION, destination);
  setU16(bytes, l3 + IPV4_CHECKSUM, ipv4HeaderChecksum(bytes, l3));
  return l3 + IPV4_HEADER;
}
