// Router advertisements (RFC 4861, 6.2): what they say and when they go, and who is answered at the link-local address.

import test from "ava";
import fc from "fast-check";
import { getI32, getU16, setU16 } from "../../lib/base/bytes.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import { MemoryPort } from "../../lib/io/memory-port.ts";
import { refusalOf } from "../../lib/io/port.ts";
import { Advertiser } from "../../lib/ipv6/advertiser.ts";
import { groupsOf } from "../../lib/ipv6/groups.ts";
import { Ipv6Port } from "../../lib/ipv6/ipv6-port.ts";
import { AddressBook } from "../../lib/table/address-book.ts";
import { fold, sumWords } from "../../lib/wire/checksum.ts";
import { CONSUMED, DROP_NOT_OURS } from "../../lib/wire/verdict.ts";
import { emptyBatch } from "../contract/port-contract.ts";

const MAC = Uint8Array.of(0x02, 0x57, 0x4d, 0x11, 0x22, 0x33);
const HOST_MAC = [2, 0, 0, 0, 0, 9];
const LINK_LOCAL = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x00, 0x57, 0x4d, 0xff, 0xfe, 0x11, 0x22, 0x33];
const HOST = [0xfe, 0x80, ...Array(13).fill(0), 9];
const NOBODY = Array(16).fill(0);
const ALL_ROUTERS = [0xff, 2, ...Array(13).fill(0), 2];
const ALL_NODES = [0xff, 2, ...Array(13).fill(0), 1];
const OWN_MAC_OPTION = [1, 1, ...MAC];

class Link {
  readonly book = new AddressBook(1);
  readonly wire = new MemoryPort({ name: "lan6", mac: MAC, mtu: 1400 });
  readonly port = new Ipv6Port(this.wire, this.book);
  readonly advertiser: Advertiser;
  readonly addresses = [
    { address: this.book.keep(0x2001_0db8, 0x0001_0000, 0, 1), length: 64 },
    { address: this.book.keep(0x2001_0db8, 0x0002_0003, 0x0405_0607, 1), length: 100 },
  ];

  constructor() {
    this.advertiser = new Advertiser(this.wire, this.book, this.addresses, new SeededRandom(3));
    this.port.advertiser = this.advertiser;
  }

  /** The verdict over a frame that comes; 0 = it goes on. */
  come(frame: Uint8Array): number {
    this.wire.inject(frame);
    const batch = emptyBatch(1);
    this.port.rx(batch);
    return refusalOf(batch.flags[0]);
  }

  /** When, up to `untilMs`, an advertisement went to all. */
  times(fromMs: number, untilMs: number): number[] {
    const times: number[] = [];
    for (let nowMs = fromMs; nowMs < untilMs; nowMs += 100) {
      this.advertiser.tick(nowMs);
      if (this.wire.sent().length > 0) times.push(nowMs);
    }
    return times;
  }
}

function message(source: number[], destination: number[], icmp: number[], change = (_: Uint8Array) => {}): Uint8Array {
  const to = destination[0] === 0xff ? [0x33, 0x33, ...destination.slice(12)] : [...MAC];
  const head = [...to, ...HOST_MAC, 0x86, 0xdd, 0x60, 0, 0, 0, icmp.length >> 8, icmp.length & 255, 58, 255];
  const frame = Uint8Array.from([...head, ...source, ...destination, ...icmp]);
  change(frame);
  setU16(frame, 56, 0);
  setU16(frame, 56, ~icmpSum(frame) & 0xffff);
  return frame;
}

const icmpSum = (frame: Uint8Array) =>
  fold(sumWords(frame, 54, frame.length, sumWords(frame, 22, 54, frame.length - 54 + 58)));
const HOST_MAC_OPTION = [1, 1, ...HOST_MAC];
const solicitation = (source = HOST, options: number[] = source === HOST ? HOST_MAC_OPTION : []) =>
  message(source, ALL_ROUTERS, [133, 0, 0, 0, 0, 0, 0, 0, ...options]);
const asking = (source = HOST, target = LINK_LOCAL, options: number[] = source === HOST ? HOST_MAC_OPTION : []) => {
  const group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, ...LINK_LOCAL.slice(13)];
  return message(source, group, [135, 0, 0, 0, 0, 0, 0, 0, ...target, ...options]);
};

