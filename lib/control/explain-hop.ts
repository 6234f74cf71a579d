// Of a live session in words (explain-session.ts): the hop to the peer on a side, its port pair, handshake and keys, and who encrypts the
// payload.

import type { Security } from "../crypto/key-ring.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import { answerDueInMs, stopDueInMs } from "../session/metadata-handshake.ts";
import { isPayloadEnd } from "../session/payload.ts";
import { FLOW_DESTINATION, FLOW_PORTS, FLOW_SHIFT, FLOW_SOURCE } from "../table/flow-table.ts";
import {
  FORWARD,
  PAYLOAD_CLEAR,
  PAYLOAD_ENCRYPTED,
  REVERSE,
  SIDE_PLAIN,
  SIDE_SENDING,
} from "../table/session-table.ts";
import { PROTOCOL_TCP } from "../wire/flow-key.ts";
import { formatSocket } from "./address-text.ts";
import type { Told } from "./explain-told.ts";
import { SIDE_NAMES } from "./explain-told.ts";
import { printDuration } from "./show.ts";
import { protocolName } from "./snapshot.ts";

/** The hop to the peer on a side: its port pair, its handshake, its keys. */
export function tellHop(told: Told, way: number): void {
  const { sessions } = told.router;
  const path = told.path(way);
  if (path === null) return;
  const side = sessions.table.sides[way];
  const row = told.session;
  const base = sessions.table.flow(row, way) << FLOW_SHIFT;
  const { words } = sessions.flows;
  const ports = words[base + FLOW_PORTS];
  const pair = `${formatSocket(words[base + FLOW_DESTINATION], ports & 0xffff)} <> ${formatSocket(words[base + FLOW_SOURCE], ports >>> 16)}`;
  const picker = side.portRow[row] >= 0 ? "this router picked the pair" : `peer ${path.peerName} picked the pair`;
  const wire = side.wire[row];
  const carried = wire === told.protocol ? "" : `; ${protocolName(told.protocol)} goes as ${protocolName(wire)}`;
  const tunnel = sessions.isTunnelled(row, 1 - way) ? "; inside BFD's tuple, for the NAT between" : "";
  told.say("waypoint", pair, `${SIDE_NAMES[way]}, ${told.pathName(path)}: ${picker}${carried}${tunnel}`);
  if (told.protocol === PROTOCOL_TCP) tellTransform(told, way, path);
  tellHandshake(told, way, path);
  told.say("protection", ...protection(told, path));
  const second = sessions.secondPath(row, way);
  if (second >= 0)
    told.say("second path", told.pathName(sessions.paths[second]), "packets go over both, and are delivered once");
}

/** Whether TCP goes as UDP to that peer, and who decided it. */
function tellTransform(told: Told, way: number, path: PeerPath): void {
  const side = told.router.sessions.table.sides[way];
  const isTransformed = told.router.sessions.isTransformed(told.session, way);
  const { mode } = path.udpTransform;
  const ours = path.blocksTcp
    ? `${mode}: a firewall on the path takes no TCP of ours`
    : mode === "auto-detect"
      ? "auto-detect: no firewall that takes no TCP of ours has been found on the path"
      : mode;
  const stays =
    isTransformed === path.transformsTcp ? "" : `; it began ${isTransformed ? "as UDP" : "as TCP"}, before that`;
  const reason =
    side.portRow[told.session] >= 0
      ? `${ours}${stays}`
      : `peer ${path.peerName} decides it, because it picked the pair`;
  told.say("udp-transform", isTransformed ? "TCP goes as UDP" : "TCP goes as TCP", reason);
}

function tellHandshake(told: Told, way: number, path: PeerPath): void {
  const { table } = told.router.sessions;
  const side = table.sides[way];
  const row = told.session;
  const due = way === FORWARD ? answerDueInMs(side, row, told.nowMs) : stopDueInMs(side, row, told.nowMs);
  const packet = due === Number.POSITIVE_INFINITY ? "" : `; a packet made for it is due in ${printDuration(due)}`;
  const asks = (table.healthCheck[row] & (1 << (1 - way))) !== 0;
  const silent = asks
    ? `; ${path.peerName} has been silent: the next packet asks whether it still knows the session`
    : "";
  if (side.state[row] === SIDE_SENDING)
    told.say(
      "metadata",
      "attached to every packet",
      `peer ${path.peerName} has not shown yet that it has heard us${packet}${silent}`,
    );
  else if (side.state[row] !== SIDE_PLAIN)
    told.say("metadata", "none any more", `peer ${path.peerName} has heard us${packet}${silent}`);
}

function protection(told: Told, { security, peerName }: PeerPath): [outcome: string, reason: string] {
  if (security === null)
    return ["none", `peer ${peerName} has no security policy: nothing is signed, metadata is in clear`];
  const policy = told.router.config.securityPolicies.find(({ name }) => name === security.name);
  const signs =
    security.sign === "none" || policy?.hmac == null
      ? "nothing is signed"
      : `${policy.hmac} on ${security.sign === "metadata" ? "packets with metadata alone" : "every packet that has a payload"}, ${security.timeBased ? "by the time" : "for good"}`;
  const seals = policy?.encryption == null ? "metadata is in clear" : `metadata in ${policy.encryption}`;
  return [`policy ${security.name}`, `${signs}; ${seals}; key version ${security.ring.sending(told.nowMs).version}`];
}

/** Whether the payload is encrypted, by what and where. */
export function tellPayload(told: Told): void {
  const { table } = told.router.sessions;
  const row = told.session;
  const service = told.router.policy.services[table.service[row]];
  const isEnd = isPayloadEnd(table, row);
  if (table.payload[row] === PAYLOAD_ENCRYPTED) {
    const policy = new TextDecoder().decode(told.router.metadata.names.bytes(table.payloadPolicy[row]));
    const key =
      table.keyLength(row) > 0 ? "a key of its own" : `policy ${policy}, key version ${table.payloadKeyVersion[row]}`;
    const where = isEnd
      ? "encrypted and decrypted here"
      : "passed on as it is: this router is neither its first nor its last";
    const from =
      table.hasEncryptedFrom[row] !== 0 ? "; not from its start, because its first bytes were waited for" : "";
    told.say("payload", "encrypted", `${key}; ${where}${from}`);
  } else if (table.payload[row] === PAYLOAD_CLEAR) told.say("payload", "in clear", whyClear(told, service.security));
  else told.say("payload", "in clear so far", "adaptive: its first bytes show whether its hosts encrypt by themselves");
}

function whyClear(told: Told, security: Security | null): string {
  if (told.path(FORWARD) === null && told.path(REVERSE) === null) return "it never leaves this router's networks";
  if (security === null) return "the service has no security policy here";
  return security.adaptive ? "adaptive: its hosts encrypt by themselves" : `its first router encrypts nothing of it`;
}
