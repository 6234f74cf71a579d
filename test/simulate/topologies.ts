// The two networks of the tests: client — west — east — server, and the same with a middle router.

import type { ExecutionContext } from "ava";
import type { Router } from "../../lib/router.ts";
import type { SeenPacket } from "./packets.ts";
import { type Link, type SimHost, World } from "./world.ts";

export const CLIENT = "10.1.0.2";
export const SERVER = "10.2.0.2";

/** Capacities; the ones left out are small, which keeps the tests quick. `others` are more entries, each `, name: value`. */
export interface Limits {
  sessions?: number;
  neighbors?: number;
  waypointPairs?: number;
  /** More entries of tenant corp. */
  tenant?: string;
  others?: string;
}

export interface RouterText {
  name: string;
  lan?: { address: string; tenant?: string; mtu?: number; gateway?: string };
  /** wan interface name → [own address, peer name, peer address]. */
  wans: Record<string, [string, string, string]>;
  /** Where service "app" is. */
  route: string;
  /** What it has; 10.2.0.0/24 where nothing is said. */
  destinations?: string;
  limits?: Limits;
  wanMtu?: number;
  security?: Protection;
  service?: string;
  extra?: string;
  /** More entries of `sessions`. */
  sessions?: string;
  /** More keys of every peer path, or of each by its interface's name. */
  path?: string | Record<string, string>;
}

/** What protects the routers' packets: the text of a security policy, without its name. */
export interface Protection {
  /** Signatures and metadata: of all peers, or by the peer's name. */
  fabric?: string | Record<string, string>;
  /** Of the service: payload. */
  payload?: string;
}

/** An address of an interface, with the length of its prefix. */
const onLink = (address: string) => (address.includes(":") ? `"${address}/64"` : `${address}/24`);

