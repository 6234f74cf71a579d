// Ten ways to be a bad neighbor (lib/engine/README.md has them as a table): while each goes on, a TCP and a UDP
// conversation complete byte by byte. What an attack costs is counted in frames, bytes and rows, never timed: nothing
// grows beyond its limit, nobody gets more out of a router than went in, and what is refused has its name.

import test, { type ExecutionContext } from "ava";
import { setU16 } from "../../lib/base/bytes.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import { parseAddress } from "../../lib/control/address-text.ts";
import { readCounters } from "../../lib/control/metrics.ts";
import { NEIGHBOR_INCOMPLETE } from "../../lib/peer/neighbor.ts";
import { ARP_REPLY, ARP_REQUEST, writeArp } from "../../lib/wire/arp.ts";
import { writeEthernet } from "../../lib/wire/ethernet.ts";
import { ETHERTYPE_ARP } from "../../lib/wire/flow-key.ts";
import { completeChecksum } from "../../lib/wire/offload.ts";
import { ACK, FIN, PSH, RST, SYN } from "../../lib/wire/tcp.ts";
import { unaccounted } from "../fuzz/fuzzed.ts";
import { TcpClient, tcpServer, UdpClient, udpServer } from "./endpoints.ts";
import {
  COOKIE,
  concat,
  echoFrame,
  metadataOf,
  pattern,
  protocolFrame,
  swapEnds,
  tcpFrame,
  udpFrame,
  withHeader,
} from "./packets.ts";
import { controlMessage, ENDS, forwardMetadata, HEALTH_CHECK, TO_EAST } from "./peer.ts";
import { SIGNED } from "./protection.ts";
import {
  CLIENT,
  countOf,
  dropsOf,
  EAST_WAYPOINT,
  eastAlone,
  type Options,
  packetsOn,
  SERVER,
  sessionRows,
  type TwoRouters,
  twoRouters,
  WEST_WAYPOINT,
} from "./topologies.ts";
import type { Link } from "./world.ts";

const REQUESTS = Array.from(
  { length: 12 },
  (_, n) => `request ${n} of a conversation that goes on${"!".repeat(n * 40)}`,
);
const ANSWERS = REQUESTS.map((request) => request.toUpperCase());
const STEP_MS = 20;

/** Every frame of it is the attacker's: the conversation's own are let through. */
interface Attack {
  net: TwoRouters;
  /** Let a frame arrive at a router from one of its links, as if from whoever is there. */
  at(link: Link, to: string, frame: Uint8Array): void;
}

/**
 * A TCP and a UDP conversation, established; `attack` is called every millisecond until they are through. Returns the
 * network for questions about what it cost.
 */
function underAttack(t: ExecutionContext, options: Options, attack: (on: Attack, ms: number) => void): TwoRouters {
  const net = twoRouters(options);
  const tcp = new TcpClient(net.world, net.client, ENDS, REQUESTS, STEP_MS);
  const udp = new UdpClient(net.world, net.client, { ...ENDS, sourcePort: 40001 }, [...REQUESTS], STEP_MS);
  net.client.onPacket = (packet) => {
    tcp.receive(packet);
    udp.receive(packet);
  };
  const [serveTcp, serveUdp] = [tcpServer(net.world, net.server), udpServer(net.world, net.server)];
  net.server.onPacket = (packet) => {
    if (packet.destinationPort !== ENDS.destinationPort) return;
    serveTcp(packet);
    serveUdp(packet);
  };
  t.true(net.world.runUntil(() => tcp.answers.length > 1 && udp.answers.length > 1, 2000));
  const on: Attack = { net, at: (link, to, frame) => net.world.inject(link, to, frame) };
  const begun = net.world.clock.nowMs();
  for (let ms = 0; ms < 20_000 && !(tcp.state === "closed" && udp.answers.length === REQUESTS.length); ms++) {
    attack(on, ms);
    net.world.run(1);
  }
  t.deepEqual([tcp.state, tcp.answers, udp.answers], ["closed", ANSWERS, ANSWERS]);
  // Whatever was lost of it would have been sent again after 300 ms.
  t.true(net.world.clock.nowMs() - begun < REQUESTS.length * (STEP_MS + 10), "and nothing of it had to be sent again");
  for (const router of [net.west, net.east]) t.is(unaccounted(readCounters(router)), 0);
  return net;
}

