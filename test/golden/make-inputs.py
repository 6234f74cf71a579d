#!/usr/bin/python3
"""The golden cases' input captures, made by scapy and so by other hands than the router's own codecs.

Run as `make-inputs.py DIR` (DIR is test/golden); golden.test.ts does so before it regenerates, and checks at every run
that the committed inputs are what this script makes. An input that is another case's output (what west sends is what
east receives) is a symbolic link in the case's folder, not made here. Metadata is put together by hand from sections
3.1 to 3.3 of the protocol sheet.
"""

import os
import struct
import sys

from scapy.config import conf

conf.ipv6_enabled = False
from scapy.layers.inet import ICMP, IP, TCP, UDP  # noqa: E402
from scapy.layers.l2 import ARP, Ether  # noqa: E402
from scapy.packet import Raw  # noqa: E402
from scapy.utils import RawPcapWriter, checksum  # noqa: E402

SECOND = 1_700_000_000
HOST = "02:00:00:00:01:01"
ROUTER = "02:57:4d:00:00:01"
CLIENT, SERVER = "10.1.0.2", "10.2.0.2"
WEST, EAST = "198.18.0.1", "198.18.0.2"
COOKIE = bytes.fromhex("4c48dbc6ddf6670c")
UUID = bytes.fromhex("0f1e2d3c4b5a4978" "8796a5b4c3d2e1f0")
# 250 bytes that show a byte out of its place.
PATTERN = bytes(range(250))


