// Frames into the router's own form and back: what comes out is what went in, whatever the port calls the addresses, and
// nothing that a wire can bring does more than be refused by name.

import test from "ava";
import fc from "fast-check";
import { getI32, getU16, setU16, setU32 } from "../../lib/base/bytes.ts";
import { StateReader, StateWriter } from "../../lib/base/state.ts";
import { FRAME_CHECKSUM_KNOWN, FRAME_CHECKSUM_PARTIAL, FRAME_OF_IPV6 } from "../../lib/io/port.ts";
import { labelOf, withLabel } from "../../lib/ipv6/flow-label.ts";
import { echoToIcmp, echoToIcmpv6 } from "../../lib/ipv6/icmp-echo.ts";
import { Inbound } from "../../lib/ipv6/inbound.ts";
import { Outbound } from "../../lib/ipv6/outbound.ts";
import { AddressBook, isName } from "../../lib/table/address-book.ts";
import { fold, ipv4HeaderIsRight, l4IsRight, sumWords } from "../../lib/wire/checksum.ts";
import {
  DROP_ADDRESSES_FULL,
  DROP_IP_ADDRESS,
  DROP_IPV6_EXTENSION,
  DROP_IPV6_OPTION,
  DROP_NEIGHBOR_MALFORMED,
  DROP_NOT_OURS,
  OK,
  verdictName,
} from "../../lib/wire/verdict.ts";
import { CHECKSUM_AT, complete, frameOf, l4Of, looksLeftUndone } from "./ipv6-frames.ts";

const HEADROOM = 64;
const address = fc.uint8Array({ minLength: 14, maxLength: 14 }).map((tail) => Uint8Array.of(0x20, 0x01, ...tail));

class Door {
  readonly book = new AddressBook(1);
  readonly inbound = new Inbound(this.book);
  readonly outbound = new Outbound(this.book);

  /** The verdict, and the frame in the router's own form. */
  come(wire: Uint8Array, flags = 0): [number, Uint8Array] {
    const memory = new Uint8Array(HEADROOM + wire.length);
    memory.set(wire, HEADROOM);
    const verdict = this.inbound.translate(memory, HEADROOM, wire.length, flags, 0);
    if (verdict !== OK) return [verdict, memory.slice(HEADROOM)];
    return [verdict, memory.slice(this.inbound.offset, this.inbound.offset + this.inbound.length)];
  }

  /** A session's frame, of IPv6 if nothing else is said. */
  go(frame: Uint8Array, flags = FRAME_OF_IPV6): Uint8Array {
    const out = new Uint8Array(frame.length + 128);
    return out.slice(0, this.outbound.translate(frame, 0, frame.length, flags, 0, out, 0));
  }
}

test("TCP, UDP, echoes and any other protocol come out as they went in; inside, every checksum is right", (t) => {
  fc.assert(
    fc.property(
      fc.constantFrom(6, 17, 58, 47, 132),
      address,
      address,
      fc.uint8Array({ maxLength: 200 }),
      (protocol, source, destination, payload) => {
        const door = new Door();
        const wire = frameOf(protocol, source, destination, l4Of(protocol, payload));
        fc.pre(!looksLeftUndone(wire));
        const [verdict, inside] = door.come(wire);
        t.is(verdict, OK);
        t.true(isName((inside[26] << 24) | (inside[27] << 16) | (inside[28] << 8) | inside[29]));
        t.true(ipv4HeaderIsRight(inside, 14));
        t.true(l4IsRight(inside, 14, 34, inside.length));
        t.is(inside[22], 63);
        t.is(inside[15], 0xb8);
        const back = door.go(inside);
        // Of the flow label 16 bits.
        t.deepEqual(back, wire);
      },
    ),
  );
});

