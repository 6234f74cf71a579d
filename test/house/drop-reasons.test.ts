// Every drop has a name, a sentence and a test: a golden case that counts it, or, where no frame in a capture can cause
// it, one of the scenes below.

import { existsSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { setU16 } from "../../lib/base/bytes.ts";
import { ManualClock } from "../../lib/base/clock.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import { parseConfig } from "../../lib/control/config.ts";
import { readCounters } from "../../lib/control/metrics.ts";
import { MemoryPort } from "../../lib/io/memory-port.ts";
import { FrameBatch } from "../../lib/io/port.ts";
import type { Ipv6Port } from "../../lib/ipv6/ipv6-port.ts";
import { Listener } from "../../lib/ipv6/listener.ts";
import { BFD_DEFAULTS, BfdSession } from "../../lib/peer/bfd-session.ts";
import { buildRouter, inOwnForm, macOf, type Router } from "../../lib/router.ts";
import { addressBook } from "../../lib/table/address-book.ts";
import { addBfdAttributes, BfdPacket, checkBfdTtl, readBfd, writeBfd } from "../../lib/wire/bfd.ts";
import { MetadataWriter, ParsedMetadata } from "../../lib/wire/metadata.ts";
import { ACK, RST, SYN, URG } from "../../lib/wire/tcp.ts";
import { DROP_REASONS, verdictName } from "../../lib/wire/verdict.ts";
import { edgeAlone, exhaust, OUTSIDE, sendOut } from "../simulate/nat-edges.ts";
import { icmpError, swapEnds, tcpFrame, udpFrame, withHeader } from "../simulate/packets.ts";
import { forwardMetadata, TO_EAST } from "../simulate/peer.ts";
import { fabricText, payloadText, SIGNED } from "../simulate/protection.ts";
import {
  CLIENT,
  type Options,
  packetsOn,
  SERVER,
  sessionRows,
  type TwoRouters,
  twoPaths,
  twoRouters,
} from "../simulate/topologies.ts";
import { filesUnder, libFiles, ROOT, textOf } from "./source.ts";

const names = DROP_REASONS.map(({ name }) => name);

/** Constant and name of each reason, as verdict.ts has them. */
const declared = [...textOf("lib/wire/verdict.ts").matchAll(/export const (DROP_\w+) = reason\(\s*"([^"]+)"/g)];

test("drop reasons have names of their own in kebab-case, and a sentence", (t) => {
  t.is(new Set(names).size, names.length);
  t.deepEqual(
    declared.map(([, , name]) => name),
    names,
  );
  for (const { name, sentence } of DROP_REASONS) {
    t.regex(name, /^[a-z0-9]+(-[a-z0-9]+)*$/);
    t.regex(sentence, /^\S.*\.$/, name);
  }
});

test("every drop reason is given by some code outside verdict.ts", (t) => {
  const code = libFiles
    .filter((path) => path !== "lib/wire/verdict.ts")
    .map(textOf)
    .join("\n");
  t.deepEqual(
    declared.filter(([, constant]) => !new RegExp(`\\b${constant}\\b`).test(code)).map(([, , name]) => name),
    [],
  );
});

const lead = (sourcePort = 40000) =>
  udpFrame({ source: CLIENT, destination: SERVER, sourcePort, destinationPort: 5000 }, "lead");

const TWICE: Options = {
  service: ", policy: twice",
  extra: "service-policies: [{ name: twice, resiliency: packet-duplication }]\n",
};

/** The first fragment of a packet. */
const piece = (id: number) =>
  withHeader(lead(), (bytes) => {
    setU16(bytes, 16, 28);
    setU16(bytes, 18, id);
    setU16(bytes, 20, 0x2000);
  }).slice(0, 42);

/** A router with one IPv6 interface. */
function ipv6Router(): { port: MemoryPort; router: Router } {
  const text = `authority: acme
router: six
interfaces: [{ name: lan0, device: lan0, addresses: ["2001:db8:1::1/64"], tenant: corp }]
tenants: [{ name: corp }]
`;
  const { config } = parseConfig(text, "six.yaml");
  const port = new MemoryPort({ name: "lan0", mac: macOf(config!, config!.interfaces[0]) });
  const options = { clock: new ManualClock(1000), random: new SeededRandom(1), acceptAnyMac: true };
  return { port, router: buildRouter(config!, inOwnForm(config!, [port]), options) };
}

/** To the outside from a host of its network; its L4 checksum is what `l4` says. */
function ipv6Frame(protocol: number, l4: Uint8Array, host = 2): Uint8Array {
  const frame = new Uint8Array(54 + l4.length);
  frame.set([0x02, 0x57, 0x4d, 0, 0, 1, 2, 0, 0, 0, 0, 9, 0x86, 0xdd, 0x60, 0, 0, 0, 0, l4.length, protocol, 64]);
  frame.set([0x20, 1, 0x0d, 0xb8, 0, 1], 22);
  frame[37] = host;
  frame.set([0x20, 1, 0x0d, 0xb8, 0, 2], 38);
  frame[53] = host;
  frame.set(l4, 54);
  return frame;
}

const ENDS = { source: CLIENT, destination: SERVER, sourcePort: 40000, destinationPort: 5000 };

/** A segment of the client. */
function segment({ world, client }: TwoRouters, flags: number, sequence: number, payload = ""): void {
  world.send(client, tcpFrame(ENDS, { flags, sequence, acknowledgment: flags === SYN ? 0 : 5001 }, payload));
  world.run(2);
}

/** A TCP connection that goes as UDP between the routers. */
function transformed(): TwoRouters {
  const net = twoRouters({ path: ", udp-transform: always" });
  segment(net, SYN, 1000);
  net.world.send(net.server, tcpFrame(swapEnds(ENDS), { flags: SYN | ACK, sequence: 5000, acknowledgment: 1001 }));
  net.world.run(2);
  segment(net, ACK, 1001);
  return net;
}

/** What no capture can cause: the state of links, peers and the wire. Each leaves its reason counted at west or east, or at the routers it adds. */
const SCENES: Record<string, (net: TwoRouters, routers: Router[]) => void> = {
  loop: ({ west }) => {
    const frame = lead();
    frame.set(west.ports[0].info().mac, 6);
    (west.ports[0] as MemoryPort).inject(frame);
    west.engine.turn(1000);
  },
  "ipv6-extension": (_, routers) => {
    const { port, router } = ipv6Router();
    const packet = ipv6Frame(17, Uint8Array.of(0, 1, 0, 2, 0, 8, 1, 1));
    packet[20] = 60;
    port.inject(packet);
    router.engine.turn(1000);
    routers.push(router);
  },
  "ipv6-option": (_, routers) => {
    const { port, router } = ipv6Router();
    // Home Address (RFC 6275, 6.3).
    const packet = ipv6Frame(17, Uint8Array.of(17, 0, 0xc9, 4, 0, 0, 0, 0, 0, 1, 0, 2, 0, 8, 1, 1));
    packet[20] = 60;
    port.inject(packet);
    router.engine.turn(1000);
    routers.push(router);
  },
  "udp-unchecked": (_, routers) => {
    const { port, router } = ipv6Router();
    port.inject(ipv6Frame(17, Uint8Array.of(0, 1, 0, 2, 0, 8, 0, 0)));
    router.engine.turn(1000);
    routers.push(router);
  },
  "neighbor-malformed": (_, routers) => {
    const { port, router } = ipv6Router();
    const solicitation = new Uint8Array(24);
    solicitation[0] = 135;
    port.inject(ipv6Frame(58, solicitation));
    router.engine.turn(1000);
    routers.push(router);
  },
  "listener-query-malformed": (_, routers) => {
    const { port, router } = ipv6Router();
    (router.ports[0] as Ipv6Port).listener = new Listener(port, [], new SeededRandom(1), true);
    // Its hop limit is not 1.
    const query = new Uint8Array(28);
    query[0] = 130;
    const frame = ipv6Frame(58, query);
    frame.set([0x33, 0x33, 0, 0, 0, 1]);
    frame.set([0xff, 2, ...Array<number>(13).fill(0), 1], 38);
    port.inject(frame);
    router.engine.turn(1000);
    routers.push(router);
  },
  "addresses-full": (_, routers) => {
    const { port, router } = ipv6Router();
    addressBook.limit = 1;
    port.inject(ipv6Frame(17, Uint8Array.of(0, 1, 0, 2, 0, 8, 1, 1), 0x77));
    router.engine.turn(1000);
    addressBook.limit = router.config.limits.ipv6Addresses;
    routers.push(router);
  },
  "path-down": ({ world, client, west }) => {
    west.sessions.paths[0].up = false;
    world.send(client, lead());
    world.run(1);
  },
  recovering: ({ world, client, west }) => {
    west.sessions.paths[0].givingBackUntilMs = world.clock.nowMs() + 1000;
    world.send(client, lead());
    world.run(1);
  },
  "route-loop": ({ world, client }) => {
    world.send(client, lead());
    world.run(1);
  },
  "tcp-urgent": (_, routers) => {
    const net = transformed();
    segment(net, ACK | URG, 1001, "urgent");
    routers.push(net.west);
  },
  "tcp-in-udp": (_, routers) => {
    const net = transformed();
    segment(net, ACK, 1001, "data");
    const bare = packetsOn(net.wan, "west").at(-1)!;
    net.world.inject(net.wan, "east", udpFrame(bare, bare.payload.slice(0, 11)));
    net.world.run(1);
    routers.push(net.east);
  },
  "arp-limit": ({ world, client, lan }) => {
    world.send(client, lead());
    world.run(1);
    const asked = lan.seen.find(({ frame }) => frame[12] === 8 && frame[13] === 6)!.frame;
    asked[31] = 77;
    for (let n = 0; n < 1001; n++) {
      world.inject(lan, "west", asked.slice());
      if (n % 32 === 0) world.settle();
    }
    world.settle();
  },
  "neighbor-unreachable": ({ world, client, server }) => {
    server.answersArp = false;
    world.send(client, lead());
    world.skip(10_000);
  },
  "tx-full": ({ world, client, west }) => {
    world.send(client, lead());
    world.run(1);
    const frame = client.received[0]?.frame ?? lead();
    frame.set(west.ports[0].info().mac, 0);
    // Nobody carries the frames away.
    for (let n = 0; n < 1000; n++) {
      (west.ports[0] as MemoryPort).inject(frame);
      west.engine.turn(world.clock.nowMs());
    }
  },
  "stray-ring-full": ({ world, client }, routers) => {
    // The first worker's copy of an ARP message finds no room.
    const split = world.split("west", 2, 32);
    world.send(client, lead());
    world.run(1);
    routers.push(...split.workers);
  },
  "icmp-error": ({ world, client }) => {
    world.send(client, icmpError(CLIENT, 3, 3, lead()));
    world.run(10);
  },
  "ip-fragment-malformed": ({ world, client }) => {
    const odd = withHeader(piece(1).slice(0, 41), (bytes) => setU16(bytes, 16, 27));
    world.send(client, odd);
    world.run(10);
  },
  "ip-fragment-timeout": ({ world, client }) => {
    world.send(client, piece(1));
    world.run(10);
    world.skip(16_000);
  },
  "ip-fragments-full": ({ world, client }) => {
    for (let id = 1; id <= 257; id++) {
      world.send(client, piece(id));
      world.run(1);
    }
  },
  "nat-ports": (_, routers) => {
    const net = edgeAlone({ sessions: 50_000 });
    exhaust(net.edge, OUTSIDE, 0);
    sendOut(net);
    routers.push(net.edge);
  },
  "nat-unmapped": (_, routers) => {
    const net = edgeAlone({ nat: "source-nat-pool: [192.0.2.7]" });
    sendOut(net, { destination: "192.0.2.7" });
    routers.push(net.edge);
  },
  duplicate: (_, routers) => {
    const net = twoPaths(TWICE);
    net.world.send(net.client, lead());
    net.world.run(2);
    routers.push(net.east);
  },
  "duplicates-full": (_, routers) => {
    const net = twoPaths({ ...TWICE, limitsOf: { east: { others: ", duplicated-sessions: 1" } } });
    for (const port of [40000, 40001]) net.world.send(net.client, lead(port));
    net.world.run(2);
    routers.push(net.east);
  },
  "tx-error": ({ west }) => {
    const runt = new FrameBatch(new Uint8Array(64), 1);
    runt.length[0] = 13;
    west.ports[0].tx(runt, 0, 1);
  },
};

/** The client's lead packet goes its way. */
const open = ({ world, client }: TwoRouters) => {
  world.send(client, lead());
  world.run(2);
};

/** East gets another packet on the session's tuple. */
const follow = (net: TwoRouters, payload: string) => {
  const [first] = packetsOn(net.wan, "west");
  net.world.inject(net.wan, "east", udpFrame(first, payload));
  net.world.run(1);
};

const EVERY = fabricText("sha256", "time-based", "every-packet", "none");
const PAYLOAD = payloadText("aes-cbc-128", false);
const OWN_KEYS = `${PAYLOAD}, session-keys: true`;
const CLEAR = fabricText("none", "", "", "none");
const ciphers = (first: number) => ({ fabric: fabricText("none", "", "", "aes-cbc-128", first) });

const WATCHED = { extra: "bfd: { desired-tx-interval: 50ms, required-min-rx-interval: 50ms }\n" };

/** What needs keys, or BFD: of both routers, or of each. */
const SECURE_SCENES: Record<string, [Options, (net: TwoRouters) => void]> = {
  "signature-wrong": [{ protections: { west: { fabric: SIGNED }, east: { fabric: EVERY } } }, open],
  "signature-missing": [{ security: { fabric: EVERY } }, (net) => [open(net), follow(net, "short")]],
  "clock-skew": [{ security: { fabric: SIGNED } }, (net) => [net.world.skewMs.set("west", 60_000), open(net)]],
  "key-version": [{ protections: { west: { fabric: `${SIGNED}, key-version: 2` }, east: { fabric: SIGNED } } }, open],
  "metadata-cipher": [{ protections: { west: ciphers(1), east: ciphers(2) } }, open],
  "payload-cipher": [{ security: { payload: PAYLOAD } }, (net) => [open(net), follow(net, "in clear")]],
  "payload-checksum": [
    { security: { payload: PAYLOAD } },
    (net) => {
      const wrong = lead();
      wrong[wrong.length - 1] ^= 1;
      net.world.send(net.client, wrong);
      net.world.run(2);
    },
  ],
  "session-key": [
    { protections: { west: { fabric: SIGNED, payload: PAYLOAD }, east: { fabric: SIGNED, payload: OWN_KEYS } } },
    open,
  ],
  "key-in-clear": [
    {},
    ({ world, wan }) => {
      world.inject(wan, "east", udpFrame(TO_EAST, forwardMetadata({ key: new Uint8Array(32) })));
      world.run(1);
    },
  ],
  "security-policy": [{ protections: { west: { fabric: CLEAR }, east: { fabric: CLEAR, payload: PAYLOAD } } }, open],
  "bfd-peer": [
    WATCHED,
    (net) => {
      Object.assign(net.west.sessions.paths[0], { peerName: "north" });
      net.world.run(2000);
    },
  ],
  "firewall-test": [
    WATCHED,
    ({ world, wan }) => {
      world.run(2000);
      // A firewall says no in the peer's name.
      const ends = { source: "198.18.0.1", destination: "198.18.0.2", sourcePort: 1280, destinationPort: 9000 };
      world.inject(wan, "east", tcpFrame(ends, { flags: RST, sequence: 0, acknowledgment: 0 }));
      world.run(1);
    },
  ],
  "bfd-echo": [
    WATCHED,
    (net) => {
      net.world.run(2500);
      const ofBfd = packetsOn(net.wan, "west").filter(({ destinationPort }) => destinationPort === 1280);
      const longest = Math.max(...ofBfd.map(({ payload }) => payload.length));
      const echo = ofBfd.find(({ payload }) => payload.length === longest)!.frame;
      for (let n = 0; n < 600; n++) {
        net.world.inject(net.wan, "east", echo.slice());
        net.world.settle();
      }
    },
  ],
  replay: [
    { security: { fabric: SIGNED } },
    (net) => {
      open(net);
      net.east.sessions.close(sessionRows(net.east)[0], net.world.clock.nowMs());
      net.world.inject(net.wan, "east", packetsOn(net.wan, "west")[0].frame.slice());
      net.world.run(1);
    },
  ],
};

const BFD: Partial<BfdPacket> = { detectMult: 3, myDiscriminator: 1, yourDiscriminator: 7 };

/** The verdict on a packet between peers, with `change` made to its bytes. */
function bfdVerdict(change: (bytes: Uint8Array) => void, isPlain = false, withMetadata = true): number {
  const bytes = new Uint8Array(256);
  const packet = Object.assign(new BfdPacket(), BFD);
  const writer = new MetadataWriter(new Uint8Array(200));
  writer.begin();
  addBfdAttributes(writer, packet);
  const at = writeBfd(bytes, 0, packet);
  const length = withMetadata ? writer.end() : 0;
  bytes.set(writer.buffer.subarray(0, length), at);
  change(bytes);
  return readBfd(bytes, 0, at + length, isPlain ? null : new ParsedMetadata(), packet);
}

/** What a session says of the second of two packets. */
function bfdSessionVerdict(second: Partial<BfdPacket>, between: (session: BfdSession) => void = () => {}): number {
  const session = new BfdSession(
    {
      ...{ discriminator: 7, path: 0, identity: null, ownAddress: 0, ownPort: 0 },
      ...{ settings: BFD_DEFAULTS, random: new SeededRandom(1) },
    },
    0,
  );
  const first = Object.assign(new BfdPacket(), BFD, { hasMetadata: true, txSequence: 1 });
  session.receive(first, 0, 1, 1280);
  between(session);
  return session.receive(Object.assign(new BfdPacket(), first, { txSequence: 2 }, second), 0, 1, 1280);
}

/** Reasons of the path monitor, shown by the codec and the session themselves: no router runs one yet. */
const BFD_SCENES: Record<string, () => number> = {
  "bfd-length": () => bfdVerdict((bytes) => (bytes[3] = 23)),
  "bfd-version": () => bfdVerdict((bytes) => (bytes[0] = 0x40)),
  "bfd-multiplier": () => bfdVerdict((bytes) => (bytes[2] = 0)),
  "bfd-multipoint": () => bfdVerdict((bytes) => (bytes[1] |= 1)),
  "bfd-discriminator": () => bfdVerdict((bytes) => bytes.fill(0, 4, 8)),
  "bfd-authentication": () => bfdVerdict((bytes) => (bytes[1] |= 4)),
  "bfd-metadata": () => bfdVerdict(() => {}, false, false),
  "bfd-metadata-unexpected": () => bfdVerdict(() => {}, true),
  "bfd-ttl": () => checkBfdTtl(254),
  "bfd-session": () => bfdSessionVerdict({ yourDiscriminator: 8 }),
  "bfd-sequence": () => bfdSessionVerdict({ txSequence: 1 }),
  "bfd-admin-down": () => bfdSessionVerdict({}, (session) => session.disable(0)),
};

test("every drop reason is reached by a golden case or by a scene of this test", (t) => {
  const reached = new Set<string>();
  for (const path of filesUnder("test/golden").filter((file) => file.endsWith("counters.json"))) {
    for (const counter of Object.keys(JSON.parse(textOf(path)) as object)) reached.add(counter.replace("drop.", ""));
  }
  t.true(existsSync(join(ROOT, "test/golden")) && reached.size > 10);
  for (const [name, play] of Object.entries(SCENES)) {
    t.false(reached.has(name), `${name}: a golden case shows it already`);
    const net = twoRouters(name === "route-loop" ? { eastRoute: "peer: west" } : {});
    const routers = [net.west, net.east];
    play(net, routers);
    const drops = routers.reduce((sum, router) => sum + readCounters(router)[`drop.${name}`], 0);
    t.true(drops > 0, name);
    reached.add(name);
  }
  for (const [name, [options, play]] of Object.entries(SECURE_SCENES)) {
    const net = twoRouters(options);
    play(net);
    t.true(
      [net.west, net.east].some((router) => readCounters(router)[`drop.${name}`] > 0),
      name,
    );
    reached.add(name);
  }
  t.is(verdictName(bfdVerdict(() => {})), "ok");
  t.is(verdictName(bfdSessionVerdict({})), "ok");
  for (const [name, play] of Object.entries(BFD_SCENES)) {
    t.false(reached.has(name), `${name}: a golden case shows it already`);
    t.is(verdictName(play()), name);
    reached.add(name);
  }
  t.deepEqual(
    names.filter((name) => !reached.has(name)),
    [],
  );
});
