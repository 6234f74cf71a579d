// The addon's digests, ciphers and sums over rows of one memory, under the sanitizers: columns that lie, keys of any
// length, and the plain twin beside it.
//
//   | operation 1 | algorithm 1 | rows 1 | columns cut by 1 | bytes 2 | key length 1 | window 4 | from 4, to 4 | ... | bytes |

import { nativeCrypto } from "../../../lib/crypto/native-crypto.ts";
import { nodeCrypto } from "../../../lib/crypto/node-crypto.ts";
import type { CipherAlgorithm, HmacAlgorithm, PacketCrypto } from "../../../lib/crypto/packet-crypto.ts";
import { CIPHER_KEY_LENGTH, HMAC_MISSING } from "../../../lib/crypto/packet-crypto.ts";
import { native } from "../../../lib/io/native.ts";
import type { Target } from "../fuzzer.ts";
import { joined } from "../mutate.ts";

const HEAD = 11;
const ROWS_MAX = 8;
const BYTES_MAX = 1024;
const OPERATIONS = ["sign", "verify", "seal", "open", "sums"] as const;
const HMACS: readonly HmacAlgorithm[] = ["sha1", "sha256", "sha256-128"];
const CIPHERS: readonly CipherAlgorithm[] = ["aes-cbc-128", "aes-cbc-256"];
/** Padding, IV and digest grow no further. */
const GROWTH = 64;

interface Call {
  operation: (typeof OPERATIONS)[number];
  algorithm: number;
  count: number;
  bytes: Uint8Array;
  from: Int32Array;
  to: Int32Array;
  results: Int32Array;
  key: Uint8Array;
  window: number;
}

/** The same call again and again, each with memory of its own, as long as it says and not a byte more. */
function readCall(input: Uint8Array): Call {
  const view = new DataView(input.buffer, input.byteOffset, input.length);
  const count = input[2] % (ROWS_MAX + 1);
  const rows = Math.max(0, count - (input[3] % 16 === 1 ? 1 : 0));
  const from = new Int32Array(rows);
  const to = new Int32Array(rows);
  let at = HEAD;
  for (let i = 0; i < rows && at + 8 <= input.length; i++, at += 8) {
    from[i] = view.getInt32(at);
    to[i] = view.getInt32(at + 4);
  }
  const bytes = new Uint8Array(view.getUint16(4) % (BYTES_MAX + 1));
  for (let i = 0; i < bytes.length; i++) bytes[i] = input[at + i] ?? i * 7;
  const key = Uint8Array.from({ length: input[6] }, (_, i) => i);
  return {
    operation: OPERATIONS[input[0] % OPERATIONS.length],
    algorithm: input[1],
    count,
    bytes,
    from,
    to,
    results: new Int32Array(rows).fill(-7),
    key,
    window: view.getInt32(7),
  };
}

/** Returns whether the call was refused. */
function make(crypto: PacketCrypto, call: Call): boolean {
  const { operation, algorithm, count, bytes, from, to, results, key, window } = call;
  const hmac = () => crypto.hmac(HMACS[algorithm % HMACS.length], key);
  const kind = CIPHERS[algorithm % CIPHERS.length];
  // A wrong key one time in eight.
  const cipherKey = algorithm >= 224 ? key : Uint8Array.from({ length: CIPHER_KEY_LENGTH[kind] }, (_, i) => i);
  const ivs = new Uint8Array(algorithm >= 192 && algorithm < 224 ? key.length : 16 * count).fill(9);
  try {
    if (operation === "sign") hmac().sign(bytes, from, to, count, window);
    else if (operation === "verify") hmac().verify(bytes, from, to, count, window, results);
    else if (operation === "seal") crypto.cipher(kind, cipherKey).seal(bytes, from, to, count, ivs);
    else if (operation === "open") crypto.cipher(kind, cipherKey).open(bytes, from, to, count);
    else crypto.sums(bytes, from, to, count, results);
    return false;
  } catch (error) {
    const { code, name } = error as NodeJS.ErrnoException;
    if (code !== "EINVAL" && name !== "InvariantError") throw error;
    return true;
  }
}

