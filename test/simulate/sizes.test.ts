// Packets as large as hosts can make them: 65,507 bytes in a ping or a datagram over IPv4, 65,527 over IPv6. What routers put on
// them makes them longer than any one IP packet, and they arrive all the same, byte by byte, both ways.

import test from "ava";
import { setU16 } from "../../lib/base/bytes.ts";
import { parseAddress } from "../../lib/control/address-text.ts";
import { echoToIcmpv6 } from "../../lib/ipv6/icmp-echo.ts";
import { addressBook } from "../../lib/table/address-book.ts";
import { ipv4HeaderChecksum, l4Checksum } from "../../lib/wire/checksum.ts";
import { writeIcmp } from "../../lib/wire/icmp.ts";
import { writeIpv4 } from "../../lib/wire/ipv4.ts";
import { ACK, SYN, writeTcp } from "../../lib/wire/tcp.ts";
import { writeUdp } from "../../lib/wire/udp.ts";
import { FAR, type Family, LAN, type Net, netOf, type Sealing, type Wire } from "./families.ts";
import { concat, type Ends, fromIpv6, metadataOf, pattern, swapEnds, tcpFrame } from "./packets.ts";
import { AES_256, EVERY_PACKET, fabricText, SEALED } from "./protection.ts";
import { dropsOf, sessionRows, TWICE, twoPaths } from "./topologies.ts";
import type { Link, SimHost, World } from "./world.ts";

/** The most that fits: 65,535 less the headers, of which IPv6 does not count its own. */
const DATA_MAX = { 4: 65_507, 6: 65_527 } as const;

const CLEAR: Sealing = { name: "in clear" };
const SIGNED: Sealing = {
  name: "every packet signed",
  fabric: fabricText("sha256", "time-based", "every-packet", "none"),
};
const BOTH: Sealing = {
  name: "signed and encrypted",
  fabric: EVERY_PACKET,
  payload: AES_256,
};

/** A packet of a host, IPv4 in form: L4 behind 34 bytes, however long. */
function packetOf({ source, destination }: Ends, protocol: number, l4Length: number): Uint8Array {
  const frame = new Uint8Array(34 + l4Length);
  frame[12] = 8;
  writeIpv4(frame, 14, 0, 0, 7, 0, 64, protocol, parseAddress(source), parseAddress(destination));
  return frame;
}

function datagram(ends: Ends, data: Uint8Array): Uint8Array {
  const frame = packetOf(ends, 17, 8 + data.length);
  writeUdp(frame, 34, ends.sourcePort, ends.destinationPort, 8 + data.length);
  frame.set(data, 42);
  setU16(frame, 40, l4Checksum(frame, 14, 34, frame.length));
  return frame;
}

/** An echo; between IPv6 hosts ICMPv6's, for it will be cut. */
function ping(ends: Ends, identifier: number, data: Uint8Array, isReply: boolean, isIpv6: boolean): Uint8Array {
  const frame = packetOf(ends, 1, 8 + data.length);
  frame.set(data, 42);
  writeIcmp(frame, 34, isReply ? 0 : 8, 0, (identifier << 16) | 1, frame.length);
  if (isIpv6 && frame.length > 14 + 1480) echoToIcmpv6(addressBook, frame, 14, 34, frame.length);
  return frame;
}

/** The packet as its host sends it, in pieces where it is too long for a link of 1500 bytes. */
function piecesOf(frame: Uint8Array, id: number, isIpv6: boolean): Uint8Array[] {
  const room = isIpv6 ? 1448 : 1480;
  const pieces: Uint8Array[] = [];
  for (let at = 34; at < frame.length; at += room) {
    const piece = concat(frame.slice(0, 34), frame.slice(at, at + room));
    setU16(piece, 16, piece.length - 14);
    setU16(piece, 18, id);
    setU16(piece, 20, (at + room < frame.length ? 0x2000 : 0) | ((at - 34) >>> 3));
    setU16(piece, 24, ipv4HeaderChecksum(piece, 14));
    pieces.push(piece);
  }
  return pieces;
}

/** What is behind the IP header of the last packet that `from` put on a link, whole. */
function lastOn(link: Link, from: string): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const { from: sender, frame: wire } of link.seen.toReversed()) {
    const frame = sender === from ? fromIpv6(wire) : undefined;
    if (frame === undefined || frame[12] !== 8 || frame[13] !== 0) continue;
    const view = Buffer.from(frame);
    parts.unshift(frame.slice(34, 14 + view.readUInt16BE(16)));
    if ((view.readUInt16BE(20) & 0x1fff) === 0) break;
  }
  return concat(...parts);
}

let packets = 0;

function sendIn(world: World, host: SimHost, frame: Uint8Array, isIpv6 = false): void {
  packets = (packets + 1) & 0xffff;
  for (const link of world.links.values()) link.seen.length = 0;
  for (const piece of piecesOf(frame, packets, isIpv6)) {
    world.send(host, piece);
    world.settle();
  }
  world.run(3);
}

