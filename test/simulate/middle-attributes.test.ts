// A middle router passes on what it does not know (protocol sheet 4.7): attributes of either section, in both directions, of metadata
// that it re-sends to the next router; within bounds, and counted where it cannot.

import test from "ava";
import { getU16 } from "../../lib/base/bytes.ts";
import { RouterRestorer, saveRouter } from "../../lib/control/router-state.ts";
import { describeMetadata } from "../../lib/wire/metadata-attributes.ts";
import { concat, type SeenPacket, swapEnds, udpFrame } from "./packets.ts";
import { ENDS, forwardMetadata, reverseMetadata, TO_EAST } from "./peer.ts";
import { SIGNED } from "./protection.ts";
import { countOf, dropsOf, packetsOn, routerYaml, sessionRows, threeRouters } from "./topologies.ts";
import { type Link, type SimHost, World } from "./world.ts";

const HEADER_TYPE = 0x0037;
const PAYLOAD_TYPE = 0x7abc;

function attribute(type: number, value: Uint8Array): Uint8Array {
  return concat(Uint8Array.of(type >>> 8, type & 255, value.length >>> 8, value.length & 255), value);
}

/** The metadata with an attribute more in each section. */
function withUnknown(metadata: Uint8Array, header: Uint8Array, payload: Uint8Array): Uint8Array {
  const [inHeader, inPayload] = [attribute(HEADER_TYPE, header), attribute(PAYLOAD_TYPE, payload)];
  const headerLength = getU16(metadata, 8) & 0xfff;
  const out = concat(metadata.slice(0, headerLength), inHeader, metadata.slice(headerLength), inPayload);
  const lengths = [0x1000 | (headerLength + inHeader.length), getU16(metadata, 10) + inPayload.length];
  out.set(
    lengths.flatMap((length) => [length >>> 8, length & 255]),
    8,
  );
  return out;
}

/** What a packet's metadata says that has no name: type, section and bytes in hex. */
function unknownOf({ payload }: SeenPacket): [number, string, string][] {
  return describeMetadata(payload, 0, payload.length)
    .filter(({ name }) => name === "unknown")
    .map(({ type, section, value }) => [type, section, Buffer.from(value as Uint8Array).toString("hex")]);
}

/** near ─wan─ middle ─wan2─ far: both peers are the test itself. */
function middleAlone(): { world: World; near: SimHost; far: SimHost; wan: Link; wan2: Link } {
  const world = new World();
  const wans: Record<string, [string, string, string]> = {
    wan0: ["198.18.0.2", "west", "198.18.0.1"],
    wan1: ["198.18.1.1", "east", "198.18.1.2"],
  };
  world.addRouter("middle", routerYaml({ name: "middle", wans, route: "peer: east" }));
  const near = world.addHost("near", "198.18.0.1", "198.18.0.2");
  const far = world.addHost("far", "198.18.1.2", "198.18.1.1");
  return {
    world,
    near,
    far,
    wan: world.join("wan", "near", "middle.wan0"),
    wan2: world.join("wan2", "middle.wan1", "far"),
  };
}

test("unknown attributes of both sections go on to the next router, forward and reverse, and are gone with the session", (t) => {
  const { world, near, far, wan, wan2 } = middleAlone();
  const middle = world.routers.get("middle")!;
  const metadata = withUnknown(forwardMetadata(), Uint8Array.of(1, 2, 3), Uint8Array.of(9));
  world.send(near, udpFrame(TO_EAST, concat(metadata, "question")));
  world.run(2);
  const [lead] = packetsOn(wan2, "middle");
  t.deepEqual(unknownOf(lead), [
    [HEADER_TYPE, "header", "010203"],
    [PAYLOAD_TYPE, "payload", "09"],
  ]);
  t.is(lead.text, "question");
  t.true(lead.checksumsRight);
  const answer = withUnknown(reverseMetadata(lead), new Uint8Array(0), Uint8Array.of(7, 7));
  world.send(far, udpFrame(swapEnds(lead), concat(answer, "answer")));
  world.run(2);
  const reverse = packetsOn(wan, "middle").find(({ text }) => text === "answer")!;
  t.deepEqual(unknownOf(reverse), [
    [HEADER_TYPE, "header", ""],
    [PAYLOAD_TYPE, "payload", "0707"],
  ]);
  t.deepEqual(dropsOf(middle), {});
  t.is(countOf(middle, "metadata.not-carried"), 0);
  const { table } = middle.sessions;
  t.is(table.carried.count, 2);
  middle.sessions.close(sessionRows(middle)[0], world.clock.nowMs());
  t.is(table.carried.count, 0);
});

test("what is too long to be passed on is left out and counted; its session opens", (t) => {
  const { world, near, wan2 } = middleAlone();
  const middle = world.routers.get("middle")!;
  world.send(
    near,
    udpFrame(TO_EAST, concat(withUnknown(forwardMetadata(), new Uint8Array(60), new Uint8Array(61)), "long")),
  );
  world.run(2);
  const [lead] = packetsOn(wan2, "middle");
  t.deepEqual([unknownOf(lead), lead.text], [[], "long"]);
  t.is(countOf(middle, "metadata.not-carried"), 1);
  t.is(sessionRows(middle).length, 1);
});

test("a middle router in another process goes on to say what it passes on", (t) => {
  const { world, near, wan2 } = middleAlone();
  const lead = concat(withUnknown(forwardMetadata(), Uint8Array.of(5), Uint8Array.of(6)), "x");
  world.send(near, udpFrame(TO_EAST, lead));
  world.run(2);
  const pieces = [...saveRouter(world.routers.get("middle")!)].map((piece) => piece.slice());
  const restorer = new RouterRestorer(world.restart("middle"));
  for (const piece of pieces) restorer.take(piece);
  restorer.end();
  // Without metadata: what it is told again is what was kept.
  world.send(near, udpFrame(TO_EAST, "y"));
  world.run(2);
  t.deepEqual(unknownOf(packetsOn(wan2, "middle").at(-1)!), [
    [HEADER_TYPE, "header", "05"],
    [PAYLOAD_TYPE, "payload", "06"],
  ]);
});

test("they go on where every hop encrypts metadata, and the last router lives with them", (t) => {
  const net = threeRouters({ security: { fabric: SIGNED } });
  net.world.send(net.client, udpFrame(ENDS, "one"));
  net.world.run(2);
  // West says it as if it had been told; nobody has answered yet, so it says it with every packet.
  const kept = [attribute(HEADER_TYPE, Uint8Array.of(1)), attribute(PAYLOAD_TYPE, Uint8Array.of(2))] as const;
  net.west.sessions.table.carried.keep(sessionRows(net.west)[0], 0, ...kept);
  net.world.send(net.client, udpFrame(ENDS, "two"));
  net.world.run(2);
  const { carried } = net.middle.sessions.table;
  const [row] = sessionRows(net.middle);
  t.deepEqual([carried.header(row, 0), carried.payload(row, 0)], [...kept]);
  t.deepEqual(
    net.server.received.map(({ text }) => text),
    ["one", "two"],
  );
  t.is(net.east.sessions.table.carried.count, 0);
  for (const router of net.world.routers.values()) t.deepEqual(dropsOf(router), {});
});
