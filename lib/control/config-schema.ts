// The shape of a configuration: every key, its form, its default and its bounds. A value of the wrong shape is
// reported and left out of the draft, so that one look at a file finds its other mistakes too. What keys mean
// together (references, overlaps, ties) is config-check.ts.

import { z } from "zod";
import type { CipherAlgorithm, HmacAlgorithm } from "../crypto/packet-crypto.ts";
import {
  type BfdSettings,
  type MtuDiscoverySettings,
  type TtlPadding,
  UDP_TRANSFORM_DEFAULTS,
} from "../peer/path-settings.ts";
import {
  parseHostAddress,
  parseInterfaceAddress,
  parsePortRange,
  parsePrefix,
  parseSocket,
  TextError,
} from "./address-text.ts";
import type {
  Config,
  InterfaceConfig,
  KernelAllow,
  PeerConfig,
  PeerPathConfig,
  ServiceClassConfig,
  ServiceConfig,
  ServicePolicyConfig,
  ServiceRouteConfig,
  TenantConfig,
  Transport,
} from "./config.ts";
import { type ConfigSource, DEFAULT_SOCKET, type Path } from "./config-source.ts";
import { type KeyMaterial, parseKey, VERSION_MAX } from "./key-material.ts";
import { nearest } from "./nearest.ts";

/** One list of the configuration: by its index an item, or null where it is no map; and every name given in it. */
export interface DraftList<T> {
  readonly key: string;
  readonly items: readonly (T | null)[];
  readonly names: ReadonlySet<string>;
}

/** A configuration whose values have the right shape; where one had not, "", 0, an empty list or the default stands for it. */
export interface Draft {
  readonly top: Pick<
    Config,
    "authority" | "router" | "control" | "workers" | "log" | "sessions" | "limits" | "pathMetrics"
  > & {
    readonly bfd: BfdDraft;
    readonly mtuDiscovery: MtuDiscoveryDraft;
  };
  readonly interfaces: DraftList<InterfaceConfig>;
  readonly tenants: DraftList<TenantConfig>;
  readonly services: DraftList<ServiceConfig>;
  readonly serviceRoutes: DraftList<ServiceRouteConfig>;
  readonly peers: DraftList<PeerDraft>;
  readonly servicePolicies: DraftList<ServicePolicyConfig>;
  readonly serviceClasses: DraftList<ServiceClassConfig>;
  readonly securityPolicies: DraftList<SecurityPolicyDraft>;
}

/** What is written of BFD in one place; the rest comes from elsewhere. */
export type BfdDraft = { readonly [K in keyof BfdSettings]?: BfdSettings[K] | undefined };

/** The same of path MTU discovery. */
export type MtuDiscoveryDraft = { readonly [K in keyof MtuDiscoverySettings]?: MtuDiscoverySettings[K] | undefined };

export interface PeerDraft extends Omit<PeerConfig, "paths"> {
  readonly paths: readonly (Omit<PeerPathConfig, "bfd" | "mtuDiscovery"> & {
    readonly bfd: BfdDraft;
    readonly mtuDiscovery: MtuDiscoveryDraft;
  })[];
}

/** A security policy as it is written; keys that stand in files are not read yet. */
export interface SecurityPolicyDraft {
  readonly name: string;
  readonly encryption: "none" | CipherAlgorithm;
  readonly encryptionKey: KeyMaterial | { file: string } | null;
  readonly hmac: "none" | HmacAlgorithm;
  readonly hmacKey: KeyMaterial | { file: string } | null;
  readonly hmacMode: "disabled" | "regular" | "time-based";
  /** null = not written. */
  readonly sign: "metadata" | "every-packet" | "none" | null;
  readonly adaptive: boolean;
  readonly sessionKeys: boolean;
  readonly keyVersion: number;
  readonly keyFile: string | null;
}

/** Capacities: default, least, most. README.md beside this file says what each means and what happens when it is full. */
export const CAPACITIES = {
  "sessions.max": [262_144, 1, 1_000_000],
  "limits.hold-frames": [256, 1, 16_384],
  "limits.hold-frames-per-neighbor": [64, 1, 1024],
  "limits.neighbors": [1024, 16, 65_536],
  "limits.slow-path-per-turn": [128, 16, 128],
  "limits.waypoint-pairs-per-path": [400_000, 16, 1_000_000],
  "limits.fabric-chains": [256, 1, 4096],
  "limits.ip-fragments": [256, 1, 4096],
  "limits.ipv6-addresses": [1_048_576, 1024, 8_388_608],
  "limits.duplicated-sessions": [4096, 1, 1_000_000],
} as const satisfies Record<string, readonly [number, number, number]>;

