// Keys by version: which is sent with and which are taken, around a rotation (protocol sheet 5.7).

import test from "ava";
import { KeyRing, type Keys, OVERLAP_MS } from "../../lib/crypto/key-ring.ts";

const keys = (version: number): Keys => ({
  version,
  hmac: null,
  cipher: null,
  bytes: { hmac: null, encryption: null },
});

test("new keys are taken at once and sent with once the peer has had time to learn them", (t) => {
  const [first, second] = [keys(1), keys(2)];
  const ring = new KeyRing(first);
  t.is(ring.sending(0), first);
  t.is(ring.previous(0), null);
  ring.rotate(second, 1000);
  t.is(ring.current, second);
  t.is(ring.sending(1000), first);
  t.is(ring.accepted(1, 1000), first);
  t.is(ring.accepted(2, 1000), second);
  t.is(ring.accepted(3, 1000), null);
  t.is(ring.sending(1000 + OVERLAP_MS - 1), first);
  t.is(ring.sending(1000 + OVERLAP_MS), second);
  t.is(ring.accepted(1, 1000 + 2 * OVERLAP_MS - 1), first);
  t.is(ring.accepted(1, 1000 + 2 * OVERLAP_MS), null);
  t.is(ring.accepted(2, 1000 + 2 * OVERLAP_MS), second);
});

test("a peer that uses the new keys is answered with them, and the old ones end that much earlier", (t) => {
  const ring = new KeyRing(keys(1));
  ring.rotate(keys(2), 0);
  ring.heard(1, 100);
  t.is(ring.sending(100).version, 1);
  ring.heard(2, 500);
  t.is(ring.sending(500).version, 2);
  ring.heard(2, 20_000);
  t.is(ring.accepted(1, 500 + OVERLAP_MS - 1)?.version, 1, "counted from the first time");
  t.is(ring.accepted(1, 500 + OVERLAP_MS), null);
});

test("rotations in a row leave the last two, and sessions find the keys that they began with", (t) => {
  const ring = new KeyRing(keys(1));
  for (let version = 2; version <= 5; version++) ring.rotate(keys(version), version);
  t.is(ring.accepted(5, 10)?.version, 5);
  t.is(ring.accepted(4, 10)?.version, 4);
  t.is(ring.accepted(3, 10), null);
  for (let version = 1; version <= 5; version++) t.is(ring.remembered(version)?.version, version);
  t.is(ring.remembered(6), null);
  ring.rotate(keys(5), 20);
  t.is(ring.accepted(4, 20)?.version, 4, "the same version is no rotation");
});
