// Bytes put in or taken out between a packet's headers and its payload: metadata, markers, the UDP header around
// protocols without ports. The payload never moves: the headers in front of it slide into the headroom, or back.
// Checksums are updated, not made anew, so that a wrong one stays wrong:
//
//   T = H + P        the sum behind an L4 checksum: T = ~checksum; H = pseudo header and header; P = payload
//   T' = H' + M + P  with M the bytes between; when M has an odd length every byte of P changes its place in its word,
//                    and P's sum has its two bytes swapped (RFC 1071 section 2 B)
//
// What becomes longer than its headers can say: wire/long-packet.ts. All functions change the frame's row in `batch` and the decoded `key` row to what the frame is afterwards.

import { getU16, setU16 } from "../base/bytes.ts";
import type { FrameBatch } from "../io/port.ts";
import {
  applyDelta,
  deltaU16,
  fold,
  l4Checksum,
  l4ChecksumOffset,
  pseudoHeaderSum,
  sumWords,
} from "../wire/checksum.ts";
import { AT_END, AT_L3, AT_L4, AT_PAYLOAD, KEY_PROTOCOL, PROTOCOL_UDP } from "../wire/flow-key.ts";
import { lengthField, udpEnd } from "../wire/long-packet.ts";

const UDP_HEADER = 8;

/** Put the first `length` bytes of `inserted` in front of the L4 payload of a TCP or UDP packet whose checksum is whole. Needs `length` bytes of headroom. */
export function insertBeforePayload(
  batch: FrameBatch,
  i: number,
  key: Int32Array,
  inserted: Uint8Array,
  length: number,
): void {
  const bytes = batch.bytes;
  const sum = sumWords(inserted, 0, length, 0);
  resize(batch, i, key, length, sum);
  const at = key[AT_PAYLOAD] - length;
  for (let k = 0; k < length; k++) bytes[at + k] = inserted[k];
  key[AT_PAYLOAD] = at;
}

/** Take `length` bytes out from the start of the L4 payload of a TCP or UDP packet. */
export function removeBeforePayload(batch: FrameBatch, i: number, key: Int32Array, length: number): void {
  const at = key[AT_PAYLOAD];
  const sum = sumWords(batch.bytes, at, at + length, 0);
  resize(batch, i, key, -length, sum);
  key[AT_PAYLOAD] = at + length;
}

/** Slide Ethernet, IPv4 and L4 header by `-growth` bytes and set lengths and checksums for `growth` bytes more of payload, which add up to `sum`. */
function resize(batch: FrameBatch, i: number, key: Int32Array, growth: number, sum: number): void {
  const bytes = batch.bytes;
  const offset = batch.offset[i];
  const l4Old = key[AT_L4];
  const payload = key[AT_PAYLOAD];
  const protocol = bytes[key[AT_L3] + 9];
  const field = l4Old + l4ChecksumOffset(protocol);
  const stored = getU16(bytes, field);
  const covered = (protocol === PROTOCOL_UDP ? udpEnd(bytes, l4Old, key[AT_END]) : key[AT_END]) - l4Old;
  const headerBefore = headerSum(bytes, key[AT_L3], l4Old, payload, covered, stored);

  bytes.copyWithin(offset - growth, offset, payload);
  batch.offset[i] = offset - growth;
  batch.length[i] += growth;
  key[AT_L3] -= growth;
  key[AT_L4] -= growth;
  const l3 = key[AT_L3];
  const l4 = key[AT_L4];
  setTotalLength(bytes, l3, key[AT_END] - l3);
  if (protocol === PROTOCOL_UDP) setU16(bytes, l4 + 4, lengthField(covered + growth));
  if (protocol === PROTOCOL_UDP && stored === 0) return;

  const headerAfter = headerSum(bytes, l3, l4, payload - growth, covered + growth, stored);
  let rest = subtract(~stored & 0xffff, headerBefore);
  if (growth < 0) rest = subtract(rest, fold(sum));
  if ((growth & 1) !== 0) rest = swapBytes(rest);
  const total = growth > 0 ? fold(headerAfter + fold(sum) + rest) : fold(headerAfter + rest);
  const checksum = ~total & 0xffff;
  setU16(bytes, l4 + l4ChecksumOffset(protocol), checksum === 0 && protocol === PROTOCOL_UDP ? 0xffff : checksum);
}

