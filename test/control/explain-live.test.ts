// What a running router says of a live session and of what it dropped last: the words against what really happens to packets, and
// that asking changes nothing.

import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import type { Context } from "../../lib/cli/context.ts";
import { runProgram } from "../../lib/cli/program.ts";
import { AdminSocket, askRouter } from "../../lib/control/admin-socket.ts";
import {
  type DropExplanation,
  explainLive,
  joinLive,
  livePart,
  type SessionExplanation,
} from "../../lib/control/explain-live.ts";
import { RouterRestorer, saveRouter } from "../../lib/control/router-state.ts";
import type { SessionsAnswer } from "../../lib/control/show.ts";
import { snapshot } from "../../lib/control/snapshot.ts";
import type { Router } from "../../lib/router.ts";
import { addressBook } from "../../lib/table/address-book.ts";
import { ACK, SYN } from "../../lib/wire/tcp.ts";
import { UdpClient, udpServer } from "../simulate/endpoints.ts";
import { edgeAlone, edgeBehindPeer, sendOut } from "../simulate/nat-edges.ts";
import { echoFrame, pattern, protocolFrame, swapEnds, tcpFrame, udpFrame } from "../simulate/packets.ts";
import { ENDS } from "../simulate/peer.ts";
import { ADAPTIVE, AES_256, fabricText, SIGNED } from "../simulate/protection.ts";
import { CLIENT, packetsOn, SERVER, threeRouters, twoPaths, twoRouters } from "../simulate/topologies.ts";
import { World } from "../simulate/world.ts";

const directory = mkdtempSync(join(tmpdir(), "waymark-explain-"));
test.after.always(() => rmSync(directory, { recursive: true, force: true }));
let sockets = 0;

const ofSession = async (router: Router, session: string) =>
  (await explainLive(router, new URLSearchParams({ session }))) as SessionExplanation;
const ofDrop = async (router: Router, drop: string) =>
  (await explainLive(router, new URLSearchParams({ drop }))) as DropExplanation;
const stepsOf = (steps: readonly { step: string; outcome: string; reason: string }[], step: string) =>
  steps.filter((each) => each.step === step).map(({ outcome, reason }) => `${outcome}: ${reason}`);
const shown = (router: Router) => (snapshot(router, "sessions") as SessionsAnswer).sessions;
const bytesOf = (router: Router) => Buffer.concat([...saveRouter(router)]).toString("hex");

/** `west ... east`, a conversation of one UDP session over. */
function talk<N extends ReturnType<typeof twoRouters>>(net: N, questions = 3): N {
  net.server.onPacket = udpServer(net.world, net.server);
  for (let n = 0; n < questions; n++) {
    net.world.send(net.client, udpFrame(ENDS, `question ${n}`));
    net.world.run(20);
  }
  return net;
}

