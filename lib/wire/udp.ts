// HOT
// UDP (RFC 768).
//
//   | source port 2 | destination port 2 | length 2, header included | checksum 2, 0 = none |
//   ^ l4 is the first byte

import { getU16, setU16 } from "../base/bytes.ts";

export const UDP_SOURCE_PORT = 0;
export const UDP_DESTINATION_PORT = 2;
export const UDP_LENGTH = 4;
export const UDP_CHECKSUM = 6;
export const UDP_HEADER = 8;

// Checked by decodeFrame, except the checksum: l4IsRight.

/** Length of header and payload. May be less than what IP carries (RFC 9868). */
export function getUdpLength(bytes: Uint8Array, l4: number): number {
  return getU16(bytes, l4 + UDP_LENGTH);
}

/**
 * Write a header at `l4` for a datagram of `length` bytes, header included. Returns the offset behind it. The
 * checksum is left 0: completeChecksum makes it when the packet is whole.
 */
export function writeUdp(
  bytes: Uint8Array,
  l4: number,
  sourcePort: number,
  destinationPort: number,
  length: number,
): number {
  setU16(bytes, l4 + UDP_SOURCE_PORT, sourcePort);
  setU16(bytes, l4 + UDP_DESTINATION_PORT, destinationPort);
  setU16(bytes, l4 + UDP_LENGTH, length);
  setU16(bytes, l4 + UDP_CHECKSUM, 0);
  return l4 + UDP_HEADER;
}
