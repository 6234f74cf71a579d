// The keys of one security policy, by version (attribute 16), and which of them is used when. A rotation loses nothing
// as long as both routers learn the new keys within OVERLAP_MS of each other:
//
//   new keys n arrive ──► send n-1, accept n-1 and n ──► the peer used n, or OVERLAP_MS passed ──► send n, accept both
//                         ──► OVERLAP_MS after that ──► accept n only
//
// What a session's payload is encrypted with does not change while it lives (protocol sheet 5.7): a session holds on to
// its version, so a ring remembers those it had.

import { StateError, type StateReader, type StateWriter } from "../base/state.ts";
import type { CipherAlgorithm, PacketHmac, PayloadCipher } from "./packet-crypto.ts";

/** The bytes of the keys of one version; null where there is none of that kind. */
export interface KeyBytes {
  readonly hmac: Uint8Array | null;
  readonly encryption: Uint8Array | null;
}

/** The keys of one version, ready to use. */
export interface Keys {
  readonly version: number;
  /** null: this policy does not sign. */
  readonly hmac: PacketHmac | null;
  /** null: this policy does not encrypt. */
  readonly cipher: PayloadCipher | null;
  /** What they were made of: another process may have to go on with them. */
  readonly bytes: KeyBytes;
}

/** A restored ring has as many at most: one for each rotation since start. */
const VERSIONS_MAX = 65_536;
/** Protocol sheet 5.7. */
export const OVERLAP_MS = 30_000;

export class KeyRing {
  #current: Keys;
  #previous: Keys | null = null;
  /** Sends the previous version until then; accepts it until OVERLAP_MS later. */
  #switchMs = 0;
  /** By version: what sessions may still hold on to. */
  readonly #all = new Map<number, Keys>();

  constructor(keys: Keys) {
    this.#current = keys;
    this.#all.set(keys.version, keys);
  }

  /** New keys, of a version that is not the current one. */
  rotate(keys: Keys, nowMs: number): void {
    if (keys.version === this.#current.version) return;
    this.#previous = this.#current;
    this.#current = keys;
    this.#switchMs = nowMs + OVERLAP_MS;
    this.#all.set(keys.version, keys);
  }

  /** What packets are signed and metadata is encrypted with now. */
  sending(nowMs: number): Keys {
    return this.#previous !== null && nowMs < this.#switchMs ? this.#previous : this.#current;
  }

  /** A peer's packet of this version was right: whoever has the new keys may be sent to with them. */
  heard(version: number, nowMs: number): void {
    if (version === this.#current.version && nowMs < this.#switchMs) this.#switchMs = nowMs;
  }

  get current(): Keys {
    return this.#current;
  }

  /** The version before the current one, while it is accepted; else null. */
  previous(nowMs: number): Keys | null {
    if (this.#previous !== null && nowMs >= this.#switchMs + OVERLAP_MS) this.#previous = null;
    return this.#previous;
  }

  /** Keys that a peer may use now, by the version it names; null = none. */
  accepted(version: number, nowMs: number): Keys | null {
    if (version === this.#current.version) return this.#current;
    const previous = this.previous(nowMs);
    return previous !== null && previous.version === version ? previous : null;
  }

  /** All versions, and where a rotation is. */
  save(out: StateWriter): void {
    out.i32(this.#all.size);
    for (const { version, bytes } of this.#all.values()) {
      out.f64(version);
      for (const key of [bytes.hmac, bytes.encryption]) {
        out.flag(key !== null);
        if (key !== null) out.raw(key);
      }
    }
    out.f64(this.#current.version);
    out.f64(this.#previous === null ? -1 : this.#previous.version);
    out.f64(this.#switchMs);
  }

  /** In the place of everything that is known here; `make`: keys of their bytes, or a throw. */
  restore(from: StateReader, make: (version: number, bytes: KeyBytes) => Keys): void {
    const key = () => (from.flag() ? from.raw().slice() : null);
    const all = new Map<number, Keys>();
    for (let left = from.count(VERSIONS_MAX, "versions of keys"); left > 0; left--) {
      const version = from.f64();
      all.set(version, make(version, { hmac: key(), encryption: key() }));
    }
    const current = all.get(from.f64());
    const before = from.f64();
    const previous = before === -1 ? null : all.get(before);
    if (current === undefined || previous === undefined) throw new StateError("keys that are in use are missing");
    this.#switchMs = from.f64();
    this.#current = current;
    this.#previous = previous;
    this.#all.clear();
    for (const [version, keys] of all) this.#all.set(version, keys);
  }

  /** Keys that a session was opened with, however old; null = this router never had them. */
  remembered(version: number): Keys | null {
    return this.#all.get(version) ?? null;
  }
}

/** What a configured security policy asks for, with its keys. */
export interface Security {
  readonly name: string;
  readonly sign: "every-packet" | "metadata" | "none";
  /** Digests depend on the time (protocol sheet 5.3). */
  readonly timeBased: boolean;
  /** Of payloads: leave what the hosts encrypt themselves in clear (protocol sheet 5.6). */
  readonly adaptive: boolean;
  /** Of payloads: each session has a key of its own for this cipher (attribute 46); null = they have the policy's. */
  readonly sessionKeys: CipherAlgorithm | null;
  readonly ring: KeyRing;
}

/** Whether metadata toward and from a peer with this policy is encrypted: only then may it have a key in it. */
export function encryptsMetadata(security: Security | null): boolean {
  return security !== null && security.ring.current.cipher !== null;
}
