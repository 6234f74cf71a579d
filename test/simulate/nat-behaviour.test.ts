// What NAT must do: a case for each MUST of RFC 4787 (UDP), 5382 (TCP), 5508 (ICMP) and 7857 (updates). The table, with what is
// not applicable and what fails: lib/session/README.md. A case whose title says "fails" holds on to what the router does instead.

import test from "ava";
import { setU16 } from "../../lib/base/bytes.ts";
import { l4Checksum } from "../../lib/wire/checksum.ts";
import { ACK, FIN, RST, SYN } from "../../lib/wire/tcp.ts";
import { TcpClient, tcpServer } from "./endpoints.ts";
import {
  answerTo,
  edgeAlone,
  edgeBehindMiddle,
  edgeBehindPeer,
  exhaust,
  FAR,
  FARTHER,
  GATEWAY,
  identifierOf,
  isNatPort,
  mappings,
  type NatNet,
  type NatOptions,
  NEIGHBOR,
  OUTSIDE,
  ping,
  sendOut,
  sourceOf,
} from "./nat-edges.ts";
import {
  concat,
  echoFrame,
  icmpError,
  pattern,
  protocolFrame,
  type SeenPacket,
  swapEnds,
  tcpFrame,
  udpFrame,
  withHeader,
} from "./packets.ts";
import { CLIENT, dropsOf, packetsOn } from "./topologies.ts";

const NETS: [string, (options?: NatOptions) => NatNet][] = [
  ["one router", edgeAlone],
  ["behind a peer", edgeBehindPeer],
  ["behind a router in between", edgeBehindMiddle],
];

const MINUTE = 60_000;

/** The packet that an ICMP error quotes, behind an Ethernet header, as far as it is quoted. */
const quoteOf = ({ payload }: SeenPacket) => concat(new Uint8Array(14), payload);
const headerOf = (frame: Uint8Array) => Buffer.from(frame.subarray(26, 42)).toString("hex");
const errorsAt = (packets: readonly SeenPacket[]) => packets.filter(({ icmpType }) => [3, 11, 12].includes(icmpType));

/** Whether every router has so many sessions, and the edge as many mappings. */
function everywhere(net: NatNet, count: number): boolean {
  const counts = [...net.world.routers.values()].map(({ sessions }) => sessions.table.count);
  return mappings(net.edge) === count && counts.every((sessions) => sessions === count);
}

/** Send a SYN from inside; returns it as it came outside. */
function sendSyn(net: NatNet, { source = CLIENT, sourcePort = 40_000, destination = FAR, destinationPort = 80 } = {}) {
  const before = net.outside.received.length;
  const ends = { source, sourcePort, destination, destinationPort };
  net.world.send(net.client, tcpFrame(ends, { flags: SYN, sequence: 1000, acknowledgment: 0 }));
  net.world.run(5);
  return net.outside.received.slice(before).find(({ protocol }) => protocol === 6);
}

/** Send a segment from outside to whoever sent `to`; returns what came of it inside. */
function segmentBack(net: NatNet, to: SeenPacket, flags: number, sequence = 5000, acknowledgment = 1001) {
  const before = net.client.received.length;
  net.world.send(net.outside, tcpFrame(swapEnds(to), { flags, sequence, acknowledgment }));
  net.world.run(5);
  return net.client.received[before];
}

function segmentOut(net: NatNet, flags: number, sequence = 1001, acknowledgment = 5001): void {
  const ends = { source: CLIENT, sourcePort: 40_000, destination: FAR, destinationPort: 80 };
  net.world.send(net.client, tcpFrame(ends, { flags, sequence, acknowledgment }));
  net.world.run(5);
}

/** A connection from inside that both ends have agreed to; returns its SYN as it came outside. */
function connect(net: NatNet): SeenPacket {
  const syn = sendSyn(net)!;
  segmentBack(net, syn, SYN | ACK);
  segmentOut(net, ACK);
  return syn;
}

