interface Chain {
  bytes: Map<number, number>;
  /** Ends of the pieces with more to follow, and of those without. */
  ends: number[];
  lastEnds: number[];
  openedMs: number;
  pieces: number;
}

/** Slow twin of table/fragment-table.ts: every byte of a packet in a map by its offset. */
export class SlowFragments {
  readonly #chains = new Map<string, Chain>();
  readonly #capacity: number;
  readonly #bytesMax: number;
  readonly #timeoutMs: number;

  constructor(capacity: number, bytesMax: number, timeoutMs: number) {
    this.#capacity = capacity;
    this.#bytesMax = bytesMax;
    this.#timeoutMs = timeoutMs;
  }

  get count(): number {
    return this.#chains.size;
  }

  /** Pieces of the chain that made room for the last one added. */
  displaced = 0;

  /** The complete payload, or "held", "refused". */
  add(key: string, piece: number[], offset: number, more: boolean, nowMs: number): number[] | string {
    const end = offset + piece.length;
    this.displaced = 0;
    if (piece.length === 0 || offset % 8 !== 0 || end > this.#bytesMax) return "refused";
    if (more && piece.length % 8 !== 0) return "refused";
    let chain = this.#chains.get(key);
    if (chain === undefined) {
      if (this.#chains.size === this.#capacity) {
        const [oldest, { pieces }] = [...this.#chains][0];
        this.displaced = pieces;
        this.#chains.delete(oldest);
      }
      chain = { bytes: new Map(), ends: [], lastEnds: [], openedMs: nowMs, pieces: 0 };
      this.#chains.set(key, chain);
    }
    const { bytes, ends, lastEnds } = chain;
    (more ? ends : lastEnds).push(end);
    const disagrees = piece.some((byte, i) => (bytes.get(offset + i) ?? byte) !== byte);
    if (disagrees || new Set(lastEnds).size > 1 || lastEnds.some((last) => ends.some((other) => other >= last))) {
      this.#chains.delete(key);
      return "refused";
    }
    chain.pieces++;
    piece.forEach((byte, i) => {
      bytes.set(offset + i, byte);
    });
    if (bytes.size !== lastEnds[0]) return "held";
    this.#chains.delete(key);
    return Array.from({ length: bytes.size }, (_, at) => bytes.get(at)!);
  }

  expire(nowMs: number): number {
    let pieces = 0;
    for (const [key, chain] of this.#chains) {
      if (nowMs - chain.openedMs < this.#timeoutMs) continue;
      pieces += chain.pieces;
      this.#chains.delete(key);
    }
    return pieces;
  }
}
