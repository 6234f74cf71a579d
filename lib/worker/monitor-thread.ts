// The main thread's side of the monitor's thread: start it, hear its reports, end it.

import { Worker } from "node:worker_threads";
import type { Config, SecurityPolicyConfig } from "../control/config.ts";
import { OperatorError } from "../control/operator-error.ts";
import type { FromMonitor, MonitorStart, ToMonitor } from "../monitor/messages.ts";
import type { PathReport } from "../monitor/path-report.ts";

/** A thread that has not ended this long after it was asked to is ended. */
const END_MS = 2000;

export class MonitorThread {
  readonly #worker: Worker;
  #isClosing = false;
  #ready: { resolve: () => void; reject: (error: Error) => void } | null = null;
  #fail: (error: Error) => void = () => {};
  /** Resolves with what is wrong when the thread ends of its own accord: nobody watches any path then. */
  readonly failed = new Promise<Error>((resolve) => {
    this.#fail = resolve;
  });

  private constructor(config: Config, entry: URL, report: (reports: readonly PathReport[]) => void) {
    const workerData: MonitorStart<Config> = { role: "monitor", config };
    this.#worker = new Worker(entry, { workerData, name: "monitor" });
    this.#worker.on("message", (said: FromMonitor) => {
      if ("reports" in said) report(said.reports);
      else if ("ready" in said) this.#ready?.resolve();
      else this.#ready?.reject(said.isOperators ? new OperatorError(said.refused) : new Error(said.refused));
    });
    this.#worker.on("error", (error) => this.#ended(error as Error));
    this.#worker.on("exit", (code) => this.#ended(new Error(`it ended with ${code}`)));
  }

  /** Start the thread of the module `entry`. Rejects when its ports cannot be opened. */
  static async start(
    config: Config,
    entry: URL,
    report: (reports: readonly PathReport[]) => void,
  ): Promise<MonitorThread> {
    const thread = new MonitorThread(config, entry, report);
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

  async close(): Promise<void> {
    if (this.#isClosing) return;
    this.#isClosing = true;
    const ended = new Promise((resolve) => this.#worker.once("exit", resolve));
    this.#worker.postMessage({ end: true } satisfies ToMonitor<SecurityPolicyConfig>);
    const patience = setTimeout(() => void this.#worker.terminate(), END_MS);
    await ended;
    clearTimeout(patience);
  }

  #ended(error: Error): void {
    this.#ready?.reject(error);
    if (!this.#isClosing) this.#fail(new Error(`the path monitor failed, so the router stops: ${error.message}`));
  }
}
