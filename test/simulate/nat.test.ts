// One router behind a NAT that changes its mind: what hosts say to each other goes on, whoever began, and nobody else gets
// any of it.

import test, { type ExecutionContext } from "ava";
import { formatAddress } from "../../lib/control/address-text.ts";
import { uuidText } from "../../lib/control/names.ts";
import type { Router } from "../../lib/router.ts";
import { startsWithCookie } from "../../lib/wire/flow-key.ts";
import { SYN, TCP_HEADER } from "../../lib/wire/tcp.ts";
import { TcpClient, tcpServer, UdpClient, udpServer } from "./endpoints.ts";
import { type BehindNat, behindNat, NAT_ADDRESS, OTHER_NAT_ADDRESS, westYaml } from "./nat.ts";
import { echoFrame, icmpError, swapEnds, tcpFrame, udpFrame } from "./packets.ts";
import { AES_256, fabricText } from "./protection.ts";
import { CLIENT, countOf, dropsOf, type Protection, packetsOn, SERVER, sessionRows } from "./topologies.ts";

const REQUESTS = Array.from({ length: 100 }, (_, n) => `request ${n} of a hundred`);
const ANSWERS = REQUESTS.map((request) => request.toUpperCase());
const PAUSE_MS = 10;

const SIGNED: Protection = { fabric: fabricText("sha256-128", "time-based", "metadata", "none") };
const SEALED: Protection = {
  fabric: fabricText("sha256-128", "time-based", "every-packet", "aes-cbc-256"),
  payload: AES_256,
};
const KINDS: [string, Protection][] = [
  ["in clear", SIGNED],
  ["signed and encrypted", SEALED],
];
const WHO: [string, "client" | "server"][] = [
  ["from behind the NAT", "client"],
  ["toward the router behind the NAT", "server"],
];

interface Conversation {
  readonly answers: readonly string[];
  readonly done: () => boolean;
}

/** One of the two hosts asks the other, TCP or UDP. */
function converse(net: BehindNat, protocol: string, who: "client" | "server"): Conversation {
  const [asks, answers] = who === "client" ? [net.client, net.server] : [net.server, net.client];
  const ends = { source: asks.address, destination: answers.address, sourcePort: 40_000, destinationPort: 7 };
  if (protocol === "TCP") {
    const client = new TcpClient(net.world, asks, ends, REQUESTS, PAUSE_MS);
    asks.onPacket = (packet) => client.receive(packet);
    answers.onPacket = tcpServer(net.world, answers);
    return { answers: client.answers, done: () => client.state === "closed" || client.state === "refused" };
  }
  const client = new UdpClient(net.world, asks, ends, REQUESTS, PAUSE_MS);
  asks.onPacket = (packet) => client.receive(packet);
  answers.onPacket = udpServer(net.world, answers);
  return { answers: client.answers, done: () => client.answers.length === REQUESTS.length };
}

function identifiers(router: Router): string[] {
  return sessionRows(router).map((row) => uuidText(router.sessions.table.uuid.subarray(row * 4, row * 4 + 4)));
}

function completes(t: ExecutionContext, net: BehindNat, conversation: Conversation): void {
  const done = net.world.runUntil(conversation.done, 20_000);
  if (!done) t.log(net.world.diagram().split("\n").slice(-40).join("\n"));
  t.deepEqual(conversation.answers, ANSWERS);
  t.is(countOf(net.west, "tcp.resets-sent") + countOf(net.east, "tcp.resets-sent"), 0);
}

