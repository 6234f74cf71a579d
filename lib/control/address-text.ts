// IPv4 addresses, prefixes and sockets between text and int32. Only people's text passes through here (configuration,
// command lines, printing); nothing on a packet's way does. Parsing is strict: four decimal parts, no leading zeros.

import ipaddr from "ipaddr.js";

/** A block of addresses. */
export interface Prefix {
  /** int32, host bits zero. */
  readonly address: number;
  /** 0..32. */
  readonly length: number;
}

/** An address of our own with the length of the prefix it lives in. */
export interface InterfaceAddress {
  /** int32, host bits kept. */
  readonly address: number;
  readonly length: number;
}

/** Text from a person that cannot be read: what is wrong, and what to write instead. */
export class TextError extends Error {
  override name = "TextError";
  readonly mend: string;
  constructor(message: string, mend: string) {
    super(message);
    this.mend = mend;
  }
}

/** `10.1.0.2`. */
export function formatAddress(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

/** `10.1.0.2:40000`. */
export function formatSocket(address: number, port: number): string {
  return `${formatAddress(address)}:${port}`;
}

/** `10.1.0.0/24`. */
export function formatPrefix(prefix: Prefix): string {
  return `${formatAddress(prefix.address)}/${prefix.length}`;
}

/** The address that `text` names. Throws TextError. */
export function parseAddress(text: string): number {
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) {
    const [a, b, c, d] = ipaddr.IPv4.parse(text).octets;
    return (a << 24) | (b << 16) | (c << 8) | d;
  }
  if (ipaddr.IPv6.isValid(text.replace(/\/\d+$/, ""))) {
    throw new TextError(
      `${quote(text)} is an IPv6 address, which this version does not route`,
      "write an IPv4 address",
    );
  }
  throw new TextError(`${quote(text)} is not an IPv4 address`, "write four numbers of 0 to 255, such as 198.18.0.2");
}

/** An address that one host can have. Throws TextError for loopback, multicast, broadcast and zero too. */
export function parseHostAddress(text: string): number {
  const address = parseAddress(text);
  refuseUnlessHost(address, text);
  return address;
}

/** `10.1.0.0/24`, or a lone address as a /32. Throws TextError, also where host bits are set. */
export function parsePrefix(text: string): Prefix {
  const { address, length } = parseSlash(text, 32);
  const base = address & prefixMask(length);
  if (base !== address) {
    throw new TextError(`${quote(text)} has host bits set`, `write ${formatPrefix({ address: base, length })}`);
  }
  return { address, length };
}

/** `10.1.0.1/24`: a host's address and its prefix length. Throws TextError. */
export function parseInterfaceAddress(text: string): InterfaceAddress {
  const { address, length } = parseSlash(text, -1);
  if (length < 0)
    throw new TextError(`${quote(text)} has no prefix length`, `write ${text}/24, or the length your network has`);
  if (length === 0)
    throw new TextError(`${quote(text)} puts every address on-link`, "write the network's prefix length, 1 to 32");
  refuseUnlessHost(address, text);
  const hostBits = address & ~prefixMask(length);
  if (length < 31 && (hostBits === 0 || hostBits === ~prefixMask(length))) {
    const what = hostBits === 0 ? "network" : "broadcast";
    throw new TextError(`${quote(text)} is the ${what} address of its prefix`, "write the address of a host in it");
  }
  return { address, length };
}

/** `10.2.0.5` or `10.2.0.5:8080`; port 0 where none is given. Throws TextError. */
export function parseSocket(text: string): { address: number; port: number } {
  const colon = text.indexOf(":");
  // A second colon is an IPv6 address, and parseAddress says so.
  if (colon < 0 || text.includes(":", colon + 1)) return { address: parseHostAddress(text), port: 0 };
  const port = parsePort(text.slice(colon + 1));
  return { address: parseHostAddress(text.slice(0, colon)), port };
}

/** 1..65535. Throws TextError. */
export function parsePort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65535) throw new TextError(`${quote(text)} is not a port`, "write a number from 1 to 65535");
  return port;
}

/** `443` or `5000-5100`. Throws TextError. */
export function parsePortRange(text: string): { from: number; to: number } {
  const dash = text.indexOf("-");
  if (dash < 0) {
    const port = parsePort(text);
    return { from: port, to: port };
  }
  const from = parsePort(text.slice(0, dash));
  const to = parsePort(text.slice(dash + 1));
  if (from > to) throw new TextError(`the port range ${text} runs backwards`, `write ${to}-${from}`);
  return { from, to };
}

/** The int32 whose first `length` bits are set. */
export function prefixMask(length: number): number {
  return length === 0 ? 0 : -1 << (32 - length);
}

/** Whether `address` lies in the prefix around `prefix.address`, whose host bits may be set. */
export function prefixHolds(prefix: InterfaceAddress, address: number): boolean {
  return ((prefix.address ^ address) & prefixMask(prefix.length)) === 0;
}

/** Whether two prefixes share an address. */
export function prefixesOverlap(a: InterfaceAddress, b: InterfaceAddress): boolean {
  return ((a.address ^ b.address) & prefixMask(Math.min(a.length, b.length))) === 0;
}

function parseSlash(text: string, lengthIfNone: number): { address: number; length: number } {
  const slash = text.indexOf("/");
  if (slash < 0) return { address: parseAddress(text), length: lengthIfNone };
  const lengthText = text.slice(slash + 1);
  const length = /^\d{1,3}$/.test(lengthText) ? Number(lengthText) : -1;
  const address = parseAddress(text.slice(0, slash));
  if (length < 0 || length > 32) {
    throw new TextError(
      `${quote(text)} has no IPv4 prefix length behind the slash`,
      "write a length of 0 to 32, such as 10.1.0.0/24",
    );
  }
  return { address, length };
}

// RFC 1812 5.3.7: what the decoder drops as ip-address can be no host's address either.
function refuseUnlessHost(address: number, text: string): void {
  const firstByte = address >>> 24;
  if (firstByte === 0 || firstByte === 127 || firstByte >= 224) {
    throw new TextError(
      `${quote(text)} is not the address of one host on a network`,
      "write a unicast address outside 0.0.0.0/8 and 127.0.0.0/8",
    );
  }
}

function quote(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 57)}...` : text);
}
