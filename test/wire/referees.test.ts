// The codecs against programs that share nothing with them: scapy, both ways, and tshark. Each is started once.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { getI32, getU16, setU16, setU32, viewOf } from "../../lib/base/bytes.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import { writeArp } from "../../lib/wire/arp.ts";
import {
  addDelta,
  applyDelta,
  applyDeltaUdp,
  deltaI32,
  fold,
  ipv4HeaderChecksum,
  ipv4HeaderIsRight,
  l4Checksum,
  l4ChecksumOffset,
  l4IsRight,
  pseudoHeaderSum,
} from "../../lib/wire/checksum.ts";
import { writeEthernet } from "../../lib/wire/ethernet.ts";
import * as key from "../../lib/wire/flow-key.ts";
import { completeChecksum, segmentFrame, superFrameError } from "../../lib/wire/offload.ts";
import { printIpv4 } from "../../lib/wire/print.ts";
import {
  findMss,
  getTcpAcknowledgment,
  getTcpFlags,
  getTcpHeaderLength,
  getTcpSequence,
  TCP_WINDOW,
} from "../../lib/wire/tcp.ts";
import { OK } from "../../lib/wire/verdict.ts";
import { buildFrame, MAC_HIGH, MAC_LOW, randomBytes, randomFrame } from "./frames.ts";
import { bytesOf, hexOf } from "./vectors.ts";

const { PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } = key;
type Fields = Record<string, number | string>;

// Debian's own interpreter: the one that has python3-scapy.
const PYTHON = "/usr/bin/python3";
const hasScapy = spawnSync(PYTHON, ["-c", "import scapy"]).status === 0;
const hasTshark = spawnSync("tshark", ["--version"]).status === 0;
const withScapy = hasScapy ? test : test.skip;
const withTshark = hasTshark ? test : test.skip;

function askScapy(frames: Uint8Array[], make: number, seed: number): { read: Fields[]; made: Fields[] } {
  const script = fileURLToPath(new URL("../../../test/wire/scapy-referee.py", import.meta.url));
  const input = JSON.stringify({ frames: frames.map(hexOf), make, seed });
  const run = spawnSync(PYTHON, [script], { input, encoding: "utf8", maxBuffer: 1 << 26 });
  if (run.status !== 0) throw new Error(run.stderr);
  return JSON.parse(run.stdout);
}

/** The fields as we read them, under the names the script uses. */
function ourFields(bytes: Uint8Array): Fields {
  const row = new Int32Array(key.KEY_ROW_WORDS);
  if (key.decodeFrame(viewOf(bytes), 0, bytes.length, 0, MAC_HIGH, MAC_LOW, row, 0) !== OK) return {};
  const l3 = row[key.AT_L3];
  const l4 = row[key.AT_L4];
  const end = row[key.AT_END];
  const protocol = row[key.KEY_PROTOCOL];
  const fields: Fields = {
    type: getU16(bytes, 12),
    source: printIpv4(row[key.KEY_SOURCE]),
    destination: printIpv4(row[key.KEY_DESTINATION]),
    protocol,
    ttl: bytes[l3 + 8],
    tos: bytes[l3 + 1],
    identification: getU16(bytes, l3 + 4),
    totalLength: end - l3,
    headerLength: l4 - l3,
    ipChecksum: getU16(bytes, l3 + 10),
    ipChecksumMade: ipv4HeaderChecksum(bytes, l3),
    l4Checksum: getU16(bytes, l4 + l4ChecksumOffset(protocol)),
    l4ChecksumMade: l4Checksum(bytes, l3, l4, end),
  };
  if (protocol === PROTOCOL_ICMP) {
    return { ...fields, icmpType: bytes[l4], icmpCode: bytes[l4 + 1], identifier: row[key.KEY_PORTS] >>> 16 };
  }
  fields.sourcePort = row[key.KEY_PORTS] >>> 16;
  fields.destinationPort = row[key.KEY_PORTS] & 0xffff;
  if (protocol === PROTOCOL_UDP) return { ...fields, udpLength: getU16(bytes, l4 + 4) };
  return {
    ...fields,
    sequence: getTcpSequence(bytes, l4) >>> 0,
    acknowledgment: getTcpAcknowledgment(bytes, l4) >>> 0,
    flags: getTcpFlags(bytes, l4),
    window: getU16(bytes, l4 + TCP_WINDOW),
    dataOffset: getTcpHeaderLength(bytes, l4),
    mss: findMss(bytes, l4),
  };
}

function withoutMacs({ destinationMac: _d, sourceMac: _s, hex: _h, ...rest }: Fields): Fields {
  return rest;
}

withScapy("scapy reads from 300 frames of ours what we do, and we from 300 of scapy's what it does", (t) => {
  const random = new SeededRandom(21);
  const frames = Array.from({ length: 300 }, () => randomFrame(random, 300).bytes);
  const arp = new Uint8Array(42);
  const at = writeEthernet(arp, 0, 0xffff, -1, MAC_HIGH, MAC_LOW, key.ETHERTYPE_ARP);
  writeArp(arp, at, 1, MAC_HIGH, MAC_LOW, 0x0a010001, 0, 0, 0x0a010002);

  const { read, made } = askScapy([arp, ...frames], 300, 22);
  t.deepEqual(read[0], {
    type: 0x0806,
    destinationMac: "ff:ff:ff:ff:ff:ff",
    sourceMac: "02:00:00:00:00:01",
    operation: 1,
    senderIp: "10.1.0.1",
    targetIp: "10.1.0.2",
    senderMac: "02:00:00:00:00:01",
    targetMac: "00:00:00:00:00:00",
  });
  frames.forEach((bytes, i) => {
    t.deepEqual(withoutMacs(read[1 + i]), ourFields(bytes), hexOf(bytes));
    t.is(read[1 + i].ipChecksum, read[1 + i].ipChecksumMade);
    t.is(read[1 + i].l4Checksum, read[1 + i].l4ChecksumMade);
    t.is(read[1 + i].destinationMac, "02:00:00:00:00:01");
  });
  t.is(made.length, 300);
  for (const fields of made) {
    const bytes = bytesOf(String(fields.hex));
    t.deepEqual(withoutMacs(fields), ourFields(bytes), String(fields.hex));
    t.true(ipv4HeaderIsRight(bytes, 14));
    t.true(l4IsRight(bytes, 14, 14 + Number(fields.headerLength), bytes.length));
  }
});

