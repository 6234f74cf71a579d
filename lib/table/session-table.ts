// Sessions: what the two flows of a conversation share. One typed array per column; a session is a row number, and a
// row's columns are meaningless while it is free. The forwarding of an established packet touches none of this.
//
// Full: allocate returns -1 and the lead packet is dropped (drop.session-table-full) unless a half-open session can go.

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

/** The unit of the column that says when a session was opened. */
const OPENED_MS = 10;

/** Columns about one side's metadata handshake. */
export class HandshakeColumns {
  /** SIDE_*. */
  readonly state: Uint8Array;
  /** Row of the peer path on that side, -1 for a plain network. */
  readonly path: Int32Array;
  /** Metadata packets from that peer since we last answered it, and when the first of them came. */
  readonly unanswered: Uint8Array;
  readonly unansweredSinceMs: Int32Array;
  /** When a packet was last generated toward that peer; 0 = never. */
  readonly generatedMs: Int32Array;

  constructor(capacity: number) {
    this.state = new Uint8Array(capacity);
    this.path = new Int32Array(capacity);
    this.unanswered = new Uint8Array(capacity);
    this.unansweredSinceMs = new Int32Array(capacity);
    this.generatedMs = new Int32Array(capacity);
  }

  start(row: number, path: number): void {
    this.state[row] = path < 0 ? SIDE_PLAIN : SIDE_SENDING;
    this.path[row] = path;
    this.unanswered[row] = 0;
    this.unansweredSinceMs[row] = 0;
    this.generatedMs[row] = 0;
  }
}

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
  /** The same two: a packet arrives from sides[direction] and leaves by sides[1 - direction]. */
  readonly sides: readonly [HandshakeColumns, HandshakeColumns];
  /** Row in the downstream path's port pool, -1 without a downstream peer. */
  readonly portRow: Int32Array;
  /** RFC 4122 bytes as four big-endian words per row. */
  readonly uuid: Int32Array;
  /** The original 5-tuple as four words per row: source, destination, ports, protocol. */
  readonly context: Int32Array;
  /** Row in the name table: the router where the session entered the fabric. */
  readonly sourceRouter: Int32Array;
  /** Hundredths of a second, low 32 bits: see ageMs. */
  readonly #opened: Int32Array;
  /** See session/tcp-state.ts; 0 for other protocols. */
  readonly tcpState: Uint8Array;
  /** TCP numbers a generated packet needs: per direction the next sequence number and the last acknowledgment (RFC 9293). */
  readonly tcpNumbers: Int32Array;
  /** 1 = the server side's peer has been silent while we send: the next forward packet asks whether it still knows the session. */
  readonly healthCheck: Uint8Array;
  /** TCP payload bytes per segment that may go in each direction: forward in [2r], reverse in [2r+1]; 0 = unknown. */
  readonly segmentSize: Uint16Array;
  /** PAYLOAD_*. */
  readonly payload: Uint8Array;
  /** Row of the payload policy's name in the name table, 0 = none; and the version of its keys. */
  readonly payloadPolicy: Int32Array;
  readonly payloadKeyVersion: Int32Array;
  /** Of a session that was encrypted in its midst, per direction: the TCP sequence number that it is encrypted from on, */
  readonly encryptedFrom: Int32Array;
  /** and whether that is known: bit 0 forward, bit 1 reverse. 0 in a session that began encrypted. */
  readonly hasEncryptedFrom: Uint8Array;

  constructor(capacity: number) {
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
    this.portRow = new Int32Array(capacity);
    this.uuid = new Int32Array(capacity * 4);
    this.context = new Int32Array(capacity * 4);
    this.sourceRouter = new Int32Array(capacity);
    this.#opened = new Int32Array(capacity);
    this.tcpState = new Uint8Array(capacity);
    this.tcpNumbers = new Int32Array(capacity * 4);
    this.healthCheck = new Uint8Array(capacity);
    this.segmentSize = new Uint16Array(capacity * 2);
    this.payload = new Uint8Array(capacity);
    this.payloadPolicy = new Int32Array(capacity);
    this.payloadKeyVersion = new Int32Array(capacity);
    this.encryptedFrom = new Int32Array(capacity * 2);
    this.hasEncryptedFrom = new Uint8Array(capacity);
  }

  get count(): number {
    return this.#slab.live;
  }

  /** A fresh row, or -1 when full. */
  allocate(nowMs: number): number {
    const row = this.#slab.allocate();
    if (row < 0) return -1;
    this.#opened[row] = Math.floor(nowMs / OPENED_MS);
    this.tcpState[row] = 0;
    this.healthCheck[row] = 0;
    this.tcpNumbers.fill(0, row * 4, row * 4 + 4);
    this.segmentSize.fill(0, row * 2, row * 2 + 2);
    this.payload[row] = PAYLOAD_CLEAR;
    this.payloadPolicy[row] = 0;
    this.payloadKeyVersion[row] = 0;
    this.hasEncryptedFrom[row] = 0;
    return row;
  }

  free(row: number): void {
    this.#slab.free(row);
  }

  isLive(row: number): boolean {
    return this.#slab.isLive(row);
  }

  /** Milliseconds since the row was allocated, to a hundredth of a second; comes round after 497 days. */
  ageMs(row: number, nowMs: number): number {
    return ((Math.floor(nowMs / OPENED_MS) - this.#opened[row]) >>> 0) * OPENED_MS;
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
