// HOT
// The way of packets that need keys, once their session is established: what fast-path.ts is for all others. It takes
// many at a time, because what computes lies behind the addon's boundary, and each step is one call for all of them:
//
//   sums → verify → decrypt → rewrite → encrypt → sign → join → sums → send
//
// A packet about which there is any doubt (a wrong digest, a wrong checksum, one that is too long with what is added)
// goes the slow path, untouched and in its place in the order. What is done to a packet is packet-security.ts's and
// payload-security.ts's; this is the same for many.

import {
  HMAC_RIGHT,
  IV_LENGTH,
  type PacketCrypto,
  type PacketHmac,
  type PayloadCipher,
  sealedLength,
} from "../crypto/packet-crypto.ts";
import {
  FRAME_CHECKSUM_KNOWN,
  FRAME_CHECKSUM_PARTIAL,
  FRAME_LABEL,
  FrameBatch,
  HEADROOM,
  type Port,
  SEGMENT_SIZE_UNKNOWN,
  TAILROOM,
} from "../io/port.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import type { RouterInterface } from "../peer/router-interface.ts";
import type { Sessions } from "../session/open.ts";
import { isEncrypted, isPayloadEnd } from "../session/payload.ts";
import type { CounterSet } from "../table/counter-set.ts";
import {
  FLOW_BYTES_F64,
  FLOW_LAST_SEEN,
  FLOW_NEXT_HOP,
  FLOW_PACKETS_F64,
  FLOW_PLAN,
  FLOW_SESSION,
  FLOW_SHIFT,
  OP_FROM_PEER,
  OP_INSERT_UDP,
  OP_LABEL,
  OP_MARK,
  OP_REMOVE_UDP,
  OP_TO_PEER,
  planDirection,
  planDscp,
  planEgress,
} from "../table/flow-table.ts";
import { PAYLOAD_CLEAR, PAYLOAD_ENCRYPTED, PAYLOAD_WATCHED } from "../table/session-table.ts";
import {
  AT_END,
  AT_L3,
  AT_L4,
  AT_PAYLOAD,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_PROTOCOL,
  KEY_ROW_WORDS,
  KEY_SHIFT,
  KEY_SOURCE,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
} from "../wire/flow-key.ts";
import { cutSegment, isChecksumPartial, segmentSizeMax } from "../wire/offload.ts";
import { getTcpSequence } from "../wire/tcp.ts";
import { getUdpLength } from "../wire/udp.ts";
import { DROP_FRAME_TOO_LONG, DROP_PAYLOAD_CIPHER, OK, PUNT_SESSION } from "../wire/verdict.ts";
import { FRAMES_CONSUMED, FRAMES_FORWARDED, FRAMES_SPLIT, SLOW_PATH_PACKETS } from "./counters.ts";
import type { Egress } from "./egress.ts";
import { canCut, hidesCookie, mtuOfSegments, needsKeysAlone, segmentSizeOf, takeMark } from "./fast-path.ts";
import { endSuperFrame, joinSegment } from "./join-segments.ts";
import type { Outcomes } from "./outcomes.ts";
import type { PacketSecurity } from "./packet-security.ts";
import type { PayloadSecurity } from "./payload-security.ts";
import { markDscp, padTtl, rewrite } from "./rewrite.ts";
import type { SlowPath } from "./slow-path.ts";
import { endPayload, payloadIsRight } from "./splice.ts";

/** Segments of a super-frame that are in work at a time. */
const PIECES = 64;
/** The segment is in the super-frame of a row before it. */
const JOINED = -1;

