// Flow labels (RFC 6437), 20 bits that no router changes. In the router's own form a packet's label travels beside it, in the
// flag column of its frame (io/port.ts); its low 16 bits are IPv4's identification too, which is of no use in a packet that is
// never cut (RFC 6864), so that an IPv4 path keeps these. A packet of an IPv4 session has no label of its own. Over an IPv6 path all
// that may not be cut have one and the same, so that networks that spread by label keep them in order, and receivers can join them;
// of one that may, its identification is needed and is the label, and one bit more says what IPv6 has no bit for.

import { FRAME_LABEL_SHIFT, FRAME_LABELLED } from "../io/port.ts";

const LABEL_MASK = 0xf_ffff;

/**
 * The packet is not forbidden to be fragmented: IPv4's DF is 0. Said, and believed, of packets of IPv4 sessions alone: only a
 * flow knows whose they are (OP_LABEL, table/flow-table.ts).
 */
export const LABEL_MAY_BE_CUT = 0x1_0000;

/**
 * The label of a session's packets in one direction, of which nobody needs more than that (RFC 6437, 3): from its addresses, or
 * their names, the protocol and both ports. Never 0, and without LABEL_MAY_BE_CUT.
 */
export function sessionLabel(source: number, destination: number, protocol: number, ports: number): number {
  let hash = Math.imul(source ^ (protocol << 24), 0x9e3779b1) ^ destination;
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b) ^ ports;
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) & LABEL_MASK & ~LABEL_MAY_BE_CUT) | 1;
}

/** The flag column bits of a frame whose IPv6 header begins with this word: a label is its low 20 bits. */
export const withLabel = (head: number): number => FRAME_LABELLED | ((head & LABEL_MASK) << FRAME_LABEL_SHIFT);

/** The label that stands in a flag column with FRAME_LABELLED. */
export const labelOf = (flags: number): number => (flags >>> FRAME_LABEL_SHIFT) & LABEL_MASK;
