// What a session says to a peer, and what a peer's metadata says of a session: the bridge between the session table's
// columns and the metadata codec. Which attributes go where: protocol sheet 3.5.

import { getI32, getU16, getU32 } from "../base/bytes.ts";
import { encryptsMetadata } from "../crypto/key-ring.ts";
import { HEADROOM, TAILROOM } from "../io/port.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import { addressBook, isName } from "../table/address-book.ts";
import { CARRIED_BYTES } from "../table/carried-attributes.ts";
import type { FlowTable } from "../table/flow-table.ts";
import { DSCP_KNOWN, FORWARD, PAYLOAD_ENCRYPTED, REVERSE, type SessionTable } from "../table/session-table.ts";
import { PROTOCOL_ICMP } from "../wire/flow-key.ts";
import { PROTOCOL_ICMPV6 } from "../wire/ipv6.ts";
import { copyUnknown, type MetadataWriter, type ParsedMetadata } from "../wire/metadata.ts";
import {
  ATTRIBUTE_CONTROL,
  ATTRIBUTE_DESTINATION_ROUTER,
  ATTRIBUTE_DISABLE_FORWARD,
  ATTRIBUTE_DSCP,
  ATTRIBUTE_DUPLICATE_SEQUENCE,
  ATTRIBUTE_ENCRYPTED_FROM,
  ATTRIBUTE_FORWARD_CONTEXT_IPV4,
  ATTRIBUTE_FORWARD_CONTEXT_IPV6,
  ATTRIBUTE_HEALTH_CHECK,
  ATTRIBUTE_ICMP_ERROR_IPV4,
  ATTRIBUTE_ICMP_ERROR_IPV6,
  ATTRIBUTE_INWARD,
  ATTRIBUTE_PASSED_ROUTERS,
  ATTRIBUTE_PATH_ID,
  ATTRIBUTE_PATH_METRICS,
  ATTRIBUTE_PAYLOAD_KEY_VERSION,
  ATTRIBUTE_REMAINING_TIME,
  ATTRIBUTE_REVERSE_CONTEXT_IPV4,
  ATTRIBUTE_REVERSE_CONTEXT_IPV6,
  ATTRIBUTE_SECURITY_ID,
  ATTRIBUTE_SECURITY_KEY,
  ATTRIBUTE_SECURITY_POLICY,
  ATTRIBUTE_SERVICE,
  ATTRIBUTE_SERVICE_SESSIONS,
  ATTRIBUTE_SESSION_ENCRYPTED,
  ATTRIBUTE_SOURCE_NAT,
  ATTRIBUTE_SOURCE_NAT_PORT,
  ATTRIBUTE_SOURCE_ROUTER,
  ATTRIBUTE_TCP_SYN,
  ATTRIBUTE_TENANT,
  ATTRIBUTE_TRANSLATED,
  ATTRIBUTE_UUID,
  CONTROL_DISABLE_METADATA,
  CONTROL_KEEP_ALIVE,
  type PathMetrics,
} from "../wire/metadata-attributes.ts";
import { DROP_METADATA_CONTEXT, OK } from "../wire/verdict.ts";
import { NameTable } from "./name-table.ts";
import { swapPorts } from "./open.ts";
import { PassedRouters } from "./passed-routers.ts";
import { hasPassed, knowsEncryptedFrom } from "./payload.ts";
import type { Policy } from "./policy.ts";

/** Attribute 46 of one byte (3.3): a request. */
const HEALTH_CHECK_REQUEST = 1;
/** Attribute 15 of a session whose payload is not encrypted. */
export const NO_POLICY_NAME = "none";
const NO_POLICY = new TextEncoder().encode(NO_POLICY_NAME);

const CONTEXT_IPV4 = [ATTRIBUTE_FORWARD_CONTEXT_IPV4, ATTRIBUTE_REVERSE_CONTEXT_IPV4];
const CONTEXT_IPV6 = [ATTRIBUTE_FORWARD_CONTEXT_IPV6, ATTRIBUTE_REVERSE_CONTEXT_IPV6];

/** Of packets that have none: see table/duplicate-table.ts. */
export const NOT_NUMBERED = -1;
/** What a number alone adds to a packet: base header, attribute 16 and itself. */
export const NUMBER_OVERHEAD = 28;

