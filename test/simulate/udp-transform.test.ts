// TCP that goes as UDP between routers (protocol sheet 2.5): hosts see TCP and nothing else, the wire sees UDP and nothing
// else, and not a byte is added; under keys, in fragments, on the move, and when something between reports an error.

import test, { type ExecutionContext } from "ava";
import { getI32, getU16, setU16, setU32 } from "../../lib/base/bytes.ts";
import { fold, ipv4HeaderChecksum, l4Checksum, pseudoHeaderSum } from "../../lib/wire/checksum.ts";
import { ACK, FIN, PSH, RST, SYN, URG } from "../../lib/wire/tcp.ts";
import { TcpClient, tcpServer } from "./endpoints.ts";
import { behindNat } from "./nat.ts";
import {
  COOKIE,
  concat,
  icmpError,
  pattern,
  type SeenPacket,
  swapEnds,
  tcpFrame,
  udpFrame,
  withHeader,
} from "./packets.ts";
import { ENDS, forwardMetadata, TO_EAST } from "./peer.ts";
import { ADAPTIVE, AES_256, EVERY_PACKET, fabricText, SEALED, SIGNED } from "./protection.ts";
import { takeOver } from "./successor.ts";
import {
  countOf,
  dropsOf,
  eastAlone,
  noDrops,
  type Options,
  type Protection,
  packetsOn,
  sessionRows,
  TWICE,
  type TwoRouters,
  threeRouters,
  twoPaths,
  twoRouters,
} from "./topologies.ts";
import type { Link } from "./world.ts";

const ALWAYS = ", udp-transform: always";
const REPLY = swapEnds(ENDS);
const REQUESTS = Array.from({ length: 20 }, (_, n) => `request ${n} of twenty`);
const ANSWERS = REQUESTS.map((request) => request.toUpperCase());
const PROTECTIONS: [string, Protection][] = [
  ["in clear", {}],
  ["signed", { fabric: fabricText("sha256-128", "time-based", "metadata", "none") }],
  ["with every packet signed", { fabric: EVERY_PACKET }],
  ["encrypted", { fabric: SIGNED, payload: AES_256 }],
  ["signed and encrypted", SEALED],
  ["encrypted in its midst", { fabric: EVERY_PACKET, payload: ADAPTIVE }],
  ["with a key of its own", { fabric: EVERY_PACKET, payload: `${AES_256}, session-keys: true` }],
];
const CHAINS: [string, (options: Options) => TwoRouters, Options["path"]][] = [
  ["two routers", twoRouters, ALWAYS],
  ["a chain of three", threeRouters, ALWAYS],
  // As TCP over the second hop.
  ["a chain of three, over its first hop", (options) => threeRouters(options), { wan0: ALWAYS }],
];

interface Conversation {
  readonly client: TcpClient;
  readonly done: () => boolean;
}

function converse(net: TwoRouters, requests = REQUESTS, pauseMs = 3): Conversation {
  const client = new TcpClient(net.world, net.client, ENDS, requests, pauseMs);
  net.client.onPacket = (packet) => client.receive(packet);
  net.server.onPacket = tcpServer(net.world, net.server);
  return { client, done: () => client.state === "closed" || client.state === "refused" };
}

function completes(t: ExecutionContext, net: TwoRouters, { client, done }: Conversation, limitMs = 20_000): void {
  if (!net.world.runUntil(done, limitMs)) t.log(net.world.diagram().split("\n").slice(-40).join("\n"));
  t.deepEqual(client.answers, ANSWERS);
  t.is(client.state, "closed");
  t.true([...net.client.received, ...net.server.received].every(({ checksumsRight }) => checksumsRight));
  for (const router of net.world.routers.values()) t.is(countOf(router, "tcp.resets-sent"), 0);
}

/** The session's packets on a link, right in everything and UDP. */
function asUdp(t: ExecutionContext, link: Link): SeenPacket[] {
  const packets = packetsOn(link);
  t.true(packets.length > 0);
  t.true(
    packets.every(({ protocol, checksumsRight, ipLength }) => protocol === 17 && checksumsRight && ipLength <= 1500),
  );
  return packets;
}

