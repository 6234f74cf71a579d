// HOT
// Apply a flow's rewrite plan to a decoded frame, in place: TTL, addresses, ports and both checksums. Nothing is added,
// nothing moves. The deltas were made when the session opened, so a checksum costs one addition (RFC 1624) and a wrong
// one stays wrong.

import { FLOW_DELTAS, FLOW_NEW_DESTINATION, FLOW_NEW_PORTS, FLOW_NEW_SOURCE } from "../table/flow-table.ts";
import { addDelta, applyDelta, applyDeltaUdp, deltaI32, deltaU16, pseudoSum } from "../wire/checksum.ts";
import { PROTOCOL_TCP, PROTOCOL_UDP } from "../wire/flow-key.ts";
import { DONT_FRAGMENT, IPV4_CHECKSUM, IPV4_FLAGS } from "../wire/ipv4.ts";

// A module's own constants are folded into its code; an imported one is loaded at each use (engine/README.md).
const DELTAS = FLOW_DELTAS;
const NEW_SOURCE = FLOW_NEW_SOURCE;
const NEW_DESTINATION = FLOW_NEW_DESTINATION;
const NEW_PORTS = FLOW_NEW_PORTS;
const TCP = PROTOCOL_TCP;
const UDP = PROTOCOL_UDP;
const TTL_ONE = 1 << 24;
const update = applyDelta;
const updateUdp = applyDeltaUdp;
const pseudo = pseudoSum;

/**
 * Rewrite the packet whose IPv4 header is at `l3` and L4 header at `l4`, by the flow row that begins at words[base].
 * The TTL must be 2 or more. `partial`: the L4 checksum field holds only the pseudo-header sum, and does so afterwards.
 */
export function rewrite(
  view: DataView,
  l3: number,
  l4: number,
  words: Int32Array,
  base: number,
  partial: boolean,
): void {
  // All loads before the first store, which makes the compiler look at `words` and `view` anew.
  const deltas = words[base | DELTAS];
  const source = words[base | NEW_SOURCE];
  const destination = words[base | NEW_DESTINATION];
  const ports = words[base | NEW_PORTS];
  // TTL, protocol and header checksum are one word, and so are a UDP header's length and checksum.
  const word = view.getInt32(l3 + 8);
  const protocol = (word >>> 16) & 0xff;
  const life = ((word - TTL_ONE) & 0xffff0000) | update(word & 0xffff, deltas >>> 16);
  if (protocol === UDP) {
    const udp = view.getInt32(l4 + 4);
    const checksum = partial ? pseudo(source, destination, UDP, udp >>> 16) : updateUdp(udp & 0xffff, deltas & 0xffff);
    view.setInt32(l4, ports);
    view.setInt32(l4 + 4, (udp & 0xffff0000) | checksum);
  } else if (protocol === TCP) {
    const checksum = partial
      ? pseudo(source, destination, TCP, view.getUint16(l3 + 2) - (l4 - l3))
      : update(view.getUint16(l4 + 16), deltas & 0xffff);
    view.setInt32(l4, ports);
    view.setUint16(l4 + 16, checksum);
  }
  view.setInt32(l3 + 8, life);
  view.setInt32(l3 + 12, source);
  view.setInt32(l3 + 16, destination);
}

/** The same packet with other addresses and ports; its TTL stays as it is. `partial` as above. A wrong checksum stays wrong. */
export function readdress(
  view: DataView,
  l3: number,
  l4: number,
  source: number,
  destination: number,
  ports: number,
  partial: boolean,
): void {
  const addresses = addDelta(deltaI32(view.getInt32(l3 + 12), source), deltaI32(view.getInt32(l3 + 16), destination));
  const l4Delta = addDelta(addresses, deltaI32(view.getInt32(l4), ports));
  view.setUint16(l3 + 10, update(view.getUint16(l3 + 10), addresses));
  view.setInt32(l3 + 12, source);
  view.setInt32(l3 + 16, destination);
  view.setInt32(l4, ports);
  const protocol = view.getUint8(l3 + 9);
  const field = l4 + (protocol === UDP ? 6 : 16);
  const old = view.getUint16(field);
  if (partial) view.setUint16(field, pseudo(source, destination, protocol, view.getUint16(l3 + 2) - (l4 - l3)));
  else view.setUint16(field, protocol === UDP ? updateUdp(old, l4Delta) : update(old, l4Delta));
}

/**
 * Give the packet the DSCP `dscp` (RFC 2474), -1 = the one that it has; what it has of congestion marks (RFC 3168) stays.
 * Addresses, TTL and what is behind the header stay as they are; a wrong checksum stays wrong.
 */
export function markDscp(view: DataView, l3: number, dscp: number): void {
  if (dscp < 0) return;
  // Version, header length, DSCP and ECN are one word.
  const word = view.getUint16(l3);
  const marked = (word & 0xff03) | (dscp << 2);
  view.setUint16(l3, marked);
  view.setUint16(l3 + 10, update(view.getUint16(l3 + 10), deltaU16(word, marked)));
}

/** The packet may be fragmented: its DF is 0 from now on (RFC 791). A wrong checksum stays wrong. */
export function allowFragments(view: DataView, l3: number): void {
  const word = view.getUint16(l3 + IPV4_FLAGS);
  const free = word & ~DONT_FRAGMENT;
  view.setUint16(l3 + IPV4_FLAGS, free);
  view.setUint16(l3 + IPV4_CHECKSUM, update(view.getUint16(l3 + IPV4_CHECKSUM), deltaU16(word, free)));
}

/** Add `padding` to the packet's TTL, as far as there is room. A wrong checksum stays wrong. */
export function padTtl(view: DataView, l3: number, padding: number): void {
  if (padding === 0) return;
  // TTL and protocol are one word.
  const word = view.getUint16(l3 + 8);
  const padded = (Math.min((word >>> 8) + padding, 255) << 8) | (word & 0xff);
  view.setUint16(l3 + 8, padded);
  view.setUint16(l3 + 10, update(view.getUint16(l3 + 10), deltaU16(word, padded)));
}

/** Write the 12 bytes of MAC addresses that begin the frame at `offset`, three words (peer/neighbor.ts). */
export function writeMacs(view: DataView, offset: number, mac0: number, mac1: number, mac2: number): void {
  view.setInt32(offset, mac0);
  view.setInt32(offset + 4, mac1);
  view.setInt32(offset + 8, mac2);
}
