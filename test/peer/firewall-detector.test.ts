// The firewall detector in virtual time, against paths that lose what they like.

import test from "ava";
import { SeededRandom } from "../../lib/base/random.ts";
import { StateReader, StateWriter } from "../../lib/base/state.ts";
import { FirewallDetector, type TestResult } from "../../lib/peer/firewall-detector.ts";
import {
  BURST,
  CONTROLS,
  isControl,
  isTestPorts,
  PLACES,
  TEST_JUMBO,
  TEST_MID_FLOW,
  TEST_SYN,
  TESTS,
  testAt,
  testPort,
  testSourcePort,
} from "../../lib/peer/firewall-tests.ts";
import { FirewallWitness } from "../../lib/peer/firewall-witness.ts";

const INTERVAL_MS = 300_000;
const NUMBER = 0xffff_fffe;
const BOOT = 7n;

/** What takes a packet away: by its place, on its way to the peer or back, at that time. */
type Firewall = (place: number, isBack: boolean, nowMs: number) => boolean;

const nothing: Firewall = () => false;
/** Tests, not the controls beside them. */
const tcp =
  (test: number, way?: "there" | "back"): Firewall =>
  (place, isBack) =>
    !isControl(place) && testAt(place) === test && (way === undefined || (way === "back") === isBack);

/** A path and the detector that looks at it, with the peer's witness at its other end. */
class Path {
  detector = new FirewallDetector({ intervalMs: INTERVAL_MS, number: NUMBER });
  witness = new FirewallWitness();
  nowMs = 1000;
  takes: Firewall;
  roundTripMs = 10;
  /** Of each packet, either way. */
  loss = 0;
  answers = true;
  readonly sent: { place: number; number: number; atMs: number }[] = [];
  readonly #random: SeededRandom;
  readonly #coming: { atMs: number; come: () => void }[] = [];

  constructor(takes: Firewall = nothing, seed = 1) {
    this.takes = takes;
    this.#random = new SeededRandom(seed);
    this.detector.start(this.nowMs);
  }

  /** Let so much time pass, or less, until `holds`; returns how much did. */
  run(ms: number, holds = () => false): number {
    const beganMs = this.nowMs;
    const endMs = beganMs + ms;
    for (;;) {
      for (let place = this.detector.poll(this.nowMs); place >= 0; place = this.detector.poll(this.nowMs))
        this.#send(place);
      if (holds()) return this.nowMs - beganMs;
      const nextMs = Math.min(this.detector.dueMs, ...this.#coming.map(({ atMs }) => atMs));
      if (nextMs > endMs) break;
      this.nowMs = Math.max(this.nowMs, nextMs);
      const now = this.#coming.filter(({ atMs }) => atMs <= this.nowMs);
      for (const one of now) this.#coming.splice(this.#coming.indexOf(one), 1);
      for (const { come } of now) come();
    }
    this.nowMs = endMs;
    return ms;
  }

  tests(): number {
    return this.sent.filter(({ place }) => !isControl(place)).length;
  }

  #isLost(place: number, isBack: boolean): boolean {
    return this.takes(place, isBack, this.nowMs) || this.#random.fraction() < this.loss;
  }

  #send(place: number): void {
    const number = this.detector.sent(this.nowMs);
    this.sent.push({ place, number, atMs: this.nowMs });
    if (this.#isLost(place, false)) return;
    this.#later(() => {
      if (!this.answers) return;
      const heard = this.witness.take(BOOT, number, place);
      if (heard < 0) throw new Error("a packet that was sent once came twice");
      if (this.#isLost(place, true)) return;
      this.#later(() => this.detector.answered(number, place, heard, this.nowMs));
    });
  }

  #later(come: () => void): void {
    this.#coming.push({ atMs: this.nowMs + this.roundTripMs / 2, come });
  }
}

const ALL_PASSED: TestResult[] = ["passed", "passed", "passed"];
/** More than any round takes. */
const ROUND_MS = 60_000;

test("a path that takes everything is TCP's: a control, twelve tests, and no more until the next interval", (t) => {
  const path = new Path();
  path.run(INTERVAL_MS - 1);
  t.false(path.detector.isBlocked);
  t.deepEqual(path.detector.results, ALL_PASSED);
  t.deepEqual(
    path.sent.map(({ place }) => place),
    [CONTROLS, ...Array.from({ length: CONTROLS }, (_, place) => place)],
  );
  path.run(100);
  t.is(path.sent.length, 2 * 13);
});

