// The parser of metadata, and what describes and prints it: any bytes where metadata may stand.

import { readdirSync, readFileSync } from "node:fs";
import { PARSED_SECURITY_KEY, ParsedMetadata, parseMetadata } from "../../../lib/wire/metadata.ts";
import {
  ATTRIBUTE_SECURITY_KEY,
  type AttributeValue,
  type DescribedAttribute,
  describeMetadata,
  findAttribute,
  METADATA_BASE_LENGTH,
} from "../../../lib/wire/metadata-attributes.ts";
import { printFrame } from "../../../lib/wire/print.ts";
import { OK } from "../../../lib/wire/verdict.ts";
import { buildFrame } from "../../wire/frames.ts";
import { bytesOf, VECTORS } from "../../wire/vectors.ts";
import { changeMetadata } from "../forms.ts";
import type { Target } from "../fuzzer.ts";
import { joined } from "../mutate.ts";

const BEFORE = 40;
const BEHIND = 80;
const parsed = [new ParsedMetadata(), new ParsedMetadata()];
/** All that the parser may remember. */
const TYPES = [...Array.from({ length: 64 }, (_, type) => type), ...Array.from({ length: 16 }, (_, i) => 0x8000 + i)];

/** Everything the parser says of metadata that begins at `at`, which must lie before `end`. */
function reading(of: ParsedMetadata, at: number, end: number): string {
  const { headerLength, payloadLength, totalLength } = of;
  if (totalLength !== headerLength + payloadLength || at + totalLength > end) throw new Error("longer than there is");
  const found = TYPES.filter((type) => of.has(type)).map((type) => {
    const [from, length] = [of.offsetOf(type), of.lengthOf(type)];
    const [first, last] = of.isInPayload(type)
      ? [at + headerLength, at + totalLength]
      : [at + METADATA_BASE_LENGTH, at + headerLength];
    if (from < first + 4 || length < 0 || from + length > last) throw new Error(`${type} outside its section`);
    return [type, from - at, length, of.isInPayload(type)].join(":");
  });
  return `${headerLength}+${payloadLength} ${found.join(" ")}`;
}

const hasReplacement = (value: AttributeValue): boolean =>
  typeof value === "string" ? value.includes("\ufffd") : Array.isArray(value) && value.some(hasReplacement);

/** The metadata written anew from what it was said to say. */
function writtenAgain(described: readonly DescribedAttribute[]): Uint8Array {
  const parts = { header: [] as Uint8Array[], payload: [] as Uint8Array[] };
  for (const { type, name, section, value } of described) {
    const attribute =
      findAttribute(type, name === "security-key" ? 2 : name === "health-check" ? 1 : NaN) ?? findByName(name, type);
    const bytes = attribute === undefined ? (value as Uint8Array) : attribute.encode(value);
    parts[section].push(Uint8Array.of(type >>> 8, type, bytes.length >>> 8, bytes.length), bytes);
  }
  const [header, payload] = [joined(...parts.header), joined(...parts.payload)];
  const base = bytesOf("4c48dbc6 ddf6670c 0000 0000");
  new DataView(base.buffer).setUint16(8, 0x1000 | (12 + header.length));
  new DataView(base.buffer).setUint16(10, payload.length);
  return joined(base, header, payload);
}

function findByName(name: string, type: number) {
  for (let length = 0; length <= 40; length++) {
    const attribute = findAttribute(type, length);
    if (attribute?.name === name) return attribute;
  }
  return undefined;
}

const textOf = (described: readonly DescribedAttribute[]) =>
  JSON.stringify(described, (_, value) => (typeof value === "bigint" ? `${value}n` : value));

function run(bytes: Uint8Array): string {
  const end = BEFORE + bytes.length;
  const memories = [0x00, 0xff].map((around) => {
    const memory = new Uint8Array(end + BEHIND).fill(around);
    memory.set(bytes, BEFORE);
    return memory;
  });
  for (const headerOnly of [true, false]) {
    const verdicts = memories.map((memory, i) => parseMetadata(memory, BEFORE, end, parsed[i], headerOnly));
    if (verdicts[0] !== verdicts[1]) throw new Error("the verdict depends on what lies around");
    if (verdicts[0] === OK && reading(parsed[0], BEFORE, end) !== reading(parsed[1], BEFORE, end))
      throw new Error("what is read depends on what lies around");
  }
  const verdict = parseMetadata(memories[0], BEFORE, end, parsed[0]);
  const described = describeMetadata(memories[0], BEFORE, end);
  if (textOf(described) !== textOf(describeMetadata(memories[1], BEFORE, end)))
    throw new Error("the description depends on what lies around");
  const { bytes: frame } = buildFrame({ protocol: 17, payload: bytes });
  printFrame(frame, 0, frame.length);
  const isTold = described.every(({ type }) => type !== -1);
  if (verdict !== OK) return isTold ? "refused for what it says" : `malformed ${described.at(-1)!.section}`;

  if (!isTold) throw new Error("parsed, but described as malformed");
  for (const type of TYPES) {
    const isKey = (name: string) => name === "security-key";
    const first = described.find(
      (one) =>
        one.name !== "unknown" &&
        (type === PARSED_SECURITY_KEY ? isKey(one.name) : one.type === type && !isKey(one.name)),
    );
    if (first !== undefined) {
      const [at, length] = [parsed[0].offsetOf(type), parsed[0].lengthOf(type)];
      const value = findAttribute(first.type, length)?.decode(memories[0].subarray(at, at + length));
      if (textOf([{ ...first, value: value! }]) !== textOf([first]))
        throw new Error(`${type} is not the first that is there`);
    }
    // What an attribute of an allowed length cannot say is remembered, and described as unknown.
    if (first !== undefined && !parsed[0].has(type)) throw new Error(`${type} is described and not there`);
    if (parsed[0].has(type) && findAttribute(type || ATTRIBUTE_SECURITY_KEY, parsed[0].lengthOf(type)) === undefined)
      throw new Error(`${type} has a length that it may not have`);
    if (parsed[0].has(type) && type !== PARSED_SECURITY_KEY && !described.some((one) => one.type === type))
      throw new Error(`${type} is there and not described`);
  }
  const first = described.find(({ name }) => name !== "unknown");
  if (!described.some(({ value }) => hasReplacement(value))) {
    const again = writtenAgain(described);
    const last = parsed[1];
    if (parseMetadata(again, 0, again.length, last) !== OK) throw new Error("written again, it is refused");
    if (textOf(describeMetadata(again, 0, again.length)) !== textOf(described))
      throw new Error("written again, it says something else");
    for (const type of TYPES) {
      if (last.has(type) !== parsed[0].has(type)) throw new Error(`written again, ${type} comes or goes`);
    }
  }
  return `ok ${first?.name ?? "without attributes"}`;
}

const files = new URL("../../../../test/fuzz/metadata/", import.meta.url);

export const target: Target = {
  runs: 4000,
  lengthMax: 600,
  seeds: [
    ...VECTORS.map(({ hex }) => bytesOf(hex)),
    ...["valid", "malformed"].flatMap((folder) =>
      readdirSync(new URL(`${folder}/`, files))
        .sort()
        .map((name) => Uint8Array.from(readFileSync(new URL(`${folder}/${name}`, files)))),
    ),
  ],
  tokens: ["4c48dbc6 ddf6670c", "100c 0000", "0010 0004", "002e 0001", "8005 0004", "efbbbf"].map(bytesOf),
  change: (random, bytes) => changeMetadata(random, bytes, 0),
  run,
};
