// A BenchPort whose frames are IPv6: those of the same traffic, with addresses of one prefix that changes no checksum
// (RFC 6052, 4.1). Lending one restores 16 words, five more than of IPv4.

import { getU16, setU16 } from "../lib/base/bytes.ts";
import type { FrameBatch } from "../lib/io/port.ts";
import { BenchPort } from "./bench-port.ts";
import { ROW_LEAD, ROW_WORDS, type Traffic } from "./traffic.ts";

const SLOTS = 256;
const SLOT_WORDS = 512;
const HEADROOM_WORDS = 64;
/** Ethernet, IPv6 and UDP headers, and what a row has in front of them. */
const HEAD_WORDS = 16;
const L3 = 14;
/** 0x2001 + 0x0db8 + 0xd246 = 0xffff. */
export const PREFIX = [0x20, 0x01, 0x0d, 0xb8, 0xd2, 0x46, 0, 0, 0, 0, 0, 0];
const GROWTH = 20;

export class Ipv6BenchPort extends BenchPort {
  readonly #words = new Int32Array(SLOTS * SLOT_WORDS);
  readonly #bytes = new Uint8Array(this.#words.buffer);
  #of: Traffic | null = null;
  #heads = new Int32Array(0);
  #next = 0;
  #left = 0;

  override offer(traffic: Traffic, packets: number): void {
    if (traffic !== this.#of) {
      this.#heads = headsOf(traffic);
      this.#next = 0;
    }
    this.#of = traffic;
    this.#left = packets;
  }

  override rx(batch: FrameBatch): number {
    const traffic = this.#of;
    const count = Math.min(this.#left, batch.capacity, SLOTS);
    batch.bytes = this.#bytes;
    batch.count = count;
    if (traffic === null || count === 0) return 0;
    const { length, order } = traffic;
    const words = this.#words;
    const heads = this.#heads;
    let next = this.#next;
    for (let i = 0; i < count; i++) {
      const session = order[next++];
      if (next === order.length) next = 0;
      const to = i * SLOT_WORDS + HEADROOM_WORDS;
      const from = session * HEAD_WORDS;
      for (let w = 0; w < HEAD_WORDS; w++) words[to + w] = heads[from + w];
      batch.offset[i] = to * 4 + ROW_LEAD;
      batch.length[i] = length[session] + GROWTH;
      batch.flags[i] = 0;
      batch.segmentSize[i] = 0;
    }
    this.#next = next;
    this.#left -= count;
    return count;
  }
}

function headsOf({ sessions, heads }: Traffic): Int32Array<ArrayBuffer> {
  const made = new Int32Array(sessions * HEAD_WORDS);
  const rows = new Uint8Array(heads.buffer, heads.byteOffset, heads.byteLength);
  const bytes = new Uint8Array(made.buffer);
  for (let session = 0; session < sessions; session++) {
    const from = rows.subarray(session * ROW_WORDS * 4 + ROW_LEAD, (session + 1) * ROW_WORDS * 4);
    const to = bytes.subarray(session * HEAD_WORDS * 4 + ROW_LEAD, (session + 1) * HEAD_WORDS * 4);
    to.set(from.subarray(0, 12));
    to.set([0x86, 0xdd, 0x60], 12);
    setU16(to, L3 + 4, getU16(from, L3 + 2) - 20);
    to.set([from[L3 + 9], from[L3 + 8]], L3 + 6);
    for (const end of [0, 1]) {
      to.set(PREFIX, L3 + 8 + 16 * end);
      to.set(from.subarray(L3 + 12 + 4 * end, L3 + 16 + 4 * end), L3 + 20 + 16 * end);
    }
    to.set(from.subarray(L3 + 20), L3 + 40);
  }
  return made;
}
