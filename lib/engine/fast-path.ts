// HOT
// The fast path knows two things: look up the flow, apply its plan. Every doubt is a verdict for the slow path: no
// flow, a handshake that runs, metadata, SYN/FIN/RST, a stale generation, TTL, size, an unresolved next hop.
//
// It goes over a batch three times, and that is what makes it fast: decode reads the frames, find waits for the table's
// cache misses of all of them together, forward finds everything near. Its columns (one row a frame of the batch) are
// the engine's to read.

import {
  FRAME_CHECKSUM_KNOWN,
  FRAME_CHECKSUM_PARTIAL,
  FRAME_LABEL,
  FRAME_LABEL_SHIFT,
  FRAME_OF_IPV6,
  FRAME_REFUSED,
  FRAME_TRUNCATED,
  type FrameBatch,
  refusalOf,
  SEGMENT_SIZE_UNKNOWN,
} from "../io/port.ts";
import { MAC_SHIFT, type NeighborTable } from "../peer/neighbor.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import type { RouterInterface } from "../peer/router-interface.ts";
import {
  EGRESS_SHIFT,
  FLOW_BYTES_F64,
  FLOW_LAST_SEEN,
  FLOW_NEXT_HOP,
  FLOW_PACKETS_F64,
  FLOW_PLAN,
  FLOW_SESSION,
  FLOW_SHIFT,
  type FlowTable,
  GENERATION_MASK,
  OP_FROM_PEER,
  OP_LABEL,
  OP_SECURE,
  OP_SLOW,
  OP_TO_PEER,
  planDirection,
} from "../table/flow-table.ts";
import { SEGMENT_SIZE_MIN, type SessionTable } from "../table/session-table.ts";
import { pseudoSum } from "../wire/checksum.ts";
import {
  ANY_MAC,
  AT_END,
  AT_L3,
  AT_L4,
  AT_PAYLOAD,
  decodeFrame,
  ETHERNET_HEADER,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_PROTOCOL,
  KEY_SHIFT,
  KEY_SOURCE,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  startsWithCookie,
  TRAITS,
} from "../wire/flow-key.ts";
import { IPV4_HEADER } from "../wire/ipv4.ts";
import { completeChecksum, isChecksumPartial, segmentSizeMax } from "../wire/offload.ts";
import { TCP_HEADER } from "../wire/tcp.ts";
import { DROP_TRUNCATED, OK, PUNT_MISS, PUNT_SESSION } from "../wire/verdict.ts";
import { allowFragments, rewrite, writeMacs } from "./rewrite.ts";
import type { SecurePath } from "./secure-path.ts";
import type { TxQueue } from "./tx-queue.ts";

/** Bytes of a frame in front of TCP's options: Ethernet, IPv4, TCP. */
const HEADERS = ETHERNET_HEADER + IPV4_HEADER + TCP_HEADER;

// A module's own constants are folded into its code; an imported one is loaded at each use (README.md).
const ROW = KEY_SHIFT;
const L3 = AT_L3;
const L4 = AT_L4;
const END = AT_END;
const SOURCE = KEY_SOURCE;
const DESTINATION = KEY_DESTINATION;
const PROTOCOL = KEY_PROTOCOL;
const KEY_TRAITS = TRAITS;
const FLOW = FLOW_SHIFT;
const PLAN = FLOW_PLAN;
const NEXT_HOP = FLOW_NEXT_HOP;
const READY = GENERATION_MASK | OP_SLOW | OP_SECURE;
const SECURE = OP_SECURE;
const EGRESS = EGRESS_SHIFT;
const MAC = MAC_SHIFT;
const TCP = PROTOCOL_TCP;
const UDP = PROTOCOL_UDP;
const GOOD = OK;
const MISS = PUNT_MISS;
const SESSION = PUNT_SESSION;
const LAST_SEEN = FLOW_LAST_SEEN;
const COUNTS = FLOW_SHIFT - 1;
const PACKETS = FLOW_PACKETS_F64;
const BYTES = FLOW_BYTES_F64;
const PARTIAL = FRAME_CHECKSUM_PARTIAL;
const KNOWN = FRAME_CHECKSUM_KNOWN;
const LABEL = FRAME_LABEL;
/** The same bit in a plan and in a flag column: OP_LABEL, FRAME_OF_IPV6. */
const OWN = FRAME_OF_IPV6 & OP_LABEL;
/** Brings bit 16 of a flow label to the sign, where a plan has OP_LABEL. */
const TO_SIGN = 31 - 16 - FRAME_LABEL_SHIFT;
const NOT_READ = FRAME_TRUNCATED | FRAME_REFUSED;
const CUT_OFF = DROP_TRUNCATED;
const decode = decodeFrame;
const apply = rewrite;
const address = writeMacs;
const allow = allowFragments;
const pseudo = pseudoSum;

