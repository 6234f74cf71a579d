import test from "ava";
import { getI32, getU32, setU16 } from "../../lib/base/bytes.ts";
import {
  isFalsePositiveMarker,
  MetadataWriter,
  PARSED_SECURITY_KEY,
  ParsedMetadata,
  parseMetadata,
  writeFalsePositiveMarker,
} from "../../lib/wire/metadata.ts";
import * as attributes from "../../lib/wire/metadata-attributes.ts";
import { DROP_METADATA_MALFORMED, OK } from "../../lib/wire/verdict.ts";
import { bytesOf, hexOf, VECTORS } from "./vectors.ts";

const { ATTRIBUTES, describeMetadata, findAttribute } = attributes;
const parsed = new ParsedMetadata();

/** A base header with the given lengths and everything in `header` and `payload` as hex. */
function metadata(header: string, payload = ""): Uint8Array {
  const bytes = bytesOf(`4c48dbc6ddf6670c00000000${header}${payload}`);
  const headerLength = 12 + bytesOf(header).length;
  setU16(bytes, 8, 0x1000 | headerLength);
  setU16(bytes, 10, bytes.length - headerLength);
  return bytes;
}

function parse(bytes: Uint8Array): number {
  return parseMetadata(bytes, 0, bytes.length, parsed);
}

for (const vector of VECTORS) {
  const bytes = bytesOf(vector.hex);

  test(`the ${vector.name} vector says what the protocol sheet says`, (t) => {
    const at = 5;
    const embedded = new Uint8Array(at + bytes.length + 20).fill(0xaa);
    embedded.set(bytes, at);
    t.is(parseMetadata(embedded, at, embedded.length, parsed), OK);
    t.is(parsed.totalLength, bytes.length);
    t.is(isFalsePositiveMarker(parsed), vector.says.length === 0);
    for (let type = 0; type < 64; type++)
      t.is(
        parsed.has(type),
        vector.says.some((said) => said.type === type),
      );
    for (const { type, section, value } of vector.says) {
      const valueAt = parsed.offsetOf(type);
      const raw = embedded.subarray(valueAt, valueAt + parsed.lengthOf(type));
      t.deepEqual(findAttribute(type, raw.length)?.decode(raw), value);
      t.is(parsed.isInPayload(type), section === "payload");
    }
    const described = describeMetadata(embedded, at, embedded.length);
    t.deepEqual(
      described.map(({ type, section, value }) => ({ type, section, value })),
      vector.says,
    );
  });

  test(`the ${vector.name} vector is written byte for byte from what it says`, (t) => {
    const writer = new MetadataWriter(new Uint8Array(2048).fill(0xaa));
    for (let round = 0; round < 2; round++) {
      writer.begin();
      for (const { type, value } of vector.says) {
        const attribute = ATTRIBUTES.find((a) => a.type === type);
        const raw = attribute?.encode(value) ?? new Uint8Array(0);
        writer.bytes(type, raw, 0, raw.length);
      }
      const length = writer.end();
      t.is(hexOf(writer.buffer.subarray(0, length)), hexOf(bytes));
    }
  });

  test(`the ${vector.name} vector is refused when cut anywhere`, (t) => {
    for (let length = 0; length < bytes.length; length++) {
      const cut = bytes.slice(0, length);
      t.is(parse(cut), DROP_METADATA_MALFORMED, `cut to ${length}`);
      t.is(parseMetadata(bytes, 0, length, parsed), DROP_METADATA_MALFORMED, `ends at ${length}`);
      t.is(describeMetadata(bytes, 0, length).at(-1)?.name, "malformed");
    }
  });

  // The marker has no attribute to cut.
  if (vector.says.length === 0) continue;
  test(`the ${vector.name} vector with a section shortened by any number of bytes is refused, unless an attribute ends there`, (t) => {
    const headerLength = ((bytes[8] & 15) << 8) | bytes[9];
    const payloadLength = (bytes[10] << 8) | bytes[11];
    const ends = new Set<number>();
    for (let at = 12; at < bytes.length; at += 4 + ((bytes[at + 2] << 8) | bytes[at + 3])) ends.add(at);
    for (let length = 12; length < headerLength; length++) {
      const cut = Uint8Array.from(bytes);
      setU16(cut, 8, 0x1000 | length);
      setU16(cut, 10, 0);
      t.is(parse(cut), ends.has(length) ? OK : DROP_METADATA_MALFORMED);
    }
    for (let length = 0; length < payloadLength; length++) {
      const cut = Uint8Array.from(bytes);
      setU16(cut, 10, length);
      t.is(parse(cut), ends.has(headerLength + length) ? OK : DROP_METADATA_MALFORMED);
    }
  });
}

