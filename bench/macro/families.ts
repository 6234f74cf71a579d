// What IPv6 costs: packets of hosts of either family over paths of either, through two whole routers in one process, in
// turns with IPv4 over IPv4. Wires of memory are paid in all of them, and what makes the packets. Processor time of it all.

import { MAC_HIGH, macLow } from "../bench-router.ts";
import { print, processorNs } from "../harness.ts";
import { makeTraffic, SMALL } from "../traffic.ts";
import { KEYS_MODE, TwoRouters, WEST } from "../two-routers.ts";

const SESSIONS = 1_000;
const PACKETS = 100_000;
const ROUNDS = 11;
const WARM_UPS = 3;
/** A wire of memory holds so many. */
const TOGETHER = 64;
const MIXES = [
  [4, 4],
  [6, 6],
  [4, 6],
  [6, 4],
] as const;
const MODE = `60-byte UDP over IPv4, 80 over IPv6, ${SESSIONS} sessions, two routers in one process, ${KEYS_MODE.none}`;

const traffic = makeTraffic({ sessions: SESSIONS, lengths: SMALL, macHigh: MAC_HIGH, macLow: macLow(0) });

function send(pair: TwoRouters, count: number): void {
  for (let sent = 0; sent < count; sent += TOGETHER) pair.carry(WEST, traffic, Math.min(TOGETHER, count - sent));
  pair.advance(1);
}

const pairs = MIXES.map(([hosts, paths]) => {
  const pair = new TwoRouters({ sessions: SESSIONS, hosts, paths }, () => 0);
  for (let round = 0; round < 4; round++) send(pair, SESSIONS);
  return pair;
});
const samples: number[][] = MIXES.map(() => []);
for (let round = -WARM_UPS; round < ROUNDS; round++) {
  for (const [n, pair] of pairs.entries()) {
    const start = processorNs();
    send(pair, PACKETS);
    if (round >= 0) samples[n].push((processorNs() - start) / PACKETS);
  }
}
for (const [n, [hosts, paths]] of MIXES.entries()) {
  const name = `families.ipv${hosts}-over-ipv${paths}`;
  print(name, "ns/packet", MODE, samples[n]);
  const ratios = samples[n].map((ns, round) => samples[0][round] / ns);
  if (n > 0) print(`${name}.rate-to-ipv4`, "ratio", MODE, ratios);
}