export class FastPath {
  readonly #flows: FlowTable;
  readonly #words: Int32Array;
  readonly #sessions: SessionTable;
  readonly #neighbors: NeighborTable;
  readonly #queues: readonly TxQueue[];
  readonly #interfaces: readonly RouterInterface[];
  readonly #paths: readonly PeerPath[];
  /** By interface: what is longer is looked at, for some path that leaves by it takes no more. */
  readonly #mtus: Int32Array;
  readonly #secure: SecurePath;
  /** Key rows, as the decoder writes them. */
  readonly keys: Int32Array;
  /** What decode said. */
  readonly verdicts: Int32Array;
  /** The row of the flow, -1 = none; means nothing unless the verdict is OK. */
  readonly found: Int32Array;
  /** Flows removed when `found` was made: a row may be another flow's since. */
  #removals = 0;
  /** Flows inserted before the batch was looked up. */
  #insertions = 0;
  /** Why forward stopped: PUNT_MISS, PUNT_SESSION or what decode said. */
  verdict = OK;

  constructor(parts: {
    flows: FlowTable;
    sessions: SessionTable;
    neighbors: NeighborTable;
    queues: readonly TxQueue[];
    interfaces: readonly RouterInterface[];
    paths: readonly PeerPath[];
    secure: SecurePath;
    batchFrames: number;
  }) {
    this.#flows = parts.flows;
    this.#secure = parts.secure;
    this.#words = parts.flows.words;
    this.#sessions = parts.sessions;
    this.#neighbors = parts.neighbors;
    this.#queues = parts.queues;
    this.#interfaces = parts.interfaces;
    this.#paths = parts.paths;
    this.#mtus = new Int32Array(parts.interfaces.map(({ mtu }) => mtu));
    for (const path of parts.paths) path.mtuFollower = () => this.#followMtu(path.interfaceId);
    this.keys = new Int32Array(parts.batchFrames << KEY_SHIFT);
    this.verdicts = new Int32Array(parts.batchFrames);
    this.found = new Int32Array(parts.batchFrames);
  }

  /** Decode the frames from..to-1 of the batch that came in by `port` and find the flow of each. */
  find(batch: FrameBatch, port: number, from: number, to: number): void {
    const { view, offset, length, flags } = batch;
    const { keys, verdicts } = this;
    const own = this.#interfaces[port];
    const macHigh = own.acceptAnyMac ? ANY_MAC : own.macHigh;
    const { macLow, isIpv6 } = own;
    for (let i = from; i < to; i++) {
      verdicts[i] =
        (flags[i] & NOT_READ) === 0
          ? decode(view, offset[i], length[i], port, macHigh, macLow, keys, i << ROW, isIpv6)
          : refusalOf(flags[i]) || CUT_OFF;
    }
    this.#flows.findBatch(keys, ROW, from, to, this.found);
    this.#removals = this.#flows.removals;
    if (from === 0) this.#insertions = this.#flows.insertions;
    const least = this.#sessions.segmentSizeLeast + HEADERS;
    for (let i = from; i < to; i++) if (length[i] > least) this.#findSegments(batch, i);
  }

