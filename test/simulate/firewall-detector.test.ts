// A firewall between two routers that takes no TCP of theirs is found, and sessions work all the same; what is no
// firewall is not taken for one. Forged, repeated and damaged tests change nothing and bring no answers.

import test, { type ExecutionContext } from "ava";
import { setU16 } from "../../lib/base/bytes.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import { readCounters } from "../../lib/control/metrics.ts";
import type { PathsAnswer } from "../../lib/control/show.ts";
import { answer } from "../../lib/control/snapshot.ts";
import type { Router } from "../../lib/router.ts";
import { l4Checksum } from "../../lib/wire/checksum.ts";
import { ACK, RST, SYN } from "../../lib/wire/tcp.ts";
import { TcpClient, tcpServer } from "./endpoints.ts";
import { behindNat } from "./nat.ts";
import { concat, type SeenPacket, swapEnds, tcpFrame } from "./packets.ts";
import { ENDS } from "./peer.ts";
import { AES_256, fabricText } from "./protection.ts";
import { takeOver } from "./successor.ts";
import {
  CLIENT,
  countOf,
  dropsOf,
  type Options,
  type Protection,
  packetsOn,
  routerYaml,
  SERVER,
  sessionRows,
  type TwoRouters,
  twoPaths,
  twoRouters,
} from "./topologies.ts";
import { type Tamper, World } from "./world.ts";

const AUTO = ", udp-transform: auto-detect";
const BFD = "bfd: { hold-down: 0s }\n";
const ETHERNET = 14;
/** What is counted is told once a second. */
const COUNTED_MS = 1100;
const PROTECTIONS: [string, Protection][] = [
  ["in clear", {}],
  ["with signed metadata", { fabric: fabricText("sha256", "time-based", "metadata", "none") }],
  [
    "signed and encrypted",
    { fabric: fabricText("sha256-128", "time-based", "every-packet", "aes-cbc-256"), payload: AES_256 },
  ],
];

type Shown = PathsAnswer["paths"][number]["udpTransform"];
const shown = (router: Router, path = 0): Shown => (answer(router, "paths") as PathsAnswer).paths[path].udpTransform;
const results = (router: Router) => shown(router).detector!.tests.map(({ result }) => result);
const events = ({ events: kept }: Router) => kept.list(0).filter(({ kind }) => kind === "udp-transform");
const counted = (router: Router, name: string) => readCounters(router)[`firewall-detector.${name}`];

/** TCP of tests and of sessions alike, and what a firewall sees of it. */
const isTcp = (seen: SeenPacket | undefined): seen is SeenPacket => seen?.protocol === 6;
const isSyn = (seen: SeenPacket) => (seen.tcpFlags & SYN) !== 0;
const refuses =
  (what: (seen: SeenPacket, from: string) => boolean): Tamper =>
  (frame, seen, from) =>
    isTcp(seen) && what(seen, from) ? [] : [{ frame }];

/** Lets a SYN begin a connection, and its answers through; other segments only where there is one. */
function stateful(): Tamper {
  const known = new Set<string>();
  return refuses((seen) => {
    const ends = [`${seen.source}:${seen.sourcePort}`, `${seen.destination}:${seen.destinationPort}`].sort().join();
    if ((seen.tcpFlags & (SYN | ACK)) === SYN) known.add(ends);
    return !known.has(ends);
  });
}

/** Two routers whose paths are up and have been tested. */
function tested(tamper: Tamper | null, options: Options = {}, build = twoRouters): TwoRouters {
  const net = build({ extra: BFD, path: AUTO, ...options });
  if (tamper !== null) net.wan.tamper = tamper;
  const isTested = () => [net.west, net.east].every((router) => (shown(router).detector?.judgedMs ?? null) !== null);
  if (!net.world.runUntil(isTested, 20_000)) throw new Error("the paths were not tested");
  return net;
}

