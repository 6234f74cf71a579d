// One engine over memory: what a packet costs from decode to the transmit queue. The port's own work is measured in
// between and taken off; both are printed.

import { FrameBatch } from "../../lib/io/port.ts";
import { PROTOCOL_ICMP, PROTOCOL_UDP } from "../../lib/wire/flow-key.ts";
import { drain } from "../bench-port.ts";
import { BenchRouter, MAC_HIGH, macLow } from "../bench-router.ts";
import { nanoseconds, print, seededRandom } from "../harness.ts";
import { IMIX, LARGE, makeTraffic, SMALL, sequence, shuffled } from "../traffic.ts";

const PACKETS = 1_000_000;
const RUNS = 5;

function forwarding(sessions: number, lengths: readonly number[], what: string, protocol = PROTOCOL_UDP): void {
  const bench = new BenchRouter(sessions);
  const traffic = makeTraffic({ sessions, lengths, macHigh: MAC_HIGH, macLow: macLow(0), protocol });
  bench.establish(traffic);
  const batch = new FrameBatch(new Uint8Array(0), 128);
  const [from, to] = bench.ports;
  const path = protocol === PROTOCOL_ICMP ? "slow" : "fast";
  const orders = protocol === PROTOCOL_ICMP ? ["random"] : ["sequence", "random"];
  for (const order of orders) {
    traffic.order = order === "random" ? shuffled(sessions, seededRandom()) : sequence(sessions);
    const mode = `${what}, ${sessions} sessions, ${order} order, unsigned, unencrypted`;
    const packets = path === "slow" ? PACKETS / 10 : PACKETS;
    const common = { name: "", mode, operations: packets, runs: RUNS };
    const port = nanoseconds({
      ...common,
      run: () => {
        bench.bare[0].offer(traffic, packets);
        return drain(from, to, batch);
      },
    });
    const both = nanoseconds({
      ...common,
      run: () => {
        const left = bench.forward(traffic, packets);
        if (left !== packets) throw new Error(`${left} of ${packets} packets were forwarded`);
        return left;
      },
    });
    const portMedian = print(`replay.port-${path}`, "ns/packet", mode, port).median;
    print(
      `replay.engine-${path}-path`,
      "ns/packet",
      mode,
      both.map((ns) => ns - portMedian),
    );
  }
}

forwarding(1_000, SMALL, "60-byte UDP");
forwarding(1_000, LARGE, "1,400-byte UDP");
forwarding(1_000, IMIX, "IMIX UDP");
forwarding(100_000, SMALL, "60-byte UDP");
forwarding(1_000_000, SMALL, "60-byte UDP");
forwarding(1_000, SMALL, "60-byte ICMP echo", PROTOCOL_ICMP);
