// Sessions in pairs, in virtual time (bfd-link.ts). Referee for detection: the rule of RFC 5880, 6.8.4, computed from the
// times at which packets were delivered, by code that knows nothing of sessions.

import test, { type ExecutionContext } from "ava";
import { SeededRandom } from "../../lib/base/random.ts";
import {
  BFD_DEFAULTS,
  BFD_EVENT_DOWN,
  BFD_EVENT_LOCAL_NAT,
  BFD_EVENT_PEER_NAT,
  BFD_EVENT_RESTART,
  BFD_EVENT_UNUSABLE,
  BFD_EVENT_UP,
  BFD_EVENT_USABLE,
  BfdSession,
  BfdSessionList,
  type BfdSettings,
} from "../../lib/peer/bfd-session.ts";
import {
  BFD_ADMIN_DOWN,
  BFD_DOWN,
  BFD_INIT,
  BFD_UP,
  BfdPacket,
  DIAGNOSTIC_ADMIN_DOWN,
  DIAGNOSTIC_DETECTION_TIME,
  DIAGNOSTIC_NEIGHBOR_DOWN,
} from "../../lib/wire/bfd.ts";
import { DROP_BFD_ADMIN_DOWN, DROP_BFD_SEQUENCE, DROP_BFD_SESSION, OK } from "../../lib/wire/verdict.ts";
import { BfdLink, EAST, type End, identity, WEST } from "./bfd-link.ts";

const FAST: Partial<BfdSettings> = { desiredMinTxMs: 50, requiredMinRxMs: 50 };

/** Detection time of a delivered packet at an end that requires `requiredMinRxMs`. */
function detectionMs({ detectMult, desiredMinTxUs }: BfdPacket, requiredMinRxMs: number): number {
  return detectMult * Math.max(requiredMinRxMs, desiredMinTxUs / 1000);
}

/** When the rule says the end goes down for want of packets: Up, and nothing delivered for the detection time. */
function expectedTimeouts(end: End, requiredMinRxMs: number, untilMs: number): number[] {
  const spans = end.upSpans();
  return end.delivered
    .map(({ atMs, packet }, i) => {
      const expiry = atMs + detectionMs(packet, requiredMinRxMs);
      const nextMs = end.delivered[i + 1]?.atMs ?? Number.POSITIVE_INFINITY;
      return nextMs > expiry ? expiry : Number.NaN;
    })
    .filter((expiry) => expiry <= untilMs && spans.some(([from, to]) => from < expiry && expiry <= to));
}

/** Every down event has its cause at the same moment, and every cause its down event. Returns how many timeouts. */
function judgeDowns(t: ExecutionContext, end: End, requiredMinRxMs: number, untilMs: number): number {
  const downs = end.happened.filter(({ events }) => (events & BFD_EVENT_DOWN) !== 0);
  const timeouts = downs.filter(({ diagnostic }) => diagnostic === DIAGNOSTIC_DETECTION_TIME).map(({ atMs }) => atMs);
  t.deepEqual(timeouts, expectedTimeouts(end, requiredMinRxMs, untilMs));
  for (const { atMs, diagnostic } of downs) {
    if (diagnostic === DIAGNOSTIC_DETECTION_TIME) continue;
    t.is(diagnostic, DIAGNOSTIC_NEIGHBOR_DOWN);
    t.true(end.delivered.some((log) => log.atMs === atMs && log.packet.state === BFD_DOWN));
  }
  return timeouts.length;
}

function bothUp(link: BfdLink): boolean {
  return link.west.session.state === BFD_UP && link.east.session.state === BFD_UP;
}

/** Between periodic packets: those that carry nothing new. */
function intervals(end: End, fromMs: number): number[] {
  const times = end.sent.filter(({ atMs, packet }) => atMs >= fromMs && !packet.final).map(({ atMs }) => atMs);
  return times.slice(1).map((atMs, i) => atMs - times[i]);
}