for (const [name, make] of NETS) {
  test(`RFC 4787 REQ-1, ${name}: a port has the same port outside for every destination`, (t) => {
    const net = make();
    const places = [
      [FAR, 53],
      [FAR, 54],
      [FARTHER, 53],
    ] as const;
    const sources = places.map(([destination, destinationPort]) =>
      sourceOf(sendOut(net, { destination, destinationPort })),
    );
    t.deepEqual(sources, Array(3).fill(sources[0]));
    t.is(mappings(net.edge), 1);
    t.not(sourceOf(sendOut(net, { sourcePort: 40_001 })), sources[0]);
  });

  test(`RFC 4787 REQ-4, ${name}: an even port is even outside, and an odd one odd`, (t) => {
    const net = make();
    for (let sourcePort = 40_000; sourcePort < 40_016; sourcePort++)
      t.true(isNatPort(sendOut(net, { sourcePort })!.sourcePort, sourcePort));
  });

  test(`RFC 7857 REQ-10, ${name}: nobody guesses the next port from those before`, (t) => {
    const net = make();
    const ports = Array.from({ length: 16 }, (_, n) => sendOut(net, { sourcePort: 40_000 + 2 * n })!.sourcePort);
    const steps = ports.slice(1).map((port, n) => port - ports[n]);
    t.true(new Set(steps).size > 12);
    t.true(Math.max(...ports) - Math.min(...ports) > 20_000);
  });

  test(`RFC 4787 REQ-3, RFC 5382 REQ-7, ${name}: no two hosts have one port, whatever port they send from`, (t) => {
    const net = make();
    const sources = [CLIENT, NEIGHBOR].flatMap((source) => [
      sourceOf(sendOut(net, { source })),
      sourceOf(sendOut(net, { source, sourcePort: 40_001 })),
    ]);
    t.is(new Set(sources).size, 4);
    const tcp = [CLIENT, NEIGHBOR].map((source) => sourceOf(sendSyn(net, { source })));
    t.is(new Set(tcp).size, 2);
  });

  test(`RFC 4787 REQ-5, ${name}: a mapping lives for two minutes without a packet, and more`, (t) => {
    const net = make();
    const out = sendOut(net)!;
    net.world.skip(2 * MINUTE + 1000);
    t.is(answerTo(net, out)?.destinationPort, 40_000);
    t.is(sourceOf(sendOut(net, { destination: FARTHER })), sourceOf(out));
  });

  test(`RFC 4787 REQ-6, ${name}: what is sent out keeps the mapping`, (t) => {
    const net = make();
    const out = sendOut(net)!;
    for (let n = 0; n < 5; n++) {
      net.world.skip(100_000);
      t.is(sourceOf(sendOut(net)), sourceOf(out));
    }
    t.is(answerTo(net, out)?.destinationPort, 40_000);
  });

  test(`RFC 4787 REQ-11, ${name}: when ports run short a host is refused, and everything else is as before`, (t) => {
    const net = make({ sessions: 50_000 });
    const out = sendOut(net)!;
    exhaust(net.edge, OUTSIDE, 1);
    const other = sendOut(net, { sourcePort: 40_001 })!;
    t.is(sendOut(net, { source: NEIGHBOR }), undefined);
    t.is(dropsOf(net.edge)["nat-ports"], 1);
    t.is(sourceOf(sendOut(net, { destination: FARTHER })), sourceOf(out));
    t.is(answerTo(net, other)?.destinationPort, 40_001);
  });

  test(`RFC 4787 REQ-12, RFC 5382 REQ-10, ${name}: no ICMP message ends a mapping or a connection`, (t) => {
    const net = make();
    const out = sendOut(net)!;
    const syn = connect(net);
    for (const type of [3, 11, 12])
      for (const about of [out, syn]) {
        net.world.send(net.outside, icmpError(FAR, type, 1, about.frame));
        net.world.run(5);
      }
    t.is(errorsAt(net.client.received).length, 6);
    t.is(answerTo(net, out)?.destinationPort, 40_000);
    t.is(segmentBack(net, syn, ACK, 5001)?.destinationPort, 40_000);
  });

  test(`RFC 4787 REQ-13, RFC 5508 REQ-10 a, ${name}: what does not fit and may not be cut is answered, the rest is cut`, (t) => {
    const net = make({ outerMtu: 1000 });
    const ends = { source: CLIENT, sourcePort: 40_000, destination: FAR, destinationPort: 53 };
    sendOut(net);
    const whole = udpFrame(ends, pattern(1200));
    net.world.send(net.client, whole);
    net.world.run(5);
    const [error] = errorsAt(net.client.received);
    t.is(Buffer.from(error.frame).readUInt16BE(14 + 20 + 6), 1000);
    t.is(headerOf(quoteOf(error)), headerOf(whole));
    const before = net.out.seen.length;
    net.world.send(
      net.client,
      withHeader(udpFrame(ends, pattern(1200)), (bytes) => setU16(bytes, 20, 0)),
    );
    net.world.run(5);
    const pieces = net.out.seen
      .slice(before)
      .map(({ frame }) => [Buffer.from(frame).readUInt16BE(20) & 0x1fff, frame.length]);
    t.deepEqual(
      pieces.map(([at]) => at),
      [0, 122],
    );
    t.true(pieces.every(([, length]) => length <= 1014));
  });

  test(`RFC 4787 REQ-14, ${name}: fragments from outside come in any order`, (t) => {
    const net = make();
    const out = sendOut(net)!;
    const answer = udpFrame(swapEnds(out), pattern(1000));
    const piece = (from: number, to: number, more: boolean, id: number) =>
      withHeader(concat(answer.slice(0, 34), answer.slice(34 + from, 34 + to)), (bytes) => {
        setU16(bytes, 16, 20 + to - from);
        setU16(bytes, 18, id);
        setU16(bytes, 20, (more ? 0x2000 : 0) | (from >>> 3));
      });
    for (const order of [
      [0, 1, 2],
      [2, 1, 0],
      [1, 0, 2],
    ]) {
      const id = 100 + order[0];
      const pieces = [piece(0, 400, true, id), piece(400, 800, true, id), piece(800, 1008, false, id)];
      for (const n of order) net.world.send(net.outside, pieces[n]);
      net.world.run(5);
      const back = net.client.received.at(-1)!;
      t.deepEqual([back.destinationPort, back.payload.length, back.checksumsRight], [40_000, 1000, true]);
    }
    t.is(net.client.received.length, 3);
  });

  test(`RFC 5382 REQ-1, ${name}: a port of TCP has the same port outside for every destination`, (t) => {
    const net = make();
    const sources = [FAR, FARTHER].map((destination) => sourceOf(sendSyn(net, { destination })));
    t.deepEqual(sources, Array(2).fill(sources[0]));
  });

  test(`RFC 5382 REQ-2, ${name}: both ends may begin at once`, (t) => {
    const net = make();
    const syn = sendSyn(net)!;
    t.is(segmentBack(net, syn, SYN, 5000, 0)?.tcpFlags, SYN);
    segmentOut(net, SYN | ACK, 1000, 5001);
    t.is(segmentBack(net, syn, SYN | ACK)?.tcpFlags, SYN | ACK);
    segmentOut(net, ACK);
    t.is(segmentBack(net, syn, ACK, 5001)?.tcpFlags, ACK);
    t.deepEqual(
      packetsOn(net.out, "edge").map(({ tcpFlags }) => tcpFlags),
      [SYN, SYN | ACK, ACK],
    );
  });

  test(`RFC 5382 REQ-4, ${name}: an unsolicited SYN is not answered, and one from inside opens the connection all the same`, (t) => {
    const net = make();
    const first = sendSyn(net, { destination: FARTHER })!;
    net.world.send(
      net.outside,
      tcpFrame(
        { source: FAR, sourcePort: 80, destination: OUTSIDE, destinationPort: first.sourcePort },
        { flags: SYN, sequence: 1, acknowledgment: 0 },
      ),
    );
    net.world.run(5);
    const before = net.outside.received.length;
    net.world.skip(7000);
    t.deepEqual([net.outside.received.length, net.client.received.length], [before, 0]);
    t.is(sourceOf(connect(net)), sourceOf(first));
  });

  test(`RFC 5382 REQ-5, ${name}: a handshake waits for 4 minutes, at every router`, (t) => {
    const net = make();
    sendSyn(net);
    net.world.skip(4 * MINUTE - 1000);
    t.true(everywhere(net, 1));
    net.world.skip(4000);
    t.true(everywhere(net, 0));
  });

  test(`RFC 5382 REQ-5, ${name}: a connection waits for 2 hours and 4 minutes, at every router`, (t) => {
    const net = make();
    connect(net);
    net.world.skip(124 * MINUTE - 1000, 10_000);
    t.true(everywhere(net, 1));
    net.world.skip(2 * MINUTE);
    t.true(everywhere(net, 0));
  });

  test(`RFC 5382 REQ-5, ${name}: a connection that both ends have closed waits for 4 minutes, at every router`, (t) => {
    const net = make();
    const syn = connect(net);
    segmentOut(net, FIN | ACK);
    segmentBack(net, syn, FIN | ACK, 5001, 1002);
    segmentOut(net, ACK, 1002, 5002);
    net.world.skip(4 * MINUTE - 1000);
    t.true(everywhere(net, 1));
    net.world.skip(4000);
    t.true(everywhere(net, 0));
  });

  test(`RFC 7857 section 2, ${name}: a reset leaves the mapping for 4 minutes, and a packet behind it the connection`, (t) => {
    const net = make();
    const syn = connect(net);
    segmentBack(net, syn, RST, 9_000_000);
    net.world.skip(4 * MINUTE - 1000);
    t.true(everywhere(net, 1));
    net.world.skip(2000);
    t.true(everywhere(net, 0));
    const again = make();
    const other = connect(again);
    segmentBack(again, other, RST, 9_000_000);
    segmentOut(again, ACK);
    segmentBack(again, other, ACK, 5001);
    again.world.skip(5 * MINUTE);
    t.true(everywhere(again, 1));
  });

  test(`RFC 4787 REQ-9, ${name}: a host reaches its own mapping, which lives as long as that session`, (t) => {
    const net = make();
    const one = sendOut(net)!;
    sendOut(net, { sourcePort: 40_001, destination: OUTSIDE, destinationPort: one.sourcePort });
    const there = net.client.received.at(-1)!;
    t.deepEqual([there.source, there.destinationPort, there.text], [OUTSIDE, 40_000, "question"]);
    for (let n = 0; n < 4; n++) {
      net.world.skip(100_000);
      sendOut(net, { sourcePort: 40_001, destination: OUTSIDE, destinationPort: one.sourcePort });
    }
    t.is(net.client.received.length, 5);
    t.is(mappings(net.edge), 2);
    net.world.skip(400_000);
    t.is(mappings(net.edge), 0);
  });

  test(`RFC 5508 REQ-1, ${name}: pings go out and their replies come back, with one identifier outside for every destination`, (t) => {
    const net = make();
    const [out, farther] = [FAR, FARTHER].map((destination) => ping(net, 5, 1, CLIENT, destination)!);
    t.is(identifierOf(out), identifierOf(farther));
    for (const from of [FAR, FARTHER]) {
      net.world.send(net.outside, echoFrame(from, OUTSIDE, identifierOf(out), 1, "ping", true));
      net.world.run(5);
      t.deepEqual([net.client.received.at(-1)!.source, identifierOf(net.client.received.at(-1)!)], [from, 5]);
    }
  });

  test(`RFC 5508 REQ-2, ${name}: a ping's mapping lives for a minute`, (t) => {
    const net = make();
    ping(net, 5);
    net.world.skip(59_000);
    t.is(mappings(net.edge), 1);
    t.true(everywhere(net, 1));
    const [before] = net.outside.received;
    t.is(identifierOf(ping(net, 5, 2)!), identifierOf(before));
    net.world.skip(62_000);
    t.true(everywhere(net, 0));
  });

  test(`RFC 5508 REQ-3 b and d, ${name}: the quote's header may have options, and extensions may be behind it`, (t) => {
    const net = make();
    const out = sendOut(net)!;
    const { frame } = out;
    const withOptions = withHeader(concat(frame.slice(0, 34), Uint8Array.of(1, 1, 1, 1), frame.slice(34)), (bytes) => {
      bytes[14] = 0x46;
      setU16(bytes, 16, bytes.length - 14);
    });
    for (const about of [withOptions, frame]) {
      net.world.send(net.outside, icmpError(FAR, 11, 0, concat(about, new Uint8Array(128)), 0, 140));
      net.world.run(5);
    }
    const errors = errorsAt(net.client.received);
    t.deepEqual(
      errors.map(({ source, destination, checksumsRight }) => [source, destination, checksumsRight]),
      Array(2).fill([FAR, CLIENT, true]),
    );
  });

  for (const [what, send] of [
    ["a datagram", (net: NatNet) => sendOut(net)!],
    ["a segment", (net: NatNet) => sendSyn(net)!],
    ["a ping", (net: NatNet) => ping(net, 5)!],
  ] as const) {
    test(`RFC 5508 REQ-4, REQ-6, ${name}: an error from outside about ${what} quotes it as the host sent it`, (t) => {
      const net = make();
      const out = send(net);
      const sent = packetsOn(net.lan, "client").at(-1)!;
      net.world.send(net.outside, icmpError(FARTHER, 3, 13, out.frame));
      net.world.run(5);
      const [error] = errorsAt(net.client.received);
      t.deepEqual([error.icmpType, error.frame[14 + 20 + 1]], [3, 13]);
      t.deepEqual([error.source, error.destination, error.checksumsRight], [FARTHER, CLIENT, true]);
      // Addresses and the 8 bytes behind the header, checksums of UDP and ICMP among them.
      t.is(headerOf(quoteOf(error)), headerOf(sent.frame));
      t.is(mappings(net.edge), 1);
      const idle = net.edge.sessions.table.count;
      t.is(idle, 1);
    });
  }

  test(`RFC 5508 REQ-5, ${name}: an error from inside is about what came from outside, and comes from the outside address`, (t) => {
    const net = make();
    const out = sendOut(net)!;
    const answer = udpFrame(swapEnds(out), "answer");
    net.world.send(net.outside, answer);
    net.world.run(5);
    net.world.send(net.client, icmpError(CLIENT, 3, 3, net.client.received.at(-1)!.frame));
    net.world.run(5);
    const [error] = errorsAt(net.outside.received);
    t.deepEqual([error.icmpType, error.frame[14 + 20 + 1]], [3, 3]);
    t.deepEqual([error.source, error.destination, error.checksumsRight], [OUTSIDE, FAR, true]);
    t.is(headerOf(quoteOf(error)), headerOf(answer));
  });

  test(`RFC 5508 REQ-4 and 5, ${name}: errors about a protocol without ports quote what was sent, and come from the outside address`, (t) => {
    const net = make();
    net.world.send(net.client, protocolFrame(CLIENT, FAR, 47, pattern(40)));
    net.world.run(5);
    const out = net.outside.received.at(-1)!;
    t.is(out.source, OUTSIDE);
    net.world.send(net.outside, icmpError(FAR, 3, 2, out.frame));
    net.world.run(5);
    const back = net.client.received.at(-1)!;
    t.deepEqual([back.source, back.icmpType], [FAR, 3]);
    t.is(headerOf(quoteOf(back)), headerOf(protocolFrame(CLIENT, FAR, 47, pattern(40))));
    net.world.send(net.outside, protocolFrame(FAR, OUTSIDE, 47, pattern(40, 5)));
    net.world.run(5);
    net.world.send(net.client, icmpError(CLIENT, 3, 2, net.client.received.at(-1)!.frame));
    net.world.run(5);
    const [error] = errorsAt(net.outside.received);
    t.deepEqual([error.source, error.destination, error.checksumsRight], [OUTSIDE, FAR, true]);
    t.is(headerOf(quoteOf(error)), headerOf(protocolFrame(FAR, OUTSIDE, 47, pattern(40, 5))));
  });

  test(`RFC 5508 REQ-10 b, ${name}: a packet whose TTL ends is answered`, (t) => {
    const net = make();
    sendOut(net);
    const ends = { source: CLIENT, sourcePort: 40_000, destination: FAR, destinationPort: 53 };
    net.world.send(net.client, udpFrame(ends, "short", 1));
    net.world.run(5);
    t.is(errorsAt(net.client.received)[0]?.icmpType, 11);
  });
}