export class SecurePath {
  readonly #sessions: Sessions;
  readonly #outcomes: Outcomes;
  readonly #interfaces: readonly RouterInterface[];
  readonly #egress: Egress;
  readonly #slow: SlowPath;
  readonly #counters: CounterSet;
  readonly #crypto: PacketCrypto;
  readonly #security: PacketSecurity;
  readonly #payload: PayloadSecurity;
  /** By interface: 1 = its port takes super-frames as they are. */
  readonly #takesSuperFrames: Uint8Array;
  /** Rows of the batch that wait for `flush`, in order. */
  readonly #waiting: Int32Array;
  #waitingCount = 0;
  /** Removals of flows when the flush began: a row that was found before may be another flow's when there were more. */
  #removals = 0;
  // A row for each packet in work: where it is in its batch, its flow, and what became of it (OK so far, PUNT_SESSION for
  // the slow path, or a drop). The four columns behind it say what is to be done with it; a step that is done is null.
  #count = 0;
  readonly #row: Int32Array;
  readonly #flow: Int32Array;
  readonly #verdict: Int32Array;
  readonly #session: Int32Array;
  readonly #verifies: (PeerPath | null)[];
  readonly #opens: (PayloadCipher | null)[];
  readonly #seals: (PayloadCipher | null)[];
  readonly #signs: (PacketHmac | null)[];
  readonly #windows: Float64Array;
  /** Payload bytes of each segment where this row has become a super-frame, else 0; JOINED where it is part of one. */
  readonly #joined: Int32Array;
  /** 1 where there is no payload, or nothing is done to it: its lengths and, but for what was rewritten, its checksum stay as they are. */
  readonly #bare: Uint8Array;
  // The rows of one call, and which packet in work each is.
  readonly #from: Int32Array;
  readonly #to: Int32Array;
  readonly #result: Int32Array;
  readonly #of: Int32Array;
  /** Where the keys are of sessions that have one of their own: the session's row. */
  readonly #places: Int32Array;
  readonly #ivs: Uint8Array;
  // Segments that super-frames are cut to.
  readonly #pieces: FrameBatch;
  readonly #pieceBytes: number;
  readonly #pieceKeys = new Int32Array(PIECES << KEY_SHIFT);
  readonly #pieceFlows = new Int32Array(PIECES);
  readonly #pieceRows = new Int32Array(PIECES);
  #piecesInUse = false;
  readonly #key = new Int32Array(KEY_ROW_WORDS);

