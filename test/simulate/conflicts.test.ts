// Whose session it is: what takes a session away, and what must leave it alone.

import test from "ava";
import type { Router } from "../../lib/router.ts";
import { SIDE_ESTABLISHED, SIDE_SENDING } from "../../lib/table/session-table.ts";
import { ACK, FIN, PSH, RST, SYN } from "../../lib/wire/tcp.ts";
import { concat, metadataOf, swapEnds, tcpFrame, udpFrame } from "./packets.ts";
import { controlMessage, ENDS, forwardMetadata, reverseMetadata, TO_EAST, TO_WEST, UUID } from "./peer.ts";
import {
  CLIENT,
  dropsOf,
  EAST_WAYPOINT,
  eastAlone,
  packetsOn,
  routerYaml,
  SERVER,
  sessionRows,
  twoRouters,
  WEST_WAYPOINT,
  westAlone,
} from "./topologies.ts";
import { World } from "./world.ts";

const REPLY = swapEnds(ENDS);
const OTHER_UUID = "11111111-2222-4333-8444-555555555555";
const texts = (packets: readonly { text: string }[]) => packets.map(({ text }) => text);

/** client (lan0), other (lan1) and server (lan2) on one router, without peers. */
function oneRouter(services: string, routes: string) {
  const world = new World();
  const router = world.addRouter(
    "one",
    `authority: acme
router: one
sessions: { max: 64 }
limits: { fabric-chains: 1, neighbors: 64 }
interfaces:
  - { name: lan0, device: lan0, addresses: [10.1.0.1/24], tenant: corp }
  - { name: lan1, device: lan1, addresses: [10.3.0.1/24], gateway: 10.3.0.254, tenant: corp }
  - { name: lan2, device: lan2, addresses: [10.2.0.1/24] }
tenants: [{ name: corp }]
services:
${services}
service-routes:
${routes}
`,
  );
  const client = world.addHost("client", CLIENT, "10.1.0.1");
  const other = world.addHost("other", "10.3.0.2", "10.3.0.1");
  const server = world.addHost("server", SERVER, "10.2.0.1");
  world.join("lan", "client", "one.lan0");
  const aside = world.join("aside", "other", "one.lan1");
  world.join("far", "one.lan2", "server");
  return { world, router, client, other, server, aside };
}

const PLAIN = [
  "  - { name: app, addresses: [10.2.0.0/24], access: [corp] }",
  "  - { service: app, interface: lan2 }",
] as const;
const TWO_NAMES = [
  `  - { name: one, addresses: [10.9.0.1], access: [corp] }
  - { name: two, addresses: [10.9.0.2], access: [corp] }`,
  `  - { service: one, target: "10.2.0.2:7" }
  - { service: two, target: "10.2.0.2:7" }`,
] as const;

for (const clientFirst of [true, false]) {
  test(`a host cannot get ${clientFirst ? "at" : "ahead of"} a session by the address of a host on another interface`, (t) => {
    const net = oneRouter(...PLAIN);
    const speak = () => {
      net.world.send(net.client, udpFrame(ENDS, "mine"));
      net.world.run(2);
    };
    if (clientFirst) speak();
    net.world.send(net.other, udpFrame(ENDS, "stolen"));
    net.world.run(2);
    t.deepEqual(dropsOf(net.router), { "no-return-route": 1 });
    speak();
    net.world.send(net.server, udpFrame(REPLY, "answer"));
    net.world.run(2);
    t.deepEqual(texts(net.client.received), ["answer"]);
    t.deepEqual(net.other.received, []);
    t.deepEqual(texts(net.server.received), clientFirst ? ["mine", "mine"] : ["mine"]);
    t.deepEqual([net.router.sessions.openedTotal, net.router.sessions.closedTotal], [1, 0]);
  });
}

test("of two services with one target, equal client ports are refused to the second, and the first session lives", (t) => {
  const net = oneRouter(...TWO_NAMES);
  const send = (destination: string, sourcePort: number, text: string) => {
    net.world.send(net.client, udpFrame({ ...ENDS, destination, sourcePort }, text));
    net.world.run(2);
  };
  send("10.9.0.1", 40000, "first");
  send("10.9.0.2", 40000, "refused");
  t.deepEqual(dropsOf(net.router), { "flow-conflict": 1 });
  net.world.send(net.server, udpFrame(REPLY, "answer"));
  net.world.run(2);
  send("10.9.0.1", 40000, "first again");
  send("10.9.0.2", 40001, "another port");
  t.deepEqual(texts(net.server.received), ["first", "first again", "another port"]);
  t.deepEqual(
    net.client.received.map(({ source, text }) => [source, text]),
    [["10.9.0.1", "answer"]],
  );
  t.deepEqual([net.router.sessions.openedTotal, net.router.sessions.closedTotal], [2, 0]);
});

