// A router behind the kernel's own NAT: nftables masquerades between the two routers, each mapping with a port of the
// kernel's choice. Its address is taken away under a download and pings, and it gets another one: every mapping is gone.

import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { SessionsAnswer } from "../../lib/control/show.ts";
import { CLIENT, type Lab, openLab, SERVER } from "./lab.ts";
import { labTest } from "./lab-test.ts";
import { eventsOf, pathsUp, shown } from "./watched.ts";

/** At the rate below it takes four seconds. */
const FILE_BYTES = 12 << 20;
const FIRST = "198.18.0.9";
const SECOND = "198.18.0.10";

/** The wire is a gateway that masquerades, and lets nothing in by itself. */
const GATEWAY = `ip link set left nomaster; ip link set right nomaster; ip link delete bridge
ip address add 192.168.7.1/24 dev left; ip address add ${FIRST}/24 dev right
echo 1 > /proc/sys/net/ipv4/ip_forward
nft -f - <<RULES
table ip gateway {
  chain out { type nat hook postrouting priority 100; oifname "right" meta l4proto { tcp, udp } masquerade to :20000-60000 random; }
  chain in { type filter hook input priority 0; iifname "right" drop; }
}
RULES`;

/** The kernel forgets every mapping of an address that goes. */
const REBIND = `ip address del ${FIRST}/24 dev right; ip address add ${SECOND}/24 dev right`;

function configuration(lab: Lab, at: 0 | 1): string {
  const { name, socketPath } = lab.routers[at];
  const [own, other] = at === 0 ? ["branch", "app"] : ["app", "branch"];
  const wan = at === 0 ? "addresses: [192.168.7.2/24], gateway: 192.168.7.1" : "addresses: [198.18.0.2/24]";
  const path = at === 0 ? "address: 198.18.0.2, connectivity: outbound-only" : "address: dynamic";
  return `authority: lab
router: ${name}
control: { socket: ${socketPath} }
interfaces:
  - { name: lan0, device: lan0, addresses: [10.${at + 1}.0.1/24], tenant: corp }
  - { name: wan0, device: wan0, ${wan} }
tenants: [{ name: corp }]
services:
  - { name: app, addresses: [10.2.0.0/24], access: [corp] }
  - { name: branch, addresses: [10.1.0.0/24], access: [corp] }
service-routes:
  - { service: ${own}, interface: lan0 }
  - { service: ${other}, peer: ${lab.routers[1 - at].name} }
peers:
  - { name: ${lab.routers[1 - at].name}, security: fabric, paths: [{ interface: wan0, ${path} }] }
security-policies: [{ name: fabric, keys: { file: keys }, encryption: aes-cbc-256, hmac: sha256-128 }]
bfd: { desired-tx-interval: 50ms, required-min-rx-interval: 50ms, hold-down: 1s }
`;
}

async function withNat(use: (lab: Lab) => Promise<void>): Promise<void> {
  const lab = await openLab("two-routers", { plainWires: true });
  try {
    const made = await lab.waymark("west", "keys", "generate", "--file", "keys");
    if (made.code !== 0) throw new Error(made.stderr);
    const gateway = await lab.run("wire1", "sh", "-e", "-c", GATEWAY);
    if (gateway.code !== 0) throw new Error(gateway.stderr);
    for (const at of [0, 1] as const) await writeFile(lab.routers[at].configPath, configuration(lab, at));
    await lab.startRouters();
    await pathsUp(lab);
    // A router that has just started waits for sessions from before.
    await sleep(2500);
    await use(lab);
  } finally {
    await lab.close();
  }
}

/** When data of the download came to a host, in milliseconds. */
async function dataTimes(lab: Lab, host: "client" | "server"): Promise<number[]> {
  const filter = "tcp.srcport == 8080 && tcp.len > 0";
  const fields = ["-T", "fields", "-e", "frame.time_relative"];
  const { stdout } = await lab.run(host, "tshark", "-r", lab.capturePath(host), "-Y", filter, ...fields);
  return stdout
    .trim()
    .split("\n")
    .map((seconds) => Number(seconds) * 1000);
}

for (const [direction, asks, address] of [
  ["from behind the NAT", "client", SERVER],
  ["from the other side", "server", CLIENT],
] as const) {
  labTest(`a download and pings ${direction} go on, byte for byte, when the NAT gets another address`, async (t) => {
    await withNat(async (lab) => {
      const file = randomBytes(FILE_BYTES);
      await writeFile(join(lab.directory, "file.bin"), file);
      await lab.startCaptures();
      const url = `http://${address}:8080/file.bin`;
      const quiet = ["--silent", "--show-error", "--max-time", "60", "--limit-rate", "3M"];
      const running = lab.run(asks, "curl", ...quiet, "--output", "download.bin", url);
      const ping = lab.run(asks, "ping", "-i", "0.02", "-c", "150", "-W", "1", address);
      await sleep(1200);
      const { sessions: before } = await shown<SessionsAnswer>(lab, "east", "sessions");
      const rebind = await lab.run("wire1", "sh", "-e", "-c", REBIND);
      t.is(rebind.code, 0, rebind.stderr);
      const done = await running;
      t.is(done.code, 0, done.stderr);
      t.is(Buffer.compare(await readFile(join(lab.directory, "download.bin")), file), 0);
      const { stdout } = await ping;
      const received = Number(/, (\d+) received/.exec(stdout)?.[1]);
      await lab.stopCaptures();
      const east = await shown<SessionsAnswer>(lab, "east", "sessions");
      const uuids = new Set(before.map(({ uuid }) => uuid));
      const moved = east.sessions.filter(({ uuid }) => uuids.has(uuid));
      t.true(moved.length >= 1);
      t.true(
        moved.every(({ waypoint }) => waypoint?.remote.startsWith(`${SECOND}:`)),
        JSON.stringify(moved),
      );
      for (const { name } of lab.routers) {
        const events = await eventsOf(lab, name);
        t.true(events.some(({ kind }) => kind === "nat-changed"));
        const counters = await shown<Record<string, number>>(lab, name, "counters");
        t.is(counters["tcp.resets-sent"], 0);
      }
      const arrivals = await dataTimes(lab, asks);
      t.true(arrivals.length > 1000);
      const gap = Math.max(...arrivals.slice(1).map((at, n) => at - arrivals[n]));
      t.log(`longest pause of the download ${gap.toFixed(0)} ms; pings lost ${150 - received} of 150, 20 ms apart`);
    });
  });
}