test("two ends come up by the three-way handshake, one Down, Init, Up, the other answering", (t) => {
  const link = new BfdLink({ seed: 1 });
  link.run(2000);
  t.true(bothUp(link));
  for (const end of [link.west, link.east]) {
    const states = end.sent.map(({ packet }) => packet.state);
    t.deepEqual(states, [...states].sort(), "never back");
    for (const { packet } of end.sent) {
      if (packet.state > BFD_DOWN) t.is(packet.yourDiscriminator, link.other(end).session.discriminator);
    }
  }
  const ends = [link.west, link.east];
  const [first] = ends.map((end) => end.sent[0]).sort((a, b) => a.atMs - b.atMs);
  t.is(first.packet.state, BFD_DOWN);
  t.is(first.packet.yourDiscriminator, 0);
  t.true(ends.some((end) => end.sent.some(({ packet }) => packet.state === BFD_INIT)));
  // A change of state does not wait for the interval: three packets of 10 ms from the first that was heard.
  const firstHeardMs = Math.min(link.west.delivered[0].atMs, link.east.delivered[0].atMs);
  for (const end of ends) t.true(end.times(BFD_EVENT_UP)[0] - firstHeardMs <= 20);
});

test("until it is Up an end sends once a second whatever is configured, and then as fast as both ends allow", (t) => {
  const link = new BfdLink({
    seed: 2,
    west: FAST,
    east: { desiredMinTxMs: 20, requiredMinRxMs: 80 },
    loses: () => true,
  });
  link.run(60_000);
  t.is(link.west.delivered.length, 0);
  for (const ms of intervals(link.west, 0)) t.true(ms >= 750 && ms <= 1000, `${ms}`);
  t.is(link.west.sent[0].packet.desiredMinTxUs, 1_000_000);

  const through = new BfdLink({ seed: 2, west: FAST, east: { desiredMinTxMs: 20, requiredMinRxMs: 80 } });
  through.run(10_000);
  t.is(through.west.session.txIntervalMs, 80);
  t.is(through.east.session.txIntervalMs, 50);
  t.is(through.west.session.detectionTimeMs, 150);
  t.is(through.east.session.detectionTimeMs, 240);
  t.is(through.west.sent.at(-1)?.packet.desiredMinTxUs, 50_000);
});

for (const [detectMult, low, high] of [
  [3, 75, 100],
  [1, 75, 90],
]) {
  test(`with a multiplier of ${detectMult} packets are ${low} to ${high} % of the interval apart, and use all of that`, (t) => {
    const settings = { ...FAST, desiredMinTxMs: 100, detectMult };
    const link = new BfdLink({ seed: 3, west: settings, east: settings, latencyMs: () => 5 });
    link.run(200_000);
    const gaps = intervals(link.west, 5000);
    t.true(gaps.length > 1900);
    const [least, most] = [Math.min(...gaps), Math.max(...gaps)];
    t.true(least >= low - 1e-6 && least < low + 1, `${least}`);
    t.true(most <= high + 1e-6 && most > high - 1, `${most}`);
    const mean = gaps.reduce((sum, ms) => sum + ms, 0) / gaps.length;
    t.true(Math.abs(mean - (low + high) / 2) < 1, `${mean}`);
    t.deepEqual(link.west.times(BFD_EVENT_DOWN), []);
  });
}

test("a dead link takes each end down exactly at the detection time after its last packet: 3 s, and 150 ms when fast", (t) => {
  for (const [settings, detection] of [
    [{}, 3000],
    [FAST, 150],
  ] as const) {
    let isCut = false;
    const link = new BfdLink({ seed: 4, west: settings, east: settings, loses: () => isCut });
    link.run(20_000);
    t.true(bothUp(link));
    t.is(link.west.session.detectionTimeMs, detection);
    isCut = true;
    link.run(40_000);
    for (const end of [link.west, link.east]) {
      const lastMs = end.delivered.at(-1)!.atMs;
      t.deepEqual(end.times(BFD_EVENT_DOWN), [lastMs + detection]);
      t.is(end.session.diagnostic, DIAGNOSTIC_DETECTION_TIME);
      t.is(end.session.remoteDiscriminator, 0);
      t.is(end.sent.at(-1)?.packet.yourDiscriminator, 0);
    }
  }
});

test("it is the other end's multiplier that counts, at each end", (t) => {
  let isCut = false;
  const link = new BfdLink({ seed: 20, west: { detectMult: 3 }, east: { detectMult: 10 }, loses: () => isCut });
  link.run(20_000);
  isCut = true;
  link.run(40_000);
  for (const [end, detection] of [
    [link.west, 10_000],
    [link.east, 3000],
  ] as const) {
    t.deepEqual(end.times(BFD_EVENT_DOWN), [end.delivered.at(-1)!.atMs + detection]);
  }
});

