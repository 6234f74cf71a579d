// What interfaces with IPv6 can have, under real kernels: backend af-packet, where super-frames cross whole; devices that
// the kernel has too; cards that filter groups; hosts that take what a router advertises.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import type { CountersAnswer } from "../../lib/control/show.ts";
import { CLIENT_6, must, openIpv6Net, SERVER_6, WIRE_6 } from "./ipv6-net.ts";
import { type Lab, SERVER } from "./lab.ts";
import { labTest } from "./lab-test.ts";
import { shown, until } from "./watched.ts";
import { FILE_BYTES, offerFile, UDP_SEGMENTS } from "./workload.ts";

/** A server that gives each datagram back. */
const UDP_SERVER = `
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("::", 7005))
print("ready", flush=True)
while True:
    data, who = s.recvfrom(65536)
    s.sendto(data, who)
`;

async function downloads(t: ExecutionContext, lab: Lab, server: string, sha256: string): Promise<void> {
  const host = server.includes(":") ? `[${server}]` : server;
  const got = join(lab.directory, "got.bin");
  const curl = await lab.run("client", "curl", "-sS", "-m", "60", "-o", got, `http://${host}:8080/file.bin`);
  t.is(curl.code, 0, curl.stderr);
  t.is(createHash("sha256").update(readFileSync(got)).digest("hex"), sha256);
}

async function echoesDatagrams(t: ExecutionContext, lab: Lab): Promise<void> {
  const server = lab.spawn("server", "/usr/bin/python3", ["-c", UDP_SERVER]);
  await new Promise((resolve) => server.stdout!.once("data", resolve));
  const talk = await lab.run("client", "/usr/bin/python3", "-c", UDP_SEGMENTS, SERVER_6, "7005");
  t.is(talk.stdout, "echoed\n", talk.stderr);
  server.kill();
}

const counters = (lab: Lab, at: number) => shown<CountersAnswer>(lab, lab.routers[at].name, "counters");

const both = { lan: "af-packet", wan: "af-packet" } as const;

labTest("af-packet, IPv6 on LAN and wire: hosts' super-frames of TCP and UDP cross whole", async (t) => {
  const lab = await openIpv6Net({ backends: { west: both, east: both } });
  try {
    const sha256 = await offerFile(lab);
    await lab.startRouters();
    // Of an IPv4 host over the IPv6 wire, too.
    for (const [server, lan] of [
      [SERVER_6, "lan0-6"],
      [SERVER, "lan0"],
    ]) {
      const before = await Promise.all([counters(lab, 0), counters(lab, 1)]);
      await downloads(t, lab, server, sha256);
      for (const at of [0, 1]) {
        const all = await counters(lab, at);
        const more = (name: string) => all[name] - before[at][name];
        const from = at === 0 ? "wan0" : lan;
        t.true(more(`interface.${from}.super-frames`) > FILE_BYTES / 65_536);
        t.true(
          more(`interface.${from}.rx-frames`) < FILE_BYTES / 3000,
          `${more(`interface.${from}.rx-frames`)} frames`,
        );
        for (const name of ["wan0", lan]) {
          t.is(all[`interface.${name}.segments`], 0);
          t.is(all[`interface.${name}.tx-errors`], 0);
        }
      }
    }
    const before = (await counters(lab, 0))["interface.lan0-6.super-frames"];
    await echoesDatagrams(t, lab);
    t.is((await counters(lab, 0))["interface.lan0-6.super-frames"] - before, 3);
    for (const at of [0, 1]) {
      const all = await counters(lab, at);
      t.deepEqual(
        Object.keys(all).filter((name) => name.startsWith("drop.") && all[name] > 0),
        [],
      );
    }
  } finally {
    await lab.close();
  }
});