/** Protocol sheet 6.1. */
export const BFD_DEFAULTS: BfdSettings = {
  enabled: false,
  desiredTxMs: 1000,
  requiredMinRxMs: 500,
  requiredMinEchoMs: 1000,
  multiplier: 3,
  holdDownMs: 5000,
  dampening: false,
  maximumHoldDownMs: 3_600_000,
  linkTestIntervalMs: 10_000,
  linkTestLength: 10,
  dscp: 0,
};

const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;

/** Below what NATs keep an idle mapping: 120 s at least for UDP (RFC 4787, REQ-5), and some keep it for 30. */
const NAT_KEEP_ALIVE_MS = 20_000;
/** Interface ids are bytes in some tables. */
/** One more has no device (compile.ts), and their numbers are bytes. */
const INTERFACES_MAX = 255;
/** As many as there are shards (wire/shard.ts). */
const WORKERS_MAX = 64;
/** IPv4's smallest datagram that every host takes (RFC 791): below it metadata has no room. */
const MTU_MIN = 576;
/** sockaddr_un's path, less its closing zero. */
const SOCKET_PATH_BYTES_MAX = 107;
const COST_MAX = 65_535;
const DAY_MS = 86_400_000;
/** A threshold on the mean opinion score stays below what a perfect path has (protocol sheet 6.3). */
const MOS_MIN = 1;
const MOS_MAX = 4.3;

// Leaves

const text = (parse: (text: string) => string) => parsed(parse);

function parsed<T>(parse: (text: string) => T) {
  return z.string().transform((value, context): T => {
    try {
      return parse(value);
    } catch (error) {
      if (!(error instanceof TextError)) throw error;
      context.addIssue({ code: "custom", message: error.message, params: { mend: error.mend } });
      return z.NEVER;
    }
  });
}

/** Null = dynamic. */
function parsePeerAddress(text: string): number | null {
  return text === "dynamic" ? null : parseHostAddress(text);
}

function whole(min: number, max: number) {
  return z.number().transform((value, context): number => {
    if (Number.isInteger(value) && value >= min && value <= max) return value;
    context.addIssue({
      code: "custom",
      message: `${value} is out of bounds`,
      params: { mend: `write a whole number from ${min} to ${max}` },
    });
    return z.NEVER;
  });
}

function between(min: number, max: number) {
  return z.number().transform((value, context): number => {
    if (value >= min && value <= max) return value;
    const params = { mend: `write a number from ${min} to ${max}` };
    context.addIssue({ code: "custom", message: `${value} is out of bounds`, params });
    return z.NEVER;
  });
}

function capacity(key: keyof typeof CAPACITIES) {
  const [value, min, max] = CAPACITIES[key];
  return whole(min, max).default(value);
}

function boundsOf(key: keyof typeof CAPACITIES): [least: number, most: number] {
  const [, least, most] = CAPACITIES[key];
  return [least, most];
}

/** Of sessions, below what the table holds; left out = none. */
const sessionLimit = whole(1, CAPACITIES["sessions.max"][2]);

const name = text((value) => {
  if (/^[A-Za-z0-9._-]{1,63}$/.test(value)) return value;
  throw new TextError(
    `${JSON.stringify(value.slice(0, 70))} is not a name`,
    "write 1 to 63 letters, digits, dots, underscores or hyphens",
  );
});

const device = text((value) => {
  if (/^[A-Za-z0-9._-]{1,15}$/.test(value) && value !== "." && value !== "..") return value;
  throw new TextError(
    `${JSON.stringify(value.slice(0, 70))} is not the name of a network device`,
    "write a name that `ip link` shows, such as eth1",
  );
});

const socketPath = text((value) => {
  if (!value.startsWith("/"))
    throw new TextError(`${JSON.stringify(value)} is not an absolute path`, `write a path such as ${DEFAULT_SOCKET}`);
  if (Buffer.byteLength(value) <= SOCKET_PATH_BYTES_MAX && !value.includes("\0")) return value;
  throw new TextError("the path is too long for a unix socket", `write a path of up to ${SOCKET_PATH_BYTES_MAX} bytes`);
});