/** A TCP conversation between the hosts, byte for byte. */
function converses(
  t: ExecutionContext,
  net: TwoRouters,
  as: "tcp" | "udp",
  sourcePort = 40000,
  limitMs = 20_000,
): void {
  const before = packetsOn(net.wan).length;
  const requests = Array.from({ length: 10 }, (_, n) => `request ${n}`);
  const client = new TcpClient(net.world, net.client, { ...ENDS, sourcePort }, requests, 3);
  net.client.onPacket = (packet) => client.receive(packet);
  net.server.onPacket = tcpServer(net.world, net.server);
  const isDone = () => client.state === "closed" || client.state === "refused";
  if (!net.world.runUntil(isDone, limitMs)) t.log(net.world.diagram().split("\n").slice(-40).join("\n"));
  t.deepEqual(
    client.answers,
    requests.map((request) => request.toUpperCase()),
  );
  t.is(client.state, "closed");
  const carried = packetsOn(net.wan)
    .slice(before)
    .filter(({ sourcePort: from, destinationPort: to }) => from >= 16384 && to >= 16384);
  t.true(carried.length >= 20);
  t.deepEqual([...new Set(carried.map(({ protocol }) => protocol))], [as === "tcp" ? 6 : 17]);
}

const BLOCKED: [string, () => Tamper, ("passed" | "to-peer" | "from-peer")[]][] = [
  [
    "takes no SYN with payload, either way",
    () => refuses((seen) => isSyn(seen) && seen.payload.length > 0),
    ["to-peer", "passed", "to-peer"],
  ],
  ["takes only connections that it has seen begin", stateful, ["passed", "to-peer", "passed"]],
  [
    "takes no long SYN",
    () => refuses((seen) => isSyn(seen) && seen.payload.length > 512),
    ["passed", "passed", "to-peer"],
  ],
  ["takes no TCP at all", () => refuses(() => true), ["to-peer", "to-peer", "to-peer"]],
];

for (const [what, tamper, expected] of BLOCKED) {
  for (const [how, security] of PROTECTIONS) {
    test(`a firewall that ${what} is found from both ends, packets ${how}, and sessions work`, (t) => {
      const net = tested(tamper(), { security });
      for (const router of [net.west, net.east]) {
        t.like(shown(router), { mode: "auto-detect", carrier: "udp" });
        t.deepEqual(results(router), expected);
        t.is(events(router).length, 1);
        t.regex(events(router)[0].why, /^TCP goes as UDP, lost on the way: /);
        t.is(counted(router, "failed-rounds"), 1);
        t.deepEqual(dropsOf(router), {});
      }
      converses(t, net, "udp");
    });
  }
}

test("what is lost in one direction only is said so: the tests on their way to the peer, or the answers from there", (t) => {
  for (const [what, direction, byWest, byEast] of [
    ["a SYN of west's", "west", ["to-peer", "passed", "to-peer"], ["from-peer", "passed", "from-peer"]],
    ["a SYN of east's", "east", ["from-peer", "passed", "from-peer"], ["to-peer", "passed", "to-peer"]],
  ] as const) {
    const net = tested(refuses((seen, from) => from === direction && isSyn(seen) && seen.payload.length > 0));
    t.deepEqual(results(net.west), [...byWest], what);
    t.deepEqual(results(net.east), [...byEast], what);
    converses(t, net, "udp");
  }
});

test("a firewall against SYNs from outside stands in one router's way alone, and only its sessions go as UDP", (t) => {
  // East is outside: what west begins passes.
  const net = tested(refuses((seen, from) => from === "east" && (seen.tcpFlags & (SYN | ACK)) === SYN));
  t.deepEqual(results(net.west), ["passed", "passed", "passed"]);
  t.deepEqual(results(net.east), ["to-peer", "passed", "to-peer"]);
  t.is(shown(net.west).carrier, "tcp");
  t.is(shown(net.east).carrier, "udp");
  converses(t, net, "tcp");
});

