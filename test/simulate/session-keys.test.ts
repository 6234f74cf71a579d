// Payload keys of sessions' own (attribute 46, protocol sheet 5.7): drawn by the first router, carried hop by hop in
// encrypted metadata, used by the last. The tests know the keys of the metadata and read along.

import test, { type ExecutionContext } from "ava";
import { getU16, setU16 } from "../../lib/base/bytes.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import { readCounters } from "../../lib/control/metrics.ts";
import { type SessionsAnswer, SHOW_RESOURCES } from "../../lib/control/show.ts";
import { snapshot } from "../../lib/control/snapshot.ts";
import { nodeCrypto } from "../../lib/crypto/node-crypto.ts";
import { BLOCK, type PayloadCipher, sealedLength } from "../../lib/crypto/packet-crypto.ts";
import type { Router } from "../../lib/router.ts";
import { ACK, PSH, SYN } from "../../lib/wire/tcp.ts";
import { unaccounted } from "../fuzz/fuzzed.ts";
import { ALL, ANSWERS, converse, ECHO, established, noDrops, REQUESTS } from "./conversation.ts";
import { TcpClient, tcpServer, UdpClient, udpServer } from "./endpoints.ts";
import { spoil } from "./faults.ts";
import { concat, pattern, type SeenPacket, swapEnds, tcpFrame, udpFrame } from "./packets.ts";
import { ENDS, forwardMetadata, TO_EAST } from "./peer.ts";
import { ADAPTIVE, AES_128, AES_256, fabricText, keyText, SIGNED } from "./protection.ts";
import {
  dropsOf,
  eastAlone,
  type Protection,
  packetsOn,
  sessionRows,
  type TwoRouters,
  threeRouters,
  twoRouters,
} from "./topologies.ts";
import type { Link } from "./world.ts";

const OWN = ", session-keys: true";
/** No key in it at all. */
const KEYLESS = "encryption: aes-cbc-256, adaptive: false, session-keys: true";
/** Metadata is encrypted and nothing is signed: what is altered on the wire arrives. */
const SEALED = fabricText("none", "", "", "aes-cbc-256");
const SECURE: Protection = { fabric: SEALED, payload: AES_256 + OWN };

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const fabricCipher = nodeCrypto.cipher("aes-cbc-256", Buffer.from(keyText(32, 101), "hex"));
const policyCipher = nodeCrypto.cipher("aes-cbc-256", Buffer.from(keyText(32, 2), "hex"));

/** What a cipher makes of a sealed payload; null where it says that this is none. */
function opened(cipher: PayloadCipher, sealed: Uint8Array): Uint8Array | null {
  const bytes = sealed.slice();
  const end = Int32Array.of(bytes.length);
  cipher.open(bytes, Int32Array.of(0), end, 1);
  return end[0] < 0 ? null : bytes.slice(0, end[0]);
}

function sealed(cipher: PayloadCipher, plain: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(sealedLength(plain.length));
  bytes.set(plain);
  cipher.seal(bytes, Int32Array.of(0), Int32Array.of(plain.length), 1, new Uint8Array(BLOCK).fill(9));
  return bytes;
}

type Tlv = [type: number, value: Uint8Array];

/** The payload attributes of a packet's metadata, decrypted. */
function attributesOf({ payload }: SeenPacket): Tlv[] {
  const at = getU16(payload, 8) & 0xfff;
  const plain = opened(fabricCipher, payload.slice(at, at + getU16(payload, 10)))!;
  const found: Tlv[] = [];
  for (let next = 0; next < plain.length; next += 4 + getU16(plain, next + 2))
    found.push([getU16(plain, next), plain.slice(next + 4, next + 4 + getU16(plain, next + 2))]);
  return found;
}

/** The packet with other payload attributes in its metadata. */
function rewritten(packet: SeenPacket, change: (attributes: Tlv[]) => Tlv[]): Uint8Array {
  const { payload } = packet;
  const at = getU16(payload, 8) & 0xfff;
  const plain = concat(
    ...change(attributesOf(packet)).flatMap(([type, value]) => [
      Uint8Array.of(type >> 8, type & 255, value.length >> 8, value.length & 255),
      value,
    ]),
  );
  const section = sealed(fabricCipher, plain);
  const head = payload.slice(0, at);
  setU16(head, 10, section.length);
  return udpFrame(packet, concat(head, section, payload.slice(at + getU16(payload, 10))));
}

