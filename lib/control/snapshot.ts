// A running router as plain JSON: what the control socket answers to `show`. The shapes are in show.ts; they are a
// contract, so a field is added here only together with its line there.

import { HEADER_GROWTH } from "../ipv6/icmp-codes.ts";
import type { BfdView } from "../monitor/path-report.ts";
import { TEST_NAMES } from "../peer/firewall-tests.ts";
import { MAC_SHIFT } from "../peer/neighbor.ts";
import type { FirewallView, PathQualityView } from "../peer/path-settings.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import { idleMs } from "../session/expire.ts";
import type { Standing } from "../session/path-choice.ts";
import type { Service } from "../session/policy.ts";
import { type PeerServicePath, VECTOR_NEVER, VECTOR_UNLISTED } from "../session/service-route.ts";
import { tcpStateName } from "../session/tcp-state.ts";
import type { DropSample } from "../table/drop-samples.ts";
import {
  FLOW_DESTINATION,
  FLOW_NEW_DESTINATION,
  FLOW_NEW_PORTS,
  FLOW_NEW_SOURCE,
  FLOW_PORTS,
  FLOW_SHIFT,
  FLOW_SOURCE,
} from "../table/flow-table.ts";
import { FORWARD, PAYLOAD_ENCRYPTED, REVERSE, SIDE_SENDING } from "../table/session-table.ts";
import { PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } from "../wire/flow-key.ts";
import { printFrame } from "../wire/print.ts";
import { DROP_REASONS } from "../wire/verdict.ts";
import { formatAddress, formatPrefix, formatSocket } from "./address-text.ts";
import type { ServiceRouteConfig, Transport } from "./config.ts";
import { readCounters } from "./metrics.ts";
import { pathText, peerAddressText, uuidText } from "./names.ts";
import { describeFrame } from "./packet-text.ts";
import { mtuOnWire } from "./path-reports.ts";
import type { Router } from "./router-parts.ts";
import type {
  DropsAnswer,
  EventsAnswer,
  InterfacesAnswer,
  NeighborsAnswer,
  PathsAnswer,
  PeersAnswer,
  ServicesAnswer,
  SessionsAnswer,
  TenantsAnswer,
  WorkersAnswer,
} from "./show.ts";

const PROTOCOL_NAMES = new Map([
  [PROTOCOL_ICMP, "icmp"],
  [PROTOCOL_TCP, "tcp"],
  [PROTOCOL_UDP, "udp"],
]);

/** Sessions put into text at once, between two turns of the engine. */
const ROWS_PER_PIECE = 512;

/** The answer to `show <resource>`, undefined when there is no such resource. */
export function snapshot(router: Router, resource: string): object | undefined {
  if (resource === "sessions") return sessions(router);
  if (resource === "peers") return peers(router);
  if (resource === "paths") return paths(router);
  if (resource === "services") return services(router);
  if (resource === "tenants") return tenants(router);
  if (resource === "interfaces") return interfaces(router);
  if (resource === "neighbors") return neighbors(router);
  if (resource === "counters") return readCounters(router);
  if (resource === "workers") return workers(router);
  if (resource === "drops") return drops(router);
  if (resource === "events") return { events: router.events.list(router.clock.nowMs()) } satisfies EventsAnswer;
  return undefined;
}

/** snapshot's JSON, the sessions in pieces: there may be a million of them, and the router forwards meanwhile. */
export function answer(router: Router, resource: string): object | Iterable<string> | undefined {
  return resource === "sessions" ? sessionPieces(router) : snapshot(router, resource);
}

function* sessionPieces(router: Router): Generator<string> {
  let before = '{"sessions":[';
  for (const rows of sessionRows(router)) {
    if (rows === "") continue;
    yield before + rows;
    before = ",";
  }
  yield `${before === "," ? "" : before}]}\n`;
}

/** The JSON of every session, comma between; a piece may be empty. */
export function* sessionRows(router: Router): Generator<string> {
  const { table } = router.sessions;
  let rows: string[] = [];
  for (let row = 0; row < table.capacity; row++) {
    if (table.isLive(row)) rows.push(JSON.stringify(sessionAnswer(router, row)));
    if (row % ROWS_PER_PIECE !== ROWS_PER_PIECE - 1 && row !== table.capacity - 1) continue;
    yield rows.join(",");
    rows = [];
  }
}

