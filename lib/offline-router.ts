// A router without a network: over capture files, on a virtual clock, and over memory, to say what it would do.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { ManualClock } from "./base/clock.ts";
import { SeededRandom } from "./base/random.ts";
import type { Config } from "./control/config.ts";
import { type Explanation, explain } from "./control/explain.ts";
import { readCounters } from "./control/metrics.ts";
import { OperatorError } from "./control/operator-error.ts";
import type { PacketDescription } from "./control/packet-text.ts";
import type { Router } from "./control/router-parts.ts";
import { nativeCrypto } from "./crypto/native-crypto.ts";
import { AnsweringPort } from "./io/answering-port.ts";
import { MemoryPort } from "./io/memory-port.ts";
import { native } from "./io/native.ts";
import { ReplayPort, startTogether } from "./io/replay-port.ts";
import { buildRouter, inOwnForm, macOf } from "./router.ts";

/**
 * Run the engine on capture files: frames enter in timestamp order on a virtual clock, what leaves interface IF is
 * written to txDir/IF.pcap. ARP is answered for every address, so that frames find their way. Returns the counters.
 */
export async function replayCaptures(
  config: Config,
  options: { rx: readonly { interface: string; file: string }[]; txDir: string; seed: number; anyLinkType?: boolean },
): Promise<Record<string, number>> {
  mkdirSync(options.txDir, { recursive: true });
  const clock = new ManualClock();
  const captures: ReplayPort[] = [];
  try {
    for (const item of config.interfaces) {
      const rx = options.rx.find((capture) => capture.interface === item.name);
      captures.push(
        new ReplayPort({
          name: item.name,
          mac: macOf(config, item),
          mtu: item.mtu ?? 1500,
          clock,
          txPath: join(options.txDir, `${item.name}.pcap`),
          ...(rx === undefined ? {} : { rxPath: rx.file }),
          ...(options.anyLinkType === true ? { anyLinkType: true } : {}),
        }),
      );
    }
    startTogether(captures);
    const ports = inOwnForm(config, captures).map((port) => new AnsweringPort(port));
    const random = new SeededRandom(options.seed);
    const wallMs = () => captures[0].originSeconds * 1000 + clock.nowMs();
    const router = buildRouter(config, ports, {
      clock,
      random,
      acceptAnyMac: true,
      crypto: nativeCrypto(native()),
      wallMs,
    });
    for (;;) {
      const next = Math.min(...captures.map((capture) => capture.nextMs()));
      if (next === Number.POSITIVE_INFINITY) break;
      passTime(router, clock, next);
      while (router.engine.turn(clock.nowMs()) > 0);
    }
    const damaged = captures.find((capture) => capture.fault !== undefined)?.fault;
    if (damaged !== undefined) throw new OperatorError(`${damaged.message} (what came before it was replayed)`);
    return readCounters(router);
  } catch (error) {
    throw error instanceof OperatorError ? error : new OperatorError((error as Error).message);
  } finally {
    for (const capture of captures) capture.close();
  }
}

const STEP_MS = 100;

/** Longer silences are crossed in one step after this much time in small ones. */
const SMALL_STEPS_MS = 20_000;

/** Let time pass until `targetMs` with the engine's timers served on the way. */
function passTime(router: Router, clock: ManualClock, targetMs: number): void {
  const end = Math.min(targetMs, clock.nowMs() + SMALL_STEPS_MS);
  while (clock.nowMs() + STEP_MS < end) {
    clock.advance(STEP_MS);
    while (router.engine.turn(clock.nowMs()) > 0);
  }
  clock.moveTo(targetMs);
  // Whatever expired meanwhile is gone before the next packet is looked at.
  while (router.engine.tick(clock.nowMs()));
}

/** Say what would happen to a packet: one real engine, nobody's network. */
export function explainPacket(config: Config, options: { interface: string; packet: PacketDescription }): Explanation {
  const clock = new ManualClock(1);
  const memory = config.interfaces.map(
    (item) => new MemoryPort({ name: item.name, mac: macOf(config, item), mtu: item.mtu ?? 1500 }),
  );
  const ports = memory.map((port) => new AnsweringPort(port));
  // No peer answers here, so no path is watched.
  const unwatched = config.peers.map((peer) => ({
    ...peer,
    paths: peer.paths.map((path) => ({ ...path, bfd: { ...path.bfd, enabled: false } })),
  }));
  const max = Math.min(config.sessions.max, 1024);
  const small = { ...config, peers: unwatched, sessions: { ...config.sessions, max } };
  const router = buildRouter(small, ports, { clock, random: new SeededRandom(1), acceptAnyMac: true });
  return explain(router, memory, clock, options.interface, options.packet);
}
