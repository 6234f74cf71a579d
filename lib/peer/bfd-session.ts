// One BFD session: variables, timers and what they ask for (RFC 5880, 6.8), without I/O and without a clock. The owner
// gives packets and the time; the answers are a verdict, whether to send now, when to ask again, and events.
//
//   per turn, in this order:   receive(packet, nowMs, ...)       for each that came: one that is here was in time
//                              while (poll(nowMs)) send(packet, nowMs)
//                              takeEvents()                      up, down, usable ...
//                              sleep until dueMs
//
// Times are in milliseconds, with fractions; the wire has microseconds. Changed intervals are told by a poll sequence
// (6.5): until its end the peer may go by the old ones, so we send no slower and expect no faster than before (6.8.3).
// What users of a path are told is `usable`, which follows Up after the hold-down time (protocol sheet 6.1).

import { invariant } from "../base/invariant.ts";
import type { RandomSource } from "../base/random.ts";
import { StateError, type StateReader, type StateWriter } from "../base/state.ts";
import { BFD_ADMIN_DOWN, BFD_DOWN, BFD_STATE_NAMES, BFD_UP, type BfdPacket, DIAGNOSTIC_NONE } from "../wire/bfd.ts";
import { DROP_BFD_ADMIN_DOWN, DROP_BFD_SEQUENCE, DROP_BFD_SESSION, OK } from "../wire/verdict.ts";
import { DETECTION_TIME_PASSED, DIAGNOSTIC_KEPT, DISABLED, ENABLED, nextBfdState } from "./bfd-machine.ts";

// Events, as bits.
export const BFD_EVENT_UP = 1;
export const BFD_EVENT_DOWN = 2;
/** Up for the hold-down time: sessions may use the path. */
export const BFD_EVENT_USABLE = 4;
export const BFD_EVENT_UNUSABLE = 8;
/** The peer is another node than before, or was started again: it knows none of our sessions. */
export const BFD_EVENT_RESTART = 16;
/** The peer's packets come from another address or port: NAT on the way from it to us has changed. */
export const BFD_EVENT_PEER_NAT = 32;
/** The peer sees us at another address or port: NAT on the way from us to it has changed. */
export const BFD_EVENT_LOCAL_NAT = 64;

/** While not Up, never faster than this (RFC 5880, 6.8.3). */
const SLOW_TX_MS = 1000;
/** bfd.RemoteMinRxInterval before the peer has said any: 1 microsecond (6.8.1). */
const REMOTE_MIN_RX_MS = 0.001;
/** How recent a packet of ours is whose number proves that the peer's packet is. */
const FRESH_MS = 3000;
/** A path that was usable for this many of its hold-down times, or the longest one, counts as one that does not flap. */
const QUIET_HOLD_DOWNS = 10;

/** What a session's state has in public, but for codes, names and the peer's boot identifier. */
const NUMBERS = [
  "remoteDiscriminator",
  "remoteDetectMult",
  "remoteDesiredMinTxMs",
  "remoteMinRxMs",
  "remoteMinEchoRxMs",
  "upSinceMs",
  "downs",
  "txSequence",
  "rxSequence",
  "rxCount",
  "nodeId",
  "peerAddress",
  "peerPort",
  "peerOwnAddress",
  "peerOwnPort",
  "observedAddress",
  "observedPort",
] as const;
const FLAGS = ["remoteDemand", "usable"] as const;
/** Five bits on the wire. */
const DIAGNOSTIC_MAX = 31;

export interface BfdSettings {
  readonly desiredMinTxMs: number;
  /** More than 0: we do want to hear the peer. */
  readonly requiredMinRxMs: number;
  /** 0 = do not send us echoes. */
  readonly requiredMinEchoRxMs: number;
  readonly detectMult: number;
  readonly holdDownMs: number;
  /** Damping: the hold-down time doubles with each flap up to this. 0 = no damping. */
  readonly maximumHoldDownMs: number;
}

/** Protocol sheet 6.1. */
export const BFD_DEFAULTS: BfdSettings = {
  desiredMinTxMs: 1000,
  requiredMinRxMs: 500,
  requiredMinEchoRxMs: 1000,
  detectMult: 3,
  holdDownMs: 5000,
  maximumHoldDownMs: 0,
};

