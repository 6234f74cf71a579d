import test from "ava";
import { MemoryPort } from "../../lib/io/memory-port.ts";
import { FRAME_CHECKSUM_KNOWN, FRAME_CHECKSUM_PARTIAL, TAILROOM } from "../../lib/io/port.ts";
import { withLabel } from "../../lib/ipv6/flow-label.ts";
import { FAR_MAC, PORT_MAC, tcpFrame, udpFrame } from "../contract/frames.ts";
import { batchOf, copies, emptyBatch, many } from "../contract/port-contract.ts";

const near = { name: "near", mac: PORT_MAC };
const far = { name: "far", mac: FAR_MAC };

test("what one port of a pair sends, the other receives, both ways", (t) => {
  const [one, other] = MemoryPort.pair(near, far);
  const batch = emptyBatch(16);
  one.tx(batchOf(many(3)), 0, 3);
  t.is(one.rx(batch), 0);
  t.is(other.rx(batch), 3);
  other.tx(batch, 1, 3);
  t.is(one.rx(batch), 2);
  t.deepEqual(copies(batch), many(3).slice(1));
});

test("a frame keeps its flow label through a mirror, and over no wire", (t) => {
  const labels = [0xf_ffff, 0, 0x1_0000].map(withLabel);
  const send = (port: MemoryPort) => {
    const batch = batchOf(many(3));
    for (const [i, label] of labels.entries()) batch.flags[i] = label | FRAME_CHECKSUM_KNOWN;
    t.is(port.tx(batch, 0, 3), 3);
  };
  const got = (port: MemoryPort) => {
    const batch = emptyBatch(8);
    port.rx(batch);
    return [...batch.flags.subarray(0, batch.count)];
  };
  const mirror = MemoryPort.mirror(near);
  send(mirror);
  t.deepEqual(got(mirror), labels);
  const [one, other] = MemoryPort.pair(near, far);
  send(one);
  t.deepEqual(got(other), [0, 0, 0]);
});

test("a mirror receives what it sends, in order", (t) => {
  const mirror = MemoryPort.mirror(near);
  const batch = emptyBatch(16);
  t.is(mirror.tx(batchOf(many(3)), 0, 3), 3);
  t.is(mirror.rx(batch), 3);
  t.deepEqual(copies(batch), many(3));
  t.is(mirror.tx(batch, 2, 3), 1);
  t.is(mirror.rx(batch), 1);
  t.deepEqual(copies(batch), many(3).slice(2));
  t.is(mirror.rx(batch), 0);
});

test("a full queue refuses, counts txFull, and takes again after rx", (t) => {
  const [one, other] = MemoryPort.pair(near, { ...far, queueFrames: 4 });
  const frames = batchOf(many(6));
  const batch = emptyBatch(3);
  t.is(one.tx(frames, 0, 6), 4);
  t.is(one.stats().txFull, 2);
  t.is(other.rx(batch), 3);
  t.is(one.tx(frames, 4, 6), 0, "borrowed frames keep their slots");
  t.deepEqual(copies(batch), many(3));
  t.is(other.rx(batch), 1);
  t.is(one.tx(frames, 4, 6), 2);
  t.is(other.rx(batch), 2);
  t.deepEqual(copies(batch), many(6).slice(4));
});

test("the last slot of a queue has tailroom, too, for a frame of the greatest length", (t) => {
  const port = new MemoryPort({ ...near, queueFrames: 3, frameMax: 512 });
  for (let i = 0; i < 3; i++) port.inject(udpFrame(i, 512));
  const batch = emptyBatch(8);
  t.is(port.rx(batch), 3);
  for (let i = 0; i < 3; i++) t.true(batch.offset[i] + 512 + TAILROOM <= batch.bytes.length);
});

test("many rounds through a small queue lose and reorder nothing", (t) => {
  const [one, other] = MemoryPort.pair(near, { ...far, queueFrames: 7 });
  const frames = many(500);
  const offered = batchOf(frames);
  const batch = emptyBatch(3);
  const got: Uint8Array[] = [];
  for (let next = 0; got.length < 500; ) {
    next += one.tx(offered, next, Math.min(next + 5, 500));
    other.rx(batch);
    got.push(...copies(batch));
  }
  t.deepEqual(got, frames);
});

test("an injected frame keeps its flags and segment size; too long or too many are kernel drops", (t) => {
  const port = new MemoryPort({ ...near, frameMax: 9000, queueFrames: 3 });
  const batch = emptyBatch(8);
  t.true(port.inject(tcpFrame(5000), FRAME_CHECKSUM_PARTIAL, 1000));
  t.true(port.inject(tcpFrame(5000)));
  t.false(port.inject(tcpFrame(9000)));
  t.true(port.inject(udpFrame(1, 60)));
  t.false(port.inject(udpFrame(2, 60)));
  t.is(port.rx(batch), 3);
  t.deepEqual([...batch.flags.subarray(0, 3)], [FRAME_CHECKSUM_PARTIAL, 0, 0]);
  t.deepEqual([...batch.segmentSize.subarray(0, 3)], [1000, 0xffff, 0]);
  t.is(port.stats().rxKernelDrops, 2);
  t.is(port.stats().superFrames, 2);
});

test("sent returns each frame once, as a copy", (t) => {
  const port = new MemoryPort(near);
  const frames = batchOf(many(100));
  port.tx(frames, 0, 100);
  const sent = port.sent();
  frames.bytes.fill(0);
  t.deepEqual(sent, many(100));
  t.deepEqual(port.sent(), []);
});
