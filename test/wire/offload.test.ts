import test from "ava";
import fc from "fast-check";
import { getI32, getU16, setU16 } from "../../lib/base/bytes.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import {
  fold,
  ipv4HeaderChecksum,
  ipv4HeaderIsRight,
  l4Checksum,
  l4ChecksumOffset,
  l4IsRight,
  pseudoHeaderSum,
} from "../../lib/wire/checksum.ts";
import { PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } from "../../lib/wire/flow-key.ts";
import {
  completeChecksum,
  isChecksumPartial,
  segmentFrame,
  segmentSizeMax,
  superFrameError,
} from "../../lib/wire/offload.ts";
import { ACK, CWR, ECE, FIN, PSH } from "../../lib/wire/tcp.ts";
import { buildFrame, randomBytes, randomFrame, type TestFrame } from "./frames.ts";

/** Store what a sender that leaves the checksum to hardware stores. */
function makePartial({ bytes, l3, l4 }: TestFrame): void {
  setU16(bytes, l4 + l4ChecksumOffset(bytes[l3 + 9]), fold(pseudoHeaderSum(bytes, l3, bytes.length - l4)));
}

function randomSuperFrame(seed: number, payloadLength: number): TestFrame {
  const random = new SeededRandom(seed);
  return buildFrame({
    protocol: PROTOCOL_TCP,
    ipOptions: new Uint8Array(4 * random.below(11)).fill(1),
    tcpOptions: new Uint8Array(4 * random.below(11)).fill(1),
    sequence: random.nextI32(),
    acknowledgment: random.nextI32(),
    identification: random.below(0x10000),
    flags: random.below(256),
    payload: randomBytes(random, payloadLength),
  });
}

/** All segments of `frame`, each in its own array, written at `at`. */
function segmentsOf({ bytes }: TestFrame, segmentSize: number, error: number, at = 3): Uint8Array[] {
  const target = new Uint8Array(70_000);
  const segments: Uint8Array[] = [];
  for (let index = 0; ; index++) {
    const length = segmentFrame(bytes, 0, segmentSize, index, error, target.fill(0xaa), at);
    if (length === 0) return segments;
    if (target[at + length] !== 0xaa || target[at - 1] !== 0xaa) throw new Error("wrote outside the segment");
    segments.push(target.slice(at, at + length));
  }
}

test("a partial checksum is known as one, a right one is not, and completing it makes it right", (t) => {
  const random = new SeededRandom(11);
  for (let i = 0; i < 300; i++) {
    const frame = randomFrame(random, 300);
    const { bytes, l3, l4 } = frame;
    const field = l4 + l4ChecksumOffset(bytes[l3 + 9]);
    const right = getU16(bytes, field);
    t.false(isChecksumPartial(bytes, l3, l4, bytes.length));
    if (bytes[l3 + 9] !== PROTOCOL_ICMP) {
      makePartial(frame);
      t.true(isChecksumPartial(bytes, l3, l4, bytes.length));
    } else {
      setU16(bytes, field, 0);
      t.false(isChecksumPartial(bytes, l3, l4, bytes.length));
    }
    completeChecksum(bytes, 0);
    t.is(getU16(bytes, field), right);
    t.true(l4IsRight(bytes, l3, l4, bytes.length));
  }
});

test("completing leaves a protocol without a known checksum alone", (t) => {
  const { bytes } = buildFrame({ protocol: 47, payload: new Uint8Array(30).fill(7) });
  const before = Uint8Array.from(bytes);
  completeChecksum(bytes, 0);
  t.deepEqual(bytes, before);
});

test("UDP that says it has no checksum is not partial", (t) => {
  const { bytes, l3, l4 } = buildFrame({ protocol: PROTOCOL_UDP, payload: new Uint8Array(3) });
  setU16(bytes, l4 + 6, 0);
  t.false(isChecksumPartial(bytes, l3, l4, bytes.length));
});

