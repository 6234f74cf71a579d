// Frames as hosts make them, and what tests ask of frames. Addresses are text here, because tests are read by people.

import { getI32, getU16, setU16, viewOf } from "../../lib/base/bytes.ts";
import { formatAddress, parseAddress } from "../../lib/control/address-text.ts";
import { FRAME_CHECKSUM_KNOWN } from "../../lib/io/port.ts";
import { Inbound } from "../../lib/ipv6/inbound.ts";
import { Outbound } from "../../lib/ipv6/outbound.ts";
import { addressBook } from "../../lib/table/address-book.ts";
import { ipv4HeaderChecksum, ipv4HeaderIsRight, l4IsRight } from "../../lib/wire/checksum.ts";
import { writeEthernet } from "../../lib/wire/ethernet.ts";
import {
  ANY_MAC,
  AT_END,
  AT_L3,
  AT_L4,
  AT_PAYLOAD,
  decodeFrame,
  ETHERTYPE_IPV4,
  KEY_ROW_WORDS,
  startsWithCookie,
} from "../../lib/wire/flow-key.ts";
import { writeIcmp } from "../../lib/wire/icmp.ts";
import { writeIpv4 } from "../../lib/wire/ipv4.ts";
import { ETHERTYPE_IPV6 } from "../../lib/wire/ipv6.ts";
import { ParsedMetadata, parseMetadata } from "../../lib/wire/metadata.ts";
import {
  ATTRIBUTE_SECURITY_KEY,
  ATTRIBUTES,
  type AttributeValue,
  describeMetadata,
} from "../../lib/wire/metadata-attributes.ts";
import { completeChecksum } from "../../lib/wire/offload.ts";
import { TCP_HEADER, TCP_HEADER_LENGTH, writeTcp } from "../../lib/wire/tcp.ts";
import { writeUdp } from "../../lib/wire/udp.ts";
import { OK, PUNT_ICMP_ERROR } from "../../lib/wire/verdict.ts";

export interface Ends {
  source: string;
  destination: string;
  sourcePort: number;
  destinationPort: number;
}

export const swapEnds = (ends: Ends): Ends => ({
  source: ends.destination,
  destination: ends.source,
  sourcePort: ends.destinationPort,
  destinationPort: ends.sourcePort,
});

/** A frame with room for `payload`; MAC addresses are left to the sending host. */
function packet(
  ends: Ends,
  protocol: number,
  headerLength: number,
  payload: Uint8Array,
  ttl: number,
  write: (frame: Uint8Array, l4: number) => void,
): Uint8Array {
  const frame = new Uint8Array(14 + 20 + headerLength + payload.length);
  writeEthernet(frame, 0, 0, 0, 0, 0, ETHERTYPE_IPV4);
  const l4 = writeIpv4(
    frame,
    14,
    0,
    frame.length - 14,
    7,
    0x4000,
    ttl,
    protocol,
    parseAddress(ends.source),
    parseAddress(ends.destination),
  );
  frame.set(payload, l4 + headerLength);
  write(frame, l4);
  return frame;
}

export function udpFrame(ends: Ends, payload: Uint8Array | string, ttl = 64): Uint8Array {
  const bytes = toBytes(payload);
  const frame = packet(ends, 17, 8, bytes, ttl, (to, l4) =>
    writeUdp(to, l4, ends.sourcePort, ends.destinationPort, 8 + bytes.length),
  );
  completeChecksum(frame, 0);
  return frame;
}

export interface TcpNumbers {
  flags: number;
  sequence: number;
  acknowledgment: number;
  /** An option of a SYN. */
  mss?: number;
}

