// The metadata handshake (protocol sheet 4) as it is seen on the wire: who attaches metadata and until when, what is
// generated for want of traffic, what control messages do, and what is refused.

import test, { type ExecutionContext } from "ava";
import { parseAddress } from "../../lib/control/address-text.ts";
import { SIDE_ESTABLISHED, SIDE_SENDING } from "../../lib/table/session-table.ts";
import { waypointShard } from "../../lib/wire/shard.ts";
import { ACK, PSH, SYN } from "../../lib/wire/tcp.ts";
import { COOKIE, concat, metadataOf, type SeenPacket, swapEnds, tcpFrame, udpFrame } from "./packets.ts";
import {
  controlMessage,
  ENDS,
  forwardMetadata,
  HEALTH_CHECK,
  reverseMetadata,
  TCP,
  TO_EAST,
  TO_WEST,
  UUID,
} from "./peer.ts";
import {
  countOf,
  dropsOf,
  EAST_WAYPOINT,
  eastAlone,
  packetsOn,
  sessionRows,
  threeRouters,
  twoRouters,
  WEST_WAYPOINT,
  westAlone,
} from "./topologies.ts";

const OTHER_UUID = "11111111-2222-4333-8444-555555555555";
const REPLY = swapEnds(ENDS);
const texts = (packets: SeenPacket[]) => packets.map(({ text }) => text);
const withMetadata = (packets: SeenPacket[]) => packets.map(({ hasMetadata }) => hasMetadata);

/** West with a UDP session whose peer has answered. */
function establishedWest() {
  const net = westAlone();
  net.world.send(net.client, udpFrame(ENDS, "lead"));
  net.world.run(2);
  const [lead] = packetsOn(net.wan, "west");
  const answer = reverseMetadata(lead);
  net.world.send(net.peer, udpFrame(TO_WEST, concat(answer, "reply")));
  net.world.run(2);
  net.world.send(net.client, udpFrame(ENDS, "bare"));
  net.world.run(2);
  return {
    ...net,
    lead,
    answer,
    fromPeer: (payload: Uint8Array | string) => net.world.send(net.peer, udpFrame(TO_WEST, payload)),
  };
}

/** East with a UDP session whose handshake is complete. */
function establishedEast() {
  const net = eastAlone();
  const fromPeer = (...parts: (Uint8Array | string)[]) => {
    net.world.send(net.peer, udpFrame(TO_EAST, concat(...parts)));
    net.world.run(2);
  };
  const fromServer = (text: string) => {
    net.world.send(net.server, udpFrame(REPLY, text));
    net.world.run(2);
  };
  fromPeer(forwardMetadata(), "lead");
  fromServer("reply");
  fromPeer("bare");
  return { ...net, fromPeer, fromServer };
}

// Until the other side has heard

test("the initiator puts the same metadata on every packet, retransmitted SYNs included, until reverse metadata comes", (t) => {
  const net = westAlone();
  const syn = () => tcpFrame(ENDS, { flags: SYN, sequence: 1000, acknowledgment: 0 });
  for (let n = 0; n < 3; n++) {
    net.world.send(net.client, syn());
    net.world.run(1000);
  }
  const sent = packetsOn(net.wan, "west");
  t.is(sent.length, 3);
  for (const packet of sent) {
    t.true(packet.hasMetadata && packet.checksumsRight);
    t.deepEqual([packet.sourcePort, packet.destinationPort], [TO_EAST.sourcePort, TO_EAST.destinationPort]);
    t.deepEqual(packet.payload, sent[0].payload);
  }
  net.world.send(
    net.peer,
    tcpFrame(TO_WEST, { flags: SYN | ACK, sequence: 5000, acknowledgment: 1001 }, reverseMetadata(sent[0])),
  );
  net.world.run(2);
  t.deepEqual(
    net.client.received.map(({ tcpFlags, payload }) => [tcpFlags, payload.length]),
    [[SYN | ACK, 0]],
  );
  net.world.send(net.client, tcpFrame(ENDS, { flags: ACK, sequence: 1001, acknowledgment: 5001 }));
  net.world.run(2);
  t.deepEqual(withMetadata(packetsOn(net.wan, "west")), [true, true, true, false]);
});