test("an end that went down sends once a second again, without Poll, and knows nothing of the other any more", (t) => {
  let isCut = false;
  const link = new BfdLink({ seed: 21, west: FAST, east: FAST, loses: () => isCut });
  link.run(20_000);
  isCut = true;
  link.west.configure({ ...link.west.settings, desiredMinTxMs: 60 });
  link.run(21_000);
  t.is(link.west.session.state, BFD_DOWN);
  t.true(link.west.sent.some(({ atMs, packet }) => atMs >= 20_000 && packet.poll));
  link.run(60_000);
  for (const ms of intervals(link.west, 21_000)) t.true(ms >= 750 && ms <= 1000, `${ms}`);
  for (const { packet } of link.west.sent.filter(({ atMs }) => atMs >= 21_000)) {
    t.false(packet.poll);
    t.is(packet.yourDiscriminator, 0);
    t.is(packet.desiredMinTxUs, 1_000_000);
  }
});

test("an end that hears nothing while the other hears all takes the other down with it", (t) => {
  let isCut = false;
  const link = new BfdLink({ seed: 5, loses: (from) => isCut && from.address === EAST });
  link.run(10_000);
  isCut = true;
  link.run(15_000);
  t.is(link.west.session.diagnostic, DIAGNOSTIC_DETECTION_TIME);
  t.is(link.east.session.diagnostic, DIAGNOSTIC_NEIGHBOR_DOWN);
  const [west] = link.west.times(BFD_EVENT_DOWN);
  t.deepEqual(link.east.times(BFD_EVENT_DOWN), [west + 10], "told at once, not at the next interval");
  t.is(link.east.session.state, BFD_INIT, "it hears Down");
});

test("after an outage of 30 s both come up again within two intervals and are usable after the hold-down time", (t) => {
  const [fromMs, toMs] = [20_000, 50_000];
  const link = new BfdLink({ seed: 6, loses: (_from, atMs) => atMs >= fromMs && atMs < toMs });
  link.run(70_000);
  for (const end of [link.west, link.east]) {
    t.is(judgeDowns(t, end, 500, 70_000), 1);
    const [first, again] = end.times(BFD_EVENT_UP);
    t.true(again >= toMs && again < toMs + 2000, `${again}`);
    t.deepEqual(end.times(BFD_EVENT_USABLE), [first + 5000, again + 5000]);
    t.deepEqual(end.times(BFD_EVENT_UNUSABLE), end.times(BFD_EVENT_DOWN));
  }
});

for (const [seed, settings, loss] of [
  [7, {}, 0.3],
  [8, { detectMult: 5 }, 0.3],
  [9, FAST, 0.3],
  [10, { ...FAST, detectMult: 10 }, 0.3],
] as [number, Partial<BfdSettings>, number][]) {
  test(`an hour of 30 % loss, ${JSON.stringify(settings)}: down when the detection rule says so and never else`, (t) => {
    const random = new SeededRandom(seed);
    const hourMs = 3_600_000;
    const link = new BfdLink({
      seed,
      west: settings,
      east: settings,
      latencyMs: () => 5 + random.fraction() * 20,
      loses: () => random.fraction() < loss,
    });
    link.run(hourMs);
    const requiredMinRxMs = { ...BFD_DEFAULTS, ...settings }.requiredMinRxMs;
    let timeouts = 0;
    for (const end of [link.west, link.east]) {
      timeouts += judgeDowns(t, end, requiredMinRxMs, hourMs);
      t.true(end.delivered.length > 1000);
    }
    // Loss of three in a row happens; of ten, in this hour, a few times at most.
    if (settings.detectMult === undefined) t.true(timeouts > 10);
    else t.true(timeouts < 60);
  });
}

