// Sessions without their hosts: a port that makes the clients' packets as they are asked for, and one that plays the
// far router and the servers behind it. Nothing is kept per session, so that a million of them cost the bench nothing
// and what a process holds is the router's.

import { getI32, getU16 } from "../lib/base/bytes.ts";
import { emptyStats, type FrameBatch, HEADROOM, type Port, type PortInfo, type PortStats } from "../lib/io/port.ts";
import { writeEthernet } from "../lib/wire/ethernet.ts";
import { ETHERNET_HEADER, ETHERTYPE_IPV4, PROTOCOL_TCP, PROTOCOL_UDP, startsWithCookie } from "../lib/wire/flow-key.ts";
import { DONT_FRAGMENT, IPV4_HEADER, writeIpv4 } from "../lib/wire/ipv4.ts";
import { MetadataWriter, ParsedMetadata, parseMetadata } from "../lib/wire/metadata.ts";
import {
  ATTRIBUTE_DESTINATION_ROUTER,
  ATTRIBUTE_FORWARD_CONTEXT_IPV4,
  ATTRIBUTE_PATH_ID,
  ATTRIBUTE_REVERSE_CONTEXT_IPV4,
  ATTRIBUTE_SECURITY_ID,
  ATTRIBUTE_UUID,
} from "../lib/wire/metadata-attributes.ts";
import { completeChecksum } from "../lib/wire/offload.ts";
import { ACK, FIN, getTcpFlags, getTcpHeaderLength, SYN, TCP_HEADER, writeTcp } from "../lib/wire/tcp.ts";
import { UDP_HEADER, writeUdp } from "../lib/wire/udp.ts";
import { OK } from "../lib/wire/verdict.ts";
import { CLIENT_FIRST, SERVER_FIRST } from "./traffic.ts";

const CLIENTS = 1 << 16;
const SERVERS = 251;
const SERVER_PORT = 5000;
const SLOTS = 256;
const SLOT_BYTES = HEADROOM + 320;
const FRAME_MIN = 60;

/** Whoever is next to the router: the answering port's rule for MAC addresses, first two bytes. */
const STATION_HIGH = 0x0200;

const none = new Uint8Array(0);

/** Write a whole frame at `at`: TCP with `flags`, or UDP, with `length` bytes of `payload`. Returns its length. */
function writeFrame(
  bytes: Uint8Array,
  at: number,
  mac: Uint8Array,
  protocol: number,
  source: number,
  destination: number,
  ports: number,
  flags: number,
  payload: Uint8Array,
  length: number,
): number {
  const tcp = protocol === PROTOCOL_TCP;
  const packet = IPV4_HEADER + (tcp ? TCP_HEADER : UDP_HEADER) + length;
  writeEthernet(bytes, at, getU16(mac, 0), getI32(mac, 2), STATION_HIGH, source, ETHERTYPE_IPV4);
  const l4 = writeIpv4(bytes, at + ETHERNET_HEADER, 0, packet, 0, DONT_FRAGMENT, 64, protocol, source, destination);
  const [from, to] = [ports >>> 16, ports & 0xffff];
  const body = tcp ? writeTcp(bytes, l4, from, to, 1, 1, flags, 8192) : writeUdp(bytes, l4, from, to, packet - 20);
  for (let i = 0; i < length; i++) bytes[body + i] = payload[i];
  bytes.fill(0, body + length, at + FRAME_MIN);
  completeChecksum(bytes, at);
  return Math.max(FRAME_MIN, packet + ETHERNET_HEADER);
}

/** A port whose frames are made when the engine asks for them; what it sends is counted and looked at. */
abstract class MadePort implements Port {
  readonly #info: PortInfo;
  protected readonly bytes = new Uint8Array(SLOTS * SLOT_BYTES);
  protected readonly mac: Uint8Array;
  readonly #lengths = new Int32Array(SLOTS);
  #first = 0;
  #waiting = 0;
  sentFrames = 0;

  constructor(name: string, mac: Uint8Array) {
    this.#info = { name, mac, mtu: 1500, linkUp: true };
    this.mac = mac;
  }

  info(): PortInfo {
    return this.#info;
  }

