// The slow path: packets of known sessions that the fast path would not take. Metadata is taken off, control messages do their
// work, TCP is followed, and the packet leaves (departure.ts). What has no flow: leads.ts. The order of the functions is the
// order of a packet's way: miss → session → arrive → metadata → TCP → leave. Each returns OK (the frame is on its way out) or the drop
// reason to count. Frames are borrowed and changed in place.

import { FRAME_LABEL, FrameBatch } from "../io/port.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import type { RouterInterface } from "../peer/router-interface.ts";
import type { Duplication } from "../session/duplication.ts";
import { armTimer, holdBackClock, isExpired, watchSilence } from "../session/expire.ts";
import * as handshake from "../session/metadata-handshake.ts";
import type { Sessions } from "../session/open.ts";
import { isOneSided } from "../session/payload.ts";
import type { Policy } from "../session/policy.ts";
import type { Reroute } from "../session/reroute.ts";
import {
  hasContext,
  NOT_NUMBERED,
  readDscp,
  readErrorLocation,
  readPacketNumber,
  readServiceSessions,
  readUuid,
  type SessionMetadata,
  tellsIcmpError,
} from "../session/session-metadata.ts";
import { isTcpOver, nextTcpState } from "../session/tcp-state.ts";
import type { CounterSet } from "../table/counter-set.ts";
import {
  FLOW_PLAN,
  FLOW_SESSION,
  FLOW_SHIFT,
  GENERATION_MASK,
  OP_FROM_PEER,
  OP_REMOVE_UDP,
  OP_SECURE,
  planDirection,
} from "../table/flow-table.ts";
import { FORWARD, type HandshakeColumns, PAYLOAD_ENCRYPTED, REVERSE, SIDE_SENDING } from "../table/session-table.ts";
import { l4IsRight } from "../wire/checksum.ts";
import {
  AT_END,
  AT_L3,
  AT_L4,
  AT_PAYLOAD,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_PROTOCOL,
  KEY_ROW_WORDS,
  KEY_SOURCE,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TRAIT_COOKIE,
  TRAIT_TCP_EVENT,
  TRAITS,
} from "../wire/flow-key.ts";
import { ICMP_TIME_EXCEEDED } from "../wire/icmp.ts";
import { getDscp } from "../wire/ipv4.ts";
import { decodeWhole } from "../wire/long-packet.ts";
import { isFalsePositiveMarker, type MetadataWriter, readPathMetrics } from "../wire/metadata.ts";
import {
  ATTRIBUTE_CONTROL,
  ATTRIBUTE_DISABLE_FORWARD,
  ATTRIBUTE_HEALTH_CHECK,
  ATTRIBUTE_PATH_METRICS,
  ATTRIBUTE_TRANSLATED,
  ATTRIBUTE_UUID,
  CONTROL_DELETE_SESSION,
  CONTROL_DISABLE_METADATA,
  CONTROL_ENABLE_METADATA,
  CONTROL_KEEP_ALIVE,
  CONTROL_SESSION_EXISTS,
} from "../wire/metadata-attributes.ts";
import { segmentFrame, segmentSizeMax, superFrameError } from "../wire/offload.ts";
import { findMss, getTcpAcknowledgment, getTcpFlags, getTcpSequence, SYN } from "../wire/tcp.ts";
import {
  CONSUMED,
  DROP_CONTROL_UNKNOWN,
  DROP_DUPLICATE,
  DROP_FRAME_TOO_LONG,
  DROP_ICMP_ERROR,
  DROP_METADATA_CONTEXT,
  DROP_METADATA_MISSING,
  DROP_METADATA_UNEXPECTED,
  DROP_NOT_A_PEER,
  DROP_SESSION_KEY,
  DROP_TTL,
  OK,
} from "../wire/verdict.ts";
import { Answers } from "./answers.ts";
import {
  FRAMES_FORWARDED,
  FRAMES_SPLIT,
  IP_REASSEMBLED,
  METADATA_NOT_CARRIED,
  METADATA_RECEIVED,
  METADATA_UNMARKED,
} from "./counters.ts";
import { Departure } from "./departure.ts";
import type { Egress } from "./egress.ts";
import type { FabricFragments } from "./fabric-fragments.ts";
import { canCut, finishChecksum, hidesCookie, isPartial, mayHideMetadata, takeMark } from "./fast-path.ts";
import type { Generator } from "./generate.ts";
import { IcmpErrors } from "./icmp-errors.ts";
import type { IpFragments } from "./ip-fragments.ts";
import { ARRIVAL_LATE, ARRIVAL_NEW, Leads, OPENING_FLAGS } from "./leads.ts";
import { MetadataReader } from "./metadata-reader.ts";
import type { Outcomes } from "./outcomes.ts";
import type { PacketSecurity } from "./packet-security.ts";
import type { PayloadSecurity } from "./payload-security.ts";
import { Refusals } from "./refusals.ts";
import { readdress } from "./rewrite.ts";
import type { Signals } from "./signals.ts";
import { removeBeforePayload } from "./splice.ts";
import type { Strays } from "./strays.ts";
import { udpToTcp } from "./tcp-in-udp.ts";
import type { Tunnel } from "./tunnel.ts";