test("a wrong checksum stays wrong by as much, and an unfinished one stays unfinished", (t) => {
  fc.assert(
    fc.property(
      fc.constantFrom(6, 17, 58),
      address,
      address,
      fc.integer({ min: 1, max: 0xfffe }),
      (protocol, source, destination, error) => {
        const door = new Door();
        const wire = frameOf(protocol, source, destination, l4Of(protocol, Uint8Array.of(1, 2, 3)));
        const at = 54 + CHECKSUM_AT[protocol];
        const wrong = (getU16(wire, at) + error) % 0xffff || 0xffff;
        fc.pre(wrong % 0xffff !== getU16(wire, at) % 0xffff);
        setU16(wire, at, wrong);
        const [verdict, inside] = door.come(wire, FRAME_CHECKSUM_KNOWN);
        t.is(verdict, OK);
        t.false(l4IsRight(inside, 14, 34, inside.length));
        t.is(getU16(door.go(inside), at) % 0xffff, wrong % 0xffff);
      },
    ),
  );
  for (const protocol of [6, 17]) {
    for (const flags of [0, FRAME_CHECKSUM_KNOWN | FRAME_CHECKSUM_PARTIAL]) {
      const door = new Door();
      const wire = frameOf(
        protocol,
        new Uint8Array(16).fill(0x21),
        new Uint8Array(16).fill(0x22),
        l4Of(protocol, Uint8Array.of(5)),
      );
      setU16(wire, 54 + CHECKSUM_AT[protocol], fold(sumWords(wire, 22, 54, wire.length - 54 + protocol)));
      const [, inside] = door.come(wire, flags);
      const named = fold(sumWords(inside, 26, 34, inside.length - 34 + protocol));
      t.is(getU16(inside, 34 + CHECKSUM_AT[protocol]), named);
    }
  }
});

test("extension headers end here, eight of them at most; a thousand are refused, whatever they say of their length", (t) => {
  const door = new Door();
  const [source, destination] = [new Uint8Array(16).fill(0x21), new Uint8Array(16).fill(0x22)];
  const chain = (count: number, next = 17) =>
    Uint8Array.from({ length: count * 8 }, (_, n) =>
      n % 8 === 0 ? (n / 8 === count - 1 ? next : 60) : n % 8 === 2 ? 1 : n % 8 === 3 ? 4 : 0,
    );
  const wire = frameOf(17, source, destination, l4Of(17, Uint8Array.of(7)), chain(8));
  const [verdict, inside] = door.come(wire);
  t.is(verdict, OK);
  t.true(l4IsRight(inside, 14, 34, inside.length));
  t.deepEqual(door.go(inside), frameOf(17, source, destination, l4Of(17, Uint8Array.of(7))));
  for (const count of [9, 1000]) {
    const [refused] = door.come(frameOf(17, source, destination, l4Of(17, Uint8Array.of(7)), chain(count)));
    t.is(refused, DROP_IPV6_EXTENSION);
  }
  const long = wire.slice();
  long[55] = 255;
  t.is(door.come(long)[0], DROP_IPV6_EXTENSION);
  const routed = frameOf(
    17,
    source,
    destination,
    l4Of(17, Uint8Array.of(7)),
    Uint8Array.of(43, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 0),
  );
  t.is(door.come(routed)[0], DROP_IPV6_EXTENSION);
});

/** A UDP packet with these headers in front of it, the first of type `first`. */
const extended = (first: number, ...headers: number[]): Uint8Array => {
  const ends = [new Uint8Array(16).fill(0x21), new Uint8Array(16).fill(0x22)];
  const wire = frameOf(17, ends[0], ends[1], l4Of(17, Uint8Array.of(7)), Uint8Array.from(headers));
  wire[20] = first;
  return wire;
};
const HOP_BY_HOP = 0;
const ROUTING = 43;
const DESTINATION_OPTIONS = 60;

