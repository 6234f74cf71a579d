// Frames that stand for several on the wire, and checksums left to hardware: what veth, virtio and GRO hand over
// (design: frames as they really arrive).

import test, { type ExecutionContext } from "ava";
import { getU16, setU16 } from "../../lib/base/bytes.ts";
import { parseAddress } from "../../lib/control/address-text.ts";
import { FRAME_CHECKSUM_KNOWN, FRAME_CHECKSUM_PARTIAL } from "../../lib/io/port.ts";
import { fold, pseudoHeaderSum } from "../../lib/wire/checksum.ts";
import { ACK, PSH, SYN } from "../../lib/wire/tcp.ts";
import { unaccounted } from "../fuzz/fuzzed.ts";
import { COOKIE, concat, metadataOf, pattern, type SeenPacket, swapEnds, tcpFrame, udpFrame } from "./packets.ts";
import { ENDS, forwardMetadata, TO_EAST } from "./peer.ts";
import { takeOver } from "./successor.ts";
import {
  CLIENT,
  countOf,
  dropsOf,
  type Options,
  packetsOn,
  SERVER,
  type TwoRouters,
  twoRouters,
} from "./topologies.ts";
import { World } from "./world.ts";

const REPLY = swapEnds(ENDS);
const DATA = { flags: ACK | PSH, sequence: 1001, acknowledgment: 5001 };
const CHECKSUM_OF = { 6: 34 + 16, 17: 34 + 6 } as Record<number, number>;

/** Leave in the checksum field what a sender with checksum offload leaves there. */
function partial(frame: Uint8Array): Uint8Array {
  setU16(frame, CHECKSUM_OF[frame[23]], fold(pseudoHeaderSum(frame, 14, frame.length - 34)));
  return frame;
}

/** A TCP session whose server asked for segments of `mss` bytes; undefined = its SYN did not say. */
function established(mss?: number, options: Options = {}): TwoRouters {
  const net = twoRouters({ superFrames: true, ...options });
  const option = mss === undefined ? {} : { mss };
  net.world.send(net.client, tcpFrame(ENDS, { flags: SYN, sequence: 1000, acknowledgment: 0, mss: 1460 }));
  net.world.run(2);
  net.world.send(net.server, tcpFrame(REPLY, { flags: SYN | ACK, sequence: 5000, acknowledgment: 1001, ...option }));
  net.world.run(2);
  net.world.send(net.client, tcpFrame(ENDS, { flags: ACK, sequence: 1001, acknowledgment: 5001 }));
  net.world.run(2);
  return net;
}

/** The segments carry `payload` in order from `sequence`, right in everything, each at most `size` bytes. */
function assertSegments(
  t: ExecutionContext,
  segments: SeenPacket[],
  payload: Uint8Array,
  size: number,
  sequence = 1001,
): void {
  t.deepEqual(Buffer.concat(segments.map((segment) => segment.payload)), Buffer.from(payload));
  t.is(segments.length, Math.ceil(payload.length / size));
  segments.forEach((segment, index) => {
    t.true(segment.checksumsRight);
    t.is(segment.sequence, sequence + index * size);
    t.is((segment.tcpFlags & PSH) !== 0, index === segments.length - 1);
  });
}

/** Nothing on the wires behind the first router is too long or wrong. */
function assertWire(t: ExecutionContext, net: TwoRouters): void {
  t.true(
    [...packetsOn(net.wan), ...packetsOn(net.far)].every(
      ({ ipLength, checksumsRight }) => ipLength <= 1500 && checksumsRight,
    ),
  );
}

for (const [name, mss, size] of [
  ["its receiver's segment size", 1000, 1000],
  ["the MTU, which is less", 9000, 1460],
  ["the MTU", undefined, 1460],
  ["the MTU, be the receiver's segment size ever so small", 1, 1460],
] as const) {
  for (const isPartial of [true, false]) {
    test(`a TCP super-frame ${isPartial ? "without" : "with"} a checksum leaves as right segments no longer than ${name}`, (t) => {
      const net = established(mss);
      const before = net.server.received.length;
      const frame = tcpFrame(ENDS, DATA, pattern(20_001));
      net.world.send(net.client, isPartial ? partial(frame) : frame);
      net.world.run(2);
      assertSegments(t, net.server.received.slice(before), pattern(20_001), size);
      assertWire(t, net);
      t.is(countOf(net.west, "metadata.false-positive-marked"), 0);
    });
  }
}

