import test from "ava";
import { SeededRandom } from "../../lib/base/random.ts";
import { FaultPort, type Faults } from "../../lib/io/fault-port.ts";
import { MemoryPort } from "../../lib/io/memory-port.ts";
import { PORT_MAC } from "../contract/frames.ts";
import { batchOf, emptyBatch, many } from "../contract/port-contract.ts";

function faulty(faults: Faults, seed = 1): { port: FaultPort; sent: () => number[]; frames: () => Uint8Array[] } {
  const inner = new MemoryPort({ name: "wan0", mac: PORT_MAC, queueFrames: 4096 });
  const frames = () => inner.sent();
  // The number that many() wrote into each frame.
  const sent = () => frames().map((frame) => frame[42] * 256 + frame[43]);
  return { port: new FaultPort(inner, faults, new SeededRandom(seed)), sent, frames };
}

test("exactly the frames named are lost, and still count as sent", (t) => {
  const { port, sent } = faulty({ drop: [1, 3] });
  t.is(port.tx(batchOf(many(4)), 0, 4), 4);
  t.deepEqual(sent(), [1, 3]);
  t.is(port.counts.drop, 2);
});

test("a duplicated frame leaves twice in a row", (t) => {
  const { port, sent } = faulty({ duplicate: [2] });
  t.is(port.tx(batchOf(many(3)), 0, 3), 3);
  t.deepEqual(sent(), [0, 1, 1, 2]);
});

test("a reordered frame leaves behind the next one, also across calls", (t) => {
  const { port, sent } = faulty({ reorder: [1, 5] });
  port.tx(batchOf(many(1)), 0, 1);
  t.deepEqual(sent(), []);
  port.tx(batchOf(many(6)), 1, 6);
  t.deepEqual(sent(), [1, 0, 2, 3, 5, 4]);
  t.is(port.counts.reorder, 2);
});

test("a reordered frame with none behind it leaves after a few turns", (t) => {
  const { port, sent } = faulty({ reorder: [1] });
  port.tx(batchOf(many(1)), 0, 1);
  for (let i = 0; i < 7; i++) port.rx(emptyBatch(1));
  t.deepEqual(sent(), []);
  port.rx(emptyBatch(1));
  t.deepEqual(sent(), [0]);
});

test("a corrupted frame differs in one bit behind the Ethernet header; the sender's own copy does not", (t) => {
  const { port, frames } = faulty({ corrupt: [2] });
  const batch = batchOf(many(3));
  port.tx(batch, 0, 3);
  t.deepEqual(batch.bytes, batchOf(many(3)).bytes);
  const left = frames();
  t.deepEqual([left[0], left[2]], [many(3)[0], many(3)[2]]);
  const flipped = many(3)[1].map((byte, at) => byte ^ left[1][at]);
  t.is(
    flipped.reduce((bits, byte) => bits + byte.toString(2).replaceAll("0", "").length, 0),
    1,
  );
  t.deepEqual(flipped.subarray(0, 14), new Uint8Array(14));
});

test("chances hit about as often as they say, and the same seed hits the same frames", (t) => {
  const outcomes = [7, 7, 8].map((seed) => {
    const { port, sent } = faulty({ drop: 0.2, duplicate: 0.1 }, seed);
    port.tx(batchOf(many(1000)), 0, 1000);
    t.true(port.counts.drop > 150 && port.counts.drop < 250);
    t.true(port.counts.duplicate > 50 && port.counts.duplicate < 120);
    const numbers = sent();
    t.is(numbers.length, 1000 - port.counts.drop + port.counts.duplicate);
    return numbers;
  });
  t.deepEqual(outcomes[0], outcomes[1]);
  t.notDeepEqual(outcomes[0], outcomes[2]);
});
