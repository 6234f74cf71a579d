// BFD packets by the figure of RFC 5880, 4.1 and the rules of 6.8.6; then against scapy and tshark, which share nothing
// with us.

import test from "ava";
import { getU16, setU16, setU32 } from "../../lib/base/bytes.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import * as bfd from "../../lib/wire/bfd.ts";
import { MetadataWriter, ParsedMetadata, parseMetadata } from "../../lib/wire/metadata.ts";
import * as attributes from "../../lib/wire/metadata-attributes.ts";
import * as verdict from "../../lib/wire/verdict.ts";
import { randomBytes } from "./frames.ts";
import { bytesOf, hexOf } from "./vectors.ts";

const { BfdPacket, readBfd, writeBfd, addBfdAttributes, checkBfd } = bfd;
const { OK } = verdict;

/** Up, diagnostic 3, Poll and C; multiplier 5; 50 ms, 100 ms, 1 s. Written by hand from the figure. */
const CONTROL = "23e80518 01020304 f5060708 0000c350 000186a0 000f4240";

/** What the metadata of `everything` is, by hand: base header, then twelve attributes, all in the payload section. */
const METADATA = `4c48dbc6 ddf6670c 100c0074
  8101 0004 65617374
  8102 000c 00000002 fedcba9876543210
  8103 0007 04 c0a80001 0500
  8104 0007 04 cb007109 9c40
  8105 0004 ffffffff
  8106 0004 00000005
  8107 0008 0000000207d12345
  8108 0002 05dc
  8109 0004 00000004
  810a 0004 fffffffe
  810b 0004 00000007
  810d 0008 fffffffd 0017 0abc`;

function everything(): bfd.BfdPacket {
  return Object.assign(new BfdPacket(), {
    ...{ state: bfd.BFD_UP, diagnostic: 3, poll: true, controlPlaneIndependent: true, detectMult: 5 },
    ...{ myDiscriminator: 0x01020304, yourDiscriminator: 0xf5060708 },
    ...{ desiredMinTxUs: 50_000, requiredMinRxUs: 100_000, requiredMinEchoRxUs: 1_000_000 },
    ...{ hasMetadata: true, routerName: "east", nodeId: 2, bootId: 0xfedcba9876543210n },
    ...{ ownAddress: 0xc0a80001 | 0, ownPort: 1280, observedAddress: 0xcb007109 | 0, observedPort: 40_000 },
    ...{ txSequence: 0xffffffff, rxSequence: 5, rxCount: 4, echoTimeUs: 0x207d12345 },
    ...{ probeSize: 1500, probe: 0xfffffffe, probeAnswer: 7 },
    ...{ firewallAnswer: 23, firewallBurst: 0xfffffffd, firewallHeard: 0xabc },
  });
}

function bytesOfPacket(packet: bfd.BfdPacket): Uint8Array {
  const bytes = new Uint8Array(512).fill(0xaa);
  let end = writeBfd(bytes, 0, packet);
  if (packet.hasMetadata) {
    const writer = new MetadataWriter(new Uint8Array(400));
    writer.begin();
    addBfdAttributes(writer, packet);
    const length = writer.end();
    bytes.set(writer.buffer.subarray(0, length), end);
    end += length;
  }
  return bytes.slice(0, end);
}

const parsed = new ParsedMetadata();

test("a packet is written as the figures say and read back field by field, at any offset", (t) => {
  const expected = hexOf(bytesOf(CONTROL + METADATA));
  t.is(hexOf(bytesOfPacket(everything())), expected);
  const embedded = new Uint8Array(200).fill(0x55);
  embedded.set(bytesOf(expected), 7);
  const packet = new BfdPacket();
  t.is(readBfd(embedded, 7, 7 + expected.length / 2, parsed, packet), OK);
  t.deepEqual(packet, everything());
});

test("what a packet does not say is not left over from the packet before", (t) => {
  const packet = everything();
  const bare = Object.assign(new BfdPacket(), { detectMult: 3, myDiscriminator: 1 });
  const bytes = bytesOfPacket(bare);
  t.is(bytes.length, 24);
  t.is(readBfd(bytes, 0, bytes.length, null, packet), OK);
  t.deepEqual(packet, bare);
  const least = { ...{ hasMetadata: true, routerName: "a" }, detectMult: 3, myDiscriminator: 1 };
  const said = bytesOfPacket(Object.assign(new BfdPacket(), least));
  const again = everything();
  t.is(readBfd(said, 0, said.length, parsed, again), OK);
  t.deepEqual(again, Object.assign(new BfdPacket(), least));
});