function sessions(router: Router): SessionsAnswer {
  return JSON.parse([...sessionPieces(router)].join("")) as SessionsAnswer;
}

/** One session, as `show sessions` has it. */
export function sessionAnswer(router: Router, row: number): SessionsAnswer["sessions"][number] {
  const { table, flows, paths } = router.sessions;
  const nowMs = router.clock.nowMs();
  const [source, destination, ports, protocol] = table.context.subarray(row * 4, row * 4 + 4);
  const forward = table.forwardFlow[row];
  const reverse = table.reverseFlow[row];
  const path: PeerPath | undefined = paths[table.downstream.path[row]] ?? paths[table.upstream.path[row]];
  return {
    uuid: uuidText(table.uuid.subarray(row * 4, row * 4 + 4)),
    tenant: router.policy.tenants[table.tenant[row]].name,
    service: router.policy.services[table.service[row]].name,
    protocol: protocolName(protocol),
    source: formatSocket(source, ports >>> 16),
    destination: formatSocket(destination, ports & 0xffff),
    sourceNat: sourceNat(router, row),
    peer: path?.peerName ?? null,
    path: path === undefined ? null : pathText(router.interfaces, path),
    waypoint: path === undefined ? null : waypoint(router, row, path),
    secondPath: secondPath(router, row),
    state: stateName(router, row, protocol),
    encrypted: table.payload[row] === PAYLOAD_ENCRYPTED,
    ownKey: table.keyLength(row) !== 0,
    moves: table.moves[row],
    packets: { forward: flows.packets(forward), reverse: flows.packets(reverse) },
    bytes: { forward: flows.bytes(forward), reverse: flows.bytes(reverse) },
    ageMs: table.ageMs(row, nowMs),
    idleMs: idleMs(router.sessions, row, nowMs),
    ...(router.strays === null ? {} : { worker: router.strays.worker }),
  };
}

/** Of a protocol without ports, whose address alone is translated, the port is 0. */
function sourceNat(router: Router, row: number): string | null {
  const { table, flows } = router.sessions;
  const presented = table.presented.get(row);
  if (presented !== undefined) return formatSocket(presented.address, presented.port);
  if (table.downstream.path[row] >= 0) return null;
  const base = table.forwardFlow[row] << FLOW_SHIFT;
  const source = flows.words[base + FLOW_NEW_SOURCE];
  const port = flows.words[base + FLOW_NEW_PORTS] >>> 16;
  const isSame = source === table.context[row * 4] && port === table.context[row * 4 + 2] >>> 16;
  return isSame ? null : formatSocket(source, port);
}

/** Of the same hop as `path`. */
function secondPath(router: Router, row: number): string | null {
  const { sessions } = router;
  const way = sessions.table.downstream.path[row] >= 0 ? REVERSE : FORWARD;
  const second = sessions.secondPath(row, way);
  return second < 0 ? null : pathText(router.interfaces, sessions.paths[second]);
}

/** The waypoint pair on the session's hop over `path`: the downstream one, or at its egress router the upstream one. */
function waypoint(router: Router, row: number, path: PeerPath): { local: string; remote: string } {
  const { table, flows } = router.sessions;
  const base = table.forwardFlow[row] << FLOW_SHIFT;
  const downstream = table.downstream.path[row] >= 0;
  const ports = flows.words[base + (downstream ? FLOW_NEW_PORTS : FLOW_PORTS)];
  const local = downstream ? path.local : flows.words[base + FLOW_DESTINATION];
  // Behind NAT it may be at another address than its path says.
  const remote = flows.words[base + (downstream ? FLOW_NEW_DESTINATION : FLOW_SOURCE)];
  return {
    local: formatSocket(local, downstream ? ports >>> 16 : ports & 0xffff),
    remote: formatSocket(remote, downstream ? ports & 0xffff : ports >>> 16),
  };
}

