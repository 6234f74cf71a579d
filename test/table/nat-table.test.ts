// Mappings of source NAT, and their ports.

import test from "ava";
import fc from "fast-check";
import { SeededRandom } from "../../lib/base/random.ts";
import { StateError, StateReader, StateWriter } from "../../lib/base/state.ts";
import { addressBook } from "../../lib/table/address-book.ts";
import {
  NAT_PORT_FIRST,
  NAT_PORTS,
  type NatInside,
  NatTable,
  ORIGIN_INTERFACE,
  ORIGIN_PATH,
} from "../../lib/table/nat-table.ts";
import { SlowNatTable } from "../model/nat-table.ts";

const OUTSIDE = [0x0a00_0001, 0x0a00_0002];
const QUARANTINE_MS = 10_000;

const host = (port: number, more: Partial<NatInside> = {}): NatInside => ({
  address: 0x0a01_0002,
  port,
  protocol: 17,
  tenant: 0,
  pool: 0,
  origin: ORIGIN_INTERFACE,
  ...more,
});

const fresh = (capacity = 8, seed = 1) => new NatTable(OUTSIDE, capacity, new SeededRandom(seed), QUARANTINE_MS);

test("a host's port has one mapping, with a port as even or odd as its own", (t) => {
  const table = fresh();
  const row = table.add(host(40_000), OUTSIDE[0], 0);
  t.is(table.find(host(40_000)), row);
  t.is(table.outside(row), OUTSIDE[0]);
  t.is(table.outsidePort(row) & 1, 0);
  t.is(table.outsidePort(table.add(host(40_001), OUTSIDE[0], 0)) & 1, 1);
  t.deepEqual(
    [table.inside(row), table.insidePort(row), table.protocol(row), table.tenant(row)],
    [0x0a01_0002, 40_000, 17, 0],
  );
  t.is(table.withOutside(OUTSIDE[0], table.outsidePort(row), 17), row);
  t.is(table.withOutside(OUTSIDE[1], table.outsidePort(row), 17), -1);
  t.is(table.withOutside(OUTSIDE[0], table.outsidePort(row), 6), -1);
});

test("hosts are told apart by each part of what they are", (t) => {
  const table = fresh();
  const others: Partial<NatInside>[] = [
    {},
    { address: 1 },
    { protocol: 6 },
    { tenant: 1 },
    { pool: 1 },
    { origin: ORIGIN_INTERFACE - 1 },
    { origin: 3 },
  ];
  const rows = others.map((other) => table.add(host(40_000, other), OUTSIDE[0], 0));
  t.is(new Set(rows).size, others.length);
  for (const [n, other] of others.entries()) t.is(table.find(host(40_000, other)), rows[n]);
});

test("an origin is an interface here, a path, or another router's name", (t) => {
  const table = fresh();
  const at = (origin: number) => table.insideInterface(table.add(host(1, { origin }), OUTSIDE[0], 0));
  t.deepEqual(
    [at(ORIGIN_INTERFACE), at(ORIGIN_INTERFACE - 255), at(ORIGIN_PATH), at(ORIGIN_PATH - 9), at(7)],
    [0, 255, -1, -1, -1],
  );
});

test("nothing is an outside address but those that were given", (t) => {
  const table = fresh();
  t.deepEqual([table.has(OUTSIDE[0]), table.has(OUTSIDE[1]), table.has(5)], [true, true, false]);
  t.is(table.withOutside(5, NAT_PORT_FIRST, 17), -1);
  t.is(table.withOutside(OUTSIDE[0], NAT_PORT_FIRST, 47), -1);
  for (const port of [0, NAT_PORT_FIRST - 1, NAT_PORT_FIRST + NAT_PORTS, 0xffff])
    t.is(table.withOutside(OUTSIDE[0], port, 17), -1);
});

test("a mapping is there while it is held, and its port rests behind it", (t) => {
  const table = fresh();
  const row = table.add(host(40_000), OUTSIDE[0], 0);
  const port = table.outsidePort(row);
  table.hold(row);
  table.release(row, 1000);
  t.true(table.isLive(row));
  table.release(row, 2000);
  t.is(table.find(host(40_000)), -1);
  t.is(table.withOutside(OUTSIDE[0], port, 17), -1);
  t.deepEqual([table.count, table.portsInUse(OUTSIDE[0])], [0, 0]);
});