test("a slower rate is not used before the poll that tells of it was answered", (t) => {
  let losesFinal = true;
  const link = new BfdLink({
    seed: 11,
    west: FAST,
    east: FAST,
    loses: (_from, _at, packet) => losesFinal && packet.final,
  });
  losesFinal = false;
  link.run(10_000);
  losesFinal = true;
  const changedMs = link.nowMs;
  link.west.configure({ ...link.west.settings, desiredMinTxMs: 400 });
  link.run(changedMs + 2000);
  t.true(link.west.session.isPolling);
  const during = link.west.sent.filter(({ atMs }) => atMs >= changedMs);
  t.true(during.length >= 2000 / 50);
  t.true(during.every(({ packet }) => packet.poll && packet.desiredMinTxUs === 400_000));
  t.is(link.east.session.detectionTimeMs, 1200, "the other end waits longer from the first packet on");

  losesFinal = false;
  link.run(changedMs + 2100);
  t.false(link.west.session.isPolling);
  const afterMs = link.nowMs;
  link.run(afterMs + 20_000);
  for (const ms of intervals(link.west, afterMs)) t.true(ms >= 300 && ms <= 400);
  t.true(link.west.sent.filter(({ atMs }) => atMs > afterMs).every(({ packet }) => !packet.poll));
  t.deepEqual(link.east.times(BFD_EVENT_DOWN), []);
});

test("a shorter detection time is not used before the poll that asks for it was answered", (t) => {
  let losesFinal = false;
  const slow = { desiredMinTxMs: 50, requiredMinRxMs: 1000 };
  const link = new BfdLink({ seed: 12, west: slow, east: slow, loses: (_f, _a, packet) => losesFinal && packet.final });
  link.run(10_000);
  t.is(link.west.session.detectionTimeMs, 3000);
  losesFinal = true;
  link.west.configure({ ...link.west.settings, requiredMinRxMs: 100 });
  link.run(12_000);
  t.is(link.west.session.detectionTimeMs, 3000);
  t.is(link.east.session.txIntervalMs, 100, "the other end may speed up at once");
  losesFinal = false;
  link.run(14_000);
  t.is(link.west.session.detectionTimeMs, 300);
  t.deepEqual(link.west.times(BFD_EVENT_DOWN), []);
});

test("a faster rate and a longer detection time are used at once", (t) => {
  const slow = { desiredMinTxMs: 1000, requiredMinRxMs: 50 };
  const link = new BfdLink({ seed: 13, west: slow, east: slow, loses: (_f, _a, packet) => packet.final });
  link.run(10_000);
  link.west.configure({ ...link.west.settings, desiredMinTxMs: 100, requiredMinRxMs: 2000 });
  t.is(link.west.session.txIntervalMs, 100);
  t.is(link.west.session.detectionTimeMs, 6000);
});

test("a change during a poll sequence gets a poll sequence of its own, and a late answer to the first does not end it", (t) => {
  for (const plain of [false, true]) {
    let losesFinal = false;
    const link = new BfdLink({ seed: 14, west: FAST, east: FAST, plain, loses: (_f, _a, p) => losesFinal && p.final });
    link.run(10_000);
    losesFinal = true;
    link.west.configure({ ...link.west.settings, desiredMinTxMs: 300 });
    link.run(10_500);
    link.west.configure({ ...link.west.settings, desiredMinTxMs: 700 });
    link.run(11_000);
    t.is(link.west.session.txIntervalMs, 50);
    losesFinal = false;
    const beforeMs = link.nowMs;
    link.run(13_000);
    t.false(link.west.session.isPolling);
    t.is(link.west.session.txIntervalMs, 700);
    t.true(link.west.delivered.filter(({ atMs, packet }) => atMs > beforeMs && packet.final).length >= 2);
  }
});

test("a poll is answered at once, out of turn, with Final and without Poll, in every state but AdminDown", (t) => {
  const link = new BfdLink({ seed: 15, west: FAST, east: FAST });
  link.run(10_000);
  for (const end of [link.west, link.east]) {
    for (const { packet } of [...end.sent, ...link.other(end).sent]) t.false(packet.poll && packet.final);
    const polls = end.delivered.filter(({ packet }) => packet.poll);
    t.true(polls.length > 0);
    for (const { atMs } of polls) t.true(end.sent.some((log) => log.atMs === atMs && log.packet.final));
  }
});

