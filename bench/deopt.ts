// Watches for deoptimization storms: code that V8 compiles, throws away and compiles again costs hundreds of
// microseconds each time, on the forwarding thread. The bench runs itself under --trace-deopt: a warm-up, then phases
// of different traffic (sizes, protocols, new sessions, sessions that end), each twice. The first time a phase comes
// code may learn; when it comes again nothing may be thrown away. Exit code 1 when something is.

import { spawnSync } from "node:child_process";
import { writeSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { PROTOCOL_ICMP, PROTOCOL_UDP } from "../lib/wire/flow-key.ts";
import { BenchRouter, MAC_HIGH, macLow } from "./bench-router.ts";
import { print, seededRandom } from "./harness.ts";
import { IMIX, makeTraffic, SMALL, shuffled } from "./traffic.ts";

const SESSIONS = 2_000;
const PACKETS = 400_000;
/** Of each phase, so often. */
const ROUNDS = 4;
const MARK = "waymark-round";

/** The traffic, in rounds; each begins with a line on standard output. */
function child(): void {
  const bench = new BenchRouter(SESSIONS * 2);
  const options = { sessions: SESSIONS, macHigh: MAC_HIGH, macLow: macLow(0) };
  const kinds = [
    makeTraffic({ ...options, lengths: SMALL, protocol: PROTOCOL_UDP }),
    makeTraffic({ ...options, lengths: IMIX, protocol: PROTOCOL_UDP }),
    makeTraffic({ ...options, lengths: SMALL, protocol: PROTOCOL_ICMP }),
  ];
  for (const traffic of kinds) traffic.order = shuffled(SESSIONS, seededRandom());
  for (let round = 0; round < ROUNDS; round++) {
    writeSync(1, `${MARK} ${round}\n`);
    for (const traffic of kinds) bench.forward(traffic, PACKETS);
    // Everything idles out, so that each round opens its sessions anew.
    bench.idle(300_000);
  }
  writeSync(1, `${MARK} ${ROUNDS}\n`);
}

/** Thrown-away functions of this project in each round, by name. */
function deoptimizations(trace: string): string[][] {
  const rounds: string[][] = [];
  for (const line of trace.split("\n")) {
    if (line.startsWith(MARK)) rounds.push([]);
    const found = /bailout \(kind: ([^,]+), reason: ([^)]+)\).*<JSFunction ([^ >]*)/.exec(line);
    if (found !== null && rounds.length > 0) rounds[rounds.length - 1].push(`${found[3]}: ${found[2]}`);
  }
  return rounds.slice(0, ROUNDS);
}

function main(): number {
  const { stdout, status } = spawnSync(process.execPath, ["--trace-deopt", fileURLToPath(import.meta.url), "child"], {
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  const rounds = deoptimizations(stdout);
  if (status !== 0 || rounds.length !== ROUNDS) {
    console.error(`deopt: the traced run failed (${status})`);
    return 1;
  }
  const mode = `UDP small and IMIX, ICMP, sessions opened and expired, ${PACKETS} packets each, unsigned, unencrypted`;
  print("deopt.learning", "functions", `${mode}, first two rounds`, [rounds[0].length + rounds[1].length]);
  const { median } = print("deopt.steady", "functions", `${mode}, round ${ROUNDS}`, [rounds[ROUNDS - 1].length]);
  if (median === 0) return 0;
  for (const name of rounds[ROUNDS - 1]) console.error(`thrown away: ${name}`);
  return 1;
}

if (process.argv[2] === "child") child();
else process.exitCode = main();
