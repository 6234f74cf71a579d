// BFD control packets (RFC 5880, 4.1) and the metadata of ours behind them (protocol sheet 6.2). Between peers they
// run in UDP on port 1280; RFC 5881 (3784, one hop) and RFC 5883 (4784) have the packet alone.
//
//   | version 3 bits, diagnostic 5 | state 2, P F C A D M | detect mult 1 | length 1 |
//   | my discriminator 4 | your discriminator 4 |
//   | desired min tx interval 4 | required min rx interval 4 | required min echo rx interval 4 |     microseconds
//   | metadata: router name, node, addresses, sequence numbers | digest |
//   ^ at + length (24: no authentication section)
//
// Received: checkBfd, the signature and cipher of whatever came (engine/), then readBfdPacket and readBfdMetadata, or
// readBfd for the three in one where nothing is encrypted. Which packet is for which session: peer/bfd-session.ts.

import { getI32, getU16, getU32, setU32 } from "../base/bytes.ts";
import { startsWithCookie } from "./flow-key.ts";
import { type MetadataWriter, type ParsedMetadata, parseMetadata } from "./metadata.ts";
import {
  ATTRIBUTE_ECHO_TIME,
  ATTRIBUTE_FIREWALL_ANSWER,
  ATTRIBUTE_FIREWALL_TEST,
  ATTRIBUTE_NODE,
  ATTRIBUTE_OBSERVED_ADDRESS,
  ATTRIBUTE_OWN_ADDRESS,
  ATTRIBUTE_PROBE,
  ATTRIBUTE_PROBE_ANSWER,
  ATTRIBUTE_PROBE_SIZE,
  ATTRIBUTE_ROUTER_NAME,
  ATTRIBUTE_RX_COUNT,
  ATTRIBUTE_RX_SEQUENCE,
  ATTRIBUTE_TX_SEQUENCE,
} from "./metadata-attributes.ts";
import {
  DROP_BFD_AUTHENTICATION,
  DROP_BFD_DISCRIMINATOR,
  DROP_BFD_LENGTH,
  DROP_BFD_METADATA,
  DROP_BFD_METADATA_UNEXPECTED,
  DROP_BFD_MULTIPLIER,
  DROP_BFD_MULTIPOINT,
  DROP_BFD_TTL,
  DROP_BFD_VERSION,
  OK,
} from "./verdict.ts";

/** Control packets and echoes between peers. */
export const BFD_PORT_PEER = 1280;
/** RFC 5881. */
export const BFD_PORT_SINGLE_HOP = 3784;
/** RFC 5883. */
export const BFD_PORT_MULTIHOP = 4784;
/** The lowest source port a plain session may send from; it keeps to one (RFC 5881, 4). */
export const BFD_SOURCE_PORT_MIN = 49152;
/** What a single-hop packet is sent with and has to arrive with (RFC 5881, 5). */
export const BFD_TTL = 255;

export const BFD_HEADER = 24;
export const BFD_LENGTH = 3;
export const BFD_MY_DISCRIMINATOR = 4;
export const BFD_YOUR_DISCRIMINATOR = 8;
export const BFD_DESIRED_MIN_TX = 12;
export const BFD_REQUIRED_MIN_RX = 16;
export const BFD_REQUIRED_MIN_ECHO_RX = 20;

export const BFD_ADMIN_DOWN = 0;
export const BFD_DOWN = 1;
export const BFD_INIT = 2;
export const BFD_UP = 3;

export const BFD_STATE_NAMES: readonly string[] = ["AdminDown", "Down", "Init", "Up"];

// The diagnostics we give; RFC 5880, 4.1 has more.
export const DIAGNOSTIC_NONE = 0;
export const DIAGNOSTIC_DETECTION_TIME = 1;
export const DIAGNOSTIC_NEIGHBOR_DOWN = 3;
export const DIAGNOSTIC_ADMIN_DOWN = 7;

