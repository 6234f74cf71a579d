// Routers with several workers: every session lives with one of them, whole and in order, whatever the peer is.

import test, { type ExecutionContext } from "ava";
import { SeededRandom } from "../../lib/base/random.ts";
import { parseAddress } from "../../lib/control/address-text.ts";
import { ACK, SYN } from "../../lib/wire/tcp.ts";
import { unaccounted } from "../fuzz/fuzzed.ts";
import { TcpClient, tcpServer, udpServer } from "./endpoints.ts";
import { concat, type Ends, echoFrame, type SeenPacket, swapEnds, tcpFrame, udpFrame } from "./packets.ts";
import { ENDS, forwardMetadata, HEALTH_CHECK, TO_EAST, UUID } from "./peer.ts";
import type { SplitRouter } from "./split.ts";
import { CLIENT, eastAlone, packetsOn, SERVER, threeRouters, twoRouters, westAlone } from "./topologies.ts";
import type { World } from "./world.ts";

const seed = Number(process.env.WAYMARK_SEED ?? 20_261_122);

/** Every frame that a worker took is accounted for, no stray is under way, and nothing was dropped. */
function assertNothingLost(t: ExecutionContext, world: World, ...routers: SplitRouter[]): void {
  for (const router of routers) {
    t.deepEqual(router.drops(), {}, world.diagram().slice(-4000));
    t.is(router.count("strays.sent"), router.count("strays.received"));
    for (const { counters } of router.workers) t.is(unaccounted(counters.publish(true)), 0);
  }
}

/** Numbered datagrams of many sessions, sent in bursts by the client and echoed by the server. Returns how many of each. */
function talk(
  world: World,
  client: Host,
  server: Host,
  sessions: number,
  rounds: number,
  random: SeededRandom,
): number[] {
  server.onPacket = udpServer(world, server);
  const next = new Array<number>(sessions).fill(0);
  const send = (session: number) => {
    const ends = { source: CLIENT, destination: SERVER, sourcePort: 30_000 + session, destinationPort: 7 };
    world.send(client, udpFrame(ends, `${session} ${next[session]++}`));
  };
  // One by one until every worker knows its neighbors: only so many frames may wait for one.
  for (let session = 0; session < sessions; session++) {
    send(session);
    world.run(2);
  }
  for (let round = 0; round < rounds; round++) {
    for (let n = 0; n < 12; n++) {
      const session = random.below(sessions);
      for (let burst = 1 + random.below(3); burst > 0; burst--) send(session);
    }
    world.run(1 + random.below(3));
  }
  world.run(20);
  return next;
}
type Host = ReturnType<typeof twoRouters>["client"];

/** Each session's datagrams arrived at `packets`, all of them, once, in order. */
function assertInOrder(t: ExecutionContext, packets: readonly SeenPacket[], sent: readonly number[]): void {
  const seen = new Map<number, number>();
  for (const { text } of packets.filter(({ protocol, payload }) => protocol === 17 && payload.length > 0)) {
    const [session, number] = text.split(" ").map(Number);
    if (number !== (seen.get(session) ?? 0)) t.fail(`session ${session}: ${number} after ${seen.get(session) ?? 0}`);
    seen.set(session, number + 1);
  }
  for (const [session, count] of sent.entries()) t.is(seen.get(session) ?? 0, count, `session ${session}`);
}

for (const [westWorkers, eastWorkers] of [
  [2, 2],
  [1, 2],
  [3, 2],
  [5, 1],
  [64, 3],
] as const) {
  test.serial(
    `${westWorkers} workers and ${eastWorkers}: sessions stay whole and in order, and no frame changes hands`,
    (t) => {
      const net = twoRouters({ seed, limits: { waypointPairs: 8192 } });
      const west = net.world.split("west", westWorkers);
      const east = net.world.split("east", eastWorkers);
      const sent = talk(net.world, net.client, net.server, 60, 60, new SeededRandom(seed));
      assertInOrder(t, net.server.received, sent);
      assertInOrder(t, net.client.received, sent);
      assertNothingLost(t, net.world, west, east);
      for (const router of [west, east]) {
        t.is(router.count("strays.sent"), 0);
        const busy = router.workers.filter(({ sessions }) => sessions.table.count > 0).length;
        t.true(
          busy >= Math.min(router.workers.length, 20),
          `${busy} of ${router.workers.length} workers have sessions`,
        );
        const total = router.workers.reduce((sum, { sessions }) => sum + sessions.table.count, 0);
        t.is(total, 60);
      }
    },
  );
}

