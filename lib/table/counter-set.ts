// HOT
// Named counters in one Float64Array (exact to 2^53). A counter is an index; its name and sentence are fixed at
// construction, so the set cannot be full. One thread owns a set and everyone on it may read at any time: a private
// slot and a published copy, so that readers do not take cache lines from the writer, pay only once workers exist.

import { invariant } from "../base/invariant.ts";

export interface CounterName {
  /** Kebab-case behind a dotted prefix, stable: `drop.no-service`. */
  readonly name: string;
  /** One sentence for the operator: what is counted. */
  readonly sentence: string;
}

export class CounterSet {
  /** In the order of their indexes. */
  readonly names: readonly CounterName[];
  readonly #values: Float64Array;
  readonly #indexOf = new Map<string, number>();

  /** Two counters of the same name are an InvariantError. */
  constructor(names: readonly CounterName[]) {
    this.names = names;
    this.#values = new Float64Array(names.length);
    for (const { name } of names) {
      invariant(!this.#indexOf.has(name), "counter set: a name is there twice");
      this.#indexOf.set(name, this.#indexOf.size);
    }
  }

  increment(index: number): void {
    this.#values[index]++;
  }

  add(index: number, n: number): void {
    this.#values[index] += n;
  }

  get(index: number): number {
    return this.#values[index];
  }

  /** The index of the counter called `name`, or -1. */
  indexOf(name: string): number {
    return this.#indexOf.get(name) ?? -1;
  }

  /** The counters that are not zero, or all of them, as a new flat object in the order of `names`. */
  // cold: when somebody looks
  publish(zeros = false): Record<string, number> {
    const flat: Record<string, number> = {};
    for (let i = 0; i < this.#values.length; i++) {
      if (zeros || this.#values[i] !== 0) flat[this.names[i].name] = this.#values[i];
    }
    return flat;
  }
}
