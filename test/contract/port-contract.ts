// What it means to be a Port (lib/io/port.ts), as tests that every kind of port passes. A kind says how to make a port
// at which given frames arrive, and how to see what left it. Plain asserts, so that a child process without a test
// runner (live ports, in a namespace of their own) runs the same list.

import assert from "node:assert/strict";
import {
  FRAME_CHECKSUM_PARTIAL,
  FRAME_TRUNCATED,
  FrameBatch,
  HEADROOM,
  type Port,
  TAILROOM,
} from "../../lib/io/port.ts";
import { checksumsRight, makePartial, readTcp, tcpFrame, udpFrame } from "./frames.ts";

export interface PortFixture {
  readonly port: Port;
  /** What left the port, oldest first: `least` frames, which are waited for, and any beyond. Called once, last. */
  collect(least: number): Uint8Array[] | Promise<Uint8Array[]>;
  /** Also after collect. */
  close(): void;
}

export interface PortKind {
  readonly name: string;
  /**
   * The segment size of a super-frame that arrives, when the port learns it from the kernel. Such a port also leaves it
   * to the kernel to cut what it sends; what `collect` gives is cut already.
   */
  readonly segmentSize?: number;
  /** Its wire is IPv6's (over-ipv6.ts): packets are longer there, segments have no identification and UDP always a checksum. */
  readonly isIpv6?: boolean;
  /** A port with PORT_MAC and an MTU of 1,500 at which `arriving` waits, or soon will. */
  make(arriving: readonly Uint8Array[]): PortFixture | Promise<PortFixture>;
}

export interface ContractCase {
  readonly title: string;
  run(kind: PortKind): Promise<void>;
}

const MTU = 1500;
const UNKNOWN = 0xffff;
const GROWTH = 20;

