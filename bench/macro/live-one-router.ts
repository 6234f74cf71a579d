// One router between a generator and a sink: UDP frames that it forwards, beside C forwarders and the kernel in the same
// run. The generator has one processor; what forwards has the other, the kernel's forwarding too (receive packet
// steering); the sink is a counter of the kernel. Root only; bench/README.md has the method.

import { setTimeout as sleep } from "node:timers/promises";
import { IMIX } from "../live/chain.ts";
import { threadsUs } from "../live/meters.ts";
import { live } from "../live/race.ts";

const MILLISECONDS = 600;
const IDLE_MS = 1000;
/** An idle router has not settled before: code is still being optimized, memory collected. */
const SETTLE_MS = 1000;
const SMALL_FULL = "60-byte UDP, 64 sessions, full blast, one router";
const TRAFFIC = {
  "60-byte UDP, 64 sessions, 100 kframe/s offered, one router": { sessions: 64, lengths: [60], rate: 100_000 },
  [SMALL_FULL]: { sessions: 64, lengths: [60], rate: 0 },
  "1,400-byte UDP, 64 sessions, 50 kframe/s offered, one router": { sessions: 64, lengths: [1400], rate: 50_000 },
  "1,400-byte UDP, 64 sessions, full blast, one router": { sessions: 64, lengths: [1400], rate: 0 },
  "IMIX UDP, 4,096 sessions, full blast, one router": { sessions: 4096, lengths: IMIX, rate: 0 },
};

const REFERENCES = ["c-pcap-inject", "c-sendmmsg", "c-vnet", "kernel", "kernel-masquerade"];
const WAYMARKS = ["waymark-libpcap", "waymark-af-packet"];

await live("one-router", 1, [...REFERENCES, ...WAYMARKS], async (race) => {
  await race.run(async (contender, children) => {
    if (WAYMARKS.includes(contender.name)) {
      await sleep(SETTLE_MS);
      const before = threadsUs(children[0]);
      await sleep(IDLE_MS);
      const percent = (threadsUs(children[0]) - before) / (IDLE_MS * 10);
      race.add(contender, { name: "idle-cpu", unit: "% of a core", traffic: "no traffic, one router" }, percent);
    }
    for (const [traffic, blast] of Object.entries(TRAFFIC)) {
      await race.blast(contender, children, traffic, { ...blast, milliseconds: MILLISECONDS });
    }
  });
  race.print();
  for (const ours of WAYMARKS) {
    for (const theirs of REFERENCES) {
      race.ratio(ours, theirs, "delivered", SMALL_FULL);
      race.ratio(ours, theirs, "cpu", SMALL_FULL);
    }
  }
});