const sumOf = (drops: Record<string, number>) => Object.values(drops).reduce((sum, count) => sum + count, 0);

/** Frames and bytes that a router put on a link since `from`, conversation and all. */
const sentOn = (link: Link, from: string, since = 0) => link.seen.slice(since).filter((seen) => seen.from === from);
const bytesOf = (frames: readonly { frame: Uint8Array }[]) => frames.reduce((sum, { frame }) => sum + frame.length, 0);

function arpFrame(operation: number, mac: Uint8Array, sender: string, target: string): Uint8Array {
  const frame = new Uint8Array(60);
  const [high, low] = [(mac[0] << 8) | mac[1], (mac[2] << 24) | (mac[3] << 16) | (mac[4] << 8) | mac[5]];
  writeEthernet(frame, 0, 0xffff, -1, high, low, ETHERTYPE_ARP);
  writeArp(frame, 14, operation, high, low, parseAddress(sender), 0, 0, parseAddress(target));
  return frame;
}
const ATTACKER = Uint8Array.of(2, 0xba, 0xd0, 0, 0, 1);

// 1. Session floods

test("a flood of new sessions: the table has its limit, and what is established goes on", (t) => {
  let port = 0;
  const net = underAttack(t, { limits: { sessions: 64, waypointPairs: 4096 } }, ({ at, net: { lan } }) => {
    for (let n = 0; n < 16; n++)
      at(lan, "west", udpFrame({ ...ENDS, sourcePort: 1024 + (port++ % 30_000), destinationPort: 9 }, "flood"));
  });
  const counters = readCounters(net.west);
  t.true(port > 1000);
  t.is(net.west.sessions.table.count, 64);
  t.is(counters["sessions.opened"] - counters["sessions.closed"], 64);
  t.true(counters["sessions.evicted"] > port / 2);
});

// 2. Waypoint ports

test("a flood that uses up every waypoint port pair: refused by name, and what has a pair goes on", (t) => {
  let port = 0;
  const net = underAttack(t, { limits: { sessions: 1024, waypointPairs: 32 } }, ({ at, net: { lan } }) => {
    for (let n = 0; n < 8; n++) {
      const ends = { ...ENDS, sourcePort: 1024 + (port++ % 30_000), destinationPort: 9 };
      at(lan, "west", udpFrame(ends, "flood"));
      at(lan, "west", tcpFrame(ends, { flags: SYN, sequence: 1, acknowledgment: 0 }));
    }
  });
  const [path] = net.west.sessions.paths;
  t.deepEqual([path.udpPorts.inUse, path.tcpPorts.inUse], [32, 32]);
  t.is(dropsOf(net.west)["waypoint-ports"], 2 * port - 62);
});

// 3. Collisions of hashes are in test/base/hash.test.ts: counted in slots looked at, for any choice of keys.

// 4. ARP

