// Super-frames through a port with IPv6: cut inside and translated, or translated whole and cut there, it is the same.

import test from "ava";
import fc from "fast-check";
import { getI32, getU16, setU16 } from "../../lib/base/bytes.ts";
import { MemoryPort } from "../../lib/io/memory-port.ts";
import {
  FRAME_CHECKSUM_KNOWN,
  FRAME_CHECKSUM_PARTIAL,
  type FrameBatch,
  type Port,
  SEGMENT_SIZE_UNKNOWN,
} from "../../lib/io/port.ts";
import { labelOf, withLabel } from "../../lib/ipv6/flow-label.ts";
import { ipv4HeaderChecksum } from "../../lib/wire/checksum.ts";
import { segmentFrame, segmentSizeMax, superFrameError, takeChecksumBack } from "../../lib/wire/offload.ts";
import { makePartial, tcpFrame, udpFrame } from "../contract/frames.ts";
import { fromWire, IPV6_GROWTH, portOver, toWire } from "../contract/over-ipv6.ts";
import { batchOf } from "../contract/port-contract.ts";

function segmentsOf(frame: Uint8Array, size: number, isPartial: boolean): Uint8Array[] {
  const target = new Uint8Array(70_000);
  const segments: Uint8Array[] = [];
  const error = superFrameError(frame, 0, isPartial);
  for (;;) {
    const length = segmentFrame(frame, 0, size, segments.length, error, target, 0);
    if (length === 0) return segments;
    segments.push(target.slice(0, length));
  }
}

/** With the low 16 bits of the flow label of the first one: cut inside, each segment has an identification of its own. */
function withLabelOf(first: Uint8Array, wire: Uint8Array): Uint8Array {
  const copy = wire.slice();
  setU16(copy, 16, getU16(first, 16));
  return copy;
}

/** 0 and 0xFFFF are one number to TCP's checksum; UDP's 0 is none at all. */
function makeComparable(wire: Uint8Array): void {
  if (wire[20] === 6 && getU16(wire, 70) === 0xffff) setU16(wire, 70, 0);
}

test("cut as IPv6 the segments are those that are cut as IPv4 and then translated, whatever the checksum is", (t) => {
  fc.assert(
    fc.property(
      fc.constantFrom(6, 17),
      fc.integer({ min: 1, max: 20_000 }),
      fc.integer({ min: 100, max: 1400 }),
      fc.constantFrom("right", "partial", "wrong"),
      (protocol, payload, size, checksum) => {
        let frame = protocol === 6 ? tcpFrame(payload) : udpFrame(1, 60 + payload);
        const isPartial = checksum === "partial";
        if (isPartial) frame = makePartial(frame);
        if (checksum === "wrong") frame[protocol === 6 ? 50 : 40] ^= 0x15;
        const inside = segmentsOf(frame, size, isPartial).map((segment) => toWire(segment));
        const outside = segmentsOf(toWire(frame, isPartial), size, isPartial);
        // A right one is never written as 0xFFFF.
        if (checksum === "wrong") for (const wire of [...outside, ...inside]) makeComparable(wire);
        t.deepEqual(
          outside,
          inside.map((wire) => withLabelOf(inside[0], wire)),
        );
      },
    ),
    { examples: [[6, 18_833, 101, "wrong"]] },
  );
});

test("a right checksum is taken back to the pseudo header's sum, a wrong one is not", (t) => {
  for (const frame of [tcpFrame(3000), udpFrame(1, 3000)]) {
    const wire = toWire(frame);
    const damaged = wire.slice();
    damaged[100] ^= 1;
    t.true(takeChecksumBack(wire, 0, wire.length));
    t.deepEqual(wire, toWire(makePartial(frame), true));
    const before = damaged.slice();
    t.false(takeChecksumBack(damaged, 0, damaged.length));
    t.deepEqual(damaged, before);
  }
  t.is(segmentSizeMax(toWire(tcpFrame(3000)), 0, 1500), 1500 - 40 - 32);
});

/** What the port beneath is given. */
class Given implements Port {
  readonly takesSuperFrames = true;
  readonly frames: { frame: Uint8Array; flags: number; segmentSize: number }[] = [];
  readonly #info = new MemoryPort({ name: "wan0", mac: new Uint8Array(6) });
  info = () => this.#info.info();
  stats = () => this.#info.stats();
  /** What it gives, whose bytes are where the batch has them. */
  comes: Uint8Array | null = null;
  close(): void {}

