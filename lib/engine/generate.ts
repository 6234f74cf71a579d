// Packets the router makes itself: ARP, TCP resets, ICMP time exceeded, and the packets that carry metadata or a
// control message between routers for want of traffic. All are written to one scratch memory in a ring of slots, so
// that several can be queued before a flush.

import { getI32, getU16, setU16, setU32 } from "../base/bytes.ts";
import { HEADROOM, TAILROOM } from "../io/port.ts";
import { ARP_REQUEST, writeArp } from "../wire/arp.ts";
import { applyDelta, deltaU16 } from "../wire/checksum.ts";
import {
  BROADCAST_HIGH,
  BROADCAST_LOW,
  ETHERNET_SOURCE,
  getMacHigh,
  getMacLow,
  writeEthernet,
} from "../wire/ethernet.ts";
import {
  AT_END,
  AT_L3,
  AT_L4,
  AT_PAYLOAD,
  ETHERNET_HEADER,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_SOURCE,
  PROTOCOL_ICMP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
} from "../wire/flow-key.ts";
import { writeIcmp, writeIcmpEchoReply } from "../wire/icmp.ts";
import {
  DONT_FRAGMENT,
  IPV4_CHECKSUM,
  IPV4_DESTINATION,
  IPV4_HEADER,
  IPV4_SOURCE,
  IPV4_TTL,
  writeIpv4,
} from "../wire/ipv4.ts";
import { writeLongest } from "../wire/long-packet.ts";
import { completeChecksum } from "../wire/offload.ts";
import {
  ACK,
  FIN,
  getTcpAcknowledgment,
  getTcpFlags,
  getTcpSequence,
  RST,
  SYN,
  TCP_HEADER,
  writeTcp,
} from "../wire/tcp.ts";
import { UDP_HEADER, writeUdp } from "../wire/udp.ts";

const SLOTS = 256;
const TTL = 64;
/** Of segments that are to look like a host's. */
const TEST_WINDOW = 64_240;
/** RFC 1812 4.3.2.3: as much of the packet as fits 576 bytes; the header and 8 bytes are what every sender needs. */
const ICMP_QUOTE_MAX = 576 - IPV4_HEADER - 8;
/** ICMP errors and resets sent per second at most, all interfaces together (RFC 1812 4.3.2.8). */
const ANSWERS_PER_SECOND = 1000;

export class Generator {
  readonly bytes: Uint8Array;
  /** Where the frame made last lies in `bytes`. */
  offset = 0;
  length = 0;
  #slot = 0;
  #answersLeft = ANSWERS_PER_SECOND;
  #answersSinceMs = 0;
  /** The longest frame that has room in a slot. */
  readonly frameBytesMax: number;
  readonly #slotBytes: number;
  readonly #flush: () => void;
  readonly #withheld: () => void;

