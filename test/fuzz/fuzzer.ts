// A coverage-guided fuzzer: inputs that reach new code, or come to a new outcome, are kept and changed further. The same
// seed makes the same inputs in the same order. Targets are in targets/, run.ts runs one in a process of its own.

import type { SeededRandom } from "../../lib/base/random.ts";
import { joined, mutate } from "./mutate.ts";

export interface Target {
  /** Inputs to begin with, beside those of the corpus. */
  readonly seeds: readonly Uint8Array[];
  /** Bytes that mean something where they stand. */
  readonly tokens: readonly Uint8Array[];
  readonly lengthMax: number;
  /** Inputs of a run in `make test`, beside seeds and corpus: a second's work. */
  readonly runs: number;
  /**
   * Run one input, from a state that does not depend on those before it. Throws when what targets/index.ts promises is broken. Returns in a
   * few words what became of the input: one of few outcomes, each good for a file's name.
   */
  run(input: Uint8Array): string | Promise<string>;
  /** A change that knows the input's form; plain ones are made beside it. */
  change?(random: SeededRandom, input: Uint8Array): Uint8Array;
}

/** An input that broke the promise, made as small as it could be. */
export class Broken extends Error {
  readonly input: Uint8Array;

  constructor(input: Uint8Array, cause: Error) {
    super(cause.message, { cause });
    this.input = input;
  }
}

/** 1, 2, 3, 4 to 7, 8 to 15, 16 to 31, 32 to 127, more: a bit each. How often code ran matters that much. */
const CLASS = Uint8Array.from({ length: 256 }, (_, count) => {
  if (count < 4) return [0, 1, 2, 4][count];
  return count < 8 ? 8 : count < 16 ? 16 : count < 32 ? 32 : count < 128 ? 64 : 128;
});

/** Counters of code (instrument.ts, native/coverage.cc) and what has been seen in them. */
class Reached {
  readonly #counters: Uint8Array;
  readonly #words: Int32Array;
  readonly #seen: Uint8Array;
  branches = 0;

  constructor(counters: Uint8Array) {
    this.#counters = counters;
    this.#words = new Int32Array(counters.buffer, counters.byteOffset, counters.byteLength >>> 2);
    this.#seen = new Uint8Array(counters.length);
  }

  clear(): void {
    this.#words.fill(0);
  }

  /** Whether the counters show anything new since they were cleared; clears them. */
  take(): boolean {
    let isNew = false;
    for (let word = 0; word < this.#words.length; word++) {
      if (this.#words[word] === 0) continue;
      for (let i = word << 2; i < (word << 2) + 4; i++) {
        const seen = this.#seen[i];
        const now = seen | CLASS[this.#counters[i]];
        if (now === seen) continue;
        if (seen === 0) this.branches++;
        this.#seen[i] = now;
        isNew = true;
      }
      this.#words[word] = 0;
    }
    return isNew;
  }
}

/** How often it is tried to make an input smaller. */
const SMALLER_TRIES = 1500;
/** An input is chosen from the last so many as often as from all. */
const RECENT = 24;

export class Fuzzer {
  readonly #target: Target;
  readonly #random: SeededRandom;
  readonly #reached: Reached[];
  /** Told of each input before it runs, in case the process does not outlive it. */
  readonly #about: (input: Uint8Array) => void;
  readonly #kept: Uint8Array[] = [];
  readonly #outcomes = new Map<string, Uint8Array>();
  #runs = 0;

  constructor(
    target: Target,
    options: { random: SeededRandom; maps: readonly Uint8Array[]; about: (input: Uint8Array) => void },
  ) {
    this.#target = target;
    this.#random = options.random;
    this.#reached = options.maps.map((map) => new Reached(map));
    this.#about = options.about;
  }

  /** Run changes of what was kept until `enough` says so. Throws Broken. */
  async run(enough: (runs: number) => boolean): Promise<void> {
    const begun = this.#runs;
    while (!enough(this.#runs - begun))
      await this.try(mutate(this.#random, this.#choose(), this.#choose(), this.#target));
  }

  /** What the inputs came to so far. */
  reached(): { runs: number; branches: number; kept: number; outcomes: number } {
    const branches = this.#reached.reduce((sum, reached) => sum + reached.branches, 0);
    return { runs: this.#runs, branches, kept: this.#kept.length, outcomes: this.#outcomes.size };
  }

  /** For each outcome an input that cannot easily be made smaller. Throws Broken. */
  async smallest(): Promise<Map<string, Uint8Array>> {
    const small = new Map<string, Uint8Array>();
    for (const [outcome, input] of [...this.#outcomes])
      small.set(outcome, await smaller(input, async (tried) => (await this.try(tried)) === outcome));
    return small;
  }

  #choose(): Uint8Array {
    const { length } = this.#kept;
    const from = this.#random.below(2) === 0 ? Math.max(0, length - RECENT) : 0;
    return this.#kept[from + this.#random.below(length - from)];
  }

  /** Run an input and keep it if it is new in anything. Returns the outcome; throws Broken. */
  async try(input: Uint8Array): Promise<string> {
    this.#about(input);
    for (const reached of this.#reached) reached.clear();
    let outcome: string;
    try {
      const running = this.#target.run(input);
      outcome = typeof running === "string" ? running : await running;
    } catch (error) {
      throw await this.#broken(input, error as Error);
    }
    this.#runs++;
    let isNew = false;
    for (const reached of this.#reached) isNew = reached.take() || isNew;
    const smallest = this.#outcomes.get(outcome);
    if (smallest === undefined || input.length < smallest.length) this.#outcomes.set(outcome, input);
    if (isNew || smallest === undefined) this.#kept.push(input);
    return outcome;
  }

  async #broken(input: Uint8Array, first: Error): Promise<Broken> {
    let last = first;
    const small = await smaller(input, async (tried) => {
      this.#about(tried);
      try {
        await this.#target.run(tried);
        return false;
      } catch (error) {
        if (kindOf(error as Error) !== kindOf(first)) return false;
        last = error as Error;
        return true;
      }
    });
    return new Broken(small, last);
  }
}

/** The input with pieces taken out, then zeros put in, as long as it stays `same`. */
async function smaller(input: Uint8Array, same: (tried: Uint8Array) => Promise<boolean>): Promise<Uint8Array> {
  let tries = SMALLER_TRIES;
  for (let size = input.length >>> 1; size >= 1; size >>>= 1) {
    for (let at = 0; at + size <= input.length && tries-- > 0; ) {
      const tried = joined(input.subarray(0, at), input.subarray(at + size));
      if (await same(tried)) input = tried;
      else at += size;
    }
  }
  for (let at = 0; at < input.length && tries > 0; at++) {
    if (input[at] === 0) continue;
    tries--;
    const tried = input.slice();
    tried[at] = 0;
    if (await same(tried)) input = tried;
  }
  return input;
}

/** Errors that differ in numbers and bytes only are of one kind. */
function kindOf(error: Error): string {
  return `${error.name}: ${error.message}`.replace(/\b(0x)?[0-9a-f]*\d[0-9a-f]*\b/gi, "n");
}
