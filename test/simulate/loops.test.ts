// Service-routes that lead in a circle: the router that would close it refuses the session and says why, its host is told where hosts
// are told, and nothing goes round until its TTL is used up. Chains of any length that are no circle are left alone.

import test from "ava";
import type { EventsAnswer } from "../../lib/control/show.ts";
import { snapshot } from "../../lib/control/snapshot.ts";
import type { Router } from "../../lib/router.ts";
import { PassedRouters, routerWord } from "../../lib/session/passed-routers.ts";
import { SYN } from "../../lib/wire/tcp.ts";
import { DROP_REASONS } from "../../lib/wire/verdict.ts";
import { chainOf } from "./chain.ts";
import { edgeBehindPeer, exhaust, FAR, OUTSIDE } from "./nat-edges.ts";
import { concat, echoFrame, pattern, protocolFrame, type SeenPacket, swapEnds, tcpFrame, udpFrame } from "./packets.ts";
import { ENDS } from "./peer.ts";
import { ADAPTIVE, AES_256, fabricText, SIGNED } from "./protection.ts";
import {
  CLIENT,
  countOf,
  dropsOf,
  type Limits,
  type Protection,
  packetsOn,
  routerYaml,
  SERVER,
  sessionRows,
} from "./topologies.ts";
import { type SimHost, World } from "./world.ts";

interface Circle {
  world: World;
  client: SimHost;
  routers: Router[];
  /** Router n of the circle to the next one; of two routers there is one for both. */
  links: ReturnType<World["join"]>[];
}

const REJECT = ", refused: reject";
const NAMES = ["a", "b", "c", "d"];

/** client ─lan─ [x ─tail─] a ─ b ─ c ... ─ a: each router's service-route leads to the next one. */
function circle(
  count: number,
  options: { tail?: boolean; security?: Protection; tenant?: string; path?: string; others?: string } = {},
): Circle {
  const { tail = false, security = {}, tenant = REJECT, path = "", others = "" } = options;
  const world = new World();
  const names = NAMES.slice(0, count);
  const limits: Limits = { tenant, others };
  const lan = { address: "10.1.0.1", tenant: "corp" };
  const pairs = count === 2 ? 1 : count;
  for (const [n, name] of names.entries()) {
    const next = names[(n + 1) % count];
    const before = names[(n + count - 1) % count];
    const wans: Record<string, [string, string, string]> = {};
    if (n < pairs) wans.next = [`198.18.${n}.1`, next, `198.18.${n}.2`];
    const b = (n + count - 1) % count;
    if (b < pairs) wans.prev = [`198.18.${b}.2`, before, `198.18.${b}.1`];
    if (tail && n === 0) wans.tail = ["198.18.9.2", "x", "198.18.9.1"];
    const ends = !tail && n === 0 ? { lan } : {};
    world.addRouter(name, routerYaml({ name, wans, ...ends, route: `peer: ${next}`, security, limits, path }));
  }
  if (tail)
    world.addRouter(
      "x",
      routerYaml({
        name: "x",
        wans: { tail: ["198.18.9.1", "a", "198.18.9.2"] },
        lan,
        route: "peer: a",
        security,
        limits,
        path,
      }),
    );
  const client = world.addHost("client", CLIENT, "10.1.0.1");
  world.join("lan", "client", tail ? "x.lan0" : "a.lan0");
  if (tail) world.join("tail", "x.tail", "a.tail");
  const links = names
    .slice(0, pairs)
    .map((name, n) => world.join(`to-${names[(n + 1) % count]}`, `${name}.next`, `${names[(n + 1) % count]}.prev`));
  return { world, client, links, routers: [...world.routers.values()] };
}

const EVERY_PACKET = fabricText("sha256-128", "time-based", "every-packet", "aes-cbc-256");
const PROTECTIONS: [string, Protection][] = [
  ["in clear", {}],
  ["metadata signed and sealed", { fabric: SIGNED }],
  ["every packet signed, payloads sealed", { fabric: EVERY_PACKET, payload: AES_256 }],
  ["payloads sealed after their first bytes", { fabric: SIGNED, payload: ADAPTIVE }],
];

