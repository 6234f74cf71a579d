// HOT
// A port whose wire is IPv6 and whose owner sees the router's own form: what comes is translated in place, what leaves on
// its way to the port beneath, super-frames whole and unfinished checksums unfinished, for that one knows what its wire
// takes. The reason why a frame has no such form stands in the flag column (FRAME_REFUSED).

import { getU16 } from "../base/bytes.ts";
import {
  emptyStats,
  FRAME_TRUNCATED,
  FrameBatch,
  type Port,
  type PortInfo,
  type PortStats,
  refusedFor,
} from "../io/port.ts";
import { ETHERNET_HEADER, WireFrames } from "../io/wire-frames.ts";
import type { AddressBook } from "../table/address-book.ts";
import { DONT_FRAGMENT, IPV4_FLAGS } from "../wire/ipv4.ts";
import {
  CONSUMED,
  DROP_IP_ADDRESS,
  DROP_IPV6_EXTENSION,
  DROP_IPV6_OPTION,
  DROP_NOT_OURS,
  OK,
} from "../wire/verdict.ts";
import type { Advertiser } from "./advertiser.ts";
import { HEADER_GROWTH } from "./icmp-codes.ts";
import { Inbound } from "./inbound.ts";
import type { Listener } from "./listener.ts";
import { Outbound } from "./outbound.ts";
import type { ParameterProblems } from "./parameter-problems.ts";

/** Frames translated before the port beneath gets them, and memory for them: of the longest ones three. */
const ROWS = 64;
const MEMORY_BYTES = 256 << 10;
/** The most that a frame grows by: a neighbor solicitation in the place of an ARP request, an error with what it quotes. */
const GROWTH_MAX = 64;
const ALIGNMENT = 64;

export class Ipv6Port implements Port {
  readonly #beneath: Port;
  declare readonly framesMax?: number;
  declare readonly takesSuperFrames?: boolean;
  readonly #inbound: Inbound;
  readonly #outbound: Outbound;
  /** Cuts the super-frames that the port beneath must not. */
  readonly #wire: WireFrames;
  /** What is counted here: what was cut, completed, or has no form in IPv6. */
  readonly #counted = emptyStats();
  readonly #batch = new FrameBatch(new Uint8Array(MEMORY_BYTES), ROWS);
  /** Where the next frame goes. */
  #free = 0;
  readonly #info: PortInfo;
  /** Has what hosts ask a router; null: nobody does. */
  advertiser: Advertiser | null = null;
  /** Has what switches and multicast routers ask; null: nobody does. */
  listener: Listener | null = null;
  /** Tells senders what is wrong with their extension headers; null: nobody does. */
  problems: ParameterProblems | null = null;

