// What must not happen to packets on their way: lost to an ARP miss, lost to the room that metadata takes, or repaired.

import test, { type ExecutionContext } from "ava";
import { getU16, setU16 } from "../../lib/base/bytes.ts";
import { parseAddress } from "../../lib/control/address-text.ts";
import { ARP_REPLY, ARP_REQUEST, getArpOperation, getArpSenderIp, writeArp } from "../../lib/wire/arp.ts";
import { writeEthernet } from "../../lib/wire/ethernet.ts";
import { ETHERTYPE_ARP } from "../../lib/wire/flow-key.ts";
import { ACK, PSH, SYN } from "../../lib/wire/tcp.ts";
import { tcpServer } from "./endpoints.ts";
import { type Fault, hit } from "./faults.ts";
import { concat, echoFrame, metadataOf, pattern, type SeenPacket, swapEnds, tcpFrame, udpFrame } from "./packets.ts";
import { ENDS, forwardMetadata, TO_EAST } from "./peer.ts";
import {
  CLIENT,
  countOf,
  dropsOf,
  eastAlone,
  packetsOn,
  SERVER,
  type TwoRouters,
  threeRouters,
  twoPaths,
  twoRouters,
  westAlone,
} from "./topologies.ts";
import type { Link } from "./world.ts";

const REPLY = swapEnds(ENDS);
const texts = (packets: SeenPacket[]) => packets.map(({ text }) => text);
const isArp = (frame: Uint8Array, operation: number) =>
  getU16(frame, 12) === ETHERTYPE_ARP && getArpOperation(frame, 14) === operation;
const arpFrom = (link: Link, from: string, operation: number) =>
  link.seen.filter((seen) => seen.from === from && isArp(seen.frame, operation));

// Neighbors

test("a lead packet is not lost to a missing neighbor at any hop", (t) => {
  const net = threeRouters();
  for (const link of net.world.links.values())
    link.tamper = (frame) => [{ frame, delayMs: isArp(frame, ARP_REPLY) ? 50 : 0 }];
  net.world.send(net.client, udpFrame(ENDS, "lead"));
  net.world.run(500);
  t.deepEqual(texts(net.server.received), ["lead"], net.world.diagram());
  t.true(countOf(net.west, "frames.held") + countOf(net.middle, "frames.held") + countOf(net.east, "frames.held") > 0);
  net.world.send(net.server, udpFrame(REPLY, "reply"));
  net.world.run(500);
  t.deepEqual(texts(net.client.received), ["reply"]);
  for (const router of net.world.routers.values()) t.deepEqual(dropsOf(router), {});
});

test("the first packets of several sessions wait for a neighbor in order, as many as configured, and the rest are counted", (t) => {
  const limits = { others: ", hold-frames-per-neighbor: 8" };
  const net = twoPaths({ limitsOf: { east: limits } });
  net.far.tamper = (frame) => [{ frame, delayMs: isArp(frame, ARP_REPLY) ? 50 : 0 }];
  net.world.run(5); // the routers have found each other
  for (let n = 0; n < 12; n++) net.world.send(net.client, udpFrame({ ...ENDS, sourcePort: 40000 + (n % 3) }, `${n}`));
  net.world.run(100);
  t.deepEqual(texts(net.server.received), ["0", "1", "2", "3", "4", "5", "6", "7"]);
  t.deepEqual(dropsOf(net.east), { "hold-full": 4 });
  t.is(countOf(net.east, "frames.held"), 8);
});

test("all neighbors together hold no more frames than configured", (t) => {
  const net = westAlone({ limits: { others: ", hold-frames: 3, hold-frames-per-neighbor: 3" } });
  net.peer.answersArp = false;
  for (let n = 0; n < 5; n++) net.world.send(net.client, udpFrame(ENDS, `${n}`));
  net.world.run(100);
  t.deepEqual(dropsOf(net.west), { "hold-full": 2 });
});

