import { StateError, type StateReader, type StateWriter } from "../base/state.ts";
import type { Security } from "../crypto/key-ring.ts";
import { ShardedPortPool } from "../table/port-pool.ts";
import { BFD_PORT_PEER } from "../wire/bfd.ts";
import { PROTOCOL_TCP } from "../wire/flow-key.ts";
import type { InlineMetrics } from "./inline-metrics.ts";
import { PATH_MTU_MIN } from "./mtu-search.ts";
import type { NeighborTable } from "./neighbor.ts";
import {
  type BfdSettings,
  MTU_DISCOVERY_DEFAULTS,
  type MtuDiscoverySettings,
  type MtuSource,
  type NatSettings,
  NO_NAT,
  type PathMode,
  type PathQualityView,
  type PathView,
  type TtlPadding,
  UDP_TRANSFORM_DEFAULTS,
  type UdpTransformSettings,
  UNKNOWN_QUALITY,
} from "./path-settings.ts";
import { isOwnAddress, nextHopAddress, type RouterInterface } from "./router-interface.ts";

// One local waypoint address ↔ one remote waypoint address: the way to a peer. Its port pairs are its own, because a
// pair must be unique only within (local address, remote address, protocol) (protocol sheet 2.3).

/** Control messages a router answers per second and path (protocol sheet 4.5). */
const CONTROL_ANSWERS_PER_SECOND = 10;
/** A port pair rests this long between two sessions: late packets of one must not meet the other. */
const QUARANTINE_MS = 10_000;
/** For how long after we asked for a session's metadata it may come. */
const ASKED_MS = 5000;
/** Of a router that has just started: after one session that a peer gives back, the next one may take so long. */
const MORE_MS = 1000;
/** RFC 1191, 6.3. */
const MTU_KNOWN_MS = 600_000;
const ASKED_MAX = CONTROL_ANSWERS_PER_SECOND * (ASKED_MS / 1000);

export class PeerPath implements PathView {
  /** Row number in the router's list of paths. */
  readonly row: number;
  /** Row number of the peer in the configuration. */
  readonly peer: number;
  readonly peerName: string;
  readonly interfaceId: number;
  readonly local: number;
  /** 0 = not known yet: the peer is behind a NAT. */
  remote: number;
  /** Where the peer's BFD comes from: NAT may have changed its port. */
  remotePort = BFD_PORT_PEER;
  readonly nat: NatSettings;
  /** "" = none. */
  readonly vector: string;
  readonly cost: number;
  readonly mode: PathMode;
  readonly bfd: BfdSettings;
  readonly mtuDiscovery: MtuDiscoverySettings;
  /** The text of `local`: how metadata names our end of the path (attribute 19). */
  readonly pathId: Uint8Array;
  /** Neighbor row of the next hop on the way to `remote`; -1 = not known yet. */
  nextHop: number;
  /** How packets between us and this peer are signed and metadata is encrypted; null = not at all. */
  readonly security: Security | null;
  /** Milliseconds by which the peer's clock was ahead of ours when one of its digests was last refused for it; NaN = never. */
  clockSkewMs = Number.NaN;
  /** When that was. */
  skewedAtMs = Number.NEGATIVE_INFINITY;
  /** Time windows by which the peer's clock is ahead of ours, learned from BFD packets that prove to be fresh. */
  learnedWindows = 0;
  readonly udpTransform: UdpTransformSettings;
  /** A firewall on the path takes no TCP of ours, as tests have shown. Who changes it bumps the flow table's generation. */
  blocksTcp = false;
  readonly #ttlPadding: TtlPadding;
  /** Routers between us and the peer, as the TTL of its BFD has shown; 0 = none, or not known. */
  hops = 0;
  readonly tcpPorts: ShardedPortPool;
  readonly udpPorts: ShardedPortPool;
  /** Taken as up until paths are monitored, if it is known where the peer is. Who changes it bumps the flow table's generation. */
  up: boolean;
  /** Until then the peer may give back sessions that this router had before it started. */
  givingBackUntilMs = Number.NEGATIVE_INFINITY;
  /** Why it is up or down, in a few words for operators. */
  why = "not monitored";
  /** When it last went up or down; null = not since the start. */
  sinceMs: number | null = null;
  /** Who measures puts its own here, or numbers anew; then PathChoice.evaluate is called. */
  quality: PathQualityView = UNKNOWN_QUALITY;
  /** What sessions' own packets tell of the path (attribute 26); null = they are not asked. */
  metrics: InlineMetrics | null = null;
  /** A session and direction, 2 * row + direction, whose packets go to the peer: the last one that the peer's marks came by; -1 = none. */
  metricsBy = -1;
  // The largest packet that the path takes is the least of three: what the interface takes, what probes found, and what an ICMP
  // error told after the latest round of probes began. So the later word counts, and without one the interface's.
  readonly interfaceMtu: number;
  /** Of probes; 0 = not known. */
  #mtuProbed = 0;
  /** Of an ICMP error; 0 = none has told anything. */
  #mtuTold = 0;
  #mtuToldMs = Number.NEGATIVE_INFINITY;
  #mtu: number;
  #mtuSource: MtuSource = "interface";
  #mtuSinceMs: number | null = null;
  /** Called when the MTU has changed. */
  mtuObserver: ((nowMs: number) => void) | null = null;
  /** The same, and when it is another because the state of another process was taken up. */
  mtuFollower: (() => void) | null = null;
  /** Live sessions over this path. */
  sessions = 0;
  /** Waypoint ports, as we send them, of sessions whose metadata was asked for, and when; the oldest makes room. */
  readonly #asked = new Int32Array(ASKED_MAX);
  readonly #askedMs = new Float64Array(ASKED_MAX).fill(Number.NEGATIVE_INFINITY);
  #askedNext = 0;
  #answersLeft = CONTROL_ANSWERS_PER_SECOND;
  #answersSinceMs = 0;

