// What hosts hear from the router itself: resets, ICMP time exceeded, replies to pings of its own addresses. Each goes back to
// the station that the frame came from, and no more of them than the generator allows.

import type { FrameBatch } from "../io/port.ts";
import type { RouterInterface } from "../peer/router-interface.ts";
import type { Sessions } from "../session/open.ts";
import type { CounterSet } from "../table/counter-set.ts";
import { AT_L4, KEY_DESTINATION, KEY_PROTOCOL, KEY_SOURCE, PROTOCOL_ICMP } from "../wire/flow-key.ts";
import {
  getIcmpType,
  ICMP_ECHO,
  ICMP_HOST_UNREACHABLE,
  ICMP_PROHIBITED,
  ICMP_TIME_EXCEEDED,
  ICMP_UNREACHABLE,
} from "../wire/icmp.ts";
import { DROP_NO_ROUTE, DROP_PATH_DOWN, DROP_PATH_QUALITY, DROP_ROUTE_LOOP } from "../wire/verdict.ts";
import { ECHO_REPLIES_SENT, ICMP_REFUSED_SENT, ICMP_SENT, TCP_RESETS_SENT } from "./counters.ts";
import type { Egress } from "./egress.ts";
import type { Generator } from "./generate.ts";
import { quotedLabel } from "./icmp-quote.ts";

/** Of these it is not who sent the packet, or where it goes. */
const NO_WAY = [DROP_NO_ROUTE, DROP_PATH_DOWN, DROP_PATH_QUALITY, DROP_ROUTE_LOOP];

/** The code of the ICMP "unreachable" that tells a host why no session was opened: nobody has a way, or it is not permitted. */
export function refusalCode(reason: number): number {
  return NO_WAY.includes(reason) ? ICMP_HOST_UNREACHABLE : ICMP_PROHIBITED;
}

export class Answers {
  readonly #interfaces: readonly RouterInterface[];
  readonly #sessions: Sessions;
  readonly #generator: Generator;
  readonly #egress: Egress;
  readonly #counters: CounterSet;

  constructor(parts: {
    interfaces: readonly RouterInterface[];
    sessions: Sessions;
    generator: Generator;
    egress: Egress;
    counters: CounterSet;
  }) {
    this.#interfaces = parts.interfaces;
    this.#sessions = parts.sessions;
    this.#generator = parts.generator;
    this.#egress = parts.egress;
    this.#counters = parts.counters;
  }

  /** A TCP segment of no session. */
  reset(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): void {
    if (this.#generator.reset(batch.bytes, batch.offset[i], key, nowMs))
      this.#reply(key[KEY_PROTOCOL] >>> 8, TCP_RESETS_SENT);
  }

  /** A packet from a plain network whose TTL ends here. */
  ttlExceeded(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): void {
    this.#error(batch, i, key, ICMP_TIME_EXCEEDED, 0, ICMP_SENT, nowMs);
  }

  /** A packet from a plain network that opens no session, for this drop reason. */
  refused(batch: FrameBatch, i: number, key: Int32Array, reason: number, nowMs: number): void {
    this.#error(batch, i, key, ICMP_UNREACHABLE, refusalCode(reason), ICMP_REFUSED_SENT, nowMs);
  }

  #error(
    batch: FrameBatch,
    i: number,
    key: Int32Array,
    type: number,
    code: number,
    counter: number,
    nowMs: number,
  ): void {
    const ingress = this.#interfaces[key[KEY_PROTOCOL] >>> 8];
    if (this.#sessions.pathBetween(ingress.id, key[KEY_SOURCE], key[KEY_DESTINATION]) >= 0) return;
    const { address } = ingress.addresses[0];
    if (this.#generator.errorBack(type, code, batch.bytes, batch.offset[i], key, address, nowMs))
      this.#reply(ingress.id, counter, quotedLabel(batch.flags[i]));
  }

  /** A ping of our own address: what an operator tries first. False when it is none, or gets no reply. */
  echo(batch: FrameBatch, i: number, key: Int32Array, nowMs: number): boolean {
    const isEcho = (key[KEY_PROTOCOL] & 0xff) === PROTOCOL_ICMP && getIcmpType(batch.bytes, key[AT_L4]) === ICMP_ECHO;
    if (!isEcho || !this.#generator.echoReply(batch.bytes, batch.offset[i], key, nowMs)) return false;
    this.#reply(key[KEY_PROTOCOL] >>> 8, ECHO_REPLIES_SENT);
    return true;
  }

  /** Send what the generator wrote back to the station that a frame came from, and count it. */
  #reply(interfaceId: number, counter: number, flags = 0): void {
    this.#counters.increment(counter);
    this.#egress.sendAsIs(interfaceId, this.#generator.bytes, this.#generator.offset, this.#generator.length, flags);
  }
}
