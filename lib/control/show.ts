// What `waymark show` prints: the router's JSON answers as text in fixed columns. The answers' shapes below are a
// contract with whoever reads --json; snapshot.ts produces them, and nothing here changes them on the way.

import type { PortStats } from "../io/port.ts";
import { isFailed, type TestResult } from "../peer/firewall-detector.ts";
import type { MtuSource } from "../peer/path-settings.ts";
import type { RouterEvent } from "./events.ts";

/** Forward is from the session's initiator, reverse toward it. Addresses with a port are `10.1.0.2:40000`. */
export interface SessionsAnswer {
  readonly sessions: readonly {
    readonly uuid: string;
    readonly tenant: string;
    readonly service: string;
    readonly protocol: string;
    readonly source: string;
    readonly destination: string;
    /** What source NAT makes of the source where the session leaves; null = nothing. */
    readonly sourceNat: string | null;
    /** Null for a session that leaves by this router's own route. */
    readonly peer: string | null;
    readonly path: string | null;
    readonly waypoint: { readonly local: string; readonly remote: string } | null;
    /** Under packet duplication the path of the copies, to the same peer; null = it has none. */
    readonly secondPath: string | null;
    readonly state: string;
    /** Its payload, between the first and the last router. */
    readonly encrypted: boolean;
    /** With a key of its own, and not with its policy's. */
    readonly ownKey: boolean;
    /** How often it was moved to another path; 255 = as often or more. `show events` has when and why. */
    readonly moves: number;
    readonly packets: { readonly forward: number; readonly reverse: number };
    readonly bytes: { readonly forward: number; readonly reverse: number };
    readonly ageMs: number;
    readonly idleMs: number;
    /** The worker that has it; left out where the router has one. */
    readonly worker?: number;
  }[];
}

export interface PeersAnswer {
  readonly peers: readonly {
    readonly name: string;
    /** The name of its security policy; null = nothing is signed or encrypted. */
    readonly security: string | null;
    readonly paths: readonly {
      readonly interface: string;
      readonly address: string;
      readonly state: string;
      /** Of the keys that we send with; null without a policy. */
      readonly keyVersion: number | null;
      /** How far the peer's clock was ahead of ours when a digest was last refused for it; null = none was. */
      readonly clockOffsetMs: number | null;
    }[];
  }[];
}

export interface PathsAnswer {
  readonly paths: readonly {
    readonly peer: string;
    readonly interface: string;
    readonly local: string;
    readonly remote: string;
    readonly vector: string | null;
    readonly cost: number;
    readonly state: string;
    /** Why it is up or down. */
    readonly why: string;
    /** For how long it has been so; null = since the start. */
    readonly sinceMs: number | null;
    /** Null = not known. */
    readonly quality: {
      readonly lossPercent: number | null;
      readonly latencyMs: number | null;
      readonly jitterMs: number | null;
      readonly mos: number | null;
    };
    /** The largest packet that it takes: who told it, and for how long it has been so; null = since the start. */
    readonly mtu: { readonly bytes: number; readonly source: MtuSource; readonly sinceMs: number | null };
    /** As what TCP of sessions that begin here travels over it. */
    readonly udpTransform: {
      readonly mode: "off" | "always" | "auto-detect";
      readonly carrier: "tcp" | "udp";
      /** What the firewall detector has found; null = it does not look here. */
      readonly detector: {
        /** Where one is lost: the test on its way to the peer, or the answer on its way from there. */
        readonly tests: readonly { readonly name: string; readonly result: TestResult }[];
        /** False: it answers no tests, as of an older version; then nothing is concluded. */
        readonly peerAnswers: boolean;
        /** How long ago something was concluded; null = nothing was. */
        readonly judgedMs: number | null;
      } | null;
    };
    readonly sessions: number;
    readonly waypointPairs: { readonly inUse: number; readonly capacity: number };
    /** RFC 5880's variables; null where nothing was reported yet, or the path is not watched. */
    readonly bfd: {
      readonly state: string;
      readonly remoteState: string;
      readonly diagnostic: string;
      /** Null = the peer wants no packets. */
      readonly txIntervalMs: number | null;
      /** 0 = the peer was not heard yet. */
      readonly detectionTimeMs: number;
      readonly downs: number;
      /** Of control packets, percent, by direction; null = not known. */
      readonly lossFromPeer: number | null;
      readonly lossToPeer: number | null;
    } | null;
  }[];
}

