// An interface of the router as the planes above see it: addresses, MAC, MTU. Made once at start by control/compile.ts.
// It is of one family: a device with both has two interfaces.

import { isLinkLocal, isName, sharesPrefix } from "../table/address-book.ts";

export interface RouterInterface {
  /** Row number; also the ingress interface in a flow key. */
  readonly id: number;
  readonly name: string;
  readonly device: string;
  readonly addresses: readonly { readonly address: number; readonly length: number }[];
  /** On-link, beside our own: what source NAT presents here. We answer ARP for them. */
  readonly natAddresses: readonly number[];
  /** Where packets go whose destination is not on-link; null = nowhere. */
  readonly gateway: number | null;
  /** Row of the tenant of sources that no member prefix matches, -1 = none. */
  readonly tenant: number;
  /** Answer pings of our addresses; false where the kernel has them too and answers itself. */
  readonly answersEcho: boolean;
  /** Its addresses are names of IPv6 addresses (table/address-book.ts). */
  readonly isIpv6: boolean;
  /** No device: what leaves by it comes in again (io/memory-port.ts), for hairpinning (session/source-nat.ts). */
  readonly isMirror: boolean;
  /** Take frames for any station: captures made elsewhere. */
  readonly acceptAnyMac: boolean;
  /** First 2 and last 4 bytes of the port's MAC address */
  readonly macHigh: number;
  readonly macLow: number;
  /** Largest IP packet in bytes. */
  readonly mtu: number;
}

/** Whether `address` is the router's own on this interface. */
export function isOwnAddress(at: RouterInterface, address: number): boolean {
  return at.addresses.some((own) => own.address === address);
}

/** Whether ARP here is to find us at `address`. */
export function isAnsweredAddress(at: RouterInterface, address: number): boolean {
  return isOwnAddress(at, address) || at.natAddresses.includes(address);
}

/** The router's own address in the subnet of `neighbor`, or its first address. The source of ARP and of waypoint packets. */
export function sourceAddressFor(at: RouterInterface, neighbor: number): number {
  const subnet = at.addresses.find((own) => sharesPrefix(own.address, neighbor, own.length));
  return (subnet ?? at.addresses[0]).address;
}

/** Whether `address` is in a subnet of this interface. */
export function isOnLink(at: RouterInterface, address: number): boolean {
  return (
    at.addresses.some((own) => sharesPrefix(own.address, address, own.length)) || (at.isIpv6 && isLinkLocal(address))
  );
}

/** The address to resolve for a packet to `destination` leaving here: itself when on-link, else the gateway; null = no way. */
export function nextHopAddress(at: RouterInterface, destination: number): number | null {
  if (at.isMirror) return at.addresses[0].address;
  if (isName(destination) !== at.isIpv6) return null;
  return isOnLink(at, destination) ? destination : at.gateway;
}
