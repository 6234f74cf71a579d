// What a running router may still do: of root's rights only what closing takes, in every thread; and the unit in
// lib/cli/waymark@.service, whose restrictions as-unit.py applies as systemd would.

import { execFileSync, spawnSync } from "node:child_process";
import { chownSync, existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { ExecutionContext } from "ava";
import { type Lab, type LabOptions, MAIN, openLab, type Router } from "./lab.ts";
import { labTest, missing } from "./lab-test.ts";
import { despitePauses } from "./watched.ts";
import { converse, download, offerFile } from "./workload.ts";

const ROOT = new URL("../../../", import.meta.url);
const AS_UNIT = fileURLToPath(new URL("test/lab/as-unit.py", ROOT));
const UNIT = fileURLToPath(new URL("lib/cli/waymark@.service", ROOT));
const NOBODY = 65534;
const NET_ADMIN = 1n << 12n;
const NET_RAW = 1n << 13n;
const WAIT_MS = 60_000;

async function withLab<T>(options: LabOptions, use: (lab: Lab) => Promise<T>): Promise<T> {
  const lab = await openLab("two-routers", options);
  try {
    if (options.protection !== undefined) {
      const made = await lab.waymark("west", "keys", "generate", "--file", "keys");
      if (made.code !== 0) throw new Error(made.stderr);
    }
    return await use(lab);
  } finally {
    await lab.close();
  }
}

/** The process that `waymark run` is: `ip netns exec` and a wrapper become it. */
const pidOf = (lab: Lab, router: string): number => lab.routerProcess(router).pid!;

/** Each line of /proc/PID/task/TID/status that says what a thread may do, for every thread. */
function threads(pid: number): Record<string, string>[] {
  return readdirSync(`/proc/${pid}/task`).map((thread) =>
    Object.fromEntries(
      readFileSync(`/proc/${pid}/task/${thread}/status`, "utf8")
        .split("\n")
        .map((line) => line.split(/:\s+/) as [string, string]),
    ),
  );
}

/** `bounding`: what else programs that it starts could be given; without CAP_SETPCAP that set cannot be lowered. */
async function keepsOnly(t: ExecutionContext, pid: number, bounding = 0n): Promise<void> {
  // Its socket answers a moment before it gives up the rest.
  for (const deadline = Date.now() + WAIT_MS; !isGivenUp(pid) && Date.now() < deadline; ) await sleep(20);
  const all = threads(pid);
  t.true(all.length > 4, "V8's and libuv's threads are there");
  for (const status of all) {
    for (const set of ["CapPrm", "CapEff"]) t.is(BigInt(`0x${status[set]}`), NET_ADMIN, `${status.Name} ${set}`);
    for (const set of ["CapInh", "CapAmb"]) t.is(BigInt(`0x${status[set]}`) & ~NET_ADMIN, 0n, `${status.Name} ${set}`);
    t.is(BigInt(`0x${status.CapBnd}`) & ~(NET_ADMIN | bounding), 0n, status.Name);
    t.is(status.NoNewPrivs, "1", status.Name);
  }
  t.regex(readFileSync(`/proc/${pid}/limits`, "utf8"), /^Max core file size\s+0\s+0\s/m);
  // Not to be looked into: /proc/PID/mem of such a process is root's, whoever runs it.
  t.is(statSync(`/proc/${pid}/mem`).uid, 0);
}

function isGivenUp(pid: number): boolean {
  return threads(pid).every(({ CapEff }) => BigInt(`0x${CapEff}`) === NET_ADMIN);
}

function hasGuard(lab: Lab, router: string): boolean {
  return execFileSync("ip", ["netns", "exec", lab.namespace(router), "nft", "list", "ruleset"], {
    encoding: "utf8",
  }).includes("guard-wan0");
}

for (const workers of [1, 2]) {
  labTest(
    `With ${workers} worker${workers > 1 ? "s" : ""}, once everything is open no thread of the router may do more than put the guard away`,
    async (t) => {
      await withLab({ workers: { west: workers } }, async (lab) => {
        await lab.startRouters();
        await keepsOnly(t, pidOf(lab, "west"));
        t.is((await converse(lab, "client", "udp", "10.2.0.2", 7002, 100)).code, 0);
        const socket = statSync(lab.routers[0].socketPath);
        t.is(socket.mode & 0o777, 0o600);
        t.true(hasGuard(lab, "west"));
        await lab.stopRouters();
        t.false(hasGuard(lab, "west"));
        t.false(existsSync(lab.routers[0].socketPath));
      });
    },
  );
}

const unreadable =
  missing === undefined &&
  spawnSync("setpriv", [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups", "test", "-r", MAIN]).status !== 0;

async function hardened(t: ExecutionContext): Promise<void> {
  const wrapper = ({ socketPath }: Router) => ["/usr/bin/python3", AS_UNIT, UNIT, dirname(socketPath)];
  const options = { wrapper, protection: { sign: "every-packet", adaptive: false } } as const;
  await despitePauses(t, () =>
    withLab(options, async (lab) => {
      chownSync(join(lab.directory, "keys"), NOBODY, NOBODY);
      const sha256 = await offerFile(lab);
      await lab.startRouters();
      const pid = pidOf(lab, "west");
      const [{ Uid, Seccomp }] = threads(pid);
      t.true(Uid.startsWith(`${NOBODY}\t`), Uid);
      t.is(Seccomp, "2", "a filter is in force");
      await keepsOnly(t, pid, NET_RAW);
      const done = await download(lab);
      t.is(done.code, 0, done.stderr);
      t.is(done.sha256, sha256);
      const lines = lab.routerLog("west").split("\n");
      const late = lines.filter((line) => line.includes("(drop.clock-skew)"));
      t.notRegex(lines.filter((line) => !late.includes(line)).join("\n"), /"level":(40|50|60|"warn"|"error"|"fatal")/);
      lab.routerProcess("west").kill("SIGHUP");
      for (const deadline = Date.now() + WAIT_MS; !lab.routerLog("west").includes("no newer keys"); await sleep(20))
        if (Date.now() > deadline) throw new Error(`SIGHUP was not answered:\n${lab.routerLog("west")}`);
      t.true(hasGuard(lab, "west"));
      await lab.stopRouters();
      t.false(hasGuard(lab, "west"));
      return late.join("\n");
    }),
  );
}

const TITLE = "The systemd unit's user, capabilities, mounts and system call filter leave the router all that it needs";
if (unreadable) labTest.skip(`${TITLE} (skipped: needs a clone that other users can read)`, hardened);
else labTest(TITLE, hardened);

labTest("systemd finds nothing wrong with the unit, and little that is exposed", async (t) => {
  const verified = spawnSync("systemd-analyze", ["verify", "--man=no", UNIT], { encoding: "utf8" });
  // What it says of programs and documentation that are not installed here is about this machine.
  const said = verified.stderr.split("\n").filter((line) => line !== "" && !/not executable|No such file/.test(line));
  t.deepEqual(said, []);
  const rated = spawnSync("systemd-analyze", ["security", "--offline=yes", "--threshold=30", UNIT], {
    encoding: "utf8",
  });
  t.is(rated.status, 0, rated.stdout.split("\n").slice(-3).join("\n") + rated.stderr);
});