test("forged ARP for hosts, for the peer and for the router itself: nobody in use moves, and each lie is counted", (t) => {
  let frames = 0;
  const net = underAttack(t, {}, ({ at, net: { lan, wan, far } }, ms) => {
    for (const operation of [ARP_REQUEST, ARP_REPLY]) {
      at(lan, "west", arpFrame(operation, ATTACKER, CLIENT, ms % 2 === 0 ? CLIENT : "10.1.0.1"));
      at(wan, "west", arpFrame(operation, ATTACKER, EAST_WAYPOINT, EAST_WAYPOINT));
      at(wan, "east", arpFrame(operation, ATTACKER, WEST_WAYPOINT, EAST_WAYPOINT));
      at(far, "east", arpFrame(operation, ATTACKER, SERVER, SERVER));
      at(lan, "west", arpFrame(operation, ATTACKER, "10.1.0.1", "10.1.0.1"));
      frames++;
    }
  });
  const seconds = Math.ceil(net.world.clock.nowMs() / 1000);
  for (const [router, disputes, claims] of [
    [net.west, 2 * frames, frames],
    [net.east, 2 * frames, 0],
  ] as const) {
    t.is(countOf(router, "arp.disputed"), disputes);
    t.is(countOf(router, "arp.own-claimed"), claims);
    t.is(countOf(router, "arp.own-defended"), Math.sign(claims), "once in ten seconds");
    t.true(countOf(router, "arp.requests-sent") <= 2 + 2 * seconds, "each neighbor is asked once a second at most");
    for (const row of router.egress.neighbors.rows()) t.is(router.egress.neighbors.usable[row], 1);
  }
  t.deepEqual([dropsOf(net.west), dropsOf(net.east)], [{}, {}]);
});

test("an ARP storm: a thousand answers a second to strangers, and a neighbor in use always gets one", (t) => {
  let [frames, sent, before] = [0, 0, 0];
  const net = underAttack(t, {}, ({ at, net: { lan, client, world, west } }, ms) => {
    if (ms === 0) before = countOf(west, "arp.replies-sent");
    for (let n = 0; n < 40; n++, frames++) {
      const stranger = Uint8Array.of(2, 0, 1, frames >>> 16, frames >>> 8, frames);
      at(
        lan,
        "west",
        arpFrame(ARP_REQUEST, stranger, `10.1.0.${3 + (frames % 250)}`, n === 0 ? "10.1.0.200" : "10.1.0.1"),
      );
    }
    if (ms % 10 !== 0) return;
    at(lan, "west", arpFrame(ARP_REQUEST, client.port.info().mac, CLIENT, "10.1.0.1"));
    world.settle();
    sent++;
    const last = lan.seen.findLast(({ from, frame }) => from === "west" && frame[12] === 8 && frame[13] === 6)!;
    t.deepEqual([...last.frame.subarray(0, 6)], [...client.port.info().mac]);
  });
  const answered = countOf(net.west, "arp.replies-sent") - before;
  t.true(frames > 8000);
  const seconds = Math.ceil(net.world.clock.nowMs() / 1000);
  t.true(answered <= sent + 1000 * seconds, `${answered}`);
  t.is(dropsOf(net.west)["arp-limit"], frames - frames / 40 - (answered - sent));
  t.is(net.west.egress.neighbors.count, 2, "strangers are not learned");
});

test("a scan of addresses where nobody is: as many neighbors as configured, each asked once a second at most", (t) => {
  let last = 0;
  const net = underAttack(t, { limits: { neighbors: 16 } }, ({ at, net: { lan } }) => {
    for (let n = 0; n < 8; n++)
      at(
        lan,
        "west",
        udpFrame({ ...ENDS, source: `10.1.0.${10 + (last++ % 240)}`, sourcePort: 2000, destinationPort: 9 }, "scan"),
      );
  });
  const { neighbors } = net.west.egress;
  t.is(neighbors.count, 16);
  t.is([...neighbors.rows()].filter((row) => neighbors.state[row] === NEIGHBOR_INCOMPLETE).length, 14);
  const seconds = Math.ceil(net.world.clock.nowMs() / 1000);
  t.true(countOf(net.west, "arp.requests-sent") <= 16 * seconds);
  t.true(dropsOf(net.west)["neighbor-table-full"] >= 240 - 14);
});

// 5. Lengths

/** Metadata with each of its length fields, wherever it is, set to each of `values` and near to what it was. */
function* lengthLies(metadata: Uint8Array): Generator<Uint8Array> {
  const at: number[] = [8, 10];
  for (let from = 12; from + 4 <= metadata.length; from += 4 + ((metadata[from + 2] << 8) | metadata[from + 3]))
    at.push(from + 2);
  for (const field of at) {
    const right = (metadata[field] << 8) | metadata[field + 1];
    for (const value of [
      0, 1, 3, 4, 11, 12, 13, 0x7f, 0xff, 0x100, 0xfff, 0x1000, 0x100c, 0x1fff, 0x7fff, 0x8000, 0xfffc, 0xffff,
    ].concat([-16, -5, -4, -1, 1, 4, 5, 16].map((off) => right + off))) {
      if (value === right || value < 0 || value > 0xffff) continue;
      const lie = metadata.slice();
      setU16(lie, field, value);
      yield lie;
    }
  }
}