test("a closed TCP conversation with the same target makes room for another service's", (t) => {
  const net = oneRouter(...TWO_NAMES);
  const send = (destination: string, flags: number) => {
    net.world.send(
      net.client,
      tcpFrame({ ...ENDS, destination }, { flags, sequence: 1000, acknowledgment: flags === SYN ? 0 : 5001 }),
    );
    net.world.run(2);
  };
  const answer = (flags: number) => {
    net.world.send(net.server, tcpFrame(REPLY, { flags, sequence: 5000, acknowledgment: 1001 }));
    net.world.run(2);
  };
  send("10.9.0.1", SYN);
  answer(SYN | ACK);
  send("10.9.0.1", ACK);
  send("10.9.0.2", SYN);
  t.deepEqual(dropsOf(net.router), { "flow-conflict": 1 });
  send("10.9.0.1", FIN | ACK);
  answer(FIN | ACK);
  send("10.9.0.2", SYN);
  answer(SYN | ACK);
  t.is(net.client.received.at(-1)?.source, "10.9.0.2");
  t.deepEqual([net.router.sessions.openedTotal, net.router.sessions.closedTotal], [2, 1]);
});

for (const [name, at] of [
  ["a plain network", "one"],
  ["a peer", "east"],
] as const) {
  test(`a target's address and port stand in for the service's, both ways, for a session from ${name}`, (t) => {
    const direct = oneRouter(TWO_NAMES[0], '  - { service: one, target: "10.2.0.2:8080" }');
    const net = at === "one" ? { ...direct, destination: "10.9.0.1" } : { ...throughPeer(), destination: "10.2.0.9" };
    const ends = { ...ENDS, destination: net.destination, destinationPort: 80 };
    const inner = { ...ENDS, destination: SERVER, destinationPort: 8080 };
    for (let n = 0; n < 3; n++) {
      net.world.send(net.client, udpFrame(ends, `question ${n}`));
      net.world.run(3);
      net.world.send(net.server, udpFrame(swapEnds(inner), `answer ${n}`));
      net.world.run(3);
    }
    t.deepEqual(
      net.server.received.map(({ source, sourcePort, destination, destinationPort, text, checksumsRight }) => [
        `${source}:${sourcePort} ${destination}:${destinationPort} ${text}`,
        checksumsRight,
      ]),
      [0, 1, 2].map((n) => [`${CLIENT}:40000 ${SERVER}:8080 question ${n}`, true]),
    );
    t.deepEqual(
      net.client.received.map(({ source, sourcePort, destination, destinationPort, text, checksumsRight }) => [
        `${source}:${sourcePort} ${destination}:${destinationPort} ${text}`,
        checksumsRight,
      ]),
      [0, 1, 2].map((n) => [`${net.destination}:80 ${CLIENT}:40000 answer ${n}`, true]),
    );
  });
}

function throughPeer() {
  return twoRouters({ eastRoute: 'target: "10.2.0.2:8080"' });
}

test("two routers that send a service to each other refuse its session as a loop, and nothing is left of it", (t) => {
  const net = twoRouters({ eastRoute: "peer: west" });
  net.world.send(net.client, tcpFrame(ENDS, { flags: SYN, sequence: 1000, acknowledgment: 0 }));
  net.world.run(100);
  t.deepEqual([dropsOf(net.west), dropsOf(net.east)], [{}, { "route-loop": 1 }]);
  t.is(net.east.sessions.openedTotal, 0);
  t.is(packetsOn(net.wan).length, 1, net.world.diagram());
  net.world.skip(12_000);
  t.deepEqual(sessionRows(net.west), []);
});

// What must leave a session alone

/** East with a UDP session whose handshake is complete. */
function establishedEast() {
  const net = eastAlone();
  const fromPeer = (payload: Uint8Array | string, ttl = 64, ends = TO_EAST) => {
    net.world.send(net.peer, udpFrame(ends, payload, ttl));
    net.world.run(2);
  };
  fromPeer(concat(forwardMetadata(), "lead"));
  net.world.send(net.server, udpFrame(REPLY, "reply"));
  net.world.run(2);
  fromPeer("bare");
  return { ...net, fromPeer };
}

const counts = ({ sessions }: Router) => [sessions.openedTotal, sessions.closedTotal, sessions.evictedTotal];

