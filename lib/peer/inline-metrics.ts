// Loss, latency and jitter of a peer path from the sessions' own packets, some of which carry attribute 26 (protocol
// sheet 6.4; alternate marking, RFC 8321). A machine without I/O and clock on each side, per path or traffic class.
//
//   mark, fill ─►  the first packets of an interval have its color, 1 to 15, and the time; so many are counted as sent
//   receive   ◄─  the peer's mark: its color is counted; another color ends the count of the one before
//   fill      ─►  with our own marks goes back: the color that comes now, the count of the one before, time + dwell
//   receive   ◄─  the peer's word of ours: loss = 1 - its count / ours, round trip = now - (time + dwell)
//
// A color that had begun when we began to listen is never reported: its count would look like loss.

import type { PathMetrics } from "../wire/metadata-attributes.ts";
import { averageQuality, type Quality, type QualitySource } from "./path-quality.ts";

const COLORS = 15;
/** Times on the wire have 28 bits of milliseconds. */
const TIME_MASK = 0x0fffffff;
const TIME_SPAN = TIME_MASK + 1;
const RX_COUNT_MAX = 0x7fff;
/** A longer round trip is another clock, or a restart. */
const ROUND_TRIP_MAX_MS = 30_000;
/** Marks come in tens per interval, so single ones count less than a test: RTT as in RFC 6298, jitter as in RFC 3550. */
const LATENCY_WEIGHT = 1 / 8;
const JITTER_WEIGHT = 1 / 16;
/** The peer was not told of its marks for this long: a packet that would not be marked any more tells it. */
const TELL_MS = 500;
/** For this long, as no packet goes its way: one is made for that. */
const REPORT_MS = 1000;
/** Without marks for so many intervals the traffic has left the path, and echo tests count again. */
const AGE_INTERVALS = 3;

export interface InlineSettings {
  /** Packets marked per interval. */
  readonly markingCount: number;
  readonly intervalMs: number;
}

export class InlineMetrics implements QualitySource {
  readonly #settings: InlineSettings;

  // Ours toward the peer. Color 0 = none yet.
  #color = 0;
  #startMs = 0;
  /** Marked in the present color, and in the one before, whose loss is still to be told when it is not 0. */
  #sent = 0;
  #sentBefore = 0;

  // The peer's toward us.
  #rxColor = 0;
  #rxCount = 0;
  #previousRxCount = 0;
  /** Colors seen from their first packet on: the latest, and the one before. */
  #isWhole = false;
  #isPreviousWhole = false;
  /** The peer's time in the last packet, and when that came; -1 = none came. */
  #peerTimeMs = 0;
  #arrivedMs = -1;
  #transit = 0;
  /** When something came that the peer was not told of; -1 = it was. */
  #untoldSinceMs = -1;

  #average: Quality | undefined;
  /** Of the latest finished color; NaN = none. */
  lastLossPercent = Number.NaN;
  /** NaN = unknown. */
  roundTripMs = Number.NaN;
  jitterMs = Number.NaN;
  #heardMs = Number.NEGATIVE_INFINITY;

  constructor(settings: InlineSettings) {
    this.#settings = settings;
  }

  /** A packet of a session goes to the peer. True when it is to carry metrics: call fill, which counts it as sent. */
  mark(nowMs: number): boolean {
    if (this.#color !== 0 && nowMs - this.#startMs < this.#settings.intervalMs) {
      return this.#sent < this.#settings.markingCount || nowMs >= this.#untoldMs() + TELL_MS;
    }
    this.#color = (this.#color % COLORS) + 1;
    this.#startMs = nowMs;
    this.#sentBefore = this.#sent;
    this.#sent = 0;
    return this.#settings.markingCount > 0;
  }

