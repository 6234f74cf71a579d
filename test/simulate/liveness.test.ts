// Paths watched by BFD, whole routers on a virtual clock: a path that goes silent is noticed, sessions go on over another
// one, and a router that begins anew gets its sessions back, all by itself.

import test from "ava";
import { SeededRandom } from "../../lib/base/random.ts";
import { uuidText } from "../../lib/control/names.ts";
import type { Router } from "../../lib/router.ts";
import { TcpClient, tcpServer, UdpClient, udpServer } from "./endpoints.ts";
import { udpFrame } from "./packets.ts";
import { AES_256, fabricText } from "./protection.ts";
import {
  CLIENT,
  countOf,
  dropsOf,
  type Protection,
  packetsOn,
  SERVER,
  sessionRows,
  type TwoPaths,
  twoPaths,
} from "./topologies.ts";

const ENDS = { source: CLIENT, destination: SERVER, sourcePort: 40000, destinationPort: 7 };
const FAST = "bfd: { desired-tx-interval: 50ms, required-min-rx-interval: 50ms, hold-down: 2s }\n";
const SIGNED: Protection = {
  fabric: fabricText("sha256-128", "time-based", "metadata", "aes-cbc-256"),
  payload: AES_256,
};
/** Detection time at 50 ms × 3, and what a step of the simulation and a packet's way take. */
const DETECTED_MS = 160;

function uuidsOf({ sessions }: Router): string[] {
  return Array.from({ length: sessions.table.capacity }, (_, row) => row)
    .filter((row) => sessions.table.isLive(row))
    .map((row) => uuidText(sessions.table.uuid.subarray(row * 4, row * 4 + 4)))
    .sort();
}

function watched(security: Protection = {}, skewMs = 0): TwoPaths {
  const net = twoPaths({ extra: FAST, security });
  net.world.skewMs.set("west", skewMs);
  const isUp = () => [net.west, net.east].every(({ sessions }) => sessions.paths.every(({ up }) => up));
  if (!net.world.runUntil(isUp, 4000)) throw new Error("paths did not come up");
  return net;
}

for (const [kind, security] of [
  ["in clear", {}],
  ["signed and encrypted", SIGNED],
] as const) {
  test(`paths ${kind} come up by themselves, and every packet of BFD is taken`, (t) => {
    const net = watched(security);
    net.world.run(2000);
    for (const router of [net.west, net.east]) {
      t.deepEqual(dropsOf(router), {});
      for (const path of router.sessions.paths) {
        t.is(path.why, "BFD is up");
        t.is(path.quality.lossPercent, 0);
        t.true(path.quality.latencyMs < 1);
      }
    }
  });

  for (const [what, deaf] of [
    ["one direction", (from: string) => from === "west"],
    ["the other direction", (from: string) => from === "east"],
    ["both directions", () => true],
  ] as const) {
    for (const protocol of ["TCP", "UDP"]) {
      test(`${protocol} ${kind} goes on within the detection time when a path goes silent in ${what}`, (t) => {
        const net = watched(security);
        const requests = Array.from({ length: 100 }, (_, n) => `request ${n}`);
        const client =
          protocol === "TCP"
            ? new TcpClient(net.world, net.client, ENDS, requests, 5)
            : new UdpClient(net.world, net.client, ENDS, requests, 5);
        const arrivals: number[] = [];
        net.client.onPacket = (packet) => {
          if (packet.payload.length > 0) arrivals.push(net.world.clock.nowMs());
          client.receive(packet);
        };
        net.server.onPacket = protocol === "TCP" ? tcpServer(net.world, net.server) : udpServer(net.world, net.server);
        t.true(net.world.runUntil(() => client.answers.length === 30, 3000));
        const [row] = sessionRows(net.west);
        const uuid = net.west.sessions.table.uuid.slice(row * 4, row * 4 + 4);
        const cutMs = net.world.clock.nowMs();
        net.wan.tamper = (frame, _, from) => (deaf(from) ? [] : [{ frame }]);
        t.true(
          net.world.runUntil(() => client.answers.length === 100, 8000),
          "the conversation completes",
        );
        t.deepEqual(
          client.answers,
          requests.map((request) => request.toUpperCase()),
        );
        t.true(net.west.sessions.table.hasUuid(sessionRows(net.west)[0], uuid));
        t.true(net.east.sessions.table.hasUuid(sessionRows(net.east)[0], uuid));
        const down = net.west.events.list(net.world.clock.nowMs()).find(({ kind }) => kind === "path-down");
        const noticedMs = net.world.clock.nowMs() - down!.agoMs - cutMs;
        t.true(noticedMs <= DETECTED_MS, `noticed after ${noticedMs} ms`);
        // The endpoints send again only every 300 ms: what counts is the first packet after that which got through.
        const gap = Math.max(...arrivals.map((at, n) => (n === 0 ? 0 : at - arrivals[n - 1])));
        t.true(gap <= 310, `${gap} ms without an answer`);
        t.true(net.west.events.list(0).some(({ kind }) => kind === "session-moved"));
      });
    }
  }
}

