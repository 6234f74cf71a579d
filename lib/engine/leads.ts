// Packets of no flow: lead packets from plain networks, and what peers send on tuples that are no session's here: forward
// metadata opens, metadata of a session that we know moves it or tells of its second path, reverse metadata gives one back that
// was lost, and the rest is asked about or refused. A packet whose session is found or opened goes on as one of its own.

import { getI32 } from "../base/bytes.ts";
import type { FrameBatch } from "../io/port.ts";
import { isTestPorts } from "../peer/firewall-tests.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import type { RouterInterface } from "../peer/router-interface.ts";
import { isOnLink, isOwnAddress } from "../peer/router-interface.ts";
import { mayTravelAs } from "../session/carrier.ts";
import { Classification, classifyMetadata, classifyPacket, isForwarded } from "../session/classify.ts";
import type { Duplication } from "../session/duplication.ts";
import { Inward } from "../session/inward.ts";
import { type Sessions, swapPorts } from "../session/open.ts";
import { OpenRequest } from "../session/open-request.ts";
import { firstPayload } from "../session/payload.ts";
import type { Policy } from "../session/policy.ts";
import type { Reroute } from "../session/reroute.ts";
import type { ServicePolicy } from "../session/service-route.ts";
import {
  ForwardMetadata,
  hasContext,
  NO_POLICY_NAME,
  readContext,
  readDscp,
  readForwardMetadata,
  readUuid,
  type SessionMetadata,
} from "../session/session-metadata.ts";
import { isName } from "../table/address-book.ts";
import type { CounterSet } from "../table/counter-set.ts";
import type { DropNote } from "../table/drop-note.ts";
import { OP_FROM_PEER } from "../table/flow-table.ts";
import {
  DSCP_AWAITED,
  DSCP_FREE,
  DSCP_KNOWN,
  FORWARD,
  PAYLOAD_CLEAR,
  PAYLOAD_ENCRYPTED,
  PAYLOAD_WATCHED,
  REVERSE,
} from "../table/session-table.ts";
import { BFD_PORT_MULTIHOP, BFD_PORT_PEER, BFD_PORT_SINGLE_HOP } from "../wire/bfd.ts";
import { ipv4HeaderIsRight } from "../wire/checksum.ts";
import {
  AT_END,
  AT_L3,
  AT_L4,
  AT_PAYLOAD,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_PROTOCOL,
  KEY_SOURCE,
  PROTOCOL_ICMP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TRAIT_COOKIE,
  TRAITS,
} from "../wire/flow-key.ts";
import { getIcmpType, ICMP_ECHO } from "../wire/icmp.ts";
import { getDscp } from "../wire/ipv4.ts";
import { isFalsePositiveMarker } from "../wire/metadata.ts";
import {
  ATTRIBUTE_CONTROL,
  ATTRIBUTE_DUPLICATE_SEQUENCE,
  ATTRIBUTE_HEALTH_CHECK,
  ATTRIBUTE_PAYLOAD_KEY_VERSION,
  ATTRIBUTE_REMAINING_TIME,
  ATTRIBUTE_SESSION_ENCRYPTED,
  ATTRIBUTE_UUID,
  CONTROL_KEEP_ALIVE,
} from "../wire/metadata-attributes.ts";
import { ACK, FIN, getTcpFlags, RST, SYN } from "../wire/tcp.ts";
import {
  CONSUMED,
  DROP_ACCESS_DENIED,
  DROP_FRAME_TOO_LONG,
  DROP_ICMP_TYPE,
  DROP_IP_CHECKSUM,
  DROP_KEY_VERSION,
  DROP_LOCAL_ADDRESS,
  DROP_METADATA_CONTEXT,
  DROP_METADATA_UNEXPECTED,
  DROP_NAT_PORTS,
  DROP_NO_RETURN_ROUTE,
  DROP_NO_ROUTE,
  DROP_NO_SERVICE,
  DROP_NOT_A_PEER,
  DROP_PATH_DOWN,
  DROP_PATH_QUALITY,
  DROP_RECOVERING,
  DROP_REPLAY,
  DROP_ROUTE_LOOP,
  DROP_SECURITY_POLICY,
  DROP_SESSION_KEY,
  DROP_TCP_MID_FLOW,
  DROP_TTL,
  DROP_UNKNOWN_SESSION,
  HANDED_OVER,
  OK,
} from "../wire/verdict.ts";
import type { Answers } from "./answers.ts";
import { SESSIONS_RECOVERED } from "./counters.ts";
import { finishChecksum, mayHideMetadata } from "./fast-path.ts";
import type { MetadataReader } from "./metadata-reader.ts";
import type { PacketSecurity } from "./packet-security.ts";
import type { PayloadSecurity } from "./payload-security.ts";
import type { Refusals } from "./refusals.ts";
import type { Signals } from "./signals.ts";
import type { Strays } from "./strays.ts";
import { hasTcpHeader } from "./tcp-in-udp.ts";
import type { Tunnel } from "./tunnel.ts";

