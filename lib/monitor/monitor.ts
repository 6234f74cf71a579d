// Watches the peer paths: for each a BFD session, an echo test and a search for what it takes (protocol sheet 6), over
// whatever receives and sends for it. Live it has a thread and ports of its own, so that a forwarding loop that is busy, or
// collecting garbage, cannot make a path seem dead; in one process with the engine (tests) the engine hands it what comes to
// BFD's ports.
//
//   UDP 1280     control packets, echoes and MTU probes between Waymark routers: metadata behind the packet, signed
//   TCP 1280, 1283   the same as payload of TCP segments: tests for firewalls, and their answers
//   UDP 3784     RFC 5881, paths with `mode: bfd`: bare, TTL 255
//   UDP 4784     RFC 5883, the same over several hops
//
//   datagram ─► checkBfd ─► digest ─► metadata ─► echo? back it goes, or into the test : BfdSession.receive
//                                               probe? it is answered; an answer: MtuSearch
//                                               firewall test? FirewallWitness, answered; an answer: FirewallDetector
//   tick     ─► BfdSession.poll, send ─► EchoTest.poll, send ─► MtuSearch.poll, send ─► FirewallDetector.poll, send
//            ─► report of each path that has changed

import { getU16 } from "../base/bytes.ts";
import type { RandomSource } from "../base/random.ts";
import { StateError, type StateReader, type StateWriter } from "../base/state.ts";
import type { Egress } from "../engine/egress.ts";
import { isPartial } from "../engine/fast-path.ts";
import type { Generator } from "../engine/generate.ts";
import { isQuoteOfBfd, mtuTold, readQuote } from "../engine/icmp-quote.ts";
import { MadePacket } from "../engine/made-packet.ts";
import type { PacketSecurity } from "../engine/packet-security.ts";
import type { FrameBatch } from "../io/port.ts";
import {
  BFD_EVENT_DOWN,
  BFD_EVENT_LOCAL_NAT,
  BFD_EVENT_PEER_NAT,
  BFD_EVENT_RESTART,
  BFD_EVENT_UP,
  type BfdIdentity,
  BfdSession,
  BfdSessionList,
} from "../peer/bfd-session.ts";
import { FirewallDetector } from "../peer/firewall-detector.ts";
import {
  isControl,
  PLACES,
  SMALL_TEST_BYTES,
  TEST_JUMBO,
  TEST_MID_FLOW,
  testAt,
  testPort,
  testSourcePort,
} from "../peer/firewall-tests.ts";
import { FirewallWitness } from "../peer/firewall-witness.ts";
import { MtuSearch, PATH_MTU_MIN } from "../peer/mtu-search.ts";
import type { NeighborTable } from "../peer/neighbor.ts";
import { EchoTest, meanOpinionScore, PathQuality } from "../peer/path-quality.ts";
import { type FirewallCounts, type FirewallView, NO_FIREWALL_COUNTS, UNKNOWN_QUALITY } from "../peer/path-settings.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import type { RouterInterface } from "../peer/router-interface.ts";
import { noteAddress } from "../table/drop-note.ts";
import {
  addBfdAttributes,
  BFD_ADMIN_DOWN,
  BFD_DIAGNOSTIC_NAMES,
  BFD_DOWN,
  BFD_HEADER,
  BFD_PORT_PEER,
  BFD_PORT_SINGLE_HOP,
  BFD_SOURCE_PORT_MIN,
  BFD_STATE_NAMES,
  BFD_TTL,
  BFD_UP,
  BfdPacket,
  checkBfd,
  checkBfdIsPlain,
  checkBfdTtl,
  readBfdMetadata,
  readBfdPacket,
  writeBfd,
} from "../wire/bfd.ts";
import { l4IsRight } from "../wire/checksum.ts";
import {
  AT_END,
  AT_L3,
  AT_L4,
  AT_PAYLOAD,
  ETHERNET_HEADER,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_PROTOCOL,
  KEY_ROW_WORDS,
  KEY_SOURCE,
  PROTOCOL_TCP,
} from "../wire/flow-key.ts";
import { getTtl, IPV4_HEADER, IPV4_TOTAL_LENGTH } from "../wire/ipv4.ts";
import { MetadataWriter, ParsedMetadata } from "../wire/metadata.ts";
import { ATTRIBUTE_SECURITY_ID } from "../wire/metadata-attributes.ts";
import { ACK, FIN, getTcpAcknowledgment, getTcpFlags, getTcpSequence, PSH, RST, SYN, TCP_HEADER } from "../wire/tcp.ts";
import { getUdpLength, UDP_CHECKSUM, UDP_HEADER } from "../wire/udp.ts";
import {
  CONSUMED,
  DROP_BFD_ECHO,
  DROP_BFD_PEER,
  DROP_BFD_SESSION,
  DROP_CLOCK_SKEW,
  DROP_FIREWALL_TEST,
  DROP_FRAME_TOO_LONG,
  DROP_NOT_A_PEER,
  DROP_SIGNATURE_MISSING,
  DROP_SIGNATURE_WRONG,
  DROP_UDP_CHECKSUM,
  OK,
} from "../wire/verdict.ts";
import type { PathReport } from "./path-report.ts";

