// A decorator for ports with nobody at the other end (replay, explain): it answers the ARP requests that are sent
// through it, so that frames find their way out. Every address is at MAC 02:00:<the address>.

import { getU16 } from "../base/bytes.ts";
import {
  ARP_LENGTH,
  ARP_REPLY,
  ARP_REQUEST,
  ARP_SENDER_MAC,
  getArpOperation,
  getArpSenderIp,
  getArpTargetIp,
  writeArp,
} from "../wire/arp.ts";
import { getMacHigh, getMacLow, writeEthernet } from "../wire/ethernet.ts";
import { ETHERNET_HEADER, ETHERTYPE_ARP } from "../wire/flow-key.ts";
import { type FrameBatch, HEADROOM, type Port, type PortInfo, type PortStats, TAILROOM } from "./port.ts";

const ANSWERS_MAX = 64;
const SLOT_BYTES = HEADROOM + 64;
const MAC_HIGH = 0x0200;

export class AnsweringPort implements Port {
  readonly #inner: Port;
  readonly #bytes = new Uint8Array(ANSWERS_MAX * SLOT_BYTES + TAILROOM);
  #answers = 0;

  constructor(inner: Port) {
    this.#inner = inner;
  }

  info(): PortInfo {
    return this.#inner.info();
  }

  /** Answers first; then what the port beneath has. */
  rx(batch: FrameBatch): number {
    if (this.#answers === 0) return this.#inner.rx(batch);
    const count = Math.min(this.#answers, batch.capacity);
    batch.bytes = this.#bytes;
    batch.count = count;
    for (let i = 0; i < count; i++) {
      batch.offset[i] = i * SLOT_BYTES + HEADROOM;
      batch.length[i] = ETHERNET_HEADER + ARP_LENGTH;
      batch.flags[i] = 0;
      batch.segmentSize[i] = 0;
    }
    this.#answers = 0;
    return count;
  }

  tx(batch: FrameBatch, from: number, to: number): number {
    for (let i = from; i < to; i++) this.#answer(batch.bytes, batch.offset[i]);
    return this.#inner.tx(batch, from, to);
  }

  stats(): PortStats {
    return this.#inner.stats();
  }

  close(): void {
    this.#inner.close();
  }

  #answer(bytes: Uint8Array, offset: number): void {
    const at = offset + ETHERNET_HEADER;
    if (getU16(bytes, offset + 12) !== ETHERTYPE_ARP || getArpOperation(bytes, at) !== ARP_REQUEST) return;
    if (this.#answers === ANSWERS_MAX) return;
    const asker = getMacHigh(bytes, at + ARP_SENDER_MAC);
    const askerLow = getMacLow(bytes, at + ARP_SENDER_MAC);
    const asked = getArpTargetIp(bytes, at);
    const to = this.#answers++ * SLOT_BYTES + HEADROOM;
    const body = writeEthernet(this.#bytes, to, asker, askerLow, MAC_HIGH, asked, ETHERTYPE_ARP);
    writeArp(this.#bytes, body, ARP_REPLY, MAC_HIGH, asked, asked, asker, askerLow, getArpSenderIp(bytes, at));
  }
}