test.serial(
  "each router of a sealed session says what it does with it: hop, handshake, keys, sizes, both ways of its packets",
  async (t) => {
    const net = talk(threeRouters({ security: { fabric: SIGNED, payload: AES_256 } }));
    const id = shown(net.west)[0].uuid;
    const [west, middle, east] = await Promise.all(
      [net.west, net.middle, net.east].map((router) => ofSession(router, id)),
    );
    for (const { session, steps } of [west, middle, east]) {
      t.is(session, id);
      t.deepEqual(stepsOf(steps, "tenant").length, 1);
      t.deepEqual(stepsOf(steps, "access"), ["allowed: service app lists tenant corp"]);
      for (const { step, outcome } of steps) t.true(step !== "" && outcome !== "", step);
    }
    t.deepEqual(stepsOf(west.steps, "receive"), ["interface lan0: a plain network: the session began at this router"]);
    t.deepEqual(stepsOf(middle.steps, "receive"), [
      "peer west wan0 198.18.0.1: its metadata says that it began at router west",
    ]);
    t.deepEqual(stepsOf(east.steps, "receive"), [
      "peer middle wan0 198.18.1.1: its metadata says that it began at router west, and passed middle",
    ]);
    t.deepEqual(stepsOf(west.steps, "tenant"), ["corp: whose 10.1.0.2 on lan0 is"]);
    t.deepEqual(stepsOf(east.steps, "service"), [
      "app: peer middle names it, and its addresses and transports have 10.2.0.2 udp/7",
    ]);
    t.deepEqual(stepsOf(middle.steps, "route"), ["peer east: it has no destination on this router"]);
    t.deepEqual(stepsOf(east.steps, "route"), ["interface lan0: the service's destination on this router"]);
    // The pair on each hop is the one on the wire, and says who picked it.
    const [first] = packetsOn(net.wan, "west");
    const [second] = packetsOn(net.wan2, "middle");
    const pair = (packet: typeof first) =>
      `${packet.source}:${packet.sourcePort} <> ${packet.destination}:${packet.destinationPort}`;
    t.true(stepsOf(west.steps, "waypoint")[0].startsWith(`${pair(first)}: toward its server`));
    t.regex(stepsOf(west.steps, "waypoint")[0], /this router picked the pair$/);
    t.regex(stepsOf(middle.steps, "waypoint")[0], /toward its initiator, peer west .*: peer west picked the pair$/);
    t.true(stepsOf(middle.steps, "waypoint")[1].startsWith(pair(second)));
    t.is(stepsOf(middle.steps, "metadata").length, 2);
    t.deepEqual(stepsOf(west.steps, "metadata"), ["none any more: peer middle has heard us"]);
    t.deepEqual(stepsOf(west.steps, "protection"), [
      "policy fabric: sha256-128 on packets with metadata alone, by the time; metadata in aes-cbc-256; key version 1",
    ]);
    t.deepEqual(stepsOf(middle.steps, "payload"), [
      "encrypted: policy payload, key version 1; passed on as it is: this router is neither its first nor its last",
    ]);
    // What it says becomes of a packet is what is on the wires.
    const last = packetsOn(net.wan, "west").at(-1)!;
    const [forward] = stepsOf(west.steps, "forward");
    t.true(
      forward.startsWith(
        `udp ${CLIENT}:40000 > ${SERVER}:7  becomes  udp ${last.source}:${last.sourcePort} > ${last.destination}:${last.destinationPort}: `,
      ),
      forward,
    );
    t.regex(
      forward,
      /by lan0, out of wan0, next hop 198\.18\.0\.2 \(02:57:4d:02:00:01\); rewritten, with keys or a DSCP; 3 packets, /,
    );
    t.deepEqual(
      stepsOf(west.steps, "mtu").map((text) => text.split(":")[0]),
      ["1468", "1500"],
    );
    t.regex(stepsOf(west.steps, "ends")[0], /^in 2m59s: without another packet: idle \d+ms of the 3m00s of udp$/);
  },
);

test.serial("TCP says what carries it, and who decided that", async (t) => {
  const scenes = [
    ["", "TCP goes as TCP", "off"],
    [", udp-transform: always", "TCP goes as UDP", "always"],
  ] as const;
  for (const [path, outcome, ours] of scenes) {
    const net = twoRouters({ path });
    const syn = () => {
      net.world.send(net.client, tcpFrame(ENDS, { flags: SYN, sequence: 1, acknowledgment: 0 }));
      net.world.run(20);
    };
    syn();
    const [{ uuid }] = shown(net.west);
    const theirs = "peer west decides it, because it picked the pair";
    t.deepEqual(stepsOf((await ofSession(net.west, uuid)).steps, "udp-transform"), [`${outcome}: ${ours}`]);
    t.deepEqual(stepsOf((await ofSession(net.east, uuid)).steps, "udp-transform"), [`${outcome}: ${theirs}`]);
    if (path !== "") continue;
    // As the detector of firewalls has it.
    net.west.sessions.paths[0].blocksTcp = true;
    net.west.sessions.flows.nextGeneration();
    const { steps } = await ofSession(net.west, uuid);
    t.deepEqual(stepsOf(steps, "udp-transform"), [
      "TCP goes as TCP: off: a firewall on the path takes no TCP of ours; it began as TCP, before that",
    ]);
    t.regex(stepsOf(steps, "move")[0], /^to UDP on the same path with its next packet: /);
    syn();
    t.regex(stepsOf((await ofSession(net.west, uuid)).steps, "udp-transform")[0], /^TCP goes as UDP: /);
  }
});

