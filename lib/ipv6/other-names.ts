// HOT
// Frames in the router's own form on their way to another thread, whose book has other names for the same addresses: the giving
// side says what its names stand for, the taking side puts its own in their place. Nothing else changes, so labels, DF, options and
// messages that IPv6 does not have cross as they are. Checksums change by what the names differ: a right one stays right, a wrong
// one wrong, and the bare sum of a pseudo header becomes the other's.
//
//   where names are        IPv4 header: source, destination; the same in what an ICMP error quotes
//                          ARP: sender, target
//
// Both sides look for them in the same bytes, so only the words travel: four for each of ADDRESSES places.

import { getI32, getU16, setU16, setU32 } from "../base/bytes.ts";
import { FRAME_CHECKSUM_KNOWN, FRAME_CHECKSUM_PARTIAL } from "../io/port.ts";
import { type AddressBook, isName } from "../table/address-book.ts";
import { ARP_LENGTH, ARP_SENDER_IP, ARP_TARGET_IP } from "../wire/arp.ts";
import {
  addDelta,
  applyDelta,
  applyDeltaUdp,
  deltaI32,
  deltaU16,
  l4ChecksumOffset,
  pseudoSum,
} from "../wire/checksum.ts";
import { ETHERNET_TYPE } from "../wire/ethernet.ts";
import {
  ETHERNET_HEADER,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  PROTOCOL_ICMP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
} from "../wire/flow-key.ts";
import { ICMP_CHECKSUM, ICMP_HEADER } from "../wire/icmp.ts";
import {
  FRAGMENT_OFFSET,
  IPV4_CHECKSUM,
  IPV4_DESTINATION,
  IPV4_FLAGS,
  IPV4_HEADER,
  IPV4_PROTOCOL,
  IPV4_SOURCE,
  IPV4_TOTAL_LENGTH,
  MORE_FRAGMENTS,
} from "../wire/ipv4.ts";
import { UDP_CHECKSUM, UDP_HEADER, UDP_LENGTH } from "../wire/udp.ts";
import { icmpv6Of } from "./icmp-codes.ts";

/** Places that a frame has for names at most. */
const ADDRESSES = 4;

export class OtherNames {
  /** Of `tell` and `take`: the words of the address in each place, in this machine's order; zero where there is no name. */
  readonly words = new Int32Array(ADDRESSES * 4);
  readonly #book: AddressBook;
  /** Where the names are in the frame in hand. */
  readonly #places = new Int32Array(ADDRESSES);
  #count = 0;
  /** What the checksums of the header, and of what it quotes, change by. */
  readonly #deltas = new Int32Array(ADDRESSES);

  /** `book`: this thread's. */
  constructor(book: AddressBook) {
    this.#book = book;
  }

