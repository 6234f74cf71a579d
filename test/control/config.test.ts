import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import test, { type ExecutionContext } from "ava";
import fc from "fast-check";
import { type Config, formatProblem, type Problem, parseConfig } from "../../lib/control/config.ts";
import { CAPACITIES } from "../../lib/control/config-schema.ts";
import { readSocketPath } from "../../lib/control/config-source.ts";
import { OperatorError } from "../../lib/control/operator-error.ts";

const GOOD = `authority: acme
router: west
interfaces:
  - name: lan0
    device: eth1
    addresses: [10.1.0.1/24]
    tenant: corp
  - name: wan0
    device: eth0
    addresses: [198.18.0.1/24]
    gateway: 198.18.0.254
tenants: [{ name: corp, members: [{ interface: lan0, prefixes: [10.1.0.0/24] }] }]
services:
  - name: app
    addresses: [10.2.0.0/24]
    transports: [tcp/443, udp/5000-5100, icmp]
    access: [corp]
service-routes:
  - { service: app, peer: east }
peers:
  - name: east
    paths: [{ interface: wan0, address: 198.18.0.2 }]
`;

/** GOOD with `from` replaced by `to`, once. */
function change(from: string, to: string): string {
  if (!GOOD.includes(from)) throw new Error(`GOOD has no ${from}`);
  return GOOD.replace(from, () => to);
}

function print(problems: readonly Problem[]): string[] {
  return problems.map(formatProblem);
}

function good(t: ExecutionContext, text: string): Config {
  const { config, problems } = parseConfig(text, "w.yaml");
  t.deepEqual(print(problems), []);
  return config!;
}

/** `text` has these problems and no others; a config only where all are warnings. */
function expect(t: ExecutionContext, text: string, ...lines: string[]): void {
  const { config, problems } = parseConfig(text, "w.yaml");
  t.deepEqual(print(problems), lines);
  t.is(
    config === null,
    problems.some((problem) => problem.severity === "error"),
  );
}

/** Of a path about which nothing is written (protocol sheet 6.1). */
const BFD = {
  enabled: false,
  desiredTxMs: 1000,
  requiredMinRxMs: 500,
  requiredMinEchoMs: 1000,
  multiplier: 3,
  holdDownMs: 5000,
  dampening: false,
  maximumHoldDownMs: 3_600_000,
  linkTestIntervalMs: 10_000,
  linkTestLength: 10,
  dscp: 0,
};

test("A good configuration becomes int32 addresses and defaults", (t) => {
  t.deepEqual(good(t, GOOD), {
    authority: "acme",
    router: "west",
    control: { socket: "/run/waymark.sock" },
    workers: 1,
    log: { level: "info" },
    pathMetrics: null,
    sessions: { max: 262_144, recovery: "inactivity-based", inactivityMs: 5000 },
    limits: {
      holdFrames: 256,
      holdFramesPerNeighbor: 64,
      neighbors: 1024,
      slowPathPerTurn: 128,
      waypointPairsPerPath: 400_000,
      fabricChains: 256,
      ipFragments: 256,
      ipv6Addresses: 1_048_576,
      duplicatedSessions: 4096,
      halfOpen: null,
    },
    interfaces: [
      {
        name: "lan0",
        device: "eth1",
        addresses: [{ address: 0x0a010001, length: 24 }],
        tenant: "corp",
        gateway: null,
        kernel: "exclusive",
        kernelAllow: [],
        backend: "libpcap",
        mac: null,
        mtu: null,
        promiscuous: false,
        routerAdvertisements: false,
        sourceNatPool: [],
      },
      {
        name: "wan0",
        device: "eth0",
        addresses: [{ address: 0xc6120001 | 0, length: 24 }],
        tenant: null,
        gateway: 0xc61200fe | 0,
        kernel: "exclusive",
        kernelAllow: [],
        backend: "libpcap",
        mac: null,
        mtu: null,
        promiscuous: false,
        routerAdvertisements: false,
        sourceNatPool: [],
      },
    ],
    tenants: [
      {
        name: "corp",
        members: [{ interface: "lan0", prefixes: [{ address: 0x0a010000, length: 24 }] }],
        maxSessions: null,
        maxHalfOpen: null,
        refused: "drop",
      },
    ],
    services: [
      {
        name: "app",
        addresses: [{ address: 0x0a020000, length: 24 }],
        transports: [
          { protocol: 6, from: 443, to: 443, rank: 2 },
          { protocol: 17, from: 5000, to: 5100, rank: 2 },
          { protocol: 1, from: 0, to: 65535, rank: 1 },
        ],
        access: ["corp"],
        security: null,
        policy: null,
      },
    ],
    serviceRoutes: [
      {
        service: "app",
        peer: "east",
        interface: null,
        gateway: null,
        target: null,
        sourceNat: null,
        cost: 1,
        maxSessions: null,
      },
    ],
    peers: [
      {
        name: "east",
        security: null,
        paths: [
          {
            interface: "wan0",
            address: 0xc6120002 | 0,
            vector: null,
            cost: 1,
            mode: "svr",
            connectivity: "bidirectional",
            natKeepAliveMs: 0,
            udpTransform: { mode: "off", intervalMs: 300_000 },
            ttlPadding: 0,
            bfd: BFD,
            mtuDiscovery: { enabled: true, intervalMs: 600_000 },
          },
        ],
      },
    ],
    servicePolicies: [],
    serviceClasses: [],
    securityPolicies: [],
  });
});

test("Every optional key is read", (t) => {
  const config = good(
    t,
    `${change("    device: eth1\n", '    device: eth1\n    kernel-allow: [arp, icmp, tcp/22, udp/5000-5100, tcp]\n    mac: "02:00:00:00:00:AB"\n    mtu: 1400\n    promiscuous: true\n    kernel: exclusive\n    backend: libpcap\n')}control: { socket: /tmp/w.sock }
log: { level: debug }
sessions: { max: 1000000 }
limits: { hold-frames: 16, hold-frames-per-neighbor: 16, neighbors: 16, slow-path-per-turn: 16, waypoint-pairs-per-path: 1000000, fabric-chains: 1, half-open: 5000 }
`,
  );
  t.like(config.interfaces[0], { mac: "02:00:00:00:00:ab", mtu: 1400, promiscuous: true });
  t.deepEqual(config.interfaces[0].kernelAllow, [
    { kind: "arp", from: 0, to: 65535 },
    { kind: "icmp", from: 0, to: 65535 },
    { kind: "tcp", from: 22, to: 22 },
    { kind: "udp", from: 5000, to: 5100 },
    { kind: "tcp", from: 0, to: 65535 },
  ]);
  t.is(config.control.socket, "/tmp/w.sock");
  t.is(config.log.level, "debug");
  t.is(config.sessions.max, 1_000_000);
  t.is(config.limits.waypointPairsPerPath, 1_000_000);
  t.is(config.limits.halfOpen, 5000);
});

test("A tenant's limits are read, and one above another that binds first is told to change nothing", (t) => {
  const tenant = (limits: string) => change("tenants: [{ name: corp,", `tenants: [{ name: corp, ${limits},`);
  t.like(good(t, tenant("max-sessions: 100, max-half-open: 100")).tenants[0], { maxSessions: 100, maxHalfOpen: 100 });
  t.is(good(t, tenant("refused: reject")).tenants[0].refused, "reject");
  expect(
    t,
    `${tenant("max-sessions: 101, max-half-open: 51")}sessions: { max: 100 }\nlimits: { half-open: 50 }\n`,
    "w.yaml:12:39  tenants[0].max-sessions  warning: max-sessions (101) is above sessions.max (100) and changes nothing  lower or remove it",
    "w.yaml:12:59  tenants[0].max-half-open  warning: max-half-open (51) is above limits.half-open (50) and changes nothing  lower or remove it",
  );
  expect(
    t,
    `${tenant("max-sessions: 20, max-half-open: 21")}limits: { half-open: 300000 }\n`,
    "w.yaml:12:58  tenants[0].max-half-open  warning: max-half-open (21) is above max-sessions (20) and changes nothing  lower or remove it",
    "w.yaml:23:22  limits.half-open  warning: half-open (300000) is above sessions.max (262144) and changes nothing  lower or remove it",
  );
  expect(
    t,
    tenant("max-sessions: 0"),
    "w.yaml:12:39  tenants[0].max-sessions  0 is out of bounds  write a whole number from 1 to 1000000",
  );
});

