// A router's word to the hosts of its link (RFC 4861, 6.2): who routes, which prefixes are here, what a packet may have. Sent
// from the link-local address that follows from the MAC address (RFC 4291, appendix A), the one by which hosts then know
// their router, so who asks for that is answered here too: nothing else in this router has it.
//
//   | type 134, code, checksum | hop limit, flags, lifetime | reachable | retransmit | our MAC | MTU | prefix ...
//
// Reads no clock: `tick` is told the time and sends what is due. Who solicits at whatever rate costs one advertisement
// every three seconds; neighbor solicitations are answered 1000 times a second.

import { getI32, setU16, setU32 } from "../base/bytes.ts";
import type { RandomSource } from "../base/random.ts";
import { FrameBatch, type Port } from "../io/port.ts";
import type { AddressBook } from "../table/address-book.ts";
import { ETHERNET_SOURCE, getMacHigh, getMacLow, setMac, writeEthernet } from "../wire/ethernet.ts";
import { ETHERNET_HEADER } from "../wire/flow-key.ts";
import {
  completeIcmpv6,
  ETHERTYPE_IPV6,
  GROUP_MAC_HIGH,
  IPV6_DESTINATION,
  IPV6_HEADER,
  IPV6_HOP_LIMIT,
  IPV6_NEXT_HEADER,
  IPV6_PAYLOAD_LENGTH,
  IPV6_SOURCE,
  icmpv6IsRight,
  NEIGHBOR_ADVERTISEMENT,
  NEIGHBOR_HOP_LIMIT,
  NEIGHBOR_MESSAGE,
  NEIGHBOR_SOLICITATION,
  OPTION_SOURCE_MAC,
  OPTION_TARGET_MAC,
  PROTOCOL_ICMPV6,
  writeIpv6,
} from "../wire/ipv6.ts";
import { identifierOf, writeLinkLocal } from "./link-local.ts";

const ROUTER_SOLICITATION = 133;
const ROUTER_ADVERTISEMENT = 134;
const OPTION_PREFIX = 3;
const OPTION_MTU = 5;
/** Type, code, checksum, reserved: what is in front of a solicitation's options; of an advertisement's. */
const SOLICITATION = 8;
const ADVERTISEMENT = 16;
const HOP_LIMIT = 64;
const ON_LINK = 0x80;
const AUTONOMOUS = 0x40;
/** Only of these do hosts make addresses (RFC 4862, 5.5.3 d; RFC 2464, 4). */
const AUTONOMOUS_LENGTH = 64;

// RFC 4861, 6.2.1 and 10: the defaults. Seconds on the wire, milliseconds here.
const INTERVAL_MAX_MS = 600_000;
const INTERVAL_MIN_MS = 198_000;
const LIFETIME_S = 1800;
const VALID_S = 2_592_000;
const PREFERRED_S = 604_800;
const INITIAL = 3;
const INITIAL_INTERVAL_MAX_MS = 16_000;
/** Between two that go to all; how late at most a solicitation is answered otherwise. */
const BETWEEN_MIN_MS = 3000;
const DELAY_MAX_MS = 500;

const ANSWERS_PER_SECOND = 1000;
const FROM_ROUTER = 0x8000_0000;
const SOLICITED = 0x4000_0000;
const OVERRIDE = 0x2000_0000;
const ALL_NODES_0 = 0xff02_0000;
const ALL_NODES_3 = 1;

export interface Prefix {
  /** A name of the book. */
  readonly address: number;
  readonly length: number;
}

export class Advertiser {
  readonly #port: Port;
  readonly #book: AddressBook;
  readonly #prefixes: readonly Prefix[];
  readonly #random: RandomSource;
  readonly #macHigh: number;
  readonly #macLow: number;
  readonly #identifier: readonly [number, number];
  readonly #batch: FrameBatch;
  #initialLeft = INITIAL;
  /** When the next one is due, and when the last one went. */
  #nextMs = Number.NEGATIVE_INFINITY;
  #lastMs = Number.NEGATIVE_INFINITY;
  #answersLeft = 0;
  #answersSinceMs = Number.NEGATIVE_INFINITY;

  /** `port`: the one whose wire is IPv6. `prefixes`: of the router's addresses there. */
  constructor(port: Port, book: AddressBook, prefixes: readonly Prefix[], random: RandomSource) {
    this.#port = port;
    this.#book = book;
    this.#prefixes = prefixes;
    this.#random = random;
    const { mac } = port.info();
    this.#macHigh = getMacHigh(mac, 0);
    this.#macLow = getMacLow(mac, 0);
    this.#identifier = identifierOf(this.#macHigh, this.#macLow);
    const options = 8 + 8 + 32 * prefixes.length;
    const bytes = ETHERNET_HEADER + IPV6_HEADER + Math.max(ADVERTISEMENT + options, NEIGHBOR_MESSAGE + 8);
    this.#batch = new FrameBatch(new Uint8Array(bytes), 1);
    this.#batch.count = 1;
  }

