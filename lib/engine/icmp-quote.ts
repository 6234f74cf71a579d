// The packet that an ICMP error is about, and the message that tells of it (RFC 792, RFC 1812 5.2.7): what is quoted is the packet as
// whoever is told knows it, hop by hop another one. Of a session's two sides that is the plan of its flows; of a protocol that is
// carried in UDP on one side (ICMP, GRE, TCP as UDP) the quote has other headers there, made from what the session knows.
//
//   | type, code, checksum, rest: 8 | quoted IPv4 header | quoted L4: 8 bytes, or UDP 8 and 8 bytes, or TCP as UDP 20 |
//
// A quote is cut behind the 8 bytes that every sender needs. Of a ping whose payload is encrypted these can be read by who sealed it alone:
// between routers its quote is whole, as far as SEALED_MAX goes, and at its sender's router it is opened.

import { getI32, getU16, setU16, setU32 } from "../base/bytes.ts";
import { isSealedLength } from "../crypto/packet-crypto.ts";
import { FRAME_LABEL, FRAME_LABEL_QUOTED, FRAME_LABELLED, type FrameBatch } from "../io/port.ts";
import { PATH_MTU_MIN } from "../peer/mtu-search.ts";
import type { Sessions } from "../session/open.ts";
import { isName } from "../table/address-book.ts";
import { FLOW_DESTINATION, FLOW_PORTS, FLOW_PROTOCOL, FLOW_SHIFT, FLOW_SOURCE } from "../table/flow-table.ts";
import { FORWARD } from "../table/session-table.ts";
import { BFD_PORT_PEER } from "../wire/bfd.ts";
import { addDelta, applyDeltaUdp, deltaI32, ipv4HeaderChecksum } from "../wire/checksum.ts";
import {
  AT_END,
  AT_L3,
  AT_L4,
  decodeQuote,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_PROTOCOL,
  PROTOCOL_ICMP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  startsWithCookie,
} from "../wire/flow-key.ts";
import {
  getIcmpCode,
  getIcmpIdentifier,
  getIcmpMtu,
  getIcmpType,
  ICMP_ECHO,
  ICMP_ECHO_REPLY,
  ICMP_FRAGMENTATION_NEEDED,
  ICMP_HEADER,
  ICMP_PARAMETER_PROBLEM,
  ICMP_REST,
  ICMP_TIME_EXCEEDED,
  ICMP_UNREACHABLE,
  icmpIsRight,
  setIcmpIdentifier,
  writeIcmp,
} from "../wire/icmp.ts";
import {
  FRAGMENT_OFFSET,
  IPV4_CHECKSUM,
  IPV4_DESTINATION,
  IPV4_HEADER,
  IPV4_PROTOCOL,
  IPV4_SOURCE,
  IPV4_TOTAL_LENGTH,
} from "../wire/ipv4.ts";
import { writeLongest } from "../wire/long-packet.ts";
import { ATTRIBUTE_FRAGMENT, METADATA_BASE_LENGTH } from "../wire/metadata-attributes.ts";
import { getTcpSequence, TCP_HEADER } from "../wire/tcp.ts";
import { UDP_CHECKSUM, UDP_HEADER, UDP_LENGTH } from "../wire/udp.ts";
import { OK } from "../wire/verdict.ts";
import type { PayloadSecurity } from "./payload-security.ts";
import { savedSequence, writeTcpRest } from "./tcp-in-udp.ts";

/** What a quote has of its packet behind the IPv4 header. */
export const QUOTED_L4 = 8;
/** From where metadata begins: its two lengths, and of a fabric fragment's attribute, which is its first, what has the offset. */
const METADATA_LENGTHS = 8;
const FRAGMENT_FLAGS = METADATA_BASE_LENGTH + 4 + 6;
/** Of an encrypted ping: data of 231 bytes. With all around it, the message still fits 576 bytes (RFC 1812, 4.3.2.3). */
export const SEALED_MAX = 256;
/** The longest message: ICMP header, IPv4 header with all options, and that. */
export const MESSAGE_MAX = ICMP_HEADER + 60 + UDP_HEADER + SEALED_MAX;
/** RFC 1191, 7.1: what a path may take whose routers do not say it, largest first. */
const PLATEAUS = [32_000, 17_914, 8166, 4352, 2002, 1492, 1006, PATH_MTU_MIN];

/** A packet, or as much of it as another's quote has. Whoever uses it keeps one, and points it at the next. */
export class QuotedPacket {
  bytes: Uint8Array = new Uint8Array(0);
  l3 = 0;
  l4 = 0;
  end = 0;
  /** What is behind its UDP header is encrypted. */
  isOpaque = false;
  /** Bytes of a digest at its end. */
  digest = 0;

