// Payload encryption along a session's way (protocol sheet 5.5, 5.6): what the first and the last router do to a packet,
// what they see in it, and what metadata tells of it. Routers between only pass on what they are told.

import { getI32, getU16, setU16 } from "../base/bytes.ts";
import { encryptsMetadata, type Security } from "../crypto/key-ring.ts";
import { CIPHER_KEY_LENGTH, type PacketCrypto, type PayloadCipher } from "../crypto/packet-crypto.ts";
import type { FrameBatch } from "../io/port.ts";
import type { Sessions } from "../session/open.ts";
import type { OpenRequest } from "../session/open-request.ts";
import {
  encryptFrom,
  hasPassed,
  isEncrypted,
  isFirstRouter,
  isPayloadEnd,
  isTlsHello,
  knowsEncryptedFrom,
  unknownBefore,
} from "../session/payload.ts";
import type { Policy } from "../session/policy.ts";
import { OP_FROM_PEER } from "../table/flow-table.ts";
import { FORWARD, PAYLOAD_CLEAR, PAYLOAD_ENCRYPTED, PAYLOAD_WATCHED, REVERSE } from "../table/session-table.ts";
import { applyDelta, deltaU16, l4IsRight } from "../wire/checksum.ts";
import { AT_END, AT_L3, AT_L4, AT_PAYLOAD, KEY_PROTOCOL, PROTOCOL_TCP } from "../wire/flow-key.ts";
import { PARSED_SECURITY_KEY, type ParsedMetadata } from "../wire/metadata.ts";
import {
  ATTRIBUTE_ENCRYPTED_FROM,
  ATTRIBUTE_PAYLOAD_KEY_VERSION,
  ATTRIBUTE_SESSION_ENCRYPTED,
} from "../wire/metadata-attributes.ts";
import {
  ACK,
  FIN,
  getTcpAcknowledgment,
  getTcpFlags,
  getTcpSequence,
  SYN,
  TCP_CHECKSUM,
  TCP_FLAGS,
} from "../wire/tcp.ts";
import {
  DROP_KEY_IN_CLEAR,
  DROP_KEY_VERSION,
  DROP_PAYLOAD_CHECKSUM,
  DROP_SECURITY_POLICY,
  DROP_SESSION_KEY,
  OK,
} from "../wire/verdict.ts";
import type { PacketSecurity } from "./packet-security.ts";
import { moveEnd, payloadEnd } from "./splice.ts";
import { tcpHeaderAt } from "./tcp-in-udp.ts";

const CIPHERS = ["aes-cbc-128", "aes-cbc-256"] as const;
const KEY_LENGTHS: readonly number[] = CIPHERS.map((name) => CIPHER_KEY_LENGTH[name]);

/** Bytes that encryption adds to a packet at most: a block of padding, and an IV. */
export const PAYLOAD_OVERHEAD = 32;

export class PayloadSecurity {
  readonly #sessions: Sessions;
  readonly #policy: Policy;
  readonly #security: PacketSecurity;
  /** By the length of their keys: of sessions that have one of their own, in the session table. */
  readonly #own: ReadonlyMap<number, PayloadCipher>;

  constructor(parts: { sessions: Sessions; policy: Policy; security: PacketSecurity; crypto: PacketCrypto }) {
    this.#sessions = parts.sessions;
    this.#policy = parts.policy;
    this.#security = parts.security;
    const { keyStride, keys } = parts.sessions.table;
    const ciphers = keyStride === 0 ? [] : CIPHERS;
    this.#own = new Map(ciphers.map((name) => [CIPHER_KEY_LENGTH[name], parts.crypto.columnCipher(name, keys)]));
  }

  /** Of a session that begins here: draw it a payload key of its own, if its policy says so. */
  drawKey(request: OpenRequest, security: Security | null): void {
    const length = ownKeyLength(request, security);
    request.payloadKeyLength = length;
    if (length > 0) this.#security.drawKey(request.payloadKey, length);
  }

