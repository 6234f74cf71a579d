// Signatures, encryption and what they refuse, through whole routers (protocol sheet 5). What an attacker does here is
// done to frames on the wire between them, with every checksum right: nothing but the keys can tell.

import test from "ava";
import { pino } from "pino";
import { getU16, setU16 } from "../../lib/base/bytes.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import { readCounters } from "../../lib/control/metrics.ts";
import type { PeersAnswer } from "../../lib/control/show.ts";
import { snapshot } from "../../lib/control/snapshot.ts";
import { lookAtClocks } from "../../lib/control/watch.ts";
import type { Keys } from "../../lib/crypto/key-ring.ts";
import { nodeCrypto } from "../../lib/crypto/node-crypto.ts";
import { FRAME_CHECKSUM_KNOWN } from "../../lib/io/port.ts";
import { fold, pseudoHeaderSum } from "../../lib/wire/checksum.ts";
import { ACK, FIN, PSH, SYN } from "../../lib/wire/tcp.ts";
import { unaccounted } from "../fuzz/fuzzed.ts";
import { ALL, ANSWERS, converse, ECHO, established, noDrops, REQUESTS } from "./conversation.ts";
import { TcpClient, tcpServer, UdpClient, udpServer } from "./endpoints.ts";
import { spoil } from "./faults.ts";
import { concat, metadataOf, pattern, protocolFrame, swapEnds, tcpFrame, udpFrame, withHeader } from "./packets.ts";
import { ENDS } from "./peer.ts";
import { ADAPTIVE, AES_128, AES_256, fabricText, keyText, SIGNED } from "./protection.ts";
import { takeOver } from "./successor.ts";
import {
  CLIENT,
  countOf,
  dropsOf,
  EAST_WAYPOINT,
  packetsOn,
  SERVER,
  sessionRows,
  type TwoRouters,
  threeRouters,
  twoRouters,
  WEST_WAYPOINT,
} from "./topologies.ts";

const NAMES = ["corp", "app", "west", "east", "middle"];

const includes = (frame: Uint8Array, text: string) => Buffer.from(frame).includes(text);

const HMACS = ["none", "sha1", "sha256", "sha256-128"];
let combinations = 0;

for (const path of ["two routers", "a mid waypoint"]) {
  for (const hmac of HMACS) {
    test(`digest ${hmac} with every mode, extent and cipher: TCP, UDP and ICMP come through ${path} as they were`, (t) => {
      // Without a digest there is nothing that could be done by the time, or to some packets.
      const modes = hmac === "none" ? ["regular"] : ["regular", "time-based"];
      const extents = hmac === "none" ? ["none"] : ["metadata", "every-packet", "none"];
      const before = combinations;
      for (const mode of modes) {
        for (const sign of extents) {
          for (const cipher of ["none", "aes-cbc-128", "aes-cbc-256"]) {
            for (const payload of [undefined, AES_128, AES_256, ADAPTIVE]) {
              const fabric = fabricText(hmac, mode, sign, cipher);
              const security = { fabric, ...(payload === undefined ? {} : { payload }) };
              const net = path === "two routers" ? twoRouters({ security }) : threeRouters({ security });
              const what = `${fabric} | ${payload ?? "payload in clear"}`;
              const { done, answers } = converse(net);
              combinations++;
              const right = done && noDrops(net);
              if (!right) t.log(net.world.diagram(), [...net.world.routers.values()].map(dropsOf));
              t.true(right, what);
              t.deepEqual(answers, ALL, what);
              const hidden = cipher === "none" ? [] : NAMES;
              const secrets =
                payload === undefined || payload === ADAPTIVE
                  ? []
                  : [...REQUESTS.filter((r) => r.length > 8), ...ANSWERS.filter((r) => r.length > 8), ECHO];
              for (const name of ["wan", "wan2"]) {
                for (const packet of packetsOn(net.world.links.get(name) ?? net.wan)) {
                  t.true(packet.checksumsRight, what);
                  for (const text of [...hidden, ...secrets]) t.false(includes(packet.frame, text), `${text}: ${what}`);
                }
              }
            }
          }
        }
      }
      t.is(combinations - before, hmac === "none" ? 3 * 4 : 2 * 3 * 3 * 4);
    });
  }
}

test("each hop has its own keys for metadata, and a session's ciphertext passes a mid waypoint unchanged", (t) => {
  const near = fabricText("sha256-128", "time-based", "every-packet", "aes-cbc-256", 1);
  const far = fabricText("sha1", "regular", "every-packet", "aes-cbc-128", 50);
  const net = threeRouters({
    protections: {
      west: { fabric: { middle: near }, payload: AES_256 },
      middle: { fabric: { west: near, east: far } },
      east: { fabric: { middle: far }, payload: AES_256 },
    },
  });
  const { done, answers } = converse(net);
  t.true(done && noDrops(net));
  t.deepEqual(answers, ALL);
  const bare = (link: typeof net.wan, from: string, digest: number) =>
    packetsOn(link, from)
      .filter(({ hasMetadata, payload }) => !hasMetadata && payload.length > 0)
      .map(({ payload }) => Buffer.from(payload.subarray(0, payload.length - digest)).toString("hex"));
  const forward = bare(net.wan, "west", 16);
  const reverse = bare(net.wan2, "east", 20);
  t.true(forward.length >= 5 && reverse.length >= 5);
  // A packet that has metadata on one hop may have none on the other.
  const common = (one: string[], other: string[]) => one.filter((each) => other.includes(each)).length;
  t.true(common(forward, bare(net.wan2, "middle", 20)) >= forward.length - 3);
  t.true(common(reverse, bare(net.wan, "middle", 16)) >= reverse.length - 3);
  t.is(
    new Set([...forward, ...reverse]).size,
    forward.length + reverse.length,
    "no two packets have the same ciphertext",
  );
  t.true(sessionRows(net.middle).every((row) => net.middle.sessions.table.payload[row] === 1));
});

