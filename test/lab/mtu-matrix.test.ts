// Links of unlike MTUs in the shape of the kernel's nft_flowtable self-test: the client's network, what is between the routers, the
// server's network; 2 MiB each way over TCP at once, byte for byte, IPv4 and IPv6 over either, with path MTU discovery on the hosts
// and without it, with offloads and without them, in clear and encrypted, over one hop and over three. DSCP arrives as it was sent.
//
// 16 cases of 4096: every two levels of two factors meet in one of them.

import { once } from "node:events";
import test, { type ExecutionContext } from "ava";
import type { CountersAnswer } from "../../lib/control/show.ts";
import { type Family, type Lab, openLab, outcome } from "./lab.ts";
import { labTest } from "./lab-test.ts";
import { ATTEMPTS, shown } from "./watched.ts";

interface Case {
  /** Of the hosts' addresses, and of those between routers. */
  readonly families: "IPv4 over IPv4" | "IPv6 over IPv6" | "IPv4 over IPv6" | "IPv6 over IPv4";
  readonly hops: 1 | 3;
  readonly encrypted: boolean;
  /** Bytes: of the client's network, of the link between routers, of the server's network. */
  readonly client: number;
  readonly between: number;
  readonly server: number;
  /** Path MTU discovery on the hosts. Hosts with IPv6 have it always: without it they do not hear what they are told. */
  readonly discovery: boolean;
  readonly offloads: boolean;
}

const MTUS = [9000, 1500, 2000, 1280];
const FAMILIES: readonly Case["families"][] = ["IPv4 over IPv4", "IPv6 over IPv6", "IPv4 over IPv6", "IPv6 over IPv4"];
const PORT = 9100;
const BYTES = 2 << 20;
/** DSCP of what the client sends and of what the server sends, set by their firewalls: some of what a kernel answers has no socket's mark. */
const MARKS = { client: 34, server: 26 } as const;
/** That a packet is too long is told to its sender, which is how path MTU discovery works. */
const HARMLESS = ["drop.exceeds-mtu"];
/** What is signed and seconds old: of a machine that stood still. */
const LATE = "drop.clock-skew";

/** The product of two elements of the field with four elements, as polynomials over bits modulo x^2 + x + 1. */
function times(a: number, b: number): number {
  const product = (b & 1 ? a : 0) ^ (b & 2 ? a << 1 : 0);
  return product & 4 ? product ^ 7 : product;
}

/** A bit for each family and number of hops, so that few labs are built: one of 8 ways in which it meets all other factors. */
const ENCRYPTED = 0b01010110;

/**
 * Columns i, j, i + j, i + 2j and i + 3j in that field: in any two of them each pair stands once (an orthogonal array of strength
 * 2). The last makes three factors of two levels.
 */
const CASES: readonly Case[] = Array.from({ length: 16 }, (_, n) => {
  const [i, j] = [n >> 2, n & 3];
  const column = (k: number) => i ^ times(k, j);
  const [one, other] = [column(3) & 1, column(3) >> 1];
  return {
    families: FAMILIES[i],
    client: MTUS[j],
    between: MTUS[column(1)],
    server: MTUS[column(2)],
    hops: one === 0 ? 1 : 3,
    discovery: other === 0,
    offloads: one === other,
    encrypted: ((ENCRYPTED >> (2 * i + one)) & 1) === 1,
  };
});

/** Both sides of a transfer, and what arrived at each. Arguments: "server" or "client", and the server's address. */
const TRANSFER = `
import hashlib, os, socket, sys, threading
side, address = sys.argv[1:]
if side == "server":
    s = socket.create_server((address, ${PORT}), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    s.settimeout(60)
    print("ready", flush=True)
    c, _ = s.accept()
else:
    c = socket.create_connection((address, ${PORT}), 60)
c.settimeout(60)
data = os.urandom(${BYTES})
def send():
    c.sendall(data)
    c.shutdown(socket.SHUT_WR)
sender = threading.Thread(target=send)
sender.start()
got = b""
while True:
    piece = c.recv(1 << 16)
    if not piece: break
    got += piece
sender.join()
print(hashlib.sha256(data).hexdigest(), hashlib.sha256(got).hexdigest(), len(got))
`;

