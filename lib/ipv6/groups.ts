// The groups on a link in which a router with these addresses is, as MAC addresses (RFC 2464, 7): all nodes, all routers,
// and the solicited-node group of each address (RFC 4291, 2.8), by which neighbors ask for it.

import type { AddressBook } from "../table/address-book.ts";

const ALL_NODES = [0x33, 0x33, 0, 0, 0, 1];
const ALL_ROUTERS = [0x33, 0x33, 0, 0, 0, 2];

/** Each once, 6 bytes each. `mac`: also that of the link-local address which follows from it. */
export function groupsOf(addresses: readonly number[], book: AddressBook, mac: Uint8Array | null = null): Uint8Array {
  const tails = new Set(addresses.map((address) => book.word(address, 3) & 0x00ff_ffff));
  if (mac !== null) tails.add((mac[3] << 16) | (mac[4] << 8) | mac[5]);
  const solicited = [...tails].map((tail) => [0x33, 0x33, 0xff, tail >>> 16, (tail >>> 8) & 0xff, tail & 0xff]);
  return Uint8Array.from([ALL_NODES, ALL_ROUTERS, ...solicited].flat());
}
