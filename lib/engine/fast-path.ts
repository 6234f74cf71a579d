// HOT
// The fast path knows two things: look up the flow, apply its plan. Every doubt is a verdict for the slow path: no
// flow, a handshake that runs, metadata, SYN/FIN/RST, a stale generation, TTL, size, an unresolved next hop.

import { FRAME_CHECKSUM_KNOWN, FRAME_CHECKSUM_PARTIAL, type FrameBatch, SEGMENT_SIZE_UNKNOWN } from "../io/port.ts";
import { MAC_SHIFT, type NeighborTable } from "../peer/neighbor.ts";
import type { RouterInterface } from "../peer/router-interface.ts";
import {
  EGRESS_SHIFT,
  FLOW_NEXT_HOP,
  FLOW_PLAN,
  FLOW_SESSION,
  FLOW_SHIFT,
  type FlowTable,
  GENERATION_MASK,
  OP_FROM_PEER,
  OP_SLOW,
  OP_TO_PEER,
} from "../table/flow-table.ts";
import type { SessionTable } from "../table/session-table.ts";
import {
  AT_END,
  AT_L3,
  AT_L4,
  AT_PAYLOAD,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_PROTOCOL,
  KEY_SOURCE,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  startsWithCookie,
  TRAITS,
} from "../wire/flow-key.ts";
import { isChecksumPartial, segmentSizeMax } from "../wire/offload.ts";
import { OK, PUNT_MISS, PUNT_SESSION } from "../wire/verdict.ts";
import { rewrite, writeMacs } from "./rewrite.ts";
import type { TxQueue } from "./tx-queue.ts";

/** A receiver that asks for less gets what the path takes all the same: one frame must not become tens of thousands. */
const MSS_MIN = 216;

export class FastPath {
  readonly #flows: FlowTable;
  readonly #words: Int32Array;
  readonly #sessions: SessionTable;
  readonly #neighbors: NeighborTable;
  readonly #queues: readonly TxQueue[];
  readonly #interfaces: readonly RouterInterface[];
  /** The flow of the packet handled last, -1 after PUNT_MISS. */
  flow = -1;

  constructor(parts: {
    flows: FlowTable;
    sessions: SessionTable;
    neighbors: NeighborTable;
    queues: readonly TxQueue[];
    interfaces: readonly RouterInterface[];
  }) {
    this.#flows = parts.flows;
    this.#words = parts.flows.words;
    this.#sessions = parts.sessions;
    this.#neighbors = parts.neighbors;
    this.#queues = parts.queues;
    this.#interfaces = parts.interfaces;
  }

