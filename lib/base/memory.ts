// Where big tables get their memory. A table asks for bytes; who builds it decides whether they come from the JavaScript
// heap's allocator or from pages made for it (io/native.ts).

/** Returns a zeroed buffer of this many bytes. */
export type Memory = (bytes: number) => ArrayBuffer;

export const plainMemory: Memory = (bytes) => new ArrayBuffer(bytes);