for (const [how, security] of PROTECTIONS) {
  test(`a path that takes everything, packets ${how}, stays TCP's, and costs what the reference says`, (t) => {
    const net = tested(null, { security });
    for (const router of [net.west, net.east]) {
      t.like(shown(router), { mode: "auto-detect", carrier: "tcp" });
      t.deepEqual(results(router), ["passed", "passed", "passed"]);
      t.deepEqual(events(router), []);
      t.is(counted(router, "tests-sent"), 12);
      t.is(counted(router, "answers-received"), 13);
      t.is(counted(router, "tests-answered"), 13);
      t.is(counted(router, "refused"), 0);
      t.deepEqual(dropsOf(router), {});
    }
    const isTest = ({ sourcePort, destinationPort, protocol }: SeenPacket) =>
      protocol === 6 && (sourcePort < 16384 || destinationPort < 16384);
    const tests = packetsOn(net.wan, "west").filter(isTest);
    t.is(tests.length, 24);
    t.true(tests.every(({ checksumsRight }) => checksumsRight));
    const asked = tests.filter(({ destinationPort }) => destinationPort === 1280 || destinationPort === 1283);
    // A test and a control of 320 bytes each, eight, and four of 1500.
    t.is(
      asked.reduce((sum, { ipLength }) => sum + ipLength, 0),
      8 * 320 + 4 * 1500,
    );
    t.deepEqual(
      [...new Set(asked.map(({ tcpFlags, destinationPort }) => `${tcpFlags} ${destinationPort}`))],
      [`${SYN} 1280`, `${ACK | 8} 1283`],
    );
    converses(t, net, "tcp");
  });
}

test("no answer is longer than its question, be the peer's name the longest and everything encrypted and signed", (t) => {
  const long = "e".repeat(63);
  const world = new World(1);
  const text = {
    extra: BFD,
    path: AUTO,
    security: { fabric: fabricText("sha256", "time-based", "every-packet", "aes-cbc-256") },
  };
  const lan = { address: "10.1.0.1", tenant: "corp" };
  const of = (name: string, own: string, peer: string, address: string) =>
    routerYaml({ ...text, name, lan, wans: { wan0: [own, peer, address] }, route: `peer: ${peer}` });
  const west = world.addRouter("west", of("w", "198.18.0.1", long, "198.18.0.2"));
  world.addRouter("east", of(long, "198.18.0.2", "w", "198.18.0.1"));
  const wan = world.join("wan", "west.wan0", "east.wan0");
  t.true(world.runUntil(() => (shown(west).detector?.judgedMs ?? null) !== null, 20_000));
  t.deepEqual(results(west), ["passed", "passed", "passed"]);
  const asked = new Map<string, number>();
  let answers = 0;
  for (const { sourcePort, destinationPort, protocol, ipLength } of packetsOn(wan)) {
    if (protocol !== 6) continue;
    if (destinationPort < 8192) asked.set(`${sourcePort} ${destinationPort}`, ipLength);
    else {
      t.true(ipLength <= asked.get(`${destinationPort} ${sourcePort}`)!);
      answers++;
    }
  }
  t.is(answers, 24);
});

test("30 % of all packets lost are no firewall in an hour, and a firewall behind that is found", (t) => {
  const lossy = "bfd: { hold-down: 0s, multiplier: 20, link-test-length: 0 }\npath-mtu-discovery: { enabled: false }\n";
  for (const seed of [1, 2, 3]) {
    const random = new SeededRandom(seed);
    const loses: Tamper = (frame) => (random.fraction() < 0.3 ? [] : [{ frame }]);
    const net = tested(loses, { extra: lossy });
    net.world.skip(3_600_000, 10);
    for (const router of [net.west, net.east]) {
      t.is(counted(router, "failed-rounds"), 0);
      t.is(shown(router).carrier, "tcp");
      t.true(counted(router, "tests-sent") >= 12 * 12);
    }
    const firewall = refuses((seen) => isSyn(seen) && seen.payload.length > 0);
    net.wan.tamper = (frame, seen, from) => (loses(frame, seen, from).length === 0 ? [] : firewall(frame, seen, from));
    net.world.skip(700_000, 10);
    t.is(shown(net.west).carrier, "udp");
  }
});