test("options that may be passed over end here and are counted; what must be dropped by whoever does not know it is dropped", (t) => {
  const passes: [string, number, number[]][] = [
    ["router alert", HOP_BY_HOP, [17, 0, 5, 2, 0, 0, 0, 0]],
    ["padding alone", DESTINATION_OPTIONS, [17, 0, 0, 0, 0, 0, 0, 0]],
    ["PDM", DESTINATION_OPTIONS, [17, 1, 0x0f, 10, 1, 1, 0, 7, 0, 8, 0, 9, 0, 9, 1, 0]],
    ["what may change on the way", DESTINATION_OPTIONS, [17, 0, 0x3e, 4, 1, 2, 3, 4]],
    ["a source route that is used up", ROUTING, [17, 0, 0, 0, 0, 0, 0, 0]],
    ["one of each", HOP_BY_HOP, [60, 0, 1, 4, 0, 0, 0, 0, 43, 0, 1, 4, 0, 0, 0, 0, 17, 0, 4, 0, 0, 0, 0, 0]],
  ];
  for (const [what, first, headers] of passes) {
    const door = new Door();
    const [verdict, inside] = door.come(extended(first, ...headers));
    t.is(verdict, OK, what);
    t.is(door.inbound.extensionsRemoved, 1, what);
    t.true(l4IsRight(inside, 14, 34, inside.length), what);
    t.deepEqual(door.go(inside), extended(17), what);
  }
  const refused: [string, number, number[], number][] = [
    ["drop it: RPL", HOP_BY_HOP, [17, 0, 0x63, 4, 0, 0, 0, 0], DROP_IPV6_OPTION],
    ["drop it and say so", DESTINATION_OPTIONS, [17, 0, 0x8a, 4, 0, 0, 0, 0], DROP_IPV6_OPTION],
    ["say so unless to a group: a home address", DESTINATION_OPTIONS, [17, 0, 0xc9, 4, 0, 0, 0, 0], DROP_IPV6_OPTION],
    ["a jumbogram's length", HOP_BY_HOP, [17, 0, 0xc2, 4, 0, 1, 0, 0], DROP_IPV6_OPTION],
    ["behind others", DESTINATION_OPTIONS, [17, 0, 0, 1, 0, 0x7e, 1, 0], DROP_IPV6_OPTION],
    ["an option beyond its header", DESTINATION_OPTIONS, [17, 0, 1, 5, 0, 0, 0, 0], DROP_IPV6_EXTENSION],
    ["a type without a length", DESTINATION_OPTIONS, [17, 0, 1, 3, 0, 0, 0, 4], DROP_IPV6_EXTENSION],
    ["a header beyond the packet", DESTINATION_OPTIONS, [17, 9, 1, 4, 0, 0, 0, 0], DROP_IPV6_EXTENSION],
    ["a source route (RFC 5095)", ROUTING, [17, 2, 0, 1, ...Array(20).fill(0)], DROP_IPV6_EXTENSION],
    ["a segment of another type", ROUTING, [17, 0, 4, 2, 0, 0, 0, 0], DROP_IPV6_EXTENSION],
    [
      "hop by hop, not first",
      DESTINATION_OPTIONS,
      [0, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0],
      DROP_IPV6_EXTENSION,
    ],
    ["nothing behind it", DESTINATION_OPTIONS, [59, 0, 1, 4, 0, 0, 0, 0], DROP_IPV6_EXTENSION],
  ];
  for (const [what, first, headers, reason] of refused) {
    const door = new Door();
    t.is(verdictName(door.come(extended(first, ...headers))[0]), verdictName(reason), what);
    t.is(door.inbound.extensionsRemoved, 0, what);
  }
});

test("a next header that nobody here knows is another protocol, with all that is behind it", (t) => {
  const [source, destination] = [new Uint8Array(16).fill(0x21), new Uint8Array(16).fill(0x22)];
  // Mobility, HIP, Shim6, two for experiments: extension headers to their hosts, and no business of ours.
  for (const protocol of [135, 139, 140, 253, 254, 50, 51]) {
    const door = new Door();
    const wire = frameOf(
      protocol,
      source,
      destination,
      Uint8Array.from({ length: 24 }, (_, n) => n),
    );
    const [verdict, inside] = door.come(wire);
    t.is(verdict, OK);
    t.is(inside[23], protocol);
    t.deepEqual(door.go(inside), wire);
  }
});