const mac = text((value) => {
  const bytes = value.split(":").map((part) => (/^[0-9A-Fa-f]{2}$/.test(part) ? Number.parseInt(part, 16) : -1));
  if (bytes.length !== 6 || bytes.includes(-1)) {
    throw new TextError(
      `${JSON.stringify(value)} is not a MAC address`,
      "write six pairs of hex digits, such as 02:00:00:00:00:01",
    );
  }
  if ((bytes[0] & 1) !== 0 || bytes.every((byte) => byte === 0)) {
    throw new TextError(
      `${value} cannot be a station's own MAC address`,
      "write an address whose first byte is even, such as 02:00:00:00:00:01",
    );
  }
  return value.toLowerCase();
});

/** Bounds in milliseconds. */
function duration(min: number, max: number) {
  return parsed((value) => {
    const match = /^(\d{1,9})(ms|s)$/.exec(value);
    if (match === null)
      throw new TextError(
        `${JSON.stringify(value)} is not a duration`,
        "write a number with its unit, such as 500ms or 5s",
      );
    const ms = Number(match[1]) * (match[2] === "s" ? 1000 : 1);
    if (ms < min || ms > max)
      throw new TextError(`${value} is out of bounds`, `write a duration from ${min}ms to ${max}ms`);
    return ms;
  });
}

const PROTOCOLS: Record<string, number> = { icmp: 1, tcp: 6, udp: 17, gre: 47, esp: 50, ah: 51, sctp: 132 };

const transport = parsed((value): Transport => {
  const mend = "write tcp/443, udp/5000-5100, tcp, udp, icmp, gre, esp, ah, sctp or ip/NUMBER";
  const [kind, detail, ...rest] = value.split("/");
  if (rest.length > 0) throw new TextError(`${JSON.stringify(value)} is not a transport`, mend);
  if (kind === "ip" && detail !== undefined && /^\d{1,3}$/.test(detail) && Number(detail) <= 255) {
    return { protocol: Number(detail), from: 0, to: 65535, rank: 1 };
  }
  const protocol = Object.hasOwn(PROTOCOLS, kind) ? PROTOCOLS[kind] : -1;
  if (protocol < 0) throw new TextError(`${JSON.stringify(value)} is not a transport`, mend);
  if (detail === undefined) return { protocol, from: 0, to: 65535, rank: 1 };
  if (kind !== "tcp" && kind !== "udp") throw new TextError(`${kind} has no ports here`, `write ${kind} alone`);
  return { protocol, ...parsePortRange(detail), rank: 2 };
});

const kernelAllow = parsed((value): KernelAllow => {
  const [kind, detail, ...rest] = value.split("/");
  if (rest.length === 0 && (kind === "arp" || kind === "ndp" || kind === "icmp" || kind === "tcp" || kind === "udp")) {
    if (detail === undefined) return { kind, from: 0, to: 65535 };
    if (kind === "tcp" || kind === "udp") return { kind, ...parsePortRange(detail) };
  }
  throw new TextError(
    `${JSON.stringify(value)} cannot be left to the kernel`,
    "write arp, ndp, icmp, tcp/22, udp/5000-5100, tcp or udp",
  );
});

/** A key in the file, or the file that has it. What is wrong is told without what was written. */
const key = z.unknown().transform((value, context): KeyMaterial | { file: string } => {
  const refuse = (message: string, mend: string) => {
    context.addIssue({ code: "custom", message, params: { mend } });
    return z.NEVER;
  };
  if (typeof value === "string") {
    try {
      return parseKey(value);
    } catch (error) {
      if (!(error instanceof TextError)) throw error;
      return refuse(error.message, error.mend);
    }
  }
  const file = keyFile.safeParse(value);
  if (file.success) return file.data;
  const isNumber = typeof value === "number" || typeof value === "bigint";
  return refuse(
    isNumber ? "a number where a key belongs" : "neither a key nor a file",
    isNumber ? "put the key in quotes" : 'write "HEX", "base64:TEXT" or { file: PATH }',
  );
});

const keyFile = z.strictObject({ file: z.string().min(1) });

/** Of two otherwise alike the lower is better. */
const cost = whole(1, COST_MAX).default(1);

const priority = z.unknown().transform((value, context): number | "never" => {
  if (value === "never" || (Number.isInteger(value) && (value as number) >= 1 && (value as number) <= 999_999))
    return value as number | "never";
  const params = { mend: "write a whole number from 1 to 999999, lower is better, or never" };
  context.addIssue({ code: "custom", message: "not a priority", params });
  return z.NEVER;
});

