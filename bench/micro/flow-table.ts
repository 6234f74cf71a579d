// The flow table at 1 k to 1 M sessions (two flows each): find in order and at random, and insert with remove.

import { FlowTable } from "../../lib/table/flow-table.ts";
import { measure, seededRandom } from "../harness.ts";
import { sequence, shuffled } from "../traffic.ts";

const FINDS = 1_000_000;
const PROTOCOL_UDP = 17;

for (const sessions of [1_000, 100_000, 1_000_000]) {
  const flows = sessions * 2;
  const table = new FlowTable(flows, 1);
  for (let i = 0; i < flows; i++) table.insert(i, ~i, i, PROTOCOL_UDP);
  for (const order of ["sequence", "random"]) {
    const rows = order === "sequence" ? sequence(flows) : shuffled(flows, seededRandom());
    measure({
      name: "micro.flow-table.find",
      mode: `${sessions} sessions, ${order} order`,
      operations: FINDS,
      run: () => {
        let sum = 0;
        for (let i = 0, at = 0; i < FINDS; i++) {
          const key = rows[at];
          sum = (sum + table.find(key, ~key, key, PROTOCOL_UDP)) | 0;
          if (++at === flows) at = 0;
        }
        return sum;
      },
    });
  }
  const victims = shuffled(flows, seededRandom());
  measure({
    name: "micro.flow-table.remove-and-insert",
    mode: `${sessions} sessions, full table, random order`,
    operations: Math.min(flows, 100_000),
    run: () => {
      const count = Math.min(flows, 100_000);
      for (let i = 0; i < count; i++) {
        const key = victims[i];
        table.remove(table.find(key, ~key, key, PROTOCOL_UDP));
        table.insert(key, ~key, key, PROTOCOL_UDP);
      }
      return table.count;
    },
  });
}
