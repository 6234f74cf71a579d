// ICMP errors about packets of sessions: they reach whoever sent those, through any number of routers, and quote the packet as
// it was when it was sent. And what routers raise themselves: time exceeded, and what a path takes.

import test from "ava";
import { setU16 } from "../../lib/base/bytes.ts";
import { readCounters } from "../../lib/control/metrics.ts";
import { ACK, PSH, SYN } from "../../lib/wire/tcp.ts";
import {
  concat,
  echoFrame,
  icmpError,
  pattern,
  protocolFrame,
  type SeenPacket,
  seePacket,
  swapEnds,
  tcpFrame,
  udpFrame,
  withHeader,
} from "./packets.ts";
import { AES_256, SEALED, SIGNED } from "./protection.ts";
import {
  CLIENT,
  dropsOf,
  type Options,
  packetsOn,
  SERVER,
  sessionRows,
  TWICE,
  type TwoRouters,
  threeRouters,
  twoPaths,
  twoRouters,
} from "./topologies.ts";
import type { Link } from "./world.ts";

const ENDS = { source: CLIENT, destination: SERVER, sourcePort: 40000, destinationPort: 53 };
const DEVICE = "203.0.113.9";
const NETS: [string, (options?: Options) => TwoRouters][] = [
  ["two routers", twoRouters],
  ["two routers, signed metadata", (options) => twoRouters({ ...options, security: { fabric: SIGNED } })],
  ["two routers, signed and encrypted", (options) => twoRouters({ ...options, security: SEALED })],
  ["three routers", threeRouters],
  ["three routers, signed and encrypted", (options) => threeRouters({ ...options, security: SEALED })],
  ["two paths at once", (options) => twoPaths({ ...options, ...TWICE })],
];

/** What a packet is to whoever is told of it: its addresses, and the 8 bytes behind its header. */
function essence(frame: Uint8Array): string {
  const l3 = 14;
  const l4 = l3 + ((frame[l3] & 15) << 2);
  const hex = (from: number, to: number) => Buffer.from(frame.slice(from, to)).toString("hex");
  return `${frame[l3 + 9]} ${hex(l3 + 12, l3 + 20)} ${hex(l4, l4 + 8)}`;
}

/** The packet that an ICMP error quotes, behind an Ethernet header. */
function quoteOf({ payload }: SeenPacket): Uint8Array {
  return concat(new Uint8Array(14), payload);
}

const rest = ({ frame }: SeenPacket) => Buffer.from(frame).readUInt32BE(14 + 20 + 4);
const errorsAt = (packets: readonly SeenPacket[]) => packets.filter(({ icmpType }) => [3, 11, 12].includes(icmpType));
/** Of UDP the checksum is not compared: a quote between routers ends behind it, and routers put other payloads into packets. */
const ofUdp = (text: string) => text.slice(0, -8);

const SENT: [string, () => Uint8Array, (text: string) => string][] = [
  ["a datagram", () => udpFrame(ENDS, "question"), ofUdp],
  ["a SYN", () => tcpFrame(ENDS, { flags: SYN, sequence: 77, acknowledgment: 0 }), (text) => text],
  ["a ping", () => echoFrame(CLIENT, SERVER, 9, 1, "ping"), (text) => text.slice(0, 43)],
  ["GRE", () => protocolFrame(CLIENT, SERVER, 47, pattern(40)), (text) => text.slice(0, 20)],
];

