// The lab telling its story (`make demo`): two routers carry an HTTP download, a UDP exchange and a ping between two
// hosts that have no route to each other; then what the routers and an independent capture say about it.
// Exit 0 if everything held.

import { styleText } from "node:util";
import {
  addressComplaints,
  checksumComplaints,
  type Datagram,
  flowName,
  handshakeComplaints,
  ICMP,
  ICMP_IN_UDP_BYTES,
  lengthComplaints,
  type Packet,
  sum,
  UDP,
  type WireSession,
} from "./capture.ts";
import { CLIENT, type Lab, labUnavailable, openLab, SERVER } from "./lab.ts";
import { converse, download, type Evidence, FILE_BYTES, gatherEvidence, offerFile } from "./workload.ts";

const PINGS = 5;
const UDP_SIZES = [1, 500, 1472];

const failures: string[] = [];
const number = new Intl.NumberFormat("en");

function title(text: string): void {
  console.log(`\n${process.stdout.isTTY ? styleText("bold", text) : text}\n`);
}

function line(label: string, text: string): void {
  console.log(`  ${label.padEnd(16)}${text}`);
}

/** One line of what happened; `holds` decides whether the demo may succeed. */
function check(label: string, holds: boolean, text: string): void {
  line(label, `${holds ? "ok" : "FAILED"}  ${text}`);
  if (!holds) failures.push(label);
}

async function story(lab: Lab): Promise<void> {
  title("Two networks, no route between them, two session routers");
  console.log(`  client ${CLIENT} ── west ══ 198.18.0.1 ══ wire ══ 198.18.0.2 ══ east ── ${SERVER} server\n`);
  const { stdout } = await lab.run("client", "ping", "-c", "1", "-W", "1", SERVER);
  // What waits for the router's ARP answer must not travel later.
  await lab.run("client", "ip", "neigh", "flush", "all");
  check("before", stdout.includes("100% packet loss"), "without the routers the server cannot be reached");
  const sha256 = await offerFile(lab);
  await lab.startCaptures();
  await lab.startRouters();
  line("routers", "waymark run -c west.yaml, waymark run -c east.yaml: ready");

  title("Traffic");
  await traffic(lab, sha256);

  title("Sessions: waymark show sessions, on west");
  const shown = await lab.waymark("west", "show", "sessions", "--socket", lab.routers[0].socketPath);
  console.log(indent(shown.stdout.trimEnd()));
  if (shown.code !== 0) check("show sessions", false, shown.stderr);

  const evidence = await gatherEvidence(lab);
  const [wire] = evidence.wires;
  const http = wire.sessions.find((session) => session.destination === `${SERVER}:8080`);
  if (http) {
    title("The handshake of the download, as tcpdump saw it on the wire");
    await handshake(lab, http);
  }

  title("Bytes on the wire against bytes on the LAN (IP packets, both ways)");
  bytes(wire.sessions, evidence.received);

  title("What the captures say");
  verdicts(evidence);

  await lab.stopRouters();
  const tables = await Promise.all(lab.routers.map(({ name }) => lab.run(name, "nft", "list", "tables")));
  const guards = tables.map((table) => table.stdout).join("");
  check(
    "stop",
    guards === "",
    guards || "after SIGTERM both routers took their guards away and ended with exit code 0",
  );
}

async function traffic(lab: Lab, sha256: string): Promise<void> {
  const start = Date.now();
  const done = await download(lab);
  const seconds = (Date.now() - start) / 1000;
  const rate = (FILE_BYTES * 8) / seconds / 1e6;
  const whole = done.code === 0 && done.sha256 === sha256;
  check(
    "HTTP download",
    whole,
    done.stderr.trim() || `50 MB, byte for byte, in ${seconds.toFixed(1)} s (${rate.toFixed(0)} Mbit/s)`,
  );
  const udp = await converse(lab, "client", "udp", SERVER, 7002, ...UDP_SIZES);
  check(
    "UDP exchange",
    udp.code === 0,
    udp.stderr.trim() || `requests of ${UDP_SIZES.map((size) => number.format(size)).join(", ")} bytes answered`,
  );
  const ping = await lab.run("client", "ping", "-c", String(PINGS), "-i", "0.5", SERVER);
  check("ping", / 0% packet loss/.test(ping.stdout), ping.stdout.trim().split("\n").slice(-2).join("; "));
}

