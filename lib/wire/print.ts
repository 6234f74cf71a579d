// A frame as one line of text, in the manner of tcpdump: explain, operators, test failures. Never on the packet path.
//
//   udp 198.51.100.10:16384 > 203.0.113.20:16385 length 124 ttl 63 metadata {security-id 1; tenant "eng"; ...} payload 20
//
// What is wrong with a frame is said where it is seen: the verdict's name, "bad ip checksum", "partial udp checksum".

import { getU16, viewOf } from "../base/bytes.ts";
import {
  ARP_LENGTH,
  ARP_REPLY,
  ARP_SENDER_MAC,
  checkArp,
  getArpOperation,
  getArpSenderIp,
  getArpTargetIp,
} from "./arp.ts";
import { ipv4HeaderIsRight, l4IsRight } from "./checksum.ts";
import {
  ANY_MAC,
  AT_END,
  AT_L3,
  AT_L4,
  AT_PAYLOAD,
  decodeFrame,
  ETHERNET_HEADER,
  KEY_DESTINATION,
  KEY_PROTOCOL,
  KEY_ROW_WORDS,
  KEY_SOURCE,
  PROTOCOL_ICMP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TRAIT_COOKIE,
  TRAITS,
} from "./flow-key.ts";
import { getIcmpCode, getIcmpIdentifier, getIcmpType, ICMP_ECHO, ICMP_ECHO_REPLY, ICMP_HEADER } from "./icmp.ts";
import { getDestination, getProtocol, getSource, getTtl, IPV4_HEADER } from "./ipv4.ts";
import { isFalsePositiveMarker, ParsedMetadata, parseMetadata } from "./metadata.ts";
import { ATTRIBUTE_SECURITY_KEY, type AttributeValue, describeMetadata } from "./metadata-attributes.ts";
import { isChecksumPartial } from "./offload.ts";
import { findMss, getTcpAcknowledgment, getTcpFlags, getTcpSequence, TCP_WINDOW } from "./tcp.ts";
import { OK, PUNT_ARP, PUNT_FRAGMENT, PUNT_ICMP_ERROR, verdictName } from "./verdict.ts";

/** An address as text. */
type AddressPrinter = (address: number) => string;

/**
 * The frame of `length` bytes at bytes[offset]. Never throws, whatever the bytes. `print` is for a router's own frames, where
 * addresses may be names of IPv6 addresses.
 */
export function printFrame(bytes: Uint8Array, offset: number, length: number, print?: AddressPrinter): string {
  const row = new Int32Array(KEY_ROW_WORDS);
  const verdict = decodeFrame(viewOf(bytes), offset, length, 0, ANY_MAC, 0, row, 0, print !== undefined);
  const address = print ?? printIpv4;
  if (verdict === PUNT_ARP) return printArp(bytes, offset + ETHERNET_HEADER, length - ETHERNET_HEADER, address);
  if (verdict === PUNT_FRAGMENT) return printFragment(bytes, row, address);
  if (verdict !== OK && verdict !== PUNT_ICMP_ERROR) return `${verdictName(verdict)} length ${length}`;
  return printPacket(bytes, row, address);
}

