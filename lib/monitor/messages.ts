// What the main thread and the monitor's thread say to each other, by structured clone.

import type { PathReport } from "./path-report.ts";

/** The monitor's start-up data; Config and policies are control's, so they are named where they are known. */
export interface MonitorStart<Config> {
  readonly role: "monitor";
  readonly config: Config;
}

export type ToMonitor<Policy> =
  /** Take up newer keys. */
  | { readonly policies: readonly Policy[] }
  /** End. */
  | { readonly end: true };

export type FromMonitor =
  /** Its ports are open, or why not; the operator can mend it, or cannot. */
  | { readonly ready: true }
  | { readonly refused: string; readonly isOperators: boolean }
  /** What has changed, and once a second everything. */
  | { readonly reports: readonly PathReport[] };
