// Rewriting by the plans of real sessions, and putting bytes in and taking them out: what the ingress router does to
// any packet, the egress router undoes, damage included.

import test, { type ExecutionContext } from "ava";
import fc from "fast-check";
import { getI32, getU16, setU16 } from "../../lib/base/bytes.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import { takeMark } from "../../lib/engine/fast-path.ts";
import { rewrite } from "../../lib/engine/rewrite.ts";
import { insertBeforePayload, insertUdpHeader, removeBeforePayload, removeUdpHeader } from "../../lib/engine/splice.ts";
import { FRAME_CHECKSUM_KNOWN, FRAME_OF_IPV6, FrameBatch, HEADROOM } from "../../lib/io/port.ts";
import { withLabel } from "../../lib/ipv6/flow-label.ts";
import type { Router } from "../../lib/router.ts";
import { wireProtocol } from "../../lib/session/carrier.ts";
import { OpenRequest } from "../../lib/session/open-request.ts";
import {
  FLOW_NEW_PORTS,
  FLOW_PLAN,
  FLOW_SHIFT,
  OP_INSERT_UDP,
  OP_LABEL,
  OP_REMOVE_UDP,
  OPS_MASK,
} from "../../lib/table/flow-table.ts";
import {
  ipv4HeaderChecksum,
  ipv4HeaderIsRight,
  l4Checksum,
  l4ChecksumOffset,
  l4IsRight,
} from "../../lib/wire/checksum.ts";
import {
  ANY_MAC,
  AT_END,
  AT_L3,
  AT_L4,
  AT_PAYLOAD,
  decodeFrame,
  KEY_PROTOCOL,
  KEY_ROW_WORDS,
} from "../../lib/wire/flow-key.ts";
import { udpFrame } from "../simulate/packets.ts";
import { ENDS } from "../simulate/peer.ts";
import { twoRouters } from "../simulate/topologies.ts";
import { buildFrame, randomBytes, type TestFrame } from "../wire/frames.ts";

const [ICMP, TCP, UDP] = [1, 6, 17];
const [LAN, WAN] = [0, 1];
const CLIENTS = 0x0a010000;
const SERVERS = 0x0a020000;
const WEST_IP = 0xc6120001 | 0;
const EAST_IP = 0xc6120002 | 0;

/** A frame as a port hands it over: headroom in front. */
class Held {
  readonly batch = new FrameBatch(new Uint8Array(4096), 1);
  readonly key = new Int32Array(KEY_ROW_WORDS);

  constructor(frame: Uint8Array) {
    this.batch.bytes.fill(0xee);
    this.batch.bytes.set(frame, HEADROOM);
    this.batch.offset[0] = HEADROOM;
    this.batch.length[0] = frame.length;
    this.batch.count = 1;
    this.decode();
  }

  get bytes(): Uint8Array {
    return this.batch.bytes;
  }

  get frame(): Uint8Array {
    return this.bytes.slice(this.batch.offset[0], this.batch.offset[0] + this.batch.length[0]);
  }

  get protocol(): number {
    return this.bytes[this.key[AT_L3] + 9];
  }

  get isRight(): boolean {
    return (
      ipv4HeaderIsRight(this.bytes, this.key[AT_L3]) &&
      l4IsRight(this.bytes, this.key[AT_L3], this.key[AT_L4], this.key[AT_END])
    );
  }

  decode(): void {
    const verdict = decodeFrame(
      this.batch.view,
      this.batch.offset[0],
      this.batch.length[0],
      0,
      ANY_MAC,
      0,
      this.key,
      0,
    );
    if (verdict !== 0) throw new Error(`verdict ${verdict}`);
  }

  /** The decoder finds the same in the frame as the steps left in the key row. */
  assertKeyIsTrue(t: ExecutionContext): void {
    const left = [AT_L3, AT_L4, AT_PAYLOAD, AT_END].map((at) => this.key[at]);
    this.decode();
    t.deepEqual(
      left,
      [AT_L3, AT_L4, AT_PAYLOAD, AT_END].map((at) => this.key[at]),
    );
  }