for (const [skewMs, name] of [
  [1000, "goes on as if there were none"],
  [-1000, "goes on as if there were none"],
  [2000, "goes on as if there were none"],
  [-2000, "goes on as if there were none"],
  [5000, "is refused, and measured"],
  [-5000, "is refused, and measured"],
  [60_000, "is refused, and measured"],
  [-60_000, "is refused, and measured"],
  [600_000, "is refused"],
  [-600_000, "is refused"],
] as const) {
  test(`clocks ${skewMs / 1000} s apart: what is signed by the time ${name}`, (t) => {
    // At every part of a window.
    for (let wait = 0; wait < 2000; wait += 250) {
      const net = twoRouters({ security: { fabric: fabricText("sha256-128", "time-based", "metadata", "none") } });
      net.world.skewMs.set("west", skewMs);
      net.world.run(wait);
      const { done } = converse(net, Math.abs(skewMs) <= 2000 ? 3000 : 1000);
      const path = net.east.sessions.paths[0];
      if (name.startsWith("goes on")) {
        t.true(done && noDrops(net));
        t.true(Number.isNaN(path.clockSkewMs));
        continue;
      }
      t.false(done);
      t.deepEqual(sessionRows(net.east), []);
      t.deepEqual(packetsOn(net.far), []);
      const drops = dropsOf(net.east);
      if (name.endsWith("measured")) {
        t.true(Math.abs(path.clockSkewMs - skewMs) <= 2000, `${path.clockSkewMs} ms`);
        t.deepEqual(Object.keys(drops), ["clock-skew"]);
      } else {
        t.deepEqual(Object.keys(drops), ["signature-wrong"]);
      }
    }
  });
}

for (const skewMs of [1000, 2000, 5000, 60_000].flatMap((ms) => [ms, -ms])) {
  test(`a clock that is set ${skewMs / 1000} s apart while a session goes on: both routers say so, or nobody notices`, (t) => {
    const net = twoRouters({ security: { fabric: fabricText("sha256-128", "time-based", "every-packet", "none") } });
    const say = established(net);
    net.world.skewMs.set("west", skewMs);
    const lines: Record<string, unknown>[] = [];
    const log = pino(
      { base: null },
      { write: (line: string) => lines.push(JSON.parse(line) as Record<string, unknown>) },
    );
    const looks = [net.west, net.east].map(({ sessions }) =>
      lookAtClocks(sessions.paths, log, () => net.world.clock.nowMs()),
    );
    const isRight = Math.abs(skewMs) <= 2000;
    t.is(say("from the client")?.text, isRight ? "from the client" : undefined);
    net.world.send(net.server, udpFrame(swapEnds(ENDS), "from the server"));
    net.world.run(2);
    t.is(net.client.received.at(-1)?.text === "from the server", isRight);
    for (const look of looks) look();
    for (const [router, peer, ahead] of [
      [net.west, "east", -skewMs],
      [net.east, "west", skewMs],
    ] as const) {
      t.deepEqual(dropsOf(router), isRight ? {} : { "clock-skew": 1 });
      const { clockOffsetMs } = (snapshot(router, "peers") as PeersAnswer).peers[0].paths[0];
      const said = lines.filter((line) => line.peer === peer);
      t.is(said.length, isRight ? 0 : 1);
      t.is(clockOffsetMs, isRight ? null : (said[0].offsetMs as number));
      t.true(isRight || Math.abs(clockOffsetMs! - ahead) <= 2000, `${clockOffsetMs}`);
    }
    // Nothing was learned from what was refused: set right, the session goes on.
    net.world.skewMs.set("west", 0);
    t.is(say("again")?.text, "again");
  });
}

function keysOf(version: number): Keys {
  const key = (bytes: number) => Buffer.from(keyText(bytes, 20 * version), "hex");
  return {
    version,
    hmac: nodeCrypto.hmac("sha256-128", key(32)),
    cipher: nodeCrypto.cipher("aes-cbc-256", key(32)),
    bytes: { hmac: key(32), encryption: key(32) },
  };
}

