// End of life: how long a session may be idle (protocol sheet 7.5, 7.6), and when its timer must look at it again.
// Packets only write last_seen; the wheel's timer finds out lazily whether it fired too early.

import { FLOW_LAST_SEEN, FLOW_SHIFT } from "../table/flow-table.ts";
import { PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } from "../wire/flow-key.ts";
import { generationDueInMs } from "./metadata-handshake.ts";
import type { Sessions } from "./open.ts";
import { isTcpSteady, TCP_CLOSING, TCP_RESET } from "./tcp-state.ts";

// Specification: protocol sheet 7.5.
export const TCP_OPENING_MS = 10_000;
export const TCP_ESTABLISHED_MS = 1_900_000;
export const UDP_MS = 180_000;
export const ICMP_MS = 10_000;
export const OTHER_MS = 180_000;
// Ours: protocol sheet 7.6 [DECISION].
export const TCP_CLOSING_MS = 10_000;
export const TCP_RESET_MS = 2_000;

/** Milliseconds a session may be idle in its present state. */
export function idleTimeoutMs(sessions: Sessions, session: number): number {
  const protocol = sessions.table.context[session * 4 + 3];
  if (protocol === PROTOCOL_TCP) {
    const state = sessions.table.tcpState[session];
    if (state === TCP_RESET) return TCP_RESET_MS;
    if (state === TCP_CLOSING) return TCP_CLOSING_MS;
    return isTcpSteady(state) ? TCP_ESTABLISHED_MS : TCP_OPENING_MS;
  }
  if (protocol === PROTOCOL_UDP) return UDP_MS;
  return protocol === PROTOCOL_ICMP ? ICMP_MS : OTHER_MS;
}

/** Milliseconds since the last packet in either direction. */
export function idleMs(sessions: Sessions, session: number, nowMs: number): number {
  const { table, flows } = sessions;
  const forward = flows.words[(table.forwardFlow[session] << FLOW_SHIFT) + FLOW_LAST_SEEN];
  const reverse = flows.words[(table.reverseFlow[session] << FLOW_SHIFT) + FLOW_LAST_SEEN];
  return Math.min((nowMs - forward) | 0, (nowMs - reverse) | 0);
}

/** True when the session has been idle for its timeout. */
export function isExpired(sessions: Sessions, session: number, nowMs: number): boolean {
  return idleMs(sessions, session, nowMs) >= idleTimeoutMs(sessions, session);
}

/** Set the session's timer to the next moment something about it is due: its expiry or a packet its handshake must generate. */
export function armTimer(sessions: Sessions, session: number, nowMs: number): void {
  const expiresIn = idleTimeoutMs(sessions, session) - idleMs(sessions, session, nowMs);
  const { upstream, downstream } = sessions.table;
  const handshakeIn = Math.min(
    generationDueInMs(upstream, session, nowMs, true),
    generationDueInMs(downstream, session, nowMs, false),
  );
  sessions.wheel.schedule(session, nowMs + Math.max(0, Math.min(expiresIn, handshakeIn)));
}
