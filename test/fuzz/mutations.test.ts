// One engine, with small tables and a small world around it, under frames that were valid once: a hundred thousand
// seeded mutations from the LAN and from peers, half of them with their checksums made right again, so that what they
// say is believed. `make fuzz` runs the same for minutes (WAYMARK_FUZZ_MINUTES); WAYMARK_SEED=n runs a seed again.

import { readdirSync, readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import test from "ava";
import { setU16, viewOf } from "../../lib/base/bytes.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import { ipv4HeaderChecksum } from "../../lib/wire/checksum.ts";
import { ANY_MAC, AT_END, AT_L3, AT_L4, decodeFrame, KEY_ROW_WORDS, PROTOCOL_UDP } from "../../lib/wire/flow-key.ts";
import { completeChecksum } from "../../lib/wire/offload.ts";
import { OK } from "../../lib/wire/verdict.ts";
import { seePacket } from "../simulate/packets.ts";
import { buildFrame, randomBytes } from "../wire/frames.ts";
import { bytesOf, hexOf } from "../wire/vectors.ts";
import { config, type Fuzzed, fuzzed, unaccounted } from "./fuzzed.ts";
import { CLIENT, FAR, LAN, NORTH, originals, WAN, WEST } from "./originals.ts";

const MUTATIONS = 100_000;
const minutes = Number(process.env.WAYMARK_FUZZ_MINUTES ?? 0);
const seed = Number(process.env.WAYMARK_SEED ?? (minutes > 0 ? Date.now() % 1_000_000_000 : 20_260_102));

const INTERESTING = [
  0, 1, 7, 8, 11, 12, 13, 16, 19, 20, 60, 0x45, 0x7f, 0x80, 0xff, 0x5dc, 0x1fff, 0x2000, 0xfff8, 0xffff,
];
const row = new Int32Array(KEY_ROW_WORDS);

/** Up to three changes: a bit, a byte, a 16-bit number, the end cut off, bytes at random; then perhaps right checksums. */
function mutate(random: SeededRandom, original: Uint8Array): Uint8Array {
  let frame = Uint8Array.from(original);
  for (let changes = random.below(4); changes > 0 && frame.length > 2; changes--) {
    const at = random.below(random.below(3) === 0 ? frame.length : Math.min(frame.length, 180));
    const kind = random.below(6);
    if (kind === 0) frame[at] ^= 1 << random.below(8);
    else if (kind <= 2) setU16(frame, Math.min(at, frame.length - 2), INTERESTING[random.below(INTERESTING.length)]);
    else if (kind === 3) frame[at] = random.below(256);
    else if (kind === 4 && random.below(4) === 0) frame = frame.slice(0, at);
    else frame.set(randomBytes(random, Math.min(4, frame.length - at)), at);
  }
  if (random.below(2) === 0 && decodeFrame(viewOf(frame), 0, frame.length, 0, ANY_MAC, 0, row, 0) === OK) {
    setU16(frame, 24, ipv4HeaderChecksum(frame, 14));
    if (row[AT_END] - row[AT_L4] > 0 && row[AT_L3] === 14) completeChecksum(frame, 0);
  }
  return frame;
}

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

function heapUsed(): number {
  collect();
  return process.memoryUsage().heapUsed;
}

/** Time enough for every session, port pair and neighbor to be given up. */
function silence({ router, clock }: Fuzzed): void {
  for (let ms = 0; ms < 2_000_000; ms += 5000) {
    clock.advance(5000);
    while (router.engine.turn(clock.nowMs()) > 0);
  }
}

/** A UDP session from the LAN: lead packet, the peer's answer, and packets without metadata both ways. */
function carriesASession(t: { is: (a: unknown, b: unknown, why?: string) => void }, { ports, arrive }: Fuzzed): void {
  const sent = (at: number) => {
    const packets = ports[at].sent
      .splice(0)
      .map((frame) => seePacket(frame))
      .filter((packet) => packet !== undefined);
    t.is(packets.length, 1);
    return packets[0];
  };
  for (const port of ports) port.sent = [];
  const ends = { protocol: PROTOCOL_UDP, source: CLIENT, destination: FAR, sourcePort: 50_000, destinationPort: 53 };
  arrive(LAN, buildFrame({ ...ends, payload: bytesOf("01") }).bytes);
  const lead = sent(WAN);
  t.is(lead.hasMetadata, true);
  const uuid = String(lead.metadata.get("uuid")).replaceAll("-", "");
  const back = {
    protocol: PROTOCOL_UDP,
    source: NORTH,
    destination: WEST,
    sourcePort: lead.destinationPort,
    destinationPort: lead.sourcePort,
  };
  const reverse = `4c48dbc6 ddf6670c 100c0025 0004000d 0a030005 0a010002 0035 c350 11 00060010 ${uuid}`;
  arrive(WAN, buildFrame({ ...back, payload: bytesOf(`${reverse} 02`) }).bytes);
  t.is(hexOf(sent(LAN).payload), "02");
  arrive(LAN, buildFrame({ ...ends, payload: bytesOf("03") }).bytes);
  t.is(hexOf(sent(WAN).payload), "03", "without metadata");
  arrive(WAN, buildFrame({ ...back, payload: bytesOf("04") }).bytes);
  t.is(hexOf(sent(LAN).payload), "04");
}

test(`${MUTATIONS} mutations leave the router standing, its books in order and its memory as it was`, (t) => {
  t.timeout(120_000 + minutes * 60_000);
  const random = new SeededRandom(seed);
  const list = originals(random);
  const world = fuzzed();
  const { router, clock, ports } = world;
  const until = performance.now() + minutes * 60_000;
  let heapBefore = 0;
  // What is bounded and fills slowly is full from the start, so that it is no growth: events, and names that peers tell.
  for (let n = 0; n < 1024; n++) {
    router.events.path(router.sessions.paths[0], "path-up", "one of many", clock.nowMs());
    router.metadata.names.row(`router number ${n} of many`);
  }
  for (let i = 0; i < MUTATIONS || performance.now() < until; i++) {
    const { at, frame: original } = list[random.below(list.length)];
    const frame = mutate(random, original);
    clock.advance(random.below(50) === 0 ? random.below(30_000) : random.below(20));
    try {
      world.arrive(at, frame);
    } catch (error) {
      t.fail(
        `seed ${seed}, mutation ${i} on ${config.interfaces[at].name}: ${hexOf(frame)}\n${(error as Error).stack}`,
      );
      return;
    }
    for (const port of ports) port.sent = [];
    if (i % 1000 === 0 && unaccounted(router.counters.publish(true)) !== 0)
      t.fail(`seed ${seed}: the books are wrong at mutation ${i}`);
    // Until then what the compiler learns.
    if (i === (MUTATIONS / 5) * 2) heapBefore = heapUsed();
  }
  const counters = router.counters.publish(true);
  t.is(unaccounted(counters), 0);
  t.true(router.sessions.table.count <= config.sessions.max);
  const growth = heapUsed() - heapBefore;
  t.true(growth < 1 << 20, `the heap grew by ${growth} bytes`);
  t.log(
    `seed ${seed}: ${router.sessions.openedTotal} sessions opened, ${counters["frames.forwarded"]} frames forwarded, ${counters["fabric.reassembled"]} reassembled`,
  );
  t.true(router.sessions.openedTotal > 1000, "not all of them are refused at the door");
  t.true(counters["frames.forwarded"] > MUTATIONS / 10);
  t.true(counters["metadata.received"] > 1000);
  t.true(counters["fabric.reassembled"] > 100);

  silence(world);
  t.is(router.sessions.table.count, 0);
  t.is(router.sessions.flows.count, 0);
  t.deepEqual(
    router.sessions.paths.map((path) => path.sessions),
    [0, 0],
  );
  carriesASession(t, world);
});

test("mutations do the same whatever lies around them in memory", (t) => {
  t.timeout(120_000);
  const random = new SeededRandom(seed + 1);
  const list = originals(random);
  const worlds = [fuzzed(0x00), fuzzed(0xff)];
  for (let i = 0; i < MUTATIONS / 10; i++) {
    const { at, frame: original } = list[random.below(list.length)];
    const frame = mutate(random, original);
    const pause = random.below(20);
    for (const world of worlds) {
      world.clock.advance(pause);
      world.arrive(at, frame);
    }
    for (const [n, port] of worlds[0].ports.entries()) {
      const [ours, others] = [port.sent.splice(0), worlds[1].ports[n].sent.splice(0)];
      if (ours.length !== others.length || ours.some((sent, k) => Buffer.compare(sent, others[k]) !== 0)) {
        t.fail(`seed ${seed}, mutation ${i} on ${config.interfaces[at].name}: ${hexOf(frame)}`);
        return;
      }
    }
  }
  t.deepEqual(worlds[0].router.counters.publish(true), worlds[1].router.counters.publish(true));
});

const corpus = new URL("../../../test/fuzz/corpus/", import.meta.url);
for (const [at, where] of ["lan", "wan"].entries()) {
  for (const name of readdirSync(new URL(`${where}/`, corpus)).filter((file) => file.endsWith(".bin"))) {
    test(`${name.slice(0, -4).replaceAll("-", " ")}, on the ${where.toUpperCase()}, does no harm`, (t) => {
      const world = fuzzed();
      const frame = Uint8Array.from(readFileSync(new URL(`${where}/${name}`, corpus)));
      for (let times = 0; times < 3; times++) t.notThrows(() => world.arrive(at, frame));
      t.is(unaccounted(world.router.counters.publish(true)), 0);
      silence(world);
      carriesASession(t, world);
    });
  }
}
