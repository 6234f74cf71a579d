import test from "ava";
import { InvariantError } from "../../lib/base/invariant.ts";
import { PortPool, ShardedPortPool } from "../../lib/table/port-pool.ts";
import { waypointShard } from "../../lib/wire/shard.ts";
import { SlowPortPool } from "../model/port-pool.ts";
import { seededRandom } from "../model/seed.ts";

test("the first pair of a fresh pool is 16384 here and 16385 at the peer, the next 16386 and 16387", (t) => {
  const pool = new PortPool();
  t.is(pool.ports(pool.allocate(0)), (16384 << 16) | 16385);
  const second = pool.allocate(0);
  t.deepEqual([pool.localPort(second), pool.remotePort(second)], [16386, 16387]);
});

test("where the local ports begin again, the remote port moves on by two pairs", (t) => {
  const pool = new PortPool();
  t.deepEqual([pool.localPort(24_575), pool.remotePort(24_575)], [65_534, 16_385]);
  t.deepEqual([pool.localPort(24_576), pool.remotePort(24_576)], [16_384, 16_389]);
  t.deepEqual([pool.localPort(49_152), pool.remotePort(49_152)], [16_384, 16_393]);
});

test("a million pairs are all different, even here and odd at the peer, within 16384..65534", (t) => {
  const pool = new PortPool(1_000_000);
  const ports = new Int32Array(1_000_000);
  for (let i = 0; i < ports.length; i++) {
    const row = pool.allocate(0);
    if (row !== i) t.fail(`row ${row} as allocation ${i}`);
    const local = pool.localPort(row);
    const remote = pool.remotePort(row);
    if (local % 2 !== 0 || local < 16384 || local > 65534) t.fail(`local ${local}`);
    if (remote % 2 !== 1 || remote < 16384 || remote > 65534) t.fail(`remote ${remote}`);
    ports[i] = pool.ports(row);
    if (ports[i] !== ((local << 16) | remote)) t.fail(`ports of row ${row}`);
  }
  t.is(new Set(ports).size, 1_000_000);
  t.is(pool.allocate(1e9), -1);
  t.is(pool.inUse, 1_000_000);
});

test("a released pair stays in quarantine and the pool is exhausted meanwhile", (t) => {
  const pool = new PortPool(2, 10_000);
  const first = pool.allocate(0);
  const second = pool.allocate(0);
  t.is(pool.allocate(0), -1);
  pool.release(second, 5_000);
  pool.release(first, 6_000);
  t.is(pool.inUse, 0);
  t.is(pool.allocate(14_999), -1);
  t.is(pool.allocate(15_000), second);
  t.is(pool.allocate(15_000), -1);
  t.is(pool.allocate(16_000), first);
});

test("a pair's quarantine is no longer when it begins at time 0, as the clock reads it every 25 days", (t) => {
  for (const startMs of [0, 2 ** 31]) {
    const pool = new PortPool(1, 100);
    pool.release(pool.allocate(startMs), startMs);
    t.is(pool.allocate(startMs + 99), -1);
    t.is(pool.allocate(startMs + 100), 0);
  }
});

test("a pair's quarantine is as long past 2^31 milliseconds, and over after a month", (t) => {
  const pool = new PortPool(1, 10_000);
  for (let nowMs = 2 ** 31 - 15_000, n = 0; n < 4; n++) {
    pool.release(pool.allocate(nowMs), nowMs + 1);
    t.is(pool.allocate(nowMs + 10_000), -1);
    nowMs += n === 2 ? 30 * 24 * 3_600_000 : 10_001;
  }
});

test("pairs never used come before released ones", (t) => {
  const pool = new PortPool(3, 0);
  pool.release(pool.allocate(0), 0);
  t.deepEqual([pool.allocate(0), pool.allocate(0), pool.allocate(0), pool.allocate(0)], [1, 2, 0, -1]);
});

test("releasing a pair that is not in use is an InvariantError", (t) => {
  const pool = new PortPool(8, 0, 1, 2);
  const row = pool.allocate(0);
  pool.release(row, 0);
  for (const wrong of [row, 0, 2, 3, 9, -1]) t.throws(() => pool.release(wrong, 0), { instanceOf: InvariantError });
  t.is(pool.inUse, 0);
});

test("the stripes of three workers share the pairs without meeting", (t) => {
  const pools = [0, 1, 2].map((worker) => new PortPool(100, 10_000, worker, 3));
  const seen = new Set<number>();
  pools.forEach((pool, worker) => {
    for (let row = pool.allocate(0); row >= 0; row = pool.allocate(0)) {
      t.is(row % 3, worker);
      t.true(pool.isInUse(row));
      seen.add(pool.ports(row));
    }
  });
  t.is(seen.size, 100);
  t.deepEqual(
    pools.map((pool) => pool.inUse),
    [34, 33, 33],
  );
});

