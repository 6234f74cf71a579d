// Claim 1 of US 9,729,439, element by element (protocol sheet 1.1). "The node" is router west, the subsequent node is
// router east, both real engines; the npm package ip-packet reads IPv4 headers in our stead and shares no code with us.

import test, { type ExecutionContext } from "ava";
import ipPacket from "ip-packet";
import { parseAddress } from "../../lib/control/address-text.ts";
import {
  FLOW_LAST_SEEN,
  FLOW_NEW_DESTINATION,
  FLOW_NEW_PORTS,
  FLOW_NEW_SOURCE,
  FLOW_SHIFT,
} from "../../lib/table/flow-table.ts";
import { SIDE_ESTABLISHED, SIDE_SENDING } from "../../lib/table/session-table.ts";
import { ACK, PSH, SYN } from "../../lib/wire/tcp.ts";
import { tcpServer } from "./endpoints.ts";
import { type SeenPacket, swapEnds, tcpFrame, udpFrame } from "./packets.ts";
import { firstPair } from "./peer.ts";
import { CLIENT, countOf, packetsOn, SERVER, sessionRows, type TwoRouters, twoRouters } from "./topologies.ts";

const ENDS = { source: CLIENT, destination: SERVER, sourcePort: 40000, destinationPort: 443 };
/** The ports that west assigns: the first of the session's shard. */
const PAIR = firstPair(ENDS);
const ADDITIONAL = ["first", "second", "third", "fourth"];

/** Send the client's SYN and let it run as far as it goes. */
function sendLead(net: TwoRouters, ends = ENDS): void {
  net.world.send(net.client, tcpFrame(ends, { flags: SYN, sequence: 1000, acknowledgment: 0 }));
  net.world.run(5);
}

/** A session whose handshake is complete, to a server that answers in upper case. */
function established(): TwoRouters {
  const net = twoRouters();
  net.server.onPacket = tcpServer(net.world, net.server);
  sendLead(net);
  net.world.send(net.client, tcpFrame(ENDS, { flags: ACK, sequence: 1001, acknowledgment: 5001 }));
  net.world.run(5);
  return net;
}

function sendAdditional(net: TwoRouters): void {
  let sequence = 1001;
  for (const text of ADDITIONAL) {
    net.world.send(net.client, tcpFrame(ENDS, { flags: ACK | PSH, sequence, acknowledgment: 5001 }, text));
    net.world.run(5);
    sequence += text.length;
  }
}

const endsOf = ({ source, destination, sourcePort, destinationPort }: SeenPacket) => ({
  source,
  destination,
  sourcePort,
  destinationPort,
});

/** IP-routable: a stranger reads its header, which has what every router on the way needs. */
function assertRoutable(t: ExecutionContext, packet: SeenPacket, source: string, destination: string): void {
  const buffer = Buffer.from(packet.frame.subarray(14));
  const read = ipPacket.decode({ start: 0, end: buffer.length, buffer });
  t.is(read.version, 4);
  t.deepEqual([read.sourceIp, read.destinationIp], [source, destination]);
  t.is(read.protocol, 6);
  t.true(read.ttl > 1);
  t.is(read.fragmentOffset, 0);
  const made = Buffer.from(buffer.subarray(0, 20));
  ipPacket.checksum(made);
  t.is(read.checksum, made.readUInt16BE(10));
  t.true(packet.checksumsRight);
}

const wordOf = (net: TwoRouters, flow: number, word: number): number =>
  net.west.sessions.flows.words[(flow << FLOW_SHIFT) + word];

test("claim 1 a: the packets of a session share one identifier, made of the client's and the server's socket", (t) => {
  const net = established();
  sendAdditional(net);
  for (const packet of packetsOn(net.lan, "client")) t.deepEqual(endsOf(packet), ENDS);
  for (const packet of packetsOn(net.lan, "west")) t.deepEqual(endsOf(packet), swapEnds(ENDS));
  const identifier = [parseAddress(CLIENT), parseAddress(SERVER), (40000 << 16) | 443, 6];
  for (const { sessions } of [net.west, net.east]) {
    t.is(sessions.table.count, 1);
    t.deepEqual([...sessions.table.context.subarray(0, 4)], identifier);
  }
  t.deepEqual(net.east.sessions.table.uuid.slice(0, 4), net.west.sessions.table.uuid.slice(0, 4));
  sendLead(net, { ...ENDS, sourcePort: 40001 });
  t.is(net.west.sessions.table.count, 2, "another client socket is another session");
});

