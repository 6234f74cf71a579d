// SVR metadata between an L4 header and the payload (protocol sheet 3.1, 3.2): the one parser and the one writer.
//
//   | cookie 8 | version 4 bits, header length 12 bits | payload length 2 | header attributes | payload attributes |
//   ^ at                                                                  ^ at + 12           ^ at + header length
//
// Both work on the caller's bytes without garbage. Attribute values are found at absolute offsets in those bytes, valid
// as long as the bytes are; read them with base/bytes.ts. What an attribute means is told in metadata-attributes.ts.

import { getI32, getU16, setU16, setU32 } from "../base/bytes.ts";
import { invariant } from "../base/invariant.ts";
import { COOKIE_HIGH, COOKIE_LOW, startsWithCookie } from "./flow-key.ts";
import {
  ATTRIBUTE_FORWARD_CONTEXT_IPV4,
  ATTRIBUTE_HEALTH_CHECK,
  ATTRIBUTE_REVERSE_CONTEXT_IPV6,
  ATTRIBUTES,
  METADATA_BASE_LENGTH,
  type PathMetrics,
  type Section,
} from "./metadata-attributes.ts";
import { DROP_METADATA_MALFORMED, OK } from "./verdict.ts";

const VERSION = 1;

/** Types that the parser remembers, each in a slot: 0..63, and ours, 0x8000..0x800f and 0x8100..0x810f. All others are skipped. */
const SLOTS = 96;

/** The slot of a type; -1 = not remembered. */
function slotOf(type: number): number {
  if (type < 64) return type;
  // Bit 8 tells the two rows of ours apart.
  return (type & 0xfef0) === 0x8000 ? 64 + ((type >>> 4) & 16) + (type & 15) : -1;
}

/** Type 46 is a health check; a security key, of the same number, is kept under type 0, which no attribute has. */
export const PARSED_SECURITY_KEY = 0;

/** Per type: allowed value lengths, from the table. A type that the table does not have allows none. */
const lengthMin = new Int32Array(SLOTS).fill(-1);
const lengthMax = new Int32Array(SLOTS);
const sentInPayload = new Uint8Array(SLOTS);
for (const attribute of ATTRIBUTES) {
  const slot = slotOf(attribute.type);
  if (slot < 0) continue;
  if (lengthMin[slot] < 0) {
    lengthMin[slot] = attribute.lengthMin;
    sentInPayload[slot] = attribute.section === "payload" ? 1 : 0;
  }
  lengthMax[slot] = attribute.lengthMax;
}

/**
 * What parseMetadata found. Reusable: every parse overwrites it whole. Of a type that occurs twice the first occurrence
 * counts, so nothing appended behind can change what was said before.
 */
export class ParsedMetadata {
  headerLength = 0;
  payloadLength = 0;
  /** Where the original payload begins, counted from the cookie; of metadata that was decrypted, on the wire. */
  totalLength = 0;
  /** Where the cookie is, absolute. */
  start = 0;
  /** There are attributes of types that the table does not have: see copyUnknown. */
  hasUnknown = false;
  // A type is there when its mark is that of this parse: nothing to clear in between.
  #parse = 1;
  readonly #marks = new Float64Array(SLOTS);
  readonly #offsets = new Int32Array(SLOTS);
  readonly #lengths = new Int32Array(SLOTS);
  readonly #inPayload = new Uint8Array(SLOTS);

  /** Whether the attribute is there. `type` below 64, one of ours, or PARSED_SECURITY_KEY. */
  has(type: number): boolean {
    return this.#marks[slotOf(type)] === this.#parse;
  }

  /** Absolute offset of the value; -1 when the attribute is not there. */
  offsetOf(type: number): number {
    return this.has(type) ? this.#offsets[slotOf(type)] : -1;
  }

  /** Length of the value; -1 when the attribute is not there. */
  lengthOf(type: number): number {
    return this.has(type) ? this.#lengths[slotOf(type)] : -1;
  }

  /** Whether the attribute came in the payload section. Only after has(type). */
  isInPayload(type: number): boolean {
    return this.#inPayload[slotOf(type)] === 1;
  }

  /** For parseMetadata. */
  reset(start: number, headerLength: number, payloadLength: number): void {
    this.#parse++;
    this.start = start;
    this.hasUnknown = false;
    this.headerLength = headerLength;
    this.payloadLength = payloadLength;
    this.totalLength = headerLength + payloadLength;
  }

