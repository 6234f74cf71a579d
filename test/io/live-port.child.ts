// Runs in a network namespace of its own (live-port.test.ts starts it, once for each backend): the port contract on a
// port at one end of a veth pair, and what only live ports can do. The far end is always libpcap's, and so a witness
// for both. Prints one JSON line a case: { title, error? }.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { getI32 } from "../../lib/base/bytes.ts";
import { AfPacketPort } from "../../lib/io/afpacket-port.ts";
import { LivePort } from "../../lib/io/live-port.ts";
import { native } from "../../lib/io/native.ts";
import {
  type DevicePort,
  FRAME_CHECKSUM_KNOWN,
  FRAME_CHECKSUM_PARTIAL,
  type FrameBatch,
  type Port,
  SEGMENT_SIZE_UNKNOWN,
} from "../../lib/io/port.ts";
import { withLabel } from "../../lib/ipv6/flow-label.ts";
import { checksumsRight, FAR_MAC, makePartial, PORT_MAC, readTcp, tcpFrame, udpFrame } from "../contract/frames.ts";
import { fromWire, IPV6_GROWTH, portOver, toWire } from "../contract/over-ipv6.ts";
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
import { foreignEnvironment } from "./skip.ts";

export type Backend = "libpcap" | "af-packet";

const NEAR = "wmnear";
const FAR = "wmfar";
const SEGMENT = 1448;
const SEGMENT_IPV6 = 1428;
const OVER_IPV6 = "over IPv6, ";
/** A kernel's own: 1 TCP, 5 UDP. */
const GSO_TCP = 1;
const GSO_TCP_IPV6 = 4;
const GSO_UDP = 5;
const backend: Backend = process.argv.includes("af-packet") ? "af-packet" : "libpcap";

// Frames with a virtio_net_hdr in front, as a local sender's kernel hands them to the device.
const SEND_WITH_HEADER = `
import socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
s.setsockopt(263, 15, 1)
s.bind((sys.argv[1], 0))
for line in sys.stdin:
    *header, frame = line.split()
    s.send(struct.pack("<BBHHHH", *map(int, header)) + bytes.fromhex(frame))
`;

/** An SCTP packet for the port, with the checksum that scapy makes. Prints nothing where there is no scapy. */
const MAKE_SCTP = `
import sys
try:
    from scapy.all import Ether, IP, raw
    from scapy.layers.sctp import SCTP, SCTPChunkData
except ImportError:
    sys.exit()
frame = Ether(dst=sys.argv[1], src=sys.argv[2]) / IP(src="10.1.0.2", dst="10.2.0.3") / SCTP(sport=1, dport=2)
print(raw(frame / SCTPChunkData(data=b"x" * 77)).hex())
`;

/** flags, gso type, header length, gso size, where the checksummed bytes begin, and the field from there. */
type VnetHeader = readonly [number, number, number, number, number, number];

function run(command: string): void {
  const [program, ...words] = command.split(" ");
  execFileSync(program, words, { stdio: "pipe", env: foreignEnvironment });
}

function freshWire(mtu = 1500): void {
  spawnSync("ip", ["link", "del", NEAR], { env: foreignEnvironment });
  run(`ip link add ${NEAR} address ${text(PORT_MAC)} type veth peer name ${FAR} address ${text(FAR_MAC)}`);
  for (const device of [NEAR, FAR]) {
    run(`sysctl -qw net.ipv6.conf.${device}.disable_ipv6=1`);
    run(`ip link set ${device} mtu ${mtu} up`);
  }
}

function text(mac: Uint8Array): string {
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, "0")).join(":");
}

function openNear(bufferBytes = 32 << 20, ipv6 = false): DevicePort {
  const options = { name: "near", device: NEAR, bufferBytes, ipv6 };
  return backend === "libpcap" ? new LivePort(options) : new AfPacketPort(options);
}

function openFar(): LivePort {
  return new LivePort({ name: "far", device: FAR, filter: "udp or tcp" });
}

/** Send from the far end of the wire; a frame longer than the MTU as a super-frame. */
function sendFromFar(far: DevicePort, frames: readonly Uint8Array[]): void {
  const fits = frames.filter((frame) => frame.length <= 1514);
  if (fits.length > 0) assert.equal(far.tx(batchOf(fits), 0, fits.length), fits.length);
  const long = frames.filter((frame) => frame.length > 1514);
  const header: VnetHeader = [1, GSO_TCP, 66, SEGMENT, 34, 16];
  if (long.length > 0) sendWithHeader(long.map((frame) => [header, makePartial(frame)]));
}

