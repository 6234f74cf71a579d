// Frames for benches: UDP sessions from clients behind one gateway to servers behind another, in a fixed mix of sizes.
// A frame differs from the next only in its first 44 bytes, kept as a row of 32-bit words that begins 2 bytes before
// the Ethernet header, where the IPv4 header is aligned; payloads are zeros. bench-port.ts lends them.

import type { SeededRandom } from "../lib/base/random.ts";
import { writeEthernet } from "../lib/wire/ethernet.ts";
import { ETHERNET_HEADER, ETHERTYPE_IPV4, PROTOCOL_ICMP, PROTOCOL_UDP } from "../lib/wire/flow-key.ts";
import { ICMP_ECHO, writeIcmp } from "../lib/wire/icmp.ts";
import { DONT_FRAGMENT, IPV4_HEADER, writeIpv4 } from "../lib/wire/ipv4.ts";
import { completeChecksum } from "../lib/wire/offload.ts";
import { writeUdp } from "../lib/wire/udp.ts";

/** Frame lengths without FCS. IMIX: seven of 64, four of 576, one of 1,500 bytes on the wire's IP layer, as usual. */
export const SMALL = [60];
export const LARGE = [1400];
export const IMIX = [64, 64, 64, 64, 64, 64, 64, 590, 590, 590, 590, 1514];

export const ROW_WORDS = 11;
/** The bytes of a row in front of the frame. */
export const ROW_LEAD = 2;

export const CLIENT_FIRST = 0x0a000000;
export const SERVER_FIRST = 0x0a800000;
export const CLIENTS = 1 << 16;
export const SERVERS = 251;

export interface Traffic {
  readonly sessions: number;
  /** Row s is the head of session s's frame. */
  readonly heads: Int32Array;
  readonly length: Int32Array;
  /** The sessions whose packets come, one after the other, again and again. */
  order: Int32Array;
}

export interface TrafficOptions {
  readonly sessions: number;
  /** The number of the first of them: traffics that do not overlap are different sessions. */
  readonly first?: number;
  readonly lengths: readonly number[];
  /** The receiving port's MAC address: first 2 bytes, last 4. */
  readonly macHigh: number;
  readonly macLow: number;
  /** From servers to clients: the replies of the same sessions. */
  readonly reverse?: boolean;
  readonly protocol?: number;
}

/** One frame per session; packets come in sequence. */
export function makeTraffic(options: TrafficOptions): Traffic {
  const { sessions, first = 0, lengths, macHigh, macLow, reverse = false, protocol = PROTOCOL_UDP } = options;
  const heads = new Int32Array(sessions * ROW_WORDS);
  const length = new Int32Array(sessions);
  const words = new Int32Array(512);
  const bytes = new Uint8Array(words.buffer);
  for (let s = 0; s < sessions; s++) {
    length[s] = lengths[s % lengths.length];
    const number = first + s;
    const client = CLIENT_FIRST + 2 + (number % CLIENTS);
    const server = SERVER_FIRST + 2 + (number % SERVERS);
    const clientPort = 1024 + Math.floor(number / CLIENTS);
    bytes.fill(0);
    writeEthernet(bytes, ROW_LEAD, macHigh, macLow, 0x0200, 1, ETHERTYPE_IPV4);
    const packet = length[s] - ETHERNET_HEADER;
    const [from, to] = reverse ? [server, client] : [client, server];
    const l4 = writeIpv4(bytes, ROW_LEAD + ETHERNET_HEADER, 0, packet, s, DONT_FRAGMENT, 64, protocol, from, to);
    if (protocol === PROTOCOL_ICMP) {
      writeIcmp(bytes, l4, ICMP_ECHO, 0, ((s & 0xffff) << 16) | 1, ROW_LEAD + length[s]);
    } else {
      const [fromPort, toPort] = reverse ? [5000, clientPort] : [clientPort, 5000];
      writeUdp(bytes, l4, fromPort, toPort, packet - IPV4_HEADER);
      completeChecksum(bytes, ROW_LEAD);
    }
    heads.set(words.subarray(0, ROW_WORDS), s * ROW_WORDS);
  }
  return { sessions, heads, length, order: sequence(sessions) };
}

export function sequence(sessions: number): Int32Array {
  return new Int32Array(sessions).map((_, s) => s);
}

/** Every session once in random order (Fisher and Yates). */
export function shuffled(sessions: number, random: SeededRandom): Int32Array {
  const order = sequence(sessions);
  for (let i = sessions - 1; i > 0; i--) {
    const j = random.below(i + 1);
    const held = order[i];
    order[i] = order[j];
    order[j] = held;
  }
  return order;
}
