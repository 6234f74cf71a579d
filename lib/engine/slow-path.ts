// The slow path: everything about a packet that is not "look up, apply plan". Lead packets open sessions, metadata is
// taken off and put on, control messages do their work, ARP is answered. The order of the functions is the order of a
// packet's way: miss → open → session packet → metadata → TCP → send. Each returns OK (the frame is on its way out) or
// the drop reason to count. Frames are borrowed and changed in place.

import { getI32 } from "../base/bytes.ts";
import { FRAME_CHECKSUM_PARTIAL, FrameBatch } from "../io/port.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import type { RouterInterface } from "../peer/router-interface.ts";
import { isOnLink, isOwnAddress } from "../peer/router-interface.ts";
import { Classification, classifyMetadata, classifyPacket } from "../session/classify.ts";
import type { Duplication } from "../session/duplication.ts";
import { armTimer, holdBackClock, isExpired, remainingS, watchSilence } from "../session/expire.ts";
import * as handshake from "../session/metadata-handshake.ts";
import { OpenRequest, type Sessions, swapPorts, wireProtocol } from "../session/open.ts";
import { firstPayload } from "../session/payload.ts";
import type { Policy } from "../session/policy.ts";
import type { Reroute } from "../session/reroute.ts";
import type { ServicePolicy } from "../session/service-route.ts";
import {
  ForwardMetadata,
  NO_POLICY_NAME,
  NOT_NUMBERED,
  NUMBER_OVERHEAD,
  readContext,
  readForwardMetadata,
  readPacketNumber,
  readServiceSessions,
  readUuid,
  type SessionMetadata,
} from "../session/session-metadata.ts";
import { isTcpOver, nextTcpState } from "../session/tcp-state.ts";
import type { CounterSet } from "../table/counter-set.ts";
import {
  FLOW_DESTINATION,
  FLOW_NEW_PORTS,
  FLOW_NEXT_HOP,
  FLOW_PLAN,
  FLOW_PORTS,
  FLOW_SESSION,
  FLOW_SHIFT,
  FLOW_SOURCE,
  GENERATION_MASK,
  OP_FROM_PEER,
  OP_INSERT_UDP,
  OP_REMOVE_UDP,
  OP_SECURE,
  OP_TO_PEER,
  planDirection,
  planEgress,
} from "../table/flow-table.ts";
import {
  FORWARD,
  type HandshakeColumns,
  PAYLOAD_CLEAR,
  PAYLOAD_ENCRYPTED,
  REVERSE,
  SIDE_SENDING,
} from "../table/session-table.ts";
import { BFD_PORT_MULTIHOP, BFD_PORT_PEER, BFD_PORT_SINGLE_HOP } from "../wire/bfd.ts";
import { ipv4HeaderIsRight, l4IsRight } from "../wire/checksum.ts";
import {
  ANY_MAC,
  AT_END,
  AT_L3,
  AT_L4,
  AT_PAYLOAD,
  decodeFrame,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_PROTOCOL,
  KEY_SOURCE,
  PROTOCOL_ICMP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  startsWithCookie,
  TRAIT_COOKIE,
  TRAIT_TCP_EVENT,
  TRAITS,
} from "../wire/flow-key.ts";
import { getIcmpType, ICMP_ECHO } from "../wire/icmp.ts";
import { IPV4_HEADER } from "../wire/ipv4.ts";
import {
  isFalsePositiveMarker,
  type MetadataWriter,
  ParsedMetadata,
  parseMetadata,
  readPathMetrics,
  writeFalsePositiveMarker,
} from "../wire/metadata.ts";
import {
  ATTRIBUTE_CONTROL,
  ATTRIBUTE_DISABLE_FORWARD,
  ATTRIBUTE_DUPLICATE_SEQUENCE,
  ATTRIBUTE_FORWARD_CONTEXT_IPV4,
  ATTRIBUTE_FRAGMENT,
  ATTRIBUTE_HEALTH_CHECK,
  ATTRIBUTE_PATH_METRICS,
  ATTRIBUTE_PAYLOAD_KEY_VERSION,
  ATTRIBUTE_REMAINING_TIME,
  ATTRIBUTE_REVERSE_CONTEXT_IPV4,
  ATTRIBUTE_SESSION_ENCRYPTED,
  ATTRIBUTE_UUID,
  CONTROL_DELETE_SESSION,
  CONTROL_DISABLE_METADATA,
  CONTROL_ENABLE_METADATA,
  CONTROL_KEEP_ALIVE,
  CONTROL_SESSION_EXISTS,
  METADATA_BASE_LENGTH,
} from "../wire/metadata-attributes.ts";
import { completeChecksum, segmentFrame, segmentSizeMax, superFrameError } from "../wire/offload.ts";
import {
  ACK,
  FIN,
  findMss,
  getTcpAcknowledgment,
  getTcpFlags,
  getTcpSequence,
  lowerMss,
  RST,
  SYN,
  TCP_HEADER,
} from "../wire/tcp.ts";
import { getUdpLength } from "../wire/udp.ts";
import {
  CONSUMED,
  DROP_CONTROL_UNKNOWN,
  DROP_DUPLICATE,
  DROP_EXCEEDS_MTU,
  DROP_FRAGMENT_MALFORMED,
  DROP_FRAGMENT_TABLE_FULL,
  DROP_FRAME_TOO_LONG,
  DROP_ICMP_TYPE,
  DROP_IP_CHECKSUM,
  DROP_KEY_VERSION,
  DROP_LOCAL_ADDRESS,
  DROP_METADATA_CHECKSUM,
  DROP_METADATA_CONTEXT,
  DROP_METADATA_MISSING,
  DROP_METADATA_UNEXPECTED,
  DROP_NO_RETURN_ROUTE,
  DROP_NOT_A_PEER,
  DROP_PATH_DOWN,
  DROP_RECOVERING,
  DROP_REPLAY,
  DROP_ROUTE_LOOP,
  DROP_SECURITY_POLICY,
  DROP_SESSION_KEY,
  DROP_TCP_MID_FLOW,
  DROP_TTL,
  DROP_UDP_CHECKSUM,
  DROP_UNKNOWN_SESSION,
  HANDED_OVER,
  OK,
} from "../wire/verdict.ts";
import {
  countVerdict,
  DUPLICATES_SENT,
  dropCounter,
  ECHO_REPLIES_SENT,
  FABRIC_FRAGMENTS_SENT,
  FABRIC_REASSEMBLED,
  FRAMES_FORWARDED,
  FRAMES_SPLIT,
  ICMP_SENT,
  METADATA_MARKED,
  METADATA_RECEIVED,
  METADATA_SENT,
  METADATA_UNMARKED,
  SESSIONS_RECOVERED,
  TCP_RESETS_SENT,
} from "./counters.ts";
import type { Egress } from "./egress.ts";
import type { FabricFragments } from "./fabric-fragments.ts";
import { canCut, hidesCookie, isPartial, mayHideMetadata, segmentSizeOf } from "./fast-path.ts";
import type { Generator } from "./generate.ts";
import type { PacketSecurity } from "./packet-security.ts";
import type { PayloadSecurity } from "./payload-security.ts";
import { readdress, rewrite } from "./rewrite.ts";
import type { Signals } from "./signals.ts";
import { insertBeforePayload, insertUdpHeader, removeBeforePayload, removeUdpHeader } from "./splice.ts";
import type { Strays } from "./strays.ts";
import { TUNNEL_OVERHEAD, type Tunnel } from "./tunnel.ts";

/** Of these only SYN may be set in a segment that opens a session. */
const OPENING_FLAGS = SYN | ACK | FIN | RST;
/** What path metrics and a digest add at most: 12 + 8 + 14, and 32. */
const METRICS_ROOM = 66;
/** Of #arrive: the packet is on its way as part of another session. */
const HANDLED = -1;

/** Told of each decision about a lead packet: explain, and nothing else. */
export type Observer = (
  step: "open" | "metadata",
  verdict: number,
  classification: Classification,
  session: number,
) => void;