/** Of these only SYN may be set in a segment that opens a session. */
export const OPENING_FLAGS = SYN | ACK | FIN | RST;

/** What its tenant's hosts are told of, where they are told of anything: nothing but time, or an operator, changes it. */
const REJECTED = [
  DROP_NO_SERVICE,
  DROP_ACCESS_DENIED,
  DROP_NO_ROUTE,
  DROP_PATH_DOWN,
  DROP_PATH_QUALITY,
  DROP_ROUTE_LOOP,
  DROP_NAT_PORTS,
];

/** Told of each decision about a lead packet: explain, and nothing else. */
export type Observer = (
  step: "open" | "metadata",
  verdict: number,
  classification: Classification,
  session: number,
) => void;

/**
 * Told of each session that goes in a circle: its service's row, the path that it came by, and the one that it would go back by
 * (`isBack`) or went by when it was here before; null = not known.
 */
export type LoopObserver = (service: number, from: PeerPath, toward: PeerPath | null, isBack: boolean) => void;

/** Who watches paths: see monitor/monitor.ts. */
export interface PathMonitor {
  receive(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): number;
  /** An ICMP error, decoded, about whatever it is. */
  heardError(batch: FrameBatch, key: Int32Array, nowMs: number): void;
}

// What is known of a packet that goes on as its session's.
/** Nothing yet. */
export const ARRIVAL_NEW = 0;
/** Its digest is off and its metadata is parsed: it has just opened the session, or moved it. */
export const ARRIVAL_READ = 1;
/** The same, and it comes by a tuple that the session does not have, or has no more. */
export const ARRIVAL_LATE = 2;

/** Where packets of sessions go on: the slow path. */
export interface SessionPackets {
  session(batch: FrameBatch, i: number, key: Int32Array, by: number, nowMs: number, arrival: number): number;
  arriveInSegments(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): number;
  canCut(batch: FrameBatch, i: number, key: Int32Array): boolean;
}

export class Leads {
  readonly #packets: SessionPackets;
  readonly #answers: Answers;
  readonly #refusals: Refusals;
  readonly #note: DropNote;
  readonly #reader: MetadataReader;
  readonly #interfaces: readonly RouterInterface[];
  readonly #policy: Policy;
  readonly #sessions: Sessions;
  readonly #metadata: SessionMetadata;
  readonly #signals: Signals;
  readonly #tunnel: Tunnel;
  readonly #counters: CounterSet;
  readonly #strays: Strays | null;
  readonly #security: PacketSecurity;
  readonly #payload: PayloadSecurity;
  readonly #reroute: Reroute;
  readonly #duplication: Duplication;
  readonly #isPacketBased: boolean;
  readonly #inward: Inward;
  readonly #forward = new ForwardMetadata();
  readonly #request = new OpenRequest();
  readonly #classification = new Classification();
  /** Some path is watched by BFD. */
  readonly isMonitored: boolean;
  observer: Observer | null = null;
  loopObserver: LoopObserver | null = null;
  /** Who takes what comes to BFD's ports; null = somebody else has seen it: it goes no further here. */
  pathMonitor: PathMonitor | null = null;

