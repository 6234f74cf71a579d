// Every number the router counts, under one flat name each: the engine's counters, the sessions' totals, each
// interface's port statistics. `waymark show counters` and `waymark replay` print this object.

import { COUNTERS } from "../engine/counters.ts";
import type { PortStats } from "../io/port.ts";
import type { FirewallCounts } from "../peer/path-settings.ts";
import { DROP_REASONS, DROP_TX_ERROR, DROP_TX_FULL, verdictName } from "../wire/verdict.ts";
import { formatAddress } from "./address-text.ts";
import type { Router } from "./router-parts.ts";

const SESSION_COUNTERS = [
  { name: "sessions.active", sentence: "Sessions open now." },
  { name: "sessions.opened", sentence: "Sessions opened since start." },
  { name: "sessions.closed", sentence: "Sessions that ended since start, for whatever reason." },
  { name: "sessions.half-open", sentence: "Sessions open now that only one end has been heard of." },
  { name: "sessions.evicted", sentence: "Half-open sessions that made room for a new one when the table was full." },
] as const;

const TENANT_COUNTERS = {
  sessions: "Sessions of the tenant open now.",
  "half-open": "Half-open sessions among them.",
} as const;

const NAT_COUNTERS = [
  { name: "source-nat.mappings", sentence: "Ports of hosts that source NAT has given a port outside, now." },
  {
    name: "source-nat.<address>.ports",
    sentence: "Ports of this address that source NAT has in use, of 49,151 for each of TCP, UDP and ICMP.",
  },
] as const;

/** Of the firewall detector, all paths together. */
const FIREWALL_COUNTERS: Record<keyof FirewallCounts, string> = {
  testsSent: "TCP packets sent to find out whether a firewall on a path takes them (udp-transform: auto-detect).",
  answersReceived: "Answers of peers to them, and to the UDP packets beside them.",
  testsAnswered: "The same of peers, answered.",
  refused:
    "Packets of that form, or with TCP port 1280 or 1283 from or to a peer, that were neither test nor answer, or came before.",
  failedRounds: "Rounds of tests in which one came to nothing though UDP came through.",
};

const PORT_COUNTERS: Record<keyof PortStats, string> = {
  rxFrames: "Frames received on the interface.",
  rxBytes: "Bytes received on the interface, Ethernet headers included.",
  txFrames: "Frames sent on the interface.",
  txBytes: "Bytes sent on the interface, Ethernet headers included.",
  rxKernelDrops: "Frames that the kernel's capture ring had no room for.",
  txFull: "Frames that the device's transmit queue would not take; also in drop.tx-full.",
  txErrors: "Frames that the device refused; also in drop.tx-error.",
  superFrames: "Frames received that stand for several on the wire.",
  segments: "Frames sent that were cut from super-frames.",
  partialChecksums: "Frames sent whose checksum a local sender had left unfinished.",
  extensionsRemoved: "IPv6 packets received that went on without their extension headers.",
  parameterProblems:
    "Senders told, by ICMPv6 parameter problem, what is wrong with the extension headers of a packet that was dropped.",
};

/** Of the path monitor, where it has a thread of its own; for the engine its frames are consumed, so these are not in the sum of drops. */
const MONITOR_COUNTERS = [
  {
    name: "monitor.drop.<reason>",
    sentence: "Frames that the path monitor dropped for this reason, where there are any.",
  },
  { name: "monitor.rx-kernel-drops", sentence: "Frames that the path monitor's capture rings had no room for." },
] as const;

/** Name and sentence of every counter; `<tenant>`, `<interface>` and `<reason>` stand for each one's name. */
export const counterReference: readonly { readonly name: string; readonly sentence: string }[] = [
  ...COUNTERS,
  ...SESSION_COUNTERS,
  ...Object.entries(TENANT_COUNTERS).map(([field, sentence]) => ({ name: `tenant.<tenant>.${field}`, sentence })),
  ...NAT_COUNTERS,
  ...Object.entries(FIREWALL_COUNTERS).map(([field, sentence]) => ({
    name: `firewall-detector.${kebab(field)}`,
    sentence,
  })),
  ...MONITOR_COUNTERS,
  ...Object.entries(PORT_COUNTERS).map(([field, sentence]) => ({
    name: `interface.<interface>.${kebab(field)}`,
    sentence,
  })),
];

/** All counters of a router as one flat object, zeros included. */
export function readCounters(router: Router): Record<string, number> {
  const counters = router.counters.publish(true);
  const { sessions } = router;
  counters["sessions.active"] = sessions.table.count;
  counters["sessions.half-open"] = sessions.halfOpenCount;
  counters["sessions.opened"] = sessions.openedTotal;
  counters["sessions.closed"] = sessions.closedTotal;
  counters["sessions.evicted"] = sessions.evictedTotal;
  for (const { name, row } of router.policy.tenants) {
    counters[`tenant.${name}.sessions`] = sessions.tenantSessions(row);
    counters[`tenant.${name}.half-open`] = sessions.tenantHalfOpen(row);
  }
  const nat = sessions.nat?.table;
  if (nat !== undefined) counters["source-nat.mappings"] = nat.count;
  for (const address of nat?.addresses ?? [])
    counters[`source-nat.${formatAddress(address)}.ports`] = nat!.portsInUse(address);
  Object.assign(counters, firewallCounters(router));
  DROP_REASONS.forEach(({ name }, reason) => {
    const count = router.monitorLosses.drops[reason];
    if (count > 0) counters[`monitor.drop.${name}`] = count;
  });
  counters["monitor.rx-kernel-drops"] = router.monitorLosses.unheard;
  router.ports.forEach((port, row) => {
    const stats = port.stats();
    counters[`drop.${verdictName(DROP_TX_FULL)}`] += stats.txFull;
    counters[`drop.${verdictName(DROP_TX_ERROR)}`] += stats.txErrors;
    for (const [field, value] of Object.entries(stats)) {
      counters[`interface.${router.interfaces[row].name}.${kebab(field)}`] = value;
    }
  });
  return counters;
}

/** Every worker knows the same of paths: the first one tells. */
function firewallCounters({ sessions, reports, strays }: Router): Record<string, number> {
  const isTeller = strays === null || strays.worker === 0;
  const known = isTeller ? sessions.paths.map(({ row }) => reports.of(row)?.firewallCounts) : [];
  const fields = Object.keys(FIREWALL_COUNTERS) as (keyof FirewallCounts)[];
  const sum = (field: keyof FirewallCounts) => known.reduce((total, counts) => total + (counts?.[field] ?? 0), 0);
  return Object.fromEntries(fields.map((field) => [`firewall-detector.${kebab(field)}`, sum(field)]));
}

function kebab(camel: string): string {
  return camel.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
