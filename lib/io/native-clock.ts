// The machine's monotonic clock, read without garbage: a forwarding thread that polls reads it a million times a second.

import type { Clock } from "../base/clock.ts";
import { native } from "./native.ts";

export class NativeClock implements Clock {
  readonly #read = native().clock;
  readonly #yield = native().yield;
  readonly #us = new Float64Array(1);
  readonly #startUs: number;

  /** `startUs`: of a clock in another process, or thread, that this one goes on with. */
  constructor(startUs?: number) {
    this.#read(this.#us);
    this.#startUs = startUs ?? this.#us[0];
  }

  /** What CLOCK_MONOTONIC, which all processes have in common, said at its start. */
  get startUs(): number {
    return this.#startUs;
  }

  /** The kernel's packet work may wait in a thread of this processor; who polls must not keep it from running. */
  relax(): void {
    this.#yield();
  }

  nowMs(): number {
    return Math.floor(this.nowUs() / 1000);
  }

  nowUs(): number {
    this.#read(this.#us);
    return this.#us[0] - this.#startUs;
  }
}
