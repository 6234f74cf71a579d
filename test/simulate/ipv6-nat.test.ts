// Source NAT of IPv6: what leaves by an IPv6 interface has one of its addresses, or one of a pool.

import test from "ava";
import { RouterRestorer, saveRouter } from "../../lib/control/router-state.ts";
import { snapshot } from "../../lib/control/snapshot.ts";
import type { Router } from "../../lib/router.ts";
import { TcpClient, tcpServer } from "./endpoints.ts";
import { identifierOf, isNatPort, mappings } from "./nat-edges.ts";
import { echoFrame, icmpError, type SeenPacket, swapEnds, udpFrame } from "./packets.ts";
import { SIGNED } from "./protection.ts";
import { dropsOf } from "./topologies.ts";
import { type SimHost, World } from "./world.ts";

const CLIENT = "2001:db8:1::2";
const NEIGHBOR = "2001:db8:1::3";
const OUTSIDE = "2001:db8:9::1";
const GATEWAY = "2001:db8:9::fe";
const FAR = "2001:db8:77::9";
const FARTHER = "2001:db8:78::9";

interface Net {
  readonly world: World;
  readonly client: SimHost;
  readonly outside: SimHost;
  readonly edge: Router;
}

const EDGE = (nat: string) => `sessions: { max: 256 }
tenants: [{ name: corp }]
services: [{ name: internet, addresses: ["::/0"], access: [corp] }]
service-routes: [{ service: internet, interface: out0, ${nat} }]
`;
const OUT = `{ name: out0, device: out0, addresses: ["${OUTSIDE}/64"], gateway: "${GATEWAY}" }`;
const LAN = '{ name: lan0, device: lan0, addresses: ["2001:db8:1::1/64"], tenant: corp }';

function alone(nat = "source-nat: interface", asksFor = OUTSIDE): Net {
  const world = new World();
  const edge = world.addRouter("edge", `authority: acme\nrouter: edge\n${EDGE(nat)}interfaces: [${LAN}, ${OUT}]\n`);
  return joined(world, edge, "edge", asksFor);
}

/** client ─ west ═ edge ─ outside, over paths of either family. */
const behindPeer =
  (west: string, east: string, length: number, security = "") =>
  (nat = "source-nat: interface"): Net => {
    const world = new World();
    const wan = (address: string) => `{ name: wan0, device: wan0, addresses: ["${address}/${length}"] }`;
    const peer = (name: string, address: string) =>
      `peers: [{ name: ${name}, paths: [{ interface: wan0, address: "${address}" }]${security === "" ? "" : ", security: fabric"} }]
${security === "" ? "" : `security-policies: [{ name: fabric, ${security} }]`}\n`;
    const text = EDGE("peer: edge").replace("interface: out0, ", "");
    world.addRouter(
      "west",
      `authority: acme\nrouter: west\n${text}interfaces: [${LAN}, ${wan(west)}]\n${peer("edge", east)}`,
    );
    const edge = world.addRouter(
      "edge",
      `authority: acme\nrouter: edge\n${EDGE(nat)}interfaces: [${wan(east)}, ${OUT}]\n${peer("west", west)}`,
    );
    world.join("wan", "west.wan0", "edge.wan0");
    return joined(world, edge, "west", OUTSIDE);
  };

function joined(world: World, edge: Router, near: string, asksFor: string): Net {
  const client = world.addHost("client", CLIENT, "2001:db8:1::1");
  client.others = [NEIGHBOR];
  const outside = world.addHost("outside", GATEWAY, asksFor);
  world.join("lan", "client", `${near}.lan0`);
  world.join("out", "edge.out0", "outside");
  return { world, client, outside, edge };
}

const NETS: [string, (nat?: string) => Net][] = [
  ["one router", alone],
  ["over IPv4", behindPeer("198.18.0.1", "198.18.0.2", 24)],
  ["over IPv6", behindPeer("2001:db8:ff::1", "2001:db8:ff::2", 64)],
  ["over IPv6, signed", behindPeer("2001:db8:ff::1", "2001:db8:ff::2", 64, SIGNED)],
];

function sendOut(net: Net, { source = CLIENT, sourcePort = 40_000, destination = FAR, destinationPort = 53 } = {}) {
  const before = net.outside.received.length;
  net.world.send(net.client, udpFrame({ source, sourcePort, destination, destinationPort }, "question"));
  net.world.run(5);
  return net.outside.received.slice(before).find(({ protocol }) => protocol === 17);
}

function answer(net: Net, to: SeenPacket): SeenPacket | undefined {
  const before = net.client.received.length;
  net.world.send(net.outside, udpFrame(swapEnds(to), "answer"));
  net.world.run(5);
  return net.client.received[before];
}

const errorsAt = (packets: readonly SeenPacket[]) =>
  packets.filter(({ icmpType }) => icmpType === 3 || icmpType === 11);