test("a path to a peer behind a NAT comes up by BFD, is where the NAT is, and stays up across a change of that", (t) => {
  const net = behindNat(SIGNED);
  const [path] = net.east.sessions.paths;
  t.is(formatAddress(path.remote), NAT_ADDRESS);
  t.true(path.remotePort > 20_000);
  net.world.run(1000);
  t.deepEqual(dropsOf(net.west), {});
  t.deepEqual(dropsOf(net.east), {});
  net.nat.rebind(OTHER_NAT_ADDRESS);
  net.world.run(200);
  t.is(formatAddress(path.remote), OTHER_NAT_ADDRESS);
  net.world.run(2000);
  t.true(path.up && net.west.sessions.paths[0].up);
  for (const router of [net.west, net.east]) {
    const kinds = router.events.list(net.world.clock.nowMs()).map(({ kind }) => kind);
    t.true(kinds.includes("nat-changed"));
    t.false(kinds.includes("path-down"));
    t.is(router.reports.of(0)?.bfd.downs, 0);
  }
});

for (const protocol of ["TCP", "UDP"]) {
  for (const [kind, security] of KINDS) {
    for (const [direction, who] of WHO) {
      for (const [what, address] of [
        ["its ports", NAT_ADDRESS],
        ["its address and ports", OTHER_NAT_ADDRESS],
      ] as const) {
        test(`${protocol} ${kind} ${direction} goes on when the NAT changes ${what}`, (t) => {
          const net = behindNat(security);
          const conversation = converse(net, protocol, who);
          t.true(net.world.runUntil(() => conversation.answers.length === 30, 5000));
          const [uuid] = identifiers(net.west);
          t.deepEqual(identifiers(net.east), [uuid]);
          const before = packetsOn(net.wan).length;
          net.nat.rebind(address);
          const rebindMs = net.world.clock.nowMs();
          t.true(
            net.world.runUntil(() => conversation.answers.length > 31, 5000),
            net.world.diagram().split("\n").slice(-60).join("\n"),
          );
          // The endpoints send again only after 300 ms.
          t.true(net.world.clock.nowMs() - rebindMs <= 700, `${net.world.clock.nowMs() - rebindMs} ms`);
          completes(t, net, conversation);
          for (const router of [net.west, net.east]) t.deepEqual(identifiers(router), [uuid]);
          const [row] = sessionRows(net.east);
          // What goes on BFD's tuple does not notice other ports.
          const isTunnelled = protocol === "TCP" && who === "server";
          if (!isTunnelled || address !== NAT_ADDRESS) t.true(net.east.sessions.table.moves[row] >= 1);
          const after = packetsOn(net.wan).slice(before);
          t.true(after.every(({ checksumsRight }) => checksumsRight));
          const last = after.filter(({ payload }) => payload[0] >>> 5 !== 1).at(-1)!;
          const [bytes, at] = isTunnelled ? [last.data, TCP_HEADER] : [last.payload, 0];
          t.false(startsWithCookie(bytes, at, bytes.length), "metadata has stopped");
        });
      }
    }
  }
}

for (const [direction, who] of WHO) {
  test(`ICMP ${direction} goes on when the NAT changes its address and ports`, (t) => {
    const net = behindNat(SEALED);
    const [asks, answers] = who === "client" ? [net.client, net.server] : [net.server, net.client];
    answers.onPacket = (packet) => {
      if (packet.icmpType === 8) net.world.send(answers, echoFrame(answers.address, asks.address, 77, 1, "ping", true));
    };
    const ping = (n: number) => {
      net.world.send(asks, echoFrame(asks.address, answers.address, 77, n, "ping"));
      net.world.run(50);
    };
    for (let n = 0; n < 5; n++) ping(n);
    t.is(asks.received.length, 5);
    net.nat.rebind(OTHER_NAT_ADDRESS);
    for (let n = 5; n < 20; n++) ping(n);
    t.true(asks.received.length >= 16, `${asks.received.length}`);
    t.is(net.east.sessions.table.count, 1);
  });
}

/** What goes between the routers and is not BFD. */
function sessionPackets(net: BehindNat, from: string) {
  return packetsOn(net.wan, from).filter(({ payload, sourcePort, destinationPort }) => {
    const isBfdPort = sourcePort === 1280 || destinationPort === 1280;
    return !isBfdPort || payload[0] >>> 5 !== 1;
  });
}

