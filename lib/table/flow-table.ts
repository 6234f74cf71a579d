// HOT
// Flows: one direction of a session each, a key and the rewrite plan that was compiled from policy when the session
// opened. One row is 16 int32 words, one cache line, and lies where its key's hash says (placed-rows.ts), so that
// forwarding a packet costs one miss. A session owns two rows; both are inserted or neither.
//
//   0 source      1 destination   2 ports        3 interface<<8 | protocol      the key, as the decoder writes it
//   4 source'     5 destination'  6 ports'       7 l3 delta<<16 | l4 delta      the rewrite (RFC 1624 deltas)
//   8 plan        9 next hop     10 session     11 last seen, ms
//  12,13 packets (float64)       14,15 bytes (float64)
//
// Full: insert returns -1 and the session is refused (drop.session-table-full).

import { plainMemory } from "../base/memory.ts";
import { PlacedRows, placedRows } from "./placed-rows.ts";

export const FLOW_SOURCE = 0;
export const FLOW_DESTINATION = 1;
export const FLOW_PORTS = 2;
export const FLOW_PROTOCOL = 3;
export const FLOW_NEW_SOURCE = 4;
export const FLOW_NEW_DESTINATION = 5;
export const FLOW_NEW_PORTS = 6;
export const FLOW_DELTAS = 7;
export const FLOW_PLAN = 8;
export const FLOW_NEXT_HOP = 9;
export const FLOW_SESSION = 10;
export const FLOW_LAST_SEEN = 11;
export const FLOW_PACKETS_F64 = 6;
export const FLOW_BYTES_F64 = 7;
export const FLOW_WORDS = 16;
export const FLOW_SHIFT = 4;

// The plan word: ops in bits 0..7 and 31, generation in bits 8..15, egress interface in bits 16..23, a DSCP in bits 24..30.
/** Every packet of the flow goes through the slow path: a handshake is running, TCP is not steady, or UDP is put around it. */
export const OP_SLOW = 1;
/** The flow arrives from a peer: metadata, markers and fabric fragments are meant for us. */
export const OP_FROM_PEER = 2;
/** The flow leaves toward a peer: payloads that look like metadata need the false-positive marker. */
export const OP_TO_PEER = 4;
/** A UDP header is put in front of the L4 message (protocols without ports, protocol sheet 2.5). */
export const OP_INSERT_UDP = 8;
/** That UDP header is taken off again. */
export const OP_REMOVE_UDP = 16;
/** The packets of the flow are signed, verified, encrypted, decrypted or marked. */
export const OP_SECURE = 32;
/** The flow's packets go toward their session's initiator. */
export const OP_REVERSE = 64;
/** More of the IPv4 header is written than addresses and a TTL less by one: the DSCP in the plan, a TTL for the path. Goes with OP_SECURE or OP_SLOW. */
export const OP_MARK = 128;
/** The plan has a DSCP, in the six bits below. */
export const OP_DSCP = 1 << 30;
export const DSCP_SHIFT = 24;
/** Of a plan word: the DSCP, whether there is one, and OP_MARK. */
export const MARK_MASK = 0x7f000000 | OP_MARK;
/**
 * The session's hosts have IPv6: the flow label of its packets is theirs (RFC 6437). Of all other sessions it is a router's, whose
 * bit 16 says that IPv4's DF is 0 (ipv6/flow-label.ts).
 */
export const OP_LABEL = 1 << 31;
/** All ops, with what belongs to them. */
export const OPS_MASK = 0xff0000ff;
export const GENERATION_SHIFT = 8;
export const GENERATION_MASK = 0xff00;
export const EGRESS_SHIFT = 16;
/** All rows are looked at in so many generations, half of those that there are. */
const GENERATION_SHARES = 128;

export class FlowTable {
  /** Row r is words[r << FLOW_SHIFT] and the 15 words behind it. */
  readonly words: Int32Array;
  /** The same memory: row r is doubles[r << 3] and the 7 behind it. */
  readonly doubles: Float64Array;
  readonly #placed: PlacedRows;
  /** Bits 8..15 of the plan of every current flow; a flow with another value is checked once before it forwards again. */
  generation = 0;
  /** How many were removed: a row number found before may mean another flow when this has changed. */
  removals = 0;
  /** How many were inserted: a key looked up before may have a row when this has changed. */
  insertions = 0;

