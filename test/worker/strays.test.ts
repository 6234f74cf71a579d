// Strays of an IPv6 interface, between workers whose address books have nothing in common.

import test, { type ExecutionContext } from "ava";
import { COUNTERS } from "../../lib/engine/counters.ts";
import type { Engine } from "../../lib/engine/engine.ts";
import { RING_BYTES, Strays } from "../../lib/engine/strays.ts";
import { FRAME_CHECKSUM_KNOWN, FRAME_CHECKSUM_PARTIAL, FrameBatch, HEADROOM } from "../../lib/io/port.ts";
import { Inbound } from "../../lib/ipv6/inbound.ts";
import { AddressBook } from "../../lib/table/address-book.ts";
import { CounterSet } from "../../lib/table/counter-set.ts";
import { FrameRing } from "../../lib/table/frame-ring.ts";
import { shardOf } from "../../lib/wire/shard.ts";
import { HANDED_OVER, OK, verdictName } from "../../lib/wire/verdict.ts";
import { frameOf, l4Of } from "../ipv6/ipv6-frames.ts";

const IPV4 = 0;
const IPV6 = 1;
const INTERFACES = [{ isIpv6: false }, { isIpv6: true }];
const [HOST, FAR, ROUTER] = [0x21, 0x22, 0x23].map((byte) => new Uint8Array(16).fill(byte));

interface Taken {
  readonly what: string;
  readonly interfaceId: number;
  readonly frame: Uint8Array;
  readonly flags: number;
  readonly segmentSize: number;
  readonly isBack: boolean;
}

class Worker {
  readonly book: AddressBook;
  readonly counters = new CounterSet(COUNTERS);
  readonly strays: Strays;
  readonly taken: Taken[] = [];
  /** What the engine does with a stray beside. */
  onStray: (batch: FrameBatch, interfaceId: number) => void = () => {};

  constructor(worker: number, rings: readonly SharedArrayBuffer[], rowsMax: number) {
    this.book = new AddressBook(1, rowsMax);
    for (let n = 0; n < worker * 11; n++) this.book.keep(5, 6, 7, n);
    const workers = rings.length;
    this.strays = new Strays({
      worker,
      workers,
      inbound: new FrameRing(rings[(worker + workers - 1) % workers]),
      outbound: new FrameRing(rings[worker]),
      wakeNext: () => {},
      counters: this.counters,
      interfaces: INTERFACES,
      book: this.book,
    });
  }

  /** The frame as this worker's own port gives it. */
  port(t: ExecutionContext, wire: Uint8Array, flags: number, segmentSize = 0): FrameBatch {
    const batch = new FrameBatch(new Uint8Array(HEADROOM + wire.length), 1);
    batch.bytes.set(wire, HEADROOM);
    const door = new Inbound(this.book, true);
    t.is(door.translate(batch.bytes, HEADROOM, wire.length, flags, 0), OK);
    batch.count = 1;
    batch.offset[0] = door.offset;
    batch.length[0] = door.length;
    batch.flags[0] = door.flags;
    batch.segmentSize[0] = segmentSize;
    return batch;
  }

  turn(): number {
    const take = (what: string) => (batch: FrameBatch, interfaceId: number) => {
      this.taken.push({
        what,
        interfaceId,
        frame: frameIn(batch),
        flags: batch.flags[0],
        segmentSize: batch.segmentSize[0],
        isBack: this.strays.isBack,
      });
      this.onStray(batch, interfaceId);
    };
    const engine: Pick<Engine, "takeStray" | "learnStray" | "refuseStray" | "flush"> = {
      takeStray: take("stray"),
      learnStray: take("neighbor"),
      refuseStray: (verdict, batch, interfaceId) => take(verdictName(verdict))(batch, interfaceId),
      flush: () => {},
    };
    return this.strays.turn(engine as Engine, 0);
  }
}

const frameIn = (batch: FrameBatch) => batch.bytes.slice(batch.offset[0], batch.offset[0] + batch.length[0]);

function circle(workers: number, rowsMax = 1 << 20): Worker[] {
  const rings = Array.from({ length: workers }, () => FrameRing.allocate(RING_BYTES));
  return rings.map((_, worker) => new Worker(worker, rings, rowsMax));
}

const KNOWN = FRAME_CHECKSUM_KNOWN;
const quoted = frameOf(17, HOST, FAR, l4Of(17, Uint8Array.of(1, 2, 3)));
const wrong = frameOf(6, HOST, FAR, l4Of(6, Uint8Array.of(1, 2, 3)));
wrong[80] ^= 0x55;
const FRAMES: readonly [string, Uint8Array, number, number][] = [
  ["a datagram", frameOf(17, HOST, FAR, l4Of(17, Uint8Array.of(1, 2, 3))), KNOWN, 0],
  ["a wrong checksum", wrong, KNOWN, 0],
  ["a super-frame", frameOf(6, HOST, FAR, l4Of(6, new Uint8Array(60_000).fill(9))), KNOWN, 1428],
  ["an unfinished one", frameOf(6, HOST, FAR, l4Of(6, new Uint8Array(9000))), KNOWN | FRAME_CHECKSUM_PARTIAL, 1428],
  ["an echo", frameOf(58, HOST, FAR, l4Of(58, Uint8Array.of(7))), KNOWN, 0],
  ["an error", frameOf(58, ROUTER, HOST, Uint8Array.of(1, 4, 0, 0, 0, 0, 0, 0, ...quoted.slice(14))), KNOWN, 0],
];

