// What the router tells its link of its groups (RFC 3810): byte by byte, when, and in answer to what; scapy makes the queries
// and reads the reports.

import test from "ava";
import fc from "fast-check";
import { getU16, setU16 } from "../../lib/base/bytes.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import { MemoryPort } from "../../lib/io/memory-port.ts";
import { type PortInfo, refusalOf } from "../../lib/io/port.ts";
import { listenedGroups } from "../../lib/ipv6/groups.ts";
import { Ipv6Port } from "../../lib/ipv6/ipv6-port.ts";
import { Listener, TICK_MS } from "../../lib/ipv6/listener.ts";
import { AddressBook } from "../../lib/table/address-book.ts";
import { fold, sumWords } from "../../lib/wire/checksum.ts";
import { delayOfCode } from "../../lib/wire/mld.ts";
import {
  CONSUMED,
  DROP_IP_ADDRESS,
  DROP_LISTENER_QUERY,
  DROP_NOT_OURS,
  OK,
  verdictName,
} from "../../lib/wire/verdict.ts";
import { emptyBatch } from "../contract/port-contract.ts";
import { bytesOf, hexOf } from "../wire/vectors.ts";
import { askScapy, withScapy } from "./scapy.ts";

const MAC = Uint8Array.of(0x02, 0x57, 0x4d, 0x11, 0x22, 0x33);
const LINK_LOCAL = "fe80::57:4dff:fe11:2233";
const GROUPS = ["ff02::2", "ff02::1:ff00:1", "ff02::1:ff00:aa"];
const SHORT = [{ tail: 1 }, { tail: 0xaa }];

class Wire extends MemoryPort {
  linkUp = true;

  override info(): PortInfo {
    return { ...super.info(), linkUp: this.linkUp };
  }
}

class Link {
  readonly book = new AddressBook(1);
  readonly wire = new Wire({ name: "lan6", mac: MAC });
  readonly port = new Ipv6Port(this.wire, this.book);
  readonly listener: Listener;

  constructor(tails = SHORT.map(({ tail }) => tail), seed = 3, saysBye = true) {
    const addresses = tails.map((tail) => this.book.keep(0x2001_0db8, 0x0001_0000, 0, tail));
    this.listener = new Listener(this.wire, listenedGroups(addresses, this.book), new SeededRandom(seed), saysBye);
    this.port.listener = this.listener;
  }

  /** The verdict over a frame that comes; 0 = it goes on. */
  come(frame: Uint8Array): number {
    this.wire.inject(frame);
    const batch = emptyBatch(1);
    this.port.rx(batch);
    return refusalOf(batch.flags[0]);
  }

  hear(frame: Uint8Array, nowMs: number): number {
    return this.listener.receive(frame, 0, frame.length, nowMs);
  }

  /** What is said, and when, up to `untilMs`. */
  said(fromMs: number, untilMs: number): { ms: number; frame: Uint8Array }[] {
    const said: { ms: number; frame: Uint8Array }[] = [];
    for (let ms = fromMs; ms < untilMs; ms += TICK_MS) {
      this.listener.tick(ms);
      for (const frame of this.wire.sent()) said.push({ ms, frame });
    }
    return said;
  }
}

/** Past what is said when the link comes up. */
function quiet(...options: ConstructorParameters<typeof Link>): Link {
  const link = new Link(...options);
  link.said(0, 10_000);
  return link;
}

const QUERY = `
  333300000001 020000000009 86dd
  60000000 0024 00 01 fe800000000000000000000000000009 ff020000000000000000000000000001
  3a 00 0502 0000 0100
  82 00 0000 03e8 0000 00000000000000000000000000000000 02 7d 0000`;

/** The general query of a second, by hand, as `change` has it, and its checksum again. */
function query(change: (frame: Uint8Array) => void = () => {}, cut = 0): Uint8Array {
  const frame = bytesOf(QUERY);
  const shorter = frame.slice(0, frame.length - cut);
  setU16(shorter, 18, shorter.length - 54);
  change(shorter);
  setU16(shorter, 64, 0);
  setU16(shorter, 64, ~icmpSum(shorter) & 0xffff);
  return shorter;
}

