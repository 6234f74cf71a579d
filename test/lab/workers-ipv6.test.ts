// Routers with several workers and IPv6: the suite over each mix of families, and what only IPv6 has for a worker to get wrong.

import { setTimeout as sleep } from "node:timers/promises";
import type { CountersAnswer, DropsAnswer, NeighborsAnswer, SessionsAnswer } from "../../lib/control/show.ts";
import { hostSuite } from "./host-suite.ts";
import { type Family, type Lab, openLab } from "./lab.ts";
import { labTest } from "./lab-test.ts";
import { ringDrops, shown, until } from "./watched.ts";
import { assertBothCarry, talk } from "./worker-checks.ts";
import { converse } from "./workload.ts";

const TWO_EACH = { west: 2, east: 2 };
const FAMILIES: readonly [hosts: Family, wire: Family][] = [
  [6, 6],
  [4, 6],
  [6, 4],
];

/** ADDRESS PORT COUNT: sockets that send to a port where nobody is; says how many were told so, when all are or after a minute. */
const REFUSED_BY_UDP = `const [, address, port, count] = process.argv;
let told = 0;
const end = () => { console.log(told); process.exit(); };
for (let n = 0; n < count; n++) {
  const socket = require("node:dgram").createSocket("udp6");
  socket.once("error", () => { socket.close(); if (++told === Number(count)) end(); });
  socket.connect(port, address, () => socket.send("anybody"));
}
setTimeout(end, 60_000);`;

for (const [hosts, wire] of FAMILIES) {
  const name = `IPv${hosts} over IPv${wire}, two workers each`;
  const suite = hostSuite("two-routers", { hosts, wires: [wire], workers: TWO_EACH, fileBytes: 10 << 20 }, name);

  labTest(`${name}: many UDP streams and TCP connections at once are whole and in order`, async (t) => {
    await talk(t, suite.lab());
  });

  labTest(`${name}: both workers have carried sessions, and no frame changed hands`, async (t) => {
    await assertBothCarry(t, suite.lab());
  });

  labTest(
    `${name}: show has each session with its hosts' addresses, and each neighbor once with its own`,
    async (t) => {
      const lab = suite.lab();
      const hosted = new Set([lab.client, lab.server].map((host) => (hosts === 6 ? `[${host}]` : host)));
      for (const router of lab.routers) {
        const { sessions } = await shown<SessionsAnswer>(lab, router.name, "sessions");
        t.is(new Set(sessions.map(({ worker }) => worker)).size, 2);
        for (const { source, destination } of sessions)
          for (const end of [source, destination]) t.true(hosted.has(end.slice(0, end.lastIndexOf(":"))), end);
        const { neighbors } = await shown<NeighborsAnswer>(lab, router.name, "neighbors");
        const addresses = neighbors.map(({ address }) => address);
        const [host, other] = router.name === "west" ? [lab.client, 1] : [lab.server, 0];
        t.deepEqual(addresses.sort(), [host, lab.wires[0].addresses[other]].sort());
        t.true(neighbors.every(({ mac, held }) => mac !== null && held === 0));
      }
    },
  );

  if (hosts !== 6) continue;
  labTest(
    `${name}: datagrams in pieces go to the worker of their addresses, change hands, and are whole`,
    async (t) => {
      const lab = suite.lab();
      // Enough sockets for either worker; the longest is longer than an IPv4 header can say.
      const sizes = Array.from({ length: 12 }, (_, n) => 2000 + n * 4321).concat(65_527, 65_527, 65_527);
      const { code, stdout, stderr } = await converse(lab, "client", "udp", lab.server, 7002, ...sizes);
      t.is(code, 0, code === 0 ? "" : `${stderr}${await droppedBy(lab)}`);
      t.deepEqual(JSON.parse(stdout), { answered: sizes });
      for (const { name: router } of lab.routers)
        await until(`the strays of ${router} have changed hands`, async () => {
          const { "strays.sent": sent, "strays.received": received } = await shown<CountersAnswer>(
            lab,
            router,
            "counters",
          );
          return sent > 10 && sent === received ? undefined : `${sent} sent, ${received} received`;
        });
    },
  );

  labTest(`${name}: a host's errors reach whoever sent, whichever worker has the session`, async (t) => {
    const lab = suite.lab();
    await lab.run("server", "sysctl", "-q", "-w", "net.ipv6.icmp.ratelimit=0");
    const strays = async () => (await shown<CountersAnswer>(lab, "east", "counters"))["strays.sent"];
    const before = await strays();
    const { stdout } = await lab.run("client", process.execPath, "-e", REFUSED_BY_UDP, lab.server, "7009", "24");
    t.is(stdout.trim(), "24");
    await until("its errors go by their addresses", async () =>
      (await strays()) > before ? undefined : `${before} strays as before`,
    );
  });

  labTest(
    `${name}: sessions of either worker are explained by their hosts' addresses, and drops are told with theirs`,
    async (t) => {
      const lab = suite.lab();
      const [{ socketPath }] = lab.routers;
      const { sessions } = await shown<SessionsAnswer>(lab, "west", "sessions");
      for (const worker of [0, 1]) {
        const { uuid, protocol, source, destination } = sessions.find(
          (one) => one.worker === worker && one.protocol === "udp",
        )!;
        const tuple = `${protocol} ${source} > ${destination}`;
        const { stdout, stderr } = await lab.waymark("west", "explain", "--session", tuple, "--socket", socketPath);
        t.true(stdout.includes(uuid), stderr);
      }
      const nowhere = "2001:db8:77::1";
      await lab.run("client", "ping", "-c", "1", "-W", "1", nowhere);
      let reason = "";
      await until(`a packet to ${nowhere} is dropped`, async () => {
        const { drops } = await shown<DropsAnswer>(lab, "west", "drops");
        const dropped = drops.find(({ sample }) => sample?.packet.includes(nowhere));
        reason = dropped?.reason ?? "";
        return dropped === undefined ? JSON.stringify(drops) : undefined;
      });
      const explained = await lab.waymark("west", "explain", "--drop", reason, "--socket", socketPath);
      t.true(explained.stdout.includes(nowhere), explained.stderr);
    },
  );
}

