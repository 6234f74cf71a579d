// A whole router whose interfaces have IPv6: hostile bytes from hosts and in a peer's name, through the ports' translation and
// behind it. The frames are twins of those that the other targets begin with, so a change to one is a change to its twin,
// checksums right; beside them neighbor discovery, errors, fragments, extension headers. Bit 6 of the first record: the
// address book is full from then on.

import { SeededRandom } from "../../../lib/base/random.ts";
import { parseConfig } from "../../../lib/control/config.ts";
import { FrameBatch } from "../../../lib/io/port.ts";
import { Ipv6Port } from "../../../lib/ipv6/ipv6-port.ts";
import { AddressBook, addressBook } from "../../../lib/table/address-book.ts";
import { inIpv4Form, ipv6Twin, isIpv6 } from "../../simulate/ipv6-twin.ts";
import { bytesOf, hexOf } from "../../wire/vectors.ts";
import { changeFrame } from "../forms.ts";
import { FilledPort, fuzzed, unaccounted } from "../fuzzed.ts";
import type { Target } from "../fuzzer.ts";
import { joined } from "../mutate.ts";
import { originals } from "../originals.ts";
import {
  changeRecords,
  type FrameRecord,
  flagsOf,
  interfaceOf,
  pauseOf,
  readRecords,
  TARGET_BIT,
  WAN_BIT,
  writeRecords,
} from "../records.ts";
import { lastEnd } from "./engine.ts";

const FRAME_MAX = 1600;
const L3 = 14;
const L4 = 54;
const FRAGMENT = 44;
const ICMPV6 = 58;
/** The addresses of fuzzed.ts's router, as twins have them. */
const CONFIG = `
authority: acme
router: west
sessions: { max: 64 }
limits: { hold-frames: 16, neighbors: 32, slow-path-per-turn: 64, waypoint-pairs-per-path: 64, fabric-chains: 4 }
interfaces:
  - { name: lan0, device: eth1, addresses: ["2001:db8:d246::a01:1/120"], gateway: "2001:db8:d246::a01:fe", tenant: corp }
  - { name: wan0, device: eth0, addresses: ["2001:db8:d246::c612:1/120"] }
tenants: [{ name: corp }, { name: eng }]
services:
  - { name: all, addresses: ["::/0"], access: [corp, eng] }
  - { name: app, addresses: ["2001:db8:d246::a01:0/120", "2001:db8:d246::a02:200/120"], access: [corp, eng] }
  - { name: far, addresses: ["2001:db8:d246::a03:0/120"], access: [corp, eng] }
service-routes:
  - { service: all, peer: east }
  - { service: app, interface: lan0 }
  - { service: far, peer: north }
peers:
  - { name: east, paths: [{ interface: wan0, address: "2001:db8:d246::c612:2" }] }
  - { name: north, paths: [{ interface: wan0, address: "2001:db8:d246::c612:3" }] }
`;
const { config, problems } = parseConfig(CONFIG, "fuzz.yaml");
if (config === null) throw new Error(JSON.stringify(problems));
/** Names that a router of this configuration may make beside those of frames: neighbors' groups and the like. */
const NAMES_BESIDE = 8;

const u16 = (bytes: Uint8Array, at: number) => (bytes[at] << 8) | bytes[at + 1];
function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

function onesSum(bytes: Uint8Array, from: number, to: number): number {
  let sum = 0;
  for (let at = from; at < to; at += 2) sum += at + 1 < to ? u16(bytes, at) : bytes[at] << 8;
  while (sum > 0xffff) sum = Math.floor(sum / 0x10000) + (sum % 0x10000);
  return sum;
}

/** The sum over pseudo header and message: 0xffff where the checksum is right. */
function fullSum(frame: Uint8Array, l4: number, protocol: number): number {
  const end = L3 + 40 + u16(frame, L3 + 4);
  let sum = onesSum(frame, L3 + 8, L3 + 40) + protocol + (end - l4) + onesSum(frame, l4, end);
  while (sum > 0xffff) sum = (sum >>> 16) + (sum & 0xffff);
  return sum;
}

/** Whether the checksum of a whole packet without extension headers is right; others have none to be judged. */
function isRight(frame: Uint8Array): boolean {
  const protocol = frame[L3 + 6];
  if (![6, 17, ICMPV6].includes(protocol)) return true;
  const end = L3 + 40 + u16(frame, L3 + 4);
  if (frame.length < end || end < L4 + 8) return false;
  if (protocol === 17 && (u16(frame, L4 + 6) === 0 || u16(frame, L4 + 4) !== end - L4)) return false;
  return fullSum(frame, L4, protocol) === 0xffff;
}

/** The length and, of ICMPv6, the checksum made right for all the bytes there are, in place. */
function repair(frame: Uint8Array): Uint8Array {
  if (frame.length < L4) return frame;
  putU16(frame, L3 + 4, frame.length - L4);
  if (frame[L3 + 6] !== ICMPV6 || frame.length < L4 + 4) return frame;
  putU16(frame, L4 + 2, 0);
  putU16(frame, L4 + 2, ~fullSum(frame, L4, ICMPV6) & 0xffff);
  return frame;
}

