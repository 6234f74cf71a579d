// HOT
// Types and codes of ICMP errors in both families (RFC 7915, 4.2 and 5.2), and the MTU that two of them tell: of the
// same packet IPv6 needs 20 bytes more.

import { getI32, getU16 } from "../base/bytes.ts";
import {
  ICMP_FRAGMENTATION_NEEDED,
  ICMP_HOST_UNREACHABLE,
  ICMP_PARAMETER_PROBLEM,
  ICMP_REST,
  ICMP_TIME_EXCEEDED,
  ICMP_UNREACHABLE,
} from "../wire/icmp.ts";
import { IPV4_HEADER } from "../wire/ipv4.ts";
import {
  ICMPV6_PARAMETER_PROBLEM,
  ICMPV6_TIME_EXCEEDED,
  ICMPV6_TOO_BIG,
  ICMPV6_UNREACHABLE,
  IPV6_HEADER,
  IPV6_MTU_MIN,
} from "../wire/ipv6.ts";

const PROTOCOL_UNREACHABLE = 2;
const PORT_UNREACHABLE = 3;
const NET_PROHIBITED = 9;
const HOST_PROHIBITED = 10;
const PROHIBITED = 13;
const PRECEDENCE_CUTOFF = 15;
const V6_PROHIBITED = 1;
const V6_PORT_UNREACHABLE = 4;
const V6_NEXT_HEADER_UNKNOWN = 1;
/** What IPv6 needs more than IPv4 for the same packet. */
export const HEADER_GROWTH = IPV6_HEADER - IPV4_HEADER;

/** IPv4's type << 8 | code for an ICMPv6 error; -1 = there is none. */
export function icmpOf(type: number, code: number): number {
  if (type === ICMPV6_TOO_BIG) return (ICMP_UNREACHABLE << 8) | ICMP_FRAGMENTATION_NEEDED;
  if (type === ICMPV6_TIME_EXCEEDED) return (ICMP_TIME_EXCEEDED << 8) | code;
  if (type === ICMPV6_PARAMETER_PROBLEM)
    return code === V6_NEXT_HEADER_UNKNOWN ? (ICMP_UNREACHABLE << 8) | PROTOCOL_UNREACHABLE : -1;
  if (type !== ICMPV6_UNREACHABLE) return -1;
  if (code === V6_PROHIBITED) return (ICMP_UNREACHABLE << 8) | HOST_PROHIBITED;
  if (code === V6_PORT_UNREACHABLE) return (ICMP_UNREACHABLE << 8) | PORT_UNREACHABLE;
  return (ICMP_UNREACHABLE << 8) | ICMP_HOST_UNREACHABLE;
}

/** The four bytes behind the checksum of IPv4's message for the ICMPv6 error at `l4`. */
export function restOf(bytes: Uint8Array, l4: number): number {
  if (bytes[l4] !== ICMPV6_TOO_BIG) return 0;
  const mtu = getI32(bytes, l4 + ICMP_REST) >>> 0;
  return Math.min(Math.max(mtu, IPV6_MTU_MIN), 0xffff) - HEADER_GROWTH;
}

/** ICMPv6's type << 8 | code for an ICMP error; -1 = there is none. */
export function icmpv6Of(type: number, code: number): number {
  if (type === ICMP_TIME_EXCEEDED) return (ICMPV6_TIME_EXCEEDED << 8) | code;
  if (type === ICMP_PARAMETER_PROBLEM) return -1;
  if (type !== ICMP_UNREACHABLE) return -1;
  if (code === ICMP_FRAGMENTATION_NEEDED) return ICMPV6_TOO_BIG << 8;
  if (code === PROTOCOL_UNREACHABLE) return (ICMPV6_PARAMETER_PROBLEM << 8) | V6_NEXT_HEADER_UNKNOWN;
  if (code === PORT_UNREACHABLE) return (ICMPV6_UNREACHABLE << 8) | V6_PORT_UNREACHABLE;
  if (code === NET_PROHIBITED || code === HOST_PROHIBITED || code === PROHIBITED || code === PRECEDENCE_CUTOFF)
    return (ICMPV6_UNREACHABLE << 8) | V6_PROHIBITED;
  return ICMPV6_UNREACHABLE << 8;
}

/** The four bytes behind the checksum of ICMPv6's message for the ICMP error at `l4`. */
export function restOfV6(bytes: Uint8Array, l4: number, type: number): number {
  if (type === ICMPV6_TOO_BIG) return Math.max(getU16(bytes, l4 + ICMP_REST + 2) + HEADER_GROWTH, IPV6_MTU_MIN);
  // The pointer to a next header that is not known.
  return type === ICMPV6_PARAMETER_PROBLEM ? 6 : 0;
}
