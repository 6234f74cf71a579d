// What the seam promises (lib/crypto/packet-crypto.ts), of both implementations.

import test from "ava";
import fc from "fast-check";
import {
  CIPHER_KEY_LENGTH,
  DIGEST_LENGTH,
  HMAC_MISSING,
  HMAC_RIGHT,
  HMAC_WRONG,
  IV_LENGTH,
  KEY_STRIDE,
  NO_WINDOW,
  type PacketCrypto,
  sealedLength,
} from "../../lib/crypto/packet-crypto.ts";
import { bytesOf, CIPHERS, counting, HMACS, implementations, Rows, text } from "./both.ts";

const KEY = text("a key of thirty-two bytes, or so");
const LENGTHS = [...counting(101), 1400];
const payload = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i * 37 + length);
const cipherOf = (crypto: PacketCrypto, algorithm: (typeof CIPHERS)[number]) =>
  crypto.cipher(algorithm, KEY.slice(0, CIPHER_KEY_LENGTH[algorithm]));

for (const [name, crypto] of implementations) {
  test(`${name}: rows of every length come back from seal and open, and grow as sealedLength says`, (t) => {
    for (const algorithm of CIPHERS) {
      const cipher = cipherOf(crypto, algorithm);
      const plain = LENGTHS.map(payload);
      const ivs = Uint8Array.from({ length: plain.length * IV_LENGTH }, (_, i) => i * 11);
      const rows = new Rows(plain);
      cipher.seal(rows.bytes, rows.from, rows.to, rows.count, ivs);
      const sealed = rows.all();
      for (const [i, row] of sealed.entries()) {
        t.is(row.length, sealedLength(plain[i].length));
        t.deepEqual(row.slice(-IV_LENGTH), ivs.slice(i * IV_LENGTH, (i + 1) * IV_LENGTH));
        if (plain[i].length > 8) t.notDeepEqual(row.slice(0, plain[i].length), plain[i]);
      }
      cipher.open(rows.bytes, rows.from, rows.to, rows.count);
      t.deepEqual(rows.all(), plain);
    }
  });

  test(`${name}: rows with a key each are the bytes that a cipher with that key makes, whatever the order of keys`, (t) => {
    for (const algorithm of CIPHERS) {
      const keys = Uint8Array.from({ length: 5 * KEY_STRIDE }, (_, i) => i * 13 + (i >> 5));
      const column = crypto.columnCipher(algorithm, keys);
      const plain = LENGTHS.map(payload);
      const ivs = Uint8Array.from({ length: plain.length * IV_LENGTH }, (_, i) => i * 11);
      for (const place of [(i: number) => i % 5, (i: number) => i >> 5, (i: number) => (i * i) % 4, () => 3]) {
        const places = Int32Array.from(plain, (_, i) => place(i));
        const rows = new Rows(plain);
        column.seal(rows.bytes, rows.from, rows.to, rows.count, ivs, places);
        for (const [i, row] of rows.all().entries()) {
          const at = places[i] * KEY_STRIDE;
          const cipher = crypto.cipher(algorithm, keys.slice(at, at + CIPHER_KEY_LENGTH[algorithm]));
          const alone = new Rows([plain[i]]);
          cipher.seal(alone.bytes, alone.from, alone.to, 1, ivs.subarray(i * IV_LENGTH));
          t.deepEqual(row, alone.all()[0]);
        }
        column.open(rows.bytes, rows.from, rows.to, rows.count, places);
        t.deepEqual(rows.all(), plain);
      }
    }
  });

  test(`${name}: a key that was changed in its column is the one of the next call, and a place outside is no row`, (t) => {
    const keys = counting(2 * KEY_STRIDE + 31);
    const column = crypto.columnCipher("aes-cbc-128", keys);
    const seal = (...places: number[]) => {
      const rows = new Rows(places.map(() => payload(20)));
      column.seal(rows.bytes, rows.from, rows.to, rows.count, new Uint8Array(48), Int32Array.from(places));
      return rows;
    };
    const [before] = seal(1).all();
    keys.fill(0);
    const [after] = seal(1).all();
    t.notDeepEqual(after, before);
    // Zeroes are a key like any other.
    const zeroes = new Rows([payload(20)]);
    crypto.cipher("aes-cbc-128", new Uint8Array(16)).seal(zeroes.bytes, zeroes.from, zeroes.to, 1, new Uint8Array(16));
    t.deepEqual(zeroes.all()[0], after);
    const rows = seal(-1, 1, 2);
    t.deepEqual([rows.to[0], rows.to[2]], [-1, -1]);
    t.deepEqual(rows.all()[1], after);
    rows.to[0] = rows.to[2] = rows.to[1];
    column.open(rows.bytes, rows.from, rows.to, 3, Int32Array.of(-5, 1, 1_000_000));
    t.deepEqual([rows.to[0], rows.to[2]], [-1, -1]);
    t.deepEqual(rows.all()[1], payload(20));
    t.throws(() => column.seal(rows.bytes, rows.from, rows.to, 1, new Uint8Array(16)));
    t.throws(() => column.open(rows.bytes, rows.from, rows.to, 1, new Int32Array(0)));
  });

  test(`${name}: the same payload under two IVs has no block in common`, (t) => {
    const cipher = cipherOf(crypto, "aes-cbc-128");
    const rows = new Rows([payload(64), payload(64)]);
    cipher.seal(rows.bytes, rows.from, rows.to, 2, Uint8Array.from([...bytesOf(16, 1), ...bytesOf(16, 2)]));
    const [one, other] = rows.all();
    for (let at = 0; at < 80; at += 16) t.notDeepEqual(one.slice(at, at + 16), other.slice(at, at + 16));
  });

  test(`${name}: rows of every length come back from sign and verify`, (t) => {
    for (const algorithm of HMACS) {
      for (const window of [NO_WINDOW, 0, 1, 850_000_000, 0xffff_ffff]) {
        const hmac = crypto.hmac(algorithm, KEY);
        const plain = LENGTHS.map(payload);
        const rows = new Rows(plain);
        hmac.sign(rows.bytes, rows.from, rows.to, rows.count, window);
        t.true(rows.all().every((row, i) => row.length === plain[i].length + DIGEST_LENGTH[algorithm]));
        hmac.verify(rows.bytes, rows.from, rows.to, rows.count, window, rows.outcome);
        t.true(rows.outcome.every((outcome) => outcome === HMAC_RIGHT));
        t.deepEqual(rows.all(), plain);
      }
    }
  });

  test(`${name}: every single altered byte of a sealed and signed row is refused, and the row stays as it is`, (t) => {
    const cipher = cipherOf(crypto, "aes-cbc-256");
    for (const algorithm of HMACS) {
      const hmac = crypto.hmac(algorithm, KEY);
      for (const window of [NO_WINDOW, 850_000_000]) {
        const rows = new Rows([payload(50)]);
        cipher.seal(rows.bytes, rows.from, rows.to, 1, counting(16));
        hmac.sign(rows.bytes, rows.from, rows.to, 1, window);
        const [signed] = rows.all();
        const altered = new Rows(
          Array.from(signed, (_, at) => signed.map((byte, i) => (i === at ? byte ^ (1 << (at & 7)) : byte))),
        );
        const before = altered.all();
        hmac.verify(altered.bytes, altered.from, altered.to, altered.count, window, altered.outcome);
        t.is(altered.count, 80 + 16 - 16 + DIGEST_LENGTH[algorithm]);
        t.true(altered.outcome.every((outcome) => outcome === HMAC_WRONG));
        t.deepEqual(altered.all(), before);
      }
    }
  });

  test(`${name}: a row cut short is refused, and one too short for a digest has none`, (t) => {
    for (const algorithm of HMACS) {
      const hmac = crypto.hmac(algorithm, KEY);
      const signed = new Rows([payload(20)]);
      hmac.sign(signed.bytes, signed.from, signed.to, 1, NO_WINDOW);
      const [whole] = signed.all();
      const cut = new Rows(Array.from(whole, (_, length) => whole.slice(0, length)));
      hmac.verify(cut.bytes, cut.from, cut.to, cut.count, NO_WINDOW, cut.outcome);
      for (const [length, outcome] of cut.outcome.entries()) {
        t.is(outcome, length < hmac.length ? HMAC_MISSING : HMAC_WRONG);
        t.is(cut.to[length] - cut.from[length], length);
      }
    }
  });

  test(`${name}: a digest is right in its own window and the two beside it, in no other, and never without one`, (t) => {
    const hmac = crypto.hmac("sha256-128", KEY);
    for (const window of [0, 1, 850_000_000, 0xffff_ffff]) {
      const rows = new Rows([payload(33)]);
      hmac.sign(rows.bytes, rows.from, rows.to, 1, window);
      const end = rows.to[0];
      for (const away of [-2, -1, 0, 1, 2]) {
        rows.to[0] = end;
        if (window + away < 0) continue;
        hmac.verify(rows.bytes, rows.from, rows.to, 1, window + away, rows.outcome);
        t.is(rows.outcome[0], Math.abs(away) <= 1 ? HMAC_RIGHT : HMAC_WRONG, `${window} looked at in ${window + away}`);
      }
      rows.to[0] = end;
      hmac.verify(rows.bytes, rows.from, rows.to, 1, NO_WINDOW, rows.outcome);
      t.is(rows.outcome[0], HMAC_WRONG);
    }
    const plain = new Rows([payload(33)]);
    hmac.sign(plain.bytes, plain.from, plain.to, 1, NO_WINDOW);
    hmac.verify(plain.bytes, plain.from, plain.to, 1, 0, plain.outcome);
    t.is(plain.outcome[0], HMAC_WRONG, "window 0 has no window before it that stands for none");
  });

  test(`${name}: another key, another digest and another row's digest are refused`, (t) => {
    const hmac = crypto.hmac("sha256", KEY);
    const rows = new Rows([payload(40), payload(41)]);
    hmac.sign(rows.bytes, rows.from, rows.to, 2, NO_WINDOW);
    const [one, two] = rows.all();
    const swapped = new Rows([
      Uint8Array.from([...one.slice(0, 40), ...two.slice(41)]),
      Uint8Array.from([...two.slice(0, 41), ...one.slice(40)]),
    ]);
    hmac.verify(swapped.bytes, swapped.from, swapped.to, 2, NO_WINDOW, swapped.outcome);
    t.deepEqual([...swapped.outcome], [HMAC_WRONG, HMAC_WRONG]);
    const otherKey = KEY.map((byte, i) => (i === 31 ? byte ^ 1 : byte));
    for (const other of [crypto.hmac("sha256", otherKey), crypto.hmac("sha1", KEY), crypto.hmac("sha256-128", KEY)]) {
      other.verify(rows.bytes, rows.from, rows.to, 2, NO_WINDOW, rows.outcome);
      t.deepEqual([...rows.outcome], [HMAC_WRONG, HMAC_WRONG]);
    }
  });

  test(`${name}: of a batch only the wrong rows are refused`, (t) => {
    const hmac = crypto.hmac("sha256-128", KEY);
    const plain = Array.from({ length: 64 }, (_, i) => payload(i));
    const rows = new Rows(plain);
    hmac.sign(rows.bytes, rows.from, rows.to, 64, NO_WINDOW);
    for (let i = 0; i < 64; i += 3) rows.bytes[rows.to[i] - 1] ^= 128;
    hmac.verify(rows.bytes, rows.from, rows.to, 64, NO_WINDOW, rows.outcome);
    t.deepEqual(
      [...rows.outcome],
      plain.map((_, i) => (i % 3 === 0 ? HMAC_WRONG : HMAC_RIGHT)),
    );
  });

  test(`${name}: ciphertext of a length that no seal makes is -1`, (t) => {
    for (const algorithm of CIPHERS) {
      const cipher = cipherOf(crypto, algorithm);
      const rows = new Rows(Array.from({ length: 100 }, (_, length) => payload(length)));
      cipher.open(rows.bytes, rows.from, rows.to, rows.count);
      for (const [length, to] of rows.to.entries()) if (length < 32 || length % 16 !== 0) t.is(to, -1);
    }
  });

  test(`${name}: plaintext whose padding is none of PKCS#7 is -1, whole blocks of the right padding are not`, (t) => {
    const cipher = cipherOf(crypto, "aes-cbc-128");
    const last = (...end: number[]): Uint8Array => Uint8Array.from([...bytesOf(16 - end.length, 0xaa), ...end]);
    const cases: [Uint8Array, number][] = [
      [last(1), 15],
      [last(2, 2), 14],
      [last(3, 3, 3), 13],
      [bytesOf(16, 16), 0],
      [last(0), -1],
      [last(17), -1],
      [last(255), -1],
      [last(2), -1],
      [last(3, 2, 3), -1],
      [last(1, 3, 3), -1],
      [bytesOf(16, 15), 1],
      [Uint8Array.from([...bytesOf(1, 0), ...bytesOf(15, 16)]), -1],
      [bytesOf(16, 17), -1],
      [bytesOf(16, 32), -1],
    ];
    for (const [block, expected] of cases) {
      // Sealing the block and cutting the padding's block out leaves CBC(block), IV.
      const rows = new Rows([block]);
      cipher.seal(rows.bytes, rows.from, rows.to, 1, counting(16));
      const [sealed] = rows.all();
      const bare = new Rows([Uint8Array.from([...sealed.slice(0, 16), ...sealed.slice(32)])]);
      cipher.open(bare.bytes, bare.from, bare.to, 1);
      t.is(bare.to[0], expected, `${block}`);
    }
  });

  test(`${name}: a row outside the memory, or without room to grow, is left alone and told so`, (t) => {
    const hmac = crypto.hmac("sha256", KEY);
    const cipher = cipherOf(crypto, "aes-cbc-256");
    // The memory is the middle of a larger one, whose ends must not change.
    const around = new Uint8Array(400).fill(0x5a);
    const bytes = around.subarray(100, 300);
    const places: [number, number][] = [
      [-1, 20],
      [-1000, 20],
      [-20, -10],
      [0, 201],
      [190, 200],
      [199, 200],
      [200, 200],
      [201, 201],
      [250, 300],
      [20, 10],
      [0x7fff_ffff, 0x7fff_ffff],
      [0, 0x7fff_ffff],
      [-0x8000_0000, 0x7fff_ffff],
      [-0x8000_0000, -0x8000_0000],
    ];
    for (const [from, to] of places) {
      const columns = () => [Int32Array.of(from), Int32Array.of(to)];
      const isInside = from >= 0 && from <= to && to <= 200;
      let [a, b] = columns();
      hmac.sign(bytes, a, b, 1, NO_WINDOW);
      t.deepEqual([a[0], b[0]], [from, -1]);
      [a, b] = columns();
      cipher.seal(bytes, a, b, 1, counting(16));
      t.deepEqual([a[0], b[0]], [from, -1]);
      [a, b] = columns();
      cipher.open(bytes, a, b, 1);
      t.deepEqual([a[0], b[0]], [from, -1]);
      [a, b] = columns();
      const result = Int32Array.of(9);
      hmac.verify(bytes, a, b, 1, 5, result);
      t.deepEqual([a[0], b[0], result[0]], [from, to, HMAC_MISSING]);
      crypto.sums(bytes, a, b, 1, result);
      t.is(result[0] >= 0, isInside);
    }
    t.true(around.every((byte) => byte === 0x5a));
    // And the last row that just fits does.
    const [a, b] = [Int32Array.of(100), Int32Array.of(168)];
    hmac.sign(bytes, a, b, 1, NO_WINDOW);
    t.is(b[0], 200);
    b[0] = 168;
    cipher.seal(bytes, a, b, 1, counting(16));
    t.is(b[0], 196);
    t.true(around.subarray(300).every((byte) => byte === 0x5a));
  });

  test(`${name}: no rows are no work, and no error`, (t) => {
    const none = new Int32Array(0);
    const nothing = new Uint8Array(0);
    const hmac = crypto.hmac("sha1", nothing);
    hmac.sign(nothing, none, none, 0, NO_WINDOW);
    hmac.verify(nothing, none, none, 0, NO_WINDOW, none);
    const cipher = cipherOf(crypto, "aes-cbc-128");
    cipher.seal(nothing, none, none, 0, nothing);
    cipher.open(nothing, none, none, 0);
    crypto.sums(nothing, none, none, 0, none);
    t.pass();
  });

  test(`${name}: columns too short for the count, and keys of a wrong length, are errors`, (t) => {
    const hmac = crypto.hmac("sha1", KEY);
    const cipher = cipherOf(crypto, "aes-cbc-128");
    const rows = new Rows([payload(10), payload(10)]);
    const { bytes, from, to, outcome } = rows;
    const short = new Int32Array(1);
    const calls = [
      () => hmac.sign(bytes, from, to, 3, NO_WINDOW),
      () => hmac.sign(bytes, from, short, 2, NO_WINDOW),
      () => hmac.sign(bytes, from, to, -1, NO_WINDOW),
      () => hmac.verify(bytes, short, to, 2, NO_WINDOW, outcome),
      () => hmac.verify(bytes, from, to, 2, NO_WINDOW, short),
      () => cipher.seal(bytes, from, short, 2, new Uint8Array(32)),
      () => cipher.seal(bytes, from, to, 2, new Uint8Array(31)),
      () => cipher.open(bytes, short, to, 2),
      () => crypto.sums(bytes, from, short, 2, outcome),
      () => crypto.sums(bytes, from, to, 2, short),
      () => crypto.cipher("aes-cbc-128", new Uint8Array(15)),
      () => crypto.cipher("aes-cbc-128", new Uint8Array(32)),
      () => crypto.cipher("aes-cbc-256", new Uint8Array(16)),
      () => crypto.cipher("aes-cbc-256", new Uint8Array(0)),
    ];
    for (const call of calls) t.throws(call, undefined, String(call));
    t.deepEqual(rows.all(), [payload(10), payload(10)]);
  });

  test(`${name}: a key is copied, and changing the caller's bytes changes nothing`, (t) => {
    const key = KEY.slice();
    const hmac = crypto.hmac("sha256", key);
    const cipher = crypto.cipher("aes-cbc-256", key);
    const results = [0, 1].map(() => {
      const rows = new Rows([payload(30), payload(30)]);
      hmac.sign(rows.bytes, rows.from, rows.to, 1, NO_WINDOW);
      cipher.seal(rows.bytes, rows.from.subarray(1), rows.to.subarray(1), 1, counting(16));
      key.fill(0);
      return rows.all();
    });
    t.deepEqual(results[0], results[1]);
  });
}