/** Who watches paths: see monitor/monitor.ts. */
export interface PathMonitor {
  receive(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): number;
}

export class SlowPath {
  readonly #interfaces: readonly RouterInterface[];
  readonly #policy: Policy;
  readonly #sessions: Sessions;
  readonly #metadata: SessionMetadata;
  readonly #writer: MetadataWriter;
  readonly #egress: Egress;
  readonly #generator: Generator;
  /** By row of the path. */
  readonly #fragments: readonly FabricFragments[];
  readonly #signals: Signals;
  readonly #tunnel: Tunnel;
  readonly #counters: CounterSet;
  readonly #strays: Strays | null;
  readonly #security: PacketSecurity;
  readonly #payload: PayloadSecurity;
  readonly #reroute: Reroute;
  readonly #duplication: Duplication;
  readonly #isPacketBased: boolean;
  readonly #parsed = new ParsedMetadata();
  readonly #forward = new ForwardMetadata();
  readonly #request = new OpenRequest();
  readonly #words = new Int32Array(4);
  readonly #metrics = { txColor: 0, txTimeMs: 0, rxColor: 0, rxTimeMs: 0, drop: false, previousRxCount: 0 };
  readonly #marker = new Uint8Array(METADATA_BASE_LENGTH);
  readonly #classification = new Classification();
  /** One reassembled frame, or one segment of a super-frame, with its own key row. */
  readonly #piece = new FrameBatch(new Uint8Array(0), 1);
  readonly #pieceKey: Int32Array;
  /** One segment of a super-frame from a peer. It may complete a fabric fragment chain in #piece. */
  readonly #arrived = new FrameBatch(new Uint8Array(0), 1);
  readonly #arrivedKey: Int32Array;
  /** The copy of a packet that goes over a session's second path. */
  readonly #copy = new FrameBatch(new Uint8Array(0), 1);
  readonly #copyKey: Int32Array;
  /** The handshake that the packet in hand belongs to, and its row there: of its session's side, or of the second path of that. */
  #from: HandshakeColumns;
  #fromRow = 0;
  /** The largest of all interfaces: what the generator's slots have room for. */
  readonly #mtuMax: number;
  /** Some path is watched by BFD. */
  readonly #isMonitored: boolean;
  observer: Observer | null = null;
  /** Who takes what comes to BFD's ports; null = somebody else has seen it: it goes no further here. */
  pathMonitor: PathMonitor | null = null;
  /** For the next call of session(): the packet's digest is off and its metadata parsed, for it has just opened the session. */
  #isRead = false;
  /** For the next call of session(): the packet comes by a tuple that the session does not have, or has no more. */
  #isLate = false;

  constructor(parts: {
    interfaces: readonly RouterInterface[];
    policy: Policy;
    sessions: Sessions;
    metadata: SessionMetadata;
    writer: MetadataWriter;
    egress: Egress;
    generator: Generator;
    fragments: readonly FabricFragments[];
    signals: Signals;
    tunnel: Tunnel;
    counters: CounterSet;
    /** The way to the other workers; null where there are none. */
    strays: Strays | null;
    security: PacketSecurity;
    payload: PayloadSecurity;
    reroute: Reroute;
    duplication: Duplication;
    /** A peer's packet of a session that is not known is answered by asking for it. */
    isPacketBased: boolean;
    keyRowWords: number;
  }) {
    this.#interfaces = parts.interfaces;
    this.#policy = parts.policy;
    this.#sessions = parts.sessions;
    this.#metadata = parts.metadata;
    this.#writer = parts.writer;
    this.#egress = parts.egress;
    this.#generator = parts.generator;
    this.#fragments = parts.fragments;
    this.#signals = parts.signals;
    this.#tunnel = parts.tunnel;
    this.#counters = parts.counters;
    this.#strays = parts.strays;
    this.#security = parts.security;
    this.#payload = parts.payload;
    this.#reroute = parts.reroute;
    this.#duplication = parts.duplication;
    this.#isPacketBased = parts.isPacketBased;
    this.#pieceKey = new Int32Array(parts.keyRowWords);
    this.#arrivedKey = new Int32Array(parts.keyRowWords);
    this.#copyKey = new Int32Array(parts.keyRowWords);
    this.#isMonitored = parts.sessions.paths.some(({ bfd }) => bfd.enabled);
    this.#from = parts.sessions.table.upstream;
    this.#mtuMax = Math.max(...parts.interfaces.map(({ mtu }) => mtu));
    writeFalsePositiveMarker(this.#marker, 0);
  }

  /** A packet of no flow: a lead packet from a plain network, or from a peer with metadata. */
  miss(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): number {
    const ingress = this.#interfaces[key[KEY_PROTOCOL] >>> 8];
    if (isOwnAddress(ingress, key[KEY_DESTINATION])) return this.#waypointPacket(batch, i, key, ingress, nowMs);
    if (batch.bytes[key[AT_L3] + 8] < 2) {
      // Nobody who could not open a session gets an answer: it is longer than the question, and goes to whoever sent it.
      const isTenants = this.#policy.tenantOf(ingress.id, key[KEY_SOURCE]) >= 0;
      return isTenants ? this.#ttlExceeded(batch, i, key, nowMs) : DROP_TTL;
    }
    const verdict = this.#openFromPlain(batch, i, key, nowMs);
    if (verdict === DROP_TCP_MID_FLOW && this.#transportState() === "reset") {
      if (this.#generator.reset(batch.bytes, batch.offset[i], key, nowMs)) this.#reply(ingress.id, TCP_RESETS_SENT);
    }
    if (verdict !== OK) return verdict;
    return this.session(batch, i, key, this.#sessions.table.forwardFlow[this.#sessions.opened], nowMs);
  }

  /** Open the session of a lead packet from a plain network (protocol sheet 2.4). */
  #openFromPlain(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): number {
    const verdict = this.#mayOpen(batch, i, key, nowMs);
    const outcome = verdict !== OK ? verdict : this.#openSession(key, nowMs);
    this.observer?.("open", outcome, this.#classification, outcome === OK ? this.#sessions.opened : -1);
    return outcome;
  }

  #mayOpen(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): number {
    const { bytes } = batch;
    const protocol = key[KEY_PROTOCOL] & 0xff;
    const verdict = classifyPacket(this.#policy, key, this.#classification);
    if (verdict !== OK) return verdict;
    // Under destination NAT the session may live with another worker: this need not be its first packet.
    if (this.#strays !== null && !this.#isOwn(key)) return this.#strays.handOver(batch, i, key[KEY_PROTOCOL] >>> 8);
    if (!ipv4HeaderIsRight(bytes, key[AT_L3])) return DROP_IP_CHECKSUM;
    const begins = protocol === PROTOCOL_TCP && (getTcpFlags(bytes, key[AT_L4]) & OPENING_FLAGS) === SYN;
    if (!begins && this.#mayComeBack(nowMs)) return DROP_RECOVERING;
    if (protocol === PROTOCOL_TCP && !begins && !this.#mayJoin(getTcpFlags(bytes, key[AT_L4])))
      return DROP_TCP_MID_FLOW;
    if (protocol === PROTOCOL_ICMP && getIcmpType(bytes, key[AT_L4]) !== ICMP_ECHO) return DROP_ICMP_TYPE;
    return OK;
  }

  /** Of the service that was just classified. */
  #transportState(): ServicePolicy["transportState"] {
    return this.#policy.services[this.#classification.service].policy.transportState;
  }

  /** Whether a segment with these flags, and no SYN alone, opens a session in its midst. */
  #mayJoin(flags: number): boolean {
    return this.#transportState() === "allow" && (flags & (SYN | RST)) === 0 && (flags & ACK) !== 0;
  }

  /**
   * Whether a packet of no session, just classified, may be one of a session that a peer is about to give back, because
   * this router has just started (protocol sheet 7.3): then it is neither refused nor the begin of another one.
   */
  #mayComeBack(nowMs: number): boolean {
    const { route } = this.#classification;
    const { paths } = this.#sessions;
    if (route?.kind === "peer") return route.paths.some(({ path }) => paths[path].isGivingBack(nowMs));
    return paths.some((path) => path.isGivingBack(nowMs));
  }

  /** Whether the session of this 5-tuple, just classified, is this worker's: the server's replies come here. */
  #isOwn(context: Int32Array): boolean {
    const { route } = this.#classification;
    const target = route !== null && route.kind === "interface" ? route.target : null;
    const destination = target === null ? context[1] : target.address;
    const ports = target === null || target.port === 0 ? context[2] : (context[2] & 0xffff0000) | target.port;
    return this.#strays === null || this.#strays.isOwner(context[0], destination, ports, context[3] & 0xff);
  }

  #openSession(key: Int32Array, nowMs: number): number {
    const request = this.#request;
    for (let k = 0; k < 4; k++) request.key[k] = key[k];
    request.context[0] = key[KEY_SOURCE];
    request.context[1] = key[KEY_DESTINATION];
    request.context[2] = key[KEY_PORTS];
    request.context[3] = key[KEY_PROTOCOL] & 0xff;
    this.#sessions.newUuid(request.uuid);
    request.interfaceId = key[KEY_PROTOCOL] >>> 8;
    request.upstreamPath = -1;
    request.downstreamPath = -1;
    request.replaces = -1;
    request.sourceRouter = 0;
    this.#beginPayload(request, nowMs);
    return this.#openClassified(nowMs);
  }

  /** How the payload of a session travels that begins here. */
  #beginPayload(request: OpenRequest, nowMs: number): void {
    const { service, route } = this.#classification;
    const security = route?.kind === "peer" ? this.#policy.services[service].security : null;
    request.payload = firstPayload(security, request.context[3], request.context[2]);
    request.payloadPolicy = security === null ? 0 : this.#metadata.names.row(security.name);
    request.payloadKeyVersion = security === null ? 0 : security.ring.sending(nowMs).version;
    request.hasEncryptedFrom = false;
    this.#payload.drawKey(request, security);
  }

