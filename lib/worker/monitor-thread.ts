// The main thread's side of the monitor's thread: start it, hear its reports, end it.

import { Worker } from "node:worker_threads";
import type { Config, SecurityPolicyConfig } from "../control/config.ts";
import { OperatorError } from "../control/operator-error.ts";
import type { LossReport } from "../monitor/losses.ts";
import type { FromMonitor, MonitorStart, ToMonitor } from "../monitor/messages.ts";
import type { PathReport } from "../monitor/path-report.ts";

/** A thread that has not ended this long after it was asked to is ended. */
const END_MS = 2000;
/** Who takes over does not wait longer: a peer's detection time may be 150 ms. */
const LEAVE_MS = 100;

/** Who takes in what the thread says. */
export interface Heard {
  reports(reports: readonly PathReport[]): void;
  losses(losses: LossReport): void;
}

export class MonitorThread {
  readonly #worker: Worker;
  #isClosing = false;
  #ready: { resolve: () => void; reject: (error: Error) => void } | null = null;
  #fail: (error: Error) => void = () => {};
  /** Resolves with what is wrong when the thread ends of its own accord: nobody watches any path then. */
  readonly failed = new Promise<Error>((resolve) => {
    this.#fail = resolve;
  });

  #left: (state: Uint8Array | null) => void = () => {};
  /** Resolves when the thread is gone. It may be gone before anybody asks. */
  readonly #ended: Promise<void>;

  private constructor(start: MonitorStart<Config>, entry: URL, heard: Heard) {
    const workerData = start;
    this.#worker = new Worker(entry, { workerData, name: "monitor" });
    this.#worker.on("message", (said: FromMonitor) => {
      if ("reports" in said) heard.reports(said.reports);
      else if ("losses" in said) heard.losses(said.losses);
      else if ("left" in said) this.#left(said.left);
      else if ("ready" in said) this.#ready?.resolve();
      else this.#ready?.reject(said.isOperators ? new OperatorError(said.refused) : new Error(said.refused));
    });
    this.#worker.on("error", (error) => this.#onEnd(error as Error));
    this.#ended = new Promise((resolve) => {
      this.#worker.on("exit", (code) => {
        this.#onEnd(new Error(`it ended with ${code}`));
        resolve();
      });
    });
  }

  /** Start the thread of the module `entry`. Rejects when its ports cannot be opened. */
  static async start(start: MonitorStart<Config>, entry: URL, heard: Heard): Promise<MonitorThread> {
    const thread = new MonitorThread(start, entry, heard);
    try {
      await new Promise<void>((resolve, reject) => {
        thread.#ready = { resolve, reject };
      });
    } catch (error) {
      await thread.close();
      throw error;
    }
    return thread;
  }

  reloadKeys(policies: readonly SecurityPolicyConfig[]): void {
    this.#worker.postMessage({ policies } satisfies ToMonitor<SecurityPolicyConfig>);
  }

  /** Of a thread that waits: begin, with what another process's monitor knew. */
  begin(state: Uint8Array | null): void {
    this.#worker.postMessage({ begin: state } satisfies ToMonitor<SecurityPolicyConfig>);
  }

  /** What the thread knows, for another process; it says nothing more to the peers. Null when it does not answer. */
  async leave(): Promise<Uint8Array | null> {
    this.#isClosing = true;
    const left = new Promise<Uint8Array | null>((resolve) => {
      this.#left = resolve;
      setTimeout(resolve, LEAVE_MS, null).unref();
    });
    this.#worker.postMessage({ leave: true } satisfies ToMonitor<SecurityPolicyConfig>);
    return await left;
  }

  async close(): Promise<void> {
    if (this.#isClosing) return;
    this.#isClosing = true;
    this.#worker.postMessage({ end: true } satisfies ToMonitor<SecurityPolicyConfig>);
    const patience = setTimeout(() => void this.#worker.terminate(), END_MS);
    await this.#ended;
    clearTimeout(patience);
  }

  #onEnd(error: Error): void {
    this.#ready?.reject(error);
    if (!this.#isClosing) this.#fail(new Error(`the path monitor failed, so the router stops: ${error.message}`));
  }
}
