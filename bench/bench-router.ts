// A router between two BenchPorts, for benches that drive the whole engine: sessions come in on lan0, leave on lan1,
// and both next hops answer ARP.

import { ManualClock } from "../lib/base/clock.ts";
import { type Config, formatProblem, parseConfig } from "../lib/control/config.ts";
import { AnsweringPort } from "../lib/io/answering-port.ts";
import type { Port } from "../lib/io/port.ts";
import { buildRouter, macOf, type Router } from "../lib/router.ts";
import { BenchPort } from "./bench-port.ts";
import { seededRandom } from "./harness.ts";
import type { Traffic } from "./traffic.ts";

/** Of macOf: interface i of a configuration without `mac`. */
export const MAC_HIGH = 0x0257;
export const macLow = (interfaceId: number) => 0x4d000001 + interfaceId;

const PLAIN = (sessions: number) => `
authority: bench
router: bench
sessions: { max: ${sessions} }
interfaces:
  - { name: lan0, device: lan0, addresses: [192.0.2.1/30], gateway: 192.0.2.2, tenant: corp }
  - { name: lan1, device: lan1, addresses: [192.0.2.5/30], gateway: 192.0.2.6 }
tenants: [{ name: corp }]
services: [{ name: app, addresses: [10.128.0.0/9], access: [corp] }]
service-routes: [{ service: app, interface: lan1 }]
`;

/** Build a router from configuration text over ports of the caller's making, one an interface. */
export function routerOver(
  yaml: string,
  makePort: (name: string, mac: Uint8Array) => Port,
  change: (config: Config) => Config = (config) => config,
  options: Omit<Parameters<typeof buildRouter>[2], "clock" | "random" | "acceptAnyMac"> = {},
): { router: Router; clock: ManualClock } {
  const { config, problems } = parseConfig(yaml, "bench.yaml");
  if (config === null) throw new Error(problems.map(formatProblem).join("\n"));
  const clock = new ManualClock(1000);
  const ports = config.interfaces.map((item) => makePort(item.name, macOf(config, item)));
  const all = { ...options, clock, random: seededRandom(), acceptAnyMac: false };
  return { router: buildRouter(change(config), ports, all), clock };
}

export class BenchRouter {
  readonly router: Router;
  readonly #clock: ManualClock;
  /** lan0 and lan1, bare and as the engine has them. */
  readonly bare: BenchPort[] = [];
  readonly ports: Port[] = [];

  constructor(sessionsMax: number, makePort = (name: string, mac: Uint8Array): BenchPort => new BenchPort(name, mac)) {
    const { router, clock } = routerOver(PLAIN(sessionsMax), (name, mac) => {
      const port = makePort(name, mac);
      this.bare.push(port);
      this.ports.push(new AnsweringPort(port));
      return this.ports[this.ports.length - 1];
    });
    this.router = router;
    this.#clock = clock;
  }

  /** Open every session of `traffic`. Throws unless all of them are there and forward. */
  establish(traffic: Traffic): void {
    for (const packets of [1, 1, traffic.sessions]) this.forward(traffic, packets);
    const { count } = this.router.sessions.table;
    if (count !== traffic.sessions) throw new Error(`${count} of ${traffic.sessions} sessions are established`);
    if (this.forward(traffic, traffic.sessions) !== traffic.sessions) throw new Error("packets were not forwarded");
  }

  /** Send `packets` packets through, time moving a millisecond every eight turns. Returns how many left. */
  forward(traffic: Traffic, packets: number): number {
    const { engine } = this.router;
    const before = this.bare[1].sentFrames;
    this.bare[0].offer(traffic, packets);
    for (let turn = 0; engine.turn(this.#clock.nowMs()) > 0; turn++) if ((turn & 7) === 0) this.#clock.advance(1);
    return this.bare[1].sentFrames - before;
  }

  /** Let time pass without a packet, in steps of a second. */
  idle(milliseconds: number): void {
    for (let passed = 0; passed < milliseconds; passed += 1000) {
      this.#clock.advance(1000);
      this.router.engine.turn(this.#clock.nowMs());
    }
  }
}