  constructor(options: {
    row: number;
    peer: number;
    peerName: string;
    interfaceId: number;
    local: number;
    remote: number;
    vector: string;
    cost: number;
    mode: PathMode;
    bfd: BfdSettings;
    mtuDiscovery?: MtuDiscoverySettings;
    pathId: Uint8Array;
    nextHop: number;
    nat?: NatSettings;
    ttlPadding?: TtlPadding;
    udpTransform?: UdpTransformSettings;
    /** Of the interface. */
    mtu: number;
    security: Security | null;
    portPairs: number;
    /** Which of the router's workers this is, and how many there are: each has its own pairs. */
    worker: number;
    workers: number;
  }) {
    this.row = options.row;
    this.peer = options.peer;
    this.peerName = options.peerName;
    this.interfaceId = options.interfaceId;
    this.local = options.local;
    this.remote = options.remote;
    this.vector = options.vector;
    this.cost = options.cost;
    this.mode = options.mode;
    this.bfd = options.bfd;
    this.mtuDiscovery = options.mtuDiscovery ?? MTU_DISCOVERY_DEFAULTS;
    this.pathId = options.pathId;
    this.nextHop = options.nextHop;
    this.nat = options.nat ?? NO_NAT;
    this.#ttlPadding = options.ttlPadding ?? 0;
    this.udpTransform = options.udpTransform ?? UDP_TRANSFORM_DEFAULTS;
    this.#mtu = options.mtu;
    this.interfaceMtu = options.mtu;
    this.up = !this.nat.isDynamic;
    this.security = options.security;
    const { portPairs, worker, workers } = options;
    this.tcpPorts = new ShardedPortPool(portPairs, QUARANTINE_MS, worker, workers);
    this.udpPorts = new ShardedPortPool(portPairs, QUARANTINE_MS, worker, workers);
  }

  /** The pairs for sessions of `protocol` on the wire. */
  ports(protocol: number): ShardedPortPool {
    return protocol === PROTOCOL_TCP ? this.tcpPorts : this.udpPorts;
  }