/** Who we are, for the metadata. */
export interface BfdIdentity {
  readonly routerName: string;
  readonly nodeId: number;
  readonly bootId: bigint;
}

export interface BfdSessionOptions {
  /** Of this router alone and not 0: BfdSessionList.draw. */
  readonly discriminator: number;
  /** Row of the peer path. */
  readonly path: number;
  /** null = plain RFC 5881 or 5883, without metadata. */
  readonly identity: BfdIdentity | null;
  /** Address and port we send from; port 0 = do not tell. */
  readonly ownAddress: number;
  readonly ownPort: number;
  readonly settings: BfdSettings;
  readonly random: RandomSource;
}

export class BfdSession {
  readonly discriminator: number;
  readonly path: number;
  readonly #identity: BfdIdentity | null;
  readonly #random: RandomSource;
  #settings: BfdSettings;
  ownAddress: number;
  ownPort: number;

  // RFC 5880, 6.8.1.
  state = BFD_DOWN;
  diagnostic = DIAGNOSTIC_NONE;
  remoteState = BFD_DOWN;
  remoteDiagnostic = DIAGNOSTIC_NONE;
  remoteDiscriminator = 0;
  remoteDetectMult = 0;
  remoteDesiredMinTxMs = 0;
  remoteMinRxMs = REMOTE_MIN_RX_MS;
  /** 0 = the peer wants no echoes. */
  remoteMinEchoRxMs = 0;
  remoteDemand = false;

  // What our packets say, and what counts until the poll sequence has ended.
  #desiredMinTxMs: number;
  #requiredMinRxMs: number;
  #usedTxMs: number;
  #usedRxMs: number;
  #isPolling = false;
  /** Something changed during the poll sequence: another one follows. */
  #pollAgain = false;
  /** Sequence number of the poll sequence's first packet. */
  #pollSequence = 0;

  #finalPending = false;
  /** What we say has changed: do not wait for the interval. */
  #isUrgent = false;
  #lastTxMs: number;
  /** The part of the interval to wait before the next packet, drawn anew for each. */
  #jitter: number;
  /** While administratively down: send until then, so that the peer learns of it. */
  #farewellMs = 0;
  /** When the last packet came; -1 = none within the detection time. */
  #lastRxMs = -1;

  /** Up for the hold-down time. */
  usable = false;
  /** When it came up; -1 = it is not. */
  upSinceMs = -1;
  /** How often it left Up. */
  downs = 0;
  /** Flaps that count toward damping. */
  #flaps = 0;
  #events = 0;

  /** Of our latest packet. */
  txSequence = 0;
  /** Of the peer's latest packet; -1 = none yet. */
  rxSequence = -1;
  /** Packets the peer sent that we had, of its present numbering. */
  rxCount = 0;
  #rxDiscriminator = 0;
  /** Of a packet that was refused for its clock alone: told to the peer all the same; -1 = none since the last good one. */
  #skewedSequence = -1;
  /** What we send after it was sent within the last FRESH_MS, and the one that comes into its place. */
  #freshAfter = 0;
  #freshNext = 0;
  #freshMs = Number.NEGATIVE_INFINITY;
  routerName = "";
  nodeId = 0;
  bootId = 0n;
  #knowsNode = false;
  /** Where the peer's packets come from: behind NAT, where to send ours. Port 0 = nothing came yet. */
  peerAddress = 0;
  peerPort = 0;
  /** The peer's own idea of its address: another than peerAddress means NAT. */
  peerOwnAddress = 0;
  peerOwnPort = 0;
  /** Where the peer sees us. */
  observedAddress = 0;
  observedPort = 0;

