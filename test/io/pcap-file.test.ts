import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import { CaptureReader, CaptureWriter } from "../../lib/io/pcap-file.ts";
import { FRAME_TRUNCATED, FrameBatch, HEADROOM, TAILROOM } from "../../lib/io/port.ts";
import { batchOf, copies, many } from "../contract/port-contract.ts";
import { foreignEnvironment as env, noFolder, noProgram } from "./skip.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-pcap-"));
test.after.always(() => rmSync(folder, { recursive: true }));
let files = 0;
const newPath = () => join(folder, `${files++}.pcap`);

const SECOND = 1_700_000_000;
const CORPUS = "../shared/corpus/tcpdump";
const corpusMissing = noFolder(CORPUS);
const tsharkMissing = noProgram("tshark") ?? noProgram("editcap") ?? noProgram("capinfos");

interface Capture {
  frames: Uint8Array[];
  seconds: number[];
  nanoseconds: number[];
  flags: number[];
  error?: NodeJS.ErrnoException;
}

function readAll(path: string, capacity = 16, memory = 1 << 20): Capture {
  const capture: Capture = { frames: [], seconds: [], nanoseconds: [], flags: [] };
  const batch = new FrameBatch(new Uint8Array(memory), capacity);
  let reader: CaptureReader | undefined;
  try {
    reader = new CaptureReader(path, capacity);
    for (let count = 0; (count = reader.read(batch)) > 0; ) {
      capture.frames.push(...copies(batch));
      capture.seconds.push(...reader.seconds.subarray(0, count));
      capture.nanoseconds.push(...reader.nanoseconds.subarray(0, count));
      capture.flags.push(...batch.flags.subarray(0, count));
    }
  } catch (error) {
    capture.error = error as NodeJS.ErrnoException;
  }
  reader?.close();
  return capture;
}

function write(path: string, frames: readonly Uint8Array[], ms = 0): void {
  const writer = new CaptureWriter(path);
  const { bytes, offset, length, count } = batchOf(frames);
  writer.write(bytes, offset, length, 0, count, SECOND, ms);
  writer.close();
}

test("what is written is read back, bytes and nanoseconds", (t) => {
  const path = newPath();
  const frames = many(100);
  const writer = new CaptureWriter(path);
  const { bytes, offset, length } = batchOf(frames);
  writer.write(bytes, offset, length, 0, 60, SECOND, 0);
  writer.write(bytes, offset, length, 60, 100, SECOND, 2500.000001);
  writer.close();
  writer.close();
  const capture = readAll(path);
  t.deepEqual(capture.frames, frames);
  t.deepEqual(capture.seconds, [...Array(60).fill(SECOND), ...Array(40).fill(SECOND + 2)]);
  t.deepEqual(capture.nanoseconds, [...Array(60).fill(0), ...Array(40).fill(500_000_001)]);
  t.true(capture.flags.every((flag) => flag === 0));
});

test("time stamps that the format cannot hold are held at its ends", (t) => {
  const path = newPath();
  const writer = new CaptureWriter(path);
  const { bytes, offset, length } = batchOf(many(1));
  writer.write(bytes, offset, length, 0, 1, 0, -5000);
  writer.write(bytes, offset, length, 0, 1, 5e9, 0);
  writer.write(bytes, offset, length, 0, 1, 7, 999.9999999);
  writer.close();
  const capture = readAll(path);
  t.deepEqual(capture.seconds, [0, 0x7fff_ffff, 7]);
  t.deepEqual(capture.nanoseconds, [0, 0, 999_999_999]);
});

test("frames lie 64 bytes apart or more, each behind headroom of its own", (t) => {
  const path = newPath();
  write(path, many(10));
  const reader = new CaptureReader(path);
  const batch = new FrameBatch(new Uint8Array(1 << 16), 10);
  t.is(reader.read(batch), 10);
  let end = 0;
  for (let i = 0; i < 10; i++) {
    t.true(batch.offset[i] - HEADROOM >= end && batch.offset[i] % 64 === 0);
    end = batch.offset[i] + batch.length[i];
  }
  reader.close();
});

