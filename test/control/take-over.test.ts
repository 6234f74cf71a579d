// The talk of two processes over a control socket: what a successor may do to the router that it asks, and what it is told.

import { mkdtempSync, rmSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { createLog } from "../../lib/base/log.ts";
import { AdminSocket } from "../../lib/control/admin-socket.ts";
import { configIdentity, STATE_FORMAT } from "../../lib/control/router-state.ts";
import { HandsOver, type Leaving, TAKE_OVER, Talk } from "../../lib/control/take-over.ts";
import { type DevicePort, emptyStats } from "../../lib/io/port.ts";
import type { Router } from "../../lib/router.ts";
import { twoRouters } from "../simulate/topologies.ts";

const directory = mkdtempSync(join(tmpdir(), "waymark-take-over-"));
test.after.always(() => rmSync(directory, { recursive: true, force: true }));
let sockets = 0;

/** A busy machine needs as long for what takes milliseconds. */
const PATIENCE_MS = 30_000;
/** More than a socket takes from who does not read. */
const MANY_FRAMES = 1 << 18;

interface Predecessor {
  readonly path: string;
  readonly router: Router;
  readonly socket: AdminSocket;
  /** What was logged. */
  readonly lines: string[];
  readonly done: Promise<void>;
}

/** A router that may be taken over from, with ports that have written down so many frames. */
async function predecessor(
  frames: number,
  {
    stillMs,
    monitor = async () => null,
  }: { stillMs?: number; monitor?: (socket: AdminSocket) => Promise<Uint8Array | null> } = {},
): Promise<Predecessor> {
  const router = twoRouters().west;
  const lines: string[] = [];
  const port = {
    info: () => ({ name: "lan0" }),
    stats: emptyStats,
    changed: [],
    taken: () => new Float64Array(frames),
    writeDown() {},
    waitFor() {},
  } as unknown as DevicePort;
  const path = join(directory, `${sockets++}.sock`);
  const leaving: Leaving = {
    router,
    ports: [port],
    clockStartUs: 0,
    guard: false,
    seed: 1,
    giveUp: () => socket.release(),
    monitor: () => monitor(socket),
  };
  const hands = new HandsOver(
    leaving,
    createLog("info", (bytes, begin) => {
      lines.push(Buffer.from(bytes.subarray(begin)).toString());
      return bytes.length - begin;
    }),
    stillMs,
  );
  const take = (stream: Duplex, head: Uint8Array) => void hands.serve(new Talk(stream, head));
  const socket = new AdminSocket(path, () => ({}), { protocol: TAKE_OVER, take });
  await socket.listen();
  return { path, router, socket, lines, done: hands.done };
}

/** A successor that has asked `from` and says no more than "hello". */
async function successor({ path, router }: Predecessor): Promise<{ talk: Talk; stream: Duplex }> {
  const stream = await new Promise<Duplex>((resolve, reject) => {
    const headers = { connection: "Upgrade", upgrade: TAKE_OVER };
    const asking = request({ socketPath: path, path: "/take-over", headers, agent: false });
    asking.on("error", reject).on("response", () => reject(new Error("no upgrade")));
    asking.on("upgrade", (_, upgraded: Duplex) => resolve(upgraded)).end();
  });
  const talk = new Talk(stream);
  await talk.say({ say: "hello", format: STATE_FORMAT, identity: configIdentity(router.config) });
  return { talk, stream };
}

/** The same, until the other stands still. */
async function ready(from: Predecessor): Promise<{ talk: Talk; stream: Duplex }> {
  const { talk, stream } = await successor(from);
  await talk.hear("welcome", PATIENCE_MS);
  await talk.say({ say: "open" });
  await talk.hear("written", PATIENCE_MS);
  await talk.say({ say: "ready" });
  return { talk, stream };
}

/** All of the state. */
async function readState(talk: Talk): Promise<void> {
  for (;;) {
    const next = await talk.next(PATIENCE_MS);
    if (next instanceof Uint8Array) continue;
    if (next?.say !== "whole") throw new Error(JSON.stringify(next));
    return;
  }
}

async function becomes(t: ExecutionContext, what: string, is: () => boolean): Promise<void> {
  for (const deadline = Date.now() + PATIENCE_MS; !is(); await sleep(5))
    if (Date.now() > deadline) return t.fail(`still not: ${what}`);
  t.pass();
}

/** Somebody else can take over, and the control socket closes. */
async function canBeTakenOver(t: ExecutionContext, from: Predecessor): Promise<void> {
  const { talk } = await successor(from);
  t.is((await talk.hear("welcome", PATIENCE_MS))?.say, "welcome");
  talk.destroy();
  await from.socket.close();
}

test("a successor that reads nothing of the state holds a router up for its time and no longer", async (t) => {
  const from = await predecessor(MANY_FRAMES, { stillMs: 500 });
  const { stream } = await ready(from);
  stream.pause();
  await becomes(t, "standing still", () => from.router.engine.isHalted);
  await becomes(t, "forwarding", () => !from.router.engine.isHalted);
  await becomes(t, "logged", () => from.lines.some((line) => line.includes("not through after 0.5 s")));
  await canBeTakenOver(t, from);
  stream.destroy();
});

test("a successor that ends its side without reading holds a router up no longer", async (t) => {
  const from = await predecessor(MANY_FRAMES, { stillMs: 10 * PATIENCE_MS });
  const { stream } = await ready(from);
  stream.pause();
  await becomes(t, "standing still", () => from.router.engine.isHalted);
  stream.end();
  await becomes(t, "forwarding", () => !from.router.engine.isHalted);
  await becomes(t, "logged", () => from.lines.some((line) => line.includes("the successor went away")));
  await canBeTakenOver(t, from);
  stream.destroy();
});

test("a control socket closes while a successor reads nothing, and the router no longer stands still", async (t) => {
  const from = await predecessor(MANY_FRAMES, { stillMs: 10 * PATIENCE_MS });
  const { stream } = await ready(from);
  stream.pause();
  await becomes(t, "standing still", () => from.router.engine.isHalted);
  t.is(await Promise.race([from.socket.close().then(() => "closed"), sleep(PATIENCE_MS, "waits")]), "closed");
  await becomes(t, "forwarding", () => !from.router.engine.isHalted);
  stream.destroy();
});

test("a successor that reads the state and says nothing is told that it was too slow", async (t) => {
  const from = await predecessor(64, { stillMs: 2000 });
  const { talk } = await ready(from);
  await readState(talk);
  await t.throwsAsync(talk.hear("yours", PATIENCE_MS), { message: "the other process is not through after 2 s" });
  t.false(from.router.engine.isHalted);
  await canBeTakenOver(t, from);
});

test("what a predecessor says last arrives, though it closes its control socket at once", async (t) => {
  const state = new Uint8Array(1 << 16).fill(7);
  const from = await predecessor(64, { monitor: async () => state.slice() });
  const { talk } = await ready(from);
  await readState(talk);
  await talk.say({ say: "taken" });
  await from.done;
  await from.socket.close();
  t.is((await talk.hear("yours", PATIENCE_MS))?.say, "yours");
  t.deepEqual(await talk.next(PATIENCE_MS), state);
  t.is(await talk.next(PATIENCE_MS), null);
  t.true(from.router.engine.isHalted);
});

test("a predecessor that is stopped while it hands over has said that the devices are the successor's", async (t) => {
  const from = await predecessor(64, {
    monitor: async (socket) => {
      await socket.close();
      return new Uint8Array(8);
    },
  });
  const { talk } = await ready(from);
  await readState(talk);
  await talk.say({ say: "taken" });
  t.is((await talk.hear("yours", PATIENCE_MS))?.say, "yours");
  t.is(await talk.next(PATIENCE_MS), null);
  await from.done;
});
