// A host of an untrusted tenant floods the router with packets that begin sessions, while another host's download goes
// on. Bounded: 100,000 frames, ten seconds.

import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import type { CountersAnswer, TenantsAnswer } from "../../lib/control/show.ts";
import { type Lab, openLab, outcome, SERVER } from "./lab.ts";
import { labTest, missing } from "./lab-test.ts";
import { converse, offerFile } from "./workload.ts";

const FLOOD = fileURLToPath(new URL("../../../test/lab/flood.py", import.meta.url));
const FRAMES = 100_000;
const SECONDS_MAX = 10;
const HALF_OPEN_MAX = 500;

let lab: Lab;
let sha256: string;

test.before(async () => {
  if (missing !== undefined) return;
  lab = await openLab("two-routers");
  sha256 = await offerFile(lab);
  for (const { name, configPath } of lab.routers) {
    const yaml = await readFile(configPath, "utf8");
    const members = name === "west" ? ", members: [{ interface: lan0, prefixes: [10.1.0.128/25] }]" : "";
    await writeFile(
      configPath,
      yaml
        .replace(
          "tenants: [{ name: corp }]",
          `tenants: [{ name: corp }, { name: guest, max-half-open: ${HALF_OPEN_MAX}${members} }]`,
        )
        .replaceAll("access: [corp]", "access: [corp, guest]"),
    );
  }
  await lab.startRouters();
});
test.after.always(async () => {
  await lab?.close();
});

async function show<T>(resource: string): Promise<T> {
  const west = lab.routers[0];
  const shown = await lab.waymark("west", "show", resource, "--socket", west.socketPath, "--json");
  return JSON.parse(shown.stdout) as T;
}

labTest("a download goes on to its end through a flood of new sessions, and what is refused has a name", async (t) => {
  const curl = lab.spawn("client", "curl", [
    ...["--silent", "--show-error", "--max-time", "90", "--limit-rate", "12M", "--output", "download.bin"],
    `http://${SERVER}:8080/file.bin`,
  ]);
  const downloaded = outcome(curl);
  const ready = async () => (await show<TenantsAnswer>("tenants")).tenants[0].sessions > 0;
  for (let n = 0; n < 50 && !(await ready()); n++);
  const mac = (await lab.run("west", "cat", "/sys/class/net/lan0/address")).stdout.trim();
  const args = ["eth0", mac, "10.1.0.130", "10.1.0.250", SERVER, String(FRAMES), String(SECONDS_MAX)];
  const flood = outcome(lab.spawn("client", "/usr/bin/python3", [FLOOD, ...args]));
  // Another host's connection is let in meanwhile: the flood's limits are its own tenant's.
  const met = await converse(lab, "client", "greeting", SERVER, 7001);
  const { tenants } = await show<TenantsAnswer>("tenants");
  const sent = Number((await flood).stdout);
  const { code, stderr } = await downloaded;
  const counters = await show<CountersAnswer>("counters");

  t.is(met.code, 0, met.stderr);
  t.is(code, 0, stderr);
  const bytes = await readFile(join(lab.directory, "download.bin"));
  t.is(createHash("sha256").update(bytes).digest("hex"), sha256);
  t.true(sent > 5_000, `${sent} frames`);
  t.deepEqual(
    tenants.map(({ name, maxHalfOpen }) => [name, maxHalfOpen]),
    [
      ["corp", null],
      ["guest", HALF_OPEN_MAX],
    ],
  );
  t.true(tenants[1].halfOpen <= HALF_OPEN_MAX);
  const refused = counters["drop.tenant-half-open-limit"] + counters["drop.slow-path-full"];
  t.true(refused > 1_000, `${refused} of ${sent} refused`);
  t.is(counters["sessions.evicted"], 0);
  t.is(counters["drop.session-table-full"], 0);
  const lost = counters["interface.lan0.rx-kernel-drops"];
  t.log(
    `${sent} frames sent, ${refused} refused, ${lost} not fetched in time, ${counters["sessions.opened"]} sessions opened`,
  );
});