export interface ServicesAnswer {
  readonly services: readonly {
    readonly name: string;
    readonly addresses: readonly string[];
    /** Empty = every protocol. */
    readonly transports: readonly string[];
    readonly access: readonly string[];
    readonly routes: readonly string[];
    readonly sessions: number;
    /** The service policy; null = it names none. */
    readonly policy: string | null;
    /** Where its sessions can go: local destinations, then peer paths in the order that they are tried. */
    readonly candidates: readonly {
      readonly to: string;
      readonly vector: string | null;
      /** Null = the policy does not list the vector. */
      readonly priority: number | "never" | null;
      readonly cost: number;
      readonly sessions: number;
      /** Of the service-route; null = no limit. */
      readonly maxSessions: number | null;
      /** "usable", or what is against it: see session/path-choice.ts. */
      readonly standing: string;
      /** The next session from a plain network goes there; of local destinations each source has its own. */
      readonly next: boolean;
    }[];
  }[];
}

export interface TenantsAnswer {
  readonly tenants: readonly {
    readonly name: string;
    readonly sessions: number;
    /** Null = no limit. */
    readonly maxSessions: number | null;
    /** Of the sessions, those that only one end has been heard of. */
    readonly halfOpen: number;
    readonly maxHalfOpen: number | null;
  }[];
}

export interface InterfacesAnswer {
  readonly interfaces: readonly {
    readonly name: string;
    readonly device: string;
    readonly mac: string;
    readonly mtu: number;
    readonly linkUp: boolean;
    readonly addresses: readonly string[];
    readonly tenant: string | null;
    readonly stats: Readonly<PortStats>;
  }[];
}

export interface NeighborsAnswer {
  readonly neighbors: readonly {
    readonly interface: string;
    readonly address: string;
    /** Null until the neighbor has answered. */
    readonly mac: string | null;
    readonly state: string;
    readonly ageMs: number;
    /** Frames that wait for it. */
    readonly held: number;
  }[];
}

export interface WorkersAnswer {
  readonly workers: readonly {
    readonly worker: number;
    readonly sessions: number;
    readonly frames: { readonly received: number; readonly forwarded: number };
    readonly drops: number;
    /** Frames taken over from the worker before it, and handed to the next. */
    readonly strays: { readonly received: number; readonly sent: number };
  }[];
}

/** The latest first. */
export interface EventsAnswer {
  readonly events: readonly (RouterEvent & {
    /** The worker whose session it is about; left out where the router has one. */
    readonly worker?: number;
  })[];
}

/** Why packets were dropped, most of them first; reasons that were never met are left out. */
export interface DropsAnswer {
  readonly drops: readonly {
    readonly reason: string;
    readonly count: number;
    readonly sentence: string;
    /** The last one, or one of the last in a flood; null = the frame was not at hand. */
    readonly sample: {
      readonly agoMs: number;
      readonly interface: string;
      /** As tcpdump would say it, of the frame as it was when it was dropped. */
      readonly packet: string;
      readonly length: number;
      /** Its first 134 bytes, hex. */
      readonly bytes: string;
      /** What `waymark explain` takes to say step by step what would happen to it; null = it says nothing of such a frame. */
      readonly explain: string | null;
    } | null;
  }[];
}

/** Counter name → value. */
export type CountersAnswer = Readonly<Record<string, number>>;

/** What a running router can be asked for, with the printer of its answer. */
const PRINTERS = {
  sessions: printSessions,
  peers: printPeers,
  paths: printPaths,
  services: printServices,
  tenants: printTenants,
  interfaces: printInterfaces,
  neighbors: printNeighbors,
  counters: printCounters,
  workers: printWorkers,
  events: printEvents,
  drops: printDrops,
} as const;

export type ShowResource = keyof typeof PRINTERS;

export const SHOW_RESOURCES = Object.keys(PRINTERS) as ShowResource[];

/** The router's answer for `resource` as text that ends in a newline. Throws TypeError where the answer has another shape. */
export function printAnswer(resource: ShowResource, answer: object): string {
  return (PRINTERS[resource] as (answer: object) => string)(answer);
}

function printSessions({ sessions }: SessionsAnswer): string {
  const hasWorkers = sessions.some(({ worker }) => worker !== undefined);
  const hasSeconds = sessions.some(({ secondPath }) => secondPath !== null);
  const hasNat = sessions.some(({ sourceNat }) => sourceNat !== null);
  return printTable(
    "sessions",
    [
      "UUID",
      "TENANT",
      "SERVICE",
      "PROTO",
      "SOURCE",
      ...(hasNat ? ["SOURCE-NAT"] : []),
      "DESTINATION",
      "PEER",
      "WAYPOINT",
      ...(hasSeconds ? ["SECOND-PATH"] : []),
      "STATE",
      "ENCRYPTED",
      "PACKETS",
      "BYTES",
      "AGE",
      "IDLE",
      ...(hasWorkers ? ["WORKER"] : []),
    ],
    sessions.map((session) => [
      session.uuid,
      session.tenant,
      session.service,
      session.protocol,
      session.source,
      ...(hasNat ? [session.sourceNat ?? "-"] : []),
      session.destination,
      session.peer ?? "-",
      session.waypoint === null ? "-" : `${session.waypoint.local}>${session.waypoint.remote}`,
      ...(hasSeconds ? [session.secondPath ?? "-"] : []),
      session.state,
      session.encrypted ? (session.ownKey ? "own-key" : "yes") : "-",
      `${session.packets.forward}/${session.packets.reverse}`,
      `${session.bytes.forward}/${session.bytes.reverse}`,
      printDuration(session.ageMs),
      printDuration(session.idleMs),
      ...(hasWorkers ? [session.worker ?? "-"] : []),
    ]),
  );
}