const [[, node], [, addon]] = implementations;

test("both make the same bytes of random rows in random batches, under random keys", (t) => {
  const rowsOf = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 });
  const anyKey = fc.uint8Array({ maxLength: 150 });
  const anyWindow = fc.oneof(fc.constant(NO_WINDOW), fc.nat(), fc.constantFrom(0, 0xffff_ffff, -5, 2 ** 40 + 3));
  fc.assert(
    fc.property(
      rowsOf,
      anyKey,
      anyWindow,
      fc.constantFrom(...HMACS),
      fc.infiniteStream(fc.nat(255)),
      (list, key, window, algorithm, some) => {
        const [a, b] = [new Rows(list), new Rows(list)];
        const [one, other] = [node.hmac(algorithm, key), addon.hmac(algorithm, key)];
        one.sign(a.bytes, a.from, a.to, a.count, window);
        other.sign(b.bytes, b.from, b.to, b.count, window);
        t.deepEqual(b, a);
        for (let i = 0; i < a.count; i++) {
          const at = a.from[i] + (some.next().value % (2 * (a.to[i] - a.from[i])));
          a.bytes[at] ^= 1;
          b.bytes[at] ^= 1;
        }
        // Each verifies what the other signed.
        one.verify(b.bytes, b.from, b.to, b.count, window, b.outcome);
        other.verify(a.bytes, a.from, a.to, a.count, window, a.outcome);
        t.deepEqual(b, a);
        const [sums, sumsToo] = [new Int32Array(a.count), new Int32Array(a.count)];
        node.sums(a.bytes, a.from, a.to, a.count, sums);
        addon.sums(a.bytes, a.from, a.to, a.count, sumsToo);
        t.deepEqual(sumsToo, sums);
      },
    ),
  );
  const keys = fc.uint8Array({ minLength: 32, maxLength: 32 });
  const ivBytes = fc.uint8Array({ minLength: 320, maxLength: 320 });
  fc.assert(
    fc.property(rowsOf, keys, ivBytes, fc.constantFrom(...CIPHERS), (list, key, ivs, algorithm) => {
      const [a, b] = [new Rows(list), new Rows(list)];
      const [one, other] = [node, addon].map((each) =>
        each.cipher(algorithm, key.slice(0, CIPHER_KEY_LENGTH[algorithm])),
      );
      one.seal(a.bytes, a.from, a.to, a.count, ivs);
      other.seal(b.bytes, b.from, b.to, b.count, ivs);
      t.deepEqual(b, a);
      one.open(b.bytes, b.from, b.to, b.count);
      other.open(a.bytes, a.from, a.to, a.count);
      t.deepEqual(a.all(), list);
      t.deepEqual(b.all(), list);
    }),
  );
  t.pass();
});

