// The far router as a test plays it: metadata as a peer writes it, and the waypoint tuple of the first session.

import { parseAddress } from "../../lib/control/address-text.ts";
import type { AttributeValue } from "../../lib/wire/metadata-attributes.ts";
import { shardOf } from "../../lib/wire/shard.ts";
import { type Ends, metadataOf, type SeenPacket, swapEnds } from "./packets.ts";
import { CLIENT, EAST_WAYPOINT, SERVER, WEST_WAYPOINT } from "./topologies.ts";

export const UDP = 17;
export const TCP = 6;

export const ENDS: Ends = { source: CLIENT, destination: SERVER, sourcePort: 40000, destinationPort: 7 };
export const TO_EAST: Ends = { source: WEST_WAYPOINT, destination: EAST_WAYPOINT, ...firstPair(ENDS) };
export const TO_WEST: Ends = swapEnds(TO_EAST);
export const UUID = "0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0";

/** The waypoint ports of the first session of its shard. */
export function firstPair(ends: Ends, protocol = UDP): { sourcePort: number; destinationPort: number } {
  const ports = (ends.sourcePort << 16) | ends.destinationPort;
  const shard = shardOf(parseAddress(ends.source), parseAddress(ends.destination), ports, protocol);
  return { sourcePort: 16384 + 2 * shard, destinationPort: 16385 + 2 * shard };
}

/** Forward metadata of a session from the client to the server; each part can be another, or be left out by null. */
export function forwardMetadata(
  parts: {
    protocol?: number;
    ends?: Ends;
    uuid?: string | null;
    tenant?: string | null;
    service?: string | null;
    key?: Uint8Array;
    dscp?: number;
  } = {},
): Uint8Array {
  const { protocol = UDP, ends = ENDS, uuid = UUID, tenant = "corp", service = "app", key, dscp } = parts;
  const attributes: [number, AttributeValue][] = [
    [16, 0],
    [2, { ...ends, protocol }],
  ];
  if (uuid !== null) attributes.push([6, uuid]);
  if (tenant !== null) attributes.push([7, tenant]);
  if (service !== null) attributes.push([10, service]);
  if (key !== undefined) attributes.push([46, key]);
  if (dscp !== undefined) attributes.push([0x8001, dscp]);
  attributes.push([14, "west"], [15, "none"], [19, WEST_WAYPOINT]);
  return metadataOf(...attributes);
}

/** What the peer answers to a lead packet: the session's identifier and its context with the ends swapped. */
export function reverseMetadata(lead: SeenPacket): Uint8Array {
  const context = lead.metadata.get("forward-context") as Ends & { protocol: number };
  return metadataOf(
    [16, 0],
    [4, { ...swapEnds(context), protocol: context.protocol }],
    [6, lead.metadata.get("uuid") as string],
    [17, "east"],
    [19, EAST_WAYPOINT],
  );
}

export function controlMessage(reason: number): Uint8Array {
  return metadataOf([16, 0], [24, reason]);
}

export const HEALTH_CHECK = metadataOf([16, 0], [46, 1]);
