// What a bad wire does to chosen packets, or to any of them by chance. ARP is left alone by the chosen ones.

import type { SeededRandom } from "../../lib/base/random.ts";
import type { Arrival, Link, World } from "./world.ts";

export const FAULTS = ["lost", "repeated at once", "repeated 20 ms later", "overtaken by the next one"] as const;
export type Fault = (typeof FAULTS)[number];

/** Let `fault` hit the `position`-th packet, from 1, that `from` puts on the link. */
export function hit(link: Link, from: string, position: number, fault: Fault): void {
  let count = 0;
  let overtaken: Uint8Array | null = null;
  link.tamper = (frame, packet, sender) => {
    if (packet === undefined || sender !== from) return [{ frame }];
    if (++count === position) {
      if (fault === "lost") return [];
      if (fault === "repeated at once") return [{ frame }, { frame }];
      if (fault === "repeated 20 ms later") return [{ frame }, { frame, delayMs: 20 }];
      overtaken = frame.slice();
      return [];
    }
    const late = overtaken;
    overtaken = null;
    return late === null ? [{ frame }] : [{ frame }, { frame: late }];
  };
}

/** Every link loses, repeats and delays a part of what it carries, ARP included. */
export function spoil(world: World, random: SeededRandom, part: number): void {
  for (const link of world.links.values()) {
    link.tamper = (frame) => {
      if (random.fraction() < part) return [];
      const arrivals: Arrival[] = [random.fraction() < part ? { frame, delayMs: 1 + random.below(30) } : { frame }];
      if (random.fraction() < part) arrivals.push({ frame, delayMs: random.below(30) });
      return arrivals;
    };
  }
}
