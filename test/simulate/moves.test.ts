// Live sessions that change their path (protocol sheet 7.2), and routers that get back from their peers what they lost
// (4.6, 7.3). Paths go up and down here by a word of the test.

import test, { type ExecutionContext } from "ava";
import { uuidText } from "../../lib/control/names.ts";
import type { Router } from "../../lib/router.ts";
import { ACK, PSH, SYN } from "../../lib/wire/tcp.ts";
import { TcpClient, tcpServer, UdpClient, udpServer } from "./endpoints.ts";
import { echoFrame, icmpError, protocolFrame, swapEnds, tcpFrame, udpFrame } from "./packets.ts";
import { SEALED } from "./protection.ts";
import {
  CLIENT,
  countOf,
  dropsOf,
  type Protection,
  packetsOn,
  SERVER,
  sessionRows,
  type TwoRouters,
  threeRouters,
  twoPaths,
  twoRouters,
} from "./topologies.ts";

const ENDS = { source: CLIENT, destination: SERVER, sourcePort: 40000, destinationPort: 7 };
const REQUESTS = Array.from({ length: 60 }, (_, n) => `request ${n} of sixty`);
const ANSWERS = REQUESTS.map((request) => request.toUpperCase());
const PAUSE_MS = 10;

interface Conversation {
  readonly answers: readonly string[];
  readonly done: () => boolean;
}

function converse(net: TwoRouters, protocol: string): Conversation {
  if (protocol === "TCP") {
    const client = new TcpClient(net.world, net.client, ENDS, REQUESTS, PAUSE_MS);
    net.client.onPacket = (packet) => client.receive(packet);
    net.server.onPacket = tcpServer(net.world, net.server);
    return { answers: client.answers, done: () => client.state === "closed" || client.state === "refused" };
  }
  const client = new UdpClient(net.world, net.client, ENDS, REQUESTS, PAUSE_MS);
  net.client.onPacket = (packet) => client.receive(packet);
  net.server.onPacket = udpServer(net.world, net.server);
  return { answers: client.answers, done: () => client.answers.length === REQUESTS.length };
}

/** The router is told that its path number `path` can be used, or not. */
function set(router: Router, path: number, up: boolean): void {
  router.sessions.paths[path].up = up;
  router.sessions.flows.nextGeneration();
}

function identifiers(router: Router): string[] {
  return sessionRows(router).map((row) => uuidText(router.sessions.table.uuid.subarray(row * 4, row * 4 + 4)));
}

/** Everything is as one session left it: whole, the same identifier, and nothing lost by the routers. */
function completes(t: ExecutionContext, net: TwoRouters, conversation: Conversation, uuid: string): void {
  const done = net.world.runUntil(conversation.done, 10_000);
  if (!done) t.log(net.world.diagram().split("\n").slice(-30).join("\n"));
  t.deepEqual(conversation.answers, ANSWERS);
  for (const router of net.world.routers.values()) t.deepEqual(identifiers(router), [uuid]);
}

const BARE: Protection = {};
const KINDS: [string, Protection][] = [
  ["in clear", BARE],
  ["signed and encrypted", SEALED],
];