test.serial("a chain of three routers with different numbers of workers hands nothing over", (t) => {
  const net = threeRouters({ seed });
  const routers = [net.world.split("west", 2), net.world.split("middle", 3), net.world.split("east", 4)];
  const sent = talk(net.world, net.client, net.server, 40, 40, new SeededRandom(seed));
  assertInOrder(t, net.server.received, sent);
  assertInOrder(t, net.client.received, sent);
  assertNothingLost(t, net.world, ...routers);
  for (const router of routers) t.is(router.count("strays.sent"), 0);
});

test.serial("TCP conversations and pings run through routers with workers", (t) => {
  const net = twoRouters({ seed });
  const [west, east] = [net.world.split("west", 2), net.world.split("east", 3)];
  const serve = tcpServer(net.world, net.server);
  net.server.onPacket = (packet) => {
    if (packet.icmpType === 8)
      net.world.send(net.server, echoFrame(SERVER, CLIENT, 77, packet.sequence, packet.payload, true));
    else serve(packet);
  };
  const clients: TcpClient[] = [];
  net.client.onPacket = (packet) => {
    for (const client of clients) client.receive(packet);
  };
  for (let n = 0; n < 20; n++) {
    const ends = { source: CLIENT, destination: SERVER, sourcePort: 41_000 + n, destinationPort: 80 };
    clients.push(new TcpClient(net.world, net.client, ends, ["hello", "again"]));
    net.world.run(2);
  }
  for (let n = 0; n < 3; n++) net.world.send(net.client, echoFrame(CLIENT, SERVER, 77, n, "0123456789"));
  net.world.run(20);
  t.true(
    net.world.runUntil(() => clients.every(({ state }) => state === "closed"), 5000),
    net.world.diagram().slice(-4000),
  );
  for (const { answers } of clients) t.deepEqual(answers, ["HELLO", "AGAIN"]);
  t.is(net.client.received.filter(({ icmpType }) => icmpType === 0).length, 3);
  t.is(net.client.received.filter(({ tcpFlags }) => (tcpFlags & 4) !== 0).length, 0, "no reset");
  assertNothingLost(t, net.world, west, east);
});

test.serial("when a shard's port pairs are used up others serve, and the peer hands those over", (t) => {
  // 128 pairs are two a shard; every session of this client has the same shard.
  const net = twoRouters({ seed, limits: { waypointPairs: 128 } });
  const [west, east] = [net.world.split("west", 2), net.world.split("east", 3)];
  net.server.onPacket = udpServer(net.world, net.server);
  const port = 40_000;
  for (let n = 0; n < 6; n++) {
    const ends = { source: CLIENT, destination: SERVER, sourcePort: port + n, destinationPort: 7000 - n };
    for (let k = 0; k < 3; k++) net.world.send(net.client, udpFrame(ends, `${n} ${k}`));
    net.world.run(2);
  }
  for (let n = 0; n < 6; n++) {
    const texts = [0, 1, 2].map((k) => `${n} ${k}`);
    t.deepEqual(
      net.server.received.map(({ text }) => text).filter((text) => text.startsWith(`${n} `)),
      texts,
    );
    t.deepEqual(
      net.client.received.map(({ text }) => text).filter((text) => text.startsWith(`${n} `)),
      texts,
    );
  }
  t.is(west.count("strays.sent"), 0, "the pairs are this worker's all the same");
  t.true(east.count("strays.sent") > 0);
  assertNothingLost(t, net.world, west, east);
});