  /**
   * How the payload of a session travels that comes from a peer: as its metadata says. The last router holds that
   * against its own policy: what must be encrypted and is not, or cannot be decrypted here, is refused.
   */
  #takePayload(request: OpenRequest): number {
    const told = this.#forward;
    const { service, route } = this.#classification;
    const { security } = this.#policy.services[service];
    const hasPolicy = told.securityPolicy !== "" && told.securityPolicy !== NO_POLICY_NAME;
    request.payload = told.isEncrypted ? PAYLOAD_ENCRYPTED : PAYLOAD_CLEAR;
    request.payloadPolicy = hasPolicy ? this.#metadata.names.row(told.securityPolicy) : 0;
    request.payloadKeyVersion = told.payloadKeyVersion;
    request.hasEncryptedFrom = told.isEncrypted && told.hasEncryptedFrom;
    request.encryptedFrom = told.encryptedFrom;
    if (route?.kind === "peer")
      return this.#payload.passKey(request, request.upstreamPath, this.#security.told, this.#parsed);
    if (!told.isEncrypted) {
      request.payload = firstPayload(security, request.context[3], request.context[2]);
      if (request.payload === PAYLOAD_ENCRYPTED) return DROP_SECURITY_POLICY;
    }
    if (request.payload !== PAYLOAD_CLEAR && security?.name !== told.securityPolicy) return DROP_SECURITY_POLICY;
    const key = this.#payload.takeKey(request, security, this.#security.told, this.#parsed);
    if (key !== OK || !told.isEncrypted || request.payloadKeyLength > 0) return key;
    return security?.ring.remembered(told.payloadKeyVersion)?.cipher == null ? DROP_KEY_VERSION : OK;
  }

  /** The request is filled but for what classification found. */
  #openClassified(nowMs: number): number {
    const request = this.#request;
    request.tenant = this.#classification.tenant;
    request.service = this.#classification.service;
    request.route = this.#classification.route;
    const verdict = this.#sessions.open(request, nowMs);
    request.payloadKey.fill(0);
    if (verdict === OK) this.#duplication.look(this.#sessions.opened, nowMs);
    return verdict;
  }

  /** A packet to one of our own addresses that no flow knows. */
  #waypointPacket(batch: FrameBatch, i: number, key: Int32Array, ingress: RouterInterface, nowMs: number): number {
    if (ingress.answersEcho && this.#answerEcho(batch, i, key, nowMs)) return CONSUMED;
    const path = this.#pathFrom(ingress.id, key[KEY_SOURCE], key[KEY_DESTINATION]);
    const isBehindNat = path >= 0 && this.#sessions.paths[path].isBehindNat;
    if (isBehindNat && isBfd(key) && (key[TRAITS] & TRAIT_COOKIE) !== 0) return this.#tunnelled(batch, i, key, nowMs);
    if (this.#isMonitored && isBfd(key)) return this.pathMonitor?.receive(batch, i, key, nowMs) ?? CONSUMED;
    if (path < 0) {
      const hasPeers = this.#sessions.paths.some((candidate) => candidate.interfaceId === ingress.id);
      return hasPeers ? DROP_NOT_A_PEER : DROP_LOCAL_ADDRESS;
    }
    if ((key[TRAITS] & TRAIT_COOKIE) === 0) {
      const verdict = this.#unknownSession(batch, i, key, path, nowMs);
      if (verdict === DROP_UNKNOWN_SESSION) this.#askBehindNat(batch.bytes, key, path, nowMs);
      return verdict;
    }
    if (mayHideMetadata(batch, i, OP_FROM_PEER)) {
      return this.#canCut(batch, i, key) ? this.#arriveInSegments(batch, i, key, nowMs) : DROP_FRAME_TOO_LONG;
    }
    const verdict = this.#readMetadata(batch, i, key, path, nowMs);
    if (verdict !== OK) return verdict;
    const parsed = this.#parsed;
    const known = this.#sessionTold();
    if (known >= 0) return this.#elsewhere(batch, i, key, path, known, nowMs);
    const forward = parsed.has(ATTRIBUTE_FORWARD_CONTEXT_IPV4);
    if (this.#strays !== null && !this.#strays.isBack && !forward) {
      this.#security.restore(batch, i, key);
      return this.#strays.handOver(batch, i, ingress.id);
    }
    if (isFalsePositiveMarker(parsed)) return DROP_UNKNOWN_SESSION;
    if (forward) return this.#openFromPeer(batch, i, key, path, nowMs);
    const backward = parsed.has(ATTRIBUTE_REVERSE_CONTEXT_IPV4) && parsed.has(ATTRIBUTE_UUID);
    if (backward && this.#sessions.paths[path].mayGiveBack(swapPorts(key[KEY_PORTS]), nowMs))
      return this.#takeBack(batch, i, key, path, nowMs);
    if (parsed.has(ATTRIBUTE_CONTROL)) {
      const isKeepAlive = this.#security.told[parsed.offsetOf(ATTRIBUTE_CONTROL)] === CONTROL_KEEP_ALIVE;
      if (isKeepAlive) this.#askBehindNat(batch.bytes, key, path, nowMs);
      return DROP_UNKNOWN_SESSION;
    }
    if (!parsed.has(ATTRIBUTE_HEALTH_CHECK)) {
      if (!parsed.has(ATTRIBUTE_DUPLICATE_SEQUENCE)) return DROP_METADATA_CONTEXT;
      // As bare as it gets where packets are numbered.
      if (!this.#isPacketBased) return DROP_UNKNOWN_SESSION;
    }
    this.#signals.askForMetadata(batch.bytes, key, this.#sessions.paths[path], key[AT_END] - key[AT_PAYLOAD], nowMs);
    return DROP_UNKNOWN_SESSION;
  }

  /** A packet that could pass the NAT between us and the peer only on BFD's tuple: what is inside goes on as if it had come by itself. */
  #tunnelled(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): number {
    if (batch.segmentSize[i] !== 0) return DROP_FRAME_TOO_LONG;
    if (isPartial(batch, i, key)) completeChecksum(batch.bytes, batch.offset[i]);
    batch.flags[i] &= ~FRAME_CHECKSUM_PARTIAL;
    const opened = this.#tunnel.open(batch, i, key);
    if (opened !== OK) return opened;
    const flow = this.#sessions.flows.find(key[KEY_SOURCE], key[KEY_DESTINATION], key[KEY_PORTS], key[KEY_PROTOCOL]);
    return flow < 0 ? this.miss(batch, i, key, nowMs) : this.session(batch, i, key, flow, nowMs);
  }

  /**
   * A packet of no known session from a peer behind a NAT, which may have given one session another mapping and said
   * nothing: asked for its metadata, the peer tells which session it is (protocol sheet 4.5, packet-based).
   */
  #askBehindNat(bytes: Uint8Array, key: Int32Array, row: number, nowMs: number): void {
    const path = this.#sessions.paths[row];
    if (!path.nat.isDynamic || this.#isPacketBased) return;
    this.#signals.askForMetadata(bytes, key, path, key[AT_END] - key[AT_PAYLOAD], nowMs);
  }

  /** The session whose identifier the parsed metadata has; -1 = none. */
  #sessionTold(): number {
    if (!this.#parsed.has(ATTRIBUTE_UUID)) return -1;
    readUuid(this.#security.told, this.#parsed, this.#words);
    return this.#sessions.withUuid(this.#words);
  }

  /** Metadata of a known session on a tuple that is not the session's: its peer has moved it, or a NAT between us has (7.2). */
  #elsewhere(batch: FrameBatch, i: number, key: Int32Array, path: number, session: number, nowMs: number): number {
    const parsed = this.#parsed;
    const { table, paths } = this.#sessions;
    const direction = parsed.has(ATTRIBUTE_FORWARD_CONTEXT_IPV4) ? FORWARD : REVERSE;
    if (direction === REVERSE && !parsed.has(ATTRIBUTE_REVERSE_CONTEXT_IPV4)) return DROP_UNKNOWN_SESSION;
    // What we sent has come back to us, in a circle.
    if (table.sides[direction].path[session] < 0) return DROP_ROUTE_LOOP;
    if (!this.#hasContext(session, direction)) return DROP_METADATA_UNEXPECTED;
    if (this.#security.isReplay(nowMs)) return DROP_REPLAY;
    const isNumbered = parsed.has(ATTRIBUTE_DUPLICATE_SEQUENCE);
    const isSecond = isNumbered && this.#duplication.isSecond(session, direction, paths[path]);
    const isOurs = !isSecond && this.#reroute.isOurMove(session, direction, paths[path]);
    let adopted = OK;
    if (isSecond) adopted = this.#duplication.adopt(session, direction, paths[path], key, nowMs);
    else if (!isOurs) adopted = this.#reroute.adopt(session, direction, paths[path], key, nowMs);
    if (adopted !== OK) return adopted;
    this.#security.remember(nowMs);
    this.#isRead = true;
    this.#isLate = isOurs;
    const { duplicates } = this.#sessions;
    const second = isSecond ? table.duplicate[session * 2 + direction] : -1;
    return this.session(batch, i, key, second < 0 ? table.flow(session, direction) : duplicates.flow[second], nowMs);
  }

  /** Whether the parsed metadata's context, of packets in `direction`, is the session's. */
  #hasContext(session: number, direction: number): boolean {
    if (direction === REVERSE) return this.#isMirror(session);
    readContext(this.#security.told, this.#parsed.offsetOf(ATTRIBUTE_FORWARD_CONTEXT_IPV4), this.#words);
    const { context } = this.#sessions.table;
    return this.#words.every((word, k) => word === context[session * 4 + k]);
  }

  /**
   * Reverse metadata of a session that began here and is not known any more: this router was started anew, or has asked,
   * and the peer toward the server gives it back (protocol sheet 4.6, 7.3). Opened as its lead packet opened it, on the tuple it has.
   */
  #takeBack(batch: FrameBatch, i: number, key: Int32Array, path: number, nowMs: number): number {
    const verdict = this.#acceptBack(key, path, nowMs);
    this.observer?.("metadata", verdict, this.#classification, verdict === OK ? this.#sessions.opened : -1);
    if (verdict !== OK) return verdict;
    const session = this.#sessions.opened;
    this.#security.remember(nowMs);
    this.#counters.increment(SESSIONS_RECOVERED);
    this.#sessions.paths[path].gaveBack(nowMs);
    this.#isRead = true;
    return this.session(batch, i, key, this.#sessions.table.reverseFlow[session], nowMs);
  }

  #acceptBack(key: Int32Array, path: number, nowMs: number): number {
    const request = this.#request;
    const { context } = request;
    const parsed = this.#parsed;
    readContext(this.#security.told, parsed.offsetOf(ATTRIBUTE_REVERSE_CONTEXT_IPV4), this.#words);
    const [source, destination, ports, protocol] = this.#words;
    context.set([destination, source, swapPorts(ports), protocol]);
    if (wireProtocol(protocol) !== (key[KEY_PROTOCOL] & 0xff)) return DROP_METADATA_CONTEXT;
    const ingress = this.#plainInterfaceOf(context[0]);
    if (ingress < 0) return DROP_NO_RETURN_ROUTE;
    request.key.set([context[0], context[1], context[2], (ingress << 8) | protocol]);
    const classified = classifyPacket(this.#policy, request.key, this.#classification);
    if (classified !== OK) return classified;
    if (this.#security.isReplay(nowMs)) return DROP_REPLAY;
    readUuid(this.#security.told, parsed, request.uuid);
    request.interfaceId = ingress;
    request.upstreamPath = -1;
    request.downstreamPath = path;
    request.downstreamPorts = swapPorts(key[KEY_PORTS]);
    request.replaces = -1;
    request.sourceRouter = 0;
    const payload = this.#payloadBack(request, path, nowMs);
    if (payload !== OK) return payload;
    const opened = this.#openClassified(nowMs);
    if (opened === OK && protocol === PROTOCOL_TCP) this.#sessions.resumeTcp(this.#sessions.opened);
    return opened;
  }

  /** How the payload of a session goes on that is given back: as it did, with the key that it had. */
  #payloadBack(request: OpenRequest, path: number, nowMs: number): number {
    const parsed = this.#parsed;
    const { told } = this.#security;
    const isEncrypted = parsed.has(ATTRIBUTE_SESSION_ENCRYPTED);
    this.#beginPayload(request, nowMs);
    if (request.payload === PAYLOAD_ENCRYPTED && !isEncrypted) return DROP_SECURITY_POLICY;
    if (!isEncrypted) request.payload = PAYLOAD_CLEAR;
    if (!isEncrypted) return OK;
    request.payload = PAYLOAD_ENCRYPTED;
    if (parsed.has(ATTRIBUTE_PAYLOAD_KEY_VERSION))
      request.payloadKeyVersion = getI32(told, parsed.offsetOf(ATTRIBUTE_PAYLOAD_KEY_VERSION));
    const drawn = request.payloadKeyLength;
    const taken = this.#payload.passKey(request, path, told, parsed);
    return taken === OK && drawn !== request.payloadKeyLength ? DROP_SESSION_KEY : taken;
  }

  /** The interface that a host is behind: the one it is on-link of, else a gateway's that no peer is on; -1 = none. */
  #plainInterfaceOf(address: number): number {
    const isPlain = ({ id }: RouterInterface) => !this.#sessions.paths.some((path) => path.interfaceId === id);
    const at =
      this.#interfaces.find((near) => isOnLink(near, address)) ??
      this.#interfaces.find((far) => far.gateway !== null && isPlain(far));
    return at?.id ?? -1;
  }

  /** A bare packet from a peer: another worker may have its session. */
  #unknownSession(batch: FrameBatch, i: number, key: Int32Array, path: number, nowMs: number): number {
    if (this.#strays !== null && !this.#strays.isBack) return this.#strays.handOver(batch, i, key[KEY_PROTOCOL] >>> 8);
    if (!this.#isPacketBased) return DROP_UNKNOWN_SESSION;
    const peer = this.#sessions.paths[path];
    const verified = this.#security.verify(batch, i, key, peer, false, nowMs);
    if (verified !== OK) return verified;
    this.#signals.askForMetadata(batch.bytes, key, peer, key[AT_END] - key[AT_PAYLOAD], nowMs);
    return DROP_UNKNOWN_SESSION;
  }

  /** A ping of our own address: what an operator tries first. */
  #answerEcho(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): boolean {
    const isEcho = (key[KEY_PROTOCOL] & 0xff) === PROTOCOL_ICMP && getIcmpType(batch.bytes, key[AT_L4]) === ICMP_ECHO;
    if (!isEcho || !this.#generator.echoReply(batch.bytes, batch.offset[i], key, nowMs)) return false;
    this.#reply(key[KEY_PROTOCOL] >>> 8, ECHO_REPLIES_SENT);
    return true;
  }

  /**
   * Open the session that a peer's metadata, already parsed, describes, and take this packet on. `replaced` is the
   * session that has its waypoint tuple now, -1 = none; it goes only when the new one can be opened.
   */
  #openFromPeer(batch: FrameBatch, i: number, key: Int32Array, path: number, nowMs: number, replaced = -1): number {
    const verdict = this.#acceptFromPeer(batch, i, key, path, nowMs, replaced);
    this.observer?.("metadata", verdict, this.#classification, verdict === OK ? this.#sessions.opened : -1);
    if (verdict !== OK) return verdict;
    this.#isRead = true;
    return this.session(batch, i, key, this.#sessions.table.forwardFlow[this.#sessions.opened], nowMs);
  }

  #acceptFromPeer(
    batch: FrameBatch,
    i: number,
    key: Int32Array,
    path: number,
    nowMs: number,
    replaced: number,
  ): number {
    const forward = this.#forward;
    const verdict = readForwardMetadata(this.#security.told, this.#parsed, forward);
    if (verdict !== OK) return verdict;
    if (wireProtocol(forward.context[3]) !== (key[KEY_PROTOCOL] & 0xff)) return DROP_METADATA_CONTEXT;
    const classified = classifyMetadata(
      this.#policy,
      forward.tenant,
      forward.service,
      forward.context,
      this.#classification,
    );
    if (classified !== OK) return classified;
    if (this.#strays !== null && !this.#isOwn(forward.context)) {
      this.#security.restore(batch, i, key);
      const handed = this.#strays.handOver(batch, i, key[KEY_PROTOCOL] >>> 8);
      // The one it replaces would take the packets that follow.
      if (handed === HANDED_OVER && replaced >= 0) this.#sessions.close(replaced, nowMs);
      return handed;
    }
    const request = this.#request;
    for (let k = 0; k < 4; k++) request.key[k] = key[k];
    request.context.set(forward.context);
    request.uuid.set(forward.uuid);
    request.interfaceId = key[KEY_PROTOCOL] >>> 8;
    request.upstreamPath = path;
    request.downstreamPath = -1;
    request.replaces = replaced;
    request.sourceRouter = this.#metadata.names.row(forward.sourceRouter);
    const payload = this.#takePayload(request);
    if (payload !== OK) return payload;
    if (this.#security.isReplay(nowMs)) return DROP_REPLAY;
    const opened = this.#openClassified(nowMs);
    if (opened !== OK) return opened;
    this.#security.remember(nowMs);
    // Told alone or late: its hosts are past their handshake.
    if (this.#parsed.has(ATTRIBUTE_REMAINING_TIME)) {
      this.#counters.increment(SESSIONS_RECOVERED);
      this.#sessions.paths[path].gaveBack(nowMs);
      if (request.context[3] === PROTOCOL_TCP) this.#sessions.resumeTcp(this.#sessions.opened);
    }
    return OK;
  }

  /** A packet of a known flow that the fast path would not take. */
  session(batch: FrameBatch, i: number, key: Int32Array, by: number, nowMs: number): number {
    const { flows, table } = this.#sessions;
    const flow = this.#flowOf(by);
    const isRead = this.#isRead;
    const isLate = this.#isLate;
    this.#isRead = false;
    this.#isLate = false;
    const base = flow << FLOW_SHIFT;
    const session = flows.words[base + FLOW_SESSION];
    const direction = planDirection(flows.words[base + FLOW_PLAN]);
    if ((flows.words[base + FLOW_PLAN] & GENERATION_MASK) !== flows.generation) {
      const verdict = this.#reroute.recheck(session, direction, nowMs);
      if (verdict !== OK) return verdict;
    }
    const plan = flows.words[base + FLOW_PLAN];
    if (batch.bytes[key[AT_L3] + 8] < 2) return this.#ttlExceeded(batch, i, key, nowMs);
    if (direction === FORWARD && this.#isNewConversation(batch, key, session)) {
      this.#sessions.close(session, nowMs);
      return this.miss(batch, i, key, nowMs);
    }
    const superFrame = batch.segmentSize[i] !== 0;
    if (superFrame && !this.#canCut(batch, i, key)) return DROP_FRAME_TOO_LONG;
    if (superFrame && (plan & OP_SECURE) !== 0 && (plan & OP_FROM_PEER) === 0)
      return this.#arriveInSegments(batch, i, key, nowMs, this.#secureSize(batch, i, key, flow, session, direction));
    if (mayHideMetadata(batch, i, plan) && needsCut(batch, i, key, plan))
      return this.#arriveInSegments(batch, i, key, nowMs);
    if (!superFrame && isPartial(batch, i, key)) {
      completeChecksum(batch.bytes, batch.offset[i]);
      batch.flags[i] &= ~FRAME_CHECKSUM_PARTIAL;
    }

    if ((plan & OP_FROM_PEER) !== 0) {
      this.#setFrom(session, direction, by);
      const isBehind = isLate || flow !== table.flow(session, direction);
      const verdict = this.#arrive(batch, i, key, session, direction, isRead, isBehind, nowMs);
      if (verdict !== OK) return verdict === HANDLED ? OK : verdict;
    }
    if (by !== flow) this.#asByFirst(batch, i, key, flow);
    const carried = this.#payload.arrive(batch, i, key, session, direction, plan);
    if (carried !== OK) return carried;
    table.healthCheck[session] &= ~(1 << (1 - direction));
    if ((plan & OP_SECURE) !== 0 || this.#grows(session)) this.#lowerMss(batch.bytes, key, session);
    if ((key[KEY_PROTOCOL] & 0xff) === PROTOCOL_TCP) this.#followTcp(batch, i, key, session, direction);

    const verdict = this.#leave(batch, i, key, flow, session, direction, nowMs);
    if (verdict === OK) this.#counters.increment(FRAMES_FORWARDED);
    this.#sessions.settle(session);
    armTimer(this.#sessions, session, nowMs);
    return verdict;
  }

  /** Whether something is put on every packet of the session, between some routers. */
  #grows(session: number): boolean {
    const { table } = this.#sessions;
    const isNumbered = table.duplicate[session * 2] >= 0 || table.duplicate[session * 2 + 1] >= 0;
    return isNumbered || this.#sessions.isTunnelled(session, FORWARD) || this.#sessions.isTunnelled(session, REVERSE);
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
      const verdict = isRead ? OK : this.#readMetadata(batch, i, key, path, nowMs);
      if (verdict !== OK) return verdict;
      const parsed = this.#parsed;
      if (isFalsePositiveMarker(parsed)) {
        this.#counters.increment(METADATA_UNMARKED);
        removeBeforePayload(batch, i, key, parsed.totalLength);
      } else {
        this.#counters.increment(METADATA_RECEIVED);
        if (parsed.has(ATTRIBUTE_PATH_METRICS) && this.#takeMetrics(paths[path], session, direction, nowMs))
          return CONSUMED;
        if (isBehind) {
          if (parsed.has(ATTRIBUTE_CONTROL)) return CONSUMED;
          removeBeforePayload(batch, i, key, parsed.totalLength);
          return OK;
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
    if (direction === FORWARD) {
      this.#heardBare(batch.bytes, key, session);
    } else if (this.#from.state[this.#fromRow] === SIDE_SENDING) {
      return DROP_METADATA_MISSING;
    }
    return OK;
  }

  /** A forward packet that tells nothing of its session: the peer has heard our answer. */
  #heardBare(bytes: Uint8Array, key: Int32Array, session: number): void {
    if (this.#from.state[this.#fromRow] === SIDE_SENDING && this.#payload.isKnown(bytes, key, session))
      handshake.heardBareForward(this.#from, this.#fromRow);
  }

  /** Of a packet that has a number: whether it is the first with this one. What has none, or cannot be counted, is new. */
  #isNew(bytes: Uint8Array, key: Int32Array, session: number, direction: number): boolean {
    const number = readPacketNumber(this.#security.told, this.#parsed);
    if (number === NOT_NUMBERED) return true;
    if (direction === FORWARD && !this.#parsed.has(ATTRIBUTE_FORWARD_CONTEXT_IPV4))
      this.#heardBare(bytes, key, session);
    const row = this.#duplication.rowOf(session, direction);
    return row < 0 || this.#sessions.duplicates.isNew(row, number);
  }

  /**
   * Parse the metadata of a packet into #parsed. A fabric fragment goes to its chain; the packet it completes is taken
   * from the start again. A wrong checksum means that nothing in it is believed.
   */
  #readMetadata(batch: FrameBatch, i: number, key: Int32Array, path: number, nowMs: number): number {
    const parsed = this.#parsed;
    const verdict = parseMetadata(batch.bytes, key[AT_PAYLOAD], payloadEnd(batch.bytes, key), parsed, true);
    if (verdict !== OK) return verdict;
    if (parsed.has(ATTRIBUTE_FRAGMENT)) {
      // A router never cuts a fragment again: a packet put together is no piece of another.
      if (batch === this.#piece) return DROP_FRAGMENT_MALFORMED;
      const fragments = this.#fragments[path];
      const added = fragments.add(batch, i, key, parsed, this.#piece, nowMs);
      this.#counters.add(dropCounter(DROP_FRAGMENT_TABLE_FULL), fragments.table.displaced);
      if (added !== OK) return added;
      this.#counters.increment(FABRIC_REASSEMBLED);
      return this.#reassembled(key[KEY_PROTOCOL] >>> 8, nowMs);
    }
    if (!l4IsRight(batch.bytes, key[AT_L3], key[AT_L4], key[AT_END])) return DROP_METADATA_CHECKSUM;
    const peer = this.#sessions.paths[path];
    // The marker is nothing a router says: what is behind it is a host's.
    const verified = this.#security.verify(batch, i, key, peer, !isFalsePositiveMarker(parsed), nowMs);
    return verified !== OK ? verified : this.#security.readMetadata(batch.bytes, key, peer, parsed, nowMs);
  }

  /** Take the reassembled packet in #piece through the slow path and count what becomes of it. The fragment that completed it is CONSUMED, always. */
  #reassembled(interfaceId: number, nowMs: number): number {
    this.#takePiece(this.#piece, this.#pieceKey, interfaceId, nowMs);
    // What was queued lies in the chain's memory, which the next fragment may use.
    this.#egress.flush();
    return CONSUMED;
  }

  /** Take the one frame in `piece` through the slow path and count what becomes of it. */
  #takePiece(piece: FrameBatch, key: Int32Array, interfaceId: number, nowMs: number): void {
    let verdict = decodeFrame(piece.view, piece.offset[0], piece.length[0], interfaceId, ANY_MAC, 0, key, 0);
    if (verdict === OK) {
      const flow = this.#sessions.flows.find(key[KEY_SOURCE], key[KEY_DESTINATION], key[KEY_PORTS], key[KEY_PROTOCOL]);
      verdict = flow < 0 ? this.miss(piece, 0, key, nowMs) : this.session(piece, 0, key, flow, nowMs);
    }
    countVerdict(this.#counters, verdict);
  }

  /** Forward metadata on a known flow: the peer has not heard us yet, or sends it again (4.2). */
  #forwardMetadata(batch: FrameBatch, i: number, key: Int32Array, session: number, nowMs: number): number {
    const parsed = this.#parsed;
    const { table } = this.#sessions;
    // Header attributes alone (a health check) ride on a packet that says nothing about the handshake.
    if (!parsed.has(ATTRIBUTE_FORWARD_CONTEXT_IPV4)) return OK;
    if (!parsed.has(ATTRIBUTE_UUID)) return DROP_METADATA_CONTEXT;
    readUuid(this.#security.told, parsed, this.#words);
    if (!table.hasUuid(session, this.#words)) {
      // Another session took over the waypoint tuple.
      const taken = this.#openFromPeer(batch, i, key, table.upstream.path[session], nowMs, session);
      return taken === OK ? HANDLED : taken;
    }
    if (!this.#payload.isSameKey(session, this.#security.told, parsed)) return DROP_SESSION_KEY;
    this.#payload.heard(session, FORWARD, this.#security.told, parsed);
    handshake.heardForwardMetadata(this.#from, this.#fromRow, nowMs);
    this.#signals.generateIfDue(session, nowMs);
    return OK;
  }

  /** The peer's marks, and its word of ours (protocol sheet 6.4). True when the packet was made for nothing else. */
  #takeMetrics(path: PeerPath, session: number, direction: number, nowMs: number): boolean {
    const metrics = this.#metrics;
    readPathMetrics(this.#security.told, this.#parsed.offsetOf(ATTRIBUTE_PATH_METRICS), metrics);
    path.metrics?.receive(metrics, nowMs);
    path.metricsBy = 2 * session + 1 - direction;
    return metrics.drop;
  }

  /** Reverse metadata: the backward message. It must speak of this session. */
  #reverseMetadata(session: number, nowMs: number): number {
    const parsed = this.#parsed;
    const { table } = this.#sessions;
    if (!parsed.has(ATTRIBUTE_REVERSE_CONTEXT_IPV4)) {
      return this.#from.state[this.#fromRow] === SIDE_SENDING ? DROP_METADATA_MISSING : OK;
    }
    if (!parsed.has(ATTRIBUTE_UUID)) return DROP_METADATA_CONTEXT;
    if (!this.#speaksOf(session)) return DROP_METADATA_UNEXPECTED;
    // An answer to what we said before the session was encrypted is none.
    if (!this.#payload.heard(session, REVERSE, this.#security.told, parsed)) return OK;
    handshake.heardReverseMetadata(this.#from, this.#fromRow, nowMs);
    const busy = readServiceSessions(this.#security.told, parsed);
    const { peer } = this.#sessions.paths[table.downstream.path[session]];
    if (busy >= 0) this.#policy.loads.heard(peer, table.service[session], busy, nowMs);
    this.#signals.generateIfDue(session, nowMs);
    return OK;
  }

  /** Whether the identifier and the reverse context of the parsed metadata, as far as it has them, are this session's. */
  #speaksOf(session: number): boolean {
    const parsed = this.#parsed;
    if (parsed.has(ATTRIBUTE_UUID)) {
      readUuid(this.#security.told, parsed, this.#words);
      if (!this.#sessions.table.hasUuid(session, this.#words)) return false;
    }
    return !parsed.has(ATTRIBUTE_REVERSE_CONTEXT_IPV4) || this.#isMirror(session);
  }

  /** Whether the parsed reverse context is the session's own with its ends swapped. */
  #isMirror(session: number): boolean {
    const { context } = this.#sessions.table;
    const at = session * 4;
    const said = this.#words;
    readContext(this.#security.told, this.#parsed.offsetOf(ATTRIBUTE_REVERSE_CONTEXT_IPV4), said);
    return (
      said[0] === context[at + 1] &&
      said[1] === context[at] &&
      said[2] === swapPorts(context[at + 2]) &&
      said[3] === context[at + 3]
    );
  }

  /** A control message on a session's flow: do what it says, forward nothing (protocol sheet 3.4). */
  #control(bytes: Uint8Array, key: Int32Array, session: number, direction: number, nowMs: number): number {
    const parsed = this.#parsed;
    const { told } = this.#security;
    if (!this.#speaksOf(session)) return DROP_METADATA_UNEXPECTED;
    const reason = told[parsed.offsetOf(ATTRIBUTE_CONTROL)];
    if (parsed.has(ATTRIBUTE_FORWARD_CONTEXT_IPV4)) {
      // Metadata alone, of a session that the peer tells us of again: answered as on any packet.
      handshake.heardForwardMetadata(this.#from, this.#fromRow, nowMs);
      this.#signals.generateIfDue(session, nowMs);
    } else if (direction === REVERSE && parsed.has(ATTRIBUTE_REVERSE_CONTEXT_IPV4)) {
      handshake.heardReverseMetadata(this.#from, this.#fromRow, nowMs);
    }
    if (reason === CONTROL_DELETE_SESSION) {
      this.#sessions.close(session, nowMs);
      return CONSUMED;
    }
    if (reason === CONTROL_DISABLE_METADATA || parsed.has(ATTRIBUTE_DISABLE_FORWARD)) {
      const heard = this.#payload.heard(session, direction, told, parsed);
      if (heard && (direction === REVERSE || this.#payload.isKnown(bytes, key, session)))
        handshake.heardDisable(this.#from, this.#fromRow);
    } else if (reason === CONTROL_ENABLE_METADATA) handshake.heardEnable(this.#from, this.#fromRow);
    else if (reason !== CONTROL_KEEP_ALIVE && reason !== CONTROL_SESSION_EXISTS) return DROP_CONTROL_UNKNOWN;
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
    if ((flags & SYN) !== 0) table.segmentSize[session * 2 + 1 - direction] = findMss(bytes, l4);
  }

  /** Rewrite, put on what this side's peer must still hear, and send. */
  #leave(
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
    const base = flow << FLOW_SHIFT;
    const plan = flows.words[base + FLOW_PLAN];
    const { bytes } = batch;
    if (batch.segmentSize[i] !== 0) {
      const { mtu } = this.#interfaces[planEgress(plan)];
      const fits = canCut(batch, i, key, 0, mtu);
      const size = fits ? segmentSizeOf(batch, i, key, 0, mtu, table, session, direction) : batch.segmentSize[i];
      batch.segmentSize[i] = size;
      if (
        attach ||
        !fits ||
        this.#sessions.isTunnelled(session, direction) ||
        ((plan & OP_TO_PEER) !== 0 && hidesCookie(bytes, key, 0, size))
      ) {
        return this.#leaveInSegments(batch, i, key, flow, session, direction, nowMs);
      }
    }
    if ((plan & OP_REMOVE_UDP) !== 0) {
      if (!l4IsRight(bytes, key[AT_L3], key[AT_L4], key[AT_END])) return DROP_UDP_CHECKSUM;
      removeUdpHeader(batch, i, key, table.context[session * 4 + 3]);
    }
    // The session's own bytes, as its hosts count them: nothing of what routers put around them.
    const packetLength = key[AT_END] - key[AT_L3];
    const partial = batch.segmentSize[i] !== 0 && isPartial(batch, i, key);
    rewrite(batch.view, key[AT_L3], key[AT_L4], flows.words, base, partial);
    if ((plan & OP_INSERT_UDP) !== 0) insertUdpHeader(batch, i, key, flows.words[base + FLOW_NEW_PORTS]);
    const sealed = this.#payload.leave(batch, i, key, session, direction, plan);
    if (sealed !== OK) return sealed;
    if (duplicate >= 0)
      return this.#leaveTwice(batch, i, key, flow, session, direction, duplicate, packetLength, nowMs);
    const measured = !attach && path !== null && this.#mayMeasure(batch, i, key, path, plan, nowMs);
    if (attach) {
      const length = this.#writeMetadata(session, direction, sending, asks, path!, NOT_NUMBERED, nowMs);
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
      return this.#transmitTunnelled(batch, i, key, path, nowMs);
    return this.#transmit(batch, i, key, flow, side.path[session], partial, nowMs);
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
    const number = duplicates.next(row);
    const asks = (table.healthCheck[session] & (1 << direction)) !== 0;
    const goesTwice = other?.up === true;
    if (goesTwice) this.#copyFor(batch, i, key, duplicates.flow[row]);
    let verdict = DROP_PATH_DOWN;
    if (first.up) {
      this.#number(batch, i, key, session, direction, side, session, number, asks, nowMs);
      const hop = flows.words[(flow << FLOW_SHIFT) + FLOW_NEXT_HOP];
      verdict = this.#sessions.isTunnelled(session, direction)
        ? this.#transmitTunnelled(batch, i, key, first, nowMs)
        : this.#transmitTo(batch, i, key, first, hop, nowMs);
    }
    if (goesTwice) {
      this.#number(this.#copy, 0, this.#copyKey, session, direction, second, row, number, asks, nowMs);
      const sent = this.#transmitTo(this.#copy, 0, this.#copyKey, other, other.nextHop, nowMs);
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
    const at = this.#generator.reserve();
    copy.bytes = this.#generator.bytes;
    copy.offset[0] = at;
    copy.length[0] = key[AT_END] - from;
    copy.bytes.set(batch.bytes.subarray(from, key[AT_END]), at);
    copyKey.set(key);
    for (const place of [AT_L3, AT_L4, AT_PAYLOAD, AT_END]) copyKey[place] += at - from;
    const base = by << FLOW_SHIFT;
    const source = words[base + FLOW_DESTINATION];
    const destination = words[base + FLOW_SOURCE];
    const ports = swapPorts(words[base + FLOW_PORTS]);
    readdress(copy.view, copyKey[AT_L3], copyKey[AT_L4], source, destination, ports, false);
  }

  /** Put the packet's number on, with what the peer of this handshake must still hear, and sign it. */
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
  ): void {
    const path = this.#sessions.paths[side.path[row]];
    const sending = side.state[row] === SIDE_SENDING;
    const length = this.#writeMetadata(session, direction, sending, asks, path, number, nowMs);
    insertBeforePayload(batch, i, key, this.#writer.buffer, length);
    this.#counters.increment(METADATA_SENT);
    this.#security.sign(batch, i, key, path, true, nowMs);
    handshake.answered(side, row);
  }

  /** Whether this packet carries path metrics: its path wants some, it has a payload, and they fit (protocol sheet 6.4). */
  #mayMeasure(batch: FrameBatch, i: number, key: Int32Array, path: PeerPath, plan: number, nowMs: number): boolean {
    if (path.metrics === null || batch.segmentSize[i] !== 0 || key[AT_PAYLOAD] === key[AT_END]) return false;
    const { mtu } = this.#interfaces[planEgress(plan)];
    return key[AT_END] - key[AT_L3] + METRICS_ROOM <= mtu && path.metrics.mark(nowMs);
  }

  /**
   * A segment that opens a session whose packets grow: what its sender asks for is lowered to what still fits the
   * interfaces both ways (protocol sheet 8), so that nothing of the stream has to be cut to fabric fragments.
   */
  #lowerMss(bytes: Uint8Array, key: Int32Array, session: number): void {
    if ((key[KEY_PROTOCOL] & 0xff) !== PROTOCOL_TCP || (getTcpFlags(bytes, key[AT_L4]) & SYN) === 0) return;
    const { table, paths } = this.#sessions;
    for (const direction of [FORWARD, REVERSE]) {
      const side = table.sides[1 - direction];
      if (side.path[session] < 0) continue;
      const path = paths[side.path[session]];
      const room = this.#interfaces[path.interfaceId].mtu - IPV4_HEADER - TCP_HEADER;
      const tunnel = this.#sessions.isTunnelled(session, direction) ? TUNNEL_OVERHEAD : 0;
      const isNumbered = table.duplicate[session * 2 + 1 - direction] >= 0;
      const number = isNumbered ? NUMBER_OVERHEAD : 0;
      const digest = this.#security.overhead(path, isNumbered);
      lowerMss(bytes, key[AT_L4], room - digest - this.#payload.overhead(session) - tunnel - number);
    }
  }

  /** What a packet carries in this direction: the session's metadata while the peer has not heard us, else a health check, else its number alone. */
  #writeMetadata(
    session: number,
    direction: number,
    sending: boolean,
    asks: boolean,
    path: PeerPath,
    number: number,
    nowMs: number,
  ): number {
    const version = this.#security.version(path, nowMs);
    this.#sessions.table.healthCheck[session] &= ~(1 << direction);
    if (!sending)
      return asks ? this.#metadata.writeHealthCheck(version, number) : this.#metadata.writeNumber(version, number);
    const length =
      direction === FORWARD
        ? this.#metadata.writeForward(session, path, version, number, remainingS(this.#sessions, session, nowMs))
        : this.#metadata.writeReverse(session, path, version, number);
    return this.#security.sealMetadata(this.#writer, length, path, nowMs);
  }

  /** Whether a super-frame can be taken apart here: its segments are known, or are those of a stream, and none is too long. */
  #canCut(batch: FrameBatch, i: number, key: Int32Array): boolean {
    return canCut(batch, i, key, 0, this.#mtuMax);
  }

  /**
   * A super-frame that some kernel put together of packets from a peer, and that has metadata in it, or one whose packets
   * are signed or encrypted: every segment is a packet of its own, and counted as one. CONSUMED, always.
   */
  #arriveInSegments(
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
      this.#counters.increment(FRAMES_SPLIT);
      this.#takePiece(segment, this.#arrivedKey, key[KEY_PROTOCOL] >>> 8, nowMs);
    }
  }

  /** Payload bytes of each segment of a super-frame, so that what is added to them still fits where the egress takes it: a stream's alone can be chosen. */
  #secureSize(batch: FrameBatch, i: number, key: Int32Array, flow: number, session: number, direction: number): number {
    const { flows, table, paths } = this.#sessions;
    const { mtu } = this.#interfaces[planEgress(flows.words[(flow << FLOW_SHIFT) + FLOW_PLAN])];
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
    segment.segmentSize[0] = 0;
    let verdict = OK;
    for (let index = 0; ; index++) {
      const at = this.#generator.reserve();
      const length = segmentFrame(bytes, offset, size, index, error, segment.bytes, at);
      if (length === 0) return verdict;
      segment.offset[0] = at;
      segment.length[0] = length;
      const decoded = decodeFrame(segment.view, at, length, key[KEY_PROTOCOL] >>> 8, ANY_MAC, 0, this.#pieceKey, 0);
      const left = decoded !== OK ? decoded : this.#leave(segment, 0, this.#pieceKey, flow, session, direction, nowMs);
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
    if (path >= 0 && segmentSize === 0) return this.#transmitTo(batch, i, key, paths[path], hop, nowMs, partial);
    const egress = planEgress(words[base + FLOW_PLAN]);
    const isTooLong = key[AT_END] - key[AT_L3] > this.#interfaces[egress].mtu;
    if (isTooLong && segmentSize === 0) return DROP_EXCEEDS_MTU;
    const flags = partial ? FRAME_CHECKSUM_PARTIAL : 0;
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
    nowMs: number,
    partial = false,
  ): number {
    const { bytes } = batch;
    const { interfaceId } = path;
    const { mtu } = this.#interfaces[interfaceId];
    if (key[AT_END] - key[AT_L3] > mtu) {
      key[AT_END] = payloadEnd(bytes, key);
      const pieces = this.#fragments[path.row].split(batch, i, key, mtu, (memory, at, length) => {
        this.#egress.send(interfaceId, hop, memory, at, length, 0, 0, nowMs);
      });
      if (pieces === 0) return DROP_EXCEEDS_MTU;
      this.#counters.add(FABRIC_FRAGMENTS_SENT, pieces);
      return OK;
    }
    const offset = batch.offset[i];
    const flags = partial ? FRAME_CHECKSUM_PARTIAL : 0;
    this.#egress.send(interfaceId, hop, bytes, offset, key[AT_END] - offset, flags, 0, nowMs);
    return OK;
  }

  /** The same for a packet that goes inside another one. */
  #transmitTunnelled(batch: FrameBatch, i: number, key: Int32Array, path: PeerPath, nowMs: number): number {
    const { bytes } = batch;
    const offset = batch.offset[i];
    const send = (memory: Uint8Array, at: number, length: number) =>
      this.#tunnel.send(path, path.nextHop, memory, at, length, nowMs);
    const mtu = this.#interfaces[path.interfaceId].mtu - TUNNEL_OVERHEAD;
    if (key[AT_END] - key[AT_L3] <= mtu) {
      send(bytes, offset, key[AT_END] - offset);
      return OK;
    }
    key[AT_END] = payloadEnd(bytes, key);
    const pieces = this.#fragments[path.row].split(batch, i, key, mtu, send);
    if (pieces === 0) return DROP_EXCEEDS_MTU;
    this.#counters.add(FABRIC_FRAGMENTS_SENT, pieces);
    return OK;
  }

  #ttlExceeded(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): number {
    const ingress = this.#interfaces[key[KEY_PROTOCOL] >>> 8];
    const isPlain = this.#pathFrom(ingress.id, key[KEY_SOURCE], key[KEY_DESTINATION]) < 0;
    if (
      isPlain &&
      this.#generator.timeExceeded(batch.bytes, batch.offset[i], key, ingress.addresses[0].address, nowMs)
    ) {
      this.#reply(ingress.id, ICMP_SENT);
    }
    return DROP_TTL;
  }

  /** Send what the generator wrote back to the station that a frame came from, and count it. */
  #reply(interfaceId: number, counter: number): void {
    this.#counters.increment(counter);
    this.#egress.sendAsIs(interfaceId, this.#generator.bytes, this.#generator.offset, this.#generator.length);
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
    const known = this.#pathFrom(interfaceId, key[KEY_SOURCE], key[KEY_DESTINATION]);
    if (known >= 0) return known;
    const { peer } = paths[table.sides[direction].path[session]];
    const isPeers = (path: PeerPath) => path.peer === peer && path.nat.isDynamic && path.interfaceId === interfaceId;
    return paths.findIndex((path) => isPeers(path) && path.local === key[KEY_DESTINATION]);
  }

  /** Row of the path whose remote end is `source` and whose local end is `destination`, -1 = none. */
  #pathFrom(interfaceId: number, source: number, destination: number): number {
    for (const path of this.#sessions.paths) {
      if (path.interfaceId === interfaceId && path.remote === source && path.local === destination) return path.row;
    }
    return -1;
  }
}

/** Whether a super-frame from a peer has metadata, or what only routers put into UDP, in any of its segments. */
function needsCut(batch: FrameBatch, i: number, key: Int32Array, plan: number): boolean {
  return (plan & (OP_REMOVE_UDP | OP_SECURE)) !== 0 || hidesCookie(batch.bytes, key, 0, batch.segmentSize[i]);
}

function isBfd(key: Int32Array): boolean {
  const port = key[KEY_PORTS] & 0xffff;
  const isOurs = port === BFD_PORT_PEER || port === BFD_PORT_SINGLE_HOP || port === BFD_PORT_MULTIHOP;
  return isOurs && (key[KEY_PROTOCOL] & 0xff) === PROTOCOL_UDP;
}

/** Where the L4 payload ends: bytes behind the UDP length (RFC 9868) belong to no datagram and no checksum. */
function payloadEnd(bytes: Uint8Array, key: Int32Array): number {
  const udp = (key[KEY_PROTOCOL] & 0xff) === PROTOCOL_UDP;
  return udp ? key[AT_L4] + getUdpLength(bytes, key[AT_L4]) : key[AT_END];
}
