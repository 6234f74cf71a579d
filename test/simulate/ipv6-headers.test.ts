// Extension headers of IPv6 hosts: what they ask of a router, or of a receiver, and what becomes of the packet.

import test from "ava";
import { getI32, setU16 } from "../../lib/base/bytes.ts";
import { readCounters } from "../../lib/control/metrics.ts";
import { hexOf } from "../wire/vectors.ts";
import { FAR, LAN, type Net, netOf } from "./families.ts";
import { concat, echoFrame, pattern, toIpv6, udpFrame } from "./packets.ts";
import { dropsOf } from "./topologies.ts";

const ENDS = { source: LAN[6][1], destination: FAR[6][1], sourcePort: 40_000, destinationPort: 5000 };
const HOP_BY_HOP = 0;
const ROUTING = 43;
const DESTINATION_OPTIONS = 60;
const UDP = 17;
const FRAGMENT = 44;
const ICMPV6 = 58;

/** The client's datagram with these headers, the first of type `first`, in front of UDP. */
function say(net: Net, text: string, first: number, ...headers: number[]): Uint8Array {
  const wire = toIpv6(udpFrame(ENDS, text));
  const frame = concat(wire.slice(0, 54), Uint8Array.from(headers), wire.slice(54));
  frame[20] = first;
  setU16(frame, 18, frame.length - 54);
  frame.set(net.routers[0].ports.find((port) => port.info().name === "lan0")!.info().mac);
  net.world.inject(net.lan, "r0", frame);
  net.world.run(3);
  return frame;
}

const heard = ({ server }: Net): string[] => server.received.map(({ text }) => text);

for (const family of [6, 4] as const) {
  test(`what an IPv6 host puts in front of UDP ends at the first router, and its datagrams arrive, over IPv${family}`, (t) => {
    const net = netOf(6, [{ family, mtu: 1500 }], {});
    say(net, "bare", UDP);
    say(net, "router alert", HOP_BY_HOP, UDP, 0, 5, 2, 0, 0, 0, 0);
    say(net, "tunnel limit", DESTINATION_OPTIONS, UDP, 0, 4, 1, 3, 1, 1, 0);
    say(net, "used up", ROUTING, UDP, 0, 0, 0, 0, 0, 0, 0);
    t.deepEqual(heard(net), ["bare", "router alert", "tunnel limit", "used up"]);
    t.true(net.server.received.every(({ checksumsRight }) => checksumsRight));
    for (const wire of [net.wires[0], net.far])
      for (const { frame } of wire.seen) if (frame[12] === 0x86) t.true([UDP, 58].includes(frame[20]));
    t.is(readCounters(net.routers[0])["interface.lan0.extensions-removed"], 3);
    for (const router of net.routers) t.deepEqual(dropsOf(router), {});
  });
}

/** What the router has told the client of packets: code, pointer, and whether the packet itself is behind that, whole. */
const told = ({ lan }: Net, said: Uint8Array[]): [number, number, boolean][] =>
  lan.seen
    .filter(({ frame }) => frame[20] === 58 && frame[54] === 4)
    .map(({ frame, from }, n) => {
      const quote = said[n].slice(14);
      return [frame[55], getI32(frame, 58), from.startsWith("r0") && hexOf(frame.slice(62)) === hexOf(quote)];
    });

test("an option that its receiver must know, and a source route, go no further, each by its name; its sender hears of it if it is to", (t) => {
  const net = netOf(6, [{ family: 6, mtu: 1500 }], {});
  say(net, "bare", UDP);
  const said = [
    say(net, "home address", DESTINATION_OPTIONS, UDP, 2, 1, 2, 0, 0, 0xc9, 16, ...Array<number>(16).fill(0x20)),
    say(net, "drop me", HOP_BY_HOP, UDP, 0, 0x5e, 4, 0, 0, 0, 0),
    say(net, "type 0", ROUTING, UDP, 2, 0, 1, 0, 0, 0, 0, ...Array<number>(16).fill(0x20)),
  ];
  say(net, "bare again", UDP);
  t.deepEqual(heard(net), ["bare", "bare again"]);
  t.deepEqual(dropsOf(net.routers[0]), { "ipv6-option": 2, "ipv6-extension": 1 });
  t.deepEqual(told(net, [said[0], said[2]]), [
    [2, 46, true],
    [0, 42, true],
  ]);
  const counters = readCounters(net.routers[0]);
  t.is(counters["interface.lan0.extensions-removed"], 0);
  t.is(counters["interface.lan0.parameter-problems"], 2);
});