test("Transports are ports, protocols, or protocol numbers", (t) => {
  const { services } = good(t, change("[tcp/443, udp/5000-5100, icmp]", "[tcp, ip/47, gre, esp, ip/255, udp/1-65535]"));
  t.deepEqual(
    services[0].transports.map(({ protocol, from, to, rank }) => [protocol, from, to, rank]),
    [
      [6, 0, 65535, 1],
      [47, 0, 65535, 1],
      [47, 0, 65535, 1],
      [50, 0, 65535, 1],
      [255, 0, 65535, 1],
      [17, 1, 65535, 2],
    ],
  );
  t.deepEqual(good(t, change("    transports: [tcp/443, udp/5000-5100, icmp]\n", "")).services[0].transports, []);
});

test("A route to a target alone gets the interface that has the target on-link", (t) => {
  const { serviceRoutes } = good(t, change("service: app, peer: east", "service: app, target: 10.1.0.9:8080"));
  t.deepEqual(serviceRoutes, [
    {
      service: "app",
      peer: null,
      interface: "lan0",
      gateway: null,
      target: { address: 0x0a010009, port: 8080 },
      sourceNat: null,
      cost: 1,
      maxSessions: null,
    },
  ]);
  const kept = good(t, change("service: app, peer: east", "service: app, interface: wan0, target: 9.9.9.9"));
  t.deepEqual(kept.serviceRoutes[0].target, { address: 0x09090909, port: 0 });
});

const PATH = "{ interface: wan0, address: 198.18.0.2 }";
/** GOOD whose only path has `keys` too. */
const path = (keys: string) => change(PATH, PATH.replace(" }", `, ${keys} }`));

test("A path's path-mtu-discovery goes before the router's, key by key, and that before the defaults", (t) => {
  const text = `${path("path-mtu-discovery: { enabled: false }")}bfd: {}\npath-mtu-discovery: { interval: 60s }\n`;
  t.deepEqual(good(t, text).peers[0].paths[0].mtuDiscovery, { enabled: false, intervalMs: 60_000 });
  const other = `${path("path-mtu-discovery: { interval: 1s }")}bfd: {}\npath-mtu-discovery: { enabled: false }\n`;
  t.deepEqual(good(t, other).peers[0].paths[0].mtuDiscovery, { enabled: false, intervalMs: 1000 });
});

test("A path's bfd keys go before the router's, and those before the defaults", (t) => {
  const text = `${change(
    PATH,
    "{ interface: wan0, address: 198.18.0.2, vector: mpls, cost: 10, bfd: { multiplier: 5, desired-tx-interval: 50ms } }, { interface: wan0, address: 198.18.0.3, mode: bfd, bfd: { enabled: false } }",
  )}bfd: { desired-tx-interval: 2s, required-min-rx-interval: 600s, required-min-echo-interval: 700ms, hold-down: 0s, dampening: true, maximum-hold-down: 60s, link-test-interval: 20s, link-test-length: 0, dscp: 46 }\n`;
  const [first, second] = good(t, text).peers[0].paths;
  const router = {
    desiredTxMs: 2000,
    requiredMinRxMs: 600_000,
    requiredMinEchoMs: 700,
    multiplier: 3,
    holdDownMs: 0,
    dampening: true,
    maximumHoldDownMs: 60_000,
    linkTestIntervalMs: 20_000,
    linkTestLength: 0,
    dscp: 46,
  };
  t.like(first, { vector: "mpls", cost: 10, mode: "svr" });
  t.deepEqual(first.bfd, { ...router, enabled: true, multiplier: 5, desiredTxMs: 50 });
  t.like(second, { vector: null, cost: 1, mode: "bfd" });
  t.deepEqual(second.bfd, { ...router, enabled: false });
});

test("A path's TTL padding is a number, or what BFD shows", (t) => {
  const paddingOf = (text: string) => good(t, path(text)).peers[0].paths[0].ttlPadding;
  t.is(paddingOf("cost: 1"), 0);
  t.is(paddingOf("ttl-padding: off"), 0);
  t.is(paddingOf("ttl-padding: 255"), 255);
  t.is(paddingOf("ttl-padding: automatic, bfd: {}"), "automatic");
  const told = (text: string) => parseConfig(path(text), "w.yaml").problems.map(formatProblem);
  for (const wrong of ["-1", "256", "1.5", "auto", "true"])
    t.regex(
      told(`ttl-padding: ${wrong}`)[0],
      /ttl-padding {2}not a TTL padding {2}write a whole number from 0 to 255, auto/,
    );
  t.regex(told("ttl-padding: automatic")[0], /automatic asks how far BFD has come, and this path has none/);
  t.regex(told("ttl-padding: automatic, mode: bfd, bfd: {}")[0], /warning: automatic changes nothing under mode: bfd/);
});

test("A path's udp-transform is off, always, or what the firewall detector finds beside BFD", (t) => {
  const transformOf = (text: string) => good(t, path(text)).peers[0].paths[0].udpTransform;
  t.deepEqual(transformOf("udp-transform: always"), { mode: "always", intervalMs: 300_000 });
  t.deepEqual(transformOf("udp-transform: auto-detect, bfd: {}"), { mode: "auto-detect", intervalMs: 300_000 });
  const often = "udp-transform: auto-detect, udp-transform-interval: 60s, bfd: {}";
  t.deepEqual(transformOf(often), { mode: "auto-detect", intervalMs: 60_000 });
  const told = (text: string) => parseConfig(path(text), "w.yaml").problems.map(formatProblem);
  t.regex(
    told("udp-transform: on")[0],
    /udp-transform {2}not a value that this key takes {2}write one of off, always, auto-detect/,
  );
  t.regex(
    told("udp-transform: auto-detect")[0],
    /udp-transform {2}auto-detect tests .* this path has none {2}add bfd: /,
  );
  t.regex(told("udp-transform: auto-detect, mode: bfd, bfd: {}")[0], /this path has mode: bfd {2}add bfd: /);
  t.regex(
    told("udp-transform-interval: 60s")[0],
    /warning: udp-transform-interval changes nothing without auto-detect/,
  );
  t.regex(told("udp-transform: auto-detect, udp-transform-interval: 1ms, bfd: {}")[0], /udp-transform-interval/);
});

test("A service policy is read whole, and has its defaults", (t) => {
  const text = `${path("vector: mpls").replace("name: app", "name: app\n    policy: p")}service-policies:
  - { name: p, strategy: proportional, resiliency: revertible-failover, transport-state-enforcement: allow, service-class: voice, rewrite-dscp: true, preserve-dscp: true, max-loss: 0.5, max-latency: 250ms, max-jitter: 1s, min-mos: 3.6, best-effort: false, vectors: [{ name: mpls, priority: 999999 }] }
  - { name: q, vectors: [{ name: mpls, priority: never }] }
service-classes: [{ name: voice, dscp: 46 }]
`;
  const { services, servicePolicies, serviceClasses } = good(t, text);
  t.is(services[0].policy, "p");
  t.deepEqual(serviceClasses, [{ name: "voice", dscp: 46 }]);
  t.deepEqual(servicePolicies, [
    {
      name: "p",
      strategy: "proportional",
      resiliency: "revertible-failover",
      transportState: "allow",
      serviceClass: "voice",
      rewriteDscp: true,
      preserveDscp: true,
      maxLossPercent: 0.5,
      maxLatencyMs: 250,
      maxJitterMs: 1000,
      minMos: 3.6,
      bestEffort: false,
      vectors: [{ name: "mpls", priority: 999_999 }],
    },
    {
      name: "q",
      strategy: "hunt",
      resiliency: "failover",
      transportState: "reset",
      serviceClass: null,
      rewriteDscp: false,
      preserveDscp: false,
      maxLossPercent: null,
      maxLatencyMs: null,
      maxJitterMs: null,
      minMos: null,
      bestEffort: true,
      vectors: [{ name: "mpls", priority: "never" }],
    },
  ]);
});

test("A service has as many routes as it needs: peers, servers, gateways, each with its cost and limit", (t) => {
  const routes = [
    "{ service: app, peer: east, cost: 3, max-sessions: 500 }",
    "{ service: app, target: 10.1.0.8 }",
    '{ service: app, target: "10.1.0.8:80", cost: 65535, max-sessions: 1000000 }',
    "{ service: app, interface: wan0, gateway: 198.18.0.9 }",
    "{ service: app, interface: wan0 }",
  ];
  const { serviceRoutes } = good(t, change("{ service: app, peer: east }", routes.join("\n  - ")));
  t.deepEqual(
    serviceRoutes.map(({ cost, maxSessions }) => [cost, maxSessions]),
    [
      [3, 500],
      [1, null],
      [65_535, 1_000_000],
      [1, null],
      [1, null],
    ],
  );
});