labTest("between af-packet and libpcap IPv6 leaves as the wire takes it: tshark finds nothing wrong", async (t) => {
  const lab = await openIpv6Net({
    backends: { west: { lan: "af-packet", wan: "libpcap" }, east: { lan: "libpcap", wan: "af-packet" } },
    plainWires: true,
  });
  try {
    const sha256 = await offerFile(lab);
    await lab.startCaptures();
    await lab.startRouters();
    await downloads(t, lab, SERVER_6, sha256);
    await downloads(t, lab, SERVER, sha256);
    const ping = await lab.run("client", "ping", "-c", "3", "-i", "1", "-s", "3000", SERVER_6);
    t.regex(ping.stdout, / 0% packet loss/);
    await lab.stopCaptures();
    const checks = ["tcp", "udp"].flatMap((name) => ["-o", `${name}.check_checksum:TRUE`]);
    // Where the kernel has finished a checksum of TCP it has written 0xffff for 0.
    const isMangled = "tcp.checksum == 0xffff && tcp.checksum_calculated == 0";
    const wrong = `(tcp.checksum.status == 0 && !(${isMangled})) || udp.checksum.status == 0 || icmpv6.checksum.status == 0 || _ws.malformed`;
    const plain = ["-d", "udp.port==1-65535,data", "-d", "tcp.port==1-65535,data"];
    const read = ["-r", lab.capturePath("wire1"), ...checks, ...plain];
    const said = await lab.run("wire1", "tshark", ...read, "-Y", wrong);
    t.is(said.stdout, "", said.stderr);
    const long = await lab.run("wire1", "tshark", ...read, "-Y", "frame.len > 1514 || !ipv6");
    t.is(long.stdout, "", long.stderr);
  } finally {
    await lab.close();
  }
});

