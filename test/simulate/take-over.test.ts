// A router that another process goes on with, whole routers on a virtual clock: the state is written, read by a fresh
// router on the same ports, and every conversation goes on as if nothing had been.

import test, { type ExecutionContext } from "ava";
import { SeededRandom } from "../../lib/base/random.ts";
import { StateError } from "../../lib/base/state.ts";
import { readCounters } from "../../lib/control/metrics.ts";
import { configIdentity, RouterRestorer } from "../../lib/control/router-state.ts";
import { SHOW_RESOURCES } from "../../lib/control/show.ts";
import { snapshot } from "../../lib/control/snapshot.ts";
import type { Router } from "../../lib/router.ts";
import { GENERATION_MASK } from "../../lib/table/flow-table.ts";
import { ACK, PSH, SYN } from "../../lib/wire/tcp.ts";
import { TcpClient, tcpServer, UdpClient, udpServer } from "./endpoints.ts";
import { behindNat } from "./nat.ts";
import { echoFrame, tcpFrame, udpFrame } from "./packets.ts";
import { ADAPTIVE, AES_256, EVERY_PACKET, fabricText, SEALED } from "./protection.ts";
import { piecesOf, takeOver } from "./successor.ts";
import {
  CLIENT,
  dropsOf,
  type Protection,
  packetsOn,
  SERVER,
  sessionRows,
  TWICE,
  type TwoRouters,
  threeRouters,
  twoPaths,
  twoRouters,
} from "./topologies.ts";

const SIGNED: Protection = { fabric: fabricText("sha256-128", "time-based", "metadata", "none") };
const KINDS: [string, Protection][] = [
  ["in clear", {}],
  ["signed and encrypted", SEALED],
  ["encrypted in their midst", { fabric: EVERY_PACKET, payload: ADAPTIVE }],
  ["with keys of their own", { fabric: EVERY_PACKET, payload: `${AES_256}, session-keys: true` }],
];
const REQUESTS = Array.from({ length: 12 }, (_, n) => `request ${n} of twelve`);
const ANSWERS = REQUESTS.map((request) => request.toUpperCase());

/** Everything that can be seen of a router, and of each session. */
function observed(router: Router): unknown {
  const { sessions } = router;
  const { table, flows } = sessions;
  const shown = Object.fromEntries(
    SHOW_RESOURCES.map((resource) => {
      const answer = structuredClone(snapshot(router, resource)) as { sessions?: { uuid: string }[] };
      answer.sessions?.sort((a, b) => (a.uuid < b.uuid ? -1 : 1));
      return [resource, answer];
    }),
  );
  const inner = sessionRows(router).map((row) => {
    const flow = (at: number) =>
      at < 0
        ? null
        : {
            words: [...flows.words.subarray(at * 16, at * 16 + 8), flows.words[at * 16 + 8] & ~GENERATION_MASK],
            isStale: (flows.words[at * 16 + 8] & GENERATION_MASK) !== flows.generation,
            seen: flows.words[at * 16 + 11],
            hop: hopOf(router, at),
          };
    return {
      uuid: [...table.uuid.subarray(row * 4, row * 4 + 4)],
      context: [...table.context.subarray(row * 4, row * 4 + 4)],
      tcp: [table.tcpState[row], ...table.tcpNumbers.subarray(row * 4, row * 4 + 4)],
      payload: [table.payload[row], table.payloadKeyVersion[row], table.hasEncryptedFrom[row]],
      from: [...table.encryptedFrom.subarray(row * 2, row * 2 + 2)].filter(() => table.hasEncryptedFrom[row] !== 0),
      key: Buffer.from(
        table.keys.subarray(row * table.keyStride, row * table.keyStride + table.keyLength(row)),
      ).toString("hex"),
      dscp: [...table.dscp.subarray(row * 2, row * 2 + 2)],
      small: [
        table.healthCheck[row],
        table.moves[row],
        table.opened[row],
        ...table.segmentSize.subarray(row * 2, row * 2 + 2),
      ],
      flows: [flow(table.forwardFlow[row]), flow(table.reverseFlow[row])],
      sides: table.sides.map((side) => ({
        state: side.state[row],
        path: side.path[row],
        port: side.portRow[row],
        unanswered: [side.unanswered[row], side.unansweredSinceMs[row], side.generatedMs[row]],
        lingering: flow(side.lingering[row]),
      })),
      second: [0, 1].map((way) => {
        const at = table.duplicate[row * 2 + way];
        const { second, flow: flowOf } = sessions.duplicates;
        return at < 0 ? null : [second.state[at], second.path[at], second.portRow[at], flow(flowOf[at])];
      }),
      source: Buffer.from(router.metadata.names.bytes(table.sourceRouter[row])).toString(),
      policy: Buffer.from(router.metadata.names.bytes(table.payloadPolicy[row])).toString(),
    };
  });
  inner.sort((a, b) => (String(a.uuid) < String(b.uuid) ? -1 : 1));
  return {
    shown,
    inner,
    halfOpen: [...sessions.rows()].slice(0, sessions.halfOpenCount).map((row) => table.uuid[row * 4]),
  };
}

