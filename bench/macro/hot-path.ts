// The hot path by number of sessions, in random order: what a packet costs from decode to the transmit queue, and how it
// grows from a thousand sessions to a million. Frames are computed (computed-port.ts); what that costs is measured in
// the same rounds and taken off.

import { FrameBatch } from "../../lib/io/port.ts";
import { drain } from "../bench-port.ts";
import { BenchRouter } from "../bench-router.ts";
import { ComputedPort } from "../computed-port.ts";
import { nanoseconds, print } from "../harness.ts";
import type { Traffic } from "../traffic.ts";

const PACKETS = 500_000;
const RUNS = 9;
const CURVE = [1_000, 10_000, 100_000, 1_000_000];

function hotPath(sessions: number): number[] {
  const bench = new BenchRouter(sessions, (name, mac) => new ComputedPort(name, mac));
  const traffic = { sessions } as Traffic;
  bench.establish(traffic);
  const batch = new FrameBatch(new Uint8Array(0), 128);
  const [from, to] = bench.ports;
  const common = { name: "", mode: "", operations: PACKETS, runs: RUNS };
  const port = nanoseconds({
    ...common,
    run: () => {
      bench.bare[0].offer(traffic, PACKETS);
      return drain(from, to, batch);
    },
  }).sort((a, b) => a - b)[RUNS >> 1];
  const both = nanoseconds({
    ...common,
    run: () => {
      const left = bench.forward(traffic, PACKETS);
      if (left !== PACKETS) throw new Error(`${left} of ${PACKETS} packets were forwarded`);
      return left;
    },
  });
  return both.map((ns) => ns - port);
}

const modeOf = (sessions: number) => `60-byte UDP, ${sessions} sessions, random order, unsigned, unencrypted`;
const curve = CURVE.map((sessions) => {
  const samples = hotPath(sessions);
  print("replay.hot-path", "ns/packet", modeOf(sessions), samples);
  return samples;
});
const few = curve[0];
const many = curve[CURVE.length - 1];
print("replay.hot-path-1M", "ns/packet", modeOf(1_000_000), many);
const ratios = many.map((ns, run) => ns / few[run]);
print("replay.hot-path-1M-to-1k", "ratio", modeOf(1_000_000).replace("1000000", "1000000 to 1000"), ratios);
