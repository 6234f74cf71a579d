import { createRequire } from "node:module";
import test from "ava";
import fc from "fast-check";
import { getI32, getU16, setU16, setU32 } from "../../lib/base/bytes.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import {
  addDelta,
  applyDelta,
  applyDeltaUdp,
  deltaI32,
  deltaU16,
  fold,
  ipv4HeaderChecksum,
  ipv4HeaderIsRight,
  l4Checksum,
  l4ChecksumOffset,
  l4IsRight,
  pseudoHeaderSum,
  sumWords,
} from "../../lib/wire/checksum.ts";
import { PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } from "../../lib/wire/flow-key.ts";
import { writeIcmpEchoReply } from "../../lib/wire/icmp.ts";
import { buildFrame, randomFrame } from "./frames.ts";

const require = createRequire(import.meta.url);
const { createChecksum } = require("raw-socket") as { createChecksum(...buffers: Buffer[]): number };

/** The pseudo header as bytes, for a referee that knows nothing of headers. */
function pseudoHeader(bytes: Uint8Array, l3: number, length: number): Buffer {
  const header = Buffer.alloc(12);
  header.set(bytes.subarray(l3 + 12, l3 + 20));
  header[9] = bytes[l3 + 9];
  header.writeUInt16BE(length, 10);
  return header;
}

test("a full sum agrees with raw-socket for every length from 1 to 200 and for 64 KiB of 0xFF", (t) => {
  const random = new SeededRandom(1);
  for (let length = 1; length <= 200; length++) {
    const bytes = Buffer.from(Array.from({ length: length + 3 }, () => random.below(256)));
    const from = length % 3;
    const mine = ~fold(sumWords(bytes, from, from + length, 0)) & 0xffff;
    t.is(mine, createChecksum(bytes.subarray(from, from + length)), `length ${length}`);
  }
  const most = Buffer.alloc(65535, 0xff);
  t.is(sumWords(most, 0, 65535, 7), 32767 * 65535 + 0xff00 + 7);
  t.is(~fold(sumWords(most, 0, 65535, 0)) & 0xffff, createChecksum(most));
});

test("checksums of 500 random frames agree with raw-socket's", (t) => {
  const random = new SeededRandom(2);
  for (let i = 0; i < 500; i++) {
    const { bytes, l3, l4 } = randomFrame(random);
    const protocol = bytes[l3 + 9];
    const frame = Buffer.from(bytes);
    frame.fill(0, l3 + 10, l3 + 12);
    t.is(ipv4HeaderChecksum(bytes, l3), createChecksum(frame.subarray(l3, l4)));
    t.true(ipv4HeaderIsRight(bytes, l3));

    const field = l4 + l4ChecksumOffset(protocol);
    frame.fill(0, field, field + 2);
    const l4Bytes = frame.subarray(l4);
    const referee =
      protocol === PROTOCOL_ICMP
        ? createChecksum(l4Bytes)
        : createChecksum(pseudoHeader(bytes, l3, l4Bytes.length), l4Bytes);
    t.is(l4Checksum(bytes, l3, l4, bytes.length), protocol === PROTOCOL_UDP ? referee || 0xffff : referee);
    t.is(getU16(bytes, field), l4Checksum(bytes, l3, l4, bytes.length));
    t.true(l4IsRight(bytes, l3, l4, bytes.length));
    bytes[l4 + 4] ^= 0x40;
    if (protocol !== PROTOCOL_UDP) t.false(l4IsRight(bytes, l3, l4, bytes.length));
  }
});

test("an incremental update gives the very bits of a full sum, for TCP, UDP, ICMP and the IPv4 header", (t) => {
  fc.assert(
    fc.property(fc.integer(), fc.integer(), fc.integer(), fc.integer(), (seed, source, destination, ports) => {
      const { bytes, l3, l4 } = randomFrame(new SeededRandom(seed), 64);
      const protocol = bytes[l3 + 9];
      const field = l4 + l4ChecksumOffset(protocol);
      const addresses = addDelta(
        deltaI32(getI32(bytes, l3 + 12), source),
        deltaI32(getI32(bytes, l3 + 16), destination),
      );
      const l4Delta = deltaI32(getI32(bytes, protocol === PROTOCOL_ICMP ? l4 + 4 : l4), ports);
      const delta = protocol === PROTOCOL_ICMP ? l4Delta : addDelta(addresses, l4Delta);
      const apply = protocol === PROTOCOL_UDP ? applyDeltaUdp : applyDelta;
      setU16(bytes, field, apply(getU16(bytes, field), delta));
      setU16(bytes, l3 + 10, applyDelta(getU16(bytes, l3 + 10), addresses));
      setU32(bytes, l3 + 12, source);
      setU32(bytes, l3 + 16, destination);
      setU32(bytes, protocol === PROTOCOL_ICMP ? l4 + 4 : l4, ports);
      return (
        getU16(bytes, field) === l4Checksum(bytes, l3, l4, bytes.length) &&
        getU16(bytes, l3 + 10) === ipv4HeaderChecksum(bytes, l3)
      );
    }),
    { numRuns: 2000 },
  );
  t.pass();
});

