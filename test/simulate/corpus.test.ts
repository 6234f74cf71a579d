// Captures of others (../shared/corpus) as traffic of sessions through one hop and through three, IPv4 and IPv6 over either. What
// leaves is compared with what came, and tshark judges both: nothing is malformed that was not, no good checksum becomes bad, no
// bad one good. Hosts with IPv6 send the corpus's own frames of it, a twin of each of IPv4 that has one, and twins with damage.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { getU16 } from "../../lib/base/bytes.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import { FRAME_LENGTH_MAX } from "../../lib/io/wire-frames.ts";
import { DROP_REASONS } from "../../lib/wire/verdict.ts";
import { noProgram } from "../io/skip.ts";
import { type Captured, captures, corpusMissing, Sides } from "./captures.ts";
import { type Chain, chainOf, type Family } from "./chain.ts";
import { inIpv4Form, ipv6Twin, isIpv6, isUnfinishedIpv6, withoutOptions } from "./ipv6-twin.ts";
import { swapEnds, udpFrame } from "./packets.ts";
import { SEALED } from "./protection.ts";
import { type Judgement, judge, writeFrames } from "./referee.ts";
import { Asked, difference, FRAME_MAX, isFragment, isIpv4, isUnfinished, Pieces } from "./same.ts";
import { countOf } from "./topologies.ts";
import type { Link } from "./world.ts";

const missing = corpusMissing ?? noProgram("tshark");
const differential = missing === undefined ? test.serial : test.skip;
const why = missing === undefined ? "" : ` (skipped: ${missing})`;

/** Longer than pieces of a packet are waited for. */
const FRAGMENTS_MS = 16_000;
/** Of what is longer than a device can hand over. */
const NO_FRAME = "port: longer than any frame";

const directory = mkdtempSync(join(tmpdir(), "waymark-differential-"));
test.after.always(() => rmSync(directory, { recursive: true }));

/** What became of one frame of a capture. */
interface Fate {
  capture: string;
  frame: Uint8Array;
  /** What left at the other end. */
  arrived: Uint8Array[];
  /** What left between routers, and as an answer to where it came from. */
  onTheWay: Uint8Array[];
  /** Which router dropped something meanwhile, and why. */
  drops: string[];
  /** Some router took it in: a piece of a packet, ARP. */
  consumed: boolean;
}

/** The drops of all routers, and what they consumed. */
function counted(chain: Chain): { drops: number[]; consumed: number } {
  const routers = chain.routers();
  return {
    drops: routers.flatMap(({ counters }) => DROP_REASONS.map((_, n) => counters.get(n))),
    consumed: routers.reduce((sum, router) => sum + countOf(router, "frames.consumed"), 0),
  };
}

function dropsBetween(chain: Chain, before: readonly number[], after: readonly number[]): string[] {
  const names = chain.names.flatMap((name) => DROP_REASONS.map((reason) => `${name}: ${reason.name}`));
  return names.flatMap((name, n) => Array<string>(after[n] - before[n]).fill(name));
}

/** Neighbors find each other by it. */
const isNeighbor = (frame: Uint8Array) => isIpv6(frame) && frame[20] === 58 && (frame[54] === 135 || frame[54] === 136);
const isIp = (frame: Uint8Array) => isIpv4(frame) || (isIpv6(frame) && !isNeighbor(frame));
const isPiece = (frame: Uint8Array) => isIp(frame) && isFragment(inIpv4Form(frame));

/** Of every so many twins one comes again with a byte of its headers changed. */
const DAMAGED_EACH = 8;

/** What hosts of a family send of a capture. */
function framesFor(family: Family, frames: readonly Captured[], random: SeededRandom): Captured[] {
  if (family === 4) return [...frames];
  return frames.flatMap((captured) => {
    if (getU16(captured.frame, 12) === 0x86dd) return [captured];
    const twin = ipv6Twin(captured.frame);
    if (twin === undefined) return [];
    const { flags } = captured;
    // Of pieces one spoils its whole packet, and cannot be judged alone.
    if (isPiece(twin) || random.below(DAMAGED_EACH) > 0) return [{ frame: twin, flags }];
    const damaged = twin.slice();
    damaged[14 + random.below(Math.min(60, twin.length - 14))] ^= 1 << random.below(8);
    return [twin, damaged].map((frame) => ({ frame, flags }));
  });
}

