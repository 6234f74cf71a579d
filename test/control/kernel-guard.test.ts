import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { type Config, parseConfig } from "../../lib/control/config.ts";
import { buildGuard, GuardError, installGuard, removeGuard } from "../../lib/control/kernel-guard.ts";

function config(text: string): Config {
  const { config, problems } = parseConfig(`authority: a\nrouter: r\n${text}`, "g.yaml");
  if (config === null) throw new Error(JSON.stringify(problems));
  return config;
}

test("An exclusive device leaves the kernel what kernel-allow lists and drops the rest", (t) => {
  const guard = buildGuard(
    config(`
interfaces:
  - { name: lan0, device: eth1, addresses: [10.1.0.1/24] }
  - { name: wan0, device: eth0.7, addresses: [198.18.0.1/24], kernel-allow: [arp, icmp, tcp/22, udp/5000-5100] }
`),
  );
  t.is(
    guard,
    `add table netdev waymark
add chain netdev waymark guard-eth1 { type filter hook ingress device "eth1" priority -500; policy accept; }
flush chain netdev waymark guard-eth1
add rule netdev waymark guard-eth1 counter drop
add chain netdev waymark guard-eth0.7 { type filter hook ingress device "eth0.7" priority -500; policy accept; }
flush chain netdev waymark guard-eth0.7
add rule netdev waymark guard-eth0.7 meta protocol arp accept
add rule netdev waymark guard-eth0.7 ip protocol icmp fib daddr type { local, broadcast } accept
add rule netdev waymark guard-eth0.7 ip protocol tcp tcp dport 22 fib daddr type { local, broadcast } accept
add rule netdev waymark guard-eth0.7 ip protocol udp udp dport 5000-5100 fib daddr type { local, broadcast } accept
add rule netdev waymark guard-eth0.7 counter drop
`,
  );
});

const SHARED = `
interfaces:
  - { name: lan0, device: eth1, addresses: [10.1.0.1/24], kernel: shared }
  - { name: wan0, device: eth0, addresses: [198.18.0.1/24, 198.18.1.1/24], kernel: shared }
tenants: [{ name: corp }]
services:
  - { name: app, addresses: [10.2.0.0/16, 10.2.7.0/24], access: [corp] }
  - { name: web, addresses: [10.2.0.0/16, 10.9.0.1], transports: [tcp/80], access: [corp] }
service-routes:
  - { service: app, peer: east }
  - { service: web, target: 10.1.0.9:8080 }
peers:
  - { name: east, paths: [{ interface: wan0, address: 198.18.0.2 }] }
  - { name: north, paths: [{ interface: wan0, address: 198.18.0.3 }] }
`;

test("A shared device hides waypoint packets of its peers, service prefixes, and servers behind NAT", (t) => {
  t.is(
    buildGuard(config(SHARED)),
    `add table netdev waymark
add chain netdev waymark guard-eth1 { type filter hook ingress device "eth1" priority -500; policy accept; }
flush chain netdev waymark guard-eth1
add rule netdev waymark guard-eth1 ip saddr { 10.2.0.0/16, 10.9.0.1/32 } counter drop
add rule netdev waymark guard-eth1 ip daddr { 10.2.0.0/16, 10.9.0.1/32 } counter drop
add rule netdev waymark guard-eth1 ip saddr 10.1.0.9 meta l4proto { tcp, udp } th sport 8080 counter drop
add rule netdev waymark guard-eth1 ip daddr { 10.1.0.1 } fib daddr type != local counter drop
add chain netdev waymark guard-eth0 { type filter hook ingress device "eth0" priority -500; policy accept; }
flush chain netdev waymark guard-eth0
add rule netdev waymark guard-eth0 ip saddr { 198.18.0.2, 198.18.0.3 } ip daddr { 198.18.0.1, 198.18.1.1 } meta l4proto { tcp, udp } th dport 16384-65534 counter drop
add rule netdev waymark guard-eth0 ip saddr { 198.18.0.2, 198.18.0.3 } ip daddr { 198.18.0.1, 198.18.1.1 } udp dport { 1280, 3784, 4784 } counter drop
add rule netdev waymark guard-eth0 ip saddr { 198.18.0.2, 198.18.0.3 } ip daddr { 198.18.0.1, 198.18.1.1 } tcp dport { 1280, 1283 } counter drop
add rule netdev waymark guard-eth0 ip saddr { 198.18.0.2, 198.18.0.3 } ip daddr { 198.18.0.1, 198.18.1.1 } tcp sport { 1280, 1283 } counter drop
add rule netdev waymark guard-eth0 ip saddr { 10.2.0.0/16, 10.9.0.1/32 } counter drop
add rule netdev waymark guard-eth0 ip daddr { 10.2.0.0/16, 10.9.0.1/32 } counter drop
add rule netdev waymark guard-eth0 ip daddr { 198.18.0.1, 198.18.1.1 } fib daddr type != local counter drop
`,
  );
});