function printPeers({ peers }: PeersAnswer): string {
  return printTable(
    "peers",
    ["PEER", "INTERFACE", "ADDRESS", "STATE", "SECURITY", "KEYS", "CLOCK"],
    peers.flatMap((peer) =>
      peer.paths.map((path) => [
        peer.name,
        path.interface,
        path.address,
        path.state,
        peer.security ?? "-",
        path.keyVersion === null ? "-" : `v${path.keyVersion}`,
        path.clockOffsetMs === null ? "-" : `${path.clockOffsetMs > 0 ? "+" : ""}${path.clockOffsetMs / 1000}s`,
      ]),
    ),
  );
}

/** 1400 (probe, 5m12s). */
function printMtu({ bytes, source, sinceMs }: PathsAnswer["paths"][number]["mtu"]): string {
  return `${bytes} (${source}${sinceMs === null ? "" : `, ${printDuration(sinceMs)}`})`;
}

/** tcp, udp (always), tcp (auto-detect), udp (TCP SYN to-peer, Mid-flow from-peer). */
function printCarrier({ mode, carrier, detector }: PathsAnswer["paths"][number]["udpTransform"]): string {
  const failed = detector?.tests.filter(({ result }) => isFailed(result)) ?? [];
  if (failed.length > 0) return `${carrier} (${failed.map(({ name, result }) => `${name} ${result}`).join(", ")})`;
  if (detector !== null && detector.judgedMs === null) return `${carrier} (${mode}, not known yet)`;
  return mode === "off" ? carrier : `${carrier} (${mode})`;
}

function printPaths({ paths }: PathsAnswer): string {
  return printTable(
    "paths",
    [
      "PEER",
      "INTERFACE",
      "LOCAL",
      "REMOTE",
      "VECTOR",
      "COST",
      "STATE",
      "WHY",
      "SINCE",
      "LOSS",
      "LATENCY",
      "JITTER",
      "MOS",
      "MTU",
      "TCP-AS",
      "SESSIONS",
      "WAYPOINT-PAIRS",
    ],
    paths.map((path) => [
      path.peer,
      path.interface,
      path.local,
      path.remote,
      path.vector ?? "-",
      path.cost,
      path.state,
      path.why,
      path.sinceMs === null ? "-" : printDuration(path.sinceMs),
      printMeasure(path.quality.lossPercent, "%"),
      printMeasure(path.quality.latencyMs, "ms"),
      printMeasure(path.quality.jitterMs, "ms"),
      printMeasure(path.quality.mos, ""),
      printMtu(path.mtu),
      printCarrier(path.udpTransform),
      path.sessions,
      `${path.waypointPairs.inUse}/${path.waypointPairs.capacity}`,
    ]),
  );
}

/** Two tables: the services, and below them where the sessions of each can go. */
function printServices({ services }: ServicesAnswer): string {
  const known = printTable(
    "services",
    ["SERVICE", "ADDRESSES", "TRANSPORTS", "ACCESS", "ROUTES", "POLICY", "SESSIONS"],
    services.map((service) => [
      service.name,
      service.addresses.join(","),
      service.transports.length === 0 ? "every" : service.transports.join(","),
      service.access.join(","),
      service.routes.length === 0 ? "-" : service.routes.join(","),
      service.policy ?? "-",
      service.sessions,
    ]),
  );
  const candidates = services.flatMap(({ name, candidates }) =>
    candidates.map(({ to, vector, priority, cost, sessions, maxSessions, standing, next }) => [
      name,
      to,
      vector ?? "-",
      `${priority ?? "-"}`,
      cost,
      next ? `${standing}, next` : standing,
      maxSessions === null ? `${sessions}` : `${sessions}/${maxSessions}`,
    ]),
  );
  const heads = ["SERVICE", "CANDIDATE", "VECTOR", "PRIORITY", "COST", "STANDING", "SESSIONS"];
  return candidates.length === 0 ? known : `${known}\n${printTable("candidates", heads, candidates)}`;
}

function printTenants({ tenants }: TenantsAnswer): string {
  return printTable(
    "tenants",
    ["TENANT", "SESSIONS", "MAX-SESSIONS", "HALF-OPEN", "MAX-HALF-OPEN"],
    tenants.map((tenant) => [
      tenant.name,
      tenant.sessions,
      tenant.maxSessions ?? "-",
      tenant.halfOpen,
      tenant.maxHalfOpen ?? "-",
    ]),
  );
}