  /** `isShared`: there are other threads, which have names of their own. */
  constructor(beneath: Port, book: AddressBook, isShared = false) {
    this.#beneath = beneath;
    if (beneath.framesMax !== undefined) this.framesMax = beneath.framesMax;
    if (beneath.takesSuperFrames !== undefined) this.takesSuperFrames = beneath.takesSuperFrames;
    this.#inbound = new Inbound(book, isShared);
    this.#outbound = new Outbound(book);
    const { mtu } = beneath.info();
    this.#info = { ...beneath.info(), mtu: mtu - HEADER_GROWTH };
    this.#wire = new WireFrames(mtu - HEADER_GROWTH, this.#counted, (bytes, offset, length, from, to) => {
      let sent = 0;
      for (let i = from; i < to; i++) sent += this.#add(bytes, offset[i], length[i], 0, 0);
      return sent + this.#pass();
    });
  }

  /** The port's, but for the MTU: of packets in the router's form, 20 bytes less. */
  // cold: at start, and for show
  info(): PortInfo {
    return { ...this.#info, linkUp: this.#beneath.info().linkUp };
  }

  rx(batch: FrameBatch): number {
    const count = this.#beneath.rx(batch);
    if (count === 0) return 0;
    // As the book has it. Who waits for a time has the whole clock.
    const seenMs = performance.now() | 0;
    const { bytes, offset, length, flags } = batch;
    const inbound = this.#inbound;
    for (let i = 0; i < count; i++) {
      if ((flags[i] & FRAME_TRUNCATED) !== 0) continue;
      let verdict = inbound.translate(bytes, offset[i], length[i], flags[i], seenMs);
      if (verdict !== OK) verdict = this.#refused(verdict, bytes, offset[i], length[i]);
      if (verdict === OK) {
        offset[i] = inbound.offset;
        length[i] = inbound.length;
        flags[i] = inbound.flags;
      } else flags[i] = refusedFor(verdict);
    }
    return count;
  }

  /** What becomes of a frame that is not the router's, from or to an address of the link alone, or wrong. */
  #refused(verdict: number, bytes: Uint8Array, at: number, length: number): number {
    const nowMs = performance.now();
    if (verdict === DROP_IPV6_OPTION || verdict === DROP_IPV6_EXTENSION)
      this.problems?.tell(bytes, at, this.#inbound.walk, nowMs);
    if (verdict !== DROP_NOT_OURS && verdict !== DROP_IP_ADDRESS) return verdict;
    if (verdict === DROP_NOT_OURS && this.advertiser?.receive(bytes, at, length, nowMs) === true) return CONSUMED;
    return this.listener?.receive(bytes, at, length, nowMs) || verdict;
  }

  tx(batch: FrameBatch, from: number, to: number): number {
    const { bytes, offset, length, flags, segmentSize } = batch;
    let sent = 0;
    for (let i = from; i < to; i++) {
      // Its segments share a flow label, and what may be cut, IPv4's, needs identifications of its own (flow-label.ts).
      if (segmentSize[i] > 0 && mayBeCut(bytes, offset[i])) sent += this.#pass() + this.#wire.tx(batch, i, i + 1);
      else sent += this.#add(bytes, offset[i], length[i], flags[i], segmentSize[i]);
    }
    return sent + this.#pass();
  }

  // cold: for show
  stats(): PortStats {
    const stats = this.#beneath.stats();
    const { txErrors, segments, partialChecksums } = this.#counted;
    return {
      ...stats,
      txErrors: stats.txErrors + txErrors,
      segments: stats.segments + segments,
      partialChecksums: stats.partialChecksums + partialChecksums,
      extensionsRemoved: (stats.extensionsRemoved ?? 0) + this.#inbound.extensionsRemoved,
      parameterProblems: (stats.parameterProblems ?? 0) + (this.problems?.told ?? 0),
    };
  }

  close(): void {
    this.#beneath.close();
  }

  /** Translate a frame behind those that wait. Returns how many of these were sent to make room. */
  #add(bytes: Uint8Array, at: number, length: number, flags: number, segmentSize: number): number {
    const batch = this.#batch;
    if (length + GROWTH_MAX > MEMORY_BYTES) {
      this.#counted.txErrors++;
      return 0;
    }
    const isFull = batch.count === ROWS || this.#free + length + GROWTH_MAX > MEMORY_BYTES;
    const sent = isFull ? this.#pass() : 0;
    const to = this.#free;
    const made = this.#outbound.translate(bytes, at, length, flags, segmentSize, batch.bytes, to);
    if (made === 0) {
      this.#counted.txErrors++;
      return sent;
    }
    const row = batch.count++;
    batch.offset[row] = to;
    batch.length[row] = made;
    batch.flags[row] = this.#outbound.flags;
    batch.segmentSize[row] = segmentSize;
    this.#free = to + ((made + ALIGNMENT - 1) & -ALIGNMENT);
    return sent;
  }

  /** Give the port beneath what waits. Returns how many frames it sent. */
  #pass(): number {
    const { count } = this.#batch;
    if (count === 0) return 0;
    this.#batch.count = 0;
    this.#free = 0;
    return this.#beneath.tx(this.#batch, 0, count);
  }
}

const mayBeCut = (bytes: Uint8Array, at: number): boolean =>
  (getU16(bytes, at + ETHERNET_HEADER + IPV4_FLAGS) & DONT_FRAGMENT) === 0;