test("the writer's own methods write the forward vector, and words come back as they went in", (t) => {
  const vector = bytesOf(VECTORS[0].hex);
  const text = (name: string) => new TextEncoder().encode(name);
  const words = Int32Array.of(0, 0x0f1e2d3c, 0x4b5a4978, 0x8796a5b4 | 0, 0xc3d2e1f0 | 0);
  const writer = new MetadataWriter(new Uint8Array(512));
  writer.begin();
  writer.u32(attributes.ATTRIBUTE_SECURITY_ID, 1);
  writer.contextIpv4(attributes.ATTRIBUTE_FORWARD_CONTEXT_IPV4, 0x0a01010a, 0x0a020214, (50000 << 16) | 5000, 17);
  writer.uuid(attributes.ATTRIBUTE_UUID, words, 1);
  writer.text(attributes.ATTRIBUTE_TENANT, text("eng"));
  writer.text(attributes.ATTRIBUTE_SERVICE, text("app"));
  writer.text(attributes.ATTRIBUTE_SOURCE_ROUTER, text("west"));
  writer.text(attributes.ATTRIBUTE_SECURITY_POLICY, text("sec1"));
  writer.text(attributes.ATTRIBUTE_PATH_ID, text("198.51.100.10"));
  const length = writer.end();
  t.is(hexOf(writer.buffer.subarray(0, length)), hexOf(vector));

  t.is(parseMetadata(writer.buffer, 0, length, parsed), OK);
  const uuid = parsed.offsetOf(attributes.ATTRIBUTE_UUID);
  for (let i = 0; i < 4; i++) t.is(getI32(writer.buffer, uuid + 4 * i), words[1 + i]);

  writer.begin();
  writer.u32(attributes.ATTRIBUTE_SECURITY_ID, 1);
  writer.flag(attributes.ATTRIBUTE_DISABLE_FORWARD);
  writer.u8(attributes.ATTRIBUTE_CONTROL, attributes.CONTROL_DISABLE_METADATA);
  t.is(hexOf(writer.buffer.subarray(0, writer.end())), hexOf(bytesOf(VECTORS[5].hex)));

  writer.begin();
  writer.fragment(attributes.ATTRIBUTE_FRAGMENT, 0xa1b2c3d4, 0x1234, 0x2000 | 185, 1480);
  t.is(hexOf(writer.buffer.subarray(0, writer.end())), hexOf(bytesOf(VECTORS[8].hex)));
});

test("the marker is 12 bytes and tells itself from metadata", (t) => {
  const bytes = new Uint8Array(20).fill(0xee);
  t.is(writeFalsePositiveMarker(bytes, 4), 12);
  t.is(hexOf(bytes), `eeeeeeee${hexOf(bytesOf(VECTORS[2].hex))}eeeeeeee`);
});

test("the writer refuses a header attribute behind a payload attribute, a full buffer and a missing begin", (t) => {
  const writer = new MetadataWriter(new Uint8Array(24));
  t.throws(() => writer.flag(attributes.ATTRIBUTE_TCP_SYN), { name: "InvariantError" });
  writer.begin();
  writer.flag(attributes.ATTRIBUTE_TCP_SYN);
  t.throws(() => writer.flag(attributes.ATTRIBUTE_DISABLE_FORWARD), { name: "InvariantError" });
  t.throws(() => writer.text(attributes.ATTRIBUTE_TENANT, new Uint8Array(5)), { name: "InvariantError" });
  writer.bytes(attributes.ATTRIBUTE_TENANT, Uint8Array.of(1, 2, 3, 4), 0, 4);
  t.is(writer.end(), 24);
});

