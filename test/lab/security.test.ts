// Keys on real parts: what hosts get through routers that sign and encrypt, what the wire shows of it, and what happens
// when keys change under traffic or are wrong.

import { readFileSync, renameSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { ExecutionContext } from "ava";
import type { PeersAnswer, SessionsAnswer } from "../../lib/control/show.ts";
import { addressComplaints, checksumComplaints, readCapture } from "./capture.ts";
import { type Backends, type Lab, type LabOptions, openLab, SERVER, type Shape } from "./lab.ts";
import { labTest } from "./lab-test.ts";
import { ATTEMPTS, despitePauses, shown } from "./watched.ts";
import { converse, download, FILE_BYTES, offerFile, ping } from "./workload.ts";

const WAIT_MS = 60_000;

async function withLab<T>(shape: Shape, options: LabOptions, use: (lab: Lab) => Promise<T>): Promise<T> {
  const lab = await openLab(shape, options);
  try {
    const made = await lab.waymark("west", "keys", "generate", "--file", "keys");
    if (made.code !== 0) throw new Error(made.stderr);
    return await use(lab);
  } finally {
    await lab.close();
  }
}

/** No frame was refused by any router. Returns which it refused as too old, or "". */
async function noDrops(t: ExecutionContext, lab: Lab): Promise<string> {
  const late: string[] = [];
  for (const { name } of lab.routers) {
    const counters = await shown<Record<string, number>>(lab, name, "counters");
    const refused = Object.entries(counters).filter(
      ([counter, value]) => /^drop\.(signature|clock|key|metadata|payload|security|replay)/.test(counter) && value > 0,
    );
    const isLate = ([counter]: [string, number]) => counter === "drop.clock-skew";
    t.deepEqual(
      refused.filter((each) => !isLate(each)),
      [],
      name,
    );
    late.push(...refused.map(([counter, value]) => `${name}: ${counter} ${value}`));
  }
  return late.join("; ");
}

/** No line that any router wrote has a part of a key in it. */
async function noKeys(t: ExecutionContext, lab: Lab): Promise<void> {
  const keys = (await readFile(join(lab.directory, "keys"), "utf8")).match(/[0-9a-f]{64}/g)!;
  t.true(keys.length >= 2);
  for (const { name, configPath, socketPath } of lab.routers) {
    const shows = await Promise.all(
      ["peers", "services", "sessions", "counters"].map((what) =>
        lab.waymark(name, "show", what, "--socket", socketPath, "--json"),
      ),
    );
    const checked = await lab.waymark(name, "check", "-c", configPath, "--json");
    const said = [lab.routerLog(name), checked.stdout, checked.stderr, ...shows.map(({ stdout }) => stdout)].join();
    for (const key of keys) t.false(said.includes(key.slice(0, 12)), name);
  }
}

const AF_PACKET: Backends = { lan: "af-packet", wan: "af-packet" };
const LIBPCAP: Backends = { lan: "libpcap", wan: "libpcap" };

for (const [shape, backends, backend, sessionKeys] of [
  ["two-routers", LIBPCAP, "libpcap", false],
  ["two-routers", AF_PACKET, "af-packet", false],
  ["three-routers", LIBPCAP, "libpcap", false],
  ["three-routers", AF_PACKET, "af-packet, each session with its own key", true],
] as const) {
  labTest(
    `TCP, UDP and ICMP are whole behind ${shape} that sign and encrypt every packet (${backend}), and the wire shows nothing of them`,
    async (t) => {
      const all = { west: backends, middle: backends, east: backends };
      const options = {
        backends: all,
        plainWires: true,
        protection: { sign: "every-packet", adaptive: false, sessionKeys },
      } as const;
      await despitePauses(t, () =>
        withLab(shape, options, async (lab) => {
          const sha256 = await offerFile(lab);
          await lab.startRouters();
          await lab.startCaptures();
          for (const size of ["56", "1400", "1472"])
            t.is(await ping(lab, 3, ["-i", "0.2", "-s", size, "-p", "7365637265742e2e"]), undefined);
          const done = await download(lab);
          t.is(done.code, 0, done.stderr);
          t.is(done.sha256, sha256);
          for (const length of [1, 500, 1472]) {
            const asked = await converse(lab, "client", "udp", SERVER, 7002, length);
            t.is(asked.code, 0, asked.stderr);
          }
          await lab.stopCaptures();
          const file = await readFile(join(lab.directory, "file.bin"));
          for (const wire of lab.wires) {
            const packets = await readCapture(lab.capturePath(wire.name));
            t.true(packets.length > FILE_BYTES / 1460);
            t.deepEqual(checksumComplaints(packets, true), []);
            t.deepEqual(addressComplaints(packets, wire.addresses), []);
            t.true(packets.every(({ ipLength }) => ipLength <= 1500));
            const bytes = await readFile(lab.capturePath(wire.name));
            for (const text of ["secret..", "GET /file.bin", "Content-Length"]) t.is(bytes.indexOf(text), -1, text);
            for (let at = 0; at < file.length; at += file.length >> 4)
              t.is(bytes.indexOf(file.subarray(at, at + 24)), -1);
          }
          for (const { name } of lab.routers) {
            const { sessions } = await shown<SessionsAnswer>(lab, name, "sessions");
            t.true(sessions.length > 0 && sessions.every(({ encrypted }) => encrypted), name);
            t.true(
              sessions.every(({ ownKey }) => ownKey === sessionKeys),
              name,
            );
          }
          const late = await noDrops(t, lab);
          await noKeys(t, lab);
          return late;
        }),
      );
    },
  );
}

labTest(
  "keys change under a download and beside it, by SIGHUP, one router after the other: nothing is lost",
  async (t) => {
    const options = { protection: { sign: "every-packet", adaptive: true } } as const;
    await despitePauses(t, () =>
      withLab("two-routers", options, async (lab) => {
        const sha256 = await offerFile(lab);
        await lab.startRouters();
        for (const version of [2, 3]) {
          const running = download(lab);
          const rotated = await lab.waymark("west", "keys", "generate", "--file", "keys", "--rotate");
          t.is(rotated.code, 0, rotated.stderr);
          for (const name of version === 2 ? ["west", "east"] : ["east", "west"]) {
            lab.routerProcess(name).kill("SIGHUP");
            await said(lab, name, new RegExp(`"policy":"fabric","version":${version},.*took up new keys`));
            // One of few datagrams may find no room in a ring that the download fills.
            let asked = await converse(lab, "client", "udp", SERVER, 7002, 100);
            for (let n = 1; n < ATTEMPTS && asked.code !== 0; n++)
              asked = await converse(lab, "client", "udp", SERVER, 7002, 100);
            t.is(asked.code, 0, asked.stderr);
          }
          const done = await running;
          t.is(done.code, 0, done.stderr);
          t.is(done.sha256, sha256);
        }
        const { peers } = await shown<PeersAnswer>(lab, "west", "peers");
        t.is(peers[0].security, "fabric");
        t.true([2, 3].includes(peers[0].paths[0].keyVersion!));
        const late = await noDrops(t, lab);
        await noKeys(t, lab);
        // A file that is wrong changes nothing.
        await lab.run("west", "sh", "-c", "echo nonsense > keys");
        lab.routerProcess("west").kill("SIGHUP");
        await said(lab, "west", /kept the keys/);
        t.is((await converse(lab, "client", "udp", SERVER, 7002, 100)).code, 0);
        return late;
      }),
    );
  },
);

labTest("SIGHUP again and again while a router starts: it starts, and has the keys that came meanwhile", async (t) => {
  await withLab("two-routers", { protection: { sign: "metadata", adaptive: true } }, async (lab) => {
    const [west] = lab.routers;
    await lab.run("west", "cp", "-p", "keys", "newer");
    t.is((await lab.waymark("west", "keys", "generate", "--file", "newer", "--rotate")).code, 0);
    const starting = lab.startRouters([west]);
    const router = lab.routerProcess("west");
    const about = (file: string) => readFileSync(`/proc/${router.pid}/${file}`, "utf8");
    while (!/^SigCgt:.*[13579bdf]$/m.test(about("status"))) await sleep(1);
    // Devices are locked when the configuration and its keys have been read.
    for (; !about("net/unix").includes("@waymark-device-"); await sleep(1)) router.kill("SIGHUP");
    renameSync(join(lab.directory, "newer"), join(lab.directory, "keys"));
    router.kill("SIGHUP");
    await starting;
    await said(lab, "west", /"policy":"fabric","version":2,.*took up new keys/);
    t.is(lab.routerLog("west").match(/"policy":"fabric".*took up new keys/g)!.length, 1);
  });
});

labTest("routers with different keys carry nothing, and say which counter it is", async (t) => {
  await withLab("two-routers", { protection: { sign: "metadata", adaptive: true } }, async (lab) => {
    const [west] = lab.routers;
    await lab.startRouters();
    t.is((await converse(lab, "client", "udp", SERVER, 7002, 100)).code, 0);
    await lab.stopRouters();
    await lab.run("west", "sh", "-c", `sed -i 's/file: keys/file: other/g' ${west.configPath}`);
    t.is((await lab.waymark("west", "keys", "generate", "--file", "other")).code, 0);
    await lab.startRouters();
    const asked = await lab.run("client", "ping", "-c", "2", "-W", "1", SERVER);
    t.regex(asked.stdout, /100% packet loss/);
    const counters = await shown<Record<string, number>>(lab, "east", "counters");
    t.true(counters["drop.signature-wrong"] >= 2);
    t.is(counters["sessions.active"], 0);
  });
});

/** Wait until a router has written a line. */
async function said(lab: Lab, router: string, line: RegExp): Promise<void> {
  for (const deadline = Date.now() + WAIT_MS; !line.test(lab.routerLog(router)); await sleep(20))
    if (Date.now() > deadline) throw new Error(`${router} never said ${line}:\n${lab.routerLog(router)}`);
}
