// HOT
// Big-endian reads and writes at an offset. Everything on the wire is big-endian (network byte order, RFC 1700).
// No bounds checks: the caller has checked lengths once (see flow-key.ts), and a read past the end of a typed array
// yields 0 here, never an exception.

/** The same memory for reads and writes of whole words: one load each where getU16 and getI32 take two and four. */
// cold: once a memory
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Unsigned 16-bit value at `at`. */
export function getU16(bytes: Uint8Array, at: number): number {
  return (bytes[at] << 8) | bytes[at + 1];
}

/** 32-bit value at `at` as a signed int32, the form IPv4 addresses have everywhere in this code. */
export function getI32(bytes: Uint8Array, at: number): number {
  return (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
}

/** Unsigned 32-bit value at `at`. */
export function getU32(bytes: Uint8Array, at: number): number {
  return getI32(bytes, at) >>> 0;
}

/** Store the low 16 bits of `value` at `at`. */
export function setU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

/** Store the low 32 bits of `value` at `at`. */
export function setU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}
