// Who can stand between the hosts of a chain: C forwarders, the kernel, Waymark on each backend; tunnels.ts has the rest.
// Each is started from a chain that was reset, in the same namespaces and on the same links as the others.

import { type ChildProcess, execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { askRouter } from "../../lib/control/admin-socket.ts";
import type { PathsAnswer } from "../../lib/control/show.ts";
import { until } from "../namespaces.ts";
import { type Chain, type ChainRouter, CLIENT, portsOf, SERVER } from "./chain.ts";

const MAIN = fileURLToPath(new URL("../../lib/cli/main.js", import.meta.url));
const SOURCES = fileURLToPath(new URL("../../../bench/reference/", import.meta.url));

const PATHS_UP_MS_MAX = 20_000;

export interface Contender {
  readonly name: string;
  /** What its figures are true for: signed or not, encrypted or not, over what. */
  readonly mode: string;
  /** Frames that are larger than the MTU get through. If not, only hosts without offloads can use it. */
  readonly superFrames: boolean;
  /** The kernel has a part in forwarding, which runs on the processor that received the frame: it must be steered. */
  readonly inKernel: boolean;
  /** Starts the processes that forward, none for the kernel; each is put into `started`, whose owner ends them. */
  readonly start: (chain: Chain, started: ChildProcess[]) => Promise<void>;
  /** Start router `i` again, as `start` did, when its process is dead. Does not wait until it forwards. */
  readonly restart?: (chain: Chain, i: number) => ChildProcess;
  /** Wait until it can use every wire, as far as it knows. */
  readonly settled?: (chain: Chain) => Promise<void>;
}

/** Thrown by `start` when this machine lacks something. */
export class Unavailable extends Error {}

/** Compile a program of bench/reference into the bench's directory. Its path, or null when there is no such source. */
export function compile(directory: string, program: string): string | null {
  const path = join(directory, program);
  const source = join(SOURCES, `${program}.c`);
  if (!existsSync(source)) return null;
  execFileSync("cc", ["-O2", "-o", path, source, "-lpcap"]);
  return path;
}

export function contenders(directory: string): Contender[] {
  const forward = compile(directory, "forward");
  const vnet = compile(directory, "forward-vnet");
  return [
    cForwarder("c-pcap-inject", "libpcap immediate, pcap_inject", false, forward),
    cForwarder("c-sendmmsg", "libpcap immediate, sendmmsg", false, forward, "-m"),
    cForwarder("c-vnet", "AF_PACKET with vnet header", true, vnet),
    kernel("kernel", "kernel forwarding", false),
    kernel("kernel-masquerade", "kernel forwarding, masquerade", true),
    ...(["libpcap", "af-packet"] as const).flatMap((backend) =>
      PROTECTIONS.map((protection) => waymark(directory, backend, protection)),
    ),
    ...WATCHES.flatMap((watch) =>
      [PROTECTIONS[0], PROTECTIONS[3]].map((protection) => waymark(directory, "libpcap", protection, watch)),
    ),
  ];
}

/** What a pair of routers does with keys. */
interface Protection {
  /** Follows the backend in the contender's name. */
  readonly name: string;
  readonly mode: string;
  readonly sign: "metadata" | "every-packet" | null;
  readonly encrypts: boolean;
}

const PROTECTIONS: readonly Protection[] = [
  { name: "", mode: "unsigned, unencrypted", sign: null, encrypts: false },
  {
    name: "-metadata-signed",
    mode: "metadata signed and encrypted, payload in clear",
    sign: "metadata",
    encrypts: false,
  },
  {
    name: "-signed",
    mode: "every packet signed (HMAC-SHA256-128), payload in clear",
    sign: "every-packet",
    encrypts: false,
  },
  {
    name: "-signed-encrypted",
    mode: "every packet signed (HMAC-SHA256-128), payload encrypted (AES-256-CBC)",
    sign: "every-packet",
    encrypts: true,
  },
];

/** How a pair of routers watches the paths between them. */
interface Watch {
  readonly name: string;
  readonly mode: string;
  /** Lines of the configuration. */
  readonly bfd: string;
  /** More keys of the service. */
  readonly service: string;
}

const WATCHES: readonly Watch[] = [
  {
    name: "-bfd-50ms",
    mode: ", BFD 50 ms x 3",
    bfd: "bfd: { desired-tx-interval: 50ms, required-min-rx-interval: 50ms }\n",
    service: "",
  },
  { name: "-bfd-1s", mode: ", BFD 1 s x 3", bfd: "bfd: {}\n", service: "" },
  {
    name: "-duplicated-bfd-1s",
    mode: ", BFD 1 s x 3, every packet over both wires",
    bfd: "bfd: {}\nservice-policies: [{ name: twice, resiliency: packet-duplication }]\n",
    service: ", policy: twice",
  },
];

const NOT_WATCHED: Watch = { name: "", mode: "", bfd: "", service: "" };

const HOW = { libpcap: "libpcap immediate", "af-packet": "af-packet" };

/** Wait until what was just started is ready. Throws when it ends instead, or takes too long. */
export async function launched(child: ChildProcess, ready: () => boolean): Promise<void> {
  await until(() => ready() || child.exitCode !== null);
  if (child.exitCode !== null) throw new Error(`${child.spawnargs.join(" ")} ended with ${child.exitCode}`);
}

function cForwarder(
  name: string,
  how: string,
  superFrames: boolean,
  program: string | null,
  ...options: string[]
): Contender {
  const start = async (chain: Chain, started: ChildProcess[]) => {
    if (program === null) throw new Unavailable("its source is not there");
    chain.kernelDrops();
    for (const { node, ports } of chain.routers) {
      const ends = ports.flatMap(({ device, mac, next }) => [device, mac, next.mac]);
      const child = chain.namespaces.spawn(node, null, program, [...options, ...ends]);
      started.push(child);
      let ready = false;
      child.stdout?.on("data", () => (ready = true));
      await launched(child, () => ready);
    }
  };
  return { name, mode: `unencrypted, ${how}`, superFrames, inKernel: false, start };
}

function kernel(name: string, how: string, masquerade: boolean): Contender {
  const start = async (chain: Chain) => {
    chain.kernelForwards();
    if (masquerade) chain.kernelMasquerades();
  };
  return { name, mode: `unencrypted, ${how}`, superFrames: true, inKernel: true, start };
}

function waymark(
  directory: string,
  backend: keyof typeof HOW,
  protection: Protection,
  watch: Watch = NOT_WATCHED,
): Contender {
  const name = `waymark-${backend}${protection.name}${watch.name}`;
  const socketOf = ({ node }: ChainRouter) => join(directory, `${node}.sock`);
  const configOf = ({ node }: ChainRouter) => join(directory, `${node}-${name}.yaml`);
  const restart = (chain: Chain, i: number) => {
    const { node } = chain.routers[i];
    const command = [MAIN, "run", "-c", configOf(chain.routers[i])];
    return chain.namespaces.spawn(node, null, process.execPath, command, { stdio: ["ignore", "ignore", "inherit"] });
  };
  const start = async (chain: Chain, started: ChildProcess[]) => {
    // The router brings a guard of its own, but takes it away when it ends: frames of that moment belong to nobody.
    chain.kernelDrops();
    for (const [i, router] of chain.routers.entries()) {
      const [socket, config] = [socketOf(router), configOf(router)];
      if (!existsSync(config)) {
        const text = `${configuration(router, chain.routers, socket, backend, protection, watch.service)}${watch.bfd}`;
        writeFileSync(config, text, { mode: 0o600 });
        check(config);
      }
      const child = restart(chain, i);
      started.push(child);
      await launched(child, () => existsSync(socket));
    }
  };
  const settled = async ({ routers }: Chain) => {
    for (const router of routers) await pathsUp(socketOf(router));
  };
  const mode = `${protection.mode}, ${HOW[backend]}${watch.mode}`;
  return { name, mode, superFrames: true, inKernel: false, start, restart, settled };
}

/** Wait until every path of the router at this socket can be used. It may just be starting. */
async function pathsUp(socket: string): Promise<void> {
  for (const deadline = Date.now() + PATHS_UP_MS_MAX; ; await sleep(50)) {
    const answer = (await askRouter(socket, "paths").catch(() => null)) as PathsAnswer | null;
    if (answer?.paths.every(({ state }) => state === "up")) return;
    if (Date.now() > deadline) throw new Error(`paths stay down: ${JSON.stringify(answer)}`);
  }
}

function check(config: string): void {
  try {
    execFileSync(process.execPath, [MAIN, "check", "-c", config], { encoding: "utf8", stdio: "pipe" });
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new Unavailable(`waymark check refuses the configuration: ${`${stdout}${stderr}`.trim()}`);
  }
}

/** Nobody's keys: the same on both routers, for as long as the bench runs. */
const KEYS = { fabric: randomBytes(32).toString("hex"), hmac: randomBytes(32).toString("hex") };

function policies({ sign, encrypts }: Protection): string {
  const cipher = `encryption: aes-cbc-256, encryption-key: "${KEYS.fabric}"`;
  const fabric = `  - { name: fabric, ${cipher}, hmac: sha256-128, hmac-key: "${KEYS.hmac}", sign: ${sign} }\n`;
  const payload = encrypts ? `  - { name: payload, ${cipher}, adaptive: false }\n` : "";
  return sign === null ? "" : `security-policies:\n${fabric}${payload}`;
}

function configuration(
  router: ChainRouter,
  all: readonly ChainRouter[],
  socket: string,
  backend: string,
  protection: Protection,
  service: string,
): string {
  const interfaces = portsOf(router).map(({ device, address, next }) => {
    const tenant = next.address === CLIENT || next.address === SERVER ? ", tenant: corp" : "";
    return `  - { name: ${device}, device: ${device}, addresses: [${address}/24], backend: ${backend}${tenant} }`;
  });
  const [towardClient, towardServer] = router.ports;
  const isLast = towardServer.next.address === SERVER;
  const wide = isLast ? towardClient : towardServer;
  const paths = (router.spare === null ? [wide] : [wide, router.spare]).map(
    ({ device, next }) => `{ interface: ${device}, address: ${next.address} }`,
  );
  // The router's own name: BFD takes no other router for the peer.
  const other = all.find((one) => one !== router)?.node;
  const peers =
    all.length === 1
      ? ""
      : `peers: [{ name: ${other}, security: ${protection.sign === null ? "none" : "fabric"}, paths: [${paths.join(", ")}] }]\n`;
  return `authority: bench
router: ${router.node}
control: { socket: ${socket} }
log: { level: warn }
interfaces:
${interfaces.join("\n")}
tenants: [{ name: corp }]
services: [{ name: app, addresses: [10.2.0.0/24], access: [corp], security: ${protection.encrypts ? "payload" : "none"}${service} }]
service-routes: [{ service: app, ${isLast ? `interface: ${towardServer.device}` : `peer: ${other}`} }]
${peers}${policies(protection)}`;
}
