// Hosts of both families on one device, over paths of one and of both, with the tools that an operator has; a router with
// IPv6 is taken over. Each mix of families alone: families.test.ts.

import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { ExecutionContext } from "ava";
import type { CountersAnswer } from "../../lib/control/show.ts";
import { type Lab, openLab, SERVER, type Shape } from "./lab.ts";
import { labTest } from "./lab-test.ts";
import { ATTEMPTS, pathsUp, shown, until } from "./watched.ts";
import { converse } from "./workload.ts";

type Family = 4 | 6;

/** What iperf3 tells, with --json; it exits with 0 also where it has failed. */
interface Load {
  readonly end: { readonly sum?: { readonly packets: number } };
  readonly error?: string;
}

const CLIENT_6 = "2001:db8:1::2";
const SERVER_6 = "2001:db8:2::2";
const FILE_BYTES = 8 << 20;
const LATE = "drop.clock-skew";
/** Of iperf3, whose first datagram goes once. */
const START_MS_MAX = 60_000;
/** Before and after a router is taken over, and meanwhile as many as there are. */
const PINGS = 50;
const KERNEL_6 = `for file in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 0 > "$file"; done
for file in /proc/sys/net/ipv6/conf/*/accept_dad; do echo 1 > "$file"; done
for file in /proc/sys/net/ipv6/conf/*/accept_ra; do echo 0 > "$file"; done`;

const wireAddress = (hop: number, end: number, family: Family) =>
  family === 4 ? `198.18.${hop}.${end + 1}` : `2001:db8:ff${hop}::${end + 1}`;
const wireLength = (family: Family) => (family === 4 ? 24 : 64);

/** Both families on both LANs, as two interfaces of one device; `wires`: the family of each hop. */
function configure(lab: Lab, wires: readonly Family[], protectedBy: boolean, bfd: boolean): void {
  const last = wires.length;
  lab.routers.forEach((router, at) => {
    const side = at === 0 ? 1 : 2;
    const interfaces: string[] = [];
    const peers: string[] = [];
    if (at === 0 || at === last) {
      interfaces.push(`{ name: lan0, device: lan0, addresses: [10.${side}.0.1/24], tenant: corp }`);
      interfaces.push(`{ name: lan0-6, device: lan0, addresses: ["2001:db8:${side}::1/64"], tenant: corp }`);
    }
    const hops = [at - 1, at].filter((hop) => hop >= 0 && hop < last);
    hops.forEach((hop, n) => {
      const end = hop === at ? 0 : 1;
      const family = wires[hop];
      const own = `${wireAddress(hop, end, family)}/${wireLength(family)}`;
      interfaces.push(`{ name: wan${n}, device: wan${n}, addresses: ["${own}"] }`);
      const peer = lab.routers[hop + 1 - end].name;
      const path = `{ interface: wan${n}, address: "${wireAddress(hop, 1 - end, family)}" }`;
      peers.push(`{ name: ${peer}, paths: [${path}]${protectedBy ? ", security: fabric" : ""} }`);
    });
    const payload = protectedBy ? ", security: payload" : "";
    const route = (service: string, here: boolean, toward: number) =>
      `{ service: ${service}, ${here ? `interface: ${service.endsWith("6") ? "lan0-6" : "lan0"}` : `peer: ${lab.routers[toward].name}`} }`;
    const service = (name: string, prefix: string) =>
      `{ name: ${name}, addresses: ["${prefix}"], transports: [tcp, udp, icmp], access: [corp]${payload} }`;
    const lines = [
      "authority: lab",
      `router: ${router.name}`,
      `control: { socket: ${router.socketPath} }`,
      "interfaces:",
      ...interfaces.map((item) => `  - ${item}`),
      "tenants: [{ name: corp }]",
      "services:",
      `  - ${service("app", "10.2.0.0/24")}`,
      `  - ${service("app6", "2001:db8:2::/64")}`,
      `  - ${service("branch", "10.1.0.0/24")}`,
      `  - ${service("branch6", "2001:db8:1::/64")}`,
      "service-routes:",
      ...["app", "app6"].map((name) => `  - ${route(name, at === last, at + 1)}`),
      ...["branch", "branch6"].map((name) => `  - ${route(name, at === 0, at - 1)}`),
      "peers:",
      ...peers.map((item) => `  - ${item}`),
      ...(bfd
        ? ["bfd: { desired-tx-interval: 500ms, required-min-rx-interval: 500ms, multiplier: 20, hold-down: 0s }"]
        : []),
    ];
    if (protectedBy) {
      const keys = "keys: { file: keys }, encryption: aes-cbc-256";
      lines.push(
        "security-policies:",
        `  - { name: fabric, ${keys}, hmac: sha256-128, sign: every-packet }`,
        `  - { name: payload, ${keys}, adaptive: false }`,
      );
    }
    writeFileSync(router.configPath, `${lines.join("\n")}\n`);
  });
}

