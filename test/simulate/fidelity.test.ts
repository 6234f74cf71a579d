// What routers hand on as it was: bytes behind a datagram, protocols without ports, type of service. And how much of
// what they say themselves they say: stop messages, resets, ICMP errors.

import test, { type ExecutionContext } from "ava";
import { getU16, setU16 } from "../../lib/base/bytes.ts";
import { ETHERTYPE_IPV4 } from "../../lib/wire/flow-key.ts";
import { ACK } from "../../lib/wire/tcp.ts";
import {
  COOKIE,
  concat,
  echoFrame,
  metadataOf,
  pattern,
  protocolFrame,
  type SeenPacket,
  seePacket,
  swapEnds,
  tcpFrame,
  udpFrame,
  withHeader,
} from "./packets.ts";
import { ENDS, forwardMetadata, TO_EAST } from "./peer.ts";
import {
  CLIENT,
  dropsOf,
  eastAlone,
  packetsOn,
  routerYaml,
  SERVER,
  sessionRows,
  type TwoRouters,
  threeRouters,
  twoRouters,
} from "./topologies.ts";
import { World } from "./world.ts";

const REPLY = swapEnds(ENDS);
const UDP_LENGTH_AT = 38;

/** The frame with bytes behind what its UDP length counts (RFC 9868). */
function withSurplus(frame: Uint8Array, surplus: Uint8Array): Uint8Array {
  return withHeader(concat(frame, surplus), (longer, l3) => setU16(longer, l3 + 2, longer.length - l3));
}

/** The datagram alone: what a host that knows of no surplus receives. */
function datagramOf({ frame }: SeenPacket): SeenPacket {
  const l3 = 14;
  const length = 34 + getU16(frame, UDP_LENGTH_AT);
  return seePacket(withHeader(frame.slice(0, length), (shorter) => setU16(shorter, l3 + 2, length - l3)))!;
}

function assertDatagrams(t: ExecutionContext, received: SeenPacket[], payloads: Uint8Array[]): void {
  t.deepEqual(
    received.map((packet) => datagramOf(packet).payload),
    payloads,
  );
  for (const packet of received) t.true(packet.ipChecksumRight && datagramOf(packet).l4ChecksumRight);
}

for (const [name, build] of [
  ["two routers", twoRouters],
  ["a chain of three", threeRouters],
] as const) {
  for (const [kind, surplus] of [
    ["some bytes", pattern(13, 200)],
    ["what looks like metadata", forwardMetadata()],
  ] as const) {
    test(`a datagram with ${kind} behind its UDP length passes ${name} byte-exact, with metadata and bare`, (t) => {
      for (const length of [0, 3, 4, 100]) {
        const net: TwoRouters = build();
        const payloads = [0, 1, 2].map((n) => pattern(length, n));
        for (const payload of payloads) {
          net.world.send(net.client, withSurplus(udpFrame(ENDS, payload), surplus));
          net.world.run(3);
          net.world.send(net.server, withSurplus(udpFrame(REPLY, payload), surplus));
          net.world.run(3);
        }
        for (const { received } of [net.server, net.client]) {
          assertDatagrams(t, received, payloads);
          for (const { frame } of received)
            t.deepEqual(frame.slice(34 + getU16(frame, UDP_LENGTH_AT)), surplus, `${length}`);
        }
        for (const router of net.world.routers.values()) t.deepEqual(dropsOf(router), {});
      }
    });
  }

  test(`a datagram with bytes behind its UDP length that becomes fabric fragments arrives right through ${name}`, (t) => {
    for (const [length, more] of [
      [1400, 60],
      [1460, 12],
      [900, 560],
    ]) {
      const net: TwoRouters = build();
      const payloads = [0, 1, 2].map((n) => pattern(length, n));
      for (const payload of payloads) {
        net.world.send(net.client, withSurplus(udpFrame(ENDS, payload), pattern(more, 200)));
        net.world.run(5);
        net.world.send(net.server, withSurplus(udpFrame(REPLY, payload), pattern(more, 200)));
        net.world.run(5);
      }
      assertDatagrams(t, net.server.received, payloads);
      assertDatagrams(t, net.client.received, payloads);
      t.true(packetsOn(net.wan).every(({ ipLength }) => ipLength <= 1500));
      t.true(packetsOn(net.wan).some(({ metadata }) => metadata.has("fragment")));
      for (const router of net.world.routers.values()) t.deepEqual(dropsOf(router), {});
    }
  });

  for (const [protocol, number] of [
    ["GRE", 47],
    ["ESP", 50],
  ] as const) {
    test(`${protocol} runs through ${name} both ways, carried in UDP, and lives 180 s`, (t) => {
      const net: TwoRouters = build();
      const sent = [pattern(100), pattern(1480, 5), pattern(1, 9), pattern(61, 3)];
      for (const payload of sent) {
        net.world.send(net.client, protocolFrame(CLIENT, SERVER, number, payload));
        net.world.run(5);
        net.world.send(net.server, protocolFrame(SERVER, CLIENT, number, payload));
        net.world.run(5);
      }
      for (const { received } of [net.server, net.client]) {
        t.deepEqual(
          received
            .filter((packet) => packet.protocol !== 1)
            .map((packet) => [packet.protocol, packet.payload, packet.ipChecksumRight]),
          sent.map((payload) => [number, payload, true]),
        );
      }
      t.true(packetsOn(net.wan).every((packet) => packet.protocol === 17 && packet.checksumsRight));
      t.true(packetsOn(net.wan).every(({ ipLength }) => ipLength <= 1500));
      net.world.skip(179_000);
      t.deepEqual(
        [...net.world.routers.values()].map((router) => sessionRows(router).length),
        Array(net.world.routers.size).fill(1),
      );
      net.world.skip(2_000);
      t.deepEqual(
        [...net.world.routers.values()].map((router) => sessionRows(router).length),
        Array(net.world.routers.size).fill(0),
      );
    });
  }

  test(`type of service and congestion marks pass ${name} unchanged, on every hop and on every fragment`, (t) => {
    const net: TwoRouters = build();
    const TOS = 0xb9; // expedited forwarding, ECT(1)
    const marked = (frame: Uint8Array) => withHeader(frame, (bytes, l3) => (bytes[l3 + 1] = TOS));
    const echo = () => echoFrame(CLIENT, SERVER, 77, 1, "ping");
    for (const frame of [udpFrame(ENDS, pattern(1472)), udpFrame(ENDS, "second"), echo()]) {
      net.world.send(net.client, marked(frame));
      net.world.run(5);
    }
    net.world.send(net.server, marked(udpFrame(REPLY, "reply")));
    net.world.run(5);
    net.world.send(net.client, marked(udpFrame(ENDS, "bare")));
    net.world.run(5);
    t.deepEqual([net.server.received.length, net.client.received.length], [4, 1]);
    for (const link of net.world.links.values()) {
      t.true(packetsOn(link).length >= 5);
      for (const { frame, ipChecksumRight } of packetsOn(link)) {
        t.is(frame[15], TOS, link.name);
        t.true(ipChecksumRight);
      }
    }
  });
}