test("keys change under traffic, at each router at its own time: nothing is lost, sessions live on, the old keys end", (t) => {
  for (const gapMs of [0, 1, 500, 25_000]) {
    for (const first of ["west", "east"]) {
      const fabric = fabricText("sha256-128", "time-based", "every-packet", "aes-cbc-256");
      const net = twoRouters({ security: { fabric, payload: AES_256 } });
      const say = established(net);
      const [row] = sessionRows(net.east);
      const opened = [...net.east.sessions.table.uuid.subarray(row * 4, row * 4 + 4)];
      let said = 0;
      // One datagram of an old session and a new session each step.
      const talk = (ms: number) => {
        for (let passed = 0; passed < ms; passed += 500) {
          const text = `datagram ${said++} of a session that lives on`;
          t.is(say(text)?.text, text);
          const ends = { ...ENDS, sourcePort: 41000 + said };
          net.world.send(net.client, udpFrame(ends, `lead ${said}`));
          net.world.run(1);
          t.is(net.server.received.at(-1)!.text, `lead ${said}`);
          net.world.skip(497, 100);
        }
      };
      const rotate = (name: string, version: number) => {
        for (const policy of ["fabric", "payload"])
          net.world.securities(name).get(policy)!.ring.rotate(keysOf(version), net.world.clock.nowMs());
      };
      for (let version = 2; version <= 4; version++) {
        rotate(first, version);
        talk(gapMs);
        rotate(first === "west" ? "east" : "west", version);
        talk(70_000 - gapMs);
      }
      const now = net.world.clock.nowMs();
      for (const name of ["west", "east"]) {
        const { ring } = net.world.securities(name).get("fabric")!;
        t.is(ring.sending(now).version, 4);
        t.is(ring.accepted(3, now), null);
      }
      t.true(noDrops(net), JSON.stringify([dropsOf(net.west), dropsOf(net.east)]));
      t.deepEqual([...net.east.sessions.table.uuid.subarray(row * 4, row * 4 + 4)], opened);
      t.is(net.east.sessions.table.payloadKeyVersion[row], 1, "the session has the keys it began with");
    }
  }
});

test("whatever the wire does, conversations complete byte by byte: signed, encrypted, and encrypted in their midst", (t) => {
  for (let seed = 1; seed <= 80; seed++) {
    const payload = seed % 3 === 0 ? AES_128 : ADAPTIVE;
    const security = {
      fabric: fabricText("sha256-128", "time-based", seed % 2 === 0 ? "every-packet" : "metadata", "aes-cbc-256"),
      payload,
    };
    const net = seed % 4 < 2 ? twoRouters({ seed, security }) : threeRouters({ seed, security });
    spoil(net.world, new SeededRandom(seed), 0.1);
    const tcp = new TcpClient(net.world, net.client, ENDS, REQUESTS, 5);
    const udp = new UdpClient(net.world, net.client, ENDS, [...REQUESTS]);
    net.client.onPacket = (packet) => {
      tcp.receive(packet);
      udp.receive(packet);
    };
    const [serveTcp, serveUdp] = [tcpServer(net.world, net.server), udpServer(net.world, net.server)];
    net.server.onPacket = (packet) => {
      serveTcp(packet);
      serveUdp(packet);
    };
    const done = net.world.runUntil(() => tcp.state === "closed" && udp.answers.length === REQUESTS.length, 60_000);
    if (!done) t.log(net.world.diagram());
    t.true(done, `seed ${seed}`);
    if (tcp.answers.join() !== ANSWERS.join()) t.log(net.world.diagram());
    t.deepEqual([tcp.answers, udp.answers], [ANSWERS, ANSWERS], `seed ${seed}`);
    for (const host of [net.client, net.server])
      t.true(
        host.received.every(({ checksumsRight }) => checksumsRight),
        `seed ${seed}`,
      );
  }
});

// Adaptive (protocol sheet 5.6)

const HELLO = Uint8Array.of(22, 3, 1, 0, 60, 1, 0, 0, 56, 3, 3, ...pattern(54));

/** A TCP connection by hand: what each end sends, and what the other end got of it. */
function connection(net: TwoRouters, mss?: number) {
  const at = { client: 1000, server: 5000 };
  const send = (from: "client" | "server", flags: number, payload: Uint8Array | string = "", sequence = at[from]) => {
    const to = from === "client" ? "server" : "client";
    const before = net[to].received.length;
    const ends = from === "client" ? ENDS : swapEnds(ENDS);
    const option = mss !== undefined && (flags & SYN) !== 0 ? { mss } : {};
    net.world.send(net[from], tcpFrame(ends, { flags, sequence, acknowledgment: at[to], ...option }, payload));
    net.world.run(2);
    const bytes = concat(payload).length;
    at[from] = Math.max(at[from], sequence + bytes + ((flags & (SYN | FIN)) !== 0 ? 1 : 0));
    return net[to].received.slice(before);
  };
  send("client", SYN);
  send("server", SYN | ACK);
  send("client", ACK);
  return { at, send };
}

const onTheWire = (net: TwoRouters, what: string | Uint8Array) =>
  packetsOn(net.wan).some(({ frame }) => Buffer.from(frame).includes(Buffer.from(concat(what))));

test("hosts that begin with a TLS handshake are left as they are", (t) => {
  const net = twoRouters({ security: { fabric: SIGNED, payload: ADAPTIVE } });
  const { send } = connection(net);
  t.deepEqual(send("client", ACK | PSH, HELLO)[0].payload, HELLO);
  const answer = concat(Uint8Array.of(22, 3, 3), pattern(300));
  t.deepEqual(send("server", ACK | PSH, answer)[0].payload, answer);
  t.deepEqual(send("client", ACK | PSH, "application data")[0].text, "application data");
  for (const what of [HELLO, answer, "application data"]) t.true(onTheWire(net, what));
  for (const router of [net.west, net.east]) t.is(router.sessions.table.payload[sessionRows(router)[0]], 0);
  // And it costs nothing: nothing of it needs the slow path any more.
  const before = countOf(net.west, "frames.forwarded");
  send("client", ACK | PSH, "more");
  t.is(countOf(net.west, "frames.forwarded"), before + 1);
  t.is(packetsOn(net.wan, "west").at(-1)!.payload.length, 4);
});