test("the responder puts reverse metadata on every packet until a bare forward packet comes", (t) => {
  const net = eastAlone();
  const forward = (flags: number, payload: Uint8Array = new Uint8Array(0)) => {
    net.world.send(net.peer, tcpFrame(TO_EAST, { flags, sequence: 1000, acknowledgment: 0 }, payload));
    net.world.run(2);
  };
  const reverse = (flags: number) => {
    net.world.send(net.server, tcpFrame(REPLY, { flags, sequence: 5000, acknowledgment: 1001 }));
    net.world.run(2);
  };
  forward(SYN, forwardMetadata({ protocol: TCP }));
  reverse(SYN | ACK);
  reverse(SYN | ACK);
  forward(SYN, forwardMetadata({ protocol: TCP }));
  reverse(SYN | ACK);
  forward(ACK);
  reverse(ACK);
  const sent = packetsOn(net.wan, "east");
  t.deepEqual(withMetadata(sent), [true, true, true, false]);
  for (const packet of sent.slice(0, 3)) {
    t.deepEqual(packet.payload, sent[0].payload);
    t.is(packet.metadata.get("uuid"), UUID);
    t.deepEqual(packet.metadata.get("reverse-context"), { ...REPLY, protocol: TCP });
  }
  t.true(net.server.received.every(({ payload }) => payload.length === 0));
});

test("a reverse packet without metadata is not believed while the initiator waits for it", (t) => {
  const net = westAlone();
  net.world.send(net.client, udpFrame(ENDS, "lead"));
  net.world.run(2);
  net.world.send(net.peer, udpFrame(TO_WEST, "too early"));
  net.world.send(net.peer, udpFrame(TO_WEST, concat(metadataOf(), COOKIE)));
  net.world.run(2);
  t.deepEqual(net.client.received, []);
  t.deepEqual(dropsOf(net.west), { "metadata-missing": 2 });
  t.is(net.west.sessions.table.downstream.state[0], SIDE_SENDING);
});

test("reverse metadata of another session, or with another context, changes nothing", (t) => {
  const net = westAlone();
  net.world.send(net.client, udpFrame(ENDS, "lead"));
  net.world.run(2);
  const [lead] = packetsOn(net.wan, "west");
  for (const [name, value] of [
    ["uuid", OTHER_UUID],
    ["forward-context", { ...ENDS, destinationPort: 8, protocol: 17 }],
  ] as const) {
    const other = { ...lead, metadata: new Map([...lead.metadata, [name, value]]) };
    net.world.send(net.peer, udpFrame(TO_WEST, concat(reverseMetadata(other), "reply")));
  }
  net.world.run(2);
  t.deepEqual(dropsOf(net.west), { "metadata-unexpected": 2 });
  t.deepEqual(net.client.received, []);
  t.is(net.west.sessions.table.downstream.state[0], SIDE_SENDING);
});

// One-way traffic

for (const { name, packets, everyMs, attached } of [
  { name: "a single datagram", packets: 1, everyMs: 1, attached: 1 },
  { name: "a slow stream", packets: 10, everyMs: 300, attached: 4 },
  { name: "a fast stream", packets: 50, everyMs: 1, attached: 5 },
]) {
  test(`one-way UDP: of ${name} the initiator sends metadata for five packets or a second, and no host sees what ended it`, (t) => {
    const net = twoRouters();
    for (let n = 0; n < packets; n++) {
      net.world.send(net.client, udpFrame(ENDS, `${n}`));
      net.world.run(everyMs);
    }
    net.world.run(1100);
    const sent = packetsOn(net.wan, "west");
    t.deepEqual(
      withMetadata(sent),
      Array.from({ length: packets }, (_, n) => n < attached),
      net.world.diagram(),
    );
    t.deepEqual(
      texts(net.server.received),
      Array.from({ length: packets }, (_, n) => `${n}`),
    );
    t.is(net.west.sessions.table.downstream.state[0], SIDE_ESTABLISHED);
    t.is(packetsOn(net.wan, "east").length, 1, "one packet was generated");
    t.deepEqual(net.client.received, []);
    if (packets > attached) t.is(net.east.sessions.table.upstream.state[0], SIDE_ESTABLISHED);
  });
}