  /**
   * A frame that its link takes whole may be a super-frame all the same, where a later link is narrower: it carries more than its
   * receiver asked for, and its checksum is unfinished, as is that of every super-frame. Ports that know of them have said so.
   */
  #findSegments(batch: FrameBatch, i: number): void {
    const flow = this.flowOf(i);
    if (flow < 0 || batch.segmentSize[i] !== 0 || (batch.flags[i] & FRAME_CHECKSUM_KNOWN) !== 0) return;
    const key = i << KEY_SHIFT;
    const { keys } = this;
    const words = this.#words;
    const base = flow << FLOW_SHIFT;
    const plan = words[base + FLOW_PLAN];
    if ((keys[key + KEY_PROTOCOL] & 0xff) !== PROTOCOL_TCP || (plan & OP_FROM_PEER) !== 0) return;
    const maximum = this.#sessions.segmentSize[words[base + FLOW_SESSION] * 2 + planDirection(plan)];
    // The options count as payload (RFC 6691).
    const carried = keys[key + AT_END] - keys[key + AT_L4] - TCP_HEADER;
    if (maximum < SEGMENT_SIZE_MIN || carried <= maximum) return;
    if (hasPartialChecksum(batch.view, keys, key, keys[key + AT_L4])) batch.segmentSize[i] = SEGMENT_SIZE_UNKNOWN;
  }

  /** The flow that was found for frame `i`; -1 = none, also of a frame that was not read to its end. */
  flowOf(i: number): number {
    return this.verdicts[i] === OK ? this.found[i] : -1;
  }

  /** A frame of the batch that had no flow may have one by now. */
  get hasNewFlows(): boolean {
    return this.#flows.insertions !== this.#insertions;
  }

  /** Flows may have gone since `forward` stopped at frame `i` for its flow. */
  lookAgain(i: number): void {
    if (this.verdict !== SESSION || this.#flows.removals === this.#removals) return;
    this.findAgain(i);
    if (this.found[i] < 0) this.verdict = MISS;
  }

  /** Look the flow of frame `i` up again: a session may have opened since. */
  findAgain(i: number): void {
    const { keys } = this;
    const key = i << ROW;
    this.found[i] = this.#flows.find(
      keys[key + KEY_SOURCE],
      keys[key + KEY_DESTINATION],
      keys[key + KEY_PORTS],
      keys[key + KEY_PROTOCOL],
    );
  }

  /**
   * Forward the frames from..to-1, found before, as far as they need nothing else. Returns the first that does, as it
   * was, with the reason in `verdict`; `to` when all of them are queued, or wait in the secure path.
   */
  forward(batch: FrameBatch, from: number, to: number, nowMs: number): number {
    if (this.#flows.removals !== this.#removals) this.#refresh(from, to);
    const { keys, verdicts, found } = this;
    const { bytes, view, offset, flags, segmentSize } = batch;
    const { doubles } = this.#flows;
    const generation = this.#flows.generation | 0;
    const words = this.#words;
    const { macs, usable } = this.#neighbors;
    const mtus = this.#mtus;
    // Once, or each store of it would convert it.
    const now = nowMs | 0;
    // The columns of the queue that packets leave by, for as long as that stays the same.
    let leaving = -1;
    let out = batch;
    let outOffset = offset;
    let outLength = offset;
    let outFlags = offset;
    let outSegmentSize = offset;
    let room = 0;
    let n = 0;
    let i = from;
    for (; i < to; i++) {
      const flow = found[i];
      if (verdicts[i] !== GOOD || flow < 0) {
        this.verdict = verdicts[i] === GOOD ? MISS : verdicts[i];
        break;
      }
      // Rows begin at multiples of 16, so | is +, and the compiler need not look for an overflow.
      const key = i << ROW;
      const base = flow << FLOW;
      const plan = words[base | PLAN];
      const hop = words[base | NEXT_HOP];
      if ((plan & READY) !== generation || keys[key | KEY_TRAITS] !== 0 || usable[hop] === 0) {
        if ((plan & READY) === (generation | SECURE) && keys[key | KEY_TRAITS] === 0 && usable[hop] !== 0) {
          this.#secure.add(i);
          continue;
        }
        this.verdict = SESSION;
        break;
      }
      const l3 = keys[key | L3];
      const l4 = keys[key | L4];
      const at = offset[i];
      const egress = (plan >>> EGRESS) & 0xff;
      const packetLength = keys[key | END] - l3;
      let size = segmentSize[i];
      if (size !== 0 || packetLength > mtus[egress]) {
        size = this.#segmentSize(batch, i, flow, egress, nowMs);
        if (size < 0) {
          this.verdict = SESSION;
          break;
        }
      }
      if (egress !== leaving || n === room) {
        if (leaving >= 0) out.count = n;
        leaving = egress;
        out = this.#queues[egress].ready(bytes);
        outOffset = out.offset;
        outLength = out.length;
        outFlags = out.flags;
        outSegmentSize = out.segmentSize;
        room = out.capacity;
        n = out.count;
      }

      // First everything that is not in the frame: a store into it makes the compiler look at every column anew.
      const flag = flags[i];
      const partial = (flag & KNOWN) === 0 ? hasPartialChecksum(view, keys, key, l4) : (flag & PARTIAL) !== 0;
      const counts = flow << COUNTS;
      doubles[counts | PACKETS]++;
      doubles[counts | BYTES] += packetLength;
      words[base | LAST_SEEN] = now;
      const mac = hop << MAC;
      macs[mac | 3] = now;
      outOffset[n] = at;
      outLength[n] = packetLength + l3 - at;
      outFlags[n] = (partial ? PARTIAL : 0) | (flag & LABEL) | (plan & OWN);
      outSegmentSize[n] = size;
      n++;
      const mac0 = macs[mac];
      const mac1 = macs[mac | 1];
      const mac2 = macs[mac | 2];
      if ((~plan & (flag << TO_SIGN)) < 0) allow(view, l3);
      apply(view, l3, l4, words, base, partial);
      address(view, at, mac0, mac1, mac2);
    }
    if (leaving >= 0) out.count = n;
    return i;
  }

  /** Flows have gone since `found` was made: look the rest up anew. */
  #refresh(from: number, to: number): void {
    for (let i = from; i < to; i++) if (this.verdicts[i] === OK) this.findAgain(i);
    this.#removals = this.#flows.removals;
  }

  /** cold: when some path takes more or less than it did. */
  #followMtu(interfaceId: number): void {
    let mtu = this.#interfaces[interfaceId].mtu;
    for (const path of this.#paths) {
      if (path.interfaceId === interfaceId) mtu = Math.min(mtu, path.leastMtu);
    }
    this.#mtus[interfaceId] = mtu;
  }

  /**
   * The segment size of a super-frame, or of a frame longer than some path by its egress takes: 0 = its own takes it as it is,
   * -1 = not for the fast path.
   */
  #segmentSize(batch: FrameBatch, i: number, flow: number, egress: number, nowMs: number): number {
    const key = i << KEY_SHIFT;
    const { keys } = this;
    const words = this.#words;
    const base = flow << FLOW_SHIFT;
    const plan = words[base + FLOW_PLAN];
    let { mtu } = this.#interfaces[egress];
    if (this.#mtus[egress] < mtu) {
      const path = this.#sessions.sides[1 - planDirection(plan)].path[words[base + FLOW_SESSION]];
      if (path >= 0) mtu = this.#paths[path].mtu(nowMs);
      if (batch.segmentSize[i] === 0 && keys[key + AT_END] - keys[key + AT_L3] <= mtu) return 0;
    }
    mtu = mtuOfSegments(batch, i, keys, key, mtu, this.#interfaces);
    if (!canCut(batch, i, keys, key, mtu)) return -1;
    const size = segmentSizeOf(
      batch,
      i,
      keys,
      key,
      mtu,
      this.#sessions,
      words[base + FLOW_SESSION],
      planDirection(plan),
    );
    // Metadata is where a peer's segments began, what looks like it where ours will.
    if (mayHideMetadata(batch, i, plan) && hidesCookie(batch.bytes, keys, key, batch.segmentSize[i])) return -1;
    return (plan & OP_TO_PEER) !== 0 && hidesCookie(batch.bytes, keys, key, size) ? -1 : size;
  }
}

