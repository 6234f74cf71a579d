// Routers with two links between them, several peers, several servers: where new sessions go.

import test from "ava";
import { parseConfig } from "../../lib/control/config.ts";
import { parsePacket } from "../../lib/control/packet-text.ts";
import type { PathsAnswer, ServicesAnswer } from "../../lib/control/show.ts";
import { snapshot } from "../../lib/control/snapshot.ts";
import { explainPacket } from "../../lib/offline-router.ts";
import { udpServer } from "./endpoints.ts";
import { udpFrame } from "./packets.ts";
import { CLIENT, dropsOf, packetsOn, SERVER } from "./topologies.ts";
import { World } from "./world.ts";

interface Sides {
  /** Of the service on west: `, policy: NAME`. */
  service?: string;
  policies?: string;
  /** More keys of west's two paths. */
  paths?: [string, string];
  /** More of west's service-route toward east. */
  route?: string;
  eastRoutes?: string;
}

function yaml(
  name: "west" | "east",
  { service = "", policies = "", paths = ["", ""], route = "", eastRoutes = "" }: Sides,
): string {
  const [own, far] = name === "west" ? [1, 2] : [2, 1];
  const peer = name === "west" ? "east" : "west";
  const more = name === "west" ? paths : ["", ""];
  const routes =
    name === "west"
      ? `  - { service: app, peer: east${route} }`
      : eastRoutes || "  - { service: app, interface: lan0 }";
  return `authority: acme
router: ${name}
sessions: { max: 1024 }
limits: { fabric-chains: 16, neighbors: 64, waypoint-pairs-per-path: 1024 }
interfaces:
  - { name: lan0, device: lan0, addresses: [10.${own}.0.1/24]${name === "west" ? ", tenant: corp" : ""} }
  - { name: wan0, device: wan0, addresses: [198.18.0.${own}/24] }
  - { name: wan1, device: wan1, addresses: [198.18.1.${own}/24] }
tenants: [{ name: corp }]
services:
  - { name: app, addresses: [10.2.0.0/24], access: [corp]${name === "west" ? service : ""} }
service-routes:
${routes}
peers:
  - name: ${peer}
    paths:
      - { interface: wan0, address: 198.18.0.${far}, bfd: { enabled: false }${more[0]} }
      - { interface: wan1, address: 198.18.1.${far}, bfd: { enabled: false }${more[1]} }
${name === "west" ? policies : ""}`;
}

function twoPaths(sides: Sides = {}) {
  const world = new World(1);
  const west = world.addRouter("west", yaml("west", sides));
  const east = world.addRouter("east", yaml("east", sides));
  const client = world.addHost("client", CLIENT, "10.1.0.1");
  const server = world.addHost("server", SERVER, "10.2.0.1");
  world.join("lan", "client", "west.lan0");
  const wans = [world.join("wan0", "west.wan0", "east.wan0"), world.join("wan1", "west.wan1", "east.wan1")];
  world.join("far", "east.lan0", "server");
  server.onPacket = udpServer(world, server);
  let port = 20_000;
  /** Open `count` sessions; how many of them each link carried, forth and back. */
  const open = (count = 1, source = CLIENT) => {
    const before = wans.map((link) => packetsOn(link).length);
    for (let n = 0; n < count; n++) {
      world.send(client, udpFrame({ source, destination: SERVER, sourcePort: port++, destinationPort: 7 }, "x"));
      world.run(1);
    }
    return wans.map((link, at) => (packetsOn(link).length - before[at]) / 2);
  };
  open();
  return { world, west, east, client, server, open };
}

test("new sessions take the other path while the first is down, and the first when it is up again", (t) => {
  const { west, open, client } = twoPaths();
  t.deepEqual(open(3), [3, 0]);
  west.sessions.paths[0].up = false;
  t.deepEqual(open(3), [0, 3]);
  west.sessions.paths[0].up = true;
  t.deepEqual(open(3), [3, 0]);
  t.is(client.received.length, 10);
  t.deepEqual(dropsOf(west), {});
});

test("a path that loses packets is left to those who have no policy against it", (t) => {
  const { west, open } = twoPaths({
    service: ", policy: voice",
    policies: "service-policies: [{ name: voice, max-loss: 1, best-effort: false }]\n",
  });
  const lossy = { lossPercent: 5, latencyMs: 10, jitterMs: 1, mos: 4 };
  const [first, second] = west.sessions.paths;
  first.quality = lossy;
  t.true(west.sessions.choice.evaluate(first.row));
  t.deepEqual(open(), [0, 1]);
  second.quality = lossy;
  west.sessions.choice.evaluate(second.row);
  t.deepEqual(open(), [0, 0]);
  t.deepEqual(dropsOf(west), { "path-quality": 1 });
  const { services } = snapshot(west, "services") as ServicesAnswer;
  t.is(services[0].policy, "voice");
  t.deepEqual(
    services[0].candidates.map(({ to, standing, sessions, next }) => [to, standing, sessions, next]),
    [
      ["peer east wan0 198.18.0.2", "loss", 1, false],
      ["peer east wan1 198.18.1.2", "loss", 1, false],
    ],
  );
  const { paths } = snapshot(west, "paths") as PathsAnswer;
  t.deepEqual(paths[0].quality, lossy);
});

