// TCP bulk by iperf3 between the hosts of a chain. The server must run: `iperf3 -s` in its namespace.

import type { ChildProcess } from "node:child_process";
import { output } from "../namespaces.ts";
import { SERVER } from "./chain.ts";
import type { Contender } from "./contenders.ts";
import { machineUs, processesUs } from "./meters.ts";
import type { Race } from "./race.ts";

const IPERF_TIMEOUT_MS = 20_000;
/** Host offloads off: MTU frames, which everybody can carry; on: whoever can takes super-frames, others cut them. */
export const BULK_MTU = {
  connections: 1,
  seconds: 2,
  offloads: "off",
  traffic: "TCP bulk, 1 connection, MTU frames",
} as const;
export const BULK = {
  connections: 1,
  seconds: 2,
  offloads: "on",
  traffic: "TCP bulk, 1 connection, host offloads on",
} as const;
export const BULK_8 = {
  connections: 8,
  seconds: 1,
  offloads: "on",
  traffic: "TCP bulk, 8 connections, host offloads on",
} as const;

type Bulk = typeof BULK_MTU | typeof BULK | typeof BULK_8;

/** What its rate is called. */
export function measureOf(what: Bulk): string {
  return what.offloads === "on" ? "bulk" : "bulk-mtu";
}

/** One bulk transfer: rate, and processor time for each byte that reached the server. */
export async function bulk(
  race: Race,
  contender: Contender,
  children: readonly ChildProcess[],
  what: Bulk,
): Promise<void> {
  const { chain } = race;
  chain.hostOffloads(what.offloads);
  const [machine, processes] = [machineUs(), processesUs(children)];
  const { bytes, bits_per_second: rate } = (await iperf(race, "-t", what.seconds, "-P", what.connections)).sum_received;
  const add = (name: string, unit: string, value: number) =>
    race.add(contender, { name, unit, traffic: `${what.traffic}, two routers` }, value);
  add(measureOf(what), "Mbit/s", rate / 1e6);
  add("bulk-machine-cpu", "ns/byte", ((machineUs() - machine) * 1000) / bytes);
  if (children.length > 0) add("bulk-cpu", "ns/byte", ((processesUs(children) - processes) * 1000) / bytes);
}

interface Transfer {
  readonly bytes: number;
  readonly bits_per_second: number;
}

/** What iperf3 says at its end. */
export async function iperf(
  race: Race,
  ...how: (string | number)[]
): Promise<{ sum_sent: Transfer; sum_received: Transfer }> {
  const args = ["-c", SERVER, "-J", ...how.map(String)];
  const client = race.chain.namespaces.spawn("client", null, "iperf3", args, { timeout: IPERF_TIMEOUT_MS });
  return JSON.parse(await output(client)).end;
}
