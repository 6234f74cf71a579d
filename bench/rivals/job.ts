// What every rival does with a frame: decode the IPv4 5-tuple, look its flow up, decrement the TTL, mend the header
// checksum (RFC 1624) and write the MAC addresses. The least a session router does when nothing is translated, which
// is what Waymark does in the topology of the bench; no counters, timers, expiry, ARP or metadata.

/** The kernel's buffer and the longest frame, as reference/forward.c has them. */
export const RING_BYTES = 64 << 20;
export const SNAPLEN = 65_535;

const ROWS = 1 << 12;
const WORDS = 4;
const ETHERNET = 14;
const UDP = 17;
const TCP = 6;

/** Where a flow's packets go: the device they leave by and the first 12 bytes of their frames. */
export interface Route {
  readonly device: number;
  readonly head: Uint8Array;
}

export function parseMac(text: string): number[] {
  return text.split(":").map((byte) => Number.parseInt(byte, 16));
}

/** Flows by open addressing over typed arrays, a quarter of a Map's cost at these sizes. A new flow gets its device's route. */
export class Flows {
  readonly #keys = new Int32Array(ROWS * WORDS);
  readonly #routes: (Route | undefined)[] = new Array(ROWS).fill(undefined);
  readonly #arrivalRoutes: readonly Route[];
  #count = 0;

  /** `arrivalRoutes[device]`: for the flows whose packets arrive by that device. */
  constructor(arrivalRoutes: readonly Route[]) {
    this.#arrivalRoutes = arrivalRoutes;
  }

  find(device: number, source: number, destination: number, ports: number, protocol: number): Route | undefined {
    const keys = this.#keys;
    const last = (protocol << 8) | device;
    let hash = Math.imul(source ^ Math.imul(destination ^ Math.imul(ports ^ last, 0x85ebca6b), 0xc2b2ae35), 0x9e3779b1);
    hash ^= hash >>> 15;
    for (let row = hash & (ROWS - 1); ; row = (row + 1) & (ROWS - 1)) {
      const route = this.#routes[row];
      const at = row * WORDS;
      if (route === undefined) {
        if (this.#count >= ROWS >> 1) return undefined;
        this.#count++;
        keys[at] = source;
        keys[at + 1] = destination;
        keys[at + 2] = ports;
        keys[at + 3] = last;
        return (this.#routes[row] = this.#arrivalRoutes[device]);
      }
      if (keys[at] === source && keys[at + 1] === destination && keys[at + 2] === ports && keys[at + 3] === last)
        return route;
    }
  }
}

function word(bytes: Uint8Array, at: number): number {
  return (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
}

/** Forward the packet whose IPv4 header begins at `at`, in place. Its flow's route, or undefined: not ours. */
export function forwardPacket(
  flows: Flows,
  device: number,
  bytes: Uint8Array,
  at: number,
  end: number,
): Route | undefined {
  if (end - at < 28 || bytes[at] >> 4 !== 4) return undefined;
  const transport = at + ((bytes[at] & 15) << 2);
  const protocol = bytes[at + 9];
  if (transport + 8 > end || (protocol !== UDP && protocol !== TCP)) return undefined;
  const ttl = bytes[at + 8];
  // A later fragment has no ports.
  if (ttl <= 1 || (((bytes[at + 6] & 0x1f) << 8) | bytes[at + 7]) !== 0) return undefined;
  const route = flows.find(device, word(bytes, at + 12), word(bytes, at + 16), word(bytes, transport), protocol);
  if (route === undefined) return undefined;
  bytes[at + 8] = ttl - 1;
  // HC' = ~(~HC + ~m + m'): the TTL is a word's high byte, so one less is 0x100 more in the complement.
  let sum = ((bytes[at + 10] << 8) | bytes[at + 11]) + 0x100;
  sum = (sum & 0xffff) + (sum >> 16);
  bytes[at + 10] = sum >> 8;
  bytes[at + 11] = sum;
  return route;
}

/** Forward the Ethernet frame at the start of `bytes`, in place, with its new MAC addresses. */
export function forwardFrame(flows: Flows, device: number, bytes: Uint8Array, length: number): Route | undefined {
  if (bytes[12] !== 8 || bytes[13] !== 0) return undefined;
  const route = forwardPacket(flows, device, bytes, ETHERNET, length);
  if (route === undefined) return undefined;
  const { head } = route;
  for (let i = 0; i < 12; i++) bytes[i] = head[i];
  return route;
}

export interface End {
  readonly device: string;
  readonly mac: string;
}

/** DEVICE_A MAC_A NEXT_A DEVICE_B MAC_B NEXT_B, as reference/forward.c takes them. */
export function takeEnds(words: readonly string[]): { ends: [End, End]; flows: Flows } {
  if (words.length !== 6) throw new Error("DEVICE_A MAC_A NEXT_A DEVICE_B MAC_B NEXT_B");
  const [deviceA, macA, nextA, deviceB, macB, nextB] = words;
  const flows = new Flows([
    { device: 1, head: Uint8Array.from([...parseMac(nextB), ...parseMac(macB)]) },
    { device: 0, head: Uint8Array.from([...parseMac(nextA), ...parseMac(macA)]) },
  ]);
  return {
    ends: [
      { device: deviceA, mac: macA },
      { device: deviceB, mac: macB },
    ],
    flows,
  };
}
