// A router behind a NAT: client ─lan─ west ─inside─ NAT ─wan─ east ─far─ server. The NAT is the worst of RFC 4787's: each
// pair of ends has a mapping of its own, its port is never the sender's, and nothing comes in by another way than it went
// out. Only what goes out keeps a mapping, and no answer to a SYN makes one.

import { getI32, getU16, setU16, setU32 } from "../../lib/base/bytes.ts";
import { parseAddress } from "../../lib/control/address-text.ts";
import type { Router } from "../../lib/router.ts";
import { addDelta, applyDelta, applyDeltaUdp, deltaI32, deltaU16 } from "../../lib/wire/checksum.ts";
import { ACK, SYN } from "../../lib/wire/tcp.ts";
import type { SeenPacket } from "./packets.ts";
import { CLIENT, type Protection, SERVER } from "./topologies.ts";
import { type Link, type SimHost, World } from "./world.ts";

const L3 = 14;

interface Mapping {
  readonly inside: SimHost;
  readonly source: string;
  readonly sourcePort: number;
  readonly externalPort: number;
  usedMs: number;
}

export class Nat {
  readonly outside: SimHost;
  /** Mappings of which nothing went out for so long are forgotten. */
  idleMs = Number.POSITIVE_INFINITY;
  /** Packets from outside that had no mapping. */
  refused = 0;
  /** Whether it keeps the sender's port. */
  keepsPorts = false;
  readonly #world: World;
  readonly #mappings = new Map<string, Mapping>();
  #nextPort = 20_001;

  constructor(world: World, inside: SimHost, outside: SimHost) {
    this.#world = world;
    this.outside = outside;
    this.serve(inside);
    outside.onPacket = (packet) => this.#in(packet);
  }

  /** Another link behind it. */
  serve(inside: SimHost): void {
    inside.onPacket = (packet) => this.#out(inside, packet);
  }

  /** Forget every mapping; the next ones are of another address, and of other ports. */
  rebind(address = this.outside.address): void {
    this.#mappings.clear();
    this.outside.address = address;
    this.#nextPort += 1000;
  }

  /** Forget the mappings of sessions, not that of BFD. */
  forgetSessions(): void {
    for (const [key, { sourcePort }] of this.#mappings) if (sourcePort !== 1280) this.#mappings.delete(key);
  }

  #out(inside: SimHost, packet: SeenPacket): void {
    const key = [packet.protocol, packet.source, packet.sourcePort, packet.destination, packet.destinationPort].join();
    let mapping = this.#mappings.get(key);
    if (mapping === undefined || this.#isOver(mapping)) {
      // As Linux has it: in the midst of a stream a mapping may begin, by an answer to a SYN it may not.
      if (packet.protocol === 6 && (packet.tcpFlags & (SYN | ACK)) === (SYN | ACK)) return;
      const externalPort = this.keepsPorts ? packet.sourcePort : this.#nextPort++;
      mapping = { inside, source: packet.source, sourcePort: packet.sourcePort, externalPort, usedMs: 0 };
      this.#mappings.set(key, mapping);
    }
    mapping.usedMs = this.#world.clock.nowMs();
    this.#send(this.outside, rewritten(packet, "source", this.outside.address, mapping.externalPort));
  }

  #in(packet: SeenPacket): void {
    if (packet.destination !== this.outside.address) return;
    for (const [key, mapping] of this.#mappings) {
      const [protocol, , , address, port] = key.split(",");
      const isIts =
        mapping.externalPort === packet.destinationPort &&
        Number(protocol) === packet.protocol &&
        address === packet.source &&
        Number(port) === packet.sourcePort;
      if (!isIts || this.#isOver(mapping)) continue;
      this.#send(mapping.inside, rewritten(packet, "destination", mapping.source, mapping.sourcePort));
      return;
    }
    this.refused++;
  }

  #isOver({ usedMs }: Mapping): boolean {
    return this.#world.clock.nowMs() - usedMs >= this.idleMs;
  }

  #send(host: SimHost, frame: Uint8Array): void {
    this.#world.send(host, frame);
  }
}

