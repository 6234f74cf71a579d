// Flow labels (RFC 6437) from host to host: all 20 bits as the host sent them, on every packet. And the other way round: what a
// router's own labels say of IPv4 on IPv6 paths, DF and the identification, arrives.

import test, { type ExecutionContext } from "ava";
import { getI32, getU16, setU16, setU32 } from "../../lib/base/bytes.ts";
import { RouterRestorer } from "../../lib/control/router-state.ts";
import { fold, sumWords } from "../../lib/wire/checksum.ts";
import { ACK, PSH, SYN } from "../../lib/wire/tcp.ts";
import { FAR, type Family, LAN, type Net, netOf } from "./families.ts";
import { concat, type Ends, echoFrame, pattern, swapEnds, tcpFrame, toIpv6, udpFrame, withHeader } from "./packets.ts";
import { SEALED } from "./protection.ts";
import { piecesOf as piecesOfState } from "./successor.ts";
import { countOf, dropsOf } from "./topologies.ts";
import { type Link, World } from "./world.ts";

const LABELS = [0xa_bcde, 0x1_0000, 0, 0xf_ffff, 0x0_8001, 0xe_ffff];
const ENDS: Ends = { source: LAN[6][1], destination: FAR[6][1], sourcePort: 40_000, destinationPort: 7 };
const ICMPV6 = 58;
const TIME_EXCEEDED = 3;
const TOO_BIG = 2;

function chain(hosts: Family, wires: readonly Family[], sealed = false, superFrames = false, mtu = 1500): Net {
  return netOf(
    hosts,
    wires.map((family) => ({ family, mtu })),
    sealed ? SEALED : {},
    "",
    superFrames,
  );
}

const isIpv6 = (frame: Uint8Array) => getU16(frame, 12) === 0x86dd;
const labelIn = (frame: Uint8Array, l3 = 14) => getI32(frame, l3) & 0xf_ffff;
const isNeighbors = (frame: Uint8Array) => frame[20] === ICMPV6 && frame[54] >= 133 && frame[54] <= 137;

/** The frame as it is on an IPv6 wire, with this label. */
function labelled(frame: Uint8Array, label: number): Uint8Array {
  const wire = toIpv6(frame);
  setU32(wire, 14, (getI32(wire, 14) & ~0xf_ffff) | label);
  return wire;
}

/** IPv6 packets that `from` has put on the link, but for neighbors'. */
const framesOn = (link: Link, from: string): Uint8Array[] =>
  link.seen
    .filter((one) => one.from === from && isIpv6(one.frame) && !isNeighbors(one.frame))
    .map(({ frame }) => frame);
const labelsOn = (link: Link, from: string): number[] => framesOn(link, from).map((frame) => labelIn(frame));

/** What hosts say to one another, one packet after another; the label of each. */
interface Talk {
  readonly toServer: number[];
  readonly toClient: number[];
}

function say(net: Net, talk: Talk, toServer: boolean, frame: Uint8Array): void {
  const said = toServer ? talk.toServer : talk.toClient;
  const label = LABELS[(talk.toServer.length + talk.toClient.length) % LABELS.length];
  said.push(label);
  net.world.inject(toServer ? net.lan : net.far, toServer ? "r0" : `r${net.wires.length}`, labelled(frame, label));
  net.world.run(8);
}

