// Live forwarding beside the least a C program can do with libpcap (reference/forward.c), in the same run, in network
// namespaces, contenders taking turns. Root only.
//
//   generator g0 ── lan0 forwarder lan1 ── s0 sink            60-byte UDP of 64 sessions, one router
//   client ── a ══ b ── server                                TCP bulk by iperf3, two routers
//
// The generator has one processor, the forwarder the other; the sink is a counter of the kernel. Both contenders stand
// behind an nftables drop, so that the kernel's stack does the same with the frames it also sees: nothing.

import { type ChildProcess, execFileSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { print } from "../harness.ts";
import { cpuUs, Namespaces, output, stop, until } from "../namespaces.ts";

const MAIN = fileURLToPath(new URL("../../lib/cli/main.js", import.meta.url));
const SOURCES = fileURLToPath(new URL("../../../bench/reference/", import.meta.url));
const ROUNDS = 5;
const BLAST_MS = 1500;
const MODERATE_RATE = 100_000;
const SESSIONS = 64;
const IPERF_SECONDS = 3;
const IPERF_ROUNDS = 3;
const GENERATOR_CPU = 0;
const FORWARDER_CPU = 1;

type Starter = () => Promise<ChildProcess>;

async function main(): Promise<void> {
  if (process.getuid?.() !== 0) {
    console.error("live: skipped, needs root");
    return;
  }
  const namespaces = new Namespaces();
  const { directory } = namespaces;
  try {
    for (const program of ["forward", "blast"]) {
      execFileSync("cc", [
        "-O2",
        "-o",
        join(directory, program),
        join(SOURCES, `${program}.c`),
        ...(program === "forward" ? ["-lpcap"] : []),
      ]);
    }
    await small(namespaces, directory);
    await bulk(namespaces, directory);
  } finally {
    await namespaces.close();
  }
}

/** One router, small frames: how many are delivered at full blast, and what one costs at a moderate rate. */
async function small(namespaces: Namespaces, directory: string): Promise<void> {
  for (const node of ["generator", "router", "sink"]) namespaces.add(node);
  namespaces.link("generator", "g0", "router", "lan0");
  namespaces.link("router", "lan1", "sink", "s0");
  namespaces.shell("generator", "ip address add 192.0.2.2/30 dev g0");
  namespaces.shell("sink", "ip address add 192.0.2.6/30 dev s0");
  nft(
    namespaces,
    "sink",
    "add table netdev sink; add chain netdev sink in { type filter hook ingress device s0 priority 0; }; add counter netdev sink delivered; add rule netdev sink in udp dport 9 counter name delivered drop",
  );
  dropForKernel(namespaces, "router", "lan0", "lan1");
  const config = join(directory, "one.yaml");
  writeFileSync(
    config,
    `authority: bench
router: one
control: { socket: ${directory}/one.sock }
log: { level: warn }
interfaces:
  - { name: lan0, device: lan0, addresses: [192.0.2.1/30], tenant: corp }
  - { name: lan1, device: lan1, addresses: [192.0.2.5/30] }
tenants: [{ name: corp }]
services: [{ name: app, addresses: [192.0.2.6/32], access: [corp] }]
service-routes: [{ service: app, interface: lan1 }]
`,
  );
  const lan0 = namespaces.mac("router", "lan0");
  const g0 = namespaces.mac("generator", "g0");
  const ends = ["lan0", lan0, g0, "lan1", namespaces.mac("router", "lan1"), namespaces.mac("sink", "s0")];
  const reference = (how: string[]) =>
    startReference(namespaces, directory, "router", [...how, ...ends], FORWARDER_CPU);
  const contenders: Record<string, Starter> = {
    "c-pcap-inject": () => reference([]),
    "c-sendmmsg": () => reference(["-m"]),
    waymark: () => startWaymark(namespaces, "router", config, join(directory, "one.sock"), FORWARDER_CPU),
  };
  const blast = async (rate: number, milliseconds: number) => {
    const args = ["g0", g0, lan0, "192.0.2.2", "192.0.2.6", SESSIONS, rate, milliseconds].map(String);
    const before = delivered(namespaces);
    const text = await output(namespaces.spawn("generator", GENERATOR_CPU, join(directory, "blast"), args));
    await sleep(100);
    const [sent, seconds] = text.split(" ").map(Number);
    return { sent, seconds, delivered: delivered(namespaces) - before };
  };

  const full: Record<string, number[]> = {};
  const fullCost: Record<string, number[]> = {};
  const cost: Record<string, number[]> = {};
  const loss: Record<string, number[]> = {};
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, start] of Object.entries(contenders)) {
      const forwarder = await start();
      await blast(20_000, 300);
      const idle = cpuUs(forwarder);
      const fast = await blast(0, BLAST_MS);
      (full[name] ??= []).push(fast.delivered / fast.seconds / 1000);
      (fullCost[name] ??= []).push((cpuUs(forwarder) - idle) / fast.delivered);
      const before = cpuUs(forwarder);
      const steady = await blast(MODERATE_RATE, BLAST_MS);
      (cost[name] ??= []).push((cpuUs(forwarder) - before) / steady.delivered);
      (loss[name] ??= []).push(100 * (1 - steady.delivered / steady.sent));
      await stop(forwarder);
    }
  }
  const mode = "60-byte UDP, 64 sessions, one router, unsigned, unencrypted, libpcap immediate";
  for (const name of Object.keys(contenders)) {
    print(`live.${name}.delivered`, "kframe/s", `${mode}, full blast`, full[name]);
    print(`live.${name}.cpu`, "us/frame", `${mode}, full blast`, fullCost[name]);
    print(`live.${name}.cpu`, "us/frame", `${mode}, ${MODERATE_RATE / 1000} kframe/s offered`, cost[name]);
    print(`live.${name}.loss`, "%", `${mode}, ${MODERATE_RATE / 1000} kframe/s offered`, loss[name]);
  }
  for (const name of ["c-pcap-inject", "c-sendmmsg"]) {
    const ratios = (ours: number[], theirs: number[]) => ours.map((value, round) => value / theirs[round]);
    print(`live.waymark-to-${name}.delivered`, "ratio", `${mode}, full blast`, ratios(full.waymark, full[name]));
    print(`live.waymark-to-${name}.cpu`, "ratio", `${mode}, full blast`, ratios(fullCost.waymark, fullCost[name]));
  }
}