for (const first of ["client", "server"] as const) {
  test(`hosts that do not, the ${first} first: encrypted both ways from the first data that the client sends on`, (t) => {
    for (const build of [twoRouters, threeRouters]) {
      const net = build({ security: { fabric: SIGNED, payload: ADAPTIVE } });
      const { send } = connection(net);
      const second = first === "client" ? "server" : "client";
      const texts = { client: "GET /secret of the client", server: "220 banner of the server" };
      t.is(send(first, ACK | PSH, texts[first])[0].text, texts[first]);
      t.is(send(second, ACK | PSH, texts[second])[0].text, texts[second]);
      send("client", ACK);
      for (const from of ["client", "server", "server", "client"] as const) {
        t.is(send(from, ACK | PSH, `a secret of the ${from}`)[0].text, `a secret of the ${from}`);
      }
      t.false(onTheWire(net, "secret"));
      // What the server said before anybody knew is in clear: only then.
      t.is(onTheWire(net, "banner"), first === "server");
      t.true(noDrops(net));
      // The metadata that told of it has stopped, both ways.
      const { received } = net.client;
      t.true(received.every(({ checksumsRight }) => checksumsRight));
      for (const from of ["client", "server"] as const) send(from, ACK | PSH, "the last");
      t.false(
        packetsOn(net.wan)
          .slice(-2)
          .some(({ hasMetadata }) => hasMetadata),
      );
    }
  });
}

test("a bare packet from before the change does not stop the metadata that tells of it", (t) => {
  const net = twoRouters({ security: { fabric: SIGNED, payload: ADAPTIVE } });
  const { at, send } = connection(net);
  send("client", ACK);
  const stale = packetsOn(net.wan, "west").at(-1)!;
  t.false(stale.hasMetadata);
  send("client", ACK | PSH, "a request, in cipher");
  // The first answer is lost between the routers; the old acknowledgment comes once more in its place.
  net.wan.tamper = (frame, packet, from) => (packet !== undefined && from === "east" ? [] : [{ frame }]);
  t.deepEqual(send("server", ACK | PSH, "the answer"), []);
  net.world.inject(net.wan, "east", stale.frame.slice());
  net.world.run(1);
  net.wan.tamper = (frame) => [{ frame }];
  t.is(send("server", ACK | PSH, "the answer", at.server - "the answer".length)[0].text, "the answer");
});

test("a segment sent again, longer, across the place where encryption began: in clear what was, the rest when it comes again", (t) => {
  const net = twoRouters({ security: { fabric: SIGNED, payload: ADAPTIVE } });
  const { at, send } = connection(net);
  t.is(send("server", ACK | PSH, "banner")[0].text, "banner");
  t.is(send("client", ACK | PSH, "request")[0].text, "request");
  t.is(send("server", ACK | PSH, "and cipher")[0].text, "and cipher");
  // All of it in one segment: the second half must not go in clear, nor be decrypted by halves.
  const whole = send("server", ACK | PSH | FIN, "bannerand cipher", 5001);
  t.deepEqual(
    whole.map(({ text, tcpFlags }) => [text, tcpFlags & FIN]),
    [["banner", 0]],
  );
  t.false(onTheWire(net, "and cipher"));
  t.is(send("server", ACK | PSH | FIN, "and cipher", 5007)[0].text, "and cipher");
  void at;
});

const GIB = 2 ** 30;

/** As if so many bytes had gone each way of `connected`. */
function carry({ world }: TwoRouters, { at }: Pick<ReturnType<typeof connection>, "at">, bytes: number): void {
  at.client += bytes;
  at.server += bytes;
  for (const { sessions } of world.routers.values()) {
    for (const row of sessions.rows()) {
      for (const direction of [0, 1])
        sessions.flows.touch(sessions.table.flow(row, direction), bytes, world.clock.nowMs());
    }
  }
}

/** A connection in clear at first and encrypted from then on, both ways. */
function encryptedInItsMidst(net: TwoRouters) {
  const connected = connection(net);
  const { send } = connected;
  for (const [from, text] of [
    ["server", "banner"],
    ["client", "request"],
    ["server", "the first in cipher"],
    ["client", "and another"],
  ] as const)
    send(from, ACK | PSH, text);
  return connected;
}