const send = (net: Net, host: SimHost, frame: Uint8Array, isIpv6: boolean): void =>
  sendIn(net.world, host, frame, isIpv6);

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

/** `count` questions and answers of a session, each with `size` bytes of data. Says what did not arrive as it was. */
function exchange(net: Net, hosts: Family, protocol: "udp" | "ping", port: number, size: number, count = 2): string[] {
  const isIpv6 = hosts === 6;
  const ends = { source: LAN[hosts][1], destination: FAR[hosts][1], sourcePort: port, destinationPort: 5000 };
  const wrong: string[] = [];
  for (let round = 0; round < count; round++) {
    for (const isAnswer of [false, true]) {
      const data = pattern(size, port + round);
      const way = isAnswer ? swapEnds(ends) : ends;
      const frame = protocol === "udp" ? datagram(way, data) : ping(way, port, data, isAnswer, isIpv6);
      send(net, isAnswer ? net.server : net.client, frame, isIpv6);
      const arrived = isAnswer ? lastOn(net.lan, "r0") : lastOn(net.far, `r${net.routers.length - 1}`);
      if (!same(arrived, frame.slice(34)))
        wrong.push(`${protocol} of ${size}, ${isAnswer ? "answer" : "question"} ${round + 1}: ${arrived.length} bytes`);
    }
  }
  return wrong;
}

const wire = (family: Family, mtu = 1500): Wire => ({ family, mtu });
const SHAPES: [hosts: Family, wires: Wire[]][] = [
  [4, [wire(4)]],
  [4, [wire(4, 1280)]],
  [4, [wire(4, 9000)]],
  [4, [wire(4), wire(4, 1280), wire(4, 9000)]],
  [4, [wire(6), wire(4), wire(6, 1280)]],
  [6, [wire(6)]],
  [6, [wire(4, 9000)]],
  [6, [wire(6, 1280), wire(4), wire(6, 9000)]],
];
const BELOW_MAX = [0, 1, 7, 8, 17];

for (const [hosts, wires] of SHAPES) {
  for (const protection of [CLEAR, SIGNED, BOTH]) {
    const way = wires.map(({ family, mtu }) => `IPv${family} of ${mtu}`).join(", ");
    test(`the largest packets of IPv${hosts} hosts cross and come back over ${way}, ${protection.name}`, (t) => {
      const net = netOf(hosts, wires, protection);
      const wrong: string[] = [];
      let port = 20_000;
      for (const below of BELOW_MAX)
        for (const protocol of ["udp", "ping"] as const)
          wrong.push(...exchange(net, hosts, protocol, port++, DATA_MAX[hosts] - below));
      t.deepEqual(wrong, []);
      for (const router of net.routers) {
        t.deepEqual(dropsOf(router), {});
        t.is(sessionRows(router).length, 2 * BELOW_MAX.length);
      }
    });
  }
}

for (const hosts of [4, 6] as const) {
  test(`the largest packets of IPv${hosts} hosts are whole when the worker that puts them together gives them to another`, (t) => {
    const net = netOf(hosts, [wire(6)], CLEAR);
    const split = ["r0", "r1"].map((name) => net.world.split(name, 3));
    const wrong: string[] = [];
    let port = 20_000;
    for (let n = 0; n < 8; n++)
      for (const protocol of ["udp", "ping"] as const)
        wrong.push(...exchange(net, hosts, protocol, port++, DATA_MAX[hosts] - BELOW_MAX[n % BELOW_MAX.length]));
    t.deepEqual(wrong, []);
    for (const router of split) {
      t.deepEqual(router.drops(), {});
      t.true(router.count("strays.sent") > 3);
      t.is(router.count("strays.sent"), router.count("strays.received"));
    }
  });
}

test("first datagrams and pings of sizes around what metadata makes too long", (t) => {
  const net = netOf(4, [wire(4)], CLEAR);
  const wrong: string[] = [];
  for (let size = 65_250; size <= DATA_MAX[4]; size += size < 65_490 ? 3 : 1) {
    wrong.push(...exchange(net, 4, "udp", 10_000 + (size & 0xfff), size, 1));
    if (size >= 65_490) wrong.push(...exchange(net, 4, "ping", size & 0xfff, size, 1));
  }
  t.deepEqual(wrong, []);
  for (const router of net.routers) t.deepEqual(dropsOf(router), {});
});

const ENDS = { source: LAN[4][1], destination: FAR[4][1], sourcePort: 40_000, destinationPort: 5000 };

test("the largest datagrams over two paths at once, each in fabric fragments", (t) => {
  for (const security of [{}, SEALED]) {
    const net = twoPaths({ ...TWICE, security });
    for (const size of [65_200, 65_499, 65_507]) {
      const question = datagram(ENDS, pattern(size));
      sendIn(net.world, net.client, question);
      t.true(same(lastOn(net.far, "east"), question.slice(34)), `${size}`);
      t.true(net.wan2.seen.length > 40);
      const answer = datagram(swapEnds(ENDS), pattern(size, 1));
      sendIn(net.world, net.server, answer);
      t.true(same(lastOn(net.lan, "west"), answer.slice(34)), `${size} back`);
    }
    for (const router of [net.west, net.east]) t.deepEqual(Object.keys(dropsOf(router)), ["duplicate"]);
  }
});