for (const [name, make] of NETS) {
  for (const [what, frame, compared] of SENT) {
    for (const behind of [8, 20]) {
      test(`${name}: an error about ${what} that quotes ${behind} bytes of it reaches the client, as of its own packet`, (t) => {
        const net = make();
        const sent = frame();
        net.world.send(net.client, sent);
        net.world.run(5);
        const [at] = net.server.received;
        net.world.send(net.server, icmpError(SERVER, 3, 3, at.frame, 0, behind));
        net.world.run(5);
        const [error, ...others] = errorsAt(net.client.received);
        t.deepEqual(others, []);
        t.deepEqual([error.icmpType, error.source, error.destination], [3, SERVER, CLIENT]);
        t.true(error.checksumsRight);
        t.is(compared(essence(quoteOf(error))), compared(essence(sent)));
        for (const router of net.world.routers.values()) {
          const { duplicate, ...drops } = dropsOf(router);
          t.deepEqual(drops, {});
          t.is(readCounters(router)["icmp.errors-passed"], 1);
        }
      });
    }
  }

  test(`${name}: an error about an answer reaches the server`, (t) => {
    const net = make();
    net.world.send(net.client, udpFrame(ENDS, "question"));
    net.world.run(5);
    const answer = udpFrame(swapEnds(ENDS), "answer");
    net.world.send(net.server, answer);
    net.world.run(5);
    net.world.send(net.client, icmpError(CLIENT, 3, 3, net.client.received[0].frame));
    net.world.run(5);
    const [error] = errorsAt(net.server.received);
    t.is(ofUdp(essence(quoteOf(error))), ofUdp(essence(answer)));
    t.deepEqual([error.source, error.checksumsRight], [CLIENT, true]);
  });

  test(`${name}: what the network between routers cannot take is told to the client, less what routers put on`, (t) => {
    const net = make();
    net.server.onPacket = (packet) => {
      if (packet.protocol === 17) net.world.send(net.server, udpFrame(swapEnds(ENDS), "answer"));
    };
    for (let n = 0; n < 3; n++) {
      net.world.send(net.client, udpFrame(ENDS, "question"));
      net.world.run(5);
    }
    const sent = packetsOn(net.wan, "west").at(-1)!;
    net.world.inject(net.wan, "west", toWest(net, icmpError(DEVICE, 3, 4, sent.frame, 1400)));
    net.world.run(2);
    const [error] = errorsAt(net.client.received);
    t.is(error.source, DEVICE);
    const encrypted = name.includes("and encrypted") ? 32 + 16 : 0;
    const numbered = name.includes("at once") ? 28 : 0;
    t.is(rest(error), 1400 - encrypted - numbered);
    t.is(net.west.sessions.paths[0].mtu(net.world.clock.nowMs()), 1400);
    net.world.skip(601_000);
    t.is(net.west.sessions.paths[0].mtu(net.world.clock.nowMs()), 1500, "and is tried again after ten minutes");
  });
}

/** The frame as the network gives it to west. */
function toWest(net: TwoRouters, frame: Uint8Array): Uint8Array {
  const sent = net.wan.seen.find(({ from, packet }) => from === "west" && packet !== undefined)!;
  frame.set(sent.frame.slice(6, 12), 0);
  frame.set(sent.frame.slice(0, 6), 6);
  return frame;
}

for (const [name, make, hops] of [
  ["two routers", twoRouters, ["10.1.0.1", "198.18.0.2"]],
  ["three routers", threeRouters, ["10.1.0.1", "198.18.0.2", "198.18.1.2"]],
  ["two routers, signed and encrypted", () => twoRouters({ security: SEALED }), ["10.1.0.1", "198.18.0.2"]],
  [
    "three routers, signed and encrypted",
    () => threeRouters({ security: SEALED }),
    ["10.1.0.1", "198.18.0.2", "198.18.1.2"],
  ],
] as const) {
  for (const [what, probe, compared] of [
    ["datagrams", (ttl: number) => udpFrame({ ...ENDS, destinationPort: 33_434 + ttl }, "probe", ttl), ofUdp],
    ["pings", (ttl: number) => echoFrame(CLIENT, SERVER, 7, ttl, "probe", false, ttl), (text: string) => text],
    [
      "SYNs",
      (ttl: number) =>
        tcpFrame({ ...ENDS, sourcePort: 50_000 + ttl }, { flags: SYN, sequence: ttl, acknowledgment: 0 }, "", ttl),
      (text: string) => text,
    ],
  ] as const) {
    test(`${name}: traceroute by ${what} lists each router, and then the server is there`, (t) => {
      const net = make();
      for (let ttl = 1; ttl <= hops.length + 1; ttl++) {
        net.world.send(net.client, probe(ttl));
        net.world.run(3);
      }
      const errors = errorsAt(net.client.received);
      t.deepEqual(
        errors.map(({ source }) => source),
        [...hops],
      );
      t.true(errors.every(({ checksumsRight, icmpType }) => checksumsRight && icmpType === 11));
      for (const [n, error] of errors.entries()) {
        const quote = seePacket(concat(quoteOf(error), pattern(40)));
        t.is(compared(essence(quoteOf(error))), compared(essence(probe(n + 1))), String(quote));
      }
      t.is(net.server.received.length, 1);
    });
  }
}