const ttlPadding = z.unknown().transform((value, context): TtlPadding => {
  if (value === "automatic") return value;
  if (value === "off") return 0;
  if (Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 255) return value as number;
  const params = { mend: "write a whole number from 0 to 255, automatic or off" };
  context.addIssue({ code: "custom", message: "not a TTL padding", params });
  return z.NEVER;
});

const security = name.transform((value) => (value === "none" ? null : value));

// Sections. Each is built twice: exact, where a required key must be there and right, and lenient, where it then reads
// as a value from which config-check.ts concludes nothing ("", 0, an empty list).

type Need = <T>(schema: z.ZodType<T>, nothing: T) => z.ZodType<T>;

const EXACT = sections((schema) => schema);
const LENIENT = sections((schema, nothing) => schema.catch(() => nothing));

function sections(need: Need) {
  const list = z.array(z.unknown()).optional();
  const limits = z.strictObject({
    "hold-frames": capacity("limits.hold-frames"),
    "hold-frames-per-neighbor": whole(...boundsOf("limits.hold-frames-per-neighbor")).optional(),
    neighbors: capacity("limits.neighbors"),
    "slow-path-per-turn": capacity("limits.slow-path-per-turn"),
    "waypoint-pairs-per-path": capacity("limits.waypoint-pairs-per-path"),
    "fabric-chains": capacity("limits.fabric-chains"),
    "ip-fragments": capacity("limits.ip-fragments"),
    "ipv6-addresses": capacity("limits.ipv6-addresses"),
    "duplicated-sessions": capacity("limits.duplicated-sessions"),
    "half-open": sessionLimit.optional(),
  });
  const bfd = z
    .strictObject({
      enabled: z.boolean().optional(),
      "desired-tx-interval": duration(50, 600_000).optional(),
      "required-min-rx-interval": duration(50, 600_000).optional(),
      "required-min-echo-interval": duration(50, 600_000).optional(),
      multiplier: whole(3, 20).optional(),
      "hold-down": duration(0, 300_000).optional(),
      dampening: z.boolean().optional(),
      "maximum-hold-down": duration(1000, DAY_MS).optional(),
      "link-test-interval": duration(1000, DAY_MS).optional(),
      "link-test-length": whole(0, 255).optional(),
      dscp: whole(0, 63).optional(),
    })
    .transform(
      (raw): BfdDraft => ({
        enabled: raw.enabled,
        desiredTxMs: raw["desired-tx-interval"],
        requiredMinRxMs: raw["required-min-rx-interval"],
        requiredMinEchoMs: raw["required-min-echo-interval"],
        multiplier: raw.multiplier,
        holdDownMs: raw["hold-down"],
        dampening: raw.dampening,
        maximumHoldDownMs: raw["maximum-hold-down"],
        linkTestIntervalMs: raw["link-test-interval"],
        linkTestLength: raw["link-test-length"],
        dscp: raw.dscp,
      }),
    );

  const mtuDiscovery = z
    .strictObject({ enabled: z.boolean().optional(), interval: duration(1000, DAY_MS).optional() })
    .transform((raw): MtuDiscoveryDraft => ({ enabled: raw.enabled, intervalMs: raw.interval }));

  const top = z.strictObject({
    authority: need(name, ""),
    router: need(name, ""),
    control: z.strictObject({ socket: socketPath.default(DEFAULT_SOCKET) }).prefault({}),
    workers: whole(1, WORKERS_MAX).default(1),
    log: z.strictObject({ level: z.enum(LOG_LEVELS).default("info") }).prefault({}),
    sessions: z
      .strictObject({
        max: capacity("sessions.max"),
        recovery: z.enum(["inactivity-based", "packet-based"]).default("inactivity-based"),
        "inactivity-timeout": duration(1000, 3_600_000).prefault("5s"),
      })
      .transform(({ "inactivity-timeout": inactivityMs, ...rest }) => ({ ...rest, inactivityMs }))
      .prefault({}),
    limits: limits.prefault({}),
    interfaces: need(z.array(z.unknown()).min(1).max(INTERFACES_MAX), []),
    tenants: list,
    services: list,
    "service-routes": list,
    peers: list,
    bfd: bfd.prefault({}),
    "path-mtu-discovery": mtuDiscovery.prefault({}),
    "path-metrics": z
      .strictObject({
        "marking-count": whole(1, 10_000).default(100),
        interval: duration(1000, 3_600_000).prefault("10s"),
        "monitor-only": z.boolean().default(false),
      })
      .transform((raw) => ({
        markingCount: raw["marking-count"],
        intervalMs: raw.interval,
        monitorOnly: raw["monitor-only"],
      }))
      .optional(),
    "service-policies": list,
    "service-classes": list,
    "security-policies": list,
  });

  const interfaces = z.strictObject({
    name: need(name, ""),
    device: need(device, ""),
    addresses: need(z.array(parsed(parseInterfaceAddress)).min(1), []),
    tenant: name.optional(),
    gateway: parsed(parseHostAddress).optional(),
    kernel: z.enum(["exclusive", "shared"]).default("exclusive"),
    "kernel-allow": z.array(kernelAllow).default([]),
    backend: z.enum(["libpcap", "af-packet"]).default("libpcap"),
    mac: mac.optional(),
    mtu: whole(MTU_MIN, 65535).optional(),
    promiscuous: z.boolean().default(false),
    "router-advertisements": z.boolean().default(false),
    "source-nat-pool": z.array(parsed(parsePrefix)).min(1).optional(),
  });

  const member = z.strictObject({
    interface: need(name, ""),
    prefixes: need(z.array(parsed(parsePrefix)).min(1), []),
  });
  const tenants = z.strictObject({
    name: need(name, ""),
    members: z.array(member).default([]),
    "max-sessions": sessionLimit.optional(),
    "max-half-open": sessionLimit.optional(),
    refused: z.enum(["drop", "reject"]).default("drop"),
  });

  const services = z.strictObject({
    name: need(name, ""),
    addresses: need(z.array(parsed(parsePrefix)).min(1), []),
    transports: z.array(transport).default([]),
    access: need(z.array(name).min(1), []),
    security: security.default(null),
    policy: name.optional(),
  });

  const routes = z.strictObject({
    service: need(name, ""),
    peer: name.optional(),
    interface: name.optional(),
    gateway: parsed(parseHostAddress).optional(),
    target: parsed(parseSocket).optional(),
    "source-nat": z.literal("interface").optional(),
    "source-nat-pool": z.array(parsed(parsePrefix)).min(1).optional(),
    cost,
    "max-sessions": sessionLimit.optional(),
  });

  const path = z.strictObject({
    interface: need(name, ""),
    address: need<number | null>(parsed(parsePeerAddress), 0),
    vector: name.optional(),
    cost,
    mode: z.enum(["svr", "bfd"]).default("svr"),
    connectivity: z.enum(["bidirectional", "outbound-only"]).default("bidirectional"),
    "nat-keep-alive": duration(1000, DAY_MS).optional(),
    "ttl-padding": ttlPadding.default(0),
    "udp-transform": z.enum(["off", "always", "auto-detect"]).default(UDP_TRANSFORM_DEFAULTS.mode),
    "udp-transform-interval": duration(1000, DAY_MS).default(UDP_TRANSFORM_DEFAULTS.intervalMs),
    bfd: bfd.prefault({}),
    "path-mtu-discovery": mtuDiscovery.prefault({}),
  });
  const peers = z.strictObject({
    name: need(name, ""),
    security: security.default(null),
    paths: need(z.array(path).min(1), []),
  });

  const servicePolicies = z.strictObject({
    name: need(name, ""),
    strategy: z.enum(["hunt", "proportional"]).default("hunt"),
    resiliency: z.enum(["none", "failover", "revertible-failover", "packet-duplication"]).default("failover"),
    "transport-state-enforcement": z.enum(["reset", "block", "allow"]).default("reset"),
    "service-class": name.optional(),
    "rewrite-dscp": z.boolean().default(false),
    "preserve-dscp": z.boolean().default(false),
    "max-loss": between(0, 100).optional(),
    "max-latency": duration(1, 60_000).optional(),
    "max-jitter": duration(1, 60_000).optional(),
    "min-mos": between(MOS_MIN, MOS_MAX).optional(),
    "best-effort": z.boolean().default(true),
    vectors: z
      .array(z.strictObject({ name: need(name, ""), priority: need<number | "never">(priority, 1) }))
      .default([]),
  });

  const serviceClasses = z.strictObject({ name: need(name, ""), dscp: need(whole(0, 63), 0) });

  const securityPolicies = z.strictObject({
    name: need(name, ""),
    encryption: z.enum(["none", "aes-cbc-128", "aes-cbc-256"]).default("none"),
    "encryption-key": key.optional(),
    hmac: z.enum(["none", "sha1", "sha256", "sha256-128"]).default("none"),
    "hmac-key": key.optional(),
    "hmac-mode": z.enum(["disabled", "regular", "time-based"]).default("time-based"),
    sign: z.enum(["metadata", "every-packet", "none"]).optional(),
    adaptive: z.boolean().default(true),
    "session-keys": z.boolean().default(false),
    keys: keyFile.optional(),
    "key-version": whole(1, VERSION_MAX).default(1),
  });

  return {
    top: top.transform(({ authority, router, control, workers, log, sessions, limits, bfd, ...rest }) => ({
      bfd,
      mtuDiscovery: rest["path-mtu-discovery"],
      pathMetrics: rest["path-metrics"] ?? null,
      authority,
      router,
      control,
      workers,
      log,
      sessions,
      limits: {
        holdFrames: limits["hold-frames"],
        holdFramesPerNeighbor:
          limits["hold-frames-per-neighbor"] ??
          Math.min(CAPACITIES["limits.hold-frames-per-neighbor"][0], limits["hold-frames"]),
        neighbors: limits.neighbors,
        slowPathPerTurn: limits["slow-path-per-turn"],
        waypointPairsPerPath: limits["waypoint-pairs-per-path"],
        fabricChains: limits["fabric-chains"],
        ipFragments: limits["ip-fragments"],
        ipv6Addresses: limits["ipv6-addresses"],
        duplicatedSessions: limits["duplicated-sessions"],
        halfOpen: limits["half-open"] ?? null,
      },
    })),
    interfaces: interfaces.transform(
      ({
        "kernel-allow": kernelAllow,
        "source-nat-pool": sourceNatPool,
        "router-advertisements": routerAdvertisements,
        ...raw
      }): InterfaceConfig => ({
        ...raw,
        routerAdvertisements,
        kernelAllow,
        sourceNatPool: sourceNatPool ?? [],
        tenant: raw.tenant ?? null,
        gateway: raw.gateway ?? null,
        mac: raw.mac ?? null,
        mtu: raw.mtu ?? null,
      }),
    ),
    tenants: tenants.transform(
      ({ "max-sessions": maxSessions, "max-half-open": maxHalfOpen, ...tenant }): TenantConfig => ({
        ...tenant,
        maxSessions: maxSessions ?? null,
        maxHalfOpen: maxHalfOpen ?? null,
      }),
    ),
    services: services.transform((raw): ServiceConfig => ({ ...raw, policy: raw.policy ?? null })),
    routes: routes.transform(
      (raw): ServiceRouteConfig => ({
        service: raw.service,
        peer: raw.peer ?? null,
        interface: raw.interface ?? null,
        gateway: raw.gateway ?? null,
        target: raw.target ?? null,
        sourceNat: raw["source-nat-pool"] ?? raw["source-nat"] ?? null,
        cost: raw.cost,
        maxSessions: raw["max-sessions"] ?? null,
      }),
    ),
    peers: peers.transform(
      (raw): PeerDraft => ({
        ...raw,
        paths: raw.paths.map(
          ({
            "nat-keep-alive": natKeepAliveMs,
            "ttl-padding": ttlPadding,
            "udp-transform": mode,
            "udp-transform-interval": intervalMs,
            "path-mtu-discovery": mtuDiscovery,
            ...item
          }) => ({
            ...item,
            ttlPadding,
            udpTransform: { mode, intervalMs },
            mtuDiscovery,
            vector: item.vector ?? null,
            natKeepAliveMs: natKeepAliveMs ?? (item.connectivity === "outbound-only" ? NAT_KEEP_ALIVE_MS : 0),
          }),
        ),
      }),
    ),
    servicePolicies: servicePolicies.transform(
      (raw): ServicePolicyConfig => ({
        name: raw.name,
        strategy: raw.strategy,
        resiliency: raw.resiliency,
        transportState: raw["transport-state-enforcement"],
        serviceClass: raw["service-class"] ?? null,
        rewriteDscp: raw["rewrite-dscp"],
        preserveDscp: raw["preserve-dscp"],
        maxLossPercent: raw["max-loss"] ?? null,
        maxLatencyMs: raw["max-latency"] ?? null,
        maxJitterMs: raw["max-jitter"] ?? null,
        minMos: raw["min-mos"] ?? null,
        bestEffort: raw["best-effort"],
        vectors: raw.vectors,
      }),
    ),
    serviceClasses,
    securityPolicies: securityPolicies.transform(
      (raw): SecurityPolicyDraft => ({
        name: raw.name,
        encryption: raw.encryption,
        encryptionKey: raw["encryption-key"] ?? null,
        hmac: raw.hmac,
        hmacKey: raw["hmac-key"] ?? null,
        hmacMode: raw["hmac-mode"],
        sign: raw.sign ?? null,
        adaptive: raw.adaptive,
        sessionKeys: raw["session-keys"],
        keyVersion: raw["key-version"],
        keyFile: raw.keys?.file ?? null,
      }),
    ),
  };
}

