// ICMP errors about packets of sessions (RFC 792, RFC 1812 5.2.7; protocol sheet 2.5): found by the packet that they quote, they
// go to whoever sent it, with the quote as that one knows its packet. Between routers an error travels in the session's waypoint
// tuple, behind metadata with the address of the device that raised it (attribute 20), and its quote is of that tuple:
//
//   host ── LAN ── router A ══ network ══ router B ── LAN ──► what cannot be delivered
//        ◄─ its own ─┘ ◄─── attribute 20 ────┘ ◄─── as B sent it ──┘          what is quoted, hop by hop
//
// What has no session here is dropped (drop.icmp-error). How the message and its quote are written: icmp-quote.ts.

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
  FLOW_PROTOCOL,
  FLOW_SESSION,
  FLOW_SHIFT,
  FLOW_SOURCE,
  planDirection,
  planEgress,
} from "../table/flow-table.ts";
import { PAYLOAD_CLEAR, REVERSE } from "../table/session-table.ts";
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
} from "../wire/flow-key.ts";
import { getIcmpCode, getIcmpMtu, getIcmpType, ICMP_HEADER, ICMP_TIME_EXCEEDED } from "../wire/icmp.ts";
import { getSource, IPV4_HEADER, IPV4_TTL } from "../wire/ipv4.ts";
import { TCP_HEADER } from "../wire/tcp.ts";
import { CONSUMED, DROP_ICMP_ERROR, DROP_TTL, OK } from "../wire/verdict.ts";
import { ICMP_PASSED, ICMP_SENT, ICMP_TOO_BIG_SENT } from "./counters.ts";
import type { Egress } from "./egress.ts";
import type { Generator } from "./generate.ts";
import {
  ErrorMessage,
  isError,
  isQuoteOfBfd,
  isTooBig,
  mtuOf,
  mtuTold,
  QuotedPacket,
  quotedAddress,
  quotedLabel,
  readQuote,
  restOf,
} from "./icmp-quote.ts";
import type { PacketSecurity } from "./packet-security.ts";
import type { PayloadSecurity } from "./payload-security.ts";
import type { Signals } from "./signals.ts";

/** Of what we raise ourselves. */
const TTL = 64;
/** 64:ff9b::/96: IPv4 addresses in IPv6 (RFC 6052). */
const WELL_KNOWN_PREFIX = 0x0064_ff9b;

export class IcmpErrors {
  readonly #interfaces: readonly RouterInterface[];
  readonly #sessions: Sessions;
  readonly #egress: Egress;
  readonly #generator: Generator;
  readonly #signals: Signals;
  readonly #security: PacketSecurity;
  readonly #overhead: (session: number, way: number) => number;
  readonly #carried: (session: number) => number;
  readonly #counters: CounterSet;
  readonly #quote = new Int32Array(KEY_ROW_WORDS);
  readonly #packet = new QuotedPacket();
  readonly #message: ErrorMessage;