export const BFD_DIAGNOSTIC_NAMES: readonly string[] = [
  "No Diagnostic",
  "Control Detection Time Expired",
  "Echo Function Failed",
  "Neighbor Signaled Session Down",
  "Forwarding Plane Reset",
  "Path Down",
  "Concatenated Path Down",
  "Administratively Down",
  "Reverse Concatenated Path Down",
];

// The six bits beside the state.
export const BFD_POLL = 0x20;
export const BFD_FINAL = 0x10;
export const BFD_CONTROL_PLANE_INDEPENDENT = 0x08;
export const BFD_AUTHENTICATION_PRESENT = 0x04;
export const BFD_DEMAND = 0x02;
export const BFD_MULTIPOINT = 0x01;

const VERSION = 1;

/**
 * Whether bytes[at..end), a UDP payload, begins with a control packet that RFC 5880, 6.8.6 lets through to a session:
 * OK or the reason. Behind OK the getters need no checks. An authentication section is refused: none is configured.
 */
export function checkBfd(bytes: Uint8Array, at: number, end: number): number {
  if (end - at < BFD_HEADER) return DROP_BFD_LENGTH;
  if (bytes[at] >>> 5 !== VERSION) return DROP_BFD_VERSION;
  const length = bytes[at + BFD_LENGTH];
  if (length < BFD_HEADER || length > end - at) return DROP_BFD_LENGTH;
  if (bytes[at + 2] === 0) return DROP_BFD_MULTIPLIER;
  const flags = getBfdFlags(bytes, at);
  if ((flags & BFD_MULTIPOINT) !== 0) return DROP_BFD_MULTIPOINT;
  if (getI32(bytes, at + BFD_MY_DISCRIMINATOR) === 0) return DROP_BFD_DISCRIMINATOR;
  if (getI32(bytes, at + BFD_YOUR_DISCRIMINATOR) === 0 && getBfdState(bytes, at) > BFD_DOWN) {
    return DROP_BFD_DISCRIMINATOR;
  }
  return (flags & BFD_AUTHENTICATION_PRESENT) === 0 ? OK : DROP_BFD_AUTHENTICATION;
}

/** OK when a plain single-hop packet may have been sent on this link: nobody can make a TTL of 255 from afar. */
export function checkBfdTtl(ttl: number): number {
  return ttl === BFD_TTL ? OK : DROP_BFD_TTL;
}

export function getBfdDiagnostic(bytes: Uint8Array, at: number): number {
  return bytes[at] & 0x1f;
}

export function getBfdState(bytes: Uint8Array, at: number): number {
  return bytes[at + 1] >>> 6;
}

/** BFD_POLL, BFD_FINAL and so on. */
export function getBfdFlags(bytes: Uint8Array, at: number): number {
  return bytes[at + 1] & 0x3f;
}

export function getBfdDetectMult(bytes: Uint8Array, at: number): number {
  return bytes[at + 2];
}

/** Where the metadata begins, counted from `at`. */
export function getBfdLength(bytes: Uint8Array, at: number): number {
  return bytes[at + BFD_LENGTH];
}

export function getMyDiscriminator(bytes: Uint8Array, at: number): number {
  return getU32(bytes, at + BFD_MY_DISCRIMINATOR);
}

export function getYourDiscriminator(bytes: Uint8Array, at: number): number {
  return getU32(bytes, at + BFD_YOUR_DISCRIMINATOR);
}

/** In place, for a packet that goes back with small changes. */
export function setBfdStateAndFlags(bytes: Uint8Array, at: number, state: number, flags: number): void {
  bytes[at + 1] = (state << 6) | flags;
}

const utf8 = new TextDecoder();
const toUtf8 = new TextEncoder();

/**
 * A control packet and its metadata as fields. Reusable: reading overwrites it whole, and a session fills it for
 * sending. Intervals in microseconds, as on the wire.
 */
export class BfdPacket {
  state = BFD_DOWN;
  diagnostic = DIAGNOSTIC_NONE;
  poll = false;
  final = false;
  controlPlaneIndependent = false;
  demand = false;
  detectMult = 0;
  myDiscriminator = 0;
  yourDiscriminator = 0;
  desiredMinTxUs = 0;
  requiredMinRxUs = 0;
  requiredMinEchoRxUs = 0;

