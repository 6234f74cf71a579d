// Fabric fragmentation with one peer (protocol sheet 8, attribute 1): a packet toward a peer that does not fit the path, because of its
// metadata or the UDP header around it, is cut here, whatever its DF says, and put together by the peer. Every piece has
// its own IP and L4 header with the session's waypoint tuple, so that NATs and firewalls pass it.
//
//   | Ethernet | IPv4 | TCP or UDP | base header 12, attribute 1: 14 | piece of the L4 payload |
//
// The last piece may begin at 65,528 at most, 13 bits of 8 bytes, and be as long as any: so what hosts may send at all crosses
// with all that routers put on it, longer than any one IP packet (wire/long-packet.ts).
//
// Checksums: every piece carries the errors of the whole packet's IP and L4 checksums (0 when they were right, as they
// almost always are), and the reassembled packet gets them back: damage is never repaired. A datagram without a checksum
// stays without.

import { getU16, setU16 } from "../base/bytes.ts";
import { FRAME_CHECKSUM_KNOWN, FRAME_LABEL, type FrameBatch } from "../io/port.ts";
import { FRAGMENT_COMPLETE, FRAGMENT_HELD, type FragmentTable } from "../table/fragment-table.ts";
import { fold, ipv4HeaderChecksum, l4Checksum, l4ChecksumOffset, l4Sum, sumWords } from "../wire/checksum.ts";
import {
  AT_END,
  AT_L3,
  AT_L4,
  AT_PAYLOAD,
  ETHERNET_HEADER,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_PROTOCOL,
  KEY_SOURCE,
  PROTOCOL_UDP,
} from "../wire/flow-key.ts";
import {
  DONT_FRAGMENT,
  FRAGMENT_OFFSET,
  IPV4_FLAGS,
  IPV4_IDENTIFICATION,
  isCongested,
  MORE_FRAGMENTS,
  setCongested,
} from "../wire/ipv4.ts";
import { GROWTH_MAX, LENGTH_MAX, lengthField } from "../wire/long-packet.ts";
import type { MetadataWriter, ParsedMetadata } from "../wire/metadata.ts";
import { ATTRIBUTE_FRAGMENT } from "../wire/metadata-attributes.ts";
import { CONSUMED, DROP_FRAGMENT_MALFORMED, OK } from "../wire/verdict.ts";
import type { Generator } from "./generate.ts";

/** Base header and attribute 1. */
const FRAGMENT_METADATA = 26;
/** Where a piece can begin. */
const OFFSET_MAX = FRAGMENT_OFFSET << 3;
/** The longest L4 payload of a packet. */
export const FABRIC_PAYLOAD_MAX = LENGTH_MAX + GROWTH_MAX;

export class FabricFragments {
  readonly table: FragmentTable;
  readonly #writer: MetadataWriter;
  readonly #generator: Generator;
  #nextId: number;
  /** The largest fragment received on this path, told to the peer so that it can guess the reverse MTU. */
  #largestSeen = 0;

  constructor(table: FragmentTable, writer: MetadataWriter, generator: Generator, firstId: number) {
    this.table = table;
    this.#writer = writer;
    this.#generator = generator;
    this.#nextId = firstId;
  }