/** One end alone, and packets made up for it. */
function alone(settings: Partial<BfdSettings> = {}): {
  session: BfdSession;
  hear: (wish: Partial<BfdPacket>, nowMs: number) => number;
  say: (nowMs: number) => BfdPacket[];
} {
  const session = new BfdSession(
    {
      discriminator: 7,
      path: 3,
      identity: identity("west"),
      ownAddress: WEST,
      ownPort: 1280,
      settings: { ...BFD_DEFAULTS, ...settings },
      random: new SeededRandom(1),
    },
    0,
  );
  let txSequence = 0;
  const peer = { state: BFD_DOWN, detectMult: 3, myDiscriminator: 9, yourDiscriminator: 7 };
  const rates = { desiredMinTxUs: 1_000_000, requiredMinRxUs: 500_000, requiredMinEchoRxUs: 1_000_000 };
  const about = { hasMetadata: true, routerName: "east", nodeId: 1, bootId: 5n };
  return {
    session,
    hear: (wish, nowMs) => {
      const packet = Object.assign(new BfdPacket(), peer, rates, about, { txSequence: ++txSequence }, wish);
      return session.receive(packet, nowMs, EAST, 1280);
    },
    say: (nowMs) => {
      const said: BfdPacket[] = [];
      while (session.poll(nowMs)) {
        const packet = new BfdPacket();
        session.send(packet, nowMs);
        said.push(packet);
      }
      return said;
    },
  };
}

test("a peer that requires nothing gets no periodic packets, but answers to its polls", (t) => {
  const { session, hear, say } = alone();
  hear({ requiredMinRxUs: 0 }, 0);
  t.deepEqual(say(0), []);
  for (let ms = 1000; ms < 30_000; ms += 1000) {
    hear({ state: BFD_INIT, requiredMinRxUs: 0 }, ms);
    t.deepEqual(say(ms), []);
  }
  t.is(session.state, BFD_UP);
  hear({ state: BFD_UP, requiredMinRxUs: 0, poll: true }, 30_500);
  const said = say(30_500);
  t.is(said.length, 1);
  t.true(said[0].final);
  hear({ state: BFD_UP, requiredMinRxUs: 500_000 }, 31_000);
  t.is(say(31_000).length, 1);
});

test("a peer that required nothing and is gone is looked for again", (t) => {
  const { hear, say } = alone();
  hear({ requiredMinRxUs: 0 }, 0);
  t.deepEqual(say(2999), []);
  t.is(say(3000).length, 1);
  t.is(say(4000).length, 1);
});

test("a poll ends with an answer to one of its own packets, not with a late one to the poll before", (t) => {
  const { session, hear, say } = alone();
  hear({ state: BFD_INIT }, 0);
  for (const { txSequence } of say(0)) hear({ state: BFD_UP, rxSequence: txSequence, rxCount: 1 }, 10);
  const before = session.txSequence;
  session.configure({ ...BFD_DEFAULTS, desiredMinTxMs: 2000 });
  t.true(say(100)[0].poll);
  hear({ state: BFD_UP, final: true, rxSequence: before, rxCount: 1 }, 110);
  t.true(session.isPolling);
  t.is(session.txIntervalMs, 1000);
  hear({ state: BFD_UP, final: true, rxSequence: before + 1, rxCount: 2 }, 120);
  t.false(session.isPolling);
  t.is(session.txIntervalMs, 2000);
});

test("to a peer in demand mode nothing is sent of ourselves while both are Up, except polls and answers", (t) => {
  const { session, hear, say } = alone();
  hear({ state: BFD_INIT, demand: true }, 0);
  t.true(say(0).length > 0);
  for (let ms = 100; ms < 5000; ms += 1000) {
    hear({ state: BFD_UP, demand: true }, ms);
    t.deepEqual(say(ms), []);
  }
  hear({ state: BFD_UP, demand: true, poll: true }, 5000);
  t.deepEqual(
    say(5000).map(({ final }) => final),
    [true],
  );
  session.configure({ ...BFD_DEFAULTS, requiredMinRxMs: 800 });
  t.deepEqual(
    say(5100).map(({ poll }) => poll),
    [true],
  );
});

