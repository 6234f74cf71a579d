// Who can stand between the hosts of a chain: C forwarders, the kernel, Waymark on each backend; tunnels.ts has the rest.
// Each is started from a chain that was reset, in the same namespaces and on the same links as the others.

import { type ChildProcess, execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { until } from "../namespaces.ts";
import { type Chain, type ChainRouter, CLIENT, SERVER } from "./chain.ts";

const MAIN = fileURLToPath(new URL("../../lib/cli/main.js", import.meta.url));
const SOURCES = fileURLToPath(new URL("../../../bench/reference/", import.meta.url));

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

function waymark(directory: string, backend: keyof typeof HOW, protection: Protection): Contender {
  const name = `waymark-${backend}${protection.name}`;
  const start = async (chain: Chain, started: ChildProcess[]) => {
    // The router brings a guard of its own, but takes it away when it ends: frames of that moment belong to nobody.
    chain.kernelDrops();
    for (const router of chain.routers) {
      const socket = join(directory, `${router.node}.sock`);
      const config = join(directory, `${router.node}-${name}.yaml`);
      if (!existsSync(config)) {
        writeFileSync(config, configuration(router, chain.routers, socket, backend, protection), { mode: 0o600 });
        check(config);
      }
      const command = [MAIN, "run", "-c", config];
      const child = chain.namespaces.spawn(router.node, null, process.execPath, command, {
        stdio: ["ignore", "ignore", "inherit"],
      });
      started.push(child);
      await launched(child, () => existsSync(socket));
    }
  };
  const mode = `${protection.mode}, ${HOW[backend]}`;
  return { name, mode, superFrames: true, inKernel: false, start };
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
): string {
  const interfaces = router.ports.map(({ device, address, next }) => {
    const tenant = next.address === CLIENT || next.address === SERVER ? ", tenant: corp" : "";
    return `  - { name: ${device}, device: ${device}, addresses: [${address}/24], backend: ${backend}${tenant} }`;
  });
  const [towardClient, towardServer] = router.ports;
  const isLast = towardServer.next.address === SERVER;
  const wide = isLast ? towardClient : towardServer;
  const peers =
    all.length === 1
      ? ""
      : `peers: [{ name: other, security: ${protection.sign === null ? "none" : "fabric"}, paths: [{ interface: ${wide.device}, address: ${wide.next.address} }] }]\n`;
  return `authority: bench
router: ${router.node}
control: { socket: ${socket} }
log: { level: warn }
interfaces:
${interfaces.join("\n")}
tenants: [{ name: corp }]
services: [{ name: app, addresses: [10.2.0.0/24], access: [corp], security: ${protection.encrypts ? "payload" : "none"} }]
service-routes: [{ service: app, ${isLast ? `interface: ${towardServer.device}` : "peer: other"} }]
${peers}${policies(protection)}`;
}
