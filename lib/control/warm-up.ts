// Runs the forwarding plane until V8 has compiled it, before the first real frame comes: cold, a packet costs thirty
// times as much for the first tenth of a second, and a full ring of frames that wait is lost with it. A router of its
// own in memory, with sessions of UDP and TCP in both directions; nothing of it is left but the compiled code.

import { viewOf } from "../base/bytes.ts";
import { ManualClock } from "../base/clock.ts";
import { SeededRandom } from "../base/random.ts";
import { AnsweringPort } from "../io/answering-port.ts";
import { MemoryPort } from "../io/memory-port.ts";
import type { Port } from "../io/port.ts";
import { writeEthernet } from "../wire/ethernet.ts";
import { ETHERNET_HEADER, ETHERTYPE_IPV4, PROTOCOL_TCP, PROTOCOL_UDP } from "../wire/flow-key.ts";
import { DONT_FRAGMENT, IPV4_HEADER, writeIpv4 } from "../wire/ipv4.ts";
import { completeChecksum } from "../wire/offload.ts";
import { ACK, SYN, writeTcp } from "../wire/tcp.ts";
import { writeUdp } from "../wire/udp.ts";
import { type Config, parseConfig } from "./config.ts";
import type { Router } from "./router-parts.ts";

const CONFIG = `
authority: waymark
router: warm-up
sessions: { max: 64 }
interfaces:
  - { name: lan0, device: lan0, addresses: [192.0.2.1/30], gateway: 192.0.2.2, tenant: corp }
  - { name: lan1, device: lan1, addresses: [192.0.2.5/30], gateway: 192.0.2.6, tenant: corp }
tenants: [{ name: corp }]
services: [{ name: app, addresses: [198.51.100.0/24], access: [corp] }]
service-routes: [{ service: app, interface: lan1 }]
`;
const MACS = [Uint8Array.of(2, 0x57, 0x4d, 0, 1, 1), Uint8Array.of(2, 0x57, 0x4d, 0, 1, 2)];
const CLIENT = 0xcb007101 | 0; // 203.0.113.1
const SERVER = 0xc6336401 | 0; // 198.51.100.1
const SESSIONS = 16;
const FRAME_BYTES = 100;
const QUEUE_FRAMES = 256;

/** How `buildRouter` is called here. */
type Build = (
  config: Config,
  ports: readonly Port[],
  options: { clock: ManualClock; random: SeededRandom; acceptAnyMac: boolean },
) => Router;

/** Forward packets that nobody sees for `milliseconds` of wall time. Returns how many. */
export function warmUp(build: Build, milliseconds = 150): number {
  const { config } = parseConfig(CONFIG, "warm-up");
  const queueFrames = QUEUE_FRAMES;
  const memory = MACS.map((mac, at) => new MemoryPort({ name: `lan${at}`, mac, queueFrames }));
  const ports = memory.map((port) => new AnsweringPort(port));
  const clock = new ManualClock(1);
  const { engine } = build(config!, ports, { clock, random: new SeededRandom(1), acceptAnyMac: false });
  let forwarded = 0;
  const offer = (frames: readonly Uint8Array[], at: number): void => {
    for (const frame of frames) memory[at].inject(frame);
    while (engine.turn(clock.nowMs()) > 0);
    forwarded += memory.reduce((sum, port) => sum + port.sent().length, 0);
    clock.advance(1);
  };
  const there = [PROTOCOL_UDP, PROTOCOL_TCP].map((protocol) => makeFrames(protocol, ACK, false));
  const back = [PROTOCOL_UDP, PROTOCOL_TCP].map((protocol) => makeFrames(protocol, ACK, true));
  // One of each first: the next hops are still unknown.
  for (const at of [0, 1]) offer([there, back][at][0].slice(0, 1), at);
  offer(makeFrames(PROTOCOL_TCP, SYN, false), 0);
  offer(makeFrames(PROTOCOL_TCP, SYN | ACK, true), 1);
  for (const end = performance.now() + milliseconds; performance.now() < end; ) {
    for (const frames of there) offer(frames, 0);
    for (const frames of back) offer(frames, 1);
  }
  return forwarded;
}

/** A frame of each session, toward the server or back, several times over to make a batch. */
function makeFrames(protocol: number, flags: number, isBack: boolean): Uint8Array[] {
  return Array.from({ length: SESSIONS * 4 }, (_, n) => {
    const bytes = new Uint8Array(FRAME_BYTES);
    const mac = viewOf(MACS[isBack ? 1 : 0]);
    const packet = FRAME_BYTES - ETHERNET_HEADER;
    const [source, destination] = isBack ? [SERVER, CLIENT] : [CLIENT, SERVER];
    const [from, to] = isBack ? [443, 1024 + (n % SESSIONS)] : [1024 + (n % SESSIONS), 443];
    writeEthernet(bytes, 0, mac.getUint16(0), mac.getInt32(2), 0x0200, 1, ETHERTYPE_IPV4);
    const l4 = writeIpv4(bytes, ETHERNET_HEADER, 0, packet, 0, DONT_FRAGMENT, 64, protocol, source, destination);
    if (protocol === PROTOCOL_UDP) writeUdp(bytes, l4, from, to, packet - IPV4_HEADER);
    else writeTcp(bytes, l4, from, to, 1, 1, flags, 8192);
    completeChecksum(bytes, 0);
    return bytes;
  });
}
