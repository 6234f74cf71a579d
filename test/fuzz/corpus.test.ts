// Real and broken captures of others (../shared/corpus) through `replay`, on a LAN and on a WAN interface; and every
// frame of them in two memories that differ everywhere but in the frame.

import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { OperatorError } from "../../lib/control/operator-error.ts";
import { CaptureReader } from "../../lib/io/pcap-file.ts";
import { FrameBatch } from "../../lib/io/port.ts";
import { replayCaptures } from "../../lib/offline-router.ts";
import { config, fuzzed, unaccounted } from "./fuzzed.ts";

const folder = fileURLToPath(new URL("../../../../shared/corpus/tcpdump/", import.meta.url));
const files = existsSync(folder)
  ? readdirSync(folder)
      .filter((name) => /\.pcap(ng)?$/.test(name))
      .sort()
  : [];
const why = files.length === 0 ? ` (needs ${folder})` : "";
const withCorpus = files.length === 0 ? test.skip : test.serial;
/** Of this process's own time: no capture takes a hundredth of it, one that hangs would take it all, twice. A machine that stands still counts as well. */
const FILE_MS = 5000;

function msSince(started: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(started);
  return (user + system) / 1000;
}

const txDir = mkdtempSync(join(tmpdir(), "waymark-corpus-"));
test.after.always(() => rmSync(txDir, { recursive: true }));

/** Replay each file on an interface; every counter summed, and how many files could not be read. */
async function replayAll(
  at: string,
  anyLinkType: boolean,
): Promise<{ totals: Record<string, number>; refused: number; problems: string[] }> {
  const totals: Record<string, number> = {};
  const problems: string[] = [];
  let refused = 0;
  const replay = (name: string) =>
    replayCaptures(config, { rx: [{ interface: at, file: join(folder, name) }], txDir, seed: 1, anyLinkType });
  for (const name of files) {
    const started = process.cpuUsage();
    try {
      const counters = await replay(name);
      if (unaccounted(counters) !== 0) problems.push(`${name}: ${unaccounted(counters)} frames unaccounted for`);
      for (const [counter, value] of Object.entries(counters)) totals[counter] = (totals[counter] ?? 0) + value;
    } catch (error) {
      if (error instanceof OperatorError && error.message.length > 20) refused++;
      else problems.push(`${name}: ${(error as Error).stack}`);
    }
    if (msSince(started) <= FILE_MS) continue;
    const again = process.cpuUsage();
    await replay(name).catch(() => {});
    if (msSince(again) > FILE_MS) problems.push(`${name}: took ${Math.round(msSince(again))} ms the second time`);
  }
  return { totals, refused, problems };
}

for (const at of ["lan0", "wan0"]) {
  withCorpus(
    `every capture of the corpus passes through replay on ${at}, each frame accounted for${why}`,
    async (t) => {
      t.timeout(120_000);
      const { totals, refused, problems } = await replayAll(at, true);
      t.deepEqual(problems, []);
      t.log(
        `${files.length} captures, ${totals["frames.received"]} frames, ${totals["frames.forwarded"]} forwarded, ${refused} damaged files`,
      );
      t.true(totals["frames.received"] > 5000, "and not because nothing was read");
      t.true(refused < files.length / 10);
      t.true(totals["frames.forwarded"] > 0 || at === "wan0");
    },
  );
}

withCorpus(`a capture of another link type is refused with a sentence${why}`, async (t) => {
  t.timeout(120_000);
  const { refused, problems } = await replayAll("lan0", false);
  t.deepEqual(problems, []);
  t.true(refused > 10);
});

withCorpus(`what lies around a frame in memory changes nothing${why}`, (t) => {
  t.timeout(120_000);
  const batch = new FrameBatch(new Uint8Array(4 * 70_000), 64);
  let frames = 0;
  for (const at of [0, 1]) {
    for (const name of files) {
      // A pair of routers for each capture: a difference is found near where it arose.
      const [zeros, ones] = [fuzzed(0x00), fuzzed(0xff)];
      for (const frame of framesOf(join(folder, name), batch)) {
        for (const { arrive, clock } of [zeros, ones]) {
          clock.advance(10);
          arrive(at, frame);
        }
        frames++;
      }
      t.deepEqual(ones.router.counters.publish(true), zeros.router.counters.publish(true), name);
      for (const [i, port] of zeros.ports.entries()) {
        if (!same(port.sent, ones.ports[i].sent)) t.fail(`${name}: different frames left`);
      }
    }
  }
  t.true(frames > 10_000);
});

function same(a: readonly Uint8Array[], b: readonly Uint8Array[]): boolean {
  return a.length === b.length && a.every((frame, i) => Buffer.compare(frame, b[i]) === 0);
}

/** Copies of the frames of a capture, as far as it can be read. */
function* framesOf(file: string, batch: FrameBatch): Generator<Uint8Array> {
  let reader: CaptureReader;
  try {
    reader = new CaptureReader(file, batch.capacity);
  } catch {
    return;
  }
  try {
    while (reader.read(batch) > 0) {
      for (let i = 0; i < batch.count; i++) yield batch.bytes.slice(batch.offset[i], batch.offset[i] + batch.length[i]);
    }
  } catch {
    // Damaged from here on.
  } finally {
    reader.close();
  }
}