test("what was encrypted once never goes in clear again, however often its numbers come round; metadata that is told again ends", (t) => {
  for (const build of [twoRouters, threeRouters]) {
    const net = build({ security: { fabric: SIGNED, payload: ADAPTIVE } });
    const connected = encryptedInItsMidst(net);
    for (let quarter = 1; quarter <= 36; quarter++) {
      carry(net, connected, GIB / 4);
      if (quarter % 5 === 0) takeOver(net, quarter % 2 === 0 ? "west" : "east");
      for (const { sessions } of net.world.routers.values()) {
        for (const row of sessions.rows()) {
          for (const way of [0, 1]) sessions.mustTell(row, way);
          sessions.settle(row);
        }
      }
      for (const from of ["client", "server", "client", "server", "client", "server"] as const) {
        const text = `a secret of the ${from}`;
        const got = connected.send(from, ACK | PSH, text);
        t.deepEqual(
          got.map((packet) => [packet.text, packet.checksumsRight]),
          [[text, true]],
          `after ${quarter} quarters`,
        );
      }
      const last = packetsOn(net.wan).slice(-2);
      t.deepEqual(
        last.map(({ hasMetadata }) => hasMetadata),
        [false, false],
        `after ${quarter} quarters`,
      );
    }
    t.false(onTheWire(net, "secret"));
    t.true(noDrops(net));
  }
});

test("once nothing from before can come any more, one segment that seems to be goes the slow path, and none after it", (t) => {
  const net = twoRouters({ security: { fabric: SIGNED, payload: ADAPTIVE } });
  const connected = encryptedInItsMidst(net);
  const ends = ["client", "server"] as const;
  for (const from of ends) connected.send(from, ACK | PSH, "the last in sight");
  const slow = () => [net.west, net.east].map((router) => countOf(router, "slow-path.packets"));
  const before = slow();
  const taken: number[][] = [];
  for (let quarter = 1; quarter <= 30; quarter++) {
    carry(net, connected, GIB / 4);
    for (const from of ends) connected.send(from, ACK | PSH, "a secret");
    taken.push(slow().map((count, router) => count - before[router]));
  }
  t.deepEqual(
    [taken[10], taken[11], taken[29]],
    [
      [0, 0],
      [2, 2],
      [2, 2],
    ],
  );
});

test("numbers that a host makes up change nothing: what they say is encrypted, as is all that follows, and the beginning stays in clear", (t) => {
  for (const ahead of [GIB + 5, 2 * GIB - 1, 2 * GIB, 2 * GIB + 1, 3 * GIB - 30]) {
    const net = twoRouters({ security: { fabric: SIGNED, payload: ADAPTIVE } });
    const { at, send } = encryptedInItsMidst(net);
    const before = { ...at };
    for (const [from, began] of [
      ["client", 1001],
      ["server", 5007],
    ] as const) {
      const text = `made up, a secret of the ${from}`;
      t.is(send(from, ACK | PSH, text, began + ahead)[0].text, text);
    }
    Object.assign(at, before);
    // The client has not had it all yet.
    t.is(send("server", ACK | PSH, "banner", 5001)[0].text, "banner");
    for (const from of ["client", "server"] as const)
      t.is(send(from, ACK | PSH, `a secret of the ${from}`)[0].text, `a secret of the ${from}`);
    t.false(onTheWire(net, "secret"), `${ahead} ahead`);
    t.is(packetsOn(net.wan, "east").filter(({ frame }) => includes(frame, "banner")).length, 2);
    t.true(noDrops(net));
  }
});

for (const [name, build] of [
  ["west", twoRouters],
  ["east", twoRouters],
  ["west", threeRouters],
  ["middle", threeRouters],
  ["east", threeRouters],
] as const) {
  test(`${name} of ${build === twoRouters ? "two" : "three"} routers begins anew in the midst of an encrypted connection: nothing goes in clear, nothing arrives in cipher`, (t) => {
    for (const position of [0, 0.5, 1.5, 2.5, 3.5, 4.5]) {
      const net = build({ security: { fabric: SIGNED, payload: ADAPTIVE }, sessions: "recovery: packet-based" });
      const connected = encryptedInItsMidst(net);
      // A quarter at a time, as routers see it.
      const goOn = (gib: number, before: number) => {
        for (let n = 0; n < gib * 4; n++) {
          carry(net, connected, GIB / 4);
          for (const from of ["client", "server"] as const)
            t.is(connected.send(from, ACK | PSH, "a secret")[0]?.text, "a secret", `${before} + ${n / 4} GiB`);
        }
      };
      goOn(position, 0);
      net.world.restart(name);
      const got = { client: net.client.received.length, server: net.server.received.length };
      // Each has something on its way that is lost, and sends the last of it again first.
      for (let n = 0; n < 8; n++) {
        for (const from of ["client", "server"] as const) {
          const sequence = connected.at[from];
          connected.send(from, ACK, "", sequence + 33);
          connected.send(from, ACK | PSH, "the second secret", sequence + 16);
          connected.at[from] = sequence;
          connected.send(from, ACK | PSH, "the first secret", sequence);
          connected.at[from] = sequence;
        }
        net.world.run(200);
      }
      for (const host of ["client", "server"] as const) {
        const texts = net[host].received.slice(got[host]).filter(({ payload }) => payload.length > 0);
        t.true(texts.length > 4, `${host}, ${position} GiB`);
        for (const { text, checksumsRight } of texts)
          t.true(checksumsRight && /^the (first|second) secret$/.test(text), `${host}, ${position} GiB: ${text}`);
      }
      for (const end of ["client", "server"] as const) connected.at[end] += 33;
      for (const from of ["client", "server"] as const) connected.send(from, ACK | PSH, "a secret");
      goOn(5, position);
      t.false(onTheWire(net, "secret"), `${position} GiB`);
    }
  });
}

