// HOT
// Who is served when there is more than can be done: packets of established sessions first, then packets of no flow,
// then timers. The fast path takes every frame of a batch; what may wait is decided here, once a batch, by counts alone,
// so that a replay decides the same each time.
//
// A batch that fills every slot means that frames are waiting: the engine is behind. A batch that does not has emptied
// its port. While some port is behind, the slow path lives on credit: a lead packet costs as much as LEAD_FRAMES
// received frames bring in, which keeps it under a tenth of the time spent on frames (bench/macro/session-flood.ts holds it
// to that: when a frame costs less, a lead must wait for more of them). As soon as no port is
// behind the credit is whole again, so a burst is taken at once, and whatever time the established sessions leave over
// goes to new ones. Where no packet was forwarded lately there is nobody to protect: a router that has just started
// takes all the leads it can.

/** Frames of a full batch that pay for one packet in the slow path. */
const LEAD_FRAMES = 512;
/** A port that has not been heard of for this long is not behind; sessions that have not, need no protection. */
const LATELY_MS = 20;
/** Session timers served in one tick at most, and while a port is behind. */
export const TIMERS_PER_TICK = 256;
const TIMERS_BEHIND = 32;

export class Admission {
  readonly #batchFrames: number;
  readonly #perTurn: number;
  /** When the last batch of a port was full; -Infinity when it was not. */
  readonly #fullMs: Float64Array;
  #forwardedMs = Number.NEGATIVE_INFINITY;
  /** In frames. */
  #credit: number;

  /** At most `perTurn` packets of no flow a batch, of batches of up to `batchFrames`. */
  constructor(ports: number, batchFrames: number, perTurn: number) {
    this.#batchFrames = batchFrames;
    this.#perTurn = perTurn;
    this.#fullMs = new Float64Array(ports).fill(Number.NEGATIVE_INFINITY);
    this.#credit = perTurn * LEAD_FRAMES;
  }

  /** A batch of `count` frames came from `port`: how many packets of no flow may go to the slow path. `isFull`: it is as many as the port gives at once. */
  begin(port: number, count: number, nowMs: number, isFull = count === this.#batchFrames): number {
    const most = this.#perTurn * LEAD_FRAMES;
    this.#fullMs[port] = isFull ? nowMs : Number.NEGATIVE_INFINITY;
    const behind = this.isBehind(nowMs);
    this.#credit = behind ? Math.min(most, this.#credit + count) : most;
    const isProtected = nowMs - this.#forwardedMs < LATELY_MS;
    return behind && isProtected ? Math.floor(this.#credit / LEAD_FRAMES) : this.#perTurn;
  }

  /** The fast path forwarded `forwarded` packets of the batch, and `taken` went to the slow path. */
  end(forwarded: number, taken: number, nowMs: number): void {
    if (forwarded > 0) this.#forwardedMs = nowMs;
    this.#credit = Math.max(0, this.#credit - taken * LEAD_FRAMES);
  }

  /** Whether frames are waiting at some port. */
  isBehind(nowMs: number): boolean {
    const full = this.#fullMs;
    for (let port = 0; port < full.length; port++) if (nowMs - full[port] < LATELY_MS) return true;
    return false;
  }

  /** How many timers a tick may serve. */
  timers(nowMs: number): number {
    return this.isBehind(nowMs) ? TIMERS_BEHIND : TIMERS_PER_TICK;
  }
}
