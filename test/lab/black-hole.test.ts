// Two kernel routers between ours, with a link between them that takes less than Ethernet does and routers that say nothing of it:
// what is too large vanishes.
//
//   client ── west ══ near ══ narrow link ══ beyond ══ east ── server

import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import type { ExecutionContext } from "ava";
import type { CountersAnswer } from "../../lib/control/show.ts";
import { type Lab, type LabOptions, openLab } from "./lab.ts";
import { labTest } from "./lab-test.ts";
import { bfdText, eventsOf, FAST, pathsOf, pathsUp, shortestPause, shown, type Timing, until } from "./watched.ts";

const NEAR = "wire1";
const BEYOND = "beyond";
/** As often as FAST; detection after 1 s, so that a busy machine is not taken for a path that is down. */
const PATIENT: Timing = { intervalMs: 50, multiplier: 20 };
/** Made by the routers themselves, so it leaves by their output. */
const SILENT = `table inet silent {
  chain out { type filter hook output priority 0; icmp type destination-unreachable icmp code 4 drop; icmpv6 type packet-too-big drop; }
}`;

const ip = (words: string) => execFileSync("ip", words.split(" "));

/** The link between the kernel's routers. */
function setLink(lab: Lab, mtu: number): void {
  ip(`-n ${lab.namespace(NEAR)} link set m0 mtu ${mtu}`);
  ip(`-n ${lab.namespace(BEYOND)} link set m1 mtu ${mtu}`);
}

/** A lab with the wire's bridge made two routers. */
async function opened(mtu: number, options: LabOptions, isSilent = true): Promise<Lab> {
  const lab = await openLab("two-routers", { extra: bfdText(FAST), ...options });
  const [near, beyond] = [NEAR, BEYOND].map((node) => lab.namespace(node));
  const [{ addresses, family }] = lab.wires;
  const isSix = family === 6;
  ip(`netns add ${beyond}`);
  ip(`-n ${near} link del bridge`);
  ip(`-n ${near} link set right netns ${beyond}`);
  ip(`-n ${near} link add m0 type veth peer name m1 netns ${beyond}`);
  // Between them link-local addresses do for IPv6; each answers on its router's side for the router at the other.
  const enable = isSix
    ? "for file in conf/*/disable_ipv6; do echo 0 > $file; done; echo 0 > conf/default/accept_dad"
    : "";
  const forward = isSix ? "echo 1 > conf/all/forwarding" : "echo 1 > ip_forward";
  const silence = isSilent ? [`nft -f - <<'END'\n${SILENT}\nEND`] : [];
  for (const [node, inner, outer, own, ours, theirs] of [
    [NEAR, "m0", "left", isSix ? "2001:db8:ff0::fd" : "198.18.0.253", addresses[0], addresses[1]],
    [BEYOND, "m1", "right", isSix ? "2001:db8:ff0::fe" : "198.18.0.254", addresses[1], addresses[0]],
  ]) {
    const between = (at: string) => `fd00::${at.slice(1)}`;
    const v = `ip -${family}`;
    const script = [
      `cd /proc/sys/net/ipv${family}`,
      enable,
      "ip link set lo up",
      `ip link set ${inner} up`,
      `ip link set ${outer} up`,
      `${v} address add ${own} dev ${outer}${isSix ? " nodad" : ""}`,
      `${v} route add ${ours} dev ${outer}`,
      ...(isSix
        ? [
            `${v} address add ${between(inner)}/64 dev ${inner} nodad`,
            `${v} route add ${theirs} via ${between(inner === "m0" ? "m1" : "m0")}`,
            `${v} neigh add proxy ${theirs} dev ${outer}`,
            `echo 1 > conf/${outer}/proxy_ndp`,
          ]
        : [
            `${v} route add ${theirs} dev ${inner}`,
            `echo 1 > conf/${outer}/proxy_arp`,
            `echo 1 > conf/${inner}/proxy_arp`,
          ]),
      forward,
      ...silence,
    ].join("\n");
    const { code, stderr } = await lab.run(node, "sh", "-ec", script);
    if (code !== 0) throw new Error(`${node}: ${stderr}`);
  }
  setLink(lab, mtu);
  if (options.protection !== undefined) await lab.waymark("west", "keys", "generate", "--file", "keys");
  await lab.startRouters();
  await pathsUp(lab);
  return lab;
}

/** Both routers say that the path takes so much, and that probes told so. */
async function known(lab: Lab, mtu: number): Promise<void> {
  await until(`probes have found ${mtu}`, async () => {
    const paths = await Promise.all(lab.routers.map(({ name }) => pathsOf(lab, name)));
    const isKnown = paths.flat().every(({ mtu: { bytes, source } }) => bytes === mtu && source === "probe");
    return isKnown ? undefined : JSON.stringify(paths.flat().map((path) => path.mtu));
  });
}

