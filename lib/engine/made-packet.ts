// A packet of our own for a peer, just made by the generator: signed as the path says, and sent.

import { FrameBatch } from "../io/port.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import { ANY_MAC, decodeFrame, KEY_ROW_WORDS } from "../wire/flow-key.ts";
import type { Egress } from "./egress.ts";
import type { Generator } from "./generate.ts";
import type { PacketSecurity } from "./packet-security.ts";
import type { Tunnel } from "./tunnel.ts";

export class MadePacket {
  readonly #generator: Generator;
  readonly #security: PacketSecurity;
  readonly #egress: Egress;
  readonly #made = new FrameBatch(new Uint8Array(0), 1);
  readonly #key = new Int32Array(KEY_ROW_WORDS);

  constructor(parts: { generator: Generator; security: PacketSecurity; egress: Egress }) {
    this.#generator = parts.generator;
    this.#security = parts.security;
    this.#egress = parts.egress;
  }

  /** Sign what the generator made last for the peer of `path`, and send it to neighbor `hop`, in `tunnel` where there is one. */
  send(path: PeerPath, interfaceId: number, hop: number, nowMs: number, tunnel: Tunnel | null = null): void {
    const { bytes, offset, length } = this.#generator;
    const made = this.#made;
    made.bytes = bytes;
    made.offset[0] = offset;
    made.length[0] = length;
    decodeFrame(made.view, offset, length, interfaceId, ANY_MAC, 0, this.#key, 0, true);
    this.#security.sign(made, 0, this.#key, path, true, nowMs);
    if (tunnel !== null) tunnel.send(path, hop, bytes, offset, made.length[0], 0, nowMs);
    else this.#egress.send(interfaceId, hop, bytes, offset, made.length[0], 0, 0, nowMs);
  }
}
