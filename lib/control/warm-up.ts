// Runs the forwarding plane until V8 has compiled it, before the first real frame comes: cold, a packet costs thirty
// times as much for the first tenth of a second, and a full ring of frames that wait is lost with it. Code that was
// compiled for other objects than it meets later is thrown away and compiled again, under traffic; so everything here is
// what runs later: the pacer, the live ports, the addon. Only the wire is another: one inside the process.
//
//   lan0 ════ one wire ════ lan1        a router of its own with both ends: a packet that leaves by one comes in by the
//                                       other, is of the same session still, and goes round until its TTL is spent
//
// Sessions of UDP and TCP go round in both directions. Nothing of it is left but the compiled code.

import { setTimeout as sleep } from "node:timers/promises";
import { viewOf } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { SeededRandom } from "../base/random.ts";
import { dropCounter } from "../engine/counters.ts";
import { pace } from "../engine/pace.ts";
import { FrameBatch, type Port, type WakingPort } from "../io/port.ts";
import { TCP_SYN_RECEIVED } from "../session/tcp-state.ts";
import { writeEthernet } from "../wire/ethernet.ts";
import { ETHERNET_HEADER, ETHERTYPE_IPV4, PROTOCOL_TCP, PROTOCOL_UDP } from "../wire/flow-key.ts";
import { DONT_FRAGMENT, IPV4_HEADER, writeIpv4 } from "../wire/ipv4.ts";
import { completeChecksum } from "../wire/offload.ts";
import { ACK, SYN, writeTcp } from "../wire/tcp.ts";
import { writeUdp } from "../wire/udp.ts";
import { DROP_TTL } from "../wire/verdict.ts";
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
const CLIENT = 0xcb007101 | 0; // 203.0.113.1
const SERVER = 0xc6336401 | 0; // 198.51.100.1
const SESSIONS = 16;
const FRAME_BYTES = 100;
const ROUNDS_TTL = 255;
/** How long ARP and the lead packets may take at most, and how often they are looked for. */
const OPENING_MS = 1000;
const OPENING_LOOK_MS = 1;
/** New packets, for those that have gone round until their end. */
const FEED_MS = 10;
/** So often at least, for the time can be another process's, and packets are what has code compiled. */
const FEEDS_MIN = 5;

const LOOP_TURNS = 5000;
const TICKS = 5000;

/** How `buildRouter` is called here. */
type Build = (
  config: Config,
  ports: readonly Port[],
  options: { clock: Clock; random: SeededRandom; acceptAnyMac: boolean },
) => Router;

/**
 * Forward packets that nobody sees for at least `milliseconds` of wall time, on `ports`, the two ends of one wire, of
 * the classes that will carry traffic; then close them. Returns how many were forwarded.
 */
export async function warmUp(
  build: Build,
  ports: readonly WakingPort[],
  clock: Clock,
  milliseconds = 300,
): Promise<number> {
  const router = build(crossed(), ports, { clock, random: new SeededRandom(1), acceptAnyMac: false });
  const stopTime = pace(router.engine, ports, clock);
  const macs = ports.map((port) => port.info().mac);
  const there = [PROTOCOL_UDP, PROTOCOL_TCP].map((protocol) => makeFrames(macs[0], protocol, ACK, false));
  const back = [PROTOCOL_UDP, PROTOCOL_TCP].map((protocol) => makeFrames(macs[1], protocol, ACK, true));
  /** Have the first `count` frames come in on port `at`. */
  const offer = (batch: FrameBatch, at: number, count = batch.count): void => void ports[1 - at].tx(batch, 0, count);
  try {
    const { counters } = router;
    const { table } = router.sessions;
    const ended = (packets: number) => counters.get(dropCounter(DROP_TTL)) === packets;
    // One first: the next hops are unknown yet, and few frames can wait for each.
    offer(there[0], 0, 1);
    await until(() => ended(1));
    offer(back[0], 1, 1);
    await until(() => ended(2));
    // No reply before what it replies to: that the ports' turns come in this order is not said.
    offer(there[0], 0);
    offer(makeFrames(macs[0], PROTOCOL_TCP, SYN, false), 0);
    await until(() => table.count === 2 * SESSIONS);
    offer(makeFrames(macs[1], PROTOCOL_TCP, SYN | ACK, true), 1);
    await until(() => table.tcpState.filter((state) => state === TCP_SYN_RECEIVED).length === SESSIONS);
    const end = performance.now() + milliseconds;
    for (let feeds = 0; feeds < FEEDS_MIN || performance.now() < end; feeds++) {
      for (const batch of there) offer(batch, 0);
      for (const batch of back) offer(batch, 1);
      await sleep(FEED_MS);
    }
    await turnLoop();
    for (let n = 0; n < TICKS; n++) router.engine.tick(clock.nowMs());
    return ports.reduce((sum, port) => sum + port.stats().rxFrames, 0);
  } finally {
    stopTime();
    for (const port of ports) port.close();
  }
}

/** Until what was offered has come of it. What is lost, because the ports have no room, comes later of what is offered then. */
async function until(holds: () => boolean): Promise<void> {
  for (const end = performance.now() + OPENING_MS; !holds() && performance.now() < end; ) await sleep(OPENING_LOOK_MS);
}

/** The event loop's own way of coming back to the pacer, with two functions, for the pacer's will be a third. */
async function turnLoop(): Promise<void> {
  await new Promise<void>((done) => {
    let left = LOOP_TURNS;
    const there = (): void => void (left-- > 0 ? setImmediate(back) : done());
    const back = (): void => void setImmediate(there);
    there();
  });
}

/** Each interface is the other's gateway, which no operator may write. */
function crossed(): Config {
  const config = parseConfig(CONFIG, "warm-up").config!;
  const interfaces = config.interfaces.map((item, row) => {
    const gateway = config.interfaces[1 - row].gateway!;
    return { ...item, addresses: [...item.addresses, { address: gateway, length: 30 }] };
  });
  return { ...config, interfaces };
}

/** A frame of each session, toward the server or back. */
function makeFrames(mac: Uint8Array, protocol: number, flags: number, isBack: boolean): FrameBatch {
  const batch = new FrameBatch(new Uint8Array(SESSIONS * FRAME_BYTES), SESSIONS);
  const to = viewOf(mac);
  const packet = FRAME_BYTES - ETHERNET_HEADER;
  const [source, destination] = isBack ? [SERVER, CLIENT] : [CLIENT, SERVER];
  for (let n = 0; n < SESSIONS; n++) {
    const at = n * FRAME_BYTES;
    const [from, port] = isBack ? [443, 1024 + n] : [1024 + n, 443];
    writeEthernet(batch.bytes, at, to.getUint16(0), to.getInt32(2), 0x0200, 1, ETHERTYPE_IPV4);
    const l4 = writeIpv4(
      batch.bytes,
      at + ETHERNET_HEADER,
      0,
      packet,
      0,
      DONT_FRAGMENT,
      ROUNDS_TTL,
      protocol,
      source,
      destination,
    );
    if (protocol === PROTOCOL_UDP) writeUdp(batch.bytes, l4, from, port, packet - IPV4_HEADER);
    else writeTcp(batch.bytes, l4, from, port, 1, 1, flags, 8192);
    completeChecksum(batch.bytes, at);
    batch.offset[n] = at;
    batch.length[n] = FRAME_BYTES;
  }
  batch.count = SESSIONS;
  return batch;
}