test("a responder that is not heard generates at most one packet per second", (t) => {
  const net = eastAlone();
  for (let n = 0; n < 350; n++) {
    net.world.send(net.peer, udpFrame(TO_EAST, concat(forwardMetadata(), "x")));
    net.world.run(10);
  }
  const times = net.wan.seen
    .filter(({ from, packet }) => from === "east" && packet !== undefined)
    .map(({ atMs }) => atMs);
  t.is(times.length, 4);
  for (let n = 1; n < times.length; n++) t.true(times[n] - times[n - 1] >= 1000, `${times}`);
  t.is(net.server.received.length, 350);
});

test("an initiator that only receives tells the responder to stop, at most once per second, and no host sees it", (t) => {
  const net = twoRouters();
  net.world.send(net.client, udpFrame(ENDS, "subscribe"));
  net.world.run(2);
  for (let n = 0; n < 100; n++) {
    net.world.send(net.server, udpFrame(REPLY, `${n}`));
    net.world.run(20);
  }
  const reverse = packetsOn(net.wan, "east");
  t.deepEqual(
    withMetadata(reverse),
    Array.from({ length: 100 }, (_, n) => n < 5),
    net.world.diagram(),
  );
  t.deepEqual(
    packetsOn(net.wan, "west").map(({ metadata }) => metadata.get("control")),
    [undefined, 3],
  );
  t.is(net.client.received.length, 100);
  t.deepEqual(texts(net.server.received), ["subscribe"]);
  t.is(net.east.sessions.table.upstream.state[0], SIDE_ESTABLISHED);
});

test("an initiator whose stop message is lost repeats it a second later", (t) => {
  const net = establishedWest();
  for (let n = 0; n < 250; n++) {
    net.fromPeer(concat(net.answer, "x"));
    net.world.run(10);
  }
  const times = net.wan.seen
    .filter(({ from, packet }) => from === "west" && packet?.metadata.get("control") === 3)
    .map(({ atMs }) => atMs);
  t.is(times.length, 3);
  for (let n = 1; n < times.length; n++) t.true(times[n] - times[n - 1] >= 1000, `${times}`);
});

test("a packet generated on a TCP session is TCP with ACK, the numbers seen last and a right checksum, and is never delivered", (t) => {
  const net = twoRouters();
  net.world.send(net.client, tcpFrame(ENDS, { flags: SYN, sequence: 1000, acknowledgment: 0 }));
  net.world.run(1100);
  const [generated] = packetsOn(net.wan, "east");
  t.is(generated.protocol, TCP);
  t.is(generated.tcpFlags, ACK);
  t.is(generated.acknowledgment, 1001);
  t.true(generated.checksumsRight);
  t.is(generated.data.length, 0);
  t.deepEqual([generated.metadata.get("control"), generated.metadata.get("disable-forward")], [3, true]);
  t.deepEqual(generated.metadata.get("reverse-context"), { ...REPLY, protocol: TCP });
  t.deepEqual(net.client.received, []);
  t.is(net.west.sessions.table.downstream.state[0], SIDE_ESTABLISHED);
});

// Payloads that look like metadata

const LOOKALIKES: [string, Uint8Array][] = [
  ["the cookie and no more", COOKIE],
  ["seven bytes of the cookie", COOKIE.slice(0, 7)],
  ["a whole marker", metadataOf()],
  ["a valid metadata block", forwardMetadata()],
  ["a control message that deletes the session", concat(controlMessage(6), "and more")],
  ["the cookie and what is no metadata", concat(COOKIE, "no lengths that add up")],
];

