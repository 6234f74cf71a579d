// Frames of every kind that a router acts on, for fuzzed.ts's world: what mutations begin with.

import { setU16 } from "../../lib/base/bytes.ts";
import type { SeededRandom } from "../../lib/base/random.ts";
import { PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } from "../../lib/wire/flow-key.ts";
import { shardOf } from "../../lib/wire/shard.ts";
import { ACK, SYN } from "../../lib/wire/tcp.ts";
import { buildFrame, type FrameWish, randomBytes } from "../wire/frames.ts";
import { bytesOf, VECTORS } from "../wire/vectors.ts";

export const LAN = 0;
export const WAN = 1;
export const WEST = 0xc6120001 | 0;
export const EAST = 0xc6120002 | 0;
export const NORTH = 0xc6120003 | 0;
export const CLIENT = 0x0a010002;
export const FAR = 0x0a030005;
/** Replies to the sessions that west opens: each has the first pair of its shard. */
const WEST_PAIRS = [0, 1, 2, 3].map((n) => {
  const shard = shardOf(CLIENT, FAR, ((40000 + n) << 16) | 443, PROTOCOL_UDP);
  return [16385 + 2 * shard, 16384 + 2 * shard];
});
export interface Original {
  readonly at: number;
  readonly frame: Uint8Array;
}

/** Few ports, so that frames meet each other's sessions. */
export function originals(random: SeededRandom): Original[] {
  const list: Original[] = [];
  const add = (at: number, wish: FrameWish) => list.push({ at, frame: buildFrame(wish).bytes });
  const fromPeer = (payload: Uint8Array) => {
    for (const protocol of [PROTOCOL_UDP, PROTOCOL_TCP]) {
      for (const [sourcePort, destinationPort] of [
        [16384, 16385],
        [16385, 16384],
        [16387, 16386],
        [16390, 16391],
        ...WEST_PAIRS,
      ]) {
        const source = random.below(4) === 0 ? NORTH : EAST;
        add(WAN, {
          protocol,
          source,
          destination: WEST,
          sourcePort,
          destinationPort,
          payload,
          flags: random.below(2) === 0 ? SYN : ACK,
        });
      }
    }
  };
  for (const { hex } of VECTORS) fromPeer(Uint8Array.from([...bytesOf(hex), ...randomBytes(random, random.below(40))]));
  // The forward vector with the context of a TCP session and of an ICMP one.
  for (const protocol of [PROTOCOL_TCP, PROTOCOL_ICMP]) {
    const metadata = bytesOf(VECTORS[0].hex);
    metadata[40] = protocol;
    const message = buildFrame({ protocol: PROTOCOL_ICMP, payload: randomBytes(random, 20) }).bytes.slice(34);
    fromPeer(Uint8Array.from([...metadata, ...(protocol === PROTOCOL_ICMP ? message : [])]));
  }
  // The forward vector in two fabric fragments, either first.
  const whole = bytesOf(VECTORS[0].hex);
  for (const [more, units, piece] of [
    [0x2000, 0, whole.subarray(0, 64)],
    [0, 8, whole.subarray(64)],
  ] as const) {
    const header = bytesOf("4c48dbc6 ddf6670c 101a0000 0001000a a1b2c3d4 1234 0000 05c8");
    setU16(header, 22, more | units);
    fromPeer(Uint8Array.from([...header, ...piece]));
  }
  for (const protocol of [PROTOCOL_UDP, PROTOCOL_TCP, PROTOCOL_ICMP, 47]) {
    for (const destination of [0x0a020214, FAR, WEST]) {
      for (const length of [0, 8, 1400, 1472, 6000]) {
        const payload = randomBytes(random, length);
        if (length === 8) payload.set(bytesOf("4c48dbc6 ddf6670c"));
        add(LAN, {
          protocol,
          source: CLIENT,
          destination,
          sourcePort: 40000 + random.below(4),
          destinationPort: 443,
          payload,
          flags: random.below(2) === 0 ? SYN : ACK,
        });
      }
    }
  }
  list.push({
    at: LAN,
    frame: bytesOf("ffffffffffff 020000000101 0806 0001 0800 06 04 0001 020000000101 0a010002 000000000000 0a010001"),
  });
  list.push({
    at: WAN,
    frame: bytesOf("02574d000002 020000000102 0806 0001 0800 06 04 0002 020000000102 c6120002 02574d000002 c6120001"),
  });
  return list;
}
