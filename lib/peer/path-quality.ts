// What a peer path is worth: loss, latency and jitter, from echo tests and from the sequence numbers of BFD packets
// (protocol sheet 6.3 and 1.3: US 10,200,264), without I/O and without a clock. Times in milliseconds with fractions: a
// round trip on a LAN is less than one. Marked packets of sessions tell the same: inline-metrics.ts.
//
// Every test moves an average by a quarter of its distance. So the latest tests count most and nothing is stored; one bad
// test in a good row is damped to a quarter; and of a lasting change half is seen after 2.4 tests, 24 s by default.

import type { StateReader, StateWriter } from "../base/state.ts";

/** How much one test counts in the average. */
const TEST_WEIGHT = 1 / 4;
/** An echo that is not back by then is lost; earlier when the next test begins. */
const ECHO_WAIT_MS = 2000;
/** Sequence numbers that make a measurement of loss: at the default interval half a minute. */
const SEQUENCE_WINDOW = 30;

const QUALITY = ["lossPercent", "latencyMs", "jitterMs"] as const;

export interface Quality {
  lossPercent: number;
  /** Half the round trip: what a service policy's max-latency is compared with. NaN = nothing came back. */
  latencyMs: number;
  /** NaN = fewer than two came back. */
  jitterMs: number;
}

function saveQuality(out: StateWriter, quality: Quality | undefined): void {
  out.flag(quality !== undefined);
  if (quality !== undefined) for (const name of QUALITY) out.f64(quality[name]);
}

function restoreQuality(from: StateReader): Quality | undefined {
  if (!from.flag()) return undefined;
  return { lossPercent: from.f64(), latencyMs: from.f64(), jitterMs: from.f64() };
}

/** The average after another test; what the test could not tell stays as it is. */
export function averageQuality(average: Quality | undefined, test: Quality): Quality {
  if (average === undefined) return { ...test };
  return {
    lossPercent: moved(average.lossPercent, test.lossPercent),
    latencyMs: moved(average.latencyMs, test.latencyMs),
    jitterMs: moved(average.jitterMs, test.jitterMs),
  };
}

function moved(average: number, value: number): number {
  if (Number.isNaN(average)) return value;
  return Number.isNaN(value) ? average : average + (value - average) * TEST_WEIGHT;
}

/** The mean opinion score of a call over a path, 1 to 4.5 (protocol sheet 6.3). */
export function meanOpinionScore({ lossPercent, latencyMs, jitterMs }: Quality): number {
  const effectiveMs = latencyMs + 2 * jitterMs + 10;
  const delay = effectiveMs < 160 ? effectiveMs / 40 : (effectiveMs - 120) / 10;
  const r = 93.2 - delay - 2.5 * lossPercent;
  return r <= 0 ? 1 : 1 + 0.035 * r + 7e-6 * r * (r - 60) * (100 - r);
}

export interface LinkTestSettings {
  readonly intervalMs: number;
  /** Packets of a test; 0 = no tests. */
  readonly length: number;
}

/**
 * Echo tests: every interval a burst, whose packets come back as they went. Call poll when it is due; as many packets as
 * it says go at once, each with the sequence number that `sent` gives.
 */
export class EchoTest {
  readonly #settings: LinkTestSettings;
  /** Of the latest finished test. */
  last: Quality | undefined;
  average: Quality | undefined;
  #nextMs: number;
  /** When the test that runs ends at the latest; Infinity = none runs. */
  #endMs = Number.POSITIVE_INFINITY;
  #firstSequence = 0;
  #sent = 0;
  #received = 0;
  readonly #sentMs: Float64Array;
  /** -1 until it is back. */
  readonly #roundTripMs: Float64Array;

  constructor(settings: LinkTestSettings, nowMs: number) {
    this.#settings = settings;
    this.#nextMs = settings.length > 0 ? nowMs : Number.POSITIVE_INFINITY;
    this.#sentMs = new Float64Array(settings.length);
    this.#roundTripMs = new Float64Array(settings.length);
  }