test("a frame that its link takes whole is a super-frame if it carries more than its receiver asked for", (t) => {
  const net = established(600);
  const before = net.server.received.length;
  net.world.send(net.client, partial(tcpFrame(ENDS, DATA, pattern(1300))));
  net.world.run(2);
  assertSegments(t, net.server.received.slice(before), pattern(1300), 600);
  // As long as was asked for, it is one packet; so is one with a checksum, and what goes where more was asked for.
  for (const [end, frame] of [
    ["client", partial(tcpFrame(ENDS, { ...DATA, sequence: 2301 }, pattern(600)))],
    ["client", tcpFrame(ENDS, { ...DATA, sequence: 2301 }, pattern(1300))],
    ["server", tcpFrame(REPLY, { flags: ACK | PSH, sequence: 5001, acknowledgment: 2901 }, pattern(1400))],
  ] as const) {
    const far = end === "client" ? net.server : net.client;
    const had = far.received.length;
    net.world.send(net[end], frame);
    net.world.run(2);
    t.is(far.received.length, had + 1);
  }
  // Whoever goes on with the session knows what its receiver asked for.
  takeOver(net, "west");
  const had = net.server.received.length;
  net.world.send(net.client, partial(tcpFrame(ENDS, { ...DATA, sequence: 2901 }, pattern(1300))));
  net.world.run(2);
  assertSegments(t, net.server.received.slice(had), pattern(1300), 600, 2901);
  assertWire(t, net);
});

test("a port that knows of super-frames is believed: a frame with more than its receiver asked for stays one", (t) => {
  const net = established(600);
  const before = net.server.received.length;
  net.world.inject(net.lan, "west", tcpFrame(ENDS, DATA, pattern(1300)), FRAME_CHECKSUM_KNOWN);
  net.world.run(2);
  t.deepEqual(
    net.server.received.slice(before).map(({ payload }) => payload.length),
    [1300],
  );
});

test("a super-frame with a wrong checksum becomes segments with wrong checksums", (t) => {
  const net = established(1460);
  const before = net.server.received.length;
  const frame = tcpFrame(ENDS, DATA, pattern(5000));
  setU16(frame, CHECKSUM_OF[6], getU16(frame, CHECKSUM_OF[6]) ^ 0x0140);
  net.world.send(net.client, frame);
  net.world.run(2);
  const segments = net.server.received.slice(before);
  t.is(segments.length, 4);
  t.true(segments.every(({ l4ChecksumRight, ipChecksumRight }) => !l4ChecksumRight && ipChecksumRight));
});

test("a super-frame that is the first packet of a session arrives, metadata on every segment", (t) => {
  const net = twoRouters({ superFrames: true });
  net.world.send(
    net.client,
    partial(tcpFrame(ENDS, { flags: SYN | PSH, sequence: 1000, acknowledgment: 0, mss: 1400 }, pattern(5000))),
  );
  net.world.run(5);
  const size = 1500 - 20 - 24;
  t.deepEqual(Buffer.concat(net.server.received.map(({ payload }) => payload)), Buffer.from(pattern(5000)));
  t.is(net.server.received.length, Math.ceil(5000 / size));
  t.true(net.server.received.every(({ checksumsRight }) => checksumsRight));
  const sent = packetsOn(net.wan, "west");
  t.true(sent.every(({ hasMetadata, ipLength, checksumsRight }) => hasMetadata && ipLength <= 1500 && checksumsRight));
  t.is(net.west.sessions.table.count, 1);
});