test("Anchors and aliases work", (t) => {
  const text = change("addresses: [10.2.0.0/24]", "addresses: &block [10.2.0.0/24]").replace(
    "[10.1.0.0/24]",
    "[10.1.0.0/24]",
  );
  const second = text.replace(
    "service-routes:",
    "  - { name: web, addresses: [10.3.0.0/24], transports: [tcp/80], access: &who [corp] }\n  - { name: dns, addresses: *block, transports: [udp/53], access: *who }\nservice-routes:\n  - { service: web, peer: east }\n  - { service: dns, peer: east }",
  );
  t.deepEqual(good(t, second).services[2].access, ["corp"]);
});

// One row: what the test is about, the text, and the problems it must give.
const cases: [title: string, text: string, ...lines: string[]][] = [
  ["an empty file", "", "w.yaml:1:1  (file)  the file is empty  begin with authority: NAME and router: NAME"],
  [
    "a file of comments",
    "# nothing\n",
    "w.yaml:1:1  (file)  the file is empty  begin with authority: NAME and router: NAME",
  ],
  [
    "a list at the root",
    "- a\n",
    "w.yaml:1:1  (file)  the file is not a map of keys  begin with authority: NAME and router: NAME",
  ],
  [
    "a second document",
    `${GOOD}---\na: 1\n`,
    "w.yaml:23:1  (yaml)  a second YAML document begins here  keep one document in the file: remove the --- line",
  ],
  [
    "a tab",
    change("    device: eth1", "\tdevice: eth1"),
    "w.yaml:5:1  (yaml)  a tab indents this line  indent with spaces",
  ],
  [
    "a repeated key",
    change("router: west", "router: west\nrouter: west"),
    "w.yaml:3:1  (yaml)  this key stands here a second time  keep one of the two",
  ],
  [
    "an alias without an anchor",
    change("[corp]", "*nobody"),
    "w.yaml:17:13  (yaml)  no anchor &nobody stands before this alias  define &nobody above, or write the value out",
  ],
  [
    "a tag",
    change("name: app", "name: !secret app"),
    "w.yaml:14:11  (yaml)  Unresolved tag: !secret  write the value without a tag",
  ],
  [
    "an unknown key, with the nearest known one",
    change("    device: eth1", "    Devise: eth9\n    device: eth1"),
    "w.yaml:5:5  interfaces[0].Devise  unknown key  did you mean device?",
  ],
  [
    "a snake_case key",
    `${GOOD}limits: { hold_frames: 10 }\n`,
    "w.yaml:23:11  limits.hold_frames  unknown key  did you mean hold-frames?",
  ],
  [
    "an unknown key near none",
    change("name: app", "name: app\n    colour: red"),
    "w.yaml:15:5  services[0].colour  unknown key  remove it; the keys here are name, addresses, transports, access, security, policy",
  ],
  [
    "an unknown key inside a nested list",
    change("address: 198.18.0.2 }", "address: 198.18.0.2, adress: 1 }"),
    "w.yaml:22:53  peers[0].paths[0].adress  unknown key  did you mean address?",
  ],
  [
    "a __proto__ key",
    change("name: app", "name: app\n    __proto__: { name: x }"),
    "w.yaml:15:5  services[0].__proto__  unknown key  remove it; the keys here are name, addresses, transports, access, security, policy",
  ],
  [
    "a missing key",
    change("    device: eth1\n", ""),
    "w.yaml:4:5  interfaces[0].device  device is missing  add device: eth1",
  ],
  ["a missing top key", change("router: west\n", ""), "w.yaml:1:1  router  router is missing  add router: west"],
  [
    "no interfaces",
    "authority: a\nrouter: b\ninterfaces: []\n",
    "w.yaml:3:13  interfaces  the list is empty  write interfaces: [{ name: lan0, device: eth1, addresses: [10.1.0.1/24] }]",
  ],
  [
    "a number for text",
    change("router: west", "router: 7"),
    "w.yaml:2:9  router  the number 7 where text belongs  put it in quotes if it is meant as text",
  ],
  [
    "text for a list",
    change("access: [corp]", "access: corp"),
    "w.yaml:17:13  services[0].access  text where a list belongs  write access: [corp]",
  ],
  [
    "text for a map",
    `${GOOD}sessions: many\n`,
    "w.yaml:23:11  sessions  text where a map of keys belongs  write sessions: { max: 262144 }",
  ],
  [
    "text for a truth value",
    change("    device: eth1", "    promiscuous: yes\n    device: eth1"),
    "w.yaml:5:18  interfaces[0].promiscuous  text where true or false belongs  write promiscuous: false",
  ],
  [
    "a key without a value",
    `${GOOD}limits:\n`,
    "w.yaml:23:8  limits  nothing where a map of keys belongs  write limits: { neighbors: 1024 }",
  ],
  [
    "a value outside a choice",
    change("    device: eth1", "    kernel: exclusiv\n    device: eth1"),
    "w.yaml:5:13  interfaces[0].kernel  not a value that this key takes  write one of exclusive, shared; did you mean exclusive?",
  ],
  [
    "a capacity over its bound",
    `${GOOD}sessions: { max: 1000001 }\n`,
    "w.yaml:23:18  sessions.max  1000001 is out of bounds  write a whole number from 1 to 1000000",
  ],
  [
    "a fraction",
    `${GOOD}limits: { neighbors: 20.5 }\n`,
    "w.yaml:23:22  limits.neighbors  20.5 is out of bounds  write a whole number from 16 to 65536",
  ],
  [
    "a share above the whole",
    `${GOOD}limits: { hold-frames: 4, hold-frames-per-neighbor: 8 }\n`,
    "w.yaml:23:53  limits.hold-frames-per-neighbor  hold-frames-per-neighbor (8) is above hold-frames (4)  lower it, or raise hold-frames",
  ],
  [
    "an MTU under 576",
    change("    device: eth1", "    mtu: 575\n    device: eth1"),
    "w.yaml:5:10  interfaces[0].mtu  575 is out of bounds  write a whole number from 576 to 65535",
  ],
  [
    "MAC text that is none",
    change("    device: eth1", "    mac: 02:00:00:00:00\n    device: eth1"),
    'w.yaml:5:10  interfaces[0].mac  "02:00:00:00:00" is not a MAC address  write six pairs of hex digits, such as 02:00:00:00:00:01',
  ],
  [
    "a group MAC address",
    change("    device: eth1", "    mac: 03:00:00:00:00:01\n    device: eth1"),
    "w.yaml:5:10  interfaces[0].mac  03:00:00:00:00:01 cannot be a station's own MAC address  write an address whose first byte is even, such as 02:00:00:00:00:01",
  ],
  [
    "a name with a space",
    change("authority: acme", "authority: ac me"),
    'w.yaml:1:12  authority  "ac me" is not a name  write 1 to 63 letters, digits, dots, underscores or hyphens',
  ],
  [
    "a name of 64 characters",
    change("authority: acme", `authority: ${"x".repeat(64)}`),
    `w.yaml:1:12  authority  "${"x".repeat(64)}" is not a name  write 1 to 63 letters, digits, dots, underscores or hyphens`,
  ],
  [
    "a device name that could be a command",
    change("device: eth1", "device: 'e\"; drop'"),
    'w.yaml:5:13  interfaces[0].device  "e\\"; drop" is not the name of a network device  write a name that `ip link` shows, such as eth1',
  ],
  [
    "a relative socket path",
    `${GOOD}control: { socket: w.sock }\n`,
    'w.yaml:23:20  control.socket  "w.sock" is not an absolute path  write a path such as /run/waymark.sock',
  ],
  [
    "an address without its length",
    change("[10.1.0.1/24]", "[10.1.0.1]"),
    'w.yaml:6:17  interfaces[0].addresses[0]  "10.1.0.1" has no prefix length  write 10.1.0.1/24, or the length your network has',
  ],
  [
    "an address that is none",
    change("address: 198.18.0.2", "address: 198.18.0.256"),
    'w.yaml:22:41  peers[0].paths[0].address  "198.18.0.256" is not an IP address  write an address such as 198.18.0.2 or 2001:db8::2',
  ],
  [
    "an address with a leading zero",
    change("address: 198.18.0.2", "address: 198.018.0.2"),
    'w.yaml:22:41  peers[0].paths[0].address  "198.018.0.2" is not an IP address  write an address such as 198.18.0.2 or 2001:db8::2',
  ],
  [
    "an IPv6 address with a zone",
    change("[10.2.0.0/24]", "['fe80::1%lan0']"),
    'w.yaml:15:17  services[0].addresses[0]  "fe80::1%lan0" is not an IP address  write an address such as 198.18.0.2 or 2001:db8::2',
  ],
  [
    "a loopback prefix",
    change("[10.2.0.0/24]", "[127.0.0.0/8]"),
    'w.yaml:15:17  services[0].addresses[0]  "127.0.0.0" never leaves a host  write an address outside 127.0.0.0/8',
  ],
  [
    "both families in one service",
    change("[10.2.0.0/24]", "[10.2.0.0/24, '2001:db8::/32']"),
    "w.yaml:15:30  services[0].addresses[1]  2001:db8::/32 is not of the family of the service's first prefix  write a second service for it",
  ],
  [
    "a service of the other family than its interface",
    change("{ service: app, peer: east }", "{ service: app, interface: wan0, target: '2001:db8::5' }"),
    "w.yaml:19:46  service-routes[0].target  2001:db8::5 is not of the family of service app  a packet keeps its family: write a target of that one",
  ],
  [
    "a peer of the other family than its interface",
    change("address: 198.18.0.2", "address: '2001:db8::2'"),
    "w.yaml:22:41  peers[0].paths[0].address  2001:db8::2 is not of the family of interface wan0  name the interface that has its family, or mend the address",
  ],
  [
    "both families on one interface",
    change("[10.1.0.1/24]", "[10.1.0.1/24, '2001:db8::1/64']"),
    "w.yaml:6:30  interfaces[0].addresses[1]  2001:db8::1/64 is not of the family of the interface's first address  write a second interface for it, of the same device",
  ],
  [
    "a network address as our own",
    change("[10.1.0.1/24]", "[10.1.0.0/24]"),
    'w.yaml:6:17  interfaces[0].addresses[0]  "10.1.0.0/24" is the network address of its prefix  write the address of a host in it',
  ],
  [
    "a broadcast address as our own",
    change("[10.1.0.1/24]", "[10.1.0.255/24]"),
    'w.yaml:6:17  interfaces[0].addresses[0]  "10.1.0.255/24" is the broadcast address of its prefix  write the address of a host in it',
  ],
  [
    "a prefix with host bits",
    change("[10.2.0.0/24]", "[10.2.0.7/24]"),
    'w.yaml:15:17  services[0].addresses[0]  "10.2.0.7/24" has host bits set  write 10.2.0.0/24',
  ],
  [
    "a prefix length of 33",
    change("[10.2.0.0/24]", "[10.2.0.0/33]"),
    'w.yaml:15:17  services[0].addresses[0]  "10.2.0.0/33" has no IPv4 prefix length behind the slash  write a length of 0 to 32, such as 10.1.0.0/24',
  ],
  [
    "a multicast peer",
    change("address: 198.18.0.2", "address: 224.0.0.1"),
    'w.yaml:22:41  peers[0].paths[0].address  "224.0.0.1" is not the address of one host on a network  write a unicast address outside 0.0.0.0/8 and 127.0.0.0/8',
  ],
  [
    "a transport that is none",
    change("tcp/443", "http"),
    'w.yaml:16:18  services[0].transports[0]  "http" is not a transport  write tcp/443, udp/5000-5100, tcp, udp, icmp, gre, esp, ah, sctp or ip/NUMBER',
  ],
  [
    "a protocol number over 255",
    change("tcp/443", "ip/256"),
    'w.yaml:16:18  services[0].transports[0]  "ip/256" is not a transport  write tcp/443, udp/5000-5100, tcp, udp, icmp, gre, esp, ah, sctp or ip/NUMBER',
  ],
  [
    "port 0",
    change("tcp/443", "tcp/0"),
    'w.yaml:16:18  services[0].transports[0]  "0" is not a port  write a number from 1 to 65535',
  ],
  [
    "a port range that runs backwards",
    change("udp/5000-5100", "udp/5100-5000"),
    "w.yaml:16:27  services[0].transports[1]  the port range 5100-5000 runs backwards  write 5000-5100",
  ],
  [
    "ports for icmp",
    change("icmp]", "icmp/8]"),
    "w.yaml:16:42  services[0].transports[2]  icmp has no ports here  write icmp alone",
  ],
  [
    "something that cannot be left to the kernel",
    change("    device: eth1", "    kernel-allow: [ssh]\n    device: eth1"),
    'w.yaml:5:20  interfaces[0].kernel-allow[0]  "ssh" cannot be left to the kernel  write arp, ndp, icmp, tcp/22, udp/5000-5100, tcp or udp',
  ],
  [
    "how another family finds its neighbors",
    change(
      "    device: eth1\n    addresses: [10.1.0.1/24]",
      "    kernel-allow: [ndp]\n    device: eth1\n    addresses: [10.1.0.1/24]",
    ),
    "w.yaml:5:20  interfaces[0].kernel-allow[0]  lan0 is IPv4 and has no ndp  write arp",
  ],
  [
    "router advertisements of IPv4",
    change("    device: eth1\n", "    router-advertisements: true\n    device: eth1\n"),
    "w.yaml:5:5  interfaces[0].router-advertisements  lan0 is IPv4, which knows none  write it at the interface that has the device's IPv6",
  ],
  [
    "kernel-allow where the kernel shares",
    change("    device: eth1", "    kernel: shared\n    kernel-allow: [arp]\n    device: eth1"),
    "w.yaml:6:5  interfaces[0].kernel-allow  warning: kernel-allow changes nothing under kernel: shared  remove it, or write kernel: exclusive",
  ],
  [
    "a device used twice",
    change("device: eth0", "device: eth1"),
    "w.yaml:9:13  interfaces[1].device  device eth1 is already interface lan0  give each interface a device of its own; IPv4 and IPv6 of one device are two interfaces",
  ],
  [
    "overlapping interface prefixes",
    change("[198.18.0.1/24]", "[198.18.0.1/24, 10.1.0.129/25]"),
    "w.yaml:10:32  interfaces[1].addresses[1]  10.1.0.129/25 overlaps 10.1.0.1/24 of interface lan0  give each interface a network of its own",
  ],
  [
    "one address twice",
    change("[10.1.0.1/24]", "[10.1.0.1/24, 10.1.0.1/24]"),
    "w.yaml:6:30  interfaces[0].addresses[1]  10.1.0.1 stands here twice  remove one",
  ],
  [
    "a duplicate name",
    `${GOOD}  - { name: east, paths: [{ interface: wan0, address: 198.18.0.3 }] }\n`,
    "w.yaml:23:13  peers[1].name  a second east in peers  give each its own name",
  ],
  [
    "an unknown tenant",
    change("access: [corp]", "access: [corp, corpo]"),
    "w.yaml:17:20  services[0].access[1]  there is no tenant corpo  did you mean corp? known tenants: corp",
  ],
  [
    "an unknown tenant on an interface",
    change("tenant: corp", "tenant: guests"),
    "w.yaml:7:13  interfaces[0].tenant  there is no tenant guests  known tenants: corp",
  ],
  [
    "an unknown interface of a member",
    change("interface: lan0, prefixes", "interface: lan1, prefixes"),
    "w.yaml:12:48  tenants[0].members[0].interface  there is no interface lan1  did you mean lan0? known interfaces: lan0, wan0",
  ],
  [
    "an unknown interface of a path",
    change("interface: wan0, address", "interface: wan, address"),
    "w.yaml:22:26  peers[0].paths[0].interface  there is no interface wan  did you mean wan0? known interfaces: lan0, wan0",
  ],
  [
    "an unknown peer",
    change("peer: east", "peer: north"),
    "w.yaml:19:27  service-routes[0].peer  there is no peer north  known peers: east",
  ],
  [
    "a reference where nothing exists",
    change("tenants: [{ name: corp, members: [{ interface: lan0, prefixes: [10.1.0.0/24] }] }]\n", "").replace(
      "    tenant: corp\n",
      "",
    ),
    "w.yaml:15:14  services[0].access[0]  there is no tenant corp  add it to tenants",
  ],
  [
    "a gateway off its link",
    change("gateway: 198.18.0.254", "gateway: 198.18.1.254"),
    "w.yaml:11:14  interfaces[1].gateway  gateway 198.18.1.254 is not on-link on wan0  write an address inside 198.18.0.0/24",
  ],
  [
    "a gateway that is ourselves",
    change("gateway: 198.18.0.254", "gateway: 198.18.0.1"),
    "w.yaml:11:14  interfaces[1].gateway  198.18.0.1 is this router's own address on wan0  write the other station's address",
  ],
  [
    "a member prefix that ties",
    change(
      "prefixes: [10.1.0.0/24] }] }]",
      "prefixes: [10.1.0.0/24] }] }, { name: lab, members: [{ interface: lan0, prefixes: [10.1.0.0/25, 10.1.0.0/24] }] }]",
    ),
    "w.yaml:12:150  tenants[1].members[0].prefixes[1]  10.1.0.0/24 on lan0 is already a member of tenant corp  give each tenant prefixes of its own; a longer prefix wins over a shorter one",
  ],
  [
    "a service without addresses",
    change("    addresses: [10.2.0.0/24]\n", ""),
    "w.yaml:14:5  services[0].addresses  addresses is missing  add addresses: [10.1.0.0/24]",
  ],
  [
    "a service without access",
    change("access: [corp]", "access: []"),
    "w.yaml:17:13  services[0].access  the list is empty  write access: [corp]",
  ],
  [
    "a service without a route",
    change("service-routes:\n  - { service: app, peer: east }\n", ""),
    "w.yaml:14:11  services[0].name  warning: service app has no service-route, so its sessions are dropped here  add { service: app, peer: NAME } to service-routes",
  ],
  [
    "a route with a peer and an interface",
    change("peer: east", "peer: east, interface: lan0"),
    "w.yaml:19:33  service-routes[0].interface  a service-route toward a peer has no interface  remove peer or interface",
  ],
  [
    "a route with a peer and a target",
    change("peer: east", "peer: east, target: 10.1.0.9"),
    "w.yaml:19:33  service-routes[0].target  a service-route toward a peer has no target  remove peer or target",
  ],
  [
    "a route toward nothing",
    change(", peer: east", ""),
    "w.yaml:19:5  service-routes[0]  a service-route needs a peer, an interface or a target  add peer: NAME, or interface: NAME, or target: ADDRESS:PORT",
  ],
  [
    "a route for no service",
    change("{ service: app, peer: east }", "{ service: app, peer: east }\n  - { service: web, peer: east }"),
    "w.yaml:20:16  service-routes[1].service  there is no service web  known services: app",
  ],
  [
    "a second route to the same peer",
    change("{ service: app, peer: east }", "{ service: app, peer: east }\n  - { service: app, peer: east, cost: 2 }"),
    "w.yaml:20:16  service-routes[1].service  service app has a service-route toward peer east above  remove one of the two",
  ],
  [
    "a second route to the same server",
    change("peer: east }", "target: 10.1.0.8 }\n  - { service: app, interface: lan0, target: 10.1.0.8 }"),
    "w.yaml:20:16  service-routes[1].service  service app has a service-route to the same place above  remove one of the two",
  ],
  [
    "a route without a cost, and one for nobody",
    change("peer: east }", "peer: east, cost: 0, max-sessions: 0 }"),
    "w.yaml:19:39  service-routes[0].cost  0 is out of bounds  write a whole number from 1 to 65535",
    "w.yaml:19:56  service-routes[0].max-sessions  0 is out of bounds  write a whole number from 1 to 1000000",
  ],
  [
    "a target nobody has on-link",
    change("peer: east", "target: 9.9.9.9:80"),
    "w.yaml:19:29  service-routes[0].target  9.9.9.9 is on-link on no interface  add interface: NAME, and gateway: ADDRESS if it needs one",
  ],
  [
    "a target off its link",
    change("peer: east", "interface: lan0, target: 9.9.9.9:80"),
    "w.yaml:19:46  service-routes[0].target  9.9.9.9 is not on-link on lan0, which has no gateway  add gateway: ADDRESS here or to interface lan0",
  ],
  [
    "a target that is ourselves",
    change("peer: east", "target: 10.1.0.1"),
    "w.yaml:19:29  service-routes[0].target  10.1.0.1 is this router's own address on lan0  write the other station's address",
  ],
  [
    "a route gateway off its link",
    change("peer: east", "interface: lan0, gateway: 10.9.0.1"),
    "w.yaml:19:47  service-routes[0].gateway  gateway 10.9.0.1 is not on-link on lan0  write an address inside 10.1.0.0/24",
  ],
  [
    "a local route to what is not local",
    change("peer: east", "interface: lan0"),
    "w.yaml:19:32  service-routes[0].interface  warning: no address of service app is on-link on lan0, which has no gateway  add gateway: ADDRESS or target: ADDRESS",
  ],
  [
    "a peer without a path",
    change("paths: [{ interface: wan0, address: 198.18.0.2 }]", "paths: []"),
    "w.yaml:22:12  peers[0].paths  the list is empty  write paths: [{ interface: wan0, address: 198.18.0.2 }]",
  ],
  [
    "a peer without paths",
    change("    paths: [{ interface: wan0, address: 198.18.0.2 }]\n", ""),
    "w.yaml:21:5  peers[0].paths  paths is missing  add paths: [{ interface: wan0, address: 198.18.0.2 }]",
  ],
  [
    "a peer that no gateway reaches",
    change("    gateway: 198.18.0.254\n", "").replace("198.18.0.2 }", "203.0.113.2 }"),
    "w.yaml:21:41  peers[0].paths[0].address  203.0.113.2 is not on-link on wan0, which has no gateway  add gateway: ADDRESS to interface wan0, or mend the address",
  ],
  [
    "a peer that is ourselves",
    change("address: 198.18.0.2 }", "address: 198.18.0.1 }"),
    "w.yaml:22:41  peers[0].paths[0].address  198.18.0.1 is this router's own address on wan0  write the other station's address",
  ],
  [
    "an address of two peers",
    `${GOOD}  - { name: north, paths: [{ interface: wan0, address: 198.18.0.2 }] }\n`,
    "w.yaml:23:56  peers[1].paths[0].address  198.18.0.2 is already peer east  give each peer addresses of its own",
  ],
  [
    "one path twice",
    change("198.18.0.2 }]", "198.18.0.2 }, { interface: wan0, address: 198.18.0.2 }]"),
    "w.yaml:22:12  peers[0].paths  warning: several paths, and none is watched: sessions stay on a dead one  write bfd: {} at the top",
    "w.yaml:22:83  peers[0].paths[1].address  a second path from wan0 to 198.18.0.2  remove one",
  ],
  [
    "bfd settings out of bounds",
    `${GOOD}bfd: { desired-tx-interval: 49ms, required-min-rx-interval: 601s, multiplier: 2, hold-down: 301s, link-test-length: 256, link-test-interval: 999ms, dscp: 64, enabled: 1 }\n`,
    "w.yaml:23:29  bfd.desired-tx-interval  49ms is out of bounds  write a duration from 50ms to 600000ms",
    "w.yaml:23:61  bfd.required-min-rx-interval  601s is out of bounds  write a duration from 50ms to 600000ms",
    "w.yaml:23:79  bfd.multiplier  2 is out of bounds  write a whole number from 3 to 20",
    "w.yaml:23:93  bfd.hold-down  301s is out of bounds  write a duration from 0ms to 300000ms",
    "w.yaml:23:117  bfd.link-test-length  256 is out of bounds  write a whole number from 0 to 255",
    "w.yaml:23:142  bfd.link-test-interval  999ms is out of bounds  write a duration from 1000ms to 86400000ms",
    "w.yaml:23:155  bfd.dscp  64 is out of bounds  write a whole number from 0 to 63",
    "w.yaml:23:168  bfd.enabled  the number 1 where true or false belongs  write enabled: false",
  ],
  [
    "a bfd key that is none, at a path",
    path("bfd: { holddown: 5s }"),
    "w.yaml:22:60  peers[0].paths[0].bfd.holddown  unknown key  did you mean hold-down?",
  ],
  [
    "a path of another kind, for free",
    path("mode: ospf, cost: 0"),
    "w.yaml:22:59  peers[0].paths[0].mode  not a value that this key takes  write one of svr, bfd",
    "w.yaml:22:71  peers[0].paths[0].cost  0 is out of bounds  write a whole number from 1 to 65535",
  ],
  [
    "a maximum that nothing grows to",
    `${GOOD}bfd: { maximum-hold-down: 60s }\n`,
    "w.yaml:23:8  bfd.maximum-hold-down  warning: maximum-hold-down changes nothing without dampening  add dampening: true",
  ],
  [
    "a hold-down above its maximum",
    `${path("bfd: { hold-down: 60s }")}bfd: { dampening: true, maximum-hold-down: 60s }\n`,
    "w.yaml:22:71  peers[0].paths[0].bfd.hold-down  maximum-hold-down (60000ms) is not above hold-down (60000ms)  raise maximum-hold-down, or lower hold-down",
  ],
  [
    "a link test toward a router that reflects none",
    path("mode: bfd, bfd: { link-test-length: 5 }"),
    "w.yaml:22:71  peers[0].paths[0].bfd.link-test-length  warning: link-test-length changes nothing under mode: bfd  remove it",
  ],
  [
    "path MTU discovery out of bounds",
    `${GOOD}bfd: {}\npath-mtu-discovery: { enabled: 1, interval: 86401s }\n`,
    "w.yaml:24:32  path-mtu-discovery.enabled  the number 1 where true or false belongs  write enabled: false",
    "w.yaml:24:45  path-mtu-discovery.interval  86401s is out of bounds  write a duration from 1000ms to 86400000ms",
  ],
  [
    "probes toward a router that answers none",
    path("mode: bfd, bfd: {}, path-mtu-discovery: {}"),
    "w.yaml:22:73  peers[0].paths[0].path-mtu-discovery  warning: path-mtu-discovery changes nothing under mode: bfd  remove it",
  ],
  [
    "probes on a path that nobody watches",
    path("path-mtu-discovery: { interval: 60s }"),
    "w.yaml:22:53  peers[0].paths[0].path-mtu-discovery  warning: path-mtu-discovery changes nothing without bfd  remove it",
  ],
  [
    "more workers than there are shards",
    `${GOOD}workers: 65\n`,
    "w.yaml:23:10  workers  65 is out of bounds  write a whole number from 1 to 64",
  ],
  [
    "a duration without a unit",
    `${GOOD}bfd: { hold-down: '5' }\n`,
    'w.yaml:23:19  bfd.hold-down  "5" is not a duration  write a number with its unit, such as 500ms or 5s',
  ],
  [
    "a service policy that is not there",
    `${change("name: app", "name: app\n    policy: voce")}service-policies: [{ name: voice }]\n`,
    "w.yaml:15:13  services[0].policy  there is no service policy voce  did you mean voice? known service-policies: voice",
  ],
  [
    "thresholds out of bounds",
    `${GOOD}service-policies: [{ name: p, max-loss: 101, max-latency: 0ms, max-jitter: 61s, min-mos: 4.4, best-effort: 1 }]\n`,
    "w.yaml:23:41  service-policies[0].max-loss  101 is out of bounds  write a number from 0 to 100",
    "w.yaml:23:59  service-policies[0].max-latency  0ms is out of bounds  write a duration from 1ms to 60000ms",
    "w.yaml:23:76  service-policies[0].max-jitter  61s is out of bounds  write a duration from 1ms to 60000ms",
    "w.yaml:23:90  service-policies[0].min-mos  4.4 is out of bounds  write a number from 1 to 4.3",
    "w.yaml:23:108  service-policies[0].best-effort  the number 1 where true or false belongs  write best-effort: true",
  ],
  [
    "a threshold without its unit",
    `${GOOD}service-policies: [{ name: p, max-latency: 250 }]\n`,
    "w.yaml:23:44  service-policies[0].max-latency  the number 250 where text belongs  put it in quotes if it is meant as text",
  ],
  [
    "service classes that are not there, are no DSCP, or do nothing",
    `${GOOD}service-policies: [{ name: p, service-class: voce, rewrite-dscp: true }, { name: q, rewrite-dscp: true }, { name: r, service-class: voice }]\nservice-classes: [{ name: voice, dscp: 64 }, { name: voice, dscp: 0 }, { name: bulk }]\n`,
    "w.yaml:23:46  service-policies[0].service-class  there is no service class voce  did you mean voice? known service-classes: voice, bulk",
    "w.yaml:23:85  service-policies[1].rewrite-dscp  rewrite-dscp needs the class whose DSCP is written  add service-class: NAME, of service-classes",
    "w.yaml:23:118  service-policies[2].service-class  warning: service-class changes nothing without rewrite-dscp  add rewrite-dscp: true",
    "w.yaml:24:40  service-classes[0].dscp  64 is out of bounds  write a whole number from 0 to 63",
    "w.yaml:24:54  service-classes[1].name  a second voice in service-classes  give each its own name",
    "w.yaml:24:72  service-classes[2].dscp  dscp is missing  add dscp: 46",
  ],
  [
    "strategies and resiliencies that are none",
    `${GOOD}service-policies: [{ name: p, strategy: proportionl, resiliency: failover-revertible }]\n`,
    "w.yaml:23:41  service-policies[0].strategy  not a value that this key takes  write one of hunt, proportional; did you mean proportional?",
    "w.yaml:23:66  service-policies[0].resiliency  not a value that this key takes  write one of none, failover, revertible-failover, packet-duplication",
  ],
  [
    "packet duplication with one path",
    `${GOOD.replace("name: app", "name: app\n    policy: p")}service-policies: [{ name: p, resiliency: packet-duplication }]\n`,
    "w.yaml:24:43  service-policies[0].resiliency  warning: packets to peer east are not duplicated: it has no two paths with an address  add a path to the peer, or write failover",
  ],
  [
    "priorities that are none",
    `${path("vector: mpls")}service-policies: [{ name: p, vectors: [{ name: mpls, priority: 0 }] }, { name: q, vectors: [{ name: mpls, priority: nevr }] }, { name: r, vectors: [{ name: mpls }] }]\n`,
    "w.yaml:23:65  service-policies[0].vectors[0].priority  not a priority  write a whole number from 1 to 999999, lower is better, or never",
    "w.yaml:23:118  service-policies[1].vectors[0].priority  not a priority  write a whole number from 1 to 999999, lower is better, or never",
    "w.yaml:23:150  service-policies[2].vectors[0].priority  not a priority  write a whole number from 1 to 999999, lower is better, or never",
  ],
  [
    "a vector twice, and one that no path has",
    `${path("vector: mpls")}service-policies: [{ name: p, vectors: [{ name: mpls, priority: 1 }, { name: mpls, priority: 2 }, { name: lte, priority: 3 }] }]\n`,
    "w.yaml:23:78  service-policies[0].vectors[1].name  a second priority for vector mpls  keep one of the two",
    "w.yaml:23:107  service-policies[0].vectors[2].name  warning: no path has vector lte  paths have mpls",
  ],
  [
    "two policies of one name",
    `${GOOD}service-policies: [{ name: p }, { name: p }]\n`,
    "w.yaml:23:41  service-policies[1].name  a second p in service-policies  give each its own name",
  ],
  [
    "two services that tie",
    change(
      "service-routes:",
      "  - { name: web, addresses: [10.3.0.0/24, 10.2.0.0/24], transports: [tcp/80-500], access: [corp] }\nservice-routes:\n  - { service: web, peer: east }",
    ),
    "w.yaml:18:43  services[1].addresses[1]  10.2.0.0/24 ties with service app: same prefix, and transports that overlap  give one of them a longer prefix, or transports that do not overlap",
  ],
  [
    "a prefix twice in a service",
    change("[10.2.0.0/24]", "[10.2.0.0/24, 10.2.0.0/24]"),
    "w.yaml:15:30  services[0].addresses[1]  10.2.0.0/24 stands here twice  remove one",
  ],
];