function hopOf({ sessions: { flows, neighbors } }: Router, flow: number): string {
  const hop = flows.words[flow * 16 + 9];
  return `${neighbors.interfaceId[hop]} ${neighbors.address[hop]}`;
}

/** A TCP and a UDP conversation with pauses, and pings; `step` is called now and then. */
function talk(t: ExecutionContext, net: TwoRouters, step: () => void): void {
  const ends = (port: number) => ({ source: CLIENT, destination: SERVER, sourcePort: port, destinationPort: 7 });
  const tcp = new TcpClient(net.world, net.client, ends(40000), REQUESTS, 7);
  const udp = new UdpClient(net.world, net.client, ends(40001), REQUESTS, 7);
  const echoes: string[] = [];
  net.client.onPacket = (packet) => {
    tcp.receive(packet);
    udp.receive(packet);
    if (packet.protocol === 1 && packet.icmpType === 0) echoes.push(packet.text);
  };
  const servers = [tcpServer(net.world, net.server), udpServer(net.world, net.server)];
  net.server.onPacket = (packet) => {
    for (const serve of servers) serve(packet);
    if (packet.protocol === 1 && packet.icmpType === 8)
      net.world.send(net.server, echoFrame(SERVER, CLIENT, 9, 1, packet.payload, true));
  };
  for (let n = 0; n < 200 && (tcp.state !== "closed" || udp.answers.length < REQUESTS.length); n++) {
    if (n % 10 === 0) net.world.send(net.client, echoFrame(CLIENT, SERVER, 9, 1, `echo ${n}`));
    net.world.run(1);
    step();
  }
  t.is(tcp.state, "closed");
  t.deepEqual(tcp.answers, ANSWERS);
  t.deepEqual(udp.answers, ANSWERS);
  t.is(new Set(echoes).size, echoes.length);
  for (const router of net.world.routers.values()) {
    const { duplicate, ...others } = dropsOf(router);
    t.deepEqual(others, {});
  }
}

for (const [kind, security] of KINDS) {
  for (const [what, make] of [
    ["its first router", () => twoRouters({ security })],
    ["its last router", () => twoRouters({ security })],
    ["the first of three routers", () => threeRouters({ security })],
  ] as const) {
    test(`conversations ${kind} go on, byte by byte, when ${what} is taken over after every millisecond`, (t) => {
      const net = make();
      const name = what.includes("last") ? "east" : "west";
      talk(t, net, () => {
        const before = net.world.routers.get(name)!;
        const seen = observed(before);
        takeOver(net, name);
        t.deepEqual(observed(net.world.routers.get(name)!), seen);
      });
    });
  }
}

