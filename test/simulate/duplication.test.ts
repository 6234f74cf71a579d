// Packet duplication: a session's packets over two paths at once, and delivered once (protocol sheet 7.1).

import test, { type ExecutionContext } from "ava";
import { readCounters } from "../../lib/control/metrics.ts";
import { parsePacket } from "../../lib/control/packet-text.ts";
import type { SessionsAnswer } from "../../lib/control/show.ts";
import { snapshot } from "../../lib/control/snapshot.ts";
import { explainPacket } from "../../lib/offline-router.ts";
import type { Router } from "../../lib/router.ts";
import { FORWARD, REVERSE } from "../../lib/table/session-table.ts";
import { ParsedMetadata, parseMetadata } from "../../lib/wire/metadata.ts";
import { SYN } from "../../lib/wire/tcp.ts";
import { TcpClient, tcpServer, UdpClient, udpServer } from "./endpoints.ts";
import { icmpError, type SeenPacket, swapEnds, tcpFrame, udpFrame } from "./packets.ts";
import { ADAPTIVE, SEALED, SIGNED } from "./protection.ts";
import {
  CLIENT,
  dropsOf,
  type Protection,
  packetsOn,
  routerYaml,
  SERVER,
  sessionRows,
  TWICE,
  type TwoPaths,
  twoPaths,
} from "./topologies.ts";
import { World } from "./world.ts";

const ENDS = { source: CLIENT, destination: SERVER, sourcePort: 40000, destinationPort: 7 };
const REQUESTS = Array.from({ length: 40 }, (_, n) => `request ${n} of forty`);
const ANSWERS = REQUESTS.map((request) => request.toUpperCase());
const WATCHED = "bfd: { desired-tx-interval: 100ms, required-min-rx-interval: 100ms, hold-down: 0s }\n";

const KINDS: [string, Protection][] = [
  ["in clear", {}],
  ["with signed and encrypted metadata", { fabric: SIGNED }],
  ["signed and encrypted", SEALED],
  ["encrypted in its midst", { fabric: SIGNED, payload: ADAPTIVE }],
];

interface Conversation {
  readonly answers: readonly string[];
  /** Datagrams, or segments with payload, that each host got. */
  readonly got: { client: number; server: number };
  /** Packets that no real host would have taken. */
  readonly damaged: SeenPacket[];
  readonly done: () => boolean;
}

function converse(net: TwoPaths, protocol: string): Conversation {
  const got = { client: 0, server: 0 };
  const damaged: SeenPacket[] = [];
  const isTcp = protocol === "TCP";
  const client = isTcp
    ? new TcpClient(net.world, net.client, ENDS, REQUESTS, 10)
    : new UdpClient(net.world, net.client, ENDS, REQUESTS, 10);
  const serve = (isTcp ? tcpServer : udpServer)(net.world, net.server);
  net.client.onPacket = (packet) => {
    if (packet.payload.length > 0) got.client++;
    if (!packet.checksumsRight) damaged.push(packet);
    client.receive(packet);
  };
  net.server.onPacket = (packet) => {
    if (packet.payload.length > 0) got.server++;
    if (!packet.checksumsRight) damaged.push(packet);
    serve(packet);
  };
  const done = () =>
    client instanceof TcpClient ? client.state === "closed" : client.answers.length === REQUESTS.length;
  return { answers: client.answers, got, damaged, done };
}

function finishes(t: ExecutionContext, net: TwoPaths, conversation: Conversation): void {
  if (!net.world.runUntil(conversation.done, 20_000)) t.log(net.world.diagram().split("\n").slice(-30).join("\n"));
  t.deepEqual(conversation.answers, ANSWERS);
  t.deepEqual(conversation.damaged, []);
}

function set(router: Router, path: number, up: boolean): void {
  router.sessions.paths[path].up = up;
  router.sessions.flows.nextGeneration();
}

const fromPeer = (packet: { hasMetadata: boolean }) => packet.hasMetadata;

/** Session packets by router on a link. */
const sent = (link: TwoPaths["wan"], from: "west" | "east") =>
  packetsOn(link, from).filter(({ protocol, destinationPort }) => protocol !== 1 && destinationPort !== 1280);