for (const [title, text, ...lines] of cases) {
  test(`Told with line, column and mend: ${title}`, (t) => expect(t, text, ...lines));
}

test("Services with one prefix and transports apart or of another rank do not tie", (t) => {
  const web = (transports: string) =>
    change(
      "service-routes:",
      `  - { name: web, addresses: [10.2.0.0/24], ${transports}access: [corp] }\nservice-routes:\n  - { service: web, peer: east }`,
    );
  good(t, web("transports: [tcp/444, udp/1-4999], "));
  good(t, web("transports: [tcp, udp], "));
  good(t, web(""));
  const both = web("").replace("    transports: [tcp/443, udp/5000-5100, icmp]\n", "");
  t.regex(print(parseConfig(both, "w.yaml").problems).join(), /ties with service app/);
});

test("All mistakes are told at once, in file order", (t) => {
  const text = GOOD.replace("authority: acme", "authority: 1")
    .replace("device: eth1", "devise: eth1")
    .replace("[10.1.0.1/24]", "[10.1.0.1/24, nonsense]")
    .replace("device: eth0", "device: eth0\n    mtu: 9")
    .replace("access: [corp]", "access: [crop]")
    .replace("[10.2.0.0/24]", "[]")
    .replace("peer: east", "peer: eats")
    .replace("name: east", "name: east\n    security: top");
  const { config, problems } = parseConfig(text, "w.yaml");
  t.is(config, null);
  t.deepEqual(
    problems.map(({ line, path }) => `${line} ${path}`),
    [
      "1 authority",
      "4 interfaces[0].device",
      "5 interfaces[0].devise",
      "6 interfaces[0].addresses[1]",
      "10 interfaces[1].mtu",
      "16 services[0].addresses",
      "18 services[0].access[0]",
      "20 service-routes[0].peer",
      "23 peers[0].security",
    ],
  );
});