const PREFIX = "20010db8d24600000000000000000000".slice(0, 24);
const ROUTER = `${PREFIX}0a010001`;
const HOST = `${PREFIX}0a010002`;
const WEST = `${PREFIX}c6120001`;
const EAST = `${PREFIX}c6120002`;

function message(source: string, destination: string, hopLimit: number, hex: string, to = "02574d000001"): Uint8Array {
  const head = `${to} 020000000101 86dd 60000000 0000 3a ${hopLimit.toString(16).padStart(2, "0")}`;
  return repair(bytesOf(`${head} ${source} ${destination} ${hex}`));
}

const twins = originals(new SeededRandom(1)).flatMap(({ at, frame }): FrameRecord[] => {
  const twin = ipv6Twin(frame);
  return twin === undefined || twin.length > FRAME_MAX ? [] : [{ how: at, frame: twin }];
});
const group = (address: string) => `ff0200000000000000000001ff${address.slice(26)}`;
const others: FrameRecord[] = [
  [0, message(HOST, group(ROUTER), 255, `87000000 00000000 ${ROUTER} 0101 020000000101`, "3333ff010001")],
  [0, message(HOST, ROUTER, 255, `88000000 60000000 ${HOST} 0201 020000000101`)],
  [0, message("0".repeat(32), group(ROUTER), 255, `87000000 00000000 ${ROUTER}`, "3333ff010001")],
  [1, message(EAST, WEST, 255, `88000000 60000000 ${EAST} 0201 020000000102`)],
  [0, message(HOST, "ff020000000000000000000000000002", 255, "85000000 00000000 0101 020000000101", "333300000002")],
  [0, message(HOST, "ff020000000000000000000000000001", 255, "86000000 40000e10 00000000 00000000", "333300000001")],
  [0, message(HOST, ROUTER, 64, "80000000 00070001 616263")],
].map(([how, frame]) => ({ how: how as number, frame: frame as Uint8Array }));
/** Errors about what the router sent between others and to them. */
const errors = twins.slice(0, 40).flatMap(({ how, frame }, n): FrameRecord[] => {
  const quote = frame.slice(L3, L3 + 100);
  // As it came back: who sent it was this side's.
  quote.set(frame.subarray(L3 + 24, L3 + 40), 8);
  quote.set(frame.subarray(L3 + 8, L3 + 24), 24);
  const [type, code] = [
    [1, 4],
    [2, 0],
    [3, 0],
    [4, 1],
  ][n % 4];
  const ends = how === 0 ? [HOST, ROUTER] : [EAST, WEST];
  const hex = `${Buffer.from([type, code, 0, 0, 0, 0, 5, 0]).toString("hex")} ${Buffer.from(quote).toString("hex")}`;
  return [{ how, frame: message(ends[0], ends[1], 64, hex) }];
});
const records = [...twins, ...others, ...errors];

/** An extension header in front of what there is, or the packet as a piece of one. */
function extended(random: SeededRandom, frame: Uint8Array): Uint8Array {
  const next = [0, 43, FRAGMENT, 60, 60, FRAGMENT][random.below(6)];
  const units = next === FRAGMENT ? 0 : random.below(3);
  const header = Uint8Array.from({ length: 8 + 8 * units }, () => (random.below(3) === 0 ? random.below(256) : 0));
  header[0] = frame[L3 + 6];
  header[1] = units;
  if (next === FRAGMENT) header.set([0, random.below(4) * 8 + random.below(2), 0, 0, 0, random.below(3)], 2);
  const made = joined(frame.subarray(0, L4), header, frame.subarray(L4));
  made[L3 + 6] = next;
  putU16(made, L3 + 4, made.length - L4);
  return made;
}

/** A change after which the packet is whole: to its twin, to its header, to what is in front of the transport's. */
function changeIpv6(random: SeededRandom, frame: Uint8Array): Uint8Array {
  if (!isIpv6(frame)) return frame;
  const copy = frame.slice();
  switch (random.below(6)) {
    case 0:
      return extended(random, copy);
    case 1:
      copy[[14, 15, 16, 17, 20, 21][random.below(6)]] ^= 1 << random.below(8);
      return repair(copy);
    case 2:
      // An address: somebody's of here, or nobody's.
      copy.set(
        bytesOf([ROUTER, HOST, WEST, EAST, "f".repeat(32), "0".repeat(32)][random.below(6)]),
        L3 + 8 + 16 * random.below(2),
      );
      return repair(copy);
    case 3:
      if (copy[L3 + 6] === ICMPV6 && copy.length > L4 + 1)
        copy[L4 + random.below(Math.min(60, copy.length - L4))] = random.below(256);
      return repair(copy);
    default:
      return ipv6Twin(changeFrame(random, inIpv4Form(copy))) ?? copy;
  }
}

