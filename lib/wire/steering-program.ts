// The classic BPF program that tells the kernel which worker a frame goes to (packet(7), PACKET_FANOUT_CBPF). The same
// decision as shard.ts takes:
//
//   neither IPv4 nor IPv6 (ARP)                            worker 0
//   ICMPv6 of neighbors, routers and listeners             worker 0
//   TCP or UDP to a waypoint address, both ports >= 16384  shard of the even port
//   other TCP or UDP, not a piece of an IP fragment        hash of addresses and ports
//   everything else                                        hash of the addresses
//
// and the shard modulo the number of workers. A frame cut too short for its headers goes to worker 0, which drops it. Of an IPv6
// address the XOR of its words is hashed. What is behind extension headers is not looked at, but for ICMPv6 behind hop-by-hop
// options, as listeners send it (RFC 2710, 3): such TCP and UDP is everything else, and goes on as strays.
// The kernel runs the program with the data pointer at the network header, so offset 0 is the first byte of IPv4 or IPv6.

import { ETHERTYPE_IPV4, PROTOCOL_TCP, PROTOCOL_UDP } from "./flow-key.ts";
import {
  ETHERTYPE_IPV6,
  HOP_BY_HOP,
  IPV6_DESTINATION,
  IPV6_HEADER,
  IPV6_NEXT_HEADER,
  IPV6_SOURCE,
  PROTOCOL_ICMPV6,
} from "./ipv6.ts";
import {
  FIRST_FACTOR,
  MIX_SHIFT,
  PORT_FACTOR,
  SECOND_FACTOR,
  SHARD_SHIFT,
  SHARDS,
  WAYPOINT_PORT_FIRST,
} from "./shard.ts";

/** Bytes of a struct sock_filter: code 16 bits, jump if true 8, jump if false 8, k 32, in the machine's order. */
export const INSTRUCTION_BYTES = 8;
/** The kernel's BPF_MAXINSNS. */
const INSTRUCTIONS_MAX = 4096;

// Codes of linux/bpf_common.h and linux/filter.h.
const LD_WORD = 0x20; // A = 32 bits at k
const LD_HALF = 0x28; // A = 16 bits at k
const LD_BYTE = 0x30; // A = 8 bits at k
const LD_HALF_AT_X = 0x48; // A = 16 bits at X + k
const LD_BYTE_AT_X = 0x50; // A = 8 bits at X + k
const LD_MEMORY = 0x60; // A = M[k]
const LDX_MEMORY = 0x61; // X = M[k]
const LDX_HEADER_LENGTH = 0xb1; // X = 4 * (byte at k & 15)
const STORE = 0x02; // M[k] = A
const ADD_X = 0x0c;
const MULTIPLY = 0x24;
const MODULO = 0x94;
const AND = 0x54;
const XOR_X = 0xac;
const SHIFT_RIGHT = 0x74;
const A_TO_X = 0x07;
const JUMP = 0x05;
const JUMP_EQUAL = 0x15;
const JUMP_NOT_LESS = 0x35;
const JUMP_ANY_BIT = 0x45;
const RETURN = 0x06;
const RETURN_A = 0x16;

/** SKF_AD_OFF + SKF_AD_PROTOCOL: the EtherType. */
const ETHERTYPE = -0x1000;

// Types of ICMPv6 that never leave a link: listeners, routers, neighbors (RFC 2710, RFC 4861), and listeners again (RFC 3810).
const OF_THE_LINK_FIRST = 130;
const OF_THE_LINK_LAST = 137;
const LISTENER_REPORT = 143;

// Scratch memory.
const SOURCE_PORT = 0;
const DESTINATION_PORT = 1;
const MIXED = 2;
const SOURCE_WORD = 3;
const DESTINATION_WORD = 4;

/** Where a jump goes: a label, or null for the next instruction. */
type Target = string | null;

class Assembler {
  readonly #code: { code: number; k: number; yes: Target; no: Target }[] = [];
  readonly #labels = new Map<string, number>();

  put(code: number, k = 0): this {
    this.#code.push({ code, k, yes: null, no: null });
    return this;
  }

