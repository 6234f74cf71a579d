// Fragments as an attacker cuts them (RFC 1858, RFC 3128): headers in tiny pieces, pieces that write over others, packets without
// end. The same of IPv4 fragments from hosts and of fabric fragments from peers: what is whole is judged whole, what
// contradicts itself is refused, what is kept is bounded, and each is counted. Many chains at once: hostile.test.ts.

import test from "ava";
import { setU16 } from "../../lib/base/bytes.ts";
import { concat, metadataOf, pattern, tcpFrame, udpFrame, withHeader } from "./packets.ts";
import { ENDS, forwardMetadata, TO_EAST } from "./peer.ts";
import { countOf, dropsOf, eastAlone, sessionRows, twoRouters } from "./topologies.ts";

const SYN = 2;
const TINY = 8;

/** One IPv4 fragment of a packet: the bytes [from, to) of what is behind its header, or `bytes` in their place. */
function piece(
  frame: Uint8Array,
  from: number,
  to: number,
  bytes: Uint8Array = frame.slice(34 + from, 34 + to),
): Uint8Array {
  const isLast = 34 + to >= frame.length;
  return withHeader(concat(frame.slice(0, 34), bytes), (out) => {
    setU16(out, 16, 20 + bytes.length);
    setU16(out, 20, (isLast ? 0 : 0x2000) | (from >>> 3));
  });
}

function tinyPieces(frame: Uint8Array): Uint8Array[] {
  const length = frame.length - 34;
  return Array.from({ length: Math.ceil(length / TINY) }, (_, n) =>
    piece(frame, n * TINY, Math.min((n + 1) * TINY, length)),
  );
}

test("a TCP header in tiny pieces, in any order, is one SYN; with another flags byte written over it, it is nothing", (t) => {
  for (const order of [
    [0, 1, 2],
    [2, 1, 0],
    [1, 2, 0],
  ]) {
    const net = twoRouters();
    const frame = tcpFrame(ENDS, { flags: SYN, sequence: 7, acknowledgment: 0 });
    const pieces = tinyPieces(frame);
    for (const n of order) net.world.send(net.client, pieces[n].slice());
    net.world.run(3);
    t.deepEqual(
      net.server.received.map(({ tcpFlags, sequence, checksumsRight }) => [tcpFlags, sequence, checksumsRight]),
      [[SYN, 7, true]],
    );
    t.is(countOf(net.west, "ip.reassembled"), 1);
  }
  const net = twoRouters();
  const [ports, flags, rest] = tinyPieces(tcpFrame(ENDS, { flags: SYN, sequence: 7, acknowledgment: 0 }));
  const other = flags.slice();
  other[34 + 5] ^= 0x10;
  for (const each of [ports, flags, other, rest]) net.world.send(net.client, each.slice());
  net.world.run(3);
  t.is(dropsOf(net.west)["ip-fragment-malformed"], 1);
  t.is(net.server.received.length, 0);
  t.is(sessionRows(net.west).length, 0);
});

test("ports written over by a second first piece open no session", (t) => {
  const net = twoRouters();
  const frame = udpFrame(ENDS, pattern(24));
  const other = frame.slice(34, 34 + TINY);
  setU16(other, 2, 22);
  for (const each of [piece(frame, 0, 8), piece(frame, 0, 8, other), piece(frame, 8, 32)])
    net.world.send(net.client, each);
  net.world.run(3);
  t.is(dropsOf(net.west)["ip-fragment-malformed"], 1);
  t.is(sessionRows(net.west).length, 0);
});

test("one tiny piece ten thousand times is one piece kept; a datagram in thousands of them arrives whole", (t) => {
  const net = twoRouters({ limits: { others: ", ip-fragments: 2" } });
  const frame = udpFrame(ENDS, pattern(20_000));
  const send = (each: Uint8Array) => {
    net.world.send(net.client, each.slice());
    net.world.settle();
  };
  const [first, ...others] = tinyPieces(frame);
  for (let n = 0; n < 10_000; n++) send(first);
  t.is(net.west.ipFragments.count, 1);
  for (const each of others) send(each);
  net.world.run(3);
  t.is(countOf(net.west, "ip.reassembled"), 1);
  t.is(net.west.ipFragments.count, 0);
  t.deepEqual(dropsOf(net.west), {});
  t.true(net.far.seen.filter(({ from }) => from === "east").length > 10);
});

test("tiny fabric fragments are one packet in any order; overlapping with other bytes, or past what a packet can have, they are none", (t) => {
  const payload = concat(forwardMetadata(), pattern(40));
  /** The bytes [from, to) of a packet's L4 payload, as a peer sends them. */
  const fabric = (id: number, from: number, to: number, bytes: Uint8Array = payload.slice(from, to)) => {
    const attribute = { extendedId: id, originalId: 1, dontFragment: false, moreFragments: to < payload.length };
    return udpFrame(TO_EAST, concat(metadataOf([1, { ...attribute, offset: from, largestSeen: 0 }]), bytes));
  };
  const pieces = (id: number) =>
    Array.from({ length: Math.ceil(payload.length / TINY) }, (_, n) => fabric(id, n * TINY, (n + 1) * TINY));
  const net = eastAlone();
  for (const each of pieces(1).reverse()) net.world.inject(net.wan, "east", each);
  net.world.run(3);
  t.deepEqual(
    net.server.received.map(({ data }) => data),
    [pattern(40)],
  );
  t.is(countOf(net.east, "fabric.reassembled"), 1);

  const other = payload.slice(0, TINY);
  other[3] ^= 1;
  const [first, ...rest] = pieces(2);
  for (const each of [first, fabric(2, 0, TINY, other)]) net.world.inject(net.wan, "east", each);
  net.world.run(1);
  t.is(dropsOf(net.east)["fabric-fragment-malformed"], 1);
  for (const each of rest) net.world.inject(net.wan, "east", each);
  net.world.inject(net.wan, "east", fabric(3, 65_528, 65_528 + 1040, pattern(1040)));
  net.world.run(1);
  t.is(dropsOf(net.east)["fabric-fragment-malformed"], 2);
  net.world.skip(6000);
  t.is(dropsOf(net.east)["fabric-fragment-timeout"], rest.length, "what came after the contradiction is never whole");
  t.is(net.server.received.length, 1);
  t.is(sessionRows(net.east).length, 1);
});