test("claim 1 b: an intermediate node with its own IP address obtains the session's lead packet", (t) => {
  const net = twoRouters();
  t.deepEqual(sessionRows(net.west), []);
  sendLead(net);
  const [lead] = packetsOn(net.lan);
  const own = net.west.interfaces.flatMap(({ addresses }) => addresses.map(({ address }) => address));
  t.true(own.includes(parseAddress("198.18.0.1")));
  t.false(own.includes(parseAddress(lead.destination)), "the packet is for another");
  t.deepEqual([...lead.frame.subarray(0, 6)], [...net.west.ports[0].info().mac], "and yet it came to this node");
  t.is(sessionRows(net.west).length, 1);
});

test("claim 1 c: the lead packet is modified to include the node's IP address and port number", (t) => {
  const net = twoRouters();
  sendLead(net);
  const [lead] = packetsOn(net.wan);
  t.is(lead.source, "198.18.0.1");
  t.is(lead.sourcePort, PAIR.sourcePort);
  t.is(lead.tcpFlags, SYN);
  t.is(lead.sequence, 1000);
});

test("claim 1 d: the modified lead packet is forwarded toward the destination through an output interface", (t) => {
  const net = twoRouters();
  sendLead(net);
  const [lead] = packetsOn(net.wan, "west");
  t.is(lead.destination, "198.18.0.2");
  t.deepEqual([...lead.frame.subarray(6, 12)], [...net.west.ports[1].info().mac]);
  t.is(packetsOn(net.lan, "west").length, 0);
  t.is(net.west.ports[1].stats().txErrors, 0);
});

test("claim 1 e: the modified lead packet is IP-routable and is delivered to the destination node", (t) => {
  const net = twoRouters();
  sendLead(net);
  assertRoutable(t, packetsOn(net.wan)[0], "198.18.0.1", "198.18.0.2");
  const [delivered] = net.server.received;
  t.deepEqual(endsOf(delivered), ENDS);
  t.is(delivered.tcpFlags, SYN);
  t.is(delivered.sequence, 1000);
  t.is(delivered.payload.length, 0, "what was added on the way is gone");
  assertRoutable(t, delivered, CLIENT, SERVER);
});

test("claim 1 f: an IP-routable backward message comes from the subsequent node, with its address and the identifier", (t) => {
  const net = twoRouters();
  net.server.onPacket = tcpServer(net.world, net.server);
  sendLead(net);
  const [backward] = packetsOn(net.wan, "east");
  assertRoutable(t, backward, "198.18.0.2", "198.18.0.1");
  t.deepEqual(backward.metadata.get("reverse-context"), { ...swapEnds(ENDS), protocol: 6 });
  t.is(backward.metadata.get("path-id"), "198.18.0.2");
  t.is(backward.metadata.get("uuid"), packetsOn(net.wan, "west")[0].metadata.get("uuid"));
  t.is(countOf(net.west, "metadata.received"), 1);
});

test("claim 1 g: the backward message makes the association between the subsequent node's address and the identifier", (t) => {
  const net = twoRouters();
  const { table, paths } = net.west.sessions;
  sendLead(net); // nobody answers
  const [row] = sessionRows(net.west);
  t.is(table.downstream.state[row], SIDE_SENDING);
  net.server.onPacket = tcpServer(net.world, net.server);
  sendLead(net);
  t.is(table.downstream.state[row], SIDE_ESTABLISHED);
  t.is(paths[table.downstream.path[row]].remote, parseAddress("198.18.0.2"));
  t.deepEqual(
    [...table.context.subarray(row * 4, row * 4 + 3)],
    [parseAddress(CLIENT), parseAddress(SERVER), (40000 << 16) | 443],
  );
});

