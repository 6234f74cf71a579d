// A host of an untrusted tenant floods the router with packets that begin sessions, while another host's download goes
// on. Bounded: 100,000 frames, ten seconds.

import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { ExecutionContext } from "ava";
import type { CountersAnswer, TenantsAnswer } from "../../lib/control/show.ts";
import { type Lab, openLab, outcome } from "./lab.ts";
import { labTest } from "./lab-test.ts";
import { converse, offerFile } from "./workload.ts";

const FLOOD = fileURLToPath(new URL("../../../test/lab/flood.py", import.meta.url));
const FRAMES = 100_000;
const SECONDS_MAX = 10;
const HALF_OPEN_MAX = 500;

/** Of each family: the network of the untrusted host's addresses, and those it sends from. */
const FLOODS = {
  4: { members: "10.1.0.128/25", first: "10.1.0.130", last: "10.1.0.250" },
  6: { members: "2001:db8:1::80/121", first: "2001:db8:1::82", last: "2001:db8:1::fa" },
} as const;

async function show<T>(lab: Lab, resource: string): Promise<T> {
  const west = lab.routers[0];
  const shown = await lab.waymark("west", "show", resource, "--socket", west.socketPath, "--json");
  return JSON.parse(shown.stdout) as T;
}

async function through(t: ExecutionContext, lab: Lab): Promise<void> {
  const flood = FLOODS[lab.family];
  const sha256 = await offerFile(lab);
  for (const { name, configPath } of lab.routers) {
    const yaml = await readFile(configPath, "utf8");
    const members = name === "west" ? `, members: [{ interface: lan0, prefixes: ["${flood.members}"] }]` : "";
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
  const curl = lab.spawn("client", "curl", [
    ...["--silent", "--show-error", "--max-time", "90", "--limit-rate", "12M", "--output", "download.bin"],
    `http://${lab.family === 4 ? lab.server : `[${lab.server}]`}:8080/file.bin`,
  ]);
  const downloaded = outcome(curl);
  const ready = async () => (await show<TenantsAnswer>(lab, "tenants")).tenants[0].sessions > 0;
  for (let n = 0; n < 50 && !(await ready()); n++);
  const mac = (await lab.run("west", "cat", "/sys/class/net/lan0/address")).stdout.trim();
  const args = ["eth0", mac, flood.first, flood.last, lab.server, String(FRAMES), String(SECONDS_MAX)];
  const flooding = outcome(lab.spawn("client", "/usr/bin/python3", [FLOOD, ...args]));
  // Another host's connection is let in meanwhile: the flood's limits are its own tenant's.
  const met = await converse(lab, "client", "greeting", lab.server, 7001);
  const { tenants } = await show<TenantsAnswer>(lab, "tenants");
  const sent = Number((await flooding).stdout);
  const { code, stderr } = await downloaded;
  const counters = await show<CountersAnswer>(lab, "counters");

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
}

for (const [title, options] of [
  ["", {}],
  [" (IPv6 over IPv6)", { hosts: 6, wires: [6] }],
] as const) {
  labTest(
    `a download goes on to its end through a flood of new sessions, and what is refused has a name${title}`,
    async (t) => {
      const lab = await openLab("two-routers", options);
      try {
        await through(t, lab);
      } finally {
        await lab.close();
      }
    },
  );
}