test("a path too narrow for a long SYN, that says nothing, is no firewall: the test is as long as the path takes", (t) => {
  const net = tested((frame) => (frame.length > ETHERNET + 1391 ? [] : [{ frame }]));
  for (const router of [net.west, net.east]) {
    t.deepEqual(results(router), ["passed", "passed", "passed"]);
    t.deepEqual(events(router), []);
    t.is(counted(router, "tests-sent"), 12);
  }
});

test("a peer of an older version, which drops what it does not know, is never tested, and TCP stays TCP", (t) => {
  const net = twoRouters({ extra: BFD, path: AUTO });
  net.wan.tamper = (frame, seen) =>
    seen?.destinationPort === 1280 && seen.protocol === 17 && frame.length === ETHERNET + 320 ? [] : [{ frame }];
  net.world.run(60_000);
  net.world.skip(3_600_000, 100);
  for (const router of [net.west, net.east]) {
    t.like(shown(router), { carrier: "tcp" });
    t.like(shown(router).detector!, { peerAnswers: false, judgedMs: null });
    t.is(counted(router, "tests-sent"), 0);
    t.deepEqual(events(router), []);
  }
  t.deepEqual(
    packetsOn(net.wan).filter(({ protocol }) => protocol === 6),
    [],
  );
});

test("tests are answered by a peer that makes none, and one without BFD keeps silent", (t) => {
  const text = (path: string, bfd: string): Options => ({ path, extra: bfd });
  const net = twoRouters(text("", BFD));
  net.world.run(3000);
  t.is(shown(net.west).detector, null);
  t.deepEqual(
    packetsOn(net.wan).filter(({ protocol }) => protocol === 6),
    [],
  );
  const asked = tested(null);
  const [syn] = packetsOn(asked.wan, "west").filter(
    ({ destinationPort, protocol }) => protocol === 6 && destinationPort === 1280,
  );
  // Nobody here watches paths.
  const deaf = twoRouters();
  deaf.world.inject(deaf.wan, "east", syn.frame.slice());
  deaf.world.run(10);
  t.is(packetsOn(deaf.wan, "east").filter(({ protocol }) => protocol === 6).length, 0);
  t.is(countOf(deaf.east, "tcp.resets-sent"), 0);
});

/** A segment of either host; what the other one got of it. */
function segment(net: TwoRouters, isBack: boolean, flags: number, sequence: number, ack: number, text = ""): string[] {
  const to = isBack ? net.client : net.server;
  const before = to.received.length;
  const frame = tcpFrame(isBack ? swapEnds(ENDS) : ENDS, { flags, sequence, acknowledgment: ack }, text);
  net.world.send(isBack ? net.server : net.client, frame);
  net.world.run(5);
  return to.received.slice(before).map((packet) => packet.text);
}

for (const [how, security] of PROTECTIONS) {
  test(`TCP sessions that stand when the firewall comes move to UDP with their next packet, packets ${how}`, (t) => {
    const net = tested(null, { security, path: `${AUTO}, udp-transform-interval: 10s` });
    segment(net, false, SYN, 1000, 0);
    segment(net, true, SYN | ACK, 5000, 1001);
    segment(net, false, ACK, 1001, 5001);
    t.deepEqual(segment(net, false, ACK, 1001, 5001, "as TCP"), ["as TCP"]);
    t.deepEqual(segment(net, true, ACK, 5001, 1007, "too"), ["too"]);
    net.wan.tamper = refuses(() => true);
    t.deepEqual(segment(net, false, ACK, 1007, 5004, "lost"), []);
    t.true(net.world.runUntil(() => shown(net.west).carrier === "udp", 15_000));
    // Of the side that began it: the other one follows.
    t.deepEqual(segment(net, false, ACK, 1007, 5004, "lost"), ["lost"]);
    t.deepEqual(segment(net, true, ACK, 5004, 1011, "and back"), ["and back"]);
    for (let n = 0; n < 20; n++) {
      t.deepEqual(segment(net, false, ACK, 1011 + n, 5012 + n, "a"), ["a"]);
      t.deepEqual(segment(net, true, ACK, 5012 + n, 1012 + n, "b"), ["b"]);
    }
    const moved = net.west.events.list(0).filter(({ kind }) => kind === "session-moved");
    t.deepEqual(
      moved.map(({ why }) => why),
      ["firewall"],
    );
    for (const router of [net.west, net.east]) {
      t.is(sessionRows(router).length, 1);
      const drops = dropsOf(router);
      t.deepEqual(drops, {});
    }
    segment(net, false, RST, 1031, 0);
    // Its pairs of ports are given back when it is over.
    net.world.skip(60_000);
    for (const router of [net.west, net.east]) {
      const [path] = router.sessions.paths;
      t.deepEqual([path.tcpPorts.inUse, path.udpPorts.inUse, path.sessions], [0, 0, 0]);
    }
  });
}

