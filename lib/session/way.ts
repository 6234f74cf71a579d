// Where a session's packets go next, both ways, and what they look like there. find-way.ts finds it, source-nat.ts translates
// it, open.ts builds flows of it.

import type { PeerPath } from "../peer/peer-path.ts";
import type { NatPool } from "./source-nat.ts";

export class Way {
  upstream: PeerPath | null = null;
  downstream: PeerPath | null = null;
  /** Row of the service path. */
  servicePath = -1;
  egress = 0;
  forwardHop = -1;
  reverseHop = -1;
  // The 5-tuple on the downstream side, in the forward direction. Toward a peer the ports are only known once allocated.
  source = 0;
  destination = 0;
  ports = 0;
  protocol = 0;
  // Whose addresses the source is translated to, and the mapping that it has there. -1 = none yet.
  pool: NatPool | null = null;
  mapping = -1;
  /** The mapping that the destination is behind, as the source is: hairpinning. -1 = none. */
  hairpin = -1;

  /** Nothing is known but what the session is. */
  begin(context: Int32Array, upstream: PeerPath | null, hairpin: number): void {
    this.upstream = upstream;
    this.downstream = null;
    this.source = context[0];
    this.destination = context[1];
    this.ports = context[2];
    this.protocol = context[3];
    this.pool = null;
    this.mapping = -1;
    this.hairpin = hairpin;
  }
}
