// What must hold for two hosts whatever the number of routers between them: the traffic first, with captures running,
// then what the captures say about it. A test file declares the suite once and may add tests of its own behind it.

import test, { type ExecutionContext } from "ava";
import {
  addressComplaints,
  checksumComplaints,
  handshakeComplaints,
  lengthComplaints,
  payloadComplaints,
  portComplaints,
  sum,
  UDP,
} from "./capture.ts";
import { CLIENT, type Lab, type LabOptions, type Outcome, openLab, SERVER, type Shape } from "./lab.ts";
import { labTest, missing } from "./lab-test.ts";
import { converse, download, type Evidence, gatherEvidence, offerFile } from "./workload.ts";

const CONNECTIONS = 200;
/** Connections, the download, three UDP sockets, two pings, and one each of the other conversations. */
const SESSIONS_MIN = CONNECTIONS + 1 + 3 + 2 + 5;
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

export function hostSuite(shape: Shape, options: LabOptions = {}): Suite {
  let lab: Lab;
  let sha256: string;
  let evidence: Promise<Evidence> | undefined;
  const gather = () => (evidence ??= gatherEvidence(lab));

  test.before(async () => {
    if (missing !== undefined) return;
    lab = await openLab(shape, options);
    sha256 = await offerFile(lab);
    await lab.startCaptures();
    await lab.startRouters();
  });
  test.after.always(async () => {
    await lab?.close();
  });

  labTest("ping loses nothing, with small packets and with full ones", async (t) => {
    for (const size of ["56", "1472"]) {
      // It may be fragmented, so that nobody need be told that it grows between the routers.
      const options = ["-M", "dont", "-c", "5", "-i", "0.2", "-W", "2", "-s", size];
      const ping = await lab.run("client", "ping", ...options, SERVER);
      t.regex(ping.stdout, / 0% packet loss/, ping.stderr);
    }
  });

  labTest("UDP requests of 1, 500 and 1,472 bytes are answered, the first of each socket too", async (t) => {
    t.deepEqual(result(t, await converse(lab, "client", "udp", SERVER, 7002, 1, 500, 1472)), {
      answered: [1, 500, 1472],
    });
  });

  labTest("A 50 MB download over HTTP arrives byte for byte", async (t) => {
    const done = await download(lab);
    t.is(done.code, 0, done.stderr);
    t.is(done.sha256, sha256);
  });

  labTest("200 TCP connections at once carry 4,096 bytes both ways each", async (t) => {
    const parallel = await converse(lab, "client", "parallel", SERVER, 7000, CONNECTIONS, 4096);
    t.deepEqual(result(t, parallel), { completed: CONNECTIONS });
  });

  labTest("A server that speaks first is heard", async (t) => {
    t.deepEqual(result(t, await converse(lab, "client", "greeting", SERVER, 7001)), { greeted: true });
  });

  labTest("A client that has shut down its half reads the answer to its end", async (t) => {
    t.deepEqual(result(t, await converse(lab, "client", "half-close", SERVER, 7003, 100_000)), { read: 300_000 });
  });

  labTest("A SYN that was lost is sent again and connects", async (t) => {
    t.is((await lab.run("server", "nft", DROP_FIRST_SYN)).code, 0);
    const { connected, ms } = result(t, await converse(lab, "client", "connect", SERVER, 7000)) as {
      connected: boolean;
      ms: number;
    };
    await lab.run("server", "nft", "delete", "table", "inet", "lab");
    t.true(connected);
    t.true(ms >= 900, `connected after ${ms} ms: no SYN was lost`);
  });

  labTest("A port that refuses is refused at once", async (t) => {
    const { code, ms } = result(t, await converse(lab, "client", "connect", SERVER, 7009)) as {
      code: string;
      ms: number;
    };
    t.is(code, "ECONNREFUSED");
    t.true(ms < 1_000, `refused after ${ms} ms`);
  });

  labTest("The server's host opens a session the other way", async (t) => {
    t.deepEqual(result(t, await converse(lab, "server", "greeting", CLIENT, 7001)), { greeted: true });
  });

  labTest("show sessions lists the same UUID for a session on every router", async (t) => {
    const uuids = new Set<string>();
    for (const router of lab.routers) {
      const shown = await lab.waymark(router.name, "show", "sessions", "--socket", router.socketPath, "--json");
      t.is(shown.code, 0, shown.stderr);
      const { sessions } = JSON.parse(shown.stdout) as {
        sessions: { uuid: string; protocol: string; destination: string }[];
      };
      const udp = sessions.filter((session) => session.destination === `${SERVER}:7002`).map((session) => session.uuid);
      t.is(udp.length, 3);
      uuids.add(udp.sort().join());
    }
    t.is(uuids.size, 1);
  });

  labTest("tshark finds every checksum good on the wires and in what the routers send to the hosts", async (t) => {
    const { wires, fromRouters } = await gather();
    for (const packets of [fromRouters, ...wires.map((wire) => wire.packets)]) {
      t.true(packets.length > 10_000);
      t.deepEqual(checksumComplaints(packets, options.plainWires).slice(0, 10), []);
    }
  });

  labTest("The hosts send super-frames, as the lab leaves every offload on", async (t) => {
    const { sent } = await gather();
    t.true([...sent.values()].flat().some((packet) => packet.ipLength > 1500));
  });

  labTest("A wire shows only the waypoint addresses of its hop", async (t) => {
    for (const wire of (await gather()).wires)
      t.deepEqual(addressComplaints(wire.packets, wire.addresses).slice(0, 10), []);
  });

  labTest("Every session begins with metadata both ways and continues without", async (t) => {
    for (const { sessions, complaints } of (await gather()).wires) {
      t.true(sessions.length >= SESSIONS_MIN, `${sessions.length} sessions`);
      t.deepEqual([...complaints, ...handshakeComplaints(sessions)].slice(0, 10), []);
      const download = sessions.find((session) => session.destination === `${SERVER}:8080`)!;
      t.true(download.reverse.filter((datagram) => datagram.metadataBytes === 0).length > 1_000);
    }
  });

  labTest("The router that opens a session takes an even waypoint port and gives its peer an odd one", async (t) => {
    for (const { sessions } of (await gather()).wires) t.deepEqual(portComplaints(sessions).slice(0, 10), []);
  });

  labTest("A packet is as long on the wire as on the LAN, and 8 bytes longer if it is ICMP", async (t) => {
    const { wires, sent, received } = await gather();
    const onLan = sum([...received.values()].map((packets) => packets.length));
    for (const { name, sessions } of wires) {
      const { complaints, compared, lost } = lengthComplaints(sessions, received);
      t.deepEqual([...complaints, ...payloadComplaints(sessions, sent)].slice(0, 10), []);
      t.is(compared, onLan, "every packet that a host received belongs to a session of the wire");
      t.log(`${name}: ${compared} packets compared, ${lost} on the wire did not reach a host`);
    }
  });

  labTest("A full first datagram, which its metadata makes too long, crosses in fabric fragments", async (t) => {
    for (const { sessions } of (await gather()).wires) {
      const full = sessions.filter(({ protocol, forward }) => protocol === UDP && forward[0].length === 1500);
      t.is(full.length, 1);
      t.true(full[0].forward[0].frames.length > 1);
      t.true(full[0].forward[0].metadataBytes > 0);
    }
  });

  return { lab: () => lab, evidence: gather };
}

/** What a conversation of host-client.ts reported. */
function result(t: ExecutionContext, { code, stdout, stderr }: Outcome): object {
  t.is(code, 0, stderr);
  return JSON.parse(stdout || "{}") as object;
}
