import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { ManualClock } from "../../lib/base/clock.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import { CapturePort } from "../../lib/io/capture-port.ts";
import { FaultPort } from "../../lib/io/fault-port.ts";
import { MemoryPort } from "../../lib/io/memory-port.ts";
import { CaptureReader, CaptureWriter } from "../../lib/io/pcap-file.ts";
import { FrameBatch } from "../../lib/io/port.ts";
import { ReplayPort } from "../../lib/io/replay-port.ts";
import { FAR_MAC, PORT_MAC } from "../contract/frames.ts";
import { fromWire, IPV6_GROWTH, portOver, toWire } from "../contract/over-ipv6.ts";
import { batchOf, copies, type PortKind, portContract } from "../contract/port-contract.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-ports-"));
test.after.always(() => rmSync(folder, { recursive: true }));
let files = 0;
const newPath = () => join(folder, `${files++}.pcap`);

const loneOptions = { name: "wan0", mac: PORT_MAC, queueFrames: 1024, frameMax: 65_549 };

function lonePort(arriving: readonly Uint8Array[]): MemoryPort {
  const port = new MemoryPort(loneOptions);
  for (const frame of arriving) port.inject(frame);
  return port;
}

const kinds: PortKind[] = [
  {
    name: "memory port alone",
    make(arriving) {
      const port = lonePort(arriving);
      return { port, collect: () => port.sent(), close: () => port.close() };
    },
  },
  {
    name: "memory port of a pair",
    make(arriving) {
      const [port, far] = MemoryPort.pair(loneOptions, { name: "far", mac: FAR_MAC });
      for (const frame of arriving) if (far.tx(batchOf([frame]), 0, 1) === 0) port.inject(frame);
      const collect = () => {
        const batch = new FrameBatch(new Uint8Array(0), 1024);
        far.rx(batch);
        return copies(batch);
      };
      return { port, collect, close: () => port.close() };
    },
  },
  {
    name: "replay port",
    make(arriving) {
      const [rxPath, txPath] = [newPath(), newPath()];
      writeCapture(rxPath, arriving);
      const port = new ReplayPort({ name: "wan0", mac: PORT_MAC, clock: new ManualClock(), rxPath, txPath });
      const collect = () => {
        port.close();
        return readCapture(txPath);
      };
      return { port, collect, close: () => port.close() };
    },
  },
  {
    name: "capture port",
    make(arriving) {
      const inner = lonePort(arriving);
      const port = new CapturePort(inner, new CaptureWriter(newPath()), new ManualClock());
      return { port, collect: () => inner.sent(), close: () => port.close() };
    },
  },
  {
    name: "fault port without faults",
    make(arriving) {
      const inner = lonePort(arriving);
      const port = new FaultPort(inner, {}, new SeededRandom(1));
      return { port, collect: () => inner.sent(), close: () => port.close() };
    },
  },
  {
    name: "IPv6 port",
    isIpv6: true,
    make(arriving) {
      const inner = new MemoryPort({ ...loneOptions, mtu: 1500 + IPV6_GROWTH, frameMax: 65_549 + IPV6_GROWTH });
      for (const frame of arriving) inner.inject(toWire(frame));
      return {
        port: portOver(inner),
        collect: () => inner.sent().map((frame) => fromWire(frame)),
        close: () => inner.close(),
      };
    },
  },
];

for (const kind of kinds) {
  for (const { title, run } of portContract) {
    test(`${kind.name}: ${title}`, async (t) => {
      await t.notThrowsAsync(run(kind));
    });
  }
}

function writeCapture(path: string, frames: readonly Uint8Array[]): void {
  const writer = new CaptureWriter(path);
  const { bytes, offset, length, count } = batchOf(frames);
  writer.write(bytes, offset, length, 0, count, 1_700_000_000, 0);
  writer.close();
}

function readCapture(path: string): Uint8Array[] {
  const reader = new CaptureReader(path, 16);
  const batch = new FrameBatch(new Uint8Array(1 << 20), 16);
  const frames: Uint8Array[] = [];
  while (reader.read(batch) > 0) frames.push(...copies(batch));
  reader.close();
  return frames;
}