/** The IP packets that routers have sent on a link since it was looked at last. `host` is who else sends there. */
function sentOn(link: Link, host = ""): Uint8Array[] {
  const sent = link.seen.splice(0).filter(({ from, frame }) => from !== host && isIp(frame));
  return sent.map(({ frame }) => frame);
}

/** Every frame of the corpus through a chain. Returns each one's fate, and what was dropped after its frame. */
function through(chain: Chain, hosts: Family): { fates: Fate[]; late: string[] } {
  const { world } = chain;
  const [client, server] = ["client", "server"].map((name) => world.hosts.get(name)!);
  // Every neighbor is known, so that a frame's fate is known before the next one comes.
  const ends = { source: client.address, destination: server.address, sourcePort: 40_000, destinationPort: 4000 };
  world.send(client, udpFrame(ends, "ask"));
  world.run(2);
  world.send(server, udpFrame(swapEnds(ends), "answer"));
  world.run(2);
  const links = [chain.lan, chain.far, ...chain.hops];
  const fates: Fate[] = [];
  const late: string[] = [];
  const sides = new Sides();
  const random = new SeededRandom(1);
  for (const { name, frames } of captures()) {
    for (const { frame, flags } of framesFor(hosts, frames, random)) {
      const fate: Fate = { capture: name, frame, arrived: [], onTheWay: [], drops: [], consumed: false };
      fates.push(fate);
      if (frame.length > FRAME_LENGTH_MAX) {
        fate.drops.push(NO_FRAME);
        continue;
      }
      const ends = [
        { link: chain.lan, host: "client", router: chain.names[0] },
        { link: chain.far, host: "server", router: chain.names.at(-1)! },
      ];
      const [here, there] = sides.isForward(inIpv4Form(frame)) ? ends : ends.reverse();
      for (const link of links) link.seen.length = 0;
      const before = counted(chain);
      world.inject(here.link, here.router, frame.slice(), flags);
      world.run(1);
      const after = counted(chain);
      fate.arrived = sentOn(there.link, there.host);
      fate.onTheWay = [...sentOn(here.link, here.host), ...chain.hops.flatMap((hop) => sentOn(hop))];
      fate.drops = dropsBetween(chain, before.drops, after.drops);
      fate.consumed = after.consumed > before.consumed;
    }
    const before = counted(chain);
    world.skip(FRAGMENTS_MS, FRAGMENTS_MS / 4);
    late.push(...dropsBetween(chain, before.drops, counted(chain).drops));
  }
  return { fates, late };
}

/** One word or reason for what became of a frame; undefined when nobody can say. */
function fateOf({ frame, arrived, drops, consumed }: Fate): string | undefined {
  const reasons = [...new Set(drops)].join(", ");
  if (arrived.length > 0) return drops.length === 0 ? "forwarded" : undefined;
  if (reasons !== "" || !consumed) return reasons || undefined;
  return isPiece(frame) ? "kept until the packet is whole" : "taken in: ARP";
}

function countEach(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of [...names].sort()) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

/** The same frames come in every test of a family. */
const cameJudged: Partial<Record<Family, Promise<Judgement[]>>> = {};

/** What tshark says of everything that came, that arrived, and that was sent beside that. */
async function judged(
  fates: readonly Fate[],
  hosts: Family,
): Promise<{ came: Judgement[]; left: Judgement[][]; way: Judgement[][] }> {
  const [came, left, way] = ["came", "left", "way"].map((name) => join(directory, `${name}.pcap`));
  writeFrames(
    came,
    fates.map(({ frame }) => frame),
  );
  writeFrames(
    left,
    fates.flatMap(({ arrived }) => arrived),
  );
  writeFrames(
    way,
    fates.flatMap(({ onTheWay }) => onTheWay),
  );
  cameJudged[hosts] ??= judge(came, false);
  const all = await Promise.all([cameJudged[hosts], judge(left, false), judge(way, true)]);
  const share = (of: Judgement[], counts: number[]) => counts.map((count) => of.splice(0, count));
  return {
    came: all[0],
    left: share(
      all[1],
      fates.map(({ arrived }) => arrived.length),
    ),
    way: share(
      all[2],
      fates.map(({ onTheWay }) => onTheWay.length),
    ),
  };
}

/**
 * What a frame became that it must not become, by tshark's word on it, on what arrived and on what was sent on the way. `isCompleted`:
 * a datagram without a checksum is given one, for it was encrypted, or IPv6 has none without.
 */