for (const protocol of ["TCP", "UDP"]) {
  for (const [kind, security] of KINDS) {
    for (const who of ["the first router", "the last router", "both routers at once"]) {
      test(`${protocol} ${kind} moves to the other path when ${who} find${who.includes("both") ? "" : "s"} its path down`, (t) => {
        const net = twoPaths({ security });
        const conversation = converse(net, protocol);
        t.true(net.world.runUntil(() => conversation.answers.length === 20, 5000));
        const [uuid] = identifiers(net.west);
        const before = packetsOn(net.wan).length;
        t.is(packetsOn(net.wan2).length, 0);
        const deaf = (from: string) => who.includes("both") || (from === "west") === who.includes("first");
        net.wan.tamper = (frame, _, from) => (deaf(from) ? [] : [{ frame }]);
        if (who !== "the last router") set(net.west, 0, false);
        if (who !== "the first router") set(net.east, 0, false);
        completes(t, net, conversation, uuid);
        const moved = packetsOn(net.wan2);
        t.true(moved.length > 70, "the rest went over the second path");
        t.true(moved[0].hasMetadata);
        t.false(moved.at(-1)!.hasMetadata, "and metadata has stopped");
        t.true(moved.filter(({ hasMetadata }) => hasMetadata).length < 12);
        t.true(packetsOn(net.wan).length - before <= 3);
        t.true(moved.every(({ checksumsRight }) => checksumsRight));
        for (const router of [net.west, net.east]) {
          const [row] = sessionRows(router);
          t.true(router.sessions.table.moves[row] >= 1);
          t.is(router.sessions.paths[1].sessions, 1);
          t.is(router.sessions.paths[0].sessions, 0);
        }
        net.world.skip(6000);
        for (const router of [net.west, net.east]) {
          for (const side of router.sessions.table.sides)
            t.true(
              sessionRows(router).every((row) => side.lingering[row] === -1),
              "the old tuple is given up",
            );
          t.true(router.sessions.flows.count <= 2);
        }
      });
    }
  }
}

test("a session that was moved goes back when told, again and again, and no waypoint pair is lost", (t) => {
  const net = twoPaths();
  const conversation = converse(net, "UDP");
  t.true(net.world.runUntil(() => conversation.answers.length === 5, 5000));
  const [uuid] = identifiers(net.west);
  for (let round = 1; round <= 8; round++) {
    for (const router of [net.west, net.east]) set(router, round % 2 === 1 ? 0 : 1, false);
    const until = 5 + round * 5;
    t.true(
      net.world.runUntil(() => conversation.answers.length >= until, 5000),
      `round ${round}`,
    );
    for (const router of [net.west, net.east]) set(router, round % 2 === 1 ? 0 : 1, true);
  }
  completes(t, net, conversation, uuid);
  t.deepEqual(dropsOf(net.west), {});
  t.deepEqual(dropsOf(net.east), {});
  net.world.skip(200_000);
  for (const router of [net.west, net.east]) {
    t.is(router.sessions.table.count, 0);
    t.is(router.sessions.flows.count, 0);
    for (const path of router.sessions.paths) t.is(path.ports(17).inUse, 0);
  }
});

test("what is still on its way by the old path is delivered for five seconds, and refused after that", (t) => {
  const net = twoPaths();
  net.server.onPacket = udpServer(net.world, net.server);
  net.world.send(net.client, udpFrame(ENDS, "one"));
  net.world.run(10);
  net.world.send(net.client, udpFrame(ENDS, "two"));
  net.world.run(10);
  // The server's last answer takes its time on the old path.
  net.wan.tamper = (frame, _, from) =>
    from === "east"
      ? [
          { frame, delayMs: 4000 },
          { frame, delayMs: 6000 },
        ]
      : [{ frame }];
  net.world.send(net.client, udpFrame(ENDS, "three"));
  net.world.run(10);
  set(net.west, 0, false);
  net.world.send(net.client, udpFrame(ENDS, "four"));
  net.world.run(10);
  t.deepEqual(
    net.client.received.map(({ text }) => text),
    ["ONE", "TWO", "FOUR"],
  );
  net.world.skip(4100, 10);
  t.deepEqual(
    net.client.received.map(({ text }) => text),
    ["ONE", "TWO", "FOUR", "THREE"],
  );
  net.world.skip(3000, 10);
  t.is(net.client.received.length, 4);
  t.deepEqual(dropsOf(net.west), { "unknown-session": 1 });
});