async function opened(shape: Shape, wires: readonly Family[], protectedBy: boolean, bfd: boolean): Promise<Lab> {
  const lab = await openLab(shape);
  configure(lab, wires, protectedBy, bfd);
  for (const [host, own, gateway] of [
    ["client", CLIENT_6, "2001:db8:1::1"],
    ["server", SERVER_6, "2001:db8:2::1"],
  ]) {
    const script = `${KERNEL_6}; ip -6 address add ${own}/64 dev eth0; ip -6 route add default via ${gateway}`;
    const { code, stderr } = await lab.run(host, "sh", "-e", "-c", script);
    if (code !== 0) throw new Error(stderr);
  }
  if (protectedBy) await lab.waymark("west", "keys", "generate", "--file", "keys");
  return lab;
}

/** What tshark says is wrong in a capture: checksums and what it cannot read. */
async function complaints(lab: Lab, node: string): Promise<string> {
  const checks = ["ip", "tcp", "udp"].flatMap((name) => ["-o", `${name}.check_checksum:TRUE`]);
  // What is in the payload is the hosts' business, and tshark's guesses at it are none of ours.
  checks.push("-d", "udp.port==1-65535,data", "-d", "tcp.port==1-65535,data");
  const wrong = [
    "ip.checksum.status == 0",
    "tcp.checksum.status == 0",
    "udp.checksum.status == 0",
    "icmp.checksum.status == 0",
    "icmpv6.checksum.status == 0",
    "_ws.malformed",
  ].join(" || ");
  const { stdout, stderr, code } = await lab.run(node, "tshark", "-r", lab.capturePath(node), ...checks, "-Y", wrong);
  return code === 0 ? stdout : stderr;
}

async function etherTypes(lab: Lab, node: string): Promise<string[]> {
  const args = ["-r", lab.capturePath(node), "-T", "fields", "-e", "eth.type"];
  const { stdout } = await lab.run(node, "tshark", ...args);
  return [...new Set(stdout.trim().split("\n"))].sort();
}

/** What hosts sent to one another, as tcpdump saw it at this node: who, the next header, and the flow label. */
function flowLabels(lab: Lab, node: string): string[] {
  const hosts = ["20010db8000100000000000000000002", "20010db8000200000000000000000002"];
  const said = new Set<string>();
  const file = readFileSync(lab.capturePath(node));
  for (let at = 24; at + 16 <= file.length; at += 16 + file.readUInt32LE(at + 8)) {
    const frame = file.subarray(at + 16, at + 16 + file.readUInt32LE(at + 8));
    if (frame.length < 58 || frame.readUInt16BE(12) !== 0x86dd) continue;
    const [source, destination] = [22, 38].map((from) => frame.toString("hex", from, from + 16));
    const next = frame[20];
    // Neither traceroute's, some of which end on their way, nor errors, which are routers' too.
    const port = next === 17 ? frame.readUInt16BE(56) : 0;
    const isOther = (port >= 33_434 && port <= 33_534) || (next === 58 && frame[54] < 128);
    if (!hosts.includes(source) || !hosts.includes(destination) || isOther) continue;
    said.add(`${source} ${next} ${frame.readUInt32BE(14) & 0xf_ffff}`);
  }
  return [...said].sort();
}

async function talks(t: ExecutionContext, lab: Lab, server: string, size: number): Promise<void> {
  for (const bytes of ["56", `${size}`]) {
    const ping = await lab.run("client", "ping", "-M", "dont", "-c", "4", "-i", "0.5", "-s", bytes, server);
    const what = `${server} ${bytes}: ${ping.stdout}${ping.stderr}`;
    const [, received, errors = "0"] = /(\d+) received(?:, \+(\d+) errors)?,/.exec(ping.stdout) ?? [];
    // Of what does not fit an IPv6 host is told, once by each router that has a narrow link behind it; ping takes that as an
    // answer and ends at four, so what is still on its way then is no loss. What it is not told of it must hear.
    const mayBeTold = server.includes(":") && bytes !== "56" ? lab.wires.length : 0;
    t.true(Number(errors) <= mayBeTold, what);
    t.true(Number(received) + Number(errors) >= 4, what);
  }
  for (const bytes of ["3000", "30000", "65000", "65507"]) {
    const ping = await lab.run("client", "ping", "-c", "2", "-i", "1", "-s", bytes, server);
    t.regex(ping.stdout, / [12] received/, `${server} ${bytes}: ${ping.stdout}${ping.stderr}`);
  }
  const file = randomBytes(FILE_BYTES);
  writeFileSync(join(lab.directory, "file.bin"), file);
  const got = join(lab.directory, "got.bin");
  const host = server.includes(":") ? `[${server}]` : server;
  const curl = await lab.run("client", "curl", "-sS", "-m", "60", "-o", got, `http://${host}:8080/file.bin`);
  t.is(curl.code, 0, curl.stderr);
  const digest = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
  t.is(digest(readFileSync(got)), digest(file));
  const udp = ["-c", server, "-u", "-b", "20M", "-l", "1200", "-t", "2", "--json"];
  const serving = lab.spawn("server", "iperf3", ["-s"], { stdio: "ignore" });
  const load = async () => JSON.parse((await lab.run("client", "iperf3", ...udp)).stdout) as Load;
  let { end, error } = await load();
  for (const deadline = Date.now() + START_MS_MAX; error !== undefined && Date.now() < deadline; ) {
    await sleep(100);
    ({ end, error } = await load());
  }
  t.is(error, undefined);
  const ended = once(serving, "exit");
  serving.kill();
  await ended;
  t.true(end.sum!.packets > 1000);
}

