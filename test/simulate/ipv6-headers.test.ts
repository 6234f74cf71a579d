// Extension headers of IPv6 hosts: what they ask of a router, or of a receiver, and what becomes of the packet.

import test from "ava";
import { getI32, setU16 } from "../../lib/base/bytes.ts";
import { readCounters } from "../../lib/control/metrics.ts";
import { hexOf } from "../wire/vectors.ts";
import { FAR, LAN, type Net, netOf } from "./families.ts";
import { concat, toIpv6, udpFrame } from "./packets.ts";
import { dropsOf } from "./topologies.ts";

const ENDS = { source: LAN[6][1], destination: FAR[6][1], sourcePort: 40_000, destinationPort: 5000 };
const HOP_BY_HOP = 0;
const ROUTING = 43;
const DESTINATION_OPTIONS = 60;
const UDP = 17;

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
