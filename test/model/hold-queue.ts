interface Held {
  key: number;
  frame: number[];
  tag: number;
  heldMs: number;
}

/** Slow twin of table/hold-queue.ts: one list of everything that waits. */
export class SlowHoldQueue {
  #held: Held[] = [];
  readonly #slots: number;
  readonly #slotBytes: number;
  readonly #perKey: number;

  constructor(slots: number, slotBytes: number, perKey: number) {
    this.#slots = slots;
    this.#slotBytes = slotBytes;
    this.#perKey = perKey;
  }

  get count(): number {
    return this.#held.length;
  }

  hold(key: number, frame: number[], tag: number, heldMs: number): boolean {
    if (frame.length > this.#slotBytes || this.#held.length === this.#slots) return false;
    if (this.#held.filter((held) => held.key === key).length === this.#perKey) return false;
    this.#held.push({ key, frame, tag, heldMs });
    return true;
  }

  /** Take out and return what waits under `key`, oldest first. */
  release(key: number): Held[] {
    return this.#takeOut((held) => held.key === key);
  }

  /** Take out and return what has waited `ageMs` or longer, oldest first. */
  expire(nowMs: number, ageMs: number): Held[] {
    return this.#takeOut((held) => nowMs - held.heldMs >= ageMs);
  }

  #takeOut(wanted: (held: Held) => boolean): Held[] {
    const out = this.#held.filter(wanted);
    this.#held = this.#held.filter((held) => !wanted(held));
    return out;
  }
}
