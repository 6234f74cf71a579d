// A BenchPort whose frames are computed, not kept: 60-byte UDP of sessions in an order without a pattern, each made from
// its session's number. A device puts frames where the processor finds them at once; a million prebuilt ones would
// instead push the router's own tables out of the cache, and be measured with it. Frames lie as close as a live port
// lays them.

import { viewOf } from "../lib/base/bytes.ts";
import { type FrameBatch, HEADROOM } from "../lib/io/port.ts";
import { fold } from "../lib/wire/checksum.ts";
import { BenchPort } from "./bench-port.ts";
import type { Traffic } from "./traffic.ts";
import { CLIENT_FIRST, CLIENTS, makeTraffic, ROW_LEAD, ROW_WORDS, SERVER_FIRST, SERVERS, SMALL } from "./traffic.ts";

const SLOTS = 512;
const SLOT_BYTES = HEADROOM + 64;
// Where fields are in a row (traffic.ts).
const IP_CHECKSUM = 26;
const SOURCE = 28;
const UDP_CHECKSUM = 42;

export class ComputedPort extends BenchPort {
  readonly #memory = new Uint8Array(SLOTS * SLOT_BYTES);
  readonly #words = new Int32Array(this.#memory.buffer);
  readonly #template: Int32Array;
  /** Of the checksums, what does not depend on the session. */
  readonly #ipSum: number;
  readonly #udpSum: number;
  #sessions = 0;
  #mask = 0;
  #counter = 0;
  #round = 0;
  #waiting = 0;

  constructor(name: string, mac: Uint8Array) {
    super(name, mac);
    const own = viewOf(mac);
    const options = { lengths: SMALL, macHigh: own.getUint16(0), macLow: own.getInt32(2) };
    this.#template = makeTraffic({ ...options, sessions: 1 }).heads;
    const row = new DataView(this.#template.buffer);
    const variable = halves(row.getInt32(SOURCE)) + halves(row.getInt32(SOURCE + 4));
    // In ones' complement: 0xFFFF is nothing.
    this.#ipSum = fold((~row.getUint16(IP_CHECKSUM) & 0xffff) + 0x3fffc - variable);
    this.#udpSum = fold(
      (~row.getUint16(UDP_CHECKSUM) & 0xffff) + 0x5fffa - variable - halves(row.getInt32(SOURCE + 8)),
    );
  }

  /** Of `traffic` only the number of sessions counts. */
  override offer(traffic: Traffic, packets: number): void {
    if (traffic.sessions !== this.#sessions) this.#counter = 0;
    this.#sessions = traffic.sessions;
    this.#mask = 2 ** Math.ceil(Math.log2(traffic.sessions)) - 1;
    this.#waiting = packets;
  }

  override rx(batch: FrameBatch): number {
    const count = Math.min(this.#waiting, batch.capacity, SLOTS);
    this.#waiting -= count;
    batch.bytes = this.#memory;
    batch.count = count;
    const { view, offset, length, flags, segmentSize } = batch;
    const template = this.#template;
    const words = this.#words;
    for (let i = 0; i < count; i++) {
      const session = this.#nextSession();
      const at = i * SLOT_BYTES + HEADROOM;
      for (let w = 0; w < ROW_WORDS; w++) words[(at >> 2) + w] = template[w];
      const source = CLIENT_FIRST + 2 + (session % CLIENTS);
      const destination = SERVER_FIRST + 2 + (session % SERVERS);
      const port = 1024 + Math.floor(session / CLIENTS);
      const addresses = halves(source) + halves(destination);
      view.setUint16(at + IP_CHECKSUM, ~fold(this.#ipSum + addresses));
      view.setInt32(at + SOURCE, source);
      view.setInt32(at + SOURCE + 4, destination);
      view.setInt32(at + SOURCE + 8, (port << 16) | 5000);
      view.setUint16(at + UDP_CHECKSUM, ~fold(this.#udpSum + addresses + port + 5000));
      offset[i] = at + ROW_LEAD;
      length[i] = SMALL[0];
      flags[i] = 0;
      segmentSize[i] = 0;
    }
    return count;
  }

  /**
   * Every session once before one comes again, mixed by two multiplications that can be undone. Each round has an order
   * of its own: in the order in which sessions were opened their rows may lie one behind the other in memory.
   */
  #nextSession(): number {
    const mask = this.#mask;
    for (;;) {
      let x = this.#counter & mask;
      if (x === 0) this.#round = (this.#round + 0x5bd1e995) | 0;
      this.#counter = (this.#counter + 1) | 0;
      x = Math.imul(x, 0x9e3779b1) & mask;
      x ^= x >>> 9;
      x = (x + this.#round) & mask;
      x = Math.imul(x, 0x85ebca6b) & mask;
      x ^= x >>> 7;
      if (x < this.#sessions) return x;
    }
  }
}

function halves(word: number): number {
  return (word >>> 16) + (word & 0xffff);
}