test("TCP segments as long as IP allows, in IP fragments, while metadata is on them, and as UDP between routers", (t) => {
  for (const path of ["", ", udp-transform: always"]) {
    const net = netOf(4, [wire(4), wire(4, 1280)], BOTH, path);
    const syn = tcpFrame(ENDS, { flags: SYN, sequence: 100, acknowledgment: 0 });
    send(net, net.client, syn, false);
    const frame = packetOf(ENDS, 6, 65_515);
    writeTcp(frame, 34, ENDS.sourcePort, ENDS.destinationPort, 101, 1, ACK, 1000);
    frame.set(pattern(65_495), 54);
    setU16(frame, 50, l4Checksum(frame, 14, 34, frame.length));
    send(net, net.client, frame, false);
    t.true(same(lastOn(net.far, "r2"), frame.slice(34)), path);
    for (const router of net.routers) t.deepEqual(dropsOf(router), {});
  }
});

test("a wrong checksum of the largest datagram arrives as wrong", (t) => {
  const net = netOf(4, [wire(4), wire(4)], SIGNED);
  t.deepEqual(exchange(net, 4, "udp", 40_000, 100), []);
  for (const at of [40, 41, 42, 60_000]) {
    const frame = datagram(ENDS, pattern(65_507));
    frame[at] ^= 0x5a;
    send(net, net.client, frame, false);
    t.true(same(lastOn(net.far, "r2"), frame.slice(34)), `byte ${at}`);
  }
});

test("bytes behind the largest datagrams (RFC 9868) are none of theirs", (t) => {
  const net = netOf(4, [wire(4)], CLEAR);
  for (const surplus of [1, 100, 130, 400]) {
    const whole = datagram({ ...ENDS, sourcePort: 40_000 + surplus }, pattern(65_507 - surplus));
    const frame = concat(whole, new Uint8Array(surplus).fill(0xee));
    setU16(frame, 16, 65_535);
    send(net, net.client, frame, false);
    t.true(same(lastOn(net.far, "r1"), whole.slice(34)), `${surplus} bytes`);
  }
  for (const router of net.routers) t.deepEqual(dropsOf(router), {});
});

test("the hop limit of a packet longer than IP can say ends at a router between: its sender is told, with what the quote can say", (t) => {
  const net = netOf(4, [wire(4), wire(4)], CLEAR);
  const frame = datagram(ENDS, pattern(65_507));
  frame[22] = 2;
  send(net, net.client, frame, false);
  const { payload, icmpType, source } = net.client.received.at(-1)!;
  t.is(icmpType, 11);
  t.is(source, "198.18.0.2");
  t.is((payload[2] << 8) | payload[3], 65_535);
  t.deepEqual([...payload.slice(20, 24)], [...frame.slice(34, 38)]);
  t.is(dropsOf(net.routers[1]).ttl, 1);
});

test("what a peer sends that no host could have sent is dropped by name where it would leave", (t) => {
  for (const hosts of [4, 6] as const) {
    const net = netOf(hosts, [wire(4)], CLEAR);
    t.deepEqual(exchange(net, hosts, "udp", 40_000, 100), []);
    const ends = { ...ENDS, source: LAN[hosts][1], destination: FAR[hosts][1] };
    send(net, net.client, datagram(ends, pattern(100)), hosts === 6);
    const steady = net.wires[0].seen.find(({ from, packet }) => from === "r0" && packet?.protocol === 17)!.frame;
    for (const [size, isPossible] of [
      [DATA_MAX[hosts], true],
      [DATA_MAX[hosts] + 1, false],
      [66_500, false],
    ] as const) {
      const data = pattern(size);
      const pieces: Uint8Array[] = [];
      for (let at = 0, to = 0; at < size; at = to) {
        to = at + 1440 >= size ? size : Math.min(at + 1440, 65_528);
        const attribute = { extendedId: size, originalId: 7, dontFragment: false, moreFragments: to < size };
        const marked = concat(metadataOf([1, { ...attribute, offset: at, largestSeen: 0 }]), data.slice(at, to));
        const piece = concat(steady.slice(0, 42), marked);
        setU16(piece, 16, piece.length - 14);
        setU16(piece, 20, 0);
        setU16(piece, 38, piece.length - 34);
        setU16(piece, 24, ipv4HeaderChecksum(piece, 14));
        setU16(piece, 40, l4Checksum(piece, 14, 34, piece.length));
        pieces.push(piece);
      }
      net.far.seen.length = 0;
      for (const piece of pieces) {
        net.world.inject(net.wires[0], "r1", piece);
        net.world.settle();
      }
      net.world.run(3);
      if (isPossible) t.true(same(lastOn(net.far, "r1").slice(8), data), `${size} bytes`);
      else t.is(net.far.seen.length, 0);
    }
    t.deepEqual(dropsOf(net.routers[1]), { "exceeds-mtu": 2 });
  }
});