  /** Apply a flow's plan as the slow path does, without metadata. */
  apply(router: Router, flow: number, originalProtocol: number): void {
    const { words } = router.sessions.flows;
    const base = flow << FLOW_SHIFT;
    const plan = words[base + FLOW_PLAN];
    if ((plan & OP_REMOVE_UDP) !== 0) removeUdpHeader(this.batch, 0, this.key, originalProtocol);
    rewrite(this.batch.view, this.key[AT_L3], this.key[AT_L4], words, base, false);
    if ((plan & OP_INSERT_UDP) !== 0) insertUdpHeader(this.batch, 0, this.key, words[base + FLOW_NEW_PORTS]);
  }
}

const net = twoRouters();

/** Open the same session on both routers and give `use` the flows' rows: west forward, reverse, east forward, reverse. */
function withSession(context: Int32Array, use: (rows: [number, number, number, number]) => void): void {
  const request = new OpenRequest();
  request.context.set(context);
  request.key.set([context[0], context[1], context[2], (LAN << 8) | context[3]]);
  [request.tenant, request.service] = [0, 0];
  const opened = [net.west, net.east].map((router, far) => {
    const { localRoutes, peerRoute } = router.policy.services[0];
    request.route = localRoutes[0] ?? peerRoute;
    if (far === 1) {
      const { ports } = waypoint;
      request.key.set([WEST_IP, EAST_IP, ports, (WAN << 8) | wireProtocol(context[3])]);
      request.upstreamPath = 0;
      request.interfaceId = WAN;
    }
    const verdict = router.sessions.open(request, nowMs);
    if (verdict !== 0) throw new Error(`verdict ${verdict}`);
    const { table, flows } = router.sessions;
    const session = router.sessions.opened;
    if (far === 0) waypoint = { ports: flows.words[(table.forwardFlow[session] << FLOW_SHIFT) + FLOW_NEW_PORTS] };
    return { router, session, rows: [table.forwardFlow[session], table.reverseFlow[session]] };
  });
  use([...opened[0].rows, ...opened[1].rows] as [number, number, number, number]);
  for (const { router, session } of opened) router.sessions.close(session, nowMs);
  nowMs += 20_000; // no port pair rests when the next session opens
}
let waypoint = { ports: 0 };
let nowMs = 0;

interface Case {
  protocol: number;
  frame: TestFrame;
  context: Int32Array;
}

/** A random packet of a random session, from the client when `forward`. */
function randomCase(seed: number, forward: boolean): Case {
  const random = new SeededRandom(seed);
  const protocol = [TCP, UDP, ICMP][random.below(3)];
  const client = CLIENTS + 2 + random.below(16);
  const server = SERVERS + 2 + random.below(16);
  const sourcePort = random.below(0x10000);
  const destinationPort = protocol === ICMP ? sourcePort : random.below(0x10000);
  const options = (words: number) => new Uint8Array(4 * words).fill(1);
  const frame = buildFrame({
    protocol,
    source: forward ? client : server,
    destination: forward ? server : client,
    sourcePort: forward ? sourcePort : destinationPort,
    destinationPort: forward ? destinationPort : sourcePort,
    ipOptions: options(random.below(4) === 0 ? random.below(11) : 0),
    tcpOptions: options(random.below(11)),
    sequence: random.nextI32(),
    acknowledgment: random.nextI32(),
    flags: random.below(256),
    tos: random.below(256),
    identification: random.below(0x10000),
    window: random.below(0x10000),
    ttl: 3 + random.below(253),
    payload: randomBytes(random, random.below(3) === 0 ? random.below(5) : random.below(1400)),
  });
  return { protocol, frame, context: Int32Array.of(client, server, (sourcePort << 16) | destinationPort, protocol) };
}

/** What must arrive: the same packet, two from its time to live. */
function afterTwoRouters({ bytes, l3 }: TestFrame): Uint8Array {
  const expected = bytes.slice();
  const error = (getU16(bytes, l3 + 10) - ipv4HeaderChecksum(bytes, l3) + 0xffff) % 0xffff;
  expected[l3 + 8] -= 2;
  setU16(expected, l3 + 10, (ipv4HeaderChecksum(expected, l3) + error) % 0xffff);
  return expected;
}

