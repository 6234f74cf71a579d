// What the monitor reports of paths, done: which of them sessions may use, how good they are, and sessions told again
// where a peer began anew or a NAT changed. What became of paths and sessions is kept as events for `waymark show events`
// and goes to the log.

import type { Log } from "../base/log.ts";
import type { StateReader, StateWriter } from "../base/state.ts";
import { WINDOW_MS } from "../engine/packet-security.ts";
import type { Retrigger } from "../engine/retrigger.ts";
import { HEADER_GROWTH } from "../ipv6/icmp-codes.ts";
import { type PathReport, readReport, writeReport } from "../monitor/path-report.ts";
import { isFailed } from "../peer/firewall-detector.ts";
import { TEST_NAMES } from "../peer/firewall-tests.ts";
import { meanOpinionScore } from "../peer/path-quality.ts";
import type { FirewallView, MtuSource, PathQualityView } from "../peer/path-settings.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import type { Sessions } from "../session/open.ts";
import type { Reroute } from "../session/reroute.ts";
import { isName } from "../table/address-book.ts";
import { addressNow } from "../table/drop-note.ts";
import type { Events } from "./events.ts";

/** A router that has just started waits at most so long for a peer to be there and give its sessions back, */
const GIVE_BACK_MS = 60_000;
/** and so long once it is there. */
const GIVING_BACK_MS = 2000;

const MTU_SOURCES: Readonly<Record<MtuSource, string>> = {
  interface: "as the interface says",
  icmp: "as an ICMP error told",
  probe: "as probes found",
};

export class PathReports {
  readonly #sessions: Sessions;
  readonly #retrigger: Retrigger;
  readonly #events: Events;
  readonly #preferMetrics: boolean;
  readonly #reports: (PathReport | undefined)[] = [];

  constructor(parts: {
    sessions: Sessions;
    reroute: Reroute;
    retrigger: Retrigger;
    events: Events;
    /** Paths are chosen by what sessions' own packets tell of them, where they do. */
    preferMetrics: boolean;
  }) {
    this.#sessions = parts.sessions;
    this.#retrigger = parts.retrigger;
    this.#events = parts.events;
    this.#preferMetrics = parts.preferMetrics;
    for (const path of parts.sessions.paths)
      path.mtuObserver = (nowMs) => parts.events.path(path, "path-mtu", mtuText(path, nowMs), nowMs);
    parts.reroute.observer = (session, from, to, reason) => parts.events.moved(session, from, to, reason);
  }

  /** From now on paths that are watched are down until they are reported up. */
  begin(nowMs: number): void {
    for (const path of this.#sessions.paths) {
      if (!path.bfd.enabled) continue;
      path.up = false;
      path.why = "BFD has not heard the peer";
      path.givingBackUntilMs = nowMs + GIVE_BACK_MS;
    }
  }

  /** The latest report of a path; undefined where there is none. */
  of(path: number): PathReport | undefined {
    return this.#reports[path];
  }

  apply(report: PathReport, nowMs: number, log: Log | null = null): void {
    const path = this.#sessions.paths[report.path];
    const before = this.#reports[report.path];
    this.#reports[report.path] = report;
    const wasUp = path.up;
    const isReached = this.#follow(path, report, nowMs);
    path.up = report.up && isReached;
    const isLost = report.up && !isReached;
    path.why = isLost ? "no next hop toward the peer's address, or no room for another neighbor" : report.why;
    path.quality = this.#qualityOf(path, report, nowMs);
    path.hops = report.hops;
    this.#takeMtu(path, report, nowMs, log);
    const isCarriedOtherwise = this.#takeFirewall(path, report, nowMs, log);
    if ((before?.clockWindows ?? 0) !== report.clockWindows) this.#clock(path, report.clockWindows, nowMs, log);
    const isJudged = this.#sessions.choice.evaluate(path.row);
    if (wasUp !== path.up) this.#changed(path, nowMs, log);
    if (wasUp !== path.up || isJudged || isCarriedOtherwise) this.#sessions.flows.nextGeneration();
    if (isJudged && wasUp === path.up) this.#events.path(path, "quality", qualityText(report), nowMs);
    const began = before?.restarts ?? 0;
    const changed = before?.natChanges ?? 0;
    if (report.natChanges > changed) this.#events.path(path, "nat-changed", "the address or port has changed", nowMs);
    if (report.restarts > began) this.#events.path(path, "peer-restarted", "another boot identifier", nowMs);
    this.#tellAgain(path, report, began, changed);
  }

