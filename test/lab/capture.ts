// What the captures of a lab say: tshark reads the packets and judges every checksum; the little that tshark does not
// know (the SVR metadata header, protocol sheet 3.1 to 3.3) is read here, independently of lib/.
//
// Where frames are counted. A sending host's own capture holds super-frames with partial checksums, so lengths are
// never compared there. They are compared where every frame is one packet made by a router: on a wire, and on the
// capture of the host that receives. A datagram on a wire must have the IP length of a packet that the host received;
// metadata, which only the first packets may carry, is subtracted and reported apart. Where the families differ, it is
// what is behind the IP header that must be as long. What a wire shows but no host received was lost on the way and is
// counted, not hidden. The sender's side is compared by payload bytes.
//
// Every function that judges returns its complaints as sentences; an empty list means that all holds.

import { execFile } from "node:child_process";
import { promisify } from "node:util";

const COOKIE = "4c48dbc6ddf6670c";
const COOKIE_FILTER = "4c:48:db:c6:dd:f6:67:0c";
const FRAGMENT = 1;
/** By version of IP. */
const FORWARD_CONTEXTS = [2, 3];
const REVERSE_CONTEXTS = [4, 5];
const UUID = 6;
const CONTROL = 24;

export const ICMP = 1;
export const TCP = 6;
export const UDP = 17;
export const ICMPV6 = 58;
const NEIGHBOR_SOLICITATION = 135;
const NEIGHBOR_ADVERTISEMENT = 136;

/** Between routers ICMP travels behind a UDP header (protocol sheet 2.5). */
export const ICMP_IN_UDP_BYTES = 8;

/** A packet as tshark saw it. */
export interface Packet {
  readonly frame: number;
  readonly sourceMac: string;
  /** IP protocol, the first next header of IPv6; 0 for ARP and neighbor discovery, -1 for anything else. */
  readonly protocol: number;
  readonly sourceAddress: string;
  readonly destinationAddress: string;
  /** `address:port` or `[address]:port`, the port being the identifier for an echo. */
  readonly source: string;
  readonly destination: string;
  readonly ipLength: number;
  /** Of the IP header, options included; of IPv6 without extension headers. */
  readonly ipHeader: number;
  /** Bytes behind the L4 header; behind the IP header for ICMP. */
  readonly payloadLength: number;
  readonly tcpFlags: number;
  /** IP and L4 both verified good; a UDP checksum may be absent. */
  readonly checksumsGood: boolean;
  /** Its TCP checksum is 0xffff where 0 is right, which adds up to the same; tshark compares. */
  readonly isMangled: boolean;
  /** The first header behind the L4 header, if it begins with the cookie. */
  readonly metadata: Metadata | undefined;
}

export interface Metadata {
  /** Bytes of the whole header, both sections. */
  readonly length: number;
  readonly attributes: ReadonlyMap<number, Buffer>;
  /** What a fabric fragment (attribute 1) at offset 0 holds behind its own header. */
  readonly inner: Metadata | undefined;
}

/** One packet of a session between two routers, its fabric fragments put together again. */
export interface Datagram {
  readonly frames: number[];
  /** IP bytes on the wire, all fragments together. */
  wireBytes: number;
  /** Metadata bytes among them, fragment headers not counted. */
  metadataBytes: number;
  /** IP length without metadata and fragmentation: what the LAN sees (for ICMP plus ICMP_IN_UDP_BYTES). */
  length: number;
  readonly ipHeader: number;
  payloadLength: number;
  /** A message from router to router (attribute 24) that no host receives. */
  control: boolean;
}

/** A session as one wire shows it. */
export interface WireSession {
  readonly uuid: string;
  /** The hosts' protocol and addresses, from the metadata. */
  readonly protocol: number;
  readonly source: string;
  readonly destination: string;
  readonly waypoint: { readonly initiator: string; readonly responder: string };
  readonly forward: Datagram[];
  readonly reverse: Datagram[];
}