for (const [name, payload] of LOOKALIKES) {
  test(`a payload that is ${name} arrives byte-exact, in every packet, both ways`, (t) => {
    for (const build of [twoRouters, threeRouters]) {
      const udp = build();
      udp.server.onPacket = (packet) => udp.world.send(udp.server, udpFrame(REPLY, packet.payload));
      for (let n = 0; n < 4; n++) {
        udp.world.send(udp.client, udpFrame(ENDS, payload));
        udp.world.run(2);
      }
      assertBytes(t, [...udp.server.received, ...udp.client.received], payload, 8);

      const tcp = build();
      let replies = 0;
      tcp.server.onPacket = (packet) => {
        const flags = (packet.tcpFlags & SYN) !== 0 ? SYN | ACK : ACK | PSH;
        tcp.world.send(
          tcp.server,
          tcpFrame(REPLY, { flags, sequence: 5000 + replies++, acknowledgment: packet.sequence + 1 }, payload),
        );
      };
      // The SYN too (RFC 7413 allows data there).
      for (const flags of [SYN, ACK, ACK | PSH, ACK | PSH]) {
        tcp.world.send(tcp.client, tcpFrame(ENDS, { flags, sequence: 1000, acknowledgment: 0 }, payload));
        tcp.world.run(2);
      }
      assertBytes(t, [...tcp.server.received, ...tcp.client.received], payload, 8);
      const marked = payload.length >= 8;
      for (const net of [udp, tcp]) {
        t.is(countOf(net.west, "metadata.false-positive-marked") > 0, marked);
        t.is(countOf(net.east, "metadata.false-positive-unmarked") > 0, marked);
        t.deepEqual([dropsOf(net.west), dropsOf(net.east)], [{}, {}]);
      }
    }
  });
}

function assertBytes(t: ExecutionContext, received: SeenPacket[], payload: Uint8Array, count: number): void {
  t.is(received.length, count);
  for (const packet of received) {
    t.deepEqual(packet.payload, payload);
    t.true(packet.checksumsRight);
  }
}

// Sessions that change

test("metadata with another identifier takes over a live waypoint tuple", (t) => {
  const net = establishedEast();
  const ends = { ...ENDS, sourcePort: 41000 };
  net.fromPeer(forwardMetadata({ uuid: OTHER_UUID, ends }), "new");
  t.deepEqual([net.east.sessions.openedTotal, net.east.sessions.closedTotal], [2, 1]);
  t.is(net.east.sessions.table.count, 1);
  t.is(net.server.received.at(-1)?.sourcePort, 41000);
  net.world.send(net.server, udpFrame(swapEnds(ends), "reply to the new"));
  net.world.run(2);
  t.is(packetsOn(net.wan, "east").at(-1)?.metadata.get("uuid"), OTHER_UUID);
});

test("a takeover that cannot be opened leaves the session that has the tuple alone", (t) => {
  const net = establishedEast();
  const { neighbors } = net.east.sessions;
  for (let n = 10; ; n++) {
    const row = neighbors.want(0, parseAddress("10.2.0.0") + n, net.world.clock.nowMs());
    if (row < 0) break;
    neighbors.acquire(row);
  }
  net.fromPeer(forwardMetadata({ uuid: OTHER_UUID, ends: { ...ENDS, destination: "10.2.0.3" } }), "new");
  t.is(net.east.counters.publish()["drop.neighbor-table-full"], 1);
  t.is(net.east.sessions.closedTotal, 0);
  net.fromPeer("still here");
  t.is(net.server.received.at(-1)?.text, "still here");
});

test("metadata sent again for a live session brings reverse metadata back until the next bare packet", (t) => {
  const net = establishedEast();
  net.fromServer("quiet");
  net.fromPeer(forwardMetadata(), "again");
  net.fromServer("answered");
  net.fromPeer("bare again");
  net.fromServer("quiet again");
  const replies = packetsOn(net.wan, "east").map(({ text, hasMetadata }) => [text, hasMetadata]);
  t.deepEqual(replies, [
    ["reply", true],
    ["quiet", false],
    ["answered", true],
    ["quiet again", false],
  ]);
  t.is(net.east.sessions.openedTotal, 1);
  t.deepEqual(texts(net.server.received), ["lead", "bare", "again", "bare again"]);
});

