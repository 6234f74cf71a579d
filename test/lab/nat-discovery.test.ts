// What coturn's client finds out about source NAT (RFC 5780): a server with two addresses outside, and a host behind one router, or
// behind two with the network between them.

import { spawnSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import type { ExecutionContext } from "ava";
import { type Lab, openLab } from "./lab.ts";
import { labTest } from "./lab-test.ts";
import { ATTEMPTS, until } from "./watched.ts";

const FIRST = "198.18.0.50";
const SECOND = "198.18.0.51";
const MAPPING = /NAT with Endpoint Independent Mapping/;
const HAIRPINNING = /Received a request \(maybe a successful hairpinning\)/;
const NAT_ADDRESS = "198.18.0.1";

const hasCoturn = spawnSync("sh", ["-c", "command -v turnserver turnutils_natdiscovery"]).status === 0;

function discoveryTest(title: string, body: (t: ExecutionContext) => Promise<void>): void {
  if (hasCoturn) labTest(title, body);
  else labTest.skip(`${title} (skipped: needs Debian's coturn)`, body);
}

/** STUN on both addresses, in a node that has them, for as long as the lab is there. */
async function startServer(lab: Lab, node: string, addresses: readonly string[], from: string): Promise<void> {
  const listening = addresses.flatMap((address) => ["-L", address]);
  const options = ["-n", "--stun-only", "--no-cli", "--no-tls", "--no-dtls", "-l", "stdout", "--pidfile", "turn.pid"];
  lab.spawn(node, "turnserver", [...options, ...listening]);
  await until("a STUN server answers", async () => {
    const asked = await lab.run(from, "timeout", "2", "turnutils_stunclient", addresses[0]);
    return asked.stdout.includes("UDP reflexive addr") ? undefined : asked.stdout + asked.stderr;
  });
}

/** Ask until `wanted` is found out, three times in all: each question is sent once, and its answer waited for three seconds. */
async function discover(lab: Lab, what: string, server: string, wanted = /./): Promise<string> {
  for (let attempt = 1; ; attempt++) {
    const { stdout, stderr } = await lab.run("client", "timeout", "30", "turnutils_natdiscovery", what, server);
    if (attempt === ATTEMPTS || wanted.test(stdout + stderr)) return stdout + stderr;
  }
}

const top = (lab: Lab, router: string) => `authority: lab
router: ${router}
control: { socket: ${lab.router(router).socketPath} }
tenants: [{ name: corp }]
`;

discoveryTest("behind one router coturn finds endpoint-independent mapping and hairpinning", async (t) => {
  const lab = await openLab("two-routers");
  try {
    const west = lab.router("west");
    await writeFile(
      west.configPath,
      `${top(lab, "west")}interfaces:
  - { name: lan0, device: lan0, addresses: [10.1.0.1/24], tenant: corp }
  - { name: wan0, device: wan0, addresses: [${NAT_ADDRESS}/24] }
services: [{ name: internet, addresses: [198.18.0.0/24], access: [corp] }]
service-routes: [{ service: internet, interface: wan0, source-nat: interface }]
`,
    );
    lab.addStation("stun", lab.wires[0], FIRST);
    await lab.run("stun", "ip", "address", "add", `${SECOND}/24`, "dev", "eth0");
    await lab.startRouters([west]);
    await startServer(lab, "stun", [FIRST, SECOND], "client");
    const mapping = await discover(lab, "-m", FIRST, MAPPING);
    t.regex(mapping, MAPPING, mapping);
    t.regex(mapping, new RegExp(`UDP reflexive addr: ${NAT_ADDRESS.replaceAll(".", "\\.")}:`));
    const hairpinning = await discover(lab, "-H", FIRST, HAIRPINNING);
    t.regex(hairpinning, HAIRPINNING, hairpinning);
    t.log(await discover(lab, "-f", FIRST));
  } finally {
    await lab.close();
  }
});

discoveryTest("behind two routers coturn finds endpoint-independent mapping and hairpinning", async (t) => {
  const lab = await openLab("two-routers");
  try {
    const services = "services: [{ name: internet, addresses: [10.2.0.0/24], access: [corp] }]\n";
    await writeFile(
      lab.router("west").configPath,
      `${top(lab, "west")}${services}interfaces:
  - { name: lan0, device: lan0, addresses: [10.1.0.1/24], tenant: corp }
  - { name: wan0, device: wan0, addresses: [198.18.0.1/24] }
service-routes: [{ service: internet, peer: east }]
peers: [{ name: east, paths: [{ interface: wan0, address: 198.18.0.2 }] }]
`,
    );
    await writeFile(
      lab.router("east").configPath,
      `${top(lab, "east")}${services}interfaces:
  - { name: lan0, device: lan0, addresses: [10.2.0.1/24] }
  - { name: wan0, device: wan0, addresses: [198.18.0.2/24] }
service-routes: [{ service: internet, interface: lan0, source-nat-pool: [10.2.0.16/30] }]
peers: [{ name: west, paths: [{ interface: wan0, address: 198.18.0.1 }] }]
`,
    );
    await lab.run("server", "ip", "address", "add", "10.2.0.3/24", "dev", "eth0");
    await lab.startRouters();
    await startServer(lab, "server", ["10.2.0.2", "10.2.0.3"], "client");
    const mapping = await discover(lab, "-m", "10.2.0.2", MAPPING);
    t.regex(mapping, MAPPING, mapping);
    t.regex(mapping, /UDP reflexive addr: 10\.2\.0\.1[6-9]:/);
    const hairpinning = await discover(lab, "-H", "10.2.0.2", HAIRPINNING);
    t.regex(hairpinning, HAIRPINNING, hairpinning);
    // The kernel of the host outside asks for pool addresses by ARP, and a stream goes as it does without NAT.
    const page = await lab.run(
      "client",
      "curl",
      "--silent",
      "--show-error",
      "--max-time",
      "10",
      "http://10.2.0.2:8080/",
    );
    t.not(page.code, 28, page.stderr);
  } finally {
    await lab.close();
  }
});