test("a neighbor that leaves three requests unanswered is given up, counted, and asked again later", (t) => {
  const net = westAlone();
  net.peer.answersArp = false;
  net.world.send(net.client, udpFrame(ENDS, "lost"));
  net.world.run(2900);
  t.is(arpFrom(net.wan, "west", ARP_REQUEST).length, 3);
  t.deepEqual(dropsOf(net.west), {});
  net.world.run(400);
  t.deepEqual(dropsOf(net.west), { "neighbor-unreachable": 1 });
  net.world.run(5000);
  t.is(arpFrom(net.wan, "west", ARP_REQUEST).length, 3, "nobody needs it, so nobody is asked");
  net.peer.answersArp = true;
  net.world.send(net.client, udpFrame(ENDS, "delivered"));
  net.world.run(10);
  t.deepEqual(texts(packetsOn(net.wan, "west")), ["delivered"]);
});

test("a neighbor in use is refreshed by unicast requests, and no packet is lost to that", (t) => {
  const net = twoRouters();
  const mac = [...net.server.port.info().mac];
  for (let n = 0; n < 400; n++) {
    net.world.send(net.client, udpFrame(ENDS, `${n}`));
    net.world.skip(200, 200);
  }
  t.is(net.server.received.length, 400);
  const requests = arpFrom(net.far, "east", ARP_REQUEST);
  t.is(requests.length, 3, "the first, and after half a minute each");
  t.deepEqual(
    requests.map(({ frame }) => [...frame.subarray(0, 6)]),
    [Array(6).fill(255), mac, mac],
  );
  t.deepEqual(dropsOf(net.east), {});
});

test("a router answers ARP for the addresses of the interface that is asked, and for no others", (t) => {
  const net = twoRouters();
  const ask = (target: string) => {
    const frame = new Uint8Array(42);
    writeEthernet(frame, 0, 0xffff, -1, 0x0200, 0x0101, ETHERTYPE_ARP);
    writeArp(frame, 14, ARP_REQUEST, 0x0200, 0x0101, parseAddress(CLIENT), 0, 0, parseAddress(target));
    net.world.inject(net.lan, "west", frame);
    net.world.run(1);
  };
  for (const target of ["10.1.0.77", SERVER, "198.18.0.1", CLIENT]) ask(target);
  t.deepEqual(arpFrom(net.lan, "west", ARP_REPLY), []);
  ask("10.1.0.1");
  const replies = arpFrom(net.lan, "west", ARP_REPLY);
  t.is(replies.length, 1);
  t.is(getArpSenderIp(replies[0].frame, 14), parseAddress("10.1.0.1"));
  t.deepEqual([...replies[0].frame.subarray(22, 28)], [...net.west.ports[0].info().mac]);
});

// Full-size packets and fabric fragments

function assertFragments(t: ExecutionContext, packets: SeenPacket[]): void {
  t.true(packets.length >= 2);
  for (const packet of packets) {
    t.true(packet.ipLength <= 1500, `${packet.ipLength}`);
    t.true(packet.checksumsRight);
    t.deepEqual([...packet.metadata.keys()], ["fragment"]);
  }
}