test("a super-frame of a server that speaks first arrives, reverse metadata on every segment", (t) => {
  const net = twoRouters({ superFrames: true });
  net.world.send(net.client, tcpFrame(ENDS, { flags: SYN, sequence: 1000, acknowledgment: 0, mss: 1460 }));
  net.world.run(2);
  net.world.send(net.server, tcpFrame(REPLY, { flags: SYN | ACK, sequence: 5000, acknowledgment: 1001, mss: 1460 }));
  net.world.send(
    net.server,
    partial(tcpFrame(REPLY, { flags: ACK | PSH, sequence: 5001, acknowledgment: 1001 }, pattern(6000))),
  );
  net.world.run(5);
  assertSegments(t, net.client.received.slice(1), pattern(6000), 1460, 5001);
  const sent = packetsOn(net.wan, "east");
  t.true(sent.every(({ hasMetadata, ipLength, checksumsRight }) => hasMetadata && ipLength <= 1500 && checksumsRight));
});

test("the cookie at the beginning of a segment of a super-frame arrives as it is, and needs a marker only there", (t) => {
  for (const [at, marked] of [
    [0, 1],
    [3000, 1],
    [2999, 0],
    [19_000, 1],
  ] as const) {
    const net = established(1000);
    const before = net.server.received.length;
    const payload = pattern(20_001);
    payload.set(COOKIE, at);
    net.world.send(net.client, partial(tcpFrame(ENDS, DATA, payload)));
    net.world.run(2);
    assertSegments(t, net.server.received.slice(before), payload, 1000);
    t.is(countOf(net.west, "metadata.false-positive-marked"), marked, `${at}`);
  }
});

test("a super-frame waits for its neighbor as segments, and what does not fit is counted", (t) => {
  for (const [length, held] of [
    [60_000, 60],
    [65_000, 64],
  ] as const) {
    const net = established(1000, { queueFrames: 256 });
    net.server.answersArp = false;
    // The server is asked again after half a minute, and forgotten after three requests.
    const { neighbors } = net.east.sessions;
    const row = neighbors.find(0, parseAddress(SERVER));
    net.world.skip(25_000);
    net.world.send(net.client, tcpFrame(ENDS, { ...DATA, flags: ACK }));
    while (neighbors.usable[row] === 1) net.world.skip(1000);
    const before = net.server.received.length;
    net.world.inject(net.wan, "east", partial(tcpFrame(TO_EAST, DATA, pattern(length))));
    net.world.run(2);
    t.is(net.server.received.length, before);
    net.server.answersArp = true;
    net.world.run(1100);
    const received = net.server.received.slice(before).filter(({ payload }) => payload.length > 0);
    t.is(received.length, Math.min(held, length / 1000));
    t.deepEqual(Buffer.concat(received.map(({ payload }) => payload)), Buffer.from(pattern(length).slice(0, 64_000)));
    t.true(received.every(({ checksumsRight }) => checksumsRight));
    t.deepEqual(dropsOf(net.east), length > 64_000 ? { "hold-full": length / 1000 - 64 } : {});
  }
});

test("a partial checksum is completed before its frame leaves, in lead packets and in bare ones, TCP and UDP", (t) => {
  const tcp = established(1460);
  const before = tcp.server.received.length;
  tcp.world.send(tcp.client, partial(tcpFrame(ENDS, DATA, "bare")));
  tcp.world.send(
    tcp.client,
    partial(tcpFrame({ ...ENDS, sourcePort: 41000 }, { flags: SYN, sequence: 1, acknowledgment: 0 })),
  );
  tcp.world.send(tcp.client, partial(udpFrame({ ...ENDS, sourcePort: 42000 }, "lead")));
  tcp.world.run(2);
  tcp.world.send(tcp.server, partial(udpFrame({ ...REPLY, destinationPort: 42000 }, "answer")));
  tcp.world.run(2);
  tcp.world.send(tcp.client, partial(udpFrame({ ...ENDS, sourcePort: 42000 }, "bare")));
  tcp.world.run(2);
  t.deepEqual(
    tcp.server.received.slice(before).map(({ text }) => text),
    ["bare", "", "lead", "bare"],
  );
  t.is(tcp.client.received.at(-1)?.text, "answer");
  t.true(
    [...packetsOn(tcp.wan), ...tcp.server.received, ...tcp.client.received].every(
      ({ checksumsRight }) => checksumsRight,
    ),
  );
});