export const portContract: readonly ContractCase[] = [
  contract("frames arrive whole and in order", many(100), async ({ port }, frames) => {
    assert.deepEqual(await receive(port, frames.length), frames);
  }),

  contract("rx without waiting frames gives none", [], async ({ port }) => {
    const batch = emptyBatch(16);
    batch.count = 5;
    assert.equal(port.rx(batch), 0);
    assert.equal(batch.count, 0);
  }),

  contract("rx never gives more than the batch's capacity, and the rest later", many(20), async ({ port }, frames) => {
    assert.deepEqual(await receive(port, frames.length, 8), frames);
  }),

  contract("every received frame has headroom of its own in front", many(20), async ({ port }, frames) => {
    const batch = emptyBatch(32);
    const got: Uint8Array[] = [];
    await patiently(() => {
      port.rx(batch);
      for (let i = 0; i < batch.count; i++) {
        assert.ok(batch.offset[i] >= HEADROOM);
        batch.bytes.fill(0xee, batch.offset[i] - HEADROOM, batch.offset[i]);
      }
      got.push(...copies(batch));
      return got.length >= frames.length;
    });
    assert.deepEqual(got, frames);
  }),

  contract(
    "every received frame has tailroom behind it, and headroom that it does not share",
    many(20),
    async ({ port }, frames) => {
      const batch = emptyBatch(32);
      const got: Uint8Array[] = [];
      await patiently(() => {
        port.rx(batch);
        for (let i = 0; i < batch.count; i++) {
          const end = batch.offset[i] + batch.length[i];
          assert.ok(end + TAILROOM <= batch.bytes.length);
          batch.bytes.fill(0xbb, end, end + TAILROOM);
        }
        for (let i = 0; i < batch.count; i++) {
          batch.bytes.fill(0xff, batch.offset[i] - (HEADROOM - TAILROOM), batch.offset[i]);
        }
        for (let i = 0; i < batch.count; i++) {
          const end = batch.offset[i] + batch.length[i];
          assert.ok(batch.bytes.subarray(end, end + TAILROOM).every((byte) => byte === 0xbb));
        }
        got.push(...copies(batch));
        return got.length >= frames.length;
      });
      assert.deepEqual(got, frames);
    },
  ),

  contract(
    "received frames may be changed in place and sent from where they lie",
    many(10),
    async (fixture, frames) => {
      const { port } = fixture;
      const batch = emptyBatch(32);
      let sent = 0;
      await patiently(() => {
        const count = port.rx(batch);
        for (let i = 0; i < count; i++) batch.bytes[batch.offset[i] + 43] ^= 0xff;
        sent += port.tx(batch, 0, count);
        return sent >= frames.length;
      });
      const changed = frames.map((frame) => frame.map((byte, at) => (at === 43 ? byte ^ 0xff : byte)));
      assert.deepEqual(await fixture.collect(frames.length), changed);
    },
  ),

  contract("tx sends rows from..to in order and counts them", [], async (fixture) => {
    const frames = many(100);
    assert.equal(fixture.port.tx(batchOf(frames), 10, 90), 80);
    assert.equal(fixture.port.stats().txFrames, 80);
    assert.deepEqual(await fixture.collect(80), frames.slice(10, 90));
  }),

  contract(
    "a super-frame received is whole, marked and counted",
    [tcpFrame(20_000)],
    async ({ port }, frames, kind) => {
      const batch = emptyBatch(4);
      await patiently(() => port.rx(batch) > 0);
      assert.equal(batch.length[0], frames[0].length);
      assert.equal(batch.segmentSize[0], kind.segmentSize ?? UNKNOWN);
      assert.equal(batch.flags[0] & FRAME_TRUNCATED, 0);
      assert.equal(port.stats().superFrames, 1);
      assert.deepEqual(readTcp(copies(batch)[0]).payload, readTcp(frames[0]).payload);
    },
  ),

  contract("a received frame of exactly MTU size is no super-frame", [udpFrame(1, MTU + 14)], async ({ port }) => {
    const batch = emptyBatch(4);
    batch.segmentSize[0] = 77;
    await patiently(() => port.rx(batch) > 0);
    assert.equal(batch.segmentSize[0], 0);
    assert.equal(port.stats().superFrames, 0);
  }),

  contract(
    "a super-frame leaves as segments of the sender's size, right in every field",
    [],
    async (fixture, _, kind) => {
      const whole = tcpFrame(20_001);
      const batch = batchOf([udpFrame(1, 100), whole, udpFrame(2, 100)]);
      batch.segmentSize[1] = 1000;
      assert.equal(fixture.port.tx(batch, 0, 3), 3);
      const stats = fixture.port.stats();
      assert.equal(stats.segments, kind.segmentSize === undefined ? 21 : 0);
      assert.equal(stats.txFrames, kind.segmentSize === undefined ? 23 : 3);
      const left = await fixture.collect(23);
      assert.deepEqual([left[0], left[22]], [udpFrame(1, 100), udpFrame(2, 100)]);
      assertSegments(kind, left.slice(1, 22), whole, 1000);
    },
  ),

  contract(
    "a UDP super-frame leaves as the datagrams it stands for, none joined and none cut",
    [],
    async (fixture, _, kind) => {
      const long = udpFrame(1, 42 + 7 * 1200 + 33);
      const short = udpFrame(2, 42 + 3 * 400);
      const none = udpFrame(3, 42 + 2 * 500);
      none.fill(0, 40, 42);
      const batch = batchOf([long, short, none].map((frame, i) => (i < 2 ? makePartial(frame) : frame)));
      batch.flags.fill(FRAME_CHECKSUM_PARTIAL, 0, 2);
      batch.segmentSize.set([1200, 400, 500]);
      assert.equal(fixture.port.tx(batch, 0, 3), 3);
      const left = await fixture.collect(13);
      assertDatagrams(kind, left.slice(0, 8), long, 1200);
      assertDatagrams(kind, left.slice(8, 11), short, 400);
      assert.equal(left.length, 13);
      for (const [i, frame] of left.slice(11).entries()) {
        if (kind.isIpv6) assert.deepEqual(checksumsRight(frame), { ip: true, l4: true });
        else assert.deepEqual(frame.subarray(40, 42), new Uint8Array(2));
        assert.deepEqual(frame.subarray(42), none.subarray(42 + i * 500, 42 + (i + 1) * 500));
      }
    },
  ),

  contract(
    "a UDP super-frame whose datagrams the wire cannot take is an error, not smaller datagrams",
    [],
    async (fixture) => {
      const batch = batchOf([makePartial(udpFrame(1, 42 + 8000)), udpFrame(2, 60)]);
      batch.flags[0] = FRAME_CHECKSUM_PARTIAL;
      batch.segmentSize[0] = 2000;
      assert.equal(fixture.port.tx(batch, 0, 2), 1);
      assert.equal(fixture.port.stats().txErrors, 1);
      assert.deepEqual(await fixture.collect(1), [udpFrame(2, 60)]);
    },
  ),

  contract("a super-frame that fits the wire is cut all the same", [], async (fixture, _, kind) => {
    const whole = tcpFrame(1200);
    const batch = batchOf([whole]);
    batch.segmentSize[0] = 500;
    assert.equal(fixture.port.tx(batch, 0, 1), 1);
    assertSegments(kind, await fixture.collect(3), whole, 500);
  }),

  contract("a super-frame of unknown segment size leaves in frames that fill the MTU", [], async (fixture, _, kind) => {
    const whole = tcpFrame(65_000);
    const batch = batchOf([whole]);
    batch.segmentSize[0] = UNKNOWN;
    assert.equal(fixture.port.tx(batch, 0, 1), 1);
    const left = await fixture.collect(Math.ceil(65_000 / (MTU - 52)));
    assert.equal(left[0].length, MTU + 14);
    assertSegments(kind, left, whole, MTU - 52);
  }),

  contract("small segments of a long super-frame all leave", [], async (fixture, _, kind) => {
    const whole = tcpFrame(30_000);
    const batch = batchOf([whole]);
    batch.segmentSize[0] = 88;
    assert.equal(fixture.port.tx(batch, 0, 1), 1);
    assertSegments(kind, await fixture.collect(Math.ceil(30_000 / 88)), whole, 88);
  }),

  contract("a super-frame with a wrong checksum leaves as segments with wrong checksums", [], async (fixture) => {
    const whole = tcpFrame(5000);
    whole[51] ^= 0x21;
    const batch = batchOf([whole]);
    batch.segmentSize[0] = UNKNOWN;
    fixture.port.tx(batch, 0, 1);
    const left = await fixture.collect(4);
    assert.equal(left.length, 4);
    for (const frame of left) assert.deepEqual(checksumsRight(frame), { ip: true, l4: false });
  }),

  contract("a partial checksum is completed before the frame leaves", [], async (fixture, _, kind) => {
    const whole = [udpFrame(1, 200), tcpFrame(333), tcpFrame(4000)];
    const batch = batchOf(whole.map(makePartial));
    batch.flags.fill(FRAME_CHECKSUM_PARTIAL);
    batch.segmentSize[2] = UNKNOWN;
    assert.equal(fixture.port.tx(batch, 0, 3), 3);
    assert.equal(fixture.port.stats().partialChecksums, 3);
    const left = await fixture.collect(5);
    assert.deepEqual(left.slice(0, 2), whole.slice(0, 2));
    assertSegments(kind, left.slice(2), whole[2], MTU - 52);
  }),

  contract("a frame without the partial flag leaves with the checksum it came with", [], async (fixture) => {
    const wrong = udpFrame(1, 200);
    wrong[40] ^= 1;
    assert.equal(fixture.port.tx(batchOf([wrong]), 0, 1), 1);
    assert.deepEqual(await fixture.collect(1), [wrong]);
  }),

  contract("frames the wire cannot take are counted as errors and do not hold up the others", [], async (fixture) => {
    const frames = [udpFrame(0, 60), udpFrame(1, MTU + 15), udpFrame(2, 60), new Uint8Array(13), udpFrame(4, 60)];
    assert.equal(fixture.port.tx(batchOf(frames), 0, 5), 3);
    assert.equal(fixture.port.stats().txErrors, 2);
    assert.equal(fixture.port.stats().txFrames, 3);
    assert.deepEqual(await fixture.collect(3), [frames[0], frames[2], frames[4]]);
  }),

  contract("the totals add up", many(30), async (fixture, frames, kind) => {
    const { port } = fixture;
    await receive(port, frames.length);
    port.tx(batchOf(frames), 0, 30);
    const bytes = frames.reduce((sum, frame) => sum + frame.length, 0);
    const { rxFrames, rxBytes, txFrames, txBytes, rxKernelDrops, txFull, txErrors } = port.stats();
    const onWire = bytes + (kind.isIpv6 ? frames.length * GROWTH : 0);
    assert.deepEqual([rxFrames, rxBytes, rxKernelDrops], [30, onWire, 0]);
    assert.deepEqual([txFrames, txBytes, txFull, txErrors], [30, onWire, 0, 0]);
  }),

  contract("a closed port is quiet", many(5), async ({ port }) => {
    port.close();
    port.close();
    const batch = emptyBatch(8);
    assert.equal(port.rx(batch), 0);
    assert.equal(batch.count, 0);
    assert.equal(port.tx(batchOf(many(3)), 0, 3), 0);
    assert.equal(port.stats().txFrames, 0);
  }),
];

