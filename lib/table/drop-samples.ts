// The last frame that was dropped for each reason, cut to its headers, and what was known of it, for `waymark show drops` and
// `waymark explain --drop`: a counter says that packets are lost, a sample whose. In a flood a reason takes no more than one in
// 100 ms, so that nothing is paid for the others.

import { getI32, getU16 } from "../base/bytes.ts";
import type { StateReader, StateWriter } from "../base/state.ts";
import {
  addressNow,
  type DropNote,
  type KnownOfDrop,
  type NotedAddress,
  noteAddress,
  restoreAddress,
  restoreKnown,
  saveAddress,
  saveKnown,
} from "./drop-note.ts";

/** Enough for Ethernet, IPv4 and TCP headers with all their options. */
export const SAMPLE_BYTES = 134;
const EVERY_MS = 100;
const ETHERTYPE = 12;
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_ARP = 0x0806;
/** Where a frame's two addresses are. */
const ADDRESSES_OF: ReadonlyMap<number, readonly number[]> = new Map([
  [ETHERTYPE_IPV4, [26, 30]],
  [ETHERTYPE_ARP, [28, 38]],
]);

export interface DropSample {
  readonly atMs: number;
  readonly interfaceId: number;
  /** Of the frame; `bytes` has its first SAMPLE_BYTES, or all. */
  readonly length: number;
  readonly bytes: Uint8Array;
  /** Null = nothing but the frame. */
  readonly known: KnownOfDrop | null;
}

/** A sample that goes to another thread: with what its addresses stand for, and its age, for names and clocks differ there. */
export interface MovedSample extends Omit<DropSample, "atMs"> {
  readonly agoMs: number;
  readonly addresses: readonly NotedAddress[];
}

export class DropSamples {
  readonly #bytes: Uint8Array;
  readonly #length: Int32Array;
  readonly #interface: Int32Array;
  readonly #atMs: Float64Array;
  readonly #addresses: (readonly NotedAddress[])[];
  readonly #known: (KnownOfDrop | null)[];

  constructor(reasons: number) {
    this.#bytes = new Uint8Array(reasons * SAMPLE_BYTES);
    this.#length = new Int32Array(reasons);
    this.#interface = new Int32Array(reasons);
    this.#atMs = new Float64Array(reasons).fill(Number.NEGATIVE_INFINITY);
    this.#addresses = Array.from({ length: reasons }, () => []);
    this.#known = Array.from({ length: reasons }, () => null);
  }

  /** The frame bytes[offset..offset + length), come in by `interfaceId`, was dropped for reason number `reason`. */
  take(
    reason: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
    interfaceId: number,
    nowMs: number,
    note: DropNote,
  ): void {
    if (nowMs - this.#atMs[reason] < EVERY_MS) return;
    this.#atMs[reason] = nowMs;
    this.#length[reason] = length;
    this.#interface[reason] = interfaceId;
    const to = reason * SAMPLE_BYTES;
    const count = Math.min(length, SAMPLE_BYTES, bytes.length - offset);
    for (let i = 0; i < count; i++) this.#bytes[to + i] = bytes[offset + i];
    this.#addresses[reason] = addressesOf(this.#bytes, to, count).map((at) => noteAddress(getI32(this.#bytes, at)));
    this.#known[reason] = note.isClean ? null : note.copy();
  }

  /** The last one; null = none was taken. */
  of(reason: number): DropSample | null {
    const atMs = this.#atMs[reason];
    if (atMs === Number.NEGATIVE_INFINITY) return null;
    const length = this.#length[reason];
    const from = reason * SAMPLE_BYTES;
    const bytes = this.#bytes.slice(from, from + Math.min(length, SAMPLE_BYTES));
    return { atMs, interfaceId: this.#interface[reason], length, bytes, known: this.#known[reason] };
  }

  /** The last one, for another thread; null = none was taken. */
  move(reason: number, nowMs: number): MovedSample | null {
    const sample = this.of(reason);
    if (sample === null) return null;
    const { atMs, ...rest } = sample;
    return { ...rest, agoMs: nowMs - atMs, addresses: this.#addresses[reason] };
  }

  /** Take in the sample of another thread, unless there is a later one. */
  put(reason: number, moved: MovedSample, nowMs: number): void {
    const atMs = nowMs - moved.agoMs;
    if (atMs <= this.#atMs[reason]) return;
    this.#atMs[reason] = atMs;
    this.#length[reason] = moved.length;
    this.#interface[reason] = moved.interfaceId;
    this.#bytes.set(moved.bytes.subarray(0, SAMPLE_BYTES), reason * SAMPLE_BYTES);
    this.#addresses[reason] = moved.addresses;
    this.#known[reason] = moved.known;
  }

  /** The bytes of that one; of an IPv6 interface with the names that addresses have now, as those that they had may be others'. */
  frameOf(reason: number, isIpv6: boolean): Uint8Array {
    const { bytes } = this.of(reason)!;
    if (!isIpv6) return bytes;
    for (const [n, at] of addressesOf(bytes, 0, bytes.length).entries()) {
      const noted = this.#addresses[reason][n];
      if (noted.words === null) continue;
      new DataView(bytes.buffer).setInt32(at, addressNow(noted));
    }
    return bytes;
  }

  save(out: StateWriter): void {
    out.raw(this.#bytes);
    out.words(this.#length, 0, this.#length.length);
    out.words(this.#interface, 0, this.#interface.length);
    out.doubles(this.#atMs);
    for (const [reason, known] of this.#known.entries()) {
      out.u8(this.#addresses[reason].length);
      for (const noted of this.#addresses[reason]) saveAddress(out, noted);
      out.flag(known !== null);
      if (known !== null) saveKnown(out, known);
    }
  }

  /** Of the same reasons; those of another version are skipped. */
  restore(from: StateReader): void {
    const bytes = from.raw();
    const reasons = bytes.length / SAMPLE_BYTES;
    const words = [new Int32Array(reasons), new Int32Array(reasons)];
    for (const column of words) from.words(column, 0, reasons);
    const atMs = new Float64Array(reasons);
    from.doubles(atMs, "samples of drops");
    const addresses: NotedAddress[][] = [];
    const known: (KnownOfDrop | null)[] = [];
    for (let reason = 0; reason < reasons; reason++) {
      addresses.push(Array.from({ length: from.code(2) }, () => restoreAddress(from)));
      known.push(from.flag() ? restoreKnown(from) : null);
    }
    if (reasons !== this.#length.length) return;
    this.#bytes.set(bytes);
    this.#length.set(words[0]);
    this.#interface.set(words[1]);
    this.#atMs.set(atMs);
    for (let reason = 0; reason < reasons; reason++) {
      this.#addresses[reason] = addresses[reason];
      this.#known[reason] = known[reason];
    }
  }
}

/** Where the addresses are of the frame that begins at `at` and has `length` bytes there. */
function addressesOf(bytes: Uint8Array, at: number, length: number): number[] {
  if (length < ETHERTYPE + 2) return [];
  const places = ADDRESSES_OF.get(getU16(bytes, at + ETHERTYPE)) ?? [];
  return places.some((place) => place + 4 > length) ? [] : places.map((place) => at + place);
}
