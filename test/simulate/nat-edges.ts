// Networks with source NAT at their edge, and what tests ask of them. The host outside stands for every address there: it is the
// gateway of the edge's outer interface.

import { parseAddress } from "../../lib/control/address-text.ts";
import { readCounters } from "../../lib/control/metrics.ts";
import type { Router } from "../../lib/router.ts";
import { NAT_PORT_FIRST, NAT_PORTS } from "../../lib/table/nat-table.ts";
import { echoFrame, type SeenPacket, swapEnds, udpFrame } from "./packets.ts";
import { CLIENT } from "./topologies.ts";
import { type Link, type SimHost, World } from "./world.ts";

export const OUTSIDE = "192.0.2.1";
export const GATEWAY = "192.0.2.254";
/** Somewhere on the Internet. */
export const FAR = "203.0.113.9";
export const FARTHER = "198.51.100.33";
/** A host on a network of the edge, where that has one. */
export const NEAR = "10.9.0.2";
/** Another host of the client's network, and of the same station. */
export const NEIGHBOR = "10.1.0.3";

export interface NatNet {
  readonly world: World;
  readonly client: SimHost;
  readonly outside: SimHost;
  /** The router that translates. */
  readonly edge: Router;
  readonly lan: Link;
  readonly out: Link;
}

export interface NatOptions {
  /** Of the route that leads outside. */
  readonly nat?: string;
  /** More items of the lists. */
  readonly services?: string;
  readonly routes?: string;
  /** More entries of tenant corp. */
  readonly tenant?: string;
  /** Of the outer interface. */
  readonly outer?: string;
  readonly outerMtu?: number;
  /** Between the edge and the first of two peers. */
  readonly fabricMtu?: number;
  /** What the host outside asks for by ARP, to send whatever it sends; left out = the interface's own address. */
  readonly asksFor?: string;
  /** Of the client's interface. */
  readonly inner?: string;
  readonly limits?: string;
  readonly sessions?: number;
  readonly security?: string;
  /** What encrypts the payload of service internet. */
  readonly payload?: string;
}

const NAT = "source-nat: interface";

function edgeText({ tenant = "", services = "", limits = "", sessions = 1024, payload }: NatOptions): string {
  return `sessions: { max: ${sessions} }
limits: { neighbors: 64, waypoint-pairs-per-path: 1024, fabric-chains: 16${limits} }
tenants: [{ name: corp${tenant} }, { name: world }]
services:
  - { name: internet, addresses: [0.0.0.0/0], access: [corp]${payload === undefined ? "" : ", security: payload"} }
${services}`;
}

/** "" = the edge translates nothing. */
function natOf({ nat = NAT }: NatOptions): string {
  return nat === "" ? "" : `, ${nat}`;
}

function mtuOf({ fabricMtu }: NatOptions): string {
  return fabricMtu === undefined ? "" : `, mtu: ${fabricMtu}`;
}

function outer({ outer: more = "", outerMtu = 1500 }: NatOptions): string {
  return `{ name: out0, device: out0, addresses: [${OUTSIDE}/24], gateway: ${GATEWAY}, mtu: ${outerMtu}${more} }`;
}

/** client ─lan─ edge ─out─ outside: one router. */
export function edgeAlone(options: NatOptions = {}): NatNet {
  const world = new World(1);
  const edge = world.addRouter(
    "edge",
    `authority: acme
router: edge
${edgeText(options)}
interfaces:
  - { name: lan0, device: lan0, addresses: [10.1.0.1/24], tenant: corp }
  - ${outer(options)}
service-routes:
  - { service: internet, interface: out0${natOf(options)} }
${options.routes ?? ""}`,
  );
  return joined(world, edge, "edge", "edge", options);
}

function policies({ security, payload }: NatOptions): string {
  const fabric = security === undefined ? [] : [`{ name: fabric, ${security} }`];
  const own = payload === undefined ? [] : [`{ name: payload, ${payload} }`];
  const all = [...fabric, ...own];
  return all.length === 0 ? "" : `security-policies: [${all.join(", ")}]\n`;
}

