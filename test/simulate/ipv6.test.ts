// IPv6 on either side of each router: sessions of one family over paths of the other, and of both over the same.

import test, { type ExecutionContext } from "ava";
import { parsePacket } from "../../lib/control/packet-text.ts";
import type { InterfacesAnswer, PathsAnswer } from "../../lib/control/show.ts";
import { snapshot } from "../../lib/control/snapshot.ts";
import { explainPacket } from "../../lib/offline-router.ts";
import { TcpClient, tcpServer, UdpClient, udpServer } from "./endpoints.ts";
import { FAR, type Family, LAN, type Net, netOf } from "./families.ts";
import { echoFrame, type SeenPacket, tcpFrame, udpFrame } from "./packets.ts";
import { SEALED } from "./protection.ts";
import { dropsOf } from "./topologies.ts";
import type { Link } from "./world.ts";

/** client ─ r0 ─ r1 ... ─ server; `wires` has the family of each hop. */
function chain(hosts: Family, wires: readonly Family[], sealed = false, path = "", superFrames = false): Net {
  const links = wires.map((family) => ({ family, mtu: 1500 }));
  return netOf(hosts, links, sealed ? SEALED : {}, path, superFrames);
}

test("explain tells the way of an IPv6 packet in its own words", (t) => {
  const net = chain(6, [4]);
  const packet = parsePacket("tcp [2001:db8:1::2]:40000 > [2001:db8:2::2]:443");
  const { steps, verdict } = explainPacket(net.routers[0].config, { interface: "lan0", packet });
  t.is(verdict, "forwarded");
  const said = steps.map(({ outcome, reason }) => `${outcome}: ${reason}`).join("\n");
  t.true(said.includes("lan0: tcp [2001:db8:1::2]:40000 > [2001:db8:2::2]:443 [S]"), said);
  t.true(said.includes("forward-context-ipv6 tcp [2001:db8:1::2]:40000 > [2001:db8:2::2]:443"), said);
});

test("a path and an interface with IPv6 show the MTU that their wire has", (t) => {
  const [west] = chain(4, [6]).routers;
  t.is((snapshot(west, "paths") as PathsAnswer).paths[0].mtu.bytes, 1500);
  t.deepEqual(
    (snapshot(west, "interfaces") as InterfacesAnswer).interfaces.map(({ mtu }) => mtu),
    [1500, 1500],
  );
});

test("segments of a super-frame whose size nobody tells are no longer than what they came by takes", (t) => {
  for (const hosts of [6, 4] as const) {
    const { world, client, server, routers } = chain(hosts, [4], false, "", true);
    const [source, destination] = [LAN[hosts][1], FAR[hosts][1]];
    const ends = { source, destination, sourcePort: 40_000, destinationPort: 7 };
    world.send(client, tcpFrame(ends, { flags: 2, sequence: 0, acknowledgment: 0 }));
    world.run(5);
    const long = tcpFrame(ends, { flags: 16, sequence: 1, acknowledgment: 1 }, "x".repeat(5000));
    world.send(client, long);
    world.run(20);
    const got = server.received.filter(({ protocol }) => protocol === 6).map(({ text }) => text.length);
    t.is(
      got.reduce((sum, one) => sum + one, 0),
      5000,
      world.diagram(),
    );
    for (const router of routers) t.deepEqual(dropsOf(router), {});
  }
});

test("TCP of an IPv6 session goes as UDP over an IPv6 path", (t) => {
  const net = chain(6, [6], false, ", udp-transform: always");
  const ends = { source: LAN[6][1], destination: FAR[6][1], sourcePort: 40_000, destinationPort: 7 };
  const client = new TcpClient(net.world, net.client, ends, REQUESTS, 10);
  net.client.onPacket = (packet) => client.receive(packet);
  net.server.onPacket = tcpServer(net.world, net.server);
  t.true(net.world.runUntil(() => client.state === "closed", 10_000));
  t.deepEqual(client.answers, ANSWERS);
  const protocols = new Set(net.wires[0].seen.map(({ packet }) => packet?.protocol).filter((one) => one !== undefined));
  t.deepEqual([...protocols], [17]);
});

test("a full-size first datagram crosses in fabric fragments, its answer too, over either family", (t) => {
  for (const wire of [4, 6] as const) {
    const net = chain(6, [wire]);
    const payload = "x".repeat(1452);
    net.server.onPacket = udpServer(net.world, net.server);
    const ends = { source: LAN[6][1], destination: FAR[6][1], sourcePort: 40_000, destinationPort: 7 };
    net.world.send(net.client, udpFrame(ends, payload));
    net.world.run(20);
    t.deepEqual(
      net.client.received.filter(({ protocol }) => protocol === 17).map(({ text }) => text),
      [payload.toUpperCase()],
    );
    t.true(net.wires[0].seen.every(({ frame }) => frame.length <= 1514));
  }
});

const REQUESTS = Array.from({ length: 20 }, (_, n) => `request ${n} `.repeat(1 + 4 * n));
const ANSWERS = REQUESTS.map((request) => request.toUpperCase());

