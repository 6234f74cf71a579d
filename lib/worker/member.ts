// The worker's side: one engine over its own ports. It forwards, takes in strays, and answers what the main thread asks.

import type { MessagePort } from "node:worker_threads";
import type { Clock } from "../base/clock.ts";
import { livePart } from "../control/explain-live.ts";
import { OperatorError } from "../control/operator-error.ts";
import type { Router } from "../control/router-parts.ts";
import { sessionRows, snapshot } from "../control/snapshot.ts";
import { pace } from "../engine/pace.ts";
import type { Strays } from "../engine/strays.ts";
import { type DevicePort, FrameBatch } from "../io/port.ts";
import { steeringProgram } from "../wire/steering-program.ts";
import type { Answered, Asked, Question } from "./messages.ts";
import { waypointsOf } from "./share.ts";

/** Frames that may have come before every worker had joined: no ring of the kernel holds more. */
const EARLY_BATCHES = 4096;

export class Member {
  readonly #router: Router;
  readonly #strays: Strays;
  readonly #ports: readonly DevicePort[];
  readonly #clock: Clock;
  readonly #wake: MessagePort;
  readonly #halt: Int32Array;
  readonly #begin: () => (silent: boolean) => void;
  readonly #listings = new Map<number, Iterator<string>>();
  #stopTime = () => {};
  #end: ((silent: boolean) => void) | null = null;
  #drains = false;

  constructor(parts: {
    router: Router;
    strays: Strays;
    ports: readonly DevicePort[];
    clock: Clock;
    wake: MessagePort;
    halt: Int32Array;
    /** Called when forwarding begins; what it returns, once, while the ports are still open. */
    begin: () => (silent: boolean) => void;
  }) {
    this.#router = parts.router;
    this.#strays = parts.strays;
    this.#ports = parts.ports;
    this.#clock = parts.clock;
    this.#wake = parts.wake;
    this.#halt = parts.halt;
    this.#begin = parts.begin;
  }

  /** Join the groups of the devices, in the ports' order. Returns them. Workers call this one after the other. */
  join(groups: readonly number[] | null): number[] {
    const { workers } = this.#strays;
    return this.#ports.map((port, row) => {
      const program = steeringProgram(workers, waypointsOf(this.#router, row));
      return port.fanout(groups === null ? -1 : groups[row], program);
    });
  }

  /**
   * Forward from now on. What came before every worker had joined was not steered, and other workers have it too: it is
   * thrown away.
   */
  start(): void {
    const { engine } = this.#router;
    const early = new FrameBatch(new Uint8Array(0), 128);
    for (const port of this.#ports) for (let n = 0; n < EARLY_BATCHES && port.rx(early) > 0; n++);
    const isHalted = () => Atomics.load(this.#halt, 0) !== 0;
    const guarded = {
      portTurn: (port: number, nowMs: number) => {
        if (isHalted()) return 0;
        // With the first port's turn come the strays: a worker that stays awake must not let them wait.
        const strays = port === 0 ? this.#strays.turn(engine, nowMs) : 0;
        return strays + engine.portTurn(port, nowMs);
      },
      tick: (nowMs: number) => {
        if (!isHalted()) return engine.tick(nowMs);
        this.close();
        return false;
      },
    };
    this.#stopTime = pace(guarded, this.#ports, this.#clock);
    this.#end = this.#begin();
    this.#wake.on("message", () => this.#drain());
    this.#drain();
  }

  /** Answer a question of the main thread that is about the running router. */
  answer(question: Question): unknown {
    if (question.ask === "show") return snapshot(this.#router, question.resource) ?? null;
    if (question.ask === "explain") return livePart(this.#router, question.about);
    if (question.ask === "sessions") return this.#nextSessions(question.listing);
    if (question.ask === "forget") this.#listings.delete(question.listing);
    return null;
  }

  /** Stop forwarding and close the ports. Safe to call twice. */
  close(): void {
    this.#stopTime();
    this.#end?.(false);
    this.#end = null;
    this.#wake.close();
    for (const port of [...this.#ports].reverse()) port.close();
  }

  /** Take in strays until there are none, the ports' turns in between. */
  #drain(): void {
    if (this.#drains || Atomics.load(this.#halt, 0) !== 0) return;
    this.#strays.turn(this.#router.engine, this.#clock.nowMs());
    if (this.#strays.mayRest()) return;
    this.#drains = true;
    setImmediate(() => {
      this.#drains = false;
      this.#drain();
    });
  }

  #nextSessions(listing: number): string | null {
    const rows = this.#listings.get(listing) ?? sessionRows(this.#router)[Symbol.iterator]();
    this.#listings.set(listing, rows);
    const { done, value } = rows.next();
    if (!done) return value;
    this.#listings.delete(listing);
    return null;
  }
}

/** Answer the questions that come to `port` with `answer`, one after the other; what it throws is the answer then. */
export function answerQuestions(port: MessagePort, answer: (question: Question) => unknown): void {
  let last = Promise.resolve();
  const next = async ({ id, question }: Asked): Promise<void> => {
    let answered: Answered;
    try {
      answered = { id, value: await answer(question) };
    } catch (error) {
      const isOperators = error instanceof OperatorError;
      const text =
        error instanceof Error ? (isOperators ? error.message : (error.stack ?? error.message)) : String(error);
      answered = { id, error: text, isOperators };
    }
    port.postMessage(answered);
    if (question.ask === "close") port.close();
  };
  port.on("message", (asked: Asked) => {
    last = last.then(() => next(asked));
  });
}
