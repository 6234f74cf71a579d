// The two networks of the tests: client — west — east — server, and the same with a middle router.

import { type Link, type SimHost, World } from "./world.ts";
import type { Router } from "../../lib/router.ts";

export const CLIENT = "10.1.0.2";
export const SERVER = "10.2.0.2";

interface RouterText {
  name: string;
  lan?: { address: string; tenant?: string };
  /** wan interface name → [own address, peer name, peer address]. */
  wans: Record<string, [string, string, string]>;
  /** Where service "app" (10.2.0.0/24) is. */
  route: string;
  extra?: string;
}

export function routerYaml({ name, lan, wans, route, extra = "" }: RouterText): string {
  const interfaces = [
    ...(lan ? [`  - { name: lan0, device: lan0, addresses: [${lan.address}/24]${lan.tenant ? `, tenant: ${lan.tenant}` : ""} }`] : []),
    ...Object.entries(wans).map(([wan, [own]]) => `  - { name: ${wan}, device: ${wan}, addresses: [${own}/24] }`),
  ];
  const peers = Object.entries(wans).map(([wan, [, peer, address]]) => `  - { name: ${peer}, paths: [{ interface: ${wan}, address: ${address} }] }`);
  return `authority: acme
router: ${name}
sessions: { max: 1024 }
interfaces:
${interfaces.join("\n")}
tenants: [{ name: corp }]
services:
  - { name: app, addresses: [10.2.0.0/24], access: [corp] }
service-routes:
  - { service: app, ${route} }
peers:
${peers.join("\n")}
${extra}`;
}

export interface TwoRouters {
  world: World;
  client: SimHost;
  server: SimHost;
  west: Router;
  east: Router;
  lan: Link;
  wan: Link;
  far: Link;
}

/** client ─lan─ west ─wan─ east ─far─ server. */
export function twoRouters(options: { seed?: number; westExtra?: string; eastExtra?: string } = {}): TwoRouters {
  const world = new World(options.seed ?? 1);
  const west = world.addRouter("west", routerYaml({ name: "west", lan: { address: "10.1.0.1", tenant: "corp" }, wans: { wan0: ["198.18.0.1", "east", "198.18.0.2"] }, route: "peer: east", extra: options.westExtra ?? "" }));
  const east = world.addRouter("east", routerYaml({ name: "east", lan: { address: "10.2.0.1" }, wans: { wan0: ["198.18.0.2", "west", "198.18.0.1"] }, route: "interface: lan0", extra: options.eastExtra ?? "" }));
  const client = world.addHost("client", CLIENT, "10.1.0.1");
  const server = world.addHost("server", SERVER, "10.2.0.1");
  const lan = world.join("lan", "client", "west.lan0");
  const wan = world.join("wan", "west.wan0", "east.wan0");
  const far = world.join("far", "east.lan0", "server");
  return { world, client, server, west, east, lan, wan, far };
}

export interface ThreeRouters extends TwoRouters {
  middle: Router;
  /** The second hop, middle ─ east. */
  wan2: Link;
}

/** client ─lan─ west ─wan─ middle ─wan2─ east ─far─ server. */
export function threeRouters(options: { seed?: number } = {}): ThreeRouters {
  const world = new World(options.seed ?? 1);
  const west = world.addRouter("west", routerYaml({ name: "west", lan: { address: "10.1.0.1", tenant: "corp" }, wans: { wan0: ["198.18.0.1", "middle", "198.18.0.2"] }, route: "peer: middle" }));
  const middle = world.addRouter("middle", routerYaml({ name: "middle", wans: { wan0: ["198.18.0.2", "west", "198.18.0.1"], wan1: ["198.18.1.1", "east", "198.18.1.2"] }, route: "peer: east" }));
  const east = world.addRouter("east", routerYaml({ name: "east", lan: { address: "10.2.0.1" }, wans: { wan0: ["198.18.1.2", "middle", "198.18.1.1"] }, route: "interface: lan0" }));
  const client = world.addHost("client", CLIENT, "10.1.0.1");
  const server = world.addHost("server", SERVER, "10.2.0.1");
  const lan = world.join("lan", "client", "west.lan0");
  const wan = world.join("wan", "west.wan0", "middle.wan0");
  const wan2 = world.join("wan2", "middle.wan1", "east.wan0");
  const far = world.join("far", "east.lan0", "server");
  return { world, client, server, west, middle, east, lan, wan, wan2, far };
}