  /** Whether what follows counts: not in plain RFC 5881 or 5883. */
  hasMetadata = false;
  routerName = "";
  nodeId = 0;
  bootId = 0n;
  txSequence = 0;
  /** -1 until the sender had a packet of ours. */
  rxSequence = -1;
  /** -1 = not said. */
  rxCount = -1;
  /** IPv4; port 0 = not said, also when the address is of IPv6. */
  ownAddress = 0;
  ownPort = 0;
  observedAddress = 0;
  observedPort = 0;
  /** When its sender sent an echo, by its own clock; -1 = no echo. An echo goes back as it came and is not for the session. */
  echoTimeUs = -1;
  /** Length that an MTU probe, or the answer to one, speaks of; 0 = neither. */
  probeSize = 0;
  /** The number of an MTU probe; -1 = it is none. Neither a probe nor an answer is for the session. */
  probe = -1;
  /** The number of the probe that this answers; -1 = none. */
  probeAnswer = -1;
  /** The place in its burst of a packet of the firewall detector's; -1 = it is none. Like a probe it is not for the session. */
  firewallTest = -1;
  /** The same of an answer to one. */
  firewallAnswer = -1;
  /** Of either. */
  firewallBurst = 0;
  /** Of an answer: the places over TCP that came of the burst. */
  firewallHeard = 0;

  clearMetadata(): void {
    this.hasMetadata = false;
    this.routerName = "";
    this.nodeId = 0;
    this.bootId = 0n;
    this.txSequence = 0;
    this.rxSequence = -1;
    this.rxCount = -1;
    this.ownAddress = 0;
    this.ownPort = 0;
    this.observedAddress = 0;
    this.observedPort = 0;
    this.echoTimeUs = -1;
    this.probeSize = 0;
    this.probe = -1;
    this.probeAnswer = -1;
    this.firewallTest = -1;
    this.firewallAnswer = -1;
    this.firewallBurst = 0;
    this.firewallHeard = 0;
  }
}

/** Read the control packet at `at` into `out`, without metadata. Call behind checkBfd. */
export function readBfdPacket(bytes: Uint8Array, at: number, out: BfdPacket): void {
  const flags = getBfdFlags(bytes, at);
  out.state = getBfdState(bytes, at);
  out.diagnostic = getBfdDiagnostic(bytes, at);
  out.poll = (flags & BFD_POLL) !== 0;
  out.final = (flags & BFD_FINAL) !== 0;
  out.controlPlaneIndependent = (flags & BFD_CONTROL_PLANE_INDEPENDENT) !== 0;
  out.demand = (flags & BFD_DEMAND) !== 0;
  out.detectMult = getBfdDetectMult(bytes, at);
  out.myDiscriminator = getMyDiscriminator(bytes, at);
  out.yourDiscriminator = getYourDiscriminator(bytes, at);
  out.desiredMinTxUs = getU32(bytes, at + BFD_DESIRED_MIN_TX);
  out.requiredMinRxUs = getU32(bytes, at + BFD_REQUIRED_MIN_RX);
  out.requiredMinEchoRxUs = getU32(bytes, at + BFD_REQUIRED_MIN_ECHO_RX);
  out.clearMetadata();
}

/**
 * Read the parsed metadata whose values lie in `bytes` (the frame, or where it was decrypted to) into `out`. OK, or
 * DROP_BFD_METADATA when something is missing that every packet between peers has. Call after readBfdPacket.
 */
