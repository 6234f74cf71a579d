// A router that has lost a session which its peer still has: health checks find out, and metadata opens it again
// (protocol sheet 7.4). And clocks that run for weeks.

import test, { type ExecutionContext } from "ava";
import { ACK, PSH } from "../../lib/wire/tcp.ts";
import { TcpClient, tcpServer, UdpClient, udpServer } from "./endpoints.ts";
import { concat, echoFrame, type SeenPacket, swapEnds, tcpFrame, udpFrame } from "./packets.ts";
import { controlMessage, ENDS, forwardMetadata, TO_EAST } from "./peer.ts";
import {
  CLIENT,
  dropsOf,
  eastAlone,
  packetsOn,
  SERVER,
  sessionRows,
  type TwoRouters,
  threeRouters,
  twoRouters,
} from "./topologies.ts";

const REPLY = swapEnds(ENDS);
const SECOND = 1000;
const DAY_MS = 24 * 3_600_000;
const isCheck = ({ metadata }: SeenPacket) => metadata.has("health-check");

/** Send `frame(n)` from the client every `everyMs`; the `lost`-th, from 0, does not cross the wan. Returns how often an answer came. */
function repeat(
  net: TwoRouters,
  frame: (n: number) => Uint8Array,
  everyMs: number,
  count: number,
  lost = -1,
): boolean[] {
  const answered: boolean[] = [];
  for (let n = 0; n < count; n++) {
    const before = net.client.received.length;
    net.wan.tamper = (crossing) => (n === lost ? [] : [{ frame: crossing }]);
    net.world.send(net.client, frame(n));
    net.world.run(5);
    net.wan.tamper = (crossing) => [{ frame: crossing }];
    net.world.skip(everyMs - 5, 100);
    answered.push(net.client.received.length > before);
  }
  return answered;
}

/** The server answers ping, UDP and TCP. */
function answering(net: TwoRouters): TwoRouters {
  const [udp, tcp] = [udpServer(net.world, net.server), tcpServer(net.world, net.server)];
  net.server.onPacket = (packet) => {
    if (packet.icmpType === 8)
      net.world.send(net.server, echoFrame(SERVER, CLIENT, 77, packet.sequence, packet.payload, true));
    udp(packet);
    tcp(packet);
  };
  return net;
}

for (const [name, frame, everyMs, lost] of [
  ["ping every 6 s", (n: number) => echoFrame(CLIENT, SERVER, 77, n, "ping"), 6 * SECOND, 3],
  ["UDP every 120 s", (n: number) => udpFrame(ENDS, `${n}`), 120 * SECOND, 3],
] as const) {
  test(`${name} is answered again soon after a loss that let the far router forget the session`, (t) => {
    const net = answering(twoRouters());
    const answered = repeat(net, frame, everyMs, 12, lost);
    t.deepEqual(answered.slice(0, lost + 1), [true, true, true, false]);
    t.true(net.east.sessions.openedTotal > 1, "the far router had forgotten it");
    t.is(net.west.sessions.openedTotal, 1);
    t.deepEqual(answered.slice(-6), Array(6).fill(true), net.world.diagram());
  });
}

for (const [name, everyMs] of [
  ["faster than its peer is asked", 1 * SECOND],
  ["slower", 7 * SECOND],
] as const) {
  test(`a ping ${name} is answered again after a restart of the far router`, (t) => {
    const net = answering(twoRouters());
    const frame = (n: number) => echoFrame(CLIENT, SERVER, 77, n, "ping");
    repeat(net, frame, everyMs, 5);
    net.world.restart("east");
    const answered = repeat(net, frame, everyMs, 30);
    t.deepEqual(answered.slice(-10), Array(10).fill(true), `${answered}`);
  });
}

