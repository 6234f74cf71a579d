// Routers with several workers and IPv6 on either side: what workers.test.ts says of IPv4, and what is IPv6's own.

import test from "ava";
import { StateReader, StateWriter } from "../../lib/base/state.ts";
import { formatAddress, parseAddress } from "../../lib/control/address-text.ts";
import type { WorkersAnswer } from "../../lib/control/show.ts";
import { snapshot } from "../../lib/control/snapshot.ts";
import { readReport, writeReport } from "../../lib/monitor/path-report.ts";
import { isName } from "../../lib/table/address-book.ts";
import { mergeAnswers } from "../../lib/worker/merge.ts";
import { unaccounted } from "../fuzz/fuzzed.ts";
import { TcpClient, tcpServer, udpServer } from "./endpoints.ts";
import { FAR, type Family, LAN, netOf } from "./families.ts";
import { type Ends, echoFrame, icmpError, udpFrame } from "./packets.ts";
import { SIGNED } from "./protection.ts";
import { World } from "./world.ts";

const MIXES: readonly [hosts: Family, wires: readonly Family[]][] = [
  [6, [6]],
  [4, [6]],
  [6, [4]],
  [6, [6, 4]],
];

function splitChain(hosts: Family, wires: readonly Family[]) {
  const net = netOf(
    hosts,
    wires.map((family) => ({ family, mtu: 1500 })),
    {},
  );
  const split = net.routers.map((_, n) => net.world.split(`r${n}`, 2 + n));
  const ends = (port: number, to = 7): Ends => ({
    source: LAN[hosts][1],
    destination: FAR[hosts][1],
    sourcePort: port,
    destinationPort: to,
  });
  return { ...net, split, ends };
}

for (const [hosts, wires] of MIXES) {
  const way = `IPv${hosts} over ${wires.map((family) => `IPv${family}`).join(", ")}`;
  test.serial(
    `${way}: datagrams, TCP and pings are whole, every worker has sessions, and no frame changes hands`,
    (t) => {
      const { world, client, server, split, ends } = splitChain(hosts, wires);
      const serveTcp = tcpServer(world, server);
      const serveUdp = udpServer(world, server);
      server.onPacket = (packet) => {
        if (packet.icmpType === 8)
          world.send(server, echoFrame(FAR[hosts][1], LAN[hosts][1], 77, packet.sequence, packet.payload, true));
        else if (packet.protocol === 17) serveUdp(packet);
        else serveTcp(packet);
      };
      const clients: TcpClient[] = [];
      client.onPacket = (packet) => {
        for (const one of clients) one.receive(packet);
      };
      for (let round = 0; round < 4; round++) {
        for (let n = 0; n < 40; n++) {
          world.send(client, udpFrame(ends(30_000 + n), `${n} ${round}`));
          world.run(2);
        }
      }
      for (let n = 0; n < 10; n++) clients.push(new TcpClient(world, client, ends(41_000 + n, 80), ["hello", "again"]));
      for (let n = 0; n < 3; n++) world.send(client, echoFrame(LAN[hosts][1], FAR[hosts][1], 77, n, "0123456789"));
      t.true(
        world.runUntil(() => clients.every(({ state }) => state === "closed"), 5000),
        world.diagram().slice(-4000),
      );
      for (const { answers } of clients) t.deepEqual(answers, ["HELLO", "AGAIN"]);
      for (const host of [client, server]) {
        t.true(host.received.every(({ checksumsRight }) => checksumsRight));
        for (let n = 0; n < 40; n++)
          t.deepEqual(
            host.received.map(({ text }) => text).filter((text) => text.startsWith(`${n} `)),
            [0, 1, 2, 3].map((round) => `${n} ${round}`),
          );
      }
      t.is(client.received.filter(({ icmpType }) => icmpType === 0).length, 3);
      for (const router of split) {
        t.deepEqual(router.drops(), {});
        t.is(router.count("strays.sent"), 0);
        for (const { counters, sessions } of router.workers) {
          t.is(unaccounted(counters.publish(true)), 0);
          t.true(sessions.table.count > 0);
        }
      }
    },
  );
}

