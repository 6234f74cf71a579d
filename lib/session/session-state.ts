// One session as bytes, for another process that goes on with it, and back: what both its flows and its columns say.
// Times are the clock's own, so both processes must have the same clock. Rows of neighbors and names are those of the
// process that wrote them; of everything else the configuration gives the rows.

import { StateError, type StateReader, type StateWriter } from "../base/state.ts";
import { CARRIED_BYTES } from "../table/carried-attributes.ts";
import {
  FLOW_DESTINATION,
  FLOW_LAST_SEEN,
  FLOW_NEW_DESTINATION,
  FLOW_NEW_PORTS,
  FLOW_NEW_SOURCE,
  FLOW_NEXT_HOP,
  FLOW_PACKETS_F64,
  FLOW_PLAN,
  FLOW_PORTS,
  FLOW_PROTOCOL,
  FLOW_SESSION,
  FLOW_SHIFT,
  FLOW_SOURCE,
  GENERATION_MASK,
  OP_REVERSE,
  OPS_MASK,
  planEgress,
} from "../table/flow-table.ts";
import {
  FORWARD,
  type HandshakeColumns,
  PAYLOAD_WATCHED,
  REVERSE,
  SIDE_ESTABLISHED,
  SIDE_PLAIN,
} from "../table/session-table.ts";
import { mayTravelAs } from "./carrier.ts";
import type { Sessions } from "./open.ts";
import { TCP_RESET_REVERSE_ALIVE } from "./tcp-state.ts";

/** What the rows that a session names are here. */
export interface RowsHere {
  readonly hops: ReadonlyMap<number, number>;
  readonly names: readonly number[];
  readonly passed: readonly number[];
  readonly mappings: ReadonlyMap<number, number>;
  readonly tenants: number;
  readonly services: number;
  readonly servicePaths: number;
}

export function saveSession(sessions: Sessions, session: number, out: StateWriter): void {
  const { table } = sessions;
  out.i32(table.tenant[session]);
  out.i32(table.service[session]);
  out.i32(table.servicePath[session]);
  out.words(table.uuid, session * 4, session * 4 + 4);
  out.words(table.context, session * 4, session * 4 + 4);
  out.i32(table.sourceRouter[session]);
  out.i32(table.passed[session]);
  out.i32(table.opened[session]);
  out.u8(table.tcpState[session]);
  out.words(table.tcpNumbers, session * 4, session * 4 + 4);
  out.u8(table.healthCheck[session]);
  out.u8(table.moves[session]);
  out.i32(table.segmentSize[session * 2]);
  out.i32(table.segmentSize[session * 2 + 1]);
  for (const way of [FORWARD, REVERSE]) out.u8(table.dscp[session * 2 + way]);
  out.u8(table.payload[session]);
  out.i32(table.payloadPolicy[session]);
  out.i32(table.payloadKeyVersion[session]);
  out.words(table.encryptedFrom, session * 2, session * 2 + 2);
  out.u8(table.hasEncryptedFrom[session]);
  const key = session * table.keyStride;
  out.raw(table.keys.subarray(key, key + table.keyLength(session)));
  out.i32(table.mappingOf(session));
  out.i32(table.hairpinOf(session));
  const presented = table.presented.get(session);
  out.flag(presented !== undefined);
  if (presented !== undefined) out.i32(presented.address);
  if (presented !== undefined) out.i32(presented.port);
  out.u8(table.translatedBeyond[session]);
  const along = table.inward.get(session);
  out.flag(along !== undefined);
  if (along !== undefined) out.words(along, 0, 4);
  saveFlow(sessions, table.forwardFlow[session], out);
  saveFlow(sessions, table.reverseFlow[session], out);
  for (const side of table.sides) saveSide(sessions, side, session, out);
  for (const way of [FORWARD, REVERSE]) saveDuplication(sessions, session, way, out);
  for (const direction of [FORWARD, REVERSE]) {
    out.raw(table.carried.header(session, direction));
    out.raw(table.carried.payload(session, direction));
  }
}

/** What numbers a side's packets, and its second path. */
function saveDuplication(sessions: Sessions, session: number, way: number, out: StateWriter): void {
  const { table, duplicates } = sessions;
  const row = table.duplicate[session * 2 + way];
  out.flag(row >= 0);
  if (row < 0) return;
  duplicates.save(row, out);
  saveHandshake(duplicates.second, row, out);
  if (duplicates.flow[row] >= 0) saveFlow(sessions, duplicates.flow[row], out);
}