for (const [name, options] of [
  ["without keys", {}],
  ["with keys", { security: { fabric: SIGNED } }],
] as const) {
  test(`metadata with every lie about its lengths, ${name}: dropped by name or a session whose every part is right`, (t) => {
    const lies = [...lengthLies(forwardMetadata({ ends: { ...ENDS, sourcePort: 5555 } }))].flatMap((lie) => [
      lie,
      concat(lie, "data behind it"),
      lie.slice(0, lie.length - 9),
    ]);
    let next = 0;
    const net = underAttack(t, options, ({ at, net: { wan } }) => {
      for (let n = 0; n < 8 && next < lies.length; n++, next++) {
        // On tuples of their own, and on the one that a session has.
        const [first] = packetsOn(wan, "west");
        at(wan, "east", udpFrame(next % 2 === 0 ? { ...TO_EAST, sourcePort: 20_000 } : first, lies[next]));
      }
    });
    t.true(next === lies.length && next > 500, `${next} of ${lies.length}`);
    const drops = dropsOf(net.east);
    const opened = countOf(net.east, "metadata.received");
    t.true(sumOf(drops) > lies.length * 0.9, `${JSON.stringify(drops)}, ${opened}`);
    const allowed = [
      "metadata-malformed",
      "metadata-context",
      "metadata-unexpected",
      "unknown-session",
      "signature-wrong",
      "unknown-service",
      "unknown-tenant",
      "control-unknown",
      "fabric-fragment-malformed",
      "signature-missing",
      "service-mismatch",
      "flow-conflict",
    ];
    t.deepEqual(
      Object.keys(drops).filter((drop) => !allowed.includes(drop)),
      [],
    );
    for (const row of sessionRows(net.east)) {
      const context = net.east.sessions.table.context.subarray(row * 4, row * 4 + 4);
      t.is(context[1], parseAddress(SERVER));
      t.true([0x9c40, 0x9c41, 5555].includes(context[2] >>> 16));
    }
    if (name === "with keys") t.is(net.east.sessions.openedTotal, 2);
  });
}

// 6. Fragments

const PIECE = { extendedId: 0, originalId: 1, dontFragment: false, moreFragments: true, offset: 0, largestSeen: 0 };

test("fragment bombs: chains have their limit and their time, and a packet that is cut still comes through beside them", (t) => {
  const random = new SeededRandom(3);
  let frames = 0;
  const whole: number[] = [];
  const net = underAttack(t, {}, ({ at, net: { wan, world, client, server } }, ms) => {
    for (let n = 0; n < 8; n++, frames++) {
      const kind = frames % 4;
      const piece = {
        ...PIECE,
        extendedId: kind === 2 ? 1_000_000 + (frames >>> 4) : frames,
        // Never completed, from everywhere; overlapping with other bytes; ends before other ends.
        offset: kind === 0 ? 0 : 8 * (1 + random.below(kind === 2 ? 4 : 1000)),
        moreFragments: kind !== 3,
      };
      const bytes = pattern(kind === 3 ? 1 + random.below(20) : 8 * (1 + random.below(4)), random.below(256));
      at(
        wan,
        "east",
        udpFrame(
          { ...TO_EAST, sourcePort: 20_000 + (kind === 2 ? 9 : frames % 5) },
          concat(metadataOf([1, piece]), bytes),
        ),
      );
    }
    if (ms % 25 !== 0) return;
    const ends = { ...ENDS, sourcePort: 50_000 + ms, destinationPort: 9 };
    world.send(client, udpFrame(ends, pattern(1472, ms)));
    world.run(1);
    const got = server.received.at(-1)!;
    t.deepEqual([got.sourcePort, got.payload], [ends.sourcePort, pattern(1472, ms)]);
    whole.push(ms);
  });
  t.true(whole.length > 5);
  t.is(countOf(net.east, "fabric.reassembled"), whole.length);
  const drops = dropsOf(net.east);
  t.true(drops["fabric-fragments-full"] > 500 && drops["fabric-fragment-malformed"] > 50, JSON.stringify(drops));
  t.deepEqual(Object.keys(drops).sort(), ["fabric-fragment-malformed", "fabric-fragments-full"]);
  net.world.skip(6000);
  const { "fabric-fragment-timeout": late } = dropsOf(net.east);
  t.true(late > 0 && late < 16 * 9, "sixteen chains were left");
});

