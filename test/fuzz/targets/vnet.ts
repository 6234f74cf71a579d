// The af-packet port: frames with any virtio_net_hdr in front of them, received and sent again as they are, with the
// fuzzer for a kernel (native/kernel.cc), under the sanitizers.
//
//   | device's MTU 1 | records: virtio_net_hdr 10, truncated 1, tag is there 1, tag 2, its EtherType 2, length 4, frame |

import { native } from "../../../lib/io/native.ts";
import {
  FRAME_CHECKSUM_KNOWN,
  FRAME_CHECKSUM_PARTIAL,
  FRAME_TRUNCATED,
  FrameBatch,
  HEADROOM,
  SEGMENT_SIZE_UNKNOWN,
  TAILROOM,
} from "../../../lib/io/port.ts";
import { decodeSlowly } from "../../model/decode.ts";
import { buildFrame } from "../../wire/frames.ts";
import { changeFrame } from "../forms.ts";
import type { Target } from "../fuzzer.ts";
import { joined } from "../mutate.ts";

const RECORD = 20;
const ROWS = 4;
const MTUS = [1500, 576, 9000, 65_535];
const NEEDS_CSUM = 1;
const GSO_TCPV4 = 1;
const GSO_UDP_L4 = 5;
const ECN = 0x80;

const addon = native() as ReturnType<typeof native> & {
  kernelGive(records: Uint8Array): void;
  kernelTake(records: Uint8Array): number;
};
const untouched = [0x00, 0xff].map((filling) => new Uint8Array(ROWS * addon.packetSlotBytes).fill(filling));
const taken = new Uint8Array(1 << 20);

interface Arrived {
  frames: Uint8Array[];
  columns: number[][];
}

/** Receive all in a memory filled with `filling`, look at each row, and send it on. */
function pass(input: Uint8Array, filling: number): Arrived {
  const mtu = MTUS[input[0] % MTUS.length];
  const port = addon.packetOpen("lo", "", mtu, mtu, 1 << 20, false);
  const batch = new FrameBatch(new Uint8Array(ROWS * addon.packetSlotBytes).fill(filling), ROWS);
  const { bytes, offset, length, flags, segmentSize } = batch;
  addon.portBind(port, bytes, offset, length, flags, segmentSize);
  addon.kernelGive(input.subarray(1));
  const arrived: Arrived = { frames: [], columns: [] };
  for (let count = 0; (count = addon.portRx(port)) > 0; bytes.fill(filling)) {
    let before = 0;
    for (let i = 0; i < count; i++) {
      const [at, size] = [offset[i], length[i]];
      if (at < before + HEADROOM || size < 0 || at + size + TAILROOM > bytes.length)
        throw new Error(`row ${i} at ${at}`);
      checkUntouched(bytes, before, at, filling);
      before = at + size;
      if ((flags[i] & ~(FRAME_CHECKSUM_KNOWN | FRAME_CHECKSUM_PARTIAL | FRAME_TRUNCATED)) !== 0)
        throw new Error("flags");
      const segment = segmentSize[i];
      if (segment < 0 || (segment > mtu && segment !== SEGMENT_SIZE_UNKNOWN)) throw new Error(`segments of ${segment}`);
      arrived.frames.push(bytes.slice(at, at + size));
      arrived.columns.push([at, size, flags[i], segment]);
    }
    checkUntouched(bytes, before, bytes.length, filling);
    sendOn(port, batch, count, mtu);
  }
  addon.portClose(port);
  return arrived;
}

/** Nothing was written between two rows. */
function checkUntouched(bytes: Uint8Array, from: number, to: number, filling: number): void {
  const still = untouched[filling === 0 ? 0 : 1].subarray(from, to);
  if (Buffer.compare(bytes.subarray(from, to), still) !== 0)
    throw new Error("something was written outside the frames");
}

/** Send what was received; what must be finished in software first is left out. */
function sendOn(port: Parameters<typeof addon.portRx>[0], batch: FrameBatch, count: number, mtu: number): void {
  const stopped = new Int32Array(2);
  const { bytes, offset, length, flags, segmentSize } = batch;
  for (let row = 0; row < count; row = stopped[0] + 1) {
    addon.portTxOffload(port, bytes, offset, length, flags, segmentSize, row, count, stopped);
    if (stopped[0] < row || stopped[0] > count) throw new Error(`stopped at ${stopped[0]} of ${row} to ${count}`);
  }
  const end = addon.kernelTake(taken);
  const view = new DataView(taken.buffer);
  for (let at = 0; at < end; ) {
    const size = view.getUint32(at + 16, true);
    checkHeader(taken.subarray(at, at + 10), taken.subarray(at + RECORD, at + RECORD + size), mtu);
    at += RECORD + size;
  }
}

