// THE table of SVR metadata attributes (protocol sheet 3.3): number, name, section, length, and a codec for tools,
// tests and print. The packet path uses the constants here and reads values at their offsets (see metadata.ts).
//
//   | type 2 | length 2, of the value only | value | next attribute ...          no alignment, no padding

import ipaddr from "ipaddr.js";
import { getI32, getU16, getU32, setU16, setU32 } from "../base/bytes.ts";

export const ATTRIBUTE_FRAGMENT = 1;
export const ATTRIBUTE_FORWARD_CONTEXT_IPV4 = 2;
export const ATTRIBUTE_FORWARD_CONTEXT_IPV6 = 3;
export const ATTRIBUTE_REVERSE_CONTEXT_IPV4 = 4;
export const ATTRIBUTE_REVERSE_CONTEXT_IPV6 = 5;
export const ATTRIBUTE_UUID = 6;
export const ATTRIBUTE_TENANT = 7;
export const ATTRIBUTE_INTERFACE_ID = 8;
export const ATTRIBUTE_SERVICE = 10;
export const ATTRIBUTE_SESSION_ENCRYPTED = 11;
export const ATTRIBUTE_TCP_SYN = 12;
export const ATTRIBUTE_SERVICE_SESSIONS = 13;
export const ATTRIBUTE_SOURCE_ROUTER = 14;
export const ATTRIBUTE_SECURITY_POLICY = 15;
export const ATTRIBUTE_SECURITY_ID = 16;
export const ATTRIBUTE_DESTINATION_ROUTER = 17;
export const ATTRIBUTE_DISABLE_FORWARD = 18;
export const ATTRIBUTE_PATH_ID = 19;
export const ATTRIBUTE_ICMP_ERROR_IPV4 = 20;
export const ATTRIBUTE_ICMP_ERROR_IPV6 = 21;
export const ATTRIBUTE_CONTROL = 24;
export const ATTRIBUTE_SOURCE_NAT = 25;
export const ATTRIBUTE_PATH_METRICS = 26;
export const ATTRIBUTE_MODIFY = 28;
export const ATTRIBUTE_APPLICATION = 35;
export const ATTRIBUTE_REMAINING_TIME = 42;
export const ATTRIBUTE_HEALTH_CHECK = 46;
/** The same number as the health check: one byte is a health check, more is a key. */
export const ATTRIBUTE_SECURITY_KEY = 46;
export const ATTRIBUTE_MULTICAST_GROUP = 50;
export const ATTRIBUTE_MULTICAST_EGRESS = 51;

// Ours: 0x8000..0x80FF.
export const ATTRIBUTE_DSCP = 0x8001;
export const ATTRIBUTE_MAC_PAIR = 0x8002;
export const ATTRIBUTE_TUNNELLED_PORTS = 0x8003;
export const ATTRIBUTE_DUPLICATE_SEQUENCE = 0x8004;
/** Which version of the payload policy's keys the session has. */
export const ATTRIBUTE_PAYLOAD_KEY_VERSION = 0x8005;
/** The TCP sequence number from which on the sender's payload is encrypted (with attribute 11, of a session that began in clear). */
export const ATTRIBUTE_ENCRYPTED_FROM = 0x8006;
/** The IP protocol of what is behind the metadata: a whole packet of a session, TCP or UDP header and all (engine/tunnel.ts). */
export const ATTRIBUTE_TUNNELLED_PROTOCOL = 0x8007;
/** The port, or an echo's identifier, that goes with the address of attribute 25. */
export const ATTRIBUTE_SOURCE_NAT_PORT = 0x800a;
/** The routers between two peers that the session has passed, four bytes each, the latest last (session/passed-routers.ts). */
export const ATTRIBUTE_PASSED_ROUTERS = 0x800b;
/** A router toward the server translates the session's source: its idle times are those of NAT (session/expire.ts). */
export const ATTRIBUTE_TRANSLATED = 0x800c;
/** The identifier of the session that this one goes along, backward (session/inward.ts). */
export const ATTRIBUTE_INWARD = 0x800d;

