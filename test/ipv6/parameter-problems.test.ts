// What a host is told of its extension headers (RFC 4443, 3.4; RFC 8200, 4): each case, who is never told, and how often.

import test from "ava";
import { getI32, getU16 } from "../../lib/base/bytes.ts";
import { MemoryPort } from "../../lib/io/memory-port.ts";
import { refusalOf } from "../../lib/io/port.ts";
import { Ipv6Port } from "../../lib/ipv6/ipv6-port.ts";
import { ParameterProblems } from "../../lib/ipv6/parameter-problems.ts";
import { AddressBook } from "../../lib/table/address-book.ts";
import { fold, sumWords } from "../../lib/wire/checksum.ts";
import { HeaderWalk, walkHeaders } from "../../lib/wire/ipv6.ts";
import { DROP_IPV6_EXTENSION, DROP_IPV6_OPTION, verdictName } from "../../lib/wire/verdict.ts";
import { emptyBatch } from "../contract/port-contract.ts";
import { hexOf } from "../wire/vectors.ts";
import { askScapy, withScapy } from "./scapy.ts";

const MAC = [0x02, 0x57, 0x4d, 0x11, 0x22, 0x33];
const HOST_MAC = [2, 0, 0, 0, 0, 9];
const HOST = [0x20, 1, 0x0d, 0xb8, 0, 1, ...Array(9).fill(0), 9];
const FAR = [0x20, 1, 0x0d, 0xb8, 0, 2, ...Array(9).fill(0), 2];
const OWN = [0x20, 1, 0x0d, 0xb8, 0, 1, ...Array(9).fill(0), 1];
const OTHER_OWN = [0x20, 1, 0x0d, 0xb8, 0, 7, ...Array(9).fill(0), 1];
const GROUP = [0xff, 2, ...Array(13).fill(0), 1];
const UDP = [0, 1, 0, 2, 0, 9, 0xab, 0xcd, 7];
const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const OPTIONS = 60;

class Door {
  readonly book = new AddressBook(10);
  readonly wire = new MemoryPort({ name: "lan6", mac: Uint8Array.from(MAC) });
  readonly port = new Ipv6Port(this.wire, this.book);
  readonly problems = new ParameterProblems(this.wire, this.book, [
    { address: this.book.keep(0x2001_0db8, 0x0007_0000, 0, 1), length: 64 },
    { address: this.book.keep(0x2001_0db8, 0x0001_0000, 0, 1), length: 64 },
  ]);

  constructor() {
    this.port.problems = this.problems;
  }

  /** The reason why a frame is refused, and what is sent for it. */
  come(frame: Uint8Array): [string, Uint8Array[]] {
    this.wire.inject(frame);
    const batch = emptyBatch(1);
    this.port.rx(batch);
    return [verdictName(refusalOf(batch.flags[0])), this.wire.sent()];
  }
}

/** From the host to `destination`: the first header, those in front of it, and what is behind. */
function frameOf(first: number, headers: number[], behind = UDP, source = HOST, destination = FAR): Uint8Array {
  const length = headers.length + behind.length;
  const to = destination[0] === 0xff ? [0x33, 0x33, ...destination.slice(12)] : MAC;
  const head = [...to, ...HOST_MAC, 0x86, 0xdd, 0x60, 0, 0, 0, length >> 8, length & 255, first, 64];
  return Uint8Array.from([...head, ...source, ...destination, ...headers, ...behind]);
}

const OPTION = verdictName(DROP_IPV6_OPTION);
const EXTENSION = verdictName(DROP_IPV6_EXTENSION);
const AS_ASKED = [17, 0, 0x8a, 4, 0, 0, 0, 0];
const UNLESS_GROUP = [17, 0, 0xc9, 4, 0, 0, 0, 0];

