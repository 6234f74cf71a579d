import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import test from "ava";
import fc from "fast-check";
import { getI32, getU16, setU16, setU32, viewOf } from "../../lib/base/bytes.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import * as key from "../../lib/wire/flow-key.ts";
import * as verdicts from "../../lib/wire/verdict.ts";
import { buildFrame, MAC_HIGH, MAC_LOW, randomFrame, type TestFrame } from "./frames.ts";

const require = createRequire(import.meta.url);
interface IpPacket {
  ihl: number;
  dscp: number;
  ecn: number;
  length: number;
  identification: number;
  ttl: number;
  protocol: number;
  sourceIp: string;
  destinationIp: string;
  checksum: number;
  data: Buffer;
}
const ipPacket = require("ip-packet") as {
  decode(state: { buffer: Buffer; start: number; end: number }): IpPacket;
  encode(state: { buffer: Buffer; start: number; end: number }, packet: unknown): void;
  checksum(packet: Buffer): number;
};

const { PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } = key;
const row = new Int32Array(key.KEY_ROW_WORDS);

function decode(bytes: Uint8Array, length = bytes.length): number {
  return key.decodeFrame(viewOf(bytes), 0, length, 3, MAC_HIGH, MAC_LOW, row, 0);
}

function dotted(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join(".");
}

const tcp = () => buildFrame({ protocol: PROTOCOL_TCP, payload: new Uint8Array(12) });
const udp = () => buildFrame({ protocol: PROTOCOL_UDP, payload: new Uint8Array(12) });
const icmp = () => buildFrame({ protocol: PROTOCOL_ICMP, payload: new Uint8Array(12) });

