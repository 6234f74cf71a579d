// Two routers between a client and a server: TCP bulk by iperf3 and UDP frames, beside C forwarders, the kernel and
// userspace tunnels in the same run. TCP runs anywhere on the two processors; for UDP the generator has one of them and
// everything that forwards has the other. Root only; bench/README.md has the method.

import { setTimeout as sleep } from "node:timers/promises";
import { BULK, BULK_8, BULK_MTU, bulk, iperf } from "../live/bulk.ts";
import { IMIX } from "../live/chain.ts";
import type { Contender } from "../live/contenders.ts";
import { live, type Race } from "../live/race.ts";
import { stop } from "../namespaces.ts";

const MILLISECONDS = 600;
const WIRE_WAIT_MS = 200;
const WIRE_TRAFFIC = "TCP, 4 MB at 100 Mbit/s, MTU frames, two routers";
const SMALL_FULL = "60-byte UDP, 64 sessions, full blast, two routers";
const UDP = {
  "60-byte UDP, 64 sessions, 20 kframe/s offered, two routers": { sessions: 64, lengths: [60], rate: 20_000 },
  [SMALL_FULL]: { sessions: 64, lengths: [60], rate: 0 },
  "1,400-byte UDP, 64 sessions, full blast, two routers": { sessions: 64, lengths: [1400], rate: 0 },
  "IMIX UDP, 4,096 sessions, full blast, two routers": { sessions: 4096, lengths: IMIX, rate: 0 },
};

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
