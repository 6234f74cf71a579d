// scapy, as the other side of messages of lib/ipv6: it makes queries, and says what our frames are.

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import test from "ava";
import { bytesOf, hexOf } from "../wire/vectors.ts";

// Debian's own interpreter: the one that has python3-scapy.
const PYTHON = "/usr/bin/python3";
/** A test that needs it. */
export const withScapy = spawnSync(PYTHON, ["-c", "import scapy"]).status === 0 ? test : test.skip;

/** What scapy reads in a frame; `again` is the frame as it makes it from that. */
export interface Read {
  readonly kind: string;
  readonly mac: string;
  readonly source: string;
  readonly destination: string;
  readonly hopLimit: number;
  readonly alert: number[];
  readonly groups: string[];
  readonly types: number[];
  readonly count: number;
  readonly sources: number;
  readonly code: number;
  readonly pointer: number;
  readonly quote: string;
  readonly again: string;
}

export function askScapy(frames: readonly Uint8Array[]): { queries: Map<string, Uint8Array>; read: Read[] } {
  const script = fileURLToPath(new URL("../../../test/ipv6/scapy-referee.py", import.meta.url));
  const run = spawnSync(PYTHON, [script], { input: JSON.stringify(frames.map(hexOf)), encoding: "utf8" });
  if (run.status !== 0) throw new Error(run.stderr);
  const { queries, read } = JSON.parse(run.stdout) as { queries: Record<string, string>; read: Read[] };
  return { queries: new Map(Object.entries(queries).map(([name, hex]) => [name, bytesOf(hex)])), read };
}
