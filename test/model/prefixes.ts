/** Slow twin of table/prefix-trie.ts: a list of prefixes, searched whole. */
export class SlowPrefixes {
  readonly #prefixes: { bits: string; value: number }[] = [];

  insert(address: number, prefixLength: number, value: number): boolean {
    const bits = binary(address).slice(0, prefixLength);
    if (this.#prefixes.some((prefix) => prefix.bits === bits)) return false;
    this.#prefixes.push({ bits, value });
    return true;
  }

  /** Values of all prefixes of `address`, longest first. */
  matches(address: number): number[] {
    return this.#prefixes
      .filter((prefix) => binary(address).startsWith(prefix.bits))
      .sort((a, b) => b.bits.length - a.bits.length)
      .map((prefix) => prefix.value);
  }
}

function binary(address: number): string {
  return (address >>> 0).toString(2).padStart(32, "0");
}