  /** Forward frame `i`, decoded into `key`. Returns OK when it is queued, PUNT_MISS without a flow, or PUNT_SESSION with the frame as it was. */
  forward(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): number {
    const flow = this.#flows.find(key[KEY_SOURCE], key[KEY_DESTINATION], key[KEY_PORTS], key[KEY_PROTOCOL]);
    this.flow = flow;
    if (flow < 0) return PUNT_MISS;
    const words = this.#words;
    const base = flow << FLOW_SHIFT;
    const plan = words[base + FLOW_PLAN];
    if ((plan & (GENERATION_MASK | OP_SLOW)) !== this.#flows.generation || key[TRAITS] !== 0) return PUNT_SESSION;

    const bytes = batch.bytes;
    const l3 = key[AT_L3];
    const hop = words[base + FLOW_NEXT_HOP];
    const neighbors = this.#neighbors;
    if (bytes[l3 + 8] < 2 || neighbors.usable[hop] === 0) return PUNT_SESSION;
    const egress = (plan >>> EGRESS_SHIFT) & 0xff;
    const packetLength = key[AT_END] - l3;
    let segmentSize = batch.segmentSize[i];
    const mtu = this.#interfaces[egress].mtu;
    if (segmentSize !== 0 || packetLength > mtu) {
      if (!canCut(bytes, batch.offset[i], key, segmentSize, mtu)) return PUNT_SESSION;
      segmentSize = segmentSizeOf(
        bytes,
        batch.offset[i],
        key,
        segmentSize,
        mtu,
        this.#sessions,
        words[base + FLOW_SESSION],
        flow,
      );
      const toPeer = (plan & OP_TO_PEER) !== 0;
      if ((toPeer || mayHideMetadata(batch, i, plan)) && hidesCookie(bytes, key, segmentSize)) return PUNT_SESSION;
    }

    const l4 = key[AT_L4];
    const partial = isPartial(batch, i, key);
    rewrite(bytes, l3, l4, words, base, partial);
    const offset = batch.offset[i];
    const macs = neighbors.macs;
    const mac = hop << MAC_SHIFT;
    writeMacs(bytes, offset, macs, mac);
    macs[mac + 3] = nowMs;
    this.#flows.touch(flow, packetLength, nowMs);
    const flags = partial ? FRAME_CHECKSUM_PARTIAL : 0;
    this.#queues[egress].push(bytes, offset, packetLength + l3 - offset, flags, segmentSize);
    return OK;
  }
}

/** Whether the checksum of decoded frame `i` is partial: the port says so, or the frame is looked at. */
export function isPartial(batch: FrameBatch, i: number, key: Int32Array): boolean {
  const flags = batch.flags[i];
  if ((flags & FRAME_CHECKSUM_KNOWN) !== 0) return (flags & FRAME_CHECKSUM_PARTIAL) !== 0;
  return isChecksumPartial(batch.bytes, key[AT_L3], key[AT_L4], key[AT_END]);
}

/** Whether a super-frame can be cut to what `mtu` takes: a stream anywhere, datagrams only between one and the next. */
export function canCut(bytes: Uint8Array, offset: number, key: Int32Array, segmentSize: number, mtu: number): boolean {
  const protocol = key[KEY_PROTOCOL] & 0xff;
  if (protocol === PROTOCOL_TCP) return segmentSize !== 0;
  return protocol === PROTOCOL_UDP && segmentSize !== 0 && segmentSize <= segmentSizeMax(bytes, offset, mtu);
}

/**
 * How much payload each segment of a super-frame may have: what the port found out, or else what the receiver asked for
 * in its SYN less the options (RFC 6691), and never more than the egress MTU allows.
 */
export function segmentSizeOf(
  bytes: Uint8Array,
  offset: number,
  key: Int32Array,
  found: number,
  mtu: number,
  sessions: SessionTable,
  session: number,
  flow: number,
): number {
  const largest = segmentSizeMax(bytes, offset, mtu);
  let size = found;
  if (found === SEGMENT_SIZE_UNKNOWN) {
    const direction = sessions.forwardFlow[session] === flow ? 0 : 1;
    const maximum = sessions.segmentSize[session * 2 + direction];
    if (maximum >= MSS_MIN) size = maximum - (key[AT_PAYLOAD] - key[AT_L4]) + 20;
  }
  return size > largest || size < 1 ? largest : size;
}

/** Whether frame `i` is a super-frame that some kernel put together of packets from a peer: each may have metadata. */
export function mayHideMetadata(batch: FrameBatch, i: number, plan: number): boolean {
  return (plan & OP_FROM_PEER) !== 0 && batch.segmentSize[i] !== 0 && batch.segmentSize[i] !== SEGMENT_SIZE_UNKNOWN;
}

/** Whether the payload of any segment that a super-frame will be cut to begins with the cookie: those need the false-positive marker. */
export function hidesCookie(bytes: Uint8Array, key: Int32Array, segmentSize: number): boolean {
  const end = key[AT_END];
  for (let at = key[AT_PAYLOAD]; at < end; at += segmentSize) {
    if (startsWithCookie(bytes, at, end)) return true;
  }
  return false;
}
