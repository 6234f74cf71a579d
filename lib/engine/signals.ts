// What the router says to its peers about a session for want of a packet that would carry it: reverse metadata, stop,
// "I know this session", "send metadata" (protocol sheet 4.3, 4.5, 7.4). Each travels alone in a packet of the session's own
// waypoint tuple, and goes no further than the peer.

import { elapsedMs } from "../base/clock.ts";
import type { PeerPath } from "../peer/peer-path.ts";
import { keepAliveDueInMs, remainingS, silentMs } from "../session/expire.ts";
import * as handshake from "../session/metadata-handshake.ts";
import { type Sessions, swapPorts, wireProtocol } from "../session/open.ts";
import type { SessionMetadata } from "../session/session-metadata.ts";
import type { CounterSet } from "../table/counter-set.ts";
import {
  FLOW_NEW_DESTINATION,
  FLOW_NEW_PORTS,
  FLOW_NEW_SOURCE,
  FLOW_NEXT_HOP,
  FLOW_PLAN,
  FLOW_SHIFT,
  planEgress,
} from "../table/flow-table.ts";
import { FORWARD, REVERSE } from "../table/session-table.ts";
import { AT_L4, KEY_PORTS, KEY_PROTOCOL, PROTOCOL_TCP } from "../wire/flow-key.ts";
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
import type { Tunnel } from "./tunnel.ts";

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

  /** Generate what the session's handshake has waited for long enough: the answer to the initiator, the stop to the responder. */
  generateIfDue(session: number, nowMs: number): void {
    const { upstream, downstream } = this.#sessions.table;
    if (handshake.answerDueInMs(upstream, session, nowMs) === 0) {
      const path = this.#sessions.paths[upstream.path[session]];
      const version = this.#security.version(path, nowMs);
      this.#send(session, REVERSE, this.#metadata.writeDisableForward(session, path, version), nowMs);
      handshake.generated(upstream, session, nowMs);
    }
    if (handshake.stopDueInMs(downstream, session, nowMs) === 0) {
      // Bare forward packets that went out on the fast path meanwhile have said it already.
      const waited = elapsedMs(nowMs, downstream.unansweredSinceMs[session]);
      if (silentMs(this.#sessions, session, FORWARD, nowMs) < waited) {
        handshake.answered(downstream, session);
        return;
      }
      this.#control(session, FORWARD, CONTROL_DISABLE_METADATA, nowMs);
      handshake.generated(downstream, session, nowMs);
    }
  }

  /** Send an empty packet where the NAT in front of us would otherwise forget the session (protocol sheet 6.7). */
  keepAliveIfDue(session: number, nowMs: number): void {
    const { sides } = this.#sessions.table;
    for (const direction of [FORWARD, REVERSE]) {
      if (keepAliveDueInMs(this.#sessions, session, direction, nowMs) > 0) continue;
      this.#control(session, direction, CONTROL_KEEP_ALIVE, nowMs);
      handshake.keptAlive(sides[1 - direction], session, nowMs);
    }
  }

  /** Answer a health check that came in `direction`, in a packet with `asked` bytes of payload: the session is known. */
  confirm(session: number, direction: number, asked: number, nowMs: number): void {
    const { paths, table } = this.#sessions;
    if (!this.#mayAnswer(paths[table.sides[direction].path[session]], asked, nowMs)) return;
    this.#control(session, 1 - direction, CONTROL_SESSION_EXISTS, nowMs);
  }

  /** Tell the peer that packets in `direction` go to of the session, which it may have lost. */
  tellAgain(session: number, direction: number, nowMs: number): void {
    const { paths, table } = this.#sessions;
    const path = paths[table.sides[1 - direction].path[session]];
    const version = this.#security.version(path, nowMs);
    const remaining = remainingS(this.#sessions, session, nowMs);
    this.#send(session, direction, this.#metadata.writeAgain(session, direction, path, version, remaining), nowMs);
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
    this.#send(session, direction, length, nowMs);
  }

  #control(session: number, direction: number, reason: number, nowMs: number): void {
    const { paths, table } = this.#sessions;
    const version = this.#security.version(paths[table.sides[1 - direction].path[session]], nowMs);
    this.#send(session, direction, this.#metadata.writeControl(reason, version), nowMs);
  }

  /** Answer a packet, with `asked` bytes of payload, of a session we do not know, on its tuple swapped: send metadata. */
  askForMetadata(bytes: Uint8Array, key: Int32Array, path: PeerPath, asked: number, nowMs: number): void {
    if (!this.#mayAnswer(path, asked, nowMs)) return;
    const length = this.#metadata.writeControl(CONTROL_ENABLE_METADATA, this.#security.version(path, nowMs));
    const protocol = key[KEY_PROTOCOL] & 0xff;
    const ports = swapPorts(key[KEY_PORTS]);
    path.hasAsked(ports, nowMs);
    // Firewalls and NATs on the way back follow TCP's numbers.
    const isTcp = protocol === PROTOCOL_TCP;
    const sequence = isTcp ? getTcpAcknowledgment(bytes, key[AT_L4]) : 0;
    const acknowledgment = isTcp ? getTcpSequence(bytes, key[AT_L4]) : 0;
    const { buffer } = this.#writer;
    this.#generator.carrier(protocol, path.local, path.remote, ports, sequence, acknowledgment, buffer, length);
    this.#transmit(path, path.interfaceId, path.nextHop, nowMs);
  }

  /** Send the writer's metadata alone, in the given direction of the session. */
  #send(session: number, direction: number, metadataLength: number, nowMs: number): void {
    const { flows, paths, table } = this.#sessions;
    const { words } = flows;
    const path = paths[table.sides[1 - direction].path[session]];
    const base = table.flow(session, direction) << FLOW_SHIFT;
    const said = session * 4 + direction * 2;
    const heard = session * 4 + (1 - direction) * 2;
    this.#generator.carrier(
      wireProtocol(table.context[session * 4 + 3]),
      words[base + FLOW_NEW_SOURCE],
      words[base + FLOW_NEW_DESTINATION],
      words[base + FLOW_NEW_PORTS],
      table.tcpNumbers[said] || table.tcpNumbers[heard + 1],
      table.tcpNumbers[heard],
      this.#writer.buffer,
      this.#security.sealMetadata(this.#writer, metadataLength, path, nowMs),
    );
    const tunnel = this.#sessions.isTunnelled(session, direction) ? this.#tunnel : null;
    const hop = tunnel === null ? words[base + FLOW_NEXT_HOP] : path.nextHop;
    this.#transmit(path, planEgress(words[base + FLOW_PLAN]), hop, nowMs, tunnel);
  }

  #transmit(path: PeerPath, egress: number, hop: number, nowMs: number, tunnel: Tunnel | null = null): void {
    this.#counters.increment(METADATA_GENERATED);
    this.#made.send(path, egress, hop, nowMs, tunnel);
  }
}