/** The packet with another source or destination; wrong checksums stay wrong. */
function rewritten(packet: SeenPacket, end: "source" | "destination", address: string, port: number): Uint8Array {
  const frame = packet.frame.slice();
  const at = L3 + (end === "source" ? 12 : 16);
  const l4 = L3 + 20;
  const portAt = l4 + (end === "source" ? 0 : 2);
  const to = parseAddress(address);
  const addresses = deltaI32(getI32(frame, at), to);
  const both = addDelta(addresses, deltaU16(getU16(frame, portAt), port));
  setU32(frame, at, to);
  setU16(frame, portAt, port);
  setU16(frame, L3 + 10, applyDelta(getU16(frame, L3 + 10), addresses));
  const field = l4 + (packet.protocol === 6 ? 16 : 6);
  setU16(frame, field, (packet.protocol === 6 ? applyDelta : applyDeltaUdp)(getU16(frame, field), both));
  return frame;
}

export const NAT_ADDRESS = "198.18.0.9";
export const OTHER_NAT_ADDRESS = "198.18.0.10";
const BFD = "bfd: { desired-tx-interval: 50ms, required-min-rx-interval: 50ms, hold-down: 2s }\n";

export interface BehindNat {
  world: World;
  client: SimHost;
  server: SimHost;
  west: Router;
  east: Router;
  nat: Nat;
  inside: Link;
  wan: Link;
}

interface Side {
  name: "west" | "east";
  lan: string;
  wan: string;
  peer: string;
  others?: string;
  local: string;
  remote: string;
}

function yaml(
  { name, lan, wan, peer, others = "", local, remote }: Side,
  { fabric = "", payload }: Protection,
): string {
  const security = payload ? ", security: payload" : "";
  return `authority: acme
router: ${name}
sessions: { max: 1024 }
limits: { fabric-chains: 16, neighbors: 64, waypoint-pairs-per-path: 1024 }
interfaces:
  - { name: lan0, device: lan0, addresses: [${lan}/24], tenant: corp }
  - { name: wan0, device: wan0, ${wan} }
tenants: [{ name: corp }]
services:
  - { name: app, addresses: [10.2.0.0/24], access: [corp]${security} }
  - { name: branch, addresses: [10.1.0.0/24], access: [corp]${security} }
service-routes:
  - { service: ${local}, interface: lan0 }
  - { service: ${remote}, peer: ${name === "west" ? "east" : "west"} }
peers:
  - { name: ${name === "west" ? "east" : "west"}, security: fabric, paths: [{ interface: wan0, ${peer} }] }
${others}security-policies:
  - { name: fabric, ${fabric} }
${payload ? `  - { name: payload, ${payload} }\n` : ""}${BFD}`;
}

/** Of a router behind the NAT: west, or what the test makes of this text. */
export function westYaml(security: Protection, keepAlive = "20s", path = ""): string {
  return yaml(
    {
      name: "west",
      lan: "10.1.0.1",
      wan: "addresses: [192.168.7.2/24], gateway: 192.168.7.1",
      peer: `address: 198.18.0.2, connectivity: outbound-only, nat-keep-alive: ${keepAlive}${path}`,
      local: "branch",
      remote: "app",
    },
    security,
  );
}

/** West behind a NAT, and the path between the two up. `keepAlive` of west's path, such as "5s"; `path`: more keys of east's, `westPath` of west's. */
export function behindNat(security: Protection, keepAlive = "20s", path = "", westPath = ""): BehindNat {
  const world = new World(1);
  const west = world.addRouter("west", westYaml(security, keepAlive, westPath));
  const east = world.addRouter(
    "east",
    yaml(
      {
        name: "east",
        lan: "10.2.0.1",
        wan: "addresses: [198.18.0.2/24]",
        peer: `address: dynamic${path}`,
        others: "  - { name: north, security: fabric, paths: [{ interface: wan0, address: dynamic }] }\n",
        local: "app",
        remote: "branch",
      },
      security,
    ),
  );
  const client = world.addHost("client", CLIENT, "10.1.0.1");
  const server = world.addHost("server", SERVER, "10.2.0.1");
  const nat = new Nat(
    world,
    world.addHost("inside", "192.168.7.1", "192.168.7.2"),
    world.addHost("outside", NAT_ADDRESS, "198.18.0.2"),
  );
  world.join("lan", "client", "west.lan0");
  const inside = world.join("in", "west.wan0", "inside");
  const wan = world.join("wan", "outside", "east.wan0");
  world.join("far", "east.lan0", "server");
  const isUp = () => [west, east].every(({ sessions }) => sessions.paths[0].up);
  if (!world.runUntil(isUp, 10_000)) throw new Error(`the path did not come up\n${world.diagram()}`);
  // For a while a router that has just started waits for sessions from before.
  world.run(2000);
  return { world, client, server, west, east, nat, inside, wan };
}