const icmpSum = (frame: Uint8Array): number =>
  fold(sumWords(frame, 62, frame.length, sumWords(frame, 22, 54, frame.length - 62 + 58)));

const typesIn = (frame: Uint8Array): number[] =>
  Array.from({ length: getU16(frame, 68) }, (_, n) => frame[70 + 20 * n]);

test("a report is one of RFC 3810, byte by byte", (t) => {
  const link = new Link();
  link.listener.tick(0);
  const [frame, ...more] = link.wire.sent();
  t.is(more.length, 0);
  const checksum = hexOf(frame.slice(64, 66));
  t.is(
    hexOf(frame),
    hexOf(
      bytesOf(`
    333300000016 02574d112233 86dd
    60000000 004c 00 01 fe80000000000000 00574dfffe112233 ff020000000000000000000000000016
    3a 00 0502 0000 0100
    8f 00 ${checksum} 0000 0003
    04 00 0000 ff020000000000000000000000000002
    04 00 0000 ff0200000000000000000001ff000001
    04 00 0000 ff0200000000000000000001ff0000aa`),
    ),
  );
  t.is(icmpSum(frame), 0xffff);
});

withScapy("scapy reads in our reports what was meant, and makes the same bytes of that, in both versions", (t) => {
  const { queries } = askScapy([]);
  const link = new Link();
  const frames = link.said(0, 2000).map(({ frame }) => frame);
  link.hear(queries.get("own group")!, 2000);
  frames.push(...link.said(2000, 4000).map(({ frame }) => frame));
  link.listener.end(4000);
  frames.push(...link.wire.sent());
  link.hear(queries.get("general, version 1")!, 4000);
  frames.push(...link.said(4000, 6000).map(({ frame }) => frame));
  link.listener.end(6000);
  frames.push(...link.wire.sent());
  const { read } = askScapy(frames);
  t.deepEqual(
    read.map(({ again }) => again),
    frames.map(hexOf),
  );
  t.true(read.every(({ source, hopLimit, alert }) => source === LINK_LOCAL && hopLimit === 1 && alert.join() === "0"));
  const two = (types: number[], groups = GROUPS) => ({
    kind: "report 2",
    mac: "33:33:00:00:00:16",
    destination: "ff02::16",
    types,
    groups,
  });
  const one = (group: string, mac: string) => ({
    kind: "report 1",
    mac: `33:33:${mac}`,
    destination: group,
    types: undefined,
    groups: [group],
  });
  const done = (group: string) => ({ ...one(group, "00:00:00:02"), kind: "done 1", destination: "ff02::2" });
  t.deepEqual(
    read.map(({ kind, mac, destination, types, groups }) => ({ kind, mac, destination, types, groups })),
    [
      two([4]),
      two([4]),
      two([2], ["ff02::1:ff00:1"]),
      two([3]),
      one("ff02::2", "00:00:00:02"),
      one("ff02::1:ff00:1", "ff:00:00:01"),
      one("ff02::1:ff00:aa", "ff:00:00:aa"),
      ...GROUPS.map(done),
    ],
  );
  t.true(read.slice(0, 4).every(({ count, groups, sources }) => count === groups.length && sources === 0));
});

test("when the link comes up it is said twice within a second, and again when it comes back; while it is down nothing", (t) => {
  const again: number[] = [];
  for (let seed = 1; seed <= 40; seed++) {
    const link = new Link(undefined, seed);
    const times = link.said(0, 60_000).map(({ ms }) => ms);
    t.is(times.length, 2);
    t.is(times[0], 0);
    again.push(times[1]);
    link.wire.linkUp = false;
    t.is(link.hear(query(), 60_000), CONSUMED);
    t.deepEqual(link.said(60_000, 80_000), []);
    link.listener.end(80_000);
    t.deepEqual(link.wire.sent(), [], "nor that we leave");
    link.wire.linkUp = true;
    const back = link.said(80_000, 90_000);
    t.deepEqual(
      back.map(({ frame }) => typesIn(frame)),
      [
        [4, 4, 4],
        [4, 4, 4],
      ],
    );
    t.is(back[0].ms, 80_000);
    t.true(back[1].ms - back[0].ms <= 1000);
  }
  t.true(again.every((ms) => ms > 0 && ms <= 1000) && new Set(again).size > 2, `${again}`);
});

