// What paths take, found by probes where nobody says it, and what becomes of sessions when it changes.

import test from "ava";
import { SeededRandom } from "../../lib/base/random.ts";
import { readCounters } from "../../lib/control/metrics.ts";
import type { PathsAnswer } from "../../lib/control/show.ts";
import { answer } from "../../lib/control/snapshot.ts";
import type { Router } from "../../lib/router.ts";
import { ACK, SYN } from "../../lib/wire/tcp.ts";
import { FAR, LAN, netOf } from "./families.ts";
import { type Ends, icmpError, pattern, swapEnds, tcpFrame, udpFrame } from "./packets.ts";
import { fabricText, SEALED } from "./protection.ts";
import {
  CLIENT,
  dropsOf,
  type Options,
  type Protection,
  packetsOn,
  type RouterText,
  routerYaml,
  SERVER,
  TWICE,
  type TwoRouters,
  twoPaths,
  twoRouters,
} from "./topologies.ts";
import { type Tamper, World } from "./world.ts";

const ENDS = { source: CLIENT, destination: SERVER, sourcePort: 40000, destinationPort: 53 };
const ETHERNET = 14;
const METADATA: Protection = { fabric: fabricText("sha256", "time-based", "metadata", "none") };
const BFD = "bfd: { hold-down: 0s }\n";

/** A link that carries no packet longer than `mtu`, and says nothing. */
const swallows =
  (mtu: number): Tamper =>
  (frame) =>
    frame.length > ETHERNET + mtu ? [] : [{ frame }];

function shown(router: Router): PathsAnswer["paths"][number]["mtu"] {
  return (answer(router, "paths") as PathsAnswer).paths[0].mtu;
}

const sizes = ({ west, east }: TwoRouters) => [shown(west).bytes, shown(east).bytes];
const mtuEvents = ({ events }: Router) => events.list(0).filter(({ kind }) => kind === "path-mtu");

/** Two routers whose paths are up. */
function watched(tamper: Tamper | null, options: Options = {}): TwoRouters {
  const net = twoRouters({ extra: BFD, ...options });
  if (tamper !== null) net.wan.tamper = tamper;
  const isUp = () => [net.west, net.east].every(({ sessions }) => sessions.paths[0].up);
  if (!net.world.runUntil(isUp, 6000)) throw new Error("the path did not come up");
  return net;
}

for (const [kind, security] of [
  ["in clear", {}],
  ["with signed metadata", METADATA],
  ["signed and encrypted", SEALED],
] as const) {
  test(`packets ${kind}: what a path takes that swallows all else is found to the byte, from both ends`, (t) => {
    for (const mtu of [576, 577, 1006, 1279, 1280, 1391, 1492, 1499, 1500]) {
      const net = watched(swallows(mtu), { security });
      const { world, west, east } = net;
      t.true(
        world.runUntil(() => [west, east].every((router) => shown(router).source === "probe"), 4000),
        `${mtu}`,
      );
      t.deepEqual(sizes(net), [mtu, mtu]);
      for (const router of [west, east]) {
        t.deepEqual(dropsOf(router), {});
        t.deepEqual(
          mtuEvents(router).map(({ why }) => why),
          mtu === 1500 ? [] : [`packets of up to ${mtu} bytes, as probes found`],
        );
      }
    }
  });
}

test("each direction has its own size, and jumbo frames are found as well", (t) => {
  const net = watched(
    (frame, _, from) => (frame.length > ETHERNET + (from === "west" ? 8123 : 4000) ? [] : [{ frame }]),
    {
      wanMtu: 9000,
    },
  );
  net.world.run(4000);
  t.deepEqual(sizes(net), [8123, 4000]);
});

test("a peer whose interface takes less than ours answers no longer probes, though its device lets them in", (t) => {
  const world = new World(1, true);
  const ends = (own: string, peer: string, remote: string): RouterText["wans"] => ({ wan0: [own, peer, remote] });
  const text = { extra: BFD, lan: { address: "10.1.0.1", tenant: "corp" } };
  const west = world.addRouter(
    "west",
    routerYaml({
      ...text,
      name: "west",
      wans: ends("198.18.0.1", "east", "198.18.0.2"),
      route: "peer: east",
      wanMtu: 9000,
    }),
  );
  const east = world.addRouter(
    "east",
    routerYaml({
      ...text,
      name: "east",
      wans: ends("198.18.0.2", "west", "198.18.0.1"),
      route: "peer: west",
      wanMtu: 1500,
    }),
  );
  world.join("wan", "west.wan0", "east.wan0");
  t.true(world.runUntil(() => shown(west).source === "probe", 6000));
  t.is(shown(west).bytes, 1500);
  t.true(dropsOf(east)["frame-too-long"]! > 0);
});

