// HOT
// Apply a flow's rewrite plan to a decoded frame, in place: TTL, addresses, ports and both checksums. Nothing is added,
// nothing moves. The deltas were made when the session opened, so a checksum costs one addition (RFC 1624) and a wrong
// one stays wrong.

import { getU16, setU16, setU32 } from "../base/bytes.ts";
import { FLOW_DELTAS, FLOW_NEW_DESTINATION, FLOW_NEW_PORTS, FLOW_NEW_SOURCE } from "../table/flow-table.ts";
import { applyDelta, applyDeltaUdp, fold, pseudoHeaderSum } from "../wire/checksum.ts";
import { PROTOCOL_TCP, PROTOCOL_UDP } from "../wire/flow-key.ts";

/**
 * Rewrite the packet whose IPv4 header is at `l3` and L4 header at `l4`, by the flow row that begins at words[base].
 * The TTL must be 2 or more. `partial`: the L4 checksum field holds only the pseudo-header sum, and does so afterwards.
 */
export function rewrite(
  bytes: Uint8Array,
  l3: number,
  l4: number,
  words: Int32Array,
  base: number,
  partial: boolean,
): void {
  const deltas = words[base + FLOW_DELTAS];
  bytes[l3 + 8]--;
  setU16(bytes, l3 + 10, applyDelta(getU16(bytes, l3 + 10), deltas >>> 16));
  setU32(bytes, l3 + 12, words[base + FLOW_NEW_SOURCE]);
  setU32(bytes, l3 + 16, words[base + FLOW_NEW_DESTINATION]);
  const protocol = bytes[l3 + 9];
  if (protocol === PROTOCOL_TCP) {
    setU32(bytes, l4, words[base + FLOW_NEW_PORTS]);
    if (partial) setU16(bytes, l4 + 16, fold(pseudoHeaderSum(bytes, l3, getU16(bytes, l3 + 2) - (l4 - l3))));
    else setU16(bytes, l4 + 16, applyDelta(getU16(bytes, l4 + 16), deltas & 0xffff));
  } else if (protocol === PROTOCOL_UDP) {
    setU32(bytes, l4, words[base + FLOW_NEW_PORTS]);
    if (partial) setU16(bytes, l4 + 6, fold(pseudoHeaderSum(bytes, l3, getU16(bytes, l4 + 4))));
    else setU16(bytes, l4 + 6, applyDeltaUdp(getU16(bytes, l4 + 6), deltas & 0xffff));
  }
}

/** Write the 12 bytes of MAC addresses that begin the frame at `offset`: the three words from macs[at] (peer/neighbor.ts). */
export function writeMacs(bytes: Uint8Array, offset: number, macs: Int32Array, at: number): void {
  setU32(bytes, offset, macs[at]);
  setU32(bytes, offset + 4, macs[at + 1]);
  setU32(bytes, offset + 8, macs[at + 2]);
}
