// Frames for the tests of wire/: built with the floor's own writers, at random from a seed. Referees judge the result.

import { setU16 } from "../../lib/base/bytes.ts";
import type { SeededRandom } from "../../lib/base/random.ts";
import { ipv4HeaderChecksum } from "../../lib/wire/checksum.ts";
import { writeEthernet } from "../../lib/wire/ethernet.ts";
import { ETHERNET_HEADER, ETHERTYPE_IPV4, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } from "../../lib/wire/flow-key.ts";
import { ICMP_ECHO, ICMP_HEADER, writeIcmp } from "../../lib/wire/icmp.ts";
import { writeIpv4 } from "../../lib/wire/ipv4.ts";
import { completeChecksum } from "../../lib/wire/offload.ts";
import { TCP_HEADER, writeTcp } from "../../lib/wire/tcp.ts";
import { UDP_HEADER, writeUdp } from "../../lib/wire/udp.ts";

export const MAC_HIGH = 0x0200;
export const MAC_LOW = 0x00000001;

/** A frame, and where its parts are. */
export interface TestFrame {
  bytes: Uint8Array;
  l3: number;
  l4: number;
  payload: number;
}

export interface FrameWish {
  protocol: number;
  source?: number;
  destination?: number;
  sourcePort?: number;
  destinationPort?: number;
  /** A multiple of 4 bytes each. */
  ipOptions?: Uint8Array;
  tcpOptions?: Uint8Array;
  sequence?: number;
  acknowledgment?: number;
  flags?: number;
  tos?: number;
  ttl?: number;
  identification?: number;
  window?: number;
  payload?: Uint8Array;
}

const NOTHING = new Uint8Array(0);

/** A frame to MAC_HIGH:MAC_LOW with right checksums. ICMP is an echo whose identifier is `sourcePort`. */
export function buildFrame(wish: FrameWish): TestFrame {
  const { protocol, ipOptions = NOTHING, tcpOptions = NOTHING, payload = NOTHING } = wish;
  const l4HeaderLength =
    protocol === PROTOCOL_TCP
      ? TCP_HEADER + tcpOptions.length
      : protocol === PROTOCOL_UDP || protocol === PROTOCOL_ICMP
        ? 8
        : 0;
  const l3 = ETHERNET_HEADER;
  const l4 = l3 + 20 + ipOptions.length;
  const payloadAt = l4 + l4HeaderLength;
  const end = payloadAt + payload.length;
  const bytes = new Uint8Array(end);
  const { sourcePort = 50000, destinationPort = 5000 } = wish;
  writeEthernet(bytes, 0, MAC_HIGH, MAC_LOW, 0x0200, 0x00000002, ETHERTYPE_IPV4);
  const { tos = 0, identification = 0x1234, ttl = 64, source = 0x0a01010a, destination = 0x0a020214 } = wish;
  writeIpv4(bytes, l3, tos, end - l3, identification, 0x4000, ttl, protocol, source, destination);
  bytes.set(ipOptions, l3 + 20);
  bytes[l3] = 0x45 + ipOptions.length / 4;
  setU16(bytes, l3 + 10, ipv4HeaderChecksum(bytes, l3));
  bytes.set(payload, payloadAt);
  if (protocol === PROTOCOL_TCP) {
    const { sequence = 1, acknowledgment = 2, flags = 0x18, window = 500 } = wish;
    writeTcp(bytes, l4, sourcePort, destinationPort, sequence, acknowledgment, flags, window);
    bytes[l4 + 12] = ((TCP_HEADER + tcpOptions.length) >>> 2) << 4;
    bytes.set(tcpOptions, l4 + TCP_HEADER);
  } else if (protocol === PROTOCOL_UDP) {
    writeUdp(bytes, l4, sourcePort, destinationPort, UDP_HEADER + payload.length);
  } else if (protocol === PROTOCOL_ICMP) {
    writeIcmp(bytes, l4, ICMP_ECHO, 0, (sourcePort << 16) | 1, l4 + ICMP_HEADER + payload.length);
  }
  completeChecksum(bytes, 0);
  return { bytes, l3, l4, payload: payloadAt };
}

export function randomBytes(random: SeededRandom, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = random.below(256);
  return bytes;
}

/** NOPs closed by an end-of-list, the same in IP and TCP: any length that is a multiple of 4. */
function nopOptions(words: number): Uint8Array {
  const bytes = new Uint8Array(4 * words).fill(1);
  if (words > 0) bytes[bytes.length - 1] = 0;
  return bytes;
}

const PROTOCOLS = [PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_ICMP];

/** Random in everything that may vary in a well-formed frame. */
export function randomFrame(random: SeededRandom, payloadMax = 1400): TestFrame {
  return buildFrame({
    protocol: PROTOCOLS[random.below(3)],
    source: ((random.below(126 - 1) + 1) << 24) | random.below(1 << 24),
    destination: ((random.below(95) + 128) << 24) | random.below(1 << 24),
    sourcePort: random.below(0x10000),
    destinationPort: random.below(0x10000),
    ipOptions: nopOptions(random.below(4) === 0 ? random.below(11) : 0),
    tcpOptions: nopOptions(random.below(11)),
    sequence: random.nextI32(),
    acknowledgment: random.nextI32(),
    flags: random.below(256),
    tos: random.below(256),
    ttl: random.below(256),
    identification: random.below(0x10000),
    window: random.below(0x10000),
    payload: randomBytes(random, random.below(3) === 0 ? random.below(4) : random.below(payloadMax)),
  });
}