export function tcpFrame(ends: Ends, numbers: TcpNumbers, payload: Uint8Array | string = "", ttl = 64): Uint8Array {
  const { flags, sequence, acknowledgment, mss } = numbers;
  const frame = packet(ends, 6, mss === undefined ? 20 : 24, toBytes(payload), ttl, (to, l4) => {
    writeTcp(to, l4, ends.sourcePort, ends.destinationPort, sequence, acknowledgment, flags, 64240);
    if (mss === undefined) return;
    to[l4 + TCP_HEADER_LENGTH] = 24 << 2;
    to.set([2, 4, mss >>> 8, mss & 255], l4 + TCP_HEADER);
  });
  completeChecksum(frame, 0);
  return frame;
}

export function echoFrame(
  source: string,
  destination: string,
  identifier: number,
  sequence: number,
  payload: Uint8Array | string,
  reply = false,
  ttl = 64,
): Uint8Array {
  const ends = { source, destination, sourcePort: 0, destinationPort: 0 };
  return packet(ends, 1, 8, toBytes(payload), ttl, (to, l4) =>
    writeIcmp(to, l4, reply ? 0 : 8, 0, (identifier << 16) | sequence, to.length),
  );
}

/** A packet of a protocol without ports. */
export function protocolFrame(source: string, destination: string, protocol: number, payload: Uint8Array): Uint8Array {
  const ends = { source, destination, sourcePort: 0, destinationPort: 0 };
  return packet(ends, protocol, 0, payload, 64, () => {});
}

/** An ICMP error of the station `source` about the packet of frame `about`, to whoever sent that; it quotes `behind` bytes behind the header. */
export function icmpError(
  source: string,
  type: number,
  code: number,
  about: Uint8Array,
  mtu = 0,
  behind = 8,
): Uint8Array {
  const headerLength = (about[14] & 15) << 2;
  const quote = about.slice(14, 14 + headerLength + behind);
  const destination = formatAddress(getI32(about, 14 + 12));
  const ends = { source, destination, sourcePort: 0, destinationPort: 0 };
  return packet(ends, 1, 8, quote, 64, (to, l4) => writeIcmp(to, l4, type, code, mtu, to.length));
}

/** Change the IPv4 header by `change`, which is given where it begins, and make its checksum right again. */
export function withHeader(frame: Uint8Array, change: (frame: Uint8Array, l3: number) => void): Uint8Array {
  change(frame, 14);
  setU16(frame, 24, 0);
  setU16(frame, 24, ipv4HeaderChecksum(frame, 14));
  return frame;
}

/** The 8 bytes that metadata begins with. */
export const COOKIE = Uint8Array.of(0x4c, 0x48, 0xdb, 0xc6, 0xdd, 0xf6, 0x67, 0x0c);

/** Metadata with these attributes, given by type, in their sections. */
export function metadataOf(...attributes: [type: number, value: AttributeValue][]): Uint8Array {
  const sections = { header: [] as number[], payload: [] as number[] };
  for (const [type, value] of attributes) {
    // Of number 46 bytes are a key, a number is a health check.
    const isKey = type === ATTRIBUTE_SECURITY_KEY && value instanceof Uint8Array;
    const attribute = ATTRIBUTES.find((row) => row.type === type && (!isKey || row.section === "payload"))!;
    const bytes = attribute.encode(value);
    sections[attribute.section].push(type >>> 8, type & 255, bytes.length >>> 8, bytes.length & 255, ...bytes);
  }
  const headerLength = 12 + sections.header.length;
  const payloadLength = sections.payload.length;
  return Uint8Array.of(
    ...COOKIE,
    0x10 | (headerLength >>> 8),
    headerLength & 255,
    payloadLength >>> 8,
    payloadLength & 255,
    ...sections.header,
    ...sections.payload,
  );
}

export function concat(...parts: (Uint8Array | string)[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts.map(toBytes)));
}

/** A payload of `length` bytes, every one different from its neighbors. */
export function pattern(length: number, from = 0): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (from + i * 7 + (i >>> 8)) & 255);
}

function toBytes(payload: Uint8Array | string): Uint8Array {
  return typeof payload === "string" ? new TextEncoder().encode(payload) : payload;
}