/** Mark at a host everything of the transfer that leaves, and count what comes with the other's mark, and what comes without it. */
const marking = (ip: "ip" | "ip6", own: number, from: string, mark: number) => `table inet dscp {
  counter marked {}
  counter others {}
  chain output {
    type filter hook output priority mangle
    ${ip} daddr ${from} tcp sport ${PORT} ${ip} dscp set ${own}
    ${ip} daddr ${from} tcp dport ${PORT} ${ip} dscp set ${own}
  }
  chain input {
    type filter hook input priority 0
    ${ip} saddr ${from} tcp sport ${PORT} jump count
    ${ip} saddr ${from} tcp dport ${PORT} jump count
  }
  chain count {
    ${ip} dscp ${mark} counter name marked accept
    counter name others
  }
}`;

/** A host does not hear that packets were too big. */
const DEAF =
  "nft 'table ip6 deaf { chain input { type filter hook input priority 0; icmpv6 type packet-too-big drop; }; }'";

async function script(lab: Lab, node: string, ...lines: string[]): Promise<void> {
  const { code, stderr } = await lab.run(node, "sh", "-ec", lines.join("\n"));
  if (code !== 0) throw new Error(`${node}: ${stderr}`);
}

/** Give every device the MTU and the offloads of the case. */
async function prepare(lab: Lab, { client, between, server, discovery, offloads }: Case): Promise<void> {
  // Of three hops the first is as wide as the client's network, the last as the server's.
  const wires = lab.wires.length === 1 ? [between] : [client, between, server];
  const setMtu = (device: string, mtu: number) => `ip link set ${device} mtu ${mtu}`;
  const word = offloads ? "on" : "off";
  const setOffloads = (device: string) =>
    `ethtool -K ${device} tx ${word} tso ${word} gso ${word} gro ${word} >/dev/null`;
  const hosts = { client, server };
  for (const [host, mtu] of Object.entries(hosts)) {
    await script(
      lab,
      host,
      setMtu("eth0", mtu),
      setOffloads("eth0"),
      `echo ${discovery ? 0 : 1} > /proc/sys/net/ipv4/ip_no_pmtu_disc`,
      "nft delete table ip6 deaf 2>/dev/null || true",
      ...(discovery ? [] : [DEAF]),
      "ip route flush cache; ip -6 route flush cache",
      "ip tcp_metrics flush",
    );
  }
  for (const [n, wire] of lab.wires.entries())
    await script(lab, wire.name, ...["left", "right"].map((end) => setMtu(end, wires[n])));
  const last = lab.routers.length - 1;
  for (const [at, { name }] of lab.routers.entries()) {
    const ends = [...(at > 0 ? [wires[at - 1]] : []), ...(at < last ? [wires[at]] : [])];
    const devices: [string, number][] = ends.map((mtu, n) => [`wan${n}`, mtu]);
    if (at === 0) devices.push(["lan0", client]);
    if (at === last) devices.push(["lan0", server]);
    await script(lab, name, ...devices.flatMap(([device, mtu]) => [setMtu(device, mtu), setOffloads(device)]));
  }
}

async function marksAt(lab: Lab, host: string): Promise<{ marked: number; others: number }> {
  const { stdout } = await lab.run(host, "nft", "-j", "list", "counters", "table", "inet", "dscp");
  const { nftables } = JSON.parse(stdout) as { nftables: { counter?: { name: string; packets: number } }[] };
  const packets = (name: string) => nftables.find(({ counter }) => counter?.name === name)!.counter!.packets;
  return { marked: packets("marked"), others: packets("others") };
}