/** Room for every attribute with the longest router name, and what encryption adds. */
const METADATA_BYTES = 320;
/** Echoes, MTU probes and firewall tests of a peer that are answered in a second: two whole tests of the longest kind. */
const ECHOES_PER_SECOND = 510;
/** More probes than are on their way at once. */
const PROBES_KEPT = 64;
const TTL = 64;

/** Routers that a packet of a peer's BFD has passed which comes with this TTL: it began with ours, or with the most there is. */
function hopsOf(ttl: number): number {
  return (ttl > TTL ? BFD_TTL : TTL) - ttl;
}
/** The flags of TCP that tell what a segment is for. */
const KIND_FLAGS = SYN | ACK | FIN | RST;
/** Digests tried in a second of packets whose sender is not known: each costs some microseconds. */
const TRIES_PER_SECOND = 500;
/** Every path is reported so often, changed or not. */
const LOOK_MS = 1000;

/** What is kept for each path that is watched. */
class Watched {
  readonly path: PeerPath;
  readonly session: BfdSession;
  readonly quality: PathQuality;
  readonly isPlain: boolean;
  /** It has been up since we began. */
  wasUp = false;
  /** The peer has begun anew since the path was last up. */
  hasRestarted = false;
  /** It came up for the first time, or because its peer began anew: that is no flapping path and waits for no hold-down. */
  isExempt = false;
  restarts = 0;
  natChanges = 0;
  echoesLeft = ECHOES_PER_SECOND;
  echoesSinceMs = 0;
  /** Null = not looked for. */
  readonly mtu: MtuSearch | null;
  /** UDP checksums of the latest probes: an ICMP error quotes one, or is not about them. */
  readonly probes = new Int32Array(PROBES_KEPT).fill(-1);
  probesSent = 0;
  /** Null = no firewall is looked for. */
  readonly firewall: FirewallDetector | null;
  readonly witness = new FirewallWitness();
  readonly counts: FirewallCounts = { ...NO_FIREWALL_COUNTS };
  /** What was last reported of it. */
  said = "";

  constructor(path: PeerPath, session: BfdSession, quality: PathQuality) {
    this.path = path;
    this.session = session;
    this.quality = quality;
    this.isPlain = path.mode === "bfd";
    const { mtuDiscovery, interfaceMtu: mtuMax } = path;
    const isLookedFor = mtuDiscovery.enabled && !this.isPlain && mtuMax >= PATH_MTU_MIN;
    const { intervalMs } = mtuDiscovery;
    // Numbers that nobody guesses who does not see the path.
    this.mtu = isLookedFor ? new MtuSearch({ mtuMax, intervalMs, number: session.discriminator }) : null;
    const { mode, intervalMs: everyMs } = path.udpTransform;
    const isTested = mode === "auto-detect" && !this.isPlain && !path.nat.isDynamic;
    this.firewall = isTested ? new FirewallDetector({ intervalMs: everyMs, number: session.discriminator }) : null;
  }

  save(out: StateWriter): void {
    const { path, session, quality } = this;
    out.i32(path.row);
    out.f64(session.discriminator);
    path.saveLearned(out);
    session.save(out);
    quality.echo.save(out);
    quality.directions.save(out);
    this.mtu?.save(out);
    this.firewall?.save(out);
    this.witness.save(out);
    const { testsSent, answersReceived, testsAnswered, refused } = this.counts;
    for (const count of [testsSent, answersReceived, testsAnswered, refused]) out.f64(count);
    for (const flag of [this.wasUp, this.hasRestarted, this.isExempt]) out.flag(flag);
    for (const count of [this.restarts, this.natChanges]) out.f64(count);
  }

  /** What was reported elsewhere is reported again here. */
  restore(from: StateReader, at: RouterInterface, neighbors: NeighborTable, nowMs: number): void {
    this.path.restoreLearned(from, at, neighbors, nowMs);
    this.session.restore(from);
    this.quality.echo.restore(from);
    this.quality.directions.restore(from);
    this.mtu?.restore(from);
    this.firewall?.restore(from);
    this.witness.restore(from);
    const [testsSent, answersReceived, testsAnswered, refused] = Array.from({ length: 4 }, () => from.f64());
    Object.assign(this.counts, { testsSent, answersReceived, testsAnswered, refused });
    [this.wasUp, this.hasRestarted, this.isExempt] = Array.from({ length: 3 }, () => from.flag());
    [this.restarts, this.natChanges] = Array.from({ length: 2 }, () => from.f64());
  }

  /** Tests are as long as the path takes, so that is found out first. */
  get mayTest(): boolean {
    return this.mtu === null || !this.mtu.isSearching;
  }

  /** How long a SYN is that fills the path. */
  get longest(): number {
    return this.mtu?.size || this.path.interfaceMtu;
  }

  /** Whether one more echo, probe or test of the peer may be answered in this second. */
  mayAnswer(nowMs: number): boolean {
    if (nowMs - this.echoesSinceMs >= 1000) {
      this.echoesSinceMs = nowMs;
      this.echoesLeft = ECHOES_PER_SECOND;
    }
    return this.echoesLeft > 0 && this.echoesLeft-- > 0;
  }

  get up(): boolean {
    const { session } = this;
    return session.state === BFD_UP && (session.usable || this.isExempt);
  }
}