  /** Point it at the packet of a decoded row, or of one that decodeQuote has filled. */
  at(bytes: Uint8Array, key: Int32Array, isOpaque: boolean): this {
    this.bytes = bytes;
    this.l3 = key[AT_L3];
    this.l4 = key[AT_L4];
    this.end = key[AT_END];
    this.isOpaque = isOpaque;
    this.digest = 0;
    return this;
  }

  get protocol(): number {
    return this.bytes[this.l3 + IPV4_PROTOCOL];
  }

  /** Bytes behind the IPv4 header, as that says. */
  get l4Length(): number {
    return getU16(this.bytes, this.l3 + IPV4_TOTAL_LENGTH) - (this.l4 - this.l3);
  }

  /**
   * Where the message begins that is carried in UDP: behind metadata, where there is some, and in the first fabric fragment of a
   * packet behind that and the packet's own. At `end` where the quote does not reach so far, or is of a later fragment.
   */
  get behindUdp(): number {
    const { bytes, end } = this;
    const at = this.l4 + UDP_HEADER;
    const behind = this.#behindMetadata(at);
    if (behind === at || behind === end || getU16(bytes, at + METADATA_BASE_LENGTH) !== ATTRIBUTE_FRAGMENT)
      return behind;
    const isFirst = (getU16(bytes, at + FRAGMENT_FLAGS) & FRAGMENT_OFFSET) === 0;
    return isFirst ? this.#behindMetadata(behind) : end;
  }

  get hasMetadata(): boolean {
    return startsWithCookie(this.bytes, this.l4 + UDP_HEADER, this.end);
  }

  /** Bytes that are encrypted, behindUdp on: the whole packet's, as PayloadCipher seals it. 0 where they are not all there, or too many. */
  get sealedLength(): number {
    const end = this.l4 + getU16(this.bytes, this.l4 + UDP_LENGTH);
    const length = end - this.digest - this.behindUdp;
    return end <= this.end && length <= SEALED_MAX && isSealedLength(length) ? length : 0;
  }

  /** Behind the metadata at `at`, or `at` where there is none; `end` where what there is does not tell, or ends before it. */
  #behindMetadata(at: number): number {
    const { bytes, end } = this;
    if (!startsWithCookie(bytes, at, end)) return at;
    if (at + METADATA_BASE_LENGTH > end) return end;
    const headerLength = getU16(bytes, at + METADATA_LENGTHS) & 0xfff;
    return Math.min(at + headerLength + getU16(bytes, at + METADATA_LENGTHS + 2), end);
  }
}

/** The message in hand. */
export class ErrorMessage {
  readonly bytes = new Uint8Array(MESSAGE_MAX);
  length = 0;
  readonly #sessions: Sessions;
  readonly #payload: PayloadSecurity;
  readonly #opened = new Uint8Array(SEALED_MAX);

  constructor(sessions: Sessions, payload: PayloadSecurity) {
    this.#sessions = sessions;
    this.#payload = payload;
  }

  /** Write it for the session's side `way`, whose packets come by `flow`: it quotes the packet as it was when that side sent it. */
  compose(
    session: number,
    way: number,
    flow: number,
    type: number,
    code: number,
    rest: number,
    packet: QuotedPacket,
  ): void {
    const { flows, table } = this.#sessions;
    const { words } = flows;
    const message = this.bytes;
    const base = flow << FLOW_SHIFT;
    const headerLength = packet.l4 - packet.l3;
    const at = ICMP_HEADER;
    for (let n = 0; n < headerLength; n++) message[at + n] = packet.bytes[packet.l3 + n];
    const protocol = words[base + FLOW_PROTOCOL] & 0xff;
    const quoted = at + headerLength;
    const behind = this.#quoteL4(session, way, protocol, packet, quoted);
    const isToPeer = table.sides[way].path[session] >= 0;
    const own = [words[base + FLOW_SOURCE], words[base + FLOW_DESTINATION]];
    const [source, destination] = isToPeer ? own.map(quotedAddress) : own;
    if (protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP) {
      const ports = words[base + FLOW_PORTS];
      if (protocol === PROTOCOL_UDP && packet.protocol === PROTOCOL_UDP)
        this.#readdress(source, destination, ports, quoted);
      setU32(message, quoted, ports);
    }
    writeLongest(message, at);
    message[at + IPV4_PROTOCOL] = protocol;
    setU32(message, at + IPV4_SOURCE, source);
    setU32(message, at + IPV4_DESTINATION, destination);
    setU16(message, at + IPV4_CHECKSUM, 0);
    setU16(message, at + IPV4_CHECKSUM, ipv4HeaderChecksum(message, at));
    this.length = quoted + behind;
    writeIcmp(message, 0, type, code, rest, this.length);
  }

