// The addon's half: what it says to calls that the types forbid, and what the openssl program says to its results.

import { spawnSync } from "node:child_process";
import test from "ava";
import { type CipherAlgorithm, type HmacAlgorithm, IV_LENGTH, NO_WINDOW } from "../../lib/crypto/packet-crypto.ts";
import { native } from "../../lib/io/native.ts";
import { foreignEnvironment, noProgram } from "../io/skip.ts";
import { both, counting, Rows, text, toHex } from "./both.ts";

test("wrong arguments, wrong handles and unknown algorithms are EINVAL, never crashes", (t) => {
  const addon = native();
  const hmac = addon.hmacKey("sha1", new Uint8Array(20));
  const cipher = addon.cipherKey("aes-cbc-128", new Uint8Array(16));
  const many = addon.columnCipher("aes-cbc-128");
  const bytes = new Uint8Array(100);
  const column = new Int32Array(1);
  // biome-ignore lint/suspicious/noExplicitAny: what the types forbid is the point
  const wrong = (value: unknown): any => value;
  const calls = [
    () => addon.hmacKey("md5", bytes),
    () => addon.hmacKey("", bytes),
    () => addon.hmacKey(wrong(7), bytes),
    () => addon.hmacKey("sha1", wrong("secret")),
    () => addon.cipherKey("aes-256-gcm", bytes),
    () => addon.cipherKey("aes-cbc-256", bytes),
    () => addon.hmacSign(wrong(cipher), bytes, column, column, 1, 0),
    () => addon.hmacSign(wrong(null), bytes, column, column, 1, 0),
    () => addon.hmacVerify(wrong(cipher), bytes, column, column, 1, 0, column),
    () => addon.cipherSeal(wrong(hmac), bytes, column, column, 1, bytes),
    () => addon.cipherOpen(wrong(hmac), bytes, column, column, 1),
    () => addon.cipherOpen(wrong({}), bytes, column, column, 1),
    () => addon.columnCipher("aes-256-gcm"),
    () => addon.columnCipher(wrong(cipher)),
    () => addon.columnSeal(wrong(cipher), bytes, column, column, 1, bytes, bytes, column),
    () => addon.cipherSeal(wrong(many), bytes, column, column, 1, bytes),
    () => addon.columnSeal(many, bytes, column, column, 1, bytes.subarray(0, 15), bytes, column),
    () => addon.columnSeal(many, bytes, column, column, 1, bytes, wrong(column), column),
    () => addon.columnSeal(many, bytes, column, column, 1, bytes, bytes, wrong(bytes)),
    () => addon.columnSeal(many, bytes, column, column, 1, bytes, bytes, new Int32Array(0)),
    () => addon.columnOpen(wrong(cipher), bytes, column, column, 1, bytes, column),
    () => addon.columnOpen(many, bytes, column, column, 1, bytes, wrong(undefined)),
    () => addon.hmacSign(hmac, wrong(bytes.buffer), column, column, 1, 0),
    () => addon.hmacSign(hmac, wrong(column), column, column, 1, 0),
    () => addon.hmacSign(hmac, bytes, wrong(bytes), column, 1, 0),
    () => addon.hmacSign(hmac, bytes, column, wrong([0]), 1, 0),
    () => addon.hmacSign(hmac, bytes, column, column, 2, 0),
    () => addon.hmacSign(hmac, bytes, column, column, wrong("1"), 0),
    () => addon.hmacSign(hmac, bytes, column, column, 1, wrong(undefined)),
    () => addon.hmacSign(hmac, bytes, column, column, 1, 2 ** 60),
    () => addon.hmacVerify(hmac, bytes, column, column, 1, 0, wrong(new Uint32Array(1))),
    () => addon.hmacVerify(hmac, bytes, column, column, 1, 0, new Int32Array(0)),
    () => addon.cipherSeal(cipher, bytes, column, column, 1, bytes.subarray(0, 15)),
    () => addon.rowSums(bytes, column, column, 1, new Int32Array(0)),
    () => addon.rowSums(bytes, column, column, -1, column),
  ];
  for (const call of calls) t.throws(call, { code: "EINVAL" }, String(call));
});

test("memory that was transferred to another thread holds no rows", (t) => {
  const { bytes, from, to, outcome } = new Rows([new Uint8Array(40)]);
  structuredClone(bytes.buffer, { transfer: [bytes.buffer as ArrayBuffer] });
  const hmac = both.native.hmac("sha1", counting(20));
  hmac.verify(bytes, from, to, 1, NO_WINDOW, outcome);
  t.is(outcome[0], 2);
  hmac.sign(bytes, from, to, 1, NO_WINDOW);
  t.is(to[0], -1);
});

