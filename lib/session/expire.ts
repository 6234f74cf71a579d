// End of life: how long a session may be idle (protocol sheet 7.5, 7.6), and when its timer must look at it again.
// Packets only write last_seen; the wheel's timer finds out lazily whether it fired too early.

import { elapsedMs } from "../base/clock.ts";
import { FLOW_LAST_SEEN, FLOW_SHIFT } from "../table/flow-table.ts";
import { FORWARD, type HandshakeColumns, REVERSE, SIDE_ESTABLISHED } from "../table/session-table.ts";
import { PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } from "../wire/flow-key.ts";
import { answerDueInMs, stopDueInMs } from "./metadata-handshake.ts";
import type { Sessions } from "./open.ts";
import { isTcpReset, isTcpSteady, TCP_CLOSING } from "./tcp-state.ts";

// Specification: protocol sheet 7.5.
export const TCP_OPENING_MS = 10_000;
export const TCP_ESTABLISHED_MS = 1_900_000;
export const UDP_MS = 180_000;
export const ICMP_MS = 10_000;
export const OTHER_MS = 180_000;
// Where sources are mapped, no less than RFC 5382, REQ-5, and RFC 5508, REQ-2, ask; UDP has more than RFC 4787, REQ-5, does.
export const NAT_TCP_TRANSITORY_MS = 240_000;
export const NAT_TCP_ESTABLISHED_MS = 7_440_000;
export const NAT_ICMP_MS = 60_000;
// Ours: protocol sheet 7.6 [DECISION].
export const TCP_CLOSING_MS = 10_000;
export const TCP_RESET_MS = 2_000;
/** For how long after a session has moved packets are taken that come by its old tuple (protocol sheet 7.2 step 6). */
export const LINGER_MS = 5000;
/** Metadata of a session older than this is told again, not for the first time. */
const TOLD_AGAIN_MS = 5000;
const FORTNIGHT_MS = 14 * 24 * 3_600_000;

/** Milliseconds a session may be idle in its present state. */
export function idleTimeoutMs(sessions: Sessions, session: number): number {
  const protocol = sessions.table.context[session * 4 + 3];
  const isMapped = sessions.table.isTranslated(session);
  if (protocol === PROTOCOL_TCP) {
    const state = sessions.table.tcpState[session];
    if (isMapped) return isTcpSteady(state) && state !== TCP_CLOSING ? NAT_TCP_ESTABLISHED_MS : NAT_TCP_TRANSITORY_MS;
    if (isTcpReset(state)) return TCP_RESET_MS;
    if (state === TCP_CLOSING) return TCP_CLOSING_MS;
    return isTcpSteady(state) ? TCP_ESTABLISHED_MS : TCP_OPENING_MS;
  }
  if (protocol === PROTOCOL_UDP) return UDP_MS;
  if (protocol !== PROTOCOL_ICMP) return OTHER_MS;
  return isMapped ? NAT_ICMP_MS : ICMP_MS;
}

/** Milliseconds since the last packet in a direction. */
export function silentMs(sessions: Sessions, session: number, direction: number, nowMs: number): number {
  const { table, flows } = sessions;
  return elapsedMs(nowMs, flows.words[(table.flow(session, direction) << FLOW_SHIFT) + FLOW_LAST_SEEN]);
}

/** Milliseconds since the last packet in either direction. */
export function idleMs(sessions: Sessions, session: number, nowMs: number): number {
  return Math.min(silentMs(sessions, session, FORWARD, nowMs), silentMs(sessions, session, REVERSE, nowMs));
}

/** Of a session that has been told before, the seconds until it expires (attribute 42); 0 = this is its begin. */
export function remainingS(sessions: Sessions, session: number, nowMs: number): number {
  const isLater = sessions.table.moves[session] > 0 || sessions.table.ageMs(session, nowMs) >= TOLD_AGAIN_MS;
  if (!isLater) return 0;
  return Math.max(1, Math.ceil((idleTimeoutMs(sessions, session) - idleMs(sessions, session, nowMs)) / 1000));
}

/** True when the session has been idle for its timeout. */
export function isExpired(sessions: Sessions, session: number, nowMs: number): boolean {
  return idleMs(sessions, session, nowMs) >= idleTimeoutMs(sessions, session);
}

/**
 * Decide which peer must be asked if it still knows the session: we went on sending to it for so long after its last
 * packet. It may have lost the session, or expired it while a packet of ours was lost, and would drop our bare packets
 * for ever (protocol sheet 7.4). Call it when the session's timer fires.
 */