const isForward = ([type]: Tlv) => type === 2;
const keyIn = (attributes: Tlv[]) => attributes.find(([type]) => type === 46)?.[1];

/** The keys in all forward metadata that `from` sent on a link, in hex, in order; "" = none in it. */
function keysOn(link: Link, from: string): string[] {
  return packetsOn(link, from)
    .filter(({ hasMetadata, payload }) => hasMetadata && getU16(payload, 10) > 0)
    .map(attributesOf)
    .filter((attributes) => attributes.some(isForward))
    .map((attributes) => hex(keyIn(attributes) ?? new Uint8Array(0)));
}

/** The keys that a router's sessions have of their own, in hex. */
function keysOf(router: Router): string[] {
  const { table } = router.sessions;
  return sessionRows(router).map((row) => {
    const at = row * table.keyStride;
    return hex(table.keys.subarray(at, at + table.keyLength(row)));
  });
}

const routersOf = (net: TwoRouters) => [...net.world.routers.values()];

for (const [build, where] of [
  [twoRouters, "two routers"],
  [threeRouters, "a middle router"],
] as const) {
  for (const [payload, bytes, name] of [
    [AES_128 + OWN, 16, "aes-cbc-128"],
    [AES_256 + OWN, 32, "aes-cbc-256"],
    [ADAPTIVE + OWN, 32, "adaptive"],
    [KEYLESS, 32, "a policy without a key"],
  ] as const) {
    test(`TCP, UDP and ICMP come through ${where} as they were, each session with its own key: ${name}`, (t) => {
      for (const sign of ["metadata", "every-packet"]) {
        const fabric = fabricText("sha256-128", "time-based", sign, "aes-cbc-256");
        const net = build({ security: { fabric, payload } });
        const { done, answers } = converse(net);
        if (!done || !noDrops(net)) t.log(net.world.diagram(), routersOf(net).map(dropsOf));
        t.true(done && noDrops(net));
        t.deepEqual(answers, ALL);
        const keys = keysOf(net.west);
        t.is(keys.length, 3);
        t.is(new Set(keys).size, 3, "no two sessions have one key");
        for (const key of keys) t.is(key.length, 2 * bytes);
        for (const router of routersOf(net)) {
          t.deepEqual(keysOf(router).sort(), [...keys].sort());
          for (const { ownKey, encrypted } of (snapshot(router, "sessions") as SessionsAnswer).sessions)
            t.deepEqual([ownKey, encrypted], [true, true]);
        }
        const secrets = [...REQUESTS, ...ANSWERS, ECHO].filter((text) => text.length > 8);
        for (const packet of [net.wan, net.world.links.get("wan2") ?? net.wan].flatMap((link) => packetsOn(link))) {
          t.true(packet.checksumsRight);
          for (const key of keys) t.false(hex(packet.frame).includes(key.slice(0, 16)), "no key travels in clear");
          // Of an adaptive session's TCP only what the client begins with is sure to be hidden.
          for (const text of secrets) t.false(Buffer.from(packet.frame).includes(text), text);
        }
      }
    });
  }
}

test("a session's payload opens with its own key alone: not with the policy's, not with another session's", (t) => {
  const net = twoRouters({ security: SECURE });
  const say = established(net);
  say("what only one key opens");
  const bare = packetsOn(net.wan, "west").at(-1)!;
  t.false(bare.hasMetadata);
  net.world.send(net.client, udpFrame({ ...ENDS, sourcePort: 41000 }, "another session"));
  net.world.run(2);
  const [own, other] = keysOf(net.west).map((key) => nodeCrypto.cipher("aes-cbc-256", Buffer.from(key, "hex")));
  t.is(Buffer.from(opened(own, bare.payload)!).toString(), "what only one key opens");
  for (const wrong of [other, policyCipher, fabricCipher]) t.is(opened(wrong, bare.payload), null);
  // With all else the same, the ciphertext is another.
  const plain = concat("the same words for all of them");
  const texts = [own, other, policyCipher].map((cipher) => hex(sealed(cipher, plain)));
  t.is(new Set(texts).size, 3);
});

