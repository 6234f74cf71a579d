import { write, writeSync } from "node:fs";
import { type Logger, pino } from "pino";

// The one logger. Fixed field names, so that a line can be searched for: interface, peer, service, tenant, uuid,
// reason, error. Never called per packet: packets are counted, not logged.

export type Log = Logger;

const STANDARD_ERROR = 2;
const WAITING_BYTES_MAX = 1 << 20;
const RETRY_MS = 100;
const WARN = 40;
const NEWLINE = 0x0a;

/**
 * A logger that writes JSON lines to `fd`, standard error unless told, so that standard output stays free for data.
 * `level` as in pino.
 */
export function createLog(level: string, fd = STANDARD_ERROR): Log {
  const lines = new LineWriter(fd);
  process.on("exit", () => lines.flush());
  return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, lines);
}

/**
 * Lines to a descriptor whose reader may be slow, whose disk may be full, whose terminal may have gone: no reason to stop
 * routing. Lines wait, up to a megabyte; what cannot be written is lost, and the next line that can be says how much.
 */
export class LineWriter {
  readonly #fd: number;
  #waiting: string[] = [];
  #waitingBytes = 0;
  #lost = 0;
  /** Whether the last line that is there lacks its end. */
  #isCut = false;
  #isWriting = false;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** One line, its end included. Never throws, never waits. */
  write(line: string): void {
    const bytes = Buffer.byteLength(line);
    if (this.#waitingBytes + bytes > WAITING_BYTES_MAX) {
      this.#lost++;
      return;
    }
    this.#waiting.push(line);
    this.#waitingBytes += bytes;
    if (!this.#isWriting) this.#push(this.#take());
  }

  /** Write what waits before returning, as far as it can be: the process ends. */
  flush(): void {
    if (this.#waiting.length === 0 && this.#lost === 0) return;
    const block = this.#take();
    try {
      while (block.written < block.bytes.length) block.written += writeSync(this.#fd, block.bytes, block.written);
    } catch {}
    this.#settle(block);
  }

  /** What waits, behind a line about what was lost. */
  #take(): Block {
    const head = (this.#isCut ? "\n" : "") + (this.#lost > 0 ? lostLine(this.#lost) : "");
    const bytes = Buffer.from(head + this.#waiting.join(""));
    const block = { bytes, headBytes: head.length, written: 0, lines: this.#waiting.length, lost: this.#lost };
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#lost = 0;
    return block;
  }

  #push(block: Block): void {
    this.#isWriting = true;
    write(this.#fd, block.bytes, block.written, (error, written) => {
      if (error?.code === "EAGAIN") return void setTimeout(() => this.#push(block), RETRY_MS);
      if (error === null) block.written += written;
      if (error === null && block.written < block.bytes.length) return this.#push(block);
      this.#settle(block);
      this.#isWriting = false;
      if (this.#waiting.length > 0) this.#push(this.#take());
    });
  }

  /** Nothing more of `block` will be written. */
  #settle({ bytes, headBytes, written, lines, lost }: Block): void {
    if (written === 0) {
      this.#lost += lost + lines;
      return;
    }
    this.#isCut = bytes[written - 1] !== NEWLINE;
    const whole = bytes.subarray(headBytes, written).filter((byte) => byte === NEWLINE).length;
    this.#lost += lines - whole + (written < headBytes ? lost : 0);
  }
}

/** What is written at once. `lost`: lines before it, of which its head tells. */
interface Block {
  bytes: Buffer;
  headBytes: number;
  written: number;
  lines: number;
  lost: number;
}

function lostLine(lines: number): string {
  return `${JSON.stringify({ level: WARN, time: new Date().toISOString(), lines, msg: "lines of this log were lost" })}\n`;
}
