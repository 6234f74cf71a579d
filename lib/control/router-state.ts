// A router as bytes, for another process that goes on with its sessions, and back. In pieces, because there may be a
// million sessions: the first has everything that sessions refer to, the others sessions. Whoever restores has the same
// configuration, as far as `configIdentity` looks, the same clock, and a fresh router; capacities and limits may be others,
// as long as everything has room. What cannot be right is a StateError, and then the fresh router is good for nothing.
//
//   sessions   flows, handshake, TCP, counts, keys of their own, the flow from before a move
//   around     neighbors, port pairs, mappings of source NAT and the quarantine of both, names, keys of policies, replayed digests, paths, what was
//              judged and reported of them, loads, events, counters
//   frames     those that wait for a neighbor, fabric fragments that wait for the rest
//
// Not in it: rates of answers (they begin anew), and who watches paths (monitor/monitor.ts saves itself).

import { createHash } from "node:crypto";
import { StateError, StateReader, StateWriter } from "../base/state.ts";
import { type RowsHere, restoreSession, saveSession } from "../session/session-state.ts";
import { addressBook } from "../table/address-book.ts";
import { PAIRS_MAX, type ShardedPortPool } from "../table/port-pool.ts";
import type { HandshakeColumns } from "../table/session-table.ts";
import { restoreSecurities, saveSecurities } from "./compile-security.ts";
import type { Config } from "./config.ts";
import type { Router } from "./router-parts.ts";

/** Of the form of these bytes: changes with them. */
export const STATE_FORMAT = 5;
/** Sessions in one piece. */
const SESSIONS_PER_PIECE = 1024;

const AROUND = 1;
const SESSIONS = 2;

/** What must be the same in both processes, each part as a digest; keys are not in it. */
export type Identity = Readonly<Record<string, string>>;

export function configIdentity(config: Config): Identity {
  const { authority, router, workers, interfaces, tenants, services, serviceRoutes, peers, servicePolicies } = config;
  const securityPolicies = config.securityPolicies.map((policy) => ({ ...policy, keys: null }));
  const parts = { authority, router, workers, interfaces, tenants, services };
  const others = {
    "service-routes": serviceRoutes,
    peers,
    "service-policies": servicePolicies,
    "security-policies": securityPolicies,
  };
  return Object.fromEntries(
    Object.entries({ ...parts, ...others }).map(([name, part]) => [
      name,
      createHash("sha256").update(JSON.stringify(part)).digest("hex"),
    ]),
  );
}

/** The whole router. It must not turn meanwhile. */
export function* saveRouter(router: Router): Generator<Uint8Array> {
  yield saveAround(router);
  let out = new StateWriter();
  let count = 0;
  const begin = () => {
    out = new StateWriter();
    out.u8(SESSIONS);
    count = 0;
  };
  begin();
  for (const session of router.sessions.rows()) {
    saveSession(router.sessions, session, out);
    if (++count < SESSIONS_PER_PIECE) continue;
    yield out.finish();
    begin();
  }
  if (count > 0) yield out.finish();
}

function saveAround(router: Router): Uint8Array {
  const { sessions, counters, policy } = router;
  const out = new StateWriter();
  out.u8(AROUND);
  addressBook.save(out);
  out.i32(sessions.table.count);
  saveSecurities(out, router.securities);
  router.metadata.names.save(out);
  router.metadata.passed.save(out);
  sessions.neighbors.save(out);
  out.i32(sessions.paths.length);
  for (const path of sessions.paths) path.save(out);
  sessions.nat?.table.save(out);
  for (const chains of router.fragments) chains.save(out);
  router.ipFragments.save(out);
  router.samples.save(out);
  sessions.choice.save(out);
  policy.loads.save(out);
  router.security.saveReplays(out);
  router.egress.save(out);
  router.retrigger.save(out);
  router.reports.save(out);
  router.monitorLosses.save(out);
  router.events.save(out);
  for (const total of [sessions.openedTotal, sessions.closedTotal, sessions.evictedTotal, router.reroute.movedTotal])
    out.f64(total);
  out.i32(counters.names.length);
  counters.names.forEach(({ name }, index) => {
    out.text(name);
    out.f64(counters.get(index));
  });
  return out.finish();
}

/** Give every piece of saveRouter to `take`, in order, then call `end`. Throws StateError. */
export class RouterRestorer {
  readonly #router: Router;
  #rows: RowsHere | null = null;
  #announced = 0;