test("segments put together are the super-frame, and every header field but the segment's own is copied", (t) => {
  fc.assert(
    fc.property(
      fc.integer(),
      fc.integer({ min: 0, max: 9000 }),
      fc.integer({ min: 100, max: 1460 }),
      (seed, length, size) => {
        const frame = randomSuperFrame(seed, length);
        const { bytes, l3, l4, payload } = frame;
        const segments = segmentsOf(frame, size, superFrameError(bytes, 0, false));
        t.is(segments.length, Math.max(1, Math.ceil(length / size)));
        const joined = Buffer.concat(segments.map((segment) => segment.subarray(payload)));
        t.is(joined.compare(bytes.subarray(payload)), 0);
        const flags = bytes[l4 + 13];
        segments.forEach((segment, index) => {
          const last = index === segments.length - 1;
          t.is(segment.length, last ? payload + length - index * size : payload + size);
          t.is(getU16(segment, l3 + 2), segment.length - l3);
          t.is(getU16(segment, l3 + 4), (getU16(bytes, l3 + 4) + index) & 0xffff);
          t.is(getI32(segment, l4 + 4), (getI32(bytes, l4 + 4) + index * size) | 0);
          t.is(segment[l4 + 13], flags & (last ? 0xff : ~(FIN | PSH)) & (index === 0 ? 0xff : ~CWR));
          t.true(ipv4HeaderIsRight(segment, l3));
          t.true(l4IsRight(segment, l3, l4, segment.length));
          // What is left must be the super-frame's own header.
          const header = Uint8Array.from(segment.subarray(0, payload));
          for (const [at, count] of [
            [l3 + 2, 4],
            [l3 + 10, 2],
            [l4 + 4, 4],
            [l4 + 13, 1],
            [l4 + 16, 2],
          ]) {
            header.set(bytes.subarray(at, at + count), at);
          }
          t.deepEqual(header, bytes.slice(0, payload));
        });
      },
    ),
    { numRuns: 60 },
  );
});

test("a super-frame of 64 KiB is cut into segments of the MTU", (t) => {
  const frame = randomSuperFrame(12, 65_535 - 120);
  const size = segmentSizeMax(frame.bytes, 0, 1500);
  t.is(size, 1500 - (frame.payload - frame.l3));
  const segments = segmentsOf(frame, size, superFrameError(frame.bytes, 0, false));
  t.is(segments.length, Math.ceil((65_535 - 120) / size));
  for (const segment of segments.slice(0, -1)) t.is(segment.length, 1514);
});

test("segments of a super-frame with a partial checksum are right", (t) => {
  const frame = randomSuperFrame(13, 5000);
  makePartial(frame);
  const { bytes, l3, l4 } = frame;
  t.true(isChecksumPartial(bytes, l3, l4, bytes.length));
  t.is(superFrameError(bytes, 0, true), 0);
  for (const segment of segmentsOf(frame, 1448, 0)) t.true(l4IsRight(segment, l3, l4, segment.length));
});

test("the damage of a super-frame is in each of its segments, the same ones' complement distance from right", (t) => {
  fc.assert(
    fc.property(fc.integer(), fc.integer({ min: 1, max: 0xfffe }), (seed, damage) => {
      const frame = randomSuperFrame(seed, 3000);
      const { bytes, l3, l4 } = frame;
      t.is(superFrameError(bytes, 0, false), 0);
      setU16(bytes, l4 + 16, fold(getU16(bytes, l4 + 16) + damage));
      const error = superFrameError(bytes, 0, false);
      t.is(error, damage);
      for (const segment of segmentsOf(frame, 1000, error)) {
        t.false(l4IsRight(segment, l3, l4, segment.length));
        t.is(getU16(segment, l4 + 16), fold(l4Checksum(segment, l3, l4, segment.length) + damage));
      }
    }),
    { numRuns: 100 },
  );
});

test("a wrong IPv4 header checksum is wrong in every segment", (t) => {
  const frame = randomSuperFrame(14, 3000);
  frame.bytes[frame.l3 + 8]++;
  for (const segment of segmentsOf(frame, 1000, 0)) t.false(ipv4HeaderIsRight(segment, frame.l3));
});

test("a frame that fits is its own only segment, bit for bit", (t) => {
  for (const payloadLength of [0, 1, 1000]) {
    const frame = randomSuperFrame(15, payloadLength);
    const segments = segmentsOf(frame, 1000, 0);
    t.is(segments.length, 1);
    t.deepEqual(segments[0], frame.bytes);
  }
});