  /** When poll has something to do. */
  get dueMs(): number {
    return Math.min(this.#nextMs, this.#endMs);
  }

  /** Let time pass. Returns how many echoes go now: 0, or a whole test. */
  poll(nowMs: number): number {
    if (nowMs >= this.#endMs || nowMs >= this.#nextMs) this.#finish();
    if (nowMs < this.#nextMs) return 0;
    const { intervalMs, length } = this.#settings;
    this.#nextMs = nowMs + intervalMs;
    this.#endMs = nowMs + Math.min(ECHO_WAIT_MS, intervalMs);
    this.#firstSequence = (this.#firstSequence + this.#sent) >>> 0;
    this.#sent = 0;
    this.#received = 0;
    this.#roundTripMs.fill(-1);
    return length;
  }

  /** An echo of the test goes at nowMs. Returns its sequence number. */
  sent(nowMs: number): number {
    const sequence = (this.#firstSequence + this.#sent) >>> 0;
    this.#sentMs[this.#sent++] = nowMs;
    return sequence;
  }

  /** An echo is back. One of an earlier test, a second one and one never sent count for nothing. */
  received(sequence: number, nowMs: number): void {
    const index = (sequence - this.#firstSequence) >>> 0;
    if (this.#endMs === Number.POSITIVE_INFINITY || index >= this.#sent || this.#roundTripMs[index] >= 0) return;
    this.#roundTripMs[index] = Math.max(0, nowMs - this.#sentMs[index]);
    this.#received++;
    if (this.#received === this.#settings.length) this.#finish();
  }

  save(out: StateWriter): void {
    saveQuality(out, this.last);
    saveQuality(out, this.average);
    for (const value of [this.#nextMs, this.#endMs, this.#firstSequence, this.#received]) out.f64(value);
    out.i32(this.#sent);
    out.doubles(this.#sentMs);
    out.doubles(this.#roundTripMs);
  }

  /** Of a test with the same settings. */
  restore(from: StateReader): void {
    this.last = restoreQuality(from);
    this.average = restoreQuality(from);
    [this.#nextMs, this.#endMs, this.#firstSequence, this.#received] = Array.from({ length: 4 }, () => from.f64());
    this.#sent = from.count(this.#sentMs.length, "echoes");
    from.doubles(this.#sentMs, "echoes");
    from.doubles(this.#roundTripMs, "echoes");
  }

  /** The path went down or leads elsewhere: what was measured says nothing any more. */
  reset(nowMs: number): void {
    this.last = undefined;
    this.average = undefined;
    this.#endMs = Number.POSITIVE_INFINITY;
    if (this.#settings.length > 0) this.#nextMs = nowMs;
  }

  #finish(): void {
    if (this.#endMs === Number.POSITIVE_INFINITY) return;
    this.#endMs = Number.POSITIVE_INFINITY;
    if (this.#sent === 0) return;
    let sum = 0;
    let differences = 0;
    let before = -1;
    for (let i = 0; i < this.#sent; i++) {
      const roundTripMs = this.#roundTripMs[i];
      if (roundTripMs < 0) continue;
      sum += roundTripMs;
      if (before >= 0) differences += Math.abs(roundTripMs - before);
      before = roundTripMs;
    }
    const received = this.#received;
    this.last = {
      lossPercent: (100 * (this.#sent - received)) / this.#sent,
      latencyMs: received > 0 ? sum / received / 2 : Number.NaN,
      jitterMs: received > 1 ? differences / (received - 1) / 2 : Number.NaN,
    };
    this.average = averageQuality(this.average, this.last);
  }
}

/**
 * Loss of each direction, from the sequence numbers of control packets: gaps in the peer's own numbers are lost on the
 * way to us; of ours the peer tells the highest it had and how many, which between two of its packets gives what was
 * lost on the way to it. Both are exact, whatever is still under way.
 */
export class DirectionLoss {
  /** NaN until there were packets enough. */
  fromPeerPercent = Number.NaN;
  toPeerPercent = Number.NaN;
  readonly #fromPeer = new SequenceWindow();
  readonly #toPeer = new SequenceWindow();
  #received = 0;

  /** Every control packet that a session took: its sequence number, and what it says of ours (-1 = nothing yet). */
  heard(txSequence: number, rxSequence: number, rxCount: number): void {
    this.#received = (this.#received + 1) >>> 0;
    this.fromPeerPercent = moved(this.fromPeerPercent, this.#fromPeer.add(txSequence, this.#received));
    if (rxSequence < 0 || rxCount < 0) return;
    this.toPeerPercent = moved(this.toPeerPercent, this.#toPeer.add(rxSequence, rxCount));
  }

  save(out: StateWriter): void {
    for (const value of [this.fromPeerPercent, this.toPeerPercent, this.#received]) out.f64(value);
    this.#fromPeer.save(out);
    this.#toPeer.save(out);
  }

  restore(from: StateReader): void {
    [this.fromPeerPercent, this.toPeerPercent, this.#received] = Array.from({ length: 3 }, () => from.f64());
    this.#fromPeer.restore(from);
    this.#toPeer.restore(from);
  }

  /** The peer was started again, or we lost it: its numbers begin anew. */
  reset(): void {
    this.fromPeerPercent = Number.NaN;
    this.toPeerPercent = Number.NaN;
    this.#fromPeer.isOpen = false;
    this.#toPeer.isOpen = false;
  }
}

/** Pairs of (highest sequence number, how many came), until they are a window apart. */
class SequenceWindow {
  isOpen = false;
  #sequence = 0;
  #count = 0;

  /** Percent lost in a window that this pair ends; NaN when it ends none. */
  add(sequence: number, count: number): number {
    const sent = (sequence - this.#sequence) | 0;
    const came = (count - this.#count) | 0;
    // Numbers that go backwards, or more that came than were sent, are another numbering.
    if (this.isOpen && sent >= 0 && came >= 0 && came <= sent) {
      if (sent < SEQUENCE_WINDOW) return Number.NaN;
      this.#open(sequence, count);
      return (100 * (sent - came)) / sent;
    }
    this.#open(sequence, count);
    return Number.NaN;
  }

  save(out: StateWriter): void {
    out.flag(this.isOpen);
    out.f64(this.#sequence);
    out.f64(this.#count);
  }

  restore(from: StateReader): void {
    this.isOpen = from.flag();
    this.#sequence = from.f64();
    this.#count = from.f64();
  }

  #open(sequence: number, count: number): void {
    this.isOpen = true;
    this.#sequence = sequence;
    this.#count = count;
  }
}

/** Whatever measures a path; undefined while it knows nothing, or nothing recent. */
export interface QualitySource {
  quality(nowMs: number): Quality | undefined;
}

/** What feeds path selection: the sessions' own packets where they tell something, else the echo tests (protocol sheet 6.4). */
export class PathQuality {
  readonly echo: EchoTest;
  readonly directions = new DirectionLoss();
  readonly #inline: QualitySource | null;

  /** `inline` null = not measured, or for monitoring only. */
  constructor(echo: EchoTest, inline: QualitySource | null) {
    this.echo = echo;
    this.#inline = inline;
  }

  current(nowMs: number): Quality | undefined {
    return this.#inline?.quality(nowMs) ?? this.echo.average;
  }

  reset(nowMs: number): void {
    this.echo.reset(nowMs);
    this.directions.reset();
  }
}
