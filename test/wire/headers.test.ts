import test from "ava";
import { setU16 } from "../../lib/base/bytes.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import * as arp from "../../lib/wire/arp.ts";
import {
  BROADCAST_HIGH,
  BROADCAST_LOW,
  getMacHigh,
  getMacLow,
  isGroupMac,
  writeEthernet,
} from "../../lib/wire/ethernet.ts";
import { ETHERTYPE_ARP, PROTOCOL_TCP } from "../../lib/wire/flow-key.ts";
import { findMss } from "../../lib/wire/tcp.ts";
import { DROP_ARP_MALFORMED, OK } from "../../lib/wire/verdict.ts";
import { buildFrame, randomBytes } from "./frames.ts";
import { hexOf } from "./vectors.ts";

function arpRequest(): Uint8Array {
  const bytes = new Uint8Array(42);
  const at = writeEthernet(bytes, 0, BROADCAST_HIGH, BROADCAST_LOW, 0x0200, 1, ETHERTYPE_ARP);
  arp.writeArp(bytes, at, arp.ARP_REQUEST, 0x0200, 1, 0x0a010001, 0, 0, 0x0a010002);
  return bytes;
}

test("an ARP request is the 42 bytes of RFC 826", (t) => {
  t.is(
    hexOf(arpRequest()),
    "ffffffffffff" + "020000000001" + "0806" + "0001080006040001" + "0200000000010a010001" + "0000000000000a010002",
  );
});

test("an ARP message gives back what was put in", (t) => {
  const bytes = new Uint8Array(30);
  t.is(arp.writeArp(bytes, 1, arp.ARP_REPLY, 0xfe01, -2, -3, 0x0203, 4, 5), 29);
  t.is(arp.checkArp(bytes, 1, 28), OK);
  t.is(arp.getArpOperation(bytes, 1), arp.ARP_REPLY);
  t.is(getMacHigh(bytes, 1 + arp.ARP_SENDER_MAC), 0xfe01);
  t.is(getMacLow(bytes, 1 + arp.ARP_SENDER_MAC), -2);
  t.is(arp.getArpSenderIp(bytes, 1), -3);
  t.is(getMacLow(bytes, 1 + arp.ARP_TARGET_MAC), 4);
  t.is(arp.getArpTargetIp(bytes, 1), 5);
});

test("an ARP message that is short, not for IPv4 on Ethernet, of another operation or from a group address is malformed", (t) => {
  const good = arpRequest();
  t.is(arp.checkArp(good, 14, 28), OK);
  t.is(arp.checkArp(good, 14, 46), OK, "padding");
  for (let length = 0; length < 28; length++) t.is(arp.checkArp(good, 14, length), DROP_ARP_MALFORMED);
  for (const [at, value] of [
    [14, 6],
    [16, 0x86dd],
    [18, 0x0804],
    [18, 0x0610],
    [20, 0],
    [20, 3],
    [22, 0x0300],
  ]) {
    const bad = arpRequest();
    setU16(bad, at, value);
    t.is(arp.checkArp(bad, 14, 28), DROP_ARP_MALFORMED, `${value} at ${at}`);
  }
});

test("a group address is known by its lowest bit of the first byte", (t) => {
  t.true(isGroupMac(BROADCAST_HIGH));
  t.true(isGroupMac(0x0100));
  t.false(isGroupMac(0x0200));
  t.false(isGroupMac(0xfeff));
});

function mssOf(...options: number[]): number {
  const padded = Uint8Array.from({ length: Math.ceil(options.length / 4) * 4 }, (_, i) => options[i] ?? 0);
  const { bytes, l4 } = buildFrame({ protocol: PROTOCOL_TCP, tcpOptions: padded, payload: Uint8Array.of(2, 4, 5, 6) });
  return findMss(bytes, l4);
}

test("the MSS is found wherever it stands, and is 0 when there is none", (t) => {
  t.is(mssOf(2, 4, 5, 0xb4), 1460);
  t.is(mssOf(1, 1, 4, 2, 3, 3, 7, 2, 4, 0x23, 0x28), 9000);
  t.is(mssOf(), 0, "a payload that looks like an option is none");
  t.is(mssOf(1, 1, 1, 0), 0);
  t.is(mssOf(0, 0, 0, 0, 2, 4, 5, 0xb4), 0, "behind the end of the list");
});

test("options of length 0 or 1, or past the header, end the search", (t) => {
  t.is(mssOf(8, 0, 2, 4, 5, 0xb4, 0, 0), 0);
  t.is(mssOf(8, 1, 2, 4, 5, 0xb4, 0, 0), 0);
  t.is(mssOf(1, 1, 1, 2), 0, "the kind is the header's last byte");
  t.is(mssOf(1, 1, 2, 4), 0, "the value is outside");
  t.is(mssOf(1, 8, 200, 1), 0);
  t.is(mssOf(2, 3, 5, 0), 0, "another length than 4");
});

test("no options of any bytes make the search hang or look past the header", (t) => {
  const random = new SeededRandom(6);
  for (let i = 0; i < 20_000; i++) {
    const tcpOptions = randomBytes(random, 4 * random.below(11)).map((byte) => (byte < 128 ? byte & 7 : byte));
    const { bytes, l4 } = buildFrame({ protocol: PROTOCOL_TCP, tcpOptions, payload: Uint8Array.of(0, 0, 0, 0) });
    const found = findMss(bytes, l4);
    bytes.fill(0xff, l4 + 20 + tcpOptions.length);
    if (findMss(bytes, l4) !== found) t.fail(hexOf(tcpOptions));
  }
  t.pass();
});