export class Monitor {
  readonly #bootId: bigint;
  readonly #paths: readonly PeerPath[];
  readonly #interfaces: readonly RouterInterface[];
  readonly #generator: Generator;
  readonly #egress: Egress;
  readonly #security: PacketSecurity;
  readonly #made: MadePacket;
  readonly #report: (report: PathReport) => void;
  readonly #list = new BfdSessionList();
  /** By row of the path; undefined where it is not watched. */
  readonly #watched: (Watched | undefined)[] = [];
  readonly #writer = new MetadataWriter(new Uint8Array(METADATA_BYTES));
  readonly #payload: Uint8Array;
  readonly #parsed = new ParsedMetadata();
  readonly #in = new BfdPacket();
  readonly #out = new BfdPacket();
  readonly #key = new Int32Array(KEY_ROW_WORDS);
  #allMs = Number.NEGATIVE_INFINITY;
  #triesLeft = TRIES_PER_SECOND;
  #triesSinceMs = 0;

  /**
   * Nothing is sent before the first tick. `report` is called in receive and tick, once for each change. `state`: what
   * another monitor of the same paths and identity has saved, behind its boot identifier.
   */
  constructor(
    parts: {
      paths: readonly PeerPath[];
      interfaces: readonly RouterInterface[];
      generator: Generator;
      egress: Egress;
      security: PacketSecurity;
      random: RandomSource;
      identity: BfdIdentity;
      report: (report: PathReport) => void;
    },
    nowMs: number,
    state: StateReader | null = null,
  ) {
    this.#bootId = parts.identity.bootId;
    this.#paths = parts.paths;
    this.#interfaces = parts.interfaces;
    this.#generator = parts.generator;
    this.#egress = parts.egress;
    this.#security = parts.security;
    this.#made = new MadePacket(parts);
    this.#payload = new Uint8Array(Math.max(BFD_HEADER + METADATA_BYTES, ...parts.interfaces.map(({ mtu }) => mtu)));
    this.#report = parts.report;
    for (const path of parts.paths) {
      if (!path.bfd.enabled) continue;
      const discriminator = state === null ? this.#list.draw(parts.random) : discriminatorOf(state, path);
      const watched = this.#watch(path, discriminator, parts.identity, parts.random, nowMs);
      if (state !== null) watched.restore(state, parts.interfaces[path.interfaceId], parts.egress.neighbors, nowMs);
      this.#watched[path.row] = watched;
    }
  }