/** An int32 as a dotted quad. */
export function printIpv4(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

function printMac(bytes: Uint8Array, at: number): string {
  return Array.from(bytes.subarray(at, at + 6), (byte) => byte.toString(16).padStart(2, "0")).join(":");
}

function printArp(bytes: Uint8Array, at: number, length: number, address: AddressPrinter): string {
  if (checkArp(bytes, at, length) !== OK) return `arp malformed length ${Math.min(length, ARP_LENGTH)}`;
  const sender = address(getArpSenderIp(bytes, at));
  const mac = printMac(bytes, at + ARP_SENDER_MAC);
  if (getArpOperation(bytes, at) === ARP_REPLY) return `arp reply ${sender} is at ${mac}`;
  return `arp request who has ${address(getArpTargetIp(bytes, at))} tell ${sender} at ${mac}`;
}

function printFragment(bytes: Uint8Array, row: Int32Array, address: AddressPrinter): string {
  const l3 = row[AT_L3];
  const word = getU16(bytes, l3 + 6);
  const ends = `${address(row[KEY_SOURCE])} > ${address(row[KEY_DESTINATION])}`;
  const more = (word & 0x2000) === 0 ? "" : "+";
  return `ip ${ends} protocol ${row[KEY_PROTOCOL] & 255} fragment ${getU16(bytes, l3 + 4)}:${row[AT_END] - row[AT_L4]}@${(word & 0x1fff) << 3}${more}`;
}

function printPacket(bytes: Uint8Array, row: Int32Array, address: AddressPrinter): string {
  const l3 = row[AT_L3];
  const l4 = row[AT_L4];
  const payload = row[AT_PAYLOAD];
  const end = row[AT_END];
  const protocol = row[KEY_PROTOCOL] & 255;
  const name = protocolName(protocol);
  const hasPorts = protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP;
  const parts = [
    `${name} ${endpoint(bytes, address(row[KEY_SOURCE]), hasPorts, l4)} > ${endpoint(bytes, address(row[KEY_DESTINATION]), hasPorts, l4 + 2)}`,
  ];
  if (protocol === PROTOCOL_TCP) parts.push(printTcp(bytes, l4));
  if (protocol === PROTOCOL_ICMP) parts.push(printIcmp(bytes, l4, end));
  parts.push(`length ${end - l3} ttl ${getTtl(bytes, l3)}`);
  if (!ipv4HeaderIsRight(bytes, l3)) parts.push("bad ip checksum");
  if (!l4IsRight(bytes, l3, l4, end)) {
    parts.push(`${isChecksumPartial(bytes, l3, l4, end) ? "partial" : "bad"} ${name} checksum`);
  }
  const metadata = new ParsedMetadata();
  let rest = payload;
  if ((row[TRAITS] & TRAIT_COOKIE) !== 0) {
    const isRight = parseMetadata(bytes, payload, end, metadata) === OK;
    if (isRight && isFalsePositiveMarker(metadata)) parts.push("false-positive marker");
    else parts.push(printMetadata(bytes, payload, end, isRight));
    rest = isRight ? payload + metadata.totalLength : end;
  }
  if (hasPorts) parts.push(`payload ${end - rest}`);
  return parts.join(" ");
}

function endpoint(bytes: Uint8Array, address: string, hasPort: boolean, at: number): string {
  if (!hasPort) return address;
  return `${address.includes(":") ? `[${address}]` : address}:${getU16(bytes, at)}`;
}

function protocolName(protocol: number): string {
  if (protocol === PROTOCOL_TCP) return "tcp";
  if (protocol === PROTOCOL_UDP) return "udp";
  if (protocol === PROTOCOL_ICMP) return "icmp";
  return `protocol-${protocol}`;
}

/** Flag letters as tcpdump writes them, from FIN up. */
const FLAG_LETTERS = "FSRP.UEW";

function printTcp(bytes: Uint8Array, l4: number): string {
  const flags = getTcpFlags(bytes, l4);
  const letters = [...FLAG_LETTERS].filter((_, bit) => (flags & (1 << bit)) !== 0).join("");
  const sequence = getTcpSequence(bytes, l4) >>> 0;
  const acknowledgment = getTcpAcknowledgment(bytes, l4) >>> 0;
  const mss = findMss(bytes, l4);
  const text = `[${letters || "none"}] seq ${sequence} ack ${acknowledgment} win ${getU16(bytes, l4 + TCP_WINDOW)}`;
  return mss === 0 ? text : `${text} mss ${mss}`;
}

function printIcmp(bytes: Uint8Array, l4: number, end: number): string {
  const type = getIcmpType(bytes, l4);
  if (type === ICMP_ECHO || type === ICMP_ECHO_REPLY) {
    const sequence = getU16(bytes, l4 + 6);
    return `${type === ICMP_ECHO ? "echo" : "echo reply"} id ${getIcmpIdentifier(bytes, l4)} seq ${sequence}`;
  }
  const text = `type ${type} code ${getIcmpCode(bytes, l4)}`;
  const quoted = l4 + ICMP_HEADER;
  if (end - quoted < IPV4_HEADER) return text;
  return `${text} about ${protocolName(getProtocol(bytes, quoted))} ${printIpv4(getSource(bytes, quoted))} > ${printIpv4(getDestination(bytes, quoted))}`;
}

function printMetadata(bytes: Uint8Array, at: number, end: number, isRight: boolean): string {
  const attributes = describeMetadata(bytes, at, end).map(({ type, name, value }) => {
    if (value === true) return name;
    // A key is printed nowhere.
    if (type === ATTRIBUTE_SECURITY_KEY && value instanceof Uint8Array) return `${name} <key>`;
    return `${name === "unknown" ? `type ${type}` : name} ${printValue(value)}`;
  });
  return `${isRight ? "metadata" : "malformed metadata"} {${attributes.join("; ")}}`;
}

/** An attribute's value as text. */
export function printValue(value: AttributeValue): string {
  if (value instanceof Uint8Array) return `0x${Buffer.from(value).toString("hex")}`;
  if (typeof value === "bigint") return String(value);
  if (typeof value === "object" && "sourcePort" in value) {
    const { source, sourcePort, destination, destinationPort, protocol } = value;
    const [from, to] = source.includes(":") ? [`[${source}]`, `[${destination}]`] : [source, destination];
    return `${protocolName(protocol)} ${from}:${sourcePort} > ${to}:${destinationPort}`;
  }
  return JSON.stringify(value);
}
