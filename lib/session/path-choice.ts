// Which peer path a session takes (protocol sheet 2.4 step 5, 7.1, 9): asked once for a new session, and again for a
// live one when something about paths has changed; never per packet. No I/O, no clock.
//
//   up, not back where it came from, vector allowed, service-route not full     else: no candidate
//   meets the policy's thresholds                                               else: best-effort's last resort
//   first by vector priority, then cost, then as configured                     hunt
//   least loaded for its cost among those of the best vector                    proportional
//
// A threshold is judged when quality changes (`evaluate`), for each policy and path by itself, and with hysteresis:
//
//                 broken twice in a row, or by a quarter
//        meets ────────────────────────────────────────► breaks
//              ◄────────────────────────────────────────
//                 held twice in a row, or by a quarter
//
// The first judgement of a path counts at once; what is not known breaks nothing.

import { StateError, type StateReader, type StateWriter } from "../base/state.ts";
import type { PathQualityView, PathView } from "../peer/path-settings.ts";
import { DROP_PATH_DOWN, DROP_PATH_QUALITY, DROP_ROUTE_LOOP, DROP_ROUTE_SESSION_LIMIT, OK } from "../wire/verdict.ts";
import type { ServiceLoads } from "./service-loads.ts";
import { type PeerRoute, type PeerServicePath, type ServicePolicy, VECTOR_NEVER } from "./service-route.ts";

/** Why a service path cannot be taken now, or that it can. `loss` to `mos`: the threshold that it breaks. */
export type Standing = "usable" | "loop" | "down" | "never" | "full" | Threshold;
export type Threshold = "loss" | "latency" | "jitter" | "mos";

const THRESHOLDS: readonly Threshold[] = ["loss", "latency", "jitter", "mos"];
/** Judgements in a row that turn a state. */
const TURNS_AFTER = 2;
/** By how much of a threshold quality must miss or hold it to turn the state at once. */
const MARGIN = 0.25;
/** The best mean opinion score: how far below it a threshold lies is the measure of missing it. */
const MOS_BEST = 4.4;

/** One path as a service sees it, for `show` and `explain`. */
export interface PathScore {
  readonly servicePath: PeerServicePath;
  readonly standing: Standing;
  readonly sessions: number;
  /** What `proportional` compares, lower first: the load if it took one session more, for its weight. NaN under hunt. */
  readonly load: number;
  /** Where the next new session would go. */
  readonly chosen: boolean;
}

export class PathChoice {
  readonly #paths: readonly PathView[];
  readonly #loads: ServiceLoads;
  readonly #policies: readonly ServicePolicy[];
  /** Per [policy * paths + path]: the index in THRESHOLDS of what is broken plus 1, 0 = it meets the policy; */
  readonly #broken: Uint8Array;
  /** judgements in a row that say otherwise; and whether there was any. */
  readonly #contrary: Uint8Array;
  readonly #isJudged: Uint8Array;
  #refusal = OK;

  constructor(parts: {
    paths: readonly PathView[];
    loads: ServiceLoads;
    policies: readonly ServicePolicy[];
  }) {
    const { paths, loads, policies } = parts;
    this.#paths = paths;
    this.#loads = loads;
    this.#policies = policies;
    this.#broken = new Uint8Array(paths.length * policies.length);
    this.#contrary = new Uint8Array(paths.length * policies.length);
    this.#isJudged = new Uint8Array(paths.length * policies.length);
  }

  /** Why choose returned null: a drop reason. */
  get refusal(): number {
    return this.#refusal;
  }

  /**
   * The way of a new session. `from` is the row of the peer path that it came by, -1 = a plain network: it never goes
   * back to that peer. Null = none, and `refusal` says why.
   */
  choose(route: PeerRoute, from: number, nowMs: number): PeerServicePath | null {
    const best = this.#best(route, from, nowMs);
    if (best !== null) return best;
    const lesser = route.policy.bestEffort ? this.#leastBroken(route, from) : null;
    if (lesser === null) this.#refusal = this.#whyNone(route, from);
    return lesser;
  }