const TALKS: Record<string, (net: Net, talk: Talk) => void> = {
  UDP: (net, talk) => {
    for (let n = 0; n < 8; n++) {
      say(net, talk, true, udpFrame(ENDS, `question ${n}`));
      say(net, talk, false, udpFrame(swapEnds(ENDS), `answer ${n}`));
    }
  },
  TCP: (net, talk) => {
    say(net, talk, true, tcpFrame(ENDS, { flags: SYN, sequence: 0, acknowledgment: 0 }));
    say(net, talk, false, tcpFrame(swapEnds(ENDS), { flags: SYN | ACK, sequence: 0, acknowledgment: 1 }));
    say(net, talk, true, tcpFrame(ENDS, { flags: ACK, sequence: 1, acknowledgment: 1 }));
    for (let n = 0; n < 8; n++) {
      const numbers = { flags: ACK | PSH, sequence: 1 + 8 * n, acknowledgment: 1 + 8 * n };
      say(net, talk, true, tcpFrame(ENDS, numbers, "question"));
      say(net, talk, false, tcpFrame(swapEnds(ENDS), { ...numbers, acknowledgment: 9 + 8 * n }, "answered"));
    }
  },
  "ICMP echo": (net, talk) => {
    for (let n = 0; n < 8; n++) {
      say(net, talk, true, echoFrame(ENDS.source, ENDS.destination, 77, n, "ping"));
      say(net, talk, false, echoFrame(ENDS.destination, ENDS.source, 77, n, "ping", true));
    }
  },
};

for (const [what, converse] of Object.entries(TALKS)) {
  for (const sealed of [false, true]) {
    const how = sealed ? ", signed and encrypted" : "";
    for (const wires of [[6], [6, 6, 6]] as Family[][]) {
      test(`${what}: each packet has its own label over ${wires.length} hops of IPv6${how}`, (t) => {
        const net = chain(6, wires, sealed);
        const talk: Talk = { toServer: [], toClient: [] };
        converse(net, talk);
        const last = `r${wires.length}`;
        t.deepEqual(labelsOn(net.far, last), talk.toServer, net.world.diagram());
        t.deepEqual(labelsOn(net.lan, "r0"), talk.toClient);
        // Packets of the routers' own have 0.
        for (const [n, wire] of net.wires.entries()) {
          const nonzero = (from: string) => labelsOn(wire, from).filter((label) => label !== 0);
          t.deepEqual(
            nonzero(`r${n}`),
            talk.toServer.filter((label) => label !== 0),
          );
          t.deepEqual(
            nonzero(`r${n + 1}`),
            talk.toClient.filter((label) => label !== 0),
          );
        }
        for (const router of net.routers) t.deepEqual(dropsOf(router), {});
      });
    }
    for (const wires of [[4], [6, 4, 6], [4, 6, 4]] as Family[][]) {
      test(`${what}: of a label 16 bits are left behind a path of IPv4: ${wires.join(", ")}${how}`, (t) => {
        const net = chain(6, wires, sealed);
        const talk: Talk = { toServer: [], toClient: [] };
        converse(net, talk);
        const low = (labels: number[]) => labels.map((label) => label & 0xffff);
        t.deepEqual(labelsOn(net.far, `r${wires.length}`), low(talk.toServer), net.world.diagram());
        t.deepEqual(labelsOn(net.lan, "r0"), low(talk.toClient));
        for (const router of net.routers) t.deepEqual(dropsOf(router), {});
      });
    }
  }
}