const FIELDS = [
  "frame.number",
  "eth.src",
  "eth.type",
  "ip.src",
  "ip.dst",
  "ip.proto",
  "ip.len",
  "ip.hdr_len",
  "ip.checksum.status",
  "ipv6.src",
  "ipv6.dst",
  "ipv6.nxt",
  "ipv6.plen",
  "tcp.srcport",
  "tcp.dstport",
  "tcp.len",
  "tcp.flags",
  "tcp.checksum.status",
  "tcp.checksum",
  "tcp.checksum_calculated",
  "udp.srcport",
  "udp.dstport",
  "udp.length",
  "udp.checksum.status",
  "icmp.ident",
  "icmp.checksum.status",
  "icmpv6.type",
  "icmpv6.echo.identifier",
  "icmpv6.checksum.status",
] as const;

const IPV6_HEADER = 40;
const CHECKSUM_GOOD = "1";
const CHECKSUM_ABSENT = "3";

/** Every packet of a capture file, in order. */
export async function readCapture(path: string): Promise<Packet[]> {
  const metadata = new Map<number, Metadata>();
  // With TCP and UDP switched off tshark hands over the bytes behind the IP header, whatever it thinks of them (it
  // shows the payload of a RST, for one, as text).
  const bytes = ["--disable-protocol", "tcp", "--disable-protocol", "udp"];
  const [packets, marked] = await Promise.all([
    tshark(path, FIELDS, []),
    tshark(
      path,
      ["frame.number", "ip.proto", "ipv6.nxt", "data.data"],
      [...bytes, "-Y", `data.data contains ${COOKIE_FILTER}`],
    ),
  ]);
  for (const [frame, protocol, nextHeader, hex] of marked) {
    const l4 = Buffer.from(hex, "hex");
    const header = readMetadata(l4.subarray(Number(protocol || nextHeader) === TCP ? (l4[12] >> 4) * 4 : 8));
    if (header) metadata.set(Number(frame), header);
  }
  return packets.map((row) => toPacket(row, metadata));
}

async function tshark(path: string, fields: readonly string[], options: string[]): Promise<string[][]> {
  const preferences = ["ip.check_checksum", "tcp.check_checksum", "udp.check_checksum"].map((name) => `${name}:TRUE`);
  // Only headers are wanted: nothing above the transport is guessed at, nothing is put together.
  preferences.push(
    "tcp.analyze_sequence_numbers:FALSE",
    "tcp.desegment_tcp_streams:FALSE",
    "ip.defragment:FALSE",
    "ipv6.defragment:FALSE",
  );
  const args = ["-n", "-r", path, "-T", "fields", "-E", "occurrence=f", ...options];
  for (const preference of preferences) args.push("-o", preference);
  for (const field of fields) args.push("-e", field);
  const { stdout } = await promisify(execFile)("tshark", args, { maxBuffer: 1 << 30 });
  return stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.split("\t"));
}

function toPacket(row: readonly string[], metadata: ReadonlyMap<number, Metadata>): Packet {
  const field = Object.fromEntries(FIELDS.map((name, at) => [name, row[at] ?? ""])) as Record<
    (typeof FIELDS)[number],
    string
  >;
  const frame = Number(field["frame.number"]);
  const etherType = Number(field["eth.type"]);
  const isIpv6 = etherType === 0x86dd;
  const isNeighbor = [NEIGHBOR_SOLICITATION, NEIGHBOR_ADVERTISEMENT].includes(Number(field["icmpv6.type"]));
  const protocol =
    etherType === 0x0800
      ? Number(field["ip.proto"])
      : isIpv6 && !isNeighbor
        ? Number(field["ipv6.nxt"])
        : etherType === 0x0806 || isNeighbor
          ? 0
          : -1;
  const [from, to] = isIpv6 ? [field["ipv6.src"], field["ipv6.dst"]] : [field["ip.src"], field["ip.dst"]];
  const ipHeader = isIpv6 ? IPV6_HEADER : Number(field["ip.hdr_len"]);
  const ipLength = isIpv6 ? IPV6_HEADER + Number(field["ipv6.plen"]) : Number(field["ip.len"]);
  const identifier = String(Number(field["icmp.ident"] || field["icmpv6.echo.identifier"]));
  const [sourcePort, destinationPort, payload, l4Status] =
    protocol === TCP
      ? [field["tcp.srcport"], field["tcp.dstport"], Number(field["tcp.len"]), field["tcp.checksum.status"]]
      : protocol === UDP
        ? [field["udp.srcport"], field["udp.dstport"], Number(field["udp.length"]) - 8, field["udp.checksum.status"]]
        : [
            identifier,
            identifier,
            ipLength - ipHeader,
            isIpv6 ? field["icmpv6.checksum.status"] : field["icmp.checksum.status"],
          ];
  // IPv6 has no header checksum, and no UDP without one.
  const ipGood = isIpv6 || field["ip.checksum.status"] === CHECKSUM_GOOD;
  const l4Good = l4Status === CHECKSUM_GOOD || (protocol === UDP && !isIpv6 && l4Status === CHECKSUM_ABSENT);
  return {
    frame,
    sourceMac: field["eth.src"],
    protocol,
    sourceAddress: from,
    destinationAddress: to,
    source: ending(from, sourcePort),
    destination: ending(to, destinationPort),
    ipLength,
    ipHeader,
    payloadLength: payload,
    tcpFlags: Number(field["tcp.flags"]),
    checksumsGood: (etherType !== 0x0800 && !isIpv6) || (ipGood && l4Good),
    isMangled: isMangled(field),
    metadata: metadata.get(frame),
  };
}

