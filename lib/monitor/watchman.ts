// The monitor's own loop, in its own thread, over ports of its own that see BFD, tests for firewalls, the ARP answers it needs, and ICMP
// errors that tell what a path takes. It has nothing to do with forwarding: whatever the engine's threads do, control packets are answered and sent on time.

import type { Clock } from "../base/clock.ts";
import type { Egress } from "../engine/egress.ts";
import type { Resolver } from "../engine/resolver.ts";
import { FrameBatch, type Port, refusalOf, type WakingPort } from "../io/port.ts";
import type { RouterInterface } from "../peer/router-interface.ts";
import { ANY_MAC, decodeFrame, KEY_ROW_WORDS } from "../wire/flow-key.ts";
import { OK, PUNT_ARP, PUNT_ICMP_ERROR } from "../wire/verdict.ts";
import type { Losses } from "./losses.ts";
import type { Monitor } from "./monitor.ts";

/** What the watchman's ports let through: the kernel keeps all other frames away from them. */
export const WATCHED_FRAMES =
  "(ip and udp and (dst port 1280 or dst port 3784 or dst port 4784)) or (ip and tcp and (port 1280 or port 1283)) or (arp and arp[6:2] = 2) or (icmp[0] = 3 and icmp[1] = 4)";
/** The same on an IPv6 interface. */
export const WATCHED_FRAMES_IPV6 =
  "(ip6 and udp and (dst port 1280 or dst port 3784 or dst port 4784)) or (ip6 and tcp and (port 1280 or port 1283)) or (icmp6 and (ip6[40] = 136 or ip6[40] = 2))";

const BATCH_FRAMES = 64;
/** Batches of one port in one go. */
const BATCHES_MAX = 16;
/** How often neighbors are looked at. */
const NEIGHBORS_MS = 100;

/** Start the loop. Returns the function that ends it; the peers are told that the router goes away, unless it is `silent`. */
export function keepWatch(parts: {
  monitor: Monitor;
  resolver: Resolver;
  egress: Egress;
  interfaces: readonly RouterInterface[];
  /** ports[i] is interfaces[i]'s: what gives its frames, and what wakes. */
  ports: readonly Port[];
  devices: readonly WakingPort[];
  clock: Clock;
  /** Told what became of each frame. */
  losses: Losses;
}): (silent?: boolean) => void {
  const { monitor, resolver, egress, ports, clock, losses } = parts;
  const key = new Int32Array(KEY_ROW_WORDS);
  const batch = new FrameBatch(new Uint8Array(0), BATCH_FRAMES);
  let timer: NodeJS.Timeout | undefined;
  let neighborsMs = Number.NEGATIVE_INFINITY;

  const take = (port: number, nowMs: number): void => {
    for (let i = 0; i < batch.count; i++) {
      const { isIpv6 } = parts.interfaces[port];
      const refused = refusalOf(batch.flags[i]);
      const verdict =
        refused || decodeFrame(batch.view, batch.offset[i], batch.length[i], port, ANY_MAC, 0, key, 0, isIpv6);
      if (verdict === PUNT_ARP) resolver.receive(batch, i, port, Math.floor(nowMs));
      else if (verdict === PUNT_ICMP_ERROR) monitor.heardError(batch, key, nowMs);
      else losses.count(verdict === OK ? monitor.receive(batch, i, key, nowMs) : verdict, batch, i, port, nowMs);
    }
  };
  let isOver = false;
  const turn = (): void => {
    if (isOver) return;
    const nowMs = clock.nowUs() / 1000;
    for (let port = 0; port < ports.length; port++) {
      for (let n = 0; n < BATCHES_MAX && ports[port].rx(batch) > 0; n++) take(port, nowMs);
    }
    if (nowMs >= neighborsMs || resolver.isUrgent) {
      resolver.tick(Math.floor(nowMs));
      egress.expireHeld(Math.floor(nowMs));
      neighborsMs = nowMs + NEIGHBORS_MS;
    }
    const dueMs = monitor.tick(nowMs);
    egress.flush();
    clearTimeout(timer);
    timer = setTimeout(turn, Math.max(0, Math.min(dueMs, neighborsMs) - clock.nowUs() / 1000));
  };
  for (const device of parts.devices) device.onReadable(turn);
  turn();
  return (silent = false) => {
    if (silent) turn();
    isOver = true;
    clearTimeout(timer);
    if (!silent) monitor.close(clock.nowUs() / 1000);
  };
}