/** What is done to a good frame, and the one verdict it must get. */
const CASES: [string, number, () => TestFrame, (frame: TestFrame) => number | undefined][] = [
  ["is a good TCP frame", verdicts.OK, tcp, () => undefined],
  ["is a good UDP frame", verdicts.OK, udp, () => undefined],
  ["is a good ICMP echo", verdicts.OK, icmp, () => undefined],
  ["carries a protocol without ports", verdicts.OK, () => buildFrame({ protocol: 47 }), () => undefined],
  ["is ARP", verdicts.PUNT_ARP, udp, ({ bytes }) => setU16(bytes, 12, 0x0806) as undefined],
  ["is an ICMP error", verdicts.PUNT_ICMP_ERROR, icmp, ({ bytes, l4 }) => void (bytes[l4] = 3)],
  ["has 13 bytes", verdicts.DROP_RUNT, udp, () => 13],
  ["has 33 bytes", verdicts.DROP_RUNT, udp, () => 33],
  ["comes from a group address", verdicts.DROP_SOURCE_MAC, udp, ({ bytes }) => void (bytes[6] |= 1)],
  ["comes from this interface itself", verdicts.DROP_LOOP, udp, ({ bytes }) => void bytes.copyWithin(6, 0, 6)],
  ["is for another station", verdicts.DROP_NOT_OURS, udp, ({ bytes }) => void (bytes[5] ^= 1)],
  ["is for a station with another first half", verdicts.DROP_NOT_OURS, udp, ({ bytes }) => void (bytes[1] ^= 4)],
  ["is broadcast", verdicts.DROP_NOT_OURS, udp, ({ bytes }) => void bytes.fill(255, 0, 6)],
  ["has a VLAN tag", verdicts.DROP_VLAN, udp, ({ bytes }) => setU16(bytes, 12, 0x8100) as undefined],
  ["has a service VLAN tag", verdicts.DROP_VLAN, udp, ({ bytes }) => setU16(bytes, 12, 0x88a8) as undefined],
  ["is IPv6", verdicts.DROP_IPV6, udp, ({ bytes }) => setU16(bytes, 12, 0x86dd) as undefined],
  ["is LLDP", verdicts.DROP_ETHERTYPE, udp, ({ bytes }) => setU16(bytes, 12, 0x88cc) as undefined],
  ["says version 6 inside", verdicts.DROP_IP_VERSION, udp, ({ bytes, l3 }) => void (bytes[l3] = 0x65)],
  ["has an IP header of 16 bytes", verdicts.DROP_IP_HEADER_LENGTH, udp, ({ bytes, l3 }) => void (bytes[l3] = 0x44)],
  ["has an IP header past its end", verdicts.DROP_IP_HEADER_LENGTH, udp, ({ bytes, l3 }) => void (bytes[l3] = 0x4f)],
  [
    "has a total length under its header",
    verdicts.DROP_IP_TOTAL_LENGTH,
    udp,
    ({ bytes, l3 }) => setU16(bytes, l3 + 2, 19) as undefined,
  ],
  ["has a total length past its end", verdicts.DROP_IP_TOTAL_LENGTH, udp, ({ bytes }) => bytes.length - 1],
  ["is a first fragment", verdicts.PUNT_FRAGMENT, udp, ({ bytes, l3 }) => setU16(bytes, l3 + 6, 0x2000) as undefined],
  ["is a last fragment", verdicts.PUNT_FRAGMENT, udp, ({ bytes, l3 }) => setU16(bytes, l3 + 6, 1) as undefined],
  ["comes from 0.0.0.1", verdicts.DROP_IP_ADDRESS, udp, ({ bytes, l3 }) => setU32(bytes, l3 + 12, 1) as undefined],
  [
    "goes to 127.0.0.1",
    verdicts.DROP_IP_ADDRESS,
    udp,
    ({ bytes, l3 }) => setU32(bytes, l3 + 16, 0x7f000001) as undefined,
  ],
  [
    "goes to 224.0.0.1",
    verdicts.DROP_IP_ADDRESS,
    udp,
    ({ bytes, l3 }) => setU32(bytes, l3 + 16, 0xe0000001) as undefined,
  ],
  [
    "goes to 255.255.255.255",
    verdicts.DROP_IP_ADDRESS,
    udp,
    ({ bytes, l3 }) => setU32(bytes, l3 + 16, -1) as undefined,
  ],
  ["has 19 bytes of TCP", verdicts.DROP_L4_HEADER, tcp, ({ bytes, l3 }) => setU16(bytes, l3 + 2, 39) as undefined],
  ["has a TCP header of 16 bytes", verdicts.DROP_L4_HEADER, tcp, ({ bytes, l4 }) => void (bytes[l4 + 12] = 0x40)],
  ["has a TCP header past its end", verdicts.DROP_L4_HEADER, tcp, ({ bytes, l4 }) => void (bytes[l4 + 12] = 0xf0)],
  ["has 7 bytes of UDP", verdicts.DROP_L4_HEADER, udp, ({ bytes, l3 }) => setU16(bytes, l3 + 2, 27) as undefined],
  ["has a UDP length of 7", verdicts.DROP_L4_HEADER, udp, ({ bytes, l4 }) => setU16(bytes, l4 + 4, 7) as undefined],
  [
    "has a UDP length past its end",
    verdicts.DROP_L4_HEADER,
    udp,
    ({ bytes, l4 }) => setU16(bytes, l4 + 4, 21) as undefined,
  ],
  ["has 7 bytes of ICMP", verdicts.DROP_L4_HEADER, icmp, ({ bytes, l3 }) => setU16(bytes, l3 + 2, 27) as undefined],
  ["is an ICMP timestamp", verdicts.DROP_ICMP_TYPE, icmp, ({ bytes, l4 }) => void (bytes[l4] = 13)],
];

for (const [what, verdict, make, change] of CASES) {
  test(`a frame that ${what} is ${verdicts.verdictName(verdict)}`, (t) => {
    const frame = make();
    const length = change(frame) ?? frame.bytes.length;
    t.is(verdicts.verdictName(decode(frame.bytes, length)), verdicts.verdictName(verdict));
    t.is(decode(frame.bytes, length), verdict);
  });
}

test("every verdict that the decoder's source names has a frame above", (t) => {
  const source = readFileSync(new URL("../../../lib/wire/flow-key.ts", import.meta.url), "utf8");
  const named = new Set(source.match(/\b(DROP|PUNT)_[A-Z0-9_]+\b/g));
  const reached = new Set(CASES.map(([, verdict]) => verdict));
  t.true(named.size > 10);
  const numbers = new Map<string, unknown>(Object.entries(verdicts));
  // Of what an ICMP error quotes, below.
  named.delete("DROP_ICMP_ERROR");
  for (const name of named) t.true(reached.has(numbers.get(name) as number), name);
});