/** Frames of many sizes, numbered. */
export function many(count: number): Uint8Array[] {
  return Array.from({ length: count }, (_, i) => udpFrame(i, 60 + ((i * 97) % 1440)));
}

export function emptyBatch(capacity: number): FrameBatch {
  return new FrameBatch(new Uint8Array(0), capacity);
}

export function batchOf(frames: readonly Uint8Array[]): FrameBatch {
  const total = frames.reduce((sum, frame) => sum + frame.length, 0);
  const batch = new FrameBatch(new Uint8Array(total), frames.length);
  let at = 0;
  for (const frame of frames) {
    batch.bytes.set(frame, at);
    batch.offset[batch.count] = at;
    batch.length[batch.count++] = frame.length;
    at += frame.length;
  }
  return batch;
}

export function copies(batch: FrameBatch): Uint8Array[] {
  return Array.from({ length: batch.count }, (_, i) =>
    batch.bytes.slice(batch.offset[i], batch.offset[i] + batch.length[i]),
  );
}

/** Receive until `count` frames have come. */
export async function receive(port: Port, count: number, capacity = 64): Promise<Uint8Array[]> {
  const batch = emptyBatch(capacity);
  const got: Uint8Array[] = [];
  await patiently(() => {
    const received = port.rx(batch);
    assert.equal(received, batch.count);
    assert.ok(received <= capacity);
    got.push(...copies(batch));
    return got.length >= count;
  });
  return got;
}