test("a path that is well again is used after the hold-down, and not before", (t) => {
  const net = watched();
  net.wan.tamper = () => [];
  net.world.run(300);
  t.false(net.west.sessions.paths[0].up);
  net.wan.tamper = (frame) => [{ frame }];
  net.world.run(1500);
  t.false(net.west.sessions.paths[0].up);
  t.regex(net.west.sessions.paths[0].why, /held down for 2 s/);
  net.world.run(3000);
  t.true(net.west.sessions.paths[0].up);
});

for (const lost of ["west", "east"] as const) {
  for (const protocol of ["TCP", "UDP"]) {
    test(`${lost} begins anew with nothing while ${protocol} goes on: its peer gives the session back`, (t) => {
      const net = watched(SIGNED);
      const requests = Array.from({ length: 100 }, (_, n) => `request ${n}`);
      const client =
        protocol === "TCP"
          ? new TcpClient(net.world, net.client, ENDS, requests, 5)
          : new UdpClient(net.world, net.client, ENDS, requests, 5);
      net.client.onPacket = (packet) => client.receive(packet);
      net.server.onPacket = protocol === "TCP" ? tcpServer(net.world, net.server) : udpServer(net.world, net.server);
      t.true(net.world.runUntil(() => client.answers.length === 30, 3000));
      const renewed = net.world.restart(lost);
      t.true(
        net.world.runUntil(() => client.answers.length === 100, 10_000),
        `${client.answers.length} answers`,
      );
      t.is(countOf(renewed, "sessions.recovered"), 1);
      t.is(countOf(renewed, "tcp.resets-sent"), 0);
      const peer = net.world.routers.get(lost === "west" ? "east" : "west")!;
      const kinds = peer.events.list(0).map(({ kind }) => kind);
      t.true(kinds.includes("peer-restarted"));
    });
  }
}

for (const lost of ["west", "east"] as const) {
  test(`${lost} begins anew: every one of 50 quiet sessions is given back, though a third of what tells of them is lost`, (t) => {
    const net = twoPaths({ extra: FAST });
    const isUp = () => [net.west, net.east].every(({ sessions }) => sessions.paths.every(({ up }) => up));
    t.true(net.world.runUntil(isUp, 4000));
    net.world.run(2100);
    net.server.onPacket = udpServer(net.world, net.server);
    for (let n = 0; n < 50; n++) {
      for (let again = 0; again < 2; again++) {
        net.world.send(net.client, udpFrame({ ...ENDS, sourcePort: 30_000 + n }, `session ${n}`));
        net.world.run(2);
      }
    }
    t.deepEqual(dropsOf(net.west), {});
    t.is(sessionRows(net.west).length, 50);
    const uuids = uuidsOf(net.west);
    const renewed = net.world.restart(lost);
    const peer = lost === "west" ? "east" : "west";
    let told = 0;
    net.wan.tamper = (frame, seen, from) =>
      from === peer && seen?.hasMetadata && seen.destinationPort !== 1280 && told++ % 3 === 0 ? [] : [{ frame }];
    net.world.runUntil(() => renewed.sessions.table.count === 50, 12_000);
    t.true(told > 50);
    t.deepEqual(uuidsOf(renewed), uuids);
    net.world.run(5000);
    const after = told;
    net.world.run(10_000);
    t.is(told, after, "and then it is enough");
  });
}

