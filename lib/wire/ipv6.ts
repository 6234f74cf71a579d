// HOT
// IPv6 (RFC 8200), ICMPv6 (RFC 4443) and neighbor discovery (RFC 4861): where things are.
//
//   | 6, traffic class, flow label 4 | payload length 2 | next header | hop limit | source 16 | destination 16 |
//   | extension header: next header, length in 8 bytes less the first | ...
//   ^ l3 is the first byte

import { getU16, setU16, setU32 } from "../base/bytes.ts";
import { fold, sumWords } from "./checksum.ts";
import { DROP_IPV6_EXTENSION, DROP_IPV6_OPTION, OK } from "./verdict.ts";

export const ETHERTYPE_IPV6 = 0x86dd;
export const IPV6_PAYLOAD_LENGTH = 4;
export const IPV6_NEXT_HEADER = 6;
export const IPV6_HOP_LIMIT = 7;
export const IPV6_SOURCE = 8;
export const IPV6_DESTINATION = 24;
export const IPV6_HEADER = 40;
export const IPV6_FRAGMENT_HEADER = 8;
/** The upper two bytes of a group's MAC address; the others are the last four of the group (RFC 2464, 7). */
export const GROUP_MAC_HIGH = 0x3333;
/** What every link must take (RFC 8200, 5). */
export const IPV6_MTU_MIN = 1280;

export const PROTOCOL_ICMPV6 = 58;
/** Next header: hop-by-hop options, only behind the IPv6 header itself. */
export const HOP_BY_HOP = 0;
const ROUTING = 43;
/** Next header: a fragment header. */
export const IPV6_FRAGMENT = 44;
const NO_NEXT = 59;
const DESTINATION_OPTIONS = 60;
// The highest two bits of an option's type (RFC 8200, 4.2): what becomes of the packet. The other two tell its sender.
const PASSED_OVER = 0;
const SILENTLY = 1;
export const TELL_ALWAYS = 2;
/** More of them than any sender has a use for. */
const EXTENSIONS_MAX = 8;

export const ICMPV6_UNREACHABLE = 1;
export const ICMPV6_TOO_BIG = 2;
export const ICMPV6_TIME_EXCEEDED = 3;
export const ICMPV6_PARAMETER_PROBLEM = 4;
// Codes of parameter problems (RFC 4443, 3.4).
export const ERRONEOUS_FIELD = 0;
export const NEXT_HEADER_UNKNOWN = 1;
export const OPTION_UNKNOWN = 2;
const NO_PROBLEM = -1;
export const ICMPV6_ECHO = 128;
export const ICMPV6_ECHO_REPLY = 129;
export const NEIGHBOR_SOLICITATION = 135;
export const NEIGHBOR_ADVERTISEMENT = 136;
export const ICMPV6_REDIRECT = 137;
/** The hop limit of neighbor discovery: nobody beyond the link can send it (RFC 4861, 7.1). */
export const NEIGHBOR_HOP_LIMIT = 255;
/** Type, code, checksum, flags or reserved, target: what is in front of the options of the last two. */
export const NEIGHBOR_MESSAGE = 24;
export const OPTION_SOURCE_MAC = 1;
export const OPTION_TARGET_MAC = 2;

/** The result of `walkHeaders`; the owner reuses one. */
export class HeaderWalk {
  /** The protocol behind the last extension header, and where that begins; -1 = it was not reached. */
  protocol = 0;
  l4 = 0;
  /** Of a fragment header: offset in 8 bytes, more to come, identification. All 0 where there is none that matters (RFC 6946). */
  fragmentOffset = 0;
  moreFragments = false;
  identification = 0;
  /** What the packet is cut to pieces of: the next header of the fragment header, and what is behind it. */
  cutProtocol = 0;
  cutFrom = 0;
  /** There were others than a fragment header. */
  hasOptions = false;
  /** Of a packet that goes no further: the code of the parameter problem that its sender may be told, and where it is, from the packet's start; -1 = none. */
  problem = NO_PROBLEM;
  problemAt = 0;
}

/** Why a packet is refused which was `refused` before, or OK: the first reason counts. */
function refuse(into: HeaderWalk, refused: number, reason: number, problem: number, problemAt: number): number {
  if (refused !== OK) return refused;
  into.problem = problem;
  into.problemAt = problemAt;
  return reason;
}

/**
 * Go through the extension headers of the packet at `l3`, which ends at `end`, once. OK; DROP_IPV6_EXTENSION: one does not
 * fit, there are more than eight, the next hop is in a routing header (RFC 5095), or there is nothing behind them;
 * DROP_IPV6_OPTION: they have an option that may not be passed over. Where its sender could be told of that the rest is read
 * too: of some packets nobody is told.
 */
export function walkHeaders(bytes: Uint8Array, l3: number, end: number, into: HeaderWalk): number {
  return walkFrom(bytes, l3, l3 + IPV6_NEXT_HEADER, l3 + IPV6_HEADER, end, into);
}

