// IPv4 fragments from hosts (RFC 791): put together before their session is looked for, and cut again where they leave. Whatever
// hosts send in pieces arrives, both ways; what cannot be right does not, and is bounded.

import test from "ava";
import { setU16 } from "../../lib/base/bytes.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import { readCounters } from "../../lib/control/metrics.ts";
import { concat, echoFrame, pattern, swapEnds, udpFrame, withHeader } from "./packets.ts";
import { SEALED } from "./protection.ts";
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
import type { SimHost } from "./world.ts";

const ENDS = { source: CLIENT, destination: SERVER, sourcePort: 40000, destinationPort: 5000 };
const NETS: [string, (options?: Options) => TwoRouters][] = [
  ["two routers", twoRouters],
  ["two routers, signed and encrypted", (options) => twoRouters({ ...options, security: SEALED })],
  ["three routers", threeRouters],
  [
    "two paths at once",
    (options) =>
      twoPaths({
        ...options,
        ...TWICE,
      }),
  ],
];

/** The packet in fragments of at most `mtu` bytes, as a host sends it. */
function fragmentsOf(frame: Uint8Array, id: number, mtu = 1500): Uint8Array[] {
  const room = (mtu - 20) & ~7;
  const payload = frame.slice(34);
  const fragments: Uint8Array[] = [];
  for (let at = 0; at < payload.length; at += room) {
    const piece = concat(frame.slice(0, 34), payload.slice(at, at + room));
    const more = at + room < payload.length ? 0x2000 : 0;
    fragments.push(
      withHeader(piece, (bytes) => {
        setU16(bytes, 16, piece.length - 14);
        setU16(bytes, 18, id);
        setU16(bytes, 20, more | (at >>> 3));
      }),
    );
  }
  return fragments;
}

/** Every datagram or message that a host got, whole or in pieces: what is behind the IPv4 header. */
function whole(net: TwoRouters, link: TwoRouters["far"], from: string): Uint8Array[] {
  const chains = new Map<number, Uint8Array[]>();
  const done: Uint8Array[] = [];
  for (const { from: sender, frame } of link.seen) {
    if (sender !== from || frame[12] !== 8 || frame[13] !== 0) continue;
    const view = Buffer.from(frame);
    const [id, word] = [view.readUInt16BE(18), view.readUInt16BE(20)];
    const payload = frame.slice(34, 14 + view.readUInt16BE(16));
    if ((word & 0x3fff) === 0) {
      done.push(payload);
      continue;
    }
    const chain = chains.get(id) ?? [];
    chains.set(id, chain);
    if (chain.reduce((sum, { length }) => sum + length, 0) !== (word & 0x1fff) * 8) throw new Error("a gap");
    chain.push(payload);
    if ((word & 0x2000) !== 0) continue;
    done.push(concat(...chain));
    chains.delete(id);
  }
  if (chains.size > 0 && net.world.routers.size > 0) throw new Error("a packet is not whole");
  return done;
}

function sendAll(net: TwoRouters, host: SimHost, frames: readonly Uint8Array[]): void {
  for (const frame of frames) {
    net.world.send(host, frame);
    net.world.settle();
  }
  net.world.run(5);
}

for (const [name, make] of NETS) {
  for (const length of [1473, 4000, 20_000, 65_000]) {
    test(`${name}: a datagram of ${length} bytes arrives, and so does its answer`, (t) => {
      const net = make();
      const frame = udpFrame(ENDS, pattern(length));
      for (let round = 1; round <= 3; round++) {
        sendAll(net, net.client, fragmentsOf(frame, round));
        t.deepEqual(whole(net, net.far, "east").at(-1), frame.slice(34), `question ${round}`);
        const answer = udpFrame(swapEnds(ENDS), pattern(length, round));
        sendAll(net, net.server, fragmentsOf(answer, 77 + round));
        t.deepEqual(whole(net, net.lan, "west").at(-1), answer.slice(34), `answer ${round}`);
      }
      for (const router of net.world.routers.values()) {
        const { duplicate, ...drops } = dropsOf(router);
        t.deepEqual(drops, {});
        t.is(sessionRows(router).length, 1);
      }
    });
  }

  test(`${name}: pings of every size come back`, (t) => {
    const net = make();
    const sizes = [0, 1, 17, 1471, 1472, 1473, 2952, 8000, 32_768, 65_000];
    for (const [n, size] of sizes.entries()) {
      const frame = echoFrame(CLIENT, SERVER, 9, n, pattern(size));
      sendAll(net, net.client, fragmentsOf(frame, n + 1));
      t.deepEqual(whole(net, net.far, "east").at(-1), frame.slice(34), `${size} bytes`);
      const reply = echoFrame(SERVER, CLIENT, 9, n, pattern(size), true);
      sendAll(net, net.server, fragmentsOf(reply, n + 1));
      t.deepEqual(whole(net, net.lan, "west").at(-1), reply.slice(34), `${size} bytes back`);
    }
  });
}

test("pieces that say they must not be cut again, as some hosts' do, are a packet that may leave in pieces", (t) => {
  for (const [name, make] of NETS) {
    const net = make();
    const frame = udpFrame(ENDS, pattern(4000));
    const pieces = fragmentsOf(frame, 1).map((piece) => withHeader(piece, (bytes, l3) => (bytes[l3 + 6] |= 0x40)));
    sendAll(net, net.client, pieces);
    t.deepEqual(whole(net, net.far, "east"), [frame.slice(34)], name);
    t.is(net.client.received.length, 0, "nobody is told to make smaller what cannot be smaller");
  }
});

