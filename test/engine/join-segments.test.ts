// Joining is the reverse of cutting: what a kernel would cut a joined frame to are the segments that were joined, byte by
// byte; and what differs in anything that cutting cannot tell apart is not joined.

import test from "ava";
import fc from "fast-check";
import { setU16, setU32 } from "../../lib/base/bytes.ts";
import { endSuperFrame, joinSegment } from "../../lib/engine/join-segments.ts";
import { FrameBatch } from "../../lib/io/port.ts";
import { ipv4HeaderChecksum } from "../../lib/wire/checksum.ts";
import { ANY_MAC, AT_END, AT_PAYLOAD, decodeFrame, KEY_ROW_WORDS, KEY_SHIFT } from "../../lib/wire/flow-key.ts";
import { completeChecksum, isChecksumPartial, segmentFrame } from "../../lib/wire/offload.ts";
import { ACK, PSH } from "../../lib/wire/tcp.ts";
import { pattern, tcpFrame } from "../simulate/packets.ts";
import { ENDS } from "../simulate/peer.ts";

const GAP = 600;

/** Frames side by side in one memory, decoded. */
function lay(frames: readonly Uint8Array[]): { batch: FrameBatch; keys: Int32Array } {
  const bytes = new Uint8Array(frames.reduce((sum, { length }) => sum + length + GAP, GAP));
  const batch = new FrameBatch(bytes, frames.length);
  const keys = new Int32Array(frames.length << KEY_SHIFT);
  let at = GAP;
  for (const [i, frame] of frames.entries()) {
    bytes.set(frame, at);
    batch.offset[i] = at;
    batch.length[i] = frame.length;
    decodeFrame(batch.view, at, frame.length, 0, ANY_MAC, 0, keys, i << KEY_SHIFT);
    at += frame.length + GAP;
  }
  return { batch, keys };
}

/** The segments of `payload`, as a sender's kernel makes them; the IPv4 identification counts. */
function segments(payload: Uint8Array, size: number, flags = ACK | PSH): Uint8Array[] {
  const whole = tcpFrame(ENDS, { flags, sequence: 0xfffffc00, acknowledgment: 77 }, payload);
  const made: Uint8Array[] = [];
  for (let index = 0; ; index++) {
    const target = new Uint8Array(whole.length);
    const length = segmentFrame(whole, 0, size, index, 0, target, 0);
    if (length === 0) return made;
    made.push(target.slice(0, length));
  }
}

/** How many of the frames behind the first were joined to it, one after the other. */
function joinAll(batch: FrameBatch, keys: Int32Array, count: number): number {
  const size = keys[AT_END] - keys[AT_PAYLOAD];
  let joined = 0;
  while (joined + 1 < count && joinSegment(batch.bytes, keys, 0, (joined + 1) << KEY_SHIFT, size)) joined++;
  return joined;
}

test("joined segments are one frame that is cut to the same segments", (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 40 }),
      fc.integer({ min: 1, max: 1460 }),
      fc.nat(1459),
      (full, size, rest) => {
        const payload = pattern((full - 1) * size + 1 + (rest % size));
        const parts = segments(payload, size);
        const { batch, keys } = lay(parts);
        t.is(joinAll(batch, keys, parts.length), parts.length - 1);
        if (parts.length === 1) return;
        endSuperFrame(batch, keys, 0);
        const [at, end] = [batch.offset[0], keys[AT_END]];
        const row = new Int32Array(KEY_ROW_WORDS);
        t.is(decodeFrame(batch.view, at, end - at, 0, ANY_MAC, 0, row, 0), 0);
        t.true(isChecksumPartial(batch.bytes, at + 14, at + 34, end));
        completeChecksum(batch.bytes, at);
        const again = batch.bytes.slice(at, end);
        for (const [index, part] of parts.entries()) {
          const target = new Uint8Array(again.length);
          const length = segmentFrame(again, 0, size, index, 0, target, 0);
          t.deepEqual(target.slice(0, length), part);
        }
      },
    ),
    { numRuns: 200 },
  );
});

const CHANGES: Record<string, (frame: Uint8Array) => void> = {
  "a gap in the sequence numbers": (frame) => setU32(frame, 38, 9),
  "another acknowledgment": (frame) => setU32(frame, 42, 78),
  "another window": (frame) => setU16(frame, 48, 1),
  "an urgent pointer's flag": (frame) => (frame[47] |= 0x20),
  FIN: (frame) => (frame[47] |= 1),
  CWR: (frame) => (frame[47] |= 0x80),
  "another TTL": (frame) => frame[22]--,
  "another type of service": (frame) => (frame[15] = 3),
  "may be fragmented": (frame) => (frame[20] = 0),
};

for (const [what, change] of Object.entries(CHANGES)) {
  test(`not joined: ${what}`, (t) => {
    for (const which of [0, 1]) {
      const parts = segments(pattern(3000), 1000);
      change(parts[which]);
      setU16(parts[which], 24, 0);
      setU16(parts[which], 24, ipv4HeaderChecksum(parts[which], 14));
      completeChecksum(parts[which], 0);
      const { batch, keys } = lay(parts);
      const before = batch.bytes.slice();
      t.is(joinAll(batch, keys, 3), 0, `frame ${which}`);
      t.deepEqual(batch.bytes, before);
    }
  });
}

test("not joined: other options, a longer segment, one behind a shorter or a pushing one, and beyond 64 KiB", (t) => {
  const { batch, keys } = lay([
    tcpFrame(ENDS, { flags: ACK, sequence: 0, acknowledgment: 1, mss: 9 }, pattern(10)),
    tcpFrame(ENDS, { flags: ACK, sequence: 10, acknowledgment: 1, mss: 8 }, pattern(10)),
  ]);
  t.is(joinAll(batch, keys, 2), 0);
  const of = (...lengths: number[]) => {
    let sequence = 0;
    const frames = lengths.map((length) => {
      const frame = tcpFrame(ENDS, { flags: ACK, sequence, acknowledgment: 1 }, pattern(length));
      sequence += length;
      return frame;
    });
    const laid = lay(frames);
    return joinAll(laid.batch, laid.keys, frames.length);
  };
  t.is(of(100, 101), 0);
  t.is(of(100, 99, 100), 1);
  t.is(of(100, 100, 100), 2);
  t.is(of(...Array<number>(60).fill(1460)), 43);
  const pushed = segments(pattern(1000), 1000).concat(segments(pattern(1000), 1000));
  setU32(pushed[1], 38, (0xfffffc00 + 1000) >>> 0);
  const laid = lay(pushed);
  t.is(joinAll(laid.batch, laid.keys, 2), 0);
});

test("not joined: a segment without payload, which may be the second acknowledgment of the same", (t) => {
  const bare = tcpFrame(ENDS, { flags: ACK, sequence: 10, acknowledgment: 1 });
  const { batch, keys } = lay([tcpFrame(ENDS, { flags: ACK, sequence: 0, acknowledgment: 1 }, pattern(10)), bare]);
  t.is(joinAll(batch, keys, 2), 0);
});