  /** A conditional jump: forward, at most 255 instructions. */
  branch(code: number, k: number, yes: Target, no: Target): this {
    this.#code.push({ code, k, yes, no });
    return this;
  }

  /** An unconditional jump forward. */
  jump(to: string): this {
    this.#code.push({ code: JUMP, k: 0, yes: to, no: null });
    return this;
  }

  label(name: string): this {
    this.#labels.set(name, this.#code.length);
    return this;
  }

  /** The program's bytes. Throws RangeError where it is longer than the kernel takes, or a jump too far. */
  bytes(): Uint8Array {
    if (this.#code.length > INSTRUCTIONS_MAX) throw new RangeError("too many waypoint addresses on one interface");
    const bytes = new Uint8Array(this.#code.length * INSTRUCTION_BYTES);
    const halves = new Uint16Array(bytes.buffer);
    const words = new Int32Array(bytes.buffer);
    this.#code.forEach(({ code, k, yes, no }, at) => {
      const distance = (to: Target) => (to === null ? 0 : (this.#labels.get(to) ?? -1) - at - 1);
      halves[at * 4] = code;
      words[at * 2 + 1] = code === JUMP ? distance(yes) : k;
      if (code === JUMP) return;
      const [far, near] = [distance(yes), distance(no)];
      if (far < 0 || near < 0 || far > 255 || near > 255) throw new RangeError("a jump of the steering program");
      bytes[at * INSTRUCTION_BYTES + 2] = far;
      bytes[at * INSTRUCTION_BYTES + 3] = near;
    });
    return bytes;
  }
}

/**
 * The program for an interface: `waypoints` are the router's own addresses of the peer paths on it, one word or four each. Returns an
 * array of struct sock_filter, at most 4096; 94 and two for each address, for IPv6 ten more for each 96 bits that they begin with.
 */
export function steeringProgram(workers: number, waypoints: readonly (readonly number[])[]): Uint8Array {
  const program = new Assembler();
  program.put(LD_WORD, ETHERTYPE).branch(JUMP_EQUAL, ETHERTYPE_IPV4, null, "not IPv4");
  program.put(LD_WORD, 12).put(STORE, SOURCE_WORD).put(LD_WORD, 16).put(STORE, DESTINATION_WORD);
  // More-fragments or an offset: no ports to be found.
  program.put(LD_HALF, 6).branch(JUMP_ANY_BIT, 0x3fff, "portless", null);
  program.put(LD_BYTE, 9).branch(JUMP_EQUAL, PROTOCOL_TCP, "ports", null);
  program.branch(JUMP_EQUAL, PROTOCOL_UDP, "ports", "portless");

  program.label("not IPv4").branch(JUMP_EQUAL, ETHERTYPE_IPV6, null, "first");
  putHashWord(program, IPV6_SOURCE, SOURCE_WORD);
  putHashWord(program, IPV6_DESTINATION, DESTINATION_WORD);
  program.put(LD_BYTE, IPV6_NEXT_HEADER).branch(JUMP_EQUAL, PROTOCOL_TCP, "to IPv6 ports", null);
  program.branch(JUMP_EQUAL, PROTOCOL_UDP, "to IPv6 ports", null).branch(JUMP_EQUAL, PROTOCOL_ICMPV6, "ICMPv6", null);
  program.branch(JUMP_EQUAL, HOP_BY_HOP, null, "portless");
  program.put(LD_BYTE, IPV6_HEADER).branch(JUMP_EQUAL, PROTOCOL_ICMPV6, null, "portless");
  program
    .put(LD_BYTE, IPV6_HEADER + 1)
    .put(MULTIPLY, 8)
    .put(A_TO_X);
  program.put(LD_BYTE_AT_X, IPV6_HEADER + 8).jump("type");
  program.label("ICMPv6").put(LD_BYTE, IPV6_HEADER);
  program.label("type").branch(JUMP_EQUAL, LISTENER_REPORT, "first", null);
  program.branch(JUMP_NOT_LESS, OF_THE_LINK_FIRST, null, "portless");
  program.branch(JUMP_NOT_LESS, OF_THE_LINK_LAST + 1, "portless", "first");
  program.label("to IPv6 ports").jump("IPv6 ports");

  // The kernel checks what memory is read as if a return went on with what stands behind it.
  program.label("first").jump("worker 0");
  program.label("portless").put(AND, 0).jump("hash");

  program.label("ports").put(LDX_HEADER_LENGTH, 0);
  program.put(LD_HALF_AT_X, 0).put(STORE, SOURCE_PORT);
  program.put(LD_HALF_AT_X, 2).put(STORE, DESTINATION_PORT);
  program.put(LD_MEMORY, DESTINATION_WORD);
  putEqualTo(program, waypoints.filter((words) => words.length === 1).flat());
  program.jump("plain");

  program.label("IPv6 ports");
  program.put(LD_HALF, IPV6_HEADER).put(STORE, SOURCE_PORT);
  program.put(LD_HALF, IPV6_HEADER + 2).put(STORE, DESTINATION_PORT);
  putIpv6Waypoints(
    program,
    waypoints.filter((words) => words.length === 4),
  );
  program.jump("plain");

  program.label("waypoint").put(LD_MEMORY, SOURCE_PORT).branch(JUMP_NOT_LESS, WAYPOINT_PORT_FIRST, null, "plain");
  program.put(LD_MEMORY, DESTINATION_PORT).branch(JUMP_NOT_LESS, WAYPOINT_PORT_FIRST, null, "plain");
  program.put(LD_MEMORY, SOURCE_PORT).branch(JUMP_ANY_BIT, 1, null, "even");
  program.put(LD_MEMORY, DESTINATION_PORT);
  program
    .label("even")
    .put(SHIFT_RIGHT, 1)
    .put(AND, SHARDS - 1)
    .jump("worker");

  program.label("plain").put(LDX_MEMORY, SOURCE_PORT).put(LD_MEMORY, DESTINATION_PORT).put(ADD_X);
  program.label("hash").put(MULTIPLY, PORT_FACTOR);
  program.put(LDX_MEMORY, SOURCE_WORD).put(ADD_X).put(LDX_MEMORY, DESTINATION_WORD).put(ADD_X);
  program.put(MULTIPLY, FIRST_FACTOR).put(STORE, MIXED);
  program.put(SHIFT_RIGHT, MIX_SHIFT).put(LDX_MEMORY, MIXED).put(XOR_X);
  program.put(MULTIPLY, SECOND_FACTOR).put(SHIFT_RIGHT, SHARD_SHIFT);
  program.label("worker").put(MODULO, workers).put(RETURN_A);
  program.label("worker 0").put(RETURN, 0);
  return program.bytes();
}

/** The XOR of the four words at `offset`, into a word of memory. */
function putHashWord(program: Assembler, offset: number, into: number): void {
  program.put(LD_WORD, offset);
  for (let n = 1; n < 4; n++) {
    program
      .put(A_TO_X)
      .put(LD_WORD, offset + 4 * n)
      .put(XOR_X);
  }
  program.put(STORE, into);
}

/** To "waypoint" where A is one of these words. */
function putEqualTo(program: Assembler, words: readonly number[], of = ""): void {
  for (const word of new Set(words))
    program.branch(JUMP_EQUAL, word, null, `not ${of}${word}`).jump("waypoint").label(`not ${of}${word}`);
}

/** To "waypoint" where the destination is one of these addresses: those with the same first three words are looked at together. */
function putIpv6Waypoints(program: Assembler, addresses: readonly (readonly number[])[]): void {
  const groups = new Map<string, number[]>();
  for (const [w0, w1, w2, last] of addresses) {
    const first = `${w0} ${w1} ${w2}`;
    groups.set(first, [...(groups.get(first) ?? []), last]);
  }
  for (const [first, lasts] of groups) {
    for (const [n, word] of first.split(" ").map(Number).entries()) {
      program.put(LD_WORD, IPV6_DESTINATION + 4 * n).branch(JUMP_EQUAL, word, `${n} of ${first}`, null);
      program.jump(`behind ${first}`).label(`${n} of ${first}`);
    }
    program.put(LD_WORD, IPV6_DESTINATION + 12);
    putEqualTo(program, lasts, `${first} `);
    program.label(`behind ${first}`);
  }
}
