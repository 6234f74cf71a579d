// HOT
// From the form that everything behind the ports knows to IPv6: inbound.ts the other way round. The frame is written to
// other memory, for it grows by 20 bytes, a fragment by 28. ARP requests and replies become neighbor solicitations and
// advertisements.

import { getI32, getU16, setU16, setU32 } from "../base/bytes.ts";
import { copyBytes } from "../base/copy.ts";
import { FRAME_CHECKSUM_PARTIAL, FRAME_LABEL_QUOTED, FRAME_LABELLED, FRAME_OF_IPV6 } from "../io/port.ts";
import { type AddressBook, isName } from "../table/address-book.ts";
import { ARP_REQUEST, ARP_SENDER_MAC, getArpOperation, getArpSenderIp, getArpTargetIp } from "../wire/arp.ts";
import { addDelta, applyDelta, applyDeltaUdp, l4Checksum, l4ChecksumOffset, pseudoSum } from "../wire/checksum.ts";
import {
  ETHERNET_DESTINATION,
  ETHERNET_SOURCE,
  ETHERNET_TYPE,
  getMacHigh,
  getMacLow,
  isGroupMac,
  setMac,
  writeEthernet,
} from "../wire/ethernet.ts";
import {
  ETHERNET_HEADER,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  hasPorts,
  PROTOCOL_ICMP,
  PROTOCOL_UDP,
} from "../wire/flow-key.ts";
import { ICMP_ECHO, ICMP_HEADER, ICMP_REST } from "../wire/icmp.ts";
import {
  DONT_FRAGMENT,
  FRAGMENT_OFFSET,
  IPV4_FLAGS,
  IPV4_HEADER,
  IPV4_IDENTIFICATION,
  IPV4_PROTOCOL,
  IPV4_TOS,
  IPV4_TOTAL_LENGTH,
  IPV4_TTL,
  MORE_FRAGMENTS,
} from "../wire/ipv4.ts";
import {
  completeIcmpv6,
  ETHERTYPE_IPV6,
  GROUP_MAC_HIGH,
  ICMPV6_ECHO,
  ICMPV6_ECHO_REPLY,
  IPV6_DESTINATION,
  IPV6_FRAGMENT,
  IPV6_FRAGMENT_HEADER,
  IPV6_HEADER,
  IPV6_SOURCE,
  NEIGHBOR_ADVERTISEMENT,
  NEIGHBOR_HOP_LIMIT,
  NEIGHBOR_MESSAGE,
  NEIGHBOR_SOLICITATION,
  OPTION_SOURCE_MAC,
  OPTION_TARGET_MAC,
  PROTOCOL_ICMPV6,
  writeIpv6,
} from "../wire/ipv6.ts";
import { UDP_CHECKSUM, UDP_HEADER } from "../wire/udp.ts";
import { LABEL_MAY_BE_CUT, labelOf, sessionLabel } from "./flow-label.ts";
import { icmpv6Of, restOfV6 } from "./icmp-codes.ts";
import { echoToIcmpv6 } from "./icmp-echo.ts";

const LABELLED_ITSELF = FRAME_LABELLED | FRAME_LABEL_QUOTED;
const ALL_NODES_0 = 0xff02_0000 | 0;
const ALL_NODES_3 = 1;
/** ff02::1:ff00:0 and the last three bytes of the address (RFC 4291, 2.7.1). */
const SOLICITED_2 = 1;
const SOLICITED_3 = 0xff00_0000;
// Flags of an advertisement (RFC 4861, 4.4).
const FROM_ROUTER = 0x8000_0000;
const SOLICITED = 0x4000_0000;
const OVERRIDE = 0x2000_0000;

export class Outbound {
  readonly #book: AddressBook;
  /** Of the frame that `translate` wrote: FRAME_CHECKSUM_PARTIAL or 0. */
  flags = 0;

  constructor(book: AddressBook) {
    this.#book = book;
  }

