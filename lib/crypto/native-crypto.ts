// PacketCrypto in the native addon (native/crypto.cc): one crossing for all rows of a call, no garbage. The addon itself
// is loaded in io/, a room of the same floor, so whoever puts a router together hands it in.

import type { CipherHandle, ColumnHandle, CryptoAddon, HmacHandle } from "../base/crypto-addon.ts";
import type { CipherAlgorithm, HmacAlgorithm, PacketCrypto, PacketHmac, PayloadCipher } from "./packet-crypto.ts";
import { DIGEST_LENGTH } from "./packet-crypto.ts";

class NativeHmac implements PacketHmac {
  readonly length: number;
  readonly #addon: CryptoAddon;
  readonly #handle: HmacHandle;

  constructor(addon: CryptoAddon, algorithm: HmacAlgorithm, key: Uint8Array) {
    this.length = DIGEST_LENGTH[algorithm];
    this.#addon = addon;
    this.#handle = addon.hmacKey(algorithm, key);
  }

  sign(bytes: Uint8Array, from: Int32Array, to: Int32Array, count: number, window: number): void {
    this.#addon.hmacSign(this.#handle, bytes, from, to, count, window);
  }

  verify(
    bytes: Uint8Array,
    from: Int32Array,
    to: Int32Array,
    count: number,
    window: number,
    outcome: Int32Array,
  ): void {
    this.#addon.hmacVerify(this.#handle, bytes, from, to, count, window, outcome);
  }
}

class NativeCipher implements PayloadCipher {
  readonly #addon: CryptoAddon;
  readonly #handle: CipherHandle;

  constructor(addon: CryptoAddon, algorithm: CipherAlgorithm, key: Uint8Array) {
    this.#addon = addon;
    this.#handle = addon.cipherKey(algorithm, key);
  }

  seal(bytes: Uint8Array, from: Int32Array, to: Int32Array, count: number, ivs: Uint8Array): void {
    this.#addon.cipherSeal(this.#handle, bytes, from, to, count, ivs);
  }

  open(bytes: Uint8Array, from: Int32Array, to: Int32Array, count: number): void {
    this.#addon.cipherOpen(this.#handle, bytes, from, to, count);
  }
}

class NativeColumnCipher implements PayloadCipher {
  readonly #addon: CryptoAddon;
  readonly #handle: ColumnHandle;
  readonly #keys: Uint8Array;

  constructor(addon: CryptoAddon, algorithm: CipherAlgorithm, keys: Uint8Array) {
    this.#addon = addon;
    this.#handle = addon.columnCipher(algorithm);
    this.#keys = keys;
  }

  seal(bytes: Uint8Array, from: Int32Array, to: Int32Array, count: number, ivs: Uint8Array, places?: Int32Array): void {
    this.#addon.columnSeal(this.#handle, bytes, from, to, count, ivs, this.#keys, places!);
  }

  open(bytes: Uint8Array, from: Int32Array, to: Int32Array, count: number, places?: Int32Array): void {
    this.#addon.columnOpen(this.#handle, bytes, from, to, count, this.#keys, places!);
  }
}

/** The addon is lib/io/native.ts's native(). */
export function nativeCrypto(addon: CryptoAddon): PacketCrypto {
  return {
    hmac: (algorithm, key) => new NativeHmac(addon, algorithm, key),
    cipher: (algorithm, key) => new NativeCipher(addon, algorithm, key),
    columnCipher: (algorithm, keys) => new NativeColumnCipher(addon, algorithm, keys),
    sums: (bytes, from, to, count, sums) => addon.rowSums(bytes, from, to, count, sums),
  };
}
