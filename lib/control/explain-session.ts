// A live session in words, step by step: where it comes from, who decided where it goes and why (explain-way.ts), the hop on each side
// (explain-hop.ts), what is done to its packets (explain-packets.ts), what ends it and what would move it. Everything is read from the
// state that forwards it, and asked of the functions that decide; nothing is changed, and nothing is guessed.

import { elapsedMs } from "../base/clock.ts";
import { idleMs, idleTimeoutMs, keepAliveDueInMs, LINGER_MS } from "../session/expire.ts";
import { routerWord } from "../session/passed-routers.ts";
import { tcpStateName } from "../session/tcp-state.ts";
import { FLOW_PROTOCOL, FLOW_SHIFT } from "../table/flow-table.ts";
import { FORWARD, REVERSE } from "../table/session-table.ts";
import { hasPorts, PROTOCOL_ICMP, PROTOCOL_TCP } from "../wire/flow-key.ts";
import { formatAddress } from "./address-text.ts";
import type { Step } from "./explain.ts";
import { tellHop, tellPayload } from "./explain-hop.ts";
import { tellDscp, tellFlow, tellSizes } from "./explain-packets.ts";
import { Told } from "./explain-told.ts";
import { tellMoves, tellNat, tellRoute } from "./explain-way.ts";
import type { Router } from "./router-parts.ts";
import { printDuration } from "./show.ts";
import { protocolName, sessionAnswer } from "./snapshot.ts";

/** The steps of the live session in row `session`. */
export function explainSession(router: Router, session: number): Step[] {
  const told = new Told(router, session);
  tellSession(told);
  tellArrival(told);
  tellPolicy(told);
  tellRoute(told);
  tellNat(told);
  for (const way of [FORWARD, REVERSE]) tellHop(told, way);
  tellPayload(told);
  tellSizes(told);
  tellDscp(told);
  for (const direction of [FORWARD, REVERSE]) tellFlow(told, direction);
  tellTimers(told);
  tellMoves(told);
  return told.steps;
}

function tellSession(told: Told): void {
  const shown = sessionAnswer(told.router, told.session);
  const heard = shown.packets.reverse > 0 ? "both ends have been heard" : "only its initiator has been heard";
  told.say(
    "session",
    `${shown.uuid} ${shown.protocol} ${shown.source} > ${shown.destination}`,
    `${shown.state}, opened ${printDuration(shown.ageMs)} ago; ${heard}`,
  );
}

function tellArrival(told: Told): void {
  const { sessions, interfaces, metadata } = told.router;
  const { table, flows } = sessions;
  const path = told.path(FORWARD);
  if (path === null) {
    const key = flows.words[(table.forwardFlow[told.session] << FLOW_SHIFT) + FLOW_PROTOCOL];
    told.say("receive", `interface ${interfaces[key >>> 8].name}`, "a plain network: the session began at this router");
    return;
  }
  const first = new TextDecoder().decode(metadata.names.bytes(table.sourceRouter[told.session]));
  const between = metadata.passed.words(table.passed[told.session]).map((word) => routerName(told, word));
  const way = between.length === 0 ? "" : `, and passed ${between.join(", ")}`;
  told.say("receive", told.pathName(path), `its metadata says that it began at router ${first}${way}`);
}

/** A router by its word in attribute 0x800b. */
function routerName(told: Told, word: number): string {
  const { config } = told.router;
  const names = [...config.peers.map(({ name }) => name), config.router];
  return names.find((name) => routerWord(name) === word) ?? "a router that is no peer of this one";
}

/** Tenant, service and access, and whether policy would say the same today. */
function tellPolicy(told: Told): void {
  const { sessions, policy, interfaces } = told.router;
  const { table, flows } = sessions;
  const session = told.session;
  const tenant = policy.tenants[table.tenant[session]];
  const service = policy.services[table.service[session]];
  const [source, destination, ports, protocol] = table.context.subarray(session * 4, session * 4 + 4);
  const path = told.path(FORWARD);
  if (path !== null) {
    told.say("tenant", tenant.name, `peer ${path.peerName} names it`);
    told.say(
      "service",
      service.name,
      `peer ${path.peerName} names it, and its addresses and transports have ${target(told)}`,
    );
  } else {
    const at = flows.words[(table.forwardFlow[session] << FLOW_SHIFT) + FLOW_PROTOCOL] >>> 8;
    const now = policy.tenantOf(at, source);
    const same = now === tenant.row ? "" : `; today it would be ${now < 0 ? "none" : policy.tenants[now].name}`;
    told.say("tenant", tenant.name, `whose ${formatAddress(source)} on ${interfaces[at].name} is${same}`);
    const port = protocol === PROTOCOL_ICMP ? 0 : ports & 0xffff;
    const found = policy.serviceOf(destination, protocol, port);
    const other =
      found === service.row ? "" : `; today it would be ${found < 0 ? "none" : policy.services[found].name}`;
    told.say("service", service.name, `the most specific that has ${target(told)}${other}`);
  }
  const allowed = service.allowed[tenant.row];
  told.say(
    "access",
    allowed ? "allowed" : "denied",
    `service ${service.name} ${allowed ? "lists" : "does not list"} tenant ${tenant.name}`,
  );
}

/** What services are looked up by: `10.2.0.2 tcp/443`. */
function target(told: Told): string {
  const { context } = told.router.sessions.table;
  const [, destination, ports, protocol] = context.subarray(told.session * 4, told.session * 4 + 4);
  return `${formatAddress(destination)} ${protocolName(protocol)}${hasPorts(protocol) ? `/${ports & 0xffff}` : ""}`;
}

function tellTimers(told: Told): void {
  const { sessions } = told.router;
  const row = told.session;
  const idle = idleMs(sessions, row, told.nowMs);
  const timeout = idleTimeoutMs(sessions, row);
  const state =
    told.protocol === PROTOCOL_TCP
      ? `TCP that is ${tcpStateName(sessions.table.tcpState[row])}`
      : protocolName(told.protocol);
  const mapped = sessions.table.isTranslated(row) ? ", behind source NAT" : "";
  told.say(
    "ends",
    `in ${printDuration(Math.max(0, timeout - idle))}`,
    `without another packet: idle ${printDuration(idle)} of the ${printDuration(timeout)} of ${state}${mapped}`,
  );
  for (const way of [FORWARD, REVERSE]) {
    const path = told.path(way);
    if (path === null) continue;
    const due = keepAliveDueInMs(sessions, row, 1 - way, told.nowMs);
    if (due !== Number.POSITIVE_INFINITY)
      told.say("keep-alive", `in ${printDuration(due)}`, `toward peer ${path.peerName}, for the NAT in front of us`);
    const side = sessions.table.sides[way];
    if (side.lingering[row] >= 0) {
      const left = LINGER_MS - elapsedMs(told.nowMs, side.movedMs[row]);
      told.say(
        "lingers",
        `for ${printDuration(Math.max(0, left))}`,
        `what still comes from peer ${path.peerName} by the tuple from before the move is taken`,
      );
    }
  }
}
