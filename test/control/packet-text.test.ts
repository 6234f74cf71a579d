import test from "ava";
import { TextError } from "../../lib/control/address-text.ts";
import { parsePacket } from "../../lib/control/packet-text.ts";

test("A packet is read as people write it", (t) => {
  const tcp = {
    protocol: 6,
    source: 0x0a010002,
    destination: 0x0a020002,
    sourcePort: 40000,
    destinationPort: 443,
    tcpFlags: 2,
  };
  t.deepEqual(parsePacket("tcp 10.1.0.2:40000 > 10.2.0.2:443"), tcp);
  t.deepEqual(parsePacket("  TCP 10.1.0.2:40000>10.2.0.2:443 SYN"), tcp);
  t.deepEqual(parsePacket("tcp 10.1.0.2:40000 > 10.2.0.2:443 syn,ack"), { ...tcp, tcpFlags: 18 });
  t.deepEqual(parsePacket("tcp 10.1.0.2:40000 > 10.2.0.2:443 fin rst psh ack urg"), { ...tcp, tcpFlags: 61 });
  t.deepEqual(parsePacket("udp 10.1.0.2:1 > 10.2.0.2:65535"), {
    ...tcp,
    protocol: 17,
    sourcePort: 1,
    destinationPort: 65535,
    tcpFlags: 0,
  });
  t.deepEqual(parsePacket("icmp 10.1.0.2 > 10.2.0.2"), {
    ...tcp,
    protocol: 1,
    sourcePort: 0,
    destinationPort: 0,
    tcpFlags: 0,
  });
});

const wrong: [text: string, message: string, mend: string][] = [
  ["", '"" is not tcp, udp or icmp', "begin with one of them: 'tcp 10.1.0.2:40000 > 10.2.0.2:443'"],
  [
    "__proto__ 1.1.1.1 > 2.2.2.2",
    '"__proto__" is not tcp, udp or icmp',
    "begin with one of them: 'tcp 10.1.0.2:40000 > 10.2.0.2:443'",
  ],
  ["udp 10.1.0.2:1", "a packet goes from one address > to another", "write 'tcp 10.1.0.2:40000 > 10.2.0.2:443'"],
  [
    "udp 10.1.0.2:1 < 10.2.0.2:2",
    "a packet goes from one address > to another",
    "write 'tcp 10.1.0.2:40000 > 10.2.0.2:443'",
  ],
  ["udp 10.1.0.2 > 10.2.0.2:2", "10.1.0.2 has no port", "write 10.1.0.2:PORT"],
  ["udp 10.1.0.2:0 > 10.2.0.2:2", '"0" is not a port', "write a number from 1 to 65535"],
  ["udp 10.1.0:1 > 10.2.0.2:2", '"10.1.0" is not an IP address', "write an address such as 198.18.0.2 or 2001:db8::2"],
  ["udp fd00::1 > 10.2.0.2:2", "fd00::1 has no port", "write [fd00::1]:PORT"],
  ["udp [fd00::1] > 10.2.0.2:2", "[fd00::1] has no port", "write [fd00::1]:PORT"],
  [
    "tcp [fd00::x]:1 > [fd00::2]:2",
    '"fd00::x" is not an IP address',
    "write an address such as 198.18.0.2 or 2001:db8::2",
  ],
  ["icmp fd00::1 > 10.2.0.2", "a packet goes from one family to the same", "write two IPv4 or two IPv6 addresses"],
  ["icmp 10.1.0.2:8 > 10.2.0.2", "icmp has no ports", "write 10.1.0.2"],
  ["udp 10.1.0.2:1 > 10.2.0.2:2 ack", "udp has no flags", "remove ack"],
  ["tcp 10.1.0.2:1 > 10.2.0.2:2 akc", '"akc" is not a TCP flag', "write fin, syn, rst, psh, ack, urg"],
  ["tcp 10.1.0.2:1 > 10.2.0.2:2 sync", '"sync" is not a TCP flag', "did you mean syn?"],
];

for (const [text, message, mend] of wrong) {
  test(`Refused with a mend: ${JSON.stringify(text)}`, (t) => {
    t.like(
      t.throws(() => parsePacket(text), { instanceOf: TextError }),
      { message, mend },
    );
  });
}