test("fragments of IP that make no packet: what is kept of them is bounded, and each is counted", (t) => {
  let frames = 0;
  const net = underAttack(t, {}, ({ at, net: { lan, wan } }) => {
    for (let n = 0; n < 8; n++, frames++) {
      // First, middle and last pieces, tiny ones, and ones that reach past 65535.
      const bits = [0x2000, 0x2001, 0x0001, 0x3fff, 0x1fff][frames % 5];
      const cut = (frame: Uint8Array) => withHeader(frame, (bytes) => setU16(bytes, 20, bits));
      at(lan, "west", cut(udpFrame(ENDS, pattern(8 + (frames % 3) * 700))));
      at(wan, "east", cut(udpFrame(packetsOn(wan, "west")[0], forwardMetadata())));
    }
  });
  net.world.skip(16_000);
  for (const router of [net.west, net.east]) {
    t.deepEqual(Object.keys(dropsOf(router)).sort(), ["ip-fragment-malformed", "ip-fragment-timeout"]);
    // A chain that ends takes its pieces with it: those were consumed.
    const held = countOf(router, "frames.consumed");
    t.true(sumOf(dropsOf(router)) + held >= frames && router.ipFragments.count === 0);
    t.is(countOf(router, "ip.reassembled"), 0);
  }
});

// 7. ICMP errors

/** An ICMP error about a packet. */
function icmpError(source: string, destination: string, type: number, code: number, about: Uint8Array): Uint8Array {
  const frame = protocolFrame(
    source,
    destination,
    1,
    concat(Uint8Array.of(type, code, 0, 0, 0, 0, 5, 0), about.slice(14, 14 + 28)),
  );
  completeChecksum(frame, 0);
  return frame;
}

test("forged ICMP errors about sessions that there are not: dropped by name, no answer, nothing forwarded", (t) => {
  let frames = 0;
  const net = underAttack(t, {}, ({ at, net: { lan, wan } }) => {
    const other = udpFrame({ ...ENDS, sourcePort: 1024 + (frames % 30_000) }, "x");
    const fabric = udpFrame({ ...TO_EAST, sourcePort: 30_000 }, "x");
    for (const [type, code] of [
      [3, 3],
      [3, 4],
      [4, 0],
      [5, 1],
      [11, 0],
      [12, 0],
    ]) {
      at(lan, "west", icmpError(CLIENT, SERVER, type, code, other));
      at(wan, "east", icmpError(WEST_WAYPOINT, EAST_WAYPOINT, type, code, fabric));
      frames++;
    }
  });
  for (const router of [net.west, net.east]) {
    t.is(sumOf(dropsOf(router)), frames);
    t.deepEqual(
      Object.keys(dropsOf(router)).filter((name) => !name.startsWith("icmp-")),
      [],
    );
  }
  t.false(
    [...packetsOn(net.lan, "west"), ...packetsOn(net.wan), ...packetsOn(net.far)].some(
      ({ protocol }) => protocol === 1,
    ),
  );
});

// 8. Control messages