  /** For parseMetadata. */
  add(type: number, offset: number, length: number, inPayload: number): void {
    if (this.has(type)) return;
    const slot = slotOf(type);
    this.#marks[slot] = this.#parse;
    this.#offsets[slot] = offset;
    this.#lengths[slot] = length;
    this.#inPayload[slot] = inPayload;
  }
}

/**
 * Parse the metadata at bytes[at..end), where `end` is the end of the L4 payload it begins. Returns OK with `out`
 * filled, or DROP_METADATA_MALFORMED with `out` undefined: no cookie, another version, a length that leads outside, an
 * attribute that overruns its section or has a length its type does not allow, or more than one context. Unknown
 * types are skipped, known ones are accepted in either section. `headerOnly`: the payload attributes are encrypted.
 */
export function parseMetadata(
  bytes: Uint8Array,
  at: number,
  end: number,
  out: ParsedMetadata,
  headerOnly = false,
): number {
  if (end - at < METADATA_BASE_LENGTH) return DROP_METADATA_MALFORMED;
  if (!startsWithCookie(bytes, at, end)) return DROP_METADATA_MALFORMED;
  const versionAndLength = getU16(bytes, at + 8);
  const headerLength = versionAndLength & 0xfff;
  const payloadLength = getU16(bytes, at + 10);
  if (versionAndLength >>> 12 !== VERSION || headerLength < METADATA_BASE_LENGTH) return DROP_METADATA_MALFORMED;
  if (headerLength + payloadLength > end - at) return DROP_METADATA_MALFORMED;
  out.reset(at, headerLength, payloadLength);
  const headerEnd = at + headerLength;
  if (!parseSection(bytes, at + METADATA_BASE_LENGTH, headerEnd, 0, out)) return DROP_METADATA_MALFORMED;
  if (headerOnly) return OK;
  return parseSection(bytes, headerEnd, headerEnd + payloadLength, 1, out) ? OK : DROP_METADATA_MALFORMED;
}

function parseSection(bytes: Uint8Array, at: number, end: number, inPayload: number, out: ParsedMetadata): boolean {
  while (at < end) {
    if (end - at < 4) return false;
    const type = getU16(bytes, at);
    const length = getU16(bytes, at + 2);
    const value = at + 4;
    at = value + length;
    if (at > end) return false;
    const slot = slotOf(type);
    if (slot < 0 || lengthMin[slot] < 0) {
      out.hasUnknown = true;
      continue;
    }
    if (length < lengthMin[slot] || length > lengthMax[slot]) return false;
    if (type === ATTRIBUTE_HEALTH_CHECK && length > 1) {
      if (inPayload === 0) return false; // a key in clear
      out.add(PARSED_SECURITY_KEY, value, length, inPayload);
      continue;
    }
    if (isContext(type) && hasContext(out)) return false;
    out.add(type, value, length, inPayload);
  }
  return true;
}

/**
 * Copy the attributes of a section that the table does not have, as they are, to the start of `out`. `bytes` are those that
 * `parsed` was parsed from, both sections. Returns their length, -1 where `out` is too short.
 */
export function copyUnknown(bytes: Uint8Array, parsed: ParsedMetadata, section: Section, out: Uint8Array): number {
  const headerEnd = parsed.start + parsed.headerLength;
  const isHeader = section === "header";
  const end = isHeader ? headerEnd : headerEnd + parsed.payloadLength;
  let length = 0;
  for (let at = isHeader ? parsed.start + METADATA_BASE_LENGTH : headerEnd; at < end; ) {
    const next = at + 4 + getU16(bytes, at + 2);
    const slot = slotOf(getU16(bytes, at));
    if (slot < 0 || lengthMin[slot] < 0) {
      if (length + next - at > out.length) return -1;
      out.set(bytes.subarray(at, next), length);
      length += next - at;
    }
    at = next;
  }
  return length;
}

function isContext(type: number): boolean {
  return type >= ATTRIBUTE_FORWARD_CONTEXT_IPV4 && type <= ATTRIBUTE_REVERSE_CONTEXT_IPV6;
}

function hasContext(parsed: ParsedMetadata): boolean {
  for (let type = ATTRIBUTE_FORWARD_CONTEXT_IPV4; type <= ATTRIBUTE_REVERSE_CONTEXT_IPV6; type++) {
    if (parsed.has(type)) return true;
  }
  return false;
}