/** A router is taken over under pings: none is missing before the last that came, which was sent when all was over. */
async function pingedThrough(t: ExecutionContext, lab: Lab): Promise<void> {
  const pings = lab.spawn("client", "stdbuf", ["-oL", "ping", "-i", "0.01", SERVER_6]);
  let said = "";
  pings.stdout!.setEncoding("utf8").on("data", (text: string) => (said += text));
  const answered = () => new Set([...said.matchAll(/ bytes from .* icmp_seq=(\d+) /g)].map(([, n]) => Number(n)));
  const more = async (what: string) => {
    const before = answered().size;
    await until(what, async () => (answered().size >= before + PINGS ? undefined : said.slice(-500)));
  };
  await more("pings are answered");
  t.is(await lab.takeOver("west"), 0);
  await more("pings are answered by the successor");
  pings.kill("SIGINT");
  const heard = answered();
  const missing = Array.from({ length: Math.max(...heard) }, (_, n) => n + 1).filter((n) => !heard.has(n));
  t.deepEqual(missing, [], "a successor knows the same addresses");
}

/** All of a lab. Returns which signed packets were refused as too old: of a machine that stood still for seconds. */
async function carried(
  t: ExecutionContext,
  shape: Shape,
  wires: readonly Family[],
  protectedBy: boolean,
): Promise<string[]> {
  const lab = await opened(shape, wires, protectedBy, !protectedBy);
  try {
    await lab.startCaptures();
    await lab.startRouters();
    if (!protectedBy) {
      await pathsUp(lab);
      // A router that has just started waits for what its peer may give back.
      await sleep(2500);
    }
    await talks(t, lab, SERVER_6, 1452);
    await talks(t, lab, SERVER, 1472);
    const back = await lab.run("server", "ping", "-c", "3", "-i", "1", CLIENT_6);
    t.regex(back.stdout, / 0% packet loss/, back.stdout);
    const trace = await lab.run("client", "traceroute", "-6", "-n", "-q", "1", "-w", "10", "-m", "6", SERVER_6);
    t.log(trace.stdout);
    t.regex(trace.stdout, new RegExp(`\\n *${lab.routers.length + 1}  ${SERVER_6} `));
    t.regex(trace.stdout, /\n *1 {2}2001:db8:1::1 /);
    if (shape === "two-routers" && !protectedBy) await pingedThrough(t, lab);
    // Two labels each, so many that each bit that is looked for is set in one.
    const { code, stderr } = await converse(lab, "client", "parallel", SERVER_6, 7000, 20, 100);
    t.is(code, 0, stderr);
    await lab.stopCaptures();
    if (!wires.includes(4)) {
      const sent = flowLabels(lab, "client");
      t.deepEqual(flowLabels(lab, "server"), sent);
      const labels = sent.map((one) => Number(one.split(" ")[2]));
      t.true(new Set(labels).size > 4, sent.join("\n"));
      for (const bits of [0xffff, 0xf_0000, 0x1_0000]) t.true(labels.some((label) => (label & bits) !== 0));
    }
    for (const [n, wire] of lab.wires.entries()) {
      t.deepEqual(
        (await etherTypes(lab, wire.name)).filter((type) => type !== "0x0806"),
        [wires[n] === 6 ? "0x86dd" : "0x0800"],
      );
      t.is(await complaints(lab, wire.name), "");
    }
    const late: string[] = [];
    for (const { name } of lab.routers) {
      const counters = await shown<CountersAnswer>(lab, name, "counters");
      const dropped = Object.keys(counters).filter((key) => key.startsWith("drop.") && counters[key] > 0);
      t.deepEqual(
        dropped.filter((key) => key !== LATE),
        ["drop.ttl"],
        `${name}: traceroute's alone`,
      );
      if (dropped.includes(LATE)) late.push(`${name} ${LATE} ${counters[LATE]}`);
    }
    return late;
  } finally {
    await lab.close();
  }
}

const NETS: [shape: Shape, wires: Family[], protectedBy: boolean][] = [
  ["two-routers", [6], false],
  ["three-routers", [4, 6], true],
];

for (const [shape, wires, protectedBy] of NETS) {
  const over = wires.map((family) => `IPv${family}`).join(" and ");
  const how = protectedBy ? "signed and encrypted" : "in clear";
  labTest(
    `Hosts of both families over ${over}, ${how}: ping, a download, UDP; tshark finds nothing wrong`,
    async (t) => {
      let late = await carried(t, shape, wires, protectedBy);
      for (let n = 1; n < ATTEMPTS && late.length > 0; n++) {
        t.log(`again: ${late.join(", ")}`);
        late = await carried(t, shape, wires, protectedBy);
      }
      t.deepEqual(late, []);
    },
  );
}