/** See isChecksumPartial: the same from a key row, where the addresses are already. */
const hasPartialChecksum = (view: DataView, keys: Int32Array, key: number, l4: number): boolean => {
  const protocol = keys[key | PROTOCOL] & 0xff;
  const source = keys[key | SOURCE];
  const destination = keys[key | DESTINATION];
  if (protocol === UDP) {
    const udp = view.getInt32(l4 + 4);
    return (udp & 0xffff) === pseudo(source, destination, UDP, udp >>> 16);
  }
  return protocol === TCP && view.getUint16(l4 + 16) === pseudo(source, destination, TCP, keys[key | END] - l4);
};

/**
 * Frame `i`, whose IPv4 header is at `l3`, is of a flow with this plan. A label that a router has put on it says whether it may be
 * fragmented: if so, its DF is 0 from now on and it has no label, for what it is cut to may need identifications of its own.
 */
export function takeMark(batch: FrameBatch, i: number, l3: number, plan: number): void {
  batch.flags[i] |= plan & OWN;
  if ((~plan & (batch.flags[i] << TO_SIGN)) >= 0) return;
  allow(batch.view, l3);
  batch.flags[i] &= ~LABEL;
}

/** Whether packets of a flow with this plan need nothing but their keys: what the secure path does. */
export function needsKeysAlone(plan: number, generation: number): boolean {
  return (plan & READY) === (generation | SECURE);
}

