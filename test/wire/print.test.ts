import test from "ava";
import { setU16 } from "../../lib/base/bytes.ts";
import { ARP_REPLY, ARP_REQUEST, writeArp } from "../../lib/wire/arp.ts";
import { writeEthernet } from "../../lib/wire/ethernet.ts";
import { ETHERTYPE_ARP, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } from "../../lib/wire/flow-key.ts";
import { printFrame } from "../../lib/wire/print.ts";
import { ACK, SYN } from "../../lib/wire/tcp.ts";
import { metadataOf } from "../simulate/packets.ts";
import { buildFrame, type TestFrame } from "./frames.ts";
import { bytesOf, VECTORS } from "./vectors.ts";

const print = ({ bytes }: { bytes: Uint8Array }) => printFrame(bytes, 0, bytes.length);
const between = { source: 0xc633640a, destination: 0xcb007114 | 0, sourcePort: 16384, destinationPort: 16385 };

function broken(frame: TestFrame, at: number): TestFrame {
  frame.bytes[at] ^= 0x55;
  return frame;
}

test("a TCP frame is printed with flags, numbers and MSS", (t) => {
  const tcpOptions = Uint8Array.of(2, 4, 5, 0xb4);
  const frame = buildFrame({ protocol: PROTOCOL_TCP, flags: SYN | ACK, sequence: -1, acknowledgment: 7, tcpOptions });
  t.is(
    print(frame),
    "tcp 10.1.1.10:50000 > 10.2.2.20:5000 [S.] seq 4294967295 ack 7 win 500 mss 1460 length 44 ttl 64 payload 0",
  );
});

test("a UDP frame with metadata is printed with its attributes and the payload behind", (t) => {
  const payload = Uint8Array.from([...bytesOf(VECTORS[0].hex), 1, 2, 3]);
  t.is(
    print(buildFrame({ protocol: PROTOCOL_UDP, ...between, payload })),
    "udp 198.51.100.10:16384 > 203.0.113.20:16385 length 135 ttl 64 metadata {security-id 1; " +
      'forward-context udp 10.1.1.10:50000 > 10.2.2.20:5000; uuid "0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0"; tenant "eng"; ' +
      'service "app"; source-router "west"; security-policy "sec1"; path-id "198.51.100.10"} payload 3',
  );
});

test("a marker, malformed metadata and unknown attributes are called what they are", (t) => {
  const marker = Uint8Array.from([...bytesOf(VECTORS[2].hex), 9]);
  t.regex(print(buildFrame({ protocol: PROTOCOL_UDP, payload: marker })), / false-positive marker payload 1$/);
  const cut = bytesOf(VECTORS[3].hex).subarray(0, -1);
  t.regex(
    print(buildFrame({ protocol: PROTOCOL_UDP, payload: cut })),
    / malformed metadata \{security-id 1; malformed 0x00180001\} payload 0$/,
  );
  const unknown = bytesOf("4c48dbc6ddf6670c10110000 0009000155");
  t.regex(print(buildFrame({ protocol: PROTOCOL_UDP, payload: unknown })), / metadata \{type 9 0x55\} payload 0$/);
});

test("wrong and partial checksums are named", (t) => {
  const udp = () => buildFrame({ protocol: PROTOCOL_UDP, payload: Uint8Array.of(1, 2) });
  const { l3, l4 } = udp();
  t.false(print(udp()).includes("checksum"));
  t.regex(print(broken(udp(), l3 + 10)), / bad ip checksum payload/);
  t.regex(print(broken(udp(), l4 + 6)), / bad udp checksum payload/);
  const partial = udp();
  setU16(partial.bytes, l4 + 6, 0x0a01 + 0x010a + 0x0a02 + 0x0214 + 17 + 10);
  t.regex(print(partial), / partial udp checksum payload/);
});

test("ICMP is printed as echo or as an error with what it quotes", (t) => {
  const echo = buildFrame({ protocol: PROTOCOL_ICMP, sourcePort: 77 });
  t.is(print(echo), "icmp 10.1.1.10 > 10.2.2.20 echo id 77 seq 1 length 28 ttl 64");
  const quoted = buildFrame({ protocol: PROTOCOL_UDP, ...between }).bytes.subarray(14);
  const error = buildFrame({ protocol: PROTOCOL_ICMP, payload: quoted });
  error.bytes[error.l4] = 11;
  t.regex(
    print(error),
    /type 11 code 0 about udp 198\.51\.100\.10 > 203\.0\.113\.20 length 56 ttl 64 bad icmp checksum$/,
  );
});

test("of a key in metadata it is printed that there is one", (t) => {
  const key = Uint8Array.from({ length: 32 }, (_, i) => 0xa0 + i);
  const metadata = metadataOf([16, 7], [46, key], [10, "app"]);
  const printed = [metadata, metadata.subarray(0, -1)].map((payload) =>
    print(buildFrame({ protocol: PROTOCOL_UDP, payload })),
  );
  t.regex(printed[0], /metadata \{security-id 7; security-key <key>; service "app"\}/);
  for (const line of printed) t.false(line.includes("a0a1a2a3"), line);
});

test("ARP is printed as question and answer, and a frame that is dropped by its drop reason", (t) => {
  const bytes = new Uint8Array(42);
  const at = writeEthernet(bytes, 0, 0xffff, -1, 0x0200, 1, ETHERTYPE_ARP);
  writeArp(bytes, at, ARP_REQUEST, 0x0200, 1, 0x0a010001, 0, 0, 0x0a010002);
  t.is(print({ bytes }), "arp request who has 10.1.0.2 tell 10.1.0.1 at 02:00:00:00:00:01");
  writeArp(bytes, at, ARP_REPLY, 0x0200, 1, 0x0a010001, 0, 0, 0x0a010002);
  t.is(print({ bytes }), "arp reply 10.1.0.1 is at 02:00:00:00:00:01");
  t.is(printFrame(bytes, 0, 41), "arp malformed length 27");
  t.is(printFrame(bytes, 0, 10), "runt length 10");
});