/** What the kernel asks of a header (include/linux/virtio_net.h): it refuses a whole packet otherwise, or reads past it. */
function checkHeader(header: Uint8Array, frame: Uint8Array, mtu: number): void {
  const view = new DataView(header.buffer, header.byteOffset);
  const [headerLength, gsoSize, start, offset] = [2, 4, 6, 8].map((at) => view.getUint16(at, true));
  const type = header[1] & ~ECN;
  const { l4, payload, protocol } = decodeSlowly(frame, null);
  if ((header[0] & NEEDS_CSUM) !== 0 && start + offset + 2 > frame.length)
    throw new Error("a checksum outside the frame");
  if (type === 0) {
    if (frame.length > mtu + 14) throw new Error(`a frame of ${frame.length} bytes whole`);
    return;
  }
  if (type !== GSO_TCPV4 && type !== GSO_UDP_L4) throw new Error(`a super-frame of type ${type}`);
  if ((header[0] & NEEDS_CSUM) === 0 || gsoSize === 0 || headerLength > frame.length)
    throw new Error(`a super-frame the kernel refuses: ${[...header]}`);
  if (l4 > 0 && (protocol !== (type === GSO_TCPV4 ? 6 : 17) || start !== l4 || headerLength !== payload))
    throw new Error(`a header of another frame: ${[...header]}`);
  if (headerLength + gsoSize > mtu + 14) throw new Error("segments longer than the MTU");
}

function run(input: Uint8Array): string {
  if (input.length < 1 + RECORD) return "nothing";
  const [zeros, ones] = [pass(input, 0x00), pass(input, 0xff)];
  if (JSON.stringify(zeros.columns) !== JSON.stringify(ones.columns))
    throw new Error("columns depend on what lay there");
  for (const [i, frame] of zeros.frames.entries()) {
    if (Buffer.compare(frame, ones.frames[i]) !== 0) throw new Error(`frame ${i} depends on what lay there`);
  }
  const [, , flags, segment] = zeros.columns.at(-1) ?? [0, 0, 0, 0];
  const size = segment === 0 ? "" : segment === SEGMENT_SIZE_UNKNOWN ? " super-frame of unknown size" : " super-frame";
  return `frame${flags & FRAME_CHECKSUM_PARTIAL ? " partial" : ""}${flags & FRAME_TRUNCATED ? " truncated" : ""}${size}`;
}

/** Little-endian, as this machine's kernel has them. */
const u16 = (value: number) => [value & 255, value >>> 8];
function record(frame: Uint8Array, header: number[], tag: number[] = [0, 0, ...u16(0), ...u16(0)]): Uint8Array {
  const size = new Uint8Array(4);
  new DataView(size.buffer).setUint32(0, frame.length, true);
  return joined(Uint8Array.from([...header, ...tag]), size, frame);
}
const vnet = (flags: number, type: number, headerLength: number, size: number, start: number, offset: number) => [
  flags,
  type,
  ...[headerLength, size, start, offset].flatMap(u16),
];
const tcp = buildFrame({ protocol: 6, payload: new Uint8Array(3000).fill(1) }).bytes;
const udp = buildFrame({ protocol: 17, payload: new Uint8Array(2400).fill(2) }).bytes;
const small = buildFrame({ protocol: 6, payload: new Uint8Array(20) }).bytes;
const sctp = buildFrame({ protocol: 132, payload: new Uint8Array(40) }).bytes;
const one = (...parts: Uint8Array[]) => joined(Uint8Array.of(0), ...parts);

export const target: Target = {
  runs: 800,
  lengthMax: 7000,
  seeds: [
    one(record(small, vnet(0, 0, 0, 0, 0, 0))),
    one(record(small, vnet(NEEDS_CSUM, 0, 0, 0, 34, 16))),
    one(
      record(tcp, vnet(NEEDS_CSUM, GSO_TCPV4, 54, 1400, 34, 16)),
      record(udp, vnet(NEEDS_CSUM, GSO_UDP_L4, 42, 1200, 34, 6)),
    ),
    one(record(tcp, vnet(NEEDS_CSUM, GSO_TCPV4 | ECN, 54, 1460, 34, 16))),
    one(record(sctp, vnet(NEEDS_CSUM, 0, 0, 0, 34, 8))),
    one(record(small, vnet(NEEDS_CSUM, 0, 0, 0, 14, 20), [0, 3, ...u16(7), ...u16(0x8100)])),
    one(record(udp, vnet(0, GSO_UDP_L4, 42, 1200, 0, 0), [1, 1, ...u16(7), ...u16(0)])),
  ],
  tokens: [
    Uint8Array.of(1, 1),
    Uint8Array.of(1, 5),
    Uint8Array.of(34, 0, 16, 0),
    Uint8Array.of(34, 0, 6, 0),
    Uint8Array.from(u16(1400)),
  ],
  change(random, input) {
    // The first frame, whole again; its record's length follows.
    if (input.length < 1 + RECORD) return input;
    const size = new DataView(input.buffer, input.byteOffset).getUint32(1 + 16, true);
    const end = Math.min(input.length, 1 + RECORD + size);
    const frame = changeFrame(random, input.slice(1 + RECORD, end));
    return joined(
      input.subarray(0, 1),
      record(frame, [...input.subarray(1, 11)], [...input.subarray(11, 17)]),
      input.subarray(end),
    );
  },
  run,
};
