// Two routers with two wires between them. A stream of datagrams, one each 2 ms, goes from the client to the server and
// back. First, in some rounds, each router is killed (SIGKILL) and started again at once: how long until a datagram that
// left afterwards arrives? Then the wire that the stream goes over is cut silently in both directions: how long does
// nothing arrive? Beside Waymark stand tunnels with what they have of their own for such a case. Root only;
// bench/README.md has the method.

import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { type Contender, compile } from "../live/contenders.ts";
import { monitorUs } from "../live/meters.ts";
import { live, type Race } from "../live/race.ts";
import { nowNs, Stream } from "../live/stream.ts";

/** Arguments, for a part of it: rounds, and contenders with commas between. */
const ROUNDS = 5;
const RECOVERY_ROUNDS = 3;
/** Nobody is waited for any longer. */
const WAIT_MS = 30_000;
/** What has come back may go away again for so long. */
const GO_ON_MS = 500;
const WATCH_MS = 200;
const MONITOR_MS = 4000;

const TRAFFIC = "8-byte UDP every 2 ms, 64 idle sessions, two routers, two wires";
const CUT = `${TRAFFIC}, the stream's wire cut silently both ways`;
const KILLS = [
  { name: "ingress-kill", traffic: `${TRAFFIC}, SIGKILL of the first router, started again at once` },
  { name: "egress-kill", traffic: `${TRAFFIC}, SIGKILL of the second router, started again at once` },
];

/** Ours are told from each other by their protection and by BFD's intervals. */
const FAST = ["waymark-libpcap-bfd-50ms", "waymark-libpcap-signed-encrypted-bfd-50ms"];
const DEFAULT = "waymark-libpcap-bfd-1s";
const TWICE = "waymark-libpcap-duplicated-bfd-1s";
const RIVALS = ["wireguard-go", "wireguard-go-script", "nebula"];

/** Two samples: one way, and there and back. */
function addBoth(race: Race, contender: Contender, name: string, traffic: string, [one, both]: [number, number]): void {
  race.add(contender, { name, unit: "ms", traffic: `${traffic}, one way` }, one);
  race.add(contender, { name: `${name}-echo`, unit: "ms", traffic: `${traffic}, there and back` }, both);
}

async function failover(race: Race, contender: Contender, stream: Stream): Promise<void> {
  const { chain } = race;
  const before = chain.wireFrames();
  await sleep(WATCH_MS);
  const [one, other] = chain.wireFrames().map((frames, wire) => frames - before[wire]);
  chain.cut(one > other ? 0 : 1);
  const cutNs = nowNs();
  await stream.comesBack(cutNs, WAIT_MS, GO_ON_MS);
  addBoth(race, contender, "gap", CUT, stream.gapsMs(cutNs, WAIT_MS));
}

async function recovery(race: Race, contender: Contender, children: ChildProcess[], stream: Stream): Promise<void> {
  for (const [i, { name, traffic }] of KILLS.entries()) {
    const ended = once(children[i], "exit");
    const killedNs = nowNs();
    children[i].kill("SIGKILL");
    await ended;
    const deadNs = nowNs();
    children[i] = contender.restart!(race.chain, i);
    await stream.comesBack(deadNs, WAIT_MS, GO_ON_MS);
    addBoth(race, contender, name, traffic, stream.backMs(killedNs, deadNs, WAIT_MS));
    await contender.settled?.(race.chain);
    await stream.flows(WAIT_MS);
  }
}

/** What watching both paths costs each router, while the stream goes over one of them. */
async function watching(race: Race, contender: Contender, children: readonly ChildProcess[]): Promise<void> {
  const start = nowNs();
  const before = children.map(monitorUs);
  await sleep(MONITOR_MS);
  const used = children.map(monitorUs).reduce((sum, us, i) => sum + us - before[i], 0);
  const paths = children.length * 2;
  const seconds = (nowNs() - start) / 1e9;
  race.add(contender, { name: "monitor-cpu", unit: "us/s", traffic: `${TRAFFIC}, a path` }, used / seconds / paths);
}

await live(
  "path-failover",
  2,
  process.argv[3]?.split(",") ?? [...FAST, DEFAULT, TWICE, ...RIVALS],
  async (race) => {
    const program = compile(race.chain.namespaces.directory, "stream")!;
    await race.run(async (contender, children, round) => {
      await contender.settled?.(race.chain);
      const stream = new Stream(race.chain, program);
      try {
        await stream.flows(WAIT_MS);
        if (contender.settled !== undefined && round === 0) await watching(race, contender, children);
        if (
          contender.name !== DEFAULT &&
          contender.name !== TWICE &&
          contender.restart !== undefined &&
          round < RECOVERY_ROUNDS
        ) {
          await recovery(race, contender, children, stream);
        }
        await failover(race, contender, stream);
      } finally {
        await stream.close();
      }
    });
    race.print((values) => {
      const none = values.filter((value) => value >= WAIT_MS).length;
      return none === 0 ? "" : `; none within ${WAIT_MS / 1000} s in ${none} of ${values.length} rounds`;
    });
  },
  {
    wires: 2,
    rounds: Number(process.argv[2] ?? ROUNDS),
    warmUp: { sessions: 64, lengths: [60], rate: 5000, milliseconds: 700 },
    pinned: false,
  },
);
