// Whether a session's payload is encrypted between its first and its last router, and from where on (protocol sheet 5.5,
// 5.6). Most sessions are from their first packet or never. A TCP session under an adaptive policy begins in clear and is
// watched: hosts that begin with a TLS handshake are left alone, all others are encrypted from the first data on.
//
// Such a change is told in metadata, with the sequence number at which it happens: attribute 11, and ours 0x8006. What
// is encrypted is then told by each segment's own sequence number, and not by when it comes: a late or repeated segment
// from before the change is in clear on both routers.

import type { Security } from "../crypto/key-ring.ts";
import {
  FORWARD,
  PAYLOAD_CLEAR,
  PAYLOAD_ENCRYPTED,
  PAYLOAD_WATCHED,
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

/** Whether the payload of a segment with this sequence number (TCP), or of any packet, is encrypted between routers. */
export function isEncrypted(table: SessionTable, session: number, direction: number, sequence: number): boolean {
  if (table.payload[session] !== PAYLOAD_ENCRYPTED) return false;
  if (table.hasEncryptedFrom[session] === 0) return true;
  if (!knowsEncryptedFrom(table, session, direction)) return false;
  return ((sequence - table.encryptedFrom[session * 2 + direction]) | 0) >= 0;
}

/** Whether it was encrypted in its midst, and where that was in this direction. */
export function knowsEncryptedFrom(table: SessionTable, session: number, direction: number): boolean {
  return (table.hasEncryptedFrom[session] & (1 << direction)) !== 0;
}

/** The session is encrypted in this direction from `sequence` on. */
export function encryptFrom(table: SessionTable, session: number, direction: number, sequence: number): void {
  table.payload[session] = PAYLOAD_ENCRYPTED;
  table.hasEncryptedFrom[session] |= 1 << direction;
  table.encryptedFrom[session * 2 + direction] = sequence;
}

/** Whether this router is the one that encrypts and decrypts: the session's first or last, and not the only one. */
export function isPayloadEnd(table: SessionTable, session: number): boolean {
  return table.upstream.path[session] < 0 !== table.downstream.path[session] < 0;
}

/** Whether it is the first, which decides. */
export function isFirstRouter(table: SessionTable, session: number): boolean {
  return table.sides[FORWARD].path[session] < 0;
}