test("pieces may come in any order, twice, and of several packets at once", (t) => {
  const net = twoRouters();
  const random = new SeededRandom(3);
  const frames = [3000, 5000, 7000].map((length, n) =>
    fragmentsOf(udpFrame({ ...ENDS, sourcePort: 40000 + n }, pattern(length, n)), n + 1, 576),
  );
  const pieces = frames.flatMap((chain) => [...chain, ...chain.slice(1, 3)]);
  for (let i = pieces.length - 1; i > 0; i--) {
    const j = (random.nextI32() >>> 0) % (i + 1);
    [pieces[i], pieces[j]] = [pieces[j], pieces[i]];
  }
  sendAll(net, net.client, pieces);
  const got = whole(net, net.far, "east");
  for (const [n, length] of [3000, 5000, 7000].entries()) {
    const wanted = udpFrame({ ...ENDS, sourcePort: 40000 + n }, pattern(length, n)).slice(34);
    t.true(got.some((payload) => Buffer.from(payload).equals(Buffer.from(wanted))));
  }
});

test("pieces that overlap and contradict each other, or make a packet that is too long, end their packet", (t) => {
  const net = twoRouters();
  const [first, second, third] = fragmentsOf(udpFrame(ENDS, pattern(4000)), 1);
  const forged = second.slice();
  forged[100] ^= 1;
  sendAll(net, net.client, [first, second, forged, third]);
  t.is(dropsOf(net.west)["ip-fragment-malformed"], 1);
  const shifted = withHeader(second.slice(), (bytes) => setU16(bytes, 20, 0x2000 | 100));
  sendAll(
    net,
    net.client,
    fragmentsOf(udpFrame(ENDS, pattern(4000)), 2).map((piece, n) =>
      n === 1 ? withHeader(shifted.slice(), (bytes) => setU16(bytes, 18, 2)) : piece,
    ),
  );
  t.is(dropsOf(net.west)["ip-fragment-malformed"], 2);
  const odd = withHeader(first.slice(0, -3), (bytes) => setU16(bytes, 16, first.length - 14 - 3));
  sendAll(net, net.client, [odd]);
  const beyond = withHeader(third.slice(), (bytes) => setU16(bytes, 20, 0x1fff));
  sendAll(net, net.client, [beyond]);
  t.is(dropsOf(net.west)["ip-fragment-malformed"], 4);
  t.is(packetsOn(net.wan).length, 0);
});

test("a piece with a wrong header checksum is dropped; a wrong UDP checksum arrives wrong", (t) => {
  const net = twoRouters();
  const frame = udpFrame(ENDS, pattern(4000));
  frame[40] ^= 0x55;
  sendAll(net, net.client, fragmentsOf(frame, 1));
  t.deepEqual(whole(net, net.far, "east"), []);
  t.is(dropsOf(net.east)["metadata-checksum"], 1, "not as a lead packet, whose metadata nobody could believe");
  const good = udpFrame(ENDS, pattern(4000));
  sendAll(net, net.client, fragmentsOf(good, 2));
  sendAll(net, net.server, fragmentsOf(udpFrame(swapEnds(ENDS), pattern(100)), 3));
  sendAll(net, net.client, fragmentsOf(good, 4));
  sendAll(net, net.client, fragmentsOf(frame, 5));
  t.deepEqual(whole(net, net.far, "east").at(-1), frame.slice(34));
  const [first, ...others] = fragmentsOf(good, 6);
  first[24] ^= 1;
  sendAll(net, net.client, [first, ...others]);
  t.is(dropsOf(net.west)["ip-checksum"], 1);
});

test("packets that stay in pieces are given up after 15 seconds, or when there are too many", (t) => {
  const net = twoRouters({ limits: { others: ", ip-fragments: 8" } });
  for (let id = 1; id <= 8; id++) sendAll(net, net.client, fragmentsOf(udpFrame(ENDS, pattern(4000)), id).slice(0, 2));
  net.world.skip(16_000);
  t.is(dropsOf(net.west)["ip-fragment-timeout"], 16);
  for (let id = 1; id <= 20; id++) sendAll(net, net.client, fragmentsOf(udpFrame(ENDS, pattern(4000)), id).slice(1));
  t.is(dropsOf(net.west)["ip-fragments-full"], 24);
  const frame = udpFrame(ENDS, pattern(4000));
  sendAll(net, net.client, fragmentsOf(frame, 999));
  t.deepEqual(whole(net, net.far, "east"), [frame.slice(34)]);
  t.is(readCounters(net.west)["ip.reassembled"], 1);
});

test("fragments of what routers say to each other are put together too", (t) => {
  const net = twoRouters();
  net.world.send(net.client, udpFrame(ENDS, pattern(900)));
  net.world.run(2);
  const lead = packetsOn(net.wan, "west")[0].frame.slice();
  const before = net.server.received.length;
  lead[19] ^= 0xff;
  withHeader(lead, (bytes) => setU16(bytes, 20, 0));
  for (const piece of fragmentsOf(lead, 5, 576)) net.world.inject(net.wan, "east", piece);
  net.world.run(2);
  t.is(net.server.received.length, before + 1);
});
