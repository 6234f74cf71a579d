// What is required of the figures, in one list. report.ts compares it with a run and says what was reached. A figure that
// is measured in several modes is met when it is met in each: the worst one counts.

export interface Target {
  readonly figure: string;
  readonly relation: ">=" | "<=";
  readonly target: number;
  /** What is required, for the reader of the table. */
  readonly sentence: string;
}

export const TARGETS: readonly Target[] = [
  atLeast(
    "one-router.waymark-libpcap-to-c-pcap-inject.delivered",
    0.95,
    "small packets through one router, libpcap: beside the C forwarder that injects each frame",
  ),
  atLeast(
    "one-router.waymark-libpcap-to-c-sendmmsg.delivered",
    0.95,
    "small packets through one router, libpcap: beside the C forwarder that sends batches",
  ),
  atLeast(
    "one-router.waymark-libpcap-to-kernel-masquerade.delivered",
    1,
    "small packets through one router, libpcap: beside the kernel's forwarding with masquerade",
  ),
  atLeast(
    "two-routers.waymark-libpcap-to-c-sendmmsg.bulk-mtu",
    0.9,
    "bulk of MTU frames through two routers, libpcap: beside two C forwarders that send batches",
  ),
  atLeast(
    "two-routers.waymark-libpcap-to-wireguard-go.bulk",
    2,
    "bulk through two routers, libpcap: beside wireguard-go",
  ),
  atLeast("two-routers.waymark-libpcap-to-nebula.bulk", 2, "bulk through two routers, libpcap: beside nebula"),
  atLeast(
    "two-routers.waymark-af-packet-to-c-vnet.bulk",
    0.85,
    "bulk through two routers, af-packet: beside two C forwarders of super-frames",
  ),
  atLeast(
    "two-routers.waymark-af-packet-to-wireguard-go.bulk",
    12,
    "bulk through two routers, af-packet: beside wireguard-go",
  ),
  atLeast("two-routers.waymark-af-packet-to-nebula.bulk", 12, "bulk through two routers, af-packet: beside nebula"),
  ...["libpcap", "af-packet"].flatMap((backend) => [
    atLeast(
      `security.waymark-${backend}-metadata-signed-to-waymark-${backend}.bulk`,
      0.95,
      `bulk with metadata signed and encrypted, ${backend}: beside no keys at all`,
    ),
    atLeast(
      `security.waymark-${backend}-signed-encrypted-to-best-tunnel.bulk`,
      1.5,
      `bulk with every packet signed and payloads encrypted, ${backend}: beside the better of wireguard-go and nebula`,
    ),
  ]),
  ...["", "-signed-encrypted"].map((protection) =>
    atMost(
      `path-failover.waymark-libpcap${protection}-bfd-50ms.gap`,
      300,
      `milliseconds without a datagram when the wire is cut, BFD 50 ms x 3${protection === "" ? "" : ", signed and encrypted"}`,
    ),
  ),
  atLeast("rivals.waymark-to-best.delivered", 10, "frames delivered: beside the best of the npm packages"),
  atMost(
    "latency.waymark-to-c.p99-half-load",
    1.5,
    "added latency at half load, 99th percentile: beside the C forwarder",
  ),
  atMost("replay.hot-path-1M", 100, "nanoseconds a packet in the hot path, a million sessions"),
  atMost("replay.hot-path-1M-to-1k", 1.6, "the hot path at a million sessions: beside a thousand"),
  atMost("allocation.fast-path", 0.05, "bytes of garbage a packet on the fast path"),
  atLeast("replay.connection-establishment-rate", 50_000, "sessions set up a second, one core"),
  atMost("session-capacity.process", 512, "MiB of memory that a router with a million sessions holds"),
  atMost("session-expiry.turn-longest", 5, "milliseconds that a million expiring sessions hold packets up"),
  atMost(
    "session-flood.guarded.loss",
    10,
    "percent of known sessions' packets lost to a flood of new ones, by arrival",
  ),
  atLeast(
    "session-flood.guarded-to-refusing",
    0.9,
    "known sessions' packets during a flood, saturated: beside a router that opens none",
  ),
  atMost("one-router.waymark-libpcap.idle-cpu", 1, "percent of a processor that an idle router takes"),
  ...["sha256-128-sign", "sha256-128-verify", "aes-256-cbc-seal", "aes-256-cbc-open"].map((operation) =>
    atLeast(`crypto.native-to-node.${operation}`, 2.5, `${operation} of 64 rows in the addon: beside node:crypto`),
  ),
  atMost("deopt.steady", 0, "functions that V8 throws away once traffic has run"),
];

function atLeast(figure: string, target: number, sentence: string): Target {
  return { figure, relation: ">=", target, sentence };
}

function atMost(figure: string, target: number, sentence: string): Target {
  return { figure, relation: "<=", target, sentence };
}