test("addresses that no packet between networks has are refused, and so is what is sent to a group", (t) => {
  const host = new Uint8Array(16).fill(0x21);
  const never: [string, number[]][] = [
    ["unspecified", Array(16).fill(0)],
    ["loopback", [...Array(15).fill(0), 1]],
    ["link-local", [0xfe, 0x80, ...Array(13).fill(0), 1]],
    ["multicast", [0xff, 2, ...Array(13).fill(0), 1]],
    ["IPv4 in IPv6", [...Array(10).fill(0), 255, 255, 10, 1, 0, 2]],
  ];
  const udp = l4Of(17, Uint8Array.of(1));
  for (const [what, bytes] of never) {
    const bad = Uint8Array.from(bytes);
    t.is(new Door().come(frameOf(17, bad, host, udp))[0], DROP_IP_ADDRESS, what);
    t.is(new Door().come(frameOf(17, host, bad, udp))[0], DROP_IP_ADDRESS, what);
  }
  const group = frameOf(17, host, Uint8Array.from(never[3][1]), udp);
  group.set([0x33, 0x33]);
  t.is(new Door().come(group)[0], DROP_NOT_OURS);
});

test("a solicitation is an ARP request inside, its answer an advertisement outside; what RFC 4861 forbids is refused", (t) => {
  const door = new Door();
  const [host, own] = [new Uint8Array(16).fill(0x21), Uint8Array.of(0x20, 1, 0x0d, 0xb8, ...Array(11).fill(0), 1)];
  const words = [0, 4, 8, 12].map((at) => (own[at] << 24) | (own[at + 1] << 16) | (own[at + 2] << 8) | own[at + 3]);
  const name = door.book.keep(words[0], words[1], words[2], words[3]);
  const message = Uint8Array.of(135, 0, 0, 0, 0, 0, 0, 0, ...own, 1, 1, 2, 0, 0, 0, 0, 9);
  const group = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 1);
  const solicitation = (change: (frame: Uint8Array) => void = () => {}) => {
    const frame = frameOf(58, host, group, message);
    frame.set([0x33, 0x33, 0xff, 0, 0, 1]);
    frame[21] = 255;
    change(frame);
    return frame;
  };
  const [verdict, arp] = door.come(solicitation());
  t.is(verdict, OK);
  t.deepEqual([...arp.slice(0, 6), ...arp.slice(12, 14)], [255, 255, 255, 255, 255, 255, 8, 6]);
  t.is(getU16(arp, 20), 1);
  t.deepEqual([...arp.slice(22, 28)], [2, 0, 0, 0, 0, 9]);
  t.is((arp[38] << 24) | (arp[39] << 16) | (arp[40] << 8) | arp[41], name);

  const reply = Uint8Array.from(arp);
  reply.set([2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1], 0);
  setU16(reply, 20, 2);
  reply.set([2, 0, 0, 0, 0, 1, ...arp.slice(38, 42), 2, 0, 0, 0, 0, 9, ...arp.slice(28, 32)], 22);
  const advertisement = door.go(reply);
  t.is(advertisement[54], 136);
  t.is(advertisement[58] >>> 5, 7, "router, solicited, override");
  t.deepEqual(advertisement.slice(38, 54), host);
  t.deepEqual([...advertisement.slice(62, 78)], [...own]);
  t.is(
    fold(
      sumWords(
        advertisement,
        54,
        advertisement.length,
        sumWords(advertisement, 22, 54, advertisement.length - 54 + 58),
      ),
    ),
    0xffff,
  );

  // Whoever tries whether an address is free has none; the answer goes to all.
  const [, probe] = door.come(
    solicitation((frame) => {
      frame.fill(0, 22, 38);
      complete(frame, 54, 58);
    }),
  );
  t.deepEqual([...probe.slice(28, 32)], [0, 0, 0, 0]);
  reply.set([0, 0, 0, 0], 38);
  t.deepEqual([...door.go(reply).slice(38, 54)], [0xff, 2, ...Array(13).fill(0), 1]);

  const refused: [string, (frame: Uint8Array) => void][] = [
    ["from beyond the link", (frame) => (frame[21] = 254)],
    [
      "a code",
      (frame) => {
        frame[55] = 1;
        complete(frame, 54, 58);
      },
    ],
    ["a wrong checksum", (frame) => (frame[56] ^= 1)],
    [
      "an option of no length",
      (frame) => {
        frame[79] = 0;
        complete(frame, 54, 58);
      },
    ],
    [
      "an option beyond the end",
      (frame) => {
        frame[79] = 2;
        complete(frame, 54, 58);
      },
    ],
    [
      "for a group",
      (frame) => {
        frame[62] = 0xff;
        complete(frame, 54, 58);
      },
    ],
  ];
  for (const [what, change] of refused)
    t.is(verdictName(door.come(solicitation(change))[0]), verdictName(DROP_NEIGHBOR_MALFORMED), what);
  const other = solicitation((frame) => {
    frame[77] = 9;
    complete(frame, 54, 58);
  });
  t.is(door.come(other)[0], DROP_NOT_OURS, "an address of nobody here");
});