/** Two routers, TCP bulk. */
async function bulk(namespaces: Namespaces, directory: string): Promise<void> {
  for (const node of ["client", "a", "b", "server"]) namespaces.add(node);
  namespaces.link("client", "eth0", "a", "lan0");
  namespaces.link("a", "wan0", "b", "wan0");
  namespaces.link("b", "lan0", "server", "eth0");
  for (const node of ["a", "b"]) dropForKernel(namespaces, node, "lan0", "wan0");
  const mac = (node: string, device: string) => namespaces.mac(node, device);
  const host = (node: string, address: string, gateway: string, router: string) =>
    namespaces.shell(
      node,
      `ip address add ${address}/24 dev eth0; ip route add default via ${gateway}; ip neighbor add ${gateway} lladdr ${mac(router, "lan0")} dev eth0`,
    );
  host("client", "10.1.0.2", "10.1.0.1", "a");
  host("server", "10.2.0.2", "10.2.0.1", "b");
  const ends = (node: string, hostNode: string, peer: string) => [
    "lan0",
    mac(node, "lan0"),
    mac(hostNode, "eth0"),
    "wan0",
    mac(node, "wan0"),
    mac(peer, "wan0"),
  ];
  const config = (node: string, at: 1 | 2) => {
    const path = join(directory, `${node}.yaml`);
    const other = 3 - at;
    writeFileSync(
      path,
      `authority: bench
router: ${node}
control: { socket: ${directory}/${node}.sock }
log: { level: warn }
interfaces:
  - { name: lan0, device: lan0, addresses: [10.${at}.0.1/24], tenant: corp }
  - { name: wan0, device: wan0, addresses: [198.18.0.${at}/24] }
tenants: [{ name: corp }]
services: [{ name: app, addresses: [10.2.0.0/24], access: [corp] }]
service-routes: [{ service: app, ${at === 1 ? "peer: other" : "interface: lan0"} }]
peers: [{ name: other, paths: [{ interface: wan0, address: 198.18.0.${other} }] }]
`,
    );
    return path;
  };
  const [west, east] = [config("a", 1), config("b", 2)];
  const contenders: Record<string, Starter[]> = {
    "c-sendmmsg": [
      () => startReference(namespaces, directory, "a", ["-m", ...ends("a", "client", "b")], null),
      () => startReference(namespaces, directory, "b", ["-m", ...ends("b", "server", "a")], null),
    ],
    waymark: [
      () => startWaymark(namespaces, "a", west, join(directory, "a.sock"), null),
      () => startWaymark(namespaces, "b", east, join(directory, "b.sock"), null),
    ],
  };
  const server = namespaces.spawn("server", null, "iperf3", ["-s"], { stdio: "ignore" });
  const run = async (starters: Starter[]) => {
    const routers: ChildProcess[] = [];
    for (const start of starters) routers.push(await start());
    const text = await output(
      namespaces.spawn("client", null, "iperf3", ["-c", "10.2.0.2", "-t", String(IPERF_SECONDS), "-J"]),
    );
    for (const router of routers) await stop(router);
    return JSON.parse(text).end.sum_received.bits_per_second / 1e6;
  };
  const offloads = (state: string) => {
    for (const node of ["client", "server"])
      namespaces.shell(node, `ethtool -K eth0 tx ${state} tso ${state} gso ${state} >/dev/null`);
  };
  const rates: Record<string, number[]> = { "c-sendmmsg": [], waymark: [] };
  offloads("off");
  for (let round = 0; round < IPERF_ROUNDS; round++) {
    for (const name of Object.keys(contenders)) rates[name].push(await run(contenders[name]));
  }
  const mode = "TCP bulk, two routers, unsigned, unencrypted, libpcap immediate";
  for (const name of Object.keys(contenders))
    print(`live.${name}.bulk`, "Mbit/s", `${mode}, hosts' offloads off`, rates[name]);
  print(
    "live.waymark-to-c-sendmmsg.bulk",
    "ratio",
    `${mode}, hosts' offloads off`,
    rates.waymark.map((rate, round) => rate / rates["c-sendmmsg"][round]),
  );
  offloads("on");
  const superFrames: number[] = [];
  for (let round = 0; round < IPERF_ROUNDS; round++) superFrames.push(await run(contenders.waymark));
  print("live.waymark.bulk", "Mbit/s", `${mode}, hosts' offloads on (super-frames segmented)`, superFrames);
  await stop(server);
}

