// How packets of sessions leave: rewritten, with what the peer on that side must still hear, signed, and cut where they are too
// long; over one path, or over two under packet duplication.

import { getU16 } from "../base/bytes.ts";
import { FRAME_CHECKSUM_PARTIAL, FRAME_LABEL, FrameBatch, HEADROOM, TAILROOM } from "../io/port.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import type { RouterInterface } from "../peer/router-interface.ts";
import { wireProtocol } from "../session/carrier.ts";
import { remainingS } from "../session/expire.ts";
import * as handshake from "../session/metadata-handshake.ts";
import { type Sessions, swapPorts } from "../session/open.ts";
import { isPayloadEnd } from "../session/payload.ts";
import { NOT_NUMBERED, NUMBER_OVERHEAD, type SessionMetadata } from "../session/session-metadata.ts";
import { isName } from "../table/address-book.ts";
import type { CounterSet } from "../table/counter-set.ts";
import {
  FLOW_DESTINATION,
  FLOW_NEW_PORTS,
  FLOW_NEXT_HOP,
  FLOW_PLAN,
  FLOW_PORTS,
  FLOW_SHIFT,
  FLOW_SOURCE,
  OP_FROM_PEER,
  OP_INSERT_UDP,
  OP_LABEL,
  OP_REMOVE_UDP,
  OP_TO_PEER,
  planDscp,
  planEgress,
} from "../table/flow-table.ts";
import { FORWARD, type HandshakeColumns, PAYLOAD_CLEAR, REVERSE, SIDE_SENDING } from "../table/session-table.ts";
import { l4IsRight } from "../wire/checksum.ts";
import {
  ANY_MAC,
  AT_END,
  AT_L3,
  AT_L4,
  AT_PAYLOAD,
  decodeFrame,
  KEY_PROTOCOL,
  KEY_ROW_WORDS,
  PROTOCOL_ICMP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  startsWithCookie,
} from "../wire/flow-key.ts";
import { getIcmpIdentifier, ICMP_FRAGMENTATION_NEEDED, ICMP_UNREACHABLE, setIcmpIdentifier } from "../wire/icmp.ts";
import { DONT_FRAGMENT, IPV4_FLAGS, IPV4_HEADER, IPV4_PROTOCOL } from "../wire/ipv4.ts";
import { IPV6_FRAGMENT_HEADER, IPV6_HEADER, IPV6_MTU_MIN } from "../wire/ipv6.ts";
import { GROWTH_MAX, LENGTH_MAX } from "../wire/long-packet.ts";
import { type MetadataWriter, writeFalsePositiveMarker } from "../wire/metadata.ts";
import { METADATA_BASE_LENGTH } from "../wire/metadata-attributes.ts";
import { segmentFrame, segmentSizeMax, superFrameError } from "../wire/offload.ts";
import { getTcpFlags, lowerMss, SYN, TCP_HEADER } from "../wire/tcp.ts";
import { UDP_HEADER } from "../wire/udp.ts";
import { DROP_EXCEEDS_MTU, DROP_PATH_DOWN, DROP_UDP_CHECKSUM, OK } from "../wire/verdict.ts";
import {
  DUPLICATES_SENT,
  FABRIC_FRAGMENTS_SENT,
  IP_FRAGMENTS_SENT,
  METADATA_MARKED,
  METADATA_SENT,
} from "./counters.ts";
import type { Egress } from "./egress.ts";
import type { FabricFragments } from "./fabric-fragments.ts";
import { canCut, hidesCookie, isPartial, mtuOfSegments, segmentSizeOf } from "./fast-path.ts";
import type { Generator } from "./generate.ts";
import type { IcmpErrors } from "./icmp-errors.ts";
import { fragmentPacket } from "./ip-fragments.ts";
import type { PacketSecurity } from "./packet-security.ts";
import { PAYLOAD_OVERHEAD, type PayloadSecurity } from "./payload-security.ts";
import { markDscp, padTtl, readdress, rewrite } from "./rewrite.ts";
import { endOfPayload, insertBeforePayload, insertUdpHeader, payloadEnd, removeUdpHeader } from "./splice.ts";
import { tcpToUdp } from "./tcp-in-udp.ts";
import { TUNNEL_OVERHEAD, type Tunnel } from "./tunnel.ts";