function sendWithHeader(frames: readonly (readonly [VnetHeader, Uint8Array])[]): void {
  const input = frames.map(([header, frame]) => `${header.join(" ")} ${Buffer.from(frame).toString("hex")}`).join("\n");
  const python = spawnSync("/usr/bin/python3", ["-c", SEND_WITH_HEADER, FAR], {
    input,
    encoding: "utf8",
    env: foreignEnvironment,
  });
  assert.equal(python.stderr, "");
}

function portKind(): PortKind {
  return {
    name: backend,
    ...(backend === "af-packet" ? { segmentSize: SEGMENT } : {}),
    make(arriving) {
      freshWire();
      // The kernel finishes what an af-packet port leaves to it before the far end sees it.
      run(`ethtool -K ${NEAR} tx off`);
      const port = openNear();
      const far = openFar();
      sendFromFar(far, arriving);
      const close = () => {
        port.close();
        far.close();
      };
      return { port, collect: (least) => receiveAll(far, least), close };
    },
  };
}

/** The same over IPv6, on a wire whose MTU leaves IPv4's packets the contract's. */
function portKindOverIpv6(): PortKind {
  return {
    ...portKind(),
    isIpv6: true,
    make(arriving) {
      freshWire(1500 + IPV6_GROWTH);
      run(`ethtool -K ${NEAR} tx off`);
      const near = openNear(32 << 20, true);
      const far = openFar();
      const fits = arriving.filter((frame) => frame.length <= 1514).map((frame) => toWire(frame));
      if (fits.length > 0) assert.equal(far.tx(batchOf(fits), 0, fits.length), fits.length);
      const long = arriving.filter((frame) => frame.length > 1514);
      const header: VnetHeader = [1, GSO_TCP_IPV6, 86, SEGMENT, 54, 16];
      if (long.length > 0) sendWithHeader(long.map((frame) => [header, toWire(makePartial(frame), true)]));
      const close = () => {
        near.close();
        far.close();
      };
      const collect = async (least: number) => (await receiveAll(far, least)).map((frame) => fromWire(frame));
      return { port: portOver(near), collect, close };
    },
  };
}

/**
 * Everything that is on the wire already, `least` frames. veth delivers at once, but for a kernel that puts it off for
 * other work; what comes beyond is seen while the wire is quiet.
 */
async function receiveAll(far: DevicePort, least: number): Promise<Uint8Array[]> {
  const batch = emptyBatch(2048);
  const frames: Uint8Array[] = [];
  let quiet = 0;
  await patiently(() => {
    if (far.rx(batch) > 0) frames.push(...copies(batch));
    quiet = batch.count === 0 && frames.length >= least ? quiet + 1 : 0;
    return quiet > 20;
  });
  return frames;
}

/** `count` frames and what is said of them, in however many batches they come; each batch is given on. */
async function receiveMarked(port: Port, count: number, giveOn = (_: FrameBatch): void => {}) {
  const batch = emptyBatch(4);
  const frames: Uint8Array[] = [];
  const sizes: number[] = [];
  const flags: number[] = [];
  await patiently(() => {
    port.rx(batch);
    frames.push(...copies(batch));
    sizes.push(...batch.segmentSize.subarray(0, batch.count));
    flags.push(...batch.flags.subarray(0, batch.count));
    if (batch.count > 0) giveOn(batch);
    return frames.length >= count;
  });
  return { frames, sizes, flags };
}

