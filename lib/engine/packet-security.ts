// What keys do to one packet (protocol sheet 5.2). Outward: payload encrypted, metadata encrypted, digest put behind;
// inward the reverse, and nothing in a packet is believed before its digest was.
//
//   | headers | metadata: header attributes, CBC(payload attributes), IV | CBC(payload), IV | digest |
//
// Whether a packet has a digest is agreed by configuration (`sign`), not told by the packet.

import { getI32, setU16, setU32 } from "../base/bytes.ts";
import type { RandomSource } from "../base/random.ts";
import type { StateReader, StateWriter } from "../base/state.ts";
import type { Keys, Security } from "../crypto/key-ring.ts";
import {
  HMAC_MISSING,
  HMAC_RIGHT,
  IV_LENGTH,
  NO_WINDOW,
  type PacketCrypto,
  type PacketHmac,
  type PayloadCipher,
} from "../crypto/packet-crypto.ts";
import type { FrameBatch } from "../io/port.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import { ReplayCache } from "../table/replay-cache.ts";
import { AT_END, AT_PAYLOAD } from "../wire/flow-key.ts";
import { type MetadataWriter, type ParsedMetadata, parseMetadata } from "../wire/metadata.ts";
import { ATTRIBUTE_FRAGMENT, ATTRIBUTE_SECURITY_ID } from "../wire/metadata-attributes.ts";
import {
  DROP_CLOCK_SKEW,
  DROP_KEY_VERSION,
  DROP_METADATA_CIPHER,
  DROP_METADATA_MALFORMED,
  DROP_PAYLOAD_CIPHER,
  DROP_SIGNATURE_MISSING,
  DROP_SIGNATURE_WRONG,
  OK,
} from "../wire/verdict.ts";
import { endOfPayload, moveEnd, replacePayload } from "./splice.ts";

/** Protocol sheet 5.3. */
export const WINDOW_MS = 2000;
/** How far clocks may differ for the difference to be measured: 31 windows and the one beside, each way. */
const SKEW_REACH = 31;
/** A search costs dozens of digests: so often a second at most, over all peers. */
const SEARCHES_PER_SECOND = 10;
/** Metadata that opened a session opens none again for this long, as far as the cache goes (protocol sheet 5.3). */
const REPLAY_KEEP_MS = 10_000;
const REPLAY_ENTRIES = 65_536;
/** The longest metadata that is decrypted; ours has 640 bytes at most. */
const METADATA_MAX = 4096;

export class PacketSecurity {
  readonly #crypto: PacketCrypto;
  readonly #random: RandomSource;
  readonly #wallMs: () => number;
  readonly #replays: ReplayCache;
  readonly #from = new Int32Array(1);
  readonly #to = new Int32Array(1);
  readonly #place = new Int32Array(1);
  readonly #outcome = new Int32Array(1);
  readonly #sum = new Int32Array(1);
  readonly #iv = new Uint8Array(IV_LENGTH);
  readonly #digest = new Int32Array(4);
  #searchesLeft = SEARCHES_PER_SECOND;
  #searchesSinceMs = 0;
  /** Where the packet ended whose digest was taken off last; -1 = none was. */
  #signedEnd = -1;
  /** The metadata read last lies in these bytes: the frame's, or decrypted in memory of our own. */
  told: Uint8Array = new Uint8Array(0);
  readonly #decrypted = new Uint8Array(METADATA_MAX);

  constructor(parts: { crypto: PacketCrypto; random: RandomSource; wallMs: () => number; seed: number }) {
    this.#crypto = parts.crypto;
    this.#random = parts.random;
    this.#wallMs = parts.wallMs;
    this.#replays = new ReplayCache(REPLAY_ENTRIES, REPLAY_KEEP_MS, parts.seed);
  }

  /** The version that a packet for this peer names (attribute 16); 0 where there are no keys. */
  version(path: PeerPath, nowMs: number): number {
    return path.security === null ? 0 : path.security.ring.sending(nowMs).version;
  }

  /** Bytes that a digest adds to every packet for this peer; `isMetadata`: to those that have metadata. */
  overhead(path: PeerPath, isMetadata = false): number {
    const { security } = path;
    if (security === null || (security.sign !== "every-packet" && !isMetadata)) return 0;
    return security.ring.current.hmac?.length ?? 0;
  }

