// A packet as a person writes it for `waymark explain`: "tcp 10.1.0.2:40000 > 10.2.0.2:443".

import { viewOf } from "../base/bytes.ts";
import { isName } from "../table/address-book.ts";
import {
  ANY_MAC,
  AT_L4,
  decodeFrame,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_PROTOCOL,
  KEY_ROW_WORDS,
  KEY_SOURCE,
} from "../wire/flow-key.ts";
import { ICMP_ECHO } from "../wire/icmp.ts";
import { TCP_FLAGS as TCP_FLAGS_AT } from "../wire/tcp.ts";
import { OK } from "../wire/verdict.ts";
import { formatAddress, formatSocket, parseHostAddress, parsePort, TextError } from "./address-text.ts";
import { nearest } from "./nearest.ts";

/** The packet to explain. An ICMP packet is an echo request; its ports are 0. */
export interface PacketDescription {
  /** IP protocol: 1, 6 or 17. */
  readonly protocol: number;
  readonly source: number;
  readonly destination: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** The TCP flags byte; 0 for other protocols. */
  readonly tcpFlags: number;
}

const PROTOCOLS: Record<string, number> = { icmp: 1, tcp: 6, udp: 17 };
const TCP_FLAGS: Record<string, number> = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16, urg: 32 };
const SYN = TCP_FLAGS.syn;

/** Read `tcp|udp ADDRESS:PORT > ADDRESS:PORT` or `icmp ADDRESS > ADDRESS`; TCP flags may follow, without them a SYN is meant. Throws TextError. */
export function parsePacket(text: string): PacketDescription {
  const words = text
    .replaceAll(">", " > ")
    .split(/[\s,]+/)
    .filter((word) => word !== "");
  const [kind = "", source = "", arrow = "", destination = "", ...flags] = words.map((word) => word.toLowerCase());
  const protocol = Object.hasOwn(PROTOCOLS, kind) ? PROTOCOLS[kind] : 0;
  if (protocol === 0)
    throw new TextError(`${JSON.stringify(kind)} is not tcp, udp or icmp`, `begin with one of them: ${EXAMPLE}`);
  if (arrow !== ">" || destination === "")
    throw new TextError("a packet goes from one address > to another", `write ${EXAMPLE}`);
  if (kind !== "tcp" && flags.length > 0) throw new TextError(`${kind} has no flags`, `remove ${flags.join(" ")}`);
  const from = parseEnd(source, kind);
  const to = parseEnd(destination, kind);
  if (isName(from.address) !== isName(to.address))
    throw new TextError("a packet goes from one family to the same", "write two IPv4 or two IPv6 addresses");
  return {
    protocol,
    source: from.address,
    destination: to.address,
    sourcePort: from.port,
    destinationPort: to.port,
    tcpFlags: kind === "tcp" ? parseFlags(flags) : 0,
  };
}

/** The text for parsePacket of a frame; null when it is none that can be written so. */
export function describeFrame(frame: Uint8Array): string | null {
  const row = new Int32Array(KEY_ROW_WORDS);
  if (decodeFrame(viewOf(frame), 0, frame.length, 0, ANY_MAC, 0, row, 0, true) !== OK) return null;
  const protocol = row[KEY_PROTOCOL] & 0xff;
  const kind = Object.keys(PROTOCOLS).find((name) => PROTOCOLS[name] === protocol);
  if (kind === undefined) return null;
  const [from, to] = [formatAddress(row[KEY_SOURCE]), formatAddress(row[KEY_DESTINATION])];
  if (kind === "icmp") return frame[row[AT_L4]] === ICMP_ECHO ? `icmp ${from} > ${to}` : null;
  const ports = row[KEY_PORTS];
  const ends = `${kind} ${formatSocket(row[KEY_SOURCE], ports >>> 16)} > ${formatSocket(row[KEY_DESTINATION], ports & 0xffff)}`;
  if (kind !== "tcp") return ends;
  const flags = Object.keys(TCP_FLAGS).filter((name) => (frame[row[AT_L4] + TCP_FLAGS_AT] & TCP_FLAGS[name]) !== 0);
  return flags.length === 0 ? null : `${ends} ${flags.join(",")}`;
}

const EXAMPLE = "'tcp 10.1.0.2:40000 > 10.2.0.2:443'";

function parseEnd(text: string, kind: string): { address: number; port: number } {
  // Of IPv6, [ADDRESS]:PORT.
  const colon = text.startsWith("[") ? text.indexOf("]:") + 1 : text.indexOf(":");
  const hasPort = colon > 0 && (text.startsWith("[") || colon === text.lastIndexOf(":"));
  if (kind === "icmp") {
    if (hasPort) throw new TextError("icmp has no ports", `write ${text.slice(0, colon)}`);
    return { address: parseHostAddress(text), port: 0 };
  }
  if (hasPort) {
    const address = text.startsWith("[") ? text.slice(1, colon - 1) : text.slice(0, colon);
    return { address: parseHostAddress(address), port: parsePort(text.slice(colon + 1)) };
  }
  // A bad address is the greater mistake.
  const sample = formatSocket(parseHostAddress(text.replace(/^\[(.*)\]$/, "$1")), 0).slice(0, -1);
  throw new TextError(`${text} has no port`, `write ${sample}PORT`);
}

function parseFlags(words: readonly string[]): number {
  let flags = 0;
  for (const word of words) {
    if (!Object.hasOwn(TCP_FLAGS, word)) {
      const near = nearest(word, Object.keys(TCP_FLAGS));
      throw new TextError(
        `${JSON.stringify(word)} is not a TCP flag`,
        near === null ? `write ${Object.keys(TCP_FLAGS).join(", ")}` : `did you mean ${near}?`,
      );
    }
    flags |= TCP_FLAGS[word];
  }
  return flags === 0 ? SYN : flags;
}