/** Whether it is no metadata at all but the marker in front of a payload that looks like some (protocol sheet 3.7). */
export function isFalsePositiveMarker(parsed: ParsedMetadata): boolean {
  return parsed.totalLength === METADATA_BASE_LENGTH;
}

/** Write the false-positive marker at `at` and return its length, METADATA_BASE_LENGTH. */
export function writeFalsePositiveMarker(bytes: Uint8Array, at: number): number {
  setU32(bytes, at, COOKIE_HIGH);
  setU32(bytes, at + 4, COOKIE_LOW);
  setU16(bytes, at + 8, (VERSION << 12) | METADATA_BASE_LENGTH);
  setU16(bytes, at + 10, 0);
  return METADATA_BASE_LENGTH;
}

/** Read the value of attribute 26 at `at` into `out`. */
export function readPathMetrics(bytes: Uint8Array, at: number, out: PathMetrics): void {
  out.txColor = bytes[at] >>> 4;
  out.txTimeMs = getI32(bytes, at) & 0x0fffffff;
  out.rxColor = bytes[at + 4] >>> 4;
  out.rxTimeMs = getI32(bytes, at + 4) & 0x0fffffff;
  out.drop = (bytes[at + 8] & 0x80) !== 0;
  out.previousRxCount = getU16(bytes, at + 8) & 0x7fff;
}

/**
 * Writes metadata to the start of one buffer, again and again: begin(), header attributes, payload attributes, end().
 * Which section an attribute goes to is told by the table. Names are short by configuration, so running out of
 * buffer is a programmer's error, as is a header attribute after a payload attribute.
 */
/** What knows the four words of an IPv6 address by its name. */
interface AddressWords {
  word(name: number, n: number): number;
}

export class MetadataWriter {
  readonly buffer: Uint8Array;
  #at = 0;
  /** Length of the header section; 0 until the first payload attribute. */
  #headerLength = 0;

  constructor(buffer: Uint8Array) {
    this.buffer = buffer;
  }

  begin(): void {
    this.#at = writeFalsePositiveMarker(this.buffer, 0);
    this.#headerLength = 0;
  }

  /** Write the lengths. Returns the metadata's total length; it is buffer[0..total). */
  end(): number {
    const total = this.#at;
    const headerLength = this.#headerLength || total;
    invariant(headerLength <= 0xfff && total - headerLength <= 0xffff, "metadata section is too long");
    setU16(this.buffer, 8, (VERSION << 12) | headerLength);
    setU16(this.buffer, 10, total - headerLength);
    return total;
  }

  /** Where the payload section begins; the same as the length when there is none. After end(). */
  get payloadStart(): number {
    return this.#headerLength || this.#at;
  }

  /** After end(): the payload section was encrypted in place and ends at `end` now. Returns that. */
  resealed(end: number): number {
    setU16(this.buffer, 10, end - this.payloadStart);
    return end;
  }

  flag(type: number): void {
    this.#attribute(type, 0);
  }

