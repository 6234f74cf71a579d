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

import { PROTOCOL_TCP } from "../../lib/wire/flow-key.ts";
import { MAC_HIGH, macLow } from "../bench-router.ts";
import { nanoseconds, print } from "../harness.ts";
import { IngressRouter } from "../ingress-router.ts";
import { makeTraffic, SMALL } from "../traffic.ts";
import { EAST, TwoRouters, WEST } from "../two-routers.ts";

const SESSIONS = 20_000;

const forward = makeTraffic({ sessions: SESSIONS, lengths: SMALL, macHigh: MAC_HIGH, macLow: macLow(0) });
const reverse = makeTraffic({
  sessions: SESSIONS,
  lengths: SMALL,
  macHigh: MAC_HIGH,
  macLow: macLow(0),
  reverse: true,
});
const makePair = () => new TwoRouters({ sessions: SESSIONS });
let pair = makePair();

const samples = nanoseconds({
  name: "",
  mode: "",
  operations: (SESSIONS - 1) * 2,
  runs: 7,
  prepare: () => {
    pair = makePair();
    pair.carry(WEST, forward, 1);
    pair.carry(EAST, reverse, 1);
  },
  run: () => {
    pair.carry(WEST, forward, SESSIONS - 1);
    pair.carry(EAST, reverse, SESSIONS - 1);
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
