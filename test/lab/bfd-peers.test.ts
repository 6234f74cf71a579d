// Other people's BFD on the wire: FRR's bfdd and BIRD, each a peer path with `mode: bfd`. They must take ours for one of
// theirs: up, new intervals by a poll sequence, down when packets are lost, up again.

import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { ExecutionContext } from "ava";
import { type Lab, openLab } from "./lab.ts";
import { labTest } from "./lab-test.ts";
import { ATTEMPTS, eventsOf, pathsOf, until } from "./watched.ts";

const FRR = "/usr/lib/frr";
const STATION = "198.18.0.9";
const WEST = "198.18.0.1";
const DOWN_MS = 3000;
/** The detection time is 2 s, and 5 s with intervals of 250 ms. */
const MULTIPLIER = 20;
/** For chrt: before what else the machine does, as our path monitor is. */
const FIRST = ["-r", "1"];

/** A BFD speaker on the wire. */
interface Speaker {
  readonly program: string;
  readonly isThere: () => boolean;
  start(lab: Lab): Promise<void>;
  /** Its session with west: up or not, and our intervals as it has heard them, ms. */
  session(lab: Lab): Promise<{ up: boolean; receivesMs: number; text: string }>;
  /** Ask for other intervals. */
  change(lab: Lab, intervalMs: number): Promise<void>;
}

const frr: Speaker = {
  program: "FRR's bfdd",
  isThere: () => spawnSync("test", ["-x", `${FRR}/bfdd`]).status === 0,
  async start(lab) {
    const run = `${lab.directory}/frr`;
    writeFileSync(join(lab.directory, "zebra.conf"), "");
    writeFileSync(
      join(lab.directory, "bfdd.conf"),
      `bfd\n peer ${WEST} local-address ${STATION} interface eth0\n  receive-interval 100\n  transmit-interval 100\n  detect-multiplier ${MULTIPLIER}\n  no shutdown\n`,
    );
    // They run as frr and will not start without a directory of theirs.
    await lab.run("station", "sh", "-ec", `mkdir ${run}; chown frr:frr ${run} zebra.conf bfdd.conf; chmod 755 .`);
    for (const [daemon, ...more] of [["zebra"], ["bfdd", "--bfdctl", `${run}/bfdd.control`]]) {
      const args = ["-f", `${lab.directory}/${daemon}.conf`, "-i", `${run}/${daemon}.pid`, "-z", `${run}/zserv.api`];
      const command = [...FIRST, `${FRR}/${daemon}`, ...args, ...more, "--vty_socket", run, "-P", "0"];
      lab.spawn("station", "chrt", command, { stdio: "ignore" });
      await until(`${daemon} answers`, async () => {
        const asked = await vtysh(lab, daemon, "show version");
        return asked.code === 0 ? undefined : asked.stderr;
      });
    }
  },
  async session(lab) {
    const { stdout } = await vtysh(lab, "bfdd", "show bfd peers json");
    const [peer] = JSON.parse(stdout) as { status: string; "remote-transmit-interval": number }[];
    return { up: peer.status === "up", receivesMs: peer["remote-transmit-interval"], text: stdout };
  },
  async change(lab, intervalMs) {
    await vtysh(
      lab,
      "bfdd",
      "configure terminal",
      "bfd",
      `peer ${WEST} local-address ${STATION} interface eth0`,
      `receive-interval ${intervalMs}`,
      `transmit-interval ${intervalMs}`,
    );
  },
};

async function vtysh(lab: Lab, daemon: string, ...commands: string[]) {
  const args = ["--vty_socket", `${lab.directory}/frr`, "-d", daemon, ...commands.flatMap((one) => ["-c", one])];
  return await lab.run("station", "vtysh", ...args);
}

function birdText(intervalMs: number): string {
  return `router id ${STATION};
protocol device { }
protocol bfd {
  interface "eth0" { min rx interval ${intervalMs} ms; min tx interval ${intervalMs} ms; multiplier ${MULTIPLIER}; };
  neighbor ${WEST} dev "eth0";
}
`;
}

