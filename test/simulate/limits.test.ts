// Every store has a limit and something that happens there; every session has an end. The protocol sheet's timers
// (7.5, 7.6), time to live, resets.

import test from "ava";
import { getU16 } from "../../lib/base/bytes.ts";
import { ipv4HeaderIsRight, l4IsRight } from "../../lib/wire/checksum.ts";
import { ETHERTYPE_IPV4 } from "../../lib/wire/flow-key.ts";
import { ACK, FIN, PSH, RST, SYN } from "../../lib/wire/tcp.ts";
import { echoFrame, pattern, swapEnds, tcpFrame, udpFrame } from "./packets.ts";
import { ENDS } from "./peer.ts";
import {
  CLIENT,
  dropsOf,
  packetsOn,
  SERVER,
  sessionRows,
  type TwoRouters,
  threeRouters,
  twoRouters,
} from "./topologies.ts";
import { World } from "./world.ts";

const REPLY = swapEnds(ENDS);
type Net = Pick<TwoRouters, "world" | "client" | "server">;

const fromClient = (net: Net, flags: number, sourcePort = 40000, text = "") => {
  net.world.send(net.client, tcpFrame({ ...ENDS, sourcePort }, { flags, sequence: 1000, acknowledgment: 5001 }, text));
  net.world.run(2);
};
const fromServer = (net: Net, flags: number, destinationPort = 40000) => {
  net.world.send(net.server, tcpFrame({ ...REPLY, destinationPort }, { flags, sequence: 5000, acknowledgment: 1001 }));
  net.world.run(2);
};
const connect = (net: Net, port = 40000) => {
  fromClient(net, SYN, port);
  fromServer(net, SYN | ACK, port);
  fromClient(net, ACK, port);
};
/** Client ports of the sessions that west has. */
const portsOf = (net: TwoRouters) =>
  sessionRows(net.west)
    .map((row) => net.west.sessions.table.context[row * 4 + 2] >>> 16)
    .sort();

// Stores

test("when the session table is full the oldest half-open session goes, and established ones stay", (t) => {
  const net = twoRouters({ limits: { sessions: 4 } });
  connect(net, 1);
  connect(net, 2);
  for (const port of [3, 4]) fromClient(net, SYN, port);
  t.deepEqual(portsOf(net), [1, 2, 3, 4]);
  fromClient(net, SYN, 5);
  t.deepEqual(portsOf(net), [1, 2, 4, 5]);
  fromClient(net, SYN, 6);
  t.deepEqual(portsOf(net), [1, 2, 5, 6]);
  t.is(net.west.sessions.evictedTotal, 2);
  t.deepEqual(dropsOf(net.west), {});
  fromServer(net, SYN | ACK, 5);
  fromClient(net, ACK, 5);
  fromServer(net, SYN | ACK, 6);
  fromClient(net, ACK, 6);
  fromClient(net, SYN, 7);
  t.deepEqual(portsOf(net), [1, 2, 5, 6], "nothing half-open is left that could make room");
  t.deepEqual(dropsOf(net.west), { "session-table-full": 1 });
  const before = net.server.received.length;
  for (const port of [1, 2, 5, 6]) fromClient(net, ACK | PSH, port, "alive");
  t.is(net.server.received.length, before + 4);
});

test("a SYN with a FIN behind it is as half-open as a SYN alone: it cannot hold a row", (t) => {
  const net = twoRouters({ limits: { sessions: 2 } });
  for (const port of [1, 2]) {
    fromClient(net, SYN, port);
    fromClient(net, FIN | ACK, port);
  }
  connect(net, 3);
  t.deepEqual(portsOf(net), [2, 3]);
  net.world.skip(11_000);
  t.deepEqual(portsOf(net), [3]);
});

test("a SYN whose time to live ran out here is as half-open as any, and expires", (t) => {
  const net = twoRouters({ limits: { sessions: 2 } });
  for (const sourcePort of [1, 2, 3]) {
    net.world.send(
      net.client,
      tcpFrame({ ...ENDS, sourcePort }, { flags: SYN, sequence: 1, acknowledgment: 0 }, "", 1),
    );
    net.world.run(2);
  }
  connect(net, 4);
  t.true(portsOf(net).includes(4));
  net.world.skip(11_000);
  t.deepEqual(portsOf(net), [4]);
});

