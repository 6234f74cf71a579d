// Strays: frames that the kernel gave to one worker and that belong to another. Each worker hands its strays to the
// next one, round in a circle; who has the flow, or owns the session to be opened, keeps them. A frame that comes home
// without that is an ordinary miss where it arrived. There is one way round, so a flow's strays stay in order.
//
// Between Waymark routers there are none: the shard of a session is in its waypoint ports (wire/shard.ts). They come
// of peers that pick ports otherwise, of a shard whose port pairs are used up, of destination NAT, where replies bear other
// addresses than the session's own, and of what the kernel finds no ports in: pieces, extension headers, ICMP errors.
//
// ARP, which NDP is here, goes round too: the kernel gives every such message to worker 0, and the others learn from copies.
//
// On IPv6 interfaces frames have names of addresses in them (table/address-book.ts), each worker its own. What these stand for
// travels in front of the frame, and whoever takes it puts its own names there (ipv6/other-names.ts).

import { FrameBatch, HEADROOM, TAILROOM } from "../io/port.ts";
import { OtherNames } from "../ipv6/other-names.ts";
import type { RouterInterface } from "../peer/router-interface.ts";
import { type AddressBook, addressBook } from "../table/address-book.ts";
import type { CounterSet } from "../table/counter-set.ts";
import type { FrameRing } from "../table/frame-ring.ts";
import { shardOf } from "../wire/shard.ts";
import { DROP_ADDRESSES_FULL, DROP_STRAY_RING_FULL, HANDED_OVER } from "../wire/verdict.ts";
import { dropCounter, STRAYS_RECEIVED, STRAYS_SENT } from "./counters.ts";
import type { Engine } from "./engine.ts";

/** Strays taken in one turn at most. */
const TURN_FRAMES = 128;
/** Bytes of ring and of working memory: the longest frame takes a fifteenth. */
export const RING_BYTES = 1 << 20;

// A record's tag: where the frame came in, which worker it is going round from, whether it is an ARP copy, and whether addresses are
// in front of it.
const INTERFACE_MASK = 0xff;
const HOME_SHIFT = 8;
const HOME_MASK = 0xff;
const ARP_COPY = 0x10000;
const NAMED = 0x20000;

export class Strays {
  readonly worker: number;
  readonly workers: number;
  readonly #inbound: FrameRing;
  readonly #outbound: FrameRing;
  readonly #wakeNext: () => void;
  readonly #counters: CounterSet;
  readonly #interfaces: readonly Pick<RouterInterface, "isIpv6">[];
  readonly #book: AddressBook;
  readonly #names: OtherNames;
  /** The same memory as bytes: they cross as they are, between threads of one machine. */
  readonly #front: Uint8Array;
  readonly #memory = new Uint8Array(RING_BYTES);
  readonly #batch: FrameBatch;
  /** The worker at which the frame in hand arrived: this one, except during turn. */
  #home: number;
  /** The frame in hand has been round: every worker has looked at it. */
  #isBack = false;

  /** `inbound` from the worker before this one, `outbound` to the next; `wakeNext` wakes that when it sleeps. */
  constructor(parts: {
    worker: number;
    workers: number;
    inbound: FrameRing;
    outbound: FrameRing;
    wakeNext: () => void;
    counters: CounterSet;
    interfaces: readonly Pick<RouterInterface, "isIpv6">[];
    /** Left out = this thread's. */
    book?: AddressBook;
  }) {
    this.worker = parts.worker;
    this.workers = parts.workers;
    this.#inbound = parts.inbound;
    this.#outbound = parts.outbound;
    this.#wakeNext = parts.wakeNext;
    this.#counters = parts.counters;
    this.#interfaces = parts.interfaces;
    this.#book = parts.book ?? addressBook;
    this.#names = new OtherNames(this.#book);
    this.#front = new Uint8Array(this.#names.words.buffer);
    this.#batch = new FrameBatch(this.#memory, 1);
    this.#home = parts.worker;
  }