test("with other threads, an address that nobody here knows is entered: of who says where he is, and of what an error quotes", (t) => {
  const [host, far, router] = [0x21, 0x22, 0x23].map((byte) => new Uint8Array(16).fill(byte));
  const sent = frameOf(17, host, far, l4Of(17, Uint8Array.of(1, 2, 3)));
  const error = frameOf(58, router, host, Uint8Array.of(1, 4, 0, 0, 0, 0, 0, 0, ...sent.slice(14)));
  const advertisement = frameOf(58, host, far, Uint8Array.of(136, 0, 0, 0, 0x60, 0, 0, 0, ...host));
  advertisement[21] = 255;
  const solicitation = frameOf(58, host, far, Uint8Array.of(135, 0, 0, 0, 0, 0, 0, 0, ...far));
  solicitation[21] = 255;
  const translated = (isShared: boolean, wire: Uint8Array) => {
    const copy = wire.slice();
    return verdictName(new Inbound(new AddressBook(1), isShared).translate(copy, 0, copy.length, 0, 0));
  };
  for (const wire of [error, advertisement]) {
    t.not(translated(false, wire), verdictName(OK));
    t.is(translated(true, wire), verdictName(OK));
  }
  t.is(translated(true, solicitation), verdictName(DROP_NOT_OURS), "what is ours has a name before anybody asks");
});

test("ICMPv6 errors and their quotes cross both ways, with checksums made anew", (t) => {
  const door = new Door();
  const [host, far, router] = [0x21, 0x22, 0x23].map((byte) => new Uint8Array(16).fill(byte));
  const sent = frameOf(17, host, far, l4Of(17, Uint8Array.of(1, 2, 3)));
  t.is(door.come(sent)[0], OK);
  const kinds: [number, number, number, number][] = [
    [1, 4, 3, 3],
    [1, 1, 3, 10],
    [1, 0, 3, 1],
    [2, 0, 3, 4],
    [3, 0, 11, 0],
    [3, 1, 11, 1],
    [4, 1, 3, 2],
  ];
  for (const [type, code, type4, code4] of kinds) {
    const rest = type === 2 ? [0, 0, 5, 0x78] : [0, 0, 0, 0];
    const error = frameOf(58, router, host, Uint8Array.of(type, code, 0, 0, ...rest, ...sent.slice(14)));
    const [verdict, inside] = door.come(error);
    t.is(verdict, OK);
    t.deepEqual([inside[34], inside[35]], [type4, code4]);
    t.true(ipv4HeaderIsRight(inside, 14) && l4IsRight(inside, 14, 34, inside.length) && ipv4HeaderIsRight(inside, 42));
    if (type === 2) t.is(getU16(inside, 40), 1400 - 20);
    const back = door.go(inside);
    t.deepEqual([back[54], back[55]], [type, code]);
    t.is(fold(sumWords(back, 54, back.length, sumWords(back, 22, 54, back.length - 54 + 58))), 0xffff);
    t.deepEqual(back.slice(62 + 8), sent.slice(14 + 8), "what is quoted, addresses and all");
    if (type === 2) t.is(getU16(back, 60), 1400);
  }
});