for (const protocol of ["TCP", "UDP"]) {
  for (const [kind, security] of KINDS) {
    test(`${protocol} ${kind}: every packet goes over both paths, both ways, and is delivered once`, (t) => {
      const net = twoPaths({ security, ...TWICE });
      const conversation = converse(net, protocol);
      finishes(t, net, conversation);
      t.deepEqual(conversation.got, { client: REQUESTS.length, server: REQUESTS.length });
      for (const from of ["west", "east"] as const) {
        const [one, two] = [sent(net.wan, from), sent(net.wan2, from)];
        t.true(one.length >= REQUESTS.length);
        t.true(Math.abs(one.length - two.length) <= 2, `${one.length} and ${two.length}`);
        t.true([...one, ...two].every(fromPeer), "all are numbered");
        t.true([...one, ...two].every(({ checksumsRight }) => checksumsRight));
      }
      const parsed = new ParsedMetadata();
      const last = sent(net.wan2, "west").at(-2)!;
      t.is(parseMetadata(last.payload, 0, last.payload.length, parsed), 0);
      t.is(parsed.totalLength, 28, "then nothing but its number is on a packet");
      for (const [name, router] of net.world.routers) {
        const { duplicate, ...others } = dropsOf(router) as Record<string, number>;
        t.deepEqual(others, {}, name);
        t.true(duplicate > REQUESTS.length - 3);
        t.is(readCounters(router)["sessions.opened"], 1);
      }
    });

    for (const path of [0, 1]) {
      test(`${protocol} ${kind}: nothing is missed and nothing sent again when path ${path} is cut without a word`, (t) => {
        const net = twoPaths({ security, ...TWICE });
        const conversation = converse(net, protocol);
        t.true(net.world.runUntil(() => conversation.answers.length === 12, 5000));
        (path === 0 ? net.wan : net.wan2).tamper = () => [];
        finishes(t, net, conversation);
        t.deepEqual(conversation.got, { client: REQUESTS.length, server: REQUESTS.length });
      });
    }
  }

  test(`${protocol}: loses nothing over two paths that each lose a third, and delay and reorder`, (t) => {
    const net = twoPaths(TWICE);
    const conversation = converse(net, protocol);
    t.true(net.world.runUntil(() => conversation.answers.length === 4, 5000));
    let n = 0;
    // Never both copies of one packet.
    for (const [at, link] of [net.wan, net.wan2].entries()) {
      link.tamper = (frame) => (n++ % 3 === at ? [] : [{ frame, delayMs: (n * 7) % 23 }]);
    }
    finishes(t, net, conversation);
    t.true(dropsOf(net.east).duplicate! > 0);
  });

  for (const who of ["both routers", "the first router", "the last router"]) {
    test(`${protocol}: while ${who} know${who.startsWith("both") ? "" : "s"} one path to be down, all goes by the other; then both again`, (t) => {
      const net = twoPaths(TWICE);
      const conversation = converse(net, protocol);
      const routers = who.startsWith("both") ? [net.west, net.east] : who.includes("first") ? [net.west] : [net.east];
      for (const path of [0, 1]) {
        const until = conversation.answers.length + 8;
        t.true(net.world.runUntil(() => conversation.answers.length === until, 5000));
        for (const router of routers) set(router, path, false);
        const [down, other] = path === 0 ? [net.wan, net.wan2] : [net.wan2, net.wan];
        const before = [packetsOn(down).length, packetsOn(other).length];
        t.true(net.world.runUntil(() => conversation.answers.length === until + 5, 5000));
        if (routers.length === 2) t.true(packetsOn(down).length - before[0] <= 1, "nothing goes there");
        t.true(packetsOn(other).length - before[1] >= 10);
        for (const router of routers) set(router, path, true);
      }
      finishes(t, net, conversation);
      t.deepEqual(conversation.got, { client: REQUESTS.length, server: REQUESTS.length });
      for (const router of [net.west, net.east]) {
        const [row] = sessionRows(router);
        t.is(router.sessions.table.moves[row], 0, "it was not moved");
        t.deepEqual(
          router.sessions.paths.map(({ sessions }) => sessions),
          [1, 1],
        );
      }
    });
  }
}