test("a middle router is taken over and keeps its port pairs", (t) => {
  const net = threeRouters({ security: { fabric: EVERY_PACKET } });
  talk(t, net, () => {
    const before = observed(net.middle);
    const pieces = piecesOf(net.middle);
    const after = net.world.restart("middle");
    const restorer = new RouterRestorer(after);
    for (const piece of pieces) restorer.take(piece);
    restorer.end();
    net.middle = after;
    t.deepEqual(observed(after), before);
  });
});

test("sessions that were moved, with what still comes by their old tuples, and closed ones' port pairs go over", (t) => {
  const net = twoPaths();
  const random = new SeededRandom(5);
  net.server.onPacket = udpServer(net.world, net.server);
  for (let n = 0; n < 400; n++) {
    const port = 40000 + (random.nextI32() & 15);
    const ends = { source: CLIENT, destination: SERVER, sourcePort: port, destinationPort: 7 };
    if (n % 3 === 0) net.world.send(net.client, udpFrame(ends, `datagram ${n}`));
    if (n % 5 === 0) net.world.send(net.client, tcpFrame(ends, { flags: SYN, sequence: n, acknowledgment: 0 }));
    if (n % 7 === 0)
      net.world.send(net.client, tcpFrame(ends, { flags: ACK | PSH, sequence: n, acknowledgment: 0 }, "x"));
    if (n % 90 === 60) {
      net.west.sessions.paths[0].up = !net.west.sessions.paths[0].up;
      net.west.sessions.flows.nextGeneration();
    }
    net.world.run(1 + (random.nextI32() & 63));
    if (n % 20 === 10) net.world.skip(12_000);
    if (n % 8 !== 0) continue;
    const before = observed(net.west);
    const counters = readCounters(net.west);
    takeOver(net, "west");
    t.deepEqual(observed(net.west), before, `step ${n}`);
    t.deepEqual(readCounters(net.west), counters);
  }
});

test("what was to be looked at before its next packet still is when its router was taken over and another path event came", (t) => {
  const net = twoPaths();
  net.server.onPacket = udpServer(net.world, net.server);
  const ends = { source: CLIENT, destination: SERVER, sourcePort: 40000, destinationPort: 7 };
  const say = (text: string) => {
    net.world.send(net.client, udpFrame(ends, text));
    net.world.run(2);
    return net.client.received.at(-1)?.text.toLowerCase();
  };
  for (const text of ["lead", "second", "third"]) t.is(say(text), text);
  net.west.sessions.flows.nextGeneration();
  takeOver(net, "west");
  const [row] = sessionRows(net.west);
  const { sessions } = net.west;
  sessions.paths[sessions.table.downstream.path[row]].up = false;
  sessions.flows.nextGeneration();
  const before = [net.wan, net.wan2].map((link) => packetsOn(link, "west").length);
  t.is(say("by the other path"), "by the other path");
  const by = [net.wan, net.wan2].map((link, n) => packetsOn(link, "west").length - before[n]);
  t.is(by[sessions.paths[0].up ? 1 : 0], 0);
});

for (const name of ["west", "east"] as const) {
  test(`packets that go over two paths are counted on when ${name} is taken over: delivered once, and from both paths`, (t) => {
    const net = twoPaths({
      security: SEALED,
      ...TWICE,
    });
    talk(t, net, () => {
      const before = net.world.routers.get(name)!;
      const seen = observed(before);
      takeOver(net, name);
      t.deepEqual(observed(net.world.routers.get(name)!), seen);
    });
    t.true(dropsOf(net.east).duplicate! > 20);
    t.is(net.east.sessions.duplicates.count, 3);
    t.is(net.east.sessions.paths[1].sessions, 3);
  });
}