  constructor(parts: {
    interfaces: readonly RouterInterface[];
    sessions: Sessions;
    egress: Egress;
    generator: Generator;
    signals: Signals;
    security: PacketSecurity;
    payload: PayloadSecurity;
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
    this.#security = parts.security;
    this.#message = new ErrorMessage(parts.sessions, parts.payload);
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
  receive(batch: FrameBatch, i: number, key: Int32Array, flow: number, nowMs: number): number {
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
      const path = this.#pathQuoted(key, session, from);
      if (path >= 0) paths[path].learnMtu(mtu, nowMs);
      // Between routers an MTU is told of packets as they travel there.
      const { sides } = table;
      const isEnd = sides[from].path[session] < 0 && sides[1 - from].path[session] >= 0;
      rest = Math.max(PATH_MTU_MIN, mtu - this.#overhead(session, from)) + (isEnd ? this.#carried(session) : 0);
    }
    const location = this.#locationToward(session, 1 - from, getSource(bytes, key[AT_L3]));
    const isOpaque = table.sides[from].path[session] >= 0 && table.payload[session] !== PAYLOAD_CLEAR;
    const packet = this.#packet.at(bytes, quote, isOpaque);
    if (isOpaque)
      packet.digest = this.#security.overhead(paths[this.#pathQuoted(key, session, from)], packet.hasMetadata);
    this.#compose(session, 1 - from, type, code, rest, packet);
    return this.#deliver(session, 1 - from, location, ttl, batch.flags[i], nowMs) ? this.#passed() : CONSUMED;
  }

  /**
   * Row of the path that the packet went by which an error quotes, toward the session's side `way`; -1 = none is there. Not always
   * the side's own: it may have gone by the second one, or before the session was moved. By its address no path is found to a peer
   * behind a NAT.
   */
  #pathQuoted(key: Int32Array, session: number, way: number): number {
    const own = this.#sessions.table.sides[way].path[session];
    if (own < 0) return -1;
    const quote = this.#quote;
    const quoted = this.#sessions.pathBetween(key[KEY_PROTOCOL] >>> 8, quote[KEY_SOURCE], quote[KEY_DESTINATION]);
    return quoted < 0 ? own : quoted;
  }

  /** A peer passes an error on by path `from`: it is what is behind the metadata of a packet that came in `direction`. `location` raised it. */
  fromPeer(
    batch: FrameBatch,
    key: Int32Array,
    metadataLength: number,
    session: number,
    direction: number,
    location: number,
    from: PeerPath,
    nowMs: number,
  ): number {
    const { bytes } = batch;
    const at = key[AT_PAYLOAD] + metadataLength;
    const quote = this.#quote;
    const end = key[AT_END];
    if (!isError(bytes, at, end)) return DROP_ICMP_ERROR;
    if (decodeQuote(batch.view, at + ICMP_HEADER, end, key[KEY_PROTOCOL] >>> 8, quote, 0) !== OK)
      return DROP_ICMP_ERROR;
    // It speaks of what we sent on this very tuple; of the end that is behind a NAT the other one knows another address and port.
    const { isDynamic, isOutboundOnly } = from.nat;
    const ports = (isDynamic ? 0 : 0xffff0000) | (isOutboundOnly ? 0 : 0xffff);
    if (((quote[KEY_PORTS] ^ key[KEY_PORTS]) & ports) !== 0 || quote[KEY_PROTOCOL] !== key[KEY_PROTOCOL])
      return DROP_ICMP_ERROR;
    if (!isDynamic && quote[KEY_SOURCE] !== quotedAddress(key[KEY_SOURCE])) return DROP_ICMP_ERROR;
    if (!isOutboundOnly && quote[KEY_DESTINATION] !== quotedAddress(key[KEY_DESTINATION])) return DROP_ICMP_ERROR;
    const ttl = bytes[key[AT_L3] + IPV4_TTL] - 1;
    if (ttl < 1) return DROP_TTL;
    const [type, code] = [getIcmpType(bytes, at), getIcmpCode(bytes, at)];
    // An MTU is told of packets as they travel between routers.
    const mtu = getIcmpMtu(bytes, at) - this.#carried(session);
    const rest = isTooBig(type, code) ? Math.max(PATH_MTU_MIN, mtu) : restOf(bytes, at, type);
    const packet = this.#packet.at(bytes, quote, false);
    packet.isOpaque = this.#isSealedPing(session, packet);
    this.#compose(session, 1 - direction, type, code, rest, packet);
    const told = this.#locationToward(session, 1 - direction, location);
    return this.#deliver(session, 1 - direction, told, ttl, 0, nowMs) ? this.#passed() : CONSUMED;
  }

  /** Whether a quote that a peer wrote has a whole ping of the session as it was sealed: who cannot read it passes all of it on. */
  #isSealedPing(session: number, packet: QuotedPacket): boolean {
    const { payload, context } = this.#sessions.table;
    const isPing = context[session * 4 + 3] === PROTOCOL_ICMP;
    return isPing && payload[session] !== PAYLOAD_CLEAR && packet.sealedLength > 0;
  }