  /**
   * Cut the packet of frame `i` to pieces that fit `mtu` and give each to `send(bytes, offset, length)`. Returns how many
   * there were, 0 when the MTU leaves no room for any payload, or for this one.
   */
  split(
    batch: FrameBatch,
    i: number,
    key: Int32Array,
    mtu: number,
    send: (bytes: Uint8Array, offset: number, length: number) => void,
  ): number {
    const { bytes } = batch;
    const headers = key[AT_PAYLOAD] - key[AT_L3];
    const room = (mtu - headers - FRAGMENT_METADATA) & ~7;
    const lastFrom = key[AT_PAYLOAD] + OFFSET_MAX;
    if (room <= 0 || key[AT_END] - lastFrom > room) return 0;
    const l3 = key[AT_L3];
    const error = checksumErrors(bytes, l3, key[AT_L4], key[AT_END]);
    const originalId = getU16(bytes, l3 + 4);
    const dontFragment = getU16(bytes, l3 + 6) & DONT_FRAGMENT;
    const id = this.#nextId;
    this.#nextId = (id + 1) | 0;
    let pieces = 0;
    for (let from = key[AT_PAYLOAD], to = from; from < key[AT_END]; from = to) {
      to = from + room >= key[AT_END] ? key[AT_END] : Math.min(from + room, lastFrom);
      const more = to < key[AT_END] ? MORE_FRAGMENTS : 0;
      const units = (from - key[AT_PAYLOAD]) >>> 3;
      this.#writer.begin();
      this.#writer.fragment(ATTRIBUTE_FRAGMENT, id, originalId, dontFragment | more | units, this.#largestSeen);
      const length = this.#writePiece(bytes, batch.offset[i], key, from, to, this.#writer.end(), error);
      send(this.#generator.bytes, this.#generator.offset, length);
      pieces++;
    }
    return pieces;
  }

  #writePiece(
    bytes: Uint8Array,
    offset: number,
    key: Int32Array,
    from: number,
    to: number,
    metadataLength: number,
    error: number,
  ): number {
    const at = this.#generator.reserve();
    const out = this.#generator.bytes;
    const payload = key[AT_PAYLOAD];
    out.set(bytes.subarray(offset, payload), at);
    out.set(this.#writer.buffer.subarray(0, metadataLength), at + payload - offset);
    out.set(bytes.subarray(from, to), at + payload - offset + metadataLength);
    const l3 = at + ETHERNET_HEADER;
    const l4 = l3 + (key[AT_L4] - key[AT_L3]);
    const end = at + (payload - offset) + metadataLength + (to - from);
    finishPacket(out, l3, l4, end, error);
    return end - at;
  }

  /**
   * Take in the fragment of frame `i`, whose parsed metadata has attribute 1. Returns OK when it completed its packet,
   * which `complete` then describes (one frame, in the fragment table's memory), CONSUMED when more is to come,
   * or a drop reason.
   */
  add(
    batch: FrameBatch,
    i: number,
    key: Int32Array,
    parsed: ParsedMetadata,
    complete: FrameBatch,
    nowMs: number,
  ): number {
    const { bytes } = batch;
    const { table } = this;
    const isUdp = (key[KEY_PROTOCOL] & 0xff) === PROTOCOL_UDP;
    const end = isUdp ? key[AT_L4] + getU16(bytes, key[AT_L4] + 4) : key[AT_END];
    const at = parsed.offsetOf(ATTRIBUTE_FRAGMENT);
    const flags = getU16(bytes, at + 6);
    const pieceOffset = (flags & FRAGMENT_OFFSET) << 3;
    const from = key[AT_PAYLOAD] + parsed.totalLength;
    const id = (getU16(bytes, at) << 16) | getU16(bytes, at + 2);
    const length = key[AT_END] - key[AT_L3];
    if (length > this.#largestSeen) this.#largestSeen = length;
    const outcome = table.add(
      key[KEY_SOURCE],
      key[KEY_DESTINATION],
      key[KEY_PORTS],
      key[KEY_PROTOCOL],
      id,
      bytes,
      from,
      end,
      pieceOffset,
      (flags & MORE_FRAGMENTS) !== 0,
      nowMs,
    );
    if (outcome !== FRAGMENT_HELD && outcome !== FRAGMENT_COMPLETE) return DROP_FRAGMENT_MALFORMED;
    if (pieceOffset === 0) {
      table.keepHeader(bytes, batch.offset[i], key[AT_PAYLOAD]);
      table.labels[table.chain] = batch.flags[i] & FRAME_LABEL;
    }
    if (isCongested(bytes, key[AT_L3])) table.congested[table.chain] = 1;
    const error = checksumErrors(bytes, key[AT_L3], key[AT_L4], key[AT_END]);
    if (error !== 0) table.accumulators[table.chain] = error;
    if (outcome === FRAGMENT_HELD) return CONSUMED;
    return this.#rebuild(getU16(bytes, at + 4), flags & DONT_FRAGMENT, complete);
  }

  #rebuild(originalId: number, dontFragment: number, complete: FrameBatch): number {
    const { table } = this;
    const headerLength = table.headerLength;
    const start = table.offset - headerLength;
    const l3 = start + ETHERNET_HEADER;
    const l4 = l3 + ((table.bytes[l3] & 15) << 2);
    const end = table.offset + table.length;
    if (headerLength === 0) return DROP_FRAGMENT_MALFORMED;
    setU16(table.bytes, l3 + IPV4_IDENTIFICATION, originalId);
    // On an IPv6 path a piece's own header does not say it.
    const field = getU16(table.bytes, l3 + IPV4_FLAGS);
    setU16(table.bytes, l3 + IPV4_FLAGS, (field & ~DONT_FRAGMENT) | dontFragment);
    if (table.congested[table.chain] !== 0) setCongested(table.bytes, l3);
    finishPacket(table.bytes, l3, l4, end, table.accumulators[table.chain]);
    complete.bytes = table.bytes;
    complete.offset[0] = start;
    complete.length[0] = end - start;
    complete.flags[0] = FRAME_CHECKSUM_KNOWN | table.labels[table.chain];
    complete.segmentSize[0] = 0;
    complete.count = 1;
    return OK;
  }
}

/** Set lengths and checksums of a packet whose headers were copied; the checksums are off by `error` (checksumErrors) on purpose. */
function finishPacket(bytes: Uint8Array, l3: number, l4: number, end: number, error: number): void {
  setU16(bytes, l3 + 2, lengthField(end - l3));
  setU16(bytes, l3 + 10, fold(ipv4HeaderChecksum(bytes, l3) + (error >>> 16)));
  const protocol = bytes[l3 + 9];
  if (protocol === PROTOCOL_UDP) {
    setU16(bytes, l4 + 4, lengthField(end - l4));
    if (getU16(bytes, l4 + 6) === 0) return;
  }
  const checksum = fold(l4Checksum(bytes, l3, l4, end) + (error & 0xffff));
  setU16(bytes, l4 + l4ChecksumOffset(protocol), checksum === 0 && protocol === PROTOCOL_UDP ? 0xffff : checksum);
}

/** How far the IPv4 header checksum (high half) and the L4 checksum (low half) are from right; 0 for one that is right or not there. */
function checksumErrors(bytes: Uint8Array, l3: number, l4: number, end: number): number {
  const header = fold(sumWords(bytes, l3, l4, 0)) % 0xffff;
  const none = bytes[l3 + 9] === PROTOCOL_UDP && getU16(bytes, l4 + 6) === 0;
  return (header << 16) | (none ? 0 : fold(l4Sum(bytes, l3, l4, end)) % 0xffff);
}