test("enable metadata makes the initiator send its metadata again, with the same identifier", (t) => {
  const net = establishedWest();
  net.fromPeer(controlMessage(2));
  net.world.run(2);
  net.world.send(net.client, udpFrame(ENDS, "again"));
  net.world.run(2);
  const again = packetsOn(net.wan, "west").at(-1)!;
  t.deepEqual(again.metadata, net.lead.metadata);
  net.fromPeer(concat(net.answer, "reply"));
  net.world.run(2);
  net.world.send(net.client, udpFrame(ENDS, "bare again"));
  net.world.run(2);
  t.false(packetsOn(net.wan, "west").at(-1)!.hasMetadata);
  t.deepEqual(texts(net.client.received), ["reply", "reply"]);
});

test("the flag that disables forward metadata stops it even without a control reason", (t) => {
  const net = westAlone();
  net.world.send(net.client, udpFrame(ENDS, "lead"));
  net.world.run(2);
  net.world.send(net.peer, udpFrame(TO_WEST, metadataOf([16, 0], [18, true])));
  net.world.run(2);
  net.world.send(net.client, udpFrame(ENDS, "bare"));
  net.world.run(2);
  t.deepEqual(withMetadata(packetsOn(net.wan, "west")), [true, false]);
  t.deepEqual(net.client.received, []);
});

// Control messages

test("a health check is answered with 'session exists' to whom it came from, and its packet goes on", (t) => {
  const east = establishedEast();
  east.fromPeer(HEALTH_CHECK, "checked");
  t.is(packetsOn(east.wan, "east").at(-1)?.metadata.get("control"), 8);
  t.deepEqual(texts(east.server.received), ["lead", "bare", "checked"]);
  const west = establishedWest();
  west.fromPeer(concat(HEALTH_CHECK, "checked"));
  west.world.run(2);
  t.is(packetsOn(west.wan, "west").at(-1)?.metadata.get("control"), 8);
  t.deepEqual(texts(west.client.received), ["reply", "checked"]);
});

test("a health check about an unknown session is answered with 'enable metadata', ten times a second at most", (t) => {
  const net = eastAlone();
  for (let n = 0; n < 25; n++) net.world.send(net.peer, udpFrame(TO_EAST, concat(HEALTH_CHECK, "x")));
  net.world.run(500);
  const answers = packetsOn(net.wan, "east");
  t.is(answers.length, 10);
  for (const answer of answers) {
    t.is(answer.metadata.get("control"), 2);
    t.deepEqual(
      [answer.source, answer.sourcePort, answer.destination, answer.destinationPort],
      [EAST_WAYPOINT, TO_EAST.destinationPort, WEST_WAYPOINT, TO_EAST.sourcePort],
    );
    t.true(answer.checksumsRight);
  }
  t.deepEqual(dropsOf(net.east), { "unknown-session": 25 });
  net.world.run(1000);
  net.world.send(net.peer, udpFrame(TO_EAST, concat(HEALTH_CHECK, "x")));
  net.world.run(2);
  t.is(packetsOn(net.wan, "east").length, 11);
  t.deepEqual(net.server.received, []);
});

test("answers to health checks of known sessions are limited to ten a second too", (t) => {
  const net = establishedEast();
  const before = packetsOn(net.wan, "east").length;
  for (let n = 0; n < 25; n++) net.world.send(net.peer, udpFrame(TO_EAST, concat(HEALTH_CHECK, "x")));
  net.world.run(100);
  t.is(packetsOn(net.wan, "east").length, before + 10);
  t.is(net.server.received.length, 27, "the data is not held back");
});

test("a waypoint packet without metadata for an unknown session gets no answer", (t) => {
  const net = eastAlone();
  for (const payload of [new Uint8Array(0), concat("bare"), metadataOf(), controlMessage(6), controlMessage(2)])
    net.world.send(net.peer, udpFrame(TO_EAST, payload));
  net.world.run(10);
  t.deepEqual(dropsOf(net.east), { "unknown-session": 5 });
  t.deepEqual(packetsOn(net.wan, "east"), []);
});