// Ours, behind BFD packets (protocol sheet 6.2): 0x8100..0x810F. See bfd.ts.
export const ATTRIBUTE_ROUTER_NAME = 0x8101;
export const ATTRIBUTE_NODE = 0x8102;
/** The address and port that the sender itself believes it sends from. */
export const ATTRIBUTE_OWN_ADDRESS = 0x8103;
/** The address and port that the sender saw the receiver send from. */
export const ATTRIBUTE_OBSERVED_ADDRESS = 0x8104;
export const ATTRIBUTE_TX_SEQUENCE = 0x8105;
/** The highest transmit sequence number that the sender had from the receiver. */
export const ATTRIBUTE_RX_SEQUENCE = 0x8106;
export const ATTRIBUTE_ECHO_TIME = 0x8107;
/** Of an MTU probe how long it is, of an answer how long what came was: the IPv4 packet, header and all. */
export const ATTRIBUTE_PROBE_SIZE = 0x8108;
/** How many packets the sender had from the receiver: the highest sequence number alone does not tell what was lost before it. */
export const ATTRIBUTE_RX_COUNT = 0x8109;
/** An MTU probe, and its number. */
export const ATTRIBUTE_PROBE = 0x810a;
/** The answer to the MTU probe of this number. */
export const ATTRIBUTE_PROBE_ANSWER = 0x810b;
/** A packet of the firewall detector (peer/firewall-tests.ts): of which burst, and which of it. */
export const ATTRIBUTE_FIREWALL_TEST = 0x810c;
/** The answer to that one, and what of its burst came over TCP. */
export const ATTRIBUTE_FIREWALL_ANSWER = 0x810d;

// Reasons of ATTRIBUTE_CONTROL (protocol sheet 3.4).
export const CONTROL_KEEP_ALIVE = 1;
export const CONTROL_ENABLE_METADATA = 2;
export const CONTROL_DISABLE_METADATA = 3;
export const CONTROL_DELETE_SESSION = 6;
export const CONTROL_SESSION_EXISTS = 8;

/** Length of the base header: cookie 8, version and header length 2, payload length 2. */
export const METADATA_BASE_LENGTH = 12;

/** A header attribute is never encrypted, a payload attribute may be. */
export type Section = "header" | "payload";

/** Addresses are text, IPv6 as in RFC 5952. */
export interface Context {
  source: string;
  destination: string;
  sourcePort: number;
  destinationPort: number;
  protocol: number;
}

export interface Fragment {
  extendedId: number;
  originalId: number;
  dontFragment: boolean;
  moreFragments: boolean;
  /** In bytes; a multiple of 8. */
  offset: number;
  largestSeen: number;
}

export interface PathMetrics {
  txColor: number;
  /** Milliseconds, 28 bits. */
  txTimeMs: number;
  rxColor: number;
  rxTimeMs: number;
  drop: boolean;
  previousRxCount: number;
}

export interface MulticastGroup {
  flags: number;
  source: string;
  group: string;
  protocol: number;
}

export interface PortPair {
  source: number;
  destination: number;
}

/** A packet of the firewall detector, or the answer to it. */
export interface FirewallPlace {
  burst: number;
  place: number;
  /** Of an answer: a bit for each place over TCP that came. */
  heard: number;
}

/** One running instance of a router. */
export interface RouterNode {
  nodeId: number;
  /** Drawn at start: another one means that the node was started again. */
  bootId: bigint;
}

/** An address with a port. */
export interface Endpoint {
  address: string;
  port: number;
}

/** `true` is a flag's value: the attribute is there. */
export type AttributeValue =
  | true
  | number
  | bigint
  | string
  | string[]
  | Uint8Array
  | Context
  | Fragment
  | PathMetrics
  | MulticastGroup
  | PortPair
  | RouterNode
  | FirewallPlace
  | Endpoint;

interface Codec<V> {
  readonly lengthMin: number;
  readonly lengthMax: number;
  /** The value's bytes, without type and length. */
  encode(value: V): Uint8Array;
  /** Undefined when bytes of an allowed length make no sense. */
  decode(bytes: Uint8Array): V | undefined;
}