/** Read the shapes, reporting every wrong one to `source`. Returns null where the file is no map at all. */
export function readDraft(source: ConfigSource): Draft | null {
  const value = source.value;
  if (value === undefined) return null;
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    const what = value === null ? "the file is empty" : "the file is not a map of keys";
    source.error([], what, "begin with authority: NAME and router: NAME");
    return null;
  }
  return {
    top: decode(source, [], EXACT.top, LENIENT.top)!,
    interfaces: readList(source, "interfaces", EXACT.interfaces, LENIENT.interfaces),
    tenants: readList(source, "tenants", EXACT.tenants, LENIENT.tenants),
    services: readList(source, "services", EXACT.services, LENIENT.services),
    serviceRoutes: readList(source, "service-routes", EXACT.routes, LENIENT.routes),
    peers: readList(source, "peers", EXACT.peers, LENIENT.peers),
    servicePolicies: readList(source, "service-policies", EXACT.servicePolicies, LENIENT.servicePolicies),
    serviceClasses: readList(source, "service-classes", EXACT.serviceClasses, LENIENT.serviceClasses),
    securityPolicies: readList(source, "security-policies", EXACT.securityPolicies, LENIENT.securityPolicies),
  };
}

function readList<T>(source: ConfigSource, key: string, exact: z.ZodType<T>, lenient: z.ZodType<T>): DraftList<T> {
  const list = source.at([key]);
  const raw: unknown[] = Array.isArray(list) ? list : [];
  const names = raw.map((_, index) => source.at([key, index, "name"])).filter((value) => typeof value === "string");
  return { key, items: raw.map((_, index) => decode(source, [key, index], exact, lenient)), names: new Set(names) };
}

