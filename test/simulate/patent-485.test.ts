// Claim 1 of US 9,762,485, step by step (protocol sheet 1.2), by a UDP session through two real engines. The
// intermediate node is router west.

import test from "ava";
import ipPacket from "ip-packet";
import { parseAddress } from "../../lib/control/address-text.ts";
import type { Router } from "../../lib/router.ts";
import {
  FLOW_NEW_DESTINATION,
  FLOW_NEW_PORTS,
  FLOW_NEW_SOURCE,
  FLOW_SESSION,
  FLOW_SHIFT,
} from "../../lib/table/flow-table.ts";
import { udpFrame } from "./packets.ts";
import { firstPair } from "./peer.ts";
import { CLIENT, packetsOn, SERVER, sessionRows, type TwoRouters, twoRouters } from "./topologies.ts";

const ENDS = { source: CLIENT, destination: SERVER, sourcePort: 40000, destinationPort: 5000 };
/** The ports that west assigns: the first of the session's shard. */
const PAIR = firstPair(ENDS);
const OTHER_PAIR = firstPair({ ...ENDS, sourcePort: 40001 });
const CLIENT_IP = parseAddress(CLIENT);
const SERVER_IP = parseAddress(SERVER);
const WEST_IP = parseAddress("198.18.0.1");
const EAST_IP = parseAddress("198.18.0.2");
const UDP = 17;
const LAN = 0;
const WAN = 1;
const portsOf = (source: number, destination: number): number => (source << 16) | destination;

function afterLead(): TwoRouters {
  const net = twoRouters();
  net.world.send(net.client, udpFrame(ENDS, "lead"));
  net.world.run(5);
  return net;
}

/** What a packet with this key would be rewritten to: source, destination, ports. */
function rewriteOf(router: Router, source: number, destination: number, ports: number, interfaceId: number): number[] {
  const { flows } = router.sessions;
  const flow = flows.find(source, destination, ports, (interfaceId << 8) | UDP);
  return [FLOW_NEW_SOURCE, FLOW_NEW_DESTINATION, FLOW_NEW_PORTS].map(
    (word) => flows.words[(flow << FLOW_SHIFT) + word],
  );
}

test("'485 claim 1 step 1: the node obtains the lead packet and reads its 5-tuple", (t) => {
  const net = afterLead();
  const [row] = sessionRows(net.west);
  t.deepEqual(
    [...net.west.sessions.table.context.subarray(row * 4, row * 4 + 4)],
    [CLIENT_IP, SERVER_IP, portsOf(40000, 5000), UDP],
  );
});

test("'485 claim 1 step 2: it stores return association information made from that 5-tuple", (t) => {
  const net = afterLead();
  t.deepEqual(rewriteOf(net.west, EAST_IP, WEST_IP, portsOf(PAIR.destinationPort, PAIR.sourcePort), WAN), [
    SERVER_IP,
    CLIENT_IP,
    portsOf(5000, 40000),
  ]);
  const { flows, table } = net.west.sessions;
  t.is(flows.words[(table.reverseFlow[0] << FLOW_SHIFT) + FLOW_SESSION], 0);
});

test("'485 claim 1 step 3: it determines the next node", (t) => {
  const net = afterLead();
  const { table, paths } = net.west.sessions;
  const path = paths[table.downstream.path[0]];
  t.is(path.peerName, "east");
  t.is(path.remote, EAST_IP);
});

test("'485 claim 1 step 4: it assigns a source port and a destination port for the session", (t) => {
  const net = afterLead();
  net.world.send(net.client, udpFrame({ ...ENDS, sourcePort: 40001 }, "lead of another"));
  net.world.run(5);
  const pairs = packetsOn(net.wan, "west").map(({ sourcePort, destinationPort }) => [sourcePort, destinationPort]);
  t.deepEqual(
    pairs,
    [
      [PAIR.sourcePort, PAIR.destinationPort],
      [OTHER_PAIR.sourcePort, OTHER_PAIR.destinationPort],
    ],
    "an even one for itself, an odd one for the next node, anew for each session",
  );
  t.is(net.west.sessions.paths[0].udpPorts.inUse, 2);
});

test("'485 claim 1 step 5: it stores the forward association, the next node and the two assigned ports", (t) => {
  const net = afterLead();
  t.deepEqual(rewriteOf(net.west, CLIENT_IP, SERVER_IP, portsOf(40000, 5000), LAN), [
    WEST_IP,
    EAST_IP,
    portsOf(PAIR.sourcePort, PAIR.destinationPort),
  ]);
});

test("'485 claim 1 step 6: the lead packet becomes its own, with the assigned ports, the protocol kept and the original addresses and ports as metadata", (t) => {
  const net = afterLead();
  const [lead] = packetsOn(net.wan, "west");
  const buffer = Buffer.from(lead.frame.subarray(14));
  const read = ipPacket.decode({ start: 0, end: buffer.length, buffer });
  t.deepEqual([read.sourceIp, read.destinationIp, read.protocol], ["198.18.0.1", "198.18.0.2", UDP]);
  t.deepEqual([lead.sourcePort, lead.destinationPort], [PAIR.sourcePort, PAIR.destinationPort]);
  t.deepEqual(lead.metadata.get("forward-context"), { ...ENDS, protocol: UDP });
  t.is(lead.text, "lead");
});

test("'485 claim 1 step 7: the lead packet is forwarded to the next node, which holds the same pair of ports", (t) => {
  const net = afterLead();
  const [lead] = packetsOn(net.wan, "west");
  t.deepEqual([...lead.frame.subarray(0, 6)], [...net.east.ports[WAN].info().mac]);
  t.deepEqual(rewriteOf(net.east, SERVER_IP, CLIENT_IP, portsOf(5000, 40000), LAN), [
    EAST_IP,
    WEST_IP,
    portsOf(PAIR.destinationPort, PAIR.sourcePort),
  ]);
  t.deepEqual(
    net.server.received.map(({ text }) => text),
    ["lead"],
  );
});