  /** findBatch takes up to `batch` keys. */
  constructor(capacity: number, seed: number, batch = 0, memory = plainMemory) {
    this.words = new Int32Array(memory(placedRows(capacity) * FLOW_WORDS * 4));
    this.doubles = new Float64Array(this.words.buffer);
    this.#placed = new PlacedRows(capacity, seed, this.words, batch, memory);
  }

  get count(): number {
    return this.#placed.count;
  }

  /** The row with this key, or -1. */
  find(source: number, destination: number, ports: number, protocol: number): number {
    return this.#placed.find(source, destination, ports, protocol);
  }

  /** The rows of the keys from..to-1, the i-th at keys[i << keyShift]; -1 in `found` where there is none. */
  findBatch(keys: Int32Array, keyShift: number, from: number, to: number, found: Int32Array): void {
    this.#placed.findBatch(keys, keyShift, from, to, found);
  }

  /**
   * Add a flow with this key; the rest of the row is zero. Returns the row, which is the flow's until it is removed, or
   * -1 when the table is full or the key is taken (find tells which).
   */
  insert(source: number, destination: number, ports: number, protocol: number): number {
    const row = this.#placed.insert(source, destination, ports, protocol);
    if (row < 0) return -1;
    const base = row << FLOW_SHIFT;
    this.words.fill(0, base + FLOW_NEW_SOURCE, base + FLOW_WORDS);
    this.words[base + FLOW_PLAN] = this.generation;
    this.insertions++;
    return row;
  }

  remove(row: number): void {
    this.removals++;
    this.#placed.remove(row);
  }

  /**
   * Every flow is checked once before its next packet is forwarded (a path or a policy changed). There are 256 generations: so that
   * none comes round for a flow that has been idle since, a share of the rows is looked at each time, and is of the one before.
   */
  // cold: when something changed
  nextGeneration(): void {
    this.generation = (this.generation + (1 << GENERATION_SHIFT)) & GENERATION_MASK;
    const rows = this.words.length >> FLOW_SHIFT;
    const share = Math.ceil(rows / GENERATION_SHARES);
    const first = ((this.generation >> GENERATION_SHIFT) % GENERATION_SHARES) * share;
    for (let row = first; row < Math.min(first + share, rows); row++) if (this.#placed.isUsed(row)) this.makeStale(row);
  }

  /** The flow is checked once before its next packet is forwarded. */
  makeStale(row: number): void {
    const at = (row << FLOW_SHIFT) + FLOW_PLAN;
    // The generation before, which is the last one to come.
    this.words[at] =
      (this.words[at] & ~GENERATION_MASK) | ((this.generation - (1 << GENERATION_SHIFT)) & GENERATION_MASK);
  }

  /** Write down that a packet of `length` bytes was forwarded at `nowMs`. */
  touch(row: number, length: number, nowMs: number): void {
    this.words[(row << FLOW_SHIFT) + FLOW_LAST_SEEN] = nowMs;
    const base = row << 3;
    this.doubles[base + FLOW_PACKETS_F64]++;
    this.doubles[base + FLOW_BYTES_F64] += length;
  }

  /** What row `from` has counted counts as row `to`'s, and no more as its own. */
  addCounts(from: number, to: number): void {
    const { doubles } = this;
    const source = from << 3;
    const target = to << 3;
    doubles[target + FLOW_PACKETS_F64] += doubles[source + FLOW_PACKETS_F64];
    doubles[target + FLOW_BYTES_F64] += doubles[source + FLOW_BYTES_F64];
    doubles[source + FLOW_PACKETS_F64] = 0;
    doubles[source + FLOW_BYTES_F64] = 0;
  }

  packets(row: number): number {
    return this.doubles[(row << 3) + FLOW_PACKETS_F64];
  }

  bytes(row: number): number {
    return this.doubles[(row << 3) + FLOW_BYTES_F64];
  }
}

/** FORWARD or REVERSE (session-table.ts), by a plan word. */
export function planDirection(plan: number): number {
  return (plan & OP_REVERSE) === 0 ? 0 : 1;
}

/** The DSCP that the flow's packets get, by a plan word; -1 = the one that they have. */
export function planDscp(plan: number): number {
  return (plan & OP_DSCP) === 0 ? -1 : (plan >>> DSCP_SHIFT) & 0x3f;
}

/** The egress interface in a plan word. */
export function planEgress(plan: number): number {
  return (plan >>> EGRESS_SHIFT) & 0xff;
}
