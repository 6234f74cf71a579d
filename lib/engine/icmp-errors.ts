// ICMP errors about packets of sessions (RFC 792, RFC 1812 5.2.7; protocol sheet 2.5): found by the packet that they quote, they
// go to whoever sent it, with the quote as that one knows its packet. Between routers an error travels in the session's waypoint
// tuple, behind metadata with the address of the device that raised it (attribute 20), and its quote is of that tuple:
//
//   host ── LAN ── router A ══ network ══ router B ── LAN ──► what cannot be delivered
//        ◄─ its own ─┘ ◄─── attribute 20 ────┘ ◄─── as B sent it ──┘          what is quoted, hop by hop
//
// What has no session here is dropped (drop.icmp-error). A quote is cut behind the 8 bytes that every sender needs; where the
// protocol is another one on the other side (carried in UDP) they are made from what the session knows.

import { getI32, getU16, setU16, setU32 } from "../base/bytes.ts";
import type { FrameBatch } from "../io/port.ts";
import { PATH_MTU_MIN } from "../peer/mtu-search.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import type { RouterInterface } from "../peer/router-interface.ts";
import type { Sessions } from "../session/open.ts";
import { isPayloadEnd } from "../session/payload.ts";
import { addressBook, isName } from "../table/address-book.ts";
import type { CounterSet } from "../table/counter-set.ts";
import {
  FLOW_DESTINATION,
  FLOW_NEXT_HOP,
  FLOW_PLAN,
  FLOW_PORTS,
  FLOW_PROTOCOL,
  FLOW_SESSION,
  FLOW_SHIFT,
  FLOW_SOURCE,
  planDirection,
  planEgress,
} from "../table/flow-table.ts";
import { FORWARD, PAYLOAD_CLEAR, REVERSE } from "../table/session-table.ts";
import { BFD_PORT_PEER } from "../wire/bfd.ts";
import { addDelta, applyDeltaUdp, deltaI32, ipv4HeaderChecksum } from "../wire/checksum.ts";
import {
  AT_END,
  AT_L3,
  AT_L4,
  AT_PAYLOAD,
  decodeQuote,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_PROTOCOL,
  KEY_ROW_WORDS,
  KEY_SOURCE,
  PROTOCOL_ICMP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  startsWithCookie,
} from "../wire/flow-key.ts";
import {
  getIcmpCode,
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
  getSource,
  IPV4_CHECKSUM,
  IPV4_DESTINATION,
  IPV4_HEADER,
  IPV4_PROTOCOL,
  IPV4_SOURCE,
  IPV4_TOTAL_LENGTH,
  IPV4_TTL,
} from "../wire/ipv4.ts";
import { writeLongest } from "../wire/long-packet.ts";
import { METADATA_BASE_LENGTH } from "../wire/metadata-attributes.ts";
import { getTcpSequence, TCP_HEADER } from "../wire/tcp.ts";
import { UDP_CHECKSUM, UDP_HEADER } from "../wire/udp.ts";
import { CONSUMED, DROP_ICMP_ERROR, DROP_TTL, OK } from "../wire/verdict.ts";
import { ICMP_PASSED, ICMP_SENT, ICMP_TOO_BIG_SENT } from "./counters.ts";
import type { Egress } from "./egress.ts";
import type { Generator } from "./generate.ts";
import type { Signals } from "./signals.ts";
import { savedSequence, writeTcpRest } from "./tcp-in-udp.ts";

/** Of what we raise ourselves. */
const TTL = 64;
/** What a quote has of its packet behind the IPv4 header. */
const QUOTED_L4 = 8;
/** The longest message: ICMP header, IPv4 header with all options, and that. */
const MESSAGE_MAX = ICMP_HEADER + 60 + Math.max(UDP_HEADER + QUOTED_L4, TCP_HEADER);
/** RFC 1191, 7.1: what a path may take whose routers do not say it, largest first. */
const PLATEAUS = [32_000, 17_914, 8166, 4352, 2002, 1492, 1006, PATH_MTU_MIN];

/** 64:ff9b::/96: IPv4 addresses in IPv6 (RFC 6052). */
const WELL_KNOWN_PREFIX = 0x0064_ff9b;