test("when every waypoint port pair is used new sessions are refused, and a pair rests ten seconds before it is used again", (t) => {
  const net = twoRouters({ limits: { waypointPairs: 16 } });
  const send = (sourcePort: number) => {
    net.world.send(net.client, udpFrame({ ...ENDS, sourcePort }, "x"));
    net.world.run(2);
  };
  for (let n = 0; n < 17; n++) send(1000 + n);
  t.is(net.west.sessions.table.count, 16);
  t.deepEqual(dropsOf(net.west), { "waypoint-ports": 1 });
  fromClient(net, SYN);
  t.is(net.west.sessions.table.count, 17, "TCP has pairs of its own");
  net.world.skip(179_000);
  for (let n = 0; n < 5000 && net.west.sessions.table.count > 0; n++) net.world.run(1);
  send(2000);
  net.world.run(9000);
  send(2000);
  t.deepEqual(dropsOf(net.west), { "waypoint-ports": 3 });
  net.world.run(1500);
  send(2000);
  t.is(net.west.sessions.table.count, 1);
});

test("one turn takes no more new sessions than configured, and established ones pass before them", (t) => {
  const net = twoRouters({ limits: { others: ", slow-path-per-turn: 16" } });
  const send = (sourcePort: number, text: string) =>
    net.world.send(net.client, udpFrame({ ...ENDS, sourcePort }, text));
  for (const [host, ends] of [
    [net.client, ENDS],
    [net.server, REPLY],
    [net.client, ENDS],
  ] as const) {
    net.world.send(host, udpFrame(ends, "handshake"));
    net.world.run(2);
  }
  for (let n = 0; n < 20; n++) send(1000 + n, `new ${n}`);
  send(ENDS.sourcePort, "established");
  net.world.run(2);
  t.deepEqual(dropsOf(net.west), { "slow-path-full": 4 });
  const texts = net.server.received.slice(2).map(({ text }) => text);
  t.deepEqual(texts, ["established", ...Array.from({ length: 16 }, (_, n) => `new ${n}`)]);
});

test("a full neighbor table refuses sessions that need another neighbor, until one is free", (t) => {
  const net = twoRouters({ limits: { neighbors: 16 } });
  const send = (last: number) => {
    net.world.send(net.client, udpFrame({ ...ENDS, source: `10.1.0.${last}` }, "x"));
    net.world.run(2);
  };
  for (let n = 0; n < 16; n++) send(100 + n);
  t.is(net.west.sessions.table.count, 15, "one row is the peer's");
  t.deepEqual(dropsOf(net.west), { "neighbor-table-full": 1 });
  send(100);
  t.is(net.west.sessions.table.count, 15);
  net.world.skip(181_000);
  send(115);
  t.is(net.west.sessions.table.count, 1);
});

test("in a neighbor table that has room for one more, a session that needs two is refused", (t) => {
  const world = new World();
  const router = world.addRouter(
    "one",
    `authority: acme
router: one
sessions: { max: 64 }
limits: { neighbors: 16 }
interfaces:
  - { name: lan0, device: lan0, addresses: [10.1.0.1/24], tenant: corp }
  - { name: lan1, device: lan1, addresses: [10.2.0.1/24] }
tenants: [{ name: corp }]
services: [{ name: app, addresses: [10.2.0.0/24], access: [corp] }]
service-routes: [{ service: app, interface: lan1 }]
`,
  );
  const client = world.addHost("client", CLIENT, "10.1.0.1");
  const server = world.addHost("server", SERVER, "10.2.0.1");
  world.join("lan", "client", "one.lan0");
  world.join("far", "one.lan1", "server");
  client.others = Array.from({ length: 20 }, (_, n) => `10.1.0.${100 + n}`);
  server.others = ["10.2.0.9"];
  const send = (n: number, destination: string) => {
    world.send(client, udpFrame({ ...ENDS, source: client.others[n], destination }, "x"));
    world.run(2);
  };
  send(0, "10.2.0.9");
  // All others stay in use, while that session ends and leaves its server's row to whoever needs it.
  for (let round = 0; round < 4; round++) {
    for (let n = 0; n < 14; n++) send(n, SERVER);
    world.skip(60_000);
  }
  t.is(router.sessions.table.count, 14);
  send(14, "10.2.0.9");
  t.deepEqual(dropsOf(router), { "neighbor-table-full": 1 });
  t.is(router.sessions.table.count, 14);
  send(0, "10.2.0.9");
  t.is(router.sessions.table.count, 15, "one that needs no other");
});

// Timers

interface Life {
  name: string;
  begin(net: TwoRouters): void;
  idleMs: number;
}

