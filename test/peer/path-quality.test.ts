import test from "ava";
import { SeededRandom } from "../../lib/base/random.ts";
import { averageQuality, DirectionLoss, EchoTest, meanOpinionScore, PathQuality } from "../../lib/peer/path-quality.ts";
import { BFD_UP } from "../../lib/wire/bfd.ts";
import { BfdLink, EAST, WEST } from "./bfd-link.ts";

test("the mean opinion score is that of the seven published rows, to a hundredth", (t) => {
  for (const [latencyMs, jitterMs, lossPercent, score] of [
    [78, 21, 0, 4.34],
    [64, 12, 0, 4.36],
    [45, 4, 0, 4.38],
    [113, 51, 0, 4.12],
    [18, 0, 0, 4.4],
    [15, 1, 0, 4.4],
    [0, 0, 100, 1.0],
  ]) {
    t.is(meanOpinionScore({ latencyMs, jitterMs, lossPercent }).toFixed(2), score.toFixed(2), `${latencyMs} ms`);
  }
});

/** Run one test whose echoes come back after these times; undefined = lost. Returns when it began. */
function burst(echo: EchoTest, nowMs: number, roundTripsMs: (number | undefined)[]): void {
  const count = echo.poll(nowMs);
  if (count !== roundTripsMs.length) throw new Error(`${count} echoes`);
  const sequences = roundTripsMs.map((_, i) => echo.sent(nowMs + i / 100));
  const back = roundTripsMs.flatMap((ms, i) => (ms === undefined ? [] : [[nowMs + i / 100 + ms, sequences[i]]]));
  for (const [atMs, sequence] of back.sort(([a], [b]) => a - b)) echo.received(sequence, atMs);
  if (back.length < count) echo.poll(echo.dueMs);
}

test("a test tells the share that is missing, half the round trip, and half the mean difference of one to the next", (t) => {
  const echo = new EchoTest({ intervalMs: 10_000, length: 5 }, 0);
  // By hand: 20 + 30 + 24 + 40 = 114, differences 10, 6, 16.
  burst(echo, 0, [20, 30, undefined, 24, 40]);
  const last = echo.last!;
  t.is(last.lossPercent, 20);
  t.true(Math.abs(last.latencyMs - 114 / 4 / 2) < 1e-9);
  t.true(Math.abs(last.jitterMs - 32 / 3 / 2) < 1e-9);
});

test("order of return does not matter: jitter is by the order of sending", (t) => {
  const straight = new EchoTest({ intervalMs: 10_000, length: 4 }, 0);
  const crossed = new EchoTest({ intervalMs: 10_000, length: 4 }, 0);
  burst(straight, 0, [10, 20, 10, 20]);
  t.is(straight.last?.jitterMs.toFixed(6), "5.000000");
  crossed.poll(0);
  const sequences = [0, 0, 0, 0].map(() => crossed.sent(0));
  for (const i of [0, 2]) crossed.received(sequences[i], 10);
  for (const i of [3, 1]) crossed.received(sequences[i], 20);
  t.is(crossed.last?.jitterMs, 5);
});

test("a test ends when all is back, or 2 s after it began, and the next begins an interval after it", (t) => {
  const echo = new EchoTest({ intervalMs: 10_000, length: 10 }, 500);
  t.is(echo.dueMs, 500);
  t.is(echo.poll(499), 0);
  t.is(echo.poll(500), 10);
  t.is(echo.poll(500), 0);
  const sequences = Array.from({ length: 10 }, () => echo.sent(500));
  t.is(new Set(sequences).size, 10);
  t.is(echo.dueMs, 2500);
  for (const sequence of sequences.slice(1)) echo.received(sequence, 510);
  t.is(echo.last, undefined);
  t.is(echo.poll(2499), 0);
  t.is(echo.last, undefined);
  echo.poll(2500);
  t.is(echo.last?.lossPercent, 10);
  echo.received(sequences[0], 2501);
  t.is(echo.last?.lossPercent, 10, "too late");
  t.is(echo.dueMs, 10_500);
  t.is(echo.poll(10_500), 10);
  const next = Array.from({ length: 10 }, () => echo.sent(10_500));
  for (const sequence of sequences) echo.received(sequence, 10_501);
  for (const sequence of [...next, ...next, 999_999]) echo.received(sequence, 10_520);
  t.deepEqual(echo.last, { lossPercent: 0, latencyMs: 10, jitterMs: 0 });
});

test("when nothing comes back loss is 100 % and the average keeps the latency it knew", (t) => {
  const echo = new EchoTest({ intervalMs: 1000, length: 2 }, 0);
  burst(echo, 0, [10, 10]);
  burst(echo, 1000, [undefined, undefined]);
  t.deepEqual(echo.last, { lossPercent: 100, latencyMs: Number.NaN, jitterMs: Number.NaN });
  t.is(echo.average?.lossPercent, 25);
  t.is(echo.average?.latencyMs.toFixed(6), "5.000000");
  echo.reset(1500);
  t.is(echo.average, undefined);
  t.is(echo.dueMs, 1500);
});

