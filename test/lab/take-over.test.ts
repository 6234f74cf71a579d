// A planned restart: a second process takes over from the running router while hosts talk, and nobody notices.

import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";
import type { ExecutionContext } from "ava";
import { parseConfig } from "../../lib/control/config.ts";
import { configIdentity, STATE_FORMAT } from "../../lib/control/router-state.ts";
import type { CountersAnswer, SessionsAnswer } from "../../lib/control/show.ts";
import { TAKE_OVER, Talk } from "../../lib/control/take-over.ts";
import { type Lab, type LabOptions, MAIN, openLab, outcome, SERVER } from "./lab.ts";
import { labTest } from "./lab-test.ts";
import { ATTEMPTS, eventsOf, pathsOf, pathsUp, ringDrops, sawPathDown, shown, socketDrops, until } from "./watched.ts";

const FAST = "bfd: { desired-tx-interval: 50ms, required-min-rx-interval: 50ms, hold-down: 0s, multiplier: 10 }";
const HOST_CLIENT = fileURLToPath(new URL("./host-client.js", import.meta.url));
const FILE_BYTES = 20 << 20;

async function withLab<T>(options: LabOptions, use: (lab: Lab) => Promise<T>): Promise<T> {
  const lab = await openLab("two-routers", { extra: FAST, ...options });
  try {
    for (const device of ["lan0", "wan0"]) await lab.run("west", "ethtool", "-K", device, "gro", "on");
    if (options.protection !== undefined) await lab.waymark("west", "keys", "generate", "--file", "keys");
    await lab.startRouters();
    await pathsUp(lab);
    return await use(lab);
  } finally {
    await lab.close();
  }
}

/** Sessions by their identifiers: what each carries. */
async function identifiers(lab: Lab, router: string): Promise<Map<string, string>> {
  const { sessions } = await shown<SessionsAnswer>(lab, router, "sessions");
  return new Map(sessions.map(({ uuid, protocol }) => [uuid, protocol]));
}

interface Talking {
  /** Let it end, and look at what each has to say of what it missed. */
  ends(t: ExecutionContext): Promise<Ended>;
}

interface Ended {
  readonly datagrams: number;
  /** What did not come back and was not lost in a host's own sockets, and what else happened; nothing where that is empty. */
  readonly missing: string;
  /** What the routers' capture rings had no room for meanwhile. */
  readonly unheard: readonly number[];
  /** A router has seen its path go down. */
  readonly wasDown: boolean;
}

/**
 * Play a scene until nothing of its talk is missing. A router whose main thread gets no processor for half a second loses
 * frames in its capture ring, and counts them: then it may have been the machine, and the scene is played again, three times
 * in all; and the same where a path went down, as it must when nothing is heard for half a second. What is missing without
 * either fails at once. The rings' counts are not subtracted: a successor that is slow to read its ring, or silent, is what is
 * looked for, and it would be so each time.
 */
async function lossless(t: ExecutionContext, options: LabOptions, scene: (lab: Lab) => Promise<Ended>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const { missing, unheard, wasDown } = await withLab(options, scene);
    if (missing === "") return;
    const said = `${missing}; rings without room: ${unheard.join(", ")}${wasDown ? "; a path went down" : ""}`;
    if (attempt === ATTEMPTS || !(wasDown || unheard.some((count) => count > 0))) return t.fail(said);
    t.log(`again: ${said}`);
  }
}

/** A download, a datagram every 2 ms each way, and a ping; returns once all have sessions. */
async function talk(lab: Lab): Promise<Talking> {
  const unheardBefore = await ringDrops(lab);
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
  await until("all three talk", async () => {
    const protocols = new Set((await identifiers(lab, "west")).values());
    return protocols.size === 3 ? undefined : [...protocols].join();
  });
  return {
    async ends(t) {
      datagrams.stdin?.end();
      pings.kill("SIGINT");
      const { stdout, stderr } = await said;
      t.is(stderr, "");
      const { sent, lost, twice } = JSON.parse(stdout) as { sent: number; lost: number[]; twice: number };
      // A host that has no processor for half a second loses datagrams in its own socket.
      const [client, server] = await Promise.all([socketDrops(lab, "client"), socketDrops(lab, "server")]);
      const missing: string[] = [];
      if (lost.length !== client + server)
        missing.push(`datagrams of ${sent}, ${client + server} lost in sockets: ${lost}`);
      t.is(twice, 0);
      const echoes = [...(await pinged).stdout.matchAll(/icmp_seq=(\d+) /g)].map(([, number]) => Number(number));
      // The last may be on its way still.
      const holes = echoes.filter((number, n) => number !== (echoes[n - 1] ?? 0) + 1);
      if (holes.length > 0) missing.push(`echoes before ${holes}`);
      t.true(echoes.length > 100);
      if (missing.length > 0) t.log(await evidence(lab));
      const { code, stderr: complaint } = await download;
      t.is(code, 0, complaint);
      t.true(readFileSync(got).equals(file));
      const unheard = (await ringDrops(lab)).map((count, n) => count - unheardBefore[n]);
      return { datagrams: sent, missing: missing.join("; "), unheard, wasDown: await sawPathDown(lab) };
    },
  };
}