const LIVES: Life[] = [
  { name: "TCP that is opening", begin: (net) => fromClient(net, SYN), idleMs: 10_000 },
  {
    name: "TCP whose SYN was answered",
    begin: (net) => {
      fromClient(net, SYN);
      fromServer(net, SYN | ACK);
    },
    idleMs: 10_000,
  },
  { name: "established TCP", begin: connect, idleMs: 1_900_000 },
  {
    name: "half-closed TCP",
    begin: (net) => {
      connect(net);
      fromClient(net, FIN | ACK);
    },
    idleMs: 1_900_000,
  },
  {
    name: "TCP after both FINs",
    begin: (net) => {
      connect(net);
      fromClient(net, FIN | ACK);
      fromServer(net, FIN | ACK);
      fromClient(net, ACK);
    },
    idleMs: 10_000,
  },
  {
    name: "TCP after a reset",
    begin: (net) => {
      connect(net);
      fromServer(net, RST);
    },
    idleMs: 2_000,
  },
  {
    name: "UDP",
    begin: (net) => {
      net.world.send(net.client, udpFrame(ENDS, "x"));
      net.world.run(2);
      net.world.send(net.server, udpFrame(REPLY, "y"));
      net.world.run(2);
    },
    idleMs: 180_000,
  },
  {
    name: "ICMP",
    begin: (net) => {
      net.world.send(net.client, echoFrame(CLIENT, SERVER, 7, 1, "x"));
      net.world.run(2);
    },
    idleMs: 10_000,
  },
];

for (const { name, begin, idleMs } of LIVES) {
  test(`${name} lives ${idleMs / 1000} s without a packet, on both routers, and no longer`, (t) => {
    const net = twoRouters();
    begin(net);
    const count = () => [net.west, net.east].map(({ sessions }) => [sessions.table.count, sessions.flows.count]);
    net.world.skip(idleMs - 1000, 1000);
    net.world.run(800);
    t.deepEqual(count(), [
      [1, 2],
      [1, 2],
    ]);
    net.world.run(400);
    t.deepEqual(count(), [
      [0, 0],
      [0, 0],
    ]);
    t.is(net.west.sessions.paths[0].sessions + net.east.sessions.paths[0].sessions, 0);
  });
}

test("a packet in either direction refreshes a session", (t) => {
  for (const [host, ends] of [
    ["client", ENDS],
    ["server", REPLY],
  ] as const) {
    const net = twoRouters();
    LIVES.find(({ name }) => name === "UDP")!.begin(net);
    for (let n = 0; n < 4; n++) {
      net.world.skip(170_000);
      net.world.send(net[host], udpFrame(ends, "still here"));
      net.world.run(2);
    }
    net.world.skip(170_000);
    t.deepEqual([net.west.sessions.table.count, net.east.sessions.table.count], [1, 1], host);
    t.deepEqual([net.west.sessions.openedTotal, net.east.sessions.openedTotal], [1, 1], host);
  }
});

test("a SYN on the addresses and ports of a closed conversation opens another session", (t) => {
  const net = twoRouters();
  LIVES.find(({ name }) => name === "TCP after both FINs")!.begin(net);
  const first = packetsOn(net.wan, "west")[0];
  connect(net);
  t.deepEqual([net.west.sessions.openedTotal, net.east.sessions.openedTotal], [2, 2]);
  const second = packetsOn(net.wan, "west").findLast(({ tcpFlags }) => tcpFlags === SYN)!;
  t.not(second.metadata.get("uuid"), first.metadata.get("uuid"));
  t.not(second.sourcePort, first.sourcePort, "the old pair rests");
  net.world.skip(60_000);
  t.deepEqual([portsOf(net), net.east.sessions.table.count], [[40000], 1]);
});

// Time to live

test("a packet whose time to live ends here is answered with ICMP time exceeded, quoting it", (t) => {
  const net = twoRouters();
  for (const frame of [
    udpFrame(ENDS, pattern(600), 1),
    tcpFrame(ENDS, { flags: SYN, sequence: 1, acknowledgment: 0 }, "", 1),
  ]) {
    net.world.send(net.client, frame.slice());
    net.world.run(2);
    const answer = net.lan.seen.findLast((seen) => seen.from === "west" && getU16(seen.frame, 12) === ETHERTYPE_IPV4)!;
    const icmp = answer.frame.subarray(34);
    t.is(icmp[0], 11);
    t.deepEqual([...answer.frame.subarray(26, 34)], [10, 1, 0, 1, 10, 1, 0, 2]);
    t.true(answer.frame.length - 14 <= 576);
    t.true(ipv4HeaderIsRight(answer.frame, 14) && l4IsRight(answer.frame, 14, 34, answer.frame.length));
    t.deepEqual([...icmp.subarray(8)], [...frame.subarray(14, 14 + icmp.length - 8)], "the packet as it came");
  }
  t.deepEqual(dropsOf(net.west), { ttl: 2 });
  t.deepEqual(packetsOn(net.wan), []);
  t.is(net.west.sessions.openedTotal, 0);
});