test("an advertisement has our MAC address, the link's MTU and each prefix, and comes from the link-local address", (t) => {
  const link = new Link();
  link.advertiser.tick(0);
  const [frame, ...more] = link.wire.sent();
  t.is(more.length, 0);
  t.deepEqual([...frame.slice(0, 14)], [0x33, 0x33, 0, 0, 0, 1, ...MAC, 0x86, 0xdd]);
  t.deepEqual([...frame.slice(22, 54)], [...LINK_LOCAL, ...ALL_NODES]);
  t.deepEqual([getU16(frame, 18), frame[20], frame[21]], [frame.length - 54, 58, 255]);
  t.is(icmpSum(frame), 0xffff);
  t.deepEqual([...frame.slice(54, 56), ...frame.slice(58, 70)], [134, 0, 64, 0, 0x07, 0x08, ...Array(8).fill(0)]);
  const prefix = (length: number, flags: number, bytes: number[]) => [
    3,
    4,
    length,
    flags,
    0,
    0x27,
    0x8d,
    0,
    0,
    9,
    0x3a,
    0x80,
    0,
    0,
    0,
    0,
    ...bytes,
    ...Array(16 - bytes.length).fill(0),
  ];
  t.deepEqual(
    [...frame.slice(70)],
    [
      ...OWN_MAC_OPTION,
      ...[5, 1, 0, 0, 0, 0, 1400 >> 8, 1400 & 255],
      ...prefix(64, 0xc0, [0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0]),
      ...prefix(100, 0x80, [0x20, 1, 0x0d, 0xb8, 0, 2, 0, 3, 4, 5, 6, 7]),
    ],
  );
  link.advertiser.end();
  const [last] = link.wire.sent();
  t.is(getU16(last, 60), 0, "no router any more");
  t.is(icmpSum(last), 0xffff);
  t.deepEqual(link.times(0, 2_000_000), []);
});

test("three go at the start, 16 seconds apart at most, then one every 198 to 600 seconds", (t) => {
  const times = new Link().times(0, 7_200_000);
  t.is(times[0], 0);
  const gaps = times.slice(1).map((time, n) => time - times[n]);
  t.true(gaps.slice(0, 2).every((gap) => gap <= 16_100));
  t.true(
    gaps.slice(2).every((gap) => gap >= 198_000 && gap <= 600_100),
    `${gaps}`,
  );
  t.true(new Set(gaps.slice(2)).size > 5, "not in step with others");
});

test("a solicitation is answered within half a second, and any number of them once in three", (t) => {
  const link = new Link();
  link.times(0, 60_000);
  const solicited = (nowMs: number, frame = solicitation()) =>
    t.true(link.advertiser.receive(frame, 0, frame.length, nowMs));
  solicited(60_000);
  const [answered, ...more] = link.times(60_000, 70_000);
  t.true(answered <= 60_600);
  t.deepEqual(more, []);
  const times: number[] = [];
  for (let nowMs = 70_000; nowMs < 100_000; nowMs += 100) {
    for (let n = 0; n < 20; n++) solicited(nowMs, solicitation(n % 2 === 0 ? HOST : NOBODY));
    times.push(...link.times(nowMs, nowMs + 100));
  }
  t.true(times[0] < 70_600);
  const gaps = times.slice(1).map((time, n) => time - times[n]);
  t.true(gaps.length >= 7 && gaps.every((gap) => gap >= 3000 && gap < 3700), `${gaps}`);
});

test("what RFC 4861 forbids of a solicitation changes nothing", (t) => {
  const bad: [string, Uint8Array][] = [
    ["from beyond the link", message(HOST, ALL_ROUTERS, [133, 0, 0, 0, 0, 0, 0, 0], (frame) => (frame[21] = 254))],
    ["a code", message(HOST, ALL_ROUTERS, [133, 1, 0, 0, 0, 0, 0, 0])],
    ["too short", message(HOST, ALL_ROUTERS, [133, 0, 0, 0])],
    ["an option without length", solicitation(HOST, [1, 0, 0, 0, 0, 0, 0, 0])],
    ["an option beyond the end", solicitation(HOST, [1, 2, 0, 0, 0, 0, 0, 0])],
    ["a MAC address of nobody", solicitation(NOBODY, HOST_MAC_OPTION)],
    ["a wrong checksum", solicitation().map((byte, at) => (at === 57 ? byte ^ 1 : byte))],
  ];
  for (const [what, frame] of bad) {
    const link = new Link();
    link.times(0, 60_000);
    t.not(link.come(frame), CONSUMED, what);
    t.deepEqual(link.times(60_000, 70_000), [], what);
  }
});