/** Try until it is done; frames of a live port take a moment, and more where the machine has other work. */
export async function patiently(done: () => boolean): Promise<void> {
  const giveUp = Date.now() + 10_000;
  while (!done()) {
    if (Date.now() > giveUp) assert.fail("nothing more arrived within ten seconds");
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

function contract(
  title: string,
  arriving: readonly Uint8Array[],
  body: (fixture: PortFixture, arriving: readonly Uint8Array[], kind: PortKind) => Promise<void>,
): ContractCase {
  const run = async (kind: PortKind) => {
    const fixture = await kind.make(arriving);
    try {
      await body(fixture, arriving, kind);
    } finally {
      fixture.close();
    }
  };
  return { title, run };
}

function assertSegments(kind: PortKind, frames: readonly Uint8Array[], whole: Uint8Array, segmentSize: number): void {
  const original = readTcp(whole);
  assert.equal(frames.length, Math.ceil(original.payload.length / segmentSize));
  let at = 0;
  for (const [index, frame] of frames.entries()) {
    const segment = readTcp(frame);
    const last = index === frames.length - 1;
    assert.deepEqual(checksumsRight(frame), { ip: true, l4: true }, `checksums of segment ${index}`);
    assert.equal(segment.sequence, (original.sequence + at) >>> 0);
    assert.equal(segment.id, (original.id + (kind.isIpv6 ? 0 : index)) & 0xffff);
    assert.equal(segment.flags, 0x10 | (index === 0 ? 0x80 : 0) | (last ? 0x09 : 0), `flags of segment ${index}`);
    assert.deepEqual(segment.payload, original.payload.slice(at, at + segmentSize));
    at += segment.payload.length;
  }
  assert.equal(at, original.payload.length);
}

function assertDatagrams(kind: PortKind, frames: readonly Uint8Array[], whole: Uint8Array, size: number): void {
  const payload = whole.subarray(42);
  assert.equal(frames.length, Math.ceil(payload.length / size));
  for (const [index, frame] of frames.entries()) {
    const piece = payload.subarray(index * size, (index + 1) * size);
    assert.deepEqual(checksumsRight(frame), { ip: true, l4: true }, `checksums of datagram ${index}`);
    assert.deepEqual(frame.subarray(42), piece);
    assert.equal(frame[38] * 256 + frame[39], 8 + piece.length, `UDP length of datagram ${index}`);
    assert.equal(
      frame[18] * 256 + frame[19],
      0x1234 + (kind.isIpv6 ? 0 : index),
      `identification of datagram ${index}`,
    );
  }
}
