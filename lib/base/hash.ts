// HOT
// Seeded 32-bit hash over Int32 words (the mixing steps of MurmurHash3). The seed is drawn at every boot, so an
// attacker who can choose flow keys cannot choose collisions.

/** Hash of four words. Returns an int32. */
export function hash4(seed: number, w0: number, w1: number, w2: number, w3: number): number {
  let h = mix(seed, w0);
  h = mix(h, w1);
  h = mix(h, w2);
  h = mix(h, w3);
  return finish(h ^ 16);
}

/** hashes[i] = hash4 of the four words at keys[i << shift], for i in 0..count-1. */
export function hash4Batch(seed: number, keys: Int32Array, shift: number, count: number, hashes: Int32Array): void {
  for (let i = 0; i < count; i++) {
    const at = i << shift;
    hashes[i] = hash4(seed, keys[at], keys[at + 1], keys[at + 2], keys[at + 3]);
  }
}

/** Hash of `count` words of `words` from `at`. Returns the same int32 as hash4 for the same four words. */
export function hashWords(seed: number, words: Int32Array, at: number, count: number): number {
  let h = seed;
  for (let i = 0; i < count; i++) h = mix(h, words[at + i]);
  return finish(h ^ (count << 2));
}

function mix(h: number, word: number): number {
  let k = Math.imul(word, 0xcc9e2d51);
  k = (k << 15) | (k >>> 17);
  h ^= Math.imul(k, 0x1b873593);
  h = (h << 13) | (h >>> 19);
  return (Math.imul(h, 5) + 0xe6546b64) | 0;
}

function finish(h: number): number {
  h ^= h >>> 16;
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return h ^ (h >>> 16);
}
