// The main thread's side: starts the workers, asks them, and ends them. It forwards nothing itself. A worker that ends
// before it was asked to takes the router down: what the kernel hands to it would be lost.

import { MessageChannel, Worker } from "node:worker_threads";
import type { Log } from "../base/log.ts";
import type { KeyRotation } from "../control/compile-security.ts";
import type { Config, SecurityPolicyConfig } from "../control/config.ts";
import { joinLive, type LivePart, liveQuestion } from "../control/explain-live.ts";
import { OperatorError } from "../control/operator-error.ts";
import { RING_BYTES } from "../engine/strays.ts";
import type { LossReport } from "../monitor/losses.ts";
import type { PathReport } from "../monitor/path-report.ts";
import { FrameRing } from "../table/frame-ring.ts";
import { mergeAnswers } from "./merge.ts";
import type { Answered, Asked, Question, WorkerStart } from "./messages.ts";

/** A worker that has not ended this long after it was asked to is ended. */
const END_MS = 5_000;

class Hand {
  readonly worker: Worker;
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #nextId = 0;
  #end: Error | null = null;
  /** Resolves when the thread is gone. */
  readonly ended: Promise<void>;

  constructor(worker: Worker, failed: (error: Error) => void) {
    this.worker = worker;
    worker.on("message", (answered: Answered) => this.#settle(answered));
    worker.on("error", (error) => this.#fail(error as Error, failed));
    this.ended = new Promise((resolve) => {
      worker.on("exit", (code) => {
        this.#fail(new Error(`it ended with ${code}`), failed);
        resolve();
      });
    });
  }

  /** Ask a question. Rejects with what the worker throws, or when it is gone. */
  ask(question: Question): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#end !== null) return reject(this.#end);
      const id = this.#nextId++;
      this.#waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, question } satisfies Asked);
    });
  }

  #settle(answered: Answered): void {
    const waiting = this.#waiting.get(answered.id);
    this.#waiting.delete(answered.id);
    if ("value" in answered) waiting?.resolve(answered.value);
    else waiting?.reject(answered.isOperators ? new OperatorError(answered.error) : new Error(answered.error));
  }

  #fail(error: Error, failed: (error: Error) => void): void {
    if (this.#end !== null) return;
    this.#end = error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
    failed(error);
  }
}

export class WorkerPool {
  readonly #hands: Hand[] = [];
  readonly #halt = new Int32Array(new SharedArrayBuffer(4));
  #listings = 0;
  #isClosing = false;
  #fail: (error: Error) => void = () => {};
  /** Resolves with what is wrong when a worker ends of its own accord. */
  readonly failed = new Promise<Error>((resolve) => {
    this.#fail = resolve;
  });

  private constructor() {}

  /**
   * Start config.workers threads of the module `entry` and let them forward; `names` are those of the configuration's IPv6
   * addresses. Rejects, every thread ended, when one of them cannot: OperatorError where the operator can mend it.
   */
  static async start(config: Config, names: Uint8Array, entry: URL, log: Log): Promise<WorkerPool> {
    const pool = new WorkerPool();
    try {
      pool.#spawn(config, names, entry, log.level);
      // One after the other: workers are numbered for the kernel by the order in which they open and join.
      let groups: number[] | null = null;
      for (const hand of pool.#hands) groups = (await hand.ask({ ask: "open", groups })) as number[];
      await Promise.all(pool.#hands.map((hand) => hand.ask({ ask: "start" })));
      return pool;
    } catch (error) {
      await pool.close();
      throw error;
    }
  }

  /** The answer of the router as a whole to `show <resource>`, or to `explain` with a query. */
  async answer(resource: string, query: URLSearchParams): Promise<object | AsyncIterable<string> | undefined> {
    if (resource === "sessions") return this.#sessions();
    if (resource === "explain") {
      const about = liveQuestion(query);
      const parts = await Promise.all(this.#hands.map((hand) => hand.ask({ ask: "explain", about })));
      return joinLive(about, parts as LivePart[]);
    }
    const answers = await Promise.all(this.#hands.map((hand) => hand.ask({ ask: "show", resource })));
    return answers.includes(null) ? undefined : mergeAnswers(resource, answers as object[]);
  }

  /** Tell every worker what the monitor says of paths. */
  tellPaths(reports: readonly PathReport[]): void {
    // A worker that is gone takes the router down anyway.
    for (const hand of this.#hands) hand.ask({ ask: "paths", reports }).catch(() => {});
  }

  /** Tell the first worker what the monitor has dropped: it answers for it. */
  tellLosses(losses: LossReport): void {
    this.#hands[0].ask({ ask: "losses", losses }).catch(() => {});
  }

  /** Every worker takes up newer keys; they do the same with them, so the first one's answer is that of all. */
  async reloadKeys(policies: readonly SecurityPolicyConfig[]): Promise<KeyRotation> {
    const answers = await Promise.all(this.#hands.map((hand) => hand.ask({ ask: "reload-keys", policies })));
    return answers[0] as KeyRotation;
  }

  /**
   * End every worker, the first one last: it found the devices' settings as they were. They stop forwarding together,
   * because the kernel deals frames out anew as soon as one leaves. Safe to call twice.
   */
  async close(): Promise<void> {
    this.#isClosing = true;
    Atomics.store(this.#halt, 0, 1);
    for (const hand of [...this.#hands].reverse()) {
      // One that is gone, or throws while it closes, has nothing more to say.
      hand.ask({ ask: "close" }).catch(() => {});
      const patience = setTimeout(() => void hand.worker.terminate(), END_MS);
      await hand.ended;
      clearTimeout(patience);
    }
  }

  #spawn(config: Config, names: Uint8Array, entry: URL, logLevel: string): void {
    const { workers } = config;
    const rings = Array.from({ length: workers }, () => FrameRing.allocate(RING_BYTES));
    const channels = Array.from({ length: workers }, () => new MessageChannel());
    for (let worker = 0; worker < workers; worker++) {
      const before = (worker + workers - 1) % workers;
      const [wake, wakeNext] = [channels[before].port2, channels[worker].port1];
      const workerData: WorkerStart = {
        config,
        names,
        logLevel,
        worker,
        workers,
        inbound: rings[before],
        outbound: rings[worker],
        wake,
        wakeNext,
        halt: this.#halt.buffer as SharedArrayBuffer,
      };
      const thread = new Worker(entry, { workerData, name: `worker ${worker}`, transferList: [wake, wakeNext] });
      this.#hands.push(new Hand(thread, (error) => this.#onEnd(worker, error)));
    }
  }

  #onEnd(worker: number, error: Error): void {
    if (this.#isClosing) return;
    Atomics.store(this.#halt, 0, 1);
    this.#fail(new Error(`worker ${worker} failed, so the router stops: ${error.stack ?? error.message}`));
  }

  /** Every worker's sessions as one JSON text, no more than one piece of it in memory at once. */
  async *#sessions(): AsyncGenerator<string> {
    const listing = this.#listings++;
    let before = '{"sessions":[';
    let asked: Hand | null = null;
    try {
      for (const hand of this.#hands) {
        asked = hand;
        for (;;) {
          const piece = (await hand.ask({ ask: "sessions", listing })) as string | null;
          if (piece === null) break;
          if (piece === "") continue;
          yield before + piece;
          before = ",";
        }
        asked = null;
      }
      yield `${before === "," ? "" : before}]}\n`;
    } finally {
      asked?.ask({ ask: "forget", listing }).catch(() => {});
    }
  }
}
