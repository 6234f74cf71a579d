// One router per device. Two on the same device would each send what both receive, and the second to stop would take
// the first one's guard with it. The lock is an abstract unix socket (unix(7)): it belongs to the network namespace,
// as the device does, and is gone with the process, however that ends.

import { existsSync, readFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { OperatorError } from "./operator-error.ts";

/** Bytes of a unix socket's name (unix(7)), the NUL in front included. */
const NAME_BYTES = 108;
/** As in linux/if_arp.h. */
const ARPHRD_LOOPBACK = "772";

/**
 * Take every device or none. Returns the function that gives them back. Throws OperatorError when one is taken, or is the
 * loopback device: the guard would keep the host from talking to itself.
 */
export async function lockDevices(named: readonly string[]): Promise<() => void> {
  const devices = [...new Set(named)];
  for (const device of devices) {
    const type = `/sys/class/net/${device}/type`;
    if (existsSync(type) && readFileSync(type, "utf8").trim() === ARPHRD_LOOPBACK) {
      throw new OperatorError(`device ${device} is the loopback device: name one that leads to a network`);
    }
  }
  const taken: Server[] = [];
  const release = () => {
    for (const server of taken.splice(0)) server.close();
  };
  try {
    for (const device of devices) taken.push(await lock(device));
    return release;
  } catch (error) {
    release();
    throw error;
  }
}

function lock(device: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((client) => client.destroy());
    server.unref();
    server.once("error", (error: NodeJS.ErrnoException) => {
      const running = error.code === "EADDRINUSE";
      reject(
        new OperatorError(
          running
            ? `device ${device} is another running router's: stop that one first, or name another device`
            : `device ${device} cannot be locked: ${error.message}`,
        ),
      );
    });
    // As long as can be: some versions of Node fill an abstract name up with NULs, others do not, and it must be one name.
    server.listen(`\0waymark-device-${device}`.padEnd(NAME_BYTES, "/"), () => resolve(server));
  });
}