test("a quote's key is that of the answer, from its header and 8 bytes behind it on", (t) => {
  for (const [make, protocol] of [
    [tcp, PROTOCOL_TCP],
    [udp, PROTOCOL_UDP],
    [icmp, PROTOCOL_ICMP],
    [() => buildFrame({ protocol: 47 }), 47],
  ] as const) {
    const { bytes, l3 } = make();
    t.is(decode(bytes), verdicts.OK);
    const packet = [...row.slice(0, 4)];
    const view = viewOf(bytes);
    t.is(key.decodeQuote(view, l3, l3 + 28, 5, row, 0), verdicts.OK);
    const ports = (packet[2] << 16) | (packet[2] >>> 16);
    t.deepEqual([...row.slice(0, 4)], [packet[1], packet[0], ports, (5 << 8) | protocol]);
    t.deepEqual([row[key.AT_L3], row[key.AT_L4], row[key.AT_END]], [l3, l3 + 20, l3 + 28]);
    for (let end = l3; end < l3 + 28; end++)
      t.is(key.decodeQuote(view, l3, end, 5, row, 0), verdicts.DROP_ICMP_ERROR, `${end - l3} bytes`);
    for (const [at, byte] of [
      [l3, 0x65],
      [l3, 0x44],
      [l3, 0x4f],
      [l3 + 7, 1],
    ]) {
      const broken = bytes.slice();
      broken[at] = byte;
      t.is(key.decodeQuote(viewOf(broken), l3, l3 + 28, 5, row, 0), verdicts.DROP_ICMP_ERROR);
    }
  }
  const { bytes, l3, l4 } = icmp();
  bytes[l4] = 13;
  t.is(key.decodeQuote(viewOf(bytes), l3, l3 + 28, 5, row, 0), verdicts.DROP_ICMP_ERROR, "no echo");
});

test("a padded frame ends where IP says, and its padding is no payload", (t) => {
  const { bytes } = buildFrame({ protocol: PROTOCOL_UDP, payload: Uint8Array.of(1) });
  const padded = new Uint8Array(60).fill(0x4c);
  padded.set(bytes);
  t.is(decode(padded), verdicts.OK);
  t.is(row[key.AT_END], bytes.length);
});

test("random frames decode to the fields that were put in, at any offset", (t) => {
  fc.assert(
    fc.property(fc.integer(), fc.nat(300), fc.nat(255), (seed, offset, interfaceId) => {
      const { bytes, l3, l4, payload } = randomFrame(new SeededRandom(seed), 200);
      const memory = new Uint8Array(offset + bytes.length + 50).fill(0xaa);
      memory.set(bytes, offset);
      const verdict = key.decodeFrame(viewOf(memory), offset, bytes.length, interfaceId, MAC_HIGH, MAC_LOW, row, 0);
      const protocol = bytes[l3 + 9];
      const identifier = getU16(bytes, l4 + 4);
      const ports = protocol === PROTOCOL_ICMP ? (identifier << 16) | identifier : getI32(bytes, l4);
      const isEvent = protocol === PROTOCOL_TCP && (bytes[l4 + 13] & 7) !== 0;
      t.is(verdict, verdicts.OK);
      t.deepEqual(Array.from(row.subarray(0, key.TRAITS + 1)), [
        getI32(bytes, l3 + 12),
        getI32(bytes, l3 + 16),
        ports,
        (interfaceId << 8) | protocol,
        offset + l3,
        offset + l4,
        offset + (protocol === PROTOCOL_ICMP ? l4 : payload),
        offset + bytes.length,
        (isEvent ? key.TRAIT_TCP_EVENT : 0) | (bytes[l3 + 8] < 2 ? key.TRAIT_TTL : 0),
      ]);
    }),
    { numRuns: 500 },
  );
});

