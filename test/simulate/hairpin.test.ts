// Hosts behind peers that reach each other at their outside addresses (RFC 4787, REQ-9; RFC 5382, REQ-8; RFC 5508, REQ-7): an inward
// session goes along the one that the host has begun (lib/session/inward.ts).

import test from "ava";
import { parseAddress } from "../../lib/control/address-text.ts";
import { RouterRestorer, saveRouter } from "../../lib/control/router-state.ts";
import { snapshot } from "../../lib/control/snapshot.ts";
import { ACK, SYN } from "../../lib/wire/tcp.ts";
import { TcpClient, tcpServer } from "./endpoints.ts";
import {
  edgeBehindMiddle,
  edgeBehindPeer,
  FAR,
  identifierOf,
  mappings,
  type NatNet,
  type NatOptions,
  NEAR,
  NEIGHBOR,
  OUTSIDE,
  overlapping,
  ping,
  sourceOf,
} from "./nat-edges.ts";
import { echoFrame, icmpError, type SeenPacket, swapEnds, tcpFrame, udpFrame } from "./packets.ts";
import { AES_256, SIGNED } from "./protection.ts";
import { CLIENT, dropsOf, packetsOn, sessionRows } from "./topologies.ts";
import { type SimHost, World } from "./world.ts";

/** Where a host is: which one, and its address. */
interface Place {
  readonly host: SimHost;
  readonly address: string;
}

interface Pair extends NatNet {
  readonly sender: Place;
  readonly receiver: Place;
}

/** Two hosts of one network. */
const together = (make: (options: NatOptions) => NatNet) => (options: NatOptions) => {
  const net = make(options);
  const [sender, receiver] = [NEIGHBOR, CLIENT].map((address) => ({ host: net.client, address }));
  return { ...net, sender, receiver };
};

/** Two hosts of the same address, behind one peer each. */
function apart(options: NatOptions): Pair {
  const net = overlapping(options);
  return {
    ...net,
    sender: { host: net.other, address: CLIENT },
    receiver: { host: net.client, address: CLIENT },
  };
}

const NETS: [string, (options: NatOptions) => Pair, NatOptions][] = [
  ["behind one peer", together(edgeBehindPeer), {}],
  ["behind one peer, signed", together(edgeBehindPeer), { security: SIGNED }],
  ["behind one peer, encrypted", together(edgeBehindPeer), { security: SIGNED, payload: AES_256 }],
  ["behind two peers", apart, {}],
  ["behind two peers, encrypted", apart, { security: SIGNED, payload: AES_256 }],
  ["behind a router in between", together(edgeBehindMiddle), {}],
];

const PORT = 40_000;

/** Let both hosts send to the Internet, so that each has an address and port there; returns what came of it. */
function begin(net: Pair, protocol = 17): { sender: SeenPacket; receiver: SeenPacket } {
  const [sender, receiver] = [net.sender, net.receiver].map(({ host, address }) => {
    const ends = { source: address, sourcePort: PORT, destination: FAR, destinationPort: 80 };
    const before = net.outside.received.length;
    net.world.send(host, packet(ends, SYN, "out", protocol));
    net.world.run(5);
    return net.outside.received[before];
  });
  return { sender, receiver };
}

type Ends = Parameters<typeof udpFrame>[0];

function packet(ends: Ends, flags: number, text: string, protocol = 17): Uint8Array {
  if (protocol === 17) return udpFrame(ends, text);
  return tcpFrame(ends, { flags, sequence: 1, acknowledgment: 0 });
}

/** Let the sender send to an address and port outside; returns what the receiver got of it. */
function sendTo(net: Pair, destinationPort: number, text = "hello", protocol = 17): SeenPacket | undefined {
  const before = net.receiver.host.received.length;
  const ends = { source: net.sender.address, sourcePort: PORT, destination: OUTSIDE, destinationPort };
  net.world.send(net.sender.host, packet(ends, SYN, text, protocol));
  net.world.run(5);
  return net.receiver.host.received[before];
}

const routersOf = (net: NatNet) => [...net.world.routers.values()];

function isQuiet(net: NatNet): boolean {
  return routersOf(net).every((router) => Object.keys(dropsOf(router)).length === 0);
}