test("a path that becomes narrower in the midst of a session, and says nothing, is found within 5 s; nothing is lost after that", (t) => {
  const net = watched(null);
  const { world, west, client, server, wan } = net;
  world.run(3000);
  t.deepEqual(shown(west), { bytes: 1500, source: "probe", sinceMs: null });
  const send = () => world.send(client, udpFrame(ENDS, pattern(1472)));
  for (let n = 0; n < 5; n++) {
    send();
    world.run(10);
  }
  t.is(server.received.length, 5);
  wan.tamper = swallows(1333);
  send();
  world.run(10);
  t.is(server.received.length, 5, "a black hole");
  const beganMs = world.clock.nowMs();
  t.true(world.runUntil(() => shown(west).bytes === 1333, 5000));
  t.log(`found after ${world.clock.nowMs() - beganMs} ms`);
  send();
  world.run(10);
  t.is(server.received.length, 6, "in fabric fragments");
  t.deepEqual(server.received.at(-1)!.payload, pattern(1472));
  const told = client.received
    .filter(({ icmpType }) => icmpType === 3)
    .map(({ frame }) => Buffer.from(frame).readUInt32BE(38));
  t.deepEqual(told, [1333]);
  t.is(mtuEvents(west).length, 1);
  wan.tamper = (frame) => [{ frame }];
  world.skip(600_000);
  t.is(shown(west).bytes, 1500, "and the next round finds it wider");
});

for (const [kind, security, put] of [
  ["in clear", {}, 0],
  ["signed and encrypted", SEALED, 48],
] as const) {
  test(`segments and super-frames of a steady TCP session ${kind} go on over a path that has become narrower`, (t) => {
    const net = watched(null, { security, superFrames: true });
    const { world, west, client, server, wan } = net;
    const ends = { source: CLIENT, destination: SERVER, sourcePort: 40000, destinationPort: 80 };
    server.onPacket = (packet) => {
      if (packet.protocol !== 6) return;
      const isSyn = (packet.tcpFlags & SYN) !== 0;
      const flags = isSyn ? SYN | ACK : ACK;
      const acknowledgment = packet.sequence + packet.payload.length + (isSyn ? 1 : 0);
      world.send(server, tcpFrame(swapEnds(ends), { flags, sequence: 500, acknowledgment, mss: 1460 }));
    };
    world.send(client, tcpFrame(ends, { flags: SYN, sequence: 1000, acknowledgment: 0, mss: 1460 }));
    world.run(5);
    let sequence = 1001;
    const send = (length: number) => {
      world.send(client, tcpFrame(ends, { flags: ACK, sequence, acknowledgment: 501 }, pattern(length, sequence)));
      sequence += length;
      world.run(5);
    };
    for (let n = 0; n < 5; n++) send(500);
    world.run(3000);
    const data = () =>
      server.received.filter(({ payload }) => payload.length > 0).reduce((sum, { payload }) => sum + payload.length, 0);
    t.is(data(), 2500);
    wan.tamper = swallows(1211);
    t.true(world.runUntil(() => shown(west).bytes === 1211, 5000));
    for (const length of [1400 - put, 1171 - put, 10_000, 1460 - put, 1171 - put]) send(length);
    world.run(100);
    t.is(data(), sequence - 1001);
    const errors = client.received.filter(({ icmpType }) => icmpType === 3);
    t.true(errors.length >= 2);
    for (const { frame } of errors) t.is(Buffer.from(frame).readUInt32BE(38), 1211 - put);
    t.deepEqual(dropsOf(west), {});
  });
}

test("a peer that answers no probes narrows nothing", (t) => {
  // What an older router sees of them it drops as repeated.
  const net = watched((frame, seen) =>
    seen?.destinationPort === 1280 && frame.length >= ETHERNET + 576 ? [] : [{ frame }],
  );
  net.world.run(60_000);
  t.deepEqual(shown(net.west), { bytes: 1500, source: "interface", sinceMs: null });
  t.deepEqual(mtuEvents(net.west), []);
});