/** Whatever leaves is a whole IPv6 packet with no extension header but a fragment's. */
function checkSent(frames: readonly Uint8Array[], areRight: boolean): void {
  for (const frame of frames) {
    const wrong = (what: string) => new Error(`a frame left ${what}: ${hexOf(frame)}`);
    if (!isIpv6(frame) || frame[L3] >>> 4 !== 6) throw wrong("that is not IPv6");
    if (L3 + 40 + u16(frame, L3 + 4) !== frame.length) throw wrong("of another length than it says");
    if (frame[L3 + 7] === 0) throw wrong("with hop limit 0");
    if (frame[L3 + 8] === 0xff) throw wrong("from a group");
    if ([0, 43, 60].includes(frame[L3 + 6])) throw wrong("with an extension header");
    if (frame[L3 + 6] === FRAGMENT && frame.length < L4 + 8) throw wrong("that is no piece");
    if (areRight && frame[L3 + 6] !== FRAGMENT && !isRight(frame)) throw wrong("whose checksum went wrong");
  }
}

function run(input: readonly FrameRecord[]): string {
  const world = fuzzed(0, true, { config: config!, wallMs: 0 });
  const { router, clock, ports } = world;
  const { sessions, counters } = router;
  let before = counters.publish(true);
  const { limit, count } = addressBook;
  if (input.length > 0 && (input[0].how & TARGET_BIT) !== 0) addressBook.limit = 1;
  let areRight = true;
  try {
    for (const record of input) {
      clock.advance(pauseOf(record));
      while (router.engine.turn(clock.nowMs()) > 0);
      before = counters.publish(true);
      const { frame } = record;
      world.arrive(interfaceOf(record), frame, flagsOf(record));
      if (flagsOf(record) !== 0 || !isIpv6(frame) || !isRight(frame) || frame[L3 + 6] === FRAGMENT) areRight = false;
      if ([0, 43, 60].includes(frame[L3 + 6])) areRight = false;
      for (const port of ports) checkSent(port.sent.splice(0), areRight);
    }
    const most = addressBook.limit === 1 ? 0 : 2 * input.length + NAMES_BESIDE;
    if (addressBook.count > count + most)
      throw new Error(`${addressBook.count - count} names for ${input.length} frames`);
  } finally {
    addressBook.limit = limit;
  }
  const after = counters.publish(true);
  if (unaccounted(after) !== 0) throw new Error(`the books are wrong by ${unaccounted(after)}`);
  if (sessions.table.count > config!.sessions.max) throw new Error("more sessions than there may be");
  if (sessions.table.count !== sessions.openedTotal - sessions.closedTotal) throw new Error("a session is lost");
  for (const { frame } of input) outward(frame);
  return input.length === 0 ? "nothing" : lastEnd(before, after);
}

const book = new AddressBook(1);
const wire = new FilledPort({ name: "wire", mac: new Uint8Array(6), mtu: 1500, linkUp: true }, 0);
const port = new Ipv6Port(wire, book);
const batch = new FrameBatch(new Uint8Array(1 << 17), 1);

/** The way out, with any bytes in the router's form: each frame is sent, well formed, or counted. */
function outward(wish: Uint8Array): void {
  const frame = inIpv4Form(wish);
  batch.bytes.fill(0xa5, 0, frame.length + 256);
  batch.bytes.set(frame, 128);
  batch.offset[0] = 128;
  batch.length[0] = frame.length;
  batch.flags[0] = 0;
  batch.segmentSize[0] = 0;
  batch.count = 1;
  const before = port.stats().txErrors;
  const sent = port.tx(batch, 0, 1);
  const lost = port.stats().txErrors - before;
  if (sent + lost !== 1 || wire.sent.length !== sent) throw new Error(`${sent} sent, ${lost} counted as lost`);
  wire.sent.length = 0;
}

const tokens = ["86dd", "3a", "2c", "2b", "00", "3c", "ff02", "fe80", "0000000000000000"].map(bytesOf);

export const target: Target = {
  runs: 300,
  lengthMax: 8000,
  seeds: [
    ...records.filter((_, i) => i % 5 === 0).map((record) => writeRecords([record])),
    ...records.flatMap((_, i) => (i % 8 === 0 ? [writeRecords(records.slice(i, i + 8))] : [])),
    writeRecords(records.slice(0, 8).map(({ how, frame }) => ({ how: how | TARGET_BIT | WAN_BIT, frame }))),
  ],
  tokens,
  change(random, input) {
    if (random.below(2) === 0) return changeRecords(random, input, records, tokens);
    const changed = readRecords(input);
    const record = changed[random.below(changed.length)];
    if (record === undefined) return input;
    record.frame = changeIpv6(random, record.frame);
    return writeRecords(changed);
  },
  run: (input) => run(readRecords(input)),
};