for (const [what, wire, flags, segmentSize] of FRAMES) {
  test(`${what} that changes workers is what the other's own port would have given it, and comes home as it left`, (t) => {
    const [first, second, third] = circle(3);
    for (const worker of [second, third])
      worker.onStray = (batch, interfaceId) => {
        t.is(worker.strays.handOver(batch, 0, interfaceId), HANDED_OVER);
      };
    const batch = first.port(t, wire, flags, segmentSize);
    const sent = frameIn(batch);
    t.is(first.strays.handOver(batch, 0, IPV6), HANDED_OVER);
    for (const worker of [second, third, first]) {
      t.is(worker.turn(), 1);
      const [taken] = worker.taken;
      // Whoever has never seen these addresses calls them in the same order.
      const twin = worker === first ? sent : frameIn(circle(3)[worker.strays.worker].port(t, wire, flags));
      t.deepEqual(taken, {
        what: "stray",
        interfaceId: IPV6,
        frame: twin,
        flags: batch.flags[0],
        segmentSize,
        isBack: worker === first,
      });
      t.is(worker.counters.get(worker.counters.indexOf("strays.received")), 1);
    }
    t.notDeepEqual(second.taken[0].frame, sent);
  });
}

test("what the first worker hears of a neighbor every other learns under its own names, once", (t) => {
  const workers = circle(3);
  const says = frameOf(58, HOST, FAR, Uint8Array.of(136, 0, 0, 0, 0x60, 0, 0, 0, ...HOST));
  says[21] = 255;
  const batch = workers[0].port(t, says, 0);
  workers[0].strays.copyArp(batch, 0, IPV6);
  for (const worker of [1, 2, 0, 1]) workers[worker].turn();
  t.is(workers[0].taken.length, 0);
  for (const worker of workers.slice(1)) {
    const twin = circle(3)[worker.strays.worker].port(t, says, 0);
    t.deepEqual(
      worker.taken.map(({ what, frame }) => [what, frame]),
      [["neighbor", frameIn(twin)]],
    );
    t.is(worker.counters.get(worker.counters.indexOf("strays.received")), 0);
  }
});

test("frames of an IPv4 interface cross byte by byte, whatever is in them", (t) => {
  const [first, second] = circle(2);
  const batch = first.port(t, FRAMES[0][1], KNOWN);
  t.is(first.strays.handOver(batch, 0, IPV4), HANDED_OVER);
  second.turn();
  t.deepEqual(second.taken[0].frame, frameIn(batch));
});

test("many frames of both families, one behind another, keep their order and their bytes", (t) => {
  const [first, second] = circle(2);
  const expected: Uint8Array[] = [];
  for (let n = 0; n < 1000; n++) {
    const wire = frameOf(17, HOST, FAR, l4Of(17, new Uint8Array((n * 37) % 3000).fill(n)));
    const batch = first.port(t, wire, KNOWN);
    t.is(first.strays.handOver(batch, 0, n % 3 === 0 ? IPV4 : IPV6), HANDED_OVER);
    expected.push(n % 3 === 0 ? frameIn(batch) : frameIn(second.port(t, wire, KNOWN)));
    if (n % 50 === 49) while (second.turn() > 0);
  }
  t.deepEqual(
    second.taken.map(({ frame }) => frame),
    expected,
  );
});

test("a worker whose address book is full refuses a stray by name, and loses a neighbor's message, counted", (t) => {
  const [first, second] = circle(2, 12);
  const batch = first.port(t, FRAMES[0][1], KNOWN);
  t.is(first.strays.handOver(batch, 0, IPV6), HANDED_OVER);
  first.strays.copyArp(batch, 0, IPV6);
  second.turn();
  t.deepEqual(
    second.taken.map(({ what }) => what),
    ["addresses-full"],
  );
  t.is(second.counters.get(second.counters.indexOf("drop.addresses-full")), 1);
});

test("whoever owns a session agrees about it, whatever names its addresses have", (t) => {
  const workers = circle(5);
  for (let port = 1; port < 200; port++) {
    const word = (address: Uint8Array) => new DataView(address.buffer).getInt32(0);
    const owners = workers.filter(({ book, strays }) => {
      const [source, destination] = [HOST, Uint8Array.of(...FAR.slice(0, 15), 1)].map((address) => {
        const view = new DataView(address.buffer);
        return book.enter(view.getInt32(0), view.getInt32(4), view.getInt32(8), view.getInt32(12), 0);
      });
      return strays.isOwner(source, destination, port, 17);
    });
    t.is(owners.length, 1);
    // Four equal words are nothing, three and another one that last.
    const shard = shardOf(0, word(FAR) ^ 0x22222201, port, 17);
    t.is(owners[0].strays.worker, shard % 5);
  }
});
