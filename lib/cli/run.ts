import { existsSync, readFileSync } from "node:fs";
import { Command, Option } from "commander";
import type { Log } from "../base/log.ts";
import type { Config } from "../control/config.ts";
import { CommandError, type Context, loadConfig, type RunningRouter } from "./context.ts";

const EXAMPLES = `
Runs until SIGINT or SIGTERM, then removes the guard, puts device settings back and exits 0.
SIGHUP reads the configuration and its key files again and takes up keys of a newer version, nothing else; while the
router starts, as soon as it has. With a terminal as standard input it means that the terminal went away, and stops the
router.
When a worker fails it stops, leaves the guard in place (fail closed), and exits 1.
With --take-over a second process takes every session over from the one that runs, and no packet is lost: no session is
opened anew and no peer notices. The first one exits 0 then. Where it cannot be (another form of state, other interfaces,
services or peers, several workers) the second says why and exits 1, and the first goes on.
Logs JSON lines to standard error. Needs root, or CAP_NET_RAW and CAP_NET_ADMIN; once everything is open it keeps
CAP_NET_ADMIN alone.

Examples:
  waymark run -c /etc/waymark/west.yaml
  waymark run -c west.yaml --log-level debug
  waymark run -c west.yaml --take-over     # a planned restart, an upgrade: in another terminal, or another unit
  waymark run -c lab.yaml --no-guard       # the kernel's stack sees the frames too: for labs`;

const CAP_NET_ADMIN = 12;
const CAP_NET_RAW = 13;

interface RunOptions {
  config: string;
  guard: boolean;
  logLevel?: string;
  takeOver?: boolean;
}

export function runCommand(context: Context): Command {
  return new Command("run")
    .description("run the router on live interfaces")
    .requiredOption("-c, --config <file>", "configuration file")
    .option("--take-over", "go on with the sessions of the router that runs with this configuration, which then ends")
    .option("--no-guard", "do not install the nftables guard that keeps the kernel's stack off our frames")
    .addOption(
      new Option("--log-level <level>", "overrides the configuration's log.level").choices([
        "trace",
        "debug",
        "info",
        "warn",
        "error",
        "fatal",
        "silent",
      ]),
    )
    .addHelpText("after", EXAMPLES)
    .action(async ({ config: file, guard, logLevel, takeOver = false }: RunOptions) => {
      // From the first moment to the last: a SIGHUP that nobody takes ends the process, the guard left behind, and passes for
      // a clean end, after which nobody starts it again.
      let isAsked = false;
      let hangup = () => {
        isAsked = true;
      };
      if (process.stdin.isTTY !== true) process.on("SIGHUP", () => hangup());
      const config = await loadConfig(context, file);
      requireCapabilities(guard);
      requireDevices(config);
      const { createLog } = await import("../base/log.ts");
      const { logOutput } = await import("../io/log-output.ts");
      const { startRouter, dropPrivileges } = await context.loadRouter();
      const stopped = nextSignal();
      const log = createLog(logLevel ?? config.log.level, logOutput());
      const router = await startRouter(config, { guard, log, takeOver });
      dropPrivileges(log);
      hangup = () => void reload(context, file, router, log);
      if (isAsked) hangup();
      const failure = await Promise.race([stopped, router.failed, router.handedOver]);
      hangup = () => {};
      await router.close();
      if (failure instanceof Error) throw new CommandError(failure.message);
    });
}

/** A configuration that cannot be used changes nothing, and the log says so. */
async function reload(context: Context, file: string, router: RunningRouter, log: Log): Promise<void> {
  try {
    await router.reloadKeys(await loadConfig(context, file));
  } catch (error) {
    log.error({ error: (error as Error).message }, "kept the keys");
  }
}

/** Resolves at the first SIGINT or SIGTERM, or when the terminal goes away; later ones change nothing, so that stopping is never cut short. */
function nextSignal(): Promise<void> {
  return new Promise((resolve) => {
    const signals =
      process.stdin.isTTY === true ? (["SIGINT", "SIGTERM", "SIGHUP"] as const) : (["SIGINT", "SIGTERM"] as const);
    for (const signal of signals) process.on(signal, () => resolve());
  });
}

function requireCapabilities(guard: boolean): void {
  const effective = BigInt(
    `0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0"}`,
  );
  const has = (capability: number) => ((effective >> BigInt(capability)) & 1n) === 1n;
  if (!has(CAP_NET_RAW))
    throw new CommandError(
      "no permission to capture and send frames: run as root, or with CAP_NET_RAW and CAP_NET_ADMIN",
    );
  if (guard && !has(CAP_NET_ADMIN)) {
    throw new CommandError(
      "no permission to install the guard: run as root or with CAP_NET_ADMIN, or start with --no-guard",
    );
  }
}

function requireDevices(config: Config): void {
  const missing = config.interfaces.filter((item) => !existsSync(`/sys/class/net/${item.device}`));
  if (missing.length === 0) return;
  const what = missing.map((item) => `${item.device} (interface ${item.name})`).join(", ");
  throw new CommandError(`there is no network device ${what}: \`ip link\` lists those that exist`);
}