/** Checksum fields as numbers modulo 65535, where 0 and 0xFFFF are one; everything else as it is. */
function normalized(frame: Uint8Array, l3: number, l4: number): Uint8Array {
  const copy = frame.slice();
  for (const at of [l3 + 10, l4 + l4ChecksumOffset(frame[l3 + 9])]) setU16(copy, at, getU16(copy, at) % 0xffff);
  return copy;
}

for (const forward of [true, false]) {
  const way = forward ? "client's" : "server's";

  test(`rewriting and restoring a ${way} packet is identity, and it is right with the waypoint tuple in between`, (t) => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const { protocol, frame, context } = randomCase(seed, forward);
        withSession(context, ([westForward, westReverse, eastForward, eastReverse]) => {
          const held = new Held(frame.bytes);
          if (forward) held.apply(net.west, westForward, protocol);
          else held.apply(net.east, eastReverse, protocol);
          held.assertKeyIsTrue(t);
          const l3 = held.key[AT_L3];
          const l4 = held.key[AT_L4];
          const end = held.key[AT_END];
          const [from, to] = forward ? [WEST_IP, EAST_IP] : [EAST_IP, WEST_IP];
          t.deepEqual([getI32(held.bytes, l3 + 12), getI32(held.bytes, l3 + 16)], [from, to]);
          t.is(held.protocol, wireProtocol(protocol));
          const [local, remote] = [waypoint.ports >>> 16, waypoint.ports & 0xffff];
          t.deepEqual(
            [getU16(held.bytes, l4), getU16(held.bytes, l4 + 2)],
            forward ? [local, remote] : [remote, local],
          );
          // Incremental equals full.
          t.is(getU16(held.bytes, l3 + 10), ipv4HeaderChecksum(held.bytes, l3));
          t.is(getU16(held.bytes, l4 + l4ChecksumOffset(held.protocol)), l4Checksum(held.bytes, l3, l4, end));
          t.is(
            held.frame.length,
            frame.bytes.length + (protocol === ICMP ? 8 : 0),
            "nothing is added but UDP around ICMP",
          );

          if (forward) held.apply(net.east, eastForward, protocol);
          else held.apply(net.west, westReverse, protocol);
          t.deepEqual(held.frame, afterTwoRouters(frame));
        });
      }),
      { numRuns: 300 },
    );
  });

  test(`a wrong checksum of a ${way} packet is as wrong when it is restored, and wrong in between`, (t) => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 0xfffe }), fc.boolean(), (seed, error, inHeader) => {
        const { protocol, frame, context } = randomCase(seed, forward);
        const { bytes, l3, l4 } = frame;
        const at = inHeader ? l3 + 10 : l4 + l4ChecksumOffset(protocol);
        setU16(bytes, at, (getU16(bytes, at) + error) % 0xffff || 0xffff);
        withSession(context, ([westForward, westReverse, eastForward, eastReverse]) => {
          const held = new Held(bytes);
          if (forward) held.apply(net.west, westForward, protocol);
          else held.apply(net.east, eastReverse, protocol);
          // Under ICMP the message is the payload of a UDP datagram, whose own checksum is right.
          if (inHeader || protocol !== ICMP) t.false(held.isRight);
          if (forward) held.apply(net.east, eastForward, protocol);
          else held.apply(net.west, westReverse, protocol);
          t.false(held.isRight);
          t.deepEqual(normalized(held.frame, l3, l4), normalized(afterTwoRouters(frame), l3, l4));
        });
      }),
      { numRuns: 200 },
    );
  });
}

test("a datagram without a checksum has none after every step", (t) => {
  const { frame, context } = ((): Case => {
    for (let seed = 1; ; seed++) if (randomCase(seed, true).protocol === UDP) return randomCase(seed, true);
  })();
  setU16(frame.bytes, frame.l4 + 6, 0);
  withSession(context, ([westForward, , eastForward]) => {
    const held = new Held(frame.bytes);
    held.apply(net.west, westForward, UDP);
    t.is(getU16(held.bytes, held.key[AT_L4] + 6), 0);
    insertBeforePayload(held.batch, 0, held.key, Uint8Array.of(1, 2, 3), 3);
    t.is(getU16(held.bytes, held.key[AT_L4] + 6), 0);
    removeBeforePayload(held.batch, 0, held.key, 3);
    held.apply(net.east, eastForward, UDP);
    t.deepEqual(held.frame, afterTwoRouters(frame));
  });
});