/** What a frame on a wire is. Undefined for anything that is no IPv4 packet of ours (ARP). */
export interface SeenPacket extends Ends {
  protocol: number;
  ttl: number;
  ipLength: number;
  /** IPv4 and L4 checksum both right. */
  checksumsRight: boolean;
  ipChecksumRight: boolean;
  l4ChecksumRight: boolean;
  tcpFlags: number;
  sequence: number;
  acknowledgment: number;
  icmpType: number;
  /** L4 payload; for ICMP what is behind the 8-byte header. Metadata included. */
  payload: Uint8Array;
  /** The payload without metadata. */
  data: Uint8Array;
  text: string;
  hasMetadata: boolean;
  /** Attribute name → value, when there is metadata. */
  metadata: Map<string, unknown>;
  frame: Uint8Array;
}

const row = new Int32Array(KEY_ROW_WORDS);
const parsed = new ParsedMetadata();

const inbound = new Inbound(addressBook);
const outbound = new Outbound(addressBook);

/** A frame as hosts here make and read it, IPv4 in form; undefined where there is none. What is not IPv6 is as it is. */
export function fromIpv6(wire: Uint8Array): Uint8Array | undefined {
  if (wire.length < 14 || getU16(wire, 12) !== ETHERTYPE_IPV6) return wire;
  const copy = wire.slice();
  if (inbound.translate(copy, 0, copy.length, FRAME_CHECKSUM_KNOWN, 0) !== OK) return undefined;
  return copy.slice(inbound.offset, inbound.offset + inbound.length);
}

/** The same frame as it is on an IPv6 wire. */
export function toIpv6(frame: Uint8Array): Uint8Array {
  const wire = new Uint8Array(frame.length + 64);
  return wire.slice(0, outbound.translate(frame, 0, frame.length, 0, 0, wire, 0));
}

export function seePacket(wire: Uint8Array): SeenPacket | undefined {
  const frame = fromIpv6(wire);
  if (frame === undefined) return undefined;
  const verdict = decodeFrame(viewOf(frame), 0, frame.length, 0, ANY_MAC, 0, row, 0, true);
  if (verdict !== OK && verdict !== PUNT_ICMP_ERROR) return undefined;
  const [l3, l4, at, end] = [row[AT_L3], row[AT_L4], row[AT_PAYLOAD], row[AT_END]];
  const protocol = frame[l3 + 9];
  const hasPorts = protocol === 6 || protocol === 17;
  const hasMetadata = startsWithCookie(frame, at, end);
  const metadataLength = hasMetadata && parseMetadata(frame, at, end, parsed) === 0 ? parsed.totalLength : 0;
  const data = frame.slice(protocol === 1 ? l4 + 8 : at + metadataLength, end);
  const ipChecksumRight = ipv4HeaderIsRight(frame, l3);
  const l4ChecksumRight = l4IsRight(frame, l3, l4, end);
  return {
    protocol,
    source: formatAddress(getI32(frame, l3 + 12)),
    destination: formatAddress(getI32(frame, l3 + 16)),
    sourcePort: hasPorts ? getU16(frame, l4) : 0,
    destinationPort: hasPorts ? getU16(frame, l4 + 2) : 0,
    ttl: frame[l3 + 8],
    ipLength: end - l3,
    checksumsRight: ipChecksumRight && l4ChecksumRight,
    ipChecksumRight,
    l4ChecksumRight,
    tcpFlags: protocol === 6 ? frame[l4 + 13] : 0,
    sequence: protocol === 6 ? getI32(frame, l4 + 4) : 0,
    acknowledgment: protocol === 6 ? getI32(frame, l4 + 8) : 0,
    icmpType: protocol === 1 ? frame[l4] : -1,
    payload: frame.slice(protocol === 1 ? l4 + 8 : at, end),
    data,
    text: new TextDecoder().decode(data),
    hasMetadata,
    metadata: new Map(hasMetadata ? describeMetadata(frame, at, end).map(({ name, value }) => [name, value]) : []),
    frame,
  };
}
