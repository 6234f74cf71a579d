// Short TCP connections between two hosts, live, through two routers and beside that through two kernels that forward
// (and track nothing), contenders taking turns. A connection is a three-way handshake and a FIN from each end, nothing
// else; 64 are under way at once. Everything shares the machine's processors, hosts included, so the ratio is what
// counts. A connection counts when it is established and torn down again. Root only.
//
//   client ── a ══ b ── server

import { type ChildProcess, execFileSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { print } from "../harness.ts";
import { Namespaces, output, stop, until } from "../namespaces.ts";

const MAIN = fileURLToPath(new URL("../../lib/cli/main.js", import.meta.url));
const SOURCE = fileURLToPath(new URL("../../../bench/reference/connections.c", import.meta.url));
const ROUNDS = 3;
const RUN_MS = 2000;
const PORTS = 64;
const AT_ONCE = 64;

async function main(): Promise<void> {
  if (process.getuid?.() !== 0) {
    console.error("live-sessions: skipped, needs root");
    return;
  }
  const namespaces = new Namespaces();
  const { directory } = namespaces;
  try {
    const program = join(directory, "connections");
    execFileSync("cc", ["-O2", "-o", program, SOURCE]);
    const rates: Record<string, number[]> = { kernel: [], waymark: [] };
    const chains = { kernel: kernelChain(namespaces), waymark: waymarkChain(namespaces) };
    for (const chain of Object.values(chains)) {
      chain.server = namespaces.spawn(`${chain.name}-server`, null, program, ["server", "10.2.0.2", String(PORTS)]);
      let ready = false;
      chain.server.stdout?.on("data", () => (ready = true));
      await until(() => ready);
    }
    for (let round = 0; round < ROUNDS; round++) {
      for (const chain of Object.values(chains)) {
        const routers = await chain.start();
        const call = (atOnce: number, ms: number) => {
          const args = ["client", "10.2.0.2", PORTS, atOnce, ms].map(String);
          return output(namespaces.spawn(`${chain.name}-client`, null, program, args));
        };
        // One at a time until the neighbors are known, then until the code is compiled.
        await call(1, 200);
        await call(AT_ONCE, 500);
        const [done, failed, seconds] = (await call(AT_ONCE, RUN_MS)).split(" ").map(Number);
        if (failed > done / 1000) throw new Error(`${chain.name}: ${failed} of ${done} connections failed`);
        rates[chain.name].push(done / seconds);
        for (const router of routers) await stop(router);
      }
    }
    for (const chain of Object.values(chains)) await stop(chain.server!);
    const mode = `TCP connections opened and closed, ${AT_ONCE} at once, two routers`;
    print("live.kernel.connection-rate", "session/s", `${mode}, kernel forwarding, no tracking`, rates.kernel);
    print(
      "live.waymark.connection-rate",
      "session/s",
      `${mode}, unsigned, unencrypted, libpcap immediate`,
      rates.waymark,
    );
    print(
      "live.waymark-to-kernel.connection-rate",
      "ratio",
      `${mode}, unsigned, unencrypted, libpcap immediate`,
      rates.waymark.map((rate, round) => rate / rates.kernel[round]),
    );
  } finally {
    await namespaces.close();
  }
}

interface Chain {
  readonly name: string;
  readonly start: () => Promise<ChildProcess[]>;
  server?: ChildProcess;
}

/** client, a, b and server of a chain, the hosts with their addresses and default routes. */
function build(namespaces: Namespaces, name: string): (node: string) => string {
  const node = (which: string) => `${name}-${which}`;
  for (const which of ["client", "a", "b", "server"]) namespaces.add(node(which));
  namespaces.link(node("client"), "eth0", node("a"), "lan0");
  namespaces.link(node("a"), "wan0", node("b"), "wan0");
  namespaces.link(node("b"), "lan0", node("server"), "eth0");
  for (const [host, at] of [
    ["client", 1],
    ["server", 2],
  ] as const) {
    namespaces.shell(
      node(host),
      `ip address add 10.${at}.0.2/24 dev eth0; ip route add default via 10.${at}.0.1; echo "1024 65535" > /proc/sys/net/ipv4/ip_local_port_range`,
    );
  }
  return node;
}

function kernelChain(namespaces: Namespaces): Chain {
  const node = build(namespaces, "kernel");
  for (const [router, at] of [
    ["a", 1],
    ["b", 2],
  ] as const) {
    const other = 3 - at;
    namespaces.shell(
      node(router),
      `echo 1 > /proc/sys/net/ipv4/ip_forward; ip address add 10.${at}.0.1/24 dev lan0; ip address add 198.18.0.${at}/24 dev wan0; ip route add 10.${other}.0.0/24 via 198.18.0.${other}`,
    );
  }
  return { name: "kernel", start: async () => [] };
}

function waymarkChain(namespaces: Namespaces): Chain {
  const node = build(namespaces, "waymark");
  const { directory } = namespaces;
  const start = async (router: "a" | "b", at: 1 | 2): Promise<ChildProcess> => {
    const other = 3 - at;
    const config = join(directory, `${router}.yaml`);
    const socket = join(directory, `${router}.sock`);
    writeFileSync(
      config,
      `authority: bench
router: ${router}
control: { socket: ${socket} }
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
    const child = namespaces.spawn(node(router), null, process.execPath, [MAIN, "run", "-c", config]);
    await until(() => existsSync(socket));
    return child;
  };
  return { name: "waymark", start: async () => [await start("a", 1), await start("b", 2)] };
}

await main();