export interface Attribute extends Codec<AttributeValue> {
  readonly type: number;
  readonly name: string;
  /** Where we send it; known types are accepted in either section. */
  readonly section: Section;
}

function fixed<V>(
  length: number,
  put: (bytes: Uint8Array, value: V) => void,
  decode: (bytes: Uint8Array) => V,
): Codec<V> {
  return {
    lengthMin: length,
    lengthMax: length,
    encode(value) {
      const bytes = new Uint8Array(length);
      put(bytes, value);
      return bytes;
    },
    decode,
  };
}

const flag = fixed<true>(
  0,
  () => {},
  () => true,
);
const u8 = fixed<number>(
  1,
  (b, v) => (b[0] = v),
  (b) => b[0],
);
const u16 = fixed<number>(
  2,
  (b, v) => setU16(b, 0, v),
  (b) => getU16(b, 0),
);
const u32 = fixed<number>(
  4,
  (b, v) => setU32(b, 0, v),
  (b) => getU32(b, 0),
);
const u64 = fixed<bigint>(
  8,
  (b, v) => {
    setU32(b, 0, Number(v >> 32n));
    setU32(b, 4, Number(v & 0xffffffffn));
  },
  (b) => (BigInt(getU32(b, 0)) << 32n) | BigInt(getU32(b, 4)),
);
const node = fixed<RouterNode>(
  12,
  (b, v) => {
    setU32(b, 0, v.nodeId);
    b.set(u64.encode(v.bootId), 4);
  },
  (b) => ({ nodeId: getU32(b, 0), bootId: u64.decode(b.subarray(4)) as bigint }),
);
const firewallPlace = fixed<FirewallPlace>(
  8,
  (b, v) => {
    setU32(b, 0, v.burst);
    setU16(b, 4, v.place);
    setU16(b, 6, v.heard);
  },
  (b) => ({ burst: getU32(b, 0), place: getU16(b, 4), heard: getU16(b, 6) }),
);
const ipv4 = fixed<string>(4, (b, v) => b.set(addressBytes(v)), addressText);
const ipv6 = fixed<string>(16, (b, v) => b.set(addressBytes(v)), addressText);
const macPair = fixed<Uint8Array>(
  12,
  (b, v) => b.set(v),
  (b) => b.slice(),
);

const words: Codec<Uint8Array> = {
  lengthMin: 4,
  lengthMax: 256,
  encode: (value) => value,
  decode: (bytes) => (bytes.length % 4 === 0 ? bytes.slice() : undefined),
};

const utf8 = new TextDecoder();
const text: Codec<string> = {
  lengthMin: 0,
  lengthMax: 0xffff,
  encode: (value) => new TextEncoder().encode(value),
  decode: (bytes) => utf8.decode(bytes),
};

const key: Codec<Uint8Array> = {
  lengthMin: 2,
  lengthMax: 0xffff,
  encode: (value) => value,
  decode: (bytes) => bytes.slice(),
};

const uuid = fixed<string>(
  16,
  (b, v) => b.set(Buffer.from(v.replaceAll("-", ""), "hex")),
  (b) =>
    Buffer.from(b)
      .toString("hex")
      .replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-"),
);

/** `addressLength` 4 or 16. */
function context(addressLength: number): Codec<Context> {
  const ports = 2 * addressLength;
  return fixed<Context>(
    ports + 5,
    (b, v) => {
      b.set(addressBytes(v.source), 0);
      b.set(addressBytes(v.destination), addressLength);
      setU16(b, ports, v.sourcePort);
      setU16(b, ports + 2, v.destinationPort);
      b[ports + 4] = v.protocol;
    },
    (b) => ({
      source: addressText(b.subarray(0, addressLength)),
      destination: addressText(b.subarray(addressLength, ports)),
      sourcePort: getU16(b, ports),
      destinationPort: getU16(b, ports + 2),
      protocol: b[ports + 4],
    }),
  );
}

