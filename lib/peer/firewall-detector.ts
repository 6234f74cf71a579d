// Whether something between two routers keeps TCP of theirs away, so that it has to travel as UDP (protocol sheet 2.5,
// udp-transform: auto-detect): a machine without I/O and without a clock. firewall-tests.ts has the packets.
//
//   begin ─► a control, up to HELLOS times ──none answered──────────────────────────────► nothing is concluded
//              │ answered: the peer speaks this, and is there
//              ▼
//            a burst: four packets over TCP of each test ──some of each answered─────────► all passed
//              │ a test without any answer
//              ▼ after SOON_MS
//            the silent ones again, each packet with a control of the same length right behind it, over and over
//              ├─ one is answered ───────────────────────────────────────────────────────► passed
//              ├─ silent while controls come back, so often that it is no accident ──────► failed
//              └─ controls do not come back either, or too few ──────────────────────────► not known: as before
//
// Silence says something of TCP only while UDP of the same length comes back, and as much as its losses let it: on a path
// that loses nothing four bursts are enough, in a second and a half; on a lossy one it takes more. A path that is down, a peer that is not there or
// knows nothing of this, a path that takes no packets so long: none of them is a firewall.
//
// One test that fails is enough for UDP. Back to TCP it takes PASSES rounds in a row in which all pass.

import { StateError, type StateReader, type StateWriter } from "../base/state.ts";
import { BURST, CONTROLS, PLACES, TESTS, testAt } from "./firewall-tests.ts";

/** Controls that a peer leaves unanswered which speaks nothing of this, or is not there. */
const HELLOS = 10;
/** Between two bursts of a round. */
const SOON_MS = 250;
/** After a round that has concluded nothing, or that is to be confirmed. */
const RETRY_MS = 10_000;
/** How long answers are waited for: four round trips and some, within these. */
const WAIT_MIN_MS = 100;
const WAIT_MAX_MS = 1000;
/** How likely it may be an accident that a test had no answer. */
const DOUBT = 1e-6;
/** Bursts of a round; a path that needs more loses too much for TCP anyway. */
const BURSTS_MAX = 16;
/** A path that lets none of so many controls of a length through lets nothing of that length through. */
const CONTROLS_UNANSWERED = 3 * BURST;
/** Rounds in a row that all tests pass before TCP is TCP again. */
const PASSES = 2;

/** What is known of a test: nothing; that it comes there and back; where it, or its answer, is lost. */
export const TEST_RESULTS = ["unknown", "passed", "to-peer", "from-peer"] as const;
export type TestResult = (typeof TEST_RESULTS)[number];

export class FirewallDetector {
  readonly #intervalMs: number;
  /** TCP does not get through: it goes as UDP. */
  isBlocked = false;
  /** What `isBlocked` goes by, in the order of TEST_NAMES. */
  results: readonly TestResult[] = nothingKnown();
  /** When the latest round ended that concluded something. */
  judgedMs = Number.NEGATIVE_INFINITY;
  /** Whether the peer answered in the latest round. */
  isAnswered = false;
  /** Rounds in which a test has failed. */
  failedRounds = 0;
  /** Of the next burst. */
  #number: number;
  /** When the next round begins; Infinity = the path is down. */
  #nextMs = Number.POSITIVE_INFINITY;
  #retryMs = RETRY_MS;
  #waitMs = WAIT_MAX_MS;
  #passes = 0;
  /** The path has just come up: what was known of it may be of another way, or of another peer. */
  #isFresh = false;

  // The round; nothing of it is kept but its result.
  #phase: "idle" | "hello" | "tests" = "idle";
  #roundMs = Number.NEGATIVE_INFINITY;
  /** Number of its first burst, and how many there were: controls before the tests are bursts of one. */
  #first = 0;
  #bursts = 0;
  /** By burst: places sent, places answered. */
  readonly #sent = new Int32Array(HELLOS + BURSTS_MAX);
  readonly #back = new Int32Array(HELLOS + BURSTS_MAX);
  /** Places over TCP that the peer has had, of any burst of the round: whose test it is tells where answers are lost. */
  #heard = 0;
  /** The first burst of tests. */
  #testsFrom = 0;
  /** Places of the burst in hand, and how many of them are sent. */
  readonly #plan = new Uint8Array(PLACES);
  #planned = 0;
  #at = 0;
  /** When it begins, and when its latest packet went. */
  #burstMs = 0;
  #sentMs = 0;
  #roundTripMs = 0;

  /** A round every `intervalMs` while the path is up. `number`: of the first burst, best one that nobody can guess. */
  constructor(options: { intervalMs: number; number: number }) {
    this.#intervalMs = options.intervalMs;
    this.#number = options.number >>> 0;
  }

