// HOT
// TCP (RFC 9293).
//
//   | source port 2 | destination port 2 | sequence 4 | acknowledgment 4 | header length | flags | window 2 |
//   | checksum 2 | urgent pointer 2 | options 0..40 |
//   ^ l4 is the first byte

import { getI32, getU16, setU16, setU32 } from "../base/bytes.ts";
import { applyDelta, deltaU16 } from "./checksum.ts";

export const TCP_SOURCE_PORT = 0;
export const TCP_DESTINATION_PORT = 2;
export const TCP_SEQUENCE = 4;
export const TCP_ACKNOWLEDGMENT = 8;
export const TCP_HEADER_LENGTH = 12;
export const TCP_FLAGS = 13;
export const TCP_WINDOW = 14;
export const TCP_CHECKSUM = 16;
/** Length of a header without options. */
export const TCP_HEADER = 20;

export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const PSH = 0x08;
export const ACK = 0x10;
export const URG = 0x20;
export const ECE = 0x40;
export const CWR = 0x80;

const OPTION_END = 0;
const OPTION_NOP = 1;
const OPTION_MSS = 2;

// Checked by decodeFrame, except the checksum (l4IsRight) and options.

/** Length of this header, options included. */
export function getTcpHeaderLength(bytes: Uint8Array, l4: number): number {
  return (bytes[l4 + TCP_HEADER_LENGTH] >>> 4) << 2;
}

export function getTcpFlags(bytes: Uint8Array, l4: number): number {
  return bytes[l4 + TCP_FLAGS];
}

/** As an int32: sequence numbers are compared by subtraction. */
export function getTcpSequence(bytes: Uint8Array, l4: number): number {
  return getI32(bytes, l4 + TCP_SEQUENCE);
}

/** As an int32. */
export function getTcpAcknowledgment(bytes: Uint8Array, l4: number): number {
  return getI32(bytes, l4 + TCP_ACKNOWLEDGMENT);
}

/** The maximum segment size option's value, 0 when there is none or the options before it make no sense. */
export function findMss(bytes: Uint8Array, l4: number): number {
  const at = mssOffset(bytes, l4);
  return at < 0 ? 0 : getU16(bytes, at);
}

/** Lower that value to `max` where it is more; the checksum follows by the change. */
export function lowerMss(bytes: Uint8Array, l4: number, max: number): void {
  const at = mssOffset(bytes, l4);
  if (at < 0) return;
  const old = getU16(bytes, at);
  if (old <= max) return;
  setU16(bytes, at, max);
  // At an odd place its two bytes belong to two words of the sum, the other way round.
  const isOdd = ((at - l4) & 1) !== 0;
  const delta = isOdd ? deltaU16(swapBytes(old), swapBytes(max)) : deltaU16(old, max);
  setU16(bytes, l4 + TCP_CHECKSUM, applyDelta(getU16(bytes, l4 + TCP_CHECKSUM), delta));
}

function swapBytes(value: number): number {
  return ((value << 8) & 0xff00) | (value >>> 8);
}

/** Where the value of the maximum segment size option is, -1 when there is none or the options before it make no sense. */
function mssOffset(bytes: Uint8Array, l4: number): number {
  const end = l4 + getTcpHeaderLength(bytes, l4);
  let at = l4 + TCP_HEADER;
  while (at < end) {
    const kind = bytes[at];
    if (kind === OPTION_END) return -1;
    if (kind === OPTION_NOP) {
      at++;
      continue;
    }
    if (at + 2 > end) return -1;
    const length = bytes[at + 1];
    if (length < 2 || at + length > end) return -1;
    if (kind === OPTION_MSS) return length === 4 ? at + 2 : -1;
    at += length;
  }
  return -1;
}

/**
 * Write a header without options at `l4`. Returns the offset behind it. The checksum is left 0: completeChecksum
 * makes it when the packet is whole.
 */
export function writeTcp(
  bytes: Uint8Array,
  l4: number,
  sourcePort: number,
  destinationPort: number,
  sequence: number,
  acknowledgment: number,
  flags: number,
  window: number,
): number {
  setU16(bytes, l4 + TCP_SOURCE_PORT, sourcePort);
  setU16(bytes, l4 + TCP_DESTINATION_PORT, destinationPort);
  setU32(bytes, l4 + TCP_SEQUENCE, sequence);
  setU32(bytes, l4 + TCP_ACKNOWLEDGMENT, acknowledgment);
  bytes[l4 + TCP_HEADER_LENGTH] = (TCP_HEADER >>> 2) << 4;
  bytes[l4 + TCP_FLAGS] = flags;
  setU16(bytes, l4 + TCP_WINDOW, window);
  setU32(bytes, l4 + TCP_CHECKSUM, 0); // and the urgent pointer
  return l4 + TCP_HEADER;
}
