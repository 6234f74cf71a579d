// DSCP on its way through the fabric (protocol sheet 8): rewritten toward the next router, restored at the far edge,
// whatever happens to the session meanwhile; and never a bit of what congestion marks say.

import test from "ava";
import { getU16, setU16 } from "../../lib/base/bytes.ts";
import { fold, pseudoHeaderSum } from "../../lib/wire/checksum.ts";
import { ACK, PSH, SYN } from "../../lib/wire/tcp.ts";
import {
  COOKIE,
  concat,
  echoFrame,
  pattern,
  protocolFrame,
  type SeenPacket,
  swapEnds,
  tcpFrame,
  udpFrame,
  withHeader,
} from "./packets.ts";
import { ENDS, forwardMetadata, TO_EAST } from "./peer.ts";
import { AES_256, EVERY_PACKET, SIGNED } from "./protection.ts";
import { takeOver } from "./successor.ts";
import {
  CHAINS,
  CLIENT,
  eastAlone,
  noDrops,
  type Options,
  type Protection,
  packetsOn,
  SERVER,
  sessionRows,
  type TwoRouters,
  threeRouters,
  twoPaths,
  twoRouters,
} from "./topologies.ts";

const REPLY = swapEnds(ENDS);
const PROTECTIONS: [string, Protection][] = [
  ["in clear", {}],
  ["with every packet signed", { fabric: EVERY_PACKET }],
  ["encrypted", { fabric: SIGNED, payload: AES_256 }],
];

/** One policy, of the service that all tests use. */
function policy(text: string): Options {
  return {
    service: ", policy: p",
    extra: `service-policies: [{ name: p, ${text} }]\nservice-classes: [{ name: voice, dscp: 46 }, { name: bulk, dscp: 8 }]\n`,
  };
}
const VOICE = policy("service-class: voice, rewrite-dscp: true");
const PRESERVED = policy("preserve-dscp: true");
/** Between routers every packet is bulk; hosts get back what they sent. */
const BOTH = policy("service-class: bulk, rewrite-dscp: true, preserve-dscp: true");

const marked = (frame: Uint8Array, tos: number) => withHeader(frame, (bytes, l3) => (bytes[l3 + 1] = tos));
const tosOf = ({ frame }: SeenPacket) => frame[15];

/** Packets of every kind, both ways, each with its own type of service: `tos` says which. */
function talk(net: TwoRouters, rounds: number, tos: (n: number, isBack: boolean) => number): number {
  let count = 0;
  for (let n = 0; n < rounds; n++) {
    for (const [host, ends, source, destination] of [
      [net.client, ENDS, CLIENT, SERVER],
      [net.server, REPLY, SERVER, CLIENT],
    ] as const) {
      const isBack = host === net.server;
      const frames = [
        udpFrame(ends, pattern(200 + n)),
        udpFrame(ends, pattern(1472)),
        protocolFrame(source, destination, 47, pattern(900)),
        echoFrame(source, destination, 5, n, pattern(100), isBack),
      ];
      for (const frame of frames) {
        net.world.send(host, marked(frame, tos(n, isBack)));
        net.world.run(4);
      }
      count += frames.length;
    }
  }
  return count / 2;
}

/** Of what hosts said to each other: ICMP errors of the routers are not. */
const said = (packets: SeenPacket[]) => packets.filter(({ icmpType }) => icmpType !== 3);

for (const [where, build] of CHAINS) {
  for (const [how, security] of PROTECTIONS) {
    test(`packets leave toward the next router with their class's DSCP, their ECN and right checksums: ${where} ${how}`, (t) => {
      const net = build({ ...VOICE, security });
      const rounds = 4;
      const count = talk(net, rounds, (n) => 0x28 | (n & 3));
      for (const name of ["wan", "wan2"]) {
        const link = net.world.links.get(name);
        if (link === undefined) continue;
        const packets = said(packetsOn(link));
        t.true(packets.length >= 2 * count);
        t.deepEqual([...new Set(packets.map((packet) => tosOf(packet) >>> 2))], [46]);
        t.deepEqual([...new Set(packets.map((packet) => tosOf(packet) & 3))].sort(), [0, 1, 2, 3]);
        t.true(packets.every(({ checksumsRight }) => checksumsRight));
      }
      for (const { received } of [net.server, net.client]) {
        const packets = said(received);
        t.is(packets.length, count);
        t.true(packets.every((packet, at) => tosOf(packet) === ((46 << 2) | ((at / 4) & 3))));
        t.true(packets.every(({ checksumsRight }) => checksumsRight));
      }
      noDrops(t, net);
    });

    test(`the DSCP of a session's first packet is restored at the far edge, each way its own: ${where} ${how}`, (t) => {
      const net = build({ ...BOTH, security });
      // The first has 34 forward and 18 back; the others are all different, and marked as the wire likes.
      const [there, back] = [34, 18];
      const count = talk(net, 5, (n, isBack) => (n === 0 ? (isBack ? back : there) << 2 : (n * 44) & 0xfc) | (n & 3));
      const packets = said(packetsOn(net.wan));
      t.deepEqual([...new Set(packets.map((packet) => tosOf(packet) >>> 2))], [8]);
      for (const [host, dscp] of [
        [net.server, there],
        [net.client, back],
      ] as const) {
        const got = said(host.received);
        t.is(got.length, count);
        t.deepEqual(
          got.map(tosOf),
          got.map((_, at) => (dscp << 2) | (Math.floor(at / 4) & 3)),
        );
        t.true(got.every(({ checksumsRight }) => checksumsRight));
      }
      noDrops(t, net);
    });
  }
}

