// Bytes from one memory to another, as fast as the engine's own memory copy, which costs one short-lived view: for what
// is long. bytes.ts is for what is short.

/** Copy source[from..to) to target[at] and on; the memories are different ones. */
export function copyBytes(source: Uint8Array, from: number, to: number, target: Uint8Array, at: number): void {
  target.set(source.subarray(from, to), at);
}
