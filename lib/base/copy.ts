// Bytes from one memory to another. The engine's own memory copy is the fastest there is, and costs one short-lived view: what is
// short goes byte by byte.

/** As much as a view costs. */
const SHORT = 32;

/** Copy source[from..to) to target[at] and on; the memories are different ones. */
export function copyBytes(source: Uint8Array, from: number, to: number, target: Uint8Array, at: number): void {
  if (to - from > SHORT) target.set(source.subarray(from, to), at);
  else for (let n = from; n < to; n++) target[at + n - from] = source[n];
}
