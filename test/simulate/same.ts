// Whether what left a chain of routers is what entered it, byte for byte but for what a router has to change.

import { getI32, getU16, setU16 } from "../../lib/base/bytes.ts";
import { isChecksumPartial } from "../../lib/wire/offload.ts";
import { findMss, getTcpFlags, TCP_HEADER } from "../../lib/wire/tcp.ts";

const L3 = 14;
const SYN = 2;
const EMPTY = new Uint8Array(0);
const MSS_OPTION = Uint8Array.of(2, 4);
export const FRAME_MAX = 1514;

export const isIpv4 = (frame: Uint8Array) => frame.length >= L3 + 20 && getU16(frame, 12) === 0x0800;
export const isFragment = (frame: Uint8Array) => (getU16(frame, L3 + 6) & 0x3fff) !== 0;
const protocolOf = (frame: Uint8Array) => frame[L3 + 9];
const l4Of = (frame: Uint8Array) => L3 + (frame[L3] & 15) * 4;
const endOf = (frame: Uint8Array) => L3 + getU16(frame, L3 + 2);
const isIcmpError = (frame: Uint8Array) => protocolOf(frame) === 1 && [3, 4, 5, 11, 12].includes(frame[l4Of(frame)]);

/** Its checksum was left to hardware: a router finishes it. */
export const isUnfinished = (frame: Uint8Array) =>
  isIpv4(frame) && !isFragment(frame) && isChecksumPartial(frame, L3, l4Of(frame), endOf(frame));

/** Pieces of packets, as they came and as they left: what is behind their IPv4 headers, by packet. */
export class Pieces {
  readonly #packets = new Map<string, Uint8Array>();

  add(frame: Uint8Array): void {
    const key = `${Buffer.from(frame.subarray(L3 + 12, L3 + 20)).toString("hex")} ${protocolOf(frame)} ${getU16(frame, L3 + 4)}`;
    const at = (getU16(frame, L3 + 6) & 0x1fff) * 8;
    const bytes = frame.subarray(l4Of(frame), endOf(frame));
    const before = this.#packets.get(key) ?? EMPTY;
    const packet = new Uint8Array(Math.max(before.length, at + bytes.length));
    packet.set(before);
    packet.set(bytes, at);
    this.#packets.set(key, packet);
  }