const SENT: [string, () => Uint8Array][] = [
  ["a SYN", () => tcpFrame(ENDS, { flags: SYN, sequence: 77, acknowledgment: 0 })],
  ["a datagram", () => udpFrame(ENDS, "question")],
  ["a ping", () => echoFrame(CLIENT, SERVER, 9, 1, "ping")],
  ["GRE", () => protocolFrame(CLIENT, SERVER, 47, pattern(40))],
];

/** What a packet is to whoever is told of it: its addresses, and what is behind its header. */
function essence(frame: Uint8Array, bytes: number): string {
  const hex = (from: number, to: number) => Buffer.from(frame.slice(from, to)).toString("hex");
  return `${frame[23]} ${hex(26, 34)} ${hex(34, 34 + bytes)}`;
}

const quoteOf = ({ payload }: SeenPacket) => concat(new Uint8Array(14), payload);
const unreachableAt = ({ received }: SimHost) => received.filter(({ icmpType }) => icmpType === 3);

/** Every drop of every router but its name: a circle ends by nothing else. */
function allDrops(routers: readonly Router[]): Record<string, number> {
  const sum: Record<string, number> = {};
  for (const router of routers)
    for (const [name, count] of Object.entries(dropsOf(router))) sum[name] = (sum[name] ?? 0) + count;
  return sum;
}

for (const [protection, security] of PROTECTIONS) {
  for (const tail of [false, true]) {
    for (const count of [2, 3, 4]) {
      for (const [what, frame] of SENT) {
        test(`${protection}: a circle of ${count} routers${tail ? " that begins behind another" : ""} refuses ${what}, and its host hears of it`, (t) => {
          const net = circle(count, { tail, security });
          const sent = frame();
          net.world.send(net.client, sent.slice());
          net.world.run(20);
          t.deepEqual(allDrops(net.routers), { "route-loop": 1 }, net.world.diagram());
          // Once round, and the answer as far back.
          for (const link of net.links)
            t.is(packetsOn(link).filter(({ hasMetadata }) => hasMetadata).length, 2, net.world.diagram());
          const [error, ...others] = unreachableAt(net.client);
          t.deepEqual(others, []);
          t.deepEqual(
            [error?.frame[35], error?.destination, error?.checksumsRight],
            [1, CLIENT, true],
            net.world.diagram(),
          );
          // Of a datagram whose payload was sealed its checksum is not known any more; nor is a message's beginning.
          const isWhole = security.payload === undefined || what === "a SYN";
          const bytes = what === "a datagram" ? 4 : isWhole ? 8 : 0;
          t.is(essence(quoteOf(error), bytes), essence(sent, bytes));
          const refuser = net.routers.find((router) => dropsOf(router)["route-loop"] === 1)!;
          t.is(countOf(refuser, "icmp.refused-sent"), 1);
          t.is(countOf(refuser, "slow-path.packets") <= 3, true);
        });
      }
    }
  }
}

test("hosts of a tenant that is told nothing hear nothing, and the circle is refused all the same", (t) => {
  for (const tail of [false, true]) {
    for (const count of [2, 3, 4]) {
      const net = circle(count, { tail, tenant: "" });
      for (let n = 0; n < 3; n++) {
        net.world.send(net.client, udpFrame(ENDS, "question"));
        net.world.run(20);
      }
      t.deepEqual(allDrops(net.routers), { "route-loop": 3 });
      t.deepEqual(net.client.received, []);
      for (const link of net.links) t.is(packetsOn(link).length, 3, net.world.diagram());
    }
  }
});