for (const label of [0xa_bcde, 0xf_ffff, 0]) {
  const name = label.toString(16).padStart(5, "0");

  test(`a first datagram in fabric fragments: each has the label ${name}, and what they make has it`, (t) => {
    for (const sealed of [false, true]) {
      const net = chain(6, [6, 6], sealed);
      net.world.inject(net.lan, "r0", labelled(udpFrame(ENDS, pattern(1452)), label));
      net.world.run(20);
      for (const [n, wire] of net.wires.entries()) {
        const pieces = labelsOn(wire, `r${n}`);
        t.true(pieces.length >= 2, net.world.diagram());
        t.true(pieces.every((one) => one === label));
      }
      t.deepEqual(labelsOn(net.far, "r2"), [label]);
    }
  });

  test(`a datagram that its host cut: what it is cut to again has the label ${name} and the identification`, (t) => {
    for (const [mtu, sealed] of [
      [1500, false],
      [9000, false],
      [9000, true],
    ] as const) {
      for (const wires of [[6], [6, 6], [4, 6]] as Family[][]) {
        const net = chain(6, wires, sealed, false, mtu);
        const ends = `${wires.join(", ")}, MTU ${mtu}`;
        net.world.inject(net.lan, "r0", labelled(udpFrame(ENDS, "first"), label));
        net.world.run(20);
        for (let n = 0; n < 3; n++) {
          const data = pattern(3000, n);
          for (const piece of piecesOf(udpFrame(ENDS, data), 0x1234 + n))
            net.world.inject(net.lan, "r0", labelled(piece, label));
          net.world.run(20);
          const got = framesOn(net.far, `r${wires.length}`).slice(1 + 3 * n);
          t.is(got.length, 3, `${ends}\n${net.world.diagram()}`);
          t.true(
            got.every((frame) => frame[20] === 44 && getU16(frame, 60) === 0x1234 + n),
            ends,
          );
          t.deepEqual(concat(...got.map((frame) => frame.slice(62))).slice(8), data);
          if (!wires.includes(4)) t.true(got.every((frame) => labelIn(frame) === label));
        }
        for (const router of net.routers) t.deepEqual(dropsOf(router), {});
      }
    }
  });
}

test("a packet that is too long is refused where nobody cut it before, whatever its label", (t) => {
  for (const label of [0xf_ffff, 0x1_0000, 0]) {
    const links = [6, 6].map(() => ({ family: 6, mtu: 9000 }) as const);
    const net = netOf(6, links, {}, "", false, 9000);
    net.world.inject(net.lan, "r0", labelled(udpFrame(ENDS, "first"), label));
    net.world.run(20);
    net.world.inject(net.lan, "r0", labelled(udpFrame(ENDS, pattern(3000)), label));
    net.world.run(20);
    t.is(framesOn(net.far, "r2").length, 1, net.world.diagram());
    t.is(
      net.lan.seen.filter(({ from, frame }) => from === "r0" && frame[20] === ICMPV6 && frame[54] === TOO_BIG).length,
      1,
    );
  }
});

/** The packet in fragments, as a host sends it. */
function piecesOf(frame: Uint8Array, id: number): Uint8Array[] {
  const room = 1232;
  const payload = frame.slice(34);
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < payload.length; at += room) {
    const piece = concat(frame.slice(0, 34), payload.slice(at, at + room));
    pieces.push(
      withHeader(piece, (bytes) => {
        setU16(bytes, 16, piece.length - 14);
        setU16(bytes, 18, id);
        setU16(bytes, 20, (at + room < payload.length ? 0x2000 : 0) | (at >>> 3));
      }),
    );
  }
  return pieces;
}

for (const [sealed, isAnswered] of [
  [false, true],
  [true, true],
  [false, false],
  [true, false],
]) {
  const how = `${isAnswered ? "" : ", before anybody has answered"}${sealed ? ", signed and encrypted" : ""}`;
  test(`segments of super-frames have the super-frame's label${how}`, (t) => {
    for (const wires of [[6], [6, 6, 6]] as Family[][]) {
      const net = chain(6, wires, sealed, true);
      net.world.inject(net.lan, "r0", labelled(tcpFrame(ENDS, { flags: SYN, sequence: 0, acknowledgment: 0 }), 1));
      net.world.run(8);
      const synAck = tcpFrame(swapEnds(ENDS), { flags: SYN | ACK, sequence: 0, acknowledgment: 1 });
      if (isAnswered) net.world.inject(net.far, `r${wires.length}`, labelled(synAck, 2));
      net.world.run(8);
      net.world.inject(net.lan, "r0", labelled(tcpFrame(ENDS, { flags: ACK, sequence: 1, acknowledgment: 1 }), 3));
      net.world.run(8);
      const before = labelsOn(net.far, `r${wires.length}`).length;
      for (const [n, label] of [0xf_ffff, 0xa_bcde, 0].entries()) {
        const long = tcpFrame(ENDS, { flags: ACK, sequence: 1 + 5000 * n, acknowledgment: 1 }, pattern(5000, n));
        net.world.inject(net.lan, "r0", labelled(long, label));
        net.world.run(8);
      }
      const got = framesOn(net.far, `r${wires.length}`).slice(before);
      const bytes = got.reduce((sum, frame) => sum + frame.length - 74, 0);
      t.is(bytes, 15_000, net.world.diagram());
      let sent = 0;
      for (const frame of got) {
        t.is(labelIn(frame), [0xf_ffff, 0xa_bcde, 0][Math.floor(sent / 5000)]);
        sent += frame.length - 74;
      }
      for (const router of net.routers) t.deepEqual(dropsOf(router), {});
    }
  });
}

