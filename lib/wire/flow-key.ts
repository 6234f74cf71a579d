// HOT
// THE decoder: a frame becomes a flow key and the offsets of its headers, or a verdict. No other function in this
// house walks headers (a second walker is how two parsers come to disagree, and that is how firewalls are bypassed).
// Ethernet II (IEEE 802.3), IPv4 (RFC 791), TCP (RFC 9293), UDP (RFC 768), ICMP (RFC 792).
//
//   | Ethernet 14 | IPv4 20..60 | TCP 20..60 / UDP 8 | payload ... | padding |
//   ^ offset      ^ AT_L3       ^ AT_L4              ^ AT_PAYLOAD  ^ AT_END       (other protocols: AT_PAYLOAD = AT_L4)
//
// The caller owns the rows, an Int32Array with KEY_ROW_WORDS a frame, and may reuse them: every word a verdict of OK
// promises is overwritten each time. Words 0..3 are the flow key and go to the flow table as they are. After OK (and after
// PUNT_ICMP_ERROR and PUNT_FRAGMENT) all offsets lie inside the frame, so readers behind need no checks of their own.

import { getI32 } from "../base/bytes.ts";
import {
  DROP_ETHERTYPE,
  DROP_ICMP_ERROR,
  DROP_ICMP_TYPE,
  DROP_IP_ADDRESS,
  DROP_IP_HEADER_LENGTH,
  DROP_IP_TOTAL_LENGTH,
  DROP_IP_VERSION,
  DROP_IPV6,
  DROP_L4_HEADER,
  DROP_LOOP,
  DROP_NOT_OURS,
  DROP_RUNT,
  DROP_SOURCE_MAC,
  DROP_VLAN,
  OK,
  PUNT_ARP,
  PUNT_FRAGMENT,
  PUNT_ICMP_ERROR,
} from "./verdict.ts";

// The key row.
export const KEY_SOURCE = 0;
export const KEY_DESTINATION = 1;
/** sourcePort << 16 | destinationPort; an ICMP echo has its identifier in both; 0 where a protocol has no ports. */
export const KEY_PORTS = 2;
/** ingress interface << 8 | IP protocol. */
export const KEY_PROTOCOL = 3;
export const AT_L3 = 4;
export const AT_L4 = 5;
export const AT_PAYLOAD = 6;
export const AT_END = 7;
/** Bits of TRAIT_*. */
export const TRAITS = 8;
/** Row r of several begins at r << KEY_SHIFT. */
export const KEY_SHIFT = 4;
export const KEY_ROW_WORDS = 16;

/** The L4 payload begins with the SVR cookie: metadata, or a payload that needs the false-positive marker. */
export const TRAIT_COOKIE = 1;
/** A TCP segment with SYN, FIN or RST. */
export const TRAIT_TCP_EVENT = 2;
/** A TTL under 2: the packet ends here. */
export const TRAIT_TTL = 4;

export const ETHERNET_HEADER = 14;
export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_ARP = 0x0806;
const ETHERTYPE_IPV6 = 0x86dd;
const ETHERTYPE_VLAN = 0x8100;
const ETHERTYPE_SERVICE_VLAN = 0x88a8;

export const PROTOCOL_ICMP = 1;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;

/** Of those that a session's ports are read and rewritten in. */
export const hasPorts = (protocol: number): boolean => protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP;

/** The SVR metadata cookie 4c48dbc6 ddf6670c as two int32 words (protocol sheet 3.1). */
export const COOKIE_HIGH = 0x4c48dbc6;
export const COOKIE_LOW = 0xddf6670c | 0;

/** FIN, SYN, RST. */
export const TCP_EVENT_FLAGS = 0x07;

/** Pass as `macHigh` to take frames for any station: captures made elsewhere. */
export const ANY_MAC = -1;