test("a download that stands moves to UDP too, though its client has nothing to say: by the server's router", (t) => {
  const net = tested(null, { path: `${AUTO}, udp-transform-interval: 10s` });
  segment(net, false, SYN, 1000, 0);
  segment(net, true, SYN | ACK, 5000, 1001);
  segment(net, false, ACK, 1001, 5001);
  net.wan.tamper = refuses(() => true);
  t.deepEqual(segment(net, true, ACK, 5001, 1001, "data"), []);
  t.true(net.world.runUntil(() => [net.west, net.east].every((router) => shown(router).carrier === "udp"), 15_000));
  for (let n = 0; n < 20; n++) {
    t.deepEqual(segment(net, true, ACK, 5001 + 4 * n, 1001, "data"), ["data"]);
    t.deepEqual(segment(net, false, ACK, 1001, 5005 + 4 * n), [""]);
  }
  for (const router of [net.west, net.east]) t.deepEqual([dropsOf(router), sessionRows(router).length], [{}, 1]);
});

test("a session whose SYN the firewall has swallowed gets through as soon as that is known", (t) => {
  const net = twoRouters({ extra: BFD, path: AUTO });
  net.wan.tamper = refuses((seen) => isSyn(seen) && seen.payload.length > 0);
  t.true(net.world.runUntil(() => net.west.sessions.paths[0].up, 6000));
  t.is(shown(net.west).carrier, "tcp");
  const syn = () => tcpFrame(ENDS, { flags: SYN, sequence: 1000, acknowledgment: 0, mss: 1460 });
  net.world.send(net.client, syn());
  net.world.run(1000);
  t.is(net.server.received.length, 0);
  t.true(net.world.runUntil(() => shown(net.west).carrier === "udp", 6000));
  net.world.send(net.client, syn());
  net.world.run(10);
  t.is(net.server.received.length, 1);
});

test("when the firewall is gone new sessions are TCP again, and those in UDP stay there", (t) => {
  const net = tested(BLOCKED[0][1](), { path: `${AUTO}, udp-transform-interval: 60s` });
  converses(t, net, "udp");
  net.wan.tamper = (frame) => [{ frame }];
  net.world.run(90_000);
  for (const router of [net.west, net.east]) {
    t.is(shown(router).carrier, "tcp");
    t.is(events(router)[0].why, "TCP goes as TCP: every test comes through");
  }
  converses(t, net, "tcp", 40_001);
});

test("each of two paths has its own verdict, and a session that changes paths travels as its path says", (t) => {
  const net = twoPaths({ extra: BFD, path: AUTO });
  net.wan.tamper = refuses((seen) => isSyn(seen) && seen.payload.length > 0);
  net.world.run(8000);
  const carriers = [0, 1].map((path) => shown(net.west, path).carrier);
  t.deepEqual(carriers, ["udp", "tcp"]);
  t.deepEqual(
    [0, 1].map((path) => shown(net.east, path).carrier),
    ["udp", "tcp"],
  );
});

