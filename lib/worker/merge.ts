// The workers' answers to `show` as the answer of one router: what counts is added up, what is a fact of the router is
// the first worker's. Shapes in control/show.ts.

import type {
  DropsAnswer,
  EventsAnswer,
  InterfacesAnswer,
  NeighborsAnswer,
  PathsAnswer,
  PeersAnswer,
  ServicesAnswer,
  TenantsAnswer,
  WorkersAnswer,
} from "../control/show.ts";

/** One answer of `answers`, worker 0's first. `resource` is not "sessions": those are joined as text. */
export function mergeAnswers(resource: string, answers: readonly object[]): object {
  switch (resource) {
    case "peers":
      return mergePeers(answers as PeersAnswer[]);
    case "paths":
      return mergePaths(answers as PathsAnswer[]);
    case "services":
      return mergeServices(answers as ServicesAnswer[]);
    case "tenants":
      return mergeTenants(answers as TenantsAnswer[]);
    case "interfaces":
      return mergeInterfaces(answers as InterfacesAnswer[]);
    case "neighbors":
      return mergeNeighbors(answers as NeighborsAnswer[]);
    case "events":
      return { events: mergeEvents(answers as EventsAnswer[]) };
    case "drops":
      return mergeDrops(answers as DropsAnswer[]);
    case "workers":
      return { workers: (answers as WorkersAnswer[]).flatMap(({ workers }) => workers) };
    case "counters":
      return addUp(answers as Record<string, number>[]);
    default:
      return answers[0];
  }
}

/** Counts are added up; the sample is the latest. */
function mergeDrops(answers: readonly DropsAnswer[]): DropsAnswer {
  const merged = new Map<string, DropsAnswer["drops"][number]>();
  for (const drop of answers.flatMap(({ drops }) => drops)) {
    const before = merged.get(drop.reason);
    const isLater =
      (drop.sample?.agoMs ?? Number.POSITIVE_INFINITY) < (before?.sample?.agoMs ?? Number.POSITIVE_INFINITY);
    const { sample } = before === undefined || isLater ? drop : before;
    merged.set(drop.reason, { ...drop, count: drop.count + (before?.count ?? 0), sample });
  }
  return { drops: [...merged.values()].sort((a, b) => b.count - a.count) };
}

/** The sum of each field; every worker has the same. */
function addUp<T extends { readonly [name: string]: number }>(parts: readonly T[]): T {
  const sum: Record<string, number> = {};
  for (const part of parts) for (const [name, value] of Object.entries(part)) sum[name] = (sum[name] ?? 0) + value;
  return sum as T;
}

/** Of limits; null = there is none. */
function sumOf(limits: readonly (number | null)[]): number | null {
  return limits.reduce((sum, limit) => (sum === null || limit === null ? null : sum + limit));
}

/** A clock's difference is known where it was measured. */
function mergePeers(answers: readonly PeersAnswer[]): PeersAnswer {
  return {
    peers: answers[0].peers.map((peer, row) => ({
      ...peer,
      paths: peer.paths.map((path, at) => ({
        ...path,
        clockOffsetMs: answers.reduce<number | null>(
          (known, { peers }) => known ?? peers[row].paths[at].clockOffsetMs,
          null,
        ),
      })),
    })),
  };
}

function mergePaths(answers: readonly PathsAnswer[]): PathsAnswer {
  return {
    paths: answers[0].paths.map((path, row) => ({
      ...path,
      ...addUp(answers.map(({ paths }) => ({ sessions: paths[row].sessions }))),
      waypointPairs: {
        ...path.waypointPairs,
        ...addUp(answers.map(({ paths }) => ({ inUse: paths[row].waypointPairs.inUse }))),
      },
    })),
  };
}

/** A candidate's limit is dealt out as a tenant's is; how it stands is the first worker's answer. */
function mergeServices(answers: readonly ServicesAnswer[]): ServicesAnswer {
  return {
    services: answers[0].services.map((service, row) => ({
      ...service,
      ...addUp(answers.map(({ services }) => ({ sessions: services[row].sessions }))),
      candidates: service.candidates.map((candidate, at) => {
        const parts = answers.map(({ services }) => services[row].candidates[at]);
        return {
          ...candidate,
          ...addUp(parts.map(({ sessions }) => ({ sessions }))),
          maxSessions: sumOf(parts.map(({ maxSessions }) => maxSessions)),
        };
      }),
    })),
  };
}

/** A limit is what the workers' parts of it come to: rounded up, so up to one a worker above the configured. */
function mergeTenants(answers: readonly TenantsAnswer[]): TenantsAnswer {
  return {
    tenants: answers[0].tenants.map((tenant, row) => {
      const parts = answers.map(({ tenants }) => tenants[row]);
      return {
        ...tenant,
        ...addUp(parts.map(({ sessions, halfOpen }) => ({ sessions, halfOpen }))),
        maxSessions: sumOf(parts.map(({ maxSessions }) => maxSessions)),
        maxHalfOpen: sumOf(parts.map(({ maxHalfOpen }) => maxHalfOpen)),
      };
    }),
  };
}

function mergeInterfaces(answers: readonly InterfacesAnswer[]): InterfacesAnswer {
  return {
    interfaces: answers[0].interfaces.map((item, row) => ({
      ...item,
      stats: addUp(answers.map(({ interfaces }) => ({ ...interfaces[row].stats }))),
    })),
  };
}

/** One row an address: of the worker that heard of it last. Frames that wait for it are added up. */
function mergeNeighbors(answers: readonly NeighborsAnswer[]): NeighborsAnswer {
  const merged = new Map<string, NeighborsAnswer["neighbors"][number]>();
  for (const neighbor of answers.flatMap(({ neighbors }) => neighbors)) {
    const key = `${neighbor.interface} ${neighbor.address}`;
    const other = merged.get(key);
    const held = neighbor.held + (other?.held ?? 0);
    merged.set(key, { ...(other === undefined || isFresher(neighbor, other) ? neighbor : other), held });
  }
  return { neighbors: [...merged.values()] };
}

type Neighbor = NeighborsAnswer["neighbors"][number];

function isFresher(one: Neighbor, other: Neighbor): boolean {
  if ((one.mac === null) !== (other.mac === null)) return one.mac !== null;
  return one.ageMs >= 0 && (other.ageMs < 0 || one.ageMs < other.ageMs);
}

/** What happened to paths every worker was told; what happened to sessions is each one's own. */
function mergeEvents(answers: readonly EventsAnswer[]): EventsAnswer["events"] {
  const all = answers.flatMap(({ events }, worker) =>
    events.flatMap((event) => (event.uuid !== undefined ? [{ ...event, worker }] : worker === 0 ? [event] : [])),
  );
  return all.sort((a, b) => a.agoMs - b.agoMs);
}