/** The value at `path` in the shape of `exact`; what is not is reported and left out. Null where it is no map at all. */
function decode<T>(source: ConfigSource, path: Path, exact: z.ZodType<T>, lenient: z.ZodType<T>): T | null {
  const value = source.at(path);
  const result = exact.safeParse(value);
  if (result.success) return result.data;
  const rest = structuredClone(value);
  for (const issue of result.error.issues) {
    const inside = issue.path as Path;
    if (issue.code === "unrecognized_keys") {
      const known = keysAt(exact, inside);
      for (const key of issue.keys) {
        const near = nearest(key, known);
        const mend = near === null ? `remove it; the keys here are ${known.join(", ")}` : `did you mean ${near}?`;
        source.error([...path, ...inside, key], "unknown key", mend, "key");
        removeKey(rest, [...inside, key]);
      }
    } else {
      const at = [...path, ...inside];
      source.error(at, ...judge(issue, at, source.at(at)));
      removeKey(rest, inside);
    }
  }
  return lenient.safeParse(rest).data ?? null;
}

/** Remove the last named key on `path` from `value`; a wrong item of a list takes its list with it. */
function removeKey(value: unknown, path: Path): void {
  const last = path.findLastIndex((step) => typeof step === "string");
  let holder = value;
  for (const step of path.slice(0, Math.max(last, 0)))
    holder = (holder as Record<string | number, unknown> | undefined)?.[step];
  if (last >= 0 && typeof holder === "object" && holder !== null)
    delete (holder as Record<string, unknown>)[path[last]];
}

