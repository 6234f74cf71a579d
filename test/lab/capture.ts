// What the captures of a lab say: tshark reads the packets and judges every checksum; the little that tshark does not
// know (the SVR metadata header, protocol sheet 3.1 to 3.3) is read here, independently of lib/.
//
// Where frames are counted. A sending host's own capture holds super-frames with partial checksums, so lengths are
// never compared there. They are compared where every frame is one packet made by a router: on a wire, and on the
// capture of the host that receives. A datagram on a wire must have the IP length of a packet that the host received;
// metadata, which only the first packets may carry, is subtracted and reported apart. What a wire shows but no host
// received was lost on the way and is counted, not hidden. The sender's side is compared by payload bytes.
//
// Every function that judges returns its complaints as sentences; an empty list means that all holds.

import { execFile } from "node:child_process";
import { promisify } from "node:util";

const COOKIE = "4c48dbc6ddf6670c";
const COOKIE_FILTER = "4c:48:db:c6:dd:f6:67:0c";
const FRAGMENT = 1;
const FORWARD_CONTEXT = 2;
const REVERSE_CONTEXT = 4;
const UUID = 6;
const CONTROL = 24;

export const ICMP = 1;
export const TCP = 6;
export const UDP = 17;

/** Between routers ICMP travels behind a UDP header (protocol sheet 2.5). */
export const ICMP_IN_UDP_BYTES = 8;

/** A packet as tshark saw it. */
export interface Packet {
  readonly frame: number;
  readonly sourceMac: string;
  /** IP protocol; 0 for ARP, -1 for anything else that is not IPv4. */
  readonly protocol: number;
  readonly sourceAddress: string;
  readonly destinationAddress: string;
  /** `address:port`, the port being the identifier for an ICMP echo. */
  readonly source: string;
  readonly destination: string;
  readonly ipLength: number;
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
] as const;

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
    tshark(path, ["frame.number", "ip.proto", "data.data"], [...bytes, "-Y", `data.data contains ${COOKIE_FILTER}`]),
  ]);
  for (const [frame, protocol, hex] of marked) {
    const l4 = Buffer.from(hex, "hex");
    const header = readMetadata(l4.subarray(Number(protocol) === TCP ? (l4[12] >> 4) * 4 : 8));
    if (header) metadata.set(Number(frame), header);
  }
  return packets.map((row) => toPacket(row, metadata));
}

async function tshark(path: string, fields: readonly string[], options: string[]): Promise<string[][]> {
  const preferences = ["ip.check_checksum", "tcp.check_checksum", "udp.check_checksum"].map((name) => `${name}:TRUE`);
  // Only headers are wanted: nothing above the transport is guessed at, nothing is put together.
  preferences.push("tcp.analyze_sequence_numbers:FALSE", "tcp.desegment_tcp_streams:FALSE", "ip.defragment:FALSE");
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
  const isIpv4 = Number(field["eth.type"]) === 0x0800;
  const protocol = isIpv4 ? Number(field["ip.proto"]) : Number(field["eth.type"]) === 0x0806 ? 0 : -1;
  const identifier = String(Number(field["icmp.ident"]));
  const [sourcePort, destinationPort, payload, l4Status] =
    protocol === TCP
      ? [field["tcp.srcport"], field["tcp.dstport"], Number(field["tcp.len"]), field["tcp.checksum.status"]]
      : protocol === UDP
        ? [field["udp.srcport"], field["udp.dstport"], Number(field["udp.length"]) - 8, field["udp.checksum.status"]]
        : [
            identifier,
            identifier,
            Number(field["ip.len"]) - Number(field["ip.hdr_len"]),
            field["icmp.checksum.status"],
          ];
  const l4Good = l4Status === CHECKSUM_GOOD || (protocol === UDP && l4Status === CHECKSUM_ABSENT);
  return {
    frame,
    sourceMac: field["eth.src"],
    protocol,
    sourceAddress: field["ip.src"],
    destinationAddress: field["ip.dst"],
    source: `${field["ip.src"]}:${sourcePort}`,
    destination: `${field["ip.dst"]}:${destinationPort}`,
    ipLength: Number(field["ip.len"]),
    payloadLength: payload,
    tcpFlags: Number(field["tcp.flags"]),
    checksumsGood: !isIpv4 || (field["ip.checksum.status"] === CHECKSUM_GOOD && l4Good),
    isMangled: isMangled(field),
    metadata: metadata.get(frame),
  };
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
    const context = metadata?.attributes.get(FORWARD_CONTEXT);
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
    if (uuid !== undefined && !metadata?.attributes.has(forward ? FORWARD_CONTEXT : REVERSE_CONTEXT)) {
      complaints.push(`frame ${packet.frame}: ${forward ? "forward" : "reverse"} metadata without its context`);
    }
    const fragmentKey = fragment && `${key} ${packet.source} ${fragment.readUInt32BE(0)}`;
    let datagram = fragmentKey === undefined ? undefined : partial.get(fragmentKey);
    if (datagram === undefined) {
      const headers = packet.ipLength - packet.payloadLength;
      datagram = { frames: [], wireBytes: 0, metadataBytes: 0, length: headers, payloadLength: 0, control: false };
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
  const address = (at: number) => context.subarray(at, at + 4).join(".");
  return {
    uuid,
    protocol: context[12],
    source: `${address(0)}:${context.readUInt16BE(8)}`,
    destination: `${address(4)}:${context.readUInt16BE(10)}`,
    waypoint: { initiator: lead.source, responder: lead.destination },
    forward: [],
    reverse: [],
  };
}

/** Packets by the hosts' flow, `flowName` of it. */
export function lanFlows(packets: readonly Packet[]): Map<string, Packet[]> {
  const flows = new Map<string, Packet[]>();
  for (const packet of packets) {
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

/** Complaints about anything on a wire but ARP and IPv4 between its two waypoint addresses, by TCP or UDP. */
export function addressComplaints(packets: readonly Packet[], addresses: readonly [string, string]): string[] {
  const [left, right] = addresses;
  return packets
    .filter(({ protocol, sourceAddress: from, destinationAddress: to }) => {
      const between = (from === left && to === right) || (from === right && to === left);
      return protocol !== 0 && !(between && (protocol === TCP || protocol === UDP));
    })
    .map((packet) => `frame ${packet.frame}: ${packet.protocol} ${packet.source} > ${packet.destination}`);
}

/** Complaints about waypoint ports: the initiator's is even, the responder's odd, both in 16384..65534. */
export function portComplaints(sessions: readonly WireSession[]): string[] {
  return sessions
    .filter(({ waypoint }) => {
      const [local, remote] = [waypoint.initiator, waypoint.responder].map((end) => Number(end.split(":")[1]));
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
    const extra = session.protocol === ICMP ? ICMP_IN_UDP_BYTES : 0;
    for (const direction of ["forward", "reverse"] as const) {
      const [from, to] = ends(session, direction);
      const wire = count(session[direction].filter((one) => !one.control).map((one) => one.length - extra));
      for (const { frame, ipLength } of received.get(flowName(session.protocol, from, to)) ?? []) {
        const left = wire.get(ipLength) ?? 0;
        if (left === 0) complaints.push(`${from} > ${to}: LAN frame ${frame} of ${ipLength} bytes is not on the wire`);
        wire.set(ipLength, left - 1);
        compared++;
      }
      for (const [length, left] of wire) {
        lost += Math.max(left, 0);
        lostBytes += Math.max(left, 0) * (length + extra);
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
