// One right checksum in 65,536 is what a sender leaves that has hardware to finish it: the bare sum of the pseudo header. And a
// peer behind a virtual device really leaves that. A router cannot tell one from the other where its port does not say, and need
// not: metadata arrives of both, whole or in pieces, whatever the family of the path.

import test from "ava";
import { getU16, setU16 } from "../../lib/base/bytes.ts";
import { FAR, type Family, LAN, netOf } from "./families.ts";
import { type Ends, pattern, type SeenPacket, swapEnds, udpFrame } from "./packets.ts";
import { dropsOf } from "./topologies.ts";

const UDP = 17;

const fold = (sum: number): number => (sum > 0xffff ? fold((sum & 0xffff) + (sum >>> 16)) : sum);

/** The folded sum of the 16-bit words from `from` to `to`. */
function sumOf(frame: Uint8Array, from: number, to: number): number {
  let sum = 0;
  for (let at = from; at < to; at += 2) sum = fold(sum + (frame[at] << 8) + (frame[at + 1] ?? 0));
  return sum;
}

/** Of a UDP frame of either family: where the datagram is, and the bare sum of its pseudo header. */
function parts(frame: Uint8Array): { l4: number; bare: number } {
  const isIpv6 = getU16(frame, 12) === 0x86dd;
  const [addresses, l4] = isIpv6 ? [22, 54] : [26, 34];
  return { l4, bare: fold(sumOf(frame, addresses, l4) + UDP + getU16(frame, l4 + 4)) };
}

/** Its checksum is left to hardware. */
function left(frame: Uint8Array): void {
  const { l4, bare } = parts(frame);
  setU16(frame, l4 + 6, bare);
}

/** Its checksum is right, and looks like that: the last word of what it carries is what makes it so. */
function unlucky(frame: Uint8Array): void {
  const { l4, bare } = parts(frame);
  const last = l4 + getU16(frame, l4 + 4) - 2;
  setU16(frame, l4 + 6, bare);
  setU16(frame, last, 0);
  setU16(frame, last, ~fold(bare + sumOf(frame, l4, last)) & 0xffff);
}

const SIZES = [
  ["a packet with metadata", 100],
  ["a packet with metadata in pieces", 1400],
] as const;

for (const [hosts, wire] of [
  [4, 4],
  [4, 6],
  [6, 4],
  [6, 6],
] satisfies [Family, Family][]) {
  for (const [change, what] of [
    [left, "is left to hardware"],
    [unlucky, "looks as if it were left to hardware"],
  ] as const) {
    for (const [packet, size] of SIZES) {
      test(`IPv${hosts} over IPv${wire}: the checksum of ${packet} ${what}`, (t) => {
        const net = netOf(hosts, [{ family: wire, mtu: 1500 }], {});
        let changed = 0;
        const datagrams: SeenPacket[] = [];
        net.wires[0].tamper = (frame, seen) => {
          if (seen?.hasMetadata !== true) return [{ frame }];
          const copy = frame.slice();
          change(copy);
          changed++;
          return [{ frame: copy }];
        };
        const ends: Ends = {
          source: LAN[hosts][1],
          destination: FAR[hosts][1],
          sourcePort: 40_000,
          destinationPort: 5000,
        };
        for (const [host, far, way] of [
          [net.client, net.server, ends],
          [net.server, net.client, swapEnds(ends)],
        ] as const) {
          net.world.send(host, udpFrame(way, pattern(size)));
          net.world.run(2);
          datagrams.push(...far.received.filter(({ protocol }) => protocol === UDP));
        }
        t.true(changed >= (size > 1000 ? 4 : 2));
        t.is(datagrams.length, 2);
        for (const { data, checksumsRight } of datagrams) {
          t.true(checksumsRight);
          t.is(data.length, size);
          if (change === left) t.deepEqual(data, pattern(size));
        }
        t.deepEqual(net.routers.map(dropsOf), [{}, {}]);
      });
    }
  }
}