test.serial(
  "a session whose handshake goes on says so, and what each of its packets takes the slow path for",
  async (t) => {
    const net = twoRouters();
    net.world.send(net.client, tcpFrame(ENDS, { flags: SYN, sequence: 1, acknowledgment: 0 }));
    net.world.run(20);
    const { steps } = await ofSession(net.west, shown(net.west)[0].uuid);
    t.regex(steps[0].reason, /^syn-sent, opened \d+ms ago; only its initiator has been heard$/);
    t.deepEqual(stepsOf(steps, "metadata"), [
      "attached to every packet: peer east has not shown yet that it has heard us",
    ]);
    t.regex(
      stepsOf(steps, "forward")[0],
      /by the slow path \(metadata is still told; TCP is syn-sent\); 1 packet, 40 bytes/,
    );
    t.regex(stepsOf(steps, "reverse")[0], /its server has not answered yet\); no packet yet$/);
    t.regex(stepsOf(steps, "ends")[0], /of the 10s of TCP that is syn-sent$/);
    t.deepEqual(stepsOf(steps, "protection"), [
      "none: peer east has no security policy: nothing is signed, metadata is in clear",
    ]);
    t.deepEqual(stepsOf(steps, "payload"), ["in clear: the service has no security policy here"]);
  },
);

test.serial("paths that were not taken say why, and what would move the session is what moves it", async (t) => {
  const policy = (resiliency: string) => ({
    service: ", policy: p",
    extra: `service-policies: [{ name: p, resiliency: ${resiliency}, max-loss: 1, best-effort: false }]\n`,
  });
  const net = talk(twoPaths(policy("revertible-failover")));
  const id = shown(net.west)[0].uuid;
  const { paths } = net.west.sessions;
  const moves = async () => stepsOf((await ofSession(net.west, id)).steps, "move")[0];
  t.deepEqual(stepsOf((await ofSession(net.west, id)).steps, "path"), [
    "peer east wan0 198.18.0.2: taken: up, and within the policy's thresholds; no vector, cost 1, 1 session",
    "peer east wan1 198.18.1.2: not taken: up, and within the policy's thresholds, but another comes first; no vector, cost 1, 0 sessions",
  ]);
  t.deepEqual(stepsOf((await ofSession(net.west, id)).steps, "policy"), ["hunt, revertible-failover: policy p"]);
  t.regex(
    await moves(),
    /^has not moved: toward its server: it moves when its path is down, .*, and back when a better one recovers; now that would be peer east wan1 198\.18\.1\.2$/,
  );
  paths[1].up = false;
  t.regex(await moves(), /no other path can be used now, so it waits for its own$/);
  t.regex(stepsOf((await ofSession(net.west, id)).steps, "path")[1], /not taken: the path is down; /);
  paths[1].up = true;
  paths[0].up = false;
  net.west.sessions.flows.nextGeneration();
  t.regex(await moves(), /^to peer east wan1 198\.18\.1\.2 with its next packet: /);
  t.regex(
    stepsOf((await ofSession(net.west, id)).steps, "forward")[0],
    /looked at again with its next packet, because paths have changed/,
  );
  net.world.send(net.client, udpFrame(ENDS, "moved"));
  net.world.run(20);
  t.is(shown(net.west)[0].path, "wan1 198.18.1.2");
  t.regex(await moves(), /^has moved once: /);
  t.deepEqual(stepsOf((await ofSession(net.west, id)).steps, "lingers").length, 1);
  const far = await ofSession(net.east, id);
  t.regex(
    stepsOf(far.steps, "move")[0],
    /^by its peer: toward its initiator peer west decides; when this one is down, peer west wan0 198\.18\.0\.1 is taken$/,
  );

  const fixed = talk(twoPaths(policy("none")));
  t.regex(
    stepsOf((await ofSession(fixed.west, shown(fixed.west)[0].uuid)).steps, "move")[0],
    /it stays on its path whatever becomes of that \(resiliency none\)$/,
  );
});