test("a datagram that fills the MTU goes over both paths in fabric fragments", (t) => {
  const net = twoPaths(TWICE);
  const payload = new Uint8Array(1472).map((_, at) => at);
  const got: Uint8Array[] = [];
  net.server.onPacket = (packet) => got.push(packet.payload.slice());
  for (let n = 0; n < 5; n++) {
    net.world.send(net.client, udpFrame(ENDS, payload));
    net.world.run(5);
  }
  t.deepEqual(
    got,
    Array.from({ length: 5 }, () => payload),
  );
  for (const link of [net.wan, net.wan2]) t.true(packetsOn(link, "west").length >= 10);
});

test("a SYN asks for segments that still fit with their number, and the digest of it", (t) => {
  const mssOf = (security: Protection) => {
    const net = twoPaths({ security, ...TWICE });
    const frame = tcpFrame(ENDS, { flags: SYN, sequence: 1, acknowledgment: 0, mss: 1460 });
    net.world.send(net.client, frame);
    net.world.run(5);
    const [syn] = net.server.received;
    return (syn.frame[14 + 20 + 22] << 8) | syn.frame[14 + 20 + 23];
  };
  t.is(mssOf({}), 1500 - 40 - 28);
  t.is(mssOf({ fabric: SIGNED }), 1500 - 40 - 28 - 16);
});

test("where one path is there is none but its own: packets go bare, until there is another", (t) => {
  const net = twoPaths(TWICE);
  for (const router of [net.west, net.east]) set(router, 1, false);
  const conversation = converse(net, "UDP");
  t.true(net.world.runUntil(() => conversation.answers.length === 10, 5000));
  t.false(packetsOn(net.wan, "west").at(-1)!.hasMetadata);
  t.is(packetsOn(net.wan2).length, 0);
  for (const router of [net.west, net.east]) set(router, 1, true);
  finishes(t, net, conversation);
  t.true(sent(net.wan2, "west").length >= 28);
  t.deepEqual(conversation.got, { client: REQUESTS.length, server: REQUESTS.length });
});

test("a stream of one direction: the peer ends the metadata on both paths", (t) => {
  const net = twoPaths(TWICE);
  for (let n = 0; n < 200; n++) {
    net.world.send(net.client, udpFrame(ENDS, `line ${n}`));
    net.world.run(20);
  }
  t.is(net.server.received.length, 200);
  for (const link of [net.wan, net.wan2]) {
    const parsed = new ParsedMetadata();
    const { payload } = packetsOn(link, "west").at(-1)!;
    t.is(parseMetadata(payload, 0, payload.length, parsed), 0);
    t.is(parsed.totalLength, 28);
  }
});

for (const name of ["west", "east"] as const) {
  test(`${name} is killed and begins anew: the session comes back, on both paths, and nothing is delivered twice`, (t) => {
    const net = twoPaths({ ...TWICE, extra: TWICE.extra + WATCHED });
    net.world.run(2000);
    const conversation = converse(net, "TCP");
    t.true(net.world.runUntil(() => conversation.answers.length === 10, 5000));
    net[name] = net.world.restart(name);
    if (!net.world.runUntil(conversation.done, 60_000)) t.log(net.world.diagram().split("\n").slice(-30).join("\n"));
    t.deepEqual(conversation.answers, ANSWERS);
    const last = ["west", "east"].map((from) => sent(net.wan2, from as "west" | "east").at(-1)!);
    t.true(last.every(fromPeer));
    for (const router of [net.west, net.east]) t.is(router.sessions.duplicates.count, 1);
  });
}