/** What each router has dropped, and what its rings had no room for. */
async function droppedBy(lab: Lab): Promise<string> {
  const all = lab.routers.map(async ({ name }) => ({ name, ...(await shown<DropsAnswer>(lab, name, "drops")) }));
  return JSON.stringify({ drops: await Promise.all(all), unheard: await ringDrops(lab) });
}

labTest("Hosts learn their router from one worker, and a router that stops says that it routes no more", async (t) => {
  const lab = await openLab("two-routers", {
    hosts: 6,
    wires: [6],
    workers: TWO_EACH,
    lan: ", router-advertisements: true",
  });
  try {
    const heard = lab.spawn("client", "tcpdump", ["-n", "-l", "-v", "-i", "eth0", "icmp6 and ip6[40] = 134"]);
    let said = "";
    for (const stream of [heard.stdout!, heard.stderr!])
      stream.setEncoding("utf8").on("data", (text: string) => (said += text));
    const hears = (text: string) =>
      until(`tcpdump says ${text}`, async () => (said.includes(text) ? undefined : said), 60_000);
    await hears("listening on");
    // Alone: the next advertisement may come while another starts.
    await lab.startRouters([lab.router("west")]);
    const count = (text: RegExp) => said.match(text)?.length ?? 0;
    await hears("router lifetime 1800s");
    await sleep(1500);
    t.is(count(/router lifetime 1800s/g), 1, said);
    await lab.startRouters([lab.router("east")]);
    await lab.stopRouters();
    await hears("router lifetime 0s");
    t.is(count(/router lifetime 0s/g), 1, said);
  } finally {
    await lab.close();
  }
});