test("FIN and PSH are on the last segment only, CWR on the first only, ACK and ECE on all", (t) => {
  const frame = buildFrame({ protocol: PROTOCOL_TCP, flags: FIN | PSH | CWR | ACK | ECE, payload: new Uint8Array(25) });
  t.deepEqual(
    segmentsOf(frame, 10, 0).map((segment) => segment[frame.l4 + 13]),
    [CWR | ACK | ECE, ACK | ECE, FIN | PSH | ACK | ECE],
  );
});

test("a segment size under 1 gives no segment instead of endless ones", (t) => {
  const frame = randomSuperFrame(16, 100);
  t.is(segmentsOf(frame, 0, 0).length, 0);
  t.is(segmentsOf(frame, -5, 0).length, 0);
});

function randomUdpSuperFrame(seed: number, payloadLength: number): TestFrame {
  const random = new SeededRandom(seed);
  return buildFrame({
    protocol: PROTOCOL_UDP,
    ipOptions: new Uint8Array(4 * random.below(11)).fill(1),
    identification: random.below(0x10000),
    payload: randomBytes(random, payloadLength),
  });
}

test("a UDP super-frame is cut into the datagrams that a frame builder makes of its pieces", (t) => {
  fc.assert(
    fc.property(
      fc.integer(),
      fc.integer({ min: 0, max: 9000 }),
      fc.integer({ min: 1, max: 1472 }),
      (seed, length, size) => {
        const frame = randomUdpSuperFrame(seed, length);
        const { bytes, l3, l4, payload } = frame;
        const segments = segmentsOf(frame, size, superFrameError(bytes, 0, false));
        t.is(segments.length, Math.max(1, Math.ceil(length / size)));
        segments.forEach((segment, index) => {
          const from = payload + index * size;
          // The slow way: the whole datagram anew, with its own lengths, and both checksums by a full sum.
          const twin = Uint8Array.from([
            ...bytes.subarray(0, payload),
            ...bytes.subarray(from, Math.min(from + size, bytes.length)),
          ]);
          setU16(twin, l3 + 2, twin.length - l3);
          setU16(twin, l3 + 4, (getU16(bytes, l3 + 4) + index) & 0xffff);
          setU16(twin, l3 + 10, ipv4HeaderChecksum(twin, l3));
          setU16(twin, l4 + 4, twin.length - l4);
          setU16(twin, l4 + 6, l4Checksum(twin, l3, l4, twin.length));
          t.deepEqual(segment, twin);
        });
      },
    ),
    { numRuns: 60 },
  );
});

test("the datagrams of a UDP super-frame without a checksum have none, those of a partial one a right one", (t) => {
  const none = randomUdpSuperFrame(21, 3000);
  setU16(none.bytes, none.l4 + 6, 0);
  for (const segment of segmentsOf(none, 700, superFrameError(none.bytes, 0, false))) {
    t.is(getU16(segment, none.l4 + 6), 0);
  }
  const frame = randomUdpSuperFrame(22, 3000);
  makePartial(frame);
  for (const segment of segmentsOf(frame, 700, 0)) {
    t.true(getU16(segment, frame.l4 + 6) !== 0 && l4IsRight(segment, frame.l3, frame.l4, segment.length));
  }
});

test("the damage of a UDP super-frame is in each of its datagrams, and never becomes 'no checksum'", (t) => {
  for (let damage = 1; damage < 0xffff; damage += 257) {
    const frame = randomUdpSuperFrame(damage, 900);
    const { bytes, l3, l4 } = frame;
    setU16(bytes, l4 + 6, fold(getU16(bytes, l4 + 6) + damage));
    const error = superFrameError(bytes, 0, false);
    for (const segment of segmentsOf(frame, 400, error)) {
      t.false(l4IsRight(segment, l3, l4, segment.length));
      t.true(getU16(segment, l4 + 6) !== 0);
    }
  }
});

test("the most payload a datagram may have is the MTU less its headers", (t) => {
  const { bytes, l3, l4 } = randomUdpSuperFrame(23, 100);
  t.is(segmentSizeMax(bytes, 0, 1500), 1500 - (l4 - l3) - 8);
});
