// HOT
// What is about to leave by one port: descriptors of frames that lie in some memory. A queue holds frames of one memory
// at a time; a frame from another memory, or a full queue, sends what is there first. Order is kept.

import { FrameBatch, type Port } from "../io/port.ts";

export class TxQueue {
  readonly port: Port;
  readonly #batch: FrameBatch;

  constructor(port: Port, capacity: number) {
    this.port = port;
    this.#batch = new FrameBatch(new Uint8Array(0), capacity);
  }

  /** The queue as a batch with room for a frame in this memory, which may be added to it. */
  ready(bytes: Uint8Array): FrameBatch {
    const batch = this.#batch;
    if (batch.count === batch.capacity || batch.bytes !== bytes) {
      this.flush();
      batch.bytes = bytes;
    }
    return batch;
  }

  /** Queue a frame. Its bytes must stay as they are until flush. */
  push(bytes: Uint8Array, offset: number, length: number, flags: number, segmentSize: number): void {
    const batch = this.ready(bytes);
    const i = batch.count;
    batch.offset[i] = offset;
    batch.length[i] = length;
    batch.flags[i] = flags;
    batch.segmentSize[i] = segmentSize;
    batch.count = i + 1;
  }

  /** Hand everything queued to the port, which counts what it cannot send. */
  flush(): void {
    const count = this.#batch.count;
    if (count === 0) return;
    this.#batch.count = 0;
    this.port.tx(this.#batch, 0, count);
  }
}