  /** Of a session whose payload is decrypted here: take over the key that it must have of its own, or none. */
  takeKey(request: OpenRequest, security: Security | null, told: Uint8Array, parsed: ParsedMetadata): number {
    const wanted = ownKeyLength(request, security);
    const verdict = this.passKey(request, request.upstreamPath, told, parsed);
    if (verdict !== OK || request.payloadKeyLength === wanted) return verdict;
    return wanted === 0 ? DROP_SECURITY_POLICY : DROP_SESSION_KEY;
  }

  /** Of a session that goes on from here: take over the key that its metadata, come by path `from`, brings. OK, or why it is refused. */
  passKey(request: OpenRequest, from: number, told: Uint8Array, parsed: ParsedMetadata): number {
    request.payloadKeyLength = 0;
    if (!parsed.has(PARSED_SECURITY_KEY)) return OK;
    // Whoever sends a key in clear has given it away.
    if (!encryptsMetadata(this.#sessions.paths[from].security)) return DROP_KEY_IN_CLEAR;
    const length = parsed.lengthOf(PARSED_SECURITY_KEY);
    if (!KEY_LENGTHS.includes(length)) return DROP_SESSION_KEY;
    const at = parsed.offsetOf(PARSED_SECURITY_KEY);
    for (let i = 0; i < length; i++) request.payloadKey[i] = told[at + i];
    request.payloadKeyLength = length;
    return OK;
  }

  /** Whether forward metadata of a known session has the payload key that the session has: none where it has none. It is wiped from `told` then, where it was decrypted. */
  isSameKey(session: number, told: Uint8Array, parsed: ParsedMetadata): boolean {
    const { table } = this.#sessions;
    if (!parsed.has(PARSED_SECURITY_KEY)) return table.keyLength(session) === 0;
    const at = parsed.offsetOf(PARSED_SECURITY_KEY);
    const length = parsed.lengthOf(PARSED_SECURITY_KEY);
    if (!table.hasKey(session, told, at, length)) return false;
    told.fill(0, at, at + length);
    return true;
  }

  /** A packet of the session has come: decrypt it, look at it, make it ready to be encrypted. OK, or why it goes no further. */
  arrive(batch: FrameBatch, i: number, key: Int32Array, session: number, direction: number, plan: number): number {
    const { table } = this.#sessions;
    if (table.payload[session] === PAYLOAD_CLEAR || !isPayloadEnd(table, session)) return OK;
    const { bytes } = batch;
    const tcp = (key[KEY_PROTOCOL] & 0xff) === PROTOCOL_TCP;
    const sequence = tcp ? getTcpSequence(bytes, key[AT_L4]) : 0;
    const fromPeer = (plan & OP_FROM_PEER) !== 0;
    if (payloadEnd(bytes, key) === key[AT_PAYLOAD]) return OK;
    if (tcp && table.payload[session] === PAYLOAD_WATCHED) this.#watch(bytes, key, session, direction, sequence);
    if (tcp && !fromPeer) this.#begin(session, direction, sequence);
    if (!this.#isEncrypted(session, direction, sequence)) {
      if (tcp && !fromPeer && table.payload[session] === PAYLOAD_ENCRYPTED)
        this.#trim(batch, i, key, session, direction);
      return OK;
    }
    if (!l4IsRight(bytes, key[AT_L3], key[AT_L4], key[AT_END])) return DROP_PAYLOAD_CHECKSUM;
    if (!fromPeer) return OK;
    const cipher = this.cipher(session);
    return cipher === null ? DROP_KEY_VERSION : this.#security.openPayload(batch, i, key, cipher, session);
  }

  /** The packet has its new addresses: encrypt it, where this router does that. */
  leave(batch: FrameBatch, i: number, key: Int32Array, session: number, direction: number, plan: number): number {
    const { table } = this.#sessions;
    if ((plan & OP_FROM_PEER) !== 0 || table.payload[session] !== PAYLOAD_ENCRYPTED || !isPayloadEnd(table, session))
      return OK;
    const tcp = (key[KEY_PROTOCOL] & 0xff) === PROTOCOL_TCP;
    if (!this.#isEncrypted(session, direction, tcp ? getTcpSequence(batch.bytes, key[AT_L4]) : 0)) return OK;
    const cipher = this.cipher(session);
    if (cipher === null) return DROP_KEY_VERSION;
    this.#security.sealPayload(batch, i, key, cipher, session);
    return OK;
  }

  /** Decrypt in place the first `length` bytes, which a packet of the session had as its payload. Returns where they end; -1 = nothing that is sealed here. */
  open(session: number, bytes: Uint8Array, length: number): number {
    const { table } = this.#sessions;
    const isHere = table.payload[session] === PAYLOAD_ENCRYPTED && isPayloadEnd(table, session);
    const cipher = isHere ? this.cipher(session) : null;
    return cipher === null ? -1 : this.#security.openBytes(bytes, length, cipher, session);
  }

  /** Bytes that encryption may add to a packet of the session. */
  overhead(session: number): number {
    const { table } = this.#sessions;
    return table.payload[session] === PAYLOAD_CLEAR || !isPayloadEnd(table, session) ? 0 : PAYLOAD_OVERHEAD;
  }

  /**
   * What metadata that came in `direction` says of the payload of a session that we know. It may have changed: who comes
   * after us is told, too. Returns false when the peer has not heard yet what we told it.
   */
  heard(session: number, direction: number, told: Uint8Array, parsed: ParsedMetadata): boolean {
    const { table } = this.#sessions;
    if (!parsed.has(ATTRIBUTE_SESSION_ENCRYPTED)) {
      return direction === FORWARD || table.payload[session] !== PAYLOAD_ENCRYPTED;
    }
    const wasEncrypted = table.payload[session] === PAYLOAD_ENCRYPTED;
    if (direction === FORWARD && !wasEncrypted && parsed.has(ATTRIBUTE_PAYLOAD_KEY_VERSION)) {
      table.payloadKeyVersion[session] = getI32(told, parsed.offsetOf(ATTRIBUTE_PAYLOAD_KEY_VERSION));
    }
    // Only what the session's first router began can be answered.
    if (direction === REVERSE && !wasEncrypted) return true;
    table.payload[session] = PAYLOAD_ENCRYPTED;
    const knew = knowsEncryptedFrom(table, session, direction);
    if (parsed.has(ATTRIBUTE_ENCRYPTED_FROM)) {
      const from = getI32(told, parsed.offsetOf(ATTRIBUTE_ENCRYPTED_FROM));
      if (knew && table.encryptedFrom[session * 2 + direction] === from) return true;
      encryptFrom(table, session, direction, from);
      this.#sessions.mustTell(session, 1 - direction);
    }
    return true;
  }

  /**
   * Whether a forward packet shows that its sender knows from where on the reverse payload is encrypted: it acknowledges
   * bytes from behind that. Only then does metadata stop to tell it; a bare packet alone may be one from before. It has
   * `metadataLength` bytes of metadata on it.
   */
  isKnown(bytes: Uint8Array, key: Int32Array, session: number, metadataLength = 0): boolean {
    const { table, flows } = this.#sessions;
    if (!knowsEncryptedFrom(table, session, REVERSE) || hasPassed(table, flows, session, REVERSE)) return true;
    const l4 = tcpHeaderAt(key, metadataLength);
    if (l4 < 0) return false;
    const began = table.encryptedFrom[session * 2 + REVERSE] + unknownBefore(table, session);
    const beyond = (getTcpAcknowledgment(bytes, l4) - began) | 0;
    return (getTcpFlags(bytes, l4) & ACK) !== 0 && beyond > 0;
  }

  /** What by its number seems to be from before the session was encrypted may have come a whole round later. */
  #isEncrypted(session: number, direction: number, sequence: number): boolean {
    const { table, flows } = this.#sessions;
    if (isEncrypted(table, session, direction, sequence)) return true;
    return table.payload[session] === PAYLOAD_ENCRYPTED && hasPassed(table, flows, session, direction);
  }

  /** The first data of a watched session, either way: its hosts encrypt it themselves, or the first router begins to. */
  #watch(bytes: Uint8Array, key: Int32Array, session: number, direction: number, sequence: number): void {
    const { table } = this.#sessions;
    if ((getTcpFlags(bytes, key[AT_L4]) & SYN) !== 0) return;
    if (direction === FORWARD && isTlsHello(bytes, key[AT_PAYLOAD], key[AT_END])) {
      table.payload[session] = PAYLOAD_CLEAR;
      return;
    }
    if (!isFirstRouter(table, session)) return;
    encryptFrom(table, session, FORWARD, direction === FORWARD ? sequence : table.tcpNumbers[session * 4]);
    this.#sessions.mustTell(session, REVERSE);
  }

  /**
   * The last router begins with what its server sends next, once it has heard that the first one has begun. One that has
   * taken the session up in its midst does not know what went encrypted before it, and may be sent again: it begins before that.
   */
  #begin(session: number, direction: number, sequence: number): void {
    const { table } = this.#sessions;
    const { hasEncryptedFrom } = table;
    if (direction !== REVERSE || hasEncryptedFrom[session] === 0 || knowsEncryptedFrom(table, session, REVERSE)) return;
    const next = table.tcpNumbers[session * 4 + 2];
    const isBehind = next !== 0 && ((next - sequence) | 0) > 0;
    const before = unknownBefore(table, session);
    encryptFrom(table, session, REVERSE, isBehind && before === 0 ? next : sequence - before);
    this.#sessions.mustTell(session, FORWARD);
  }