test("the last frame that fits a memory has tailroom behind it, and one byte of memory less takes it in the next read", (t) => {
  const path = newPath();
  write(path, [new Uint8Array(64), new Uint8Array(128)]);
  const whole = 2 * HEADROOM + 64 + 128 + TAILROOM;
  for (const [bytes, counts] of [
    [whole, [2, 0]],
    [whole - 1, [1, 1]],
  ] as const) {
    const reader = new CaptureReader(path);
    const batch = new FrameBatch(new Uint8Array(bytes), 10);
    t.deepEqual([reader.read(batch), reader.read(batch)], [...counts]);
    reader.close();
  }
});

test("a memory too small for any frame gives empty frames and touches nothing outside", (t) => {
  const path = newPath();
  write(path, many(2));
  for (const memory of [0, 1, TAILROOM, HEADROOM, HEADROOM + TAILROOM]) {
    const capture = readAll(path, 8, memory);
    t.deepEqual(
      capture.frames.map((frame) => frame.length),
      [0, 0],
    );
    t.deepEqual(capture.flags, [FRAME_TRUNCATED, FRAME_TRUNCATED]);
  }
});

test("any frames through any memory come out complete and in order", (t) => {
  const path = newPath();
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { minLength: 1, maxLength: 30 }),
      fc.integer({ min: HEADROOM + 320 + TAILROOM, max: 8000 }),
      fc.integer({ min: 1, max: 9 }),
      (frames, memory, capacity) => {
        write(path, frames);
        t.deepEqual(readAll(path, capacity, memory).frames, frames);
      },
    ),
    { numRuns: 60 },
  );
});

test("a frame larger than the whole memory is given in part and marked, and reading goes on", (t) => {
  const path = newPath();
  const frames = [many(1)[0], new Uint8Array(5000).fill(7), many(1)[0]];
  write(path, frames);
  const capture = readAll(path, 8, HEADROOM + 1024 + TAILROOM);
  t.deepEqual(capture.frames, [frames[0], frames[1].slice(0, 1024), frames[2]]);
  t.deepEqual(capture.flags, [0, FRAME_TRUNCATED, 0]);
});

test("a frame that was captured only in part is marked", (t) => {
  const path = newPath();
  write(path, many(2));
  const bytes = readFileSync(path);
  bytes.writeUInt32LE(9000, 24 + 12);
  writeFileSync(path, bytes);
  t.deepEqual(readAll(path).flags, [FRAME_TRUNCATED, 0]);
});

test("a capture cut at any byte gives the frames before the cut, then an Error with a code", (t) => {
  const path = newPath();
  const frames = many(5).map((frame) => frame.slice(0, 70));
  write(path, frames);
  const whole = readFileSync(path);
  const cut = newPath();
  let ends = 24;
  for (let size = 0; size < whole.length; size++) {
    writeFileSync(cut, whole.subarray(0, size));
    const { frames: got, error } = readAll(cut);
    const complete = size < 24 ? 0 : Math.floor(frames.findIndex((_, i) => boundary(frames, i + 1) > size));
    t.deepEqual(got, frames.slice(0, complete));
    if (size === boundary(frames, complete)) t.is(error, undefined);
    else t.is(error?.code, "ECAPTURE", `cut at ${size}`);
    ends = size;
  }
  t.true(ends > 300);
});

function boundary(frames: readonly Uint8Array[], count: number): number {
  return frames.slice(0, count).reduce((at, frame) => at + 16 + frame.length, 24);
}

