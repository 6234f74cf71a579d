// Classic BPF as the kernel runs it on a frame's way to a fanout group: an accumulator, an index register, 16 words of
// memory, and the packet from its network header on. A load past the end ends the program with 0.

import { getU16, getU32 } from "../../lib/base/bytes.ts";

const ETHERTYPE = -0x1000;

/**
 * The first instruction that reads a word of memory which nothing may have stored before; -1 = there is none. The kernel refuses
 * such a program (check_load_and_stores in net/core/filter.c), and takes a return for an instruction that goes on.
 */
export function unstoredRead(program: Uint8Array): number {
  const view = new DataView(program.buffer, program.byteOffset, program.byteLength);
  const count = program.length / 8;
  const masks = new Uint16Array(count + 1).fill(0xffff);
  let stored = 0;
  for (let at = 0; at < count; at++) {
    const code = view.getUint16(at * 8, true);
    const k = view.getInt32(at * 8 + 4, true);
    stored &= masks[at];
    if (code === 0x02) stored |= 1 << k;
    else if ((code === 0x60 || code === 0x61) && (stored & (1 << k)) === 0) return at;
    else if ((code & 7) === 5) {
      const targets = code === 0x05 ? [k] : [program[at * 8 + 2], program[at * 8 + 3]];
      for (const distance of targets) masks[at + 1 + distance] &= stored;
      stored = 0xffff;
    }
  }
  return -1;
}

/** Result of `program` (an array of struct sock_filter) for an Ethernet frame, as an unsigned 32-bit number. */
export function runBpf(program: Uint8Array, frame: Uint8Array): number {
  const view = new DataView(program.buffer, program.byteOffset, program.byteLength);
  const packet = frame.subarray(14);
  const memory = new Uint32Array(16);
  let a = 0;
  let x = 0;
  for (let at = 0; ; at++) {
    const code = view.getUint16(at * 8, true);
    const yes = program[at * 8 + 2];
    const no = program[at * 8 + 3];
    const k = view.getInt32(at * 8 + 4, true);
    const load = (offset: number, size: number): boolean => {
      if (offset < 0 || offset + size > packet.length) return false;
      a = size === 4 ? getU32(packet, offset) : size === 2 ? getU16(packet, offset) : packet[offset];
      return true;
    };
    switch (code) {
      case 0x20:
        if (k === ETHERTYPE) a = getU16(frame, 12);
        else if (!load(k, 4)) return 0;
        break;
      case 0x28:
        if (!load(k, 2)) return 0;
        break;
      case 0x30:
        if (!load(k, 1)) return 0;
        break;
      case 0x48:
        if (!load(x + k, 2)) return 0;
        break;
      case 0x50:
        if (!load(x + k, 1)) return 0;
        break;
      case 0xb1:
        if (k >= packet.length) return 0;
        x = 4 * (packet[k] & 15);
        break;
      case 0x60:
        a = memory[k];
        break;
      case 0x61:
        x = memory[k];
        break;
      case 0x02:
        memory[k] = a;
        break;
      case 0x07:
        x = a;
        break;
      case 0x0c:
        a = (a + x) >>> 0;
        break;
      case 0x24:
        a = Math.imul(a, k) >>> 0;
        break;
      case 0x94:
        a %= k >>> 0;
        break;
      case 0x54:
        a = (a & k) >>> 0;
        break;
      case 0x74:
        a >>>= k;
        break;
      case 0xac:
        a = (a ^ x) >>> 0;
        break;
      case 0x05:
        at += k;
        break;
      case 0x15:
        at += a === k >>> 0 ? yes : no;
        break;
      case 0x35:
        at += a >= k >>> 0 ? yes : no;
        break;
      case 0x45:
        at += (a & k) !== 0 ? yes : no;
        break;
      case 0x06:
        return k >>> 0;
      case 0x16:
        return a;
      default:
        throw new Error(`instruction ${at} has code 0x${code.toString(16)}`);
    }
  }
}