/** What the routers counted as dropped, what happened to them, and what they wrote. */
async function evidence(lab: Lab): Promise<string> {
  const lines = lab.routers.map(async ({ name }) => {
    const events = await eventsOf(lab, name);
    const counters = await shown<CountersAnswer>(lab, name, "counters");
    const unheard = Object.entries(counters).filter(([of]) => of.endsWith(".rx-kernel-drops"));
    return [
      name,
      JSON.stringify([...drops(counters), ...unheard]),
      ...events.map((event) => JSON.stringify(event)),
      lab.routerLog(name),
    ];
  });
  return (await Promise.all(lines)).flat().join("\n");
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

/** What the routers say of paths, what happened at the peer, and what the router that is taken over from has dropped. */
async function seen(lab: Lab) {
  const paths = await Promise.all(lab.routers.map(({ name }) => pathsOf(lab, name)));
  return {
    states: paths.flat().map(({ state }) => state),
    events: (await eventsOf(lab, "east")).map(({ kind }) => kind),
    drops: drops(await shown<CountersAnswer>(lab, "west", "counters")),
  };
}

function drops(counters: CountersAnswer): [string, number][] {
  return Object.entries(counters).filter(([name, count]) => name.startsWith("drop.") && count > 0);
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
      t.timeout(360_000);
      await lossless(t, options, async (lab) => {
        // A router that has just started waits for what its peer may give back; and many first packets may be more than
        // wait for one neighbor.
        await sleep(2500);
        await lab.run("client", "ping", "-c", "3", "-i", "0.2", SERVER);
        const talking = await talk(lab);
        const before = await identifiers(lab, "west");
        t.deepEqual([...new Set(before.values())].sort(), ["icmp", "tcp", "udp"]);
        const seenBefore = await seen(lab);
        const guardSeen = watchGuard(lab, "west");
        for (let n = 0; n < 2; n++) {
          t.is(await lab.takeOver("west"), 0);
          const now = await identifiers(lab, "west");
          t.deepEqual(
            [...now.keys()].filter((uuid) => !before.has(uuid)),
            [],
            "no session is opened anew",
          );
          // The download may be through by now, and the first ping is long over.
          const protocols = new Set(now.values());
          t.true(protocols.has("udp") && protocols.has("icmp"));
          await sleep(500);
        }
        const { looks, missing } = guardSeen();
        t.true(looks > 10);
        t.is(missing, 0);
        // Before the download has ended, which takes a while.
        const seenAfter = await seen(lab);
        const ended = await talking.ends(t);
        const { datagrams } = ended;
        t.true(datagrams > 500);
        const counters = await shown<CountersAnswer>(lab, "west", "counters");
        t.true(counters["frames.forwarded"] > 2 * datagrams, "counters go on");
        if (!ended.wasDown) t.deepEqual(seenAfter, seenBefore);
        const differs = isDeepStrictEqual(seenAfter, seenBefore) ? [] : [`seen ${JSON.stringify(seenAfter)}`];
        return { ...ended, missing: [ended.missing, ...differs].filter((what) => what !== "").join("; ") };
      });
    },
  );
}

labTest(
  "A router on a machine that others keep busy is taken over twice, and no path is said to be down",
  async (t) => {
    t.timeout(360_000);
    // The machine may be busier than that: where a path went down it is done again, three times in all.
    let happened: string[] = [];
    for (let attempt = 1; attempt === 1 || (attempt <= ATTEMPTS && happened.includes("path-down")); attempt++) {
      happened = await eventsWhileBusy(t);
      t.log(`${happened}`);
    }
    t.deepEqual(happened, ["path-up"]);
  },
);

/** Take a router over twice while others want every processor. Returns what has happened at its peer. */
async function eventsWhileBusy(t: ExecutionContext): Promise<string[]> {
  return await withLab({}, async (lab) => {
    // Three for every processor: whoever holds a lock may lose it to them.
    const wanted = 3 * availableParallelism();
    const spinning = Array.from({ length: wanted }, () =>
      lab.spawn("client", process.execPath, ["-e", "for (;;);"], { stdio: "ignore" }),
    );
    try {
      const talking = lab.spawn("client", "ping", ["-q", "-i", "0.002", SERVER], { stdio: "ignore" });
      for (let n = 0; n < 2; n++) {
        await sleep(2000);
        t.is(await lab.takeOver("west"), 0);
      }
      await sleep(2000);
      talking.kill("SIGINT");
    } finally {
      for (const child of spinning) child.kill("SIGKILL");
    }
    return (await eventsOf(lab, "east")).map(({ kind }) => kind);
  });
}