for (const name of ["west", "east"] as const) {
  for (const how of ["its peer sees it begin", "its peer is asked for the session"]) {
    for (const first of [99_990, 97_000, 40_000]) {
      test(`${name} begins anew, ${how}, and it counts from ${first} where it was at 100,000: all that it sends arrives, once`, (t) => {
        const isSeen = how === "its peer sees it begin";
        const net = twoPaths(isSeen ? { ...TWICE, extra: TWICE.extra + WATCHED } : TWICE);
        net[name].sessions.randomWord = () => 100_000;
        net.world.run(5000);
        exchange(net, 10);
        const renewed = net.world.restart(name);
        renewed.sessions.randomWord = () => first;
        // It asks when it hears of the session.
        const [host, ends] = name === "west" ? [net.server, swapEnds(ENDS)] : [net.client, ENDS];
        for (let n = 0; n < 10; n++) {
          if (!isSeen) net.world.send(host, udpFrame(ends, "are you there?"));
          net.world.run(300);
        }
        const before = [net.server.received.length, net.client.received.length];
        exchange(net, 20);
        t.deepEqual([net.server.received.length - before[0], net.client.received.length - before[1]], [20, 20]);
        const { table, duplicates } = renewed.sessions;
        const [row] = sessionRows(renewed);
        const sent = duplicates.next(table.duplicate[row * 2 + (name === "west" ? REVERSE : FORWARD)]) - first;
        t.true(sent > 20 && sent < 100, `${sent}`);
      });
    }
  }
}

test("when the session ends nothing of it is left on either path", (t) => {
  const net = twoPaths(TWICE);
  finishes(t, net, converse(net, "UDP"));
  for (const router of [net.west, net.east]) t.is(router.sessions.duplicates.count, 1);
  net.world.skip(200_000);
  for (const router of [net.west, net.east]) {
    t.is(router.sessions.table.count, 0);
    t.is(router.sessions.flows.count, 0);
    t.is(router.sessions.duplicates.count, 0);
    for (const path of router.sessions.paths) {
      t.is(path.sessions, 0);
      t.is(path.ports(17).inUse, 0);
    }
  }
});

test("beyond limits.duplicated-sessions sessions go on over one path, and a peer's copies are refused", (t) => {
  for (const full of ["west", "east"] as const) {
    const net = twoPaths({ ...TWICE, limitsOf: { [full]: { others: ", duplicated-sessions: 1" } } });
    net.server.onPacket = udpServer(net.world, net.server);
    for (let n = 0; n < 10; n++) {
      for (const sourcePort of [40000, 40001]) net.world.send(net.client, udpFrame({ ...ENDS, sourcePort }, `${n}`));
      net.world.run(10);
    }
    t.is(net.server.received.length, 20);
    t.is(net.client.received.length, 20);
    t.is(net.east.sessions.duplicates.count, 1);
    if (full === "east") t.true(dropsOf(net.east)["duplicates-full"]! > 5);
    else t.false("duplicates-full" in dropsOf(net.east));
  }
});

test("explain says which path the session takes, and which its copies", (t) => {
  const { west } = twoPaths(TWICE);
  const { steps } = explainPacket(west.config, {
    interface: "lan0",
    packet: parsePacket(`udp ${CLIENT}:4000 > ${SERVER}:7`),
  });
  t.deepEqual(
    steps.filter(({ step }) => step === "path").map(({ reason }) => reason.split(":")[0]),
    ["taken", "taken for the copies"],
  );
});

test("show sessions names the second path", (t) => {
  const net = twoPaths(TWICE);
  finishes(t, net, converse(net, "UDP"));
  for (const [router, path] of [
    [net.west, "wan1"],
    [net.east, "wan1"],
  ] as const) {
    const { sessions } = snapshot(router, "sessions") as SessionsAnswer;
    t.regex(sessions[0].secondPath!, new RegExp(path));
    t.regex(sessions[0].path!, /wan0/);
  }
});

/** client ─ west ═ east ─ server with three paths between the routers, of which a session takes two at once. */
function threePaths(security: Protection) {
  const world = new World(1);
  const wans = (peer: string, own: number): Record<string, [string, string, string]> =>
    Object.fromEntries([0, 1, 2].map((n) => [`wan${n}`, [`198.18.${n}.${own}`, peer, `198.18.${n}.${3 - own}`]]));
  const more = { service: TWICE.service, extra: TWICE.extra, security };
  const [westLan, eastLan] = [{ address: "10.1.0.1", tenant: "corp" }, { address: "10.2.0.1" }];
  const west = world.addRouter(
    "west",
    routerYaml({ name: "west", lan: westLan, wans: wans("east", 1), route: "peer: east", ...more }),
  );
  const east = world.addRouter(
    "east",
    routerYaml({ name: "east", lan: eastLan, wans: wans("west", 2), route: "interface: lan0", ...more }),
  );
  const client = world.addHost("client", CLIENT, "10.1.0.1");
  const server = world.addHost("server", SERVER, "10.2.0.1");
  world.join("lan", "client", "west.lan0");
  const links = [0, 1, 2].map((n) => world.join(`wan${n}`, `west.wan${n}`, `east.wan${n}`));
  world.join("far", "east.lan0", "server");
  return { world, client, server, west, east, links };
}

