import { silentMs } from "../session/expire.ts";
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
import { DSCP_AWAITED, DSCP_FREE, DSCP_KNOWN, FORWARD, REVERSE, SIDE_SENDING } from "../table/session-table.ts";
import { PROTOCOL_TCP, PROTOCOL_UDP } from "../wire/flow-key.ts";
import { formatAddress, formatSocket } from "./address-text.ts";
import type { Told } from "./explain-told.ts";
import { count, SIDE_NAMES } from "./explain-told.ts";
import { printDuration } from "./show.ts";
import { neighborMac, protocolName } from "./snapshot.ts";

/** The longest packet each way, and who says so. */
export function tellSizes(told: Told): void {
  const { slow, interfaces, sessions } = told.router;
  for (const way of [REVERSE, FORWARD]) {
    const path = told.path(way);
    const egress = planEgress(
      sessions.flows.words[(sessions.table.flow(told.session, 1 - way) << FLOW_SHIFT) + FLOW_PLAN],
    );
    const mtu = path === null ? interfaces[egress].mtu : path.mtu(told.nowMs);
    const source = path === null ? `interface ${interfaces[egress].name}` : SOURCES[path.mtuSource];
    const over = slow.overhead(told.session, way);
    const adds = over === 0 ? "nothing is added to a packet" : `up to ${over} bytes are added to a packet`;
    told.say("mtu", `${mtu - over}`, `${SIDE_NAMES[way]}: ${mtu} by ${source}; ${adds} once metadata has stopped`);
  }
}

/** The DSCPs that are restored at the far edge. */
export function tellDscp(told: Told): void {
  const { dscp } = told.router.sessions.table;
  for (const direction of [FORWARD, REVERSE]) {
    const mark = dscp[told.session * 2 + direction];
    if (mark === DSCP_FREE) continue;
    const name = direction === FORWARD ? "forward" : "reverse";
    if (mark === DSCP_AWAITED) told.say("dscp", "awaited", `${name}: of the next packet that a host sends`);
    else if ((mark & DSCP_KNOWN) !== 0)
      told.say("dscp", `${mark & ~DSCP_KNOWN}`, `${name}: restored where the session leaves the fabric`);
  }
}

/** What becomes of a packet, addresses before and after. */
export function tellFlow(told: Told, direction: number): void {
  const { sessions, interfaces } = told.router;
  const { flows, table, neighbors } = sessions;
  const flow = table.flow(told.session, direction);
  const base = flow << FLOW_SHIFT;
  const { words } = flows;
  const plan = words[base + FLOW_PLAN];
  const ports = words[base + FLOW_PORTS];
  const newPorts = words[base + FLOW_NEW_PORTS];
  const wire = words[base + FLOW_PROTOCOL] & 0xff;
  const arrives = `${protocolName(wire)} ${formatSocket(words[base + FLOW_SOURCE], ports >>> 16)} > ${formatSocket(words[base + FLOW_DESTINATION], ports & 0xffff)}`;
  const side = table.sides[1 - direction];
  const out = side.path[told.session] < 0 ? told.protocol : side.wire[told.session];
  const leaves = `${protocolName(out)} ${formatSocket(words[base + FLOW_NEW_SOURCE], newPorts >>> 16)} > ${formatSocket(words[base + FLOW_NEW_DESTINATION], newPorts & 0xffff)}`;
  const hop = words[base + FLOW_NEXT_HOP];
  const mac =
    hop >= 0 && neighbors.usable[hop] === 1 ? neighborMac(neighbors.macs, hop) : "its MAC address is being asked for";
  const next = hop < 0 ? "no next hop" : `next hop ${formatAddress(neighbors.address[hop])} (${mac})`;
  const how = [
    (plan & OP_SLOW) !== 0
      ? whySlow(told, direction)
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
  told.say(
    direction === FORWARD ? "forward" : "reverse",
    `${arrives}  becomes  ${leaves}`,
    `by ${interfaces[words[base + FLOW_PROTOCOL] >>> 8].name}, out of ${interfaces[planEgress(plan)].name}, ${next}; ${how.join(", ")}; ${traffic(told, direction)}`,
  );
}

function traffic(told: Told, direction: number): string {
  const { sessions } = told.router;
  const flow = sessions.table.flow(told.session, direction);
  const packets = sessions.flows.packets(flow);
  if (packets === 0) return "no packet yet";
  const ago = printDuration(silentMs(sessions, told.session, direction, told.nowMs));
  return `${count(packets, "packet")}, ${sessions.flows.bytes(flow)} bytes, the last ${ago} ago`;
}

/** Why each of its packets takes the slow path: what Sessions.settle goes by. */
function whySlow(told: Told, direction: number): string {
  const { sessions } = told.router;
  const { table } = sessions;
  const row = told.session;
  const reasons = [
    ...(table.upstream.state[row] === SIDE_SENDING || table.downstream.state[row] === SIDE_SENDING
      ? ["metadata is still told"]
      : []),
    ...(told.protocol === PROTOCOL_TCP && tcpStateName(table.tcpState[row]) !== "established"
      ? [`TCP is ${tcpStateName(table.tcpState[row])}`]
      : []),
    ...(told.protocol !== PROTOCOL_TCP && told.protocol !== PROTOCOL_UDP ? ["its protocol has no ports"] : []),
    ...(sessions.isTransformed(row, FORWARD) || sessions.isTransformed(row, REVERSE) ? ["TCP as UDP"] : []),
    ...(table.duplicate[row * 2] >= 0 || table.duplicate[row * 2 + 1] >= 0 ? ["its packets are numbered"] : []),
    ...(direction === REVERSE && sessions.flows.packets(table.reverseFlow[row]) === 0
      ? ["its server has not answered yet"]
      : []),
  ];
  return `by the slow path (${reasons.length === 0 ? "its state is being watched" : reasons.join("; ")})`;
}

const SOURCES = { interface: "its interface", icmp: "an ICMP error", probe: "probes" } as const;