test("no probes where they are switched off, and the peer's are answered", (t) => {
  const net = watched(swallows(1400), { extra: `${BFD}path-mtu-discovery: { enabled: false }\n` });
  net.world.run(10_000);
  t.deepEqual(sizes(net), [1500, 1500]);
  t.is(Math.max(...packetsOn(net.wan, "west").map(({ frame }) => frame.length)) < ETHERNET + 576, true);
});

test("a third of all packets lost narrows nothing in ten minutes, and what is narrow is found all the same", (t) => {
  for (const mtu of [1500, 1411]) {
    const random = new SeededRandom(mtu);
    const net = watched(
      (frame) => (frame.length > ETHERNET + mtu || (random.nextI32() >>> 0) / 2 ** 32 < 1 / 3 ? [] : [{ frame }]),
      {
        extra: "bfd: { hold-down: 0s, multiplier: 20, link-test-length: 0 }\n",
      },
    );
    const { world, west } = net;
    t.true(world.runUntil(() => shown(west).source === "probe", 120_000));
    for (let n = 0; n < 600; n++) {
      world.skip(1000, 10);
      if (shown(west).bytes !== mtu) t.fail(`${shown(west).bytes} after ${n} s`);
    }
  }
});

test("an ICMP error about a probe is believed for its size, and is no drop; the search takes a few round trips", (t) => {
  const net = watched(null, { security: METADATA });
  const { world, west, wan } = net;
  world.run(1000);
  let errors = 0;
  wan.tamper = (frame, _, from) => {
    if (frame.length <= ETHERNET + 1345) return [{ frame }];
    if (from === "west") {
      errors++;
      const error = icmpError("203.0.113.9", 3, 4, frame, 1345);
      error.set(frame.subarray(6, 12), 0);
      error.set(frame.subarray(0, 6), 6);
      world.inject(wan, "west", error);
    }
    return [];
  };
  t.true(world.runUntil(() => shown(west).bytes === 1345, 2100));
  t.true(errors <= 4, `${errors}`);
  t.deepEqual(dropsOf(west), {});
});

test("an ICMP error about a session's packet narrows the path at once, and probes say within ten seconds whether it was right", (t) => {
  for (const [mtu, told, found] of [
    [1500, 600, 1500],
    [1500, 1400, 1500],
    [1400, 1400, 1400],
    [1300, 1400, 1300],
  ]) {
    const net = watched(null);
    const { world, west, client, wan } = net;
    world.run(12_000);
    world.send(client, udpFrame(ENDS, "question"));
    world.run(5);
    const sent = packetsOn(wan, "west")
      .filter(({ destinationPort }) => destinationPort !== 1280)
      .at(-1)!.frame;
    const error = icmpError("203.0.113.9", 3, 4, sent, told);
    error.set(sent.subarray(6, 12), 0);
    error.set(sent.subarray(0, 6), 6);
    wan.tamper = swallows(mtu);
    world.inject(wan, "west", error);
    world.run(1);
    t.like(shown(west), { bytes: told, source: "icmp" });
    t.true(
      world.runUntil(() => shown(west).source === "probe" && shown(west).bytes === found, 10_000),
      `${mtu} ${told}`,
    );
    t.is(readCounters(west)["drop.icmp-error"], 0);
    world.run(30_000);
    t.is(shown(west).bytes, found);
  }
});

test("an error about a probe that was never sent ends no search", (t) => {
  const net = watched(null);
  const { world, west, wan } = net;
  world.run(3000);
  const probe = packetsOn(wan, "west")
    .filter(({ frame }) => frame.length === ETHERNET + 1500)
    .at(-1)!
    .frame.slice();
  // The UDP checksum, which who has not seen it does not know.
  probe[ETHERNET + 20 + 6] ^= 0x5a;
  for (let n = 0; n < 2000; n++) {
    const error = icmpError("203.0.113.9", 3, 4, probe, 600);
    error.set(probe.subarray(6, 12), 0);
    error.set(probe.subarray(0, 6), 6);
    world.inject(wan, "west", error);
    world.run(5);
    if (shown(west).bytes !== 1500) t.fail();
  }
  t.is(packetsOn(wan, "west").filter(({ frame }) => frame.length === ETHERNET + 1500).length <= 8, true);
});