export function readBfdMetadata(bytes: Uint8Array, parsed: ParsedMetadata, out: BfdPacket): number {
  if (!parsed.has(ATTRIBUTE_ROUTER_NAME) || !parsed.has(ATTRIBUTE_NODE) || !parsed.has(ATTRIBUTE_TX_SEQUENCE)) {
    return DROP_BFD_METADATA;
  }
  out.hasMetadata = true;
  const name = parsed.offsetOf(ATTRIBUTE_ROUTER_NAME);
  out.routerName = utf8.decode(bytes.subarray(name, name + parsed.lengthOf(ATTRIBUTE_ROUTER_NAME)));
  const node = parsed.offsetOf(ATTRIBUTE_NODE);
  out.nodeId = getU32(bytes, node);
  out.bootId = (BigInt(getU32(bytes, node + 4)) << 32n) | BigInt(getU32(bytes, node + 8));
  out.txSequence = getU32(bytes, parsed.offsetOf(ATTRIBUTE_TX_SEQUENCE));
  const sequence = parsed.offsetOf(ATTRIBUTE_RX_SEQUENCE);
  if (sequence >= 0) out.rxSequence = getU32(bytes, sequence);
  const count = parsed.offsetOf(ATTRIBUTE_RX_COUNT);
  if (count >= 0) out.rxCount = getU32(bytes, count);
  const own = parsed.offsetOf(ATTRIBUTE_OWN_ADDRESS);
  if (own >= 0 && isIpv4Endpoint(bytes, own, parsed.lengthOf(ATTRIBUTE_OWN_ADDRESS))) {
    out.ownAddress = getI32(bytes, own + 1);
    out.ownPort = getU16(bytes, own + 5);
  }
  const observed = parsed.offsetOf(ATTRIBUTE_OBSERVED_ADDRESS);
  if (observed >= 0 && isIpv4Endpoint(bytes, observed, parsed.lengthOf(ATTRIBUTE_OBSERVED_ADDRESS))) {
    out.observedAddress = getI32(bytes, observed + 1);
    out.observedPort = getU16(bytes, observed + 5);
  }
  const echo = parsed.offsetOf(ATTRIBUTE_ECHO_TIME);
  if (echo >= 0) out.echoTimeUs = getU32(bytes, echo) * 0x1_0000_0000 + getU32(bytes, echo + 4);
  const size = parsed.offsetOf(ATTRIBUTE_PROBE_SIZE);
  if (size >= 0) out.probeSize = getU16(bytes, size);
  const probe = parsed.offsetOf(ATTRIBUTE_PROBE);
  if (probe >= 0) out.probe = getU32(bytes, probe);
  const answer = parsed.offsetOf(ATTRIBUTE_PROBE_ANSWER);
  if (answer >= 0) out.probeAnswer = getU32(bytes, answer);
  const firewallTest = parsed.offsetOf(ATTRIBUTE_FIREWALL_TEST);
  const firewallAnswer = parsed.offsetOf(ATTRIBUTE_FIREWALL_ANSWER);
  const firewall = firewallTest >= 0 ? firewallTest : firewallAnswer;
  if (firewall < 0) return OK;
  out.firewallBurst = getU32(bytes, firewall);
  if (firewallTest >= 0) out.firewallTest = getU16(bytes, firewall + 4);
  else out.firewallAnswer = getU16(bytes, firewall + 4);
  out.firewallHeard = getU16(bytes, firewall + 6);
  return OK;
}

function isIpv4Endpoint(bytes: Uint8Array, at: number, length: number): boolean {
  return length === 7 && bytes[at] === 4;
}

/** OK when no metadata follows the control packet at `at`: plain RFC 5881 and 5883. Call behind checkBfd. */
export function checkBfdIsPlain(bytes: Uint8Array, at: number, end: number): number {
  return startsWithCookie(bytes, at + getBfdLength(bytes, at), end) ? DROP_BFD_METADATA_UNEXPECTED : OK;
}

/**
 * The whole UDP payload bytes[at..end) into `out`: OK or the reason. `parsed` is where metadata is parsed to; null
 * where none is allowed, in plain RFC 5881 and 5883. Bytes behind the metadata are an MTU probe's padding or nobody's.
 */
