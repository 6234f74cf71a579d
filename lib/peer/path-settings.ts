// How a peer path is watched, and what is known of its quality: shapes between the configuration, whoever monitors
// paths, and whoever chooses among them.

import type { TestResult } from "./firewall-detector.ts";

/** BFD (RFC 5880) and the link test of one peer path (protocol sheet 6.1, 6.3). */
export interface BfdSettings {
  /** False = the path is taken as up. */
  readonly enabled: boolean;
  readonly desiredTxMs: number;
  readonly requiredMinRxMs: number;
  readonly requiredMinEchoMs: number;
  readonly multiplier: number;
  /** How long a path must have been up again before it is used. */
  readonly holdDownMs: number;
  /** The hold-down grows with each failure, up to `maximumHoldDownMs`. */
  readonly dampening: boolean;
  readonly maximumHoldDownMs: number;
  readonly linkTestIntervalMs: number;
  /** Echo packets in one test; 0 = no test. */
  readonly linkTestLength: number;
  readonly dscp: number;
}

/** Path MTU discovery by probes of one peer path that BFD with metadata watches (protocol sheet 6.5). */
export interface MtuDiscoverySettings {
  readonly enabled: boolean;
  /** How often it is looked whether the path takes more than it did. */
  readonly intervalMs: number;
}

export const MTU_DISCOVERY_DEFAULTS: MtuDiscoverySettings = { enabled: true, intervalMs: 600_000 };

/** How TCP sessions that we begin travel over a path (protocol sheet 2.5). */
export interface UdpTransformSettings {
  /** `auto-detect`: as UDP while a firewall on the path takes no TCP of ours; see firewall-detector.ts. */
  readonly mode: "off" | "always" | "auto-detect";
  /** How often that is looked at. */
  readonly intervalMs: number;
}

export const UDP_TRANSFORM_DEFAULTS: UdpTransformSettings = { mode: "off", intervalMs: 300_000 };

/** What the firewall detector says of a path. */
export interface FirewallView {
  /** TCP does not get through. */
  readonly isBlocked: boolean;
  /** In the order of TEST_NAMES. */
  readonly results: readonly TestResult[];
  /** Whether the peer answered when it was last asked. */
  readonly isAnswered: boolean;
  /** How long ago a round has concluded something; Infinity = none has. */
  readonly judgedAgeMs: number;
}

/** What it has done on a path since the start. */
export interface FirewallCounts {
  testsSent: number;
  answersReceived: number;
  testsAnswered: number;
  /** Packets on its ports or of its form that were no tests and no answers, or came before. */
  refused: number;
  /** Rounds in which a test has failed. */
  failedRounds: number;
}

export const NO_FIREWALL_COUNTS: Readonly<FirewallCounts> = {
  testsSent: 0,
  answersReceived: 0,
  testsAnswered: 0,
  refused: 0,
  failedRounds: 0,
};

/** Who told what a path takes. */
export type MtuSource = "interface" | "icmp" | "probe";

/** `svr`: with our metadata behind the control packet; `bfd`: bare RFC 5881 packets, for routers that are not Waymark. */
export type PathMode = "svr" | "bfd";

/** What is added to the TTL toward the peer; `automatic`: the routers that its BFD has passed. */
export type TtlPadding = number | "automatic";

/** What stands between us and the peer of a path. */
export interface NatSettings {
  /** The peer is behind a NAT: its address is not known before BFD has heard it, and may change. */
  readonly isDynamic: boolean;
  /** We are: the peer cannot send to us first, but by the way that our BFD keeps open. */
  readonly isOutboundOnly: boolean;
  /** A session of which we have sent nothing for so long sends an empty packet, to keep its mapping; 0 = never. */
  readonly keepAliveMs: number;
}

export const NO_NAT: NatSettings = { isDynamic: false, isOutboundOnly: false, keepAliveMs: 0 };

/** What link tests say of a path; NaN = not known. */
export interface PathQualityView {
  readonly lossPercent: number;
  /** One way: half the round trip (protocol sheet 6.3). */
  readonly latencyMs: number;
  readonly jitterMs: number;
  /** Mean opinion score, 1 to 4.4. */
  readonly mos: number;
}

export const UNKNOWN_QUALITY: PathQualityView = {
  lossPercent: Number.NaN,
  latencyMs: Number.NaN,
  jitterMs: Number.NaN,
  mos: Number.NaN,
};

/** What choosing among peer paths asks of one: see session/path-choice.ts. */
export interface PathView {
  readonly row: number;
  /** Row of the peer it leads to. */
  readonly peer: number;
  readonly up: boolean;
  readonly quality: PathQualityView;
}