for (const protocol of ["UDP", "TCP"]) {
  test(`RFC 4787 REQ-9, RFC 5382 REQ-8, ${protocol}: a host is reached at its outside address from inside, by the sender's own`, (t) => {
    const net = edgeAlone();
    const send = protocol === "UDP" ? sendOut : sendSyn;
    const [one, two] = [send(net, { source: CLIENT })!, send(net, { source: NEIGHBOR })!];
    const ends = { source: NEIGHBOR, sourcePort: 40_000, destination: OUTSIDE, destinationPort: one.sourcePort };
    const make = (from: typeof ends, flags: number) =>
      protocol === "UDP" ? udpFrame(from, "hello") : tcpFrame(from, { flags, sequence: 1, acknowledgment: 0 });
    net.world.send(net.client, make(ends, SYN));
    net.world.run(5);
    const there = net.client.received.at(-1)!;
    t.deepEqual([sourceOf(there), there.destination, there.destinationPort], [sourceOf(two), CLIENT, 40_000]);
    t.true(there.checksumsRight);
    net.world.send(net.client, make(swapEnds(there), SYN | ACK));
    net.world.run(5);
    const back = net.client.received.at(-1)!;
    t.deepEqual([sourceOf(back), back.destination, back.destinationPort], [sourceOf(one), NEIGHBOR, 40_000]);
    // And the error about it: RFC 5508, REQ-7.
    net.world.send(net.client, icmpError(CLIENT, 3, 3, there.frame));
    net.world.run(5);
    const [error] = errorsAt(net.client.received);
    t.deepEqual([error.source, error.destination, error.checksumsRight], [OUTSIDE, NEIGHBOR, true]);
    t.deepEqual(dropsOf(net.edge), {});
  });
}