  /**
   * The peer behind a NAT is at `address` and `port` now: what is sent from now on goes there. Sessions keep the tuple they
   * have until the peer tells them again. Returns false, and changes nothing, when there is no way there.
   */
  reach(address: number, port: number, at: RouterInterface, neighbors: NeighborTable, nowMs: number): boolean {
    this.remotePort = port;
    if (address === this.remote) return true;
    const hop = isOwnAddress(at, address) ? null : nextHopAddress(at, address);
    const nextHop = hop === null ? -1 : neighbors.want(at.id, hop, nowMs);
    if (nextHop < 0) return false;
    neighbors.acquire(nextHop);
    if (this.nextHop >= 0) neighbors.release(this.nextHop);
    this.remote = address;
    this.nextHop = nextHop;
    return true;
  }

  /** The largest packet that the path is known to take. */
  mtu(nowMs: number): number {
    if (this.#mtuTold !== 0 && nowMs - this.#mtuToldMs >= MTU_KNOWN_MS) {
      this.#mtuTold = 0;
      this.#settleMtu(nowMs);
    }
    return this.#mtu;
  }

  /** The same as it was when somebody last asked. */
  get leastMtu(): number {
    return this.#mtu;
  }

  /** Who told it, and when it became so; null = not since the start. Call behind mtu. */
  get mtuSource(): MtuSource {
    return this.#mtuSource;
  }

  get mtuSinceMs(): number | null {
    return this.#mtuSinceMs;
  }

  /**
   * Something on the path takes no more than `mtu` (RFC 1191). It is forgotten after ten minutes, for it may have changed, and when
   * probes have looked since.
   */
  learnMtu(mtu: number, nowMs: number): void {
    if (mtu >= this.mtu(nowMs)) return;
    this.#mtuTold = mtu;
    this.#mtuToldMs = nowMs;
    this.#settleMtu(nowMs);
  }

  /** What the latest round of probes found, begun at `beganMs`: it holds until the next. 0 = they tell nothing. */
  probedMtu(mtu: number, beganMs: number, nowMs: number): void {
    this.#mtuProbed = mtu;
    if (mtu !== 0 && beganMs > this.#mtuToldMs) this.#mtuTold = 0;
    this.#settleMtu(nowMs);
  }

  #settleMtu(nowMs: number): void {
    const mtu = this.#leastMtu();
    if (mtu === this.#mtu) return;
    this.#mtu = mtu;
    this.#mtuSinceMs = nowMs;
    this.mtuFollower?.();
    this.mtuObserver?.(nowMs);
  }

  #leastMtu(): number {
    const told = this.#mtuTold === 0 ? this.interfaceMtu : this.#mtuTold;
    const probed = this.#mtuProbed === 0 ? this.interfaceMtu : Math.min(this.#mtuProbed, this.interfaceMtu);
    const mtu = Math.min(told, probed);
    const isTold = this.#mtuTold !== 0 && told <= probed;
    this.#mtuSource = isTold ? "icmp" : this.#mtuProbed !== 0 ? "probe" : "interface";
    return mtu;
  }

  /** TCP sessions that we begin over the path go as UDP (protocol sheet 2.5). */
  get transformsTcp(): boolean {
    return this.blocksTcp || this.udpTransform.mode === "always";
  }

  /** What is added to the TTL of sessions' packets to the peer (protocol sheet 8). */
  get padding(): number {
    return this.#ttlPadding === "automatic" ? this.hops : this.#ttlPadding;
  }

  /** Something is, or may be once BFD has shown how much. */
  get pads(): boolean {
    return this.#ttlPadding !== 0;
  }

  /** One of the two of us is. */
  get isBehindNat(): boolean {
    return this.nat.isDynamic || this.nat.isOutboundOnly;
  }

  isGivingBack(nowMs: number): boolean {
    return nowMs < this.givingBackUntilMs;
  }

  /** The peer has given back a session: while this router has just started, more may come. */
  gaveBack(nowMs: number): void {
    if (this.isGivingBack(nowMs)) this.givingBackUntilMs = Math.max(this.givingBackUntilMs, nowMs + MORE_MS);
  }

  /** A session with these ports is not known here, and the peer was asked for its metadata. */
  hasAsked(ports: number, nowMs: number): void {
    this.#asked[this.#askedNext] = ports;
    this.#askedMs[this.#askedNext] = nowMs;
    this.#askedNext = (this.#askedNext + 1) % ASKED_MAX;
  }

