import test from "ava";
import { NEIGHBOR_DISPUTED, NeighborTable } from "../../lib/peer/neighbor.ts";

const [MAC_HIGH, MAC_LOW] = [0x0211, 0x22334455];
const [OWN_HIGH, OWN_LOW] = [0x02aa, 0xbbccddee | 0];
const ADDRESS = 0x0a000002;

class Bench {
  readonly table: NeighborTable;
  readonly asked: string[] = [];
  readonly failed: number[] = [];

  constructor(capacity = 4) {
    this.table = new NeighborTable(capacity);
  }

  due(nowMs: number): void {
    this.table.due(
      nowMs,
      (row, unicast) => this.asked.push(`${nowMs} ${row} ${unicast ? "unicast" : "broadcast"}`),
      (row) => this.failed.push(row),
    );
  }

  /** Housekeeping ten times a second, as the engine does it, with a packet each time when `used`. */
  pass(fromMs: number, toMs: number, used: boolean, row = 0): void {
    for (let now = fromMs; now <= toMs; now += 100) {
      if (used) this.table.retry(row, now);
      this.due(now);
    }
  }

  learn(nowMs: number, address = ADDRESS, interfaceId = 0): number {
    return this.table.learn(interfaceId, address, MAC_HIGH, MAC_LOW, OWN_HIGH, OWN_LOW, nowMs);
  }
}

test("a wanted neighbor is asked for at once, and its answer gives the first twelve bytes of a frame", (t) => {
  const bench = new Bench();
  const row = bench.table.want(0, ADDRESS, 1000);
  t.true(bench.table.urgent);
  t.is(bench.table.usable[row], 0);
  bench.due(1000);
  t.false(bench.table.urgent);
  t.deepEqual(bench.asked, ["1000 0 broadcast"]);
  t.is(bench.learn(1001), row, "held frames can go");
  t.is(bench.table.usable[row], 1);
  t.is(bench.table.stateName(row), "reachable");
  const bytes = new DataView(new ArrayBuffer(12));
  for (let word = 0; word < 3; word++) bytes.setInt32(word * 4, bench.table.macs[row * 4 + word]);
  t.is(Buffer.from(bytes.buffer).toString("hex"), "02112233445502aabbccddee");
  t.is(bench.learn(1002), -1, "they went the first time");
  t.is(bench.table.ageMs(row, 1500), 498);
});

test("three requests, a second apart, then a neighbor is given up; who wants it a second later asks again", (t) => {
  const bench = new Bench();
  const row = bench.table.want(0, ADDRESS, 0);
  bench.pass(0, 2900, true);
  t.deepEqual(bench.asked, ["0 0 broadcast", "1000 0 broadcast", "2000 0 broadcast"]);
  t.deepEqual(bench.failed, []);
  bench.pass(3000, 3000, true);
  t.deepEqual(bench.failed, [row]);
  t.is(bench.table.stateName(row), "failed");
  t.is(bench.table.ageMs(row, 3000), -1);
  bench.pass(3100, 3900, true);
  t.is(bench.asked.length, 3, "not before its time");
  bench.pass(4000, 4000, true);
  t.is(bench.asked.length, 4);
  t.is(bench.table.stateName(row), "incomplete");
});

test("a failed neighbor that nobody wants is left alone, and believed when it speaks", (t) => {
  const bench = new Bench();
  const row = bench.table.want(0, ADDRESS, 0);
  bench.pass(0, 20_000, false);
  t.is(bench.asked.length, 3);
  t.is(bench.learn(20_000), row);
  t.is(bench.table.usable[row], 1);
});

test("a neighbor in use is asked by unicast after half a minute and forwards meanwhile; unanswered, it is resolved anew", (t) => {
  const bench = new Bench();
  const row = bench.table.want(0, ADDRESS, 0);
  bench.due(0);
  bench.learn(0);
  bench.asked.length = 0;
  bench.pass(100, 30_000, true);
  t.deepEqual(bench.asked, ["30000 0 unicast"]);
  t.is(bench.table.usable[row], 1);
  t.is(bench.learn(30_050), -1);
  bench.asked.length = 0;
  bench.pass(30_100, 62_100, true);
  t.deepEqual(
    bench.asked.map((line) => line.split(" ")[2]),
    ["unicast", "unicast", "unicast"],
  );
  t.is(bench.table.usable[row], 1);
  bench.pass(62_200, 63_200, true);
  t.is(bench.table.stateName(row), "incomplete");
  t.is(bench.table.usable[row], 0);
  t.is(bench.asked.at(-1)?.split(" ")[2], "broadcast");
});