  rx(batch: FrameBatch): number {
    this.refill(Math.min(batch.capacity, SLOTS));
    const count = Math.min(this.#waiting, batch.capacity);
    batch.bytes = this.bytes;
    batch.count = count;
    for (let i = 0; i < count; i++) {
      const slot = (this.#first + i) % SLOTS;
      batch.offset[i] = slot * SLOT_BYTES + HEADROOM;
      batch.length[i] = this.#lengths[slot];
      batch.flags[i] = 0;
      batch.segmentSize[i] = 0;
    }
    this.#first = (this.#first + count) % SLOTS;
    this.#waiting -= count;
    return count;
  }

  tx(batch: FrameBatch, from: number, to: number): number {
    for (let i = from; i < to; i++) this.sent(batch.bytes, batch.offset[i], batch.length[i]);
    this.sentFrames += to - from;
    return to - from;
  }

  stats(): PortStats {
    return { ...emptyStats(), txFrames: this.sentFrames };
  }

  close(): void {}

  /** Have a frame wait. */
  protected put(
    protocol: number,
    source: number,
    destination: number,
    ports: number,
    flags: number,
    payload: Uint8Array,
    length: number,
  ): void {
    if (this.#waiting === SLOTS) throw new Error("more frames wait than the port has slots");
    const slot = (this.#first + this.#waiting++) % SLOTS;
    const at = slot * SLOT_BYTES + HEADROOM;
    this.#lengths[slot] = writeFrame(
      this.bytes,
      at,
      this.mac,
      protocol,
      source,
      destination,
      ports,
      flags,
      payload,
      length,
    );
  }

  /** Put up to `room` frames, as the engine is about to receive. */
  protected refill(_room: number): void {}

  protected sent(_bytes: Uint8Array, _offset: number, _length: number): void {}
}

/** The LAN of the sessions' clients. Session s has addresses and ports of its own, the same whenever it is named. */
export class ClientPort extends MadePort {
  #next = 0;
  #end = 0;
  #protocol = PROTOCOL_UDP;
  #flags = 0;

  /** Have one packet of each of the sessions `first` to `end` - 1 wait. `flags` are TCP's. */
  offer(protocol: number, first: number, end: number, flags = 0): void {
    this.#protocol = protocol;
    this.#next = first;
    this.#end = end;
    this.#flags = flags;
  }

  protected override refill(room: number): void {
    for (let n = 0; n < room && this.#next < this.#end; n++) {
      const s = this.#next++;
      const client = CLIENT_FIRST + 2 + (s % CLIENTS);
      const ports = ((1024 + Math.floor(s / CLIENTS)) << 16) | SERVER_PORT;
      this.put(this.#protocol, client, SERVER_FIRST + 2 + (s % SERVERS), ports, this.#flags, none, 0);
    }
  }
}

/** The far router: answers forward metadata with reverse metadata, a SYN with a SYN, a FIN with a FIN. */
export class PeerPort extends MadePort {
  readonly #parsed = new ParsedMetadata();
  readonly #writer = new MetadataWriter(new Uint8Array(256));
  readonly #uuid = new Int32Array(4);
  /** When false, nothing is answered. */
  answers = true;

  protected override sent(bytes: Uint8Array, offset: number): void {
    if (!this.answers || getU16(bytes, offset + 12) !== ETHERTYPE_IPV4) return;
    const l3 = offset + ETHERNET_HEADER;
    const l4 = l3 + IPV4_HEADER;
    const end = l3 + getU16(bytes, l3 + 2);
    const protocol = bytes[l3 + 9];
    const tcp = protocol === PROTOCOL_TCP;
    const payload = l4 + (tcp ? getTcpHeaderLength(bytes, l4) : UDP_HEADER);
    const flags = tcp ? getTcpFlags(bytes, l4) & (SYN | FIN) : 0;
    const length = startsWithCookie(bytes, payload, end) ? this.#metadata(bytes, payload, end) : 0;
    if (length === 0 && flags === 0) return;
    const ports = (getU16(bytes, l4 + 2) << 16) | getU16(bytes, l4);
    const [source, destination] = [getI32(bytes, l3 + 16), getI32(bytes, l3 + 12)];
    this.put(protocol, source, destination, ports, flags | ACK, this.#writer.buffer, length);
  }

  /** Write what answers the metadata at bytes[at..end). Returns its length, 0 where there is nothing to answer. */
  #metadata(bytes: Uint8Array, at: number, end: number): number {
    const parsed = this.#parsed;
    if (parseMetadata(bytes, at, end, parsed) !== OK || !parsed.has(ATTRIBUTE_FORWARD_CONTEXT_IPV4)) return 0;
    const context = parsed.offsetOf(ATTRIBUTE_FORWARD_CONTEXT_IPV4);
    const uuid = parsed.offsetOf(ATTRIBUTE_UUID);
    for (let i = 0; i < 4; i++) this.#uuid[i] = getI32(bytes, uuid + i * 4);
    const writer = this.#writer;
    writer.begin();
    writer.u32(ATTRIBUTE_SECURITY_ID, 0);
    writer.contextIpv4(
      ATTRIBUTE_REVERSE_CONTEXT_IPV4,
      getI32(bytes, context + 4),
      getI32(bytes, context),
      (getU16(bytes, context + 10) << 16) | getU16(bytes, context + 8),
      bytes[context + 12],
    );
    writer.uuid(ATTRIBUTE_UUID, this.#uuid, 0);
    writer.text(ATTRIBUTE_DESTINATION_ROUTER, EAST);
    writer.text(ATTRIBUTE_PATH_ID, PATH);
    return writer.end();
  }
}

const EAST = new TextEncoder().encode("east");
const PATH = new TextEncoder().encode("198.18.0.2");
