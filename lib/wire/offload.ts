// HOT
// Work that senders leave to network hardware, done in software: checksums that hold only the pseudo-header sum
// ("partial": Linux veth, virtio, TSO), and super-frames of TCP and UDP, frames of up to 64 KiB that stand for several
// on the wire. Ports call this before a frame leaves for a device that does neither. Frames are decoded already: headers
// lie inside the frame, and `offset` is where its Ethernet header starts. Of IPv6 there are no extension headers, and so no
// pieces. Memory is the caller's throughout.

import { getI32, getU16, setU16, setU32 } from "../base/bytes.ts";
import { copyBytes } from "../base/copy.ts";
import {
  applyDelta,
  deltaU16,
  fold,
  l4Checksum,
  l4ChecksumOffset,
  l4Sum,
  pseudoHeaderSum,
  pseudoSum,
  sumWords,
} from "./checksum.ts";
import { ETHERNET_HEADER, PROTOCOL_TCP, PROTOCOL_UDP } from "./flow-key.ts";
import { IPV6_HEADER, IPV6_NEXT_HEADER, IPV6_PAYLOAD_LENGTH, IPV6_SOURCE } from "./ipv6.ts";
import { CWR, FIN, PSH } from "./tcp.ts";
import { UDP_HEADER } from "./udp.ts";

/**
 * Whether the TCP or UDP checksum field holds the bare pseudo-header sum of this packet. One checksum in 65,536 does
 * by chance; completing a right one of those gives the same value again.
 */
export function isChecksumPartial(bytes: Uint8Array, l3: number, l4: number, end: number): boolean {
  const protocol = bytes[l3 + 9];
  const source = getI32(bytes, l3 + 12);
  const destination = getI32(bytes, l3 + 16);
  if (protocol === PROTOCOL_TCP) return getU16(bytes, l4 + 16) === pseudoSum(source, destination, protocol, end - l4);
  if (protocol !== PROTOCOL_UDP) return false;
  return getU16(bytes, l4 + 6) === pseudoSum(source, destination, protocol, getU16(bytes, l4 + 4));
}

const isIpv6 = (bytes: Uint8Array, l3: number): boolean => bytes[l3] >>> 4 === 6;

const l4Of = (bytes: Uint8Array, l3: number): number =>
  isIpv6(bytes, l3) ? l3 + IPV6_HEADER : l3 + ((bytes[l3] & 15) << 2);

/** The L4 protocol of the packet at `l3`. */
export const protocolOf = (bytes: Uint8Array, l3: number): number =>
  isIpv6(bytes, l3) ? bytes[l3 + IPV6_NEXT_HEADER] : bytes[l3 + 9];

const endOf = (bytes: Uint8Array, l3: number): number =>
  isIpv6(bytes, l3) ? l3 + IPV6_HEADER + getU16(bytes, l3 + IPV6_PAYLOAD_LENGTH) : l3 + getU16(bytes, l3 + 2);

/** pseudoHeaderSum of either family (RFC 8200, 8.1). */
function pseudoSumOf(bytes: Uint8Array, l3: number, l4Length: number): number {
  if (!isIpv6(bytes, l3)) return pseudoHeaderSum(bytes, l3, l4Length);
  return sumWords(bytes, l3 + IPV6_SOURCE, l3 + IPV6_HEADER, bytes[l3 + IPV6_NEXT_HEADER] + l4Length);
}

/** l4Sum of either family, of TCP and UDP. */
function l4SumOf(bytes: Uint8Array, l3: number, l4: number, end: number): number {
  if (!isIpv6(bytes, l3)) return l4Sum(bytes, l3, l4, end);
  const length = bytes[l3 + IPV6_NEXT_HEADER] === PROTOCOL_UDP ? getU16(bytes, l4 + 4) : end - l4;
  return sumWords(bytes, l4, l4 + length, pseudoSumOf(bytes, l3, length));
}