function right(
  t: ExecutionContext,
  { routers, wires, lan, far }: Net,
  families: readonly Family[],
  hosts: Family,
): void {
  for (const router of routers) t.deepEqual(dropsOf(router), {});
  const etherTypes = (link: Link) =>
    new Set(link.seen.map(({ frame }) => (frame[12] << 8) | frame[13]).filter((type) => type !== 0x0806));
  for (const [n, link] of [...wires, lan, far].entries()) {
    t.deepEqual([...etherTypes(link)], [(families[n] ?? hosts) === 6 ? 0x86dd : 0x0800], link.name);
    const packets = link.seen
      .map(({ packet }) => packet)
      .filter((packet): packet is SeenPacket => packet !== undefined);
    t.true(packets.length > 0);
    for (const packet of packets) t.true(packet.ipChecksumRight && packet.l4ChecksumRight, link.name);
  }
}

const SHAPES: [hosts: Family, wires: Family[]][] = [
  [6, [6]],
  [6, [4]],
  [4, [6]],
  [6, [6, 6, 6]],
  [4, [6, 4, 6]],
  [6, [4, 6, 4]],
];

for (const [hosts, wires] of SHAPES) {
  for (const sealed of [false, true]) {
    const what = `IPv${hosts} over ${wires.map((family) => `IPv${family}`).join(", ")}${sealed ? ", signed and encrypted" : ""}`;
    const ends = { source: LAN[hosts][1], destination: FAR[hosts][1], sourcePort: 40_000, destinationPort: 7 };

    test(`TCP: ${what}`, (t) => {
      const net = chain(hosts, wires, sealed);
      const client = new TcpClient(net.world, net.client, ends, REQUESTS, 10);
      net.client.onPacket = (packet) => client.receive(packet);
      net.server.onPacket = tcpServer(net.world, net.server);
      t.true(net.world.runUntil(() => client.state === "closed", 10_000));
      t.deepEqual(client.answers, ANSWERS);
      right(t, net, wires, hosts);
    });

    test(`UDP: ${what}`, (t) => {
      const net = chain(hosts, wires, sealed);
      const client = new UdpClient(net.world, net.client, ends, REQUESTS, 10);
      net.client.onPacket = (packet) => client.receive(packet);
      net.server.onPacket = udpServer(net.world, net.server);
      t.true(net.world.runUntil(() => client.answers.length === REQUESTS.length, 10_000));
      t.deepEqual(client.answers, ANSWERS);
      right(t, net, wires, hosts);
    });

    test(`ICMP echo: ${what}`, (t) => {
      const net = chain(hosts, wires, sealed);
      const { client, server, world } = net;
      server.onPacket = (packet) => {
        if (packet.icmpType === 8)
          world.send(server, echoFrame(server.address, client.address, 77, 1, packet.text, true));
      };
      for (let n = 0; n < 10; n++) {
        world.send(client, echoFrame(client.address, server.address, 77, n, `ping ${n}`));
        world.run(20);
      }
      t.deepEqual(
        client.received.map(({ text }) => text),
        Array.from({ length: 10 }, (_, n) => `ping ${n}`),
      );
      right(t, net, wires, hosts);
    });
  }
}

const WAYS: [hosts: Family, wires: Family[], said: string[]][] = [
  [4, [4, 4], ["10.1.0.1", "198.18.0.2", "198.18.1.2"]],
  [6, [4, 6], ["2001:db8:1::1", "64:ff9b::c612:2", "2001:db8:ff1::2"]],
  [4, [6, 4], ["10.1.0.1", "10.1.0.1", "198.18.1.2"]],
  [6, [6, 6], ["2001:db8:1::1", "2001:db8:ff0::2", "2001:db8:ff1::2"]],
];
for (const [hosts, wires, said] of WAYS) {
  for (const sealed of [false, true]) {
    const title = `IPv${hosts} over ${wires.map((wire) => `IPv${wire}`).join(" and ")}${sealed ? ", sealed" : ""}`;
    for (const kind of ["pings", "datagrams"]) {
      test(`${title}: each router tells of ${kind} whose hop limit ends there, all sent at once`, (t) => {
        const { world, client, server, routers } = chain(hosts, wires, sealed);
        const [source, destination] = [LAN[hosts][1], FAR[hosts][1]];
        const told: string[] = [];
        const answered: string[] = [];
        client.onPacket = (packet) => {
          if (packet.icmpType === 11) told.push(packet.source);
          else answered.push(packet.source);
        };
        server.onPacket = (packet) => {
          if (kind === "pings") world.send(server, echoFrame(destination, source, 77, packet.payload[3], "x", true));
        };
        for (let n = 0; n < 10; n++) {
          const hopLimit = 1 + (n >> 1);
          const ends = { source, destination, sourcePort: 40_000 + n, destinationPort: 33_434 + n };
          world.send(
            client,
            kind === "pings"
              ? echoFrame(source, destination, 77, n, "traceroute", false, hopLimit)
              : udpFrame(ends, "traceroute", hopLimit),
          );
        }
        world.run(500);
        t.deepEqual(
          told.sort(),
          said.flatMap((router) => [router, router]).sort(),
          `${JSON.stringify(routers.map(dropsOf))}\n${world.diagram()}`,
        );
      });
    }
  }
}
