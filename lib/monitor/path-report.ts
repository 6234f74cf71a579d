// What the monitor says of one peer path to whoever forwards over it, and to operators. Plain data: it crosses threads.

import type { PathQualityView } from "../peer/path-settings.ts";

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