test.serial(
  "every kind of session has its words, none of them empty, and asking changes nothing that the router keeps",
  async (t) => {
    const every = fabricText("sha256-128", "regular", "every-packet", "aes-cbc-128");
    const nets: (() => ReturnType<typeof twoRouters>)[] = [
      () => twoRouters(),
      () => twoRouters({ security: { fabric: every, payload: ADAPTIVE } }),
      () => twoRouters({ path: ", udp-transform: always" }),
      () => twoRouters({ service: ", policy: p", extra: "service-policies: [{ name: p, preserve-dscp: true }]\n" }),
      () =>
        twoPaths({
          service: ", policy: p",
          extra: "service-policies: [{ name: p, resiliency: packet-duplication }]\n",
        }),
      () => threeRouters({ security: { fabric: SIGNED } }),
    ];
    const said = new Set<string>();
    for (const make of nets) {
      const net = make();
      for (const frame of [
        udpFrame(ENDS, "datagram"),
        tcpFrame({ ...ENDS, sourcePort: 41000 }, { flags: SYN, sequence: 1, acknowledgment: 0 }),
        echoFrame(CLIENT, SERVER, 9, 1, "ping"),
        protocolFrame(CLIENT, SERVER, 47, pattern(40)),
      ]) {
        net.world.send(net.client, frame);
        net.world.run(20);
      }
      net.world.send(net.server, udpFrame(swapEnds(ENDS), "answer"));
      net.world.run(20);
      for (const router of net.world.routers.values()) {
        const before = bytesOf(router);
        t.is(shown(router).length, 4);
        for (const { uuid } of shown(router)) {
          const { steps } = await ofSession(router, uuid);
          for (const { step, outcome, reason } of steps) {
            said.add(step);
            t.false(/undefined|null|NaN|Infinity/.test(`${step} ${outcome} ${reason}`), `${step} ${outcome} ${reason}`);
            t.true(outcome !== "" && reason !== "", step);
          }
          t.deepEqual(await ofSession(router, uuid), await ofSession(router, uuid));
        }
        t.true(bytesOf(router) === before);
      }
    }
    for (const step of ["dscp", "second path", "waypoint", "protection", "payload"]) t.true(said.has(step), step);
  },
);

test.serial("source NAT is what the host's packets leave as, here or at the last router", async (t) => {
  const alone = edgeAlone();
  const out = sendOut(alone)!;
  const { steps } = await ofSession(alone.edge, shown(alone.edge)[0].uuid);
  t.deepEqual(stepsOf(steps, "source-nat"), [`${out.source}:${out.sourcePort}: what its source leaves as`]);
  t.true(
    stepsOf(steps, "forward")[0].includes(
      `becomes  udp ${out.source}:${out.sourcePort} > ${out.destination}:${out.destinationPort}`,
    ),
  );
  t.deepEqual(stepsOf(steps, "move"), ["never: it goes to no peer"]);
  const behind = edgeBehindPeer();
  sendOut(behind);
  t.is(stepsOf((await ofSession(behind.west, shown(behind.west)[0].uuid)).steps, "source-nat").length, 0);
  t.is(stepsOf((await ofSession(behind.edge, shown(behind.edge)[0].uuid)).steps, "source-nat").length, 1);
});

