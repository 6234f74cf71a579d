// The link-local address that follows from a MAC address (RFC 4291, appendix A): whence this router speaks to the link itself.

import { setU32 } from "../base/bytes.ts";

/** Its last two words; the first two are fe80:: (RFC 4291, 2.5.6). */
export function identifierOf(high: number, low: number): [number, number] {
  const universal = high ^ 0x0200;
  return [(universal << 16) | ((low >>> 24) << 8) | 0xff, 0xfe00_0000 | (low & 0x00ff_ffff)];
}

/** Write the address whose last two words these are. */
export function writeLinkLocal(bytes: Uint8Array, at: number, [third, fourth]: readonly [number, number]): void {
  setU32(bytes, at, 0xfe80_0000);
  setU32(bytes, at + 4, 0);
  setU32(bytes, at + 8, third);
  setU32(bytes, at + 12, fourth);
}