test("between routers nobody is told", (t) => {
  const net = netOf(6, [{ family: 6, mtu: 1500 }], {});
  say(net, "bare", UDP);
  const { seen } = net.wires[0];
  const frame = seen.find(({ frame, from }) => from.startsWith("r0") && frame[20] === UDP)!.frame.slice();
  // An option of a header that claims the first of what was UDP.
  frame[20] = DESTINATION_OPTIONS;
  frame.set([UDP, 0, 0x8a, 4, 0, 0, 0, 0], 54);
  const before = seen.length;
  net.world.inject(net.wires[0], "r1", frame);
  net.world.run(3);
  t.deepEqual(dropsOf(net.routers[1]), { "ipv6-option": 1 });
  t.deepEqual(
    seen.slice(before).filter(({ from }) => from.startsWith("r1")),
    [],
  );
});

/** The IPv6 frame with these headers, of type `first`, in front of its L4 header, in pieces: each of the bytes from..to of all that. */
function pieces(
  wire: Uint8Array,
  first: number,
  headers: readonly number[],
  ...parts: [number, number][]
): Uint8Array[] {
  const whole = concat(Uint8Array.from(headers), wire.slice(54));
  return parts.map(([from, to]) => {
    const body = whole.slice(from, to);
    const frame = concat(wire.slice(0, 54), Uint8Array.of(first, 0, 0, 0, 0, 0, 0, 7), body);
    frame[20] = FRAGMENT;
    setU16(frame, 18, frame.length - 54);
    setU16(frame, 56, from | (from + body.length < whole.length ? 1 : 0));
    return frame;
  });
}

function sendPieces(net: Net, frames: readonly Uint8Array[]): void {
  for (const frame of frames) {
    net.world.inject(net.lan, "r0", frame.slice());
    net.world.settle();
  }
  net.world.run(3);
}

test("headers that are cut along with the rest end when the pieces are together", (t) => {
  const net = netOf(6, [{ family: 6, mtu: 1500 }], {});
  const options = [DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0];
  for (const [headers, first] of [
    [[], UDP],
    [[UDP, 0, 4, 1, 3, 1, 1, 0], DESTINATION_OPTIONS],
    [[...options, UDP, 0, 4, 1, 3, 1, 1, 0], DESTINATION_OPTIONS],
    [[UDP, 0, 0, 0, 0, 0, 0, 0], ROUTING],
  ] as const) {
    const { length } = net.server.received;
    const frames = pieces(toIpv6(udpFrame(ENDS, pattern(1000))), first, headers, [0, 600], [600, 2000]);
    sendPieces(net, frames);
    sendPieces(net, frames.toReversed());
    const got = net.server.received.slice(length);
    t.deepEqual(
      got.map(({ payload, checksumsRight }) => [payload, checksumsRight]),
      [
        [pattern(1000), true],
        [pattern(1000), true],
      ],
    );
  }
  const ping = toIpv6(echoFrame(ENDS.source, ENDS.destination, 9, 1, pattern(1000)));
  sendPieces(net, pieces(ping, DESTINATION_OPTIONS, [ICMPV6, 0, 4, 1, 3, 1, 1, 0], [0, 600], [600, 2000]));
  t.true(net.server.received.at(-1)!.checksumsRight);
  t.deepEqual(net.server.received.at(-1)!.payload, pattern(1000));
  t.is(readCounters(net.routers[0])["interface.lan0.extensions-removed"], 7);
  for (const router of net.routers) t.deepEqual(dropsOf(router), {});
});

test("pieces that overlap end their packet, also with the same bytes (RFC 5722); the very same piece twice does not", (t) => {
  const wire = toIpv6(udpFrame(ENDS, pattern(1000)));
  const a: [number, number] = [0, 600];
  const b: [number, number] = [600, 2000];
  for (const [parts, arrives] of [
    [[a, a, b], true],
    [[b, b, a], true],
    [[a, [400, 2000]], false],
    [[a, [0, 400], b], false],
    [[a, [200, 400], b], false],
    [[a, [200, 600], b], false],
    [[[200, 600], a, b], false],
    [[b, [400, 2000], a], false],
    [[b, [608, 2000], a], false],
    [[[0, 400], [400, 600], a, b], false],
  ] as [[number, number][], boolean][]) {
    const net = netOf(6, [{ family: 6, mtu: 1500 }], {});
    sendPieces(net, pieces(wire, UDP, [], ...parts));
    t.is(net.server.received.length, arrives ? 1 : 0, JSON.stringify(parts));
    t.deepEqual(dropsOf(net.routers[0]), arrives ? {} : { "ip-fragment-malformed": 1 }, JSON.stringify(parts));
  }
});