withScapy("a query is answered within its delay, at another time each, with all groups or the one", (t) => {
  const { queries } = askScapy([]);
  const cases: [string, number, number][] = [
    ["general", 10_000, 3],
    ["general, in a hurry", 1000, 3],
    ["general, now", TICK_MS, 3],
    ["general, with an exponent", 149_824, 3],
    ["own group", 1000, 1],
    ["own group, of two sources", 1000, 1],
    ["to our MAC address", 1000, 3],
  ];
  for (const [what, maxMs, groups] of cases) {
    const times: number[] = [];
    for (let seed = 1; seed <= 40; seed++) {
      const link = quiet(undefined, seed);
      t.is(link.hear(queries.get(what)!, 10_000), CONSUMED, what);
      const said = link.said(10_000, 200_000);
      t.deepEqual(
        said.map(({ frame }) => typesIn(frame)),
        [Array(groups).fill(2)],
        what,
      );
      times.push(said[0].ms - 10_000);
    }
    t.true(
      times.every((ms) => ms <= maxMs),
      `${what}: ${times}`,
    );
    if (maxMs > 400) t.true(new Set(times).size > 2, `${what}: ${times}`);
    if (maxMs > 100_000) t.true(Math.max(...times) > 50_000, what);
  }
  const link = quiet();
  t.is(link.hear(queries.get("another group")!, 10_000), CONSUMED);
  t.deepEqual(link.said(10_000, 30_000), []);
});

withScapy(
  "queries at whatever rate wait for one answer, and a question about one group adds to that about another",
  (t) => {
    const { queries } = askScapy([]);
    const link = quiet();
    const said: { ms: number; frame: Uint8Array }[] = [];
    for (let ms = 10_000; ms < 20_000; ms += TICK_MS) {
      for (const frame of queries.values()) if (frame.length > 86) for (let n = 0; n < 50; n++) link.hear(frame, ms);
      said.push(...link.said(ms, ms + TICK_MS));
    }
    t.true(said.length > 10 && said.length <= 10_000 / TICK_MS, `${said.length} answers to 20,000 queries`);
    t.true(said.every(({ frame }) => typesIn(frame).length === 3));
  },
);

test("a querier of version 1 is answered in version 1 until none has been heard for 250 seconds and its delay", (t) => {
  const link = quiet();
  const older = query(undefined, 4);
  t.is(link.hear(older, 10_000), CONSUMED);
  const said = link.said(10_000, 100_000);
  t.deepEqual(
    said.map(({ frame }) => frame[62]),
    [131, 131, 131],
  );
  t.true(said[2].ms <= 11_000);
  const until = 10_000 + 250_000 + 1000;
  t.is(link.hear(query(), until - 1000), CONSUMED);
  t.deepEqual(
    link.said(until - 1000, until).map(({ frame }) => frame[62]),
    [131, 131, 131],
    "whatever the query's version",
  );
  t.is(link.hear(query(), until), CONSUMED);
  t.deepEqual(
    link.said(until, until + 2000).map(({ frame }) => frame[62]),
    [143],
  );
  // What was to be said in version 2 is not said twice.
  const begins = new Link();
  begins.listener.tick(0);
  begins.wire.sent();
  t.is(begins.hear(query(), 0), CONSUMED);
  begins.hear(older, 1);
  t.deepEqual(
    begins.said(1, 10_000).map(({ frame }) => frame[62]),
    [131, 131, 131],
  );
});

test("at the end it is said that we listen no more; not where the kernel may listen too", (t) => {
  const link = quiet();
  link.hear(query(), 10_000);
  link.listener.end(10_000);
  t.deepEqual(link.wire.sent().map(typesIn), [[3, 3, 3]]);
  t.deepEqual(link.said(10_000, 30_000), [], "and nothing any more");
  const shared = quiet(undefined, 3, false);
  shared.listener.end(10_000);
  t.deepEqual(shared.wire.sent(), []);
});