/** The client downloads so many pieces of 20,000 bytes, 50 a second. What was sent, what came, and the longest pause in it. */
async function download(lab: Lab, pieces: number): Promise<{ sent: string; got: string; stallMs: number }> {
  const serve = `import hashlib, os, socket, time
s = socket.create_server(("${lab.server}", 9002), family=socket.AF_INET${lab.family === 6 ? "6" : ""})
print("ready", flush=True)
c, _ = s.accept()
h = hashlib.sha256()
for n in range(${pieces}):
    data = os.urandom(20000)
    h.update(data)
    c.sendall(data)
    time.sleep(0.02)
c.close()
print(h.hexdigest(), flush=True)
`;
  const fetch = `import hashlib, socket, time
s = socket.create_connection(("${lab.server}", 9002), 60)
h, last, stall = hashlib.sha256(), time.monotonic(), 0
while True:
    data = s.recv(65536)
    now = time.monotonic()
    stall, last = max(stall, now - last), now
    if not data: break
    h.update(data)
print(h.hexdigest(), round(stall * 1000))
`;
  const server = lab.spawn("server", "python3", ["-c", serve], { stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  server.stdout!.setEncoding("utf8").on("data", (text: string) => (said += text));
  for (let n = 0; n < 3000 && !said.includes("ready"); n++) await sleep(20);
  const { stdout, stderr } = await lab.run("client", "python3", "-c", fetch);
  if (stderr !== "") throw new Error(stderr);
  for (let n = 0; n < 3000 && !/\w{64}/.test(said); n++) await sleep(20);
  const [got, stallMs] = stdout.trim().split(" ");
  return { sent: said.trim().split("\n").at(-1)!, got, stallMs: Number(stallMs) };
}

for (const [kind, options, put] of [
  ["in clear", {}, 0],
  ["signed and encrypted", { protection: { sign: "every-packet", adaptive: false } }, 48],
  ["of IPv6 over IPv6", { hosts: 6, wires: [6] }, 0],
  // The header is 20 bytes longer there.
  ["of IPv4 over IPv6", { wires: [6] }, 20],
] as const) {
  labTest(
    `packets ${kind}: what a path takes is found where nobody says it; downloads and tracepath fit it`,
    async (t) => {
      t.timeout(180_000);
      const lab = await opened(1387, options);
      try {
        await known(lab, 1387);
        const pause = await shortestPause(t, 1000, async () => {
          // A host must not know from the download before.
          for (const host of ["client", "server"])
            await lab.run(host, "sh", "-c", `ip -${lab.family} route flush cache; ip tcp_metrics flush`);
          const { sent, got, stallMs } = await download(lab, 100);
          t.is(got, sent);
          return stallMs;
        });
        t.true(pause < 1000);
        const path = await lab.run("client", "tracepath", `-${lab.family}`, "-n", lab.server);
        t.regex(path.stdout, new RegExp(`Resume: pmtu ${1387 - put} `), path.stdout);
      } finally {
        await lab.close();
      }
    },
  );
}

labTest(
  "a link becomes narrower in the midst of a download, and nobody says so: it goes on within seconds",
  async (t) => {
    t.timeout(240_000);
    // A path may be down, or nothing get through, for want of a processor, and then not each time.
    // Found within 5 s; then the sender's own timer, which has doubled meanwhile.
    let seen = await narrowedInSilence(t);
    for (let n = 1; n < 3 && (seen.downs > 0 || seen.stallMs >= 12_000); n++) seen = await narrowedInSilence(t);
    t.is(seen.downs, 0);
    t.true(seen.stallMs < 12_000, `longest pause ${seen.stallMs} ms`);
  },
);

/** The link becomes narrower under a download: how often a path went down meanwhile, and the longest pause. */
async function narrowedInSilence(t: ExecutionContext): Promise<{ downs: number; stallMs: number }> {
  const lab = await opened(1500, { extra: bfdText(PATIENT) });
  try {
    await known(lab, 1500);
    const downloading = download(lab, 600);
    await sleep(2000);
    setLink(lab, 1387);
    const { sent, got, stallMs } = await downloading;
    t.is(got, sent);
    await known(lab, 1387);
    const seen = await Promise.all(lab.routers.map(({ name }) => eventsOf(lab, name)));
    const downs = seen.flat().filter(({ kind }) => kind === "path-down").length;
    t.log(`longest pause ${stallMs} ms, ${downs} times a path down`);
    // A path that comes up again is looked at anew.
    for (const events of downs === 0 ? seen : [])
      t.deepEqual(
        events.filter(({ kind }) => kind === "path-mtu").map(({ why }) => why),
        ["packets of up to 1387 bytes, as probes found"],
      );
    return { downs, stallMs };
  } finally {
    await lab.close();
  }
}

for (const [over, options] of [
  ["", {}],
  [" (IPv6)", { hosts: 6, wires: [6] }],
] as const) {
  labTest(`the same where it is said: at once, and probes agree${over}`, async (t) => {
    t.timeout(240_000);
    const pause = await shortestPause(t, 2000, async () => {
      const lab = await opened(1500, options, false);
      try {
        await known(lab, 1500);
        const downloading = download(lab, 300);
        await sleep(1000);
        setLink(lab, 1387);
        const { sent, got, stallMs } = await downloading;
        t.is(got, sent);
        await known(lab, 1387);
        for (const { name } of lab.routers) {
          const counters = await shown<CountersAnswer>(lab, name, "counters");
          t.is(counters["drop.icmp-error"], 0);
        }
        const [latest] = (await eventsOf(lab, "east")).filter(({ kind }) => kind === "path-mtu");
        t.regex(latest.why, /1387 bytes/);
        return stallMs;
      } finally {
        await lab.close();
      }
    });
    t.true(pause < 2000);
  });
}