test("a last router that is told of an encrypted connection, and has heard nothing of its client yet, begins before what its server sends", (t) => {
  const net = twoRouters({ security: { fabric: SIGNED, payload: ADAPTIVE } });
  const { at, send } = encryptedInItsMidst(net);
  net.world.restart("east");
  net.west.retrigger.begin(0);
  net.world.run(100);
  const { server } = at;
  send("server", ACK, "", server + 33);
  t.is(send("server", ACK | PSH, "the second secret", server + 16)[0].text, "the second secret");
  t.is(send("server", ACK | PSH, "the first secret", server)[0].text, "the first secret");
  t.false(onTheWire(net, "secret"));
});

test("a server that speaks for the first time after its router was told of a long connection anew is understood", (t) => {
  for (const build of [twoRouters, threeRouters]) {
    const net = build({ security: { fabric: SIGNED, payload: ADAPTIVE }, sessions: "recovery: packet-based" });
    const connected = connection(net);
    connected.send("client", ACK | PSH, "request");
    connected.send("server", ACK);
    for (let quarter = 1; quarter <= 5; quarter++) {
      carry(net, { at: { ...connected.at } }, GIB / 4);
      connected.at.client += GIB / 4;
      connected.send("client", ACK | PSH, "a secret");
      connected.send("server", ACK);
    }
    net.world.restart("east");
    for (let n = 0; n < 4; n++) {
      connected.send("client", ACK | PSH, "a secret");
      net.world.run(200);
    }
    for (let n = 0; n < 4; n++)
      t.is(connected.send("server", ACK | PSH, "a secret of the server")[0]?.text, "a secret of the server");
    t.false(onTheWire(net, "secret"));
  }
});

test("IPsec is left as it is, every other datagram is encrypted from the first one", (t) => {
  const net = twoRouters({ security: { fabric: SIGNED, payload: ADAPTIVE } });
  const secret = "the same words every time";
  for (const [port, clear] of [
    [500, true],
    [4500, true],
    [53, false],
  ] as const) {
    const before = net.wan.seen.length;
    net.world.send(net.client, udpFrame({ ...ENDS, destinationPort: port }, secret));
    net.world.run(2);
    t.is(net.server.received.at(-1)!.text, secret);
    t.is(
      net.wan.seen.slice(before).some(({ frame }) => Buffer.from(frame).includes(secret)),
      clear,
      `port ${port}`,
    );
  }
  for (const [protocol, clear] of [
    [50, true],
    [51, true],
    [47, false],
  ] as const) {
    const before = net.wan.seen.length;
    net.world.send(net.client, protocolFrame(CLIENT, SERVER, protocol, concat(secret)));
    net.world.run(2);
    t.is(net.server.received.at(-1)!.text, secret, `protocol ${protocol}`);
    t.is(
      net.wan.seen.slice(before).some(({ frame }) => Buffer.from(frame).includes(secret)),
      clear,
      `protocol ${protocol}`,
    );
  }
});

test("bytes behind the UDP length are cut off where packets are signed or encrypted, of an empty datagram too", (t) => {
  for (const sign of ["every-packet", "metadata"]) {
    for (const payload of [undefined, AES_256]) {
      const fabric = fabricText("sha256-128", "time-based", sign, "aes-cbc-256");
      const net = twoRouters({ security: { fabric, ...(payload === undefined ? {} : { payload }) } });
      const say = established(net);
      say("third");
      for (const text of ["", "four", "more than a block of the cipher"]) {
        const datagram = udpFrame(ENDS, text);
        const longer = withHeader(concat(datagram, pattern(50)), (frame) => setU16(frame, 16, frame.length - 14));
        const before = net.server.received.length;
        net.world.send(net.client, longer);
        net.world.run(2);
        const got = net.server.received[before];
        t.is(got.text.slice(0, text.length), text);
        t.true(got.checksumsRight);
        t.is(getU16(got.frame, 16), got.frame.length - 14, `${sign} ${payload} '${text}'`);
        if (sign === "metadata" && payload === undefined) continue;
        t.is(got.frame.length, datagram.length);
        // The same from the other side, where nobody signed what is behind an empty datagram.
        const bare = packetsOn(net.wan, "west").at(-1)!;
        t.is(getU16(bare.frame, 16), bare.frame.length - 14);
        if (text !== "" || sign === "metadata") continue;
        net.world.inject(
          net.wan,
          "east",
          withHeader(concat(bare.frame, pattern(50)), (frame) => setU16(frame, 16, frame.length - 14)),
        );
        net.world.run(2);
        t.deepEqual(net.server.received[before + 1].frame, got.frame);
      }
    }
  }
});

// Room