test("what a router behind peers refuses for another reason is told to the host as well, with the code that goes with it", (t) => {
  const sealed = { security: { fabric: SIGNED } };
  const scenes: [string, number, boolean, () => { world: World; client: SimHost; refuser: Router }][] = [];
  for (const tenant of [REJECT, ""]) {
    const rejects = tenant !== "";
    scenes.push([
      "path-down",
      1,
      rejects,
      () => {
        const net = circle(3, { tail: true, tenant, ...sealed });
        const b = net.world.routers.get("b")!;
        for (const path of b.sessions.paths) path.up = path.peerName !== "c";
        return { ...net, refuser: b };
      },
    ]);
    scenes.push([
      "access-denied",
      13,
      rejects,
      () => {
        const net = circle(3, { tenant, ...sealed });
        const c = net.world.routers.get("c")!;
        (c.policy.services[0].allowed as boolean[])[0] = false;
        return { ...net, refuser: c };
      },
    ]);
    scenes.push([
      "nat-ports",
      13,
      rejects,
      () => {
        const net = edgeBehindPeer({ sessions: 50_000, tenant, security: SIGNED });
        exhaust(net.edge, OUTSIDE, 0);
        return { ...net, refuser: net.edge };
      },
    ]);
  }
  for (const [reason, code, rejects, make] of scenes) {
    const net = make();
    const sent = udpFrame({ ...ENDS, destination: reason === "nat-ports" ? FAR : SERVER }, "question");
    net.world.send(net.client, sent.slice());
    net.world.run(20);
    t.deepEqual(dropsOf(net.refuser), { [reason]: 1 });
    const errors = unreachableAt(net.client);
    t.deepEqual(
      errors.map(({ frame }) => frame[35]),
      rejects ? [code] : [],
      `${reason} ${net.world.diagram()}`,
    );
    if (rejects) t.is(essence(quoteOf(errors[0]), 4), essence(sent, 4));
  }
});

test("TCP that goes as UDP between routers is refused as well, and its quote has the SYN's sequence number", (t) => {
  for (const [security, tail] of [
    [{}, false],
    [{ fabric: SIGNED }, true],
  ] as const) {
    const net = circle(3, { tail, security, path: ", udp-transform: always" });
    const sent = tcpFrame(ENDS, { flags: SYN, sequence: 0x12345678, acknowledgment: 0 });
    net.world.send(net.client, sent.slice());
    net.world.run(20);
    t.deepEqual(allDrops(net.routers), { "route-loop": 1 });
    const [error] = unreachableAt(net.client);
    t.is(essence(quoteOf(error), 8), essence(sent, 8));
  }
});

test("the router that closes the circle says of which peers: an event a minute, and once in the log", (t) => {
  const said: [number, boolean, string, string][] = [
    [
      2,
      false,
      "b",
      "service app from peer a would go back to peer a: the service-routes of both routers lead to each other",
    ],
    [
      3,
      false,
      "a",
      "service app from peer c has come in a circle: this router had sent it to peer b, so the service-routes on its way lead back here",
    ],
    [
      4,
      true,
      "a",
      "service app from peer d has come in a circle: this router had sent it to peer b, so the service-routes on its way lead back here",
    ],
  ];
  for (const [count, tail, at, why] of said) {
    const net = circle(count, { tail });
    const router = net.world.routers.get(at)!;
    const events = () =>
      (snapshot(router, "events") as EventsAnswer).events.filter(({ kind }) => kind === "route-loop");
    const lines: object[] = [];
    const log = { warn: (fields: object, text: string) => lines.push({ ...fields, text }) };
    const look = () => router.loops.look(log as never);
    for (let n = 0; n < 5; n++) {
      net.world.send(net.client, udpFrame({ ...ENDS, sourcePort: 4000 + n }, "question"));
      net.world.run(20);
      look();
    }
    const peer = /from peer (\w)/.exec(why)![1];
    t.like(events()[0], { peer, why });
    t.is(events().length, 1);
    t.deepEqual(lines, [{ peer, packets: 1, text: `${why} (drop.route-loop)` }]);
    net.world.skip(61_000);
    net.world.send(net.client, udpFrame({ ...ENDS, sourcePort: 5000 }, "question"));
    net.world.run(20);
    look();
    t.is(events().length, 2);
    t.like(lines[1], { packets: 5 });
    for (const [name, other] of net.world.routers)
      if (name !== at)
        t.is((snapshot(other, "events") as EventsAnswer).events.filter(({ kind }) => kind === "route-loop").length, 0);
    const sample = router.samples.of(DROP_REASONS.findIndex(({ name }) => name === "route-loop"))!;
    const { paths } = router.sessions;
    t.is(paths[sample.known!.path].peerName, peer);
    t.is(paths[sample.known!.toward].peerName, count === 2 ? "a" : "b");
  }
});

