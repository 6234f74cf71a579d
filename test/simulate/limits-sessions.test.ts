// How many sessions there may be, whose, and who goes first when there is no room: floods of packets that nobody
// answers against sessions that are established.

import test from "ava";
import { SeededRandom } from "../../lib/base/random.ts";
import { readCounters } from "../../lib/control/metrics.ts";
import type { TenantsAnswer } from "../../lib/control/show.ts";
import { snapshot } from "../../lib/control/snapshot.ts";
import { ACK, FIN, PSH, RST, SYN } from "../../lib/wire/tcp.ts";
import { tcpFrame, udpFrame } from "./packets.ts";
import { ENDS } from "./peer.ts";
import { countOf, dropsOf, type Limits, sessionRows, type TwoRouters, twoRouters } from "./topologies.ts";

const net = (limits: Limits): TwoRouters => twoRouters({ limits });

const lead = (at: TwoRouters, sourcePort: number, text = "x") => {
  at.world.send(at.client, udpFrame({ ...ENDS, sourcePort }, text));
  at.world.run(2);
};
const reply = (at: TwoRouters, port: number) => {
  at.world.send(at.server, udpFrame({ ...swapped, destinationPort: port }, "y"));
  at.world.run(2);
};
const swapped = {
  source: ENDS.destination,
  destination: ENDS.source,
  sourcePort: ENDS.destinationPort,
  destinationPort: ENDS.sourcePort,
};
const exchange = (at: TwoRouters, port: number) => {
  lead(at, port);
  reply(at, port);
};
const segment = (at: TwoRouters, from: "client" | "server", flags: number, port: number) => {
  const forward = from === "client";
  const ends = forward ? { ...ENDS, sourcePort: port } : { ...swapped, destinationPort: port };
  const [sequence, acknowledgment] = forward ? [1000, 5001] : [5000, 1001];
  at.world.send(at[from], tcpFrame(ends, { flags, sequence, acknowledgment }));
  at.world.run(2);
};
const connect = (at: TwoRouters, port: number) => {
  segment(at, "client", SYN, port);
  segment(at, "server", SYN | ACK, port);
  segment(at, "client", ACK, port);
};
const portsOf = (at: TwoRouters) =>
  sessionRows(at.west)
    .map((row) => at.west.sessions.table.context[row * 4 + 2] >>> 16)
    .sort((a, b) => a - b);
const corp = (at: TwoRouters) => (snapshot(at.west, "tenants") as TenantsAnswer).tenants[0];

test("with the table full the oldest session that nobody answered makes room, UDP as TCP, and an answered one never", (t) => {
  const at = net({ sessions: 4 });
  exchange(at, 1);
  lead(at, 2);
  segment(at, "client", SYN, 3);
  connect(at, 4);
  lead(at, 5);
  t.deepEqual(portsOf(at), [1, 3, 4, 5]);
  lead(at, 6);
  t.deepEqual(portsOf(at), [1, 4, 5, 6]);
  reply(at, 5);
  reply(at, 6);
  lead(at, 7);
  t.deepEqual(portsOf(at), [1, 4, 5, 6]);
  t.deepEqual(dropsOf(at.west), { "session-table-full": 1 });
  t.is(at.west.sessions.evictedTotal, 2);
});