/** Folded sum of pseudo header and L4 header, the checksum field (which holds `stored`) left out. */
function headerSum(
  bytes: Uint8Array,
  l3: number,
  l4: number,
  payload: number,
  l4Length: number,
  stored: number,
): number {
  return fold(sumWords(bytes, l4, payload, pseudoHeaderSum(bytes, l3, l4Length)) - stored);
}

/** a - b in ones' complement. */
function subtract(a: number, b: number): number {
  return fold(a + (~b & 0xffff));
}

function swapBytes(sum: number): number {
  return ((sum << 8) & 0xff00) | (sum >>> 8);
}

/**
 * The L4 payload of a TCP or UDP packet ends at `to` from now on: a digest was put behind it, or is taken off. Its bytes
 * are there in both cases.
 */
export function moveEnd(batch: FrameBatch, i: number, key: Int32Array, to: number): void {
  const { bytes } = batch;
  const end = key[AT_END];
  const l4 = key[AT_L4];
  const grows = to > end;
  let sum = fold(sumWords(bytes, grows ? end : to, grows ? to : end, 0));
  if (((Math.min(end, to) - l4) & 1) !== 0) sum = swapBytes(sum);
  const protocol = bytes[key[AT_L3] + 9];
  const field = l4 + l4ChecksumOffset(protocol);
  const stored = getU16(bytes, field);
  const before = end - l4;
  endPacket(batch, i, key, to);
  if (protocol === PROTOCOL_UDP && stored === 0) return;
  // The length is in the pseudo header, and in a UDP header once more.
  const lengths = subtract(fold(to - l4), fold(before));
  const again = protocol === PROTOCOL_UDP ? subtract(lengthField(to - l4), lengthField(before)) : 0;
  let total = fold((~stored & 0xffff) + lengths + again);
  total = grows ? fold(total + sum) : subtract(total, sum);
  const checksum = ~total & 0xffff;
  setU16(bytes, field, checksum === 0 && protocol === PROTOCOL_UDP ? 0xffff : checksum);
}

/** The L4 payload of a TCP or UDP packet is another one that ends at `to`, whose folded sum is `sum`: lengths, and the checksum made anew. */
export function replacePayload(batch: FrameBatch, i: number, key: Int32Array, to: number, sum: number): void {
  key[AT_END] = to;
  batch.length[i] = to - batch.offset[i];
  endPayload(batch.bytes, key, 0, sum);
}

/**
 * Whether the checksum of the TCP or UDP packet decoded into the row at keys[at] is right, `sum` being the folded sum of
 * its payload. UDP without a checksum is right.
 */
export function payloadIsRight(bytes: Uint8Array, keys: Int32Array, at: number, sum: number): boolean {
  const l3 = keys[at + AT_L3];
  const l4 = keys[at + AT_L4];
  if (bytes[l3 + 9] === PROTOCOL_UDP && getU16(bytes, l4 + 6) === 0) return true;
  const header = sumWords(bytes, l4, keys[at + AT_PAYLOAD], pseudoHeaderSum(bytes, l3, keys[at + AT_END] - l4));
  return fold(header + sum) === 0xffff;
}

/**
 * Make the IPv4 total length, the UDP length and the L4 checksum say what is there: a payload that ends at the row's
 * AT_END and whose folded sum is `sum`. The IPv4 header checksum follows by the change.
 */
export function endPayload(bytes: Uint8Array, keys: Int32Array, at: number, sum: number): void {
  const l3 = keys[at + AT_L3];
  const l4 = keys[at + AT_L4];
  const end = keys[at + AT_END];
  const protocol = bytes[l3 + 9];
  setTotalLength(bytes, l3, end - l3);
  if (protocol === PROTOCOL_UDP) setU16(bytes, l4 + 4, lengthField(end - l4));
  const field = l4 + l4ChecksumOffset(protocol);
  setU16(bytes, field, 0);
  const header = sumWords(bytes, l4, keys[at + AT_PAYLOAD], pseudoHeaderSum(bytes, l3, end - l4));
  const checksum = ~fold(header + sum) & 0xffff;
  setU16(bytes, field, checksum === 0 && protocol === PROTOCOL_UDP ? 0xffff : checksum);
}