/** What is wrong, its reason, its code, and where. */
const TOLD: [string, Uint8Array, string, number, number][] = [
  ["an option that asks for it", frameOf(OPTIONS, AS_ASKED), OPTION, 2, 42],
  ["one that asks for it unless to a group", frameOf(OPTIONS, UNLESS_GROUP), OPTION, 2, 42],
  ["the first of two", frameOf(OPTIONS, [17, 1, 1, 0, 0xc9, 4, 0, 0, 0, 0, 0x8a, 4, 0, 0, 0, 0]), OPTION, 2, 44],
  ["in the second header", frameOf(HOP_BY_HOP, [60, 0, 1, 4, 0, 0, 0, 0, ...AS_ASKED]), OPTION, 2, 50],
  ["to a group, an option that asks for it even so", frameOf(OPTIONS, AS_ASKED, UDP, HOST, GROUP), OPTION, 2, 42],
  ["in front of a first piece", frameOf(OPTIONS, [44, 0, 0x8a, 4, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 1]), OPTION, 2, 42],
  ["in front of an echo", frameOf(OPTIONS, [58, ...AS_ASKED.slice(1)], [128, 0, 0, 0, 0, 0, 0, 0]), OPTION, 2, 42],
  ["a source route, type 0", frameOf(ROUTING, [17, 2, 0, 1, ...Array(20).fill(0)]), EXTENSION, 0, 42],
  ["a source route of another type", frameOf(ROUTING, [17, 0, 4, 2, 0, 0, 0, 0]), EXTENSION, 0, 42],
  ["hop by hop, not first", frameOf(OPTIONS, [0, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0]), EXTENSION, 1, 40],
  ["longer than fits", frameOf(OPTIONS, AS_ASKED, [...UDP, ...Array(1400).fill(7)]), OPTION, 2, 42],
  ["from the link alone", frameOf(OPTIONS, AS_ASKED, UDP, [0xfe, 0x80, ...HOST.slice(2)]), OPTION, 2, 42],
];

const change = (frame: Uint8Array, ...changes: [number, number][]): Uint8Array => {
  for (const [at, byte] of changes) frame[at] = byte;
  return frame;
};
const asAsked = (...changes: [number, number][]) => change(frameOf(OPTIONS, AS_ASKED), ...changes);
const inIcmp = (type: number) => frameOf(OPTIONS, [58, ...AS_ASKED.slice(1)], [type, 0, 0, 0, 0, 0, 0, 0]);

const NOT_TOLD: [string, Uint8Array, string][] = [
  ["an option that says silently", frameOf(OPTIONS, [17, 0, 0x5e, 4, 0, 0, 0, 0]), OPTION],
  ["that first", frameOf(OPTIONS, [17, 1, 0x5e, 4, 0, 0, 0, 0, 0x8a, 4, 0, 0, 0, 0, 1, 0]), OPTION],
  ["to a group, unless to a group", frameOf(OPTIONS, UNLESS_GROUP, UDP, HOST, GROUP), OPTION],
  [
    "to a group, a source route whose type looks like an option that asks",
    frameOf(ROUTING, [17, 0, 0x84, 2, 0, 0, 0, 0], UDP, HOST, GROUP),
    EXTENSION,
  ],
  [
    "to a group's MAC address, a source route",
    change(frameOf(ROUTING, [17, 0, 4, 2, 0, 0, 0, 0]), [0, 0x33]),
    EXTENSION,
  ],
  ["in front of an ICMP error", inIcmp(1), OPTION],
  ["in front of a message that might be one", inIcmp(127), OPTION],
  ["in front of a redirect", inIcmp(137), OPTION],
  ["in front of no ICMP message", frameOf(OPTIONS, [58, ...AS_ASKED.slice(1)], []), OPTION],
  ["a source route in front of an ICMP error", frameOf(ROUTING, [58, 0, 4, 2, 0, 0, 0, 0], [3, 0, 0, 0]), EXTENSION],
  ["in front of a later piece", frameOf(OPTIONS, [44, 0, 0x8a, 4, 0, 0, 0, 0, 17, 0, 0, 9, 0, 0, 0, 1]), OPTION],
  [
    "in front of a header that does not fit",
    frameOf(OPTIONS, [60, 0, 0x8a, 4, 0, 0, 0, 0, 17, 9, 0, 0, 0, 0, 0, 0]),
    OPTION,
  ],
  ["from a group", asAsked([22, 0xff]), OPTION],
  ["from nobody", frameOf(OPTIONS, AS_ASKED, UDP, Array(16).fill(0)), OPTION],
  ["from loopback", frameOf(OPTIONS, AS_ASKED, UDP, [...Array(15).fill(0), 1]), OPTION],
  ["from IPv4 in IPv6", frameOf(OPTIONS, AS_ASKED, UDP, [...Array(10).fill(0), 255, 255, 10, 1, 0, 2]), OPTION],
  ["from a group's MAC address", asAsked([6, 3]), OPTION],
  ["for another station", asAsked([5, 0x34]), OPTION],
  ["an option that does not fit", frameOf(OPTIONS, [17, 0, 1, 5, 0, 0, 0, 0]), EXTENSION],
  ["nothing behind", frameOf(OPTIONS, [59, 0, 1, 4, 0, 0, 0, 0], []), EXTENSION],
  ["nine headers", frameOf(OPTIONS, Array.from({ length: 9 }, () => [60, 0, 1, 4, 0, 0, 0, 0]).flat()), EXTENSION],
];

