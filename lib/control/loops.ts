// Sessions that peers' service-routes send in a circle, in words: an event and a line in the log for each pair of ways, the first
// time and then once a minute while it goes on. Every packet of such a session is refused (drop.route-loop), so this is called as
// often as somebody sends; it keeps KEPT_MAX pairs, the oldest makes room.

import type { Log } from "../base/log.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import type { Events } from "./events.ts";

const KEPT_MAX = 64;
const REPEAT_MS = 60_000;

interface Kept {
  readonly peer: string;
  readonly why: string;
  /** When it was last an event. */
  saidMs: number;
  /** Packets refused since it was last in the log. */
  count: number;
  loggedMs: number;
}

export class Loops {
  readonly #events: Events;
  readonly #nowMs: () => number;
  readonly #kept = new Map<string, Kept>();

  constructor(events: Events, nowMs: () => number) {
    this.#events = events;
    this.#nowMs = nowMs;
  }

  /** A packet was refused; see LoopObserver (engine/leads.ts). */
  seen(service: string, from: PeerPath, toward: PeerPath | null, isBack: boolean): void {
    const key = `${service} ${from.row} ${toward?.row ?? -1} ${isBack}`;
    const nowMs = this.#nowMs();
    const known = this.#kept.get(key);
    const kept = known ?? {
      peer: from.peerName,
      why: loopText(service, from.peerName, toward?.peerName ?? null, isBack),
      saidMs: Number.NEGATIVE_INFINITY,
      count: 0,
      loggedMs: Number.NEGATIVE_INFINITY,
    };
    kept.count++;
    if (known === undefined) this.#keep(key, kept);
    if (nowMs - kept.saidMs < REPEAT_MS) return;
    kept.saidMs = nowMs;
    this.#events.path(from, "route-loop", kept.why, nowMs);
  }

  /** A look for watch.ts: says what has gone in a circle since the last one. */
  look(log: Log): void {
    const nowMs = this.#nowMs();
    for (const kept of this.#kept.values()) {
      if (kept.count === 0 || nowMs - kept.loggedMs < REPEAT_MS) continue;
      log.warn({ peer: kept.peer, packets: kept.count }, `${kept.why} (drop.route-loop)`);
      kept.loggedMs = nowMs;
      kept.count = 0;
    }
  }

  #keep(key: string, kept: Kept): void {
    const [oldest] = this.#kept.keys();
    if (this.#kept.size === KEPT_MAX && oldest !== undefined) this.#kept.delete(oldest);
    this.#kept.set(key, kept);
  }
}

/** What an operator can do something about: whose service-routes lead where. */
export function loopText(service: string, from: string, toward: string | null, isBack: boolean): string {
  if (isBack)
    return `service ${service} from peer ${from} would go back to peer ${from}: the service-routes of both routers lead to each other`;
  const went = toward === null ? "it had passed this router before" : `this router had sent it to peer ${toward}`;
  return `service ${service} from peer ${from} has come in a circle: ${went}, so the service-routes on its way lead back here`;
}
