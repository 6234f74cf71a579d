// How many sessions each service path, service-route and service of this router carries now, and what peers say of
// theirs (attribute 13, "service feedback"). Counts only; who chooses by them: path-choice.ts, service-route.ts.

import type { StateReader, StateWriter } from "../base/state.ts";

/** What a peer said this long ago is no longer counted on: nothing goes there that would bring another answer. */
const FEEDBACK_MS = 60_000;

export class ServiceLoads {
  readonly #serviceOf: Int32Array;
  readonly #routeOf: Int32Array;
  readonly #ofPath: Int32Array;
  readonly #ofRoute: Int32Array;
  readonly #ofService: Int32Array;
  readonly #services: number;
  /** service-route of [peer * services + service], -1 = none. */
  readonly #routeToward: Int32Array;
  /** Of [peer * services + service]: others' sessions there, and when that was heard. */
  readonly #elsewhere: Float64Array;
  readonly #heardMs: Float64Array;
  readonly workers: number;

  /** `servicePaths[i]` is row i. `workers`: each has its own counts, and an equal part of what others have. */
  constructor(parts: {
    servicePaths: readonly { readonly service: number; readonly serviceRoute: number; readonly peer?: number }[];
    services: number;
    serviceRoutes: number;
    peers: number;
    workers: number;
  }) {
    const { servicePaths, services, serviceRoutes, peers, workers } = parts;
    this.#serviceOf = Int32Array.from(servicePaths, ({ service }) => service);
    this.#routeOf = Int32Array.from(servicePaths, ({ serviceRoute }) => serviceRoute);
    this.#ofPath = new Int32Array(servicePaths.length);
    this.#ofRoute = new Int32Array(serviceRoutes);
    this.#ofService = new Int32Array(services);
    this.#services = services;
    this.#routeToward = new Int32Array(peers * services).fill(-1);
    for (const { service, serviceRoute, peer } of servicePaths)
      if (peer !== undefined) this.#routeToward[peer * services + service] = serviceRoute;
    this.#elsewhere = new Float64Array(peers * services);
    this.#heardMs = new Float64Array(peers * services).fill(Number.NEGATIVE_INFINITY);
    this.workers = workers;
  }

  /** A session began on this service path. */
  opened(row: number): void {
    this.#count(row, 1);
  }

  closed(row: number): void {
    this.#count(row, -1);
  }

  /** A live session left one service path for another of its service. */
  moved(from: number, to: number): void {
    this.#count(from, -1);
    this.#count(to, 1);
  }

  ofPath(row: number): number {
    return this.#ofPath[row];
  }

  /** Of all service paths of a service-route. */
  ofRoute(serviceRoute: number): number {
    return this.#ofRoute[serviceRoute];
  }

  ofService(service: number): number {
    return this.#ofService[service];
  }

  /** What this router says of itself in attribute 13. One worker of several knows its own part, and takes the others' to be alike. */
  told(service: number): number {
    return this.#ofService[service] * this.workers;
  }

  /** A peer said how many sessions of the service it has, ours among them. */
  heard(peer: number, service: number, count: number, nowMs: number): void {
    const at = peer * this.#services + service;
    const route = this.#routeToward[at];
    if (route < 0) return;
    this.#elsewhere[at] = Math.max(0, count / this.workers - this.#ofRoute[route]);
    this.#heardMs[at] = nowMs;
  }

  /** The sessions of the service that a peer has from other routers, as far as it has said lately. */
  elsewhere(peer: number, service: number, nowMs: number): number {
    const at = peer * this.#services + service;
    return nowMs - this.#heardMs[at] > FEEDBACK_MS ? 0 : this.#elsewhere[at];
  }

  /** Service paths: rows are below it. */
  get servicePaths(): number {
    return this.#serviceOf.length;
  }

  /** What peers have said; what is carried here is counted with each session. */
  save(out: StateWriter): void {
    out.doubles(this.#elsewhere);
    out.doubles(this.#heardMs);
  }

  /** Of the same peers and services. */
  restore(from: StateReader): void {
    from.doubles(this.#elsewhere, "loads of peers");
    from.doubles(this.#heardMs, "loads of peers");
  }

  #count(row: number, by: number): void {
    this.#ofPath[row] += by;
    this.#ofRoute[this.#routeOf[row]] += by;
    this.#ofService[this.#serviceOf[row]] += by;
  }
}
