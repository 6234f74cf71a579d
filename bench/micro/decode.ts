// Frame → flow key, by size of frame: the decoder reads headers only, so the sizes cost the same.

import { FrameBatch } from "../../lib/io/port.ts";
import { decodeFrame, KEY_ROW_WORDS } from "../../lib/wire/flow-key.ts";
import { BenchPort } from "../bench-port.ts";
import { MAC_HIGH, macLow } from "../bench-router.ts";
import { measure } from "../harness.ts";
import { IMIX, LARGE, makeTraffic, SMALL } from "../traffic.ts";

const FRAMES = 128;
const ROUNDS = 10_000;
const key = new Int32Array(KEY_ROW_WORDS);

for (const [mode, lengths] of [
  ["60-byte UDP", SMALL],
  ["1,400-byte UDP", LARGE],
  ["IMIX UDP", IMIX],
] as const) {
  const batch = new FrameBatch(new Uint8Array(0), FRAMES);
  const port = new BenchPort("lan0", new Uint8Array(6));
  port.offer(makeTraffic({ sessions: FRAMES, lengths, macHigh: MAC_HIGH, macLow: macLow(0) }), FRAMES);
  port.rx(batch);
  const { view, offset, length } = batch;
  measure({
    name: "micro.decode",
    mode,
    operations: FRAMES * ROUNDS,
    run: () => {
      let sum = 0;
      for (let round = 0; round < ROUNDS; round++) {
        for (let i = 0; i < FRAMES; i++)
          sum = (sum + decodeFrame(view, offset[i], length[i], 0, MAC_HIGH, macLow(0), key, 0) + key[0]) | 0;
      }
      return sum;
    },
  });
}
