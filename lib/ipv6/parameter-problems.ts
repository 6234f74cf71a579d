// Tells a host why its packet went no further (RFC 4443, 3.4): an option that asks for it (RFC 8200, 4.2), a source route with
// segments left, a hop-by-hop header behind another. What is in front of a packet's payload is known at the door alone, so it is
// told from here: from the router's address on the link, to where the frame came from, with as much of the packet as fits.
//
//   | type 4, code, checksum | pointer 4 | the packet ...
//
// Of whom nobody is told, and who is told nothing: RFC 4443, 2.4 (e). Of later pieces nothing either: what they are pieces
// of, an error perhaps, is not in them. Reads no clock.

import { getI32, getU16, setU16, setU32 } from "../base/bytes.ts";
import { FrameBatch, type Port } from "../io/port.ts";
import type { AddressBook } from "../table/address-book.ts";
import { ETHERNET_SOURCE, getMacHigh, getMacLow, isGroupMac, writeEthernet } from "../wire/ethernet.ts";
import { ETHERNET_HEADER } from "../wire/flow-key.ts";
import { ICMP_HEADER, ICMP_REST } from "../wire/icmp.ts";
import {
  completeIcmpv6,
  ETHERTYPE_IPV6,
  type HeaderWalk,
  ICMPV6_ECHO,
  ICMPV6_PARAMETER_PROBLEM,
  ICMPV6_REDIRECT,
  IPV6_DESTINATION,
  IPV6_HEADER,
  IPV6_MTU_MIN,
  IPV6_PAYLOAD_LENGTH,
  IPV6_SOURCE,
  OPTION_UNKNOWN,
  PROTOCOL_ICMPV6,
  TELL_ALWAYS,
  writeIpv6,
} from "../wire/ipv6.ts";
import type { Prefix } from "./advertiser.ts";

const HOP_LIMIT = 64;
const QUOTE_MAX = IPV6_MTU_MIN - IPV6_HEADER - ICMP_HEADER;
/** Of one interface (RFC 4443, 2.4 f). Those of the engine, which the door does not reach, are 1000 for all. */
const TOLD_PER_SECOND = 100;

export class ParameterProblems {
  readonly #port: Port;
  readonly #book: AddressBook;
  readonly #addresses: readonly Prefix[];
  readonly #macHigh: number;
  readonly #macLow: number;
  readonly #batch = new FrameBatch(new Uint8Array(ETHERNET_HEADER + IPV6_MTU_MIN), 1);
  /** Senders told since the start. */
  told = 0;
  #left = 0;
  #sinceMs = Number.NEGATIVE_INFINITY;

  /** `port`: the one whose wire is IPv6. `addresses`: the router's there. */
  constructor(port: Port, book: AddressBook, addresses: readonly Prefix[]) {
    this.#port = port;
    this.#book = book;
    this.#addresses = addresses;
    const { mac } = port.info();
    this.#macHigh = getMacHigh(mac, 0);
    this.#macLow = getMacLow(mac, 0);
    this.#batch.count = 1;
  }

  /** The frame at `at` was refused for what `walk` found in its extension headers: tell its sender, if he is to be told. */
  tell(bytes: Uint8Array, at: number, walk: HeaderWalk, nowMs: number): void {
    const l3 = at + ETHERNET_HEADER;
    const end = l3 + IPV6_HEADER + getU16(bytes, l3 + IPV6_PAYLOAD_LENGTH);
    if (walk.problem < 0 || !this.#mayBeTold(bytes, at, l3, end, walk)) return;
    if (nowMs - this.#sinceMs >= 1000) {
      this.#sinceMs = nowMs;
      this.#left = TOLD_PER_SECOND;
    }
    if (this.#left === 0) return;
    this.#left--;
    this.told++;
    const out = this.#batch.bytes;
    const high = getMacHigh(bytes, at + ETHERNET_SOURCE);
    const low = getMacLow(bytes, at + ETHERNET_SOURCE);
    const quoted = Math.min(end - l3, QUOTE_MAX);
    const toL3 = writeEthernet(out, 0, high, low, this.#macHigh, this.#macLow, ETHERTYPE_IPV6);
    const l4 = writeIpv6(out, toL3, 0, 0, ICMP_HEADER + quoted, PROTOCOL_ICMPV6, HOP_LIMIT);
    const own = this.#addressToward(bytes, l3 + IPV6_SOURCE);
    for (let n = 0; n < 4; n++) {
      setU32(out, toL3 + IPV6_SOURCE + 4 * n, this.#book.word(own, n));
      setU32(out, toL3 + IPV6_DESTINATION + 4 * n, getI32(bytes, l3 + IPV6_SOURCE + 4 * n));
    }
    setU16(out, l4, (ICMPV6_PARAMETER_PROBLEM << 8) | walk.problem);
    setU32(out, l4 + ICMP_REST, walk.problemAt);
    out.set(bytes.subarray(l3, l3 + quoted), l4 + ICMP_HEADER);
    this.#batch.length[0] = l4 + ICMP_HEADER + quoted;
    completeIcmpv6(out, toL3, l4, this.#batch.length[0]);
    this.#port.tx(this.#batch, 0, 1);
  }

  /** RFC 4443, 2.4 (e). Of what is sent to a group only an option may be told that asks for it even so. */
  #mayBeTold(bytes: Uint8Array, at: number, l3: number, end: number, walk: HeaderWalk): boolean {
    const { protocol, l4 } = walk;
    // The walk has not come to its end, or there is no telling what it came to.
    if (protocol < 0 || walk.fragmentOffset > 0) return false;
    if (protocol === PROTOCOL_ICMPV6 && (l4 >= end || bytes[l4] < ICMPV6_ECHO || bytes[l4] === ICMPV6_REDIRECT))
      return false;
    const high = getMacHigh(bytes, at);
    const isToGroup = isGroupMac(high);
    if (!isToGroup && (high !== this.#macHigh || getMacLow(bytes, at) !== this.#macLow)) return false;
    const asksAlways = walk.problem === OPTION_UNKNOWN && bytes[l3 + walk.problemAt] >>> 6 === TELL_ALWAYS;
    if ((isToGroup || bytes[l3 + IPV6_DESTINATION] === 0xff) && !asksAlways) return false;
    return !isGroupMac(getMacHigh(bytes, at + ETHERNET_SOURCE)) && isOneNode(bytes, l3 + IPV6_SOURCE);
  }

  /** Our address in the network of the one at `at`, or our first. */
  #addressToward(bytes: Uint8Array, at: number): number {
    const isIn = ({ address, length }: Prefix) => {
      for (let n = 0; n < 4; n++) {
        const bits = Math.min(Math.max(length - 32 * n, 0), 32);
        const mask = bits === 0 ? 0 : -1 << (32 - bits);
        if (((this.#book.word(address, n) ^ getI32(bytes, at + 4 * n)) & mask) !== 0) return false;
      }
      return true;
    };
    return (this.#addresses.find(isIn) ?? this.#addresses[0]).address;
  }
}

/** Not multicast, unspecified, loopback or IPv4 in IPv6. */
const isOneNode = (bytes: Uint8Array, at: number): boolean =>
  bytes[at] !== 0xff && (getI32(bytes, at) !== 0 || getI32(bytes, at + 4) !== 0 || getU16(bytes, at + 8) !== 0);
