// What crypto/ asks of the native addon (native/crypto.cc), here because io/, which loads the addon, is a room of crypto's
// floor.

/** A key that the addon holds. It is wiped when nothing refers to the handle any more. */
export interface HmacHandle {
  readonly holds: "hmac key";
}
export interface CipherHandle {
  readonly holds: "cipher key";
}
/** Holds no key. */
export interface ColumnHandle {
  readonly holds: "cipher";
}

/**
 * Algorithms are named as in crypto/packet-crypto.ts, which says what becomes of the rows, bytes[from[i]..to[i]). Every
 * function throws an Error with `.code` (EINVAL for wrong arguments) and a sentence.
 */
export interface CryptoAddon {
  hmacKey(algorithm: string, key: Uint8Array): HmacHandle;
  hmacSign(hmac: HmacHandle, bytes: Uint8Array, from: Int32Array, to: Int32Array, count: number, window: number): void;
  hmacVerify(
    hmac: HmacHandle,
    bytes: Uint8Array,
    from: Int32Array,
    to: Int32Array,
    count: number,
    window: number,
    outcome: Int32Array,
  ): void;
  cipherKey(algorithm: string, key: Uint8Array): CipherHandle;
  cipherSeal(
    cipher: CipherHandle,
    bytes: Uint8Array,
    from: Int32Array,
    to: Int32Array,
    count: number,
    ivs: Uint8Array,
  ): void;
  cipherOpen(cipher: CipherHandle, bytes: Uint8Array, from: Int32Array, to: Int32Array, count: number): void;
  columnCipher(algorithm: string): ColumnHandle;
  columnSeal(
    cipher: ColumnHandle,
    bytes: Uint8Array,
    from: Int32Array,
    to: Int32Array,
    count: number,
    ivs: Uint8Array,
    keys: Uint8Array,
    places: Int32Array,
  ): void;
  columnOpen(
    cipher: ColumnHandle,
    bytes: Uint8Array,
    from: Int32Array,
    to: Int32Array,
    count: number,
    keys: Uint8Array,
    places: Int32Array,
  ): void;
  rowSums(bytes: Uint8Array, from: Int32Array, to: Int32Array, count: number, sums: Int32Array): void;
}