test("both say the same of rows anywhere in a memory, inside, outside and one over the other", (t) => {
  const place = fc.oneof(fc.integer({ min: -40, max: 240 }), fc.integer());
  const rows = fc.array(fc.tuple(place, place), { maxLength: 8 });
  const memory = fc.uint8Array({ minLength: 200, maxLength: 200 });
  fc.assert(
    fc.property(rows, memory, fc.constantFrom("sign", "verify", "seal", "open", "sums"), (list, bytes, operation) => {
      const results = [node, addon].map((crypto) => {
        const around = Uint8Array.from([...bytesOf(64, 1), ...bytes, ...bytesOf(64, 1)]);
        const inside = around.subarray(64, 264);
        const from = Int32Array.from(list, ([first]) => first);
        const to = Int32Array.from(list, ([, last]) => last);
        const results = new Int32Array(list.length);
        const hmac = crypto.hmac("sha256-128", KEY);
        const cipher = cipherOf(crypto, "aes-cbc-128");
        if (operation === "sign") hmac.sign(inside, from, to, list.length, 7);
        else if (operation === "verify") hmac.verify(inside, from, to, list.length, 7, results);
        else if (operation === "seal") cipher.seal(inside, from, to, list.length, bytes);
        else if (operation === "sums") crypto.sums(inside, from, to, list.length, results);
        else cipher.open(inside, from, to, Math.min(list.length, 1));
        const edges = [...around.subarray(0, 64), ...around.subarray(264)];
        // What open leaves of a row that it refuses is not promised.
        return { from, to, results, edges, bytes: operation === "open" ? null : inside.slice() };
      });
      t.deepEqual(results[1], results[0]);
      t.true(results[1].edges.every((byte) => byte === 1));
    }),
  );
});