/** An address and a port as one text. */
export function ending(address: string, port: string | number): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** The two parts of such a text. */
export function endingParts(text: string): { address: string; port: number } {
  const colon = text.lastIndexOf(":");
  return { address: text.slice(0, colon).replace(/[[\]]/g, ""), port: Number(text.slice(colon + 1)) };
}

/** The metadata header at the start of an L4 payload; undefined if there is none or it does not add up. */
export function readMetadata(payload: Buffer): Metadata | undefined {
  if (payload.length < 12 || payload.toString("hex", 0, 8) !== COOKIE) return undefined;
  const length = (payload.readUInt16BE(8) & 0x0fff) + payload.readUInt16BE(10);
  const attributes = new Map<number, Buffer>();
  let at = 12;
  while (at + 4 <= Math.min(length, payload.length)) {
    const end = at + 4 + payload.readUInt16BE(at + 2);
    attributes.set(payload.readUInt16BE(at), payload.subarray(at + 4, end));
    at = end;
  }
  if (at !== length) return undefined;
  const fragment = attributes.get(FRAGMENT);
  const first = fragment !== undefined && (fragment.readUInt16BE(6) & 0x1fff) === 0;
  return { length, attributes, inner: first ? readMetadata(payload.subarray(length)) : undefined };
}

/** Sort a wire's packets into sessions. Packets that belong to none become complaints. */
export function wireSessions(packets: readonly Packet[]): { sessions: WireSession[]; complaints: string[] } {
  const sessions: WireSession[] = [];
  const current = new Map<string, WireSession>();
  const partial = new Map<string, Datagram>();
  const complaints: string[] = [];
  for (const packet of packets) {
    if (packet.protocol <= 0) continue;
    const key = [packet.protocol, ...[packet.source, packet.destination].sort()].join(" ");
    const fragment = packet.metadata?.attributes.get(FRAGMENT);
    const metadata = fragment ? packet.metadata?.inner : packet.metadata;
    const uuid = metadata?.attributes.get(UUID)?.toString("hex");
    const has = (types: readonly number[]) => types.find((type) => metadata?.attributes.has(type));
    const context = metadata?.attributes.get(has(FORWARD_CONTEXTS) ?? -1);
    let session = current.get(key);
    if (uuid !== undefined && context !== undefined && session?.uuid !== uuid) {
      session = openSession(uuid, context, packet);
      sessions.push(session);
      current.set(key, session);
    }
    if (session === undefined) {
      complaints.push(`frame ${packet.frame}: ${packet.source} > ${packet.destination} belongs to no session`);
      continue;
    }
    const forward = packet.source === session.waypoint.initiator;
    if (uuid !== undefined && uuid !== session.uuid) complaints.push(`frame ${packet.frame}: another session's UUID`);
    if (uuid !== undefined && has(forward ? FORWARD_CONTEXTS : REVERSE_CONTEXTS) === undefined) {
      complaints.push(`frame ${packet.frame}: ${forward ? "forward" : "reverse"} metadata without its context`);
    }
    const fragmentKey = fragment && `${key} ${packet.source} ${fragment.readUInt32BE(0)}`;
    let datagram = fragmentKey === undefined ? undefined : partial.get(fragmentKey);
    if (datagram === undefined) {
      const headers = packet.ipLength - packet.payloadLength;
      const { ipHeader } = packet;
      const empty = { wireBytes: 0, metadataBytes: 0, payloadLength: 0, control: false };
      datagram = { frames: [], length: headers, ipHeader, ...empty };
      (forward ? session.forward : session.reverse).push(datagram);
      if (fragmentKey !== undefined) partial.set(fragmentKey, datagram);
    }
    const payload = packet.payloadLength - (fragment ? packet.metadata!.length : 0) - (metadata?.length ?? 0);
    datagram.frames.push(packet.frame);
    datagram.wireBytes += packet.ipLength;
    datagram.metadataBytes += metadata?.length ?? 0;
    datagram.length += payload;
    datagram.payloadLength += payload;
    if (metadata?.attributes.has(CONTROL)) datagram.control = true;
  }
  return { sessions, complaints };
}

