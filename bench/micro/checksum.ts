// Checksums: in full by length, and the incremental update that a forwarded packet costs.

import { applyDelta, fold, sumWords } from "../../lib/wire/checksum.ts";
import { measure, seededRandom } from "../harness.ts";

const random = seededRandom();
const bytes = new Uint8Array(65_536).map(() => random.nextI32());

for (const length of [20, 64, 1400, 65_535]) {
  const rounds = Math.ceil(20_000_000 / (length + 20));
  measure({
    name: "micro.checksum.full",
    mode: `${length} bytes`,
    operations: rounds,
    run: () => {
      let sum = 0;
      for (let i = 0; i < rounds; i++) sum = (sum + fold(sumWords(bytes, 0, length, i & 1))) | 0;
      return sum;
    },
  });
}

const UPDATES = 5_000_000;
measure({
  name: "micro.checksum.incremental",
  mode: "one delta",
  operations: UPDATES,
  run: () => {
    let checksum = 1;
    for (let i = 0; i < UPDATES; i++) checksum = applyDelta(checksum, i & 0xffff);
    return checksum;
  },
});