test("more groups than one report holds are said in several, each once", (t) => {
  const link = new Link(Array.from({ length: 150 }, (_, n) => n + 1));
  link.listener.tick(0);
  const frames = link.wire.sent();
  t.true(frames.every((frame) => frame.length <= 14 + 1280 && icmpSum(frame) === 0xffff));
  const groups = frames.flatMap((frame) => typesIn(frame).map((_, n) => hexOf(frame.slice(74 + 20 * n, 90 + 20 * n))));
  t.deepEqual([frames.length, groups.length, new Set(groups).size], [3, 151, 151]);
});

test("what RFC 3810 forbids of a query is counted as that and not answered; what is for others remains theirs", (t) => {
  const bad: [string, Uint8Array, number][] = [
    ["from beyond the link", query((frame) => (frame[21] = 2)), DROP_LISTENER_QUERY],
    ["from a global address", query((frame) => frame.set([0x20, 1], 22)), DROP_LISTENER_QUERY],
    ["from nobody", query((frame) => frame.fill(0, 22, 38)), DROP_LISTENER_QUERY],
    ["without a router alert", query((frame) => frame.set([1, 4, 0, 0, 0, 0], 56)), DROP_LISTENER_QUERY],
    ["an alert for RSVP", query((frame) => (frame[59] = 1)), DROP_LISTENER_QUERY],
    ["a wrong checksum", query().map((byte, at) => (at === 65 ? byte ^ 1 : byte)), DROP_LISTENER_QUERY],
    ["cut short", query(undefined, 8), DROP_LISTENER_QUERY],
    ["of no version", query(undefined, 2), DROP_LISTENER_QUERY],
    ["a source beyond the end", query((frame) => (frame[89] = 1)), DROP_LISTENER_QUERY],
    ["a group that is none", query((frame) => (frame[70] = 0x20)), DROP_LISTENER_QUERY],
    [
      "to another group",
      query((frame) => {
        frame[5] = 5;
        frame[53] = 5;
      }),
      DROP_NOT_OURS,
    ],
    ["to another station", query((frame) => frame.set([2, 0, 0, 0, 0, 7])), DROP_IP_ADDRESS],
    ["a report", query((frame) => (frame[62] = 131)), DROP_NOT_OURS],
  ];
  for (const [what, frame, verdict] of bad) {
    const link = quiet();
    t.is(verdictName(link.come(frame)), verdictName(verdict), what);
    t.deepEqual(link.said(10_000, 30_000), [], what);
  }
  const link = quiet();
  t.is(link.come(query()), CONSUMED);
  t.is(
    link.come(query((frame) => frame.set(MAC))),
    CONSUMED,
    "for whom a query to one station is, its IP address does not say",
  );
  link.port.listener = null;
  t.is(link.come(query()), DROP_NOT_OURS, "a port where nobody listens");
});

test("whatever comes is taken or not, and nothing is said that is not whole", (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(100), fc.nat(255)), { maxLength: 5 }),
      fc.nat(100),
      fc.boolean(),
      (changes, cut, isRight) => {
        const link = quiet();
        const change = (frame: Uint8Array) => {
          for (const [at, byte] of changes) if (at < frame.length) frame[at] = byte;
        };
        let frame: Uint8Array;
        if (isRight) frame = query(change);
        else change((frame = query().slice(0, Math.max(1, 90 - (cut > 50 ? 0 : cut)))));
        const verdict = link.hear(frame, 10_000);
        t.true([OK, CONSUMED, DROP_LISTENER_QUERY].includes(verdict));
        link.come(frame);
        const said = link.said(10_000, 20_000);
        if (verdict !== CONSUMED) t.deepEqual(said, []);
        for (const { frame } of said) t.is(icmpSum(frame), 0xffff);
      },
    ),
  );
});

test("a maximum delay is as RFC 3810, 5.1.3 has it", (t) => {
  t.deepEqual(
    [0, 1, 0x7fff, 0x8000, 0x8fff, 0x9000, 0xffff].map(delayOfCode),
    [0, 1, 32_767, 32_768, 65_528, 65_536, 8_387_584],
  );
});