function openSession(uuid: string, context: Buffer, lead: Packet): WireSession {
  const length = context.length > 32 ? 16 : 4;
  const address = (at: number) => {
    const bytes = context.subarray(at, at + length);
    // The one form of text that an address has (RFC 5952) is how a URL writes it.
    return length === 4
      ? bytes.join(".")
      : new URL(`http://[${bytes.toString("hex").match(/..../g)!.join(":")}]`).hostname.slice(1, -1);
  };
  const ports = 2 * length;
  return {
    uuid,
    protocol: context[ports + 4],
    source: ending(address(0), context.readUInt16BE(ports)),
    destination: ending(address(length), context.readUInt16BE(ports + 2)),
    waypoint: { initiator: lead.source, responder: lead.destination },
    forward: [],
    reverse: [],
  };
}

/** Packets by the hosts' flow, `flowName` of it, without the discovery of neighbors. */
export function lanFlows(packets: readonly Packet[]): Map<string, Packet[]> {
  const flows = new Map<string, Packet[]>();
  for (const packet of packets) {
    if (packet.protocol === 0) continue;
    const name = flowName(packet.protocol, packet.source, packet.destination);
    const flow = flows.get(name);
    if (flow) flow.push(packet);
    else flows.set(name, [packet]);
  }
  return flows;
}

export function flowName(protocol: number, source: string, destination: string): string {
  return `${protocol} ${source} > ${destination}`;
}

function isMangled(field: Record<string, string>): boolean {
  const calculated = field["tcp.checksum_calculated"];
  return calculated !== "" && Number(calculated) === 0 && Number(field["tcp.checksum"]) === 0xffff;
}

/** Complaints about checksums that are not verified good. Where the kernel has finished them it may have written 0xffff for 0. */
export function checksumComplaints(packets: readonly Packet[], byKernel = false): string[] {
  return packets
    .filter((packet) => !packet.checksumsGood && !(byKernel && packet.isMangled))
    .map((packet) => `frame ${packet.frame}: checksum of ${packet.source} > ${packet.destination}`);
}

/** Complaints about anything on a wire but its neighbors' discovery, listeners' reports and, between its two waypoint addresses, TCP and UDP behind a bare IP header. */
export function addressComplaints(packets: readonly Packet[], addresses: readonly [string, string]): string[] {
  const [left, right] = addresses;
  return packets
    .filter(({ protocol, sourceAddress: from, destinationAddress: to, ipHeader }) => {
      const between = (from === left && to === right) || (from === right && to === left);
      const isBare = ipHeader === (left.includes(":") ? IPV6_HEADER : 20);
      const discovers = protocol === 0 && (from === "" || from === left || from === right);
      // Of what a router listens to (RFC 3810): to those who ask for it alone, behind a router alert.
      const reports = protocol === 0 && from.startsWith("fe80::") && to === "ff02::16";
      return !discovers && !reports && !(between && isBare && (protocol === TCP || protocol === UDP));
    })
    .map((packet) => `frame ${packet.frame}: ${packet.protocol} ${packet.source} > ${packet.destination}`);
}

