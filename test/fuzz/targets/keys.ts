// A router with keys, and one session between it and its peer that stands while frames arrive on the WAN: an attacker's,
// who has heard what passed before but has no keys, and (in other inputs) of a peer that has them and writes anything.

import type { Config } from "../../../lib/control/config.ts";
import { NO_WINDOW } from "../../../lib/crypto/packet-crypto.ts";
import { TAILROOM } from "../../../lib/io/port.ts";
import { seePacket, swapEnds, udpFrame } from "../../simulate/packets.ts";
import { controlMessage, ENDS, forwardMetadata, HEALTH_CHECK, TO_EAST } from "../../simulate/peer.ts";
import { fabricText, payloadText } from "../../simulate/protection.ts";
import { twoRouters } from "../../simulate/topologies.ts";
import { WALL_MS } from "../../simulate/world.ts";
import { bytesOf, VECTORS } from "../../wire/vectors.ts";
import { payloadOf, repair } from "../forms.ts";
import { type Fuzzed, fuzzed, unaccounted } from "../fuzzed.ts";
import type { Target } from "../fuzzer.ts";
import { joined } from "../mutate.ts";
import {
  changeRecords,
  type FrameRecord,
  flagsOf,
  pauseOf,
  readRecords,
  TARGET_BIT,
  writeRecords,
} from "../records.ts";
import { checkSent, lastEnd } from "./engine.ts";

const WINDOW_MS = 2000;
/** Longer, and the session would be idle too long by itself. */
const PAUSE_MS = 300;
/** What the peer says when all is over. */
const LAST = "fourth";
const LAN_OF_EAST = 0;
const WAN_OF_EAST = 1;

/** What was heard of a router's first session, to be heard again by another router of the same configuration. */
interface Scene {
  readonly config: Config;
  readonly signsAll: boolean;
  readonly heard: readonly { readonly atMs: number; readonly at: number; readonly frame: Uint8Array }[];
  /** The packet in which the peer says LAST. */
  readonly next: Uint8Array;
  /** Payloads that the peer sent for the host, and none at all: a packet without payload has no digest (protocol sheet 1). */
  readonly texts: readonly string[];
}

function scene(fabric: string, payload?: string): Scene {
  const net = twoRouters({ security: { fabric, ...(payload === undefined ? {} : { payload }) } });
  net.server.onPacket = (packet) => net.world.send(net.server, udpFrame(swapEnds(packet), "answer"));
  const texts = ["lead", "second", "third", LAST];
  for (const text of texts) {
    net.world.send(net.client, udpFrame(ENDS, text));
    net.world.run(2);
  }
  const heard = [
    ...net.wan.seen.filter(({ from }) => from === "west").map((seen) => ({ ...seen, at: WAN_OF_EAST })),
    ...net.far.seen.filter(({ from }) => from === "server").map((seen) => ({ ...seen, at: LAN_OF_EAST })),
  ]
    .filter(({ packet }) => packet !== undefined)
    .sort((a, b) => a.atMs - b.atMs);
  const last = heard.findLastIndex(({ at }) => at === WAN_OF_EAST);
  return {
    config: net.east.config,
    signsAll: fabric.includes("every-packet"),
    heard: heard.slice(0, last),
    next: heard[last].frame,
    texts: [...texts, ""],
  };
}

const SCENES = [
  scene(fabricText("sha256-128", "time-based", "metadata", "aes-cbc-256")),
  scene(fabricText("sha1", "time-based", "every-packet", "aes-cbc-128")),
  scene(fabricText("sha256", "regular", "every-packet", "none"), payloadText("aes-cbc-128", false)),
  scene(fabricText("sha256", "regular", "metadata", "none"), payloadText("aes-cbc-256", true)),
];

/** The frame as somebody sends it who has the keys: metadata encrypted, a digest behind it. Anything that is none is left as it is. */
function sealed(frame: Uint8Array, { router, clock }: Fuzzed, signsAll: boolean): Uint8Array {
  const at = payloadOf(frame);
  if (at === 0 || frame[23] === 1) return frame;
  const { ring, timeBased } = router.securities.get("fabric")!;
  const { hmac, cipher } = ring.current;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const hasMetadata =
    at + 12 <= frame.length && view.getUint32(at) === 0x4c48dbc6 && view.getUint32(at + 4) === 0xddf6670c;
  let whole = frame;
  if (hasMetadata && cipher !== null) {
    const from = at + (view.getUint16(at + 8) & 0xfff);
    const to = from + view.getUint16(at + 10);
    if (to > frame.length || to === from) return frame;
    const piece = new Uint8Array(to - from + TAILROOM);
    piece.set(frame.subarray(from, to));
    const end = Int32Array.of(to - from);
    cipher.seal(piece, Int32Array.of(0), end, 1, new Uint8Array(16).fill(7));
    whole = joined(frame.subarray(0, from), piece.subarray(0, end[0]), frame.subarray(to));
    new DataView(whole.buffer).setUint16(at + 10, end[0]);
  }
  if (!hasMetadata && !signsAll) return repair(whole);
  const signed = joined(whole, new Uint8Array(hmac!.length));
  const window = timeBased ? Math.floor((WALL_MS + clock.nowMs()) / WINDOW_MS) : NO_WINDOW;
  hmac!.sign(signed, Int32Array.of(at), Int32Array.of(whole.length), 1, window);
  return repair(signed);
}