/** A capture file of microsecond pcap, Ethernet. */
function pcapOf(frames: Uint8Array[]): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(262_144, 16);
  header.writeUInt32LE(1, 20);
  const parts: Uint8Array[] = [header];
  for (const frame of frames) {
    const record = Buffer.alloc(16);
    record.writeUInt32LE(frame.length, 8);
    record.writeUInt32LE(frame.length, 12);
    parts.push(record, frame);
  }
  return Buffer.concat(parts);
}

/** For each frame, whether tshark finds the checksums of IP and of TCP, UDP or ICMP good. */
function askTshark(frames: Uint8Array[]): boolean[] {
  const folder = mkdtempSync(join(tmpdir(), "waymark-wire-"));
  try {
    const file = join(folder, "frames.pcap");
    writeFileSync(file, pcapOf(frames));
    const fields = ["ip.checksum.status", "tcp.checksum.status", "udp.checksum.status", "icmp.checksum.status"];
    const run = spawnSync(
      "tshark",
      [
        ...["-n", "-r", file, "-T", "fields", "-E", "separator=,", "-E", "occurrence=f"],
        ...["ip", "tcp", "udp"].flatMap((protocol) => ["-o", `${protocol}.check_checksum:TRUE`]),
        ...fields.flatMap((field) => ["-e", field]),
      ],
      { encoding: "utf8", maxBuffer: 1 << 26 },
    );
    if (run.status !== 0) throw new Error(run.stderr);
    // 0 is bad, 1 good, 2 not verified.
    return run.stdout
      .trimEnd()
      .split("\n")
      .map((line) => {
        const statuses = line.split(",").filter((status) => status !== "");
        return statuses.length === 2 && statuses.every((status) => status === "1");
      });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

withTshark(
  "tshark finds every checksum good: built, updated by deltas, completed, segmented; and damaged ones bad",
  (t) => {
    const random = new SeededRandom(23);
    const frames: Uint8Array[] = [];
    const isGood: boolean[] = [];
    const add = (bytes: Uint8Array, good: boolean) => {
      frames.push(bytes);
      isGood.push(good);
    };
    for (let i = 0; i < 200; i++) {
      const { bytes, l3, l4 } = randomFrame(random, 300);
      add(Uint8Array.from(bytes), true);

      const protocol = bytes[l3 + 9];
      const field = l4 + l4ChecksumOffset(protocol);
      const [source, destination] = [0xc6336401 | 0, 0xcb007101 | 0];
      const delta = addDelta(deltaI32(getI32(bytes, l3 + 12), source), deltaI32(getI32(bytes, l3 + 16), destination));
      setU32(bytes, l3 + 12, source);
      setU32(bytes, l3 + 16, destination);
      setU16(bytes, l3 + 10, applyDelta(getU16(bytes, l3 + 10), delta));
      if (protocol === PROTOCOL_TCP) setU16(bytes, field, applyDelta(getU16(bytes, field), delta));
      if (protocol === PROTOCOL_UDP) setU16(bytes, field, applyDeltaUdp(getU16(bytes, field), delta));
      add(Uint8Array.from(bytes), true);

      if (protocol !== PROTOCOL_ICMP) setU16(bytes, field, fold(pseudoHeaderSum(bytes, l3, bytes.length - l4)));
      completeChecksum(bytes, 0);
      add(Uint8Array.from(bytes), true);
      bytes[field] ^= 0x10;
      add(bytes, false);
    }
    for (const [protocol, damage] of [
      [PROTOCOL_TCP, 0],
      [PROTOCOL_TCP, 0x0100],
      [PROTOCOL_UDP, 0],
      [PROTOCOL_UDP, 0x0100],
    ]) {
      const source = buildFrame({
        protocol,
        ...(protocol === PROTOCOL_TCP ? { tcpOptions: new Uint8Array(12).fill(1) } : {}),
        payload: randomBytes(random, 20_001),
      });
      source.bytes[source.payload] ^= damage >>> 8;
      const error = superFrameError(source.bytes, 0, false);
      const target = new Uint8Array(1514);
      for (let index = 0; ; index++) {
        const length = segmentFrame(source.bytes, 0, 1448, index, error, target, 0);
        if (length === 0) break;
        add(target.slice(0, length), damage === 0);
      }
    }
    const said = askTshark(frames);
    t.is(said.length, frames.length);
    for (const [i, good] of said.entries()) t.is(good, isGood[i], `frame ${i}: ${hexOf(frames[i])}`);
  },
);

for (const [name, has] of [
  ["python3-scapy", hasScapy],
  ["tshark", hasTshark],
] as const) {
  if (!has) test(`${name} is not installed, so its comparisons are skipped`, (t) => t.pass());
}
