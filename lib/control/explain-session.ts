// A live session in words, step by step: where it comes from, who decided where it goes and why, what is done to its packets, what
// ends it and what would move it. Everything is read from the state that forwards it, and asked of the functions that decide; nothing
// is changed, and nothing is guessed.

import type { Security } from "../crypto/key-ring.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import { idleMs, idleTimeoutMs, keepAliveDueInMs, LINGER_MS, silentMs } from "../session/expire.ts";
import { answerDueInMs, stopDueInMs } from "../session/metadata-handshake.ts";
import { routerWord } from "../session/passed-routers.ts";
import { isPayloadEnd } from "../session/payload.ts";
import type { PeerRoute, PeerServicePath, Resiliency, ServicePolicy } from "../session/service-route.ts";
import { tcpStateName } from "../session/tcp-state.ts";
import {
  FLOW_DESTINATION,
  FLOW_NEW_DESTINATION,
  FLOW_NEW_PORTS,
  FLOW_NEW_SOURCE,
  FLOW_NEXT_HOP,
  FLOW_PLAN,
  FLOW_PORTS,
  FLOW_PROTOCOL,
  FLOW_SHIFT,
  FLOW_SOURCE,
  GENERATION_MASK,
  OP_INSERT_UDP,
  OP_REMOVE_UDP,
  OP_SECURE,
  OP_SLOW,
  planDscp,
  planEgress,
} from "../table/flow-table.ts";
import {
  DSCP_AWAITED,
  DSCP_FREE,
  DSCP_KNOWN,
  FORWARD,
  PAYLOAD_CLEAR,
  PAYLOAD_ENCRYPTED,
  REVERSE,
  SIDE_PLAIN,
  SIDE_SENDING,
} from "../table/session-table.ts";
import { PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } from "../wire/flow-key.ts";
import { formatAddress, formatSocket } from "./address-text.ts";
import type { Step } from "./explain.ts";
import { pathText } from "./names.ts";
import type { Router } from "./router-parts.ts";
import { printDuration } from "./show.ts";
import { neighborMac, priorityOf, protocolName, routeText, sessionAnswer, standingText } from "./snapshot.ts";

const SIDE_NAMES = ["toward its initiator", "toward its server"];

/** The steps of the live session in row `session`. */
export function explainSession(router: Router, session: number): Step[] {
  return new SessionWords(router, session).steps();
}

class SessionWords {
  readonly #router: Router;
  readonly #session: number;
  readonly #nowMs: number;
  readonly #steps: Step[] = [];

  constructor(router: Router, session: number) {
    this.#router = router;
    this.#session = session;
    this.#nowMs = router.clock.nowMs();
  }

  steps(): Step[] {
    this.#tellSession();
    this.#tellArrival();
    this.#tellPolicy();
    this.#tellRoute();
    this.#tellNat();
    for (const way of [FORWARD, REVERSE]) this.#tellHop(way);
    this.#tellPayload();
    this.#tellSizes();
    this.#tellDscp();
    for (const direction of [FORWARD, REVERSE]) this.#tellFlow(direction);
    this.#tellTimers();
    this.#tellMoves();
    return this.#steps;
  }