const SHARED_6 = `
interfaces:
  - { name: lan0, device: eth1, addresses: [10.1.0.1/24], kernel-allow: [arp] }
  - { name: lan6, device: eth1, addresses: ["2001:db8:1::1/64"], kernel: shared }
  - { name: wan0, device: eth0, addresses: ["2001:db8:ff::1/64"], kernel: shared }
tenants: [{ name: corp }]
services:
  - { name: app, addresses: [10.2.0.0/16], access: [corp] }
  - { name: app6, addresses: ["2001:db8:2::/64", "2001:db8:2::5"], access: [corp] }
service-routes:
  - { service: app, peer: east }
  - { service: app6, peer: east }
peers: [{ name: east, paths: [{ interface: wan0, address: "2001:db8:ff::2" }] }]
`;
const LINK =
  "meta protocol ip6 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert, mld-listener-query, nd-router-solicit, nd-redirect, mld-listener-report, mld-listener-done, mld2-listener-report } accept";

test("Of a device's two families one may be shared; IPv6 hides what is ours of IPv6, and never how neighbors are found", (t) => {
  t.is(
    buildGuard(config(SHARED_6)),
    `add table netdev waymark
add chain netdev waymark guard-eth1 { type filter hook ingress device "eth1" priority -500; policy accept; }
flush chain netdev waymark guard-eth1
add rule netdev waymark guard-eth1 meta protocol arp accept
add rule netdev waymark guard-eth1 meta protocol { ip, arp } counter drop
add rule netdev waymark guard-eth1 ${LINK}
add rule netdev waymark guard-eth1 ip6 saddr { 2001:db8:2::/64 } counter drop
add rule netdev waymark guard-eth1 ip6 daddr { 2001:db8:2::/64 } counter drop
add rule netdev waymark guard-eth1 ip6 daddr { 2001:db8:1::1 } fib daddr type != local counter drop
add chain netdev waymark guard-eth0 { type filter hook ingress device "eth0" priority -500; policy accept; }
flush chain netdev waymark guard-eth0
add rule netdev waymark guard-eth0 ${LINK}
add rule netdev waymark guard-eth0 ip6 saddr { 2001:db8:ff::2 } ip6 daddr { 2001:db8:ff::1 } meta l4proto { tcp, udp } th dport 16384-65534 counter drop
add rule netdev waymark guard-eth0 ip6 saddr { 2001:db8:ff::2 } ip6 daddr { 2001:db8:ff::1 } udp dport { 1280, 3784, 4784 } counter drop
add rule netdev waymark guard-eth0 ip6 saddr { 2001:db8:ff::2 } ip6 daddr { 2001:db8:ff::1 } tcp dport { 1280, 1283 } counter drop
add rule netdev waymark guard-eth0 ip6 saddr { 2001:db8:ff::2 } ip6 daddr { 2001:db8:ff::1 } tcp sport { 1280, 1283 } counter drop
add rule netdev waymark guard-eth0 ip6 saddr { 2001:db8:2::/64 } counter drop
add rule netdev waymark guard-eth0 ip6 daddr { 2001:db8:2::/64 } counter drop
add rule netdev waymark guard-eth0 ip6 daddr { 2001:db8:ff::1 } fib daddr type != local counter drop
`,
  );
});

test("An exclusive device with both families leaves the kernel of each what that interface lists", (t) => {
  const interfaces = `
interfaces:
  - { name: lan0, device: eth1, addresses: [10.1.0.1/24], kernel-allow: [tcp/22] }
  - { name: lan6, device: eth1, addresses: ["2001:db8:1::1/64"], kernel-allow: [ndp, icmp, tcp/22, udp/5000-5100] }
`;
  t.deepEqual(
    buildGuard(config(interfaces))
      .split("\n")
      .slice(3, -1)
      .map((line) => line.replace("add rule netdev waymark guard-eth1 ", "")),
    [
      "ip protocol tcp tcp dport 22 fib daddr type { local, broadcast } accept",
      "meta protocol ip6 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert, mld-listener-query } accept",
      "meta protocol ip6 icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem, echo-request, echo-reply } fib daddr type local accept",
      "meta protocol ip6 meta l4proto tcp tcp dport 22 fib daddr type local accept",
      "meta protocol ip6 meta l4proto udp udp dport 5000-5100 fib daddr type local accept",
      "counter drop",
    ],
  );
});

