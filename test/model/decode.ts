// The decoder again, slow and obvious: each layer is cut out of the one around it and sees nothing else. Written from
// the RFCs (894, 791, 768, 792, 9293, 1812 5.3.7) and the list of drop reasons; shares no code with lib/wire.

export interface Decoded {
  /** A drop reason's name, or "ok", "arp", "icmp-error". */
  verdict: string;
  /** The rest only with "ok" and "icmp-error". Positions count from the frame's first byte. */
  source: number;
  destination: number;
  sourcePort: number;
  destinationPort: number;
  protocol: number;
  l3: number;
  l4: number;
  payload: number;
  end: number;
  hasCookie: boolean;
  isTcpEvent: boolean;
}

const COOKIE = Buffer.from("4c48dbc6ddf6670c", "hex");
const isGroup = (mac: Buffer) => mac[0] % 2 === 1;

/** A verdict alone. */
function only(verdict: string): Decoded {
  return {
    verdict,
    source: 0,
    destination: 0,
    sourcePort: 0,
    destinationPort: 0,
    protocol: 0,
    l3: 0,
    l4: 0,
    payload: 0,
    end: 0,
    hasCookie: false,
    isTcpEvent: false,
  };
}

/** `own` is the interface's MAC address, or null where every station's frames are taken. */
export function decodeSlowly(bytes: Uint8Array, own: Uint8Array | null): Decoded {
  const frame = Buffer.from(bytes);
  if (frame.length < 14) return only("runt");
  const [to, from, type] = [frame.subarray(0, 6), frame.subarray(6, 12), frame.readUInt16BE(12)];
  if (isGroup(from)) return only("source-mac");
  if (own !== null && from.equals(own)) return only("loop");
  if (type === 0x0806) return only("arp");
  if (isGroup(to) || (own !== null && !to.equals(own))) return only("not-ours");
  if (type === 0x86dd) return only("ipv6");
  if (type === 0x8100 || type === 0x88a8) return only("vlan");
  if (type !== 0x0800) return only("ethertype");
  return decodePacket(frame.subarray(14));
}

function decodePacket(room: Buffer): Decoded {
  if (room.length < 20) return only("runt");
  if (Math.floor(room[0] / 16) !== 4) return only("ip-version");
  const headerLength = (room[0] % 16) * 4;
  if (headerLength < 20 || headerLength > room.length) return only("ip-header-length");
  const totalLength = room.readUInt16BE(2);
  if (totalLength < headerLength || totalLength > room.length) return only("ip-total-length");
  const [flags, offset] = [Math.floor(room[6] / 32), room.readUInt16BE(6) % 8192];
  const isPiece = flags % 2 === 1 || offset !== 0;
  for (const first of [room[12], room[16]]) if (first === 0 || first === 127 || first >= 224) return only("ip-address");

  const packet = room.subarray(0, totalLength);
  const decoded = {
    ...only("ok"),
    source: packet.readInt32BE(12),
    destination: packet.readInt32BE(16),
    protocol: packet[9],
    l3: 14,
    l4: 14 + headerLength,
    payload: 14 + headerLength,
    end: 14 + totalLength,
  };
  if (isPiece) return { ...decoded, verdict: "fragment" };
  const data = packet.subarray(headerLength);
  switch (packet[9]) {
    case 6:
      return decodeTcp(decoded, data);
    case 17:
      return decodeUdp(decoded, data);
    case 1:
      return decodeIcmp(decoded, data);
    default:
      return { ...decoded, hasCookie: data.subarray(0, 8).equals(COOKIE) };
  }
}

function decodeTcp(decoded: Decoded, segment: Buffer): Decoded {
  if (segment.length < 20) return only("l4-header");
  const headerLength = Math.floor(segment[12] / 16) * 4;
  if (headerLength < 20 || headerLength > segment.length) return only("l4-header");
  return {
    ...decoded,
    sourcePort: segment.readUInt16BE(0),
    destinationPort: segment.readUInt16BE(2),
    payload: decoded.l4 + headerLength,
    hasCookie: segment.subarray(headerLength, headerLength + 8).equals(COOKIE),
    isTcpEvent: segment[13] % 8 !== 0,
  };
}

function decodeUdp(decoded: Decoded, data: Buffer): Decoded {
  if (data.length < 8) return only("l4-header");
  const length = data.readUInt16BE(4);
  if (length < 8 || length > data.length) return only("l4-header");
  return {
    ...decoded,
    sourcePort: data.readUInt16BE(0),
    destinationPort: data.readUInt16BE(2),
    payload: decoded.l4 + 8,
    hasCookie: data.subarray(8, length).subarray(0, 8).equals(COOKIE),
  };
}

function decodeIcmp(decoded: Decoded, message: Buffer): Decoded {
  if (message.length < 8) return only("l4-header");
  const hasCookie = message.subarray(0, 8).equals(COOKIE);
  if ([3, 4, 5, 11, 12].includes(message[0])) return { ...decoded, verdict: "icmp-error", hasCookie };
  if (message[0] !== 0 && message[0] !== 8) return only("icmp-type");
  const identifier = message.readUInt16BE(4);
  return { ...decoded, sourcePort: identifier, destinationPort: identifier, hasCookie };
}
