// HOT
// ICMP echoes between the families, in the router's own form: an IPv4 header with names. ICMPv6 has other types and its
// checksum covers a pseudo header of the addresses, which ICMP's does not, so it changes with the whole message's length:
// of a message in pieces when they are together, or before it is cut. Until then its protocol says that it is ICMPv6, and the
// door, which sees one piece after another, cannot change it: who puts pieces together and cuts packets calls `ofPieces` and
// `toPieces` for any packet, and need not know why.

import { getI32, getU16, setU16 } from "../base/bytes.ts";
import { type AddressBook, isName } from "../table/address-book.ts";
import { addDelta, applyDelta, deltaU16, ipv4HeaderChecksum, pseudoSum } from "../wire/checksum.ts";
import { PROTOCOL_ICMP } from "../wire/flow-key.ts";
import { ICMP_CHECKSUM, ICMP_ECHO, ICMP_ECHO_REPLY, ICMP_HEADER } from "../wire/icmp.ts";
import { IPV4_CHECKSUM, IPV4_DESTINATION, IPV4_PROTOCOL, IPV4_SOURCE } from "../wire/ipv4.ts";
import { ICMPV6_ECHO, ICMPV6_ECHO_REPLY, PROTOCOL_ICMPV6 } from "../wire/ipv6.ts";

/** The sum of the pseudo header that an ICMPv6 message of `length` bytes between two names has. */
const pseudoOf = (book: AddressBook, bytes: Uint8Array, l3: number, length: number): number => {
  const source = getI32(bytes, l3 + IPV4_SOURCE);
  const destination = getI32(bytes, l3 + IPV4_DESTINATION);
  const delta = addDelta(book.delta(source), book.delta(destination));
  return addDelta(pseudoSum(source, destination, PROTOCOL_ICMPV6, length), delta);
};

const setProtocol = (bytes: Uint8Array, l3: number, protocol: number): void => {
  bytes[l3 + IPV4_PROTOCOL] = protocol;
  setU16(bytes, l3 + IPV4_CHECKSUM, ipv4HeaderChecksum(bytes, l3));
};

/** The ICMPv6 echo bytes[l4..end) behind the header at `l3` becomes ICMP's. False where it is no echo. A wrong checksum stays wrong. */
export function echoToIcmp(book: AddressBook, bytes: Uint8Array, l3: number, l4: number, end: number): boolean {
  const before = getU16(bytes, l4);
  if (end - l4 < ICMP_HEADER || (before >>> 8 !== ICMPV6_ECHO && before >>> 8 !== ICMPV6_ECHO_REPLY)) return false;
  const type = before >>> 8 === ICMPV6_ECHO ? ICMP_ECHO : ICMP_ECHO_REPLY;
  const undone = ~pseudoOf(book, bytes, l3, end - l4) & 0xffff;
  const delta = addDelta(deltaU16(before, (type << 8) | (before & 0xff)), undone);
  bytes[l4] = type;
  // A message may be all zero now, the one for which 0 is wrong and 0xFFFF right.
  setU16(bytes, l4 + ICMP_CHECKSUM, applyDelta(getU16(bytes, l4 + ICMP_CHECKSUM), delta) || 0xffff);
  setProtocol(bytes, l3, PROTOCOL_ICMP);
  return true;
}

/** The other way round. */
export function echoToIcmpv6(book: AddressBook, bytes: Uint8Array, l3: number, l4: number, end: number): boolean {
  const before = getU16(bytes, l4);
  if (end - l4 < ICMP_HEADER || (before >>> 8 !== ICMP_ECHO && before >>> 8 !== ICMP_ECHO_REPLY)) return false;
  const type = before >>> 8 === ICMP_ECHO ? ICMPV6_ECHO : ICMPV6_ECHO_REPLY;
  const delta = addDelta(deltaU16(before, (type << 8) | (before & 0xff)), pseudoOf(book, bytes, l3, end - l4));
  bytes[l4] = type;
  setU16(bytes, l4 + ICMP_CHECKSUM, applyDelta(getU16(bytes, l4 + ICMP_CHECKSUM), delta));
  setProtocol(bytes, l3, PROTOCOL_ICMPV6);
  return true;
}

/** The packet with its header at `l3` has been put together and ends at `end`. False where nothing in it has a form here. */
export function ofPieces(book: AddressBook, bytes: Uint8Array, l3: number, end: number): boolean {
  if (bytes[l3 + IPV4_PROTOCOL] !== PROTOCOL_ICMPV6 || !isName(getI32(bytes, l3 + IPV4_SOURCE))) return true;
  return echoToIcmp(book, bytes, l3, l3 + ((bytes[l3] & 15) << 2), end);
}

/** It is about to be cut. */
export function toPieces(book: AddressBook, bytes: Uint8Array, l3: number, end: number): void {
  if (bytes[l3 + IPV4_PROTOCOL] !== PROTOCOL_ICMP || !isName(getI32(bytes, l3 + IPV4_SOURCE))) return;
  echoToIcmpv6(book, bytes, l3, l3 + ((bytes[l3] & 15) << 2), end);
}
