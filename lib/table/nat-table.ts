// Mappings of source NAT: a host's address and port on the inside, the address and port that it has outside, for as long as a
// session uses it. One mapping serves every destination (RFC 4787, REQ-1), and no two share an address and port outside (REQ-3).
//
//   row   0 inside address   1 inside port<<16 | protocol<<8   2 tenant<<16 | pool   3 origin       the key
//         4 outside address  5 outside port             6 references
//
// The ports of an outside address are 16384..65534, for TCP, UDP and ICMP echo (whose identifier is the port) each their own,
// and are given out as waypoint pairs are (port-pool.ts): first in, first out, with a quarantine behind each use. Even ports
// and odd ones are two stripes of one numbering, so that a port keeps its parity where there is one left (REQ-4). In which order
// those of a stripe are numbered is drawn at every start, so that nobody guesses the next one (RFC 7857, REQ-10).
//
// No policy, no clock. All memory is taken at construction: 1.2 MB an outside address, 32 bytes a mapping. Full: add returns -1.

import { PERMUTATION_KEYS, Permutation } from "../base/permutation.ts";
import type { RandomSource } from "../base/random.ts";
import { StateError, type StateReader, type StateWriter } from "../base/state.ts";
import { addressBook } from "./address-book.ts";
import { HashIndex } from "./hash-index.ts";
import { PortPool } from "./port-pool.ts";
import { Slab } from "./slab.ts";

export const NAT_PORT_FIRST = 16384;
/** 16384..65534 (protocol sheet 9). */
export const NAT_PORTS = 49_151;
/** In the place of a name's row in `origin`: the session begins at an interface of this router, by its number. */
export const ORIGIN_INTERFACE = -1;
/** Or it comes by a peer path, by its row: the router where it begins gives no name. Behind every number of an interface. */
export const ORIGIN_PATH = ORIGIN_INTERFACE - 256;

/** IP protocols that have ports, or an identifier in their place. */
const PROTOCOLS = [6, 17, 1];
const ROW_SHIFT = 3;
const OUTSIDE = 4;
const OUTSIDE_PORT = 5;
const REFERENCES = 6;

/** What a mapping is found by. */
export interface NatInside {
  readonly address: number;
  readonly port: number;
  readonly protocol: number;
  readonly tenant: number;
  readonly pool: number;
  /** Row of the name of the router where the host's sessions begin; or ORIGIN_INTERFACE, or ORIGIN_PATH, less a number. */
  readonly origin: number;
}

/** The even ports, or the odd ones, of one outside address and protocol. */
class NatStripe {
  readonly #pool: PortPool;
  readonly #parity: number;
  #order: Permutation;

  constructor(parity: number, quarantineMs: number, keys: Int32Array, salt: number) {
    this.#parity = parity;
    this.#pool = new PortPool(NAT_PORTS, quarantineMs, parity, 2);
    this.#order = orderOf(parity, keys, salt);
  }

  get inUse(): number {
    return this.#pool.inUse;
  }

  /** A free port; -1 = there is none. */
  allocate(nowMs: number): number {
    const row = this.#pool.allocate(nowMs);
    return row < 0 ? -1 : NAT_PORT_FIRST + this.#parity + 2 * this.#order.at(row >>> 1);
  }

  release(port: number, nowMs: number): void {
    this.#pool.release(this.#rowOf(port), nowMs);
  }

  isInUse(port: number): boolean {
    return this.#pool.isInUse(this.#rowOf(port));
  }

  save(out: StateWriter): void {
    this.#pool.save(out);
  }

  /** `keys` are those of whoever wrote it. */
  restore(from: StateReader, keys: Int32Array, salt: number): void {
    this.#order = orderOf(this.#parity, keys, salt);
    this.#pool.restore(from);
  }

  #rowOf(port: number): number {
    return this.#parity + 2 * this.#order.indexOf((port - NAT_PORT_FIRST) >>> 1);
  }
}

/** 24,576 even ports, and one odd one less. */
function orderOf(parity: number, keys: Int32Array, salt: number): Permutation {
  return new Permutation((NAT_PORTS + 1 - parity) >>> 1, keys, salt * 2 + parity);
}

/** The ports of one outside address and protocol. */
class NatPorts {
  readonly #stripes: readonly [NatStripe, NatStripe];
  readonly #salt: number;
  /** By port: the mapping that has it. Means nothing where the port is free. */
  readonly holder = new Int32Array(NAT_PORTS);

  constructor(quarantineMs: number, keys: Int32Array, salt: number) {
    this.#salt = salt;
    this.#stripes = [new NatStripe(0, quarantineMs, keys, salt), new NatStripe(1, quarantineMs, keys, salt)];
  }

  get inUse(): number {
    return this.#stripes[0].inUse + this.#stripes[1].inUse;
  }

