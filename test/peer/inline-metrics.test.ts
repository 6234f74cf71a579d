// Two ends that mark their packets, in virtual time. What the machines say is compared with what the link really did.

import test from "ava";
import { SeededRandom } from "../../lib/base/random.ts";
import { InlineMetrics, type InlineSettings } from "../../lib/peer/inline-metrics.ts";
import type { PathMetrics } from "../../lib/wire/metadata-attributes.ts";
import { ATTRIBUTE_PATH_METRICS, findAttribute } from "../../lib/wire/metadata-attributes.ts";

/** Protocol sheet 6.4. */
const EXAMPLE: InlineSettings = { markingCount: 100, intervalMs: 10_000 };
const codec = findAttribute(ATTRIBUTE_PATH_METRICS, 10)!;

interface Side {
  metrics: InlineMetrics;
  /** Per color in order of sending: marked packets that left, and that arrived. */
  truth: { sent: number; came: number }[];
  /** Loss of each color as the machine told it, in order. */
  told: number[];
  reports: number;
}

interface World {
  startMs: number;
  seconds: number;
  settings?: InlineSettings;
  /** Packets a second that each side sends. */
  rates: [number, number];
  latencyMs: (side: number, nowMs: number) => number;
  loses: (side: number, nowMs: number) => boolean;
}

function play(world: World): Side[] {
  const settings = world.settings ?? EXAMPLE;
  const sides: Side[] = [0, 1].map(() => ({ metrics: new InlineMetrics(settings), truth: [], told: [], reports: 0 }));
  const colors = [0, 0];
  const inFlight: { atMs: number; to: number; bytes: Uint8Array; counts: { came: number } | undefined }[] = [];
  for (let tick = 0; tick < world.seconds * 1000; tick++) {
    const nowMs = world.startMs + tick;
    for (let n = 0; n < inFlight.length; n++) {
      const { atMs, to, bytes, counts } = inFlight[n];
      if (atMs > nowMs) continue;
      inFlight.splice(n--, 1);
      if (counts !== undefined) counts.came++;
      const before = sides[to].metrics.lastLossPercent;
      sides[to].metrics.receive(codec.decode(bytes) as PathMetrics, nowMs);
      const after = sides[to].metrics.lastLossPercent;
      if (!Object.is(before, after)) sides[to].told.push(after);
    }
    for (const [index, side] of sides.entries()) {
      const send = (fields: PathMetrics, counts?: { sent: number; came: number }) => {
        if (counts !== undefined) counts.sent++;
        if (world.loses(index, nowMs)) return;
        const atMs = nowMs + world.latencyMs(index, nowMs);
        inFlight.push({ atMs, to: 1 - index, bytes: codec.encode(fields), counts });
      };
      const fields = { txColor: 0, txTimeMs: 0, rxColor: 0, rxTimeMs: 0, drop: false, previousRxCount: 0 };
      const due =
        Math.floor((tick * world.rates[index]) / 1000) !== Math.floor(((tick - 1) * world.rates[index]) / 1000);
      if (due && side.metrics.mark(nowMs)) {
        side.metrics.fill(fields, nowMs);
        if (fields.txColor === 0) {
          send(fields);
          continue;
        }
        if (fields.txColor !== colors[index]) side.truth.push({ sent: 0, came: 0 });
        colors[index] = fields.txColor;
        send(fields, side.truth.at(-1)!);
      } else if (nowMs >= side.metrics.reportDueMs) {
        side.metrics.fillReport(fields, nowMs);
        side.reports++;
        send(fields);
      }
    }
  }
  return sides;
}

const lossOf = ({ sent, came }: { sent: number; came: number }) => 100 * (1 - came / sent);

test("the loss told of each color is what the link lost of it, both ways, except of the first color", (t) => {
  const random = new SeededRandom(51);
  const sides = play({
    startMs: 0,
    seconds: 300,
    rates: [50, 20],
    latencyMs: (side) => 10 + 10 * side,
    loses: (side) => random.fraction() < (side === 0 ? 0.3 : 0.05),
  });
  for (const { truth, told, reports, metrics } of sides) {
    t.is(reports, 0, "traffic both ways carries it all");
    t.true(truth.length >= 29);
    t.true(truth.every(({ sent }) => sent === 100));
    // The peer began to listen in the middle of the first color, for all it knows; the last is still under way.
    const expected = truth.slice(1, -1).map(lossOf);
    const changes = expected.filter((loss, i) => !Object.is(loss, expected[i - 1]));
    t.deepEqual(told, changes);
    t.is(Math.round(metrics.roundTripMs), 30, "10 there, 20 back, the dwell time taken off");
    t.is(metrics.jitterMs, 0);
  }
  const [west, east] = sides.map(({ metrics }) => metrics.quality(300_000)!);
  t.true(west.lossPercent > 20 && west.lossPercent < 40);
  t.true(east.lossPercent > 0 && east.lossPercent < 12);
  t.is(Math.round(west.latencyMs), 15);
});

