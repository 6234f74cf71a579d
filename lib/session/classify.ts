// What a lead packet is: tenant, service, access, route (protocol sheet 2.4 steps 3 to 5; for a packet with metadata
// the names come from the ingress router and are checked against our own configuration). Nothing is changed here, so
// `explain` asks the very same functions.

import { KEY_DESTINATION, KEY_PORTS, KEY_PROTOCOL, KEY_SOURCE, PROTOCOL_ICMP } from "../wire/flow-key.ts";
import {
  DROP_ACCESS_DENIED,
  DROP_NO_ROUTE,
  DROP_NO_SERVICE,
  DROP_NO_TENANT,
  DROP_ROUTE_SESSION_LIMIT,
  DROP_SERVICE_MISMATCH,
  DROP_UNKNOWN_SERVICE,
  DROP_UNKNOWN_TENANT,
  OK,
} from "../wire/verdict.ts";
import type { Policy } from "./policy.ts";
import { localRouteOf, type ServiceRoute } from "./service-route.ts";

/** The answer, reused from packet to packet. After a drop the rows found before it are still there, for explain. */
export class Classification {
  tenant = -1;
  service = -1;
  route: ServiceRoute | null = null;
}

/** Classify a packet from a plain network by its decoded key row. Returns OK or a drop reason. */
export function classifyPacket(policy: Policy, key: Int32Array, into: Classification): number {
  const protocol = key[KEY_PROTOCOL] & 0xff;
  into.service = -1;
  into.route = null;
  into.tenant = policy.tenantOf(key[KEY_PROTOCOL] >>> 8, key[KEY_SOURCE]);
  if (into.tenant < 0) return DROP_NO_TENANT;
  into.service = policy.serviceOf(key[KEY_DESTINATION], protocol, destinationPort(key[KEY_PORTS], protocol));
  if (into.service < 0) return DROP_NO_SERVICE;
  return admit(policy, into, key[KEY_SOURCE]);
}

/** Classify a session by what its metadata says: names and original 5-tuple (four words: source, destination, ports, protocol). */
export function classifyMetadata(
  policy: Policy,
  tenant: string,
  service: string,
  context: Int32Array,
  into: Classification,
): number {
  into.route = null;
  into.service = -1;
  into.tenant = policy.tenantNamed(tenant);
  if (into.tenant < 0) return DROP_UNKNOWN_TENANT;
  into.service = policy.serviceNamed(service);
  if (into.service < 0) return DROP_UNKNOWN_SERVICE;
  const protocol = context[3];
  if (!policy.contains(into.service, context[1], protocol, destinationPort(context[2], protocol)))
    return DROP_SERVICE_MISMATCH;
  return admit(policy, into, context[0]);
}

/** Access, then the route: a local destination of this source, else toward peers, where the path is chosen when it is opened. */
function admit(policy: Policy, into: Classification, source: number): number {
  const service = policy.services[into.service];
  if (!service.allowed[into.tenant]) return DROP_ACCESS_DENIED;
  into.route = localRouteOf(service.localRoutes, policy.loads, source) ?? service.peerRoute;
  if (into.route !== null) return OK;
  return service.localRoutes.length > 0 ? DROP_ROUTE_SESSION_LIMIT : DROP_NO_ROUTE;
}

/** Whether a packet to one of our own addresses is for a service's target all the same: port forwarding. */
export function isForwarded(policy: Policy, key: Int32Array): boolean {
  const protocol = key[KEY_PROTOCOL] & 0xff;
  return policy.forwards(key[KEY_DESTINATION], protocol, destinationPort(key[KEY_PORTS], protocol));
}

/** An ICMP key has the identifier where ports would be; services do not choose by it. */
function destinationPort(ports: number, protocol: number): number {
  return protocol === PROTOCOL_ICMP ? 0 : ports & 0xffff;
}