test("Aliases that unfold without end, or hold themselves, are refused", (t) => {
  const levels = "abcdefgh".split("");
  const bomb = levels.map(
    (name, level) =>
      `${name}: &${name} [${Array(9)
        .fill(level === 0 ? "x" : `*${levels[level - 1]}`)
        .join(", ")}]`,
  );
  expect(t, bomb.join("\n"), "w.yaml:2:8  (yaml)  aliases unfold to far too much  write the values out");
  t.is(parseConfig("authority: &a [*a]\nrouter: *a\ninterfaces: &i [{ name: *i }]\n", "w.yaml").config, null);
});

test("Nesting without end and a huge file are refused", (t) => {
  t.is(parseConfig("[".repeat(200_000), "w.yaml").config, null);
  expect(
    t,
    "#".repeat(5_000_000),
    "w.yaml:1:1  (file)  the file is too large to be a configuration  give a file of up to 4 MiB",
  );
});

test("A key's control characters do not reach the terminal", (t) => {
  const { problems } = parseConfig(`${GOOD}"\\e[2Jx": 1\nb: *a\x1b[2J\n`, "w.yaml");
  t.is(problems.length, 1);
  t.notRegex(formatProblem(problems[0]), /\x1b/);
});

test("No text makes parseConfig throw, and a config comes only without errors", (t) => {
  const damage = fc.array(fc.tuple(fc.nat(GOOD.length), fc.nat(12), fc.string({ maxLength: 6 })), { maxLength: 5 });
  const damaged = damage.map((edits) => {
    let text = GOOD;
    for (const [at, cut, put] of edits) text = text.slice(0, at) + put + text.slice(at + cut);
    return text;
  });
  fc.assert(
    fc.property(fc.oneof(damaged, fc.string()), (text) => {
      const { config, problems } = parseConfig(text, "w.yaml");
      t.is(
        config === null,
        problems.some((problem) => problem.severity === "error"),
        text,
      );
      t.true(
        problems.every((problem) => problem.line >= 1 && problem.column >= 1 && problem.mend !== ""),
        text,
      );
    }),
    { numRuns: 300 },
  );
});