  rx(batch: FrameBatch): number {
    if (this.comes === null) return 0;
    batch.flags[0] = FRAME_CHECKSUM_KNOWN | FRAME_CHECKSUM_PARTIAL;
    batch.segmentSize[0] = 1000;
    return (batch.count = 1);
  }

  tx(batch: FrameBatch, from: number, to: number): number {
    for (let i = from; i < to; i++) {
      const frame = batch.bytes.slice(batch.offset[i], batch.offset[i] + batch.length[i]);
      this.frames.push({ frame, flags: batch.flags[i], segmentSize: batch.segmentSize[i] });
    }
    return to - from;
  }
}

test("the longest super-frames, more than fit at once, are given on whole and in order", (t) => {
  const beneath = new Given();
  const port = portOver(beneath);
  t.true(port.takesSuperFrames);
  const frames = Array.from({ length: 9 }, (_, n) => makePartial(n % 3 === 1 ? udpFrame(n, 60) : tcpFrame(65_483 - n)));
  t.is(frames[0].length, 65_549);
  const batch = batchOf(frames);
  batch.flags.fill(FRAME_CHECKSUM_PARTIAL);
  batch.segmentSize.fill(SEGMENT_SIZE_UNKNOWN);
  t.is(port.tx(batch, 0, frames.length), frames.length);
  t.deepEqual(
    beneath.frames.map(({ frame }) => fromWire(frame, true)),
    frames,
  );
  t.true(beneath.frames.every(({ flags, segmentSize }) => flags === FRAME_CHECKSUM_PARTIAL && segmentSize === 0xffff));
});

test("a super-frame goes whole, with its label whole, whatever bits that has", (t) => {
  for (const label of [0, 0x1_0000, 0xa_bcde, 0xf_ffff]) {
    const beneath = new Given();
    const batch = batchOf([makePartial(tcpFrame(3500))]);
    batch.flags[0] = FRAME_CHECKSUM_PARTIAL | withLabel(label);
    batch.segmentSize[0] = 1000;
    t.is(portOver(beneath).tx(batch, 0, 1), 1);
    t.is(beneath.frames.length, 1);
    const [{ frame, flags }] = beneath.frames;
    t.is(getI32(frame, 14) & 0xf_ffff, label);
    t.is(flags, FRAME_CHECKSUM_PARTIAL);
    // And from one port with IPv6 to another.
    beneath.comes = frame;
    const port = portOver(beneath);
    const got = batchOf([frame]);
    t.is(port.rx(got), 1);
    t.is(labelOf(got.flags[0]), label);
    t.is(port.tx(got, 0, 1), 1);
    t.deepEqual(beneath.frames[1].frame, frame);
  }
});

test("UDP that left out its checksum has one over IPv6: a super-frame's is left unfinished", (t) => {
  const beneath = new Given();
  const [long, short] = [udpFrame(1, 42 + 3000), udpFrame(2, 200)];
  const batch = batchOf([long, short].map((frame) => frame.slice().fill(0, 40, 42)));
  batch.segmentSize[0] = 1000;
  t.is(portOver(beneath).tx(batch, 0, 2), 2);
  t.deepEqual(beneath.frames, [
    { frame: toWire(makePartial(long), true), flags: FRAME_CHECKSUM_PARTIAL, segmentSize: 1000 },
    { frame: toWire(short), flags: 0, segmentSize: 0 },
  ]);
});

test("what may be cut on its way is no super-frame: its segments have identifications of their own", (t) => {
  const beneath = new Given();
  const frame = tcpFrame(3500);
  setU16(frame, 20, 0);
  setU16(frame, 24, ipv4HeaderChecksum(frame, 14));
  const batch = batchOf([udpFrame(1, 100), frame, udpFrame(2, 100)]);
  batch.segmentSize[1] = 1000;
  const port = portOver(beneath);
  t.is(port.tx(batch, 0, 3), 3);
  t.is(beneath.frames.length, 6);
  t.deepEqual(
    beneath.frames.slice(1, 5).map(({ frame: wire }) => wire),
    segmentsOf(frame, 1000, false).map((segment) => toWire(segment)),
  );
  t.is(new Set(beneath.frames.slice(1, 5).map(({ frame: wire }) => getU16(wire, 16))).size, 4);
  t.is(port.stats().segments, 4);
  t.is(port.info().mtu, 1500 - IPV6_GROWTH);
});