  /** Write into `words` what the names in the frame bytes[at..at+length) stand for. */
  tell(bytes: Uint8Array, at: number, length: number): void {
    this.#look(bytes, at, length);
    this.words.fill(0);
    for (let n = 0; n < this.#count; n++) {
      const name = getI32(bytes, this.#places[n]);
      if (!isName(name)) continue;
      for (let k = 0; k < 4; k++) this.words[(n << 2) | k] = this.#book.word(name, k);
    }
  }

  /**
   * Put this book's names in the places of the frame bytes[at..at+length), which came with `words` and these flags. False: the
   * book is full, and the frame is of no use.
   */
  take(bytes: Uint8Array, at: number, length: number, flags: number, nowMs: number): boolean {
    this.#look(bytes, at, length);
    const isIpv4 = this.#count > 0 && getU16(bytes, at + ETHERNET_TYPE) === ETHERTYPE_IPV4;
    const l3 = at + ETHERNET_HEADER;
    const l4 = l3 + ((bytes[l3] & 15) << 2);
    const isPartial = isIpv4 && this.#isPartial(bytes, l3, l4, at + length, flags);
    for (let n = 0; n < this.#count; n++) {
      const place = this.#places[n];
      const old = getI32(bytes, place);
      this.#deltas[n] = 0;
      if (!isName(old)) continue;
      const to = n << 2;
      const name = this.#book.enter(this.words[to], this.words[to | 1], this.words[to | 2], this.words[to | 3], nowMs);
      if (name === 0) return false;
      setU32(bytes, place, name);
      this.#deltas[n] = deltaI32(old, name);
    }
    if (!isIpv4) return true;
    const delta = addDelta(this.#deltas[0], this.#deltas[1]);
    change(bytes, l3 + IPV4_CHECKSUM, delta);
    this.#l4(bytes, l3, l4, at + length, delta, isPartial);
    if (this.#count > 2) this.#quote(bytes, l4, at + length, addDelta(this.#deltas[2], this.#deltas[3]));
    return true;
  }

  /** Find the places. */
  #look(bytes: Uint8Array, at: number, length: number): void {
    const l3 = at + ETHERNET_HEADER;
    const end = at + length;
    const places = this.#places;
    this.#count = 0;
    const etherType = getU16(bytes, at + ETHERNET_TYPE);
    if (etherType === ETHERTYPE_ARP && end >= l3 + ARP_LENGTH) {
      places[0] = l3 + ARP_SENDER_IP;
      places[1] = l3 + ARP_TARGET_IP;
      this.#count = 2;
    }
    if (etherType !== ETHERTYPE_IPV4 || end < l3 + IPV4_HEADER) return;
    places[0] = l3 + IPV4_SOURCE;
    places[1] = l3 + IPV4_DESTINATION;
    this.#count = 2;
    if (bytes[l3 + IPV4_PROTOCOL] !== PROTOCOL_ICMP || (getU16(bytes, l3 + IPV4_FLAGS) & FRAGMENT_OFFSET) !== 0) return;
    const l4 = l3 + ((bytes[l3] & 15) << 2);
    const quote = l4 + ICMP_HEADER;
    // Only what came as an error of ICMPv6 has names in it.
    if (end < quote + IPV4_HEADER || icmpv6Of(bytes[l4], bytes[l4 + 1]) < 0) return;
    places[2] = quote + IPV4_SOURCE;
    places[3] = quote + IPV4_DESTINATION;
    this.#count = 4;
  }

  /** Whether the TCP or UDP checksum is the bare sum of a pseudo header, with the names that the frame came with. */
  #isPartial(bytes: Uint8Array, l3: number, l4: number, end: number, flags: number): boolean {
    if ((flags & FRAME_CHECKSUM_KNOWN) !== 0) return (flags & FRAME_CHECKSUM_PARTIAL) !== 0;
    const protocol = bytes[l3 + IPV4_PROTOCOL];
    if (protocol !== PROTOCOL_TCP && protocol !== PROTOCOL_UDP) return false;
    const field = l4 + l4ChecksumOffset(protocol);
    if (field + 2 > end || (getU16(bytes, l3 + IPV4_FLAGS) & (FRAGMENT_OFFSET | MORE_FRAGMENTS)) !== 0) return false;
    return getU16(bytes, field) === this.#bareSum(bytes, l3, l4, end, protocol);
  }

  #bareSum(bytes: Uint8Array, l3: number, l4: number, end: number, protocol: number): number {
    const told = getU16(bytes, l3 + IPV4_TOTAL_LENGTH);
    const behind = (told === 0 ? end : l3 + told) - l4;
    const length = protocol === PROTOCOL_UDP ? getU16(bytes, l4 + UDP_LENGTH) || behind : behind;
    return pseudoSum(getI32(bytes, l3 + IPV4_SOURCE), getI32(bytes, l3 + IPV4_DESTINATION), protocol, length);
  }

  #l4(bytes: Uint8Array, l3: number, l4: number, end: number, delta: number, isPartial: boolean): void {
    const protocol = bytes[l3 + IPV4_PROTOCOL];
    if (protocol !== PROTOCOL_TCP && protocol !== PROTOCOL_UDP) return;
    const field = l4 + l4ChecksumOffset(protocol);
    if (field + 2 > end || (getU16(bytes, l3 + IPV4_FLAGS) & FRAGMENT_OFFSET) !== 0) return;
    const old = getU16(bytes, field);
    if (isPartial) setU16(bytes, field, this.#bareSum(bytes, l3, l4, end, protocol));
    else setU16(bytes, field, protocol === PROTOCOL_UDP ? applyDeltaUdp(old, delta) : applyDelta(old, delta));
  }

  /** Of the packet that the ICMP error at `l4` quotes: its header's checksum and UDP's, as the port has them, and the message's own. */
  #quote(bytes: Uint8Array, l4: number, end: number, delta: number): void {
    const quote = l4 + ICMP_HEADER;
    const quotedL4 = quote + ((bytes[quote] & 15) << 2);
    let changed = addDelta(delta, change(bytes, quote + IPV4_CHECKSUM, delta));
    if (bytes[quote + IPV4_PROTOCOL] === PROTOCOL_UDP && end >= quotedL4 + UDP_HEADER) {
      const old = getU16(bytes, quotedL4 + UDP_CHECKSUM);
      const now = applyDeltaUdp(old, delta);
      setU16(bytes, quotedL4 + UDP_CHECKSUM, now);
      changed = addDelta(changed, deltaU16(old, now));
    }
    change(bytes, l4 + ICMP_CHECKSUM, changed);
  }
}

/** Change the checksum at `at`. Returns what that changes in a sum which has it. */
function change(bytes: Uint8Array, at: number, delta: number): number {
  const old = getU16(bytes, at);
  const now = applyDelta(old, delta);
  setU16(bytes, at, now);
  return deltaU16(old, now);
}