function saveHandshake(side: HandshakeColumns, row: number, out: StateWriter): void {
  out.u8(side.state[row]);
  out.i32(side.path[row]);
  out.u8(side.wire[row]);
  out.i32(side.portRow[row]);
  out.u8(side.unanswered[row]);
  out.i32(side.unansweredSinceMs[row]);
  out.i32(side.generatedMs[row]);
}

function saveSide(sessions: Sessions, side: HandshakeColumns, session: number, out: StateWriter): void {
  saveHandshake(side, session, out);
  out.flag(side.lingering[session] >= 0);
  if (side.lingering[session] < 0) return;
  out.i32(side.movedMs[session]);
  saveFlow(sessions, side.lingering[session], out);
}

function saveFlow({ flows }: Sessions, flow: number, out: StateWriter): void {
  const base = flow << FLOW_SHIFT;
  const { words } = flows;
  const plan = words[base + FLOW_PLAN];
  out.words(words, base, base + FLOW_NEW_PORTS + 1);
  out.i32(plan & OPS_MASK);
  out.u8(planEgress(plan));
  // It is looked at again before its next packet.
  out.flag((plan & GENERATION_MASK) !== flows.generation);
  out.i32(words[base + FLOW_NEXT_HOP]);
  out.i32(words[base + FLOW_LAST_SEEN]);
  out.f64(flows.packets(flow));
  out.f64(flows.bytes(flow));
}

/** Go on with the session that is written next. Throws StateError where that cannot be. */
export function restoreSession(sessions: Sessions, from: StateReader, here: RowsHere, nowMs: number): void {
  const { table } = sessions;
  const session = table.allocate(0);
  if (session < 0) throw new StateError(`there are more sessions than the ${table.capacity} of sessions.max`);
  table.tenant[session] = from.row(here.tenants, "tenant");
  table.service[session] = from.row(here.services, "service");
  table.servicePath[session] = from.row(here.servicePaths, "service path");
  from.words(table.uuid, session * 4, session * 4 + 4);
  from.words(table.context, session * 4, session * 4 + 4);
  table.sourceRouter[session] = nameRow(from, here);
  table.passed[session] = here.passed[from.row(here.passed.length, "list of routers")];
  table.opened[session] = from.i32();
  table.tcpState[session] = from.code(TCP_RESET_REVERSE_ALIVE);
  from.words(table.tcpNumbers, session * 4, session * 4 + 4);
  table.healthCheck[session] = from.code(3);
  table.moves[session] = from.u8();
  for (const direction of [FORWARD, REVERSE]) table.setSegmentSize(session, direction, from.i32());
  for (const way of [FORWARD, REVERSE]) table.dscp[session * 2 + way] = from.u8();
  table.payload[session] = from.code(PAYLOAD_WATCHED);
  table.payloadPolicy[session] = nameRow(from, here);
  table.payloadKeyVersion[session] = from.i32();
  from.words(table.encryptedFrom, session * 2, session * 2 + 2);
  table.hasEncryptedFrom[session] = from.code(31);
  const key = from.raw();
  if (key.length > table.keyStride) throw new StateError("a session has a key, and here is no room for any");
  if (key.length > 0) table.setKey(session, key, key.length);
  table.setMapping(session, restoreMapping(sessions, from.i32(), here));
  table.setHairpin(session, restoreMapping(sessions, from.i32(), here));
  if (from.flag()) table.presented.set(session, { address: from.i32(), port: from.count(0xffff, "port") });
  table.translatedBeyond[session] = from.code(1);
  if (from.flag()) {
    const along = new Int32Array(4);
    from.words(along, 0, 4);
    table.inward.set(session, along);
  }
  table.forwardFlow[session] = restoreFlow(sessions, session, FORWARD, from, here);
  table.reverseFlow[session] = restoreFlow(sessions, session, REVERSE, from, here);
  for (const way of [FORWARD, REVERSE]) restoreSide(sessions, session, way, from, here);
  for (const way of [FORWARD, REVERSE]) restoreDuplication(sessions, session, way, from, here);
  for (const direction of [FORWARD, REVERSE]) {
    const header = from.raw();
    const payload = from.raw();
    if (header.length + payload.length > CARRIED_BYTES)
      throw new StateError("a session has more attributes to pass on than there is room for");
    if (header.length + payload.length > 0) table.carried.keep(session, direction, header, payload);
  }
  if (!sessions.goOn(session, nowMs)) throw new StateError("two sessions have one identifier");
}

