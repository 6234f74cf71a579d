// The metadata of packets from peers: parsed, verified and decrypted, whole again where it came in fabric fragments; and what
// it speaks of. Nothing of a session changes here.

import { FrameBatch } from "../io/port.ts";
import { type Sessions, swapPorts } from "../session/open.ts";
import { hasContext, readContext, readUuid } from "../session/session-metadata.ts";
import type { CounterSet } from "../table/counter-set.ts";
import { FORWARD, REVERSE } from "../table/session-table.ts";
import { l4IsRight } from "../wire/checksum.ts";
import { AT_END, AT_L3, AT_L4, AT_PAYLOAD, KEY_PROTOCOL } from "../wire/flow-key.ts";
import { isFalsePositiveMarker, ParsedMetadata, parseMetadata } from "../wire/metadata.ts";
import { ATTRIBUTE_FRAGMENT, ATTRIBUTE_UUID } from "../wire/metadata-attributes.ts";
import {
  CONSUMED,
  DROP_FRAGMENT_MALFORMED,
  DROP_FRAGMENT_TABLE_FULL,
  DROP_METADATA_CHECKSUM,
  OK,
} from "../wire/verdict.ts";
import { dropCounter, FABRIC_REASSEMBLED } from "./counters.ts";
import type { Egress } from "./egress.ts";
import type { FabricFragments } from "./fabric-fragments.ts";
import { finishChecksum } from "./fast-path.ts";
import type { PacketSecurity } from "./packet-security.ts";
import { payloadEnd } from "./splice.ts";

export class MetadataReader {
  /** What was read last; the values are in PacketSecurity.told. */
  readonly parsed = new ParsedMetadata();
  /** Of the identifier or context that was asked about last. */
  readonly words = new Int32Array(4);
  readonly #sessions: Sessions;
  readonly #egress: Egress;
  readonly #counters: CounterSet;
  readonly #security: PacketSecurity;
  /** By row of the path. */
  readonly #fragments: readonly FabricFragments[];
  /** A packet that was put together. */
  readonly #piece = new FrameBatch(new Uint8Array(0), 1);
  readonly #take: (piece: FrameBatch, interfaceId: number, nowMs: number) => void;

  /** `take` goes on with a packet that was put together, the one frame of its batch. */
  constructor(parts: {
    sessions: Sessions;
    egress: Egress;
    counters: CounterSet;
    security: PacketSecurity;
    fragments: readonly FabricFragments[];
    take: (piece: FrameBatch, interfaceId: number, nowMs: number) => void;
  }) {
    this.#sessions = parts.sessions;
    this.#egress = parts.egress;
    this.#counters = parts.counters;
    this.#security = parts.security;
    this.#fragments = parts.fragments;
    this.#take = parts.take;
  }

  /**
   * Parse the metadata of a packet into `parsed`. A fabric fragment goes to its chain; the packet it completes is taken
   * from the start again. A wrong checksum means that nothing in it is believed; one that the peer's hardware was to finish
   * is finished here, and so is a right one that looks like that (isChecksumPartial): over IPv6 it is not right any more.
   */
  read(batch: FrameBatch, i: number, key: Int32Array, path: number, nowMs: number): number {
    const { parsed } = this;
    const verdict = parseMetadata(batch.bytes, key[AT_PAYLOAD], payloadEnd(batch.bytes, key), parsed, true);
    if (verdict !== OK) return verdict;
    finishChecksum(batch, i, key);
    if (parsed.has(ATTRIBUTE_FRAGMENT)) {
      // A router never cuts a fragment again: a packet put together is no piece of another.
      if (batch === this.#piece) return DROP_FRAGMENT_MALFORMED;
      const fragments = this.#fragments[path];
      const added = fragments.add(batch, i, key, parsed, this.#piece, nowMs);
      this.#counters.add(dropCounter(DROP_FRAGMENT_TABLE_FULL), fragments.table.displaced);
      if (added !== OK) return added;
      this.#counters.increment(FABRIC_REASSEMBLED);
      return this.#reassembled(key[KEY_PROTOCOL] >>> 8, nowMs);
    }
    if (!l4IsRight(batch.bytes, key[AT_L3], key[AT_L4], key[AT_END])) return DROP_METADATA_CHECKSUM;
    const peer = this.#sessions.paths[path];
    // The marker is nothing a router says: what is behind it is a host's.
    const verified = this.#security.verify(batch, i, key, peer, !isFalsePositiveMarker(parsed), nowMs);
    return verified !== OK ? verified : this.#security.readMetadata(batch.bytes, key, peer, parsed, nowMs);
  }

  /** Take the reassembled packet in #piece through the slow path and count what becomes of it. The fragment that completed it is CONSUMED, always. */
  #reassembled(interfaceId: number, nowMs: number): number {
    this.#take(this.#piece, interfaceId, nowMs);
    // What was queued lies in the chain's memory, which the next fragment may use.
    this.#egress.flush();
    return CONSUMED;
  }

  /** The session whose identifier the parsed metadata has; -1 = none. */
  sessionTold(): number {
    if (!this.parsed.has(ATTRIBUTE_UUID)) return -1;
    readUuid(this.#security.told, this.parsed, this.words);
    return this.#sessions.withUuid(this.words);
  }

  /** Whether the parsed metadata's context, of packets in `direction`, is the session's. */
  hasContext(session: number, direction: number): boolean {
    if (direction === REVERSE) return this.#isMirror(session);
    const { context } = this.#sessions.table;
    if (!readContext(this.#security.told, this.parsed, FORWARD, this.words)) return false;
    return this.words.every((word, k) => word === context[session * 4 + k]);
  }

  /** Whether the identifier and the reverse context of the parsed metadata, as far as it has them, are this session's. */
  speaksOf(session: number): boolean {
    const { parsed } = this;
    if (parsed.has(ATTRIBUTE_UUID)) {
      readUuid(this.#security.told, parsed, this.words);
      if (!this.#sessions.table.hasUuid(session, this.words)) return false;
    }
    return !hasContext(parsed, REVERSE) || this.#isMirror(session);
  }

  /** Whether the parsed reverse context is the session's own with its ends swapped. */
  #isMirror(session: number): boolean {
    const { context } = this.#sessions.table;
    const at = session * 4;
    const said = this.words;
    if (!readContext(this.#security.told, this.parsed, REVERSE, said)) return false;
    return (
      said[0] === context[at + 1] &&
      said[1] === context[at] &&
      said[2] === swapPorts(context[at + 2]) &&
      said[3] === context[at + 3]
    );
  }
}
