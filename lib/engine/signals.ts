// What the router says to its peers about a session for want of a packet that would carry it: reverse metadata, stop,
// "I know this session", "send metadata" (protocol sheet 4.3, 4.5, 7.4). Each travels alone in a packet of the session's own
// waypoint tuple, and goes no further than the peer.

import { elapsedMs } from "../base/clock.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import { keepAliveDueInMs, remainingS, silentMs } from "../session/expire.ts";
import * as handshake from "../session/metadata-handshake.ts";
import { type Sessions, swapPorts } from "../session/open.ts";
import type { SessionMetadata } from "../session/session-metadata.ts";
import type { CounterSet } from "../table/counter-set.ts";
import { FLOW_DESTINATION, FLOW_PORTS, FLOW_SHIFT, FLOW_SOURCE } from "../table/flow-table.ts";
import { FORWARD, type HandshakeColumns, REVERSE } from "../table/session-table.ts";
import { AT_L4, KEY_PORTS, KEY_PROTOCOL, PROTOCOL_TCP, PROTOCOL_UDP } from "../wire/flow-key.ts";
import type { MetadataWriter } from "../wire/metadata.ts";
import {
  CONTROL_DISABLE_METADATA,
  CONTROL_ENABLE_METADATA,
  CONTROL_KEEP_ALIVE,
  CONTROL_SESSION_EXISTS,
} from "../wire/metadata-attributes.ts";
import { getTcpAcknowledgment, getTcpSequence } from "../wire/tcp.ts";
import { ANSWERS_WITHHELD, METADATA_GENERATED } from "./counters.ts";
import type { Egress } from "./egress.ts";
import type { Generator } from "./generate.ts";
import { MadePacket } from "./made-packet.ts";
import type { PacketSecurity } from "./packet-security.ts";
import { TCP_REST, writeTcpRest } from "./tcp-in-udp.ts";
import type { Tunnel } from "./tunnel.ts";

/** One of the ways between us and the peer on a session's side `way`: by its own path, or by its second one. */
interface Leg {
  readonly session: number;
  readonly way: number;
  readonly side: HandshakeColumns;
  readonly row: number;
  /** That the peer's packets come by. */
  readonly flow: number;
}

const NOTHING = new Uint8Array(0);

/** A control message: base header, attributes 16 and 24. A health check has as many. */
const CONTROL_BYTES = 25;

export class Signals {
  readonly #sessions: Sessions;
  readonly #metadata: SessionMetadata;
  readonly #writer: MetadataWriter;
  readonly #generator: Generator;
  readonly #counters: CounterSet;
  readonly #security: PacketSecurity;
  readonly #made: MadePacket;
  readonly #metrics = { txColor: 0, txTimeMs: 0, rxColor: 0, rxTimeMs: 0, drop: false, previousRxCount: 0 };
  readonly #tunnel: Tunnel;

  constructor(parts: {
    sessions: Sessions;
    metadata: SessionMetadata;
    writer: MetadataWriter;
    egress: Egress;
    generator: Generator;
    counters: CounterSet;
    security: PacketSecurity;
    tunnel: Tunnel;
  }) {
    this.#sessions = parts.sessions;
    this.#metadata = parts.metadata;
    this.#writer = parts.writer;
    this.#made = new MadePacket(parts);
    this.#generator = parts.generator;
    this.#counters = parts.counters;
    this.#security = parts.security;
    this.#tunnel = parts.tunnel;
  }

  /** Generate what the session's handshakes have waited for long enough: the answer to the initiator, the stop to the responder. */
  generateIfDue(session: number, nowMs: number): void {
    for (const way of [FORWARD, REVERSE]) {
      this.#generateOn(this.#firstLeg(session, way), nowMs);
      const second = this.#secondLeg(session, way);
      if (second !== null) this.#generateOn(second, nowMs);
    }
  }

  #generateOn(leg: Leg, nowMs: number): void {
    const { session, way, side, row } = leg;
    if (way === FORWARD) {
      if (handshake.answerDueInMs(side, row, nowMs) > 0) return;
      const path = this.#sessions.paths[side.path[row]];
      const version = this.#security.version(path, nowMs);
      this.#send(leg, this.#metadata.writeDisableForward(session, path, version), nowMs);
      handshake.generated(side, row, nowMs);
      return;
    }
    if (handshake.stopDueInMs(side, row, nowMs) > 0) return;
    // Bare forward packets that went out on the fast path meanwhile have said it already.
    const waited = elapsedMs(nowMs, side.unansweredSinceMs[row]);
    if (silentMs(this.#sessions, session, FORWARD, nowMs) < waited) {
      handshake.answered(side, row);
      return;
    }
    this.#control(leg, CONTROL_DISABLE_METADATA, nowMs);
    handshake.generated(side, row, nowMs);
  }