test("a peer with a dynamic address is where the monitor's thread says, whatever that calls the address", (t) => {
  const world = new World(1);
  const router = world.addRouter(
    "east",
    `authority: acme
router: east
interfaces: [{ name: wan0, device: wan0, addresses: ["2001:db8:ff::1/64"] }]
peers: [{ name: west, security: fabric, paths: [{ interface: wan0, address: dynamic, bfd: {} }] }]
security-policies: [{ name: fabric, ${SIGNED} }]
`,
  );
  world.addHost("west", "2001:db8:ff::2", "2001:db8:ff::1");
  world.join("wan", "east.wan0", "west");
  world.run(2000);
  const words = [0x2001_0db8, 0x00ff_0000, 0, 0x77];
  // A name that means something else here, or nothing.
  const peerAt = { address: 0x7f00_0001, words, port: 20_000 };
  const report = { ...router.reports.of(0)!, up: true, peerAt };
  const written = new StateWriter();
  writeReport(written, report);
  t.deepEqual(readReport(new StateReader(written.finish()), 1).peerAt, peerAt);
  router.reports.apply(structuredClone(report), world.clock.nowMs());
  const [path] = router.sessions.paths;
  t.is(formatAddress(path.remote), "2001:db8:ff::77");
  t.is(path.remotePort, 20_000);
});

test.serial("every worker learns its neighbors from the advertisements that the first one gets", (t) => {
  const { world, client, server, split, ends } = splitChain(6, [6]);
  server.onPacket = udpServer(world, server);
  for (let n = 0; n < 30; n++) {
    world.send(client, udpFrame(ends(30_000 + n), "hello"));
    world.run(2);
  }
  for (const { sessions } of split[0].workers) {
    for (const [interfaceId, address] of [
      [0, LAN[6][1]],
      [1, "2001:db8:ff0::2"],
    ] as const) {
      const name = parseAddress(address);
      t.true(isName(name));
      t.is(sessions.neighbors.usable[sessions.neighbors.find(interfaceId, name)], 1, address);
    }
  }
  t.is(split[0].count("arp.disputed"), 0);
});

test.serial(
  "TCP and UDP behind extension headers go to the worker of their addresses, and from there to their session's",
  (t) => {
    const { world, client, server, lan, split, ends } = splitChain(6, [6]);
    server.onPacket = udpServer(world, server);
    // What a host puts there: padding alone.
    lan.tamper = (frame) => {
      if (frame[12] !== 0x86 || frame[20] !== 17 || frame[6 + 5] !== client.port.info().mac[5]) return [{ frame }];
      const longer = new Uint8Array(frame.length + 8);
      longer.set(frame.subarray(0, 54));
      longer.set([17, 0, 1, 4, 0, 0, 0, 0], 54);
      longer.set(frame.subarray(54), 62);
      longer[20] = 60;
      longer[19] = frame[19] + 8;
      return [{ frame: longer }];
    };
    for (let n = 0; n < 30; n++) {
      for (const text of ["one", "two"]) {
        world.send(client, udpFrame(ends(30_000 + n), `${n} ${text}`));
        world.run(2);
      }
    }
    t.is(client.received.length, 60);
    t.true(split[0].count("strays.sent") > 0);
    t.is(split[1].count("strays.sent"), 0, "extension headers end at the first router");
    for (const router of split) t.deepEqual(router.drops(), {});
  },
);

test.serial("an ICMP error that comes to another worker than its session's is passed on to whoever sent", (t) => {
  const { world, client, server, split, ends } = splitChain(6, [6]);
  server.onPacket = (packet) => {
    if (packet.protocol === 17) world.send(server, icmpError(FAR[6][1], 3, 3, packet.frame));
  };
  for (let n = 0; n < 20; n++) {
    world.send(client, udpFrame(ends(30_000 + n), "anybody"));
    world.run(5);
  }
  t.is(client.received.filter(({ icmpType }) => icmpType === 3).length, 20);
  t.true(split[1].count("strays.sent") > 0);
  t.deepEqual(split[1].drops(), {});
  const { workers } = mergeAnswers(
    "workers",
    split[1].workers.map((worker) => snapshot(worker, "workers")!),
  ) as WorkersAnswer;
  t.is(
    workers.reduce((sum, { strays }) => sum + strays.sent - strays.received, 0),
    0,
  );
});