test("control messages in a flood, forged in the peer's name: with keys they do nothing at all", (t) => {
  let frames = 0;
  const net = underAttack(t, { security: { fabric: SIGNED } }, ({ at, net: { wan } }) => {
    const tuples = [packetsOn(wan, "west")[0], { ...TO_EAST, sourcePort: 20_000 }];
    for (const tuple of tuples) {
      for (const message of [...[2, 3, 6, 8].map(controlMessage), HEALTH_CHECK, concat(HEALTH_CHECK, "x")]) {
        at(wan, "east", udpFrame(tuple, message));
        at(wan, "east", tcpFrame(tuple, { flags: ACK, sequence: 1, acknowledgment: 1 }, message));
        frames += 2;
      }
    }
  });
  t.true(frames > 1000);
  t.deepEqual(dropsOf(net.east), { "signature-wrong": frames });
  t.is(countOf(net.east, "metadata.generated") + countOf(net.east, "answers.withheld"), 0);
});

test("health checks in a flood in the name of a peer without keys: ten answers a second, the rest is counted", (t) => {
  let frames = 0;
  const net = underAttack(t, {}, ({ at, net: { wan } }) => {
    for (let n = 0; n < 8; n++, frames++)
      at(wan, "east", udpFrame({ ...TO_EAST, sourcePort: 20_000 + n }, concat(HEALTH_CHECK, "x")));
  });
  const answers = packetsOn(net.wan, "east").filter(({ metadata }) => metadata.get("control") === 2).length;
  const seconds = Math.ceil(net.world.clock.nowMs() / 1000);
  t.true(answers >= 10 && answers <= 10 * seconds, `${answers} answers`);
  t.is(countOf(net.east, "answers.withheld"), frames - answers);
  t.deepEqual(dropsOf(net.east), { "unknown-session": frames });
});

// 9. Half-open sessions

test("SYNs that nobody finishes: half-open sessions have their limit, and sessions are still established beside them", (t) => {
  let [port, connected] = [0, 0];
  const net = underAttack(
    t,
    { limits: { sessions: 48, waypointPairs: 8192 } },
    ({ at, net: { lan, world, client, server } }, ms) => {
      for (let n = 0; n < 16; n++)
        at(
          lan,
          "west",
          tcpFrame(
            { ...ENDS, source: "10.1.0.66", sourcePort: 1024 + port++, destinationPort: 9 },
            { flags: SYN, sequence: 1, acknowledgment: 0 },
          ),
        );
      if (ms % 20 !== 0) return;
      const ends = { ...ENDS, sourcePort: 60_000 + ms, destinationPort: 80 };
      world.send(client, tcpFrame(ends, { flags: SYN, sequence: 1, acknowledgment: 0 }));
      world.run(1);
      world.send(server, tcpFrame(swapEnds(ends), { flags: SYN | ACK, sequence: 5, acknowledgment: 2 }));
      world.run(1);
      world.send(client, tcpFrame(ends, { flags: ACK | PSH, sequence: 2, acknowledgment: 6 }, "mine"));
      world.run(1);
      if (server.received.slice(-4).some(({ text, sourcePort }) => text === "mine" && sourcePort === ends.sourcePort))
        connected++;
    },
  );
  t.true(port > 1000);
  t.true(connected > 5);
  t.is(net.west.sessions.table.count, 48);
  t.true(net.west.sessions.halfOpenCount <= 48 - 2 - connected);
  t.true(net.west.sessions.evictedTotal > port / 2);
});

// 10. Amplification