for (const [name, build] of [
  ["two routers", twoRouters],
  ["a chain of three", threeRouters],
] as const) {
  test(`a full-size first datagram and its full-size answer arrive whole through ${name}`, (t) => {
    const net: TwoRouters = build();
    const [question, answer] = [pattern(1472), pattern(1472, 99)];
    net.world.send(net.client, udpFrame(ENDS, question));
    net.world.run(5);
    for (const hop of ["wan", "wan2"]) {
      const link = net.world.links.get(hop);
      if (link !== undefined) assertFragments(t, packetsOn(link));
    }
    net.world.send(net.server, udpFrame(REPLY, answer));
    net.world.run(5);
    assertFragments(t, packetsOn(net.wan).slice(2));
    t.deepEqual(
      net.server.received.map(({ payload }) => payload),
      [question],
    );
    t.deepEqual(
      net.client.received.map(({ payload }) => payload),
      [answer],
    );
    t.true([...net.server.received, ...net.client.received].every(({ checksumsRight }) => checksumsRight));
    t.is(countOf(net.east, "fabric.reassembled"), 1);

    const before = packetsOn(net.wan).length;
    net.world.send(net.client, udpFrame(ENDS, question));
    net.world.run(5);
    t.deepEqual(
      packetsOn(net.wan)
        .slice(before)
        .map(({ ipLength, hasMetadata }) => [ipLength, hasMetadata]),
      [[1500, false]],
    );
  });

  test(`a full-size ping arrives whole through ${name}, though a UDP header is put around it`, (t) => {
    const net: TwoRouters = build();
    net.server.onPacket = (packet) => {
      if (packet.icmpType !== 8) return;
      net.world.send(net.server, echoFrame(SERVER, CLIENT, 77, packet.sequence, packet.payload, true));
    };
    for (let n = 0; n < 3; n++) {
      net.world.send(net.client, echoFrame(CLIENT, SERVER, 77, n, pattern(1472, n)));
      net.world.run(5);
      const pings = net.server.received.filter(({ icmpType }) => icmpType === 8);
      t.deepEqual(pings[n].payload, pattern(1472, n));
      const replies = net.client.received.filter(({ icmpType }) => icmpType === 0);
      t.deepEqual(replies[n].payload, pattern(1472, n));
      t.true(replies[n].checksumsRight && pings[n].checksumsRight);
    }
    assertFragments(t, packetsOn(net.wan));
  });
}

for (const fault of ["repeated at once", "repeated 20 ms later", "overtaken by the next one"] satisfies Fault[]) {
  test(`a datagram arrives whole and once when a fragment of it is ${fault}`, (t) => {
    for (const position of [1, 2]) {
      const net = twoRouters();
      hit(net.wan, "west", position, fault);
      net.world.send(net.client, udpFrame(ENDS, pattern(1472)));
      net.world.send(net.client, udpFrame(ENDS, "next"));
      net.world.run(50);
      const received = net.server.received.map(({ payload }) => payload).sort((a, b) => b.length - a.length);
      t.deepEqual(received, [pattern(1472), concat("next")], net.world.diagram());
    }
  });
}

test("a fragment whose others were lost is counted after five seconds, and the next datagram arrives", (t) => {
  for (const position of [1, 2]) {
    const net = twoRouters();
    hit(net.wan, "west", position, "lost");
    net.world.send(net.client, udpFrame(ENDS, pattern(1472)));
    net.world.run(4900);
    t.deepEqual(dropsOf(net.east), {});
    net.world.run(300);
    t.deepEqual(dropsOf(net.east), { "fabric-fragment-timeout": 1 });
    net.world.send(net.client, udpFrame(ENDS, pattern(1472, 1)));
    net.world.run(5);
    t.deepEqual(
      net.server.received.map(({ payload }) => payload),
      [pattern(1472, 1)],
    );
  }
});

test("fragments that say they are pieces of a fragment are refused, however deep", (t) => {
  const net = eastAlone();
  const piece = { extendedId: 1, originalId: 1, dontFragment: false, moreFragments: false, offset: 0, largestSeen: 0 };
  let payload = concat(forwardMetadata(), "x");
  for (let depth = 0; depth < 40; depth++) payload = concat(metadataOf([1, { ...piece, extendedId: depth }]), payload);
  net.world.send(net.peer, udpFrame(TO_EAST, payload));
  net.world.run(5);
  t.deepEqual(dropsOf(net.east), { "fabric-fragment-malformed": 1 });
  t.is(net.east.sessions.openedTotal, 0);
});

// Checksums: never repaired

const UDP_CHECKSUM_AT = 40;
const TCP_CHECKSUM_AT = 50;
const IP_CHECKSUM_AT = 24;

/** Damage a 16-bit field so that it cannot be right any more. */
function damaged(frame: Uint8Array, at: number): Uint8Array {
  setU16(frame, at, getU16(frame, at) ^ 0x0140);
  return frame;
}

function withoutChecksum(frame: Uint8Array): Uint8Array {
  setU16(frame, UDP_CHECKSUM_AT, 0);
  return frame;
}

