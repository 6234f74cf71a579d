import test from "ava";
import fc from "fast-check";
import {
  formatAddress,
  formatPrefix,
  formatSocket,
  parseAddress,
  parseInterfaceAddress,
  parsePrefix,
  parseSocket,
  prefixesOverlap,
  prefixHolds,
  TextError,
} from "../../lib/control/address-text.ts";

test("Addresses of the whole range print and read back", (t) => {
  fc.assert(fc.property(fc.integer(), (address) => t.is(parseAddress(formatAddress(address)), address)));
  t.is(formatAddress(0xc6120001 | 0), "198.18.0.1");
  t.is(formatSocket(-1, 65535), "255.255.255.255:65535");
});

test("Prefixes of the whole range print and read back, and hold what a bit-by-bit comparison says", (t) => {
  const bits = (address: number, length: number) => (address >>> 0).toString(2).padStart(32, "0").slice(0, length);
  fc.assert(
    fc.property(
      fc.integer(),
      fc.integer({ min: 0, max: 32 }),
      fc.integer(),
      fc.integer({ min: 0, max: 32 }),
      (a, length, b, other) => {
        const near = a ^ (b >>> other); // shares leading bits with a
        t.is(prefixHolds({ address: a, length }, near), bits(a, length) === bits(near, length));
        const shorter = Math.min(length, other);
        t.is(
          prefixesOverlap({ address: a, length }, { address: near, length: other }),
          bits(a, shorter) === bits(near, shorter),
        );
        const prefix = parsePrefix(
          formatPrefix({ address: length === 0 ? 0 : (a >> (32 - length)) << (32 - length), length }),
        );
        t.is(bits(prefix.address, length), bits(a, length));
      },
    ),
  );
});

test("Only strict text is read", (t) => {
  for (const text of [
    "",
    "1.2.3",
    "1.2.3.4.5",
    "01.2.3.4",
    "0x1.2.3.4",
    "1.2.3.256",
    " 1.2.3.4",
    "1.2.3.4 ",
    "16909060",
    "::1",
  ]) {
    t.throws(() => parseAddress(text), { instanceOf: TextError }, text);
  }
  for (const text of ["10.0.0.1/", "10.0.0.1/-1", "10.0.0.1/1e1", "10.0.0.1/24/24", "/24", "0.0.0.5/8", "10.0.0.1/0"]) {
    t.throws(() => parseInterfaceAddress(text), { instanceOf: TextError }, text);
  }
  for (const text of ["10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", ":80", "10.0.0.1:80:80", "127.0.0.1:80"]) {
    t.throws(() => parseSocket(text), { instanceOf: TextError }, text);
  }
  t.deepEqual(parsePrefix("10.2.0.5"), { address: 0x0a020005, length: 32 });
  t.deepEqual(parseInterfaceAddress("10.0.0.0/31"), { address: 0x0a000000, length: 31 });
});
