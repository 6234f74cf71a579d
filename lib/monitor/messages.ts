// What the main thread and the monitor's thread say to each other, by structured clone.

import type { LossReport } from "./losses.ts";
import type { PathReport } from "./path-report.ts";

/** The monitor's start-up data; Config and policies are control's, so they are named where they are known. */
export interface MonitorStart<Config> {
  readonly role: "monitor";
  readonly config: Config;
  /** Of the clock that all threads of the router have; see io/native-clock.ts. */
  readonly clockStartUs: number;
  /** Wait for `begin` with ports open. */
  readonly waits: boolean;
  /** The address book of who has read the configuration. */
  readonly names: Uint8Array;
}

export type ToMonitor<Policy> =
  /** Take up newer keys. */
  | { readonly policies: readonly Policy[] }
  /** Begin, where the monitor of another process stopped; null = anew. */
  | { readonly begin: Uint8Array | null }
  /** Say what is known and end without a word to the peers: another process goes on. */
  | { readonly leave: true }
  /** End. */
  | { readonly end: true };

export type FromMonitor =
  /** Its ports are open, or why not; the operator can mend it, or cannot. */
  | { readonly ready: true }
  | { readonly refused: string; readonly isOperators: boolean }
  /** Of `leave`. */
  | { readonly left: Uint8Array }
  /** What has changed, and once a second everything. */
  | { readonly reports: readonly PathReport[] }
  /** Once a second, where there is something to say. */
  | { readonly losses: LossReport };
