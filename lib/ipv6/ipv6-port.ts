// HOT
// A port whose wire is IPv6 and whose owner sees the router's own form: what comes is translated in place, what leaves is
// cut to what the wire takes, completed and translated on its way to the port beneath. The reason why a
// frame has no such form stands in the flag column (FRAME_REFUSED_SHIFT).

import {
  emptyStats,
  FRAME_REFUSED_SHIFT,
  FRAME_TRUNCATED,
  FrameBatch,
  type Port,
  type PortInfo,
  type PortStats,
} from "../io/port.ts";
import { ETHERNET_HEADER, WireFrames } from "../io/wire-frames.ts";
import type { AddressBook } from "../table/address-book.ts";
import { IPV6_FRAGMENT_HEADER } from "../wire/ipv6.ts";
import { OK } from "../wire/verdict.ts";
import { HEADER_GROWTH } from "./icmp-codes.ts";
import { Inbound } from "./inbound.ts";
import { Outbound } from "./outbound.ts";

/** Frames translated before the port beneath gets them. */
const ROWS = 64;

export class Ipv6Port implements Port {
  readonly #beneath: Port;
  declare readonly framesMax?: number;
  readonly #inbound: Inbound;
  readonly #outbound: Outbound;
  readonly #wire: WireFrames;
  /** What is counted here: what was cut, completed, or has no form in IPv6. */
  readonly #counted = emptyStats();
  readonly #batch: FrameBatch;
  readonly #slot: number;
  readonly #info: PortInfo;

  /** `isFabric`: peers are behind it, who mark what may be cut. */
  constructor(beneath: Port, book: AddressBook, isFabric = false) {
    this.#beneath = beneath;
    if (beneath.framesMax !== undefined) this.framesMax = beneath.framesMax;
    this.#inbound = new Inbound(book, isFabric);
    this.#outbound = new Outbound(book);
    const { mtu } = beneath.info();
    this.#info = { ...beneath.info(), mtu: mtu - HEADER_GROWTH };
    this.#slot = ETHERNET_HEADER + mtu + IPV6_FRAGMENT_HEADER;
    this.#batch = new FrameBatch(new Uint8Array(ROWS * this.#slot), ROWS);
    this.#wire = new WireFrames(mtu - HEADER_GROWTH, this.#counted, (bytes, offset, length, from, to) =>
      this.#send(bytes, offset, length, from, to),
    );
  }

  /** The port's, but for the MTU: of packets in the router's form, 20 bytes less. */
  // cold: at start, and for show
  info(): PortInfo {
    return { ...this.#info, linkUp: this.#beneath.info().linkUp };
  }

  rx(batch: FrameBatch): number {
    const count = this.#beneath.rx(batch);
    if (count === 0) return 0;
    const nowMs = performance.now() | 0;
    const { bytes, offset, length, flags } = batch;
    const inbound = this.#inbound;
    for (let i = 0; i < count; i++) {
      if ((flags[i] & FRAME_TRUNCATED) !== 0) continue;
      const verdict = inbound.translate(bytes, offset[i], length[i], flags[i], nowMs);
      if (verdict === OK) {
        offset[i] = inbound.offset;
        length[i] = inbound.length;
        flags[i] = inbound.flags;
      } else flags[i] = verdict << FRAME_REFUSED_SHIFT;
    }
    return count;
  }

  tx(batch: FrameBatch, from: number, to: number): number {
    return this.#wire.tx(batch, from, to);
  }

  // cold: for show
  stats(): PortStats {
    const stats = this.#beneath.stats();
    const { txErrors, segments, partialChecksums } = this.#counted;
    return {
      ...stats,
      txErrors: stats.txErrors + txErrors,
      segments: stats.segments + segments,
      partialChecksums: stats.partialChecksums + partialChecksums,
      extensionsRemoved: (stats.extensionsRemoved ?? 0) + this.#inbound.extensionsRemoved,
    };
  }

  close(): void {
    this.#beneath.close();
  }

  #send(bytes: Uint8Array, offset: Int32Array, length: Int32Array, from: number, to: number): number {
    const batch = this.#batch;
    let sent = 0;
    batch.count = 0;
    for (let i = from; i < to; i++) {
      const row = batch.count;
      const at = row * this.#slot;
      const made = this.#outbound.translate(bytes, offset[i], length[i], batch.bytes, at);
      if (made === 0 || made > this.#slot) {
        this.#counted.txErrors++;
        continue;
      }
      batch.offset[row] = at;
      batch.length[row] = made;
      batch.flags[row] = 0;
      batch.segmentSize[row] = 0;
      batch.count = row + 1;
      if (batch.count === ROWS) sent += this.#pass();
    }
    return batch.count === 0 ? sent : sent + this.#pass();
  }

  #pass(): number {
    const { count } = this.#batch;
    this.#batch.count = 0;
    return this.#beneath.tx(this.#batch, 0, count);
  }
}
