// TCP that travels as UDP between two routers, because something between them takes no TCP of this kind (protocol sheet
// 2.5, udp-transform). The TCP header stays where it is, and its first 8 bytes are made to look like a UDP header:
//
//   TCP   | ports 4 | sequence 4            | acknowledgment 4 | length, flags, window 4 | checksum 2, urgent 2 | options |
//   UDP   | ports 4 | length 2, checksum 2  | acknowledgment 4 | length, flags, window 4 | sequence 4           | options |
//                                           ^ metadata, digests and fragments see a UDP payload from here on
//
// Not a byte is added. What is lost is the urgent pointer, so segments that use it do not travel (drop.tcp-urgent), and the
// checksum: damage is told on by the UDP checksum, which is as wrong as that was, and then goes no further than the peer.

import { getI32, getU16, setU16, setU32 } from "../base/bytes.ts";
import { applyDelta, deltaU16, fold, l4Checksum, l4Sum } from "../wire/checksum.ts";
import {
  AT_END,
  AT_L3,
  AT_L4,
  AT_PAYLOAD,
  KEY_PROTOCOL,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TCP_EVENT_FLAGS,
  TRAIT_COOKIE,
  TRAIT_TCP_EVENT,
  TRAITS,
} from "../wire/flow-key.ts";
import { IPV4_CHECKSUM, IPV4_PROTOCOL } from "../wire/ipv4.ts";
import { lengthField, udpEnd } from "../wire/long-packet.ts";
import {
  ACK,
  getTcpFlags,
  getTcpHeaderLength,
  getTcpSequence,
  TCP_CHECKSUM,
  TCP_FLAGS,
  TCP_HEADER,
  TCP_HEADER_LENGTH,
  TCP_SEQUENCE,
  URG,
} from "../wire/tcp.ts";
import { UDP_CHECKSUM, UDP_HEADER, UDP_LENGTH } from "../wire/udp.ts";
import { DROP_TCP_IN_UDP, DROP_TCP_URGENT, DROP_UDP_CHECKSUM, OK } from "../wire/verdict.ts";

/** Where the sequence number is saved: over checksum and urgent pointer. */
const SAVED_SEQUENCE = TCP_CHECKSUM;
/** What is left of a TCP header without options behind the UDP header. */
export const TCP_REST = TCP_HEADER - UDP_HEADER;

/** Make the TCP packet of this row a UDP one. Its checksum is whole. OK, or DROP_TCP_URGENT with nothing changed. */
export function tcpToUdp(bytes: Uint8Array, key: Int32Array): number {
  const [l3, l4, end] = [key[AT_L3], key[AT_L4], key[AT_END]];
  if ((getTcpFlags(bytes, l4) & URG) !== 0) return DROP_TCP_URGENT;
  const error = fold(l4Sum(bytes, l3, l4, end)) % 0xffff;
  setU32(bytes, l4 + SAVED_SEQUENCE, getTcpSequence(bytes, l4));
  setProtocol(bytes, key, PROTOCOL_UDP);
  setU16(bytes, l4 + UDP_LENGTH, lengthField(end - l4));
  setU16(bytes, l4 + UDP_CHECKSUM, 0);
  setU16(bytes, l4 + UDP_CHECKSUM, fold(l4Checksum(bytes, l3, l4, end) + error) || 0xffff);
  key[AT_PAYLOAD] = l4 + UDP_HEADER;
  return OK;
}

/** Make the UDP packet of this row, whose metadata is off, the TCP one that it was. OK, or why not. */
export function udpToTcp(bytes: Uint8Array, key: Int32Array): number {
  const [l3, l4, end] = [key[AT_L3], key[AT_L4], key[AT_END]];
  if (udpEnd(bytes, l4, end) !== end || end - l4 < TCP_HEADER) return DROP_TCP_IN_UDP;
  const payload = l4 + getTcpHeaderLength(bytes, l4);
  const flags = getTcpFlags(bytes, l4);
  if (payload < l4 + TCP_HEADER || payload > end || (flags & URG) !== 0) return DROP_TCP_IN_UDP;
  if (fold(l4Sum(bytes, l3, l4, end)) !== 0xffff) return DROP_UDP_CHECKSUM;
  setU32(bytes, l4 + TCP_SEQUENCE, getI32(bytes, l4 + SAVED_SEQUENCE));
  setU32(bytes, l4 + TCP_CHECKSUM, 0); // and the urgent pointer
  setProtocol(bytes, key, PROTOCOL_TCP);
  setU16(bytes, l4 + TCP_CHECKSUM, l4Checksum(bytes, l3, l4, end));
  key[AT_PAYLOAD] = payload;
  key[TRAITS] &= ~(TRAIT_COOKIE | TRAIT_TCP_EVENT);
  if ((flags & TCP_EVENT_FLAGS) !== 0) key[TRAITS] |= TRAIT_TCP_EVENT;
  return OK;
}

/**
 * Where the TCP header is of a packet from a peer with `metadataLength` bytes of metadata on it: but for the ports and the
 * sequence number all of it can be read there. -1 = the packet, which goes as UDP, has none.
 */
export function tcpHeaderAt(key: Int32Array, metadataLength: number): number {
  if ((key[KEY_PROTOCOL] & 0xff) === PROTOCOL_TCP) return key[AT_L4];
  const rest = key[AT_PAYLOAD] + metadataLength;
  return rest + TCP_REST <= key[AT_END] ? rest - UDP_HEADER : -1;
}

/** Whether a UDP packet with so much metadata on it can be of a TCP session: there is a header behind that. */
export function hasTcpHeader(bytes: Uint8Array, key: Int32Array, metadataLength: number): boolean {
  const l4 = tcpHeaderAt(key, metadataLength);
  if (l4 < 0) return false;
  const length = getTcpHeaderLength(bytes, l4);
  return length >= TCP_HEADER && l4 + length <= key[AT_END] && (getTcpFlags(bytes, l4) & URG) === 0;
}

/** Write what a packet of our own has behind its metadata in place of a TCP header: an acknowledgment. TCP_REST bytes. */
export function writeTcpRest(bytes: Uint8Array, at: number, sequence: number, acknowledgment: number): void {
  const header = at - UDP_HEADER;
  setU32(bytes, at, acknowledgment);
  bytes[header + TCP_HEADER_LENGTH] = (TCP_HEADER >>> 2) << 4;
  bytes[header + TCP_FLAGS] = ACK;
  setU16(bytes, header + TCP_FLAGS + 1, 0);
  setU32(bytes, header + SAVED_SEQUENCE, sequence);
}

/** The saved sequence number of a packet that goes as UDP, whose header at `l4` has no metadata behind it. */
export function savedSequence(bytes: Uint8Array, l4: number): number {
  return getI32(bytes, l4 + SAVED_SEQUENCE);
}

/** Of the header of the packet in this row; its checksum follows by the change. */
function setProtocol(bytes: Uint8Array, key: Int32Array, protocol: number): void {
  const l3 = key[AT_L3];
  const old = bytes[l3 + IPV4_PROTOCOL];
  bytes[l3 + IPV4_PROTOCOL] = protocol;
  const checksum = getU16(bytes, l3 + IPV4_CHECKSUM);
  setU16(bytes, l3 + IPV4_CHECKSUM, applyDelta(checksum, deltaU16(old, protocol)));
  key[KEY_PROTOCOL] = (key[KEY_PROTOCOL] & ~0xff) | protocol;
}
