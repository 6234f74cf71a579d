// IP fragments (RFC 791, and RFC 8200 in the router's own form): those that come are put together before anybody looks for their session, and packets that are too long
// for the network they leave by, and may be fragmented, are cut. Each piece has the header with all its options; the checksum of
// what is inside is whole before that, right or wrong.

import { getI32, getU16, setU16 } from "../base/bytes.ts";
import { FRAME_CHECKSUM_KNOWN, FRAME_LABEL, type FrameBatch } from "../io/port.ts";
import { ofPieces, toPieces } from "../ipv6/icmp-echo.ts";
import { addressBook, isName } from "../table/address-book.ts";
import type { CounterSet } from "../table/counter-set.ts";
import { FRAGMENT_COMPLETE, FRAGMENT_HELD, type FragmentTable } from "../table/fragment-table.ts";
import { ipv4HeaderChecksum, ipv4HeaderIsRight } from "../wire/checksum.ts";
import { AT_END, AT_L3, AT_L4, ETHERNET_HEADER, KEY_DESTINATION, KEY_PROTOCOL, KEY_SOURCE } from "../wire/flow-key.ts";
import {
  FRAGMENT_OFFSET,
  IPV4_CHECKSUM,
  IPV4_FLAGS,
  IPV4_IDENTIFICATION,
  IPV4_PROTOCOL,
  IPV4_SOURCE,
  IPV4_TOTAL_LENGTH,
  isCongested,
  MORE_FRAGMENTS,
  setCongested,
} from "../wire/ipv4.ts";
import { HeaderWalk, walkFrom } from "../wire/ipv6.ts";
import { LENGTH_MAX, lengthField } from "../wire/long-packet.ts";
import {
  CONSUMED,
  DROP_ICMP_TYPE,
  DROP_IP_CHECKSUM,
  DROP_IP_FRAGMENT,
  DROP_IP_FRAGMENT_FULL,
  OK,
} from "../wire/verdict.ts";
import { dropCounter } from "./counters.ts";
import type { Generator } from "./generate.ts";

export class IpFragments {
  readonly table: FragmentTable;
  readonly #counters: CounterSet;
  readonly #walk = new HeaderWalk();

  constructor(table: FragmentTable, counters: CounterSet) {
    this.table = table;
    this.#counters = counters;
  }

  /**
   * Take in the fragment of frame `i`. OK when it completed its packet, which is then the one frame of `complete`, in the
   * table's memory until the next fragment; CONSUMED when more is to come; or why it is dropped.
   */
  add(batch: FrameBatch, i: number, key: Int32Array, complete: FrameBatch, nowMs: number): number {
    const { bytes } = batch;
    const { table } = this;
    const l3 = key[AT_L3];
    if (!ipv4HeaderIsRight(bytes, l3)) return DROP_IP_CHECKSUM;
    const word = getU16(bytes, l3 + IPV4_FLAGS);
    const at = (word & FRAGMENT_OFFSET) << 3;
    const id = getU16(bytes, l3 + IPV4_IDENTIFICATION);
    const more = (word & MORE_FRAGMENTS) !== 0;
    const [source, destination, protocol] = [key[KEY_SOURCE], key[KEY_DESTINATION], key[KEY_PROTOCOL]];
    const outcome = table.add(
      source,
      destination,
      0,
      protocol,
      id,
      bytes,
      key[AT_L4],
      key[AT_END],
      at,
      more,
      nowMs,
      !isName(source),
    );
    this.#counters.add(dropCounter(DROP_IP_FRAGMENT_FULL), table.displaced);
    if (outcome !== FRAGMENT_HELD && outcome !== FRAGMENT_COMPLETE) return DROP_IP_FRAGMENT;
    if (at === 0) {
      table.keepHeader(bytes, batch.offset[i], key[AT_L4]);
      table.labels[table.chain] = batch.flags[i] & FRAME_LABEL;
    }
    if (isCongested(bytes, l3)) table.congested[table.chain] = 1;
    return outcome === FRAGMENT_HELD ? CONSUMED : this.#rebuild(complete);
  }

