// What keys cost a packet: digests, AES-CBC and sums in the addon, 64 rows a call and one, beside the twin on node:crypto
// (whose sums are plain TypeScript). All take turns within one run, so that what else the machine does hits each; the
// ratio is of pairs.

import { nativeCrypto } from "../../lib/crypto/native-crypto.ts";
import { nodeCrypto } from "../../lib/crypto/node-crypto.ts";
import { KEY_STRIDE, NO_WINDOW, type PacketCrypto, sealedLength } from "../../lib/crypto/packet-crypto.ts";
import { native } from "../../lib/io/native.ts";
import { TAILROOM } from "../../lib/io/port.ts";
import { nanoseconds, print, seededRandom } from "../harness.ts";

const ROWS = 64;
const LENGTHS = [64, 1400];
const RUNS = 9;
const WARM_UPS = 2;

const random = seededRandom();
const bytesOf = (count: number): Uint8Array => new Uint8Array(count).map(() => random.nextI32());
const key = bytesOf(32);
const ivs = bytesOf(ROWS * 16);
const outcome = new Int32Array(ROWS);
/** Another key for each row: packets of as many sessions with keys of their own. */
const keys = bytesOf(ROWS * KEY_STRIDE);
const places = Int32Array.from({ length: ROWS }, (_, i) => i);
const singlePlaces = Array.from(places, (_, i) => places.subarray(i, i + 1));

/** 64 rows of `length` bytes in one memory, TAILROOM behind each. */
class Rows {
  readonly bytes: Uint8Array;
  readonly from = new Int32Array(ROWS);
  readonly to = new Int32Array(ROWS);
  /** Columns of one row each. */
  readonly singleFrom: readonly Int32Array[];
  readonly singleTo: readonly Int32Array[];
  readonly #length: number;

  constructor(length: number) {
    this.#length = length;
    this.singleFrom = Array.from(this.from, (_, i) => this.from.subarray(i, i + 1));
    this.singleTo = Array.from(this.to, (_, i) => this.to.subarray(i, i + 1));
    this.bytes = bytesOf(ROWS * (length + TAILROOM));
    for (let i = 0; i < ROWS; i++) this.from[i] = i * (length + TAILROOM);
    this.reset();
  }

  /** Make the rows as long as they were at first, or `length` bytes long. */
  reset(length = this.#length): void {
    for (let i = 0; i < ROWS; i++) this.to[i] = this.from[i] + length;
  }
}

interface Operation {
  readonly name: string;
  /** What does it once on 64 rows of its own, `rows` a call. */
  readonly make: (crypto: PacketCrypto, length: number) => (rows: number) => void;
}

/** All rows in one call, or (`rows` is 1) each in a call of its own. */
function inCalls(data: Rows, rows: number, call: (from: Int32Array, to: Int32Array, places: Int32Array) => void): void {
  if (rows === ROWS) call(data.from, data.to, places);
  else for (let i = 0; i < ROWS; i++) call(data.singleFrom[i], data.singleTo[i], singlePlaces[i]);
}

const operations: readonly Operation[] = [
  {
    name: "sha256-128-sign",
    make(crypto, length) {
      const data = new Rows(length);
      const hmac = crypto.hmac("sha256-128", key);
      return (rows) => {
        data.reset();
        inCalls(data, rows, (from, to) => hmac.sign(data.bytes, from, to, rows, NO_WINDOW));
      };
    },
  },
  {
    name: "sha256-128-verify",
    make(crypto, length) {
      const data = new Rows(length);
      const hmac = crypto.hmac("sha256-128", key);
      hmac.sign(data.bytes, data.from, data.to, ROWS, 850_000_000);
      return (rows) => {
        data.reset(length + hmac.length);
        inCalls(data, rows, (from, to) => hmac.verify(data.bytes, from, to, rows, 850_000_000, outcome));
      };
    },
  },
  {
    name: "aes-256-cbc-seal",
    make(crypto, length) {
      const data = new Rows(length);
      const cipher = crypto.cipher("aes-cbc-256", key);
      return (rows) => {
        data.reset();
        inCalls(data, rows, (from, to) => cipher.seal(data.bytes, from, to, rows, ivs));
      };
    },
  },
  {
    name: "aes-256-cbc-open",
    make(crypto, length) {
      const data = new Rows(length);
      const cipher = crypto.cipher("aes-cbc-256", key);
      cipher.seal(data.bytes, data.from, data.to, ROWS, ivs);
      const sealed = data.bytes.slice();
      return (rows) => {
        // Copying the rows back is a few nanoseconds of it.
        data.bytes.set(sealed);
        data.reset(sealedLength(length));
        inCalls(data, rows, (from, to) => cipher.open(data.bytes, from, to, rows));
      };
    },
  },
  {
    name: "aes-256-cbc-seal-key-a-row",
    make(crypto, length) {
      const data = new Rows(length);
      const cipher = crypto.columnCipher("aes-cbc-256", keys);
      return (rows) => {
        data.reset();
        inCalls(data, rows, (from, to, places) => cipher.seal(data.bytes, from, to, rows, ivs, places));
      };
    },
  },
  {
    name: "aes-256-cbc-open-key-a-row",
    make(crypto, length) {
      const data = new Rows(length);
      const cipher = crypto.columnCipher("aes-cbc-256", keys);
      cipher.seal(data.bytes, data.from, data.to, ROWS, ivs, places);
      const sealed = data.bytes.slice();
      return (rows) => {
        data.bytes.set(sealed);
        data.reset(sealedLength(length));
        inCalls(data, rows, (from, to, places) => cipher.open(data.bytes, from, to, rows, places));
      };
    },
  },
  {
    name: "sums",
    make(crypto, length) {
      const data = new Rows(length);
      return (rows) => inCalls(data, rows, (from, to) => crypto.sums(data.bytes, from, to, rows, outcome));
    },
  },
];

for (const { name, make } of operations) {
  for (const length of LENGTHS) {
    const addon = nativeCrypto(native());
    const contenders = [
      { name: "native", run: make(addon, length), rows: ROWS, rounds: 400 },
      { name: "native-one", run: make(addon, length), rows: 1, rounds: 200 },
      { name: "node", run: make(nodeCrypto, length), rows: ROWS, rounds: 40 },
    ];
    const samples = contenders.map((): number[] => []);
    for (let run = -WARM_UPS; run < RUNS; run++) {
      for (const [i, contender] of contenders.entries()) {
        const work = () => {
          for (let round = 0; round < contender.rounds; round++) contender.run(contender.rows);
          return contender.rounds;
        };
        const common = { name: "", mode: "", runs: 1, warmUps: 0 };
        const [ns] = nanoseconds({ ...common, operations: contender.rounds * ROWS, run: work });
        if (run >= 0) samples[i].push(ns);
      }
    }
    const mode = `${length}-byte rows`;
    print(`crypto.native.${name}`, "ns/row", `${mode}, 64 a call`, samples[0]);
    print(`crypto.native-one.${name}`, "ns/row", `${mode}, one a call`, samples[1]);
    print(`crypto.node.${name}`, "ns/row", `${mode}, 64 a call, node-crypto.ts`, samples[2]);
    const ratios = samples[2].map((ns, run) => ns / samples[0][run]);
    print(
      `crypto.native-to-node.${name}`,
      "ratio",
      `${mode}, 64 a call, time of node-crypto.ts to the addon's`,
      ratios,
    );
  }
}
