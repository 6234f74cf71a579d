import test from "ava";
import { setU16, viewOf } from "../../lib/base/bytes.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import {
  ANY_MAC,
  decodeFrame,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_PROTOCOL,
  KEY_ROW_WORDS,
  KEY_SOURCE,
} from "../../lib/wire/flow-key.ts";
import { SHARDS, shardOf, waypointShard } from "../../lib/wire/shard.ts";
import { INSTRUCTION_BYTES, steeringProgram } from "../../lib/wire/steering-program.ts";
import { OK } from "../../lib/wire/verdict.ts";
import { runBpf } from "../model/bpf.ts";
import { buildFrame } from "./frames.ts";

const WAYPOINTS = [0xc6120001 | 0, 0xc6120101 | 0];

test("a session has one shard, seen from either end", (t) => {
  const random = new SeededRandom(1);
  for (let n = 0; n < 10_000; n++) {
    const [source, destination, ports] = [random.nextI32(), random.nextI32(), random.nextI32()];
    const shard = shardOf(source, destination, ports, 6);
    t.true(shard >= 0 && shard < SHARDS);
    t.is(shardOf(destination, source, (ports << 16) | (ports >>> 16), 6), shard);
  }
  t.is(shardOf(1, 2, 3, 1), shardOf(1, 2, 4, 1), "an ICMP identifier does not count");
  t.is(shardOf(1, 2, 3, 6), shardOf(1, 2, 3, 17), "nor does the protocol");
});

for (const [name, tuple] of [
  ["ports of one client that count up", (n: number) => [0x0a010002, 0x0a020002, ((40000 + n) << 16) | 443]],
  ["clients that count up, to servers that count up", (n: number) => [0x0a010000 + n, 0x0a020000 + n, 443]],
  ["clients in networks of their own", (n: number) => [0x0a000005 + (n << 16), 0xc0000201 | 0, (5000 << 16) | 53]],
] as const) {
  test(`the shards are used evenly by ${name}`, (t) => {
    const counts = new Array<number>(SHARDS).fill(0);
    const sessions = 100 * SHARDS;
    for (let n = 0; n < sessions; n++) {
      const [source, destination, ports] = tuple(n);
      counts[shardOf(source, destination, ports, 17)]++;
    }
    t.true(Math.min(...counts) >= 40 && Math.max(...counts) <= 200, counts.join(" "));
  });
}

test("the shard of a waypoint pair is that of its even port, from either side", (t) => {
  t.is(waypointShard((16384 << 16) | 16385), 0);
  t.is(waypointShard((16387 << 16) | (16384 + 2 * 5)), 5);
  t.is(waypointShard(((16384 + 2 * 70) << 16) | 16999), 6);
});

test("the kernel's program says the same as the shard functions, for every frame the decoder takes", (t) => {
  const random = new SeededRandom(7);
  const key = new Int32Array(KEY_ROW_WORDS);
  for (const workers of [1, 2, 3, 5, 64]) {
    const program = steeringProgram(workers, WAYPOINTS);
    const seen = new Set<number>();
    for (let n = 0; n < 3000; n++) {
      const near = random.below(2) === 0;
      const { bytes } = buildFrame({
        protocol: [6, 17, 1, 47][random.below(4)],
        source: (10 << 24) | random.below(1 << 24),
        destination: near ? WAYPOINTS[random.below(2)] : (11 << 24) | random.below(1 << 24),
        sourcePort: random.below(3) === 0 ? random.below(65536) : 16384 + random.below(49152),
        destinationPort: random.below(3) === 0 ? random.below(65536) : 16384 + random.below(49152),
        ipOptions: new Uint8Array(4 * random.below(11)),
        payload: new Uint8Array(random.below(40)),
      });
      if (decodeFrame(viewOf(bytes), 0, bytes.length, 0, ANY_MAC, 0, key, 0) !== OK) continue;
      const [ports, protocol] = [key[KEY_PORTS], key[KEY_PROTOCOL]];
      const between = protocol !== 1 && protocol !== 47 && ports >>> 16 >= 16384 && (ports & 0xffff) >= 16384;
      const shard =
        near && between ? waypointShard(ports) : shardOf(key[KEY_SOURCE], key[KEY_DESTINATION], ports, protocol);
      const worker = runBpf(program, bytes);
      if (worker !== shard % workers) t.fail(`${workers} workers, frame ${n}: ${worker}, not ${shard % workers}`);
      seen.add(worker);
    }
    t.is(seen.size, workers);
  }
});

test("ARP and what is cut short go to worker 0; a piece of an IP fragment goes by its addresses", (t) => {
  const program = steeringProgram(2, WAYPOINTS);
  const frames = Array.from({ length: 64 }, (_, n) => buildFrame({ protocol: 17, source: 0x0a010000 + n }).bytes);
  t.true(frames.some((frame) => runBpf(program, frame) === 1));
  for (const frame of frames) {
    for (const length of [14, 20, 23, 34, 37]) t.is(runBpf(program, frame.subarray(0, length)), 0);
    const [first, later] = [Uint8Array.from(frame), Uint8Array.from(frame)];
    setU16(first, 20, 0x2000);
    setU16(later, 20, 100);
    setU16(later, 34, 1);
    t.is(runBpf(program, first), runBpf(program, later));
    setU16(frame, 12, 0x0806);
    t.is(runBpf(program, frame), 0);
  }
});

test("a program has room for two thousand waypoint addresses, and refuses more than the kernel takes", (t) => {
  const addresses = Array.from({ length: 2100 }, (_, n) => n + 1);
  const program = steeringProgram(2, addresses.slice(0, 2000));
  t.true(program.length / INSTRUCTION_BYTES <= 4096);
  const { bytes } = buildFrame({ protocol: 17, destination: 2000, sourcePort: 16386, destinationPort: 16385 });
  t.is(runBpf(program, bytes), 1);
  t.throws(() => steeringProgram(2, addresses), { instanceOf: RangeError });
});