test("More peer paths than neighbors, and more interfaces than fit a table, are refused", (t) => {
  const peers = Array.from(
    { length: 17 },
    (_, i) => `{ name: p${i}, paths: [{ interface: wan0, address: 198.18.0.${i + 100} }] }`,
  );
  const text = GOOD.replace(
    /peers:[\s\S]*/,
    `peers: [{ name: east, paths: [{ interface: wan0, address: 198.18.0.2 }] }, ${peers.slice(1).join(", ")}]\n`,
  );
  expect(
    t,
    `${text}limits: { neighbors: 16 }\n`,
    "w.yaml:21:22  limits.neighbors  17 peer paths need more neighbors than 16  write at least 17",
  );
  const many = `authority: a\nrouter: b\ninterfaces: [${"x, ".repeat(257)}]\n`;
  t.regex(
    print(parseConfig(many, "w.yaml").problems)[0],
    /^w\.yaml:3:13 {2}interfaces {2}the list is too long {2}write at most 255 items$/,
  );
});

const KEY = "00".repeat(32);
const SIGNED = `security-policies: [{ name: fabric, hmac: sha256-128, hmac-key: "${KEY}" }]\n`;

/** GOOD whose peer has these keys of its only path, and of itself. */
function withPath(path: string, peer = "", more = ""): string {
  return `${change("paths: [{ interface: wan0, address: 198.18.0.2 }]", `paths: [{ interface: wan0, ${path} }]${peer}`)}${more}`;
}

