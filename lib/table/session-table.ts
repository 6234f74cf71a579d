// Sessions: what the two flows of a conversation share. One typed array per column; a session is a row number, and a
// row's columns are meaningless while it is free. The forwarding of an established packet touches none of this.
//
// Full: allocate returns -1 and the lead packet is dropped (drop.session-table-full) unless a half-open session can go.

import { invariant } from "../base/invariant.ts";
import { CarriedAttributes } from "./carried-attributes.ts";
import { Slab } from "./slab.ts";

// Which way a packet of a session goes: from its initiator, or toward it. Also the index in `sides` of where it comes from.
export const FORWARD = 0;
export const REVERSE = 1;

// The side toward the session's initiator, and the side toward its server (protocol sheet 4.1, 4.2).
/** That side is a plain network, not a peer: no metadata there. */
export const SIDE_PLAIN = 0;
/** Initiator I1 / responder R1: metadata goes on every packet toward that peer. */
export const SIDE_SENDING = 1;
/** I2 / R2: the peer has heard us, packets go bare. */
export const SIDE_ESTABLISHED = 2;

// How a session's payload travels between its first and its last router (protocol sheet 5.5, 5.6).
export const PAYLOAD_CLEAR = 0;
export const PAYLOAD_ENCRYPTED = 1;
/** In clear until its first data shows whether its hosts encrypt it themselves. */
export const PAYLOAD_WATCHED = 2;

// The DSCP that is restored at the far edge (protocol sheet 8, preserve-dscp), of packets in one direction.
/** Each packet leaves with the one that it has. */
export const DSCP_FREE = 0;
/** It is restored, and is not known yet: of the next packet that a host sends. */
export const DSCP_AWAITED = 0x40;
/** It is known: the other bits are it. */
export const DSCP_KNOWN = 0x80;

/** A receiver that asks for less gets what the path takes all the same: one frame must not become tens of thousands. */
export const SEGMENT_SIZE_MIN = 216;

/** The unit of the column that says when a session was opened. */
const OPENED_MS = 10;

/** Columns about one side's metadata handshake. */
export class HandshakeColumns {
  /** SIDE_*. */
  readonly state: Uint8Array;
  /** Row of the peer path on that side, -1 for a plain network. */
  readonly path: Int32Array;
  /** The IP protocol that the session's packets between us and that peer have; 0 for a plain network. */
  readonly wire: Uint8Array;
  /** Metadata packets from that peer since we last answered it, and when the first of them came. */
  readonly unanswered: Uint8Array;
  readonly unansweredSinceMs: Int32Array;
  /** When a packet was last generated toward that peer; 0 = never. */
  readonly generatedMs: Int32Array;
  /** Row in the path's port pool of the waypoint pair that this router picked for that side, -1 where the peer did. */
  readonly portRow: Int32Array;
  /** The flow that packets from that peer came by before the session moved, still taken for a while; -1 = none. */
  readonly lingering: Int32Array;
  /** When it moved. */
  readonly movedMs: Int32Array;

  constructor(capacity: number) {
    this.state = new Uint8Array(capacity);
    this.path = new Int32Array(capacity);
    this.wire = new Uint8Array(capacity);
    this.unanswered = new Uint8Array(capacity);
    this.unansweredSinceMs = new Int32Array(capacity);
    this.generatedMs = new Int32Array(capacity);
    this.portRow = new Int32Array(capacity);
    this.lingering = new Int32Array(capacity);
    this.movedMs = new Int32Array(capacity);
  }

  /** The session begins, or goes on, over this path as IP protocol `wire`, with the pair that is row `portRow` of its pool. */
  start(row: number, path: number, portRow: number, wire = 0): void {
    this.state[row] = path < 0 ? SIDE_PLAIN : SIDE_SENDING;
    this.path[row] = path;
    this.wire[row] = wire;
    this.portRow[row] = portRow;
    this.unanswered[row] = 0;
    this.unansweredSinceMs[row] = 0;
    this.generatedMs[row] = 0;
  }
}

/** Sessions' directions that may have attributes to pass on. */
const CARRIED_ROWS = 1024;

