// Hostile frames at every interface of two routers with keys, while hosts speak through them: 200,000 in `make test`, ten
// million in `make fuzz` (WAYMARK_HOSTILE_FRAMES; WAYMARK_SEED=n runs a seed again). No crash, no growth, the books in
// order, no session that a host of a tenant did not begin, and nothing reaches a host that no host has sent.

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import test from "ava";
import { getU16, setU16 } from "../../lib/base/bytes.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import { readCounters } from "../../lib/control/metrics.ts";
import { ipv4HeaderChecksum } from "../../lib/wire/checksum.ts";
import { ETHERTYPE_IPV4 } from "../../lib/wire/flow-key.ts";
import { completeChecksum } from "../../lib/wire/offload.ts";
import { ACK, PSH, RST, SYN } from "../../lib/wire/tcp.ts";
import { COOKIE, echoFrame, metadataOf, pattern, swapEnds, tcpFrame, udpFrame } from "../simulate/packets.ts";
import { forwardMetadata, TO_EAST } from "../simulate/peer.ts";
import { AES_256, fabricText } from "../simulate/protection.ts";
import { CLIENT, SERVER, sessionRows, type TwoRouters, twoRouters } from "../simulate/topologies.ts";
import type { Link } from "../simulate/world.ts";
import { randomBytes } from "../wire/frames.ts";
import { unaccounted } from "./fuzzed.ts";

const FRAMES = Number(process.env.WAYMARK_HOSTILE_FRAMES ?? 200_000);
const seed = Number(process.env.WAYMARK_SEED ?? (FRAMES > 1_000_000 ? Date.now() % 1_000_000_000 : 20_260_203));
/** Frames that arrive at each of the four interfaces in one millisecond. */
const BURST = 12;
/** The hosts' own conversation: one question every so many milliseconds. */
const SAY_MS = 25;
/** Between two looks at the books, in milliseconds. */
const LOOK_MS = 500;
const FRAME_MAX = 1514;
const L4 = 34;

const KEYS = { fabric: fabricText("sha256-128", "time-based", "every-packet", "aes-cbc-256"), payload: AES_256 };
const OTHER_KEYS = {
  fabric: fabricText("sha256-128", "time-based", "every-packet", "aes-cbc-256", 77),
  payload: AES_256,
};

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

const UDP_ENDS = { source: CLIENT, destination: SERVER, sourcePort: 40_001, destinationPort: 7 };
const TCP_ENDS = { ...UDP_ENDS, sourcePort: 40_000 };

/** Where a frame can come in: a link, and the router at its end. */
interface Entrance {
  readonly link: Link;
  readonly to: "west" | "east";
  readonly from: string;
}

/** Frames by "link sender", and by "link " alone. */
type Captured = Map<string, Uint8Array[]>;

/** What crossed each link of such a network while hosts spoke: TCP, UDP, ping, packets that are cut, ARP. */
function captured(security: typeof KEYS, random: SeededRandom): Captured {
  const net = twoRouters({ security });
  net.server.onPacket = (packet) => {
    if (packet.protocol === 17) net.world.send(net.server, udpFrame(swapEnds(packet), packet.payload));
    else if (packet.protocol === 1)
      net.world.send(net.server, echoFrame(SERVER, CLIENT, 9, packet.sequence, packet.payload, true));
    else {
      const isOpening = (packet.tcpFlags & SYN) !== 0;
      const [sequence, acknowledgment] = [isOpening ? 5000 : packet.acknowledgment, packet.sequence + 1];
      net.world.send(
        net.server,
        tcpFrame(swapEnds(packet), { flags: isOpening ? SYN | ACK : ACK, sequence, acknowledgment }),
      );
    }
  };
  for (let n = 0; n < 4; n++) {
    const ends = { ...UDP_ENDS, sourcePort: 30_000 + n };
    for (const length of [5, 100, 1472]) {
      net.world.send(net.client, udpFrame(ends, randomBytes(random, length)));
      net.world.run(3);
    }
    net.world.send(net.client, echoFrame(CLIENT, SERVER, 9, n, "ping"));
    net.world.send(net.client, tcpFrame(ends, { flags: SYN, sequence: 1000, acknowledgment: 0, mss: 1460 }));
    net.world.run(3);
    for (const text of ["GET", "a longer request of a host"]) {
      net.world.send(net.client, tcpFrame(ends, { flags: ACK | PSH, sequence: 1001, acknowledgment: 5001 }, text));
      net.world.run(3);
    }
  }
  // Generated answers, and health checks of a stream that nobody answers.
  net.server.onPacket = () => {};
  for (let n = 0; n < 40; n++) {
    net.world.send(net.client, udpFrame({ ...UDP_ENDS, sourcePort: 30_010, destinationPort: 9 }, `line ${n}`));
    net.world.skip(1000, 100);
  }
  const frames: Captured = new Map();
  for (const { name, seen } of net.world.links.values()) {
    for (const { from, frame } of seen) {
      for (const key of [`${name} ${from}`, `${name} `]) {
        if (!frames.has(key)) frames.set(key, []);
        frames.get(key)!.push(frame);
      }
    }
  }
  return frames;
}