for (const [name, make, options] of NETS) {
  for (const protocol of [17, 6]) {
    test(`${name}, protocol ${protocol}: a host is reached at its outside address, by the sender's own, and answers`, (t) => {
      const net = make(options);
      const seen = begin(net, protocol);
      const there = sendTo(net, seen.receiver.sourcePort, "hello", protocol)!;
      t.deepEqual(
        [sourceOf(there), there.destination, there.destinationPort, there.checksumsRight],
        [sourceOf(seen.sender), net.receiver.address, PORT, true],
      );
      const before = net.sender.host.received.length;
      net.world.send(net.receiver.host, packet(swapEnds(there), SYN | ACK, "answer", protocol));
      net.world.run(5);
      const back = net.sender.host.received[before];
      t.deepEqual(
        [sourceOf(back), back.destination, back.destinationPort, back.checksumsRight],
        [sourceOf(seen.receiver), net.sender.address, PORT, true],
      );
      t.true(isQuiet(net));
      net.world.skip(250_000);
      t.true(routersOf(net).every((router) => sessionRows(router).length === 0));
      t.is(mappings(net.edge), 0);
    });
  }

  test(`${name}: many datagrams both ways, and the mapping lives as long as they come`, (t) => {
    const net = make(options);
    const seen = begin(net);
    for (let n = 0; n < 12; n++) {
      const there = sendTo(net, seen.receiver.sourcePort, `question ${n}`)!;
      t.deepEqual([there.text, there.checksumsRight], [`question ${n}`, true]);
      const before = net.sender.host.received.length;
      net.world.send(net.receiver.host, udpFrame(swapEnds(there), `answer ${n}`));
      net.world.run(5);
      t.is(net.sender.host.received[before].text, `answer ${n}`);
      net.world.skip(100_000);
    }
    t.is(mappings(net.edge), 2);
    t.true(isQuiet(net));
  });

  test(`${name}: a TCP conversation, and its end`, (t) => {
    const net = make(options);
    const seen = begin(net, 6);
    const ends = {
      source: net.sender.address,
      sourcePort: 40_009,
      destination: OUTSIDE,
      destinationPort: seen.receiver.sourcePort,
    };
    const serve = tcpServer(net.world, net.receiver.host);
    const tcp = new TcpClient(net.world, net.sender.host, ends, ["one", "two", "three"]);
    const take = (packet: SeenPacket) => {
      if (packet.destinationPort === PORT) serve(packet);
      else tcp.receive(packet);
    };
    net.sender.host.onPacket = take;
    net.receiver.host.onPacket = take;
    t.true(net.world.runUntil(() => tcp.state === "closed", 3000));
    t.deepEqual(tcp.answers, ["ONE", "TWO", "THREE"]);
    t.true(isQuiet(net));
    net.world.skip(250_000);
    t.is(mappings(net.edge), 0);
    t.true(routersOf(net).every((router) => sessionRows(router).length === 0));
  });

  test(`${name}: an error comes from the outside address, and quotes what the sender sent`, (t) => {
    const net = make(options);
    const seen = begin(net);
    const there = sendTo(net, seen.receiver.sourcePort)!;
    const before = net.sender.host.received.length;
    net.world.send(net.receiver.host, icmpError(net.receiver.address, 3, 3, there.frame));
    net.world.run(5);
    const error = net.sender.host.received[before];
    t.deepEqual(
      [error.icmpType, error.source, error.destination, error.checksumsRight],
      [3, OUTSIDE, net.sender.address, true],
    );
    const quoted = Buffer.from(error.payload.subarray(12, 28)).toString("hex");
    const sent = udpFrame(
      {
        source: net.sender.address,
        sourcePort: PORT,
        destination: OUTSIDE,
        destinationPort: seen.receiver.sourcePort,
      },
      "hello",
    );
    t.is(quoted, Buffer.from(sent.subarray(26, 42)).toString("hex"));
    t.true(isQuiet(net));
  });

  test(`${name}: both begin at once, and each is heard`, (t) => {
    const net = make(options);
    const seen = begin(net);
    const send = ({ host, address }: Place, to: SeenPacket, text: string) =>
      net.world.send(
        host,
        udpFrame({ source: address, sourcePort: PORT, destination: OUTSIDE, destinationPort: to.sourcePort }, text),
      );
    for (let n = 0; n < 3; n++) {
      send(net.sender, seen.receiver, `from sender ${n}`);
      send(net.receiver, seen.sender, `from receiver ${n}`);
      net.world.run(5);
    }
    const texts = new Set([...net.sender.host.received, ...net.receiver.host.received].map(({ text }) => text));
    // The first of each may be lost where they meet.
    for (const text of ["from sender 1", "from receiver 1", "from sender 2", "from receiver 2"])
      t.true(texts.has(text), text);
  });

  test(`${name}: other processes go on with it, at every router`, (t) => {
    const net = make(options);
    const seen = begin(net);
    const there = sendTo(net, seen.receiver.sourcePort)!;
    for (const router of [...net.world.routers.keys()]) {
      const pieces = [...saveRouter(net.world.routers.get(router)!)].map((piece) => piece.slice());
      const restorer = new RouterRestorer(net.world.restart(router));
      for (const piece of pieces) restorer.take(piece);
      restorer.end();
    }
    t.is(sendTo(net, seen.receiver.sourcePort, "again")?.text, "again");
    const before = net.sender.host.received.length;
    net.world.send(net.receiver.host, udpFrame(swapEnds(there), "answer"));
    net.world.run(5);
    t.is(net.sender.host.received[before].text, "answer");
    net.world.skip(400_000);
    const edge = net.world.routers.get("edge")!;
    t.deepEqual([mappings(edge), edge.sessions.table.count, edge.sessions.table.inward.size], [0, 0, 0]);
  });
}