  /** Whether reverse metadata on these ports may bring a session back that is not known here. */
  mayGiveBack(ports: number, nowMs: number): boolean {
    if (this.isGivingBack(nowMs)) return true;
    return this.#asked.some((asked, at) => asked === ports && nowMs - this.#askedMs[at] < ASKED_MS);
  }

  /** Where the peer is, how far, and by how much its clock differs, as BFD has shown: all that who watches the path knows of it. */
  saveLearned(out: StateWriter): void {
    out.i32(this.remote);
    out.i32(this.remotePort);
    out.f64(this.learnedWindows);
    out.u8(this.hops);
  }

  /** Call when the neighbors are restored. */
  restoreLearned(from: StateReader, at: RouterInterface, neighbors: NeighborTable, nowMs: number): void {
    const remote = from.i32();
    const port = from.row(0x10000, "port");
    this.learnedWindows = from.f64();
    this.hops = from.u8();
    if (!this.nat.isDynamic || remote === 0) return;
    if (!this.reach(remote, port, at, neighbors, nowMs)) throw new StateError("no way to where a peer was");
  }

  /** What is known of it, and its port pairs; not the sessions over it. */
  save(out: StateWriter): void {
    this.saveLearned(out);
    const { lossPercent, latencyMs, jitterMs, mos } = this.quality;
    out.flag(this.up);
    out.flag(this.blocksTcp);
    out.text(this.why);
    for (const value of [lossPercent, latencyMs, jitterMs, mos]) out.f64(value);
    for (const value of [this.givingBackUntilMs, this.clockSkewMs, this.skewedAtMs]) out.f64(value);
    out.f64(this.sinceMs ?? Number.NaN);
    for (const value of [this.#mtuProbed, this.#mtuTold, this.#mtuToldMs]) out.f64(value);
    out.f64(this.#mtuSinceMs ?? Number.NaN);
    out.i32(this.#askedNext);
    out.words(this.#asked, 0, ASKED_MAX);
    out.doubles(this.#askedMs);
    this.tcpPorts.save(out);
    this.udpPorts.save(out);
  }

  /** Call when the neighbors are restored. */
  restore(from: StateReader, at: RouterInterface, neighbors: NeighborTable, nowMs: number): void {
    this.restoreLearned(from, at, neighbors, nowMs);
    this.up = from.flag();
    this.blocksTcp = from.flag();
    this.why = from.text();
    this.quality = { lossPercent: from.f64(), latencyMs: from.f64(), jitterMs: from.f64(), mos: from.f64() };
    this.givingBackUntilMs = from.f64();
    this.clockSkewMs = from.f64();
    this.skewedAtMs = from.f64();
    const sinceMs = from.f64();
    this.sinceMs = Number.isNaN(sinceMs) ? null : sinceMs;
    this.#restoreMtu(from);
    this.#askedNext = from.row(ASKED_MAX, "place");
    from.words(this.#asked, 0, ASKED_MAX);
    from.doubles(this.#askedMs, "sessions asked for");
    this.tcpPorts.restore(from);
    this.udpPorts.restore(from);
  }

  #restoreMtu(from: StateReader): void {
    const [probed, told, toldMs, sinceMs] = Array.from({ length: 4 }, () => from.f64());
    const isSize = (mtu: number) => mtu === 0 || (mtu >= PATH_MTU_MIN && mtu <= 0xffff);
    if (!isSize(probed) || !isSize(told)) throw new StateError("a path takes packets of no size that it could");
    this.#mtuProbed = probed;
    this.#mtuTold = told;
    this.#mtuToldMs = toldMs;
    this.#mtu = this.#leastMtu();
    this.#mtuSinceMs = Number.isNaN(sinceMs) ? null : sinceMs;
    this.mtuFollower?.();
  }

  /** True when one more control message may be answered in this second. */
  mayAnswer(nowMs: number): boolean {
    if (nowMs - this.#answersSinceMs >= 1000) {
      this.#answersSinceMs = nowMs;
      this.#answersLeft = CONTROL_ANSWERS_PER_SECOND;
    }
    if (this.#answersLeft === 0) return false;
    this.#answersLeft--;
    return true;
  }
}
