import test from "ava";
import { SessionTable, SIDE_PLAIN, SIDE_SENDING } from "../../lib/table/session-table.ts";
import { seededRandom } from "../model/seed.ts";
import { SlowSessionTable } from "../model/session-table.ts";

interface Columns {
  tenant: number;
  uuid: number[];
  tcpState: number;
  tcpNumbers: number[];
  segmentSize: number[];
}

test("a session table agrees with a Map of records over a long random life", (t) => {
  const random = seededRandom(t);
  const table = new SessionTable(30);
  const slow = new SlowSessionTable<Columns>(30);
  for (let step = 0; step < 20_000; step++) {
    const row = slow.rows[random.below(Math.max(slow.rows.length, 1))];
    if (random.below(100) < (step % 1000 < 500 ? 60 : 30)) {
      const columns = {
        tenant: step,
        uuid: [step, step + 1, step + 2, random.nextI32()],
        tcpState: 0,
        tcpNumbers: [0, 0, 0, 0],
        segmentSize: [0, 0],
      };
      const expected = slow.allocate(columns);
      const fresh = table.allocate(step);
      t.is(fresh, expected);
      if (fresh >= 0) {
        table.tenant[fresh] = step;
        table.uuid.set(columns.uuid, fresh * 4);
      }
    } else if (row !== undefined && random.below(2) === 0) {
      table.free(row);
      slow.free(row);
    } else if (row !== undefined) {
      const columns = slow.columns(row)!;
      table.tcpState[row] = columns.tcpState = 1 + random.below(7);
      const direction = random.below(4);
      table.tcpNumbers[row * 4 + direction] = columns.tcpNumbers[direction] = random.nextI32();
      table.segmentSize[row * 2 + (direction & 1)] = columns.segmentSize[direction & 1] = random.below(0x10000);
    }
    t.is(table.count, slow.count);
    const any = random.below(30);
    t.is(table.isLive(any), slow.isLive(any));
    for (const each of slow.rows.slice(0, 3)) {
      const columns = slow.columns(each)!;
      t.is(table.tenant[each], columns.tenant);
      t.is(table.tcpState[each], columns.tcpState);
      t.deepEqual([...table.tcpNumbers.subarray(each * 4, each * 4 + 4)], columns.tcpNumbers);
      t.deepEqual([...table.segmentSize.subarray(each * 2, each * 2 + 2)], columns.segmentSize);
      t.true(table.hasUuid(each, Int32Array.from(columns.uuid)));
      t.false(
        table.hasUuid(
          each,
          Int32Array.from(columns.uuid, (word, i) => word + (i === step % 4 ? 1 : 0)),
        ),
      );
    }
  }
});

test("a session's age is right to a hundredth of a second, also for those older than 2^31 ms", (t) => {
  const table = new SessionTable(2);
  const start = 2 ** 31 - 5;
  const row = table.allocate(start);
  for (const passed of [0, 20, 1_234, 2 ** 31, 400 * 24 * 3_600_000]) {
    t.true(Math.abs(table.ageMs(row, start + passed) - passed) <= 10, `${passed}`);
  }
});

test("sessions have keys of their own where there is room, nobody else's, and none once they are over", (t) => {
  const table = new SessionTable(3, 32);
  const bytes = Uint8Array.from({ length: 40 }, (_, i) => i + 1);
  const rows = [0, 1, 2].map((ms) => table.allocate(ms));
  table.setKey(rows[0], bytes.subarray(1), 32);
  table.setKey(rows[1], bytes, 16);
  t.deepEqual(
    rows.map((row) => table.keyLength(row)),
    [32, 16, 0],
  );
  t.true(table.hasKey(rows[0], bytes, 1, 32));
  t.false(table.hasKey(rows[0], bytes, 1, 31));
  t.false(table.hasKey(rows[0], bytes, 2, 32));
  t.true(table.hasKey(rows[1], bytes, 0, 16));
  t.true(table.hasKey(rows[2], bytes, 0, 0));
  table.free(rows[0]);
  t.true(table.keys.subarray(rows[0] * 32, rows[0] * 32 + 32).every((byte) => byte === 0));
  t.true(table.hasKey(rows[1], bytes, 0, 16));
  t.is(table.keyLength(table.allocate(4)), 0);
  table.free(rows[1]);
  t.true(table.keys.every((byte) => byte === 0));
  const without = new SessionTable(3);
  t.is(without.keys.length, 0);
  t.is(without.keyLength(without.allocate(0)), 0);
  t.throws(() => without.setKey(0, bytes, 16));
});

test("a handshake side that starts again remembers nothing", (t) => {
  const { upstream } = new SessionTable(2);
  upstream.start(1, 5, -1);
  upstream.unanswered[1] = 3;
  upstream.generatedMs[1] = 99;
  upstream.unansweredSinceMs[1] = 98;
  t.deepEqual([upstream.state[1], upstream.path[1]], [SIDE_SENDING, 5]);
  upstream.start(1, -1, -1);
  t.deepEqual(
    [
      upstream.state[1],
      upstream.path[1],
      upstream.unanswered[1],
      upstream.generatedMs[1],
      upstream.unansweredSinceMs[1],
    ],
    [SIDE_PLAIN, -1, 0, 0, 0],
  );
});