  /**
   * The way of a live session that has taken peer path `current`: the same service path when it stays, also when there
   * is no better one. Under `none` it always stays. Null only where the route no longer knows `current` and has no way.
   */
  rechoose(route: PeerRoute, current: number, from: number, nowMs: number): PeerServicePath | null {
    const now = route.paths.find(({ path }) => path === current);
    if (now === undefined) return this.choose(route, from, nowMs);
    const { resiliency, strategy } = route.policy;
    if (resiliency === "none") return now;
    // It counts against its service-route's limit already.
    const { serviceRoute } = now;
    const standing = this.standing(route.policy, now, from, serviceRoute);
    const best = this.#best(route, from, nowMs, serviceRoute);
    if (standing === "usable") {
      if (resiliency !== "revertible-failover" || best === null) return now;
      const isBetter = strategy === "hunt" ? isBefore(route, best, now) : best.priority < now.priority;
      return isBetter ? best : now;
    }
    if (best !== null) return best;
    // Between paths that break thresholds a live session does not wander; one that is down it leaves all the same.
    if (standing !== "down" || !route.policy.bestEffort) return now;
    return this.#leastBroken(route, from, serviceRoute) ?? now;
  }

  /**
   * The second path of a session under `packet-duplication` whose first one is `first`: another one to the same peer, the
   * one that it has, `current`, while it can be used, and also when none can. -1 = none.
   */
  second(route: PeerRoute, first: number, current: number, from: number): number {
    const { peer } = this.#paths[first];
    const others = route.paths.filter((candidate) => candidate.peer === peer && candidate.path !== first);
    const standings = others.map((other) => this.standing(route.policy, other, from, other.serviceRoute));
    const isGood = (at: number) =>
      standings[at] === "usable" || (route.policy.bestEffort && isThreshold(standings[at]));
    const now = others.findIndex(({ path }) => path === current);
    if (now >= 0 && isGood(now)) return current;
    const usable = standings.indexOf("usable");
    const best = usable >= 0 ? usable : standings.findIndex((_, at) => isGood(at));
    if (best >= 0) return others[best].path;
    return now >= 0 ? current : -1;
  }

  /** Every candidate with its numbers, best first, and why it is or is not chosen. */
  scores(route: PeerRoute, from: number, nowMs: number): PathScore[] {
    const chosen = this.choose(route, from, nowMs);
    return route.paths.map((servicePath) => ({
      servicePath,
      standing: this.standing(route.policy, servicePath, from),
      sessions: this.#loads.ofPath(servicePath.row),
      load: route.policy.strategy === "hunt" ? Number.NaN : this.#load(route, servicePath, from, nowMs),
      chosen: servicePath === chosen,
    }));
  }

