// Source NAT where a session begins (attribute 25): its first router chooses the address and port, its last one presents them.

import test from "ava";
import { RouterRestorer, saveRouter } from "../../lib/control/router-state.ts";
import { snapshot } from "../../lib/control/snapshot.ts";
import { TcpClient, tcpServer } from "./endpoints.ts";
import {
  answerTo,
  edgeBehindMiddle,
  edgeBehindPeer,
  FAR,
  FARTHER,
  identifierOf,
  isNatPort,
  type NatOptions,
  NEIGHBOR,
  OUTSIDE,
  ping,
  sendOut,
  sourceOf,
} from "./nat-edges.ts";
import { echoFrame, icmpError, pattern, protocolFrame, swapEnds, udpFrame } from "./packets.ts";
import { SIGNED } from "./protection.ts";
import { CLIENT, dropsOf, packetsOn, sessionRows } from "./topologies.ts";

const POOL: NatOptions = { inner: ", source-nat-pool: [203.0.113.77]", nat: "" };
const PRESENTED = "203.0.113.77";

const NETS: [string, NatOptions][] = [
  ["in clear", POOL],
  ["signed", { ...POOL, security: SIGNED }],
];

for (const [name, options] of NETS) {
  test(`${name}: the edge presents what the first router chose, the same for every destination`, (t) => {
    const net = edgeBehindPeer(options);
    const out = sendOut(net)!;
    t.deepEqual([out.source, isNatPort(out.sourcePort, 40_000), out.checksumsRight], [PRESENTED, true, true]);
    t.is(sourceOf(sendOut(net, { destination: FARTHER })), sourceOf(out));
    const near = sendOut(net, { source: NEIGHBOR })!;
    t.is(near.source, PRESENTED);
    t.not(near.sourcePort, out.sourcePort);
    for (let n = 0; n < 3; n++) {
      const back = answerTo(net, sendOut(net)!)!;
      t.deepEqual(
        [back.source, back.destination, back.destinationPort, back.checksumsRight],
        [FAR, CLIENT, 40_000, true],
      );
    }
    const [lead] = packetsOn(net.wan, "west").filter(({ hasMetadata }) => hasMetadata);
    // Of a signed one it is encrypted.
    if (name === "in clear")
      t.deepEqual([lead.metadata.get("source-nat"), lead.metadata.get("source-nat-port")], [PRESENTED, out.sourcePort]);
    for (const router of [net.west, net.edge]) {
      t.deepEqual(dropsOf(router), {});
      const { sessions } = snapshot(router, "sessions") as { sessions: { sourceNat: string | null }[] };
      t.true(sessions.every(({ sourceNat }) => sourceNat?.startsWith(PRESENTED)));
    }
  });

  test(`${name}: TCP, pings and GRE`, (t) => {
    const net = edgeBehindPeer(options);
    const ends = { source: CLIENT, destination: FAR, sourcePort: 40_001, destinationPort: 80 };
    const tcp = new TcpClient(net.world, net.client, ends, ["one", "two"]);
    net.client.onPacket = (packet) => tcp.receive(packet);
    net.outside.onPacket = tcpServer(net.world, net.outside);
    t.true(net.world.runUntil(() => tcp.state === "closed", 3000));
    t.deepEqual(tcp.answers, ["ONE", "TWO"]);
    const out = ping(net, 77)!;
    t.deepEqual([out.source, isNatPort(identifierOf(out), 77), out.checksumsRight], [PRESENTED, true, true]);
    net.world.send(net.outside, echoFrame(FAR, PRESENTED, identifierOf(out), 1, "ping", true));
    net.world.run(5);
    t.deepEqual([net.client.received.at(-1)!.icmpType, identifierOf(net.client.received.at(-1)!)], [0, 77]);
    net.world.send(net.client, protocolFrame(CLIENT, FAR, 47, pattern(40)));
    net.world.run(5);
    t.is(net.outside.received.at(-1)!.source, PRESENTED);
  });

  test(`${name}: an error from inside comes from what is presented, and one from outside quotes what the host sent`, (t) => {
    const net = edgeBehindPeer(options);
    const out = sendOut(net)!;
    answerTo(net, out);
    net.world.send(net.client, icmpError(CLIENT, 3, 3, net.client.received.at(-1)!.frame));
    net.world.send(net.outside, icmpError(FARTHER, 11, 0, out.frame));
    net.world.run(5);
    const [outer, inner] = [net.outside, net.client].map(
      ({ received }) => received.find(({ icmpType }) => icmpType > 0)!,
    );
    const quoted = ({ payload }: { payload: Uint8Array }) => Buffer.from(payload.subarray(12, 28)).toString("hex");
    const header = (frame: Uint8Array) => Buffer.from(frame.subarray(26, 42)).toString("hex");
    t.deepEqual([outer.source, outer.destination], [PRESENTED, FAR]);
    t.is(quoted(outer), header(udpFrame(swapEnds(out), "answer")));
    t.deepEqual([inner.source, inner.destination], [FARTHER, CLIENT]);
    t.is(quoted(inner), header(packetsOn(net.lan, "client")[0].frame));
  });
}