test.serial(
  "a session is named by the begin of its identifier, or by what its hosts or a wire have of it; by nothing else",
  async (t) => {
    const net = twoRouters();
    net.server.onPacket = udpServer(net.world, net.server);
    for (let n = 0; n < 40; n++) {
      new UdpClient(net.world, net.client, { ...ENDS, sourcePort: 40_000 + n }, ["x"]);
      net.world.run(1);
    }
    net.world.send(net.client, echoFrame(CLIENT, SERVER, 77, 1, "ping"));
    net.world.send(net.client, protocolFrame(CLIENT, SERVER, 47, pattern(10)));
    net.world.run(30);
    const all = shown(net.west);
    t.is(all.length, 42);
    for (const session of all) {
      const { uuid, protocol, source, destination, waypoint } = session;
      const wire = protocol === "icmp" || protocol.startsWith("ip/") ? "udp" : protocol;
      for (const text of [
        uuid,
        uuid.toUpperCase(),
        uuid.replaceAll("-", ""),
        uuid.slice(0, 30),
        uuid.slice(0, 12),
        `${protocol} ${source} > ${destination}`,
        `${protocol} ${source} ${destination}`,
        `${protocol} ${destination}>${source}`,
        `${wire} ${waypoint!.local} > ${waypoint!.remote}`,
        `${wire} ${waypoint!.remote} > ${waypoint!.local}`,
      ])
        t.is((await ofSession(net.west, text)).session, uuid, text);
    }
    const first = all[0].uuid[0];
    const those = all.filter(({ uuid }) => uuid.startsWith(first));
    if (those.length > 1)
      await t.throwsAsync(ofSession(net.west, first), {
        message: new RegExp(`^${those.length} sessions are ${first}: .*; write more of one of them$`),
      });
    await t.throwsAsync(ofSession(net.west, `udp ${CLIENT} > ${SERVER}:7`), {
      message: /^40 sessions are udp .*: ([0-9a-f-]{36} \(udp .*\), ){4}.* and 35 more; write more of one of them$/,
    });
    const wrong: [string, RegExp][] = [
      [
        "00000000-0000-0000-0000-000000000000",
        /^there is no session 0+-.*: waymark show sessions lists those that live$/,
      ],
      [`udp ${CLIENT}:1 > ${SERVER}:7`, /^there is no session/],
      [`tcp ${CLIENT}:40000 > ${SERVER}:7`, /^there is no session/],
      ["f".repeat(33), /is no session: write the begin of its identifier/],
      ["", /is no session/],
      ["session", /is no session/],
      ["ip/47", /is no session/],
      [`udp ${CLIENT} > ${SERVER} > ${CLIENT}`, /is no session/],
      ["udp 300.1.1.1 > 10.2.0.2", /^"300\.1\.1\.1" is not an IP address: /],
      [`udp ${CLIENT}:99999 > ${SERVER}`, /99999/],
      ["x".repeat(201), /more than 200 characters/],
    ];
    for (const [text, message] of wrong)
      await t.throwsAsync(ofSession(net.west, text), { name: "OperatorError", message }, text);
    for (const query of ["", "session=a&drop=b", "other=1"])
      await t.throwsAsync(explainLive(net.west, new URLSearchParams(query)), { name: "OperatorError" });
  },
);

test.serial("the last drop of a reason says what was decided then, and what would be decided now", async (t) => {
  const net = twoRouters();
  const send = (frame: Uint8Array) => {
    net.world.send(net.client, frame);
    net.world.run(120);
  };
  await t.throwsAsync(ofDrop(net.west, "no-service"), {
    message: /^no packet was dropped for no-service since the start: No service has/,
  });
  await t.throwsAsync(ofDrop(net.west, "no-servise"), {
    message: 'there is no drop reason "no-servise": did you mean no-service?',
  });
  await t.throwsAsync(ofDrop(net.west, "banana"), {
    message: /^there is no drop reason "banana": waymark show drops lists/,
  });
  send(udpFrame({ ...ENDS, destination: "10.9.0.1" }, "first"));
  send(udpFrame({ ...ENDS, destination: "10.9.0.2", sourcePort: 40_001 }, "last"));
  for (const reason of ["no-service", "drop.no-service"]) {
    const { drop, count, sample } = await ofDrop(net.west, reason);
    t.deepEqual([drop, count], ["no-service", 2]);
    t.regex(stepsOf(sample!.steps, "receive")[0], /^interface lan0: udp 10\.1\.0\.2:40001 > 10\.9\.0\.2:7 .*ago$/);
    t.deepEqual(sample!.steps.map(({ step, outcome }) => [step, outcome]).slice(1), [
      ["session", "none"],
      ["tenant", "corp"],
      ["drop", "drop.no-service"],
    ]);
    t.is(sample!.now.verdict, "drop.no-service");
  }
  // What is mended meanwhile is decided otherwise now.
  net.west.sessions.paths[0].up = false;
  send(udpFrame(ENDS, "no way"));
  const down = (await ofDrop(net.west, "path-down")).sample!;
  t.is(down.now.verdict, "drop.path-down");
  t.regex(stepsOf(down.now.steps, "path")[0], /the path is down/);
  net.west.sessions.paths[0].up = true;
  t.is((await ofDrop(net.west, "path-down")).sample!.now.verdict, "open");
  send(udpFrame(ENDS, "a way"));
  t.is((await ofDrop(net.west, "path-down")).sample!.now.verdict, "of a session");
  // A frame that is dropped for what it is.
  send(udpFrame(ENDS, "cut").slice(0, 30));
  const runt = (await ofDrop(net.west, "runt")).sample!;
  t.deepEqual(stepsOf(runt.now.steps, "decide").length, 1);
  t.is(runt.now.verdict, "unknown");
  // Asking takes nothing.
  const before = bytesOf(net.west);
  for (const reason of ["no-service", "path-down", "runt"]) await ofDrop(net.west, reason);
  t.true(bytesOf(net.west) === before);
});