test("paths that are watched stay up, at both ends, and no peer sees that a router was taken over", (t) => {
  const net = twoPaths({
    extra: "bfd: { desired-tx-interval: 50ms, required-min-rx-interval: 50ms, hold-down: 0s }\n",
    security: SEALED,
  });
  const isUp = () => [net.west, net.east].every(({ sessions }) => sessions.paths.every(({ up }) => up));
  t.true(net.world.runUntil(isUp, 4000));
  const events = (router: Router) => router.events.list(0).map(({ kind, path }) => `${kind} ${path}`);
  const before = [events(net.west), events(net.east)];
  for (let n = 0; n < 40; n++) {
    takeOver(net, n % 3 === 0 ? "east" : "west");
    net.world.run(100);
    t.true(isUp());
  }
  t.deepEqual([events(net.west), events(net.east)], before);
  for (const router of [net.west, net.east]) {
    t.deepEqual(dropsOf(router), {});
    t.is(router.retrigger.toldTotal, 0);
  }
  talk(t, net, () => takeOver(net, "west"));
});

test("what probes and ICMP errors told of paths is known, and nothing is said of it again", (t) => {
  const net = twoPaths({ extra: "bfd: { hold-down: 0s }\n" });
  const { world } = net;
  net.wan.tamper = (frame) => (frame.length > 14 + 1387 ? [] : [{ frame }]);
  t.true(world.runUntil(() => net.west.sessions.paths[0].mtu(world.clock.nowMs()) === 1387, 10_000));
  net.west.sessions.paths[1].learnMtu(1300, world.clock.nowMs());
  const known = () => {
    const { paths } = world.routers.get("west")!.sessions;
    return paths.map((path) => [path.mtu(world.clock.nowMs()), path.mtuSource, path.mtuSinceMs]);
  };
  const before = known();
  const events = net.west.events.list(0).map(({ kind }) => kind);
  takeOver(net, "west");
  t.deepEqual(known(), before);
  const { length } = net.wan.seen;
  world.run(1900);
  t.deepEqual(known(), before);
  t.deepEqual(
    net.west.events.list(0).map(({ kind }) => kind),
    events,
  );
  t.true(
    net.wan.seen.slice(length).every(({ frame }) => frame.length <= 14 + 1387),
    "no round anew",
  );
});

test("a peer behind a NAT is still where its BFD came from: what a host begins goes there at once", (t) => {
  const net = behindNat(SIGNED);
  net.world.run(1000);
  const [{ remote, remotePort }] = net.east.sessions.paths;
  t.not(remote, 0);
  takeOver(net, "east");
  const [path] = net.east.sessions.paths;
  t.deepEqual([path.remote, path.remotePort], [remote, remotePort]);
  net.world.send(
    net.server,
    udpFrame({ source: SERVER, destination: CLIENT, sourcePort: 40_000, destinationPort: 7 }, "now"),
  );
  net.world.run(20);
  t.deepEqual(
    net.client.received.map((packet) => packet.text),
    ["now"],
  );
  net.world.run(3000);
  t.is(net.east.reports.of(0)?.bfd.downs, 0);
  t.is(net.west.reports.of(0)?.bfd.downs, 0);
});

test("frames that wait for a neighbor go on waiting", (t) => {
  const net = twoRouters();
  net.server.answersArp = false;
  net.server.onPacket = udpServer(net.world, net.server);
  const ends = { source: CLIENT, destination: SERVER, sourcePort: 40000, destinationPort: 7 };
  net.world.send(net.client, udpFrame(ends, "patience"));
  net.world.run(20);
  t.is(net.server.received.length, 0);
  takeOver(net, "east");
  net.server.answersArp = true;
  net.world.run(1500);
  t.is(net.server.received.length, 1);
});

/** A router with sessions of all kinds, and its state. */
function busy(security: Protection = {}): { net: TwoRouters; pieces: Uint8Array[] } {
  const net = twoRouters({ security });
  const servers = [tcpServer(net.world, net.server), udpServer(net.world, net.server)];
  net.server.onPacket = (packet) => {
    for (const serve of servers) serve(packet);
  };
  for (let n = 0; n < 8; n++) {
    const ends = { source: CLIENT, destination: SERVER, sourcePort: 40000 + n, destinationPort: 7 };
    net.world.send(net.client, udpFrame(ends, `datagram ${n}`));
    net.world.send(net.client, tcpFrame(ends, { flags: SYN, sequence: n, acknowledgment: 0 }));
    net.world.run(3);
  }
  return { net, pieces: piecesOf(net.west) };
}