test("a first router that has lost the session refuses what comes back as its own", (t) => {
  const net = circle(3);
  net.world.links.get("to-a")!.tamper = () => [];
  net.world.send(net.client, udpFrame(ENDS, "question"));
  net.world.run(20);
  net.world.links.get("to-a")!.tamper = (frame) => [{ frame }];
  const a = net.world.restart("a");
  t.is(sessionRows(a).length, 0);
  const c = net.world.routers.get("c")!;
  // What c sends while it attaches metadata: the same lead packet once more, from b.
  net.world.inject(net.links[1], "c", packetsOn(net.links[1], "b")[0].frame);
  net.world.run(20);
  t.is(sessionRows(c).length, 1);
  // Both that waited for its address; it knows no session that the refusal, come round, would be of.
  t.deepEqual(dropsOf(a), { "route-loop": 2, "metadata-context": 2 }, net.world.diagram());
  t.deepEqual([a.sessions.openedTotal, countOf(a, "icmp.refused-sent")], [0, 2]);
  const [{ why }] = (snapshot(a, "events") as EventsAnswer).events;
  t.regex(why, /^service app from peer c has come in a circle: it had passed this router before/);
});

test("a middle router with several workers refuses what comes back, whichever of them it comes to", (t) => {
  for (let port = 4000; port < 4008; port++) {
    const net = circle(3, { tail: true, tenant: REJECT });
    const split = net.world.split("a", 3);
    net.world.send(net.client, udpFrame({ ...ENDS, sourcePort: port }, "question"));
    net.world.run(20);
    const others = ["b", "c", "x"].map((name) => net.world.routers.get(name)!);
    t.deepEqual(allDrops([...split.workers, ...others]), { "route-loop": 1 }, net.world.diagram());
    t.is(unreachableAt(net.client).length, 1);
  }
});

test("a session that moves from one middle router to another is no circle", (t) => {
  const world = new World();
  const wans = (name: string): Record<string, [string, string, string]> => ({
    w0: [`198.18.${name === "left" ? 0 : 1}.2`, "west", `198.18.${name === "left" ? 0 : 1}.1`],
    w1: [`198.18.${name === "left" ? 2 : 3}.1`, "east", `198.18.${name === "left" ? 2 : 3}.2`],
  });
  const west = world.addRouter(
    "west",
    routerYaml({
      name: "west",
      lan: { address: "10.1.0.1", tenant: "corp" },
      wans: { w0: ["198.18.0.1", "left", "198.18.0.2"], w1: ["198.18.1.1", "right", "198.18.1.2"] },
      route: "peer: left }\n  - { service: app, peer: right",
    }),
  );
  for (const name of ["left", "right"])
    world.addRouter(name, routerYaml({ name, wans: wans(name), route: "peer: east" }));
  const east = world.addRouter(
    "east",
    routerYaml({
      name: "east",
      lan: { address: "10.2.0.1" },
      wans: { w0: ["198.18.2.2", "left", "198.18.2.1"], w1: ["198.18.3.2", "right", "198.18.3.1"] },
      route: "interface: lan0",
    }),
  );
  const client = world.addHost("client", CLIENT, "10.1.0.1");
  const server = world.addHost("server", SERVER, "10.2.0.1");
  world.join("lan", "client", "west.lan0");
  world.join("wl", "west.w0", "left.w0");
  world.join("wr", "west.w1", "right.w0");
  world.join("le", "left.w1", "east.w0");
  world.join("re", "right.w1", "east.w1");
  world.join("far", "east.lan0", "server");
  const talk = (text: string) => {
    world.send(client, udpFrame(ENDS, text));
    world.run(10);
    world.send(server, udpFrame(swapEnds(ENDS), text));
    world.run(10);
  };
  for (let turn = 0; turn < 4; turn++) {
    talk(`by the first ${turn}`);
    west.sessions.paths[turn % 2].up = false;
    west.sessions.paths[1 - (turn % 2)].up = true;
    west.sessions.flows.nextGeneration();
    talk(`by the second ${turn}`);
  }
  t.is(server.received.length, 8, world.diagram());
  t.is(client.received.length, 8);
  t.deepEqual(allDrops([...world.routers.values()]), {});
  const [row] = sessionRows(east);
  const { table } = east.sessions;
  const { peerName } = east.sessions.paths[table.upstream.path[row]];
  t.deepEqual(east.metadata.passed.words(table.passed[row]), [routerWord(peerName)]);
});