for (const [where, build, path] of CHAINS) {
  for (const [how, security] of PROTECTIONS) {
    test(`a TCP conversation goes as UDP through ${where} ${how}, byte for byte`, (t) => {
      const net = build({ security, path: path! });
      completes(t, net, converse(net));
      asUdp(t, net.wan);
      const { wan2 } = net as { wan2?: Link };
      if (wan2 !== undefined && typeof path === "string") asUdp(t, wan2);
      else if (wan2 !== undefined) t.true(packetsOn(wan2).every(({ protocol }) => protocol === 6));
      noDrops(t, net);
      // What follows TCP has seen it: the session ends with its connection.
      for (const router of net.world.routers.values()) t.is(sessionRows(router).length, 1);
      net.world.skip(15_000, 100);
      for (const router of net.world.routers.values()) t.is(sessionRows(router).length, 0);
    });
  }
}

/** A connection that stands, its last segments bare on the wire. */
function established(options: Options = {}, build = twoRouters): TwoRouters {
  const net = build({ path: ALWAYS, ...options });
  send(net, false, SYN, 1000, 0);
  send(net, true, SYN | ACK, 5000, 1001);
  send(net, false, ACK, 1001, 5001);
  return net;
}

function send(
  net: TwoRouters,
  isBack: boolean,
  flags: number,
  sequence: number,
  acknowledgment: number,
  payload: Uint8Array | string = "",
  change: (frame: Uint8Array) => void = () => {},
): SeenPacket[] {
  const [from, to] = isBack ? [net.server, net.client] : [net.client, net.server];
  const mss = (flags & SYN) !== 0 ? { mss: 1460 } : {};
  const frame = tcpFrame(isBack ? REPLY : ENDS, { flags, sequence, acknowledgment, ...mss }, payload);
  change(frame);
  const before = to.received.length;
  net.world.send(from, frame);
  net.world.run(4);
  return to.received.slice(before);
}

test("the wire has what the protocol sheet says: the header in its place, nothing added, and SYN told of", (t) => {
  const net = established();
  const before = packetsOn(net.wan).length;
  const [got] = send(net, false, ACK | PSH, 1001, 5001, "hello");
  t.is(got.text, "hello");
  t.is(got.sequence, 1001);
  const [onWire] = packetsOn(net.wan).slice(before);
  const frame = onWire.frame;
  t.is(onWire.ipLength, 20 + 20 + 5);
  t.is(getU16(frame, 34 + 4), 25);
  t.is(getI32(frame, 34 + 8), 5001);
  t.is(frame[34 + 12], 5 << 4);
  t.is(frame[34 + 13], ACK | PSH);
  t.is(getU16(frame, 34 + 14), 64240);
  t.is(getI32(frame, 34 + 16), 1001);
  t.is(new TextDecoder().decode(frame.slice(34 + 20)), "hello");
  const syns = packetsOn(net.wan).filter(({ metadata }) => metadata.has("tcp-syn"));
  t.is(syns.length, 2);
  t.deepEqual(
    syns.map(({ data }) => data[5]),
    [SYN, SYN | ACK],
  );
  // The context says what it is.
  t.like(syns[0].metadata.get("forward-context"), { protocol: 6, sourcePort: ENDS.sourcePort });
});

test("only what is begun over a path that says so goes as UDP; what the peer begins, as the peer says", (t) => {
  const net = twoRouters({ path: "" });
  completes(t, net, converse(net));
  t.true(packetsOn(net.wan).every(({ protocol }) => protocol === 6));
});

test("a segment with the urgent flag is dropped by name, and the connection goes on", (t) => {
  const net = established();
  t.is(send(net, false, ACK | URG | PSH, 1001, 5001, "urgent").length, 0);
  t.is(send(net, true, ACK | URG | PSH, 5001, 1001, "urgent").length, 0);
  t.deepEqual(dropsOf(net.west), { "tcp-urgent": 1 });
  t.deepEqual(dropsOf(net.east), { "tcp-urgent": 1 });
  t.is(send(net, false, ACK | PSH, 1001, 5001, "and on").length, 1);
});