test("when the ports of one parity are gone the others are given, and then none, until one has rested", (t) => {
  const table = fresh(NAT_PORTS + 1);
  const rows = Array.from({ length: NAT_PORTS }, (_, n) =>
    table.add(host(2 * (n & 0x7fff), { tenant: n >>> 15 }), OUTSIDE[0], 0),
  );
  const ports = rows.map((row) => table.outsidePort(row));
  t.is(new Set(ports).size, NAT_PORTS);
  t.deepEqual([Math.min(...ports), Math.max(...ports)], [NAT_PORT_FIRST, NAT_PORT_FIRST + NAT_PORTS - 1]);
  t.true(ports.slice(0, 24_576).every((port) => (port & 1) === 0));
  t.true(ports.slice(24_576).every((port) => (port & 1) === 1));
  t.is(table.add(host(1, { tenant: 9 }), OUTSIDE[0], 0), -1);
  t.is(table.portsInUse(OUTSIDE[0]), NAT_PORTS);
  // Another protocol, and another address, have theirs.
  const tcp = table.add(host(1, { protocol: 6 }), OUTSIDE[0], 0);
  t.true(tcp >= 0);
  table.release(tcp, 0);
  const [first] = rows;
  table.release(first, 1000);
  t.is(table.add(host(1, { tenant: 9 }), OUTSIDE[0], 1000 + QUARANTINE_MS - 1), -1);
  const late = table.add(host(1, { tenant: 9 }), OUTSIDE[0], 1000 + QUARANTINE_MS);
  t.is(table.outsidePort(late), ports[0]);
});

test("the name of an IPv6 host is nobody else's while it has a mapping, whoever holds that", (t) => {
  const table = fresh();
  const name = addressBook.enter(1, 2, 3, 4, 0);
  const before = addressBook.limit;
  // Room for one more: whoever comes after that needs a name that is given away.
  addressBook.limit = addressBook.count + 2;
  t.teardown(() => (addressBook.limit = before));
  const row = table.add(host(1, { address: name }), OUTSIDE[0], 0);
  for (let n = 0; n < 4; n++) addressBook.enter(9, 9, 9, n, 20_000 * (n + 1));
  t.is(addressBook.find(1, 2, 3, 4), name);
  table.release(row, 0);
  for (let n = 4; n < 8; n++) addressBook.enter(9, 9, 9, n, 20_000 * (n + 1));
  t.is(addressBook.find(1, 2, 3, 4), 0);
});

test("a full table gives nothing, and takes no port for it", (t) => {
  const table = fresh(2);
  table.add(host(1), OUTSIDE[0], 0);
  table.add(host(2), OUTSIDE[0], 0);
  t.is(table.add(host(3), OUTSIDE[0], 0), -1);
  t.deepEqual([table.count, table.portsInUse(OUTSIDE[0])], [2, 2]);
});

test("RFC 7857, REQ-10: the order of ports is another at each start, each address and each protocol", (t) => {
  const order = (seed: number, outside: number, protocol: number) => {
    const table = fresh(64, seed);
    return Array.from({ length: 32 }, (_, n) => {
      const row = table.add(host(2 * n, { protocol }), outside, 0);
      return table.outsidePort(row);
    }).join();
  };
  const orders = [
    order(1, OUTSIDE[0], 17),
    order(2, OUTSIDE[0], 17),
    order(1, OUTSIDE[1], 17),
    order(1, OUTSIDE[0], 6),
  ];
  t.is(new Set(orders).size, 4);
  t.is(order(1, OUTSIDE[0], 17), orders[0]);
});

/** The table in another process, whose own order of ports is another. */
function carried(table: NatTable, capacity: number, names: readonly number[] = [0, 1, 2, 3]) {
  const out = new StateWriter();
  table.save(out);
  const there = fresh(capacity, 99);
  const rows = there.restore(new StateReader(out.finish()), names, 3, 2);
  return { there, rows };
}

test("another process goes on with mappings and with ports that rest", (t) => {
  const table = fresh();
  const one = table.add(host(40_000, { origin: 2 }), OUTSIDE[0], 0);
  const two = table.add(host(40_001), OUTSIDE[1], 0);
  const gone = table.add(host(40_003), OUTSIDE[1], 0);
  const rested = table.outsidePort(gone);
  table.release(gone, 0);
  const { there, rows } = carried(table, 8, [0, 1, 3, 2]);
  t.is(rows.size, 2);
  t.false(there.isReferenced);
  for (const row of [one, two]) {
    const here = rows.get(row)!;
    there.hold(here);
    t.deepEqual(
      [there.inside(here), there.insidePort(here), there.outside(here), there.outsidePort(here)],
      [table.inside(row), table.insidePort(row), table.outside(row), table.outsidePort(row)],
    );
    t.is(there.withOutside(there.outside(here), there.outsidePort(here), 17), here);
  }
  t.true(there.isReferenced);
  // Its name has another row here.
  t.is(there.find(host(40_000, { origin: 3 })), rows.get(one)!);
  t.is(there.find(host(40_000, { origin: 2 })), -1);
  const ports = [0, 1, 2].map((n) => there.outsidePort(there.add(host(50_001 + 2 * n), OUTSIDE[1], 1000)));
  t.false(ports.includes(rested));
});