  /** Everything, so that another process goes on and no peer notices. Say and send nothing afterwards. */
  save(out: StateWriter): void {
    out.u64(this.#bootId);
    for (const watched of this.#watched) watched?.save(out);
  }

  #watch(path: PeerPath, discriminator: number, identity: BfdIdentity, random: RandomSource, nowMs: number): Watched {
    const { bfd, mode, row, local } = path;
    const session = new BfdSession(
      {
        discriminator,
        path: row,
        identity: mode === "bfd" ? null : identity,
        ownAddress: local,
        ownPort: BFD_PORT_PEER,
        settings: {
          desiredMinTxMs: bfd.desiredTxMs,
          requiredMinRxMs: bfd.requiredMinRxMs,
          requiredMinEchoRxMs: bfd.requiredMinEchoMs,
          detectMult: bfd.multiplier,
          holdDownMs: bfd.holdDownMs,
          maximumHoldDownMs: bfd.dampening ? bfd.maximumHoldDownMs : 0,
        },
        random,
      },
      nowMs,
    );
    this.#list.add(session);
    const length = mode === "bfd" ? 0 : bfd.linkTestLength;
    const echo = new EchoTest({ intervalMs: bfd.linkTestIntervalMs, length }, nowMs);
    return new Watched(path, session, new PathQuality(echo, null));
  }

  /**
   * A datagram to one of our addresses and one of BFD's ports, or a segment with a port of the firewall detector's, decoded
   * into `key`. CONSUMED, or why it is dropped.
   */
  receive(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): number {
    const { bytes } = batch;
    if ((key[KEY_PROTOCOL] & 0xff) === PROTOCOL_TCP) return this.#receiveSegment(batch, i, key, nowMs);
    // A peer behind a virtual device leaves its checksum for hardware to finish.
    if (!isPartial(batch, i, key) && !l4IsRight(bytes, key[AT_L3], key[AT_L4], key[AT_END])) return DROP_UDP_CHECKSUM;
    const at = key[AT_PAYLOAD];
    const end = key[AT_L4] + getUdpLength(bytes, key[AT_L4]);
    const checked = checkBfd(bytes, at, end);
    if (checked !== OK) return checked;
    readBfdPacket(bytes, at, this.#in);
    const row = this.#pathFrom(key);
    const isPeer = (key[KEY_PORTS] & 0xffff) === BFD_PORT_PEER;
    // A session's own discriminator says whose a packet is, whatever NAT made of its source.
    const session = this.#list.find(this.#in.yourDiscriminator, row);
    const watched = this.#watched[session?.path ?? row];
    const isUnsaid = this.#in.yourDiscriminator === 0 && (row < 0 || this.#paths[row].nat.isDynamic);
    if (isUnsaid && isPeer) return this.#receiveUnsaid(batch, i, key, nowMs);
    if (watched === undefined) return row < 0 ? DROP_NOT_A_PEER : DROP_BFD_SESSION;
    if (watched.path.row !== row && !watched.path.nat.isDynamic) return DROP_NOT_A_PEER;
    if (watched.isPlain === isPeer) return DROP_BFD_SESSION;
    const verdict = isPeer
      ? this.#receiveSigned(batch, i, key, watched, nowMs)
      : this.#receivePlain(bytes, key, end, watched, nowMs);
    return verdict === OK ? this.#received(watched, nowMs) : verdict;
  }

  /** A firewall between us answers as well, and hosts use these ports for what they like: only what a peer signed counts. */
  #receiveSegment(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): number {
    const { bytes } = batch;
    const at = key[AT_PAYLOAD];
    const row = this.#pathFrom(key);
    const isWhole = isPartial(batch, i, key) || l4IsRight(bytes, key[AT_L3], key[AT_L4], key[AT_END]);
    const isRead = isWhole && checkBfd(bytes, at, key[AT_END]) === OK;
    if (isRead) readBfdPacket(bytes, at, this.#in);
    const session = isRead ? this.#list.find(this.#in.yourDiscriminator, row) : undefined;
    const watched = this.#watched[session?.path ?? row];
    if (watched === undefined) return row < 0 ? DROP_NOT_A_PEER : DROP_FIREWALL_TEST;
    const isKnown = session === watched.session && this.#in.yourDiscriminator === session.discriminator;
    const size = key[AT_END] - key[AT_L3];
    const opened = !isKnown || watched.isPlain ? DROP_FIREWALL_TEST : this.#open(batch, i, key, watched.path, nowMs);
    const { [KEY_SOURCE]: source, [KEY_PORTS]: ports, [AT_L4]: l4 } = key;
    const taken = opened === OK ? this.#takeTest(bytes, l4, source, ports, size, watched, nowMs) : opened;
    if (taken === OK) return this.#received(watched, nowMs);
    watched.counts.refused++;
    return taken;
  }

  /**
   * A packet of the firewall detector's in #in, which came with `size` bytes: it is answered, or it is an answer. `l4`:
   * where its TCP header is; -1 = it came over UDP.
   */
  #takeTest(
    bytes: Uint8Array,
    l4: number,
    source: number,
    ports: number,
    size: number,
    watched: Watched,
    nowMs: number,
  ): number {
    const { path, session, counts } = watched;
    const { firewallTest, firewallAnswer, firewallBurst, firewallHeard, bootId, routerName } = this.#in;
    if (routerName !== path.peerName) return DROP_BFD_PEER;
    const isOfSession = session.state === BFD_UP && bootId === session.bootId && source === path.remote;
    if (!isOfSession || !isAsItSays(bytes, l4, ports, this.#in)) return DROP_FIREWALL_TEST;
    if (firewallTest < 0) {
      if (watched.firewall?.answered(firewallBurst, firewallAnswer, firewallHeard, nowMs) !== true)
        return DROP_FIREWALL_TEST;
      counts.answersReceived++;
      return OK;
    }
    if (size > path.interfaceMtu || path.nextHop < 0) return DROP_FIREWALL_TEST;
    const heard = watched.witness.take(bootId, firewallBurst, firewallTest);
    if (heard < 0 || !watched.mayAnswer(nowMs)) return DROP_FIREWALL_TEST;
    session.fillFirewallAnswer(this.#out, firewallBurst, firewallTest, heard);
    const long = Math.min(size, watched.longest);
    counts.testsAnswered++;
    if (l4 < 0) this.#put(watched, nowMs, long);
    else {
      // Of a connection as we carry one: what is metadata counts for nothing in sequence numbers.
      const sequence = getTcpSequence(bytes, l4);
      const isSyn = testAt(firewallTest) !== TEST_MID_FLOW;
      const next = isSyn ? (sequence + 1) | 0 : sequence;
      const own = isSyn ? ~sequence : getTcpAcknowledgment(bytes, l4);
      const back = (ports << 16) | (ports >>> 16);
      this.#putSegment(watched, back, isSyn ? SYN | ACK : PSH | ACK, own, next, long, nowMs);
    }
    return OK;
  }

  #received(watched: Watched, nowMs: number): number {
    this.#serve(watched, nowMs);
    this.#egress.flush();
    return CONSUMED;
  }

  /**
   * A packet that names no session of ours and comes from where no peer is known to be, or from behind a NAT where another
   * one may be by now: the digest says whether it is of a peer with a dynamic address, the router's name of which.
   */
  #receiveUnsaid(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): number {
    const interfaceId = key[KEY_PROTOCOL] >>> 8;
    const candidates = this.#watched.filter((watched) => {
      const path = watched?.path;
      return path?.nat.isDynamic && path.interfaceId === interfaceId && path.local === key[KEY_DESTINATION];
    }) as Watched[];
    const { length, ttl, source, ports } = this.#place(batch, key);
    let verdict = DROP_NOT_A_PEER;
    for (const security of new Set(candidates.map(({ path }) => path.security))) {
      if (!this.#mayTry(nowMs)) return DROP_NOT_A_PEER;
      const sharing = candidates.filter(({ path }) => path.security === security);
      verdict = this.#open(batch, i, key, sharing[0].path, nowMs);
      if (verdict === DROP_SIGNATURE_WRONG || verdict === DROP_SIGNATURE_MISSING) continue;
      if (verdict !== OK) return verdict;
      const watched = sharing.find(({ path }) => path.peerName === this.#in.routerName);
      if (watched === undefined) return DROP_BFD_PEER;
      const taken = this.#take(batch.bytes, key[AT_PAYLOAD], length, ttl, source, ports, watched, nowMs);
      return taken === OK ? this.#received(watched, nowMs) : taken;
    }
    return verdict;
  }

  #mayTry(nowMs: number): boolean {
    if (nowMs - this.#triesSinceMs >= 1000) {
      this.#triesSinceMs = nowMs;
      this.#triesLeft = TRIES_PER_SECOND;
    }
    return this.#triesLeft > 0 && this.#triesLeft-- > 0;
  }

  #receivePlain(bytes: Uint8Array, key: Int32Array, end: number, watched: Watched, nowMs: number): number {
    const ports = key[KEY_PORTS];
    const ttl = (ports & 0xffff) === BFD_PORT_SINGLE_HOP ? checkBfdTtl(bytes[key[AT_L3] + 8]) : OK;
    if (ttl !== OK) return ttl;
    const plain = checkBfdIsPlain(bytes, key[AT_PAYLOAD], end);
    if (plain !== OK) return plain;
    this.#in.clearMetadata();
    return watched.session.receive(this.#in, nowMs, key[KEY_SOURCE], ports >>> 16);
  }

  #receiveSigned(batch: FrameBatch, i: number, key: Int32Array, watched: Watched, nowMs: number): number {
    const { length, ttl, source, ports } = this.#place(batch, key);
    const opened = this.#open(batch, i, key, watched.path, nowMs);
    if (opened !== OK) return opened;
    return this.#take(batch.bytes, key[AT_PAYLOAD], length, ttl, source, ports, watched, nowMs);
  }