test("'delete session' ends the session on either side", (t) => {
  const east = establishedEast();
  east.fromPeer(controlMessage(6));
  t.is(east.east.sessions.table.count, 0);
  t.is(east.east.sessions.flows.count, 0);
  const west = establishedWest();
  west.fromPeer(controlMessage(6));
  west.world.run(2);
  t.is(west.west.sessions.table.count, 0);
  t.is(west.west.sessions.paths[0].sessions, 0);
  t.is(west.west.sessions.paths[0].udpPorts.inUse, 0);
});

test("no control message reaches a host, whatever payload is behind it, and unknown reasons are counted", (t) => {
  const east = establishedEast();
  const west = establishedWest();
  const [atServer, atClient] = [east.server.received.length, west.client.received.length];
  for (const reason of [0, 1, 2, 3, 4, 5, 7, 8, 200]) {
    east.fromPeer(controlMessage(reason), "behind");
    west.fromPeer(concat(controlMessage(reason), "behind"));
    west.world.run(2);
  }
  t.is(east.server.received.length, atServer);
  t.is(west.client.received.length, atClient);
  for (const router of [east.east, west.west]) {
    t.deepEqual(dropsOf(router), { "control-unknown": 5 });
    t.is(router.sessions.table.count, 1);
  }
});

// What is refused

const MISMATCH = { ...ENDS, destination: "10.3.0.2" };
const BOGUS = forwardMetadata();
BOGUS[9] = 200; // a header length that leads into the payload section

const REFUSED: [name: string, reason: string, payload: Uint8Array][] = [
  ["a header length that does not add up", "metadata-malformed", concat(BOGUS, "x")],
  ["more bytes than there are", "metadata-malformed", forwardMetadata().slice(0, -1)],
  ["an unknown tenant", "unknown-tenant", forwardMetadata({ tenant: "nobody", uuid: OTHER_UUID })],
  ["an unknown service", "unknown-service", forwardMetadata({ service: "nothing", uuid: OTHER_UUID })],
  ["a destination outside its service", "service-mismatch", forwardMetadata({ ends: MISMATCH, uuid: OTHER_UUID })],
  ["a tenant that the service does not list", "access-denied", forwardMetadata({ tenant: "guest", uuid: OTHER_UUID })],
  [
    "a service without a route",
    "no-route",
    forwardMetadata({ service: "lost", ends: { ...ENDS, destination: "10.9.0.1" }, uuid: OTHER_UUID }),
  ],
  ["no tenant", "metadata-context", forwardMetadata({ tenant: null, uuid: OTHER_UUID })],
  ["no service", "metadata-context", forwardMetadata({ service: null, uuid: OTHER_UUID })],
  ["no identifier", "metadata-context", forwardMetadata({ uuid: null })],
  ["a context of TCP in a UDP packet", "metadata-context", forwardMetadata({ protocol: TCP, uuid: OTHER_UUID })],
];
const LOST_SERVICE = "  - { name: lost, addresses: [10.9.0.0/24], access: [corp] }\n";

for (const [name, reason, payload] of REFUSED) {
  test(`metadata with ${name} is dropped as ${reason} and leaves the session table untouched`, (t) => {
    const net = eastAlone(LOST_SERVICE);
    net.world.send(net.peer, udpFrame(TO_EAST, payload));
    net.world.run(2);
    t.deepEqual(dropsOf(net.east), { [reason]: 1 });
    t.deepEqual([net.east.sessions.openedTotal, net.east.sessions.flows.count], [0, 0]);

    // The same on a tuple that a live session has.
    net.world.send(net.peer, udpFrame(TO_EAST, concat(forwardMetadata(), "lead")));
    net.world.run(2);
    net.world.send(net.peer, udpFrame(TO_EAST, payload));
    net.world.run(2);
    t.deepEqual(dropsOf(net.east), { [reason]: 2 });
    t.deepEqual([net.east.sessions.openedTotal, net.east.sessions.closedTotal], [1, 0]);
    net.world.send(net.peer, udpFrame(TO_EAST, "bare"));
    net.world.run(2);
    t.deepEqual(texts(net.server.received), ["lead", "bare"]);
    t.deepEqual(packetsOn(net.wan, "east"), []);
  });
}