export function routerYaml({
  name,
  lan,
  wans,
  route,
  destinations = "10.2.0.0/24",
  limits: { sessions = 1024, neighbors = 64, waypointPairs = 1024, tenant = "", others = "" } = {},
  wanMtu = 1500,
  security: { fabric, payload } = {},
  service = "",
  path = "",
  extra = "",
  sessions: moreOfSessions = "",
}: RouterText): string {
  const interfaces = [
    ...(lan
      ? [
          `  - { name: lan0, device: lan0, addresses: [${onLink(lan.address)}]${lan.tenant ? `, tenant: ${lan.tenant}` : ""}${lan.mtu ? `, mtu: ${lan.mtu}` : ""}${lan.gateway ? `, gateway: "${lan.gateway}"` : ""} }`,
        ]
      : []),
    ...Object.entries(wans).map(
      ([wan, [own]]) => `  - { name: ${wan}, device: ${wan}, addresses: [${onLink(own)}], mtu: ${wanMtu} }`,
    ),
  ];
  const policies: [name: string, text: string][] = [];
  if (typeof fabric === "string") policies.push(["fabric", fabric]);
  else if (fabric) policies.push(...Object.entries(fabric));
  if (payload) policies.push(["payload", payload]);
  const policyOf = (peer: string) => (typeof fabric === "string" ? "fabric" : fabric?.[peer] ? peer : "none");
  const peers = [...new Set(Object.values(wans).map(([, peer]) => peer))].map((peer) => {
    const paths = Object.entries(wans).flatMap(([wan, [, name, address]]) =>
      name === peer
        ? [`{ interface: ${wan}, address: "${address}"${typeof path === "string" ? path : (path[wan] ?? "")} }`]
        : [],
    );
    return `  - { name: ${peer}, paths: [${paths.join(", ")}], security: ${policyOf(peer)} }`;
  });
  return `authority: acme
router: ${name}
sessions: { max: ${sessions}${moreOfSessions === "" ? "" : `, ${moreOfSessions}`} }
limits: { fabric-chains: 16, neighbors: ${neighbors}, waypoint-pairs-per-path: ${waypointPairs}${others} }
interfaces:
${interfaces.join("\n")}
tenants: [{ name: corp${tenant} }]
services:
  - { name: app, addresses: ["${destinations}"], access: [corp]${payload ? ", security: payload" : ""}${service} }
service-routes:
  - { service: app, ${route} }
peers:
${peers.join("\n")}
${policies.length > 0 ? "security-policies:" : ""}
${policies.map(([policy, text]) => `  - { name: ${policy}, ${text} }\n`).join("")}${extra}`;
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

export interface Options {
  seed?: number;
  /** Of west. */
  limits?: Limits;
  /** Of both of two paths' routers, by name. */
  limitsOf?: Record<string, Limits>;
  superFrames?: boolean;
  /** Frames that may wait in each port between two settles. */
  queueFrames?: number;
  /** Of the wan link's two ends. */
  wanMtu?: number;
  /** Of the network that the server is in. */
  farMtu?: number;
  /** Where east has service "app", when that is not its own lan0. */
  eastRoute?: string;
  /** Of all routers, or of those not named in `protections`. */
  security?: Protection;
  protections?: Record<string, Protection>;
  /** More keys of the service, on every router. */
  service?: string;
  /** More lines of every router's configuration, and of each by its name. */
  extra?: string;
  extraOf?: Record<string, string>;
  /** More entries of every router's `sessions`. */
  sessions?: string;
  /** More keys of every peer path, or of each by its interface's name. */
  path?: string | Record<string, string>;
}

const WEST_LAN = { address: "10.1.0.1", tenant: "corp" };
const EAST_LAN = { address: "10.2.0.1" };

/** client ─lan─ west ─wan─ east ─far─ server. */
export function twoRouters(options: Options = {}): TwoRouters {
  const world = new World(options.seed, options.superFrames, options.queueFrames);
  const west = world.addRouter("west", westYaml(options));
  const east = world.addRouter("east", eastYaml("west", "198.18.0.2", "198.18.0.1", options));
  const client = world.addHost("client", CLIENT, "10.1.0.1");
  const server = world.addHost("server", SERVER, "10.2.0.1");
  const lan = world.join("lan", "client", "west.lan0");
  const wan = world.join("wan", "west.wan0", "east.wan0");
  const far = world.join("far", "east.lan0", "server");
  return { world, client, server, west, east, lan, wan, far };
}

function protectionOf(name: string, { security = {}, protections = {} }: Options): { security: Protection } {
  return { security: protections[name] ?? security };
}

/** What every router's configuration has of these options. */
function more(name: string, { service = "", extra = "", extraOf = {}, sessions = "", path = "" }: Options) {
  return { service, extra: `${extra}${extraOf[name] ?? ""}`, sessions, path };
}

function westYaml(options: Options): string {
  const { limits = {}, wanMtu = 1500 } = options;
  return routerYaml({
    name: "west",
    ...protectionOf("west", options),
    lan: WEST_LAN,
    wans: { wan0: ["198.18.0.1", "east", "198.18.0.2"] },
    route: "peer: east",
    limits,
    wanMtu,
    ...more("west", options),
  });
}

function eastYaml(peer: string, own: string, remote: string, options: Options = {}): string {
  const { wanMtu = 1500, eastRoute = "interface: lan0" } = options;
  return routerYaml({
    name: "east",
    ...protectionOf("east", options),
    lan: { ...EAST_LAN, ...(options.farMtu === undefined ? {} : { mtu: options.farMtu }) },
    wans: { wan0: [own, peer, remote] },
    route: eastRoute,
    wanMtu,
    ...more("east", options),
  });
}

export interface ThreeRouters extends TwoRouters {
  middle: Router;
  /** The second hop, middle ─ east. */
  wan2: Link;
}

/** client ─lan─ west ─wan─ middle ─wan2─ east ─far─ server. */
export function threeRouters(options: Options = {}): ThreeRouters {
  const world = new World(options.seed, options.superFrames);
  const west = world.addRouter(
    "west",
    routerYaml({
      name: "west",
      ...protectionOf("west", options),
      lan: WEST_LAN,
      wans: { wan0: ["198.18.0.1", "middle", "198.18.0.2"] },
      route: "peer: middle",
      ...more("west", options),
    }),
  );
  const middle = world.addRouter(
    "middle",
    routerYaml({
      name: "middle",
      ...protectionOf("middle", options),
      wans: { wan0: ["198.18.0.2", "west", "198.18.0.1"], wan1: ["198.18.1.1", "east", "198.18.1.2"] },
      route: "peer: east",
      limits: options.limitsOf?.middle ?? {},
      ...more("middle", options),
    }),
  );
  const east = world.addRouter("east", eastYaml("middle", "198.18.1.2", "198.18.1.1", { ...options, wanMtu: 1500 }));
  const client = world.addHost("client", CLIENT, "10.1.0.1");
  const server = world.addHost("server", SERVER, "10.2.0.1");
  const lan = world.join("lan", "client", "west.lan0");
  const wan = world.join("wan", "west.wan0", "middle.wan0");
  const wan2 = world.join("wan2", "middle.wan1", "east.wan0");
  const far = world.join("far", "east.lan0", "server");
  return { world, client, server, west, middle, east, lan, wan, wan2, far };
}

export interface TwoPaths extends TwoRouters {
  /** The second way between the two, west.wan1 ─ east.wan1. */
  wan2: Link;
}

/** client ─lan─ west ═ east ─far─ server, with two paths between the routers: wan and wan2. */
export function twoPaths(options: Options = {}): TwoPaths {
  const world = new World(options.seed, options.superFrames);
  const both = (peer: string, own: number): Record<string, [string, string, string]> => ({
    wan0: [`198.18.0.${own}`, peer, `198.18.0.${3 - own}`],
    wan1: [`198.18.1.${own}`, peer, `198.18.1.${3 - own}`],
  });
  const west = world.addRouter(
    "west",
    routerYaml({
      name: "west",
      ...protectionOf("west", options),
      lan: WEST_LAN,
      wans: both("east", 1),
      route: "peer: east",
      limits: options.limitsOf?.west ?? {},
      ...more("west", options),
    }),
  );
  const east = world.addRouter(
    "east",
    routerYaml({
      name: "east",
      ...protectionOf("east", options),
      lan: EAST_LAN,
      wans: both("west", 2),
      route: "interface: lan0",
      limits: options.limitsOf?.east ?? {},
      ...more("east", options),
    }),
  );
  const client = world.addHost("client", CLIENT, "10.1.0.1");
  const server = world.addHost("server", SERVER, "10.2.0.1");
  const lan = world.join("lan", "client", "west.lan0");
  const wan = world.join("wan", "west.wan0", "east.wan0");
  const wan2 = world.join("wan2", "west.wan1", "east.wan1");
  const far = world.join("far", "east.lan0", "server");
  return { world, client, server, west, east, lan, wan, wan2, far };
}

export const WEST_WAYPOINT = "198.18.0.1";
export const EAST_WAYPOINT = "198.18.0.2";

/** client ─lan─ west ─wan─ peer: the far router is the test itself, a host at its address. */
export function westAlone(options: Options = {}): {
  world: World;
  client: SimHost;
  peer: SimHost;
  west: Router;
  lan: Link;
  wan: Link;
} {
  const world = new World(options.seed, options.superFrames);
  const west = world.addRouter("west", westYaml(options));
  const client = world.addHost("client", CLIENT, "10.1.0.1");
  const peer = world.addHost("peer", EAST_WAYPOINT, WEST_WAYPOINT);
  return {
    world,
    client,
    peer,
    west,
    lan: world.join("lan", "client", "west.lan0"),
    wan: world.join("wan", "west.wan0", "peer"),
  };
}

/** peer ─wan─ east ─far─ server: the near router is the test itself. `services` are further lines of east's configuration. */
export function eastAlone(
  extra = "",
  options: Options = {},
): {
  world: World;
  peer: SimHost;
  server: SimHost;
  east: Router;
  wan: Link;
  far: Link;
} {
  const world = new World(1);
  const yaml = eastYaml("west", EAST_WAYPOINT, WEST_WAYPOINT, options);
  const east = world.addRouter(
    "east",
    yaml
      .replace("services:\n", `services:\n${extra}`)
      .replace("tenants: [{ name: corp }]", "tenants: [{ name: corp }, { name: guest }]"),
  );
  const peer = world.addHost("peer", WEST_WAYPOINT, EAST_WAYPOINT);
  const server = world.addHost("server", SERVER, "10.2.0.1");
  return {
    world,
    peer,
    server,
    east,
    wan: world.join("wan", "peer", "east.wan0"),
    far: world.join("far", "east.lan0", "server"),
  };
}

/** The packets on a link, ARP left out; only those that `from` sent when it is given. */
export function packetsOn(link: Link, from?: string): SeenPacket[] {
  return link.seen.flatMap((seen) =>
    seen.packet === undefined || (from !== undefined && seen.from !== from) ? [] : [seen.packet],
  );
}

/** A counter's value by its name. */
export function countOf(router: Router, name: string): number {
  const at = router.counters.indexOf(name);
  if (at < 0) throw new Error(`no counter ${name}`);
  return router.counters.get(at);
}

/** The drops a router counted, without the prefix. */
export function dropsOf(router: Router): Record<string, number> {
  const drops = Object.entries(router.counters.publish()).filter(([name]) => name.startsWith("drop."));
  return Object.fromEntries(drops.map(([name, count]) => [name.slice(5), count]));
}

/** Rows of the sessions that are alive. */
export function sessionRows(router: Router): number[] {
  const { table } = router.sessions;
  return Array.from({ length: table.capacity }, (_, row) => row).filter((row) => table.isLive(row));
}

export const CHAINS: readonly [name: string, build: (options?: Options) => TwoRouters][] = [
  ["two routers", twoRouters],
  ["a chain of three", threeRouters],
];

/** Options of two paths: every packet over both. */
export const TWICE = {
  service: ", policy: twice",
  extra: "service-policies: [{ name: twice, resiliency: packet-duplication }]\n",
};

export function noDrops(t: ExecutionContext, { world }: { world: World }): void {
  for (const router of world.routers.values()) t.deepEqual(dropsOf(router), {});
}
