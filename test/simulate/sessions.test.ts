import test from "ava";
import { TcpClient, tcpServer, UdpClient, udpServer } from "./endpoints.ts";
import { echoFrame } from "./packets.ts";
import { CLIENT, SERVER, type TwoRouters, threeRouters, twoRouters } from "./topologies.ts";

const ENDS = { source: CLIENT, destination: SERVER, sourcePort: 40000, destinationPort: 7 };

for (const [name, build] of [
  ["two routers", twoRouters],
  ["a chain of three", threeRouters],
] as const) {
  test(`UDP requests are answered through ${name}, and metadata is only in the first packets`, (t) => {
    const net: TwoRouters = build();
    const client = new UdpClient(net.world, net.client, ENDS, ["one", "two", "three"]);
    net.client.onPacket = (packet) => client.receive(packet);
    net.server.onPacket = udpServer(net.world, net.server);
    t.true(
      net.world.runUntil(() => client.answers.length === 3, 3000),
      net.world.diagram(),
    );
    const waypoint = net.wan.seen.flatMap(({ packet }) => (packet === undefined ? [] : [packet]));
    t.deepEqual(
      waypoint.map(({ hasMetadata }) => hasMetadata),
      [true, true, false, false, false, false],
      net.world.diagram(),
    );
    t.true(waypoint.every(({ checksumsRight }) => checksumsRight));
  });

  test(`a TCP conversation runs through ${name}`, (t) => {
    const net: TwoRouters = build();
    const client = new TcpClient(net.world, net.client, ENDS, ["hello"]);
    net.client.onPacket = (packet) => client.receive(packet);
    net.server.onPacket = tcpServer(net.world, net.server);
    t.true(
      net.world.runUntil(() => client.state === "closed", 3000),
      net.world.diagram(),
    );
    t.deepEqual(client.answers, ["HELLO"]);
    net.world.skip(30_000, 100);
    t.is(net.west.sessions.table.count, 0);
    t.is(net.east.sessions.table.count, 0);
  });

  test(`ping runs through ${name}, carried in UDP between routers`, (t) => {
    const net: TwoRouters = build();
    net.server.onPacket = (packet) => {
      if (packet.icmpType === 8)
        net.world.send(net.server, echoFrame(SERVER, CLIENT, 77, packet.sequence, packet.payload, true));
    };
    for (let n = 0; n < 4; n++) {
      net.world.send(net.client, echoFrame(CLIENT, SERVER, 77, n, "0123456789"));
      net.world.run(10);
    }
    t.is(
      net.client.received.filter(({ icmpType, checksumsRight }) => icmpType === 0 && checksumsRight).length,
      4,
      net.world.diagram(),
    );
    t.true(net.wan.seen.every(({ packet }) => packet === undefined || packet.protocol === 17));
  });
}