/** client ─lan─ west ─wan─ edge ─out─ outside: sessions come to the edge from a peer, and from a host near it. */
export function edgeBehindPeer(options: NatOptions = {}): NatNet & { west: Router; wan: Link; near: SimHost } {
  const world = new World(1);
  const fabric = policies(options);
  const protect = options.security === undefined ? "" : ", security: fabric";
  const west = world.addRouter(
    "west",
    `authority: acme
router: west
${edgeText(options)}
interfaces:
  - { name: lan0, device: lan0, addresses: [10.1.0.1/24], tenant: corp${options.inner ?? ""} }
  - { name: wan0, device: wan0, addresses: [198.18.0.1/24] }
service-routes:
  - { service: internet, peer: edge }
peers: [{ name: edge, paths: [{ interface: wan0, address: 198.18.0.2 }]${protect} }]
${fabric}`,
  );
  const edge = world.addRouter(
    "edge",
    `authority: acme
router: edge
${edgeText(options)}
interfaces:
  - { name: wan0, device: wan0, addresses: [198.18.0.2/24] }
  - ${outer(options)}
  - { name: lan1, device: lan1, addresses: [10.9.0.1/24], tenant: corp }
service-routes:
  - { service: internet, interface: out0${natOf(options)} }
${options.routes ?? ""}
peers: [{ name: west, paths: [{ interface: wan0, address: 198.18.0.1 }]${protect} }]
${fabric}`,
  );
  const wan = world.join("wan", "west.wan0", "edge.wan0");
  const near = world.addHost("near", NEAR, "10.9.0.1");
  world.join("lan1", "near", "edge.lan1");
  return { ...joined(world, edge, "west", "edge", options), west, wan, near };
}

/** client ─lan─ west ─wan─ middle ─wan1─ edge ─out─ outside. */
export function edgeBehindMiddle(options: NatOptions = {}): NatNet {
  const world = new World(1);
  const router = (name: string, interfaces: string[], route: string, peers: string[]) =>
    world.addRouter(
      name,
      `authority: acme
router: ${name}
${edgeText(options)}
interfaces:
${interfaces.map((item) => `  - ${item}\n`).join("")}
service-routes: [{ service: internet, ${route} }]
peers:
${peers.map((item) => `  - ${item}\n`).join("")}`,
    );
  const at = (name: string, address: string) => `{ name: ${name}, device: ${name}, addresses: [${address}/24] }`;
  const peer = (name: string, wan: string, address: string) =>
    `{ name: ${name}, paths: [{ interface: ${wan}, address: ${address} }] }`;
  const lan = `{ name: lan0, device: lan0, addresses: [10.1.0.1/24], tenant: corp${options.inner ?? ""} }`;
  router("west", [lan, at("wan0", "198.18.0.1")], "peer: middle", [peer("middle", "wan0", "198.18.0.2")]);
  router("middle", [at("wan0", "198.18.0.2"), at("wan1", "198.18.1.1")], "peer: edge", [
    peer("west", "wan0", "198.18.0.1"),
    peer("edge", "wan1", "198.18.1.2"),
  ]);
  const way = `interface: out0${natOf(options)}`;
  const edge = router("edge", [at("wan0", "198.18.1.2"), outer(options)], way, [peer("middle", "wan0", "198.18.1.1")]);
  world.join("wan", "west.wan0", "middle.wan0");
  world.join("wan1", "middle.wan1", "edge.wan0");
  return joined(world, edge, "west", "edge", options);
}

function joined(world: World, edge: Router, near: string, far: string, { asksFor = OUTSIDE }: NatOptions): NatNet {
  const client = world.addHost("client", CLIENT, "10.1.0.1");
  client.others = [NEIGHBOR];
  const outside = world.addHost("outside", GATEWAY, asksFor);
  const lan = world.join("lan", "client", `${near}.lan0`);
  const out = world.join("out", `${far}.out0`, "outside");
  return { world, client, outside, edge, lan, out };
}