test("who is told hears code, place and packet from our address on his link; the packet is counted as ever", (t) => {
  for (const [what, frame, reason, code, pointer] of TOLD) {
    const door = new Door();
    const [refused, [message, ...more]] = door.come(frame);
    t.is(refused, reason, what);
    t.deepEqual(more, [], what);
    t.deepEqual([...message.slice(0, 14)], [...HOST_MAC, ...MAC, 0x86, 0xdd], what);
    const isFromLink = frame[22] === 0xfe;
    t.deepEqual([...message.slice(22, 54)], [...(isFromLink ? OTHER_OWN : OWN), ...frame.slice(22, 38)], what);
    t.deepEqual([message[20], getU16(message, 18)], [58, message.length - 54], what);
    t.deepEqual([message[54], message[55], getI32(message, 58)], [4, code, pointer], what);
    const pseudo = sumWords(message, 22, 54, message.length - 54 + 58);
    t.is(fold(sumWords(message, 54, message.length, pseudo)), 0xffff, what);
    t.is(message.length, Math.min(14 + 1280, 62 + frame.length - 14), what);
    t.is(hexOf(message.slice(62)), hexOf(frame.slice(14, 14 + message.length - 62)), what);
    t.is(door.port.stats().parameterProblems, 1);
  }
});

test("who is not to be told hears nothing, and the packet is counted as ever", (t) => {
  for (const [what, frame, reason] of NOT_TOLD) {
    const door = new Door();
    t.deepEqual(door.come(frame), [reason, []], what);
    t.is(door.port.stats().parameterProblems, 0, what);
  }
  const silent = new Door();
  silent.port.problems = null;
  t.deepEqual(silent.come(asAsked()), [OPTION, []], "a port where nobody tells");
});

withScapy("scapy reads in what a host is told what was meant, and makes the same bytes of that", (t) => {
  const messages = TOLD.map(([, frame]) => new Door().come(frame)[1][0]);
  const { read } = askScapy(messages);
  t.deepEqual(
    read.map(({ kind, code, pointer, again }) => ({ kind, code, pointer, again })),
    TOLD.map(([, , , code, pointer], n) => ({ kind: "parameter problem", code, pointer, again: hexOf(messages[n]) })),
  );
});

test("a hundred are told in a second, whatever comes, and a hundred more in the next", (t) => {
  const door = new Door();
  const frame = asAsked();
  const walk = new HeaderWalk();
  walkHeaders(frame, 14, frame.length, walk);
  const told = (fromMs: number, untilMs: number) => {
    for (let ms = fromMs; ms < untilMs; ms++) door.problems.tell(frame, 0, walk, ms);
    return door.wire.sent().length;
  };
  t.is(told(5000, 6000), 100);
  t.is(told(6000, 6500), 100);
  t.is(told(6500, 7000), 0);
  t.is(told(7000, 7050), 50);
  // What may not be told takes nothing from it.
  const error = inIcmp(1);
  walkHeaders(error, 14, error.length, walk);
  for (let n = 0; n < 1000; n++) door.problems.tell(error, 0, walk, 7050);
  walkHeaders(frame, 14, frame.length, walk);
  t.is(told(7050, 7200), 50);
});

test("headers refused for two reasons have the first one's, and the walk goes on to what is behind", (t) => {
  const walk = new HeaderWalk();
  const refused = (first: number, headers: number[], behind = UDP) => {
    const frame = frameOf(first, headers, behind);
    return [verdictName(walkHeaders(frame, 14, frame.length, walk)), walk.problem, walk.problemAt, walk.protocol];
  };
  const route = [17, 0, 4, 2, 0, 0, 0, 0];
  t.deepEqual(refused(OPTIONS, [ROUTING, ...AS_ASKED.slice(1), ...route]), [OPTION, 2, 42, 17]);
  t.deepEqual(refused(ROUTING, [OPTIONS, ...route.slice(1), ...AS_ASKED]), [EXTENSION, 0, 42, 17]);
  t.deepEqual(refused(OPTIONS, [FRAGMENT, ...AS_ASKED.slice(1), 17, 0, 0, 1], []), [OPTION, 2, 42, -1]);
  t.deepEqual(
    refused(OPTIONS, [17, 0, 1, 4, 0, 0, 0, 0]).slice(0, 2),
    [verdictName(0), -1],
    "of another packet nothing is left",
  );
});
