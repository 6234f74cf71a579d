// Path metrics in the sessions' own packets (attribute 26, protocol sheet 6.4): loss and latency as the wire makes them,
// hosts that notice nothing, and packets in between that stay as they are.

import test from "ava";
import { SeededRandom } from "../../lib/base/random.ts";
import { udpServer } from "./endpoints.ts";
import { udpFrame } from "./packets.ts";
import { fabricText } from "./protection.ts";
import { CLIENT, dropsOf, packetsOn, SERVER, type TwoRouters, twoRouters } from "./topologies.ts";

const ENDS = { source: CLIENT, destination: SERVER, sourcePort: 40000, destinationPort: 7 };
const WATCHED = "bfd: { link-test-length: 0 }\npath-metrics: { marking-count: 20, interval: 1s }\n";
const SIGNED = { fabric: fabricText("sha256-128", "time-based", "metadata", "aes-cbc-256") };

/** `count` datagrams from the client, one each 5 ms; what hosts and wire saw of them. */
function stream(net: TwoRouters, count: number): void {
  for (let n = 0; n < count; n++) {
    net.world.send(net.client, udpFrame(ENDS, `datagram ${n}`));
    net.world.run(5);
  }
}

function opened(options: Parameters<typeof twoRouters>[0]): TwoRouters {
  const net = twoRouters({ extra: WATCHED, ...options });
  if (!net.world.runUntil(() => [net.west, net.east].every(({ sessions }) => sessions.paths[0].up), 5000))
    throw new Error("no path");
  // Until then a first datagram may be an old session's that the peer is about to give back.
  net.world.run(2100);
  return net;
}

for (const [kind, security] of [
  ["in clear", {}],
  ["signed", SIGNED],
] as const) {
  test(`${kind}: loss and latency of each direction follow from what hosts send, and hosts get it as it was`, (t) => {
    const net = opened({ security });
    net.server.onPacket = udpServer(net.world, net.server);
    const random = new SeededRandom(11);
    // BFD is left alone: what is measured is measured by the sessions' packets.
    net.wan.tamper = (frame, packet, from) => {
      if (packet?.destinationPort === 1280) return [{ frame }];
      if (from === "west" && random.below(100) < 20) return [];
      return [{ frame, delayMs: from === "west" ? 30 : 10 }];
    };
    stream(net, 4000);
    net.world.run(2000);
    const { quality } = net.west.sessions.paths[0];
    t.true(Math.abs(quality.lossPercent - 20) < 12, `${quality.lossPercent} % of 20`);
    t.true(Math.abs(quality.latencyMs - 20) < 4, `${quality.latencyMs} ms of half a round trip of 40`);
    t.true(quality.mos < 4.4 && quality.mos > 1);
    const back = net.east.sessions.paths[0].quality;
    const reverse = packetsOn(net.wan, "east").filter(({ metadata }) => metadata.has("path-metrics")).length;
    t.true(back.lossPercent < 2, `${back.lossPercent} % of 0, ${reverse} marked`);
    const sent = packetsOn(net.lan, "client").map(({ text }) => text);
    t.true(net.server.received.length > 2500);
    t.true(net.server.received.every(({ text }) => sent.includes(text)));
    const marked = packetsOn(net.wan, "west").filter(({ metadata }) => metadata.has("path-metrics"));
    t.true(marked.length > 100 && marked.length <= 25 * 20, `${marked.length} marked`);
    for (const router of [net.west, net.east]) t.deepEqual(dropsOf(router), {});
  });
}

test("where nothing goes back, a packet made for it tells of the marks, and no host sees it", (t) => {
  const net = opened({});
  stream(net, 1600);
  net.world.run(2000);
  t.is(net.server.received.length, 1600);
  t.deepEqual(net.client.received, []);
  const told = packetsOn(net.wan, "east").filter(({ metadata }) => metadata.has("path-metrics"));
  t.true(told.length >= 4, `${told.length}`);
  t.is(net.west.sessions.paths[0].quality.lossPercent, 0);
});

test("with the traffic gone what it told is forgotten", (t) => {
  const net = opened({});
  net.server.onPacket = udpServer(net.world, net.server);
  stream(net, 1000);
  t.is(net.west.sessions.paths[0].quality.lossPercent, 0);
  net.world.skip(10_000, 50);
  t.true(Number.isNaN(net.west.sessions.paths[0].quality.lossPercent));
});

test("a peer that sends marks where none are wanted is heard and not answered", (t) => {
  const net = opened({});
  net.server.onPacket = udpServer(net.world, net.server);
  for (const path of net.east.sessions.paths) path.metrics = null;
  stream(net, 600);
  t.is(net.server.received.length, 600);
  t.is(net.client.received.length, 600);
  t.true(packetsOn(net.wan, "east").every(({ metadata }) => !metadata.has("path-metrics")));
  t.deepEqual(dropsOf(net.east), {});
});
