// Flow labels (RFC 6437), 20 bits that no router changes. In the router's own form a packet's label travels beside it, in the
// flag column of its frame (io/port.ts); its low 16 bits are IPv4's identification too, which is of no use in a packet that is
// never cut (RFC 6864), so that an IPv4 path keeps these. A packet of an IPv4 session has no label of its own: over an IPv6 path
// its label is the identification, and one bit more says what IPv6 has no bit for.

import { FRAME_LABEL_SHIFT, FRAME_LABELLED } from "../io/port.ts";

const LABEL_MASK = 0xf_ffff;

/**
 * The packet is not forbidden to be fragmented: IPv4's DF is 0. Said, and believed, of packets of IPv4 sessions alone: only a
 * flow knows whose they are (OP_LABEL, table/flow-table.ts).
 */
export const LABEL_MAY_BE_CUT = 0x1_0000;

/** The flag column bits of a frame whose IPv6 header begins with this word: a label is its low 20 bits. */
export const withLabel = (head: number): number => FRAME_LABELLED | ((head & LABEL_MASK) << FRAME_LABEL_SHIFT);

/** The label that stands in a flag column with FRAME_LABELLED. */
export const labelOf = (flags: number): number => (flags >>> FRAME_LABEL_SHIFT) & LABEL_MASK;