function stateName(router: Router, row: number, protocol: number): string {
  const { table } = router.sessions;
  if (protocol === PROTOCOL_TCP) return tcpStateName(table.tcpState[row]);
  const sending = table.upstream.state[row] === SIDE_SENDING || table.downstream.state[row] === SIDE_SENDING;
  return sending ? "opening" : "established";
}

function drops(router: Router): DropsAnswer {
  const met = DROP_REASONS.flatMap(({ name, sentence }, reason) => {
    const count = dropCount(router, reason);
    return count === 0 ? [] : [{ reason: name, count, sentence, sample: dropSample(router, reason) }];
  });
  return { drops: met.sort((a, b) => b.count - a.count) };
}

/** How often a frame was dropped for reason number `reason`, whoever dropped it. */
export function dropCount({ counters, monitorLosses }: Router, reason: number): number {
  return counters.get(reason) + monitorLosses.drops[reason];
}

function dropSample(router: Router, reason: number): DropsAnswer["drops"][number]["sample"] {
  const sample = router.samples.of(reason);
  if (sample === null) return null;
  const { length } = sample;
  const { name: at } = router.interfaces[sample.interfaceId];
  const frame = sampleFrame(router, reason, sample);
  const described = describeFrame(frame);
  return {
    agoMs: router.clock.nowMs() - sample.atMs,
    interface: at,
    packet: sampleText(router, sample, frame),
    length,
    bytes: Buffer.from(sample.bytes).toString("hex"),
    explain: described === null ? null : `--rx ${at} --packet '${described}'`,
  };
}

/** A sample's frame, as long as it was; what is behind its headers is not kept, and zero. */
export function sampleFrame(router: Router, reason: number, sample: DropSample): Uint8Array {
  const frame = new Uint8Array(sample.length);
  frame.set(router.samples.frameOf(reason, router.interfaces[sample.interfaceId].isIpv6));
  return frame;
}