test("answers are given to the peer alone, and not without end", (t) => {
  const net = watched(null);
  const { world, west, east, wan } = net;
  world.run(3000);
  const probe = packetsOn(wan, "west")
    .filter(({ frame }) => frame.length === ETHERNET + 1500)
    .at(-1)!.frame;
  const { length } = packetsOn(wan, "east");
  for (let n = 0; n < 1000; n++) {
    world.inject(wan, "east", probe.slice());
    if (n % 50 === 49) world.settle();
  }
  t.true(packetsOn(wan, "east").length - length <= 515);
  t.true(dropsOf(east)["bfd-echo"]! >= 485);
  t.is(shown(west).bytes, 1500);
  t.true(east.sessions.paths[0].up);
});

test("an IPv6 host is told of no packet that it may send over any link, though what routers put on it takes fabric fragments", (t) => {
  for (const families of [[6], [4], [6, 4]] as const) {
    const wires = families.map((family) => ({ family, mtu: 1280 }));
    const net = netOf(6, wires, { fabric: SEALED.fabric, payload: SEALED.payload });
    const ends: Ends = { source: LAN[6][1], destination: FAR[6][1], sourcePort: 40000, destinationPort: 5000 };
    const send = (length: number, way = ends, host = net.client) => {
      net.world.send(host, udpFrame(way, pattern(length - 48)));
      net.world.run(3);
    };
    for (let n = 0; n < 4; n++) {
      send(100);
      send(100, swapEnds(ends), net.server);
    }
    net.client.received.length = 0;
    net.server.received.length = 0;
    for (const length of [1250, 1280, 1280]) send(length);
    t.is(net.server.received.length, 3);
    t.is(net.client.received.length, 0);
    for (const router of net.routers) t.is(readCounters(router)["icmp.too-big-sent"], 0);
    send(1281);
    t.is(net.server.received.length, 4);
    t.deepEqual(
      net.client.received.map(({ icmpType, frame }) => [icmpType, Buffer.from(frame).readUInt32BE(38) + 20]),
      [[3, 1280]],
    );
    send(1280, swapEnds(ends), net.server);
    t.is(net.client.received.at(-1)!.payload.length, 1280 - 48);
    t.true(net.server.received.every(({ icmpType }) => icmpType !== 3));
  }
});

test("a session over two paths at once fits the narrower one: its segments are asked for, and its host is told", (t) => {
  for (const narrow of [0, 1]) {
    const net = twoPaths(TWICE);
    const { world, west, client, server } = net;
    west.sessions.paths[narrow].learnMtu(1300, world.clock.nowMs());
    const ends = { ...ENDS, destinationPort: 80 };
    const most = 1300 - 28;
    world.send(client, tcpFrame(ends, { flags: SYN, sequence: 1000, acknowledgment: 0, mss: 1460 }));
    world.run(5);
    const mssOf = (frame: Uint8Array) => Buffer.from(frame).readUInt16BE(14 + 20 + 22);
    world.send(server, tcpFrame(swapEnds(ends), { flags: SYN | ACK, sequence: 500, acknowledgment: 1001, mss: 1460 }));
    world.run(5);
    t.is(mssOf(client.received.at(-1)!.frame), most - 40, `path ${narrow}`);
    for (let n = 0; n < 3; n++) {
      world.send(client, udpFrame(ENDS, "question"));
      world.run(5);
      world.send(server, udpFrame(swapEnds(ENDS), "answer"));
      world.run(5);
    }
    const { length } = client.received;
    world.send(client, udpFrame(ENDS, pattern(1400 - 28)));
    world.run(5);
    t.deepEqual(
      client.received.slice(length).map(({ icmpType, frame }) => [icmpType, Buffer.from(frame).readUInt32BE(38)]),
      [[3, most]],
    );
    const before = readCounters(west)["fabric.fragments-sent"];
    world.send(client, udpFrame(ENDS, pattern(most - 28)));
    world.run(5);
    t.is(readCounters(west)["fabric.fragments-sent"], before);
    t.deepEqual(server.received.at(-1)!.payload, pattern(most - 28));
  }
});
