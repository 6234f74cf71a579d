import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { ManualClock } from "../../lib/base/clock.ts";
import { CapturePort } from "../../lib/io/capture-port.ts";
import { MemoryPort } from "../../lib/io/memory-port.ts";
import { CaptureReader, CaptureWriter } from "../../lib/io/pcap-file.ts";
import { FrameBatch } from "../../lib/io/port.ts";
import { ReplayPort, startTogether } from "../../lib/io/replay-port.ts";
import { PORT_MAC, udpFrame } from "../contract/frames.ts";
import { batchOf, copies, emptyBatch, many } from "../contract/port-contract.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-replay-"));
test.after.always(() => rmSync(folder, { recursive: true }));
let files = 0;
const newPath = () => join(folder, `${files++}.pcap`);

const SECOND = 1_700_000_000;

/** A capture with frame i at SECOND + times[i] milliseconds. */
function capture(times: readonly number[], frames = many(times.length), linkType = 1): string {
  const path = newPath();
  const writer = new CaptureWriter(path, linkType);
  const { bytes, offset, length } = batchOf(frames);
  for (const [i, ms] of times.entries()) writer.write(bytes, offset, length, i, i + 1, SECOND, ms);
  writer.close();
  return path;
}

function replay(clock: ManualClock, rxPath?: string, txPath?: string): ReplayPort {
  const paths = { ...(rxPath === undefined ? {} : { rxPath }), ...(txPath === undefined ? {} : { txPath }) };
  return new ReplayPort({ name: "wan0", mac: PORT_MAC, clock, ...paths });
}

test("frames arrive when the clock reaches their time stamp, not before", (t) => {
  const clock = new ManualClock();
  const port = replay(clock, capture([10, 20, 20, 30.5]));
  const batch = emptyBatch(8);
  const counts: number[] = [];
  for (const now of [0, 9.9, 10, 19, 20, 30, 30.5, 100]) {
    clock.moveTo(now);
    counts.push(port.rx(batch));
  }
  t.deepEqual(counts, [0, 0, 1, 0, 2, 0, 1, 0]);
  t.is(port.nextMs(), Number.POSITIVE_INFINITY);
  port.close();
});

test("several ports are merged onto one clock in the order of their time stamps", (t) => {
  const clock = new ManualClock();
  const ports = [
    replay(clock, capture([3000, 3002, 5000])),
    replay(clock),
    replay(clock, capture([1500.25, 3001, 3002, 3003])),
  ];
  startTogether(ports);
  t.deepEqual(new Set(ports.map((port) => port.originSeconds)), new Set([SECOND + 1]));
  const batch = emptyBatch(8);
  const order: [number, number][] = [];
  for (let next = 0; (next = Math.min(...ports.map((port) => port.nextMs()))) < Number.POSITIVE_INFINITY; ) {
    clock.moveTo(next);
    for (const [i, port] of ports.entries()) if (port.rx(batch) > 0) order.push([i, clock.nowMs()]);
  }
  t.deepEqual(order, [
    [2, 500.25],
    [0, 2000],
    [2, 2001],
    [0, 2002],
    [2, 2002],
    [2, 2003],
    [0, 4000],
  ]);
});

test("a frame stamped earlier than the one before it arrives at once behind it", (t) => {
  const clock = new ManualClock();
  const port = replay(clock, capture([10, 5, 20]));
  clock.moveTo(10);
  t.is(port.rx(emptyBatch(8)), 2);
  t.is(port.nextMs(), 20);
});

test("received frames stay untouched while the next are read ahead", (t) => {
  const frames = many(200);
  const clock = new ManualClock(1000);
  const port = replay(clock, capture(Array(200).fill(0), frames));
  const batch = emptyBatch(256);
  const got: Uint8Array[] = [];
  while (port.rx(batch) > 0) {
    port.nextMs();
    got.push(...copies(batch));
  }
  t.deepEqual(got, frames);
});

test("what leaves is stamped with the origin and the clock", (t) => {
  const clock = new ManualClock();
  const path = newPath();
  const port = replay(clock, capture([2000]), path);
  clock.moveTo(1234.5);
  t.is(port.tx(batchOf(many(2)), 0, 2), 2);
  port.close();
  const reader = new CaptureReader(path);
  reader.read(new FrameBatch(new Uint8Array(1 << 16), 8));
  t.deepEqual([reader.seconds[1], reader.nanoseconds[1]], [SECOND + 3, 234_500_000]);
});

test("the same frames at the same times make the same file", (t) => {
  const paths = [newPath(), newPath()];
  for (const path of paths) {
    const clock = new ManualClock();
    const port = replay(clock, capture([0, 1.5]), path);
    clock.moveTo(1.5);
    const batch = emptyBatch(8);
    port.tx(batch, 0, port.rx(batch));
    port.close();
  }
  t.deepEqual(readFileSync(paths[0]), readFileSync(paths[1]));
});

test("a damaged capture gives the frames before the damage, then a fault and no more frames", (t) => {
  const path = capture([0, 1, 2]);
  const bytes = readFileSync(path);
  writeFileSync(path, bytes.subarray(0, bytes.length - 5));
  const port = replay(new ManualClock(1000), path);
  const batch = emptyBatch(8);
  t.is(port.rx(batch), 2);
  t.is(port.rx(batch), 0);
  t.is((port.fault as NodeJS.ErrnoException | undefined)?.code, "ECAPTURE");
  t.is(port.nextMs(), Number.POSITIVE_INFINITY);
});

test("a capture of another link type is refused with its name, unless its bytes are wanted anyway", (t) => {
  const path = capture([0], [udpFrame(1, 60)], 12);
  const error = t.throws(() => replay(new ManualClock(), path), { code: "ELINKTYPE" });
  t.regex(error.message, /RAW/);
  const options = { name: "wan0", mac: PORT_MAC, clock: new ManualClock(1), rxPath: path, anyLinkType: true };
  t.is(new ReplayPort(options).rx(emptyBatch(8)), 1);
});

test("a capture port writes what passes both ways, with the clock's time", (t) => {
  const path = newPath();
  const clock = new ManualClock();
  const inner = new MemoryPort({ name: "lan0", mac: PORT_MAC });
  const port = new CapturePort(inner, new CaptureWriter(path), clock, SECOND);
  const [incoming, outgoing] = many(2);
  inner.inject(incoming);
  port.rx(emptyBatch(8));
  clock.moveTo(250);
  port.tx(batchOf([outgoing]), 0, 1);
  port.close();
  t.deepEqual(inner.sent(), [outgoing]);
  const reader = new CaptureReader(path);
  const batch = new FrameBatch(new Uint8Array(1 << 16), 8);
  t.is(reader.read(batch), 2);
  t.deepEqual(copies(batch), [incoming, outgoing]);
  t.deepEqual([...reader.nanoseconds.subarray(0, 2)], [0, 250_000_000]);
});