/** Two routers with the same network behind each, and one edge. */
export function overlapping(options: NatOptions = {}): NatNet & { other: SimHost } {
  const world = new World(1);
  const protect = options.security === undefined ? "" : ", security: fabric";
  const near = (name: string, wan: string, mtu = "") =>
    world.addRouter(
      name,
      `authority: acme
router: ${name}
${edgeText(options)}
interfaces:
  - { name: lan0, device: lan0, addresses: [10.1.0.1/24], tenant: corp }
  - { name: wan0, device: wan0, addresses: [${wan}.1/24]${mtu} }
service-routes:
  - { service: internet, peer: edge }
peers: [{ name: edge, paths: [{ interface: wan0, address: ${wan}.2 }]${protect} }]
${policies(options)}`,
    );
  near("west", "198.18.0", mtuOf(options));
  near("north", "198.18.1");
  const edge = world.addRouter(
    "edge",
    `authority: acme
router: edge
${edgeText(options)}
interfaces:
  - { name: wan0, device: wan0, addresses: [198.18.0.2/24]${mtuOf(options)} }
  - { name: wan1, device: wan1, addresses: [198.18.1.2/24] }
  - ${outer(options)}
service-routes:
  - { service: internet, interface: out0${natOf(options)} }
peers:
  - { name: west, paths: [{ interface: wan0, address: 198.18.0.1 }]${protect} }
  - { name: north, paths: [{ interface: wan1, address: 198.18.1.1 }]${protect} }
${policies(options)}`,
  );
  world.join("wan", "west.wan0", "edge.wan0");
  world.join("wan1", "north.wan0", "edge.wan1");
  const net = joined(world, edge, "west", "edge", options);
  const other = world.addHost("other", CLIENT, "10.1.0.1");
  world.join("lan1", "other", "north.lan0");
  return { ...net, other };
}

/** Send a datagram from inside; returns it as it came outside, undefined where it did not. */
export function sendOut(
  net: NatNet,
  { source = CLIENT, sourcePort = 40_000, destination = FAR, destinationPort = 53, from = net.client } = {},
  payload = "question",
): SeenPacket | undefined {
  const before = net.outside.received.length;
  net.world.send(from, udpFrame({ source, sourcePort, destination, destinationPort }, payload));
  net.world.run(5);
  return net.outside.received.slice(before).find(({ protocol }) => protocol === 17);
}

/** Where a packet came from, as text. */
export const sourceOf = (packet: SeenPacket | undefined) =>
  packet === undefined ? undefined : `${packet.source}:${packet.sourcePort}`;

/** Whether a packet came from a port, or with an identifier, that source NAT gives to one as even or odd as `like`. */
export function isNatPort(port: number, like: number): boolean {
  return port >= NAT_PORT_FIRST && port < NAT_PORT_FIRST + NAT_PORTS && (port & 1) === (like & 1);
}

/** Answer a datagram that came outside; returns what comes of it inside. */
export function answerTo(net: NatNet, packet: SeenPacket, payload = "answer", to = net.client): SeenPacket | undefined {
  const before = to.received.length;
  net.world.send(net.outside, udpFrame(swapEnds(packet), payload));
  net.world.run(5);
  return to.received[before];
}

/** Ping from inside; returns the echo as it came outside. */
export function ping(
  net: NatNet,
  identifier: number,
  sequence = 1,
  source = CLIENT,
  destination = FAR,
): SeenPacket | undefined {
  const before = net.outside.received.length;
  net.world.send(net.client, echoFrame(source, destination, identifier, sequence, "ping"));
  net.world.run(5);
  return net.outside.received.slice(before).find(({ protocol }) => protocol === 1);
}

/** An echo's identifier. */
export const identifierOf = ({ frame }: SeenPacket) => Buffer.from(frame).readUInt16BE(14 + 20 + 4);

export const mappings = (router: Router) => readCounters(router)["source-nat.mappings"];

/** Take all but `left` ports of each parity of an outside address, for nobody. */
export function exhaust(router: Router, address: string, left: number, protocol = 17): void {
  const { table } = router.sessions.nat!;
  const outside = parseAddress(address);
  const inside = { address: 1, protocol, tenant: 0, pool: 0, origin: -1 };
  for (let port = 0; port < NAT_PORTS - 2 * left; port++)
    if (table.add({ ...inside, port }, outside, 0) < 0) throw new Error("options.sessions is too small for that");
}