/** Complaints about waypoint ports: the initiator's is even, the responder's odd, both in 16384..65534. */
export function portComplaints(sessions: readonly WireSession[]): string[] {
  return sessions
    .filter(({ waypoint }) => {
      const [local, remote] = [waypoint.initiator, waypoint.responder].map((end) => endingParts(end).port);
      return local % 2 !== 0 || remote % 2 !== 1 || Math.min(local, remote) < 16384 || Math.max(local, remote) > 65534;
    })
    .map(({ uuid, waypoint }) => `session ${uuid}: ports of ${waypoint.initiator} and ${waypoint.responder}`);
}

/** Complaints about the metadata handshake: each direction begins with metadata and, once it stopped, stays without. */
export function handshakeComplaints(sessions: readonly WireSession[]): string[] {
  const complaints: string[] = [];
  for (const session of sessions) {
    for (const direction of ["forward", "reverse"] as const) {
      const datagrams = session[direction].filter((datagram) => !datagram.control);
      const stopped = datagrams.findIndex((datagram) => datagram.metadataBytes === 0);
      // A second after a packet that nothing answered, its metadata is acknowledged by a generated packet of its own.
      const generated = session[direction][0]?.control === true;
      if (stopped === 0 && !generated) complaints.push(`session ${session.uuid}: ${direction} begins without metadata`);
      if (stopped < 0) continue;
      for (const late of datagrams.slice(stopped).filter((datagram) => datagram.metadataBytes > 0)) {
        complaints.push(`session ${session.uuid}: ${direction} metadata again in frame ${late.frames[0]}`);
      }
    }
  }
  return complaints;
}

/**
 * Compare the packets of sessions on a wire with those the hosts `received` (see the head of this file). Returns the
 * complaints, the number of packets compared, and how many (and their bytes) were on the wire but reached no host.
 */
export function lengthComplaints(
  sessions: readonly WireSession[],
  received: ReadonlyMap<string, readonly Packet[]>,
): { complaints: string[]; compared: number; lost: number; lostBytes: number } {
  const complaints: string[] = [];
  let compared = 0;
  let lost = 0;
  let lostBytes = 0;
  for (const session of sessions) {
    const extra = session.protocol === ICMP || session.protocol === ICMPV6 ? ICMP_IN_UDP_BYTES : 0;
    const header = session.forward[0]?.ipHeader ?? session.reverse[0]?.ipHeader ?? 0;
    for (const direction of ["forward", "reverse"] as const) {
      const [from, to] = ends(session, direction);
      const wire = count(session[direction].filter((one) => !one.control).map((one) => one.length - header - extra));
      for (const { frame, ipLength, ipHeader } of received.get(flowName(session.protocol, from, to)) ?? []) {
        const length = ipLength - ipHeader;
        const left = wire.get(length) ?? 0;
        if (left === 0) complaints.push(`${from} > ${to}: LAN frame ${frame} of ${ipLength} bytes is not on the wire`);
        wire.set(length, left - 1);
        compared++;
      }
      for (const [length, left] of wire) {
        lost += Math.max(left, 0);
        lostBytes += Math.max(left, 0) * (length + header + extra);
      }
    }
  }
  return { complaints, compared, lost, lostBytes };
}

/** Complaints about sessions whose payload on the wire is more than what the hosts `sent`. */
export function payloadComplaints(
  sessions: readonly WireSession[],
  sent: ReadonlyMap<string, readonly Packet[]>,
): string[] {
  const complaints: string[] = [];
  for (const session of sessions) {
    for (const direction of ["forward", "reverse"] as const) {
      const [from, to] = ends(session, direction);
      const onWire = sum(session[direction].filter((one) => !one.control).map((one) => one.payloadLength));
      const onLan = sum((sent.get(flowName(session.protocol, from, to)) ?? []).map((packet) => packet.payloadLength));
      if (onWire > onLan) complaints.push(`${from} > ${to}: ${onLan} bytes sent, ${onWire} bytes on the wire`);
    }
  }
  return complaints;
}

function ends(session: WireSession, direction: "forward" | "reverse"): [string, string] {
  return direction === "forward" ? [session.source, session.destination] : [session.destination, session.source];
}

function count(lengths: readonly number[]): Map<number, number> {
  const counts = new Map<number, number>();
  for (const length of lengths) counts.set(length, (counts.get(length) ?? 0) + 1);
  return counts;
}

export function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}