test("each metadata of a session has the same key, on every hop: repeated leads, a change in its midst, recovery", (t) => {
  for (const payload of [AES_256 + OWN, ADAPTIVE + OWN]) {
    for (const restarted of ["middle", "east"]) {
      const net = threeRouters({ security: { fabric: SIGNED, payload } });
      // The first two leads are lost on the second hop.
      let lost = 0;
      net.wan2.tamper = (frame, packet) => (packet !== undefined && lost++ < 2 ? [] : [{ frame }]);
      const { done, answers } = converse(net, 20_000);
      t.true(done, net.world.diagram());
      t.deepEqual(answers, ALL);
      // A session that goes on, and a router behind the first that has lost it.
      const say = established(net);
      const before = keysOf(net.west);
      net.world.restart(restarted);
      // Who is next to it tells it again.
      const tellings = () => (restarted === "middle" ? keysOn(net.wan, "west") : keysOn(net.wan2, "middle")).length;
      const told = tellings();
      let answered = 0;
      // A silent peer is asked within a minute whether it still knows the session (silence.test.ts).
      for (let n = 0; n < 90 && answered < 3; n++) {
        const text = `after the restart ${n}`;
        if (say(text)?.text === text) answered++;
        net.world.skip(1000, 100);
      }
      if (answered < 3) t.log(net.world.diagram().slice(-4000), routersOf(net).map(dropsOf));
      t.is(answered, 3, `${restarted} ${payload}`);
      t.true(tellings() > told);
      t.true(keysOf(net.west).every((key) => before.includes(key)));
      for (const link of [net.wan, net.wan2]) {
        const keys = new Set(keysOn(link, link === net.wan ? "west" : "middle"));
        t.false(keys.has(""));
        // Of TCP, ping and the UDP session.
        t.is(keys.size, 3);
      }
    }
  }
});

test("a watched session has its key from its first packet on, and is encrypted with it from its first data on", (t) => {
  for (const build of [twoRouters, threeRouters]) {
    const net = build({ security: { fabric: SEALED, payload: ADAPTIVE + OWN } });
    const send = (from: "client" | "server", flags: number, sequence: number, ack: number, text = "") => {
      const ends = from === "client" ? ENDS : swapEnds(ENDS);
      net.world.send(net[from], tcpFrame(ends, { flags, sequence, acknowledgment: ack }, text));
      net.world.run(2);
    };
    send("client", SYN, 1000, 0);
    const [key] = keysOf(net.west);
    t.is(key.length, 64);
    t.deepEqual(keysOf(net.east), [key]);
    send("server", SYN | ACK, 5000, 1001);
    send("client", ACK, 1001, 5001);
    send("client", ACK | PSH, 1001, 5001, "GET /secret");
    send("server", ACK | PSH, 5001, 1012, "200 secret");
    send("client", ACK | PSH, 1012, 5011, "and more of it");
    const cipher = nodeCrypto.cipher("aes-cbc-256", Buffer.from(key, "hex"));
    const bare = packetsOn(net.wan, "west").at(-1)!;
    t.is(Buffer.from(opened(cipher, bare.data)!).toString(), "and more of it");
    t.is(net.server.received.at(-1)!.text, "and more of it");
    t.is(net.client.received.at(-1)!.text, "200 secret");
    const keys = keysOn(net.wan, "west");
    t.true(keys.length >= 2);
    t.deepEqual([...new Set(keys)], [key]);
    t.true(noDrops(net));
  }
});

/** West's lead packet arrives at `to` with other payload attributes. */
function leadAltered(net: TwoRouters, link: Link, from: string, change: (attributes: Tlv[]) => Tlv[]): void {
  link.tamper = (frame, packet, sender) =>
    packet !== undefined && sender === from && packet.hasMetadata
      ? [{ frame: withMacs(rewritten(packet, change), frame) }]
      : [{ frame }];
  net.world.send(net.client, udpFrame(ENDS, "lead"));
  net.world.run(3);
  link.tamper = (frame) => [{ frame }];
}

function withMacs(frame: Uint8Array, from: Uint8Array): Uint8Array {
  frame.set(from.subarray(0, 12));
  return frame;
}

const otherKey = (bytes: number) => (attributes: Tlv[]) =>
  attributes.map(([type, value]): Tlv => (type === 46 ? [46, pattern(bytes)] : [type, value]));