test.serial("A program by the name of nft that is not nftables is found out", (t) => {
  const directory = mkdtempSync(join(tmpdir(), "waymark-nft-"));
  const path = process.env.PATH;
  writeFileSync(join(directory, "nft"), "#!/bin/sh\ncat > /dev/null\n", { mode: 0o755 });
  process.env.PATH = `${directory}:/bin`;
  try {
    t.throws(() => installGuard(buildGuard(config(SHARED))), {
      instanceOf: GuardError,
      message: /guard-eth1 is not there/,
    });
  } finally {
    process.env.PATH = path;
    rmSync(directory, { recursive: true });
  }
});

test.serial("Without nft the error says how to get it", (t) => {
  const path = process.env.PATH;
  process.env.PATH = "/nonexistent";
  try {
    const message = "nft is not in PATH: apt-get install nftables, add /usr/sbin to PATH, or start with --no-guard";
    t.throws(() => installGuard("add table netdev waymark\n"), { instanceOf: GuardError, message });
    t.throws(() => removeGuard(["eth0"]), { instanceOf: GuardError, message });
  } finally {
    process.env.PATH = path;
  }
});

// Live: a veth between two namespaces of our own. The kernel at `guarded` answers until the guard hides its frames.

const missing = process.getuid?.() === 0 ? whichMissing(["ip", "nft", "ping"]) : "needs root";
// Named as the lab names its own, so that its sweeper also finds what an interrupted run left.
const prefix = `waymark-${process.pid}-${randomBytes(2).toString("hex")}`;
const guarded = `${prefix}-a`;
const outside = `${prefix}-b`;

function whichMissing(tools: string[]): string | undefined {
  return tools.find((tool) => {
    try {
      execFileSync("which", [tool], { stdio: "ignore" });
      return false;
    } catch {
      return true;
    }
  });
}

function liveTest(title: string, body: (t: ExecutionContext) => Promise<void> | void): void {
  if (missing === undefined) test.serial(title, body);
  else test.skip(`${title} (skipped: ${missing})`, body);
}

// Our own nft calls must not meet the package of that name which npx puts in PATH; kernel-guard.ts sees to itself.
const env = { ...process.env, PATH: "/usr/sbin:/usr/bin:/sbin:/bin" };

function run(namespace: string, command: string, ...args: string[]): string {
  const own = command === "nft" ? { env } : {};
  return execFileSync("ip", ["netns", "exec", namespace, command, ...args], {
    encoding: "utf8",
    stdio: "pipe",
    ...own,
  });
}

/** A function of kernel-guard.ts in the guarded namespace; its error's message where it throws. */
function guard(call: string, ...wrapper: string[]): string {
  const module = new URL("../../lib/control/kernel-guard.js", import.meta.url).href;
  const code = `const g = await import(${JSON.stringify(module)}); try { g.${call} } catch (e) { console.log(e.name + ": " + e.message) }`;
  const [command, ...args] = [...wrapper, process.execPath, "--input-type=module", "-e", code];
  return run(guarded, command, ...args).trim();
}

/** How long an answer may take, and how long nothing is waited for. */
const ANSWER_S = 20;
const SILENCE_S = 1;
const OWN = "10.99.0.1";
const answersPing = (address = OWN) => pings(address, ANSWER_S);
const hidesFromPing = (address = OWN) => !pings(address, SILENCE_S);

/** Whether ping is answered within so many seconds. */
function pings(address: string, seconds: number): boolean {
  try {
    run(outside, "ping", "-c", "1", "-W", `${seconds}`, address);
    return true;
  } catch {
    return false;
  }
}

/** What ping says, answered or not. */
function pinged(address: string): string {
  return run(outside, "sh", "-c", `ping -n -c 1 -W 1 ${address} || true`);
}

