// What the monitor says of one peer path to whoever forwards over it, and to operators. Plain data: it crosses threads, so
// addresses are what they stand for.

import type { StateReader, StateWriter } from "../base/state.ts";
import { TEST_RESULTS } from "../peer/firewall-detector.ts";
import { TESTS } from "../peer/firewall-tests.ts";
import type { FirewallCounts, FirewallView, PathQualityView } from "../peer/path-settings.ts";
import { type NotedAddress, restoreAddress, saveAddress } from "../table/drop-note.ts";

export interface PathReport {
  /** Row of the path. */
  readonly path: number;
  /** Sessions may use it. */
  readonly up: boolean;
  /** Why it is up or down, in a few words for operators. */
  readonly why: string;
  readonly quality: PathQualityView;
  /** How often since start its peer has turned out to have begun anew, and NAT between us to have changed. */
  readonly restarts: number;
  readonly natChanges: number;
  /** Windows of time-based digests by which the peer's clock is ahead of ours. */
  readonly clockWindows: number;
  /** Routers between us and the peer. */
  readonly hops: number;
  /** Where the peer of a path with a dynamic address is; null = its address is configured, or nothing was heard of it. */
  readonly peerAt: (NotedAddress & { readonly port: number }) | null;
  /** What the latest round of probes found that the path takes, and how long ago it began, for clocks differ; 0 = nothing. */
  readonly mtu: number;
  readonly mtuAgeMs: number;
  /** Null = nothing on this path looks for firewalls. */
  readonly firewall: FirewallView | null;
  /** Of the tests either way: the peer's are answered whether or not we test. */
  readonly firewallCounts: Readonly<FirewallCounts>;
  readonly bfd: BfdView;
}

/** RFC 5880's variables, for operators. */
export interface BfdView {
  readonly state: string;
  readonly remoteState: string;
  readonly diagnostic: string;
  readonly txIntervalMs: number;
  readonly detectionTimeMs: number;
  readonly downs: number;
  readonly remoteRouter: string;
  /** Loss of control packets by direction, percent; NaN = not known. */
  readonly lossFromPeer: number;
  readonly lossToPeer: number;
}

export function writeReport(out: StateWriter, report: PathReport): void {
  const { quality, bfd } = report;
  out.i32(report.path);
  out.flag(report.up);
  for (const value of [quality.lossPercent, quality.latencyMs, quality.jitterMs, quality.mos]) out.f64(value);
  for (const value of [report.restarts, report.natChanges, report.clockWindows]) out.f64(value);
  out.u8(report.hops);
  for (const value of [report.mtu, report.mtuAgeMs]) out.f64(value);
  writeFirewall(out, report);
  out.flag(report.peerAt !== null);
  saveAddress(out, report.peerAt ?? { address: 0, words: null });
  out.i32(report.peerAt?.port ?? 0);
  for (const value of [bfd.txIntervalMs, bfd.detectionTimeMs]) out.f64(value);
  for (const value of [bfd.downs, bfd.lossFromPeer, bfd.lossToPeer]) out.f64(value);
  for (const text of [report.why, bfd.state, bfd.remoteState, bfd.diagnostic, bfd.remoteRouter]) out.text(text);
}

export function readReport(from: StateReader, paths: number): PathReport {
  const path = from.row(paths, "path");
  const up = from.flag();
  const [lossPercent, latencyMs, jitterMs, mos] = Array.from({ length: 4 }, () => from.f64());
  const [restarts, natChanges, clockWindows] = Array.from({ length: 3 }, () => from.f64());
  const hops = from.u8();
  const [mtu, mtuAgeMs] = [from.f64(), from.f64()];
  const firewall = readFirewall(from);
  const isReached = from.flag();
  const [noted, port] = [restoreAddress(from), from.i32()];
  const [txIntervalMs, detectionTimeMs] = Array.from({ length: 2 }, () => from.f64());
  const [downs, lossFromPeer, lossToPeer] = Array.from({ length: 3 }, () => from.f64());
  const [why, state, remoteState, diagnostic, remoteRouter] = Array.from({ length: 5 }, () => from.text());
  const bfd = { state, remoteState, diagnostic, txIntervalMs, detectionTimeMs, downs, remoteRouter };
  return {
    path,
    up,
    why,
    quality: { lossPercent, latencyMs, jitterMs, mos },
    restarts,
    natChanges,
    clockWindows,
    hops,
    peerAt: isReached ? { ...noted, port } : null,
    mtu,
    mtuAgeMs,
    ...firewall,
    bfd: { ...bfd, lossFromPeer, lossToPeer },
  };
}

function writeFirewall(out: StateWriter, { firewall, firewallCounts }: PathReport): void {
  const { testsSent, answersReceived, testsAnswered, refused, failedRounds } = firewallCounts;
  for (const count of [testsSent, answersReceived, testsAnswered, refused, failedRounds]) out.f64(count);
  out.flag(firewall !== null);
  if (firewall === null) return;
  out.flag(firewall.isBlocked);
  out.flag(firewall.isAnswered);
  out.f64(firewall.judgedAgeMs);
  for (const result of firewall.results) out.u8(TEST_RESULTS.indexOf(result));
}

function readFirewall(from: StateReader): Pick<PathReport, "firewall" | "firewallCounts"> {
  const [testsSent, answersReceived, testsAnswered, refused, failedRounds] = Array.from({ length: 5 }, () =>
    from.f64(),
  );
  const firewallCounts = { testsSent, answersReceived, testsAnswered, refused, failedRounds };
  if (!from.flag()) return { firewall: null, firewallCounts };
  const [isBlocked, isAnswered] = [from.flag(), from.flag()];
  const judgedAgeMs = from.f64();
  const results = Array.from({ length: TESTS }, () => TEST_RESULTS[from.code(TEST_RESULTS.length - 1)]);
  return { firewall: { isBlocked, results, isAnswered, judgedAgeMs }, firewallCounts };
}
