// A path goes down under a hundred thousand sessions, in one process: two whole routers, two wires of memory. Each
// session is moved to the other wire by its next packet: west chooses, east adopts what it sees metadata on, and the
// replies settle it. A figure is of the processor's time in one router's own engine, the packet included; what packets
// of the same sessions take when nothing moves stands beside it. Then the sweep that tells a peer again of every session
// (lib/engine/retrigger.ts).

import { NO_FIREWALL_COUNTS, UNKNOWN_QUALITY } from "../../lib/peer/path-settings.ts";
import { MAC_HIGH, macLow } from "../bench-router.ts";
import { print, processorNs } from "../harness.ts";
import { makeTraffic, SMALL } from "../traffic.ts";
import { EAST, KEYS_MODE, type Keys, TwoRouters, WEST } from "../two-routers.ts";

const SESSIONS = Number(process.argv[2] ?? 100_000);
const RUNS = 3;
const WARM_UPS = 1;
/** Over the time that a session's old flow lingers, and that a port pair rests. */
const REST_MS = 12_000;
/** Packets that arrive together: less than a batch, so that neither router is behind and takes fewer of no flow. */
const TOGETHER = 100;
/** Retrigger looks at so few rows in a tick that this is never reached. */
const TICKS_MAX = SESSIONS;

const common = { sessions: SESSIONS, lengths: SMALL, macHigh: MAC_HIGH, macLow: macLow(0) };
const forward = makeTraffic(common);
const reverse = makeTraffic({ ...common, reverse: true });

function report(pair: TwoRouters, path: number, up: boolean): void {
  const { router, clock } = pair.routers[WEST];
  const bfd = {
    state: up ? "Up" : "Down",
    remoteState: "Up",
    diagnostic: "",
    txIntervalMs: 50,
    detectionTimeMs: 150,
    downs: 0,
    remoteRouter: "east",
    lossFromPeer: Number.NaN,
    lossToPeer: Number.NaN,
  };
  const what = {
    path,
    up,
    why: "the bench says so",
    quality: UNKNOWN_QUALITY,
    restarts: 0,
    natChanges: 0,
    clockWindows: 0,
    hops: 0,
    peerAt: null,
    mtu: 0,
    mtuAgeMs: 0,
    firewall: null,
    firewallCounts: NO_FIREWALL_COUNTS,
    bfd,
  };
  router.reports.apply(what, clock.nowMs());
}

/** From now on the other path is the one to use. */
function swap(pair: TwoRouters, from: number): void {
  report(pair, 1 - from, true);
  report(pair, from, false);
}

/** Let time pass until nothing lingers and every port pair has rested. */
function rest(pair: TwoRouters): void {
  pair.advance(REST_MS);
  for (const { router, clock } of pair.routers) while (router.engine.tick(clock.nowMs()));
}

/** Processor time of each router, nanoseconds a session: every session sends one packet, from this router's LAN. */
function send(pair: TwoRouters, from = WEST): [number, number] {
  pair.resetNs();
  for (let at = 0; at < SESSIONS; at += TOGETHER) {
    pair.carry(from, from === WEST ? forward : reverse, Math.min(TOGETHER, SESSIONS - at));
    pair.advance(1);
  }
  return [pair.ns[WEST] / SESSIONS, pair.ns[EAST] / SESSIONS];
}

/** West tells east of every session over `path` again; nanoseconds a session, of making and sending it. */
function sweep(pair: TwoRouters, path: number): number {
  const { router, clock } = pair.routers[WEST];
  const { retrigger, egress, engine } = router;
  const before = retrigger.toldTotal;
  retrigger.begin(path);
  let ns = 0;
  for (let more = true, ticks = 0; more; ticks++) {
    if (ticks === TICKS_MAX) throw new Error("the sweep does not end");
    const start = processorNs();
    more = retrigger.tick(clock.nowMs());
    egress.flush();
    ns += processorNs() - start;
    pair.routers[EAST].router.engine.turn(clock.nowMs());
    // Not turn(): that would go on with the sweep.
    for (let port = 0; port < router.ports.length; port++) engine.portTurn(port, clock.nowMs());
  }
  pair.settle();
  const told = retrigger.toldTotal - before;
  if (told !== SESSIONS) throw new Error(`${told} of ${SESSIONS} sessions were told again`);
  return ns / told;
}

for (const keys of ["none", "metadata", "everything"] satisfies Keys[]) {
  // A session that has just moved has a third flow until the packets of its old path are in: room for those, too.
  const pair = new TwoRouters({ sessions: SESSIONS * 2, wires: 2, keys });
  // The first packets find the neighbors on either wire.
  for (const from of [0, 1]) {
    pair.carry(WEST, forward, 1);
    pair.carry(EAST, reverse, 1);
    swap(pair, from);
  }
  send(pair);
  const { router } = pair.routers[WEST];
  const ns = { chosen: [] as number[], adopted: [] as number[], plain: [] as number[], told: [] as number[] };
  for (let run = -WARM_UPS, from = 0; run < RUNS; run++, from = 1 - from) {
    send(pair, EAST);
    rest(pair);
    const [plain] = send(pair);
    send(pair, EAST);
    const moved = pair.routers.map((one) => one.router.reroute.movedTotal);
    swap(pair, from);
    const [chosen, adopted] = send(pair);
    for (const [at, one] of pair.routers.entries()) {
      const count = one.router.reroute.movedTotal - moved[at];
      if (count !== SESSIONS) throw new Error(`router ${at} moved ${count} of ${SESSIONS} sessions`);
    }
    if (router.sessions.paths[1 - from].sessions !== SESSIONS) throw new Error("sessions are not where they belong");
    send(pair, EAST);
    const told = sweep(pair, 1 - from);
    if (run < 0) continue;
    ns.chosen.push(chosen);
    ns.adopted.push(adopted);
    ns.plain.push(plain);
    ns.told.push(told);
  }
  const mode = `${SESSIONS} UDP sessions, 60-byte frames, ${KEYS_MODE[keys]}`;
  const rate = (name: string, what: string, samples: readonly number[]) =>
    print(
      `move-rate.${name}`,
      "session/s",
      `${what}, ${mode}`,
      samples.map((each) => 1e9 / each),
    );
  rate("move", "path down, next packet of each, the router that chooses", ns.chosen);
  rate("adopt", "path down, next packet of each, the router that adopts", ns.adopted);
  print("move-rate.plain-packet", "ns", `no path down, next packet of each, ${mode}`, ns.plain);
  rate("retrigger", "the peer told again of each, metadata in a packet of its own", ns.told);
}
