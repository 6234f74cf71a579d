// The seam between the engine and whatever computes: digests, block cipher and checksums over a list of rows in one
// memory, in place. Row i is bytes[from[i]..to[i]); what an operation adds or takes off is at its end, and changes
// to[i]. node-crypto.ts is the plain one, native-crypto.ts the fast one; the tests hold them to the same bytes.
//
// The owner of a row guarantees TAILROOM bytes behind it (io/port.ts): padding 16, IV 16 and digest 32 at most. A row that
// does not lie inside the memory, or cannot grow there, is left as it is and to[i] becomes -1 (`verify`: HMAC_MISSING,
// `sums`: -1). Columns that are shorter than `count`, and keys of a wrong length, are errors.

export type HmacAlgorithm = "sha1" | "sha256" | "sha256-128";
export type CipherAlgorithm = "aes-cbc-128" | "aes-cbc-256";

/** Bytes of a digest as it is sent (protocol sheet 5.3). */
export const DIGEST_LENGTH: Readonly<Record<HmacAlgorithm, number>> = { sha1: 20, sha256: 32, "sha256-128": 16 };
/** Bytes of a key. */
export const CIPHER_KEY_LENGTH: Readonly<Record<CipherAlgorithm, number>> = { "aes-cbc-128": 16, "aes-cbc-256": 32 };
/** Bytes of a key's place in a column of keys, whatever the key's length. */
export const KEY_STRIDE = 32;
export const BLOCK = 16;
export const IV_LENGTH = 16;

/** What `verify` says of a row. */
export const HMAC_RIGHT = 0;
export const HMAC_WRONG = 1;
/** The row is too short to have a digest, or does not lie inside the memory. */
export const HMAC_MISSING = 2;

/** In the place of a window: the digest does not depend on time. */
export const NO_WINDOW = -1;

/** RFC 2104 with one key. */
export interface PacketHmac {
  /** Bytes that `sign` adds. */
  readonly length: number;

  /**
   * Put the digest of each row behind it. `window`, a whole number, is mixed in as four big-endian bytes behind the row
   * (time-based, protocol sheet 5.3), or NO_WINDOW.
   */
  sign(bytes: Uint8Array, from: Int32Array, to: Int32Array, count: number, window: number): void;

  /**
   * Look whether each row ends with its digest, of `window` or of the one before or behind it, and take it off where it
   * does. outcome[i] becomes HMAC_*. The comparison takes the same time wherever digests differ.
   */
  verify(bytes: Uint8Array, from: Int32Array, to: Int32Array, count: number, window: number, outcome: Int32Array): void;
}

/**
 * AES-CBC (NIST SP 800-38A): PKCS#7 padding in front, the IV behind (protocol sheet 5.4, 5.5). With one key for all
 * rows, or (columnCipher) with that of a column's row places[i] for row i, where a place outside the column is as a row
 * outside the memory.
 */
export interface PayloadCipher {
  /** Encrypt each row in place; row i takes the IV at ivs[16 * i]. It grows to sealedLength(length). */
  seal(bytes: Uint8Array, from: Int32Array, to: Int32Array, count: number, ivs: Uint8Array, places?: Int32Array): void;

  /** Decrypt each row in place. to[i] becomes -1 when the row is nothing that `seal` makes; its bytes are undefined then. */
  open(bytes: Uint8Array, from: Int32Array, to: Int32Array, count: number, places?: Int32Array): void;
}

export interface PacketCrypto {
  hmac(algorithm: HmacAlgorithm, key: Uint8Array): PacketHmac;
  cipher(algorithm: CipherAlgorithm, key: Uint8Array): PayloadCipher;
  /**
   * A cipher whose keys are whatever `keys` has at the moment of a call, KEY_STRIDE bytes a place: nothing is kept of
   * them behind it. Neighboring rows with one place set their key once.
   */
  columnCipher(algorithm: CipherAlgorithm, keys: Uint8Array): PayloadCipher;
  /** sums[i] becomes the folded ones' complement sum (RFC 1071) of row i, 0..0xffff. */
  sums(bytes: Uint8Array, from: Int32Array, to: Int32Array, count: number, sums: Int32Array): void;
}

/** Bytes that `length` bytes take when sealed: whole blocks, at least one byte of padding, and the IV. */
export function sealedLength(length: number): number {
  return length - (length % BLOCK) + BLOCK + IV_LENGTH;
}

/** Whether sealed bytes can have this length. */
export function isSealedLength(length: number): boolean {
  return length >= BLOCK + IV_LENGTH && length % BLOCK === 0;
}
