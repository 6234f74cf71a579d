// What the main thread and a worker say to each other, by structured clone. The main thread asks, the worker answers
// each question once, by its number. Frames never travel here: those that change workers go through shared memory.

import type { MessagePort } from "node:worker_threads";
import type { Config, SecurityPolicyConfig } from "../control/config.ts";
import type { LiveQuestion } from "../control/explain-live.ts";
import type { LossReport } from "../monitor/losses.ts";
import type { PathReport } from "../monitor/path-report.ts";

/** A worker's start-up data. */
export interface WorkerStart {
  readonly config: Config;
  /** The names of its IPv6 addresses, from the address book of who has read it. */
  readonly names: Uint8Array;
  readonly logLevel: string;
  readonly worker: number;
  readonly workers: number;
  /** Rings of strays (table/frame-ring.ts): from the worker before this one, and to the next. */
  readonly inbound: SharedArrayBuffer;
  readonly outbound: SharedArrayBuffer;
  /** Anything that comes wakes this worker; anything sent to the other wakes the next. */
  readonly wake: MessagePort;
  readonly wakeNext: MessagePort;
  /** Word 0: 1 = stop forwarding at once. */
  readonly halt: SharedArrayBuffer;
}

export type Question =
  /** Open the ports and join the group of each device; null makes the groups. Answer: the groups. */
  | { readonly ask: "open"; readonly groups: readonly number[] | null }
  /** Every worker has joined: begin to forward. */
  | { readonly ask: "start" }
  /** The answer of control/snapshot.ts; null where there is none. */
  | { readonly ask: "show"; readonly resource: string }
  /** This worker's part of what `explain` asks: a LivePart (control/explain-live.ts). */
  | { readonly ask: "explain"; readonly about: LiveQuestion }
  /** The next piece of the sessions' text under a listing number; null at the end. */
  | { readonly ask: "sessions"; readonly listing: number }
  /** Nobody reads the listing any more. */
  | { readonly ask: "forget"; readonly listing: number }
  /** What the monitor says of paths. */
  | { readonly ask: "paths"; readonly reports: readonly PathReport[] }
  /** What the monitor has dropped. */
  | { readonly ask: "losses"; readonly losses: LossReport }
  /** Take up newer keys. Answer: a KeyRotation. */
  | { readonly ask: "reload-keys"; readonly policies: readonly SecurityPolicyConfig[] }
  /** Close the ports. The worker ends after its answer. */
  | { readonly ask: "close" };

export interface Asked {
  readonly id: number;
  readonly question: Question;
}

export type Answered =
  | { readonly id: number; readonly value: unknown }
  /** `isOperators`: the operator can mend it, and the message says how. */
  | { readonly id: number; readonly error: string; readonly isOperators: boolean };