test("an hour in which 30 % of all packets are lost: a path is down when its router has heard nothing for the detection time, and never else", (t) => {
  // Whatever else comes to BFD's port is no sign of life.
  const bfd = "bfd: { hold-down: 0s, link-test-length: 0 }\npath-mtu-discovery: { enabled: false }\n";
  const net = twoPaths({ extra: bfd, seed: 9 });
  const { world, wan } = net;
  const detectionMs = 3000; // the defaults: 3 packets, one a second
  const stepMs = 25;
  const random = new SeededRandom(30);
  const names = ["west", "east"] as const;
  const other = { west: "east", east: "west" } as const;
  const heardMs = { west: 0, east: 0 };
  const leftMs = { west: Number.NEGATIVE_INFINITY, east: Number.NEGATIVE_INFINITY };
  const wasUp = { west: false, east: false };
  const downs = { expired: 0, signaled: 0 };
  wan.tamper = (frame, seen, from) => {
    if ((random.nextI32() >>> 0) / 2 ** 32 < 0.3) return [];
    if (seen?.destinationPort === 1280) heardMs[other[from as "west" | "east"]] = world.clock.nowMs();
    return [{ frame }];
  };
  for (let passed = 0; passed < 3_600_000; passed += stepMs) {
    const before = { ...heardMs };
    world.skip(stepMs, stepMs);
    if (passed % 60_000 === 0) for (const link of world.links.values()) link.seen.length = 0;
    const nowMs = world.clock.nowMs();
    for (const name of names) {
      const [{ up, why }] = net[name].sessions.paths;
      const silentMs = nowMs - heardMs[name];
      if (up && silentMs > detectionMs + stepMs) t.fail(`${name} is up after ${silentMs} ms of silence`);
      if (wasUp[name] && !up) {
        leftMs[name] = nowMs;
        if (why.includes("Expired")) {
          downs.expired++;
          // What comes in the same instant comes too late.
          const lateMs = nowMs - before[name];
          if (lateMs < detectionMs) t.fail(`${name} is down after ${lateMs} ms of silence`);
        } else {
          downs.signaled++;
          const peerIsUp = net[other[name]].sessions.paths[0].up;
          if (peerIsUp && nowMs - leftMs[other[name]] > detectionMs) t.fail(`${name}: ${why}, and its peer was up`);
        }
      }
      wasUp[name] = up;
    }
  }
  t.log(JSON.stringify(downs));
  // Three or four packets in a row: some tens of times an hour in each direction.
  t.true(downs.expired >= 20);
  t.true(downs.expired <= 200);
});

for (const [standing, threshold, bad, bearable] of [
  ["loss", "max-loss: 10", { loss: 3 }, { loss: 60 }],
  ["latency", "max-latency: 40ms", { delayMs: 80 }, { delayMs: 20 }],
  ["jitter", "max-jitter: 10ms", { jitterMs: 80 }, { jitterMs: 6 }],
] as const) {
  test(`a live session leaves a path whose ${standing} breaks its policy's threshold, and comes back once it keeps it again`, (t) => {
    const net = twoPaths({
      extra: `bfd: { multiplier: 20, hold-down: 0s, link-test-interval: 1s, link-test-length: 20 }
service-policies: [{ name: voice, resiliency: revertible-failover, ${threshold} }]
`,
      service: ", policy: voice",
    });
    const { world, west, east, wan } = net;
    const paths = () => [west, east].flatMap(({ sessions }) => sessions.paths);
    t.true(world.runUntil(() => paths().every(({ up }) => up), 6000));
    world.run(2100);
    net.server.onPacket = udpServer(world, net.server);
    let said = 0;
    /** The path of the session, after so many milliseconds of conversation. */
    const pathAfter = (ms: number): number => {
      for (let passed = 0; passed < ms; passed += 50) {
        world.send(net.client, udpFrame(ENDS, `${said++}`));
        world.run(50);
      }
      const [row] = sessionRows(west);
      return west.sessions.table.downstream.path[row];
    };
    /** One of `loss` packets is lost, or they are late, or one of two is. */
    const be = ({ loss = 0, delayMs = 0, jitterMs = 0 }: { loss?: number; delayMs?: number; jitterMs?: number }) => {
      let n = 0;
      wan.tamper = (frame) => {
        n++;
        if (loss > 0 && n % loss === 0) return [];
        const lateMs = delayMs + (n % 2) * jitterMs;
        return lateMs === 0 ? [{ frame }] : [{ frame, delayMs: lateMs }];
      };
    };
    t.is(pathAfter(500), 0);
    const uuid = uuidsOf(west);
    be(bearable);
    t.is(pathAfter(8000), 0, "within the threshold");
    be(bad);
    t.is(pathAfter(10_000), 1, JSON.stringify(west.sessions.paths[0].quality));
    be(bearable);
    t.is(pathAfter(20_000), 0, JSON.stringify(west.sessions.paths[0].quality));
    t.deepEqual(uuidsOf(west), uuid);
    t.deepEqual(uuidsOf(east), uuid);
    const moved = west.events.list(world.clock.nowMs()).filter(({ kind }) => kind === "session-moved");
    t.is(moved.length, 2, "once away and once back");
    t.true(
      paths().every(({ up }) => up),
      "at 20 lost in a row a path would be down, and none was",
    );
    t.true(net.client.received.length > said * 0.8);
  });
}

