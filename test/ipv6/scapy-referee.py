"""Referee for messages of lib/ipv6: makes multicast listener queries, and says what frames of ours are, with scapy.

Standard input: [hex, ...]
Standard output: {"queries": {name: hex, ...}, "read": [fields, ...]}; `again`: the frame as scapy makes it, with checksums and
lengths of its own, from what it read.
"""
import json
import sys

from scapy.layers.inet6 import (
    ICMPv6MLDMultAddrRec, ICMPv6MLDone, ICMPv6MLQuery, ICMPv6MLQuery2, ICMPv6MLReport, ICMPv6MLReport2, ICMPv6ParamProblem,
    IPv6, IPv6ExtHdrHopByHop, RouterAlert,
)
from scapy.layers.l2 import Ether
from scapy.packet import Raw, raw

QUERIER = dict(src="02:00:00:00:00:09")
OWN = "ff02::1:ff00:1"


def query(message, to="ff02::1", mac="33:33:00:00:00:01"):
    ip = IPv6(src="fe80::9", dst=to, hlim=1)
    return raw(Ether(dst=mac, **QUERIER) / ip / IPv6ExtHdrHopByHop(options=[RouterAlert(value=0)]) / message).hex()


def at(group):
    return dict(to=group, mac="33:33:" + ":".join("%02x" % byte for byte in IPv6(dst=group).build()[36:40]))


queries = {
    "general": query(ICMPv6MLQuery2(mrd=10000)),
    "general, in a hurry": query(ICMPv6MLQuery2(mrd=1000)),
    "general, now": query(ICMPv6MLQuery2(mrd=0)),
    # 2.5 minutes: (0x24a | 0x1000) << (2 + 3)
    "general, with an exponent": query(ICMPv6MLQuery2(mrd=0x8000 | 2 << 12 | 0x24A)),
    "own group": query(ICMPv6MLQuery2(mrd=1000, mladdr=OWN), **at(OWN)),
    "own group, of two sources": query(ICMPv6MLQuery2(mrd=1000, mladdr=OWN, sources=["2001:db8::1", "2001:db8::2"]), **at(OWN)),
    "another group": query(ICMPv6MLQuery2(mrd=1000, mladdr="ff02::1:ff77:77")),
    "to our MAC address": query(ICMPv6MLQuery2(mrd=1000), to="2001:db8:1::1", mac="02:57:4d:11:22:33"),
    "general, version 1": query(ICMPv6MLQuery(mrd=1000)),
    "own group, version 1": query(ICMPv6MLQuery(mrd=1000, mladdr=OWN), **at(OWN)),
}


def fields(frame):
    packet = frame[IPv6]
    out = {"mac": frame.dst, "source": packet.src, "destination": packet.dst, "hopLimit": packet.hlim}
    if IPv6ExtHdrHopByHop in packet:
        out["alert"] = [option.value for option in packet[IPv6ExtHdrHopByHop].options if isinstance(option, RouterAlert)]
    for kind, name in ((ICMPv6MLReport, "report 1"), (ICMPv6MLDone, "done 1")):
        if kind in packet:
            out.update(kind=name, groups=[packet[kind].mladdr])
    if ICMPv6MLReport2 in packet:
        report = packet[ICMPv6MLReport2]
        out.update(kind="report 2", count=report.records_number)
        # A record's payload is the next one.
        records = list(report.records[0].iterpayloads())
        out["groups"] = [record.dst for record in records]
        out["types"] = sorted({record.rtype for record in records})
        out["sources"] = sum(record.sources_number for record in records)
    if ICMPv6ParamProblem in packet:
        problem = packet[ICMPv6ParamProblem]
        out.update(kind="parameter problem", code=problem.code, pointer=problem.ptr, quote=raw(problem.payload).hex())
    again = Ether(raw(frame))
    del again[IPv6].plen
    for kind in (ICMPv6MLReport, ICMPv6MLDone, ICMPv6MLReport2, ICMPv6ParamProblem):
        if kind in again:
            if kind is ICMPv6ParamProblem:
                again[kind].payload = Raw(raw(again[kind].payload))
            del again[kind].cksum
    out["again"] = raw(again).hex()
    return out


print(json.dumps({"queries": queries, "read": [fields(Ether(bytes.fromhex(frame))) for frame in json.load(sys.stdin)]}))