test("a UDP frame longer than the wire takes cannot be cut: it is counted, and leaves nothing behind", (t) => {
  const net = twoRouters({ superFrames: true });
  net.world.send(net.client, udpFrame(ENDS, pattern(4000)));
  net.world.run(2);
  t.deepEqual(dropsOf(net.west), { "frame-too-long": 1 });
  net.world.skip(200_000);
  t.is(net.west.sessions.table.count, 0);
  net.world.send(net.client, udpFrame(ENDS, "lead"));
  net.world.send(net.client, udpFrame(ENDS, pattern(4000)));
  net.world.run(2);
  t.deepEqual(dropsOf(net.west), { "frame-too-long": 2 });
  t.deepEqual(
    net.server.received.map(({ text }) => text),
    ["lead"],
  );
});

// What a port with PACKET_VNET_HDR says of its frames.

const LEFT_UNDONE = FRAME_CHECKSUM_KNOWN | FRAME_CHECKSUM_PARTIAL;

/** A UDP session that has heard its answer. */
function established17(options: { wanMtu?: number } = {}): TwoRouters {
  const net = twoRouters({ superFrames: true, ...options });
  net.world.send(net.client, udpFrame(ENDS, "lead"));
  net.world.run(2);
  net.world.send(net.server, udpFrame(REPLY, "answer"));
  net.world.run(2);
  net.world.send(net.client, udpFrame(ENDS, "bare"));
  net.world.run(2);
  return net;
}

/** The datagrams carry `payload`, `size` bytes each, right in everything. */
function assertDatagrams(t: ExecutionContext, datagrams: SeenPacket[], payload: Uint8Array, size: number): void {
  t.is(datagrams.length, Math.ceil(payload.length / size));
  datagrams.forEach((datagram, index) => {
    t.true(datagram.checksumsRight);
    t.deepEqual(Buffer.from(datagram.payload), Buffer.from(payload.subarray(index * size, (index + 1) * size)));
  });
}

for (const [name, length, size, wanMtu] of [
  ["longer than the wire takes", 5500, 1000, 1500],
  ["that would fit the wire as one", 1200, 400, 1500],
  ["too long each for the path, in fabric fragments", 5000, 1400, 1000],
] as const) {
  test(`UDP datagrams joined to a super-frame arrive as what they were: ${name}`, (t) => {
    const net = established17({ wanMtu });
    const before = net.server.received.length;
    net.world.inject(net.lan, "west", partial(udpFrame(ENDS, pattern(length))), LEFT_UNDONE, size);
    net.world.run(5);
    assertDatagrams(t, net.server.received.slice(before), pattern(length), size);
    t.true(packetsOn(net.wan).every(({ ipLength, checksumsRight }) => ipLength <= wanMtu && checksumsRight));
    t.deepEqual(dropsOf(net.west), {});
    t.is(countOf(net.west, "frames.split"), 0);
  });
}

test("a UDP super-frame that opens a session arrives, metadata on every datagram", (t) => {
  const net = twoRouters({ superFrames: true });
  net.world.inject(net.lan, "west", partial(udpFrame(ENDS, pattern(3000))), LEFT_UNDONE, 700);
  net.world.run(5);
  assertDatagrams(t, net.server.received, pattern(3000), 700);
  t.true(packetsOn(net.wan, "west").every(({ hasMetadata }) => hasMetadata));
  t.is(net.west.sessions.table.count, 1);
});

test("lead datagrams of a peer that a kernel joined open their session, and every one arrives", (t) => {
  const net = twoRouters({ superFrames: true });
  const metadata = forwardMetadata();
  const pieces = [0, 1, 2].map((index) => concat(metadata, pattern(300, index)));
  net.world.inject(net.wan, "east", partial(udpFrame(TO_EAST, concat(...pieces))), LEFT_UNDONE, pieces[0].length);
  net.world.run(5);
  t.deepEqual(
    net.server.received.map(({ payload }) => Buffer.from(payload)),
    [0, 1, 2].map((index) => Buffer.from(pattern(300, index))),
  );
  t.is(net.east.sessions.table.count, 1);
  t.is(countOf(net.east, "metadata.received"), 3);
  t.is(countOf(net.east, "frames.split"), 3);
  t.is(unaccounted(net.east.counters.publish(true)), 0);
});

