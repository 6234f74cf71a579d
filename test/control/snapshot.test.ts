import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { AdminSocket, askRouter } from "../../lib/control/admin-socket.ts";
import type { SessionsAnswer } from "../../lib/control/show.ts";
import { answer, snapshot } from "../../lib/control/snapshot.ts";
import { UdpClient, udpServer } from "../simulate/endpoints.ts";
import { firstPair } from "../simulate/peer.ts";
import { AES_256, SIGNED } from "../simulate/protection.ts";
import { CLIENT, SERVER, twoRouters } from "../simulate/topologies.ts";

const MAIN = fileURLToPath(new URL("../../lib/cli/main.js", import.meta.url));

/** Two routers that carry `count` UDP sessions. */
function carrying(count: number) {
  const net = twoRouters({ seed: 1 });
  net.server.onPacket = udpServer(net.world, net.server);
  for (let n = 0; n < count; n++) {
    const ends = { source: CLIENT, destination: SERVER, sourcePort: 20_000 + n, destinationPort: 7 };
    new UdpClient(net.world, net.client, ends, ["hello"]);
    if (n % 8 === 7) net.world.run(2);
  }
  net.world.run(5);
  return net;
}

test("sessions are shown with the fields and forms that are a contract", (t) => {
  const { west, east } = carrying(1);
  const [session] = (snapshot(west, "sessions") as SessionsAnswer).sessions;
  t.deepEqual(Object.keys(session), [
    "uuid",
    "tenant",
    "service",
    "protocol",
    "source",
    "destination",
    "sourceNat",
    "peer",
    "path",
    "waypoint",
    "secondPath",
    "state",
    "encrypted",
    "ownKey",
    "moves",
    "packets",
    "bytes",
    "ageMs",
    "idleMs",
  ]);
  t.regex(session.uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  t.like(session, { tenant: "corp", service: "app", protocol: "udp", peer: "east", encrypted: false, ownKey: false });
  t.is(session.source, "10.1.0.2:20000");
  t.is(session.destination, "10.2.0.2:7");
  const pair = firstPair({ source: CLIENT, destination: SERVER, sourcePort: 20_000, destinationPort: 7 });
  t.deepEqual(session.waypoint, {
    local: `198.18.0.1:${pair.sourcePort}`,
    remote: `198.18.0.2:${pair.destinationPort}`,
  });
  t.deepEqual(session.packets, { forward: 1, reverse: 1 });
  t.deepEqual(session.bytes, { forward: 33, reverse: 33 });
  const [far] = (snapshot(east, "sessions") as SessionsAnswer).sessions;
  t.is(far.uuid, session.uuid);
  t.deepEqual(far.waypoint, { local: `198.18.0.2:${pair.destinationPort}`, remote: `198.18.0.1:${pair.sourcePort}` });
});

test("sessions that are encrypted say so, and peers say with which keys", (t) => {
  const net = twoRouters({ security: { fabric: `${SIGNED}, key-version: 4`, payload: AES_256 } });
  net.server.onPacket = udpServer(net.world, net.server);
  new UdpClient(
    net.world,
    net.client,
    { source: CLIENT, destination: SERVER, sourcePort: 20_000, destinationPort: 7 },
    ["x"],
  );
  net.world.run(3);
  for (const router of [net.west, net.east])
    t.like((snapshot(router, "sessions") as SessionsAnswer).sessions[0], { encrypted: true, ownKey: false });
  const shown = JSON.stringify(snapshot(net.west, "peers"));
  t.deepEqual(JSON.parse(shown), {
    peers: [
      {
        name: "east",
        security: "fabric",
        paths: [{ interface: "wan0", address: "198.18.0.2", state: "up", keyVersion: 4, clockOffsetMs: null }],
      },
    ],
  });
});

test("many sessions are answered in pieces, between which the event loop turns", async (t) => {
  const { west } = carrying(600);
  const directory = mkdtempSync(join(tmpdir(), "waymark-snapshot-"));
  const path = join(directory, "router.sock");
  let pieces = 0;
  let turnsBetween = 0;
  function* counted(text: Iterable<string>) {
    for (const piece of text) {
      pieces++;
      setImmediate(() => turnsBetween++);
      yield piece;
    }
  }
  const socket = new AdminSocket(path, (resource) => counted(answer(west, resource) as Iterable<string>));
  await socket.listen();
  t.is(statSync(path).mode & 0o777, 0o600);
  const { sessions } = (await askRouter(path, "sessions")) as SessionsAnswer;
  t.is(sessions.length, 600);
  t.is(new Set(sessions.map(({ uuid }) => uuid)).size, 600);
  t.true(pieces >= 2, `${pieces} pieces`);
  t.true(turnsBetween >= pieces - 1);
  await socket.close();
  rmSync(directory, { recursive: true });
});

test("a slow reader of a pipe gets all of show's answer", async (t) => {
  const { west } = carrying(600);
  const directory = mkdtempSync(join(tmpdir(), "waymark-pipe-"));
  const path = join(directory, "router.sock");
  const socket = new AdminSocket(path, (resource) => answer(west, resource));
  await socket.listen();
  const show = spawn("sh", [
    "-c",
    `"${process.execPath}" "${MAIN}" show sessions --json --socket "${path}" | (sleep 1; cat)`,
  ]);
  let text = "";
  show.stdout.on("data", (chunk) => (text += chunk));
  await new Promise((done) => show.stdout.on("end", done));
  t.true(text.length > 200_000, `${text.length} characters`);
  t.is((JSON.parse(text) as SessionsAnswer).sessions.length, 600);
  await socket.close();
  rmSync(directory, { recursive: true });
});