const fragment = fixed<Fragment>(
  10,
  (b, v) => {
    setU32(b, 0, v.extendedId);
    setU16(b, 4, v.originalId);
    setU16(b, 6, (v.dontFragment ? 0x4000 : 0) | (v.moreFragments ? 0x2000 : 0) | (v.offset >>> 3));
    setU16(b, 8, v.largestSeen);
  },
  (b) => {
    const flagsAndOffset = getU16(b, 6);
    return {
      extendedId: getU32(b, 0),
      originalId: getU16(b, 4),
      dontFragment: (flagsAndOffset & 0x4000) !== 0,
      moreFragments: (flagsAndOffset & 0x2000) !== 0,
      offset: (flagsAndOffset & 0x1fff) << 3,
      largestSeen: getU16(b, 8),
    };
  },
);

const pathMetrics = fixed<PathMetrics>(
  10,
  (b, v) => {
    setU32(b, 0, (v.txColor << 28) | v.txTimeMs);
    setU32(b, 4, (v.rxColor << 28) | v.rxTimeMs);
    setU16(b, 8, (v.drop ? 0x8000 : 0) | v.previousRxCount);
  },
  (b) => ({
    txColor: b[0] >>> 4,
    txTimeMs: getI32(b, 0) & 0x0fffffff,
    rxColor: b[4] >>> 4,
    rxTimeMs: getI32(b, 4) & 0x0fffffff,
    drop: (b[8] & 0x80) !== 0,
    previousRxCount: getU16(b, 8) & 0x7fff,
  }),
);

/** family 1 (4 or 6), address, port 2. */
const endpoint: Codec<Endpoint> = {
  lengthMin: 7,
  lengthMax: 19,
  encode(value) {
    const address = addressBytes(value.address);
    return Uint8Array.of(address.length === 4 ? 4 : 6, ...address, value.port >>> 8, value.port);
  },
  decode(bytes) {
    const size = bytes[0] === 4 ? 4 : 16;
    if (bytes.length !== 3 + size) return undefined;
    return { address: addressText(bytes.subarray(1, 1 + size)), port: getU16(bytes, 1 + size) };
  },
};

/** family 1 (4 or 6), flags 1, source, group, protocol 1. */
const multicastGroup: Codec<MulticastGroup> = {
  lengthMin: 11,
  lengthMax: 35,
  encode(value) {
    const source = addressBytes(value.source);
    const family = source.length === 4 ? 4 : 6;
    return Uint8Array.of(family, value.flags, ...source, ...addressBytes(value.group), value.protocol);
  },
  decode(bytes) {
    const size = bytes[0] === 4 ? 4 : 16;
    if (bytes.length !== 3 + 2 * size) return undefined;
    return {
      flags: bytes[1],
      source: addressText(bytes.subarray(2, 2 + size)),
      group: addressText(bytes.subarray(2 + size, 2 + 2 * size)),
      protocol: bytes[2 + 2 * size],
    };
  },
};

/** count 2, then count times length 1 and a router's name. */
const multicastEgress: Codec<string[]> = {
  lengthMin: 2,
  lengthMax: 0xffff,
  encode(value) {
    const names = value.map((name) => text.encode(name));
    return Uint8Array.of(names.length >>> 8, names.length, ...names.flatMap((name) => [name.length, ...name]));
  },
  decode(bytes) {
    const names: string[] = [];
    let at = 2;
    for (let left = getU16(bytes, 0); left > 0; left--) {
      const end = at + 1 + bytes[at];
      if (!(end <= bytes.length)) return undefined;
      names.push(utf8.decode(bytes.subarray(at + 1, end)));
      at = end;
    }
    return at === bytes.length ? names : undefined;
  },
};

const tunnelledPorts = fixed<PortPair>(
  4,
  (b, v) => {
    setU16(b, 0, v.source);
    setU16(b, 2, v.destination);
  },
  (b) => ({ source: getU16(b, 0), destination: getU16(b, 2) }),
);

