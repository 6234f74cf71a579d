// A flood of lead packets in the queue of a port, and established sessions' packets between them.

import test from "ava";
import { MAC_HIGH, macLow } from "../../bench/bench-router.ts";
import { ingressOver } from "../../bench/ingress-router.ts";
import { ESTABLISHED, FLOOD, MixedPort } from "../../bench/mixed-port.ts";
import { makeTraffic, ROW_WORDS, SMALL, type Traffic } from "../../bench/traffic.ts";
import { readCounters } from "../../lib/control/metrics.ts";

const SESSIONS = 50;

const common = { lengths: SMALL, macHigh: MAC_HIGH, macLow: macLow(0) };

/** An ingress router with established sessions, and room for few more. */
function flooded(flood = makeTraffic({ ...common, sessions: 20_000, first: SESSIONS })) {
  const established = makeTraffic({ ...common, sessions: SESSIONS });
  let lan: MixedPort | undefined;
  const { router, clock, peer } = ingressOver(1000, 50_000, (name, mac) => {
    lan = new MixedPort(name, mac, established, flood, 16_384);
    return lan;
  });
  const port = lan!;
  const arrive = (kind: number, count: number) => {
    for (let n = 0; n < count; n++) port.arrive(kind);
  };
  const turnUntilEmpty = () => {
    let turns = 0;
    while (router.engine.turn(clock.nowMs()) > 0) turns++;
    return turns;
  };
  for (const count of [1, 1, SESSIONS]) {
    arrive(ESTABLISHED, count);
    turnUntilEmpty();
    clock.advance(1);
  }
  peer.answers = false;
  return { router, clock, peer, port, arrive, turnUntilEmpty, count: (name: string) => readCounters(router)[name] };
}

test("in a flood every established packet is forwarded, few leads are taken, and each that is not is counted", (t) => {
  const { router, port, arrive, turnUntilEmpty, count } = flooded();
  t.deepEqual([router.sessions.table.count, router.sessions.halfOpenCount], [SESSIONS, 0]);
  const [forwarded, opened] = [count("frames.forwarded"), count("sessions.opened")];
  for (let n = 0; n < 1000; n++) {
    arrive(ESTABLISHED, 1);
    arrive(FLOOD, 10);
  }
  turnUntilEmpty();
  const taken = count("sessions.opened") - opened;
  t.deepEqual(port.lost, [0, 0]);
  t.is(count("frames.forwarded") - forwarded, 1000 + taken);
  t.is(count("drop.slow-path-full"), 10_000 - taken);
  // A burst in the first full batch, and the last batch, which empties the port.
  t.true(taken >= 128 && taken <= 128 + 11_000 / 512 + 128, `${taken}`);
  t.is(count("sessions.evicted"), 0);
});

test("without a flood behind it a burst of leads is taken whole beside established packets", (t) => {
  const { arrive, turnUntilEmpty, clock, count } = flooded();
  for (let n = 0; n < 20; n++) {
    arrive(ESTABLISHED, 20);
    arrive(FLOOD, 100);
    turnUntilEmpty();
    clock.advance(1);
  }
  t.is(count("sessions.opened"), SESSIONS + 2000);
  t.is(count("drop.slow-path-full"), 0);
});

test("when the flood ends, leads are taken again at once", (t) => {
  const { arrive, turnUntilEmpty, count } = flooded();
  for (let n = 0; n < 1000; n++) {
    arrive(ESTABLISHED, 1);
    arrive(FLOOD, 5);
  }
  turnUntilEmpty();
  const [opened, refused] = [count("sessions.opened"), count("drop.slow-path-full")];
  arrive(ESTABLISHED, 10);
  arrive(FLOOD, 100);
  turnUntilEmpty();
  t.is(count("sessions.opened"), opened + 100);
  t.is(count("drop.slow-path-full"), refused);
});

test("leads alone are all taken, however many wait: there is nobody they would harm", (t) => {
  const { arrive, turnUntilEmpty, clock, count } = flooded();
  clock.advance(1000);
  const opened = count("sessions.opened");
  arrive(FLOOD, 10_000);
  turnUntilEmpty();
  t.is(count("sessions.opened"), opened + 10_000);
  t.is(count("drop.slow-path-full"), 0);
  t.is(count("sessions.active"), 1000);
  t.is(count("sessions.half-open"), 1000 - SESSIONS, "those established stay");
});

test("only the first packet of a session is a lead: those right behind it, in the same full batch, go with it", (t) => {
  const [sessions, packets] = [100, 8];
  const flood = makeTraffic({ ...common, sessions, first: SESSIONS });
  const rows = Array.from({ length: sessions * packets }, (_, n) => Math.floor(n / packets));
  const bursts: Traffic = {
    ...flood,
    sessions: rows.length,
    heads: Int32Array.from(rows.flatMap((row) => [...flood.heads.subarray(row * ROW_WORDS, (row + 1) * ROW_WORDS)])),
    length: Int32Array.from(rows, (row) => flood.length[row]),
  };
  const { arrive, turnUntilEmpty, count } = flooded(bursts);
  const [opened, forwarded] = [count("sessions.opened"), count("frames.forwarded")];
  for (let n = 0; n < sessions / 4; n++) {
    arrive(ESTABLISHED, 4);
    arrive(FLOOD, packets * 4);
  }
  turnUntilEmpty();
  t.is(count("drop.slow-path-full"), 0);
  t.is(count("sessions.opened"), opened + sessions);
  t.is(count("frames.forwarded"), forwarded + sessions * (packets + 1));
});