const INTERESTING = [
  0, 1, 7, 8, 11, 12, 13, 16, 19, 20, 60, 0x45, 0x7f, 0x80, 0xff, 0x5dc, 0x1fff, 0x2000, 0xfff8, 0xffff,
];

/** Make checksums right for what the frame has become, where it is long enough to have any. */
function repair(frame: Uint8Array): void {
  if (frame.length < L4 || getU16(frame, 12) !== ETHERTYPE_IPV4 || frame[14] !== 0x45) return;
  setU16(frame, 24, 0);
  setU16(frame, 24, ipv4HeaderChecksum(frame, 14));
  const end = 14 + getU16(frame, 16);
  const header = frame[23] === 6 ? 20 : 8;
  if (end <= frame.length && end >= L4 + header) completeChecksum(frame, 0);
}

/** Of the frames that crossed between the routers just now, as many are kept to be sent again. */
const KEPT = 512;

class Attacker {
  /** Live frames between the routers: their digests are right, and of this time. */
  readonly #kept: Uint8Array[] = [];
  #next = 0;
  readonly #random: SeededRandom;
  readonly #genuine: Captured;
  readonly #wrongKeys: Captured;

  constructor(random: SeededRandom) {
    this.#random = random;
    this.#genuine = captured(KEYS, random);
    this.#wrongKeys = captured(OTHER_KEYS, random);
  }

  keep(frame: Uint8Array): void {
    this.#kept[this.#next++ % KEPT] = frame;
  }

  /** A frame for that entrance, of every kind alike. */
  frame({ link, from }: Entrance): Uint8Array {
    const random = this.#random;
    const isWan = link.name === "wan";
    const kind = random.below(9);
    if (kind === 0) return this.#noise();
    if (kind === 1) return isWan ? this.#one(this.#wrongKeys, link.name, from) : this.#lead();
    if (kind === 2) return isWan ? this.#forged() : this.#mutated(this.#lead());
    if (kind === 8 && isWan && this.#kept.length > 0) {
      const live = this.#kept[random.below(this.#kept.length)].slice();
      return [
        () => live,
        () => this.#mutated(live),
        () => this.#fromElsewhere(live),
        () => this.#onOtherPorts(live),
        () => this.#cut(live),
      ][random.below(5)]();
    }
    // Sent again, also to where it did not go; altered; or its lengths are lies.
    const name = random.below(6) === 0 ? ["lan", "wan", "far"][random.below(3)] : link.name;
    const frame = this.#one(this.#genuine, name, name !== link.name || random.below(6) === 0 ? "" : from);
    if (kind === 3 || kind === 8) return frame;
    if (kind === 4) return this.#withLies(frame);
    if (kind === 5) return this.#fromElsewhere(frame);
    return this.#mutated(frame);
  }

  /** A frame that crossed the link of that name, sent by whoever is named or "" = either. */
  #one(from: Captured, name: string, sender: string): Uint8Array {
    const frames = from.get(`${name} ${sender}`)!;
    return frames[this.#random.below(frames.length)].slice();
  }