export class IcmpErrors {
  readonly #interfaces: readonly RouterInterface[];
  readonly #sessions: Sessions;
  readonly #egress: Egress;
  readonly #generator: Generator;
  readonly #signals: Signals;
  readonly #overhead: (session: number, way: number) => number;
  readonly #carried: (session: number) => number;
  readonly #counters: CounterSet;
  readonly #quote = new Int32Array(KEY_ROW_WORDS);
  readonly #message = new Uint8Array(MESSAGE_MAX);
  /** What is behind the UDP header of the quote in hand is encrypted. */
  #isOpaque = false;

  constructor(parts: {
    interfaces: readonly RouterInterface[];
    sessions: Sessions;
    egress: Egress;
    generator: Generator;
    signals: Signals;
    /** Bytes that are put on a packet of the session toward a side. */
    overhead: (session: number, way: number) => number;
    /** Of those, the ones that stay on it from its first router to its last; 0 at routers in between. */
    carried: (session: number) => number;
    counters: CounterSet;
  }) {
    this.#interfaces = parts.interfaces;
    this.#sessions = parts.sessions;
    this.#egress = parts.egress;
    this.#generator = parts.generator;
    this.#signals = parts.signals;
    this.#overhead = parts.overhead;
    this.#carried = parts.carried;
    this.#counters = parts.counters;
  }

  /** The flow of the session that a decoded ICMP error is about, by which its answers come; -1 = none of ours. */
  flowOf(batch: FrameBatch, key: Int32Array): number {
    const quote = this.#quote;
    if (!readQuote(batch, key, quote)) return -1;
    return this.#sessions.flows.find(quote[KEY_SOURCE], quote[KEY_DESTINATION], quote[KEY_PORTS], quote[KEY_PROTOCOL]);
  }

  /** Whether a decoded ICMP error is about a probe of what the path to a peer takes. */
  isOfProbe(batch: FrameBatch, key: Int32Array): boolean {
    const quote = this.#quote;
    if (!readQuote(batch, key, quote) || mtuTold(batch.bytes, key, quote) === 0 || !isQuoteOfBfd(quote)) return false;
    return this.#sessions.pathBetween(key[KEY_PROTOCOL] >>> 8, quote[KEY_SOURCE], quote[KEY_DESTINATION]) >= 0;
  }

  /** An ICMP error came from a plain network, or from a device between us and a peer, about a packet whose answers would come by `flow`. */
  receive(batch: FrameBatch, key: Int32Array, flow: number, nowMs: number): number {
    const { flows, table, paths } = this.#sessions;
    const { bytes } = batch;
    const base = flow << FLOW_SHIFT;
    const session = flows.words[base + FLOW_SESSION];
    const from = planDirection(flows.words[base + FLOW_PLAN]);
    const l4 = key[AT_L4];
    const ttl = bytes[key[AT_L3] + IPV4_TTL] - 1;
    if (ttl < 1) return DROP_TTL;
    const quote = this.#quote;
    const type = getIcmpType(bytes, l4);
    const code = getIcmpCode(bytes, l4);
    let rest = restOf(bytes, l4, type);
    if (isTooBig(type, code)) {
      const mtu = mtuOf(bytes, l4, quote[AT_L3]);
      const path = table.sides[from].path[session];
      if (path >= 0) paths[path].learnMtu(mtu, nowMs);
      rest = Math.max(PATH_MTU_MIN, mtu - this.#overhead(session, from));
    }
    const location = this.#locationToward(session, 1 - from, getSource(bytes, key[AT_L3]));
    this.#isOpaque = table.sides[from].path[session] >= 0 && table.payload[session] !== PAYLOAD_CLEAR;
    const length = this.#compose(session, 1 - from, type, code, rest, bytes, quote[AT_L3], quote[AT_L4], quote[AT_END]);
    this.#isOpaque = false;
    return this.#deliver(session, 1 - from, location, ttl, length, nowMs) ? this.#passed() : CONSUMED;
  }

  /** A peer passes an error on: it is what is behind the metadata of a packet that came in `direction`. `location` raised it. */
  fromPeer(
    batch: FrameBatch,
    key: Int32Array,
    metadataLength: number,
    session: number,
    direction: number,
    location: number,
    nowMs: number,
  ): number {
    const { bytes } = batch;
    const at = key[AT_PAYLOAD] + metadataLength;
    const quote = this.#quote;
    const end = key[AT_END];
    if (!isError(bytes, at, end)) return DROP_ICMP_ERROR;
    if (decodeQuote(batch.view, at + ICMP_HEADER, end, key[KEY_PROTOCOL] >>> 8, quote, 0) !== OK)
      return DROP_ICMP_ERROR;
    // It speaks of what we sent on this very tuple.
    for (const word of [KEY_PORTS, KEY_PROTOCOL]) if (quote[word] !== key[word]) return DROP_ICMP_ERROR;
    for (const word of [KEY_SOURCE, KEY_DESTINATION])
      if (quote[word] !== quotedAddress(key[word])) return DROP_ICMP_ERROR;
    const ttl = bytes[key[AT_L3] + IPV4_TTL] - 1;
    if (ttl < 1) return DROP_TTL;
    const [type, code] = [getIcmpType(bytes, at), getIcmpCode(bytes, at)];
    // An MTU is told of packets as they travel between routers.
    const mtu = getIcmpMtu(bytes, at) - this.#carried(session);
    const rest = isTooBig(type, code) ? Math.max(PATH_MTU_MIN, mtu) : restOf(bytes, at, type);
    const length = this.#compose(
      session,
      1 - direction,
      type,
      code,
      rest,
      bytes,
      quote[AT_L3],
      quote[AT_L4],
      quote[AT_END],
    );
    const told = this.#locationToward(session, 1 - direction, location);
    return this.#deliver(session, 1 - direction, told, ttl, length, nowMs) ? this.#passed() : CONSUMED;
  }

