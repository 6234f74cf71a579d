// A whole router without keys, small enough for its tables to fill: what hosts on an untrusted LAN send it, and what
// arrives on the WAN beside them, from a peer's address or any other.

import { getI32 } from "../../../lib/base/bytes.ts";
import { SeededRandom } from "../../../lib/base/random.ts";
import { decodeSlowly } from "../../model/decode.ts";
import { bytesOf, hexOf } from "../../wire/vectors.ts";
import { checksumsAreRight } from "../forms.ts";
import { config, type Fuzzed, fuzzed, unaccounted } from "../fuzzed.ts";
import type { Target } from "../fuzzer.ts";
import { EAST, LAN, NORTH, originals, WAN } from "../originals.ts";
import {
  changeRecords,
  type FrameRecord,
  flagsOf,
  interfaceOf,
  pauseOf,
  readRecords,
  writeRecords,
} from "../records.ts";

const PEERS = [EAST, NORTH];
const FRAME_MAX = 1600;

/** What became of the last frame: the first counter that says so. */
export function lastEnd(before: Record<string, number>, after: Record<string, number>): string {
  const grown = Object.keys(after).filter((name) => after[name] > before[name]);
  const drop = grown.find((name) => name.startsWith("drop."));
  if (drop !== undefined) return drop.slice("drop.".length);
  const means = ["strays.sent", "metadata.generated", "fabric.reassembled", "metadata.sent", "metadata.received"];
  return means.find((name) => grown.includes(name)) ?? (grown.includes("frames.forwarded") ? "forwarded" : "consumed");
}

/** Whatever leaves is Ethernet, and a whole IPv4 packet or an ARP message; right as `areRight` says. */
export function checkSent({ ports }: Fuzzed, areRight = false): void {
  for (const port of ports) {
    for (const frame of port.sent.splice(0)) {
      const { verdict } = decodeSlowly(frame, null);
      if (verdict === "arp") continue;
      if (!["ok", "icmp-error", "fragment"].includes(verdict))
        throw new Error(`a frame left that is ${verdict}: ${hexOf(frame)}`);
      if (areRight && !checksumsAreRight(frame)) throw new Error(`a checksum went wrong: ${hexOf(frame)}`);
    }
  }
}

/** Let all that arrives at the router arrive, and look at the router after each. */
function run(records: readonly FrameRecord[]): string {
  const world = fuzzed();
  const { router, clock } = world;
  const { sessions, counters } = router;
  let before = counters.publish(true);
  let areRight = true;
  for (const record of records) {
    clock.advance(pauseOf(record));
    while (router.engine.turn(clock.nowMs()) > 0);
    before = counters.publish(true);
    const [opened, closed] = [sessions.openedTotal, sessions.closedTotal];
    const { frame } = record;
    world.arrive(interfaceOf(record), frame, flagsOf(record));
    const isPeers = frame.length >= 34 && PEERS.includes(getI32(frame, 26));
    if (interfaceOf(record) === WAN && !isPeers && (sessions.openedTotal !== opened || sessions.closedTotal !== closed))
      throw new Error("a stranger on the WAN opened or closed a session");
    // What came wrong, or unfinished, may leave so, then or later.
    const { verdict } = decodeSlowly(frame, null);
    if (flagsOf(record) !== 0 || (verdict === "ok" && !checksumsAreRight(frame))) areRight = false;
    checkSent(world, areRight);
  }
  const after = counters.publish(true);
  if (unaccounted(after) !== 0) throw new Error(`the books are wrong by ${unaccounted(after)}`);
  if (sessions.table.count > config.sessions.max) throw new Error("more sessions than there may be");
  if (sessions.table.count !== sessions.openedTotal - sessions.closedTotal) throw new Error("a session is lost");
  return records.length === 0 ? "nothing" : lastEnd(before, after);
}

const records = originals(new SeededRandom(1))
  .filter(({ frame }) => frame.length <= FRAME_MAX)
  .map(({ at, frame }): FrameRecord => ({ how: at, frame }));

const tokens = [bytesOf("4c48dbc6 ddf6670c"), bytesOf("c6120001"), bytesOf("c6120002"), bytesOf("0a010002")];

function target(isHeard: (record: FrameRecord) => boolean): Target {
  const heard = records.filter(isHeard);
  return {
    runs: 300,
    lengthMax: 8000,
    // Some alone, and all in conversations.
    seeds: [
      ...heard.filter((_, i) => i % 6 === 0).map((record) => writeRecords([record])),
      ...heard.flatMap((_, i) => (i % 8 === 0 ? [writeRecords(heard.slice(i, i + 8))] : [])),
    ],
    tokens,
    change: (random, input) => changeRecords(random, input, heard, tokens),
    run: (input) => run(readRecords(input).filter(isHeard)),
  };
}

export const fromLan = target((record) => interfaceOf(record) === LAN);
export const fromPeer = target(() => true);
