// What the lab's hosts say to each other: shared by host-server.ts and host-client.ts.

/** The server that speaks first says this. */
export const GREETING = "220 waymark lab speaks first\r\n";
/** Length of the answer to a client that half-closed. */
export const ANSWER_BYTES = 300_000;

/** `pattern` over and over, `length` bytes. */
export function repeat(pattern: Buffer, length: number): Buffer {
  return Buffer.alloc(length, pattern);
}
