// The way to a peer behind a NAT that nothing of a session has opened (protocol sheet 6.7): a packet goes inside a
// datagram on the tuple of BFD, which the peer keeps open, and is taken out there and treated as if it had come by itself.
// Which packets: Sessions.isTunnelled. Of UDP only those with metadata: the peer answers by itself, which opens the session's
// own way through the NAT, and nothing is added to any later packet. Of TCP all, both ways: no NAT lets an answer to a SYN
// pass that it has not seen.
//
//   | Ethernet | IPv4 | UDP, BFD's ports | base header, attribute 0x8007 | TCP or UDP | metadata ... digest |
//                       `------------- put in front, 25 bytes ---------'  `----- as it would have left ---'
//
// The datagram has no digest: what is inside has its own, and headers are never covered. Checksums inside are those of a packet
// without addresses, because NAT changes the ones outside.

import { getI32, getU16, setU16, setU32 } from "../base/bytes.ts";
import { FrameBatch } from "../io/port.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import { BFD_PORT_PEER } from "../wire/bfd.ts";
import { addDelta, applyDelta, applyDeltaUdp, deltaI32, l4ChecksumOffset, l4IsRight } from "../wire/checksum.ts";
import {
  ANY_MAC,
  AT_END,
  AT_L3,
  AT_L4,
  AT_PAYLOAD,
  decodeFrame,
  KEY_PORTS,
  KEY_PROTOCOL,
  KEY_ROW_WORDS,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
} from "../wire/flow-key.ts";
import { IPV4_CHECKSUM, IPV4_DESTINATION, IPV4_SOURCE } from "../wire/ipv4.ts";
import { MetadataWriter, ParsedMetadata, parseMetadata } from "../wire/metadata.ts";
import { ATTRIBUTE_TUNNELLED_PROTOCOL } from "../wire/metadata-attributes.ts";
import { getUdpLength, UDP_HEADER } from "../wire/udp.ts";
import { DROP_METADATA_UNEXPECTED, DROP_UDP_CHECKSUM, OK } from "../wire/verdict.ts";
import type { Egress } from "./egress.ts";
import { insertUdpHeader, removeUdpHeader } from "./splice.ts";

/** Base header, and an attribute of one byte. */
const MARK_BYTES = 17;
/** By how much a packet grows. */
export const TUNNEL_OVERHEAD = UDP_HEADER + MARK_BYTES;

export class Tunnel {
  readonly #egress: Egress;
  readonly #frame = new FrameBatch(new Uint8Array(0), 1);
  readonly #key = new Int32Array(KEY_ROW_WORDS);
  readonly #marks = new Map([PROTOCOL_TCP, PROTOCOL_UDP].map((protocol) => [protocol, markOf(protocol)]));
  readonly #parsed = new ParsedMetadata();

  constructor(egress: Egress) {
    this.#egress = egress;
  }

  /**
   * Send a finished packet of a session, with these flags, to the peer of `path`, at neighbor `hop`. Needs TUNNEL_OVERHEAD of
   * headroom.
   */
  send(
    path: PeerPath,
    hop: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
    flags: number,
    nowMs: number,
  ): void {
    const frame = this.#frame;
    const key = this.#key;
    frame.bytes = bytes;
    frame.offset[0] = offset;
    frame.length[0] = length;
    decodeFrame(frame.view, offset, length, path.interfaceId, ANY_MAC, 0, key, 0, true);
    changeChecksum(bytes, key, -1);
    // A session may have been told where the peer was before.
    const header = key[AT_L3];
    const delta = deltaI32(getI32(bytes, header + IPV4_DESTINATION), path.remote);
    setU32(bytes, header + IPV4_DESTINATION, path.remote);
    setU16(bytes, header + IPV4_CHECKSUM, applyDelta(getU16(bytes, header + IPV4_CHECKSUM), delta));
    const ports = (BFD_PORT_PEER << 16) | path.remotePort;
    insertUdpHeader(frame, 0, key, ports, this.#marks.get(key[KEY_PROTOCOL] & 0xff)!);
    this.#egress.send(path.interfaceId, hop, bytes, frame.offset[0], frame.length[0], flags, 0, nowMs);
  }

  /** Take the packet out of a datagram of a peer. OK with frame and key those of the packet, or why it is dropped. */
  open(batch: FrameBatch, i: number, key: Int32Array): number {
    const { bytes } = batch;
    const interfaceId = key[KEY_PROTOCOL] >>> 8;
    if (!l4IsRight(bytes, key[AT_L3], key[AT_L4], key[AT_END])) return DROP_UDP_CHECKSUM;
    const parsed = this.#parsed;
    const end = key[AT_L4] + getUdpLength(bytes, key[AT_L4]);
    const verdict = parseMetadata(bytes, key[AT_PAYLOAD], end, parsed);
    if (verdict !== OK) return verdict;
    const protocol = parsed.has(ATTRIBUTE_TUNNELLED_PROTOCOL)
      ? bytes[parsed.offsetOf(ATTRIBUTE_TUNNELLED_PROTOCOL)]
      : 0;
    if (!this.#marks.has(protocol)) return DROP_METADATA_UNEXPECTED;
    removeUdpHeader(batch, i, key, protocol, parsed.totalLength);
    const decoded = decodeFrame(batch.view, batch.offset[i], batch.length[i], interfaceId, ANY_MAC, 0, key, 0, true);
    if (decoded !== OK) return decoded;
    // A session's packet, and not another one of these.
    if ((key[KEY_PORTS] & 0xffff) === BFD_PORT_PEER) return DROP_METADATA_UNEXPECTED;
    changeChecksum(bytes, key, 1);
    return OK;
  }
}

function markOf(protocol: number): Uint8Array {
  const writer = new MetadataWriter(new Uint8Array(MARK_BYTES));
  writer.begin();
  writer.u8(ATTRIBUTE_TUNNELLED_PROTOCOL, protocol);
  writer.end();
  return writer.buffer;
}

/** The checksum of a packet's TCP or UDP header: without its addresses (-1), or with them again (1). A wrong one stays wrong. */
function changeChecksum(bytes: Uint8Array, key: Int32Array, way: 1 | -1): void {
  const source = getI32(bytes, key[AT_L3] + IPV4_SOURCE);
  const destination = getI32(bytes, key[AT_L3] + IPV4_DESTINATION);
  const delta =
    way === 1
      ? addDelta(deltaI32(0, source), deltaI32(0, destination))
      : addDelta(deltaI32(source, 0), deltaI32(destination, 0));
  const protocol = bytes[key[AT_L3] + 9];
  const at = key[AT_L4] + l4ChecksumOffset(protocol);
  const update = protocol === PROTOCOL_UDP ? applyDeltaUdp : applyDelta;
  setU16(bytes, at, update(getU16(bytes, at), delta));
}