/** The first test of each kind that west sent, as it was on the wire: SYN, mid-flow, long SYN. */
function testsOf(net: TwoRouters): SeenPacket[] {
  const tests = packetsOn(net.wan, "west").filter(({ protocol, sourcePort }) => protocol === 6 && sourcePort < 16384);
  const asked = tests.filter(({ destinationPort }) => destinationPort === 1280 || destinationPort === 1283);
  return [asked[0], asked[4], asked[8]];
}

const answersOf = (net: TwoRouters) =>
  packetsOn(net.wan, "east").filter(({ protocol, sourcePort }) => protocol === 6 && sourcePort < 8192).length;

for (const [how, security] of PROTECTIONS) {
  test(`tests that are sent again, packets ${how}, get no second answer and change nothing`, (t) => {
    const net = tested(null, { security });
    const before = answersOf(net);
    const kept = testsOf(net);
    const controls = packetsOn(net.wan, "west").filter(
      ({ protocol, ipLength, destinationPort }) => protocol === 17 && destinationPort === 1280 && ipLength === 320,
    );
    t.true(controls.length >= 1);
    for (let n = 0; n < 100; n++)
      for (const { frame } of [...kept, ...controls]) {
        net.world.inject(net.wan, "east", frame.slice());
        net.world.settle();
      }
    const [reply] = packetsOn(net.wan, "east").filter(
      ({ protocol, sourcePort }) => protocol === 6 && sourcePort === 1280,
    );
    net.world.inject(net.wan, "west", reply.frame.slice());
    net.world.run(COUNTED_MS);
    t.is(answersOf(net), before);
    t.is(counted(net.east, "refused"), 100 * (kept.length + controls.length));
    t.is(counted(net.west, "refused"), 1);
    t.is(dropsOf(net.east)["firewall-test"], counted(net.east, "refused"));
    t.deepEqual(results(net.west), ["passed", "passed", "passed"]);
    // And later, when others have come.
    net.world.skip(700_000, 100);
    const later = answersOf(net);
    for (const { frame } of [...kept, ...controls]) net.world.inject(net.wan, "east", frame.slice());
    net.world.run(10);
    t.is(answersOf(net), later);
  });
}

/** The same packet with bytes changed, and with a right checksum. */
function changed(frame: Uint8Array, change: (bytes: Uint8Array) => void): Uint8Array {
  const copy = frame.slice();
  change(copy);
  setU16(copy, 50, 0);
  setU16(copy, 50, l4Checksum(copy, 14, 34, copy.length));
  return copy;
}