test("lengths that lead outside, another version and a missing cookie are refused", (t) => {
  const good = metadata("0010000400000001", "00070003656e67");
  t.is(parse(good), OK);
  for (const [at, value, what] of [
    [0, 0x4c49, "cookie"],
    [6, 0x670d, "cookie"],
    [8, 0x0014, "version 0"],
    [8, 0x2014, "version 2"],
    [8, 0x100b, "header length under 12"],
    [8, 0x1000, "header length 0"],
    [8, 0x1fff, "header past the end"],
    [10, 0xffff, "payload past the end"],
    [14, 0xffff, "an attribute longer than its section"],
    [14, 5, "a number of the wrong length, into the other section"],
    [22, 4, "a name longer than its section"],
  ] as const) {
    const bad = Uint8Array.from(good);
    setU16(bad, at, value);
    t.is(parse(bad), DROP_METADATA_MALFORMED, what);
  }
});

test("every attribute of a fixed length is refused one byte shorter and one byte longer", (t) => {
  for (const { type, name, lengthMin, lengthMax } of ATTRIBUTES) {
    if (lengthMin !== lengthMax || type >= 64 || type === attributes.ATTRIBUTE_HEALTH_CHECK) continue;
    for (const length of [lengthMin - 1, lengthMin, lengthMin + 1]) {
      if (length < 0) continue;
      const header = type.toString(16).padStart(4, "0") + length.toString(16).padStart(4, "0") + "00".repeat(length);
      const verdict = length === lengthMin ? OK : DROP_METADATA_MALFORMED;
      t.is(parse(metadata(header)), verdict, `${name} ${length} in the header`);
      t.is(parse(metadata("", header)), verdict, `${name} ${length} in the payload`);
    }
  }
});

test("unknown and private types are skipped, and known ones taken from either section", (t) => {
  t.is(parse(metadata("00090002aaaa" + "800f000105" + "ffff0000", "00120000" + "80040004000000ff" + "0017000101")), OK);
  t.true(parsed.has(attributes.ATTRIBUTE_DISABLE_FORWARD));
  t.true(parsed.isInPayload(attributes.ATTRIBUTE_DISABLE_FORWARD));
  t.true(parsed.has(attributes.ATTRIBUTE_DUPLICATE_SEQUENCE));
  t.is(parsed.lengthOf(attributes.ATTRIBUTE_DUPLICATE_SEQUENCE), 4);
  t.false(parsed.has(9));
  t.false(parsed.has(23));
  t.false(parsed.has(0x800f));
  t.is(parse(metadata("", "8105000400000007" + "80050004000000ff" + "8205000400000001" + "810f000155")), OK);
  t.is(parsed.lengthOf(attributes.ATTRIBUTE_TX_SEQUENCE), 4);
  t.is(parsed.offsetOf(attributes.ATTRIBUTE_TX_SEQUENCE), 16, "not taken for one of the other row");
  t.is(parsed.offsetOf(attributes.ATTRIBUTE_PAYLOAD_KEY_VERSION), 24);
  t.false(parsed.has(0x810f));
  t.is(parse(metadata("ffff0001")), DROP_METADATA_MALFORMED, "also an unknown type must fit");
});

test("number 46 is a health check when one byte long and a key when longer, and a key is never in the header", (t) => {
  t.is(parse(metadata("002e000101", "002e0003aabbcc")), OK);
  t.is(parsed.lengthOf(attributes.ATTRIBUTE_HEALTH_CHECK), 1);
  t.is(parsed.lengthOf(PARSED_SECURITY_KEY), 3);
  t.is(parse(metadata("", "002e000102")), OK);
  t.true(parsed.has(attributes.ATTRIBUTE_HEALTH_CHECK));
  t.false(parsed.has(PARSED_SECURITY_KEY));
  t.is(parse(metadata("002e0003aabbcc")), DROP_METADATA_MALFORMED);
  t.is(parse(metadata("002e0000")), DROP_METADATA_MALFORMED);
  t.is(parse(metadata("", "002e0000")), DROP_METADATA_MALFORMED);
});

