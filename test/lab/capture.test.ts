// The lab's judges can say no: python3-scapy makes captures of two sessions between two routers, one as it should be
// and some with one fault each. Needs no root.

import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import {
  addressComplaints,
  checksumComplaints,
  handshakeComplaints,
  lanFlows,
  lengthComplaints,
  type Packet,
  payloadComplaints,
  portComplaints,
  readCapture,
  wireSessions,
} from "./capture.ts";

// $1: directory. wire-NAME.pcap and lan.pcap, wire6-NAME.pcap and lan6.pcap with IPv6: a TCP session, and a UDP session whose first datagram is full.
const SCAPY = `
import socket, struct, sys
from scapy.all import Ether, IP as IPv4, IPv6, TCP, UDP, ICMP, ICMPv6EchoRequest, ICMPv6EchoReply, ICMPv6ND_NS, Raw, wrpcap
six = sys.argv[2] == "6"
IP = IPv6 if six else IPv4
A, B, C, S = ("2001:db8:ff::1", "2001:db8:ff::2", "2001:db8:1::2", "2001:db8:2::2") if six else ("198.18.0.1", "198.18.0.2", "10.1.0.2", "10.2.0.2")
FORWARD, REVERSE, ECHO = (3, 5, 58) if six else (2, 4, 1)
COOKIE = bytes.fromhex("4c48dbc6ddf6670c")
def tlv(kind, value): return struct.pack("!HH", kind, len(value)) + value
def header(head, body): return COOKIE + struct.pack("!HH", 0x1000 | 12 + len(head), len(body)) + head + body
def context(kind, s, d, sp, dp, proto, uuid):
    pack = lambda a: socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, a)
    return header(b"", tlv(kind, pack(s) + pack(d) + struct.pack("!HHB", sp, dp, proto)) + tlv(6, uuid))
def frame(p): return Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / p
def tcp(s, d, sp, dp, flags, payload=b""): return frame(IP(src=s, dst=d) / TCP(sport=sp, dport=dp, flags=flags) / Raw(payload))
def udp(s, d, sp, dp, payload): return frame(IP(src=s, dst=d) / UDP(sport=sp, dport=dp) / Raw(payload))
def ping(s, d, asks, size):
    echo = (ICMPv6EchoRequest if asks else ICMPv6EchoReply)(id=77) if six else ICMP(type=8 if asks else 0, id=77)
    return IP(src=s, dst=d) / echo / Raw(b"p" * size)
U1, U2, U3 = b"1" * 16, b"2" * 16, b"3" * 16
F1, R1 = context(FORWARD, C, S, 40000, 80, 6, U1), context(REVERSE, S, C, 80, 40000, 6, U1)
F2, R2 = context(FORWARD, C, S, 5000, 53, 17, U2), context(REVERSE, S, C, 53, 5000, 17, U2)
F3, R3 = context(FORWARD, C, S, 77, 77, ECHO, U3), context(REVERSE, S, C, 77, 77, ECHO, U3)
big = F2 + b"x" * 1472
cut = 1440
def piece(offset, more, data): return header(tlv(1, struct.pack("!IHHH", 9, 1, (0x2000 if more else 0) | offset // 8, 1500)), b"") + data
size = 40 if six else 20
echo = bytes(ping(C, S, True, 56))[size:]; answer = bytes(ping(S, C, False, 56))[size:]
lan = [tcp(C, S, 40000, 80, "S"), tcp(S, C, 80, 40000, "SA"), tcp(C, S, 40000, 80, "A"), tcp(C, S, 40000, 80, "PA", b"get"),
       tcp(S, C, 80, 40000, "A", b"y" * 1460), udp(C, S, 5000, 53, b"x" * 1472), udp(S, C, 53, 5000, b"z"), udp(C, S, 5000, 53, b"z"),
       frame(ping(C, S, True, 56)), frame(ping(S, C, False, 56))]
def wire(): return [
    tcp(A, B, 16384, 16385, "S", F1), tcp(B, A, 16385, 16384, "SA", R1), tcp(A, B, 16384, 16385, "A"),
    tcp(A, B, 16384, 16385, "PA", b"get"), tcp(B, A, 16385, 16384, "A", b"y" * 1460),
    udp(A, B, 16384, 16385, piece(0, True, big[:cut])), udp(A, B, 16384, 16385, piece(cut, False, big[cut:])),
    udp(B, A, 16385, 16384, R2 + b"z"), udp(A, B, 16384, 16385, b"z"),
    udp(A, B, 16386, 16387, F3 + echo), udp(B, A, 16387, 16386, R3 + answer)]
def save(name, frames): wrpcap(sys.argv[1] + "/" + name.replace("wire", "wire6" if six else "wire") + ".pcap", frames)
save("lan6" if six else "lan", lan)
save("wire-good", wire())
w = wire(); w[3][TCP].chksum = 1; save("wire-checksum", w)
w = wire(); w[3][IP].src = C; save("wire-address", w)
w = wire(); w[3] = tcp(A, B, 16384, 16385, "PA", F1 + b"get"); save("wire-late", w)
w = wire(); w[1] = tcp(B, A, 16385, 16384, "SA"); save("wire-missing", w)
w = wire(); w[4] = tcp(B, A, 16385, 16384, "A", b"y" * 1476); save("wire-longer", w)
w = wire(); w[0][TCP].sport = 16383; save("wire-port", w)
w = wire()[1:]; save("wire-stranger", w)
if six:
    save("wire-neighbor", [frame(IPv6(src=A, dst="ff02::1:ff00:2", hlim=255) / ICMPv6ND_NS(tgt=B))] + wire())
    save("wire-other", [frame(IPv6(src=C, dst="ff02::1:ff00:2", hlim=255) / ICMPv6ND_NS(tgt=B))] + wire())
    w = wire(); w[3] = frame(IPv6(src=A, dst=B, nh=60) / Raw(bytes([6, 0, 1, 4, 0, 0, 0, 0]) + bytes(w[3][TCP]))); save("wire-header", w)
    w = wire(); w[8][UDP].chksum = 0; save("wire-unchecked", w)
`;

