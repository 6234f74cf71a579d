// Many sessions whose time comes at once: a bounded number a turn, frames in between, and none forgotten.

import { setImmediate as nextRound } from "node:timers/promises";
import test from "ava";
import { MAC_HIGH, macLow } from "../../bench/bench-router.ts";
import { ingressOver } from "../../bench/ingress-router.ts";
import { ESTABLISHED, FLOOD, MixedPort } from "../../bench/mixed-port.ts";
import { makeTraffic, SMALL } from "../../bench/traffic.ts";
import { ManualClock } from "../../lib/base/clock.ts";
import { TIMERS_PER_TICK } from "../../lib/engine/admission.ts";
import type { Engine } from "../../lib/engine/engine.ts";
import { pace } from "../../lib/engine/pace.ts";

const IDLE = 5_000;
const BUSY = 100;
const UDP_MS = 180_000;

/** An ingress router whose idle sessions expire in the next moment, and others that go on. */
function expiring() {
  const common = { lengths: SMALL, macHigh: MAC_HIGH, macLow: macLow(0) };
  const busy = makeTraffic({ ...common, sessions: BUSY });
  const idle = makeTraffic({ ...common, sessions: IDLE, first: BUSY });
  let lan: MixedPort | undefined;
  const { router, clock, peer } = ingressOver(IDLE + BUSY, IDLE + BUSY, (name, mac) => {
    lan = new MixedPort(name, mac, busy, idle, 16_384);
    return lan;
  });
  const port = lan!;
  const { engine, sessions } = router;
  const send = (kind: number, count: number) => {
    for (let n = 0; n < count; n++) port.arrive(kind);
    while (engine.turn(clock.nowMs()) > 0);
  };
  for (const count of [1, 1, BUSY]) send(ESTABLISHED, count);
  for (let n = 0; n < IDLE; n += 100) send(FLOOD, 100);
  return { engine, sessions, clock, peer, port, send };
}

test("sessions that are all due at once end a bounded number a turn, frames go on in each, and none is left", (t) => {
  const { engine, sessions, clock, peer, port, send } = expiring();
  t.is(sessions.table.count, IDLE + BUSY);
  clock.advance(UDP_MS - 1000);
  while (engine.tick(clock.nowMs()));
  send(ESTABLISHED, BUSY);
  clock.advance(1100);
  let turns = 0;
  for (; sessions.table.count > BUSY; turns++) {
    if (turns > 1000) t.fail("they never end");
    const [before, sent] = [sessions.table.count, peer.sentFrames];
    for (let n = 0; n < 50; n++) port.arrive(ESTABLISHED);
    engine.turn(clock.nowMs());
    t.true(before - sessions.table.count <= TIMERS_PER_TICK);
    t.true(peer.sentFrames - sent >= 50, "and now and then an ARP request");
  }
  t.true(turns >= IDLE / TIMERS_PER_TICK);
  t.false(engine.tick(clock.nowMs()));
  t.deepEqual([sessions.flows.count, sessions.wheel.count], [BUSY * 2, BUSY]);
});

test("while frames are waiting fewer sessions end a turn, but never none for long", (t) => {
  const { engine, sessions, clock, port, send } = expiring();
  clock.advance(UDP_MS - 1000);
  while (engine.tick(clock.nowMs()));
  send(ESTABLISHED, BUSY);
  clock.advance(1100);
  let closed = 0;
  for (let turn = 0; turn < 100; turn++) {
    while (port.waiting < 256) port.arrive(ESTABLISHED);
    const before = sessions.table.count;
    engine.turn(clock.nowMs());
    t.true(before - sessions.table.count < TIMERS_PER_TICK / 4);
    closed += before - sessions.table.count;
  }
  t.true(closed > 1000, `${closed} in a hundred turns`);
});

test("a tick says that more is due until nothing is, also when every timer finds a session in use", (t) => {
  const { engine, sessions, clock } = expiring();
  let ticks = 0;
  // The timers look at each session every thirty seconds.
  clock.advance(31_000);
  while (engine.tick(clock.nowMs())) ticks++;
  t.true(ticks >= IDLE / TIMERS_PER_TICK - 1 && ticks < 4 * (IDLE / TIMERS_PER_TICK) + 500, `${ticks}`);
  t.is(sessions.table.count, IDLE + BUSY);
  t.is(sessions.wheel.count, IDLE + BUSY);
  t.false(engine.tick(clock.nowMs()));
});

test("live, timers that are behind are served on every round of the event loop, and none after the end", async (t) => {
  let calls = 0;
  // No more than that: the interval's own calls would count as well.
  const engine = { tick: () => calls < 100 && ++calls < 100, portTurn: () => 0 } as unknown as Engine;
  const stop = pace(engine, [], new ManualClock());
  // The first comes with the interval.
  while (calls === 0) await nextRound();
  for (let round = 0; round < 200 && calls < 100; round++) await nextRound();
  t.is(calls, 100);
  stop();
  let more = 0;
  const endless = { tick: () => ++more > 0, portTurn: () => 0 } as unknown as Engine;
  const end = pace(endless, [], new ManualClock());
  while (more < 10) await nextRound();
  end();
  const last = more;
  for (let round = 0; round < 50; round++) await nextRound();
  t.is(more, last);
});