test("bytes behind the UDP length of a peer's packet are no part of its metadata, of a fragment or of a cookie", (t) => {
  const net = eastAlone();
  const send = (payload: Uint8Array | string, surplus: Uint8Array) => {
    net.world.send(net.peer, withSurplus(udpFrame(TO_EAST, payload), surplus));
    net.world.run(2);
  };
  const metadata = forwardMetadata();
  send(metadata.slice(0, -4), metadata.slice(-4));
  t.deepEqual(dropsOf(net.east), { "metadata-malformed": 1 });
  const whole = concat(metadata, "whole");
  const piece = { extendedId: 1, originalId: 1, dontFragment: false, largestSeen: 0 };
  send(concat(metadataOf([1, { ...piece, moreFragments: true, offset: 0 }]), whole.slice(0, 64)), pattern(24));
  send(concat(metadataOf([1, { ...piece, moreFragments: false, offset: 64 }]), whole.slice(64)), pattern(24));
  assertDatagrams(t, net.server.received, [concat("whole")]);
  for (const at of [0, 4, 7]) send(COOKIE.slice(0, at), concat(COOKIE.slice(at), "no lengths that add up"));
  assertDatagrams(
    t,
    net.server.received.slice(1),
    [0, 4, 7].map((at) => COOKIE.slice(0, at)),
  );
  t.deepEqual(dropsOf(net.east), { "metadata-malformed": 1 });
});

// What routers say themselves

test("two hundred sessions in which only the server sends have all stopped their metadata within two seconds", (t) => {
  const COUNT = 200;
  const net = twoRouters({ limits: { others: ", slow-path-per-turn: 128" } });
  const ends = (n: number) => ({ ...ENDS, sourcePort: 20000 + n });
  const inTurns = (send: (n: number) => void) => {
    for (let n = 0; n < COUNT; n++) {
      send(n);
      if (n % 4 === 3) net.world.run(1);
    }
  };
  inTurns((n) => net.world.send(net.client, udpFrame(ends(n), "subscribe")));
  for (let round = 0; round < 50; round++)
    inTurns((n) => net.world.send(net.server, udpFrame(swapEnds(ends(n)), "news")));
  t.is(net.client.received.length, COUNT * 50);
  const begun = net.wan.seen.find(({ from, packet }) => from === "east" && packet !== undefined)!.atMs;
  const last = net.wan.seen.findLast(({ from, packet }) => from === "east" && packet?.hasMetadata === true)!;
  t.true(last.atMs - begun <= 2000, `${last.atMs - begun}`);
  const stops = packetsOn(net.wan, "west").filter(({ metadata }) => metadata.get("control") === 3);
  t.is(new Set(stops.map(({ sourcePort }) => sourcePort)).size, COUNT);
  t.is(stops.length, COUNT, "one each");
});