test("A peer behind a NAT has a dynamic address, and who is behind one says so and keeps its mappings", (t) => {
  const [hub] = good(t, withPath("address: dynamic, bfd: {}", "\n    security: fabric", SIGNED)).peers[0].paths;
  t.like(hub, { address: null, connectivity: "bidirectional", natKeepAliveMs: 0 });
  const behind = "address: 198.18.0.2, connectivity: outbound-only, bfd: {}";
  const [spoke] = good(t, withPath(behind)).peers[0].paths;
  t.like(spoke, { connectivity: "outbound-only", natKeepAliveMs: 20_000 });
  const [quick] = good(t, withPath(`${behind}, nat-keep-alive: 5s`)).peers[0].paths;
  t.is(quick.natKeepAliveMs, 5000);
});

test("A dynamic address that nothing would prove is refused", (t) => {
  const told = (text: string) =>
    print(parseConfig(text, "w.yaml").problems).map((line) => line.replace(/^\S+ {2}/, ""));
  const where = "peers[0].paths[0]";
  t.deepEqual(told(withPath("address: dynamic, bfd: {}")), [
    `${where}.address  the address of east is dynamic and nothing it sends is signed: anybody could be it  give the peer a security policy with an hmac, or write its address`,
  ]);
  const unsigned = `security-policies: [{ name: fabric, encryption: aes-cbc-256, encryption-key: "${KEY}" }]\n`;
  t.true(
    told(withPath("address: dynamic, bfd: {}", "\n    security: fabric", unsigned)).includes(
      `${where}.address  the address of east is dynamic and nothing it sends is signed: anybody could be it  give the peer a security policy with an hmac, or write its address`,
    ),
  );
  const named = (path: string, more = SIGNED) => told(withPath(path, "\n    security: fabric", more));
  t.deepEqual(named("address: dynamic, bfd: {}", SIGNED.replace("hmac:", "hmac-mode: regular, hmac:")), [
    `${where}.address  warning: fabric has hmac-mode: regular: who recorded a packet of east can be it later, for a while  write hmac-mode: time-based`,
  ]);
  t.deepEqual(named("address: dynamic"), [
    `${where}.address  only BFD tells where a peer with a dynamic address is, and this path has none  add bfd: {} to the path`,
  ]);
  t.deepEqual(named("address: dynamic, mode: bfd, bfd: {}"), [
    `${where}.address  mode: bfd does not say who sends, so the address cannot be dynamic  write mode: svr, or the address`,
  ]);
  t.deepEqual(named("address: dynamic, connectivity: outbound-only, bfd: {}"), [
    `${where}.connectivity  both ends behind a NAT: neither could reach the other first  write bidirectional, or the peer's address`,
  ]);
  t.deepEqual(named("address: dynamic, nat-keep-alive: 5s, bfd: {}"), [
    `${where}.nat-keep-alive  nat-keep-alive is of the router behind the NAT, and here that is the peer  remove it, and write it in the peer's configuration`,
  ]);
  t.deepEqual(named("address: dynamic, bfd: {} }, { interface: wan0, address: dynamic, bfd: {}"), [
    "peers[0].paths[1].address  a second dynamic path of east from wan0: they cannot be told apart  remove one",
  ]);
  const shared = withPath("address: dynamic, bfd: {}", "\n    security: fabric", SIGNED);
  t.deepEqual(told(shared.replace("    device: eth0\n", "    device: eth0\n    kernel: shared\n")), [
    `${where}.address  wan0 is shared with the kernel, which cannot be kept off packets from an unknown address  write kernel: exclusive, with kernel-allow for what the kernel needs`,
  ]);
  t.deepEqual(told(withPath("address: 198.18.0.2, connectivity: outbound-only")), [
    `${where}.connectivity  the peer learns where we are from our BFD with metadata, and this path has no BFD  add bfd: {} to the path, with mode: svr`,
  ]);
  t.regex(named("address: dynamyc, bfd: {}")[0], /"dynamyc" is not an IP address/);
  t.regex(told(withPath("address: 198.18.0.2, nat-keep-alive: 500ms"))[0], /500ms is out of bounds/);
});