  constructor(router: Router) {
    this.#router = router;
  }

  take(piece: Uint8Array): void {
    const from = new StateReader(piece);
    const kind = from.u8();
    if (kind === AROUND && this.#rows === null) this.#rows = this.#restoreAround(from);
    else if (kind === SESSIONS && this.#rows !== null) {
      const nowMs = this.#router.clock.nowMs();
      while (!from.isDone) restoreSession(this.#router.sessions, from, this.#rows, nowMs);
    } else throw new StateError("a piece that is none, or out of turn");
    if (!from.isDone) throw new StateError("a piece is too long");
  }

  /** Everything was taken: is it all? */
  end(): void {
    const { sessions } = this.#router;
    const { count } = sessions.table;
    if (this.#rows === null || count !== this.#announced)
      throw new StateError(`${count} sessions of ${this.#announced} are there`);
    this.#checkPairs();
    if (this.#router.sessions.nat?.table.isReferenced === false) throw new StateError("a mapping is no session's");
  }

  /** A pair is one session's: what two have could be given back twice, what none has never. */
  #checkPairs(): void {
    const { table, paths, duplicates } = this.#router.sessions;
    const inUse = paths.reduce((sum, { tcpPorts, udpPorts }) => sum + tcpPorts.inUse + udpPorts.inUse, 0);
    const claimed = new Map<ShardedPortPool, Uint8Array>();
    let claims = 0;
    const claim = (side: HandshakeColumns, at: number) => {
      const row = side.portRow[at];
      if (side.path[at] < 0 || row < 0) return;
      const pool = paths[side.path[at]].ports(side.wire[at]);
      const rows = claimed.get(pool) ?? new Uint8Array(PAIRS_MAX);
      claimed.set(pool, rows);
      claims++;
      if (rows[row]++ > 0) throw new StateError("a port pair is two sessions'");
    };
    for (const session of this.#router.sessions.rows()) {
      for (const [way, side] of table.sides.entries()) {
        claim(side, session);
        const row = table.duplicate[session * 2 + way];
        if (row >= 0) claim(duplicates.second, row);
      }
    }
    if (claims !== inUse) throw new StateError(`${inUse} port pairs are in use, and ${claims} sessions'`);
  }

  #restoreAround(from: StateReader): RowsHere {
    const { sessions, policy, config, clock, counters } = this.#router;
    const nowMs = clock.nowMs();
    addressBook.restore(from, performance.now() | 0);
    this.#announced = from.count(sessions.table.capacity, "sessions (sessions.max)");
    restoreSecurities(from, config.securityPolicies, this.#router.securities, this.#router.crypto, nowMs);
    const names = this.#router.metadata.names.restore(from);
    const passed = this.#router.metadata.passed.restore(from);
    const hops = sessions.neighbors.restore(from, sessions.interfaces.length);
    if (from.i32() !== sessions.paths.length) throw new StateError("other peer paths");
    for (const path of sessions.paths)
      path.restore(from, sessions.interfaces[path.interfaceId], sessions.neighbors, nowMs);
    const { nat } = sessions;
    const mappings = nat?.table.restore(from, names, policy.tenants.length, nat.pools.length) ?? new Map();
    for (const chains of this.#router.fragments) chains.restore(from);
    this.#router.ipFragments.restore(from);
    this.#router.samples.restore(from);
    sessions.choice.restore(from);
    policy.loads.restore(from);
    this.#router.security.restoreReplays(from);
    this.#router.egress.restore(from, hops);
    this.#router.retrigger.restore(from);
    this.#router.reports.restore(from);
    this.#router.monitorLosses.restore(from);
    this.#router.events.restore(from);
    sessions.openedTotal = from.f64();
    sessions.closedTotal = from.f64();
    sessions.evictedTotal = from.f64();
    this.#router.reroute.movedTotal = from.f64();
    // A version of another time may count other things: those it has not are forgotten.
    for (let left = from.count(4096, "counters"); left > 0; left--) {
      const index = counters.indexOf(from.text());
      const value = from.f64();
      if (index >= 0) counters.add(index, value);
    }
    return {
      hops,
      names,
      passed,
      mappings,
      tenants: policy.tenants.length,
      services: policy.services.length,
      servicePaths: policy.loads.servicePaths,
    };
  }
}