  /**
   * Write the frame bytes[at..at+length) with these columns to out[to] as IPv6: a super-frame whole, an unfinished checksum
   * unfinished. Returns its length; 0 = there is no such packet: an ICMP message that IPv6 has not, addresses without a
   * name.
   */
  translate(
    bytes: Uint8Array,
    at: number,
    length: number,
    flags: number,
    segmentSize: number,
    out: Uint8Array,
    to: number,
  ): number {
    this.flags = 0;
    const etherType = getU16(bytes, at + ETHERNET_TYPE);
    if (etherType === ETHERTYPE_ARP) return this.#neighbor(bytes, at, out, to);
    const l3 = at + ETHERNET_HEADER;
    if (etherType !== ETHERTYPE_IPV4 || length < ETHERNET_HEADER + IPV4_HEADER) return 0;
    const source = getI32(bytes, l3 + 12);
    const destination = getI32(bytes, l3 + 16);
    if (!isName(source) || !isName(destination)) return 0;
    const l4 = l3 + ((bytes[l3] & 15) << 2);
    const end = l3 + getU16(bytes, l3 + IPV4_TOTAL_LENGTH);
    if (end > at + length || l4 > end) return 0;
    const field = getU16(bytes, l3 + IPV4_FLAGS);
    const offset = field & FRAGMENT_OFFSET;
    const isPiece = offset > 0 || (field & MORE_FRAGMENTS) !== 0;
    const protocol = bytes[l3 + IPV4_PROTOCOL];
    const isIcmp = protocol === PROTOCOL_ICMP;
    // A message in pieces became ICMPv6's before it was cut.
    if (isIcmp && isPiece) return 0;
    const next = isIcmp ? PROTOCOL_ICMPV6 : protocol;
    const headers = isPiece ? IPV6_FRAGMENT_HEADER : 0;
    const identification = getU16(bytes, l3 + IPV4_IDENTIFICATION);
    let label = identification;
    if ((flags & LABELLED_ITSELF) === FRAME_LABELLED) label = labelOf(flags);
    else if (isPiece) label = 0;
    else if ((field & DONT_FRAGMENT) === 0) label |= LABEL_MAY_BE_CUT;
    else if ((flags & FRAME_OF_IPV6) === 0 && hasPorts(protocol) && l4 + 4 <= end)
      label = sessionLabel(source, destination, protocol, getI32(bytes, l4));

    const toL3 = to + ETHERNET_HEADER;
    const toL4 = toL3 + IPV6_HEADER + headers;
    setU32(out, to, getI32(bytes, at));
    setU32(out, to + 4, getI32(bytes, at + 4));
    setU32(out, to + 8, getI32(bytes, at + 8));
    setU16(out, to + ETHERNET_TYPE, ETHERTYPE_IPV6);
    writeIpv6(
      out,
      toL3,
      bytes[l3 + IPV4_TOS],
      label,
      end - l4 + headers,
      isPiece ? IPV6_FRAGMENT : next,
      bytes[l3 + IPV4_TTL],
    );
    this.#write(source, out, toL3 + IPV6_SOURCE);
    this.#write(destination, out, toL3 + IPV6_DESTINATION);
    if (isPiece) {
      out[toL3 + IPV6_HEADER] = next;
      out[toL3 + IPV6_HEADER + 1] = 0;
      setU16(out, toL3 + IPV6_HEADER + 2, (offset << 3) | ((field & MORE_FRAGMENTS) !== 0 ? 1 : 0));
      setU32(out, toL3 + IPV6_HEADER + 4, identification);
    }
    if (isIcmp) return this.#icmp(bytes, l3, l4, end, flags, out, to, toL3, toL4);
    copyBytes(bytes, l4, end, out, toL4);
    if (offset === 0) this.#checksum(bytes, l3, l4, end, protocol, source, destination, flags, segmentSize, out, toL4);
    return toL4 + (end - l4) - to;
  }

  #write(name: number, out: Uint8Array, at: number): void {
    for (let n = 0; n < 4; n++) setU32(out, at + (n << 2), this.#book.word(name, n));
  }