test("both open the same random bytes, padded right and wrong, to the same", (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(5), (plain, last) => {
      // Ciphertext of `plain` with its last blocks cut off: what was plain becomes the padding.
      const results = [node, addon].map((crypto) => {
        const cipher = cipherOf(crypto, "aes-cbc-256");
        const rows = new Rows([Uint8Array.from([...plain, ...bytesOf(16 - (plain.length % 16), last)])]);
        cipher.seal(rows.bytes, rows.from, rows.to, 1, counting(16));
        const [sealed] = rows.all();
        const cut = new Rows([Uint8Array.from([...sealed.slice(0, -32), ...sealed.slice(-16)])]);
        cipher.open(cut.bytes, cut.from, cut.to, 1);
        return [cut.to[0], ...(cut.to[0] < 0 ? [] : cut.all()[0])];
      });
      t.deepEqual(results[1], results[0]);
    }),
  );
});

test("sums of rows as long as any packet, at every alignment, are those of the plain sum", (t) => {
  const bytes = Uint8Array.from({ length: 65_600 }, (_, i) => (i * i * 31 + i) >> 3);
  for (const fill of [null, 0xff]) {
    if (fill !== null) bytes.fill(fill);
    const from = Int32Array.from({ length: 40 }, (_, i) => i);
    const to = Int32Array.from({ length: 40 }, (_, i) => 65_535 - i * i + (i & 3));
    const [plain, fast] = [new Int32Array(40), new Int32Array(40)];
    node.sums(bytes, from, to, 40, plain);
    addon.sums(bytes, from, to, 40, fast);
    t.deepEqual(fast, plain);
  }
});
