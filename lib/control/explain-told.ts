// What all that tells of a live session (explain-session.ts) share: the session, the moment, and the steps told so far.

import type { PeerPath } from "../peer/peer-path.ts";
import type { PeerServicePath, ServicePolicy } from "../session/service-route.ts";
import type { Step } from "./explain.ts";
import { pathText } from "./names.ts";
import type { Router } from "./router-parts.ts";

/** Of the session's sides, FORWARD and REVERSE. */
export const SIDE_NAMES = ["toward its initiator", "toward its server"];

/** A session in row `session`, and the steps said of it so far, in the order in which they are told. */
export class Told {
  readonly router: Router;
  readonly session: number;
  readonly nowMs: number;
  readonly steps: Step[] = [];

  constructor(router: Router, session: number) {
    this.router = router;
    this.session = session;
    this.nowMs = router.clock.nowMs();
  }

  say(step: string, outcome: string, reason = ""): void {
    this.steps.push({ step, outcome, reason });
  }

  /** The session's own protocol, whatever it is on a wire. */
  get protocol(): number {
    return this.router.sessions.table.context[this.session * 4 + 3];
  }

  /** The path on the session's side `way`; null = a plain network. */
  path(way: number): PeerPath | null {
    const row = this.router.sessions.table.sides[way].path[this.session];
    return row < 0 ? null : this.router.sessions.paths[row];
  }

  /** A path as the operator wrote it: peer, interface, address. */
  pathName(path: PeerPath): string {
    return `peer ${path.peerName} ${pathText(this.router.interfaces, path)}`;
  }

  /** How a path stands for this very session: its own service-route has room for it. */
  standing(policy: ServicePolicy, candidate: PeerServicePath, now: PeerServicePath) {
    const { table, choice } = this.router.sessions;
    return choice.standing(policy, candidate, table.upstream.path[this.session], now.serviceRoute);
  }
}

/** `1 packet`, `2 packets`. */
export function count(number: number, of: string): string {
  return `${number} ${of}${number === 1 ? "" : "s"}`;
}
