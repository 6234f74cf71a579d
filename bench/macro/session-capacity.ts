// Capacity (RFC 9693's connection tracking table capacity): a million sessions in one process, and their memory.
// An ingress router opens them toward a peer, half of them UDP and half TCP, with a waypoint port pair each, and
// completes every handshake. Then all of them end and as many are opened again, because the memory for coming back
// (free lists, queues of port pairs) is first written when something does. Nothing but the router is kept.
//
// Exit code 1 when the process holds more than 512 MiB.

import { setTimeout as sleep } from "node:timers/promises";
import { PROTOCOL_TCP, PROTOCOL_UDP } from "../../lib/wire/flow-key.ts";
import { print } from "../harness.ts";
import { IngressRouter } from "../ingress-router.ts";

const SESSIONS = Number(process.argv[2] ?? 1_000_000);
const MIB_MAX = 512;
const MIB = 1024 * 1024;

const before = process.memoryUsage.rss();
const ingress = new IngressRouter(SESSIONS);

function openAll(): void {
  ingress.open(PROTOCOL_UDP, 0, SESSIONS / 2);
  ingress.open(PROTOCOL_TCP, 0, SESSIONS / 2);
  if (ingress.count !== SESSIONS) throw new Error(`${ingress.count} of ${SESSIONS} sessions are open`);
}

/** Resident bytes; under --expose-gc without what nobody refers to any more. */
async function held(): Promise<number> {
  globalThis.gc?.();
  // Memory is given back in the background, some of it by the next collection only.
  await sleep(50);
  globalThis.gc?.();
  return process.memoryUsage.rss();
}

openAll();
const first = await held();
ingress.closeAll();
openAll();
const again = await held();

const mode = `${SESSIONS} sessions with a waypoint port pair each, half UDP and half TCP, handshakes complete, unsigned, unencrypted`;
print("session-capacity.process", "MiB", `${mode}, opened once`, [first / MIB]);
print("session-capacity.process", "MiB", `${mode}, all closed and opened again`, [again / MIB]);
print("session-capacity.session", "bytes", `${mode}, all closed and opened again`, [(again - before) / SESSIONS]);
if (Math.max(first, again) > MIB_MAX * MIB) {
  console.error(`a router with ${SESSIONS} sessions may hold ${MIB_MAX} MiB`);
  process.exitCode = 1;
}