test("a packet for another discriminator, an older one, and one for a disabled session are refused by name", (t) => {
  const { session, hear, say } = alone();
  t.is(hear({ yourDiscriminator: 8 }, 0), DROP_BFD_SESSION);
  t.is(session.state, BFD_DOWN);
  t.is(hear({ yourDiscriminator: 0, txSequence: 10 }, 0), OK);
  t.is(hear({ txSequence: 10 }, 0), DROP_BFD_SEQUENCE);
  t.is(hear({ txSequence: 0xfffffff0 }, 0), DROP_BFD_SEQUENCE);
  t.is(session.rxCount, 1);
  t.is(session.state, BFD_INIT);
  t.is(hear({ txSequence: 1, myDiscriminator: 10 }, 0), OK, "a session made anew counts from the beginning");
  session.disable(0);
  t.is(hear({ txSequence: 20 }, 0), DROP_BFD_ADMIN_DOWN);
  t.is(say(0)[0].state, BFD_ADMIN_DOWN);
});

test("sequence numbers go on past 2^32", (t) => {
  const { session, hear } = alone();
  t.is(hear({ txSequence: 0xffffffff }, 0), OK);
  t.is(hear({ txSequence: 0 }, 0), OK);
  t.is(session.rxSequence, 0);
  t.is(session.rxCount, 2);
});

test("a disabled end says so for the detection time and is silent then, and the other neither comes up nor flaps", (t) => {
  const link = new BfdLink({
    seed: 16,
    loses: (from, atMs) => from.address === WEST && atMs > 10_000 && atMs < 11_500,
  });
  link.run(10_001);
  link.west.session.disable(link.nowMs);
  link.run(60_000);
  const farewell = link.west.sent.filter(({ atMs }) => atMs > 10_000);
  t.true(
    farewell.every(({ packet }) => packet.state === BFD_ADMIN_DOWN && packet.diagnostic === DIAGNOSTIC_ADMIN_DOWN),
  );
  t.true(farewell.length >= 4);
  const lastMs = farewell.at(-1)!.atMs;
  t.true(lastMs >= 10_001 + 3000 && lastMs <= 10_001 + 4000);
  t.is(link.east.session.state, BFD_DOWN);
  t.is(link.east.times(BFD_EVENT_DOWN).length, 1);
  t.is(link.east.happened.at(-1)?.diagnostic, DIAGNOSTIC_NEIGHBOR_DOWN);
  link.west.session.enable(link.nowMs);
  link.run(65_000);
  t.true(bothUp(link));
});

test("hold-down doubles with each flap up to its maximum, and begins anew after a time of quiet; without a maximum it stays", (t) => {
  for (const [maximumHoldDownMs, expected] of [
    [60_000, [5, 5, 10, 20, 40, 60, 60, 5]],
    [0, [5, 5, 5, 5, 5, 5, 5, 5]],
  ] as [number, number[]][]) {
    const { session, hear, say } = alone({ maximumHoldDownMs });
    const waits: number[] = [];
    let nowMs = 0;
    for (let round = 0; round < 8; round++) {
      hear({ state: BFD_INIT }, nowMs);
      t.is(session.state, BFD_UP);
      const upMs = nowMs;
      // The last but one stays up for the time of quiet.
      const stayMs = round === 6 ? 121_000 : 59_000;
      while (nowMs < upMs + stayMs || !session.usable) {
        nowMs += 500;
        hear({ state: BFD_UP }, nowMs);
        const wasUsable = session.usable;
        say(nowMs);
        if (session.usable && !wasUsable) waits.push((nowMs - upMs) / 1000);
        if (session.usable && round !== 6) break;
      }
      hear({ state: BFD_DOWN }, nowMs);
      t.is(session.state, BFD_DOWN);
      t.false(session.usable);
      hear({ state: BFD_DOWN }, nowMs);
    }
    t.deepEqual(waits, expected);
  }
});

test("a path that goes down within the hold-down time was never usable", (t) => {
  const { session, hear, say } = alone();
  hear({ state: BFD_INIT }, 0);
  say(4900);
  session.takeEvents();
  hear({ state: BFD_DOWN }, 4900);
  say(9000);
  t.is(session.takeEvents() & (BFD_EVENT_USABLE | BFD_EVENT_UNUSABLE), 0);
});

