// Waypoint port pairs of one (local address, remote address, protocol); protocol sheet 2.3. The router that sends a
// hop's lead packet picks both ports, an even one for itself and an odd one for the peer, so that two routers which
// open sessions to each other at the same moment never pick the same pair. A row is a pair:
//
//   row r:   local  = 16384 + 2 * (r mod 24576)                          even, 16384..65534
//            remote = 16385 + 2 * ((r + floor(r / 24576)) mod 24575)     odd,  16385..65533
//
// No two rows below 24576 * 24575 are the same pair: equal local ports mean rows k * 24576 apart, whose remote
// indexes then are k * 24577 = 2k (modulo 24575) apart; 24575 is odd, so that is 0 only when 24575 divides k.
//
// Free pairs queue up first in, first out, and a released pair stays at least the quarantine in the queue: late
// packets of the old session must not meet a new one. Workers share the numbering: each has the stripes of its own
// shards. All memory (8 bytes a pair) is taken at construction. Exhausted: allocate returns -1, nothing changes.
//
// A router that has lost its sessions and gets them back from its peers reserves their pairs. It begins with a fresh
// pool, so they are nearly always pairs that it has not come to yet; those it passes over when it does.

import { invariant } from "../base/invariant.ts";
import { StateError, type StateReader, type StateWriter } from "../base/state.ts";

const PORT_FIRST = 16384;
const LOCAL_PORTS = 24576;
const REMOTE_PORTS = 24575;

/** The field's default and greatest number of pairs between two waypoints. */
export const PAIRS_DEFAULT = 50_000;
export const PAIRS_MAX = 1_000_000;

/** 1 / 2 modulo REMOTE_PORTS. */
const HALF = (REMOTE_PORTS + 1) / 2;

/** In the place of a release time, which is kept as its complement and so below 0: the pair was never in use, or is. */
const FRESH = 0;
const IN_USE = 1;
const TIME_BITS = 0x7fffffff;

/** Rows r with the same r modulo 64 have even ports with the same shard (wire/shard.ts): LOCAL_PORTS is a multiple. */
const STRIPES = 64;

export class PortPool {
  readonly #quarantineMs: number;
  readonly #firstRow: number;
  readonly #stride: number;
  /** Pairs of this stripe; the columns below are indexed by (row - firstRow) / stride. */
  readonly #size: number;
  /** The complement of the release time's low 31 bits, FRESH or IN_USE. */
  readonly #released: Int32Array;
  /** Ring of released pairs, oldest at #head. Pairs from #fresh on were never used: they stand before it in the queue. */
  readonly #queue: Int32Array;
  #head = 0;
  #queued = 0;
  #fresh = 0;
  /** Pairs from #fresh on that were reserved: in use, or in the queue since. */
  #ahead = 0;

  /** Rows firstRow, firstRow + stride, … below `capacity`. */
  constructor(capacity = PAIRS_DEFAULT, quarantineMs = 10_000, firstRow = 0, stride = 1) {
    invariant(capacity > 0 && capacity <= PAIRS_MAX, "port pool: 1 to 1,000,000 pairs");
    invariant(stride > 0 && firstRow >= 0 && firstRow < Math.min(stride, capacity), "port pool: impossible stripe");
    this.#quarantineMs = quarantineMs;
    this.#firstRow = firstRow;
    this.#stride = stride;
    this.#size = Math.ceil((capacity - firstRow) / stride);
    this.#released = new Int32Array(this.#size);
    this.#queue = new Int32Array(this.#size);
  }

  /** Pairs in use. */
  get inUse(): number {
    return this.#fresh - this.#queued + this.#ahead;
  }