for (const workers of [2, 3, 7]) {
  test.serial(
    `a peer that picks ports as it likes is served by ${workers} workers: every packet in order, handed over where need be`,
    (t) => {
      const net = eastAlone();
      const east = net.world.split("east", workers);
      const random = new SeededRandom(seed);
      const sessions = Array.from({ length: 24 }, (_, n) => {
        const ends: Ends = { source: CLIENT, destination: SERVER, sourcePort: 50_000 + n, destinationPort: 7 };
        const ports = { sourcePort: 1024 + random.below(60_000), destinationPort: 1024 + n };
        return { ends, waypoint: { ...TO_EAST, ...ports }, uuid: UUID.slice(0, -2) + (16 + n).toString(16), next: 0 };
      });
      const forward = (session: (typeof sessions)[number], withMetadata: boolean) => {
        const text = `${session.ends.sourcePort} ${session.next++}`;
        const metadata = forwardMetadata({ ends: session.ends, uuid: session.uuid });
        net.world.send(net.peer, udpFrame(session.waypoint, withMetadata ? concat(metadata, text) : text));
      };
      // The first packets with metadata, the next ones bare, all in one burst.
      for (const session of sessions) {
        for (let n = 0; n < 6; n++) forward(session, n < 2);
        net.world.run(1);
      }
      for (let round = 0; round < 40; round++) {
        for (let n = 0; n < 10; n++) forward(sessions[random.below(sessions.length)], false);
        net.world.run(1);
      }
      for (const { ends, next } of sessions) {
        const texts = net.server.received
          .filter(({ sourcePort }) => sourcePort === ends.sourcePort)
          .map(({ text }) => text);
        t.deepEqual(
          texts,
          Array.from({ length: next }, (_, n) => `${ends.sourcePort} ${n}`),
        );
        net.world.send(net.server, udpFrame(swapEnds(ends), `reply ${ends.sourcePort}`));
        net.world.run(1);
      }
      const replies = packetsOn(net.wan, "east").filter(({ text }) => text.startsWith("reply"));
      for (const { ends, waypoint } of sessions) {
        const reply = replies.find(({ text }) => text === `reply ${ends.sourcePort}`)!;
        t.deepEqual([reply.sourcePort, reply.destinationPort], [waypoint.destinationPort, waypoint.sourcePort]);
      }
      t.true(east.count("strays.sent") > 0);
      assertNothingLost(t, net.world, east);
    },
  );
}

test.serial("a packet of a session nobody knows goes round once and is dropped where it came in", (t) => {
  const net = eastAlone();
  const east = net.world.split("east", 3);
  net.world.send(net.peer, udpFrame(TO_EAST, "bare"));
  net.world.run(2);
  t.deepEqual(east.drops(), { "unknown-session": 1 });
  t.is(east.count("strays.sent"), 3);
  net.world.send(net.peer, udpFrame(TO_EAST, concat(HEALTH_CHECK, "asked")));
  net.world.run(2);
  t.is(packetsOn(net.wan, "east").filter(({ metadata }) => metadata.get("control") === 2).length, 1, "asked once");
});

test.serial("a peer that begins a new session on a session's ports takes them over, also from another worker", (t) => {
  const net = eastAlone();
  const east = net.world.split("east", 4);
  for (let n = 0; n < 12; n++) {
    const ends: Ends = { source: CLIENT, destination: SERVER, sourcePort: 50_000 + n, destinationPort: 7 };
    const uuid = UUID.slice(0, -2) + (16 + n).toString(16);
    net.world.send(net.peer, udpFrame(TO_EAST, concat(forwardMetadata({ ends, uuid }), `lead ${n}`)));
    net.world.send(net.peer, udpFrame(TO_EAST, `bare ${n}`));
    net.world.run(2);
    const received = net.server.received.filter(({ sourcePort }) => sourcePort === ends.sourcePort);
    t.deepEqual(
      received.map(({ text }) => text),
      [`lead ${n}`, `bare ${n}`],
    );
  }
  assertNothingLost(t, net.world, east);
});

test.serial("under destination NAT a session is where the server's replies come", (t) => {
  const net = twoRouters({ seed, eastRoute: `interface: lan0, target: 10.2.0.2:7070` });
  const [west, east] = [net.world.split("west", 2), net.world.split("east", 3)];
  net.server.onPacket = udpServer(net.world, net.server);
  const sent = new Array<number>(20).fill(3);
  for (let n = 0; n < 20; n++) {
    const ends = { source: CLIENT, destination: "10.2.0.99", sourcePort: 40_000 + n, destinationPort: 53 };
    for (let k = 0; k < 3; k++) net.world.send(net.client, udpFrame(ends, `${n} ${k}`));
    net.world.run(2);
  }
  t.true(net.server.received.every(({ destinationPort }) => destinationPort === 7070));
  t.true(net.client.received.every(({ source, sourcePort }) => source === "10.2.0.99" && sourcePort === 53));
  assertInOrder(t, net.server.received, sent);
  assertInOrder(t, net.client.received, sent);
  t.true(east.count("strays.sent") > 0);
  assertNothingLost(t, net.world, west, east);
});