test("UDP toward the router behind the NAT carries nothing once that has answered, and goes by the way it opened", (t) => {
  const net = behindNat(SIGNED);
  const conversation = converse(net, "UDP", "server");
  t.true(net.world.runUntil(() => conversation.answers.length === 5, 5000));
  const sent = sessionPackets(net, "east");
  const tunnelled = sent.filter(({ sourcePort }) => sourcePort === 1280);
  t.is(tunnelled.length, 1);
  t.is(tunnelled[0].metadata.get("tunnelled-protocol"), 17);
  const own = sent.filter(({ sourcePort }) => sourcePort !== 1280);
  t.true(own.length >= 4);
  t.true(own.every(({ hasMetadata }) => !hasMetadata));
  t.true(sent.every(({ checksumsRight }) => checksumsRight));
  t.deepEqual(dropsOf(net.west), {});
  t.deepEqual(dropsOf(net.east), {});
  completes(t, net, conversation);
});

test("TCP toward the router behind the NAT goes on BFD's tuple both ways, with segments that leave room for that", (t) => {
  for (const security of [SIGNED, SEALED]) {
    const net = behindNat(security);
    const ends = { source: SERVER, destination: CLIENT, sourcePort: 40_000, destinationPort: 7 };
    const numbers = { flags: SYN, sequence: 1, acknowledgment: 0, mss: 1460 };
    net.world.send(net.server, tcpFrame(ends, numbers));
    net.world.run(20);
    const growth = security === SEALED ? 25 + 16 + 32 : 25;
    const syn = net.client.received[0].frame;
    t.is((syn[14 + 20 + 22] << 8) | syn[14 + 20 + 23], 1460 - growth);
    const conversation = converse(net, "TCP", "server");
    completes(t, net, conversation);
    for (const from of ["east", "outside"]) {
      const packets = sessionPackets(net, from);
      t.true(packets.length > 100);
      t.true(packets.every(({ metadata }) => metadata.get("tunnelled-protocol") === 6));
      t.true(packets.every(({ checksumsRight }) => checksumsRight));
    }
    t.deepEqual(dropsOf(net.west), {});
    t.deepEqual(dropsOf(net.east), {});
  }
});

test("a first datagram that is as long as the link allows goes to the router behind the NAT in pieces, and is whole", (t) => {
  const net = behindNat(SIGNED);
  const payload = Uint8Array.from({ length: 1472 }, (_, n) => n * 7);
  net.world.send(
    net.server,
    udpFrame({ source: SERVER, destination: CLIENT, sourcePort: 40_000, destinationPort: 7 }, payload),
  );
  net.world.run(20);
  t.deepEqual(
    net.client.received.map(({ payload: got }) => got),
    [payload],
  );
  t.true(packetsOn(net.wan, "east").every(({ ipLength }) => ipLength <= 1500));
});

test("a NAT that keeps ports needs no second tuple", (t) => {
  const net = behindNat(SIGNED);
  net.nat.keepsPorts = true;
  const conversation = converse(net, "UDP", "server");
  completes(t, net, conversation);
  t.is(net.east.sessions.table.moves[sessionRows(net.east)[0]], 0);
});

test("what is only sent toward the router behind the NAT goes on after a change, and the old tuple lingers five seconds", (t) => {
  const net = behindNat(SIGNED);
  const ends = { source: CLIENT, destination: SERVER, sourcePort: 40_000, destinationPort: 7 };
  net.world.send(net.client, udpFrame(ends, "subscribe"));
  net.world.run(20);
  const push = (n: number) => {
    net.world.send(
      net.server,
      udpFrame({ source: SERVER, destination: CLIENT, sourcePort: 7, destinationPort: 40_000 }, `${n}`),
    );
    net.world.run(10);
  };
  for (let n = 0; n < 10; n++) push(n);
  net.world.send(net.client, udpFrame(ends, "more"));
  net.world.run(10);
  const before = net.client.received.length;
  t.is(before, 10);
  net.nat.rebind(OTHER_NAT_ADDRESS);
  for (let n = 10; n < 60; n++) push(n);
  const lost = 60 - net.client.received.length;
  t.true(lost <= 10, `${lost} lost: ${lost * 10} ms`);
  const [row] = sessionRows(net.east);
  t.true(net.east.sessions.table.upstream.lingering[row] >= 0);
  net.world.run(6000);
  t.is(net.east.sessions.table.upstream.lingering[row], -1);
  t.is(net.east.sessions.flows.count, 2);
});