/** Whether no row lies in what another may grow into: then their order does not matter. */
function areApart({ from, to, bytes }: Call): boolean {
  const inside = [...from.keys()].filter((i) => from[i] >= 0 && from[i] <= to[i] && to[i] <= bytes.length);
  inside.sort((a, b) => from[a] - from[b]);
  return inside.every((row, i) => i === 0 || to[inside[i - 1]] + GROWTH <= from[row]);
}

const addon = nativeCrypto(native());

function run(input: Uint8Array): string {
  if (input.length < HEAD) return "nothing";
  const [call, twin, before] = [readCall(input), readCall(input), readCall(input)];
  const isRefused = make(addon, call);
  if (make(nodeCrypto, twin) !== isRefused) throw new Error(`${call.operation} is refused by one alone`);
  const { operation, bytes, from, to, results } = call;
  if (isRefused) {
    if (bytes.some((byte, i) => byte !== before.bytes[i])) throw new Error(`${operation} is refused, with work done`);
    return `${operation} refused`;
  }
  if (!areApart(before)) return `${operation} of rows in each other`;
  let done = 0;
  for (let i = 0; i < from.length; i++) {
    if (from[i] !== before.from[i]) throw new Error("a row's begin has changed");
    if (to[i] !== twin.to[i]) throw new Error(`row ${i} ends at ${to[i]}, the twin's at ${twin.to[i]}`);
    if (results[i] !== twin.results[i]) throw new Error(`row ${i}: ${results[i]}, the twin says ${twin.results[i]}`);
    if (to[i] >= 0 && results[i] !== HMAC_MISSING && results[i] !== -1) done++;
  }
  // Of a row that does not open, the bytes are undefined; of one that does, those of its padding and IV.
  const isUndefined = new Uint8Array(bytes.length);
  if (operation === "open") {
    for (let i = 0; i < from.length; i++) {
      if (before.from[i] >= 0 && before.to[i] <= bytes.length && before.from[i] <= before.to[i])
        isUndefined.fill(1, Math.max(before.from[i], to[i]), before.to[i]);
    }
  }
  const different = bytes.findIndex((byte, i) => byte !== twin.bytes[i] && isUndefined[i] === 0);
  if (different >= 0) throw new Error(`byte ${different} is not the twin's`);
  return `${operation} of ${done === 0 ? "no" : done === from.length ? "all" : "some"} rows`;
}

const i32 = (...values: number[]) => Uint8Array.from(values.flatMap((v) => [v >>> 24, v >>> 16, v >>> 8, v]));
const head = (operation: number, algorithm: number, rows: number, bytes: number, window = -1) =>
  joined(Uint8Array.of(operation, algorithm, rows, 0, bytes >>> 8, bytes, 32), i32(window));

export const target: Target = {
  runs: 4000,
  lengthMax: HEAD + 8 * ROWS_MAX + BYTES_MAX,
  seeds: OPERATIONS.flatMap((_, operation) =>
    [0, 1, 2].flatMap((algorithm) => [
      joined(head(operation, algorithm, 2, 300), i32(0, 48, 160, 208)),
      joined(head(operation, algorithm, 3, 200, 7), i32(-1, 5, 150, 199, 2, 1)),
    ]),
  ),
  change(random, input) {
    // An end or a beginning where something ends: the bytes, what may grow behind a row, a block.
    const rows = (input[2] ?? 0) % (ROWS_MAX + 1);
    const at = HEAD + 4 * random.below(2 * rows + 1);
    if (at + 4 > input.length) return input;
    const changed = input.slice();
    const size = ((input[4] << 8) | input[5]) % (BYTES_MAX + 1);
    const edge = [0, size, size - 16, size - 20, size - 32, size - 48, input[3]][random.below(7)];
    new DataView(changed.buffer).setInt32(at, edge + random.below(3) - 1);
    return changed;
  },
  tokens: [i32(-1), i32(0x7fffffff), i32(-0x80000000), i32(BYTES_MAX), i32(0, 32), i32(0, 48), i32(64, 96)],
  run,
};