/** The same as tcpdump would say it, as far as it is kept. */
export function sampleText(router: Router, sample: DropSample, frame: Uint8Array): string {
  const { isIpv6 } = router.interfaces[sample.interfaceId];
  const text = printFrame(frame, 0, frame.length, isIpv6 ? formatAddress : undefined);
  if (sample.bytes.length === sample.length) return text;
  return text.replace(/ bad (?:tcp|udp|icmp) checksum/, "").replace(/ (?:malformed )?metadata \{.*/, " metadata");
}

function peers(router: Router): PeersAnswer {
  return {
    peers: router.config.peers.map(({ name, security }) => ({
      name,
      security,
      paths: router.sessions.paths
        .filter((path) => path.peerName === name)
        .map((path) => ({
          interface: router.interfaces[path.interfaceId].name,
          address: peerAddressText(path),
          state: stateOf(path),
          keyVersion: path.security === null ? null : path.security.ring.sending(router.clock.nowMs()).version,
          clockOffsetMs: Number.isNaN(path.clockSkewMs) ? null : path.clockSkewMs,
        })),
    })),
  };
}

function paths(router: Router): PathsAnswer {
  return {
    paths: router.sessions.paths.map((path) => ({
      peer: path.peerName,
      interface: router.interfaces[path.interfaceId].name,
      local: formatAddress(path.local),
      remote: peerAddressText(path),
      vector: path.vector === "" ? null : path.vector,
      cost: path.cost,
      state: stateOf(path),
      why: path.why,
      sinceMs: path.sinceMs === null ? null : router.clock.nowMs() - path.sinceMs,
      quality: qualityOf(path.quality),
      mtu: mtuOf(path, router.clock.nowMs()),
      udpTransform: {
        mode: path.udpTransform.mode,
        carrier: path.transformsTcp ? "udp" : "tcp",
        detector: detectorOf(router.reports.of(path.row)?.firewall ?? null),
      },
      sessions: path.sessions,
      waypointPairs: {
        inUse: path.ports(PROTOCOL_TCP).inUse + path.ports(PROTOCOL_UDP).inUse,
        capacity: 2 * router.config.limits.waypointPairsPerPath,
      },
      bfd: bfdOf(router.reports.of(path.row)?.bfd),
    })),
  };
}

function mtuOf(path: PeerPath, nowMs: number): PathsAnswer["paths"][number]["mtu"] {
  const bytes = mtuOnWire(path, path.mtu(nowMs));
  const { mtuSource: source, mtuSinceMs } = path;
  return { bytes, source, sinceMs: mtuSinceMs === null ? null : nowMs - mtuSinceMs };
}

function detectorOf(view: FirewallView | null): PathsAnswer["paths"][number]["udpTransform"]["detector"] {
  if (view === null) return null;
  const { results, isAnswered: peerAnswers, judgedAgeMs } = view;
  return {
    tests: results.map((result, test) => ({ name: TEST_NAMES[test], result })),
    peerAnswers,
    judgedMs: Number.isFinite(judgedAgeMs) ? Math.round(judgedAgeMs) : null,
  };
}

function bfdOf(bfd: BfdView | undefined): PathsAnswer["paths"][number]["bfd"] {
  if (bfd === undefined) return null;
  const known = (value: number) => (Number.isFinite(value) ? value : null);
  const { state, remoteState, diagnostic, txIntervalMs, detectionTimeMs, downs, lossFromPeer, lossToPeer } = bfd;
  return {
    state,
    remoteState,
    diagnostic,
    txIntervalMs: known(txIntervalMs),
    detectionTimeMs,
    downs,
    lossFromPeer: known(lossFromPeer),
    lossToPeer: known(lossToPeer),
  };
}

function services(router: Router): ServicesAnswer {
  return {
    services: router.config.services.map((service, row) => ({
      name: service.name,
      addresses: service.addresses.map(formatPrefix),
      transports: service.transports.map(transportText),
      access: service.access,
      routes: router.config.serviceRoutes.filter((route) => route.service === service.name).map(routeText),
      sessions: router.policy.loads.ofService(row),
      policy: service.policy,
      candidates: candidates(router, router.policy.services[row]),
    })),
  };
}

type Candidate = ServicesAnswer["services"][number]["candidates"][number];

/** Local destinations, then peer paths in the order that they are tried. */
function candidates(router: Router, { localRoutes, peerRoute }: Service): Candidate[] {
  const { loads } = router.policy;
  const routes = router.config.serviceRoutes;
  const limitOf = (maxSessions: number) => (maxSessions === Number.POSITIVE_INFINITY ? null : maxSessions);
  const local = localRoutes.map((route): Candidate => {
    const sessions = loads.ofPath(route.row);
    return {
      to: routeText(routes[route.serviceRoute]),
      vector: null,
      priority: null,
      cost: route.cost,
      sessions,
      maxSessions: limitOf(route.maxSessions),
      standing: sessions < route.maxSessions ? "usable" : "full",
      next: false,
    };
  });
  if (peerRoute === null) return local;
  const isFull = local.every(({ standing }) => standing === "full");
  const scores = router.sessions.choice.scores(peerRoute, -1, router.clock.nowMs());
  const remote = scores.map(({ servicePath, standing, sessions, chosen }): Candidate => {
    const path = router.sessions.paths[servicePath.path];
    return {
      to: `peer ${path.peerName} ${pathText(router.interfaces, path)}`,
      vector: path.vector === "" ? null : path.vector,
      priority: priorityOf(servicePath),
      cost: servicePath.cost,
      sessions,
      maxSessions: limitOf(servicePath.maxSessions),
      standing,
      next: chosen && isFull,
    };
  });
  return [...local, ...remote];
}

/** Null = the policy does not list its vector. */
export function priorityOf({ priority }: PeerServicePath): number | "never" | null {
  if (priority === VECTOR_NEVER) return "never";
  return priority === VECTOR_UNLISTED ? null : priority;
}

const STANDINGS: Record<Standing, string> = {
  usable: "up, and within the policy's thresholds",
  loop: "the session came from this peer",
  down: "the path is down",
  never: "the policy never uses its vector",
  full: "its service-route has max-sessions",
  loss: "its loss breaks max-loss",
  latency: "its latency breaks max-latency",
  jitter: "its jitter breaks max-jitter",
  mos: "its score breaks min-mos",
};

export function standingText(standing: Standing): string {
  return STANDINGS[standing];
}

function qualityOf(quality: PathQualityView): PathsAnswer["paths"][number]["quality"] {
  const known = (value: number) => (Number.isNaN(value) ? null : value);
  return {
    lossPercent: known(quality.lossPercent),
    latencyMs: known(quality.latencyMs),
    jitterMs: known(quality.jitterMs),
    mos: known(quality.mos),
  };
}

function tenants(router: Router): TenantsAnswer {
  const { sessions } = router;
  return {
    tenants: router.config.tenants.map(({ name, maxSessions, maxHalfOpen }, row) => ({
      name,
      sessions: sessions.tenantSessions(row),
      maxSessions,
      halfOpen: sessions.tenantHalfOpen(row),
      maxHalfOpen,
    })),
  };
}

function interfaces(router: Router): InterfacesAnswer {
  return {
    interfaces: router.config.interfaces.map((item, row) => {
      const info = router.ports[row].info();
      return {
        name: item.name,
        device: item.device,
        mac: macText(info.mac),
        mtu: router.interfaces[row].mtu + (router.interfaces[row].isIpv6 ? HEADER_GROWTH : 0),
        linkUp: info.linkUp,
        addresses: item.addresses.map(formatPrefix),
        tenant: item.tenant,
        stats: router.ports[row].stats(),
      };
    }),
  };
}

function neighbors(router: Router): NeighborsAnswer {
  const table = router.sessions.neighbors;
  // What is behind the mirror is no neighbor.
  const rows = [...table.rows()].filter((row) => !router.interfaces[table.interfaceId[row]].isMirror);
  return {
    neighbors: rows.map((row) => ({
      interface: router.interfaces[table.interfaceId[row]].name,
      address: formatAddress(table.address[row]),
      mac: table.usable[row] === 1 ? neighborMac(table.macs, row) : null,
      state: table.stateName(row),
      ageMs: table.ageMs(row, router.clock.nowMs()),
      held: router.egress.heldFor(row),
    })),
  };
}

function workers(router: Router): WorkersAnswer {
  const counters = router.counters.publish(true);
  const drops = Object.entries(counters).filter(([name]) => name.startsWith("drop."));
  return {
    workers: [
      {
        worker: router.strays?.worker ?? 0,
        sessions: router.sessions.table.count,
        frames: { received: counters["frames.received"], forwarded: counters["frames.forwarded"] },
        drops: drops.reduce((sum, [, count]) => sum + count, 0),
        strays: { received: counters["strays.received"], sent: counters["strays.sent"] },
      },
    ],
  };
}

function stateOf(path: PeerPath): string {
  return path.up ? "up" : "down";
}

export function protocolName(protocol: number): string {
  return PROTOCOL_NAMES.get(protocol) ?? `ip/${protocol}`;
}

function transportText({ protocol, from, to, rank }: Transport): string {
  const name = protocolName(protocol);
  if (rank < 2) return name;
  return from === to ? `${name}/${from}` : `${name}/${from}-${to}`;
}

export function routeText(route: ServiceRouteConfig): string {
  if (route.peer !== null) return `peer ${route.peer}`;
  const gateway = route.gateway === null ? "" : ` gateway ${formatAddress(route.gateway)}`;
  const target = route.target === null ? "" : ` target ${formatSocket(route.target.address, route.target.port)}`;
  return `interface ${route.interface}${gateway}${target}${natText(route)}`;
}

function natText({ sourceNat }: ServiceRouteConfig): string {
  if (sourceNat === null) return "";
  return ` source-nat ${sourceNat === "interface" ? sourceNat : sourceNat.map(formatPrefix).join(" ")}`;
}

function macText(mac: Uint8Array): string {
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** The MAC address of the neighbor in this row of the table's `macs`. */
export function neighborMac(macs: Int32Array, row: number): string {
  const at = row << MAC_SHIFT;
  const words = [macs[at] >>> 24, macs[at] >>> 16, macs[at] >>> 8, macs[at], macs[at + 1] >>> 24, macs[at + 1] >>> 16];
  return macText(Uint8Array.from(words));
}