for (const [name, failing] of [
  ["TCP SYN", TEST_SYN],
  ["Mid-flow", TEST_MID_FLOW],
  ["TCP SYN Jumbo", TEST_JUMBO],
] as const) {
  for (const way of ["there", "back"] as const) {
    test(`without ${name} ${way} TCP goes as UDP within two seconds, the test and the way said`, (t) => {
      const path = new Path(tcp(failing, way));
      const tookMs = path.run(10_000, () => path.detector.isBlocked);
      t.true(tookMs < 2000, `${tookMs}`);
      const expected = ALL_PASSED.map((passed, at) =>
        at === failing ? (way === "there" ? "to-peer" : "from-peer") : passed,
      );
      t.deepEqual(path.detector.results, expected);
      // Four that are silent, and three times four with a control each.
      t.is(path.tests(), CONTROLS + 3 * BURST);
      t.is(path.detector.failedRounds, 1);
      path.run(20 * INTERVAL_MS);
      t.true(path.detector.isBlocked);
      t.is(path.detector.failedRounds, 21);
    });
  }
}

test("one burst that is lost changes nothing: the next one comes through", (t) => {
  // The first twelve tests come to nothing.
  const path = new Path((place, _, nowMs) => !isControl(place) && nowMs < 1300);
  path.run(ROUND_MS);
  t.false(path.detector.isBlocked);
  t.deepEqual(path.detector.results, ALL_PASSED);
  t.is(path.tests(), 2 * CONTROLS);
});

test("a path that takes nothing at all for a while is no firewall, whenever that begins", (t) => {
  for (let fromMs = 1000; fromMs < 2500; fromMs += 7) {
    const path = new Path((_, __, nowMs) => nowMs >= fromMs && nowMs < fromMs + 40_000);
    path.run(INTERVAL_MS);
    if (path.detector.isBlocked || path.detector.failedRounds > 0) t.fail(`silent from ${fromMs} ms`);
    if (path.detector.results.includes("unknown")) t.fail(`silent from ${fromMs} ms: never found out`);
  }
  t.pass();
});

test("a path that takes no packets so long, of whatever protocol, is no firewall", (t) => {
  const path = new Path((place) => testAt(place) === TEST_JUMBO);
  path.run(2 * INTERVAL_MS);
  t.false(path.detector.isBlocked);
  t.deepEqual(path.detector.results, ["passed", "passed", "unknown"]);
  // And is asked again, less and less often.
  const rounds = path.sent.filter(({ place }) => place === CONTROLS).length;
  t.true(rounds > 4 && rounds < 10, `${rounds}`);
});

test("a peer that answers nothing gets ten controls and no test, again after 10 s and then less and less often", (t) => {
  const path = new Path();
  path.answers = false;
  path.run(ROUND_MS);
  t.is(path.tests(), 0);
  t.deepEqual(path.detector.results, ["unknown", "unknown", "unknown"]);
  path.run(10 * INTERVAL_MS);
  t.is(path.tests(), 0);
  t.false(path.detector.isBlocked);
  t.false(path.detector.isAnswered);
  t.true(path.sent.length <= 10 * 17, `${path.sent.length}`);
});

test("a peer that answers once it is another version is tested then", (t) => {
  const path = new Path(tcp(TEST_SYN));
  path.answers = false;
  path.run(ROUND_MS);
  path.answers = true;
  path.run(INTERVAL_MS);
  t.true(path.detector.isBlocked);
});

test("what is found stays while the path is down, and when its peer speaks nothing of it any more it is forgotten", (t) => {
  const path = new Path(tcp(TEST_SYN));
  path.run(ROUND_MS);
  t.true(path.detector.isBlocked);
  path.detector.stop();
  t.is(path.detector.dueMs, Number.POSITIVE_INFINITY);
  path.run(ROUND_MS);
  t.true(path.detector.isBlocked, "down");
  // While it is only silent.
  path.detector.start(path.nowMs);
  path.run(ROUND_MS);
  t.true(path.detector.isBlocked, "up again");
  path.answers = false;
  path.run(3 * INTERVAL_MS);
  t.true(path.detector.isBlocked, "silent");
  path.detector.stop();
  path.detector.start(path.nowMs);
  path.run(ROUND_MS);
  t.false(path.detector.isBlocked, "another peer");
  t.deepEqual(path.detector.results, ["unknown", "unknown", "unknown"]);
});