export function readBfd(
  bytes: Uint8Array,
  at: number,
  end: number,
  parsed: ParsedMetadata | null,
  out: BfdPacket,
): number {
  const verdict = checkBfd(bytes, at, end);
  if (verdict !== OK) return verdict;
  readBfdPacket(bytes, at, out);
  if (parsed === null) return checkBfdIsPlain(bytes, at, end);
  const metadata = at + getBfdLength(bytes, at);
  if (!startsWithCookie(bytes, metadata, end)) return DROP_BFD_METADATA;
  const parse = parseMetadata(bytes, metadata, end, parsed);
  return parse === OK ? readBfdMetadata(bytes, parsed, out) : parse;
}

/** Write the control packet at `at`. Returns the offset behind it, where the metadata goes. */
export function writeBfd(bytes: Uint8Array, at: number, packet: BfdPacket): number {
  bytes[at] = (VERSION << 5) | packet.diagnostic;
  setBfdStateAndFlags(
    bytes,
    at,
    packet.state,
    (packet.poll ? BFD_POLL : 0) |
      (packet.final ? BFD_FINAL : 0) |
      (packet.controlPlaneIndependent ? BFD_CONTROL_PLANE_INDEPENDENT : 0) |
      (packet.demand ? BFD_DEMAND : 0),
  );
  bytes[at + 2] = packet.detectMult;
  bytes[at + BFD_LENGTH] = BFD_HEADER;
  setU32(bytes, at + BFD_MY_DISCRIMINATOR, packet.myDiscriminator);
  setU32(bytes, at + BFD_YOUR_DISCRIMINATOR, packet.yourDiscriminator);
  setU32(bytes, at + BFD_DESIRED_MIN_TX, packet.desiredMinTxUs);
  setU32(bytes, at + BFD_REQUIRED_MIN_RX, packet.requiredMinRxUs);
  setU32(bytes, at + BFD_REQUIRED_MIN_ECHO_RX, packet.requiredMinEchoRxUs);
  return at + BFD_HEADER;
}

/**
 * Add the packet's attributes to metadata that the caller began: before this, header attributes of its own (the key
 * version), after it writer.end(). They are payload attributes, so a peer's cipher covers them.
 */
export function addBfdAttributes(writer: MetadataWriter, packet: BfdPacket): void {
  writer.text(ATTRIBUTE_ROUTER_NAME, toUtf8.encode(packet.routerName));
  writer.node(ATTRIBUTE_NODE, packet.nodeId, packet.bootId);
  if (packet.ownPort !== 0) writer.endpointIpv4(ATTRIBUTE_OWN_ADDRESS, packet.ownAddress, packet.ownPort);
  if (packet.observedPort !== 0) {
    writer.endpointIpv4(ATTRIBUTE_OBSERVED_ADDRESS, packet.observedAddress, packet.observedPort);
  }
  writer.u32(ATTRIBUTE_TX_SEQUENCE, packet.txSequence);
  if (packet.rxSequence >= 0) writer.u32(ATTRIBUTE_RX_SEQUENCE, packet.rxSequence);
  if (packet.echoTimeUs >= 0) writer.u64(ATTRIBUTE_ECHO_TIME, packet.echoTimeUs);
  if (packet.probeSize > 0) writer.u16(ATTRIBUTE_PROBE_SIZE, packet.probeSize);
  if (packet.rxCount >= 0) writer.u32(ATTRIBUTE_RX_COUNT, packet.rxCount);
  if (packet.probe >= 0) writer.u32(ATTRIBUTE_PROBE, packet.probe);
  if (packet.probeAnswer >= 0) writer.u32(ATTRIBUTE_PROBE_ANSWER, packet.probeAnswer);
  const { firewallTest, firewallAnswer, firewallBurst, firewallHeard } = packet;
  if (firewallTest >= 0) writer.firewallPlace(ATTRIBUTE_FIREWALL_TEST, firewallBurst, firewallTest, 0);
  if (firewallAnswer >= 0)
    writer.firewallPlace(ATTRIBUTE_FIREWALL_ANSWER, firewallBurst, firewallAnswer, firewallHeard);
}