const noKey = (attributes: Tlv[]) => attributes.filter(([type]) => type !== 46);

function refusedBy(t: ExecutionContext, net: TwoRouters, router: Router, name: string, what: string): void {
  t.deepEqual(dropsOf(router), { [name]: 1 }, what);
  t.deepEqual(sessionRows(router), [], what);
  t.deepEqual(packetsOn(net.far), [], what);
}

test("a session without its key, or with one of another length, is refused by the last router, by the middle one where it sees it", (t) => {
  const changes: [string, (attributes: Tlv[]) => Tlv[], boolean][] = [
    ["no key", noKey, false],
    ["16 bytes for 32", otherKey(16), false],
    ["31 bytes", otherKey(31), true],
    ["33 bytes", otherKey(33), true],
    ["2 bytes", otherKey(2), true],
    ["200 bytes", otherKey(200), true],
    // One byte is a health check.
    ["1 byte", otherKey(1), false],
  ];
  for (const [what, change, isSeen] of changes) {
    const two = twoRouters({ security: SECURE });
    leadAltered(two, two.wan, "west", change);
    refusedBy(t, two, two.east, "session-key", what);
    const three = threeRouters({ security: SECURE });
    leadAltered(three, three.wan, "west", change);
    if (isSeen) {
      refusedBy(t, three, three.middle, "session-key", what);
      t.deepEqual(packetsOn(three.wan2), []);
    } else refusedBy(t, three, three.east, "session-key", what);
  }
});

test("a wrong key of the right length opens nothing of the payload", (t) => {
  const net = twoRouters({ security: SECURE });
  leadAltered(net, net.wan, "west", otherKey(32));
  t.deepEqual(dropsOf(net.east), { "payload-cipher": 1 });
  t.deepEqual(packetsOn(net.far), []);
});

test("metadata of a known session with another key, or with none, changes nothing", (t) => {
  const net = twoRouters({ security: SECURE });
  net.world.send(net.client, udpFrame(ENDS, "lead"));
  net.world.run(2);
  const [lead] = packetsOn(net.wan, "west");
  const keys = keysOf(net.east);
  for (const change of [noKey, otherKey(32), otherKey(16), otherKey(3)]) {
    net.world.inject(net.wan, "east", rewritten(lead, change));
    net.world.run(1);
  }
  t.deepEqual(dropsOf(net.east), { "session-key": 4 });
  t.deepEqual(keysOf(net.east), keys);
  net.world.inject(
    net.wan,
    "east",
    rewritten(lead, (attributes) => attributes),
  );
  net.world.run(1);
  t.deepEqual(
    net.server.received.map(({ text }) => text),
    ["lead", "lead"],
  );
});

test("routers that disagree about session keys refuse each other's sessions", (t) => {
  for (const [west, east, name] of [
    [AES_256 + OWN, AES_256, "security-policy"],
    [AES_256, AES_256 + OWN, "session-key"],
    [ADAPTIVE + OWN, ADAPTIVE, "security-policy"],
    [ADAPTIVE, ADAPTIVE + OWN, "session-key"],
    [AES_256 + OWN, AES_128 + OWN, "session-key"],
    [AES_256 + OWN, undefined, "security-policy"],
  ] as const) {
    const of = (payload: string | undefined) => ({ fabric: SEALED, ...(payload === undefined ? {} : { payload }) });
    const net = twoRouters({ protections: { west: of(west), east: of(east) } });
    net.world.send(net.client, tcpFrame(ENDS, { flags: SYN, sequence: 1, acknowledgment: 0 }));
    net.world.run(2);
    refusedBy(t, net, net.east, name, `${west} to ${east}`);
  }
});

test("a router whose next hop would get the key in clear does not open the session; without a key it does", (t) => {
  for (const far of [fabricText("sha256", "time-based", "every-packet", "none"), fabricText("none", "", "", "none")]) {
    for (const [payload, refused] of [
      [AES_256 + OWN, true],
      [AES_256, false],
    ] as const) {
      const net = threeRouters({
        protections: {
          west: { fabric: { middle: SEALED }, payload },
          middle: { fabric: { west: SEALED, east: far } },
          east: { fabric: { middle: far }, payload },
        },
      });
      net.world.send(net.client, udpFrame(ENDS, "lead"));
      net.world.run(3);
      if (refused) {
        refusedBy(t, net, net.middle, "key-in-clear", far);
        t.deepEqual(packetsOn(net.wan2), []);
      } else t.is(net.server.received.at(-1)?.text, "lead");
    }
  }
});