test("the first of two attributes of a type counts, and a second context of any kind is refused", (t) => {
  const bytes = metadata("0010000400000001" + "0010000400000002");
  t.is(parse(bytes), OK);
  t.is(getU32(bytes, parsed.offsetOf(attributes.ATTRIBUTE_SECURITY_ID)), 1);
  const context = `0002000d${"00".repeat(13)}`;
  t.is(parse(metadata("", context)), OK);
  t.is(parse(metadata("", context + context)), DROP_METADATA_MALFORMED);
  t.is(parse(metadata(context, context)), DROP_METADATA_MALFORMED);
  t.is(parse(metadata("", `${context}0004000d${"00".repeat(13)}`)), DROP_METADATA_MALFORMED);
});

test("a result keeps nothing of the parse before it, and a new one has nothing", (t) => {
  const fresh = new ParsedMetadata();
  for (let type = 0; type < 64; type++) t.false(fresh.has(type));
  t.is(parse(bytesOf(VECTORS[0].hex)), OK);
  t.is(parse(bytesOf(VECTORS[3].hex)), OK);
  t.false(parsed.has(attributes.ATTRIBUTE_TENANT));
  t.is(parsed.offsetOf(attributes.ATTRIBUTE_TENANT), -1);
  t.is(parsed.lengthOf(attributes.ATTRIBUTE_TENANT), -1);
});

