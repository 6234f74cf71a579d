// Captures in, captures out and counters, through `waymark replay` as an operator runs it. A case is a folder: its
// README says what must happen, in-IF.pcap are the frames, out-IF.pcap and counters.json what came of them. Inputs are
// scapy's (make-inputs.py) or links to another case's output: what one router sends is what the next one receives.
//
// WAYMARK_REGEN=1 (`make golden REGEN=1`) writes outputs and counters anew; look at the difference before it is kept.

import { execFile, spawnSync } from "node:child_process";
import { existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import test from "ava";

const home = fileURLToPath(new URL("../../../test/golden/", import.meta.url));
const cli = fileURLToPath(new URL("../../lib/cli/main.js", import.meta.url));
const PYTHON = "/usr/bin/python3"; // Debian's, which has python3-scapy
const run = promisify(execFile);

const cases = readdirSync(home, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name)
  .sort();

const temporary: string[] = [];
test.after.always(() => {
  for (const folder of temporary) rmSync(folder, { recursive: true });
});

function newFolder(): string {
  temporary.push(mkdtempSync(join(tmpdir(), "waymark-golden-")));
  return temporary[temporary.length - 1];
}

/** The captures of a case by interface, "in" or "out". A link to an output that is not there yet does not count. */
function captures(name: string, which: "in" | "out"): { at: string; file: string }[] {
  return readdirSync(join(home, name))
    .filter((file) => file.startsWith(`${which}-`) && file.endsWith(".pcap") && existsSync(join(home, name, file)))
    .map((file) => ({ at: file.slice(which.length + 1, -5), file: join(home, name, file) }));
}

/** Run a case. Returns the counters that are not zero; the captures are in `folder`. */
async function replay(name: string, folder: string, seed = 1): Promise<Record<string, number>> {
  const rx = captures(name, "in").flatMap(({ at, file }) => ["--rx", `${at}=${file}`]);
  const config = join(home, name, "config.yaml");
  const args = [cli, "replay", "-c", config, ...rx, "--tx-dir", folder, "--seed", String(seed), "--json"];
  const { stdout } = await run(process.execPath, args);
  const counters = Object.entries(JSON.parse(stdout) as Record<string, number>);
  return Object.fromEntries(counters.filter(([, value]) => value !== 0).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Write every case's outputs, again until those that feed each other agree. */
async function regenerate(): Promise<void> {
  await run(PYTHON, [join(home, "make-inputs.py"), home]);
  for (const name of cases) for (const { file } of captures(name, "out")) rmSync(file);
  for (let round = 0, changed = true; changed; round++) {
    if (round === 10) throw new Error("the cases that feed each other do not settle");
    changed = false;
    for (const name of cases) {
      const folder = newFolder();
      const counters = await replay(name, folder);
      writeFileSync(join(home, name, "counters.json"), `${JSON.stringify(counters, null, 2)}\n`);
      for (const file of readdirSync(folder)) {
        const now = readFileSync(join(folder, file));
        const kept = join(home, name, `out-${file}`);
        if (existsSync(kept) && readFileSync(kept).equals(now)) continue;
        writeFileSync(kept, now);
        changed = true;
      }
    }
  }
}

test.before("outputs are written anew when asked", async (t) => {
  t.timeout(300_000);
  if (process.env.WAYMARK_REGEN === "1") await regenerate();
});

for (const name of cases) {
  const readme = readFileSync(join(home, name, "README.md"), "utf8");
  const sentence = readme
    .slice(readme.indexOf("\n"))
    .trim()
    .split(/\.(\s|$)/)[0]
    .replace(/\s+/g, " ");
  test.serial(`${name}: ${sentence}`, async (t) => {
    const folder = newFolder();
    const counters = await replay(name, folder);
    t.deepEqual(counters, JSON.parse(readFileSync(join(home, name, "counters.json"), "utf8")));
    const expected = captures(name, "out");
    t.deepEqual(readdirSync(folder).sort(), expected.map(({ at }) => `${at}.pcap`).sort());
    for (const { at, file } of expected) {
      t.true(readFileSync(join(folder, `${at}.pcap`)).equals(readFileSync(file)), `${at}: compare ${file}`);
    }
  });
}

const withoutScapy = spawnSync(PYTHON, ["-c", "import scapy"]).status !== 0;
(withoutScapy ? test.skip : test)(
  `the inputs are what make-inputs.py makes${withoutScapy ? " (needs python3-scapy)" : ""}`,
  async (t) => {
    const folder = newFolder();
    for (const name of cases) spawnSync("mkdir", [join(folder, name)]);
    await run(PYTHON, [join(home, "make-inputs.py"), folder]);
    let compared = 0;
    for (const name of cases) {
      for (const { file } of captures(name, "in")) {
        if (lstatSync(file).isSymbolicLink()) continue;
        t.true(readFileSync(file.replace(home, `${folder}/`)).equals(readFileSync(file)), file);
        compared++;
      }
    }
    t.true(compared >= cases.length);
  },
);

const withoutTshark = spawnSync("tshark", ["--version"]).status !== 0;
const judged = withoutTshark ? test.skip : test;
const unless = withoutTshark ? " (needs tshark)" : "";

/** What tshark objects to in the outputs of these cases, one line each. */
async function objections(names: readonly string[]): Promise<string[]> {
  const merged = join(newFolder(), "merged.pcap");
  await run("mergecap", [
    "-a",
    "-w",
    merged,
    ...names.flatMap((name) => captures(name, "out").map(({ file }) => file)),
  ]);
  const checks = ["ip", "tcp", "udp"].flatMap((protocol) => ["-o", `${protocol}.check_checksum:TRUE`]);
  const bad =
    "_ws.malformed || ip.checksum.status == 0 || tcp.checksum.status == 0 || udp.checksum.status == 0 || icmp.checksum.status == 0";
  const { stdout } = await run("tshark", ["-r", merged, ...checks, "-d", "udp.port==5000,data", "-Y", bad]);
  return stdout.split("\n").filter((line) => line !== "");
}

judged(`tshark finds every frame that left well formed, with right checksums${unless}`, async (t) => {
  t.deepEqual(await objections(cases.filter((name) => name !== "wrong-checksums")), []);
});

judged(`tshark finds a wrong checksum in every frame that came from a damaged one${unless}`, async (t) => {
  const counters = JSON.parse(readFileSync(join(home, "wrong-checksums", "counters.json"), "utf8"));
  t.is(counters["frames.forwarded"], 7);
  // One was cut into two fabric fragments, each of which carries the damage; the one in ICMP is out of tshark's sight,
  // inside a UDP datagram whose own checksum is right.
  t.is((await objections(["wrong-checksums"])).length, 7 + 1 - 1);
});

test("the same seed gives the same files, another seed other session identifiers", async (t) => {
  const name = "udp-ingress";
  const folders = [newFolder(), newFolder(), newFolder()];
  const seeds = [7, 7, 8];
  const counters = await Promise.all(folders.map((folder, i) => replay(name, folder, seeds[i])));
  const [first, again, other] = folders.map((folder) => readFileSync(join(folder, "wan0.pcap")));
  t.true(first.equals(again));
  t.deepEqual(counters[2], counters[0]);
  const uuid = (capture: Buffer) => /00060010([0-9a-f]{32})/.exec(capture.toString("hex"))?.[1];
  t.regex(uuid(first) ?? "", /^.{12}4.{3}[89ab]/, "an RFC 4122 version 4 identifier");
  t.regex(uuid(other) ?? "", /^.{12}4.{3}[89ab]/);
  t.not(uuid(first), uuid(other));
});