const missing = ["tshark", "/usr/bin/python3"].find((tool) => spawnSync(tool, ["--version"]).status !== 0);
const directory = mkdtempSync(join(tmpdir(), "waymark-capture-"));
const captureTest = missing === undefined ? test : test.skip;

test.before(() => {
  if (missing === undefined)
    for (const family of ["4", "6"])
      execFileSync("/usr/bin/python3", ["-c", SCAPY, directory, family], { stdio: ["ignore", "ignore", "pipe"] });
});
test.after.always(() => rmSync(directory, { recursive: true }));

/** Every judge's complaints about one wire capture, by judge. */
async function judge(name: string, six = ""): Promise<Record<string, string[]>> {
  const packets = await readCapture(join(directory, `wire${six}-${name}.pcap`));
  const lan = lanFlows(await readCapture(join(directory, `lan${six}.pcap`)));
  const { sessions, complaints } = wireSessions(packets);
  const lengths = lengthComplaints(sessions, lan);
  const all: Record<string, string[]> = {
    session: complaints,
    checksum: checksumComplaints(packets),
    address: addressComplaints(packets, six ? ["2001:db8:ff::1", "2001:db8:ff::2"] : ["198.18.0.1", "198.18.0.2"]),
    port: portComplaints(sessions),
    handshake: handshakeComplaints(sessions),
    length: lengths.complaints,
    payload: payloadComplaints(sessions, lan),
    compared: [`${lengths.compared} compared, ${lengths.lost} lost`],
  };
  return Object.fromEntries(Object.entries(all).filter(([, list]) => list.length > 0));
}

for (const six of ["", "6"]) {
  const of = six === "" ? "" : " of IPv6";
  captureTest(`A capture${of} as it should be draws no complaint, fragments and ICMP in UDP included`, async (t) => {
    t.deepEqual(await judge("good", six), { compared: ["10 compared, 0 lost"] });
  });

  for (const [fault, judges] of Object.entries({
    checksum: ["checksum"],
    address: ["session", "address"],
    late: ["handshake"],
    missing: ["handshake"],
    longer: ["length", "payload"],
    port: ["session", "port"],
    stranger: ["session"],
    ...(six === "" ? {} : { other: ["address"], header: ["address"], unchecked: ["checksum"] }),
  })) {
    captureTest(`A capture${of} with a fault is found out: ${fault}`, async (t) => {
      const found = await judge(fault, six);
      for (const name of judges) t.true(name in found, `${name} is silent: ${JSON.stringify(found)}`);
    });
  }
}

captureTest("That neighbors of a wire find each other draws no complaint", async (t) => {
  t.deepEqual(await judge("neighbor", "6"), { compared: ["10 compared, 0 lost"] });
});

captureTest("tshark reads every field of a packet that the judges use", async (t) => {
  const packets: Packet[] = await readCapture(join(directory, "wire-good.pcap"));
  const lead = packets[0];
  t.like(lead, {
    protocol: 6,
    source: "198.18.0.1:16384",
    destination: "198.18.0.2:16385",
    tcpFlags: 2,
    checksumsGood: true,
  });
  t.is(lead.payloadLength, lead.metadata!.length);
  t.deepEqual([...lead.metadata!.attributes.keys()], [2, 6]);
  t.deepEqual([...packets[5].metadata!.inner!.attributes.keys()], [2, 6]);
});

test("0xffff for a TCP checksum of 0 is a fault, but where the kernel has finished it", (t) => {
  const packet = { frame: 7, source: "a", destination: "b", checksumsGood: false, isMangled: true } as Packet;
  t.is(checksumComplaints([packet]).length, 1);
  t.deepEqual(checksumComplaints([packet], true), []);
  t.is(checksumComplaints([{ ...packet, isMangled: false }], true).length, 1);
});
