// Nothing is left behind: by a router that stops, by a lab that closes, by a lab whose process is ended midway.

import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type Lab, MAIN, namespaces, openLab } from "./lab.ts";
import { labTest } from "./lab-test.ts";

const DEMO = fileURLToPath(new URL("./demo.js", import.meta.url));
const APPEAR_MS_MAX = 180_000;
const VANISH_MS_MAX = 60_000;

labTest("A router that is told to stop takes its guard away and puts offloads back", async (t) => {
  await withLab(async (lab) => {
    for (const { name } of lab.routers) await lab.run(name, "ethtool", "-K", "lan0", "gro", "on");
    const before = await offloads(lab);
    t.regex(before, /generic-receive-offload: on/);
    await lab.startRouters();
    t.not(await offloads(lab), before);
    for (const { name } of lab.routers) t.regex(await tables(lab, name), /table netdev waymark/);
    await lab.stopRouters();
    t.is(await offloads(lab), before);
    for (const { name } of lab.routers) t.is(await tables(lab, name), "");
  });
});

labTest("A router that is killed leaves its guard, and the next start replaces it", async (t) => {
  await withLab(async (lab) => {
    await lab.startRouters();
    for (const { name } of lab.routers) {
      const router = lab.routerProcess(name);
      router.kill("SIGKILL");
      await once(router, "exit");
      t.regex(await tables(lab, name), /table netdev waymark/);
    }
    await lab.startRouters();
    await lab.stopRouters();
    for (const { name } of lab.routers) t.is(await tables(lab, name), "");
  });
});

labTest("A second start on a running router's devices is refused, and the first keeps its guard", async (t) => {
  await withLab(async (lab) => {
    await lab.startRouters();
    const [{ name, configPath }] = lab.routers;
    const guarded = await lab.run(name, "nft", "list", "ruleset");
    const other = join(lab.directory, "other-socket.yaml");
    writeFileSync(
      other,
      readFileSync(configPath, "utf8").replace(/socket: \S+?(?=[ ,}\n])/, `socket: ${lab.directory}/other.sock`),
    );
    for (const config of [configPath, other]) {
      const second = await lab.run(name, "timeout", "120", process.execPath, MAIN, "run", "-c", config);
      t.is(second.code, 1, second.stderr);
      t.regex(second.stderr, /another running router's/);
      t.is(
        (await lab.run(name, "nft", "list", "ruleset")).stdout.replace(/packets.*/g, ""),
        guarded.stdout.replace(/packets.*/g, ""),
      );
    }
    await lab.stopRouters();
  });
});