test("that a packet may be cut is told between routers, and believed of nobody else", (t) => {
  const door = new Door();
  const wire = frameOf(17, new Uint8Array(16).fill(0x21), new Uint8Array(16).fill(0x22), l4Of(17, Uint8Array.of(1)));
  const [, inside] = door.come(wire);
  t.is(getU16(inside, 20), 0x4000);
  setU16(inside, 20, 0);
  setU16(inside, 24, 0);
  setU16(inside, 24, ~fold(sumWords(inside, 14, 34, 0)) & 0xffff);
  const marked = door.go(inside);
  t.is(getI32(marked, 14) & 0xf_ffff, 0x1_1234);
  // Whose label it is, a flow knows: the door leaves DF as it is, and the label beside the frame.
  const [verdict, back] = door.come(marked);
  t.is(verdict, OK);
  t.is(getU16(back, 20), 0x4000);
  t.is(door.inbound.flags, withLabel(0x1_1234));
});

test("a flow label crosses whole beside the frame, whatever its checksum's state, whole or in pieces", (t) => {
  const door = new Door();
  const ends = [new Uint8Array(16).fill(0x21), new Uint8Array(16).fill(0x22)];
  for (const label of [0, 0xf_ffff, 0x1_0000, 0xa_bcde]) {
    for (const headers of [undefined, Uint8Array.of(17, 0, 0, 1, 0x12, 0x34, 0x56, 0x78)]) {
      const wire = frameOf(17, ends[0], ends[1], l4Of(17, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)), headers);
      if (headers !== undefined) wire[20] = 44;
      setU32(wire, 14, 0x6000_0000 | label);
      const [verdict, inside] = door.come(wire, FRAME_CHECKSUM_KNOWN);
      t.is(verdict, OK);
      t.is(door.inbound.flags, FRAME_CHECKSUM_KNOWN | withLabel(label));
      t.is(labelOf(door.inbound.flags), label);
      t.is(getU16(inside, 20) & 0x4000, headers === undefined ? 0x4000 : 0);
      const out = door.go(inside, withLabel(label));
      t.is(getI32(out, 14) & 0xf_ffff, label);
      t.is(door.outbound.flags, 0, "the port beneath hears nothing of it");
    }
  }
});

test("an echo that was cut is turned whole, and back", (t) => {
  const door = new Door();
  const wire = frameOf(
    58,
    new Uint8Array(16).fill(0x21),
    new Uint8Array(16).fill(0x22),
    l4Of(58, new Uint8Array(101).fill(3)),
  );
  const [, inside] = door.come(wire);
  const copy = inside.slice();
  t.true(echoToIcmpv6(door.book, copy, 14, 34, copy.length));
  t.is(copy[23], 58);
  t.deepEqual(copy.slice(34), wire.slice(54));
  t.true(echoToIcmp(door.book, copy, 14, 34, copy.length));
  t.deepEqual(copy, inside);
});

test("whatever comes is translated or refused by name, and no byte outside the frame is touched", (t) => {
  const door = new Door();
  const [host, far] = [new Uint8Array(16).fill(0x21), new Uint8Array(16).fill(0x22)];
  const seeds = [6, 17, 58, 47].map((protocol) => frameOf(protocol, host, far, l4Of(protocol, new Uint8Array(40))));
  seeds.push(frameOf(58, host, far, Uint8Array.of(1, 4, 0, 0, 0, 0, 0, 0, ...seeds[1].slice(14))));
  seeds.push(
    frameOf(
      17,
      host,
      far,
      l4Of(17, new Uint8Array(20)),
      Uint8Array.of(44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 5),
    ),
  );
  fc.assert(
    fc.property(
      fc.constantFrom(...seeds),
      fc.array(fc.tuple(fc.nat(150), fc.nat(255)), { maxLength: 6 }),
      fc.option(fc.nat(150)),
      (seed, changes, cut) => {
        const wire = seed.slice(0, cut === null ? seed.length : Math.min(cut, seed.length));
        for (const [at, byte] of changes) if (at >= 14 && at < wire.length) wire[at] = byte;
        const memory = new Uint8Array(wire.length + 128).fill(0xa5);
        memory.set(wire, 64);
        const verdict = door.inbound.translate(memory, 64, wire.length, 0, 0);
        t.true(
          memory.slice(0, 64).every((byte) => byte === 0xa5) &&
            memory.slice(64 + wire.length).every((byte) => byte === 0xa5),
        );
        if (verdict !== OK) {
          t.not(verdictName(verdict), "unknown");
          return;
        }
        const { offset, length } = door.inbound;
        t.true(offset >= 64 && offset + length <= 64 + wire.length);
        const out = new Uint8Array(length + 256).fill(0xa5);
        const made = door.outbound.translate(memory, offset, length, 0, 0, out, 0);
        t.true(out.slice(made).every((byte, n) => byte === 0xa5 || n < 128));
      },
    ),
    { numRuns: 3000 },
  );
});

