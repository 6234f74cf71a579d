// Frames of IPv4 as IPv6, and of IPv6 as IPv4, for comparison; nothing of lib/ is used to find the way. The addresses' prefix
// adds up to nothing in a ones' complement sum (RFC 6052, 4.1), so that TCP's and UDP's checksums are what they were: right,
// wrong or left to hardware.

import { getU16, setU16 } from "../../lib/base/bytes.ts";

const L3 = 14;
const IPV4_HEADER = 20;
const IPV6_HEADER = 40;
const ICMP = 1;
const ICMPV6 = 58;
const FRAGMENT = 44;
/** Hop-by-hop options, a routing header, a fragment, destination options. */
const EXTENSION_HEADERS = [0, 43, FRAGMENT, 60];
/** 2001:db8:d246::/96: 0x2001 + 0x0db8 + 0xd246 = 0xffff. */
const PREFIX = Uint8Array.of(0x20, 0x01, 0x0d, 0xb8, 0xd2, 0x46, 0, 0, 0, 0, 0, 0);
/** Types of ICMP that are ICMPv6's by another number. */
const ECHOES: Readonly<Record<number, number>> = { 8: 128, 0: 129 };
const FROM_ECHOES: Readonly<Record<number, number>> = { 128: 8, 129: 0 };

export const isIpv6 = (frame: Uint8Array) => frame.length >= L3 + IPV6_HEADER && getU16(frame, 12) === 0x86dd;

const fold = (sum: number): number => (sum > 0xffff ? fold((sum & 0xffff) + (sum >>> 16)) : sum);

/** Put what a checksum's words changed by into it: a wrong one stays wrong. */
function adjust(frame: Uint8Array, at: number, removed: number, added: number): void {
  if (at + 2 > frame.length) return;
  const sum = fold((~getU16(frame, at) & 0xffff) + (~fold(removed) & 0xffff) + fold(added));
  setU16(frame, at, ~sum & 0xffff);
}

/**
 * The twin of an IPv4 frame, without its IP options; undefined where there is none: other types of ICMP than echoes, and those
 * in pieces, and what is no whole IPv4 header.
 */
export function ipv6Twin(frame: Uint8Array): Uint8Array | undefined {
  if (frame.length < L3 + IPV4_HEADER || getU16(frame, 12) !== 0x0800 || frame[L3] >>> 4 !== 4) return undefined;
  const l4 = L3 + (frame[L3] & 15) * 4;
  const said = getU16(frame, L3 + 2);
  if (l4 < L3 + IPV4_HEADER || l4 > frame.length || L3 + said < l4) return undefined;
  const protocol = frame[L3 + 9];
  const field = getU16(frame, L3 + 6);
  const isPiece = (field & 0x3fff) !== 0;
  const isIcmp = protocol === ICMP;
  if (isIcmp && (isPiece || ECHOES[frame[l4]] === undefined || l4 + 4 > frame.length)) return undefined;
  const extra = isPiece ? 8 : 0;
  const twin = new Uint8Array(L3 + IPV6_HEADER + extra + frame.length - l4);
  twin.set(frame.subarray(0, 12));
  const next = isIcmp ? ICMPV6 : protocol;
  const length = L3 + said - l4 + extra;
  const tos = frame[L3 + 1];
  const head = [0x86, 0xdd, 0x60 | (tos >>> 4), (tos & 15) << 4, frame[L3 + 4], frame[L3 + 5], length >>> 8, length];
  twin.set([...head, isPiece ? FRAGMENT : next, frame[L3 + 8]], 12);
  for (const [n, at] of [L3 + 12, L3 + 16].entries()) {
    twin.set(PREFIX, L3 + 8 + 16 * n);
    twin.set(frame.subarray(at, at + 4), L3 + 8 + 16 * n + 12);
  }
  const to = L3 + IPV6_HEADER + extra;
  if (isPiece) {
    const offset = (field & 0x1fff) << 3;
    const identification = [0, 0, frame[L3 + 4], frame[L3 + 5]];
    twin.set([next, 0, offset >>> 8, (offset & 0xff) | ((field & 0x2000) !== 0 ? 1 : 0), ...identification], to - 8);
  }
  twin.set(frame.subarray(l4), to);
  if (isIcmp) {
    twin[to] = ECHOES[frame[l4]];
    let ends = 0;
    for (let at = L3 + 12; at < L3 + 20; at += 2) ends += getU16(frame, at);
    adjust(twin, to + 2, getU16(frame, l4), getU16(twin, to) + ends + ICMPV6 + length);
  }
  return twin;
}

