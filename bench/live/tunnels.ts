// Userspace tunnels between the two routers, as Debian packages them: wireguard-go and nebula. The routers' kernels
// forward the hosts' packets into the tunnel's device. Keys and certificates are made anew for each run. MTUs are the
// tunnels' defaults (1420 and 1300); hosts find them out by ICMP.

import { type ChildProcess, execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Chain, ChainRouter } from "./chain.ts";
import { type Contender, launched, Unavailable } from "./contenders.ts";

const WIREGUARD_PORT = 51820;
const NEBULA_PORT = 4242;
/** wireguard-go listens here for `wg`, whatever the namespace: devices need names that nobody else uses. */
const WIREGUARD_SOCKETS = "/var/run/wireguard";
/** What WireGuard's manual advises. It also has a router that begins anew shake hands at once. */
const KEEPALIVE_S = 25;
/** $1: the peer's address on the first wire. $2: what to do when three pings in a row, one a second, had no answer. */
const SCRIPT = `lost=0
while [ $lost -lt 3 ]; do
  if ping -q -c 1 -W 1 "$1" >/dev/null; then lost=0; sleep 1; else lost=$((lost + 1)); fi
done
$2`;
/** Inside nebula's overlay. */
const overlayAddress = (index: number) => `172.16.0.${index + 1}`;

export function tunnels(directory: string): Contender[] {
  return [wireguard(directory, false), wireguard(directory, true), nebula(directory)];
}

/** `scripted`: an operator's script beside each process watches the first wire and takes the other when it is dead. */
function wireguard(directory: string, scripted: boolean): Contender {
  const deviceOf = ({ node }: ChainRouter) => `wm${process.pid}${node}`;
  const keyOf = ({ node }: ChainRouter) => {
    const path = join(directory, `${node}.key`);
    if (!existsSync(path)) writeFileSync(path, execFileSync("wg", ["genkey"]), { mode: 0o600 });
    const publicKey = execFileSync("wg", ["pubkey"], { encoding: "utf8", input: readFileSync(path) }).trim();
    return { path, publicKey };
  };
  const restart = (chain: Chain, i: number) => {
    const router = chain.routers[i];
    const { node, beyond } = router;
    const device = deviceOf(router);
    const socket = join(WIREGUARD_SOCKETS, `${device}.sock`);
    const child = chain.namespaces.spawn(node, null, "wireguard-go", ["-f", device], { stdio: "ignore" });
    child.once("exit", () => rmSync(socket, { force: true }));
    const [own, peer] = [keyOf(router), keyOf(chain.routers[1 - i])];
    chain.namespaces.shell(
      node,
      `for i in $(seq 5000); do [ ! -e ${socket} ] || break; sleep 0.001; done
wg set ${device} private-key ${own.path} listen-port ${WIREGUARD_PORT} peer ${peer.publicKey} endpoint ${beyond!.via}:${WIREGUARD_PORT} allowed-ips ${beyond!.prefix} persistent-keepalive ${KEEPALIVE_S}
ip link set ${device} up; ip route replace ${beyond!.prefix} dev ${device}`,
    );
    return child;
  };
  const start = async (chain: Chain, started: ChildProcess[]) => {
    require("wireguard-go", "wg");
    for (const i of chain.routers.keys()) started.push(restart(chain, i));
    chain.kernelForwards(chain.routers.map(deviceOf));
    if (!scripted) return;
    for (const [i, { node, beyond, spare }] of chain.routers.entries()) {
      const move = `wg set ${deviceOf(chain.routers[i])} peer ${keyOf(chain.routers[1 - i]).publicKey} endpoint ${spare!.next.address}:${WIREGUARD_PORT}`;
      started.push(chain.namespaces.spawn(node, null, "sh", ["-c", SCRIPT, "sh", beyond!.via, move]));
    }
  };
  const mode = `encrypted (ChaCha20-Poly1305), wireguard-go, MTU 1420, keepalive ${KEEPALIVE_S} s`;
  return scripted
    ? tunnel("wireguard-go-script", `${mode}, a script pings the peer once a second and moves the endpoint`, start)
    : tunnel("wireguard-go", mode, start, restart);
}

function nebula(directory: string): Contender {
  const restart = (chain: Chain, i: number) => {
    const { node } = chain.routers[i];
    const config = join(directory, `nebula-${node}`, "config.yml");
    return chain.namespaces.spawn(node, null, "nebula", ["-config", config], {
      stdio: ["ignore", "ignore", "inherit"],
    });
  };
  const start = async (chain: Chain, started: ChildProcess[]) => {
    require("nebula", "nebula-cert");
    const authority = join(directory, "nebula-ca");
    if (!existsSync(`${authority}.key`)) {
      cert("ca", "-name", "bench", "-out-crt", `${authority}.crt`, "-out-key", `${authority}.key`);
    }
    const devices = ["nebula1", "nebula1"];
    for (const [i, { node, beyond, spare }] of chain.routers.entries()) {
      const addresses = spare === null ? [beyond!.via] : [beyond!.via, spare.next.address];
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
        static_host_map: { [overlayAddress(1 - i)]: addresses.map((address) => `${address}:${NEBULA_PORT}`) },
        lighthouse: { am_lighthouse: false, hosts: [] },
        listen: { host: "0.0.0.0", port: NEBULA_PORT },
        tun: { dev: devices[i], unsafe_routes: [{ route: beyond!.prefix, via: overlayAddress(1 - i) }] },
        logging: { level: "error" },
        firewall: { outbound: open, inbound: open },
      };
      // JSON is YAML.
      writeFileSync(join(own, "config.yml"), JSON.stringify(config));
      const child = restart(chain, i);
      started.push(child);
      const routed = () => chain.namespaces.shell(node, `ip route show ${beyond!.prefix}`).includes(devices[i]);
      await launched(child, routed);
    }
    chain.kernelForwards(devices);
  };
  return tunnel("nebula", "encrypted (AES-256-GCM), nebula, MTU 1300", start, restart);
}

function tunnel(name: string, mode: string, start: Contender["start"], restart?: Contender["restart"]): Contender {
  const common = { name, mode, superFrames: true, inKernel: true, start };
  return restart === undefined ? common : { ...common, restart };
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