/** Store the full L4 checksum of the frame at `offset`; protocols without a known checksum are left alone. */
export function completeChecksum(bytes: Uint8Array, offset: number): void {
  const l3 = offset + ETHERNET_HEADER;
  const l4 = l4Of(bytes, l3);
  const end = endOf(bytes, l3);
  const protocol = protocolOf(bytes, l3);
  const field = l4ChecksumOffset(protocol);
  if (field < 0) return;
  if (!isIpv6(bytes, l3)) {
    setU16(bytes, l4 + field, l4Checksum(bytes, l3, l4, end));
    return;
  }
  if (protocol !== PROTOCOL_TCP && protocol !== PROTOCOL_UDP) return;
  setU16(bytes, l4 + field, 0);
  const checksum = ~fold(l4SumOf(bytes, l3, l4, end)) & 0xffff;
  setU16(bytes, l4 + field, checksum === 0 && protocol === PROTOCOL_UDP ? 0xffff : checksum);
}

/**
 * Leave of the right checksum of the TCP or UDP super-frame bytes[offset..offset+length) only the pseudo header's sum, as
 * a sender does that leaves the rest to hardware. False, and nothing done, when it is wrong or there is none.
 */
export function takeChecksumBack(bytes: Uint8Array, offset: number, length: number): boolean {
  const l3 = offset + ETHERNET_HEADER;
  const l4 = l4Of(bytes, l3);
  const field = l4 + l4ChecksumOffset(protocolOf(bytes, l3));
  if (getU16(bytes, field) === 0 || superFrameError(bytes, offset, false) !== 0) return false;
  setU16(bytes, field, fold(pseudoSumOf(bytes, l3, offset + length - l4)));
  return true;
}

/**
 * How far the checksum of a super-frame is from right, as a 16-bit ones' complement number; 0 = right, or partial and
 * so not made yet. Its segments carry the same error: their receiver still sees the damage.
 */
export function superFrameError(bytes: Uint8Array, offset: number, partial: boolean): number {
  if (partial) return 0;
  const l3 = offset + ETHERNET_HEADER;
  return fold(l4SumOf(bytes, l3, l4Of(bytes, l3), endOf(bytes, l3))) % 0xffff;
}

/** The most payload a segment of the TCP or UDP frame at `offset` may have on a link of `mtu`. */
export function segmentSizeMax(bytes: Uint8Array, offset: number, mtu: number): number {
  const l3 = offset + ETHERNET_HEADER;
  const l4 = l4Of(bytes, l3);
  return mtu - (l4 - l3) - l4HeaderLength(bytes, l3, l4);
}

function l4HeaderLength(bytes: Uint8Array, l3: number, l4: number): number {
  return protocolOf(bytes, l3) === PROTOCOL_UDP ? UDP_HEADER : (bytes[l4 + 12] >>> 4) << 2;
}

/**
 * Write segment `index` (from 0) of the TCP or UDP super-frame at source[offset] to target[at], each with `segmentSize`
 * bytes of payload except the last. Returns the frame's length, 0 when there is no such segment. Headers and options are
 * copied; lengths, IPv4's identification, checksums and in TCP the sequence number, FIN, PSH and CWR are the segment's
 * own. `error` is superFrameError's. A wrong IPv4 header checksum stays wrong, and UDP without a checksum stays without.
 * Source and target may not overlap.
 */
export function segmentFrame(
  source: Uint8Array,
  offset: number,
  segmentSize: number,
  index: number,
  error: number,
  target: Uint8Array,
  at: number,
): number {
  const length = writeSegmentHeaders(source, offset, segmentSize, index, target, at);
  if (length === 0) return 0;
  const l3 = at + ETHERNET_HEADER;
  const l4 = l4Of(target, l3);
  const payload = l4 + l4HeaderLength(target, l3, l4);
  const end = at + length;
  const from = offset + (payload - at) + index * segmentSize;
  const isUdp = protocolOf(target, l3) === PROTOCOL_UDP;
  const field = isUdp ? l4 + 6 : l4 + 16;
  const none = isUdp && getU16(target, field) === 0;
  setU16(target, field, 0);
  const headerSum = sumWords(target, l4, payload, pseudoSumOf(target, l3, end - l4));
  const sum = copyAndSum(source, from, from + end - payload, target, payload, headerSum);
  const checksum = fold((~fold(sum) & 0xffff) + error);
  if (!none) setU16(target, field, isUdp && checksum === 0 ? 0xffff : checksum);
  return length;
}