  constructor(parts: {
    packets: SessionPackets;
    answers: Answers;
    refusals: Refusals;
    note: DropNote;
    reader: MetadataReader;
    interfaces: readonly RouterInterface[];
    policy: Policy;
    sessions: Sessions;
    metadata: SessionMetadata;
    signals: Signals;
    tunnel: Tunnel;
    counters: CounterSet;
    strays: Strays | null;
    security: PacketSecurity;
    payload: PayloadSecurity;
    reroute: Reroute;
    duplication: Duplication;
    isPacketBased: boolean;
  }) {
    this.#packets = parts.packets;
    this.#answers = parts.answers;
    this.#refusals = parts.refusals;
    this.#note = parts.note;
    this.#reader = parts.reader;
    this.#interfaces = parts.interfaces;
    this.#policy = parts.policy;
    this.#sessions = parts.sessions;
    this.#metadata = parts.metadata;
    this.#signals = parts.signals;
    this.#tunnel = parts.tunnel;
    this.#counters = parts.counters;
    this.#strays = parts.strays;
    this.#security = parts.security;
    this.#payload = parts.payload;
    this.#reroute = parts.reroute;
    this.#duplication = parts.duplication;
    this.#isPacketBased = parts.isPacketBased;
    this.#inward = new Inward(parts.sessions, parts.policy);
    this.isMonitored = parts.sessions.paths.some(({ bfd }) => bfd.enabled);
  }

