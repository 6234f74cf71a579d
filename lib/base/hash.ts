// HOT
// Seeded 32-bit hash over Int32 words: each word is put to what came before and both are mixed by two multiplications,
// so that a difference in one is not easily made up for by the next. The seed is drawn at every boot: who does not know it
// cannot simply choose keys that collide. That is a design, not a proof. (In MurmurHash3, which was here before, one bit
// each in two neighboring words cancels whatever the seed.)

/** Hash of four words. Returns an int32. */
export function hash4(seed: number, w0: number, w1: number, w2: number, w3: number): number {
  return mix(mix(mix(mix(seed ^ w0) ^ w1) ^ w2) ^ w3);
}

/** Hash of `count` words of `words` from `at`. Returns the same int32 as hash4 for the same four words. */
export function hashWords(seed: number, words: Int32Array, at: number, count: number): number {
  let h = seed;
  for (let i = 0; i < count; i++) h = mix(h ^ words[at + i]);
  return h;
}

/** One-to-one. The constants are those of lowbias32 (Wellons, "Prospecting for Hash Functions"). */
const mix = (h: number): number => {
  h = Math.imul(h, 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return h ^ (h >>> 16);
};
