// `show drops`: for each reason the last packet that was dropped for it, and what to ask `explain` about it.

import test from "ava";
import { explainLive } from "../../lib/control/explain-live.ts";
import { readCounters } from "../../lib/control/metrics.ts";
import { parsePacket } from "../../lib/control/packet-text.ts";
import { type DropsAnswer, printAnswer } from "../../lib/control/show.ts";
import { snapshot } from "../../lib/control/snapshot.ts";
import { COUNTERS } from "../../lib/engine/counters.ts";
import { MemoryPort } from "../../lib/io/memory-port.ts";
import type { Port } from "../../lib/io/port.ts";
import { Losses } from "../../lib/monitor/losses.ts";
import { explainPacket } from "../../lib/offline-router.ts";
import type { Router } from "../../lib/router.ts";
import { CounterSet } from "../../lib/table/counter-set.ts";
import { ACK } from "../../lib/wire/tcp.ts";
import { CONSUMED, DROP_NO_SERVICE, DROP_NOT_A_PEER } from "../../lib/wire/verdict.ts";
import { mergeAnswers } from "../../lib/worker/merge.ts";
import { batchOf } from "../contract/port-contract.ts";
import { unaccounted } from "../fuzz/fuzzed.ts";
import { echoFrame, pattern, protocolFrame, tcpFrame, udpFrame } from "./packets.ts";
import { takeOver } from "./successor.ts";
import { CLIENT, SERVER, twoRouters } from "./topologies.ts";

const dropsOf = (router: Router) => (snapshot(router, "drops") as DropsAnswer).drops;
const ELSEWHERE = "10.9.0.7";

test("a router that has dropped nothing has nothing to show", (t) => {
  const { west } = twoRouters();
  t.deepEqual(dropsOf(west), []);
  t.is(printAnswer("drops", { drops: [] }).includes("waymark explain"), false);
});

test("each reason has its count, its last packet, where and when, and what explain says of it is the same reason", (t) => {
  const { world, client, west } = twoRouters();
  const send = (frame: Uint8Array) => {
    world.send(client, frame);
    world.run(200);
  };
  const ends = { source: CLIENT, destination: ELSEWHERE, sourcePort: 4000, destinationPort: 53 };
  for (const port of [4000, 4001, 4002]) send(udpFrame({ ...ends, sourcePort: port }, pattern(900)));
  send(tcpFrame({ ...ends, destination: SERVER }, { flags: ACK, sequence: 1, acknowledgment: 1 }));
  const drops = dropsOf(west);
  t.deepEqual(
    drops.map(({ reason, count }) => [reason, count]),
    [
      ["no-service", 3],
      ["tcp-mid-flow", 1],
    ],
  );
  const [service, midFlow] = drops.map(({ sample }) => sample!);
  t.like(service, {
    agoMs: 399,
    interface: "lan0",
    length: 942,
    explain: `--rx lan0 --packet 'udp ${CLIENT}:4002 > ${ELSEWHERE}:53'`,
  });
  t.is(service.bytes.length, 2 * 134);
  t.regex(service.packet, new RegExp(`${CLIENT}.*4002 > ${ELSEWHERE}.*53`));
  t.is(midFlow.explain, `--rx lan0 --packet 'tcp ${CLIENT}:4000 > ${SERVER}:53 ack'`);
  for (const { reason, sample } of drops) {
    const [, at, text] = /--rx (\S+) --packet '(.*)'/.exec(sample!.explain!)!;
    const said = JSON.stringify(explainPacket(west.config, { interface: at, packet: parsePacket(text) }));
    t.true(said.includes(reason), `${reason}: ${said}`);
  }
  const printed = printAnswer("drops", { drops });
  t.regex(printed, /no-service +3 +/);
  t.true(printed.includes(`waymark explain ${midFlow.explain}\n`));
});

test("what explain has no words for has none, and a frame that cannot be read is shown all the same", (t) => {
  const { world, client, west } = twoRouters();
  for (const frame of [
    protocolFrame(CLIENT, ELSEWHERE, 47, pattern(20)),
    echoFrame(CLIENT, ELSEWHERE, 1, 1, "reply", true),
    udpFrame({ source: CLIENT, destination: SERVER, sourcePort: 1, destinationPort: 2 }, "x").slice(0, 30),
  ]) {
    world.send(client, frame);
    world.run(200);
  }
  for (const { sample } of dropsOf(west)) t.is(sample!.explain, null);
  t.deepEqual(
    dropsOf(west)
      .map(({ reason }) => reason)
      .sort(),
    ["no-service", "runt"],
  );
});

