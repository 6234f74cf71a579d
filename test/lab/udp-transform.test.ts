// TCP between real hosts over a wire that lets no TCP pass: the routers carry it as UDP, and the hosts notice nothing.

import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { readCapture, TCP, UDP } from "./capture.ts";
import { type Backends, type Lab, type LabOptions, openLab, SERVER, type Shape } from "./lab.ts";
import { labTest } from "./lab-test.ts";
import { download, offerFile } from "./workload.ts";

const AF_PACKET: Backends = { lan: "af-packet", wan: "af-packet" };
const NETS: [string, Shape, LabOptions][] = [
  ["two routers", "two-routers", {}],
  ["two routers, af-packet", "two-routers", { backends: { west: AF_PACKET, east: AF_PACKET } }],
  ["three routers", "three-routers", {}],
  ["two routers, signed and encrypted", "two-routers", { protection: { sign: "every-packet", adaptive: false } }],
];

/** What iperf3 sends each way. */
const LOAD_BYTES = 16 << 20;

/** What iperf3 tells of it. */
interface Load {
  readonly end: { readonly sum_received?: { readonly bytes: number } };
  readonly error?: string;
}

/** A firewall in the bridge that each wire is. */
const NO_TCP = `nft -f - <<RULES
table bridge firewall {
  counter refused {}
  counter passed {}
  chain forward {
    type filter hook forward priority 0;
    ip protocol tcp counter name refused drop
    ip protocol udp counter name passed accept
  }
}
RULES`;

async function opened(shape: Shape, options: LabOptions, path: string): Promise<Lab> {
  const lab = await openLab(shape, { ...options, path });
  if (options.protection !== undefined) await lab.waymark("west", "keys", "generate", "--file", "keys");
  for (const wire of lab.wires) {
    const made = await lab.run(wire.name, "sh", "-e", "-c", NO_TCP);
    if (made.code !== 0) throw new Error(made.stderr);
  }
  await lab.startRouters();
  return lab;
}

async function counted(lab: Lab, wire: string, counter: string): Promise<number> {
  const { stdout } = await lab.run(wire, "nft", "list", "counter", "bridge", "firewall", counter);
  return Number(/packets (\d+)/.exec(stdout)![1]);
}

for (const [name, shape, options] of NETS) {
  labTest(`${name}: a download and iperf3 both ways arrive over wires that let no TCP pass`, async (t) => {
    t.timeout(180_000);
    const lab = await opened(shape, options, ", udp-transform: always");
    try {
      const sha256 = await offerFile(lab);
      const got = await download(lab);
      t.is(got.code, 0, got.stderr);
      t.is(got.sha256, sha256);
      const server = lab.spawn("server", "iperf3", ["-s", "--forceflush"], { stdio: ["ignore", "pipe", "ignore"] });
      await once(server.stdout!, "data");
      for (const way of [[], ["-R"]]) {
        const send = ["-c", SERVER, "-n", String(LOAD_BYTES), "-J", ...way];
        const load = async () => JSON.parse((await lab.run("client", "iperf3", ...send)).stdout) as Load;
        let { end, error } = await load();
        // The server may be busy with the end of the one before.
        for (let n = 0; n < 20 && error !== undefined; n++) {
          await sleep(100);
          ({ end, error } = await load());
        }
        // What is on its way when all is sent is not counted as received: some megabytes.
        t.true((end.sum_received?.bytes ?? 0) >= LOAD_BYTES / 4, error);
      }
      for (const wire of lab.wires) {
        t.is(await counted(lab, wire.name, "refused"), 0);
        t.true((await counted(lab, wire.name, "passed")) > 10_000);
      }
    } finally {
      await lab.close();
    }
  });
}

labTest("tshark sees UDP and no TCP on the wire, with right checksums, and TCP at both hosts", async (t) => {
  const lab = await opened("two-routers", { plainWires: true }, ", udp-transform: always");
  try {
    const small = randomBytes(200_000);
    await writeFile(join(lab.directory, "file.bin"), small);
    await lab.startCaptures();
    const got = await download(lab);
    t.is(got.sha256, createHash("sha256").update(small).digest("hex"), got.stderr);
    await lab.stopCaptures();
    const wire = await readCapture(lab.capturePath("wire1"));
    t.true(wire.length > 100);
    t.true(wire.every(({ checksumsGood }) => checksumsGood));
    t.deepEqual([...new Set(wire.filter(({ protocol }) => protocol !== 0).map(({ protocol }) => protocol))], [UDP]);
    for (const host of ["client", "server"]) {
      const packets = await readCapture(lab.capturePath(host));
      t.deepEqual(
        [...new Set(packets.filter(({ protocol }) => protocol !== 0).map(({ protocol }) => protocol))],
        [TCP],
      );
      t.true(packets.length >= 6);
    }
  } finally {
    await lab.close();
  }
});

labTest("without it the firewall keeps every connection from standing", async (t) => {
  const lab = await opened("two-routers", {}, "");
  try {
    const got = await lab.run("client", "curl", "--silent", `http://${SERVER}:8080/`, "--max-time", "10");
    t.not(got.code, 0);
    t.true((await counted(lab, "wire1", "refused")) > 0);
  } finally {
    await lab.close();
  }
});
