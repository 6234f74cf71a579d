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
import * as bfd from "../../lib/wire/bfd.ts";
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
import { MetadataWriter } from "../../lib/wire/metadata.ts";
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
type Fields = Record<string, number | string | number[]>;

// Debian's own interpreter: the one that has python3-scapy.
const PYTHON = "/usr/bin/python3";
const hasScapy = spawnSync(PYTHON, ["-c", "import scapy"]).status === 0;
const hasTshark = spawnSync("tshark", ["--version"]).status === 0;
const withScapy = hasScapy ? test : test.skip;
const withTshark = hasTshark ? test : test.skip;

function askScapy(frames: Uint8Array[], make: number, seed: number, kind = "any"): { read: Fields[]; made: Fields[] } {
  const script = fileURLToPath(new URL("../../../test/wire/scapy-referee.py", import.meta.url));
  const input = JSON.stringify({ frames: frames.map(hexOf), make, seed, kind });
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

/** Each frame's fields as tshark says them. */
function tsharkFields(frames: Uint8Array[], fields: string[], options: string[] = []): string[][] {
  const folder = mkdtempSync(join(tmpdir(), "waymark-wire-"));
  try {
    const file = join(folder, "frames.pcap");
    writeFileSync(file, pcapOf(frames));
    const run = spawnSync(
      "tshark",
      [
        ...["-n", "-r", file, "-T", "fields", "-E", "separator=,", "-E", "occurrence=f"],
        ...options.flatMap((option) => ["-o", option]),
        ...fields.flatMap((field) => ["-e", field]),
      ],
      { encoding: "utf8", maxBuffer: 1 << 26 },
    );
    if (run.status !== 0) throw new Error(run.stderr);
    const lines = run.stdout.trimEnd().split("\n");
    return lines.map((line) => line.split(","));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** For each frame, whether tshark finds the checksums of IP and of TCP, UDP or ICMP good. */
function askTshark(frames: Uint8Array[]): boolean[] {
  const fields = ["ip.checksum.status", "tcp.checksum.status", "udp.checksum.status", "icmp.checksum.status"];
  const options = ["ip", "tcp", "udp"].map((protocol) => `${protocol}.check_checksum:TRUE`);
  // 0 is bad, 1 good, 2 not verified.
  return tsharkFields(frames, fields, options).map((values) => {
    const statuses = values.filter((status) => status !== "");
    return statuses.length === 2 && statuses.every((status) => status === "1");
  });
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

function randomBfd(random: SeededRandom): bfd.BfdPacket {
  const u32 = () => random.nextI32() >>> 0;
  const state = random.below(4);
  return Object.assign(new bfd.BfdPacket(), {
    ...{ state, diagnostic: random.below(32), detectMult: 1 + random.below(255) },
    ...{ poll: random.below(2) === 1, final: random.below(2) === 1 },
    ...{ controlPlaneIndependent: random.below(2) === 1, demand: random.below(2) === 1 },
    ...{ myDiscriminator: u32() || 1, yourDiscriminator: state > bfd.BFD_DOWN ? u32() || 1 : u32() },
    ...{ desiredMinTxUs: u32(), requiredMinRxUs: u32(), requiredMinEchoRxUs: u32() },
  });
}

/** A frame to the port of single-hop BFD; every other packet has metadata behind it. */
function bfdFrame(packet: bfd.BfdPacket, withMetadata: boolean): Uint8Array {
  const writer = new MetadataWriter(new Uint8Array(100));
  writer.begin();
  bfd.addBfdAttributes(writer, Object.assign(new bfd.BfdPacket(), { routerName: "west", txSequence: 1 }));
  const length = withMetadata ? writer.end() : 0;
  const payload = new Uint8Array(24 + length);
  payload.set(writer.buffer.subarray(0, length), bfd.writeBfd(payload, 0, packet));
  return buildFrame({ protocol: PROTOCOL_UDP, sourcePort: 50_000, destinationPort: 3784, ttl: 255, payload }).bytes;
}

/** As both referees are asked for it: version, diagnostic, state, P F C A D M, multiplier, length, and five words. */
function bfdNumbers(packet: bfd.BfdPacket): number[] {
  const { poll, final, controlPlaneIndependent, demand } = packet;
  return [
    ...[1, packet.diagnostic, packet.state, +poll, +final, +controlPlaneIndependent, 0, +demand, 0],
    ...[packet.detectMult, 24, packet.myDiscriminator, packet.yourDiscriminator],
    ...[packet.desiredMinTxUs, packet.requiredMinRxUs, packet.requiredMinEchoRxUs],
  ];
}

withScapy("scapy reads from 200 BFD packets of ours what we wrote, and we from 200 of scapy's what it wrote", (t) => {
  const random = new SeededRandom(24);
  const packets = Array.from({ length: 200 }, () => randomBfd(random));
  const frames = packets.map((packet, i) => bfdFrame(packet, i % 2 === 1));
  const { read, made } = askScapy(frames, 200, 25, "bfd");
  for (const [i, packet] of packets.entries()) t.deepEqual(read[i].bfd, bfdNumbers(packet), hexOf(frames[i]));
  let refused = 0;
  for (const { hex, bfd: said } of made) {
    const payload = bytesOf(String(hex)).subarray(42);
    const packet = new bfd.BfdPacket();
    const numbers = said as number[];
    // Half of scapy's have an authentication or multipoint bit.
    const verdict = bfd.readBfd(payload, 0, payload.length, null, packet);
    t.is(verdict === OK, numbers[6] === 0 && numbers[8] === 0, String(hex));
    if (verdict === OK) t.deepEqual(bfdNumbers(packet), numbers, String(hex));
    else refused++;
  }
  t.true(refused > 50 && refused < 180);
});

withTshark("tshark reads from 200 BFD packets of ours what we wrote, with and without metadata behind them", (t) => {
  const random = new SeededRandom(26);
  const packets = Array.from({ length: 200 }, () => randomBfd(random));
  const frames = packets.map((packet, i) => bfdFrame(packet, i % 2 === 1));
  const fields = [
    ...["version", "diag", "sta", "flags.p", "flags.f", "flags.c", "flags.a", "flags.d", "flags.m"],
    ...["detect_time_multiplier", "message_length", "my_discriminator", "your_discriminator"],
    ...["desired_min_tx_interval", "required_min_rx_interval", "required_min_echo_interval"],
  ].map((name) => `bfd.${name}`);
  const said = tsharkFields(frames, [...fields, "_ws.malformed"]);
  t.is(said.length, frames.length);
  for (const [i, values] of said.entries()) {
    t.deepEqual(values.slice(0, -1).map(Number), bfdNumbers(packets[i]), hexOf(frames[i]));
    t.is(values.at(-1), "");
  }
});

for (const [name, has] of [
  ["python3-scapy", hasScapy],
  ["tshark", hasTshark],
] as const) {
  if (!has) test(`${name} is not installed, so its comparisons are skipped`, (t) => t.pass());
}