  /** A packet of no flow: a lead packet from a plain network, or from a peer with metadata. */
  miss(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): number {
    const ingress = this.#interfaces[key[KEY_PROTOCOL] >>> 8];
    if (!ingress.isMirror && isOwnAddress(ingress, key[KEY_DESTINATION])) {
      const path = this.#sessions.pathBetween(ingress.id, key[KEY_SOURCE], key[KEY_DESTINATION]);
      if (path >= 0 || isBfd(key) || !isForwarded(this.#policy, key))
        return this.#waypointPacket(batch, i, key, ingress, path, nowMs);
    }
    if (batch.bytes[key[AT_L3] + 8] < 2) {
      // Nobody who could not open a session gets an answer: it is longer than the question, and goes to whoever sent it.
      const isTenants = this.#policy.tenantOf(ingress.id, key[KEY_SOURCE]) >= 0;
      if (isTenants) this.#answers.ttlExceeded(batch, i, key, nowMs);
      return DROP_TTL;
    }
    const verdict = this.#openFromPlain(batch, i, key, nowMs);
    if (verdict !== OK) this.#note.classified(this.#classification.tenant, this.#classification.service);
    if (verdict === DROP_TCP_MID_FLOW && this.#transportState() === "reset") this.#answers.reset(batch, i, key, nowMs);
    if (REJECTED.includes(verdict) && this.#policy.tenants[this.#classification.tenant].rejects)
      this.#answers.refused(batch, i, key, verdict, nowMs);
    if (verdict !== OK) return verdict;
    return this.#packets.session(
      batch,
      i,
      key,
      this.#sessions.table.forwardFlow[this.#sessions.opened],
      nowMs,
      ARRIVAL_NEW,
    );
  }

  /** Open the session of a lead packet from a plain network (protocol sheet 2.4). */
  #openFromPlain(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): number {
    const verdict = this.#mayOpen(batch, i, key, nowMs);
    const outcome = verdict !== OK ? verdict : this.#openSession(batch.bytes, key, nowMs);
    this.observer?.("open", outcome, this.#classification, outcome === OK ? this.#sessions.opened : -1);
    return outcome;
  }

  #mayOpen(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): number {
    const { bytes } = batch;
    const protocol = key[KEY_PROTOCOL] & 0xff;
    const verdict = this.#isMirrored(key)
      ? this.#inward.classifyMirrored(key, this.#classification)
      : classifyPacket(this.#policy, key, this.#classification);
    if (verdict !== OK) {
      // Refused here if nobody knows it.
      return this.#isOfAnother(key) ? this.#strays!.handOver(batch, i, key[KEY_PROTOCOL] >>> 8) : verdict;
    }
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

  /** A packet that was in pieces came to the worker of its addresses: if it opens no session, it may be a reply of another worker's. */
  #isOfAnother(key: Int32Array): boolean {
    const strays = this.#strays;
    return (
      strays !== null &&
      !strays.isOwner(key[KEY_SOURCE], key[KEY_DESTINATION], key[KEY_PORTS], key[KEY_PROTOCOL] & 0xff)
    );
  }

  #isMirrored(key: Int32Array): boolean {
    return this.#interfaces[key[KEY_PROTOCOL] >>> 8].isMirror;
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

  /** The context of what a peer tells of, with the source that a route out of an interface presents for it (attribute 25). */
  #asPresented({ context, natAddress, natPort }: ForwardMetadata): Int32Array {
    const { route } = this.#classification;
    if (natAddress === 0 || route?.kind !== "interface" || route.sourceNat !== null) return context;
    const ports = natPort === 0 ? context[2] : (natPort << 16) | (context[2] & 0xffff);
    return Int32Array.of(natAddress, context[1], ports, context[3]);
  }

  #openSession(bytes: Uint8Array, key: Int32Array, nowMs: number): number {
    const request = this.#request;
    for (let k = 0; k < 4; k++) request.key[k] = key[k];
    request.context[0] = key[KEY_SOURCE];
    request.context[1] = key[KEY_DESTINATION];
    request.context[2] = key[KEY_PORTS];
    request.context[3] = key[KEY_PROTOCOL] & 0xff;
    this.#sessions.newUuid(request.uuid);
    request.reset();
    request.interfaceId = key[KEY_PROTOCOL] >>> 8;
    if (this.#isMirrored(key)) this.#inward.address(request);
    request.dscp = this.#preservesDscp() ? DSCP_KNOWN | getDscp(bytes, key[AT_L3]) : DSCP_FREE;
    this.#beginPayload(request, nowMs);
    return this.#openClassified(nowMs);
  }

  /** Of the session that was just classified and goes to a peer. */
  #preservesDscp(): boolean {
    const { service, route } = this.#classification;
    return route?.kind === "peer" && this.#policy.services[service].policy.preservesDscp;
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
      return this.#payload.passKey(request, request.upstreamPath, this.#security.told, this.#reader.parsed);
    if (!told.isEncrypted) {
      request.payload = firstPayload(security, request.context[3], request.context[2]);
      if (request.payload === PAYLOAD_ENCRYPTED) return DROP_SECURITY_POLICY;
    }
    if (request.payload !== PAYLOAD_CLEAR && security?.name !== told.securityPolicy) return DROP_SECURITY_POLICY;
    const key = this.#payload.takeKey(request, security, this.#security.told, this.#reader.parsed);
    // Told in its midst: a TLS handshake has gone by long ago. If the first router is yet to begin it will say so.
    if (request.payload === PAYLOAD_WATCHED && this.#reader.parsed.has(ATTRIBUTE_REMAINING_TIME))
      request.payload = PAYLOAD_CLEAR;
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

  /** A packet to one of our own addresses that no flow knows. `path`: row of the one that it comes by, -1 = none. */
  #waypointPacket(
    batch: FrameBatch,
    i: number,
    key: Int32Array,
    ingress: RouterInterface,
    path: number,
    nowMs: number,
  ): number {
    if (path >= 0) this.#note.cameBy(path);
    if (ingress.answersEcho && this.#answers.echo(batch, i, key, nowMs)) return CONSUMED;
    const isBehindNat = path >= 0 && this.#sessions.paths[path].isBehindNat;
    if (isBehindNat && isBfd(key) && (key[TRAITS] & TRAIT_COOKIE) !== 0) return this.#tunnelled(batch, i, key, nowMs);
    if (this.isMonitored && (isBfd(key) || isFirewallTest(key)))
      return this.pathMonitor?.receive(batch, i, key, nowMs) ?? CONSUMED;
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
      return this.#packets.canCut(batch, i, key)
        ? this.#packets.arriveInSegments(batch, i, key, nowMs)
        : DROP_FRAME_TOO_LONG;
    }
    const verdict = this.#reader.read(batch, i, key, path, nowMs);
    if (verdict !== OK) return verdict;
    const parsed = this.#reader.parsed;
    const known = this.#reader.sessionTold();
    if (known >= 0) return this.#elsewhere(batch, i, key, path, known, nowMs);
    const forward = hasContext(parsed, FORWARD);
    if (this.#strays !== null && !this.#strays.isBack && !forward) {
      this.#security.restore(batch, i, key);
      return this.#strays.handOver(batch, i, ingress.id);
    }
    if (isFalsePositiveMarker(parsed)) return DROP_UNKNOWN_SESSION;
    if (forward) return this.openFromPeer(batch, i, key, path, nowMs);
    const backward = hasContext(parsed, REVERSE) && parsed.has(ATTRIBUTE_UUID);
    if (backward && this.#sessions.paths[path].mayGiveBack(swapPorts(key[KEY_PORTS]), nowMs))
      return this.#takeBack(batch, i, key, path, nowMs);
    if (parsed.has(ATTRIBUTE_CONTROL)) {
      const isKeepAlive = this.#security.told[parsed.offsetOf(ATTRIBUTE_CONTROL)] === CONTROL_KEEP_ALIVE;
      if (isKeepAlive) this.#askBehindNat(batch.bytes, key, path, nowMs);
      return DROP_UNKNOWN_SESSION;
    }
    // Where packets go by two paths neither falls silent: such a session is asked for whatever `recovery` says.
    if (!parsed.has(ATTRIBUTE_HEALTH_CHECK) && !parsed.has(ATTRIBUTE_DUPLICATE_SEQUENCE)) return DROP_METADATA_CONTEXT;
    this.#signals.askForMetadata(batch.bytes, key, this.#sessions.paths[path], key[AT_END] - key[AT_PAYLOAD], nowMs);
    return DROP_UNKNOWN_SESSION;
  }

  /** A packet that could pass the NAT between us and the peer only on BFD's tuple: what is inside goes on as if it had come by itself. */
  #tunnelled(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): number {
    if (batch.segmentSize[i] !== 0) return DROP_FRAME_TOO_LONG;
    finishChecksum(batch, i, key);
    const opened = this.#tunnel.open(batch, i, key);
    if (opened !== OK) return opened;
    const flow = this.#sessions.flows.find(key[KEY_SOURCE], key[KEY_DESTINATION], key[KEY_PORTS], key[KEY_PROTOCOL]);
    return flow < 0 ? this.miss(batch, i, key, nowMs) : this.#packets.session(batch, i, key, flow, nowMs, ARRIVAL_NEW);
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

  /** Metadata of a known session on a tuple that is not the session's: its peer has moved it, or a NAT between us has (7.2). */
  #elsewhere(batch: FrameBatch, i: number, key: Int32Array, path: number, session: number, nowMs: number): number {
    const parsed = this.#reader.parsed;
    const { table, paths } = this.#sessions;
    const direction = hasContext(parsed, FORWARD) ? FORWARD : REVERSE;
    if (direction === REVERSE && !hasContext(parsed, REVERSE)) return DROP_UNKNOWN_SESSION;
    this.#note.session(table.uuid, table.context, session, direction);
    this.#note.classified(table.tenant[session], table.service[session]);
    // What we sent has come back to us, in a circle.
    const isBegin = direction === FORWARD && table.upstream.path[session] < 0;
    if (isBegin || (direction === FORWARD && this.#metadata.hasBeenHere(this.#security.told, parsed)))
      return this.#cameAround(batch, i, key, path, session, nowMs);
    if (table.sides[direction].path[session] < 0) return DROP_ROUTE_LOOP;
    if (!this.#reader.hasContext(session, direction)) return DROP_METADATA_UNEXPECTED;
    if (!this.#mayBeOf(batch.bytes, key, table.context[session * 4 + 3])) return DROP_METADATA_CONTEXT;
    if (this.#security.isReplay(nowMs)) return DROP_REPLAY;
    const isNumbered = parsed.has(ATTRIBUTE_DUPLICATE_SEQUENCE);
    const isSecond = isNumbered && this.#duplication.isSecond(session, direction, paths[path]);
    const isOurs = !isSecond && this.#reroute.isOurMove(session, direction, paths[path]);
    let adopted = OK;
    if (isSecond) adopted = this.#duplication.adopt(session, direction, paths[path], key, nowMs);
    else if (!isOurs) adopted = this.#reroute.adopt(session, direction, paths[path], key, nowMs);
    if (adopted !== OK) return adopted;
    if (direction === FORWARD) table.passed[session] = this.#metadata.passedRow(this.#security.told, parsed);
    this.#security.remember(nowMs);
    const { duplicates } = this.#sessions;
    const second = isSecond ? table.duplicate[session * 2 + direction] : -1;
    return this.#packets.session(
      batch,
      i,
      key,
      second < 0 ? table.flow(session, direction) : duplicates.flow[second],
      nowMs,
      isOurs ? ARRIVAL_LATE : ARRIVAL_READ,
    );
  }

  /** Forward metadata of a session that has been here before, from the peer of path `row`: the peers' service-routes lead in a circle. */
  #cameAround(batch: FrameBatch, i: number, key: Int32Array, row: number, session: number, nowMs: number): number {
    const { table } = this.#sessions;
    this.#circle(table.service[session], row, table.downstream.path[session], false);
    this.#refuse(batch, i, key, row, table.tenant[session], table.context[session * 4 + 3], DROP_ROUTE_LOOP, nowMs);
    return DROP_ROUTE_LOOP;
  }

  /** The session that was just classified came by the path in row `from`, and every way that it has leads back to that peer. */
  #goesBack(from: number): void {
    const { service, route } = this.#classification;
    const { paths } = this.#sessions;
    const back =
      route?.kind === "peer" ? route.paths.find(({ path }) => paths[path].peer === paths[from].peer) : undefined;
    this.#circle(service, from, back?.path ?? -1, back !== undefined);
  }

  #circle(service: number, from: number, toward: number, isBack: boolean): void {
    const { paths } = this.#sessions;
    this.#note.toward = toward;
    this.loopObserver?.(service, paths[from], toward < 0 ? null : paths[toward], isBack);
  }

  /** A peer's lead packet, its metadata read, opens no session: the hosts of some tenants are told, by way of the peer. */
  #refuse(
    batch: FrameBatch,
    i: number,
    key: Int32Array,
    path: number,
    tenant: number,
    protocol: number,
    verdict: number,
    nowMs: number,
  ): void {
    if (!REJECTED.includes(verdict) || tenant < 0 || !this.#policy.tenants[tenant].rejects) return;
    const { parsed } = this.#reader;
    // What a router has made no host knows.
    if (parsed.has(ATTRIBUTE_CONTROL)) return;
    const isOpaque = parsed.has(ATTRIBUTE_SESSION_ENCRYPTED);
    const peer = this.#sessions.paths[path];
    this.#refusals.tell(batch, i, key, peer, parsed.totalLength, protocol, isOpaque, verdict, nowMs);
  }

  /**
   * Reverse metadata of a session that began here and is not known any more: this router was started anew, or has asked,
   * and the peer toward the server gives it back (protocol sheet 4.6, 7.3). Opened as its lead packet opened it, on the tuple it has.
   */
  #takeBack(batch: FrameBatch, i: number, key: Int32Array, path: number, nowMs: number): number {
    const verdict = this.#acceptBack(batch.bytes, key, path, nowMs);
    this.observer?.("metadata", verdict, this.#classification, verdict === OK ? this.#sessions.opened : -1);
    if (verdict !== OK) return verdict;
    const session = this.#sessions.opened;
    this.#security.remember(nowMs);
    this.#counters.increment(SESSIONS_RECOVERED);
    this.#sessions.paths[path].gaveBack(nowMs);
    return this.#packets.session(batch, i, key, this.#sessions.table.reverseFlow[session], nowMs, ARRIVAL_READ);
  }

  #acceptBack(bytes: Uint8Array, key: Int32Array, path: number, nowMs: number): number {
    const request = this.#request;
    const { context } = request;
    const parsed = this.#reader.parsed;
    if (!readContext(this.#security.told, parsed, REVERSE, this.#reader.words)) return DROP_METADATA_CONTEXT;
    const [source, destination, ports, protocol] = this.#reader.words;
    context.set([destination, source, swapPorts(ports), protocol]);
    if (!this.#mayBeOf(bytes, key, protocol)) return DROP_METADATA_CONTEXT;
    const ingress = this.#plainInterfaceOf(context[0]);
    if (ingress < 0) return DROP_NO_RETURN_ROUTE;
    request.key.set([context[0], context[1], context[2], (ingress << 8) | protocol]);
    const classified = classifyPacket(this.#policy, request.key, this.#classification);
    if (classified !== OK) return classified;
    if (this.#security.isReplay(nowMs)) return DROP_REPLAY;
    readUuid(this.#security.told, parsed, request.uuid);
    request.reset();
    request.interfaceId = ingress;
    request.downstreamPath = path;
    request.downstreamPorts = swapPorts(key[KEY_PORTS]);
    request.downstreamProtocol = key[KEY_PROTOCOL] & 0xff;
    request.dscp = this.#preservesDscp() ? DSCP_AWAITED : DSCP_FREE;
    const payload = this.#payloadBack(request, path, nowMs);
    if (payload !== OK) return payload;
    const opened = this.#openClassified(nowMs);
    if (opened === OK && protocol === PROTOCOL_TCP) this.#sessions.resumeTcp(this.#sessions.opened);
    return opened;
  }

  /** Whether a peer's packet, its metadata just read, may be of a session of this protocol: TCP goes as TCP, or has its header behind the metadata. */
  #mayBeOf(bytes: Uint8Array, key: Int32Array, protocol: number): boolean {
    const wire = key[KEY_PROTOCOL] & 0xff;
    if (!mayTravelAs(wire, protocol)) return false;
    return wire === protocol || protocol !== PROTOCOL_TCP || hasTcpHeader(bytes, key, this.#reader.parsed.totalLength);
  }

  /** How the payload of a session goes on that is given back: as it did, with the key that it had. */
  #payloadBack(request: OpenRequest, path: number, nowMs: number): number {
    const parsed = this.#reader.parsed;
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
      this.#interfaces.find((far) => far.isIpv6 === isName(address) && far.gateway !== null && isPlain(far));
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

  /**
   * Open the session that a peer's metadata, already parsed, describes, and take this packet on. `replaced` is the
   * session that has its waypoint tuple now, -1 = none; it goes only when the new one can be opened.
   */
  openFromPeer(batch: FrameBatch, i: number, key: Int32Array, path: number, nowMs: number, replaced = -1): number {
    const verdict = this.#acceptFromPeer(batch, i, key, path, nowMs, replaced);
    this.observer?.("metadata", verdict, this.#classification, verdict === OK ? this.#sessions.opened : -1);
    if (verdict !== OK) {
      this.#note.cameBy(path);
      this.#note.classified(this.#classification.tenant, this.#classification.service);
      this.#refuse(batch, i, key, path, this.#classification.tenant, this.#forward.context[3], verdict, nowMs);
      return verdict;
    }
    return this.#packets.session(
      batch,
      i,
      key,
      this.#sessions.table.forwardFlow[this.#sessions.opened],
      nowMs,
      ARRIVAL_READ,
    );
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
    this.#classification.tenant = -1;
    this.#classification.service = -1;
    const verdict = readForwardMetadata(this.#security.told, this.#reader.parsed, forward);
    if (verdict !== OK) return verdict;
    this.#note.identify(forward.uuid);
    this.#note.setContext(forward.context);
    this.#note.told(forward.tenant, forward.service, forward.sourceRouter);
    if (!this.#mayBeOf(batch.bytes, key, forward.context[3])) return DROP_METADATA_CONTEXT;
    const { tenant, service, context } = forward;
    const classified =
      forward.along === null
        ? classifyMetadata(this.#policy, tenant, service, context, this.#classification)
        : this.#inward.classifyTold(forward, path, this.#classification);
    if (classified !== OK) return classified;
    if (this.#metadata.hasBeenHere(this.#security.told, this.#reader.parsed)) {
      this.#circle(this.#classification.service, path, -1, false);
      return DROP_ROUTE_LOOP;
    }
    if (this.#strays !== null && !this.#isOwn(this.#asPresented(forward))) {
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
    request.reset();
    request.interfaceId = key[KEY_PROTOCOL] >>> 8;
    request.upstreamPath = path;
    request.along = forward.along;
    request.natAddress = forward.natAddress;
    request.natPort = forward.natPort;
    request.replaces = replaced;
    request.sourceRouter = this.#metadata.names.row(forward.sourceRouter);
    request.passed = this.#metadata.passedRow(this.#security.told, this.#reader.parsed);
    const dscp = readDscp(this.#security.told, this.#reader.parsed);
    request.dscp = dscp < 0 ? DSCP_FREE : DSCP_KNOWN | dscp;
    const payload = this.#takePayload(request);
    if (payload !== OK) return payload;
    if (this.#security.isReplay(nowMs)) return DROP_REPLAY;
    const opened = this.#openClassified(nowMs);
    if (opened === DROP_ROUTE_LOOP) this.#goesBack(path);
    if (opened !== OK) return opened;
    this.#security.remember(nowMs);
    // Told alone or late: its hosts are past their handshake.
    if (this.#reader.parsed.has(ATTRIBUTE_REMAINING_TIME)) {
      this.#counters.increment(SESSIONS_RECOVERED);
      this.#sessions.paths[path].gaveBack(nowMs);
      if (request.context[3] === PROTOCOL_TCP) this.#sessions.resumeTcp(this.#sessions.opened);
    }
    return OK;
  }
}

/** Of the firewall detector's, or somebody else's to its ports. */
function isFirewallTest(key: Int32Array): boolean {
  return (key[KEY_PROTOCOL] & 0xff) === PROTOCOL_TCP && isTestPorts(key[KEY_PORTS]);
}

function isBfd(key: Int32Array): boolean {
  const port = key[KEY_PORTS] & 0xffff;
  const isOurs = port === BFD_PORT_PEER || port === BFD_PORT_SINGLE_HOP || port === BFD_PORT_MULTIHOP;
  return isOurs && (key[KEY_PROTOCOL] & 0xff) === PROTOCOL_UDP;
}
