// What `waymark explain --session` and `--drop` ask a running router. Each worker answers for itself, a part; the parts together are
// the router's answer, or an OperatorError that says what to ask instead. One worker's part alone is an answer as well.

import { setImmediate as turn } from "node:timers/promises";
import type { Sessions } from "../session/open.ts";
import {
  FLOW_DESTINATION,
  FLOW_NEW_DESTINATION,
  FLOW_NEW_PORTS,
  FLOW_NEW_SOURCE,
  FLOW_PORTS,
  FLOW_PROTOCOL,
  FLOW_SHIFT,
  FLOW_SOURCE,
} from "../table/flow-table.ts";
import { PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } from "../wire/flow-key.ts";
import { DROP_REASONS } from "../wire/verdict.ts";
import { parseSocket, TextError } from "./address-text.ts";
import type { Step } from "./explain.ts";
import { type DropSteps, explainDrop } from "./explain-drop.ts";
import { explainSession } from "./explain-session.ts";
import { nearest } from "./nearest.ts";
import { OperatorError } from "./operator-error.ts";
import type { Router } from "./router-parts.ts";
import { dropCount, sessionAnswer } from "./snapshot.ts";

export interface SessionExplanation {
  readonly session: string;
  /** The worker that has it; left out where the router has one. */
  readonly worker?: number;
  readonly steps: readonly Step[];
}

export interface DropExplanation {
  readonly drop: string;
  readonly count: number;
  readonly sentence: string;
  /** The last packet; null = the frames were not at hand. */
  readonly sample: (DropSteps & { readonly worker?: number }) | null;
}

/** One question, as the socket's query has it. */
export interface LiveQuestion {
  readonly session: string | null;
  readonly drop: string | null;
}

/** A worker's part of the answer. */
export type LivePart =
  | {
      readonly of: "session";
      readonly count: number;
      readonly matches: readonly string[];
      readonly found: SessionExplanation | null;
    }
  | { readonly of: "drop"; readonly explanation: DropExplanation };

const TEXT_MAX = 200;
/** Sessions that are named where several match. */
const MATCHES_SHOWN = 5;
/** Rows looked at between two turns of the engine. */
const ROWS_AT_ONCE = 16_384;
const UUID_DIGITS = 32;

/** Throws OperatorError. */
export function liveQuestion(query: URLSearchParams): LiveQuestion {
  const [session, drop] = [query.get("session"), query.get("drop")];
  if ((session === null) === (drop === null))
    throw new OperatorError("ask for explain?session=ID or explain?drop=REASON");
  if ((session ?? drop ?? "").length > TEXT_MAX)
    throw new OperatorError(`nothing to explain has a name of more than ${TEXT_MAX} characters`);
  return { session, drop };
}

/** What a router that is all of it answers. Rejects with OperatorError. */
export async function explainLive(
  router: Router,
  query: URLSearchParams,
): Promise<SessionExplanation | DropExplanation> {
  const question = liveQuestion(query);
  return joinLive(question, [await livePart(router, question)]);
}

/** A worker's part of it. Rejects with OperatorError where the question cannot be read. */
export async function livePart(router: Router, { session, drop }: LiveQuestion): Promise<LivePart> {
  return session === null ? dropPart(router, reasonOf(drop ?? "")) : await sessionPart(router, session);
}

/** The answer of all parts. Throws OperatorError. */
export function joinLive({ session }: LiveQuestion, parts: readonly LivePart[]): SessionExplanation | DropExplanation {
  const drops = parts.flatMap((part) => (part.of === "drop" ? [part.explanation] : []));
  if (drops.length > 0) return joinDrops(drops);
  const sessions = parts.flatMap((part) => (part.of === "session" ? [part] : []));
  const count = sessions.reduce((sum, part) => sum + part.count, 0);
  const found = sessions.find((part) => part.found !== null)?.found;
  if (count === 1 && found != null) return found;
  if (count === 0)
    throw new OperatorError(`there is no session ${session}: waymark show sessions lists those that live`);
  const named = sessions.flatMap(({ matches }) => matches).slice(0, MATCHES_SHOWN);
  const more = count > named.length ? ` and ${count - named.length} more` : "";
  throw new OperatorError(`${count} sessions are ${session}: ${named.join(", ")}${more}; write more of one of them`);
}

function joinDrops(parts: readonly DropExplanation[]): DropExplanation {
  const [first] = parts;
  const count = parts.reduce((sum, part) => sum + part.count, 0);
  if (count === 0)
    throw new OperatorError(`no packet was dropped for ${first.drop} since the start: ${first.sentence}`);
  const samples = parts.flatMap(({ sample }) => (sample === null ? [] : [sample]));
  samples.sort((a, b) => a.agoMs - b.agoMs);
  return { ...first, count, sample: samples[0] ?? null };
}

/** The number of the reason `text`, with or without "drop." in front. Throws OperatorError. */
function reasonOf(text: string): number {
  const wanted = text.replace(/^drop\./, "");
  const row = DROP_REASONS.findIndex(({ name }) => name === wanted);
  if (row >= 0) return row;
  const near = nearest(
    wanted,
    DROP_REASONS.map(({ name }) => name),
  );
  throw new OperatorError(
    `there is no drop reason ${JSON.stringify(wanted.slice(0, 70))}: ${near === null ? "waymark show drops lists those that were met" : `did you mean ${near}?`}`,
  );
}

function dropPart(router: Router, reason: number): LivePart {
  const { name, sentence } = DROP_REASONS[reason];
  const steps = explainDrop(router, reason);
  const sample = steps === null ? null : { ...steps, ...workerOf(router) };
  return { of: "drop", explanation: { drop: name, count: dropCount(router, reason), sentence, sample } };
}