test("a key that comes in clear is refused, whatever this router would have done with it", (t) => {
  const withKey = forwardMetadata({ key: pattern(32) });
  for (const payload of [undefined, AES_256 + OWN, ADAPTIVE + OWN]) {
    for (const metadata of [withKey, forwardMetadata()]) {
      const net = eastAlone("", { security: { ...(payload === undefined ? {} : { payload }) } });
      net.world.inject(net.wan, "east", udpFrame(TO_EAST, concat(metadata, "in clear")));
      net.world.run(1);
      const expected =
        payload !== undefined ? { "security-policy": 1 } : metadata === withKey ? { "key-in-clear": 1 } : {};
      t.deepEqual(dropsOf(net.east), expected, payload);
      t.is(packetsOn(net.far).length, payload === undefined && metadata !== withKey ? 1 : 0);
    }
  }
});

test("there is room for keys only where they can come, and nothing is left of one when its session is over", (t) => {
  const without = threeRouters({ security: { fabric: fabricText("sha256", "regular", "metadata", "none") } });
  for (const router of routersOf(without)) t.is(router.sessions.table.keys.length, 0);
  const policy = twoRouters({ security: { fabric: SEALED, payload: AES_256 } });
  for (const router of routersOf(policy)) t.is(router.sessions.table.keys.length, 0);
  const net = threeRouters({ security: SECURE });
  for (const router of routersOf(net)) t.is(router.sessions.table.keys.length, 1024 * 32);
  for (let n = 0; n < 20; n++) {
    net.world.send(net.client, udpFrame({ ...ENDS, sourcePort: 42000 + n }, `lead ${n}`));
    net.world.run(3);
  }
  for (const router of routersOf(net)) {
    t.is(new Set(keysOf(router)).size, 20);
    for (const row of sessionRows(router)) {
      router.sessions.close(row, net.world.clock.nowMs());
      t.is(router.sessions.table.keyLength(row), 0);
    }
    t.true(router.sessions.table.keys.every((byte) => byte === 0));
  }
});

test("what a router shows has no key in it", (t) => {
  const net = threeRouters({ security: { fabric: SIGNED, payload: AES_256 + OWN } });
  converse(net);
  for (const router of routersOf(net)) {
    const configured = [keyText(32, 1), keyText(32, 101), keyText(32, 2)];
    const keys = [...keysOf(router), ...configured];
    t.is(keys.length, 6);
    const shown = [...SHOW_RESOURCES.map((name) => snapshot(router, name)), router.config, readCounters(router)]
      .map((answer) => JSON.stringify(answer))
      .join();
    t.true(shown.includes('"ownKey":true'));
    const said = [shown, net.world.diagram()].join();
    for (const key of keys) {
      const bytes = Buffer.from(key, "hex");
      for (const text of [key.slice(0, 12), bytes.toString("base64").slice(0, 12), bytes.subarray(0, 6).join(",")])
        t.false(said.includes(text), text);
    }
  }
});

test("datagrams of many sessions in one batch are encrypted each with its own session's key", (t) => {
  const net = twoRouters({ security: { fabric: SIGNED, payload: AES_256 + OWN } });
  net.server.onPacket = (packet) => net.world.send(net.server, udpFrame(swapEnds(packet), packet.payload));
  const sessions = 8;
  const say = (round: number) => {
    const texts: string[] = [];
    for (let n = 0; n < 2 * sessions; n++) {
      const text = `round ${round} datagram ${n} of a session of its own`;
      texts.push(text);
      // Now in turns, now two by two.
      const session = round % 2 === 0 ? n % sessions : n >> 1;
      net.world.send(net.client, udpFrame({ ...ENDS, sourcePort: 43000 + session }, text));
    }
    net.world.run(3);
    return texts;
  };
  for (let n = 0; n < sessions; n++) {
    for (const text of ["lead", "second", "third"]) {
      net.world.send(net.client, udpFrame({ ...ENDS, sourcePort: 43000 + n }, text));
      net.world.run(3);
    }
  }
  for (let round = 0; round < 6; round++) {
    const slow = routersOf(net).map((router) => readCounters(router)["slow-path.packets"]);
    const before = [net.server.received.length, net.client.received.length, net.wan.seen.length];
    const texts = say(round);
    t.deepEqual(
      net.server.received
        .slice(before[0])
        .map(({ text }) => text)
        .sort(),
      [...texts].sort(),
    );
    t.is(net.client.received.length - before[1], texts.length);
    t.true(net.wan.seen.slice(before[2]).every(({ packet }) => packet!.checksumsRight && !packet!.hasMetadata));
    t.deepEqual(
      routersOf(net).map((router) => readCounters(router)["slow-path.packets"]),
      slow,
      "none of it took the slow path",
    );
  }
  t.true(noDrops(net));
});