  /** Those of these packets that are not in `came` with the same bytes. */
  unlike(came: Pieces): string[] {
    const isSame = (key: string, bytes: Uint8Array) => Buffer.compare(came.#packets.get(key) ?? EMPTY, bytes) === 0;
    return [...this.#packets].filter(([key, bytes]) => !isSame(key, bytes)).map(([key]) => key);
  }
}

/**
 * What is not the same in what `arrived` of a frame behind `routers`; undefined when all is. Packets in pieces are none of its
 * business: they may be cut otherwise. `isLong`: it is a super-frame. `isRelabelled`: it went over IPv6, where all packets of an
 * IPv4 session that may not be cut have one label, and so one identification where they leave (RFC 6864: nobody needs theirs).
 */
export function difference(
  frame: Uint8Array,
  arrived: readonly Uint8Array[],
  routers: number,
  isLong = frame.length > FRAME_MAX,
  isRelabelled = false,
): string | undefined {
  if (isFragment(frame)) return undefined;
  if (isLong) return streamDifference(frame, arrived);
  if (arrived.length !== 1) return `arrived ${arrived.length} times`;
  const compared = isIcmpError(frame) ? errorOf : packetOf;
  const [came, left] = [compared(frame, 0), compared(arrived[0], routers)];
  if (isUnfinished(frame)) for (const packet of [came, left]) forgetChecksum(packet);
  if (isRelabelled && !isIcmpError(frame) && (came[6] & 0x40) !== 0)
    for (const packet of [came, left]) setU16(packet, 4, 0);
  if (!came.equals(left)) allowChange(came, left);
  return came.equals(left) ? undefined : `${came.toString("hex")} became ${left.toString("hex")}`;
}

/** The packet as it was `routers` before, without its header checksum. */
function packetOf(frame: Uint8Array, routers: number): Buffer {
  const packet = Buffer.from(frame.subarray(L3, endOf(frame)));
  packet[8] += routers;
  setU16(packet, 10, 0);
  return packet;
}

/** An ICMP error is made anew where it leaves, with as much of the quote as routers know: its ends, type, code, and which packet of whom it quotes. */
function errorOf(frame: Uint8Array): Buffer {
  const l4 = l4Of(frame);
  const quoted = (frame[l4 + 8] & 15) * 4;
  const quote = frame.subarray(l4 + 8, l4 + 8 + quoted + 8);
  return Buffer.concat([frame.subarray(L3 + 12, L3 + 20), frame.subarray(l4, l4 + 2), quote]);
}

/** What routers change on purpose in what left: a larger MSS than what fits, and of an encrypted datagram that there is no checksum. */
function allowChange(came: Buffer, left: Buffer): void {
  const l4 = (came[0] & 15) * 4;
  if (came[9] === 17 && getU16(came, l4 + 6) === 0) setU16(left, l4 + 6, 0);
  if (came[9] !== 6 || (came[l4 + 13] & SYN) === 0) return;
  const options = { from: l4 + 20, to: l4 + (came[l4 + 12] >>> 4) * 4 };
  const at = came.subarray(0, options.to).indexOf(MSS_OPTION, options.from);
  if (at < 0 || getU16(left, at + 2) > getU16(came, at + 2)) return;
  for (const packet of [came, left]) {
    setU16(packet, at + 2, 0);
    forgetChecksum(packet);
  }
}

function forgetChecksum(packet: Buffer): void {
  setU16(packet, (packet[0] & 15) * 4 + (packet[9] === 6 ? 16 : 6), 0);
}

/** A super-frame leaves in segments: their payloads, one behind the other, are its payload. */
function streamDifference(frame: Uint8Array, arrived: readonly Uint8Array[]): string | undefined {
  const payloads = (frames: readonly Uint8Array[]) =>
    Buffer.concat(
      frames.map((each) => {
        const l4 = l4Of(each);
        return each.subarray(l4 + (protocolOf(each) === 6 ? (each[l4 + 12] >>> 4) * 4 : 8), endOf(each));
      }),
    );
  return payloads([frame]).equals(payloads(arrived)) ? undefined : "another payload in its segments";
}

/** What hosts have heard that they may send, by the SYNs that arrived: of IPv4. */
export class Asked {
  readonly #sizes = new Map<string, number>();

  hear(arrived: Uint8Array): void {
    const l4 = tcpOf(arrived);
    if (l4 >= 0 && (getTcpFlags(arrived, l4) & SYN) !== 0)
      this.#sizes.set(tupleOf(arrived, l4 + 2, l4, 30, 26), findMss(arrived, l4));
  }

  /** A super-frame although its link takes it whole: its checksum is unfinished, and it carries more than its receiver asked for. */
  isExceededBy(frame: Uint8Array): boolean {
    const l4 = tcpOf(frame);
    if (l4 < 0 || !isUnfinished(frame)) return false;
    const size = this.#sizes.get(tupleOf(frame, l4, l4 + 2, 26, 30)) ?? 0;
    return size > 0 && endOf(frame) - l4 - TCP_HEADER > size;
  }
}

/** Where the TCP header of an IPv4 packet in one piece is; -1 = it is none. */
function tcpOf(frame: Uint8Array): number {
  return isIpv4(frame) && !isFragment(frame) && protocolOf(frame) === 6 ? l4Of(frame) : -1;
}

function tupleOf(frame: Uint8Array, from: number, to: number, source: number, destination: number): string {
  return [getU16(frame, from), getU16(frame, to), getI32(frame, source), getI32(frame, destination)].join();
}