  /** How long a datagram is as it came, and from where and how far. */
  #place({ bytes }: FrameBatch, key: Int32Array): { length: number; ttl: number; source: number; ports: number } {
    const length = key[AT_L4] + getUdpLength(bytes, key[AT_L4]) - key[AT_PAYLOAD];
    return { length, ttl: getTtl(bytes, key[AT_L3]), source: key[KEY_SOURCE], ports: key[KEY_PORTS] };
  }

  /** Take off the digest and read the metadata into #in, by the keys of `path`. OK, or the packet is as it was. */
  #open(batch: FrameBatch, i: number, key: Int32Array, path: PeerPath, nowMs: number): number {
    const { bytes } = batch;
    let verified = this.#security.verify(batch, i, key, path, true, nowMs);
    const isDatagram = (key[KEY_PROTOCOL] & 0xff) !== PROTOCOL_TCP;
    if (verified === DROP_CLOCK_SKEW && isDatagram && this.#learnsClock(bytes, key, path, nowMs))
      verified = this.#security.verify(batch, i, key, path, true, nowMs);
    return verified !== OK ? verified : this.#readMetadata(bytes, key, key[AT_PAYLOAD], path, nowMs);
  }

  /** The packet in #in, whose `length` bytes lie at bytes[from] as they came, is of the peer of this path, or our own echo. */
  #take(
    bytes: Uint8Array,
    from: number,
    length: number,
    ttl: number,
    source: number,
    ports: number,
    watched: Watched,
    nowMs: number,
  ): number {
    const { path, session, quality } = watched;
    const packet = this.#in;
    if (packet.echoTimeUs >= 0 && session.isOwnEcho(packet)) {
      if (packet.myDiscriminator !== session.discriminator) return DROP_BFD_ECHO;
      quality.echo.received(packet.txSequence, nowMs);
      return OK;
    }
    if (packet.routerName !== path.peerName) return DROP_BFD_PEER;
    if (packet.echoTimeUs >= 0) {
      // The digest was taken off by moving the packet's end: what came lies there as it came.
      return this.#reflect(bytes, from, length, source, ports, watched, nowMs) ? OK : DROP_BFD_ECHO;
    }
    if (path.nat.isDynamic && this.#isTaken(path, source)) return DROP_BFD_PEER;
    if (packet.firewallTest >= 0 || packet.firewallAnswer >= 0) {
      const size = length + UDP_HEADER + IPV4_HEADER;
      const tested = this.#takeTest(bytes, -1, source, ports, size, watched, nowMs);
      if (tested !== OK) watched.counts.refused++;
      return tested;
    }
    if (packet.probe >= 0) return this.#answerProbe(watched, length + UDP_HEADER + IPV4_HEADER, nowMs);
    if (packet.probeAnswer >= 0) {
      watched.mtu?.answered(packet.probeAnswer, packet.probeSize, nowMs);
      return OK;
    }
    const taken = session.receive(packet, nowMs, source, ports >>> 16);
    if (taken !== OK) return taken;
    if (path.nat.isDynamic)
      path.reach(source, ports >>> 16, this.#interfaces[path.interfaceId], this.#egress.neighbors, nowMs);
    path.hops = hopsOf(ttl);
    quality.directions.heard(packet.txSequence, packet.rxSequence, packet.rxCount);
    return OK;
  }

  /** Whether another peer is at this address: two behind one could not be told apart. Who is not heard of any more has left it. */
  #isTaken(path: PeerPath, address: number): boolean {
    for (const other of this.#paths) {
      if (other === path || other.interfaceId !== path.interfaceId || other.remote !== address) continue;
      if (!other.nat.isDynamic || this.#watched[other.row]?.session.state !== BFD_DOWN) return true;
      other.remote = 0;
    }
    return false;
  }

  /** Read what is behind the control packet at `from`. */
  #readMetadata(bytes: Uint8Array, key: Int32Array, from: number, path: PeerPath, nowMs: number): number {
    const inner = this.#key;
    inner.set(key);
    inner[AT_PAYLOAD] = from + BFD_HEADER;
    if ((key[KEY_PROTOCOL] & 0xff) !== PROTOCOL_TCP) inner[AT_END] = key[AT_L4] + getUdpLength(bytes, key[AT_L4]);
    const read = this.#security.readMetadata(bytes, inner, path, this.#parsed, nowMs);
    return read !== OK ? read : readBfdMetadata(this.#security.told, this.#parsed, this.#in);
  }

  /**
   * The digest of this packet is right for another time. If the packet proves to be fresh, the peer's clock is that far from
   * ours, and what it signs is looked at by it from now on (protocol sheet 5.3).
   */
  #learnsClock(bytes: Uint8Array, key: Int32Array, path: PeerPath, nowMs: number): boolean {
    const session = this.#watched[path.row]?.session;
    const packet = this.#in;
    if (this.#readMetadata(bytes, key, key[AT_PAYLOAD], path, nowMs) !== OK) return false;
    if (packet.routerName !== path.peerName || packet.echoTimeUs >= 0) return false;
    if (session === undefined || !session.isFresh(packet)) return false;
    this.#security.learnClock(path);
    return true;
  }

  /** Send an echo of the peer back as it came. */
  #reflect(
    bytes: Uint8Array,
    from: number,
    length: number,
    destination: number,
    ports: number,
    watched: Watched,
    nowMs: number,
  ): boolean {
    const { path } = watched;
    if (path.nextHop < 0 || !watched.mayAnswer(nowMs)) return false;
    const back = (ports << 16) | (ports >>> 16);
    this.#generator.datagram(path.local, destination, back, path.bfd.dscp << 2, TTL, bytes, from, length);
    const { bytes: made, offset, length: frameLength } = this.#generator;
    this.#egress.send(path.interfaceId, path.nextHop, made, offset, frameLength, 0, 0, nowMs);
    return true;
  }

  /**
   * Tell the peer that its probe in #in came, as long as it is. What our interface does not take is not answered, though the
   * device has let it in.
   */
  #answerProbe(watched: Watched, size: number, nowMs: number): number {
    const { path } = watched;
    if (size > path.interfaceMtu) return DROP_FRAME_TOO_LONG;
    if (path.nextHop < 0 || !watched.mayAnswer(nowMs)) return DROP_BFD_ECHO;
    watched.session.fillProbeAnswer(this.#out, this.#in.probe, size);
    this.#put(watched, nowMs);
    return OK;
  }

  /**
   * An ICMP error, decoded. One that tells what a path takes ends the search for the size of the probe that it quotes; about
   * any other packet it is a hint, and whoever forwards believes it at once.
   */
  heardError(batch: FrameBatch, key: Int32Array, nowMs: number): void {
    const { bytes } = batch;
    const quote = this.#key;
    if (!readQuote(batch, key, quote)) return;
    const told = mtuTold(bytes, key, quote);
    const watched = this.#watched[this.#pathFrom(quote)];
    const search = watched?.mtu ?? null;
    if (told === 0 || watched === undefined || search === null) return;
    const checksum = getU16(bytes, quote[AT_L4] + UDP_CHECKSUM);
    if (isQuoteOfBfd(quote)) {
      if (watched.probes.includes(checksum))
        search.tooBig(getU16(bytes, quote[AT_L3] + IPV4_TOTAL_LENGTH), told, nowMs);
    } else if (told < (search.size || watched.path.interfaceMtu)) search.suspect(told, nowMs);
    this.#received(watched, nowMs);
  }

  /** Do what is due. Returns when there is something to do again, in milliseconds of the same clock. */
  tick(nowMs: number): number {
    // What changes with every packet is told so often.
    const all = nowMs >= this.#allMs;
    if (all) this.#allMs = nowMs + LOOK_MS;
    let due = this.#allMs;
    for (const watched of this.#watched) {
      if (watched === undefined) continue;
      if (all) watched.said = "";
      if (all || dueMsOf(watched) <= nowMs) this.#serve(watched, nowMs);
      due = Math.min(due, dueMsOf(watched));
    }
    this.#egress.flush();
    return due;
  }

  /** Tell every peer that this router goes away, so that none waits for its detection time (RFC 5880, 6.8.16). */
  close(nowMs: number): void {
    for (const watched of this.#watched) {
      if (watched === undefined) continue;
      watched.session.disable(nowMs);
      while (watched.session.poll(nowMs)) this.#send(watched, nowMs);
    }
    this.#egress.flush();
  }

  #serve(watched: Watched, nowMs: number): void {
    const { session, quality } = watched;
    while (session.poll(nowMs)) this.#send(watched, nowMs);
    const events = session.takeEvents();
    if ((events & BFD_EVENT_RESTART) !== 0) {
      watched.restarts++;
      watched.hasRestarted = true;
    }
    if ((events & (BFD_EVENT_LOCAL_NAT | BFD_EVENT_PEER_NAT)) !== 0) {
      watched.natChanges++;
      watched.mtu?.suspect(0, nowMs);
      watched.firewall?.suspect(nowMs);
    }
    if ((events & (BFD_EVENT_UP | BFD_EVENT_DOWN)) !== 0) {
      for (const machine of [watched.mtu, watched.firewall]) {
        if (session.state === BFD_UP) machine?.start(nowMs);
        else machine?.stop();
      }
    }
    if ((events & BFD_EVENT_UP) !== 0) {
      watched.isExempt = !watched.wasUp || watched.hasRestarted;
      watched.wasUp = true;
      watched.hasRestarted = false;
      quality.reset(nowMs);
    }
    if (session.state === BFD_UP) {
      for (let count = quality.echo.poll(nowMs); count > 0; count--) this.#sendEcho(watched, nowMs);
      if (watched.mtu !== null) this.#probe(watched, watched.mtu, nowMs);
      if (watched.firewall !== null && watched.mayTest) this.#test(watched, watched.firewall, nowMs);
    }
    this.#say(watched, nowMs);
  }

  /** Report the path if anything about it has changed that somebody acts on, or it is time. */
  #say(watched: Watched, nowMs: number): void {
    const report = this.#reportOf(watched, nowMs);
    const { up, why, quality, restarts, natChanges, clockWindows, hops, peerAt, mtu, firewall } = report;
    const rounds = [watched.mtu?.beganMs, watched.firewall?.judgedMs];
    const tested = [firewall?.isBlocked, firewall?.results, firewall?.isAnswered];
    const of = [up, why, quality, restarts, natChanges, clockWindows, hops, peerAt, mtu, ...tested, ...rounds];
    const said = JSON.stringify(of);
    if (said === watched.said) return;
    watched.said = said;
    this.#report(report);
  }

  #reportOf(watched: Watched, nowMs: number): PathReport {
    const { path, session, quality, restarts, natChanges, up } = watched;
    const measured = quality.current(nowMs);
    return {
      path: path.row,
      up,
      why: whyOf(watched),
      quality:
        measured === undefined || session.state !== BFD_UP
          ? UNKNOWN_QUALITY
          : {
              lossPercent: rounded(measured.lossPercent),
              latencyMs: rounded(measured.latencyMs),
              jitterMs: rounded(measured.jitterMs),
              mos: rounded(meanOpinionScore(measured)),
            },
      restarts,
      natChanges,
      clockWindows: path.learnedWindows,
      hops: path.hops,
      mtu: watched.mtu?.size ?? 0,
      mtuAgeMs: nowMs - (watched.mtu?.beganMs ?? Number.NEGATIVE_INFINITY),
      firewall: firewallOf(watched, nowMs),
      firewallCounts: { ...watched.counts, failedRounds: watched.firewall?.failedRounds ?? 0 },
      peerAt: path.nat.isDynamic && path.remote !== 0 ? { ...noteAddress(path.remote), port: path.remotePort } : null,
      bfd: {
        state: session.stateName,
        remoteState: BFD_STATE_NAMES[session.remoteState],
        diagnostic: BFD_DIAGNOSTIC_NAMES[session.diagnostic] ?? String(session.diagnostic),
        txIntervalMs: session.txIntervalMs,
        detectionTimeMs: session.detectionTimeMs,
        downs: session.downs,
        remoteRouter: session.routerName,
        lossFromPeer: rounded(quality.directions.fromPeerPercent),
        lossToPeer: rounded(quality.directions.toPeerPercent),
      },
    };
  }

  #send(watched: Watched, nowMs: number): void {
    watched.session.send(this.#out, nowMs);
    this.#put(watched, nowMs);
  }

  #sendEcho(watched: Watched, nowMs: number): void {
    watched.session.fillEcho(this.#out, watched.quality.echo.sent(nowMs), nowMs * 1000);
    this.#put(watched, nowMs);
  }

  #probe(watched: Watched, search: MtuSearch, nowMs: number): void {
    for (let size = search.poll(nowMs); size > 0; size = search.poll(nowMs)) {
      watched.session.fillProbe(this.#out, search.sent(nowMs), size);
      this.#put(watched, nowMs, size);
      const { bytes, offset } = this.#generator;
      const checksum = getU16(bytes, offset + ETHERNET_HEADER + IPV4_HEADER + UDP_CHECKSUM);
      watched.probes[watched.probesSent++ % PROBES_KEPT] = checksum;
    }
  }

  #test(watched: Watched, detector: FirewallDetector, nowMs: number): void {
    for (let place = detector.poll(nowMs); place >= 0; place = detector.poll(nowMs)) {
      const burst = detector.sent(nowMs);
      watched.session.fillFirewallTest(this.#out, burst, place);
      const size = testAt(place) === TEST_JUMBO ? watched.longest : SMALL_TEST_BYTES;
      if (isControl(place)) {
        this.#put(watched, nowMs, size);
        continue;
      }
      const ports = (testSourcePort(burst, place) << 16) | testPort(place);
      const sequence = Math.imul(burst + place, 0x9e3779b1);
      const isSyn = testAt(place) !== TEST_MID_FLOW;
      this.#putSegment(watched, ports, isSyn ? SYN : PSH | ACK, sequence, isSyn ? 0 : ~sequence, size, nowMs);
      watched.counts.testsSent++;
    }
  }

  /** The same as `put`, as payload of a TCP segment. */
  #putSegment(
    watched: Watched,
    ports: number,
    flags: number,
    sequence: number,
    acknowledgment: number,
    size: number,
    nowMs: number,
  ): void {
    const { path } = watched;
    const length = this.#writePayload(path, TCP_HEADER, size, nowMs);
    const tos = path.bfd.dscp << 2;
    this.#generator.segment(
      path.local,
      path.remote,
      ports,
      tos,
      sequence,
      acknowledgment,
      flags,
      this.#payload,
      length,
    );
    this.#made.send(path, path.interfaceId, path.nextHop, nowMs);
  }

  /** #out and its metadata into #payload, padded so that the IPv4 packet with this L4 header will have `size` bytes. Returns the length. */
  #writePayload(path: PeerPath, header: number, size: number, nowMs: number): number {
    const at = writeBfd(this.#payload, 0, this.#out);
    const length = path.mode === "bfd" ? at : at + this.#writeMetadata(path, at, nowMs);
    const padded = size - IPV4_HEADER - header - this.#security.overhead(path, true);
    if (padded > length) this.#payload.fill(0, length, padded);
    return Math.max(length, padded);
  }

  /** Send #out to the peer of the path, padded so that the IPv4 packet has `size` bytes; 0 = not padded. */
  #put(watched: Watched, nowMs: number, size = 0): void {
    const { path, session, isPlain } = watched;
    // Passive until the peer was heard (RFC 5880, 6.1).
    if (path.remote === 0) return;
    const length = this.#writePayload(path, UDP_HEADER, size, nowMs);
    const isHeard = !isPlain && session.peerPort !== 0;
    const destination = isHeard ? session.peerAddress : path.remote;
    const port = isPlain ? BFD_PORT_SINGLE_HOP : isHeard ? session.peerPort : BFD_PORT_PEER;
    // RFC 5881, 4: a plain session keeps to one source port.
    const own = isPlain ? BFD_SOURCE_PORT_MIN + (path.row & 0x3fff) : BFD_PORT_PEER;
    const ttl = isPlain ? BFD_TTL : TTL;
    const ports = (own << 16) | port;
    this.#generator.datagram(path.local, destination, ports, path.bfd.dscp << 2, ttl, this.#payload, 0, length);
    this.#made.send(path, path.interfaceId, path.nextHop, nowMs);
  }

  #writeMetadata(path: PeerPath, at: number, nowMs: number): number {
    const writer = this.#writer;
    writer.begin();
    writer.u32(ATTRIBUTE_SECURITY_ID, this.#security.version(path, nowMs));
    addBfdAttributes(writer, this.#out);
    const length = this.#security.sealMetadata(writer, writer.end(), path, nowMs);
    this.#payload.set(writer.buffer.subarray(0, length), at);
    return length;
  }

  #pathFrom(key: Int32Array): number {
    const interfaceId = key[KEY_PROTOCOL] >>> 8;
    for (const path of this.#paths) {
      if (path.interfaceId !== interfaceId) continue;
      if (path.remote === key[KEY_SOURCE] && path.local === key[KEY_DESTINATION]) return path.row;
    }
    return -1;
  }
}

