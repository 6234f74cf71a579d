// Two whole routers in one process, joined by wires of memory: sessions come in on west's LAN and leave on east's.
// Nothing happens but in `carry`, and time stands still but in `advance`.

import type { ManualClock } from "../lib/base/clock.ts";
import { nativeCrypto } from "../lib/crypto/native-crypto.ts";
import { AnsweringPort } from "../lib/io/answering-port.ts";
import { MemoryPort } from "../lib/io/memory-port.ts";
import { native } from "../lib/io/native.ts";
import type { FrameBatch } from "../lib/io/port.ts";
import { Ipv6Port } from "../lib/ipv6/ipv6-port.ts";
import type { Router } from "../lib/router.ts";
import { addressBook } from "../lib/table/address-book.ts";
import { ETHERNET_HEADER } from "../lib/wire/flow-key.ts";
import { IPV4_HEADER } from "../lib/wire/ipv4.ts";
import { UDP_HEADER } from "../lib/wire/udp.ts";
import { BenchPort } from "./bench-port.ts";
import { routerOver } from "./bench-router.ts";
import { processorNs } from "./harness.ts";
import { Ipv6BenchPort } from "./ipv6-bench-port.ts";
import type { Traffic } from "./traffic.ts";

export const WEST = 0;
export const EAST = 1;

/** What the routers do with keys. */
export type Keys = "none" | "metadata" | "everything";

/** For a figure's mode. */
export const KEYS_MODE: Record<Keys, string> = {
  none: "unsigned, unencrypted",
  metadata: "metadata signed and encrypted, payload in clear, native crypto",
  everything: "every packet signed (HMAC-SHA256-128), payload encrypted (AES-256-CBC), native crypto",
};

export interface TwoRoutersOptions {
  readonly sessions: number;
  readonly wires?: number;
  readonly keys?: Keys;
  /** The configuration of BFD on every wire; left out = none. Then each router has a monitor. */
  readonly bfd?: string;
  /** The family of the hosts, and of the wires; IPv4 where nothing is said. Traffic is IPv4 in either case (ipv6-bench-port.ts). */
  readonly hosts?: 4 | 6;
  readonly paths?: 4 | 6;
}

const KEY = "0123456789abcdef".repeat(4);
const CIPHER = `encryption: aes-cbc-256, encryption-key: "${KEY}"`;
/** Of a UDP frame. */
const HEADERS = ETHERNET_HEADER + IPV4_HEADER + UDP_HEADER;
const NAMES = ["west", "east"];

function configuration(at: 0 | 1, options: TwoRoutersOptions): string {
  const { sessions, wires = 1, keys = "none", bfd, hosts = 4, paths: family = 4 } = options;
  const numbers = [...Array(wires).keys()];
  const address = (wire: number, end: number) =>
    family === 4 ? `198.18.${wire}.${end + 1}` : `2001:db8:ff${wire}::${end + 1}`;
  const lan =
    hosts === 4
      ? `addresses: [192.0.2.${at * 4 + 5}/30], gateway: 192.0.2.${at * 4 + 6}`
      : `addresses: ["2001:db8:a${at}::1/64"], gateway: "2001:db8:a${at}::2"`;
  const hex = (byte: number) => byte.toString(16).padStart(2, "0");
  const paths = numbers.map((wire) => `{ interface: wan${wire}, address: "${address(wire, 1 - at)}" }`);
  const sign = keys === "everything" ? "every-packet" : "metadata";
  return `authority: bench
router: ${NAMES[at]}
sessions: { max: ${sessions} }
limits: { waypoint-pairs-per-path: ${Math.max(16, sessions * 2)} }
interfaces:
  - { name: lan0, device: lan0, ${lan}, tenant: corp }
${numbers.map((wire) => `  - { name: wan${wire}, device: wan${wire}, addresses: ["${address(wire, at)}/${family === 4 ? 24 : 64}"], mac: "02:57:4d:01:${hex(wire)}:0${at + 1}" }`).join("\n")}
tenants: [{ name: corp }]
services: [{ name: app, addresses: ["${hosts === 4 ? "10.128.0.0/9" : "2001:db8:d246::a80:0/105"}"], access: [corp], security: ${keys === "everything" ? "payload" : "none"} }]
service-routes: [{ service: app, ${at === WEST ? "peer: east" : "interface: lan0"} }]
peers: [{ name: ${NAMES[1 - at]}, security: ${keys === "none" ? "none" : "fabric"}, paths: [${paths.join(", ")}] }]
${keys === "none" ? "" : `security-policies:\n  - { name: fabric, ${CIPHER}, hmac: sha256-128, hmac-key: "${KEY}", sign: ${sign} }\n`}${keys === "everything" ? `  - { name: payload, ${CIPHER}, adaptive: false }\n` : ""}${bfd === undefined ? "" : `bfd: ${bfd}\n`}`;
}

