// What an attacker on the wire between two routers can do: alter, cut, repeat, forge. All length fields and checksums are
// right every time: only keys, time and memory can tell. Refused means: counted under its own name, nothing forwarded,
// nothing answered, no session.

import test, { type ExecutionContext } from "ava";
import { setU16 } from "../../lib/base/bytes.ts";
import type { Router } from "../../lib/router.ts";
import { HandshakeColumns } from "../../lib/table/session-table.ts";
import { completeChecksum } from "../../lib/wire/offload.ts";
import { ACK, PSH, SYN } from "../../lib/wire/tcp.ts";
import { type Ends, pattern, seePacket, swapEnds, tcpFrame, udpFrame, withHeader } from "./packets.ts";
import { controlMessage, ENDS, forwardMetadata, HEALTH_CHECK, TO_EAST } from "./peer.ts";
import { fabricText, payloadText, SIGNED } from "./protection.ts";
import { dropsOf, eastAlone, packetsOn, sessionRows, type TwoRouters, twoRouters } from "./topologies.ts";

const L4_UDP = 14 + 20;
const PAYLOAD_UDP = L4_UDP + 8;

const REGULAR = fabricText("sha256", "regular", "metadata", "none");
const TIMED = fabricText("sha256-128", "time-based", "metadata", "none");
const EVERY = fabricText("sha1", "time-based", "every-packet", "aes-cbc-128");

/** Lengths and checksums of a UDP or TCP frame made right for what it has become. */
function repaired(frame: Uint8Array): Uint8Array {
  if (frame[23] === 17) setU16(frame, L4_UDP + 4, frame.length - L4_UDP);
  withHeader(frame, () => setU16(frame, 16, frame.length - 14));
  completeChecksum(frame, 0);
  return frame;
}

/** The frame that west sends to open a session; east has not got it. */
function caughtLead(net: TwoRouters, frame: Uint8Array = udpFrame(ENDS, "lead")): Uint8Array {
  let caught: Uint8Array | null = null;
  net.wan.tamper = (lead, packet, from) => {
    if (packet === undefined || from !== "west") return [{ frame: lead }];
    caught ??= lead.slice();
    return [];
  };
  net.world.send(net.client, frame);
  net.world.run(2);
  net.wan.tamper = (each) => [{ frame: each }];
  return caught!;
}

const forged = ({ world, wan }: Pick<TwoRouters, "world" | "wan">, frame: Uint8Array) => {
  world.inject(wan, "east", frame.slice());
  world.run(1);
};

/** Nothing came of it but drops, as many as frames, under the names given and no others. */
function refused(t: ExecutionContext, net: TwoRouters, frames: number, names: readonly string[], what = ""): void {
  const drops = dropsOf(net.east);
  t.is(
    Object.values(drops).reduce((sum, count) => sum + count, 0),
    frames,
    `${what} ${JSON.stringify(drops)}`,
  );
  t.deepEqual(Object.keys(drops).sort(), [...names].sort(), what);
  t.deepEqual(sessionRows(net.east), [], what);
  t.deepEqual(packetsOn(net.far), [], what);
  t.deepEqual(packetsOn(net.wan, "east"), [], what);
}

test("another key, another digest or another cipher: refused before anything is believed", (t) => {
  const pairs: [string, string, string][] = [
    [TIMED, fabricText("sha256-128", "time-based", "metadata", "none", 50), "signature-wrong"],
    [REGULAR, fabricText("sha256", "regular", "metadata", "none", 50), "signature-wrong"],
    [REGULAR, TIMED, "signature-wrong"],
    [
      fabricText("sha256", "regular", "metadata", "none"),
      fabricText("sha1", "regular", "metadata", "none"),
      "signature-wrong",
    ],
    [fabricText("none", "", "", "aes-cbc-256"), fabricText("none", "", "", "aes-cbc-256", 50), "metadata-cipher"],
    [fabricText("none", "", "", "aes-cbc-128"), fabricText("none", "", "", "aes-cbc-256"), "metadata-cipher"],
    ["hmac: none, sign: none", fabricText("none", "", "", "aes-cbc-256"), "metadata-cipher"],
    ["hmac: none, sign: none", SIGNED, "signature-wrong"],
    [SIGNED.replace("metadata", "none"), SIGNED, "signature-wrong"],
    [`${SIGNED}, key-version: 2`, SIGNED, "key-version"],
  ];
  for (const [west, east, name] of pairs) {
    const net = twoRouters({ protections: { west: { fabric: west }, east: { fabric: east } } });
    net.world.send(net.client, udpFrame(ENDS, "lead"));
    net.world.run(2);
    refused(t, net, 1, [name], `${west} to ${east}`);
  }
});

