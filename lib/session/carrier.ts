// As what IP protocol a session travels between routers (protocol sheet 2.2).

import type { PeerPath } from "../peer/peer-path.ts";
import { PROTOCOL_TCP, PROTOCOL_UDP } from "../wire/flow-key.ts";

/** What carries a session of this protocol that we begin over `path`. */
export function carrierOver(path: PeerPath, protocol: number): number {
  return path.transformsTcp ? PROTOCOL_UDP : wireProtocol(protocol);
}

/** Whether a session of this protocol may come from a peer as `wire`: the peer decides whether its TCP goes as UDP. */
export function mayTravelAs(wire: number, protocol: number): boolean {
  return wire === PROTOCOL_UDP || wire === wireProtocol(protocol);
}

/** What carries a session of this protocol between routers by itself: TCP as TCP, everything else as UDP (protocol sheet 2.2). */
export function wireProtocol(protocol: number): number {
  return protocol === PROTOCOL_TCP ? PROTOCOL_TCP : PROTOCOL_UDP;
}