test("a session whose mapping alone was forgotten is asked for its metadata, and goes on", (t) => {
  for (const protocol of ["TCP", "UDP"]) {
    const net = behindNat(SIGNED);
    const conversation = converse(net, protocol, "client");
    t.true(net.world.runUntil(() => conversation.answers.length === 30, 5000));
    net.nat.forgetSessions();
    completes(t, net, conversation);
    t.is(net.east.sessions.table.count, 1);
    t.is(net.east.reports.of(0)?.natChanges, 0);
  }
});

test("idle sessions keep their mapping by empty packets, so that what comes later gets through; without them it is lost", (t) => {
  for (const [keepAlive, arrives] of [
    ["5s", 1],
    ["600s", 0],
  ] as const) {
    const net = behindNat(SIGNED, keepAlive);
    const ends = { source: CLIENT, destination: SERVER, sourcePort: 40_000, destinationPort: 7 };
    for (const text of ["one", "two"]) {
      net.world.send(net.client, udpFrame(ends, text));
      net.world.run(20);
      net.world.send(
        net.server,
        udpFrame({ source: SERVER, destination: CLIENT, sourcePort: 7, destinationPort: 40_000 }, text),
      );
      net.world.run(20);
    }
    const before = net.client.received.length;
    t.is(before, 2);
    net.nat.idleMs = 8000;
    const count = packetsOn(net.inside, "west").length;
    net.world.run(30_000);
    const kept = packetsOn(net.inside, "west")
      .slice(count)
      .filter(({ sourcePort, metadata }) => sourcePort !== 1280 && metadata.get("control") === 1);
    t.is(kept.length, keepAlive === "5s" ? 5 : 0);
    net.world.send(
      net.server,
      udpFrame({ source: SERVER, destination: CLIENT, sourcePort: 7, destinationPort: 40_000 }, "late"),
    );
    net.world.run(20);
    t.is(net.client.received.length - before, arrives);
    t.is(
      packetsOn(net.wan, "east").filter(({ metadata }) => metadata.get("control") === 1).length,
      0,
      "only west, behind it",
    );
    t.deepEqual(dropsOf(net.east), {});
    // And the session is as idle as before.
    net.world.skip(190_000, 100);
    t.is(net.west.sessions.table.count, 0);
  }
});