export class SessionTable {
  readonly capacity: number;
  readonly #slab: Slab;
  readonly tenant: Int32Array;
  readonly service: Int32Array;
  /** Row of the service path that it leaves by. */
  readonly servicePath: Int32Array;
  /** Rows in the flow table. */
  readonly forwardFlow: Int32Array;
  readonly reverseFlow: Int32Array;
  /** The side toward the initiator, and the side toward the server. */
  readonly upstream: HandshakeColumns;
  readonly downstream: HandshakeColumns;
  /** Row in the duplicate table of each side, [2 * row + way], way 0 = toward the initiator; -1 = its packets are not numbered. */
  readonly duplicate: Int32Array;
  /** The same two: a packet arrives from sides[direction] and leaves by sides[1 - direction]. */
  readonly sides: readonly [HandshakeColumns, HandshakeColumns];
  /** Where source NAT is of the session's first router: what its last one presents. 0 for the port: the source's own. */
  readonly presented = new Map<number, { readonly address: number; readonly port: number }>();
  /** 1 = a router toward the server has said that it translates its source. */
  readonly translatedBeyond: Uint8Array;
  /** Of an inward session (session/inward.ts): the identifier of the session that it goes along. */
  readonly inward = new Map<number, Int32Array>();
  /** RFC 4122 bytes as four big-endian words per row. */
  readonly uuid: Int32Array;
  /** The original 5-tuple as four words per row: source, destination, ports, protocol. */
  readonly context: Int32Array;
  /** Row in the name table: the router where the session entered the fabric. */
  readonly sourceRouter: Int32Array;
  /** Row of the routers that it has passed before this one (session/passed-routers.ts); 0 where it begins. */
  readonly passed: Uint16Array;
  /** When: hundredths of a second, low 32 bits; see ageMs. */
  readonly opened: Int32Array;
  /** See session/tcp-state.ts; 0 for other protocols. */
  readonly tcpState: Uint8Array;
  /** TCP numbers a generated packet needs: per direction the next sequence number and the last acknowledgment (RFC 9293). */
  readonly tcpNumbers: Int32Array;
  /** Bit d: the peer that packets in direction d go to has been silent; the next of them asks whether it still knows the session. */
  readonly healthCheck: Uint8Array;
  /** How often the session was moved to another path, by us or by a peer; 255 = as often or more. */
  readonly moves: Uint8Array;
  /** TCP payload bytes per segment that may go in each direction: forward in [2r], reverse in [2r+1]; 0 = unknown. */
  readonly segmentSize: Uint16Array;
  /** The least that any receiver has asked for since the start, of what is believed: nothing shorter is a super-frame. */
  segmentSizeLeast = 0xffff;
  /** DSCP_*: of forward packets in [2r], of reverse ones in [2r+1]. */
  readonly dscp: Uint8Array;
  /** PAYLOAD_*. */
  readonly payload: Uint8Array;
  /** Row of the payload policy's name in the name table, 0 = none; and the version of its keys. */
  readonly payloadPolicy: Int32Array;
  readonly payloadKeyVersion: Int32Array;
  /** Of a session that was encrypted in its midst, per direction: the TCP sequence number that it is encrypted from on, */
  readonly encryptedFrom: Int32Array;
  /** and whether that is known: bit 0 forward, bit 1 reverse; the others: session/payload.ts. 0 in a session that began encrypted. */
  readonly hasEncryptedFrom: Uint8Array;
  /** Bytes of a place in `keys`; 0 = no session has a payload key of its own, and there is no room for any. */
  readonly keyStride: number;
  /** The payload keys that sessions have of their own, and how long each is; 0 = none. Zeroes where there is none. */
  readonly keys: Uint8Array;
  readonly #keyLength: Uint8Array;
  /** What is passed on of it without being known here, by direction. */
  readonly carried: CarriedAttributes;
  /** Rows in the NAT table, which it references: of its source in [2r], of its destination in [2r+1]. Empty where there is no NAT. */
  readonly #mapping: Int32Array;

  constructor(capacity: number, keyStride = 0, hasMappings = false) {
    this.capacity = capacity;
    this.#slab = new Slab(capacity);
    this.tenant = new Int32Array(capacity);
    this.service = new Int32Array(capacity);
    this.servicePath = new Int32Array(capacity);
    this.forwardFlow = new Int32Array(capacity);
    this.reverseFlow = new Int32Array(capacity);
    this.upstream = new HandshakeColumns(capacity);
    this.downstream = new HandshakeColumns(capacity);
    this.sides = [this.upstream, this.downstream];
    this.duplicate = new Int32Array(capacity * 2);
    this.translatedBeyond = new Uint8Array(capacity);
    this.uuid = new Int32Array(capacity * 4);
    this.context = new Int32Array(capacity * 4);
    this.sourceRouter = new Int32Array(capacity);
    this.passed = new Uint16Array(capacity);
    this.opened = new Int32Array(capacity);
    this.tcpState = new Uint8Array(capacity);
    this.tcpNumbers = new Int32Array(capacity * 4);
    this.healthCheck = new Uint8Array(capacity);
    this.moves = new Uint8Array(capacity);
    this.segmentSize = new Uint16Array(capacity * 2);
    this.dscp = new Uint8Array(capacity * 2);
    this.payload = new Uint8Array(capacity);
    this.payloadPolicy = new Int32Array(capacity);
    this.payloadKeyVersion = new Int32Array(capacity);
    this.encryptedFrom = new Int32Array(capacity * 2);
    this.hasEncryptedFrom = new Uint8Array(capacity);
    this.keyStride = keyStride;
    this.keys = new Uint8Array(capacity * keyStride);
    this.#mapping = new Int32Array(hasMappings ? capacity * 2 : 0);
    this.#keyLength = new Uint8Array(keyStride === 0 ? 0 : capacity);
    this.carried = new CarriedAttributes(Math.min(2 * capacity, CARRIED_ROWS));
  }

