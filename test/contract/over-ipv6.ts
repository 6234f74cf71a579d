// The contract's frames as they are on an IPv6 wire: its two addresses are the first two names of a book.

import {
  FRAME_CHECKSUM_KNOWN,
  FRAME_CHECKSUM_PARTIAL,
  FRAME_OF_IPV6,
  type FrameBatch,
  type Port,
} from "../../lib/io/port.ts";
import { Inbound } from "../../lib/ipv6/inbound.ts";
import { Ipv6Port } from "../../lib/ipv6/ipv6-port.ts";
import { Outbound } from "../../lib/ipv6/outbound.ts";
import { AddressBook } from "../../lib/table/address-book.ts";
import { OK } from "../../lib/wire/verdict.ts";
import { DESTINATION, SOURCE } from "./frames.ts";

/** What an IPv6 header is longer than IPv4's. */
export const IPV6_GROWTH = 20;

const book = new AddressBook(1);
for (const [row, last] of [
  [SOURCE, 2],
  [DESTINATION, 3],
] as const) {
  const name = book.keep(0x2001_0db8, row[3] << 16, 0x1234_5678, last);
  if (row.some((byte, at) => byte !== ((name >>> (24 - at * 8)) & 255))) throw new Error("not the contract's address");
}
const inbound = new Inbound(book);
const outbound = new Outbound(book);

/** Says of what leaves that it is of an IPv6 session, as the engine does: of others the identification is not kept. */
class SessionsPort extends Ipv6Port {
  override tx(batch: FrameBatch, from: number, to: number): number {
    for (let i = from; i < to; i++) batch.flags[i] |= FRAME_OF_IPV6;
    return super.tx(batch, from, to);
  }
}

/** A port of the contract's frames over `beneath`, whose frames are IPv6. */
export const portOver = (beneath: Port): Port => new SessionsPort(beneath, book);

export function toWire(frame: Uint8Array, isPartial = false): Uint8Array {
  const wire = new Uint8Array(frame.length + 64);
  const flags = FRAME_OF_IPV6 | (isPartial ? FRAME_CHECKSUM_PARTIAL : 0);
  return wire.slice(0, outbound.translate(frame, 0, frame.length, flags, 0, wire, 0));
}

export function fromWire(wire: Uint8Array, isPartial = false): Uint8Array {
  const copy = wire.slice();
  const flags = FRAME_CHECKSUM_KNOWN | (isPartial ? FRAME_CHECKSUM_PARTIAL : 0);
  const verdict = inbound.translate(copy, 0, copy.length, flags, 0);
  if (verdict !== OK) throw new Error(`verdict ${verdict}`);
  return copy.slice(inbound.offset, inbound.offset + inbound.length);
}
