import test from "ava";
import { printAnswer, printCounterReference, type SessionsAnswer, SHOW_RESOURCES } from "../../lib/control/show.ts";
import { emptyStats } from "../../lib/io/port.ts";

const session: SessionsAnswer["sessions"][number] = {
  uuid: "0b1e7a52-9a1f-4c5e-8f3a-2f6d1f0c9e11",
  tenant: "corp",
  service: "app",
  protocol: "tcp",
  source: "10.1.0.2:40000",
  destination: "10.2.0.2:443",
  sourceNat: null,
  peer: "east",
  path: "wan0",
  waypoint: { local: "198.18.0.1:16384", remote: "198.18.0.2:16385" },
  secondPath: null,
  state: "established",
  encrypted: true,
  ownKey: false,
  moves: 0,
  packets: { forward: 12, reverse: 9 },
  bytes: { forward: 3000, reverse: 500_000 },
  ageMs: 245_000,
  idleMs: 250,
};

test("Sessions are columns as wide as their widest cell", (t) => {
  const local = {
    ...session,
    uuid: "1",
    service: "intranet",
    peer: null,
    path: null,
    waypoint: null,
    ageMs: 90_061_000,
    idleMs: 3_723_000,
    encrypted: false,
  };
  const own = { ...session, uuid: "2", ownKey: true };
  t.is(
    printAnswer("sessions", { sessions: [session, local, own] }),
    `UUID                                  TENANT  SERVICE   PROTO  SOURCE          DESTINATION   PEER  WAYPOINT                           STATE        ENCRYPTED  PACKETS  BYTES        AGE    IDLE
0b1e7a52-9a1f-4c5e-8f3a-2f6d1f0c9e11  corp    app       tcp    10.1.0.2:40000  10.2.0.2:443  east  198.18.0.1:16384>198.18.0.2:16385  established  yes        12/9     3000/500000  4m05s  250ms
1                                     corp    intranet  tcp    10.1.0.2:40000  10.2.0.2:443  -     -                                  established  -          12/9     3000/500000  1d01h  1h02m
2                                     corp    app       tcp    10.1.0.2:40000  10.2.0.2:443  east  198.18.0.1:16384>198.18.0.2:16385  established  own-key    12/9     3000/500000  4m05s  250ms
`,
  );
});