test("a lead packet that is refused evicts nothing from a full session table", (t) => {
  const net = twoRouters({ limits: { sessions: 2 } });
  const syn = (sourcePort: number) => {
    net.world.send(net.client, tcpFrame({ ...ENDS, sourcePort }, { flags: SYN, sequence: 1, acknowledgment: 0 }));
    net.world.run(2);
  };
  syn(1);
  syn(2);
  net.west.sessions.paths[0].up = false;
  syn(3);
  t.deepEqual(dropsOf(net.west), { "path-down": 1 });
  t.deepEqual(counts(net.west), [2, 0, 0]);
  net.west.sessions.paths[0].up = true;
  syn(3);
  t.deepEqual(counts(net.west), [3, 1, 1]);
});

test("a peer that begins a conversation anew on another waypoint tuple replaces its own session, another conversation does not", (t) => {
  const net = establishedEast();
  const elsewhere = { ...TO_EAST, sourcePort: 16390, destinationPort: 16391 };
  net.fromPeer(concat(forwardMetadata({ uuid: OTHER_UUID }), "anew"), 64, elsewhere);
  t.deepEqual(counts(net.east), [2, 1, 0]);
  t.is(net.east.sessions.flows.count, 2);
  net.world.send(net.server, udpFrame(REPLY, "to the new"));
  net.world.run(2);
  const last = packetsOn(net.wan, "east").at(-1)!;
  t.deepEqual([last.text, last.destinationPort, last.metadata.get("uuid")], ["to the new", 16390, OTHER_UUID]);
});

test("a peer whose other conversation would have the same replies is refused, and the first lives", (t) => {
  const world = new World();
  const text = routerYaml({
    name: "east",
    lan: { address: "10.2.0.1" },
    wans: { wan0: [EAST_WAYPOINT, "west", WEST_WAYPOINT] },
    route: 'target: "10.2.0.2:7"',
  });
  const east = world.addRouter("east", text);
  const peer = world.addHost("peer", WEST_WAYPOINT, EAST_WAYPOINT);
  const server = world.addHost("server", SERVER, "10.2.0.1");
  world.join("wan", "peer", "east.wan0");
  world.join("far", "east.lan0", "server");
  const send = (payload: Uint8Array | string, port: number) => {
    world.send(peer, udpFrame({ ...TO_EAST, sourcePort: port }, payload));
    world.run(2);
  };
  const of = (destination: string, uuid: string) => forwardMetadata({ uuid, ends: { ...ENDS, destination } });
  send(concat(of("10.2.0.8", UUID), "first"), 16384);
  send(concat(of("10.2.0.9", OTHER_UUID), "second"), 16386);
  t.deepEqual(dropsOf(east), { "flow-conflict": 1 });
  send("first again", 16384);
  t.deepEqual(texts(server.received), ["first", "first again"]);
  t.deepEqual(counts(east), [1, 0, 0]);
});

for (const [name, attribute] of [
  ["identifier", [6, OTHER_UUID]],
  ["context", [4, { ...REPLY, sourcePort: 8, protocol: 17 }]],
] as const) {
  test(`a control message with another session's ${name} is dropped and does nothing`, (t) => {
    for (const reason of [2, 3, 6]) {
      const message = metadataOf([16, 0], [24, reason], [...attribute]);
      const east = establishedEast();
      const handshake = () => [east.east.sessions.table.upstream.state[0], east.east.sessions.table.count];
      const before = handshake();
      east.fromPeer(message);
      t.deepEqual(dropsOf(east.east), { "metadata-unexpected": 1 });
      t.deepEqual(handshake(), before);

      const west = westAlone();
      west.world.send(west.client, udpFrame(ENDS, "lead"));
      west.world.run(2);
      west.world.send(west.peer, udpFrame(TO_WEST, message));
      west.world.run(2);
      t.deepEqual(dropsOf(west.west), { "metadata-unexpected": 1 });
      t.is(west.west.sessions.table.downstream.state[0], SIDE_SENDING);
    }
  });
}

test("a packet whose time to live ends here changes no handshake and takes no session over", (t) => {
  const net = establishedEast();
  const { table } = net.east.sessions;
  t.is(table.upstream.state[0], SIDE_ESTABLISHED);
  net.fromPeer(concat(forwardMetadata(), "again"), 1);
  net.fromPeer(concat(forwardMetadata({ uuid: OTHER_UUID }), "other"), 1);
  net.fromPeer(controlMessage(6), 1);
  t.deepEqual(dropsOf(net.east), { ttl: 3 });
  t.is(table.upstream.state[0], SIDE_ESTABLISHED);
  t.deepEqual(counts(net.east), [1, 0, 0]);

  const west = westAlone();
  west.world.send(west.client, udpFrame(ENDS, "lead"));
  west.world.run(2);
  west.world.send(west.peer, udpFrame(TO_WEST, reverseMetadata(packetsOn(west.wan, "west")[0]), 1));
  west.world.run(2);
  t.is(west.west.sessions.table.downstream.state[0], SIDE_SENDING);
});