for (const protocol of ["TCP", "UDP"]) {
  for (const [kind, security] of KINDS) {
    for (const lost of ["west", "east"] as const) {
      test(`${protocol} ${kind}: ${lost === "west" ? "the first" : "the last"} router begins anew without any session, and is told of it by its peer`, (t) => {
        const net = twoRouters({ security });
        const conversation = converse(net, protocol);
        t.true(net.world.runUntil(() => conversation.answers.length === 20, 5000));
        const [uuid] = identifiers(net.west);
        const renewed = net.world.restart(lost);
        for (const path of renewed.sessions.paths) path.givingBackUntilMs = net.world.clock.nowMs() + 2000;
        const peer = net.world.routers.get(lost === "west" ? "east" : "west")!;
        // A host that goes on at once must not be reset.
        net.world.run(100);
        t.is(countOf(renewed, "tcp.resets-sent"), 0);
        peer.retrigger.begin(0);
        completes(t, net, conversation, uuid);
        t.is(countOf(renewed, "sessions.recovered"), 1);
        t.true(Object.keys(dropsOf(renewed)).every((name) => ["recovering", "unknown-session"].includes(name)));
        // The pair that it had is not given to another session.
        t.is(renewed.sessions.paths[0].ports(protocol === "TCP" ? 6 : 17).inUse, lost === "west" ? 1 : 0);
        net.world.run(2000);
        net.world.send(net.client, udpFrame({ ...ENDS, sourcePort: 40001 }, "another"));
        net.world.run(20);
        t.is(identifiers(net.world.routers.get("west")!).length, 2);
      });
    }
  }
}

for (const protocol of ["TCP", "UDP"]) {
  test(`${protocol}: the middle router of three begins anew, and is told of the session from both sides`, (t) => {
    const net = threeRouters();
    const conversation = converse(net, protocol);
    t.true(net.world.runUntil(() => conversation.answers.length === 20, 5000));
    const [uuid] = identifiers(net.west);
    const renewed = net.world.restart("middle");
    for (const path of renewed.sessions.paths) path.givingBackUntilMs = net.world.clock.nowMs() + 2000;
    net.world.run(50);
    net.east.retrigger.begin(0);
    net.world.run(20);
    net.west.retrigger.begin(0);
    completes(t, net, conversation, uuid);
  });
}

test("reverse metadata of a session that nobody asked for and nobody lost opens none", (t) => {
  const net = twoRouters();
  net.server.onPacket = udpServer(net.world, net.server);
  net.world.send(net.client, udpFrame(ENDS, "one"));
  net.world.run(10);
  net.west.sessions.close(sessionRows(net.west)[0], net.world.clock.nowMs());
  net.east.retrigger.begin(0);
  net.world.run(50);
  t.is(net.west.sessions.table.count, 0);
  t.true(dropsOf(net.west)["metadata-context"] >= 1 || dropsOf(net.west)["unknown-session"] >= 1);
});

test("without a word from anybody, a first router that lost its sessions gets them back once the server goes on sending", (t) => {
  const net = twoRouters();
  net.server.onPacket = udpServer(net.world, net.server);
  for (const text of ["one", "two", "three"]) {
    net.world.send(net.client, udpFrame(ENDS, text));
    net.world.run(20);
  }
  const [uuid] = identifiers(net.west);
  const renewed = net.world.restart("west");
  const back = { source: SERVER, destination: CLIENT, sourcePort: 7, destinationPort: 40000 };
  for (let second = 0; second < 120 && renewed.sessions.table.count === 0; second++) {
    net.world.send(net.server, udpFrame(back, `pushed ${second}`));
    net.world.run(1000);
  }
  t.deepEqual(identifiers(renewed), [uuid]);
  const before = net.client.received.length;
  net.world.send(net.server, udpFrame(back, "and on"));
  net.world.run(20);
  t.is(net.client.received.length, before + 1);
});

test("ICMP goes on over the other path", (t) => {
  const net = twoPaths();
  const ping = (n: number) => net.world.send(net.client, echoFrame(CLIENT, SERVER, 77, n, "ping"));
  net.server.onPacket = (packet) => {
    if (packet.protocol === 1) net.world.send(net.server, echoFrame(SERVER, CLIENT, 77, 1, "ping", true));
  };
  for (let n = 0; n < 3; n++) {
    ping(n);
    net.world.run(20);
  }
  t.is(net.client.received.length, 3);
  set(net.west, 0, false);
  set(net.east, 0, false);
  for (let n = 3; n < 6; n++) {
    ping(n);
    net.world.run(20);
  }
  t.is(net.client.received.length, 6);
  t.true(packetsOn(net.wan2).length >= 6);
});