test("one column for everything, and IVs inside the rows, do no harm", (t) => {
  const bytes = counting(200);
  const column = Int32Array.of(3, 100);
  const hmac = both.native.hmac("sha256", counting(20));
  hmac.verify(bytes, column, column, 2, 5, column);
  hmac.sign(bytes, column, column, 2, 5);
  both.native.sums(bytes, column, column, 2, column);
  const cipher = both.native.cipher("aes-cbc-128", counting(16));
  const memory = new Rows([counting(64)]);
  cipher.seal(memory.bytes, memory.from, memory.to, 1, memory.bytes);
  t.deepEqual(memory.all()[0].slice(80), counting(16));
  cipher.open(memory.bytes, memory.from, memory.to, 1);
  t.deepEqual(memory.all()[0], counting(64));
  // The ends are places too, and the keys lie in the rows.
  const many = both.native.columnCipher("aes-cbc-256", bytes);
  for (let place = -3; place < 10; place++) {
    const ends = Int32Array.of(place, place + 40, 200);
    many.open(bytes, Int32Array.of(0, 0, 0), ends, 3, ends);
    many.seal(bytes, ends, ends, 3, bytes, ends);
  }
});

test("rows in shared memory are worked on where they lie", (t) => {
  const bytes = new Uint8Array(new SharedArrayBuffer(128));
  bytes.set(counting(40));
  const [from, to, outcome] = [Int32Array.of(0), Int32Array.of(40), Int32Array.of(-1)];
  const hmac = both.native.hmac("sha256-128", counting(32));
  hmac.sign(bytes, from, to, 1, NO_WINDOW);
  t.is(to[0], 56);
  hmac.verify(bytes, from, to, 1, NO_WINDOW, outcome);
  t.deepEqual([to[0], outcome[0]], [40, 0]);
});

// The address sanitizer keeps what is freed for a while, and looks for leaks itself.
const plainTest = (process.env.LD_PRELOAD ?? "").includes("asan") ? test.skip : test;

plainTest("keys that nobody refers to any more are freed", (t) => {
  const module = (path: string) => JSON.stringify(new URL(path, import.meta.url).href);
  // Unfreed, the keys of 15 rounds would hold more than 100 MiB.
  const { stdout, stderr } = spawnSync(
    process.execPath,
    [
      "--expose-gc",
      "--input-type=module",
      "-e",
      `import { native } from ${module("../../lib/io/native.js")};
      import { nativeCrypto } from ${module("../../lib/crypto/native-crypto.js")};
      const crypto = nativeCrypto(native());
      let before = 0;
      for (let round = 0; round < 20; round++) {
        if (round === 5) before = process.memoryUsage().rss;
        for (let i = 0; i < 5000; i++) {
          crypto.cipher("aes-cbc-256", new Uint8Array(32));
          crypto.hmac("sha256", new Uint8Array(32));
        }
        globalThis.gc();
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      console.log(Math.round((process.memoryUsage().rss - before) / 2 ** 20));`,
    ],
    { encoding: "utf8" },
  );
  t.is(stderr, "");
  t.true(Number(stdout) < 40, `${stdout.trim()} MiB more`);
});

const program = noProgram("openssl", "version");
const opensslTest = program === undefined ? test : test.skip;
const named = (title: string): string => (program === undefined ? title : `${title} (${program})`);

function openssl(input: Uint8Array, ...given: string[]): Buffer {
  const { stdout, stderr, status } = spawnSync("openssl", given, { input, env: foreignEnvironment });
  if (status !== 0) throw new Error(`openssl ${given.join(" ")}: ${stderr}`);
  return stdout;
}

for (const [algorithm, hash, length] of [
  ["sha1", "-sha1", 20],
  ["sha256", "-sha256", 32],
  ["sha256-128", "-sha256", 16],
] as [HmacAlgorithm, string, number][]) {
  opensslTest(named(`the openssl program makes the same digest: ${algorithm}`), (t) => {
    const key = text("what the openssl program is told");
    const message = text("a packet's payload ".repeat(9));
    const rows = new Rows([message]);
    both.native.hmac(algorithm, key).sign(rows.bytes, rows.from, rows.to, 1, NO_WINDOW);
    const digest = openssl(message, "dgst", hash, "-mac", "HMAC", "-macopt", `hexkey:${toHex(key)}`, "-binary");
    t.is(toHex(rows.all()[0].slice(message.length)), toHex(digest.subarray(0, length)));
  });
}

for (const [algorithm, name, keyLength] of [
  ["aes-cbc-128", "-aes-128-cbc", 16],
  ["aes-cbc-256", "-aes-256-cbc", 32],
] as [CipherAlgorithm, string, number][]) {
  opensslTest(named(`the openssl program opens what seal made: ${algorithm}`), (t) => {
    const key = counting(keyLength);
    const message = text("a packet's payload ".repeat(9));
    const rows = new Rows([message]);
    both.native.cipher(algorithm, key).seal(rows.bytes, rows.from, rows.to, 1, text("sixteen letters!"));
    const [sealed] = rows.all();
    const plain = openssl(
      sealed.slice(0, -IV_LENGTH),
      "enc",
      "-d",
      name,
      "-K",
      toHex(key),
      "-iv",
      toHex(sealed.slice(-IV_LENGTH)),
    );
    t.is(toHex(plain), toHex(message));
  });
}