test("with a length of 0 there are no tests", (t) => {
  const echo = new EchoTest({ intervalMs: 1000, length: 0 }, 0);
  t.is(echo.dueMs, Number.POSITIVE_INFINITY);
  t.is(echo.poll(1e9), 0);
});

test("each test moves the average by a quarter of the distance, so half of a change is seen after three tests", (t) => {
  const quality = (lossPercent: number) => ({ lossPercent, latencyMs: lossPercent, jitterMs: lossPercent });
  let average = averageQuality(undefined, quality(0));
  const seen = [1, 2, 3, 4].map(() => (average = averageQuality(average, quality(100))).latencyMs);
  t.deepEqual(seen, [25, 43.75, 57.8125, 68.359375]);
  t.is(average.jitterMs, 68.359375);
});

test("loss of 20 % one way and 5 % the other is told apart at both ends, over two sessions and an hour", (t) => {
  const random = new SeededRandom(41);
  const rates = new Map([
    [WEST, 0.2],
    [EAST, 0.05],
  ]);
  // 20 packets of a window lost in a row are unlikely: nothing goes down.
  const link = new BfdLink({
    seed: 41,
    west: { detectMult: 20 },
    east: { detectMult: 20 },
    loses: (from) => random.fraction() < rates.get(from.address)!,
  });
  link.run(3_600_000);
  t.is(link.west.session.state, BFD_UP);
  for (const end of [link.west, link.east]) {
    const loss = new DirectionLoss();
    const [fromPeer, toPeer]: number[][] = [[], []];
    for (const { packet } of end.delivered) {
      loss.heard(packet.txSequence, packet.rxSequence, packet.rxCount);
      fromPeer.push(loss.fromPeerPercent);
      toPeer.push(loss.toPeerPercent);
    }
    const mean = (values: number[]) => {
      const known = values.filter((value) => !Number.isNaN(value));
      return known.reduce((sum, value) => sum + value, 0) / known.length;
    };
    const other = link.other(end);
    // What really happened, by counting.
    const lost = (from: typeof end) => 100 * (1 - link.other(from).delivered.length / from.sent.length);
    t.true(Math.abs(mean(fromPeer) - lost(other)) < 1.5, `${mean(fromPeer)} ${lost(other)}`);
    t.true(Math.abs(mean(toPeer) - lost(end)) < 1.5, `${mean(toPeer)} ${lost(end)}`);
  }
});

test("a window of sequence numbers is exact, and numbers that begin anew are no loss", (t) => {
  const loss = new DirectionLoss();
  loss.heard(100, 1000, 500);
  t.true(Number.isNaN(loss.fromPeerPercent));
  // 40 of its numbers, of which 10 came; of ours it had 30 of 50.
  for (let n = 1; n <= 10; n++) loss.heard(100 + 4 * n, 1000 + 5 * n, 500 + 3 * n);
  t.is(loss.fromPeerPercent, 75, "the window closed after 32 numbers, 8 of which came");
  t.is(loss.toPeerPercent, 40);
  const before = loss.fromPeerPercent;
  loss.heard(1, 1, 1);
  for (let n = 2; n < 40; n++) loss.heard(n, n, n);
  t.is(loss.fromPeerPercent, before * 0.75, "a window without loss, after the peer began anew");
  loss.heard(40, 140, 1040);
  t.false(Number.isNaN(loss.toPeerPercent));
  t.true(loss.toPeerPercent >= 0, "more than were sent: another count");
  const wrapping = new DirectionLoss();
  for (let n = 0; n <= 60; n++) wrapping.heard((0xfffffff0 + n) >>> 0, -1, -1);
  t.is(wrapping.fromPeerPercent, 0);
  t.true(Number.isNaN(wrapping.toPeerPercent));
});

test("what the sessions' packets tell goes before echo tests, while it is fresh", (t) => {
  const echo = new EchoTest({ intervalMs: 1000, length: 1 }, 0);
  const inline = { lossPercent: 1, latencyMs: 2, jitterMs: 3 };
  const path = new PathQuality(echo, { quality: (nowMs) => (nowMs < 5000 ? inline : undefined) });
  t.deepEqual(path.current(0), inline);
  t.is(path.current(5000), undefined);
  burst(echo, 0, [8]);
  t.deepEqual(path.current(0), inline);
  t.is(path.current(5000)?.latencyMs, 4);
  t.is(new PathQuality(echo, null).current(0)?.latencyMs, 4);
});