/** Client and server have shaken hands; numbers go on from 1001 and 5001. */
function shakeHands({ world, client, server }: TwoRouters): void {
  for (const [host, ends, flags, sequence, acknowledgment] of [
    [client, ENDS, SYN, 1000, 0],
    [server, swapEnds(ENDS), SYN | ACK, 5000, 1001],
    [client, ENDS, ACK, 1001, 5001],
  ] as const) {
    world.send(host, tcpFrame(ends, { flags, sequence, acknowledgment }));
    world.run(5);
  }
}

const data = (ends: typeof ENDS, sequence: number, acknowledgment: number) =>
  tcpFrame(ends, { flags: ACK | PSH, sequence, acknowledgment }, "data");

for (const [name, protection] of KINDS) {
  for (const [what, path, asked, answered] of [
    [
      "GRE",
      "",
      () => protocolFrame(CLIENT, SERVER, 47, Buffer.from("ask")),
      () => protocolFrame(SERVER, CLIENT, 47, Buffer.from("say")),
    ],
    [
      "a ping",
      "",
      (n: number) => echoFrame(CLIENT, SERVER, 77, n, "ask"),
      (n: number) => echoFrame(SERVER, CLIENT, 77, n, "say", true),
    ],
    [
      "TCP as UDP",
      ", udp-transform: always",
      (n: number) => data(ENDS, 1001 + 4 * n, 5001 + 4 * n),
      (n: number) => data(swapEnds(ENDS), 5001 + 4 * n, 1005 + 4 * n),
    ],
  ] as const) {
    test(`${name}: all of ${what} that is on its way by the old path arrives as what it is`, (t) => {
      const net = twoPaths({ security: protection, path });
      const { world, client, server } = net;
      if (path !== "") shakeHands(net);
      const sent: Uint8Array[] = [];
      let asks = 0;
      server.onPacket = () => {
        sent.push(answered(sent.length));
        world.send(server, sent.at(-1)!);
      };
      const ask = () => {
        world.send(client, asked(asks++));
        world.run(5);
      };
      for (let n = 0; n < 3; n++) ask();
      net.wan.tamper = (frame, _, from) => (from === "east" ? [{ frame, delayMs: 50 }] : [{ frame }]);
      for (let n = 0; n < 3; n++) ask();
      set(net.west, 0, false);
      ask();
      const { length } = client.received;
      world.run(100);
      const late = client.received.slice(length);
      // The last one came by the new path, ahead of these.
      t.deepEqual(
        late.map(({ protocol, payload }) => [protocol, Buffer.from(payload).toString()]),
        sent.slice(3, 6).map((frame) => [frame[23], path === "" ? "say" : "data"]),
      );
      t.true(late.every(({ checksumsRight }) => checksumsRight));
    });
  }

  for (const protocol of ["UDP", "TCP"]) {
    test(`${name}: an error of a ${protocol} session that comes by the old path is an error, and no data`, (t) => {
      const net = twoPaths({ security: protection });
      const { world, client, server } = net;
      if (protocol === "TCP") shakeHands(net);
      const ask = (n: number) => {
        world.send(client, protocol === "TCP" ? data(ENDS, 1001 + 4 * n, 5001) : udpFrame(ENDS, "data"));
        world.run(5);
        world.send(
          server,
          protocol === "TCP" ? data(swapEnds(ENDS), 5001, 1005 + 4 * n) : udpFrame(swapEnds(ENDS), "data"),
        );
        world.run(5);
      };
      for (let n = 0; n < 3; n++) ask(n);
      net.wan.tamper = (frame, _, from) => (from === "east" ? [{ frame, delayMs: 50 }] : [{ frame }]);
      world.send(server, icmpError(SERVER, 3, 1, server.received.at(-1)!.frame));
      world.run(3);
      set(net.west, 0, false);
      ask(3);
      const { length } = client.received;
      world.run(100);
      t.deepEqual(
        client.received.slice(length).map(({ protocol, icmpType }) => [protocol, icmpType]),
        [[1, 3]],
      );
    });
  }
}
