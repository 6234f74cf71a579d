// tshark's word on frames: whether they are well formed, and their checksums right.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { CaptureWriter } from "../../lib/io/pcap-file.ts";

/** Of IPv4, and of what is behind it. "none": it has none (UDP), or nobody can tell (a fragment, another protocol). */
export type Checksum = "good" | "bad" | "none";

export interface Judgement {
  malformed: boolean;
  ip: Checksum;
  l4: Checksum;
}

/** By IP protocol, the column that has the checksum's status. */
const STATUS: Readonly<Record<string, string>> = {
  6: "tcp.checksum.status",
  17: "udp.checksum.status",
  1: "icmp.checksum.status",
  58: "icmpv6.checksum.status",
};
/** Columns of what is next in IPv6: behind its own header, then behind its extension headers. */
const NEXT = ["ipv6.nxt", "ipv6.hopopts.nxt", "ipv6.dstopts.nxt", "ipv6.routing.nxt", "ipv6.fraghdr.nxt"];
const EXTENSION_HEADERS = ["0", "43", "44", "60"];
const MALFORMED_GROUP = "117440512";
const SPREAD_MS = 1;

/** Write frames, one a millisecond, to a capture file; of an empty one a byte, so that each is there. */
export function writeFrames(path: string, frames: readonly Uint8Array[]): void {
  const writer = new CaptureWriter(path);
  frames.forEach((each, n) => {
    const frame = each.length > 0 ? each : new Uint8Array(1);
    writer.write(frame, Int32Array.of(0), Int32Array.of(frame.length), 0, 1, 0, n * SPREAD_MS);
  });
  writer.close();
}

/** Judge every frame of a capture, in order. `transportOnly`: what is behind TCP and UDP is nobody's business, as between routers. */
export async function judge(path: string, transportOnly: boolean): Promise<Judgement[]> {
  const checked = ["ip.check_checksum", "tcp.check_checksum", "udp.check_checksum"].map((name) => `${name}:TRUE`);
  // Each frame by itself: what came before it is not the same in two captures.
  const alone = ["tcp.analyze_sequence_numbers", "tcp.desegment_tcp_streams", "ip.defragment", "ipv6.defragment"].map(
    (name) => `${name}:FALSE`,
  );
  const args = ["-n", "-r", path, "-T", "fields", "-E", "occurrence=a", "-E", "aggregator=,"];
  for (const preference of [...checked, ...alone]) args.push("-o", preference);
  if (transportOnly) args.push("-d", "tcp.port==1-65535,data", "-d", "udp.port==1-65535,data");
  const protocols = Object.keys(STATUS);
  const ours = ["frame.protocols", "ip.proto", "_ws.malformed", "_ws.expert.group", "ip.checksum.status"];
  const fields = [...ours, ...NEXT, ...Object.values(STATUS)];
  for (const field of fields) args.push("-e", field);
  const { stdout } = await promisify(execFile)("tshark", args, { maxBuffer: 1 << 28 });
  return stdout
    .split("\n")
    .slice(0, -1)
    .map((line) => {
      const [stack, proto, malformed, groups, ip, ...rest] = line.split("\t");
      const behind = rest.slice(NEXT.length);
      const next = rest.slice(0, NEXT.length).map((column) => column.split(",")[0]);
      // Whichever is outside: one may travel in the other.
      const isIpv6 = /^eth:ethertype:ipv6/.test(stack);
      const protocol = isIpv6 ? (next.find((one) => one !== "" && !EXTENSION_HEADERS.includes(one)) ?? "") : proto;
      return {
        malformed: malformed !== "" || groups.split(",").includes(MALFORMED_GROUP),
        ip: isIpv6 ? "none" : outermost(ip),
        l4: outermost(behind[protocols.indexOf(protocol.split(",")[0])] ?? ""),
      };
    });
}

/** Of several, as where a packet is quoted in another, the first. */
function outermost(statuses: string): Checksum {
  const [first] = statuses.split(",");
  return first === "1" ? "good" : first === "0" ? "bad" : "none";
}