  constructor(options: BfdSessionOptions, nowMs: number) {
    this.discriminator = options.discriminator;
    this.path = options.path;
    this.#identity = options.identity;
    this.#random = options.random;
    this.#settings = options.settings;
    this.ownAddress = options.ownAddress;
    this.ownPort = options.ownPort;
    this.#desiredMinTxMs = Math.max(SLOW_TX_MS, this.#settings.desiredMinTxMs);
    this.#requiredMinRxMs = this.#settings.requiredMinRxMs;
    this.#usedTxMs = this.#desiredMinTxMs;
    this.#usedRxMs = this.#requiredMinRxMs;
    // The first packets of many sessions are spread over the interval.
    this.#lastTxMs = nowMs;
    this.#jitter = this.#fraction();
  }

  get stateName(): string {
    return BFD_STATE_NAMES[this.state];
  }

  /** Between our periodic packets, before jitter (6.8.2). Infinity = the peer wants none. */
  get txIntervalMs(): number {
    if (this.remoteMinRxMs === 0) return Number.POSITIVE_INFINITY;
    return Math.max(this.#usedTxMs, this.remoteMinRxMs);
  }

  /** Without a packet for this long the session is down (6.8.4). 0 until the peer was heard. */
  get detectionTimeMs(): number {
    return this.remoteDetectMult * Math.max(this.#usedRxMs, this.remoteDesiredMinTxMs);
  }

  /** How long the path has to stay up before it is usable. */
  get holdDownMs(): number {
    const { holdDownMs, maximumHoldDownMs } = this.#settings;
    if (maximumHoldDownMs <= holdDownMs || this.#flaps <= 1) return holdDownMs;
    return Math.min(holdDownMs * 2 ** (this.#flaps - 1), maximumHoldDownMs);
  }

  get isPolling(): boolean {
    return this.#isPolling;
  }

  /** When poll has something to do; Infinity = only after the next packet or call. */
  get dueMs(): number {
    if (this.#finalPending) return Number.NEGATIVE_INFINITY;
    return Math.min(this.#txDueMs(), this.#expiryMs(), this.#usableMs());
  }

  /**
   * A packet that checkBfd let through, for this session (BfdSessionList.find), of `sourceAddress` and `sourcePort`. OK,
   * or why it is dropped. Never an echo: that goes back to its sender, or to EchoTest.
   */
  receive(packet: BfdPacket, nowMs: number, sourceAddress: number, sourcePort: number): number {
    if (packet.yourDiscriminator !== 0 && packet.yourDiscriminator !== this.discriminator) return DROP_BFD_SESSION;
    if (this.state === BFD_ADMIN_DOWN) return DROP_BFD_ADMIN_DOWN;
    if (packet.hasMetadata) {
      if (!this.#takeMetadata(packet)) return DROP_BFD_SEQUENCE;
      this.#takeSource(sourceAddress, sourcePort);
    } else {
      this.peerAddress = sourceAddress;
      this.peerPort = sourcePort;
    }
    this.#lastRxMs = nowMs;
    this.remoteDiscriminator = packet.myDiscriminator;
    this.remoteState = packet.state;
    this.remoteDiagnostic = packet.diagnostic;
    this.remoteDemand = packet.demand;
    this.remoteDetectMult = packet.detectMult;
    this.remoteDesiredMinTxMs = packet.desiredMinTxUs / 1000;
    this.remoteMinRxMs = packet.requiredMinRxUs / 1000;
    this.remoteMinEchoRxMs = packet.requiredMinEchoRxUs / 1000;
    if (packet.final && this.#isPolling && this.#answersPoll(packet)) this.#endPoll();
    this.#step(packet.state, nowMs);
    if (packet.poll) this.#finalPending = true;
    return OK;
  }

  /** Let time pass. True while a packet has to go now: call send, then poll again. */
  poll(nowMs: number): boolean {
    if (nowMs >= this.#expiryMs()) {
      this.#forgetRemote();
      this.#step(DETECTION_TIME_PASSED, nowMs);
    }
    if (nowMs >= this.#usableMs()) {
      this.usable = true;
      this.#events |= BFD_EVENT_USABLE;
    }
    return this.#finalPending || nowMs >= this.#txDueMs();
  }

  /** Fill `out` with the packet to send at nowMs, and count it as sent. Call when poll says so. */
  send(out: BfdPacket, nowMs: number): void {
    this.#fill(out);
    // Never both (6.5).
    out.final = this.#finalPending;
    out.poll = this.#isPolling && !this.#finalPending;
    this.txSequence = (this.txSequence + 1) >>> 0;
    if (this.#identity !== null) this.#describe(this.#identity, out);
    if (this.#finalPending) {
      // Out of turn (6.5): the interval goes on, unless the poll sequence of our own waits to begin.
      this.#finalPending = false;
      if (!this.#isPolling) this.#isUrgent = false;
      return;
    }
    this.#isUrgent = false;
    this.#lastTxMs = nowMs;
    if (nowMs - this.#freshMs >= FRESH_MS / 2) {
      this.#freshAfter = this.#freshNext;
      this.#freshNext = this.txSequence - 1;
      this.#freshMs = nowMs;
    }
    // 75 to 100 %; when one lost packet is a detection time, never more than 90 % (6.8.7).
    this.#jitter = 0.75 + this.#fraction() * (this.#settings.detectMult === 1 ? 0.15 : 0.25);
  }

  /**
   * Fill `out` with an echo: a control packet that no session takes, which the peer sends back as it came. `sequence` is
   * the echo test's own. Not in plain mode.
   */
  fillEcho(out: BfdPacket, sequence: number, nowUs: number): void {
    invariant(this.#identity !== null, "an echo needs metadata");
    this.#fill(out);
    this.#describe(this.#identity, out);
    out.txSequence = sequence;
    out.echoTimeUs = Math.floor(nowUs);
  }

  /** Fill `out` with an MTU probe: `size` is what the packet will have once it is padded. Not in plain mode. */
  fillProbe(out: BfdPacket, number: number, size: number): void {
    this.#fillBeside(out, size);
    out.probe = number;
  }

  /** Fill `out` with the answer to the peer's MTU probe `number`, which came with `size` bytes. */
  fillProbeAnswer(out: BfdPacket, number: number, size: number): void {
    this.#fillBeside(out, size);
    out.probeAnswer = number;
  }

  /** Fill `out` with a packet of the firewall detector: of this burst, at this place. Not in plain mode. */
  fillFirewallTest(out: BfdPacket, burst: number, place: number): void {
    this.#fillBeside(out, 0);
    out.firewallTest = place;
    out.firewallBurst = burst;
  }

  /** Fill `out` with the answer to that of the peer, which has these places of its burst behind it over TCP. */
  fillFirewallAnswer(out: BfdPacket, burst: number, place: number, heard: number): void {
    this.#fillBeside(out, 0);
    out.firewallAnswer = place;
    out.firewallBurst = burst;
    out.firewallHeard = heard;
  }

  /** A packet that no session takes. One that knows no probes sees the packet before once more, and drops it. */
  #fillBeside(out: BfdPacket, size: number): void {
    invariant(this.#identity !== null, "a probe needs metadata");
    this.#fill(out);
    this.#describe(this.#identity, out);
    out.probeSize = size;
  }

  /**
   * A packet of the peer whose digest is right for another time than ours. True when it is fresh all the same: it knows
   * what we have sent in the last seconds, which no packet from before can. Either way the peer is told which of its
   * packets we saw, so that it can find out the same.
   */
  isFresh(packet: BfdPacket): boolean {
    this.#skewedSequence = packet.txSequence;
    const since = (packet.rxSequence - this.#freshAfter) | 0;
    return packet.rxSequence >= 0 && since > 0 && ((this.txSequence - packet.rxSequence) | 0) >= 0;
  }

  /** Whether a packet with the session's discriminator as its sender's is our own, come back. */
  isOwnEcho(packet: BfdPacket): boolean {
    const own = this.#identity;
    return own !== null && packet.echoTimeUs >= 0 && packet.nodeId === own.nodeId && packet.bootId === own.bootId;
  }

  /** What happened since the last call, as BFD_EVENT bits. */
  takeEvents(): number {
    const events = this.#events;
    this.#events = 0;
    return events;
  }

  /** Go on with other settings; a poll sequence tells the peer. */
  configure(settings: BfdSettings): void {
    if (settings.detectMult !== this.#settings.detectMult) this.#isUrgent = true;
    this.#settings = settings;
    this.#announce();
  }

  /** Administratively down: the peer is told for as long as it takes it to notice, then nothing is sent (6.8.16). */
  disable(nowMs: number): void {
    if (this.state === BFD_ADMIN_DOWN) return;
    this.#step(DISABLED, nowMs);
    this.#isPolling = false;
    this.#finalPending = false;
    this.#lastRxMs = -1;
    const intervalMs = Math.max(this.#usedTxMs, this.remoteMinRxMs);
    this.#farewellMs = nowMs + this.#settings.detectMult * intervalMs;
  }

  enable(nowMs: number): void {
    this.#step(ENABLED, nowMs);
  }

  /** Everything but settings and identity, so that the peer sees no other session. */
  save(out: StateWriter): void {
    for (const code of [this.state, this.diagnostic, this.remoteState, this.remoteDiagnostic]) out.u8(code);
    for (const name of NUMBERS) out.f64(this[name]);
    for (const name of FLAGS) out.flag(this[name]);
    out.text(this.routerName);
    out.u64(this.bootId);
    for (const value of this.#privateNumbers()) out.f64(value);
    for (const value of [this.#isPolling, this.#pollAgain, this.#finalPending, this.#isUrgent, this.#knowsNode])
      out.flag(value);
  }

  /** Into a session just made, of the same discriminator and settings. */
  restore(from: StateReader): void {
    this.state = from.code(BFD_UP);
    this.diagnostic = from.code(DIAGNOSTIC_MAX);
    this.remoteState = from.code(BFD_UP);
    this.remoteDiagnostic = from.code(DIAGNOSTIC_MAX);
    for (const name of NUMBERS) this[name] = from.f64();
    for (const name of FLAGS) this[name] = from.flag();
    this.routerName = from.text();
    this.bootId = from.u64();
    [
      this.#desiredMinTxMs,
      this.#requiredMinRxMs,
      this.#usedTxMs,
      this.#usedRxMs,
      this.#pollSequence,
      this.#lastTxMs,
      this.#jitter,
      this.#farewellMs,
      this.#lastRxMs,
      this.#flaps,
      this.#events,
      this.#rxDiscriminator,
    ] = Array.from(this.#privateNumbers(), () => from.f64());
    this.#isPolling = from.flag();
    this.#pollAgain = from.flag();
    this.#finalPending = from.flag();
    this.#isUrgent = from.flag();
    this.#knowsNode = from.flag();
    if (!(this.#usedTxMs > 0) || !(this.#desiredMinTxMs > 0))
      throw new StateError("a BFD session sends at no interval");
  }

  /** In the order in which restore reads them. */
  #privateNumbers(): number[] {
    return [
      this.#desiredMinTxMs,
      this.#requiredMinRxMs,
      this.#usedTxMs,
      this.#usedRxMs,
      this.#pollSequence,
      this.#lastTxMs,
      this.#jitter,
      this.#farewellMs,
      this.#lastRxMs,
      this.#flaps,
      this.#events,
      this.#rxDiscriminator,
    ];
  }

  #fill(out: BfdPacket): void {
    out.clearMetadata();
    out.state = this.state;
    out.diagnostic = this.diagnostic;
    out.poll = false;
    out.final = false;
    out.controlPlaneIndependent = false;
    out.demand = false;
    out.detectMult = this.#settings.detectMult;
    out.myDiscriminator = this.discriminator;
    out.yourDiscriminator = this.remoteDiscriminator;
    out.desiredMinTxUs = Math.round(this.#desiredMinTxMs * 1000);
    out.requiredMinRxUs = Math.round(this.#requiredMinRxMs * 1000);
    out.requiredMinEchoRxUs = 0;
  }

  #describe(identity: BfdIdentity, out: BfdPacket): void {
    out.hasMetadata = true;
    out.routerName = identity.routerName;
    out.nodeId = identity.nodeId;
    out.bootId = identity.bootId;
    out.requiredMinEchoRxUs = Math.round(this.#settings.requiredMinEchoRxMs * 1000);
    out.txSequence = this.txSequence;
    out.ownAddress = this.ownAddress;
    out.ownPort = this.ownPort;
    out.observedAddress = this.peerAddress;
    out.observedPort = this.peerPort;
    out.rxSequence = this.#skewedSequence >= 0 ? this.#skewedSequence : this.rxSequence;
    if (this.rxSequence >= 0) out.rxCount = this.rxCount;
  }

  /** False when the packet is older than one that came, or the same again. */
  #takeMetadata(packet: BfdPacket): boolean {
    const isSameNode = this.#knowsNode && packet.nodeId === this.nodeId && packet.bootId === this.bootId;
    // Numbers run on within one session of one node: a session made anew has a discriminator of its own.
    if (isSameNode && packet.myDiscriminator === this.#rxDiscriminator && this.rxSequence >= 0) {
      if (((packet.txSequence - this.rxSequence) | 0) <= 0) return false;
      this.rxCount = (this.rxCount + 1) >>> 0;
    } else {
      this.rxCount = 1;
    }
    this.#skewedSequence = -1;
    if (this.#knowsNode && !isSameNode) this.#events |= BFD_EVENT_RESTART;
    this.#knowsNode = true;
    this.nodeId = packet.nodeId;
    this.bootId = packet.bootId;
    this.routerName = packet.routerName;
    this.rxSequence = packet.txSequence;
    this.#rxDiscriminator = packet.myDiscriminator;
    this.peerOwnAddress = packet.ownAddress;
    this.peerOwnPort = packet.ownPort;
    if (packet.observedPort === 0) return true;
    const isOther = packet.observedAddress !== this.observedAddress || packet.observedPort !== this.observedPort;
    if (isOther && this.observedPort !== 0) this.#events |= BFD_EVENT_LOCAL_NAT;
    this.observedAddress = packet.observedAddress;
    this.observedPort = packet.observedPort;
    return true;
  }

  #takeSource(address: number, port: number): void {
    const isOther = address !== this.peerAddress || port !== this.peerPort;
    if (!isOther) return;
    if (this.peerPort !== 0) {
      this.#events |= BFD_EVENT_PEER_NAT;
      this.#isUrgent = true; // the peer learns it from what we report
    }
    this.peerAddress = address;
    this.peerPort = port;
  }

  #step(event: number, nowMs: number): void {
    const next = nextBfdState(this.state, event);
    if (next === undefined) return;
    const before = this.state;
    this.state = next.state;
    if (next.diagnostic !== DIAGNOSTIC_KEPT) this.diagnostic = next.diagnostic;
    this.#isUrgent = true;
    if (before === BFD_UP) {
      this.#events |= BFD_EVENT_DOWN;
      this.downs++;
      this.#countFlap(nowMs);
      if (this.usable) this.#events |= BFD_EVENT_UNUSABLE;
      this.usable = false;
      this.upSinceMs = -1;
    }
    if (this.state === BFD_UP) {
      this.#events |= BFD_EVENT_UP;
      this.upSinceMs = nowMs;
    } else {
      this.#usedTxMs = this.#desiredMinTxMs;
      this.#usedRxMs = this.#requiredMinRxMs;
    }
    this.#announce();
  }

  /** A time of quiet before it makes this flap the first again. */
  #countFlap(nowMs: number): void {
    const quietMs = Math.min(QUIET_HOLD_DOWNS * this.holdDownMs, this.#settings.maximumHoldDownMs);
    this.#flaps = nowMs - this.upSinceMs >= this.holdDownMs + quietMs ? 1 : this.#flaps + 1;
  }

  /** Bring what our packets say up to settings and state, by a poll sequence when a peer listens (6.8.3). */
  #announce(): void {
    const { desiredMinTxMs, requiredMinRxMs } = this.#settings;
    const isUp = this.state === BFD_UP;
    const desiredMs = isUp ? desiredMinTxMs : Math.max(SLOW_TX_MS, desiredMinTxMs);
    if (desiredMs === this.#desiredMinTxMs && requiredMinRxMs === this.#requiredMinRxMs) return;
    this.#desiredMinTxMs = desiredMs;
    this.#requiredMinRxMs = requiredMinRxMs;
    if (!isUp || desiredMs < this.#usedTxMs) this.#usedTxMs = desiredMs;
    if (!isUp || requiredMinRxMs > this.#usedRxMs) this.#usedRxMs = requiredMinRxMs;
    this.#isUrgent = true;
    if (this.remoteDiscriminator === 0 || this.state === BFD_ADMIN_DOWN) return;
    if (this.#isPolling) this.#pollAgain = true;
    else this.#startPoll();
  }

  #startPoll(): void {
    this.#isPolling = true;
    this.#pollAgain = false;
    this.#pollSequence = (this.txSequence + 1) >>> 0;
    this.#isUrgent = true;
  }

  /** A late answer to an earlier poll sequence is none to this one; only metadata tells them apart. */
  #answersPoll(packet: BfdPacket): boolean {
    return packet.rxSequence < 0 || ((packet.rxSequence - this.#pollSequence) | 0) >= 0;
  }

  #endPoll(): void {
    this.#isPolling = false;
    if (this.#pollAgain) {
      this.#startPoll();
      return;
    }
    this.#usedTxMs = this.#desiredMinTxMs;
    this.#usedRxMs = this.#requiredMinRxMs;
  }

  /** Nothing came for the detection time (6.8.1): whoever comes next may be another. */
  #forgetRemote(): void {
    this.#lastRxMs = -1;
    this.remoteDiscriminator = 0;
    this.remoteMinRxMs = REMOTE_MIN_RX_MS;
    this.remoteDemand = false;
    this.#isPolling = false;
  }

  #txDueMs(): number {
    if (this.state === BFD_ADMIN_DOWN && this.#lastTxMs >= this.#farewellMs) return Number.POSITIVE_INFINITY;
    if (this.remoteMinRxMs === 0) return Number.POSITIVE_INFINITY;
    // The peer checks the path itself, by polls (6.6).
    const isDemandActive = this.remoteDemand && this.state === BFD_UP && this.remoteState === BFD_UP;
    if (isDemandActive && !this.#isPolling) return Number.POSITIVE_INFINITY;
    return this.#isUrgent ? Number.NEGATIVE_INFINITY : this.#lastTxMs + this.txIntervalMs * this.#jitter;
  }

  #expiryMs(): number {
    return this.#lastRxMs < 0 ? Number.POSITIVE_INFINITY : this.#lastRxMs + this.detectionTimeMs;
  }

  #usableMs(): number {
    return this.state !== BFD_UP || this.usable ? Number.POSITIVE_INFINITY : this.upSinceMs + this.holdDownMs;
  }

  /** From 0 (inclusive) to 1 (exclusive). */
  #fraction(): number {
    return (this.#random.nextI32() >>> 0) / 0x1_0000_0000;
  }
}

/** A router's sessions, and which of them a packet is for (RFC 5880, 6.3). */
export class BfdSessionList {
  readonly #byDiscriminator = new Map<number, BfdSession>();
  readonly #byPath = new Map<number, BfdSession>();

  /** A discriminator that no session has. */
  draw(random: RandomSource): number {
    for (;;) {
      const discriminator = random.nextI32() >>> 0;
      if (discriminator !== 0 && !this.#byDiscriminator.has(discriminator)) return discriminator;
    }
  }

  add(session: BfdSession): void {
    this.#byDiscriminator.set(session.discriminator, session);
    this.#byPath.set(session.path, session);
  }

  remove(session: BfdSession): void {
    this.#byDiscriminator.delete(session.discriminator);
    this.#byPath.delete(session.path);
  }

  /**
   * The session a packet is for: by our discriminator whatever its source, as NAT may have changed that; by its peer path
   * when it has none yet. `path` -1 = the source is none of a path's. Undefined = DROP_BFD_SESSION.
   */
  find(yourDiscriminator: number, path: number): BfdSession | undefined {
    return yourDiscriminator !== 0 ? this.#byDiscriminator.get(yourDiscriminator) : this.#byPath.get(path);
  }

  [Symbol.iterator](): Iterator<BfdSession> {
    return this.#byPath.values();
  }
}