test("a flood pays for a sample each tenth of a second, and the workers' are one answer", (t) => {
  const { world, client, west } = twoRouters();
  const flood = (port: number) =>
    world.send(
      client,
      udpFrame({ source: CLIENT, destination: ELSEWHERE, sourcePort: port, destinationPort: 53 }, "x"),
    );
  for (let n = 0; n < 50; n++) {
    flood(5000 + n);
    world.settle();
  }
  world.run(5);
  const [{ count, sample }] = dropsOf(west);
  t.is(count, 50);
  t.regex(sample!.explain!, /:5000 >/);
  const one = { drops: dropsOf(west) };
  const later = {
    drops: one.drops.map((drop) => ({ ...drop, count: 7, sample: { ...drop.sample!, agoMs: 0, packet: "later" } })),
  };
  const merged = mergeAnswers("drops", [one, later]) as DropsAnswer;
  t.deepEqual(
    merged.drops.map((drop) => [drop.reason, drop.count, drop.sample!.packet]),
    [["no-service", 57, "later"]],
  );
});

test("what a monitor in another thread has dropped counts with what the engine has, with the later of both frames", async (t) => {
  const net = twoRouters();
  const { world, client, west } = net;
  const ours = udpFrame({ source: CLIENT, destination: ELSEWHERE, sourcePort: 4000, destinationPort: 53 }, "ours");
  world.send(client, ours);
  world.run(200);
  const bfd = { source: "198.18.0.9", destination: "198.18.0.1", sourcePort: 4000, destinationPort: 3784 };
  const batch = batchOf([udpFrame(bfd, "one"), udpFrame(bfd, "the last")]);
  const counters = new CounterSet(COUNTERS);
  const losses = new Losses(counters, [1]);
  const port = new MemoryPort({ name: "wan0", mac: new Uint8Array(6) });
  const lost = { ...port.stats(), txFull: 3, rxKernelDrops: 5 };
  const ports = [port, { ...port, stats: () => lost } as unknown as Port];
  // Its clock began at another time, and what it took in is no loss.
  losses.count(CONSUMED, batch, 0, 0, 1000);
  losses.count(DROP_NOT_A_PEER, batch, 0, 0, 1000);
  losses.count(DROP_NOT_A_PEER, batch, 1, 0, 2000);
  losses.count(DROP_NO_SERVICE, batch, 0, 0, 1000);
  const report = losses.report(ports, 2300);
  t.is(losses.report(ports, 3000), null, "each is said once");
  west.monitorLosses.take(structuredClone(report!), world.clock.nowMs());
  lost.rxKernelDrops += 2;
  west.monitorLosses.take(losses.report(ports, 4000)!, world.clock.nowMs());
  const drops = () => dropsOf(west).map(({ reason, count, sample }) => [reason, count, sample?.agoMs, sample?.packet]);
  t.deepEqual(drops(), [
    ["tx-full", 3, undefined, undefined],
    ["no-service", 2, 199, dropsOf(west)[1].sample!.packet],
    ["not-a-peer", 2, 300, "udp 198.18.0.9:4000 > 198.18.0.1:3784 length 36 ttl 64 payload 8"],
  ]);
  t.true(dropsOf(west)[1].sample!.packet.includes(CLIENT), "the engine's is the later one");
  t.is(dropsOf(west)[2].sample!.interface, "wan0", "the thread has that one interface alone");
  const totals = readCounters(west);
  t.like(totals, {
    "drop.no-service": 1,
    "drop.not-a-peer": 0,
    "monitor.drop.no-service": 1,
    "monitor.drop.not-a-peer": 2,
    "monitor.drop.tx-full": 3,
    "monitor.rx-kernel-drops": 7,
  });
  t.is(unaccounted(totals), 0, "the engine's books have nothing of it");
  const explained = await explainLive(west, new URLSearchParams("drop=not-a-peer"));
  t.like(explained, { count: 2, sample: { now: { verdict: "unknown" } } });
  const before = drops();
  const successor = takeOver(net, "west");
  t.deepEqual(
    dropsOf(successor).map(({ reason, count, sample }) => [reason, count, sample?.agoMs, sample?.packet]),
    before,
  );
  t.is(readCounters(successor)["monitor.rx-kernel-drops"], 7);
});