test("metadata in a packet with a wrong checksum is not believed, neither UDP nor TCP", (t) => {
  const net = eastAlone();
  const udp = udpFrame(TO_EAST, concat(forwardMetadata(), "x"));
  const tcp = tcpFrame(TO_EAST, { flags: SYN, sequence: 1, acknowledgment: 0 }, forwardMetadata({ protocol: TCP }));
  for (const frame of [udp, tcp]) {
    frame[frame.length - 1] ^= 1;
    net.world.send(net.peer, frame);
  }
  net.world.run(2);
  t.deepEqual(dropsOf(net.east), { "metadata-checksum": 2 });
  t.is(net.east.sessions.openedTotal, 0);
});

test("metadata from an address that is no peer's is dropped, however right it is", (t) => {
  const net = eastAlone();
  net.world.send(net.peer, udpFrame({ ...TO_EAST, source: "198.18.0.9" }, concat(forwardMetadata(), "x")));
  net.world.run(2);
  t.deepEqual(dropsOf(net.east), { "not-a-peer": 1 });
  t.is(net.east.sessions.openedTotal, 0);
  t.deepEqual(net.server.received, []);
});

// A middle router

test("a middle router keeps identifier, context and source router, and puts its own port pair on the next hop", (t) => {
  const net = threeRouters();
  // Another pair than west's, so that the two can be told apart.
  net.middle.sessions.paths[1].udpPorts.allocate(
    waypointShard((TO_EAST.sourcePort << 16) | TO_EAST.destinationPort),
    0,
  );
  net.world.send(net.client, udpFrame(ENDS, "lead"));
  net.world.run(2);
  const [first] = packetsOn(net.wan, "west");
  const [second] = packetsOn(net.wan2, "middle");
  for (const name of ["uuid", "forward-context", "tenant", "service", "source-router"])
    t.deepEqual(second.metadata.get(name), first.metadata.get(name), name);
  t.is(second.metadata.get("source-router"), "west");
  t.deepEqual([first.metadata.get("path-id"), second.metadata.get("path-id")], ["198.18.0.1", "198.18.1.1"]);
  t.deepEqual(
    [first.source, first.sourcePort, first.destination, first.destinationPort],
    ["198.18.0.1", TO_EAST.sourcePort, "198.18.0.2", TO_EAST.destinationPort],
  );
  t.deepEqual(
    [second.source, second.sourcePort, second.destination, second.destinationPort],
    ["198.18.1.1", TO_EAST.sourcePort + 128, "198.18.1.2", TO_EAST.destinationPort + 128],
  );
  t.deepEqual([first.ttl, second.ttl, net.server.received[0].ttl], [63, 62, 61]);

  net.world.send(net.server, udpFrame(REPLY, "reply"));
  net.world.run(2);
  const [back2] = packetsOn(net.wan2, "east");
  const [back1] = packetsOn(net.wan, "middle");
  t.deepEqual([back2.metadata.get("destination-router"), back1.metadata.get("destination-router")], ["east", "middle"]);
  t.deepEqual(back1.metadata.get("reverse-context"), back2.metadata.get("reverse-context"));
  t.deepEqual(texts(net.client.received), ["reply"]);
  for (const router of [net.west, net.middle, net.east]) t.is(sessionRows(router).length, 1);
});

test("a middle router answers each side on its own hop", (t) => {
  const net = threeRouters();
  net.wan2.tamper = () => []; // beyond it nobody hears anything
  net.world.send(net.client, udpFrame(ENDS, "lead"));
  net.world.run(1100);
  const { upstream, downstream } = net.middle.sessions.table;
  t.is(net.west.sessions.table.downstream.state[0], SIDE_ESTABLISHED);
  t.deepEqual([upstream.state[0], downstream.state[0]], [SIDE_SENDING, SIDE_SENDING]);
  net.world.send(net.client, udpFrame(ENDS, "bare"));
  net.world.run(2);
  t.deepEqual([upstream.state[0], downstream.state[0]], [SIDE_ESTABLISHED, SIDE_SENDING]);
});
