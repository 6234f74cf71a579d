// What must hold for two hosts whatever the number of routers between them: the traffic first, with captures running,
// then what the captures say about it. A test file declares the suite, one after the other if several, each with a name
// of its own, and may add tests about the last one behind it.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import {
  addressComplaints,
  checksumComplaints,
  ending,
  flowName,
  handshakeComplaints,
  lengthComplaints,
  payloadComplaints,
  portComplaints,
  sum,
  UDP,
} from "./capture.ts";
import { GREETING } from "./host-talk.ts";
import { type Family, type Lab, type LabOptions, type Outcome, openLab, type Shape } from "./lab.ts";
import { labTest } from "./lab-test.ts";
import { converse, download, type Evidence, FILE_BYTES, gatherEvidence, offerFile, ping } from "./workload.ts";

const CONNECTIONS = 200;
/** Connections, the download, three UDP sockets, two pings, and one each of the other conversations. */
const SESSIONS_MIN = CONNECTIONS + 1 + 3 + 2 + 5;
const MTU = 1500;
const ICMP_OR_UDP_HEADER = 8;
/** What keys may put to a packet: initialization vector and padding, and a digest. */
const SEALED_BYTES_MAX = 32 + 16;
const headerOf = (family: Family) => (family === 4 ? 20 : 40);
/** Drops the first SYN toward port 7000 (60 bytes) and lets its repetition pass. */
const DROP_FIRST_SYN = `table inet lab {
  chain input {
    type filter hook input priority 0
    tcp dport 7000 tcp flags & (syn | ack) == syn quota until 100 bytes drop
  }
}`;

export interface Suite {
  lab(): Lab;
  /** What the captures say. The first call ends them. */
  evidence(): Promise<Evidence>;
}

export interface SuiteOptions extends LabOptions {
  /** Every device's offloads, which the lab leaves on otherwise. */
  readonly offloads?: false;
  /** Of the file that is downloaded; 50 MB where nothing is said. */
  readonly fileBytes?: number;
}

/** The lab that is open. */
let current: Lab | undefined;
test.after.always(async () => {
  await current?.close();
});