test("who asks for the link-local address is told, who tries whether it is free with all others; no other address", (t) => {
  const link = new Link();
  t.is(link.come(asking()), CONSUMED);
  const [told] = link.wire.sent();
  t.deepEqual([...told.slice(0, 12)], [...HOST_MAC, ...MAC]);
  t.deepEqual([...told.slice(22, 54)], [...LINK_LOCAL, ...HOST]);
  t.deepEqual([told[54], told[58] >>> 5], [136, 7]);
  t.deepEqual([...told.slice(62)], [...LINK_LOCAL, 2, 1, ...MAC]);
  t.is(icmpSum(told), 0xffff);
  t.is(link.come(asking(NOBODY)), CONSUMED);
  const [all] = link.wire.sent();
  t.deepEqual([...all.slice(0, 6), ...all.slice(38, 54)], [0x33, 0x33, 0, 0, 0, 1, ...ALL_NODES]);
  t.is(all[58] >>> 5, 5, "not solicited");
  t.is(link.come(asking(HOST, HOST)), DROP_NOT_OURS);
  t.is(link.come(asking(NOBODY, LINK_LOCAL, HOST_MAC_OPTION)), DROP_NOT_OURS);
  t.deepEqual(link.wire.sent(), []);
  // In a time of the test's own, where two ask in every millisecond.
  const asked = new Link();
  const frame = asking();
  const answers = (fromMs: number, untilMs: number) => {
    let taken = 0;
    for (let n = 2 * fromMs; n < 2 * untilMs; n++) {
      if (asked.advertiser.receive(frame, 0, frame.length, Math.floor(n / 2))) taken++;
    }
    t.is(asked.wire.sent().length, taken);
    return taken;
  };
  t.is(answers(5000, 5400), 800);
  t.is(answers(5400, 6000), 200, "a thousand a second");
  t.is(answers(6000, 6500), 1000);
  t.is(answers(6500, 7000), 0);
  t.is(answers(7000, 7001), 2);
  const plain = new Ipv6Port(link.wire, link.book);
  link.wire.inject(asking());
  const batch = emptyBatch(1);
  plain.rx(batch);
  t.is(refusalOf(batch.flags[0]), DROP_NOT_OURS, "a router that does not advertise");
});

test("whatever comes is taken or not, and nothing is sent that is not whole", (t) => {
  const seeds = [solicitation(), solicitation(NOBODY), asking(), asking(NOBODY)];
  fc.assert(
    fc.property(
      fc.constantFrom(...seeds),
      fc.array(fc.tuple(fc.nat(100), fc.nat(255)), { maxLength: 5 }),
      fc.nat(100),
      (seed, changes, cut) => {
        const link = new Link();
        const frame = seed.slice(0, Math.max(1, seed.length - (cut > 50 ? 0 : cut)));
        for (const [at, byte] of changes) if (at < frame.length) frame[at] = byte;
        link.come(frame);
        for (const sent of link.wire.sent()) t.is(icmpSum(sent), 0xffff);
      },
    ),
  );
});

test("the groups of a router that advertises have its link-local address's", (t) => {
  const link = new Link();
  const { book } = link;
  const addresses = link.addresses.map(({ address }) => address);
  const groups = Buffer.from(groupsOf(addresses, book, MAC))
    .toString("hex")
    .match(/.{12}/g);
  t.deepEqual(groups, ["333300000001", "333300000002", "3333ff000001", "3333ff112233"]);
  t.is(getI32(groupsOf(addresses, book), 12), 0x3333_ff00);
});

test("who asks where we are is answered after 24 days as before: a clock in 32 bits goes round then", (t) => {
  const link = new Link();
  try {
    for (let second = -1200; second < 1200; second++) {
      performance.now = () => 2 ** 31 + 1000 * second;
      t.is(link.come(asking()), CONSUMED);
      t.is(link.wire.sent().length, 1, `second ${second}`);
    }
  } finally {
    Reflect.deleteProperty(performance, "now");
  }
});
