// Bytes nobody meant: seeded mutations of frames with metadata, and the corpus in test/fuzz/metadata. The proof that
// nothing past the frame is read: the same frame in two memories that differ everywhere else gives the same result.

import { readdirSync, readFileSync } from "node:fs";
import test from "ava";
import { setU16, viewOf } from "../../lib/base/bytes.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import {
  ANY_MAC,
  AT_END,
  AT_PAYLOAD,
  decodeFrame,
  KEY_ROW_WORDS,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  startsWithCookie,
} from "../../lib/wire/flow-key.ts";
import { ParsedMetadata, parseMetadata } from "../../lib/wire/metadata.ts";
import { describeMetadata } from "../../lib/wire/metadata-attributes.ts";
import { printFrame } from "../../lib/wire/print.ts";
import { DROP_METADATA_MALFORMED, OK, PUNT_FRAGMENT, PUNT_ICMP_ERROR } from "../../lib/wire/verdict.ts";
import { buildFrame, randomBytes } from "./frames.ts";
import { bytesOf, hexOf, VECTORS } from "./vectors.ts";

const corpus = new URL("../../../test/fuzz/metadata/", import.meta.url);
const SEED = 20_260_101;
const OFFSET = 64;

/** One memory and everything that is read out of a frame in it. */
class Reading {
  readonly memory = new Uint8Array(1024);
  readonly #around: number;
  readonly row = new Int32Array(KEY_ROW_WORDS);
  readonly parsed = new ParsedMetadata();
  verdict = 0;
  metadataVerdict = 0;

  constructor(around: number) {
    this.#around = around;
  }

