// Routers with several workers and IPv6: the suite over each mix of families, and what only IPv6 has for a worker to get wrong.

import { setTimeout as sleep } from "node:timers/promises";
import { askRouter } from "../../lib/control/admin-socket.ts";
import type { CountersAnswer, DropsAnswer, NeighborsAnswer, SessionsAnswer } from "../../lib/control/show.ts";
import { hostSuite } from "./host-suite.ts";
import { type Family, type Lab, openLab } from "./lab.ts";
import { labTest } from "./lab-test.ts";
import { assertBothCarry, talk } from "./worker-checks.ts";
import { converse } from "./workload.ts";

const TWO_EACH = { west: 2, east: 2 };
const FAMILIES: readonly [hosts: Family, wire: Family][] = [
  [6, 6],
  [4, 6],
  [6, 4],
];

/** ADDRESS PORT COUNT: sockets that send to a port where nobody is; says how many were told so. */
const REFUSED_BY_UDP = `const [, address, port, count] = process.argv;
let told = 0;
for (let n = 0; n < count; n++) {
  const socket = require("node:dgram").createSocket("udp6");
  socket.once("error", () => { told++; socket.close(); });
  socket.connect(port, address, () => socket.send("anybody"));
}
setTimeout(() => { console.log(told); process.exit(); }, 3000);`;

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
        const { sessions } = (await askRouter(router.socketPath, "sessions")) as SessionsAnswer;
        t.is(new Set(sessions.map(({ worker }) => worker)).size, 2);
        for (const { source, destination } of sessions)
          for (const end of [source, destination]) t.true(hosted.has(end.slice(0, end.lastIndexOf(":"))), end);
        const { neighbors } = (await askRouter(router.socketPath, "neighbors")) as NeighborsAnswer;
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
      t.is(code, 0, stderr);
      t.deepEqual(JSON.parse(stdout), { answered: sizes });
      for (const router of lab.routers) {
        const counters = (await askRouter(router.socketPath, "counters")) as CountersAnswer;
        t.true(counters["strays.sent"] > 10, router.name);
        t.is(counters["strays.sent"], counters["strays.received"]);
      }
    },
  );

  labTest(`${name}: a host's errors reach whoever sent, whichever worker has the session`, async (t) => {
    const lab = suite.lab();
    await lab.run("server", "sysctl", "-q", "-w", "net.ipv6.icmp.ratelimit=0");
    const before = await count(lab, "east", "strays.sent");
    const { stdout } = await lab.run("client", process.execPath, "-e", REFUSED_BY_UDP, lab.server, "7009", "24");
    t.is(stdout.trim(), "24");
    t.true((await count(lab, "east", "strays.sent")) > before, "its errors go by their addresses");
  });

  labTest(
    `${name}: sessions of either worker are explained by their hosts' addresses, and drops are told with theirs`,
    async (t) => {
      const lab = suite.lab();
      const [{ socketPath }] = lab.routers;
      const { sessions } = (await askRouter(socketPath, "sessions")) as SessionsAnswer;
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
      const { drops } = (await askRouter(socketPath, "drops")) as DropsAnswer;
      const dropped = drops.find(({ sample }) => sample?.packet.includes(nowhere));
      t.truthy(dropped, JSON.stringify(drops));
      const explained = await lab.waymark("west", "explain", "--drop", dropped!.reason, "--socket", socketPath);
      t.true(explained.stdout.includes(nowhere), explained.stderr);
    },
  );
}

async function count(lab: Lab, router: string, name: string): Promise<number> {
  return ((await askRouter(lab.router(router).socketPath, "counters")) as CountersAnswer)[name];
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
    heard.stdout?.on("data", (bytes: Buffer) => (said += String(bytes)));
    await sleep(500);
    // Alone: the next advertisement may come while another starts.
    await lab.startRouters([lab.router("west")]);
    const count = (text: RegExp) => said.match(text)?.length ?? 0;
    for (let n = 0; n < 50 && count(/router lifetime 1800s/g) === 0; n++) await sleep(100);
    await sleep(1500);
    t.is(count(/router lifetime 1800s/g), 1, said);
    await lab.startRouters([lab.router("east")]);
    await lab.stopRouters();
    for (let n = 0; n < 50 && count(/router lifetime 0s/g) === 0; n++) await sleep(100);
    t.is(count(/router lifetime 0s/g), 1, said);
  } finally {
    await lab.close();
  }
});