test("an ICMP error quotes the label whole where the packet's own host is told by its first router", (t) => {
  const net = chain(6, [6]);
  const quoted = (): number[] =>
    net.lan.seen
      .filter(({ from, frame }) => from === "r0" && frame[20] === ICMPV6 && frame[54] === TIME_EXCEEDED)
      .map(({ frame }) => labelIn(frame, 62));
  // Of no session, and of one.
  net.world.inject(net.lan, "r0", labelled(udpFrame(ENDS, "one", 1), 0xa_bcde));
  net.world.run(8);
  net.world.inject(net.lan, "r0", labelled(udpFrame(ENDS, "two"), 0xf_ffff));
  net.world.run(8);
  net.world.inject(net.lan, "r0", labelled(udpFrame(ENDS, "three", 1), 0xf_ffff));
  net.world.run(8);
  t.deepEqual(quoted(), [0xa_bcde, 0xf_ffff], net.world.diagram());
});

test("of a packet that goes over two paths, whichever comes first has its label", (t) => {
  for (const lost of ["wire0", "wire1"]) {
    const world = new World(1);
    const routerOf = (n: number, lan: string, tenant: string, route: string) => {
      const wires = [0, 1].map(
        (hop) => `{ name: wan${hop}, device: wan${hop}, addresses: ["2001:db8:ff${hop}::${n}/64"] }`,
      );
      const paths = [0, 1].map((hop) => `{ interface: wan${hop}, address: "2001:db8:ff${hop}::${3 - n}" }`);
      return world.addRouter(
        `r${n}`,
        `authority: acme
router: r${n}
sessions: { max: 64 }
interfaces: [{ name: lan0, device: lan0, addresses: ["${lan}/64"]${tenant} }, ${wires.join(", ")}]
tenants: [{ name: corp }]
service-policies: [{ name: twice, resiliency: packet-duplication }]
services: [{ name: app, addresses: ["2001:db8:2::/64"], access: [corp], policy: twice }]
service-routes: [{ service: app, ${route} }]
peers: [{ name: r${3 - n}, paths: [${paths.join(", ")}] }]`,
      );
    };
    const routers = [
      routerOf(1, LAN[6][0], ", tenant: corp", "peer: r2"),
      routerOf(2, FAR[6][0], "", "interface: lan0"),
    ];
    world.addHost("client", LAN[6][1], LAN[6][0]);
    world.addHost("server", FAR[6][1], FAR[6][0]);
    const lan = world.join("lan", "client", "r1.lan0");
    for (const hop of [0, 1]) world.join(`wire${hop}`, `r1.wan${hop}`, `r2.wan${hop}`);
    const far = world.join("far", "r2.lan0", "server");
    for (const [n, label] of LABELS.entries()) {
      if (n === 2) world.links.get(lost)!.tamper = (frame, seen) => (seen === undefined ? [{ frame }] : []);
      world.inject(lan, "r1", labelled(udpFrame(ENDS, `datagram ${n}`), label));
      world.run(8);
    }
    t.deepEqual(labelsOn(far, "r2"), LABELS, world.diagram());
    t.true(countOf(routers[0], "duplicates.sent") > 0);
  }
});

