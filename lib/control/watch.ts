// What a running router says aloud by itself: devices that are lost, links that change, peers whose clocks differ. Each
// once, not once a packet.

import type { Log } from "../base/log.ts";
import type { Port } from "../io/port.ts";
import type { PeerPath } from "../peer/peer-path.ts";

const LOOK_MS = 1000;
/** A clock that has not been right for so long is spoken of again. */
const REPEAT_MS = 60_000;

/** A port on a device: `fault` is set once it can no longer be read. */
export interface Device extends Pick<Port, "info"> {
  readonly fault: Error | undefined;
}

/** Look every second until the function that is returned is called. */
export function watch(...looks: readonly (() => void)[]): () => void {
  const timer = setInterval(() => {
    for (const look of looks) look();
  }, LOOK_MS);
  return () => clearInterval(timer);
}

/** A look at devices: says once when one is lost or its link changes. */
export function lookAtPorts(ports: readonly Device[], log: Log): () => void {
  const states = ports.map((port) => port.info().linkUp);
  const lost = new Set<Device>();
  return () => {
    ports.forEach((port, row) => {
      const { name, linkUp } = port.info();
      if (linkUp !== states[row]) log.warn({ interface: name }, linkUp ? "link is up" : "link is down");
      states[row] = linkUp;
      if (port.fault !== undefined && !lost.has(port)) {
        lost.add(port);
        log.error(
          { interface: name, error: port.fault.message },
          "the device can no longer be read; restart when it is back",
        );
      }
    });
  };
}

/** A look at the peers' clocks: says what was measured when a digest was refused for it, anew each minute that it goes on. */
export function lookAtClocks(paths: readonly PeerPath[], log: Log, nowMs: () => number): () => void {
  const saidMs = paths.map(() => Number.NEGATIVE_INFINITY);
  const seenMs = paths.map(() => Number.NEGATIVE_INFINITY);
  return () => {
    paths.forEach((path, row) => {
      if (path.skewedAtMs === seenMs[row]) return;
      seenMs[row] = path.skewedAtMs;
      if (nowMs() - saidMs[row] < REPEAT_MS) return;
      saidMs[row] = nowMs();
      log.warn(
        { peer: path.peerName, offsetMs: path.clockSkewMs },
        "the peer's clock and ours differ: what it signs is refused (drop.clock-skew)",
      );
    });
  };
}
