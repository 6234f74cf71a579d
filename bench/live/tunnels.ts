// Userspace tunnels between the two routers, as Debian packages them: wireguard-go and nebula. The routers' kernels
// forward the hosts' packets into the tunnel's device. Keys and certificates are made anew for each run. MTUs are the
// tunnels' defaults (1420 and 1300); hosts find them out by ICMP.

import { type ChildProcess, execFileSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Chain } from "./chain.ts";
import { type Contender, launched, Unavailable } from "./contenders.ts";

const WIREGUARD_PORT = 51820;
const NEBULA_PORT = 4242;
/** wireguard-go listens here for `wg`, whatever the namespace: devices need names that nobody else uses. */
const WIREGUARD_SOCKETS = "/var/run/wireguard";
/** Inside nebula's overlay. */
const overlayAddress = (index: number) => `172.16.0.${index + 1}`;

export function tunnels(directory: string): Contender[] {
  return [wireguard(directory), nebula(directory)];
}

function wireguard(directory: string): Contender {
  const start = async (chain: Chain, started: ChildProcess[]) => {
    require("wireguard-go", "wg");
    const devices = chain.routers.map(({ node }) => `wm${process.pid}${node}`);
    const keys = chain.routers.map(({ node }) => {
      const path = join(directory, `${node}.key`);
      const secret = execFileSync("wg", ["genkey"], { encoding: "utf8" });
      writeFileSync(path, secret, { mode: 0o600 });
      return { path, publicKey: execFileSync("wg", ["pubkey"], { encoding: "utf8", input: secret }).trim() };
    });
    for (const [i, { node, beyond }] of chain.routers.entries()) {
      const socket = join(WIREGUARD_SOCKETS, `${devices[i]}.sock`);
      const child = chain.namespaces.spawn(node, null, "wireguard-go", ["-f", devices[i]], { stdio: "ignore" });
      child.once("exit", () => rmSync(socket, { force: true }));
      started.push(child);
      await launched(child, () => existsSync(socket));
      chain.namespaces.shell(
        node,
        `wg set ${devices[i]} private-key ${keys[i].path} listen-port ${WIREGUARD_PORT} peer ${keys[1 - i].publicKey} endpoint ${beyond!.via}:${WIREGUARD_PORT} allowed-ips ${beyond!.prefix}; ip link set ${devices[i]} up`,
      );
    }
    chain.kernelForwards(devices);
  };
  return tunnel("wireguard-go", "encrypted (ChaCha20-Poly1305), wireguard-go, MTU 1420", start);
}

function nebula(directory: string): Contender {
  const start = async (chain: Chain, started: ChildProcess[]) => {
    require("nebula", "nebula-cert");
    const authority = join(directory, "nebula-ca");
    if (!existsSync(`${authority}.key`)) {
      cert("ca", "-name", "bench", "-out-crt", `${authority}.crt`, "-out-key", `${authority}.key`);
    }
    const devices = ["nebula1", "nebula1"];
    for (const [i, { node, beyond }] of chain.routers.entries()) {
      const other = chain.routers[1 - i];
      const own = join(directory, `nebula-${node}`);
      mkdirSync(own, { recursive: true });
      if (!existsSync(join(own, "host.crt"))) {
        cert(
          ...["sign", "-ca-crt", `${authority}.crt`, "-ca-key", `${authority}.key`, "-name", node],
          ...["-ip", `${overlayAddress(i)}/24`, "-subnets", other.beyond!.prefix],
          ...["-out-crt", join(own, "host.crt"), "-out-key", join(own, "host.key")],
        );
      }
      const open = [{ port: "any", proto: "any", host: "any" }];
      const config = {
        pki: { ca: `${authority}.crt`, cert: join(own, "host.crt"), key: join(own, "host.key") },
        static_host_map: { [overlayAddress(1 - i)]: [`${beyond!.via}:${NEBULA_PORT}`] },
        lighthouse: { am_lighthouse: false, hosts: [] },
        listen: { host: "0.0.0.0", port: NEBULA_PORT },
        tun: { dev: devices[i], unsafe_routes: [{ route: beyond!.prefix, via: overlayAddress(1 - i) }] },
        logging: { level: "error" },
        firewall: { outbound: open, inbound: open },
      };
      // JSON is YAML.
      writeFileSync(join(own, "config.yml"), JSON.stringify(config));
      const child = chain.namespaces.spawn(node, null, "nebula", ["-config", join(own, "config.yml")], {
        stdio: ["ignore", "ignore", "inherit"],
      });
      started.push(child);
      const routed = () => chain.namespaces.shell(node, `ip route show ${beyond!.prefix}`).includes(devices[i]);
      await launched(child, routed);
    }
    chain.kernelForwards(devices);
  };
  return tunnel("nebula", "encrypted (AES-256-GCM), nebula, MTU 1300", start);
}

function tunnel(name: string, mode: string, start: Contender["start"]): Contender {
  return { name, mode, superFrames: true, inKernel: true, start };
}

function cert(...args: string[]): void {
  execFileSync("nebula-cert", args, { stdio: "pipe" });
}

function require(...programs: string[]): void {
  if (!existsSync("/dev/net/tun")) throw new Unavailable("/dev/net/tun is not there");
  for (const program of programs) {
    try {
      execFileSync("sh", ["-c", `command -v ${program}`], { stdio: "ignore" });
    } catch {
      throw new Unavailable(`${program} is not installed`);
    }
  }
}
