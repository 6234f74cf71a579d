// HOT
// Segments of a TCP stream that follow one another, put together to one super-frame: the reverse of wire/offload.ts, for
// ports that take super-frames. A receiver's kernel does the same (GRO), but only once each of them has been sent, and
// what it costs to send does not depend on length.

import type { FrameBatch } from "../io/port.ts";
import { fold, pseudoHeaderSum } from "../wire/checksum.ts";
import { AT_END, AT_L3, AT_L4, AT_PAYLOAD } from "../wire/flow-key.ts";
import { ACK, getTcpAcknowledgment, getTcpFlags, getTcpSequence, PSH, TCP_CHECKSUM, TCP_FLAGS } from "../wire/tcp.ts";
import { setTotalLength } from "./splice.ts";

const IPV4_LENGTH_MAX = 65535;
const TCP_WINDOW = 14;
const TCP_OPTIONS = 20;

/**
 * Append the payload of the segment decoded at keys[next] to the one at keys[head], which may have others in it already,
 * each of `size` bytes; both are of one flow and lie in `bytes`, the next behind the head. False, with nothing changed,
 * when a receiver could tell the difference: it does not follow, or the headers say something else.
 */
export function joinSegment(bytes: Uint8Array, keys: Int32Array, head: number, next: number, size: number): boolean {
  const length = keys[next + AT_END] - keys[next + AT_PAYLOAD];
  const joined = keys[head + AT_END] - keys[head + AT_PAYLOAD];
  const to = keys[head + AT_END];
  // One without payload acknowledges, perhaps once more than before, and must be seen to. A shorter one was the last.
  if (length === 0 || length > size || joined % size !== 0 || to + length - keys[head + AT_L3] > IPV4_LENGTH_MAX)
    return false;
  if (to > keys[next + AT_PAYLOAD]) return false;
  if (!isAlike(bytes, keys, head, next)) return false;
  const l4 = keys[head + AT_L4];
  const other = keys[next + AT_L4];
  if (getTcpFlags(bytes, l4) !== ACK || (getTcpFlags(bytes, other) & ~PSH) !== ACK) return false;
  if (((getTcpSequence(bytes, l4) + joined) | 0) !== getTcpSequence(bytes, other)) return false;
  bytes[l4 + TCP_FLAGS] |= bytes[other + TCP_FLAGS] & PSH;
  bytes.copyWithin(to, keys[next + AT_PAYLOAD], keys[next + AT_END]);
  keys[head + AT_END] = to + length;
  return true;
}

/** The lengths of a super-frame at keys[head], and a checksum field with what a kernel that cuts it wants there. */
export function endSuperFrame(batch: FrameBatch, keys: Int32Array, head: number): void {
  const { bytes, view } = batch;
  const l3 = keys[head + AT_L3];
  const l4 = keys[head + AT_L4];
  setTotalLength(bytes, l3, keys[head + AT_END] - l3);
  view.setUint16(l4 + TCP_CHECKSUM, fold(pseudoHeaderSum(bytes, l3, keys[head + AT_END] - l4)));
}

/** Everything that the headers of all segments of a super-frame have in common. */
function isAlike(bytes: Uint8Array, keys: Int32Array, head: number, next: number): boolean {
  const l3 = keys[head + AT_L3];
  const l4 = keys[head + AT_L4];
  const otherL3 = keys[next + AT_L3];
  const other = keys[next + AT_L4];
  const headers = keys[head + AT_PAYLOAD] - l4;
  if (l4 - l3 !== other - otherL3 || headers !== keys[next + AT_PAYLOAD] - other || l4 - l3 !== 20) return false;
  // Type of service; flags and fragment offset; TTL.
  if (bytes[l3 + 1] !== bytes[otherL3 + 1] || bytes[l3 + 8] !== bytes[otherL3 + 8]) return false;
  if (bytes[l3 + 6] !== bytes[otherL3 + 6] || bytes[l3 + 7] !== bytes[otherL3 + 7]) return false;
  if (getTcpAcknowledgment(bytes, l4) !== getTcpAcknowledgment(bytes, other)) return false;
  if (bytes[l4 + TCP_WINDOW] !== bytes[other + TCP_WINDOW]) return false;
  if (bytes[l4 + TCP_WINDOW + 1] !== bytes[other + TCP_WINDOW + 1]) return false;
  for (let at = TCP_OPTIONS; at < headers; at++) if (bytes[l4 + at] !== bytes[other + at]) return false;
  return true;
}