/** From what lies on the link, as an error of a device there quotes it. */
function quotedOn(link: Link, from: string, behind = 576): Uint8Array {
  return icmpError(DEVICE, 11, 0, packetsOn(link, from).at(-1)!.frame, 0, behind);
}

test("whatever device on the way raises an error about an encrypted ping, its sender hears which ping it was", (t) => {
  for (const security of [SEALED, { fabric: SIGNED, payload: AES_256 }]) {
    const net = threeRouters({ security });
    net.server.onPacket = ({ icmpType, frame }) => {
      if (icmpType === 8) net.world.send(net.server, echoFrame(SERVER, CLIENT, 9, frame[41], "probe", true));
    };
    // The first with metadata on it, the last without.
    for (let sequence = 1; sequence <= 4; sequence++) {
      const [ping, pong] = [false, true].map((isReply) =>
        isReply
          ? echoFrame(SERVER, CLIENT, 9, sequence, "probe", true)
          : echoFrame(CLIENT, SERVER, 9, sequence, "probe"),
      );
      net.world.send(net.client, ping);
      net.world.run(5);
      const errors = [
        [net.wan, "west", net.client, ping, quotedOn(net.wan, "west")],
        [net.wan2, "middle", net.client, ping, quotedOn(net.wan2, "middle")],
        [net.wan2, "east", net.server, pong, quotedOn(net.wan2, "east")],
        [net.wan, "middle", net.server, pong, quotedOn(net.wan, "middle")],
      ] as const;
      for (const [link, from, host, sent, raised] of errors) {
        const { length } = errorsAt(host.received);
        net.world.inject(link, from, raised);
        net.world.run(5);
        const [error] = errorsAt(host.received).slice(length);
        t.is(essence(quoteOf(error)), essence(sent), `${sequence} on its way from ${from}`);
        t.is(error.payload.length, 28);
        t.true(error.checksumsRight);
      }
    }
  }
});

test("of an encrypted ping that is quoted in part, or too long to be passed on, its sender hears the identifier alone", (t) => {
  const net = threeRouters({ security: SEALED });
  const ping = (sequence: number, size: number) => echoFrame(CLIENT, SERVER, 9, sequence, pattern(size));
  const told = (size: number, link: Link, from: string, behind: number) => {
    net.world.send(net.client, ping(5, size));
    net.world.run(5);
    net.world.inject(link, from, quotedOn(link, from, behind));
    net.world.run(5);
    return essence(quoteOf(errorsAt(net.client.received).at(-1)!)).slice(-16);
  };
  const unknown = /^0800(0000|ffff)00090000$/;
  for (let n = 0; n < 3; n++) told(20, net.wan, "west", 8);
  for (const [link, from] of [
    [net.wan, "west"],
    [net.wan2, "middle"],
  ] as const) {
    t.is(told(231, link, from, 576), essence(ping(5, 231)).slice(-16), from);
    t.regex(told(232, link, from, 576), unknown, from);
    for (const behind of [8, 16, 24, 40, 8 + 48 + 15])
      t.regex(told(20, link, from, behind), unknown, `${from} ${behind}`);
    t.is(told(20, link, from, 8 + 48 + 16), essence(ping(5, 20)).slice(-16), from);
  }
});

