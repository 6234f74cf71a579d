// HOT
// Keyed 32-bit hash over Int32 words. The key is spread from a seed that is drawn at every boot: who does not know it
// cannot choose words that collide more often than any others. A seed in front of a well-known mixing function does
// not do that: of MurmurHash3 whole sets of words can be written down that collide under every seed.
//
// Each word is two halves, and adds (a + high) * (b + low), with its own a and b of the key, to a sum modulo 2^32; and
// with two other numbers to a second sum. The upper 16 bits of such a sum are strongly universal (pair-multiply-shift:
// Thorup, High Speed Hashing for Integers and Strings, 2015), so two different keys have any two values equally
// often. The upper halves of both sums are the hash, spread over all bits by steps that are one to one.

const KEYS_PER_WORD = 4;
/** What each of the two sums begins with. */
const STARTS = 2;

/** cold, once a table: the key for hashing `count` words at a time. */
export function hashKeyOf(seed: number, count: number): Int32Array {
  const key = new Int32Array(count * KEYS_PER_WORD + STARTS);
  let state = seed | 0;
  for (let i = 0; i < key.length; i++) {
    state = (state + 0x9e3779b9) | 0;
    key[i] = finish(state);
  }
  return key;
}

/** Hash of four words, with a key for four. Returns an int32. */
export function hash4(key: Int32Array, w0: number, w1: number, w2: number, w3: number): number {
  let one = key[16];
  let two = key[17];
  one = (one + Math.imul(key[0] + (w0 >>> 16), key[1] + (w0 & 0xffff))) | 0;
  two = (two + Math.imul(key[2] + (w0 >>> 16), key[3] + (w0 & 0xffff))) | 0;
  one = (one + Math.imul(key[4] + (w1 >>> 16), key[5] + (w1 & 0xffff))) | 0;
  two = (two + Math.imul(key[6] + (w1 >>> 16), key[7] + (w1 & 0xffff))) | 0;
  one = (one + Math.imul(key[8] + (w2 >>> 16), key[9] + (w2 & 0xffff))) | 0;
  two = (two + Math.imul(key[10] + (w2 >>> 16), key[11] + (w2 & 0xffff))) | 0;
  one = (one + Math.imul(key[12] + (w3 >>> 16), key[13] + (w3 & 0xffff))) | 0;
  two = (two + Math.imul(key[14] + (w3 >>> 16), key[15] + (w3 & 0xffff))) | 0;
  return finish((one & 0xffff0000) | (two >>> 16));
}

/** hashes[i] = hash4 of the four words at words[i << shift], for i in from..to-1. The key is loaded once. */
export function hash4Batch(
  key: Int32Array,
  words: Int32Array,
  shift: number,
  from: number,
  to: number,
  hashes: Int32Array,
): void {
  const k0 = key[0];
  const k1 = key[1];
  const k2 = key[2];
  const k3 = key[3];
  const k4 = key[4];
  const k5 = key[5];
  const k6 = key[6];
  const k7 = key[7];
  const k8 = key[8];
  const k9 = key[9];
  const k10 = key[10];
  const k11 = key[11];
  const k12 = key[12];
  const k13 = key[13];
  const k14 = key[14];
  const k15 = key[15];
  const k16 = key[16];
  const k17 = key[17];
  for (let i = from; i < to; i++) {
    const at = i << shift;
    const w0 = words[at];
    const w1 = words[at + 1];
    const w2 = words[at + 2];
    const w3 = words[at + 3];
    let one = k16;
    let two = k17;
    one = (one + Math.imul(k0 + (w0 >>> 16), k1 + (w0 & 0xffff))) | 0;
    two = (two + Math.imul(k2 + (w0 >>> 16), k3 + (w0 & 0xffff))) | 0;
    one = (one + Math.imul(k4 + (w1 >>> 16), k5 + (w1 & 0xffff))) | 0;
    two = (two + Math.imul(k6 + (w1 >>> 16), k7 + (w1 & 0xffff))) | 0;
    one = (one + Math.imul(k8 + (w2 >>> 16), k9 + (w2 & 0xffff))) | 0;
    two = (two + Math.imul(k10 + (w2 >>> 16), k11 + (w2 & 0xffff))) | 0;
    one = (one + Math.imul(k12 + (w3 >>> 16), k13 + (w3 & 0xffff))) | 0;
    two = (two + Math.imul(k14 + (w3 >>> 16), k15 + (w3 & 0xffff))) | 0;
    hashes[i] = finish((one & 0xffff0000) | (two >>> 16));
  }
}

/** Hash of `count` words of `words` from `at`, with a key for so many. Returns the same int32 as hash4 for the same four words. */
export function hashWords(key: Int32Array, words: Int32Array, at: number, count: number): number {
  let one = key[count * KEYS_PER_WORD];
  let two = key[count * KEYS_PER_WORD + 1];
  for (let i = 0; i < count; i++) {
    const high = words[at + i] >>> 16;
    const low = words[at + i] & 0xffff;
    const own = i * KEYS_PER_WORD;
    one = (one + Math.imul(key[own] + high, key[own + 1] + low)) | 0;
    two = (two + Math.imul(key[own + 2] + high, key[own + 3] + low)) | 0;
  }
  return finish((one & 0xffff0000) | (two >>> 16));
}

/** MurmurHash3's last steps: one to one. */
function finish(h: number): number {
  h ^= h >>> 16;
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** Another word put to a number, all of its bits spread. No key: for choices that everybody has to make alike. */
export function scatter(number: number, word: number): number {
  return finish(finish(number) ^ word);
}