/** Of a session's metadata without its names, keys and what is passed on: attributes of fixed length and heads of the others. */
const FIXED_MAX = 211;
/** What more it is with IPv6: two addresses of the context, the text of one. */
const FIXED_MORE_IPV6 = 48;
/** What there is room for in front of a packet, less a cipher's padding, a UDP header and what a tunnel adds. */
const CARRYING_MAX = HEADROOM - TAILROOM - 32 - 8 - 40;
/** Type and length of an attribute. */
const ATTRIBUTE_HEAD = 4;
/** Six bits (RFC 2474). */
const DSCP_MAX = 63;

/** The names and numbers a session's metadata is written from. */
export class SessionMetadata {
  readonly #writer: MetadataWriter;
  readonly #table: SessionTable;
  readonly #flows: FlowTable;
  readonly #policy: Policy;
  /** Row 0 is this router's own name. */
  readonly names: NameTable;
  readonly passed: PassedRouters;
  readonly #routerName: string;
  readonly #header = new Uint8Array(CARRIED_BYTES);
  readonly #payload = new Uint8Array(CARRIED_BYTES);

  constructor(writer: MetadataWriter, table: SessionTable, flows: FlowTable, policy: Policy, routerName: string) {
    this.#writer = writer;
    this.#table = table;
    this.#flows = flows;
    this.#policy = policy;
    this.names = new NameTable(1024, routerName);
    this.passed = new PassedRouters(routerName);
    this.#routerName = routerName;
  }