for (const [name, make] of NETS) {
  test(`${name}: a datagram leaves with the edge's address, one port for every destination, and is answered`, (t) => {
    const net = make();
    const out = sendOut(net)!;
    t.deepEqual([out.source, out.destination, out.checksumsRight], [OUTSIDE, FAR, true]);
    t.true(isNatPort(out.sourcePort, 40_000));
    t.is(sendOut(net, { destination: FARTHER })!.sourcePort, out.sourcePort);
    t.not(sendOut(net, { source: NEIGHBOR })!.sourcePort, out.sourcePort);
    for (let n = 0; n < 3; n++) {
      const back = answer(net, sendOut(net)!)!;
      t.deepEqual(
        [back.source, back.sourcePort, back.destination, back.destinationPort, back.checksumsRight],
        [FAR, 53, CLIENT, 40_000, true],
      );
    }
    t.deepEqual(dropsOf(net.edge), {});
    net.world.skip(250_000);
    t.is(mappings(net.edge), 0);
  });

  test(`${name}: TCP carries a conversation`, (t) => {
    const net = make();
    const ends = { source: CLIENT, destination: FAR, sourcePort: 40_001, destinationPort: 80 };
    const tcp = new TcpClient(net.world, net.client, ends, ["one", "two"]);
    net.client.onPacket = (packet) => tcp.receive(packet);
    net.outside.onPacket = tcpServer(net.world, net.outside);
    t.true(net.world.runUntil(() => tcp.state === "closed", 3000));
    t.deepEqual(tcp.answers, ["ONE", "TWO"]);
    t.true(net.outside.received.every(({ source, protocol }) => protocol !== 6 || source === OUTSIDE));
    t.deepEqual(dropsOf(net.edge), {});
  });

  test(`${name}: a ping leaves with another identifier, and its reply has the host's`, (t) => {
    const net = make();
    net.world.send(net.client, echoFrame(CLIENT, FAR, 77, 1, "ping"));
    net.world.run(5);
    // Hosts of the simulation see ICMPv6 in the one form inside (lib/ipv6).
    const out = net.outside.received.find(({ icmpType }) => icmpType === 8)!;
    t.deepEqual([out.source, out.checksumsRight, isNatPort(identifierOf(out), 77)], [OUTSIDE, true, true]);
    net.world.send(net.outside, echoFrame(FAR, OUTSIDE, identifierOf(out), 1, "ping", true));
    net.world.run(5);
    const back = net.client.received.find(({ icmpType }) => icmpType === 0)!;
    t.deepEqual([back.source, back.destination, identifierOf(back), back.checksumsRight], [FAR, CLIENT, 77, true]);
  });

  test(`${name}: errors come from the outside address, and quote what was sent`, (t) => {
    const net = make();
    const out = sendOut(net)!;
    const back = answer(net, out)!;
    net.world.send(net.client, icmpError(CLIENT, 3, 3, back.frame));
    net.world.send(net.outside, icmpError(FARTHER, 11, 0, out.frame));
    net.world.run(5);
    const [[outer], [inner]] = [errorsAt(net.outside.received), errorsAt(net.client.received)];
    t.deepEqual([outer.source, outer.destination, outer.checksumsRight], [OUTSIDE, FAR, true]);
    t.deepEqual([inner.source, inner.destination, inner.checksumsRight], [FARTHER, CLIENT, true]);
    const quoted = ({ payload }: SeenPacket) => Buffer.from(payload.subarray(12, 28)).toString("hex");
    const header = (frame: Uint8Array) => Buffer.from(frame.subarray(26, 42)).toString("hex");
    t.is(quoted(outer), header(udpFrame(swapEnds(out), "answer")));
    t.is(
      quoted(inner),
      header(udpFrame({ source: CLIENT, sourcePort: 40_000, destination: FAR, destinationPort: 53 }, "question")),
    );
  });

  test(`${name}: hosts reach each other at their outside addresses`, (t) => {
    const net = make();
    const [one, two] = [CLIENT, NEIGHBOR].map((source) => sendOut(net, { source })!);
    const ends = { source: NEIGHBOR, sourcePort: 40_000, destination: OUTSIDE, destinationPort: one.sourcePort };
    net.world.send(net.client, udpFrame(ends, "hello"));
    net.world.run(5);
    const there = net.client.received.at(-1)!;
    t.deepEqual(
      [there.source, there.sourcePort, there.destination, there.text, there.checksumsRight],
      [OUTSIDE, two.sourcePort, CLIENT, "hello", true],
    );
    net.world.send(net.client, udpFrame(swapEnds(there), "answer"));
    net.world.run(5);
    const back = net.client.received.at(-1)!;
    t.deepEqual(
      [back.source, back.sourcePort, back.destination, back.text],
      [OUTSIDE, one.sourcePort, NEIGHBOR, "answer"],
    );
    t.deepEqual(dropsOf(net.edge), {});
  });

  test(`${name}: another process goes on with sessions and their ports`, (t) => {
    const net = make();
    const out = sendOut(net)!;
    const pieces = [...saveRouter(net.edge)].map((piece) => piece.slice());
    const edge = net.world.restart("edge");
    const restorer = new RouterRestorer(edge);
    for (const piece of pieces) restorer.take(piece);
    restorer.end();
    t.is(answer(net, out)?.destinationPort, 40_000);
    t.is(sendOut(net, { destination: FARTHER })!.sourcePort, out.sourcePort);
  });
}

test("addresses of a pool on the interface's network are answered for", (t) => {
  const net = alone('source-nat-pool: ["2001:db8:9::77"]', "2001:db8:9::77");
  const out = sendOut(net)!;
  t.is(out.source, "2001:db8:9::77");
  t.is(answer(net, out)?.destinationPort, 40_000);
});

test("show sessions has the source as it leaves", (t) => {
  const net = alone();
  const out = sendOut(net)!;
  const { sessions } = snapshot(net.edge, "sessions") as { sessions: { sourceNat: string | null }[] };
  t.is(sessions[0].sourceNat, `[${OUTSIDE}]:${out.sourcePort}`);
});