  #say(step: string, outcome: string, reason = ""): void {
    this.#steps.push({ step, outcome, reason });
  }

  get #protocol(): number {
    return this.#router.sessions.table.context[this.#session * 4 + 3];
  }

  /** The path on the session's side `way`; null = a plain network. */
  #path(way: number): PeerPath | null {
    const row = this.#router.sessions.table.sides[way].path[this.#session];
    return row < 0 ? null : this.#router.sessions.paths[row];
  }

  #pathName(path: PeerPath): string {
    return `peer ${path.peerName} ${pathText(this.#router.interfaces, path)}`;
  }

  #tellSession(): void {
    const shown = sessionAnswer(this.#router, this.#session);
    const heard = shown.packets.reverse > 0 ? "both ends have been heard" : "only its initiator has been heard";
    this.#say(
      "session",
      `${shown.uuid} ${shown.protocol} ${shown.source} > ${shown.destination}`,
      `${shown.state}, opened ${printDuration(shown.ageMs)} ago; ${heard}`,
    );
  }

  #tellArrival(): void {
    const { sessions, interfaces, metadata } = this.#router;
    const { table, flows } = sessions;
    const path = this.#path(FORWARD);
    if (path === null) {
      const key = flows.words[(table.forwardFlow[this.#session] << FLOW_SHIFT) + FLOW_PROTOCOL];
      this.#say(
        "receive",
        `interface ${interfaces[key >>> 8].name}`,
        "a plain network: the session began at this router",
      );
      return;
    }
    const first = new TextDecoder().decode(metadata.names.bytes(table.sourceRouter[this.#session]));
    const between = metadata.passed.words(table.passed[this.#session]).map((word) => this.#routerName(word));
    const way = between.length === 0 ? "" : `, and passed ${between.join(", ")}`;
    this.#say("receive", this.#pathName(path), `its metadata says that it began at router ${first}${way}`);
  }

  /** A router by its word in attribute 0x800b. */
  #routerName(word: number): string {
    const { config } = this.#router;
    const names = [...config.peers.map(({ name }) => name), config.router];
    return names.find((name) => routerWord(name) === word) ?? "a router that is no peer of this one";
  }

  /** Tenant, service and access, and whether policy would say the same today. */
  #tellPolicy(): void {
    const { sessions, policy, interfaces } = this.#router;
    const { table, flows } = sessions;
    const session = this.#session;
    const tenant = policy.tenants[table.tenant[session]];
    const service = policy.services[table.service[session]];
    const [source, destination, ports, protocol] = table.context.subarray(session * 4, session * 4 + 4);
    const path = this.#path(FORWARD);
    if (path !== null) {
      this.#say("tenant", tenant.name, `peer ${path.peerName} names it`);
      this.#say(
        "service",
        service.name,
        `peer ${path.peerName} names it, and its addresses and transports have ${this.#target()}`,
      );
    } else {
      const at = flows.words[(table.forwardFlow[session] << FLOW_SHIFT) + FLOW_PROTOCOL] >>> 8;
      const now = policy.tenantOf(at, source);
      const same = now === tenant.row ? "" : `; today it would be ${now < 0 ? "none" : policy.tenants[now].name}`;
      this.#say("tenant", tenant.name, `whose ${formatAddress(source)} on ${interfaces[at].name} is${same}`);
      const port = protocol === PROTOCOL_ICMP ? 0 : ports & 0xffff;
      const found = policy.serviceOf(destination, protocol, port);
      const other =
        found === service.row ? "" : `; today it would be ${found < 0 ? "none" : policy.services[found].name}`;
      this.#say("service", service.name, `the most specific that has ${this.#target()}${other}`);
    }
    const allowed = service.allowed[tenant.row];
    this.#say(
      "access",
      allowed ? "allowed" : "denied",
      `service ${service.name} ${allowed ? "lists" : "does not list"} tenant ${tenant.name}`,
    );
  }

  /** What services are looked up by: `10.2.0.2 tcp/443`. */
  #target(): string {
    const { context } = this.#router.sessions.table;
    const [, destination, ports, protocol] = context.subarray(this.#session * 4, this.#session * 4 + 4);
    const hasPorts = protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP;
    return `${formatAddress(destination)} ${protocolName(protocol)}${hasPorts ? `/${ports & 0xffff}` : ""}`;
  }

  #tellRoute(): void {
    const { sessions, policy, config } = this.#router;
    const service = policy.services[sessions.table.service[this.#session]];
    const taken = sessions.table.servicePath[this.#session];
    const local = service.localRoutes.find(({ row }) => row === taken);
    if (local !== undefined) {
      const several = service.localRoutes.length;
      const why =
        several > 1
          ? `of ${several} destinations, the one of this source while it has room`
          : "the service's destination on this router";
      this.#say("route", routeText(config.serviceRoutes[local.serviceRoute]), why);
      return;
    }
    const route = service.peerRoute;
    const now = route?.paths.find(({ row }) => row === taken);
    if (route === null || now === undefined) return;
    const full =
      service.localRoutes.length > 0
        ? "its destinations on this router had no room"
        : "it has no destination on this router";
    this.#say("route", routeText(config.serviceRoutes[now.serviceRoute]), full);
    const { name, strategy, resiliency } = route.policy;
    this.#say("policy", `${strategy}, ${resiliency}`, name === "" ? "the service names no policy" : `policy ${name}`);
    for (const candidate of route.paths) this.#tellCandidate(route, candidate, now);
  }

  #tellCandidate(route: PeerRoute, candidate: PeerServicePath, now: PeerServicePath): void {
    const { sessions } = this.#router;
    const path = sessions.paths[candidate.path];
    const priority = priorityOf(candidate);
    const vector =
      path.vector === "" ? "no vector" : `vector ${path.vector}${priority === null ? "" : `, priority ${priority}`}`;
    const standing = standingText(this.#standing(route.policy, candidate, now));
    const isSecond = sessions.secondPath(this.#session, REVERSE) === candidate.path;
    const why = candidate === now ? "taken" : isSecond ? "taken for the copies" : "not taken";
    const load = `${count(path.sessions, "session")}`;
    const first = why === "not taken" && standing === standingText("usable") ? ", but another comes first" : "";
    this.#say("path", this.#pathName(path), `${why}: ${standing}${first}; ${vector}, cost ${candidate.cost}, ${load}`);
  }

  /** How a path stands for this very session: its own service-route has room for it. */
  #standing(policy: ServicePolicy, candidate: PeerServicePath, now: PeerServicePath) {
    const { table, choice } = this.#router.sessions;
    return choice.standing(policy, candidate, table.upstream.path[this.#session], now.serviceRoute);
  }

  #tellNat(): void {
    const { sourceNat, destination } = sessionAnswer(this.#router, this.#session);
    const { table, flows } = this.#router.sessions;
    const isTold = table.presented.has(this.#session);
    if (sourceNat !== null)
      this.#say(
        "source-nat",
        sourceNat,
        isTold ? "told in metadata: the session's last router presents it" : "what its source leaves as",
      );
    else if (this.#path(REVERSE) === null) this.#say("source-nat", "none", "its source leaves as it is");
    if (this.#path(REVERSE) !== null) return;
    const base = table.forwardFlow[this.#session] << FLOW_SHIFT;
    const target = formatSocket(flows.words[base + FLOW_NEW_DESTINATION], flows.words[base + FLOW_NEW_PORTS] & 0xffff);
    if (target !== destination) this.#say("target", target, `in the place of ${destination}`);
  }

  /** The hop to the peer on a side: its port pair, its handshake, its keys. */
  #tellHop(way: number): void {
    const { sessions } = this.#router;
    const path = this.#path(way);
    if (path === null) return;
    const side = sessions.table.sides[way];
    const row = this.#session;
    const base = sessions.table.flow(row, way) << FLOW_SHIFT;
    const { words } = sessions.flows;
    const ports = words[base + FLOW_PORTS];
    const pair = `${formatSocket(words[base + FLOW_DESTINATION], ports & 0xffff)} <> ${formatSocket(words[base + FLOW_SOURCE], ports >>> 16)}`;
    const picker = side.portRow[row] >= 0 ? "this router picked the pair" : `peer ${path.peerName} picked the pair`;
    const wire = side.wire[row];
    const carried = wire === this.#protocol ? "" : `; ${protocolName(this.#protocol)} goes as ${protocolName(wire)}`;
    const tunnel = sessions.isTunnelled(row, 1 - way) ? "; inside BFD's tuple, for the NAT between" : "";
    this.#say("waypoint", pair, `${SIDE_NAMES[way]}, ${this.#pathName(path)}: ${picker}${carried}${tunnel}`);
    if (this.#protocol === PROTOCOL_TCP) this.#tellTransform(way, path);
    this.#tellHandshake(way, path);
    this.#say("protection", ...this.#protection(path));
    const second = sessions.secondPath(row, way);
    if (second >= 0)
      this.#say("second path", this.#pathName(sessions.paths[second]), "packets go over both, and are delivered once");
  }

  /** Whether TCP goes as UDP to that peer, and who decided it. */
  #tellTransform(way: number, path: PeerPath): void {
    const side = this.#router.sessions.table.sides[way];
    const isTransformed = this.#router.sessions.isTransformed(this.#session, way);
    const { mode } = path.udpTransform;
    const ours = path.blocksTcp
      ? `${mode}: a firewall on the path takes no TCP of ours`
      : mode === "auto-detect"
        ? "auto-detect: no firewall that takes no TCP of ours has been found on the path"
        : mode;
    const stays =
      isTransformed === path.transformsTcp ? "" : `; it began ${isTransformed ? "as UDP" : "as TCP"}, before that`;
    const reason =
      side.portRow[this.#session] >= 0
        ? `${ours}${stays}`
        : `peer ${path.peerName} decides it, because it picked the pair`;
    this.#say("udp-transform", isTransformed ? "TCP goes as UDP" : "TCP goes as TCP", reason);
  }

  #tellHandshake(way: number, path: PeerPath): void {
    const { table } = this.#router.sessions;
    const side = table.sides[way];
    const row = this.#session;
    const due = way === FORWARD ? answerDueInMs(side, row, this.#nowMs) : stopDueInMs(side, row, this.#nowMs);
    const packet = due === Number.POSITIVE_INFINITY ? "" : `; a packet made for it is due in ${printDuration(due)}`;
    const asks = (table.healthCheck[row] & (1 << (1 - way))) !== 0;
    const silent = asks
      ? `; ${path.peerName} has been silent: the next packet asks whether it still knows the session`
      : "";
    if (side.state[row] === SIDE_SENDING)
      this.#say(
        "metadata",
        "attached to every packet",
        `peer ${path.peerName} has not shown yet that it has heard us${packet}${silent}`,
      );
    else if (side.state[row] !== SIDE_PLAIN)
      this.#say("metadata", "none any more", `peer ${path.peerName} has heard us${packet}${silent}`);
  }

  #protection({ security, peerName }: PeerPath): [outcome: string, reason: string] {
    if (security === null)
      return ["none", `peer ${peerName} has no security policy: nothing is signed, metadata is in clear`];
    const policy = this.#router.config.securityPolicies.find(({ name }) => name === security.name);
    const signs =
      security.sign === "none" || policy?.hmac == null
        ? "nothing is signed"
        : `${policy.hmac} on ${security.sign === "metadata" ? "packets with metadata alone" : "every packet that has a payload"}, ${security.timeBased ? "by the time" : "for good"}`;
    const seals = policy?.encryption == null ? "metadata is in clear" : `metadata in ${policy.encryption}`;
    return [`policy ${security.name}`, `${signs}; ${seals}; key version ${security.ring.sending(this.#nowMs).version}`];
  }

  #tellPayload(): void {
    const { table } = this.#router.sessions;
    const row = this.#session;
    const service = this.#router.policy.services[table.service[row]];
    const isEnd = isPayloadEnd(table, row);
    if (table.payload[row] === PAYLOAD_ENCRYPTED) {
      const policy = new TextDecoder().decode(this.#router.metadata.names.bytes(table.payloadPolicy[row]));
      const key =
        table.keyLength(row) > 0 ? "a key of its own" : `policy ${policy}, key version ${table.payloadKeyVersion[row]}`;
      const where = isEnd
        ? "encrypted and decrypted here"
        : "passed on as it is: this router is neither its first nor its last";
      const from =
        table.hasEncryptedFrom[row] !== 0 ? "; not from its start, because its first bytes were waited for" : "";
      this.#say("payload", "encrypted", `${key}; ${where}${from}`);
    } else if (table.payload[row] === PAYLOAD_CLEAR) this.#say("payload", "in clear", this.#whyClear(service.security));
    else
      this.#say("payload", "in clear so far", "adaptive: its first bytes show whether its hosts encrypt by themselves");
  }

  #whyClear(security: Security | null): string {
    if (this.#path(FORWARD) === null && this.#path(REVERSE) === null) return "it never leaves this router's networks";
    if (security === null) return "the service has no security policy here";
    return security.adaptive ? "adaptive: its hosts encrypt by themselves" : `its first router encrypts nothing of it`;
  }

  #tellSizes(): void {
    const { slow, interfaces, sessions } = this.#router;
    for (const way of [REVERSE, FORWARD]) {
      const path = this.#path(way);
      const egress = planEgress(
        sessions.flows.words[(sessions.table.flow(this.#session, 1 - way) << FLOW_SHIFT) + FLOW_PLAN],
      );
      const mtu = path === null ? interfaces[egress].mtu : path.mtu(this.#nowMs);
      const source = path === null ? `interface ${interfaces[egress].name}` : SOURCES[path.mtuSource];
      const over = slow.overhead(this.#session, way);
      const adds = over === 0 ? "nothing is added to a packet" : `up to ${over} bytes are added to a packet`;
      this.#say("mtu", `${mtu - over}`, `${SIDE_NAMES[way]}: ${mtu} by ${source}; ${adds} once metadata has stopped`);
    }
  }

  #tellDscp(): void {
    const { dscp } = this.#router.sessions.table;
    for (const direction of [FORWARD, REVERSE]) {
      const told = dscp[this.#session * 2 + direction];
      if (told === DSCP_FREE) continue;
      const name = direction === FORWARD ? "forward" : "reverse";
      if (told === DSCP_AWAITED) this.#say("dscp", "awaited", `${name}: of the next packet that a host sends`);
      else if ((told & DSCP_KNOWN) !== 0)
        this.#say("dscp", `${told & ~DSCP_KNOWN}`, `${name}: restored where the session leaves the fabric`);
    }
  }

  /** What becomes of a packet, addresses before and after. */
  #tellFlow(direction: number): void {
    const { sessions, interfaces } = this.#router;
    const { flows, table, neighbors } = sessions;
    const flow = table.flow(this.#session, direction);
    const base = flow << FLOW_SHIFT;
    const { words } = flows;
    const plan = words[base + FLOW_PLAN];
    const ports = words[base + FLOW_PORTS];
    const newPorts = words[base + FLOW_NEW_PORTS];
    const wire = words[base + FLOW_PROTOCOL] & 0xff;
    const arrives = `${protocolName(wire)} ${formatSocket(words[base + FLOW_SOURCE], ports >>> 16)} > ${formatSocket(words[base + FLOW_DESTINATION], ports & 0xffff)}`;
    const side = table.sides[1 - direction];
    const out = side.path[this.#session] < 0 ? this.#protocol : side.wire[this.#session];
    const leaves = `${protocolName(out)} ${formatSocket(words[base + FLOW_NEW_SOURCE], newPorts >>> 16)} > ${formatSocket(words[base + FLOW_NEW_DESTINATION], newPorts & 0xffff)}`;
    const hop = words[base + FLOW_NEXT_HOP];
    const mac =
      hop >= 0 && neighbors.usable[hop] === 1 ? neighborMac(neighbors.macs, hop) : "its MAC address is being asked for";
    const next = hop < 0 ? "no next hop" : `next hop ${formatAddress(neighbors.address[hop])} (${mac})`;
    const how = [
      (plan & OP_SLOW) !== 0
        ? this.#whySlow(direction)
        : (plan & OP_SECURE) !== 0
          ? "rewritten, with keys or a DSCP"
          : "rewritten in place",
      ...((plan & OP_INSERT_UDP) !== 0 ? ["put into UDP"] : []),
      ...((plan & OP_REMOVE_UDP) !== 0 ? ["taken out of UDP"] : []),
      ...(planDscp(plan) >= 0 ? [`DSCP ${planDscp(plan)}`] : []),
      ...((plan & GENERATION_MASK) !== flows.generation
        ? ["looked at again with its next packet, because paths have changed"]
        : []),
    ];
    this.#say(
      direction === FORWARD ? "forward" : "reverse",
      `${arrives}  becomes  ${leaves}`,
      `by ${interfaces[words[base + FLOW_PROTOCOL] >>> 8].name}, out of ${interfaces[planEgress(plan)].name}, ${next}; ${how.join(", ")}; ${this.#traffic(direction)}`,
    );
  }

  #traffic(direction: number): string {
    const { sessions } = this.#router;
    const flow = sessions.table.flow(this.#session, direction);
    const packets = sessions.flows.packets(flow);
    if (packets === 0) return "no packet yet";
    const ago = printDuration(silentMs(sessions, this.#session, direction, this.#nowMs));
    return `${count(packets, "packet")}, ${sessions.flows.bytes(flow)} bytes, the last ${ago} ago`;
  }

  /** Why each of its packets takes the slow path: what Sessions.settle goes by. */
  #whySlow(direction: number): string {
    const { sessions } = this.#router;
    const { table } = sessions;
    const row = this.#session;
    const reasons = [
      ...(table.upstream.state[row] === SIDE_SENDING || table.downstream.state[row] === SIDE_SENDING
        ? ["metadata is still told"]
        : []),
      ...(this.#protocol === PROTOCOL_TCP && tcpStateName(table.tcpState[row]) !== "established"
        ? [`TCP is ${tcpStateName(table.tcpState[row])}`]
        : []),
      ...(this.#protocol !== PROTOCOL_TCP && this.#protocol !== PROTOCOL_UDP ? ["its protocol has no ports"] : []),
      ...(sessions.isTransformed(row, FORWARD) || sessions.isTransformed(row, REVERSE) ? ["TCP as UDP"] : []),
      ...(table.duplicate[row * 2] >= 0 || table.duplicate[row * 2 + 1] >= 0 ? ["its packets are numbered"] : []),
      ...(direction === REVERSE && sessions.flows.packets(table.reverseFlow[row]) === 0
        ? ["its server has not answered yet"]
        : []),
    ];
    return `by the slow path (${reasons.length === 0 ? "its state is being watched" : reasons.join("; ")})`;
  }

  #tellTimers(): void {
    const { sessions } = this.#router;
    const row = this.#session;
    const idle = idleMs(sessions, row, this.#nowMs);
    const timeout = idleTimeoutMs(sessions, row);
    const state =
      this.#protocol === PROTOCOL_TCP
        ? `TCP that is ${tcpStateName(sessions.table.tcpState[row])}`
        : protocolName(this.#protocol);
    const mapped = sessions.table.isTranslated(row) ? ", behind source NAT" : "";
    this.#say(
      "ends",
      `in ${printDuration(Math.max(0, timeout - idle))}`,
      `without another packet: idle ${printDuration(idle)} of the ${printDuration(timeout)} of ${state}${mapped}`,
    );
    for (const way of [FORWARD, REVERSE]) {
      const path = this.#path(way);
      if (path === null) continue;
      const due = keepAliveDueInMs(sessions, row, 1 - way, this.#nowMs);
      if (due !== Number.POSITIVE_INFINITY)
        this.#say("keep-alive", `in ${printDuration(due)}`, `toward peer ${path.peerName}, for the NAT in front of us`);
      const side = sessions.table.sides[way];
      if (side.lingering[row] >= 0) {
        const left = LINGER_MS - (this.#nowMs - side.movedMs[row]);
        this.#say(
          "lingers",
          `for ${printDuration(Math.max(0, left))}`,
          `what still comes from peer ${path.peerName} by the tuple from before the move is taken`,
        );
      }
    }
  }

  /** How often it has moved, and what would move it now. */
  #tellMoves(): void {
    const { sessions, policy } = this.#router;
    const { table } = sessions;
    const row = this.#session;
    const moves = table.moves[row];
    const times = moves === 255 ? "255 times or more" : moves === 1 ? "once" : `${moves} times`;
    const upstream = this.#path(FORWARD);
    if (upstream !== null) {
      const other = sessions.paths.find(({ peer, up, row: at }) => peer === upstream.peer && up && at !== upstream.row);
      const own =
        other === undefined
          ? "this router has no other path to it"
          : `when this one is down, ${this.#pathName(other)} is taken`;
      this.#say("move", "by its peer", `${SIDE_NAMES[FORWARD]} peer ${upstream.peerName} decides; ${own}`);
    }
    const current = this.#path(REVERSE);
    const route = policy.services[table.service[row]].peerRoute;
    if (current === null || route === null) {
      if (upstream === null) this.#say("move", "never", "it goes to no peer");
      return;
    }
    const isBlocked = current.blocksTcp && table.downstream.wire[row] === PROTOCOL_TCP;
    const next = sessions.choice.rechoose(route, current.row, table.upstream.path[row], this.#nowMs);
    const now = route.paths.find(({ path }) => path === current.row);
    const others =
      now === undefined
        ? []
        : route.paths.filter((each) => each !== now && this.#standing(route.policy, each, now) === "usable");
    const to =
      others.length === 0
        ? "no other path can be used now, so it waits for its own"
        : `now that would be ${route.policy.strategy === "hunt" ? "" : "one of "}${(route.policy.strategy === "hunt" ? others.slice(0, 1) : others).map(({ path }) => this.#pathName(sessions.paths[path])).join(" or ")}`;
    const outcome =
      next !== null && next.path !== current.row
        ? `to ${this.#pathName(sessions.paths[next.path])} with its next packet`
        : isBlocked
          ? "to UDP on the same path with its next packet"
          : moves === 0
            ? "has not moved"
            : `has moved ${times}`;
    this.#say(
      "move",
      outcome,
      `${SIDE_NAMES[REVERSE]}: ${MOVES[route.policy.resiliency]}${route.policy.resiliency === "none" ? "" : `; ${to}`}`,
    );
  }
}

function count(number: number, of: string): string {
  return `${number} ${of}${number === 1 ? "" : "s"}`;
}

const SOURCES = { interface: "its interface", icmp: "an ICMP error", probe: "probes" } as const;

const MOVES: Record<Resiliency, string> = {
  none: "it stays on its path whatever becomes of that (resiliency none)",
  failover: "it moves when its path is down, or breaks a threshold that another path keeps",
  "revertible-failover":
    "it moves when its path is down, or breaks a threshold that another path keeps, and back when a better one recovers",
  "packet-duplication": "it moves when both of its paths are down, or break a threshold that another path keeps",
};