async function startReference(
  namespaces: Namespaces,
  directory: string,
  node: string,
  args: string[],
  cpu: number | null,
): Promise<ChildProcess> {
  const child = namespaces.spawn(node, cpu, join(directory, "forward"), args);
  let ready = false;
  child.stdout?.on("data", () => (ready = true));
  await until(() => ready);
  return child;
}

async function startWaymark(
  namespaces: Namespaces,
  node: string,
  config: string,
  socket: string,
  cpu: number | null,
): Promise<ChildProcess> {
  const child = namespaces.spawn(node, cpu, process.execPath, [MAIN, "run", "-c", config], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  await until(() => existsSync(socket));
  return child;
}

/** The kernel's stack does nothing with what arrives on a device: for every contender alike, the router's guard stands behind. */
function dropForKernel(namespaces: Namespaces, node: string, ...devices: string[]): void {
  const chains = devices.map(
    (device) =>
      `add chain netdev bench ${device} { type filter hook ingress device ${device} priority -500; policy drop; };`,
  );
  nft(namespaces, node, `add table netdev bench; ${chains.join(" ")}`);
}

function nft(namespaces: Namespaces, node: string, commands: string): void {
  execFileSync("ip", ["netns", "exec", namespaces.name(node), "nft", commands], {
    stdio: ["ignore", "ignore", "pipe"],
  });
}

function delivered(namespaces: Namespaces): number {
  return Number(/packets (\d+)/.exec(namespaces.shell("sink", "nft list counter netdev sink delivered"))![1]);
}

await main();