/** One case on a lab whose routers do not run, again where the machine stood still. Returns a line of the table. */
async function carry(t: ExecutionContext, lab: Lab, one: Case, attempt = 1): Promise<string> {
  const title = `${one.families}, ${one.client} ${one.between} ${one.server}, discovery ${one.discovery}, offloads ${one.offloads}`;
  await prepare(lab, one);
  for (const [host, own, from, mark] of [
    ["server", MARKS.server, lab.client, MARKS.client],
    ["client", MARKS.client, lab.server, MARKS.server],
  ] as const)
    t.is((await lab.run(host, "nft", marking(lab.family === 4 ? "ip" : "ip6", own, from, mark))).code, 0);
  await lab.startRouters();
  const serving = lab.spawn("server", "python3", ["-c", TRANSFER, "server", lab.server]);
  const served = outcome(serving);
  await once(serving.stdout!, "data");
  const started = performance.now();
  const sent = await lab.run("client", "python3", "-c", TRANSFER, "client", lab.server);
  const got = await served;
  const ms = Math.round(performance.now() - started);
  const [up, down, bytes] = sent.stdout.trim().split(" ");
  const answer = got.stdout.trim().split(/\s+/);
  t.deepEqual(answer.slice(-3), [down, up, String(BYTES)], `${title}: ${sent.stderr}${got.stderr}`);
  t.is(bytes, String(BYTES), title);
  const marks = [];
  for (const host of ["client", "server"]) {
    const { marked, others } = await marksAt(lab, host);
    t.true(marked > 10, `${title}: ${marked} marked packets at the ${host}`);
    t.is(others, 0, `${title}: lost their mark on the way to the ${host}`);
    marks.push(marked);
    await lab.run(host, "nft", "delete", "table", "inet", "dscp");
  }
  const drops: string[] = [];
  for (const { name } of lab.routers) {
    const counters = await shown<CountersAnswer>(lab, name, "counters");
    for (const [counter, count] of Object.entries(counters))
      if (counter.startsWith("drop.") && count > 0) drops.push(`${name} ${counter} ${count}`);
  }
  const unexpected = drops.filter((drop) => !HARMLESS.includes(drop.split(" ")[1]));
  const isLate = unexpected.length > 0 && unexpected.every((drop) => drop.split(" ")[1] === LATE);
  const isAgain = isLate && attempt < ATTEMPTS;
  if (!isAgain) t.deepEqual(unexpected, [], title);
  await lab.stopRouters();
  if (isAgain) {
    t.log(`again: ${unexpected.join(", ")}`);
    return await carry(t, lab, one, attempt + 1);
  }
  return `${title}: ${ms} ms, ${marks.join(" and ")} packets marked; ${drops.join(", ") || "no drops"}`;
}

test("every two levels of two factors meet in a case", (t) => {
  const names = Object.keys(CASES[0]) as (keyof Case)[];
  const levels = (name: keyof Case) => [...new Set(CASES.map((one) => one[name]))];
  for (const one of names)
    for (const other of names.filter((name) => name > one))
      for (const a of levels(one))
        for (const b of levels(other))
          t.true(
            CASES.some((row) => row[one] === a && row[other] === b),
            `${one} ${a}, ${other} ${b}`,
          );
  t.deepEqual(names.map((name) => levels(name).length).sort(), [2, 2, 2, 2, 4, 4, 4, 4]);
});

for (const hops of [1, 3] as const) {
  for (const families of FAMILIES) {
    const cases = CASES.filter((one) => one.hops === hops && one.families === families);
    const [{ encrypted }] = cases;
    const title = `${hops === 1 ? "one hop" : "three hops"}, ${families}, ${encrypted ? "signed and encrypted" : "in clear"}`;
    labTest(`${title}: 2 MiB each way arrive over links of unlike MTUs, and so does DSCP`, async (t) => {
      t.timeout(300_000);
      const protection = { sign: "every-packet", adaptive: false } as const;
      const [hosts, between] = families.split(" over ").map((name) => Number(name.slice(3)) as Family);
      const lab = await openLab(hops === 1 ? "two-routers" : "four-routers", {
        hosts,
        wires: Array<Family>(hops).fill(between),
        ...(encrypted ? { protection } : {}),
      });
      try {
        if (encrypted) await lab.waymark("west", "keys", "generate", "--file", "keys");
        t.is(cases.length, 2);
        for (const one of cases) t.log(await carry(t, lab, one));
      } finally {
        await lab.close();
      }
    });
  }
}
