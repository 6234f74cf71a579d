// What would happen to a packet, step by step, with reasons. The packet goes through the real engine (the very slow
// path, fast path and policy that run live) over ports that lead nowhere, and what the engine decided is told: nothing
// is predicted here.

import type { ManualClock } from "../base/clock.ts";
import type { MemoryPort } from "../io/memory-port.ts";
import type { Classification } from "../session/classify.ts";
import type { Service } from "../session/policy.ts";
import type { ServicePath, ServiceRoute } from "../session/service-route.ts";
import { REVERSE } from "../table/session-table.ts";
import { writeEthernet } from "../wire/ethernet.ts";
import { ETHERTYPE_IPV4, PROTOCOL_ICMP, PROTOCOL_TCP } from "../wire/flow-key.ts";
import { ICMP_ECHO, writeIcmp } from "../wire/icmp.ts";
import { IPV4_HEADER, writeIpv4 } from "../wire/ipv4.ts";
import { completeChecksum } from "../wire/offload.ts";
import { printFrame } from "../wire/print.ts";
import { writeTcp } from "../wire/tcp.ts";
import { UDP_HEADER, writeUdp } from "../wire/udp.ts";
import {
  DROP_ACCESS_DENIED,
  DROP_NO_ROUTE,
  DROP_NO_SERVICE,
  DROP_NO_TENANT,
  DROP_ROUTE_SESSION_LIMIT,
  OK,
  verdictName,
  verdictSentence,
} from "../wire/verdict.ts";
import { formatAddress, formatSocket } from "./address-text.ts";
import { pathText } from "./names.ts";
import type { PacketDescription } from "./packet-text.ts";
import type { Router } from "./router-parts.ts";
import { priorityOf, protocolName, routeText, snapshot, standingText } from "./snapshot.ts";

export interface Step {
  readonly step: string;
  outcome: string;
  reason: string;
}

export interface Explanation {
  /** "forwarded", "answered", "consumed", or "drop.<reason>". */
  verdict: string;
  steps: Step[];
}

/** Send `packet` into `interfaceName` of a router whose ports are `memory`, and tell its way. */
export function explain(
  router: Router,
  memory: readonly MemoryPort[],
  clock: ManualClock,
  interfaceName: string,
  packet: PacketDescription,
): Explanation {
  const steps: Explanation["steps"] = [];
  const row = router.interfaces.findIndex(({ name }) => name === interfaceName);
  // Peers' and gateways' addresses resolve first, as they would have long ago.
  settle(router, clock);
  for (const port of memory) port.sent();
  const before = router.counters.publish(true);

  const frame = writePacket(packet, router.ports[row].info().mac);
  steps.push({ step: "receive", outcome: interfaceName, reason: printFrame(frame, 0, frame.length, formatAddress) });
  router.slow.leads.observer = (step, verdict, classification, session) => {
    if (step === "open") tellOpening(router, steps, verdict, classification, session);
  };
  memory[row].inject(frame);
  settle(router, clock);

  let left = 0;
  let answers = 0;
  memory.forEach((port, at) => {
    for (const sent of port.sent()) {
      const line = printFrame(sent, 0, sent.length, formatAddress);
      if (line.startsWith("arp ")) continue;
      left++;
      const answer = at === row;
      if (answer) answers++;
      steps.push({ step: answer ? "answer" : "send", outcome: router.interfaces[at].name, reason: line });
    }
  });
  const after = router.counters.publish(true);
  const dropped = Object.keys(after).find((name) => name.startsWith("drop.") && after[name] > before[name]);
  if (dropped !== undefined)
    return {
      verdict: dropped,
      steps: [...steps, { step: "drop", outcome: dropped, reason: sentenceOf(router, dropped) }],
    };
  return { verdict: left > answers ? "forwarded" : answers > 0 ? "answered" : "consumed", steps };
}

function tellOpening(
  router: Router,
  steps: Explanation["steps"],
  verdict: number,
  found: Classification,
  session: number,
): void {
  const { policy } = router;
  const reason = (...of: number[]) => (of.includes(verdict) ? verdictSentence(verdict) : "");
  steps.push({
    step: "flow",
    outcome: "none",
    reason: "no session has these addresses and ports: this is a lead packet",
  });
  steps.push({
    step: "tenant",
    outcome: found.tenant < 0 ? "none" : policy.tenants[found.tenant].name,
    reason: reason(DROP_NO_TENANT),
  });
  if (found.tenant < 0) return;
  steps.push({
    step: "service",
    outcome: found.service < 0 ? "none" : policy.services[found.service].name,
    reason: reason(DROP_NO_SERVICE),
  });
  if (found.service < 0) return;
  const service = policy.services[found.service];
  const allowed = service.allowed[found.tenant];
  steps.push({ step: "access", outcome: allowed ? "allowed" : "denied", reason: reason(DROP_ACCESS_DENIED) });
  if (!allowed) return;
  tellRoute(router, steps, service, found.route, session);
  if (found.route === null) {
    steps[steps.length - 1].reason = reason(DROP_NO_ROUTE, DROP_ROUTE_SESSION_LIMIT);
    return;
  }
  if (verdict !== OK) {
    steps.push({ step: "open", outcome: verdictName(verdict), reason: verdictSentence(verdict) });
    return;
  }
  const { sessions } = snapshot(router, "sessions") as {
    sessions: { uuid: string; sourceNat: string | null; waypoint: { local: string; remote: string } | null }[];
  };
  const shown = sessions[sessions.length - 1];
  const { context } = router.sessions.table;
  const [source, destination, ports, protocol] = context.subarray(session * 4, session * 4 + 4);
  steps.push({
    step: "open",
    outcome: `session ${shown.uuid}`,
    reason: `${protocolName(protocol)} ${formatSocket(source, ports >>> 16)} > ${formatSocket(destination, ports & 0xffff)}`,
  });
  if (shown.sourceNat !== null) {
    steps.push({
      step: "source-nat",
      outcome: shown.sourceNat,
      reason: "the same to every destination, for as long as a session of this source has it",
    });
  }
  if (shown.waypoint !== null) {
    steps.push({
      step: "waypoint",
      outcome: `${shown.waypoint.local} > ${shown.waypoint.remote}`,
      reason: "even port ours, odd port the peer's; metadata goes along until the peer answers",
    });
  }
}