  constructor(parts: {
    sessions: Sessions;
    outcomes: Outcomes;
    interfaces: readonly RouterInterface[];
    egress: Egress;
    slow: SlowPath;
    counters: CounterSet;
    crypto: PacketCrypto;
    security: PacketSecurity;
    payload: PayloadSecurity;
    ports: readonly Port[];
    batchFrames: number;
    /** Length of the longest frame that leaves. */
    frameBytesMax: number;
  }) {
    this.#sessions = parts.sessions;
    this.#interfaces = parts.interfaces;
    this.#egress = parts.egress;
    this.#slow = parts.slow;
    this.#counters = parts.counters;
    this.#outcomes = parts.outcomes;
    this.#crypto = parts.crypto;
    this.#security = parts.security;
    this.#payload = parts.payload;
    this.#takesSuperFrames = Uint8Array.from(parts.ports, ({ takesSuperFrames }) =>
      takesSuperFrames === true ? 1 : 0,
    );
    const rows = Math.max(parts.batchFrames, PIECES);
    this.#waiting = new Int32Array(parts.batchFrames);
    this.#row = new Int32Array(rows);
    this.#flow = new Int32Array(rows);
    this.#verdict = new Int32Array(rows);
    this.#session = new Int32Array(rows);
    this.#verifies = new Array<PeerPath | null>(rows).fill(null);
    this.#opens = new Array<PayloadCipher | null>(rows).fill(null);
    this.#seals = new Array<PayloadCipher | null>(rows).fill(null);
    this.#signs = new Array<PacketHmac | null>(rows).fill(null);
    this.#windows = new Float64Array(rows);
    this.#joined = new Int32Array(rows);
    this.#bare = new Uint8Array(rows);
    this.#from = new Int32Array(rows);
    this.#to = new Int32Array(rows);
    this.#result = new Int32Array(rows);
    this.#of = new Int32Array(rows);
    this.#places = new Int32Array(rows);
    this.#ivs = new Uint8Array(rows * IV_LENGTH);
    this.#pieceBytes = (HEADROOM + parts.frameBytesMax + 63) & ~63;
    this.#pieces = new FrameBatch(new Uint8Array(PIECES * this.#pieceBytes + TAILROOM), PIECES);
    for (let n = 0; n < PIECES; n++) this.#pieceRows[n] = n;
  }

  get isEmpty(): boolean {
    return this.#waitingCount === 0;
  }

  /** Row `i` of the batch, of a known flow and ready but for its keys, waits for `flush`. */
  add(i: number): void {
    this.#waiting[this.#waitingCount++] = i;
  }

  /**
   * Take on every packet that waits. `keys` and `found` are the fast path's columns of this batch. Call before another
   * packet of the batch takes the slow path, and at the batch's end. Returns how many waited.
   */
  flush(batch: FrameBatch, keys: Int32Array, found: Int32Array, nowMs: number): number {
    const count = this.#waitingCount;
    this.#waitingCount = 0;
    this.#removals = this.#sessions.flows.removals;
    let from = 0;
    for (let n = 0; n < count; n++) {
      const i = this.#waiting[n];
      if (batch.segmentSize[i] === 0) continue;
      this.#run(batch, keys, found, this.#waiting, from, n, nowMs);
      this.#cut(batch, i, keys, found[i], nowMs);
      from = n + 1;
    }
    this.#run(batch, keys, found, this.#waiting, from, count, nowMs);
    return count;
  }

  /** A super-frame: every segment is a packet of its own, and counted as one. */
  #cut(batch: FrameBatch, i: number, keys: Int32Array, flow: number, nowMs: number): void {
    const at = i << KEY_SHIFT;
    const size = this.#segmentSize(batch, i, keys, at, flow);
    if (size === 0) {
      this.#toSlowPath(batch, i, keys, nowMs);
      return;
    }
    const pieces = this.#pieces;
    const from = batch.offset[i];
    const headers = keys[at + AT_PAYLOAD] - from;
    const label = batch.flags[i] & FRAME_LABEL;
    let index = 0;
    for (;;) {
      // What is queued may lie where the next pieces go.
      if (this.#piecesInUse) this.#egress.flush();
      this.#piecesInUse = true;
      let count = 0;
      for (; count < PIECES; count++) {
        const to = count * this.#pieceBytes + HEADROOM;
        const length = cutSegment(batch.bytes, from, size, index, pieces.bytes, to);
        if (length === 0) break;
        index++;
        pieces.offset[count] = to;
        pieces.length[count] = length;
        // Its checksum is yet to be made: as good as partial.
        pieces.flags[count] = FRAME_CHECKSUM_KNOWN | FRAME_CHECKSUM_PARTIAL | label;
        const key = count << KEY_SHIFT;
        for (let word = 0; word < KEY_ROW_WORDS; word++) this.#pieceKeys[key + word] = keys[at + word];
        this.#pieceKeys[key + AT_L3] += to - from;
        this.#pieceKeys[key + AT_L4] += to - from;
        this.#pieceKeys[key + AT_PAYLOAD] = to + headers;
        this.#pieceKeys[key + AT_END] = to + length;
        this.#pieceFlows[count] = flow;
      }
      this.#counters.add(FRAMES_SPLIT, count);
      this.#run(pieces, this.#pieceKeys, this.#pieceFlows, this.#pieceRows, 0, count, nowMs);
      if (count < PIECES) break;
    }
    this.#counters.increment(FRAMES_CONSUMED);
  }

  /**
   * Payload bytes of each segment of super-frame `i`; 0 = not here: it cannot be cut, its checksum is wrong, a segment has
   * metadata, or what looks like it, or what its session is to be is yet to be seen.
   */
  #segmentSize(batch: FrameBatch, i: number, keys: Int32Array, at: number, flow: number): number {
    const { flows, table } = this.#sessions;
    if (!this.#isReady(flow) || table.payload[flows.words[(flow << FLOW_SHIFT) + FLOW_SESSION]] === PAYLOAD_WATCHED)
      return 0;
    const size = this.#cutSize(batch, i, keys, at, flow);
    return size > 0 && hidesCookie(batch.bytes, keys, at, size) ? 0 : size;
  }

  #cutSize(batch: FrameBatch, i: number, keys: Int32Array, at: number, flow: number): number {
    const { flows, table, paths } = this.#sessions;
    const words = flows.words;
    const base = flow << FLOW_SHIFT;
    const plan = words[base + FLOW_PLAN];
    const session = words[base + FLOW_SESSION];
    const mtu = mtuOfSegments(batch, i, keys, at, this.#interfaces[planEgress(plan)].mtu, this.#interfaces);
    if (!canCut(batch, i, keys, at, mtu)) return 0;
    if (!this.#isPartial(batch, i, keys, at) && !this.#hasRightSum(batch, keys, at)) return 0;
    // What came from a peer is cut to the packets that the peer sent.
    if ((plan & OP_FROM_PEER) !== 0) return batch.segmentSize[i] === SEGMENT_SIZE_UNKNOWN ? 0 : batch.segmentSize[i];
    const direction = planDirection(plan);
    const path = table.sides[1 - direction].path[session];
    const growth = this.#payload.overhead(session) + (path < 0 ? 0 : this.#security.overhead(paths[path]));
    const room = segmentSizeMax(batch.bytes, batch.offset[i], mtu) - growth;
    const size = segmentSizeOf(batch, i, keys, at, mtu, table, session, direction);
    if (size <= room) return size;
    return (keys[at + KEY_PROTOCOL] & 0xff) === PROTOCOL_TCP ? room : 0;
  }

  /** The packets list[from..to) of one batch, none of them a super-frame. */
  #run(
    batch: FrameBatch,
    keys: Int32Array,
    found: Int32Array,
    list: Int32Array,
    from: number,
    to: number,
    nowMs: number,
  ): void {
    if (from === to) return;
    this.#count = to - from;
    for (let n = from; n < to; n++) {
      const i = list[n];
      this.#row[n - from] = i;
      this.#flow[n - from] = found[i];
      this.#verdict[n - from] = this.#prepare(batch, i, keys, found[i], n - from, nowMs);
    }
    this.#checkSums(batch, keys);
    this.#verify(batch, keys, nowMs);
    this.#open(batch, keys);
    this.#rewrite(batch, keys, nowMs);
    this.#seal(batch, keys);
    this.#sign(batch, keys);
    this.#join(batch, keys);
    this.#makeSums(batch, keys);
    this.#send(batch, keys, nowMs);
  }

  /** Whether the flow is still what the fast path found: a packet before may have taken the slow path since, and changed its session. */
  #isReady(flow: number): boolean {
    const { flows } = this.#sessions;
    return (
      flows.removals === this.#removals &&
      needsKeysAlone(flows.words[(flow << FLOW_SHIFT) + FLOW_PLAN], flows.generation)
    );
  }

  /** What has to be done with packet `i`, into row `r`. OK, or PUNT_SESSION: the slow path knows. */
  #prepare(batch: FrameBatch, i: number, keys: Int32Array, flow: number, r: number, nowMs: number): number {
    const { flows, table, paths } = this.#sessions;
    const at = i << KEY_SHIFT;
    const base = flow << FLOW_SHIFT;
    const plan = flows.words[base + FLOW_PLAN];
    const session = flows.words[base + FLOW_SESSION];
    const l4 = keys[at + AT_L4];
    const end = keys[at + AT_END];
    const length = end - keys[at + AT_PAYLOAD];
    const protocol = keys[at + KEY_PROTOCOL] & 0xff;
    this.#session[r] = session;
    this.#verifies[r] = null;
    this.#opens[r] = null;
    this.#seals[r] = null;
    this.#signs[r] = null;
    this.#joined[r] = 0;
    this.#bare[r] = length === 0 ? 1 : 0;
    if (!this.#isReady(flow) || (plan & (OP_INSERT_UDP | OP_REMOVE_UDP)) !== 0) return PUNT_SESSION;
    if (length === 0) return OK;
    if (protocol === PROTOCOL_UDP && l4 + getUdpLength(batch.bytes, l4) !== end) return PUNT_SESSION;
    const direction = planDirection(plan);
    const before = table.sides[direction].path[session];
    const behind = table.sides[1 - direction].path[session];
    let growth = 0;
    if (before >= 0 && this.#security.overhead(paths[before]) > 0) {
      this.#verifies[r] = paths[before];
      growth -= this.#security.overhead(paths[before]);
    }
    if (table.payload[session] !== PAYLOAD_CLEAR && isPayloadEnd(table, session)) {
      if (table.payload[session] !== PAYLOAD_ENCRYPTED) return PUNT_SESSION;
      const sequence = protocol === PROTOCOL_TCP ? getTcpSequence(batch.bytes, l4) : 0;
      if (!isEncrypted(table, session, direction, sequence)) return PUNT_SESSION;
      const cipher = this.#payload.cipher(session);
      if (cipher === null) return PUNT_SESSION;
      if (before >= 0) this.#opens[r] = cipher;
      else {
        this.#seals[r] = cipher;
        growth += sealedLength(length) - length;
      }
    }
    if (behind >= 0 && this.#security.overhead(paths[behind]) > 0) {
      const hmac = this.#security.sendingHmac(paths[behind], nowMs);
      this.#signs[r] = hmac;
      this.#windows[r] = this.#security.window(paths[behind]);
      growth += hmac.length;
    }
    const isTouched =
      this.#verifies[r] !== null || this.#opens[r] !== null || this.#seals[r] !== null || this.#signs[r] !== null;
    if (!isTouched) this.#bare[r] = 1;
    const mtu = behind >= 0 ? paths[behind].mtu(nowMs) : this.#interfaces[planEgress(plan)].mtu;
    return end - keys[at + AT_L3] + growth > mtu ? PUNT_SESSION : OK;
  }

  /** Packets whose checksum is wrong go the slow path, which says why. */
  #checkSums(batch: FrameBatch, keys: Int32Array): void {
    let count = 0;
    for (let r = 0; r < this.#count; r++) {
      const i = this.#row[r];
      const at = i << KEY_SHIFT;
      if (this.#verdict[r] !== OK || this.#bare[r] !== 0) continue;
      if (this.#isPartial(batch, i, keys, at)) continue;
      this.#from[count] = keys[at + AT_PAYLOAD];
      this.#to[count] = keys[at + AT_END];
      this.#of[count++] = r;
    }
    if (count === 0) return;
    this.#crypto.sums(batch.bytes, this.#from, this.#to, count, this.#result);
    for (let n = 0; n < count; n++) {
      const r = this.#of[n];
      const at = this.#row[r] << KEY_SHIFT;
      if (!payloadIsRight(batch.bytes, keys, at, this.#result[n])) this.#verdict[r] = PUNT_SESSION;
    }
  }

  /** Digests are taken off, peer by peer. A wrong one goes the slow path, which looks farther. */
  #verify(batch: FrameBatch, keys: Int32Array, nowMs: number): void {
    for (let first = 0; first < this.#count; first++) {
      const path = this.#verifies[first];
      if (path === null) continue;
      let count = 0;
      for (let r = first; r < this.#count; r++) {
        if (this.#verifies[r] !== path) continue;
        this.#verifies[r] = null;
        if (this.#verdict[r] === OK) count = this.#collect(keys, r, count);
      }
      if (count > 0) this.#verifyAll(batch, keys, path, count, nowMs);
    }
  }

  #verifyAll(batch: FrameBatch, keys: Int32Array, path: PeerPath, count: number, nowMs: number): void {
    this.#security.verifyAll(batch.bytes, this.#from, this.#to, count, this.#result, path, nowMs);
    for (let n = 0; n < count; n++) {
      const r = this.#of[n];
      if (this.#result[n] === HMAC_RIGHT) keys[(this.#row[r] << KEY_SHIFT) + AT_END] = this.#to[n];
      else this.#verdict[r] = PUNT_SESSION;
    }
  }

  #open(batch: FrameBatch, keys: Int32Array): void {
    for (let first = 0; first < this.#count; first++) {
      const cipher = this.#opens[first];
      if (cipher === null) continue;
      let count = 0;
      for (let r = first; r < this.#count; r++) {
        if (this.#opens[r] !== cipher) continue;
        this.#opens[r] = null;
        if (this.#verdict[r] === OK) count = this.#collect(keys, r, count);
      }
      if (count === 0) continue;
      cipher.open(batch.bytes, this.#from, this.#to, count, this.#places);
      this.#take(keys, count, DROP_PAYLOAD_CIPHER);
    }
  }

  #seal(batch: FrameBatch, keys: Int32Array): void {
    for (let first = 0; first < this.#count; first++) {
      const cipher = this.#seals[first];
      if (cipher === null) continue;
      let count = 0;
      for (let r = first; r < this.#count; r++) {
        if (this.#seals[r] !== cipher) continue;
        this.#seals[r] = null;
        if (this.#verdict[r] === OK) count = this.#collect(keys, r, count);
      }
      if (count === 0) continue;
      this.#security.drawIvs(this.#ivs, count);
      cipher.seal(batch.bytes, this.#from, this.#to, count, this.#ivs, this.#places);
      this.#take(keys, count, DROP_FRAME_TOO_LONG);
    }
  }

  #sign(batch: FrameBatch, keys: Int32Array): void {
    for (let first = 0; first < this.#count; first++) {
      const hmac = this.#signs[first];
      if (hmac === null) continue;
      const window = this.#windows[first];
      let count = 0;
      for (let r = first; r < this.#count; r++) {
        if (this.#signs[r] !== hmac) continue;
        this.#signs[r] = null;
        if (this.#verdict[r] === OK) count = this.#collect(keys, r, count);
      }
      if (count === 0) continue;
      hmac.sign(batch.bytes, this.#from, this.#to, count, window);
      this.#take(keys, count, DROP_FRAME_TOO_LONG);
    }
  }

  /** The payload of packet `r` is row `count` of the next call. Returns the count then. */
  #collect(keys: Int32Array, r: number, count: number): number {
    const at = this.#row[r] << KEY_SHIFT;
    this.#from[count] = keys[at + AT_PAYLOAD];
    this.#to[count] = keys[at + AT_END];
    this.#of[count] = r;
    this.#places[count] = this.#session[r];
    return count + 1;
  }

  /** Payloads end where the call left them; where it could not do them, the packet is dropped. */
  #take(keys: Int32Array, count: number, drop: number): void {
    for (let n = 0; n < count; n++) {
      const r = this.#of[n];
      if (this.#to[n] < 0) this.#verdict[r] = drop;
      else keys[(this.#row[r] << KEY_SHIFT) + AT_END] = this.#to[n];
    }
  }

  #rewrite(batch: FrameBatch, keys: Int32Array, nowMs: number): void {
    const { words, doubles } = this.#sessions.flows;
    for (let r = 0; r < this.#count; r++) {
      if (this.#verdict[r] !== OK) continue;
      const i = this.#row[r];
      const at = i << KEY_SHIFT;
      const flow = this.#flow[r];
      const base = flow << FLOW_SHIFT;
      const l3 = keys[at + AT_L3];
      takeMark(batch, i, l3, words[base + FLOW_PLAN]);
      const partial = this.#bare[r] !== 0 && this.#isPartial(batch, i, keys, at);
      rewrite(batch.view, l3, keys[at + AT_L4], words, base, partial);
      if ((words[base + FLOW_PLAN] & OP_MARK) !== 0)
        this.#mark(batch.view, l3, words[base + FLOW_PLAN], this.#session[r]);
      words[base + FLOW_LAST_SEEN] = nowMs;
      const counts = flow << (FLOW_SHIFT - 1);
      doubles[counts + FLOW_PACKETS_F64]++;
      doubles[counts + FLOW_BYTES_F64] += keys[at + AT_END] - l3;
    }
  }

  /** What is written into the header of a packet of this plan beyond what is rewritten in every one. */
  #mark(view: DataView, l3: number, plan: number, session: number): void {
    const { table, paths } = this.#sessions;
    markDscp(view, l3, planDscp(plan));
    const behind = table.sides[1 - planDirection(plan)].path[session];
    if (behind >= 0) padTtl(view, l3, paths[behind].padding);
  }

  /** Segments of one stream that are done with and leave by a port that takes super-frames become one. */
  #join(batch: FrameBatch, keys: Int32Array): void {
    const { words } = this.#sessions.flows;
    let head = -1;
    let size = 0;
    for (let r = 0; r < this.#count; r++) {
      const at = this.#row[r] << KEY_SHIFT;
      if (head >= 0 && this.#verdict[r] === OK && this.#flow[r] === this.#flow[head]) {
        const first = this.#row[head] << KEY_SHIFT;
        if (this.#sharesLabel(batch, r, head) && joinSegment(batch.bytes, keys, first, at, size)) {
          this.#joined[head] = size;
          this.#joined[r] = JOINED;
          continue;
        }
      }
      if (head >= 0 && this.#joined[head] > 0) endSuperFrame(batch, keys, this.#row[head] << KEY_SHIFT);
      size = keys[at + AT_END] - keys[at + AT_PAYLOAD];
      const plan = words[(this.#flow[r] << FLOW_SHIFT) + FLOW_PLAN];
      const isHead =
        this.#verdict[r] === OK &&
        size > 0 &&
        this.#bare[r] === 0 &&
        (plan & OP_TO_PEER) === 0 &&
        (keys[at + KEY_PROTOCOL] & 0xff) === PROTOCOL_TCP &&
        this.#takesSuperFrames[planEgress(plan)] !== 0;
      head = isHead ? r : -1;
    }
    if (head >= 0 && this.#joined[head] > 0) endSuperFrame(batch, keys, this.#row[head] << KEY_SHIFT);
  }

  /** Whether packets `r` and `head` of one flow have one flow label, where that is a host's: a super-frame has one. */
  #sharesLabel(batch: FrameBatch, r: number, head: number): boolean {
    const plan = this.#sessions.flows.words[(this.#flow[head] << FLOW_SHIFT) + FLOW_PLAN];
    const differ = batch.flags[this.#row[r]] ^ batch.flags[this.#row[head]];
    return (plan & OP_LABEL) === 0 || (differ & FRAME_LABEL) === 0;
  }

  /** Lengths and checksums of all that had a payload: its digest may have been all of it. */
  #makeSums(batch: FrameBatch, keys: Int32Array): void {
    let count = 0;
    for (let r = 0; r < this.#count; r++) {
      if (this.#verdict[r] !== OK || this.#joined[r] !== 0 || this.#bare[r] !== 0) continue;
      count = this.#collect(keys, r, count);
    }
    if (count === 0) return;
    this.#crypto.sums(batch.bytes, this.#from, this.#to, count, this.#result);
    for (let n = 0; n < count; n++) {
      endPayload(batch.bytes, keys, this.#row[this.#of[n]] << KEY_SHIFT, this.#result[n]);
    }
  }

  #send(batch: FrameBatch, keys: Int32Array, nowMs: number): void {
    const { words } = this.#sessions.flows;
    for (let r = 0; r < this.#count; r++) {
      const i = this.#row[r];
      const verdict = this.#verdict[r];
      if (verdict === PUNT_SESSION) {
        this.#toSlowPath(batch, i, keys, nowMs);
        continue;
      }
      if (verdict !== OK) {
        this.#finish(verdict, batch, i, keys[(i << KEY_SHIFT) + KEY_PROTOCOL] >>> 8, this.#flow[r], nowMs);
        continue;
      }
      this.#counters.increment(FRAMES_FORWARDED);
      if (this.#joined[r] === JOINED) continue;
      const at = i << KEY_SHIFT;
      const base = this.#flow[r] << FLOW_SHIFT;
      const offset = batch.offset[i];
      const isPartial = this.#joined[r] > 0 || (this.#bare[r] !== 0 && this.#isPartial(batch, i, keys, at));
      const flags = (isPartial ? FRAME_CHECKSUM_PARTIAL : 0) | (batch.flags[i] & FRAME_LABEL);
      const length = keys[at + AT_END] - offset;
      const egress = planEgress(words[base + FLOW_PLAN]);
      const hop = words[base + FLOW_NEXT_HOP];
      this.#egress.send(egress, hop, batch.bytes, offset, length, flags, this.#joined[r], nowMs);
    }
  }

  /** A packet before it may have ended its session. */
  #toSlowPath(batch: FrameBatch, i: number, keys: Int32Array, nowMs: number): void {
    const key = this.#key;
    const at = i << KEY_SHIFT;
    for (let word = 0; word < KEY_ROW_WORDS; word++) key[word] = keys[at + word];
    const { flows } = this.#sessions;
    const flow = flows.find(key[KEY_SOURCE], key[KEY_DESTINATION], key[KEY_PORTS], key[KEY_PROTOCOL]);
    this.#counters.increment(SLOW_PATH_PACKETS);
    const port = key[KEY_PROTOCOL] >>> 8;
    const verdict = flow < 0 ? this.#slow.miss(batch, i, key, nowMs) : this.#slow.session(batch, i, key, flow, nowMs);
    this.#finish(verdict, batch, i, port, flow, nowMs);
  }

  #finish(verdict: number, batch: FrameBatch, i: number, port: number, flow: number, nowMs: number): void {
    this.#outcomes.count(verdict, batch.bytes, batch.offset[i], batch.length[i], port, flow, nowMs);
  }

  #hasRightSum(batch: FrameBatch, keys: Int32Array, at: number): boolean {
    this.#from[0] = keys[at + AT_PAYLOAD];
    this.#to[0] = keys[at + AT_END];
    this.#crypto.sums(batch.bytes, this.#from, this.#to, 1, this.#result);
    return payloadIsRight(batch.bytes, keys, at, this.#result[0]);
  }

  #isPartial(batch: FrameBatch, i: number, keys: Int32Array, at: number): boolean {
    const flags = batch.flags[i];
    if ((flags & FRAME_CHECKSUM_KNOWN) !== 0) return (flags & FRAME_CHECKSUM_PARTIAL) !== 0;
    return isChecksumPartial(batch.bytes, keys[at + AT_L3], keys[at + AT_L4], keys[at + AT_END]);
  }
}
