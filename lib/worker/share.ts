// What one of a router's workers gets of it: its part of the capacities, its addresses between routers.

import type { Config } from "../control/config.ts";
import type { Router } from "../control/router-parts.ts";
import { addressBook, isName } from "../table/address-book.ts";

/**
 * The configuration of one of `workers`: capacities that grow with sessions are divided, rounded up. The others stay:
 * each worker has its own neighbors, its own turns, and port pairs by its shards (table/port-pool.ts).
 */
export function shareOf(config: Config, workers: number): Config {
  if (workers === 1) return config;
  const part = (total: number) => Math.ceil(total / workers);
  const partOf = (limit: number | null) => (limit === null ? null : part(limit));
  const holdFrames = part(config.limits.holdFrames);
  return {
    ...config,
    sessions: { ...config.sessions, max: part(config.sessions.max) },
    limits: {
      ...config.limits,
      holdFrames,
      holdFramesPerNeighbor: Math.min(config.limits.holdFramesPerNeighbor, holdFrames),
      fabricChains: part(config.limits.fabricChains),
      ipFragments: part(config.limits.ipFragments),
      duplicatedSessions: part(config.limits.duplicatedSessions),
      halfOpen: partOf(config.limits.halfOpen),
    },
    serviceRoutes: config.serviceRoutes.map((route) => ({ ...route, maxSessions: partOf(route.maxSessions) })),
    tenants: config.tenants.map((tenant) => ({
      ...tenant,
      maxSessions: partOf(tenant.maxSessions),
      maxHalfOpen: partOf(tenant.maxHalfOpen),
    })),
  };
}

/** The router's own addresses of the peer paths on an interface, in words: what the steering program must know of it. */
export function waypointsOf(router: Router, interfaceId: number): number[][] {
  const own = router.sessions.paths.filter((path) => path.interfaceId === interfaceId).map((path) => path.local);
  return own.map((local) => (isName(local) ? [0, 1, 2, 3].map((n) => addressBook.word(local, n)) : [local]));
}