  #noise(): Uint8Array {
    const frame = randomBytes(this.#random, 12 + this.#random.below(this.#random.below(4) === 0 ? 1500 : 100));
    if (frame.length > 24 && this.#random.below(2) === 0) {
      frame.set([8, this.#random.below(4) === 0 ? 6 : 0, 0x45, 0], 12);
      setU16(frame, 16, frame.length - 14);
      repair(frame);
    }
    return frame;
  }

  /** A packet that a host of the tenant may send, to the service or past it. */
  #lead(): Uint8Array {
    const random = this.#random;
    const ends = {
      source: `10.1.0.${2 + random.below(8)}`,
      destination: random.below(5) === 0 ? `10.${random.below(4)}.0.${random.below(4)}` : SERVER,
      sourcePort: 1024 + random.below(8000),
      destinationPort: 1024 + random.below(4),
    };
    const payload = pattern(random.below(random.below(8) === 0 ? 1473 : 60), random.below(256));
    if (random.below(8) === 0) payload.set(COOKIE.subarray(0, Math.min(8, payload.length)));
    const ttl = random.below(30) === 0 ? 1 : 64;
    if (random.below(2) === 0) return udpFrame(ends, payload, ttl);
    const flags = [SYN, SYN, ACK, ACK | PSH, SYN | ACK, RST, random.below(64)][random.below(7)];
    const text = (flags & SYN) !== 0 ? "" : payload.slice(0, 1400);
    return tcpFrame(ends, { flags, sequence: random.nextI32(), acknowledgment: random.nextI32() }, text, ttl);
  }

  /** What somebody writes in the peer's name who has no keys. */
  #forged(): Uint8Array {
    const random = this.#random;
    const ends = { ...TO_EAST, sourcePort: 16_384 + random.below(200), destinationPort: 16_384 + random.below(200) };
    const fragment = {
      extendedId: random.below(40),
      originalId: 1,
      dontFragment: false,
      moreFragments: random.below(2) === 0,
      offset: 8 * random.below(200),
      largestSeen: 0,
    };
    const metadata = [
      () => forwardMetadata({ uuid: `0f1e2d3c-4b5a-4978-8796-${String(random.below(1e9)).padStart(12, "0")}` }),
      () => metadataOf([16, random.below(3)], [24, random.below(10)]),
      () => metadataOf([16, 0], [46, 1]),
      () => metadataOf([1, fragment]),
    ][random.below(4)]();
    const payload = Uint8Array.from([...metadata, ...randomBytes(random, random.below(60))]);
    const from = random.below(2) === 0 ? ends : swapEnds(ends);
    return random.below(2) === 0
      ? udpFrame(from, payload)
      : tcpFrame(from, { flags: [SYN, ACK][random.below(2)], sequence: 1, acknowledgment: 1 }, payload);
  }

  /** A length field, of the headers or of metadata, is another than it should be; checksums are right. */
  #withLies(frame: Uint8Array): Uint8Array {
    const random = this.#random;
    const at = [16, 20, L4 + 4, L4 + 12, 50, 52, 56, 62, 64, 70][random.below(10)];
    if (at + 2 > frame.length) return frame;
    const near = getU16(frame, at) + random.below(17) - 8;
    setU16(frame, at, random.below(2) === 0 ? near & 0xffff : INTERESTING[random.below(INTERESTING.length)]);
    repair(frame);
    return frame;
  }

  /** The same from another address, peer's or not. */
  #fromElsewhere(frame: Uint8Array): Uint8Array {
    if (frame.length < L4) return frame;
    frame[26 + this.#random.below(4)] ^= 1 << this.#random.below(8);
    repair(frame);
    return frame;
  }

  /** The same on a tuple that no session has. */
  #onOtherPorts(frame: Uint8Array): Uint8Array {
    if (frame.length < L4 + 8) return frame;
    setU16(frame, L4, 0x4000 | (this.#random.below(0x2000) << 1));
    repair(frame);
    return frame;
  }

  /** The same with less payload, and lengths that say so. */
  #cut(frame: Uint8Array): Uint8Array {
    const headers = L4 + (frame[23] === 6 ? 20 : 8);
    if (frame.length <= headers) return frame;
    const cut = frame.slice(0, headers + this.#random.below(Math.min(40, frame.length - headers)));
    setU16(cut, 16, cut.length - 14);
    if (cut[23] === 17) setU16(cut, L4 + 4, cut.length - L4);
    repair(cut);
    return cut;
  }

  #mutated(original: Uint8Array): Uint8Array {
    const random = this.#random;
    let frame = original;
    for (let changes = 1 + random.below(3); changes > 0 && frame.length > 14; changes--) {
      const at = 12 + random.below(Math.min(frame.length, random.below(3) === 0 ? frame.length : 150) - 12);
      const kind = random.below(5);
      if (kind === 0) frame[at] ^= 1 << random.below(8);
      else if (kind === 1) setU16(frame, Math.min(at, frame.length - 2), INTERESTING[random.below(INTERESTING.length)]);
      else if (kind === 2) frame[at] = random.below(256);
      else if (kind === 3) frame.set(randomBytes(random, Math.min(4, frame.length - at)), at);
      else if (random.below(3) === 0) {
        frame = frame.slice(0, at);
        if (random.below(2) === 0 && frame.length >= L4 + 8) {
          setU16(frame, 16, frame.length - 14);
          if (frame[23] === 17) setU16(frame, L4 + 4, frame.length - L4);
        }
      }
    }
    if (random.below(2) === 0) repair(frame);
    return frame;
  }
}

