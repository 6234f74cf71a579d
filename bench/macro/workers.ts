// One router with one worker and with two, in the same run, taking turns; and whether every flow stays in order. Root only.
//
//   generator g0 ── lan0 router lan1 ── s0 sink            60-byte UDP of 64 sessions
//
// Two processors have to do for the generator, the kernel's part and the workers, and nothing is pinned: this shows what
// a second worker costs and brings on this machine, not what it brings where processors are idle.

import { type ChildProcess, execFileSync } from "node:child_process";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { askRouter } from "../../lib/control/admin-socket.ts";
import type { CountersAnswer } from "../../lib/control/show.ts";
import { print } from "../harness.ts";
import { cpuUs, Namespaces, output, stop, until } from "../namespaces.ts";

const MAIN = fileURLToPath(new URL("../../lib/cli/main.js", import.meta.url));
const SOURCES = fileURLToPath(new URL("../../../bench/reference/", import.meta.url));
const ROUNDS = 3;
const BLAST_MS = 1200;
const SESSIONS = 64;
/** Frames a second, 0 = as fast as they go. */
const RATES = [100_000, 300_000, 0];
/** At this rate the order is judged, by a sink that reads every frame. */
const ORDER_RATE = 100_000;

async function main(): Promise<void> {
  if (process.getuid?.() !== 0) {
    console.error("workers: skipped, needs root");
    return;
  }
  const namespaces = new Namespaces();
  const { directory } = namespaces;
  try {
    for (const program of ["numbered", "sequence"])
      execFileSync("cc", ["-O2", "-o", join(directory, program), join(SOURCES, `${program}.c`)]);
    build(namespaces);
    await compare(namespaces);
  } finally {
    await namespaces.close();
  }
}

function build(namespaces: Namespaces): void {
  for (const node of ["generator", "router", "sink"]) namespaces.add(node);
  namespaces.link("generator", "g0", "router", "lan0");
  namespaces.link("router", "lan1", "sink", "s0");
  namespaces.shell("generator", "ip address add 192.0.2.2/30 dev g0");
  namespaces.shell("sink", "ip address add 192.0.2.6/30 dev s0");
  namespaces.shell(
    "sink",
    "nft 'add table netdev sink; add chain netdev sink in { type filter hook ingress device s0 priority 0; }; add counter netdev sink delivered; add rule netdev sink in udp dport 9 counter name delivered drop'",
  );
}

async function compare(namespaces: Namespaces): Promise<void> {
  const lan0 = namespaces.mac("router", "lan0");
  const g0 = namespaces.mac("generator", "g0");
  const blast = async (rate: number, milliseconds: number) => {
    const args = ["g0", g0, lan0, "192.0.2.2", "192.0.2.6", SESSIONS, rate, milliseconds].map(String);
    const before = delivered(namespaces);
    const text = await output(namespaces.spawn("generator", null, join(namespaces.directory, "numbered"), args));
    await sleep(200);
    const [sent, seconds] = text.split(" ").map(Number);
    return { sent, seconds, delivered: delivered(namespaces) - before };
  };
  const figures = new Map<string, number[]>();
  const note = (figure: string, value: number) => figures.set(figure, [...(figures.get(figure) ?? []), value]);
  for (let round = 0; round < ROUNDS; round++) {
    for (const workers of [1, 2]) {
      const socket = join(namespaces.directory, "router.sock");
      const router = await start(namespaces, workers, socket);
      await blast(20_000, 300);
      for (const rate of RATES) {
        const before = cpuUs(router);
        const { sent, seconds, delivered: got } = await blast(rate, BLAST_MS);
        const at = `${workers} ${rate}`;
        note(`delivered ${at}`, got / seconds / 1000);
        note(`cpu ${at}`, (cpuUs(router) - before) / got);
        note(`loss ${at}`, 100 * (1 - got / sent));
      }
      const judge = namespaces.spawn("sink", null, join(namespaces.directory, "sequence"), ["s0"]);
      const said = output(judge);
      await sleep(200);
      const { sent } = await blast(ORDER_RATE, BLAST_MS);
      judge.kill("SIGTERM");
      const [seen, late, repeated] = (await said).replace("ready", "").trim().split(" ").map(Number);
      note(`unseen ${workers}`, 100 * (1 - seen / sent));
      note(`late ${workers}`, late);
      note(`repeated ${workers}`, repeated);
      const counters = (await askRouter(socket, "counters")) as CountersAnswer;
      note(`strays ${workers}`, counters["strays.sent"]);
      await stop(router);
      rmSync(socket, { force: true });
    }
  }
  const mode = (rate: number) =>
    `60-byte UDP, ${SESSIONS} sessions, one router, unsigned, unencrypted, libpcap immediate, nothing pinned, ${rate === 0 ? "full blast" : `${rate / 1000} kframe/s offered`}`;
  const of = (figure: string) => figures.get(figure)!;
  for (const rate of RATES) {
    for (const workers of [1, 2]) {
      const at = `${workers} ${rate}`;
      print(`workers.${workers}.delivered`, "kframe/s", mode(rate), of(`delivered ${at}`));
      print(`workers.${workers}.cpu`, "us/frame", mode(rate), of(`cpu ${at}`));
      print(`workers.${workers}.loss`, "%", mode(rate), of(`loss ${at}`));
    }
    for (const what of ["delivered", "cpu"]) {
      const ratios = of(`${what} 2 ${rate}`).map((value, round) => value / of(`${what} 1 ${rate}`)[round]);
      print(`workers.2-to-1.${what}`, "ratio", mode(rate), ratios);
    }
  }
  for (const workers of [1, 2]) {
    print(`workers.${workers}.out-of-order`, "frames", mode(ORDER_RATE), of(`late ${workers}`));
    print(`workers.${workers}.repeated`, "frames", mode(ORDER_RATE), of(`repeated ${workers}`));
    print(`workers.${workers}.unseen`, "%", `${mode(ORDER_RATE)}, a sink that reads`, of(`unseen ${workers}`));
    print(`workers.${workers}.strays`, "frames", "all of the above", of(`strays ${workers}`));
  }
  const wrong = [1, 2].flatMap((workers) => [...of(`late ${workers}`), ...of(`repeated ${workers}`)]);
  if (wrong.some((count) => count > 0)) {
    console.error("frames of a flow were reordered or repeated");
    process.exitCode = 1;
  }
  if ([1, 2].some((workers) => Math.min(...of(`unseen ${workers}`)) > 90)) {
    console.error("the sink saw next to nothing, so nothing is known of the order");
    process.exitCode = 1;
  }
}

async function start(namespaces: Namespaces, workers: number, socket: string): Promise<ChildProcess> {
  const config = join(namespaces.directory, "router.yaml");
  writeFileSync(
    config,
    `authority: bench
router: one
workers: ${workers}
control: { socket: ${socket} }
log: { level: warn }
interfaces:
  - { name: lan0, device: lan0, addresses: [192.0.2.1/30], tenant: corp }
  - { name: lan1, device: lan1, addresses: [192.0.2.5/30] }
tenants: [{ name: corp }]
services: [{ name: app, addresses: [192.0.2.6/32], access: [corp] }]
service-routes: [{ service: app, interface: lan1 }]
`,
  );
  const child = namespaces.spawn("router", null, process.execPath, [MAIN, "run", "-c", config], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  await until(() => existsSync(socket));
  return child;
}

function delivered(namespaces: Namespaces): number {
  return Number(/packets (\d+)/.exec(namespaces.shell("sink", "nft list counter netdev sink delivered"))![1]);
}

await main();
