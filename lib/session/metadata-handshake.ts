// Both sides of "attach until heard" (protocol sheet 4.1 to 4.4). Toward its initiator a router is responder, toward its
// server side initiator; a middle router is both, one machine per hop. No I/O, no clock.
//
//   initiator:  I1 SENDING ──reverse metadata / disable──► I2 ESTABLISHED ──enable metadata, path moved──► I1
//   responder:  R1 SENDING ──bare forward packet / disable──► R2 ESTABLISHED ──forward metadata again──► R1
//
// Metadata repeats because every packet carries it until it is acknowledged, so there are no retransmission timers; but
// where no traffic carries the answer back, a packet is generated (4.3): after 5 unanswered metadata packets or 1 s,
// and at most once per second.

import { elapsedMs } from "../base/clock.ts";
import { type HandshakeColumns, SIDE_ESTABLISHED, SIDE_PLAIN, SIDE_SENDING } from "../table/session-table.ts";

const UNANSWERED_MAX = 5;
const UNANSWERED_MS = 1000;
const GENERATE_EVERY_MS = 1000;

/** A forward packet with this session's metadata came from upstream: we answer until a bare one comes (R1). */
export function heardForwardMetadata(upstream: HandshakeColumns, row: number, nowMs: number): void {
  upstream.state[row] = SIDE_SENDING;
  countUnanswered(upstream, row, nowMs);
}

/** What we have answered, or were about to, is another answer now: upstream is told, and waits for it no longer than for the first. */
export function answerChanged(upstream: HandshakeColumns, row: number, nowMs: number): void {
  if (upstream.state[row] !== SIDE_PLAIN) heardForwardMetadata(upstream, row, nowMs);
}

/** A forward packet without metadata came from upstream: our answer has arrived (R1 → R2). */
export function heardBareForward(upstream: HandshakeColumns, row: number): void {
  upstream.state[row] = SIDE_ESTABLISHED;
  upstream.unanswered[row] = 0;
}

/** Reverse metadata came from downstream (I1 → I2); the peer stops when it gets a bare forward packet. */
export function heardReverseMetadata(downstream: HandshakeColumns, row: number, nowMs: number): void {
  downstream.state[row] = SIDE_ESTABLISHED;
  countUnanswered(downstream, row, nowMs);
}

/** The peer on this side asks us to stop (attribute 18, control 3). */
export function heardDisable(side: HandshakeColumns, row: number): void {
  side.state[row] = SIDE_ESTABLISHED;
  side.unanswered[row] = 0;
}

/** The peer on this side has lost the session and asks for metadata (control 2). */
export function heardEnable(side: HandshakeColumns, row: number): void {
  side.state[row] = SIDE_SENDING;
}

/** A packet of the session went to this side: what the peer sent is answered. */
export function answered(side: HandshakeColumns, row: number): void {
  side.unanswered[row] = 0;
}

/** A packet was generated toward this side. */
export function generated(side: HandshakeColumns, row: number, nowMs: number): void {
  side.unanswered[row] = 0;
  side.generatedMs[row] = nowMs === 0 ? 1 : nowMs;
}

/** An empty packet was generated toward this side: it answers nothing. */
export function keptAlive(side: HandshakeColumns, row: number, nowMs: number): void {
  side.generatedMs[row] = nowMs === 0 ? 1 : nowMs;
}

/**
 * Milliseconds until a responder must generate its answer for want of reverse packets that would carry it; 0 = now,
 * Infinity = never.
 */
export function answerDueInMs(upstream: HandshakeColumns, row: number, nowMs: number): number {
  return upstream.state[row] === SIDE_SENDING ? dueInMs(upstream, row, nowMs, 1) : Number.POSITIVE_INFINITY;
}

/**
 * Milliseconds until an initiator must tell its peer to stop, because reverse metadata keeps coming and no forward
 * packet goes that would tell. One metadata packet is no more than its answer.
 */
export function stopDueInMs(downstream: HandshakeColumns, row: number, nowMs: number): number {
  return downstream.state[row] === SIDE_ESTABLISHED ? dueInMs(downstream, row, nowMs, 2) : Number.POSITIVE_INFINITY;
}

function dueInMs(side: HandshakeColumns, row: number, nowMs: number, atLeast: number): number {
  if (side.unanswered[row] < atLeast) return Number.POSITIVE_INFINITY;
  const last = side.generatedMs[row];
  const pause = last === 0 ? 0 : GENERATE_EVERY_MS - elapsedMs(nowMs, last);
  const waited = side.unanswered[row] >= UNANSWERED_MAX;
  const wait = waited ? 0 : UNANSWERED_MS - elapsedMs(nowMs, side.unansweredSinceMs[row]);
  return Math.max(0, pause, wait);
}

function countUnanswered(side: HandshakeColumns, row: number, nowMs: number): void {
  if (side.unanswered[row] === 0) side.unansweredSinceMs[row] = nowMs;
  if (side.unanswered[row] < 255) side.unanswered[row]++;
}