/** What is wrong with `value` at `path`, and how to mend it. */
function judge(issue: z.core.$ZodIssue, path: Path, value: unknown): [string, string] {
  const key = path.findLast((step) => typeof step === "string") ?? "";
  const example = path[0] === "interfaces" && key === "addresses" ? INTERFACE_ADDRESSES : EXAMPLES[key];
  const write = example === undefined ? "see the configuration reference" : `write ${key}: ${example}`;
  switch (issue.code) {
    case "custom":
      return [issue.message, String(issue.params?.mend ?? write)];
    case "too_small":
      return ["the list is empty", write];
    case "too_big":
      return ["the list is too long", `write at most ${issue.maximum} items`];
    case "invalid_value": {
      const near = nearest(String(value), issue.values.map(String));
      const hint = near === null ? "" : `; did you mean ${near}?`;
      return ["not a value that this key takes", `write one of ${issue.values.join(", ")}${hint}`];
    }
    case "invalid_type": {
      if (value === undefined) return [`${key} is missing`, `add ${key}: ${example ?? "VALUE"}`];
      const wanted = TYPE_NAMES[issue.expected] ?? issue.expected;
      const mend = wanted === "text" && typeof value !== "object" ? "put it in quotes if it is meant as text" : write;
      return [`${kindOf(value)} where ${wanted} belongs`, mend];
    }
    default:
      return [issue.message, write];
  }
}