test("a flood of datagrams that nobody answers fills the table, and sessions are established all the same", (t) => {
  const at = net({ sessions: 32 });
  const flood = (from: number) => {
    for (let n = 0; n < 20; n++) at.world.send(at.client, udpFrame({ ...ENDS, sourcePort: from + n }, "flood"));
    at.world.run(2);
  };
  lead(at, 9_999, "finds the neighbors");
  for (let n = 0; n < 10; n++) {
    flood(10_000 + n * 20);
    if (n % 2 === 0) connect(at, 1 + n);
    else exchange(at, 1 + n);
  }
  flood(20_000);
  t.is(at.west.sessions.table.count, 32);
  t.deepEqual(portsOf(at).slice(0, 10), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  t.deepEqual(dropsOf(at.west), {});
  t.is(at.west.sessions.halfOpenCount, 22);
});

test("a log sender that is never answered and was pushed out is let in again with its next packet", (t) => {
  const at = net({ sessions: 2 });
  lead(at, 1, "line one");
  lead(at, 2);
  lead(at, 3);
  t.deepEqual(portsOf(at), [2, 3]);
  lead(at, 1, "line two");
  t.deepEqual(portsOf(at), [1, 3]);
  t.deepEqual(
    at.server.received.map(({ text }) => text),
    ["line one", "x", "x", "line two"],
  );
});

test("the first packet that answers is noticed, and those behind it take the fast path", (t) => {
  const at = net({});
  exchange(at, 1);
  lead(at, 1);
  reply(at, 1);
  const slow = countOf(at.west, "slow-path.packets");
  for (let n = 0; n < 5; n++) {
    lead(at, 1);
    reply(at, 1);
  }
  t.is(countOf(at.west, "slow-path.packets"), slow);
  t.is(at.west.sessions.halfOpenCount, 0);
});

test("what a peer generates for want of an answer answers nothing: the session stays half-open", (t) => {
  const at = net({});
  lead(at, 1);
  at.world.run(1500);
  t.is(countOf(at.east, "metadata.generated"), 1);
  lead(at, 1);
  at.world.run(10);
  t.deepEqual([at.west.sessions.halfOpenCount, at.east.sessions.halfOpenCount], [1, 1]);
  reply(at, 1);
  t.deepEqual([at.west.sessions.halfOpenCount, at.east.sessions.halfOpenCount], [0, 0]);
});

test("a tenant's sessions are refused over its max-sessions by name, and each that ends makes room for one", (t) => {
  const at = net({ tenant: ", max-sessions: 3" });
  for (const port of [1, 2, 3]) connect(at, port);
  lead(at, 4);
  segment(at, "client", SYN, 5);
  t.deepEqual(portsOf(at), [1, 2, 3]);
  t.deepEqual(dropsOf(at.west), { "tenant-session-limit": 2 });
  t.deepEqual(corp(at), { name: "corp", sessions: 3, maxSessions: 3, halfOpen: 0, maxHalfOpen: null });
  const before = at.server.received.length;
  for (const port of [1, 2, 3]) segment(at, "client", ACK | PSH, port);
  t.is(at.server.received.length, before + 3, "what is established goes on");
  segment(at, "server", RST, 2);
  at.world.skip(3000);
  lead(at, 4);
  lead(at, 6);
  t.deepEqual(portsOf(at), [1, 3, 4]);
  t.is(dropsOf(at.west)["tenant-session-limit"], 3);
});

test("at the limit a conversation that begins anew takes the place of its own predecessor", (t) => {
  const at = net({ tenant: ", max-sessions: 1" });
  connect(at, 1);
  segment(at, "client", FIN | ACK, 1);
  segment(at, "server", FIN | ACK, 1);
  segment(at, "client", ACK, 1);
  connect(at, 1);
  t.is(at.west.sessions.openedTotal, 2);
  t.deepEqual(dropsOf(at.west), {});
  t.deepEqual(corp(at).sessions, 1);
});

for (const [name, limits, reason] of [
  ["a tenant's max-half-open", { tenant: ", max-half-open: 2" }, "tenant-half-open-limit"],
  ["limits.half-open", { others: ", half-open: 2" }, "half-open-limit"],
] as const) {
  test(`over ${name} a session is refused by name; whoever is answered makes room, and established ones do not count`, (t) => {
    const at = net(limits);
    for (const port of [1, 2, 3, 4]) connect(at, port);
    segment(at, "client", SYN, 5);
    lead(at, 6);
    lead(at, 7);
    segment(at, "client", SYN, 8);
    t.deepEqual(portsOf(at), [1, 2, 3, 4, 5, 6]);
    t.deepEqual(dropsOf(at.west), { [reason]: 2 });
    t.is(at.west.sessions.evictedTotal, 0);
    reply(at, 6);
    lead(at, 7);
    t.deepEqual(portsOf(at), [1, 2, 3, 4, 5, 6, 7]);
    at.world.skip(12_000);
    lead(at, 8);
    t.deepEqual(portsOf(at), [1, 2, 3, 4, 6, 7, 8], "the SYN that nobody answered has expired");
    t.deepEqual(dropsOf(at.west), { [reason]: 2 });
    const before = at.server.received.length;
    for (const port of [1, 2, 3, 4]) segment(at, "client", ACK | PSH, port);
    t.is(at.server.received.length, before + 4);
  });
}

test("a refused session leaves nothing behind: no port pair, no flow, no neighbor held", (t) => {
  const at = net({ tenant: ", max-sessions: 1" });
  lead(at, 1);
  const { sessions } = at.west;
  const state = () => [
    sessions.flows.count,
    sessions.table.count,
    sessions.paths[0].udpPorts.inUse,
    sessions.paths[0].sessions,
    sessions.wheel.count,
  ];
  const before = state();
  for (let port = 2; port < 40; port++) lead(at, port);
  t.deepEqual(state(), before);
  t.deepEqual(dropsOf(at.west), { "tenant-session-limit": 38 });
});

test("the counts that limits go by are those of the table, over a long random life", (t) => {
  const random = new SeededRandom(20);
  const at = net({ sessions: 24, tenant: ", max-sessions: 20, max-half-open: 12", others: ", half-open: 14" });
  const flags = [SYN, ACK, FIN | ACK, RST, SYN | ACK, ACK | PSH];
  let most = 0;
  for (let step = 0; step < 1500; step++) {
    const port = 1 + random.below(40);
    const what = random.below(10);
    if (what < 3) lead(at, port);
    else if (what < 5) reply(at, port);
    else if (what < 8) segment(at, "client", flags[random.below(flags.length)], port);
    else if (what < 9) segment(at, "server", flags[random.below(flags.length)], port);
    else at.world.skip(random.below(8) === 0 ? 60_000 : 700, 700);
    const { sessions } = at.west;
    const rows = sessionRows(at.west);
    const halfOpen = rows.filter((row) =>
      sessions.table.context[row * 4 + 3] === 6
        ? sessions.table.tcpState[row] < 3
        : sessions.flows.packets(sessions.table.reverseFlow[row]) === 0,
    ).length;
    if (sessions.tenantSessions(0) !== rows.length || sessions.tenantHalfOpen(0) !== halfOpen) t.fail(`step ${step}`);
    if (sessions.halfOpenCount !== halfOpen || rows.length > 20 || halfOpen > 12) t.fail(`step ${step}`);
    most = Math.max(most, rows.length);
  }
  t.is(most, 20);
  const counters = readCounters(at.west);
  t.is(counters["tenant.corp.sessions"], counters["sessions.active"]);
  t.is(counters["tenant.corp.half-open"], counters["sessions.half-open"]);
  t.true(dropsOf(at.west)["tenant-session-limit"] > 0 && dropsOf(at.west)["tenant-half-open-limit"] > 0);
});