test("a delta and its reverse restore every checksum that a full sum can make", (t) => {
  for (let checksum = 0; checksum < 0xffff; checksum++) {
    const there = deltaU16(0x1234, (checksum * 40503) & 0xffff);
    const back = deltaU16((checksum * 40503) & 0xffff, 0x1234);
    if (applyDelta(applyDelta(checksum, there), back) !== checksum) t.fail(`checksum ${checksum}`);
  }
  t.is(applyDelta(0xffff, deltaU16(7, 7)), 0, "0xFFFF is the other zero");
});

test("an update keeps the distance to the right checksum, so a wrong one stays wrong and a right one right", (t) => {
  fc.assert(
    fc.property(fc.integer(), fc.nat(0xffff), fc.integer(), (seed, stored, source) => {
      const { bytes, l3, l4 } = randomFrame(new SeededRandom(seed), 64);
      const protocol = bytes[l3 + 9];
      fc.pre(protocol !== PROTOCOL_ICMP);
      const field = l4 + l4ChecksumOffset(protocol);
      setU16(bytes, field, stored);
      const before = l4IsRight(bytes, l3, l4, bytes.length);
      const delta = deltaI32(getI32(bytes, l3 + 12), source);
      setU16(bytes, field, (protocol === PROTOCOL_UDP ? applyDeltaUdp : applyDelta)(stored, delta));
      setU32(bytes, l3 + 12, source);
      return l4IsRight(bytes, l3, l4, bytes.length) === before;
    }),
    { numRuns: 2000 },
  );
  t.pass();
});

test("UDP without a checksum keeps none, and a checksum that comes out as 0 is sent as 0xFFFF", (t) => {
  t.is(applyDeltaUdp(0, 0x1234), 0);
  // 0x1234 with one word raised by 0x1234 is 0 in ones' complement.
  t.is(applyDelta(0x1234, deltaU16(0, 0x1234)), 0);
  t.is(applyDeltaUdp(0x1234, deltaU16(0, 0x1234)), 0xffff);

  const { bytes, l3, l4, payload } = buildFrame({ protocol: PROTOCOL_UDP, payload: new Uint8Array(2) });
  setU16(bytes, payload, getU16(bytes, l4 + 6));
  t.is(l4Checksum(bytes, l3, l4, bytes.length), 0xffff);
  setU16(bytes, l4 + 6, 0xffff);
  t.true(l4IsRight(bytes, l3, l4, bytes.length));
  setU16(bytes, l4 + 6, 0);
  t.true(l4IsRight(bytes, l3, l4, bytes.length), "no checksum is not a wrong one");
});

test("a UDP checksum covers what UDP says it carries, not what IP carries behind it", (t) => {
  const { bytes, l3, l4 } = buildFrame({ protocol: PROTOCOL_UDP, payload: Uint8Array.of(1, 2, 3) });
  const longer = new Uint8Array(bytes.length + 4).fill(0xee);
  longer.set(bytes);
  setU16(longer, l3 + 2, longer.length - l3);
  t.true(l4IsRight(longer, l3, l4, longer.length));
  t.is(l4Checksum(longer, l3, l4, longer.length), getU16(bytes, l4 + 6));
});

test("the pseudo header sum agrees with its bytes, and other protocols have no checksum of ours", (t) => {
  const { bytes, l3, l4 } = buildFrame({ protocol: PROTOCOL_TCP });
  const referee = createChecksum(pseudoHeader(bytes, l3, 20));
  t.is(~fold(pseudoHeaderSum(bytes, l3, 20)) & 0xffff, referee);
  t.is(l4ChecksumOffset(47), -1);
  bytes[l3 + 9] = 47;
  t.true(l4IsRight(bytes, l3, l4, bytes.length));
});

test("an echo becomes its reply with a right checksum, also when the reply is all zero, and a wrong one stays wrong", (t) => {
  const zero = buildFrame({ protocol: PROTOCOL_ICMP, sourcePort: 0 });
  setU32(zero.bytes, zero.l4 + 4, 0);
  setU16(zero.bytes, zero.l4 + 2, l4Checksum(zero.bytes, zero.l3, zero.l4, zero.bytes.length));
  const some = buildFrame({ protocol: PROTOCOL_ICMP, payload: Uint8Array.of(9, 8, 7) });
  for (const { bytes, l3, l4 } of [zero, some]) {
    writeIcmpEchoReply(bytes, l4);
    t.is(bytes[l4], 0);
    t.true(l4IsRight(bytes, l3, l4, bytes.length));
    bytes[l4] = 8;
    writeIcmpEchoReply(bytes, l4);
    t.false(l4IsRight(bytes, l3, l4, bytes.length));
  }
});
