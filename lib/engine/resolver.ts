// ARP (RFC 826): answer for our own addresses and those that source NAT presents, learn the neighbors somebody waits for, ask for those that are due.
//
// Bounded: an answer is no longer than its question. Neighbors in use are always answered, all other stations of an
// interface 1000 times a second. Who claims an address of ours is contradicted, once in 10 s (RFC 5227, 2.4 c).

import type { FrameBatch } from "../io/port.ts";
import { MAC_SHIFT, NEIGHBOR_DISPUTED, type NeighborTable } from "../peer/neighbor.ts";
import { isAnsweredAddress, type RouterInterface, sourceAddressFor } from "../peer/router-interface.ts";
import type { CounterSet } from "../table/counter-set.ts";
import {
  ARP_REPLY,
  ARP_REQUEST,
  ARP_SENDER_MAC,
  checkArp,
  getArpOperation,
  getArpSenderIp,
  getArpTargetIp,
} from "../wire/arp.ts";
import { getMacHigh, getMacLow } from "../wire/ethernet.ts";
import { ETHERNET_HEADER } from "../wire/flow-key.ts";
import { CONSUMED, DROP_ARP_LIMIT, OK } from "../wire/verdict.ts";
import { ARP_CLAIMED, ARP_DEFENDED, ARP_DISPUTED, ARP_REPLIES_SENT, ARP_REQUESTS_SENT } from "./counters.ts";
import type { Egress } from "./egress.ts";
import type { Generator } from "./generate.ts";

/** Answers to stations that are no neighbors in use, per second and interface. */
const STRANGERS_PER_SECOND = 1000;
/** RFC 5227 DEFEND_INTERVAL. */
const DEFEND_MS = 10_000;

export class Resolver {
  readonly #interfaces: readonly RouterInterface[];
  readonly #neighbors: NeighborTable;
  readonly #egress: Egress;
  readonly #generator: Generator;
  readonly #counters: CounterSet;
  // By interface: answers left to strangers in this second, when that began, and when an address was last defended.
  readonly #answersLeft: Int32Array;
  readonly #answersSinceMs: Float64Array;
  readonly #defendedMs: Float64Array;
  readonly #ask = (row: number, unicast: boolean) => this.#sendRequest(row, unicast);
  readonly #givenUp = (row: number) => this.#egress.dropHeld(row);

  constructor(parts: {
    interfaces: readonly RouterInterface[];
    neighbors: NeighborTable;
    egress: Egress;
    generator: Generator;
    counters: CounterSet;
  }) {
    this.#interfaces = parts.interfaces;
    this.#neighbors = parts.neighbors;
    this.#egress = parts.egress;
    this.#generator = parts.generator;
    this.#counters = parts.counters;
    this.#answersLeft = new Int32Array(parts.interfaces.length);
    this.#answersSinceMs = new Float64Array(parts.interfaces.length).fill(Number.NEGATIVE_INFINITY);
    this.#defendedMs = new Float64Array(parts.interfaces.length).fill(Number.NEGATIVE_INFINITY);
  }

  /** Some neighbor began to resolve: call `tick` now, a packet waits. */
  get isUrgent(): boolean {
    return this.#neighbors.urgent;
  }

  /** Take in the ARP message of frame `i`. Returns CONSUMED, DROP_ARP_MALFORMED or DROP_ARP_LIMIT. */
  receive(batch: FrameBatch, i: number, interfaceId: number, nowMs: number): number {
    const { bytes } = batch;
    const at = batch.offset[i] + ETHERNET_HEADER;
    const verdict = checkArp(bytes, at, batch.length[i] - ETHERNET_HEADER);
    if (verdict !== OK) return verdict;
    this.learn(batch, i, interfaceId, nowMs);
    const own = this.#interfaces[interfaceId];
    const sender = getArpSenderIp(bytes, at);
    const target = getArpTargetIp(bytes, at);
    const high = getMacHigh(bytes, at + ARP_SENDER_MAC);
    const low = getMacLow(bytes, at + ARP_SENDER_MAC);
    if (isAnsweredAddress(own, sender)) {
      this.#defend(own, sender, nowMs);
    } else if (getArpOperation(bytes, at) === ARP_REQUEST && isAnsweredAddress(own, target)) {
      if (!this.#neighbors.isAt(interfaceId, sender, high, low) && !this.#mayAnswer(interfaceId, nowMs))
        return DROP_ARP_LIMIT;
      this.#generator.arp(ARP_REPLY, own.macHigh, own.macLow, target, high, low, sender);
      this.#send(interfaceId);
      this.#counters.increment(ARP_REPLIES_SENT);
    }
    return CONSUMED;
  }

  /** Learn where the sender of the ARP message of frame `i`, checked before, is; answer nothing. */
  learn(batch: FrameBatch, i: number, interfaceId: number, nowMs: number): void {
    const { bytes } = batch;
    const at = batch.offset[i] + ETHERNET_HEADER;
    const own = this.#interfaces[interfaceId];
    const sender = getArpSenderIp(bytes, at);
    const high = getMacHigh(bytes, at + ARP_SENDER_MAC);
    const low = getMacLow(bytes, at + ARP_SENDER_MAC);
    const resolved = this.#neighbors.learn(interfaceId, sender, high, low, own.macHigh, own.macLow, nowMs);
    if (resolved >= 0) this.#egress.releaseHeld(resolved, nowMs);
    else if (resolved === NEIGHBOR_DISPUTED) this.#counters.increment(ARP_DISPUTED);
  }

  /** Ask for every neighbor that is due, give up those that do not answer. */
  tick(nowMs: number): void {
    this.#neighbors.due(nowMs, this.#ask, this.#givenUp);
  }

  #sendRequest(row: number, unicast: boolean): void {
    const { address, interfaceId, macs } = this.#neighbors;
    const own = this.#interfaces[interfaceId[row]];
    const mac = row << MAC_SHIFT;
    const high = unicast ? macs[mac] >>> 16 : 0;
    const low = unicast ? (macs[mac] << 16) | (macs[mac + 1] >>> 16) : 0;
    const source = sourceAddressFor(own, address[row]);
    this.#generator.arp(ARP_REQUEST, own.macHigh, own.macLow, source, high, low, address[row]);
    this.#send(own.id);
    this.#counters.increment(ARP_REQUESTS_SENT);
  }

  /** Another station says that `address` is its own: who believed it hears that it is ours (RFC 5227, 3). */
  #defend(own: RouterInterface, address: number, nowMs: number): void {
    this.#counters.increment(ARP_CLAIMED);
    if (nowMs - this.#defendedMs[own.id] < DEFEND_MS) return;
    this.#defendedMs[own.id] = nowMs;
    this.#generator.arp(ARP_REQUEST, own.macHigh, own.macLow, address, 0, 0, address);
    this.#send(own.id);
    this.#counters.increment(ARP_DEFENDED);
  }

  #mayAnswer(interfaceId: number, nowMs: number): boolean {
    if (nowMs - this.#answersSinceMs[interfaceId] >= 1000) {
      this.#answersSinceMs[interfaceId] = nowMs;
      this.#answersLeft[interfaceId] = STRANGERS_PER_SECOND;
    }
    return this.#answersLeft[interfaceId] > 0 && this.#answersLeft[interfaceId]-- > 0;
  }

  #send(interfaceId: number): void {
    this.#egress.sendAsIs(interfaceId, this.#generator.bytes, this.#generator.offset, this.#generator.length);
  }
}