  /**
   * Whether this worker is where a session with this 5-tuple is opened: the one its original has, or the translated one
   * under destination NAT, because the server's replies come there. A frame that has been round stays in any case.
   */
  isOwner(source: number, destination: number, ports: number, protocol: number): boolean {
    if (this.#isBack) return true;
    const [from, to] = [this.#book.hashWord(source), this.#book.hashWord(destination)];
    return shardOf(from, to, ports, protocol) % this.workers === this.worker;
  }

  /** The frame in hand has been offered to every worker. */
  get isBack(): boolean {
    return this.#isBack;
  }

  /** Give frame `i` to the next worker. Returns HANDED_OVER, or DROP_STRAY_RING_FULL. */
  handOver(batch: FrameBatch, i: number, interfaceId: number): number {
    if (!this.#put(batch, i, interfaceId | (this.#home << HOME_SHIFT))) return DROP_STRAY_RING_FULL;
    this.#counters.increment(STRAYS_SENT);
    return HANDED_OVER;
  }

  /** Let the other workers learn from ARP frame `i`. A copy that is not taken is counted with the strays that were lost. */
  copyArp(batch: FrameBatch, i: number, interfaceId: number): void {
    this.#passArp(batch, i, interfaceId | (this.worker << HOME_SHIFT) | ARP_COPY);
  }

  /** Take in what the worker before this one handed over, at most 128 frames. Returns how many. */
  turn(engine: Engine, nowMs: number): number {
    const ring = this.#inbound;
    const batch = this.#batch;
    let cursor = 0;
    let count = 0;
    for (; count < TURN_FRAMES; count++) {
      const taken = ring.peek();
      if (taken < 0) break;
      if (cursor + HEADROOM + taken + TAILROOM > this.#memory.length) {
        // Frames wait to be sent where they lie.
        engine.flush(nowMs);
        cursor = 0;
      }
      ring.take(this.#memory, cursor + HEADROOM);
      const front = (ring.tag & NAMED) === 0 ? 0 : this.#front.length;
      for (let n = 0; n < front; n++) this.#front[n] = this.#memory[cursor + HEADROOM + n];
      const offset = cursor + HEADROOM + front;
      const length = taken - front;
      cursor = (offset + length + 63) & ~63;
      batch.count = 1;
      batch.offset[0] = offset;
      batch.length[0] = length;
      batch.flags[0] = ring.flags;
      batch.segmentSize[0] = ring.segmentSize;
      this.#take(engine, ring.tag, nowMs);
    }
    this.#home = this.worker;
    this.#isBack = false;
    if (count > 0) engine.flush(nowMs);
    return count;
  }

  /** Nothing is left: true when this worker may sleep until it is woken. */
  mayRest(): boolean {
    return this.#inbound.sleep();
  }

  #take(engine: Engine, tag: number, nowMs: number): void {
    const interfaceId = tag & INTERFACE_MASK;
    this.#home = (tag >>> HOME_SHIFT) & HOME_MASK;
    this.#isBack = this.#home === this.worker;
    const isClear = (tag & NAMED) === 0 || this.#rename();
    if ((tag & ARP_COPY) !== 0) {
      if (isClear) {
        engine.learnStray(this.#batch, interfaceId, nowMs);
        this.#passArp(this.#batch, 0, tag);
      } else this.#counters.increment(dropCounter(DROP_ADDRESSES_FULL));
      return;
    }
    this.#counters.increment(STRAYS_RECEIVED);
    if (!isClear) engine.refuseStray(DROP_ADDRESSES_FULL, this.#batch, interfaceId, nowMs);
    else engine.takeStray(this.#batch, interfaceId, nowMs);
  }

  /** The frame in hand gets this worker's names. False: there is no room for them. */
  #rename(): boolean {
    const { bytes, offset, length, flags } = this.#batch;
    return this.#names.take(bytes, offset[0], length[0], flags[0], performance.now() | 0);
  }

  /** To the next worker, unless that is the one it began at. */
  #passArp(batch: FrameBatch, i: number, tag: number): void {
    if ((this.worker + 1) % this.workers === ((tag >>> HOME_SHIFT) & HOME_MASK)) return;
    if (!this.#put(batch, i, tag)) this.#counters.increment(dropCounter(DROP_STRAY_RING_FULL));
  }

  #put(batch: FrameBatch, i: number, tag: number): boolean {
    const { bytes, offset, length, flags, segmentSize } = batch;
    const isNamed = this.#interfaces[tag & INTERFACE_MASK].isIpv6;
    if (isNamed) this.#names.tell(bytes, offset[i], length[i]);
    const whole = isNamed ? tag | NAMED : tag;
    const front = isNamed ? this.#front : undefined;
    if (!this.#outbound.put(bytes, offset[i], length[i], flags[i], segmentSize[i], whole, front)) return false;
    if (this.#outbound.mustWake()) this.#wakeNext();
    return true;
  }
}
