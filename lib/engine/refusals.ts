// A lead packet from a peer opens no session here, and its tenant's hosts are to be told (`refused: reject`): an ICMP error goes
// back to the peer on the packet's own waypoint tuple, behind attribute 20, as errors about packets of sessions do (icmp-errors.ts).
// Every router before this one has the session, so each passes it on, and the host gets it about the packet that it sent.
//
//   host ── LAN ── router A ══ network ══ router B: no way
//        ◄─ its own ─┘ ◄── attribute 20 ────┘       what is quoted

import { setU16, setU32 } from "../base/bytes.ts";
import type { FrameBatch } from "../io/port.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import type { CounterSet } from "../table/counter-set.ts";
import { ipv4HeaderChecksum } from "../wire/checksum.ts";
import {
  AT_END,
  AT_L3,
  AT_L4,
  KEY_DESTINATION,
  KEY_PROTOCOL,
  KEY_SOURCE,
  PROTOCOL_ICMP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
} from "../wire/flow-key.ts";
import { ICMP_HEADER, ICMP_UNREACHABLE, writeIcmp } from "../wire/icmp.ts";
import { IPV4_CHECKSUM, IPV4_DESTINATION, IPV4_SOURCE } from "../wire/ipv4.ts";
import { TCP_HEADER } from "../wire/tcp.ts";
import { UDP_CHECKSUM, UDP_HEADER } from "../wire/udp.ts";
import { refusalCode } from "./answers.ts";
import { ICMP_REFUSED_SENT } from "./counters.ts";
import type { Generator } from "./generate.ts";
import { MESSAGE_MAX, QUOTED_L4, quotedAddress, SEALED_MAX } from "./icmp-quote.ts";
import type { Signals } from "./signals.ts";
import { removeBeforePayload } from "./splice.ts";

export class Refusals {
  readonly #generator: Generator;
  readonly #signals: Signals;
  readonly #counters: CounterSet;
  readonly #message = new Uint8Array(MESSAGE_MAX);

  constructor(parts: { generator: Generator; signals: Signals; counters: CounterSet }) {
    this.#generator = parts.generator;
    this.#signals = parts.signals;
    this.#counters = parts.counters;
  }

  /**
   * Tell the peer of `path`, for drop reason `reason`. The packet's digest is off and its metadata, `metadataLength` bytes, was
   * read; it is taken off here. `protocol`: of the session; `isOpaque`: its payload is encrypted.
   */
  tell(
    batch: FrameBatch,
    i: number,
    key: Int32Array,
    path: PeerPath,
    metadataLength: number,
    protocol: number,
    isOpaque: boolean,
    reason: number,
    nowMs: number,
  ): void {
    if (!this.#generator.mayAnswer(nowMs)) return;
    removeBeforePayload(batch, i, key, metadataLength);
    const message = this.#message;
    const { bytes } = batch;
    const headerLength = key[AT_L4] - key[AT_L3];
    const quote = ICMP_HEADER;
    const l4 = quote + headerLength;
    const wire = key[KEY_PROTOCOL] & 0xff;
    const l4Length = key[AT_END] - key[AT_L4];
    const length = Math.min(quotedLength(wire, protocol, isOpaque, l4Length), l4Length);
    message.fill(0, 0, l4 + length);
    for (let n = 0; n < headerLength + length; n++) message[quote + n] = bytes[key[AT_L3] + n];
    // It was made of what is encrypted.
    if (isOpaque && wire === PROTOCOL_UDP) setU16(message, l4 + UDP_CHECKSUM, 0);
    setU32(message, quote + IPV4_SOURCE, quotedAddress(key[KEY_SOURCE]));
    setU32(message, quote + IPV4_DESTINATION, quotedAddress(key[KEY_DESTINATION]));
    setU16(message, quote + IPV4_CHECKSUM, 0);
    setU16(message, quote + IPV4_CHECKSUM, ipv4HeaderChecksum(message, quote));
    writeIcmp(message, 0, ICMP_UNREACHABLE, refusalCode(reason), 0, l4 + length);
    this.#signals.passRefusal(bytes, key, path, message, l4 + length, nowMs);
    this.#counters.increment(ICMP_REFUSED_SENT);
  }
}

/** Of the packet behind its IPv4 header: RFC 792's 8 bytes; TCP that goes as UDP has its sequence number at the end of its header; another protocol's message begins behind the UDP header. */
function quotedLength(wire: number, protocol: number, isOpaque: boolean, l4Length: number): number {
  if (wire !== PROTOCOL_UDP || protocol === PROTOCOL_UDP) return QUOTED_L4;
  if (protocol === PROTOCOL_TCP) return TCP_HEADER;
  if (isOpaque && protocol === PROTOCOL_ICMP && l4Length <= UDP_HEADER + SEALED_MAX) return l4Length;
  return isOpaque ? QUOTED_L4 : UDP_HEADER + QUOTED_L4;
}
