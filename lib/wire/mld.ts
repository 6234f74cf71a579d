// Multicast listener discovery (RFC 3810, obsoleted by RFC 9777 with the same messages; version 1: RFC 2710): where things are.
// Every message is ICMPv6 with hop limit 1 from a link-local address, behind a router alert (RFC 2711), by which switches know it.
//
//   query, and all of version 1:  | type, code, checksum | maximum delay 2 | 0 | group 16 |
//   query of version 2:             ... | flags 1 | interval 1 | number of sources 2 | source 16 ...
//   report of version 2:          | type, 0, checksum | 0 | number of records 2 | record ...
//   record:                       | type | 0 | number of sources 2 | group 16 |

import { getI32, getU16, setU16, setU32 } from "../base/bytes.ts";
import { HOP_BY_HOP, IPV6_HEADER, IPV6_NEXT_HEADER, PROTOCOL_ICMPV6 } from "./ipv6.ts";

export const MLD_QUERY = 130;
export const MLD1_REPORT = 131;
export const MLD1_DONE = 132;
export const MLD2_REPORT = 143;

export const MLD_MAX_DELAY = 4;
export const MLD_GROUP = 8;
const MLD2_SOURCES = 26;
/** A message of version 1; a query of version 2 without sources. */
export const MLD1_MESSAGE = 24;
export const MLD2_QUERY = 28;
export const MLD2_REPORT_HEADER = 8;
/** Of a record without sources. */
export const MLD_RECORD = 20;

// Types of records (RFC 3810, 5.2.12): of the state that is, and of one that changes. To exclude no source = to listen to all.
export const MODE_IS_EXCLUDE = 2;
export const CHANGE_TO_INCLUDE = 3;
export const CHANGE_TO_EXCLUDE = 4;

const ROUTER_ALERT = 5;
/** A hop-by-hop header with a router alert and two bytes of padding. */
export const ALERT_HEADER = 8;

/** The maximum delay of a query of version 2, in milliseconds, for what its field says (RFC 3810, 5.1.3); at most 8,387,584. */
export function delayOfCode(code: number): number {
  return code < 0x8000 ? code : ((code & 0xfff) | 0x1000) << (((code >>> 12) & 7) + 3);
}

/** Of the query bytes[l4..end): its version; 0 = its length is that of none (RFC 3810, 8.1). */
export function queryVersion(bytes: Uint8Array, l4: number, end: number): 0 | 1 | 2 {
  const length = end - l4;
  if (length === MLD1_MESSAGE) return 1;
  return length >= MLD2_QUERY && length >= MLD2_QUERY + 16 * getU16(bytes, l4 + MLD2_SOURCES) ? 2 : 0;
}

/** Whether the packet at `l3`, whose extension headers were walked and fit, has a router alert for MLD. */
export function hasRouterAlert(bytes: Uint8Array, l3: number): boolean {
  if (bytes[l3 + IPV6_NEXT_HEADER] !== HOP_BY_HOP) return false;
  const header = l3 + IPV6_HEADER;
  const end = header + ((bytes[header + 1] + 1) << 3);
  for (let at = header + 2; at < end; at += bytes[at] === 0 ? 1 : 2 + bytes[at + 1]) {
    if (bytes[at] === ROUTER_ALERT && bytes[at + 1] === 2) return getU16(bytes, at + 2) === 0;
  }
  return false;
}

/** Write a hop-by-hop header with a router alert for MLD in front of ICMPv6. Returns the offset behind it. */
export function writeRouterAlert(bytes: Uint8Array, at: number): number {
  setU32(bytes, at, (PROTOCOL_ICMPV6 << 24) | (ROUTER_ALERT << 8) | 2);
  // The alert's value, and padding of no bytes more.
  setU32(bytes, at + 4, 0x0000_0100);
  return at + ALERT_HEADER;
}

/** Write a record without sources for the group ff02::`third`:`fourth`. Returns the offset behind it. */
export function writeRecord(bytes: Uint8Array, at: number, type: number, third: number, fourth: number): number {
  setU32(bytes, at, type << 24);
  return writeGroup(bytes, at + 4, third, fourth);
}

/** Write the address ff02::`third`:`fourth`. Returns the offset behind it. */
export function writeGroup(bytes: Uint8Array, at: number, third: number, fourth: number): number {
  setU32(bytes, at, 0xff02_0000);
  setU32(bytes, at + 4, 0);
  setU32(bytes, at + 8, third);
  setU32(bytes, at + 12, fourth);
  return at + 16;
}

/** Whether the address at `at` is ff02::`third`:`fourth`. */
export function isGroup(bytes: Uint8Array, at: number, third: number, fourth: number): boolean {
  return (
    getI32(bytes, at) === (0xff02_0000 | 0) &&
    getI32(bytes, at + 4) === 0 &&
    getI32(bytes, at + 8) === (third | 0) &&
    getI32(bytes, at + 12) === (fourth | 0)
  );
}

/** Write the four bytes in front of a report's records. */
export function writeReport(bytes: Uint8Array, l4: number, records: number): number {
  setU32(bytes, l4, MLD2_REPORT << 24);
  setU16(bytes, l4 + 4, 0);
  setU16(bytes, l4 + 6, records);
  return l4 + MLD2_REPORT_HEADER;
}