  /** Who raised an error, as the session's side `way` may know: what is inside source NAT has the mapping's address (RFC 5508, REQ-5 d). */
  #locationToward(session: number, way: number, location: number): number {
    const { flows, table } = this.#sessions;
    const presented = way === REVERSE ? table.presented.get(session) : undefined;
    if (presented !== undefined) return presented.address;
    if (way === REVERSE ? table.mappingOf(session) < 0 : table.hairpinOf(session) < 0) return location;
    return flows.words[(table.flow(session, way) << FLOW_SHIFT) + FLOW_DESTINATION];
  }

  /** The router's own word about a packet of the session, just as it came in `direction`, to whoever sent it. */
  raise(
    batch: FrameBatch,
    key: Int32Array,
    session: number,
    direction: number,
    type: number,
    code: number,
    rest: number,
    nowMs: number,
  ): void {
    const { bytes } = batch;
    const { table } = this.#sessions;
    const isToPeer = table.sides[direction].path[session] >= 0;
    this.#isOpaque = isToPeer && table.payload[session] !== PAYLOAD_CLEAR && !isPayloadEnd(table, session);
    const told = isToPeer && isTooBig(type, code) ? rest + this.#carried(session) : rest;
    const length = this.#compose(session, direction, type, code, told, bytes, key[AT_L3], key[AT_L4], key[AT_END]);
    this.#isOpaque = false;
    const location = this.#addressToward(session, direction);
    if (!this.#deliver(session, direction, location, TTL, length, nowMs)) return;
    this.#counters.increment(type === ICMP_TIME_EXCEEDED ? ICMP_SENT : ICMP_TOO_BIG_SENT);
  }

  /** How we are known on the session's side `way`. */
  #addressToward(session: number, way: number): number {
    const { flows, table, paths } = this.#sessions;
    const path = table.sides[way].path[session];
    if (path >= 0) return paths[path].local;
    return this.#interfaces[flows.words[(table.flow(session, way) << FLOW_SHIFT) + FLOW_PROTOCOL] >>> 8].addresses[0]
      .address;
  }

  #passed(): number {
    this.#counters.increment(ICMP_PASSED);
    return CONSUMED;
  }

  /**
   * Write the message for the session's side `way` into #message: its quote is the packet as it was when that side sent it.
   * Returns its length. The packet's headers, as far as they are known, are at `l3` and `l4`; it ends at `end`.
   */
  #compose(
    session: number,
    way: number,
    type: number,
    code: number,
    rest: number,
    bytes: Uint8Array,
    l3: number,
    l4: number,
    end: number,
  ): number {
    const { flows, table } = this.#sessions;
    const { words } = flows;
    const message = this.#message;
    if (isTooBig(type, code)) this.#narrow(session, way, rest & 0xffff);
    const base = table.flow(session, way) << FLOW_SHIFT;
    const headerLength = l4 - l3;
    const at = ICMP_HEADER;
    for (let n = 0; n < headerLength; n++) message[at + n] = bytes[l3 + n];
    const protocol = words[base + FLOW_PROTOCOL] & 0xff;
    const quoted = at + headerLength;
    const behind = this.#quoteL4(session, way, protocol, bytes, l3, l4, end, quoted);
    const isToPeer = table.sides[way].path[session] >= 0;
    const own = [words[base + FLOW_SOURCE], words[base + FLOW_DESTINATION]];
    const [source, destination] = isToPeer ? own.map(quotedAddress) : own;
    if (protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP) {
      const ports = words[base + FLOW_PORTS];
      if (protocol === PROTOCOL_UDP && bytes[l3 + IPV4_PROTOCOL] === PROTOCOL_UDP)
        this.#readdressQuote(source, destination, ports, quoted);
      setU32(message, quoted, ports);
    }
    writeLongest(message, at);
    message[at + IPV4_PROTOCOL] = protocol;
    setU32(message, at + IPV4_SOURCE, source);
    setU32(message, at + IPV4_DESTINATION, destination);
    setU16(message, at + IPV4_CHECKSUM, 0);
    setU16(message, at + IPV4_CHECKSUM, ipv4HeaderChecksum(message, at));
    writeIcmp(message, 0, type, code, rest, quoted + behind);
    return quoted + behind;
  }

  /** Super-frames from the side `way` whose segments' size nobody tells are cut so that they fit from now on, too. */
  #narrow(session: number, way: number, mtu: number): void {
    const { segmentSize, context } = this.#sessions.table;
    if (context[session * 4 + 3] !== PROTOCOL_TCP) return;
    const at = session * 2 + way;
    const most = mtu - IPV4_HEADER - TCP_HEADER;
    if (segmentSize[at] === 0 || segmentSize[at] > most) segmentSize[at] = most;
  }

  /**
   * What a quote has behind the IPv4 header, ports apart, written to #message from `to` on. Of a protocol without ports, between
   * routers, that is the UDP header and the message's first bytes, by which its sender knows it. Returns how many bytes.
   */
  #quoteL4(
    session: number,
    way: number,
    protocol: number,
    bytes: Uint8Array,
    l3: number,
    l4: number,
    end: number,
    to: number,
  ): number {
    const message = this.#message;
    message.fill(0, to, to + Math.max(UDP_HEADER + QUOTED_L4, TCP_HEADER));
    const own = this.#sessions.table.context[session * 4 + 3];
    if (own === PROTOCOL_TCP) return this.#quoteTcp(session, way, protocol, bytes, l3, l4, end, to);
    const isCarried = own !== PROTOCOL_TCP && own !== PROTOCOL_UDP;
    const from = isCarried && bytes[l3 + IPV4_PROTOCOL] === PROTOCOL_UDP ? behindUdp(bytes, l4, end) : l4;
    const isThere = from + QUOTED_L4 <= end && !this.#isOpaque;
    const at = isCarried && protocol === PROTOCOL_UDP ? to + UDP_HEADER : to;
    if (at > to) setU16(message, to + 4, UDP_HEADER + QUOTED_L4);
    if (isThere) for (let n = 0; n < QUOTED_L4; n++) message[at + n] = bytes[from + n];
    // No datagram has a length of 0: as the IPv4 header in front of it says.
    else if (own === PROTOCOL_UDP) setU16(message, to + 4, getU16(bytes, l3 + IPV4_TOTAL_LENGTH) - (l4 - l3));
    if (own !== PROTOCOL_ICMP) return at - to + QUOTED_L4;
    const identifier = this.#identifierOf(session, way, protocol);
    if (isThere) setIcmpIdentifier(message, at, identifier);
    else {
      message[at] = way === FORWARD ? ICMP_ECHO : ICMP_ECHO_REPLY;
      setU16(message, at + ICMP_REST, identifier);
    }
    return at - to + QUOTED_L4;
  }

  /** The address of the device that raised an error as a host of `toward`'s family can be told: RFC 6052, 2.1, or RFC 6791. */
  #inFamilyOf(toward: number, location: number, egress: number): number {
    if (isName(toward) === isName(location)) return location;
    const own = this.#interfaces[egress].addresses[0].address;
    if (!isName(toward)) return own;
    return addressBook.enter(WELL_KNOWN_PREFIX, 0, 0, location, performance.now() | 0) || own;
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

  /** Make the UDP checksum of the quote in #message, whose L4 header is at `l4`, that of these addresses and ports. */
  #readdressQuote(source: number, destination: number, ports: number, l4: number): void {
    const message = this.#message;
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
  #quoteTcp(
    session: number,
    way: number,
    protocol: number,
    bytes: Uint8Array,
    l3: number,
    l4: number,
    end: number,
    to: number,
  ): number {
    const message = this.#message;
    const { tcpNumbers } = this.#sessions.table;
    let sequence = 0;
    if (bytes[l3 + IPV4_PROTOCOL] === PROTOCOL_TCP) sequence = getTcpSequence(bytes, l4);
    else {
      const header = behindUdp(bytes, l4, end) - UDP_HEADER;
      const sent = session * 4 + way * 2;
      const acknowledged = tcpNumbers[session * 4 + (1 - way) * 2 + 1];
      const isThere = header + TCP_HEADER <= end;
      sequence = isThere ? savedSequence(bytes, header) : acknowledged || tcpNumbers[sent];
    }
    if (protocol === PROTOCOL_TCP) {
      setU32(message, to + 4, sequence);
      return QUOTED_L4;
    }
    setU16(message, to + 4, TCP_HEADER);
    writeTcpRest(message, to + UDP_HEADER, sequence, 0);
    return TCP_HEADER;
  }

  /** Send #message to the session's side `way`. False when there are too many of them, or that side's path is down. */
  #deliver(session: number, way: number, location: number, ttl: number, length: number, nowMs: number): boolean {
    const { flows, table, paths } = this.#sessions;
    const message = this.#message;
    const path: PeerPath | null = table.sides[way].path[session] < 0 ? null : paths[table.sides[way].path[session]];
    if (!this.#generator.mayAnswer(nowMs)) return false;
    if (path !== null) return this.#signals.passError(session, way, location, message, length, nowMs);
    const leaving = table.flow(session, 1 - way) << FLOW_SHIFT;
    const toward = flows.words[(table.flow(session, way) << FLOW_SHIFT) + FLOW_SOURCE];
    const egress = planEgress(flows.words[leaving + FLOW_PLAN]);
    this.#generator.icmp(this.#inFamilyOf(toward, location, egress), toward, ttl, message, length);
    const { bytes, offset, length: frameLength } = this.#generator;
    this.#egress.send(egress, flows.words[leaving + FLOW_NEXT_HOP], bytes, offset, frameLength, 0, 0, nowMs);
    return true;
  }
}

