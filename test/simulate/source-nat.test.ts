// Source NAT where sessions leave: which address and port they get, for how long, and what becomes of what comes back.

import test from "ava";
import { readCounters } from "../../lib/control/metrics.ts";
import { parsePacket } from "../../lib/control/packet-text.ts";
import { RouterRestorer, saveRouter } from "../../lib/control/router-state.ts";
import { snapshot } from "../../lib/control/snapshot.ts";
import { explainPacket } from "../../lib/offline-router.ts";
import { TcpClient, tcpServer } from "./endpoints.ts";
import {
  answerTo,
  edgeAlone,
  edgeBehindPeer,
  FAR,
  FARTHER,
  identifierOf,
  isNatPort,
  mappings,
  type NatNet,
  type NatOptions,
  NEIGHBOR,
  OUTSIDE,
  overlapping,
  ping,
  sendOut,
  sourceOf,
} from "./nat-edges.ts";
import { echoFrame, pattern, protocolFrame } from "./packets.ts";
import { SIGNED } from "./protection.ts";
import { CLIENT, dropsOf, packetsOn } from "./topologies.ts";

const NETS: [string, (options?: NatOptions) => NatNet][] = [
  ["one router", edgeAlone],
  ["behind a peer", edgeBehindPeer],
  ["behind a peer, signed", (options) => edgeBehindPeer({ ...options, security: SIGNED })],
];

for (const [name, make] of NETS) {
  test(`${name}: a datagram leaves with the edge's address, and its answer comes back to the host`, (t) => {
    const net = make();
    const out = sendOut(net)!;
    t.deepEqual([out.source, out.destination, out.checksumsRight], [OUTSIDE, FAR, true]);
    t.true(isNatPort(out.sourcePort, 40_000));
    const back = answerTo(net, out)!;
    t.deepEqual([back.source, back.sourcePort, back.destination, back.destinationPort], [FAR, 53, CLIENT, 40_000]);
    t.true(back.checksumsRight);
    // And by the fast path.
    for (let n = 0; n < 3; n++) {
      const again = sendOut(net)!;
      t.deepEqual([sourceOf(again), again.checksumsRight, again.text], [sourceOf(out), true, "question"]);
      t.true(answerTo(net, again)!.checksumsRight);
    }
    t.is(net.edge.sessions.table.count, 1);
    t.deepEqual(dropsOf(net.edge), {});
  });

  test(`${name}: TCP carries a conversation, and its end frees the port`, (t) => {
    const net = make();
    const ends = { source: CLIENT, destination: FAR, sourcePort: 40_001, destinationPort: 80 };
    const tcp = new TcpClient(net.world, net.client, ends, ["one", "two", "three"]);
    net.client.onPacket = (packet) => tcp.receive(packet);
    net.outside.onPacket = tcpServer(net.world, net.outside);
    t.true(net.world.runUntil(() => tcp.state === "closed", 3000));
    t.deepEqual(tcp.answers, ["ONE", "TWO", "THREE"]);
    const seen = packetsOn(net.out, "edge");
    t.true(seen.every(({ checksumsRight }) => checksumsRight));
    t.is(new Set(seen.map(sourceOf)).size, 1);
    t.true(seen[0].source === OUTSIDE && isNatPort(seen[0].sourcePort, 40_001));
    t.is(mappings(net.edge), 1);
    net.world.skip(250_000);
    t.is(mappings(net.edge), 0);
    t.deepEqual(dropsOf(net.edge), {});
  });

  test(`${name}: a ping leaves with another identifier, and its reply comes back with the host's`, (t) => {
    const net = make();
    const identifiers = new Set<number>();
    for (const sequence of [1, 2, 3]) {
      const out = ping(net, 77, sequence)!;
      t.deepEqual([out.source, isNatPort(identifierOf(out), 77), out.checksumsRight], [OUTSIDE, true, true]);
      identifiers.add(identifierOf(out));
      net.world.send(net.outside, echoFrame(FAR, OUTSIDE, identifierOf(out), sequence, "ping", true));
      net.world.run(5);
      const back = net.client.received.at(-1)!;
      t.deepEqual([back.source, back.destination, identifierOf(back)], [FAR, CLIENT, 77]);
      t.true(back.checksumsRight);
    }
    t.is(identifiers.size, 1);
    t.deepEqual(dropsOf(net.edge), {});
  });

  test(`${name}: GRE leaves with the address alone`, (t) => {
    const net = make();
    net.world.send(net.client, protocolFrame(CLIENT, FAR, 47, pattern(40)));
    net.world.run(5);
    t.deepEqual([net.outside.received[0].source, net.outside.received[0].protocol], [OUTSIDE, 47]);
    net.world.send(net.outside, protocolFrame(FAR, OUTSIDE, 47, pattern(40)));
    net.world.run(5);
    t.deepEqual([net.client.received[0].source, net.client.received[0].destination], [FAR, CLIENT]);
    t.is(mappings(net.edge), 0);
  });

  test(`${name}: another process goes on with sessions and their ports`, (t) => {
    const net = make();
    const out = sendOut(net)!;
    const other = sendOut(net, { sourcePort: 40_001 })!;
    const pieces = [...saveRouter(net.edge)].map((piece) => piece.slice());
    const edge = net.world.restart("edge");
    const restorer = new RouterRestorer(edge);
    for (const piece of pieces) restorer.take(piece);
    restorer.end();
    t.is(mappings(edge), 2);
    t.is(answerTo(net, out)!.destinationPort, 40_000);
    t.is(answerTo(net, other)!.destinationPort, 40_001);
    // The same port to another destination, and a fresh one to another host.
    t.is(sourceOf(sendOut(net, { destination: FARTHER })), sourceOf(out));
    const fresh = sourceOf(sendOut(net, { source: NEIGHBOR }));
    t.false([sourceOf(out), sourceOf(other)].includes(fresh));
    net.world.skip(400_000);
    t.deepEqual([mappings(edge), edge.sessions.table.count], [0, 0]);
  });
}

