// Which of 64 shards a session belongs to: a symmetric, unseeded hash of its original 5-tuple, the same in both
// directions and on every router. A worker owns the shards that are its number modulo the number of workers, so a
// router hands each session to one worker, whatever its own or its peer's number of workers is:
//
//   on a plain network   the addresses and ports themselves are hashed, an IPv6 address as the XOR of its four words
//   between routers      the session's waypoint ports say the shard: its initiator picks a pair whose even port is
//                        16384 + 2 * (shard modulo 64), so (even port >> 1) & 63 is the shard (table/port-pool.ts)
//
// Only sums, products, shifts and XORs of 32 bits: the kernel computes the same in classic BPF (steering-program.ts).
// The hash has no seed, because two routers must agree on it: whoever chooses addresses and ports chooses the worker.

import { PROTOCOL_TCP, PROTOCOL_UDP } from "./flow-key.ts";

export const SHARDS = 64;
/** The least waypoint port (protocol sheet 2.3). */
export const WAYPOINT_PORT_FIRST = 16384;

// Odd constants with bits all over: the golden ratio's, and two of the primes that xxHash mixes with.
export const PORT_FACTOR = 0x9e3779b1 | 0;
export const FIRST_FACTOR = 0x85ebca77 | 0;
export const SECOND_FACTOR = 0xc2b2ae3d | 0;
export const MIX_SHIFT = 15;
export const SHARD_SHIFT = 26;

/**
 * The shard of a session with this original 5-tuple, `ports` as source << 16 | destination. Of an IPv6 address its hash word
 * (AddressBook.hashWord), for its name is one thread's own. Ports count for TCP and UDP only: every ICMP echo between two hosts is
 * in one shard.
 */
export function shardOf(source: number, destination: number, ports: number, protocol: number): number {
  const portSum = protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP ? (ports >>> 16) + (ports & 0xffff) : 0;
  let h = (source + destination + Math.imul(portSum, PORT_FACTOR)) | 0;
  h = Math.imul(h, FIRST_FACTOR);
  h ^= h >>> MIX_SHIFT;
  return Math.imul(h, SECOND_FACTOR) >>> SHARD_SHIFT;
}

/** The shard that a packet between routers belongs to by its waypoint ports, source << 16 | destination. */
export function waypointShard(ports: number): number {
  const source = ports >>> 16;
  const even = (source & 1) === 0 ? source : ports & 0xffff;
  return (even >>> 1) & (SHARDS - 1);
}
