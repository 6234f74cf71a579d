// Protocols without ports between routers (protocol sheet 2.5): any number crosses in UDP, one session for each pair of
// hosts and protocol, however it is protected. And the byte of the type of service: what is not ours to change, and what
// devices between routers mark in it, arrives.

import test from "ava";
import { setU16 } from "../../lib/base/bytes.ts";
import { fold, pseudoHeaderSum } from "../../lib/wire/checksum.ts";
import { ACK, PSH, SYN } from "../../lib/wire/tcp.ts";
import {
  echoFrame,
  pattern,
  protocolFrame,
  type SeenPacket,
  swapEnds,
  tcpFrame,
  udpFrame,
  withHeader,
} from "./packets.ts";
import { ENDS } from "./peer.ts";
import { AES_256, EVERY_PACKET, fabricText, payloadText, SIGNED } from "./protection.ts";
import {
  CHAINS,
  CLIENT,
  noDrops,
  type Protection,
  packetsOn,
  SERVER,
  sessionRows,
  type TwoRouters,
  twoRouters,
} from "./topologies.ts";

const PROTECTIONS: [string, Protection][] = [
  ["in clear", {}],
  ["signed", { fabric: fabricText("sha256-128", "time-based", "metadata", "none") }],
  ["with every packet signed", { fabric: EVERY_PACKET }],
  ["encrypted", { fabric: SIGNED, payload: AES_256 }],
  ["signed and encrypted", { fabric: EVERY_PACKET, payload: payloadText("aes-cbc-128", false) }],
];
const PROTOCOLS: [string, number][] = [
  ["GRE", 47],
  ["ESP", 50],
  ["SCTP", 132],
  ["number 253", 253],
];
const REPLY = swapEnds(ENDS);