/** A datagram each way, `count` times. */
function exchange({ world, client, server }: Pick<TwoPaths, "world" | "client" | "server">, count: number): void {
  for (let n = 0; n < count; n++) {
    world.send(client, udpFrame(ENDS, `question ${n}`));
    world.run(3);
    world.send(server, udpFrame(swapEnds(ENDS), `answer ${n}`));
    world.run(3);
  }
}

for (const [name, security] of KINDS) {
  test(`${name}: an error about a session whose first path is down arrives by the second, once`, (t) => {
    const net = twoPaths({ ...TWICE, security });
    exchange(net, 3);
    net.wan.tamper = () => [];
    set(net.west, 0, false);
    set(net.east, 0, false);
    exchange(net, 3);
    const { length } = net.client.received;
    net.world.send(net.server, icmpError(SERVER, 3, 3, net.server.received.at(-1)!.frame));
    net.world.run(10);
    const errors = net.client.received.slice(length);
    t.deepEqual(
      errors.map(({ icmpType, source }) => [icmpType, source]),
      [[3, SERVER]],
    );
    t.is(
      Buffer.from(errors[0].payload).toString("hex", 12, 24),
      Buffer.from(udpFrame(ENDS, "question")).toString("hex", 26, 38),
    );
  });

  test(`${name}: of a packet whose TTL ends over two paths its sender hears once`, (t) => {
    const net = twoPaths({ ...TWICE, security });
    exchange(net, 3);
    const { length } = net.client.received;
    net.world.send(net.client, udpFrame(ENDS, "question", 2));
    net.world.run(10);
    t.deepEqual(
      net.client.received.slice(length).map(({ icmpType, source }) => [icmpType, source]),
      [[11, "198.18.0.2"]],
    );
  });

  test(`${name}: what was sent twice arrives once, also where its session has left one of the paths meanwhile`, (t) => {
    const { world, client, server, west, east, links } = threePaths(security);
    exchange({ world, client, server }, 4);
    const first = west.sessions.table.downstream.path[sessionRows(west)[0]];
    links[first].tamper = (frame) => [{ frame, delayMs: 30 }];
    for (let n = 0; n < 3; n++) {
      world.send(server, udpFrame(swapEnds(ENDS), `late answer ${n}`));
      world.send(client, udpFrame(ENDS, `late question ${n}`));
    }
    world.run(2);
    for (const router of [west, east]) set(router, first, false);
    world.send(client, udpFrame(ENDS, "moved"));
    world.run(105);
    t.not(west.sessions.table.downstream.path[sessionRows(west)[0]], first);
    for (const [{ received }, count] of [
      [client, 7],
      [server, 8],
    ] as const) {
      const texts = received.map(({ text }) => text);
      t.deepEqual([texts.length, new Set(texts).size], [count, count]);
    }
  });

  for (const laterMs of [0, 30]) {
    test(`${name}: a session that moved from one of three paths takes two again, also where its peer hears of it ${laterMs} ms later`, (t) => {
      const net = threePaths(security);
      const { west, east, links } = net;
      exchange(net, 4);
      links[0].tamper = () => [];
      set(west, 0, false);
      if (laterMs === 0) set(east, 0, false);
      exchange(net, laterMs / 6);
      if (laterMs > 0) set(east, 0, false);
      exchange(net, 20);
      // Any of the two may die without a word.
      for (const dead of [1, 2]) {
        const [asked, answered] = [net.server.received.length, net.client.received.length];
        const whole = links[dead].tamper;
        links[dead].tamper = () => [];
        exchange(net, 20);
        links[dead].tamper = whole;
        t.deepEqual(
          [net.server.received.length - asked, net.client.received.length - answered],
          [20, 20],
          `wan${dead}`,
        );
      }
    });
  }
}
