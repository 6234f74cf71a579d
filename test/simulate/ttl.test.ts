// ttl-padding (protocol sheet 8): how much TTL packets have left behind a long way between routers; and that nothing of it
// is there unless it is asked for.

import test from "ava";
import { ACK, PSH, SYN } from "../../lib/wire/tcp.ts";
import { echoFrame, pattern, type SeenPacket, swapEnds, tcpFrame, udpFrame, withHeader } from "./packets.ts";
import { ENDS } from "./peer.ts";
import { SEALED } from "./protection.ts";
import { takeOver } from "./successor.ts";
import {
  CLIENT,
  dropsOf,
  type Options,
  type Protection,
  packetsOn,
  SERVER,
  type TwoRouters,
  threeRouters,
  twoPaths,
  twoRouters,
} from "./topologies.ts";
import type { Link, Tamper } from "./world.ts";

const REPLY = swapEnds(ENDS);
const PROTECTIONS: [string, Protection][] = [
  ["in clear", {}],
  ["signed and encrypted", SEALED],
];
const FAST_BFD = "bfd: { desired-tx-interval: 50ms, required-min-rx-interval: 50ms, hold-down: 0s }\n";

/** The link is a network with so many routers: each takes one of the TTL, and the packet that has none left. */
function underlay(link: Link, hops: number): void {
  const tamper: Tamper = (frame, seen) => {
    if (seen === undefined) return [{ frame }];
    if (seen.ttl <= hops) return [];
    return [{ frame: withHeader(frame.slice(), (bytes, l3) => (bytes[l3 + 8] -= hops)) }];
  };
  link.tamper = tamper;
}

/** Packets of every kind with this TTL, both ways; what arrives of them on either side. */
function talk(net: TwoRouters, ttl: number, rounds = 3): { there: number[]; back: number[] } {
  const from = [net.server.received.length, net.client.received.length];
  const send = (isBack: boolean, frame: Uint8Array) => {
    net.world.send(isBack ? net.server : net.client, frame);
    net.world.run(4);
  };
  for (let n = 0; n < rounds; n++) {
    for (const [isBack, ends, source, destination] of [
      [false, ENDS, CLIENT, SERVER],
      [true, REPLY, SERVER, CLIENT],
    ] as const) {
      send(isBack, udpFrame(ends, pattern(200 + n), ttl));
      send(isBack, udpFrame(ends, pattern(1472), ttl));
      send(isBack, echoFrame(source, destination, 5, n, pattern(100), isBack, ttl));
    }
  }
  const ttls = (packets: SeenPacket[]) => [
    ...new Set(packets.filter(({ icmpType }) => icmpType !== 3).map((packet) => packet.ttl)),
  ];
  return {
    there: ttls(net.server.received.slice(from[0])),
    back: ttls(net.client.received.slice(from[1])),
  };
}

for (const [how, security] of PROTECTIONS) {
  for (const [padding, expected] of [
    ["", 57],
    [", ttl-padding: off", 57],
    [", ttl-padding: 0", 57],
    [", ttl-padding: 4", 61],
    [", ttl-padding: 5", 62],
    [", ttl-padding: 255", 249],
  ] as const) {
    test(`a network of five routers${padding || ", nothing said"}: TTL 64 arrives as ${expected} ${how}`, (t) => {
      const net = twoRouters({ security, path: padding });
      underlay(net.wan, 5);
      t.deepEqual(talk(net, 64), { there: [expected], back: [expected] });
      t.true(packetsOn(net.wan).every(({ ttl, checksumsRight }) => ttl <= 255 && checksumsRight));
      for (const router of net.world.routers.values()) t.deepEqual(dropsOf(router), {});
    });
  }

  test(`by itself the padding is what the peer's BFD shows, and follows it: ${how}`, (t) => {
    const net = twoRouters({ security, path: ", ttl-padding: automatic", extra: FAST_BFD });
    underlay(net.wan, 9);
    net.world.run(4000);
    t.deepEqual(talk(net, 64), { there: [62], back: [62] });
    t.deepEqual(talk(net, 5), { there: [3], back: [3] }, "and what would have ended in between arrives");
    underlay(net.wan, 14);
    net.world.run(200);
    t.deepEqual(talk(net, 64), { there: [62], back: [62] });
    underlay(net.wan, 0);
    net.world.run(200);
    t.deepEqual(talk(net, 64), { there: [62], back: [62] });
    for (const router of net.world.routers.values()) t.deepEqual(dropsOf(router), {});
  });
}