test("Source NAT is for routes that leave the fabric, to addresses that nobody else has", (t) => {
  const route = (keys: string, more = "") =>
    change("{ service: app, peer: east }", `{ service: app, interface: wan0, ${keys} }`) + more;
  const told = (text: string) => print(parseConfig(text, "w.yaml").problems).map((line) => line.replace(/^\S+\s+/, ""));
  t.is(good(t, route("source-nat: interface")).serviceRoutes[0].sourceNat, "interface");
  t.deepEqual(good(t, route("source-nat-pool: [198.18.0.8/29, 192.0.2.7]")).serviceRoutes[0].sourceNat, [
    { address: 0xc6120008 | 0, length: 29 },
    { address: 0xc0000207 | 0, length: 32 },
  ]);
  const wrong: [string, RegExp][] = [
    [route("source-nat: yes"), /write source-nat: interface|one of interface/],
    [route("source-nat-pool: []"), /the list is empty/],
    [
      route('source-nat-pool: ["2001:db8::/120"]'),
      /2001:db8::\/120 is not of the family of wan0 {2}write IPv4 addresses/,
    ],
    [route("source-nat: interface, source-nat-pool: [192.0.2.7]"), /exclude each other/],
    [change("peer: east }", "peer: east, source-nat: interface }"), /a service-route toward a peer has no source-nat/],
    [route("source-nat: interface", "workers: 2\n"), /source-nat and 2 workers/],
    [route("source-nat-pool: [192.0.2.0/24, 192.0.2.7]"), /192\.0\.2\.7\/32 stands here twice/],
    [route("source-nat-pool: [192.0.2.0/23]"), /512 addresses of source NAT, and there is room for 256/],
    [route("source-nat-pool: [198.18.0.1]"), /this router's own address on wan0/],
    [route("source-nat-pool: [198.18.0.2]"), /a peer's address 198\.18\.0\.2/],
    [route("source-nat-pool: [198.18.0.254]"), /the gateway of wan0/],
    [route("source-nat-pool: [198.18.0.255]"), /network or broadcast address of wan0/],
    [route("source-nat-pool: [10.1.0.9]"), /on-link on lan0, where the route does not lead/],
    [
      route("source-nat: interface").replace("device: eth0", "device: eth0\n    kernel: shared"),
      /the kernel has wan0 too/,
    ],
  ];
  const ingress = (pool: string) => change("device: eth1", `device: eth1\n    source-nat-pool: ${pool}`);
  t.is(good(t, ingress("[192.0.2.7]")).interfaces[0].sourceNatPool.length, 1);
  wrong.push(
    [`${ingress("[192.0.2.7]")}workers: 2\n`, /source-nat-pool and 2 workers/],
    [ingress("[192.0.2.7, 192.0.2.7]"), /stands here twice/],
    [ingress("[10.1.0.7]"), /10\.1\.0\.7\/32 is on-link on lan0 here/],
    [ingress("[192.0.2.0/23]"), /512 addresses of source NAT/],
  );
  for (const [text, problem] of wrong) t.regex(told(text).join("\n"), problem);
});

test("The reference names every key, and every capacity with its default and bounds", (t) => {
  const reference = readFileSync("lib/control/README.md", "utf8");
  const probe = GOOD.replace("tenants: [{", "tenants: [{ zz: 1,")
    .replace("members: [{", "members: [{ zz: 1,")
    .replace("name: lan0", "name: lan0\n    zz: 1")
    .replace("name: app", "name: app\n    zz: 1")
    .replace("{ service: app", "{ zz: 1, service: app")
    .replace("name: east", "name: east\n    zz: 1")
    .replace("paths: [{", "paths: [{ zz: 1, bfd: { zz: 1 }, path-mtu-discovery: { zz: 1 },");
  const { problems } = parseConfig(
    `${probe}zz: 1\nservice-policies: [{ zz: 1, name: p, vectors: [{ zz: 1, name: a, priority: 1 }] }]\nservice-classes: [{ zz: 1, name: c, dscp: 1 }]\ncontrol: { zz: 1 }\nlog: { zz: 1 }\nsessions: { zz: 1 }\nlimits: { zz: 1 }\nsecurity-policies: [{ zz: 1 }]\n`,
    "w.yaml",
  );
  const keys = problems.flatMap(({ mend }) => /the keys here are (.*)$/.exec(mend)?.[1].split(", ") ?? []);
  t.true(keys.length > 50);
  for (const key of keys) t.regex(reference, new RegExp(`\\b${key}\\b`), key);
  for (const [key, [value, min, max]] of Object.entries(CAPACITIES)) {
    t.true(reference.includes(`| \`${key}\` | ${value} | ${min} to ${max} |`), key);
  }
});

test("The socket path is found without the rest being right", (t) => {
  t.is(readSocketPath("control: { socket: /tmp/a.sock }\nnonsense: 1\n", "a.yaml"), "/tmp/a.sock");
  t.is(readSocketPath("authority: a\n", "a.yaml"), "/run/waymark.sock");
  t.is(readSocketPath("control: {}\n", "a.yaml"), "/run/waymark.sock");
});

test("A file that does not say clearly which socket is meant asks no router at all", (t) => {
  for (const text of [
    "control: *no\n",
    "control: { sokcet: /tmp/a.sock }\n",
    "control: { socket: 5 }\n",
    "control: 7\n",
    "{",
  ]) {
    const error = t.throws(() => readSocketPath(text, "a.yaml"), { instanceOf: OperatorError }, text);
    t.regex(error.message, /^a\.yaml/, text);
  }
});

test("more workers than processors are a warning, more than port pairs an error", (t) => {
  const read = (more: string) => parseConfig(`${GOOD}${more}`, "w.yaml").problems.map(formatProblem);
  t.deepEqual(read("workers: 1\n"), []);
  const problems = read("workers: 64\nlimits: { waypoint-pairs-per-path: 32 }\n");
  t.regex(problems.join("\n"), /limits.waypoint-pairs-per-path {2}64 workers cannot share 32 waypoint pairs a path/);
  if (availableParallelism() < 64)
    t.regex(problems.join("\n"), /workers {2}warning: 64 workers, and this process may use \d+ processors/);
});

test("IPv6 interfaces have any number of workers; source NAT, of either family, has one", (t) => {
  const text = (keys: string, workers: number) => `authority: a
router: b
workers: ${workers}
interfaces:
  - { name: lan0, device: lan0, addresses: ["2001:db8:1::1/64"], tenant: corp, router-advertisements: true }
  - { name: out0, device: out0, addresses: ["2001:db8:9::1/64"] }
tenants: [{ name: corp }]
services: [{ name: app, addresses: ["::/0"], access: [corp] }]
service-routes: [{ service: app, interface: out0${keys} }]
`;
  const errors = (yaml: string) =>
    parseConfig(yaml, "w.yaml")
      .problems.map(formatProblem)
      .filter((problem) => !problem.includes("warning: "));
  t.deepEqual(errors(text("", 2)), []);
  t.deepEqual(errors(text("", 64)), []);
  t.deepEqual(errors(text(", source-nat: interface", 1)), []);
  const [refused, ...others] = errors(text(", source-nat: interface", 2));
  t.regex(refused, /source-nat and 2 workers: a host's ports would not be the same at each {2}write workers: 1/);
  t.deepEqual(others, []);
});

test("Source NAT out of an IPv6 interface has IPv6 addresses, one by one", (t) => {
  const text = (keys: string, more = "") => `authority: a
router: b
interfaces:
  - { name: lan0, device: lan0, addresses: ["2001:db8:1::1/64"], tenant: corp${more} }
  - { name: out0, device: out0, addresses: ["2001:db8:9::1/64"], gateway: "2001:db8:9::fe" }
tenants: [{ name: corp }]
services: [{ name: app, addresses: ["::/0"], access: [corp] }]
service-routes: [{ service: app, interface: out0, ${keys} }]
`;
  const told = (yaml: string) => print(parseConfig(yaml, "w.yaml").problems).map((line) => line.replace(/^\S+\s+/, ""));
  t.is(good(t, text("source-nat: interface")).serviceRoutes[0].sourceNat, "interface");
  const { sourceNat } = good(t, text('source-nat-pool: ["2001:db8:9::7", "2001:db8:5::7"]')).serviceRoutes[0];
  t.is((sourceNat as readonly unknown[]).length, 2);
  const wrong: [string, RegExp][] = [
    [text("source-nat-pool: [192.0.2.7]"), /192\.0\.2\.7\/32 is not of the family of out0 {2}write IPv6 addresses/],
    [text('source-nat-pool: ["2001:db8:9::/120"]'), /2001:db8:9::\/120 is too many {2}write IPv6 addresses one by one/],
    [text('source-nat-pool: ["2001:db8:9::1"]'), /this router's own address on out0/],
    [text('source-nat-pool: ["2001:db8:9::fe"]'), /has the gateway of out0 in it/],
    [text('source-nat-pool: ["2001:db8:1::7"]'), /is on-link on lan0, where the route does not lead/],
    [text("source-nat: interface", ', source-nat-pool: ["2001:db8:5::7"]'), /where sessions begin is for IPv4/],
  ];
  for (const [yaml, expected] of wrong) {
    const all = told(yaml);
    t.is(all.length, 1, all.join("\n"));
    t.regex(all[0], expected);
  }
});