test("a state of other addresses, or with a mapping of nothing that is known, is refused", (t) => {
  const table = fresh();
  table.add(host(1, { tenant: 2 }), OUTSIDE[0], 0);
  const out = new StateWriter();
  table.save(out);
  const state = out.finish();
  const refused = (into: NatTable, names: number[], tenants: number) =>
    t.throws(() => into.restore(new StateReader(state), names, tenants, 1), { instanceOf: StateError });
  refused(new NatTable([OUTSIDE[0]], 8, new SeededRandom(1)), [0], 3);
  refused(fresh(), [0], 2);
});

type Step =
  | { readonly do: "add"; readonly host: number; readonly protocol: number }
  | { readonly do: "hold" | "release"; readonly pick: number }
  | { readonly do: "wait"; readonly ms: number }
  | { readonly do: "carry" };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant("add" as const), host: fc.nat(11), protocol: fc.constantFrom(1, 6, 17) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("hold" as const), pick: fc.nat() }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant("release" as const), pick: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.nat(15_000) }) },
  { weight: 1, arbitrary: fc.constant({ do: "carry" as const }) },
);

const hostOf = (n: number, protocol: number) =>
  host(40_000 + (n % 3), { protocol, tenant: n % 2, origin: n < 6 ? ORIGIN_INTERFACE : n % 3 });

test("the table and its slow twin agree, whatever is asked of them", (t) => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 10 }), (steps, capacity) => {
      let table = fresh(capacity);
      const slow = new SlowNatTable(capacity, QUARANTINE_MS);
      let nowMs = 0;
      for (const one of steps) {
        if (one.do === "wait") nowMs += one.ms;
        else if (one.do === "carry") {
          const { there, rows } = carried(table, capacity);
          for (const { inside, references } of slow.mappings)
            for (let n = 0; n < references; n++) there.hold(rows.get(table.find(inside))!);
          table = there;
        } else if (one.do === "add") {
          const inside = hostOf(one.host, one.protocol);
          const outside = OUTSIDE[one.host % 2];
          if (slow.find(inside) !== undefined) continue;
          const row = table.add(inside, outside, nowMs);
          if (row < 0) {
            t.true(slow.isFull);
            continue;
          }
          t.is(slow.objection(inside, outside, table.outsidePort(row), nowMs), null);
          t.is(table.outsidePort(row) & 1, inside.port & 1);
          slow.add(inside, outside, table.outsidePort(row));
        } else if (slow.mappings.length > 0) {
          const mapping = slow.mappings[one.pick % slow.mappings.length];
          const row = table.find(mapping.inside);
          if (one.do === "hold") {
            table.hold(row);
            mapping.references++;
          } else {
            table.release(row, nowMs);
            slow.release(mapping, nowMs);
          }
        }
        agree(table, slow);
      }
      return true;
    }),
    { numRuns: 200 },
  );

  function agree(table: NatTable, slow: SlowNatTable): void {
    if (table.count !== slow.mappings.length) t.fail(`${table.count} mappings of ${slow.mappings.length}`);
    if (!table.isReferenced) t.fail("a mapping is nobody's");
    for (const { inside, outside, port } of slow.mappings) {
      const row = table.find(inside);
      if (table.withOutside(outside, port, inside.protocol) !== row) t.fail(`port ${port} is not its mapping's`);
      if (table.outside(row) !== outside || table.outsidePort(row) !== port) t.fail("another address or port");
      if (table.inside(row) !== inside.address || table.insidePort(row) !== inside.port) t.fail("another host");
    }
    for (const outside of OUTSIDE) {
      const used = slow.mappings.filter((mapping) => mapping.outside === outside).length;
      if (table.portsInUse(outside) !== used) t.fail(`${table.portsInUse(outside)} ports in use of ${used}`);
    }
  }
});