labTest("A router whose terminal goes away stops as cleanly as by Ctrl-C", async (t) => {
  await withLab(async (lab) => {
    const [{ name, configPath, socketPath }] = lab.routers;
    // A terminal of its own, which goes away with the program that made it.
    const command = `exec ${process.execPath} ${MAIN} run -c ${configPath}`;
    const terminal = lab.spawn(name, "script", ["-q", "-c", command, "/dev/null"], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    t.true(await until(APPEAR_MS_MAX, () => existsSync(socketPath)));
    const ended = once(terminal, "exit");
    terminal.kill("SIGKILL");
    await ended;
    t.true(await until(VANISH_MS_MAX, () => processes(lab.namespace(name)).length === 0));
    t.false(existsSync(socketPath));
    t.is(await tables(lab, name), "");
  });
});

labTest("A router whose log cannot be written routes on, answers, and stops in order", async (t) => {
  await withLab(async (lab) => {
    const [{ name, configPath, socketPath }] = lab.routers;
    const command = `exec ${process.execPath} ${MAIN} run -c ${configPath} 2> /dev/full`;
    const router = lab.spawn(name, "sh", ["-c", command], { stdio: "ignore" });
    t.true(await until(APPEAR_MS_MAX, () => existsSync(socketPath)));
    // Longer than it takes to find out that the first line does not go.
    await sleep(2000);
    const shown = await lab.run(name, process.execPath, MAIN, "show", "interfaces", "--socket", socketPath);
    t.is(shown.code, 0, shown.stderr);
    t.regex(shown.stdout, /lan0/);
    const ended = once(router, "exit");
    router.kill("SIGTERM");
    t.deepEqual(await ended, [0, null]);
    t.is(await tables(lab, name), "");
  });
});

labTest("A closed lab leaves no namespace, process, directory or change outside", async (t) => {
  const before = outside();
  const lab = await openLab("three-routers");
  await lab.startCaptures();
  await lab.startRouters();
  const pids = processes(lab.prefix);
  t.true(pids.length >= 2 + 4 + 3, "hosts, captures, routers");
  await lab.close();
  await until(VANISH_MS_MAX, () => remains(lab.prefix, pids).length === 0);
  t.deepEqual(remains(lab.prefix, pids), []);
  t.is(outside(), before);
});

for (const signal of ["SIGINT", "SIGTERM", "SIGKILL"] as const) {
  labTest(`A lab whose process is ended midway by ${signal} leaves nothing behind`, async (t) => {
    const before = outside();
    const demo = spawn(process.execPath, [DEMO], { stdio: "ignore" });
    const prefix = `waymark-${demo.pid}-`;
    const west = () => namespaces(prefix).find((name) => name.endsWith("-west"));
    const started = await until(APPEAR_MS_MAX, () => west() !== undefined && processes(west()!).length > 0);
    t.true(started, "the demo never started a router");
    const pids = processes(prefix);
    const ended = once(demo, "exit");
    demo.kill(signal);
    await ended;
    await until(VANISH_MS_MAX, () => remains(prefix, pids).length === 0);
    t.deepEqual(remains(prefix, pids), []);
    t.is(outside(), before);
  });
}

labTest("What a dead process left is swept when the next lab opens", async (t) => {
  const orphan = `waymark-${spawnSync("true").pid}-0000`;
  execFileSync("ip", ["netns", "add", `${orphan}-client`]);
  await withLab(async () => t.deepEqual(remains(orphan, []), []));
});

async function withLab(body: (lab: Lab) => Promise<unknown>): Promise<void> {
  const lab = await openLab("two-routers");
  try {
    await body(lab);
  } finally {
    await lab.close();
  }
}

async function offloads(lab: Lab): Promise<string> {
  const features = lab.routers.flatMap(({ name }) =>
    ["lan0", "wan0"].map(async (device) => (await lab.run(name, "ethtool", "-k", device)).stdout),
  );
  return (await Promise.all(features)).join("");
}

async function tables(lab: Lab, node: string): Promise<string> {
  return (await lab.run(node, "nft", "list", "tables")).stdout;
}

/** What a lab must not touch: the machine's own nftables tables and network devices. */
function outside(): string {
  return execFileSync("sh", ["-c", "nft list tables; ip -o link"], { encoding: "utf8" });
}

/** Processes in the namespaces whose names begin with `prefix`. */
function processes(prefix: string): number[] {
  return namespaces(prefix).flatMap((name) => {
    const { stdout } = spawnSync("ip", ["netns", "pids", name], { encoding: "utf8" });
    return stdout.split("\n").filter(Boolean).map(Number);
  });
}

/** What is left of a lab, as text. */
function remains(prefix: string, pids: readonly number[]): string[] {
  const alive = pids.filter((pid) => existsSync(`/proc/${pid}`)).map((pid) => `process ${pid}`);
  return [...namespaces(prefix), ...alive, ...readdirSync("/tmp").filter((name) => name.startsWith(prefix))];
}

async function until(msMax: number, holds: () => boolean): Promise<boolean> {
  for (const deadline = Date.now() + msMax; Date.now() < deadline; await sleep(50)) if (holds()) return true;
  return false;
}