const ENDS_4: Ends = { ...ENDS, source: LAN[4][1], destination: FAR[4][1] };
const CASES_4: [id: number, flags: number][] = [
  [0x1234, 0],
  [0xffff, 0x4000],
  [0, 0],
  [0, 0x4000],
  [7, 0],
  [8, 0x4000],
];

/** What may be cut arrives with its identification; of all other packets of a session one stands for all, over an IPv6 path their label. */
function ipv4Talk(t: ExecutionContext, wires: Family[], sealed: boolean, make: (n: number) => Uint8Array): void {
  const net = chain(4, wires, sealed);
  const whole = new Set<number>();
  for (let round = 0; round < 12; round++) {
    const [id, flags] = CASES_4[round % CASES_4.length];
    const frame = withHeader(make(round), (bytes) => {
      setU16(bytes, 18, id);
      setU16(bytes, 20, flags);
    });
    net.world.inject(net.lan, "r0", frame);
    net.world.run(8);
    const { frame: last } = net.far.seen
      .filter((one) => one.from === `r${wires.length}` && one.packet !== undefined)
      .at(-1)!;
    t.is(getU16(last, 20), flags, `${round}\n${net.world.diagram()}`);
    if (flags === 0) t.is(getU16(last, 18), id, `${round}\n${net.world.diagram()}`);
    else whole.add(getU16(last, 18));
  }
  const sessions = new Set(
    net.far.seen.flatMap(({ packet }) => (packet?.protocol === undefined ? [] : [packet.sourcePort])),
  );
  t.true(whole.size <= Math.max(1, sessions.size), `${[...whole]}`);
  for (const router of net.routers) t.deepEqual(dropsOf(router), {});
  t.true(net.far.seen.every(({ packet }) => packet === undefined || packet.checksumsRight));
}

for (const wires of [[6], [6, 6, 6], [6, 4, 6], [4, 6, 4]] as Family[][]) {
  for (const sealed of [false, true]) {
    const what = `IPv4 over ${wires.join(", ")}${sealed ? ", signed and encrypted" : ""}`;
    test(`DF arrives, and the identification of what may be cut: UDP, ${what}`, (t) =>
      ipv4Talk(t, wires, sealed, (n) => udpFrame(ENDS_4, `datagram ${n}`)));
    test(`DF arrives, and the identification of what may be cut: first and full-size datagrams, ${what}`, (t) =>
      ipv4Talk(t, wires, sealed, (n) => udpFrame({ ...ENDS_4, sourcePort: 40_000 + n }, pattern(1470))));
    test(`DF arrives, and the identification of what may be cut: TCP, ${what}`, (t) =>
      ipv4Talk(t, wires, sealed, (n) =>
        tcpFrame(
          ENDS_4,
          n === 0 ? { flags: SYN, sequence: 0, acknowledgment: 0 } : { flags: ACK, sequence: n, acknowledgment: 1 },
          n === 0 ? "" : "x",
        ),
      ));
    test(`DF arrives, and the identification of what may be cut: ICMP echo, ${what}`, (t) =>
      ipv4Talk(t, wires, sealed, (n) => echoFrame(ENDS_4.source, ENDS_4.destination, 77, n, "ping")));
  }
}