test("every attribute of the table is encoded and decoded back, and described under its name", (t) => {
  const samples: Record<number, attributes.AttributeValue[]> = {
    [attributes.ATTRIBUTE_SERVICE_SESSIONS]: [0n, 0x0123456789abcdefn, 0xffffffffffffffffn],
    [attributes.ATTRIBUTE_INTERFACE_ID]: [0xfedcba98],
    [attributes.ATTRIBUTE_ICMP_ERROR_IPV4]: ["192.0.2.255"],
    [attributes.ATTRIBUTE_ICMP_ERROR_IPV6]: ["2001:db8::1:0:0:1"],
    [attributes.ATTRIBUTE_SOURCE_NAT]: ["198.51.100.1"],
    [attributes.ATTRIBUTE_REVERSE_CONTEXT_IPV6]: [
      { source: "::1", destination: "2001:db8::", sourcePort: 65535, destinationPort: 0, protocol: 255 },
    ],
    [attributes.ATTRIBUTE_MODIFY]: [0x8fff],
    [attributes.ATTRIBUTE_APPLICATION]: ["Büro", ""],
    [attributes.ATTRIBUTE_REMAINING_TIME]: [1900],
    [attributes.ATTRIBUTE_FIREWALL_TEST]: [{ burst: 0xffffffff, place: 23, heard: 0 }],
    [attributes.ATTRIBUTE_FIREWALL_ANSWER]: [{ burst: 1, place: 0, heard: 0xfff }],
    [attributes.ATTRIBUTE_SECURITY_KEY]: [Uint8Array.of(1, 2, 3)],
    [attributes.ATTRIBUTE_MULTICAST_GROUP]: [
      { flags: 1, source: "10.0.0.1", group: "239.1.1.1", protocol: 17 },
      { flags: 0, source: "2001:db8::1", group: "ff0e::1", protocol: 17 },
    ],
    [attributes.ATTRIBUTE_MULTICAST_EGRESS]: [[], ["east", "north"]],
    [attributes.ATTRIBUTE_FRAGMENT]: [
      { extendedId: 1, originalId: 2, dontFragment: true, moreFragments: false, offset: 65528, largestSeen: 3 },
    ],
    [attributes.ATTRIBUTE_PATH_METRICS]: [
      { txColor: 15, txTimeMs: 0xfffffff, rxColor: 0, rxTimeMs: 0, drop: false, previousRxCount: 0x7fff },
    ],
    [attributes.ATTRIBUTE_DSCP]: [46],
    [attributes.ATTRIBUTE_MAC_PAIR]: [Uint8Array.from({ length: 12 }, (_, i) => i)],
    [attributes.ATTRIBUTE_TUNNELLED_PORTS]: [{ source: 16384, destination: 16385 }],
    [attributes.ATTRIBUTE_DUPLICATE_SEQUENCE]: [0xffffffff],
    [attributes.ATTRIBUTE_PAYLOAD_KEY_VERSION]: [7],
    [attributes.ATTRIBUTE_ENCRYPTED_FROM]: [0xfffffff0],
    [attributes.ATTRIBUTE_TUNNELLED_PROTOCOL]: [6],
    [attributes.ATTRIBUTE_SOURCE_NAT_PORT]: [16384],
    [attributes.ATTRIBUTE_INWARD]: ["01234567-89ab-4def-8123-456789abcdef"],
    [attributes.ATTRIBUTE_ROUTER_NAME]: ["east"],
    [attributes.ATTRIBUTE_NODE]: [{ nodeId: 0xfffffffe, bootId: 0xfedcba9876543210n }],
    [attributes.ATTRIBUTE_OWN_ADDRESS]: [{ address: "198.51.100.10", port: 1280 }],
    [attributes.ATTRIBUTE_OBSERVED_ADDRESS]: [{ address: "2001:db8::1", port: 65535 }],
    [attributes.ATTRIBUTE_TX_SEQUENCE]: [0xffffffff],
    [attributes.ATTRIBUTE_RX_SEQUENCE]: [0],
    [attributes.ATTRIBUTE_ECHO_TIME]: [0x0123456789abcdefn],
    [attributes.ATTRIBUTE_PROBE_SIZE]: [1500],
    [attributes.ATTRIBUTE_PROBE]: [0xfffffffe],
    [attributes.ATTRIBUTE_PROBE_ANSWER]: [7],
    [attributes.ATTRIBUTE_RX_COUNT]: [17],
    [attributes.ATTRIBUTE_PASSED_ROUTERS]: [Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)],
  };
  const writer = new MetadataWriter(new Uint8Array(4096));
  for (const row of ATTRIBUTES) {
    const flagOrText = row.lengthMax === 0 ? [true as const] : ["name"];
    const fromVectors = VECTORS.flatMap((v) =>
      v.says.filter((said) => said.type === row.type).map((said) => said.value),
    );
    const values = samples[row.type] ?? (fromVectors.length > 0 ? fromVectors : flagOrText);
    for (const value of values) {
      if (row.name === "health-check" && typeof value !== "number") continue;
      const raw = row.encode(value);
      t.true(row.lengthMin <= raw.length && raw.length <= row.lengthMax, row.name);
      t.deepEqual(row.decode(raw), value, row.name);
      writer.begin();
      writer.bytes(row.type, raw, 0, raw.length);
      const described = describeMetadata(writer.buffer, 0, writer.end());
      t.deepEqual(described, [{ type: row.type, name: row.name, section: row.section, value }]);
    }
  }
});

test("attribute names are unique and the table is in order of type", (t) => {
  t.is(new Set(ATTRIBUTES.map((a) => a.name)).size, ATTRIBUTES.length);
  for (let i = 1; i < ATTRIBUTES.length; i++) t.true(ATTRIBUTES[i - 1].type <= ATTRIBUTES[i].type);
});

test("a description reads on past what it does not know and shows the bytes of what makes no sense", (t) => {
  const bytes = metadata("0009000155", "0032000b0600000000000000000000" + "00330003000105" + "0007000141");
  t.deepEqual(
    describeMetadata(bytes, 0, bytes.length).map(({ type, name }) => [type, name]),
    [
      [9, "unknown"],
      [50, "unknown"],
      [51, "unknown"],
      [7, "tenant"],
    ],
  );
});