  read(frame: Uint8Array): void {
    this.memory.fill(this.#around);
    this.memory.set(frame, OFFSET);
    this.row.fill(0);
    this.verdict = decodeFrame(viewOf(this.memory), OFFSET, frame.length, 1, ANY_MAC, 0, this.row, 0);
    const hasOffsets = [OK, PUNT_ICMP_ERROR, PUNT_FRAGMENT].includes(this.verdict);
    this.metadataVerdict = hasOffsets
      ? parseMetadata(this.memory, this.row[AT_PAYLOAD], this.row[AT_END], this.parsed)
      : -1;
  }

  /** Undefined when the other read the same and no more than the frame, else what differs. */
  differs(other: Reading, frame: Uint8Array): string | undefined {
    if (this.verdict !== other.verdict) return "verdict";
    for (let i = 0; i < KEY_ROW_WORDS; i++) if (this.row[i] !== other.row[i]) return `row ${i}`;
    if (this.metadataVerdict !== other.metadataVerdict) return "metadata verdict";
    if (this.metadataVerdict !== OK) return undefined;
    const { parsed } = this;
    const end = OFFSET + frame.length;
    if (parsed.totalLength !== other.parsed.totalLength) return "total length";
    if (this.row[AT_PAYLOAD] + parsed.totalLength > end) return "metadata past the frame";
    for (let type = 0; type < 64; type++) {
      if (parsed.offsetOf(type) !== other.parsed.offsetOf(type)) return `offset of ${type}`;
      if (parsed.lengthOf(type) !== other.parsed.lengthOf(type)) return `length of ${type}`;
      if (parsed.has(type) && parsed.offsetOf(type) + parsed.lengthOf(type) > end) return `${type} past the frame`;
    }
    return undefined;
  }
}

const INTERESTING = [0, 1, 2, 3, 4, 7, 8, 11, 12, 13, 16, 37, 46, 63, 64, 0x7f, 0x80, 0xfe, 0xff];

/** One to four changes: a bit, a byte, a 16-bit length, bytes taken out or put in, the end cut off. */
function mutate(random: SeededRandom, original: Uint8Array): Uint8Array {
  let frame = Uint8Array.from(original);
  for (let changes = 1 + random.below(4); changes > 0; changes--) {
    // Nine of ten in the part behind the Ethernet and IPv4 headers.
    const from = random.below(10) === 0 ? 0 : Math.min(34, frame.length);
    const at = from + random.below(Math.max(1, frame.length - from));
    const kind = random.below(7);
    if (kind <= 1) frame[at] ^= 1 << random.below(8);
    else if (kind === 2) frame[at] = INTERESTING[random.below(INTERESTING.length)];
    else if (kind === 3) setU16(frame, at, INTERESTING[random.below(INTERESTING.length)]);
    else if (kind === 4) frame = frame.slice(0, at);
    else if (kind === 5) {
      const gone = Math.min(1 + random.below(8), frame.length - at);
      frame.copyWithin(at, at + gone);
    } else frame.set(randomBytes(random, Math.min(1 + random.below(8), frame.length - at)), at);
  }
  return frame;
}

function framesOf(metadata: Uint8Array): Uint8Array[] {
  const payload = Uint8Array.from([...metadata, ...randomBytes(new SeededRandom(1), 20)]);
  return [PROTOCOL_UDP, PROTOCOL_TCP].map((protocol) => buildFrame({ protocol, payload }).bytes);
}

const originals = VECTORS.flatMap((vector) => framesOf(bytesOf(vector.hex)));

test("100,000 mutations of frames with metadata are read without a throw and without a look past the frame", (t) => {
  const random = new SeededRandom(SEED);
  const a = new Reading(0x00);
  const b = new Reading(0xff);
  const outcomes = new Map<number, number>();
  for (let i = 0; i < 100_000; i++) {
    const frame = mutate(random, originals[i % originals.length]);
    a.read(frame);
    b.read(frame);
    const difference = a.differs(b, frame);
    if (difference !== undefined) t.fail(`seed ${SEED}, mutation ${i}: ${difference} in ${hexOf(frame)}`);
    outcomes.set(a.metadataVerdict, (outcomes.get(a.metadataVerdict) ?? 0) + 1);
  }
  t.true((outcomes.get(OK) ?? 0) > 10_000, "many must still be metadata");
  t.true((outcomes.get(DROP_METADATA_MALFORMED) ?? 0) > 10_000, "and many must not");
});

test("10,000 mutations are printed and described without a throw and without a look past the frame", (t) => {
  const random = new SeededRandom(SEED + 1);
  const a = new Reading(0x00);
  const b = new Reading(0xff);
  for (let i = 0; i < 10_000; i++) {
    const frame = mutate(random, originals[i % originals.length]);
    a.read(frame);
    b.read(frame);
    const said = printFrame(a.memory, OFFSET, frame.length);
    if (said !== printFrame(b.memory, OFFSET, frame.length)) t.fail(`mutation ${i}: ${hexOf(frame)}`);
    const at = OFFSET + Math.min(42, frame.length);
    const described = describeMetadata(a.memory, at, OFFSET + frame.length);
    if (i % 100 === 0) t.deepEqual(described, describeMetadata(b.memory, at, OFFSET + frame.length));
  }
  t.pass();
});

for (const [folder, verdict] of [
  ["valid", OK],
  ["malformed", DROP_METADATA_MALFORMED],
] as const) {
  const names = readdirSync(new URL(`${folder}/`, corpus)).filter((name) => name.endsWith(".bin"));
  test(`all ${names.length} files of the corpus under ${folder} are, alone and in a frame`, (t) => {
    t.true(names.length > 5);
    const parsed = new ParsedMetadata();
    for (const name of names) {
      const bytes = Uint8Array.from(readFileSync(new URL(`${folder}/${name}`, corpus)));
      t.is(parseMetadata(bytes, 0, bytes.length, parsed), verdict, name);
      const a = new Reading(0x00);
      const b = new Reading(0xff);
      const { bytes: frame } = buildFrame({ protocol: PROTOCOL_UDP, payload: bytes });
      a.read(frame);
      b.read(frame);
      t.is(a.metadataVerdict, verdict, name);
      t.is(a.differs(b, frame), undefined, name);
      const isShownMalformed = printFrame(a.memory, OFFSET, frame.length).includes("malformed metadata");
      t.is(isShownMalformed, verdict !== OK && startsWithCookie(bytes, 0, bytes.length), name);
    }
  });
}