test("putting bytes in front of the payload and taking them out is identity, right or wrong, of even or odd length", (t) => {
  fc.assert(
    fc.property(
      fc.integer(),
      fc.integer({ min: 1, max: HEADROOM }),
      fc.integer({ min: 0, max: 0xfffe }),
      (seed, length, error) => {
        const random = new SeededRandom(seed);
        const { protocol, frame } = randomCase(seed, true);
        if (protocol === ICMP) return;
        const { bytes, l3, l4 } = frame;
        const field = l4 + l4ChecksumOffset(protocol);
        if (error !== 0) setU16(bytes, field, (getU16(bytes, field) + error) % 0xffff || 0xffff);
        const inserted = randomBytes(random, length);
        const held = new Held(bytes);
        const payload = bytes.slice(frame.payload);
        insertBeforePayload(held.batch, 0, held.key, inserted, length);
        t.deepEqual(held.frame.slice(frame.payload), Uint8Array.from([...inserted, ...payload]));
        t.is(held.isRight, error === 0);
        if (error === 0) {
          const [at, end] = [held.key[AT_L4], held.key[AT_END]];
          t.is(getU16(held.bytes, at + l4ChecksumOffset(protocol)), l4Checksum(held.bytes, held.key[AT_L3], at, end));
        }
        held.assertKeyIsTrue(t);
        t.is(held.key[KEY_PROTOCOL] & 0xff, protocol);
        removeBeforePayload(held.batch, 0, held.key, length);
        t.deepEqual(normalized(held.frame, l3, l4), normalized(bytes, l3, l4));
        held.assertKeyIsTrue(t);
      },
    ),
    { numRuns: 500 },
  );
});

test("the payload never moves: headers slide into the headroom and back", (t) => {
  const { frame } = randomCase(1, true);
  const held = new Held(buildFrame({ protocol: UDP, payload: frame.bytes }).bytes);
  const before = held.key[AT_PAYLOAD];
  insertBeforePayload(held.batch, 0, held.key, new Uint8Array(100), 100);
  t.is(held.key[AT_PAYLOAD] + 100, before);
  t.is(held.batch.offset[0], HEADROOM - 100);
  removeBeforePayload(held.batch, 0, held.key, 60);
  t.is(held.key[AT_PAYLOAD], before - 40);
  t.deepEqual(held.bytes.slice(before, before + frame.bytes.length), frame.bytes);
});

test("a router's label says that a packet may be cut, a host's says nothing; a wrong header checksum stays wrong", (t) => {
  for (const isDamaged of [false, true]) {
    for (const [label, plan, isTaken] of [
      [0x1_1234, 0, true],
      [0xf_ffff, OPS_MASK & ~OP_LABEL, true],
      [0xe_ffff, 0, false],
      [0x1_1234, OP_LABEL, false],
      [0xf_ffff, OPS_MASK, false],
    ] as const) {
      const { batch, key, bytes } = new Held(udpFrame(ENDS, "said"));
      const l3 = key[AT_L3];
      if (isDamaged) bytes[l3 + 10] ^= 0x40;
      batch.flags[0] = FRAME_CHECKSUM_KNOWN | withLabel(label);
      takeMark(batch, 0, l3, plan);
      t.is(getU16(bytes, l3 + 6), isTaken ? 0 : 0x4000);
      t.is(ipv4HeaderIsRight(bytes, l3), !isDamaged);
      // Its segments have identifications of their own.
      const ofIpv6 = (plan & OP_LABEL) === 0 ? 0 : FRAME_OF_IPV6;
      t.is(batch.flags[0], FRAME_CHECKSUM_KNOWN | ofIpv6 | (isTaken ? 0 : withLabel(label)));
    }
    const { batch, key, bytes } = new Held(udpFrame(ENDS, "came over IPv4"));
    takeMark(batch, 0, key[AT_L3], 0);
    t.is(getU16(bytes, key[AT_L3] + 6), 0x4000);
  }
});