/** `name` stands in front of the titles. */
export function hostSuite(shape: Shape, options: SuiteOptions = {}, name?: string): Suite {
  const { fileBytes = FILE_BYTES, offloads, protection } = options;
  const isSealed = protection !== undefined;
  let sha256: string;
  let opening: Promise<Lab> | undefined;
  let lab: Lab;
  let evidence: Promise<Evidence> | undefined;
  const gather = () => (evidence ??= gatherEvidence(lab));

  async function opened(): Promise<Lab> {
    await current?.close();
    current = undefined;
    const made = await openLab(shape, options);
    current = made;
    if (offloads === false) await turnOffloadsOff(made);
    if (isSealed) await made.waymark("west", "keys", "generate", "--file", "keys");
    sha256 = await offerFile(made, fileBytes);
    await made.startCaptures();
    await made.startRouters();
    return made;
  }

  const suiteTest = (title: string, body: (t: ExecutionContext) => Promise<void>) =>
    labTest(name === undefined ? title : `${name}: ${title}`, async (t) => {
      lab = await (opening ??= opened());
      await body(t);
    });
  /** What only a wire can show that is in clear. */
  const clearTest = isSealed ? () => {} : suiteTest;

  const hosts = options.hosts ?? 4;
  const wires = options.wires ?? [];
  // A host with IPv6 is told of what does not fit, and cuts it: not here, where every packet is one on the wire.
  const widest = headerOf(wires.includes(6) ? 6 : hosts);
  const put = isSealed ? SEALED_BYTES_MAX : 0;
  const fullDatagram = MTU - widest - ICMP_OR_UDP_HEADER - put;
  const fullPing = hosts === 4 ? 1472 : fullDatagram - ICMP_OR_UDP_HEADER;

  suiteTest("ping loses nothing, with small packets and with full ones", async (t) => {
    for (const size of ["56", `${fullPing}`]) {
      // It may be fragmented, so that nobody need be told that it grows between the routers.
      t.is(await ping(lab, 5, ["-M", "dont", "-i", "0.5", "-s", size]), undefined);
    }
  });

  suiteTest(
    `UDP requests of 1, 500 and ${fullDatagram} bytes are answered, the first of each socket too`,
    async (t) => {
      t.deepEqual(result(t, await converse(lab, "client", "udp", lab.server, 7002, 1, 500, fullDatagram)), {
        answered: [1, 500, fullDatagram],
      });
    },
  );

  suiteTest(`A ${fileBytes >> 20} MB download over HTTP arrives byte for byte`, async (t) => {
    const done = await download(lab);
    t.is(done.code, 0, done.stderr);
    t.is(done.sha256, sha256);
  });

  suiteTest("200 TCP connections at once carry 4,096 bytes both ways each", async (t) => {
    const parallel = await converse(lab, "client", "parallel", lab.server, 7000, CONNECTIONS, 4096);
    t.deepEqual(result(t, parallel), { completed: CONNECTIONS });
  });

  suiteTest("A server that speaks first is heard", async (t) => {
    t.deepEqual(result(t, await converse(lab, "client", "greeting", lab.server, 7001)), { greeted: true });
  });

  suiteTest("A client that has shut down its half reads the answer to its end", async (t) => {
    t.deepEqual(result(t, await converse(lab, "client", "half-close", lab.server, 7003, 100_000)), { read: 300_000 });
  });

  suiteTest("A SYN that was lost is sent again and connects", async (t) => {
    t.is((await lab.run("server", "nft", DROP_FIRST_SYN)).code, 0);
    const { connected, ms } = result(t, await converse(lab, "client", "connect", lab.server, 7000)) as {
      connected: boolean;
      ms: number;
    };
    await lab.run("server", "nft", "delete", "table", "inet", "lab");
    t.true(connected);
    t.true(ms >= 900, `connected after ${ms} ms: no SYN was lost`);
  });

  suiteTest("A port that refuses is refused at once", async (t) => {
    // By the wall clock: the best of three counts.
    const took: number[] = [];
    do {
      const { code, ms } = result(t, await converse(lab, "client", "connect", lab.server, 7009)) as {
        code: string;
        ms: number;
      };
      t.is(code, "ECONNREFUSED");
      took.push(ms);
    } while (Math.min(...took) >= 1_000 && took.length < 3);
    t.log(`refused after ${took.join(", ")} ms`);
    t.true(Math.min(...took) < 1_000, `refused after ${took.join(", ")} ms`);
  });

  suiteTest("The server's host opens a session the other way", async (t) => {
    t.deepEqual(result(t, await converse(lab, "server", "greeting", lab.client, 7001)), { greeted: true });
  });

  suiteTest("show sessions lists the same UUID for a session on every router", async (t) => {
    const uuids = new Set<string>();
    for (const router of lab.routers) {
      const shown = await lab.waymark(router.name, "show", "sessions", "--socket", router.socketPath, "--json");
      t.is(shown.code, 0, shown.stderr);
      const { sessions } = JSON.parse(shown.stdout) as {
        sessions: { uuid: string; protocol: string; destination: string }[];
      };
      const udp = sessions
        .filter((session) => session.destination === ending(lab.server, 7002))
        .map((session) => session.uuid);
      t.is(udp.length, 3);
      uuids.add(udp.sort().join());
    }
    t.is(uuids.size, 1);
  });

  suiteTest("tshark finds every checksum good on the wires and in what the routers send to the hosts", async (t) => {
    const { wires, fromRouters } = await gather();
    for (const packets of [fromRouters, ...wires.map((wire) => wire.packets)]) {
      t.true(packets.length > fileBytes / 5_000);
      t.deepEqual(checksumComplaints(packets, options.plainWires).slice(0, 10), []);
    }
  });

  suiteTest(`The hosts send ${offloads === false ? "no " : ""}super-frames, as offloads are`, async (t) => {
    const { sent } = await gather();
    t.is(
      [...sent.values()].flat().some((packet) => packet.ipLength > MTU),
      offloads !== false,
    );
  });

  suiteTest("A wire shows only the waypoint addresses of its hop", async (t) => {
    for (const wire of (await gather()).wires)
      t.deepEqual(addressComplaints(wire.packets, wire.addresses).slice(0, 10), []);
  });

  clearTest("Every session begins with metadata both ways and continues without", async (t) => {
    for (const { sessions, complaints } of (await gather()).wires) {
      t.true(sessions.length >= SESSIONS_MIN, `${sessions.length} sessions`);
      t.deepEqual([...complaints, ...handshakeComplaints(sessions)].slice(0, 10), []);
      const download = sessions.find((session) => session.destination === ending(lab.server, 8080))!;
      t.true(download.reverse.filter((datagram) => datagram.metadataBytes === 0).length > 1_000);
    }
  });

  clearTest("The router that opens a session takes an even waypoint port and gives its peer an odd one", async (t) => {
    for (const { sessions } of (await gather()).wires) t.deepEqual(portComplaints(sessions).slice(0, 10), []);
  });

  clearTest("A packet is as long on the wire as on the LAN, and 8 bytes longer if it is ICMP", async (t) => {
    const { wires, sent, received } = await gather();
    const onLan = sum([...received.values()].map((packets) => packets.length));
    for (const { name, sessions } of wires) {
      const { complaints, compared, lost } = lengthComplaints(sessions, received);
      t.deepEqual([...complaints, ...payloadComplaints(sessions, sent)].slice(0, 10), []);
      const known = new Set(
        sessions.flatMap(({ protocol, source, destination }) => [
          flowName(protocol, source, destination),
          flowName(protocol, destination, source),
        ]),
      );
      t.deepEqual(
        [...received.keys()].filter((flow) => !known.has(flow)),
        [],
        "every packet that a host received belongs to a session of the wire",
      );
      t.is(compared, onLan);
      t.log(`${name}: ${compared} packets compared, ${lost} on the wire did not reach a host`);
    }
  });

  clearTest("A full first datagram, which its metadata makes too long, crosses in fabric fragments", async (t) => {
    for (const { sessions } of (await gather()).wires) {
      const full = sessions.filter(
        ({ protocol, forward: [first] }) =>
          protocol === UDP && first.length === first.ipHeader + ICMP_OR_UDP_HEADER + fullDatagram,
      );
      t.is(full.length, 1);
      t.true(full[0].forward[0].frames.length > 1);
      t.true(full[0].forward[0].metadataBytes > 0);
    }
  });

  if (isSealed)
    suiteTest("The wires show nothing of what is sealed, and no packet is longer than they take", async (t) => {
      const file = await readFile(join(lab.directory, "file.bin"));
      for (const { name, packets } of (await gather()).wires) {
        t.true(packets.every(({ ipLength }) => ipLength <= MTU));
        const bytes = await readFile(lab.capturePath(name));
        for (const text of ["GET /file.bin", "Content-Length", GREETING]) t.is(bytes.indexOf(text), -1, text);
        for (let at = 0; at < file.length; at += file.length >> 4) t.is(bytes.indexOf(file.subarray(at, at + 24)), -1);
      }
    });

  return { lab: () => lab, evidence: gather };
}

async function turnOffloadsOff(lab: Lab): Promise<void> {
  const script = `for path in /sys/class/net/*; do
  device=\${path##*/}
  [ $device = lo ] || ethtool -K $device tx off tso off gso off gro off >/dev/null
done`;
  for (const node of ["client", "server", ...[...lab.routers, ...lab.wires].map(({ name }) => name)]) {
    const { code, stderr } = await lab.run(node, "sh", "-ec", script);
    if (code !== 0) throw new Error(`${node}: ${stderr}`);
  }
}

/** What a conversation of host-client.ts reported. */
function result(t: ExecutionContext, { code, stdout, stderr }: Outcome): object {
  t.is(code, 0, stderr);
  return JSON.parse(stdout || "{}") as object;
}