/** An address in a quote between routers: it is the tuple's, and the name of an IPv6 address is its router's own business. */
function quotedAddress(address: number): number {
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
function isError(bytes: Uint8Array, at: number, end: number): boolean {
  if (end - at < ICMP_HEADER + IPV4_HEADER + QUOTED_L4) return false;
  const type = getIcmpType(bytes, at);
  if (type !== ICMP_UNREACHABLE && type !== ICMP_TIME_EXCEEDED && type !== ICMP_PARAMETER_PROBLEM) return false;
  return icmpIsRight(bytes, at, end);
}

function isTooBig(type: number, code: number): boolean {
  return type === ICMP_UNREACHABLE && code === ICMP_FRAGMENTATION_NEEDED;
}

/** Where the message begins that is carried in the UDP packet with its header at `l4`: behind metadata, where there is some. */
function behindUdp(bytes: Uint8Array, l4: number, end: number): number {
  const at = l4 + UDP_HEADER;
  const isMetadata = at + METADATA_BASE_LENGTH <= end && startsWithCookie(bytes, at, end);
  return isMetadata ? at + (getU16(bytes, at + 8) & 0xfff) + getU16(bytes, at + 10) : at;
}

/** What is passed on of the four bytes behind the checksum, but for an MTU: a pointer. What tells of extensions (RFC 4884) goes with them. */
function restOf(bytes: Uint8Array, at: number, type: number): number {
  return type === ICMP_PARAMETER_PROBLEM ? bytes[at + ICMP_REST] << 24 : 0;
}

/** The next hop's MTU that "fragmentation needed" tells; where it does not, the next plateau below the packet that did not pass. */
function mtuOf(bytes: Uint8Array, at: number, quote: number): number {
  const told = getIcmpMtu(bytes, at);
  if (told >= PATH_MTU_MIN) return told;
  if (told > 0) return PATH_MTU_MIN;
  const length = (bytes[quote + IPV4_TOTAL_LENGTH] << 8) | bytes[quote + IPV4_TOTAL_LENGTH + 1];
  return PLATEAUS.find((plateau) => plateau < length) ?? PATH_MTU_MIN;
}