// TCP

/** An established TCP session through two routers. */
function connected() {
  const net = twoRouters();
  const client = (flags: number, text = "", damage = false) => {
    const frame = tcpFrame(ENDS, { flags, sequence: 1001, acknowledgment: 5001 }, text);
    if (damage) frame[50] ^= 1;
    net.world.send(net.client, frame);
    net.world.run(2);
  };
  const server = (flags: number, text = "", damage = false) => {
    const frame = tcpFrame(REPLY, { flags, sequence: 5001, acknowledgment: 1001 }, text);
    if (damage) frame[50] ^= 1;
    net.world.send(net.server, frame);
    net.world.run(2);
  };
  client(SYN);
  server(SYN | ACK);
  client(ACK);
  const alive = () => [net.west, net.east].map(({ sessions }) => sessions.table.count);
  return { ...net, fromClient: client, fromServer: server, alive };
}

for (const [name, flags] of [
  ["reset", RST],
  ["FIN", FIN | ACK],
] as const) {
  test(`a ${name} with a wrong checksum is passed on and changes nothing`, (t) => {
    const net = connected();
    const before = net.west.sessions.table.tcpState.slice(0, 1);
    net.fromClient(flags, "", true);
    net.fromServer(flags, "", true);
    t.deepEqual(net.west.sessions.table.tcpState.slice(0, 1), before);
    t.deepEqual(net.east.sessions.table.tcpState.slice(0, 1), before);
    const [received] = net.server.received.slice(-1);
    t.deepEqual([received.tcpFlags, received.l4ChecksumRight], [flags, false]);
    net.world.skip(60_000);
    t.deepEqual(net.alive(), [1, 1]);
  });
}

test("a SYN with a wrong checksum does not establish anything", (t) => {
  const net = twoRouters();
  net.world.send(net.client, tcpFrame(ENDS, { flags: SYN, sequence: 1000, acknowledgment: 0 }));
  net.world.run(2);
  const state = net.west.sessions.table.tcpState[0];
  const answer = tcpFrame(REPLY, { flags: SYN | ACK, sequence: 5000, acknowledgment: 1001 });
  answer[50] ^= 1;
  net.world.send(net.server, answer);
  net.world.run(2);
  t.is(net.west.sessions.table.tcpState[0], state);
});

test("a reset that both ends go on after was outside their windows: the session stays established", (t) => {
  for (const clientFirst of [true, false]) {
    const net = connected();
    const state = net.west.sessions.table.tcpState[0];
    net.fromServer(RST);
    t.not(net.west.sessions.table.tcpState[0], state);
    for (const say of clientFirst ? [net.fromClient, net.fromServer] : [net.fromServer, net.fromClient])
      say(ACK | PSH, "still here");
    for (const { sessions } of [net.west, net.east]) t.is(sessions.table.tcpState[0], state);
    net.world.skip(600_000);
    t.deepEqual(net.alive(), [1, 1]);
    net.fromClient(ACK | PSH, "much later");
    t.is(net.server.received.at(-1)?.text, "much later");
  }
});

test("a reset ends the session two seconds after the last segment that one end still had on its way", (t) => {
  for (const end of ["client", "server"] as const) {
    const net = connected();
    net.fromServer(RST);
    for (let n = 0; n < 5; n++) (end === "client" ? net.fromClient : net.fromServer)(ACK | PSH, "on its way");
    net.world.run(1900);
    t.deepEqual(net.alive(), [1, 1], end);
    net.world.run(300);
    t.deepEqual(net.alive(), [0, 0], end);
  }
});

test("a SYN that has a FIN or a RST beside it opens nothing", (t) => {
  const net = twoRouters();
  for (const flags of [SYN | FIN, SYN | RST, SYN | FIN | RST, SYN | ACK | FIN]) {
    net.world.send(net.client, tcpFrame(ENDS, { flags, sequence: 1000, acknowledgment: 0 }));
    net.world.run(2);
  }
  t.deepEqual(dropsOf(net.west), { "tcp-mid-flow": 4 });
  t.deepEqual(counts(net.west), [0, 0, 0]);
  t.deepEqual(packetsOn(net.wan), []);
  // Nor does it begin another conversation where one is over.
  const over = connected();
  over.fromClient(FIN | ACK);
  over.fromServer(FIN | ACK);
  over.fromClient(SYN | FIN);
  over.fromClient(SYN | RST);
  t.deepEqual(counts(over.west), [1, 0, 0]);
});
