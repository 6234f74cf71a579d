// What the tests of crypto/ share: both implementations, and rows in one memory.

import { nativeCrypto } from "../../lib/crypto/native-crypto.ts";
import { nodeCrypto } from "../../lib/crypto/node-crypto.ts";
import type { CipherAlgorithm, HmacAlgorithm } from "../../lib/crypto/packet-crypto.ts";
import { native } from "../../lib/io/native.ts";

export const both = { node: nodeCrypto, native: nativeCrypto(native()) };
export const implementations = Object.entries(both);
export const HMACS: readonly HmacAlgorithm[] = ["sha1", "sha256", "sha256-128"];
export const CIPHERS: readonly CipherAlgorithm[] = ["aes-cbc-128", "aes-cbc-256"];

/** What every row may grow by. */
export const TAIL = 64;

export const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replace(/\s/g, ""), "hex"));
export const text = (letters: string): Uint8Array => new Uint8Array(Buffer.from(letters));
export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
export const bytesOf = (count: number, value: number): Uint8Array => new Uint8Array(count).fill(value);
/** 0, 1, 2, ... */
export const counting = (count: number): Uint8Array => Uint8Array.from({ length: count }, (_, i) => i);

/** Rows one behind the other in one memory, TAIL free behind each. */
export class Rows {
  readonly bytes: Uint8Array;
  readonly from: Int32Array;
  readonly to: Int32Array;
  readonly outcome: Int32Array;
  readonly count: number;

  constructor(rows: readonly Uint8Array[]) {
    this.count = rows.length;
    this.bytes = new Uint8Array(rows.reduce((sum, row) => sum + row.length + TAIL, 0));
    this.from = new Int32Array(rows.length);
    this.to = new Int32Array(rows.length);
    this.outcome = new Int32Array(rows.length).fill(-7);
    let at = 0;
    for (const [i, row] of rows.entries()) {
      this.bytes.set(row, at);
      this.from[i] = at;
      this.to[i] = at + row.length;
      at += row.length + TAIL;
    }
  }

  /** Copies of the rows as they are now. */
  all(): Uint8Array[] {
    return Array.from(this.from, (from, i) => this.bytes.slice(from, Math.max(from, this.to[i])));
  }
}
