// PacketCrypto on node:crypto: no addon, one call and some garbage a row. What replay and explain could do without an
// addon, and the twin that native-crypto.ts is compared with.

import { createCipheriv, createDecipheriv, createHmac, timingSafeEqual } from "node:crypto";
import { setU32 } from "../base/bytes.ts";
import { invariant } from "../base/invariant.ts";
import { fold, sumWords } from "../wire/checksum.ts";
import {
  BLOCK,
  CIPHER_KEY_LENGTH,
  type CipherAlgorithm,
  DIGEST_LENGTH,
  HMAC_MISSING,
  HMAC_RIGHT,
  HMAC_WRONG,
  type HmacAlgorithm,
  IV_LENGTH,
  KEY_STRIDE,
  NO_WINDOW,
  type PacketCrypto,
  type PacketHmac,
  type PayloadCipher,
  sealedLength,
} from "./packet-crypto.ts";

class NodeHmac implements PacketHmac {
  readonly length: number;
  readonly #hash: string;
  readonly #key: Uint8Array;
  readonly #window = new Uint8Array(4);

  constructor(algorithm: HmacAlgorithm, key: Uint8Array) {
    this.length = DIGEST_LENGTH[algorithm];
    this.#hash = algorithm === "sha1" ? "sha1" : "sha256";
    this.#key = key.slice();
  }

  sign(bytes: Uint8Array, from: Int32Array, to: Int32Array, count: number, window: number): void {
    checkCount(count, from, to);
    for (let i = 0; i < count; i++) {
      if (!isInside(bytes, from[i], to[i], this.length)) {
        to[i] = -1;
        continue;
      }
      bytes.set(this.#digest(bytes, from[i], to[i], window), to[i]);
      to[i] += this.length;
    }
  }

  verify(
    bytes: Uint8Array,
    from: Int32Array,
    to: Int32Array,
    count: number,
    window: number,
    outcome: Int32Array,
  ): void {
    checkCount(count, from, to, outcome);
    // The one before window 0 is none: NO_WINDOW is the caller's word only.
    const windows = window === NO_WINDOW ? [NO_WINDOW] : [window, window - 1, window + 1].map((at) => at >>> 0);
    for (let i = 0; i < count; i++) {
      const end = to[i] - this.length;
      if (!isInside(bytes, from[i], to[i], 0) || end < from[i]) {
        outcome[i] = HMAC_MISSING;
        continue;
      }
      const said = bytes.subarray(end, to[i]);
      const right = windows.some((at) => timingSafeEqual(said, this.#digest(bytes, from[i], end, at)));
      outcome[i] = right ? HMAC_RIGHT : HMAC_WRONG;
      if (right) to[i] = end;
    }
  }

  #digest(bytes: Uint8Array, from: number, to: number, window: number): Uint8Array {
    const hmac = createHmac(this.#hash, this.#key).update(bytes.subarray(from, to));
    if (window !== NO_WINDOW) {
      setU32(this.#window, 0, window);
      hmac.update(this.#window);
    }
    return hmac.digest().subarray(0, this.length);
  }
}

/** Whose key is that of a row; null = the row has none. */
type KeyOf = (row: number, places: Int32Array | undefined) => Uint8Array | null;

class NodeCipher implements PayloadCipher {
  readonly #name: string;
  readonly #keyOf: KeyOf;

  constructor(algorithm: CipherAlgorithm, keyOf: KeyOf) {
    this.#name = algorithm === "aes-cbc-128" ? "aes-128-cbc" : "aes-256-cbc";
    this.#keyOf = keyOf;
  }

  seal(bytes: Uint8Array, from: Int32Array, to: Int32Array, count: number, ivs: Uint8Array, places?: Int32Array): void {
    checkCount(count, from, to);
    invariant(ivs.length >= count * IV_LENGTH, "each row needs an IV of 16 bytes");
    for (let i = 0; i < count; i++) {
      const key = this.#keyOf(i, places);
      const length = to[i] - from[i];
      if (key === null || !isInside(bytes, from[i], to[i], sealedLength(length) - length)) {
        to[i] = -1;
        continue;
      }
      const iv = ivs.slice(i * IV_LENGTH, (i + 1) * IV_LENGTH);
      const cipher = createCipheriv(this.#name, key, iv);
      const body = cipher.update(bytes.subarray(from[i], to[i]));
      const last = cipher.final();
      bytes.set(body, from[i]);
      bytes.set(last, from[i] + body.length);
      bytes.set(iv, from[i] + body.length + last.length);
      to[i] = from[i] + body.length + last.length + IV_LENGTH;
    }
  }

  open(bytes: Uint8Array, from: Int32Array, to: Int32Array, count: number, places?: Int32Array): void {
    checkCount(count, from, to);
    for (let i = 0; i < count; i++) {
      const key = this.#keyOf(i, places);
      const end = to[i] - IV_LENGTH;
      const length = end - from[i];
      const inside = isInside(bytes, from[i], to[i], 0);
      to[i] = -1;
      if (key === null || !inside || length < BLOCK || length % BLOCK !== 0) continue;
      const decipher = createDecipheriv(this.#name, key, bytes.subarray(end, end + IV_LENGTH));
      decipher.setAutoPadding(false);
      const plain = decipher.update(bytes.subarray(from[i], end));
      decipher.final();
      const padding = plain[length - 1];
      if (padding < 1 || padding > BLOCK || !plain.subarray(length - padding).every((byte) => byte === padding))
        continue;
      bytes.set(plain.subarray(0, length - padding), from[i]);
      to[i] = from[i] + length - padding;
    }
  }
}

function ofAllRows(algorithm: CipherAlgorithm, key: Uint8Array): KeyOf {
  invariant(key.length === CIPHER_KEY_LENGTH[algorithm], `a key of ${algorithm} has another length`);
  const own = key.slice();
  return () => own;
}

function ofColumn(algorithm: CipherAlgorithm, keys: Uint8Array): KeyOf {
  return (row, places) => {
    invariant(places !== undefined && row < places.length, "each row needs the place of its key");
    const place = places[row];
    if (place < 0 || place >= Math.floor(keys.length / KEY_STRIDE)) return null;
    return keys.subarray(place * KEY_STRIDE, place * KEY_STRIDE + CIPHER_KEY_LENGTH[algorithm]);
  };
}

export const nodeCrypto: PacketCrypto = {
  hmac: (algorithm, key) => new NodeHmac(algorithm, key),
  cipher: (algorithm, key) => new NodeCipher(algorithm, ofAllRows(algorithm, key)),
  columnCipher: (algorithm, keys) => new NodeCipher(algorithm, ofColumn(algorithm, keys)),
  sums(bytes, from, to, count, sums) {
    checkCount(count, from, to, sums);
    for (let i = 0; i < count; i++) {
      sums[i] = isInside(bytes, from[i], to[i], 0) ? fold(sumWords(bytes, from[i], to[i], 0)) : -1;
    }
  },
};

function checkCount(count: number, ...columns: readonly Int32Array[]): void {
  invariant(
    count >= 0 && columns.every((column) => count <= column.length),
    "a column is shorter than the rows are many",
  );
}

/** Whether a row lies inside the bytes, with `growth` more behind it. */
function isInside(bytes: Uint8Array, from: number, to: number, growth: number): boolean {
  return from >= 0 && from <= to && to + growth <= bytes.length;
}