/** The same from the header at `at` on, whose type is at `protocolAt`; `problemAt` counts from `l3`. */
export function walkFrom(
  bytes: Uint8Array,
  l3: number,
  protocolAt: number,
  at: number,
  end: number,
  into: HeaderWalk,
): number {
  let protocol = bytes[protocolAt];
  let refused = OK;
  into.protocol = -1;
  into.fragmentOffset = 0;
  into.moreFragments = false;
  into.identification = 0;
  into.hasOptions = false;
  into.problem = NO_PROBLEM;
  for (let n = 0; ; n++) {
    const isOptions = protocol === HOP_BY_HOP || protocol === DESTINATION_OPTIONS || protocol === ROUTING;
    // Of a packet's later pieces nothing is known behind the fragment header.
    if ((!isOptions && protocol !== IPV6_FRAGMENT) || into.fragmentOffset > 0) break;
    if (n === EXTENSIONS_MAX || at + 8 > end) return refused || DROP_IPV6_EXTENSION;
    if (protocol === HOP_BY_HOP && n > 0)
      refused = refuse(into, refused, DROP_IPV6_EXTENSION, NEXT_HEADER_UNKNOWN, protocolAt - l3);
    if (protocol === ROUTING && bytes[at + 3] !== 0)
      refused = refuse(into, refused, DROP_IPV6_EXTENSION, ERRONEOUS_FIELD, at + 2 - l3);
    protocolAt = at;
    if (protocol === IPV6_FRAGMENT) {
      const field = getU16(bytes, at + 2);
      if (into.moreFragments) return refused || DROP_IPV6_EXTENSION;
      into.fragmentOffset = field >>> 3;
      into.moreFragments = (field & 1) !== 0;
      into.identification = getU16(bytes, at + 4) ^ getU16(bytes, at + 6);
      protocol = bytes[at];
      at += IPV6_FRAGMENT_HEADER;
      into.cutProtocol = protocol;
      into.cutFrom = at;
    } else {
      const next = at + ((bytes[at + 1] + 1) << 3);
      if (next > end) return refused || DROP_IPV6_EXTENSION;
      const option = protocol === ROUTING ? next : findRefused(bytes, at + 2, next);
      if (option < 0) return refused || DROP_IPV6_EXTENSION;
      if (option < next) {
        const problem = bytes[option] >>> 6 === SILENTLY ? NO_PROBLEM : OPTION_UNKNOWN;
        refused = refuse(into, refused, DROP_IPV6_OPTION, problem, option - l3);
      }
      into.hasOptions = true;
      protocol = bytes[at];
      at = next;
    }
  }
  into.protocol = protocol;
  into.l4 = at;
  return protocol === NO_NEXT ? refused || DROP_IPV6_EXTENSION : refused;
}

/**
 * Where in the options bytes[at..end) of one header the first one is that may go no further; `end` = none of them is; -1 = they
 * do not fit. Their highest two bits say what becomes of a packet whose receiver does not know them, and here nobody knows any.
 */
function findRefused(bytes: Uint8Array, at: number, end: number): number {
  while (at < end) {
    const type = bytes[at];
    if (type >>> 6 !== PASSED_OVER) return at;
    // One byte of padding has no length.
    if (type !== 0 && at + 2 > end) return -1;
    at += type === 0 ? 1 : 2 + bytes[at + 1];
  }
  return at === end ? end : -1;
}

/** Whether the checksum of the ICMPv6 message bytes[l4..end) of the packet at `l3` is right. */
export function icmpv6IsRight(bytes: Uint8Array, l3: number, l4: number, end: number): boolean {
  return fold(icmpv6Sum(bytes, l3, l4, end)) === 0xffff;
}

/** Store the checksum of the ICMPv6 message bytes[l4..end) of the packet at `l3`. */
export function completeIcmpv6(bytes: Uint8Array, l3: number, l4: number, end: number): void {
  setU16(bytes, l4 + 2, 0);
  setU16(bytes, l4 + 2, ~fold(icmpv6Sum(bytes, l3, l4, end)) & 0xffff);
}

function icmpv6Sum(bytes: Uint8Array, l3: number, l4: number, end: number): number {
  const pseudo = sumWords(bytes, l3 + IPV6_SOURCE, l3 + IPV6_HEADER, end - l4 + PROTOCOL_ICMPV6);
  return sumWords(bytes, l4, end, pseudo);
}

/** Write all of a header but the addresses. Returns the offset behind it. */
export function writeIpv6(
  bytes: Uint8Array,
  l3: number,
  trafficClass: number,
  flowLabel: number,
  payloadLength: number,
  nextHeader: number,
  hopLimit: number,
): number {
  setU32(bytes, l3, (6 << 28) | (trafficClass << 20) | flowLabel);
  setU16(bytes, l3 + IPV6_PAYLOAD_LENGTH, payloadLength);
  bytes[l3 + IPV6_NEXT_HEADER] = nextHeader;
  bytes[l3 + IPV6_HOP_LIMIT] = hopLimit;
  return l3 + IPV6_HEADER;
}