const deviceCases: Record<string, () => Promise<void>> = {
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

  "frames that the ring could not hold are counted, and the counts add up": async () => {
    const near = openNear(1 << 20);
    const far = openFar();
    const frames = many(100);
    for (let i = 0; i < 20; i++) sendFromFar(far, frames);
    const batch = emptyBatch(64);
    let quiet = 0;
    await patiently(() => {
      const isEmpty = near.rx(batch) === 0;
      const stats = near.stats();
      quiet = isEmpty && stats.rxFrames + stats.rxKernelDrops >= 2000 ? quiet + 1 : 0;
      return quiet > 20;
    });
    const { rxFrames, rxKernelDrops } = near.stats();
    assert.ok(rxKernelDrops > 0);
    assert.equal(rxFrames + rxKernelDrops, 2000);
    assert.equal(near.stats().rxKernelDrops, rxKernelDrops, "totals, not differences");
    near.close();
    assert.equal(near.stats().rxFrames, rxFrames);
    far.close();
  },

  "a VLAN tag that the kernel took off is on the frame again": async () => {
    const near = openNear();
    const far = openFar();
    const plain = udpFrame(1, 100);
    const tagged = new Uint8Array(104);
    tagged.set(plain.subarray(0, 12));
    tagged.set([0x81, 0x00, 0x20, 0x07], 12);
    tagged.set(plain.subarray(12), 16);
    sendFromFar(far, [plain, tagged, plain]);
    assert.deepEqual(await receive(near, 3), [plain, tagged, plain]);
    near.close();
    far.close();
  },

  "a card that filters groups gives those the port has joined, and none once it is closed": async () => {
    const CARD = "wmcard";
    const mac = "02:00:00:00:00:07";
    run(`ip link add ${CARD} link ${NEAR} address ${mac} type macvlan mode bridge`);
    run(`sysctl -qw net.ipv6.conf.${CARD}.disable_ipv6=1`);
    run(`ip link set ${CARD} up`);
    const groups = Uint8Array.of(0x33, 0x33, 0, 0, 0, 1, 0x33, 0x33, 0xff, 0x12, 0x34, 0x56);
    const open = (joined?: Uint8Array) => {
      const options = { name: "card", device: CARD, bufferBytes: 1 << 20, ipv6: true, groups: joined };
      return backend === "libpcap" ? new LivePort(options) : new AfPacketPort(options);
    };
    const far = openFar();
    const toGroup = (last: number) => {
      const frame = toWire(udpFrame(last, 100));
      frame.set([0x33, 0x33, 0xff, 0x12, 0x34, last]);
      return frame;
    };
    const toCard = toWire(udpFrame(1, 100));
    toCard.set([2, 0, 0, 0, 0, 7]);
    const joins = () =>
      execFileSync("ip", ["maddr", "show", "dev", CARD], { encoding: "utf8", env: foreignEnvironment });
    const deaf = open();
    sendFromFar(far, [toGroup(0x56), toCard]);
    assert.deepEqual(await receive(deaf, 1), [toCard]);
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(deaf.rx(emptyBatch(4)), 0);
    deaf.close();
    const port = open(groups);
    for (const group of ["33:33:ff:12:34:56", "33:33:00:00:00:01"]) assert.ok(joins().includes(group));
    sendFromFar(far, [toGroup(0x55), toGroup(0x56), toCard]);
    // Such a device hands out what is for groups in its own time.
    const got = await receive(port, 2);
    assert.deepEqual(got.sort(Buffer.compare), [toCard, toGroup(0x56)]);
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(port.rx(emptyBatch(4)), 0);
    port.close();
    assert.doesNotMatch(joins(), /33:33:ff/);
    assert.throws(() => open(groups.subarray(1)), { code: "EINVAL" });
    assert.doesNotMatch(joins(), /33:33:ff/);
    far.close();
    run(`ip link del ${CARD}`);
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
    await patiently(() => !near.info().linkUp);
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

  "a device whose removal is found out by what is sent ends in no busy loop either": async () => {
    const near = openNear();
    let wakes = 0;
    run(`ip link del ${NEAR}`);
    assert.equal(near.tx(batchOf(many(1)), 0, 1), 0);
    near.onReadable(() => {
      wakes++;
      near.rx(emptyBatch(4));
    });
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.ok(wakes < 10, `${wakes} wakes`);
    near.close();
    freshWire();
  },

  "a transmit queue that stays full is given up on, and the rest counted": async () => {
    run(`tc qdisc add dev ${NEAR} root tbf rate 8kbit burst 2000 limit 3000`);
    const near = openNear();
    let [sent, attempts, shortestMs] = [0, 0, Number.POSITIVE_INFINITY];
    // Until one is short, for the processor may be taken away meanwhile; the queue would want more than ten seconds
    // for each.
    for (; attempts < 10 && shortestMs >= 100; attempts++) {
      const started = performance.now();
      sent += near.tx(batchOf(many(200)), 0, 200);
      shortestMs = Math.min(shortestMs, performance.now() - started);
    }
    assert.ok(shortestMs < 100, `it waits milliseconds, not for the queue: ${shortestMs} ms`);
    const { txFrames, txFull, txErrors } = near.stats();
    assert.ok(sent < 200);
    assert.deepEqual([txFrames, txFull, txErrors], [sent, 200 * attempts - sent, 0]);
    near.close();
    freshWire();
  },
};

const libpcapCases: Record<string, () => Promise<void>> = {
  "GRO is switched off while the port is open and put back on close": async () => {
    run(`ethtool -K ${NEAR} gro on`);
    const near = new LivePort({ name: "near", device: NEAR });
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
};

/** What a port with IPv6 says of a frame whose checksum is partial, and which the kernel has told of. */
const flagsOfPartial = (wire: Uint8Array): number =>
  FRAME_CHECKSUM_KNOWN | FRAME_CHECKSUM_PARTIAL | withLabel(getI32(wire, 14) & 0xf_ffff);

const afPacketCases: Record<string, () => Promise<void>> = {
  "a TCP super-frame of the kernel crosses whole, with its segment size and its partial checksum": async () => {
    const near = openNear();
    const far = new AfPacketPort({ name: "far", device: FAR, filter: "udp or tcp" });
    const whole = tcpFrame(60_000);
    sendFromFar(far, [whole]);
    const batch = emptyBatch(4);
    await patiently(() => near.rx(batch) === 1);
    assert.deepEqual(copies(batch), [makePartial(whole)]);
    assert.equal(batch.segmentSize[0], SEGMENT);
    assert.equal(batch.flags[0], FRAME_CHECKSUM_KNOWN | FRAME_CHECKSUM_PARTIAL);
    assert.equal(near.tx(batch, 0, 1), 1);
    const back = emptyBatch(4);
    await patiently(() => far.rx(back) === 1);
    assert.deepEqual(copies(back), [makePartial(whole)]);
    assert.equal(back.segmentSize[0], SEGMENT);
    assert.equal(back.flags[0], FRAME_CHECKSUM_KNOWN | FRAME_CHECKSUM_PARTIAL);
    const { txFrames, superFrames, segments, partialChecksums } = near.stats();
    assert.deepEqual([txFrames, superFrames, segments, partialChecksums], [1, 1, 0, 1]);
    near.close();
    far.close();
  },

  "a UDP super-frame crosses whole, and leaves a libpcap port as datagrams": async () => {
    const near = openNear();
    const far = openFar();
    const whole = udpFrame(1, 42 + 10_000);
    sendWithHeader([[[1, GSO_UDP, 42, 1200, 34, 6], makePartial(whole)]]);
    const batch = emptyBatch(4);
    await patiently(() => near.rx(batch) === 1);
    assert.deepEqual(copies(batch), [makePartial(whole)]);
    assert.equal(batch.segmentSize[0], 1200);
    const other = new LivePort({ name: "other", device: NEAR, filter: "udp" });
    assert.equal(other.tx(batch, 0, 1), 1);
    const datagrams = await receiveAll(far, 9);
    assert.equal(datagrams.length, 9);
    for (const frame of datagrams) assert.deepEqual(checksumsRight(frame), { ip: true, l4: true });
    assert.equal(near.tx(batch, 0, 1), 1);
    const [again] = await receiveAll(far, 1);
    assert.deepEqual(again, makePartial(whole));
    for (const port of [near, far, other]) port.close();
  },

  "a TCP super-frame leaves a libpcap port as segments of the size that the kernel said": async () => {
    const near = openNear();
    const far = openFar();
    const whole = tcpFrame(10_000);
    sendFromFar(far, [whole]);
    const batch = emptyBatch(4);
    await patiently(() => near.rx(batch) === 1);
    const other = new LivePort({ name: "other", device: NEAR, filter: "udp" });
    assert.equal(other.tx(batch, 0, 1), 1);
    const segments = await receiveAll(far, Math.ceil(10_000 / SEGMENT));
    assert.equal(segments.length, Math.ceil(10_000 / SEGMENT));
    for (const frame of segments) assert.deepEqual(checksumsRight(frame), { ip: true, l4: true });
    assert.deepEqual(
      Buffer.concat(segments.map((frame) => readTcp(frame).payload)),
      Buffer.from(readTcp(whole).payload),
    );
    for (const port of [near, far, other]) port.close();
  },

  "super-frames of TCP and UDP over IPv6 cross whole, with their segment sizes and their partial checksums":
    async () => {
      const near = openNear(32 << 20, true);
      const port = portOver(near);
      const far = new AfPacketPort({ name: "far", device: FAR, ipv6: true, filter: "udp or tcp" });
      const frames = [tcpFrame(60_000), udpFrame(1, 42 + 10_000)];
      const wire = frames.map((frame) => toWire(makePartial(frame), true));
      sendWithHeader([
        [[1, GSO_TCP_IPV6, 86, SEGMENT_IPV6, 54, 16], wire[0]],
        [[1, GSO_UDP, 62, 1200, 54, 6], wire[1]],
      ]);
      const came = await receiveMarked(port, 2, (batch) => assert.equal(port.tx(batch, 0, batch.count), batch.count));
      assert.deepEqual(came, {
        frames: frames.map(makePartial),
        sizes: [SEGMENT_IPV6, 1200],
        flags: wire.map(flagsOfPartial),
      });
      assert.deepEqual(await receiveMarked(far, 2), {
        frames: wire,
        sizes: [SEGMENT_IPV6, 1200],
        flags: Array(2).fill(FRAME_CHECKSUM_KNOWN | FRAME_CHECKSUM_PARTIAL),
      });
      const { txFrames, superFrames, segments, partialChecksums } = port.stats();
      assert.deepEqual([txFrames, superFrames, segments, partialChecksums], [2, 2, 0, 2]);
      near.close();
      far.close();
    },

  "a super-frame behind extension headers is known for what it is": async () => {
    const near = openNear(32 << 20, true);
    const port = portOver(near);
    const whole = makePartial(tcpFrame(20_000));
    const wire = toWire(whole, true);
    const longer = new Uint8Array(wire.length + 8);
    longer.set(wire.subarray(0, 54));
    longer.set([6, 0, 1, 4, 0, 0, 0, 0], 54);
    longer.set(wire.subarray(54), 62);
    longer[20] = 60;
    const payload = longer.length - 54;
    longer.set([payload >> 8, payload & 255], 18);
    sendWithHeader([[[1, GSO_TCP_IPV6, 94, SEGMENT_IPV6 - 8, 62, 16], longer]]);
    const batch = emptyBatch(4);
    await patiently(() => port.rx(batch) === 1);
    assert.deepEqual(copies(batch), [whole]);
    assert.equal(batch.segmentSize[0], SEGMENT_IPV6 - 8);
    assert.equal(batch.flags[0], flagsOfPartial(wire));
    near.close();
  },

  "over IPv6, what the kernel refuses to cut is cut here": async () => {
    const near = openNear(32 << 20, true);
    const far = openFar();
    const batch = batchOf([udpFrame(7, 60), makePartial(udpFrame(1, 42 + 20_000)), udpFrame(8, 60)]);
    batch.flags[1] = FRAME_CHECKSUM_PARTIAL;
    batch.segmentSize[1] = 100;
    const port = portOver(near);
    assert.equal(port.tx(batch, 0, 3), 3);
    assert.deepEqual([port.stats().segments, port.stats().txErrors], [200, 0]);
    const left = (await receiveAll(far, 202)).map((frame) => fromWire(frame));
    assert.deepEqual([left[0], left[201]], [udpFrame(7, 60), udpFrame(8, 60)]);
    assert.equal(left.length, 202);
    for (const frame of left) assert.deepEqual(checksumsRight(frame), { ip: true, l4: true });
    near.close();
    far.close();
  },

  "a super-frame with a finished checksum leaves whole all the same": async () => {
    const near = openNear();
    const far = new AfPacketPort({ name: "far", device: FAR, filter: "udp or tcp" });
    const frames = [tcpFrame(20_000), udpFrame(1, 42 + 9000)];
    const batch = batchOf(frames);
    batch.segmentSize.set([1000, 1000]);
    assert.equal(near.tx(batch, 0, 2), 2);
    assert.equal(near.stats().segments, 0);
    assert.deepEqual(await receive(far, 2), frames.map(makePartial));
    near.close();
    far.close();
  },

  "a partial checksum of a frame that fits stays partial": async () => {
    const near = openNear();
    const far = openFar();
    const frames = [udpFrame(1, 200), tcpFrame(300)].map(makePartial);
    sendWithHeader([
      [[1, 0, 0, 0, 34, 6], frames[0]],
      [[1, 0, 0, 0, 34, 16], frames[1]],
    ]);
    const came = await receiveMarked(near, 2, (batch) => assert.equal(near.tx(batch, 0, batch.count), batch.count));
    assert.deepEqual(came.frames, frames);
    assert.deepEqual(came.flags, Array(2).fill(FRAME_CHECKSUM_KNOWN | FRAME_CHECKSUM_PARTIAL));
    assert.deepEqual(await receiveAll(far, 2), frames);
    near.close();
    far.close();
  },

  "a partial checksum anywhere but in the packet's own header is completed on arrival": async () => {
    const near = openNear();
    const frame = udpFrame(1, 203);
    frame.set([0x12, 0x34], 80);
    sendWithHeader([[[1, 0, 0, 0, 64, 16], frame]]);
    const batch = emptyBatch(4);
    await patiently(() => near.rx(batch) === 1);
    assert.equal(batch.flags[0], FRAME_CHECKSUM_KNOWN);
    const inner = copies(batch)[0].subarray(64);
    let sum = 0x1234;
    for (let i = 0; i < inner.length; i++) sum += inner[i] << (i % 2 === 0 ? 8 : 0);
    // What the sender left in the field belongs to the sum that the finished one makes come out right.
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
    assert.equal(sum, 0xffff);
    near.close();
  },

  "an SCTP checksum that the sender left undone is completed on arrival": async () => {
    const made = spawnSync("/usr/bin/python3", ["-c", MAKE_SCTP, text(PORT_MAC), text(FAR_MAC)], {
      encoding: "utf8",
      env: foreignEnvironment,
    });
    if (made.stdout === "") return;
    const frame = Uint8Array.from(Buffer.from(made.stdout.trim(), "hex"));
    const near = openNear();
    sendWithHeader([[[1, 0, 0, 0, 34, 8], frame.slice().fill(0xee, 42, 46)]]);
    assert.deepEqual(await receive(near, 1), [frame]);
    near.close();
  },

  "segment sizes that cannot be are not believed": async () => {
    const near = openNear();
    const frames: (readonly [VnetHeader, Uint8Array])[] = [
      [[1, GSO_TCP, 66, 4000, 34, 16], makePartial(tcpFrame(9000))],
      [[1, GSO_UDP, 42, 4000, 34, 6], makePartial(udpFrame(1, 9000))],
      [[1, GSO_TCP, 66, 1, 34, 16], makePartial(tcpFrame(3000))],
    ];
    for (const one of frames) sendWithHeader([one]);
    const { sizes } = await receiveMarked(near, 3);
    assert.deepEqual(sizes, [SEGMENT_SIZE_UNKNOWN, SEGMENT_SIZE_UNKNOWN, 1]);
    near.close();
  },

  "what the kernel refuses to cut is cut here": async () => {
    // More datagrams than the kernel makes of one frame.
    const near = openNear();
    const far = openFar();
    const whole = udpFrame(1, 42 + 20_000);
    const batch = batchOf([udpFrame(7, 60), makePartial(whole), udpFrame(8, 60)]);
    batch.flags[1] = FRAME_CHECKSUM_PARTIAL;
    batch.segmentSize[1] = 100;
    assert.equal(near.tx(batch, 0, 3), 3);
    assert.equal(near.stats().segments, 200);
    assert.equal(near.stats().txErrors, 0);
    const left = await receiveAll(far, 202);
    assert.deepEqual([left[0], left[201]], [udpFrame(7, 60), udpFrame(8, 60)]);
    assert.equal(left.length, 202);
    for (const frame of left) assert.deepEqual(checksumsRight(frame), { ip: true, l4: true });
    near.close();
    far.close();
  },

  "a device that is down is ENETDOWN and the sentence says how to bring it up": async () => {
    run(`ip link set ${NEAR} down`);
    assert.throws(() => openNear(), { code: "ENETDOWN", message: /ip link set/ });
    run(`ip link set ${NEAR} up`);
  },

  "GRO stays as it is": async () => {
    run(`ethtool -K ${NEAR} gro on`);
    const near = openNear();
    assert.equal(native().offload(NEAR, "gro", -1), 1);
    near.close();
    assert.equal(native().offload(NEAR, "gro", -1), 1);
    run(`ethtool -K ${NEAR} gro off`);
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

function casesOf(which: Backend): Record<string, () => Promise<void>> {
  return { ...deviceCases, ...(which === "libpcap" ? libpcapCases : afPacketCases) };
}

export function titlesOf(which: Backend): string[] {
  const titles = portContract.map((one) => one.title);
  return [...titles, ...titles.map((title) => `${OVER_IPV6}${title}`), ...Object.keys(casesOf(which))];
}

if (process.argv.includes("--run")) {
  for (const { title, run } of portContract) {
    await report(title, () => run(portKind()));
    await report(`${OVER_IPV6}${title}`, () => run(portKindOverIpv6()));
  }
  freshWire();
  for (const [title, body] of Object.entries(casesOf(backend))) await report(title, body);
  process.exit(0);
}