/** What every IPv6 link takes, in the router's own form. */
const IPV6_LEAST = IPV6_MTU_MIN - (IPV6_HEADER - IPV4_HEADER);
/** What path metrics and a digest add at most: 12 + 8 + 14, and 32. */
const METRICS_ROOM = 66;
/** An Ethernet header and the longest packet, with what is put on it. */
const LONGEST_FRAME = 14 + LENGTH_MAX + GROWTH_MAX;

export class Departure {
  readonly #interfaces: readonly RouterInterface[];
  readonly #sessions: Sessions;
  readonly #metadata: SessionMetadata;
  readonly #writer: MetadataWriter;
  readonly #egress: Egress;
  readonly #generator: Generator;
  /** By row of the path. */
  readonly #fragments: readonly FabricFragments[];
  readonly #tunnel: Tunnel;
  readonly #counters: CounterSet;
  readonly #security: PacketSecurity;
  readonly #payload: PayloadSecurity;
  readonly #errors: IcmpErrors;
  readonly #metrics = { txColor: 0, txTimeMs: 0, rxColor: 0, rxTimeMs: 0, drop: false, previousRxCount: 0 };
  readonly #marker = new Uint8Array(METADATA_BASE_LENGTH);
  /** One segment of a super-frame. */
  readonly #piece = new FrameBatch(new Uint8Array(0), 1);
  readonly #pieceKey = new Int32Array(KEY_ROW_WORDS);
  /** The copy of a packet that goes over a session's second path. */
  readonly #copy = new FrameBatch(new Uint8Array(0), 1);
  readonly #copyKey = new Int32Array(KEY_ROW_WORDS);
  #long: Uint8Array | null = null;