for (const [name, build, restarted] of [
  ["the far router", twoRouters, "east"],
  ["a middle router", threeRouters, "middle"],
  ["the last of three", threeRouters, "east"],
] as const) {
  test(`a UDP conversation goes on after a restart of ${name}: health check, enable metadata, metadata`, (t) => {
    const net: TwoRouters = answering(build());
    const frame = (n: number) => udpFrame(ENDS, `${n}`);
    t.deepEqual(repeat(net, frame, SECOND, 5), Array(5).fill(true));
    const fresh = net.world.restart(restarted);
    const before = packetsOn(net.wan).length;
    const answered = repeat(net, frame, SECOND, 90);
    t.deepEqual(answered.slice(-5), Array(5).fill(true), `${answered}`);
    t.true(answered.indexOf(true) < 65, "a minute and some packets at most");
    t.is(fresh.sessions.openedTotal, 1);
    t.is(net.west.sessions.openedTotal, 1);
    if (restarted === "east" && build === twoRouters) {
      const said = packetsOn(net.wan).slice(before);
      const check = said.findIndex(isCheck);
      const enable = said.findIndex(({ metadata }) => metadata.get("control") === 2);
      const again = said.findIndex(({ metadata }) => metadata.has("forward-context"));
      t.true(check >= 0 && check < enable && enable < again, net.world.diagram());
      t.is(said[again].metadata.get("uuid"), packetsOn(net.wan)[0].metadata.get("uuid"));
    }
  });
}

test("a TCP conversation goes on after a restart of the far router", (t) => {
  const net = answering(twoRouters());
  const client = new TcpClient(net.world, net.client, ENDS, ["one", "two", "three", "four"], 10 * SECOND);
  net.client.onPacket = (packet) => client.receive(packet);
  net.world.skip(15 * SECOND, 100);
  t.is(client.answers.length, 2);
  net.world.restart("east");
  net.world.skip(120 * SECOND, 100);
  t.deepEqual(client.answers, ["ONE", "TWO", "THREE", "FOUR"]);
  t.is(client.state, "closed");
});

test("a two-way conversation never carries a health check, however slow it is", (t) => {
  for (const everyMs of [3, 6, 25, 70, 150]) {
    const net = answering(twoRouters());
    const client = new UdpClient(net.world, net.client, ENDS, Array(30).fill("x"), everyMs * SECOND);
    net.client.onPacket = (packet) => client.receive(packet);
    for (let n = 0; n < 10; n++) {
      net.world.send(net.client, echoFrame(CLIENT, SERVER, 77, n, "ping"));
      net.world.skip(Math.min(everyMs, 9) * SECOND, 500);
    }
    net.world.skip(30 * everyMs * SECOND, 500);
    t.is(client.answers.length, 30, `${everyMs}`);
    t.deepEqual(packetsOn(net.wan).filter(isCheck), [], `every ${everyMs} s`);
  }
  const net = answering(twoRouters());
  const client = new TcpClient(net.world, net.client, ENDS, Array(10).fill("x"), 65 * SECOND);
  net.client.onPacket = (packet) => client.receive(packet);
  net.world.skip(700 * SECOND, 100);
  t.is(client.state, "closed");
  t.deepEqual(packetsOn(net.wan).filter(isCheck), [], "TCP");
});

test("an answer that was long in coming takes back the question whether the peer knows the session", (t) => {
  const net = twoRouters();
  for (let n = 0; n < 20; n++) {
    net.world.send(net.client, udpFrame(ENDS, `question ${n}`));
    net.world.skip(n < 2 ? 10 : 20 * SECOND, n < 2 ? 1 : 100);
    net.world.send(net.server, udpFrame(REPLY, `answer ${n}`));
    net.world.skip(10, 1);
    net.world.send(net.client, udpFrame(ENDS, "thanks"));
    net.world.skip((40 + n) * SECOND, 100);
  }
  t.is(net.client.received.length, 20);
  t.deepEqual(
    packetsOn(net.wan).filter((packet) => isCheck(packet) && packet.text === "thanks"),
    [],
  );
});

test("a one-way UDP stream carries a health check every 5 s at most, and each is answered 'session exists'", (t) => {
  const net = twoRouters();
  repeat(net, (n) => udpFrame(ENDS, `${n}`), SECOND, 300);
  const checks = net.wan.seen.filter(({ packet }) => packet !== undefined && isCheck(packet)).map(({ atMs }) => atMs);
  t.true(checks.length >= 50 && checks.length <= 60, `${checks}`);
  for (let n = 1; n < checks.length; n++) t.true(checks[n] - checks[n - 1] >= 5 * SECOND, `${checks}`);
  const answers = packetsOn(net.wan, "east").filter(({ metadata }) => metadata.get("control") === 8);
  t.is(answers.length, checks.length);
  t.deepEqual(
    net.server.received.map(({ text }) => text),
    Array.from({ length: 300 }, (_, n) => `${n}`),
  );
  t.deepEqual(net.client.received, []);
});