for (const sealed of [false, true]) {
  test(`an IPv4 session has one label a direction on IPv6 paths, and every session another${sealed ? ", signed and encrypted" : ""}`, (t) => {
    const net = chain(4, [6, 6], sealed);
    const sent = net.wires.map(() => new Map<string, Set<number>>());
    for (let n = 0; n < 40; n++) {
      const ends = { ...ENDS_4, sourcePort: 41_000 + (n % 10) };
      const [link, router, frame] =
        n > 10 && n % 3 === 2
          ? [net.far, "r2", udpFrame(swapEnds(ends), `answer ${n}`)]
          : [net.lan, "r0", udpFrame(ends, `datagram ${n}`)];
      for (const wire of net.wires) wire.seen.length = 0;
      net.world.inject(
        link as Link,
        router as string,
        withHeader(frame as Uint8Array, (bytes) => setU16(bytes, 18, 100 + n)),
      );
      net.world.run(8);
      for (const [at, wire] of net.wires.entries()) {
        for (const from of [`r${at}`, `r${at + 1}`]) {
          for (const packet of framesOn(wire, from)) {
            const flow = `${from} ${Buffer.from(packet.slice(54, 58)).toString("hex")}`;
            sent[at].set(flow, (sent[at].get(flow) ?? new Set()).add(labelIn(packet)));
          }
        }
      }
    }
    for (const flows of sent) {
      t.is(flows.size, 20);
      t.true([...flows.values()].every((labels) => labels.size === 1 && !labels.has(0)));
      t.true(new Set([...flows.values()].flatMap((labels) => [...labels])).size > 17);
    }
  });
}

test("an IPv4 packet that may be cut is cut for the far network, whatever path it came by", (t) => {
  const net = chain(4, [6, 6], false, false, 9000);
  for (const [n, flags] of [0, 0x4000, 0].entries()) {
    const frame = withHeader(udpFrame(ENDS_4, pattern(3000, n)), (bytes) => {
      setU16(bytes, 18, 0x7700 + n);
      setU16(bytes, 20, flags);
    });
    if (flags === 0) {
      // As a host does: its link takes 1500.
      for (const piece of piecesOf(frame, 0x7700 + n)) net.world.inject(net.lan, "r0", piece);
    } else
      net.world.inject(
        net.lan,
        "r0",
        withHeader(udpFrame(ENDS_4, "short"), (bytes) => setU16(bytes, 18, 1)),
      );
    net.world.run(20);
  }
  const sent = net.far.seen.filter(({ from, frame }) => from === "r2" && getU16(frame, 12) === 0x0800);
  const got = sent.filter(({ frame }) => (getU16(frame, 20) & 0x4000) === 0);
  t.is(sent.length, got.length + 1);
  t.deepEqual(
    got.map(({ frame }) => getU16(frame, 18)),
    [0x7700, 0x7700, 0x7700, 0x7702, 0x7702, 0x7702],
    net.world.diagram(),
  );
});

/** client ─ r1 ─ server: two networks of one router. */
function alone(): { world: World; lan: Link; far: Link } {
  const world = new World(1, true);
  world.addRouter(
    "r1",
    `authority: acme
router: r1
sessions: { max: 64 }
interfaces: [{ name: lan0, device: lan0, addresses: ["${LAN[6][0]}/64"], tenant: corp }, { name: lan1, device: lan1, addresses: ["${FAR[6][0]}/64"] }]
tenants: [{ name: corp }]
services: [{ name: app, addresses: ["2001:db8:2::/64"], access: [corp] }]
service-routes: [{ service: app, interface: lan1 }]`,
  );
  world.addHost("client", LAN[6][1], LAN[6][0]);
  world.addHost("server", FAR[6][1], FAR[6][0]);
  return { world, lan: world.join("lan", "client", "r1.lan0"), far: world.join("far", "r1.lan1", "server") };
}

test("what waits for its neighbor keeps its label, a super-frame's segments too", (t) => {
  const { world, lan, far } = alone();
  const server = world.hosts.get("server")!;
  server.answersArp = false;
  world.inject(lan, "r1", labelled(tcpFrame(ENDS, { flags: SYN, sequence: 0, acknowledgment: 0 }), 0xf_ffff));
  world.run(2);
  const long = tcpFrame(ENDS, { flags: ACK, sequence: 1, acknowledgment: 1 }, pattern(4000));
  world.inject(lan, "r1", labelled(long, 0xa_bcde));
  world.run(2);
  t.deepEqual(labelsOn(far, "r1"), []);
  server.answersArp = true;
  world.run(3000);
  t.deepEqual(labelsOn(far, "r1"), [0xf_ffff, 0xa_bcde, 0xa_bcde, 0xa_bcde], world.diagram());
});