test("the sender is told by the edge what fits on the way to the host, and what does not comes in pieces until then", (t) => {
  const net = apart({ fabricMtu: 1000 });
  const seen = begin(net);
  // Answered, so that nothing of a handshake is on what follows.
  for (let n = 0; n < 2; n++)
    net.world.send(net.receiver.host, udpFrame(swapEnds(sendTo(net, seen.receiver.sourcePort)!), "answer"));
  net.world.run(5);
  const before = net.sender.host.received.length;
  t.is(sendTo(net, seen.receiver.sourcePort, "x".repeat(1200))?.text, "x".repeat(1200));
  const [error] = net.sender.host.received.slice(before);
  t.deepEqual([error.icmpType, error.frame[14 + 20 + 1], error.checksumsRight], [3, 4, true]);
  t.is(Buffer.from(error.frame).readUInt16BE(14 + 20 + 6), 1000);
});

test("another tenant's host is out of reach", (t) => {
  const net = together(edgeBehindPeer)({});
  const seen = begin(net);
  const { nat, table } = net.edge.sessions;
  // The receiver's session and mapping are another tenant's.
  const mapping = nat!.table.withOutside(parseAddress(OUTSIDE), seen.receiver.sourcePort, 17);
  table.tenant[nat!.sessions.newest(mapping)] = 1;
  t.is(sendTo(net, seen.receiver.sourcePort + 1000), undefined);
  t.is(dropsOf(net.edge)["nat-unmapped"], 1);
});

test("the host's router takes it only along a session of that very host, port and tenant, by the peer that this one goes to", (t) => {
  for (const [what, spoil] of [
    ["another port", (table: Table, row: number) => (table.context[row * 4 + 2] ^= 1 << 16)],
    ["another host", (table: Table, row: number) => (table.context[row * 4] ^= 1)],
    ["another protocol", (table: Table, row: number) => (table.context[row * 4 + 3] = 6)],
    ["another tenant", (table: Table, row: number) => (table.tenant[row] = 1)],
    ["another peer", (table: Table, row: number) => (table.downstream.path[row] = -1)],
  ] as const) {
    const net = apart({});
    const seen = begin(net);
    const west = net.world.routers.get("west")!;
    const [own] = west.sessions.rows();
    spoil(west.sessions.table, own);
    t.is(sendTo(net, seen.receiver.sourcePort), undefined, what);
    t.deepEqual(dropsOf(west), { "nat-unmapped": 1 }, what);
  }
});

type Table = NatNet["edge"]["sessions"]["table"];

test("a ping to an outside address of a host behind a peer is dropped: its identifier would be two at once", (t) => {
  const net = together(edgeBehindPeer)({});
  const identifier = identifierOf(ping(net, 7)!);
  net.world.send(net.client, echoFrame(NEIGHBOR, OUTSIDE, identifier, 1, "ping"));
  net.world.run(5);
  t.is(net.client.received.length, 0);
  t.is(dropsOf(net.edge)["nat-unmapped"], 1);
});

test("show sessions has both sessions, and show neighbors nothing of the mirror", (t) => {
  const net = together(edgeBehindPeer)({});
  const seen = begin(net);
  sendTo(net, seen.receiver.sourcePort);
  const { sessions } = snapshot(net.edge, "sessions") as { sessions: { source: string; destination: string }[] };
  const ends = sessions.map(({ source, destination }) => `${source} > ${destination}`);
  t.true(ends.includes(`${NEIGHBOR}:${PORT} > ${OUTSIDE}:${seen.receiver.sourcePort}`));
  t.true(ends.includes(`${sourceOf(seen.sender)} > ${CLIENT}:${PORT}`));
  const { neighbors } = snapshot(net.edge, "neighbors") as { neighbors: { interface: string }[] };
  t.deepEqual(
    neighbors.map(({ interface: at }) => at).filter((at) => !["wan0", "out0"].includes(at)),
    [],
  );
});

