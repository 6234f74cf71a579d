// A router with several workers in one process: an engine each over memory ports of its own, the kernel's part played
// by an interpreter of the very program that the kernel gets. Which worker goes on next is drawn from a seed, so that
// tests see many schedules.

import type { Clock } from "../../lib/base/clock.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import type { Config } from "../../lib/control/config.ts";
import type { Strays } from "../../lib/engine/strays.ts";
import { RING_BYTES } from "../../lib/engine/strays.ts";
import { MemoryPort } from "../../lib/io/memory-port.ts";
import { FrameBatch } from "../../lib/io/port.ts";
import { buildRouter, inOwnForm, type Router } from "../../lib/router.ts";
import { FrameRing } from "../../lib/table/frame-ring.ts";
import { steeringProgram } from "../../lib/wire/steering-program.ts";
import { shareOf, waypointsOf } from "../../lib/worker/share.ts";
import { runBpf } from "../model/bpf.ts";

const FRAMES = 64;

export class SplitRouter {
  readonly workers: readonly Router[];
  /** Frames each worker was given by the steering program. */
  readonly steered: number[];
  readonly #fronts: readonly MemoryPort[];
  readonly #ports: readonly MemoryPort[][];
  readonly #programs: readonly Uint8Array[];
  readonly #random: SeededRandom;
  readonly #batch = new FrameBatch(new Uint8Array(0), FRAMES);

  /** `fronts` are the ports that the world knows, one an interface. */
  constructor(
    config: Config,
    fronts: readonly MemoryPort[],
    options: { workers: number; clock: Clock; seed: number; frameMax?: number; ringBytes?: number },
  ) {
    const { workers, clock, seed } = options;
    this.#fronts = fronts;
    this.#random = new SeededRandom(seed);
    this.steered = new Array<number>(workers).fill(0);
    const rings = Array.from({ length: workers }, () => FrameRing.allocate(options.ringBytes ?? RING_BYTES));
    this.#ports = Array.from({ length: workers }, () =>
      fronts.map((front) => {
        const { name, mac, mtu } = front.info();
        const long = options.frameMax === undefined ? {} : { frameMax: options.frameMax };
        return new MemoryPort({ name, mac, mtu, ...long, queueFrames: FRAMES });
      }),
    );
    this.workers = this.#ports.map((ports, worker) =>
      buildRouter(shareOf(config, workers), inOwnForm(config, ports, workers), {
        clock,
        random: new SeededRandom(seed * 1000 + worker),
        acceptAnyMac: false,
        share: {
          worker,
          workers,
          inbound: new FrameRing(rings[(worker + workers - 1) % workers]),
          outbound: new FrameRing(rings[worker]),
          wakeNext: () => {},
        },
      }),
    );
    this.#programs = fronts.map((_, row) => steeringProgram(workers, waypointsOf(this.workers[0], row)));
  }

  /** Let everything happen that can happen now. Returns how much did. */
  turn(nowMs: number): number {
    let total = 0;
    for (let idle = 0; idle < 3; ) {
      const done = this.#steer() + this.#work(nowMs) + this.#send();
      total += done;
      idle = done === 0 ? idle + 1 : 0;
    }
    for (const { engine } of this.workers) engine.tick(nowMs);
    return total + this.#send();
  }

  /** The sum over the workers of a counter, by its name. */
  count(name: string): number {
    return this.workers.reduce((sum, { counters }) => sum + counters.get(counters.indexOf(name)), 0);
  }

  /** Drops of all workers, those that are zero left out. */
  drops(): Record<string, number> {
    const names = Object.keys(this.workers[0].counters.publish(true)).filter((name) => name.startsWith("drop."));
    return Object.fromEntries(
      names.map((name) => [name.slice(5), this.count(name)]).filter(([, count]) => count !== 0),
    );
  }

  #steer(): number {
    let count = 0;
    this.#fronts.forEach((front, row) => {
      const batch = this.#batch;
      front.rx(batch);
      for (let i = 0; i < batch.count; i++) {
        const frame = batch.bytes.slice(batch.offset[i], batch.offset[i] + batch.length[i]);
        const worker = runBpf(this.#programs[row], frame);
        this.steered[worker]++;
        if (!this.#ports[worker][row].inject(frame, batch.flags[i], batch.segmentSize[i]))
          throw new Error("more frames at once than a worker's queue takes");
      }
      count += batch.count;
    });
    return count;
  }

  /** Some ports of some workers, and some of the strays, in an order of chance. */
  #work(nowMs: number): number {
    let count = 0;
    for (let n = 0; n < this.workers.length * 3; n++) {
      const worker = this.workers[this.#random.below(this.workers.length)];
      const what = this.#random.below(this.#fronts.length + 1);
      if (what < this.#fronts.length) count += worker.engine.portTurn(what, nowMs);
      else count += (worker.strays as Strays).turn(worker.engine, nowMs);
    }
    // Whoever chance left out.
    for (const worker of this.workers) {
      this.#fronts.forEach((_, row) => {
        count += worker.engine.portTurn(row, nowMs);
      });
      count += (worker.strays as Strays).turn(worker.engine, nowMs);
    }
    return count;
  }

  #send(): number {
    let count = 0;
    this.#ports.forEach((ports) => {
      ports.forEach((port, row) => {
        for (const frame of port.sent()) {
          const batch = new FrameBatch(frame, 1);
          batch.length[0] = frame.length;
          if (this.#fronts[row].tx(batch, 0, 1) !== 1)
            throw new Error("more frames at once than the front's queue takes");
          count++;
        }
      });
    });
    return count;
  }
}