function workerOf({ strays }: Router): { worker?: number } {
  return strays === null ? {} : { worker: strays.worker };
}

async function sessionPart(router: Router, text: string): Promise<LivePart> {
  const { sessions } = router;
  const { rows, count } = await findSessions(sessions, text);
  const uuids = rows.map((row) => sessionAnswer(router, row).uuid);
  const found = count === 1 ? { session: uuids[0], ...workerOf(router), steps: explainSession(router, rows[0]) } : null;
  const matches = rows.map((row) => {
    const { uuid, protocol, source, destination } = sessionAnswer(router, row);
    return `${uuid} (${protocol} ${source} > ${destination})`;
  });
  return { of: "session", count, matches, found };
}

/** The first rows that match, and how many do. Between every so many rows others have their turn. */
async function findSessions(sessions: Sessions, text: string): Promise<{ rows: number[]; count: number }> {
  const { table } = sessions;
  const matches = matcherOf(sessions, text.trim());
  const found: { row: number; uuid: Int32Array }[] = [];
  let count = 0;
  for (let row = 0; row < table.capacity; row++) {
    if (row % ROWS_AT_ONCE === ROWS_AT_ONCE - 1) await turn();
    if (!table.isLive(row) || !matches(row)) continue;
    count++;
    if (found.length < MATCHES_SHOWN) found.push({ row, uuid: table.uuid.slice(row * 4, row * 4 + 4) });
  }
  // Meanwhile some may have ended.
  const rows = found.filter(({ row, uuid }) => sessions.withUuid(uuid) === row).map(({ row }) => row);
  return { rows, count: count - (found.length - rows.length) };
}

/** Whether the session in a row is the one that `text` means: the begin of its identifier, or addresses and ports. Throws OperatorError. */
function matcherOf(sessions: Sessions, text: string): (row: number) => boolean {
  const digits = text.replaceAll("-", "").toLowerCase();
  if (/^[0-9a-f]+$/.test(digits) && digits.length <= UUID_DIGITS) return identifierMatcher(sessions, digits);
  const tuple = tupleOf(text);
  if (tuple === null)
    throw new OperatorError(
      `${JSON.stringify(text.slice(0, 70))} is no session: write the begin of its identifier, or 'udp 10.1.0.2:40000 > 10.2.0.2:53'`,
    );
  return tupleMatcher(sessions, tuple);
}

function identifierMatcher({ table }: Sessions, digits: string): (row: number) => boolean {
  const words = [0, 1, 2, 3].map((n) => {
    const part = digits.slice(n * 8, n * 8 + 8);
    const mask = part.length === 0 ? 0 : -1 << (32 - part.length * 4);
    return { value: Number.parseInt(part.padEnd(8, "0"), 16) & mask, mask };
  });
  return (row) => words.every(({ value, mask }, n) => (table.uuid[row * 4 + n] & mask) === value);
}

interface Tuple {
  readonly protocol: number;
  readonly source: { readonly address: number; readonly port: number };
  readonly destination: { readonly address: number; readonly port: number };
}

const PROTOCOLS = new Map([
  ["icmp", PROTOCOL_ICMP],
  ["tcp", PROTOCOL_TCP],
  ["udp", PROTOCOL_UDP],
]);

/** `udp 10.1.0.2:40000 > 10.2.0.2:53`, with or without the arrow; `ip/47 ...` as show has it. */
function tupleOf(text: string): Tuple | null {
  const [name = "", from = "", to = "", ...more] = text.replaceAll(">", " ").split(/\s+/);
  const number = /^ip\/(\d{1,3})$/.exec(name);
  const protocol = number === null ? PROTOCOLS.get(name.toLowerCase()) : Number(number[1]);
  if (protocol === undefined || to === "" || more.length > 0) return null;
  try {
    return { protocol, source: endOf(from), destination: endOf(to) };
  } catch (error) {
    if (error instanceof TextError) throw new OperatorError(`${error.message}: ${error.mend}`);
    throw error;
  }
}

/** Port 0, as show has it of protocols without ports, is any. Throws TextError. */
function endOf(text: string): Tuple["source"] {
  return parseSocket(text.replace(/^(\d+\.\d+\.\d+\.\d+|\[.*\]):0$/, "$1"));
}

/** The tuple is its hosts', or what a wire has of it on either side, in either direction. A port that is not written is any. */
function tupleMatcher({ table, flows }: Sessions, tuple: Tuple): (row: number) => boolean {
  const { protocol, source, destination } = tuple;
  const isEnd = (end: Tuple["source"], address: number, port: number) =>
    end.address === address && (end.port === 0 || end.port === port);
  const is = (from: number, to: number, ports: number) =>
    (isEnd(source, from, ports >>> 16) && isEnd(destination, to, ports & 0xffff)) ||
    (isEnd(destination, from, ports >>> 16) && isEnd(source, to, ports & 0xffff));
  const { words } = flows;
  return (row) => {
    const at = row * 4;
    if (table.context[at + 3] === protocol && is(table.context[at], table.context[at + 1], table.context[at + 2]))
      return true;
    const base = table.forwardFlow[row] << FLOW_SHIFT;
    const before = is(words[base + FLOW_SOURCE], words[base + FLOW_DESTINATION], words[base + FLOW_PORTS]);
    if (before && (words[base + FLOW_PROTOCOL] & 0xff) === protocol) return true;
    const wire = table.downstream.path[row] < 0 ? table.context[at + 3] : table.downstream.wire[row];
    return (
      wire === protocol &&
      is(words[base + FLOW_NEW_SOURCE], words[base + FLOW_NEW_DESTINATION], words[base + FLOW_NEW_PORTS])
    );
  };
}
