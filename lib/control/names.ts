// How answers and events name sessions and paths.

import type { PeerPath } from "../peer/peer-path.ts";
import type { RouterInterface } from "../peer/router-interface.ts";
import { formatAddress } from "./address-text.ts";

/** A path by our interface and the peer's address. */
export function pathText(interfaces: readonly RouterInterface[], path: PeerPath): string {
  return `${interfaces[path.interfaceId].name} ${peerAddressText(path)}`;
}

/** The peer's address, or that nobody knows it yet. */
export function peerAddressText(path: PeerPath): string {
  return path.remote === 0 ? "dynamic" : formatAddress(path.remote);
}

/** An identifier's four words in RFC 9562's form. */
export function uuidText(words: Int32Array): string {
  const hex = Array.from(words, (word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
