// ICMP, sizes and fragments with the tools that an operator has: ping, traceroute, mtr, tracepath, and hosts' own TCP.

import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { ExecutionContext } from "ava";
import type { CountersAnswer } from "../../lib/control/show.ts";
import { type Lab, type LabOptions, openLab, outcome, SERVER, type Shape } from "./lab.ts";
import { labTest } from "./lab-test.ts";
import { shortestPause, shown } from "./watched.ts";
import { ping } from "./workload.ts";

const ENCRYPTED: LabOptions = { protection: { sign: "every-packet", adaptive: false } };
const NETS: [string, Shape, LabOptions, string[]][] = [
  ["two routers", "two-routers", {}, ["10.1.0.1", "198.18.0.2"]],
  ["three routers", "three-routers", {}, ["10.1.0.1", "198.18.0.2", "198.18.1.2"]],
  ["two routers, signed and encrypted", "two-routers", ENCRYPTED, ["10.1.0.1", "198.18.0.2"]],
  [
    "two routers, IPv6, signed and encrypted",
    "two-routers",
    { ...ENCRYPTED, hosts: 6, wires: [6] },
    ["2001:db8:1::1", "2001:db8:ff0::2"],
  ],
  [
    "three routers, IPv6 over IPv4 and IPv6",
    "three-routers",
    { hosts: 6, wires: [4, 6] },
    // A device that has only an address of IPv4 is shown so to a host with IPv6 (RFC 6052).
    ["2001:db8:1::1", "64:ff9b::c612:2", "2001:db8:ff1::2"],
  ],
  [
    "three routers, signed and encrypted, IPv6 over IPv6 and IPv4",
    "three-routers",
    { ...ENCRYPTED, hosts: 6, wires: [6, 4] },
    ["2001:db8:1::1", "2001:db8:ff0::2", "64:ff9b::c612:102"],
  ],
  // A device that has none of IPv4 is shown to a host as the router next to it (RFC 6791).
  ["two routers, IPv4 over IPv6", "two-routers", { wires: [6] }, ["10.1.0.1", "10.1.0.1"]],
];

async function opened(shape: Shape, options: LabOptions): Promise<Lab> {
  const lab = await openLab(shape, options);
  if (options.protection !== undefined) await lab.waymark("west", "keys", "generate", "--file", "keys");
  await lab.startRouters();
  return lab;
}

/** Answers what comes to UDP port 9000 with its digest and itself. */
const ECHO = `import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
s.bind(("::", 9000))
print("ready", flush=True)
while True:
    data, peer = s.recvfrom(65535)
    s.sendto(data, peer)
`;
/** Each size is what a socket of its own says first, in a session's first packet, and then once more. */
const ASK = `import os, socket, sys
def ask(s, size):
    data = os.urandom(size)
    for attempt in range(3):
        s.send(data)
        try:
            answer = s.recv(65535)
        except (TimeoutError, OSError) as error:
            print(size, "attempt", attempt, error)
            continue
        return answer == data
address = sys.argv[1]
for size in map(int, sys.argv[2:]):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    s.settimeout(20)
    s.connect((address, 9000))
    print(size, "right" if ask(s, size) and ask(s, size) else "wrong")
`;
const PINGS = [0, 1, 17, 1471, 1472, 1473, 4000, 9000, 30_000, 65_000, 65_499, 65_500, 65_506, 65_507];
const DATAGRAMS = [1, 1400, 1472, 1473, 8000, 65_000, 65_250, 65_300, 65_400, 65_427, 65_428, 65_500, 65_506, 65_507];

async function sizes(t: ExecutionContext, lab: Lab): Promise<void> {
  for (const size of PINGS) {
    // Half a second between them, so that one is answered before the next is sent unless the machine is slower than that. Of
    // what does not fit as it is ping is told: over IPv4 it is answered too, over IPv6 each router where it grows tells of it,
    // and of the next one if that is on its way by then.
    t.is(await ping(lab, 3, ["-i", "0.5", "-s", `${size}`], lab.family === 4 ? 0 : 4), undefined, `${size}`);
  }
  const echo = lab.spawn("server", "python3", ["-c", ECHO], { stdio: ["ignore", "pipe", "inherit"] });
  await once(echo.stdout!, "data");
  const asked = await lab.run("client", "python3", "-c", ASK, lab.server, ...DATAGRAMS.map(String));
  t.deepEqual(
    asked.stdout.trim().split("\n"),
    DATAGRAMS.map((size) => `${size} right`),
  );
}

