// How one process takes over from another, in words: `waymark run --take-over` starts a successor while its predecessor
// runs. They talk over the control socket, which only its owner may open (mode 0600; who is at the other end Node cannot
// ask, so that is the whole of the proof), and what they say never touches a disk.
//
//   successor                                                 predecessor
//   HTTP upgrade to "waymark-take-over" ────────────────────►
//   hello: form of the state, digests of the configuration ─►
//                         ◄── welcome: its clock, its guard · or refused: why. The successor ends, the other goes on
//   open ──────────────────────────────────────────────────►
//                         ◄── written: from now on it writes down which frames it takes
//   opens its ports and keeps what arrives; ready ─────────►
//                             it finishes what came before, then stands still
//                         ◄── state, in pieces; whole: how many, and their digest
//   goes through all of it; taken ─────────────────────────►
//                             it gives up for good: control socket, device locks
//                         ◄── yours, the path monitor's state; it ends
//   forwards
//
// Whoever has the device locks forwards. Until it hears "taken" the predecessor goes on as if nothing had been, whenever
// the successor ends, says something else or is too slow: what came meanwhile waits in its rings. From "taken" on it
// never forwards again, and the successor does when it hears "yours", or finds the locks free because the other has died.

import { createHash, type Hash } from "node:crypto";
import { request } from "node:http";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "../base/log.ts";
import { StateError, StateReader, StateWriter } from "../base/state.ts";
import type { DevicePort, PortStats } from "../io/port.ts";
import { explainAskFailure } from "./admin-socket.ts";
import { OperatorError } from "./operator-error.ts";
import type { Router } from "./router-parts.ts";
import { configIdentity, type Identity, RouterRestorer, STATE_FORMAT, saveRouter } from "./router-state.ts";

/** What is asked for in the upgrade. */
export const TAKE_OVER = "waymark-take-over";
const ASK_MS = 5_000;
/** The successor opens its ports meanwhile. */
const OPEN_MS = 30_000;
/** The predecessor stands still, at most. A million sessions take seconds. */
const STILL_MS = 15_000;
/** A port that gives fewer frames than this in a turn has no more, and is asked no more often than this for its last ones. */
const INCOMPLETE = 64;
const LAST_BATCHES = 1024;
const MESSAGE_MAX = 64 << 20;
const HEADER = 5;

/** Not taken over; the message says why, and who goes on. */
export class TakeOverError extends OperatorError {
  override name = "TakeOverError";
}

type Word =
  | { readonly say: "hello"; readonly format: number; readonly identity: Identity }
  | { readonly say: "welcome"; readonly clockStartUs: number; readonly guard: boolean; readonly pid: number }
  | { readonly say: "refused"; readonly why: string }
  | { readonly say: "open" }
  | { readonly say: "written" }
  | { readonly say: "ready" }
  | { readonly say: "whole"; readonly pieces: number; readonly digest: string }
  | { readonly say: "taken" }
  | { readonly say: "yours" };

type Said<S extends Word["say"]> = Extract<Word, { readonly say: S }>;