  get count(): number {
    return this.#slab.live;
  }

  /** Segments of the session that go in this direction may carry `size` bytes; 0 = unknown. */
  setSegmentSize(row: number, direction: number, size: number): void {
    this.segmentSize[row * 2 + direction] = size;
    if (size >= SEGMENT_SIZE_MIN && size < this.segmentSizeLeast) this.segmentSizeLeast = size;
  }

  /** A fresh row, or -1 when full. */
  allocate(nowMs: number): number {
    const row = this.#slab.allocate();
    if (row < 0) return -1;
    this.opened[row] = Math.floor(nowMs / OPENED_MS);
    this.tcpState[row] = 0;
    this.translatedBeyond[row] = 0;
    this.setMapping(row, -1);
    this.setHairpin(row, -1);
    this.healthCheck[row] = 0;
    this.moves[row] = 0;
    this.upstream.lingering[row] = -1;
    this.downstream.lingering[row] = -1;
    this.duplicate.fill(-1, row * 2, row * 2 + 2);
    this.tcpNumbers.fill(0, row * 4, row * 4 + 4);
    this.segmentSize.fill(0, row * 2, row * 2 + 2);
    this.dscp.fill(DSCP_FREE, row * 2, row * 2 + 2);
    this.payload[row] = PAYLOAD_CLEAR;
    this.payloadPolicy[row] = 0;
    this.payloadKeyVersion[row] = 0;
    this.hasEncryptedFrom[row] = 0;
    return row;
  }

  free(row: number): void {
    this.carried.forget(row);
    if (this.keyLength(row) !== 0) {
      this.keys.fill(0, row * this.keyStride, (row + 1) * this.keyStride);
      this.#keyLength[row] = 0;
    }
    this.presented.delete(row);
    this.inward.delete(row);
    this.#slab.free(row);
  }

  /** Row of its source's mapping in the NAT table, which it references; -1 = it has none. */
  mappingOf(row: number): number {
    return this.#mapping.length === 0 ? -1 : this.#mapping[row * 2];
  }

  /** Only where there is NAT. */
  setMapping(row: number, mapping: number): void {
    if (this.#mapping.length > 0) this.#mapping[row * 2] = mapping;
  }

  /** Whether this router or another one gives one of its ends another address. */
  isTranslated(row: number): boolean {
    return this.tellsTranslated(row) || this.presented.has(row) || this.inward.has(row);
  }

  /** The same, as far as routers toward the initiator do not know. */
  tellsTranslated(row: number): boolean {
    return this.mappingOf(row) >= 0 || this.hairpinOf(row) >= 0 || this.translatedBeyond[row] === 1;
  }

  /** The mapping of its destination, which is a host behind the same NAT; -1 = it is none. */
  hairpinOf(row: number): number {
    return this.#mapping.length === 0 ? -1 : this.#mapping[row * 2 + 1];
  }

  setHairpin(row: number, mapping: number): void {
    if (this.#mapping.length > 0) this.#mapping[row * 2 + 1] = mapping;
  }

  /** Bytes of the payload key that a session has of its own; 0 = it has none. */
  keyLength(row: number): number {
    return this.keyStride === 0 ? 0 : this.#keyLength[row];
  }

  /** Give a session the first `length` bytes of `key` for its payload key. Only where there is room for keys. */
  setKey(row: number, key: Uint8Array, length: number): void {
    invariant(length <= this.keyStride, "no room for a payload key");
    for (let i = 0; i < length; i++) this.keys[row * this.keyStride + i] = key[i];
    this.#keyLength[row] = length;
  }

  /** Whether bytes[at..at+length) are the session's own payload key. */
  hasKey(row: number, bytes: Uint8Array, at: number, length: number): boolean {
    if (length !== this.keyLength(row)) return false;
    let difference = 0;
    for (let i = 0; i < length; i++) difference |= this.keys[row * this.keyStride + i] ^ bytes[at + i];
    return difference === 0;
  }

  isLive(row: number): boolean {
    return this.#slab.isLive(row);
  }

  /** Milliseconds since the row was allocated, to a hundredth of a second; comes round after 497 days. */
  ageMs(row: number, nowMs: number): number {
    return ((Math.floor(nowMs / OPENED_MS) - this.opened[row]) >>> 0) * OPENED_MS;
  }

  /** The flow of the session's packets in a direction. */
  flow(row: number, direction: number): number {
    return direction === FORWARD ? this.forwardFlow[row] : this.reverseFlow[row];
  }

  hasUuid(row: number, words: Int32Array): boolean {
    const uuid = this.uuid;
    const at = row * 4;
    return uuid[at] === words[0] && uuid[at + 1] === words[1] && uuid[at + 2] === words[2] && uuid[at + 3] === words[3];
  }
}
