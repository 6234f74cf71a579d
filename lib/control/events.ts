// What happened to paths and sessions, the latest of it, for `waymark show events`. A ring: the oldest makes room.

import type { Clock } from "../base/clock.ts";
import { StateError, type StateReader, type StateWriter } from "../base/state.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import type { RouterInterface } from "../peer/router-interface.ts";
import type { MoveReason } from "../session/reroute.ts";
import type { SessionTable } from "../table/session-table.ts";
import { pathText, uuidText } from "./names.ts";

const EVENTS_MAX = 1024;

const KINDS = [
  "path-up",
  "path-down",
  "quality",
  "clock-offset",
  "peer-restarted",
  "nat-changed",
  "path-mtu",
  "udp-transform",
  "session-moved",
  "route-loop",
] as const;
export type EventKind = (typeof KINDS)[number];

export interface RouterEvent {
  /** Counts up from 1 since start. */
  readonly number: number;
  /** When, in milliseconds before the answer. */
  readonly agoMs: number;
  readonly kind: EventKind;
  readonly peer: string;
  /** Where it happened, or where a session was moved to. */
  readonly path: string;
  /** Where a session was moved from. */
  readonly from?: string;
  readonly uuid?: string;
  readonly why: string;
}

type Kept = Omit<RouterEvent, "agoMs"> & { readonly atMs: number };

export class Events {
  readonly #clock: Clock;
  readonly #table: SessionTable;
  readonly #interfaces: readonly RouterInterface[];
  readonly #kept: Kept[] = [];
  #number = 0;

  constructor(clock: Clock, table: SessionTable, interfaces: readonly RouterInterface[]) {
    this.#clock = clock;
    this.#table = table;
    this.#interfaces = interfaces;
  }

  path(path: PeerPath, kind: EventKind, why: string, atMs: number): void {
    this.#add({ number: ++this.#number, atMs, kind, peer: path.peerName, path: this.#text(path), why });
  }

  moved(session: number, from: PeerPath, to: PeerPath, reason: MoveReason): void {
    const words = this.#table.uuid.subarray(session * 4, session * 4 + 4);
    this.#add({
      number: ++this.#number,
      atMs: this.#clock.nowMs(),
      kind: "session-moved",
      peer: to.peerName,
      path: this.#text(to),
      from: this.#text(from),
      uuid: uuidText(words),
      why: reason === "path-down" ? `${reason}: ${from.why}` : reason,
    });
  }

  /** The latest first. */
  list(nowMs: number): RouterEvent[] {
    return this.#kept.map(({ atMs, ...event }) => ({ ...event, agoMs: nowMs - atMs })).reverse();
  }

  save(out: StateWriter): void {
    out.f64(this.#number);
    out.i32(this.#kept.length);
    for (const { number, atMs, kind, peer, path, from = "", uuid = "", why } of this.#kept) {
      out.f64(number);
      out.f64(atMs);
      out.u8(KINDS.indexOf(kind));
      for (const text of [peer, path, from, uuid, why]) out.text(text);
    }
  }

  restore(from: StateReader): void {
    this.#number = from.f64();
    for (let left = from.count(EVENTS_MAX, "events"); left > 0; left--) {
      const [number, atMs] = [from.f64(), from.f64()];
      const kind = KINDS[from.code(KINDS.length - 1)];
      const [peer, path, before, uuid, why] = Array.from({ length: 5 }, () => from.text());
      const moved = { ...(before === "" ? {} : { from: before }), ...(uuid === "" ? {} : { uuid }) };
      this.#add({ number, atMs, kind, peer, path, ...moved, why });
    }
    if (!(this.#number >= (this.#kept.at(-1)?.number ?? 0))) throw new StateError("events are numbered otherwise");
  }

  #text(path: PeerPath): string {
    return pathText(this.#interfaces, path);
  }

  #add(event: Kept): void {
    if (this.#kept.length === EVENTS_MAX) this.#kept.shift();
    this.#kept.push(event);
  }
}