test("a forged error has nothing decrypted but the ping that it may be about", (t) => {
  const net = threeRouters({ security: { fabric: SIGNED, payload: AES_256 } });
  const send = (frame: Uint8Array) => {
    for (let n = 0; n < 3; n++) {
      net.world.send(net.client, frame);
      net.world.run(5);
    }
    return packetsOn(net.wan, "west").at(-1)!;
  };
  const other = send(echoFrame(CLIENT, SERVER, 10, 77, "other"));
  const text = send(udpFrame(ENDS, concat(Uint8Array.of(8, 0, 1, 2, 0, 9, 0, 77), pattern(30))));
  const own = send(echoFrame(CLIENT, SERVER, 9, 5, "own"));
  const told = (payload: Uint8Array) => {
    const { frame } = own;
    const forged = withHeader(concat(frame.subarray(0, 42), payload), (bytes, l3) => {
      setU16(bytes, l3 + 2, bytes.length - 14);
      setU16(bytes, l3 + 24, bytes.length - 34);
    });
    net.world.inject(net.wan, "west", icmpError(DEVICE, 11, 0, forged, 0, 576));
    net.world.run(5);
    return essence(quoteOf(errorsAt(net.client.received).at(-1)!)).slice(-16);
  };
  t.is(told(own.payload), essence(echoFrame(CLIENT, SERVER, 9, 5, "own")).slice(-16));
  for (const payload of [other.payload, text.payload, text.payload.slice(16), pattern(48)]) {
    t.is(told(payload), "0800000000090000");
  }
});

test("a host hears which of its encrypted pings a router in the middle refused", (t) => {
  const net = threeRouters({ security: SEALED, limitsOf: { middle: { tenant: ", refused: reject" } } });
  net.middle.sessions.paths[1].up = false;
  const ping = echoFrame(CLIENT, SERVER, 9, 5, "refused");
  net.world.send(net.client, ping);
  net.world.run(5);
  t.deepEqual(dropsOf(net.middle), { "path-down": 1 });
  const [error] = errorsAt(net.client.received);
  t.deepEqual([error.icmpType, error.source], [3, "198.18.0.2"]);
  t.is(essence(quoteOf(error)), essence(ping));
});

test("a quote of what a router in the middle cannot read says no length that a datagram cannot have", (t) => {
  const net = threeRouters({ security: SEALED });
  net.world.send(net.client, udpFrame(ENDS, "opens"));
  net.world.run(3);
  net.world.send(net.client, udpFrame(ENDS, pattern(80), 2));
  net.world.run(3);
  const [error] = errorsAt(net.client.received);
  const quote = Buffer.from(quoteOf(error).subarray(14));
  t.is(quote.readUInt16BE(24), quote.readUInt16BE(2) - 20);
  t.true(quote.readUInt16BE(24) > 80);
});

test("a router that cannot send a packet on to its host says so to who sent it, and one that may be cut is cut", (t) => {
  for (const [name, make] of NETS.slice(0, 5)) {
    const net = make({ farMtu: 1280 });
    const payload = pattern(1400);
    net.world.send(net.client, udpFrame(ENDS, payload));
    net.world.run(5);
    t.is(net.server.received.length, 0);
    const [error] = errorsAt(net.client.received);
    t.is(rest(error), 1280, name);
    t.is(dropsOf(net.east)["exceeds-mtu"], 1);
    t.is(readCounters(net.east)["icmp.too-big-sent"], 1);
    const may = withHeader(udpFrame(ENDS, payload), (frame) => frame.set([0, 0], 20));
    net.world.send(net.client, may);
    net.world.run(5);
    const pieces = net.far.seen.filter(({ from, frame }) => from === "east" && frame[12] === 8 && frame[13] === 0);
    t.is(pieces.length, 2);
    t.deepEqual(together(pieces.map(({ frame }) => frame)), may.slice(34));
  }
});

/** The payload of the IPv4 fragments in these frames. */
function together(frames: readonly Uint8Array[]): Uint8Array {
  const whole: Uint8Array[] = [];
  for (const [n, frame] of frames.entries()) {
    const view = Buffer.from(frame);
    const offset = view.readUInt16BE(20);
    const before = whole.reduce((sum, { length }) => sum + length, 0);
    if ((offset & 0x1fff) * 8 !== before || ((offset & 0x2000) !== 0) !== n < frames.length - 1)
      throw new Error("a gap");
    whole.push(frame.slice(34, 14 + view.readUInt16BE(16)));
  }
  return concat(...whole);
}