test.serial("every worker finds the same server for a source, and a full one refuses new sessions only", (t) => {
  const server = (port: number) => `interface: lan0, target: 10.2.0.2:${port}, max-sessions: 12`;
  const net = twoRouters({ seed, eastRoute: `${server(7070)} }\n  - { service: app, ${server(7071)}` });
  const east = net.world.split("east", 3);
  net.server.onPacket = udpServer(net.world, net.server);
  for (let k = 0; k < 3; k++) {
    for (let n = 0; n < 30; n++) {
      const ends = { source: CLIENT, destination: "10.2.0.99", sourcePort: 40_000 + n, destinationPort: 53 };
      net.world.send(net.client, udpFrame(ends, `${n} ${k}`));
      net.world.run(2);
    }
  }
  t.is(new Set(net.server.received.map(({ destinationPort }) => destinationPort)).size, 1, "one client, one server");
  const served = net.server.received.reduce(
    (sessions, { sourcePort }) => sessions.set(sourcePort, (sessions.get(sourcePort) ?? 0) + 1),
    new Map<number, number>(),
  );
  t.deepEqual([...served.values()], new Array(served.size).fill(3), "whole, or not at all");
  // Each worker has a third of the limit.
  t.true(served.size <= 12 && served.size >= 4, String(served.size));
  t.deepEqual(east.drops(), { "route-session-limit": 3 * (30 - served.size) });
});

test.serial("every worker learns its neighbors from the ARP messages that the first one gets", (t) => {
  const net = twoRouters({ seed });
  const west = net.world.split("west", 4);
  talk(net.world, net.client, net.server, 30, 10, new SeededRandom(seed));
  for (const { sessions } of west.workers) {
    for (const [interfaceId, address] of [
      [0, CLIENT],
      [1, "198.18.0.2"],
    ] as const) {
      const row = sessions.neighbors.find(interfaceId, parseAddress(address));
      t.is(sessions.neighbors.usable[row], 1, address);
    }
  }
  const answered = west.count("arp.replies-sent");
  t.is(
    answered,
    packetsAsked(net.lan, "10.1.0.1") + packetsAsked(net.wan, "198.18.0.1"),
    "each request is answered once",
  );
});

/** ARP requests for an address that were put on a link. */
function packetsAsked(link: ReturnType<typeof twoRouters>["lan"], address: string): number {
  const wanted = parseAddress(address);
  return link.seen.filter(({ frame }) => {
    const view = new DataView(frame.buffer, frame.byteOffset);
    return view.getUint16(12) === 0x0806 && view.getUint16(20) === 1 && view.getInt32(38) === wanted;
  }).length;
}

test.serial("a full ring costs the frames that do not fit, counted, and nothing else", (t) => {
  const net = eastAlone();
  const east = net.world.split("east", 2, 1024);
  net.world.send(net.peer, udpFrame(TO_EAST, "the peer asks for a MAC address"));
  net.world.run(2);
  // A burst of bare packets of no session: each must go round.
  for (let n = 0; n < 60; n++)
    net.world.send(net.peer, udpFrame({ ...TO_EAST, sourcePort: 16384 }, `bare ${n}`.padEnd(200)));
  net.world.run(5);
  const { "stray-ring-full": full = 0, "unknown-session": unknown = 0 } = east.drops();
  t.true(full > 0);
  t.is(full + unknown, 61);
  for (const { counters } of east.workers) t.is(unaccounted(counters.publish(true)), 0);
});

test.serial("a mid-flow segment of an unknown TCP session is reset once, by the worker it belongs to", (t) => {
  const net = westAlone();
  const west = net.world.split("west", 3);
  for (let n = 0; n < 6; n++)
    net.world.send(
      net.client,
      tcpFrame({ ...ENDS, sourcePort: 40_000 + n }, { flags: ACK, sequence: 1, acknowledgment: 1 }, "x"),
    );
  net.world.run(2);
  t.is(net.client.received.length, 6);
  t.deepEqual(west.drops(), { "tcp-mid-flow": 6 });
  net.world.send(net.client, tcpFrame(ENDS, { flags: SYN, sequence: 1, acknowledgment: 0 }));
  net.world.run(2);
  t.is(
    west.workers.reduce((sum, { sessions }) => sum + sessions.table.count, 0),
    1,
  );
});
