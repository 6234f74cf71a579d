import { type Logger, pino } from "pino";

// The one logger. Fixed field names, so that a line can be searched for: interface, peer, service, tenant, uuid,
// reason, error. Never called per packet: packets are counted, not logged.

export type Log = Logger;

/**
 * Write as much of bytes[from..) as goes at once, and return how many bytes that were. Throws EAGAIN where none do, other errors
 * where none will. `io/log-output.ts` has one.
 */
export type Put = (bytes: Uint8Array, from: number) => number;

const WAITING_BYTES_MAX = 1 << 20;
const RETRY_MS = 100;
const WARN = 40;
const NEWLINE = 0x0a;

/** A logger that writes JSON lines. `level` as in pino. */
export function createLog(level: string, put: Put): Log {
  const lines = new LineWriter(put);
  process.on("exit", () => lines.flush());
  return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, lines);
}

/**
 * Lines to where a reader may be slow, a disk full, a terminal gone: no reason to stop routing. Lines wait for the reader,
 * up to a megabyte; what cannot be written is lost, and the next line that can be says how much.
 */
export class LineWriter {
  readonly #put: Put;
  #waiting: string[] = [];
  #waitingBytes = 0;
  #lost = 0;
  /** Whether the last line that is there lacks its end. */
  #isCut = false;
  /** What is being written. */
  #block: Block | null = null;
  #retry: NodeJS.Timeout | null = null;

  constructor(put: Put) {
    this.#put = put;
  }

  /** One line, its end included. Never throws, never waits. */
  write(line: string): void {
    const bytes = Buffer.byteLength(line);
    const held = this.#waitingBytes + (this.#block?.bytes.length ?? 0);
    if (held + bytes > WAITING_BYTES_MAX) {
      this.#lost++;
      return;
    }
    this.#waiting.push(line);
    this.#waitingBytes += bytes;
    if (this.#retry === null) this.flush();
  }

  /** Write what waits, as far as it goes. */
  flush(): void {
    while (this.#block !== null || this.#waiting.length > 0) {
      const block = this.#block ?? this.#take();
      this.#block = block;
      try {
        while (block.written < block.bytes.length) block.written += this.#put(block.bytes, block.written);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "EAGAIN") {
          this.#later();
          return;
        }
      }
      this.#block = null;
      this.#settle(block);
    }
  }

  #later(): void {
    this.#retry ??= setTimeout(() => {
      this.#retry = null;
      this.flush();
    }, RETRY_MS).unref();
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
