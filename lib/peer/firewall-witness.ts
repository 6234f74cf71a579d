// The other side of the firewall detector: what came of the peer's bursts, so that each packet is answered once. A machine
// without I/O. The numbers of bursts rise, so whatever came before is known for that, be it recorded and sent again.

import type { StateReader, StateWriter } from "../base/state.ts";
import { CONTROLS, PLACES } from "./firewall-tests.ts";

const OVER_TCP = (1 << CONTROLS) - 1;

export class FirewallWitness {
  /** Whose numbers they are; 0 = nobody's yet. */
  #bootId = 0n;
  #number = 0;
  /** Places of the burst that came. */
  #came = 0;

  /**
   * A packet of the peer, which began with `bootId`. Returns the places over TCP that came of its burst, this one
   * included; -1 = it came before, or an older burst's late: it is not to be answered.
   */
  take(bootId: bigint, number: number, place: number): number {
    if (place >= PLACES) return -1;
    if (bootId !== this.#bootId || ((number - this.#number) | 0) > 0) {
      this.#bootId = bootId;
      this.#number = number;
      this.#came = 0;
    }
    const bit = 1 << place;
    if (number !== this.#number || (this.#came & bit) !== 0) return -1;
    this.#came |= bit;
    return this.#came & OVER_TCP;
  }

  save(out: StateWriter): void {
    out.u64(this.#bootId);
    out.f64(this.#number);
    out.i32(this.#came);
  }

  restore(from: StateReader): void {
    this.#bootId = from.u64();
    this.#number = from.f64();
    this.#came = from.i32();
  }
}