/** A set of numbers that takes no more memory as it grows (a Bloom filter): what was added is there, what was not almost never is. */
class Filter {
  readonly #bits = new Uint8Array(1 << 23);

  add(one: number, two: number): void {
    this.#bits[(one >>> 9) & 0x7fffff] |= 1 << (one & 7);
    this.#bits[(two >>> 9) & 0x7fffff] |= 1 << (two & 7);
  }

  has(one: number, two: number): boolean {
    const first = this.#bits[(one >>> 9) & 0x7fffff] & (1 << (one & 7));
    return first !== 0 && (this.#bits[(two >>> 9) & 0x7fffff] & (1 << (two & 7))) !== 0;
  }

  clear(): void {
    this.#bits.fill(0);
  }
}

/** What hosts sent, for as long as a copy of it may still come through. */
class Sent {
  #now = new Filter();
  #before = new Filter();

  add(frame: Uint8Array): void {
    if (identify(frame)) this.#now.add(identity[0], identity[1]);
  }

  has(frame: Uint8Array): boolean {
    return identify(frame) && (this.#now.has(identity[0], identity[1]) || this.#before.has(identity[0], identity[1]));
  }

  /** Forget what was added before the last turn. */
  turn(): void {
    [this.#now, this.#before] = [this.#before, this.#now];
    this.#now.clear();
  }
}

const identity = new Int32Array(2);

/** Two hashes of what digests keep of an IPv4 packet: addresses, protocol, ports, and what is behind the L4 header. False = it is none. */
function identify(frame: Uint8Array): boolean {
  if (frame.length < L4 || getU16(frame, 12) !== ETHERTYPE_IPV4) return false;
  const l4 = 14 + ((frame[14] & 15) << 2);
  const protocol = frame[23];
  // Bytes behind the UDP length (RFC 9868) are not encrypted, and do not travel.
  const end = protocol === 17 ? Math.min(frame.length, l4 + getU16(frame, l4 + 4)) : 14 + getU16(frame, 16);
  const checksum = l4 + (protocol === 17 ? 6 : protocol === 1 ? 2 : 1e6);
  let [one, two] = [protocol, 0x9e3779b9];
  const take = (byte: number) => {
    one = Math.imul(one ^ byte, 0x01000193);
    two = Math.imul(two + byte, 0x85ebca6b) ^ (two >>> 15);
  };
  for (let at = 26; at < 34; at++) take(frame[at]);
  if (protocol === 6) {
    for (let at = l4; at < l4 + 4; at++) take(frame[at]);
    for (let at = l4 + (frame[l4 + 12] >>> 4) * 4; at < end; at++) take(frame[at]);
  } else for (let at = l4; at < end; at++) if (at !== checksum && at !== checksum + 1) take(frame[at]);
  identity[0] = one ^ (one >>> 15);
  identity[1] = two ^ (two >>> 15);
  return true;
}

/** Packets that a router makes for hosts itself: resets, and ICMP in its own name or about time to live. */
function isRouters(frame: Uint8Array): boolean {
  const l4 = 14 + ((frame[14] & 15) << 2);
  return frame[23] === 6 ? (frame[l4 + 13] & RST) !== 0 : frame[23] === 1 && (frame[l4] === 11 || frame[29] === 1);
}

/** What has no payload has no digest (protocol sheet 5.3), so anybody can write it. It must still be what its lengths say. */
function isUnsigned(frame: Uint8Array): boolean {
  const l4 = 14 + ((frame[14] & 15) << 2);
  const header = frame[23] === 6 ? (frame[l4 + 12] >>> 4) * 4 : frame[23] === 17 ? 8 : 1e6;
  return l4 + header >= frame.length && getU16(frame, 16) === frame.length - 14;
}

/** The identifiers that a router has given to sessions. */
function identifiersOf({ sessions }: TwoRouters["west"]): Filter {
  const given = new Filter();
  const draw = sessions.newUuid.bind(sessions);
  sessions.newUuid = (into) => {
    draw(into);
    given.add(into[0], into[3]);
  };
  return given;
}

interface Memory {
  heap: number;
  buffers: number;
  rss: number;
}

function memory(): Memory {
  // Buffers are given back one collection after their owners.
  for (let n = 0; n < 3; n++) collect();
  const { heapUsed, arrayBuffers, rss } = process.memoryUsage();
  return { heap: heapUsed, buffers: arrayBuffers, rss };
}

const MIB = 1 << 20;

test(`${FRAMES} hostile frames at two routers with keys: no crash, no growth, no session that nobody may have, and hosts speak on`, (t) => {
  t.timeout(600_000 + FRAMES);
  const random = new SeededRandom(seed);
  const attacker = new Attacker(random);
  const net = twoRouters({ security: KEYS, limits: { sessions: 512, waypointPairs: 4096 }, queueFrames: 1024 });
  const { world, west, east, client, server, lan, wan, far } = net;
  const given = identifiersOf(west);
  // What was captured is of another time.
  for (const name of ["west", "east"]) world.skewMs.set(name, 120_000);
  const entrances: Entrance[] = [
    { link: lan, to: "west", from: "client" },
    { link: wan, to: "west", from: "east" },
    { link: wan, to: "east", from: "west" },
    { link: far, to: "east", from: "server" },
  ];
  const sent = new Sent();
  const problems: string[] = [];
  const say = (problem: string) => {
    if (problems.length < 20) problems.push(`seed ${seed}, ${world.clock.nowMs()} ms: ${problem}`);
  };

  // The conversation of the hosts: each question is answered within a few milliseconds, or it is lost.
  let [asked, answered, tcpAsked, tcpAnswered] = [0, 0, 0, 0];
  const sequence = { client: 1000, server: 5000 };
  client.onPacket = ({ text, protocol, destinationPort, tcpFlags }) => {
    if (protocol === 17 && destinationPort === UDP_ENDS.sourcePort && text === `ANSWER ${asked}`) answered = asked;
    if (
      protocol === 6 &&
      destinationPort === TCP_ENDS.sourcePort &&
      (tcpFlags & PSH) !== 0 &&
      text === `ANSWER ${tcpAsked}`
    )
      tcpAnswered = tcpAsked;
  };
  server.onPacket = ({ text, sourcePort, destinationPort, protocol, tcpFlags }) => {
    if (destinationPort !== UDP_ENDS.destinationPort) return;
    if (protocol === 17 && sourcePort === UDP_ENDS.sourcePort && text === `question ${asked}`)
      world.send(server, udpFrame(swapEnds(UDP_ENDS), `ANSWER ${asked}`));
    if (protocol !== 6 || sourcePort !== TCP_ENDS.sourcePort) return;
    const back = (flags: number, payload = "") =>
      world.send(
        server,
        tcpFrame(swapEnds(TCP_ENDS), { flags, sequence: sequence.server, acknowledgment: sequence.client }, payload),
      );
    if ((tcpFlags & SYN) !== 0 && tcpAsked === 0) back(SYN | ACK);
    else if (text === `question ${tcpAsked}`) back(ACK | PSH, `ANSWER ${tcpAsked}`);
  };
  const segment = (flags: number, payload = "") =>
    world.send(
      client,
      tcpFrame(TCP_ENDS, { flags, sequence: sequence.client, acknowledgment: sequence.server }, payload),
    );
  segment(SYN);
  world.run(5);
  sequence.client++;
  sequence.server++;
  segment(ACK);
  world.run(5);
  const ask = () => {
    if (answered !== asked) say(`no answer to question ${asked}`);
    if (tcpAnswered !== tcpAsked) say(`no answer to question ${tcpAsked} over TCP`);
    if (tcpAsked > 0) {
      sequence.client += `question ${tcpAsked}`.length;
      sequence.server += `ANSWER ${tcpAsked}`.length;
    }
    asked++;
    tcpAsked++;
    world.send(client, udpFrame(UDP_ENDS, `question ${asked}`));
    segment(ACK | PSH, `question ${tcpAsked}`);
  };

  /** What crossed the links since the last time: nothing may leave toward a host that none has sent. */
  const lookAtLinks = () => {
    for (const { frame, from } of [...lan.seen, ...far.seen])
      if (from === "client" || from === "server") sent.add(frame);
    for (const link of [lan, far]) {
      for (const { from, frame } of link.seen) {
        if (from === "client" || from === "server" || getU16(frame, 12) !== ETHERTYPE_IPV4) continue;
        if (isRouters(frame) || isUnsigned(frame) || sent.has(frame)) continue;
        say(`to a host from nobody: ${Buffer.from(frame).toString("hex")}`);
      }
    }
    for (const { frame } of wan.seen) attacker.keep(frame);
    for (const { seen } of [lan, wan, far]) seen.length = 0;
    client.received.length = 0;
    server.received.length = 0;
  };
  const lookAtSessions = () => {
    for (const router of [west, east]) {
      const off = unaccounted(readCounters(router));
      if (off !== 0) say(`${off} frames unaccounted for`);
      const { table } = router.sessions;
      if (table.count > (router === west ? 512 : 1024)) say(`${table.count} sessions`);
      for (const row of sessionRows(router)) {
        const [source, destination] = table.context.subarray(row * 4, row * 4 + 2);
        if (source >>> 8 !== 0x0a0100 || destination >>> 8 !== 0x0a0200)
          say(`a session of ${source} with ${destination}`);
        const isPeers = table.upstream.path[row] >= 0;
        if (isPeers !== (router === east)) say("a session that came in at the wrong side");
        if (!given.has(table.uuid[row * 4], table.uuid[row * 4 + 3])) say("a session that no host began");
      }
    }
  };

  let before: Memory | undefined;
  let frames = 0;
  for (let ms = 1; frames < FRAMES && problems.length < 20; ms++) {
    for (const entrance of entrances) {
      for (let n = 0; n < BURST; n++, frames++) {
        const frame = attacker.frame(entrance);
        if (frame.length > FRAME_MAX) continue;
        world.inject(entrance.link, entrance.to, frame);
        // A host of the tenant may send what it likes.
        if (entrance.link !== wan) sent.add(frame);
      }
    }
    if (ms % SAY_MS === 0) ask();
    world.run(1);
    lookAtLinks();
    if (ms % LOOK_MS === 0) lookAtSessions();
    if (ms % 15_000 === 0) sent.turn();
    // Until then what the compiler learns.
    if (before === undefined && frames > (FRAMES / 5) * 2) before = memory();
  }
  const after = memory();
  lookAtSessions();
  t.deepEqual(problems, []);

  const [w, e] = [readCounters(west), readCounters(east)];
  const refused = (counters: Record<string, number>) =>
    Object.entries(counters).filter(([name, count]) => name.startsWith("drop.") && count > 0).length;
  const grown = {
    heap: after.heap - before!.heap,
    buffers: after.buffers - before!.buffers,
    rss: after.rss - before!.rss,
  };
  t.log(
    `seed ${seed}: ${frames} frames in ${world.clock.nowMs()} ms, ${asked} questions answered, ${w["sessions.opened"]} sessions begun by hosts, ` +
      `${w["frames.forwarded"]} and ${e["frames.forwarded"]} frames forwarded, ${refused(w)} and ${refused(e)} reasons to drop; ` +
      `grown in three fifths of it: heap ${Math.round(grown.heap / 1024)} KiB, buffers ${Math.round(grown.buffers / 1024)} KiB, resident ${Math.round(grown.rss / 1024)} KiB`,
  );
  t.true(grown.heap < 2 * MIB && grown.buffers < MIB, JSON.stringify(grown));
  t.true(asked > 10 && answered >= asked - 1 && tcpAnswered >= tcpAsked - 1);
  t.true(
    w["sessions.opened"] > FRAMES / 200 && w["frames.forwarded"] > FRAMES / 100 && e["frames.forwarded"] > FRAMES / 100,
  );
  for (const name of ["signature-wrong", "metadata-malformed", "not-a-peer", "unknown-session"]) {
    t.true(w[`drop.${name}`] > 0 && e[`drop.${name}`] > 0, name);
  }
  for (const name of ["replay", "signature-missing", "fabric-fragment-malformed"]) t.true(e[`drop.${name}`] > 0, name);
});