  /** Forward metadata of `session` for the hop over `path`. Returns its length; it is in the writer's buffer. `version` here and below: of the keys toward this peer (attribute 16), 0 = none; `number`: the packet's, where it has one; `remainingS` as expire.ts has it; `isSyn`: of a TCP SYN that goes as UDP. */
  writeForward(
    session: number,
    path: PeerPath,
    version: number,
    number: number,
    remainingS = 0,
    alone = false,
    isSyn = false,
  ): number {
    const writer = this.#writer;
    const table = this.#table;
    const at = session * 4;
    const { context } = table;
    this.#begin(version, number);
    if (alone) writer.u8(ATTRIBUTE_CONTROL, CONTROL_KEEP_ALIVE);
    writer.copy("header", table.carried.header(session, FORWARD));
    this.#context(FORWARD, context[at], context[at + 1], context[at + 2], context[at + 3]);
    writer.uuid(ATTRIBUTE_UUID, table.uuid, at);
    writer.text(ATTRIBUTE_TENANT, this.#policy.tenants[table.tenant[session]].nameBytes);
    writer.text(ATTRIBUTE_SERVICE, this.#policy.services[table.service[session]].nameBytes);
    writer.text(ATTRIBUTE_SOURCE_ROUTER, this.names.bytes(table.sourceRouter[session]));
    if (table.upstream.path[session] >= 0) this.#passedRouters(session);
    const policy = table.payloadPolicy[session];
    writer.text(ATTRIBUTE_SECURITY_POLICY, policy === 0 ? NO_POLICY : this.names.bytes(policy));
    this.#key(session, path);
    this.#encrypted(session, FORWARD);
    this.#dscp(session, FORWARD);
    writer.text(ATTRIBUTE_PATH_ID, path.pathId);
    const presented = table.presented.get(session);
    if (presented !== undefined) {
      writer.u32(ATTRIBUTE_SOURCE_NAT, presented.address);
      if (presented.port !== 0) writer.u16(ATTRIBUTE_SOURCE_NAT_PORT, presented.port);
    }
    const along = table.inward.get(session);
    if (along !== undefined) writer.uuid(ATTRIBUTE_INWARD, along, 0);
    if (isSyn) writer.flag(ATTRIBUTE_TCP_SYN);
    if (remainingS > 0) writer.u32(ATTRIBUTE_REMAINING_TIME, remainingS);
    writer.copy("payload", table.carried.payload(session, FORWARD));
    return writer.end();
  }

  /** Reverse metadata of `session` for the hop over `path`: the context as the server's packets have it, before any NAT of ours. */
  writeReverse(session: number, path: PeerPath, version: number, number: number, isSyn = false): number {
    this.#begin(version, number);
    this.#reversePayload(session, path);
    if (isSyn) this.#writer.flag(ATTRIBUTE_TCP_SYN);
    return this.#writer.end();
  }

  /** "Stop sending metadata" with the reverse metadata beside it, for want of a reverse packet (protocol sheet 4.3). */
  writeDisableForward(session: number, path: PeerPath, version: number): number {
    this.#begin(version);
    this.#writer.flag(ATTRIBUTE_DISABLE_FORWARD);
    this.#writer.u8(ATTRIBUTE_CONTROL, CONTROL_DISABLE_METADATA);
    this.#reversePayload(session, path);
    return this.#writer.end();
  }

  /**
   * The session told again, alone in a packet, to a peer that may have lost it: what the peer toward the server or toward
   * the initiator is always told, and "keep alive", so that it goes no further.
   */
  writeAgain(session: number, direction: number, path: PeerPath, version: number, remainingS: number): number {
    if (direction === REVERSE) {
      this.#begin(version);
      this.#writer.u8(ATTRIBUTE_CONTROL, CONTROL_KEEP_ALIVE);
      this.#reversePayload(session, path);
      return this.#writer.end();
    }
    return this.writeForward(session, path, version, NOT_NUMBERED, Math.max(1, remainingS), true);
  }

  /** A control message (attribute 24) with nothing else. */
  writeControl(reason: number, version: number): number {
    this.#begin(version);
    this.#writer.u8(ATTRIBUTE_CONTROL, reason);
    return this.#writer.end();
  }

  /** "Do you still know this session?" It rides on a packet of the session (protocol sheet 7.4). */
  writeHealthCheck(version: number, number: number): number {
    this.#begin(version, number);
    this.#writer.u8(ATTRIBUTE_HEALTH_CHECK, HEALTH_CHECK_REQUEST);
    return this.#writer.end();
  }

  /** That an ICMP error is behind it, and which device raised it (protocol sheet 2.5). */
  writeIcmpError(location: number, version: number): number {
    this.#begin(version);
    if (isName(location)) this.#writer.ipv6(ATTRIBUTE_ICMP_ERROR_IPV6, addressBook, location);
    else this.#writer.u32(ATTRIBUTE_ICMP_ERROR_IPV4, location);
    return this.#writer.end();
  }

  /** The packet's number alone. */
  writeNumber(version: number, number: number): number {
    this.#begin(version, number);
    return this.#writer.end();
  }

  /** Path metrics with nothing else; on a packet of a session, or alone when they say `drop` (protocol sheet 6.4). */
  writeMetrics(metrics: PathMetrics, version: number): number {
    this.#begin(version);
    this.#writer.pathMetrics(ATTRIBUTE_PATH_METRICS, metrics);
    return this.#writer.end();
  }

  /** A 5-tuple in the form of its family. */
  #context(direction: number, source: number, destination: number, ports: number, protocol: number): void {
    const writer = this.#writer;
    if (isName(source)) {
      const said = protocol === PROTOCOL_ICMP ? PROTOCOL_ICMPV6 : protocol;
      writer.contextIpv6(CONTEXT_IPV6[direction], addressBook, source, destination, ports, said);
    } else writer.contextIpv4(CONTEXT_IPV4[direction], source, destination, ports, protocol);
  }

  #begin(version: number, number = NOT_NUMBERED): void {
    this.#writer.begin();
    this.#writer.u32(ATTRIBUTE_SECURITY_ID, version);
    if (number !== NOT_NUMBERED) this.#writer.u32(ATTRIBUTE_DUPLICATE_SEQUENCE, number);
  }