  constructor(parts: {
    interfaces: readonly RouterInterface[];
    sessions: Sessions;
    metadata: SessionMetadata;
    writer: MetadataWriter;
    egress: Egress;
    generator: Generator;
    fragments: readonly FabricFragments[];
    tunnel: Tunnel;
    counters: CounterSet;
    security: PacketSecurity;
    payload: PayloadSecurity;
    errors: IcmpErrors;
  }) {
    this.#interfaces = parts.interfaces;
    this.#sessions = parts.sessions;
    this.#metadata = parts.metadata;
    this.#writer = parts.writer;
    this.#egress = parts.egress;
    this.#generator = parts.generator;
    this.#fragments = parts.fragments;
    this.#tunnel = parts.tunnel;
    this.#counters = parts.counters;
    this.#security = parts.security;
    this.#payload = parts.payload;
    this.#errors = parts.errors;
    writeFalsePositiveMarker(this.#marker, 0);
  }

  /** Rewrite, put on what this side's peer must still hear, and send. */
  leave(
    batch: FrameBatch,
    i: number,
    key: Int32Array,
    flow: number,
    session: number,
    direction: number,
    nowMs: number,
  ): number {
    const { flows, table, paths } = this.#sessions;
    const side = table.sides[1 - direction];
    const path = side.path[session] < 0 ? null : paths[side.path[session]];
    const sending = side.state[session] === SIDE_SENDING;
    const asks = path !== null && (table.healthCheck[session] & (1 << direction)) !== 0;
    const duplicate = table.duplicate[session * 2 + 1 - direction];
    const attach = sending || asks || duplicate >= 0;
    const isTransformed = this.#sessions.isTransformed(session, 1 - direction);
    const base = flow << FLOW_SHIFT;
    const plan = flows.words[base + FLOW_PLAN];
    const { bytes } = batch;
    if (batch.segmentSize[i] !== 0) {
      const most = this.#mtuToward(session, 1 - direction, nowMs);
      const mtu = mtuOfSegments(batch, i, key, 0, most, this.#interfaces);
      const fits = canCut(batch, i, key, 0, mtu);
      const size = fits ? segmentSizeOf(batch, i, key, 0, mtu, table, session, direction) : batch.segmentSize[i];
      batch.segmentSize[i] = size;
      if (
        attach ||
        isTransformed ||
        !fits ||
        this.#sessions.isTunnelled(session, direction) ||
        ((plan & OP_TO_PEER) !== 0 && hidesCookie(bytes, key, 0, size))
      ) {
        return this.#leaveInSegments(batch, i, key, flow, session, direction, nowMs);
      }
    }
    // What is put on the longest packets would leave no length to tell where the datagram ends and other bytes begin.
    if (path !== null && key[AT_END] - key[AT_L3] > LENGTH_MAX - GROWTH_MAX) endOfPayload(batch, i, key);
    const fits = batch.segmentSize[i] === 0 ? this.#checkSize(batch, i, key, session, direction, plan, nowMs) : OK;
    if (fits !== OK) return fits;
    if ((plan & OP_REMOVE_UDP) !== 0) {
      if (!l4IsRight(bytes, key[AT_L3], key[AT_L4], key[AT_END])) return DROP_UDP_CHECKSUM;
      removeUdpHeader(batch, i, key, table.context[session * 4 + 3]);
    }
    // The session's own bytes, as its hosts count them: nothing of what routers put around them.
    const packetLength = key[AT_END] - key[AT_L3];
    const partial = batch.segmentSize[i] !== 0 && isPartial(batch, i, key);
    rewrite(batch.view, key[AT_L3], key[AT_L4], flows.words, base, partial);
    if (bytes[key[AT_L3] + IPV4_PROTOCOL] === PROTOCOL_ICMP && table.isTranslated(session))
      this.#identify(bytes, key, session, base, plan);
    markDscp(batch.view, key[AT_L3], planDscp(plan));
    if (path !== null && duplicate < 0) padTtl(batch.view, key[AT_L3], path.padding);
    if ((plan & OP_INSERT_UDP) !== 0) insertUdpHeader(batch, i, key, flows.words[base + FLOW_NEW_PORTS]);
    const sealed = this.#payload.leave(batch, i, key, session, direction, plan);
    if (sealed !== OK) return sealed;
    if (duplicate >= 0)
      return this.#leaveTwice(batch, i, key, flow, session, direction, duplicate, packetLength, nowMs);
    const isSyn = isTransformed && (getTcpFlags(bytes, key[AT_L4]) & SYN) !== 0;
    const carried = isTransformed ? tcpToUdp(bytes, key) : OK;
    if (carried !== OK) return carried;
    const measured = !attach && path !== null && this.#mayMeasure(batch, i, key, path, nowMs);
    if (attach) {
      const length = this.#writeMetadata(session, direction, sending, asks, path!, NOT_NUMBERED, isSyn, nowMs);
      insertBeforePayload(batch, i, key, this.#writer.buffer, length);
      this.#counters.increment(METADATA_SENT);
    } else if (measured) {
      path!.metrics!.fill(this.#metrics, nowMs);
      const length = this.#metadata.writeMetrics(this.#metrics, this.#security.version(path!, nowMs));
      insertBeforePayload(batch, i, key, this.#writer.buffer, length);
      this.#counters.increment(METADATA_SENT);
    } else if ((plan & OP_TO_PEER) !== 0 && startsWithCookie(bytes, key[AT_PAYLOAD], key[AT_END])) {
      insertBeforePayload(batch, i, key, this.#marker, METADATA_BASE_LENGTH);
      this.#counters.increment(METADATA_MARKED);
    }
    if (path !== null) {
      this.#security.sign(batch, i, key, path, attach || measured, nowMs);
      handshake.answered(side, session);
    }
    flows.touch(flow, packetLength, nowMs);
    if (path !== null && this.#sessions.isTunnelled(session, direction))
      return this.#transmitTunnelled(batch, i, key, path, plan, nowMs);
    return this.#transmit(batch, i, key, flow, side.path[session], partial, nowMs);
  }

  /** An echo whose source is mapped: its identifier is the mapping's outside, and the host's own inside and between routers. */
  #identify(bytes: Uint8Array, key: Int32Array, session: number, base: number, plan: number): void {
    const { flows, table } = this.#sessions;
    const ports = (plan & OP_TO_PEER) === 0 ? flows.words[base + FLOW_NEW_PORTS] : table.context[session * 4 + 2];
    if (getIcmpIdentifier(bytes, key[AT_L4]) !== (ports & 0xffff)) setIcmpIdentifier(bytes, key[AT_L4], ports & 0xffff);
  }

  /**
   * The packet, rewritten for its session's own path, goes over that and over the second one (session/duplication.ts), as far
   * as each is up: with one number, with what each path's peer must still hear, signed for each.
   */
  #leaveTwice(
    batch: FrameBatch,
    i: number,
    key: Int32Array,
    flow: number,
    session: number,
    direction: number,
    row: number,
    packetLength: number,
    nowMs: number,
  ): number {
    const { flows, table, paths, duplicates } = this.#sessions;
    const side = table.sides[1 - direction];
    const { second } = duplicates;
    const first = paths[side.path[session]];
    const other = second.path[row] < 0 ? null : paths[second.path[row]];
    const base = flow << FLOW_SHIFT;
    const plan = flows.words[base + FLOW_PLAN];
    const number = duplicates.next(row);
    const asks = (table.healthCheck[session] & (1 << direction)) !== 0;
    const goesTwice = other?.up === true;
    if (goesTwice) {
      this.#copyFor(batch, i, key, duplicates.flow[row]);
      padTtl(this.#copy.view, this.#copyKey[AT_L3], other.padding);
    }
    padTtl(batch.view, key[AT_L3], first.padding);
    let verdict = DROP_PATH_DOWN;
    if (first.up) {
      const hop = flows.words[base + FLOW_NEXT_HOP];
      verdict = this.#number(batch, i, key, session, direction, side, session, number, asks, nowMs);
      if (verdict === OK)
        verdict = this.#sessions.isTunnelled(session, direction)
          ? this.#transmitTunnelled(batch, i, key, first, plan, nowMs)
          : this.#transmitTo(batch, i, key, first, hop, plan, nowMs);
    }
    if (goesTwice) {
      let sent = this.#number(this.#copy, 0, this.#copyKey, session, direction, second, row, number, asks, nowMs);
      if (sent === OK) sent = this.#transmitTo(this.#copy, 0, this.#copyKey, other, other.nextHop, plan, nowMs);
      if (sent === OK) {
        this.#counters.increment(DUPLICATES_SENT);
        verdict = OK;
      }
    }
    flows.touch(flow, packetLength, nowMs);
    return verdict;
  }

  /** Copy the packet into memory of our own, with the addresses and ports of what goes back by flow `by`. */
  #copyFor(batch: FrameBatch, i: number, key: Int32Array, by: number): void {
    const { words } = this.#sessions.flows;
    const copy = this.#copy;
    const copyKey = this.#copyKey;
    const from = batch.offset[i];
    const isLong = key[AT_END] - from > this.#generator.frameBytesMax;
    const at = isLong ? HEADROOM : this.#generator.reserve();
    copy.bytes = isLong ? this.#longCopy() : this.#generator.bytes;
    copy.offset[0] = at;
    copy.length[0] = key[AT_END] - from;
    copy.flags[0] = batch.flags[i] & FRAME_LABEL;
    copy.bytes.set(batch.bytes.subarray(from, key[AT_END]), at);
    copyKey.set(key);
    for (const place of [AT_L3, AT_L4, AT_PAYLOAD, AT_END]) copyKey[place] += at - from;
    const base = by << FLOW_SHIFT;
    const source = words[base + FLOW_DESTINATION];
    const destination = words[base + FLOW_SOURCE];
    const ports = swapPorts(words[base + FLOW_PORTS]);
    readdress(copy.view, copyKey[AT_L3], copyKey[AT_L4], source, destination, ports, false);
  }

  /** Memory for one packet that was put together of fragments: it is in pieces again, in other memory, before the next. */
  #longCopy(): Uint8Array {
    this.#long ??= new Uint8Array(HEADROOM + LONGEST_FRAME + TAILROOM);
    return this.#long;
  }

  /** Put the packet's number on, with what the peer of this handshake must still hear, and sign it. OK, or why it cannot go there. */
  #number(
    batch: FrameBatch,
    i: number,
    key: Int32Array,
    session: number,
    direction: number,
    side: HandshakeColumns,
    row: number,
    number: number,
    asks: boolean,
    nowMs: number,
  ): number {
    const path = this.#sessions.paths[side.path[row]];
    const sending = side.state[row] === SIDE_SENDING;
    let isSyn = false;
    if (side.wire[row] === PROTOCOL_UDP && (key[KEY_PROTOCOL] & 0xff) === PROTOCOL_TCP) {
      isSyn = (getTcpFlags(batch.bytes, key[AT_L4]) & SYN) !== 0;
      const carried = tcpToUdp(batch.bytes, key);
      if (carried !== OK) return carried;
    }
    const length = this.#writeMetadata(session, direction, sending, asks, path, number, isSyn, nowMs);
    insertBeforePayload(batch, i, key, this.#writer.buffer, length);
    this.#counters.increment(METADATA_SENT);
    this.#security.sign(batch, i, key, path, true, nowMs);
    handshake.answered(side, row);
    return OK;
  }

  /** Whether this packet carries path metrics: its path wants some, it has a payload, and they fit (protocol sheet 6.4). */
  #mayMeasure(batch: FrameBatch, i: number, key: Int32Array, path: PeerPath, nowMs: number): boolean {
    if (path.metrics === null || batch.segmentSize[i] !== 0 || key[AT_PAYLOAD] === key[AT_END]) return false;
    return key[AT_END] - key[AT_L3] + METRICS_ROOM <= path.mtu(nowMs) && path.metrics.mark(nowMs);
  }

  /**
   * A segment that opens a session: what its sender asks for is lowered to what fits both ways, with what is put on
   * (protocol sheet 8, US 11,902,146), so that nothing of the stream has to be cut, and no host has to find that out.
   */
  lowerMss(bytes: Uint8Array, key: Int32Array, session: number, nowMs: number): void {
    if ((key[KEY_PROTOCOL] & 0xff) !== PROTOCOL_TCP || (getTcpFlags(bytes, key[AT_L4]) & SYN) === 0) return;
    const { table } = this.#sessions;
    // What other routers seal passes here with that on it.
    const sealed = table.payload[session] === PAYLOAD_CLEAR || isPayloadEnd(table, session) ? 0 : PAYLOAD_OVERHEAD;
    for (const way of [FORWARD, REVERSE]) {
      lowerMss(bytes, key[AT_L4], this.#roomToward(session, way, nowMs) - sealed - IPV4_HEADER - TCP_HEADER);
    }
  }

  /** The largest packet that may go to the session's side `way`, before anything is put on it. */
  #roomToward(session: number, way: number, nowMs: number): number {
    return this.#mtuToward(session, way, nowMs) - this.overhead(session, way);
  }

  /** The largest packet that goes to the session's side `way`, with what is put on it: over both paths, where there are two. */
  #mtuToward(session: number, way: number, nowMs: number): number {
    const { flows, table, paths } = this.#sessions;
    const path = table.sides[way].path[session];
    if (path >= 0) {
      const second = paths[this.#sessions.secondPath(session, way)];
      const mtu = paths[path].mtu(nowMs);
      return second?.up === true ? Math.min(mtu, second.mtu(nowMs)) : mtu;
    }
    return this.#interfaces[planEgress(flows.words[(table.flow(session, 1 - way) << FLOW_SHIFT) + FLOW_PLAN])].mtu;
  }

  /**
   * Whether a packet may go on. One that does not fit, and says that it may not be fragmented (RFC 791), has its sender told
   * what does. Between routers it goes on all the same, in fabric fragments: it comes out whole. What only metadata makes too
   * long is nobody's business but ours, and so is what an IPv6 host may send whatever the path takes (RFC 8200, 5).
   */
  #checkSize(
    batch: FrameBatch,
    i: number,
    key: Int32Array,
    session: number,
    direction: number,
    plan: number,
    nowMs: number,
  ): number {
    const way = 1 - direction;
    const length = key[AT_END] - key[AT_L3] - ((plan & OP_REMOVE_UDP) === 0 ? 0 : UDP_HEADER);
    const room = this.#roomToward(session, way, nowMs);
    if (length <= room || (getU16(batch.bytes, key[AT_L3] + IPV4_FLAGS) & DONT_FRAGMENT) === 0) return OK;
    const isToPeer = (plan & OP_TO_PEER) !== 0;
    // What did not fit the hop before this one was told of there.
    const isLeast = isToPeer && length <= this.#leastTold(session);
    const isTold =
      isLeast || (isToPeer && room >= this.#roomToward(session, direction, nowMs) && (plan & OP_FROM_PEER) !== 0);
    if (!isTold)
      this.#errors.raise(batch, i, key, session, direction, ICMP_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED, room, nowMs);
    return isToPeer ? OK : DROP_EXCEEDS_MTU;
  }

  /**
   * The longest packet of the session, as it is here, of which its sender is told nothing: an IPv6 host cannot be asked to send less
   * than every link takes. Between routers it may have what its first router has put on it.
   */
  #leastTold(session: number): number {
    const { table } = this.#sessions;
    const protocol = table.context[session * 4 + 3];
    if (!isName(table.context[session * 4])) return 0;
    if (table.upstream.path[session] < 0 || table.downstream.path[session] < 0) return IPV6_LEAST;
    const sealed = table.payload[session] === PAYLOAD_CLEAR ? 0 : PAYLOAD_OVERHEAD;
    return IPV6_LEAST + sealed + (wireProtocol(protocol) === protocol ? 0 : UDP_HEADER);
  }

  /** Of that, what stays on it through the fabric: where this router puts it on, or takes it off. */
  carried(session: number): number {
    const { table } = this.#sessions;
    const protocol = table.context[session * 4 + 3];
    const isEnd = table.upstream.path[session] < 0 || table.downstream.path[session] < 0;
    return this.#payload.overhead(session) + (isEnd && wireProtocol(protocol) !== protocol ? UDP_HEADER : 0);
  }

  /** Bytes that are put on a packet of the session that leaves to its side `way`, once its metadata has stopped. */
  overhead(session: number, way: number): number {
    const { flows, table, paths } = this.#sessions;
    const path = table.sides[way].path[session];
    if (path < 0) return 0;
    const plan = flows.words[(table.flow(session, 1 - way) << FLOW_SHIFT) + FLOW_PLAN];
    const tunnel = this.#sessions.isTunnelled(session, 1 - way) ? TUNNEL_OVERHEAD : 0;
    const isNumbered = table.duplicate[session * 2 + way] >= 0;
    const number = isNumbered ? NUMBER_OVERHEAD : 0;
    const digest = this.#security.overhead(paths[path], isNumbered);
    const udp = (plan & OP_INSERT_UDP) === 0 ? 0 : UDP_HEADER;
    return digest + this.#payload.overhead(session) + tunnel + number + udp;
  }

  /** What a packet carries in this direction: the session's metadata while the peer has not heard us, else a health check, else its number alone. */
  #writeMetadata(
    session: number,
    direction: number,
    sending: boolean,
    asks: boolean,
    path: PeerPath,
    number: number,
    isSyn: boolean,
    nowMs: number,
  ): number {
    const version = this.#security.version(path, nowMs);
    this.#sessions.table.healthCheck[session] &= ~(1 << direction);
    if (!sending)
      return asks ? this.#metadata.writeHealthCheck(version, number) : this.#metadata.writeNumber(version, number);
    const length =
      direction === FORWARD
        ? this.#metadata.writeForward(
            session,
            path,
            version,
            number,
            remainingS(this.#sessions, session, nowMs),
            false,
            isSyn,
          )
        : this.#metadata.writeReverse(session, path, version, number, isSyn);
    return this.#security.sealMetadata(this.#writer, length, path, nowMs);
  }

  /** Payload bytes of each segment of a super-frame, so that what is added to them still fits where the egress takes it: a stream's alone can be chosen. */
  secureSize(batch: FrameBatch, i: number, key: Int32Array, session: number, direction: number, nowMs: number): number {
    const { table, paths } = this.#sessions;
    const most = this.#mtuToward(session, 1 - direction, nowMs);
    const mtu = mtuOfSegments(batch, i, key, 0, most, this.#interfaces);
    const size = segmentSizeOf(batch, i, key, 0, mtu, table, session, direction);
    if ((key[KEY_PROTOCOL] & 0xff) !== PROTOCOL_TCP) return size;
    const path = table.sides[1 - direction].path[session];
    const growth = this.#payload.overhead(session) + (path < 0 ? 0 : this.#security.overhead(paths[path]));
    return Math.min(size, segmentSizeMax(batch.bytes, batch.offset[i], mtu) - growth);
  }

  /** A super-frame that must carry metadata or a marker: segment it first, every segment is a packet of its own. */
  #leaveInSegments(
    batch: FrameBatch,
    i: number,
    key: Int32Array,
    flow: number,
    session: number,
    direction: number,
    nowMs: number,
  ): number {
    const { bytes } = batch;
    const offset = batch.offset[i];
    const size = batch.segmentSize[i];
    const error = superFrameError(bytes, offset, isPartial(batch, i, key));
    const segment = this.#piece;
    segment.bytes = this.#generator.bytes;
    segment.flags[0] = batch.flags[i] & FRAME_LABEL;
    segment.segmentSize[0] = 0;
    let verdict = OK;
    for (let index = 0; ; index++) {
      const at = this.#generator.reserve();
      const length = segmentFrame(bytes, offset, size, index, error, segment.bytes, at);
      if (length === 0) return verdict;
      segment.offset[0] = at;
      segment.length[0] = length;
      const decoded = decodeFrame(
        segment.view,
        at,
        length,
        key[KEY_PROTOCOL] >>> 8,
        ANY_MAC,
        0,
        this.#pieceKey,
        0,
        true,
      );
      const left = decoded !== OK ? decoded : this.leave(segment, 0, this.#pieceKey, flow, session, direction, nowMs);
      if (left !== OK) verdict = left;
    }
  }

  /** Hand the finished packet to the egress; toward a peer it is cut to fabric fragments when what was added made it too long. */
  #transmit(
    batch: FrameBatch,
    i: number,
    key: Int32Array,
    flow: number,
    path: number,
    partial: boolean,
    nowMs: number,
  ): number {
    const { flows, paths } = this.#sessions;
    const { words } = flows;
    const base = flow << FLOW_SHIFT;
    const hop = words[base + FLOW_NEXT_HOP];
    const offset = batch.offset[i];
    const segmentSize = batch.segmentSize[i];
    const label = batch.flags[i] & FRAME_LABEL;
    if (path >= 0 && segmentSize === 0)
      return this.#transmitTo(batch, i, key, paths[path], hop, words[base + FLOW_PLAN], nowMs, partial);
    const egress = planEgress(words[base + FLOW_PLAN]);
    const { mtu, isIpv6 } = this.#interfaces[egress];
    if (key[AT_END] - key[AT_L3] > mtu && segmentSize === 0) {
      const send = (memory: Uint8Array, at: number, length: number) =>
        this.#egress.send(egress, hop, memory, at, length, label, 0, nowMs);
      const longest = isIpv6 ? LENGTH_MAX + IPV4_HEADER : LENGTH_MAX;
      if (key[AT_END] - key[AT_L3] > longest) return DROP_EXCEEDS_MTU;
      const pieces = fragmentPacket(this.#generator, batch, i, key, isIpv6 ? mtu - IPV6_FRAGMENT_HEADER : mtu, send);
      this.#counters.add(IP_FRAGMENTS_SENT, pieces);
      return pieces === 0 ? DROP_EXCEEDS_MTU : OK;
    }
    const flags = (partial ? FRAME_CHECKSUM_PARTIAL : 0) | label;
    this.#egress.send(egress, hop, batch.bytes, offset, key[AT_END] - offset, flags, segmentSize, nowMs);
    return OK;
  }

  /** The same for one packet to the peer of `path`. */
  #transmitTo(
    batch: FrameBatch,
    i: number,
    key: Int32Array,
    path: PeerPath,
    hop: number,
    plan: number,
    nowMs: number,
    partial = false,
  ): number {
    const { bytes } = batch;
    const { interfaceId } = path;
    const mtu = path.mtu(nowMs);
    const label = batch.flags[i] & FRAME_LABEL;
    if (key[AT_END] - key[AT_L3] > mtu || cameInPieces(bytes, key, plan)) {
      key[AT_END] = payloadEnd(bytes, key);
      const pieces = this.#fragments[path.row].split(batch, i, key, mtu, (memory, at, length) => {
        this.#egress.send(interfaceId, hop, memory, at, length, label, 0, nowMs);
      });
      if (pieces === 0) return DROP_EXCEEDS_MTU;
      this.#counters.add(FABRIC_FRAGMENTS_SENT, pieces);
      return OK;
    }
    const offset = batch.offset[i];
    const flags = (partial ? FRAME_CHECKSUM_PARTIAL : 0) | label;
    this.#egress.send(interfaceId, hop, bytes, offset, key[AT_END] - offset, flags, 0, nowMs);
    return OK;
  }

  /** The same for a packet that goes inside another one. */
  #transmitTunnelled(
    batch: FrameBatch,
    i: number,
    key: Int32Array,
    path: PeerPath,
    plan: number,
    nowMs: number,
  ): number {
    const { bytes } = batch;
    const offset = batch.offset[i];
    const label = batch.flags[i] & FRAME_LABEL;
    const send = (memory: Uint8Array, at: number, length: number) =>
      this.#tunnel.send(path, path.nextHop, memory, at, length, label, nowMs);
    const mtu = path.mtu(nowMs) - TUNNEL_OVERHEAD;
    if (key[AT_END] - key[AT_L3] <= mtu && !cameInPieces(bytes, key, plan)) {
      send(bytes, offset, key[AT_END] - offset);
      return OK;
    }
    key[AT_END] = payloadEnd(bytes, key);
    const pieces = this.#fragments[path.row].split(batch, i, key, mtu, send);
    if (pieces === 0) return DROP_EXCEEDS_MTU;
    this.#counters.add(FABRIC_FRAGMENTS_SENT, pieces);
    return OK;
  }
}

/**
 * Whether the packet is IPv6's and came in pieces, so that it may be cut again where it leaves (DF 0). Between routers its flow
 * label has no room for that, nor for the pieces' identification: it goes in fabric fragments, which say both, though it be one.
 */
function cameInPieces(bytes: Uint8Array, key: Int32Array, plan: number): boolean {
  return (plan & OP_LABEL) !== 0 && (getU16(bytes, key[AT_L3] + IPV4_FLAGS) & DONT_FRAGMENT) === 0;
}