test("nobody becomes the peer, or gets a session, from another address without its keys", (t) => {
  const net = behindNat(SIGNED);
  const conversation = converse(net, "UDP", "client");
  t.true(net.world.runUntil(() => conversation.answers.length === 10, 5000));
  const [path] = net.east.sessions.paths;
  const [at, port] = [path.remote, path.remotePort];
  const [row] = sessionRows(net.east);
  const tuple = net.east.sessions.table.forwardFlow[row];
  const from = (seen: { payload: Uint8Array; destinationPort: number }, source: string, change = -1) => {
    const payload = seen.payload.slice();
    if (change >= 0) payload[change] ^= 1;
    const ends = { source, destination: "198.18.0.2", sourcePort: 5555, destinationPort: seen.destinationPort };
    net.world.inject(net.wan, "east", udpFrame(ends, payload));
    net.world.run(1);
  };
  const sent = packetsOn(net.wan, "outside");
  const bfd = sent.filter(({ destinationPort }) => destinationPort === 1280).at(-1)!;
  const lead = sent.find(({ destinationPort, hasMetadata }) => destinationPort !== 1280 && hasMetadata)!;
  const bare = sent.filter(({ destinationPort, hasMetadata }) => destinationPort !== 1280 && !hasMetadata).at(-1)!;
  // The last packet of BFD once more, and one that was altered, from elsewhere.
  from(bfd, "198.18.0.66");
  t.is(dropsOf(net.east)["bfd-sequence"], 1);
  from(bfd, "198.18.0.66", 27);
  t.true(dropsOf(net.east)["signature-wrong"] >= 1);
  // As of a peer that does not know our session yet: no digest would be right for that.
  const unsaid = { ...bfd, payload: bfd.payload.slice() };
  unsaid.payload.fill(0, 8, 12);
  unsaid.payload[1] = (unsaid.payload[1] & 0x3f) | 0x40;
  from(unsaid, "198.18.0.66");
  t.true(dropsOf(net.east)["signature-wrong"] >= 2);
  // A session's metadata, and a bare packet of it.
  from(lead, "198.18.0.66");
  from(bare, "198.18.0.66");
  t.is(dropsOf(net.east)["not-a-peer"], 2);
  // And from the peer's own address, but another port: the metadata came before, or is not the peer's.
  from(lead, NAT_ADDRESS);
  from(lead, NAT_ADDRESS, 40);
  t.true(dropsOf(net.east).replay >= 1);
  t.is(path.remote, at);
  t.is(path.remotePort, port);
  t.is(net.east.sessions.table.forwardFlow[row], tuple);
  t.is(net.east.sessions.table.count, 1);
  t.true(path.up);
  completes(t, net, conversation);
});

test("either router begins anew, and sessions of both directions come back through the NAT", (t) => {
  for (const lost of ["west", "east"] as const) {
    for (const who of ["client", "server"] as const) {
      const net = behindNat(SEALED);
      const conversation = converse(net, "UDP", who);
      t.true(net.world.runUntil(() => conversation.answers.length === 30, 5000));
      const [uuid] = identifiers(net.west);
      const renewed = net.world.restart(lost);
      t.true(net.world.runUntil(conversation.done, 20_000), `${lost}, ${who}: ${conversation.answers.length}`);
      t.deepEqual(conversation.answers, ANSWERS);
      t.is(countOf(renewed, "sessions.recovered"), 1);
      t.deepEqual(identifiers(renewed), [uuid]);
    }
  }
});

test("the pair of a session that lives behind a NAT is not given to another session", (t) => {
  const net = behindNat(SIGNED);
  const conversation = converse(net, "UDP", "server");
  t.true(net.world.runUntil(() => conversation.answers.length === 30, 5000));
  const [path] = net.east.sessions.paths;
  t.is(path.ports(17).inUse, 1);
  net.nat.rebind(OTHER_NAT_ADDRESS);
  completes(t, net, conversation);
  t.is(path.ports(17).inUse, 1);
  net.world.skip(200_000, 100);
  t.is(net.east.sessions.table.count, 0);
  t.is(path.ports(17).inUse, 0);
  t.is(path.sessions, 0);
});

/** Another router behind the same NAT, whose name is north. */
function addNorth(net: BehindNat, security: Protection, name = "north"): Router {
  const text = westYaml(security).replace("router: west", `router: ${name}`).replaceAll("192.168.7.", "192.168.8.");
  const north = net.world.addRouter("north", text);
  net.world.join("in2", "north.wan0", "inside2");
  return north;
}

test("a second peer behind the address of one that is up is refused, and comes up when that is gone", (t) => {
  const net = behindNat(SIGNED);
  net.nat.serve(net.world.addHost("inside2", "192.168.8.1", "192.168.8.2"));
  const north = addNorth(net, SIGNED);
  net.world.run(5000);
  const [toWest, toNorth] = net.east.sessions.paths;
  t.true(toWest.up);
  t.false(toNorth.up || north.sessions.paths[0].up);
  t.is(toNorth.remote, 0);
  t.true(dropsOf(net.east)["bfd-peer"] >= 3);
  net.inside.tamper = () => [];
  net.world.run(8000);
  t.false(toWest.up);
  t.true(toNorth.up && north.sessions.paths[0].up);
  t.is(formatAddress(toNorth.remote), NAT_ADDRESS);
  t.is(toWest.remote, 0);
});