  /**
   * Call when the quality of peer path `row` was measured anew. True = under some policy it now meets or breaks a
   * threshold that it did not: live sessions should be looked at again.
   */
  evaluate(row: number): boolean {
    const { quality } = this.#paths[row];
    let turned = false;
    for (const policy of this.#policies) if (this.#judge(policy, row, quality)) turned = true;
    return turned;
  }

  /** Whether a service path may be taken, or what is against it; by a session that `within` this service-route already counts. */
  standing(policy: ServicePolicy, candidate: PeerServicePath, from: number, within = -1): Standing {
    if (from >= 0 && this.#paths[from].peer === candidate.peer) return "loop";
    if (!this.#paths[candidate.path].up) return "down";
    if (candidate.priority === VECTOR_NEVER) return "never";
    const isFull = this.#loads.ofRoute(candidate.serviceRoute) >= candidate.maxSessions;
    if (isFull && candidate.serviceRoute !== within) return "full";
    const broken = this.#broken[this.#at(policy, candidate.path)];
    return broken === 0 ? "usable" : THRESHOLDS[broken - 1];
  }

  /** What was judged of each path under each policy. */
  save(out: StateWriter): void {
    for (const column of [this.#broken, this.#contrary, this.#isJudged]) out.raw(column);
  }

  /** Of the same paths and policies. */
  restore(from: StateReader): void {
    for (const column of [this.#broken, this.#contrary, this.#isJudged]) from.rawInto(column, "judgements of paths");
    if (this.#broken.some((broken) => broken > THRESHOLDS.length)) throw new StateError("an unknown threshold");
  }

  #at(policy: ServicePolicy, path: number): number {
    return policy.row * this.#paths.length + path;
  }

  #best(route: PeerRoute, from: number, nowMs: number, within = -1): PeerServicePath | null {
    const { policy } = route;
    let best: PeerServicePath | null = null;
    let least = Number.POSITIVE_INFINITY;
    for (const candidate of route.paths) {
      if (best !== null && candidate.priority !== best.priority) break;
      if (this.standing(policy, candidate, from, within) !== "usable") continue;
      if (policy.strategy === "hunt") return candidate;
      const load = this.#load(route, candidate, from, nowMs);
      if (best !== null && load >= least) continue;
      best = candidate;
      least = load;
    }
    return best;
  }

  /**
   * The sessions that a candidate would have with one more, times its cost: whose is least gets the session (D'Hondt's
   * method). What a peer has from other routers is laid on our ways to it by their weights.
   */
  #load(route: PeerRoute, candidate: PeerServicePath, from: number, nowMs: number): number {
    const own = (this.#loads.ofPath(candidate.row) + 1) * candidate.cost;
    const elsewhere = this.#loads.elsewhere(candidate.peer, candidate.service, nowMs);
    if (elsewhere === 0) return own;
    let weight = 0;
    for (const other of route.paths) {
      if (other.peer !== candidate.peer || other.priority !== candidate.priority) continue;
      if (other === candidate || this.standing(route.policy, other, from) === "usable") weight += 1 / other.cost;
    }
    return own + elsewhere / weight;
  }

  /** Of the candidates that nothing but a threshold is against, the one that misses its own by the smallest part. */
  #leastBroken(route: PeerRoute, from: number, within = -1): PeerServicePath | null {
    let best: PeerServicePath | null = null;
    let least = Number.POSITIVE_INFINITY;
    for (const candidate of route.paths) {
      if (!isThreshold(this.standing(route.policy, candidate, from, within))) continue;
      const excess = worstExcess(route.policy, this.#paths[candidate.path].quality);
      if (best !== null && excess >= least) continue;
      best = candidate;
      least = excess;
    }
    return best;
  }

  /** The reason that an operator can do most about. */
  #whyNone(route: PeerRoute, from: number): number {
    let why = DROP_ROUTE_LOOP;
    for (const candidate of route.paths) {
      const standing = this.standing(route.policy, candidate, from);
      if (standing === "never" || isThreshold(standing)) return DROP_PATH_QUALITY;
      if (standing === "full") why = DROP_ROUTE_SESSION_LIMIT;
      else if (standing === "down" && why === DROP_ROUTE_LOOP) why = DROP_PATH_DOWN;
    }
    return why;
  }

  #judge(policy: ServicePolicy, row: number, quality: PathQualityView): boolean {
    const at = this.#at(policy, row);
    const excess = THRESHOLDS.map((threshold) => excessOf(policy, quality, threshold));
    const worst = Math.max(...excess);
    const broken = worst > 0 ? excess.indexOf(worst) + 1 : 0;
    if (this.#isJudged[at] === 0 && isUnknown(quality)) return false;
    if (broken > 0 === this.#broken[at] > 0 || this.#isJudged[at] === 0) {
      const turned = broken > 0 !== this.#broken[at] > 0;
      this.#broken[at] = broken;
      this.#contrary[at] = 0;
      this.#isJudged[at] = 1;
      return turned;
    }
    this.#contrary[at]++;
    const byMargin = worst > 0 ? worst >= MARGIN : worst <= -MARGIN;
    if (!byMargin && this.#contrary[at] < TURNS_AFTER) return false;
    this.#broken[at] = broken;
    this.#contrary[at] = 0;
    return true;
  }
}

function isBefore(route: PeerRoute, one: PeerServicePath, other: PeerServicePath): boolean {
  return route.paths.indexOf(one) < route.paths.indexOf(other);
}

export function isThreshold(standing: Standing): standing is Threshold {
  return (THRESHOLDS as readonly string[]).includes(standing);
}

/** By which part of a threshold quality is beyond it; at most 0 = it holds, -Infinity = there is none, 0 = not known. */
function excessOf(policy: ServicePolicy, quality: PathQualityView, threshold: Threshold): number {
  switch (threshold) {
    case "loss":
      return excess(quality.lossPercent, policy.maxLossPercent);
    case "latency":
      return excess(quality.latencyMs, policy.maxLatencyMs);
    case "jitter":
      return excess(quality.jitterMs, policy.maxJitterMs);
    case "mos":
      return policy.minMos === 0 ? Number.NEGATIVE_INFINITY : excess(MOS_BEST - quality.mos, MOS_BEST - policy.minMos);
  }
}

function excess(value: number, most: number): number {
  if (most === Number.POSITIVE_INFINITY) return Number.NEGATIVE_INFINITY;
  if (Number.isNaN(value)) return 0;
  if (value <= 0) return -1;
  return most === 0 ? Number.POSITIVE_INFINITY : value / most - 1;
}

function isUnknown({ lossPercent, latencyMs, jitterMs, mos }: PathQualityView): boolean {
  return [lossPercent, latencyMs, jitterMs, mos].every(Number.isNaN);
}

function worstExcess(policy: ServicePolicy, quality: PathQualityView): number {
  return Math.max(...THRESHOLDS.map((threshold) => excessOf(policy, quality, threshold)));
}
