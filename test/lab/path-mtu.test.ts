// ICMP, sizes and fragments with the tools that an operator has: ping, traceroute, mtr, tracepath, and hosts' own TCP.

import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import type { ExecutionContext } from "ava";
import type { CountersAnswer } from "../../lib/control/show.ts";
import { type Lab, type LabOptions, openLab, SERVER, type Shape } from "./lab.ts";
import { labTest } from "./lab-test.ts";
import { shown } from "./watched.ts";

const ENCRYPTED: LabOptions = { protection: { sign: "every-packet", adaptive: false } };
const NETS: [string, Shape, LabOptions, string[]][] = [
  ["two routers", "two-routers", {}, ["10.1.0.1", "198.18.0.2"]],
  ["three routers", "three-routers", {}, ["10.1.0.1", "198.18.0.2", "198.18.1.2"]],
  ["two routers, signed and encrypted", "two-routers", ENCRYPTED, ["10.1.0.1", "198.18.0.2"]],
];

async function opened(shape: Shape, options: LabOptions): Promise<Lab> {
  const lab = await openLab(shape, options);
  if (options.protection !== undefined) await lab.waymark("west", "keys", "generate", "--file", "keys");
  await lab.startRouters();
  return lab;
}

/** Answers what comes to UDP port 9000 with its digest and itself. */
const ECHO = `import hashlib, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
s.bind(("0.0.0.0", 9000))
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
for size in map(int, sys.argv[1:]):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    s.settimeout(3)
    s.connect(("${SERVER}", 9000))
    print(size, "right" if ask(s, size) and ask(s, size) else "wrong")
`;
const PINGS = [0, 1, 17, 1471, 1472, 1473, 4000, 9000, 30_000, 65_000, 65_499, 65_500, 65_506, 65_507];
const DATAGRAMS = [1, 1400, 1472, 1473, 8000, 65_000, 65_250, 65_300, 65_400, 65_427, 65_428, 65_500, 65_506, 65_507];

async function sizes(t: ExecutionContext, lab: Lab): Promise<void> {
  for (const size of PINGS) {
    const ping = await lab.run("client", "ping", "-c", "3", "-i", "0.1", "-W", "3", "-s", `${size}`, SERVER);
    // Of what does not fit as it is ping is told once: it counts that as an answer.
    t.regex(ping.stdout, / [23] received.* 0% packet loss/, `${size}: ${ping.stdout}${ping.stderr}`);
  }
  lab.spawn("server", "python3", ["-c", ECHO], { stdio: "ignore" });
  await sleep(500);
  const asked = await lab.run("client", "python3", "-c", ASK, ...DATAGRAMS.map(String));
  t.deepEqual(
    asked.stdout.trim().split("\n"),
    DATAGRAMS.map((size) => `${size} right`),
  );
}

for (const [name, shape, options, hops] of NETS) {
  labTest(
    `${name}: pings and datagrams of every size come back, and traceroute, mtr and tracepath show the way`,
    async (t) => {
      t.timeout(180_000);
      const lab = await opened(shape, options);
      try {
        await sizes(t, lab);
        const wanted = [...hops, SERVER];
        for (const method of [[], ["-I"], ["-T", "-p", "7000"]]) {
          const { stdout, stderr } = await lab.run(
            "client",
            "traceroute",
            "-n",
            "-q",
            "2",
            "-w",
            "2",
            ...method,
            SERVER,
          );
          const lines = stdout.trim().split("\n").slice(1);
          t.deepEqual(
            lines.map((line) => line.trim().split(/\s+/)[1]),
            wanted,
            `${method.join(" ")}: ${stdout}${stderr}`,
          );
        }
        const mtr = await lab.run("client", "mtr", "-n", "-r", "-c", "3", "-i", "0.3", "--json", SERVER);
        const { report } = JSON.parse(mtr.stdout) as { report: { hubs: { host: string; "Loss%": number }[] } };
        t.deepEqual(
          report.hubs.map(({ host }) => host),
          wanted,
        );
        t.true(report.hubs.every((hub) => hub["Loss%"] === 0));
        // What pings were told is forgotten.
        await lab.run("client", "ip", "route", "flush", "cache");
        const path = await lab.run("client", "tracepath", "-n", SERVER);
        const growth = options.protection === undefined ? 0 : 48;
        t.regex(path.stdout, new RegExp(`Resume: pmtu ${1500 - growth} `), path.stdout);
      } finally {
        await lab.close();
      }
    },
  );
}

/** A host behind the server. */
const INNER = "10.2.0.77";

/** Bytes that a host sends to another through a TCP connection, and what arrives of them. */
async function transfer(
  lab: Lab,
  during: () => Promise<void>,
): Promise<{ sent: string; got: string; stallMs: number }> {
  const program = `import hashlib, socket, sys, time
s = socket.create_server(("0.0.0.0", 9001))
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
    for (let n = 0; n < 500 && !word.test(said); n++) await sleep(20);
  };
  await hears(/ready/);
  // Paced, so that something happens in its midst.
  const send = `import hashlib, os, socket, time
s = socket.create_connection(("${INNER}", 9001), 5)
h = hashlib.sha256()
for n in range(150):
    data = os.urandom(20000)
    h.update(data)
    s.sendall(data)
    time.sleep(0.02)
s.close()
print(h.hexdigest())
`;
  const sending = lab.run("client", "python3", "-c", send);
  await hears(/begun/);
  await sleep(800);
  await during();
  const { stdout, stderr } = await sending;
  if (stderr !== "") throw new Error(stderr);
  await hears(/\n\w{64} \d+/);
  const [got, stallMs] = said.trim().split("\n").at(-1)!.split(" ");
  return { sent: stdout.trim(), got, stallMs: Number(stallMs) };
}

labTest(
  "a link behind the server becomes narrower in the midst of a transfer: TCP goes on within a second",
  async (t) => {
    t.timeout(60_000);
    const lab = await openLab("two-routers");
    try {
      await lab.startRouters();
      // The server forwards to a host of its own, as any router does, and says what does not fit.
      const [server, inner] = ["server", "inner"].map((node) => lab.namespace(node));
      const ip = (words: string) => execFileSync("ip", words.split(" "));
      ip(`netns add ${inner}`);
      ip(`-n ${server} link add s0 type veth peer name i0 netns ${inner}`);
      for (const words of ["link set s0 up", `route add ${INNER} dev s0`]) ip(`-n ${server} ${words}`);
      for (const words of [
        "link set lo up",
        `address add ${INNER}/32 dev i0`,
        "link set i0 up",
        "route add default dev i0",
      ])
        ip(`-n ${inner} ${words}`);
      const proxy = ["eth0", "s0"].map((device) => `echo 1 > /proc/sys/net/ipv4/conf/${device}/proxy_arp`);
      await lab.run("server", "sh", "-ec", ["echo 1 > /proc/sys/net/ipv4/ip_forward", ...proxy].join("; "));
      const { sent, got, stallMs } = await transfer(lab, async () => {
        ip(`-n ${server} link set s0 mtu 1200`);
      });
      t.is(got, sent);
      t.log(`longest pause ${stallMs} ms`);
      t.true(stallMs < 1000);
      const counters = await shown<CountersAnswer>(lab, "west", "counters");
      t.true(counters["icmp.errors-passed"] > 0);
    } finally {
      await lab.close();
    }
  },
);

labTest("a port that nobody listens on is told to the client, through the routers", async (t) => {
  const lab = await openLab("two-routers");
  try {
    await lab.startRouters();
    const ask = `import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(3)
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
