// HOT
// From IPv6 to the form that everything behind the ports knows: an IPv4 header with names for addresses (RFC 7915, with
// table/address-book.ts in the place of an address mapping). In place: what is in front of the L4 header becomes 20 bytes
// of IPv4 and moves right, the L4 header and the payload stay where they are.
//
//   | Ethernet 14 | IPv6 40 | extension headers | TCP, UDP, ICMPv6 ...
//                      | Ethernet 14 | IPv4 20  | TCP, UDP, ICMP ...
//
// Checksums change by what the addresses' names differ, so a wrong one stays wrong. Extension headers end here. Neighbor
// solicitations and advertisements become ARP requests and replies.

import { getI32, getU16, setU16, setU32 } from "../base/bytes.ts";
import { FRAME_CHECKSUM_KNOWN, FRAME_CHECKSUM_PARTIAL, FRAME_LABEL } from "../io/port.ts";
import type { AddressBook } from "../table/address-book.ts";
import { ARP_LENGTH, ARP_REPLY, ARP_REQUEST, writeArp } from "../wire/arp.ts";
import { addDelta, applyDelta, applyDeltaUdp, fold, l4ChecksumOffset, pseudoSum } from "../wire/checksum.ts";
import {
  BROADCAST_HIGH,
  BROADCAST_LOW,
  ETHERNET_DESTINATION,
  ETHERNET_SOURCE,
  ETHERNET_TYPE,
  getMacHigh,
  getMacLow,
  isGroupMac,
  setMac,
} from "../wire/ethernet.ts";
import {
  ETHERNET_HEADER,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  PROTOCOL_ICMP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
} from "../wire/flow-key.ts";
import { ICMP_ECHO, ICMP_ECHO_REPLY, ICMP_HEADER, writeIcmp } from "../wire/icmp.ts";
import { DONT_FRAGMENT, IPV4_HEADER, MORE_FRAGMENTS, writeIpv4 } from "../wire/ipv4.ts";
import {
  ETHERTYPE_IPV6,
  HeaderWalk,
  ICMPV6_ECHO,
  ICMPV6_ECHO_REPLY,
  ICMPV6_PARAMETER_PROBLEM,
  ICMPV6_UNREACHABLE,
  IPV6_DESTINATION,
  IPV6_HEADER,
  IPV6_HOP_LIMIT,
  IPV6_PAYLOAD_LENGTH,
  IPV6_SOURCE,
  icmpv6IsRight,
  NEIGHBOR_ADVERTISEMENT,
  NEIGHBOR_HOP_LIMIT,
  NEIGHBOR_MESSAGE,
  NEIGHBOR_SOLICITATION,
  OPTION_SOURCE_MAC,
  OPTION_TARGET_MAC,
  PROTOCOL_ICMPV6,
  walkHeaders,
} from "../wire/ipv6.ts";
import { UDP_CHECKSUM, UDP_HEADER } from "../wire/udp.ts";
import {
  DROP_ADDRESSES_FULL,
  DROP_ETHERTYPE,
  DROP_ICMP_ERROR,
  DROP_ICMP_TYPE,
  DROP_IP_ADDRESS,
  DROP_IP_TOTAL_LENGTH,
  DROP_IP_VERSION,
  DROP_L4_HEADER,
  DROP_NEIGHBOR_MALFORMED,
  DROP_NOT_OURS,
  DROP_RUNT,
  DROP_UDP_UNCHECKED,
  OK,
} from "../wire/verdict.ts";
import { withLabel } from "./flow-label.ts";
import { icmpOf, restOf } from "./icmp-codes.ts";
import { echoToIcmp } from "./icmp-echo.ts";

/** What takes an address's place in a ones' complement sum back to its name's. */
const undone = (delta: number): number => ~delta & 0xffff;

/** Of a sender or a receiver that a router has no business with: multicast, loopback, unspecified, link-local, IPv4 in IPv6. */
const isNeverForwarded = (bytes: Uint8Array, at: number): boolean => {
  const first = getU16(bytes, at);
  if (first >>> 8 === 0xff || (first & 0xffc0) === 0xfe80) return true;
  return getI32(bytes, at) === 0 && getI32(bytes, at + 4) === 0 && getU16(bytes, at + 8) === 0;
};