/** Of #arrive: the packet is on its way as part of another session. */
const HANDLED = -1;

export class SlowPath {
  readonly leads: Leads;
  readonly #departure: Departure;
  readonly #errors: IcmpErrors;
  readonly #egress: Egress;
  readonly #ipFragments: IpFragments;
  /** A packet that was put together of IPv4 fragments. */
  readonly #whole = new FrameBatch(new Uint8Array(0), 1);
  readonly #wholeKey = new Int32Array(KEY_ROW_WORDS);
  readonly #strays: Strays | null;
  readonly #answers: Answers;
  readonly #reader: MetadataReader;
  readonly #policy: Policy;
  readonly #sessions: Sessions;
  readonly #metadata: SessionMetadata;
  readonly #generator: Generator;
  readonly #signals: Signals;
  readonly #counters: CounterSet;
  readonly #outcomes: Outcomes;
  readonly #security: PacketSecurity;
  readonly #payload: PayloadSecurity;
  readonly #reroute: Reroute;
  readonly #duplication: Duplication;
  readonly #metrics = { txColor: 0, txTimeMs: 0, rxColor: 0, rxTimeMs: 0, drop: false, previousRxCount: 0 };
  /** One segment of a super-frame from a peer. It may complete a fabric fragment chain. */
  readonly #arrived = new FrameBatch(new Uint8Array(0), 1);
  /** Of a segment, and of a packet that was put together while one is in hand. */
  readonly #arrivedKey = new Int32Array(KEY_ROW_WORDS);
  readonly #pieceKey = new Int32Array(KEY_ROW_WORDS);
  /** The handshake that the packet in hand belongs to, and its row there: of its session's side, or of the second path of that. */
  #from: HandshakeColumns;
  #fromRow = 0;
  /** The largest of all interfaces: what the generator's slots have room for. */
  readonly #mtuMax: number;