test("an altered byte anywhere in what a digest covers, and a digest altered itself", (t) => {
  for (const fabric of [REGULAR, TIMED, SIGNED, EVERY]) {
    const net = twoRouters({ security: { fabric } });
    const lead = caughtLead(net);
    let frames = 0;
    for (let at = PAYLOAD_UDP; at < lead.length; at++) {
      for (const change of [0x01, 0x80, 0xff]) {
        const altered = lead.slice();
        altered[at] ^= change;
        forged(net, repaired(altered));
        frames++;
      }
    }
    // What a router needs to find the digest at all is in clear: cookie, lengths, types.
    refused(
      t,
      net,
      frames,
      ["metadata-malformed", "signature-wrong", "unknown-session"].filter((name) => dropsOf(net.east)[name] > 0),
      fabric,
    );
    t.true(dropsOf(net.east)["signature-wrong"] > frames * 0.8);
    forged(net, lead);
    t.is(sessionRows(net.east).length, 1, "and unaltered it opens the session");
  }
});

test("an altered byte anywhere in the headers of a signed packet opens at most the session that was signed", (t) => {
  for (let at = 0; at < PAYLOAD_UDP; at++) {
    const net = twoRouters({ security: { fabric: TIMED } });
    const lead = caughtLead(net);
    lead[at] ^= 0x11;
    if (at >= 14)
      completeChecksum(
        withHeader(lead, () => {}),
        0,
      );
    net.world.inject(net.wan, "east", lead.slice());
    net.world.run(1);
    for (const row of sessionRows(net.east)) {
      t.deepEqual(
        [...net.east.sessions.table.context.subarray(row * 4, row * 4 + 4)],
        [...net.west.sessions.table.context.subarray(0, 4)],
        `byte ${at}`,
      );
    }
    t.true(
      packetsOn(net.far).every(({ text }) => text === "lead"),
      `byte ${at}`,
    );
  }
});

test("a truncated packet of any length, the digest's last bytes gone first", (t) => {
  for (const fabric of [REGULAR, TIMED, SIGNED, EVERY]) {
    const net = twoRouters({ security: { fabric } });
    const lead = caughtLead(net);
    let frames = 0;
    for (let length = lead.length - 1; length >= PAYLOAD_UDP; length--) {
      forged(net, repaired(lead.slice(0, length)));
      frames++;
    }
    const drops = dropsOf(net.east);
    refused(t, net, frames, Object.keys(drops), fabric);
    t.true(drops["signature-wrong"] >= 20, fabric);
  }
});