  /** A free port, as even or odd as `like` where there is such a one; -1 = none is free. */
  allocate(like: number, nowMs: number): number {
    const port = this.#stripes[like & 1].allocate(nowMs);
    return port < 0 ? this.#stripes[1 - (like & 1)].allocate(nowMs) : port;
  }

  release(port: number, nowMs: number): void {
    this.#stripes[port & 1].release(port, nowMs);
  }

  isInUse(port: number): boolean {
    return port >= NAT_PORT_FIRST && port < NAT_PORT_FIRST + NAT_PORTS && this.#stripes[port & 1].isInUse(port);
  }

  save(out: StateWriter): void {
    for (const stripe of this.#stripes) stripe.save(out);
  }

  restore(from: StateReader, keys: Int32Array): void {
    for (const stripe of this.#stripes) stripe.restore(from, keys, this.#salt);
  }
}

export class NatTable {
  readonly capacity: number;
  readonly addresses: readonly number[];
  readonly #rowOfAddress = new Map<number, number>();
  /** By address, then by protocol. */
  readonly #ports: readonly (readonly NatPorts[])[];
  readonly #words: Int32Array;
  readonly #slab: Slab;
  readonly #byInside: HashIndex;
  /** Row `capacity` is the key that is looked for. */
  readonly #asked: number;
  /** What the order of ports comes of. */
  readonly #keys: Int32Array;

  /** `addresses`: every outside address of every pool, each once. `random`: keys of hashes, and of the ports' order. */
  constructor(addresses: readonly number[], capacity: number, random: RandomSource, quarantineMs = 10_000) {
    this.#keys = Int32Array.from({ length: PERMUTATION_KEYS }, () => random.nextI32());
    this.capacity = capacity;
    this.addresses = addresses;
    for (const [row, address] of addresses.entries()) this.#rowOfAddress.set(address, row);
    this.#ports = addresses.map((_, n) =>
      PROTOCOLS.map((protocol) => new NatPorts(quarantineMs, this.#keys, (n << 8) | protocol)),
    );
    this.#words = new Int32Array((capacity + 1) << ROW_SHIFT);
    this.#slab = new Slab(capacity);
    this.#byInside = new HashIndex(capacity, random.nextI32(), 4, this.#words, 1 << ROW_SHIFT);
    this.#asked = capacity << ROW_SHIFT;
  }

  /** Mappings that live. */
  get count(): number {
    return this.#slab.live;
  }

  /** Ports of an outside address in use, of all three protocols. */
  portsInUse(address: number): number {
    const row = this.#rowOfAddress.get(address);
    return row === undefined ? 0 : this.#ports[row].reduce((sum, { inUse }) => sum + inUse, 0);
  }

  /** Whether `address` is one that the router presents. */
  has(address: number): boolean {
    return this.#rowOfAddress.has(address);
  }

  /** The mapping of what is inside, -1 = it has none. */
  find(inside: NatInside): number {
    this.#write(this.#asked, inside);
    return this.#byInside.find(this.#words, this.#asked);
  }

  /** A mapping, referenced once, of what has none, to a port of `outside`. -1 = no port is free, or no row. */
  add(inside: NatInside, outside: number, nowMs: number): number {
    const ports = this.#portsOf(outside, inside.protocol);
    const row = this.#slab.allocate();
    if (row < 0) return -1;
    const port = ports.allocate(inside.port, nowMs);
    if (port < 0) {
      this.#slab.free(row);
      return -1;
    }
    this.#place(row, inside, outside, port);
    this.#words[(row << ROW_SHIFT) + REFERENCES] = 1;
    return row;
  }

  hold(row: number): void {
    this.#words[(row << ROW_SHIFT) + REFERENCES]++;
  }

  /** One reference less; without any the mapping is gone, and its port in quarantine. */
  release(row: number, nowMs: number): void {
    const at = row << ROW_SHIFT;
    if (--this.#words[at + REFERENCES] > 0) return;
    this.#byInside.remove(row);
    addressBook.unpin(this.inside(row));
    this.#portsOf(this.outside(row), this.protocol(row)).release(this.outsidePort(row), nowMs);
    this.#slab.free(row);
  }

  /** The mapping that has this address and port outside, -1 = none. */
  withOutside(address: number, port: number, protocol: number): number {
    const row = this.#rowOfAddress.get(address);
    const which = PROTOCOLS.indexOf(protocol);
    if (row === undefined || which < 0) return -1;
    const ports = this.#ports[row][which];
    return ports.isInUse(port) ? ports.holder[port - NAT_PORT_FIRST] : -1;
  }

  inside(row: number): number {
    return this.#words[row << ROW_SHIFT];
  }

  insidePort(row: number): number {
    return this.#words[(row << ROW_SHIFT) + 1] >>> 16;
  }

  protocol(row: number): number {
    return (this.#words[(row << ROW_SHIFT) + 1] >>> 8) & 0xff;
  }

  tenant(row: number): number {
    return this.#words[(row << ROW_SHIFT) + 2] >>> 16;
  }

  /** The interface of this router that the host is behind, -1 = it is behind another router. */
  insideInterface(row: number): number {
    const origin = this.#words[(row << ROW_SHIFT) + 3];
    return origin <= ORIGIN_INTERFACE && origin > ORIGIN_PATH ? ORIGIN_INTERFACE - origin : -1;
  }

  outside(row: number): number {
    return this.#words[(row << ROW_SHIFT) + OUTSIDE];
  }

  outsidePort(row: number): number {
    return this.#words[(row << ROW_SHIFT) + OUTSIDE_PORT] & 0xffff;
  }

  isLive(row: number): boolean {
    return this.#slab.isLive(row);
  }

  /** Every mapping, but not who references it; and the ports in quarantine. */
  save(out: StateWriter): void {
    out.i32(this.addresses.length);
    out.words(this.#keys, 0, PERMUTATION_KEYS);
    for (const protocols of this.#ports) for (const ports of protocols) ports.save(out);
    out.i32(this.count);
    for (let row = 0; row < this.capacity; row++) {
      if (!this.isLive(row)) continue;
      const at = row << ROW_SHIFT;
      out.i32(row);
      out.words(this.#words, at, at + REFERENCES);
    }
  }

  /** Into a fresh table of the same addresses. `names`: the row here of each name's row there. Returns the row here of each row there. */
  restore(from: StateReader, names: readonly number[], tenants: number, pools: number): Map<number, number> {
    if (from.i32() !== this.addresses.length) throw new StateError("other addresses of source NAT");
    from.words(this.#keys, 0, PERMUTATION_KEYS);
    for (const protocols of this.#ports) for (const ports of protocols) ports.restore(from, this.#keys);
    const rows = new Map<number, number>();
    const inUse = this.addresses.reduce((sum, address) => sum + this.portsInUse(address), 0);
    for (let left = from.count(this.capacity, "mappings of source NAT"); left > 0; left--) {
      const there = from.i32();
      const words = new Int32Array(REFERENCES);
      from.words(words, 0, REFERENCES);
      const row = this.#slab.allocate();
      const [address, port, owner, origin, outside, outsidePort] = words;
      const inside = {
        address,
        port: port >>> 16,
        protocol: (port >>> 8) & 0xff,
        tenant: owner >>> 16,
        pool: owner & 0xffff,
        origin: origin < 0 ? origin : names[origin],
      };
      const isKnown = inside.tenant < tenants && inside.pool < pools && inside.origin !== undefined;
      if (!isKnown || !this.has(outside) || !PROTOCOLS.includes(inside.protocol))
        throw new StateError("a mapping of source NAT is of nothing that is known");
      if (!this.#portsOf(outside, inside.protocol).isInUse(outsidePort) || this.#claims(outside, outsidePort, inside))
        throw new StateError("a port of source NAT is nobody's, or two mappings'");
      if (!this.#place(row, inside, outside, outsidePort)) throw new StateError("a host has two mappings");
      rows.set(there, row);
    }
    if (rows.size !== inUse)
      throw new StateError(`${inUse} ports of source NAT are in use, and ${rows.size} mappings'`);
    return rows;
  }

  /** Of restoring: whether a mapping that is there already has this port. */
  #claims(outside: number, port: number, { protocol }: NatInside): boolean {
    const holder = this.withOutside(outside, port, protocol);
    if (!this.isLive(holder)) return false;
    return this.outside(holder) === outside && this.outsidePort(holder) === port && this.protocol(holder) === protocol;
  }

  /** Whether every mapping is somebody's. */
  get isReferenced(): boolean {
    for (let row = 0; row < this.capacity; row++)
      if (this.isLive(row) && this.#words[(row << ROW_SHIFT) + REFERENCES] === 0) return false;
    return true;
  }

  #place(row: number, inside: NatInside, outside: number, port: number): boolean {
    const at = row << ROW_SHIFT;
    this.#write(at, inside);
    this.#words[at + OUTSIDE] = outside;
    this.#words[at + OUTSIDE_PORT] = port;
    this.#words[at + REFERENCES] = 0;
    addressBook.pin(inside.address);
    this.#portsOf(outside, inside.protocol).holder[port - NAT_PORT_FIRST] = row;
    return this.#byInside.insert(row);
  }

  #write(at: number, { address, port, protocol, tenant, pool, origin }: NatInside): void {
    this.#words[at] = address;
    this.#words[at + 1] = (port << 16) | (protocol << 8);
    this.#words[at + 2] = (tenant << 16) | pool;
    this.#words[at + 3] = origin;
  }

  #portsOf(outside: number, protocol: number): NatPorts {
    return this.#ports[this.#rowOfAddress.get(outside)!][PROTOCOLS.indexOf(protocol)];
  }
}