test("every rule of reception has its own reason", (t) => {
  const good = bytesOf(CONTROL);
  t.is(checkBfd(good, 0, good.length), OK);
  for (const [what, at, value, reason] of [
    ["version 0", 0, 0x03, verdict.DROP_BFD_VERSION],
    ["version 2", 0, 0x43, verdict.DROP_BFD_VERSION],
    ["length below the header", 3, 23, verdict.DROP_BFD_LENGTH],
    ["length past the end", 3, 25, verdict.DROP_BFD_LENGTH],
    ["multiplier 0", 2, 0, verdict.DROP_BFD_MULTIPLIER],
    ["multipoint", 1, 0xe9, verdict.DROP_BFD_MULTIPOINT],
    ["authentication", 1, 0xec, verdict.DROP_BFD_AUTHENTICATION],
  ] as const) {
    const bad = Uint8Array.from(good);
    bad[at] = value;
    t.is(checkBfd(bad, 0, bad.length), reason, what);
  }
  const nobody = Uint8Array.from(good);
  setU32(nobody, bfd.BFD_MY_DISCRIMINATOR, 0);
  t.is(checkBfd(nobody, 0, 24), verdict.DROP_BFD_DISCRIMINATOR);
  for (const [state, reason] of [
    [bfd.BFD_ADMIN_DOWN, OK],
    [bfd.BFD_DOWN, OK],
    [bfd.BFD_INIT, verdict.DROP_BFD_DISCRIMINATOR],
    [bfd.BFD_UP, verdict.DROP_BFD_DISCRIMINATOR],
  ]) {
    const first = Uint8Array.from(good);
    setU32(first, bfd.BFD_YOUR_DISCRIMINATOR, 0);
    bfd.setBfdStateAndFlags(first, 0, state, 0);
    t.is(checkBfd(first, 0, 24), reason, bfd.BFD_STATE_NAMES[state]);
  }
  t.is(bfd.checkBfdTtl(255), OK);
  for (const ttl of [0, 1, 64, 254]) t.is(bfd.checkBfdTtl(ttl), verdict.DROP_BFD_TTL);
});

test("a packet cut anywhere is refused, and so is one whose metadata lacks what every packet has", (t) => {
  const whole = bytesOfPacket(everything());
  const packet = new BfdPacket();
  for (let end = 0; end < whole.length; end++) {
    const reason = readBfd(whole, 0, end, parsed, packet);
    if (end < 24) t.is(reason, verdict.DROP_BFD_LENGTH);
    else if (end < 32) t.is(reason, verdict.DROP_BFD_METADATA, `${end}`);
    else t.is(reason, verdict.DROP_METADATA_MALFORMED, `${end}`);
  }
  for (const type of [attributes.ATTRIBUTE_ROUTER_NAME, attributes.ATTRIBUTE_NODE, attributes.ATTRIBUTE_TX_SEQUENCE]) {
    const without = Uint8Array.from(whole);
    for (let at = 36; at < without.length; at += 4 + getU16(without, at + 2)) {
      if (getU16(without, at) === type) setU16(without, at, 0xff00);
    }
    t.is(readBfd(without, 0, without.length, parsed, packet), verdict.DROP_BFD_METADATA, `${type}`);
  }
});

test("metadata is refused where plain RFC 5881 is spoken, other bytes behind the packet are nobody's", (t) => {
  const whole = bytesOfPacket(everything());
  const packet = new BfdPacket();
  t.is(readBfd(whole, 0, whole.length, null, packet), verdict.DROP_BFD_METADATA_UNEXPECTED);
  whole[24] ^= 1;
  t.is(readBfd(whole, 0, whole.length, null, packet), OK);
  t.false(packet.hasMetadata);
});

test("an address of IPv6 is parsed and not taken for one of IPv4", (t) => {
  const writer = new MetadataWriter(new Uint8Array(200));
  writer.begin();
  addBfdAttributes(writer, Object.assign(everything(), { ownPort: 0 }));
  const endpoint = attributes.findAttribute(attributes.ATTRIBUTE_OWN_ADDRESS, 19)!;
  writer.bytes(endpoint.type, endpoint.encode({ address: "2001:db8::1", port: 1280 }), 0, 19);
  t.is(parseMetadata(writer.buffer, 0, writer.end(), parsed), OK);
  const packet = new BfdPacket();
  t.is(bfd.readBfdMetadata(writer.buffer, parsed, packet), OK);
  t.is(packet.ownPort, 0);
  t.is(packet.observedPort, 40_000);
});

test("100,000 damaged packets are read or refused, nothing is thrown, and nothing past the end is read", (t) => {
  const random = new SeededRandom(31);
  const whole = bytesOfPacket(everything());
  const inZeros = new Uint8Array(256);
  const inOnes = new Uint8Array(256);
  const [left, right] = [new BfdPacket(), new BfdPacket()];
  let ok = 0;
  for (let round = 0; round < 100_000; round++) {
    const bytes = round % 8 === 0 ? randomBytes(random, random.below(160)) : Uint8Array.from(whole);
    for (let n = random.below(3); n > 0; n--) bytes[random.below(bytes.length)] = random.below(256);
    const end = random.below(4) === 0 ? random.below(bytes.length + 1) : bytes.length;
    inZeros.fill(0);
    inOnes.fill(0xff);
    inZeros.set(bytes.subarray(0, end), 16);
    inOnes.set(bytes.subarray(0, end), 16);
    const reason = readBfd(inZeros, 16, 16 + end, parsed, left);
    if (reason !== readBfd(inOnes, 16, 16 + end, parsed, right)) t.fail(hexOf(bytes.subarray(0, end)));
    if (reason !== OK) continue;
    ok++;
    if (hexOf(bytesOfPacket(left)) !== hexOf(bytesOfPacket(right))) t.fail(hexOf(bytes.subarray(0, end)));
  }
  t.true(ok > 20_000 && ok < 90_000, `${ok}`);
});