test("a router in between passes it on", (t) => {
  const net = edgeBehindMiddle(POOL);
  const out = sendOut(net)!;
  t.true(out.source === PRESENTED && isNatPort(out.sourcePort, 40_000));
  t.is(answerTo(net, out)?.destinationPort, 40_000);
  t.true(isNatPort(identifierOf(ping(net, 7)!), 7));
});

test("other processes go on with it, at both routers", (t) => {
  const net = edgeBehindPeer(POOL);
  const out = sendOut(net)!;
  for (const name of ["west", "edge"]) {
    const pieces = [...saveRouter(net.world.routers.get(name)!)].map((piece) => piece.slice());
    const restorer = new RouterRestorer(net.world.restart(name));
    for (const piece of pieces) restorer.take(piece);
    restorer.end();
  }
  t.is(answerTo(net, out)?.destinationPort, 40_000);
  t.is(sourceOf(sendOut(net, { destination: FARTHER })), sourceOf(out));
  const routers = ["west", "edge"].map((name) => net.world.routers.get(name)!);
  t.deepEqual(
    routers.map(({ sessions }) => sessions.table.presented.size),
    [2, 2],
  );
  net.world.skip(200_000);
  for (const router of routers) t.deepEqual([router.sessions.table.presented.size, sessionRows(router).length], [0, 0]);
});

test("the edge's own source NAT comes before what the first router chose", (t) => {
  const net = edgeBehindPeer({ inner: POOL.inner! });
  t.is(sendOut(net)!.source, OUTSIDE);
});

test("RFC 4787 REQ-9: hosts of the first router reach each other at what it has chosen for them", (t) => {
  const net = edgeBehindPeer(POOL);
  const [one, two] = [CLIENT, NEIGHBOR].map((source) => sendOut(net, { source })!);
  const ends = { source: NEIGHBOR, sourcePort: 40_000, destination: PRESENTED, destinationPort: one.sourcePort };
  net.world.send(net.client, udpFrame(ends, "hello"));
  net.world.run(5);
  const there = net.client.received.at(-1)!;
  t.deepEqual([sourceOf(there), there.destination, there.destinationPort], [sourceOf(two), CLIENT, 40_000]);
  net.world.send(net.client, udpFrame(swapEnds(there), "answer"));
  net.world.run(5);
  const back = net.client.received.at(-1)!;
  t.deepEqual([sourceOf(back), back.destination, back.text], [sourceOf(one), NEIGHBOR, "answer"]);
  t.is(sendOut(net, { destination: PRESENTED, destinationPort: 20_000 }), undefined);
  t.deepEqual(dropsOf(net.west), { "nat-unmapped": 1 });
  net.world.skip(200_000);
  t.is(sessionRows(net.west).length, 0);
});