  #checksum(
    bytes: Uint8Array,
    l3: number,
    l4: number,
    end: number,
    protocol: number,
    source: number,
    destination: number,
    flags: number,
    segmentSize: number,
    out: Uint8Array,
    toL4: number,
  ): void {
    if (!hasPorts(protocol)) return;
    const isUdp = protocol === PROTOCOL_UDP;
    const field = l4ChecksumOffset(protocol);
    if (l4 + field + 2 > end) return;
    const delta = addDelta(this.#book.delta(source), this.#book.delta(destination));
    const old = getU16(bytes, l4 + field);
    // IPv4 may leave it out, IPv6 may not.
    const isLeftOut = isUdp && old === 0;
    if ((flags & FRAME_CHECKSUM_PARTIAL) !== 0 || (isLeftOut && segmentSize > 0)) {
      const l4Length = isUdp ? getU16(bytes, l4 + 4) : end - l4;
      setU16(out, toL4 + field, addDelta(pseudoSum(source, destination, protocol, l4Length), delta));
      this.flags = FRAME_CHECKSUM_PARTIAL;
    } else if (isLeftOut) setU16(out, toL4 + field, applyDeltaUdp(l4Checksum(bytes, l3, l4, end), delta));
    else setU16(out, toL4 + field, isUdp ? applyDeltaUdp(old, delta) : applyDelta(old, delta));
  }

  /** The message bytes[l4..end) behind the header at `toL3`. Returns the frame's length, 0 = IPv6 has no such message. */
  #icmp(
    bytes: Uint8Array,
    l3: number,
    l4: number,
    end: number,
    flags: number,
    out: Uint8Array,
    to: number,
    toL3: number,
    toL4: number,
  ): number {
    if (end - l4 < ICMP_HEADER) return 0;
    const type = bytes[l4];
    if (echoToIcmpv6(this.#book, bytes, l3, l4, end)) {
      copyBytes(bytes, l4, end, out, toL4);
      return toL4 + (end - l4) - to;
    }
    const newType = icmpv6Of(type, bytes[l4 + 1]);
    const quote = l4 + ICMP_HEADER;
    const quotedL4 = quote + ((bytes[quote] & 15) << 2);
    if (newType < 0 || quotedL4 > end) return 0;
    const source = getI32(bytes, quote + 12);
    const destination = getI32(bytes, quote + 16);
    if (!isName(source) || !isName(destination)) return 0;
    const protocol = bytes[quote + IPV4_PROTOCOL];
    const isIcmp = protocol === PROTOCOL_ICMP;
    const toQuote = toL4 + ICMP_HEADER;
    const behind = writeIpv6(
      out,
      toQuote,
      bytes[quote + IPV4_TOS],
      (flags & FRAME_LABEL_QUOTED) === 0 ? getU16(bytes, quote + IPV4_IDENTIFICATION) : labelOf(flags),
      Math.max(0, getU16(bytes, quote + IPV4_TOTAL_LENGTH) - (quotedL4 - quote)),
      isIcmp ? PROTOCOL_ICMPV6 : protocol,
      bytes[quote + IPV4_TTL],
    );
    this.#write(source, out, toQuote + IPV6_SOURCE);
    this.#write(destination, out, toQuote + IPV6_DESTINATION);
    copyBytes(bytes, quotedL4, end, out, behind);
    if (isIcmp && end > quotedL4) out[behind] = bytes[quotedL4] === ICMP_ECHO ? ICMPV6_ECHO : ICMPV6_ECHO_REPLY;
    const toEnd = behind + (end - quotedL4);
    if (protocol === PROTOCOL_UDP && toEnd >= behind + UDP_HEADER) {
      const delta = addDelta(this.#book.delta(source), this.#book.delta(destination));
      setU16(out, behind + UDP_CHECKSUM, applyDeltaUdp(getU16(out, behind + UDP_CHECKSUM), delta));
    }
    setU16(out, toL4, newType);
    setU32(out, toL4 + ICMP_REST, restOfV6(bytes, l4, newType >>> 8));
    setU16(out, toL3 + 4, toEnd - toL4);
    completeIcmpv6(out, toL3, toL4, toEnd);
    return toEnd - to;
  }

  /** An ARP request asks for a neighbor, or says to all that an address is ours; a reply answers one, or all where the asker has no address. */
  #neighbor(bytes: Uint8Array, at: number, out: Uint8Array, to: number): number {
    const arp = at + ETHERNET_HEADER;
    const sender = getArpSenderIp(bytes, arp);
    const other = getArpTargetIp(bytes, arp);
    if (!isName(sender)) return 0;
    const asks = getArpOperation(bytes, arp) === ARP_REQUEST && other !== sender;
    if (asks && !isName(other)) return 0;
    const isToAll = !asks && (!isName(other) || other === sender);
    const target = asks ? other : sender;
    const high = getMacHigh(bytes, arp + ARP_SENDER_MAC);
    const low = getMacLow(bytes, arp + ARP_SENDER_MAC);
    const l3 = to + ETHERNET_HEADER;
    const l4 = l3 + IPV6_HEADER;
    const end = l4 + NEIGHBOR_MESSAGE + 8;
    writeIpv6(out, l3, 0, 0, end - l4, PROTOCOL_ICMPV6, NEIGHBOR_HOP_LIMIT);
    this.#write(sender, out, l3 + IPV6_SOURCE);
    const toHigh = getMacHigh(bytes, at + ETHERNET_DESTINATION);
    const isToGroup = isToAll || (asks && isGroupMac(toHigh));
    if (isToGroup) this.#writeGroup(isToAll ? 0 : target, out, l3 + IPV6_DESTINATION);
    else this.#write(other, out, l3 + IPV6_DESTINATION);
    writeEthernet(
      out,
      to,
      isToGroup ? GROUP_MAC_HIGH : toHigh,
      isToGroup ? getI32(out, l3 + IPV6_DESTINATION + 12) : getMacLow(bytes, at + ETHERNET_DESTINATION),
      getMacHigh(bytes, at + ETHERNET_SOURCE),
      getMacLow(bytes, at + ETHERNET_SOURCE),
      ETHERTYPE_IPV6,
    );
    setU16(out, l4, (asks ? NEIGHBOR_SOLICITATION : NEIGHBOR_ADVERTISEMENT) << 8);
    setU32(out, l4 + 4, asks ? 0 : FROM_ROUTER | OVERRIDE | (isToAll ? 0 : SOLICITED));
    this.#write(target, out, l4 + 8);
    out[l4 + NEIGHBOR_MESSAGE] = asks ? OPTION_SOURCE_MAC : OPTION_TARGET_MAC;
    out[l4 + NEIGHBOR_MESSAGE + 1] = 1;
    setMac(out, l4 + NEIGHBOR_MESSAGE + 2, high, low);
    completeIcmpv6(out, l3, l4, end);
    return end - to;
  }

  /** The solicited-node group of an address; 0 = that of all nodes on the link. */
  #writeGroup(name: number, out: Uint8Array, at: number): void {
    setU32(out, at, ALL_NODES_0);
    setU32(out, at + 4, 0);
    setU32(out, at + 8, name === 0 ? 0 : SOLICITED_2);
    setU32(out, at + 12, name === 0 ? ALL_NODES_3 : SOLICITED_3 | (this.#book.word(name, 3) & 0x00ff_ffff));
  }
}