test("a damaged segment is not made right: it comes to the peer, and no further", (t) => {
  for (const [how, security] of PROTECTIONS.slice(0, 3)) {
    const net = established({ security });
    const damage = (frame: Uint8Array) => setU16(frame, 50, getU16(frame, 50) ^ 0x0100);
    t.is(send(net, false, ACK | PSH, 1001, 5001, "damaged", damage).length, 0, how);
    t.deepEqual(dropsOf(net.east), { "udp-checksum": 1 }, how);
    t.is(send(net, false, ACK | PSH, 1001, 5001, "sent again").length, 1);
  }
});

test("what looks like metadata behind the UDP header gets the marker: an acknowledgment, flags and a window", (t) => {
  const net = established();
  const options = (frame: Uint8Array): void => {
    // acknowledgment, and then header length 13 words, flags without URG, window: the cookie's other half.
    setU32(frame, 34 + 8, getI32(COOKIE, 0));
    frame.set(COOKIE.slice(4), 34 + 12);
    frame[34 + 13] &= ~URG;
    setU16(frame, 50, l4Checksum(frame, 14, 34, frame.length));
  };
  // The cookie's flags have URG, which never travels: so nothing that does can be mistaken.
  t.is(COOKIE[5] & URG, URG);
  const got = send(net, false, ACK | PSH, 1001, 5001, pattern(100), options);
  t.is(got.length, 1);
  t.is(got[0].acknowledgment, getI32(COOKIE, 0));
  noDrops(t, net);
});

for (const [how, security] of PROTECTIONS) {
  for (const isPartial of [true, false]) {
    test(`super-frames ${isPartial ? "without" : "with"} a checksum, and from kernels that put datagrams together, arrive: ${how}`, (t) => {
      const net = established({ security, superFrames: true });
      // Some data first, and an answer that shows where encryption begins.
      send(net, false, ACK | PSH, 1001, 5001, "first");
      send(net, true, ACK | PSH, 5001, 1006, "answer");
      send(net, false, ACK, 1006, 5007);
      for (const isBack of [false, true]) {
        const sequence = isBack ? 5007 : 1006;
        const got = send(net, isBack, ACK | PSH, sequence, isBack ? 1006 : 5007, pattern(20_000), (frame) => {
          if (isPartial) setU16(frame, 50, fold(pseudoHeaderSum(frame, 14, frame.length - 34)));
        });
        t.deepEqual(Buffer.concat(got.map(({ payload }) => payload)), Buffer.from(pattern(20_000)));
        t.true(got.every(({ checksumsRight, protocol }) => checksumsRight && protocol === 6));
      }
      asUdp(t, net.wan);
      noDrops(t, net);
    });
  }
}

test("datagrams of a stream that a kernel put together are taken apart again", (t) => {
  const net = established({ superFrames: true });
  const segment = (n: number) => pattern(600, n);
  const frames: Uint8Array[] = [];
  net.wan.tamper = (frame, seen, from) => {
    if (from !== "west" || seen === undefined) return [{ frame }];
    frames.push(frame.slice());
    return [];
  };
  for (let n = 0; n < 3; n++) send(net, false, ACK | PSH, 1001 + n * 600, 5001, segment(n));
  t.is(frames.length, 3);
  // As UDP GRO hands them over: one header, the payloads behind one another, and how long each is.
  const size = frames[0].length - 42;
  const whole = new Uint8Array(42 + 3 * size);
  frames.forEach((frame, n) => {
    if (n === 0) whole.set(frame);
    else whole.set(frame.slice(42), 42 + n * size);
  });
  setU16(whole, 16, whole.length - 14);
  setU16(whole, 38, whole.length - 34);
  setU16(whole, 24, 0);
  setU16(whole, 24, ipv4HeaderChecksum(whole, 14));
  setU16(whole, 40, l4Checksum(whole, 14, 34, whole.length));
  const before = net.server.received.length;
  net.world.inject(net.wan, "east", whole, 0, size);
  net.world.run(3);
  t.deepEqual(
    net.server.received.slice(before).map(({ payload, sequence }) => [sequence, payload]),
    [0, 1, 2].map((n) => [1001 + n * 600, segment(n)]),
  );
});