  /** What signs packets for this peer now. Only where it signs. */
  sendingHmac(path: PeerPath, nowMs: number): PacketHmac {
    return path.security!.ring.sending(nowMs).hmac!;
  }

  /** Of digests from this peer now: by its clock, as far as its offset was learned. */
  #windowOf(path: PeerPath): number {
    const own = this.window(path);
    return own === NO_WINDOW ? own : own + path.learnedWindows;
  }

  /** Of digests toward this peer now (packet-crypto.ts); NO_WINDOW where they do not depend on time. */
  window(path: PeerPath): number {
    return path.security!.timeBased ? Math.floor(this.#wallMs() / WINDOW_MS) : NO_WINDOW;
  }

  /**
   * Take the digests off payloads of packets from one peer that signs each, as `verify` does, but for what is wrong:
   * result[i] is HMAC_RIGHT and to[i] the new end, or it is something else and nothing has changed.
   */
  verifyAll(
    bytes: Uint8Array,
    from: Int32Array,
    to: Int32Array,
    count: number,
    result: Int32Array,
    path: PeerPath,
    nowMs: number,
  ): void {
    const { ring } = path.security!;
    const window = this.#windowOf(path);
    const previous = ring.previous(nowMs);
    ring.current.hmac!.verify(bytes, from, to, count, window, result);
    for (let i = 0; i < count; i++) {
      if (result[i] === HMAC_RIGHT) {
        ring.heard(ring.current.version, nowMs);
        continue;
      }
      if (previous === null) continue;
      this.#from[0] = from[i];
      this.#to[0] = to[i];
      previous.hmac!.verify(bytes, this.#from, this.#to, 1, window, this.#outcome);
      result[i] = this.#outcome[0];
      to[i] = this.#to[0];
    }
  }

  /** Fresh IVs for `count` rows. */
  drawIvs(ivs: Uint8Array, count: number): void {
    for (let at = 0; at < count * IV_LENGTH; at += 4) setU32(ivs, at, this.#random.nextI32());
  }

  /** A fresh key of `length` bytes, a multiple of 4. */
  drawKey(key: Uint8Array, length: number): void {
    for (let at = 0; at < length; at += 4) setU32(key, at, this.#random.nextI32());
  }

  /** Encrypt what the writer has just ended, for this peer. Returns the metadata's length. */
  sealMetadata(writer: MetadataWriter, length: number, path: PeerPath, nowMs: number): number {
    const cipher = path.security?.ring.sending(nowMs).cipher ?? null;
    if (cipher === null || writer.payloadStart === length) return length;
    return writer.resealed(this.#seal(cipher, writer.buffer, writer.payloadStart, length));
  }

  /** Put a digest behind the packet; `isMetadata`: it has metadata, or is one that a router made. */
  sign(batch: FrameBatch, i: number, key: Int32Array, path: PeerPath, isMetadata: boolean, nowMs: number): void {
    const { security } = path;
    if (security === null || !signs(security, isMetadata)) return;
    endOfPayload(batch, i, key);
    if (key[AT_PAYLOAD] === key[AT_END]) return;
    this.#from[0] = key[AT_PAYLOAD];
    this.#to[0] = key[AT_END];
    security.ring.sending(nowMs).hmac!.sign(batch.bytes, this.#from, this.#to, 1, this.window(path));
    moveEnd(batch, i, key, this.#to[0]);
  }

  /** Take the packet's digest off, if it has to have one. Returns OK, or the drop reason with the packet as it was. */
  verify(batch: FrameBatch, i: number, key: Int32Array, path: PeerPath, isMetadata: boolean, nowMs: number): number {
    const { security } = path;
    this.#signedEnd = -1;
    if (security === null || !signs(security, isMetadata)) return OK;
    endOfPayload(batch, i, key);
    if (key[AT_PAYLOAD] === key[AT_END]) return OK;
    const { ring } = security;
    const window = this.#windowOf(path);
    let keys: Keys | null = ring.current;
    let outcome = this.#check(keys, batch.bytes, key, window);
    if (outcome !== HMAC_RIGHT && outcome !== HMAC_MISSING) {
      keys = ring.previous(nowMs);
      if (keys !== null) outcome = this.#check(keys, batch.bytes, key, window);
    }
    if (outcome === HMAC_MISSING) return DROP_SIGNATURE_MISSING;
    if (outcome !== HMAC_RIGHT) return this.#refused(batch.bytes, key, path, security, window, nowMs);
    ring.heard(keys!.version, nowMs);
    for (let word = 0; word < 4; word++) this.#digest[word] = getI32(batch.bytes, this.#to[0] + 4 * word);
    this.#signedEnd = key[AT_END];
    moveEnd(batch, i, key, this.#to[0]);
    return OK;
  }

  /**
   * The offset at which the last digest of this peer was right that was refused for it is the peer's: whoever calls knows
   * that the packet was fresh. Digests are looked at by it from now on.
   */
  learnClock(path: PeerPath): void {
    path.learnedWindows = Math.round(path.clockSkewMs / WINDOW_MS);
  }

  /** Put back the digest that was taken off last: another worker will look at the packet as it came. */
  restore(batch: FrameBatch, i: number, key: Int32Array): void {
    if (this.#signedEnd < 0) return;
    moveEnd(batch, i, key, this.#signedEnd);
    this.#signedEnd = -1;
  }

  /** Whether the metadata whose digest was taken off last has opened a session before. */
  isReplay(nowMs: number): boolean {
    return this.#signedEnd >= 0 && this.#replays.has(this.#digest, nowMs);
  }

  /** It has opened one now. */
  remember(nowMs: number): void {
    if (this.#signedEnd >= 0) this.#replays.add(this.#digest, nowMs);
  }

  /** What has opened sessions lately. */
  saveReplays(out: StateWriter): void {
    this.#replays.save(out);
  }

  restoreReplays(from: StateReader): void {
    this.#replays.restore(from);
  }

  /** Parse the metadata at the payload's start, decrypted where this peer encrypts it, into `out`; values are in `told`. */
  readMetadata(bytes: Uint8Array, key: Int32Array, path: PeerPath, out: ParsedMetadata, nowMs: number): number {
    const at = key[AT_PAYLOAD];
    this.told = bytes;
    const verdict = parseMetadata(bytes, at, key[AT_END], out, path.security?.ring.current.cipher != null);
    if (verdict !== OK || path.security === null || out.payloadLength === 0 || out.has(ATTRIBUTE_FRAGMENT))
      return verdict;
    if (path.security.ring.current.cipher === null) return OK;
    const version = out.has(ATTRIBUTE_SECURITY_ID) ? getI32(bytes, out.offsetOf(ATTRIBUTE_SECURITY_ID)) : 0;
    const cipher = path.security.ring.accepted(version, nowMs)?.cipher ?? null;
    if (cipher === null) return DROP_KEY_VERSION;
    const { headerLength, totalLength } = out;
    if (totalLength > METADATA_MAX) return DROP_METADATA_MALFORMED;
    const plain = this.#decrypted;
    plain.set(bytes.subarray(at, at + totalLength), 0);
    const end = this.#open(cipher, plain, headerLength, totalLength);
    if (end < 0) return DROP_METADATA_CIPHER;
    setU16(plain, 10, end - headerLength);
    this.told = plain;
    if (parseMetadata(plain, 0, end, out) !== OK) return DROP_METADATA_CIPHER;
    out.totalLength = totalLength;
    return OK;
  }

  /** Encrypt the packet's payload, if it has any. Its checksum must be right: it is made anew. `place` here and below: of the key, where the cipher has a column of them. */
  sealPayload(batch: FrameBatch, i: number, key: Int32Array, cipher: PayloadCipher, place: number): void {
    endOfPayload(batch, i, key);
    if (key[AT_PAYLOAD] === key[AT_END]) return;
    this.#replace(batch, i, key, this.#seal(cipher, batch.bytes, key[AT_PAYLOAD], key[AT_END], place));
  }

  /** Decrypt the packet's payload, if it has any. Its checksum must be right: it is made anew. */
  openPayload(batch: FrameBatch, i: number, key: Int32Array, cipher: PayloadCipher, place: number): number {
    endOfPayload(batch, i, key);
    if (key[AT_PAYLOAD] === key[AT_END]) return OK;
    const end = this.#open(cipher, batch.bytes, key[AT_PAYLOAD], key[AT_END], place);
    if (end < 0) return DROP_PAYLOAD_CIPHER;
    this.#replace(batch, i, key, end);
    return OK;
  }

  /** Decrypt the first `length` bytes, in place. Returns where they end then; -1 = nothing that `seal` makes. */
  openBytes(bytes: Uint8Array, length: number, cipher: PayloadCipher, place: number): number {
    return this.#open(cipher, bytes, 0, length, place);
  }

  #replace(batch: FrameBatch, i: number, key: Int32Array, end: number): void {
    this.#from[0] = key[AT_PAYLOAD];
    this.#to[0] = end;
    this.#crypto.sums(batch.bytes, this.#from, this.#to, 1, this.#sum);
    replacePayload(batch, i, key, end, this.#sum[0]);
  }

  #seal(cipher: PayloadCipher, bytes: Uint8Array, from: number, to: number, place = 0): number {
    this.drawIvs(this.#iv, 1);
    this.#from[0] = from;
    this.#to[0] = to;
    this.#place[0] = place;
    cipher.seal(bytes, this.#from, this.#to, 1, this.#iv, this.#place);
    return this.#to[0];
  }

  #open(cipher: PayloadCipher, bytes: Uint8Array, from: number, to: number, place = 0): number {
    this.#from[0] = from;
    this.#to[0] = to;
    this.#place[0] = place;
    cipher.open(bytes, this.#from, this.#to, 1, this.#place);
    return this.#to[0];
  }

  #check(keys: Keys, bytes: Uint8Array, key: Int32Array, window: number): number {
    this.#from[0] = key[AT_PAYLOAD];
    this.#to[0] = key[AT_END];
    keys.hmac!.verify(bytes, this.#from, this.#to, 1, window, this.#outcome);
    return this.#outcome[0];
  }

  /** A wrong digest: by another time than ours, or altogether. What another time says is measured, never believed. */
  #refused(
    bytes: Uint8Array,
    key: Int32Array,
    path: PeerPath,
    security: Security,
    window: number,
    nowMs: number,
  ): number {
    if (window === NO_WINDOW) return DROP_SIGNATURE_WRONG;
    const keys = security.ring.current;
    const known = Number.isNaN(path.clockSkewMs) ? 0 : Math.round(path.clockSkewMs / WINDOW_MS) - path.learnedWindows;
    if (known !== 0 && this.#check(keys, bytes, key, window + known) === HMAC_RIGHT) {
      path.skewedAtMs = nowMs;
      return DROP_CLOCK_SKEW;
    }
    if (!this.#maySearch(nowMs)) return DROP_SIGNATURE_WRONG;
    // Each check covers a window and its two neighbors.
    for (let away = 3; away <= SKEW_REACH; away += 3) {
      for (const skew of [away, -away]) {
        if (this.#check(keys, bytes, key, window + skew) !== HMAC_RIGHT) continue;
        path.clockSkewMs = (this.#exact(keys, bytes, key, window, skew) + path.learnedWindows) * WINDOW_MS;
        path.skewedAtMs = nowMs;
        return DROP_CLOCK_SKEW;
      }
    }
    return DROP_SIGNATURE_WRONG;
  }

  /** Which of `skew` and its two neighbors it is, in windows: the farthest check that still covers it tells. */
  #exact(keys: Keys, bytes: Uint8Array, key: Int32Array, window: number, skew: number): number {
    if (this.#check(keys, bytes, key, window + skew + 2) === HMAC_RIGHT) return skew + 1;
    return this.#check(keys, bytes, key, window + skew - 2) === HMAC_RIGHT ? skew - 1 : skew;
  }

  #maySearch(nowMs: number): boolean {
    if (nowMs - this.#searchesSinceMs >= 1000) {
      this.#searchesSinceMs = nowMs;
      this.#searchesLeft = SEARCHES_PER_SECOND;
    }
    return this.#searchesLeft > 0 && this.#searchesLeft-- > 0;
  }
}

/** Whether packets toward and from a peer have a digest. */
export function signs(security: Security, isMetadata: boolean): boolean {
  return security.sign === "every-packet" || (isMetadata && security.sign === "metadata");
}