test("back to TCP it takes two rounds in which all comes through, ten seconds apart", (t) => {
  const path = new Path(tcp(TEST_MID_FLOW));
  path.run(ROUND_MS);
  t.true(path.detector.isBlocked);
  path.takes = nothing;
  const tookMs = path.run(2 * INTERVAL_MS, () => !path.detector.isBlocked);
  t.deepEqual(path.detector.results, ALL_PASSED);
  const rounds = path.sent.filter(({ place }) => place === CONTROLS).map(({ atMs }) => atMs);
  t.is(rounds.length, 3);
  t.true(rounds[2] - rounds[1] >= 10_000 && rounds[2] - rounds[1] < 11_000);
  t.true(tookMs < INTERVAL_MS + 11_000);
});

test("a firewall that is there in every second round keeps TCP in UDP", (t) => {
  const path = new Path();
  const rounds = new Set<number>();
  path.takes = (place, isBack, nowMs) => rounds.size % 2 === 0 && tcp(TEST_SYN)(place, isBack, nowMs);
  const next = () => {
    const { judgedMs } = path.detector;
    path.run(2 * INTERVAL_MS, () => path.detector.judgedMs !== judgedMs);
    rounds.add(path.detector.judgedMs);
  };
  for (let n = 0; n < 100; n++) {
    next();
    if (!path.detector.isBlocked) t.fail(`in round ${n}`);
  }
  t.is(rounds.size, 100);
  t.is(path.detector.failedRounds, 50);
});

test("a suspicion brings a round soon, and no more than one in ten seconds", (t) => {
  const path = new Path();
  path.run(ROUND_MS);
  for (let n = 0; n < 100; n++) {
    path.detector.suspect(path.nowMs);
    path.run(1000);
  }
  const rounds = path.sent.filter(({ place }) => place === CONTROLS).length;
  t.true(rounds >= 9 && rounds <= 12, `${rounds}`);
});

for (const loss of [0.1, 0.3, 0.5]) {
  test(`with ${100 * loss} % of packets lost each way no path is believed to have a firewall${loss < 0.5 ? ", and one that is there is found" : ""}`, (t) => {
    let longestMs = 0;
    for (let seed = 1; seed <= 1000; seed++) {
      const path = new Path(nothing, seed);
      path.loss = loss;
      path.run(20 * INTERVAL_MS);
      if (path.detector.failedRounds > 0) t.fail(`seed ${seed}: ${path.detector.results}`);
      // Beyond that nobody has any use for the path.
      if (loss === 0.5) continue;
      const failing = seed % TESTS;
      const blocked = new Path(tcp(failing), seed);
      blocked.loss = loss;
      longestMs = Math.max(
        longestMs,
        blocked.run(10 * INTERVAL_MS, () => blocked.detector.isBlocked),
      );
      if (!blocked.detector.isBlocked) t.fail(`seed ${seed}: not found`);
    }
    t.log(`longest ${longestMs} ms`);
    t.pass();
  });
}

test("at random: blocked is what some test fails, results are of the firewall that is there, whatever comes between", (t) => {
  const random = new SeededRandom(5);
  const draw = (below: number) => (random.nextI32() >>> 0) % below;
  for (let run = 0; run < 300; run++) {
    const path = new Path(nothing, run + 1);
    path.roundTripMs = draw(900);
    for (let step = 0; step < 12; step++) {
      const failing = draw(1 << TESTS);
      const back = draw(2) === 1;
      const hasBoth = draw(2) === 1;
      path.takes = (place, isBack) =>
        !isControl(place) && ((failing >> testAt(place)) & 1) === 1 && (hasBoth || back === isBack);
      for (let n = draw(3); n > 0; n--) {
        const what = draw(3);
        if (what === 0) path.detector.suspect(path.nowMs);
        if (what === 1) path.detector.stop();
        if (what === 2) {
          const out = new StateWriter();
          path.detector.save(out);
          path.detector = new FirewallDetector({ intervalMs: INTERVAL_MS, number: 1 });
          path.detector.restore(new StateReader(out.finish()));
        }
        path.run(draw(3000));
      }
      path.detector.stop();
      path.detector.start(path.nowMs);
      path.run(ROUND_MS);
      const expected = ALL_PASSED.map((passed, at): TestResult => {
        if (((failing >> at) & 1) === 0) return passed;
        return hasBoth || !back ? "to-peer" : "from-peer";
      });
      if (path.detector.isBlocked !== failing > 0) t.fail(`run ${run}, step ${step}: ${failing}`);
      t.deepEqual(path.detector.results, expected, `run ${run}, step ${step}`);
    }
  }
});