/** The packet ends at `to`: the frame's length, the IPv4 total length and the UDP length say so. */
export function endPacket(batch: FrameBatch, i: number, key: Int32Array, to: number): void {
  const { bytes } = batch;
  key[AT_END] = to;
  batch.length[i] = to - batch.offset[i];
  setTotalLength(bytes, key[AT_L3], to - key[AT_L3]);
  if (bytes[key[AT_L3] + 9] === PROTOCOL_UDP) setU16(bytes, key[AT_L4] + 4, lengthField(to - key[AT_L4]));
}

/** Bytes behind the UDP length (RFC 9868) belong to no datagram, no checksum and no digest: the packet ends before them. */
export function endOfPayload(batch: FrameBatch, i: number, key: Int32Array): void {
  if (batch.bytes[key[AT_L3] + 9] !== PROTOCOL_UDP) return;
  const end = udpEnd(batch.bytes, key[AT_L4], key[AT_END]);
  if (end !== key[AT_END]) endPacket(batch, i, key, end);
}

/** Store a new IPv4 total length and update the header checksum by the change. */
export function setTotalLength(bytes: Uint8Array, l3: number, total: number): void {
  const old = getU16(bytes, l3 + 2);
  const length = lengthField(total);
  setU16(bytes, l3 + 2, length);
  setU16(bytes, l3 + 10, applyDelta(getU16(bytes, l3 + 10), deltaU16(old, length)));
}

const NOTHING = new Uint8Array(0);

/**
 * Put a UDP header with `ports`, and `between` behind it, in front of everything behind the IPv4 header, which then says
 * UDP: protocols without ports between routers (protocol sheet 2.5). The UDP checksum is real; the message's own is not
 * touched.
 */
export function insertUdpHeader(
  batch: FrameBatch,
  i: number,
  key: Int32Array,
  ports: number,
  between: Uint8Array = NOTHING,
): void {
  const bytes = batch.bytes;
  moveHeaders(batch, i, key, UDP_HEADER + between.length, PROTOCOL_UDP);
  const l4 = key[AT_L4];
  bytes.set(between, l4 + UDP_HEADER);
  setU16(bytes, l4, ports >>> 16);
  setU16(bytes, l4 + 2, ports);
  setU16(bytes, l4 + 4, lengthField(key[AT_END] - l4));
  setU16(bytes, l4 + 6, 0);
  setU16(bytes, l4 + 6, l4Checksum(bytes, key[AT_L3], l4, key[AT_END]));
  key[AT_PAYLOAD] = l4 + UDP_HEADER;
}

/** Take that UDP header, and `behind` bytes, off again and give the packet back its protocol. */
export function removeUdpHeader(batch: FrameBatch, i: number, key: Int32Array, protocol: number, behind = 0): void {
  moveHeaders(batch, i, key, -UDP_HEADER - behind, protocol);
  key[AT_PAYLOAD] = key[AT_L4];
}

/** Slide Ethernet and IPv4 header by `-growth`; total length and protocol change, the header checksum with them. */
function moveHeaders(batch: FrameBatch, i: number, key: Int32Array, growth: number, protocol: number): void {
  const bytes = batch.bytes;
  const offset = batch.offset[i];
  bytes.copyWithin(offset - growth, offset, key[AT_L4]);
  batch.offset[i] = offset - growth;
  batch.length[i] += growth;
  key[AT_L3] -= growth;
  key[AT_L4] -= growth;
  const l3 = key[AT_L3];
  setTotalLength(bytes, l3, key[AT_END] - l3);
  const old = bytes[l3 + 9];
  bytes[l3 + 9] = protocol;
  // TTL and protocol share a word; only the low byte changes.
  setU16(bytes, l3 + 10, applyDelta(getU16(bytes, l3 + 10), deltaU16(old, protocol)));
}

/** Where the L4 payload ends: bytes behind the UDP length (RFC 9868) belong to no datagram and no checksum. */
export function payloadEnd(bytes: Uint8Array, key: Int32Array): number {
  const udp = (key[KEY_PROTOCOL] & 0xff) === PROTOCOL_UDP;
  return udp ? udpEnd(bytes, key[AT_L4], key[AT_END]) : key[AT_END];
}
