// The configuration: what the operator writes, checked, as the shapes the rest of the house reads. Text in, and either
// a Config or every mistake at once with its line, column and mend. README.md beside this file is the reference of
// keys. Three steps: YAML to plain values (config-source.ts), values to shapes (config-schema.ts), shapes to meaning
// (config-check.ts). compile.ts turns a Config into tables; nothing behind it needs to doubt what stands here.

import type { CipherAlgorithm, HmacAlgorithm } from "../crypto/packet-crypto.ts";
import type {
  BfdSettings,
  MtuDiscoverySettings,
  PathMode,
  TtlPadding,
  UdpTransformSettings,
} from "../peer/path-settings.ts";
import type { InterfaceAddress, Prefix } from "./address-text.ts";
import { checkMeaning } from "./config-check.ts";
import { readDraft } from "./config-schema.ts";
import { ConfigSource, type Problem } from "./config-source.ts";
import type { KeyVersion } from "./key-material.ts";

export type { InterfaceAddress, Prefix } from "./address-text.ts";
export { formatProblem, type Problem } from "./config-source.ts";

export interface Config {
  readonly authority: string;
  readonly router: string;
  readonly control: { readonly socket: string };
  /** Threads that forward, each with its own sessions; 1 = the main thread does. */
  readonly workers: number;
  readonly log: { readonly level: LogLevel };
  readonly sessions: {
    readonly max: number;
    /** How a lost session is noticed (protocol sheet 4.5): a peer's health check, or any packet of its. */
    readonly recovery: "inactivity-based" | "packet-based";
    readonly inactivityMs: number;
  };
  readonly limits: Limits;
  /** Path metrics in sessions' own packets; null = none. */
  readonly pathMetrics: {
    readonly markingCount: number;
    readonly intervalMs: number;
    /** They are shown, and choose no path. */
    readonly monitorOnly: boolean;
  } | null;
  readonly interfaces: readonly InterfaceConfig[];
  readonly tenants: readonly TenantConfig[];
  readonly services: readonly ServiceConfig[];
  readonly serviceRoutes: readonly ServiceRouteConfig[];
  readonly peers: readonly PeerConfig[];
  readonly servicePolicies: readonly ServicePolicyConfig[];
  readonly serviceClasses: readonly ServiceClassConfig[];
  readonly securityPolicies: readonly SecurityPolicyConfig[];
}

export type LogLevel = "trace" | "debug" | "info" | "warn" | "error" | "fatal" | "silent";

/** Capacities fixed at start; README.md says what happens when each is full. */
export interface Limits {
  readonly holdFrames: number;
  readonly holdFramesPerNeighbor: number;
  readonly neighbors: number;
  readonly slowPathPerTurn: number;
  readonly waypointPairsPerPath: number;
  readonly fabricChains: number;
  readonly ipFragments: number;
  /** IPv6 addresses that are known at a time (table/address-book.ts). */
  readonly ipv6Addresses: number;
  readonly duplicatedSessions: number;
  /** Null = no limit. */
  readonly halfOpen: number | null;
}

export interface InterfaceConfig {
  readonly name: string;
  /** Linux network device. */
  readonly device: string;
  /** At least one; prefixes of different interfaces do not overlap. */
  readonly addresses: readonly InterfaceAddress[];
  /** Tenant of sources that no tenant's members name. */
  readonly tenant: string | null;
  /** On-link; for next hops that are not. */
  readonly gateway: number | null;
  readonly kernel: "exclusive" | "shared";
  readonly kernelAllow: readonly KernelAllow[];
  /** af-packet: super-frames whole where the kernel can, else libpcap all the same. */
  readonly backend: "libpcap" | "af-packet";
  /** For replay and explain, which have no device to ask; lower case. */
  readonly mac: string | null;
  /** Lowers the device's. */
  readonly mtu: number | null;
  readonly promiscuous: boolean;
  /** Hosts there hear who routes and which prefixes there are (RFC 4861, 6.2); of IPv6 alone. */
  readonly routerAdvertisements: boolean;
  /** Ingress source NAT: what the last router presents of sessions that begin here; empty = sources stay as they are. */
  readonly sourceNatPool: readonly Prefix[];
}

/** What the kernel's own stack may still receive: for tcp and udp by destination port. */
export interface KernelAllow {
  readonly kind: "arp" | "ndp" | "icmp" | "tcp" | "udp";
  readonly from: number;
  readonly to: number;
}

export interface TenantConfig {
  readonly name: string;
  /** Sources that are this tenant by address; the longest prefix of an interface decides. */
  readonly members: readonly { readonly interface: string; readonly prefixes: readonly Prefix[] }[];
  /** Null = no limit. */
  readonly maxSessions: number | null;
  readonly maxHalfOpen: number | null;
  /** Of packets that open no session: dropped without a word, or its sender is told. */
  readonly refused: "drop" | "reject";
}