// A module's own constants are folded into its code; an exported one is loaded at each use (engine/README.md).
const SOURCE = KEY_SOURCE;
const DESTINATION = KEY_DESTINATION;
const PORTS = KEY_PORTS;
const PROTOCOL = KEY_PROTOCOL;
const L3 = AT_L3;
const L4 = AT_L4;
const PAYLOAD = AT_PAYLOAD;
const END = AT_END;
const ROW_TRAITS = TRAITS;
const COOKIE = TRAIT_COOKIE;
const TCP_EVENT = TRAIT_TCP_EVENT;
const EVENT_FLAGS = TCP_EVENT_FLAGS;
const LAST_HOP = TRAIT_TTL;
const HEADER = ETHERNET_HEADER;
const IPV4 = ETHERTYPE_IPV4;
const ARP = ETHERTYPE_ARP;
const ICMP = PROTOCOL_ICMP;
const TCP = PROTOCOL_TCP;
const UDP = PROTOCOL_UDP;
const COOKIE_0 = COOKIE_HIGH;
const COOKIE_1 = COOKIE_LOW;
const ANY = ANY_MAC;
const GOOD = OK;
const IS_ARP = PUNT_ARP;
const ICMP_ERROR = PUNT_ICMP_ERROR;
const RUNT = DROP_RUNT;
const SOURCE_MAC = DROP_SOURCE_MAC;
const LOOP = DROP_LOOP;
const NOT_OURS = DROP_NOT_OURS;
const IP_VERSION = DROP_IP_VERSION;
const IP_HEADER_LENGTH = DROP_IP_HEADER_LENGTH;
const IP_TOTAL_LENGTH = DROP_IP_TOTAL_LENGTH;
const FRAGMENT = PUNT_FRAGMENT;
const IP_ADDRESS = DROP_IP_ADDRESS;
const L4_HEADER = DROP_L4_HEADER;
const ICMP_TYPE = DROP_ICMP_TYPE;
const UNKNOWN_QUOTE = DROP_ICMP_ERROR;

/** RFC 1812 5.3.7: 0/8, 127/8, and everything from 224 up (multicast, reserved, broadcast) is not routed. */
const isNeverForwarded = (firstByte: number): boolean => firstByte === 0 || firstByte === 127 || firstByte >= 224;
/** Names of IPv6 addresses begin with 127 (table/address-book.ts), and come only from ports that have given them. */
const mayNotPass = (firstByte: number, named: boolean): boolean =>
  isNeverForwarded(firstByte) && !(named && firstByte === 127);

/** Whether the L4 payload from `at` to `end` begins with the SVR cookie. */
const hasCookie = (view: DataView, at: number, end: number): boolean =>
  end - at >= 8 && view.getInt32(at) === COOKIE_0 && view.getInt32(at + 4) === COOKIE_1;

/**
 * Decode the frame at `offset`, `length` bytes long, received on `interfaceId`, whose own MAC address is
 * `macHigh` (first 2 bytes) and `macLow` (last 4, int32). Returns OK with the key row at rows[at] filled, PUNT_ARP (row
 * unset), PUNT_ICMP_ERROR or PUNT_FRAGMENT (row filled as for OK, ports 0), or a drop reason. `named`: the interface is of
 * IPv6, and its addresses are names.
 */
export function decodeFrame(
  view: DataView,
  offset: number,
  length: number,
  interfaceId: number,
  macHigh: number,
  macLow: number,
  rows: Int32Array,
  at: number,
  named = false,
): number {
  if (length < HEADER) return RUNT;
  // Both MAC addresses are three words: four bytes, two and two, four.
  const first = view.getInt32(offset);
  const middle = view.getInt32(offset + 4);
  const etherType = view.getUint16(offset + 12);
  if ((middle & 0x0100) !== 0) return SOURCE_MAC;
  if (macHigh !== ANY && (middle & 0xffff) === macHigh && view.getInt32(offset + 8) === macLow) return LOOP;
  if (etherType === ARP) return IS_ARP;
  if ((first & 0x01000000) !== 0) return NOT_OURS;
  if (macHigh !== ANY && (first !== ((macHigh << 16) | (macLow >>> 16)) || middle >>> 16 !== (macLow & 0xffff)))
    return NOT_OURS;
  if (etherType !== IPV4) return refuseEtherType(etherType);

  const l3 = offset + HEADER;
  const room = length - HEADER;
  if (room < 20) return RUNT;
  // Version, header length and total length are one word.
  const head = view.getInt32(l3);
  if (head >>> 28 !== 4) return IP_VERSION;
  const headerLength = (head >>> 22) & 60;
  if (headerLength < 20 || headerLength > room) return IP_HEADER_LENGTH;
  const totalLength = head & 0xffff;
  if (totalLength < headerLength || totalLength > room) return IP_TOTAL_LENGTH;
  // More-fragments set or an offset: a piece has no ports, so it cannot be matched to a flow.
  const piece = view.getInt32(l3 + 4) & 0x3fff;

  const life = view.getInt32(l3 + 8);
  const source = view.getInt32(l3 + 12);
  const destination = view.getInt32(l3 + 16);
  if (mayNotPass(source >>> 24, named) || mayNotPass(destination >>> 24, named)) return IP_ADDRESS;

  const protocol = (life >>> 16) & 0xff;
  const l4 = l3 + headerLength;
  const end = l3 + totalLength;
  let ports = 0;
  let payload = l4;
  let payloadEnd = end;
  let traits = life >>> 25 === 0 ? LAST_HOP : 0;
  let verdict = GOOD;

  if (piece !== 0) {
    verdict = FRAGMENT;
  } else if (protocol === TCP) {
    if (end - l4 < 20) return L4_HEADER;
    const tcpHeaderLength = (view.getUint8(l4 + 12) >>> 4) << 2;
    payload = l4 + tcpHeaderLength;
    if (tcpHeaderLength < 20 || payload > end) return L4_HEADER;
    ports = view.getInt32(l4);
    if ((view.getUint8(l4 + 13) & EVENT_FLAGS) !== 0) traits |= TCP_EVENT;
  } else if (protocol === UDP) {
    if (end - l4 < 8) return L4_HEADER;
    const udpLength = view.getUint16(l4 + 4);
    if (udpLength < 8 || udpLength > end - l4) return L4_HEADER;
    payload = l4 + 8;
    payloadEnd = l4 + udpLength;
    ports = view.getInt32(l4);
  } else if (protocol === ICMP) {
    if (end - l4 < 8) return L4_HEADER;
    const type = view.getUint8(l4);
    if (type === 8 || type === 0) {
      const identifier = view.getUint16(l4 + 4);
      ports = (identifier << 16) | identifier;
    } else if (type === 3 || type === 4 || type === 5 || type === 11 || type === 12) {
      verdict = ICMP_ERROR;
    } else {
      return ICMP_TYPE;
    }
  }
  if (piece === 0 && hasCookie(view, payload, payloadEnd)) traits |= COOKIE;

  // A row begins at a multiple of 16, so | is +, and the compiler need not look for an overflow.
  rows[at | SOURCE] = source;
  rows[at | DESTINATION] = destination;
  rows[at | PORTS] = ports;
  rows[at | PROTOCOL] = (interfaceId << 8) | protocol;
  rows[at | L3] = l3;
  rows[at | L4] = l4;
  rows[at | PAYLOAD] = payload;
  rows[at | END] = end;
  rows[at | ROW_TRAITS] = traits;
  return verdict;
}