/** $1: a process that asks at the socket $2: ended when the router has begun to hear it. */
const KILL_WHEN_CONNECTED = `while kill -0 $1 && ! grep -q " 03 .* $2$" /proc/net/unix; do sleep 0.01; done
kill -KILL $1`;

/** A successor that asks, and goes away at some point. */
async function failAt(lab: Lab, point: "hello" | "open" | "ready" | "state"): Promise<void> {
  const { config } = parseConfig(readFileSync(lab.routers[0].configPath, "utf8"), lab.routers[0].configPath);
  const stream = await new Promise<Duplex>((resolve, reject) => {
    const headers = { connection: "Upgrade", upgrade: TAKE_OVER };
    const asking = request({ socketPath: lab.routers[0].socketPath, path: "/take-over", headers });
    asking.on("error", reject).on("response", () => reject(new Error("no upgrade")));
    asking.on("upgrade", (_, socket: Duplex) => resolve(socket)).end();
  });
  const talk = new Talk(stream);
  await talk.say({ say: "hello", format: STATE_FORMAT, identity: configIdentity(config!) });
  await talk.hear("welcome", 5000);
  if (point !== "hello") {
    await talk.say({ say: "open" });
    await talk.hear("written", 5000);
  }
  if (point === "ready" || point === "state") await talk.say({ say: "ready" });
  if (point === "state") while ((await talk.next(5000)) instanceof Uint8Array);
  talk.destroy();
}

labTest(
  "A successor that goes away midway, or is killed, changes nothing: the router goes on, and can be taken over from",
  async (t) => {
    t.timeout(360_000);
    await lossless(t, {}, async (lab) => {
      await sleep(2500);
      await lab.run("client", "ping", "-c", "3", "-i", "0.2", SERVER);
      const talking = await talk(lab);
      for (const point of ["hello", "open", "ready", "state"] as const) {
        await failAt(lab, point);
        await sleep(200);
      }
      const guardSeen = watchGuard(lab, "west");
      const second = lab.spawn("west", process.execPath, [MAIN, "run", "-c", lab.routers[0].configPath, "--take-over"]);
      const killed = once(second, "exit");
      // By a process of its own: this one may be late, and the second through by then.
      await lab.run("west", "sh", "-c", KILL_WHEN_CONNECTED, "sh", `${second.pid}`, lab.routers[0].socketPath);
      t.is((await killed)[1], "SIGKILL");
      await sleep(500);
      t.is(lab.routerProcess("west").exitCode, null);
      await lab.takeOver("west");
      t.is(guardSeen().missing, 0);
      const ended = await talking.ends(t);
      await lab.stopRouters();
      for (const { name } of lab.routers) t.is((await lab.run(name, "nft", "list", "tables")).stdout, "");
      return ended;
    });
  },
);

labTest(
  "What cannot be taken over from is refused with the reason, and goes on; offloads are put back by the last",
  async (t) => {
    await withLab({}, async (lab) => {
      const [{ configPath, socketPath }] = lab.routers;
      const text = readFileSync(configPath, "utf8");
      const refused = async (changed: string, why: RegExp, ...more: string[]) => {
        const path = join(lab.directory, "changed.yaml");
        writeFileSync(path, changed);
        const command = [process.execPath, MAIN, "run", "-c", path, "--take-over", ...more];
        const { code, stderr } = await lab.run("west", "timeout", "60", ...command);
        t.is(code, 1, stderr);
        t.regex(stderr, why);
        t.notRegex(stderr, /^\s+at /m);
        t.is(lab.routerProcess("west").exitCode, null);
        t.is((await lab.run("client", "ping", "-c", "1", "-w", "20", SERVER)).code, 0);
      };
      await lab.run("client", "ping", "-c", "3", SERVER);
      await refused(text.replace("router: west", "router: other"), /goes on: it runs with other router/);
      await refused(text.replace("transports: [tcp, udp, icmp]", "transports: [tcp, icmp]"), /other services/);
      await refused(text.replace("workers: 1", "workers: 2"), /several workers/);
      await refused(text, /with the guard: leave --no-guard out/, "--no-guard");
      await refused(text.replace(socketPath, `${socketPath}.none`), /no router listens/);

      for (const device of ["lan0", "wan0"]) {
        const { stdout } = await lab.run("west", "ethtool", "-k", device);
        t.regex(stdout, /generic-receive-offload: off/, "the router has switched it off");
      }
      await lab.takeOver("west");
      const on = async () => (await lab.run("west", "ethtool", "-k", "lan0")).stdout;
      t.regex(await on(), /generic-receive-offload: off/);
      await lab.stopRouters();
      t.regex(await on(), /generic-receive-offload: on/);
    });
  },
);
