"""Referee for the codecs of lib/wire: reads frames and makes frames with scapy, one process for all.

Standard input: {"frames": [hex, ...], "make": count, "seed": number, "kind": "any" or "bfd"}
Standard output: {"read": [fields, ...], "made": [{"hex": ..., fields...}, ...]}
"""
import json
import random
import sys

from scapy.contrib.bfd import BFD
from scapy.all import ARP, ICMP, IP, TCP, UDP, Ether, Raw, raw


def fields(frame):
    out = {"type": frame.type, "destinationMac": frame.dst, "sourceMac": frame.src}
    if ARP in frame:
        arp = frame[ARP]
        out.update(operation=arp.op, senderIp=arp.psrc, targetIp=arp.pdst, senderMac=arp.hwsrc, targetMac=arp.hwdst)
        return out
    ip = frame[IP]
    out.update(
        source=ip.src, destination=ip.dst, protocol=ip.proto, ttl=ip.ttl, tos=ip.tos, identification=ip.id,
        totalLength=ip.len, headerLength=ip.ihl * 4, ipChecksum=ip.chksum,
    )
    # Checksums as scapy would make them.
    again = Ether(raw(frame))
    del again[IP].chksum
    for layer in (TCP, UDP, ICMP):
        if layer in again and layer in (type(again[IP].payload),):
            out["l4Checksum"] = again[layer].chksum
            del again[layer].chksum
    made = Ether(raw(again))
    out["ipChecksumMade"] = made[IP].chksum
    l4 = made[IP].payload
    if isinstance(l4, (TCP, UDP, ICMP)):
        out["l4ChecksumMade"] = l4.chksum
    if isinstance(l4, (TCP, UDP)):
        out.update(sourcePort=l4.sport, destinationPort=l4.dport)
    if isinstance(l4, TCP):
        out.update(sequence=l4.seq, acknowledgment=l4.ack, flags=int(l4.flags), window=l4.window, dataOffset=l4.dataofs * 4)
        out["mss"] = next((value for name, value in l4.options if name == "MSS"), 0)
    if isinstance(l4, UDP):
        out["udpLength"] = l4.len
    if BFD in frame:
        bfd = frame[BFD]
        flags = [int(bfd.flags) >> bit & 1 for bit in range(5, -1, -1)]
        out["bfd"] = [bfd.version, bfd.diag, bfd.sta, *flags, bfd.detect_mult, bfd.len, bfd.my_discriminator,
                      bfd.your_discriminator, bfd.min_tx_interval, bfd.min_rx_interval, bfd.echo_rx_interval]
    if isinstance(l4, ICMP):
        out.update(icmpType=l4.type, icmpCode=l4.code, identifier=l4.id)
    return out


def make(rng):
    address = lambda: "%d.%d.%d.%d" % (rng.randint(1, 126), rng.randint(0, 255), rng.randint(0, 255), rng.randint(0, 255))
    ether = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
    ip = IP(src=address(), dst=address(), ttl=rng.randint(0, 255), tos=rng.randint(0, 255), id=rng.randint(0, 65535), flags="DF")
    if rng.random() < 0.2:
        ip.options = [b"\x01"] * (4 * rng.randint(1, 10))
    port = lambda: rng.randint(0, 65535)
    kind = rng.randint(0, 2)
    if kind == 0:
        options = [("MSS", rng.randint(1, 65535))] if rng.random() < 0.5 else []
        if rng.random() < 0.5:
            options = [("NOP", None), ("WScale", 7), ("Timestamp", (rng.randint(0, 2**32 - 1), 0))] + options
        l4 = TCP(sport=port(), dport=port(), seq=rng.getrandbits(32), ack=rng.getrandbits(32), flags=rng.randint(0, 255),
                 window=port(), options=options)
    elif kind == 1:
        l4 = UDP(sport=port(), dport=port())
    else:
        l4 = ICMP(type=rng.choice([0, 8]), id=port(), seq=port())
    body = bytes(rng.getrandbits(8) for _ in range(rng.randint(0, 200)))
    return Ether(raw(ether / ip / l4 / Raw(body)))


def make_bfd(rng):
    word = lambda: rng.randint(1, 2**32 - 1)
    names = "".join(name for name in "PFCD" if rng.random() < 0.5) + "".join(name for name in "AM" if rng.random() < 0.3)
    bfd = BFD(diag=rng.randint(0, 31), sta=rng.randint(0, 3), flags=names, detect_mult=rng.randint(1, 255),
              my_discriminator=word(), your_discriminator=word(), min_tx_interval=word(), min_rx_interval=word(),
              echo_rx_interval=word())
    ether = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
    return Ether(raw(ether / IP(src="10.0.0.1", dst="10.0.0.2", ttl=255) / UDP(sport=50000, dport=3784) / bfd))


task = json.load(sys.stdin)
rng = random.Random(task["seed"])
read = [fields(Ether(bytes.fromhex(text))) for text in task["frames"]]
made = [(make_bfd if task["kind"] == "bfd" else make)(rng) for _ in range(task["make"])]
json.dump({"read": read, "made": [dict(fields(frame), hex=raw(frame).hex()) for frame in made]}, sys.stdout)