test("forged, cut and overlong tests are refused by name, and get no answer", (t) => {
  const security = PROTECTIONS[1][1];
  const net = twoRouters({ extra: BFD, path: AUTO, security });
  // They are new: none of west's comes to east.
  net.wan.tamper = (frame, seen, from) => (from === "west" && isTcp(seen) ? [] : [{ frame }]);
  const isSent = () => packetsOn(net.wan, "west").some(({ protocol }) => protocol === 6);
  t.true(net.world.runUntil(isSent, 10_000));
  // And no later burst either.
  net.wan.tamper = (frame, _, from) => (from === "west" ? [] : [{ frame }]);
  const kept = testsOf(net);
  t.is(kept.length, 3);
  const wrong: [string, Uint8Array][] = [];
  for (const { frame } of kept) {
    for (let at = 54; at < Math.min(frame.length, 400); at += 3)
      wrong.push([`byte ${at}`, changed(frame, (bytes) => (bytes[at] ^= 0x40))]);
    for (const flags of [0, RST, RST | ACK, SYN | ACK | 1, SYN | ACK])
      wrong.push([`flags ${flags}`, changed(frame, (bytes) => (bytes[47] = flags))]);
    wrong.push(["to a session's port", changed(frame, (bytes) => setU16(bytes, 36, 1281))]);
    for (let length = 54; length < frame.length; length += 7) {
      const cut = frame.slice(0, length);
      setU16(cut, 16, length - 14);
      wrong.push([`cut to ${length}`, cut]);
    }
    if (frame.length > 1000) continue;
    const long = concat(frame, new Uint8Array(64));
    setU16(long, 16, long.length - 14);
    wrong.push(["longer", long]);
  }
  for (const [, frame] of wrong) {
    setU16(frame, 24, 0);
    let sum = 0;
    for (let at = 14; at < 34; at += 2) sum += (frame[at] << 8) | frame[at + 1];
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
    setU16(frame, 24, ~sum & 0xffff);
    setU16(frame, 50, 0);
    if (frame.length >= 54) setU16(frame, 50, l4Checksum(frame, 14, 34, frame.length));
  }
  const before = answersOf(net);
  for (const [what, frame] of wrong) {
    net.world.inject(net.wan, "east", frame);
    net.world.settle();
    if (answersOf(net) !== before) return t.fail(what);
  }
  t.true(wrong.length > 500);
  // What is not to these ports is a session's that nobody knows; all others are told by name.
  const elsewhere = wrong.filter(([what]) => what === "to a session's port").length;
  const { "unknown-session": unknown = 0, ...drops } = dropsOf(net.east);
  t.is(Object.values(drops).reduce((sum, count) => sum + count, 0) + unknown, wrong.length, JSON.stringify(drops));
  t.true(unknown <= elsewhere);
  net.world.run(COUNTED_MS);
  t.is(counted(net.east, "refused"), wrong.length - unknown);
  // The true ones still are answered.
  for (const { frame } of kept) net.world.inject(net.wan, "east", frame.slice());
  net.world.run(1);
  t.is(answersOf(net), before + 3);
});

test("a firewall that answers itself, with a reset or in the peer's name, proves nothing", (t) => {
  const net = twoRouters({ extra: BFD, path: AUTO });
  const { world, wan } = net;
  wan.tamper = (frame, seen) => {
    if (!isTcp(seen)) return [{ frame }];
    const ends = swapEnds(seen);
    const from = seen.source === "198.18.0.1" ? "west" : "east";
    const flags = seen.payload.length % 2 === 0 ? RST | ACK : SYN | ACK;
    world.after(1, () =>
      world.inject(wan, from, tcpFrame(ends, { flags, sequence: 1, acknowledgment: seen.sequence + 1 }, "welcome")),
    );
    return [];
  };
  t.true(world.runUntil(() => shown(net.west).carrier === "udp" && shown(net.east).carrier === "udp", 20_000));
  t.deepEqual(results(net.west), ["to-peer", "to-peer", "to-peer"]);
  t.true(counted(net.west, "refused") >= 24);
  converses(t, net, "udp");
});

test("whoever sends from elsewhere than the peer is refused, and a flood of tests is bounded", (t) => {
  const net = tested(null);
  const [syn] = testsOf(net);
  const stranger = changed(syn.frame, (bytes) => (bytes[29] = 77));
  setU16(stranger, 24, 0);
  let sum = 0;
  for (let at = 14; at < 34; at += 2) sum += (stranger[at] << 8) | stranger[at + 1];
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  setU16(stranger, 24, ~sum & 0xffff);
  const before = answersOf(net);
  net.world.inject(net.wan, "east", stranger);
  net.world.run(1);
  t.is(answersOf(net), before);
  t.is((dropsOf(net.east)["not-a-peer"] ?? 0) + (dropsOf(net.east)["firewall-test"] ?? 0), 1);
});

for (const [how, security] of PROTECTIONS) {
  test(`a router that takes over knows what was found, and what came before, packets ${how}`, (t) => {
    const net = tested(BLOCKED[0][1](), { security });
    const before = shown(net.west);
    const kept = testsOf(net);
    takeOver(net, "west");
    takeOver(net, "east");
    t.like(shown(net.west), { carrier: "udp", mode: "auto-detect" });
    t.deepEqual(shown(net.west).detector!.tests, before.detector!.tests);
    const answers = answersOf(net);
    for (const { frame } of kept) net.world.inject(net.wan, "east", frame.slice());
    converses(t, net, "udp");
    t.is(answersOf(net), answers);
    net.wan.tamper = (frame) => [{ frame }];
    net.world.skip(320_000, 10);
    t.is(shown(net.west).carrier, "tcp", "and goes on testing");
  });
}