test("nobody hears BFD of a stranger, of another router, or twice", (t) => {
  const net = watched({ fabric: fabricText("sha256-128", "time-based", "metadata", "none") });
  net.world.run(300);
  const sent = packetsOn(net.wan, "west").filter(({ destinationPort }) => destinationPort === 1280);
  // Echoes are longer.
  const shortest = Math.min(...sent.map(({ payload }) => payload.length));
  const frame = sent
    .filter(({ payload }) => payload.length === shortest)
    .at(-1)!
    .frame.slice();
  net.world.inject(net.wan, "east", frame.slice());
  net.world.run(1);
  t.is(dropsOf(net.east)["bfd-sequence"], 1, "the same again");
  const wrong = frame.slice();
  wrong[60] ^= 1;
  net.world.inject(net.wan, "east", wrong);
  net.world.run(1);
  t.true((dropsOf(net.east)["udp-checksum"] ?? 0) + (dropsOf(net.east)["signature-wrong"] ?? 0) >= 1);
  t.true(net.east.sessions.paths[0].up);
});

for (const skewMs of [1000, 2000, 5000, 60_000, -60_000]) {
  test(`clocks ${skewMs / 1000} s apart are learned from BFD, and sessions go on as if there were no difference`, (t) => {
    const net = watched(SIGNED, skewMs);
    const requests = Array.from({ length: 20 }, (_, n) => `request ${n}`);
    const client = new UdpClient(net.world, net.client, ENDS, requests, 100);
    net.client.onPacket = (packet) => client.receive(packet);
    net.server.onPacket = udpServer(net.world, net.server);
    t.true(net.world.runUntil(() => client.answers.length === 20, 8000));
    const far = Math.abs(skewMs) > 4000;
    for (const [router, ahead] of [
      [net.west, -skewMs],
      [net.east, skewMs],
    ] as const) {
      const { learnedWindows } = router.sessions.paths[0];
      t.true(Math.abs(learnedWindows * 2000 - ahead) <= 4000, `${learnedWindows}`);
      if (far) t.true(router.events.list(0).some(({ kind }) => kind === "clock-offset"));
      t.true(router.sessions.paths.every(({ up }) => up));
    }
  });
}

test("a clock that is set under way makes no path go down", (t) => {
  const net = watched(SIGNED);
  for (const skewMs of [20_000, -30_000, 0]) {
    net.world.skewMs.set("east", skewMs);
    net.world.run(1500);
    for (const router of [net.west, net.east])
      t.true(
        router.sessions.paths.every(({ up }) => up),
        `${skewMs}`,
      );
  }
  for (const router of [net.west, net.east])
    t.deepEqual(
      router.events.list(0).filter(({ kind }) => kind === "path-down"),
      [],
    );
});

test("clocks ten minutes apart are not learned: no path comes up", (t) => {
  t.throws(() => watched(SIGNED, 600_000), { message: /did not come up/ });
});

test("BFD packets of an hour ago teach no clock, however often they are sent", (t) => {
  const net = watched({ fabric: fabricText("sha256-128", "time-based", "metadata", "none") });
  const old = packetsOn(net.wan, "west")
    .filter(({ destinationPort }) => destinationPort === 1280)
    .slice(-40);
  net.wan.tamper = () => [];
  net.wan2.tamper = () => [];
  net.world.run(30_000);
  for (const { frame } of old) {
    net.world.inject(net.wan, "east", frame.slice());
    net.world.run(50);
  }
  t.is(net.east.sessions.paths[0].learnedWindows, 0);
  t.false(net.east.sessions.paths[0].up);
  t.true(dropsOf(net.east)["clock-skew"] > 0);
});