test("metadata in the last segment of a super-frame from a peer is found and taken off", (t) => {
  const net = established(1000);
  const before = net.server.received.length;
  const data = concat(pattern(2000), metadataOf(), COOKIE, pattern(100));
  net.world.inject(net.wan, "east", partial(tcpFrame(TO_EAST, DATA, data)), LEFT_UNDONE, 1000);
  net.world.run(5);
  const received = net.server.received.slice(before);
  t.is(received.length, 3);
  t.true(received.every(({ checksumsRight }) => checksumsRight));
  t.deepEqual(
    Buffer.concat(received.map(({ payload }) => payload)),
    Buffer.from(concat(pattern(2000), COOKIE, pattern(100))),
  );
  t.is(countOf(net.east, "metadata.false-positive-unmarked"), 1);
  t.is(unaccounted(net.east.counters.publish(true)), 0);
});

test("so it is where the next link takes less than the peer's segments: the one with metadata fits, and of the others the peer is told", (t) => {
  const net = established(1000, { farMtu: 700 });
  const before = net.server.received.length;
  const data = concat(pattern(2000), metadataOf(), COOKIE, pattern(100));
  net.world.inject(net.wan, "east", partial(tcpFrame(TO_EAST, DATA, data)), LEFT_UNDONE, 1000);
  net.world.run(5);
  t.deepEqual(
    net.server.received.slice(before).map(({ payload }) => payload),
    [concat(COOKIE, pattern(100))],
  );
  t.deepEqual(dropsOf(net.east), { "exceeds-mtu": 2 });
  t.is(countOf(net.east, "metadata.false-positive-unmarked"), 1);
  t.is(unaccounted(net.east.counters.publish(true)), 0);
});

test("a super-frame from a peer without metadata in it is one frame to the far side too", (t) => {
  const net = established(1000);
  const forwarded = countOf(net.east, "frames.forwarded");
  net.world.inject(net.wan, "east", partial(tcpFrame(TO_EAST, DATA, pattern(20_000))), LEFT_UNDONE, 1000);
  net.world.run(5);
  t.is(countOf(net.east, "frames.forwarded"), forwarded + 1);
  t.is(countOf(net.east, "frames.split"), 0);
});

test("a checksum that the port knows to be finished is left as it is, whatever it looks like", (t) => {
  const net = established17();
  const before = net.server.received.length;
  net.world.inject(net.lan, "west", partial(udpFrame(ENDS, "damaged")), FRAME_CHECKSUM_KNOWN);
  net.world.inject(net.lan, "west", partial(udpFrame(ENDS, "left undone")), LEFT_UNDONE);
  net.world.run(2);
  t.deepEqual(
    net.server.received.slice(before).map(({ text, checksumsRight }) => [text, checksumsRight]),
    [
      ["damaged", false],
      ["left undone", true],
    ],
  );
});

test("a super-frame that waits for a neighbor on an interface of 16,000 bytes leaves as right segments", (t) => {
  const world = new World(1, true);
  const router = world.addRouter(
    "one",
    `authority: acme
router: one
sessions: { max: 16 }
limits: { fabric-chains: 1 }
interfaces:
  - { name: lan0, device: lan0, addresses: [10.1.0.1/24], tenant: corp }
  - { name: lan1, device: lan1, addresses: [10.2.0.1/24], mtu: 16000 }
tenants: [{ name: corp }]
services: [{ name: app, addresses: [10.2.0.0/24], access: [corp] }]
service-routes: [{ service: app, interface: lan1 }]
`,
  );
  const client = world.addHost("client", CLIENT, "10.1.0.1");
  const server = world.addHost("server", SERVER, "10.2.0.1", 16_000);
  world.join("lan", "client", "one.lan0");
  const far = world.join("far", "one.lan1", "server");
  far.tamper = (frame, packet) => [{ frame, delayMs: packet === undefined ? 20 : 0 }];
  const frame = tcpFrame(ENDS, { flags: SYN | PSH, sequence: 1001, acknowledgment: 0 }, pattern(40_001));
  world.send(client, partial(frame));
  world.run(100);
  assertSegments(t, server.received, pattern(40_001), 16_000 - 40);
  t.is(countOf(router, "frames.held"), 3);
  t.deepEqual(dropsOf(router), {});
});
