// Only what timeouts and resets need of TCP (RFC 9293 section 3.3.2), one machine fed by both directions (US
// 9,985,872). One transition function, no clock, no I/O.
//
//  NONE ─SYN►─ SYN_SENT ─◄SYN,ACK─ SYN_RECEIVED ─ACK►─ ESTABLISHED ─FIN─ HALF_CLOSED_x ─FIN◄─ CLOSING     any ─RST─ RESET

import { FORWARD } from "../table/session-table.ts";
import { FIN, RST, SYN } from "../wire/tcp.ts";

export const TCP_NONE = 0;
export const TCP_SYN_SENT = 1;
export const TCP_SYN_RECEIVED = 2;
export const TCP_ESTABLISHED = 3;
export const TCP_HALF_CLOSED_FORWARD = 4;
export const TCP_HALF_CLOSED_REVERSE = 5;
export const TCP_CLOSING = 6;
export const TCP_RESET = 7;
/** After a reset that one end, or the other, goes on sending as if nothing had been. When both do, nobody believed it. */
export const TCP_RESET_FORWARD_ALIVE = 8;
export const TCP_RESET_REVERSE_ALIVE = 9;

const NAMES = [
  "none",
  "syn-sent",
  "syn-received",
  "established",
  "half-closed",
  "half-closed",
  "closing",
  "reset",
  "reset",
  "reset",
];

/** The state after a segment with these flags in the given direction (FORWARD or REVERSE). */
export function nextTcpState(state: number, flags: number, direction: number): number {
  if ((flags & RST) !== 0) return TCP_RESET;
  if ((flags & SYN) !== 0) {
    if (direction === FORWARD) return state === TCP_NONE ? TCP_SYN_SENT : state;
    return state === TCP_SYN_SENT ? TCP_SYN_RECEIVED : state;
  }
  // A FIN that no SYN of the server came before ends nothing: half-open sessions must stay half-open.
  if ((flags & FIN) !== 0) return state === TCP_SYN_SENT ? state : afterFin(state, direction);
  if (state === TCP_SYN_RECEIVED && direction === FORWARD) return TCP_ESTABLISHED;
  if (state >= TCP_RESET) return afterReset(state, direction);
  // A session recovered or seen first in mid-flow: both ends are past their handshake.
  return state === TCP_NONE ? TCP_ESTABLISHED : state;
}

function afterFin(state: number, direction: number): number {
  const half = direction === FORWARD ? TCP_HALF_CLOSED_FORWARD : TCP_HALF_CLOSED_REVERSE;
  if (state >= TCP_CLOSING || state === half) return state;
  return state === TCP_HALF_CLOSED_FORWARD || state === TCP_HALF_CLOSED_REVERSE ? TCP_CLOSING : half;
}

/** A bare segment behind a reset. One end's may have been on its way; both ends' mean that the reset was outside their windows. */
function afterReset(state: number, direction: number): number {
  if (direction === FORWARD) return state === TCP_RESET_REVERSE_ALIVE ? TCP_ESTABLISHED : TCP_RESET_FORWARD_ALIVE;
  return state === TCP_RESET_FORWARD_ALIVE ? TCP_ESTABLISHED : TCP_RESET_REVERSE_ALIVE;
}

/** Nothing about a bare segment (no SYN, FIN, RST) can change the state any more. */
export function isTcpSteady(state: number): boolean {
  return state >= TCP_ESTABLISHED && state < TCP_RESET;
}

export function isTcpReset(state: number): boolean {
  return state >= TCP_RESET;
}

/** The conversation is over; a new SYN on the same addresses and ports begins another. */
export function isTcpOver(state: number): boolean {
  return state >= TCP_CLOSING;
}

/** Not yet established: counts as half-open, expires soon, goes first when the table is full. */
export function isTcpHalfOpen(state: number): boolean {
  return state < TCP_ESTABLISHED;
}

export function tcpStateName(state: number): string {
  return NAMES[state];
}
