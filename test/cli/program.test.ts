import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import test from "ava";
import type { Context, RouterModule } from "../../lib/cli/context.ts";
import { runProgram } from "../../lib/cli/program.ts";
import { AdminSocket } from "../../lib/control/admin-socket.ts";
import { counterReference } from "../../lib/control/metrics.ts";
import { OperatorError } from "../../lib/control/operator-error.ts";

const MAIN = fileURLToPath(new URL("../../lib/cli/main.js", import.meta.url));
const directory = mkdtempSync(join(tmpdir(), "waymark-cli-"));
test.after.always(() => rmSync(directory, { recursive: true, force: true }));

function file(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

const socketPath = join(directory, "w.sock");
const GOOD = file(
  "good.yaml",
  `authority: acme
router: west
control: { socket: ${socketPath} }
interfaces:
  - { name: lan0, device: lo, addresses: [10.1.0.1/24], tenant: corp }
  - { name: wan0, device: no-such-dev0, addresses: [198.18.0.1/24] }
tenants: [{ name: corp }]
services: [{ name: app, addresses: [10.2.0.0/24], access: [corp] }]
service-routes: [{ service: app, peer: east }]
peers: [{ name: east, paths: [{ interface: wan0, address: 198.18.0.2 }] }]
`,
);
const LIVE = file(
  "live.yaml",
  "authority: acme\nrouter: west\ninterfaces: [{ name: lan0, device: lo, addresses: [10.1.0.1/24] }]\n",
);
const BAD = file("bad.yaml", "authority: acme\nrooter: west\ninterfaces: []\n");
const CAPTURE = file("in.pcap", "");

/** Write until a pipe that does not wait takes no more, which it says by an error. */
function fill(fd: number): never {
  for (;;) writeSync(fd, "x");
}

/** Open a FIFO for writing as soon as somebody reads it. */
async function openForReader(path: string): Promise<number> {
  for (;;) {
    try {
      return openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
    } catch {
      await sleep(10);
    }
  }
}

interface Outcome {
  code: number;
  out: string;
  err: string;
}

/** Run a command in this process, with a stand-in for the router. */
async function waymark(words: string[], router: Partial<RouterModule> = {}, isTerminal = false): Promise<Outcome> {
  const outcome = { code: -1, out: "", err: "" };
  const context: Context = {
    out: (text) => {
      outcome.out += text;
    },
    err: (text) => {
      outcome.err += text;
    },
    isTerminal,
    loadRouter: async () => router as RouterModule,
  };
  outcome.code = await runProgram(words, context);
  // A router's process keeps it to its end.
  process.removeAllListeners("SIGHUP");
  return outcome;
}

test("Help and version are fine; commands and options that are none are usage errors", async (t) => {
  const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
  t.deepEqual(await waymark(["--version"]), { code: 0, out: `${version}\n`, err: "" });
  t.like(await waymark(["--help"]), { code: 0, err: "" });
  t.like(await waymark(["help", "run"]), { code: 0, err: "" });
  for (const command of ["run", "check", "replay", "show", "explain", "keys"]) {
    const { code, out } = await waymark([command, "--help"]);
    t.is(code, 0);
    t.regex(out, new RegExp(`Examples:\n  waymark ${command} `));
  }
  const wrong = [
    [],
    ["fly"],
    ["check"],
    ["check", "-c", GOOD, "--nope"],
    ["check", "-c", GOOD, "more"],
    ["show", "everything"],
    ["show", "peers", "--describe"],
  ];
  for (const words of [...wrong, ["run"], ["run", "-c", GOOD, "--log-level", "loud"], ["explain", "-c", GOOD]]) {
    const { code, out, err } = await waymark(words);
    t.is(code, 2, words.join(" "));
    t.is(out, "");
    t.not(err, "");
  }
});

test("check says that a configuration can be used", async (t) => {
  t.deepEqual(await waymark(["check", "-c", GOOD]), {
    code: 0,
    out: `${GOOD} can be used: 0 errors, 0 warnings\n`,
    err: "",
  });
  const { code, out } = await waymark(["check", "-c", GOOD, "--json"]);
  t.is(code, 0);
  t.deepEqual(JSON.parse(out), { file: GOOD, ok: true, problems: [] });
});

test("check prints every problem on standard output and fails", async (t) => {
  t.deepEqual(await waymark(["check", "-c", BAD]), {
    code: 1,
    out: `${BAD}:1:1  router  router is missing  add router: west
${BAD}:2:1  rooter  unknown key  did you mean router?
${BAD}:3:13  interfaces  the list is empty  write interfaces: [{ name: lan0, device: eth1, addresses: [10.1.0.1/24] }]
`,
    err: `waymark: ${BAD} cannot be used: 3 errors, 0 warnings\n`,
  });
  const { code, out } = await waymark(["check", "-c", BAD, "--json"]);
  t.is(code, 1);
  const { ok, problems } = JSON.parse(out) as { ok: boolean; problems: object[] };
  t.false(ok);
  t.deepEqual(problems[1], {
    severity: "error",
    file: BAD,
    line: 2,
    column: 1,
    path: "rooter",
    message: "unknown key",
    mend: "did you mean router?",
  });
});

test("A configuration that cannot be read or used stops every command with one message", async (t) => {
  const commands = [
    ["check"],
    ["run"],
    ["replay", "--rx", "lan0=x", "--tx-dir", directory],
    ["explain", "--rx", "lan0", "--packet", "icmp 1.1.1.1 > 2.2.2.2"],
  ];
  for (const [name, ...words] of [...commands, ["show", "peers"]]) {
    const missing = join(directory, "none.yaml");
    const { code, err } = await waymark([name, ...words, "-c", missing]);
    t.is(code, 1);
    t.is(err, `waymark: cannot read ${missing}: there is no such file or directory\n`);
  }
  for (const [name, ...words] of commands.slice(1)) {
    const { code, err } = await waymark([name, ...words, "-c", BAD]);
    t.is(code, 1);
    t.regex(err, /bad\.yaml:2:1 {2}rooter {2}unknown key[\s\S]*\nwaymark: .* cannot be used: 3 errors, 0 warnings\n$/);
  }
  t.regex((await waymark(["check", "-c", directory])).err, /^waymark: cannot read .*: it is a directory\n$/);
});

test("replay hands captures, directory and seed to the engine and prints what is not zero", async (t) => {
  const asked: unknown[] = [];
  const router: Partial<RouterModule> = {
    replayCaptures: async (config, options) => {
      asked.push(config.router, options);
      return { "frames.received": 12, "drop.ttl": 0, "drop.no-service": 3 };
    },
  };
  const txDir = join(directory, "new/out");
  const words = ["replay", "-c", GOOD, "--rx", `lan0=${CAPTURE}`, "--rx", `wan0=${CAPTURE}`, "--tx-dir", txDir];
  t.deepEqual(await waymark([...words, "--seed", "7"], router), {
    code: 0,
    out: "COUNTER          VALUE\nframes.received     12\ndrop.no-service      3\n",
    err: "",
  });
  const rx = [
    { interface: "lan0", file: CAPTURE },
    { interface: "wan0", file: CAPTURE },
  ];
  t.deepEqual(asked, ["west", { rx, txDir, seed: 7 }]);
  const json = await waymark([...words, "--json"], router);
  t.deepEqual(JSON.parse(json.out), { "frames.received": 12, "drop.ttl": 0, "drop.no-service": 3 });
  t.deepEqual(asked[3], { rx, txDir, seed: 1 }, "the same bytes out without a seed too");
});

test("replay says what is wrong with its captures and its directory", async (t) => {
  const replay = (rx: string[], txDir = join(directory, "out")) =>
    waymark(["replay", "-c", GOOD, ...rx.flatMap((text) => ["--rx", text]), "--tx-dir", txDir]);
  const failed = async (rx: string[], message: string, txDir?: string) =>
    t.deepEqual(await replay(rx, txDir), { code: 1, out: "", err: `waymark: ${message}\n` });
  await failed([`dmz0=${CAPTURE}`], "the configuration has no interface dmz0: it has lan0, wan0");
  await failed(["lan0=/none.pcap"], "cannot read /none.pcap: there is no such file or directory");
  await failed([`lan0=${directory}`], `cannot read ${directory}: it is a directory`);
  await failed([`lan0=${CAPTURE}`], `cannot write to ${CAPTURE}: it is there and is not a directory`, CAPTURE);
  mkdirSync(join(directory, "loop"));
  const loop = file("loop/wan0.pcap", "");
  await failed([`lan0=${loop}`], `${loop} would be overwritten: name another --tx-dir`, join(directory, "loop"));
  for (const rx of [["lan0"], ["=x"], ["lan0="], [`lan0=${CAPTURE}`, `lan0=${CAPTURE}`]])
    t.is((await replay(rx)).code, 2, rx.join());
  t.is(
    (await waymark(["replay", "-c", GOOD, "--rx", `lan0=${CAPTURE}`, "--tx-dir", directory, "--seed", "-1"])).code,
    2,
  );
});

test("explain prints the engine's steps and verdict", async (t) => {
  const explanation = {
    verdict: "forwarded",
    steps: [
      { step: "tenant", outcome: "corp", reason: "the interface's tenant" },
      { step: "service route", outcome: "peer east", reason: "" },
    ],
  };
  const asked: unknown[] = [];
  const router: Partial<RouterModule> = {
    explainPacket: (_, options) => {
      asked.push(options);
      return explanation;
    },
  };
  const words = ["explain", "-c", GOOD, "--rx", "lan0", "--packet", "udp 10.1.0.2:5 > 10.2.0.2:53"];
  t.deepEqual(await waymark(words, router), {
    code: 0,
    out: " 1. tenant         corp: the interface's tenant\n 2. service route  peer east\nverdict: forwarded\n",
    err: "",
  });
  const packet = {
    protocol: 17,
    source: 0x0a010002,
    destination: 0x0a020002,
    sourcePort: 5,
    destinationPort: 53,
    tcpFlags: 0,
  };
  t.deepEqual(asked, [{ interface: "lan0", packet }]);
  t.deepEqual(JSON.parse((await waymark([...words, "--json"], router)).out), explanation);
  t.like(await waymark(["explain", "-c", GOOD, "--rx", "lan9", "--packet", "icmp 1.1.1.1 > 2.2.2.2"], router), {
    code: 1,
    err: "waymark: the configuration has no interface lan9: it has lan0, wan0\n",
  });
  const wrong = await waymark(
    ["explain", "-c", GOOD, "--rx", "lan0", "--packet", "tcp 10.1.0.2 > 10.2.0.2:443"],
    router,
  );
  t.is(wrong.code, 2);
  t.regex(wrong.err, /10\.1\.0\.2 has no port: write 10\.1\.0\.2:PORT/);
});

const PATH = { interface: "wan0", address: "198.18.0.2", state: "up", keyVersion: null, clockOffsetMs: null };
const PEERS = { peers: [{ name: "east", security: null, paths: [PATH] }] };

test.serial("show asks the router that -c or --socket names", async (t) => {
  const socket = new AdminSocket(socketPath, (resource) => {
    if (resource === "peers") return PEERS;
    return resource === "paths" ? { nonsense: true } : undefined;
  });
  await socket.listen();
  const text =
    "PEER  INTERFACE  ADDRESS     STATE  SECURITY  KEYS  CLOCK\neast  wan0       198.18.0.2  up     -         -     -\n";
  t.deepEqual(await waymark(["show", "peers", "-c", GOOD]), { code: 0, out: text, err: "" });
  t.deepEqual(await waymark(["show", "peers", "--socket", socketPath]), { code: 0, out: text, err: "" });
  const json = await waymark(["show", "peers", "--socket", socketPath, "--json"]);
  t.deepEqual(JSON.parse(json.out), {
    ...PEERS,
  });
  t.like(await waymark(["show", "paths", "--socket", socketPath]), {
    code: 1,
    err: `waymark: what the router at ${socketPath} answered is not a list of paths: is it another version?\n`,
  });
  t.like(await waymark(["show", "services", "--socket", socketPath]), {
    code: 1,
    err: "waymark: this router has no services to show\n",
  });
  await socket.close();
  t.like(await waymark(["show", "peers", "--socket", socketPath]), {
    code: 1,
    err: `waymark: no router listens at ${socketPath}: is it running? (waymark run -c FILE; -c or --socket says where)\n`,
  });
});

test.serial("show --watch asks every second until the router is gone, and redraws a terminal", async (t) => {
  for (const isTerminal of [false, true]) {
    let asked = 0;
    const socket = new AdminSocket(socketPath, () => {
      asked++;
      if (asked === 2) setImmediate(() => socket.close());
      return { "frames.received": asked };
    });
    await socket.listen();
    const { code, out } = await waymark(["show", "counters", "--socket", socketPath, "--watch"], {}, isTerminal);
    t.is(code, 1);
    t.regex(out, /frames\.received {6}1\n[\s\S]*frames\.received {6}2\n/);
    t.is(out.split("\x1b[H\x1b[2J").length, isTerminal ? 3 : 1);
  }
});

test("show counters --describe needs no router and knows every counter", async (t) => {
  const { code, out } = await waymark(["show", "counters", "--describe"]);
  t.is(code, 0);
  for (const { name, sentence } of counterReference) t.true(out.includes(`${name} `) && out.includes(sentence), name);
  const json = await waymark(["show", "counters", "--describe", "--json"]);
  t.is((JSON.parse(json.out) as object[]).length, counterReference.length);
});

const privileged = process.getuid?.() === 0;
const rootTest = privileged ? test.serial : test.serial.skip;

rootTest("run refuses a device that does not exist", async (t) => {
  const { code, err } = await waymark(["run", "-c", GOOD]);
  t.is(code, 1);
  t.is(err, "waymark: there is no network device no-such-dev0 (interface wan0): `ip link` lists those that exist\n");
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  rootTest(`run starts the router, reads its keys again at SIGHUP, and closes it at ${signal}`, async (t) => {
    const story: string[] = [];
    /** As soon as somebody listens. */
    const hangUp = () =>
      setTimeout(() => (process.listenerCount("SIGHUP") > 0 ? process.emit("SIGHUP") : hangUp()), 10);
    const router: Partial<RouterModule> = {
      dropPrivileges: () => void story.push("drop privileges"),
      startRouter: async (config, { guard, log }) => {
        story.push(`start ${config.router} guard=${guard} log=${log.level}`);
        hangUp();
        return {
          failed: new Promise(() => {}),
          handedOver: new Promise(() => {}),
          reloadKeys: async ({ router: name }) => {
            story.push(`reload ${name}`);
            setTimeout(() => process.emit(signal), 10);
          },
          close: async () => {
            story.push("close");
          },
        };
      },
    };
    t.deepEqual(await waymark(["run", "-c", LIVE, "--no-guard", "--log-level", "error"], router), {
      code: 0,
      out: "",
      err: "",
    });
    t.deepEqual(await waymark(["run", "-c", LIVE], router), { code: 0, out: "", err: "" });
    t.deepEqual(story, [
      "start west guard=false log=error",
      "drop privileges",
      "reload west",
      "close",
      "start west guard=true log=info",
      "drop privileges",
      "reload west",
      "close",
    ]);
  });
}

rootTest("run reads its keys again once it has started when SIGHUP comes before, be it often", async (t) => {
  const story: string[] = [];
  const router: Partial<RouterModule> = {
    dropPrivileges: () => void story.push("drop privileges"),
    startRouter: async () => {
      story.push("start");
      for (let times = 0; times < 3; times++) process.emit("SIGHUP");
      setTimeout(() => process.emit("SIGTERM"), 100);
      return {
        failed: new Promise(() => {}),
        handedOver: new Promise(() => {}),
        reloadKeys: async () => void story.push("reload"),
        close: async () => void story.push("close"),
      };
    },
  };
  t.like(await waymark(["run", "-c", LIVE], router), { code: 0, err: "" });
  t.deepEqual(story, ["start", "drop privileges", "reload", "close"]);
});

test("run is not ended by SIGHUP while it reads its configuration", async (t) => {
  const path = join(directory, "slow.yaml");
  execFileSync("mkfifo", [path]);
  const child = spawn(process.execPath, [MAIN, "run", "-c", path], { stdio: "ignore" });
  const ended = once(child, "exit");
  const fd = await openForReader(path);
  child.kill("SIGHUP");
  writeSync(fd, readFileSync(GOOD));
  closeSync(fd);
  t.deepEqual(await ended, [1, null]);
});

rootTest("run closes the router and exits 1 when a part of it fails", async (t) => {
  const story: string[] = [];
  const router: Partial<RouterModule> = {
    dropPrivileges: () => {},
    startRouter: async () => ({
      failed: Promise.resolve(new Error("worker 1 failed, so the router stops: out of luck")),
      handedOver: new Promise(() => {}),
      reloadKeys: async () => {},
      close: async () => {
        story.push("close");
      },
    }),
  };
  const { code, err } = await waymark(["run", "-c", LIVE], router);
  t.is(code, 1);
  t.is(err, "waymark: worker 1 failed, so the router stops: out of luck\n");
  t.deepEqual(story, ["close"]);
});

rootTest("run tells operators in one line and programmers with a stack", async (t) => {
  const failing = (error: Error): Partial<RouterModule> => ({ startRouter: () => Promise.reject(error) });
  t.is((await waymark(["run", "-c", LIVE], failing(new OperatorError("do this")))).err, "waymark: do this\n");
  const native = Object.assign(new Error("lo: that device is gone"), { code: "ENODEV" });
  t.is((await waymark(["run", "-c", LIVE], failing(native))).err, "waymark: lo: that device is gone\n");
  const ours = await waymark(["run", "-c", LIVE], failing(new RangeError("row 9")));
  t.is(ours.code, 1);
  t.regex(ours.err, /^waymark: RangeError: row 9\n +at /);
});

rootTest("run without root says what it needs", (t) => {
  const drop = ["--reuid=65534", "--regid=65534", "--clear-groups"];
  const run = (caps: string, ...words: string[]) =>
    spawnSync(
      "setpriv",
      [...drop, `--inh-caps=${caps}`, `--ambient-caps=${caps}`, process.execPath, MAIN, "run", "-c", LIVE, ...words],
      { encoding: "utf8" },
    );
  const bare = run("+dac_read_search");
  t.is(bare.status, 1);
  t.is(
    bare.stderr,
    "waymark: no permission to capture and send frames: run as root, or with CAP_NET_RAW and CAP_NET_ADMIN\n",
  );
  const guarded = run("+dac_read_search,+net_raw");
  t.is(guarded.status, 1);
  t.is(
    guarded.stderr,
    "waymark: no permission to install the guard: run as root or with CAP_NET_ADMIN, or start with --no-guard\n",
  );
});

test("The installed program has exit codes, and a reader that leaves early is quiet", async (t) => {
  const run = (...words: string[]) => spawnSync(process.execPath, [MAIN, ...words], { encoding: "utf8" });
  t.is(run("check", "-c", GOOD).status, 0);
  t.is(run("check", "-c", BAD).status, 1);
  t.is(run("check").status, 2);
  t.regex(readFileSync(MAIN, "utf8"), /^#!\/usr\/bin\/env node\n/);
  const leaving = spawn(process.execPath, [MAIN, "show", "counters", "--describe"], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  leaving.stdout.destroy();
  let said = "";
  leaving.stderr.on("data", (chunk) => {
    said += chunk;
  });
  await once(leaving, "exit");
  t.is(said, "");
});

test("A command fails also where nobody reads why", async (t) => {
  const path = join(directory, "messages");
  execFileSync("mkfifo", [path]);
  // Open both ways, it has a reader who reads nothing.
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  t.throws(() => fill(fd), { code: "EAGAIN" });
  const words = [MAIN, "check", "-c", join(directory, "none.yaml")];
  const child = spawn(process.execPath, words, { stdio: ["ignore", "ignore", fd] });
  const late = setTimeout(() => child.kill("SIGKILL"), 30_000);
  t.deepEqual(await once(child, "exit"), [1, null]);
  clearTimeout(late);
  closeSync(fd);
});

test("show starts without the schema library", (t) => {
  const trace = spawnSync(
    process.execPath,
    [
      "--experimental-loader",
      `data:text/javascript,${encodeURIComponent("export async function load(url, context, next) { process._rawDebug(url); return next(url, context); }")}`,
      MAIN,
      "show",
      "counters",
      "--describe",
    ],
    { encoding: "utf8" },
  );
  t.is(trace.status, 0);
  t.true(trace.stderr.includes("/commander/"));
  t.false(trace.stderr.includes("/zod/"));
});