  /** Take the frame bytes[at..at+length), which nobody else wants. False: neither does this. */
  receive(bytes: Uint8Array, at: number, length: number, nowMs: number): boolean {
    const l3 = at + ETHERNET_HEADER;
    const l4 = l3 + IPV6_HEADER;
    if (length < ETHERNET_HEADER + IPV6_HEADER + SOLICITATION) return false;
    if (bytes[l3 + IPV6_NEXT_HEADER] !== PROTOCOL_ICMPV6 || bytes[l3 + IPV6_HOP_LIMIT] !== NEIGHBOR_HOP_LIMIT)
      return false;
    const end = l4 + ((bytes[l3 + IPV6_PAYLOAD_LENGTH] << 8) | bytes[l3 + IPV6_PAYLOAD_LENGTH + 1]);
    if (end > at + length || end < l4 + SOLICITATION || bytes[l4 + 1] !== 0) return false;
    if (bytes[l4] === ROUTER_SOLICITATION) return this.#solicited(bytes, l3, l4, end, nowMs);
    return bytes[l4] === NEIGHBOR_SOLICITATION && this.#asked(bytes, at, l3, l4, end, nowMs);
  }

  /** Send the advertisement that is due, if one is. */
  tick(nowMs: number): void {
    if (nowMs < this.#nextMs) return;
    this.#advertise(LIFETIME_S);
    this.#lastMs = nowMs;
    const usual = INTERVAL_MIN_MS + this.#chance(INTERVAL_MAX_MS - INTERVAL_MIN_MS);
    const isInitial = this.#initialLeft > 0 && --this.#initialLeft > 0;
    this.#nextMs = nowMs + (isInitial ? Math.min(usual, INITIAL_INTERVAL_MAX_MS) : usual);
  }

  /** This router routes no more. Call once, while the port is open. */
  end(): void {
    this.#advertise(0);
    this.#nextMs = Number.POSITIVE_INFINITY;
  }

  /** RFC 4861, 6.1.1 and 6.2.6: all hear the answer. */
  #solicited(bytes: Uint8Array, l3: number, l4: number, end: number, nowMs: number): boolean {
    const hasMac = this.#macOption(bytes, l4 + SOLICITATION, end);
    const isUnspecified = this.#isUnspecified(bytes, l3 + IPV6_SOURCE);
    if (hasMac < 0 || (hasMac > 0 && isUnspecified) || !icmpv6IsRight(bytes, l3, l4, end)) return false;
    const soonMs = Math.max(nowMs + this.#chance(DELAY_MAX_MS), this.#lastMs + BETWEEN_MIN_MS);
    this.#nextMs = Math.min(this.#nextMs, soonMs);
    return true;
  }

  /** Who asks for the link-local address hears where it is (RFC 4861, 7.2.4); who tries whether it is free, with all others. */
  #asked(bytes: Uint8Array, at: number, l3: number, l4: number, end: number, nowMs: number): boolean {
    if (end < l4 + NEIGHBOR_MESSAGE || !this.#isOurs(bytes, l4 + 8)) return false;
    const macAt = this.#macOption(bytes, l4 + NEIGHBOR_MESSAGE, end);
    const isProbe = this.#isUnspecified(bytes, l3 + IPV6_SOURCE);
    if (macAt < 0 || (macAt > 0 && isProbe) || !icmpv6IsRight(bytes, l3, l4, end)) return false;
    if (nowMs - this.#answersSinceMs >= 1000) {
      this.#answersSinceMs = nowMs;
      this.#answersLeft = ANSWERS_PER_SECOND;
    }
    if (this.#answersLeft === 0) return false;
    this.#answersLeft--;
    const from = macAt > 0 ? macAt : at + ETHERNET_SOURCE;
    const out = this.#batch.bytes;
    const answer = this.#begin(NEIGHBOR_MESSAGE + 8);
    if (!isProbe) {
      setMac(out, 0, getMacHigh(bytes, from), getMacLow(bytes, from));
      const to = ETHERNET_HEADER + IPV6_DESTINATION;
      for (let n = 0; n < 16; n++) out[to + n] = bytes[l3 + IPV6_SOURCE + n];
    }
    setU16(out, answer, NEIGHBOR_ADVERTISEMENT << 8);
    setU32(out, answer + 4, FROM_ROUTER | OVERRIDE | (isProbe ? 0 : SOLICITED));
    this.#writeAddress(answer + 8);
    this.#writeMac(answer + NEIGHBOR_MESSAGE, OPTION_TARGET_MAC);
    this.#send(answer);
    return true;
  }

  #advertise(lifetimeS: number): void {
    const options = 8 + 8 + 32 * this.#prefixes.length;
    const out = this.#batch.bytes;
    const l4 = this.#begin(ADVERTISEMENT + options);
    setU16(out, l4, ROUTER_ADVERTISEMENT << 8);
    out[l4 + 4] = HOP_LIMIT;
    setU16(out, l4 + 6, lifetimeS);
    this.#writeMac(l4 + ADVERTISEMENT, OPTION_SOURCE_MAC);
    let at = l4 + ADVERTISEMENT + 8;
    out[at] = OPTION_MTU;
    out[at + 1] = 1;
    setU32(out, at + 4, this.#port.info().mtu);
    at += 8;
    for (const { address, length } of this.#prefixes) {
      out[at] = OPTION_PREFIX;
      out[at + 1] = 4;
      out[at + 2] = length;
      out[at + 3] = length === AUTONOMOUS_LENGTH ? ON_LINK | AUTONOMOUS : ON_LINK;
      setU32(out, at + 4, VALID_S);
      setU32(out, at + 8, PREFERRED_S);
      for (let n = 0; n < 4; n++) {
        const bits = Math.min(Math.max(length - 32 * n, 0), 32);
        const mask = bits === 0 ? 0 : -1 << (32 - bits);
        setU32(out, at + 16 + 4 * n, this.#book.word(address, n) & mask);
      }
      at += 32;
    }
    this.#send(l4);
  }

  /** Headers of a message of `length` zeros from us to all nodes. Returns where it begins. */
  #begin(length: number): number {
    const out = this.#batch.bytes.fill(0);
    const l3 = ETHERNET_HEADER;
    writeEthernet(out, 0, GROUP_MAC_HIGH, ALL_NODES_3, this.#macHigh, this.#macLow, ETHERTYPE_IPV6);
    const l4 = writeIpv6(out, l3, 0, 0, length, PROTOCOL_ICMPV6, NEIGHBOR_HOP_LIMIT);
    this.#writeAddress(l3 + IPV6_SOURCE);
    setU32(out, l3 + IPV6_DESTINATION, ALL_NODES_0);
    setU32(out, l3 + IPV6_DESTINATION + 12, ALL_NODES_3);
    this.#batch.length[0] = l4 + length;
    return l4;
  }

  #send(l4: number): void {
    completeIcmpv6(this.#batch.bytes, ETHERNET_HEADER, l4, this.#batch.length[0]);
    this.#port.tx(this.#batch, 0, 1);
  }

  #writeAddress(at: number): void {
    writeLinkLocal(this.#batch.bytes, at, this.#identifier);
  }

  #writeMac(at: number, option: number): void {
    const out = this.#batch.bytes;
    out[at] = option;
    out[at + 1] = 1;
    setMac(out, at + 2, this.#macHigh, this.#macLow);
  }

  #isOurs(bytes: Uint8Array, at: number): boolean {
    return (
      getI32(bytes, at) >>> 0 === 0xfe80_0000 &&
      getI32(bytes, at + 4) === 0 &&
      getI32(bytes, at + 8) === (this.#identifier[0] | 0) &&
      getI32(bytes, at + 12) === (this.#identifier[1] | 0)
    );
  }

  #isUnspecified(bytes: Uint8Array, at: number): boolean {
    return (getI32(bytes, at) | getI32(bytes, at + 4) | getI32(bytes, at + 8) | getI32(bytes, at + 12)) === 0;
  }

  /** Where the MAC address of the option that says the sender's is; 0 = there is none; -1 = one of the options does not fit. */
  #macOption(bytes: Uint8Array, from: number, end: number): number {
    let found = 0;
    for (let at = from; at < end; at += bytes[at + 1] << 3) {
      if (at + 2 > end) return -1;
      const length = bytes[at + 1] << 3;
      if (length === 0 || at + length > end) return -1;
      if (bytes[at] === OPTION_SOURCE_MAC) found = at + 2;
    }
    return found;
  }

  /** From 0 up to `max`, without it. */
  #chance(max: number): number {
    return (this.#random.nextI32() >>> 0) % max;
  }
}