test("where packets ask, a peer's packet of a lost session is answered by asking for it, ten times a second at most", (t) => {
  const net = answering(twoRouters({ sessions: "recovery: packet-based" }));
  for (let n = 0; n < 3; n++) {
    net.world.send(net.client, udpFrame(ENDS, `before the loss ${n}, and long enough`));
    net.world.run(20);
  }
  net.world.restart("east");
  const before = net.client.received.length;
  for (let n = 0; n < 60; n++)
    net.world.send(net.client, udpFrame(ENDS, `after the loss ${n}, and long enough to be asked`));
  net.world.run(20);
  const asked = packetsOn(net.wan, "east").filter(({ metadata }) => metadata.get("control") === 2);
  t.true(asked.length >= 1 && asked.length <= 10, `${asked.length} questions`);
  net.world.send(net.client, udpFrame(ENDS, "and on"));
  net.world.run(20);
  t.true(net.client.received.length > before, "answered again at once");
  t.is(net.west.sessions.openedTotal, 1);
});

test("where inactivity asks, a packet of a lost session is answered by nothing", (t) => {
  const net = answering(twoRouters());
  for (let n = 0; n < 3; n++) {
    net.world.send(net.client, udpFrame(ENDS, `before the loss ${n}, and long enough`));
    net.world.run(20);
  }
  net.world.restart("east");
  const before = packetsOn(net.wan, "east").length;
  net.world.send(net.client, udpFrame(ENDS, "after the loss, and long enough to be asked"));
  net.world.run(20);
  t.is(packetsOn(net.wan, "east").length, before);
  t.is(dropsOf(net.world.routers.get("east")!)["unknown-session"], 1);
});

// Weeks

/** One-way UDP every 150 s for so long; then silence must end the session on both routers, in time. */
function streamFor(t: ExecutionContext, ms: number): void {
  const net = twoRouters();
  const STEP = 150 * SECOND;
  for (let passed = 0; passed < ms; passed += STEP) {
    net.world.send(net.client, udpFrame(ENDS, "x"));
    net.world.skip(Math.min(STEP, ms - passed), STEP);
    for (const link of net.world.links.values()) link.seen.length = 0;
  }
  t.deepEqual([sessionRows(net.west).length, sessionRows(net.east).length], [1, 1]);
  t.deepEqual([net.west.sessions.openedTotal, net.east.sessions.openedTotal], [1, 1]);
  net.world.send(net.client, udpFrame(ENDS, "last"));
  net.world.run(2);
  net.world.skip(178 * SECOND);
  t.deepEqual([sessionRows(net.west).length, sessionRows(net.east).length], [1, 1]);
  net.world.skip(3 * SECOND);
  t.deepEqual([sessionRows(net.west).length, sessionRows(net.east).length], [0, 0]);
}

for (const [name, ms] of [
  ["26 days", 26 * DAY_MS],
  ["the 49.7 days after which 32 bits come round", 2 ** 32],
  ["60 days", 60 * DAY_MS],
] as const) {
  test(`one-way UDP lives for ${name}, and expires when it falls silent`, (t) => streamFor(t, ms));
}

test("an answer is generated again thirty days after the last one", (t) => {
  const net = eastAlone();
  const send = (...parts: (Uint8Array | string)[]) => {
    net.world.send(net.peer, udpFrame(TO_EAST, concat(...parts)));
    net.world.run(2);
  };
  const answers = () => packetsOn(net.wan, "east").filter(({ metadata }) => metadata.has("reverse-context")).length;
  send(forwardMetadata(), "lead");
  net.world.run(1200);
  t.is(answers(), 1);
  for (let passed = 0; passed < 30 * DAY_MS; passed += 150 * SECOND) {
    send("bare");
    net.world.skip(150 * SECOND, 150 * SECOND);
  }
  for (let n = 0; n < 5; n++) send(forwardMetadata(), "again");
  t.is(answers(), 2);
  t.is(net.east.sessions.openedTotal, 1);
});

test("TCP segments to a router that has lost the session are not reset by it", (t) => {
  const net = eastAlone();
  net.world.send(net.peer, tcpFrame(TO_EAST, { flags: ACK | PSH, sequence: 1, acknowledgment: 1 }, "x"));
  net.world.send(
    net.peer,
    udpFrame({ ...REPLY, source: TO_EAST.source, destination: TO_EAST.destination }, controlMessage(2)),
  );
  net.world.run(2);
  t.deepEqual(packetsOn(net.wan, "east"), []);
  t.deepEqual(dropsOf(net.east), { "unknown-session": 2 });
});