test("the segment size that hosts agree on leaves room for what encryption and digests add: no packet is cut", (t) => {
  for (const [sign, payload, room] of [
    ["metadata", AES_256, 1460 - 32],
    ["every-packet", AES_256, 1460 - 32 - 16],
    ["every-packet", undefined, 1460 - 16],
    ["metadata", undefined, 1460],
  ] as const) {
    const fabric = fabricText("sha256-128", "time-based", sign, "aes-cbc-256");
    const net = twoRouters({ security: { fabric, ...(payload === undefined ? {} : { payload }) } });
    const mss: number[] = [];
    net.server.onPacket = (packet) => {
      if ((packet.tcpFlags & SYN) === 0) return;
      mss.push(packet.frame[56] * 256 + packet.frame[57]);
      net.world.send(
        net.server,
        tcpFrame(swapEnds(packet), { flags: SYN | ACK, sequence: 5000, acknowledgment: 1001, mss: 1460 }),
      );
    };
    net.client.onPacket = (packet) => {
      if ((packet.tcpFlags & SYN) !== 0) mss.push(packet.frame[56] * 256 + packet.frame[57]);
    };
    net.world.send(net.client, tcpFrame(ENDS, { flags: SYN, sequence: 1000, acknowledgment: 0, mss: 1460 }));
    net.world.run(3);
    t.deepEqual(mss, [room, room], `${sign} ${payload}`);
    t.true(net.server.received.every(({ checksumsRight }) => checksumsRight));
    net.world.send(net.client, tcpFrame(ENDS, { flags: ACK, sequence: 1001, acknowledgment: 5001 }));
    net.world.run(2);
    const whole = pattern(room);
    const before = net.wan.seen.length;
    net.world.send(net.client, tcpFrame(ENDS, { flags: ACK, sequence: 1001, acknowledgment: 5001 }, whole));
    net.world.run(2);
    t.deepEqual(net.server.received.at(-1)!.payload, whole);
    t.is(net.wan.seen.length, before + 1);
    t.true(packetsOn(net.wan).at(-1)!.ipLength <= 1500);
  }
});

test("a datagram that is too long once encrypted and signed is cut between the routers and whole at the host", (t) => {
  const net = twoRouters({
    security: { fabric: fabricText("sha256", "time-based", "every-packet", "aes-cbc-256"), payload: AES_256 },
  });
  const say = established(net);
  for (let length = 1400; length <= 1472; length++)
    t.deepEqual(say(pattern(length, length))?.payload, pattern(length, length));
  t.true(countOf(net.west, "icmp.too-big-sent") > 30, "and whoever sends those is told what would fit");
  for (const { ipLength } of packetsOn(net.wan)) t.true(ipLength <= 1500);
  t.true(countOf(net.east, "fabric.reassembled") > 30);
  t.deepEqual([dropsOf(net.west), dropsOf(net.east)], [{}, {}]);
});

test("super-frames are signed and encrypted segment by segment, whole or with checksums left to hardware, and none is cut again", (t) => {
  for (const [sign, payload] of [
    ["every-packet", AES_256],
    ["metadata", AES_128],
    ["every-packet", undefined],
    ["metadata", ADAPTIVE],
  ] as const) {
    for (const isPartial of [true, false]) {
      const fabric = fabricText("sha256-128", "time-based", sign, "aes-cbc-256");
      const net = twoRouters({
        superFrames: true,
        security: { fabric, ...(payload === undefined ? {} : { payload }) },
      });
      const { send } = connection(net, 1460);
      const all: Uint8Array[] = [];
      let said = 0;
      for (const length of [1000, 20_001, 64_000, 3000]) {
        const bytes = pattern(length, said);
        const frame = tcpFrame(ENDS, { flags: ACK | PSH, sequence: 1001 + said, acknowledgment: 5001 }, bytes);
        if (isPartial) setU16(frame, 34 + 16, fold(pseudoHeaderSum(frame, 14, frame.length - 34)));
        net.world.send(net.client, frame);
        net.world.run(2);
        all.push(bytes);
        said += length;
      }
      const what = `${sign} ${payload} ${isPartial}`;
      const got = net.server.received.filter((packet) => packet.payload.length > 0);
      t.deepEqual(Buffer.concat(got.map((packet) => packet.payload)), Buffer.concat(all), what);
      t.true(
        [...packetsOn(net.wan), ...got].every(({ ipLength, checksumsRight }) => ipLength <= 1500 && checksumsRight),
        what,
      );
      // Of a session that is encrypted in its midst, the first segments tell of it besides.
      t.is(countOf(net.west, "fabric.fragments-sent") > 0, payload === ADAPTIVE, what);
      t.true(noDrops(net), JSON.stringify([dropsOf(net.west), dropsOf(net.east)]));
      for (const router of [net.west, net.east]) t.is(unaccounted(readCounters(router)), 0, what);
      t.is(send("server", ACK | PSH, "and back")[0].text, "and back");
    }
  }
});

test("what a host sends in one go as its first data tells, packet by packet, that it is encrypted: those before may be lost", (t) => {
  for (const [length, later] of [
    [1000, 1000],
    [4000, 1000],
    [1000, 4000],
    [4000, 5000],
  ]) {
    const net = twoRouters({ superFrames: true, security: { fabric: SIGNED, payload: ADAPTIVE } });
    connection(net, 1460);
    const first = pattern(length);
    const second = pattern(later, 7);
    const lost: number[] = [];
    net.wan.tamper = (frame, seen, from) => {
      const isFirst = from === "west" && seen !== undefined && seen.sequence < 1001 + length;
      if (isFirst) lost.push(seen.sequence);
      return isFirst ? [] : [{ frame }];
    };
    for (const [sequence, bytes] of [
      [1001, first],
      [1001 + length, second],
    ] as const)
      net.world.send(net.client, tcpFrame(ENDS, { flags: ACK | PSH, sequence, acknowledgment: 5001 }, bytes));
    net.world.run(2);
    const what = `${length} and ${later}`;
    t.true(lost.length >= length / 1460, what);
    const got = net.server.received.filter(({ payload }) => payload.length > 0);
    t.deepEqual(Buffer.concat(got.map(({ payload }) => payload)), Buffer.from(second), what);
    const told = packetsOn(net.wan, "west").filter(({ payload, sequence }) => payload.length > 0 && sequence > 1000);
    t.true(
      told.every(({ hasMetadata }) => hasMetadata),
      what,
    );
    t.true(noDrops(net), JSON.stringify([dropsOf(net.west), dropsOf(net.east)]));
  }
});