function row<V extends AttributeValue>(type: number, name: string, section: Section, codec: Codec<V>): Attribute {
  return { type, name, section, ...(codec as Codec<AttributeValue>) };
}

/** Every attribute, in order of type. */
export const ATTRIBUTES: readonly Attribute[] = [
  row(ATTRIBUTE_FRAGMENT, "fragment", "header", fragment),
  row(ATTRIBUTE_FORWARD_CONTEXT_IPV4, "forward-context", "payload", context(4)),
  row(ATTRIBUTE_FORWARD_CONTEXT_IPV6, "forward-context-ipv6", "payload", context(16)),
  row(ATTRIBUTE_REVERSE_CONTEXT_IPV4, "reverse-context", "payload", context(4)),
  row(ATTRIBUTE_REVERSE_CONTEXT_IPV6, "reverse-context-ipv6", "payload", context(16)),
  row(ATTRIBUTE_UUID, "uuid", "payload", uuid),
  row(ATTRIBUTE_TENANT, "tenant", "payload", text),
  row(ATTRIBUTE_INTERFACE_ID, "interface-id", "payload", u32),
  row(ATTRIBUTE_SERVICE, "service", "payload", text),
  row(ATTRIBUTE_SESSION_ENCRYPTED, "session-encrypted", "payload", flag),
  row(ATTRIBUTE_TCP_SYN, "tcp-syn", "payload", flag),
  row(ATTRIBUTE_SERVICE_SESSIONS, "service-sessions", "payload", u64),
  row(ATTRIBUTE_SOURCE_ROUTER, "source-router", "payload", text),
  row(ATTRIBUTE_SECURITY_POLICY, "security-policy", "payload", text),
  row(ATTRIBUTE_SECURITY_ID, "security-id", "header", u32),
  row(ATTRIBUTE_DESTINATION_ROUTER, "destination-router", "payload", text),
  row(ATTRIBUTE_DISABLE_FORWARD, "disable-forward", "header", flag),
  row(ATTRIBUTE_PATH_ID, "path-id", "payload", text),
  row(ATTRIBUTE_ICMP_ERROR_IPV4, "icmp-error", "header", ipv4),
  row(ATTRIBUTE_ICMP_ERROR_IPV6, "icmp-error-ipv6", "header", ipv6),
  row(ATTRIBUTE_CONTROL, "control", "header", u8),
  row(ATTRIBUTE_SOURCE_NAT, "source-nat", "payload", ipv4),
  row(ATTRIBUTE_PATH_METRICS, "path-metrics", "header", pathMetrics),
  row(ATTRIBUTE_MODIFY, "modify", "header", u16),
  row(ATTRIBUTE_APPLICATION, "application", "payload", text),
  row(ATTRIBUTE_REMAINING_TIME, "remaining-time", "payload", u32),
  row(ATTRIBUTE_HEALTH_CHECK, "health-check", "header", u8),
  row(ATTRIBUTE_SECURITY_KEY, "security-key", "payload", key),
  row(ATTRIBUTE_MULTICAST_GROUP, "multicast-group", "payload", multicastGroup),
  row(ATTRIBUTE_MULTICAST_EGRESS, "multicast-egress", "payload", multicastEgress),
  row(ATTRIBUTE_DSCP, "dscp", "payload", u8),
  row(ATTRIBUTE_MAC_PAIR, "mac-pair", "payload", macPair),
  row(ATTRIBUTE_TUNNELLED_PORTS, "tunnelled-ports", "payload", tunnelledPorts),
  row(ATTRIBUTE_DUPLICATE_SEQUENCE, "duplicate-sequence", "header", u32),
  row(ATTRIBUTE_PAYLOAD_KEY_VERSION, "payload-key-version", "payload", u32),
  row(ATTRIBUTE_ENCRYPTED_FROM, "encrypted-from", "payload", u32),
  row(ATTRIBUTE_TUNNELLED_PROTOCOL, "tunnelled-protocol", "header", u8),
  row(ATTRIBUTE_SOURCE_NAT_PORT, "source-nat-port", "payload", u16),
  row(ATTRIBUTE_PASSED_ROUTERS, "passed-routers", "payload", words),
  row(ATTRIBUTE_TRANSLATED, "translated", "payload", flag),
  row(ATTRIBUTE_INWARD, "inward", "payload", uuid),
  row(ATTRIBUTE_ROUTER_NAME, "router-name", "payload", text),
  row(ATTRIBUTE_NODE, "node", "payload", node),
  row(ATTRIBUTE_OWN_ADDRESS, "own-address", "payload", endpoint),
  row(ATTRIBUTE_OBSERVED_ADDRESS, "observed-address", "payload", endpoint),
  row(ATTRIBUTE_TX_SEQUENCE, "tx-sequence", "payload", u32),
  row(ATTRIBUTE_RX_SEQUENCE, "rx-sequence", "payload", u32),
  row(ATTRIBUTE_ECHO_TIME, "echo-time", "payload", u64),
  row(ATTRIBUTE_PROBE_SIZE, "probe-size", "payload", u16),
  row(ATTRIBUTE_RX_COUNT, "rx-count", "payload", u32),
  row(ATTRIBUTE_PROBE, "probe", "payload", u32),
  row(ATTRIBUTE_PROBE_ANSWER, "probe-answer", "payload", u32),
  row(ATTRIBUTE_FIREWALL_TEST, "firewall-test", "payload", firewallPlace),
  row(ATTRIBUTE_FIREWALL_ANSWER, "firewall-answer", "payload", firewallPlace),
];

