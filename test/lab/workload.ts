// The captures of one lab, read and sorted: what each wire showed, what the hosts sent and what they received.

import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { lanFlows, type Packet, readCapture, type WireSession, wireSessions } from "./capture.ts";
import type { Lab, Outcome, Wire } from "./lab.ts";

export const FILE_BYTES = 50 << 20;
/** A machine that others keep busy may take its time with an answer. */
const PING_MS_MAX = 20_000;
const HOST_CLIENT = fileURLToPath(new URL("./host-client.js", import.meta.url));

export interface WireEvidence extends Wire {
  readonly packets: readonly Packet[];
  readonly sessions: readonly WireSession[];
  /** Packets that belong to no session, or contradict theirs. */
  readonly complaints: readonly string[];
}

export interface Evidence {
  readonly wires: readonly WireEvidence[];
  /** By flowName: packets as the sending host's device had them (super-frames), and as the receiving host's had them. */
  readonly sent: ReadonlyMap<string, readonly Packet[]>;
  readonly received: ReadonlyMap<string, readonly Packet[]>;
  /** Every packet that a router sent to a host. */
  readonly fromRouters: readonly Packet[];
}

/** End the lab's captures and read them. */
export async function gatherEvidence(lab: Lab): Promise<Evidence> {
  await lab.stopCaptures();
  const client = await readCapture(lab.capturePath("client"));
  const server = await readCapture(lab.capturePath("server"));
  const wires: WireEvidence[] = [];
  for (const wire of lab.wires) {
    const packets = await readCapture(lab.capturePath(wire.name));
    wires.push({ ...wire, packets, ...wireSessions(packets) });
  }
  const fromRouters = [...client.filter(goesTo(lab.client)), ...server.filter(goesTo(lab.server))];
  const fromHosts = [...client.filter(goesTo(lab.server)), ...server.filter(goesTo(lab.client))];
  return { wires, sent: lanFlows(fromHosts), received: lanFlows(fromRouters), fromRouters };
}

function goesTo(address: string): (packet: Packet) => boolean {
  return (packet) => packet.destinationAddress === address;
}

/** Put a random file where the hosts' HTTP servers offer it. Returns its SHA-256. */
export async function offerFile(lab: Lab, length = FILE_BYTES): Promise<string> {
  const bytes = randomBytes(length);
  await writeFile(join(lab.directory, "file.bin"), bytes);
  return createHash("sha256").update(bytes).digest("hex");
}

/** Download the offered file with curl from client to server. Returns curl's outcome and the SHA-256 of what arrived. */
export async function download(lab: Lab): Promise<Outcome & { sha256: string }> {
  const url = `http://${lab.family === 4 ? lab.server : `[${lab.server}]`}:8080/file.bin`;
  const done = await lab.run(
    "client",
    "curl",
    "--silent",
    "--show-error",
    "--max-time",
    "240",
    "--output",
    "download.bin",
    url,
  );
  const bytes = done.code === 0 ? await readFile(join(lab.directory, "download.bin")) : Buffer.alloc(0);
  return { ...done, sha256: createHash("sha256").update(bytes).digest("hex") };
}

/** Run a conversation of host-client.ts on a host. */
export async function converse(lab: Lab, host: "client" | "server", ...args: (string | number)[]): Promise<Outcome> {
  return await lab.run(host, process.execPath, HOST_CLIENT, ...args.map(String));
}

/**
 * Ping the server: the first `count` must be answered, each once. Returns what ping said where one was not, or undefined. So
 * many of the first as `toldMax` may be told that they are too big in place of an answer; then those behind them must be
 * answered. Not by -c: ping waits for its last answer only as long as between two or twice as long as another took, whatever
 * -W says; nor by -w, which ends at the first error.
 */
export async function ping(
  lab: Lab,
  count: number,
  options: readonly string[],
  toldMax = 0,
): Promise<string | undefined> {
  const child = lab.spawn("client", "stdbuf", ["-oL", "ping", ...options, lab.server]);
  const ended = once(child, "close");
  let said = "";
  for (const stream of [child.stdout!, child.stderr!])
    stream.setEncoding("utf8").on("data", (text: string) => (said += text));
  const numbers = (line: RegExp) => [...said.matchAll(line)].map(([, number]) => Number(number));
  const areAnswered = () => {
    const answered = numbers(/ bytes from .* icmp_seq=(\d+) /g);
    const told = numbers(/^From .* icmp_seq=(\d+) Packet too big/gm);
    let from = 1;
    while (from <= toldMax && told.includes(from)) from++;
    const wanted = Array.from({ length: count }, (_, n) => from + n);
    return wanted.every((number) => answered.filter((one) => one === number).length === 1);
  };
  for (const deadline = Date.now() + PING_MS_MAX; !areAnswered() && Date.now() < deadline; ) await sleep(20);
  child.kill("SIGINT");
  await ended;
  return areAnswered() ? undefined : said;
}

/** Datagrams that each UDP super-frame of UDP_SEGMENTS stands for. */
const DATAGRAMS = 12;
/**
 * Python for a host, with an address and a UDP port that gives back what it gets: sends datagrams of 1,000 bytes as UDP
 * super-frames, three times, wants each back as it was, and prints `echoed`.
 */
export const UDP_SEGMENTS = `
import os, socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.setsockopt(socket.IPPROTO_UDP, 103, 1000)
for _ in range(3):
    data = os.urandom(1000 * ${DATAGRAMS} - 7)
    s.sendto(data, (sys.argv[1], int(sys.argv[2])))
    got = [s.recv(65536) for _ in range(${DATAGRAMS})]
    want = [data[i:i + 1000] for i in range(0, len(data), 1000)]
    assert sorted(got) == sorted(want), [len(one) for one in got]
print("echoed")
`;