test("without it a packet ends in the network between", (t) => {
  const net = twoRouters();
  underlay(net.wan, 9);
  talk(net, 64);
  t.deepEqual(talk(net, 5), { there: [], back: [] });
});

test("each hop of a chain is padded for itself", (t) => {
  const net = threeRouters({ path: ", ttl-padding: automatic", extra: FAST_BFD } as Options);
  underlay(net.wan, 3);
  underlay(net.wan2, 20);
  net.world.run(4000);
  t.deepEqual(talk(net, 64), { there: [61], back: [61] });
});

test("a session that moves is padded for the path it goes on by, and one over two paths for each", (t) => {
  for (const policy of ["", "service-policies: [{ name: p, resiliency: packet-duplication }]\n"]) {
    const net = twoPaths({
      path: ", ttl-padding: automatic",
      extra: `${FAST_BFD}${policy}`,
      service: policy === "" ? "" : ", policy: p",
    });
    underlay(net.wan, 3);
    underlay(net.wan2, 20);
    net.world.run(4000);
    t.deepEqual(talk(net, 64), { there: [62], back: [62] });
    net.wan.tamper = () => [];
    net.world.run(4000);
    t.deepEqual(talk(net, 64), { there: [62], back: [62] });
  }
});

test("a successor pads as its predecessor did, before it has heard the peer", (t) => {
  const net = twoRouters({ path: ", ttl-padding: automatic", extra: FAST_BFD });
  underlay(net.wan, 9);
  net.world.run(4000);
  t.deepEqual(talk(net, 64), { there: [62], back: [62] });
  takeOver(net, "west");
  net.world.send(net.client, udpFrame(ENDS, "at once"));
  net.world.settle();
  t.is(net.server.received.at(-1)?.ttl, 62);
  t.deepEqual(talk(net, 64), { there: [62], back: [62] });
});

test("a padded TCP stream of super-frames arrives, byte for byte", (t) => {
  const net = twoRouters({ path: ", ttl-padding: 9", superFrames: true });
  const segment = (flags: number, isBack: boolean, sequence: number, acknowledgment: number, payload = "") => {
    net.world.send(
      isBack ? net.server : net.client,
      tcpFrame(isBack ? REPLY : ENDS, { flags, sequence, acknowledgment, mss: 1460 }, payload),
    );
    net.world.run(3);
  };
  segment(SYN, false, 1000, 0);
  segment(SYN | ACK, true, 5000, 1001);
  segment(ACK, false, 1001, 5001);
  const before = net.server.received.length;
  net.world.send(
    net.client,
    tcpFrame(ENDS, { flags: ACK | PSH, sequence: 1001, acknowledgment: 5001 }, pattern(30_000)),
  );
  net.world.run(5);
  const got = net.server.received.slice(before);
  t.deepEqual(Buffer.concat(got.map(({ payload }) => payload)), Buffer.from(pattern(30_000)));
  t.true(got.every(({ ttl, checksumsRight }) => ttl === 71 && checksumsRight));
});

test("a host's traceroute has every router, in order, where nothing is padded, and those of ours where something is", (t) => {
  for (const [padding, expected] of [
    ["", ["10.1.0.1", "198.18.0.2", "198.18.1.2"]],
    [", ttl-padding: 3", ["10.1.0.1", "198.18.0.2", "198.18.1.2"]],
  ] as const) {
    const net = threeRouters({ path: padding });
    underlay(net.wan, padding === "" ? 0 : 3);
    underlay(net.wan2, padding === "" ? 0 : 3);
    talk(net, 64);
    const from = net.client.received.length;
    for (let ttl = 1; ttl <= 4; ttl++) {
      net.world.send(net.client, udpFrame(ENDS, pattern(20), ttl));
      net.world.run(5);
    }
    t.deepEqual(
      net.client.received
        .slice(from)
        .filter(({ icmpType }) => icmpType === 11)
        .map(({ source }) => source),
      expected,
    );
    t.is(net.server.received.at(-1)?.ttl, 1);
  }
});
