// The suite over each mix of families, of hosts and of paths: one hop and three, in clear and sealed, with offloads and
// without them. Of 32 runs 8, in which every two of these meet; the first of them is two-routers.test.ts.

import { hostSuite } from "./host-suite.ts";
import type { Family } from "./lab.ts";

const SEALED = { sign: "metadata", adaptive: false } as const;

const RUNS: readonly [hosts: Family, wires: Family, hops: 1 | 3, isSealed: boolean, offloads: boolean][] = [
  [4, 4, 3, true, false],
  [6, 6, 1, true, true],
  [6, 6, 3, false, false],
  [4, 6, 1, false, false],
  [4, 6, 3, true, true],
  [6, 4, 1, true, false],
  [6, 4, 3, false, true],
];

for (const [hosts, wires, hops, isSealed, offloads] of RUNS) {
  hostSuite(
    hops === 1 ? "two-routers" : "four-routers",
    {
      hosts,
      wires: Array<Family>(hops).fill(wires),
      fileBytes: 10 << 20,
      ...(isSealed ? { protection: SEALED } : {}),
      ...(offloads ? {} : { offloads }),
    },
    `IPv${hosts} over IPv${wires}, ${hops === 1 ? "one hop" : "three hops"}, ${isSealed ? "sealed" : "in clear"}, offloads ${offloads ? "on" : "off"}`,
  );
}
