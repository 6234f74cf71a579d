// Ports and routers for hostile input: small tables, and frames in memory whose surroundings the test chooses.

import { ManualClock } from "../../lib/base/clock.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import { type Config, parseConfig } from "../../lib/control/config.ts";
import { AnsweringPort } from "../../lib/io/answering-port.ts";
import {
  emptyStats,
  type FrameBatch,
  HEADROOM,
  type Port,
  type PortInfo,
  SEGMENT_SIZE_UNKNOWN,
} from "../../lib/io/port.ts";
import { buildRouter, inOwnForm, macOf, type Router } from "../../lib/router.ts";

/** Room behind the longest frame, so that a read past its end finds the filling. */
const BEHIND = 4096;
/** libpcap's longest. */
const FRAME_MAX = 262_144;

/**
 * Receives the one frame it was given, in a memory whose every other byte is `filling`; keeps copies of what is sent.
 * What was sent is compared as it was queued: segmenting and completing are the real ports' business.
 */
export class FilledPort implements Port {
  readonly #info: PortInfo;
  readonly #filling: number;
  readonly #bytes: Uint8Array;
  #waiting = -1;
  #flags = 0;
  sent: Uint8Array[] = [];

  constructor(info: PortInfo, filling: number) {
    this.#info = info;
    this.#filling = filling;
    this.#bytes = new Uint8Array(HEADROOM + FRAME_MAX + BEHIND).fill(filling);
  }

  give(frame: Uint8Array, flags = 0): void {
    this.#bytes.fill(this.#filling, 0, Math.min(this.#bytes.length, HEADROOM + frame.length + BEHIND));
    this.#bytes.set(frame, HEADROOM);
    this.#waiting = frame.length;
    this.#flags = flags;
  }

  info(): PortInfo {
    return this.#info;
  }

  rx(batch: FrameBatch): number {
    batch.bytes = this.#bytes;
    batch.count = this.#waiting < 0 ? 0 : 1;
    batch.offset[0] = HEADROOM;
    batch.length[0] = this.#waiting;
    batch.flags[0] = this.#flags;
    batch.segmentSize[0] = this.#waiting > this.#info.mtu + 14 ? SEGMENT_SIZE_UNKNOWN : 0;
    this.#waiting = -1;
    return batch.count;
  }

  tx(batch: FrameBatch, from: number, to: number): number {
    for (let i = from; i < to; i++) {
      const at = batch.offset[i];
      this.sent.push(batch.bytes.slice(at, at + batch.length[i]));
    }
    return to - from;
  }

  stats(): ReturnType<typeof emptyStats> {
    return emptyStats();
  }

  close(): void {}
}

/** One router that is ingress, egress and middle: a LAN and two peers. Small tables, so that all of them fill. */
export const CONFIG = `
authority: acme
router: west
sessions: { max: 64 }
limits: { hold-frames: 16, neighbors: 32, slow-path-per-turn: 64, waypoint-pairs-per-path: 64, fabric-chains: 4 }
interfaces:
  - { name: lan0, device: eth1, addresses: [10.1.0.1/24], gateway: 10.1.0.254, tenant: corp }
  - { name: wan0, device: eth0, addresses: [198.18.0.1/24] }
tenants: [{ name: corp }, { name: eng }]
services:
  - { name: all, addresses: [0.0.0.0/0], access: [corp, eng] }
  - { name: app, addresses: [10.1.0.0/24, 10.2.2.0/24], access: [corp, eng] }
  - { name: far, addresses: [10.3.0.0/24], access: [corp, eng] }
service-routes:
  - { service: all, peer: east }
  - { service: app, interface: lan0 }
  - { service: far, peer: north }
peers:
  - { name: east, paths: [{ interface: wan0, address: 198.18.0.2 }] }
  - { name: north, paths: [{ interface: wan0, address: 198.18.0.3 }] }
`;

export const config = parseConfig(CONFIG, "fuzz.yaml").config!;

export interface Fuzzed {
  readonly router: Router;
  readonly clock: ManualClock;
  /** By interface: 0 the LAN, 1 the WAN. */
  readonly ports: readonly FilledPort[];
  /** Let one frame arrive and everything settle. */
  arrive(at: number, frame: Uint8Array, flags?: number): void;
}

/** `of`: another router than CONFIG's, and what its wall clock says when its own says 0. */
export function fuzzed(
  filling = 0,
  answers = true,
  of: { config: Config; wallMs: number } = { config, wallMs: 0 },
): Fuzzed {
  const clock = new ManualClock(1000);
  const ports = of.config.interfaces.map(
    (item) => new FilledPort({ name: item.name, mac: macOf(of.config, item), mtu: 1500, linkUp: true }, filling),
  );
  const random = new SeededRandom(1);
  const formed = inOwnForm(of.config, ports);
  const seen = answers ? formed.map((port) => new AnsweringPort(port)) : formed;
  const wallMs = () => of.wallMs + clock.nowMs();
  const router = buildRouter(of.config, seen, { clock, random, acceptAnyMac: true, wallMs });
  return {
    router,
    clock,
    ports,
    arrive(at, frame, flags = 0) {
      ports[at].give(frame, flags);
      while (router.engine.turn(clock.nowMs()) > 0);
    },
  };
}

/** Drops of what was counted before; lib/engine/counters.ts has the equation. */
const LATE = [
  "hold-full",
  "neighbor-unreachable",
  "tx-full",
  "tx-error",
  "fabric-fragment-timeout",
  "fabric-fragments-full",
  "ip-fragment-timeout",
  "ip-fragments-full",
].map((name) => `drop.${name}`);

/**
 * By how many frames the counters do not add up: every frame received or taken over, and every packet put together from
 * IPv4 or fabric fragments, is forwarded, consumed, handed over or dropped, once.
 */
export function unaccounted(counters: Record<string, number>): number {
  const drops = Object.keys(counters).filter((name) => name.startsWith("drop.") && !LATE.includes(name));
  const ends = drops.reduce(
    (sum, name) => sum + counters[name],
    counters["frames.forwarded"] + counters["frames.consumed"] + counters["strays.sent"],
  );
  const begun = counters["frames.received"] + counters["frames.split"] + counters["strays.received"];
  return begun + counters["fabric.reassembled"] + counters["ip.reassembled"] - ends;
}