test("a peer that was started again is noticed by its boot id, and the session comes up again", (t) => {
  const link = new BfdLink({ seed: 17 });
  link.run(20_000);
  link.restart(link.east, "east", 0x33333333, 2n);
  link.run(30_000);
  t.is(link.west.times(BFD_EVENT_RESTART).length, 1);
  t.is(link.west.times(BFD_EVENT_DOWN).length, 1);
  t.is(link.west.happened.find(({ events }) => (events & BFD_EVENT_DOWN) !== 0)?.diagnostic, DIAGNOSTIC_NEIGHBOR_DOWN);
  t.true(bothUp(link));
  t.is(link.west.session.bootId, 2n);
  t.is(link.west.session.remoteDiscriminator, 0x33333333);
  t.deepEqual(link.east.times(BFD_EVENT_RESTART), [], "an end that begins knows no other peer");
});

test("another node of the peer's router counts as a restart even when the session stays Up", (t) => {
  const { session, hear } = alone();
  hear({ state: BFD_INIT }, 0);
  session.takeEvents();
  hear({ state: BFD_UP, nodeId: 2, bootId: 6n, txSequence: 1 }, 500);
  t.is(session.takeEvents(), BFD_EVENT_RESTART);
  t.is(session.state, BFD_UP);
});

test("a change of NAT is seen by the end it hides from in the header, and by the other in what it is told", (t) => {
  const link = new BfdLink({ seed: 18 });
  link.west.seenAddress = 0x0b000001;
  link.west.seenPort = 40_000;
  link.run(10_000);
  t.deepEqual(link.east.times(BFD_EVENT_PEER_NAT), [], "behind NAT from the beginning is no change");
  t.is(link.east.session.peerAddress, 0x0b000001);
  t.is(link.east.session.peerOwnAddress, WEST);
  t.is(link.west.session.observedPort, 40_000);
  t.is(link.west.session.observedAddress, 0x0b000001);

  link.west.seenPort = 40_001;
  link.run(20_000);
  t.is(link.east.times(BFD_EVENT_PEER_NAT).length, 1);
  t.is(link.west.times(BFD_EVENT_LOCAL_NAT).length, 1);
  t.is(link.west.times(BFD_EVENT_LOCAL_NAT)[0] - link.east.times(BFD_EVENT_PEER_NAT)[0], 10, "told at once");
  t.deepEqual(link.west.times(BFD_EVENT_PEER_NAT), []);
  t.deepEqual(link.east.times(BFD_EVENT_LOCAL_NAT), []);
  t.true(bothUp(link));
});

test("plain sessions come up without metadata", (t) => {
  const link = new BfdLink({ seed: 19, plain: true });
  link.run(10_000);
  t.true(bothUp(link));
  t.true(link.west.sent.every(({ packet }) => !packet.hasMetadata && packet.requiredMinEchoRxUs === 0));
});

test("an echo is a packet of its own that comes back to the session it left", (t) => {
  const { session, hear } = alone();
  hear({ state: BFD_INIT }, 0);
  const echo = new BfdPacket();
  session.fillEcho(echo, 77, 123_456_789.5);
  t.is(echo.echoTimeUs, 123_456_789);
  t.is(echo.txSequence, 77);
  t.is(echo.myDiscriminator, 7);
  t.is(echo.yourDiscriminator, 9);
  t.true(session.isOwnEcho(echo));
  t.false(session.isOwnEcho(Object.assign(new BfdPacket(), echo, { bootId: 99n })));
  t.is(session.txSequence, 0, "it takes no number of the control packets");
});

test("a packet finds its session by our discriminator from anywhere, without one by its peer path", (t) => {
  const list = new BfdSessionList();
  const { session } = alone();
  list.add(session);
  t.is(list.find(7, -1), session);
  t.is(list.find(7, 99), session);
  t.is(list.find(0, 3), session);
  t.is(list.find(0, 4), undefined);
  t.is(list.find(0, -1), undefined);
  t.is(list.find(8, 3), undefined, "a discriminator of an earlier life is not made good by the path");
  t.deepEqual([...list], [session]);
  // Zero and what is taken are drawn again.
  const words = [0, 7, 12];
  t.is(list.draw({ nextI32: () => words.shift()! }), 12);
  list.remove(session);
  t.is(list.find(7, 3), undefined);
  t.is(list.find(0, 3), undefined);
});
