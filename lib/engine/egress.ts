// The way out: a finished packet gets its Ethernet addresses and joins its interface's queue, or waits in the hold
// queue while its next hop is being resolved. A lead packet is thus never lost to an ARP miss.

import { setU32 } from "../base/bytes.ts";
import { StateError, type StateReader, type StateWriter } from "../base/state.ts";
import { FRAME_CHECKSUM_PARTIAL, FRAME_LABEL } from "../io/port.ts";
import { MAC_SHIFT, NEIGHBOR_FAILED, type NeighborTable } from "../peer/neighbor.ts";
import type { RouterInterface } from "../peer/router-interface.ts";
import type { CounterSet } from "../table/counter-set.ts";
import type { HoldQueue } from "../table/hold-queue.ts";
import { segmentFrame, segmentSizeMax, superFrameError } from "../wire/offload.ts";
import { DROP_HOLD_FULL, DROP_NEIGHBOR_UNREACHABLE } from "../wire/verdict.ts";
import { dropCounter, FRAMES_HELD } from "./counters.ts";
import type { TxQueue } from "./tx-queue.ts";

/** A held frame older than this is of no use to anyone. */
const HOLD_MS = 5000;

export class Egress {
  readonly queues: readonly TxQueue[];
  readonly neighbors: NeighborTable;
  readonly #interfaces: readonly RouterInterface[];
  readonly #hold: HoldQueue;
  readonly #counters: CounterSet;
  /** One segment of a super-frame on its way into the hold queue. */
  readonly #segment: Uint8Array;

  constructor(parts: {
    queues: readonly TxQueue[];
    neighbors: NeighborTable;
    interfaces: readonly RouterInterface[];
    hold: HoldQueue;
    counters: CounterSet;
    /** Length of the longest frame that leaves. */
    frameBytesMax: number;
  }) {
    this.#segment = new Uint8Array(parts.frameBytesMax);
    this.queues = parts.queues;
    this.neighbors = parts.neighbors;
    this.#interfaces = parts.interfaces;
    this.#hold = parts.hold;
    this.#counters = parts.counters;
  }

  /** Frames that wait for neighbor `hop`. */
  heldFor(hop: number): number {
    return this.#hold.countOf(hop);
  }

  /** Send a frame, complete but for its MAC addresses, to neighbor `hop` on an interface. The bytes stay borrowed until flush. */
  send(
    interfaceId: number,
    hop: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
    flags: number,
    segmentSize: number,
    nowMs: number,
  ): void {
    const { macs, usable } = this.neighbors;
    if (usable[hop] === 0) {
      this.neighbors.retry(hop, nowMs);
      if (this.neighbors.state[hop] === NEIGHBOR_FAILED) {
        this.#counters.increment(dropCounter(DROP_NEIGHBOR_UNREACHABLE));
        return;
      }
      this.#holdFrame(interfaceId, hop, bytes, offset, length, flags, segmentSize, nowMs);
      return;
    }
    const mac = hop << MAC_SHIFT;
    for (let word = 0; word < 3; word++) setU32(bytes, offset + word * 4, macs[mac + word]);
    macs[mac + 3] = nowMs;
    this.queues[interfaceId].push(bytes, offset, length, flags, segmentSize);
  }

  /** Send a frame that has its MAC addresses already: an answer to the station a frame came from. */
  sendAsIs(interfaceId: number, bytes: Uint8Array, offset: number, length: number, flags = 0): void {
    this.queues[interfaceId].push(bytes, offset, length, flags, 0);
  }

  flush(): void {
    for (const queue of this.queues) queue.flush();
  }

  /** The neighbor has answered: what waited for it goes out, oldest first. */
  releaseHeld(hop: number, nowMs: number): void {
    const interfaceId = this.neighbors.interfaceId[hop];
    this.#hold.release(hop, (bytes, offset, length, flags) => {
      this.send(interfaceId, hop, bytes, offset, length, flags, 0, nowMs);
    });
    // The hold queue's memory is free to be used again as soon as release returns.
    this.queues[interfaceId].flush();
  }

  /** The neighbor was given up: what waited for it is lost, and counted. */
  dropHeld(hop: number): void {
    this.#counters.add(dropCounter(DROP_NEIGHBOR_UNREACHABLE), this.#hold.drop(hop));
  }

  /** The frames that wait. */
  save(out: StateWriter): void {
    this.#hold.save(out);
  }

  /** Let them wait here; `hops`: the neighbors' rows here by their rows there. */
  restore(from: StateReader, hops: ReadonlyMap<number, number>): void {
    const hopOf = (there: number) => {
      const hop = hops.get(there);
      if (hop === undefined) throw new StateError("a frame waits for no neighbor");
      return hop;
    };
    this.#counters.add(dropCounter(DROP_HOLD_FULL), this.#hold.restore(from, hopOf));
  }

  /** Drop what has waited too long. Call some ten times a second. */
  expireHeld(nowMs: number): void {
    this.#hold.expire(nowMs, HOLD_MS, () => this.#counters.increment(dropCounter(DROP_NEIGHBOR_UNREACHABLE)));
  }

  #holdFrame(
    interfaceId: number,
    hop: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
    flags: number,
    segmentSize: number,
    nowMs: number,
  ): void {
    if (segmentSize === 0) {
      this.#holdOne(hop, bytes, offset, length, flags, nowMs);
      return;
    }
    const size = Math.min(segmentSize, segmentSizeMax(bytes, offset, this.#interfaces[interfaceId].mtu));
    const error = superFrameError(bytes, offset, (flags & FRAME_CHECKSUM_PARTIAL) !== 0);
    for (let index = 0; ; index++) {
      const made = segmentFrame(bytes, offset, size, index, error, this.#segment, 0);
      if (made === 0) return;
      this.#holdOne(hop, this.#segment, 0, made, flags & FRAME_LABEL, nowMs);
    }
  }

  #holdOne(hop: number, bytes: Uint8Array, offset: number, length: number, flags: number, nowMs: number): void {
    const held = this.#hold.hold(hop, bytes, offset, length, flags, nowMs);
    this.#counters.increment(held ? FRAMES_HELD : dropCounter(DROP_HOLD_FULL));
  }
}