test("what networks between make of a DSCP is undone where it is preserved, and stays where it is not", (t) => {
  for (const [options, expected] of [
    [PRESERVED, 46 << 2],
    [{}, 0],
  ] as const) {
    const net = twoRouters(options);
    net.wan.tamper = (frame, seen) => [{ frame: seen === undefined ? frame : marked(frame.slice(), 0) }];
    talk(net, 4, () => 46 << 2);
    for (const { received } of [net.server, net.client])
      t.deepEqual([...new Set(said(received).map(tosOf))], [expected]);
    const first = packetsOn(net.wan).filter(({ hasMetadata }) => hasMetadata);
    t.is(first[0].metadata.get("dscp"), expected === 0 ? undefined : 46);
  }
});

test("with nothing of it configured a plan has nothing of it, and metadata neither", (t) => {
  const net = twoRouters();
  talk(net, 4, (n) => n * 9);
  t.true(packetsOn(net.wan).every(({ metadata }) => !metadata.has("dscp")));
  const { flows, table } = net.west.sessions;
  for (const row of sessionRows(net.west)) {
    for (const flow of [table.forwardFlow[row], table.reverseFlow[row]]) {
      const plan = flows.words[(flow << 4) + 8];
      t.is(plan & (0x7f000000 | 128), 0);
      if (table.context[row * 4 + 3] === 17) t.is(plan & 33, 0, "the fast path");
    }
  }
});

test("the server's first packet comes late, after generated metadata, and its DSCP is told all the same", (t) => {
  const net = twoRouters(PRESERVED);
  net.wan.tamper = (frame, seen) => [{ frame: seen === undefined ? frame : marked(frame.slice(), 0) }];
  for (let n = 0; n < 5; n++) {
    net.world.send(net.client, marked(udpFrame(ENDS, `${n}`), 10 << 2));
    net.world.run(500);
  }
  t.true(packetsOn(net.wan, "east").some(({ metadata }) => metadata.has("reverse-context")));
  t.false(packetsOn(net.wan, "west").at(-1)!.hasMetadata);
  for (let n = 0; n < 5; n++) {
    net.world.send(net.server, marked(udpFrame(REPLY, `${n}`), (n === 0 ? 20 : n) << 2));
    net.world.run(20);
    net.world.send(net.client, marked(udpFrame(ENDS, `${n}`), n << 2));
    net.world.run(20);
  }
  t.deepEqual([...new Set(net.client.received.map(tosOf))], [20 << 2]);
  t.deepEqual([...new Set(net.server.received.map(tosOf))], [10 << 2]);
  t.false(packetsOn(net.wan, "east").at(-1)!.hasMetadata, "and then told no more");
  noDrops(t, net);
});

/** A TCP handshake, each segment with the type of service given. */
function connect(net: TwoRouters, tos: number): void {
  const segment = (flags: number, isBack: boolean, sequence: number, acknowledgment: number) => {
    const numbers = { flags, sequence, acknowledgment, ...((flags & SYN) !== 0 ? { mss: 1460 } : {}) };
    net.world.send(isBack ? net.server : net.client, marked(tcpFrame(isBack ? REPLY : ENDS, numbers), tos));
    net.world.run(3);
  };
  segment(SYN, false, 1000, 0);
  segment(SYN | ACK, true, 5000, 1001);
  segment(ACK, false, 1001, 5001);
}

for (const [how, security] of PROTECTIONS) {
  for (const isPartial of [true, false]) {
    test(`super-frames ${isPartial ? "without" : "with"} a checksum are marked, each segment of them, and one that looks like metadata arrives: ${how}`, (t) => {
      const net = twoRouters({ ...BOTH, security, superFrames: true });
      connect(net, 46 << 2);
      const payload = pattern(20_000);
      // At the begin of some segment, whatever its size is.
      for (let at = 1000; at < 19_000; at += 8) payload.set(COOKIE, at);
      const before = net.server.received.length;
      const frame = tcpFrame(ENDS, { flags: ACK | PSH, sequence: 1001, acknowledgment: 5001 }, payload);
      if (isPartial) setU16(frame, 34 + 16, fold(pseudoHeaderSum(frame, 14, frame.length - 34)));
      net.world.send(net.client, marked(frame, 0x02));
      net.world.run(5);
      const got = net.server.received.slice(before);
      t.deepEqual(Buffer.concat(got.map(({ payload: part }) => part)), Buffer.from(payload));
      t.true(got.every((packet) => tosOf(packet) === ((46 << 2) | 2) && packet.checksumsRight));
      const wire = packetsOn(net.wan, "west").slice(-3);
      t.true(wire.every((packet) => tosOf(packet) === ((8 << 2) | 2) && packet.checksumsRight));
      noDrops(t, net);
    });
  }
}