/** The row for a type whose value has this length: the length tells the two of number 46 apart. */
export function findAttribute(type: number, length: number): Attribute | undefined {
  return ATTRIBUTES.find((a) => a.type === type && a.lengthMin <= length && length <= a.lengthMax);
}

export interface DescribedAttribute {
  type: number;
  name: string;
  section: Section;
  value: AttributeValue;
}

/**
 * What the metadata at bytes[at..end) says, in its order, for people: print, explain, tests. Unlike parseMetadata it
 * reads as far as it can. A type or value it cannot read is named "unknown" with its bytes; where lengths do not add
 * up, a last entry of type -1 named "malformed" has the rest. Decide nothing by it.
 */
export function describeMetadata(bytes: Uint8Array, at: number, end: number): DescribedAttribute[] {
  const found: DescribedAttribute[] = [];
  if (end - at < METADATA_BASE_LENGTH) {
    return [{ type: -1, name: "malformed", section: "header", value: bytes.slice(at, end) }];
  }
  const headerEnd = at + (getU16(bytes, at + 8) & 0xfff);
  const payloadEnd = headerEnd + getU16(bytes, at + 10);
  let cursor = at + METADATA_BASE_LENGTH;
  const walk = (section: Section, sectionEnd: number): boolean => {
    while (cursor < sectionEnd) {
      const value = cursor + 4;
      const next = value + getU16(bytes, cursor + 2);
      if (value > sectionEnd || next > sectionEnd || next > end) return false;
      const type = getU16(bytes, cursor);
      const raw = bytes.subarray(value, next);
      const attribute = findAttribute(type, raw.length);
      const decoded = attribute?.decode(raw);
      if (attribute === undefined || decoded === undefined) {
        found.push({ type, name: "unknown", section, value: raw.slice() });
      } else {
        found.push({ type, name: attribute.name, section, value: decoded });
      }
      cursor = next;
    }
    return cursor === sectionEnd;
  };
  if (!walk("header", headerEnd)) {
    found.push({
      type: -1,
      name: "malformed",
      section: "header",
      value: bytes.slice(cursor, Math.min(headerEnd, end)),
    });
  } else if (!walk("payload", payloadEnd)) {
    found.push({
      type: -1,
      name: "malformed",
      section: "payload",
      value: bytes.slice(cursor, Math.min(payloadEnd, end)),
    });
  }
  return found;
}

function addressBytes(address: string): number[] {
  return ipaddr.parse(address).toByteArray();
}

function addressText(bytes: Uint8Array): string {
  return ipaddr.fromByteArray(Array.from(bytes)).toString();
}