test("a first segment that is as long as the link allows goes in fabric fragments, and is whole", (t) => {
  for (const [how, security] of PROTECTIONS) {
    for (const build of [twoRouters, threeRouters]) {
      const net = build({ security, path: ALWAYS });
      const [got] = send(net, false, SYN | PSH, 1000, 0, pattern(1456));
      t.deepEqual(got?.payload, pattern(1456), how);
      t.is(got.sequence, 1000);
      t.true(asUdp(t, net.wan).some(({ metadata }) => metadata.has("fragment")));
      noDrops(t, net);
    }
  }
});

test("segments of full size after the handshake fit, because MSS leaves room for digests and padding", (t) => {
  for (const [how, security] of PROTECTIONS) {
    const net = twoRouters({ security, path: ALWAYS });
    const [syn] = send(net, false, SYN, 1000, 0);
    send(net, true, SYN | ACK, 5000, 1001);
    send(net, false, ACK, 1001, 5001);
    const mss = getU16(syn.frame, 34 + 22);
    send(net, false, ACK | PSH, 1001, 5001, "x");
    send(net, true, ACK | PSH, 5001, 1002, "y");
    send(net, false, ACK, 1002, 5002);
    const before = packetsOn(net.wan).length;
    for (let n = 0; n < 5; n++) send(net, false, ACK, 1002 + n * mss, 5002, pattern(mss, n));
    const packets = packetsOn(net.wan).slice(before);
    t.true(
      packets.every(({ metadata }) => !metadata.has("fragment")),
      how,
    );
  }
});

test("losses, repeats and late packets on the wire cost nothing but time", (t) => {
  for (const [how, security] of PROTECTIONS) {
    const net = twoRouters({ security, path: ALWAYS });
    let n = 0;
    net.wan.tamper = (frame, seen) => {
      if (seen === undefined) return [{ frame }];
      n++;
      if (n % 7 === 3) return [];
      if (n % 5 === 2) return [{ frame }, { frame: frame.slice(), delayMs: 3 }];
      return [{ frame, delayMs: n % 3 }];
    };
    completes(t, net, converse(net), 60_000);
    t.pass(how);
  }
});

/** Kinds of the two paths between west and east. */
const MIXED: [string, Options["path"]][] = [
  ["both as UDP", ALWAYS],
  ["from UDP to TCP", { wan0: ALWAYS }],
  ["from TCP to UDP", { wan1: ALWAYS }],
];

for (const [kinds, path] of MIXED) {
  for (const [how, security] of PROTECTIONS) {
    test(`a connection moves to another path, ${kinds}, ${how}, and goes on`, (t) => {
      const net = twoPaths({ security, path: path! });
      const conversation = converse(net);
      t.true(net.world.runUntil(() => conversation.client.answers.length === 8, 5000));
      for (const router of [net.west, net.east]) {
        router.sessions.paths[0].up = false;
        router.sessions.flows.nextGeneration();
      }
      completes(t, net, conversation);
      t.deepEqual(
        [net.wan, net.wan2].map((link) => [...new Set(packetsOn(link).map(({ protocol }) => protocol))]),
        [0, 1].map((n) => [typeof path === "string" || path![`wan${n}`] !== undefined ? 17 : 6]),
      );
    });

    test(`a connection over two paths at once, ${kinds}, ${how}, is delivered once`, (t) => {
      const net = twoPaths({
        security,
        path: path!,
        ...TWICE,
      });
      let n = 0;
      for (const link of [net.wan, net.wan2]) {
        link.tamper = (frame, seen) => (seen !== undefined && n++ % 3 === 0 ? [] : [{ frame }]);
      }
      completes(t, net, converse(net), 60_000);
      t.deepEqual(
        [net.wan, net.wan2].map((link) => [...new Set(packetsOn(link).map(({ protocol }) => protocol))]),
        [0, 1].map((at) => [typeof path === "string" || path![`wan${at}`] !== undefined ? 17 : 6]),
      );
    });
  }
}