const textsOf = (frames: readonly Uint8Array[]) => frames.map((frame) => seePacket(frame)?.text ?? "");

function run(input: Uint8Array): string {
  if (input.length === 0) return "nothing";
  const { config, signsAll, heard, next, texts } = SCENES[input[0] % SCENES.length];
  const world = fuzzed(0, true, { config, wallMs: WALL_MS });
  const { router, clock, ports } = world;
  const { sessions, counters } = router;
  for (const { atMs, at, frame } of heard) {
    clock.moveTo(Math.max(clock.nowMs(), atMs));
    world.arrive(at, frame);
  }
  if (sessions.table.count !== 1) throw new Error("the session of the scene is not there");
  const context = [...sessions.table.context.subarray(0, 4)];
  for (const port of ports) port.sent = [];

  const records = readRecords(input.subarray(1));
  const isInsider = records.some(({ how }) => (how & TARGET_BIT) !== 0);
  let before = counters.publish(true);
  for (const record of records) {
    clock.advance(Math.min(pauseOf(record), PAUSE_MS));
    while (router.engine.turn(clock.nowMs()) > 0);
    before = counters.publish(true);
    const frame = (record.how & TARGET_BIT) !== 0 ? sealed(record.frame, world, signsAll) : record.frame;
    world.arrive(WAN_OF_EAST, frame, flagsOf(record));
    if (isInsider) {
      checkSent(world);
      continue;
    }
    if (sessions.openedTotal !== 1 || sessions.closedTotal !== 0) throw new Error("a session was opened or closed");
    if (context.some((word, i) => sessions.table.context[i] !== word)) throw new Error("the session is another's now");
    if (!signsAll) {
      checkSent(world);
      continue;
    }
    const strange = textsOf(ports[LAN_OF_EAST].sent).find((text) => !texts.includes(text));
    if (strange !== undefined)
      throw new Error(`the host was sent what the peer never said: ${JSON.stringify(strange)}`);
    checkSent(world);
  }
  const after = counters.publish(true);
  if (unaccounted(after) !== 0) throw new Error(`the books are wrong by ${unaccounted(after)}`);
  if (sessions.table.count !== sessions.openedTotal - sessions.closedTotal) throw new Error("a session is lost");
  if (!isInsider) {
    world.arrive(WAN_OF_EAST, next);
    if (!textsOf(ports[LAN_OF_EAST].sent).includes(LAST))
      throw new Error("the session no longer carries the peer's packets");
  }
  return `${isInsider ? "with" : "without"} keys ${lastEnd(before, after)}`;
}

/** What passed on the WAN. */
function heardBy({ heard }: Scene): FrameRecord[] {
  return heard.filter(({ at }) => at === WAN_OF_EAST).map(({ frame }) => ({ how: 0, frame }));
}

const said = [
  ...VECTORS.map(({ hex }) => bytesOf(hex)),
  ...[1, 2, 3, 6, 8].map(controlMessage),
  HEALTH_CHECK,
  forwardMetadata(),
  forwardMetadata({ ends: { ...ENDS, sourcePort: 41_000 } }),
].map((metadata) => udpFrame(TO_EAST, joined(metadata, bytesOf("010203"))));

const frames: FrameRecord[] = [
  ...said.flatMap((frame) => [0, TARGET_BIT].map((how) => ({ how, frame }))),
  ...SCENES.flatMap(heardBy),
];

export const target: Target = {
  runs: 250,
  lengthMax: 4000,
  // What somebody may write to any, and of each scene what was heard, all of it and the last alone.
  seeds: [
    ...frames.map((record, i) => joined(Uint8Array.of(i), writeRecords([record]))),
    ...SCENES.flatMap((scene, i) =>
      [heardBy(scene), heardBy(scene).slice(-1)].map((of) => joined(Uint8Array.of(i), writeRecords(of))),
    ),
  ],
  tokens: [bytesOf("4c48dbc6 ddf6670c"), bytesOf("c6120001"), bytesOf("c6120002")],
  change(random, input) {
    if (input.length === 0 || random.below(20) === 0) return joined(Uint8Array.of(random.below(4)), input.subarray(1));
    const records = changeRecords(random, input.subarray(1), frames, target.tokens);
    return joined(input.subarray(0, 1), records);
  },
  run,
};