test("a datagram that fills the MTU and grows is delivered, and its sender told what does not grow too long", (t) => {
  for (const [security, most] of [
    [SEALED, 1500 - 32 - 16],
    [{ fabric: SIGNED }, 0],
  ] as const) {
    const net = twoRouters({ security });
    net.world.send(net.client, udpFrame(ENDS, pattern(1472)));
    net.world.run(5);
    t.deepEqual(
      net.server.received.map(({ payload }) => payload),
      [pattern(1472)],
    );
    t.deepEqual(errorsAt(net.client.received).map(rest), most === 0 ? [] : [most]);
    net.world.send(net.client, udpFrame(ENDS, pattern(most === 0 ? 1472 : most - 28)));
    net.world.run(5);
    t.is(net.server.received.length, 2);
    t.is(errorsAt(net.client.received).length, most === 0 ? 0 : 1, "metadata alone is nobody's business");
  }
});

test("what a network behind the far router takes is told as that", (t) => {
  for (const [what, frame] of [
    ["UDP", () => udpFrame(ENDS, pattern(1420))],
    ["GRE", () => protocolFrame(CLIENT, SERVER, 47, pattern(1420))],
  ] as const) {
    for (const [name, make] of NETS) {
      const net = make();
      for (let n = 0; n < 3; n++) {
        net.world.send(net.client, frame());
        net.world.run(5);
      }
      const { length } = net.client.received;
      net.world.send(net.server, icmpError(DEVICE, 3, 4, net.server.received.at(-1)!.frame, 1400));
      net.world.run(5);
      const told = net.client.received.slice(length).map(rest);
      t.deepEqual(told, [1400], `${what}: ${name}`);
    }
  }
});

test("a SYN asks for no more than fits every network on the way", (t) => {
  const mss = (options: Options) => {
    const net = twoRouters(options);
    net.world.send(net.client, tcpFrame(ENDS, { flags: SYN, sequence: 1, acknowledgment: 0, mss: 8960 }));
    net.world.run(5);
    return Buffer.from(net.server.received[0].frame).readUInt16BE(14 + 20 + 22);
  };
  t.is(mss({}), 1460);
  t.is(mss({ farMtu: 1280 }), 1240);
  t.is(mss({ wanMtu: 1400 }), 1360);
  t.is(mss({ security: SEALED }), 1460 - 48);
  for (const [security, sealed] of [
    [{}, 0],
    [{ fabric: SIGNED, payload: AES_256 }, 32],
  ] as const) {
    const net = threeRouters({ security });
    net.middle.sessions.paths[1].learnMtu(1400, net.world.clock.nowMs());
    net.world.send(net.client, tcpFrame(ENDS, { flags: SYN, sequence: 1, acknowledgment: 0, mss: 8960 }));
    net.world.run(5);
    t.is(Buffer.from(net.server.received[0].frame).readUInt16BE(14 + 20 + 22), 1360 - sealed);
  }
});

test("an error that is damaged, goes to somebody else, or quotes no session here is dropped and counted", (t) => {
  const net = twoRouters();
  const frame = udpFrame(ENDS, "question");
  net.world.send(net.client, frame);
  net.world.run(5);
  const { frame: arrived } = net.server.received[0];
  const good = () => icmpError(SERVER, 3, 3, arrived);
  const send = (error: Uint8Array) => {
    net.world.send(net.server, error);
    net.world.run(2);
  };
  const damaged = good();
  damaged[damaged.length - 1] ^= 1;
  send(damaged);
  send(icmpError(SERVER, 3, 3, udpFrame({ ...ENDS, sourcePort: 40001 }, "never sent")));
  const elsewhere = withHeader(good(), (bytes) => bytes.set([10, 1, 0, 77], 14 + 16));
  send(elsewhere);
  send(icmpError(SERVER, 4, 0, arrived));
  send(icmpError(SERVER, 5, 0, arrived));
  const fragment = arrived.slice();
  fragment.set([0, 9], 20);
  send(icmpError(SERVER, 3, 3, fragment));
  send(withHeader(good().slice(0, 14 + 20 + 8 + 27), (bytes) => bytes.set([0, 55], 16)));
  t.is(dropsOf(net.east)["icmp-error"], 7);
  t.deepEqual(errorsAt(net.client.received), []);
  send(good());
  t.is(errorsAt(net.client.received).length, 1);
});

