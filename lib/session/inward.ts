// Inward sessions: to a host behind a peer, at the address and port that source NAT gives it here (hairpinning, RFC 4787, REQ-9).
//
//   sender ── west ══ east ──► mirror ──► east ══ west ── host
//              session of the sender │     inward session: from the sender's outside address and port to the host itself
//
// What the sender's session puts on the mirror (source-nat.ts) is the lead of an inward session, unless it answers a session of the
// host. No service covers hosts there. What lets it in is a session of the host's own, one that the mapping is there for: it goes
// along that one, backward. Every router on the way is told which it is, and takes the new one only
//
//   by the peer that the host's session goes to · to the very address, port and protocol that it comes from · of its tenant
//
// which is what a router asks of hairpinning on its own networks.

import type { PeerPath } from "../peer/peer-path.ts";
import { FLOW_PROTOCOL, FLOW_SHIFT } from "../table/flow-table.ts";
import { KEY_DESTINATION, KEY_PORTS, KEY_PROTOCOL } from "../wire/flow-key.ts";
import { DROP_NAT_UNMAPPED, OK } from "../wire/verdict.ts";
import type { Classification } from "./classify.ts";
import type { Sessions } from "./open.ts";
import type { OpenRequest } from "./open-request.ts";
import type { Policy } from "./policy.ts";
import type { LocalRoute, PeerRoute, ServicePath, ServiceRoute } from "./service-route.ts";
import type { ForwardMetadata } from "./session-metadata.ts";

export class Inward {
  readonly #sessions: Sessions;
  readonly #policy: Policy;
  /** Of the packet that was classified last: the mapping, and the session that it goes along. */
  #mapping = -1;
  #along = -1;

  constructor(sessions: Sessions, policy: Policy) {
    this.#sessions = sessions;
    this.#policy = policy;
  }

  /** Classify a packet that the mirror gives back. OK or DROP_NAT_UNMAPPED. */
  classifyMirrored(key: Int32Array, into: Classification): number {
    const { nat, table } = this.#sessions;
    into.tenant = -1;
    into.service = -1;
    into.route = null;
    const mapping = nat!.table.withOutside(key[KEY_DESTINATION], key[KEY_PORTS] & 0xffff, key[KEY_PROTOCOL] & 0xff);
    const along = mapping < 0 ? -1 : nat!.sessions.newest(mapping);
    if (along < 0 || table.upstream.path[along] < 0) return DROP_NAT_UNMAPPED;
    this.#mapping = mapping;
    this.#along = along;
    this.#goAlong(along, into);
    return OK;
  }

  /** The packet that was just classified, whose request is filled as any packet's, is for the host itself. */
  address(request: OpenRequest): void {
    const { nat, table } = this.#sessions;
    const { context } = request;
    context[1] = nat!.table.inside(this.#mapping);
    context[2] = (context[2] & 0xffff0000) | nat!.table.insidePort(this.#mapping);
    request.hairpin = this.#mapping;
    request.along = table.uuid.slice(this.#along * 4, this.#along * 4 + 4);
  }

  /** Classify an inward session by what a peer says of it, by way of `path`. OK or DROP_NAT_UNMAPPED. */
  classifyTold(told: ForwardMetadata, path: number, into: Classification): number {
    const { table, paths } = this.#sessions;
    into.tenant = this.#policy.tenantNamed(told.tenant);
    into.service = this.#policy.serviceNamed(told.service);
    into.route = null;
    const along = this.#sessions.withUuid(told.along!);
    if (along < 0 || table.tenant[along] !== into.tenant || table.service[along] !== into.service)
      return DROP_NAT_UNMAPPED;
    const next = table.downstream.path[along];
    if (next < 0 || paths[next].peer !== paths[path].peer || !this.#isSource(along, told.context))
      return DROP_NAT_UNMAPPED;
    this.#goAlong(along, into);
    return OK;
  }

  /** Whether the session comes from where a context leads. */
  #isSource(session: number, context: Int32Array): boolean {
    const at = session * 4;
    const own = this.#sessions.table.context;
    return own[at] === context[1] && own[at + 2] >>> 16 === (context[2] & 0xffff) && own[at + 3] === context[3];
  }

  #goAlong(along: number, into: Classification): void {
    const { table } = this.#sessions;
    into.tenant = table.tenant[along];
    into.service = table.service[along];
    into.route = this.#backward(along);
  }

  /** To where the session came from. It counts where that one does. */
  #backward(along: number): ServiceRoute {
    const { table, paths } = this.#sessions;
    const service = table.service[along];
    const servicePath = { row: table.servicePath[along], service, serviceRoute: 0, cost: 1, maxSessions: Infinity };
    const upstream = table.upstream.path[along];
    return upstream < 0
      ? this.#toNetwork(along, servicePath)
      : toPeer(paths, paths[upstream], this.#policy.services[service].policy, servicePath);
  }

  #toNetwork(along: number, servicePath: ServicePath): LocalRoute {
    const { table, flows } = this.#sessions;
    const interfaceId = flows.words[(table.forwardFlow[along] << FLOW_SHIFT) + FLOW_PROTOCOL] >>> 8;
    return {
      ...servicePath,
      kind: "interface",
      interfaceId,
      gateway: null,
      target: null,
      sourceNat: null,
      identity: 0,
    };
  }
}

/** By the path that the other session came by, or else another one of that peer. */
function toPeer(
  paths: readonly PeerPath[],
  first: PeerPath,
  policy: PeerRoute["policy"],
  servicePath: ServicePath,
): PeerRoute {
  const own = paths.filter(({ peer }) => peer === first.peer);
  const inOrder = [first, ...own.filter((path) => path !== first)];
  return {
    kind: "peer",
    policy,
    paths: inOrder.map(({ row, peer }) => ({ ...servicePath, path: row, peer, priority: row === first.row ? 0 : 1 })),
  };
}