  /** A segment sent again, longer, across the place where encryption began: only what was in clear before goes in clear now. */
  #trim(batch: FrameBatch, i: number, key: Int32Array, session: number, direction: number): void {
    const { table } = this.#sessions;
    if (!knowsEncryptedFrom(table, session, direction)) return;
    const { bytes } = batch;
    const l4 = key[AT_L4];
    const clear = (table.encryptedFrom[session * 2 + direction] - getTcpSequence(bytes, l4)) | 0;
    if (clear >= key[AT_END] - key[AT_PAYLOAD]) return;
    moveEnd(batch, i, key, key[AT_PAYLOAD] + clear);
    const flags = getTcpFlags(bytes, l4);
    if ((flags & FIN) === 0) return;
    const old = getU16(bytes, l4 + TCP_FLAGS - 1);
    setU16(bytes, l4 + TCP_FLAGS - 1, old & ~FIN);
    setU16(bytes, l4 + TCP_CHECKSUM, applyDelta(getU16(bytes, l4 + TCP_CHECKSUM), deltaU16(old, old & ~FIN)));
  }

  /** What its payload is encrypted with; its row is the place of a key of its own. null = a version of the keys that is not here. */
  cipher(session: number): PayloadCipher | null {
    const { table } = this.#sessions;
    const length = table.keyLength(session);
    if (length !== 0) return this.#own.get(length)!;
    const { security } = this.#policy.services[table.service[session]];
    return security?.ring.remembered(table.payloadKeyVersion[session])?.cipher ?? null;
  }
}

/** Bytes of the payload key that a session of this policy has of its own; 0 = it has none. A watched one may need it yet. */
function ownKeyLength(request: OpenRequest, security: Security | null): number {
  const cipher = request.payload === PAYLOAD_CLEAR ? null : (security?.sessionKeys ?? null);
  return cipher === null ? 0 : CIPHER_KEY_LENGTH[cipher];
}