  /** Send an empty packet where the NAT in front of us would otherwise forget the session (protocol sheet 6.7). */
  keepAliveIfDue(session: number, nowMs: number): void {
    for (const way of [FORWARD, REVERSE]) {
      this.#keepAliveOn(this.#firstLeg(session, way), nowMs);
      const second = this.#secondLeg(session, way);
      if (second !== null) this.#keepAliveOn(second, nowMs);
    }
  }

  #keepAliveOn(leg: Leg, nowMs: number): void {
    const { session, way, side, row } = leg;
    if (keepAliveDueInMs(this.#sessions, session, 1 - way, nowMs, side, row) > 0) return;
    this.#control(leg, CONTROL_KEEP_ALIVE, nowMs);
    handshake.keptAlive(side, row, nowMs);
  }

  /** Answer a health check that came in `direction`, in a packet with `asked` bytes of payload: the session is known. */
  confirm(session: number, direction: number, asked: number, nowMs: number): void {
    const { paths, table } = this.#sessions;
    if (!this.#mayAnswer(paths[table.sides[direction].path[session]], asked, nowMs)) return;
    this.#control(this.#firstLeg(session, direction), CONTROL_SESSION_EXISTS, nowMs);
  }

  /** Tell the peer on the session's side `way` of it, over the path of that side: it may have lost the session. */
  tellAgain(session: number, way: number, nowMs: number): void {
    this.#tellOn(this.#firstLeg(session, way), nowMs);
  }

  /** The same over the second path. */
  tellSecondAgain(session: number, way: number, nowMs: number): void {
    const second = this.#secondLeg(session, way);
    if (second !== null) this.#tellOn(second, nowMs);
  }

  #tellOn(leg: Leg, nowMs: number): void {
    const { session, way, side, row } = leg;
    const path = this.#sessions.paths[side.path[row]];
    const version = this.#security.version(path, nowMs);
    const remaining = remainingS(this.#sessions, session, nowMs);
    this.#send(leg, this.#metadata.writeAgain(session, 1 - way, path, version, remaining), nowMs);
  }

  /** Nothing is answered with more bytes than asked, nor too often: without keys anybody may ask in the peer's name. */
  #mayAnswer(path: PeerPath, asked: number, nowMs: number): boolean {
    if (asked >= CONTROL_BYTES && path.mayAnswer(nowMs)) return true;
    this.#counters.increment(ANSWERS_WITHHELD);
    return false;
  }

  /** Tell the peer of its marks by a packet made for that, on a session that they came by. */
  reportMetrics(path: PeerPath, nowMs: number): void {
    const { table } = this.#sessions;
    const session = path.metricsBy >> 1;
    const direction = path.metricsBy & 1;
    const isThere = path.metricsBy >= 0 && table.isLive(session);
    if (!isThere || table.sides[1 - direction].path[session] !== path.row) return;
    path.metrics!.fillReport(this.#metrics, nowMs);
    const length = this.#metadata.writeMetrics(this.#metrics, this.#security.version(path, nowMs));
    this.#send(this.#firstLeg(session, 1 - direction), length, nowMs);
  }

  /**
   * Pass an ICMP error, the first `length` bytes of `message`, on to the peer on the session's side `way`: `location` raised it.
   * False when no path there is up.
   */
  passError(
    session: number,
    way: number,
    location: number,
    message: Uint8Array,
    length: number,
    nowMs: number,
  ): boolean {
    const { paths } = this.#sessions;
    const leg = this.#legOfErrors(session, way);
    if (!paths[leg.side.path[leg.row]].up) return false;
    const version = this.#security.version(paths[leg.side.path[leg.row]], nowMs);
    const metadataLength = this.#metadata.writeIcmpError(location, version);
    this.#send(leg, metadataLength, nowMs, message.subarray(0, length));
    return true;
  }

  /** By which the peer's packets come on whose tuple passError sends: an error quotes that one. */
  flowOfErrors(session: number, way: number): number {
    return this.#legOfErrors(session, way).flow;
  }

  #legOfErrors(session: number, way: number): Leg {
    const first = this.#firstLeg(session, way);
    if (this.#sessions.paths[first.side.path[first.row]].up) return first;
    return this.#secondLeg(session, way) ?? first;
  }

  /** Pass the first `length` bytes of `message`, an ICMP error about a packet of no session, back to the peer it came from, on its tuple swapped. */
  passRefusal(
    bytes: Uint8Array,
    key: Int32Array,
    path: PeerPath,
    message: Uint8Array,
    length: number,
    nowMs: number,
  ): void {
    const metadataLength = this.#metadata.writeIcmpError(path.local, this.#security.version(path, nowMs));
    const { buffer } = this.#writer;
    buffer.set(message.subarray(0, length), metadataLength);
    this.#back(bytes, key, path, metadataLength + length, nowMs);
  }

  #control(leg: Leg, reason: number, nowMs: number): void {
    const version = this.#security.version(this.#sessions.paths[leg.side.path[leg.row]], nowMs);
    this.#send(leg, this.#metadata.writeControl(reason, version), nowMs);
  }

  /** Answer a packet, with `asked` bytes of payload, of a session we do not know, on its tuple swapped: send metadata. */
  askForMetadata(bytes: Uint8Array, key: Int32Array, path: PeerPath, asked: number, nowMs: number): void {
    if (!this.#mayAnswer(path, asked, nowMs)) return;
    const length = this.#metadata.writeControl(CONTROL_ENABLE_METADATA, this.#security.version(path, nowMs));
    path.hasAsked(swapPorts(key[KEY_PORTS]), nowMs);
    this.#back(bytes, key, path, length, nowMs);
  }

  /** The first `length` bytes of the writer's buffer, back to the peer that a packet came from. */
  #back(bytes: Uint8Array, key: Int32Array, path: PeerPath, length: number, nowMs: number): void {
    const protocol = key[KEY_PROTOCOL] & 0xff;
    // Firewalls and NATs on the way back follow TCP's numbers.
    const isTcp = protocol === PROTOCOL_TCP;
    const sequence = isTcp ? getTcpAcknowledgment(bytes, key[AT_L4]) : 0;
    const acknowledgment = isTcp ? getTcpSequence(bytes, key[AT_L4]) : 0;
    const { buffer } = this.#writer;
    const ports = swapPorts(key[KEY_PORTS]);
    this.#generator.carrier(protocol, path.local, path.remote, ports, sequence, acknowledgment, buffer, length);
    this.#transmit(path, path.interfaceId, path.nextHop, nowMs);
  }

  /** Send the writer's metadata alone, or with `behind` behind it. */
  #send(
    { session, way, side, row, flow }: Leg,
    metadataLength: number,
    nowMs: number,
    behind: Uint8Array = NOTHING,
  ): void {
    const { flows, paths, table } = this.#sessions;
    const { words } = flows;
    const path = paths[side.path[row]];
    const direction = 1 - way;
    const said = session * 4 + direction * 2;
    const heard = session * 4 + way * 2;
    // As what comes from there, with its ends swapped.
    const base = flow << FLOW_SHIFT;
    const sealed = this.#security.sealMetadata(this.#writer, metadataLength, path, nowMs);
    const { buffer } = this.#writer;
    const sequence = table.tcpNumbers[said] || table.tcpNumbers[heard + 1];
    const acknowledgment = table.tcpNumbers[heard];
    let end = sealed + behind.length;
    buffer.set(behind, sealed);
    // TCP that goes as UDP has the rest of its header there, and says by it what has come.
    if (behind.length === 0 && side.wire[row] === PROTOCOL_UDP && table.context[session * 4 + 3] === PROTOCOL_TCP) {
      writeTcpRest(buffer, sealed, sequence, acknowledgment);
      end += TCP_REST;
    }
    this.#generator.carrier(
      side.wire[row],
      words[base + FLOW_DESTINATION],
      words[base + FLOW_SOURCE],
      swapPorts(words[base + FLOW_PORTS]),
      sequence,
      acknowledgment,
      buffer,
      end,
    );
    const isTunnelled = side === table.sides[way] && this.#sessions.isTunnelled(session, direction);
    this.#transmit(path, path.interfaceId, path.nextHop, nowMs, isTunnelled ? this.#tunnel : null);
  }

  #firstLeg(session: number, way: number): Leg {
    const { table } = this.#sessions;
    return { session, way, side: table.sides[way], row: session, flow: table.flow(session, way) };
  }

  #secondLeg(session: number, way: number): Leg | null {
    if (this.#sessions.secondPath(session, way) < 0) return null;
    const { table, duplicates } = this.#sessions;
    const row = table.duplicate[session * 2 + way];
    return { session, way, side: duplicates.second, row, flow: duplicates.flow[row] };
  }

  #transmit(path: PeerPath, egress: number, hop: number, nowMs: number, tunnel: Tunnel | null = null): void {
    this.#counters.increment(METADATA_GENERATED);
    this.#made.send(path, egress, hop, nowMs, tunnel);
  }
}