/** Encrypting leaves its traces in the slots that BenchPort lends: payloads are zeros again each time. */
class ZeroingPort extends BenchPort {
  override rx(batch: FrameBatch): number {
    const count = super.rx(batch);
    const { bytes, offset, length } = batch;
    for (let i = 0; i < count; i++) bytes.fill(0, offset[i] + HEADERS, offset[i] + length[i]);
    return count;
  }
}

export class TwoRouters {
  readonly routers: readonly { router: Router; clock: ManualClock }[];
  /** wires[router][i]. */
  readonly wires: readonly (readonly MemoryPort[])[];
  readonly #lans: BenchPort[] = [];
  readonly #meter: () => number;
  /** By the meter, processor time of each router's engine since `resetNs`, nanoseconds. */
  readonly ns = [0, 0];

  /** `meter`: whoever sends many small batches measures them all at once, for asking costs as much as several packets. */
  constructor(options: TwoRoutersOptions, meter: () => number = processorNs) {
    this.#meter = meter;
    const mac = (wire: number, at: number) => Uint8Array.of(2, 0x57, 0x4d, 1, wire, at);
    const pairs = [...Array(options.wires ?? 1).keys()].map((wire) => {
      const name = `wan${wire}`;
      return MemoryPort.pair({ name, mac: mac(wire, 1) }, { name, mac: mac(wire, 2) });
    });
    this.wires = [WEST, EAST].map((at) => pairs.map((pair) => pair[at]));
    this.routers = ([WEST, EAST] as const).map((at) =>
      routerOver(
        configuration(at, options),
        (name, lanMac) => {
          if (name !== "lan0") {
            const wire = this.wires[at][Number(name.slice("wan".length))];
            return options.paths === 6 ? new Ipv6Port(wire, addressBook) : wire;
          }
          const plain = options.keys === "everything" ? ZeroingPort : BenchPort;
          const lan = options.hosts === 6 ? new Ipv6BenchPort(name, lanMac) : new plain(name, lanMac);
          this.#lans.push(lan);
          return new AnsweringPort(options.hosts === 6 ? new Ipv6Port(lan, addressBook) : lan);
        },
        undefined,
        { crypto: nativeCrypto(native()), monitoring: options.bfd === undefined ? "none" : "inside" },
      ),
    );
  }

  advance(ms: number): void {
    for (const { clock } of this.routers) clock.advance(ms);
  }

  resetNs(): void {
    this.ns.fill(0);
  }

  /** Turn both routers until nothing moves. */
  settle(): void {
    const meter = this.#meter;
    for (let idle = 0; idle < 3; ) {
      let frames = 0;
      for (const [at, { router, clock }] of this.routers.entries()) {
        const start = meter();
        frames += router.engine.turn(clock.nowMs());
        this.ns[at] += meter() - start;
      }
      idle = frames === 0 ? idle + 1 : 0;
    }
  }

  /** Send `packets` packets of `traffic` from one router's LAN to the other's. Throws unless all of them arrive. */
  carry(from: number, traffic: Traffic, packets: number): void {
    const to = this.#lans[1 - from];
    const before = to.sentFrames;
    this.#lans[from].offer(traffic, packets);
    this.settle();
    const carried = to.sentFrames - before;
    if (carried < packets) throw new Error(`${carried} of ${packets} packets arrived`);
  }
}