test.serial(
  "a drop of a known session names the session, and a peer's lead what its sealed metadata said",
  async (t) => {
    const net = talk(
      twoRouters({ security: { fabric: fabricText("sha256-128", "regular", "every-packet", "aes-cbc-256") } }),
    );
    const [{ uuid }] = shown(net.east);
    // One bit of a signed packet on the way.
    net.wan.tamper = (frame) => {
      frame[frame.length - 1] ^= 1;
      return [{ frame }];
    };
    net.world.send(net.client, udpFrame(ENDS, "damaged"));
    net.world.run(20);
    net.wan.tamper = (frame) => [{ frame }];
    const wrong = (await ofDrop(net.east, "signature-wrong")).sample!;
    t.true(
      stepsOf(wrong.steps, "session")[0].startsWith(
        `${uuid}: this router knew the session; the packet went toward the server`,
      ),
    );
    t.true(stepsOf(wrong.steps, "peer")[0].startsWith("west: it came by wan0"));
    t.is(wrong.now.verdict, "of a session");
    net.world.skip(200_000);
    t.is(shown(net.east).length, 0);
    t.is((await ofDrop(net.east, "signature-wrong")).sample!.now.verdict, "unknown");

    const circle = twoRouters({ eastRoute: "peer: west", security: { fabric: SIGNED } });
    circle.world.send(circle.client, udpFrame(ENDS, "round"));
    circle.world.run(20);
    const loop = (await ofDrop(circle.east, "route-loop")).sample!;
    t.deepEqual(stepsOf(loop.steps, "metadata"), ["tenant corp, service app: the session began at router west"]);
    t.true(stepsOf(loop.steps, "session")[0].endsWith(`it was not known here: udp ${CLIENT}:40000 > ${SERVER}:7`));
    t.deepEqual(stepsOf(loop.steps, "loop"), [
      "peer west: service app from peer west would go back to peer west: the service-routes of both routers lead to each other",
    ]);
    t.is(loop.now.verdict, "drop.route-loop");
    t.regex(stepsOf(loop.now.steps, "path")[0], /the session came from this peer/);
  },
);

test.serial("what was known of a drop outlives a take-over", async (t) => {
  const net = twoRouters({ eastRoute: "peer: west" });
  net.world.send(net.client, udpFrame(ENDS, "round"));
  net.world.run(20);
  const before = await ofDrop(net.east, "route-loop");
  const pieces = [...saveRouter(net.east)];
  const successor = net.world.restart("east");
  const restorer = new RouterRestorer(successor);
  for (const piece of pieces) restorer.take(piece);
  restorer.end();
  t.deepEqual(await ofDrop(successor, "route-loop"), before);
});

