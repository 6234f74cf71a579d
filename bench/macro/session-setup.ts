// How fast sessions begin and end, in the terms of RFC 9693.
//
// Connection establishment rate: two whole routers in one process, joined by memory. For each session a lead packet
// enters at west and crosses with forward metadata, and its reply crosses back with reverse metadata. Each router opens
// every session, so the work of one set-up at one router is half of the time; carrying frames between them is in it.
//
// TCP at one ingress router whose peer answers from memory: establishment is the three-way handshake with metadata both
// ways; teardown is FIN, FIN and the last ACK until the session is gone and its port pair rests, its timer included;
// and both one after the other, again and again on other ports, is what can go on for ever. Packets come a hundred at a
// time. Making them and the peer's answers is in these figures.

import { AnsweringPort } from "../../lib/io/answering-port.ts";
import { MemoryPort } from "../../lib/io/memory-port.ts";
import { PROTOCOL_TCP } from "../../lib/wire/flow-key.ts";
import { BenchPort } from "../bench-port.ts";
import { MAC_HIGH, macLow, routerOver } from "../bench-router.ts";
import { nanoseconds, print } from "../harness.ts";
import { IngressRouter } from "../ingress-router.ts";
import { makeTraffic, SMALL, type Traffic } from "../traffic.ts";

const SESSIONS = 20_000;

const CONFIG = (at: 1 | 2) => `
authority: bench
router: router${at}
sessions: { max: ${SESSIONS} }
interfaces:
  - { name: lan0, device: lan0, addresses: [192.0.2.${at * 4 + 1}/30], gateway: 192.0.2.${at * 4 + 2}, tenant: corp }
  - { name: wan0, device: wan0, addresses: [198.18.0.${at}/24], mac: "02:57:4d:00:01:0${at}" }
tenants: [{ name: corp }]
services: [{ name: app, addresses: [10.128.0.0/9], access: [corp] }]
service-routes: [{ service: app, ${at === 1 ? "peer: other" : "interface: lan0"} }]
peers: [{ name: other, paths: [{ interface: wan0, address: 198.18.0.${3 - at} }] }]
`;

/** Two routers with their LANs' ports. */
function makePair() {
  const lans: BenchPort[] = [];
  const wans = MemoryPort.pair(
    ...([1, 2].map((at) => ({ name: "wan0", mac: Uint8Array.of(2, 0x57, 0x4d, 0, 1, at) })) as [
      { name: string; mac: Uint8Array },
      { name: string; mac: Uint8Array },
    ]),
  );
  const routers = ([1, 2] as const).map((at) =>
    routerOver(CONFIG(at), (name, mac) => {
      if (name === "wan0") return wans[at - 1];
      const lan = new BenchPort(name, mac);
      lans.push(lan);
      return new AnsweringPort(lan);
    }),
  );
  return { lans, routers };
}

const forward = makeTraffic({ sessions: SESSIONS, lengths: SMALL, macHigh: MAC_HIGH, macLow: macLow(0) });
const reverse = makeTraffic({
  sessions: SESSIONS,
  lengths: SMALL,
  macHigh: MAC_HIGH,
  macLow: macLow(0),
  reverse: true,
});
let pair = makePair();

/** Have both routers turn until `packets` more frames of `traffic` went from one LAN to the other. */
function carry(from: number, traffic: Traffic, packets: number): void {
  const { lans, routers } = pair;
  const before = lans[1 - from].sentFrames;
  lans[from].offer(traffic, packets);
  for (let idle = 0; idle < 3; ) {
    let frames = 0;
    for (const { router, clock } of routers) frames += router.engine.turn(clock.nowMs());
    idle = frames === 0 ? idle + 1 : 0;
  }
  const carried = lans[1 - from].sentFrames - before;
  if (carried < packets) throw new Error(`${carried} of ${packets} packets arrived`);
}

const samples = nanoseconds({
  name: "",
  mode: "",
  operations: (SESSIONS - 1) * 2,
  runs: 7,
  prepare: () => {
    pair = makePair();
    carry(0, forward, 1);
    carry(1, reverse, 1);
  },
  run: () => {
    carry(0, forward, SESSIONS - 1);
    carry(1, reverse, SESSIONS - 1);
    return pair.routers[1].router.sessions.table.count;
  },
});
for (const { router } of pair.routers) {
  if (router.sessions.table.count !== SESSIONS)
    throw new Error(`${router.sessions.table.count} of ${SESSIONS} sessions are open`);
}
const mode = "60-byte UDP, lead packet and reply with metadata, two routers, unsigned, unencrypted";
print(
  "replay.session-setup",
  "us/session",
  mode,
  samples.map((ns) => ns / 1000),
);
print(
  "replay.connection-establishment-rate",
  "session/s",
  mode,
  samples.map((ns) => 1e9 / ns),
);

const CONNECTIONS = 20_000;
/** TCP's closing timeout, and a bit. */
const CLOSING_MS = 10_100;

const ingress = new IngressRouter(CONNECTIONS * 4);

/** Establish the connections from `first` on. */
function connect(first: number): void {
  ingress.open(PROTOCOL_TCP, first, first + CONNECTIONS);
  if (ingress.count !== CONNECTIONS || ingress.router.sessions.halfOpenCount !== 0)
    throw new Error(`${ingress.count} of ${CONNECTIONS} connections are established`);
}

/** Close them, and let time pass until they are gone. */
function disconnect(first: number): void {
  ingress.finish(first, first + CONNECTIONS);
  ingress.clock.advance(CLOSING_MS);
  while (ingress.router.engine.tick(ingress.clock.nowMs()));
  const { tcpPorts, sessions } = ingress.router.sessions.paths[0];
  if (ingress.count + tcpPorts.inUse + sessions !== 0) throw new Error(`${ingress.count} connections are left`);
}

const tcpMode = "TCP, one ingress router, metadata both ways, unsigned, unencrypted";
const rates = { establishment: [] as number[], teardown: [] as number[], churn: [] as number[] };
for (let run = -3; run < 7; run++) {
  const first = (run & 1) * CONNECTIONS;
  const start = process.hrtime.bigint();
  connect(first);
  const middle = process.hrtime.bigint();
  disconnect(first);
  const end = process.hrtime.bigint();
  if (run < 0) continue;
  const perSecond = (from: bigint, to: bigint) => (CONNECTIONS * 1e9) / Number(to - from);
  rates.establishment.push(perSecond(start, middle));
  rates.teardown.push(perSecond(middle, end));
  rates.churn.push(perSecond(start, end));
}
print("replay.tcp-connection-establishment-rate", "session/s", tcpMode, rates.establishment);
print("replay.tcp-connection-teardown-rate", "session/s", `${tcpMode}, FIN both ways until gone`, rates.teardown);
print("replay.tcp-connection-churn-rate", "session/s", `${tcpMode}, established and torn down`, rates.churn);
