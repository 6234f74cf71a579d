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
type Bulk = typeof BULK_MTU | typeof BULK | typeof BULK_8;
const SMALL_FULL = "60-byte UDP, 64 sessions, full blast, two routers";
const UDP = {
  "60-byte UDP, 64 sessions, 10 kframe/s offered, two routers": { sessions: 64, lengths: [60], rate: 10_000 },
  [SMALL_FULL]: { sessions: 64, lengths: [60], rate: 0 },
  "1,400-byte UDP, 64 sessions, full blast, two routers": { sessions: 64, lengths: [1400], rate: 0 },
  "IMIX UDP, 4,096 sessions, full blast, two routers": { sessions: 4096, lengths: IMIX, rate: 0 },
};

/** One bulk transfer: rate, and processor time and bytes between the routers for each byte that reached the server. */
async function bulk(race: Race, contender: Contender, children: readonly ChildProcess[], what: Bulk): Promise<void> {
  const { chain } = race;
  chain.hostOffloads(what.offloads);
  const [machine, processes, wire] = [machineUs(), processesUs(children), chain.wireBytes()];
  const args = ["-c", SERVER, "-t", what.seconds, "-P", what.connections, "-J"].map(String);
  const client = chain.namespaces.spawn("client", null, "iperf3", args, { timeout: IPERF_TIMEOUT_MS });
  const { bytes, bits_per_second: rate } = JSON.parse(await output(client)).end.sum_received;
  const add = (name: string, unit: string, value: number) =>
    race.add(contender, { name, unit, traffic: `${what.traffic}, two routers` }, value);
  add(what.offloads === "on" ? "bulk" : "bulk-mtu", "Mbit/s", rate / 1e6);
  add("bulk-machine-cpu", "ns/byte", ((machineUs() - machine) * 1000) / bytes);
  if (children.length > 0) add("bulk-cpu", "ns/byte", ((processesUs(children) - processes) * 1000) / bytes);
  // A device counts a super-frame once: only frames as long as the wire allows tell what the wire carries.
  if (what === BULK_MTU) add("wire-bytes", "byte/payload byte", (chain.wireBytes() - wire) / bytes);
}

const REFERENCES = ["c-sendmmsg", "c-vnet", "kernel", "kernel-masquerade", "wireguard-go", "nebula"];
const WAYMARKS = ["waymark-libpcap", "waymark-af-packet"];

await live("two-routers", 2, [...REFERENCES, ...WAYMARKS], async (race) => {
  const server = race.chain.namespaces.spawn("server", null, "iperf3", ["-s"], { stdio: "ignore" });
  await race.run(async (contender, children) => {
    for (const [traffic, blast] of Object.entries(UDP)) {
      await race.blast(contender, children, traffic, { ...blast, milliseconds: MILLISECONDS });
    }
    race.pin(contender, children, false);
    await sleep(100);
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
      race.ratio(ours, theirs, "bulk-mtu", `${BULK_MTU.traffic}, two routers`);
    }
  }
});
