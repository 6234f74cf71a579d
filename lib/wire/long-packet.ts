// Packets longer than an IPv4 header can say. A host may send 65,535 bytes, and between routers a UDP header, metadata, padding
// and a digest are put on those; an IPv6 host may send 20 bytes more than the router's own form has room for. Such a packet is
// only ever in memory: it leaves in fabric fragments, or in IPv6's, and comes into being again where those are put together.
//
//   | Ethernet | IPv4, total length 0 | UDP, length 0 where it is above 65,535 | ... to the end of the frame |
//
// A length of 0 reaches to the end, as in IPv6's jumbograms (RFC 2675), and checksums cover it as there: the header as it
// stands, and the real length in the pseudo header. No frame that comes by a port is taken for one: decodeFrame refuses both.

import { getU16, setU16 } from "../base/bytes.ts";
import { ANY_MAC, AT_END, decodeFrame, ETHERNET_HEADER, PROTOCOL_UDP } from "./flow-key.ts";
import { IPV4_PROTOCOL, IPV4_TOTAL_LENGTH } from "./ipv4.ts";
import { UDP_LENGTH } from "./udp.ts";

/** The longest packet that an IPv4 header speaks of, and the longest datagram that a UDP header does. */
export const LENGTH_MAX = 0xffff;
/**
 * What the fabric puts on a packet at most: a UDP header, metadata of 704 bytes, padding and IV 32, a digest 32, the 20 bytes
 * that IPv6's longest has beyond LENGTH_MAX, and some more for the metadata of others.
 */
export const GROWTH_MAX = 1024;

/** What stands for this length in a header. */
export function lengthField(length: number): number {
  return length > LENGTH_MAX ? 0 : length;
}

/** Whether a frame of `length` bytes has a packet longer than its header can say. */
export function isLong(length: number): boolean {
  return length - ETHERNET_HEADER > LENGTH_MAX;
}

/** Where the datagram with its UDP header at `l4` ends, in a packet that ends at `end`. */
export function udpEnd(bytes: Uint8Array, l4: number, end: number): number {
  const length = getU16(bytes, l4 + UDP_LENGTH);
  return length === 0 ? end : l4 + length;
}

/** Make the header of a long packet say the most that it can: in a quote, nobody asks for more. */
export function writeLongest(bytes: Uint8Array, l3: number): void {
  if (getU16(bytes, l3 + IPV4_TOTAL_LENGTH) === 0) setU16(bytes, l3 + IPV4_TOTAL_LENGTH, LENGTH_MAX);
}

/** decodeFrame for a frame that was put together here, from the router's own and IPv6's addresses: it may be a long packet. */
export function decodeWhole(
  bytes: Uint8Array,
  view: DataView,
  offset: number,
  length: number,
  interfaceId: number,
  row: Int32Array,
): number {
  const l3 = offset + ETHERNET_HEADER;
  if (!isLong(length)) return decodeFrame(view, offset, length, interfaceId, ANY_MAC, 0, row, 0, true);
  // The decoder sees as much of it as a header can say.
  const l4 = l3 + ((bytes[l3] & 15) << 2);
  const isUdp = bytes[l3 + IPV4_PROTOCOL] === PROTOCOL_UDP;
  const told = getU16(bytes, l4 + UDP_LENGTH);
  setU16(bytes, l3 + IPV4_TOTAL_LENGTH, LENGTH_MAX);
  if (isUdp) setU16(bytes, l4 + UDP_LENGTH, LENGTH_MAX - (l4 - l3));
  const verdict = decodeFrame(view, offset, length, interfaceId, ANY_MAC, 0, row, 0, true);
  setU16(bytes, l3 + IPV4_TOTAL_LENGTH, 0);
  if (isUdp) setU16(bytes, l4 + UDP_LENGTH, told);
  row[AT_END] = offset + length;
  return verdict;
}