/** Where the headers of an IPv6 frame end that routers take off or look through, what is behind them, and where a fragment header is (0 = none). */
function walk(frame: Uint8Array): { l4: number; protocol: number; fragment: number } {
  let [l4, protocol, fragment] = [L3 + IPV6_HEADER, frame[L3 + 6], 0];
  while (EXTENSION_HEADERS.includes(protocol) && l4 + 8 <= frame.length) {
    if (protocol === FRAGMENT) fragment = l4;
    const length = protocol === FRAGMENT ? 8 : (frame[l4 + 1] + 1) * 8;
    if (l4 + length > frame.length) break;
    protocol = frame[l4];
    l4 += length;
  }
  return { l4, protocol, fragment };
}

/** Whether the checksum of a TCP or UDP packet is the bare sum of its pseudo header: left to hardware, a router finishes it. */
export function isUnfinishedIpv6(frame: Uint8Array): boolean {
  if (!isIpv6(frame)) return false;
  const { l4, protocol, fragment } = walk(frame);
  const at = l4 + (protocol === 6 ? 16 : 6);
  if (fragment > 0 || (protocol !== 6 && protocol !== 17) || at + 2 > frame.length) return false;
  const length = protocol === 17 ? getU16(frame, l4 + 4) : L3 + IPV6_HEADER + getU16(frame, L3 + 4) - l4;
  let sum = protocol + length;
  for (let word = L3 + 8; word < L3 + IPV6_HEADER; word += 2) sum += getU16(frame, word);
  return fold(sum) === getU16(frame, at);
}

/**
 * An IPv6 frame in IPv4's form, for comparison with another in it: each address is a word of its own, checksums are those that
 * IPv6 has, but for a twin's echoes. Extension headers are left out. Other frames are returned as they are.
 */
export function inIpv4Form(frame: Uint8Array): Uint8Array {
  if (!isIpv6(frame)) return frame;
  const { l4: from, protocol, fragment } = walk(frame);
  const isPiece = fragment > 0;
  const made = new Uint8Array(L3 + IPV4_HEADER + frame.length - from);
  made.set(frame.subarray(0, 12));
  const length = getU16(frame, L3 + 4) - (from - L3 - IPV6_HEADER) + IPV4_HEADER;
  const id = isPiece ? getU16(frame, fragment + 6) : getU16(frame, L3 + 2);
  const offset = isPiece ? getU16(frame, fragment + 2) : 0;
  const field = isPiece ? ((offset & 1) << 13) | (offset >>> 3) : 0x4000;
  const tos = ((frame[L3] & 15) << 4) | (frame[L3 + 1] >>> 4);
  made.set(
    [0x08, 0x00, 0x45, tos, length >>> 8, length, id >>> 8, id, field >>> 8, field, frame[L3 + 7], protocol],
    12,
  );
  for (const at of [0, 1]) made.set(wordOf(frame, L3 + 8 + 16 * at), L3 + 12 + 4 * at);
  const to = L3 + IPV4_HEADER;
  made.set(frame.subarray(from), to);
  if (protocol === ICMPV6 && !isPiece && made.length >= to + 4 && FROM_ECHOES[made[to]] !== undefined) {
    made[L3 + 9] = ICMP;
    made[to] = FROM_ECHOES[made[to]];
    let ends = 0;
    for (let at = L3 + 8; at < L3 + 40; at += 2) ends += getU16(frame, at);
    const payload = length - IPV4_HEADER;
    adjust(made, to + 2, getU16(frame, from) + ends + ICMPV6 + payload, getU16(made, to));
  }
  return made;
}

/** An IPv4 frame without its options: IPv6 has none. */
export function withoutOptions(frame: Uint8Array): Uint8Array {
  const more = (frame[L3] & 15) * 4 - IPV4_HEADER;
  if (more <= 0) return frame;
  const bare = new Uint8Array(frame.length - more);
  bare.set(frame.subarray(0, L3 + IPV4_HEADER));
  bare.set(frame.subarray(L3 + IPV4_HEADER + more), L3 + IPV4_HEADER);
  bare[L3] = 0x45;
  setU16(bare, L3 + 2, getU16(frame, L3 + 2) - more);
  return bare;
}

/** The four bytes of an address that stand for it: a twin's are IPv4's. */
function wordOf(frame: Uint8Array, at: number): number[] {
  const address = frame.subarray(at, at + 16);
  if (PREFIX.every((byte, n) => address[n] === byte)) return [...address.subarray(12)];
  const words = [0, 0];
  for (let n = 0; n < 16; n += 2) {
    words[0] = fold(words[0] * 3 + getU16(address, n));
    words[1] = fold(words[1] + getU16(address, n));
  }
  return [words[0] >>> 8, words[0] & 0xff, words[1] >>> 8, words[1] & 0xff];
}