test("a book that is full knows what it knows, and gives a name away that nobody has pinned or seen for ten seconds", (t) => {
  const book = new AddressBook(7, 1024);
  const names = Array.from({ length: 1023 }, (_, n) => book.enter(1, 2, 3, n, 0));
  t.is(new Set(names).size, 1023);
  t.true(names.every(isName));
  t.is(book.enter(9, 9, 9, 9, 5000), 0);
  t.is(book.enter(1, 2, 3, 500, 5000), names[500]);
  book.pin(names[0]);
  for (const name of names.slice(600)) book.pin(name);
  const given = new Set<number>();
  // It looks at so many rows at a time.
  const patient = (n: number) =>
    Array.from({ length: 5 }).reduce<number>((name) => name || book.enter(8, 8, 8, n, 11_000), 0);
  for (let n = 0; n < 599 - 1; n++) given.add(patient(n));
  t.false(given.has(0));
  t.false(given.has(names[0]) || given.has(names[500]) || given.has(names[700]), "pinned, or seen");
  t.is(book.find(1, 2, 3, 0), names[0]);
  t.is(book.find(1, 2, 3, 500), names[500]);
  t.is(book.find(1, 2, 3, 1), 0, "its name is another's");
  t.is(book.enter(7, 7, 7, 7, 12_000), 0);
  book.unpin(names[0]);
  t.is(book.enter(7, 7, 7, 7, 30_000) === 0, false);
});

test("a thread's book begins with the names of the configuration, for good, and with no other", (t) => {
  const main = new AddressBook(1);
  const written = [1, 2, 3].map((n) => main.keep(0x20010db8, 0, 0, n));
  const seen = main.enter(0x20010db8, 0, 0, 99, 0);
  written.push(main.keep(0x20010db8, 0, 0, 4));
  const state = new StateWriter();
  main.saveKept(state);
  const book = new AddressBook(2, 16);
  book.restoreKept(new StateReader(state.finish()));
  for (const [n, name] of written.entries()) t.is(book.find(0x20010db8, 0, 0, n + 1), name);
  t.is(book.find(0x20010db8, 0, 0, 99), 0);
  t.true(isName(seen));
  // Many more than there is room for, long after each other: what others said goes, what an operator wrote stays.
  for (let n = 0; n < 200; n++) book.enter(0x20010db9, 0, 0, n, n * 20_000);
  for (const [n, name] of written.entries()) t.is(book.find(0x20010db8, 0, 0, n + 1), name);
});

test("a book grows, and names and deltas stay", (t) => {
  const book = new AddressBook(3);
  const names = Array.from({ length: 5000 }, (_, n) => book.enter(n, ~n, 3, 4, 0));
  for (const [n, name] of names.entries()) {
    t.is(book.find(n, ~n, 3, 4), name);
    t.is(book.word(name, 1), ~n);
  }
  const full = new Inbound(new AddressBook(3, 2));
  const frame = frameOf(17, new Uint8Array(16).fill(0x21), new Uint8Array(16).fill(0x22), l4Of(17, Uint8Array.of(1)));
  t.is(full.translate(frame, 0, frame.length, 0, 0), DROP_ADDRESSES_FULL);
});