test("an idle neighbor is not refreshed until somebody uses it", (t) => {
  const bench = new Bench();
  bench.table.want(0, ADDRESS, 0);
  bench.due(0);
  bench.learn(0);
  bench.asked.length = 0;
  for (let now = 61_000; now < 600_000; now += 1000) bench.due(now);
  t.deepEqual(bench.asked, []);
  bench.pass(600_000, 600_000, true);
  t.deepEqual(bench.asked, ["600000 0 unicast"]);
});

test("only wanted addresses are learned, each on its own interface", (t) => {
  const bench = new Bench();
  t.is(bench.learn(0), -1);
  t.is(bench.table.count, 0);
  const row = bench.table.want(1, ADDRESS, 0);
  t.is(bench.learn(0, ADDRESS, 0), -1);
  t.is(bench.table.usable[row], 0);
  t.not(bench.table.want(0, ADDRESS, 0), row);
  t.is(bench.table.want(1, ADDRESS, 0), row);
});

test("a full table gives the row that was idle longest to another, never one in use or one that is being resolved", (t) => {
  const bench = new Bench(3);
  const rows = [1, 2, 3].map((address) => bench.table.want(0, address, address * 10));
  t.is(bench.table.want(0, 4, 40), -1, "all three are being resolved");
  for (const address of [1, 2, 3]) bench.learn(50, address);
  bench.table.acquire(rows[0]);
  t.is(bench.table.want(0, 4, 60), rows[1]);
  t.is(bench.table.find(0, 2), -1);
  t.is(bench.table.usable[rows[1]], 0, "the MAC address of the old one is not used for the new one");
  bench.table.acquire(rows[2]);
  t.is(bench.table.want(0, 5, 70), -1);
  bench.table.release(rows[0]);
  t.is(bench.table.want(0, 5, 80), rows[0]);
  t.deepEqual([...bench.table.rows()].sort(), [0, 1, 2]);
});

const OTHER_LOW = 0x66778899;
const claim = (bench: Bench, nowMs: number, low = OTHER_LOW) =>
  bench.table.learn(0, ADDRESS, MAC_HIGH, low, OWN_HIGH, OWN_LOW, nowMs);
const isAt = (bench: Bench, low: number) => bench.table.isAt(0, ADDRESS, MAC_HIGH, low);

/** A neighbor that answered at 0 ms. */
function inUse(): Bench {
  const bench = new Bench();
  bench.table.want(0, ADDRESS, 0);
  bench.due(0);
  bench.learn(0);
  bench.asked.length = 0;
  return bench;
}

test("a neighbor in use that is claimed for another MAC address keeps its own as long as it answers", (t) => {
  const bench = inUse();
  for (let now = 5000; now < 15_000; now += 10) {
    t.is(claim(bench, now), NEIGHBOR_DISPUTED);
    if (bench.table.urgent) {
      bench.due(now);
      bench.learn(now + 1);
    }
    t.true(isAt(bench, MAC_LOW) && !isAt(bench, OTHER_LOW));
  }
  t.deepEqual(
    bench.asked,
    Array.from({ length: 10 }, (_, n) => `${5000 + n * 1000} 0 unicast`),
    "a thousand claims, and it is asked once a second",
  );
  t.is(bench.table.usable[0], 1);
});

test("a neighbor that moved to another MAC address is found there within a second", (t) => {
  const bench = inUse();
  t.is(claim(bench, 5000), NEIGHBOR_DISPUTED);
  bench.pass(5000, 5900, true);
  t.deepEqual(
    bench.asked.map((line) => line.split(" ")[2]),
    ["unicast", "unicast", "unicast", "broadcast"],
  );
  t.is(claim(bench, 5910), 0, "held frames can go");
  t.true(isAt(bench, OTHER_LOW));
});

test("where nobody can be asked, what was said last counts", (t) => {
  const table = new NeighborTable(4, true);
  const row = table.want(0, ADDRESS, 0);
  table.learn(0, ADDRESS, MAC_HIGH, MAC_LOW, OWN_HIGH, OWN_LOW, 1);
  t.is(table.learn(0, ADDRESS, MAC_HIGH, OTHER_LOW, OWN_HIGH, OWN_LOW, 2), -1);
  t.true(table.isAt(0, ADDRESS, MAC_HIGH, OTHER_LOW));
  t.is(table.stateName(row), "reachable");
});
