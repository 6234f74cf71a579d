// A TCP segment of no session that is no SYN: what the service's transport-state-enforcement makes of it (protocol sheet 7.6).

import test from "ava";
import { readCounters } from "../../lib/control/metrics.ts";
import type { SessionsAnswer } from "../../lib/control/show.ts";
import { snapshot } from "../../lib/control/snapshot.ts";
import { ACK, FIN, PSH, RST, SYN } from "../../lib/wire/tcp.ts";
import { swapEnds, tcpFrame } from "./packets.ts";
import { CLIENT, dropsOf, packetsOn, SERVER, sessionRows, twoPaths } from "./topologies.ts";

const ENDS = { source: CLIENT, destination: SERVER, sourcePort: 40000, destinationPort: 443 };
const IN_ITS_MIDST = { flags: ACK | PSH, sequence: 5000, acknowledgment: 9000 };

const net = (enforcement: string) =>
  twoPaths({
    service: ", policy: p",
    extra: `service-policies: [{ name: p, transport-state-enforcement: ${enforcement} }]\n`,
  });

for (const enforcement of ["reset", "block"]) {
  test(`${enforcement}: the segment opens nothing, and is ${enforcement === "reset" ? "answered with a reset" : "not answered"}`, (t) => {
    const { world, client, west, wan } = net(enforcement);
    world.send(client, tcpFrame(ENDS, IN_ITS_MIDST, "data"));
    world.run(5);
    t.is(dropsOf(west)["tcp-mid-flow"], 1);
    t.is(packetsOn(wan).length, 0);
    t.deepEqual(
      client.received.map(({ tcpFlags }) => tcpFlags),
      enforcement === "reset" ? [RST] : [],
    );
  });
}

test("allow: the segment opens its session, established at every router, and both ends go on", (t) => {
  const { world, client, server, west, east } = net("allow");
  world.send(client, tcpFrame(ENDS, IN_ITS_MIDST, "data"));
  world.run(5);
  t.is(server.received[0].text, "data");
  world.send(server, tcpFrame(swapEnds(ENDS), { flags: ACK, sequence: 9000, acknowledgment: 5004 }, "answer"));
  world.run(5);
  t.is(client.received[0].text, "answer");
  for (const router of [west, east]) {
    const { sessions } = snapshot(router, "sessions") as SessionsAnswer;
    t.deepEqual(
      sessions.map(({ state }) => state),
      ["established"],
    );
    t.is(router.sessions.halfOpenCount, 0);
  }
  world.skip(60_000);
  t.is(sessionRows(east).length, 1, "it lives as long as one that began with a SYN");
});

test("allow: what cannot be the midst of a conversation opens nothing", (t) => {
  const { world, client, west, wan } = net("allow");
  for (const flags of [RST, RST | ACK, SYN | ACK, FIN, 0]) {
    world.send(client, tcpFrame(ENDS, { ...IN_ITS_MIDST, flags }));
    world.run(2);
  }
  t.is(packetsOn(wan).length, 0);
  t.is(dropsOf(west)["tcp-mid-flow"], 5);
  t.is(readCounters(west)["tcp.resets-sent"], 0);
});