test("whoever is no peer and of no tenant gets no more frames and bytes than he sends, and only pings and ARP at all", (t) => {
  const random = new SeededRandom(11);
  const net = twoRouters({ security: { fabric: SIGNED } });
  // So that west knows its neighbors and is asked for none.
  net.world.send(net.client, udpFrame(ENDS, "lead"));
  net.world.run(2);
  const kinds: [name: string, make: () => Uint8Array][] = [
    ["ping", () => echoFrame("203.0.113.9", WEST_WAYPOINT, 1, 1, pattern(random.below(1400)))],
    ["ARP", () => arpFrame(ARP_REQUEST, ATTACKER, `198.18.0.${50 + random.below(100)}`, WEST_WAYPOINT)],
    ["ARP claim", () => arpFrame(ARP_REQUEST, ATTACKER, WEST_WAYPOINT, WEST_WAYPOINT)],
    [
      "SYN",
      () =>
        tcpFrame(
          { ...ENDS, source: "203.0.113.9", destination: WEST_WAYPOINT },
          { flags: SYN, sequence: 1, acknowledgment: 0 },
        ),
    ],
    ["segment", () => tcpFrame({ ...ENDS, source: "203.0.113.9" }, { flags: ACK, sequence: 1, acknowledgment: 1 })],
    ["dead at arrival", () => udpFrame({ ...ENDS, source: "203.0.113.9" }, "", 1)],
    [
      "datagram",
      () => udpFrame({ ...ENDS, source: "203.0.113.9", destination: WEST_WAYPOINT }, pattern(random.below(400))),
    ],
    ["metadata", () => udpFrame({ ...TO_EAST, source: "203.0.113.9", destination: WEST_WAYPOINT }, forwardMetadata())],
    ["health check", () => udpFrame({ ...TO_EAST, source: "203.0.113.9", destination: WEST_WAYPOINT }, HEALTH_CHECK)],
    ["peer's name", () => udpFrame({ ...swapEnds(TO_EAST), sourcePort: 20_000 }, HEALTH_CHECK)],
    ["peer's name, metadata", () => udpFrame(swapEnds(TO_EAST), forwardMetadata())],
    ["peer's name, dead", () => udpFrame(swapEnds(TO_EAST), forwardMetadata(), 1)],
    ["peer's name, SYN", () => tcpFrame(swapEnds(TO_EAST), { flags: SYN, sequence: 1, acknowledgment: 0 })],
  ];
  const answers: Record<string, number> = {};
  for (const [name, make] of kinds) {
    // None of what one kind withholds counts for the next.
    net.world.run(1000);
    const since = net.wan.seen.length;
    let [frames, bytes] = [0, 0];
    for (let ms = 0; ms < 100; ms++) {
      for (let n = 0; n < 30; n++) {
        const frame = make();
        frames++;
        bytes += frame.length;
        net.world.inject(net.wan, "west", frame);
      }
      net.world.run(1);
    }
    net.world.run(5);
    const out = sentOn(net.wan, "west", since);
    t.true(out.length <= frames && bytesOf(out) <= bytes, name);
    t.true(out.length <= 1000, `${name}: ${out.length} in a tenth of a second`);
    answers[name] = out.length;
  }
  t.deepEqual(Object.fromEntries(Object.entries(answers).filter(([, count]) => count > 0)), {
    ping: 1000,
    ARP: 1000,
    "ARP claim": 1,
  });
  t.is(countOf(net.west, "answers.withheld"), 2000);
  t.is(sessionRows(net.west).length, 1);
});

test("a host of a tenant: one answer for one packet and a thousand a second; ICMP alone is longer, by its 28 bytes of headers", (t) => {
  const net = twoRouters();
  net.world.send(net.client, udpFrame(ENDS, "lead"));
  net.world.run(2);
  const kinds: [name: string, longer: number, make: (n: number) => Uint8Array][] = [
    ["reset", 0, (n) => tcpFrame({ ...ENDS, sourcePort: n }, { flags: ACK, sequence: 1, acknowledgment: 1 })],
    [
      "reset of much",
      0,
      (n) => tcpFrame({ ...ENDS, sourcePort: n }, { flags: FIN | ACK, sequence: 1, acknowledgment: 1 }, pattern(900)),
    ],
    ["dead at arrival", 28, (n) => udpFrame({ ...ENDS, sourcePort: n }, "", 1)],
    ["dead at arrival, long", 0, (n) => udpFrame({ ...ENDS, sourcePort: n }, pattern(1400), 1)],
    ["ping", 0, () => echoFrame(CLIENT, "10.1.0.1", 1, 1, "ping")],
    ["reset sent", 0, (n) => tcpFrame({ ...ENDS, sourcePort: n }, { flags: RST, sequence: 1, acknowledgment: 1 })],
  ];
  for (const [name, longer, make] of kinds) {
    net.world.run(1000);
    const since = net.lan.seen.length;
    let [frames, bytes] = [0, 0];
    for (let ms = 0; ms < 50; ms++) {
      for (let n = 0; n < 30; n++) {
        const frame = make(1024 + frames++);
        bytes += frame.length + longer;
        net.world.inject(net.lan, "west", frame);
      }
      net.world.run(1);
    }
    const out = sentOn(net.lan, "west", since);
    t.is(out.length, name === "reset sent" ? 0 : 1000, name);
    t.true(bytesOf(out) <= bytes, name);
  }
  t.is(countOf(net.west, "answers.withheld"), 5 * 500);
});