test.serial("IPv6 addresses of a drop are those that its packet had, whoever has their names by now", async (t) => {
  const world = new World();
  const one = world.addRouter(
    "one",
    `authority: acme
router: one
sessions: { max: 64 }
limits: { ipv6-addresses: 1024 }
interfaces:
  - { name: lan0, device: lan0, addresses: ["2001:db8:1::1/64"], tenant: corp }
tenants: [{ name: corp }]
services: [{ name: app, addresses: ["2001:db8:2::/64"], access: [corp] }]
service-routes: [{ service: app, interface: lan0 }]
`,
  );
  const client = world.addHost("client", "2001:db8:1::2", "2001:db8:1::1");
  world.join("lan", "client", "one.lan0");
  world.send(
    client,
    udpFrame({ source: "2001:db8:1::2", destination: "2001:db8:9::77", sourcePort: 4000, destinationPort: 53 }, "x"),
  );
  world.run(20);
  const text = "udp [2001:db8:1::2]:4000 > [2001:db8:9::77]:53";
  t.true(stepsOf((await ofDrop(one, "no-service")).sample!.steps, "receive")[0].includes(text));
  // Every name there is goes to another address, as after a long while with many hosts.
  const later = (performance.now() | 0) + 60_000;
  for (let n = 0; n < 4096; n++) addressBook.enter(0x20010db8, 7, 7, n, later + n * 20);
  const { sample } = await ofDrop(one, "no-service");
  t.true(stepsOf(sample!.steps, "receive")[0].includes(text), stepsOf(sample!.steps, "receive")[0]);
  t.is(sample!.now.verdict, "drop.no-service");
  t.true(
    JSON.stringify(snapshot(one, "drops")).includes(
      "--rx lan0 --packet 'udp [2001:db8:1::2]:4000 > [2001:db8:9::77]:53'",
    ),
  );
});

test.serial(
  "of several workers the one that has the session answers, and the last drop of all is the one that is told",
  async (t) => {
    const net = twoRouters();
    const split = net.world.split("west", 3);
    net.server.onPacket = udpServer(net.world, net.server);
    for (let n = 0; n < 12; n++) {
      net.world.send(net.client, udpFrame({ ...ENDS, sourcePort: 40_000 + n }, "x"));
      net.world.run(20);
    }
    const ask = async (about: { session: string | null; drop: string | null }) =>
      joinLive(about, structuredClone(await Promise.all(split.workers.map((worker) => livePart(worker, about)))));
    const workers = new Set<number>();
    for (const [worker, router] of split.workers.entries())
      for (const { uuid } of shown(router)) {
        const explained = (await ask({ session: uuid, drop: null })) as SessionExplanation;
        t.deepEqual([explained.session, explained.worker], [uuid, worker]);
        workers.add(worker);
      }
    t.is(workers.size, 3);
    await t.throwsAsync(ask({ session: `udp ${CLIENT} > ${SERVER}:7`, drop: null }), {
      message: /^12 sessions are udp/,
    });
    await t.throwsAsync(ask({ session: "00000000000000000000000000000000", drop: null }), {
      message: /^there is no session/,
    });
    await t.throwsAsync(ask({ session: null, drop: "no-service" }), { message: /^no packet was dropped/ });
    for (let n = 0; n < 6; n++) {
      net.world.send(net.client, udpFrame({ ...ENDS, destination: "10.9.0.1", sourcePort: 5000 + n }, "x"));
      net.world.run(120);
    }
    const drop = (await ask({ session: null, drop: "no-service" })) as DropExplanation;
    t.is(drop.count, 6);
    t.regex(stepsOf(drop.sample!.steps, "receive")[0], /10\.1\.0\.2:5005 > 10\.9\.0\.1:7/);
    t.is(typeof drop.sample!.worker, "number");
  },
);

test.serial("whoever asks the socket for nonsense gets an error in words, and the next one an answer", async (t) => {
  const net = talk(twoRouters());
  const path = join(directory, `${sockets++}.sock`);
  const socket = new AdminSocket(path, (_, query) => explainLive(net.west, query));
  await socket.listen();
  const raw = (request: string) =>
    new Promise<string>((resolve) => {
      const client = connect(path);
      let text = "";
      client.on("data", (chunk) => {
        text += chunk;
      });
      client.on("error", () => {});
      client.on("close", () => resolve(text));
      client.end(request);
    });
  const status = async (target: string) =>
    Number(/^HTTP\/1\.1 (\d+)/.exec(await raw(`GET ${target} HTTP/1.1\r\nhost: x\r\n\r\n`))?.[1]);
  const { uuid } = shown(net.west)[0];
  t.is(await status(`/explain?session=${uuid}`), 200);
  for (const target of [
    "/explain",
    "/explain?session=",
    "/explain?session=%00%ff%zz",
    `/explain?session=${"a".repeat(2000)}`,
    "/explain?session=a&drop=ttl",
    "/explain?drop=__proto__",
    "/explain?drop=constructor",
    "/explain?session=udp%20%3E%20",
  ])
    t.is(await status(target), 404, target);
  t.is(await status(`/explain?session=${"a".repeat(10_000)}`), 400);
  t.is(((await askRouter(path, `explain?session=${uuid.slice(0, 8)}`)) as SessionExplanation).session, uuid);
  await socket.close();
});

