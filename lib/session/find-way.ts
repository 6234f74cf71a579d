// Where a new session's packets go next, both ways, before anything is taken for it (open.ts). Neighbors are asked, nothing else
// changes.
//
//   route ── toward a peer: by which path (path-choice.ts)               ─┐
//         └─ out of an interface: target, NAT (source-nat.ts), neighbor  ─┴─ and back where the lead packet came from

import { encryptsMetadata } from "../crypto/key-ring.ts";
import type { NeighborTable } from "../peer/neighbor.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import { isOnLink, nextHopAddress, type RouterInterface } from "../peer/router-interface.ts";
import { isName } from "../table/address-book.ts";
import { hasPorts } from "../wire/flow-key.ts";
import {
  DROP_KEY_IN_CLEAR,
  DROP_NEIGHBOR_TABLE_FULL,
  DROP_NO_RETURN_ROUTE,
  DROP_NO_ROUTE,
  DROP_ROUTE_SESSION_LIMIT,
  OK,
} from "../wire/verdict.ts";
import { carrierOver } from "./carrier.ts";
import type { OpenRequest } from "./open-request.ts";
import type { PathChoice } from "./path-choice.ts";
import type { ServiceLoads } from "./service-loads.ts";
import type { LocalRoute, PeerRoute } from "./service-route.ts";
import { presentSource, type SourceNat } from "./source-nat.ts";
import { Way } from "./way.ts";

export class WayFinder {
  /** What was found last; reused. */
  readonly way = new Way();
  readonly #neighbors: NeighborTable;
  readonly #interfaces: readonly RouterInterface[];
  readonly #paths: readonly PeerPath[];
  readonly #choice: PathChoice;
  readonly #loads: ServiceLoads;
  readonly #nat: SourceNat | null;

  constructor(parts: {
    neighbors: NeighborTable;
    interfaces: readonly RouterInterface[];
    paths: readonly PeerPath[];
    choice: PathChoice;
    loads: ServiceLoads;
    nat: SourceNat | null;
  }) {
    this.#neighbors = parts.neighbors;
    this.#interfaces = parts.interfaces;
    this.#paths = parts.paths;
    this.#choice = parts.choice;
    this.#loads = parts.loads;
    this.#nat = parts.nat;
  }

  /** OK with the way in `way`, or why there is none. */
  find(request: OpenRequest, nowMs: number): number {
    const { route, context, upstreamPath } = request;
    this.way.begin(context, upstreamPath < 0 ? null : this.#paths[upstreamPath], request.hairpin);
    if (route === null) return DROP_NO_ROUTE;
    const led = route.kind === "peer" ? this.#toPeer(route, request, nowMs) : this.#outOf(route, request, nowMs);
    return led === OK ? this.#back(request, nowMs) : led;
  }

  #toPeer(route: PeerRoute, request: OpenRequest, nowMs: number): number {
    const { way } = this;
    const { downstreamPath } = request;
    const pool = this.#nat?.ingressPool(request) ?? null;
    if (pool !== null && this.#nat!.isOutside(way.destination)) {
      way.servicePath = route.paths[0].row;
      const within = this.#nat!.leave(request, way, pool);
      return within === OK ? this.#wantHop(null, nowMs) : within;
    }
    const chosen =
      downstreamPath >= 0
        ? (route.paths.find(({ path }) => path === downstreamPath) ?? null)
        : this.#choice.choose(route, request.upstreamPath, nowMs);
    if (chosen === null) return downstreamPath >= 0 ? DROP_NO_ROUTE : this.#choice.refusal;
    const path = this.#paths[chosen.path];
    if (request.payloadKeyLength > 0 && !encryptsMetadata(path.security)) return DROP_KEY_IN_CLEAR;
    way.servicePath = chosen.row;
    way.downstream = path;
    way.egress = path.interfaceId;
    way.forwardHop = path.nextHop;
    way.source = path.local;
    way.destination = path.remote;
    way.protocol = downstreamPath >= 0 ? request.downstreamProtocol : carrierOver(path, way.protocol);
    if (pool !== null) this.#nat!.leaveToPeer(request, way, pool);
    return OK;
  }

  #outOf(route: LocalRoute, request: OpenRequest, nowMs: number): number {
    const { way } = this;
    if (this.#loads.ofRoute(route.serviceRoute) >= route.maxSessions) return DROP_ROUTE_SESSION_LIMIT;
    way.servicePath = route.row;
    way.egress = route.interfaceId;
    if (route.target !== null) {
      way.destination = route.target.address;
      if (route.target.port !== 0 && hasPorts(way.protocol)) way.ports = (way.ports & 0xffff0000) | route.target.port;
    }
    // A packet keeps its family outside the fabric (config-check.ts says so first).
    const { isIpv6 } = this.#interfaces[way.egress];
    if (isName(way.destination) !== isIpv6 || isName(way.source) !== isIpv6) return DROP_NO_ROUTE;
    // An own source NAT of the route comes before what the session's first router says.
    if (route.sourceNat === null) presentSource(request, way);
    const translated = this.#nat?.leave(request, way, route.sourceNat) ?? OK;
    return translated === OK ? this.#wantHop(way.hairpin < 0 ? route.gateway : null, nowMs) : translated;
  }

  /** The neighbor that packets go to on `way.egress`: `gateway`, where the route has one. */
  #wantHop(gateway: number | null, nowMs: number): number {
    const { way } = this;
    const address = gateway ?? nextHopAddress(this.#interfaces[way.egress], way.destination);
    if (address === null) return DROP_NO_ROUTE;
    way.forwardHop = this.#neighbors.want(way.egress, address, nowMs);
    return way.forwardHop < 0 ? DROP_NEIGHBOR_TABLE_FULL : OK;
  }

  /** Step 6: replies must go back where the packet came from, so a source of another interface's subnet is refused. */
  #back({ interfaceId, context }: OpenRequest, nowMs: number): number {
    const { way } = this;
    if (way.upstream !== null) {
      way.reverseHop = way.upstream.nextHop;
      return OK;
    }
    const ingress = this.#interfaces[interfaceId];
    const elsewhere = this.#interfaces.some((at) => at !== ingress && isOnLink(at, context[0]));
    const address = nextHopAddress(ingress, context[0]);
    if (address === null || (elsewhere && !ingress.isMirror)) return DROP_NO_RETURN_ROUTE;
    // In a full table the first neighbor's row must not be given to the second.
    this.#neighbors.acquire(way.forwardHop);
    way.reverseHop = this.#neighbors.want(interfaceId, address, nowMs);
    this.#neighbors.release(way.forwardHop);
    return way.reverseHop < 0 ? DROP_NEIGHBOR_TABLE_FULL : OK;
  }
}