export interface ServiceConfig {
  readonly name: string;
  /** At least one. */
  readonly addresses: readonly Prefix[];
  /** Empty = every protocol. */
  readonly transports: readonly Transport[];
  /** Tenants; at least one. */
  readonly access: readonly string[];
  /** The security policy for payload; null for none. */
  readonly security: string | null;
  /** The service policy; null for the one of services that name none. */
  readonly policy: string | null;
}

export interface Transport {
  /** IP protocol number. */
  readonly protocol: number;
  /** Destination ports; 0..65535 where no range was given. */
  readonly from: number;
  readonly to: number;
  /** Which of two services with one prefix is nearer: 2 a port range, 1 the protocol; 0 is a service without transports. */
  readonly rank: number;
}

/** Either `peer` or `interface` is set, never both. */
export interface ServiceRouteConfig {
  readonly service: string;
  readonly peer: string | null;
  /** Where a route with only a target was written, the interface that has the target on-link. */
  readonly interface: string | null;
  readonly gateway: number | null;
  /** Destination NAT; port 0 keeps the packet's. */
  readonly target: { readonly address: number; readonly port: number } | null;
  /** Source NAT to the interface's own address, or to these; null = sources stay as they are. */
  readonly sourceNat: "interface" | readonly Prefix[] | null;
  readonly cost: number;
  /** Null = no limit. */
  readonly maxSessions: number | null;
}

export interface PeerConfig {
  readonly name: string;
  /** The security policy of this adjacency; null for none. */
  readonly security: string | null;
  /** At least one. */
  readonly paths: readonly PeerPathConfig[];
}

export interface PeerPathConfig {
  readonly interface: string;
  /** Null = dynamic: the peer is behind a NAT, and BFD tells where. */
  readonly address: number | null;
  readonly vector: string | null;
  readonly cost: number;
  readonly mode: PathMode;
  /** `outbound-only`: we are behind a NAT. */
  readonly connectivity: "bidirectional" | "outbound-only";
  /** 0 = none. */
  readonly natKeepAliveMs: number;
  /** TCP that we begin over it goes as UDP (protocol sheet 2.5). */
  readonly udpTransform: UdpTransformSettings;
  /** 0 = nothing. */
  readonly ttlPadding: TtlPadding;
  /** What the path says over what the router says over the defaults. */
  readonly bfd: BfdSettings;
  /** The same. */
  readonly mtuDiscovery: MtuDiscoverySettings;
}

/** Null = the threshold is not set. */
export interface ServicePolicyConfig {
  readonly name: string;
  readonly strategy: "hunt" | "proportional";
  readonly resiliency: "none" | "failover" | "revertible-failover" | "packet-duplication";
  /** What becomes of a TCP segment of no session that is no SYN. */
  readonly transportState: "reset" | "block" | "allow";
  /** Of `service-classes`; null = none. */
  readonly serviceClass: string | null;
  /** Packets get their class's DSCP toward the next router; then there is a class. */
  readonly rewriteDscp: boolean;
  readonly preserveDscp: boolean;
  readonly maxLossPercent: number | null;
  readonly maxLatencyMs: number | null;
  readonly maxJitterMs: number | null;
  readonly minMos: number | null;
  readonly bestEffort: boolean;
  readonly vectors: readonly { readonly name: string; readonly priority: number | "never" }[];
}

export interface ServiceClassConfig {
  readonly name: string;
  /** 0 to 63. */
  readonly dscp: number;
}

export interface SecurityPolicyConfig {
  readonly name: string;
  readonly encryption: CipherAlgorithm | null;
  readonly hmac: HmacAlgorithm | null;
  readonly timeBased: boolean;
  readonly sign: "metadata" | "every-packet" | "none";
  /** Of payloads: hosts that encrypt for themselves are left alone. */
  readonly adaptive: boolean;
  /** Of payloads: each session has a key of its own. Then `keys` need not have one for encryption. */
  readonly sessionKeys: boolean;
  /** Newest first, at least one. */
  readonly keys: readonly KeyVersion[];
}

/**
 * Read a configuration. `config` is null when any problem is an error; `problems` holds every error and warning in
 * file order. `file` is printed, and where key files are looked for. Never throws.
 */
export function parseConfig(text: string, file: string): { config: Config | null; problems: Problem[] } {
  const source = new ConfigSource(text, file);
  const draft = readDraft(source);
  const config = draft === null ? null : checkMeaning(draft, source);
  const problems = source.problems();
  return { config: problems.some((problem) => problem.severity === "error") ? null : config, problems };
}
