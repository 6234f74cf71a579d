// Addresses, prefixes and sockets between text and int32: IPv4's own, and the names of IPv6 addresses
// (table/address-book.ts). Only people's text passes through here (configuration, command lines, printing); nothing on a
// packet's way does. Parsing is strict: four decimal parts, no leading zeros; IPv6 as RFC 4291 has it, and is printed as
// RFC 5952 has it.

import ipaddr from "ipaddr.js";
import { addressBook, isLinkLocal, isName, sharesPrefix } from "../table/address-book.ts";

/** A block of addresses. */
export interface Prefix {
  /** int32, host bits zero. */
  readonly address: number;
  /** 0..32, of IPv6 0..128. */
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

/** `10.1.0.2`, `2001:db8::2`. */
export function formatAddress(address: number): string {
  if (isName(address)) return new ipaddr.IPv6(partsOf(wordsOf(address))).toRFC5952String();
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

/** `10.1.0.2:40000`, `[2001:db8::2]:40000`. */
export function formatSocket(address: number, port: number): string {
  if (isName(address)) return `[${formatAddress(address)}]:${port}`;
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
    // RFC 1122, 3.2.1.3; here, the names of IPv6 addresses are out of it.
    if (a === 127) throw new TextError(`${quote(text)} never leaves a host`, "write an address outside 127.0.0.0/8");
    return (a << 24) | (b << 16) | (c << 8) | d;
  }
  // A zone is this host's own business.
  if (ipaddr.IPv6.isValid(text) && !text.includes("%")) return nameOf(wordsOfParts(ipaddr.IPv6.parse(text).parts));
  throw new TextError(`${quote(text)} is not an IP address`, "write an address such as 198.18.0.2 or 2001:db8::2");
}

/** An address that one host can have. Throws TextError for loopback, multicast, broadcast and zero too. */
export function parseHostAddress(text: string): number {
  const address = parseAddress(text);
  refuseUnlessHost(address, text);
  return address;
}

/** `10.1.0.0/24`, or a lone address as a /32 or /128. Throws TextError, also where host bits are set. */
export function parsePrefix(text: string): Prefix {
  const { address, length } = parseSlash(text, "whole");
  const base = prefixBase(address, length);
  if (base !== address) {
    throw new TextError(`${quote(text)} has host bits set`, `write ${formatPrefix({ address: base, length })}`);
  }
  return { address, length };
}

/** `10.1.0.1/24`: a host's address and its prefix length. Throws TextError. */
export function parseInterfaceAddress(text: string): InterfaceAddress {
  const { address, length } = parseSlash(text, "none");
  if (length < 0)
    throw new TextError(`${quote(text)} has no prefix length`, `write ${text}/24, or the length your network has`);
  if (length === 0)
    throw new TextError(
      `${quote(text)} puts every address on-link`,
      "write the network's prefix length, such as 24 or 64",
    );
  refuseUnlessHost(address, text);
  if (isName(address)) {
    // RFC 4291 2.6.1; RFC 6164 for 127.
    if (length < 127 && prefixBase(address, length) === address)
      throw new TextError(
        `${quote(text)} is every router's address in its prefix`,
        "write the address of a host in it",
      );
    return { address, length };
  }
  const hostBits = address & ~prefixMask(length);
  if (length < 31 && (hostBits === 0 || hostBits === ~prefixMask(length))) {
    const what = hostBits === 0 ? "network" : "broadcast";
    throw new TextError(`${quote(text)} is the ${what} address of its prefix`, "write the address of a host in it");
  }
  return { address, length };
}

/** `10.2.0.5`, `10.2.0.5:8080`, `2001:db8::5` or `[2001:db8::5]:8080`; port 0 where none is given. Throws TextError. */
export function parseSocket(text: string): { address: number; port: number } {
  const bracketed = /^\[([^\]]*)\](?::(.*))?$/.exec(text);
  if (bracketed !== null) {
    const [, inside, portText] = bracketed;
    return { address: parseHostAddress(inside), port: portText === undefined ? 0 : parsePort(portText) };
  }
  const colon = text.indexOf(":");
  // A second colon is an IPv6 address.
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

/** The first address of the prefix of `length` around `address`. */
export function prefixBase(address: number, length: number): number {
  if (!isName(address)) return address & prefixMask(length);
  return nameOf(wordsOf(address).map((word, n) => word & prefixMask(Math.min(Math.max(length - 32 * n, 0), 32))));
}

/** The int32 whose first `length` bits are set. */
export function prefixMask(length: number): number {
  return length === 0 ? 0 : -1 << (32 - length);
}

/** Whether `address` lies in the prefix around `prefix.address`, whose host bits may be set. */
export function prefixHolds(prefix: InterfaceAddress, address: number): boolean {
  return sharesPrefix(prefix.address, address, prefix.length);
}

/** Whether two prefixes share an address. */
export function prefixesOverlap(a: InterfaceAddress, b: InterfaceAddress): boolean {
  return sharesPrefix(a.address, b.address, Math.min(a.length, b.length));
}

/** Whether `address` is on the link of an interface with these addresses of its own: every IPv6 link has link-local ones. */
export function isOnLinkOf(own: readonly InterfaceAddress[], address: number): boolean {
  return own.some((at) => prefixHolds(at, address) || (isName(at.address) && isLinkLocal(address)));
}

function nameOf(words: readonly number[]): number {
  return addressBook.keep(words[0], words[1], words[2], words[3]);
}

function wordsOf(name: number): number[] {
  return [0, 1, 2, 3].map((n) => addressBook.word(name, n));
}

function wordsOfParts(parts: readonly number[]): number[] {
  return [0, 2, 4, 6].map((n) => (parts[n] << 16) | parts[n + 1]);
}

function partsOf(words: readonly number[]): number[] {
  return words.flatMap((word) => [word >>> 16, word & 0xffff]);
}

function parseSlash(text: string, without: "whole" | "none"): { address: number; length: number } {
  const slash = text.indexOf("/");
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash));
  const longest = isName(address) ? 128 : 32;
  if (slash < 0) return { address, length: without === "whole" ? longest : -1 };
  const lengthText = text.slice(slash + 1);
  const length = /^\d{1,3}$/.test(lengthText) ? Number(lengthText) : -1;
  if (length < 0 || length > longest) {
    const [family, example] = longest === 32 ? ["IPv4", "10.1.0.0/24"] : ["IPv6", "2001:db8:1::/48"];
    throw new TextError(
      `${quote(text)} has no ${family} prefix length behind the slash`,
      `write a length of 0 to ${longest}, such as ${example}`,
    );
  }
  return { address, length };
}

// RFC 1812 5.3.7, RFC 4291 2.5 to 2.7: what is dropped as ip-address can be no host's address either.
function refuseUnlessHost(address: number, text: string): void {
  if (isName(address)) {
    const range = new ipaddr.IPv6(partsOf(wordsOf(address))).range();
    if (["unspecified", "loopback", "multicast", "ipv4Mapped"].includes(range) || wordsOf(address)[0] === 0)
      throw new TextError(`${quote(text)} is not the address of one host on a network`, "write a unicast address");
    return;
  }
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
