// Who can stand between the hosts of a chain: C forwarders, the kernel, Waymark on each backend; tunnels.ts has the rest.
// Each is started from a chain that was reset, in the same namespaces and on the same links as the others.

import { type ChildProcess, execFileSync } from "node:child_process";
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
    waymark(directory, "libpcap", "libpcap immediate"),
    waymark(directory, "af-packet", "af-packet"),
  ];
}

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

function waymark(directory: string, backend: string, how: string): Contender {
  const start = async (chain: Chain, started: ChildProcess[]) => {
    // The router brings a guard of its own, but takes it away when it ends: frames of that moment belong to nobody.
    chain.kernelDrops();
    for (const router of chain.routers) {
      const socket = join(directory, `${router.node}.sock`);
      const config = join(directory, `${router.node}-${backend}.yaml`);
      if (!existsSync(config)) {
        writeFileSync(config, configuration(router, chain.routers, socket, backend));
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
  return {
    name: `waymark-${backend}`,
    mode: `unsigned, unencrypted, ${how}`,
    superFrames: true,
    inKernel: false,
    start,
  };
}

function check(config: string): void {
  try {
    execFileSync(process.execPath, [MAIN, "check", "-c", config], { encoding: "utf8", stdio: "pipe" });
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new Unavailable(`waymark check refuses the configuration: ${`${stdout}${stderr}`.trim()}`);
  }
}

function configuration(router: ChainRouter, all: readonly ChainRouter[], socket: string, backend: string): string {
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
      : `peers: [{ name: other, paths: [{ interface: ${wide.device}, address: ${wide.next.address} }] }]\n`;
  return `authority: bench
router: ${router.node}
control: { socket: ${socket} }
log: { level: warn }
interfaces:
${interfaces.join("\n")}
tenants: [{ name: corp }]
services: [{ name: app, addresses: [10.2.0.0/24], access: [corp] }]
service-routes: [{ service: app, ${isLast ? `interface: ${towardServer.device}` : "peer: other"} }]
${peers}`;
}
