// Two routers with backend af-packet and every offload on: what a host's kernel leaves undone stays undone, through both
// routers and over the wire, until the other host's kernel takes it.

import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import test, { type ExecutionContext } from "ava";
import { addressComplaints, handshakeComplaints } from "./capture.ts";
import { type Lab, MAIN, openLab, SERVER } from "./lab.ts";
import { labTest, missing } from "./lab-test.ts";
import { until } from "./watched.ts";
import { converse, download, FILE_BYTES, gatherEvidence, offerFile, UDP_SEGMENTS } from "./workload.ts";

const UPLOAD_BYTES = 20 << 20;
const ADDON = fileURLToPath(new URL("../../../build/Release/waymark.node", import.meta.url));
const both = { lan: "af-packet", wan: "af-packet" } as const;

let lab: Lab;
let sha256: string;

test.before(async () => {
  if (missing !== undefined) return;
  lab = await openLab("two-routers", { backends: { west: both, east: both } });
  sha256 = await offerFile(lab);
  await lab.startCaptures();
  await lab.startRouters();
});
test.after.always(async () => {
  await lab?.close();
});

async function counters(t: ExecutionContext, at: number): Promise<Record<string, number>> {
  const { name, socketPath } = lab.routers[at];
  const shown = await lab.waymark(name, "show", "counters", "--socket", socketPath, "--json");
  t.is(shown.code, 0, shown.stderr);
  return JSON.parse(shown.stdout);
}

labTest("Bulk TCP arrives byte for byte in both directions", async (t) => {
  const done = await download(lab);
  t.is(done.code, 0, done.stderr);
  t.is(done.sha256, sha256);
  // The server answers with a hash of what it got.
  const upload = await converse(lab, "client", "half-close", SERVER, 7003, UPLOAD_BYTES);
  t.is(upload.code, 0, upload.stderr);
});

labTest("The routers took the bulk in super-frames, and cut none of them", async (t) => {
  for (const at of [0, 1]) {
    const all = await counters(t, at);
    for (const [name, bytes] of [
      ["lan0", at === 0 ? UPLOAD_BYTES : FILE_BYTES],
      ["wan0", at === 0 ? FILE_BYTES : UPLOAD_BYTES],
    ] as const) {
      t.true(all[`interface.${name}.super-frames`] > bytes / 65_536);
      t.true(all[`interface.${name}.rx-frames`] < bytes / 3000, `${all[`interface.${name}.rx-frames`]} frames`);
      t.is(all[`interface.${name}.segments`], 0);
      t.is(all[`interface.${name}.tx-errors`], 0);
    }
    t.is(all["drop.frame-too-long"], 0);
  }
});

labTest("UDP super-frames of a host arrive as the datagrams they stand for, the first of a session too", async (t) => {
  const before = (await counters(t, 0))["interface.lan0.super-frames"];
  const talk = await lab.run("client", "/usr/bin/python3", "-c", UDP_SEGMENTS, SERVER, "7002");
  t.is(talk.stdout, "echoed\n", talk.stderr);
  t.is((await counters(t, 0))["interface.lan0.super-frames"] - before, 3);
});

labTest("tcpdump sees the waypoint packets and the metadata of every session on the wire", async (t) => {
  for (const { packets, sessions, addresses } of (await gatherEvidence(lab)).wires) {
    t.deepEqual(addressComplaints(packets, addresses), []);
    t.is(sessions.length, 3);
    t.deepEqual(handshakeComplaints(sessions), []);
    t.true(packets.some(({ ipLength }) => ipLength > 30_000));
  }
});

labTest("Where the kernel cannot do it, a warning names interface, device and reason, and libpcap does", async (t) => {
  await lab.stopRouters();
  const stub = join(lab.directory, "old-kernel.cjs");
  writeFileSync(
    stub,
    `module.exports = { ...require(${JSON.stringify(ADDON)}), packetOpen(device) {
      throw Object.assign(new Error("no super-frames on " + device), { code: "EOFFLOAD" });
    } };`,
  );
  const { name, configPath, socketPath } = lab.routers[0];
  const router = lab.spawn(name, "env", [`WAYMARK_ADDON=${stub}`, process.execPath, MAIN, "run", "-c", configPath]);
  let log = "";
  for (const stream of [router.stdout, router.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => (log += text));
  }
  await until("the router forwards", async () => (log.includes("forwarding") ? undefined : log));
  const shown = await lab.waymark(name, "show", "interfaces", "--socket", socketPath);
  t.is(shown.code, 0, log);
  const ended = once(router, "exit");
  router.kill("SIGTERM");
  await ended;
  for (const device of ["lan0", "wan0"]) {
    const line = log.split("\n").find((one) => one.includes(`no super-frames on ${device}`));
    t.regex(line ?? log, new RegExp(`interface[^a-z]+${device}.*device[^a-z]+${device}.*using libpcap`));
  }
});