  /** What sessions' own packets tell, as long as they tell something, goes before echo tests (protocol sheet 6.4). */
  #qualityOf(path: PeerPath, report: PathReport, nowMs: number): PathQualityView {
    const measured = this.#preferMetrics ? path.metrics?.quality(nowMs) : undefined;
    return measured === undefined || !report.up ? report.quality : { ...measured, mos: meanOpinionScore(measured) };
  }

  #takeMtu(path: PeerPath, { mtu, mtuAgeMs }: PathReport, nowMs: number, log: Log | null): void {
    const before = path.mtu(nowMs);
    path.probedMtu(mtu, nowMs - mtuAgeMs, nowMs);
    const now = path.mtu(nowMs);
    if (now === before) return;
    const [is, was] = [now, before].map((mtu) => mtuOnWire(path, mtu));
    const fields = { peer: path.peerName, path: path.row, mtu: is, before: was, source: path.mtuSource };
    if (now < before) log?.warn(fields, "path MTU is smaller");
    else log?.info(fields, "path MTU is larger");
  }

  /** Returns whether TCP travels otherwise from now on: live sessions are looked at as well. */
  #takeFirewall(path: PeerPath, { firewall }: PathReport, nowMs: number, log: Log | null): boolean {
    if (firewall === null || firewall.isBlocked === path.blocksTcp) return false;
    path.blocksTcp = firewall.isBlocked;
    const why = firewallText(firewall);
    this.#events.path(path, "udp-transform", why, nowMs);
    const fields = { peer: path.peerName, path: path.row, why };
    if (path.blocksTcp) log?.warn(fields, "a firewall on the path: TCP goes as UDP");
    else log?.info(fields, "no firewall on the path: TCP goes as TCP");
    return true;
  }

  #clock(path: PeerPath, windows: number, nowMs: number, log: Log | null): void {
    path.learnedWindows = windows;
    path.clockSkewMs = windows * WINDOW_MS;
    const offsetMs = path.clockSkewMs;
    this.#events.path(path, "clock-offset", `the peer's clock is about ${offsetMs / 1000} s ahead of ours`, nowMs);
    log?.warn(
      { peer: path.peerName, path: path.row, offsetMs },
      "the peer's clock differs: its digests are read by it",
    );
  }

  save(out: StateWriter): void {
    const reports = this.#reports.filter((report) => report !== undefined);
    out.i32(reports.length);
    for (const report of reports) writeReport(out, report);
    out.i32(this.#owed.size);
    for (const path of this.#owed) out.i32(path);
  }

  /** What was reported counts as known; the paths themselves were restored before. */
  restore(from: StateReader): void {
    const { length } = this.#sessions.paths;
    for (let left = from.count(length, "reports"); left > 0; left--) {
      const report = readReport(from, length);
      this.#reports[report.path] = report;
    }
    for (let left = from.count(length, "paths"); left > 0; left--) this.#owed.add(from.row(length, "path"));
  }

  /** A peer with a dynamic address is where its BFD comes from, and no other peer is there any more. */
  #follow(path: PeerPath, { peerAt }: PathReport, nowMs: number): boolean {
    if (!path.nat.isDynamic) return true;
    if (peerAt === null) return false;
    const at = addressNow(peerAt);
    if (at === 0) return false;
    const { interfaces, neighbors, paths } = this.#sessions;
    for (const other of paths) {
      if (other !== path && other.nat.isDynamic && other.remote === at) other.remote = 0;
    }
    return path.reach(at, peerAt.port, interfaces[path.interfaceId], neighbors, nowMs);
  }

  readonly #owed = new Set<number>();

  /** A peer that began anew is told of its sessions once it can be reached, others at once. */
  #tellAgain(path: PeerPath, report: PathReport, began: number, changed: number): void {
    if (report.restarts > began || report.natChanges > changed) this.#owed.add(path.row);
    if (!path.up || !this.#owed.delete(path.row)) return;
    this.#retrigger.begin(path.row);
  }

  #changed(path: PeerPath, nowMs: number, log: Log | null): void {
    path.sinceMs = nowMs;
    if (path.up) path.givingBackUntilMs = Math.min(path.givingBackUntilMs, nowMs + GIVING_BACK_MS);
    this.#events.path(path, path.up ? "path-up" : "path-down", path.why, nowMs);
    const fields = { peer: path.peerName, path: path.row, why: path.why, sessions: path.sessions };
    if (path.up) log?.info(fields, "path up");
    else log?.warn(fields, "path down");
  }
}

/** A path MTU as its wire has it: inside the router a packet is shorter by what IPv6's header is longer. */
export const mtuOnWire = (path: PeerPath, mtu: number): number => (isName(path.local) ? mtu + HEADER_GROWTH : mtu);

function mtuText(path: PeerPath, nowMs: number): string {
  return `packets of up to ${mtuOnWire(path, path.mtu(nowMs))} bytes, ${MTU_SOURCES[path.mtuSource]}`;
}

/** Why TCP goes as what it goes. */
export function firewallText({ isBlocked, results }: FirewallView): string {
  if (!isBlocked) return "TCP goes as TCP: every test comes through";
  const lost = results.flatMap((result, test) =>
    isFailed(result) ? [`${TEST_NAMES[test]} (${result === "to-peer" ? "to the peer" : "its answer"})`] : [],
  );
  return `TCP goes as UDP, lost on the way: ${lost.join(", ")}`;
}

function qualityText({ quality: { lossPercent, latencyMs, jitterMs, mos } }: PathReport): string {
  return `loss ${lossPercent} %, latency ${latencyMs} ms, jitter ${jitterMs} ms, MOS ${mos}`;
}