/** segmentFrame for a caller who makes the L4 checksum anew: the super-frame's own stands in its field. */
export function cutSegment(
  source: Uint8Array,
  offset: number,
  segmentSize: number,
  index: number,
  target: Uint8Array,
  at: number,
): number {
  const length = writeSegmentHeaders(source, offset, segmentSize, index, target, at);
  if (length === 0) return 0;
  const l3 = at + ETHERNET_HEADER;
  const l4 = l4Of(target, l3);
  const headers = l4 + l4HeaderLength(target, l3, l4) - at;
  const from = offset + headers + index * segmentSize;
  copyBytes(source, from, from + length - headers, target, at + headers);
  return length;
}

/** Everything of a segment but its payload and its L4 checksum. Returns the frame's length, 0 when there is no such segment. */
function writeSegmentHeaders(
  source: Uint8Array,
  offset: number,
  segmentSize: number,
  index: number,
  target: Uint8Array,
  at: number,
): number {
  const fromL3 = offset + ETHERNET_HEADER;
  const fromL4 = l4Of(source, fromL3);
  const fromPayload = fromL4 + l4HeaderLength(source, fromL3, fromL4);
  const isUdp = protocolOf(source, fromL3) === PROTOCOL_UDP;
  const fromEnd = isUdp ? fromL4 + getU16(source, fromL4 + 4) : endOf(source, fromL3);
  const skip = index * segmentSize;
  const from = fromPayload + skip;
  if (segmentSize < 1 || (from >= fromEnd && index > 0)) return 0;
  const last = from + segmentSize >= fromEnd;
  const to = last ? fromEnd : from + segmentSize;

  for (let i = offset, j = at; i < fromPayload; i++, j++) target[j] = source[i];
  const l3 = at + ETHERNET_HEADER;
  const l4 = l3 + (fromL4 - fromL3);
  const end = l4 + (fromPayload - fromL4) + (to - from);

  if (isIpv6(source, fromL3)) {
    setU16(target, l3 + IPV6_PAYLOAD_LENGTH, end - l4);
  } else {
    const identification = getU16(source, fromL3 + 4);
    setU16(target, l3 + 2, end - l3);
    setU16(target, l3 + 4, identification + index);
    const lengthDelta = deltaU16(getU16(source, fromL3 + 2), end - l3);
    const delta = fold(lengthDelta + deltaU16(identification, identification + index));
    setU16(target, l3 + 10, applyDelta(getU16(source, fromL3 + 10), delta));
  }

  if (isUdp) {
    setU16(target, l4 + 4, end - l4);
  } else {
    setU32(target, l4 + 4, getI32(source, fromL4 + 4) + skip);
    if (!last) target[l4 + 13] &= ~(FIN | PSH);
    if (index > 0) target[l4 + 13] &= ~CWR;
  }
  return end - at;
}

/** sumWords over source[from..to), which it copies to target[at] on the way: one pass instead of two. */
function copyAndSum(source: Uint8Array, from: number, to: number, target: Uint8Array, at: number, sum: number): number {
  let high = 0;
  let low = 0;
  for (; from < to - 1; from += 2, at += 2) {
    const first = source[from];
    const second = source[from + 1];
    target[at] = first;
    target[at + 1] = second;
    high += first;
    low += second;
  }
  if (from < to) {
    target[at] = source[from];
    high += source[from];
  }
  return sum + high * 256 + low;
}
