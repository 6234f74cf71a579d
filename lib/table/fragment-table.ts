// Puts packets together from fabric fragments (protocol sheet 3.3 attribute 1, and 8): a router that has no room for
// metadata in a full-size packet sends its L4 payload in pieces, each with headers and a Fragment attribute of its
// own. A chain is one such packet; its key is the waypoint tuple and the attribute's extId.
//
//   | free headroom 576 | header copy, up to 136 | payload, up to bytesMax |     one such buffer per chain, and behind the
//                                                ^ offset        length ^     last one FRAGMENT_TAILROOM
//
// Pieces come in any order; their offsets and all lengths but the last piece's are multiples of 8 bytes. A duplicate
// does no harm. Pieces that contradict each other (different bytes in one place, two ends, bytes past the end) are an
// attack or a reused extId: the whole chain is dropped. Of IPv6 so are pieces that overlap with the same bytes and are no
// duplicates (RFC 5722, RFC 8200 4.5): nobody who is honest cuts a packet twice.
//
// All memory is taken at construction: about 76 KB a chain, of which the operating system lends only what was ever
// written. Full: the oldest chain makes room. Pieces are not signed, so anybody may open chains and leave them open: if
// those stayed, one each 20 ms would keep everybody else's out, whose pieces follow each other within a millisecond.

import { invariant } from "../base/invariant.ts";
import { StateError, type StateReader, type StateWriter } from "../base/state.ts";
import { Slab } from "./slab.ts";

/** The piece cannot be right, or contradicts its chain, which is gone. */
export const FRAGMENT_REFUSED = -1;
export const FRAGMENT_HELD = 0;
export const FRAGMENT_COMPLETE = 1;

/** Free bytes in front of the header copy: a received frame's headroom, and link and metadata headers besides. */
export const FRAGMENT_HEADROOM = 512 + 64;
/** Free bytes behind a complete packet: a received frame's tailroom. The next chain's headroom, for all but the last. */
export const FRAGMENT_TAILROOM = 64;
/** The longest Ethernet, IPv4 and TCP headers: 14 + 60 + 60, rounded up to 8. */
export const FRAGMENT_HEADER_MAX = 136;

const UNKNOWN = -1;
const ARRIVED = 1;
const PIECE_BEGINS = 2;

export class FragmentTable {
  /** Every chain's buffer. A complete packet is here from `offset`, `length` bytes long, until the next add. */
  readonly bytes: Uint8Array;
  offset = 0;
  length = 0;
  /** The kept header ends at `offset`; 0 when none was kept. */
  headerLength = 0;
  /** The chain of the last piece that was held or completed its packet. */
  chain = 0;
  /** How many pieces the chain had that made room for the last one added; 0 = none did. */
  displaced = 0;
  /** One word per chain for the caller, 0 when the chain begins. */
  readonly accumulators: Int32Array;
  /** 1 = a piece of the chain was marked "congestion experienced" (RFC 3168 5.3: then the whole packet is); the caller's, 0 when the chain begins. */
  readonly congested: Uint8Array;
  /** The flow label of the chain's first piece, as a flag column has it (io/port.ts); the caller's, 0 when the chain begins. */
  readonly labels: Int32Array;

  readonly #bytesMax: number;
  readonly #timeoutMs: number;
  readonly #slab: Slab;
  /** Bytes of a chain's buffer, and 8-byte units of its payload. */
  readonly #stride: number;
  readonly #units: number;
  /** Of each unit of the payload: 0 = it has not arrived, PIECE_BEGINS with the first unit of a piece, ARRIVED else. */
  readonly #arrived: Uint8Array;
  readonly #arrivedCount: Int32Array;
  /** Five words a chain. */
  readonly #key: Int32Array;
  readonly #pieces: Int32Array;
  readonly #headerLength: Int32Array;
  /** Payload length, known from the last piece. */
  readonly #total: Int32Array;
  /** Where the pieces that are not the last end at most. */
  readonly #furthest: Int32Array;
  readonly #openedMs: Float64Array;
  /** Open chains, oldest first. */
  readonly #order: Int32Array;
  #count = 0;