for (const options of [{}, { security: SIGNED, payload: AES_256 }]) {
  test(`from a network of the edge to a host behind a peer, and back, ${Object.keys(options).join(" ")}`, (t) => {
    const { near, ...net } = edgeBehindPeer(options);
    const places = [
      { host: near, address: NEAR },
      { host: net.client, address: CLIENT },
    ];
    for (const [sender, receiver] of [places, places.toReversed()]) {
      const pair = { ...net, sender, receiver };
      const seen = begin(pair);
      const there = sendTo(pair, seen.receiver.sourcePort)!;
      t.deepEqual([sourceOf(there), there.destination], [sourceOf(seen.sender), receiver.address]);
      const before = sender.host.received.length;
      net.world.send(receiver.host, udpFrame(swapEnds(there), "answer"));
      net.world.run(5);
      t.is(sourceOf(sender.host.received[before]), sourceOf(seen.receiver));
      t.true(isQuiet(net));
      net.world.skip(250_000);
      t.is(mappings(net.edge), 0);
    }
  });
}

test("an inward session moves to another path of its peer, and to no other peer, when its own is down", (t) => {
  const { world, edge, client, wans } = twoPaths();
  const send = (source: string, destination: string, destinationPort: number) => {
    world.send(client, udpFrame({ source, sourcePort: PORT, destination, destinationPort }, "hello"));
    world.run(5);
  };
  send(CLIENT, FAR, 80);
  send(NEIGHBOR, FAR, 80);
  const { table, nat } = edge.sessions;
  const [receiver] = [...edge.sessions.rows()].filter((row) => table.context[row * 4] === parseAddress(CLIENT));
  const port = nat!.table.outsidePort(table.mappingOf(receiver));
  send(NEIGHBOR, OUTSIDE, port);
  const there = client.received.at(-1)!;
  world.send(client, udpFrame(swapEnds(there), "answer"));
  world.run(5);
  t.is(client.received.at(-1)!.text, "answer");
  const before = wans.map((link) => packetsOn(link).length);
  for (const router of world.routers.values()) {
    router.sessions.paths[0].up = false;
    router.sessions.flows.nextGeneration();
  }
  for (let n = 0; n < 3; n++) send(NEIGHBOR, OUTSIDE, port);
  t.is(client.received.filter(({ text }) => text === "hello").length, 4);
  t.is(packetsOn(wans[0]).length, before[0]);
  t.true(packetsOn(wans[1]).length > before[1]);
});

/** client ─ west ═ edge, over two paths. */
function twoPaths() {
  const world = new World(1);
  const text = (name: string, peer: string, end: number, other: number, more: string, route: string) => `authority: acme
router: ${name}
sessions: { max: 256 }
tenants: [{ name: corp }]
services: [{ name: internet, addresses: [0.0.0.0/0], access: [corp] }]
service-routes: [{ service: internet, ${route} }]
interfaces:
  - { name: wan0, device: wan0, addresses: [198.18.0.${end}/24] }
  - { name: wan1, device: wan1, addresses: [198.18.1.${end}/24] }
  - ${more}
peers:
  - name: ${peer}
    paths: [{ interface: wan0, address: 198.18.0.${other} }, { interface: wan1, address: 198.18.1.${other} }]
`;
  const lan = "{ name: lan0, device: lan0, addresses: [10.1.0.1/24], tenant: corp }";
  const out = `{ name: out0, device: out0, addresses: [${OUTSIDE}/24], gateway: 192.0.2.254 }`;
  world.addRouter("west", text("west", "edge", 1, 2, lan, "peer: edge"));
  const edge = world.addRouter("edge", text("edge", "west", 2, 1, out, "interface: out0, source-nat: interface"));
  const client = world.addHost("client", CLIENT, "10.1.0.1");
  client.others = [NEIGHBOR];
  world.addHost("outside", "192.0.2.254", OUTSIDE);
  world.join("lan", "client", "west.lan0");
  world.join("out", "edge.out0", "outside");
  const wans = [world.join("wan0", "west.wan0", "edge.wan0"), world.join("wan1", "west.wan1", "edge.wan1")];
  return { world, edge, client, wans };
}