// No open port

test("a scan of every port of a waypoint address, by a stranger and in the peer's name, gets no byte back", (t) => {
  for (const options of [{}, { security: { fabric: SIGNED } }]) {
    const net = eastAlone("", options);
    net.world.send(net.peer, udpFrame(TO_EAST, "finds the neighbor"));
    net.world.run(2);
    const since = net.wan.seen.length;
    const flags = [SYN, ACK, FIN, 0, SYN | ACK, FIN | PSH | 32, RST];
    let frames = 0;
    for (let port = 1; port < 65_536; port += 13) {
      for (const source of ["198.18.0.77", WEST_WAYPOINT]) {
        const ends = { source, destination: EAST_WAYPOINT, sourcePort: 16_384 + (port & 1), destinationPort: port };
        net.world.inject(net.wan, "east", tcpFrame(ends, { flags: flags[port % 7], sequence: 1, acknowledgment: 0 }));
        net.world.inject(net.wan, "east", udpFrame(ends, ["", "x", COOKIE, controlMessage(port % 12)][port % 4]));
        frames += 2;
      }
      net.world.run(1);
    }
    t.is(frames, 4 * 5042);
    t.deepEqual(sentOn(net.wan, "east", since), []);
    t.deepEqual(sessionRows(net.east), []);
    const drops = dropsOf(net.east);
    t.is(drops["not-a-peer"], frames / 2);
    t.is(sumOf(drops), frames + 1);
  }
});

test("only a health check that is signed is answered, ten times a second on each path", (t) => {
  const net = twoRouters({ security: { fabric: SIGNED } });
  net.world.send(net.client, udpFrame(ENDS, "lead"));
  net.world.run(2);
  // One-way: the peer asks whether its session is known.
  let check: Uint8Array | undefined;
  net.wan.tamper = (frame, packet, from) => {
    if (from === "west" && packet?.metadata.has("health-check")) check ??= frame.slice();
    return [{ frame }];
  };
  for (let second = 0; second < 40 && check === undefined; second++) {
    net.world.send(net.client, udpFrame(ENDS, "one way"));
    net.world.run(1000);
  }
  net.wan.tamper = (frame) => [{ frame }];
  net.world.restart("east");
  const east = net.world.routers.get("east")!;
  net.world.inject(net.wan, "east", check!.slice());
  net.world.run(1000);
  const before = packetsOn(net.wan, "east").length;
  for (let n = 0; n < 30; n++) net.world.inject(net.wan, "east", check!.slice());
  net.world.run(1);
  const answers = packetsOn(net.wan, "east").slice(before);
  t.is(answers.length, 10);
  t.true(answers.every(({ metadata, frame }) => metadata.get("control") === 2 && frame.length <= check!.length));
  t.deepEqual(dropsOf(east), { "unknown-session": 31 });
  t.is(countOf(east, "answers.withheld"), 20);
  const altered = check!.slice();
  altered[altered.length - 1] ^= 1;
  completeChecksum(altered, 0);
  net.world.run(1000);
  net.world.inject(net.wan, "east", altered);
  net.world.run(1);
  t.is(packetsOn(net.wan, "east").length, before + 10);
  t.is(dropsOf(east)["signature-wrong"], 1);
});
