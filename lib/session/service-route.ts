// Service → how this router reaches it: peer paths, which path-choice.ts chooses among, and local destinations, chosen
// among here. Each of these ways is a *service path*; they are numbered through all services, and that row is where
// service-loads.ts counts the sessions of each.

import { scatter } from "../base/hash.ts";
import type { ServiceLoads } from "./service-loads.ts";
import type { NatPool } from "./source-nat.ts";

export interface ServicePath {
  readonly row: number;
  readonly service: number;
  /** Index of its service-route in the configuration; several paths toward one peer share it, and its `max-sessions`. */
  readonly serviceRoute: number;
  /** Lower is better; under `proportional`, and among local destinations, twice the cost is half the sessions. */
  readonly cost: number;
  /** Of the service-route; Infinity = as many as there is room for. */
  readonly maxSessions: number;
}

export interface PeerServicePath extends ServicePath {
  /** Row of the peer path, and of the peer. */
  readonly path: number;
  readonly peer: number;
  /** Of its vector in the service's policy, lower is better: VECTOR_UNLISTED, or VECTOR_NEVER = not to be used. */
  readonly priority: number;
}

/** Behind every priority that can be written. */
export const VECTOR_UNLISTED = 1_000_000;
export const VECTOR_NEVER = Number.POSITIVE_INFINITY;

export type Resiliency = "none" | "failover" | "revertible-failover" | "packet-duplication";

/** What a service wants of its paths. Thresholds that are not set are never broken. */
export interface ServicePolicy {
  readonly row: number;
  /** "" = the one of services that name none. */
  readonly name: string;
  /** hunt: the best until it is full; proportional: the best vector's paths share by cost. */
  readonly strategy: "hunt" | "proportional";
  /** Whether live sessions leave a path that is down or breaks a threshold, and whether they come back; or go over two at once. */
  readonly resiliency: Resiliency;
  /** A TCP segment of no session that is no SYN (protocol sheet 7.6): answered with a reset, dropped, or the begin of one. */
  readonly transportState: "reset" | "block" | "allow";
  readonly maxLossPercent: number;
  readonly maxLatencyMs: number;
  readonly maxJitterMs: number;
  readonly minMos: number;
  /** What packets of its sessions get toward the next router, -1 = the DSCP that they have. */
  readonly rewriteDscp: number;
  /** The DSCP of a session's first packet is told to the far edge, which gives it to every packet (protocol sheet 8). */
  readonly preservesDscp: boolean;
  /** Rather a path that breaks a threshold than none. */
  readonly bestEffort: boolean;
}

/** Toward peers: every path of every peer that the service's routes name. */
export interface PeerRoute {
  readonly kind: "peer";
  readonly policy: ServicePolicy;
  /** Best first: by vector, then cost, then as configured. */
  readonly paths: readonly PeerServicePath[];
}

/** Out of an interface of this router: a destination server, or the network that the service's addresses are in. */
export interface LocalRoute extends ServicePath {
  readonly kind: "interface";
  readonly interfaceId: number;
  /** Next hop; null = the destination is on-link or behind the interface's gateway. */
  readonly gateway: number | null;
  /** Destination NAT: address and port (0 = keep); null = none. */
  readonly target: { readonly address: number; readonly port: number } | null;
  /** Source NAT: whose addresses sources get; null = they stay as they are. */
  readonly sourceNat: NatPool | null;
  /** A hash of where it leads: the same in every worker and after a restart, so that sources stay where they are. */
  readonly identity: number;
}

/** How a session leaves this router. */
export type ServiceRoute = PeerRoute | LocalRoute;

/** Paths in the order that they are taken in. */
export function inOrder(paths: readonly PeerServicePath[]): PeerServicePath[] {
  // Array sort is stable: what is left equal stays as configured. Two infinities must not be subtracted.
  return [...paths].sort((a, b) => (a.priority === b.priority ? a.cost - b.cost : a.priority < b.priority ? -1 : 1));
}

const HASH_UNIT = 1 / 0x1_0000_0000;

/**
 * The destination of a source: always the same while it has room, and where one is added or removed only the sources
 * that it gets or had move (weighted rendezvous hashing; a source weighs destinations by 1/cost). Null = all are full.
 * Workers ask this before they know whose session it is, and must all find the same: of several none minds what only it
 * has counted, and the one that opens the session refuses it.
 */
export function localRouteOf(routes: readonly LocalRoute[], loads: ServiceLoads, source: number): LocalRoute | null {
  let best: LocalRoute | null = null;
  let bestScore = Number.NEGATIVE_INFINITY;
  for (const route of routes) {
    if (loads.workers === 1 && loads.ofRoute(route.serviceRoute) >= route.maxSessions) continue;
    const uniform = ((scatter(route.identity, source) >>> 0) + 0.5) * HASH_UNIT;
    const score = Math.log(uniform) * route.cost;
    if (best !== null && score <= bestScore) continue;
    best = route;
    bestScore = score;
  }
  return best;
}