for (const [name, shape, options, hops] of NETS) {
  labTest(
    `${name}: pings and datagrams of every size come back, and traceroute, mtr and tracepath show the way`,
    async (t) => {
      t.timeout(240_000);
      const lab = await opened(shape, options);
      try {
        await sizes(t, lab);
        const family = `-${lab.family}`;
        const wanted = [...hops, lab.server];
        for (const method of [[], ["-I"], ["-T", "-p", "7000"]]) {
          const { stdout, stderr } = await lab.run(
            "client",
            "traceroute",
            family,
            "-n",
            "-q",
            "2",
            "-w",
            "20,0,0",
            ...method,
            lab.server,
          );
          const lines = stdout.trim().split("\n").slice(1);
          t.deepEqual(
            lines.map((line) => line.trim().split(/\s+/)[1]),
            wanted,
            `${method.join(" ")}: ${stdout}${stderr}`,
          );
        }
        const mtr = await lab.run("client", "mtr", family, "-n", "-r", "-c", "3", "-i", "0.3", "--json", lab.server);
        const { report } = JSON.parse(mtr.stdout) as { report: { hubs: { host: string; "Loss%": number }[] } };
        t.deepEqual(
          report.hubs.map(({ host }) => host),
          wanted,
        );
        t.true(report.hubs.every((hub) => hub["Loss%"] === 0));
        // What pings were told is forgotten.
        await lab.run("client", "ip", family, "route", "flush", "cache");
        const path = await lab.run("client", "tracepath", family, "-n", lab.server);
        // Where an IPv4 packet travels over IPv6, its header is longer there.
        const longer = lab.family === 4 && options.wires?.includes(6) === true ? 20 : 0;
        const growth = longer + (options.protection === undefined ? 0 : 48);
        t.regex(path.stdout, new RegExp(`Resume: pmtu ${1500 - growth} `), path.stdout);
      } finally {
        await lab.close();
      }
    },
  );
}

/** A host behind the server, and a narrow link to it: IPv6 has none below 1280 bytes. */
const INNER = { 4: { address: "10.2.0.77", mtu: 1200 }, 6: { address: "2001:db8:2::77", mtu: 1300 } } as const;

