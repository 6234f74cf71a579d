// Two routers between a client and a server: TCP bulk by iperf3 and UDP frames, beside C forwarders, the kernel and
// userspace tunnels in the same run. TCP runs anywhere on the two processors; for UDP the generator has one of them and
// everything that forwards has the other. Root only; bench/README.md has the method.

import type { ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { IMIX, SERVER } from "../live/chain.ts";
import type { Contender } from "../live/contenders.ts";
import { machineUs, processesUs } from "../live/meters.ts";
import { live, type Race } from "../live/race.ts";
import { output, stop } from "../namespaces.ts";

const MILLISECONDS = 600;
const IPERF_TIMEOUT_MS = 20_000;
/** Host offloads off: MTU frames, which everybody can carry; on: whoever can takes super-frames, others cut them. */
const BULK_MTU = {
  connections: 1,
  seconds: 2,
  offloads: "off",
  traffic: "TCP bulk, 1 connection, MTU frames",
} as const;
const BULK = {
  connections: 1,
  seconds: 2,
  offloads: "on",
  traffic: "TCP bulk, 1 connection, host offloads on",
} as const;
const BULK_8 = {
  connections: 8,
  seconds: 1,
  offloads: "on",
  traffic: "TCP bulk, 8 connections, host offloads on",
} as const;
const WIRE_WAIT_MS = 200;
const WIRE_TRAFFIC = "TCP, 4 MB at 100 Mbit/s, MTU frames, two routers";
type Bulk = typeof BULK_MTU | typeof BULK | typeof BULK_8;
const SMALL_FULL = "60-byte UDP, 64 sessions, full blast, two routers";
const UDP = {
  "60-byte UDP, 64 sessions, 20 kframe/s offered, two routers": { sessions: 64, lengths: [60], rate: 20_000 },
  [SMALL_FULL]: { sessions: 64, lengths: [60], rate: 0 },
  "1,400-byte UDP, 64 sessions, full blast, two routers": { sessions: 64, lengths: [1400], rate: 0 },
  "IMIX UDP, 4,096 sessions, full blast, two routers": { sessions: 4096, lengths: IMIX, rate: 0 },
};

/** One bulk transfer: rate, and processor time for each byte that reached the server. */
async function bulk(race: Race, contender: Contender, children: readonly ChildProcess[], what: Bulk): Promise<void> {
  const { chain } = race;
  chain.hostOffloads(what.offloads);
  const [machine, processes] = [machineUs(), processesUs(children)];
  const { bytes, bits_per_second: rate } = (await iperf(race, "-t", what.seconds, "-P", what.connections)).sum_received;
  const add = (name: string, unit: string, value: number) =>
    race.add(contender, { name, unit, traffic: `${what.traffic}, two routers` }, value);
  add(what.offloads === "on" ? "bulk" : "bulk-mtu", "Mbit/s", rate / 1e6);
  add("bulk-machine-cpu", "ns/byte", ((machineUs() - machine) * 1000) / bytes);
  if (children.length > 0) add("bulk-cpu", "ns/byte", ((processesUs(children) - processes) * 1000) / bytes);
}

/**
 * Bytes between the routers, from client to server, for each byte of payload: a transfer too slow to lose anything. With
 * host offloads on a device would count super-frames, which have fewer headers than what they become on a wire.
 */
async function wireBytes(race: Race, contender: Contender): Promise<void> {
  const { chain } = race;
  chain.hostOffloads("off");
  const before = chain.wireBytes();
  // Not what iperf3 says was received: it does not wait for the last of it.
  const { bytes } = (await iperf(race, "-b", "100M", "-n", "4M")).sum_sent;
  await sleep(WIRE_WAIT_MS);
  const value = (chain.wireBytes() - before) / bytes;
  race.add(contender, { name: "wire-bytes", unit: "byte/payload byte", traffic: WIRE_TRAFFIC }, value);
}

interface Transfer {
  readonly bytes: number;
  readonly bits_per_second: number;
}

/** What iperf3 says at its end. */
async function iperf(race: Race, ...how: (string | number)[]): Promise<{ sum_sent: Transfer; sum_received: Transfer }> {
  const args = ["-c", SERVER, "-J", ...how.map(String)];
  const client = race.chain.namespaces.spawn("client", null, "iperf3", args, { timeout: IPERF_TIMEOUT_MS });
  return JSON.parse(await output(client)).end;
}

const REFERENCES = ["c-sendmmsg", "c-vnet", "kernel", "kernel-masquerade", "wireguard-go", "nebula"];
const WAYMARKS = ["waymark-libpcap", "waymark-af-packet"];

await live("two-routers", 2, [...REFERENCES, ...WAYMARKS], async (race) => {
  const server = race.chain.namespaces.spawn("server", null, "iperf3", ["-s"], { stdio: "ignore" });
  await race.run(async (contender, children, round) => {
    for (const [traffic, blast] of Object.entries(UDP)) {
      await race.blast(contender, children, traffic, { ...blast, milliseconds: MILLISECONDS });
    }
    race.pin(contender, children, false);
    if (round === 0) await wireBytes(race, contender);
    await bulk(race, contender, children, BULK_MTU);
    if (!contender.superFrames) return;
    await bulk(race, contender, children, BULK);
    await bulk(race, contender, children, BULK_8);
  });
  await stop(server);
  race.print();
  for (const ours of WAYMARKS) {
    for (const theirs of REFERENCES) {
      race.ratio(ours, theirs, "delivered", SMALL_FULL);
      for (const { traffic } of [BULK, BULK_8]) race.ratio(ours, theirs, "bulk", `${traffic}, two routers`);
      if (theirs.startsWith("c-")) race.ratio(ours, theirs, "bulk-mtu", `${BULK_MTU.traffic}, two routers`);
    }
  }
});