  /**
   * What the quote has behind the IPv4 header, ports apart, from `to` on. Of a protocol without ports, between routers, that is
   * the UDP header and the message's first bytes, by which its sender knows it. Returns how many bytes.
   */
  #quoteL4(session: number, way: number, protocol: number, packet: QuotedPacket, to: number): number {
    const message = this.bytes;
    const { bytes } = packet;
    message.fill(0, to, to + Math.max(UDP_HEADER + QUOTED_L4, TCP_HEADER));
    const own = this.#sessions.table.context[session * 4 + 3];
    if (own === PROTOCOL_TCP) return this.#quoteTcp(session, way, protocol, packet, to);
    const isCarried = own !== PROTOCOL_TCP && own !== PROTOCOL_UDP;
    const from = isCarried && packet.protocol === PROTOCOL_UDP ? packet.behindUdp : packet.l4;
    const isThere = from + QUOTED_L4 <= packet.end && !packet.isOpaque;
    const at = isCarried && protocol === PROTOCOL_UDP ? to + UDP_HEADER : to;
    const sealed = own === PROTOCOL_ICMP && packet.isOpaque ? packet.sealedLength : 0;
    if (at > to) setU16(message, to + UDP_LENGTH, UDP_HEADER + (sealed || QUOTED_L4));
    if (at > to && sealed > 0) {
      for (let n = 0; n < sealed; n++) message[at + n] = bytes[from + n];
      return UDP_HEADER + sealed;
    }
    if (isThere) for (let n = 0; n < QUOTED_L4; n++) message[at + n] = bytes[from + n];
    // No datagram has a length of 0: as the IPv4 header in front of it says.
    else if (own === PROTOCOL_UDP) setU16(message, to + UDP_LENGTH, packet.l4Length);
    if (own !== PROTOCOL_ICMP) return at - to + QUOTED_L4;
    const identifier = this.#identifierOf(session, way, protocol);
    if (isThere) setIcmpIdentifier(message, at, identifier);
    else {
      message[at] = way === FORWARD ? ICMP_ECHO : ICMP_ECHO_REPLY;
      setU16(message, at + ICMP_REST, identifier);
      if (sealed > 0) this.#openEcho(session, way, packet, sealed, at);
    }
    return at - to + QUOTED_L4;
  }

  /**
   * Quote the echo that side `way` sent and this router sealed, the first `length` bytes of it being there again. Nothing is told of
   * what is not just that, whole: or anybody in between could have anything decrypted here that was ever sealed.
   */
  #openEcho(session: number, way: number, packet: QuotedPacket, length: number, to: number): void {
    const opened = this.#opened;
    const { bytes, behindUdp } = packet;
    for (let n = 0; n < length; n++) opened[n] = bytes[behindUdp + n];
    const end = this.#payload.open(session, opened, length);
    if (end < ICMP_HEADER || !icmpIsRight(opened, 0, end) || getIcmpCode(opened, 0) !== 0) return;
    if (getIcmpType(opened, 0) !== (way === FORWARD ? ICMP_ECHO : ICMP_ECHO_REPLY)) return;
    if (getIcmpIdentifier(opened, 0) !== this.#identifierOf(session, way, PROTOCOL_UDP)) return;
    const message = this.bytes;
    const identifier = this.#identifierOf(session, way, PROTOCOL_ICMP);
    for (let n = 0; n < QUOTED_L4; n++) message[to + n] = opened[n];
    setIcmpIdentifier(message, to, identifier);
  }

  /** Of a ping, as its side `way` knows it: outside source NAT it is the mapping's; between routers, inside UDP, the host's own. */
  #identifierOf(session: number, way: number, protocol: number): number {
    const { flows, table } = this.#sessions;
    const isBare = protocol === PROTOCOL_ICMP;
    const ports = isBare
      ? flows.words[(table.flow(session, way) << FLOW_SHIFT) + FLOW_PORTS]
      : table.context[session * 4 + 2];
    return ports & 0xffff;
  }

  /** Make the quote's UDP checksum, its L4 header being at `l4`, that of these addresses and ports. */
  #readdress(source: number, destination: number, ports: number, l4: number): void {
    const message = this.bytes;
    const addresses = addDelta(
      deltaI32(getI32(message, ICMP_HEADER + IPV4_SOURCE), source),
      deltaI32(getI32(message, ICMP_HEADER + IPV4_DESTINATION), destination),
    );
    const at = l4 + UDP_CHECKSUM;
    const delta = addDelta(addresses, deltaI32(getI32(message, l4), ports));
    setU16(message, at, applyDeltaUdp(getU16(message, at), delta));
  }

  /**
   * The same of TCP, which goes as UDP on either side or on both. A sequence number that the quote does not have any more is
   * one that its sender has in flight: the first that is not acknowledged.
   */
  #quoteTcp(session: number, way: number, protocol: number, packet: QuotedPacket, to: number): number {
    const message = this.bytes;
    const { tcpNumbers } = this.#sessions.table;
    let sequence = 0;
    if (packet.protocol === PROTOCOL_TCP) sequence = getTcpSequence(packet.bytes, packet.l4);
    else {
      const header = packet.behindUdp - UDP_HEADER;
      const sent = session * 4 + way * 2;
      const acknowledged = tcpNumbers[session * 4 + (1 - way) * 2 + 1];
      const isThere = header + TCP_HEADER <= packet.end;
      sequence = isThere ? savedSequence(packet.bytes, header) : acknowledged || tcpNumbers[sent];
    }
    if (protocol === PROTOCOL_TCP) {
      setU32(message, to + 4, sequence);
      return QUOTED_L4;
    }
    setU16(message, to + 4, TCP_HEADER);
    writeTcpRest(message, to + UDP_HEADER, sequence, 0);
    return TCP_HEADER;
  }
}

