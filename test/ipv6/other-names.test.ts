// Frames in the router's own form from a thread to another with other names: what arrives is what the other's own port would have
// made of the frame on the wire.

import test, { type ExecutionContext } from "ava";
import fc from "fast-check";
import { getU16, setU16 } from "../../lib/base/bytes.ts";
import { allowFragments } from "../../lib/engine/rewrite.ts";
import { FRAME_CHECKSUM_KNOWN, FRAME_CHECKSUM_PARTIAL } from "../../lib/io/port.ts";
import { Inbound } from "../../lib/ipv6/inbound.ts";
import { OtherNames } from "../../lib/ipv6/other-names.ts";
import { AddressBook } from "../../lib/table/address-book.ts";
import { fold, ipv4HeaderIsRight, l4IsRight, sumWords } from "../../lib/wire/checksum.ts";
import { OK } from "../../lib/wire/verdict.ts";
import { CHECKSUM_AT, frameOf, l4Of, looksLeftUndone } from "./ipv6-frames.ts";

const HEADROOM = 64;
const address = fc.uint8Array({ minLength: 14, maxLength: 14 }).map((tail) => Uint8Array.of(0x20, 0x01, ...tail));

class Thread {
  readonly book = new AddressBook(1, 64);
  readonly names = new OtherNames(this.book);
  readonly #inbound = new Inbound(this.book, true);
  flags = 0;

  /** `before`: names that this thread gave before. */
  constructor(before: number) {
    for (let n = 0; n < before; n++) this.book.keep(5, 6, 7, n);
  }

