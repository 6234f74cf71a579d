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

/** What 127.0.0.0/8 is for here: table/address-book.ts. */
const isLoopback = (address: number) => address >>> 24 === 127;
const address = fc.integer().filter((number) => !isLoopback(number));

test("Addresses of the whole range print and read back", (t) => {
  fc.assert(fc.property(address, (address) => t.is(parseAddress(formatAddress(address)), address)));
  t.is(formatAddress(0xc6120001 | 0), "198.18.0.1");
  t.is(formatSocket(-1, 65535), "255.255.255.255:65535");
});

test("Prefixes of the whole range print and read back, and hold what a bit-by-bit comparison says", (t) => {
  const bits = (address: number, length: number) => (address >>> 0).toString(2).padStart(32, "0").slice(0, length);
  fc.assert(
    fc.property(
      address,
      fc.integer({ min: 0, max: 32 }),
      fc.integer(),
      fc.integer({ min: 0, max: 32 }),
      (a, length, b, other) => {
        const near = a ^ (b >>> other); // shares leading bits with a
        const base = length === 0 ? 0 : (a >> (32 - length)) << (32 - length);
        fc.pre(!isLoopback(near) && !isLoopback(base));
        t.is(prefixHolds({ address: a, length }, near), bits(a, length) === bits(near, length));
        const shorter = Math.min(length, other);
        t.is(
          prefixesOverlap({ address: a, length }, { address: near, length: other }),
          bits(a, shorter) === bits(near, shorter),
        );
        const prefix = parsePrefix(formatPrefix({ address: base, length }));
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
    "127.0.0.1",
    ":::1",
    "1::2::3",
    "fe80::1%eth0",
    "12345::",
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

test("IPv6 is read in every form and printed as RFC 5952 has it; its prefixes are compared bit by bit", (t) => {
  for (const [text, printed] of [
    ["2001:DB8:0:0:0:0:0:1", "2001:db8::1"],
    ["2001:db8::0:1", "2001:db8::1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:0:0:1::1", "2001:0:0:1::1"],
    ["::ffff:1.2.3.4", "::ffff:102:304"],
  ])
    t.is(formatAddress(parseAddress(text)), printed);
  t.is(parseAddress("2001:db8::1"), parseAddress("2001:DB8:0::1"));
  t.is(formatSocket(parseAddress("2001:db8::1"), 53), "[2001:db8::1]:53");
  const { address, port } = parseSocket("[2001:db8::5]:8080");
  t.deepEqual([formatAddress(address), port], ["2001:db8::5", 8080]);
  t.is(parseSocket("2001:db8::5").port, 0);
  t.is(formatPrefix(parsePrefix("2001:db8::/32")), "2001:db8::/32");
  t.is(parsePrefix("2001:db8::1").length, 128);
  for (const [prefix, inside, outside] of [
    ["2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"],
    ["2001:db8:0:8000::/49", "2001:db8:0:8001::", "2001:db8::"],
    ["2001:db8::4/126", "2001:db8::7", "2001:db8::8"],
    ["::/0", "ff02::1", "10.0.0.1"],
    ["0.0.0.0/0", "10.0.0.1", "2001:db8::1"],
  ]) {
    t.true(prefixHolds(parsePrefix(prefix), parseAddress(inside)), prefix);
    t.false(prefixHolds(parsePrefix(prefix), parseAddress(outside)), prefix);
  }
  for (const text of ["2001:db8::1/129", "2001:db8::1/0", "2001:db8::/64", "::1/64", "ff02::1/16", "::ffff:1.2.3.4/96"])
    t.throws(() => parseInterfaceAddress(text), { instanceOf: TextError }, text);
  for (const text of ["2001:db8::1/32", "2001:db8::/x"])
    t.throws(() => parsePrefix(text), { instanceOf: TextError }, text);
});