test("workers let tests and answers lie, for the thread that watches paths has them", (t) => {
  const seen = packetsOn(tested(null).wan, "west").filter(({ protocol }) => protocol === 6);
  t.is(seen.length, 24);
  const net = twoRouters({ extra: BFD, path: AUTO });
  const split = net.world.split("east", 2);
  for (const { frame } of seen) net.world.inject(net.wan, "east", frame.slice());
  net.world.run(5);
  t.true(split.steered.every((frames) => frames > 0));
  for (const worker of split.workers) t.deepEqual(dropsOf(worker), {});
  t.is(packetsOn(net.wan, "east").filter(({ protocol }) => protocol === 6).length, 0);
});

test("over IPv6 paths a firewall is found, and a clean path stays TCP's", (t) => {
  for (const isBlocked of [true, false]) {
    const world = new World(1);
    const text = (name: string, lan: string, own: number, peer: string, route: string) => `authority: acme
router: ${name}
interfaces:
  - { name: lan0, device: lan0, addresses: [${lan}/24], tenant: corp }
  - { name: wan0, device: wan0, addresses: ["2001:db8:ff::${own}/64"] }
tenants: [{ name: corp }]
services: [{ name: app, addresses: [10.2.0.0/24], access: [corp] }]
service-routes: [{ service: app, ${route} }]
peers: [{ name: ${peer}, paths: [{ interface: wan0, address: "2001:db8:ff::${3 - own}"${AUTO} }] }]
${BFD}`;
    const west = world.addRouter("west", text("west", "10.1.0.1", 1, "east", "peer: east"));
    const east = world.addRouter("east", text("east", "10.2.0.1", 2, "west", "interface: lan0"));
    const client = world.addHost("client", CLIENT, "10.1.0.1");
    const server = world.addHost("server", SERVER, "10.2.0.1");
    const lan = world.join("lan", "client", "west.lan0");
    const wan = world.join("wan", "west.wan0", "east.wan0");
    const far = world.join("far", "east.lan0", "server");
    const net: TwoRouters = { world, west, east, client, server, lan, wan, far };
    if (isBlocked) wan.tamper = refuses((seen) => isSyn(seen) && seen.payload.length > 0);
    t.true(
      world.runUntil(() => [west, east].every((router) => (shown(router).detector?.judgedMs ?? null) !== null), 20_000),
    );
    for (const router of [west, east]) {
      t.is(shown(router).carrier, isBlocked ? "udp" : "tcp");
      t.deepEqual(results(router), isBlocked ? ["to-peer", "passed", "to-peer"] : ["passed", "passed", "passed"]);
      t.deepEqual(dropsOf(router), {});
    }
    t.true(wan.seen.every(({ frame }) => frame.length <= 1514));
    converses(t, net, isBlocked ? "udp" : "tcp");
  }
});

for (const isBlocked of [false, true]) {
  test(`behind a NAT the router inside tests its way out${isBlocked ? ", and finds the firewall there" : ""}; the one outside tests none`, (t) => {
    const net = behindNat(PROTECTIONS[1][1], "20s", "", AUTO);
    const { world, west, east, wan } = net;
    if (isBlocked) wan.tamper = refuses((seen) => isSyn(seen) && seen.payload.length > 0);
    world.skip(320_000, 10);
    t.like(shown(west), { mode: "auto-detect", carrier: isBlocked ? "udp" : "tcp" });
    t.deepEqual(results(west), isBlocked ? ["to-peer", "passed", "to-peer"] : ["passed", "passed", "passed"]);
    t.is(shown(east).detector, null);
    t.true(counted(east, "tests-answered") >= 13);
    t.is(counted(east, "tests-sent"), 0);
  });
}