test("a quote is cut behind 8 bytes, and nothing that speaks of what was behind them is passed on", (t) => {
  const net = twoRouters();
  net.world.send(net.client, udpFrame(ENDS, pattern(200)));
  net.world.run(5);
  const { frame } = net.server.received[0];
  for (const [type, said, passed] of [
    [11, 0x00110000, 0],
    [3, 0x00110000, 0],
    [12, 0x14110000, 0x14000000],
  ]) {
    net.world.send(net.server, icmpError(SERVER, type, 0, frame, said, 200));
    net.world.run(5);
    const error = errorsAt(net.client.received).at(-1)!;
    t.deepEqual([error.icmpType, rest(error), error.payload.length], [type, passed, 28]);
  }
});

test("a thousand errors a second are passed on and no more", (t) => {
  const net = twoRouters();
  net.world.send(net.client, udpFrame(ENDS, "question"));
  net.world.run(5);
  const { frame } = net.server.received[0];
  for (let n = 0; n < 1500; n++) {
    net.world.send(net.server, icmpError(SERVER, 3, 3, frame));
    if (n % 16 === 0) net.world.settle();
  }
  net.world.settle();
  t.is(readCounters(net.east)["icmp.errors-passed"], 1000);
  t.is(readCounters(net.east)["answers.withheld"], 500);
  t.is(sessionRows(net.east).length, 1);
});

test("TCP that is past its handshake hears of an error too, and goes on", (t) => {
  const net = twoRouters();
  const segment = (flags: number, sequence: number, acknowledgment: number, data = "") =>
    tcpFrame(ENDS, { flags, sequence, acknowledgment }, data);
  net.world.send(net.client, segment(SYN, 1, 0));
  net.world.run(5);
  net.world.send(net.server, tcpFrame(swapEnds(ENDS), { flags: SYN | ACK, sequence: 100, acknowledgment: 2 }));
  net.world.run(5);
  net.world.send(net.client, segment(ACK, 2, 101));
  const data = segment(ACK | PSH, 2, 101, "data");
  net.world.send(net.client, data);
  net.world.run(5);
  net.world.send(net.server, icmpError(DEVICE, 11, 0, net.server.received.at(-1)!.frame));
  net.world.run(5);
  const [error] = errorsAt(net.client.received);
  t.is(error.source, DEVICE);
  t.is(essence(quoteOf(error)), essence(data));
  net.world.send(net.client, segment(ACK | PSH, 6, 101, "more"));
  net.world.run(5);
  t.is(net.server.received.at(-1)!.text, "more");
});

test("hosts of a tenant that is to be told hear why nothing of theirs opens a session; others hear nothing", (t) => {
  for (const [tenant, answers] of [
    [", refused: reject", true],
    ["", false],
  ] as const) {
    const net = twoRouters({ limits: { tenant } });
    const elsewhere = udpFrame({ ...ENDS, destination: "10.9.0.1" }, "nobody");
    net.world.send(net.client, elsewhere);
    net.world.run(5);
    net.west.sessions.paths[0].up = false;
    net.world.send(net.client, tcpFrame(ENDS, { flags: SYN, sequence: 1, acknowledgment: 0 }));
    net.world.run(5);
    const errors = errorsAt(net.client.received);
    t.deepEqual(
      errors.map(({ icmpType, frame, source, checksumsRight }) => [icmpType, frame[35], source, checksumsRight]),
      answers
        ? [
            [3, 13, "10.1.0.1", true],
            [3, 1, "10.1.0.1", true],
          ]
        : [],
    );
    if (answers) t.is(essence(quoteOf(errors[0])), essence(elsewhere));
    t.deepEqual(dropsOf(net.west), { "no-service": 1, "path-down": 1 });
    t.is(readCounters(net.west)["icmp.refused-sent"], answers ? 2 : 0);
  }
});