test("RFC 5508 REQ-8: a session that cannot be had is refused with code 13", (t) => {
  const net = edgeAlone({ sessions: 50_000, tenant: ", refused: reject" });
  exhaust(net.edge, OUTSIDE, 0);
  t.is(sendOut(net), undefined);
  const [error] = errorsAt(net.client.received);
  t.deepEqual([error.icmpType, error.frame[14 + 20 + 1]], [3, 13]);
});

test("RFC 5508 REQ-3: a damaged error is dropped", (t) => {
  const net = edgeAlone();
  const error = icmpError(FAR, 3, 3, sendOut(net)!.frame);
  error[36] ^= 1;
  net.world.send(net.outside, error);
  net.world.run(5);
  t.is(net.client.received.length, 0);
  t.not(l4Checksum(error, 14, 34, error.length), 0);
});

const WEB: NatOptions = {
  services: `  - { name: web, addresses: [${OUTSIDE}/32], transports: [tcp/8080, udp/8080], access: [corp, world] }\n`,
  routes: '  - { service: web, target: "10.1.0.3:80" }\n',
  outer: ", tenant: world",
};

for (const protocol of ["UDP", "TCP"]) {
  test(`port forwarding, ${protocol}: from outside to another port, and from inside with the sender's outside address`, (t) => {
    const net = edgeAlone(WEB);
    const make = (
      from: { source: string; sourcePort: number; destination: string; destinationPort: number },
      flags: number,
    ) => (protocol === "UDP" ? udpFrame(from, "hello") : tcpFrame(from, { flags, sequence: 1, acknowledgment: 0 }));
    net.world.send(
      net.outside,
      make({ source: FAR, sourcePort: 5000, destination: OUTSIDE, destinationPort: 8080 }, SYN),
    );
    net.world.run(5);
    const there = net.client.received.at(-1)!;
    t.deepEqual([sourceOf(there), there.destination, there.destinationPort], [`${FAR}:5000`, NEIGHBOR, 80]);
    net.world.send(net.client, make(swapEnds(there), SYN | ACK));
    net.world.run(5);
    t.is(sourceOf(net.outside.received.at(-1)), `${OUTSIDE}:8080`);

    net.world.send(
      net.client,
      make({ source: CLIENT, sourcePort: 5001, destination: OUTSIDE, destinationPort: 8080 }, SYN),
    );
    net.world.run(5);
    const within = net.client.received.at(-1)!;
    t.deepEqual([within.source, within.destination, within.destinationPort], [OUTSIDE, NEIGHBOR, 80]);
    t.true(isNatPort(within.sourcePort, 5001));
    net.world.send(net.client, make(swapEnds(within), SYN | ACK));
    net.world.run(5);
    const back = net.client.received.at(-1)!;
    t.deepEqual([sourceOf(back), back.destination, back.destinationPort], [`${OUTSIDE}:8080`, CLIENT, 5001]);
    t.deepEqual(dropsOf(net.edge), {});
  });
}