/** Bytes that a host sends to another through a TCP connection, and what arrives of them. */
async function transfer(
  lab: Lab,
  during: () => Promise<void>,
): Promise<{ sent: string; got: string; stallMs: number }> {
  const program = `import hashlib, socket, sys, time
s = socket.create_server(("${INNER[lab.family].address}", 9001), family=socket.AF_INET${lab.family === 6 ? "6" : ""})
print("ready", flush=True)
c, _ = s.accept()
print("begun", flush=True)
h, last, stall = hashlib.sha256(), time.monotonic(), 0
while True:
    data = c.recv(65536)
    now = time.monotonic()
    stall, last = max(stall, now - last), now
    if not data: break
    h.update(data)
print(h.hexdigest(), round(stall * 1000))
`;
  const server = lab.spawn("inner", "python3", ["-c", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let said = "";
  server.stdout!.setEncoding("utf8").on("data", (text: string) => (said += text));
  const hears = async (word: RegExp) => {
    for (let n = 0; n < 3000 && !word.test(said); n++) await sleep(20);
  };
  await hears(/ready/);
  // Paced, and a hundred pieces more when standard input has ended, so that something happens in its midst.
  const send = `import hashlib, os, select, socket, sys, time
s = socket.create_connection(("${INNER[lab.family].address}", 9001), 60)
h = hashlib.sha256()
left = 100
while left > 0:
    data = os.urandom(20000)
    h.update(data)
    s.sendall(data)
    time.sleep(0.02)
    if select.select([sys.stdin], [], [], 0)[0]: left -= 1
s.close()
print(h.hexdigest())
`;
  const sender = lab.spawn("client", "python3", ["-c", send], { stdio: ["pipe", "pipe", "pipe"] });
  const sending = outcome(sender);
  await hears(/begun/);
  await sleep(800);
  await during();
  sender.stdin!.end();
  const { stdout, stderr } = await sending;
  if (stderr !== "") throw new Error(stderr);
  await hears(/\n\w{64} \d+/);
  const [got, stallMs] = said.trim().split("\n").at(-1)!.split(" ");
  return { sent: stdout.trim(), got, stallMs: Number(stallMs) };
}

/** The server forwards to a host of its own, as any router does, and says what does not fit. */
async function addInner(lab: Lab): Promise<void> {
  const [server, inner] = ["server", "inner"].map((node) => lab.namespace(node));
  const { address } = INNER[lab.family];
  const v = `-${lab.family}`;
  const ip = (words: string) => execFileSync("ip", words.split(" "));
  ip(`netns add ${inner}`);
  ip(`-n ${server} link add s0 type veth peer name i0 netns ${inner}`);
  ip(`-n ${server} link set s0 up`);
  ip(`${v} -n ${server} route add ${address} dev s0`);
  ip(`-n ${inner} link set lo up`);
  ip(`-n ${inner} link set i0 up`);
  ip(`${v} -n ${inner} address add ${address} dev i0${lab.family === 6 ? " nodad" : ""}`);
  if (lab.family === 4) ip(`-n ${inner} route add default dev i0`);
  else {
    ip(`-6 -n ${server} address add 2001:db8:77::1/64 dev s0 nodad`);
    ip(`-6 -n ${inner} address add 2001:db8:77::2/64 dev i0 nodad`);
    ip(`-6 -n ${inner} route add default via 2001:db8:77::1 src ${address}`);
    ip(`-6 -n ${server} neigh add proxy ${address} dev eth0`);
  }
  const script =
    lab.family === 4
      ? "echo 1 > ip_forward; echo 1 > conf/eth0/proxy_arp; echo 1 > conf/s0/proxy_arp"
      : "echo 1 > conf/all/forwarding; echo 1 > conf/eth0/proxy_ndp";
  const { code, stderr } = await lab.run("server", "sh", "-ec", `cd /proc/sys/net/ipv${lab.family}; ${script}`);
  if (code !== 0) throw new Error(stderr);
}

for (const [title, options] of [
  ["", {}],
  [" (IPv6)", { hosts: 6, wires: [6] }],
] as const) {
  labTest(
    `a link behind the server becomes narrower in the midst of a transfer: TCP goes on within a second${title}`,
    async (t) => {
      t.timeout(180_000);
      const pause = await shortestPause(t, 1000, async () => {
        const lab = await openLab("two-routers", options);
        try {
          await lab.startRouters();
          await addInner(lab);
          const { sent, got, stallMs } = await transfer(lab, async () => {
            const { mtu } = INNER[lab.family];
            execFileSync("ip", ["-n", lab.namespace("server"), "link", "set", "s0", "mtu", `${mtu}`]);
          });
          t.is(got, sent);
          const counters = await shown<CountersAnswer>(lab, "west", "counters");
          t.true(counters["icmp.errors-passed"] > 0);
          return stallMs;
        } finally {
          await lab.close();
        }
      });
      t.true(pause < 1000);
    },
  );
}

labTest("a port that nobody listens on is told to the client, through the routers", async (t) => {
  const lab = await openLab("two-routers");
  try {
    await lab.startRouters();
    const ask = `import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(20)
s.connect(("${SERVER}", 9))
s.send(b"x")
try:
    s.recv(10)
except OSError as error:
    print(type(error).__name__)
`;
    const { stdout } = await lab.run("client", "python3", "-c", ask);
    t.is(stdout.trim(), "ConnectionRefusedError");
    const counters = await shown<CountersAnswer>(lab, "west", "counters");
    t.is(counters["icmp.errors-passed"], 1);
  } finally {
    await lab.close();
  }
});