  /** The frame as this thread's own port gives it. */
  port(t: ExecutionContext, wire: Uint8Array, flags = 0): Uint8Array {
    const memory = new Uint8Array(HEADROOM + wire.length);
    memory.set(wire, HEADROOM);
    t.is(this.#inbound.translate(memory, HEADROOM, wire.length, flags, 0), OK);
    this.flags = this.#inbound.flags;
    return memory.slice(this.#inbound.offset, this.#inbound.offset + this.#inbound.length);
  }
}

/** `frame` as it arrives, at any offset. */
function cross(t: ExecutionContext, from: Thread, to: Thread, frame: Uint8Array, flags: number): Uint8Array {
  const memory = new Uint8Array(7 + frame.length);
  memory.set(frame, 7);
  from.names.tell(memory, 7, frame.length);
  to.names.words.set(from.names.words);
  t.true(to.names.take(memory, 7, frame.length, flags, 0));
  return memory.slice(7);
}

/** From one thread to another and back. */
function check(t: ExecutionContext, wire: Uint8Array, flags = 0): Uint8Array {
  const [one, other] = [new Thread(3), new Thread(40)];
  const frame = one.port(t, wire, flags);
  const crossed = cross(t, one, other, frame, one.flags);
  t.deepEqual(crossed, new Thread(40).port(t, wire, flags));
  t.notDeepEqual(crossed.slice(26, 34), frame.slice(26, 34));
  t.deepEqual(cross(t, other, one, crossed, one.flags), frame);
  return crossed;
}

test("TCP, UDP, echoes and any other protocol: every checksum stays right", (t) => {
  fc.assert(
    fc.property(
      fc.constantFrom(6, 17, 58, 47, 132),
      address,
      address,
      fc.uint8Array({ maxLength: 200 }),
      (protocol, source, destination, payload) => {
        const wire = frameOf(protocol, source, destination, l4Of(protocol, payload));
        fc.pre(![wire, new Thread(3).port(t, wire), new Thread(40).port(t, wire)].some(looksLeftUndone));
        const crossed = check(t, wire);
        t.true(ipv4HeaderIsRight(crossed, 14));
        t.true(l4IsRight(crossed, 14, 34, crossed.length));
      },
    ),
  );
});

test("a wrong checksum stays wrong, an unfinished one unfinished, whether the port knows it or it is to be seen", (t) => {
  const [source, destination] = [new Uint8Array(16).fill(0x21), new Uint8Array(16).fill(0x22)];
  for (const protocol of [6, 17]) {
    const at = 54 + CHECKSUM_AT[protocol];
    for (let error = 1; error < 0xffff; error += 97) {
      const wire = frameOf(protocol, source, destination, l4Of(protocol, Uint8Array.of(1, 2, 3)));
      setU16(wire, at, (getU16(wire, at) + error) % 0xffff || 0xffff);
      t.false(l4IsRight(check(t, wire, FRAME_CHECKSUM_KNOWN), 14, 34, wire.length - 20));
    }
    const wire = frameOf(protocol, source, destination, l4Of(protocol, Uint8Array.of(5)));
    setU16(wire, at, fold(sumWords(wire, 22, 54, wire.length - 54 + protocol)));
    for (const flags of [0, FRAME_CHECKSUM_KNOWN | FRAME_CHECKSUM_PARTIAL]) {
      const crossed = check(t, wire, flags);
      t.is(
        getU16(crossed, 34 + CHECKSUM_AT[protocol]),
        fold(sumWords(crossed, 26, 34, crossed.length - 34 + protocol)),
      );
    }
  }
});

test("the flow label, DF and fragments' fields are as they were; a later piece has no checksum to change", (t) => {
  const [source, destination] = [new Uint8Array(16).fill(0x21), new Uint8Array(16).fill(0x22)];
  const labelled = frameOf(17, source, destination, l4Of(17, Uint8Array.of(1, 2)));
  labelled.set([0x81, 0xab, 0xcd], 15);
  t.is(getU16(check(t, labelled), 18), 0xabcd, "the label's low bits");
  // A packet of which it is known that it may be cut.
  const [one, other] = [new Thread(3), new Thread(40)];
  const mayBeCut = one.port(t, labelled);
  allowFragments(new DataView(mayBeCut.buffer), 14);
  t.deepEqual([...cross(t, one, other, mayBeCut, one.flags).subarray(18, 22)], [0xab, 0xcd, 0, 0], "DF");
  const payload = Uint8Array.from({ length: 32 }, (_, n) => n * 7);
  for (const [next, field] of [
    [17, 1],
    [17, 0x0109],
    [6, 0x0108],
    [58, 1],
    [58, 0x0108],
  ]) {
    const piece = frameOf(
      17,
      source,
      destination,
      payload,
      Uint8Array.of(next, 0, field >> 8, field & 255, 9, 8, 7, 6),
    );
    piece[20] = 44;
    const crossed = check(t, piece);
    if (field > 1) t.deepEqual(crossed.slice(34), piece.slice(62));
  }
});

test("an ICMP error crosses with the packet that it quotes, all of its checksums right", (t) => {
  const [host, far, router] = [0x21, 0x22, 0x23].map((byte) => new Uint8Array(16).fill(byte));
  for (const protocol of [6, 17, 58]) {
    const sent = frameOf(protocol, host, far, l4Of(protocol, Uint8Array.of(1, 2, 3)));
    for (const [type, code] of [
      [1, 4],
      [2, 0],
      [3, 0],
      [4, 1],
    ]) {
      const rest = type === 2 ? [0, 0, 5, 0x78] : [0, 0, 0, 0];
      const crossed = check(t, frameOf(58, router, host, Uint8Array.of(type, code, 0, 0, ...rest, ...sent.slice(14))));
      t.true(ipv4HeaderIsRight(crossed, 42));
      t.true(l4IsRight(crossed, 14, 34, crossed.length));
      if (protocol === 17) t.true(l4IsRight(crossed, 42, 62, crossed.length), "and the one that the port changes");
    }
  }
});

test("what says where neighbors are crosses with both addresses; who has none yet has none here", (t) => {
  const [host, own] = [0x21, 0x22].map((byte) => new Uint8Array(16).fill(byte));
  const [one, other] = [new Thread(3), new Thread(40)];
  const words = new Array<number>(4).fill(0x2222_2222);
  for (const thread of [one, other]) thread.book.keep(words[0], words[1], words[2], words[3]);
  for (const source of [host, new Uint8Array(16)]) {
    const asks = frameOf(58, source, own, Uint8Array.of(135, 0, 0, 0, 0, 0, 0, 0, ...own));
    asks[21] = 255;
    const arp = cross(t, one, other, one.port(t, asks), 0);
    t.deepEqual(arp, other.port(t, asks));
  }
  const says = frameOf(58, host, own, Uint8Array.of(136, 0, 0, 0, 0x60, 0, 0, 0, ...host));
  says[21] = 255;
  t.deepEqual(cross(t, one, other, one.port(t, says), 0), other.port(t, says));
});

test("packets longer than their header can say are whole to the end of the frame", (t) => {
  const [one, other] = [new Thread(3), new Thread(40)];
  const [source, destination] = [new Uint8Array(16).fill(0x21), new Uint8Array(16).fill(0x22)];
  const short = one.port(t, frameOf(17, source, destination, l4Of(17, Uint8Array.of(1, 2))));
  const long = new Uint8Array(34 + 8 + 65_540);
  long.set(short);
  for (let n = 42; n < long.length; n++) long[n] = n * 31;
  for (const at of [16, 24, 38, 40]) setU16(long, at, 0);
  setU16(long, 24, ~fold(sumWords(long, 14, 34, 0)) & 0xffff);
  const pseudo = sumWords(long, 26, 34, 17 + long.length - 34);
  setU16(long, 40, ~fold(sumWords(long, 34, long.length, pseudo)) & 0xffff);
  t.true(l4IsRight(long, 14, 34, long.length));
  const crossed = cross(t, one, other, long, FRAME_CHECKSUM_KNOWN);
  t.true(ipv4HeaderIsRight(crossed, 14) && l4IsRight(crossed, 14, 34, crossed.length));
  t.notDeepEqual(crossed.slice(26, 34), long.slice(26, 34));
  setU16(long, 40, fold(pseudo));
  const unfinished = cross(t, one, other, long, 0);
  t.is(getU16(unfinished, 40), fold(sumWords(unfinished, 26, 34, 17 + long.length - 34)));
});

test("a book without room takes no frame", (t) => {
  const [one, other] = [new Thread(3), new Thread(62)];
  const [source, destination] = [new Uint8Array(16).fill(0x21), new Uint8Array(16).fill(0x22)];
  const frame = one.port(t, frameOf(17, source, destination, l4Of(17, Uint8Array.of(1))));
  one.names.tell(frame, 0, frame.length);
  other.names.words.set(one.names.words);
  t.false(other.names.take(frame, 0, frame.length, 0, 0));
});
