// Runs in a network namespace of its own (live-port.test.ts starts it): the port contract on a LivePort at one end of a
// veth pair, and what only live ports can do. Prints one JSON line a case: { title, error? }.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { LivePort } from "../../lib/io/live-port.ts";
import { native } from "../../lib/io/native.ts";
import { FAR_MAC, makePartial, PORT_MAC, tcpFrame, udpFrame } from "../contract/frames.ts";
import {
  batchOf,
  copies,
  emptyBatch,
  many,
  type PortKind,
  patiently,
  portContract,
  receive,
} from "../contract/port-contract.ts";

const NEAR = "wmnear";
const FAR = "wmfar";

// A local sender's TCP super-frame: partial checksum, 1,448 bytes a segment, as its kernel hands it to the device.
const SEND_SUPER_FRAMES = `
import socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
s.setsockopt(263, 15, 1)
s.bind((sys.argv[1], 0))
for line in sys.stdin:
    s.send(struct.pack("<BBHHHH", 1, 1, 66, 1448, 34, 16) + bytes.fromhex(line))
`;

function run(command: string): void {
  const [program, ...words] = command.split(" ");
  execFileSync(program, words, { stdio: "pipe" });
}

function freshWire(): void {
  spawnSync("ip", ["link", "del", NEAR]);
  run(`ip link add ${NEAR} address ${text(PORT_MAC)} type veth peer name ${FAR} address ${text(FAR_MAC)}`);
  for (const device of [NEAR, FAR]) {
    run(`sysctl -qw net.ipv6.conf.${device}.disable_ipv6=1`);
    run(`ip link set ${device} up`);
  }
}

function text(mac: Uint8Array): string {
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, "0")).join(":");
}

function openNear(bufferBytes = 32 << 20): LivePort {
  return new LivePort({ name: "near", device: NEAR, bufferBytes });
}

function openFar(): LivePort {
  return new LivePort({ name: "far", device: FAR, filter: "udp or tcp" });
}

/** Send from the far end of the wire; a frame longer than the MTU as a super-frame. */
function sendFromFar(far: LivePort, frames: readonly Uint8Array[]): void {
  const fits = frames.filter((frame) => frame.length <= 1514);
  if (fits.length > 0) assert.equal(far.tx(batchOf(fits), 0, fits.length), fits.length);
  const long = frames.filter((frame) => frame.length > 1514);
  if (long.length === 0) return;
  const input = long.map((frame) => Buffer.from(makePartial(frame)).toString("hex")).join("\n");
  const python = spawnSync("/usr/bin/python3", ["-c", SEND_SUPER_FRAMES, FAR], { input, encoding: "utf8" });
  assert.equal(python.stderr, "");
}

const kind: PortKind = {
  name: "live port",
  make(arriving) {
    freshWire();
    const port = openNear();
    const far = openFar();
    sendFromFar(far, arriving);
    const close = () => {
      port.close();
      far.close();
    };
    const collect = async () => {
      // Everything is on the wire already: veth delivers at once.
      const batch = emptyBatch(2048);
      const frames: Uint8Array[] = [];
      await patiently(() => {
        if (far.rx(batch) > 0) frames.push(...copies(batch));
        return batch.count === 0;
      });
      return frames;
    };
    return { port, collect, close };
  },
};

