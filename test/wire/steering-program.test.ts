import test from "ava";
import { setU16, setU32, viewOf } from "../../lib/base/bytes.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import { Inbound } from "../../lib/ipv6/inbound.ts";
import { AddressBook } from "../../lib/table/address-book.ts";
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
import { bareFrame } from "../ipv6/ipv6-frames.ts";
import { runBpf, unstoredRead } from "../model/bpf.ts";
import { buildFrame } from "./frames.ts";

const WAYPOINTS = [0xc6120001 | 0, 0xc6120101 | 0];
const WAYPOINTS_IPV6 = [
  [0x20010db8, 0xff000000 | 0, 0, 1],
  [0x20010db8, 0xff000000 | 0, 0, 2],
  [0x20010db8, 0xff000001 | 0, 0, 1],
];
/** Of an interface they are of one family; the program has room for both. */
const ALL_WAYPOINTS = [...WAYPOINTS.map((address) => [address]), ...WAYPOINTS_IPV6];

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
    const program = steeringProgram(workers, ALL_WAYPOINTS);
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

/** An IPv6 frame: `l4` behind `extensions`, the first of which `next` says. */
function ipv6Frame(
  source: readonly number[],
  destination: readonly number[],
  next: number,
  l4: Uint8Array,
  extensions = new Uint8Array(0),
): Uint8Array {
  return bareFrame(next, bytesOf(source), bytesOf(destination), l4, extensions);
}

function bytesOf(words: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(16);
  for (const [n, word] of words.entries()) setU32(bytes, 4 * n, word);
  return bytes;
}

/** The header of TCP, UDP, an echo, or eight bytes of anything. */
function l4Header(protocol: number, sourcePort: number, destinationPort: number): Uint8Array {
  const l4 = new Uint8Array(protocol === 6 ? 20 : 8);
  if (protocol === 58) l4[0] = 128;
  if (protocol !== 6 && protocol !== 17) return l4;
  setU16(l4, 0, sourcePort);
  setU16(l4, 2, destinationPort);
  if (protocol === 6) l4[12] = 0x50;
  else l4.set([0, 8, 0x12, 0x34], 4);
  return l4;
}

const OPTIONS = { none: [], "hop-by-hop": [0, 0, 1, 4, 0, 0, 0, 0], destination: [60, 0, 1, 4, 0, 0, 0, 0] };

test("of IPv6 frames it says the same as the shard functions of what the door and the decoder make of them", (t) => {
  const random = new SeededRandom(11);
  const key = new Int32Array(KEY_ROW_WORDS);
  // Names by chance: no two threads have the same.
  const book = new AddressBook(1);
  for (let n = random.below(50); n > 0; n--) book.keep(1, 2, 3, n);
  const door = new Inbound(book);
  const wordsNear = (n: number) => WAYPOINTS_IPV6[n % 3];
  const wordsFar = () => [0x20010db8, random.nextI32(), random.nextI32(), random.below(3)];
  for (const workers of [1, 2, 3, 5, 64]) {
    const program = steeringProgram(workers, ALL_WAYPOINTS);
    const seen = new Set<number>();
    let between = 0;
    for (let n = 0; n < 3000; n++) {
      const protocol = [6, 17, 17, 58, 47][random.below(5)];
      const [source, destination] = [wordsFar(), random.below(2) === 0 ? wordsNear(random.below(3)) : wordsFar()];
      const port = () => (random.below(3) === 0 ? random.below(65536) : 16384 + random.below(49152));
      const kind = random.below(8);
      const header = kind === 0 ? OPTIONS.destination : kind === 1 ? OPTIONS["hop-by-hop"] : OPTIONS.none;
      const extensions = Uint8Array.from(header);
      const next = header.length > 0 ? extensions[0] : protocol;
      if (header.length > 0) extensions[0] = protocol;
      const wire = ipv6Frame(source, destination, next, l4Header(protocol, port(), port()), extensions);
      const worker = runBpf(program, wire);
      if (door.translate(viewed(wire), 0, wire.length, 0, 0) !== OK) t.fail(`frame ${n} is not taken`);
      const { offset, length } = door;
      if (decodeFrame(viewOf(own), offset, length, 0, ANY_MAC, 0, key, 0, true) !== OK) t.fail(`frame ${n}`);
      const [ports, inside] = [key[KEY_PORTS], key[KEY_PROTOCOL]];
      const hasPorts = (inside === 6 || inside === 17) && header.length === 0;
      const isBetween =
        hasPorts && WAYPOINTS_IPV6.includes(destination) && ports >>> 16 >= 16384 && (ports & 0xffff) >= 16384;
      const hashed = [book.hashWord(key[KEY_SOURCE]), book.hashWord(key[KEY_DESTINATION])] as const;
      const shard = isBetween ? waypointShard(ports) : shardOf(...hashed, ports, hasPorts ? inside : 1);
      if (worker !== shard % workers) t.fail(`${workers} workers, frame ${n}: ${worker}, not ${shard % workers}`);
      seen.add(worker);
      if (isBetween) between++;
    }
    t.is(seen.size, workers);
    t.true(between > 300);
  }
});