for (const hops of [7, 19]) {
  for (const [protection, security] of PROTECTIONS.slice(0, 3)) {
    test(`${protection}: a chain of ${hops + 1} routers is no circle, and each is told which ones came before`, (t) => {
      const net = chainOf(hops, security);
      const { world } = net;
      const [client, server] = ["client", "server"].map((name) => world.hosts.get(name)!);
      const ends = { source: client.address, destination: server.address, sourcePort: 4000, destinationPort: 53 };
      for (let n = 0; n < 3; n++) {
        world.send(client, udpFrame(ends, `question ${n}`));
        world.run(60);
        world.send(server, udpFrame(swapEnds(ends), `answer ${n}`));
        world.run(60);
      }
      t.deepEqual(
        server.received.map(({ text }) => text),
        ["question 0", "question 1", "question 2"],
        world.diagram(),
      );
      t.deepEqual(
        client.received.map(({ text }) => text),
        ["answer 0", "answer 1", "answer 2"],
      );
      t.deepEqual(allDrops(net.routers()), {});
      t.is(server.received[0].ttl, 64 - hops - 1);
      for (const [n, router] of net.routers().entries()) {
        const [row] = sessionRows(router);
        const before = net.names.slice(1, Math.max(1, n)).map(routerWord);
        t.deepEqual(router.metadata.passed.words(router.sessions.table.passed[row]), before.slice(-16));
      }
      // The first hop says nothing of it, and when the handshake is over nobody does.
      t.false(packetsOn(net.hops[0]).some(({ metadata }) => metadata.has("passed-routers")));
      for (const link of net.hops)
        t.false(
          packetsOn(link)
            .slice(-2)
            .some(({ hasMetadata }) => hasMetadata),
        );
    });
  }
}

test("routers are told apart by their names, and where there is room for no more lists a router still knows itself", (t) => {
  const passed = new PassedRouters("here");
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  t.is(new Set(Array.from({ length: 5000 }, (_, n) => routerWord(`router-${n}`))).size, 5000);
  for (let n = 1; n <= 3000; n++) {
    view.setInt32(0, n);
    const row = passed.row(bytes, 0, 4);
    t.is(row, n < 1024 ? n : 0);
    t.is(passed.row(bytes, 0, 4), row);
  }
  t.deepEqual([...passed.told(0)], [...passed.told(1)].slice(4));
  view.setInt32(4, routerWord("here"));
  t.true(passed.hasOwn(bytes, 0, 8));
  t.false(passed.hasOwn(bytes, 0, 7));
  t.deepEqual(passed.words(passed.row(bytes, 0, 0)), []);
});