  u8(type: number, value: number): void {
    this.buffer[this.#attribute(type, 1)] = value;
  }

  u16(type: number, value: number): void {
    setU16(this.buffer, this.#attribute(type, 2), value);
  }

  u32(type: number, value: number): void {
    setU32(this.buffer, this.#attribute(type, 4), value);
  }

  /** A whole number up to 2^53. */
  u64(type: number, value: number): void {
    const at = this.#attribute(type, 8);
    setU32(this.buffer, at, Math.floor(value / 0x1_0000_0000));
    setU32(this.buffer, at + 4, value % 0x1_0000_0000);
  }

  node(type: number, nodeId: number, bootId: bigint): void {
    const at = this.#attribute(type, 12);
    setU32(this.buffer, at, nodeId);
    setU32(this.buffer, at + 4, Number(bootId >> 32n));
    setU32(this.buffer, at + 8, Number(bootId & 0xffffffffn));
  }

  /** A packet of the firewall detector, or the answer to one. */
  firewallPlace(type: number, burst: number, place: number, heard: number): void {
    const at = this.#attribute(type, 8);
    setU32(this.buffer, at, burst);
    setU16(this.buffer, at + 4, place);
    setU16(this.buffer, at + 6, heard);
  }

  endpointIpv4(type: number, address: number, port: number): void {
    const at = this.#attribute(type, 7);
    this.buffer[at] = 4;
    setU32(this.buffer, at + 1, address);
    setU16(this.buffer, at + 5, port);
  }

  /** Attribute 26 (protocol sheet 6.4). */
  pathMetrics(type: number, value: PathMetrics): void {
    const at = this.#attribute(type, 10);
    setU32(this.buffer, at, (value.txColor << 28) | value.txTimeMs);
    setU32(this.buffer, at + 4, (value.rxColor << 28) | value.rxTimeMs);
    setU16(this.buffer, at + 8, (value.drop ? 0x8000 : 0) | value.previousRxCount);
  }

  /** The `length` bytes of `source` from `at`. */
  bytes(type: number, source: Uint8Array, at: number, length: number): void {
    const to = this.#attribute(type, length);
    for (let i = 0; i < length; i++) this.buffer[to + i] = source[at + i];
  }

  /** A name, already in UTF-8. */
  text(type: number, name: Uint8Array): void {
    this.buffer.set(name, this.#attribute(type, name.length));
  }

  /** `ports` is sourcePort << 16 | destinationPort, as in a flow key. */
  contextIpv4(type: number, source: number, destination: number, ports: number, protocol: number): void {
    const at = this.#attribute(type, 13);
    setU32(this.buffer, at, source);
    setU32(this.buffer, at + 4, destination);
    setU32(this.buffer, at + 8, ports);
    this.buffer[at + 12] = protocol;
  }

  /** The same with 16-byte addresses, each four words of an address book. */
  contextIpv6(
    type: number,
    book: AddressWords,
    source: number,
    destination: number,
    ports: number,
    protocol: number,
  ): void {
    const at = this.#attribute(type, 37);
    this.#ipv6(at, book, source);
    this.#ipv6(at + 16, book, destination);
    setU32(this.buffer, at + 32, ports);
    this.buffer[at + 36] = protocol;
  }

  ipv6(type: number, book: AddressWords, name: number): void {
    this.#ipv6(this.#attribute(type, 16), book, name);
  }

  #ipv6(at: number, book: AddressWords, name: number): void {
    for (let n = 0; n < 4; n++) setU32(this.buffer, at + 4 * n, book.word(name, n));
  }

  /** Four words of a session table's column from `at`. */
  uuid(type: number, words: Int32Array, at: number): void {
    const to = this.#attribute(type, 16);
    for (let i = 0; i < 4; i++) setU32(this.buffer, to + 4 * i, words[at + i]);
  }

  /** `flagsAndOffset` as on the wire: DF 0x4000, MF 0x2000, offset in units of 8 bytes. */
  fragment(type: number, extendedId: number, originalId: number, flagsAndOffset: number, largestSeen: number): void {
    const at = this.#attribute(type, 10);
    setU32(this.buffer, at, extendedId);
    setU16(this.buffer, at + 4, originalId);
    setU16(this.buffer, at + 6, flagsAndOffset);
    setU16(this.buffer, at + 8, largestSeen);
  }

  /** Whole attributes of a section, as copyUnknown has them. Header ones before any of the payload's. */
  copy(section: Section, attributes: Uint8Array): void {
    const at = this.#at;
    invariant(at > 0 && at + attributes.length <= this.buffer.length, "metadata writer: buffer too small");
    if (section === "header") invariant(this.#headerLength === 0, "metadata writer: header attributes come first");
    else if (this.#headerLength === 0) this.#headerLength = at;
    this.buffer.set(attributes, at);
    this.#at = at + attributes.length;
  }

  /** Start an attribute and return where its value goes. */
  #attribute(type: number, length: number): number {
    const at = this.#at;
    const next = at + 4 + length;
    invariant(next <= this.buffer.length && at > 0, "metadata writer: buffer too small, or begin() missing");
    const slot = slotOf(type);
    if (slot < 0 || sentInPayload[slot] === 1 || (type === ATTRIBUTE_HEALTH_CHECK && length > 1)) {
      if (this.#headerLength === 0) this.#headerLength = at;
    } else {
      invariant(this.#headerLength === 0, "metadata writer: header attribute after a payload attribute");
    }
    setU16(this.buffer, at, type);
    setU16(this.buffer, at + 2, length);
    this.#at = next;
    return at + 4;
  }
}