test("files that cannot be opened say why", (t) => {
  const noCapture = newPath();
  writeFileSync(noCapture, "This is a text file, not a capture.");
  t.is(readAll(join(folder, "missing.pcap")).error?.code, "ENOENT");
  t.is(readAll(noCapture).error?.code, "ECAPTURE");
  t.is(readAll(folder).error?.code, "ECAPTURE");
  t.throws(() => new CaptureWriter(folder), { code: "EISDIR" });
  t.throws(() => new CaptureWriter(join(folder, "missing", "x.pcap")), { code: "ENOENT" });
});

test("a full disk is an error when writing, flushing or closing", (t) => {
  const { bytes, offset, length } = batchOf(many(2));
  const writer = new CaptureWriter("/dev/full");
  writer.write(bytes, offset, length, 0, 2, SECOND, 0);
  t.throws(() => writer.flush(), { code: "ENOSPC" });
  const other = new CaptureWriter("/dev/full");
  other.write(bytes, offset, length, 0, 2, SECOND, 0);
  t.throws(() => other.close(), { code: "ENOSPC" });
  const long = batchOf(many(100));
  const third = new CaptureWriter("/dev/full");
  t.throws(() => third.write(long.bytes, long.offset, long.length, 0, 100, SECOND, 0), { code: "ENOSPC" });
});

test("a closed reader and a closed writer do nothing", (t) => {
  const path = newPath();
  const writer = new CaptureWriter(path);
  writer.close();
  const { bytes, offset, length } = batchOf(many(2));
  writer.write(bytes, offset, length, 0, 2, SECOND, 0);
  writer.flush();
  const reader = new CaptureReader(path);
  reader.close();
  reader.close();
  t.is(reader.read(new FrameBatch(new Uint8Array(4096), 4)), 0);
});

const tsharkTest = tsharkMissing === undefined ? test : test.skip;

tsharkTest("tshark reads our captures as we wrote them", (t) => {
  const path = newPath();
  write(path, many(20), 1234.5);
  const fields = ["-T", "fields", "-e", "frame.time_epoch", "-e", "frame.len"];
  const lines = execFileSync("tshark", ["-r", path, ...fields], { encoding: "utf8", env })
    .trim()
    .split("\n");
  t.deepEqual(
    lines,
    many(20).map((frame) => `${SECOND + 1}.234500000\t${frame.length}`),
  );
});

tsharkTest("pcapng is read like pcap", (t) => {
  const [path, converted] = [newPath(), newPath()];
  write(path, many(20), 1234.5);
  execFileSync("editcap", ["-F", "pcapng", path, converted], { env });
  t.deepEqual(readAll(converted), readAll(path));
});

const corpusTest = corpusMissing === undefined ? test : test.skip;

corpusTest("every capture of the corpus is read to its end or to an Error with a code", (t) => {
  const names = readdirSync(CORPUS).filter((name) => /\.pcap(ng)?$/.test(name));
  t.true(names.length > 800);
  let frames = 0;
  for (const name of names) {
    const { frames: got, error } = readAll(join(CORPUS, name), 64, 1 << 19);
    frames += got.length;
    if (error !== undefined) t.is(error.code, "ECAPTURE", `${name}: ${error.message}`);
  }
  t.true(frames > 10_000);
});

const refereeTest = (corpusMissing ?? tsharkMissing) === undefined ? test : test.skip;

refereeTest("capinfos counts as many frames in the corpus as we read", (t) => {
  const names = readdirSync(CORPUS).filter((name) => /\.pcap(ng)?$/.test(name));
  let compared = 0;
  for (const name of names.filter((_, i) => i % 10 === 0)) {
    const { frames, error } = readAll(join(CORPUS, name), 64, 1 << 19);
    if (error !== undefined) continue;
    const referee = spawnSync("capinfos", ["-c", "-M", "-T", "-r", join(CORPUS, name)], { encoding: "utf8", env });
    if (referee.status !== 0) continue; // a link type that Wireshark does not know
    t.is(frames.length, Number(referee.stdout.trim().split("\t").at(-1)), name);
    compared++;
  }
  t.true(compared > 50);
});
