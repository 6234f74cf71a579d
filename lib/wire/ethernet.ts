// HOT
// Ethernet II (IEEE 802.3). A MAC address is two numbers: high, its first 2 bytes, and low, its last 4 as an int32.
//
//   | destination 6 | source 6 | EtherType 2 |

import { getI32, getU16, setU16, setU32 } from "../base/bytes.ts";
import { ETHERNET_HEADER } from "./flow-key.ts";

export const ETHERNET_DESTINATION = 0;
export const ETHERNET_SOURCE = 6;
export const ETHERNET_TYPE = 12;

export const BROADCAST_HIGH = 0xffff;
export const BROADCAST_LOW = -1;

// Checked by decodeFrame.

/** First two bytes of the MAC address at `at`. */
export function getMacHigh(bytes: Uint8Array, at: number): number {
  return getU16(bytes, at);
}

/** Last four bytes of the MAC address at `at`. */
export function getMacLow(bytes: Uint8Array, at: number): number {
  return getI32(bytes, at + 2);
}

/** Multicast or broadcast: an address no station has. */
export function isGroupMac(high: number): boolean {
  return (high & 0x0100) !== 0;
}

export function setMac(bytes: Uint8Array, at: number, high: number, low: number): void {
  setU16(bytes, at, high);
  setU32(bytes, at + 2, low);
}

/** Write a header at `at`. Returns the offset behind it. */
export function writeEthernet(
  bytes: Uint8Array,
  at: number,
  destinationHigh: number,
  destinationLow: number,
  sourceHigh: number,
  sourceLow: number,
  etherType: number,
): number {
  setMac(bytes, at + ETHERNET_DESTINATION, destinationHigh, destinationLow);
  setMac(bytes, at + ETHERNET_SOURCE, sourceHigh, sourceLow);
  setU16(bytes, at + ETHERNET_TYPE, etherType);
  return at + ETHERNET_HEADER;
}