function complaints(
  fate: Fate,
  came: Judgement,
  left: readonly Judgement[],
  way: readonly Judgement[],
  isCompleted: boolean,
): string[] {
  const found: string[] = [];
  const finished = isUnfinished(fate.frame) || isUnfinishedIpv6(fate.frame);
  for (const { malformed, ip, l4 } of left) {
    // What is in the payload of segments that were cut otherwise looks otherwise.
    if (malformed && !came.malformed && left.length === 1) found.push("arrived malformed");
    if (ip !== came.ip) found.push(`IPv4 checksum ${came.ip}, arrived ${ip}`);
    const mayBeMade = finished || (isCompleted && came.l4 === "none");
    if (l4 !== came.l4 && !(mayBeMade && l4 === "good")) found.push(`L4 checksum ${came.l4}, arrived ${l4}`);
  }
  for (const { malformed, ip, l4 } of way) {
    if (malformed && !came.malformed) found.push("malformed between routers");
    if (ip === "bad" && came.ip !== "bad") found.push("IPv4 checksum bad between routers");
    if (l4 === "bad" && came.l4 !== "bad") found.push("L4 checksum bad between routers");
  }
  return found;
}

const CHAINS: readonly [hosts: Family, paths: Family, hops: 1 | 3, isSealed: boolean][] = [
  [4, 4, 1, false],
  [4, 4, 1, true],
  [4, 4, 3, false],
  [4, 4, 3, true],
  [6, 6, 1, true],
  [6, 6, 3, false],
  [4, 6, 1, false],
  [4, 6, 3, true],
  [6, 4, 1, false],
  [6, 4, 3, true],
];

for (const [hosts, paths, hops, isSealed] of CHAINS) {
  const title = `IPv${hosts} over IPv${paths}, ${hops === 1 ? "one hop" : "three hops"}, ${isSealed ? "signed and encrypted" : "in clear"}`;
  differential(
    `${title}: what leaves of the corpus is what came, well formed, no checksum spoilt and none repaired${why}`,
    async (t) => {
      t.timeout(600_000);
      const { fates, late } = through(chainOf(hops, isSealed ? SEALED : {}, hosts, paths), hosts);
      const { came, left, way } = await judged(fates, hosts);
      t.is(came.length, fates.length);
      const [before, after] = [new Pieces(), new Pieces()];
      const asked = new Asked();
      const wrong: string[] = [];
      for (const [n, fate] of fates.entries()) {
        const { capture, frame, arrived } = fate;
        const found = complaints(fate, came[n], left[n], way[n], isSealed || paths === 6);
        if (fateOf(fate) === undefined) found.push(`nobody says what became of it; ${fate.drops.join(", ")}`);
        if (isPiece(frame)) {
          before.add(inIpv4Form(frame));
          for (const each of arrived) after.add(inIpv4Form(each));
        }
        const sent = paths === 6 && isIpv4(frame) && !isFragment(frame) ? withoutOptions(frame) : inIpv4Form(frame);
        const isSuper = frame.length > FRAME_MAX || (arrived.length > 1 && asked.isExceededBy(frame));
        for (const each of arrived) asked.hear(each);
        const other =
          arrived.length === 0
            ? undefined
            : difference(sent, arrived.map(inIpv4Form), hops + 1, isSuper, hosts === 4 && paths === 6);
        if (other !== undefined) found.push(other);
        wrong.push(...found.map((what) => `${capture}, frame ${n}: ${what}`));
      }
      t.deepEqual(wrong, []);
      t.deepEqual(after.unlike(before), []);
      t.log(`${fates.length} frames`, countEach(fates.map((fate) => fateOf(fate) ?? "?")));
      const arrived = fates.flatMap((fate, n) => (fate.arrived.length === 0 ? [] : [came[n]]));
      t.log(countEach(arrived.map(({ ip, l4 }) => `arrived with IPv4 checksum ${ip}, L4 checksum ${l4}`)));
      t.true(arrived.filter(({ l4 }) => l4 === "good").length > 1000, "and not because nothing arrived");
      t.true(arrived.some(({ l4 }) => l4 === "bad"));
      // No packet of a wrong header checksum opens a session, and none here has one.
      t.true(came.every(({ ip }, n) => ip !== "bad" || fates[n].arrived.length === 0));
      // Pieces whose others never came, of packets put together nowhere.
      t.true(late.every((reason) => reason === "r0: ip-fragment-timeout"));
      t.true(
        fates.some(({ onTheWay }) => onTheWay.some((frame) => isIpv6(frame) === (paths === 6))),
        "paths are of their family",
      );
    },
  );
}