test("networks that overlap behind one edge: the same client 5-tuple twice gets two ports, and each its own answers", (t) => {
  const net = overlapping();
  const one = sendOut(net)!;
  const two = sendOut(net, { from: net.other })!;
  t.deepEqual([one.source, two.source], [OUTSIDE, OUTSIDE]);
  t.not(one.sourcePort, two.sourcePort);
  t.is(answerTo(net, one, "first")!.text, "first");
  t.is(answerTo(net, two, "second", net.other)!.text, "second");
  t.deepEqual([net.client.received.length, net.other.received.length], [1, 1]);
  t.deepEqual(dropsOf(net.edge), {});
});

test("tenants that overlap on two interfaces of one router", (t) => {
  const net = edgeAlone();
  const inside = { address: 1, port: 2, protocol: 17, pool: 0, origin: -1 };
  const { table } = net.edge.sessions.nat!;
  const rows = [0, 1].map((tenant) => table.add({ ...inside, tenant }, table.addresses[0], 0));
  t.not(table.outsidePort(rows[0]), table.outsidePort(rows[1]));
});

test("each host has one address of a pool", (t) => {
  const net = edgeAlone({ nat: "source-nat-pool: [192.0.2.16/29, 192.0.2.77]" });
  const sources = new Set<string>();
  for (let host = 2; host < 40; host++) {
    const of = [0, 1, 2].map((n) => sendOut(net, { source: `10.1.0.${host}`, sourcePort: 40_000 + n })!.source);
    t.is(new Set(of).size, 1);
    sources.add(of[0]);
  }
  t.true(sources.size >= 6);
  for (const source of sources) t.regex(source, /^192\.0\.2\.(1[6-9]|2[0-3]|77)$/);
});

test("ARP finds the edge at an address of a pool on its network", (t) => {
  const nat = "source-nat-pool: [192.0.2.77]";
  const net = edgeAlone({ nat, asksFor: "192.0.2.77" });
  t.is(answerTo(net, sendOut(net)!)?.destinationPort, 40_000);
  const other = edgeAlone({ nat, asksFor: "192.0.2.78" });
  t.is(answerTo(other, sendOut(other)!), undefined);
});

test("explain has the source as it leaves", (t) => {
  const { config } = edgeAlone().edge;
  const packet = parsePacket(`udp ${CLIENT}:40000 > ${FAR}:53`);
  const { steps, verdict } = explainPacket(config, { interface: "lan0", packet });
  t.is(verdict, "forwarded");
  const outcome = steps.find(({ step }) => step === "source-nat")!.outcome;
  t.regex(outcome, /^192\.0\.2\.1:\d{5}$/);
  const sent = steps.find(({ step }) => step === "send")!.reason;
  t.true([outcome, outcome.replace(":", ".")].some((source) => sent.includes(source)));
});

test("counters have the ports in use", (t) => {
  const net = edgeAlone();
  sendOut(net);
  ping(net, 5);
  const counters = readCounters(net.edge);
  t.deepEqual([counters["source-nat.mappings"], counters[`source-nat.${OUTSIDE}.ports`]], [2, 2]);
});

test("show sessions has the source as it leaves", (t) => {
  const net = edgeAlone();
  const out = sendOut(net);
  const { sessions } = snapshot(net.edge, "sessions") as { sessions: { source: string; sourceNat: string | null }[] };
  t.deepEqual(
    sessions.map(({ source, sourceNat }) => [source, sourceNat]),
    [[`${CLIENT}:40000`, sourceOf(out)!]],
  );
});
