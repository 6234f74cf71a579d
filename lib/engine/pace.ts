// When the engine turns, live. Asleep when idle: a port's readiness, on the event loop, wakes it. Busy under load: once
// awake it turns the ports again and again, and looks for a while longer after the last frame (its patience) before it
// goes back to sleep, because going to sleep and being woken costs more than a packet does.
//
// The patience follows the traffic, as a hypervisor's halt polling does: frames that woke us sooner than the greatest
// patience would have lasted make it longer; a longer sleep makes it shorter, down to none. So a trickle costs no more
// than its packets, and at a steady rate above 1 / PATIENCE_US_MAX nobody sleeps.
//
// A stay awake is bounded: timers, the control socket and signals have their turn on the event loop after each. A router
// that is awake for longer than that does not wait on its sockets at all: while somebody waits on a socket the kernel
// tells him of every frame that comes and of every frame that leaves, for 50 ns each.

import type { Clock } from "../base/clock.ts";
import type { WakingPort } from "../io/port.ts";
import type { Engine } from "./engine.ts";

/** Session timers have 64 ms ticks; a third of that keeps them on time. */
const TICK_MS = 20;
/** Never look longer than this for the next frame. */
export const PATIENCE_US_MAX = 50;
const PATIENCE_US_MIN = 5;
/** A port that had nothing is looked at in every such turn; a power of two. An empty look is a system call in libpcap. */
const QUIET_TURNS = 4;
/** The event loop's turn comes at least this often. */
const AWAKE_US_MAX = 2000;

/**
 * Start turning; `patienceUsMax` 0 never looks twice. Returns the function that stops time; ports stop waking when they
 * are closed.
 */
export function pace(
  engine: Pick<Engine, "portTurn" | "tick">,
  ports: readonly WakingPort[],
  clock: Clock,
  patienceUsMax = PATIENCE_US_MAX,
): () => void {
  const patience = new Patience(patienceUsMax);
  const quiet = new Uint8Array(ports.length);
  let turns = 0;
  const turnAll = (nowUs: number): number => {
    const nowMs = Math.floor(nowUs / 1000);
    let frames = 0;
    turns = (turns + 1) & 0xffff;
    for (let port = 0; port < ports.length; port++) {
      if ((turns & quiet[port]) !== 0) continue;
      const count = engine.portTurn(port, nowMs);
      frames += count;
      quiet[port] = count > 0 ? 0 : QUIET_TURNS - 1;
    }
    return frames;
  };
  const wait = (waits: boolean): void => {
    for (const port of ports) port.waitFor(waits);
  };
  let isWaiting = true;
  let more: NodeJS.Immediate | undefined;
  const stayAwake = (): void => {
    more = undefined;
    const wokeUs = clock.nowUs();
    let nowUs = wokeUs;
    let frameUs = wokeUs;
    do {
      const frames = turnAll(nowUs);
      nowUs = clock.nowUs();
      if (frames > 0) frameUs = nowUs;
      else clock.relax();
    } while (nowUs - frameUs < patience.us && nowUs - wokeUs < AWAKE_US_MAX);
    if (nowUs - frameUs < patience.us) {
      // Frames still come: on again after the event loop's turn, without having waited.
      if (isWaiting) wait((isWaiting = false));
      more = setImmediate(stayAwake);
      return;
    }
    if (!isWaiting) wait((isWaiting = true));
    patience.sleeps(nowUs);
  };
  const wake = (): void => {
    if (more !== undefined) return;
    patience.woken(clock.nowUs());
    stayAwake();
  };
  for (const port of ports) port.onReadable(wake);
  let again: NodeJS.Immediate | undefined;
  // While timers are behind, a few of them are served on each of the event loop's rounds, after the ports.
  const tick = (): void => {
    again = engine.tick(clock.nowMs()) ? setImmediate(tick) : undefined;
  };
  const timer = setInterval(() => {
    if (again === undefined) tick();
  }, TICK_MS);
  return () => {
    clearInterval(timer);
    clearImmediate(again);
    clearImmediate(more);
  };
}

/** How long to look for the next frame, learned from how long the sleeps are. Microseconds throughout. */
export class Patience {
  readonly #usMax: number;
  #asleepSinceUs = Number.NEGATIVE_INFINITY;
  us = 0;

  constructor(usMax: number) {
    this.#usMax = usMax;
  }

  sleeps(nowUs: number): void {
    this.#asleepSinceUs = nowUs;
  }

  woken(nowUs: number): void {
    if (nowUs - this.#asleepSinceUs <= this.#usMax) {
      this.us = Math.min(this.#usMax, Math.max(PATIENCE_US_MIN, this.us * 2));
    } else {
      this.us = this.us > PATIENCE_US_MIN ? this.us >> 1 : 0;
    }
  }
}