test("a router with the right keys and no peer's name, and one with a peer's name and other keys, are nobody", (t) => {
  for (const [name, keys, drop] of [
    ["south", SIGNED, "bfd-peer"],
    ["north", { fabric: fabricText("sha256-128", "time-based", "metadata", "none", 9) }, "signature-wrong"],
  ] as const) {
    const net = behindNat(SIGNED);
    net.nat.serve(net.world.addHost("inside2", "192.168.8.1", "192.168.8.2"));
    addNorth(net, keys, name);
    net.world.run(5000);
    t.deepEqual(
      net.east.sessions.paths.map(({ up }) => up),
      [true, false],
    );
    t.true(dropsOf(net.east)[drop] >= 3, JSON.stringify(dropsOf(net.east)));
  }
});

test("workers hand packets over whose ports a NAT has changed, and sessions of both directions go on", (t) => {
  for (const who of ["client", "server"] as const) {
    for (const protocol of ["TCP", "UDP"]) {
      // The workers have no clock of their own.
      const net = behindNat({ fabric: fabricText("sha256-128", "regular", "metadata", "none") });
      const split = net.world.split("east", 3);
      // Nobody watches paths here: what the monitor would say.
      const { address, port } = {
        address: net.east.sessions.paths[0].remote,
        port: net.east.sessions.paths[0].remotePort,
      };
      for (const worker of split.workers) {
        const [path] = worker.sessions.paths;
        t.true(path.reach(address, port, worker.interfaces[path.interfaceId], worker.sessions.neighbors, 0));
        path.up = true;
      }
      const watched = net.west.sessions.paths[0];
      net.world.after(1, () => {
        watched.up = true;
      });
      const conversation = converse(net, protocol, who);
      net.world.runUntil(() => {
        watched.up = true;
        return conversation.done();
      }, 20_000);
      t.deepEqual(conversation.answers, ANSWERS, `${who} ${protocol}`);
      const sessions = split.workers.reduce((sum, { sessions: { table } }) => sum + table.count, 0);
      t.is(sessions, 1);
    }
  }
});

for (const [name, security] of KINDS) {
  for (const who of ["client", "server"] as const) {
    for (const [what, type, code] of [
      ["that its port is unreachable", 3, 3],
      ["that a packet was too big", 3, 4],
      ["that a TTL came to its end", 11, 0],
    ] as const) {
      test(`${name}: the ${who} of a session through the NAT hears ${what}`, (t) => {
        const net = behindNat(security);
        const [near, far] = who === "client" ? [net.client, net.server] : [net.server, net.client];
        const [source, destination] = who === "client" ? [CLIENT, SERVER] : [SERVER, CLIENT];
        const ends = { source, destination, sourcePort: 40000, destinationPort: 53 };
        for (let n = 0; n < 2; n++) {
          net.world.send(near, udpFrame(ends, "question"));
          net.world.run(20);
          net.world.send(far, udpFrame(swapEnds(ends), "answer"));
          net.world.run(20);
        }
        const { length } = near.received;
        if (type === 11) net.world.send(near, udpFrame(ends, "question", 2));
        else net.world.send(far, icmpError(destination, type, code, far.received.at(-1)!.frame, code === 4 ? 1200 : 0));
        net.world.run(30);
        const [error, ...others] = near.received.slice(length);
        t.deepEqual(others, []);
        t.deepEqual([error.icmpType, error.frame[35], error.checksumsRight], [type, code, true]);
        const quoted = Buffer.from(error.payload);
        const sent = Buffer.from(udpFrame(ends, "question"));
        t.is(quoted.toString("hex", 12, 24), sent.toString("hex", 26, 38));
        if (code === 4) t.is(Buffer.from(error.frame).readUInt16BE(40), 1200);
      });
    }
  }
}
