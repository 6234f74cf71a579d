// What a part of the router knows, as bytes, for another process that goes on with it: each part writes its own
// (`save`) and reads it again (`restore`), field by field, in one order. Numbers are little-endian, what is of variable
// length has its length in front. The bytes live in memory and on a unix socket, never longer than a take-over
// (control/take-over.ts): there may be keys in them, so who is done with them wipes them.

/** A state that cannot be right, or has no room here. Whoever restores gives all of it up. */
export class StateError extends Error {
  override name = "StateError";
}

const FIRST_BYTES = 1024;

export class StateWriter {
  #bytes = new Uint8Array(FIRST_BYTES);
  #view = new DataView(this.#bytes.buffer);
  #at = 0;

  get length(): number {
    return this.#at;
  }

  u8(value: number): void {
    const at = this.#take(1);
    this.#view.setUint8(at, value);
  }

  flag(value: boolean): void {
    this.u8(value ? 1 : 0);
  }

  i32(value: number): void {
    const at = this.#take(4);
    this.#view.setInt32(at, value, true);
  }

  f64(value: number): void {
    const at = this.#take(8);
    this.#view.setFloat64(at, value, true);
  }

  u64(value: bigint): void {
    const at = this.#take(8);
    this.#view.setBigUint64(at, value, true);
  }

  /** The first `to` words from `from` on, without their number. */
  words(words: Int32Array, from: number, to: number): void {
    for (let i = from; i < to; i++) this.i32(words[i]);
  }

  raw(bytes: Uint8Array): void {
    this.i32(bytes.length);
    const at = this.#take(bytes.length);
    this.#bytes.set(bytes, at);
  }

  text(text: string): void {
    this.raw(new TextEncoder().encode(text));
  }

  doubles(values: Float64Array): void {
    this.i32(values.length);
    for (const value of values) this.f64(value);
  }

  /** What was written. Write no more. */
  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#at);
  }

  /** Room for `length` bytes; where it begins. */
  #take(length: number): number {
    const at = this.#at;
    this.#at += length;
    if (this.#at <= this.#bytes.length) return at;
    const grown = new Uint8Array(Math.max(this.#at, this.#bytes.length * 2));
    grown.set(this.#bytes);
    this.#bytes.fill(0);
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
    return at;
  }
}

export class StateReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get isDone(): boolean {
    return this.#at === this.#bytes.length;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  flag(): boolean {
    return this.code(1) === 1;
  }

  i32(): number {
    return this.#view.getInt32(this.#take(4), true);
  }

  f64(): number {
    return this.#view.getFloat64(this.#take(8), true);
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#take(8), true);
  }

  /** A number of one byte that is at most `max`. */
  code(max: number): number {
    const value = this.u8();
    if (value > max) throw new StateError("a code that is not known");
    return value;
  }

  /** How many of something follow; `room`: as many as there is room for here. */
  count(room: number, what: string): number {
    const value = this.i32();
    if (value < 0) throw new StateError(`a negative number of ${what}`);
    if (value > room) throw new StateError(`${value} ${what}, and room for ${room}`);
    return value;
  }

  /** The row of one of `rows` things; or `none`, where that may be. */
  row(rows: number, what: string, none = 0): number {
    const value = this.i32();
    if ((value < 0 && value !== none) || value >= rows) throw new StateError(`no ${what} has row ${value}`);
    return value;
  }

  words(into: Int32Array, from: number, to: number): void {
    for (let i = from; i < to; i++) into[i] = this.i32();
  }

  /** The bytes are the state's own. */
  raw(): Uint8Array {
    const length = this.count(this.#bytes.length - this.#at - 4, "bytes");
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }

  text(): string {
    return new TextDecoder().decode(this.raw());
  }

  doubles(into: Float64Array, what: string): void {
    if (this.i32() !== into.length) throw new StateError(`another number of ${what}`);
    for (let i = 0; i < into.length; i++) into[i] = this.f64();
  }

  /** As many bytes as `into` has. */
  rawInto(into: Uint8Array, what: string): void {
    const bytes = this.raw();
    if (bytes.length !== into.length) throw new StateError(`another number of ${what}`);
    into.set(bytes);
  }

  #take(length: number): number {
    const at = this.#at;
    if (at + length > this.#bytes.length) throw new StateError("it ends too soon");
    this.#at += length;
    return at;
  }
}