const liveCases: Record<string, () => Promise<void>> = {
  "only IPv4 and ARP for our MAC address or all stations is received, never our own frames": async () => {
    const near = openNear();
    const far = openFar();
    const [ours, broadcast, other, ipv6, own] = many(5);
    broadcast.fill(0xff, 0, 6);
    other[5] = 9;
    ipv6[12] = 0x86;
    ipv6[13] = 0xdd;
    sendFromFar(far, [other, ours, ipv6, broadcast]);
    near.tx(batchOf([own]), 0, 1);
    assert.deepEqual(await receive(near, 2), [ours, broadcast]);
    assert.equal(near.rx(emptyBatch(4)), 0);
    near.close();
    far.close();
  },

  "GRO is switched off while the port is open and put back on close": async () => {
    run(`ethtool -K ${NEAR} gro on`);
    const near = openNear();
    assert.equal(native().offload(NEAR, "gro", -1), 0);
    assert.equal(near.offloadError, undefined);
    near.close();
    assert.equal(native().offload(NEAR, "gro", -1), 1);
    native().offload(NEAR, "gro", 0);
    openNear().close();
    assert.equal(native().offload(NEAR, "gro", -1), 0, "what was off stays off");
  },

  "GRO is put back when the process exits without closing the port": async () => {
    run(`ethtool -K ${NEAR} gro on`);
    const module = new URL("../../lib/io/live-port.js", import.meta.url);
    const script = `import { LivePort } from "${module}";
      const port = new LivePort({ name: "near", device: "${NEAR}" });
      port.onReadable(() => {});
      process.exit(7);`;
    const { status } = spawnSync(process.execPath, ["--input-type=module", "-e", script]);
    assert.equal(status, 7);
    assert.equal(native().offload(NEAR, "gro", -1), 1);
  },

  "super-frames beyond what the memory holds wait for the next rx": async () => {
    const near = openNear();
    const far = openFar();
    const frames = Array.from({ length: 40 }, (_, i) => tcpFrame(60_000 + i));
    sendFromFar(far, frames);
    const batch = emptyBatch(64);
    const lengths: number[] = [];
    await patiently(() => {
      assert.ok(near.rx(batch) < 40);
      lengths.push(...batch.length.subarray(0, batch.count));
      return lengths.length >= 40;
    });
    assert.deepEqual(
      lengths,
      frames.map((frame) => frame.length),
    );
    near.close();
    far.close();
  },

  "frames that the ring could not hold are counted, and the counts add up": async () => {
    const near = openNear(1 << 20);
    const far = openFar();
    const frames = many(100);
    for (let i = 0; i < 20; i++) sendFromFar(far, frames);
    const batch = emptyBatch(64);
    let quiet = 0;
    await patiently(() => (near.rx(batch) === 0 ? ++quiet : 0) > 5);
    const { rxFrames, rxKernelDrops } = near.stats();
    assert.ok(rxKernelDrops > 0);
    assert.equal(rxFrames + rxKernelDrops, 2000);
    assert.equal(near.stats().rxKernelDrops, rxKernelDrops, "totals, not differences");
    near.close();
    assert.equal(near.stats().rxFrames, rxFrames);
    far.close();
  },

  "two batches may be used in turn": async () => {
    const near = openNear();
    const far = openFar();
    const [one, other] = [emptyBatch(8), emptyBatch(8)];
    for (const [i, batch] of [one, other, one].entries()) {
      const frame = udpFrame(i, 100 + i);
      sendFromFar(far, [frame]);
      await patiently(() => near.rx(batch) === 1);
      assert.deepEqual(copies(batch), [frame]);
    }
    near.close();
    far.close();
  },

  "the port wakes its owner while frames wait, and not otherwise": async () => {
    const near = openNear();
    const far = openFar();
    const batch = emptyBatch(4);
    let wakes = 0;
    let received = 0;
    near.onReadable(() => {
      wakes++;
      received += near.rx(batch);
    });
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(wakes, 0);
    sendFromFar(far, many(10));
    await patiently(() => received === 10);
    assert.ok(wakes >= 3, "level-triggered: three batches of four for ten frames");
    const before = wakes;
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(wakes, before);
    near.close();
    far.close();
  },

  "an error thrown by the owner's callback is an uncaught exception, as in any callback": async () => {
    const near = openNear();
    const far = openFar();
    const caught = new Promise((resolve) => process.once("uncaughtException", resolve));
    const thrown = new Error("from the callback");
    near.onReadable(() => {
      near.close();
      throw thrown;
    });
    sendFromFar(far, many(1));
    assert.equal(await caught, thrown);
    far.close();
  },

  "a device that goes down and comes back goes on receiving": async () => {
    const near = openNear();
    const far = openFar();
    const batch = emptyBatch(8);
    let received = 0;
    near.onReadable(() => {
      received += near.rx(batch);
    });
    assert.equal(near.info().linkUp, true);
    run(`ip link set ${NEAR} down`);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(near.info().linkUp, false);
    assert.equal(near.tx(batchOf(many(2)), 0, 2), 0);
    assert.equal(near.stats().txErrors, 2);
    near.rx(batch);
    run(`ip link set ${NEAR} up`);
    await patiently(() => near.info().linkUp);
    sendFromFar(far, many(3));
    await patiently(() => received === 3);
    assert.equal(near.fault, undefined);
    near.close();
    far.close();
  },

  "a device that is removed ends reception with a fault, not with an exception or a busy loop": async () => {
    const near = openNear();
    let wakes = 0;
    near.onReadable(() => {
      wakes++;
      near.rx(emptyBatch(4));
    });
    run(`ip link del ${NEAR}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(near.rx(emptyBatch(4)), 0);
    assert.equal((near.fault as NodeJS.ErrnoException | undefined)?.code, "ENXIO");
    assert.ok(wakes < 10, `${wakes} wakes`);
    assert.equal(near.info().linkUp, false);
    assert.equal(near.tx(batchOf(many(1)), 0, 1), 0);
    near.close();
    freshWire();
  },

  "a transmit queue that stays full is given up on, and the rest counted": async () => {
    run(`tc qdisc add dev ${NEAR} root tbf rate 8kbit burst 2000 limit 3000`);
    const near = openNear();
    const started = Date.now();
    const sent = near.tx(batchOf(many(200)), 0, 200);
    assert.ok(Date.now() - started < 100);
    const { txFrames, txFull, txErrors } = near.stats();
    assert.ok(sent < 200);
    assert.deepEqual([txFrames, txFull, txErrors], [sent, 200 - sent, 0]);
    near.close();
    freshWire();
  },
};

async function report(title: string, body: () => Promise<void>): Promise<void> {
  let error: string | undefined;
  try {
    await body();
  } catch (thrown) {
    error = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
  }
  console.log(JSON.stringify({ title, error }));
}

export const titles = [...portContract.map((one) => one.title), ...Object.keys(liveCases)];

if (process.argv.includes("--run")) {
  for (const { title, run } of portContract) await report(title, () => run(kind));
  freshWire();
  for (const [title, body] of Object.entries(liveCases)) await report(title, body);
  process.exit(0);
}
