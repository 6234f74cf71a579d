// HOT
// ARP for IPv4 on Ethernet (RFC 826).
//
//   | hardware type 2 | protocol type 2 | 6 | 4 | operation 2 | sender MAC 6, IP 4 | target MAC 6, IP 4 |
//   ^ at, behind the Ethernet header

import { getI32, getU16, setU16, setU32 } from "../base/bytes.ts";
import { getMacHigh, isGroupMac, setMac } from "./ethernet.ts";
import { ETHERTYPE_IPV4 } from "./flow-key.ts";
import { DROP_ARP_MALFORMED, OK } from "./verdict.ts";

export const ARP_OPERATION = 6;
export const ARP_SENDER_MAC = 8;
export const ARP_SENDER_IP = 14;
export const ARP_TARGET_MAC = 18;
export const ARP_TARGET_IP = 24;
export const ARP_LENGTH = 28;

export const ARP_REQUEST = 1;
export const ARP_REPLY = 2;

const HARDWARE_ETHERNET = 1;
const ADDRESS_LENGTHS = 0x0604;

/**
 * Check the ARP message at `at` with `length` bytes of frame left: OK, or DROP_ARP_MALFORMED for anything but a
 * request or reply for IPv4 on Ethernet. A sender with a group MAC address is not believed (RFC 1812, 3.3.2).
 */
export function checkArp(bytes: Uint8Array, at: number, length: number): number {
  if (length < ARP_LENGTH) return DROP_ARP_MALFORMED;
  if (getU16(bytes, at) !== HARDWARE_ETHERNET || getU16(bytes, at + 2) !== ETHERTYPE_IPV4) return DROP_ARP_MALFORMED;
  if (getU16(bytes, at + 4) !== ADDRESS_LENGTHS) return DROP_ARP_MALFORMED;
  const operation = getArpOperation(bytes, at);
  if (operation !== ARP_REQUEST && operation !== ARP_REPLY) return DROP_ARP_MALFORMED;
  if (isGroupMac(getMacHigh(bytes, at + ARP_SENDER_MAC))) return DROP_ARP_MALFORMED;
  return OK;
}

export function getArpOperation(bytes: Uint8Array, at: number): number {
  return getU16(bytes, at + ARP_OPERATION);
}

export function getArpSenderIp(bytes: Uint8Array, at: number): number {
  return getI32(bytes, at + ARP_SENDER_IP);
}

export function getArpTargetIp(bytes: Uint8Array, at: number): number {
  return getI32(bytes, at + ARP_TARGET_IP);
}

/** Write a message at `at`. Returns the offset behind it. In a request the target MAC address is 0. */
export function writeArp(
  bytes: Uint8Array,
  at: number,
  operation: number,
  senderHigh: number,
  senderLow: number,
  senderIp: number,
  targetHigh: number,
  targetLow: number,
  targetIp: number,
): number {
  setU16(bytes, at, HARDWARE_ETHERNET);
  setU16(bytes, at + 2, ETHERTYPE_IPV4);
  setU16(bytes, at + 4, ADDRESS_LENGTHS);
  setU16(bytes, at + ARP_OPERATION, operation);
  setMac(bytes, at + ARP_SENDER_MAC, senderHigh, senderLow);
  setU32(bytes, at + ARP_SENDER_IP, senderIp);
  setMac(bytes, at + ARP_TARGET_MAC, targetHigh, targetLow);
  setU32(bytes, at + ARP_TARGET_IP, targetIp);
  return at + ARP_LENGTH;
}