test("answers that were not asked for, or came before, count for nothing", (t) => {
  const path = new Path(() => true);
  path.run(200);
  const [{ number, place }] = path.sent;
  const { detector } = path;
  t.is(place, CONTROLS);
  for (const other of [number - 1, number + 1, number + 1000, 0])
    t.false(detector.answered(other >>> 0, place, 0xfff, path.nowMs));
  for (const other of [0, 11, 13, PLACES, 31, 32, 0xffff]) t.false(detector.answered(number, other, 0xfff, path.nowMs));
  t.true(detector.answered(number, place, 0, path.nowMs));
  t.false(detector.answered(number, place, 0, path.nowMs));
  // The tests go; what is said of their burst before is not believed after the round is over.
  path.run(ROUND_MS);
  const last = path.sent.at(-1)!;
  t.false(detector.answered(last.number, last.place, 0xfff, path.nowMs));
});

test("its state goes on in another process, a round that ran begins anew, and damaged state is refused", (t) => {
  const path = new Path(tcp(TEST_JUMBO));
  path.run(ROUND_MS);
  const before = path.detector;
  const out = new StateWriter();
  before.save(out);
  const bytes = out.finish();
  const after = new FirewallDetector({ intervalMs: INTERVAL_MS, number: 1 });
  after.restore(new StateReader(bytes));
  t.like(after, { isBlocked: true, results: before.results, judgedMs: before.judgedMs, failedRounds: 1 });
  t.is(after.dueMs, before.dueMs);
  path.detector = after;
  path.run(INTERVAL_MS);
  t.true(path.detector.isBlocked);
  for (let at = 0; at < bytes.length; at++) {
    const other = new FirewallDetector({ intervalMs: INTERVAL_MS, number: 1 });
    t.throws(() => other.restore(new StateReader(bytes.slice(0, at))), undefined, `${at}`);
  }
  const unsaid = bytes.slice();
  unsaid.fill(0, bytes.length - TESTS);
  t.throws(() => new FirewallDetector({ intervalMs: INTERVAL_MS, number: 1 }).restore(new StateReader(unsaid)));
});

test("a witness answers each packet once, and none of an older burst, also where numbers wrap", (t) => {
  const witness = new FirewallWitness();
  t.is(witness.take(BOOT, 0xffff_fffe, 3), 1 << 3);
  t.is(witness.take(BOOT, 0xffff_fffe, 3), -1);
  t.is(witness.take(BOOT, 0xffff_fffe, CONTROLS + 3), 1 << 3);
  t.is(witness.take(BOOT, 0xffff_fffe, CONTROLS + 3), -1);
  t.is(witness.take(BOOT, 0xffff_fffe, 11), (1 << 3) | (1 << 11));
  t.is(witness.take(BOOT, 1, PLACES), -1);
  t.is(witness.take(BOOT, 1, 0), 1);
  t.is(witness.take(BOOT, 0xffff_fffe, 4), -1);
  t.is(witness.take(BOOT, 0, 4), -1);
  t.is(witness.take(BOOT + 1n, 0, 4), 1 << 4);
  const out = new StateWriter();
  witness.save(out);
  const after = new FirewallWitness();
  after.restore(new StateReader(out.finish()));
  t.is(after.take(BOOT + 1n, 0, 4), -1);
  t.is(after.take(BOOT + 1n, 0, 5), (1 << 4) | (1 << 5));
});

test("each packet is a connection of its own, on ports that no session has", (t) => {
  const seen = new Set<number>();
  for (let number = 0xffff_ffff - 300; number <= 0xffff_ffff; number++) {
    for (let place = 0; place < CONTROLS; place++) {
      const port = testSourcePort(number, place);
      t.true(port >= 8192 && port < 16384 && isTestPorts((port << 16) | testPort(place)));
      seen.add(port);
    }
  }
  t.is(seen.size, 301 * CONTROLS);
  t.true(isTestPorts((1283 << 16) | 9000));
  t.false(isTestPorts((16384 << 16) | 443));
});