/** Every word of a router's sessions and flows: columns, numbers and times. */
function stateOf({ sessions }: Router): unknown {
  const columns = (of: object): unknown[] =>
    Object.values(of).flatMap((value: unknown) =>
      ArrayBuffer.isView(value)
        ? [Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64")]
        : Array.isArray(value) || value instanceof HandshakeColumns
          ? columns(value as object)
          : typeof value === "number"
            ? [value]
            : [],
    );
  const { openedTotal, closedTotal, halfOpenCount, paths } = sessions;
  const ports = paths.map(({ udpPorts, tcpPorts }) => [udpPorts.inUse, tcpPorts.inUse]);
  return [columns(sessions.table), columns(sessions.flows), openedTotal, closedTotal, halfOpenCount, ports];
}

test("at either router each refusal has its own counter, forwards nothing, answers nothing and leaves every session as it was", (t) => {
  const net = twoRouters({ security: { fabric: EVERY } });
  const other = twoRouters({
    security: { fabric: fabricText("sha1", "time-based", "every-packet", "aes-cbc-128", 50) },
  });
  for (const { world, client, server } of [net, other]) {
    server.onPacket = (packet) => world.send(server, udpFrame(swapEnds(packet), "an answer of some length"));
    for (const text of ["lead", "second", "a third of some length"]) {
      world.send(client, udpFrame(ENDS, text));
      world.run(2);
    }
  }
  net.server.onPacket = () => {};
  const lead = packetsOn(net.wan, "west")[0];
  for (const [name, from] of [
    ["east", "west"],
    ["west", "east"],
  ] as const) {
    const own = packetsOn(net.wan, from).at(-1)!;
    t.false(own.hasMetadata);
    const { payload } = own;
    const altered = payload.slice();
    altered[3] ^= 1;
    const cases: [what: string, counter: string, frame: Uint8Array][] = [
      ["wrong key", "signature-wrong", udpFrame(own, packetsOn(other.wan, from).at(-1)!.payload)],
      ["wrong policy: not signed", "signature-wrong", udpFrame(own, "a text without any digest behind it")],
      ["altered", "signature-wrong", udpFrame(own, altered)],
      ["digest cut", "signature-wrong", udpFrame(own, payload.slice(0, -1))],
      ["digest gone", "signature-missing", udpFrame(own, payload.slice(0, 12))],
      ["no peer's address", "not-a-peer", udpFrame({ ...own, source: "198.18.0.77" }, payload)],
      ["metadata cut", "metadata-malformed", udpFrame(own, lead.payload.slice(0, 40))],
      ["another window", "clock-skew", udpFrame(own, payload)],
    ];
    if (name === "east")
      cases.splice(7, 0, ["sent again elsewhere", "replay", udpFrame({ ...own, sourcePort: 20_000 }, lead.payload)]);
    for (const [what, counter, frame] of cases) {
      if (counter === "clock-skew") net.world.skip(7000);
      const seen = [net.lan, net.wan, net.far].map((link) => link.seen.length);
      const before = stateOf(net[name]);
      const drops = dropsOf(net[name]);
      net.world.inject(net.wan, name, frame);
      net.world.settle();
      t.deepEqual(stateOf(net[name]), before, what);
      t.deepEqual(dropsOf(net[name]), { ...drops, [counter]: (drops[counter] ?? 0) + 1 }, what);
      t.deepEqual(
        [net.lan, net.wan, net.far].map((link) => link.seen.length),
        seen,
        what,
      );
    }
  }
  net.world.send(net.client, udpFrame(ENDS, "and on it goes"));
  net.world.run(2);
  t.is(net.server.received.at(-1)!.text, "and on it goes");
});

test("a packet of a peer that has to sign, too short for a digest", (t) => {
  const net = twoRouters({ security: { fabric: EVERY } });
  const lead = caughtLead(net);
  forged(net, lead);
  const { destinationPort } = seePacket(lead)!;
  t.is(sessionRows(net.east).length, 1);
  const bare = udpFrame(seePacket(lead)!, "short");
  t.is(seePacket(bare)!.destinationPort, destinationPort);
  net.server.onPacket = () => {};
  forged(net, bare);
  t.deepEqual(dropsOf(net.east), { "signature-missing": 1 });
  t.is(net.server.received.length, 1);
});

test("every packet signed: a forged payload on an established flow never reaches the host, and the flow goes on", (t) => {
  for (const protocol of ["UDP", "TCP"]) {
    const net = twoRouters({ security: { fabric: EVERY } });
    if (protocol === "UDP") {
      net.server.onPacket = (packet) => net.world.send(net.server, udpFrame(swapEnds(packet), "answer"));
      for (const text of ["lead", "second", "third"]) {
        net.world.send(net.client, udpFrame(ENDS, text));
        net.world.run(2);
      }
    } else {
      net.server.onPacket = (packet) => {
        const flags = (packet.tcpFlags & SYN) !== 0 ? SYN | ACK : ACK;
        net.world.send(
          net.server,
          tcpFrame(swapEnds(packet), {
            flags,
            sequence: packet.acknowledgment || 5000,
            acknowledgment: packet.sequence + 1,
          }),
        );
      };
      net.world.send(net.client, tcpFrame(ENDS, { flags: SYN, sequence: 1000, acknowledgment: 0 }));
      net.world.run(2);
      net.world.send(net.client, tcpFrame(ENDS, { flags: ACK | PSH, sequence: 1001, acknowledgment: 5001 }, "second"));
      net.world.run(2);
    }
    const last = packetsOn(net.wan, "west").at(-1)!;
    t.false(last.hasMetadata);
    t.true(last.payload.length > 20, "it has a digest behind it");
    const before = net.server.received.length;
    const headers = last.frame.length - last.payload.length;
    for (let at = headers; at < last.frame.length; at++) {
      const altered = last.frame.slice();
      altered[at] ^= 4;
      forged(net, repaired(altered));
    }
    t.is(net.server.received.length, before, protocol);
    t.deepEqual(dropsOf(net.east), { "signature-wrong": last.payload.length });
    net.world.send(
      net.client,
      protocol === "UDP"
        ? udpFrame(ENDS, "fourth")
        : tcpFrame(ENDS, { flags: ACK, sequence: 1007, acknowledgment: 5001 }, "fourth"),
    );
    net.world.run(2);
    t.is(net.server.received.at(-1)!.text, "fourth");
  }
});

test("metadata that opened a session opens none a second time", (t) => {
  for (const fabric of [REGULAR, TIMED, EVERY]) {
    const net = twoRouters({ security: { fabric } });
    const lead = caughtLead(net, tcpFrame(ENDS, { flags: SYN, sequence: 1, acknowledgment: 0 }));
    forged(net, lead);
    const [session] = sessionRows(net.east);
    net.east.sessions.close(session, net.world.clock.nowMs());
    const there = packetsOn(net.far).length;
    forged(net, lead);
    // Nor on other ports of the peer's, which no digest covers.
    const elsewhere = lead.slice();
    setU16(elsewhere, L4_UDP, 20000);
    forged(net, repaired(elsewhere));
    t.deepEqual(dropsOf(net.east), { replay: 2 }, fabric);
    t.deepEqual(sessionRows(net.east), []);
    t.is(packetsOn(net.far).length, there);
  }
});

test("a digest of an old time window is refused however often and long after it is sent again", (t) => {
  const net = twoRouters({ security: { fabric: TIMED } });
  const lead = caughtLead(net);
  net.world.skip(6000);
  forged(net, lead);
  net.world.skip(60_000);
  forged(net, lead);
  net.world.skip(3_600_000, 60_000);
  forged(net, lead);
  refused(t, net, 3, ["clock-skew", "signature-wrong"]);
});

test("a packet from an address that is no peer's, or a peer's that comes in elsewhere", (t) => {
  const net = twoRouters({ security: { fabric: TIMED } });
  const lead = caughtLead(net);
  const stranger = lead.slice();
  stranger[29] = 77;
  forged(net, repaired(stranger));
  t.deepEqual(dropsOf(net.east), { "not-a-peer": 1 });
  net.world.inject(net.far, "east", lead.slice());
  net.world.run(1);
  t.deepEqual(sessionRows(net.east), []);
  t.is(
    Object.values(dropsOf(net.east)).reduce((a, b) => a + b),
    2,
  );
});

test("metadata of one session, right in every digest, is refused on another's flow, both ways", (t) => {
  const net = twoRouters({ security: { fabric: REGULAR } });
  net.server.onPacket = (packet) => net.world.send(net.server, udpFrame(swapEnds(packet), "answer"));
  const other = { ...ENDS, sourcePort: 41000 };
  for (const ends of [ENDS, other]) {
    for (const text of ["lead", "second"]) {
      net.world.send(net.client, udpFrame(ends, text));
      net.world.run(2);
    }
  }
  const ports = (packet: Ends) => `${packet.sourcePort}-${packet.destinationPort}`;
  const forward = packetsOn(net.wan, "west").filter(({ hasMetadata }) => hasMetadata);
  const reverse = packetsOn(net.wan, "east").filter(({ hasMetadata }) => hasMetadata);
  t.is(new Set(forward.map(ports)).size, 2);
  const before = [sessionRows(net.east), sessionRows(net.west), net.server.received.length, net.client.received.length];
  net.server.onPacket = () => {};
  net.world.inject(net.wan, "east", udpFrame(forward.at(-1)!, forward[0].payload));
  net.world.inject(net.wan, "west", udpFrame(reverse.at(-1)!, reverse[0].payload));
  net.world.run(1);
  t.deepEqual(dropsOf(net.east), { replay: 1 });
  t.deepEqual(dropsOf(net.west), { "metadata-unexpected": 1 });
  t.deepEqual(
    [sessionRows(net.east), sessionRows(net.west), net.server.received.length, net.client.received.length],
    before,
  );
});

test("control messages, health checks and markers without the keys do nothing and get no answer", (t) => {
  const options = { security: { fabric: TIMED } };
  const net = eastAlone("", options);
  for (let reason = 0; reason < 10; reason++) net.world.send(net.peer, udpFrame(TO_EAST, controlMessage(reason)));
  net.world.send(net.peer, udpFrame(TO_EAST, HEALTH_CHECK));
  net.world.send(net.peer, udpFrame(TO_EAST, forwardMetadata()));
  net.world.run(5);
  t.deepEqual(packetsOn(net.wan, "east"), []);
  t.deepEqual(sessionRows(net.east), []);
  t.deepEqual(dropsOf(net.east), { "signature-wrong": 12 });
});

test("a session cannot be deleted, stopped or kept alive by a control message without the keys", (t) => {
  const net = twoRouters({ security: { fabric: TIMED } });
  net.server.onPacket = (packet) => net.world.send(net.server, udpFrame(swapEnds(packet), "answer"));
  for (const text of ["lead", "second", "third"]) {
    net.world.send(net.client, udpFrame(ENDS, text));
    net.world.run(2);
  }
  const bare = packetsOn(net.wan, "west").at(-1)!;
  t.false(bare.hasMetadata);
  for (let reason = 0; reason < 12; reason++) {
    net.world.inject(net.wan, "east", udpFrame(bare, controlMessage(reason)));
    net.world.inject(net.wan, "west", udpFrame(swapEnds(bare), controlMessage(reason)));
    net.world.run(1);
  }
  for (const router of [net.east, net.west]) {
    t.is(sessionRows(router).length, 1);
    t.deepEqual(Object.keys(dropsOf(router)), ["signature-wrong"]);
  }
  net.world.send(net.client, udpFrame(ENDS, "fourth"));
  net.world.run(2);
  t.is(net.server.received.at(-1)!.text, "fourth");
});

test("a session that this router's service wants encrypted otherwise is refused", (t) => {
  const keys = payloadText("aes-cbc-128", false);
  const cases: [string, string | undefined, string | undefined, string, string][] = [
    ["in clear where it must be encrypted", undefined, keys, "security-policy", SIGNED],
    ["encrypted where this router has no keys", keys, undefined, "security-policy", SIGNED],
    ["a version of the keys that this router never had", `${keys}, key-version: 4`, keys, "key-version", SIGNED],
    ["in clear, without any keys between the routers", undefined, keys, "security-policy", "hmac: none, sign: none"],
  ];
  for (const [what, west, east, name, fabric] of cases) {
    const of = (payload: string | undefined) => ({ fabric, ...(payload === undefined ? {} : { payload }) });
    const net = twoRouters({ protections: { west: of(west), east: of(east) } });
    net.world.send(net.client, udpFrame(ENDS, "lead"));
    net.world.run(2);
    refused(t, net, 1, [name], what);
  }
});

test("a payload that cannot be decrypted, or whose checksum is wrong, reaches nobody", (t) => {
  const payload = payloadText("aes-cbc-256", false);
  const net = twoRouters({ security: { payload } });
  net.server.onPacket = (packet) => net.world.send(net.server, udpFrame(swapEnds(packet), "answer"));
  for (const text of ["lead", "second", "third"]) {
    net.world.send(net.client, udpFrame(ENDS, text));
    net.world.run(2);
  }
  const bare = packetsOn(net.wan, "west").at(-1)!;
  t.false(bare.hasMetadata);
  const before = net.server.received.length;
  forged(net, udpFrame(bare, "in clear"));
  forged(net, udpFrame(bare, pattern(47)));
  forged(net, udpFrame(bare, pattern(32)));
  t.deepEqual(dropsOf(net.east), { "payload-cipher": 3 });
  const wrong = bare.frame.slice();
  wrong[wrong.length - 1] ^= 1;
  forged(net, wrong);
  t.deepEqual(dropsOf(net.east), { "payload-cipher": 3, "payload-checksum": 1 });
  t.is(net.server.received.length, before);
});