/** The flags of an ICMP error that quotes a packet with these: between hosts of IPv6 the quote has its flow label (RFC 4443, 3). */
export function quotedLabel(flags: number): number {
  return (flags & FRAME_LABELLED) === 0 ? 0 : (flags & FRAME_LABEL) | FRAME_LABEL_QUOTED;
}

/** An address in a quote between routers: it is the tuple's, and the name of an IPv6 address is its router's own business. */
export function quotedAddress(address: number): number {
  return isName(address) ? 0 : address;
}

/**
 * Whether a decoded ICMP message is an error that is acted on, whole. The row `quote` then has the key of the answers to the
 * packet that it quotes, and where the quote is.
 */
export function readQuote(batch: FrameBatch, key: Int32Array, quote: Int32Array): boolean {
  const at = key[AT_L4] + ICMP_HEADER;
  const end = key[AT_END];
  if (!isError(batch.bytes, key[AT_L4], end)) return false;
  if (decodeQuote(batch.view, at, end, key[KEY_PROTOCOL] >>> 8, quote, 0) !== OK) return false;
  // It goes to whoever sent what it quotes.
  return quote[KEY_DESTINATION] === key[KEY_DESTINATION];
}

/** The MTU that an ICMP error tells whose quote was read; 0 = it is about something else. */
export function mtuTold(bytes: Uint8Array, key: Int32Array, quote: Int32Array): number {
  const at = key[AT_L4];
  return isTooBig(getIcmpType(bytes, at), getIcmpCode(bytes, at)) ? mtuOf(bytes, at, quote[AT_L3]) : 0;
}

/** Whether a quote, read, is of BFD with metadata. */
export function isQuoteOfBfd(quote: Int32Array): boolean {
  return (quote[KEY_PROTOCOL] & 0xff) === PROTOCOL_UDP && (quote[KEY_PORTS] & 0xffff) === BFD_PORT_PEER;
}

/** Whether the message at bytes[at..end) is an error that is passed on, whole. */
export function isError(bytes: Uint8Array, at: number, end: number): boolean {
  if (end - at < ICMP_HEADER + IPV4_HEADER + QUOTED_L4) return false;
  const type = getIcmpType(bytes, at);
  if (type !== ICMP_UNREACHABLE && type !== ICMP_TIME_EXCEEDED && type !== ICMP_PARAMETER_PROBLEM) return false;
  return icmpIsRight(bytes, at, end);
}

export function isTooBig(type: number, code: number): boolean {
  return type === ICMP_UNREACHABLE && code === ICMP_FRAGMENTATION_NEEDED;
}

/** What is passed on of the four bytes behind the checksum, but for an MTU: a pointer. What tells of extensions (RFC 4884) goes with them. */
export function restOf(bytes: Uint8Array, at: number, type: number): number {
  return type === ICMP_PARAMETER_PROBLEM ? bytes[at + ICMP_REST] << 24 : 0;
}

/** The next hop's MTU that "fragmentation needed" tells; where it does not, the next plateau below the packet that did not pass. */
export function mtuOf(bytes: Uint8Array, at: number, quote: number): number {
  const told = getIcmpMtu(bytes, at);
  if (told >= PATH_MTU_MIN) return told;
  if (told > 0) return PATH_MTU_MIN;
  const length = (bytes[quote + IPV4_TOTAL_LENGTH] << 8) | bytes[quote + IPV4_TOTAL_LENGTH + 1];
  return PLATEAUS.find((plateau) => plateau < length) ?? PATH_MTU_MIN;
}
