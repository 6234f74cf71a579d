// A kernel that forwards between the two routers, with a firewall as people write it: what takes no TCP of ours is found
// by tests, downloads get through as UDP, and the path says why. A kernel that lets TCP through is left alone.
//
//   client ── west ══ kernel with nftables ══ east ── server

import { statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { ExecutionContext } from "ava";
import type { CountersAnswer } from "../../lib/control/show.ts";
import { type Lab, type LabOptions, openLab } from "./lab.ts";
import { labTest } from "./lab-test.ts";
import { bfdText, eventsOf, FAST, pathsOf, pathsUp, shown, until } from "./watched.ts";
import { download, offerFile } from "./workload.ts";

const WIRE = "wire1";

/** The wire's bridge made a kernel that forwards, and knows connections. `loose`: it takes up those that it has not seen begin. */
const forwarding = (loose: 0 | 1) => `ip link del bridge
ip address add 198.18.0.253/32 dev left
ip address add 198.18.0.254/32 dev right
ip route add 198.18.0.1/32 dev left
ip route add 198.18.0.2/32 dev right
for device in left right; do echo 1 > /proc/sys/net/ipv4/conf/$device/proxy_arp; done
echo 1 > /proc/sys/net/ipv4/ip_forward
nft add table ip begins
nft add chain ip begins forward "{ type filter hook forward priority 10; ct state new,established accept; }"
echo ${loose} > /proc/sys/net/netfilter/nf_conntrack_tcp_loose`;

const rules = (...lines: string[]) => `nft -f - <<'RULES'
table ip firewall {
  counter refused {}
  chain forward {
    type filter hook forward priority 0;
    ${lines.map((line) => `${line} counter name refused drop`).join("\n    ")}
  }
}
RULES`;

const STATEFUL = rules("ct state invalid");
/** A SYN of a host has at most 60 bytes of header each. */
const NO_DATA_IN_SYN = rules("tcp flags & (syn | ack) == syn meta length > 120");
const ONLY_SYN_BEGINS = rules(
  "ct state new tcp flags & (fin | syn | rst | ack) != syn meta l4proto tcp",
  "ct state invalid",
);

async function opened(loose: 0 | 1, firewall: string, options: LabOptions): Promise<Lab> {
  const lab = await openLab("two-routers", {
    extra: bfdText(FAST),
    path: ", udp-transform: auto-detect, udp-transform-interval: 20s",
    ...options,
  });
  if (options.protection !== undefined) await lab.waymark("west", "keys", "generate", "--file", "keys");
  const made = await lab.run(WIRE, "sh", "-ec", `${forwarding(loose)}\n${firewall}`);
  if (made.code !== 0) throw new Error(made.stderr);
  await lab.startRouters();
  await pathsUp(lab);
  await until("the paths are tested", async () => {
    const detectors = await Promise.all(
      lab.routers.map(async ({ name }) => (await pathsOf(lab, name))[0].udpTransform),
    );
    const isTested = detectors.every(({ detector }) => detector !== null && detector.judgedMs !== null);
    return isTested ? undefined : JSON.stringify(detectors);
  });
  return lab;
}

async function refused(lab: Lab): Promise<number> {
  const { stdout } = await lab.run(WIRE, "nft", "list", "counter", "ip", "firewall", "refused");
  return Number(/packets (\d+)/.exec(stdout)![1]);
}

/** Connections of the kernel between waypoint ports. */
async function carriedAs(lab: Lab): Promise<string[]> {
  const { stdout } = await lab.run(WIRE, "cat", "/proc/net/nf_conntrack");
  const lines = stdout
    .split("\n")
    .filter((line) => /sport=(1[6-9]|[2-6]\d)\d{3} dport=(1[6-9]|[2-6]\d)\d{3} /.test(line));
  return [...new Set(lines.map((line) => line.split(/ +/)[2]))];
}

async function arrives(t: ExecutionContext, lab: Lab, sha256: string): Promise<void> {
  const got = await download(lab);
  t.is(got.code, 0, got.stderr);
  t.is(got.sha256, sha256);
}

const AF_PACKET = { lan: "af-packet", wan: "af-packet" } as const;
const FIREWALLS: [string, 0 | 1, string, LabOptions, string[]][] = [
  ["drops what is of no connection (ct state invalid)", 0, STATEFUL, {}, ["passed", "to-peer", "passed"]],
  [
    "drops SYNs with data, between routers with two workers",
    1,
    NO_DATA_IN_SYN,
    { workers: { west: 2, east: 2 } },
    ["to-peer", "passed", "to-peer"],
  ],
  [
    "lets only SYNs begin, between af-packet routers that sign and encrypt everything",
    0,
    ONLY_SYN_BEGINS,
    { backends: { west: AF_PACKET, east: AF_PACKET }, protection: { sign: "every-packet", adaptive: false } },
    ["passed", "to-peer", "passed"],
  ],
];

for (const [what, loose, firewall, options, expected] of FIREWALLS) {
  labTest(`a firewall that ${what} is found, and downloads arrive as UDP`, async (t) => {
    t.timeout(120_000);
    const lab = await opened(loose, firewall, options);
    try {
      const sha256 = await offerFile(lab);
      for (const { name } of lab.routers) {
        const [{ udpTransform }] = await pathsOf(lab, name);
        t.like(udpTransform, { mode: "auto-detect", carrier: "udp" });
        t.deepEqual(
          udpTransform.detector!.tests.map(({ result }) => result),
          expected,
        );
        const found = (await eventsOf(lab, name)).filter(({ kind }) => kind === "udp-transform");
        t.is(found.length, 1);
        t.regex(found[0].why, /^TCP goes as UDP, lost on the way: /);
      }
      const text = await lab.waymark("west", "show", "paths", "-c", lab.router("west").configPath);
      t.regex(text.stdout, /TCP-AS[\s\S]*udp \([A-Z][^)]* to-peer/);
      t.true((await refused(lab)) > 0);
      const before = await refused(lab);
      await arrives(t, lab, sha256);
      t.deepEqual(await carriedAs(lab), ["udp"]);
      // But for tests none is refused any more.
      const tests = (await shown<CountersAnswer>(lab, "west", "counters"))["firewall-detector.tests-sent"];
      t.true((await refused(lab)) - before <= 2 * tests);
    } finally {
      await lab.close();
    }
  });
}

for (const [what, options] of [
  ["libpcap", {}],
  ["af-packet", { backends: { west: AF_PACKET, east: AF_PACKET } }],
] as [string, LabOptions][]) {
  labTest(
    `${what}: a kernel that follows connections and takes ours stays without UDP, before and after`,
    async (t) => {
      t.timeout(120_000);
      const lab = await opened(1, STATEFUL, options);
      try {
        const sha256 = await offerFile(lab);
        await arrives(t, lab, sha256);
        t.deepEqual(await carriedAs(lab), ["tcp"]);
        await sleep(22_000);
        for (const { name } of lab.routers) {
          const [{ udpTransform }] = await pathsOf(lab, name);
          t.is(udpTransform.carrier, "tcp");
          t.true(udpTransform.detector!.tests.every(({ result }) => result === "passed"));
          t.true(udpTransform.detector!.judgedMs! < 25_000);
          t.deepEqual(
            (await eventsOf(lab, name)).filter(({ kind }) => kind === "udp-transform"),
            [],
          );
          const counters = await shown<CountersAnswer>(lab, name, "counters");
          t.is(counters["firewall-detector.failed-rounds"], 0);
          t.true(counters["firewall-detector.tests-sent"] >= 24);
        }
      } finally {
        await lab.close();
      }
    },
  );
}

labTest(
  "a connection that stands when the firewall comes goes on as UDP, and new ones are TCP again when it is gone",
  async (t) => {
    t.timeout(180_000);
    const lab = await opened(1, "nft add table ip firewall", { plainWires: true });
    try {
      const sha256 = await offerFile(lab);
      const limited = ["--limit-rate", "2M"];
      const slow = lab.run("client", "curl", "-sS", ...limited, "-o", "slow.bin", "http://10.2.0.2:8080/file.bin");
      await sleep(3000);
      await until("it stands", async () => {
        const got = statSync(join(lab.directory, "slow.bin"), { throwIfNoEntry: false });
        return (got?.size ?? 0) > 0 ? undefined : "nothing has come";
      });
      t.deepEqual(await carriedAs(lab), ["tcp"]);
      const no = await lab.run(WIRE, "sh", "-ec", "nft delete table ip firewall\n".concat(rules("meta l4proto tcp")));
      t.is(no.code, 0, no.stderr);
      await until("the firewall is found", async () => {
        const [{ udpTransform }] = await pathsOf(lab, "west");
        return udpTransform.carrier === "udp" ? undefined : JSON.stringify(udpTransform);
      });
      const moved = async () =>
        (await Promise.all([eventsOf(lab, "west"), eventsOf(lab, "east")]))
          .flat()
          .filter(({ kind, why }) => kind === "session-moved" && why === "firewall");
      await until("the connection has moved", async () => ((await moved()).length > 0 ? undefined : "it has not"));
      const ended = await slow;
      t.is(ended.code, 0, ended.stderr);
      const sum = await lab.run("client", "sha256sum", "slow.bin");
      t.is(sum.stdout.split(" ")[0], sha256);
      await lab.run(WIRE, "nft", "delete", "table", "ip", "firewall");
      const again = async () => {
        const [{ udpTransform }] = await pathsOf(lab, "west");
        return udpTransform.carrier === "tcp" ? undefined : JSON.stringify(udpTransform);
      };
      // It is tested every 20 s.
      await until("TCP is TCP again", again, 60_000);
      await arrives(t, lab, sha256);
    } finally {
      await lab.close();
    }
  },
);