test("a server that speaks first, and says much at once, is heard whole: encryption begins with its first segment", (t) => {
  for (const build of [twoRouters, threeRouters]) {
    for (const lengths of [[10, 1000, 1400, 20], [5000, 3000], [20_000]]) {
      const net = build({ superFrames: true, security: { fabric: SIGNED, payload: ADAPTIVE } });
      const { send } = connection(net, 1460);
      const all: Uint8Array[] = [];
      let said = 0;
      for (const length of lengths) {
        const bytes = pattern(length, said);
        const numbers = { flags: ACK | PSH, sequence: 5001 + said, acknowledgment: 1001 };
        net.world.send(net.server, tcpFrame(swapEnds(ENDS), numbers, bytes));
        all.push(bytes);
        said += length;
      }
      net.world.run(3);
      const got = net.client.received.filter(({ payload }) => payload.length > 0);
      const what = `${net.world.routers.size} routers, ${lengths}`;
      t.deepEqual(Buffer.concat(got.map(({ payload }) => payload)), Buffer.concat(all), what);
      t.true(noDrops(net), JSON.stringify([...net.world.routers.values()].map(dropsOf)));
      t.is(send("client", ACK | PSH, "a secret")[0].text, "a secret");
      t.is(send("server", ACK | PSH, "another secret", 5001 + said)[0].text, "another secret");
      t.false(onTheWire(net, "secret"), what);
    }
  }
});

test("a last router that begins anew leaves TLS to its hosts, and once told of the session takes nothing more the slow way", (t) => {
  const net = twoRouters({ security: { fabric: SIGNED, payload: ADAPTIVE }, sessions: "recovery: packet-based" });
  const { send } = connection(net);
  send("client", ACK | PSH, HELLO);
  send("server", ACK | PSH, "hello");
  net.world.skip(30_000);
  const east = net.world.restart("east");
  for (let n = 0; n < 4; n++) {
    // Of what is shorter than the question nobody asks.
    send("client", ACK | PSH, pattern(200));
    send("server", ACK | PSH, pattern(200));
    net.world.run(200);
  }
  const before = countOf(east, "slow-path.packets");
  for (let n = 0; n < 4; n++) {
    t.is(send("client", ACK | PSH, `data ${n}`)[0].text, `data ${n}`);
    t.is(send("server", ACK | PSH, `answer ${n}`)[0].text, `answer ${n}`);
  }
  t.is(countOf(east, "slow-path.packets"), before);
});

test("a frame is not taken for one of a session that a frame before it, out of the same super-frame, has ended", (t) => {
  const net = twoRouters({ superFrames: true, security: { payload: AES_256 } });
  connection(net, 1460);
  const [{ sequence, sourcePort, destinationPort }] = packetsOn(net.wan, "west").slice(-1);
  const ends = { source: WEST_WAYPOINT, destination: EAST_WAYPOINT, sourcePort, destinationPort };
  const frame = (offset: number, flags: number, payload: Uint8Array) =>
    tcpFrame(ends, { flags, sequence: sequence + offset, acknowledgment: 5001 }, payload);
  const first = concat(pattern(1000), metadataOf([16, 0], [24, 6]), pattern(50));
  net.world.inject(net.wan, "east", frame(0, ACK, first), FRAME_CHECKSUM_KNOWN, 1000);
  net.world.inject(net.wan, "east", frame(2000, ACK | FIN, new Uint8Array(0)), FRAME_CHECKSUM_KNOWN);
  const before = packetsOn(net.far).length;
  net.world.run(2);
  t.is(packetsOn(net.far).length, before);
  t.deepEqual(sessionRows(net.east), []);
  t.deepEqual(dropsOf(net.east), { "payload-cipher": 1, "unknown-session": 1 });
  // Nothing of it is left behind for timers.
  net.world.skip(60_000);
  t.is(unaccounted(readCounters(net.east)), 0);
});

test("a super-frame with a wrong checksum is not signed or encrypted into a right one", (t) => {
  const fabric = fabricText("sha256-128", "time-based", "every-packet", "aes-cbc-256");
  const net = twoRouters({ superFrames: true, security: { fabric, payload: AES_256 } });
  connection(net, 1460);
  const frame = tcpFrame(ENDS, { flags: ACK | PSH, sequence: 1001, acknowledgment: 5001 }, pattern(5000));
  frame[frame.length - 1] ^= 1;
  net.world.send(net.client, frame);
  net.world.run(2);
  t.true(net.server.received.every((packet) => packet.payload.length === 0));
  t.deepEqual(dropsOf(net.west), { "payload-checksum": 4 });
});
