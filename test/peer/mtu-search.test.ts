import test from "ava";
import { SeededRandom } from "../../lib/base/random.ts";
import { StateReader, StateWriter } from "../../lib/base/state.ts";
import { GUARD_MS, MtuSearch, PATH_MTU_MIN } from "../../lib/peer/mtu-search.ts";

const INTERVAL_MS = 600_000;

/** A path in virtual time, and the search that looks at it. */
class Path {
  readonly search: MtuSearch;
  nowMs = 1000;
  /** What it takes. */
  mtu: number;
  roundTripMs = 10;
  /** Of probes and answers together. */
  loss = 0;
  answers = true;
  /** Whether its routers say what does not fit, and whether they say what would. */
  tells: "nothing" | "too big" | "the size" = "nothing";
  bytes = 0;
  probes = 0;
  readonly #random: SeededRandom;
  readonly #coming: { atMs: number; come: () => void }[] = [];

  constructor(mtu: number, mtuMax = 9000, seed = 1) {
    this.mtu = mtu;
    this.#random = new SeededRandom(seed);
    this.search = new MtuSearch({ mtuMax, intervalMs: INTERVAL_MS, number: 0xffff_fff0 });
    this.search.start(this.nowMs);
  }

  /** Let so much time pass, or less, until `holds`; returns how much did. */
  run(ms: number, holds = () => false): number {
    const beganMs = this.nowMs;
    const endMs = beganMs + ms;
    for (;;) {
      for (let size = this.search.poll(this.nowMs); size > 0; size = this.search.poll(this.nowMs)) this.#probe(size);
      if (holds()) return this.nowMs - beganMs;
      const nextMs = Math.min(this.search.dueMs, ...this.#coming.map(({ atMs }) => atMs));
      if (nextMs > endMs) break;
      this.nowMs = Math.max(this.nowMs, nextMs);
      const now = this.#coming.filter(({ atMs }) => atMs <= this.nowMs);
      for (const one of now) this.#coming.splice(this.#coming.indexOf(one), 1);
      for (const { come } of now) come();
    }
    this.nowMs = endMs;
    return ms;
  }

  #probe(size: number): void {
    const { search } = this;
    const number = search.sent(this.nowMs);
    this.bytes += size;
    this.probes++;
    if (size > this.mtu) {
      const told = this.tells === "the size" ? this.mtu : 0;
      if (this.tells !== "nothing") this.#later(() => search.tooBig(size, told, this.nowMs));
      return;
    }
    if (!this.answers || (this.#random.nextI32() >>> 0) / 2 ** 32 < this.loss) return;
    this.#later(() => search.answered(number, size, this.nowMs));
  }

  #later(come: () => void): void {
    this.#coming.push({ atMs: this.nowMs + this.roundTripMs, come });
  }
}

test("every size from 576 to 9000 is found to the byte, within seconds", (t) => {
  let longestMs = 0;
  for (let mtu = PATH_MTU_MIN; mtu <= 9000; mtu++) {
    const path = new Path(mtu);
    const tookMs = path.run(10_000, () => path.search.size > 0);
    if (path.search.size !== mtu) t.fail(`${path.search.size}, not ${mtu}`);
    longestMs = Math.max(longestMs, tookMs);
  }
  t.log(`longest ${longestMs} ms`);
  t.true(longestMs < 4000);
});

for (const tells of ["too big", "the size"] as const) {
  test(`the same where routers tell ${tells}, which is quicker`, (t) => {
    for (let mtu = PATH_MTU_MIN; mtu <= 9000; mtu++) {
      const path = new Path(mtu);
      path.tells = tells;
      const tookMs = path.run(10_000, () => path.search.size > 0);
      if (path.search.size !== mtu) t.fail(`${path.search.size}, not ${mtu}`);
      if (tookMs > (tells === "the size" ? 50 : 250)) t.fail(`${mtu}: ${tookMs} ms`);
    }
    t.pass();
  });
}

test("the interface's own MTU costs one probe, its companion, and one round trip", (t) => {
  const path = new Path(1500, 1500);
  t.is(
    path.run(1000, () => path.search.size > 0),
    path.roundTripMs,
  );
  t.is(path.search.size, 1500);
  t.is(path.bytes, 1500 + PATH_MTU_MIN);
});

for (const loss of [0.1, 0.3, 0.5]) {
  test(`with ${100 * loss} % of probes lost every size is found all the same, and none is believed too small`, (t) => {
    const random = new SeededRandom(7);
    for (let seed = 1; seed <= 1500; seed++) {
      const mtu = seed % 3 === 0 ? 1500 : PATH_MTU_MIN + ((random.nextI32() >>> 0) % 925);
      const path = new Path(mtu, 1500, seed);
      path.loss = loss;
      path.run(60_000, () => path.search.size > 0);
      if (path.search.size !== mtu) t.fail(`seed ${seed}: ${path.search.size}, not ${mtu}`);
    }
    t.pass();
  });
}

test("a path that loses all for a while is not believed narrow", (t) => {
  const path = new Path(1500, 1500);
  path.run(5000);
  t.is(path.search.size, 1500);
  for (const outageMs of [50, 200, 1000, 5000]) {
    path.answers = false;
    path.run(outageMs);
    path.answers = true;
    path.run(20_000, () => path.search.size !== 1500);
    t.is(path.search.size, 1500, `after ${outageMs} ms of silence`);
  }
});

test("a round trip that grows makes no path narrow", (t) => {
  const path = new Path(1500, 1500);
  for (const roundTripMs of [10, 80, 400, 900, 5, 700]) {
    path.roundTripMs = roundTripMs;
    path.run(30_000, () => path.search.size !== 1500 && path.search.size !== 0);
    t.is(path.search.size, 1500, `${roundTripMs} ms`);
  }
});

test("a peer that answers no probes tells nothing, and is asked ever more seldom", (t) => {
  const path = new Path(1500, 1500);
  path.answers = false;
  path.run(30_000);
  t.is(path.search.size, 0);
  path.run(INTERVAL_MS * 4);
  t.is(path.search.size, 0);
  const before = path.probes;
  path.run(INTERVAL_MS);
  t.true(path.probes - before <= 40, `${path.probes - before} probes in an interval`);
  path.answers = true;
  path.run(INTERVAL_MS, () => path.search.size > 0);
  t.is(path.search.size, 1500);
});

test("a path that takes less than 576 bytes tells nothing", (t) => {
  const path = new Path(575, 1500);
  path.run(30_000);
  t.is(path.search.size, 0);
});

test("a path that becomes narrower without a word is found within 5 s, at any time and for any size", (t) => {
  let longestMs = 0;
  for (let mtu = PATH_MTU_MIN; mtu < 1500; mtu += 7) {
    const path = new Path(1500, 1500);
    path.run(10_000 + ((mtu * 37) % 4000));
    path.mtu = mtu;
    longestMs = Math.max(
      longestMs,
      path.run(10_000, () => path.search.size !== 1500),
    );
    t.is(path.search.size, mtu);
  }
  t.log(`longest ${longestMs} ms`);
  t.true(longestMs <= 5000);
});

test("a path that becomes wider is found by the next round, or soon when something hints at it", (t) => {
  const path = new Path(1300, 1500);
  path.run(10_000);
  t.is(path.search.size, 1300);
  path.mtu = 1500;
  path.run(INTERVAL_MS - 20_000);
  t.is(path.search.size, 1300);
  path.run(20_000);
  t.is(path.search.size, 1500);
  path.mtu = 1400;
  path.run(20_000);
  path.mtu = 1500;
  path.search.suspect(0, path.nowMs);
  t.true(path.run(3000, () => path.search.size === 1500) < 2000);
});

test("who hints without end causes a round every ten seconds", (t) => {
  const path = new Path(1500, 1500);
  path.run(30_000);
  path.probes = 0;
  for (let n = 0; n < 6000; n++) {
    path.search.suspect(600, path.nowMs);
    path.run(10);
  }
  t.is(path.search.size, 1500);
  // A guard every two seconds, and two probes a round.
  t.true(path.probes <= 60_000 / GUARD_MS + 14, `${path.probes}`);
});

test("what a known path costs: a probe of its size every two seconds, and a round an interval", (t) => {
  const path = new Path(1500, 1500);
  path.run(5000);
  path.bytes = 0;
  path.run(INTERVAL_MS);
  t.true(path.bytes / (INTERVAL_MS / 1000) < 760, `${path.bytes / (INTERVAL_MS / 1000)} bytes a second`);
});

test("a path that is down is left alone, and looked at anew when it is up", (t) => {
  const path = new Path(1400, 1500);
  path.run(10_000);
  path.search.stop();
  t.is(path.search.dueMs, Number.POSITIVE_INFINITY);
  const { probes } = path;
  path.run(INTERVAL_MS * 2);
  t.is(path.probes, probes);
  path.mtu = 1450;
  path.search.start(path.nowMs);
  path.run(3000);
  t.is(path.search.size, 1450);
  path.search.stop();
  path.answers = false;
  path.search.start(path.nowMs);
  path.run(30_000);
  t.is(path.search.size, 0, "it may lead elsewhere");
});

test("answers to what was never sent, or is over, count for nothing", (t) => {
  const path = new Path(1400, 1500);
  path.run(5, () => path.probes === 2);
  for (const number of [0, 1, 0xffff_ffef, 0x7fff_ffff]) path.search.answered(number, 1500, path.nowMs);
  path.search.answered(0xffff_fff0, 1501, path.nowMs);
  path.run(10_000);
  t.is(path.search.size, 1400);
  path.search.answered(0xffff_fff0, 1500, path.nowMs);
  path.search.tooBig(1300, 600, path.nowMs);
  path.run(10_000);
  t.is(path.search.size, 1400);
});

test("another process goes on with what was found, in the midst of a round too", (t) => {
  for (const atMs of [25, 300, 700, 10_000]) {
    const path = new Path(1234, 1500);
    path.run(atMs);
    const out = new StateWriter();
    path.search.save(out);
    const other = new Path(1234, 1500);
    other.search.restore(new StateReader(out.finish()));
    other.nowMs = path.nowMs;
    t.is(other.search.size, path.search.size);
    other.run(3000);
    t.is(other.search.size, 1234);
  }
});
