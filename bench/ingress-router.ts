// One ingress router for benches about sessions: clients on lan0, a peer behind wan0 that answers with metadata, and
// every session with a waypoint port pair of its own.

import type { ManualClock } from "../lib/base/clock.ts";
import type { Config } from "../lib/control/config.ts";
import { AnsweringPort } from "../lib/io/answering-port.ts";
import type { Port } from "../lib/io/port.ts";
import type { Router } from "../lib/router.ts";
import { PROTOCOL_TCP, PROTOCOL_UDP } from "../lib/wire/flow-key.ts";
import { ACK, FIN, SYN } from "../lib/wire/tcp.ts";
import { routerOver } from "./bench-router.ts";
import { ClientPort, PeerPort } from "./session-traffic.ts";

const CONFIG = (sessions: number, pairs: number) => `
authority: bench
router: west
sessions: { max: ${sessions} }
limits: { waypoint-pairs-per-path: ${Math.max(16, pairs)} }
interfaces:
  - { name: lan0, device: lan0, addresses: [192.0.2.1/30], gateway: 192.0.2.2, tenant: corp }
  - { name: wan0, device: wan0, addresses: [198.18.0.1/24] }
tenants: [{ name: corp }]
services: [{ name: app, addresses: [10.128.0.0/9], access: [corp] }]
service-routes: [{ service: app, peer: east }]
peers: [{ name: east, paths: [{ interface: wan0, address: 198.18.0.2 }] }]
`;

/** Packets that arrive together: less than a batch, so that the port is never behind. */
const TOGETHER = 100;
/** Over every idle timeout of TCP, and the quarantine of port pairs. */
const LONG_MS = 2_000_000;

/** An ingress router over a LAN port of the caller's making. */
export function ingressOver(
  sessions: number,
  pairs: number,
  makeLan: (name: string, mac: Uint8Array) => Port,
  change?: (config: Config) => Config,
): { router: Router; clock: ManualClock; peer: PeerPort } {
  let peer: PeerPort | undefined;
  const built = routerOver(
    CONFIG(sessions, pairs),
    (name, mac) => {
      if (name === "lan0") return new AnsweringPort(makeLan(name, mac));
      peer = new PeerPort(name, mac);
      return new AnsweringPort(peer);
    },
    change,
  );
  return { ...built, peer: peer! };
}

export class IngressRouter {
  readonly router: Router;
  readonly clock: ManualClock;
  readonly lan: ClientPort;
  readonly peer: PeerPort;

  constructor(sessions: number) {
    let lan: ClientPort | undefined;
    const { router, clock, peer } = ingressOver(sessions, sessions, (name, mac) => {
      lan = new ClientPort(name, mac);
      return lan;
    });
    this.router = router;
    this.clock = clock;
    this.lan = lan!;
    this.peer = peer;
    // The first packets find the neighbors.
    this.open(PROTOCOL_UDP, 0, 1);
    this.closeAll();
  }

  /** Sessions that are there. */
  get count(): number {
    return this.router.sessions.table.count;
  }

  /** One packet of each session, `TOGETHER` at a time, until nothing moves; a millisecond passes with each lot. */
  send(protocol: number, first: number, end: number, flags = 0): void {
    const { engine } = this.router;
    for (let at = first; at < end; at += TOGETHER) {
      this.lan.offer(protocol, at, Math.min(at + TOGETHER, end), flags);
      while (engine.turn(this.clock.nowMs()) > 0);
      this.clock.advance(1);
    }
  }

  /** Open these sessions whole: metadata both ways, and of TCP the three-way handshake. */
  open(protocol: number, first: number, end: number): void {
    if (protocol === PROTOCOL_TCP) {
      this.send(PROTOCOL_TCP, first, end, SYN);
      this.send(PROTOCOL_TCP, first, end, ACK);
    } else this.send(PROTOCOL_UDP, first, end);
  }

  /** Close these TCP sessions: FIN from both ends, the last ACK, and the wait behind it. */
  finish(first: number, end: number): void {
    this.send(PROTOCOL_TCP, first, end, FIN | ACK);
    this.send(PROTOCOL_TCP, first, end, ACK);
  }

  /** Let time pass until every session is idle for too long and gone. */
  closeAll(): void {
    this.clock.advance(LONG_MS);
    while (this.count > 0) this.router.engine.tick(this.clock.nowMs());
    this.clock.advance(LONG_MS);
  }
}
