// Frames for port tests, built and checked with the plainest code that is right, independent of lib/wire.

export const PORT_MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
export const FAR_MAC = Uint8Array.of(2, 0, 0, 0, 0, 2);
/** No port cares what they are; over IPv6 they are names (over-ipv6.ts). */
export const SOURCE = [127, 0, 0, 1];
export const DESTINATION = [127, 0, 0, 2];

export interface TcpSegment {
  readonly sequence: number;
  readonly flags: number;
  readonly payload: Uint8Array;
  readonly id: number;
}

/** A UDP frame to the port with `number` in its payload and a right checksum; `size` is the frame's length, 60 or more. */
export function udpFrame(number: number, size: number): Uint8Array {
  const frame = new Uint8Array(size);
  ipHeader(frame, 17);
  set16(frame, 34, 40000);
  set16(frame, 36, 5000);
  set16(frame, 38, size - 34);
  for (let i = 42; i < size; i++) frame[i] = (number + i * 7) & 255;
  set16(frame, 42, number);
  set16(frame, 40, l4Checksum(frame, 40));
  return frame;
}

/** A TCP frame to the port: FIN, PSH, ACK and CWR set, 12 option bytes, `payload` bytes. */
export function tcpFrame(payload: number): Uint8Array {
  const frame = new Uint8Array(14 + 20 + 32 + payload);
  ipHeader(frame, 6);
  set16(frame, 34, 40000);
  set16(frame, 36, 443);
  set16(frame, 38, 0xffff);
  set16(frame, 40, 0xff00);
  frame[46] = 0x80;
  frame[47] = 0x80 | 0x10 | 0x08 | 0x01;
  set16(frame, 48, 1000);
  frame.set([1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8], 54);
  for (let i = 66; i < frame.length; i++) frame[i] = (i * 31 + (i >> 8)) & 255;
  set16(frame, 50, l4Checksum(frame, 50));
  return frame;
}

/** Leave only the pseudo-header sum in the checksum field, as a local sender does. */
export function makePartial(frame: Uint8Array): Uint8Array {
  const partial = frame.slice();
  set16(partial, frame[23] === 6 ? 50 : 40, sum(pseudoHeader(frame)));
  return partial;
}

export function readTcp(frame: Uint8Array): TcpSegment {
  const end = 14 + get16(frame, 16);
  return {
    sequence: ((get16(frame, 38) << 16) | get16(frame, 40)) >>> 0,
    flags: frame[47],
    payload: frame.slice(34 + (frame[46] >> 4) * 4, end),
    id: get16(frame, 18),
  };
}

/** Whether the IPv4 header checksum and the TCP or UDP checksum are both right. */
export function checksumsRight(frame: Uint8Array): { ip: boolean; l4: boolean } {
  const end = 14 + get16(frame, 16);
  return {
    ip: sum(frame.subarray(14, 34)) === 0xffff,
    l4: sum(Uint8Array.from([...pseudoHeader(frame), ...frame.subarray(34, end)])) === 0xffff,
  };
}

function ipHeader(frame: Uint8Array, protocol: number): void {
  frame.set(PORT_MAC, 0);
  frame.set(FAR_MAC, 6);
  set16(frame, 12, 0x0800);
  frame[14] = 0x45;
  set16(frame, 16, frame.length - 14);
  set16(frame, 18, 0x1234);
  set16(frame, 20, 0x4000);
  frame[22] = 64;
  frame[23] = protocol;
  frame.set(SOURCE, 26);
  frame.set(DESTINATION, 30);
  set16(frame, 24, ~sum(frame.subarray(14, 34)));
}

function pseudoHeader(frame: Uint8Array): Uint8Array {
  const length = get16(frame, 16) - 20;
  return Uint8Array.from([...frame.subarray(26, 34), 0, frame[23], length >> 8, length & 255]);
}

function l4Checksum(frame: Uint8Array, field: number): number {
  set16(frame, field, 0);
  return ~sum(Uint8Array.from([...pseudoHeader(frame), ...frame.subarray(34)])) & 0xffff;
}

function sum(bytes: Uint8Array): number {
  let total = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    total += bytes[i] * 256 + (bytes[i + 1] ?? 0);
    total = (total & 0xffff) + (total >>> 16);
  }
  return total;
}

function get16(bytes: Uint8Array, at: number): number {
  return bytes[at] * 256 + bytes[at + 1];
}

function set16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}