let own = new Uint8Array(0);
/** A copy, for the door translates in place. */
function viewed(wire: Uint8Array): Uint8Array {
  own = Uint8Array.from(wire);
  return own;
}

test("an IPv6 address is hashed alike whatever its name is, and an IPv4 address is its own word", (t) => {
  const [one, other] = [new AddressBook(1), new AddressBook(2)];
  one.keep(9, 9, 9, 9);
  const words = [0x20010db8, 7, -1, 0x1234] as const;
  const [name, otherName] = [one.keep(...words), other.keep(...words)];
  t.not(name, otherName);
  t.is(one.hashWord(name), 0x20010db8 ^ 7 ^ -1 ^ 0x1234);
  t.is(other.hashWord(otherName), one.hashWord(name));
  t.is(one.hashWord(0x0a010002), 0x0a010002);
});

test("ICMPv6 of the link goes to worker 0, also behind hop-by-hop options; errors and echoes go by their addresses", (t) => {
  const program = steeringProgram(64, ALL_WAYPOINTS);
  const source = [0x20010db8, 1, 0, 2];
  const destination = [0x20010db8, 2, 0, 3];
  const byAddresses = shardOf(0x20010db8 ^ 1 ^ 2, 0x20010db8 ^ 2 ^ 3, 0, 58) % 64;
  t.not(byAddresses, 0);
  const options = Uint8Array.of(58, 1, 5, 2, 0, 0, 1, 0, 1, 6, 0, 0, 0, 0, 0, 0);
  for (let type = 0; type < 256; type++) {
    const isOfTheLink = (type >= 130 && type <= 137) || type === 143;
    const message = Uint8Array.of(type, 0, 0, 0, 0, 0, 0, 0);
    const expected = isOfTheLink ? 0 : byAddresses;
    t.is(runBpf(program, ipv6Frame(source, destination, 58, message)), expected, `type ${type}`);
    t.is(runBpf(program, ipv6Frame(source, destination, 0, message, options)), expected, `type ${type} behind options`);
  }
});

test("the pieces of an IPv6 packet go by their addresses; one cut short goes to worker 0", (t) => {
  const program = steeringProgram(64, ALL_WAYPOINTS);
  const source = [0x20010db8, 1, 0, 2];
  const [destination] = WAYPOINTS_IPV6;
  const word = destination.reduce((xor, part) => xor ^ part);
  const byAddresses = shardOf(0x20010db8 ^ 1 ^ 2, word, 0, 58) % 64;
  t.not(byAddresses, 0);
  const l4 = l4Header(17, 20_000, 20_001);
  for (const field of [1, 0x108, 0x109])
    t.is(
      runBpf(program, ipv6Frame(source, destination, 44, l4, Uint8Array.of(17, 0, 0, field, 0, 0, 0, 7))),
      byAddresses,
    );
  const whole = ipv6Frame(source, destination, 17, l4);
  t.is(runBpf(program, whole), waypointShard((20_000 << 16) | 20_001));
  for (const length of [14, 20, 21, 37, 53, 54, 57]) t.is(runBpf(program, whole.subarray(0, length)), 0);
});

test("ARP and what is cut short go to worker 0; a piece of an IP fragment goes by its addresses", (t) => {
  const program = steeringProgram(2, ALL_WAYPOINTS);
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

test("no path through a program reads memory that it has not written, or the kernel would not take it", (t) => {
  for (const waypoints of [[], ALL_WAYPOINTS, ALL_WAYPOINTS.slice(0, 2), WAYPOINTS_IPV6])
    t.is(unstoredRead(steeringProgram(2, waypoints)), -1);
  t.is(unstoredRead(Uint8Array.of(0x60, 0, 0, 0, 3, 0, 0, 0)), 0);
});

test("a program has room for two thousand waypoint addresses, and refuses more than the kernel takes", (t) => {
  const addresses = Array.from({ length: 2100 }, (_, n) => [n + 1]);
  const program = steeringProgram(2, addresses.slice(0, 2000));
  t.true(program.length / INSTRUCTION_BYTES <= 4096);
  const { bytes } = buildFrame({ protocol: 17, destination: 2000, sourcePort: 16386, destinationPort: 16385 });
  t.is(runBpf(program, bytes), 1);
  t.throws(() => steeringProgram(2, addresses), { instanceOf: RangeError });
  const ipv6 = Array.from({ length: 2000 }, (_, n) => [0x20010db8, 0, 0, n + 1]);
  const long = steeringProgram(2, ipv6.slice(0, 1950));
  const last = l4Header(17, 16386, 16385);
  t.is(runBpf(long, ipv6Frame([0x20010db8, 5, 0, 9], ipv6[1949], 17, last)), 1);
  // Spread over prefixes there is room for some hundred.
  const spread = Array.from({ length: 400 }, (_, n) => [0x20010db8, n + 1, 0, 1]);
  t.is(runBpf(steeringProgram(2, spread.slice(0, 330)), ipv6Frame([0x20010db8, 5, 0, 9], spread[329], 17, last)), 1);
  t.throws(() => steeringProgram(2, spread), { instanceOf: RangeError });
});