test("the quote of a host's own ICMP error has the label whole for the host that is told", (t) => {
  const { world, lan, far } = alone();
  world.inject(lan, "r1", labelled(udpFrame(ENDS, "anybody there"), 0xa_bcde));
  world.run(8);
  const about = framesOn(far, "r1")[0];
  const quote = about.slice(14, 14 + 56);
  const error = new Uint8Array(62 + quote.length);
  error.set(about.slice(0, 62));
  error.set([0, 8 + quote.length, ICMPV6, 64], 18);
  error.set(about.slice(38, 54), 22);
  error.set(about.slice(22, 38), 38);
  error.set([1, 4, 0, 0, 0, 0, 0, 0, ...quote], 54);
  setU16(error, 56, ~fold(sumWords(error, 54, error.length, sumWords(error, 22, 54, error.length - 54 + ICMPV6))));
  setU32(error, 14, 0x6005_5555);
  world.inject(far, "r1", error);
  world.run(8);
  const told = framesOn(lan, "r1").filter((frame) => frame[20] === ICMPV6);
  t.deepEqual(
    told.map((frame) => labelIn(frame, 62)),
    [0xa_bcde],
    world.diagram(),
  );
});

test("segments with different labels are not joined to one super-frame", (t) => {
  const net = chain(6, [6], true, true);
  const last = net.far.ends.find(({ owner }) => owner === "r1")!;
  Object.assign(last.port, { takesSuperFrames: true });
  net.world.restart("r1");
  const talk: Talk = { toServer: [], toClient: [] };
  say(net, talk, true, tcpFrame(ENDS, { flags: SYN, sequence: 0, acknowledgment: 0 }));
  say(net, talk, false, tcpFrame(swapEnds(ENDS), { flags: SYN | ACK, sequence: 0, acknowledgment: 1 }));
  for (let n = 0; n < 3; n++) say(net, talk, true, tcpFrame(ENDS, { flags: ACK, sequence: 1, acknowledgment: 1 }));
  const before = labelsOn(net.far, "r1").length;
  const labels = [0xa_bcde, 0xa_bcde, 0xa_bcde, 0x1_bcde, 0x1_bcde, 0, 0, 0xf_ffff];
  for (const [n, label] of labels.entries()) {
    const numbers = { flags: ACK, sequence: 1 + 100 * n, acknowledgment: 1 };
    net.world.inject(net.lan, "r0", labelled(tcpFrame(ENDS, numbers, pattern(100, n)), label));
  }
  net.world.run(8);
  t.deepEqual(labelsOn(net.far, "r1").slice(before), labels, net.world.diagram());
  t.is(last.port.stats().segments, 7, "those of three super-frames");
});

test("a successor keeps them: of sessions that it goes on with, and of packets half put together", (t) => {
  const net = chain(6, [6]);
  const talk: Talk = { toServer: [], toClient: [] };
  TALKS.UDP(net, talk);
  const pieces = piecesOf(udpFrame(ENDS, pattern(3000)), 77).map((piece) => labelled(piece, 0xf_bcde));
  net.world.inject(net.lan, "r0", pieces[0]);
  net.world.run(2);
  for (const name of ["r0", "r1"]) {
    const before = piecesOfState(net.world.routers.get(name)!);
    const restorer = new RouterRestorer(net.world.restart(name));
    for (const piece of before) restorer.take(piece);
    restorer.end();
  }
  for (const piece of pieces.slice(1)) net.world.inject(net.lan, "r0", piece);
  net.world.run(8);
  TALKS.UDP(net, talk);
  const got = labelsOn(net.far, "r1");
  t.deepEqual(got.slice(8, 11), [0xf_bcde, 0xf_bcde, 0xf_bcde], net.world.diagram());
  t.deepEqual([...got.slice(0, 8), ...got.slice(11)], talk.toServer);
  t.deepEqual(labelsOn(net.lan, "r0"), talk.toClient);
});