test("a single request and its answer make no router say more", (t) => {
  const net = twoRouters();
  net.world.send(net.client, udpFrame(ENDS, "request"));
  net.world.run(2);
  net.world.send(net.server, udpFrame(REPLY, "answer"));
  net.world.run(10_000);
  t.is(packetsOn(net.wan).length, 2, net.world.diagram());
});

for (const [name, frame, type] of [
  [
    "resets",
    (n: number) => tcpFrame({ ...ENDS, sourcePort: 1000 + n }, { flags: ACK, sequence: 1, acknowledgment: 1 }),
    6,
  ],
  ["ICMP errors", (n: number) => udpFrame({ ...ENDS, sourcePort: 1000 + n }, "x", 1), 1],
] as const) {
  test(`a router sends a thousand ${name} per second and no more`, (t) => {
    const net = twoRouters();
    const answers = () =>
      net.lan.seen.filter(
        ({ from, frame: seen }) => from === "west" && getU16(seen, 12) === ETHERTYPE_IPV4 && seen[23] === type,
      ).length;
    let asked = 0;
    const ask = (count: number) => {
      for (const until = asked + count; asked < until; ) {
        net.world.send(net.client, frame(asked));
        if (++asked % 20 === 0) net.world.run(1);
      }
    };
    ask(1200);
    t.is(answers(), 1000);
    net.world.run(1000);
    ask(100);
    t.is(answers(), 1100);
    t.deepEqual(packetsOn(net.wan), []);
  });
}

// Paths, and what each peer has for itself

test("while its only path is down what would leave by it is dropped as path-down, what still comes in goes on, and afterwards all of it", (t) => {
  const net = twoRouters();
  const { sessions } = net.west;
  const exchange = (text: string) => {
    net.world.send(net.client, udpFrame(ENDS, text));
    net.world.run(2);
    net.world.send(net.server, udpFrame(REPLY, text));
    net.world.run(2);
  };
  for (let n = 0; n < 3; n++) exchange(`${n}`);
  sessions.paths[0].up = false;
  sessions.flows.nextGeneration();
  exchange("down");
  t.deepEqual(dropsOf(net.west), { "path-down": 1 });
  sessions.paths[0].up = true;
  sessions.flows.nextGeneration();
  exchange("up");
  exchange("and up");
  const texts = (packets: SeenPacket[]) => packets.map(({ text }) => text);
  t.deepEqual(texts(net.server.received), ["0", "1", "2", "up", "and up"]);
  t.deepEqual(texts(net.client.received), ["0", "1", "2", "down", "up", "and up"]);
  t.deepEqual([sessions.openedTotal, net.east.sessions.openedTotal], [1, 1]);
  t.is(packetsOn(net.wan).at(-1)?.hasMetadata, false);
});

test("chains of fragments that one peer leaves open do not use up another's", (t) => {
  const world = new World();
  const east = world.addRouter(
    "east",
    routerYaml({
      name: "east",
      lan: { address: "10.2.0.1" },
      wans: { wan0: ["198.18.0.2", "west", "198.18.0.1"], wan1: ["198.18.3.2", "north", "198.18.3.1"] },
      route: "interface: lan0",
    }),
  );
  const west = world.addHost("west", "198.18.0.1", "198.18.0.2");
  const north = world.addHost("north", "198.18.3.1", "198.18.3.2");
  const server = world.addHost("server", SERVER, "10.2.0.1");
  world.join("wan0", "west", "east.wan0");
  world.join("wan1", "north", "east.wan1");
  world.join("far", "east.lan0", "server");
  const piece = { extendedId: 0, originalId: 1, dontFragment: false, moreFragments: true, offset: 0, largestSeen: 0 };
  for (let n = 0; n < 20; n++) {
    world.send(west, udpFrame(TO_EAST, concat(metadataOf([1, { ...piece, extendedId: n }]), pattern(8))));
    world.run(1);
  }
  t.deepEqual(dropsOf(east), { "fabric-fragments-full": 4 });
  const ends = { ...TO_EAST, source: "198.18.3.1", destination: "198.18.3.2" };
  const whole = concat(forwardMetadata(), "from the north");
  const half = whole.length & ~7;
  for (const [moreFragments, offset, bytes] of [
    [true, 0, whole.slice(0, (half >> 1) & ~7)],
    [false, (half >> 1) & ~7, whole.slice((half >> 1) & ~7)],
  ] as const) {
    world.send(north, udpFrame(ends, concat(metadataOf([1, { ...piece, moreFragments, offset }]), bytes)));
    world.run(2);
  }
  t.deepEqual(
    server.received.map(({ text }) => text),
    ["from the north"],
    `${JSON.stringify(dropsOf(east))}`,
  );
});
