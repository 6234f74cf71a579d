// The groups on a link in which a router with these addresses is: all nodes, all routers, and the solicited-node group of each
// address (RFC 4291, 2.7.1 and 2.8), by which neighbors ask for it.

import type { AddressBook } from "../table/address-book.ts";

const ALL_NODES = [0x33, 0x33, 0, 0, 0, 1];
/** The last two words of ff02::2 and of ff02::1:ff00:0. */
const ALL_ROUTERS: Group = [0, 2];
const SOLICITED_NODE: Group = [1, 0xff00_0000];

/** The last two words of a group's address, whose first two are ff02:: */
export type Group = readonly [number, number];

/**
 * Each once, but for all nodes', in which everybody is and which nobody speaks of (RFC 3810, 6). `mac`: also that of the
 * link-local address which follows from it.
 */
export function listenedGroups(
  addresses: readonly number[],
  book: AddressBook,
  mac: Uint8Array | null = null,
): readonly Group[] {
  const tails = new Set(addresses.map((address) => book.word(address, 3) & 0x00ff_ffff));
  if (mac !== null) tails.add((mac[3] << 16) | (mac[4] << 8) | mac[5]);
  const solicited = [...tails].map((tail): Group => [SOLICITED_NODE[0], (SOLICITED_NODE[1] | tail) >>> 0]);
  return [ALL_ROUTERS, ...solicited];
}

/** All of them as MAC addresses (RFC 2464, 7), 6 bytes each. */
export function groupsOf(addresses: readonly number[], book: AddressBook, mac: Uint8Array | null = null): Uint8Array {
  const macs = listenedGroups(addresses, book, mac).map(([, last]) => {
    return [0x33, 0x33, last >>> 24, (last >>> 16) & 0xff, (last >>> 8) & 0xff, last & 0xff];
  });
  return Uint8Array.from([ALL_NODES, ...macs].flat());
}