test("a state that ends too soon, at whatever byte, is refused", (t) => {
  const { net, pieces } = busy({ fabric: EVERY_PACKET, payload: `${AES_256}, session-keys: true` });
  const [around, sessions] = pieces;
  const load = (all: Uint8Array[]) => {
    const restorer = new RouterRestorer(net.world.restart("west"));
    for (const piece of all) restorer.take(piece);
    restorer.end();
  };
  load(pieces);
  t.throws(() => load([]), { instanceOf: StateError });
  t.throws(() => load([around]), { instanceOf: StateError });
  t.throws(() => load([sessions]), { instanceOf: StateError });
  t.throws(() => load([around, around]), { instanceOf: StateError });
  t.throws(() => load([around, sessions, sessions]), { instanceOf: StateError });
  for (let end = 0; end < sessions.length; end += 37)
    t.throws(() => load([around, sessions.subarray(0, end)]), { instanceOf: StateError }, `${end}`);
  for (let end = 1; end < around.length; end += Math.ceil(around.length / 200))
    t.throws(() => load([around.subarray(0, end), sessions]), { instanceOf: StateError }, `${end}`);
});

test("a state with any byte changed is refused, or makes a router that works", (t) => {
  const { net, pieces } = busy();
  const random = new SeededRandom(Number(process.env.WAYMARK_SEED ?? 11));
  let refused = 0;
  for (let n = 0; n < 400; n++) {
    const changed = pieces.map((piece) => piece.slice());
    const piece = changed[n % 2];
    piece[(random.nextI32() >>> 0) % piece.length] ^= 1 << (random.nextI32() & 7);
    const router = net.world.restart("west");
    const restorer = new RouterRestorer(router);
    try {
      for (const each of changed) restorer.take(each);
      restorer.end();
      for (const row of sessionRows(router)) router.sessions.close(row, router.clock.nowMs());
      t.is(router.sessions.flows.count, 0);
      t.true(router.sessions.paths.every(({ sessions }) => sessions === 0));
    } catch (error) {
      if (!(error instanceof StateError)) throw error;
      refused++;
    }
  }
  t.true(refused > 50);
});

test("more sessions than there is room for are refused", (t) => {
  const { pieces } = busy();
  const small = twoRouters({ limits: { sessions: 4 } });
  const restorer = new RouterRestorer(small.west);
  t.throws(() => restorer.take(pieces[0]), { instanceOf: StateError, message: /sessions.max/ });
});

test("the configuration's identity is in everything that sessions depend on, and in no key, limit or log", (t) => {
  const { config } = twoRouters({ security: { fabric: EVERY_PACKET } }).west;
  const own = configIdentity(config);
  const differs = (other: typeof config) =>
    Object.entries(configIdentity(other))
      .filter(([part, digest]) => own[part] !== digest)
      .map(([part]) => part);
  t.deepEqual(differs({ ...config, sessions: { ...config.sessions, max: 5 }, log: { level: "warn" } }), []);
  const [policy] = config.securityPolicies;
  const keys = [{ version: 9, encryption: null, hmac: new Uint8Array(32) }];
  t.deepEqual(differs({ ...config, securityPolicies: [{ ...policy, keys }] }), []);
  t.deepEqual(differs({ ...config, securityPolicies: [{ ...policy, timeBased: false }] }), ["security-policies"]);
  t.deepEqual(differs({ ...config, router: "other", workers: 2 }), ["router", "workers"]);
  const interfaces = config.interfaces.map((item) => ({ ...item, device: `${item.device}0` }));
  t.deepEqual(differs({ ...config, interfaces }), ["interfaces"]);
});