test("super-frames and datagrams too long for one packet are whole behind session keys", (t) => {
  for (const payload of [AES_256 + OWN, ADAPTIVE + OWN]) {
    const fabric = fabricText("sha256-128", "time-based", "every-packet", "aes-cbc-256");
    const net = twoRouters({ superFrames: true, security: { fabric, payload } });
    net.world.send(net.client, tcpFrame(ENDS, { flags: SYN, sequence: 1000, acknowledgment: 0, mss: 1460 }));
    net.world.run(2);
    const answer = { flags: SYN | ACK, sequence: 5000, acknowledgment: 1001, mss: 1460 };
    net.world.send(net.server, tcpFrame(swapEnds(ENDS), answer));
    net.world.run(2);
    net.world.send(net.client, tcpFrame(ENDS, { flags: ACK, sequence: 1001, acknowledgment: 5001 }));
    net.world.run(2);
    const all: Uint8Array[] = [];
    let said = 0;
    for (const length of [1000, 20_001, 64_000, 3000]) {
      const bytes = pattern(length, said);
      net.world.send(
        net.client,
        tcpFrame(ENDS, { flags: ACK | PSH, sequence: 1001 + said, acknowledgment: 5001 }, bytes),
      );
      net.world.run(2);
      all.push(bytes);
      said += length;
    }
    const got = net.server.received.filter((packet) => packet.payload.length > 0);
    t.deepEqual(Buffer.concat(got.map((packet) => packet.payload)), Buffer.concat(all));
    t.true(noDrops(net));
    for (const router of routersOf(net)) t.is(unaccounted(readCounters(router)), 0);
    const say = established(net);
    for (let length = 1400; length <= 1472; length++)
      t.deepEqual(say(pattern(length, length))?.payload, pattern(length, length));
  }
});

test("routers with several workers carry sessions with keys of their own", (t) => {
  const net = twoRouters({ security: { fabric: SIGNED, payload: AES_256 + OWN }, limits: { waypointPairs: 8192 } });
  const [west, east] = [net.world.split("west", 3), net.world.split("east", 2)];
  net.server.onPacket = udpServer(net.world, net.server);
  for (let round = 0; round < 4; round++) {
    for (let n = 0; n < 20; n++) {
      net.world.send(net.client, udpFrame({ ...ENDS, sourcePort: 44000 + n }, `datagram ${round} ${n}`));
      net.world.run(2);
      t.is(net.client.received.at(-1)?.text, `DATAGRAM ${round} ${n}`);
    }
  }
  const keys = (router: typeof west) => router.workers.flatMap((worker) => keysOf(worker)).sort();
  t.is(new Set(keys(west)).size, 20);
  t.deepEqual(keys(west), keys(east));
  t.deepEqual([west.drops(), east.drops()], [{}, {}]);
});

test("whatever the wire does, conversations with session keys complete byte by byte", (t) => {
  for (let seed = 1; seed <= 30; seed++) {
    const sign = seed % 2 === 0 ? "every-packet" : "metadata";
    const fabric = fabricText("sha256-128", "time-based", sign, "aes-cbc-256");
    const security = { fabric, payload: seed % 3 === 0 ? AES_128 + OWN : ADAPTIVE + OWN };
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
    if (!done) t.log(net.world.diagram(), routersOf(net).map(dropsOf));
    t.true(done, `seed ${seed}`);
    t.deepEqual([tcp.answers, udp.answers], [ANSWERS, ANSWERS], `seed ${seed}`);
    for (const router of routersOf(net)) t.false("session-key" in dropsOf(router), `seed ${seed}`);
  }
});