for (const [where, build] of CHAINS) {
  for (const [how, security] of PROTECTIONS) {
    test(`GRE, ESP, SCTP and protocol 253 cross ${where} ${how}, byte for byte, one session each`, (t) => {
      const net = build({ security });
      const sizes = [100, 1480, 1, 61, 1432];
      for (const size of sizes) {
        for (const [, number] of PROTOCOLS) {
          net.world.send(net.client, protocolFrame(CLIENT, SERVER, number, pattern(size, number)));
          net.world.run(3);
          net.world.send(net.server, protocolFrame(SERVER, CLIENT, number, pattern(size, number + 1)));
          net.world.run(3);
        }
      }
      for (const [host, change] of [
        [net.server, 0],
        [net.client, 1],
      ] as const) {
        for (const [name, number] of PROTOCOLS) {
          t.deepEqual(
            host.received.filter(({ protocol }) => protocol === number).map(({ payload }) => payload),
            sizes.map((size) => pattern(size, number + change)),
            name,
          );
        }
        t.true(host.received.every(({ ipChecksumRight }) => ipChecksumRight));
      }
      const wire = packetsOn(net.wan);
      t.true(
        wire.every(({ protocol, checksumsRight, ipLength }) => protocol === 17 && checksumsRight && ipLength <= 1500),
      );
      const contexts = (router: TwoRouters["west"]) =>
        sessionRows(router)
          .map((row) => [...router.sessions.table.context.subarray(row * 4 + 2, row * 4 + 4)])
          .sort((a, b) => a[1] - b[1]);
      for (const router of net.world.routers.values())
        t.deepEqual(
          contexts(router),
          PROTOCOLS.map(([, number]) => [0, number]),
        );
      // Another source is another session.
      net.world.send(net.client, protocolFrame("10.1.0.3", SERVER, 253, pattern(9)));
      net.world.run(3);
      t.is(net.server.received.at(-1)?.source, "10.1.0.3");
      for (const router of net.world.routers.values()) t.is(sessionRows(router).length, PROTOCOLS.length + 1);
      noDrops(t, net);
    });

    test(`type of service passes ${where} ${how}: every protocol, pings, fragments and super-frames`, (t) => {
      const net = build({ security, superFrames: true });
      let tos = 1;
      const marked = (frame: Uint8Array) => withHeader(frame, (bytes, l3) => (bytes[l3 + 1] = tos));
      const received: number[][] = [];
      const expected: number[][] = [];
      const crosses = (frame: Uint8Array, back = false) => {
        const [from, to] = back ? [net.server, net.client] : [net.client, net.server];
        const before = to.received.length;
        net.world.send(from, marked(frame));
        net.world.run(4);
        const seen = to.received.slice(before).map(({ frame: got }) => got[15]);
        received.push([...new Set(seen)]);
        expected.push([tos]);
        tos = (tos * 5 + 3) & 255;
      };
      // ECN negotiation sets both of its bits on nothing but data: any byte will do here.
      crosses(tcpFrame(ENDS, { flags: SYN, sequence: 1000, acknowledgment: 0, mss: 1460 }));
      crosses(tcpFrame(REPLY, { flags: SYN | ACK, sequence: 5000, acknowledgment: 1001, mss: 1460 }), true);
      crosses(tcpFrame(ENDS, { flags: ACK, sequence: 1001, acknowledgment: 5001 }));
      for (let n = 0; n < 3; n++) {
        for (const [, number] of PROTOCOLS) {
          crosses(protocolFrame(CLIENT, SERVER, number, pattern(1400)));
          crosses(protocolFrame(SERVER, CLIENT, number, pattern(1400)), true);
        }
        crosses(echoFrame(CLIENT, SERVER, 77, n, pattern(1472)));
        crosses(echoFrame(SERVER, CLIENT, 77, n, pattern(1472), true), true);
        crosses(udpFrame(ENDS, pattern(1472)));
        crosses(udpFrame(REPLY, pattern(1472)), true);
        const frame = tcpFrame(
          ENDS,
          { flags: ACK | PSH, sequence: 1001 + n * 20_000, acknowledgment: 5001 },
          pattern(20_000),
        );
        setU16(frame, 34 + 16, fold(pseudoHeaderSum(frame, 14, frame.length - 34)));
        crosses(frame);
      }
      t.deepEqual(received, expected);
      t.true(packetsOn(net.wan).some(({ metadata }) => metadata.has("fragment")));
      noDrops(t, net);
    });

    test(`a mark of congestion on the wire between routers reaches the host through ${where} ${how}`, (t) => {
      const net = build({ security });
      const capable = (frame: Uint8Array) => withHeader(frame, (bytes, l3) => (bytes[l3 + 1] = 0xb9));
      // Of a packet in pieces the last one alone is marked.
      let isMarking = true;
      net.wan.tamper = (frame, seen) => {
        const piece = seen?.metadata.get("fragment") as { moreFragments?: boolean } | undefined;
        const isInside = piece?.moreFragments === true;
        return [{ frame: isMarking && seen !== undefined && !isInside ? congested(frame) : frame }];
      };
      const send = () => {
        for (const [from, ends, source, destination] of [
          [net.client, ENDS, CLIENT, SERVER],
          [net.server, REPLY, SERVER, CLIENT],
        ] as const) {
          const isBack = from === net.server;
          for (const frame of [
            udpFrame(ends, pattern(200)),
            udpFrame(ends, pattern(1472)),
            protocolFrame(source, destination, 47, pattern(1480)),
            echoFrame(source, destination, 5, 1, pattern(1472), isBack),
          ]) {
            net.world.send(from, capable(frame));
            net.world.run(4);
          }
        }
      };
      for (let n = 0; n < 3; n++) send();
      const marks = (packets: SeenPacket[]) =>
        packets.filter(({ protocol, icmpType }) => protocol !== 1 || icmpType !== 3).map(({ frame }) => frame[15]);
      t.deepEqual(marks(net.server.received), Array(12).fill(0xbb));
      t.deepEqual(marks(net.client.received), Array(12).fill(0xbb));
      isMarking = false;
      send();
      t.deepEqual(marks(net.server.received).slice(12), Array(4).fill(0xb9));
      t.true(packetsOn(net.wan).some(({ metadata }) => metadata.has("fragment")));
      noDrops(t, net);
    });
  }
}

/** The frame with "congestion experienced" set. */
function congested(frame: Uint8Array): Uint8Array {
  return withHeader(frame.slice(), (bytes, l3) => (bytes[l3 + 1] |= 3));
}

test("a mark of congestion on one IPv4 fragment of a host's is on the packet that they make", (t) => {
  for (const marked of [0, 1, 2]) {
    const net = twoRouters();
    const whole = udpFrame(ENDS, pattern(400));
    for (let n = 0; n < 3; n++) {
      const from = 34 + n * 160;
      const piece = new Uint8Array([...whole.slice(0, 34), ...whole.slice(from, Math.min(from + 160, whole.length))]);
      withHeader(piece, (bytes, l3) => {
        bytes[l3 + 1] = n === marked ? 0x03 : 0x02;
        setU16(bytes, l3 + 2, bytes.length - l3);
        setU16(bytes, l3 + 6, (n < 2 ? 0x2000 : 0) | ((n * 160) >>> 3));
      });
      net.world.send(net.client, piece);
    }
    net.world.run(5);
    t.deepEqual(
      net.server.received.map(({ frame, payload }) => [frame[15], payload]),
      [[0x03, pattern(400)]],
    );
  }
});