  /**
   * Who raised an error, as the session's side `way` may know. Where that side has another address for the far end than this has
   * itself, what is at the far end is inside, and has the address that it is known by (RFC 5508, REQ-5 d): the outside one of
   * source NAT, the service's one of a target.
   */
  #locationToward(session: number, way: number, location: number): number {
    const { table } = this.#sessions;
    const presented = way === REVERSE ? table.presented.get(session) : undefined;
    if (presented !== undefined) return presented.address;
    const known = this.#farEnd(session, way, FLOW_DESTINATION, way);
    const isMapped = way === REVERSE ? table.mappingOf(session) >= 0 : table.hairpinOf(session) >= 0;
    return isMapped || known !== this.#farEnd(session, way, FLOW_SOURCE, 1 - way) ? known : location;
  }

  /** The end of the session that is not on its side `way`, as the flow from side `by` has it in this word: toward a peer that has waypoints. */
  #farEnd(session: number, way: number, word: number, by: number): number {
    const { flows, table } = this.#sessions;
    if (table.sides[by].path[session] >= 0) return table.context[session * 4 + (way === REVERSE ? 0 : 1)];
    return flows.words[(table.flow(session, by) << FLOW_SHIFT) + word];
  }

  /** The router's own word about a packet of the session, just as it came in `direction`, to whoever sent it. */
  raise(
    batch: FrameBatch,
    i: number,
    key: Int32Array,
    session: number,
    direction: number,
    type: number,
    code: number,
    rest: number,
    nowMs: number,
  ): void {
    const { table } = this.#sessions;
    const isToPeer = table.sides[direction].path[session] >= 0;
    const isOpaque = isToPeer && table.payload[session] !== PAYLOAD_CLEAR && !isPayloadEnd(table, session);
    const told = isToPeer && isTooBig(type, code) ? rest + this.#carried(session) : rest;
    this.#compose(session, direction, type, code, told, this.#packet.at(batch.bytes, key, isOpaque));
    const location = this.#addressToward(session, direction);
    if (!this.#deliver(session, direction, location, TTL, batch.flags[i], nowMs)) return;
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

  /** Write the message about this packet for the session's side `way`. */
  #compose(session: number, way: number, type: number, code: number, rest: number, packet: QuotedPacket): void {
    if (isTooBig(type, code)) this.#narrow(session, way, rest & 0xffff);
    const { table } = this.#sessions;
    const flow =
      table.sides[way].path[session] < 0 ? table.flow(session, way) : this.#signals.flowOfErrors(session, way);
    this.#message.compose(session, way, flow, type, code, rest, packet);
  }

  /** Super-frames from the side `way` whose segments' size nobody tells are cut so that they fit from now on, too. */
  #narrow(session: number, way: number, mtu: number): void {
    const { segmentSize, context } = this.#sessions.table;
    if (context[session * 4 + 3] !== PROTOCOL_TCP) return;
    const at = session * 2 + way;
    const most = mtu - IPV4_HEADER - TCP_HEADER;
    if (segmentSize[at] === 0 || segmentSize[at] > most) segmentSize[at] = most;
  }

  /** The address of the device that raised an error as a host of `toward`'s family can be told: RFC 6052, 2.1, or RFC 6791. */
  #inFamilyOf(toward: number, location: number, egress: number): number {
    if (isName(toward) === isName(location)) return location;
    const own = this.#interfaces[egress].addresses[0].address;
    if (!isName(toward)) return own;
    return addressBook.enter(WELL_KNOWN_PREFIX, 0, 0, location, performance.now() | 0) || own;
  }

  /**
   * Send the message to the session's side `way`; what it quotes has the flow label in `flags`, if there is one. False when there
   * are too many of them, or that side's path is down.
   */
  #deliver(session: number, way: number, location: number, ttl: number, flags: number, nowMs: number): boolean {
    const { flows, table, paths } = this.#sessions;
    const { bytes: message, length } = this.#message;
    const path: PeerPath | null = table.sides[way].path[session] < 0 ? null : paths[table.sides[way].path[session]];
    if (!this.#generator.mayAnswer(nowMs)) return false;
    if (path !== null) return this.#signals.passError(session, way, location, message, length, nowMs);
    const leaving = table.flow(session, 1 - way) << FLOW_SHIFT;
    const toward = flows.words[(table.flow(session, way) << FLOW_SHIFT) + FLOW_SOURCE];
    const egress = planEgress(flows.words[leaving + FLOW_PLAN]);
    this.#generator.icmp(this.#inFamilyOf(toward, location, egress), toward, ttl, message, length);
    const { bytes, offset, length: frameLength } = this.#generator;
    this.#egress.send(
      egress,
      flows.words[leaving + FLOW_NEXT_HOP],
      bytes,
      offset,
      frameLength,
      quotedLabel(flags),
      0,
      nowMs,
    );
    return true;
  }
}
