// What the router's own form has of a flow label (RFC 6437): its low 16 bits are IPv4's identification, which is of no use in
// a packet that is never cut (RFC 6864). Between routers one more says what IPv6 has no bit for.

/** The packet is not forbidden to be fragmented: IPv4's DF is 0. Believed only where peers send. */
export const LABEL_MAY_BE_CUT = 0x1_0000;