  #rebuild(complete: FrameBatch): number {
    const { bytes, offset, length, headerLength } = this.table;
    const removed = this.#removeHeaders(offset - headerLength, offset, offset + length);
    if (removed < 0) return DROP_IP_FRAGMENT;
    const start = offset - headerLength + removed;
    const l3 = start + ETHERNET_HEADER;
    const total = offset + length - l3;
    // IPv6 has its own length of all but the first header.
    const isLong = total > LENGTH_MAX;
    if (isLong && !isName(getI32(bytes, l3 + IPV4_SOURCE))) return DROP_IP_FRAGMENT;
    setU16(bytes, l3 + IPV4_TOTAL_LENGTH, lengthField(total));
    if (this.table.congested[this.table.chain] !== 0) setCongested(bytes, l3);
    // What came in pieces may leave in pieces, whatever their DF said of cutting them again: their sender cannot make them smaller.
    setU16(bytes, l3 + IPV4_FLAGS, 0);
    setU16(bytes, l3 + IPV4_CHECKSUM, ipv4HeaderChecksum(bytes, l3));
    if (!ofPieces(addressBook, bytes, l3, offset + length)) return DROP_ICMP_TYPE;
    complete.bytes = bytes;
    complete.offset[0] = start;
    complete.length[0] = offset + length - start;
    complete.flags[0] = (isLong ? FRAME_CHECKSUM_KNOWN : 0) | this.table.labels[this.table.chain];
    complete.segmentSize[0] = 0;
    complete.count = 1;
    return OK;
  }

  /**
   * What an IPv6 host has cut along with the rest: extension headers from `at` on, the frame being bytes[start..end) of the
   * table's memory. The headers in front of them move up to what is behind. Returns by how much; -1 = they are none.
   */
  #removeHeaders(start: number, at: number, end: number): number {
    const { bytes } = this.table;
    const l3 = start + ETHERNET_HEADER;
    if (!isName(getI32(bytes, l3 + IPV4_SOURCE))) return 0;
    const walk = this.#walk;
    if (walkFrom(bytes, l3, l3 + IPV4_PROTOCOL, at, end, walk) !== OK) return -1;
    const removed = walk.l4 - at;
    if (removed === 0) return 0;
    bytes[l3 + IPV4_PROTOCOL] = walk.protocol;
    bytes.copyWithin(start + removed, start, at);
    return removed;
  }
}

/**
 * Cut the packet of frame `i` to fragments of `mtu` bytes at most, and hand each to `send`: in the generator's memory, until its
 * slot comes round. Returns how many; 0 = there is no room for 8 bytes behind the header.
 */
export function fragmentPacket(
  generator: Generator,
  batch: FrameBatch,
  i: number,
  key: Int32Array,
  mtu: number,
  send: (bytes: Uint8Array, offset: number, length: number) => void,
): number {
  const { bytes } = batch;
  const [l3, l4, end] = [key[AT_L3], key[AT_L4], key[AT_END]];
  toPieces(addressBook, bytes, l3, end);
  const room = (mtu - (l4 - l3)) & ~7;
  if (room <= 0) return 0;
  const offset = batch.offset[i];
  let pieces = 0;
  for (let from = l4; from < end; from += room) {
    const to = Math.min(from + room, end);
    const at = generator.reserve();
    const out = generator.bytes;
    out.set(bytes.subarray(offset, l4), at);
    out.set(bytes.subarray(from, to), at + l4 - offset);
    const header = at + l3 - offset;
    setU16(out, header + IPV4_TOTAL_LENGTH, l4 - l3 + to - from);
    setU16(out, header + IPV4_FLAGS, (to < end ? MORE_FRAGMENTS : 0) | ((from - l4) >>> 3));
    setU16(out, header + IPV4_CHECKSUM, ipv4HeaderChecksum(out, header));
    send(out, at, l4 - offset + to - from);
    pieces++;
  }
  return pieces;
}