/** What a connection from outside meets: "connected", the error's code, or "silence" for so many seconds. */
function tries(port: number, host: string, localAddress: string | undefined, seconds: number): string {
  const code = `const s = require("net").connect(${JSON.stringify({ host, port, localAddress })});
    const say = (what) => { console.log(what); process.exit(); };
    s.setTimeout(${1000 * seconds}, () => say("silence")); s.on("error", (e) => say(e.code)); s.on("connect", () => say("connected"));`;
  return run(outside, process.execPath, "-e", code).trim();
}

const meets = (port: number, host = OWN, from?: string) => tries(port, host, from, ANSWER_S);
const meetsSilence = (port: number, host = OWN, from?: string) => tries(port, host, from, 2 * SILENCE_S) === "silence";

const LIVE = (allow: string) =>
  buildGuard(config(`interfaces: [{ name: lan0, device: va, addresses: [10.99.0.7/24], kernel-allow: [${allow}] }]`));

let server: ReturnType<typeof spawn> | undefined;

test.before(async () => {
  if (missing !== undefined) return;
  for (const namespace of [guarded, outside]) execFileSync("ip", ["netns", "add", namespace]);
  execFileSync("ip", ["-n", guarded, "link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", outside]);
  execFileSync("ip", ["-n", guarded, "addr", "add", "10.99.0.1/24", "dev", "va"]);
  execFileSync("ip", ["-n", outside, "addr", "add", "10.99.0.2/24", "dev", "vb"]);
  execFileSync("ip", ["-n", guarded, "addr", "add", "2001:db8:99::1/64", "dev", "va", "nodad"]);
  execFileSync("ip", ["-n", outside, "addr", "add", "2001:db8:99::2/64", "dev", "vb", "nodad"]);
  execFileSync("ip", ["-n", outside, "addr", "add", "2001:db8:99::3/64", "dev", "vb", "nodad"]);
  execFileSync("ip", ["-n", guarded, "link", "set", "va", "up"]);
  execFileSync("ip", ["-n", outside, "link", "set", "vb", "up"]);
  const code = `let left = 2; for (const port of [22, 23]) require("net").createServer((s) => s.end()).listen(port, () => --left || console.log("ready"));`;
  server = spawn("ip", ["netns", "exec", guarded, process.execPath, "-e", code], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await new Promise((resolve) => server?.stdout?.once("data", resolve));
});

test.after.always(() => {
  server?.kill("SIGKILL");
  if (missing !== undefined) return;
  for (const namespace of [guarded, outside]) {
    try {
      execFileSync("ip", ["netns", "del", namespace], { stdio: "ignore" });
    } catch {}
  }
});

liveTest("The guard keeps the kernel silent except for what is allowed, and removing it gives everything back", (t) => {
  t.true(answersPing(), "the veth works before");
  t.is(guard(`installGuard(${JSON.stringify(LIVE("arp, tcp/22"))})`), "");
  t.true(hidesFromPing(), "ping is hidden");
  t.is(meets(22), "connected", "tcp/22 is allowed");
  t.true(meetsSilence(23), "tcp/23 is hidden");
  t.is(guard(`removeGuard(["va"])`), "");
  t.true(answersPing());
  t.is(meets(23), "connected");
  t.is(run(guarded, "nft", "list", "ruleset"), "");
  t.is(guard(`removeGuard(["va"])`), "", "a second removal finds nothing and is no error");
});

liveTest("An allowed port does not let the kernel forward what is addressed to another host", (t) => {
  t.is(guard(`installGuard(${JSON.stringify(LIVE("arp, icmp"))})`), "");
  t.true(answersPing());
  run(guarded, "sysctl", "-qw", "net.ipv4.ip_forward=1");
  run(outside, "ip", "route", "add", "10.98.0.9/32", "via", "10.99.0.1");
  const dropped = () =>
    Number(/counter packets (\d+) bytes \d+ drop/.exec(run(guarded, "nft", "list", "ruleset"))?.[1]);
  const before = dropped();
  t.throws(() => run(outside, "ping", "-c", "1", "-W", "1", "10.98.0.9"));
  t.true(dropped() > before, "the kernel would have answered network unreachable, or forwarded it");
  t.is(guard(`removeGuard(["va"])`), "");
});

const OWN_6 = "2001:db8:99::1";
const LIVE_6 = (keys: string, more = "") =>
  buildGuard(config(`interfaces: [{ name: lan6, device: va, addresses: ["2001:db8:99::7/64"], ${keys} }]\n${more}`));
const forget = () => run(outside, "ip", "-6", "neigh", "flush", "dev", "vb");

liveTest("Over IPv6 the guard keeps the kernel silent except for what is allowed, neighbors found or not", (t) => {
  t.true(answersPing(OWN_6), "the veth works before");
  t.is(guard(`installGuard(${JSON.stringify(LIVE_6("kernel-allow: [ndp, tcp/22]"))})`), "");
  forget();
  t.is(meets(22, OWN_6), "connected");
  t.true(meetsSilence(23, OWN_6));
  t.true(hidesFromPing(OWN_6));
  t.is(guard(`installGuard(${JSON.stringify(LIVE_6("kernel-allow: [ndp, icmp]"))})`), "");
  t.true(answersPing(OWN_6));
  t.true(meetsSilence(22, OWN_6));
  t.is(guard(`installGuard(${JSON.stringify(LIVE_6("kernel-allow: [icmp, tcp]"))})`), "");
  forget();
  t.true(hidesFromPing(OWN_6), "who asks for the neighbor is not heard");
  t.is(guard(`removeGuard(["va"])`), "");
});

liveTest("A kernel that forwards IPv6 does nothing with what is ours under kernel: shared, and hears all else", (t) => {
  const more = `
tenants: [{ name: corp }]
services: [{ name: app, addresses: ["2001:db8:98::/64", "2001:db8:99::3"], access: [corp] }]
service-routes: [{ service: app, peer: east }]
peers: [{ name: east, paths: [{ interface: lan6, address: "2001:db8:99::2" }] }]`;
  const both = 'kernel: shared, addresses: ["2001:db8:99::7/64", "2001:db8:99::1/64"]';
  const script = buildGuard(config(`interfaces: [{ name: lan6, device: va, ${both} }]${more}`));
  run(guarded, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1");
  const [peer, host] = ["2001:db8:99::2", "2001:db8:99::3"];
  // The neighbor's MAC address as the router would have given it: the kernel knows nothing of ::7.
  const mac = /link\/ether (\S+)/.exec(run(guarded, "ip", "link", "show", "va"))?.[1] ?? "";
  run(outside, "ip", "-6", "neigh", "replace", "2001:db8:99::7", "lladdr", mac, "dev", "vb");
  run(outside, "ip", "-6", "route", "replace", "2001:db8:98::/64", "via", OWN_6);
  t.is(meets(40_000, OWN_6, peer), "ECONNREFUSED", "a reset");
  t.regex(pinged("2001:db8:98::5"), /No route/, "says the kernel");
  // What is for the router's address alone, counted where the kernel first sees a packet; neighbors speak to it meanwhile.
  const seeing = `table ip6 seen { chain in { type filter hook prerouting priority raw; ip6 daddr 2001:db8:99::7 counter; }; }`;
  run(guarded, "nft", seeing);
  const seen = () => Number(/counter packets (\d+)/.exec(run(guarded, "nft", "list", "table", "ip6", "seen"))?.[1]);
  meetsSilence(22, "2001:db8:99::7", peer);
  const before = seen();
  t.true(before > 0, "without the guard the kernel sees it");
  t.is(guard(`installGuard(${JSON.stringify(script)})`), "");
  forget();
  run(outside, "ip", "-6", "neigh", "replace", "2001:db8:99::7", "lladdr", mac, "dev", "vb");
  t.true(meetsSilence(40_000, OWN_6, peer), "a waypoint port");
  t.is(meets(22, OWN_6, peer), "connected", "the host's own service, at an address that both have");
  t.is(meets(23, OWN_6, peer), "connected");
  t.is(meets(1, OWN_6, peer), "ECONNREFUSED", "and its own answer");
  t.true(meetsSilence(22, OWN_6, host), "from a service's prefix");
  t.notRegex(pinged("2001:db8:98::5"), /From|from/, "to a service's prefix");
  t.true(meetsSilence(22, "2001:db8:99::7", peer), "an address of the router alone");
  t.is(seen(), before, "the kernel has not seen it");
  run(guarded, "nft", "delete", "table", "ip6", "seen");
  // Of a host in the prefix of a service the kernel still hears who its neighbors are.
  run(guarded, "ip", "-6", "neigh", "flush", "dev", "va");
  run(guarded, "ping", "-c", "1", "-W", `${ANSWER_S}`, peer);
  forget();
  t.throws(() => run(outside, "ping", "-c", "1", "-W", "1", "-I", host, OWN_6));
  t.regex(run(outside, "ip", "-6", "neigh", "show", OWN_6, "dev", "vb"), /lladdr/, "it was found");
  t.is(guard(`removeGuard(["va"])`), "");
  run(guarded, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=0");
});

liveTest("A start replaces what a crash left behind, and its chain stays one", (t) => {
  t.is(guard(`installGuard(${JSON.stringify(LIVE("arp, icmp"))})`), "");
  t.true(answersPing());
  t.is(guard(`installGuard(${JSON.stringify(LIVE("arp"))})`), "");
  t.true(hidesFromPing(), "the old icmp rule is gone");
  t.is(run(guarded, "nft", "list", "ruleset").match(/chain /g)?.length, 1);
  t.is(guard(`removeGuard(["va"])`), "");
});

liveTest("A script that nft refuses changes nothing", (t) => {
  t.is(guard(`installGuard(${JSON.stringify(LIVE("arp, icmp"))})`), "");
  const before = run(guarded, "nft", "-s", "list", "ruleset");
  t.regex(
    guard(`installGuard(${JSON.stringify(`${LIVE("arp")}add rule netdev waymark nowhere drop\n`)})`),
    /^GuardError: nft refused the guard: /,
  );
  t.is(run(guarded, "nft", "-s", "list", "ruleset"), before);
  t.is(guard(`removeGuard(["va"])`), "");
});

liveTest(
  "An nft that cannot say what is there, from the start or once the guard is in, leaves no guard behind",
  (t) => {
    const directory = mkdtempSync(join(tmpdir(), "waymark-nft-"));
    const was = join(directory, "was");
    // It has no JSON, as some are built: from its first call on, or from where a script was taken.
    for (const condition of ["true", `[ -e ${was} ]`]) {
      const words = `#!/bin/sh\n[ "$1" = -j ] && ${condition} && { echo "Error: JSON support not compiled-in" >&2; exit 1; }\n`;
      writeFileSync(join(directory, "nft"), `${words}[ "$1" = -f ] && touch ${was}\nPATH=${env.PATH} exec nft "$@"\n`, {
        mode: 0o755,
      });
      rmSync(was, { force: true });
      const said = guard(`installGuard(${JSON.stringify(LIVE("arp"))})`, "env", `PATH=${directory}:${env.PATH}`);
      t.regex(said, /^GuardError: nft refused the guard: .*JSON/);
      t.is(existsSync(was), condition !== "true");
      t.notRegex(run(guarded, "nft", "list", "ruleset"), /chain/);
    }
    rmSync(directory, { recursive: true });
    t.is(guard(`installGuard(${JSON.stringify(LIVE("arp"))})`), "");
    t.is(guard(`removeGuard(["va"])`), "");
  },
);

liveTest("Another router's chain keeps the table", (t) => {
  run(guarded, "ip", "link", "add", "vc", "type", "veth", "peer", "name", "vd");
  const other = buildGuard(config("interfaces: [{ name: x, device: vc, addresses: [10.97.0.1/24] }]"));
  t.is(guard(`installGuard(${JSON.stringify(LIVE("arp"))})`), "");
  t.is(guard(`installGuard(${JSON.stringify(other)})`), "");
  t.is(guard(`removeGuard(["va"])`), "");
  const left = run(guarded, "nft", "list", "ruleset");
  t.regex(left, /chain guard-vc/);
  t.notRegex(left, /chain guard-va/);
  t.is(guard(`removeGuard(["vc"])`), "");
  t.is(run(guarded, "nft", "list", "ruleset"), "");
});

liveTest("The kernel takes a guard of every form", (t) => {
  run(guarded, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1");
  t.is(guard(`installGuard(${JSON.stringify(buildGuard(config(SHARED)))})`), "");
  const everything = SHARED.replace("10.2.7.0/24", "0.0.0.0/0");
  t.is(guard(`installGuard(${JSON.stringify(buildGuard(config(everything)))})`), "");
  for (const text of [SHARED_6, SHARED_6.replace('"2001:db8:2::5"', '"::/0"')])
    t.is(guard(`installGuard(${JSON.stringify(buildGuard(config(text)))})`), "");
  t.is(guard(`removeGuard(["eth0", "eth1"])`), "");
});

liveTest("Without the right to change nftables the error says so", (t) => {
  const nobody = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
  ];
  const message = "GuardError: no permission to change nftables: run as root (CAP_NET_ADMIN), or start with --no-guard";
  t.is(guard(`installGuard(${JSON.stringify(LIVE("arp"))})`, ...nobody), message);
});