  /** Whether `mark` would say yes to a packet now because too few of this interval have a color. */
  wantsMarks(nowMs: number): boolean {
    if (this.#color === 0 || nowMs - this.#startMs >= this.#settings.intervalMs) return true;
    return this.#sent < this.#settings.markingCount;
  }

  /** What the packet says. Without a color when enough have one: it only tells. */
  fill(out: PathMetrics, nowMs: number): void {
    const hasColor = this.#sent < this.#settings.markingCount;
    if (hasColor) this.#sent++;
    out.txColor = hasColor ? this.#color : 0;
    out.drop = false;
    this.#report(out, nowMs);
  }

  /** When the peer has to be told of its marks by a packet made for that; Infinity = not, as things are. */
  get reportDueMs(): number {
    return this.#untoldMs() + REPORT_MS;
  }

  /** What that packet says. It has no color, so the peer neither counts nor answers it. */
  fillReport(out: PathMetrics, nowMs: number): void {
    out.txColor = 0;
    out.drop = true;
    this.#report(out, nowMs);
  }

  receive(metrics: PathMetrics, nowMs: number): void {
    if (metrics.txColor !== 0) {
      this.#count(metrics.txColor);
      if (this.#untoldSinceMs < 0) this.#untoldSinceMs = nowMs;
    }
    // How long it was on its way, plus what the two clocks differ by.
    const transit = (timeOf(nowMs) - metrics.txTimeMs) & TIME_MASK;
    if (this.#arrivedMs >= 0) {
      // 28 bits, with a sign.
      const change = Math.abs(((transit - this.#transit) << 4) >> 4);
      if (change < ROUND_TRIP_MAX_MS) this.jitterMs = smoothed(this.jitterMs, change, JITTER_WEIGHT);
    }
    this.#transit = transit;
    this.#peerTimeMs = metrics.txTimeMs;
    this.#arrivedMs = nowMs;

    if (metrics.rxColor === 0 && metrics.rxTimeMs === 0) return;
    const roundTripMs = (timeOf(nowMs) - metrics.rxTimeMs) & TIME_MASK;
    if (roundTripMs > ROUND_TRIP_MAX_MS) return;
    this.roundTripMs = smoothed(this.roundTripMs, roundTripMs, LATENCY_WEIGHT);
    if (metrics.rxColor !== 0) this.#judge(metrics.rxColor, metrics.previousRxCount, nowMs);
    this.#heardMs = nowMs;
  }

  /** Undefined until a whole color was told of, and when nothing was told for some intervals. */
  quality(nowMs: number): Quality | undefined {
    if (this.#average === undefined || nowMs - this.#heardMs > AGE_INTERVALS * this.#settings.intervalMs)
      return undefined;
    return { lossPercent: this.#average.lossPercent, latencyMs: this.roundTripMs / 2, jitterMs: this.jitterMs };
  }

  /** The peer was started again, or the path leads elsewhere. */
  reset(): void {
    this.#sentBefore = 0;
    this.#sent = 0;
    this.#color = 0;
    this.#rxColor = 0;
    this.#isWhole = false;
    this.#isPreviousWhole = false;
    this.#arrivedMs = -1;
    this.#untoldSinceMs = -1;
    this.#average = undefined;
    this.lastLossPercent = Number.NaN;
    this.roundTripMs = Number.NaN;
    this.jitterMs = Number.NaN;
  }

  /** Since when the peer waits to be told; Infinity = it does not. */
  #untoldMs(): number {
    return this.#untoldSinceMs < 0 ? Number.POSITIVE_INFINITY : this.#untoldSinceMs;
  }

  #report(out: PathMetrics, nowMs: number): void {
    out.txTimeMs = timeOf(nowMs);
    out.rxColor = this.#isPreviousWhole ? this.#rxColor : 0;
    out.previousRxCount = this.#isPreviousWhole ? this.#previousRxCount : 0;
    const dwellMs = this.#arrivedMs < 0 ? 0 : Math.floor(nowMs - this.#arrivedMs);
    out.rxTimeMs = this.#arrivedMs < 0 ? 0 : (this.#peerTimeMs + dwellMs) & TIME_MASK;
    this.#untoldSinceMs = -1;
  }

  #count(color: number): void {
    const ahead = this.#rxColor === 0 ? 1 : distance(this.#rxColor, color);
    if (ahead === 0) {
      this.#rxCount = Math.min(this.#rxCount + 1, RX_COUNT_MAX);
    } else if (ahead === COLORS - 1) {
      // A late one of the color before.
      this.#previousRxCount = Math.min(this.#previousRxCount + 1, RX_COUNT_MAX);
    } else if (ahead <= COLORS / 2) {
      const isFirst = this.#rxColor === 0;
      // Of a color that was passed over nothing came.
      this.#previousRxCount = ahead === 1 && !isFirst ? this.#rxCount : 0;
      this.#isPreviousWhole = ahead === 1 ? this.#isWhole : !isFirst;
      this.#isWhole = !isFirst;
      this.#rxColor = color;
      this.#rxCount = 1;
    }
  }

  /**
   * The peer tells of our colors. The one before the present is judged a round trip after its end, and so much later that
   * packets which others overtook have come (four times the jitter, as in RFC 6298).
   */
  #judge(rxColor: number, previousRxCount: number, nowMs: number): void {
    const lateMs = Number.isNaN(this.jitterMs) ? 0 : 4 * this.jitterMs;
    if (this.#sentBefore === 0 || nowMs < this.#startMs + this.roundTripMs + lateMs) return;
    const ahead = distance(previousColor(this.#color), rxColor);
    // It has none of the present color yet, so the count of the one before has not ended.
    if (ahead === 0) return;
    if (ahead > 1 && ahead <= COLORS / 2) return;
    // Behind: not one of the color has come.
    const came = ahead === 1 ? Math.min(previousRxCount, this.#sentBefore) : 0;
    this.lastLossPercent = 100 * (1 - came / this.#sentBefore);
    this.#sentBefore = 0;
    const test = { lossPercent: this.lastLossPercent, latencyMs: Number.NaN, jitterMs: Number.NaN };
    this.#average = averageQuality(this.#average, test);
  }
}

function timeOf(nowMs: number): number {
  return Math.floor(nowMs) % TIME_SPAN;
}

/** How many colors `to` comes after `from`, 0 to 14. */
function distance(from: number, to: number): number {
  return (to - from + COLORS) % COLORS;
}

function previousColor(color: number): number {
  return color === 1 ? COLORS : color - 1;
}

function smoothed(average: number, value: number, weight: number): number {
  return Number.isNaN(average) ? value : average + (value - average) * weight;
}
