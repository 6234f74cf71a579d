// One right checksum in 65,536 is what a sender leaves that has hardware to finish it: the bare sum of the pseudo header. And a
// peer behind a virtual device really leaves that. A router cannot tell one from the other where its port does not say, and need
// not: packets of hosts and metadata of peers arrive, whole or in pieces, whatever the families.

import test from "ava";
import { getU16, setU16 } from "../../lib/base/bytes.ts";
import { FAR, type Family, LAN, type Net, netOf } from "./families.ts";
import { type Ends, pattern, type SeenPacket, swapEnds, udpFrame } from "./packets.ts";
import { AES_256, EVERY_PACKET } from "./protection.ts";
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

const ends = (hosts: Family): Ends => ({
  source: LAN[hosts][1],
  destination: FAR[hosts][1],
  sourcePort: 40_000,
  destinationPort: 5000,
});

const bothWays = ({ client, server }: Net, hosts: Family) =>
  [
    [client, server, ends(hosts)],
    [server, client, swapEnds(ends(hosts))],
  ] as const;

const FAMILIES: readonly [hosts: Family, wire: Family][] = [
  [4, 4],
  [4, 6],
  [6, 4],
  [6, 6],
];
const CHANGES = [
  [left, "is left to hardware"],
  [unlucky, "looks as if it were left to hardware"],
] as const;
const SIZES = [
  ["a packet with metadata", 100],
  ["a packet with metadata in pieces", 1400],
] as const;

for (const [hosts, wire] of FAMILIES) {
  for (const [change, what] of CHANGES) {
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
        for (const [host, far, way] of bothWays(net, hosts)) {
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

for (const [hosts, wire] of FAMILIES) {
  for (const protection of [{}, { fabric: EVERY_PACKET, payload: AES_256 }]) {
    for (const [change, what] of CHANGES) {
      const name = `IPv${hosts} over IPv${wire}, ${"fabric" in protection ? "signed and encrypted" : "in clear"}`;
      test(`${name}: the checksum of a host's packets ${what}`, (t) => {
        const net = netOf(hosts, [{ family: wire, mtu: 1500 }], protection);
        const said: Uint8Array[] = [];
        for (const [link, host] of [
          [net.lan, "client"],
          [net.far, "server"],
        ] as const) {
          link.tamper = (frame, seen, from) => {
            if (from !== host || seen?.protocol !== UDP) return [{ frame }];
            const copy = frame.slice();
            change(copy);
            said.push(copy.slice(-seen.payload.length));
            return [{ frame: copy }];
          };
        }
        const heard: Uint8Array[] = [];
        for (const size of [100, 1400, 100, 1300]) {
          for (const [host, far, way] of bothWays(net, hosts)) {
            net.world.send(host, udpFrame(way, pattern(size)));
            net.world.run(2);
            const last = far.received.at(-1);
            t.true(last?.checksumsRight);
            heard.push(last!.data);
          }
        }
        t.is(said.length, 8);
        t.deepEqual(heard, said);
        t.deepEqual(net.routers.map(dropsOf), [{}, {}]);
      });
    }
  }
}
