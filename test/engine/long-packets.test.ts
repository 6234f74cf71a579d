// Packets around and beyond the longest that an IPv4 header can tell of: what is put on them comes off again, byte for byte, and in
// between every checksum is as right, or as wrong, as it was.

import test from "ava";
import fc from "fast-check";
import { setU16 } from "../../lib/base/bytes.ts";
import {
  insertBeforePayload,
  insertUdpHeader,
  moveEnd,
  removeBeforePayload,
  removeUdpHeader,
} from "../../lib/engine/splice.ts";
import { FrameBatch } from "../../lib/io/port.ts";
import { ipv4HeaderIsRight, l4Checksum, l4IsRight } from "../../lib/wire/checksum.ts";
import { ANY_MAC, AT_END, AT_L3, AT_L4, decodeFrame, KEY_ROW_WORDS } from "../../lib/wire/flow-key.ts";
import { writeIpv4 } from "../../lib/wire/ipv4.ts";
import { decodeWhole, GROWTH_MAX, LENGTH_MAX } from "../../lib/wire/long-packet.ts";
import { ACK, writeTcp } from "../../lib/wire/tcp.ts";
import { writeUdp } from "../../lib/wire/udp.ts";
import { DROP_IP_TOTAL_LENGTH, OK } from "../../lib/wire/verdict.ts";

const ROOM = 1024;
const [SOURCE, DESTINATION] = [0x0a010002, 0x0a020002];

/** A frame of a packet of `total` bytes in the midst of enough room, its checksum off by `error`, and its key row. */
function packetOf(protocol: number, total: number, seed: number, error: number) {
  const bytes = new Uint8Array(ROOM + 14 + total + GROWTH_MAX);
  for (let n = ROOM; n < ROOM + 14 + total; n++) bytes[n] = (n * 31 + seed * (n >> 8)) & 0xff;
  bytes.fill(2, ROOM, ROOM + 12);
  setU16(bytes, ROOM + 12, 0x0800);
  const l3 = ROOM + 14;
  const l4 = writeIpv4(bytes, l3, 0, total, 7, 0, 64, protocol, SOURCE, DESTINATION);
  if (protocol === 17) writeUdp(bytes, l4, 40_000, 5000, total - 20);
  if (protocol === 6) writeTcp(bytes, l4, 40_000, 5000, 1, 1, ACK, 1000);
  const field = l4 + (protocol === 17 ? 6 : 16);
  if (protocol !== 47) setU16(bytes, field, (l4Checksum(bytes, l3, l4, l3 + total) + error) % 0xffff || 0xffff);
  const batch = new FrameBatch(bytes, 1);
  batch.offset[0] = ROOM;
  batch.length[0] = 14 + total;
  batch.count = 1;
  const key = new Int32Array(KEY_ROW_WORDS);
  const verdict = decodeFrame(batch.view, ROOM, 14 + total, 0, ANY_MAC, 0, key, 0);
  return { batch, key, verdict };
}

const frameIn = ({ bytes, offset, length }: FrameBatch) => bytes.slice(offset[0], offset[0] + length[0]);

/** 0 and 0xFFFF are one number to a checksum. */
function comparable(frame: Uint8Array, protocol: number): Uint8Array {
  const field = protocol === 17 ? 40 : 50;
  if (frame[field] === 255 && frame[field + 1] === 255) setU16(frame, field, 0);
  return frame;
}

test("what is put before a payload and behind it comes off again, whatever the length, and wrong stays wrong", (t) => {
  fc.assert(
    fc.property(
      fc.constantFrom(6, 17),
      fc.integer({ min: LENGTH_MAX - 400, max: LENGTH_MAX }),
      fc.uint8Array({ minLength: 1, maxLength: 600 }),
      fc.integer({ min: 0, max: 64 }),
      fc.constantFrom(0, 1, 0x1234),
      fc.nat(255),
      (protocol, total, inserted, behind, error, seed) => {
        const { batch, key, verdict } = packetOf(protocol, total, seed, error);
        t.is(verdict, OK);
        const before = frameIn(batch);
        const isRight = () => {
          t.true(ipv4HeaderIsRight(batch.bytes, key[AT_L3]));
          t.is(l4IsRight(batch.bytes, key[AT_L3], key[AT_L4], key[AT_END]), error === 0);
          t.is(batch.offset[0] + batch.length[0], key[AT_END]);
        };
        insertBeforePayload(batch, 0, key, inserted, inserted.length);
        isRight();
        batch.bytes.fill(seed, key[AT_END], key[AT_END] + behind);
        moveEnd(batch, 0, key, key[AT_END] + behind);
        isRight();
        // Put together elsewhere, it is the same packet.
        const again = new Int32Array(KEY_ROW_WORDS);
        t.is(decodeWhole(batch.bytes, batch.view, batch.offset[0], batch.length[0], 0, again), OK);
        t.deepEqual(again.slice(0, 8), key.slice(0, 8));
        moveEnd(batch, 0, key, key[AT_END] - behind);
        removeBeforePayload(batch, 0, key, inserted.length);
        isRight();
        t.deepEqual(comparable(frameIn(batch), protocol), comparable(before, protocol));
      },
    ),
    { numRuns: 200 },
  );
});

test("a UDP header around the longest packet comes off again", (t) => {
  for (const total of [LENGTH_MAX - 9, LENGTH_MAX - 8, LENGTH_MAX - 7, LENGTH_MAX]) {
    const { batch, key } = packetOf(47, total, 3, 0);
    const before = frameIn(batch);
    insertUdpHeader(batch, 0, key, (16_384 << 16) | 16_385);
    t.true(l4IsRight(batch.bytes, key[AT_L3], key[AT_L4], key[AT_END]));
    t.is(key[AT_END] - key[AT_L3], total + 8);
    removeUdpHeader(batch, 0, key, 47);
    t.deepEqual(frameIn(batch), before);
  }
});

test("a frame that a port brings is none of these, however long it is", (t) => {
  for (const total of [LENGTH_MAX + 1, LENGTH_MAX + 500]) {
    const { batch, key } = packetOf(17, total, 1, 0);
    setU16(batch.bytes, ROOM + 16, 0);
    t.is(decodeFrame(batch.view, ROOM, 14 + total, 0, ANY_MAC, 0, key, 0), DROP_IP_TOTAL_LENGTH);
  }
});