const TYPE_NAMES: Record<string, string> = {
  string: "text",
  number: "a number",
  boolean: "true or false",
  array: "a list",
  object: "a map of keys",
};

function kindOf(value: unknown): string {
  if (value === null) return "nothing";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a map of keys";
  return typeof value === "string" ? "text" : `the ${typeof value} ${String(value)}`;
}

/** What to write where a key is missing or has a value of another kind. */
/** An interface has an address of its own in its prefix; services and tenants have prefixes. */
const INTERFACE_ADDRESSES = "[10.1.0.1/24]";
const EXAMPLES: Record<string, string> = {
  authority: "acme",
  router: "west",
  control: `{ socket: ${DEFAULT_SOCKET} }`,
  workers: "2",
  log: "{ level: info }",
  sessions: "{ max: 262144 }",
  recovery: "inactivity-based",
  "inactivity-timeout": "5s",
  max: "262144",
  limits: "{ neighbors: 1024 }",
  interfaces: "[{ name: lan0, device: eth1, addresses: [10.1.0.1/24] }]",
  tenants: "[{ name: corp }]",
  services: "[{ name: app, addresses: [10.2.0.0/24], access: [corp] }]",
  "service-routes": "[{ service: app, peer: east }]",
  peers: "[{ name: east, paths: [{ interface: wan0, address: 198.18.0.2 }] }]",
  name: "NAME",
  device: "eth1",
  addresses: "[10.1.0.0/24]",
  "kernel-allow": "[arp, tcp/22]",
  mtu: "1500",
  promiscuous: "false",
  "router-advertisements": "true",
  members: "[{ interface: lan0, prefixes: [10.1.0.0/24] }]",
  prefixes: "[10.1.0.0/24]",
  transports: "[tcp/443, udp/5000-5100]",
  access: "[corp]",
  service: "NAME",
  interface: "NAME",
  address: "198.18.0.2",
  paths: "[{ interface: wan0, address: 198.18.0.2 }]",
  adaptive: "true",
  "session-keys": "true",
  vector: "mpls",
  cost: "10",
  "source-nat": "interface",
  "source-nat-pool": "[192.0.2.7, 192.0.2.16/28]",
  "max-sessions": "1000",
  "path-metrics": "{ marking-count: 100, interval: 10s }",
  "marking-count": "100",
  interval: "10s",
  "monitor-only": "true",
  bfd: "{ desired-tx-interval: 1000ms, multiplier: 3 }",
  "path-mtu-discovery": "{ interval: 600s }",
  enabled: "false",
  dampening: "true",
  "desired-tx-interval": "1000ms",
  "required-min-rx-interval": "500ms",
  "required-min-echo-interval": "1000ms",
  "hold-down": "5s",
  "maximum-hold-down": "3600s",
  "link-test-interval": "10s",
  "service-policies": "[{ name: voice, max-loss: 0.5, max-latency: 150ms }]",
  "service-classes": "[{ name: voice, dscp: 46 }]",
  "service-class": "NAME",
  "rewrite-dscp": "true",
  "preserve-dscp": "true",
  dscp: "46",
  policy: "NAME",
  "max-loss": "0.5",
  "max-latency": "250ms",
  "max-jitter": "100ms",
  "min-mos": "3.6",
  "best-effort": "true",
  vectors: "[{ name: mpls, priority: 5 }, { name: lte, priority: never }]",
  keys: "{ file: /etc/waymark/keys }",
};

/** The keys that `schema` knows in the map at `path`. */
function keysAt(schema: z.ZodType, path: Path): string[] {
  let at: unknown = inner(schema);
  for (const step of path) {
    if (at instanceof z.ZodObject) at = inner(at.shape[step]);
    else if (at instanceof z.ZodArray) at = inner(at.element);
  }
  return at instanceof z.ZodObject ? Object.keys(at.shape) : [];
}

/** The object or list schema inside wrappers for defaults, options and transforms. */
function inner(schema: unknown): unknown {
  if (schema instanceof z.ZodPipe) return inner(schema.in);
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault) {
    return inner(schema.unwrap());
  }
  return schema;
}