def write(folder, interface, frames):
    """frames: (milliseconds, packet or bytes[, length on the wire])."""
    path = os.path.join(sys.argv[1], folder, f"in-{interface}.pcap")
    with RawPcapWriter(path, linktype=1) as capture:
        capture.write_header(None)
        for ms, frame, *wire in sorted(frames, key=lambda item: item[0]):
            data = bytes(frame)
            capture.write_packet(
                data, sec=SECOND + int(ms // 1000), usec=round(ms % 1000 * 1000), caplen=len(data),
                wirelen=wire[0] if wire else len(data))


def ethernet(**fields):
    return Ether(**{"src": HOST, "dst": ROUTER, **fields})


def ip(source, destination, ttl=64, **fields):
    return ethernet() / IP(src=source, dst=destination, ttl=ttl, id=7, flags="DF", **fields)


def udp(source, sport, destination, dport, payload=b"", ttl=64, **fields):
    return ip(source, destination, ttl) / UDP(sport=sport, dport=dport, **fields) / Raw(payload)


def tcp(source, sport, destination, dport, flags, seq, ack, payload=b"", **fields):
    return ip(source, destination) / TCP(sport=sport, dport=dport, flags=flags, seq=seq, ack=ack, window=64240, **fields) / Raw(payload)


def echo(source, destination, identifier, sequence, kind=8):
    return ip(source, destination) / ICMP(type=kind, id=identifier, seq=sequence) / Raw(PATTERN[:40])


def who_has(source, target):
    return ethernet(dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=HOST, psrc=source, pdst=target)


def inverted(packet, layer):
    """The same packet with every bit of the layer's checksum turned over."""
    built = Ether(bytes(packet))
    field = "chksum"
    setattr(built[layer], field, getattr(built[layer], field) ^ 0xFFFF)
    return built


def partial(packet):
    """The same packet as a sender leaves it to hardware: the checksum field has the pseudo-header sum and nothing else."""
    built = Ether(bytes(packet))
    layer = built[TCP] if TCP in built else built[UDP]
    length = built[IP].len - built[IP].ihl * 4
    pseudo = bytes.fromhex("".join(f"{int(part):02x}" for part in f"{built[IP].src}.{built[IP].dst}".split(".")))
    layer.chksum = ~checksum(pseudo + struct.pack("!HH", built[IP].proto, length)) & 0xFFFF
    return built


# Metadata


def attribute(number, value=b""):
    return struct.pack("!HH", number, len(value)) + value


def metadata(header=b"", payload=b"", version=1):
    return COOKIE + struct.pack("!HH", version << 12 | 12 + len(header), len(payload)) + header + payload


def address(text):
    return bytes(int(part) for part in text.split("."))


def context(number, source, sport, destination, dport, protocol):
    return attribute(number, address(source) + address(destination) + struct.pack("!HHB", sport, dport, protocol))


SECURITY = attribute(16, bytes(4))


def forward(session, uuid=UUID, tenant=b"corp", service=b"app"):
    return metadata(SECURITY, context(2, *session) + (attribute(6, uuid) if uuid else b"") + attribute(7, tenant)
                    + attribute(10, service) + attribute(14, b"west") + attribute(15, b"none") + attribute(19, WEST.encode()))


def reverse(session, uuid=UUID):
    source, sport, destination, dport, protocol = session
    return metadata(SECURITY, context(4, destination, dport, source, sport, protocol) + attribute(6, uuid)
                    + attribute(17, b"east") + attribute(19, b"198.18.1.2"))


def control(reason):
    return metadata(SECURITY + attribute(24, bytes([reason])))


def fragment(identifier, offset, more, piece):
    flags = 0x4000 | (0x2000 if more else 0) | offset // 8
    return metadata(attribute(1, struct.pack("!IHHH", identifier, 7, flags, 0))) + piece


def udp_session():
    write("udp-ingress", "lan0", [
        (0, udp(CLIENT, 40000, SERVER, 5000, b"one")),
        (10, udp(CLIENT, 40000, SERVER, 5000, b"two")),
        (60, udp(CLIENT, 40000, SERVER, 5000, b"three")),
    ])
    write("udp-egress", "lan0", [
        (50, udp(SERVER, 5000, CLIENT, 40000, b"uno")),
        (70, udp(SERVER, 5000, CLIENT, 40000, b"dos")),
    ])


def first_pair(session):
    """The waypoint ports that a router's first session takes: the pair of its shard (lib/wire/shard.ts)."""
    source, sport, destination, dport, _ = session
    numbers = [struct.unpack("!I", address(text))[0] for text in (source, destination)]
    mixed = (sum(numbers) + (sport + dport) * 0x9E3779B1) * 0x85EBCA77 & 0xFFFFFFFF
    shard = ((mixed ^ mixed >> 15) * 0xC2B2AE3D & 0xFFFFFFFF) >> 26
    return 16384 + 2 * shard, 16385 + 2 * shard


def middle():
    session = (CLIENT, 40000, SERVER, 5000, 17)
    ours, theirs = first_pair(session)
    write("udp-middle", "wan0", [
        (0, udp(WEST, 16384, EAST, 16385, forward(session) + b"one")),
        (30, udp(WEST, 16384, EAST, 16385, b"two")),
    ])
    write("udp-middle", "wan1", [
        (20, udp("198.18.1.2", theirs, "198.18.1.1", ours, reverse(session) + b"uno")),
        (40, udp("198.18.1.2", theirs, "198.18.1.1", ours, b"dos")),
    ])


def tcp_session():
    client, server = (CLIENT, 40000, SERVER, 443), (SERVER, 443, CLIENT, 40000)
    write("tcp-ingress", "lan0", [
        (0, tcp(*client, "S", 1000, 0, options=[("MSS", 1460), ("SAckOK", b""), ("NOP", None), ("WScale", 7)])),
        (20, tcp(*client, "A", 1001, 9001)),
        (30, tcp(*client, "PA", 1001, 9001, b"GET / HTTP/1.0\r\n\r\n")),
        (60, tcp(*client, "FA", 1019, 9006)),
        (80, tcp(*client, "A", 1020, 9007)),
        (12_000, who_has(CLIENT, "10.1.0.1")),
    ])
    write("tcp-egress", "lan0", [
        (10, tcp(*server, "SA", 9000, 1001, options=[("MSS", 1400)])),
        (40, tcp(*server, "PA", 9001, 1019, b"hello")),
        (70, tcp(*server, "FA", 9006, 1020)),
        (12_000, who_has(SERVER, "10.2.0.1")),
    ])


def icmp_session():
    write("icmp-ingress", "lan0", [(ms, echo(CLIENT, SERVER, 7, n)) for n, ms in enumerate((0, 20, 40))])
    write("icmp-egress", "lan0", [(ms, echo(SERVER, CLIENT, 7, n, 0)) for n, ms in enumerate((10, 30, 50))])


def mid_flow():
    write("tcp-mid-flow-reset", "lan0", [
        (0, tcp(CLIENT, 40000, SERVER, 443, "A", 1001, 9001, b"late")),
        (10, tcp(CLIENT, 40001, SERVER, 443, "F", 1001, 0, b"12345")),
        (20, tcp(CLIENT, 40002, SERVER, 443, "R", 1001, 0)),
    ])


def refusals():
    write("policy-refusals", "lan0", [
        (0, udp(CLIENT, 40000, "10.99.0.1", 5000)),
        (10, udp(CLIENT, 40000, "10.4.0.2", 5000)),
        (20, udp(CLIENT, 40000, "10.5.0.2", 5000)),
        (30, udp("10.77.0.2", 40000, SERVER, 5000)),
        (40, udp(CLIENT, 40000, "10.1.0.1", 5000)),
        (50, udp(CLIENT, 40000, "10.6.0.2", 5001)),
    ])
    write("policy-refusals", "lan1", [(5, udp("10.3.0.2", 40000, SERVER, 5000))])


def false_positives():
    looks_like_it = COOKIE + b" and more"
    write("false-positive-ingress", "lan0", [
        (0, udp(CLIENT, 40000, SERVER, 5000, looks_like_it)),
        (20, udp(CLIENT, 40000, SERVER, 5000, looks_like_it)),
        (30, udp(CLIENT, 40000, SERVER, 5000, metadata())),
        (40, udp(CLIENT, 40000, SERVER, 5000, COOKIE[:7])),
    ])
    write("false-positive-egress", "lan0", [
        (10, udp(SERVER, 5000, CLIENT, 40000, looks_like_it)),
        (50, udp(SERVER, 5000, CLIENT, 40000, looks_like_it)),
    ])


def full_size():
    write("full-size-ingress", "lan0", [
        (0, udp(CLIENT, 40000, SERVER, 5000, (PATTERN * 6)[:1472])),
        (20, udp(CLIENT, 40000, SERVER, 5000, (PATTERN * 6)[:1472])),
    ])
    write("full-size-egress", "lan0", [(10, udp(SERVER, 5000, CLIENT, 40000, (PATTERN * 6)[:1472]))])


def super_frames():
    client, server = (CLIENT, 40000, "10.3.0.2", 443), ("10.3.0.2", 443, CLIENT, 40000)
    write("super-frame", "lan0", [
        (0, partial(tcp(*client, "S", 1000, 0, options=[("MSS", 1460)]))),
        (20, partial(tcp(*client, "A", 1001, 9001))),
        (30, partial(tcp(*client, "PA", 1001, 9001, PATTERN * 16))),
        (40, partial(udp(CLIENT, 40000, "10.3.0.2", 5000, b"left to hardware"))),
    ])
    write("super-frame", "lan1", [(10, partial(tcp(*server, "SA", 9000, 1001, options=[("MSS", 1000)])))])
    to_peer = (CLIENT, 40000, SERVER, 443)
    write("super-frame-with-metadata", "lan0", [
        (0, partial(tcp(*to_peer, "S", 1000, 0, options=[("MSS", 1460)]))),
        (10, partial(tcp(*to_peer, "PA", 1001, 9001, PATTERN * 8))),
    ])


def wrong_checksums():
    near = udp(CLIENT, 40000, "10.3.0.2", 5000, b"damaged")
    write("wrong-checksums", "lan0", [
        (0, inverted(near, UDP)),
        (10, inverted(near, IP)),
        (20, inverted(udp(CLIENT, 40000, SERVER, 5000, b"odd"), UDP)),
        (30, inverted(udp(CLIENT, 40000, SERVER, 5000, b"even"), UDP)),
        (40, inverted(tcp(CLIENT, 40000, SERVER, 443, "S", 1000, 0), TCP)),
        (50, inverted(udp(CLIENT, 40000, SERVER, 5000, (PATTERN * 6)[:1472]), UDP)),
        (60, inverted(echo(CLIENT, SERVER, 7, 1), ICMP)),
    ])


def checksum_zero():
    session = (CLIENT, 40000, SERVER, 5000, 17)
    # Whose checksum, restored, is computed as 0: what scapy makes of the packet with a word of zeros says which word.
    word = Ether(bytes(udp(CLIENT, 40000, SERVER, 5000, b"\0\0")))[UDP].chksum
    assert Ether(bytes(udp(CLIENT, 40000, SERVER, 5000, struct.pack("!H", word))))[UDP].chksum == 0xFFFF
    write("udp-checksum-zero", "wan0", [
        (0, udp(WEST, 16384, EAST, 16385, forward(session) + b"lead", chksum=0)),
        (10, udp(WEST, 16384, EAST, 16385, b"bare", chksum=0)),
        (20, udp(WEST, 16384, EAST, 16385, struct.pack("!H", word))),
    ])
    write("udp-checksum-zero", "lan0", [(5, udp(SERVER, 5000, CLIENT, 40000, b"reply", chksum=0))])


def ttl():
    write("ttl-exceeded", "lan0", [
        (0, udp(CLIENT, 40000, SERVER, 33434, b"hop one", ttl=1)),
        (10, udp(CLIENT, 40000, SERVER, 33435, b"hop two", ttl=2)),
        (20, udp(CLIENT, 40000, SERVER, 33434, b"hop one again", ttl=1)),
    ])


def arp():
    write("arp", "lan0", [
        (0, who_has(CLIENT, "10.1.0.1")),
        (10, who_has(CLIENT, "10.1.0.9")),
        (20, ethernet(dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=HOST, psrc=CLIENT, pdst=CLIENT)),
        (30, ethernet() / ARP(op=2, hwsrc=HOST, psrc=CLIENT, hwdst=ROUTER, pdst="10.1.0.1")),
        (40, bytes(who_has(CLIENT, "10.1.0.1")) + bytes(18)),
        (50, ethernet(dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=HOST, psrc="0.0.0.0", pdst="10.1.0.1")),
    ])


def damaged():
    good = bytes(udp(CLIENT, 40000, SERVER, 5000, b"payload"))

    def changed(at, value, frame=good):
        return frame[:at] + bytes([value]) + frame[at + 1:]

    syn = bytes(tcp(CLIENT, 40000, SERVER, 443, "S", 1000, 0))
    frames = [
        good[:13],
        good[:33],
        (good[:40], len(good)),
        ethernet(dst="01:00:5e:00:00:05") / IP(src=CLIENT, dst="224.0.0.5", id=7) / UDP() / Raw(b"x"),
        changed(6, 0x03),
        ethernet(type=0x8100) / Raw(b"\0\x05\x08\0" + good[14:]),
        ethernet(type=0x88CC) / Raw(bytes(46)),
        ethernet(type=0x86DD) / Raw(b"\x60" + bytes(45)),
        ethernet() / Raw(b""),
        ethernet(dst="ff:ff:ff:ff:ff:ff") / ARP(hwtype=6, hwsrc=HOST, psrc=CLIENT, pdst="10.1.0.1"),
        bytes(who_has(CLIENT, "10.1.0.1"))[:41],
        changed(14, 0x65),
        changed(14, 0x44),
        changed(14, 0x4F),
        changed(17, 19),
        changed(17, 200),
        changed(24, good[24] ^ 1),
        ip("127.0.0.1", SERVER) / UDP() / Raw(b"x"),
        ip(CLIENT, "224.0.0.1") / UDP() / Raw(b"x"),
        ethernet() / IP(src=CLIENT, dst=SERVER, id=7, flags="MF") / UDP() / Raw(b"12345678"),
        ethernet() / IP(src=CLIENT, dst=SERVER, id=7, frag=2, proto=17) / Raw(b"12345678"),
        changed(46, 0x40, syn),
        changed(46, 0x60, syn),
        ip(CLIENT, SERVER, proto=6) / Raw(bytes(19)),
        changed(39, 7),
        changed(39, 16),
        ip(CLIENT, SERVER, proto=1) / Raw(bytes(7)),
        ip(CLIENT, SERVER) / ICMP(type=3, code=3) / IP(src=SERVER, dst=CLIENT, id=7) / UDP(),
        ip(CLIENT, SERVER) / ICMP(type=13, ts_ori=1, ts_rx=2, ts_tx=3),
        echo(CLIENT, SERVER, 7, 1, 0),
        udp(CLIENT, 40000, SERVER, 5000, bytes(2000)),
    ]
    write("damaged-frames", "lan0", [(10 * n, *(frame if isinstance(frame, tuple) else (frame,))) for n, frame in enumerate(frames)])


def peer_refusals():
    session = (CLIENT, 40000, SERVER, 5000, 17)
    ping = (CLIENT, 7, SERVER, 7, 1)
    far = (SERVER, 40000, CLIENT, 5000, 17)
    ours, theirs = first_pair(far)

    def from_west(payload, sport=16400, dport=16401, **fields):
        return udp(WEST, sport, EAST, dport, payload, **fields)

    write("peer-refusals", "lan0", [
        # Its replies come to the first port of the pair from the second.
        (200, udp(SERVER, 40000, CLIENT, 5000, b"toward the peer")),
    ])
    frames = [
        udp("198.18.0.9", 16384, EAST, 16385, forward(session)),
        from_west(b"bare"),
        from_west(control(2)),
        from_west(metadata()),
        from_west(metadata(version=2)),
        from_west(metadata(payload=b"\0\x06\0\x0f" + UUID)),
        from_west(forward(session, uuid=None)),
        inverted(from_west(forward(session) + b"damaged"), UDP),
        from_west(forward((CLIENT, 40000, SERVER, 443, 6))),
        from_west(forward(session, tenant=b"nobody")),
        from_west(forward(session, service=b"nothing")),
        from_west(forward((CLIENT, 40000, "10.9.0.2", 5000, 17))),
        from_west(forward(session, tenant=b"guest")),
        from_west(metadata(SECURITY + attribute(46, b"\1")) + b"a health check is asked about"),
        # The rest is about sessions that opened: one from west, which north then claims, and an echo in UDP.
        from_west(forward(session) + b"opens"),
        udp("198.18.0.3", 16400, EAST, 16401, forward(session, uuid=UUID[::-1]) + b"the same from north")
    ]
    wan = [(10 * n, frame) for n, frame in enumerate(frames)]
    message = bytes(ICMP(type=8, id=7, seq=1) / Raw(b"echo"))
    wan += [
        (170, from_west(forward(ping, uuid=UUID[1:] + UUID[:1]) + message, 16402, 16403)),
        (180, inverted(from_west(message, 16402, 16403), UDP)),
        (210, udp(WEST, theirs, EAST, ours, b"before the answer")),
        (220, udp(WEST, theirs, EAST, ours, reverse(far, UUID) + b"of another session")),
        (230, udp(WEST, theirs, EAST, ours, control(5))),
        (240, from_west(fragment(1, 0, True, b"seven b"), 16404, 16405)),
        (250, from_west(fragment(2, 0, True, b"eight by"), 16404, 16405)),
        (260, from_west(fragment(3, 0, True, b"eight by"), 16404, 16405)),
        (6000, from_west(b"later")),
    ]
    write("peer-refusals", "wan0", wan)


def limits():
    write("limits", "lan0", [
        *((0, udp(CLIENT, 40000 + n, SERVER, 5000, b"a burst")) for n in range(20)),
        (10, udp(CLIENT, 40100, SERVER, 5000, b"no ports left")),
        *((20, udp(CLIENT, 40200, f"10.3.0.{2 + n}", 5000, b"another host each")) for n in range(20)),
        (30, udp(CLIENT, 40200, "10.3.0.2", 5000, bytes(1000))),
    ])


def session_limits():
    def leads(host, count, to=SERVER):
        return [udp(f"10.1.0.{host}", 40000 + n, to, 5000, b"who may") for n in range(count)]

    near = "10.3.0.2"
    write("session-limits", "lan0", [
        *((0, frame) for frame in leads(70, 3)),
        *((10, frame) for frame in leads(2, 6)),
        *((20, frame) for frame in leads(130, 1)),
        *((181_000, frame) for frame in leads(2, 6)),
        *((400_000, frame) for frame in leads(2, 4, near) + leads(70, 2, near)),
        *((400_020, frame) for frame in leads(130, 1)),
    ])
    write("session-limits", "lan1", [
        *((400_010, udp(near, 5000, "10.1.0.2", 40000 + n, b"you may")) for n in range(4)),
        *((400_010, udp(near, 5000, "10.1.0.70", 40000 + n, b"you may")) for n in range(2)),
    ])


def path_choice():
    write("path-choice", "lan0", [
        *((n, udp(CLIENT, 40000 + n, SERVER, 5000, b"by which path")) for n in range(4)),
        (10, udp(CLIENT, 40000, "10.3.0.2", 5000, b"by none")),
    ])


def route_limit():
    hosts = [(2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (3, 2), (4, 0), (4, 0)]
    write("route-limit", "lan0", [
        (n, udp(f"10.1.0.{host}", 40000 + port, SERVER, 80, b"to which server"))
        for n, (host, port) in enumerate(hosts)
    ])


for make in (udp_session, middle, tcp_session, icmp_session, mid_flow, refusals, false_positives, full_size, super_frames,
             wrong_checksums, checksum_zero, ttl, arp, damaged, peer_refusals, limits,
             session_limits, path_choice, route_limit):
    make()
