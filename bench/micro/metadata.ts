// Session metadata: writing and parsing what a lead packet carries (protocol sheet 3.6, the forward vector's attributes).

import { MetadataWriter, ParsedMetadata, parseMetadata } from "../../lib/wire/metadata.ts";
import {
  ATTRIBUTE_FORWARD_CONTEXT_IPV4,
  ATTRIBUTE_PATH_ID,
  ATTRIBUTE_SECURITY_ID,
  ATTRIBUTE_SECURITY_POLICY,
  ATTRIBUTE_SERVICE,
  ATTRIBUTE_SOURCE_ROUTER,
  ATTRIBUTE_TENANT,
  ATTRIBUTE_UUID,
} from "../../lib/wire/metadata-attributes.ts";
import { measure, seededRandom } from "../harness.ts";

const ROUNDS = 200_000;
const text = new TextEncoder();
const [tenant, service, router, policy, path] = ["eng", "app", "west", "none", "198.51.100.10"].map((name) =>
  text.encode(name),
);
const random = seededRandom();
const uuid = Int32Array.of(random.nextI32(), random.nextI32(), random.nextI32(), random.nextI32());
const writer = new MetadataWriter(new Uint8Array(512));

function write(ports: number): number {
  writer.begin();
  writer.u32(ATTRIBUTE_SECURITY_ID, 1);
  writer.contextIpv4(ATTRIBUTE_FORWARD_CONTEXT_IPV4, 0x0a01010a, 0x0a020214, ports, 17);
  writer.uuid(ATTRIBUTE_UUID, uuid, 0);
  writer.text(ATTRIBUTE_TENANT, tenant);
  writer.text(ATTRIBUTE_SERVICE, service);
  writer.text(ATTRIBUTE_SOURCE_ROUTER, router);
  writer.text(ATTRIBUTE_SECURITY_POLICY, policy);
  writer.text(ATTRIBUTE_PATH_ID, path);
  return writer.end();
}

measure({
  name: "micro.metadata.write",
  mode: `${write(0)} bytes, 8 attributes, unencrypted`,
  operations: ROUNDS,
  run: () => {
    let bytes = 0;
    for (let i = 0; i < ROUNDS; i++) bytes += write(i);
    return bytes;
  },
});

const length = write(0);
const parsed = new ParsedMetadata();
measure({
  name: "micro.metadata.parse",
  mode: `${length} bytes, 8 attributes, unencrypted`,
  operations: ROUNDS,
  run: () => {
    let sum = 0;
    for (let i = 0; i < ROUNDS; i++) sum += parseMetadata(writer.buffer, 0, length, parsed) + parsed.totalLength;
    return sum;
  },
});