for (const [what, session, frame] of [
  ["a ping", "0800....0009", (size: number) => echoFrame(CLIENT, SERVER, 9, 1, pattern(size))],
  ["GRE", "", (size: number) => protocolFrame(CLIENT, SERVER, 47, pattern(size))],
  [
    "a segment that goes as UDP",
    "9c400035",
    (size: number) => tcpFrame(ENDS, { flags: SYN, sequence: 0x4d, acknowledgment: 0 }, pattern(size)),
  ],
] as const) {
  for (const [how, security] of [
    ["in clear", {}],
    ["with metadata encrypted", { fabric: SIGNED }],
  ] as const) {
    test(`${what}, ${how}: however much an error quotes of what metadata is on, or of a piece, no metadata is told as the host's`, (t) => {
      for (const size of [100, 1440]) {
        const net = twoRouters({ security, path: ", udp-transform: always" });
        const sent = frame(size);
        net.world.send(net.client, sent);
        net.world.run(5);
        const pieces = packetsOn(net.wan, "west");
        t.is(pieces.length, size > 1000 ? 2 : 1);
        for (const [n, piece] of pieces.entries()) {
          for (const behind of [8, 16, 20, 28, 34, 42, 46, 500]) {
            const { length } = net.client.received;
            net.world.inject(net.wan, "west", icmpError(DEVICE, 3, 1, piece.frame, 0, behind));
            net.world.run(2);
            const [error] = net.client.received.slice(length);
            const [told, own] = [error.payload, sent.subarray(14)].map((bytes) =>
              Buffer.from(bytes.subarray(20, 28)).toString("hex"),
            );
            const isWhole = n === 0 && behind === 500;
            if (isWhole) t.is(told, own, `${size}: ${behind} bytes`);
            else if (what === "GRE") t.is(told, "00".repeat(8), `${size}: ${behind} bytes of piece ${n}`);
            else t.regex(told, new RegExp(`^${session}`), `${size}: ${behind} bytes of piece ${n}`);
          }
        }
      }
    });
  }
}

test("an error narrows the path that its packet went by: a session's second one, or the one it has left", (t) => {
  for (const options of [TWICE, {}]) {
    const net = twoPaths(options);
    const { world, client, server, west, east } = net;
    const isTwice = options === TWICE;
    server.onPacket = ({ protocol }) => {
      if (protocol === 17) world.send(server, udpFrame(swapEnds(ENDS), "answer"));
    };
    const converse = () => {
      for (let n = 0; n < 4; n++) {
        world.send(client, udpFrame(ENDS, "question"));
        world.run(5);
      }
    };
    converse();
    const { frame } = packetsOn(isTwice ? net.wan2 : net.wan, "west").at(-1)!;
    if (!isTwice) {
      for (const { sessions } of [west, east]) {
        sessions.paths[0].up = false;
        sessions.flows.nextGeneration();
      }
      converse();
      t.true(packetsOn(net.wan2, "west").length > 0);
    }
    world.inject(isTwice ? net.wan2 : net.wan, "west", icmpError(DEVICE, 3, 4, frame, 1400));
    world.run(2);
    const mtus = west.sessions.paths.map((path) => path.mtu(world.clock.nowMs()));
    t.deepEqual(mtus, isTwice ? [1500, 1400] : [1400, 1500]);
  }
});

test("an error of a service's target comes from the address that its client knows", (t) => {
  for (const make of [twoRouters, threeRouters]) {
    const net = make({ eastRoute: `target: "${SERVER}:8080"` });
    net.world.send(net.client, udpFrame({ ...ENDS, destination: "10.2.0.99" }, "question"));
    net.world.run(5);
    net.world.send(net.server, icmpError(SERVER, 3, 3, net.server.received[0].frame));
    net.world.run(5);
    const [error] = errorsAt(net.client.received);
    t.deepEqual([error.source, error.destination, error.checksumsRight], ["10.2.0.99", CLIENT, true]);
  }
});
