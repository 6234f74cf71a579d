// A stream of datagrams through a chain, and its echo: every 2 ms one leaves the client, and the server sends each back
// (reference/stream.c). Both ends say when what arrives had left and when it was there, by the clock of this process.

import type { ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { stop } from "../namespaces.ts";
import { type Chain, SERVER } from "./chain.ts";

const PORT = 7007;
const INTERVAL_US = 2000;
const POLL_MS = 10;
/** So many in a row, and it flows. */
const FLOWING = 50;

/** Nanoseconds of process.hrtime: when a datagram left the client, and when it was at one of the ends. */
interface Arrival {
  readonly leftNs: number;
  readonly cameNs: number;
}

/** Now, by the stream's clock. */
export function nowNs(): number {
  return Number(process.hrtime.bigint());
}

export class Stream {
  readonly #children: ChildProcess[];
  /** At the server, one way. */
  readonly #there: Arrival[] = [];
  /** At the client, there and back. */
  readonly #back: Arrival[] = [];

  /** `program`: the path of stream.c's. */
  constructor(chain: Chain, program: string) {
    // They go before everything else (SCHED_RR): they are to say when something comes, not when they got round to it.
    const start = (node: string, into: Arrival[], ...args: string[]) => {
      const child = chain.namespaces.spawn(node, null, "chrt", ["-r", "1", program, ...args]);
      let rest = "";
      child.stdout!.setEncoding("utf8").on("data", (piece: string) => {
        const lines = (rest + piece).split("\n");
        rest = lines.pop()!;
        for (const line of lines) {
          const [leftNs, cameNs] = line.split(" ").map(Number);
          if (cameNs !== undefined) into.push({ leftNs, cameNs });
        }
      });
      return child;
    };
    this.#children = [
      start("server", this.#there, "echo", SERVER, String(PORT)),
      start("client", this.#back, "send", SERVER, String(PORT), String(INTERVAL_US)),
    ];
  }

  /** Wait until it flows both ways. Throws when it does not. */
  async flows(timeoutMs: number): Promise<void> {
    const from = nowNs();
    for (const end of [this.#there, this.#back]) {
      while (end.length < FLOWING || end[end.length - FLOWING].leftNs < from) {
        if (nowNs() - from > timeoutMs * 1e6) throw new Error("the stream does not flow");
        await sleep(POLL_MS);
      }
    }
  }

  /**
   * Wait until a datagram that left after `afterNs` has come through, and its echo, and `goOnMs` more: what comes back
   * may go away again. Gives up after `timeoutMs`.
   */
  async comesBack(afterNs: number, timeoutMs: number, goOnMs: number): Promise<void> {
    for (const end of [this.#there, this.#back]) {
      while (firstAfter(end, afterNs) === undefined) {
        if (nowNs() - afterNs > timeoutMs * 1e6) return;
        await sleep(POLL_MS);
      }
    }
    await sleep(goOnMs);
  }

  /** The longest times without an arrival since the last one before `sinceNs`, one way and there and back, ms. */
  gapsMs(sinceNs: number, most: number): [number, number] {
    const longest = (end: readonly Arrival[]) => {
      if (firstAfter(end, sinceNs) === undefined) return most;
      let gap = 0;
      for (let i = end.length - 1; i > 0 && end[i].cameNs >= sinceNs; i--) {
        gap = Math.max(gap, end[i].cameNs - end[i - 1].cameNs);
      }
      return Math.min(most, gap / 1e6);
    };
    return [longest(this.#there), longest(this.#back)];
  }

  /** How long after `sinceNs` the first came that had left after `afterNs`, one way and there and back, ms. */
  backMs(sinceNs: number, afterNs: number, most: number): [number, number] {
    const first = (end: readonly Arrival[]) => {
      const arrival = firstAfter(end, afterNs);
      return arrival === undefined ? most : Math.min(most, (arrival.cameNs - sinceNs) / 1e6);
    };
    return [first(this.#there), first(this.#back)];
  }

  async close(): Promise<void> {
    for (const child of this.#children) await stop(child);
  }
}

/** Datagrams are in order but where a path was left for a faster one: the first to arrive. */
function firstAfter(end: readonly Arrival[], afterNs: number): Arrival | undefined {
  let first: Arrival | undefined;
  for (let i = end.length - 1; i >= 0 && end[i].cameNs > afterNs; i--) if (end[i].leftNs > afterNs) first = end[i];
  return first;
}