  constructor(parts: {
    interfaces: readonly RouterInterface[];
    policy: Policy;
    sessions: Sessions;
    metadata: SessionMetadata;
    writer: MetadataWriter;
    egress: Egress;
    generator: Generator;
    fragments: readonly FabricFragments[];
    ipFragments: IpFragments;
    signals: Signals;
    tunnel: Tunnel;
    counters: CounterSet;
    /** The way to the other workers; null where there are none. */
    strays: Strays | null;
    outcomes: Outcomes;
    security: PacketSecurity;
    payload: PayloadSecurity;
    reroute: Reroute;
    duplication: Duplication;
    /** A peer's packet of a session that is not known is answered by asking for it. */
    isPacketBased: boolean;
  }) {
    const take = (piece: FrameBatch, interfaceId: number, nowMs: number) =>
      this.#takePiece(piece, this.#pieceKey, interfaceId, nowMs);
    this.#errors = new IcmpErrors({
      ...parts,
      overhead: (session, way) => this.#departure.overhead(session, way),
      carried: (session) => this.#departure.carried(session),
    });
    this.#departure = new Departure({ ...parts, errors: this.#errors });
    this.#strays = parts.strays;
    this.#egress = parts.egress;
    this.#ipFragments = parts.ipFragments;
    this.#answers = new Answers(parts);
    this.#reader = new MetadataReader({ ...parts, take });
    this.leads = new Leads({
      ...parts,
      packets: this,
      answers: this.#answers,
      refusals: new Refusals(parts),
      note: parts.outcomes.note,
      reader: this.#reader,
    });
    this.#policy = parts.policy;
    this.#sessions = parts.sessions;
    this.#metadata = parts.metadata;
    this.#generator = parts.generator;
    this.#signals = parts.signals;
    this.#counters = parts.counters;
    this.#outcomes = parts.outcomes;
    this.#security = parts.security;
    this.#payload = parts.payload;
    this.#reroute = parts.reroute;
    this.#duplication = parts.duplication;
    this.#from = parts.sessions.table.upstream;
    this.#mtuMax = Math.max(...parts.interfaces.map(({ mtu }) => mtu));
  }

  /** Bytes that are put on a packet of the session that leaves to its side `way`, once its metadata has stopped. */
  overhead(session: number, way: number): number {
    return this.#departure.overhead(session, way);
  }

  /** A piece of a packet: the packet goes on once it is whole. CONSUMED, or why the piece is dropped. */
  ipFragment(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): number {
    const added = this.#ipFragments.add(batch, i, key, this.#whole, nowMs);
    if (added !== OK) return added;
    this.#counters.increment(IP_REASSEMBLED);
    this.#takePiece(this.#whole, this.#wholeKey, key[KEY_PROTOCOL] >>> 8, nowMs);
    // What was queued lies in the chain's memory, which the next fragment may use.
    this.#egress.flush();
    return CONSUMED;
  }

  /** The one frame of `batch`, a long packet that another worker put together and handed over. */
  takeLong(batch: FrameBatch, interfaceId: number, nowMs: number): void {
    this.#takePiece(batch, this.#wholeKey, interfaceId, nowMs);
  }

  /** An ICMP error: it goes to whoever sent the packet that it quotes, if that is of a session. */
  icmpError(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): number {
    this.leads.pathMonitor?.heardError(batch, key, nowMs);
    const flow = this.#errors.flowOf(batch, key);
    if (flow >= 0) return this.#errors.receive(batch, i, key, flow, nowMs);
    // Whoever watches the path has heard it.
    if (this.leads.isMonitored && this.#errors.isOfProbe(batch, key)) return CONSUMED;
    if (this.#strays === null || this.#strays.isBack) return DROP_ICMP_ERROR;
    return this.#strays.handOver(batch, i, key[KEY_PROTOCOL] >>> 8);
  }

  /** A packet of no flow. */
  miss(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): number {
    return this.leads.miss(batch, i, key, nowMs);
  }

  /** A packet of a known flow that the fast path would not take. */
  session(
    batch: FrameBatch,
    i: number,
    key: Int32Array,
    by: number,
    nowMs: number,
    arrival: number = ARRIVAL_NEW,
  ): number {
    const { flows, table } = this.#sessions;
    const flow = this.#flowOf(by);
    const isRead = arrival !== ARRIVAL_NEW;
    const isLate = arrival === ARRIVAL_LATE;
    const base = flow << FLOW_SHIFT;
    const session = flows.words[base + FLOW_SESSION];
    const direction = planDirection(flows.words[base + FLOW_PLAN]);
    if ((flows.words[base + FLOW_PLAN] & GENERATION_MASK) !== flows.generation) {
      const verdict = this.#reroute.recheck(session, direction, nowMs);
      if (verdict !== OK) return verdict;
    }
    const plan = flows.words[base + FLOW_PLAN];
    takeMark(batch, i, key[AT_L3], plan);
    if (batch.bytes[key[AT_L3] + 8] < 2) return this.#lastHop(batch, i, key, by, session, direction, arrival, nowMs);
    if (direction === FORWARD && this.#isNewConversation(batch, key, session)) {
      this.#sessions.close(session, nowMs);
      return this.miss(batch, i, key, nowMs);
    }
    const superFrame = batch.segmentSize[i] !== 0;
    if (superFrame && !this.canCut(batch, i, key)) return DROP_FRAME_TOO_LONG;
    if (superFrame && (plan & OP_SECURE) !== 0 && (plan & OP_FROM_PEER) === 0)
      return this.arriveInSegments(
        batch,
        i,
        key,
        nowMs,
        this.#departure.secureSize(batch, i, key, session, direction, nowMs),
      );
    if (mayHideMetadata(batch, i, plan) && (this.#isTcpAsUdp(key, session) || needsCut(batch, i, key, plan)))
      return this.arriveInSegments(batch, i, key, nowMs);
    if (!superFrame) finishChecksum(batch, i, key);

    if ((plan & OP_FROM_PEER) !== 0) {
      this.#setFrom(session, direction, by);
      const isBehind = isLate || flow !== table.flow(session, direction);
      const verdict = this.#arrive(batch, i, key, session, direction, isRead, isBehind, nowMs);
      if (verdict !== OK) return verdict === HANDLED ? OK : verdict;
    }
    const wire = key[KEY_PROTOCOL] & 0xff;
    if (by !== flow) this.#asByFirst(batch, i, key, flow);
    const restored = this.#restoreTcp(batch.bytes, key, session, plan, wire);
    if (restored !== OK) return restored;
    const carried = this.#payload.arrive(batch, i, key, session, direction, plan);
    if (carried !== OK) return carried;
    table.healthCheck[session] &= ~(1 << (1 - direction));
    if (this.#sessions.awaitsDscp(session, direction))
      this.#sessions.setDscp(session, direction, getDscp(batch.bytes, key[AT_L3]));
    this.#departure.lowerMss(batch.bytes, key, session, nowMs);
    if ((key[KEY_PROTOCOL] & 0xff) === PROTOCOL_TCP) this.#followTcp(batch, i, key, session, direction);

    const verdict = this.#departure.leave(batch, i, key, flow, session, direction, nowMs);
    if (verdict === OK) this.#counters.increment(FRAMES_FORWARDED);
    this.#sessions.settle(session);
    armTimer(this.#sessions, session, nowMs);
    return verdict;
  }

  /**
   * The packet's TTL ends here: its sender is told, and nothing that it says is believed. What comes from a peer is verified
   * first; what of it is encrypted is decrypted where that is done here, because the quote has the first bytes of some.
   */
  #lastHop(
    batch: FrameBatch,
    i: number,
    key: Int32Array,
    by: number,
    session: number,
    direction: number,
    arrival: number,
    nowMs: number,
  ): number {
    const { flows, table, paths } = this.#sessions;
    const plan = flows.words[(table.flow(session, direction) << FLOW_SHIFT) + FLOW_PLAN];
    if ((plan & OP_FROM_PEER) !== 0) {
      if (batch.segmentSize[i] !== 0) return DROP_TTL;
      finishChecksum(batch, i, key);
      this.#setFrom(session, direction, by);
      const path = this.#from.path[this.#fromRow];
      const hasMetadata = (key[TRAITS] & TRAIT_COOKIE) !== 0;
      let verdict = OK;
      if (arrival === ARRIVAL_NEW && hasMetadata) verdict = this.#reader.read(batch, i, key, path, nowMs);
      else if (arrival === ARRIVAL_NEW) verdict = this.#security.verify(batch, i, key, paths[path], false, nowMs);
      if (verdict === CONSUMED) return CONSUMED;
      if (verdict !== OK || (hasMetadata && !this.#isOf(session))) return DROP_TTL;
      // Of a packet and its copy, one is answered.
      if (hasMetadata && !this.#isFirst(session, direction)) return DROP_DUPLICATE;
      if (hasMetadata) removeBeforePayload(batch, i, key, this.#reader.parsed.totalLength);
      if (this.#isTcpAsUdp(key, session)) verdict = udpToTcp(batch.bytes, key);
      if (verdict === OK && table.payload[session] === PAYLOAD_ENCRYPTED)
        verdict = this.#payload.arrive(batch, i, key, session, direction, plan);
      if (verdict !== OK) return DROP_TTL;
    }
    this.#errors.raise(batch, i, key, session, direction, ICMP_TIME_EXCEEDED, 0, 0, nowMs);
    return DROP_TTL;
  }

  /** Whether a packet from a peer, as it came, is TCP that goes as UDP. */
  #isTcpAsUdp(key: Int32Array, session: number): boolean {
    return (
      (key[KEY_PROTOCOL] & 0xff) === PROTOCOL_UDP && this.#sessions.table.context[session * 4 + 3] === PROTOCOL_TCP
    );
  }

  /** A packet of the session that came as IP protocol `wire`, with nothing of a peer's metadata on it any more: TCP is TCP again. */
  #restoreTcp(bytes: Uint8Array, key: Int32Array, session: number, plan: number, wire: number): number {
    if ((plan & OP_FROM_PEER) === 0 || this.#sessions.table.context[session * 4 + 3] !== PROTOCOL_TCP) return OK;
    if (wire === PROTOCOL_UDP) return udpToTcp(bytes, key);
    // Its first path may be another kind than the one that it came by.
    key[KEY_PROTOCOL] = (key[KEY_PROTOCOL] & ~0xff) | PROTOCOL_TCP;
    return OK;
  }

  /** Whether the metadata read last is on a packet of this session, which goes on: none of a router's own, and of no other session. */
  #isOf(session: number): boolean {
    const { parsed } = this.#reader;
    if (parsed.has(ATTRIBUTE_CONTROL) || tellsIcmpError(parsed)) return false;
    if (!parsed.has(ATTRIBUTE_UUID)) return true;
    readUuid(this.#security.told, parsed, this.#reader.words);
    return this.#sessions.table.hasUuid(session, this.#reader.words);
  }

  /** The flow that says what becomes of a packet come by flow `by`: what comes by a second path is the first one's. */
  #flowOf(by: number): number {
    const { flows, table, duplicates } = this.#sessions;
    const at = by << FLOW_SHIFT;
    const session = flows.words[at + FLOW_SESSION];
    const direction = planDirection(flows.words[at + FLOW_PLAN]);
    const row = table.duplicate[session * 2 + direction];
    return row >= 0 && duplicates.flow[row] === by ? table.flow(session, direction) : by;
  }

  /** A packet that came by its session's second path, as if it had come by flow `first`: that one's rewrite is for its addresses. */
  #asByFirst(batch: FrameBatch, i: number, key: Int32Array, first: number): void {
    const { words } = this.#sessions.flows;
    const base = first << FLOW_SHIFT;
    const partial = batch.segmentSize[i] !== 0 && isPartial(batch, i, key);
    for (const place of [KEY_SOURCE, KEY_DESTINATION, KEY_PORTS, KEY_PROTOCOL]) key[place] = words[base + place];
    const [source, destination, ports] = [key[KEY_SOURCE], key[KEY_DESTINATION], key[KEY_PORTS]];
    readdress(batch.view, key[AT_L3], key[AT_L4], source, destination, ports, partial);
  }

  /** The packet of the session came by flow `by`: which handshake it belongs to. */
  #setFrom(session: number, direction: number, by: number): void {
    const { table, duplicates } = this.#sessions;
    const row = table.duplicate[session * 2 + direction];
    const isSecond = row >= 0 && duplicates.flow[row] === by;
    this.#from = isSecond ? duplicates.second : table.sides[direction];
    this.#fromRow = isSecond ? row : session;
  }

  /** A SYN that begins another conversation on the addresses and ports of one that is over. */
  #isNewConversation(batch: FrameBatch, key: Int32Array, session: number): boolean {
    return (
      (key[KEY_PROTOCOL] & 0xff) === PROTOCOL_TCP &&
      isTcpOver(this.#sessions.table.tcpState[session]) &&
      (key[TRAITS] & TRAIT_COOKIE) === 0 &&
      (getTcpFlags(batch.bytes, key[AT_L4]) & OPENING_FLAGS) === SYN
    );
  }

  /**
   * What a packet from a peer brings: take its metadata off, or note that it has none. OK = go on with the bare packet.
   * `isBehind`: it comes by a tuple that the session had before it was moved, and says nothing about the handshake of now.
   */
  #arrive(
    batch: FrameBatch,
    i: number,
    key: Int32Array,
    session: number,
    direction: number,
    isRead: boolean,
    isBehind: boolean,
    nowMs: number,
  ): number {
    const { paths } = this.#sessions;
    const path = isBehind ? this.#pathBehind(key, session, direction) : this.#from.path[this.#fromRow];
    if (path < 0) return DROP_NOT_A_PEER;
    if ((key[TRAITS] & TRAIT_COOKIE) !== 0) {
      const verdict = isRead ? OK : this.#reader.read(batch, i, key, path, nowMs);
      if (verdict !== OK) return verdict;
      const parsed = this.#reader.parsed;
      if (isFalsePositiveMarker(parsed)) {
        this.#counters.increment(METADATA_UNMARKED);
        removeBeforePayload(batch, i, key, parsed.totalLength);
      } else {
        this.#counters.increment(METADATA_RECEIVED);
        if (parsed.has(ATTRIBUTE_PATH_METRICS) && this.#takeMetrics(paths[path], session, direction, nowMs))
          return CONSUMED;
        if (tellsIcmpError(parsed)) {
          const location = readErrorLocation(this.#security.told, parsed, paths[path].remote);
          return this.#errors.fromPeer(
            batch,
            key,
            parsed.totalLength,
            session,
            direction,
            location,
            paths[path],
            nowMs,
          );
        }
        if (isBehind) {
          if (parsed.has(ATTRIBUTE_CONTROL)) return CONSUMED;
          const isFirst = this.#isFirst(session, direction);
          removeBeforePayload(batch, i, key, parsed.totalLength);
          return isFirst ? OK : DROP_DUPLICATE;
        }
        if (parsed.has(ATTRIBUTE_CONTROL) || parsed.has(ATTRIBUTE_DISABLE_FORWARD))
          return this.#control(batch.bytes, key, session, direction, nowMs);
        const meant =
          direction === FORWARD
            ? this.#forwardMetadata(batch, i, key, session, nowMs)
            : this.#reverseMetadata(session, nowMs);
        if (meant !== OK) return meant;
        if (parsed.has(ATTRIBUTE_HEALTH_CHECK))
          this.#signals.confirm(session, direction, key[AT_END] - key[AT_PAYLOAD], nowMs);
        const isNew = this.#isNew(batch.bytes, key, session, direction);
        removeBeforePayload(batch, i, key, parsed.totalLength);
        return isNew ? OK : DROP_DUPLICATE;
      }
    } else {
      const verdict = this.#security.verify(batch, i, key, paths[path], false, nowMs);
      if (verdict !== OK) return verdict;
    }
    if (isBehind) return OK;
    // Without metadata: the responder has been heard; an initiator that still waits believes nothing.
    if (direction === REVERSE) return this.#bareReverse(session);
    this.#heardBare(batch.bytes, key, session);
    return OK;
  }

  /** A reverse packet that tells nothing of its session: believed once the peer has told, unless it has been told something new since. */
  #bareReverse(session: number): number {
    if (this.#from.state[this.#fromRow] !== SIDE_SENDING || isOneSided(this.#sessions.table, session)) return OK;
    return DROP_METADATA_MISSING;
  }

  /** A forward packet that tells nothing of its session: the peer has heard our answer. */
  #heardBare(bytes: Uint8Array, key: Int32Array, session: number, metadataLength = 0): void {
    if (this.#from.state[this.#fromRow] === SIDE_SENDING && this.#payload.isKnown(bytes, key, session, metadataLength))
      handshake.heardBareForward(this.#from, this.#fromRow);
  }

  /** Of a packet that has a number: whether it is the first with this one. What has none, or cannot be counted, is new. */
  #isNew(bytes: Uint8Array, key: Int32Array, session: number, direction: number): boolean {
    const number = readPacketNumber(this.#security.told, this.#reader.parsed);
    if (number === NOT_NUMBERED) return true;
    if (direction === FORWARD && !hasContext(this.#reader.parsed, FORWARD))
      this.#heardBare(bytes, key, session, this.#reader.parsed.totalLength);
    return this.#isFirst(session, direction);
  }

  /** Whether no copy of the packet whose metadata was read last came before; one without a number is its own. */
  #isFirst(session: number, direction: number): boolean {
    const number = readPacketNumber(this.#security.told, this.#reader.parsed);
    if (number === NOT_NUMBERED) return true;
    const row = this.#duplication.rowOf(session, direction);
    return row < 0 || this.#sessions.duplicates.isNew(row, number);
  }

  /** Take the one frame in `piece` through the slow path and count what becomes of it. */
  #takePiece(piece: FrameBatch, key: Int32Array, interfaceId: number, nowMs: number): void {
    let verdict = decodeWhole(piece.bytes, piece.view, piece.offset[0], piece.length[0], interfaceId, key);
    let found = -1;
    if (verdict === OK) {
      found = this.#sessions.flows.find(key[KEY_SOURCE], key[KEY_DESTINATION], key[KEY_PORTS], key[KEY_PROTOCOL]);
      verdict = found < 0 ? this.miss(piece, 0, key, nowMs) : this.session(piece, 0, key, found, nowMs);
    }
    this.#outcomes.count(verdict, piece.bytes, piece.offset[0], piece.length[0], interfaceId, found, nowMs);
  }

  /** Forward metadata on a known flow: the peer has not heard us yet, or sends it again (4.2). */
  #forwardMetadata(batch: FrameBatch, i: number, key: Int32Array, session: number, nowMs: number): number {
    const parsed = this.#reader.parsed;
    const { table } = this.#sessions;
    // Header attributes alone (a health check) ride on a packet that says nothing about the handshake.
    if (!hasContext(parsed, FORWARD)) return OK;
    if (!parsed.has(ATTRIBUTE_UUID)) return DROP_METADATA_CONTEXT;
    readUuid(this.#security.told, parsed, this.#reader.words);
    if (!table.hasUuid(session, this.#reader.words)) {
      // Another session took over the waypoint tuple.
      const taken = this.leads.openFromPeer(batch, i, key, table.upstream.path[session], nowMs, session);
      return taken === OK ? HANDLED : taken;
    }
    if (!this.#payload.isSameKey(session, this.#security.told, parsed)) return DROP_SESSION_KEY;
    this.#payload.heard(session, FORWARD, this.#security.told, parsed);
    this.#passOn(session, FORWARD);
    table.passed[session] = this.#metadata.passedRow(this.#security.told, parsed);
    this.#heardDscp(session, FORWARD);
    handshake.heardForwardMetadata(this.#from, this.#fromRow, nowMs);
    this.#signals.generateIfDue(session, nowMs);
    return OK;
  }

  /** What the parsed metadata says of the session that nobody here knows is for the next router. */
  #passOn(session: number, direction: number): void {
    if (!this.#metadata.passOn(session, direction, this.#security.told, this.#reader.parsed))
      this.#counters.increment(METADATA_NOT_CARRIED);
  }

  /** The peer's marks, and its word of ours (protocol sheet 6.4). True when the packet was made for nothing else. */
  #takeMetrics(path: PeerPath, session: number, direction: number, nowMs: number): boolean {
    const metrics = this.#metrics;
    readPathMetrics(this.#security.told, this.#reader.parsed.offsetOf(ATTRIBUTE_PATH_METRICS), metrics);
    path.metrics?.receive(metrics, nowMs);
    path.metricsBy = 2 * session + 1 - direction;
    return metrics.drop;
  }

  /** Reverse metadata: the backward message. It must speak of this session. */
  #reverseMetadata(session: number, nowMs: number): number {
    const parsed = this.#reader.parsed;
    const { table } = this.#sessions;
    if (!hasContext(parsed, REVERSE)) return this.#bareReverse(session);
    if (!parsed.has(ATTRIBUTE_UUID)) return DROP_METADATA_CONTEXT;
    if (!this.#reader.speaksOf(session)) return DROP_METADATA_UNEXPECTED;
    // An answer to what we said before the session was encrypted is none.
    if (!this.#payload.heard(session, REVERSE, this.#security.told, parsed)) return OK;
    this.#passOn(session, REVERSE);
    this.#heardDscp(session, REVERSE);
    if (parsed.has(ATTRIBUTE_TRANSLATED)) this.#sessions.setTranslated(session, nowMs);
    handshake.heardReverseMetadata(this.#from, this.#fromRow, nowMs);
    const busy = readServiceSessions(this.#security.told, parsed);
    const { peer } = this.#sessions.paths[table.downstream.path[session]];
    if (busy >= 0) this.#policy.loads.heard(peer, table.service[session], busy, nowMs);
    this.#signals.generateIfDue(session, nowMs);
    return OK;
  }

  /** What metadata in `direction`, of this session, says of the DSCP of its packets. */
  #heardDscp(session: number, direction: number): void {
    const dscp = readDscp(this.#security.told, this.#reader.parsed);
    if (dscp >= 0) this.#sessions.setDscp(session, direction, dscp);
  }

  /** A control message on a session's flow: do what it says, forward nothing (protocol sheet 3.4). */
  #control(bytes: Uint8Array, key: Int32Array, session: number, direction: number, nowMs: number): number {
    const parsed = this.#reader.parsed;
    const { told } = this.#security;
    if (!this.#reader.speaksOf(session)) return DROP_METADATA_UNEXPECTED;
    const reason = told[parsed.offsetOf(ATTRIBUTE_CONTROL)];
    this.#heardDscp(session, direction);
    if (direction === REVERSE && parsed.has(ATTRIBUTE_TRANSLATED)) this.#sessions.setTranslated(session, nowMs);
    if (hasContext(parsed, FORWARD) || hasContext(parsed, REVERSE)) this.#passOn(session, direction);
    if (hasContext(parsed, FORWARD)) {
      // Metadata alone, of a session that the peer tells us of again: answered as on any packet.
      handshake.heardForwardMetadata(this.#from, this.#fromRow, nowMs);
      this.#signals.generateIfDue(session, nowMs);
    } else if (direction === REVERSE && hasContext(parsed, REVERSE)) {
      handshake.heardReverseMetadata(this.#from, this.#fromRow, nowMs);
    }
    if (reason === CONTROL_DELETE_SESSION) {
      this.#sessions.close(session, nowMs);
      return CONSUMED;
    }
    if (reason === CONTROL_DISABLE_METADATA || parsed.has(ATTRIBUTE_DISABLE_FORWARD)) {
      const heard = this.#payload.heard(session, direction, told, parsed);
      if (heard && (direction === REVERSE || this.#payload.isKnown(bytes, key, session, parsed.totalLength)))
        handshake.heardDisable(this.#from, this.#fromRow);
    } else if (reason === CONTROL_ENABLE_METADATA) {
      handshake.heardEnable(this.#from, this.#fromRow);
      this.#sessions.forgetNumbers(session, direction);
    } else if (reason !== CONTROL_KEEP_ALIVE && reason !== CONTROL_SESSION_EXISTS) return DROP_CONTROL_UNKNOWN;
    this.#sessions.settle(session);
    armTimer(this.#sessions, session, nowMs);
    return CONSUMED;
  }

  /** Keep what timers, resets and generated packets need of TCP. A damaged segment, which its receiver will not believe, changes nothing. */
  #followTcp(batch: FrameBatch, i: number, key: Int32Array, session: number, direction: number): void {
    const { table } = this.#sessions;
    const { bytes } = batch;
    const l3 = key[AT_L3];
    const l4 = key[AT_L4];
    const end = key[AT_END];
    const flags = getTcpFlags(bytes, l4);
    const isEvent = (key[TRAITS] & TRAIT_TCP_EVENT) !== 0;
    if (isEvent && !isPartial(batch, i, key) && !l4IsRight(bytes, l3, l4, end)) return;
    table.tcpState[session] = nextTcpState(table.tcpState[session], flags, direction);
    const length = end - key[AT_PAYLOAD];
    const at = session * 4 + direction * 2;
    const next = getTcpSequence(bytes, l4) + length + ((flags & SYN) !== 0 ? 1 : 0);
    // Of a segment sent again the one before is not forgotten.
    if (table.tcpNumbers[at] === 0 || ((next - table.tcpNumbers[at]) | 0) > 0) table.tcpNumbers[at] = next;
    table.tcpNumbers[at + 1] = getTcpAcknowledgment(bytes, l4);
    // What one end can receive is what the other may send.
    if ((flags & SYN) !== 0) table.setSegmentSize(session, 1 - direction, findMss(bytes, l4));
  }

  /** Whether a super-frame can be taken apart here: its segments are known, or are those of a stream, and none is too long. */
  canCut(batch: FrameBatch, i: number, key: Int32Array): boolean {
    return canCut(batch, i, key, 0, this.#mtuMax);
  }

  /**
   * A super-frame that some kernel put together of packets from a peer, and that has metadata in it, or one whose packets
   * are signed or encrypted: every segment is a packet of its own, and counted as one. CONSUMED, always.
   */
  arriveInSegments(
    batch: FrameBatch,
    i: number,
    key: Int32Array,
    nowMs: number,
    segmentSize = batch.segmentSize[i],
  ): number {
    const { bytes } = batch;
    const offset = batch.offset[i];
    const size = Math.min(segmentSize, segmentSizeMax(bytes, offset, this.#mtuMax));
    const error = superFrameError(bytes, offset, isPartial(batch, i, key));
    const segment = this.#arrived;
    segment.bytes = this.#generator.bytes;
    for (let index = 0; ; index++) {
      const at = this.#generator.reserve();
      const length = segmentFrame(bytes, offset, size, index, error, segment.bytes, at);
      if (length === 0) return CONSUMED;
      segment.offset[0] = at;
      segment.length[0] = length;
      segment.flags[0] = batch.flags[i] & FRAME_LABEL;
      this.#counters.increment(FRAMES_SPLIT);
      this.#takePiece(segment, this.#arrivedKey, key[KEY_PROTOCOL] >>> 8, nowMs);
    }
  }

  /** The session's timer fired: expire it, generate what its handshake waits for, look whether its peer is silent. */
  timer(session: number, nowMs: number): void {
    if (isExpired(this.#sessions, session, nowMs)) {
      this.#sessions.close(session, nowMs);
      return;
    }
    this.#reroute.endLingerIfDue(session, nowMs);
    holdBackClock(this.#sessions, session, nowMs);
    this.#signals.generateIfDue(session, nowMs);
    this.#signals.keepAliveIfDue(session, nowMs);
    watchSilence(this.#sessions, session, nowMs);
    this.#sessions.settle(session);
    armTimer(this.#sessions, session, nowMs);
  }

  /** Row of the path of a packet that comes by a tuple which its session had before: by the address, or as the peer was behind NAT. */
  #pathBehind(key: Int32Array, session: number, direction: number): number {
    const { paths, table } = this.#sessions;
    const interfaceId = key[KEY_PROTOCOL] >>> 8;
    const known = this.#sessions.pathBetween(interfaceId, key[KEY_SOURCE], key[KEY_DESTINATION]);
    if (known >= 0) return known;
    const { peer } = paths[table.sides[direction].path[session]];
    const isPeers = (path: PeerPath) => path.peer === peer && path.nat.isDynamic && path.interfaceId === interfaceId;
    return paths.findIndex((path) => isPeers(path) && path.local === key[KEY_DESTINATION]);
  }
}

/** Whether a super-frame from a peer has metadata, or what only routers put into UDP, in any of its segments. */
function needsCut(batch: FrameBatch, i: number, key: Int32Array, plan: number): boolean {
  return (plan & (OP_REMOVE_UDP | OP_SECURE)) !== 0 || hidesCookie(batch.bytes, key, 0, batch.segmentSize[i]);
}