test("a datagram without a checksum has none on any hop, with metadata, as fragments and bare", (t) => {
  for (const length of [100, 1472]) {
    const net = threeRouters();
    for (let n = 0; n < 3; n++) {
      net.world.send(net.client, withoutChecksum(udpFrame(ENDS, pattern(length, n))));
      net.world.run(2);
      net.world.send(net.server, withoutChecksum(udpFrame(REPLY, pattern(length, n))));
      net.world.run(2);
    }
    t.deepEqual(
      net.server.received.map(({ payload }) => payload),
      [0, 1, 2].map((n) => pattern(length, n)),
    );
    t.is(net.client.received.length, 3);
    for (const link of net.world.links.values()) {
      for (const { frame, ipChecksumRight } of packetsOn(link)) {
        t.is(getU16(frame, UDP_CHECKSUM_AT), 0, link.name);
        t.true(ipChecksumRight);
      }
    }
  }
});

/** A session whose handshake is complete, over a WAN on which full-size packets become fragments when `wanMtu` is small. */
function established(protocol: "UDP" | "TCP", wanMtu?: number): { net: TwoRouters; data(length: number): Uint8Array } {
  const net = twoRouters(wanMtu === undefined ? {} : { wanMtu });
  if (protocol === "UDP") {
    for (const [host, ends] of [
      [net.client, ENDS],
      [net.server, REPLY],
      [net.client, ENDS],
    ] as const) {
      net.world.send(host, udpFrame(ends, "handshake"));
      net.world.run(2);
    }
    return { net, data: (length) => udpFrame(ENDS, pattern(length)) };
  }
  net.server.onPacket = tcpServer(net.world, net.server);
  net.world.send(net.client, tcpFrame(ENDS, { flags: SYN, sequence: 1000, acknowledgment: 0 }));
  net.world.run(2);
  net.world.send(net.client, tcpFrame(ENDS, { flags: ACK, sequence: 1001, acknowledgment: 5001 }));
  net.world.run(2);
  net.server.onPacket = () => {};
  return {
    net,
    data: (length) => tcpFrame(ENDS, { flags: ACK | PSH, sequence: 1001, acknowledgment: 5001 }, pattern(length)),
  };
}

for (const protocol of ["UDP", "TCP"] as const) {
  for (const [way, wanMtu, length] of [
    ["bare", undefined, 301],
    ["as fabric fragments", 1000, 1401],
  ] as const) {
    test(`a wrong ${protocol} checksum is still wrong at the far end, ${way}, and a right one right`, (t) => {
      const { net, data } = established(protocol, wanMtu);
      const at = protocol === "UDP" ? UDP_CHECKSUM_AT : TCP_CHECKSUM_AT;
      for (const frame of [damaged(data(length), at), data(length)]) {
        net.world.send(net.client, frame);
        net.world.run(2);
      }
      const [wrong, right] = net.server.received.slice(-2);
      t.deepEqual([wrong.l4ChecksumRight, right.l4ChecksumRight], [false, true], net.world.diagram());
      t.true(wrong.ipChecksumRight);
      t.deepEqual(wrong.payload, pattern(length));
      t.is(
        packetsOn(net.wan).some(({ metadata }) => metadata.has("fragment")),
        wanMtu !== undefined,
      );
    });

    test(`a wrong IP header checksum under ${protocol} is still wrong at the far end, ${way}`, (t) => {
      const { net, data } = established(protocol, wanMtu);
      net.world.send(net.client, damaged(data(length), IP_CHECKSUM_AT));
      net.world.run(2);
      const wrong = net.server.received.at(-1)!;
      t.deepEqual([wrong.ipChecksumRight, wrong.l4ChecksumRight], [false, true]);
      t.deepEqual(wrong.payload, pattern(length));
    });
  }
}

test("damage that happens to a fragment on the way is seen by the receiver", (t) => {
  const { net, data } = established("UDP", 1000);
  net.wan.tamper = (frame, packet) => {
    if (packet?.metadata.has("fragment")) frame[frame.length - 1] ^= 4;
    return [{ frame }];
  };
  net.world.send(net.client, data(1401));
  net.world.run(2);
  t.false(net.server.received.at(-1)!.l4ChecksumRight);
});