function printInterfaces({ interfaces }: InterfacesAnswer): string {
  return printTable(
    "interfaces",
    [
      "INTERFACE",
      "DEVICE",
      "MAC",
      "MTU",
      "LINK",
      "ADDRESSES",
      "TENANT",
      "RX-FRAMES",
      "RX-BYTES",
      "TX-FRAMES",
      "TX-BYTES",
      "LOST",
    ],
    interfaces.map(({ stats, ...item }) => [
      item.name,
      item.device,
      item.mac,
      item.mtu,
      item.linkUp ? "up" : "down",
      item.addresses.join(","),
      item.tenant ?? "-",
      stats.rxFrames,
      stats.rxBytes,
      stats.txFrames,
      stats.txBytes,
      stats.rxKernelDrops + stats.txFull + stats.txErrors,
    ]),
  );
}

function printNeighbors({ neighbors }: NeighborsAnswer): string {
  return printTable(
    "neighbors",
    ["INTERFACE", "ADDRESS", "MAC", "STATE", "AGE", "HELD"],
    neighbors.map((neighbor) => [
      neighbor.interface,
      neighbor.address,
      neighbor.mac ?? "-",
      neighbor.state,
      printDuration(neighbor.ageMs),
      neighbor.held,
    ]),
  );
}

function printEvents({ events }: EventsAnswer): string {
  return printTable(
    "events",
    ["AGO", "EVENT", "PEER", "PATH", "WHY", "SESSION"],
    events.map(({ agoMs, kind, peer, path, from, why, uuid }) => [
      printDuration(agoMs),
      kind,
      peer,
      from === undefined ? path : `${from} > ${path}`,
      why,
      uuid ?? "-",
    ]),
  );
}

function printDrops({ drops }: DropsAnswer): string {
  const table = printTable(
    "drops",
    ["REASON", "COUNT", "LAST", "INTERFACE", "PACKET"],
    drops.map(({ reason, count, sample }) => [
      reason,
      count,
      sample === null ? "-" : printDuration(sample.agoMs),
      sample?.interface ?? "-",
      sample?.packet ?? "-",
    ]),
  );
  const asks = drops.flatMap(({ sample }) => (sample?.explain == null ? [] : [`waymark explain ${sample.explain}\n`]));
  const isKept = drops.some(({ sample }) => sample !== null);
  return isKept ? `${table}\n${asks.join("")}waymark explain --drop REASON\n` : table;
}

function printWorkers({ workers }: WorkersAnswer): string {
  return printTable(
    "workers",
    ["WORKER", "SESSIONS", "RX-FRAMES", "FORWARDED", "DROPS", "STRAYS-IN", "STRAYS-OUT"],
    workers.map(({ worker, sessions, frames, drops, strays }) => [
      worker,
      sessions,
      frames.received,
      frames.forwarded,
      drops,
      strays.received,
      strays.sent,
    ]),
  );
}

/** Counters in the given order, values flush right. */
export function printCounters(counters: CountersAnswer): string {
  return printTable("counters", ["COUNTER", "VALUE"], Object.entries(counters));
}

/** The reference of counters: each name and its sentence. */
export function printCounterReference(
  reference: readonly { readonly name: string; readonly sentence: string }[],
): string {
  return printTable(
    "counters",
    ["COUNTER", "MEANING"],
    reference.map(({ name, sentence }) => [name, sentence]),
  );
}

/** Columns as wide as their widest cell, two spaces apart; numbers flush right. */
function printTable(what: string, heads: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  if (rows.length === 0) return `no ${what}\n`;
  const widths = heads.map((head, column) =>
    rows.reduce((width, row) => Math.max(width, String(row[column]).length), head.length),
  );
  const lines = [heads, ...rows].map((row) =>
    row
      .map((cell, column) => {
        const flushRight = typeof rows[0][column] === "number";
        return flushRight ? String(cell).padStart(widths[column]) : String(cell).padEnd(widths[column]);
      })
      .join("  ")
      .trimEnd(),
  );
  return `${lines.join("\n")}\n`;
}

/** Up to two places behind the point. */
function printMeasure(value: number | null, unit: string): string {
  return value === null ? "-" : `${Math.round(value * 100) / 100}${unit}`;
}

/** `250ms`, `12s`, `4m05s`, `3h07m`, `2d05h`. */
export function printDuration(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))}ms`;
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m${twoDigits(seconds % 60)}s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours}h${twoDigits(minutes % 60)}m`;
  return `${Math.floor(hours / 24)}d${twoDigits(hours % 24)}h`;
}

function twoDigits(value: number): string {
  return String(value).padStart(2, "0");
}