test.serial("the command asks the router that runs, prints steps or JSON, and says what is wrong", async (t) => {
  const net = talk(twoRouters());
  net.world.send(net.client, tcpFrame({ ...ENDS, sourcePort: 4100 }, { flags: ACK, sequence: 1, acknowledgment: 1 }));
  net.world.run(20);
  const path = join(directory, `${sockets++}.sock`);
  const socket = new AdminSocket(path, (resource, query) =>
    resource === "explain" ? explainLive(net.west, query) : undefined,
  );
  await socket.listen();
  const run = async (...words: string[]) => {
    const outcome = { code: -1, out: "", err: "" };
    const context: Context = {
      out: (text) => {
        outcome.out += text;
      },
      err: (text) => {
        outcome.err += text;
      },
      isTerminal: false,
      loadRouter: () => Promise.reject(new Error("no engine is needed")),
    };
    outcome.code = await runProgram(["explain", ...words], context);
    return outcome;
  };
  const { uuid } = shown(net.west)[0];
  const said = await run("--socket", path, "--session", uuid.slice(0, 8));
  t.like(said, { code: 0, err: "" });
  t.true(
    said.out.startsWith(` 1. session     ${uuid} udp ${CLIENT}:40000 > ${SERVER}:7: established, opened `),
    said.out,
  );
  t.regex(said.out, /\n17\. ends {8}in 2m59s: /);
  const json = await run("--socket", path, "--session", uuid, "--json");
  t.deepEqual(JSON.parse(json.out), JSON.parse(JSON.stringify(await ofSession(net.west, uuid))));
  const drop = await run("--socket", path, "--drop", "tcp-mid-flow");
  t.is(drop.code, 0);
  t.regex(drop.out, /^drop\.tcp-mid-flow: 1 packet\. A TCP segment of no known session/);
  t.regex(drop.out, /\nThe last one, 19ms ago, as it was decided then:\n 1\. receive {2}interface lan0: tcp /);
  t.regex(drop.out, /\nWhat this router would decide about it now:\n 1\. tenant +corp\n[\s\S]*\nverdict: open\n$/);
  t.like(await run("--socket", path, "--session", "ffffffff"), {
    code: 1,
    out: "",
    err: "waymark: there is no session ffffffff: waymark show sessions lists those that live\n",
  });
  t.like(await run("--socket", path, "--drop", "rout-loop"), {
    code: 1,
    err: 'waymark: there is no drop reason "rout-loop": did you mean route-loop?\n',
  });
  for (const words of [
    [],
    ["--session", "a", "--drop", "ttl"],
    ["--session", "a", "--packet", "icmp 1.1.1.1 > 2.2.2.2"],
    ["--session", "a", "--rx", "lan0"],
    ["--packet", "icmp 1.1.1.1 > 2.2.2.2", "--rx", "lan0"],
    ["--packet", "icmp 1.1.1.1 > 2.2.2.2", "-c", "x.yaml"],
    ["--packet", "icmp 1.1.1.1 > 2.2.2.2", "-c", "x.yaml", "--rx", "lan0", "--socket", path],
  ])
    t.is((await run(...words)).code, 2, words.join(" "));
  await socket.close();
  t.like(await run("--socket", path, "--session", uuid), {
    code: 1,
    err: `waymark: no router listens at ${path}: is it running? (waymark run -c FILE; -c or --socket says where)\n`,
  });
  const other = new AdminSocket(path, () => ({ steps: 1 }));
  await other.listen();
  t.like(await run("--socket", path, "--session", uuid), {
    code: 1,
    err: `waymark: what the router at ${path} answered is no explanation: is it another version?\n`,
  });
  await other.close();
});