test("without traffic the other way packets are made to tell, once a second, and not in answer to each other", (t) => {
  const random = new SeededRandom(52);
  const [west, east] = play({
    startMs: 0,
    seconds: 120,
    rates: [50, 0],
    latencyMs: () => 5,
    loses: (side) => side === 0 && random.fraction() < 0.1,
  });
  t.is(west.reports, 0);
  // 100 packets take 2 s of each interval of 10.
  t.true(east.reports >= 12 && east.reports <= 60, `${east.reports}`);
  t.true(west.told.length >= 8);
  t.deepEqual(west.told.slice(0, 3), west.truth.slice(1, 4).map(lossOf));
  t.is(east.truth.length, 0);
});

test("colors of which nothing arrives are told as lost whole", (t) => {
  const [west] = play({
    startMs: 0,
    seconds: 120,
    rates: [20, 20],
    latencyMs: () => 5,
    loses: (side, nowMs) => side === 0 && nowMs >= 50_000 && nowMs < 70_000,
  });
  t.is(west.truth.filter(({ came }) => came === 0).length, 2);
  t.deepEqual(west.told, [0, 100, 0]);
});

test("packets that overtake each other are not taken for lost, and jitter is told", (t) => {
  const random = new SeededRandom(53);
  const [west] = play({
    startMs: 0,
    seconds: 200,
    settings: { markingCount: 1000, intervalMs: 2000 },
    rates: [100, 100],
    latencyMs: () => random.below(40),
    loses: () => false,
  });
  t.true(west.truth.length > 90);
  t.deepEqual(west.told, [0]);
  // Two even numbers under 40 differ by 40 / 3 in the mean.
  t.true(Math.abs(west.metrics.jitterMs - 13.3) < 4, `${west.metrics.jitterMs}`);
});

test("the time of 28 bits may begin anew, every 74.5 hours", (t) => {
  const [west] = play({
    startMs: 2 ** 28 - 30_000,
    seconds: 60,
    rates: [20, 20],
    latencyMs: (side) => (side === 0 ? 7 : 8),
    loses: () => false,
  });
  t.is(west.metrics.roundTripMs, 15);
  t.is(west.metrics.jitterMs, 0);
});

test("jitter does not mind a peer whose clock is a little ahead, so that packets seem to come before they left", (t) => {
  const metrics = new InlineMetrics(EXAMPLE);
  for (let n = 0; n < 200; n++) {
    const nowMs = 1000 + n * 100;
    const txTimeMs = nowMs + (n % 2 === 0 ? 4 : -6);
    metrics.receive({ txColor: 1, txTimeMs, rxColor: 0, rxTimeMs: 0, drop: false, previousRxCount: 0 }, nowMs);
  }
  t.is(metrics.jitterMs, 10);
});

test("metrics age out when the traffic has left the path, and begin anew after a reset", (t) => {
  const world = {
    startMs: 0,
    seconds: 60,
    rates: [20, 20] as [number, number],
    latencyMs: () => 5,
    loses: () => false,
  };
  const [{ metrics }] = play(world);
  t.truthy(metrics.quality(60_000));
  t.truthy(metrics.quality(80_000));
  t.is(metrics.quality(91_000), undefined);
  metrics.reset();
  t.is(metrics.quality(60_000), undefined);
  t.is(metrics.reportDueMs, Number.POSITIVE_INFINITY);
});

test("a mark that is not filled in is not counted, and at most so many of an interval are marked", (t) => {
  const metrics = new InlineMetrics({ markingCount: 3, intervalMs: 1000 });
  const fields = { txColor: 0, txTimeMs: 0, rxColor: 0, rxTimeMs: 0, drop: false, previousRxCount: 0 };
  const colors: number[] = [];
  for (let nowMs = 0; nowMs < 16_000; nowMs += 100) {
    if (!metrics.mark(nowMs)) continue;
    if (nowMs % 200 === 0) continue; // no room in this one
    metrics.fill(fields, nowMs);
    colors.push(fields.txColor);
  }
  const expected = Array.from({ length: 16 }, (_, i) => Array<number>(3).fill((i % 15) + 1)).flat();
  t.deepEqual(colors, expected);
});