for (const [firstRow, stride] of [
  [0, 1],
  [2, 3],
]) {
  test(`a pool from row ${firstRow} in steps of ${stride} agrees with a list of free pairs over a long random life`, (t) => {
    const random = seededRandom(t);
    const pool = new PortPool(40, 100, firstRow, stride);
    const slow = new SlowPortPool(40, 100, firstRow, stride);
    let nowMs = 0;
    for (let n = 0; n < 10; n++) {
      // Before the pool is used up once, pairs can be reserved; later none is.
      const row = random.below(41);
      const ports = pool.ports(row);
      t.is(pool.reserve(ports), slow.reserve(row));
    }
    for (let step = 0; step < 20_000; step++) {
      nowMs += random.below(8);
      if (random.below(10) === 0) {
        const row = random.below(40);
        t.is(pool.reserve(pool.ports(row)), slow.reserve(row));
      }
      if (random.below(100) < (step % 1000 < 500 ? 60 : 40)) {
        t.is(pool.allocate(nowMs), slow.allocate(nowMs));
      } else if (slow.used.size > 0) {
        const row = [...slow.used][random.below(slow.used.size)];
        pool.release(row, nowMs);
        slow.release(row, nowMs);
      }
      t.is(pool.inUse, slow.used.size);
      const row = random.below(41);
      t.is(pool.isInUse(row), slow.used.has(row));
    }
  });
}

test("a pair is found by its ports wherever the numbering has it, and other ports are nobody's", (t) => {
  const pool = new PortPool(1_000_000);
  for (const row of [0, 1, 24_575, 24_576, 49_152, 614_399, 999_999]) t.is(pool.reserve(pool.ports(row)), row);
  t.is(pool.inUse, 7);
  t.is(pool.reserve(pool.ports(24_576)), -1, "in use already");
  for (const [local, remote] of [
    [16_385, 16_386],
    [16_384, 16_386],
    [16_382, 16_385],
    [16_384, 65_535],
    [16_384, 16_387],
  ]) {
    t.is(pool.reserve((local << 16) | remote), -1);
  }
  const sharded = new ShardedPortPool(1000, 10_000, 1, 2);
  t.is(sharded.reserve(sharded.ports(65)), 65);
  t.is(sharded.reserve(sharded.ports(66)), -1, "another worker's");
});

test("a session's pair has the session's shard in its even port, on every worker that owns the shard", (t) => {
  for (const workers of [1, 2, 3, 64]) {
    for (let shard = 0; shard < 64; shard++) {
      const pool = new ShardedPortPool(1000, 10_000, shard % workers, workers);
      for (let n = 0; n < 5; n++) t.is(waypointShard(pool.ports(pool.allocate(shard, 0))), shard);
    }
  }
});

test("workers share the pairs out: together they have all of them, and no pair twice", (t) => {
  const pools = [0, 1, 2].map((worker) => new ShardedPortPool(500, 10_000, worker, 3));
  const seen = new Set<number>();
  pools.forEach((pool, worker) => {
    for (let row = pool.allocate(worker, 0); row >= 0; row = pool.allocate(worker, 0)) seen.add(pool.ports(row));
  });
  t.is(seen.size, 500);
  t.is(
    pools.reduce((sum, pool) => sum + pool.inUse, 0),
    500,
  );
});

test("when a shard's pairs are used up the worker's other shards help out, and a released pair comes back to its own", (t) => {
  const pool = new ShardedPortPool(256, 10_000, 1, 2);
  const own = Array.from({ length: 4 }, () => pool.allocate(5, 0));
  t.true(own.every((row) => row % 64 === 5));
  const helped = pool.allocate(5, 0);
  t.is(helped % 2, 1, "a shard of this worker");
  t.not(helped % 64, 5);
  for (const row of [...own, helped]) pool.release(row, 0);
  t.is(pool.inUse, 0);
  t.is(pool.allocate(5, 20_000), own[0]);
  t.true(pool.isInUse(own[0]));
  t.false(pool.isInUse(own[1]));
});

test("a pool with fewer pairs than shards serves every shard", (t) => {
  const pool = new ShardedPortPool(16, 10_000);
  const rows = Array.from({ length: 16 }, (_, n) => pool.allocate(63 - n, 0));
  t.is(new Set(rows).size, 16);
  t.is(pool.allocate(0, 0), -1);
  t.throws(() => new ShardedPortPool(16, 10_000, 16, 32));
});