test("claim 1 h: the association is stored in memory as state of the session", (t) => {
  const net = established();
  const [row] = sessionRows(net.west);
  const flow = net.west.sessions.table.forwardFlow[row];
  const associated = () =>
    [FLOW_NEW_SOURCE, FLOW_NEW_DESTINATION, FLOW_NEW_PORTS].map((word) => wordOf(net, flow, word));
  const expected = [
    parseAddress("198.18.0.1"),
    parseAddress("198.18.0.2"),
    (PAIR.sourcePort << 16) | PAIR.destinationPort,
  ];
  t.deepEqual(associated(), expected);
  net.world.skip(600_000, 1000);
  t.deepEqual(sessionRows(net.west), [row], "it stays while nothing is sent");
  t.deepEqual(associated(), expected);
});

test("claim 1 i: the node obtains additional packets of the session from the originating node", (t) => {
  const net = established();
  const { flows, table } = net.west.sessions;
  const flow = table.forwardFlow[0];
  const before = flows.packets(flow);
  sendAdditional(net);
  t.is(flows.packets(flow), before + ADDITIONAL.length);
  t.is(wordOf(net, flow, FLOW_LAST_SEEN), net.world.clock.nowMs() - 4);
  t.is(table.count, 1, "they belong to the session that is there");
});

test("claim 1 j: all additional packets go toward the subsequent node by the stored association, IP-routable", (t) => {
  const net = established();
  const sentBefore = packetsOn(net.wan, "west").length;
  const decidedBefore = countOf(net.west, "slow-path.packets");
  sendAdditional(net);
  const additional = packetsOn(net.wan, "west").slice(sentBefore);
  t.deepEqual(
    additional.map(({ text }) => text),
    ADDITIONAL,
  );
  for (const packet of additional) {
    assertRoutable(t, packet, "198.18.0.1", "198.18.0.2");
    t.deepEqual([packet.sourcePort, packet.destinationPort], [PAIR.sourcePort, PAIR.destinationPort]);
  }
  t.is(countOf(net.west, "slow-path.packets"), decidedBefore, "nothing was decided anew");
});

test("claim 1 k: the additional packets are delivered to the destination node", (t) => {
  const net = established();
  const before = net.server.received.length;
  sendAdditional(net);
  const delivered = net.server.received.slice(before);
  t.deepEqual(
    delivered.map(({ text }) => text),
    ADDITIONAL,
  );
  for (const packet of delivered) {
    t.deepEqual(endsOf(packet), ENDS);
    t.true(packet.checksumsRight);
  }
});

test("claim 1 l: the node also obtains packets of the session that originate at the destination node", (t) => {
  const net = established();
  const { flows, table } = net.west.sessions;
  const before = flows.packets(table.reverseFlow[0]);
  sendAdditional(net);
  const answers = packetsOn(net.far, "server").slice(-ADDITIONAL.length);
  t.true(answers.every(({ source }) => source === SERVER));
  t.is(flows.packets(table.reverseFlow[0]), before + ADDITIONAL.length);
});

test("claim 1 m: the node forwards those toward the originating node, IP-routable", (t) => {
  const net = established();
  const before = packetsOn(net.lan, "west").length;
  sendAdditional(net);
  const forwarded = packetsOn(net.lan, "west").slice(before);
  t.is(forwarded.length, ADDITIONAL.length);
  for (const packet of forwarded) assertRoutable(t, packet, SERVER, CLIENT);
});

test("claim 1 n: they are delivered to the originating node", (t) => {
  const net = established();
  const before = net.client.received.length;
  sendAdditional(net);
  const delivered = net.client.received.slice(before);
  t.deepEqual(
    delivered.map(({ text }) => text),
    ADDITIONAL.map((text) => text.toUpperCase()),
  );
  for (const packet of delivered) t.deepEqual(endsOf(packet), swapEnds(ENDS));
});

test("claim 1 holds for UDP too: the lead packet is the first datagram, the backward message may be a generated one", (t) => {
  const net = twoRouters();
  const ends = { ...ENDS, destinationPort: 53 };
  net.world.send(net.client, udpFrame(ends, "question"));
  net.world.run(1100); // the server stays silent
  const [backward] = packetsOn(net.wan, "east");
  t.deepEqual(backward.metadata.get("reverse-context"), { ...swapEnds(ends), protocol: 17 });
  t.is(net.west.sessions.table.downstream.state[0], SIDE_ESTABLISHED);
  t.is(net.client.received.length, 0);
});
