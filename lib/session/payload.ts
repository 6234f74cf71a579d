// Whether a session's payload is encrypted between its first and its last router, and from where on (protocol sheet 5.5,
// 5.6). Most sessions are from their first packet or never. A TCP session under an adaptive policy begins in clear and is
// watched: hosts that begin with a TLS handshake are left alone, all others are encrypted from the first data on.
//
// Such a change is told in metadata, with the sequence number at which it happens: attribute 11, and ours 0x8006. What
// is encrypted is then told by each segment's own sequence number, and not by when it comes: a late or repeated segment
// from before the change is in clear on both routers. Such a segment is no farther behind the newest than TCP's largest
// window reaches, 2^30 bytes (RFC 7323 2.3), and once that many bytes have gone in a direction none can come any more: then
// all of it is encrypted, whatever its numbers have come round to. Bytes are counted, and numbers are not followed: one that
// a host makes up changes nothing.

import type { Security } from "../crypto/key-ring.ts";
import type { FlowTable } from "../table/flow-table.ts";
import {
  FORWARD,
  PAYLOAD_CLEAR,
  PAYLOAD_ENCRYPTED,
  PAYLOAD_WATCHED,
  REVERSE,
  type SessionTable,
} from "../table/session-table.ts";
import { PROTOCOL_TCP, PROTOCOL_UDP } from "../wire/flow-key.ts";

const PROTOCOL_ESP = 50;
const PROTOCOL_AH = 51;
const PORT_IKE = 500;
const PORT_IPSEC_NAT = 4500;
const TLS_HANDSHAKE = 22;
const TLS_MAJOR = 3;
const TLS_CLIENT_HELLO = 1;

/** TCP's largest window: a segment that is sent again is no farther behind. */
const REACH = 2 ** 30;
/** The bits of `hasEncryptedFrom` above those that say what is known: nothing from before can come any more, by direction. */
const PASSED_SHIFT = 2;
/** Another one: this router is the last one, and has taken the session up after that. */
const TAKEN_UP = 1 << 4;
/** What of its server's bytes may be sent again then: as much as all but the largest windows have. */
const UNKNOWN_BEFORE = 2 ** 29;

/** How the payload of a new session begins, by the policy of its service. `ports` and `protocol` of its original 5-tuple. */
export function firstPayload(security: Security | null, protocol: number, ports: number): number {
  if (security === null) return PAYLOAD_CLEAR;
  if (!security.adaptive) return PAYLOAD_ENCRYPTED;
  if (protocol === PROTOCOL_TCP) return PAYLOAD_WATCHED;
  const to = ports & 0xffff;
  const isIpsec = protocol === PROTOCOL_ESP || protocol === PROTOCOL_AH;
  return isIpsec || (protocol === PROTOCOL_UDP && (to === PORT_IKE || to === PORT_IPSEC_NAT))
    ? PAYLOAD_CLEAR
    : PAYLOAD_ENCRYPTED;
}

/** Whether bytes[at..end) begins as a TLS connection does (RFC 8446 5.1, 4): a record with a ClientHello. */
export function isTlsHello(bytes: Uint8Array, at: number, end: number): boolean {
  return (
    end - at >= 6 && bytes[at] === TLS_HANDSHAKE && bytes[at + 1] === TLS_MAJOR && bytes[at + 5] === TLS_CLIENT_HELLO
  );
}

/**
 * Whether the payload of a segment with this sequence number (TCP), or of any packet, is encrypted between routers. Where it
 * says no of a session that was encrypted in its midst, ask hasPassed.
 */
export function isEncrypted(table: SessionTable, session: number, direction: number, sequence: number): boolean {
  if (table.payload[session] !== PAYLOAD_ENCRYPTED) return false;
  const known = table.hasEncryptedFrom[session];
  if (known === 0 || (known & (1 << (PASSED_SHIFT + direction))) !== 0) return true;
  // The first router begins, or was given back what it had begun; the last one follows, long before so much has gone.
  if ((known & (1 << direction)) === 0) return direction === FORWARD || (known & (1 << PASSED_SHIFT)) !== 0;
  const beyond = (sequence - table.encryptedFrom[session * 2 + direction]) | 0;
  return beyond >= 0 || beyond < -REACH;
}

/** Whether so much has gone in this direction, of a session that was encrypted in its midst, that all of it is encrypted. It is from then on. */
export function hasPassed(table: SessionTable, flows: FlowTable, session: number, direction: number): boolean {
  const { hasEncryptedFrom } = table;
  if ((hasEncryptedFrom[session] & (1 << (PASSED_SHIFT + direction))) !== 0) return true;
  // What the first router has not heard yet, its last one has long begun.
  if (!knowsEncryptedFrom(table, session, direction))
    return direction === REVERSE && hasPassed(table, flows, session, FORWARD);
  if (flows.bytes(table.flow(session, direction)) < REACH) return false;
  hasEncryptedFrom[session] |= 1 << (PASSED_SHIFT + direction);
  return true;
}

/** Whether it was encrypted in its midst, and where that was in this direction. */
export function knowsEncryptedFrom(table: SessionTable, session: number, direction: number): boolean {
  return (table.hasEncryptedFrom[session] & (1 << direction)) !== 0;
}

/** The session is encrypted in this direction from `sequence` on. */
export function encryptFrom(table: SessionTable, session: number, direction: number, sequence: number): void {
  table.payload[session] = PAYLOAD_ENCRYPTED;
  table.hasEncryptedFrom[session] |= 1 << direction;
  table.hasEncryptedFrom[session] &= ~(1 << (PASSED_SHIFT + direction));
  table.encryptedFrom[session * 2 + direction] = sequence;
}

/**
 * Whether the session's last router has not begun, and may not have heard that the first one has: what its server sends goes in clear,
 * and with no metadata.
 */
export function isOneSided(table: SessionTable, session: number): boolean {
  return knowsEncryptedFrom(table, session, FORWARD) && !knowsEncryptedFrom(table, session, REVERSE);
}

/** This router is the last one of a session that is told as one which was encrypted in its midst: an earlier router, or this one, had it before. */
export function takeUp(table: SessionTable, session: number): void {
  table.hasEncryptedFrom[session] |= TAKEN_UP;
}

/** Bytes of the server that the last router encrypts in front of the first ones that it sees, because they may have been encrypted before. */
export function unknownBefore(table: SessionTable, session: number): number {
  return (table.hasEncryptedFrom[session] & TAKEN_UP) === 0 ? 0 : UNKNOWN_BEFORE;
}

/** Whether this router is the one that encrypts and decrypts: the session's first or last, and not the only one. */
export function isPayloadEnd(table: SessionTable, session: number): boolean {
  return table.upstream.path[session] < 0 !== table.downstream.path[session] < 0;
}

/** Whether it is the first, which decides. */
export function isFirstRouter(table: SessionTable, session: number): boolean {
  return table.sides[FORWARD].path[session] < 0;
}