/** The route, and where there were several ways, each with its numbers and why it was or was not taken. `from`: the path that the session came by, -1 = a plain network. */
export function tellRoute(
  router: Router,
  steps: Explanation["steps"],
  { localRoutes, policy }: Service,
  route: ServiceRoute | null,
  session: number,
  from = -1,
): void {
  const textOf = ({ serviceRoute }: ServicePath) => routeText(router.config.serviceRoutes[serviceRoute]);
  if (route === null) {
    steps.push({ step: "route", outcome: "none", reason: "" });
    return;
  }
  if (route.kind === "interface") {
    const several = localRoutes.length > 1;
    const reason = several ? `of ${localRoutes.length} destinations, this source's as long as it has room` : "";
    steps.push({ step: "route", outcome: textOf(route), reason });
    return;
  }
  const taken = session < 0 ? -1 : router.sessions.table.servicePath[session];
  const peers = [...new Set(route.paths.map(textOf))].join(" or ");
  steps.push({ step: "route", outcome: peers, reason: "" });
  const name = policy.name === "" ? "no policy" : `policy ${policy.name}`;
  steps.push({ step: "policy", outcome: `${policy.strategy}, ${policy.resiliency}`, reason: name });
  const scores = router.sessions.choice.scores(route, from, router.clock.nowMs());
  for (const { servicePath, standing } of scores) {
    const path = router.sessions.paths[servicePath.path];
    const isTaken = servicePath.row === taken;
    const isSecond = session >= 0 && router.sessions.secondPath(session, REVERSE) === servicePath.path;
    const vector = path.vector === "" ? "no vector" : `vector ${path.vector}`;
    const priority = priorityOf(servicePath);
    const numbers = `${vector}${priority === null ? "" : `, priority ${priority}`}, cost ${servicePath.cost}`;
    const copies = isSecond ? "taken for the copies" : null;
    const why = isTaken
      ? "taken"
      : copies !== null
        ? copies
        : standing === "usable"
          ? "usable, but another comes first"
          : standingText(standing);
    steps.push({
      step: "path",
      outcome: `peer ${path.peerName} ${pathText(router.interfaces, path)}`,
      reason: `${why}: ${numbers}`,
    });
  }
}

function sentenceOf(router: Router, counter: string): string {
  return router.counters.names.find(({ name }) => name === counter)?.sentence ?? "";
}

/** Turn until nothing happens any more, with a little time in between for ARP. */
function settle(router: Router, clock: ManualClock): void {
  for (let i = 0; i < 3; i++) {
    clock.advance(100);
    while (router.engine.turn(clock.nowMs()) > 0);
  }
}

function writePacket(packet: PacketDescription, mac: Uint8Array): Uint8Array {
  const frame = new Uint8Array(128);
  const macHigh = (mac[0] << 8) | mac[1];
  const macLow = (mac[2] << 24) | (mac[3] << 16) | (mac[4] << 8) | mac[5];
  const l3 = writeEthernet(frame, 0, macHigh, macLow, 0x0200, packet.source, ETHERTYPE_IPV4);
  const tcp = packet.protocol === PROTOCOL_TCP;
  const length = IPV4_HEADER + (tcp ? 20 : UDP_HEADER);
  const l4 = writeIpv4(frame, l3, 0, length, 1, 0x4000, 64, packet.protocol, packet.source, packet.destination);
  if (tcp) writeTcp(frame, l4, packet.sourcePort, packet.destinationPort, 1, 0, packet.tcpFlags, 64240);
  else if (packet.protocol === PROTOCOL_ICMP) writeIcmp(frame, l4, ICMP_ECHO, 0, 0x0001_0001, l3 + length);
  else writeUdp(frame, l4, packet.sourcePort, packet.destinationPort, UDP_HEADER);
  if (packet.protocol !== PROTOCOL_ICMP) completeChecksum(frame, 0);
  return frame.slice(0, l3 + length);
}