function discriminatorOf(state: StateReader, path: PeerPath): number {
  if (state.i32() !== path.row) throw new StateError("other paths are watched");
  return state.f64();
}

/** When there is something to do about a path. */
function dueMsOf({ session, quality, mtu, firewall, mayTest }: Watched): number {
  if (session.state !== BFD_UP) return session.dueMs;
  const never = Number.POSITIVE_INFINITY;
  const testMs = mayTest && firewall !== null ? firewall.dueMs : never;
  return Math.min(session.dueMs, quality.echo.dueMs, mtu?.dueMs ?? never, testMs);
}

/**
 * Whether a packet of the firewall detector's is what its place says: a control over UDP, a test over TCP with the ports
 * and flags of one. `l4`: where its TCP header is; -1 = it came over UDP.
 */
function isAsItSays(
  bytes: Uint8Array,
  l4: number,
  ports: number,
  { firewallTest, firewallAnswer, firewallBurst }: BfdPacket,
): boolean {
  const isAnswer = firewallTest < 0;
  const place = isAnswer ? firewallAnswer : firewallTest;
  if (place < 0 || place >= PLACES || isControl(place) !== l4 < 0) return false;
  if (l4 < 0) return true;
  const isSyn = testAt(place) !== TEST_MID_FLOW;
  if ((getTcpFlags(bytes, l4) & KIND_FLAGS) !== (isSyn ? (isAnswer ? SYN | ACK : SYN) : ACK)) return false;
  if (!isAnswer) return (ports & 0xffff) === testPort(place);
  return ports >>> 16 === testPort(place) && (ports & 0xffff) === testSourcePort(firewallBurst, place);
}

function firewallOf({ firewall }: Watched, nowMs: number): FirewallView | null {
  if (firewall === null) return null;
  const { isBlocked, results, isAnswered, judgedMs } = firewall;
  return { isBlocked, results, isAnswered, judgedAgeMs: nowMs - judgedMs };
}

function whyOf({ session, up, wasUp }: Watched): string {
  if (up) return "BFD is up";
  if (session.state === BFD_UP) return `BFD is up, held down for ${session.holdDownMs / 1000} s`;
  if (session.state === BFD_ADMIN_DOWN) return "BFD is administratively down";
  if (session.remoteDetectMult === 0 && !wasUp) return "BFD has not heard the peer";
  return `BFD is down: ${BFD_DIAGNOSTIC_NAMES[session.diagnostic] ?? session.diagnostic}`;
}

/** To what an operator reads, so that not every test is another number. */
function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