  #reversePayload(session: number, path: PeerPath): void {
    const writer = this.#writer;
    const at = session * 4;
    const { context, uuid, carried } = this.#table;
    writer.copy("header", carried.header(session, REVERSE));
    this.#context(REVERSE, context[at + 1], context[at], swapPorts(context[at + 2]), context[at + 3]);
    writer.uuid(ATTRIBUTE_UUID, uuid, at);
    writer.text(ATTRIBUTE_DESTINATION_ROUTER, this.names.bytes(0));
    writer.text(ATTRIBUTE_PATH_ID, path.pathId);
    // For a first router that has lost it.
    if (this.#table.payload[session] === PAYLOAD_ENCRYPTED) this.#key(session, path);
    // The session's last router says how busy the service is here (3.5: optional).
    const { downstream, service } = this.#table;
    if (downstream.path[session] < 0) writer.u64(ATTRIBUTE_SERVICE_SESSIONS, this.#policy.loads.told(service[session]));
    if (this.#table.tellsTranslated(session)) writer.flag(ATTRIBUTE_TRANSLATED);
    this.#encrypted(session, REVERSE);
    this.#dscp(session, REVERSE);
    writer.copy("payload", carried.payload(session, REVERSE));
  }

  /**
   * A router in the middle keeps what a peer said in `direction` of the session that nobody here knows, to say it to the next one
   * (protocol sheet 4.7). `bytes` are those that `parsed` was parsed from. False where there is no room.
   */
  passOn(session: number, direction: number, bytes: Uint8Array, parsed: ParsedMetadata): boolean {
    const { upstream, downstream, carried } = this.#table;
    if (!parsed.hasUnknown || upstream.path[session] < 0 || downstream.path[session] < 0) return true;
    const header = copyUnknown(bytes, parsed, "header", this.#header);
    const payload = copyUnknown(bytes, parsed, "payload", this.#payload);
    if (
      header < 0 ||
      payload < 0 ||
      this.#lengthMax(session) + this.#passedLength(session) + header + payload > CARRYING_MAX
    )
      return false;
    return carried.keep(session, direction, this.#header.subarray(0, header), this.#payload.subarray(0, payload));
  }

  /** Row of the routers that a session has passed, as its forward metadata says. */
  passedRow(bytes: Uint8Array, parsed: ParsedMetadata): number {
    if (!parsed.has(ATTRIBUTE_PASSED_ROUTERS)) return 0;
    return this.passed.row(
      bytes,
      parsed.offsetOf(ATTRIBUTE_PASSED_ROUTERS),
      parsed.lengthOf(ATTRIBUTE_PASSED_ROUTERS) & ~3,
    );
  }

  /** Whether forward metadata says that its session has been at this very router before: it goes in a circle. */
  hasBeenHere(bytes: Uint8Array, parsed: ParsedMetadata): boolean {
    if (readText(bytes, parsed, ATTRIBUTE_SOURCE_ROUTER) === this.#routerName) return true;
    if (!parsed.has(ATTRIBUTE_PASSED_ROUTERS)) return false;
    const at = parsed.offsetOf(ATTRIBUTE_PASSED_ROUTERS);
    return this.passed.hasOwn(bytes, at, parsed.lengthOf(ATTRIBUTE_PASSED_ROUTERS));
  }

  /** How long the session's metadata may be without that, in either direction. */
  #lengthMax(session: number): number {
    const table = this.#table;
    const names = [
      this.#policy.tenants[table.tenant[session]].nameBytes,
      this.#policy.services[table.service[session]].nameBytes,
      this.names.bytes(table.sourceRouter[session]),
      this.names.bytes(table.payloadPolicy[session]),
      this.names.bytes(0),
    ];
    return FIXED_MAX + FIXED_MORE_IPV6 + table.keyLength(session) + names.reduce((sum, name) => sum + name.length, 0);
  }

  #passedLength(session: number): number {
    return ATTRIBUTE_HEAD + this.passed.told(this.#table.passed[session]).length;
  }

  /** The routers that the session has passed, as many of the latest as there is room for beside long names. */
  #passedRouters(session: number): void {
    const { passed, carried } = this.#table;
    const told = this.passed.told(passed[session]);
    const others = carried.header(session, FORWARD).length + carried.payload(session, FORWARD).length;
    const room = (CARRYING_MAX - this.#lengthMax(session) - others - ATTRIBUTE_HEAD) & ~3;
    const length = Math.min(told.length, room);
    if (length > 0) this.#writer.bytes(ATTRIBUTE_PASSED_ROUTERS, told, told.length - length, length);
  }

  /** What packets in this direction have of a DSCP where they enter the fabric, where that is preserved. */
  #dscp(session: number, direction: number): void {
    const known = this.#table.dscp[session * 2 + direction];
    if ((known & DSCP_KNOWN) !== 0) this.#writer.u8(ATTRIBUTE_DSCP, known & ~DSCP_KNOWN);
  }

  /** What its payload is encrypted with: a key of its own, or a version of its policy's keys. */
  #key(session: number, path: PeerPath): void {
    const table = this.#table;
    const length = table.keyLength(session);
    if (length === 0) {
      if (table.payloadPolicy[session] === 0) return;
      this.#writer.u32(ATTRIBUTE_PAYLOAD_KEY_VERSION, table.payloadKeyVersion[session]);
      // No such session is opened over a path in clear. Should one ever come to be on one, its last router refuses it.
    } else if (encryptsMetadata(path.security)) {
      this.#writer.bytes(ATTRIBUTE_SECURITY_KEY, table.keys, session * table.keyStride, length);
    }
  }

  /** That the payload is encrypted in this direction, and from where on if it was not from the start. */
  #encrypted(session: number, direction: number): void {
    const table = this.#table;
    if (table.payload[session] !== PAYLOAD_ENCRYPTED) return;
    this.#writer.flag(ATTRIBUTE_SESSION_ENCRYPTED);
    // Whoever hears it for the first time need not know what has long gone by.
    if (knowsEncryptedFrom(table, session, direction) && !hasPassed(table, this.#flows, session, direction))
      this.#writer.u32(ATTRIBUTE_ENCRYPTED_FROM, table.encryptedFrom[session * 2 + direction]);
  }
}

/** What forward metadata said of a session; the owner reuses one. */
export class ForwardMetadata {
  readonly context = new Int32Array(4);
  readonly uuid = new Int32Array(4);
  tenant = "";
  service = "";
  sourceRouter = "";
  /** Attribute 15, "" when it is not there; 11; and ours: the version of that policy's keys, from where on it is encrypted. */
  securityPolicy = "";
  isEncrypted = false;
  payloadKeyVersion = 0;
  hasEncryptedFrom = false;
  encryptedFrom = 0;
  /** Attribute 25, 0 = it is not there; and ours, its port: 0 = the source keeps its own. */
  natAddress = 0;
  natPort = 0;
  /** Of an inward session: the identifier of the one that it goes along; null = it is none. */
  along: Int32Array | null = null;
}

/** Read what opening a session needs. Returns OK, or DROP_METADATA_CONTEXT when the context, identifier, tenant or service is missing. */
export function readForwardMetadata(bytes: Uint8Array, parsed: ParsedMetadata, into: ForwardMetadata): number {
  if (
    !readContext(bytes, parsed, FORWARD, into.context) ||
    !parsed.has(ATTRIBUTE_UUID) ||
    !parsed.has(ATTRIBUTE_TENANT) ||
    !parsed.has(ATTRIBUTE_SERVICE)
  ) {
    return DROP_METADATA_CONTEXT;
  }
  readUuid(bytes, parsed, into.uuid);
  into.tenant = readText(bytes, parsed, ATTRIBUTE_TENANT);
  into.service = readText(bytes, parsed, ATTRIBUTE_SERVICE);
  into.sourceRouter = readText(bytes, parsed, ATTRIBUTE_SOURCE_ROUTER);
  into.securityPolicy = readText(bytes, parsed, ATTRIBUTE_SECURITY_POLICY);
  into.isEncrypted = parsed.has(ATTRIBUTE_SESSION_ENCRYPTED);
  into.payloadKeyVersion = readNumber(bytes, parsed, ATTRIBUTE_PAYLOAD_KEY_VERSION);
  into.hasEncryptedFrom = parsed.has(ATTRIBUTE_ENCRYPTED_FROM);
  into.encryptedFrom = readNumber(bytes, parsed, ATTRIBUTE_ENCRYPTED_FROM);
  const natAddress = readNumber(bytes, parsed, ATTRIBUTE_SOURCE_NAT);
  // It is IPv4's alone, and names are this router's own.
  into.natAddress = isName(natAddress) || isName(into.context[0]) ? 0 : natAddress;
  const hasPort = parsed.has(ATTRIBUTE_SOURCE_NAT_PORT);
  into.natPort = hasPort ? getU16(bytes, parsed.offsetOf(ATTRIBUTE_SOURCE_NAT_PORT)) : 0;
  into.along = parsed.has(ATTRIBUTE_INWARD) ? readWords(bytes, parsed.offsetOf(ATTRIBUTE_INWARD)) : null;
  return OK;
}

/** Whether there is a context of this direction, of either family. */
export function hasContext(parsed: ParsedMetadata, direction: number): boolean {
  return parsed.has(CONTEXT_IPV4[direction]) || parsed.has(CONTEXT_IPV6[direction]);
}

/**
 * Four words of the context of this direction: source, destination, ports, protocol. False where there is none, or one
 * with addresses that no host has or that there is no more room for.
 */
export function readContext(bytes: Uint8Array, parsed: ParsedMetadata, direction: number, into: Int32Array): boolean {
  if (parsed.has(CONTEXT_IPV4[direction])) {
    const at = parsed.offsetOf(CONTEXT_IPV4[direction]);
    into[0] = getI32(bytes, at);
    into[1] = getI32(bytes, at + 4);
    into[2] = getI32(bytes, at + 8);
    into[3] = bytes[at + 12];
    // Names are this router's own.
    return !isName(into[0]) && !isName(into[1]);
  }
  if (!parsed.has(CONTEXT_IPV6[direction])) return false;
  const at = parsed.offsetOf(CONTEXT_IPV6[direction]);
  into[0] = readName(bytes, at);
  into[1] = readName(bytes, at + 16);
  into[2] = getI32(bytes, at + 32);
  into[3] = bytes[at + 36] === PROTOCOL_ICMPV6 ? PROTOCOL_ICMP : bytes[at + 36];
  return into[0] !== 0 && into[1] !== 0;
}

/** Whether an ICMP error is behind the metadata. */
export function tellsIcmpError(parsed: ParsedMetadata): boolean {
  return parsed.has(ATTRIBUTE_ICMP_ERROR_IPV4) || parsed.has(ATTRIBUTE_ICMP_ERROR_IPV6);
}

/** The address of the device that raised it; `otherwise` where what is said is no host's. */
export function readErrorLocation(bytes: Uint8Array, parsed: ParsedMetadata, otherwise: number): number {
  if (parsed.has(ATTRIBUTE_ICMP_ERROR_IPV6))
    return readName(bytes, parsed.offsetOf(ATTRIBUTE_ICMP_ERROR_IPV6)) || otherwise;
  const location = getI32(bytes, parsed.offsetOf(ATTRIBUTE_ICMP_ERROR_IPV4));
  return isName(location) ? otherwise : location;
}

function readName(bytes: Uint8Array, at: number): number {
  const nowMs = performance.now() | 0;
  return addressBook.enter(
    getI32(bytes, at),
    getI32(bytes, at + 4),
    getI32(bytes, at + 8),
    getI32(bytes, at + 12),
    nowMs,
  );
}

/** The session identifier as four words; call only when it is present. */
export function readUuid(bytes: Uint8Array, parsed: ParsedMetadata, into: Int32Array): void {
  const at = parsed.offsetOf(ATTRIBUTE_UUID);
  for (let i = 0; i < 4; i++) into[i] = getI32(bytes, at + i * 4);
}

function readWords(bytes: Uint8Array, at: number): Int32Array {
  return Int32Array.from({ length: 4 }, (_, i) => getI32(bytes, at + i * 4));
}

/** The packet's number under packet duplication (attribute 0x8004); NOT_NUMBERED = it has none. */
export function readPacketNumber(bytes: Uint8Array, parsed: ParsedMetadata): number {
  if (!parsed.has(ATTRIBUTE_DUPLICATE_SEQUENCE)) return NOT_NUMBERED;
  return getU32(bytes, parsed.offsetOf(ATTRIBUTE_DUPLICATE_SEQUENCE));
}

/** The DSCP that is restored at the far edge (attribute 0x8001); -1 = none, or a number that is no DSCP. */
export function readDscp(bytes: Uint8Array, parsed: ParsedMetadata): number {
  if (!parsed.has(ATTRIBUTE_DSCP)) return -1;
  const dscp = bytes[parsed.offsetOf(ATTRIBUTE_DSCP)];
  return dscp > DSCP_MAX ? -1 : dscp;
}

/** Sessions of the service that the peer says it has (attribute 13); -1 = it does not say. */
export function readServiceSessions(bytes: Uint8Array, parsed: ParsedMetadata): number {
  if (!parsed.has(ATTRIBUTE_SERVICE_SESSIONS)) return -1;
  const at = parsed.offsetOf(ATTRIBUTE_SERVICE_SESSIONS);
  return getU32(bytes, at) * 0x1_0000_0000 + getU32(bytes, at + 4);
}

function readNumber(bytes: Uint8Array, parsed: ParsedMetadata, type: number): number {
  return parsed.has(type) ? getI32(bytes, parsed.offsetOf(type)) : 0;
}

function readText(bytes: Uint8Array, parsed: ParsedMetadata, type: number): string {
  if (!parsed.has(type)) return "";
  const at = parsed.offsetOf(type);
  return Buffer.from(bytes.buffer, bytes.byteOffset + at, parsed.lengthOf(type)).toString("utf8");
}
