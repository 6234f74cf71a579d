// Known answers, of both implementations: RFC 2202, RFC 4231, NIST SP 800-38A, and the protocol sheet's own.

import test from "ava";
import {
  type CipherAlgorithm,
  HMAC_RIGHT,
  type HmacAlgorithm,
  IV_LENGTH,
  NO_WINDOW,
} from "../../lib/crypto/packet-crypto.ts";
import { bytesOf, counting, hex, implementations, Rows, text, toHex } from "./both.ts";

const LARGER_KEY = "Test Using Larger Than Block-Size Key";
const BOTH_LARGER =
  "This is a test using a larger than block-size key and a larger than block-size data. " +
  "The key needs to be hashed before being used by the HMAC algorithm.";

/** Protocol sheet 3.6: forward metadata, and a payload. */
const METADATA_AND_HELLO = hex(`
  4c48dbc6 ddf6670c 10140054 00100004 00000001 0002000d 0a01010a 0a020214 c3501388 11000600 100f1e2d
  3c4b5a49 788796a5 b4c3d2e1 f0000700 03656e67 000a0003 61707000 0e000477 65737400 0f000473 65633100
  13000d31 39382e35 312e3130 302e3130 68656c6c 6f`);

/** Source, algorithm, key, message, digest, window. */
const DIGESTS: readonly [string, HmacAlgorithm, Uint8Array, Uint8Array, string, number?][] = [
  ["RFC 2202, 1", "sha1", bytesOf(20, 0x0b), text("Hi There"), "b617318655057264e28bc0b6fb378c8ef146be00"],
  [
    "RFC 2202, 2",
    "sha1",
    text("Jefe"),
    text("what do ya want for nothing?"),
    "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
  ],
  ["RFC 2202, 3", "sha1", bytesOf(20, 0xaa), bytesOf(50, 0xdd), "125d7342b9ac11cd91a39af48aa17b4f63f175d3"],
  ["RFC 2202, 4", "sha1", counting(26).slice(1), bytesOf(50, 0xcd), "4c9007f4026250c6bc8414f9bf50c86c2d7235da"],
  [
    "RFC 2202, 6",
    "sha1",
    bytesOf(80, 0xaa),
    text(`${LARGER_KEY} - Hash Key First`),
    "aa4ae5e15272d00e95705637ce8a3b55ed402112",
  ],
  [
    "RFC 2202, 7",
    "sha1",
    bytesOf(80, 0xaa),
    text(`${LARGER_KEY} and Larger Than One Block-Size Data`),
    "e8e99d0f45237d786d6bbaa7965c7808bbff1a91",
  ],
  [
    "RFC 4231, 1",
    "sha256",
    bytesOf(20, 0x0b),
    text("Hi There"),
    "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
  ],
  [
    "RFC 4231, 2",
    "sha256",
    text("Jefe"),
    text("what do ya want for nothing?"),
    "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
  ],
  [
    "RFC 4231, 3",
    "sha256",
    bytesOf(20, 0xaa),
    bytesOf(50, 0xdd),
    "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
  ],
  [
    "RFC 4231, 4",
    "sha256",
    counting(26).slice(1),
    bytesOf(50, 0xcd),
    "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
  ],
  ["RFC 4231, 5", "sha256-128", bytesOf(20, 0x0c), text("Test With Truncation"), "a3b6167473100ee06e0c796c2955552b"],
  [
    "RFC 4231, 6",
    "sha256",
    bytesOf(131, 0xaa),
    text(`${LARGER_KEY} - Hash Key First`),
    "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
  ],
  [
    "RFC 4231, 7",
    "sha256",
    bytesOf(131, 0xaa),
    text(BOTH_LARGER),
    "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
  ],
  ["protocol sheet 5.3", "sha256-128", counting(32), METADATA_AND_HELLO, "77ae1a5e9d1a572b68f8c4317df97a63"],
  [
    "protocol sheet 5.3, time-based",
    "sha256-128",
    counting(32),
    METADATA_AND_HELLO,
    "24782b7aca227852be2b6bade920320d",
    850_000_000,
  ],
];

const NIST_PLAIN = hex(`6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51
  30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710`);

/** Source, algorithm, key, sealed blocks. All of NIST_PLAIN and the IV 00..0f. */
const CIPHERTEXTS: readonly [string, CipherAlgorithm, Uint8Array, string][] = [
  [
    "SP 800-38A, F.2.1",
    "aes-cbc-128",
    hex("2b7e151628aed2a6abf7158809cf4f3c"),
    `7649abac8119b246cee98e9b12e9197d 5086cb9b507219ee95db113a917678b2
     73bed6b8e3c1743b7116e69e22229516 3ff1caa1681fac09120eca307586e1a7`,
  ],
  [
    "SP 800-38A, F.2.5",
    "aes-cbc-256",
    hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"),
    `f58c4c04d6e5f1ba779eabfb5f7bfbd6 9cfc4e967edb808d679f777bc6702c7d
     39f23369a9d9bacfa530e26304231461 b2eb05e2c39be9fcda6c19078c6a9d1b`,
  ],
];

for (const [name, crypto] of implementations) {
  for (const [source, algorithm, key, message, digest, window = NO_WINDOW] of DIGESTS) {
    test(`${name}: the digest of ${source} (${algorithm}) is put behind the row and taken off again`, (t) => {
      const hmac = crypto.hmac(algorithm, key);
      const rows = new Rows([message]);
      hmac.sign(rows.bytes, rows.from, rows.to, 1, window);
      t.is(toHex(rows.all()[0]), toHex(message) + digest);
      t.is(hmac.length, digest.length / 2);
      hmac.verify(rows.bytes, rows.from, rows.to, 1, window, rows.outcome);
      t.is(rows.outcome[0], HMAC_RIGHT);
      t.is(rows.to[0], message.length);
    });
  }

  for (const [source, algorithm, key, sealed] of CIPHERTEXTS) {
    test(`${name}: the blocks of ${source} (${algorithm}) come out of seal, padding and IV behind them, and open takes them`, (t) => {
      const cipher = crypto.cipher(algorithm, key);
      const iv = counting(IV_LENGTH);
      const rows = new Rows([NIST_PLAIN]);
      cipher.seal(rows.bytes, rows.from, rows.to, 1, iv);
      const [row] = rows.all();
      t.is(row.length, 64 + 16 + IV_LENGTH);
      t.is(toHex(row.subarray(0, 64)), toHex(hex(sealed)));
      t.deepEqual(row.slice(80), iv);
      cipher.open(rows.bytes, rows.from, rows.to, 1);
      t.deepEqual(rows.all()[0], NIST_PLAIN);
    });
  }

  test(`${name}: the sum of RFC 1071's example is ddf2, and that of nothing or of zeros is 0`, (t) => {
    const rows = new Rows([
      hex("0001f203f4f5f6f7"),
      hex(""),
      bytesOf(50, 0),
      bytesOf(50, 255),
      hex("12"),
      hex("123456"),
    ]);
    const sums = new Int32Array(6);
    crypto.sums(rows.bytes, rows.from, rows.to, 6, sums);
    t.deepEqual([...sums], [0xddf2, 0, 0, 0xffff, 0x1200, 0x1234 + 0x5600]);
  });
}