  /** Returns the row of a free pair, or -1 when every pair is in use or in quarantine. A fresh pool starts with 16384/16385. */
  allocate(nowMs: number): number {
    let index: number;
    this.#passReserved();
    if (this.#fresh < this.#size) {
      index = this.#fresh++;
    } else {
      if (this.#queued === 0) return -1;
      index = this.#queue[this.#head];
      // A pair that has been free for 25 days, to within its quarantine, rests once more.
      if (((nowMs - ~this.#released[index]) & TIME_BITS) < this.#quarantineMs) return -1;
      this.#head = (this.#head + 1) % this.#size;
      this.#queued--;
    }
    this.#released[index] = IN_USE;
    return this.#firstRow + index * this.#stride;
  }

  /** Pairs that were reserved are no longer fresh when their turn comes. */
  #passReserved(): void {
    for (; this.#fresh < this.#size && this.#released[this.#fresh] !== FRESH; this.#fresh++) this.#ahead--;
  }

  /**
   * Take the pair with these ports (localPort << 16 | remotePort), which a session had before a restart. Returns its
   * row, or -1 when it is not this stripe's, or has been given out since the start.
   */
  reserve(ports: number): number {
    const row = rowOf(ports);
    if (row < 0 || (row - this.#firstRow) % this.#stride !== 0) return -1;
    const index = (row - this.#firstRow) / this.#stride;
    if (index < this.#fresh || index >= this.#size || this.#released[index] !== FRESH) return -1;
    this.#released[index] = IN_USE;
    this.#ahead++;
    return row;
  }

  /** Give a pair back; its quarantine begins at `nowMs`. Releasing a pair that is not in use is an InvariantError. */
  release(row: number, nowMs: number): void {
    invariant(this.isInUse(row), "port pool: released a pair that is not in use");
    const index = (row - this.#firstRow) / this.#stride;
    this.#released[index] = ~(nowMs & TIME_BITS);
    this.#queue[(this.#head + this.#queued) % this.#size] = index;
    this.#queued++;
  }

  /** False for rows of other stripes too. */
  isInUse(row: number): boolean {
    const index = (row - this.#firstRow) / this.#stride;
    return index >= 0 && index < this.#size && this.#released[index] === IN_USE;
  }

  /** Which pairs are in use, and the queue. */
  save(out: StateWriter): void {
    out.i32(this.#fresh);
    out.i32(this.#queued);
    for (let i = 0; i < this.#queued; i++) {
      const index = this.#queue[(this.#head + i) % this.#size];
      out.i32(index);
      out.i32(~this.#released[index]);
    }
    const reserved: number[] = [];
    for (let index = this.#fresh; this.#ahead > 0 && index < this.#size; index++)
      if (this.#released[index] === IN_USE) reserved.push(index);
    out.i32(reserved.length);
    for (const index of reserved) out.i32(index);
  }

  /** Into a fresh pool. */
  restore(from: StateReader): void {
    this.#fresh = from.count(this.#size, "waypoint port pairs");
    this.#released.fill(IN_USE, 0, this.#fresh);
    const queued = from.count(this.#size, "waypoint port pairs");
    for (let i = 0; i < queued; i++) {
      const index = from.row(this.#size, "waypoint port pair");
      const releasedMs = from.i32();
      const before = index < this.#fresh ? IN_USE : FRESH;
      if (releasedMs < 0 || this.#released[index] !== before) throw new StateError("a port pair is there twice");
      this.#released[index] = ~releasedMs;
      this.#queue[this.#queued++] = index;
      if (before === FRESH) this.#ahead++;
    }
    for (let left = from.count(this.#size, "waypoint port pairs"); left > 0; left--) {
      const index = from.row(this.#size, "waypoint port pair");
      if (this.#released[index] !== FRESH) throw new StateError("a port pair is there twice");
      this.#released[index] = IN_USE;
      this.#ahead++;
    }
  }

  localPort(row: number): number {
    return PORT_FIRST + 2 * (row % LOCAL_PORTS);
  }

  remotePort(row: number): number {
    return PORT_FIRST + 1 + 2 * ((row + Math.floor(row / LOCAL_PORTS)) % REMOTE_PORTS);
  }

  /** localPort << 16 | remotePort as int32. */
  ports(row: number): number {
    return (this.localPort(row) << 16) | this.remotePort(row);
  }
}

/** The row of a pair, by the figure above; -1 = a pair that this numbering does not have below PAIRS_MAX. */
function rowOf(ports: number): number {
  const local = ((ports >>> 16) - PORT_FIRST) / 2;
  const remote = ((ports & 0xffff) - PORT_FIRST - 1) / 2;
  if (!Number.isInteger(local) || local < 0 || local >= LOCAL_PORTS) return -1;
  if (!Number.isInteger(remote) || remote < 0 || remote >= REMOTE_PORTS) return -1;
  // row = local + k * LOCAL_PORTS, and remote = row + k = local + 2k modulo REMOTE_PORTS.
  const twice = (remote - (local % REMOTE_PORTS) + REMOTE_PORTS) % REMOTE_PORTS;
  const row = local + ((twice * HALF) % REMOTE_PORTS) * LOCAL_PORTS;
  return row < PAIRS_MAX ? row : -1;
}

/**
 * The pairs of one worker: a stripe for each of the 64 shards that it owns (first, first + workers, …), so that the
 * pair of a session tells its shard to every router that sees it. Together the workers have `capacity` pairs.
 */
export class ShardedPortPool {
  /** By shard; undefined where the shard is another worker's, or `capacity` is so small that it has no row. */
  readonly #stripes: (PortPool | undefined)[] = [];
  readonly #any: PortPool;

  constructor(capacity = PAIRS_DEFAULT, quarantineMs = 10_000, worker = 0, workers = 1) {
    invariant(worker < Math.min(workers, capacity), "port pool: more workers than pairs");
    for (let shard = worker; shard < Math.min(STRIPES, capacity); shard += workers)
      this.#stripes[shard] = new PortPool(capacity, quarantineMs, shard, STRIPES);
    this.#any = this.#stripes[worker]!;
  }

  /** Pairs in use. */
  get inUse(): number {
    return this.#stripes.reduce((sum, stripe) => sum + (stripe?.inUse ?? 0), 0);
  }

  /**
   * Returns the row of a free pair of this shard; when there is none, of any other shard of this worker (its packets
   * come back here all the same, but the peer may have to hand them from worker to worker); or -1.
   */
  allocate(shard: number, nowMs: number): number {
    const row = this.#stripes[shard]?.allocate(nowMs) ?? -1;
    if (row >= 0) return row;
    for (const stripe of this.#stripes) {
      const other = stripe?.allocate(nowMs) ?? -1;
      if (other >= 0) return other;
    }
    return -1;
  }

  /** Take the pair with these ports again; its row, or -1: see PortPool. */
  reserve(ports: number): number {
    const shard = (((ports >>> 16) - PORT_FIRST) >> 1) & (STRIPES - 1);
    return this.#stripes[shard]?.reserve(ports) ?? -1;
  }

  release(row: number, nowMs: number): void {
    const stripe = this.#stripes[row % STRIPES];
    invariant(stripe !== undefined, "port pool: released a pair of another worker");
    stripe.release(row, nowMs);
  }

  isInUse(row: number): boolean {
    return this.#stripes[row % STRIPES]?.isInUse(row) ?? false;
  }

  save(out: StateWriter): void {
    out.i32(this.#stripes.length);
    for (const stripe of this.#stripes) {
      out.flag(stripe !== undefined);
      stripe?.save(out);
    }
  }

  /** Into a fresh pool of the same worker. */
  restore(from: StateReader): void {
    const stripes = from.count(this.#stripes.length, "shards of port pairs");
    for (let shard = 0; shard < stripes; shard++) {
      if (!from.flag()) continue;
      const stripe = this.#stripes[shard];
      if (stripe === undefined) throw new StateError("port pairs of another worker");
      stripe.restore(from);
    }
  }

  /** localPort << 16 | remotePort as int32. */
  ports(row: number): number {
    return this.#any.ports(row);
  }
}