  /**
   * Frames of up to `frameBytesMax`; `flush` sends what is queued, and is called before a slot is used again; `withheld`
   * is called for each answer that is not given because there were too many.
   */
  constructor(frameBytesMax: number, flush: () => void, withheld: () => void = () => {}) {
    this.#withheld = withheld;
    this.frameBytesMax = frameBytesMax;
    this.#slotBytes = (HEADROOM + frameBytesMax + 63) & ~63;
    this.bytes = new Uint8Array(SLOTS * this.#slotBytes + TAILROOM);
    this.#flush = flush;
  }

  /** An ARP message from `sender`. Requests go to `targetHigh:targetLow` (broadcast when 0), replies to the asker. */
  arp(
    operation: number,
    macHigh: number,
    macLow: number,
    sender: number,
    targetHigh: number,
    targetLow: number,
    target: number,
  ): void {
    const at = this.#next();
    const broadcast = operation === ARP_REQUEST && targetHigh === 0 && targetLow === 0;
    const body = writeEthernet(
      this.bytes,
      at,
      broadcast ? BROADCAST_HIGH : targetHigh,
      broadcast ? BROADCAST_LOW : targetLow,
      macHigh,
      macLow,
      ETHERTYPE_ARP,
    );
    const asks = operation === ARP_REQUEST;
    this.length =
      writeArp(
        this.bytes,
        body,
        operation,
        macHigh,
        macLow,
        sender,
        asks ? 0 : targetHigh,
        asks ? 0 : targetLow,
        target,
      ) - at;
  }

  /**
   * A packet without payload of its own for a session between routers: `metadata`'s first `metadataLength` bytes behind
   * a TCP (ACK, the given numbers) or UDP header. The Ethernet addresses are left to the egress.
   */
  carrier(
    protocol: number,
    source: number,
    destination: number,
    ports: number,
    sequence: number,
    acknowledgment: number,
    metadata: Uint8Array,
    metadataLength: number,
  ): void {
    const at = this.#next();
    const { bytes } = this;
    const l3 = writeEthernet(bytes, at, 0, 0, 0, 0, ETHERTYPE_IPV4);
    const l4Length = (protocol === PROTOCOL_TCP ? TCP_HEADER : UDP_HEADER) + metadataLength;
    const l4 = writeIpv4(bytes, l3, 0, IPV4_HEADER + l4Length, 0, DONT_FRAGMENT, TTL, protocol, source, destination);
    const payload =
      protocol === PROTOCOL_TCP
        ? writeTcp(bytes, l4, ports >>> 16, ports & 0xffff, sequence, acknowledgment, ACK, 0)
        : writeUdp(bytes, l4, ports >>> 16, ports & 0xffff, l4Length);
    for (let i = 0; i < metadataLength; i++) bytes[payload + i] = metadata[i];
    this.length = payload + metadataLength - at;
    completeChecksum(bytes, at);
  }

  /** A datagram with the first `length` bytes of `payload`. The Ethernet addresses are left to the egress. */
  datagram(
    source: number,
    destination: number,
    ports: number,
    tos: number,
    ttl: number,
    payload: Uint8Array,
    from: number,
    length: number,
  ): void {
    const at = this.#next();
    const { bytes } = this;
    const l3 = writeEthernet(bytes, at, 0, 0, 0, 0, ETHERTYPE_IPV4);
    const l4Length = UDP_HEADER + length;
    const l4 = writeIpv4(
      bytes,
      l3,
      tos,
      IPV4_HEADER + l4Length,
      0,
      DONT_FRAGMENT,
      ttl,
      PROTOCOL_UDP,
      source,
      destination,
    );
    const body = writeUdp(bytes, l4, ports >>> 16, ports & 0xffff, l4Length);
    for (let i = 0; i < length; i++) bytes[body + i] = payload[from + i];
    this.length = body + length - at;
    completeChecksum(bytes, at);
  }

  /** A TCP segment with the first `length` bytes of `payload`. The Ethernet addresses are left to the egress. */
  segment(
    source: number,
    destination: number,
    ports: number,
    tos: number,
    sequence: number,
    acknowledgment: number,
    flags: number,
    payload: Uint8Array,
    length: number,
  ): void {
    const at = this.#next();
    const { bytes } = this;
    const l3 = writeEthernet(bytes, at, 0, 0, 0, 0, ETHERTYPE_IPV4);
    const total = IPV4_HEADER + TCP_HEADER + length;
    const l4 = writeIpv4(bytes, l3, tos, total, 0, DONT_FRAGMENT, TTL, PROTOCOL_TCP, source, destination);
    const body = writeTcp(bytes, l4, ports >>> 16, ports & 0xffff, sequence, acknowledgment, flags, TEST_WINDOW);
    for (let i = 0; i < length; i++) bytes[body + i] = payload[i];
    this.length = body + length - at;
    completeChecksum(bytes, at);
  }

  /** The reset that answers a TCP segment of no session (RFC 9293 3.10.7.1), back to the station it came from. False when it is a reset itself, or too many were sent. */
  reset(frame: Uint8Array, frameOffset: number, key: Int32Array, nowMs: number): boolean {
    const from = key[AT_L4];
    const flags = getTcpFlags(frame, from);
    if ((flags & RST) !== 0 || !this.mayAnswer(nowMs)) return false;
    const at = this.#next();
    const { bytes } = this;
    const l3 = this.#backTo(frame, frameOffset, at);
    const l4 = writeIpv4(
      bytes,
      l3,
      0,
      IPV4_HEADER + TCP_HEADER,
      0,
      DONT_FRAGMENT,
      TTL,
      PROTOCOL_TCP,
      key[KEY_DESTINATION],
      key[KEY_SOURCE],
    );
    const ports = key[KEY_PORTS];
    const acknowledges = (flags & ACK) !== 0;
    const length = key[AT_END] - key[AT_PAYLOAD] + ((flags & SYN) !== 0 ? 1 : 0) + ((flags & FIN) !== 0 ? 1 : 0);
    this.length =
      writeTcp(
        bytes,
        l4,
        ports & 0xffff,
        ports >>> 16,
        acknowledges ? getTcpAcknowledgment(frame, from) : 0,
        acknowledges ? 0 : getTcpSequence(frame, from) + length,
        acknowledges ? RST : RST | ACK,
        0,
      ) - at;
    completeChecksum(bytes, at);
    return true;
  }

  /** An ICMP message, the first `length` bytes of `message`, checksum and all. The Ethernet addresses are left to the egress. */
  icmp(source: number, destination: number, ttl: number, message: Uint8Array, length: number): void {
    const at = this.#next();
    const { bytes } = this;
    const l3 = writeEthernet(bytes, at, 0, 0, 0, 0, ETHERTYPE_IPV4);
    const l4 = writeIpv4(bytes, l3, 0, IPV4_HEADER + length, 0, 0, ttl, PROTOCOL_ICMP, source, destination);
    for (let i = 0; i < length; i++) bytes[l4 + i] = message[i];
    this.length = l4 + length - at;
  }

  /** An ICMP error (RFC 792) about a packet, from our address `source`, back to the station it came from. */
  errorBack(
    type: number,
    code: number,
    frame: Uint8Array,
    frameOffset: number,
    key: Int32Array,
    source: number,
    nowMs: number,
  ): boolean {
    if (!this.mayAnswer(nowMs)) return false;
    const at = this.#next();
    const { bytes } = this;
    const quoted = Math.min(key[AT_END] - key[AT_L3], ICMP_QUOTE_MAX);
    const l3 = this.#backTo(frame, frameOffset, at);
    const l4 = writeIpv4(bytes, l3, 0, IPV4_HEADER + 8 + quoted, 0, 0, TTL, PROTOCOL_ICMP, source, key[KEY_SOURCE]);
    for (let i = 0; i < quoted; i++) bytes[l4 + 8 + i] = frame[key[AT_L3] + i];
    writeLongest(bytes, l4 + 8);
    writeIcmp(bytes, l4, type, code, 0, l4 + 8 + quoted);
    this.length = l4 + 8 + quoted - at;
    return true;
  }

  /** The reply to an echo request for one of our addresses (RFC 1122 3.2.2.6), back to the station it came from. A damaged request's reply is as damaged. */
  echoReply(frame: Uint8Array, frameOffset: number, key: Int32Array, nowMs: number): boolean {
    const length = key[AT_END] - frameOffset;
    if (length > this.#slotBytes - HEADROOM || !this.mayAnswer(nowMs)) return false;
    const at = this.#next();
    const { bytes } = this;
    const l3 = this.#backTo(frame, frameOffset, at);
    for (let i = 0; i < length - ETHERNET_HEADER; i++) bytes[l3 + i] = frame[key[AT_L3] + i];
    // Swapped addresses add up to what they did before; the TTL is ours, not what was left of the request's.
    setU16(
      bytes,
      l3 + IPV4_CHECKSUM,
      applyDelta(getU16(bytes, l3 + IPV4_CHECKSUM), deltaU16(bytes[l3 + IPV4_TTL] << 8, TTL << 8)),
    );
    bytes[l3 + IPV4_TTL] = TTL;
    setU32(bytes, l3 + IPV4_SOURCE, key[KEY_DESTINATION]);
    setU32(bytes, l3 + IPV4_DESTINATION, key[KEY_SOURCE]);
    writeIcmpEchoReply(bytes, l3 + key[AT_L4] - key[AT_L3]);
    this.length = length;
    return true;
  }

  /** Room for one more frame of the caller's making, with headroom in front. Sets `offset`. */
  reserve(): number {
    return this.#next();
  }

  #next(): number {
    this.#slot = (this.#slot + 1) % SLOTS;
    if (this.#slot === 0) this.#flush();
    this.offset = this.#slot * this.#slotBytes + HEADROOM;
    return this.offset;
  }

  /** An Ethernet header from us to whoever sent `frame`. */
  #backTo(frame: Uint8Array, frameOffset: number, at: number): number {
    return writeEthernet(
      this.bytes,
      at,
      getMacHigh(frame, frameOffset + ETHERNET_SOURCE),
      getMacLow(frame, frameOffset + ETHERNET_SOURCE),
      getU16(frame, frameOffset),
      getI32(frame, frameOffset + 2),
      ETHERTYPE_IPV4,
    );
  }

  /** Whether one more answer may be given in this second; it is counted as given, or as withheld. */
  mayAnswer(nowMs: number): boolean {
    if (nowMs - this.#answersSinceMs >= 1000) {
      this.#answersSinceMs = nowMs;
      this.#answersLeft = ANSWERS_PER_SECOND;
    }
    if (this.#answersLeft > 0) return this.#answersLeft-- > 0;
    this.#withheld();
    return false;
  }
}
