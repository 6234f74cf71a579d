// A planned restart: a second process takes over from the running router while hosts talk, and nobody notices.

import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { ExecutionContext } from "ava";
import type { CountersAnswer, EventsAnswer, PathsAnswer, SessionsAnswer } from "../../lib/control/show.ts";
import { type Lab, type LabOptions, openLab, outcome, SERVER } from "./lab.ts";
import { labTest } from "./lab-test.ts";

const FAST = "bfd: { desired-tx-interval: 50ms, required-min-rx-interval: 50ms, hold-down: 0s, multiplier: 10 }";
const HOST_CLIENT = fileURLToPath(new URL("./host-client.js", import.meta.url));
const FILE_BYTES = 20 << 20;

async function withLab(options: LabOptions, use: (lab: Lab) => Promise<void>): Promise<void> {
  const lab = await openLab("two-routers", { extra: FAST, ...options });
  try {
    if (options.protection !== undefined) await lab.waymark("west", "keys", "generate", "--file", "keys");
    await lab.startRouters();
    for (const deadline = Date.now() + 20_000; ; await sleep(50)) {
      const answers = await Promise.all(lab.routers.map(({ name }) => shown<PathsAnswer>(lab, name, "paths")));
      if (answers.every(({ paths }) => paths.every(({ state }) => state === "up"))) break;
      if (Date.now() > deadline) throw new Error(JSON.stringify(answers));
    }
    await use(lab);
  } finally {
    await lab.close();
  }
}

async function shown<T>(lab: Lab, router: string, what: string): Promise<T> {
  const { socketPath } = lab.routers.find(({ name }) => name === router)!;
  const { stdout } = await lab.waymark(router, "show", what, "--socket", socketPath, "--json");
  return JSON.parse(stdout) as T;
}

async function identifiers(lab: Lab, router: string): Promise<string[]> {
  const { sessions } = await shown<SessionsAnswer>(lab, router, "sessions");
  return sessions.map(({ uuid }) => uuid).sort();
}

interface Talking {
  /** Let it end, and look at what each has to say of what it missed. Returns how many datagrams there were. */
  ends(t: ExecutionContext): Promise<number>;
}

/** A download, a datagram every 2 ms each way, and a ping. */
function talk(lab: Lab): Talking {
  const file = randomBytes(FILE_BYTES);
  writeFileSync(join(lab.directory, "file.bin"), file);
  const got = join(lab.directory, "got.bin");
  const url = `http://${SERVER}:8080/file.bin`;
  const download = lab.run("client", "curl", "-sS", "--limit-rate", "1M", "-o", got, url);
  const paced = [HOST_CLIENT, "datagrams", SERVER, "7002", "2"];
  const datagrams = lab.spawn("client", process.execPath, paced, { stdio: ["pipe", "pipe", "pipe"] });
  const said = outcome(datagrams);
  const pings = lab.spawn("client", "ping", ["-i", "0.01", "-W", "2", SERVER]);
  const pinged = outcome(pings);
  return {
    async ends(t) {
      datagrams.stdin?.end();
      pings.kill("SIGINT");
      const { stdout, stderr } = await said;
      t.is(stderr, "");
      const { sent, lost, twice } = JSON.parse(stdout) as { sent: number; lost: number[]; twice: number };
      t.deepEqual(lost, []);
      t.is(twice, 0);
      const echoes = [...(await pinged).stdout.matchAll(/icmp_seq=(\d+) /g)].map(([, number]) => Number(number));
      // The last may be on its way still.
      t.deepEqual(
        echoes,
        echoes.map((_, n) => n + 1),
      );
      t.true(echoes.length > 100);
      const { code, stderr: complaint } = await download;
      t.is(code, 0, complaint);
      t.true(readFileSync(got).equals(file));
      return sent;
    },
  };
}

/** Look at the guard again and again until the function that is returned is called; it returns how often it was looked at, and missing. */
function watchGuard(lab: Lab, router: string): () => { looks: number; missing: number } {
  const seen = { looks: 0, missing: 0 };
  const look = () => {
    const text = execFileSync(
      "ip",
      ["netns", "exec", lab.namespace(router), "nft", "list", "table", "netdev", "waymark"],
      {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      },
    );
    seen.looks++;
    if (!/guard-lan0[\s\S]*drop/.test(text) || !/guard-wan0[\s\S]*drop/.test(text)) seen.missing++;
  };
  const timer = setInterval(() => {
    try {
      look();
    } catch {
      seen.missing++;
    }
  }, 40);
  timer.unref();
  return () => {
    clearInterval(timer);
    return seen;
  };
}

const AF_PACKET = { lan: "af-packet", wan: "af-packet" } as const;
const KINDS: [string, LabOptions][] = [
  ["in clear", {}],
  ["signed and encrypted", { protection: { sign: "every-packet", adaptive: false, sessionKeys: true } }],
  ["through af-packet", { backends: { west: AF_PACKET, east: AF_PACKET } }],
];

for (const [kind, options] of KINDS) {
  labTest(
    `Traffic ${kind} loses no packet while a router is taken over twice, and its peer sees nothing`,
    async (t) => {
      await withLab(options, async (lab) => {
        await lab.run("west", "ethtool", "-K", "lan0", "gro", "on");
        const talking = talk(lab);
        await sleep(1500);
        const before = await identifiers(lab, "west");
        t.is(before.length, 3);
        const events = await shown<EventsAnswer>(lab, "east", "events");
        const guardSeen = watchGuard(lab, "west");
        for (let n = 0; n < 2; n++) {
          t.is(await lab.takeOver("west"), 0);
          t.deepEqual(await identifiers(lab, "west"), before);
          await sleep(500);
        }
        const { looks, missing } = guardSeen();
        t.true(looks > 10);
        t.is(missing, 0);
        const datagrams = await talking.ends(t);
        t.true(datagrams > 500);
        for (const name of ["west", "east"]) {
          const { paths } = await shown<PathsAnswer>(lab, name, "paths");
          t.deepEqual(
            paths.map(({ state }) => state),
            ["up"],
          );
        }
        const after = await shown<EventsAnswer>(lab, "east", "events");
        t.deepEqual(
          after.events.map(({ kind: what }) => what),
          events.events.map(({ kind: what }) => what),
        );
        const counters = await shown<CountersAnswer>(lab, "west", "counters");
        t.true(counters["frames.forwarded"] > 2 * datagrams, "counters go on");
        t.deepEqual(
          Object.entries(counters).filter(([name, count]) => name.startsWith("drop.") && count > 0),
          [],
        );
      });
    },
  );
}
