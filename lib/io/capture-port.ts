// A port around a port that writes what passes, both ways, to a capture file: what tcpdump would see, as the engine
// sees it (super-frames whole, partial checksums partial).

import type { Clock } from "../base/clock.ts";
import type { CaptureWriter } from "./pcap-file.ts";
import type { FrameBatch, Port, PortInfo, PortStats } from "./port.ts";

export class CapturePort implements Port {
  readonly #port: Port;
  readonly #writer: CaptureWriter;
  readonly #clock: Clock;
  readonly #originSeconds: number;

  /** Takes over `port` and `writer` and closes both. `originSeconds`: the clock's 0 since the epoch, a whole number. */
  constructor(port: Port, writer: CaptureWriter, clock: Clock, originSeconds = 0) {
    this.#port = port;
    this.#writer = writer;
    this.#clock = clock;
    this.#originSeconds = originSeconds;
  }

  info(): PortInfo {
    return this.#port.info();
  }

  rx(batch: FrameBatch): number {
    const count = this.#port.rx(batch);
    if (count > 0) this.#write(batch, 0, count);
    return count;
  }

  /** Frames are written as they are offered, also those that the port then refuses. */
  tx(batch: FrameBatch, from: number, to: number): number {
    this.#write(batch, from, to);
    return this.#port.tx(batch, from, to);
  }

  stats(): PortStats {
    return this.#port.stats();
  }

  close(): void {
    this.#port.close();
    this.#writer.close();
  }

  #write(batch: FrameBatch, from: number, to: number): void {
    const { bytes, offset, length } = batch;
    this.#writer.write(bytes, offset, length, from, to, this.#originSeconds, this.#clock.nowMs());
  }
}