export function watchSilence(sessions: Sessions, session: number, nowMs: number): void {
  const { table } = sessions;
  const aheadMs = silentMs(sessions, session, REVERSE, nowMs) - silentMs(sessions, session, FORWARD, nowMs);
  table.healthCheck[session] = 0;
  for (const direction of [FORWARD, REVERSE]) {
    if (table.sides[1 - direction].state[session] !== SIDE_ESTABLISHED) continue;
    const unheardMs = direction === FORWARD ? aheadMs : -aheadMs;
    if (unheardMs >= patienceMs(sessions, session)) table.healthCheck[session] |= 1 << direction;
  }
}

/** For how long we send to a silent peer before it is asked (7.4); half the idle timeout where that is less. */
function patienceMs(sessions: Sessions, session: number): number {
  return Math.min(sessions.inactivityMs, idleTimeoutMs(sessions, session) / 2);
}

/**
 * Let the session's timer fire when something about it is due, or sooner: its expiry, a packet its handshake must
 * generate, a look at its peer, which steady traffic must not put off.
 */
export function armTimer(sessions: Sessions, session: number, nowMs: number): void {
  const { upstream, downstream } = sessions.table;
  const isWatched = upstream.state[session] === SIDE_ESTABLISHED || downstream.state[session] === SIDE_ESTABLISHED;
  const dueIn = Math.min(
    idleTimeoutMs(sessions, session) - idleMs(sessions, session, nowMs),
    answerDueInMs(upstream, session, nowMs),
    stopDueInMs(downstream, session, nowMs),
    isWatched ? patienceMs(sessions, session) : Number.POSITIVE_INFINITY,
    lingerDueInMs(upstream, session, nowMs),
    lingerDueInMs(downstream, session, nowMs),
    keepAliveDueInMs(sessions, session, FORWARD, nowMs),
    keepAliveDueInMs(sessions, session, REVERSE, nowMs),
    secondDueInMs(sessions, session, nowMs),
  );
  sessions.wheel.expedite(session, nowMs + Math.max(0, dueIn));
}

/**
 * Milliseconds until an empty packet must go in `direction`, so that the NAT in front of us keeps the session's mapping;
 * 0 = now, Infinity = never. Only what we send counts: not every NAT takes what comes in for a sign of life (RFC 4787,
 * REQ-6). Never of what goes as TCP: its mappings live for hours (RFC 5382, REQ-5), and a NAT that follows its numbers would be misled by ours.
 * `row` of `side`: of the way by the session's own path, or by its second one.
 */
export function keepAliveDueInMs(
  sessions: Sessions,
  session: number,
  direction: number,
  nowMs: number,
  side = sessions.table.sides[1 - direction],
  row = session,
): number {
  const { paths } = sessions;
  const path = side.path[row];
  const everyMs = path < 0 || side.wire[row] === PROTOCOL_TCP ? 0 : paths[path].nat.keepAliveMs;
  if (everyMs === 0) return Number.POSITIVE_INFINITY;
  const last = side.generatedMs[row];
  const generatedMs = last === 0 ? Number.POSITIVE_INFINITY : elapsedMs(nowMs, last);
  return Math.max(0, everyMs - Math.min(silentMs(sessions, session, direction, nowMs), generatedMs));
}

/** The same of the second paths' handshakes, and of the mappings there (duplication.ts). */
function secondDueInMs(sessions: Sessions, session: number, nowMs: number): number {
  const { table, duplicates } = sessions;
  const { second } = duplicates;
  let dueIn = Number.POSITIVE_INFINITY;
  for (const way of [FORWARD, REVERSE]) {
    if (sessions.secondPath(session, way) < 0) continue;
    const row = table.duplicate[session * 2 + way];
    const handshake = way === FORWARD ? answerDueInMs(second, row, nowMs) : stopDueInMs(second, row, nowMs);
    dueIn = Math.min(dueIn, handshake, keepAliveDueInMs(sessions, session, 1 - way, nowMs, second, row));
  }
  return dueIn;
}

function lingerDueInMs(side: HandshakeColumns, session: number, nowMs: number): number {
  return side.lingering[session] < 0 ? Number.POSITIVE_INFINITY : LINGER_MS - elapsedMs(nowMs, side.movedMs[session]);
}

/** A direction silent for weeks is as silent as one silent for a fortnight: keep its time stamp from coming round again. */
export function holdBackClock(sessions: Sessions, session: number, nowMs: number): void {
  for (const direction of [FORWARD, REVERSE]) {
    if (silentMs(sessions, session, direction, nowMs) < FORTNIGHT_MS) continue;
    const at = (sessions.table.flow(session, direction) << FLOW_SHIFT) + FLOW_LAST_SEEN;
    sessions.flows.words[at] = nowMs - FORTNIGHT_MS;
  }
}