labTest(
  "kernel: shared, where the kernel has addresses, routes and forwards: sessions pass once, its own services answer",
  async (t) => {
    const lab = await openIpv6Net({ ipv6Keys: ", kernel: shared", ipv4Keys: ", kernel: shared" });
    try {
      const sha256 = await offerFile(lab);
      // The same addresses as the router has, one of its own, and a way to wherever sessions go.
      const kernel = `for file in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 0 > "$file"; done
      echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
      ip -6 address add 2001:db8:77::1/64 dev lan0 nodad
      ip -6 address add 2001:db8:1::1/64 dev lan0 nodad
      ip -6 address add ${WIRE_6}1/64 dev wan0 nodad
      ip -6 route add 2001:db8:2::/64 via ${WIRE_6}2`;
      await must(lab, "west", kernel);
      await must(lab, "client", "ip -6 address add 2001:db8:77::2/64 dev eth0 nodad");
      lab.spawn("west", "/usr/bin/python3", ["-m", "http.server", "--bind", "::", "8000"], { stdio: "ignore" });
      await lab.startCaptures();
      await lab.startRouters();
      await downloads(t, lab, SERVER_6, sha256);
      const ping = await lab.run("client", "ping", "-c", "10", "-i", "1", SERVER_6);
      t.regex(ping.stdout, /10 received, 0% packet loss/);
      t.notRegex(ping.stdout, /DUP/);
      const back = await lab.run("server", "ping", "-c", "5", "-i", "1", CLIENT_6);
      t.regex(back.stdout, /5 received, 0% packet loss/);
      const own = ["-sS", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", "http://[2001:db8:77::1]:8000/"];
      t.is(
        (await lab.run("client", "curl", ...own)).stdout,
        "200",
        "the host's own service, for a client in no service",
      );
      t.is((await must(lab, "west", "ping -c 2 -i 1 2001:db8:77::2")).includes("2 received"), true);
      await lab.stopCaptures();
      const strangers = `ipv6 && !icmpv6.type in {130..143} && !(ipv6.addr == ${WIRE_6}1 && ipv6.addr == ${WIRE_6}2)`;
      const seen = await lab.run("wire1", "tshark", "-r", lab.capturePath("wire1"), "-Y", strangers);
      t.is(seen.stdout, "", "the kernel forwarded nothing");
      const resets = "tcp.flags.reset == 1 || icmpv6.type == 1";
      const answered = await lab.run("wire1", "tshark", "-r", lab.capturePath("wire1"), "-Y", resets);
      t.is(answered.stdout, "", "and answered nothing");
    } finally {
      await lab.close();
    }
  },
);

labTest(
  "A device that filters groups gives the router's own, without promiscuous; stopped or killed, it is in none",
  async (t) => {
    const lab = await openIpv6Net({ sourceNatPool: "2001:db8:1::aa" });
    const groups = async (): Promise<string[]> => {
      const shown = await must(lab, "west", "ip maddr show dev lan0");
      return [...(shown.match(/33:33(:[0-9a-f]{2}){4}/g) ?? [])].sort();
    };
    try {
      // A macvlan hands on what is sent to its groups, as a card with a filter does; beneath it is the link to the client.
      await must(lab, "west", "ip link set lan0 name under; ip link add lan0 link under type macvlan mode bridge");
      await must(
        lab,
        "west",
        "echo 1 > /proc/sys/net/ipv6/conf/lan0/disable_ipv6; ip link set under up; ip link set lan0 up",
      );
      const before = await groups();
      await lab.startRouters();
      t.deepEqual(
        await groups(),
        [
          ...new Set([
            ...before,
            ...["00:00:00:01", "00:00:00:02", "ff:00:00:01", "ff:00:00:aa"].map((group) => `33:33:${group}`),
          ]),
        ].sort(),
      );
      const ping = await lab.run("client", "ping", "-c", "3", "-i", "1", SERVER_6);
      t.regex(ping.stdout, /3 received/, "the client has found its router");
      // The outside address of another is asked for by a group of its own.
      await until("the client has found it", async () => {
        await lab.run("client", "ping", "-c", "1", "-W", "1", "2001:db8:1::aa");
        const known = await must(lab, "client", "ip -6 neigh show 2001:db8:1::aa");
        return known.includes("lladdr") ? undefined : known;
      });
      await lab.killRouter(lab.router("west"));
      t.deepEqual(await groups(), before);
      await lab.startRouters([lab.router("west")]);
      t.true((await groups()).includes("33:33:ff:00:00:01"));
      await lab.stopRouters();
      t.deepEqual(await groups(), before);
    } finally {
      await lab.close();
    }
  },
);

labTest(
  "Hosts with nothing but accept_ra have addresses, a route and the MTU; when the router stops the route is gone",
  async (t) => {
    const lab = await openIpv6Net({
      ipv6Keys: ", router-advertisements: true, mtu: 1460",
      hostsTakeAdvertisements: true,
    });
    const addressOf = async (host: string) =>
      /inet6 (2001:db8:\S+)\/64 scope global/.exec(await must(lab, host, "ip -6 address show dev eth0"))?.[1];
    const routeOf = async (host: string) => await must(lab, host, "ip -6 route show default");
    try {
      await lab.startCaptures();
      await lab.startRouters();
      const found = async (host: string) => {
        await until(`${host} has an address`, async () => ((await addressOf(host)) === undefined ? "none" : undefined));
        return (await addressOf(host))!;
      };
      const [client, server] = [await found("client"), await found("server")];
      t.regex(client, /^2001:db8:1:0?:/);
      const mac = /link\/ether (\S+)/.exec(await must(lab, "west", "ip link show lan0"))![1];
      const [a, b, c, d, e, f] = mac.split(":").map((byte) => Number.parseInt(byte, 16));
      const group = (high: number, low: number) => ((high << 8) | low).toString(16);
      const linkLocal = `fe80::${group(a ^ 2, b)}:${group(c, 0xff)}:${group(0xfe, d)}:${group(e, f)}`;
      t.true((await routeOf("client")).includes(`default via ${linkLocal} dev eth0 proto ra`), await routeOf("client"));
      t.is((await must(lab, "client", "cat /proc/sys/net/ipv6/conf/eth0/mtu")).trim(), "1460");
      // A new address is tried for a second before it is used.
      await until("they talk", async () => {
        const ping = await lab.run("client", "ping", "-c", "1", "-W", "1", server);
        return ping.code === 0 ? undefined : ping.stdout;
      });
      const ping = await lab.run("server", "ping", "-c", "5", "-i", "1", "-s", "1400", client);
      t.regex(ping.stdout, /5 received, 0% packet loss/);
      // The router is still found when the host asks again where it is.
      await must(lab, "client", "ip -6 neigh flush dev eth0");
      t.is((await lab.run("client", "ping", "-c", "1", "-W", "3", server)).code, 0);
      await must(lab, "client", "ip -6 neigh show dev eth0");
      // A host that comes later asks, and need not wait for the next of the router's own accord.
      await must(lab, "client", "ip -6 route flush default; ip link set eth0 down; ip link set eth0 up");
      await until("the client has asked", async () => ((await routeOf("client")) === "" ? "no route" : undefined));
      await lab.stopCaptures();
      await lab.stopRouters();
      await until("the route is gone", async () => ((await routeOf("client")) === "" ? undefined : "still there"));
      const read = ["-r", lab.capturePath("client"), "-Y", "icmpv6.type == 134 || icmpv6.type == 133"];
      const seen = await lab.run(
        "client",
        "tshark",
        ...read,
        "-T",
        "fields",
        "-e",
        "icmpv6.type",
        "-e",
        "icmpv6.checksum.status",
        "-e",
        "_ws.malformed",
      );
      const lines = seen.stdout.trim().split("\n");
      t.true(lines.some((line) => line.startsWith("134")) && lines.some((line) => line.startsWith("133")), seen.stdout);
      t.true(
        lines.every((line) => /^13[34]\t1\t?$/.test(line)),
        seen.stdout,
      );
    } finally {
      await lab.close();
    }
  },
);