/**
 * Decode the packet that an ICMP error quotes at `from`: its IPv4 header and 8 bytes behind that, at least, before `end`. The
 * row at rows[at] then has the key of what would come back by `interfaceId`, and where the quote's headers are. Returns OK, or
 * DROP_ICMP_ERROR: a quote that is none, a fragment without ports, another ICMP message than an echo.
 */
export function decodeQuote(
  view: DataView,
  from: number,
  end: number,
  interfaceId: number,
  rows: Int32Array,
  at: number,
): number {
  if (end - from < 20) return UNKNOWN_QUOTE;
  const head = view.getInt32(from);
  const headerLength = (head >>> 22) & 60;
  const l4 = from + headerLength;
  if (head >>> 28 !== 4 || headerLength < 20 || end - l4 < 8) return UNKNOWN_QUOTE;
  if ((view.getInt32(from + 4) & 0x1fff) !== 0) return UNKNOWN_QUOTE;
  const protocol = view.getUint8(from + 9);
  let ports = 0;
  if (protocol === TCP || protocol === UDP) {
    ports = (view.getUint16(l4 + 2) << 16) | view.getUint16(l4);
  } else if (protocol === ICMP) {
    const type = view.getUint8(l4);
    if (type !== 8 && type !== 0) return UNKNOWN_QUOTE;
    const identifier = view.getUint16(l4 + 4);
    ports = (identifier << 16) | identifier;
  }
  rows[at | SOURCE] = view.getInt32(from + 16);
  rows[at | DESTINATION] = view.getInt32(from + 12);
  rows[at | PORTS] = ports;
  rows[at | PROTOCOL] = (interfaceId << 8) | protocol;
  rows[at | L3] = from;
  rows[at | L4] = l4;
  rows[at | PAYLOAD] = l4 + 8;
  rows[at | END] = end;
  rows[at | ROW_TRAITS] = 0;
  return GOOD;
}

/** Whether the L4 payload bytes[at..end) begins with the SVR cookie. */
export function startsWithCookie(bytes: Uint8Array, at: number, end: number): boolean {
  return end - at >= 8 && getI32(bytes, at) === COOKIE_HIGH && getI32(bytes, at + 4) === COOKIE_LOW;
}

function refuseEtherType(etherType: number): number {
  if (etherType === ETHERTYPE_IPV6) return DROP_IPV6;
  if (etherType === ETHERTYPE_VLAN || etherType === ETHERTYPE_SERVICE_VLAN) return DROP_VLAN;
  return DROP_ETHERTYPE;
}