test("ip-packet reads from our IPv4 headers what we put in, checksum included", (t) => {
  fc.assert(
    fc.property(fc.integer(), (seed) => {
      const { bytes, l3, l4 } = randomFrame(new SeededRandom(seed), 100);
      fc.pre(l4 - l3 === 20);
      t.is(decode(bytes), verdicts.OK);
      const buffer = Buffer.from(bytes.subarray(l3));
      const packet = ipPacket.decode({ buffer, start: 0, end: buffer.length });
      t.is(packet.sourceIp, dotted(row[key.KEY_SOURCE]));
      t.is(packet.destinationIp, dotted(row[key.KEY_DESTINATION]));
      t.is(packet.protocol, row[key.KEY_PROTOCOL] & 255);
      t.is(packet.length, row[key.AT_END] - row[key.AT_L3]);
      t.is(packet.ttl, bytes[l3 + 8]);
      t.is((packet.dscp << 2) | packet.ecn, bytes[l3 + 1]);
      t.is(packet.checksum, ipPacket.checksum(Buffer.from(buffer)));
      t.is(packet.data.length, bytes.length - l4);
    }),
    { numRuns: 300 },
  );
});

test("we read from ip-packet's headers what it put in", (t) => {
  const octet = fc.integer({ min: 1, max: 255 });
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 126 }),
      octet,
      octet,
      fc.uint8Array({ minLength: 8, maxLength: 60 }),
      (first, b, d, data) => {
        const buffer = Buffer.alloc(14 + 20 + data.length);
        setU16(buffer, 0, MAC_HIGH);
        setU32(buffer, 2, MAC_LOW);
        setU16(buffer, 12, 0x0800);
        const [sourceIp, destinationIp] = [`${first}.${b}.0.${d}`, `${first}.${d}.${b}.1`];
        ipPacket.encode(
          { buffer, start: 14, end: buffer.length },
          { version: 4, ttl: d, protocol: 50, sourceIp, destinationIp, data: Buffer.from(data) },
        );
        t.is(decode(buffer), verdicts.OK);
        t.is(dotted(row[key.KEY_SOURCE]), sourceIp);
        t.is(dotted(row[key.KEY_DESTINATION]), destinationIp);
        t.is(row[key.KEY_PROTOCOL], (3 << 8) | 50);
        t.is(row[key.KEY_PORTS], 0);
        t.is(row[key.AT_PAYLOAD], 34);
        t.is(row[key.AT_END], buffer.length);
      },
    ),
    { numRuns: 300 },
  );
});

test("a payload that begins with all eight bytes of the cookie has the trait, one that differs in any bit has not", (t) => {
  const cookie = Uint8Array.from(Buffer.from("4c48dbc6ddf6670c", "hex"));
  for (const protocol of [PROTOCOL_TCP, PROTOCOL_UDP]) {
    const { bytes, payload } = buildFrame({ protocol, flags: 0x10, payload: cookie });
    t.is(decode(bytes), verdicts.OK);
    t.is(row[key.TRAITS], key.TRAIT_COOKIE);
    for (let bit = 0; bit < 64; bit++) {
      bytes[payload + (bit >> 3)] ^= 1 << (bit & 7);
      decode(bytes);
      t.is(row[key.TRAITS], 0);
      bytes[payload + (bit >> 3)] ^= 1 << (bit & 7);
    }
    const { bytes: short } = buildFrame({ protocol, flags: 0x10, payload: cookie.subarray(0, 7) });
    const memory = new Uint8Array(short.length + 1).fill(0x0c);
    memory.set(short);
    decode(memory, short.length);
    t.is(row[key.TRAITS], 0, "the eighth byte is outside the packet");
  }
});

test("every frame cut to any shorter length is dropped, and nothing behind the cut decides how", (t) => {
  const random = new SeededRandom(5);
  for (let i = 0; i < 50; i++) {
    const { bytes } = randomFrame(random, 40);
    for (let length = 0; length < bytes.length; length++) {
      const zeros = new Uint8Array(bytes.length);
      zeros.set(bytes.subarray(0, length));
      const verdict = decode(bytes, length);
      t.true(verdict >= verdicts.DROP);
      t.is(decode(zeros, length), verdict);
    }
  }
});