for (const protocol of ["UDP", "TCP"]) {
  test(`RFC 5508 REQ-5, port forwarding, ${protocol}: an error from inside comes from the address that was asked, and quotes that`, (t) => {
    const net = edgeAlone(WEB);
    const ends = { source: FAR, sourcePort: 5000, destination: OUTSIDE, destinationPort: 8080 };
    const asked =
      protocol === "UDP" ? udpFrame(ends, "hello") : tcpFrame(ends, { flags: SYN, sequence: 1, acknowledgment: 0 });
    net.world.send(net.outside, asked);
    net.world.run(5);
    net.world.send(net.client, icmpError(NEIGHBOR, 3, 3, net.client.received.at(-1)!.frame));
    net.world.run(5);
    const [error] = errorsAt(net.outside.received);
    t.deepEqual([error.source, error.destination, error.checksumsRight], [OUTSIDE, FAR, true]);
    t.is(headerOf(quoteOf(error)), headerOf(asked));
  });
}

test("port forwarding carries a connection from outside", (t) => {
  const net = edgeAlone(WEB);
  const ends = { source: GATEWAY, sourcePort: 6000, destination: OUTSIDE, destinationPort: 8080 };
  const tcp = new TcpClient(net.world, net.outside, ends, ["one", "two"]);
  net.outside.onPacket = (packet) => tcp.receive(packet);
  net.client.onPacket = tcpServer(net.world, net.client);
  t.true(net.world.runUntil(() => tcp.state === "closed", 3000));
  t.deepEqual(tcp.answers, ["ONE", "TWO"]);
});