test("sessions are shared over links by cost, and the peer's feedback of its sessions comes back", (t) => {
  const { west, east, open } = twoPaths({
    service: ", policy: share",
    policies: "service-policies: [{ name: share, strategy: proportional }]\n",
    paths: ["", ", cost: 3"],
  });
  const carried = open(199);
  t.deepEqual([carried[0] + 1, carried[1]], [150, 50]);
  t.is(west.policy.loads.ofService(0), 200);
  t.is(east.policy.loads.told(0), 200);
  t.is(west.policy.loads.elsewhere(0, 0, west.clock.nowMs()), 0, "all of east's are ours");
});

test("a peer's sessions from another router are heard of in its answers", (t) => {
  const { world, west, east, open } = twoPaths();
  // Somebody else's, as east counts them.
  for (let n = 0; n < 40; n++) east.policy.loads.opened(0);
  open();
  t.is(west.policy.loads.elsewhere(0, 0, world.clock.nowMs()), 40);
});

test("what a service-route may carry at most is refused beyond, and let in again when a session ends", (t) => {
  const { world, west, open } = twoPaths({ route: ", max-sessions: 3" });
  t.deepEqual(open(3), [2, 0]);
  t.deepEqual(dropsOf(west), { "route-session-limit": 1 });
  world.skip(200_000);
  t.is(west.policy.loads.ofService(0), 0);
  t.deepEqual(open(), [1, 0]);
});

test("sessions of one source stay with one server, and others have others", (t) => {
  const servers = ["10.2.0.11", "10.2.0.12", "10.2.0.13"];
  const { world, east, open, client } = twoPaths({
    eastRoutes: servers.map((target) => `  - { service: app, target: ${target} }`).join("\n"),
  });
  const chosen = () => {
    const { loads, services } = east.policy;
    const now = services[0].localRoutes.map(({ row }) => loads.ofPath(row));
    return now;
  };
  const one = chosen();
  open(5);
  t.deepEqual(
    chosen(),
    one.map((count) => count * 6),
    "all of one client's on one server",
  );
  for (let n = 0; n < 30; n++) {
    world.send(
      client,
      udpFrame({ source: `10.1.0.${100 + n}`, destination: SERVER, sourcePort: 9, destinationPort: 7 }, "x"),
    );
    world.run(1);
  }
  t.true(
    chosen().every((count) => count > 0),
    String(chosen()),
  );
});

test("a service with a destination of its own and a peer goes to the peer when that is full, but not back", (t) => {
  const { west, east, open } = twoPaths({
    route: " }\n  - { service: app, target: 10.1.0.9, max-sessions: 2",
    eastRoutes: "  - { service: app, interface: lan0, max-sessions: 2 }\n  - { service: app, peer: west }",
  });
  const { services } = snapshot(west, "services") as ServicesAnswer;
  t.deepEqual(
    services[0].candidates.map(({ to, sessions, next }) => [to, sessions, next]),
    [
      ["interface lan0 target 10.1.0.9:0", 1, false],
      ["peer east wan0 198.18.0.2", 0, false],
      ["peer east wan1 198.18.1.2", 0, false],
    ],
  );
  t.deepEqual(open(1), [0, 0], "west's own");
  t.deepEqual(open(2), [2, 0]);
  t.is(east.policy.loads.ofService(0), 2);
  open(1);
  t.deepEqual([dropsOf(west), dropsOf(east)], [{}, { "route-loop": 1 }], "east's is full too, and it came from west");
});

test("explain tells which path is taken and what is against the others", (t) => {
  const text = yaml("west", {
    service: ", policy: mpls",
    policies:
      "service-policies: [{ name: mpls, vectors: [{ name: mpls, priority: 5 }, { name: lte, priority: never }] }]\n",
    paths: [", vector: lte", ", vector: mpls, cost: 4"],
  });
  const { config } = parseConfig(text, "west.yaml");
  const packet = parsePacket("udp 10.1.0.2:40000 > 10.2.0.2:53");
  const { steps, verdict } = explainPacket(config!, { interface: "lan0", packet });
  t.is(verdict, "forwarded");
  t.deepEqual(
    steps
      .filter(({ step }) => ["route", "policy", "path"].includes(step))
      .map(({ outcome, reason }) => [outcome, reason]),
    [
      ["peer east", ""],
      ["hunt, failover", "policy mpls"],
      ["peer east wan1 198.18.1.2", "taken: vector mpls, priority 5, cost 4"],
      ["peer east wan0 198.18.0.2", "the policy never uses its vector: vector lte, priority never, cost 1"],
    ],
  );
});
