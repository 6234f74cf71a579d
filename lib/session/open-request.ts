// What a session is opened from: leads.ts fills it, open.ts reads it.

import { KEY_STRIDE } from "../crypto/packet-crypto.ts";
import { DSCP_FREE, PAYLOAD_CLEAR } from "../table/session-table.ts";
import type { ServiceRoute } from "./service-route.ts";

/** What a session is opened from; the owner reuses one. */
export class OpenRequest {
  /** The forward flow's key as it arrives here. */
  readonly key = new Int32Array(4);
  /** The original 5-tuple: source, destination, ports, protocol. */
  readonly context = new Int32Array(4);
  readonly uuid = new Int32Array(4);
  interfaceId = 0;
  /** Row of the peer path it arrived by, -1 from a plain network. */
  upstreamPath = -1;
  /** Of a session that a peer gives back: row of the peer path toward the server, and the ports as we send them; -1 = ours to choose. */
  downstreamPath = -1;
  downstreamPorts = 0;
  /** The IP protocol that it has there. */
  downstreamProtocol = 0;
  /** The session that has this waypoint tuple now and goes when this one can be opened, -1 = none. */
  replaces = -1;
  tenant = -1;
  service = -1;
  route: ServiceRoute | null = null;
  /** Row in the name table of the router where the session entered the fabric. */
  sourceRouter = 0;
  /** Row of the routers that it has passed on its way here (passed-routers.ts). */
  passed = 0;
  /** DSCP_*, of its forward packets; anything but DSCP_FREE = of both directions. */
  dscp = DSCP_FREE;
  // How its payload travels: the columns of the same names.
  payload = PAYLOAD_CLEAR;
  payloadPolicy = 0;
  payloadKeyVersion = 0;
  hasEncryptedFrom = false;
  encryptedFrom = 0;
  // Of the session's first router: attribute 25, 0 = nothing; and its port, 0 = the source's own.
  natAddress = 0;
  natPort = 0;
  /** A payload key of its own, and how many bytes it has; 0 = it has none. */
  readonly payloadKey = new Uint8Array(KEY_STRIDE);
  payloadKeyLength = 0;
  /** Of an inward session (inward.ts): the mapping that its destination is behind, -1 = this router has none; */
  hairpin = -1;
  /** and the identifier of the session that it goes along, null = it is none. */
  along: Int32Array | null = null;

  /** A session that begins anew, and not by a peer's word. */
  reset(): void {
    this.upstreamPath = -1;
    this.downstreamPath = -1;
    this.replaces = -1;
    this.sourceRouter = 0;
    this.passed = 0;
    this.natAddress = 0;
    this.hairpin = -1;
    this.along = null;
  }
}
