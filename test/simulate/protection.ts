// Security policies as the tests write them.

/** A key of `bytes` bytes that begins with `first`, in hex. */
export function keyText(bytes: number, first: number): string {
  return Array.from({ length: bytes }, (_, i) => ((first + 7 * i) & 255).toString(16).padStart(2, "0")).join("");
}

export const CIPHER_KEY_BYTES: Record<string, number> = { "aes-cbc-128": 16, "aes-cbc-256": 32 };

/** A policy for adjacencies; `first` chooses its keys. */
export function fabricText(hmac: string, mode: string, sign: string, cipher: string, first = 1): string {
  const signing =
    hmac === "none"
      ? "hmac: none, sign: none"
      : `hmac: ${hmac}, hmac-key: "${keyText(32, first)}", hmac-mode: ${mode}, sign: ${sign}`;
  const sealing =
    cipher === "none"
      ? ""
      : `, encryption: ${cipher}, encryption-key: "${keyText(CIPHER_KEY_BYTES[cipher], first + 100)}"`;
  return signing + sealing;
}

/** A policy for payloads; `first` chooses its key. */
export function payloadText(cipher: string, adaptive: boolean, first = 2): string {
  return `encryption: ${cipher}, encryption-key: "${keyText(CIPHER_KEY_BYTES[cipher], first)}", hmac: none, sign: none, adaptive: ${adaptive}`;
}

/** What most tests use: metadata signed by the time, and encrypted. */
export const SIGNED = fabricText("sha256-128", "time-based", "metadata", "aes-cbc-256");
export const AES_128 = payloadText("aes-cbc-128", false);
export const AES_256 = payloadText("aes-cbc-256", false);
export const ADAPTIVE = payloadText("aes-cbc-256", true);
/** Every packet signed by the time, and metadata encrypted. */
export const EVERY_PACKET = fabricText("sha256-128", "time-based", "every-packet", "aes-cbc-256");
/** All that there is: every packet signed, metadata and payloads encrypted. */
export const SEALED = { fabric: EVERY_PACKET, payload: AES_256 };
