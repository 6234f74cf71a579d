import test from "ava";
import { Generator } from "../../lib/engine/generate.ts";
import { HEADROOM, TAILROOM } from "../../lib/io/port.ts";
import { PROTOCOL_UDP } from "../../lib/wire/flow-key.ts";

test("every packet that the router makes, of the greatest length too, has tailroom behind it", (t) => {
  const frameBytes = 64 * 11;
  const generator = new Generator(frameBytes, () => {});
  const metadata = new Uint8Array(frameBytes - 42).fill(1);
  let furthest = 0;
  for (let i = 0; i < 600; i++) {
    generator.carrier(PROTOCOL_UDP, 1, 2, 3, 0, 0, metadata, metadata.length);
    t.is(generator.length, frameBytes);
    t.true(generator.offset >= HEADROOM);
    furthest = Math.max(furthest, generator.offset + generator.length);
  }
  t.true(furthest + TAILROOM <= generator.bytes.length);
});