/** Words and pieces of state over a stream, each with its length in front. */
export class Talk {
  readonly #stream: Duplex;
  readonly #waiting: Buffer[] = [];
  #buffered = 0;
  #isEnded = false;
  #wake = () => {};
  #tellEnded = () => {};
  readonly #whenEnded = new Promise<void>((resolve) => {
    this.#tellEnded = resolve;
  });

  constructor(stream: Duplex, head: Uint8Array = new Uint8Array(0)) {
    this.#stream = stream;
    this.#push(Buffer.from(head));
    stream.on("data", (chunk: Buffer) => this.#push(chunk));
    for (const end of ["end", "close", "error"] as const) stream.on(end, () => this.#setEnded());
  }

  /** The other is gone. */
  get isEnded(): boolean {
    return this.#isEnded;
  }

  async say(word: Word): Promise<void> {
    await this.#write(0, Buffer.from(JSON.stringify(word)));
  }

  /** The bytes are wiped once they are on their way. */
  async give(piece: Uint8Array): Promise<void> {
    await this.#write(1, piece);
    piece.fill(0);
  }

  /** The next word or piece; null when the other is gone. Throws TakeOverError when it waits longer than `ms`, or at nonsense. */
  async next(ms: number): Promise<Word | Uint8Array | null> {
    const header = await this.#read(HEADER, ms);
    if (header === null) return null;
    const length = header.readUInt32LE(0);
    if (length > MESSAGE_MAX || header[4] > 1)
      throw new TakeOverError("the other process says what nobody understands");
    const body = await this.#read(length, ms);
    if (body === null) return null;
    // A copy of its own: buffers of the stream may be shared.
    if (header[4] === 1) return Uint8Array.from(body);
    try {
      return JSON.parse(body.toString("utf8")) as Word;
    } catch {
      throw new TakeOverError("the other process says what nobody understands");
    }
  }

  /** The next word, which must be this one. Null when the other is gone. */
  async hear<S extends Word["say"]>(say: S, ms: number): Promise<Said<S> | null> {
    const next = await this.next(ms);
    if (next === null) return null;
    if (next instanceof Uint8Array || next.say !== say) {
      const why = !(next instanceof Uint8Array) && next.say === "refused" ? next.why : "it says something else";
      throw new TakeOverError(why);
    }
    return next as Said<S>;
  }

  /**
   * What `exchange` says and hears, all of it. Throws TakeOverError when that takes longer than `ms`; where the other has
   * not read what was said, nothing more can be said behind it, and the talk is destroyed.
   */
  async within<T>(ms: number, exchange: () => Promise<T>): Promise<T> {
    let patience: NodeJS.Timeout | undefined;
    const isLate = new Promise<never>((_, reject) => {
      patience = setTimeout(() => {
        reject(new TakeOverError(`the other process is not through after ${ms / 1000} s`));
        if (this.#stream.writableLength > 0) this.destroy();
      }, ms);
    });
    try {
      return await Promise.race([exchange(), isLate]);
    } finally {
      clearTimeout(patience);
    }
  }

  /** What was said still goes out, where the other reads it soon. Whether the other ends too is not waited for. */
  end(): void {
    const patience = setTimeout(() => this.destroy(), ASK_MS);
    this.#stream.end(() => {
      clearTimeout(patience);
      this.destroy();
    });
  }

  destroy(): void {
    this.#setEnded();
    this.#stream.destroy();
  }

  #setEnded(): void {
    this.#isEnded = true;
    this.#wake();
    this.#tellEnded();
  }

  #push(chunk: Buffer): void {
    if (chunk.length === 0) return;
    this.#waiting.push(chunk);
    this.#buffered += chunk.length;
    if (this.#buffered > MESSAGE_MAX) this.#stream.pause();
    this.#wake();
  }

  async #read(length: number, ms: number): Promise<Buffer | null> {
    if (this.#buffered < length) {
      let isLate = false;
      const patience = setTimeout(() => {
        isLate = true;
        this.#wake();
      }, ms);
      try {
        while (this.#buffered < length && !this.#isEnded && !isLate)
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
      } finally {
        clearTimeout(patience);
      }
      if (this.#buffered < length && isLate)
        throw new TakeOverError(`the other process said nothing for ${ms / 1000} s`);
      if (this.#buffered < length) return null;
    }
    const all = this.#waiting.length === 1 ? this.#waiting[0] : Buffer.concat(this.#waiting);
    this.#waiting.length = 0;
    this.#buffered -= length;
    if (this.#buffered > 0) this.#waiting.push(all.subarray(length));
    if (this.#stream.isPaused() && this.#buffered <= MESSAGE_MAX) this.#stream.resume();
    return all.subarray(0, length);
  }

  /** Returns once the bytes are the system's, or the other is gone. */
  #write(kind: number, body: Uint8Array): Promise<void> {
    const header = Buffer.alloc(HEADER);
    header.writeUInt32LE(body.length);
    header[4] = kind;
    const written = new Promise<void>((resolve) => {
      this.#stream.write(header);
      // An error is heard as the other's end.
      this.#stream.write(body, () => resolve());
    });
    return Promise.race([written, this.#whenEnded]);
  }
}

/** Of a predecessor. */
export interface Leaving {
  readonly router: Router;
  /** The router's. */
  readonly ports: readonly DevicePort[];
  readonly clockStartUs: number;
  readonly guard: boolean;
  /** For hashes of frames. */
  readonly seed: number;
  /** For good: the control socket and the locks are free when it returns. */
  giveUp(): void;
  /** What the path monitor knows, once, if there is one; it is silent from then on. */
  monitor(): Promise<Uint8Array | null>;
}

/** The predecessor's side, one successor at a time. Resolves true when it has been taken over from. */
export class HandsOver {
  readonly #leaving: Leaving;
  readonly #identity: Identity;
  readonly #log: Log;
  readonly #stillMs: number;
  #isBusy = false;
  #done: () => void = () => {};
  /** Resolves when a successor forwards. */
  readonly done = new Promise<void>((resolve) => {
    this.#done = resolve;
  });

  /** `stillMs`: for how long it stands still at most. */
  constructor(leaving: Leaving, log: Log, stillMs = STILL_MS) {
    this.#leaving = leaving;
    this.#identity = configIdentity(leaving.router.config);
    this.#log = log;
    this.#stillMs = stillMs;
  }

  /** A successor has asked on the control socket. Never throws. */
  async serve(talk: Talk): Promise<void> {
    if (this.#isBusy) {
      void talk.say({ say: "refused", why: "another take-over is under way" });
      talk.end();
      return;
    }
    this.#isBusy = true;
    let isGone = false;
    try {
      isGone = await this.#handOver(talk);
      if (!isGone) this.#log.warn("the successor went away before it had taken over: going on");
    } catch (error) {
      this.#log.warn({ why: (error as Error).message }, "not taken over: going on");
      // Not waited for: who does not read it must not keep the next successor away.
      void talk.say({ say: "refused", why: (error as Error).message });
    }
    talk.end();
    this.#isBusy = isGone;
    if (isGone) this.#done();
  }

  /** True = taken over from. False = the successor has gone, true and false as if nothing had been otherwise. */
  async #handOver(talk: Talk): Promise<boolean> {
    const { clockStartUs, guard, ports, seed } = this.#leaving;
    const hello = await talk.hear("hello", ASK_MS);
    if (hello === null) return false;
    const why = refusal(hello, this.#identity);
    if (why !== null) throw new TakeOverError(why);
    await talk.say({ say: "welcome", clockStartUs, guard, pid: process.pid });
    if ((await talk.hear("open", OPEN_MS)) === null) return false;
    for (const port of ports) port.writeDown(seed);
    try {
      await talk.say({ say: "written" });
      if ((await talk.hear("ready", OPEN_MS)) === null) return false;
      return await this.#standStill(talk);
    } finally {
      for (const port of ports) port.writeDown(null);
    }
  }

  async #standStill(talk: Talk): Promise<boolean> {
    const started = performance.now();
    let isGone = false;
    try {
      this.#stop();
      const taken = await talk.within(this.#stillMs, async () => {
        await giveState(talk, this.#leaving);
        return await talk.hear("taken", this.#stillMs);
      });
      if (taken === null) return false;
      isGone = true;
    } finally {
      if (!isGone) this.#resume();
    }
    this.#leaving.giveUp();
    const yours = talk.say({ say: "yours" });
    const stoodMs = Math.round(performance.now() - started);
    await yours;
    await talk.give((await this.#leaving.monitor()) ?? new Uint8Array(0));
    this.#log.info({ stoodMs }, "handed over to another process");
    return true;
  }

  /** What the ports have, and then no turn. */
  #stop(): void {
    const { router, ports } = this.#leaving;
    // All is done then that came before the successor opened its ports.
    takeAll(router, ports);
    router.engine.isHalted = true;
    // The pacer goes to sleep first, in at most two turns of the event loop.
    setImmediate(() => setImmediate(() => this.#wait(false)));
  }

  #resume(): void {
    this.#leaving.router.engine.isHalted = false;
    this.#wait(true);
  }

  #wait(waits: boolean): void {
    if (this.#leaving.router.engine.isHalted === waits) return;
    for (const port of this.#leaving.ports) port.waitFor(waits);
  }
}

/** Turn each port until it has been empty once. */
function takeAll({ engine, clock }: Router, ports: readonly DevicePort[]): void {
  for (let port = 0; port < ports.length; port++)
    for (let n = 0; n < LAST_BATCHES && engine.portTurn(port, clock.nowMs()) >= INCOMPLETE; n++);
}

function refusal({ format, identity }: Said<"hello">, own: Identity): string | null {
  if (format !== STATE_FORMAT)
    return `its state has another form (${STATE_FORMAT}, not ${format}): stop it, then start`;
  const other = Object.keys(own).filter((part) => identity?.[part] !== own[part]);
  if (other.length === 0) return null;
  return `it runs with other ${other.join(", ")} than the configuration has: stop it, then start`;
}

async function giveState(talk: Talk, { router, ports, seed }: Leaving): Promise<void> {
  const hash = createHash("sha256");
  let pieces = 0;
  const give = async (piece: Uint8Array) => {
    if (talk.isEnded) return;
    pieces++;
    hash.update(piece);
    await talk.give(piece);
  };
  for (const piece of saveRouter(router)) {
    if (talk.isEnded) return;
    await give(piece);
  }
  for (const port of ports) await give(savePort(port, seed));
  await talk.say({ say: "whole", pieces, digest: hash.digest("hex") });
}

function savePort(port: DevicePort, seed: number): Uint8Array {
  const out = new StateWriter();
  const stats = port.stats();
  out.u8(PORT);
  out.text(port.info().name);
  out.i32(seed);
  out.doubles(port.taken());
  out.i32(port.changed.length);
  for (const name of port.changed) out.text(name);
  out.i32(Object.keys(stats).length);
  for (const [name, value] of Object.entries(stats)) {
    out.text(name);
    out.f64(value);
  }
  return out.finish();
}

/** Behind the kinds of router-state.ts. */
const PORT = 0x10;

/** What a port's successor goes on with. */
interface PortState {
  readonly seed: number;
  readonly taken: Float64Array;
  readonly changed: readonly string[];
  readonly stats: PortStats;
}

function readPort(piece: Uint8Array, port: DevicePort): PortState {
  const from = new StateReader(piece);
  from.u8();
  if (from.text() !== port.info().name) throw new StateError("another interface");
  const seed = from.i32();
  const taken = new Float64Array(from.count(piece.length / 8, "frames"));
  for (let i = 0; i < taken.length; i++) taken[i] = from.f64();
  const changed = Array.from({ length: from.count(16, "settings") }, () => from.text());
  const stats = port.stats();
  const known: Record<string, number> = { ...stats };
  for (const name of Object.keys(known)) known[name] = 0;
  for (let left = from.count(64, "totals"); left > 0; left--) {
    const name = from.text();
    const value = from.f64();
    if (name in known) known[name] = value;
  }
  if (!from.isDone) throw new StateError("a piece is too long");
  return { seed, taken, changed, stats: known as unknown as PortStats };
}

/** The successor's side. Every rejection is a TakeOverError, and the predecessor goes on. */
export class TakesOver {
  readonly #talk: Talk;
  readonly #welcome: Said<"welcome">;
  #states: PortState[] = [];
  #keeping: NodeJS.Timeout | undefined;
  /** Of the predecessor's clock, which the successor goes on with. */
  readonly clockStartUs: number;

  private constructor(talk: Talk, welcome: Said<"welcome">) {
    this.#talk = talk;
    this.#welcome = welcome;
    this.clockStartUs = welcome.clockStartUs;
  }

  /** Ask the router that listens at `path`. */
  static async ask(path: string, identity: Identity, guard: boolean): Promise<TakesOver> {
    const talk = await connectTo(path);
    try {
      await talk.say({ say: "hello", format: STATE_FORMAT, identity });
      const welcome = await heard(talk, "welcome", ASK_MS);
      if (welcome.guard !== guard) {
        const how = welcome.guard ? "with the guard: leave --no-guard out" : "with --no-guard: give it here too";
        throw new TakeOverError(`it was started ${how}`);
      }
      return new TakesOver(talk, welcome);
    } catch (error) {
      talk.destroy();
      throw notTakenOver(path, error);
    }
  }

  /** Before the ports are opened. */
  async open(): Promise<void> {
    await this.#talk.say({ say: "open" });
    await heard(this.#talk, "written", ASK_MS);
  }

  /** Keep what arrives on the ports from now on. */
  keep(ports: readonly DevicePort[]): void {
    const keep = () => {
      for (const port of ports) port.keep();
    };
    keep();
    this.#keeping = setInterval(keep, 1);
  }

  /** The predecessor stands still: go through its state. Until confirm it may go on. */
  async receive(router: Router, ports: readonly DevicePort[]): Promise<void> {
    const restorer = new RouterRestorer(router);
    await this.#talk.say({ say: "ready" });
    const hash = createHash("sha256");
    let pieces = 0;
    for (;;) {
      const next = await this.#talk.next(STILL_MS);
      if (next === null) throw new TakeOverError("the running router went away");
      if (!(next instanceof Uint8Array)) {
        if (next.say !== "whole") throw new TakeOverError(next.say === "refused" ? next.why : "it says something else");
        whole(next, pieces, hash);
        break;
      }
      pieces++;
      hash.update(next);
      try {
        if (next[0] !== PORT) restorer.take(next);
        else if (this.#states.length < ports.length) this.#states.push(readPort(next, ports[this.#states.length]));
        else throw new StateError("more interfaces");
      } finally {
        next.fill(0);
      }
      // Frames arrive meanwhile.
      for (const port of ports) port.keep();
    }
    if (this.#states.length !== ports.length) throw new StateError("fewer interfaces");
    restorer.end();
  }

  /** Everything is here. Returns once this process is the one that forwards; `lock` takes the devices where the other has died. */
  async confirm(lock: () => Promise<void>): Promise<void> {
    await this.#talk.say({ say: "taken" });
    const yours = await this.#talk.hear("yours", STILL_MS);
    if (yours === null) await lock();
  }

  /** Go on where the other has stopped: what has arrived is forwarded when it returns. */
  goOn(router: Router, ports: readonly DevicePort[]): void {
    clearInterval(this.#keeping);
    ports.forEach((port, row) => {
      const { seed, taken, changed, stats } = this.#states[row];
      port.goOn(seed, taken, changed, stats);
    });
    this.#states = [];
    takeAll(router, ports);
  }

  /** What the predecessor's path monitor knew; null where it cannot be had. */
  async monitor(): Promise<Uint8Array | null> {
    const state = await this.#talk.next(ASK_MS).catch(() => null);
    this.#talk.destroy();
    return state instanceof Uint8Array && state.length > 0 ? state : null;
  }

  /** Whatever has become of it: say no more. */
  close(): void {
    clearInterval(this.#keeping);
    this.#talk.destroy();
  }

  get pid(): number {
    return this.#welcome.pid;
  }
}

function whole({ pieces, digest }: Said<"whole">, received: number, hash: Hash): void {
  if (pieces !== received || digest !== hash.digest("hex")) throw new StateError("it did not arrive whole");
}

async function heard<S extends Word["say"]>(talk: Talk, say: S, ms: number): Promise<Said<S>> {
  const word = await talk.hear(say, ms);
  if (word === null) throw new TakeOverError("it went away");
  return word;
}

/** The same for the operator. */
export function notTakenOver(path: string, error: unknown): TakeOverError {
  if (error instanceof TakeOverError && error.message.startsWith("the router at")) return error;
  const why = (error as Error).message;
  return new TakeOverError(`the router at ${path} was not taken over from, and goes on: ${why}`, { cause: error });
}

/** Try `lock` until the devices are free: a process that ends gives them back with its last breath. */
export async function lockSoon<T>(lock: () => Promise<T>, tries = 40, pauseMs = 50): Promise<T> {
  for (let left = tries; ; left--) {
    try {
      return await lock();
    } catch (error) {
      if (left === 0) throw error;
      await sleep(pauseMs);
    }
  }
}

function connectTo(path: string): Promise<Talk> {
  return new Promise((resolve, reject) => {
    const fail = (why: string) => reject(new TakeOverError(why));
    const asking = request({
      socketPath: path,
      path: "/take-over",
      headers: { connection: "Upgrade", upgrade: TAKE_OVER },
      agent: false,
    });
    asking.setTimeout(ASK_MS, () => {
      fail(`the router at ${path} gave no answer within ${ASK_MS / 1000} seconds`);
      asking.destroy();
    });
    asking.on("error", (error: NodeJS.ErrnoException) => fail(explainAskFailure(path, error)));
    asking.on("response", (response) => {
      response.resume();
      fail(`the router at ${path} cannot be taken over from: stop it, then start`);
    });
    asking.on("upgrade", (_, stream, head) => {
      stream.setTimeout(0);
      resolve(new Talk(stream, head));
    });
    asking.end();
  });
}