/** tcpdump's own lines for the first packets of a session, in full while they carry metadata. */
async function handshake(lab: Lab, session: WireSession): Promise<void> {
  const ports = [session.waypoint.initiator, session.waypoint.responder].map((end) => `port ${end.split(":")[1]}`);
  const filter = `tcp and ${ports.join(" and ")}`;
  const dump = await lab.run("wire1", "tcpdump", "-r", lab.capturePath("wire1"), "-n", "-t", "-X", "-c", "4", filter);
  const packets = dump.stdout.trimEnd().split(/\n(?=\S)/);
  const first = session.forward[0].metadataBytes;
  console.log(
    `  The true session ${session.source} > ${session.destination} travels as ${first} bytes of metadata behind the TCP header`,
  );
  console.log(
    "  (LH....g. marks it), until the other side has answered with its own. The packets after that carry none.\n",
  );
  packets.forEach((packet, at) => {
    const [head, ...hex] = packet.split("\n");
    console.log(indent(head));
    if (at < 2) console.log(indent(hex.join("\n").replaceAll("\t", "  ")));
  });
}

function bytes(sessions: readonly WireSession[], received: Evidence["received"]): void {
  const columns = (...cells: (string | number)[]) =>
    console.log(
      `  ${cells.map((cell, at) => (at === 0 ? String(cell).padEnd(14) : (typeof cell === "number" ? number.format(cell) : cell).padStart(11))).join("")}`,
    );
  columns("", "packets", "LAN", "wire", "metadata", "in UDP", "fragments", "lost", "added");
  const names = new Map([
    [ICMP, "ping"],
    [UDP, "UDP exchange"],
  ]);
  const rows = new Map<string, WireSession[]>();
  for (const session of sessions) {
    const name = names.get(session.protocol) ?? "HTTP download";
    rows.set(name, [...(rows.get(name) ?? []), session]);
  }
  for (const [name, group] of rows) {
    const datagrams: Datagram[] = group.flatMap((session) => [...session.forward, ...session.reverse]);
    const packets: Packet[] = group.flatMap(({ protocol, source, destination }) => [
      ...(received.get(flowName(protocol, source, destination)) ?? []),
      ...(received.get(flowName(protocol, destination, source)) ?? []),
    ]);
    const lan = sum(packets.map((packet) => packet.ipLength));
    const wire = sum(datagrams.map((datagram) => datagram.wireBytes));
    const metadata = sum(datagrams.map((datagram) => datagram.metadataBytes));
    const inUdp = name === "ping" ? datagrams.length * ICMP_IN_UDP_BYTES : 0;
    const fragments = sum(datagrams.map((one) => one.wireBytes - one.length - one.metadataBytes));
    const { lostBytes } = lengthComplaints(group, received);
    const added = wire - lan - metadata - inUdp - fragments - lostBytes;
    columns(name, packets.length, lan, wire, metadata, inUdp, fragments, lostBytes, added);
    if (added !== 0) failures.push(`bytes of ${name}`);
  }
}

function verdicts({ wires: [wire], received, fromRouters }: Evidence): void {
  const say = (label: string, complaints: readonly string[], text: string) =>
    check(label, complaints.length === 0, complaints.length === 0 ? text : complaints.slice(0, 3).join("; "));
  const { complaints, compared, lost } = lengthComplaints(wire.sessions, received);
  const clean = wire.sessions
    .flatMap(({ forward, reverse }) => [...forward, ...reverse])
    .filter((one) => one.metadataBytes === 0);
  say(
    "addresses",
    addressComplaints(wire.packets, wire.addresses),
    `the wire shows ${wire.addresses.join(" and ")} and nothing else`,
  );
  say(
    "metadata",
    [...wire.complaints, ...handshakeComplaints(wire.sessions)],
    `in the first packets of ${wire.sessions.length} sessions, none in ${number.format(clean.length)} packets after`,
  );
  say("lengths", complaints, `${number.format(compared)} packets compared, 0 bytes added (${lost} lost on the way)`);
  say(
    "checksums",
    checksumComplaints([...wire.packets, ...fromRouters]),
    `tshark finds all of ${number.format(wire.packets.length)} frames good`,
  );
  check("sessions", wire.sessions.length >= 1 + UDP_SIZES.length + 1, `${wire.sessions.length} on the wire`);
}

function indent(text: string): string {
  return text.replace(/^/gm, "  ");
}

async function main(): Promise<void> {
  const missing = labUnavailable();
  if (missing !== undefined) throw new Error(`the demo ${missing}`);
  const lab = await openLab("two-routers");
  try {
    await story(lab);
  } finally {
    await lab.close();
  }
  if (failures.length > 0) throw new Error(`did not hold: ${failures.join(", ")}`);
}

try {
  await main();
  console.log("\nAll of it held.\n");
} catch (error) {
  console.error(`\nFAILED: ${(error as Error).message}\n`);
  process.exitCode = 1;
}