test("a wrong checksum stays wrong where metadata goes in front of the payload, be its length even or odd", (t) => {
  const west = westAlone();
  west.world.send(west.client, damaged(udpFrame(ENDS, pattern(77)), UDP_CHECKSUM_AT));
  west.world.send(
    west.client,
    damaged(tcpFrame(ENDS, { flags: SYN, sequence: 1, acknowledgment: 0 }), TCP_CHECKSUM_AT),
  );
  west.world.run(2);
  const east = eastAlone();
  east.world.send(east.peer, udpFrame(TO_EAST, concat(forwardMetadata(), "lead")));
  east.world.run(2);
  for (const length of [76, 77])
    east.world.send(east.server, damaged(udpFrame(REPLY, pattern(length)), UDP_CHECKSUM_AT));
  east.world.send(east.server, udpFrame(REPLY, pattern(77)));
  east.world.run(2);
  const sent = [...packetsOn(west.wan, "west"), ...packetsOn(east.wan, "east")];
  t.deepEqual(
    sent.map(({ hasMetadata, l4ChecksumRight }) => [hasMetadata, l4ChecksumRight]),
    [
      [true, false],
      [true, false],
      [true, false],
      [true, false],
      [true, true],
    ],
  );
  const lengths = sent.map(({ payload, data }) => (payload.length - data.length) % 2);
  t.deepEqual(lengths, [0, 0, 1, 1, 1], "both kinds were there");
});

test("a wrong ICMP, UDP or IP checksum under a ping is never repaired, full-size or not", (t) => {
  for (const length of [56, 1472]) {
    const net = twoRouters();
    const replies = () => net.client.received.filter(({ icmpType }) => icmpType === 0);
    net.server.onPacket = (packet) => {
      if (packet.checksumsRight && packet.icmpType === 8)
        net.world.send(net.server, echoFrame(SERVER, CLIENT, 77, 0, packet.payload, true));
    };
    const ping = () => echoFrame(CLIENT, SERVER, 77, 0, pattern(length));
    for (const frame of [ping(), ping(), damaged(ping(), 36), damaged(ping(), IP_CHECKSUM_AT)]) {
      net.world.send(net.client, frame);
      net.world.run(2);
    }
    const pings = () => net.server.received.filter(({ icmpType }) => icmpType === 8);
    t.deepEqual(
      pings().map(({ ipChecksumRight, l4ChecksumRight }) => [ipChecksumRight, l4ChecksumRight]),
      [
        [true, true],
        [true, true],
        [true, false],
        [false, true],
      ],
    );
    t.is(replies().length, 2);
    net.wan.tamper = (frame) => {
      frame[frame.length - 1] ^= 4;
      return [{ frame }];
    };
    net.world.send(net.client, ping());
    net.world.run(2);
    t.is(pings().length, 4);
    t.deepEqual(dropsOf(net.east), { "udp-checksum": 1 });
  }
});

test("a lead packet whose IP header checksum is wrong opens no session", (t) => {
  const net = twoRouters();
  net.world.send(net.client, damaged(udpFrame(ENDS, "x"), IP_CHECKSUM_AT));
  net.world.run(2);
  t.deepEqual(dropsOf(net.west), { "ip-checksum": 1 });
  t.is(net.west.sessions.openedTotal, 0);
});

test("a ping of the router's own address is answered with a fresh TTL, and opens nothing", (t) => {
  const net = twoRouters();
  net.world.send(net.client, echoFrame(CLIENT, "10.1.0.1", 9, 3, "are you there", false, 1));
  net.world.run(5);
  const [reply] = net.client.received;
  t.like(reply, { source: "10.1.0.1", icmpType: 0, ttl: 64, checksumsRight: true }, net.world.diagram());
  t.deepEqual(reply.payload, new TextEncoder().encode("are you there"));
  t.is(net.west.sessions.openedTotal, 0);
  t.is(countOf(net.west, "icmp.echo-replies-sent"), 1);
});