test("every waypoint takes one from the time to live, and a packet that dies between routers is only counted", (t) => {
  const net = threeRouters();
  const at = ["west", "middle", "east"] as const;
  for (const [ttl, router] of [
    [2, "middle"],
    [3, "east"],
  ] as const) {
    net.world.send(net.client, udpFrame(ENDS, "x", ttl));
    net.world.run(2);
    t.deepEqual(dropsOf(net[router]), { ttl: 1 });
  }
  t.deepEqual(net.server.received, []);
  net.world.skip(182_000);
  t.deepEqual(
    at.map((name) => net[name].sessions.table.count),
    [0, 0, 0],
    "what such packets open ends too",
  );
  net.world.send(net.client, udpFrame(ENDS, "x", 4));
  net.world.run(2);
  t.deepEqual(
    net.server.received.map(({ ttl }) => ttl),
    [1],
  );
  t.deepEqual(
    at.map((name) => net[name].sessions.table.count),
    [1, 1, 1],
  );
  net.world.skip(182_000);
  t.deepEqual(
    at.map((name) => net[name].sessions.table.count),
    [0, 0, 0],
  );
});

// Resets

test("a TCP segment of no session is refused with a reset whose numbers its sender believes (RFC 9293, 3.10.7.1)", (t) => {
  const net = twoRouters();
  const cases: [flags: number, text: string, reset: [flags: number, sequence: number, acknowledgment: number]][] = [
    [ACK | PSH, "data", [RST, 777, 0]],
    [SYN | ACK, "", [RST, 777, 0]],
    [FIN | ACK, "", [RST, 777, 0]],
    [PSH, "data", [RST | ACK, 0, 1004]],
    [FIN, "", [RST | ACK, 0, 1001]],
  ];
  for (const [flags, text, expected] of cases) {
    net.world.send(net.client, tcpFrame(ENDS, { flags, sequence: 1000, acknowledgment: 777 }, text));
    net.world.run(2);
    const reset = net.client.received.at(-1)!;
    t.deepEqual([reset.tcpFlags, reset.sequence, reset.acknowledgment], expected);
    t.deepEqual([reset.source, reset.sourcePort, reset.destination, reset.destinationPort], [SERVER, 7, CLIENT, 40000]);
    t.true(reset.checksumsRight);
  }
  t.deepEqual(dropsOf(net.west), { "tcp-mid-flow": cases.length });
  net.world.send(net.client, tcpFrame(ENDS, { flags: RST | ACK, sequence: 1000, acknowledgment: 777 }));
  net.world.run(2);
  t.is(net.client.received.length, cases.length, "a reset is never answered");
  t.is(net.west.sessions.openedTotal, 0);
  t.deepEqual(packetsOn(net.wan), []);
});

test("the reset of a server that refuses reaches the client, and the session ends", (t) => {
  const net = twoRouters();
  fromClient(net, SYN);
  net.world.send(net.server, tcpFrame(REPLY, { flags: RST | ACK, sequence: 0, acknowledgment: 1001 }));
  net.world.run(2);
  t.deepEqual(
    net.client.received.map(({ tcpFlags, acknowledgment, payload }) => [tcpFlags, acknowledgment, payload.length]),
    [[RST | ACK, 1001, 0]],
  );
  net.world.skip(3000);
  t.deepEqual([net.west.sessions.table.count, net.east.sessions.table.count], [0, 0]);
});

test("a SYN whose time to live ends here does not end the closed conversation before it", (t) => {
  const net = twoRouters();
  LIVES.find(({ name }) => name === "TCP after both FINs")!.begin(net);
  net.world.send(net.client, tcpFrame(ENDS, { flags: SYN, sequence: 1, acknowledgment: 0 }, "", 1));
  net.world.run(2);
  t.deepEqual(dropsOf(net.west), { ttl: 1 });
  t.deepEqual([net.west.sessions.openedTotal, net.west.sessions.closedTotal], [1, 0]);
});

test("a packet to an address of no service, or to the router itself, is dropped by name", (t) => {
  const net = twoRouters();
  net.world.send(net.client, udpFrame({ ...ENDS, destination: "10.77.0.1" }, "x"));
  net.world.send(net.client, udpFrame({ ...ENDS, destination: "10.1.0.1" }, "x"));
  net.world.run(2);
  t.deepEqual(dropsOf(net.west), { "local-address": 1, "no-service": 1 });
  t.deepEqual(net.client.received, []);
});