for (const name of ["west", "east"] as const) {
  test(`a connection goes on when ${name} is taken over${name === "east" ? ", and when it begins anew" : ""}`, (t) => {
    for (const [, security] of PROTECTIONS.slice(0, 4)) {
      for (const isPlanned of name === "east" ? [true, false] : [true]) {
        const net = twoRouters({ security, path: ALWAYS, sessions: "recovery: packet-based" });
        const conversation = converse(net);
        t.true(net.world.runUntil(() => conversation.client.answers.length === 8, 5000));
        if (isPlanned) takeOver(net, name);
        else net.world.restart(name);
        completes(t, net, conversation);
        t.true(packetsOn(net.wan).every(({ protocol }) => protocol === 17));
      }
    }
  });
}

test("a device between the routers reports an error, and the host knows its segment by it", (t) => {
  for (const behind of [8, 20, 40]) {
    for (const build of [twoRouters, threeRouters]) {
      const net = established({}, build);
      send(net, true, ACK | PSH, 5001, 1001, "some data");
      const link = (net as { wan2?: Link }).wan2 ?? net.wan;
      const from = link === net.wan ? "west" : "middle";
      send(net, false, ACK | PSH, 1001, 5010, pattern(300));
      const about = packetsOn(link, from).at(-1)!.frame;
      const before = net.client.received.length;
      net.world.inject(link, from, icmpError("198.18.9.9", 3, 4, about, 1000, behind));
      net.world.run(5);
      const [error] = net.client.received.slice(before);
      t.is(error?.icmpType, 3);
      const quote = 14 + 20 + 8;
      t.is(error.frame[quote + 9], 6, "a quote of TCP");
      t.deepEqual([...error.frame.slice(quote + 12, quote + 20)], [10, 1, 0, 2, 10, 2, 0, 2]);
      t.is(getU16(error.frame, quote + 20), ENDS.sourcePort);
      t.is(getU16(error.frame, quote + 22), ENDS.destinationPort);
      // What is in flight: nothing of it was acknowledged.
      t.is(getI32(error.frame, quote + 24), 1001, `${behind} ${build.name}`);
      t.is(getU16(error.frame, 14 + 20 + 6), 1000);
    }
  }
});

test("a segment whose TTL ends at the far router, and one too long for the network behind it, are told of as TCP", (t) => {
  for (const [how, security] of PROTECTIONS) {
    const net = established({ security, farMtu: 1000 });
    const quotes = (ttl: number, length: number) => {
      const before = net.client.received.length;
      const frame = tcpFrame(ENDS, { flags: ACK | PSH, sequence: 1001, acknowledgment: 5001 }, pattern(length), ttl);
      net.world.send(net.client, frame);
      net.world.run(4);
      return net.client.received
        .slice(before)
        .map(({ frame: error, icmpType }) => [icmpType, error[42 + 9], getU16(error, 42 + 20), getI32(error, 42 + 24)]);
    };
    t.deepEqual(quotes(2, 100), [[11, 6, ENDS.sourcePort, 1001]], how);
    t.deepEqual(quotes(64, 1200), [[3, 6, ENDS.sourcePort, 1001]], how);
  }
});

test("a segment of no session is refused as ever, and nothing opens one in its midst", (t) => {
  const net = twoRouters({ path: ALWAYS });
  net.world.send(net.client, tcpFrame(ENDS, { flags: ACK | PSH, sequence: 1, acknowledgment: 1 }, "lost"));
  net.world.run(3);
  t.is(dropsOf(net.west)["tcp-mid-flow"], 1);
  t.true((net.client.received.at(-1)!.tcpFlags & RST) !== 0);
  t.is(packetsOn(net.wan).length, 0);
});

test("a reset and a close end the session on both routers as they do where TCP goes as TCP", (t) => {
  for (const flags of [RST | ACK, FIN | ACK]) {
    const net = established();
    send(net, false, flags, 1001, 5001);
    if ((flags & FIN) !== 0) {
      send(net, true, FIN | ACK, 5001, 1002);
      send(net, false, ACK, 1002, 5002);
    }
    net.world.skip(15_000, 100);
    for (const router of [net.west, net.east]) t.is(sessionRows(router).length, 0);
  }
});