test("damage stays damage under a mark: wrong checksums of both headers, and a datagram without one", (t) => {
  const net = twoRouters(VOICE);
  talk(net, 3, () => 0);
  connect(net, 0);
  const sent = (change: (frame: Uint8Array) => void, frame: Uint8Array) => {
    change(frame);
    const before = net.server.received.length;
    net.world.send(net.client, frame);
    net.world.run(3);
    return net.server.received.slice(before);
  };
  const [wrong] = sent((frame) => setU16(frame, 40, getU16(frame, 40) ^ 0x0101), udpFrame(ENDS, pattern(50)));
  t.true(wrong.ipChecksumRight && !wrong.l4ChecksumRight);
  const [none] = sent((frame) => setU16(frame, 40, 0), udpFrame(ENDS, pattern(50)));
  t.is(getU16(none.frame, 40), 0);
  const [header] = sent((frame) => setU16(frame, 24, getU16(frame, 24) ^ 0x0101), udpFrame(ENDS, pattern(50)));
  t.true(!header.ipChecksumRight && header.l4ChecksumRight);
  const data = { flags: ACK | PSH, sequence: 1001, acknowledgment: 5001 };
  const [segment] = sent((frame) => setU16(frame, 50, getU16(frame, 50) ^ 0x0101), tcpFrame(ENDS, data, pattern(50)));
  t.true(segment.ipChecksumRight && !segment.l4ChecksumRight);
  for (const packet of [wrong, none, header, segment]) t.is(tosOf(packet), 46 << 2);
});

test("a session that moves to another path keeps what is restored, and tells it again", (t) => {
  const net = twoPaths(BOTH);
  talk(net, 3, (n, isBack) => ((n === 0 ? 34 : 0) + (isBack ? 1 : 0)) << 2);
  net.west.sessions.paths[0].up = false;
  net.west.sessions.flows.nextGeneration();
  const from = [net.server.received.length, net.client.received.length];
  talk(net, 3, () => 0);
  for (const [at, host] of [net.server, net.client].entries())
    t.deepEqual([...new Set(said(host.received.slice(from[at])).map((packet) => tosOf(packet) >>> 2))], [34 + at]);
  t.true(packetsOn(net.wan2).length > 20);
  const told = packetsOn(net.wan2, "west").find(({ metadata }) => metadata.has("forward-context"));
  t.is(told?.metadata.get("dscp"), 34);
});

for (const lost of ["west", "middle", "east"]) {
  test(`${lost} of three begins anew: the DSCP is restored again, of what hosts send then where it was lost`, (t) => {
    const net = threeRouters({ ...PRESERVED, sessions: "recovery: packet-based" });
    net.wan.tamper = (frame, seen) => [{ frame: seen === undefined ? frame : marked(frame.slice(), 0) }];
    const exchange = (times: number, dscp: number) => {
      for (let n = 0; n < times; n++) {
        net.world.send(net.client, marked(udpFrame(ENDS, "long enough to be asked for, by a router"), dscp << 2));
        net.world.run(20);
        net.world.send(
          net.server,
          marked(udpFrame(REPLY, "long enough to be asked for, by a router"), (dscp + 1) << 2),
        );
        net.world.run(20);
      }
    };
    exchange(4, 34);
    net.world.restart(lost);
    exchange(6, 40);
    const last = (packets: SeenPacket[]) => packets.slice(-2).map((packet) => tosOf(packet) >>> 2);
    // What a session's first router, or its last one, has taken from a packet goes with it; after the first it is another session.
    t.deepEqual(last(net.server.received), lost === "west" ? [40, 40] : [34, 34]);
    t.deepEqual(last(net.client.received), lost === "middle" ? [35, 35] : [41, 41]);
  });
}

test("a successor restores and rewrites what its predecessor did", (t) => {
  for (const name of ["west", "east"] as const) {
    const net = twoRouters(BOTH);
    talk(net, 3, (n, isBack) => ((n === 0 ? 34 : 0) + (isBack ? 1 : 0)) << 2);
    takeOver(net, name);
    const from = [net.server.received.length, net.client.received.length];
    talk(net, 2, () => 0);
    for (const [at, host] of [net.server, net.client].entries())
      t.deepEqual([...new Set(said(host.received.slice(from[at])).map((packet) => tosOf(packet) >>> 2))], [34 + at]);
    t.deepEqual([...new Set(said(packetsOn(net.wan)).map((packet) => tosOf(packet) >>> 2))], [8]);
  }
});

test("a number that is no DSCP says nothing", (t) => {
  for (const [value, tos] of [
    [63, 63 << 2],
    [64, 0],
    [255, 0],
  ]) {
    const net = eastAlone();
    net.world.send(net.peer, udpFrame(TO_EAST, concat(forwardMetadata({ dscp: value }), "hello")));
    net.world.run(3);
    t.deepEqual(net.server.received.map(tosOf), [tos]);
  }
});