  constructor({ chains = 256, bytesMax = 65535, timeoutMs = 5000 } = {}) {
    this.#bytesMax = bytesMax;
    this.#timeoutMs = timeoutMs;
    this.#slab = new Slab(chains);
    this.#units = Math.ceil(bytesMax / 8);
    this.#stride = FRAGMENT_HEADROOM + FRAGMENT_HEADER_MAX + this.#units * 8;
    this.bytes = new Uint8Array(chains * this.#stride + FRAGMENT_TAILROOM);
    this.accumulators = new Int32Array(chains);
    this.congested = new Uint8Array(chains);
    this.labels = new Int32Array(chains);
    this.#arrived = new Uint8Array(chains * this.#units);
    this.#arrivedCount = new Int32Array(chains);
    this.#key = new Int32Array(chains * 5);
    this.#pieces = new Int32Array(chains);
    this.#headerLength = new Int32Array(chains);
    this.#total = new Int32Array(chains);
    this.#furthest = new Int32Array(chains);
    this.#openedMs = new Float64Array(chains);
    this.#order = new Int32Array(chains);
  }

  /** Chains open. */
  get count(): number {
    return this.#count;
  }

  /**
   * Copy the piece `bytes[from..to)` to `pieceOffset` of the chain with this key. After FRAGMENT_HELD and
   * FRAGMENT_COMPLETE, `chain` says which it is; after FRAGMENT_COMPLETE the chain is closed, and `offset`, `length`,
   * `headerLength`, accumulators[chain], congested[chain], labels[chain] and keepHeader describe its packet until the next add.
   */
  add(
    source: number,
    destination: number,
    ports: number,
    protocol: number,
    extId: number,
    bytes: Uint8Array,
    from: number,
    to: number,
    pieceOffset: number,
    moreFragments: boolean,
    nowMs: number,
    mayOverlap = true,
  ): number {
    const length = to - from;
    const end = pieceOffset + length;
    this.displaced = 0;
    if (length <= 0 || pieceOffset < 0 || pieceOffset % 8 !== 0 || end > this.#bytesMax) return FRAGMENT_REFUSED;
    if (moreFragments && length % 8 !== 0) return FRAGMENT_REFUSED;

    let chain = this.#find(source, destination, ports, protocol, extId);
    if (chain < 0) chain = this.#open(source, destination, ports, protocol, extId, nowMs);
    const contradicts = this.#contradicts(chain, bytes, from, pieceOffset, end, moreFragments);
    if (contradicts || (!mayOverlap && this.#overlaps(chain, pieceOffset, end))) {
      this.#close(chain);
      return FRAGMENT_REFUSED;
    }

    this.bytes.set(bytes.subarray(from, to), this.#payload(chain) + pieceOffset);
    for (let unit = pieceOffset / 8; unit * 8 < end; unit++) {
      const at = chain * this.#units + unit;
      if (this.#arrived[at] !== 0) continue;
      this.#arrivedCount[chain]++;
      this.#arrived[at] = unit * 8 === pieceOffset ? PIECE_BEGINS : ARRIVED;
    }
    if (moreFragments) this.#furthest[chain] = Math.max(this.#furthest[chain], end);
    else this.#total[chain] = end;
    this.#pieces[chain]++;
    this.chain = chain;
    const total = this.#total[chain];
    if (total === UNKNOWN || this.#arrivedCount[chain] * 8 < total) return FRAGMENT_HELD;

    this.offset = this.#payload(chain);
    this.length = total;
    this.headerLength = this.#headerLength[chain];
    this.#close(chain);
    return FRAGMENT_COMPLETE;
  }

  /** Keep a copy of the piece's headers in front of the payload. Call after add held the piece or completed its packet. At most FRAGMENT_HEADER_MAX bytes. */
  keepHeader(bytes: Uint8Array, from: number, to: number): void {
    const length = to - from;
    invariant(length <= FRAGMENT_HEADER_MAX, "fragment table: headers longer than headers can be");
    this.bytes.set(bytes.subarray(from, to), this.#payload(this.chain) - length);
    this.#headerLength[this.chain] = length;
    this.headerLength = length;
  }

  /** Drop the chains whose first piece came `timeoutMs` ago or earlier. Returns how many pieces they had. */
  expire(nowMs: number): number {
    let pieces = 0;
    while (this.#count > 0 && nowMs - this.#openedMs[this.#order[0]] >= this.#timeoutMs) {
      pieces += this.#pieces[this.#order[0]];
      this.#close(this.#order[0]);
    }
    return pieces;
  }

  /** Every open chain, oldest first. */
  save(out: StateWriter): void {
    out.i32(this.#count);
    for (let i = 0; i < this.#count; i++) {
      const chain = this.#order[i];
      const end = Math.max(this.#furthest[chain], this.#total[chain]);
      const at = this.#payload(chain);
      const units = chain * this.#units;
      out.words(this.#key, chain * 5, chain * 5 + 5);
      out.f64(this.#openedMs[chain]);
      for (const column of this.#saved()) out.i32(column[chain]);
      out.flag(this.congested[chain] !== 0);
      out.raw(this.#arrived.subarray(units, units + Math.ceil(end / 8)));
      out.raw(this.bytes.subarray(at - this.#headerLength[chain], at + end));
    }
  }

  /** Into an empty table. */
  restore(from: StateReader): void {
    const key = new Int32Array(5);
    for (let left = from.count(this.accumulators.length, "fabric fragment chains"); left > 0; left--) {
      from.words(key, 0, 5);
      const chain = this.#open(key[0], key[1], key[2], key[3], key[4], from.f64());
      for (const column of this.#saved()) column[chain] = from.i32();
      this.congested[chain] = from.flag() ? 1 : 0;
      const headers = this.#headerLength[chain];
      const end = Math.max(this.#furthest[chain], this.#total[chain]);
      const isPossible = end > 0 && end <= this.#bytesMax && headers >= 0 && headers <= FRAGMENT_HEADER_MAX;
      const arrived = from.raw();
      const bytes = from.raw();
      if (!isPossible || this.#total[chain] < UNKNOWN || this.#furthest[chain] < 0)
        throw new StateError("a fabric fragment chain is impossible");
      if (
        arrived.length !== Math.ceil(end / 8) ||
        bytes.length !== headers + end ||
        arrived.some((unit) => unit > PIECE_BEGINS)
      )
        throw new StateError("a fabric fragment chain is impossible");
      this.#arrived.set(arrived, chain * this.#units);
      this.#arrivedCount[chain] = arrived.reduce((sum, unit) => sum + (unit === 0 ? 0 : 1), 0);
      this.bytes.set(bytes, this.#payload(chain) - headers);
    }
  }

  #saved(): Int32Array[] {
    return [this.#pieces, this.#total, this.#furthest, this.accumulators, this.labels, this.#headerLength];
  }

  #payload(chain: number): number {
    return chain * this.#stride + FRAGMENT_HEADROOM + FRAGMENT_HEADER_MAX;
  }

  /** Looks at every open chain: they are few, and live for a millisecond unless a piece is lost. */
  #find(source: number, destination: number, ports: number, protocol: number, extId: number): number {
    const key = this.#key;
    for (let i = 0; i < this.#count; i++) {
      const at = this.#order[i] * 5;
      if (key[at + 4] !== (extId | 0) || key[at] !== (source | 0) || key[at + 1] !== (destination | 0)) continue;
      if (key[at + 2] === (ports | 0) && key[at + 3] === (protocol | 0)) return this.#order[i];
    }
    return -1;
  }

  #open(source: number, destination: number, ports: number, protocol: number, extId: number, nowMs: number): number {
    if (this.#count === this.#order.length) {
      this.displaced = this.#pieces[this.#order[0]];
      this.#close(this.#order[0]);
    }
    const chain = this.#slab.allocate();
    this.#key.set([source, destination, ports, protocol, extId], chain * 5);
    this.#arrived.fill(0, chain * this.#units, (chain + 1) * this.#units);
    this.#arrivedCount[chain] = 0;
    this.#pieces[chain] = 0;
    this.#headerLength[chain] = 0;
    this.#total[chain] = UNKNOWN;
    this.#furthest[chain] = 0;
    this.#openedMs[chain] = nowMs;
    this.accumulators[chain] = 0;
    this.congested[chain] = 0;
    this.labels[chain] = 0;
    this.#order[this.#count++] = chain;
    return chain;
  }

  #close(chain: number): void {
    const position = this.#order.indexOf(chain);
    this.#order.copyWithin(position, position + 1, this.#count--);
    this.#slab.free(chain);
  }

  #contradicts(
    chain: number,
    bytes: Uint8Array,
    from: number,
    pieceOffset: number,
    end: number,
    moreFragments: boolean,
  ): boolean {
    const total = this.#total[chain];
    if (moreFragments ? total !== UNKNOWN && end >= total : total !== UNKNOWN && end !== total) return true;
    if (!moreFragments && this.#furthest[chain] >= end) return true;
    const own = this.#payload(chain);
    for (let at = pieceOffset; at < end; at++) {
      if (this.#arrived[chain * this.#units + (at >> 3)] === 0) at |= 7;
      else if (this.bytes[own + at] !== bytes[from + at - pieceOffset]) return true;
    }
    return false;
  }

  /** Whether bytes of [pieceOffset, end) have arrived, and not with the very same piece. */
  #overlaps(chain: number, pieceOffset: number, end: number): boolean {
    const first = chain * this.#units + pieceOffset / 8;
    const last = chain * this.#units + Math.ceil(end / 8);
    const units = this.#arrived.subarray(first, last);
    if (!units.some((unit) => unit !== 0)) return false;
    const isOne = units[0] === PIECE_BEGINS && !units.subarray(1).some((unit) => unit !== ARRIVED);
    const goesOn = last < (chain + 1) * this.#units && this.#arrived[last] === ARRIVED;
    return !isOne || goesOn;
  }
}