  /** The path is up, perhaps by another way than before: look at once. */
  start(nowMs: number): void {
    this.#phase = "idle";
    this.#isFresh = true;
    this.#retryMs = RETRY_MS;
    this.#waitMs = WAIT_MAX_MS;
    this.#passes = 0;
    this.#nextMs = nowMs;
  }

  /** The path is down. What was found stays. */
  stop(): void {
    this.#phase = "idle";
    this.#nextMs = Number.POSITIVE_INFINITY;
  }

  /** Something between us and the peer has changed: a round begins soon. */
  suspect(nowMs: number): void {
    if (this.#nextMs === Number.POSITIVE_INFINITY) return;
    this.#nextMs = Math.min(this.#nextMs, Math.max(nowMs + SOON_MS, this.#roundMs + RETRY_MS));
  }

  /** When poll has something to do. */
  get dueMs(): number {
    if (this.#phase === "idle") return this.#nextMs;
    return this.#at < this.#planned ? this.#burstMs : this.#sentMs + this.#waitMs;
  }

  /** Let time pass. Returns the place of the packet that goes now, with `sent`'s number; -1 = none. Call until it is -1. */
  poll(nowMs: number): number {
    if (this.#phase === "idle") {
      if (nowMs < this.#nextMs) return -1;
      this.#beginRound(nowMs);
    }
    if (this.#at === this.#planned && nowMs >= this.#sentMs + this.#waitMs) {
      if (this.#phase === "tests") this.#judge(nowMs);
      else if (this.#bursts < HELLOS) this.#hello(nowMs);
      else this.#giveUp(nowMs);
    }
    if (this.#phase === "idle" || this.#at === this.#planned || nowMs < this.#burstMs) return -1;
    return this.#plan[this.#at];
  }

  /** What poll asked for goes at nowMs. Returns the number of its burst. */
  sent(nowMs: number): number {
    this.#sent[this.#bursts - 1] |= 1 << this.#plan[this.#at++];
    this.#sentMs = nowMs;
    return (this.#first + this.#bursts - 1) >>> 0;
  }

  /** The peer has answered this packet, and has had these places of its burst over TCP. False: it never went, or was answered before. */
  answered(number: number, place: number, heard: number, nowMs: number): boolean {
    const burst = (number - this.#first) >>> 0;
    if (this.#phase === "idle" || burst >= this.#bursts || place >= PLACES) return false;
    const bit = 1 << place;
    if ((this.#sent[burst] & bit) === 0 || (this.#back[burst] & bit) !== 0) return false;
    this.#back[burst] |= bit;
    this.#heard |= heard & this.#sent[burst];
    if (burst === this.#bursts - 1) this.#roundTripMs = Math.max(this.#roundTripMs, nowMs - this.#sentMs);
    this.#waitMs = Math.min(WAIT_MAX_MS, Math.max(WAIT_MIN_MS, 4 * this.#roundTripMs + WAIT_MIN_MS / 2));
    if (this.#phase === "hello") this.#beginTests(nowMs);
    return true;
  }

  /** Not of a round: one that runs begins anew elsewhere. */
  save(out: StateWriter): void {
    const nextMs = this.#phase === "idle" ? this.#nextMs : Number.NEGATIVE_INFINITY;
    for (const value of [this.#number, nextMs, this.#retryMs, this.#waitMs, this.#roundMs, this.judgedMs])
      out.f64(value);
    for (const value of [this.#passes, this.failedRounds]) out.f64(value);
    for (const flag of [this.isBlocked, this.isAnswered, this.#isFresh]) out.flag(flag);
    for (const result of this.results) out.u8(TEST_RESULTS.indexOf(result));
  }

  restore(from: StateReader): void {
    [this.#number, this.#nextMs, this.#retryMs, this.#waitMs, this.#roundMs, this.judgedMs] = Array.from(
      { length: 6 },
      () => from.f64(),
    );
    [this.#passes, this.failedRounds] = [from.f64(), from.f64()];
    [this.isBlocked, this.isAnswered, this.#isFresh] = Array.from({ length: 3 }, () => from.flag());
    this.results = this.results.map(() => TEST_RESULTS[from.code(TEST_RESULTS.length - 1)]);
    if (this.isBlocked !== this.results.some(isFailed)) throw new StateError("TCP goes as UDP, and no test has failed");
  }

  #beginRound(nowMs: number): void {
    this.#nextMs = nowMs + this.#intervalMs;
    this.#roundMs = nowMs;
    this.#first = this.#number;
    this.#bursts = 0;
    this.#heard = 0;
    this.#roundTripMs = 0;
    this.#phase = "hello";
    this.#hello(nowMs);
  }

  #hello(nowMs: number): void {
    this.#beginBurst(nowMs);
    this.#plan[this.#planned++] = CONTROLS;
  }

  #beginTests(nowMs: number): void {
    this.#phase = "tests";
    this.#testsFrom = this.#bursts;
    this.#beginBurst(nowMs);
    for (let place = 0; place < CONTROLS; place++) this.#plan[this.#planned++] = place;
  }

  #beginBurst(atMs: number): void {
    this.#sent[this.#bursts] = 0;
    this.#back[this.#bursts] = 0;
    this.#bursts++;
    this.#number = (this.#number + 1) >>> 0;
    this.#planned = 0;
    this.#at = 0;
    this.#burstMs = atMs;
  }

  /** A burst's time is over: conclude from all of them, or send another one of what is not known yet. */
  #judge(nowMs: number): void {
    const found = Array.from({ length: TESTS }, (_, test) => this.#found(test));
    if (!found.includes(null)) {
      this.#conclude(found as TestResult[], nowMs);
      return;
    }
    this.#beginBurst(nowMs + SOON_MS);
    for (let place = 0; place < CONTROLS; place++) {
      if (found[testAt(place)] !== null) continue;
      this.#plan[this.#planned++] = place;
      this.#plan[this.#planned++] = CONTROLS + place;
    }
  }

  /** What the round says of a test; null = not enough yet. */
  #found(test: number): TestResult | null {
    const tests = ((1 << BURST) - 1) << (test * BURST);
    const controls = tests << CONTROLS;
    let [sent, back, controlsSent, controlsBack] = [0, 0, 0, 0];
    for (let burst = this.#testsFrom; burst < this.#bursts; burst++) {
      sent += bitsOf(this.#sent[burst] & tests);
      back += bitsOf(this.#back[burst] & tests);
      controlsSent += bitsOf(this.#sent[burst] & controls);
      controlsBack += bitsOf(this.#back[burst] & controls);
    }
    if (back > 0) return "passed";
    const isNoAccident = controlsBack > 0 && accident(sent, controlsSent, controlsSent - controlsBack) <= DOUBT;
    if (isNoAccident) return (this.#heard & tests) === 0 ? "to-peer" : "from-peer";
    const isHopeless = controlsBack === 0 && controlsSent >= CONTROLS_UNANSWERED;
    return isHopeless || this.#bursts - this.#testsFrom >= BURSTS_MAX ? "unknown" : null;
  }

  #conclude(found: TestResult[], nowMs: number): void {
    const results = found.map((result, test) => (result === "unknown" ? this.results[test] : result));
    const isWhole = !found.includes("unknown");
    const isBlocked = results.some(isFailed);
    if (found.some(isFailed)) this.failedRounds++;
    this.#passes = isBlocked ? 0 : this.#passes + (isWhole ? 1 : 0);
    const isToConfirm = this.isBlocked && !isBlocked && this.#passes < PASSES;
    if (!isToConfirm) {
      this.isBlocked = isBlocked;
      this.results = results;
    }
    this.judgedMs = nowMs;
    this.isAnswered = true;
    if (isWhole) this.#retryMs = RETRY_MS;
    if (isToConfirm && isWhole) this.#nextMs = Math.min(this.#nextMs, nowMs + RETRY_MS);
    else if (!isWhole) this.#retry(nowMs);
    this.#end();
  }

  /** Nobody answers: what was known holds, if it is of this path and this peer. */
  #giveUp(nowMs: number): void {
    if (this.#isFresh) {
      this.isBlocked = false;
      this.results = nothingKnown();
    }
    this.isAnswered = false;
    this.#retry(nowMs);
    this.#end();
  }

  #retry(nowMs: number): void {
    this.#nextMs = Math.min(this.#nextMs, nowMs + this.#retryMs);
    this.#retryMs = Math.min(2 * this.#retryMs, this.#intervalMs);
  }

  #end(): void {
    this.#phase = "idle";
    this.#isFresh = false;
  }
}

export function isFailed(result: TestResult): boolean {
  return result === "to-peer" || result === "from-peer";
}

/**
 * How likely it is that `silent` packets in a row are lost on a path that has lost `lost` of `tried` others, of which
 * nothing else is known: the rule of succession, one packet after the other.
 */
function accident(silent: number, tried: number, lost: number): number {
  let likely = 1;
  for (let n = 0; n < silent; n++) likely *= (lost + n + 1) / (tried + n + 2);
  return likely;
}

function nothingKnown(): readonly TestResult[] {
  return new Array<TestResult>(TESTS).fill("unknown");
}

function bitsOf(word: number): number {
  let bits = 0;
  for (let left = word; left !== 0; left &= left - 1) bits++;
  return bits;
}
