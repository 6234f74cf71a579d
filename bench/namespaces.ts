// Network namespaces for live benches: made, joined by veth pairs and removed again. A janitor process waits on a pipe
// for the end of the bench, whatever ends it (also Ctrl-C), and then ends every process in the namespaces and removes
// them and the bench's directory. Root only.

import { type ChildProcess, execFileSync, type SpawnOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** $1: prefix of the namespaces' names. $2: the directory. */
const JANITOR = `trap "" INT TERM HUP
cat >/dev/null
sleep 0.1
for name in $(ip netns list | cut -d " " -f 1 | grep "^$1-"); do
  ip netns pids "$name" | xargs -r kill -KILL 2>/dev/null
  ip netns del "$name"
done
rm -rf "$2"`;

// npm puts node_modules/.bin first, and a development dependency has a program there that is called nft too.
process.env.PATH = (process.env.PATH ?? "")
  .split(":")
  .filter((directory) => !directory.endsWith("node_modules/.bin"))
  .join(":");

const STOP_MS_MAX = 10_000;

/** Ticks of /proc/PID/stat a second (USER_HZ, fixed on Linux). */
const TICKS = 100;

export class Namespaces {
  readonly prefix = `waymark-bench-${process.pid}`;
  /** For configurations, sockets and programs. */
  readonly directory = mkdtempSync(join(tmpdir(), `${this.prefix}-`));
  readonly #janitor = spawn("sh", ["-c", JANITOR, "sh", this.prefix, this.directory], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });

  add(node: string): void {
    execFileSync("ip", ["netns", "add", this.name(node)]);
    this.shell(
      node,
      "ip link set lo up; echo 0 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6",
    );
  }

  name(node: string): string {
    return `${this.prefix}-${node}`;
  }

  /** A veth pair between two nodes, up. */
  link(left: string, leftDevice: string, right: string, rightDevice: string): void {
    const end = ["peer", "name", rightDevice, "netns", this.name(right)];
    execFileSync("ip", ["-n", this.name(left), "link", "add", leftDevice, "type", "veth", ...end]);
    this.shell(left, `ip link set ${leftDevice} up`);
    this.shell(right, `ip link set ${rightDevice} up`);
  }

  shell(node: string, script: string): string {
    return execFileSync("ip", ["netns", "exec", this.name(node), "sh", "-e", "-c", script], { encoding: "utf8" });
  }

  mac(node: string, device: string): string {
    return this.shell(node, `cat /sys/class/net/${device}/address`).trim();
  }

  /** Start a program in a node, on one processor when `cpu` says which. Its process id is the child's. */
  spawn(
    node: string,
    cpu: number | null,
    command: string,
    args: readonly string[],
    options: SpawnOptions = {},
  ): ChildProcess {
    const pinned = cpu === null ? [command] : ["taskset", "-c", String(cpu), command];
    return spawn("ip", ["netns", "exec", this.name(node), ...pinned, ...args], {
      stdio: ["ignore", "pipe", "inherit"],
      ...options,
    });
  }

  /** Remove everything. */
  async close(): Promise<void> {
    const end = once(this.#janitor, "exit");
    this.#janitor.stdin?.end();
    await end;
  }
}

/** Everything a program writes until it ends. Throws when it fails. */
export async function output(child: ChildProcess): Promise<string> {
  let text = "";
  child.stdout?.setEncoding("utf8").on("data", (piece: string) => (text += piece));
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`${child.spawnargs.join(" ")} ended with ${code}: ${text}`);
  return text;
}

/** End a process. One that does not within ten seconds is killed, and named: it must not hold up the others. */
export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const end = once(child, "exit");
  child.kill("SIGTERM");
  const timer = setTimeout(() => {
    console.error(`${child.spawnargs.join(" ")} did not end at SIGTERM`);
    child.kill("SIGKILL");
  }, STOP_MS_MAX);
  await end;
  clearTimeout(timer);
}

export async function until(holds: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 15_000; !holds(); await sleep(20)) {
    if (Date.now() > deadline) throw new Error("waited in vain");
  }
}

/** Processor time a process has used, user and system, all threads, in microseconds. */
export function cpuUs(child: ChildProcess): number {
  const fields = readFileSync(`/proc/${child.pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return ((Number(fields[11]) + Number(fields[12])) * 1e6) / TICKS;
}
