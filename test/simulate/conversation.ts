// A conversation of every kind through whole routers: what the tests of keys let two hosts say to each other.

import { TcpClient, tcpServer, UdpClient, udpServer } from "./endpoints.ts";
import { echoFrame, type SeenPacket, swapEnds, udpFrame } from "./packets.ts";
import { ENDS } from "./peer.ts";
import { CLIENT, dropsOf, SERVER, type TwoRouters } from "./topologies.ts";

export const REQUESTS = [
  "a secret of the client",
  "and one more",
  "x",
  "the last of them, which is longer than a block",
];
export const ANSWERS = REQUESTS.map((request) => request.toUpperCase());
export const ECHO = "sixteen and more bytes of an echo";

export const noDrops = (net: TwoRouters) =>
  [...net.world.routers.values()].map(dropsOf).every((d) => Object.keys(d).length === 0);

/** A TCP and a UDP conversation and a ping, all at once. Returns whether all of it came through byte by byte. */
export function converse(net: TwoRouters, limitMs = 3000): { done: boolean; answers: readonly string[][] } {
  const tcp = new TcpClient(net.world, net.client, ENDS, REQUESTS);
  const udp = new UdpClient(net.world, net.client, ENDS, [...REQUESTS]);
  const echoes: string[] = [];
  net.client.onPacket = (packet) => {
    tcp.receive(packet);
    udp.receive(packet);
    if (packet.protocol === 1 && packet.icmpType === 0) echoes.push(packet.text);
  };
  const serveTcp = tcpServer(net.world, net.server);
  const serveUdp = udpServer(net.world, net.server);
  net.server.onPacket = (packet) => {
    serveTcp(packet);
    serveUdp(packet);
    if (packet.protocol === 1 && packet.icmpType === 8)
      net.world.send(net.server, echoFrame(SERVER, CLIENT, 9, 1, packet.payload, true));
  };
  net.world.send(net.client, echoFrame(CLIENT, SERVER, 9, 1, ECHO));
  const done = net.world.runUntil(
    () => tcp.state === "closed" && udp.answers.length === REQUESTS.length && echoes.length === 1,
    limitMs,
  );
  return { done, answers: [[...tcp.answers], [...udp.answers], echoes] };
}

export const ALL = [ANSWERS, ANSWERS, [ECHO]];

/** A UDP session, established both ways; `say` sends one more datagram and returns what the server got of it. */
export function established(net: TwoRouters): (payload: Uint8Array | string) => SeenPacket | undefined {
  net.server.onPacket = (packet) => {
    if (packet.protocol === 17) net.world.send(net.server, udpFrame(swapEnds(packet), packet.payload));
  };
  const say = (payload: Uint8Array | string) => {
    const before = net.server.received.length;
    net.world.send(net.client, udpFrame(ENDS, payload));
    net.world.run(2);
    return net.server.received[before];
  };
  for (const text of ["lead", "second", "third"]) say(text);
  return say;
}