/** Whether the checksum of decoded frame `i` is partial: the port says so, or the frame is looked at. */
export function isPartial(batch: FrameBatch, i: number, key: Int32Array): boolean {
  const flags = batch.flags[i];
  if ((flags & FRAME_CHECKSUM_KNOWN) !== 0) return (flags & FRAME_CHECKSUM_PARTIAL) !== 0;
  return isChecksumPartial(batch.bytes, key[AT_L3], key[AT_L4], key[AT_END]);
}

/** Decoded frame `i`, no super-frame, has its checksum from now on: whoever looks at that itself needs it. */
export function finishChecksum(batch: FrameBatch, i: number, key: Int32Array): void {
  if (!isPartial(batch, i, key)) return;
  completeChecksum(batch.bytes, batch.offset[i]);
  batch.flags[i] &= ~FRAME_CHECKSUM_PARTIAL;
}

/** Whether a super-frame can be cut to what `mtu` takes: a stream anywhere, datagrams only between one and the next. */
export function canCut(batch: FrameBatch, i: number, keys: Int32Array, at: number, mtu: number): boolean {
  const size = batch.segmentSize[i];
  const protocol = keys[at + KEY_PROTOCOL] & 0xff;
  if (protocol === PROTOCOL_TCP) return size !== 0;
  return protocol === PROTOCOL_UDP && size !== 0 && size <= segmentSizeMax(batch.bytes, batch.offset[i], mtu);
}

/**
 * How long the segments of super-frame `i` may be: as the egress takes them. Of one that came as IPv6, and whose segments' size
 * nobody tells, they were no longer than what it came by takes, which is 20 bytes less than what IPv4 has over the same links;
 * as long as that they would not fit where they leave as IPv6 again.
 */
export function mtuOfSegments(
  batch: FrameBatch,
  i: number,
  keys: Int32Array,
  at: number,
  mtu: number,
  interfaces: readonly RouterInterface[],
): number {
  if (batch.segmentSize[i] !== SEGMENT_SIZE_UNKNOWN) return mtu;
  const from = interfaces[keys[at + KEY_PROTOCOL] >>> 8];
  return from.isIpv6 ? Math.min(mtu, from.mtu) : mtu;
}

/**
 * How much payload each segment of super-frame `i`, decoded into the key row at keys[at], may have: what the port found
 * out, or else what the receiver asked for in its SYN less the options (RFC 6691), and never more than the egress MTU
 * allows.
 */
export function segmentSizeOf(
  batch: FrameBatch,
  i: number,
  keys: Int32Array,
  at: number,
  mtu: number,
  sessions: SessionTable,
  session: number,
  direction: number,
): number {
  const largest = segmentSizeMax(batch.bytes, batch.offset[i], mtu);
  let size = batch.segmentSize[i];
  if (size === SEGMENT_SIZE_UNKNOWN) {
    const maximum = sessions.segmentSize[session * 2 + direction];
    if (maximum >= SEGMENT_SIZE_MIN) size = maximum - (keys[at + AT_PAYLOAD] - keys[at + AT_L4]) + 20;
  }
  return size > largest || size < 1 ? largest : size;
}

/** Whether frame `i` is a super-frame that some kernel put together of packets from a peer: each may have metadata. */
export function mayHideMetadata(batch: FrameBatch, i: number, plan: number): boolean {
  return (plan & OP_FROM_PEER) !== 0 && batch.segmentSize[i] !== 0 && batch.segmentSize[i] !== SEGMENT_SIZE_UNKNOWN;
}

/** Whether the payload of any segment that a super-frame will be cut to begins with the cookie: those need the false-positive marker. */
export function hidesCookie(bytes: Uint8Array, keys: Int32Array, at: number, segmentSize: number): boolean {
  const end = keys[at + AT_END];
  for (let from = keys[at + AT_PAYLOAD]; from < end; from += segmentSize) {
    if (startsWithCookie(bytes, from, end)) return true;
  }
  return false;
}
