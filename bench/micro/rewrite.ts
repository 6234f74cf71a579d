// Applying a rewrite plan to a frame in place, and recognizing a checksum that a local sender left partial.

import { rewrite } from "../../lib/engine/rewrite.ts";
import { FrameBatch } from "../../lib/io/port.ts";
import { FLOW_DELTAS, FLOW_SHIFT, FlowTable } from "../../lib/table/flow-table.ts";
import { ETHERNET_HEADER } from "../../lib/wire/flow-key.ts";
import { IPV4_HEADER } from "../../lib/wire/ipv4.ts";
import { isChecksumPartial } from "../../lib/wire/offload.ts";
import { BenchPort } from "../bench-port.ts";
import { MAC_HIGH, macLow } from "../bench-router.ts";
import { measure } from "../harness.ts";
import { makeTraffic, SMALL } from "../traffic.ts";

const FRAMES = 128;
const ROUNDS = 10_000;
const batch = new FrameBatch(new Uint8Array(0), FRAMES);
const port = new BenchPort("lan0", new Uint8Array(6));
port.offer(makeTraffic({ sessions: FRAMES, lengths: SMALL, macHigh: MAC_HIGH, macLow: macLow(0) }), FRAMES);
port.rx(batch);
const { bytes, view, offset, length } = batch;
const table = new FlowTable(FRAMES, 1);
for (let i = 0; i < FRAMES; i++) table.words[(table.insert(i, 1, 2, 17) << FLOW_SHIFT) + FLOW_DELTAS] = 0x12345678;

measure({
  name: "micro.rewrite",
  mode: "UDP",
  operations: FRAMES * ROUNDS,
  run: () => {
    for (let round = 0; round < ROUNDS; round++) {
      for (let i = 0; i < FRAMES; i++) {
        const l3 = offset[i] + ETHERNET_HEADER;
        rewrite(view, l3, l3 + IPV4_HEADER, table.words, i << FLOW_SHIFT, false);
      }
    }
    return bytes[offset[0] + 40];
  },
});

measure({
  name: "micro.checksum-is-partial",
  mode: "UDP",
  operations: FRAMES * ROUNDS,
  run: () => {
    let partial = 0;
    for (let round = 0; round < ROUNDS; round++) {
      for (let i = 0; i < FRAMES; i++) {
        const l3 = offset[i] + ETHERNET_HEADER;
        if (isChecksumPartial(bytes, l3, l3 + IPV4_HEADER, offset[i] + length[i])) partial++;
      }
    }
    return partial;
  },
});