const bird: Speaker = {
  program: "BIRD",
  isThere: () => spawnSync("sh", ["-c", "command -v bird"]).status === 0,
  async start(lab) {
    writeFileSync(join(lab.directory, "bird.conf"), birdText(100));
    const command = [...FIRST, "bird", "-f", "-c", "bird.conf", "-s", "bird.ctl", "-P", "bird.pid"];
    lab.spawn("station", "chrt", command, { stdio: "ignore" });
    await until("bird answers", async () => {
      const asked = await lab.run("station", "birdc", "-s", "bird.ctl", "show", "status");
      return asked.code === 0 ? undefined : asked.stdout;
    });
  },
  async session(lab) {
    const { stdout } = await lab.run("station", "birdc", "-s", "bird.ctl", "show", "bfd", "sessions");
    // IP address, interface, state, since, interval and timeout in seconds.
    const [, state, intervalS] = new RegExp(`^${WEST}\\s+eth0\\s+(\\S+)\\s+\\S+\\s+([\\d.]+)`, "m").exec(stdout) ?? [];
    return { up: state === "Up", receivesMs: Number(intervalS) * 1000, text: stdout };
  },
  async change(lab, intervalMs) {
    writeFileSync(join(lab.directory, "bird.conf"), birdText(intervalMs));
    await lab.run("station", "birdc", "-s", "bird.ctl", "configure");
  },
};

for (const speaker of [frr, bird]) {
  const title = `${speaker.program} as a BFD peer: up, other intervals, down when packets are lost, up again`;
  const body = async (t: ExecutionContext) => {
    // On a busy machine a path may be down for want of a processor, and then not each time.
    let downs = await meet(t, speaker);
    for (let n = 1; n < ATTEMPTS && downs > 0; n++) downs = await meet(t, speaker);
    t.is(downs, 0);
  };
  if (speaker.isThere()) labTest(title, body);
  else labTest.skip(`${title} (skipped: it is not installed)`, body);
}

/** All of it. Returns how often the path was down beside the one time that packets are lost. */
async function meet(t: ExecutionContext, speaker: Speaker): Promise<number> {
  const lab = await openLab("two-routers", {
    extra: (router) =>
      router === "west"
        ? `  - { name: other, paths: [{ interface: wan0, address: ${STATION}, mode: bfd }] }\n` +
          `bfd: { desired-tx-interval: 100ms, required-min-rx-interval: 100ms, multiplier: ${MULTIPLIER}, hold-down: 0s }`
        : "",
  });
  const path = async () => (await pathsOf(lab, "west")).find(({ remote }) => remote === STATION)!;
  /** Both ends say so; how long it took, and why it is so. */
  const both = async (up: boolean): Promise<{ ms: number; why: string }> => {
    const from = Date.now();
    let why = "";
    await until(`both are ${up ? "up" : "down"}`, async () => {
      const [ours, theirs] = [await path(), await speaker.session(lab)];
      why = ours.why;
      return (ours.state === "up") === up && theirs.up === up ? undefined : `${ours.why}, ${theirs.text}`;
    });
    return { ms: Date.now() - from, why };
  };
  const downs = async () =>
    (await eventsOf(lab, "west")).filter(({ kind, peer }) => kind === "path-down" && peer === "other").length;
  try {
    lab.addStation("station", lab.wires[0], STATION);
    await lab.startRouters();
    await speaker.start(lab);
    const first = await both(true);
    t.is(first.why, "BFD is up");
    for (const intervalMs of [250, 100]) {
      await speaker.change(lab, intervalMs);
      // Its new interval counts on both ends once the poll sequence is over; the session has stayed up.
      await until(`an interval of ${intervalMs} ms`, async () => {
        const { bfd } = await path();
        const heard = bfd?.txIntervalMs === intervalMs && bfd.detectionTimeMs === MULTIPLIER * intervalMs;
        return heard ? undefined : JSON.stringify(bfd);
      });
      await both(true);
    }
    const before = await downs();
    if (before > 0) return before;
    const lose = `nft 'table netdev cut { chain station { type filter hook ingress device station priority 0; policy drop; }; }'`;
    const lost = await lab.run("wire1", "sh", "-ec", lose);
    t.is(lost.code, 0, lost.stderr);
    const down = await both(false);
    t.regex(down.why, /^BFD is down: /);
    await sleep(DOWN_MS);
    await lab.run("wire1", "nft", "delete", "table", "netdev", "cut");
    const again = await both(true);
    t.log(`up after ${first.ms} ms, down after ${down.ms} ms, up again after ${again.ms} ms`);
    return (await downs()) - 1;
  } finally {
    await lab.close();
  }
}
