// Longest-prefix match for IPv4: prefixes to numbers of the caller's. A path-compressed binary trie (Morrison 1968,
// PATRICIA): a node stands for a prefix, its two children for longer ones that go on with 0 or 1, and a node without
// a value exists only where two prefixes part. So n prefixes need at most 2n + 1 nodes, whatever their lengths, and
// a lookup visits at most 33. Read by the slow path only; built anew when the configuration changes, never pruned.
//
// IPv6 prefixes, which are few, stand in a list, longest first.
//
// All memory is taken at construction (17 bytes a node). Full: insert returns false and nothing changes.

import { invariant } from "../base/invariant.ts";
import { isName, sharesPrefix } from "./address-book.ts";

const ROOT = 0;
const NO_VALUE = -1;

export class PrefixTrie {
  readonly capacity: number;
  /** An address in the prefix; the bits behind its length mean nothing. */
  readonly #bits: Int32Array;
  readonly #length: Uint8Array;
  readonly #value: Int32Array;
  /** Two per node, for a next bit of 0 and of 1; ROOT stands for none. */
  readonly #children: Int32Array;
  readonly #path = new Int32Array(33);
  #nodes = 1;
  #count = 0;
  readonly #named: { address: number; length: number; value: number }[] = [];

  constructor(capacityPrefixes: number) {
    this.capacity = capacityPrefixes;
    const nodes = capacityPrefixes * 2 + 1;
    this.#bits = new Int32Array(nodes);
    this.#length = new Uint8Array(nodes);
    this.#value = new Int32Array(nodes).fill(NO_VALUE);
    this.#children = new Int32Array(nodes * 2);
  }

  /** Prefixes held. */
  get count(): number {
    return this.#count;
  }

  /**
   * Enter a prefix with its value, a whole number from 0. Bits of `address` behind the prefix are ignored. Returns
   * false, changing nothing, when the prefix has a value already or the trie is full.
   */
  insert(address: number, prefixLength: number, value: number): boolean {
    const longest = isName(address) ? 128 : 32;
    invariant(prefixLength >= 0 && prefixLength <= longest, "prefix trie: a prefix length is 0 to 32, or 128");
    invariant(value >= 0 && (value | 0) === value, "prefix trie: a value is an int32 from 0");
    if (this.#count >= this.capacity) return false;
    if (isName(address)) return this.#insertNamed(address, prefixLength, value);
    let node = ROOT;
    while (this.#length[node] < prefixLength) {
      const branch = this.#branch(node, address);
      const child = this.#children[branch];
      if (child === ROOT) {
        node = this.#children[branch] = this.#add(address, prefixLength);
        break;
      }
      const common = Math.min(Math.clz32(address ^ this.#bits[child]), this.#length[child], prefixLength);
      if (common < this.#length[child]) {
        // The two part inside the edge: a node in between takes the child over.
        const fork = this.#add(address, common);
        this.#children[branch] = fork;
        this.#children[this.#branch(fork, this.#bits[child])] = child;
        node = fork;
      } else {
        node = child;
      }
    }
    if (this.#value[node] !== NO_VALUE) return false;
    this.#value[node] = value;
    this.#count++;
    return true;
  }

  #insertNamed(address: number, length: number, value: number): boolean {
    const same = (one: { address: number; length: number }) =>
      one.length === length && sharesPrefix(one.address, address, length);
    if (this.#named.some(same)) return false;
    this.#named.push({ address, length, value });
    this.#named.sort((a, b) => b.length - a.length);
    this.#count++;
    return true;
  }

  /** The value of the longest prefix that contains `address`, or -1. */
  find(address: number): number {
    if (isName(address))
      return this.#named.find((one) => sharesPrefix(one.address, address, one.length))?.value ?? NO_VALUE;
    return this.matches(address, this.#path) === 0 ? NO_VALUE : this.#path[0];
  }

  /** Fill `out` with the values of every prefix that contains `address`, longest first, as many as fit (33 always do, of IPv6 129). Returns how many. */
  matches(address: number, out: Int32Array): number {
    if (isName(address)) return this.#matchesNamed(address, out);
    let found = 0;
    let node = ROOT;
    do {
      if (!this.#contains(node, address)) break;
      if (this.#value[node] !== NO_VALUE) this.#path[found++] = this.#value[node];
      node = this.#children[this.#branch(node, address)];
    } while (node !== ROOT);
    this.#path.subarray(0, found).reverse();
    const count = Math.min(found, out.length);
    if (out !== this.#path) for (let i = 0; i < count; i++) out[i] = this.#path[i];
    return count;
  }

  #matchesNamed(address: number, out: Int32Array): number {
    let count = 0;
    for (const one of this.#named) {
      if (count < out.length && sharesPrefix(one.address, address, one.length)) out[count++] = one.value;
    }
    return count;
  }

  /** Where in #children the way from `node` toward `address` goes on. Nothing goes on from 32 bits. */
  #branch(node: number, address: number): number {
    return node * 2 + ((address >>> (31 - this.#length[node])) & 1);
  }

  #contains(node: number, address: number): boolean {
    return Math.clz32(address ^ this.#bits[node]) >= this.#length[node];
  }

  #add(address: number, length: number): number {
    const node = this.#nodes++;
    this.#bits[node] = address;
    this.#length[node] = length;
    return node;
  }
}