/** A reference to the mapping that has row `there` in the process that wrote it; -1 = none. */
function restoreMapping({ nat }: Sessions, there: number, { mappings }: RowsHere): number {
  if (there === -1) return -1;
  const row = mappings.get(there);
  if (row === undefined) throw new StateError("a session has a mapping that is none");
  nat!.table.hold(row);
  return row;
}

function nameRow(from: StateReader, { names }: RowsHere): number {
  return names[from.row(names.length, "name")];
}

function restoreSide(sessions: Sessions, session: number, way: number, from: StateReader, here: RowsHere): void {
  const side = sessions.table.sides[way];
  restoreHandshake(sessions, session, side, session, from);
  if (!from.flag()) return;
  side.movedMs[session] = from.i32();
  side.lingering[session] = restoreFlow(sessions, session, way, from, here);
}

function restoreHandshake(
  { table, paths }: Sessions,
  session: number,
  side: HandshakeColumns,
  row: number,
  from: StateReader,
): void {
  const state = from.code(SIDE_ESTABLISHED);
  const path = from.row(paths.length, "peer path", -1);
  const wire = from.u8();
  const portRow = from.i32();
  if (path < 0 ? wire !== 0 : !mayTravelAs(wire, table.context[session * 4 + 3]))
    throw new StateError("a session travels as a protocol that it cannot travel as");
  if ((state === SIDE_PLAIN) !== path < 0) throw new StateError("a side's state and path contradict each other");
  side.start(row, path, portRow, wire);
  side.state[row] = state;
  side.unanswered[row] = from.u8();
  side.unansweredSinceMs[row] = from.i32();
  side.generatedMs[row] = from.i32();
  if (portRow === -1) return;
  const pairs = path < 0 ? null : paths[path].ports(wire);
  if (pairs === null || portRow < 0 || !pairs.isInUse(portRow)) throw new StateError("a port pair is nobody's");
}

function restoreDuplication(sessions: Sessions, session: number, way: number, from: StateReader, here: RowsHere): void {
  if (!from.flag()) return;
  const { table, duplicates } = sessions;
  const row = duplicates.allocate(0);
  if (row < 0) throw new StateError("there are more duplicated sessions than limits.duplicated-sessions");
  table.duplicate[session * 2 + way] = row;
  duplicates.restore(row, from);
  restoreHandshake(sessions, session, duplicates.second, row, from);
  if (duplicates.second.path[row] >= 0) duplicates.flow[row] = restoreFlow(sessions, session, way, from, here);
}

function restoreFlow(sessions: Sessions, session: number, way: number, from: StateReader, here: RowsHere): number {
  const { flows, interfaces } = sessions;
  const words = new Int32Array(FLOW_NEW_PORTS + 1);
  from.words(words, 0, words.length);
  const ops = from.i32() & OPS_MASK;
  const egress = from.code(interfaces.length - 1);
  const isStale = from.flag();
  const hop = here.hops.get(from.i32());
  const lastSeenMs = from.i32();
  const counts = [from.f64(), from.f64()];
  if (hop === undefined) throw new StateError("a flow leads to no neighbor");
  if (((ops & OP_REVERSE) !== 0) !== (way === REVERSE)) throw new StateError("a flow goes the other way");
  if (words[FLOW_PROTOCOL] >>> 8 >= interfaces.length) throw new StateError("a flow comes from no interface");
  const flow = flows.insert(words[FLOW_SOURCE], words[FLOW_DESTINATION], words[FLOW_PORTS], words[FLOW_PROTOCOL]);
  if (flow < 0) throw new StateError("two flows have one key");
  sessions.plan(flow, words[FLOW_NEW_SOURCE], words[FLOW_NEW_DESTINATION], words[FLOW_NEW_PORTS], egress, hop, ops);
  const base = flow << FLOW_SHIFT;
  if (isStale) flows.makeStale(flow);
  flows.words[base + FLOW_SESSION] = session;
  flows.words[base + FLOW_LAST_SEEN] = lastSeenMs;
  flows.doubles.set(counts, (flow << 3) + FLOW_PACKETS_F64);
  return flow;
}