test("a peer's UDP that says it is TCP, and is not, is dropped by name", (t) => {
  for (const [why, change, drop] of [
    ["too short", (payload: Uint8Array) => payload.slice(0, 11), "tcp-in-udp"],
    ["a header longer than the packet", (payload: Uint8Array) => payload.with(4, 0xf0), "tcp-in-udp"],
    ["a header shorter than can be", (payload: Uint8Array) => payload.with(4, 0x40), "tcp-in-udp"],
    ["urgent", (payload: Uint8Array) => payload.with(5, ACK | URG), "tcp-in-udp"],
  ] as const) {
    const net = established();
    send(net, false, ACK | PSH, 1001, 5001, "hello");
    const bare = packetsOn(net.wan, "west").at(-1)!;
    const before = net.server.received.length;
    net.world.inject(net.wan, "east", udpFrame(bare, change(bare.payload)));
    net.world.run(3);
    t.is(net.server.received.length, before, why);
    t.deepEqual(dropsOf(net.east), { [drop]: 1 }, why);
  }
});

test("a router behind a NAT: TCP begun at the other side goes as UDP, and needs no tunnel once it is answered", (t) => {
  const net = behindNat({ fabric: fabricText("sha256-128", "time-based", "metadata", "none") }, undefined, ALWAYS);
  const ends = { source: REPLY.source, destination: REPLY.destination, sourcePort: 40_000, destinationPort: 7 };
  const client = new TcpClient(net.world, net.server, ends, REQUESTS, 3);
  net.server.onPacket = (packet) => client.receive(packet);
  net.client.onPacket = tcpServer(net.world, net.client);
  t.true(net.world.runUntil(() => client.state === "closed", 20_000));
  t.deepEqual(client.answers, ANSWERS);
  const tunnelled = packetsOn(net.wan).filter(({ metadata }) => metadata.has("tunnelled-protocol"));
  t.true(tunnelled.length > 0 && tunnelled.length < 4, `${tunnelled.length}`);
  t.true(packetsOn(net.wan).every(({ protocol }) => protocol === 17));
});

test("several workers carry connections as UDP, whichever of them has a session", (t) => {
  const net = twoRouters({ path: ALWAYS });
  for (const name of ["west", "east"]) net.world.split(name, 3);
  const clients = Array.from({ length: 9 }, (_, n) => {
    const ends = { ...ENDS, sourcePort: 40_000 + n };
    return new TcpClient(net.world, net.client, ends, REQUESTS, 3);
  });
  net.client.onPacket = (packet) => {
    for (const client of clients) client.receive(packet);
  };
  net.server.onPacket = tcpServer(net.world, net.server);
  t.true(net.world.runUntil(() => clients.every(({ state }) => state === "closed"), 20_000));
  for (const client of clients) t.deepEqual(client.answers, ANSWERS);
  asUdp(t, net.wan);
});

test("a session that is not TCP does not move to a tuple of TCP, whatever a peer says", (t) => {
  const net = eastAlone();
  net.world.send(net.peer, udpFrame(TO_EAST, concat(forwardMetadata(), "hello")));
  net.world.run(3);
  t.is(net.server.received.length, 1);
  const numbers = { flags: ACK, sequence: 1, acknowledgment: 1 };
  net.world.send(net.peer, tcpFrame({ ...TO_EAST, sourcePort: 20_000 }, numbers, concat(forwardMetadata(), "hello")));
  net.world.run(3);
  t.is(net.server.received.length, 1);
  t.deepEqual(dropsOf(net.east), { "metadata-context": 1 });
});

test("type of service goes with it", (t) => {
  const net = established();
  const [got] = send(net, false, ACK | PSH, 1001, 5001, "x", (frame) =>
    withHeader(frame, (bytes) => (bytes[15] = 0xb9)),
  );
  t.is(got.frame[15], 0xb9);
  t.is(packetsOn(net.wan).at(-1)!.frame[15], 0xb9);
});