test("Each resource has its columns, numbers flush right", (t) => {
  t.is(
    printAnswer("peers", {
      peers: [
        {
          name: "east",
          security: "fabric",
          paths: [{ interface: "wan0", address: "198.18.0.2", state: "up", keyVersion: 3, clockOffsetMs: 62_000 }],
        },
        {
          name: "south",
          security: null,
          paths: [{ interface: "wan0", address: "198.18.0.3", state: "up", keyVersion: null, clockOffsetMs: null }],
        },
      ],
    }),
    `PEER   INTERFACE  ADDRESS     STATE  SECURITY  KEYS  CLOCK
east   wan0       198.18.0.2  up     fabric    v3    +62s
south  wan0       198.18.0.3  up     -         -     -
`,
  );
  t.is(
    printAnswer("paths", {
      paths: [
        {
          peer: "east",
          interface: "wan0",
          local: "198.18.0.1",
          remote: "198.18.0.2",
          vector: null,
          cost: 1,
          state: "up",
          why: "not monitored",
          sinceMs: null,
          quality: { lossPercent: null, latencyMs: null, jitterMs: null, mos: null },
          mtu: { bytes: 1500, source: "interface", sinceMs: null },
          udpTransform: { mode: "always", carrier: "udp", detector: null },
          sessions: 7,
          waypointPairs: { inUse: 7, capacity: 50_000 },
          bfd: null,
        },
        {
          peer: "east",
          interface: "wan1",
          local: "198.18.1.1",
          remote: "198.18.1.2",
          vector: "mpls",
          cost: 20,
          state: "down",
          why: "no packet for 3s",
          sinceMs: 65_000,
          quality: { lossPercent: 0.5, latencyMs: 12.3456, jitterMs: 0, mos: 4.38 },
          mtu: { bytes: 1400, source: "probe", sinceMs: 65_000 },
          udpTransform: {
            mode: "auto-detect",
            carrier: "udp",
            detector: {
              tests: [
                { name: "TCP SYN", result: "to-peer" },
                { name: "Mid-flow", result: "passed" },
                { name: "TCP SYN Jumbo", result: "from-peer" },
              ],
              peerAnswers: true,
              judgedMs: 1000,
            },
          },
          sessions: 12,
          waypointPairs: { inUse: 12, capacity: 50_000 },
          bfd: null,
        },
      ],
    }),
    `PEER  INTERFACE  LOCAL       REMOTE      VECTOR  COST  STATE  WHY               SINCE  LOSS  LATENCY  JITTER  MOS   MTU                  TCP-AS                                          SESSIONS  WAYPOINT-PAIRS
east  wan0       198.18.0.1  198.18.0.2  -          1  up     not monitored     -      -     -        -       -     1500 (interface)     udp (always)                                           7  7/50000
east  wan1       198.18.1.1  198.18.1.2  mpls      20  down   no packet for 3s  1m05s  0.5%  12.35ms  0ms     4.38  1400 (probe, 1m05s)  udp (TCP SYN to-peer, TCP SYN Jumbo from-peer)        12  12/50000
`,
  );
  t.is(
    printAnswer("services", {
      services: [
        {
          name: "app",
          addresses: ["10.2.0.0/24", "10.3.0.0/24"],
          transports: [],
          access: ["corp"],
          routes: ["peer east"],
          sessions: 3,
          policy: "voice",
          candidates: [
            {
              to: "peer east wan1 198.18.1.2",
              vector: "mpls",
              priority: 5,
              cost: 1,
              sessions: 0,
              maxSessions: 500,
              standing: "loss",
              next: false,
            },
            {
              to: "peer east wan0 198.18.0.2",
              vector: null,
              priority: null,
              cost: 10,
              sessions: 3,
              maxSessions: null,
              standing: "usable",
              next: true,
            },
          ],
        },
        {
          name: "web",
          addresses: ["10.4.0.0/24"],
          transports: ["tcp/80"],
          access: ["corp", "lab"],
          routes: [],
          sessions: 12,
          policy: null,
          candidates: [],
        },
      ],
    }),
    `SERVICE  ADDRESSES                TRANSPORTS  ACCESS    ROUTES     POLICY  SESSIONS
app      10.2.0.0/24,10.3.0.0/24  every       corp      peer east  voice          3
web      10.4.0.0/24              tcp/80      corp,lab  -          -             12

SERVICE  CANDIDATE                  VECTOR  PRIORITY  COST  STANDING      SESSIONS
app      peer east wan1 198.18.1.2  mpls    5            1  loss          0/500
app      peer east wan0 198.18.0.2  -       -           10  usable, next  3
`,
  );
  t.is(
    printAnswer("tenants", {
      tenants: [
        { name: "corp", sessions: 12_000, maxSessions: 20_000, halfOpen: 3, maxHalfOpen: null },
        { name: "guest", sessions: 0, maxSessions: null, halfOpen: 0, maxHalfOpen: 50 },
      ],
    }),
    `TENANT  SESSIONS  MAX-SESSIONS  HALF-OPEN  MAX-HALF-OPEN
corp       12000         20000          3  -
guest          0             -          0  50
`,
  );
  const stats = {
    ...emptyStats(),
    rxFrames: 10,
    rxBytes: 900,
    txFrames: 4,
    txBytes: 300,
    rxKernelDrops: 1,
    txFull: 2,
    txErrors: 4,
  };
  t.is(
    printAnswer("interfaces", {
      interfaces: [
        {
          name: "lan0",
          device: "eth1",
          mac: "02:00:00:00:00:01",
          mtu: 1500,
          linkUp: false,
          addresses: ["10.1.0.1/24"],
          tenant: null,
          stats,
        },
      ],
    }),
    `INTERFACE  DEVICE  MAC                 MTU  LINK  ADDRESSES    TENANT  RX-FRAMES  RX-BYTES  TX-FRAMES  TX-BYTES  LOST
lan0       eth1    02:00:00:00:00:01  1500  down  10.1.0.1/24  -              10       900          4       300     7
`,
  );
  t.is(
    printAnswer("neighbors", {
      neighbors: [{ interface: "lan0", address: "10.1.0.2", mac: null, state: "resolving", ageMs: 59_999, held: 3 }],
    }),
    "INTERFACE  ADDRESS   MAC  STATE      AGE  HELD\nlan0       10.1.0.2  -    resolving  59s     3\n",
  );
  t.is(
    printAnswer("counters", { "drop.no-service": 3, "frames.received": 12_345 }),
    "COUNTER          VALUE\ndrop.no-service      3\nframes.received  12345\n",
  );
});

test("Nothing to show is said, not left blank", (t) => {
  for (const resource of SHOW_RESOURCES) {
    t.is(printAnswer(resource, resource === "counters" ? {} : { [resource]: [] }), `no ${resource}\n`);
  }
});

test("An answer of another shape throws instead of printing nonsense", (t) => {
  for (const resource of SHOW_RESOURCES.filter((name) => name !== "counters")) {
    t.throws(() => printAnswer(resource, { error: "no" }), { instanceOf: TypeError });
    t.throws(() => printAnswer(resource, { [resource]: [null] }), { instanceOf: TypeError });
  }
});

test("The counter reference prints each name beside its sentence", (t) => {
  t.is(
    printCounterReference([{ name: "drop.ttl", sentence: "It ran out." }]),
    "COUNTER   MEANING\ndrop.ttl  It ran out.\n",
  );
});