export class Inbound {
  readonly #book: AddressBook;
  /** Of the frame that `translate` was called with last, if it came so far. */
  readonly walk = new HeaderWalk();
  readonly #quoted = new HeaderWalk();
  /** Other threads have books of their own: an address that nobody knows here may be one of theirs. */
  readonly #isShared: boolean;
  /** Where the frame is after `translate` returned OK. */
  offset = 0;
  length = 0;
  /** Its flag column, with its flow label; of an ICMP error the label of the packet that it quotes. */
  flags = 0;
  /** Packets, or pieces of some, that went on without their extension headers. */
  extensionsRemoved = 0;

  /** `isShared`: there are other threads with books of their own. */
  constructor(book: AddressBook, isShared = false) {
    this.#book = book;
    this.#isShared = isShared;
  }

  /** Translate the frame bytes[at..at+length) with these flags. Returns OK, or a drop reason: nobody may want the frame then. */
  translate(bytes: Uint8Array, at: number, length: number, flags: number, nowMs: number): number {
    if (length < ETHERNET_HEADER) return DROP_RUNT;
    if (getU16(bytes, at + ETHERNET_TYPE) !== ETHERTYPE_IPV6) return DROP_ETHERTYPE;
    const l3 = at + ETHERNET_HEADER;
    if (length < ETHERNET_HEADER + IPV6_HEADER) return DROP_RUNT;
    if (bytes[l3] >>> 4 !== 6) return DROP_IP_VERSION;
    const end = l3 + IPV6_HEADER + getU16(bytes, l3 + IPV6_PAYLOAD_LENGTH);
    if (end > at + length) return DROP_IP_TOTAL_LENGTH;
    const { walk } = this;
    const walked = walkHeaders(bytes, l3, end, walk);
    if (walked !== OK) return walked;
    const { l4, fragmentOffset, moreFragments } = walk;
    const isPiece = moreFragments || fragmentOffset > 0;
    // Of pieces nobody makes neighbors (RFC 6980).
    if (walk.protocol === PROTOCOL_ICMPV6 && !isPiece) {
      if (end - l4 < ICMP_HEADER) return DROP_L4_HEADER;
      const type = bytes[l4];
      if (type === NEIGHBOR_SOLICITATION || type === NEIGHBOR_ADVERTISEMENT)
        return this.#neighbor(bytes, at, l3, l4, end, type, nowMs);
    }
    if (isGroupMac(getMacHigh(bytes, at + ETHERNET_DESTINATION))) return DROP_NOT_OURS;
    if (isNeverForwarded(bytes, l3 + IPV6_SOURCE) || isNeverForwarded(bytes, l3 + IPV6_DESTINATION))
      return DROP_IP_ADDRESS;
    // A piece keeps what it was cut from: where the others belong is counted from there. Headers in it end when all are together.
    const body = isPiece ? walk.cutFrom : l4;
    const total = end - body + IPV4_HEADER;
    if (total > 0xffff) return DROP_IP_TOTAL_LENGTH;
    const source = this.#name(bytes, l3 + IPV6_SOURCE, nowMs);
    const destination = this.#name(bytes, l3 + IPV6_DESTINATION, nowMs);
    if (source === 0 || destination === 0) return DROP_ADDRESSES_FULL;

    const head = getI32(bytes, l3);
    let protocol = walk.protocol;
    let newEnd = end;
    this.flags = flags | withLabel(head);
    if (protocol === PROTOCOL_ICMPV6) {
      const type = bytes[l4];
      if (!isPiece && type >= ICMPV6_UNREACHABLE && type <= ICMPV6_PARAMETER_PROBLEM) {
        newEnd = this.#error(bytes, l3, l4, end, nowMs);
        if (newEnd < 0) return DROP_ICMP_ERROR;
        protocol = PROTOCOL_ICMP;
      } else if (!isPiece && type !== ICMPV6_ECHO && type !== ICMPV6_ECHO_REPLY) return DROP_ICMP_TYPE;
    } else if (fragmentOffset === 0 && (protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP)) {
      const field = l4 + l4ChecksumOffset(protocol);
      if (field + 2 > end) return DROP_L4_HEADER;
      if (protocol === PROTOCOL_UDP && getU16(bytes, field) === 0) return DROP_UDP_UNCHECKED;
      const l4Length = protocol === PROTOCOL_UDP ? getU16(bytes, l4 + 4) : end - l4;
      this.#checksum(bytes, field, protocol, source, destination, l4Length, flags, isPiece);
    }

    if (isPiece) protocol = walk.cutProtocol;
    const to = body - IPV4_HEADER - ETHERNET_HEADER;
    const ttl = bytes[l3 + IPV6_HOP_LIMIT];
    // The low 16 bits of the flow label: as good as any identification for a packet that is never cut (RFC 6864).
    const identification = isPiece ? walk.identification : head & 0xffff;
    const flagsAndOffset = isPiece ? (moreFragments ? MORE_FRAGMENTS : 0) | fragmentOffset : DONT_FRAGMENT;
    moveMacs(bytes, at, to);
    setU16(bytes, to + ETHERNET_TYPE, ETHERTYPE_IPV4);
    writeIpv4(
      bytes,
      to + ETHERNET_HEADER,
      (head >>> 20) & 0xff,
      newEnd - body + IPV4_HEADER,
      identification,
      flagsAndOffset,
      ttl,
      protocol,
      source,
      destination,
    );
    if (protocol === PROTOCOL_ICMPV6 && !isPiece) echoToIcmp(this.#book, bytes, to + ETHERNET_HEADER, l4, newEnd);
    if (walk.hasOptions) this.extensionsRemoved++;
    this.offset = to;
    this.length = newEnd - to;
    return OK;
  }

  #name(bytes: Uint8Array, at: number, nowMs: number): number {
    return this.#book.enter(
      getI32(bytes, at),
      getI32(bytes, at + 4),
      getI32(bytes, at + 8),
      getI32(bytes, at + 12),
      nowMs,
    );
  }

  /** The name of an address that somebody in this router has to know; 0 = nobody does. */
  #known(bytes: Uint8Array, at: number, nowMs: number): number {
    return this.#isShared ? this.#name(bytes, at, nowMs) : this.#find(bytes, at);
  }

  #find(bytes: Uint8Array, at: number): number {
    return this.#book.find(getI32(bytes, at), getI32(bytes, at + 4), getI32(bytes, at + 8), getI32(bytes, at + 12));
  }

  /** A TCP or UDP checksum, or the bare sum of a pseudo header, as it is with the names. */
  #checksum(
    bytes: Uint8Array,
    field: number,
    protocol: number,
    source: number,
    destination: number,
    l4Length: number,
    flags: number,
    isPiece: boolean,
  ): void {
    const delta = addDelta(this.#book.delta(source), this.#book.delta(destination));
    const named = pseudoSum(source, destination, protocol, l4Length);
    const old = getU16(bytes, field);
    const isPartial =
      (flags & FRAME_CHECKSUM_KNOWN) !== 0
        ? (flags & FRAME_CHECKSUM_PARTIAL) !== 0
        : !isPiece && old % 0xffff === fold(named + delta) % 0xffff;
    if (isPartial) setU16(bytes, field, named);
    else if (protocol === PROTOCOL_UDP) setU16(bytes, field, applyDeltaUdp(old, undone(delta)));
    else setU16(bytes, field, applyDelta(old, undone(delta)));
  }

  /**
   * An error about a packet of ours becomes IPv4's, its quote too. Returns where the message ends now; -1 = it is wrong, of
   * no type that IPv4 has, or quotes addresses of nobody.
   */
  #error(bytes: Uint8Array, l3: number, l4: number, end: number, nowMs: number): number {
    const quote = l4 + ICMP_HEADER;
    if (end - quote < IPV6_HEADER || bytes[quote] >>> 4 !== 6 || !icmpv6IsRight(bytes, l3, l4, end)) return -1;
    const walk = this.#quoted;
    if (walkHeaders(bytes, quote, end, walk) !== OK || walk.fragmentOffset > 0) return -1;
    const type = icmpOf(bytes[l4], bytes[l4 + 1]);
    if (type < 0) return -1;
    const source = this.#known(bytes, quote + IPV6_SOURCE, nowMs);
    const destination = this.#known(bytes, quote + IPV6_DESTINATION, nowMs);
    if (source === 0 || destination === 0) return -1;
    const rest = restOf(bytes, l4);
    // Nobody goes on with the error's own label.
    this.flags = (this.flags & ~FRAME_LABEL) | withLabel(getI32(bytes, quote));
    const headers = walk.l4 - quote;
    const isIcmp = walk.protocol === PROTOCOL_ICMPV6;
    const length = getU16(bytes, quote + IPV6_PAYLOAD_LENGTH) + IPV6_HEADER - headers + IPV4_HEADER;
    const trafficClass = (getI32(bytes, quote) >>> 20) & 0xff;
    const identification = getU16(bytes, quote + 2);
    const ttl = bytes[quote + IPV6_HOP_LIMIT];
    const behind = writeIpv4(
      bytes,
      quote,
      trafficClass,
      Math.min(length, 0xffff),
      identification,
      DONT_FRAGMENT,
      ttl,
      isIcmp ? PROTOCOL_ICMP : walk.protocol,
      source,
      destination,
    );
    const newEnd = end - (headers - IPV4_HEADER);
    bytes.copyWithin(behind, walk.l4, end);
    if (isIcmp && newEnd > behind) {
      if (bytes[behind] === ICMPV6_ECHO) bytes[behind] = ICMP_ECHO;
      else if (bytes[behind] === ICMPV6_ECHO_REPLY) bytes[behind] = ICMP_ECHO_REPLY;
      else return -1;
    }
    if (walk.protocol === PROTOCOL_UDP && newEnd >= behind + UDP_HEADER) {
      const delta = addDelta(this.#book.delta(source), this.#book.delta(destination));
      setU16(bytes, behind + UDP_CHECKSUM, applyDeltaUdp(getU16(bytes, behind + UDP_CHECKSUM), undone(delta)));
    }
    writeIcmp(bytes, l4, type >>> 8, type & 0xff, rest, newEnd);
    return newEnd;
  }

  /** RFC 4861, 7.1: a solicitation becomes an ARP request, an advertisement a reply. Of addresses that nobody here knows none. */
  #neighbor(bytes: Uint8Array, at: number, l3: number, l4: number, end: number, type: number, nowMs: number): number {
    if (bytes[l3 + IPV6_HOP_LIMIT] !== NEIGHBOR_HOP_LIMIT || bytes[l4 + 1] !== 0) return DROP_NEIGHBOR_MALFORMED;
    if (end - l4 < NEIGHBOR_MESSAGE || bytes[l4 + 8] === 0xff || !icmpv6IsRight(bytes, l3, l4, end))
      return DROP_NEIGHBOR_MALFORMED;
    const asks = type === NEIGHBOR_SOLICITATION;
    let macAt = at + ETHERNET_SOURCE;
    for (let option = l4 + NEIGHBOR_MESSAGE; option < end; option += bytes[option + 1] << 3) {
      const length = bytes[option + 1] << 3;
      if (length === 0 || option + length > end) return DROP_NEIGHBOR_MALFORMED;
      if (bytes[option] === (asks ? OPTION_SOURCE_MAC : OPTION_TARGET_MAC)) macAt = option + 2;
    }
    const high = getMacHigh(bytes, macAt);
    const low = getMacLow(bytes, macAt);
    // What is asked for has a name, if it is ours; who says where he is may be another worker's neighbor.
    const target = asks ? this.#find(bytes, l4 + 8) : this.#known(bytes, l4 + 8, nowMs);
    if (target === 0) return DROP_NOT_OURS;
    let sender = target;
    if (asks) {
      // Who tries whether an address is free has none himself (RFC 4862, 5.4).
      const isProbe = getI32(bytes, l3 + IPV6_SOURCE) === 0 && getI32(bytes, l3 + IPV6_SOURCE + 12) === 0;
      sender = isProbe ? 0 : this.#name(bytes, l3 + IPV6_SOURCE, nowMs);
      if (sender === 0 && !isProbe) return DROP_ADDRESSES_FULL;
    }
    if (isGroupMac(getMacHigh(bytes, at + ETHERNET_DESTINATION)))
      setMac(bytes, at + ETHERNET_DESTINATION, BROADCAST_HIGH, BROADCAST_LOW);
    setU16(bytes, at + ETHERNET_TYPE, ETHERTYPE_ARP);
    writeArp(bytes, l3, asks ? ARP_REQUEST : ARP_REPLY, high, low, sender, 0, 0, asks ? target : 0);
    this.offset = at;
    this.length = ETHERNET_HEADER + ARP_LENGTH;
    this.flags = 0;
    return OK;
  }
}

/** Both MAC addresses of the frame at `from` to the frame at `to`, at least 12 bytes on. */
function moveMacs(bytes: Uint8Array, from: number, to: number): void {
  const first = getI32(bytes, from);
  const second = getI32(bytes, from + 4);
  const third = getI32(bytes, from + 8);
  setU32(bytes, to, first);
  setU32(bytes, to + 4, second);
  setU32(bytes, to + 8, third);
}
